//! What slots weigh: how many bytes their records take, about.
//!
//! A node says it of the slots it is asked for, in their order, as numbers divided by spaces. What
//! repeats is written once: `0*1020`. So an answer has at most as many numbers as there are slots.

use std::fmt::Write as _;

use topology::SLOT_COUNT;

use super::Malformed;

/// Bytes of each slot of a cluster; 0 where nothing is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights(Vec<u64>);

impl Default for Weights {
    fn default() -> Self {
        Self(vec![0; usize::from(SLOT_COUNT)])
    }
}

impl Weights {
    /// Of one slot.
    pub fn of(&self, slot: u16) -> u64 {
        self.0.get(usize::from(slot)).copied().unwrap_or_default()
    }

    /// Of one slot from now on; what is no slot is passed over.
    pub fn set(&mut self, slot: u16, bytes: u64) {
        if let Some(place) = self.0.get_mut(usize::from(slot)) {
            *place = bytes;
        }
    }

    /// Of these together.
    pub fn sum(&self, slots: impl IntoIterator<Item = u16>) -> u64 {
        slots.into_iter().map(|slot| self.of(slot)).fold(0, u64::saturating_add)
    }
}

/// Bytes that one slot may be said to weigh.
const MOST: u64 = 1 << 48;

/// As a node says them.
pub fn render(bytes: &[u64]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|bytes| *bytes == first).count();
        let blank = if text.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = match count {
            1 => write!(text, "{blank}{first}"),
            count => write!(text, "{blank}{first}*{count}"),
        };
        rest = &rest[count..];
    }
    text
}

/// Reads what [`render`] writes of so many slots.
///
/// # Errors
/// When it is nothing of that, says more or less, or more than any disk has in one slot.
pub fn parse(text: &str, slots: usize) -> Result<Vec<u64>, Malformed> {
    let number = |digits: &str| {
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()).flatten().ok_or(Malformed)
    };
    let mut all = Vec::new();
    for word in text.split(' ').filter(|_| !text.is_empty()) {
        let (bytes, count) = word.split_once('*').unwrap_or((word, "1"));
        let count = usize::try_from(number(count)?).map_err(|_| Malformed)?;
        // Looked at before anything is kept: the text is foreign.
        if count == 0 || count > slots.saturating_sub(all.len()) {
            return Err(Malformed);
        }
        // So that sums of all slots, with their signs, are numbers.
        let bytes = number(bytes).ok().filter(|bytes| *bytes <= MOST).ok_or(Malformed)?;
        all.resize(all.len() + count, bytes);
    }
    if all.len() == slots { Ok(all) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_repeats_is_said_once() {
        let bytes = [5, 0, 0, 0, 7, 7, 1 << 40];
        assert_eq!(render(&bytes), "5 0*3 7*2 1099511627776");
        assert_eq!(parse(&render(&bytes), 7), Ok(bytes.to_vec()));
        assert_eq!((render(&[]).as_str(), parse("", 0)), ("", Ok(vec![])));
        assert_eq!(parse("0*16384", 16_384), Ok(vec![0; 16_384]));
        for bad in [
            "281474976710657*2",
            "",
            "5",
            "5*3",
            "5*0 1*2",
            "1*",
            "*2",
            "+1*2",
            "1*99999999999999",
            "1  1",
            "x*2",
        ] {
            assert_eq!(parse(bad, 2), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn slots_of_which_nothing_is_known_weigh_nothing() {
        let mut weights = Weights::default();
        weights.set(3, 5);
        weights.set(16_383, u64::MAX);
        weights.set(16_384, 9);
        assert_eq!((weights.of(3), weights.of(4), weights.of(16_384)), (5, 0, 0));
        assert_eq!((weights.sum(0..4), weights.sum(0..16_384)), (5, u64::MAX));
    }

    proptest! {
        #[test]
        fn weights_are_read_back_as_they_were_written(
            bytes in proptest::collection::vec(0_u64..4, 0..60),
            text in "[0-9* ]{0,20}",
        ) {
            prop_assert_eq!(parse(&render(&bytes), bytes.len()), Ok(bytes.clone()));
            if let Ok(read) = parse(&text, 3) {
                prop_assert_eq!(read.len(), 3);
            }
        }
    }
}
