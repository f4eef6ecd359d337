//! How far a full sync is.

/// The files of a full sync, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// That are there.
    pub done: u64,
    /// Of so many; `None` where the master does not tell before it has sent them, as Kvrocks.
    pub of: Option<u64>,
}

impl Copied {
    /// What can be read of the two fields: nothing is decided by it, it is only told to people.
    pub(super) fn read(done: Option<&str>, of: Option<&str>) -> Option<Self> {
        let of = of.and_then(|of| of.parse().ok());
        done.and_then(|done| done.parse().ok()).map(|done| Self { done, of })
    }

    /// Per cent, rounded down to a multiple of ten: what an alarm says must not change all the
    /// time.
    pub fn tenths_percent(self) -> Option<u64> {
        let of = self.of.filter(|of| *of > 0)?;
        let tenths = u128::from(self.done) * 10 / u128::from(of);
        Some(u64::try_from(tenths).unwrap_or(u64::MAX).min(10) * 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_in_tenths() {
        let share = |done, of| Copied { done, of }.tenths_percent();
        assert_eq!(share(49, Some(100)), Some(40));
        assert_eq!(
            (share(0, Some(7)), share(7, Some(7)), share(8, Some(7))),
            (Some(0), Some(100), Some(100))
        );
        assert_eq!((share(5, None), share(5, Some(0))), (None, None));
        assert_eq!(share(u64::MAX, Some(u64::MAX)), Some(100));
    }
}
