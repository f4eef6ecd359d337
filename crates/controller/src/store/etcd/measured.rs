//! What an operator should know of an etcd before it fails: how full it is, and how slow its reads
//! are. Pure: times and sizes go in, sentences come out.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::store::{Measures, Times};

/// How often etcd is asked for its size, and for how long reads are counted together.
const PACE: Duration = Duration::from_secs(30);
/// Share of the quota at which a person should act, percent.
const FULL: u64 = 80;
/// Share of reads that may be slow, percent, and how many must be before one speaks of it.
const SLOW: u64 = 1;
const SLOW_LEAST: u64 = 3;

/// What a member says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(rename = "dbSize")]
    size: String,
    /// Of version 3.6 and later.
    #[serde(rename = "dbSizeQuota", default)]
    quota: String,
    /// Of version 3.4 and later.
    #[serde(rename = "dbSizeInUse", default)]
    in_use: String,
    /// Alarms of all members, as text. Of version 3.4 and later.
    #[serde(default)]
    pub(super) errors: Vec<String>,
}

impl Status {
    /// On its disk, bytes.
    pub(super) fn size(&self) -> Option<u64> {
        self.size.parse().ok()
    }

    pub(super) fn room(&self) -> Option<Room> {
        let quota = self.quota.parse().ok().filter(|quota| *quota > 0)?;
        Some(Room { size: self.size()?, in_use: self.in_use.parse().ok(), quota })
    }
}

/// What a member has on its disk, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) size: u64,
    /// Of it, what is not free to be written again; as far as it says.
    pub(super) in_use: Option<u64>,
    pub(super) quota: u64,
}

impl Room {
    fn warning(&self) -> Option<String> {
        let Self { size, in_use, quota } = *self;
        if size.saturating_mul(100) < quota.saturating_mul(FULL) {
            return None;
        }
        let mb = |bytes: u64| bytes / 1_000_000;
        let how =
            format!("etcd has {} MB on its disk, and its quota is {} MB", mb(size), mb(quota));
        let then = "at the quota it takes no writes, and nobody fails over";
        Some(match in_use {
            Some(in_use) if in_use < size / 2 => format!(
                "{how}; {then}. {} MB of it are in use: defragment one member after the other (`etcdctl defrag`)",
                mb(in_use)
            ),
            _ => format!(
                "{how}; {then}. Have it forget its history (`--auto-compaction-retention 1`), then defragment one member \
                 after the other (`etcdctl defrag`), or raise `--quota-backend-bytes`"
            ),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reads {
    all: u64,
    slow: u64,
    slowest: Duration,
}

impl Reads {
    fn warning(&self, limit: Duration) -> Option<String> {
        let is_much = self.slow >= SLOW_LEAST && self.slow * 100 > self.all * SLOW;
        is_much.then(|| {
            format!(
                "etcd is slow: of {} reads in {} s {} took more than {} ms, the slowest {} ms; from {} ms on \
                 (`etcd_limit_ms`, and 250 at most) nobody leads by them. Look at its members' disks and at the network to them",
                self.all,
                PACE.as_secs(),
                self.slow,
                (limit / 2).as_millis(),
                self.slowest.as_millis(),
                limit.as_millis()
            )
        })
    }
}

/// What was measured of an etcd.
#[derive(Debug, Default)]
pub(super) struct Measured {
    due: Option<Instant>,
    /// Reads of the current period.
    now: Reads,
    /// Reads of the last period, which is over.
    whole: Reads,
    room: Option<Room>,
    /// What a member has on its disk, bytes, also where it does not say its quota.
    size: Option<u64>,
    /// All calls since the start.
    reads: Times,
    writes: Times,
    /// For so many answers more it counts as full, whatever they say: its alarm may come after the
    /// write that met the quota.
    full: u8,
    /// What it has said of itself: all of it is for people to end.
    alarms: Vec<String>,
    /// It is to be asked at each opportunity, until it answers that nothing is wrong.
    soon: bool,
}

impl Measured {
    /// A read that was answered took so long.
    pub(super) fn read(&mut self, took: Duration, limit: Duration) {
        self.reads.took(took);
        self.now.all += 1;
        self.now.slow += u64::from(took > limit / 2);
        self.now.slowest = self.now.slowest.max(took);
    }

    /// A change that was answered took so long.
    pub(super) fn wrote(&mut self, took: Duration) {
        self.writes.took(took);
    }

    /// Whether its size is to be asked for again.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.due.is_some_and(|due| now < due) {
            return self.soon;
        }
        self.due = Some(now + PACE);
        self.whole = std::mem::take(&mut self.now);
        true
    }

    /// Its size, and its quota; nothing of what it does not say.
    pub(super) fn room(&mut self, size: Option<u64>, room: Option<Room>) {
        (self.size, self.room) = (size, room);
    }

    /// It has answered a write with that.
    pub(super) fn said_full(&mut self) {
        (self.full, self.soon) = (2, true);
    }

    /// It has answered with these alarms, or faults, of its members. While there is trouble it is
    /// asked again and again: whoever ends it wants to see that.
    pub(super) fn alarms(&mut self, alarms: Vec<String>) {
        (self.full, self.alarms) = (self.full.saturating_sub(1), alarms);
        self.soon = self.trouble().is_some();
    }

    /// Why it takes no writes, though it answers. Reads go on then, and would hide it.
    pub(super) fn trouble(&self) -> Option<String> {
        let said = |word: &str| self.alarms.iter().find(|alarm| alarm.contains(word));
        if self.full > 0 || said("NOSPACE").is_some() {
            return Some(
                "etcd takes no writes, its quota is used up: compact and defragment it or raise \
                 `--quota-backend-bytes` of its members, and then `etcdctl alarm disarm`"
                    .to_owned(),
            );
        }
        let corrupt = said("CORRUPT")?;
        Some(format!("etcd says that a member's data differs from the others': {}", corrupt.trim()))
    }

    /// As far as it is known here.
    pub(super) fn measures(&self) -> Measures {
        let (size, quota) = (self.size, self.room.map(|room| room.quota));
        Measures { reads: self.reads, writes: self.writes, size, quota, ..Measures::default() }
    }

    /// For people.
    pub(super) fn warnings(&self, limit: Duration) -> Vec<String> {
        let room = self.room.as_ref().and_then(Room::warning);
        room.into_iter().chain(self.whole.warning(limit)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(250);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn how_full_an_etcd_is_is_known_where_it_says_its_quota() {
        let room = |text: &str| serde_json::from_str::<Status>(text).expect("a status").room();
        let text = r#"{"version":"3.6.0","dbSize":"20","dbSizeInUse":"10","dbSizeQuota":"30"}"#;
        assert_eq!(room(text), Some(Room { size: 20, in_use: Some(10), quota: 30 }));
        assert_eq!(room(r#"{"version":"3.4.23","dbSize":"20","dbSizeInUse":"10"}"#), None);
        let text = r#"{"dbSize":"20","errors":["memberID:7 alarm:NOSPACE "]}"#;
        let status: Status = serde_json::from_str(text).expect("a status");
        assert_eq!(status.errors, ["memberID:7 alarm:NOSPACE "]);
    }

    #[test]
    fn a_person_is_told_before_the_quota_is_reached_and_what_helps() {
        let warning = |size, in_use| {
            let mut measured = Measured::default();
            measured.room(Some(size), Some(Room { size, in_use, quota: 2_000_000_000 }));
            measured.warnings(LIMIT).pop()
        };
        assert_eq!(warning(1_599_999_999, None), None);
        let fragmented = warning(1_700_000_000, Some(100_000_000)).expect("a warning");
        assert!(fragmented.contains("1700 MB") && fragmented.contains("100 MB of it are in use"));
        assert!(!fragmented.contains("retention"), "{fragmented}");
        let history = warning(1_700_000_000, Some(1_600_000_000)).expect("a warning");
        assert!(history.contains("--auto-compaction-retention 1"), "{history}");
        assert_eq!(Measured::default().warnings(LIMIT), Vec::<String>::new());
    }

    #[test]
    fn numbers_are_of_all_calls_and_sizes_of_what_was_said_last() {
        let mut measured = Measured::default();
        measured.read(ms(3), LIMIT);
        measured.wrote(ms(7));
        // A period that is over takes nothing away from them.
        assert!(measured.is_due(Instant::now()));
        measured.wrote(ms(9));
        measured.room(Some(20), None);
        let measures = measured.measures();
        assert_eq!((measures.reads.count(), measures.writes.count()), (1, 2));
        assert_eq!((measures.size, measures.quota), (Some(20), None));
        measured.room(Some(30), Some(Room { size: 30, in_use: None, quota: 90 }));
        assert_eq!(measured.measures().quota, Some(90));
        measured.room(None, None);
        assert_eq!((measured.measures().size, measured.measures().quota), (None, None));
    }

    #[test]
    fn a_full_etcd_is_told_of_until_it_has_no_such_alarm_any_more() {
        let mut measured = Measured::default();
        let start = Instant::now();
        assert!(measured.is_due(start) && !measured.is_due(start));
        assert_eq!(measured.trouble(), None);
        measured.said_full();
        assert!(measured.trouble().expect("trouble").contains("alarm disarm"));
        assert!(measured.is_due(start), "it is asked at once");
        assert!(measured.is_due(start), "and again, where it did not answer");
        measured.alarms(Vec::new());
        assert!(measured.trouble().is_some(), "its alarm comes later than its answer");
        assert!(measured.is_due(start), "and again");
        measured.alarms(vec!["memberID:7 alarm:NOSPACE ".to_owned()]);
        assert!(measured.trouble().expect("trouble").contains("takes no writes"));
        assert!(measured.is_due(start));
        measured.alarms(vec!["memberID:7 alarm:CORRUPT ".to_owned()]);
        assert!(measured.trouble().expect("trouble").ends_with("memberID:7 alarm:CORRUPT"));
        assert!(measured.is_due(start));
        measured.alarms(vec!["etcdserver: no leader".to_owned()]);
        assert_eq!(measured.trouble(), None, "reads tell of that");
        assert!(!measured.is_due(start), "every day's pace");
    }

    #[test]
    fn slow_reads_are_told_once_they_are_more_than_a_few_and_no_longer_than_they_last() {
        let mut measured = Measured::default();
        let start = Instant::now();
        assert!(measured.is_due(start));
        for _ in 0..100 {
            measured.read(ms(5), LIMIT);
        }
        for _ in 0..2 {
            measured.read(ms(200), LIMIT);
        }
        assert!(!measured.is_due(start + ms(29_999)));
        assert!(measured.is_due(start + PACE));
        assert_eq!(measured.warnings(LIMIT), Vec::<String>::new());
        for took in [130, 140, 240, 125] {
            measured.read(ms(took), LIMIT);
        }
        assert!(measured.is_due(start + 2 * PACE));
        let told = measured.warnings(LIMIT).pop().expect("a warning");
        let words = "of 4 reads in 30 s 3 took more than 125 ms, the slowest 240 ms";
        assert!(told.contains(words), "{told}");
        assert!(measured.is_due(start + 3 * PACE));
        assert_eq!(measured.warnings(LIMIT), Vec::<String>::new());
    }
}
