//! How fast a move copies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most that the copy of a move brings in a second: whole MB, of a million bytes, from
/// [`Rate::MIN`] to [`Rate::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub struct Rate(u32);

/// Why a number is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("MB a second expected, from {} to {}", Rate::MIN, Rate::MAX)]
pub struct RateError;

impl Rate {
    /// The least.
    pub const MIN: u32 = 1;
    /// The most.
    pub const MAX: u32 = 10_000;
    /// Bytes a second of the least.
    pub const MIN_BYTES_PER_S: u64 = 1_000_000;
    /// That of a move for which nothing else was said.
    pub const USUAL: Self = Self(64);

    /// So many MB a second.
    ///
    /// # Errors
    /// When that is less than [`Rate::MIN`], or more than [`Rate::MAX`].
    pub fn new(mb: u32) -> Result<Self, RateError> {
        if (Self::MIN..=Self::MAX).contains(&mb) { Ok(Self(mb)) } else { Err(RateError) }
    }

    /// MB a second.
    pub fn mb(self) -> u32 {
        self.0
    }

    /// Bytes a second.
    pub fn bytes_per_s(self) -> u64 {
        u64::from(self.0) * Self::MIN_BYTES_PER_S
    }

    /// How long so many bytes take at it, microseconds.
    pub fn micros_of(self, bytes: u64) -> u64 {
        bytes / u64::from(self.0)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Rate {
    type Err = RateError;
    fn from_str(text: &str) -> Result<Self, RateError> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let mb = is_number.then(|| text.parse().ok()).flatten();
        Self::new(mb.ok_or(RateError)?)
    }
}

impl From<Rate> for u32 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

impl TryFrom<u32> for Rate {
    type Error = RateError;
    fn try_from(mb: u32) -> Result<Self, RateError> {
        Self::new(mb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_within_bounds() {
        for (text, mb) in [("1", 1), ("64", 64), ("10000", 10_000)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.mb(), rate.to_string().as_str()), (mb, text));
            let json = serde_json::to_string(&rate).unwrap();
            assert_eq!((json.as_str(), serde_json::from_str(&json).unwrap()), (text, rate));
        }
        for bad in ["", "0", "10001", "+1", "-1", "1.5", "99999999999"] {
            assert_eq!(bad.parse::<Rate>(), Err(RateError), "{bad}");
        }
        assert!(serde_json::from_str::<Rate>("0").is_err());
        assert_eq!(RateError.to_string(), "MB a second expected, from 1 to 10000");
        assert_eq!(Rate::USUAL.micros_of(128_000_000), 2_000_000);
    }
}
