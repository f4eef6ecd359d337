//! What is staged for moves that the record lacks: deleted, unless it may be all there is.

use super::*;

/// An earlier store was restored, and the move that it lacks had begun.
#[test]
fn what_is_staged_for_an_unknown_number_is_deleted() {
    let mut s = script();
    let waiting = std::mem::take(&mut s.record.moves.list);
    let mark = Some(Mark::Staged { at: Some(AT), is_whole: false });
    let said = Said { mark, slots: "5-599".parse().ok(), ..Said::nothing(MoveId(16)) };
    let answer = s.observed.answers.get_mut(&id("b")).unwrap();
    answer.said.insert(said.id, said);
    s.check(expect![[r#"
        b move 16 term 3: Drop
    "#]]);
    assert_eq!(s.plan().strangers, vec![]);
    // By a swap that this record lacks it may have been given away: a person looks first.
    s.observed.answers.get_mut(&id("b")).unwrap().version = 8;
    assert_eq!(s.plan().orders, vec![]);
    s.record.version = 8;
    assert_eq!(s.plan().orders.len(), 1);
    // A move of all of them begins empty, and has them.
    s.record.moves.list = waiting;
    let answer = s.observed.answers.get_mut(&id("b")).unwrap();
    answer.said.get_mut(&MoveId(16)).unwrap().slots = "5-9".parse().ok();
    let drops = |plan: Plan| plan.orders.iter().any(|(_, of)| of.order == Order::Drop);
    assert!(!drops(s.plan()));
}

/// A move of some of the slots would leave the others where no order reaches them any more.
#[test]
fn what_is_staged_of_more_slots_than_a_move_has_goes_before_its_copy_begins() {
    let mut s = script();
    s.acts();
    let stages = |s: &mut Script, slots: &str| {
        let mark = Some(Mark::Staged { at: Some(AT), is_whole: false });
        let said = Said { mark, slots: slots.parse().ok(), ..Said::nothing(MoveId(16)) };
        s.observed.answers.get_mut(&id("b")).unwrap().said.insert(said.id, said);
    };
    stages(&mut s, "5-599");
    s.check(expect![[r#"
        b move 16 term 3: Drop
        b move 1 term 3: Pull { node: "a_______________________________________", nonce: "1", epoch: 4, rate: None }
        move 1 waits for the copy
    "#]]);
    stages(&mut s, "0-9");
    s.check(expect![[r#"
        b move 1 term 3: Pull { node: "a_______________________________________", nonce: "1", epoch: 4, rate: None }
        move 1 waits for the copy
    "#]]);
}

/// A whole copy may be all there is of the slots; and what a shard owns it may have opened before.
#[test]
fn what_is_staged_and_may_be_the_only_copy_is_not_deleted() {
    let mut s = script();
    s.record.moves.list.clear();
    let stages = |s: &mut Script, slots: &str, is_whole| {
        let mark = Some(Mark::Staged { at: Some(AT), is_whole });
        let said = Said { mark, slots: slots.parse().ok(), ..Said::nothing(MoveId(16)) };
        s.observed.answers.get_mut(&id("b")).unwrap().said.insert(said.id, said);
    };
    let knows = |s: &mut Script, newest| {
        s.observed.answers.get_mut(&id("a")).unwrap().newest = MoveId(newest);
    };
    stages(&mut s, "5-599", true);
    assert_eq!(s.plan().orders.len(), 1, "its giver has left nothing");
    knows(&mut s, 16);
    assert_eq!(s.plan().orders, vec![]);
    let says = |s: &mut Script, said: Said| {
        s.observed.answers.get_mut(&id("a")).unwrap().said.insert(said.id, said);
    };
    says(&mut s, Said { feed: Some(Feed::Close), ..Said::nothing(MoveId(16)) });
    assert_eq!(s.plan().orders.len(), 1, "it gives it still");
    let mark = Some(Mark::Gone { is_empty: true });
    says(&mut s, Said { mark, ..Said::nothing(MoveId(16)) });
    assert_eq!(s.plan().orders, vec![]);
    stages(&mut s, "5-599", false);
    assert_eq!(s.plan().orders.len(), 1, "a part was never given");
    s.observed.answers.get_mut(&id("a")).unwrap().said.clear();
    knows(&mut s, 0);
    stages(&mut s, "9990-10005", false);
    assert_eq!(s.plan().orders, vec![], "some of it is its own");
    stages(&mut s, "5-599", true);
    assert_eq!(s.plan().orders.len(), 1, "its giver knows nothing of it");
    s.record.shards[0].slot_ranges = vec![(10, 9_999)];
    assert_eq!(s.plan().orders, vec![], "a shard that has left may have given some of it");
    stages(&mut s, "5-599", false);
    assert_eq!(s.plan().orders.len(), 1, "a part was given by no shard");
    stages(&mut s, "5-599", true);
    s.record.shards[0].slot_ranges = vec![(0, 9_999)];
    s.observed.answers.remove(&id("a"));
    assert_eq!(s.plan().orders, vec![], "what its giver has left is not known");
}
