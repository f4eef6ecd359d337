//! How fast a copy of slots is: for people, nothing is decided by it.

use api::moves::Progress;
use api::rest::MoveProgress;
use planner::Time;

/// What a taker has said of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    /// The first of this process of the taker, and when.
    first: (Time, u64),
    /// The newest, and when.
    newest: (Time, Progress),
}

impl Copied {
    /// After another answer. A taker that began anew counts from 0.
    pub(super) fn after(known: Option<&Self>, said: Progress, at: Time) -> Self {
        let first = known.filter(|known| known.newest.1.bytes <= said.bytes);
        Self { first: first.map_or((at, said.bytes), |known| known.first), newest: (at, said) }
    }

    pub(crate) fn progress(&self) -> MoveProgress {
        let (since, before) = self.first;
        let (at, Progress { records, bytes, of_bytes, .. }) = self.newest;
        let ms = at.millis_since(since);
        let more = u128::from(bytes.saturating_sub(before));
        let rate = (more * 1_000).checked_div(u128::from(ms));
        let rate = rate.and_then(|rate| u64::try_from(rate).ok());
        let left = of_bytes.map(|all| u128::from(all.saturating_sub(bytes)) * 1_000);
        let left = left.zip(rate).and_then(|(left, rate)| left.checked_div(rate.into()));
        let left_ms = left.and_then(|left| u64::try_from(left).ok());
        MoveProgress { records, bytes, of_bytes, bytes_per_s: rate, left_ms }
    }
}

#[cfg(test)]
mod tests {
    use api::moves::MoveId;

    use super::*;

    #[test]
    fn rate_and_time_left_follow_from_what_was_seen() {
        let said = |bytes| Progress { id: MoveId(1), records: 1, bytes, of_bytes: Some(9_000) };
        let at = Time::from_millis;
        let first = Copied::after(None, said(1_000), at(0));
        assert_eq!((first.progress().bytes_per_s, first.progress().left_ms), (None, None));
        let later = Copied::after(Some(&first), said(5_000), at(2_000)).progress();
        assert_eq!((later.bytes_per_s, later.left_ms), (Some(2_000), Some(2_000)));
        let idle = Copied::after(Some(&first), said(1_000), at(2_000)).progress();
        assert_eq!((idle.bytes_per_s, idle.left_ms), (Some(0), None));
        let anew = Copied::after(Some(&first), said(10), at(3_000));
        assert_eq!(anew, Copied::after(None, said(10), at(3_000)));
    }
}
