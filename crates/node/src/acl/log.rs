//! ACL LOG: what was refused, the newest first. What happens again within a minute counts up.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// How long the same refusal counts up, ms.
const SAME_WITHIN_MS: u64 = 60_000;

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A wrong password, or no such user.
    Auth,
    /// A command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
}

impl Reason {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Command => "command",
            Self::Key => "key",
            Self::Channel => "channel",
        }
    }
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// `toplevel` or `multi`.
    pub context: &'static str,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// Who.
    pub user: String,
    /// The line of CLIENT LIST.
    pub client: String,
}

/// A refusal, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What.
    pub refusal: Refusal,
    /// How often.
    pub count: u64,
    /// When it happened first, Unix ms.
    pub since_ms: u64,
    /// When it happened last, Unix ms.
    pub last_ms: u64,
}

/// The log.
#[derive(Debug, Default)]
pub struct Log(Mutex<VecDeque<Entry>>);

impl Log {
    /// Notes a refusal, and keeps at most `limit`.
    pub fn add(&self, refusal: Refusal, now_ms: u64, limit: usize) {
        let mut entries = self.0.lock();
        let is_same = |entry: &Entry| {
            let known = &entry.refusal;
            let is_it = (known.reason, known.context) == (refusal.reason, refusal.context)
                && (&known.object, &known.user) == (&refusal.object, &refusal.user);
            is_it && now_ms.saturating_sub(entry.last_ms) <= SAME_WITHIN_MS
        };
        let mut entry =
            Entry { refusal: refusal.clone(), count: 1, since_ms: now_ms, last_ms: now_ms };
        if let Some(known) = entries.iter().position(is_same).and_then(|at| entries.remove(at)) {
            (entry.count, entry.since_ms) = (known.count.saturating_add(1), known.since_ms);
        }
        entries.push_front(entry);
        entries.truncate(limit);
    }

    /// The newest ones.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.0.lock().iter().take(count).cloned().collect()
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_counts_up_for_a_minute() {
        let log = Log::default();
        let refusal = |object: &str| Refusal {
            reason: Reason::Key,
            context: "toplevel",
            object: object.into(),
            user: "u".into(),
            client: String::new(),
        };
        log.add(refusal("a"), 0, 2);
        log.add(refusal("b"), 10, 2);
        log.add(refusal("a"), 60_000, 2);
        let shown = |log: &Log| {
            let all = log.newest(9).into_iter();
            all.map(|entry| (entry.refusal.object, entry.count)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&log), [(b"a".to_vec(), 2), (b"b".to_vec(), 1)]);
        log.add(refusal("a"), 120_001, 2);
        assert_eq!(shown(&log), [(b"a".to_vec(), 1), (b"a".to_vec(), 2)]);
        log.clear();
        assert_eq!(shown(&log), []);
    }
}
