//! What is known of `db.deposed`, the folder of data that was set aside.

use std::path::Path;

use parking_lot::Mutex;
use replication::history::Position;

use super::swap::{self, Old};

/// In the database folder: where it ended when it was set aside.
pub(super) const FILE: &str = "holdfast.position";

/// What is known of `db.deposed`.
#[derive(Debug, Default)]
pub struct Aside {
    position: Mutex<Option<Position>>,
    /// Held while the folder is looked at, which can take long: the newest look counts.
    looking: Mutex<()>,
}

impl Aside {
    /// Where it ends; `None` where there is none, or that cannot be told.
    pub fn position(&self) -> Option<Position> {
        self.position.lock().clone()
    }

    /// Looks at the folder again, which may open the database there to read it.
    pub fn look(&self, dir: &Path) {
        self.look_closely(dir);
    }

    pub(super) fn look_closely(&self, dir: &Path) -> Found {
        let _alone = self.looking.lock();
        let found = Found::at(&swap::old_path(dir, Old::Keep));
        let position =
            if let Found::UpTo(position) = &found { Some(position.clone()) } else { None };
        *self.position.lock() = position;
        found
    }
}

/// What lies in a folder for data that was set aside.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// Something, and nobody can tell how far it goes.
    Unknown,
    UpTo(Position),
}

impl Found {
    pub(super) fn at(folder: &Path) -> Self {
        if !folder.is_dir() {
            return Self::Nothing;
        }
        let noted = std::fs::read(folder.join(FILE)).ok();
        if let Some(position) = noted.and_then(|text| Position::parse(text.trim_ascii_end()).ok()) {
            return Self::UpTo(position);
        }
        // Set aside by an older version, or by hand.
        match storage::peek(folder) {
            Ok(position) => Self::UpTo(position),
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "cannot tell how far the data goes that was set aside");
                Self::Unknown
            }
        }
    }
}
