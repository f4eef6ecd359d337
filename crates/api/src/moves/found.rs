//! Which slots have keys at a node, and of which its data says that it does not have them: what a
//! controller asks before it gives slots to a node that has data.
//!
//! Two lines, `keys <ranges>` and `foreign <ranges>`; `-` for none.

use std::fmt;
use std::str::FromStr;

use topology::SLOT_COUNT;

use super::Malformed;

/// Ranges of slots, both ends included, that rise and do not overlap.
pub type Ranges = Vec<(u16, u16)>;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Slots with keys that are the shard's, as far as the data says.
    pub keys: Ranges,
    /// Slots whose data here is a copy in part, or was given away.
    pub foreign: Ranges,
}

impl Found {
    /// What is in the way of a shard that is given these slots: keys that nobody would find, and
    /// slots whose data is elsewhere. Nothing is in the way of a node without any keys, whatever
    /// moves it was in: its marks are those of another cluster.
    ///
    /// # Errors
    /// Which slots, and what of them.
    pub fn fits(&self, given: &[(u16, u16)]) -> Result<(), String> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let is_given = |slot: &u16| given.iter().any(|range| (range.0..=range.1).contains(slot));
        let lost = joined(slots(&self.keys).filter(|slot| !is_given(slot)));
        if !lost.is_empty() {
            let (lost, given) = (Shown(&lost), Shown(given));
            return Err(format!("it has keys in slots {lost}, and is to be given {given}"));
        }
        let missing = joined(slots(&self.foreign).filter(is_given));
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "it is to be given slots {}, and by its data they were given away, or have not come",
                Shown(&missing)
            )),
        }
    }
}

fn slots(ranges: &[(u16, u16)]) -> impl Iterator<Item = u16> + '_ {
    ranges.iter().flat_map(|&(first, last)| first..=last)
}

fn joined(slots: impl Iterator<Item = u16>) -> Ranges {
    let mut ranges = Ranges::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

/// As a text without blanks.
struct Shown<'a>(&'a [(u16, u16)]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys {}\r\nforeign {}\r\n", Shown(&self.keys), Shown(&self.foreign))
    }
}

impl FromStr for Found {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut lines = text.lines();
        let mut line = |name: &str| {
            let (word, ranges) = lines.next()?.split_once(' ')?;
            if word == name { ranges_of(ranges) } else { None }
        };
        let (keys, foreign) = (line("keys"), line("foreign"));
        Ok(Self { keys: keys.ok_or(Malformed)?, foreign: foreign.ok_or(Malformed)? })
    }
}

/// More than a move may have: single slots may have keys anywhere.
fn ranges_of(text: &str) -> Option<Ranges> {
    if text == "-" {
        return Some(Ranges::new());
    }
    let mut ranges = Ranges::new();
    let mut from = 0;
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first < from || last < first || last >= SLOT_COUNT {
            return None;
        }
        ranges.push((first, last));
        from = last + 1;
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_back() {
        let many = (0..SLOT_COUNT / 2).map(|slot| (slot * 2, slot * 2)).collect();
        let all = [
            Found::default(),
            Found { keys: vec![(0, 5), (7, 7)], foreign: vec![(6, 6), (16_383, 16_383)] },
            Found { keys: many, foreign: vec![(0, 16_383)] },
        ];
        for found in all {
            assert_eq!(found.to_string().parse(), Ok(found));
        }
        for bad in
            ["", "keys 1", "keys 1\r\nforeign", "keys 5-4\r\nforeign -", "keys 5,5\r\nforeign -"]
        {
            assert_eq!(bad.parse::<Found>(), Err(Malformed), "{bad}");
        }
        assert!("keys 16384\r\nforeign -".parse::<Found>().is_err());
    }

    #[test]
    fn slots_that_contradict_the_data_are_named() {
        let found = Found { keys: vec![(0, 9), (20, 29)], foreign: vec![(10, 19)] };
        assert_eq!(found.fits(&[(0, 9), (20, 16_383)]), Ok(()));
        let told = found.fits(&[(0, 4), (20, 100)]).unwrap_err();
        assert_eq!(told, "it has keys in slots 5-9, and is to be given 0-4,20-100");
        let told = found.fits(&[(0, 16_383)]).unwrap_err();
        assert!(told.starts_with("it is to be given slots 10-19, and by its data"), "{told}");
        assert_eq!(Found::default().fits(&[(5, 6)]), Ok(()));
        let drained = Found { keys: Vec::new(), foreign: vec![(0, 16_383)] };
        assert_eq!(drained.fits(&[(0, 5_460)]), Ok(()), "a node that is used again");
    }
}
