//! What a command does with each of its keys, in the words of Redis: COMMAND GETKEYSANDFLAGS.
//!
//! Whether something of a value comes back, and whether it is changed, is what permissions go by
//! ([`needs`]); here stands only how it is changed.

use crate::acl::needs;
use crate::command::row::Access;
use crate::command::{Flags, Row};

/// They take something away.
#[rustfmt::skip]
const DELETES: &[&str] = &[
    "blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin", "cad", "cf.del", "del", "delex",
    "getdel", "hdel", "hgetdel", "json.clear", "json.del", "json.forget", "lmove", "lmpop", "lpop", "lrem", "ltrim",
    "rename", "renamenx", "rpop", "rpoplpush", "sirem", "smove", "spop", "srem", "ts.del", "unlink", "xautoclaim",
    "xdel", "xgroup|delconsumer", "xgroup|destroy", "xtrim", "zmpop", "zpopmax", "zpopmin", "zrem", "zremrangebylex",
    "zremrangebyrank", "zremrangebyscore",
];

/// They add something, and change nothing that is there.
#[rustfmt::skip]
const INSERTS: &[&str] = &[
    "append", "bf.reserve", "cf.reserve", "hsetnx", "linsert", "lpush", "lpushx", "msetnx", "pfadd", "pfmerge", "rpush", "rpushx",
    "sadd", "setnx", "siadd", "tdigest.create", "ts.create", "xgroup|create", "xgroup|createconsumer",
];

/// What was there does not matter to them.
#[rustfmt::skip]
const OVERWRITES: &[&str] = &[
    "bitop", "geosearchstore", "mset", "msetex", "msetnx", "psetex", "restore", "restore-asking", "sdiffstore", "set", "setex", "setnx",
    "sinterstore", "sunionstore", "zdiffstore", "zinterstore", "zrangestore", "zunionstore",
];

/// What they do with the last of their keys, if it is not the first one: how, and what is done.
#[rustfmt::skip]
const LAST: &[(&str, &str, &[&str])] = &[
    ("OW", "update", &["copy", "georadius", "georadiusbymember", "rename", "sort"]),
    ("OW", "insert", &["renamenx"]),
    ("RW", "insert", &["blmove", "brpoplpush", "lmove", "rpoplpush", "smove"]),
];

/// The words for the key at `place` of `count`.
pub(super) fn words(
    row: &Row,
    words: &[&[u8]],
    (place, count): (usize, usize),
) -> Vec<&'static str> {
    let name = row.name;
    let has = |option: &str| words.iter().any(|word| word.eq_ignore_ascii_case(option.as_bytes()));
    let needs = needs(row, words, (place, count));
    // A script does what it says when it runs.
    let is_open = row.flags.has(Flags::SCRIPT) && row.access == Access::None;
    let only_reads = name == "bitfield" && !has("set") && !has("incrby");
    let (reads, writes) = match (is_open, only_reads) {
        (true, _) => (true, true),
        (_, true) => (true, false),
        _ => (needs.read, needs.write),
    };
    let last = LAST.iter().find(|(.., names)| place > 0 && names.contains(&name));
    let (how, what) = match last {
        _ if !writes => ("RO", None),
        Some((how, what, _)) => (*how, Some(*what)),
        None if OVERWRITES.contains(&name) && !reads => ("OW", Some(verb(name))),
        None if matches!(name, "del" | "delex" | "unlink") && !reads => ("RM", Some(verb(name))),
        None => ("RW", Some(verb(name))),
    };
    [Some(how), reads.then_some("access"), what].into_iter().flatten().collect()
}

fn verb(name: &str) -> &'static str {
    match name {
        name if DELETES.contains(&name) => "delete",
        name if INSERTS.contains(&name) => "insert",
        _ => "update",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Catalog;

    #[test]
    fn every_name_here_is_a_command() {
        crate::shell::table();
        let lists =
            [DELETES, INSERTS, OVERWRITES].into_iter().chain(LAST.iter().map(|last| last.2));
        for name in lists.flatten() {
            assert!(Catalog::get().find(name).is_some(), "{name}");
        }
    }

    /// A key that is said to be read takes the permission to read, and so on.
    #[test]
    fn words_and_permissions_agree() {
        crate::shell::table();
        for entry in Catalog::get().entries() {
            let row = entry.row;
            let is_script = row.flags.has(Flags::SCRIPT);
            for (place, count) in [(0, 1), (0, 2), (1, 2), (1, 3)] {
                let call: Vec<&[u8]> = vec![b"x"; 3];
                if is_script || row.name == "bitfield" {
                    continue;
                }
                let said = words(row, &call, (place, count));
                let needs = needs(row, &call, (place, count));
                let changes = said.iter().any(|word| ["insert", "update", "delete"].contains(word));
                let found = (said.contains(&"access"), changes, said.contains(&"RO"));
                assert_eq!(
                    found,
                    (needs.read, needs.write, !needs.write),
                    "{}: {said:?}",
                    row.name
                );
            }
        }
    }
}
