//! The replicas that are fed: what is known of each, and how the feeds are woken.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use ::grant::{EpochId, Link, Member};
use api::heartbeat::ReplicaLine;
use parking_lot::Mutex;
use tokio::sync::watch;
use topology::{Endpoint, NodeId};

/// Wakes feeders when something was published. Silent, and nearly free, without listeners.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) listeners: AtomicUsize,
    pub(super) rung: watch::Sender<()>,
}

impl Default for Bell {
    fn default() -> Self {
        Self { listeners: AtomicUsize::new(0), rung: watch::channel(()).0 }
    }
}

impl Bell {
    pub(super) fn ring(&self) {
        if self.listeners.load(Ordering::SeqCst) > 0 {
            self.ring_now();
        }
    }

    pub(super) fn ring_now(&self) {
        self.rung.send_replace(());
    }
}

/// The replicas being fed.
#[derive(Debug)]
pub(super) struct Feeders {
    pub(super) all: Mutex<BTreeMap<u64, Arc<Replica>>>,
    /// Those whose streams have ended of themselves, and when, in ms of CLOCK_BOOTTIME.
    pub(super) lost: Mutex<VecDeque<(Arc<Replica>, u64)>>,
    pub(super) acks: watch::Sender<u64>,
}

impl Default for Feeders {
    fn default() -> Self {
        Self { all: Mutex::default(), lost: Mutex::default(), acks: watch::channel(0).0 }
    }
}

/// A replica whose link breaks tries again every few seconds: one that has not come back for so
/// long cannot, ms.
const LOST_MS: u64 = 10_000;
/// So many are kept in mind.
const LOST_MAX: usize = 256;

/// A replica as INFO, ROLE, WAIT and the controller see it.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) ip: String,
    pub(super) port: u16,
    pub(super) is_holdfast: bool,
    /// What its data is called in in-sync sets.
    pub(super) member: Option<Member>,
    /// Newest epoch it has applied, as it said last.
    pub(super) epoch: Mutex<Option<EpochId>>,
    pub(super) offset: AtomicU64,
    /// When it last said something, in ms of CLOCK_BOOTTIME.
    pub(super) heard_ms: AtomicU64,
    /// Acknowledged sequence + 1; 0 before the first acknowledgement.
    pub(super) acked_next: AtomicU64,
    pub(super) is_ack_wanted: AtomicBool,
    /// Its process is about to end: it asks to be in no in-sync set first.
    pub(super) is_leaving: AtomicBool,
    pub(super) end: watch::Sender<bool>,
}

impl Replica {
    pub(super) fn line(&self) -> ReplicaLine {
        let offset = self.offset.load(Ordering::Relaxed);
        ReplicaLine { ip: self.ip.clone(), port: self.port, offset, member: self.member }
    }

    /// As the in-sync set sees it; only of replicas that said who they are, and acknowledge.
    pub(super) fn link(&self) -> Option<Link> {
        Some(Link {
            member: self.member?,
            epoch_id: *self.epoch.lock(),
            acked: self.acked()?,
            is_leaving: self.is_leaving(),
        })
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::SeqCst)
    }

    pub(super) fn acked(&self) -> Option<u64> {
        self.acked_next.load(Ordering::SeqCst).checked_sub(1)
    }

    /// Whether it is that node of a topology. Replicas of Kvrocks say no id: they are known by
    /// where they listen.
    pub(super) fn is_of(&self, id: NodeId, local: &Endpoint) -> bool {
        match self.member {
            Some(member) => member.node() == id,
            None => self.ip == local.host && self.port == local.port,
        }
    }

    /// Whether both are of one node.
    fn is_same_node(&self, other: &Self) -> bool {
        match (self.member, other.member) {
            (Some(member), Some(other)) => member.node() == other.node(),
            _ => (&self.ip, self.port) == (&other.ip, other.port),
        }
    }

    /// Whether what it acknowledges is on its disk, as it said itself.
    pub(super) fn acknowledges_disk(&self) -> bool {
        self.member.is_some_and(|member| member.boot.is_none())
    }

    /// Whose it is, and when it last said something.
    pub(super) fn heard(&self) -> Option<(NodeId, u64)> {
        Some((self.member?.node(), self.heard_ms.load(Ordering::Relaxed)))
    }

    pub(super) fn ask_for_ack(&self) {
        self.is_ack_wanted.store(true, Ordering::SeqCst);
    }
}

/// A replica that was heard so lately is alive, in pings of the stream.
const ALIVE_PINGS: u64 = 5;

/// How long a replica that says nothing still counts as alive, in ms, by what its stream is paced
/// with.
pub(super) fn alive_ms(ping_ms: u32) -> u64 {
    u64::from(ping_ms).saturating_mul(ALIVE_PINGS).max(1_000)
}

impl Feeders {
    /// Puts a replica on the list. Data that an in-sync set counts on is held once: of two
    /// processes with one member name, one runs on a copy of the other's folder, and what one of
    /// them acknowledges the other may not have. So the later one is refused while the first is
    /// heard. A process that comes back is the same one: its old stream ends. So does one that fell
    /// silent.
    ///
    /// # Errors
    /// The replica that has the name.
    pub(super) fn admit(
        &self,
        id: u64,
        replica: &Arc<Replica>,
        (now, alive_ms): (u64, u64),
    ) -> Result<(), Arc<Replica>> {
        let mut all = self.all.lock();
        let has_name =
            |other: &&Arc<Replica>| replica.member.is_some() && other.member == replica.member;
        for other in all.values().filter(has_name) {
            let is_same = (&other.ip, other.port) == (&replica.ip, replica.port);
            let heard_ms = other.heard_ms.load(Ordering::Relaxed);
            if !is_same && now.saturating_sub(heard_ms) < alive_ms {
                return Err(Arc::clone(other));
            }
            other.end.send_replace(true);
        }
        all.insert(id, Arc::clone(replica));
        self.lost.lock().retain(|(lost, _)| !lost.is_same_node(replica));
        Ok(())
    }

    /// Takes a replica off the list. One that was not told to end is lost until it comes back; its
    /// former stream, which breaks when another one is there, says nothing.
    pub(super) fn ended(&self, id: u64, now_ms: u64) {
        let mut all = self.all.lock();
        let removed = all.remove(&id).filter(|replica| !*replica.end.borrow());
        let Some(replica) = removed else { return };
        if all.values().any(|other| !*other.end.borrow() && other.is_same_node(&replica)) {
            return;
        }
        let mut lost = self.lost.lock();
        lost.retain(|(other, _)| !other.is_same_node(&replica));
        if lost.len() >= LOST_MAX {
            lost.pop_front();
        }
        lost.push_back((replica, now_ms));
    }

    /// This node is no master any more: they come to another one.
    pub(super) fn forget_lost(&self) {
        self.lost.lock().clear();
    }

    /// Whether that node of a topology had a stream here, and has not come back.
    pub(super) fn is_lost(&self, id: NodeId, local: &Endpoint, now_ms: u64) -> bool {
        let is_over = |since: u64| now_ms.saturating_sub(since) >= LOST_MS;
        self.lost.lock().iter().any(|(lost, since)| lost.is_of(id, local) && is_over(*since))
    }

    pub(super) fn list(&self) -> Vec<Arc<Replica>> {
        self.all.lock().values().cloned().collect()
    }

    pub(super) fn end_all(&self) {
        self.end_where(|_| true);
    }

    pub(super) fn end_where(&self, is_meant: impl Fn(&Replica) -> bool) {
        for replica in self.all.lock().values().filter(|replica| is_meant(replica)) {
            replica.end.send_replace(true);
        }
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.acks.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(port: u16, member: Option<&str>, heard_ms: u64) -> Arc<Replica> {
        Arc::new(Replica {
            ip: "10.0.0.1".into(),
            port,
            is_holdfast: member.is_some(),
            member: member.map(|text| text.parse().unwrap()),
            epoch: Mutex::default(),
            offset: AtomicU64::new(0),
            heard_ms: AtomicU64::new(heard_ms),
            acked_next: AtomicU64::new(0),
            is_ack_wanted: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            end: watch::channel(false).0,
        })
    }

    #[test]
    fn of_two_processes_with_one_name_the_living_one_keeps_it() {
        let feeders = Feeders::default();
        let one = "07c37dfeb235213a872192d90877d0cd55635b91/1/1";
        let first = replica(6666, Some(one), 10_000);
        feeders.admit(1, &first, (10_000, 1_000)).unwrap();
        let copy = replica(6667, Some(one), 10_999);
        let holder = feeders.admit(2, &copy, (10_999, 1_000)).unwrap_err();
        assert_eq!(holder.port, 6666);
        assert!(!*first.end.borrow() && feeders.list().len() == 1);
        // Another incarnation, and what has no name at all, are others.
        let other = replica(6667, Some("07c37dfeb235213a872192d90877d0cd55635b91/2/1"), 10_999);
        feeders.admit(3, &other, (10_999, 1_000)).unwrap();
        for id in [4, 5] {
            feeders.admit(id, &replica(6668, None, 10_999), (10_999, 1_000)).unwrap();
        }
        assert!(feeders.list().iter().all(|replica| !*replica.end.borrow()));
        // Silent for too long: it may have moved.
        feeders.admit(6, &copy, (11_000, 1_000)).unwrap();
        assert!(*first.end.borrow() && !*other.end.borrow());
    }

    #[test]
    fn disks_are_acknowledged_by_who_says_so() {
        let id = "07c37dfeb235213a872192d90877d0cd55635b91";
        let acknowledges = |member: Option<&str>| replica(1, member, 0).acknowledges_disk();
        assert!(acknowledges(Some(&format!("{id}/1/-"))));
        // A reboot may lose what is acknowledged; and Kvrocks says nothing of it.
        assert!(!acknowledges(Some(&format!("{id}/1/1"))) && !acknowledges(None));
    }

    /// A machine that lost power has another name when it comes back, and Kvrocks has none: their
    /// old streams end when somebody gives them up.
    #[test]
    fn a_stream_that_ends_behind_the_next_one_makes_nobody_lost() {
        let id = "07c37dfeb235213a872192d90877d0cd55635b91";
        let named = |rest: &str| format!("{id}/{rest}");
        let node = named("1/1").parse::<Member>().unwrap().node();
        let local = Endpoint { host: "10.0.0.1".into(), port: 6666 };
        for names in [[Some("1/1"), Some("1/2")], [None, None]] {
            let feeders = Feeders::default();
            let [old, new] = names.map(|rest| replica(6666, rest.map(named).as_deref(), 0));
            feeders.admit(1, &old, (0, 1_000)).unwrap();
            feeders.admit(2, &new, (5_000, 1_000)).unwrap();
            feeders.ended(1, 30_000);
            assert!(!feeders.is_lost(node, &local, 90_000));
            feeders.ended(2, 90_000);
            assert!(!feeders.is_lost(node, &local, 99_999), "it may come back");
            assert!(feeders.is_lost(node, &local, 100_000));
            feeders.forget_lost();
            assert!(!feeders.is_lost(node, &local, 100_000));
        }
    }

    #[test]
    fn a_process_that_comes_back_ends_its_old_stream() {
        let feeders = Feeders::default();
        let one = "07c37dfeb235213a872192d90877d0cd55635b91/1/1";
        let (old, new) = (replica(6666, Some(one), 10_000), replica(6666, Some(one), 10_001));
        feeders.admit(1, &old, (10_000, 1_000)).unwrap();
        feeders.admit(2, &new, (10_001, 1_000)).unwrap();
        assert!(*old.end.borrow() && !*new.end.borrow());
    }
}
