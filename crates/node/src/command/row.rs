//! What is known of a command without running it, for gates, COMMAND, statistics.

use super::keys::Keys;

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $method:ident, $word:literal;)+) => {
        /// Properties of a command beside reading or writing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Flags(u32);

        impl Flags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)+

            /// None.
            pub const NONE: Self = Self(0);

            /// These and those of `other`.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether all of `other` are set.
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The words COMMAND shows.
            pub fn words(self) -> impl Iterator<Item = &'static str> {
                [$((Self::$name, $word)),+].into_iter()
                    .filter(move |(flag, word)| self.has(*flag) && !word.is_empty())
                    .map(|(_, word)| word)
            }
        }
    };
}

/// All flags: constant, bit, what sets it on a row, and the word COMMAND shows.
macro_rules! each_flag {
    ($callback:ident) => {
        $callback! {
            /// Constant or logarithmic time.
            FAST = 0, fast, "fast";
            /// Runs before authentication.
            NO_AUTH = 1, no_auth, "no_auth";
            /// Runs while the data is being replaced.
            LOADING = 2, loading, "loading";
            /// Served on a replica that lost its master, whatever `slave-serve-stale-data` says.
            STALE = 3, stale, "stale";
            /// For administrators: not for clients of a namespace.
            ADMIN = 4, admin, "admin";
            /// Between nodes and controllers only: never for a client that came through a balancer
            /// of a balancer-only node.
            PEER = 5, peer, "";
            /// Not inside MULTI.
            NO_MULTI = 6, no_multi, "no_multi";
            /// Runs at once inside MULTI instead of being queued.
            UNQUEUED = 7, unqueued, "";
            /// Not from scripts.
            NO_SCRIPT = 8, no_script, "noscript";
            /// Only removes: allowed above `max-db-size`.
            REMOVES = 9, removes, "";
            /// About channels.
            PUBSUB = 10, pubsub, "pubsub";
            /// Waits, possibly long.
            BLOCKING = 11, blocking, "blocking";
            /// Not shown in SLOWLOG, because its arguments are secret or it waits by design.
            SKIP_SLOWLOG = 12, skip_slowlog, "skip_slowlog";
            /// Touches the whole key space rather than named keys; routed nowhere, but part of the
            /// data path: lease and access are checked.
            KEYSPACE = 13, keyspace, "";
            /// Writes the whole key space: takes every key lock.
            ALL_KEYS = 14, all_keys, "";
            /// It concerns the node itself: not for a client that came through a balancer of a
            /// balancer-only node.
            AT_NODE = 15, at_node, "";
            /// Stops all clients or lets them go on: of a balancer-only node for peers alone, which
            /// need no client's place for it.
            CONTROL = 16, control, "";
            /// Only in cluster mode.
            CLUSTER = 17, in_cluster, "";
            /// Runs what MULTI has queued: it passes the gates of all of it.
            RUNS_QUEUE = 18, runs_queue, "";
            /// What it writes is for others to know and changes no data: a replica runs it too, for
            /// itself.
            MAY_REPLICATE = 19, may_replicate, "may_replicate";
            /// Runs on a RESP2 connection that subscribes to channels.
            SUBSCRIBER = 20, subscriber, "";
            /// It concerns all namespaces: not for clients of one.
            WHOLE = 21, whole, "";
            /// What it writes may lead to keys that it does not name, found while it runs: inside
            /// of transactions and scripts it takes every key lock.
            LEADS = 22, leads, "";
            /// Served as behind ASKING.
            ASKING = 23, asking, "asking";
            /// Runs scripts: on a thread for them, where it may take long.
            SCRIPT = 24, script, "";
            /// What it writes may be of another namespace than its client's.
            ELSEWHERE = 25, elsewhere, "";
        }
    };
}
pub(crate) use each_flag;

each_flag!(flags);

/// What is answered to a wrong second word, and to a wrong number of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Redis 7's text of the one and of the other.
    Redis,
    /// One text of Redis for both, which names the second word.
    Either,
    /// This text for both.
    Text(&'static str),
}

/// What a command does to data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing, or it sees to it by itself.
    None,
    /// It sees data.
    Read,
    /// It sees and changes data.
    Write,
}

/// What is known of a command without running it: a row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Lower-case name; with the one of its container before it, as in `client|id`.
    pub name: &'static str,
    /// Words including the name; negative: at least that many. The sign is Redis', so that the
    /// table compares with COMMAND INFO by eye.
    pub arity: i8,
    /// Where the keys are.
    pub keys: Keys,
    /// What it does to data.
    pub access: Access,
    /// The rest.
    pub flags: Flags,
    /// How many words its name has.
    pub names: u8,
    /// It is found only where its second word is none of its own commands, or is missing.
    pub is_container: bool,
    /// What is answered to words that do not fit.
    pub usage: Usage,
}

impl Row {
    /// The first word of a call: the name of the container, if it is in one.
    pub fn first_word(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(container, _)| container)
    }

    /// Whether it is refused above `max-db-size`.
    pub fn may_grow(&self) -> bool {
        self.is_write() && !self.flags.has(Flags::REMOVES)
    }

    /// Whether a number of words, name included, fits.
    pub fn accepts(&self, words: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { words >= least } else { words == least }
    }

    /// The keys among the words of a call.
    pub fn keys_in<'w>(&self, words: &'w [&'w [u8]]) -> impl Iterator<Item = &'w [u8]> + use<'w> {
        self.keys.positions(words).filter_map(|position| words.get(position).copied())
    }

    /// True for commands that change data.
    pub fn is_write(&self) -> bool {
        self.access == Access::Write
    }

    /// True for commands that see or change data: lease, access and slot ownership are checked for
    /// them.
    pub fn is_data(&self) -> bool {
        !matches!(self.keys, Keys::None) || self.flags.has(Flags::KEYSPACE)
    }
}
