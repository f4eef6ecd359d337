//! What happened, when and why: the log behind `ctl events`.
//!
//! What belongs to a change is written in the change's transaction. The rest goes through
//! [`Journal`], which waits for nobody's disk, and in which what repeats is counted instead of
//! written.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::rest::{Actor, if_known};
use parking_lot::Mutex;
use planner::ShardId;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the log; given by the store.
    #[serde(default)]
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Term of the controller that wrote it.
    pub term: u64,
    /// `namespace/cluster`, empty for the controller itself.
    pub cluster: String,
    /// Of the history: `failover`, `switchover`, `loss`, `operator`, `move`, `start`. Of every day:
    /// `change`, `alarm`, `over`, `failed`.
    pub kind: String,
    /// What happened and why.
    pub text: String,
    /// The shard that it is about by its lasting name, where something is made of it later: an
    /// index shifts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardId>,
    /// By whom, where somebody asked for it: then it is of the audit. Earlier versions pass it
    /// over.
    #[serde(default, deserialize_with = "if_known", skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
}

impl Event {
    /// An entry of this moment.
    pub fn now(term: u64, cluster: String, kind: &str, text: String) -> Self {
        let kind = kind.to_owned();
        Self { number: 0, at_ms: now_ms(), term, cluster, kind, text, shard: None, by: None }
    }

    /// What `actor` asks for at this moment.
    pub(crate) fn asked(actor: &Actor, term: u64, cluster: String, text: String) -> Self {
        Self { by: Some(actor.clone()), ..Self::now(term, cluster, "operator", text) }
    }

    /// Kept apart from every day's, and long: what is asked for after weeks.
    pub(crate) fn is_history(&self) -> bool {
        matches!(&*self.kind, "failover" | "switchover" | "loss" | "operator" | "move" | "start")
    }
}

/// An event that comes again within so long, ms, is counted; twice as long each time that it does.
const AGAIN_MS: u64 = 60_000;
/// Longest of those times, ms.
const AGAIN_MAX_MS: u64 = 3_600_000;
/// Texts that are watched for repetition at most.
const WATCHED_MAX: usize = 1_000;
/// Events that wait for the disk at most.
const WAITING_MAX: usize = 1_000;

/// One text that was written lately.
#[derive(Debug)]
struct Watched {
    until_ms: u64,
    for_ms: u64,
    again: u64,
    last: Event,
}

/// Counts what repeats: an error that alternates between two texts would else drive everything else
/// out of the log.
#[derive(Debug, Default)]
struct Repeats(BTreeMap<(String, String, String), Watched>);

impl Repeats {
    /// The event, if it is to be written; `None` if it is only counted.
    fn take(&mut self, event: Event) -> Option<Event> {
        if event.is_history() {
            return Some(event);
        }
        let key = (event.cluster.clone(), event.kind.clone(), event.text.clone());
        if let Some(watched) = self.0.get_mut(&key) {
            watched.again += 1;
            watched.last = event;
            return None;
        }
        if self.0.len() < WATCHED_MAX {
            let until_ms = event.at_ms.saturating_add(AGAIN_MS);
            let watched = Watched { until_ms, for_ms: AGAIN_MS, again: 0, last: event.clone() };
            self.0.insert(key, watched);
        }
        Some(event)
    }

    /// What was counted until `now_ms`, as far as its time is over.
    fn due(&mut self, now_ms: u64) -> Vec<Event> {
        let mut told = Vec::new();
        self.0.retain(|_, watched| {
            // A clock that was set back must not keep it for ever.
            let began_ms = watched.until_ms.saturating_sub(watched.for_ms);
            if (began_ms..watched.until_ms).contains(&now_ms) {
                return true;
            }
            if watched.again == 0 {
                return false;
            }
            let mut event = watched.last.clone();
            let (times, seconds) = (watched.again, watched.for_ms / 1_000);
            event.text.push_str(&format!(" ({times} times more within {seconds} s)"));
            told.push(event);
            watched.again = 0;
            watched.for_ms = (watched.for_ms * 2).min(AGAIN_MAX_MS);
            watched.until_ms = now_ms.saturating_add(watched.for_ms);
            true
        });
        told
    }
}

#[derive(Debug, Default)]
struct Waiting {
    repeats: Repeats,
    events: VecDeque<Event>,
    dropped: u64,
}

/// Events on their way to the store. Adding one waits for nothing.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    waiting: Mutex<Waiting>,
    added: Notify,
}

/// How often counts are looked at, and a store that failed is tried again.
const PACE: Duration = Duration::from_secs(1);

impl Journal {
    /// Adds an event; false if it is only counted, because it was written lately.
    pub(crate) fn add(&self, event: Event) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(event) = waiting.repeats.take(event) else { return false };
        waiting.push(event);
        drop(waiting);
        self.added.notify_one();
        true
    }

    /// Writes what was added, for ever. `write` may wait for the disk; what it does not take is
    /// tried again.
    pub(crate) async fn run<F: Future<Output = bool>>(&self, write: impl Fn(Vec<Event>) -> F) {
        loop {
            let events = self.waiting.lock().taken();
            if !events.is_empty() && !write(events.clone()).await {
                self.waiting.lock().back(events);
                tokio::time::sleep(PACE).await;
                continue;
            }
            tokio::select! {
                () = self.added.notified() => {}
                () = tokio::time::sleep(PACE) => {}
            }
        }
    }
}

impl Waiting {
    fn push(&mut self, event: Event) {
        if self.events.len() >= WAITING_MAX {
            self.dropped += 1;
            // What is kept long goes last.
            let place = self.events.iter().position(|event| !event.is_history()).unwrap_or(0);
            self.events.remove(place);
        }
        self.events.push_back(event);
    }

    fn taken(&mut self) -> Vec<Event> {
        for event in self.repeats.due(now_ms()) {
            self.push(event);
        }
        let dropped = std::mem::take(&mut self.dropped);
        let mut events: Vec<Event> = std::mem::take(&mut self.events).into();
        if dropped > 0
            && let Some(first) = events.first()
        {
            let text = format!("{dropped} events were dropped while the store took none");
            events.insert(0, Event::now(first.term, String::new(), "failed", text));
        }
        events
    }

    fn back(&mut self, events: Vec<Event>) {
        for event in events.into_iter().rev() {
            self.events.push_front(event);
        }
        while self.events.len() > WAITING_MAX {
            self.dropped += 1;
            self.events.pop_front();
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_ms: u64, kind: &str, text: &str) -> Event {
        Event { at_ms, ..Event::now(1, "n/c".to_owned(), kind, text.to_owned()) }
    }

    /// A half-open forward fails now with one error and now with another.
    #[test]
    fn errors_that_alternate_are_counted() {
        let mut repeats = Repeats::default();
        let mut written = Vec::new();
        for tick in 0..2_400_u64 {
            let at = tick * 50;
            let (raised, over) = if tick % 2 == 0 { ("reset", "pipe") } else { ("pipe", "reset") };
            written.extend(repeats.take(event(at, "alarm", raised)));
            written.extend(repeats.take(event(at, "over", over)));
            written.extend(repeats.due(at));
        }
        // Two minutes with 4,800 events: each of the four once, and its count after the first.
        let texts: Vec<&str> = written.iter().map(|event| event.text.as_str()).collect();
        assert_eq!(written.len(), 8, "{texts:?}");
        assert!(texts.contains(&"reset (600 times more within 60 s)"), "{texts:?}");
        // Quiet again: what is left is told, and then it is news once more.
        let last = repeats.due(400_000);
        assert_eq!(last.len(), 4, "{last:?}");
        assert!(repeats.due(4_000_000).is_empty());
        assert!(repeats.take(event(4_000_001, "alarm", "reset")).is_some());
    }

    #[test]
    fn an_entry_of_before_is_read_and_one_without_an_actor_looks_like_it() {
        let old = r#"{"number":7,"at_ms":1,"term":2,"cluster":"n/c","kind":"operator","text":"x"}"#;
        let read: Event = serde_json::from_str(old).expect("an event");
        assert_eq!((read.number, &read.by), (7, &None));
        assert_eq!(serde_json::to_string(&read).expect("JSON"), old);
        let actor = Actor {
            who: "deploy".to_owned(),
            role: api::rest::UserRole::Admin,
            from: "::1".to_owned(),
        };
        let asked = Event::asked(&actor, 2, "n/c".to_owned(), "x".to_owned());
        let text = serde_json::to_string(&asked).expect("JSON");
        assert!(asked.is_history() && text.contains(r#""who":"deploy","role":"admin""#), "{text}");
        assert_eq!(serde_json::from_str::<Event>(&text).expect("an event"), asked);
        // One event that a later version wrote must not hide the others.
        let later = text.replace("admin", "auditor");
        let read: Event = serde_json::from_str(&later).expect("an event");
        assert_eq!((read.text.as_str(), read.by), ("x", None));
    }

    #[test]
    fn what_is_kept_long_is_never_counted_away() {
        let mut repeats = Repeats::default();
        for kind in ["failover", "switchover", "loss", "operator", "start"] {
            assert!(repeats.take(event(1, kind, "the same")).is_some());
            assert!(repeats.take(event(2, kind, "the same")).is_some());
        }
    }

    #[tokio::test]
    async fn a_store_that_takes_nothing_for_a_while_gets_it_afterwards() {
        let journal = std::sync::Arc::new(Journal::default());
        for number in 0..WAITING_MAX + 5 {
            journal.add(event(now_ms(), "alarm", &number.to_string()));
        }
        journal.add(event(now_ms(), "failover", "the master died"));
        let (sent, mut written) = tokio::sync::mpsc::unbounded_channel();
        let tries = std::sync::atomic::AtomicU64::new(0);
        let writing = std::sync::Arc::clone(&journal);
        tokio::spawn(async move {
            let write = |events: Vec<Event>| {
                let is_first = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
                let is_taken = !is_first && sent.send(events).is_ok();
                async move { is_taken }
            };
            writing.run(write).await;
        });
        let events = written.recv().await.expect("a batch");
        let texts: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
        assert!(texts.contains(&"the master died"), "{texts:?}");
        assert!(events.len() <= WAITING_MAX + 1);
    }
}
