//! What a set calls the data here, and the promise that outlives the process.
//!
//! The incarnation lies *in* the database folder: a full sync replaces the folder, and with it the name of the data, in one rename (rule R3). A crash on
//! the way leaves old data under its old name or new data under none, and never new data under the old name.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use grant::{Kept, Member};
use topology::NodeId;

use crate::durable::{replace_durably, sync_folder};

/// File in the database folder: 16 hex digits.
const INCARNATION: &str = "holdfast.incarnation";
/// File in the node's folder: `<until ns> <lease ms> <boot id>`.
const PROMISE: &str = "promise";
/// File in the node's folder: the highest term of a controller that was obeyed. Of a later version there may be more words.
const TERM: &str = "term";

/// Identity of the data and of the machine's boot.
#[derive(Debug)]
pub struct Identity {
    /// 0: unknown, and this node can be no member.
    incarnation: AtomicU64,
    boot: Option<u128>,
}

impl Identity {
    /// Of the database in `db`. Where it cannot be read or made, this is logged, and the node can be no member of a set.
    pub fn load(db: &Path) -> Self {
        let identity = Self { incarnation: AtomicU64::new(0), boot: boot() };
        identity.reload(db);
        identity
    }

    /// After the database folder was replaced.
    pub fn reload(&self, db: &Path) {
        let incarnation = incarnation(db).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot tell which data this is: this node cannot be a member of an in-sync set");
            0
        });
        self.incarnation.store(incarnation, Ordering::SeqCst);
    }

    /// While the database is being replaced there is no data to name.
    pub fn forget(&self) {
        self.incarnation.store(0, Ordering::SeqCst);
    }

    /// The name of the data.
    pub fn incarnation(&self) -> Option<u64> {
        Some(self.incarnation.load(Ordering::SeqCst)).filter(|incarnation| *incarnation != 0)
    }

    /// The boot, where a reboot may lose acknowledged writes.
    pub fn boot(&self, is_durable: bool) -> Option<u128> {
        // An unknown boot is one of its own: better never the same than wrongly.
        if is_durable { None } else { Some(self.boot.unwrap_or(0)) }
    }

    /// What a set calls this data.
    pub fn member(&self, node: Option<NodeId>, is_durable: bool) -> Option<Member> {
        Member::new(node?, self.incarnation()?, self.boot(is_durable))
    }
}

/// Id of this boot of the kernel.
fn boot() -> Option<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

fn incarnation(db: &Path) -> io::Result<u64> {
    let path = db.join(INCARNATION);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let parsed = u64::from_str_radix(text.trim(), 16).ok().filter(|number| *number != 0);
            if let Some(incarnation) = parsed {
                return Ok(incarnation);
            }
            tracing::warn!(path = %path.display(), "unreadable: this data gets a new name");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let incarnation = rand::random::<u64>().max(1);
    replace_durably(&path, format!("{incarnation:016x}\n").as_bytes())?;
    sync_folder(db)?;
    Ok(incarnation)
}

/// What an earlier process promised, and whether its clock is still this one's.
pub fn load_promise(dir: &Path, identity: &Identity) -> (Option<Kept>, bool) {
    let Ok(text) = std::fs::read_to_string(dir.join(PROMISE)) else { return (None, false) };
    let mut words = text.split_whitespace();
    let mut number = || words.next()?.parse::<u64>().ok();
    let (Some(until_ns), Some(lease_ms)) = (number(), number()) else {
        tracing::warn!("the file `promise` is unreadable and is taken for none");
        return (None, false);
    };
    let boot = words.next().and_then(|text| u128::from_str_radix(text, 16).ok());
    (Some(Kept { until_ns, lease_ms }), boot.is_some() && boot == identity.boot)
}

/// Makes a promise durable, before it is given.
pub fn keep_promise(dir: &Path, identity: &Identity, kept: Kept) -> io::Result<()> {
    let boot = identity.boot.unwrap_or(0);
    let text = format!("{} {} {boot:032x}\n", kept.until_ns, kept.lease_ms);
    replace_durably(&dir.join(PROMISE), text.as_bytes())?;
    sync_folder(dir)
}

/// The highest term that an earlier process obeyed; 0 if none is known.
pub fn load_term(dir: &Path) -> u64 {
    let Ok(text) = std::fs::read_to_string(dir.join(TERM)) else { return 0 };
    let term = text.split_whitespace().next().and_then(|word| word.parse().ok());
    term.unwrap_or_else(|| {
        tracing::warn!("the file `term` is unreadable and is taken for none");
        0
    })
}

/// Makes a term durable. Nothing waits for it: what keeps two masters apart is on disk elsewhere, and this is for a
/// controller that comes back after days.
pub fn keep_term(dir: &Path, term: u64) -> io::Result<()> {
    replace_durably(&dir.join(TERM), format!("{term}\n").as_bytes())?;
    sync_folder(dir)
}

/// Removes it: what was obeyed in this folder is nothing to whose it will be.
pub fn forget_term(dir: &Path) -> io::Result<()> {
    crate::durable::remove_if_there(&dir.join(TERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_keeps_its_name_and_replaced_data_gets_another() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::load(dir.path());
        let name = first.incarnation().unwrap();
        assert_eq!(Identity::load(dir.path()).incarnation(), Some(name));
        std::fs::remove_file(dir.path().join(INCARNATION)).unwrap();
        first.reload(dir.path());
        assert_ne!(first.incarnation().unwrap(), name);
        let node = NodeId::new(&[b'a'; 40]);
        assert_eq!(first.member(node, true).unwrap().boot, None);
        assert_eq!(first.member(node, false).unwrap().boot, boot());
        first.forget();
        assert_eq!(first.member(node, false), None);
        assert_eq!(Identity::load(&dir.path().join("absent")).incarnation(), None);
    }

    #[test]
    fn a_promise_is_read_back_and_belongs_to_a_boot() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load(dir.path());
        assert_eq!(load_promise(dir.path(), &identity), (None, false));
        let kept = Kept { until_ns: 5, lease_ms: 1000 };
        keep_promise(dir.path(), &identity, kept).unwrap();
        assert_eq!(load_promise(dir.path(), &identity), (Some(kept), true));
        let other = Identity { incarnation: AtomicU64::new(1), boot: Some(1) };
        assert_eq!(load_promise(dir.path(), &other), (Some(kept), false));
        std::fs::write(dir.path().join(PROMISE), "x").unwrap();
        assert_eq!(load_promise(dir.path(), &identity), (None, false));
    }

    #[test]
    fn a_term_is_read_back_and_nonsense_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load_term(dir.path()), 0);
        keep_term(dir.path(), 7).unwrap();
        assert_eq!(load_term(dir.path()), 7);
        std::fs::write(dir.path().join(TERM), "8 of a later version\n").unwrap();
        assert_eq!(load_term(dir.path()), 8);
        std::fs::write(dir.path().join(TERM), "x").unwrap();
        assert_eq!(load_term(dir.path()), 0);
        forget_term(dir.path()).unwrap();
        assert!(!dir.path().join(TERM).exists());
        forget_term(dir.path()).unwrap();
    }
}
