//! Scripted plans of clusters whose slots move: what heartbeats order, what goes into the store,
//! and what a person is told. The steps themselves are tested beside `moves`.

use api::moves::{Asked, Brake, Copying, Feed, Flow, Frozen, Mark, MoveId, Order, Ordered, Said};

use super::grants::in_sync;
use super::*;
use crate::moves::ordered;
use crate::moving::{self, STALL_MS};

const GIVER: ShardId = ShardId(0xa);
const TAKER: ShardId = ShardId(0xb);
const AT: Least = Least { id: Some(EpochId(3)), sequence: 100 };

/// The shard of a gives 0 to 9 to that of c; both masters serve under epochs, and know moves.
pub(super) fn two() -> Script {
    let mut s = in_sync(&["a"]);
    s.observed.term = 3;
    s.record.term = 3;
    let mut other = record(&["c"]).shards.remove(0);
    (other.id, other.slot_ranges) = (TAKER, vec![(10_000, 16_383)]);
    other.nodes[0].announced = Some(endpoint("lb9"));
    other.nodes[0].stated = Some(crate::Stated::of(&reply("c", 7, Does::Master)));
    other.epoch = s.record.shards[0].epoch.clone();
    other.epoch.in_sync = [super::grants::member("c")].into_iter().collect();
    s.record.shards[0].slot_ranges = vec![(0, 9_999)];
    s.record.shards.push(other);
    s.record.moves.queue("0-9".parse().unwrap(), GIVER, TAKER);
    s.record.check().unwrap();
    s.answers("c", reply("c", 7, Does::Master));
    s.answers_with("c", |reply| reply.standing = super::grants::standing(Does::Master));
    for name in ["a", "c"] {
        s.answers_with(name, |reply| reply.moves = Some(Vec::new()));
        s.granted(name);
        let node = s.observed.nodes.entry(id(name)).or_default();
        node.confirmed = Some((3, 0));
    }
    s
}

/// The copy is whole.
fn copied() -> Script {
    let mut s = two();
    s.steps();
    s.balancer_answers(&[]);
    s.steps();
    assert_eq!(s.record.moves.list[0].phase.word(), "copy");
    s.says("a", |said| said.feed = Some(Feed::Close));
    s.says("c", |said| said.mark = Some(Mark::Staged { at: Some(AT), is_whole: true }));
    s
}

fn word(asked: &Asked) -> String {
    match asked {
        Asked::Of(id) => format!("{id}?"),
        Asked::Told(told) => told.to_string(),
        Asked::Do(ordered) => {
            let Ordered { id, term, order, .. } = ordered;
            let order = match order {
                Order::Pull { node, nonce, epoch, rate } => {
                    let rate = rate.map(|rate| format!(" {rate}")).unwrap_or_default();
                    format!("pull {} {nonce} {epoch}{rate}", short(node))
                }
                other => format!("{other:?}").to_lowercase(),
            };
            format!("{id} {term} {order}")
        }
    }
}

impl Script {
    /// What a node says of the newest move from now on.
    fn says(&mut self, name: &str, change: impl FnOnce(&mut Said)) {
        let of = self.record.moves.newest;
        self.answers_with(name, |reply| {
            let said = reply.moves.get_or_insert_default();
            if !said.iter().any(|said| said.id == of) {
                said.push(Said::nothing(of));
            }
            change(said.iter_mut().find(|said| said.id == of).unwrap());
        });
    }

    /// What the next heartbeat to a node says of moves; it leaves.
    pub(super) fn leaves(&mut self, name: &str) -> String {
        let plan = self.plan();
        let asked = moving::asked(&plan, &self.record, &self.observed, &id(name));
        for asked in &asked {
            if let Asked::Do(order) = asked {
                ordered(&mut self.observed.attempts, order, self.now);
            }
        }
        asked.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    /// As the controller's loop: acts, and takes note of where moves are.
    fn steps(&mut self) -> Plan {
        let plan = self.acts();
        moving::note(&mut self.observed, &plan, self.now);
        plan
    }

    pub(super) fn swap(&self) -> Option<String> {
        self.plan().actions.into_iter().find_map(|action| match action {
            Action::CompareAndSwap { reason, .. } => Some(reason),
            _ => None,
        })
    }

    fn alarms(&self) -> Vec<String> {
        self.plan().alarms.into_iter().collect()
    }
}

/// A shard that was added without `--announce`: slots there would be served to nobody.
#[test]
fn nothing_moves_to_a_master_that_no_client_reaches() {
    let mut s = two();
    s.acts();
    s.balancer_answers(&[]);
    assert!(s.swap().is_some());
    let may_take = |s: &Script| moving::may_take(&s.record, &s.observed, TAKER);
    assert_eq!(may_take(&s), Ok(()));
    s.record.shards[1].nodes[0].announced = None;
    assert_eq!(s.swap(), None);
    let why = may_take(&s).unwrap_err();
    assert!(why.contains("ctl node announce c:1 HOST:PORT"), "{why}");
    s.record.shards[1].slot_ranges.clear();
    s.record.shards[0].slot_ranges = vec![(0, 16_383)];
    let told = s.alarms();
    assert!(told.iter().any(|alarm| alarm.contains("it gets no slots before it has one")));
    // Clients that dial nodes reach it.
    s.answers_with("c", |reply| reply.client_access = ClientAccess::Any);
    assert_eq!(may_take(&s), Ok(()));
}

#[test]
fn a_move_begins_once_every_balancer_leads_to_the_taker() {
    let mut s = two();
    assert_eq!(s.swap(), None);
    assert_eq!(
        s.plan().moves[&MoveId(1)].waits_for,
        "every balancer to lead to the taker's master"
    );
    s.acts();
    s.balancer_answers(&[]);
    let why = "move 1: 0-9 begin to move from shard 000000000000000a to 000000000000000b";
    assert_eq!(s.swap().as_deref(), Some(why));
    s.answers_with("c", |reply| reply.wall_ms = 1);
    s.observed.nodes.get_mut(&id("a")).unwrap().clock_ahead_ms = Some(-400);
    s.observed.nodes.get_mut(&id("c")).unwrap().clock_ahead_ms = Some(700);
    assert_eq!(s.swap(), None, "clocks");
    s.observed.nodes.get_mut(&id("c")).unwrap().clock_ahead_ms = Some(500);
    assert!(s.swap().is_some());
    let room = |free| Some(api::heartbeat::Room { free, size: 100 << 30 });
    s.answers_with("c", |reply| reply.room = room(9 << 30));
    assert_eq!(s.swap(), None, "less than a tenth");
    s.answers_with("c", |reply| reply.room = room(10 << 30));
    assert!(s.swap().is_some());
    s.answers_with("c", |reply| reply.moves = None);
    assert_eq!(s.plan().moves[&MoveId(1)].waits_for, "nodes that know slot moves");
}

/// What is shown of the move, with what it is about.
fn shown(s: &Script) -> String {
    let (one, plan) = (&s.record.moves.list[0], s.plan());
    moving::waits_for(&s.record, &s.observed, one, &plan.moves[&one.id])
}

#[test]
fn a_move_that_waits_for_room_says_where_how_much_and_what_to_do() {
    let mut s = two();
    s.acts();
    s.balancer_answers(&[]);
    let room = |free| Some(api::heartbeat::Room { free, size: 100 << 30 });
    s.answers_with("c", |reply| reply.room = room(9 << 30));
    let told = |free: &str, needed: &str| {
        format!(
            "room on the taker's disks (c:1 of shard 1 has {free} free, and {needed}: make room \
             there, or take the move back with `ctl moves cancel 1`)"
        )
    };
    let kept = "10738 MB that guests leave are needed, and what comes";
    assert_eq!(shown(&s), told("over 9500 MB", kept));
    s.record.moves.list[0].bytes = Some(2_100_000_000);
    let guess = "13238 MB are needed: 10738 MB that guests leave, and about 2500 MB that come";
    assert_eq!(shown(&s), told("over 9500 MB", guess));
    s.answers_with("c", |reply| reply.room = room(1));
    assert_eq!(shown(&s), told("less than 500 MB", guess));
    // What it waits for is the same as before, however much is free.
    let waits_for = s.plan().moves[&MoveId(1)].waits_for.clone();
    assert_eq!(waits_for, "room on the taker's disks");
    s.record.moves.list[0].is_paused = true;
    assert_eq!(shown(&s), "an operator: it is paused", "nothing is to be mended");
}

#[test]
fn what_a_move_waits_for_names_the_nodes_that_it_is_about() {
    let mut s = two();
    assert!(shown(&s).starts_with("every balancer to lead to the taker's master (c:1 of shard 1"));
    s.acts();
    s.balancer_answers(&[]);
    s.record.shards[1].epoch.number += 1;
    assert_eq!(shown(&s), "both masters to answer under their epochs (c:1 of shard 1)");
    s.record.shards[0].epoch.number += 1;
    let both = "(a:1 of shard 0, c:1 of shard 1)";
    assert_eq!(shown(&s), format!("both masters to answer under their epochs {both}"));
    s.record.shards[0].epoch.number -= 1;
    s.record.shards[1].epoch.number -= 1;
    s.observed.nodes.get_mut(&id("a")).unwrap().clock_ahead_ms = Some(-4_000);
    s.observed.nodes.get_mut(&id("c")).unwrap().clock_ahead_ms = Some(4_000);
    let apart = "the clocks of both masters, which are a second apart";
    assert_eq!(shown(&s), format!("{apart} {both}"));
    s.answers_with("a", |reply| reply.moves = None);
    assert_eq!(shown(&s), "nodes that know slot moves (a:1 of shard 0)");
}

#[test]
fn heartbeats_ask_of_moves_that_are_under_way_and_carry_orders() {
    let mut s = two();
    assert_eq!((s.leaves("a"), s.leaves("c")), (String::new(), String::new()), "queued");
    s.acts();
    s.balancer_answers(&[]);
    s.acts();
    assert_eq!((s.leaves("a").as_str(), s.leaves("c").as_str()), ("1?", "1 3 pull a 1 3"));
    s.answers_with("a", |reply| reply.moves = None);
    assert_eq!(s.leaves("a"), "", "it would refuse the word");
    let mut s = copied();
    assert_eq!(
        (s.leaves("a").as_str(), s.leaves("c").as_str()),
        ("1 3 freeze { number: 1 }", "1?")
    );
    s.observed.in_doubt = Some("a change".into());
    assert_eq!((s.leaves("a"), s.leaves("c")), (String::new(), String::new()));
    s.observed.in_doubt = None;
    s.observed.authority = Authority::Shared { read: None, is_fresh: false };
    assert_eq!(s.leaves("a"), "", "it does not lead for certain");
}

/// The store was restored from before that move, and no other move concerns its taker.
#[test]
fn what_is_staged_for_a_move_that_the_record_lacks_is_to_be_deleted() {
    let mut s = two();
    s.record.moves = crate::moves::Moves::default();
    assert_eq!(s.leaves("c"), "");
    let mark = Some(Mark::Staged { at: Some(AT), is_whole: true });
    let said = Said { mark, slots: "0-9".parse().ok(), ..Said::nothing(MoveId(16)) };
    s.answers_with("c", |reply| reply.moves = Some(vec![said]));
    assert_eq!(s.leaves("c"), "16 3 drop");
    s.answers_with("a", |reply| reply.newest_move = Some(MoveId(16)));
    assert_eq!(s.leaves("c"), "", "its owner may have given it away");
}

/// The store may be slow, and clients of the slots would wait for it.
#[test]
fn nothing_is_frozen_while_the_record_changes_for_something_else() {
    let mut s = copied();
    s.policy.lease_ms = 2_000;
    assert!(s.swap().unwrap().contains("leases may now last"));
    assert_eq!(s.leaves("a"), "1?");
    s.steps();
    assert!(s.leaves("a").contains("freeze"));
    s.answers_with("c", |reply| reply.version = 9);
    assert!(s.swap().unwrap().contains("a higher version"));
    assert_eq!(s.leaves("a"), "1?");
}

#[test]
fn both_sides_are_asked_again_and_again_while_clients_wait() {
    let mut s = copied();
    let asks = |s: &Script| show(&s.plan()).lines().filter(|l| l.starts_with("ask")).count();
    s.after_ms(10);
    assert_eq!(asks(&s), 1, "the giver is to hold writes back");
    s.leaves("a");
    assert_eq!(asks(&s), 2);
    s.says("a", |said| said.frozen = Some(Frozen { term: 3, number: 1, at: Some(AT) }));
    assert_eq!(asks(&s), 1, "one was asked now");
    s.after_ms(50);
    assert_eq!(s.leaves("a"), "1 3 thaw { number: 1 }");
    assert_eq!(asks(&s), 1);
}

#[test]
fn the_next_controller_asks_for_a_freeze_of_its_own_term() {
    let mut s = copied();
    s.leaves("a");
    s.says("a", |said| said.frozen = Some(Frozen { term: 3, number: 1, at: Some(AT) }));
    s.says("c", |said| (said.is_committed, said.sequence) = (true, 77));
    let of_this_term = s.swap().unwrap();
    assert_eq!(of_this_term, "move 1: shard 000000000000000b owns 0-9");
    // On a store that others share the term is not written into the record.
    s.observed.attempts.clear();
    s.observed.term = 4;
    s.observed.authority = Authority::Shared { read: Some(s.now), is_fresh: true };
    assert_eq!(s.swap(), None);
    assert_eq!(s.leaves("a"), "1 4 freeze { number: 1 }");
    s.says("a", |said| said.frozen = Some(Frozen { term: 4, number: 1, at: Some(AT) }));
    assert_eq!(s.swap().as_deref(), Some(&*of_this_term));
}

#[test]
fn who_takes_the_slots_is_told_of_it_once_it_serves_them_and_the_others_then() {
    let mut s = copied();
    s.leaves("a");
    s.says("a", |said| said.frozen = Some(Frozen { term: 3, number: 1, at: Some(AT) }));
    s.says("c", |said| (said.is_committed, said.sequence) = (true, 77));
    s.steps();
    assert_eq!(s.record.version, 8);
    let pushes = |s: &Script| -> Vec<String> {
        let plan = show(&s.plan());
        plan.lines().filter(|line| line.starts_with("push")).map(|l| l[..6].to_owned()).collect()
    };
    assert_eq!(pushes(&s), [""; 0]);
    assert_eq!(s.leaves("a"), "1 3 seal");
    s.says("a", |said| said.is_sealed = true);
    assert!(s.leaves("c").contains("open"));
    s.says("c", |said| said.mark = Some(Mark::Held));
    assert_eq!(pushes(&s), ["push c"]);
    s.answers_with("c", |reply| reply.version = 8);
    assert_eq!(pushes(&s), ["push a"]);
    // A giver that does not seal keeps nobody from the topology for ever.
    s.says("c", |said| said.mark = Some(Mark::Staged { at: Some(AT), is_whole: true }));
    s.answers_with("c", |reply| reply.version = 7);
    assert_eq!(pushes(&s), [""; 0]);
    s.after_ms(1_000);
    s.answers_with("a", |_| {});
    s.answers_with("c", |_| {});
    assert_eq!(pushes(&s), ["push a", "push c"]);
}

#[test]
fn a_move_that_does_not_advance_is_told_of_with_what_it_waits_for() {
    let mut s = two();
    s.acts();
    s.balancer_answers(&[]);
    s.steps();
    s.steps();
    let rest = |s: &mut Script, ms| {
        s.after_ms(ms);
        s.answers_with("a", |_| {});
        s.answers_with("c", |_| {});
        for name in ["a", "c"] {
            s.granted(name);
        }
        s.steps();
    };
    rest(&mut s, STALL_MS - 1);
    assert_eq!(s.alarms(), [""; 0]);
    assert!(s.plan().wake_at.is_some_and(|at| at <= s.now.plus_millis(1)));
    rest(&mut s, 1);
    let alarm =
        "move 1 of slots 0-9 from shard 0 to shard 1 does not advance: it waits for the copy (c:1 \
         of shard 1 takes it from a:1 of shard 0)";
    assert_eq!(s.alarms(), [alarm]);
    // What is copied is an advance, and what an operator has asked for is none to be told of.
    let part =
        |sequence| Some(Mark::Staged { at: Some(Least { sequence, ..AT }), is_whole: false });
    s.says("c", |said| said.mark = part(7));
    assert_eq!(s.alarms(), [""; 0]);
    s.steps();
    rest(&mut s, STALL_MS);
    assert_eq!(s.alarms(), [alarm]);
    s.record.moves.get_mut(MoveId(1)).unwrap().is_paused = true;
    rest(&mut s, STALL_MS);
    rest(&mut s, STALL_MS);
    assert_eq!(s.alarms(), [""; 0]);
    s.record.moves.get_mut(MoveId(1)).unwrap().is_paused = false;
    s.says("a", |said| said.feed = Some(Feed::Far));
    s.says("c", |said| said.mark = Some(Mark::Staged { at: Some(AT), is_whole: true }));
    s.steps();
    let later = Least { sequence: 300, ..AT };
    s.says("c", |said| said.mark = Some(Mark::Staged { at: Some(later), is_whole: true }));
    rest(&mut s, STALL_MS);
    let told = "waits for a short stop to be possible (a:1 of shard 0, c:1 of shard 1)";
    assert!(s.alarms()[0].ends_with(told), "writes go on");
}

#[test]
fn a_copy_that_only_brings_what_clients_write_does_not_advance() {
    let mut s = two();
    s.acts();
    s.balancer_answers(&[]);
    s.steps();
    let brings = |s: &mut Script, parts, clash: Option<&str>, sequence| {
        let at = Some(Least { sequence, ..AT });
        s.says("c", |said| said.mark = Some(Mark::Staged { at, is_whole: false }));
        let clash = clash.map(str::to_owned);
        s.answers_with("c", |reply| reply.copying = vec![Copying { id: MoveId(1), parts, clash }]);
        s.steps();
    };
    let rest = |s: &mut Script| {
        s.after_ms(STALL_MS);
        for name in ["a", "c"] {
            s.answers_with(name, |_| {});
        }
        for name in ["a", "c"] {
            s.granted(name);
        }
    };
    brings(&mut s, 3, None, 7);
    rest(&mut s);
    brings(&mut s, 3, None, 900);
    let alarm = "move 1 of slots 0-9 from shard 0 to shard 1 does not advance: it waits for";
    let copy = "the copy (c:1 of shard 1 takes it from a:1 of shard 0)";
    assert_eq!(s.alarms(), [format!("{alarm} {copy}")]);
    brings(&mut s, 4, None, 901);
    assert_eq!(s.alarms(), [""; 0], "it does again");
    brings(&mut s, 4, Some("the library `x`"), 901);
    assert_eq!(s.plan().moves[&MoveId(1)].waits_for, "the library `x`");
    rest(&mut s);
    brings(&mut s, 4, Some("the library `x`"), 950);
    assert_eq!(s.alarms(), [format!("{alarm} the library `x` (c:1 of shard 1)")]);
}

#[test]
fn an_alarm_says_what_stops_a_copy_or_both_rates_of_one_that_does_not_keep_up() {
    let mut s = two();
    s.acts();
    s.balancer_answers(&[]);
    s.steps();
    let flow = |is_taken, bytes_per_s, brake, (written_per_s, taken_per_s)| {
        let (id, rate) = (MoveId(1), None);
        Flow { id, is_taken, rate, bytes_per_s, brake, written_per_s, taken_per_s }
    };
    let one = s.record.moves.list[0].clone();
    let rests = |s: &mut Script| {
        s.steps();
        s.after_ms(STALL_MS);
        for name in ["a", "c"] {
            s.answers_with(name, |_| {});
            s.granted(name);
        }
        s.alarms()
    };
    s.says("c", |said| said.mark = Some(Mark::Staged { at: Some(AT), is_whole: false }));
    let taken = flow(true, 0, Some(Brake::Room), (0, 0));
    s.answers_with("c", |reply| reply.flows = Some(vec![taken]));
    let given = flow(false, 2_000_000, Some(Brake::Latency), (0, 0));
    s.answers_with("a", |reply| reply.flows = Some(vec![given]));
    let alarm = "move 1 of slots 0-9 from shard 0 to shard 1 does not advance: it waits for";
    let room = "the room on its disk or below max-db-size at the taker";
    let lacks = |where_and_what: &str| {
        let back = "or take the move back with `ctl moves cancel 1`";
        let about = format!("c:1 of shard 1 lacks room {where_and_what}, {back}");
        format!("{alarm} the copy, which is held up by {room} ({about})")
    };
    let unsaid = "on its disk, or below its `max-db-size`: make room there or raise that";
    assert_eq!(rests(&mut s), [lacks(unsaid)]);
    // Its disk has room.
    let has_room = Some(api::heartbeat::Room { free: 20 << 30, size: 100 << 30 });
    s.answers_with("c", |reply| reply.room = has_room);
    s.record.moves.list[0].bytes = Some(3_000_000_000);
    let below = "below its `max-db-size` for about 3000 MB: raise that";
    assert_eq!(rests(&mut s), [lacks(below)]);
    s.answers_with("c", |reply| reply.room = None);
    s.record.moves.list[0].bytes = None;
    assert_eq!(
        moving::slowed_by(&s.record, &s.observed, &one),
        Some(format!("what clients wait at the giver, {room}"))
    );
    s.answers_with("c", |reply| reply.flows = Some(vec![flow(true, 9, None, (0, 0))]));
    let slow = format!("{alarm} the copy (c:1 of shard 1 takes it from a:1 of shard 0)");
    assert_eq!(rests(&mut s), [slow], "it is slow, and not stopped");
    s.says("c", |said| said.mark = Some(Mark::Staged { at: Some(AT), is_whole: true }));
    s.says("a", |said| said.feed = Some(Feed::Far));
    let lags = flow(false, 64_000_000, None, (12_345_678, 7_000_000));
    s.answers_with("a", |reply| reply.flows = Some(vec![lags]));
    let rates = "a short stop to be possible, while the giver's log grows by over 10 MB a second and \
                 the taker keeps up with over 5 MB";
    assert_eq!(rests(&mut s), [format!("{alarm} {rates} (a:1 of shard 0, c:1 of shard 1)")]);
    assert_eq!(moving::slowed_by(&s.record, &s.observed, &one), None);
}

#[test]
fn no_more_are_under_way_than_asked_for() {
    let mut s = two();
    s.acts();
    s.balancer_answers(&[]);
    s.record.moves.limit = Some(1);
    s.record.moves.queue("10000".parse().unwrap(), TAKER, GIVER);
    s.acts();
    assert_eq!((s.swap(), s.plan().moves[&MoveId(2)].waits_for.as_str()), (None, "its turn"));
    s.record.moves.limit = Some(2);
    assert!(s.swap().unwrap().starts_with("move 2: 10000 begin"));
}

#[test]
fn nodes_that_could_not_carry_it_out_are_told_beforehand() {
    let mut s = two();
    let able = |s: &Script, id| moving::is_able(&s.record, &s.observed, id);
    assert_eq!(able(&s, GIVER), Ok(()));
    s.answers_with("c", |reply| reply.moves = None);
    let why = able(&s, TAKER).unwrap_err();
    assert!(why.starts_with("shard 1: its master c:1 does not know slot moves"), "{why}");
    s.record.shards[0].epoch = Epoch::default();
    assert!(able(&s, GIVER).unwrap_err().contains("no epoch yet"));
    assert_eq!(able(&s, ShardId(9)).unwrap_err(), "shard 0000000000000009: not found");
    s.observed.nodes.clear();
    assert!(able(&s, GIVER).unwrap_err().contains("has not answered"));
}

#[test]
fn what_has_no_place_at_the_taker_is_told_before() {
    let mut s = two();
    let place = |s: &Script, bytes| moving::have_place(&s.record, &s.observed, TAKER, bytes);
    assert_eq!(place(&s, u64::MAX), Ok(()), "it does not say");
    s.answers_with("c", |reply| {
        reply.room = Some(api::heartbeat::Room { free: 5_000_000_000, size: 20_000_000_000 });
    });
    assert_eq!(place(&s, 2_000_000_000), Ok(()));
    let why = place(&s, 3_000_000_000).unwrap_err();
    assert!(why.starts_with("shard 1: about 3000 MB come, and c:"), "{why}");
    assert!(why.contains("has place for 2852 MB"), "{why}");
    assert!(moving::takes_rates(&s.record, &s.observed, TAKER).is_err());
    s.answers_with("c", |reply| reply.knows_rates = true);
    assert_eq!(moving::takes_rates(&s.record, &s.observed, TAKER), Ok(()));
}

/// The record knows no move at all: an earlier store was restored, or another store took the
/// cluster over.
#[test]
fn what_is_held_back_for_an_unknown_move_is_an_alarm_at_once_and_is_let_go() {
    let mut s = two();
    s.acts();
    s.balancer_answers(&[]);
    s.record.moves = crate::moves::Moves::default();
    assert_eq!(s.alarms(), Vec::<String>::new());
    let frozen = Some(Frozen { term: 2, number: 4, at: Some(AT) });
    let slots = "500-599".parse().ok();
    s.answers_with("a", |reply| {
        reply.moves = Some(vec![Said { frozen, slots, ..Said::nothing(MoveId(16)) }]);
    });
    let told = "writes of slots 500-599 are held back at a:1 for move 16, which this record does not \
                know: they are let go once the record is as new as the node's topology";
    assert_eq!(s.alarms(), [told.to_owned()]);
    assert_eq!(s.leaves("a"), "16 3 thaw { number: 4 }");
    s.answers_with("a", |reply| reply.moves.iter_mut().flatten().for_each(|m| m.is_sealed = true));
    assert_eq!(s.leaves("a"), "");
    assert!(s.alarms()[0].starts_with("reads and writes of slots 500-599"), "{:?}", s.alarms());
    s.answers_with("a", |reply| reply.moves = Some(Vec::new()));
    assert_eq!(s.alarms(), Vec::<String>::new());
}
