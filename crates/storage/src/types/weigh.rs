//! MEMORY USAGE and DISK USAGE: about how many bytes a key takes.
//!
//! Counted are keys and values as they are written, before compression: what RocksDB makes of them
//! is not known per key. Of a large value a sample is looked at.

use super::CommandError;
use crate::key::prefix_end;
use crate::{At, Direction, Read};

/// Bytes of a key and its sub-keys; `None` if there is none. At most `samples` sub-keys of each
/// family are looked at, and stand for the rest.
///
/// # Errors
/// Those of the engine.
pub fn weigh(read: &impl Read, at: &At<'_>, samples: u64) -> Result<Option<u64>, CommandError> {
    let Some(living) = at.living(read)? else { return Ok(None) };
    let header = living.header();
    // The flags and the expiry stand before the rest.
    let head = if header.is_wide() { 9 } else { 5 };
    let mut bytes = (at.ns_key.len() + head + header.rest.len()) as u64;
    let (Some(kind), Some((version, size))) = (header.kind(), header.version_and_size()) else {
        return Ok(Some(bytes));
    };
    let prefix = at.scope.sub_key_prefix(at.key, version);
    let end = prefix_end(&prefix);
    for family in kind.families() {
        let mut cursor = read.scan(*family, &prefix, &end, Direction::Forward)?;
        let (mut looked, mut sum) = (0_u64, 0_u64);
        while let Some((key, value)) = cursor.next()? {
            looked += 1;
            sum = sum.saturating_add((key.len() + value.len()) as u64);
            if looked >= samples {
                break;
            }
        }
        let is_sample = looked >= samples && size > looked;
        let whole = if is_sample {
            u128::from(sum) * u128::from(size) / u128::from(looked.max(1))
        } else {
            u128::from(sum)
        };
        bytes = bytes.saturating_add(u64::try_from(whole).unwrap_or(u64::MAX));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::bench;
    use super::*;
    use crate::types::{set, strings};

    #[test]
    fn a_sample_stands_for_the_rest() {
        let (_dir, store) = bench::store();
        let mut txn = store.txn();
        let scope = bench::SCOPE;
        strings::set(&mut txn, &scope.at(b"s"), b"12345", &strings::SetOptions::default()).unwrap();
        let members: Vec<Vec<u8>> = (0..100).map(|n| format!("m{n:03}").into_bytes()).collect();
        let members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
        set::add(&mut txn, &scope.at(b"k"), &members).unwrap();
        txn.commit().unwrap();
        let txn = store.txn();
        let weight = |key, samples| weigh(&txn, &scope.at(key), samples).unwrap();
        assert_eq!(weight(b"s", 5), Some(13 + 9 + 5));
        assert_eq!(weight(b"none", 5), None);
        let whole = weight(b"k", u64::MAX);
        assert!(whole > Some(100 * 4) && weight(b"k", 5) == whole, "{whole:?}");
    }
}
