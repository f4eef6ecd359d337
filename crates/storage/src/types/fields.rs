//! How a hash keeps its fields: plainly, or each with a lifetime (Kvrocks' `field-expiration`).
//!
//! The metadata of a hash with lifetimes has a tail: a byte 1, how many fields are endless, and the
//! bounds of the other ones' ends. Each of its values begins with the end of its field. Which form
//! a hash has never changes under one version, so that a value cannot be taken for the other form.
//!
//! The size counts what is stored, and what compaction has removed since: it is exact up to the
//! lower bound. Ends are Unix ms; 0 is never. A field is there through the millisecond in which it
//! ends, as a key is.

use crate::Error;

/// What stands before a value of a hash with lifetimes.
const END_BYTES: usize = 8;
/// The first byte of the tail.
const WITH_LIFETIMES: u8 = 1;

/// The form of a hash: its tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// No tail; values as they are.
    #[default]
    Plain,
    /// Each field has an end.
    Timed(Times),
}

/// What the metadata knows of the ends of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Fields without an end.
    pub endless: u64,
    /// No field that has an end ends earlier; 0 is unknown, or there is none.
    pub lower_ms: u64,
    /// No field ends later; 0 is unknown, or there is none.
    pub upper_ms: u64,
}

impl Form {
    /// `None` for a tail of a form that is not known.
    pub fn read(tail: &[u8]) -> Option<Self> {
        if tail.is_empty() {
            return Some(Self::Plain);
        }
        let (&WITH_LIFETIMES, rest) = tail.split_first()? else { return None };
        let (numbers, []) = rest.as_chunks::<8>() else { return None };
        let [endless, lower_ms, upper_ms] = *numbers else { return None };
        Some(Self::Timed(Times {
            endless: u64::from_be_bytes(endless),
            lower_ms: u64::from_be_bytes(lower_ms),
            upper_ms: u64::from_be_bytes(upper_ms),
        }))
    }

    /// Appends the tail.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Self::Timed(times) = self {
            out.push(WITH_LIFETIMES);
            for number in [times.endless, times.lower_ms, times.upper_ms] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
    }

    /// First log data of a batch about such a hash; the form stands in it for those who read
    /// batches without metadata.
    pub fn log_data(&self) -> &'static [u8] {
        match self {
            Self::Plain => b"2",
            Self::Timed(_) => b"2 13 1",
        }
    }

    /// The end of a field and its value.
    ///
    /// # Errors
    /// The value has no end in front.
    pub fn split<'v>(&self, stored: &'v [u8]) -> Result<(u64, &'v [u8]), Error> {
        if *self == Self::Plain {
            return Ok((0, stored));
        }
        let (end_ms, value) = stored
            .split_first_chunk::<END_BYTES>()
            .ok_or_else(|| Error::corrupt("decode a stored value", "a field without its end"))?;
        Ok((u64::from_be_bytes(*end_ms), value))
    }

    /// Bytes in front of every value.
    pub fn ahead(&self) -> usize {
        if *self == Self::Plain { 0 } else { END_BYTES }
    }

    /// Whether size is what it says: nothing has ended yet.
    pub fn is_exact(&self, size: u64, now_ms: u64) -> bool {
        match self {
            Self::Plain => true,
            Self::Timed(times) => times.endless == size || times.lower_ms >= now_ms,
        }
    }
}

impl Times {
    /// Whether every field has ended.
    pub fn are_over(&self, now_ms: u64) -> bool {
        self.endless == 0 && self.upper_ms != 0 && self.upper_ms < now_ms
    }
}

/// Whether a field that ends then has ended.
pub fn is_over(end_ms: u64, now_ms: u64) -> bool {
    end_ms != 0 && end_ms < now_ms
}

/// What is stored for a field, as far as counting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Nothing,
    /// A value that ends then; 0 for never.
    Until(u64),
}

/// The numbers of a hash while its fields change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Fields.
    pub size: u64,
    /// How they are kept.
    pub form: Form,
    /// A bound may be further out than it need be: the field that was there has gone.
    pub is_loose: bool,
}

impl Count {
    /// A field was kept as `was`, and is now kept as `is`.
    pub fn note(&mut self, was: Stored, is: Stored) {
        let has_ends = match self.form {
            Form::Plain => false,
            Form::Timed(times) => times.endless != self.size,
        };
        match (was, is) {
            (Stored::Nothing, Stored::Until(_)) => self.size = self.size.saturating_add(1),
            (Stored::Until(_), Stored::Nothing) => self.size = self.size.saturating_sub(1),
            _ => {}
        }
        let Form::Timed(times) = &mut self.form else { return };
        if was == Stored::Until(0) {
            times.endless = times.endless.saturating_sub(1);
        }
        if is == Stored::Until(0) {
            times.endless = times.endless.saturating_add(1);
        }
        if let Stored::Until(end_ms) = was {
            let is_bound = end_ms == times.lower_ms || end_ms == times.upper_ms;
            self.is_loose |= end_ms != 0 && was != is && is_bound;
        }
        if let Stored::Until(end_ms @ 1..) = is {
            if has_ends {
                // Of what is unknown nothing is known afterwards either.
                times.lower_ms = times.lower_ms.min(end_ms);
                times.upper_ms = if times.upper_ms == 0 { 0 } else { times.upper_ms.max(end_ms) };
            } else {
                (times.lower_ms, times.upper_ms) = (end_ms, end_ms);
            }
        }
        times.endless = times.endless.min(self.size);
        if times.endless == self.size {
            (times.lower_ms, times.upper_ms) = (0, 0);
            self.is_loose = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timed(endless: u64, lower_ms: u64, upper_ms: u64) -> Form {
        Form::Timed(Times { endless, lower_ms, upper_ms })
    }

    #[test]
    fn the_tail_is_that_of_kvrocks() {
        let mut tail = Vec::new();
        timed(3, 0x10, 0x0102_0304_0506_0708).write(&mut tail);
        let bytes = b"\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x10\x01\x02\x03\x04\x05\x06\x07\x08";
        assert_eq!(tail, bytes);
        assert_eq!(Form::read(bytes), Some(timed(3, 0x10, 0x0102_0304_0506_0708)));
        assert_eq!((Form::read(&[]), Form::Plain.ahead()), (Some(Form::Plain), 0));
        for foreign in [&bytes[..24], &[&bytes[..], b"\0"].concat(), b"\x02", &[2; 25], &[0; 25]] {
            assert_eq!(Form::read(foreign), None, "{foreign:?}");
        }
        let value = timed(0, 0, 0).split(b"\0\0\0\0\0\0\0\x05value").unwrap();
        assert_eq!(value, (5, &b"value"[..]));
        assert!(timed(0, 0, 0).split(b"\0\0\0\0\0\0\x05").is_err());
        assert_eq!(Form::Plain.split(b"\0").unwrap(), (0, &b"\0"[..]));
    }

    #[test]
    fn a_field_lives_through_the_millisecond_in_which_it_ends() {
        assert!(!is_over(0, 9) && !is_over(9, 9) && is_over(8, 9));
        let times = Times { endless: 0, lower_ms: 5, upper_ms: 8 };
        assert!(!times.are_over(8) && times.are_over(9));
        assert!(!Times { endless: 1, ..times }.are_over(9));
        assert!(!Times { upper_ms: 0, ..times }.are_over(9));
        assert!(timed(1, 5, 8).is_exact(2, 5) && !timed(1, 5, 8).is_exact(2, 6));
        assert!(timed(2, 0, 0).is_exact(2, 9) && !timed(1, 0, 0).is_exact(2, 9));
    }

    #[test]
    fn a_bound_that_went_is_known_to_be_loose() {
        let mut count = Count { size: 2, form: timed(2, 0, 0), is_loose: false };
        count.note(Stored::Until(0), Stored::Until(7));
        assert_eq!(count, Count { size: 2, form: timed(1, 7, 7), is_loose: false });
        count.note(Stored::Nothing, Stored::Until(9));
        assert_eq!(count, Count { size: 3, form: timed(1, 7, 9), is_loose: false });
        count.note(Stored::Until(9), Stored::Nothing);
        assert_eq!(count, Count { size: 2, form: timed(1, 7, 9), is_loose: true });
        count.note(Stored::Until(7), Stored::Until(0));
        assert_eq!(count, Count { size: 2, form: timed(2, 0, 0), is_loose: false });
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_fields(
            steps in proptest::collection::vec((0usize..4, prop_oneof![Just(None), (0u64..5).prop_map(Some)]), 0..40),
        ) {
            let mut fields = [Stored::Nothing; 4];
            let mut count = Count { size: 0, form: timed(0, 0, 0), is_loose: false };
            for (field, is) in steps {
                let is = is.map_or(Stored::Nothing, Stored::Until);
                count.note(fields[field], is);
                fields[field] = is;
                let ends: Vec<u64> = fields
                    .iter()
                    .filter_map(|field| match field {
                        Stored::Until(end_ms) => Some(*end_ms),
                        Stored::Nothing => None,
                    })
                    .collect();
                let Form::Timed(times) = count.form else { panic!("another form") };
                prop_assert_eq!(count.size, ends.len() as u64);
                prop_assert_eq!(times.endless, ends.iter().filter(|end| **end == 0).count() as u64);
                let limited = ends.iter().copied().filter(|end| *end != 0);
                let (first, last) = (limited.clone().min(), limited.max());
                match first.zip(last) {
                    None => prop_assert_eq!((times.lower_ms, times.upper_ms), (0, 0)),
                    Some((first, last)) => {
                        prop_assert!(times.lower_ms <= first && last <= times.upper_ms);
                        let is_tight = times.lower_ms == first && times.upper_ms == last;
                        prop_assert!(count.is_loose || is_tight);
                    }
                }
            }
        }

        #[test]
        fn foreign_numbers_never_panic(size: u64, endless: u64, lower: u64, upper: u64, was: u64, is: u64) {
            let all = [Stored::Nothing, Stored::Until(0), Stored::Until(was), Stored::Until(is)];
            for (was, is) in all.into_iter().flat_map(|was| all.map(|is| (was, is))) {
                let mut count = Count { size, form: timed(endless, lower, upper), is_loose: false };
                count.note(was, is);
            }
        }
    }
}
