//! Exact plans of one move, from the queue to the end.

use api::grant::Least;
use api::moves::{Feed, Frozen, Mark, Slots};
use expect_test::{Expect, expect};

use super::*;
use crate::tests::{id, record};
use crate::{Epoch, Shard};

mod left;

const GIVER: ShardId = ShardId(0xa);
const TAKER: ShardId = ShardId(0xb);
const AT: Least = Least { id: Some(EpochId(2)), sequence: 500 };

struct Script {
    record: Record,
    observed: Observed,
    now: Time,
}

/// Shard a has the slots 0 to 9999, b the rest; 0 to 9 are queued to move to b.
fn script() -> Script {
    let mut first = record(&["a"]);
    let mut second = record(&["b"]).shards.remove(0);
    second.id = TAKER;
    first.shards.push(second);
    first.term = 3;
    for (shard, ranges) in first.shards.iter_mut().zip([(0, 9_999), (10_000, 16_383)]) {
        shard.slot_ranges = vec![ranges];
        let (number, nonce) = (4, "1".to_owned());
        shard.epoch = Epoch { number, id: EpochId(2), nonce, ..Epoch::default() };
        for node in &mut shard.nodes {
            node.announced = None;
        }
    }
    first.moves.queue("0-9".parse().unwrap(), GIVER, TAKER);
    assert_eq!(first.check(), Ok(()));
    let answer = || Answer {
        nonce: "1".into(),
        granted_epoch: 4,
        granted_id: EpochId(2),
        version: 7,
        knows_moves: true,
        newest: MoveId(0),
        knows_rates: true,
        has_room: true,
        is_reached: true,
        clock_ahead_ms: None,
        clock_error_ms: 0,
        takes: None,
        clashes: BTreeMap::new(),
        said: BTreeMap::new(),
    };
    let answers = ["a", "b"].map(|name| (id(name), answer()));
    let observed = Observed { term: 3, answers: answers.into(), attempts: BTreeMap::new() };
    Script { record: first, observed, now: Time::from_millis(100_000) }
}

impl Script {
    /// What a node says of the newest move from now on.
    fn says(&mut self, name: &str, change: impl FnOnce(&mut Said)) {
        let id_of = self.record.moves.newest;
        let answer = self.observed.answers.get_mut(&id(name)).unwrap();
        change(answer.said.entry(id_of).or_insert_with(|| Said::nothing(id_of)));
    }

    fn plan(&self) -> Plan {
        plan(&self.record, &self.observed, self.now)
    }

    #[track_caller]
    fn check(&self, expected: Expect) {
        let plan = self.plan();
        let mut lines: Vec<String> = Vec::new();
        for (node, ordered) in &plan.orders {
            let Ordered { id, term, order, .. } = ordered;
            lines.push(format!("{} move {id} term {term}: {order:?}", node.trim_end_matches('_')));
        }
        if let Some((record, why)) = &plan.swap {
            lines.push(format!("store v{}: {why}", record.version));
        }
        lines.extend(plan.waits.iter().map(|(id, why)| format!("move {id} waits for {why}")));
        lines.extend(plan.wake_at.map(|at| format!("wake at {at}")));
        expected.assert_eq(&(lines.join("\n") + "\n"));
    }

    /// Orders leave, and the record is changed.
    fn acts(&mut self) {
        let plan = self.plan();
        for (_, ordered) in &plan.orders {
            super::ordered(&mut self.observed.attempts, ordered, self.now);
        }
        if let Some((record, _)) = plan.swap {
            assert_eq!(record.revision, self.record.revision + 1);
            record.check().unwrap();
            self.record = record;
        }
    }

    /// The copy is whole, and the stream close.
    fn copied() -> Self {
        let mut s = script();
        s.acts();
        s.says("a", |said| said.feed = Some(Feed::Close));
        s.says("b", |said| said.mark = Some(Mark::Staged { at: Some(AT), is_whole: true }));
        s
    }

    /// Frozen and ready.
    fn ready() -> Self {
        let mut s = Self::copied();
        s.acts();
        s.says("a", |said| said.frozen = Some(Frozen { term: 3, number: 1, at: Some(AT) }));
        s.says("b", |said| (said.is_committed, said.sequence) = (true, 77));
        s
    }
}

#[test]
fn where_slots_came_is_known_until_they_come_elsewhere() {
    let mut s = Script::ready();
    s.acts();
    let taker = s.record.shards[1].id;
    let [came] = &s.record.moves.came[..] else { panic!("{:?}", s.record.moves) };
    assert_eq!((came.to, came.slots.to_string(), came.floor.sequence), (taker, "0-9".into(), 77));
    let back = Came { id: MoveId(2), slots: "0-20".parse().unwrap(), ..came.clone() };
    s.record.moves.has_come(back.clone());
    assert_eq!(s.record.moves.came, [back]);
}

#[test]
fn a_move_from_the_queue_to_the_end() {
    let mut s = script();
    s.check(expect![[r#"
        store v7: move 1: 0-9 begin to move from shard 000000000000000a to 000000000000000b
    "#]]);
    s.acts();
    s.check(expect![[r#"
        b move 1 term 3: Pull { node: "a_______________________________________", nonce: "1", epoch: 4, rate: None }
        move 1 waits for the copy
    "#]]);
    s.says("b", |said| said.mark = Some(Mark::Staged { at: None, is_whole: false }));
    s.says("a", |said| said.feed = Some(Feed::Far));
    s.check(expect![[r#"
        move 1 waits for the copy
    "#]]);
    let mut s = Script::copied();
    s.check(expect![[r#"
        a move 1 term 3: Freeze { number: 1 }
    "#]]);
    s.acts();
    s.check(expect![[r#"
        a move 1 term 3: Freeze { number: 1 }
        move 1 waits for the taker to have what the giver has
        wake at 100.050s
    "#]]);
    let mut s = Script::ready();
    s.check(expect![[r#"
        store v8: move 1: shard 000000000000000b owns 0-9
    "#]]);
    s.acts();
    assert_eq!(s.record.shards[0].slot_ranges, [(10, 9_999)]);
    assert_eq!(s.record.shards[1].slot_ranges, [(0, 9), (10_000, 16_383)]);
    let floor = Floor { epoch: 4, id: EpochId(2), sequence: 77 };
    assert_eq!(s.record.shards[1].floor, Some(floor));
    s.check(expect![[r#"
        a move 1 term 3: Seal
        move 1 waits for the giver to answer for the slots no more
    "#]]);
    s.says("a", |said| said.is_sealed = true);
    s.check(expect![[r#"
        b move 1 term 3: Open { at: Least { id: Some(0000000000000002), sequence: 500 }, version: 8 }
        move 1 waits for the taker to open
    "#]]);
    s.says("b", |said| (said.mark, said.is_committed) = (Some(Mark::Held), false));
    s.check(expect![[r#"
        a move 1 term 3: Leave { version: 8 }
        move 1 waits for the giver to note that the slots are gone
    "#]]);
    s.says("a", |said| said.mark = Some(Mark::Gone { is_empty: false }));
    s.check(expect![[r#"
        a move 1 term 3: Leave { version: 8 }
        move 1 waits for the giver to delete what is gone
    "#]]);
    // The second time it lets go of what it held back: its data says it.
    s.says("a", |said| (said.frozen, said.is_sealed) = (None, false));
    s.says("b", |said| (said.is_committed, said.is_synced) = (true, true));
    s.check(expect![[r#"
        a move 1 term 3: Leave { version: 8 }
        a move 1 term 3: Clean
        move 1 waits for the giver to delete what is gone
    "#]]);
    s.says("a", |said| said.mark = Some(Mark::Gone { is_empty: true }));
    s.check(expect![[r#"
        move 1 waits for the giver's replicas
    "#]]);
    s.says("a", |said| said.is_committed = true);
    s.check(expect![[r#"
        store v8: move 1: done
    "#]]);
    s.acts();
    assert_eq!((s.record.moves.list.len(), s.record.moves.done[0].error.as_ref()), (0, None));
    assert_eq!(s.plan(), Plan::default());
}

/// The giver has the only other copy: a whole set that loses its power at once keeps what is on the
/// disk alone.
#[test]
fn the_giver_deletes_nothing_before_the_takers_set_has_it_and_its_disk_too() {
    let mut s = Script::ready();
    s.acts();
    s.says("a", |said| said.mark = Some(Mark::Gone { is_empty: false }));
    s.says("b", |said| said.mark = Some(Mark::Held));
    for has in [(false, false), (true, false), (false, true), (true, true)] {
        s.says("b", |said| (said.is_committed, said.is_synced) = has);
        let plan = s.plan();
        let cleans = plan.orders.iter().any(|(_, ordered)| ordered.order == Order::Clean);
        assert_eq!(cleans, has == (true, true), "{has:?}: {plan:?}");
        assert!(plan.orders.iter().any(|(_, o)| o.order == (Order::Leave { version: 8 })));
    }
}

#[test]
fn a_freeze_that_is_not_met_in_time_is_given_up_and_counts_no_more() {
    let mut s = Script::ready();
    s.says("b", |said| said.is_committed = false);
    s.now = s.now.plus_millis(FREEZE_MS);
    s.check(expect![[r#"
        a move 1 term 3: Thaw { number: 1 }
    "#]]);
    s.acts();
    s.says("b", |said| said.is_committed = true);
    s.check(expect![[r#"
        a move 1 term 3: Thaw { number: 1 }
        move 1 waits for a short stop to be possible
        wake at 101.000s
    "#]]);
    s.says("a", |said| said.frozen = None);
    s.now = Time::from_millis(101_000);
    s.check(expect![[r#"
        a move 1 term 3: Freeze { number: 2 }
    "#]]);
}

#[test]
fn a_freeze_of_an_earlier_controller_is_asked_for_anew() {
    let mut s = Script::ready();
    (s.observed.term, s.observed.attempts) = (4, BTreeMap::new());
    s.check(expect![[r#"
        a move 1 term 4: Freeze { number: 1 }
    "#]]);
    s.says("a", |said| said.feed = Some(Feed::Far));
    s.check(expect![[r#"
        a move 1 term 4: Thaw { number: 1 }
        move 1 waits for a short stop to be possible
    "#]]);
}

/// Each of them is a swap of the record: what was said under an epoch that it no longer holds is
/// nothing to rest on.
#[test]
fn what_was_said_under_another_epoch_counts_for_nothing() {
    for index in [0, 1] {
        for change in [
            |shard: &mut Shard| shard.epoch.number = 5,
            |shard: &mut Shard| shard.epoch.nonce = "2".into(),
            |shard: &mut Shard| shard.epoch.id = EpochId(9),
        ] {
            let mut s = Script::ready();
            change(&mut s.record.shards[index]);
            assert_eq!(s.plan().swap, None);
        }
    }
    let mut s = Script::ready();
    s.says("b", |said| {
        said.mark = Some(Mark::Staged { at: Some(Least { sequence: 499, ..AT }), is_whole: true });
    });
    assert_eq!(s.plan().swap, None, "not all of it");
}

#[test]
fn a_later_epoch_of_the_giver_is_a_seal_once_the_earlier_process_is_fenced() {
    let waits = |s: &Script| {
        let plan = s.plan();
        assert_eq!((plan.orders, plan.swap), (vec![], None));
        assert_eq!(plan.waits[&MoveId(1)], "the giver to answer for the slots no more");
    };
    let mut s = Script::ready();
    s.acts();
    // A switchover that went back: the same process, which has not heard of it.
    s.record.shards[0].epoch.number = 5;
    waits(&s);
    // A switchover: the predecessor still answers reads.
    s.record.shards[0].epoch.nonce = "2".into();
    let (node, version) = (id("a"), s.record.version);
    s.record.shards[0].fence = Some(crate::PendingFence { node, version, member: None });
    waits(&s);
    s.record.shards[0].fence = None;
    s.check(expect![[r#"
        b move 1 term 3: Open { at: Least { id: Some(0000000000000002), sequence: 500 }, version: 8 }
        move 1 waits for the taker to open
    "#]]);
}

/// The taker has deleted what it had, and its replica has not.
fn dropped(s: &mut Script) {
    let gone = Some(Mark::Gone { is_empty: true });
    s.says("b", |said| (said.mark, said.is_committed) = (gone, false));
    s.check(expect![[r#"
        move 1 waits for the taker's replicas
    "#]]);
    s.says("b", |said| said.is_committed = true);
}

#[test]
fn a_giver_with_another_history_is_copied_anew_under_another_number() {
    let mut s = Script::copied();
    s.says("a", |said| said.feed = Some(Feed::Misfit));
    s.check(expect![[r#"
        store v7: move 1: begins anew, the giver has lost it
    "#]]);
    s.acts();
    s.check(expect![[r#"
        b move 1 term 3: Drop
        move 1 waits for the taker to delete what is staged
    "#]]);
    dropped(&mut s);
    s.check(expect![[r#"
        store v7: move 1: queued again as 2: the giver's history is not the one that was copied
    "#]]);
    s.acts();
    let again = &s.record.moves.list[0];
    assert_eq!((again.id, again.tries, &again.phase), (MoveId(2), 1, &Phase::Queued));
}

#[test]
fn what_is_cancelled_is_thawed_and_dropped_and_what_has_moved_is_not() {
    let mut s = Script::ready();
    s.record.moves.cancel(MoveId(1)).unwrap();
    s.check(expect![[r#"
        a move 1 term 3: Thaw { number: 1 }
        move 1 waits for the giver to take writes again
    "#]]);
    s.says("a", |said| said.frozen = None);
    s.says("b", |said| said.mark = None);
    s.check(expect![[r#"
        b move 1 term 3: Drop
        move 1 waits for the taker to delete what is staged
    "#]]);
    dropped(&mut s);
    s.check(expect![[r#"
        store v7: move 1: given up: cancelled
    "#]]);
    s.acts();
    // A late order froze it again.
    s.says("a", |said| said.frozen = Some(Frozen { term: 3, number: 1, at: Some(AT) }));
    s.check(expect![[r#"
        a move 1 term 3: Thaw { number: 1 }
    "#]]);
    let mut s = Script::ready();
    s.acts();
    assert!(s.record.moves.cancel(MoveId(1)).is_err());
}

#[test]
fn one_at_a_time_gives_and_one_takes() {
    let mut s = script();
    s.record.moves.queue("20".parse().unwrap(), GIVER, TAKER);
    s.acts();
    assert_eq!(s.plan().waits[&MoveId(2)], "its turn");
    let slots: Slots = "12000".parse().unwrap();
    s.record.moves.queue(slots.clone(), TAKER, GIVER);
    assert!(s.plan().swap.is_some(), "the other way");
    s.record.moves.list.pop();
    s.record.moves.queue(slots, GIVER, TAKER);
    s.record.moves.list.swap_remove(0);
    s.acts();
    s.acts();
    assert_eq!(s.record.moves.done[0].error.as_deref(), Some("the slots are not the giver's"));
}

#[test]
fn a_record_without_moves_is_as_before() {
    let json = serde_json::to_string(&record(&["a"])).unwrap();
    assert!(!json.contains("moves") && !json.contains("floor"), "{json}");
    let mut s = Script::ready();
    s.acts();
    let json = serde_json::to_string(&s.record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), s.record);
}

#[test]
fn a_rate_is_ordered_where_both_know_one() {
    let mut s = script();
    let rate = api::moves::Rate::new(5).ok();
    s.record.moves.list[0].rate = rate;
    s.acts();
    let ordered = |s: &Script| match &s.plan().orders[..] {
        [(_, Ordered { order: Order::Pull { rate, .. }, .. })] => *rate,
        other => panic!("{other:?}"),
    };
    assert_eq!(ordered(&s), rate);
    for name in ["a", "b"] {
        s.observed.answers.get_mut(&id(name)).unwrap().knows_rates = false;
        assert_eq!(ordered(&s), None, "an older node would take the order for none");
        s.observed.answers.get_mut(&id(name)).unwrap().knows_rates = true;
    }
    // An earlier version's store says nothing of rates, and this one says nothing of them if none
    // was asked for.
    let json = serde_json::to_string(&script().record.moves).unwrap();
    assert!(!json.contains("rate"), "{json}");
    assert_eq!(serde_json::from_str::<Moves>(&json).unwrap(), script().record.moves);
    let json = serde_json::to_string(&s.record.moves).unwrap();
    assert_eq!(serde_json::from_str::<Moves>(&json).unwrap(), s.record.moves);
}

#[test]
fn nothing_is_frozen_while_clocks_are_apart_or_something_is_to_be_mended() {
    let mut s = Script::copied();
    let freezes = |s: &Script| {
        let orders = s.plan().orders;
        orders.iter().any(|(_, ordered)| matches!(ordered.order, Order::Freeze { .. }))
    };
    let waits = |s: &Script| s.plan().waits.get(&MoveId(1)).cloned().unwrap_or_default();
    let clock = |s: &mut Script, name: &str, ahead_ms, error_ms| {
        let answer = s.observed.answers.get_mut(&id(name)).unwrap();
        (answer.clock_ahead_ms, answer.clock_error_ms) = (Some(ahead_ms), error_ms);
    };
    assert!(freezes(&s));
    clock(&mut s, "a", -20, 0);
    clock(&mut s, "b", 31, 0);
    assert!(!freezes(&s));
    assert_eq!(waits(&s), "the clocks of both masters, which are more than 50 ms apart");
    clock(&mut s, "b", 31, 1);
    assert!(freezes(&s), "so much is not certain");
    clock(&mut s, "b", 30, 0);
    assert!(freezes(&s));
    let taker = s.observed.answers.get_mut(&id("b")).unwrap();
    taker.clashes.insert(MoveId(1), "the library `x`".into());
    assert!(!freezes(&s));
    assert_eq!(waits(&s), "the library `x`");
    // Told also while the copy, which it stops, is not whole.
    s.says("b", |said| said.mark = Some(Mark::Staged { at: Some(AT), is_whole: false }));
    assert_eq!(waits(&s), "the library `x`");
}

/// A copy that is under way.
fn copying() -> Script {
    let mut s = script();
    s.acts();
    s.says("b", |said| said.mark = Some(Mark::Staged { at: Some(AT), is_whole: false }));
    s.says("a", |said| said.feed = Some(Feed::Far));
    s
}

impl Script {
    /// The taker says which stream of the move it takes.
    fn takes(&mut self, rate: Option<Option<Rate>>) {
        let takes = rate.map(|rate| (self.record.moves.newest, rate)).into_iter().collect();
        self.observed.answers.get_mut(&id("b")).unwrap().takes = Some(takes);
    }
}

#[test]
fn a_pause_stops_a_copy_that_is_under_way_and_its_end_lets_it_go_on() {
    let mut s = copying();
    s.record.moves.list[0].is_paused = true;
    // A node that does not tell of its streams knows no order to rest.
    s.check(expect![[r#"
        move 1 waits for an operator: it is paused, and the copy goes on, since the taker's node knows no pause of it
    "#]]);
    s.takes(Some(None));
    s.check(expect![[r#"
        b move 1 term 3: Rest
        move 1 waits for an operator: it is paused, and the copy is about to stop
    "#]]);
    s.takes(None);
    s.says("a", |said| said.feed = None);
    s.check(expect![[r#"
        move 1 waits for an operator: it is paused, and nothing is copied
    "#]]);
    s.record.moves.list[0].is_paused = false;
    s.check(expect![[r#"
        b move 1 term 3: Pull { node: "a_______________________________________", nonce: "1", epoch: 4, rate: None }
        move 1 waits for the copy
    "#]]);
}

#[test]
fn a_copy_under_way_goes_on_at_the_rate_that_it_is_given() {
    let mut s = copying();
    s.takes(Some(None));
    assert_eq!(s.plan().orders, vec![]);
    let five = Rate::new(5).ok();
    s.record.moves.list[0].rate = five;
    let pulls = |s: &Script| {
        let orders = s.plan().orders;
        let rate = |(_, ordered): &(String, Ordered)| match &ordered.order {
            Order::Pull { rate, .. } => *rate,
            other => panic!("{other:?}"),
        };
        orders.iter().map(rate).collect::<Vec<_>>()
    };
    assert_eq!(pulls(&s), [five]);
    s.takes(Some(five));
    assert_eq!(s.plan().orders, vec![]);
    s.record.moves.list[0].rate = None;
    assert_eq!(pulls(&s), [None]);
    // Nodes of an earlier version know no rate: what they were asked for is what they have.
    s.record.moves.list[0].rate = five;
    s.takes(Some(None));
    s.observed.answers.get_mut(&id("a")).unwrap().knows_rates = false;
    assert_eq!(s.plan().orders, vec![]);
}

/// The giver believes for a while that its stream is up.
#[test]
fn the_takers_successor_is_told_to_pull_at_once() {
    let mut s = copying();
    s.takes(None);
    s.check(expect![[r#"
        b move 1 term 3: Pull { node: "a_______________________________________", nonce: "1", epoch: 4, rate: None }
        move 1 waits for the copy
    "#]]);
}

/// The store was restored from before a move that nodes know of: its number would be given again.
#[test]
fn a_move_begins_under_a_number_that_neither_master_knows() {
    for (name, known) in [("a", 1), ("b", 1), ("a", 16), ("b", 16)] {
        let mut s = script();
        s.record.moves.list[0].rate = api::moves::Rate::new(5).ok();
        s.record.moves.queue("20".parse().unwrap(), GIVER, TAKER);
        let answer = s.observed.answers.get_mut(&id(name)).unwrap();
        answer.newest = MoveId(known);
        s.acts();
        let next = known.max(2) + 1;
        let one = s.record.moves.list[0].clone();
        assert_eq!((one.id, &one.phase, one.tries), (MoveId(next), &Phase::Queued, 0));
        assert_eq!(
            (one.slots.to_string(), one.rate),
            ("0-9".into(), api::moves::Rate::new(5).ok())
        );
        let told = format!("queued anew as {next}: nodes know of moves up to {known}");
        assert_eq!(s.record.moves.done[0].error.as_ref(), Some(&told));
        assert_eq!(s.record.moves.done[0].id, MoveId(1));
        s.acts();
        assert_eq!((s.record.moves.list[0].id, s.record.moves.newest), (one.id, MoveId(next)));
        assert_eq!(s.record.moves.list[0].phase, Phase::Copy);
    }
    // It waits under its own number while it is paused.
    let mut s = script();
    s.observed.answers.get_mut(&id("a")).unwrap().newest = MoveId(16);
    s.record.moves.list[0].is_paused = true;
    assert_eq!(s.plan().swap, None);
}

/// A node that says so is wrong, and above its number there is none, or soon will be none.
#[test]
fn no_number_is_given_above_one_that_no_store_gave() {
    for (name, known) in [("a", u64::MAX), ("b", u64::MAX), ("b", u64::MAX - 1)] {
        let mut s = script();
        s.observed.answers.get_mut(&id(name)).unwrap().newest = MoveId(known);
        let plan = s.plan();
        assert_eq!((plan.swap, plan.orders), (None, vec![]));
        let told = &plan.waits[&MoveId(1)];
        assert!(told.ends_with(&format!("it knows of move {known}")), "{told}");
    }
    let mut moves = Moves { newest: MoveId(u64::MAX), ..Moves::default() };
    assert_eq!(moves.queue("0-9".parse().unwrap(), GIVER, TAKER), MoveId(u64::MAX));
}

/// Frozen and whole, of other slots: what was never copied would change hands.
#[test]
fn what_a_node_has_of_other_slots_by_the_same_number_counts_for_nothing() {
    let mut s = Script::ready();
    s.says("a", |said| said.slots = "5000-5099".parse().ok());
    s.check(expect![[r#"
        a move 1 term 3: Thaw { number: 1 }
        store v7: move 1: begins anew, its number is another move's at a node
    "#]]);
    assert_eq!(s.plan().orders[0].1.slots.to_string(), "5000-5099");
    let mut s = Script::ready();
    s.says("b", |said| said.slots = "5000-5099".parse().ok());
    s.check(expect![[r#"
        store v7: move 1: begins anew, its number is another move's at a node
    "#]]);
    let mut s = Script::ready();
    s.says("a", |said| (said.frozen, said.feed) = (None, None));
    s.says("b", |said| said.slots = "5000-5099".parse().ok());
    s.acts();
    // Nothing of it is staged, and no order to begin would be obeyed.
    s.check(expect![[r#"
        store v7: move 1: queued again as 2: a node knows another move by this number
    "#]]);
    // The same of what is sealed there, of which no data says anything yet.
    let mut s = Script::ready();
    s.says("a", |said| (said.frozen, said.feed) = (None, None));
    s.says("b", |said| {
        (said.mark, said.is_sealed, said.is_committed) = (None, true, false);
        said.slots = "5000-5099".parse().ok();
    });
    s.acts();
    s.check(expect![[r#"
        store v7: move 1: queued again as 2: a node knows another move by this number
    "#]]);
    let mut s = Script::ready();
    s.acts();
    s.says("a", |said| (said.slots, said.is_sealed) = ("5000".parse().ok(), true));
    assert_eq!(s.plan().waits[&MoveId(1)], "the giver to answer for the slots no more");
}

/// Neither is asked to drop what it holds, or to begin what has ended there.
#[test]
fn a_number_that_has_ended_at_a_node_is_given_up_and_is_not_in_the_way() {
    let marks = [Mark::Held, Mark::Gone { is_empty: false }, Mark::Gone { is_empty: true }];
    for mark in marks {
        let mut s = script();
        s.acts();
        s.says("b", |said| (said.mark, said.is_committed) = (Some(mark), true));
        s.acts();
        assert!(matches!(s.record.moves.list[0].phase, Phase::Drop { again: true, .. }));
        s.check(expect![[r#"
            store v7: move 1: queued again as 2: a node knows another move by this number
        "#]]);
        let mut s = script();
        s.acts();
        s.says("a", |said| said.mark = Some(mark));
        s.acts();
        assert!(matches!(s.record.moves.list[0].phase, Phase::Drop { again: true, .. }));
    }
}

/// What is held back for a number that this record never gave.
#[test]
fn a_hold_of_an_unknown_number_is_told_and_let_go() {
    let mut s = script();
    s.record.moves.list.clear();
    let slots: Slots = "500-599".parse().unwrap();
    let frozen = Some(Frozen { term: 2, number: 7, at: Some(AT) });
    let said = Said { frozen, slots: Some(slots.clone()), ..Said::nothing(MoveId(16)) };
    let says = |s: &mut Script, said: &Said| {
        let answer = s.observed.answers.get_mut(&id("a")).unwrap();
        answer.said.insert(said.id, said.clone());
    };
    says(&mut s, &said);
    s.check(expect![[r#"
        a move 16 term 3: Thaw { number: 7 }
    "#]]);
    let stranger = |is_sealed| {
        let slots = Some(slots.clone());
        vec![Stranger { node: id("a"), id: MoveId(16), slots, is_sealed }]
    };
    let plan = s.plan();
    assert_eq!((plan.orders[0].1.slots.clone(), &plan.urgent), (slots.clone(), &[id("a")].into()));
    assert_eq!(plan.strangers, stranger(false));
    // A topology of a store of later may tell of a swap that this one lacks.
    s.observed.answers.get_mut(&id("a")).unwrap().version = 8;
    assert_eq!((s.plan().orders, s.plan().strangers), (vec![], stranger(false)));
    s.record.version = 8;
    assert_eq!(s.plan().orders.len(), 1);
    says(&mut s, &Said { is_sealed: true, ..said.clone() });
    assert_eq!((s.plan().orders, s.plan().strangers), (vec![], stranger(true)));
    // From a node that does not say which slots it is about.
    says(&mut s, &Said { slots: None, ..said.clone() });
    let stranger = Stranger { node: id("a"), id: MoveId(16), slots: None, is_sealed: false };
    assert_eq!((s.plan().orders, s.plan().strangers), (vec![], vec![stranger]));
    // Of a number that waits for its turn by this record, or is about other slots there.
    let mut s = script();
    s.record.moves.list[0].is_paused = true;
    let own = Said { slots: "0-9".parse().ok(), id: MoveId(1), ..said.clone() };
    says(&mut s, &own);
    assert_eq!((s.plan().orders.len(), s.plan().strangers.len()), (1, 1));
    s.record.moves.list[0].phase = Phase::Copy;
    assert_eq!(s.plan().strangers, vec![]);
    says(&mut s, &Said { slots: Some(slots), ..own });
    assert_eq!(s.plan().strangers.len(), 1);
}
