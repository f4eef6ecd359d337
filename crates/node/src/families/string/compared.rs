//! DELEX, DIGEST, MSETEX, and the conditions of SET, as Redis 8.4 has them.
//!
//! Errors have Redis' texts. As in Kvrocks words are looked at before data: what makes no sense is
//! refused whether or not the key is there.

use storage::types::CommandError;
use storage::types::expiry::Expiry;
use storage::types::keys;
use storage::types::strings::compared::{self, Comparison, DIGEST_DIGITS, With};
use storage::types::strings::{self, Condition};

use super::{Lifetime, choose, timed};
use crate::command::args::parse_integer;
use crate::command::keys::Keys;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{ReadCx, WriteCx};

/// NX or XX beside what was said before: the same again, or nothing.
pub(super) fn condition<'a>(chosen: &mut Condition<'a>, new: Condition<'a>) -> Result<()> {
    if *chosen != Condition::Always && *chosen != new {
        return Err(Error::Syntax);
    }
    *chosen = new;
    Ok(())
}

/// What follows IFEQ, IFNE, IFDEQ or IFDNE, in upper case; [`Error::Syntax`] for another word.
pub(super) fn comparison<'a>(word: &[u8], args: &mut Args<'a>) -> Result<Comparison<'a>> {
    let (is_digest, is_equal) = match word {
        b"IFEQ" => (false, true),
        b"IFNE" => (false, false),
        b"IFDEQ" => (true, true),
        b"IFDNE" => (true, false),
        _ => return Err(Error::Syntax),
    };
    let wanted = args.bytes()?;
    if is_digest && wanted.len() != DIGEST_DIGITS {
        return Err(Error::text("ERR must be exactly 16 hexadecimal characters"));
    }
    let with = if is_digest { With::Digest(wanted) } else { With::Value(wanted) };
    Ok(Comparison { with, is_equal })
}

pub(super) fn delex(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let key = args.bytes()?;
    let Some(word) = args.word() else {
        return Ok(reply.flag(keys::del(&mut cx.txn, &cx.scope, &[key])? > 0));
    };
    if args.len() != 1 {
        return Err(Error::Arity("delex".into()));
    }
    let condition = comparison(&word, args).map_err(|error| match error {
        Error::Syntax => Error::err("Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"),
        error => error,
    })?;
    match compared::delex(&mut cx.txn, &cx.scope.at(key), &condition) {
        Err(CommandError::WrongType) => {
            Err(Error::err("Key should be of string type if conditions are specified"))
        }
        is_deleted => Ok(reply.flag(is_deleted?)),
    }
}

pub(super) fn digest(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let value = strings::get(cx.txn, &cx.scope.at(args.bytes()?))?;
    cx.count(value.is_some());
    let digest = value.map(|value| compared::digest(&value));
    Ok(reply.bulk_or_null(digest.as_deref().map(str::as_bytes)))
}

/// How many keys MSETEX has, as it says.
fn count_of(word: &[u8]) -> Option<usize> {
    parse_integer(word).and_then(|count| i32::try_from(count).ok()).and_then(|count| match count {
        1.. => usize::try_from(count).ok(),
        _ => None,
    })
}

/// Of each pair behind the number of pairs the first word.
pub(super) const MSETEX_KEYS: Keys = Keys::With(|words| {
    let count = words.get(1).and_then(|word| count_of(word)).unwrap_or(0);
    (2..words.len()).step_by(2).take(count).collect()
});

pub(super) fn msetex(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let count = count_of(args.bytes()?).ok_or_else(|| Error::err("invalid numkeys value"))?;
    let words = count.checked_mul(2).and_then(|words| args.take(words).ok());
    let words = words.ok_or_else(|| Error::err("wrong number of key-value pairs"))?;
    let (pairs, _) = words.as_chunks::<2>();
    let pairs: Vec<_> = pairs.iter().map(|[key, value]| (*key, *value)).collect();
    let (mut wanted, mut chosen) = (Condition::Always, None);
    while let Some(word) = args.word() {
        match &*word {
            b"NX" => condition(&mut wanted, Condition::IfAbsent)?,
            b"XX" => condition(&mut wanted, Condition::IfPresent)?,
            b"KEEPTTL" => choose(&mut chosen, Lifetime::Kept)?,
            other => timed(&mut chosen, other, args)?,
        }
    }
    let expiry = match chosen {
        Some(chosen) => chosen.expiry(cx, "msetex")?,
        None => Expiry::Never,
    };
    let is_set = strings::msetex(&mut cx.txn, &cx.scope, &pairs, (wanted, expiry))?;
    Ok(reply.flag(is_set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_many_as_the_number_says() {
        let Keys::With(find) = MSETEX_KEYS else { panic!("it has a rule of its own") };
        let check = |command: &str, expected: &[usize]| {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            assert_eq!(find(&words), expected, "{command}");
        };
        check("MSETEX 3 a b c d e f nx", &[2, 4, 6]);
        check("MSETEX 1 a b EX 10", &[2]);
        check("MSETEX 9 a b c", &[2, 4]);
        for wrong in ["MSETEX", "MSETEX 0 a b", "MSETEX -1 a b", "MSETEX x a b"] {
            check(wrong, &[]);
        }
        check("MSETEX 2147483648 a b", &[]);
    }
}
