//! What a command that a Redis tells its replicas means to a copy. Pure.
//!
//! A command whose keys lie in one slot is sent to the target as it is. What does not fit a cluster
//! (keys of several slots), what comes from another database, and what was not done there, is
//! copied anew: its keys are read from the Redis as they are by then.

use std::collections::HashMap;

use resp::Value;
use topology::key_slot;

/// Where the keys of a command stand, as COMMAND tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    None,
    At {
        first: usize,
        last: i64,
        step: usize,
    },
    /// Only COMMAND GETKEYS knows.
    Movable,
}

/// The commands of a Redis, and of their subcommands those with keys.
#[derive(Debug, Default)]
pub(super) struct Table(HashMap<Vec<u8>, Keys>);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It changes nothing that is copied.
    Nothing,
    /// What follows is in this database.
    Select(u64),
    /// It is sent to the node of these keys.
    Send(Vec<Vec<u8>>),
    /// These keys are copied anew.
    Copy(Vec<Vec<u8>>),
    /// As [`Meaning::Send`] or [`Meaning::Copy`], once the Redis has said which keys it has.
    Ask,
    /// It is sent to each master.
    Everywhere,
    /// The copy cannot go on.
    Stop(&'static str),
}

impl Table {
    /// Reads the answer to COMMAND. What cannot be read is left out, and asked for.
    pub(super) fn read(answer: &Value) -> Self {
        let mut table = Self::default();
        table.add(answer);
        table
    }

    fn add(&mut self, answer: &Value) {
        let Value::Array(commands) = answer else { return };
        for command in commands {
            let Value::Array(parts) = command else { continue };
            let [
                name,
                _,
                flags,
                Value::Integer(first),
                Value::Integer(last),
                Value::Integer(step),
                ..,
            ] = parts.as_slice()
            else {
                continue;
            };
            let Some(name) = name.as_bytes() else { continue };
            let is_movable = match flags {
                Value::Array(flags) => {
                    flags.iter().any(|flag| flag.as_bytes() == Some(b"movablekeys"))
                }
                _ => false,
            };
            let keys = match (usize::try_from(*first), usize::try_from(*step)) {
                _ if is_movable => Keys::Movable,
                (Ok(first @ 1..), Ok(step @ 1..)) => Keys::At { first, last: *last, step },
                _ => Keys::None,
            };
            self.0.insert(name.to_ascii_lowercase(), keys);
            if let Some(subcommands) = parts.get(9) {
                self.add(subcommands);
            }
        }
    }

    /// The keys of a command; `None` if the Redis has to be asked.
    fn keys(&self, words: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        let name = words.first()?.to_ascii_lowercase();
        let with_sub =
            words.get(1).map(|sub| [&name[..], b"|", &sub.to_ascii_lowercase()].concat());
        let known = with_sub.and_then(|name| self.0.get(&name)).or_else(|| self.0.get(&name));
        match *known? {
            Keys::None => Some(Vec::new()),
            Keys::Movable => None,
            Keys::At { first, last, step } => {
                let last = match usize::try_from(last) {
                    Ok(last) => last,
                    Err(_) => {
                        let back = usize::try_from(last.unsigned_abs()).ok()?;
                        words.len().checked_sub(back)?
                    }
                };
                (first..=last).step_by(step).map(|at| words.get(at).cloned()).collect()
            }
        }
    }

    /// What a command means that was told while `db` was selected; `ours` is copied.
    pub(super) fn meaning(&self, words: &[Vec<u8>], db: u64, ours: u64) -> Meaning {
        let word =
            |at: usize| words.get(at).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        match &word(0)[..] {
            b"select" => {
                let number = words.get(1).and_then(|db| std::str::from_utf8(db).ok()?.parse().ok());
                number.map_or(Meaning::Stop("SELECT without a database"), Meaning::Select)
            }
            b"swapdb" => Meaning::Stop("databases were exchanged (SWAPDB) at the Redis"),
            b"flushall" => Meaning::Everywhere,
            // From one database into another: whichever, the key here is looked at.
            b"move" => Meaning::Copy(words.get(1).cloned().into_iter().collect()),
            b"copy" => Meaning::Copy(words.iter().skip(1).take(2).cloned().collect()),
            b"function" => Meaning::Everywhere,
            _ if db != ours => Meaning::Nothing,
            b"flushdb" => Meaning::Everywhere,
            // Messages are for those who listen there.
            b"multi" | b"exec" | b"ping" | b"replconf" | b"publish" | b"spublish" => {
                Meaning::Nothing
            }
            _ => match self.keys(words) {
                Some(keys) if keys.is_empty() => Meaning::Nothing,
                Some(keys) => of_keys(keys),
                None => Meaning::Ask,
            },
        }
    }
}

/// What a command with these keys means.
pub(super) fn of_keys(keys: Vec<Vec<u8>>) -> Meaning {
    let mut slots = keys.iter().map(|key| key_slot(key));
    let first = slots.next();
    match slots.all(|slot| Some(slot) == first) {
        true => Meaning::Send(keys),
        false => Meaning::Copy(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let number = Value::Integer;
        let text = |text: &str| Value::Bulk(text.into());
        let row = |name: &str, flags: &[&str], place: [i64; 3], subs: Vec<Value>| {
            let flags = Value::Array(flags.iter().map(|flag| text(flag)).collect());
            let [first, last, step] = place.map(number);
            let none = || Value::Array(Vec::new());
            let all = [text(name), number(-2), flags, first, last, step];
            let more = [none(), none(), none(), Value::Array(subs)];
            Value::Array(all.into_iter().chain(more).collect())
        };
        Table::read(&Value::Array(vec![
            row("set", &["write"], [1, 1, 1], vec![]),
            row("mset", &["write"], [1, -1, 2], vec![]),
            row("zunionstore", &["write", "movablekeys"], [1, 1, 1], vec![]),
            row("xgroup", &[], [0, 0, 0], vec![row("xgroup|create", &[], [2, 2, 1], vec![])]),
        ]))
    }

    fn meaning(text: &str, db: u64) -> Meaning {
        let words: Vec<Vec<u8>> = text.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        table().meaning(&words, db, 0)
    }

    fn keys(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn keys_of_one_slot_are_sent_and_others_copied() {
        assert_eq!(meaning("SET k v", 0), Meaning::Send(keys(&["k"])));
        assert_eq!(meaning("mset {a}1 v {a}2 w", 0), Meaning::Send(keys(&["{a}1", "{a}2"])));
        assert_eq!(meaning("MSET a v b w", 0), Meaning::Copy(keys(&["a", "b"])));
        assert_eq!(meaning("XGROUP CREATE s g $", 0), Meaning::Send(keys(&["s"])));
        assert_eq!(meaning("XGROUP HELP", 0), Meaning::Nothing);
        assert_eq!(meaning("ZUNIONSTORE d 1 s", 0), Meaning::Ask);
        assert_eq!(meaning("NEWLY k", 0), Meaning::Ask);
    }

    #[test]
    fn other_databases_are_passed_over_but_for_what_comes_from_them() {
        assert_eq!(meaning("SET k v", 1), Meaning::Nothing);
        assert_eq!(meaning("FLUSHDB", 1), Meaning::Nothing);
        assert_eq!(meaning("FLUSHALL", 1), Meaning::Everywhere);
        assert_eq!(meaning("MOVE k 0", 1), Meaning::Copy(keys(&["k"])));
        assert_eq!(meaning("COPY k j DB 0", 1), Meaning::Copy(keys(&["k", "j"])));
        assert_eq!(meaning("SELECT 3", 0), Meaning::Select(3));
        assert!(matches!(meaning("SWAPDB 0 1", 0), Meaning::Stop(_)));
    }
}
