//! Scripts and libraries of functions, where Kvrocks keeps them: in the propagate family, so that
//! replicas have them too.
//!
//! `lua_f_<hash>` holds a script, `lua_lib_code_<library>` a library, and `lua_func_lib_<function>`
//! the name of the library that a function is in. They belong to no namespace.

use crate::{Direction, Error, Family, Read, Txn};

const SCRIPT: &[u8] = b"lua_f_";
const LIBRARY: &[u8] = b"lua_lib_code_";
const FUNCTION: &[u8] = b"lua_func_lib_";

/// What Kvrocks puts behind the removed scripts: replicas of it then forget what they have in
/// memory. It is not kept.
const FLUSH: (&[u8], &[u8]) = (b"script", b"*2\r\n$6\r\nSCRIPT\r\n$5\r\nFLUSH\r\n");

fn key(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    [prefix, name].concat()
}

/// The first key behind all that begin with `prefix`.
fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        // All prefixes here end in an underscore.
        *last += 1;
    }
    end
}

fn get(read: &impl Read, prefix: &[u8], name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    Ok(read.get(Family::Propagate, &key(prefix, name))?.map(|value| value.to_vec()))
}

/// Keeps a script.
pub fn put(txn: &mut Txn<'_>, hash: &str, text: &[u8]) {
    txn.put_parts(Family::Propagate, &[SCRIPT, hash.as_bytes()], &[text]);
}

/// The script with that hash, in lower-case hex digits.
///
/// # Errors
/// Those of the database.
pub fn script(read: &impl Read, hash: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    get(read, SCRIPT, hash)
}

/// Forgets all scripts.
pub fn flush(txn: &mut Txn<'_>) {
    txn.delete_range(Family::Propagate, SCRIPT, &behind(SCRIPT));
    txn.put(Family::Propagate, FLUSH.0, FLUSH.1);
}

/// Keeps a library and the names of its functions.
pub fn put_library<'n>(
    txn: &mut Txn<'_>,
    library: &str,
    text: &[u8],
    functions: impl Iterator<Item = &'n str>,
) {
    for function in functions {
        let key = [FUNCTION, function.as_bytes()];
        txn.put_parts(Family::Propagate, &key, &[library.as_bytes()]);
    }
    txn.put_parts(Family::Propagate, &[LIBRARY, library.as_bytes()], &[text]);
}

/// The text of a library.
///
/// # Errors
/// Those of the database.
pub fn library(read: &impl Read, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    get(read, LIBRARY, name)
}

/// The library that a function is in.
///
/// # Errors
/// Those of the database.
pub fn library_of(read: &impl Read, function: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    get(read, FUNCTION, function)
}

/// A name, and what is kept under it.
pub type Named = (Vec<u8>, Vec<u8>);

fn all(read: &impl Read, prefix: &[u8]) -> Result<Vec<Named>, Error> {
    let mut cursor = read.scan(Family::Propagate, prefix, &behind(prefix), Direction::Forward)?;
    let mut found = Vec::new();
    while let Some((key, value)) = cursor.next()? {
        found.push((key.get(prefix.len()..).unwrap_or_default().to_vec(), value.to_vec()));
    }
    Ok(found)
}

/// All scripts, by their hashes.
///
/// # Errors
/// Those of the database.
pub fn scripts(read: &impl Read) -> Result<Vec<Named>, Error> {
    all(read, SCRIPT)
}

/// What records of a log keep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Texts of scripts.
    pub scripts: Vec<Vec<u8>>,
    /// Libraries, or their functions: several records are one thing.
    pub has_libraries: bool,
}

impl Kept {
    /// Takes note of a record that was put.
    pub fn note(&mut self, family: Family, key: &[u8], value: &[u8]) {
        if family != Family::Propagate {
            return;
        }
        if key.starts_with(SCRIPT) {
            self.scripts.push(value.to_vec());
        }
        self.has_libraries |= key.starts_with(LIBRARY) || key.starts_with(FUNCTION);
    }
}

/// All libraries and their texts.
///
/// # Errors
/// Those of the database.
pub fn libraries(read: &impl Read) -> Result<Vec<Named>, Error> {
    all(read, LIBRARY)
}

/// All functions and their libraries.
///
/// # Errors
/// Those of the database.
pub fn functions(read: &impl Read) -> Result<Vec<Named>, Error> {
    all(read, FUNCTION)
}

/// Forgets a library; false if there is none.
///
/// # Errors
/// Those of the database.
pub fn delete_library(txn: &mut Txn<'_>, name: &[u8]) -> Result<bool, Error> {
    if library(txn, name)?.is_none() {
        return Ok(false);
    }
    for (function, library) in functions(txn)? {
        if library == name {
            txn.delete_parts(Family::Propagate, &[FUNCTION, &function]);
        }
    }
    txn.delete_parts(Family::Propagate, &[LIBRARY, name]);
    Ok(true)
}

/// Forgets all libraries.
pub fn flush_libraries(txn: &mut Txn<'_>) {
    for prefix in [FUNCTION, LIBRARY] {
        txn.delete_range(Family::Propagate, prefix, &behind(prefix));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_taken_from_the_log_and_libraries_are_noticed() {
        let mut kept = Kept::default();
        kept.note(Family::Propagate, b"lua_f_0123", b"return 1");
        kept.note(Family::Metadata, b"lua_f_0123", b"a key of that name");
        kept.note(Family::Propagate, FLUSH.0, FLUSH.1);
        let expected = Kept { scripts: vec![b"return 1".to_vec()], has_libraries: false };
        assert_eq!(kept, expected);
        kept.note(Family::Propagate, b"lua_func_lib_f", b"mine");
        assert!(kept.has_libraries && kept.scripts.len() == 1);
        let mut kept = Kept::default();
        kept.note(Family::Propagate, b"lua_lib_code_mine", b"#!lua");
        assert!(kept.has_libraries && kept.scripts.is_empty());
    }
}
