use api::grant::{Least, Members};
use topology::NodeId;

use super::*;
use crate::in_sync::Link;

const LONGEST: u64 = 60_000;
const NONCE: u64 = 7;

fn member(letter: char) -> Member {
    let node = NodeId::new(letter.to_string().repeat(40).as_bytes()).unwrap();
    Member::new(node, 1, Some(1)).unwrap()
}

fn set(letters: &str) -> Members {
    letters.chars().map(member).collect()
}

/// A stream of a replica that has applied the first epoch.
fn link(letter: char, acked: u64) -> Link {
    Link { member: member(letter), epoch_id: Some(EpochId(11)), acked, is_leaving: false }
}

fn grant(epoch: u64, members: &str) -> Grant {
    Grant {
        epoch,
        id: EpochId(epoch * 11),
        least: Least::default(),
        mode: CommitMode::InSync,
        min_in_sync: 1,
        request: 0,
        members: set(members),
        version: 0,
    }
}

/// Sent so that its lease of a second counts from `from_ms`.
fn beat(from_ms: u64, grant: Option<Grant>) -> Heartbeat {
    Heartbeat {
        is_for_me: true,
        lease_ms: 1000,
        term: 1,
        clock: Some((from_ms * MS, NONCE)),
        grant,
        store: None,
    }
}

/// A node with a database that plays what `node` does.
#[derive(Clone)]
struct Node {
    holder: Holder,
    entries: Vec<Opened>,
    latest: u64,
    me: Member,
    is_master: bool,
    version: i64,
}

impl Node {
    fn new(letter: char) -> Self {
        Self {
            holder: Holder::new(NONCE, Promise::new(0, None, true)),
            entries: Vec::new(),
            latest: 10,
            me: member(letter),
            is_master: true,
            version: 1,
        }
    }

    fn restart(&mut self, nonce: u64, now_ms: u64) {
        self.holder = Holder::new(nonce, Promise::new(now_ms * MS, None, true));
    }

    fn hear(&mut self, now_ms: u64, beat: &Heartbeat) -> Result<Taken, HeartbeatError> {
        let entries = self.entries.clone();
        let facts = Facts {
            now_ns: now_ms * MS,
            longest_ms: LONGEST,
            is_master: self.is_master,
            me: Some(self.me),
            version: self.version,
            history: History { entries: &entries, latest: self.latest },
        };
        let taken = self.holder.heartbeat(beat, &facts)?;
        if taken == Taken::Open {
            let grant = beat.grant.as_ref().unwrap();
            self.latest += 1;
            self.entries.push(Opened { epoch: grant.epoch, id: grant.id, first: self.latest });
            self.holder.open(beat, self.latest, &facts);
        }
        Ok(taken)
    }

    fn serves(&self, now_ms: u64) -> Result<(), NoServing> {
        let history = History { entries: &self.entries, latest: self.latest };
        self.holder.may_serve(now_ms * MS, &history)
    }

    fn refuses(&mut self, now_ms: u64, grant: Grant) -> Refusal {
        match self.hear(now_ms, &beat(now_ms, Some(grant))) {
            Err(HeartbeatError::Grant(why)) => why,
            other => panic!("not refused: {other:?}"),
        }
    }
}

#[test]
fn without_grants_a_lease_is_enough() {
    let mut node = Node::new('m');
    assert_eq!(node.serves(5), Err(NoServing::Lease));
    assert_eq!(node.hear(5, &beat(5, None)), Ok(Taken::Heard));
    assert_eq!((node.serves(1004), node.serves(1005)), (Ok(()), Err(NoServing::Lease)));
}

#[test]
fn a_grant_opens_its_epoch_and_is_renewed() {
    let mut node = Node::new('m');
    assert_eq!(node.hear(5, &beat(5, Some(grant(1, "m")))), Ok(Taken::Open));
    assert_eq!((node.entries.len(), node.entries[0].first), (1, 11));
    assert_eq!(node.hear(205, &beat(205, Some(grant(1, "m")))), Ok(Taken::Renewed));
    assert_eq!(node.entries.len(), 1);
    assert_eq!(node.holder.held().unwrap().epoch, 1);
    assert_eq!(node.hear(300, &beat(300, Some(grant(3, "m")))), Ok(Taken::Open));
    assert_eq!(node.holder.held().unwrap().first, 12);
}

#[test]
fn f1_a_restarted_master_is_none_until_a_new_epoch() {
    let mut node = Node::new('m');
    node.hear(5, &beat(5, Some(grant(1, "mr")))).unwrap();
    node.restart(8, 500);
    assert_eq!(node.serves(500), Err(NoServing::NoGrant), "nodes.conf gives none");
    // A heartbeat meant for the process before, still in the socket.
    let late = beat(5, Some(grant(1, "mr")));
    assert_eq!(node.hear(501, &late), Ok(Taken::Ignored(Ignored::OtherProcess)));
    // A controller that does not know of the restart, with the new process's clock.
    let same = Heartbeat { clock: Some((501 * MS, 8)), ..beat(0, Some(grant(1, "mr"))) };
    assert_eq!(node.hear(502, &same), Err(HeartbeatError::Grant(Refusal::GivenUp(1))));
    // A lease without a grant is none.
    let bare = Heartbeat { clock: Some((501 * MS, 8)), ..beat(0, None) };
    assert_eq!(node.hear(503, &bare), Ok(Taken::Heard));
    assert_eq!(node.serves(503), Err(NoServing::NoGrant));
    let next = Heartbeat { clock: Some((501 * MS, 8)), ..beat(0, Some(grant(2, "mr"))) };
    assert_eq!(node.hear(504, &next), Ok(Taken::Open));
    assert_eq!(node.serves(504), Ok(()));
}

#[test]
fn f13_epochs_are_told_apart_by_their_ids_and_never_go_back() {
    let mut node = Node::new('m');
    node.hear(5, &beat(5, Some(grant(4, "mr")))).unwrap();
    let older = Refusal::OlderEpoch { got: 3, known: 4 };
    assert_eq!(node.refuses(6, grant(3, "m")), older);
    let other = Grant { id: EpochId(1), ..grant(4, "mr") };
    let why = Refusal::OtherId { epoch: 4, got: EpochId(1), known: EpochId(44) };
    assert_eq!(node.refuses(7, other.clone()), why);
    assert_eq!(node.serves(1004), Ok(()));
    assert_eq!(node.serves(1005), Err(NoServing::Lease), "what was refused extended nothing");
    // Also after a restart, from the database, and after a rewind, from memory.
    node.holder.give_up();
    assert_eq!(node.refuses(2000, other), why);
    node.entries.clear();
    assert_eq!(node.refuses(2001, grant(4, "m")), Refusal::GivenUp(4));
    assert_eq!(node.refuses(2002, grant(3, "m")), Refusal::OlderEpoch { got: 3, known: 4 });
}

#[test]
fn f5_a_node_that_has_less_than_the_record_knows_refuses() {
    let mut node = Node::new('r');
    node.entries = vec![Opened { epoch: 1, id: EpochId(11), first: 1 }];
    let needs = |id: u64, sequence| Grant {
        least: Least { id: Some(EpochId(id)), sequence },
        ..grant(2, "r")
    };
    assert!(matches!(node.refuses(5, needs(11, 11)), Refusal::Lacks { sequence: 11, .. }));
    assert!(matches!(node.refuses(5, needs(12, 0)), Refusal::Lacks { .. }));
    assert_eq!(node.hear(6, &beat(6, Some(needs(11, 10)))), Ok(Taken::Open));
}

#[test]
fn f5_f15_data_that_is_not_named_by_the_set_does_not_take_its_grant() {
    // It came up on an empty disk, or rebooted: the same node, other data.
    let mut node = Node::new('r');
    node.me.incarnation = 2;
    assert_eq!(node.refuses(5, grant(2, "mr")), Refusal::NoMember(node.me));
    let asynchronous =
        Grant { mode: CommitMode::Async, members: Members::default(), ..grant(2, "") };
    assert_eq!(node.hear(6, &beat(6, Some(asynchronous))), Ok(Taken::Open));
}

#[test]
fn f15_a_new_master_knows_its_set_before_it_serves() {
    let mut node = Node::new('r');
    node.hear(5, &beat(5, Some(grant(2, "rs")))).unwrap();
    let in_sync = node.holder.in_sync().unwrap();
    assert_eq!(in_sync.commit(11), 0, "nothing is answered before the other has the epoch");
    in_sync.ack(member('s'), Some(EpochId(22)), 11);
    assert_eq!(in_sync.commit(11), 11);
}

#[test]
fn f2_a_late_or_foreign_grant_opens_nothing() {
    let mut node = Node::new('m');
    let late = beat(5, Some(grant(1, "m")));
    assert_eq!(node.hear(60_000, &late), Ok(Taken::Ignored(Ignored::Late)));
    assert!(node.entries.is_empty());
    let foreign = Heartbeat { is_for_me: false, ..beat(60_000, Some(grant(1, "m"))) };
    assert_eq!(node.hear(60_000, &foreign), Ok(Taken::Ignored(Ignored::NotMaster)));
    node.is_master = false;
    let early = beat(60_000, Some(grant(1, "m")));
    assert_eq!(node.hear(60_000, &early), Ok(Taken::Ignored(Ignored::NotMaster)));
    assert_eq!(node.serves(60_000), Err(NoServing::NoGrant));
}

#[test]
fn a_late_renewal_confirms_but_extends_nothing() {
    let mut node = Node::new('m');
    node.hear(5, &beat(5, Some(grant(1, "m")))).unwrap();
    let late = beat(5, Some(grant(1, "m")));
    // Alone in its set it needs no lease; asynchronously it does.
    let asynchronous =
        Heartbeat { grant: Some(Grant { mode: CommitMode::Async, ..grant(1, "m") }), ..late };
    assert_eq!(node.hear(60_000, &asynchronous), Ok(Taken::Renewed));
    assert_eq!(node.serves(60_000), Err(NoServing::Lease));
}

#[test]
fn f14_with_the_controller_silent_the_lease_comes_from_all_others() {
    let mut node = Node::new('m');
    node.hear(5, &beat(5, Some(grant(1, "mrs")))).unwrap();
    let id = Some(EpochId(11));
    node.holder.echo(member('r'), id, 900 * MS, 1000, (950 * MS, LONGEST));
    assert_eq!(node.serves(1100), Err(NoServing::Lease), "one of two is not enough");
    node.holder.echo(member('s'), id, 800 * MS, 1000, (950 * MS, LONGEST));
    assert_eq!((node.serves(1799), node.serves(1800)), (Ok(()), Err(NoServing::Lease)));
    // A stamp from the future, one of another epoch, a lease longer than allowed.
    for (id, stamp, lease) in
        [(id, 2000, 1000), (Some(EpochId(12)), 1700, 1000), (id, 1700, LONGEST + 1)]
    {
        for letter in ['r', 's'] {
            node.holder.echo(member(letter), id, stamp * MS, lease, (1750 * MS, LONGEST));
        }
    }
    assert_eq!(node.serves(1800), Err(NoServing::Lease));
}

#[test]
fn f14_alone_in_its_confirmed_set_a_master_needs_no_lease() {
    let mut node = Node::new('m');
    node.hear(5, &beat(5, Some(grant(1, "mr")))).unwrap();
    let link = [link('r', 11)];
    let in_sync = node.holder.in_sync().unwrap();
    in_sync.tick(10, 11, 800, &link);
    assert!(in_sync.tick(20, 11, 800, &[]), "asks to be alone");
    assert_eq!(node.serves(1005), Err(NoServing::Lease), "the store may hold the other");
    let confirmed = Grant { request: 1, ..grant(1, "m") };
    assert_eq!(node.hear(30, &beat(30, Some(confirmed))), Ok(Taken::Renewed));
    assert_eq!(node.serves(3_600_000), Ok(()));
    node.holder.give_up();
    assert_eq!(node.serves(31), Err(NoServing::NoGrant));
}

#[test]
fn a_grant_is_refused_while_a_promise_lasts() {
    let mut node = Node::new('r');
    assert!(!node.holder.ping(1000, 600 * MS, LONGEST), "nothing is on disk");
    let kept = node.holder.promise_ahead(1000, 600 * MS, LONGEST).unwrap();
    node.holder.kept(kept);
    assert!(node.holder.ping(1000, 600 * MS, LONGEST));
    let early = beat(1600, Some(grant(2, "r")));
    assert_eq!(node.hear(1609, &early), Ok(Taken::Ignored(Ignored::Promised)));
    assert_eq!(node.holder.promised_ns(1609 * MS), MS);
    assert_eq!(node.hear(1610, &early), Ok(Taken::Open));
    assert_eq!(node.holder.promise_ahead(1000, 9000 * MS, LONGEST), None);
    node.holder.kept(Kept { until_ns: u64::MAX, lease_ms: 1000 });
    assert!(!node.holder.ping(1000, 9000 * MS, LONGEST), "a master promises none");
}

#[test]
fn a_confirmation_of_what_was_not_asked_is_refused() {
    let mut node = Node::new('m');
    node.hear(5, &beat(5, Some(grant(1, "mr")))).unwrap();
    let unknown = Grant { request: 1, ..grant(1, "m") };
    assert_eq!(node.refuses(6, unknown), Refusal::UnknownRequest(1));
    assert_eq!(node.refuses(6, grant(1, "m")), Refusal::OtherMembers(0));
}

#[test]
fn demotion_is_undone_by_a_newer_grant_only() {
    let mut node = Node::new('m');
    node.hear(5, &beat(5, Some(grant(1, "m")))).unwrap();
    node.holder.give_up();
    assert_eq!(node.refuses(6, grant(1, "m")), Refusal::GivenUp(1));
    assert_eq!(node.hear(7, &beat(7, Some(grant(2, "m")))), Ok(Taken::Open));
}

#[test]
fn writes_need_enough_members_before_and_after() {
    let mut node = Node::new('m');
    let two = Grant { min_in_sync: 2, ..grant(1, "mr") };
    node.hear(5, &beat(5, Some(two))).unwrap();
    let held = node.holder.held().unwrap();
    assert!(held.has_enough() && held.has_enough_copies());
    let link = [link('r', 11)];
    node.holder.in_sync().unwrap().tick(10, 11, 800, &link);
    node.holder.in_sync().unwrap().tick(20, 11, 800, &[]);
    let held = node.holder.held().unwrap();
    assert!(!held.has_enough(), "asked to be alone: no new writes");
    assert!(held.has_enough_copies(), "what the other acknowledged may be answered");
    let alone = Grant { request: 1, min_in_sync: 2, ..grant(1, "m") };
    node.hear(30, &beat(30, Some(alone))).unwrap();
    assert!(!node.holder.held().unwrap().has_enough_copies());
}

#[test]
fn a_replica_is_let_go_once_no_set_has_it() {
    let mut node = Node::new('m');
    let r = member('r');
    assert!(node.holder.lets_go(&r, false), "nobody grants anything");
    assert!(!node.holder.lets_go(&r, true), "which set there is, nobody has said yet");
    node.hear(5, &beat(5, Some(grant(1, "mr")))).unwrap();
    let leaving = [Link { is_leaving: true, ..link('r', 11) }];
    assert!(node.holder.in_sync().unwrap().tick(10, 11, 800, &leaving));
    assert!(!node.holder.lets_go(&r, true), "the store may hold it");
    let alone = Grant { request: 1, ..grant(1, "m") };
    node.hear(30, &beat(30, Some(alone.clone()))).unwrap();
    assert!(node.holder.lets_go(&r, true));
    let mut others = node.clone();
    let asynchronous = Grant { mode: CommitMode::Async, ..alone };
    others.hear(40, &beat(40, Some(asynchronous))).unwrap();
    assert!(others.holder.lets_go(&r, true) && others.holder.lets_go(&member('s'), true));
}

#[test]
fn none_is_let_go_that_writes_need() {
    let mut node = Node::new('m');
    let two = |request: u64, members: &str| Grant { min_in_sync: 2, request, ..grant(1, members) };
    node.hear(5, &beat(5, Some(two(0, "mrs")))).unwrap();
    let leaving = ['r', 's'].map(|letter| Link { is_leaving: true, ..link(letter, 11) });
    let set_now = |node: &mut Node, now_ms: u64| {
        let in_sync = node.holder.in_sync().unwrap();
        in_sync.tick(now_ms, 11, 800, &leaving);
        in_sync.newest().1.clone()
    };
    assert_eq!(set_now(&mut node, 10), set("ms"));
    node.hear(30, &beat(30, Some(two(1, "ms")))).unwrap();
    assert_eq!(set_now(&mut node, 40), set("ms"), "two are wanted");
    // An operator wants fewer.
    let one = Grant { min_in_sync: 1, ..two(1, "ms") };
    node.hear(50, &beat(50, Some(one))).unwrap();
    assert_eq!(set_now(&mut node, 60), set("m"));
    assert!(node.holder.held().unwrap().has_enough());
}

#[test]
fn nothing_is_served_before_the_topology_of_the_epoch_is_here() {
    let mut node = Node::new('m');
    let moved = Grant { version: 12, ..grant(3, "mr") };
    let mut older = |version| {
        node.version = version;
        let taken = node.hear(5, &beat(5, Some(moved.clone())));
        (taken, node.serves(6), node.entries.len())
    };
    for version in [-1, 0, 11] {
        let passed = Ok(Taken::Ignored(Ignored::Topology));
        assert_eq!(older(version), (passed, Err(NoServing::NoGrant), 0), "{version}");
    }
    assert_eq!(older(12), (Ok(Taken::Open), Ok(()), 1));
    node.version = 40;
    assert_eq!(node.hear(9, &beat(9, Some(moved.clone()))), Ok(Taken::Renewed), "later ones do");
    node.version = 11;
    let passed = Ok(Taken::Ignored(Ignored::Topology));
    assert_eq!(node.hear(900, &beat(900, Some(moved))), passed, "back by force");
    assert_eq!(node.serves(1009), Err(NoServing::Lease));
}
