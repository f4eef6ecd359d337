//! All clusters in short, made once for everybody who looks at one moment.

use std::sync::Arc;

use api::rest::ClusterOverview;
use parking_lot::Mutex;
use planner::Time;

/// For so long what was made is good, ms.
const GOOD_MS: u64 = 200;

/// What there is to tell, of whatever namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What is wrong with the controller itself.
    pub(crate) troubles: Vec<String>,
    /// By namespace and name.
    pub(crate) clusters: Vec<ClusterOverview>,
}

/// The last that was made, and when.
#[derive(Debug, Default)]
pub(crate) struct InShort(Mutex<Option<(Time, Arc<Seen>)>>);

impl InShort {
    /// What `make` makes, asked at most every 200 ms. As long as it is the same, so is the [`Arc`].
    pub(crate) fn newest(&self, now: Time, make: impl FnOnce() -> Seen) -> Arc<Seen> {
        let mut last = self.0.lock();
        if let Some((at, seen)) = &*last
            && now.millis_since(*at) < GOOD_MS
        {
            return Arc::clone(seen);
        }
        let made = make();
        let same = last.take().map(|(_, seen)| seen).filter(|seen| **seen == made);
        let seen = same.unwrap_or_else(|| Arc::new(made));
        *last = Some((now, Arc::clone(&seen)));
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(trouble: &str) -> Seen {
        Seen { troubles: vec![trouble.to_owned()], clusters: Vec::new() }
    }

    #[test]
    fn it_is_made_once_for_all_and_stays_the_same_until_it_differs() {
        let in_short = InShort::default();
        let at = |ms: u64, trouble: &str| {
            in_short.newest(Time::from_nanos(ms * 1_000_000), || of(trouble))
        };
        let first = at(0, "a");
        assert_eq!(*first, of("a"));
        // Good for a while, whatever is so by now.
        assert!(Arc::ptr_eq(&at(GOOD_MS - 1, "b"), &first));
        let again = at(GOOD_MS, "a");
        assert!(Arc::ptr_eq(&again, &first), "made anew, and the same");
        // A moment that was taken before the last one does not make it anew.
        assert!(Arc::ptr_eq(&at(0, "b"), &first));
        let other = at(2 * GOOD_MS, "b");
        assert!(!Arc::ptr_eq(&other, &first));
        assert_eq!(*other, of("b"));
    }
}
