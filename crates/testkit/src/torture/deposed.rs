//! Answers of a node that is not master any more.
//!
//! Pure. Only what is certain counts: the operation was sent after a version was in force under
//! which its shard had another master, and its answer was read while that version still was. A late
//! answer to an operation that was sent before is none: it may have taken effect before the
//! promotion.

use super::history::{Answer, Call, Outcome, Record};
use super::keys::Key;
use super::observer::Reign;

/// Positions of such answers, each with the version that deposed.
pub fn answers(records: &[Record], keys: &[Key], reigns: &[Reign]) -> Vec<(usize, i64)> {
    let is_late = |record: &Record| -> Option<i64> {
        let Outcome::Answered(answer) = &record.outcome else { return None };
        // A replica passes a message on to its own subscribers, as in Redis.
        if matches!(answer, Answer::Garbage(_)) || matches!(record.call, Call::Publish(_)) {
            return None;
        }
        let by = record.by.as_deref()?;
        let key = keys.get(record.key)?;
        let reign = reigns.iter().find(|reign| {
            reign.from < record.invoked
                && record.ended < reign.to
                && reign.master_of(key).is_some_and(|master| master != by)
        })?;
        Some(reign.version)
    };
    let found = records.iter().enumerate();
    found.filter_map(|(index, record)| Some((index, is_late(record)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::keys::Kind;
    use super::*;

    fn record(by: &str, invoked: u64, ended: u64) -> Record {
        Record {
            client: 1,
            key: 0,
            call: Call::Set(1),
            invoked,
            ended,
            outcome: Outcome::Answered(Answer::Done),
            by: Some(by.into()),
        }
    }

    fn reign(version: i64, master: &str, from: u64, to: u64) -> Reign {
        Reign {
            version,
            masters: vec![master.to_owned()],
            replicas: Vec::new(),
            slots: vec![vec![(0, 16_383)]],
            in_doubt: Vec::new(),
            from,
            to,
        }
    }

    #[test]
    fn only_an_operation_that_began_after_the_promotion_counts() {
        let keys = [Key {
            name: "k".to_owned(),
            kind: Kind::Register,
            shard: 0,
            ttl_ms: 0,
            successor: None,
        }];
        let reigns = [reign(1, "old", 0, 90), reign(2, "new", 110, 500), reign(3, "old", 520, 900)];
        let records = [
            record("old", 50, 60),
            record("old", 100, 300),
            record("old", 120, 130),
            record("new", 120, 130),
            record("old", 490, 510),
            record("old", 530, 540),
            Record { outcome: Outcome::Refused("MOVED".to_owned()), ..record("old", 120, 130) },
            Record { by: None, ..record("old", 120, 130) },
        ];
        assert_eq!(answers(&records, &keys, &reigns), [(2, 2)]);
    }
}
