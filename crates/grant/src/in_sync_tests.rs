use topology::NodeId;

use super::*;

const TIMEOUT: u64 = 800;
const EPOCH: EpochId = EpochId(7);

fn member(letter: char) -> Member {
    let node = NodeId::new(letter.to_string().repeat(40).as_bytes()).unwrap();
    Member::new(node, 1, Some(1)).unwrap()
}

fn set(letters: &str) -> Members {
    letters.chars().map(member).collect()
}

fn link(letter: char, acked: u64) -> Link {
    Link { member: member(letter), epoch_id: Some(EPOCH), acked, is_leaving: false }
}

fn tick(s: &mut InSync, now: u64, published: u64, timeout: u64, links: &[Link]) -> bool {
    let is_new = s.tick(now, published, timeout, links);
    s.settle(published);
    is_new
}

/// Epoch opened at 1000 ms with a set; `m` is the master.
fn in_sync(letters: &str) -> InSync {
    InSync::new(member('m'), EPOCH, 0, set(letters), 1000)
}

#[test]
fn nothing_is_committed_before_the_whole_set_has_the_epochs_put() {
    let mut set = in_sync("mrs");
    assert_eq!(set.commit(10), 0);
    set.ack(member('r'), Some(EPOCH), 10);
    assert_eq!(set.commit(10), 0);
    set.ack(member('s'), Some(EPOCH), 9);
    assert_eq!(set.commit(10), 9);
    assert_eq!(in_sync("m").commit(10), 10, "alone it waits for nobody");
}

#[test]
fn acknowledgements_of_another_epoch_or_of_other_data_count_for_nothing() {
    let mut set = in_sync("mr");
    set.ack(member('r'), Some(EpochId(6)), 10);
    set.ack(member('r'), None, 10);
    let (mut replaced, mut rebooted) = (member('r'), member('r'));
    replaced.incarnation = 2;
    rebooted.boot = Some(2);
    set.ack(replaced, Some(EPOCH), 10);
    set.ack(rebooted, Some(EPOCH), 10);
    assert_eq!(set.commit(10), 0);
}

#[test]
fn a_member_is_given_up_only_after_the_store_confirmed() {
    let mut s = in_sync("mr");
    assert!(!tick(&mut s, 1001, 10, TIMEOUT, &[link('r', 10)]));
    assert_eq!(s.commit(10), 10);
    // Its link is lost, and a write waits.
    assert!(tick(&mut s, 1050, 11, TIMEOUT, &[]));
    assert_eq!(s.newest(), (1, &set("m")));
    assert_eq!(s.commit(11), 10, "the store may still hold it");
    assert_eq!(s.confirm(1, &set("m")), Ok(()));
    assert_eq!(s.commit(11), 11);
    assert_eq!(s.copies(), 1);
}

#[test]
fn growth_waits_before_it_asks() {
    // Else the store adds a replica while the master still acknowledges without it, and that one is
    // promoted (rule R3).
    let mut s = in_sync("m");
    assert_eq!(s.commit(100), 100);
    assert!(!tick(&mut s, 1000, 100, TIMEOUT, &[link('r', 90)]), "judged: it lacks 10");
    assert_eq!(s.commit(105), 105, "not waited for yet");
    assert!(!tick(&mut s, 1050, 105, TIMEOUT, &[link('r', 100)]), "joins, and lacks 5");
    assert_eq!(s.commit(110), 105, "waited for from now on, though nobody was asked");
    assert_eq!(s.others_in_store().len(), 0);
    assert!(tick(&mut s, 1100, 110, TIMEOUT, &[link('r', 105)]));
    assert_eq!(s.newest(), (1, &set("mr")));
    // Whatever was committed, the new member has.
    assert_eq!(s.commit(110), 105);
    assert_eq!(s.confirm(1, &set("mr")), Ok(()));
    assert_eq!(s.commit(110), 105);
    s.ack(member('r'), Some(EPOCH), 110);
    assert_eq!(s.commit(110), 110);
}

#[test]
fn a_stopped_member_is_dropped_after_the_time_out_and_only_if_it_owes_something() {
    let mut s = in_sync("mr");
    let stopped = [link('r', 10)];
    assert!(!tick(&mut s, 1001, 10, TIMEOUT, &stopped));
    assert!(!tick(&mut s, 60_000, 10, TIMEOUT, &stopped), "an idle one owes nothing");
    assert!(!tick(&mut s, 60_010, 11, TIMEOUT, &stopped));
    assert!(!tick(&mut s, 60_809, 500, TIMEOUT, &stopped));
    assert!(tick(&mut s, 60_810, 900, TIMEOUT, &stopped));
    assert_eq!(s.newest(), (1, &set("m")));
    assert!(!tick(&mut s, 60_900, 900, TIMEOUT, &stopped), "asked once");
}

#[test]
fn a_member_that_keeps_acknowledging_stays_though_it_is_never_level() {
    let mut s = in_sync("mr");
    for step in 0..100 {
        let published = 10 + step * 10;
        assert!(!tick(&mut s, 1000 + step * 50, published, TIMEOUT, &[link('r', published - 5)]));
    }
}

#[test]
fn after_a_failover_the_others_have_a_moment_to_come() {
    let mut s = in_sync("mr");
    assert!(!tick(&mut s, 1799, 10, TIMEOUT, &[]));
    assert!(tick(&mut s, 1800, 10, TIMEOUT, &[]));
    let mut s = in_sync("mr");
    assert!(!tick(&mut s, 1500, 10, TIMEOUT, &[Link { epoch_id: None, ..link('r', 0) }]));
    assert!(tick(&mut s, 1501, 10, TIMEOUT, &[]), "came, and was lost");
}

#[test]
fn a_dropped_member_comes_back_by_joining() {
    let mut s = in_sync("mr");
    tick(&mut s, 1001, 10, TIMEOUT, &[link('r', 10)]);
    assert!(tick(&mut s, 1050, 11, TIMEOUT, &[]));
    // Back before the store answered.
    assert!(!tick(&mut s, 1100, 11, TIMEOUT, &[link('r', 11)]), "joins");
    assert!(tick(&mut s, 1150, 11, TIMEOUT, &[link('r', 11)]));
    assert_eq!(s.newest(), (2, &set("mr")));
    assert_eq!(s.others_in_store().len(), 1);
    assert_eq!(s.confirm(2, &set("mr")), Ok(()));
    assert_eq!((s.confirmed(), s.waited_for().len()), (2, 1));
}

#[test]
fn a_member_that_leaves_is_asked_out_at_once_and_counted_on_until_the_store_has_confirmed() {
    let mut s = in_sync("mrs");
    let leaving = |acked| [Link { is_leaving: true, ..link('r', acked) }, link('s', acked)];
    assert!(tick(&mut s, 1001, 10, TIMEOUT, &leaving(10)), "it owes nothing, and streams");
    assert_eq!(s.newest(), (1, &set("ms")));
    // What it acknowledges lets answers leave; without it they wait.
    assert_eq!(s.commit(10), 10);
    s.ack(member('s'), Some(EPOCH), 11);
    assert_eq!((s.commit(11), s.reached()), (10, Some(10)));
    s.ack(member('r'), Some(EPOCH), 11);
    assert_eq!(s.commit(11), 11);
    assert!(!tick(&mut s, 1050, 11, TIMEOUT, &leaving(11)), "asked once");
    assert_eq!(s.confirm(1, &set("ms")), Ok(()));
    s.ack(member('s'), Some(EPOCH), 12);
    assert_eq!(s.commit(12), 12, "it is waited for no more");
    // It goes on streaming, and does not come back by that.
    for step in 0..5 {
        assert!(!tick(&mut s, 1100 + step * 50, 12, TIMEOUT, &leaving(12)));
    }
    assert_eq!(s.waited_for().len(), 1);
}

#[test]
fn one_that_leaves_while_it_joins_is_not_waited_for() {
    let mut s = in_sync("m");
    s.commit(100);
    tick(&mut s, 1000, 100, TIMEOUT, &[link('r', 100)]);
    assert_eq!(s.waited_for().len(), 1);
    let leaving = [Link { is_leaving: true, ..link('r', 100) }];
    assert!(!tick(&mut s, 1010, 100, TIMEOUT, &leaving));
    assert_eq!((s.newest().0, s.waited_for().len(), s.commit(101)), (0, 0, 101));
}

/// Killed after it said so, it is back at once: on its new stream it says nothing of a leave.
#[test]
fn the_next_process_of_one_that_left_joins_beside_its_old_stream() {
    let mut s = in_sync("m");
    s.commit(10);
    let links = [Link { is_leaving: true, ..link('r', 10) }, link('r', 10)];
    assert!(!tick(&mut s, 1001, 10, TIMEOUT, &links), "it is waited for first");
    assert!(tick(&mut s, 1010, 10, TIMEOUT, &links));
    assert_eq!(s.newest(), (1, &set("mr")));
    // Once it leaves as well it is asked out again.
    let links = links.map(|link| Link { is_leaving: true, ..link });
    assert!(tick(&mut s, 1020, 10, TIMEOUT, &links));
    assert_eq!(s.newest(), (2, &set("m")));
}

#[test]
fn the_master_does_not_leave_its_own_set() {
    let mut s = in_sync("mr");
    let leaving = ['m', 'r'].map(|letter| Link { is_leaving: true, ..link(letter, 10) });
    assert!(tick(&mut s, 1001, 10, TIMEOUT, &leaving));
    assert_eq!(s.newest(), (1, &set("m")));
}

#[test]
fn what_was_answered_while_one_began_to_join_is_not_taken_for_its_own() {
    let mut s = in_sync("m");
    assert_eq!((s.commit(100), s.reached()), (100, None));
    s.tick(1000, 100, TIMEOUT, &[link('r', 100)]);
    // Others answered up to 104 before they saw that somebody is waited for.
    s.settle(104);
    assert_eq!(s.reached(), Some(100));
    assert!(!s.tick(1010, 104, TIMEOUT, &[link('r', 103)]));
    assert!(s.tick(1020, 104, TIMEOUT, &[link('r', 104)]));
}

#[test]
fn one_that_stalls_while_joining_is_let_go_without_asking() {
    let mut s = in_sync("m");
    s.commit(100);
    tick(&mut s, 1000, 100, TIMEOUT, &[link('r', 100)]);
    assert_eq!((s.waited_for().len(), s.commit(101)), (1, 100));
    tick(&mut s, 1010, 101, TIMEOUT, &[]);
    assert_eq!((s.newest().0, s.waited_for().len(), s.commit(101)), (0, 0, 101));
}

#[test]
fn what_is_no_request_of_ours_is_not_confirmed() {
    let mut s = in_sync("mr");
    assert_eq!(s.confirm(1, &set("m")), Err(Unconfirmed::Unknown));
    assert_eq!(s.confirm(0, &set("m")), Err(Unconfirmed::OtherMembers));
    tick(&mut s, 1001, 10, TIMEOUT, &[link('r', 10)]);
    tick(&mut s, 1002, 10, TIMEOUT, &[]);
    s.confirm(1, &set("m")).unwrap();
    assert_eq!(s.confirm(0, &set("mr")), Ok(()), "a late one is no news");
    assert_eq!(s.confirmed(), 1);
}

#[test]
fn requests_under_way_are_bounded() {
    let mut s = in_sync("m");
    for step in 0..1000 {
        let links = [link('r', 10)];
        tick(&mut s, 1000 + step * 10, 10, TIMEOUT, if step % 3 == 2 { &[] } else { &links });
    }
    assert!(s.newest().0 > 10 && s.requests.len() <= REQUESTS_MAX);
}

#[test]
fn replicas_of_another_epoch_do_not_join() {
    let mut s = in_sync("m");
    for step in 0..10 {
        let other = Link { epoch_id: Some(EpochId(6)), ..link('r', 100) };
        assert!(!tick(&mut s, 1000 + step, 100, TIMEOUT, &[other]));
    }
    assert_eq!(s.waited_for().len(), 0);
}

/// A small random walk that plays master, replicas and store, and looks at the invariant after
/// every step: every member that the store holds has all that was committed.
#[test]
fn whoever_the_store_holds_has_all_that_was_committed() {
    for seed in 0..3000_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let letters = ['r', 's'];
        let mut s = in_sync(if seed % 2 == 0 { "m" } else { "mrs" });
        let (mut now, mut published) = (1000, 1);
        let mut has = [1_u64, 1];
        let mut told = [0_u64, 0];
        let mut is_linked = [true, true];
        let mut is_leaving = [false, false];
        let mut store = s.newest().0;
        let mut asked = BTreeMap::from([(store, s.newest().1.clone())]);
        let mut committed = 0;
        for _ in 0..120 {
            let which = next(2) as usize;
            match next(9) {
                0 | 1 => published += 1 + next(3),
                2 if is_linked[which] => has[which] = published.min(has[which] + 1 + next(4)),
                3 => {
                    told[which] = has[which];
                    s.ack(member(letters[which]), Some(EPOCH), has[which]);
                }
                4 => is_linked[which] = !is_linked[which],
                7 => is_leaving[which] = !is_leaving[which],
                5 => {
                    store = asked
                        .keys()
                        .copied()
                        .filter(|n| *n >= store)
                        .nth(next(2) as usize)
                        .unwrap_or(store)
                }
                6 => s.confirm(store, &asked[&store]).unwrap(),
                _ => {
                    now += 1 + next(500);
                    let links: Vec<Link> = (0..2)
                        .filter(|at| is_linked[*at])
                        .map(|at| Link {
                            is_leaving: is_leaving[at],
                            ..link(letters[at], told[at])
                        })
                        .collect();
                    if tick(&mut s, now, published, TIMEOUT, &links) {
                        asked.insert(s.newest().0, s.newest().1.clone());
                    }
                }
            }
            let now_committed = s.commit(published);
            assert!(now_committed >= committed, "seed {seed}: it fell");
            committed = now_committed;
            for (at, letter) in letters.iter().enumerate() {
                let is_member = asked[&store].contains(&member(*letter));
                assert!(!is_member || has[at] >= committed, "seed {seed}: {letter} lacks some");
            }
        }
    }
}
