//! ACL LOG: what was refused, the newest first. What happens again within a minute counts up.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Bytes that are kept of each text: a client may say a key of any length that it may not touch.
const TEXT_MAX: usize = 1024;
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
    /// All of them, each with the word that INFO has for it.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Auth, "auth"),
        (Self::Command, "cmd"),
        (Self::Key, "key"),
        (Self::Channel, "channel"),
    ];

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

/// Where the command was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// By a client.
    Toplevel,
    /// Within MULTI, when it is queued or run.
    Multi,
    /// By a script or a function.
    Lua,
}

impl Context {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Toplevel => "toplevel",
            Self::Multi => "multi",
            Self::Lua => "lua",
        }
    }
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Where it was said.
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// The user's name.
    pub user: String,
    /// The line of CLIENT LIST.
    pub client: String,
}

impl Refusal {
    /// The beginning of each text, which takes no more memory than that.
    fn shortened(mut self) -> Self {
        self.object.truncate(TEXT_MAX);
        self.object.shrink_to_fit();
        for text in [&mut self.user, &mut self.client] {
            text.truncate(text.floor_char_boundary(TEXT_MAX));
            text.shrink_to_fit();
        }
        self
    }
}

/// A refusal, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number: how many different ones came before it in this process.
    pub id: u64,
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
pub struct Log(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// The newest first.
    all: VecDeque<Entry>,
    /// The number of the next one. Numbers go on when the log is emptied.
    next: u64,
    /// How many there were of each reason, kept or not.
    counts: [u64; Reason::ALL.len()],
}

impl Log {
    /// Notes a refusal, and keeps at most `limit`.
    pub fn add(&self, refusal: Refusal, now_ms: u64, limit: usize) {
        let refusal = refusal.shortened();
        let mut entries = self.0.lock();
        let Entries { all, next, counts } = &mut *entries;
        if let Some(count) = counts.get_mut(refusal.reason as usize) {
            *count += 1;
        }
        let is_same = |entry: &Entry| {
            let known = &entry.refusal;
            let is_it = (known.reason, known.context) == (refusal.reason, refusal.context)
                && (&known.object, &known.user) == (&refusal.object, &refusal.user);
            is_it && now_ms.saturating_sub(entry.last_ms) <= SAME_WITHIN_MS
        };
        let known = all.iter().position(is_same).and_then(|at| all.remove(at));
        let entry = match known {
            Some(known) => {
                let count = known.count.saturating_add(1);
                Entry { refusal, count, last_ms: now_ms, ..known }
            }
            None => {
                let id = *next;
                *next += 1;
                Entry { id, refusal, count: 1, since_ms: now_ms, last_ms: now_ms }
            }
        };
        all.push_front(entry);
        all.truncate(limit);
    }

    /// The newest ones.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.0.lock().all.iter().take(count).cloned().collect()
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.lock().all.clear();
    }

    /// How many refusals there were, in the order of [`Reason::ALL`].
    pub fn counts(&self) -> [u64; Reason::ALL.len()] {
        self.0.lock().counts
    }

    /// CONFIG RESETSTAT: counts from here on.
    pub fn reset_counts(&self) {
        self.0.lock().counts = Default::default();
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
            context: Context::Toplevel,
            object: object.into(),
            user: "u".into(),
            client: String::new(),
        };
        log.add(refusal("a"), 0, 2);
        log.add(refusal("b"), 10, 2);
        log.add(refusal("a"), 60_000, 2);
        let shown = |log: &Log| {
            let all = log.newest(9).into_iter();
            all.map(|entry| (entry.refusal.object, entry.count, entry.id)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&log), [(b"a".to_vec(), 2, 0), (b"b".to_vec(), 1, 1)]);
        let newest = &log.newest(1)[0];
        assert_eq!((newest.since_ms, newest.last_ms), (0, 60_000));
        log.add(refusal("a"), 120_001, 2);
        assert_eq!(shown(&log), [(b"a".to_vec(), 1, 2), (b"a".to_vec(), 2, 0)]);
        // The same from a script is another one.
        log.add(Refusal { context: Context::Lua, ..refusal("a") }, 120_002, 2);
        assert_eq!(shown(&log), [(b"a".to_vec(), 1, 3), (b"a".to_vec(), 1, 2)]);
        log.clear();
        assert_eq!(shown(&log), []);
        log.add(refusal("a"), 120_003, 2);
        assert_eq!(shown(&log), [(b"a".to_vec(), 1, 4)], "numbers go on");
        log.add(Refusal { reason: Reason::Auth, ..refusal("a") }, 120_004, 2);
        assert_eq!(log.counts(), [1, 0, 6, 0], "of all that there were");
        log.reset_counts();
        assert_eq!(log.counts(), [0; 4]);
        for (place, (reason, _)) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }

    #[test]
    fn of_long_texts_the_beginning_is_kept() {
        let long = format!("u{}", "\u{e9}".repeat(TEXT_MAX));
        let refusal = Refusal {
            reason: Reason::Key,
            context: Context::Toplevel,
            object: vec![b'k'; 2 * TEXT_MAX],
            user: long.clone(),
            client: long,
        };
        let log = Log::default();
        for _ in 0..2 {
            log.add(refusal.clone(), 0, 2);
        }
        let Entry { refusal: kept, count, .. } = log.newest(1).remove(0);
        let lengths = (kept.object.len(), kept.user.len(), kept.client.len());
        // A letter of two bytes is whole, or not there.
        assert_eq!((lengths, count), ((TEXT_MAX, TEXT_MAX - 1, TEXT_MAX - 1), 2));
    }
}
