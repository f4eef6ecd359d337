//! What an etcd has made of a transaction that it answered with "full" (rule O4).
//!
//! It says so before it proposes anything and where it makes nothing of what was proposed, but also
//! of what it *has made*: a member that finds its quota reached by a committed transaction makes it
//! as all others do, and answers with the same words. Nothing is under way any more once they have
//! come, so one read tells what became of it.

use super::wire::{Answer, Compare, Found, Range, Write};

/// Whether these are those words.
pub(super) fn is_said(code: i64, message: &str) -> bool {
    code == 8 && message.contains("space exceeded")
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Made,
    NotMade,
    /// Somebody has written the same keys since, or before.
    Unknown,
}

/// Single keys that a transaction writes, and what each has by it.
fn after(writes: &[Write]) -> impl Iterator<Item = (&str, Option<&str>)> {
    writes.iter().filter_map(|write| match write {
        Write::Put(key, value) => Some((key.as_str(), Some(value.as_str()))),
        Write::Remove(key) => Some((key.as_str(), None)),
        Write::Trim(..) | Write::Clear(..) => None,
    })
}

/// What [`fate`] is to be shown.
pub(super) fn ranges(writes: &[Write]) -> Vec<Range> {
    after(writes).map(|(key, _)| Range::Key(key.to_owned())).collect()
}

/// What became of a transaction, by a read that was sent after its answer. Each puts something that
/// was never there before: a tag, a claim, an event of its own number.
pub(super) fn fate(compares: &[Compare], writes: &[Write], read: &Answer) -> Fate {
    let found: Vec<Found> = (0..after(writes).count()).map(|at| read.found(at)).collect();
    let keys = || after(writes).zip(found.iter().map(Found::value));
    if found.is_empty() {
        return Fate::Unknown;
    }
    if keys().all(|((_, value), found)| value == found) {
        return Fate::Made;
    }
    let is_not_made = keys().any(|((key, value), found)| {
        let is_other = value.is_some() && value != found;
        is_other && found.is_none_or(|found| compares.iter().any(|of| of.wants(key, found)))
    });
    if is_not_made { Fate::NotMade } else { Fate::Unknown }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn put(key: &str, value: &str) -> Write {
        Write::Put(key.to_owned(), value.to_owned())
    }

    /// An answer with a value, or none, for each key.
    fn read(values: &[Option<&str>]) -> Answer {
        let pair = |value: &str| json!({ "key": "aw==", "value": STANDARD.encode(value) });
        let one = |value: &Option<&str>| {
            let pairs: Vec<_> = value.iter().map(|value| pair(value)).collect();
            json!({ "response_range": { "kvs": pairs } })
        };
        let responses: Vec<_> = values.iter().map(one).collect();
        serde_json::from_value(json!({ "responses": responses })).expect("an answer")
    }

    #[test]
    fn a_change_of_a_record_that_was_made_is_told_from_one_that_was_not() {
        let compares = [
            Compare::Is("leader".to_owned(), "me".to_owned()),
            Compare::Is("tag".to_owned(), "1".to_owned()),
        ];
        let writes = [put("event", "e"), put("doc", "new"), put("tag", "2")];
        let told = |values: [Option<&str>; 3]| fate(&compares, &writes, &read(&values));
        assert_eq!(ranges(&writes).len(), 3);
        assert_eq!(told([Some("e"), Some("new"), Some("2")]), Fate::Made);
        assert_eq!(told([None, Some("old"), Some("1")]), Fate::NotMade);
        // Another leader has written: events have numbers that it may give again.
        assert_eq!(told([Some("x"), Some("other"), Some("3")]), Fate::Unknown);
    }

    #[test]
    fn a_removal_is_known_by_the_event_in_its_transaction() {
        let compares = [Compare::Present("user".to_owned())];
        let trim = Write::Trim("a".to_owned(), "b".to_owned());
        let writes = [put("event", "e"), trim, Write::Remove("user".to_owned())];
        let told = |values: [Option<&str>; 2]| fate(&compares, &writes, &read(&values));
        assert_eq!(ranges(&writes).len(), 2);
        assert_eq!(told([Some("e"), None]), Fate::Made);
        assert_eq!(told([None, Some("u")]), Fate::NotMade);
        assert_eq!(told([None, None]), Fate::NotMade, "it was gone before");
        assert_eq!(told([Some("e"), Some("v")]), Fate::Unknown, "it is there anew");
        let nothing = [Write::Clear("all/".to_owned())];
        assert_eq!(fate(&[], &nothing, &read(&[])), Fate::Unknown);
    }

    #[test]
    fn a_claim_is_known_by_its_value() {
        let free = [Compare::Absent("leader".to_owned())];
        let taken = [Compare::Is("leader".to_owned(), "old".to_owned())];
        let writes = [put("leader", "me")];
        assert_eq!(fate(&taken, &writes, &read(&[Some("me")])), Fate::Made);
        assert_eq!(fate(&taken, &writes, &read(&[Some("old")])), Fate::NotMade);
        assert_eq!(fate(&taken, &writes, &read(&[Some("another")])), Fate::Unknown);
        assert_eq!(fate(&free, &writes, &read(&[None])), Fate::NotMade);
    }

    #[test]
    fn only_these_words_mean_that_it_is_full() {
        assert!(is_said(8, "etcdserver: mvcc: database space exceeded"));
        assert!(!is_said(8, "etcdserver: too many requests"));
        assert!(!is_said(14, "etcdserver: mvcc: database space exceeded"));
    }
}
