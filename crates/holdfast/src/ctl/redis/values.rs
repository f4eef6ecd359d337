//! Keys with their values: how a Redis gives them away, and how nodes take them.

use anyhow::{Result, bail};
use resp::{Value, encode_command};

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Dumped {
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) ends: Ends,
}

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    Never,
    /// In so many milliseconds.
    In(i64),
    /// At this Unix time, ms.
    At(u64),
}

/// What is to be at the target.
#[derive(Debug, Clone)]
pub(super) enum Put {
    Value(Dumped),
    /// No such key.
    Gone(Vec<u8>),
}

impl Put {
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Value(value) => &value.key,
            Self::Gone(key) => key,
        }
    }

    pub(super) fn bytes(&self, keeps: bool) -> Vec<u8> {
        let Self::Value(Dumped { key, payload, ends }) = self else {
            return encode_command(&[&b"DEL"[..], self.key()]);
        };
        let (ttl, is_absolute) = match ends {
            Ends::Never => ("0".to_owned(), false),
            Ends::In(ms) => (ms.to_string(), false),
            Ends::At(ms) => (ms.to_string(), true),
        };
        let mut words: Vec<&[u8]> = vec![&b"RESTORE"[..], key, ttl.as_bytes(), payload];
        words.extend((!keeps).then_some(&b"REPLACE"[..]));
        words.extend(is_absolute.then_some(&b"ABSTTL"[..]));
        encode_command(&words)
    }
}

/// The two commands that ask for a key with its value.
pub(super) fn ask_for(key: &[u8], out: &mut Vec<u8>) {
    out.extend(encode_command(&[&b"DUMP"[..], key]));
    out.extend(encode_command(&[&b"PTTL"[..], key]));
}

/// What is answered to [`ask_for`]; `None` for a key that is gone.
pub(super) fn dumped(key: &[u8], replies: &[Value]) -> Result<Option<Dumped>> {
    match replies {
        [Value::Null, _] | [_, Value::Integer(-2)] => Ok(None),
        [Value::Bulk(payload), Value::Integer(ttl)] => {
            // In its last millisecond it is still there; without an end it is -1.
            let ends = if *ttl < 0 { Ends::Never } else { Ends::In((*ttl).max(1)) };
            Ok(Some(Dumped { key: key.to_vec(), payload: payload.clone(), ends }))
        }
        other => bail!("DUMP {}: {other:?}", key.escape_ascii()),
    }
}
