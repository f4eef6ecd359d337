//! The file `fullsync.required` in `dir`. It says across restarts that the data here does not
//! belong to any master's history: this node can become a replica only by a full sync.
//!
//! It also says whether the data is whole. Whole data can still serve if the node is promoted by
//! hand; data that a copy or a cut has begun to replace cannot.

use std::path::Path;
use std::{fs, io};

use crate::durable::{remove_if_there, replace_durably, sync_folder};
use crate::gate::Engine;
use crate::node::Node;

const FILE: &str = "fullsync.required";
/// What the file said before an exchange of databases, while that is under way.
const BEFORE: &str = "fullsync.required.before";

/// What is known of data that is not the master's; the later, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// It is whole, and nothing has begun to replace it.
    Apart,
    /// It is of no use to anybody, or nobody can tell: an earlier version wrote an empty file.
    Spoilt,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Self::Apart => "apart",
            Self::Spoilt => "spoilt",
        }
    }

    /// What the file says; `None` where there is none. One that cannot be read says the worst.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        match fs::read(dir.join(FILE)) {
            Ok(text) if text.trim_ascii_end() == Self::Apart.word().as_bytes() => Some(Self::Apart),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Ok(_) | Err(_) => Some(Self::Spoilt),
        }
    }

    /// Makes it durable. Earlier versions look whether there is a file, and at nothing in it.
    pub(super) fn keep(self, dir: &Path) -> io::Result<()> {
        replace_durably(&dir.join(FILE), format!("{}\n", self.word()).as_bytes())?;
        sync_folder(dir)
    }

    /// The same, in place of a word that may have to come back ([`Self::take_back`]).
    pub(super) fn keep_for_now(self, dir: &Path) -> io::Result<()> {
        let before = dir.join(BEFORE);
        let lies_aside =
            remove_if_there(&before).and_then(|()| fs::hard_link(dir.join(FILE), &before));
        if let Err(error) = lies_aside {
            // Then it is written anew.
            tracing::debug!(%error, "what is known of the data cannot be kept aside");
        }
        self.keep(dir)
    }

    /// Restores the former mark. A full disk, which may be the reason, takes no new file: the file
    /// that was kept aside gets its name back.
    pub(super) fn take_back(self, dir: &Path) -> io::Result<()> {
        let is_back = fs::rename(dir.join(BEFORE), dir.join(FILE)).and_then(|()| sync_folder(dir));
        is_back.or_else(|_| self.keep(dir))
    }
}

/// Obeys the mark at a start, once the role is known: before any client is served, and also if no
/// link follows that would look. Spoilt data is shown to nobody, whatever the role; data that is
/// whole but apart serves only at a master.
pub fn heed(node: &Node) {
    let is_master = node.engine().role.is_master();
    let is_good = match Mark::read(&node.dir) {
        None => true,
        Some(Mark::Apart) => is_master,
        Some(Mark::Spoilt) => false,
    };
    if is_good {
        return;
    }
    if is_master {
        tracing::error!(
            "this node is a master, and its data is of no use to anybody: it serves none of it"
        );
    }
    node.resync.set_required(true);
}

/// The data is a master's, or other data is in its place.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    remove_if_there(&dir.join(FILE))?;
    remove_if_there(&dir.join(BEFORE))
}

/// What a promotion by hand makes of the data here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByHand {
    /// It takes the data for what it is.
    Good,
    /// The data is just being replaced: soon it is the one or the other.
    Busy,
    /// The data stays of no use, whatever the role.
    Useless,
}

/// What a promotion by hand makes of the data here. To be called with the gate held alone, by which
/// a copy begins to take the place of the data.
pub fn by_hand(node: &Node, engine: &Engine) -> ByHand {
    let resync = &node.resync;
    judge(resync.is_required(), engine.store.is_some(), resync.is_touched(), || {
        Mark::read(&node.dir)
    })
}

fn judge(
    is_required: bool,
    is_open: bool,
    is_touched: bool,
    mark: impl FnOnce() -> Option<Mark>,
) -> ByHand {
    if !is_required {
        return ByHand::Good;
    }
    if !is_open {
        return ByHand::Busy;
    }
    match (mark(), is_touched) {
        (Some(Mark::Spoilt), _) => ByHand::Useless,
        (_, true) => ByHand::Busy,
        (_, false) => ByHand::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_one_of_an_earlier_version_is_the_worst() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(dir.path()), None);
        for mark in [Mark::Apart, Mark::Spoilt] {
            mark.keep(dir.path()).unwrap();
            assert_eq!(Mark::read(dir.path()), Some(mark));
        }
        for unclear in ["", "apart from that", "x"] {
            fs::write(dir.path().join(FILE), unclear).unwrap();
            assert_eq!(Mark::read(dir.path()), Some(Mark::Spoilt), "{unclear}");
        }
        remove(dir.path()).unwrap();
        assert_eq!(Mark::read(dir.path()), None);
    }

    #[test]
    fn what_stood_there_before_comes_back_where_no_file_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        Mark::Apart.keep(dir.path()).unwrap();
        Mark::Spoilt.keep_for_now(dir.path()).unwrap();
        assert_eq!(Mark::read(dir.path()), Some(Mark::Spoilt));
        // As on a full disk no new file can be made.
        let new = dir.path().join(format!("{FILE}.new"));
        fs::create_dir(&new).unwrap();
        assert!(Mark::Apart.keep(dir.path()).is_err());
        Mark::Apart.take_back(dir.path()).unwrap();
        assert_eq!(Mark::read(dir.path()), Some(Mark::Apart));
        // Without what was kept aside it is written.
        assert!(Mark::Apart.take_back(dir.path()).is_err());
        fs::remove_dir(&new).unwrap();
        Mark::Spoilt.keep(dir.path()).unwrap();
        Mark::Apart.take_back(dir.path()).unwrap();
        assert_eq!(Mark::read(dir.path()), Some(Mark::Apart));
        Mark::Spoilt.keep_for_now(dir.path()).unwrap();
        remove(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_promotion_by_hand_takes_whole_data_alone() {
        let judged = |is_open, is_touched, mark| judge(true, is_open, is_touched, || mark);
        assert_eq!(judged(true, false, None), ByHand::Good);
        assert_eq!(judged(true, false, Some(Mark::Apart)), ByHand::Good);
        assert_eq!(judged(true, false, Some(Mark::Spoilt)), ByHand::Useless);
        // A copy is in service whose end nobody has compared yet, or which was found too short.
        assert_eq!(judged(true, true, None), ByHand::Busy);
        assert_eq!(judged(true, true, Some(Mark::Spoilt)), ByHand::Useless);
        for mark in [None, Some(Mark::Apart), Some(Mark::Spoilt)] {
            assert_eq!(judged(false, false, mark), ByHand::Busy);
            assert_eq!(judge(false, false, true, || mark), ByHand::Good, "nothing is due");
        }
    }
}
