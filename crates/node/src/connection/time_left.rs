//! The rest of a blocking command's timeout, written into the command itself. A command that begins
//! anew at another node, or after a look that took long, so waits no longer than its client asked
//! for.
//!
//! Pure: words in, words out.

use std::time::Duration;

use resp::{Protocol, Writer};

/// As what the time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A decimal fraction.
    Seconds,
    /// A whole number.
    Milliseconds,
}

/// Where the time stands among the words of a command of that name, which it understands.
fn place(name: &str, words: &[Vec<u8>]) -> Option<(usize, Unit)> {
    match name {
        "blpop" | "brpop" | "blmove" | "brpoplpush" | "bzpopmin" | "bzpopmax" => {
            Some((words.len().checked_sub(1)?, Unit::Seconds))
        }
        "blmpop" | "bzmpop" => Some((1, Unit::Seconds)),
        "xread" | "xreadgroup" => {
            let (mut at, mut found) = (1, None);
            while let Some(word) = words.get(at) {
                at += match &*word.to_ascii_uppercase() {
                    b"NOACK" => 1,
                    b"BLOCK" => {
                        // The last one counts.
                        found = Some((at + 1, Unit::Milliseconds));
                        2
                    }
                    b"COUNT" => 2,
                    b"GROUP" => 3,
                    _ => break,
                };
            }
            found
        }
        _ => None,
    }
}

/// For how long a command waits; `None` if for ever, or not at all.
pub(super) fn patience(name: &str, words: &[Vec<u8>]) -> Option<Duration> {
    let (at, unit) = place(name, words)?;
    let text = std::str::from_utf8(words.get(at)?).ok()?;
    let patience = match unit {
        Unit::Seconds => Duration::try_from_secs_f64(text.parse().ok()?).ok()?,
        Unit::Milliseconds => Duration::from_millis(text.parse().ok()?),
    };
    Some(patience).filter(|patience| !patience.is_zero())
}

/// The command as RESP, so that it waits for `rest` from now on.
pub(super) fn with_rest(name: &str, words: &[Vec<u8>], rest: Duration) -> Vec<u8> {
    // Zero would be for ever.
    let ms = rest.as_millis().max(1);
    let Some((at, unit)) = place(name, words) else { return as_resp(words) };
    let time = match unit {
        Unit::Seconds => format!("{}.{:03}", ms / 1000, ms % 1000),
        Unit::Milliseconds => ms.to_string(),
    };
    let mut words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    if let Some(word) = words.get_mut(at) {
        *word = time.as_bytes();
    }
    as_resp(&words)
}

/// A command as its client would send it.
pub(super) fn as_resp(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, Protocol::V2).bulks(words);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_where_the_command_has_it() {
        let ms = Duration::from_millis;
        for (name, command, before, after) in [
            ("blpop", "BLPOP a b 10", Some(ms(10_000)), "BLPOP a b 1.500"),
            ("brpoplpush", "b a b 0.25", Some(ms(250)), "b a b 1.500"),
            ("blmove", "BLMOVE a b LEFT LEFT 3", Some(ms(3000)), "BLMOVE a b LEFT LEFT 1.500"),
            ("blmpop", "BLMPOP 2 1 a LEFT", Some(ms(2000)), "BLMPOP 1.500 1 a LEFT"),
            (
                "xread",
                "XREAD COUNT 1 block 70 STREAMS BLOCK 7",
                Some(ms(70)),
                "XREAD COUNT 1 block 1500 STREAMS BLOCK 7",
            ),
            (
                "xreadgroup",
                "XREADGROUP GROUP BLOCK 9 NOACK BLOCK 5 STREAMS a >",
                Some(ms(5)),
                "XREADGROUP GROUP BLOCK 9 NOACK BLOCK 1500 STREAMS a >",
            ),
            ("bzpopmin", "BZPOPMIN a 0", None, "BZPOPMIN a 1.500"),
            ("xread", "XREAD STREAMS BLOCK 5", None, "XREAD STREAMS BLOCK 5"),
            ("wait", "WAIT 1 5", None, "WAIT 1 5"),
        ] {
            let words: Vec<Vec<u8>> = command.split(' ').map(Into::into).collect();
            assert_eq!(patience(name, &words), before, "{command}");
            let after: Vec<&str> = after.split(' ').collect();
            assert_eq!(with_rest(name, &words, ms(1500)), as_resp(&after), "{command}");
        }
        let words = [b"BLPOP".to_vec(), b"a".to_vec(), b"9".to_vec()];
        assert!(with_rest("blpop", &words, Duration::ZERO).ends_with(b"\r\n0.001\r\n"));
    }
}
