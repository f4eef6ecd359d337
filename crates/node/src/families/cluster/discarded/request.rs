//! What `CLUSTERX DISCARDED` is asked to put back.

use std::collections::HashSet;
use std::ops::Range;

use replication::history::EpochId;
use resp::Value;
use storage::Store;
use storage::rewind::records::What;
use storage::rewind::state::State;

use crate::command::{Args, Error, Result};

/// Most keys in one request; its words have the limits of any command besides.
const KEYS_MAX: usize = 16_384;
/// Most keys that are written with the gate held once.
const BATCH_KEYS: usize = 128;
/// And how many bytes of keys and values, but for the last of them.
const BATCH_BYTES: usize = 1 << 20;
/// Words of a key with its last state, as APPLY takes them.
const STRING_WORDS: usize = 4;
/// Words of a key, as RESTORE takes them.
const KEY_WORDS: usize = 3;
/// Words of a record of a key.
const RECORD_WORDS: usize = 3;

/// A key that is to be put back.
pub(super) struct Wanted {
    pub key: Vec<u8>,
    /// `None` if its records make none that is known here.
    pub state: Option<State>,
}

impl Wanted {
    fn bytes(&self) -> usize {
        self.key.len() + self.state.as_ref().map_or(0, State::bytes)
    }
}

/// What is to be put back.
pub(super) struct Request {
    pub fork: u64,
    /// Of the epoch that held the fork when the export was made; `None` where nobody wrote it down.
    epoch_id: Option<EpochId>,
    pub is_dry: bool,
    /// Only keys that are not there, whatever the log says.
    pub only_absent: bool,
    pub keys: Vec<Wanted>,
}

impl Request {
    /// `<fork> <epoch id> DRY|RUN SINCE|ABSENT [set|del <key> <value> <expiry Unix ms>]…`
    pub(super) fn of_strings(args: &mut Args<'_>) -> Result<Self> {
        Self::parse(args, STRING_WORDS, |args| {
            let is_set = match args.word().as_deref() {
                Some(b"SET") => true,
                Some(b"DEL") => false,
                _ => return Err(Error::Syntax),
            };
            let (key, value) = (args.bytes()?, args.bytes()?);
            let expire_ms = args.number()?;
            let state = match is_set {
                true => State::string(key, value, expire_ms),
                false => State::deletion(key),
            };
            Ok(Wanted { key: key.to_vec(), state: Some(state) })
        })
    }

    /// `<fork> <epoch id> DRY|RUN SINCE|ABSENT [<key> <had no end: 1|0> <records>]…`, where the
    /// records are an array of RESP, three words each: `put` or `del`, place, value.
    pub(super) fn of_records(args: &mut Args<'_>) -> Result<Self> {
        Self::parse(args, KEY_WORDS, |args| {
            let key = args.bytes()?;
            let was_endless = match args.bytes()? {
                b"1" => true,
                b"0" => false,
                _ => return Err(Error::Syntax),
            };
            let records = records_of(args.bytes()?).ok_or(Error::Syntax)?;
            Ok(Wanted { key: key.to_vec(), state: State::of(key, was_endless, records) })
        })
    }

    fn parse<'a>(
        args: &mut Args<'a>,
        words: usize,
        wanted: impl Fn(&mut Args<'a>) -> Result<Wanted>,
    ) -> Result<Self> {
        let fork = args.number()?;
        let epoch_id = match args.bytes()? {
            b"-" => None,
            id => Some(EpochId::parse(id).ok_or(Error::Syntax)?),
        };
        let is_dry = match args.word().as_deref() {
            Some(b"DRY") => true,
            Some(b"RUN") => false,
            _ => return Err(Error::Syntax),
        };
        let only_absent = match args.word().as_deref() {
            Some(b"SINCE") => false,
            Some(b"ABSENT") => true,
            _ => return Err(Error::Syntax),
        };
        if !args.len().is_multiple_of(words) || args.len() / words > KEYS_MAX {
            return Err(Error::Syntax);
        }
        let mut keys = Vec::with_capacity(args.len() / words);
        while !args.is_empty() {
            keys.push(wanted(args)?);
        }
        // Of a key that is there twice, nobody could say what its last state is.
        let distinct: HashSet<&[u8]> = keys.iter().map(|wanted| wanted.key.as_slice()).collect();
        if distinct.len() != keys.len() {
            return Err(Error::text("ERR each key may be named once"));
        }
        Ok(Self { fork, epoch_id, is_dry, only_absent, keys })
    }

    pub(super) fn names(&self) -> Vec<&[u8]> {
        self.keys.iter().map(|wanted| wanted.key.as_slice()).collect()
    }

    /// The places of the keys that are written with the gate held once.
    pub(super) fn batches(&self) -> Vec<Range<usize>> {
        let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (place, wanted) in self.keys.iter().enumerate() {
            bytes += wanted.bytes();
            let end = place + 1;
            if end - start >= BATCH_KEYS || bytes >= BATCH_BYTES || end == self.keys.len() {
                batches.push(start..end);
                (start, bytes) = (end, 0);
            }
        }
        batches
    }

    /// Whether this database holds what the export's database held up to the fork: an epoch is
    /// written by one process (rule R11).
    pub(super) fn is_of(&self, store: &Store) -> bool {
        let entry = store.history().at(self.fork).map(|entry| entry.id);
        self.epoch_id.is_some() && entry == self.epoch_id && store.latest_sequence() >= self.fork
    }
}

/// `None` if that is none.
fn records_of(text: &[u8]) -> Option<Vec<What>> {
    let (value, length) = Value::parse(text, text.len()).ok()??;
    let Value::Array(words) = value else { return None };
    if length != text.len() || !words.len().is_multiple_of(RECORD_WORDS) {
        return None;
    }
    let mut records = Vec::with_capacity(words.len() / RECORD_WORDS);
    let mut words = words.into_iter();
    while let Some(what) = words.next() {
        let (Value::Bulk(place), Value::Bulk(value)) = (words.next()?, words.next()?) else {
            return None;
        };
        records.push(match what.as_bytes()? {
            b"put" => What::Put { place, value, was_endless: false },
            b"del" => What::Delete { place },
            _ => return None,
        });
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use resp::encode_command;

    use super::*;

    #[test]
    fn the_gate_is_held_for_few_keys_and_bytes() {
        let set = |bytes: usize| Wanted {
            key: b"k".to_vec(),
            state: Some(State::string(b"k", &vec![0; bytes], 0)),
        };
        let batches = |keys: Vec<Wanted>| {
            let request =
                Request { fork: 1, epoch_id: None, is_dry: false, only_absent: true, keys };
            request.batches()
        };
        assert!(batches(Vec::new()).is_empty());
        assert_eq!(batches((0..300).map(|_| set(1)).collect()), [0..128, 128..256, 256..300]);
        let large = [1, BATCH_BYTES, 1, BATCH_BYTES / 2, BATCH_BYTES / 2, 1];
        assert_eq!(batches(large.map(set).into()), [0..2, 2..5, 5..6]);
    }

    #[test]
    fn records_are_read_whole_or_not_at_all() {
        let words: [&[u8]; 6] = [b"put", b"\x01place", b"value\r\n", b"del", b"\x00", b""];
        let text = encode_command(&words);
        let put = What::Put {
            place: b"\x01place".to_vec(),
            value: b"value\r\n".to_vec(),
            was_endless: false,
        };
        let expected = [put, What::Delete { place: vec![0] }];
        assert_eq!(records_of(&text).as_deref(), Some(&expected[..]));
        for end in 0..text.len() {
            assert_eq!(records_of(&text[..end]), None, "cut at {end}");
        }
        assert_eq!(records_of(&[&text[..], b"x"].concat()), None);
        assert_eq!(records_of(&encode_command(&words[..4])), None);
        assert_eq!(records_of(&encode_command(&[b"set", b"a\0\0", b"b\0\0"])), None);
        assert_eq!(records_of(b"*0\r\n"), Some(Vec::new()));
    }
}
