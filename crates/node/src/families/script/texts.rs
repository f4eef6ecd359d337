//! Texts of scripts and libraries as a thread has read them from the database: while these are the
//! same there ([`Txn::scripts_version`]), they are not read again.
//!
//! Each thread that runs scripts has its own, bounded. What EVAL brought is in no database, and is
//! kept by the node ([`crate::scripts`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use storage::Txn;
use storage::types::scripts as kept;

use crate::command::Result;

/// Bytes that a thread keeps; with more it begins anew.
const BYTES_MAX: usize = 1 << 20;
/// What an entry takes beside name and text.
const OVERHEAD: usize = 96;

/// What is asked for by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The text of a script, by its hash in lower-case hex digits.
    Script,
    /// The name of the library that a function is in.
    Function,
    /// The text of a library.
    Library,
}

type ByName = HashMap<Vec<u8>, Arc<[u8]>>;

#[derive(Default)]
struct Texts {
    version: u64,
    scripts: ByName,
    functions: ByName,
    libraries: ByName,
    bytes: usize,
}

thread_local! {
    static TEXTS: RefCell<Texts> = RefCell::default();
}

impl Texts {
    /// What there is of a version, all others forgotten.
    fn of(&mut self, version: u64, kind: Kind) -> &mut ByName {
        if self.version != version {
            *self = Self { version, ..Self::default() };
        }
        match kind {
            Kind::Script => &mut self.scripts,
            Kind::Function => &mut self.functions,
            Kind::Library => &mut self.libraries,
        }
    }

    fn keep(&mut self, version: u64, kind: Kind, name: &[u8], text: &Arc<[u8]>) {
        let bytes = name.len() + text.len() + OVERHEAD;
        if bytes > BYTES_MAX {
            return;
        }
        if self.version == version && self.bytes + bytes > BYTES_MAX {
            *self = Self::default();
        }
        let before = self.of(version, kind).insert(name.to_vec(), Arc::clone(text));
        if before.is_none() {
            self.bytes += bytes;
        }
    }
}

/// What has been read before, if it is known to be the same still.
pub(super) fn at_hand(txn: &Txn<'_>, kind: Kind, name: &[u8]) -> Option<Arc<[u8]>> {
    let version = txn.scripts_version()?;
    TEXTS.with_borrow_mut(|texts| texts.of(version, kind).get(name).cloned())
}

/// What the database has.
///
/// # Errors
/// Those of the database.
pub(super) fn find(txn: &Txn<'_>, kind: Kind, name: &[u8]) -> Result<Option<Arc<[u8]>>> {
    if let Some(known) = at_hand(txn, kind, name) {
        return Ok(Some(known));
    }
    let before = txn.scripts_version();
    let read = match kind {
        Kind::Script => kept::script(txn, name),
        Kind::Function => kept::library_of(txn, name),
        Kind::Library => kept::library(txn, name),
    };
    let Some(found) = read?.map(Arc::<[u8]>::from) else { return Ok(None) };
    // Else it may be that of the one or the other.
    if let Some(version) = before
        && txn.scripts_version() == before
    {
        TEXTS.with_borrow_mut(|texts| texts.keep(version, kind, name, &found));
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::Shell;

    /// Whether it is at hand, and what is found then.
    fn looked(shell: &Shell, kind: Kind, name: &str) -> (bool, Option<String>) {
        let store = shell.node().engine().store.clone().unwrap();
        let txn = store.txn();
        let is_at_hand = at_hand(&txn, kind, name.as_bytes()).is_some();
        let found = find(&txn, kind, name.as_bytes()).unwrap();
        (is_at_hand, found.map(|text| String::from_utf8(text.to_vec()).unwrap()))
    }

    #[test]
    fn what_was_read_is_at_hand_until_it_changes() {
        let mut shell = Shell::new();
        let (text, hash) = ("return\t1", script::sha1_hex(b"return\t1"));
        let found = || Some(text.to_owned());
        assert_eq!(looked(&shell, Kind::Script, &hash), (false, None));
        shell.run(&format!("SCRIPT LOAD {text}"));
        assert_eq!(looked(&shell, Kind::Script, &hash), (false, found()));
        assert_eq!(looked(&shell, Kind::Script, &hash), (true, found()));
        // It is none of the other kinds, and writes of keys change none of them.
        shell.run("SET k v");
        assert_eq!(looked(&shell, Kind::Library, &hash), (false, None));
        assert_eq!(looked(&shell, Kind::Script, &hash), (true, found()));
        // Another database has its own.
        let other = Shell::new();
        assert_eq!(looked(&other, Kind::Script, &hash), (false, None));
        shell.restart();
        assert_eq!(looked(&shell, Kind::Script, &hash), (false, found()));
        shell.run("SCRIPT FLUSH");
        assert_eq!(looked(&shell, Kind::Script, &hash), (false, None));
        let code = |answer: u8| {
            format!("#!lua\tname=l\nredis.register_function('f',function()return({answer})end)")
        };
        for answer in [1, 2] {
            shell.run(&format!("FUNCTION LOAD REPLACE {}", code(answer)));
            for is_at_hand in [false, true] {
                let name = looked(&shell, Kind::Function, "f");
                assert_eq!(name, (is_at_hand, Some("l".to_owned())));
                let library = looked(&shell, Kind::Library, "l");
                assert_eq!(library, (is_at_hand, Some(code(answer))));
            }
            assert_eq!(shell.run("FCALL f 0"), format!(":{answer}"));
        }
    }

    #[test]
    fn a_thread_keeps_so_much_and_no_more() {
        let mut texts = Texts::default();
        let half: Arc<[u8]> = vec![b'x'; BYTES_MAX / 2 - OVERHEAD - 1].into();
        for name in [b"1", b"2"] {
            texts.keep(7, Kind::Script, name, &half);
        }
        assert_eq!((texts.bytes, texts.of(7, Kind::Script).len()), (BYTES_MAX, 2));
        texts.keep(7, Kind::Library, b"3", &half);
        assert_eq!((texts.bytes, texts.of(7, Kind::Script).len()), (BYTES_MAX / 2, 0));
        let large: Arc<[u8]> = vec![b'x'; BYTES_MAX].into();
        texts.keep(7, Kind::Script, b"4", &large);
        assert_eq!(texts.of(7, Kind::Library).len(), 1);
        assert!(texts.of(7, Kind::Script).is_empty());
        assert!(texts.of(8, Kind::Library).is_empty());
    }
}
