//! The slot list that `CLUSTERX SETSLOT`, `MIGRATE`, `FLUSHSLOTS` and `CLUSTER IMPORT` take as one
//! argument.
//!
//! Its rules and texts are Kvrocks', and differ from those of a topology: `5-5` is a range here.

use crate::model::{Slot, SlotRange};

/// Why a slot list was refused. `Display` is the error text without `ERR `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum SlotsError {
    #[error("No slots to parse.")]
    Empty,
    #[error("Invalid slots: `{0}`. No slots to parse. Please use spaces to separate slots.")]
    OnlySpaces(String),
    #[error("Invalid slot id: {0}")]
    Slot(#[from] NumberError),
    #[error(
        "Invalid slot range: `{0}`. The character '-' can't appear in the first or last position."
    )]
    OuterDash(String),
    #[error("Invalid slot range: `{0}`. The slot range should be of the form `int1-int2`.")]
    NotARange(String),
    #[error(
        "Invalid slot range: `{0}`. The slot range `int1-int2` needs to satisfy the condition (int1 <= int2)."
    )]
    Order(String),
}

/// Why a word is no slot number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum NumberError {
    #[error("not started as an integer")]
    NotAnInteger,
    #[error("encounter non-integer characters")]
    TrailingCharacters,
    #[error("out of numeric range")]
    OutOfRange,
}

/// Parses `n` and `a-b` words separated by spaces. At least one range comes back; ranges may
/// overlap.
pub fn parse_slots(argument: &[u8]) -> Result<Vec<SlotRange>, SlotsError> {
    if argument.is_empty() {
        return Err(SlotsError::Empty);
    }
    let ranges = words(argument, b' ').map(parse_word).collect::<Result<Vec<_>, _>>()?;
    if ranges.is_empty() { Err(SlotsError::OnlySpaces(text(argument))) } else { Ok(ranges) }
}

fn parse_word(word: &[u8]) -> Result<SlotRange, SlotsError> {
    if !word.contains(&b'-') {
        return Ok(SlotRange::single(parse_slot(word)?));
    }
    if word.starts_with(b"-") || word.ends_with(b"-") {
        return Err(SlotsError::OuterDash(text(word)));
    }
    let mut ends = words(word, b'-');
    let (Some(first), Some(last), None) = (ends.next(), ends.next(), ends.next()) else {
        return Err(SlotsError::NotARange(text(word)));
    };
    match (parse_slot(first), parse_slot(last)) {
        (Ok(first), Ok(last)) => SlotRange::new(first, last),
        _ => None,
    }
    .ok_or_else(|| SlotsError::Order(text(word)))
}

fn parse_slot(word: &[u8]) -> Result<Slot, NumberError> {
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Err(NumberError::NotAnInteger);
    }
    if digits < word.len() {
        return Err(NumberError::TrailingCharacters);
    }
    slot_number(word).ok_or(NumberError::OutOfRange)
}

/// The slot that a word of digits only names; `None` when it is too large, empty or not digits.
pub(crate) fn slot_number(digits: &[u8]) -> Option<Slot> {
    number(digits).and_then(Slot::new)
}

/// An unsigned 16-bit number of decimal digits only: no sign, no spaces.
pub(crate) fn number(digits: &[u8]) -> Option<u16> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The non-empty pieces between separators.
pub(crate) fn words(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    text.split(move |byte| *byte == separator).filter(|word| !word.is_empty())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(argument: &str, expected: &str) {
        let got = match parse_slots(argument.as_bytes()) {
            Ok(ranges) => ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{argument:?}");
    }

    #[test]
    fn lists() {
        check("5", "5");
        check("7-7", "7");
        check("10-12 20 30-31", "10-12 20 30-31");
        check("  0-16383  ", "0-16383");
    }

    #[test]
    fn errors() {
        check("", "No slots to parse.");
        check("  ", "Invalid slots: `  `. No slots to parse. Please use spaces to separate slots.");
        check("abc", "Invalid slot id: not started as an integer");
        check("1x", "Invalid slot id: encounter non-integer characters");
        check("16384", "Invalid slot id: out of numeric range");
        check("99999999999999999999", "Invalid slot id: out of numeric range");
        let outer = "The character '-' can't appear in the first or last position.";
        check("-1", &format!("Invalid slot range: `-1`. {outer}"));
        check("1-", &format!("Invalid slot range: `1-`. {outer}"));
        check("-", &format!("Invalid slot range: `-`. {outer}"));
        check(
            "1-2-3",
            "Invalid slot range: `1-2-3`. The slot range should be of the form `int1-int2`.",
        );
        for word in ["5-1", "1-x", "0-16384"] {
            check(
                word,
                &format!(
                    "Invalid slot range: `{word}`. The slot range `int1-int2` needs to satisfy the condition (int1 <= int2)."
                ),
            );
        }
    }
}
