//! The intent of a rewind: a file in the database folder. While it is there, [`crate::Store::open`]
//! refuses.

use std::path::Path;

use replication::history::EpochId;

use crate::Error;

/// In the database folder.
pub(super) const INTENT: &str = "holdfast.rewind";

/// What is to be done, as the intent file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// Newest sequence that stays.
    pub fork: u64,
    /// Unix ms when it was decided; part of the name of the export.
    pub at_ms: u64,
    /// Number and id of the epoch that holds the fork, for the export.
    pub epoch: Option<(u64, EpochId)>,
}

impl Intent {
    /// As the file says it. A version from before the epoch line passes over it.
    pub(super) fn text(&self) -> String {
        let Self { fork, at_ms, epoch } = self;
        let epoch = epoch.map(|(epoch, id)| format!("epoch {epoch} {id}\n")).unwrap_or_default();
        format!("rewind 1\nfork {fork}\nat {at_ms}\n{epoch}")
    }

    fn read(text: &str) -> Option<Self> {
        let words =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let epoch = words("epoch").and_then(|words| {
            let (epoch, id) = words.split_once(' ')?;
            Some((epoch.parse().ok()?, EpochId::parse(id.as_bytes())?))
        });
        Some(Self { fork: words("fork")?.parse().ok()?, at_ms: words("at")?.parse().ok()?, epoch })
    }
}

/// The rewind that is under way in this database folder.
///
/// # Errors
/// The intent cannot be read.
pub fn pending(db: &Path) -> Result<Option<Intent>, Error> {
    const ACTION: &str = "read the intent of a rewind";
    let text = match std::fs::read_to_string(db.join(INTENT)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(ACTION, &error)),
    };
    match Intent::read(&text) {
        Some(intent) => Ok(Some(intent)),
        None => Err(Error::corrupt(ACTION, text)),
    }
}
