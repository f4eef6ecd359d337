//! The name of the data here in in-sync sets, and the promise that outlives the process.
//!
//! The incarnation lies *in* the database folder: a full sync replaces the folder, and with it the
//! name of the data, in one rename (rule R3). After a crash on the way there is old data under its
//! old name or new data under none, and never new data under the old name.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use grant::{Kept, LEASE_MS_MAX, Member, StoreId};
use topology::NodeId;

use crate::durable::{replace_durably, sync_folder};

/// File in the database folder: 16 hex digits.
pub(super) const INCARNATION: &str = "holdfast.incarnation";
/// File in the node's folder: `<until ns> <lease ms> <boot id>`.
const PROMISE: &str = "promise";
/// File in the node's folder: the highest term of a controller that was obeyed, and, once one has
/// said it, name and generation of its store. Of a later version there may be more words; an
/// earlier one reads the first.
const TERM: &str = "term";

/// Identity of the data and of the machine's boot.
#[derive(Debug)]
pub struct Identity {
    /// 0: unknown, and this node can be no member.
    incarnation: AtomicU64,
    boot: Option<u128>,
}

impl Identity {
    /// The identity of the database in `db`. If it cannot be read or made, this is logged, and the
    /// node cannot be a member of a set.
    pub fn load(db: &Path) -> Self {
        let identity = Self { incarnation: AtomicU64::new(0), boot: boot() };
        identity.reload(db);
        identity
    }

    /// After the database folder was replaced.
    pub fn reload(&self, db: &Path) {
        self.take(Self::name(db));
    }

    /// The name of the data in `db`, which gets one if it has none. `None`: it cannot be read or
    /// made, which is logged. It may last, as a disk does.
    pub fn name(db: &Path) -> Option<u64> {
        let name = incarnation(db).inspect_err(|error| {
            tracing::error!(%error, "cannot tell which data this is: this node cannot be a member of an in-sync set");
        });
        name.ok()
    }

    /// The data of that name is in service.
    pub fn take(&self, name: Option<u64>) {
        self.incarnation.store(name.unwrap_or(0), Ordering::SeqCst);
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
    let text = match std::fs::read(dir.join(PROMISE)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, false),
        Err(error) => {
            tracing::warn!(%error, "read the file `promise`");
            String::new()
        }
    };
    let mut words = text.split_whitespace();
    let mut number = || words.next()?.parse::<u64>().ok();
    let (Some(until_ns), Some(lease_ms)) = (number(), number()) else {
        // It may have held any.
        let longest = Kept { until_ns: u64::MAX, lease_ms: LEASE_MS_MAX };
        let seconds = LEASE_MS_MAX / 1000;
        tracing::warn!(
            seconds,
            "the file `promise` is unreadable: this node takes no grant for that long"
        );
        return (Some(longest), false);
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

/// What is kept of the controllers that an earlier process obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Obeyed {
    /// The highest term; 0 if none is known.
    pub term: u64,
    /// The store of the controller that said so.
    pub store: Option<StoreId>,
}

/// Reads the term and the store; nothing if the file is missing, or is nonsense.
pub fn load_obeyed(dir: &Path) -> Obeyed {
    let Ok(text) = std::fs::read_to_string(dir.join(TERM)) else { return Obeyed::default() };
    let mut words = text.split_whitespace();
    let Some(term) = words.next().and_then(|word| word.parse().ok()) else {
        tracing::warn!("the file `term` is unreadable and is taken for none");
        return Obeyed::default();
    };
    let store = match (words.next(), words.next()) {
        (Some(name), Some(generation)) => {
            generation.parse().ok().and_then(|generation| StoreId::new(name, generation))
        }
        _ => None,
    };
    Obeyed { term, store }
}

/// Makes that durable. For a term nothing waits: what keeps two masters apart is on disk elsewhere,
/// and this is for a controller that comes back after days. A store is on disk before anything is
/// answered under it.
pub fn keep_obeyed(dir: &Path, obeyed: Obeyed) -> io::Result<()> {
    let mut text = obeyed.term.to_string();
    if let Some(StoreId { name, generation }) = obeyed.store {
        text.push_str(&format!(" {name:016x} {generation}"));
    }
    text.push('\n');
    replace_durably(&dir.join(TERM), text.as_bytes())?;
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
        let longest = Kept { until_ns: u64::MAX, lease_ms: LEASE_MS_MAX };
        for nonsense in ["x", "", "\u{fffd}", "5"] {
            std::fs::write(dir.path().join(PROMISE), nonsense).unwrap();
            assert_eq!(load_promise(dir.path(), &identity), (Some(longest), false));
        }
        std::fs::remove_file(dir.path().join(PROMISE)).unwrap();
        std::fs::create_dir(dir.path().join(PROMISE)).unwrap();
        assert_eq!(load_promise(dir.path(), &identity), (Some(longest), false));
    }

    #[test]
    fn who_was_obeyed_is_read_back_and_nonsense_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let none = Obeyed::default();
        assert_eq!(load_obeyed(dir.path()), none);
        let term = Obeyed { term: 7, store: None };
        let named = Obeyed { store: Some(StoreId { name: 0xab, generation: 3 }), ..term };
        for obeyed in [term, named] {
            keep_obeyed(dir.path(), obeyed).unwrap();
            assert_eq!(load_obeyed(dir.path()), obeyed);
        }
        let file = dir.path().join(TERM);
        // An earlier version reads the first word.
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "7 00000000000000ab 3\n");
        for (text, read) in [
            ("8 of a later version\n", Obeyed { term: 8, store: None }),
            ("7 00000000000000ab 3 and more\n", named),
            ("7 00000000000000ab\n", term),
            ("x", none),
            ("", none),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(load_obeyed(dir.path()), read, "{text}");
        }
        forget_term(dir.path()).unwrap();
        assert!(!file.exists());
        forget_term(dir.path()).unwrap();
    }
}
