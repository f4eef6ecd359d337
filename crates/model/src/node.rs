//! One node: a process that decides by crate `grant`, and its disk.

use api::grant::{Member, Members};
use grant::{
    EpochId, Facts, Heartbeat, HeartbeatError, History, Holder, Kept, Link, Opened, Promise,
    StoreId, Taken,
};
use topology::NodeId;

use crate::time::{LEASE_MS, NOW, TICK_MS, TICK_NS, clock};

/// `master-lease-max-ms`.
const LONGEST_MS: u64 = 60_000;

/// A batch in a node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// The put that opens an epoch.
    Epoch {
        /// Its number.
        number: u64,
        /// Its id.
        id: EpochId,
    },
    /// A client's write.
    Write(u8),
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Power {
    /// It runs.
    Up,
    /// SIGSTOP.
    Stopped,
    /// There is none.
    Down,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// Which of the three.
    pub index: u8,
    /// Its process.
    pub power: Power,
    /// Boots of the machine.
    pub boot: u8,
    /// Copies of the data.
    pub incarnation: u8,
    /// Processes so far.
    pub starts: u8,
    /// What the database holds, durable against a crash of the process.
    pub log: Vec<Entry>,
    /// Of it, what a crash of the machine leaves.
    pub synced: usize,
    /// Topology in `nodes.conf`.
    pub version: u8,
    /// The master by that topology.
    pub master: u8,
    /// What the process knows.
    pub holder: Holder,
    /// A promise on disk.
    pub kept: Option<Kept>,
    /// The store that has led it, on disk.
    pub store: Option<StoreId>,
    /// Its replicas' streams, as far as it has heard.
    pub links: [Option<Link>; 3],
    /// Until when it takes no writes, for a switchover; 0 if it does.
    pub paused_until: u8,
    /// Its process was told to end, and leaves the set first.
    pub is_leaving: bool,
}

/// The reply of a heartbeat, without what never changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answered {
    /// The node's clock, in ticks.
    pub clock: u8,
    /// Of its process.
    pub nonce: u64,
    /// Of its topology.
    pub version: u8,
    /// The master by that topology.
    pub master: u8,
    /// Newest sequence.
    pub sequence: u64,
    /// It is a master with a lease.
    pub has_lease: bool,
    /// Of its data.
    pub incarnation: u8,
    /// Of its machine.
    pub boot: u8,
    /// Newest epoch in its database.
    pub history_epoch: u64,
    /// Its id.
    pub history_id: Option<EpochId>,
    /// Epoch of the grant it holds.
    pub granted_epoch: u64,
    /// Version of the topology that it names.
    pub granted_version: u8,
    /// Newest set it asks for.
    pub request: u64,
    /// That set.
    pub members: Members,
    /// It refuses grants for so long.
    pub promised_ms: u64,
    /// It takes no writes, for a switchover.
    pub is_paused: bool,
    /// A replica's process is about to end. A master would hand over: switchovers have searches of
    /// their own.
    pub is_leaving: bool,
}

/// 40 equal letters.
pub(crate) fn name(index: u8) -> String {
    char::from(b'a' + index).to_string().repeat(40)
}

/// The node of that name.
pub(crate) fn index_of(name: &str) -> u8 {
    name.bytes().next().map_or(0, |letter| letter.saturating_sub(b'a'))
}

/// What a set calls data.
pub(crate) fn member(index: u8, incarnation: u8, boot: u8) -> Option<Member> {
    let id = NodeId::new(name(index).as_bytes())?;
    Member::new(id, u64::from(incarnation), Some(u128::from(boot)))
}

impl Node {
    pub(crate) fn new(index: u8) -> Self {
        let mut node = Self {
            index,
            power: Power::Up,
            boot: 1,
            incarnation: 1,
            starts: 0,
            log: Vec::new(),
            synced: 0,
            version: 0,
            master: 0,
            holder: Holder::new(1, Promise::new(0, None, true)),
            kept: None,
            store: None,
            links: [None; 3],
            paused_until: 0,
            is_leaving: false,
        };
        node.start(0);
        node
    }

    /// A new process on the same disk.
    pub(crate) fn start(&mut self, now: u8) {
        self.starts += 1;
        let nonce = u64::from(self.index + 1) * 16 + u64::from(self.starts);
        self.holder = Holder::new(nonce, Promise::new(clock(now), self.kept, true));
        if let Some(store) = self.store {
            self.holder.led_from(store);
        }
        self.power = Power::Up;
        self.links = [None; 3];
        self.paused_until = 0;
        self.is_leaving = false;
    }

    /// The machine restarts, without its processes: what was not on disk is gone.
    pub(crate) fn reboot(&mut self, names_data: bool) {
        self.power = Power::Down;
        self.boot += u8::from(names_data);
        self.log.truncate(self.synced);
    }

    /// A full sync: all data is replaced by a copy of another node's.
    pub(crate) fn replace(&mut self, log: Vec<Entry>, names_data: bool) {
        self.incarnation += u8::from(names_data);
        self.synced = log.len();
        self.log = log;
    }

    /// A tick passes: all times are as many ticks ago, or ahead, from a clock that began a tick
    /// later.
    pub(crate) fn pass(&mut self) {
        self.holder.rebase(TICK_NS);
        // What is over needs no end.
        let until = self.paused_until.saturating_sub(1);
        self.paused_until = if until > NOW { until } else { 0 };
        if let Some(kept) = &mut self.kept {
            kept.until_ns = kept.until_ns.saturating_sub(TICK_NS);
        }
    }

    pub(crate) fn member(&self) -> Option<Member> {
        member(self.index, self.incarnation, self.boot)
    }

    pub(crate) fn is_master(&self) -> bool {
        self.master == self.index && self.version > 0
    }

    pub(crate) fn entries(&self) -> Vec<Opened> {
        let opened = |(at, entry): (usize, &Entry)| match entry {
            Entry::Epoch { number, id } => {
                Some(Opened { epoch: *number, id: *id, first: at as u64 + 1 })
            }
            Entry::Write(_) => None,
        };
        self.log.iter().enumerate().filter_map(opened).collect()
    }

    pub(crate) fn newest(&self) -> Option<Opened> {
        self.entries().last().copied()
    }

    pub(crate) fn write(&mut self, write: u8) {
        self.log.push(Entry::Write(write));
        self.commit();
    }

    /// What the set has is counted anew, after anything that may change it.
    fn commit(&mut self) {
        let latest = self.latest();
        if let Some(set) = self.holder.in_sync() {
            set.commit(latest);
        }
    }

    pub(crate) fn latest(&self) -> u64 {
        self.log.len() as u64
    }

    fn facts<'a>(&self, entries: &'a [Opened], now: u8) -> Facts<'a> {
        Facts {
            now_ns: clock(now),
            longest_ms: LONGEST_MS,
            is_master: self.is_master(),
            me: self.member(),
            version: i64::from(self.version),
            history: History { entries, latest: self.latest() },
        }
    }

    /// Takes a heartbeat as the node's command does; an epoch that opens is on disk before the
    /// grant is held. Of refusals one needs care here, by whoever leads from another store: it gets
    /// no answer, and false is returned. After others the answer shows what is held.
    pub(crate) fn hear(&mut self, beat: &Heartbeat, now: u8) -> bool {
        if let Some(said) = beat.store {
            match self.holder.to_begin(beat.term, said) {
                Ok(Some(store)) => {
                    self.store = Some(store);
                    self.holder.led_from(store);
                }
                Err(HeartbeatError::Store(_)) => return false,
                Ok(None) | Err(_) => {}
            }
        }
        let entries = self.entries();
        let facts = self.facts(&entries, now);
        if self.holder.heartbeat(beat, &facts) == Ok(Taken::Open)
            && let Some(grant) = &beat.grant
        {
            self.log.push(Entry::Epoch { number: grant.epoch, id: grant.id });
            self.synced = self.log.len();
            let first = self.latest();
            self.holder.open(beat, first, &facts);
        }
        self.commit();
        true
    }

    /// A topology is pushed: durable, then in force. Demotion gives everything up.
    pub(crate) fn told(&mut self, version: u8, master: u8) {
        if version <= self.version {
            return;
        }
        (self.version, self.master) = (version, master);
        if !self.is_master() {
            self.holder.give_up();
            self.links = [None; 3];
        }
    }

    /// Whether lease and grant let this process answer clients.
    pub(crate) fn may_serve(&self, now: u8) -> bool {
        let entries = self.entries();
        let history = History { entries: &entries, latest: self.latest() };
        self.power == Power::Up
            && self.is_master()
            && self.holder.held().is_some()
            && self.holder.may_serve(clock(now), &history).is_ok()
    }

    /// A replica's acknowledgement arrives.
    pub(crate) fn acked(&mut self, from: u8, link: Link) {
        let Some(set) = self.holder.in_sync() else { return };
        set.ack(link.member, link.epoch_id, link.acked);
        self.links[usize::from(from)] = Some(link);
        self.commit();
    }

    /// The master judges its set; a write that is owed for a tick is late.
    pub(crate) fn judge(&mut self, now: u8) {
        let latest = self.latest();
        let links: Vec<Link> = self.links.iter().flatten().copied().collect();
        if let Some(set) = self.holder.in_sync() {
            // Twice: who begins to join is waited for first, and asked for once it has everything.
            for _ in 0..2 {
                set.tick(u64::from(now) * TICK_MS, latest, TICK_MS, &links);
                set.settle(latest);
            }
        }
        self.commit();
    }

    /// What this node would acknowledge as a replica.
    pub(crate) fn ack(&self) -> Option<Link> {
        let epoch_id = self.newest().map(|opened| opened.id);
        let (member, acked) = (self.member()?, self.latest());
        Some(Link { member, epoch_id, acked, is_leaving: self.is_leaving })
    }

    /// A master: whether it has heard that this replica leaves, and counts on it no more.
    pub(crate) fn lets_go(&self, from: u8, member: Option<Member>) -> bool {
        let link = self.links[usize::from(from)].filter(|link| link.is_leaving);
        let Some(link) = link.filter(|link| Some(link.member) == member) else { return false };
        let entries = self.entries();
        let history = History { entries: &entries, latest: self.latest() };
        self.holder.lets_go(&link.member, self.holder.needs_grant(&history))
    }

    /// Answers its master's ping: true if the stamp goes back.
    pub(crate) fn pinged(&mut self, now: u8) -> bool {
        let now_ns = clock(now);
        if let Some(kept) = self.holder.promise_ahead(LEASE_MS, now_ns, LONGEST_MS) {
            self.kept = Some(kept);
            self.holder.kept(kept);
        }
        self.holder.ping(LEASE_MS, now_ns, LONGEST_MS)
    }

    /// A replica returned the stamp of tick `now`.
    pub(crate) fn echoed(&mut self, from: Link, now: u8) {
        let facts = (clock(now), LONGEST_MS);
        self.holder.echo(from.member, from.epoch_id, clock(now), LEASE_MS, facts);
    }

    /// The reply of a heartbeat, as far as it decides anything.
    pub(crate) fn reply(&self, now: u8) -> Answered {
        let entries = self.entries();
        let history = History { entries: &entries, latest: self.latest() };
        let newest = history.newest();
        let held = self.holder.held();
        let until = self.holder.until_ns(&history);
        Answered {
            clock: now,
            nonce: self.holder.nonce(),
            version: self.version,
            master: self.master,
            sequence: self.latest(),
            has_lease: self.is_master() && clock(now) < until,
            incarnation: self.incarnation,
            boot: self.boot,
            history_epoch: newest.map_or(0, |newest| newest.epoch),
            history_id: newest.map(|newest| newest.id),
            granted_epoch: held.map_or(0, |held| held.epoch),
            granted_version: held.map_or(0, |held| u8::try_from(held.version).unwrap_or(u8::MAX)),
            request: held.map_or(0, |held| held.in_sync.newest().0),
            members: held.map(|held| held.in_sync.newest().1.clone()).unwrap_or_default(),
            promised_ms: self.holder.promised_ns(clock(now)) / 1_000_000,
            is_paused: self.paused_until > now,
            is_leaving: self.is_leaving && !self.is_master(),
        }
    }
}
