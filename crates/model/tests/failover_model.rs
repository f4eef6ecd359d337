//! The search itself. `scripts/test` runs it within small bounds, `make model` the ignored ones
//! within larger.

mod common;

use common::Searched;
use model::{Action, Bounds, Failover, Kinds, Rules, Second, World};
use stateright::Model;

fn search(name: &str, model: Failover, depth: usize) -> Searched {
    let judge = |last: &World| {
        let end = model.recovered(last).0;
        (format!("{:?}", last.violation.or(end.violation)), end)
    };
    common::search(&format!("model {name}"), model, depth, judge)
}

/// Deepest violation that is looked for where a rule is off.
const DEPTH: usize = 16;

const BOUNDS: Bounds =
    Bounds { faults: 2, writes: 1, switchovers: 0, kinds: Kinds::ALL, recover_one_of: 512 };

fn all_rules(balanced: bool, kinds: Kinds, faults: u8) -> Failover {
    let bounds = Bounds { kinds, faults, ..BOUNDS };
    Failover { bounds, rules: Rules::ALL, balanced, second: None, begin: &[] }
}

#[test]
fn the_search_begins_in_a_steady_state() {
    for balanced in [false, true] {
        let model = all_rules(balanced, Kinds::ALL, 0);
        let (end, is_whole) = model.recovered(&model.steady());
        assert!(is_whole, "{end:#?}");
    }
}

/// The master is cut off or dead, a replica took over, and the old one may return.
const TAKEN_OVER: &[Action] = &[
    Action::Write(0),
    Action::Follow(1),
    Action::Stop(0),
    Action::AskReplicas(0),
    Action::Miss(0, 0),
    Action::Tick,
    Action::AskReplicas(0),
    Action::Tick,
    Action::AskReplicas(0),
    Action::AskReplicas(0),
    Action::AskMaster(0),
    Action::AskMaster(0),
];

#[test]
fn two_faults_violate_nothing() {
    for balanced in [false, true] {
        let at = if balanced { "balancer" } else { "leases" };
        let model = all_rules(balanced, Kinds::ALL, 2);
        assert_eq!(search(&format!("{at}, two faults"), model, 8), Searched::NothingFound);
        let model = all_rules(balanced, Kinds::PROCESSES.and(Kinds::REBOOT), 2);
        assert_eq!(
            search(&format!("{at}, two faults of machines"), model, 11),
            Searched::NothingFound
        );
        let mut model = all_rules(balanced, Kinds::ALL, 1);
        (model.begin, model.bounds.writes) = (TAKEN_OVER, 2);
        assert_eq!(
            search(&format!("{at}, taken over, one more"), model, 11),
            Searched::NothingFound
        );
    }
    let model = all_rules(false, Kinds::MESSAGES, 2);
    assert_eq!(search("leases, two late messages", model, 16), Searched::NothingFound);
}

/// An operator asked for another master, and its writes are paused.
const WANTED: &[Action] =
    &[Action::Write(0), Action::Follow(1), Action::Want, Action::AskMaster(0)];

#[test]
fn a_switchover_violates_nothing() {
    for balanced in [false, true] {
        let at = if balanced { "balancer" } else { "leases" };
        let mut model = all_rules(balanced, Kinds::ALL, 1);
        (model.begin, model.bounds.writes) = (WANTED, 3);
        assert_eq!(search(&format!("{at}, switchover"), model, 12), Searched::NothingFound);
        model.begin = &[];
        (model.bounds.writes, model.bounds.switchovers) = (1, 1);
        assert_eq!(
            search(&format!("{at}, switchover at any time"), model, 10),
            Searched::NothingFound
        );
    }
}

#[test]
fn a_switchover_ends_with_another_master() {
    for balanced in [false, true] {
        let mut model = all_rules(balanced, Kinds::ALL, 0);
        (model.begin, model.bounds.writes) = (WANTED, 3);
        let wanted = model.init_states().swap_remove(0);
        assert_eq!(wanted.store.master, 0);
        let (end, is_whole) = model.recovered(&wanted);
        assert!(is_whole && end.store.master != 0, "{end:#?}");
        assert!(end.store.intent.is_none() && end.store.fence.is_none(), "{end:#?}");
    }
}

#[test]
fn a_switchover_waits_for_the_fence() {
    let mut model = all_rules(false, Kinds::CUT, 1);
    (model.begin, model.bounds.writes) = (WANTED, 2);
    is_needed("fence wait in a switchover", model, |rules| rules.fence_wait = false);
}

#[test]
#[ignore = "larger bounds: `make model`"]
fn three_faults_violate_nothing() {
    for balanced in [false, true] {
        let at = if balanced { "balancer" } else { "leases" };
        let model = all_rules(balanced, Kinds::ALL, 3);
        assert_eq!(search(&format!("{at}, three faults"), model, 9), Searched::NothingFound);
        for (name, kinds) in [
            ("disks and processes", Kinds::LOSE.and(Kinds::CRASH)),
            ("processes", Kinds::PROCESSES),
            ("data", Kinds::DATA),
            ("links", Kinds::LINKS),
            ("stops", Kinds::LEAVE.and(Kinds::CUT)),
            ("controllers", Kinds::CONTROLLERS),
            ("messages", Kinds::MESSAGES),
        ] {
            let model = all_rules(balanced, kinds, 2);
            assert_eq!(
                search(&format!("{at}, two faults of {name}"), model, 20),
                Searched::NothingFound
            );
        }
        let mut model = all_rules(balanced, Kinds::ALL, 2);
        (model.begin, model.bounds.writes) = (TAKEN_OVER, 2);
        assert_eq!(
            search(&format!("{at}, taken over, two more"), model, 11),
            Searched::NothingFound
        );
        (model.begin, model.bounds.writes) = (WANTED, 3);
        let name = format!("{at}, switchover, two faults");
        assert_eq!(search(&name, model, 11), Searched::NothingFound);
    }
}

/// One rule is off: a violation must be found. With it on, from the same beginning and as deep,
/// none is.
#[track_caller]
fn is_needed(name: &str, model: Failover, off: impl FnOnce(&mut Rules)) {
    let mut without = model;
    off(&mut without.rules);
    let searched = search(&format!("without {name}"), without, DEPTH);
    let Searched::Found { depth, .. } = searched else {
        panic!("{name} makes no difference: {searched:?}")
    };
    assert_eq!(search(&format!("with {name}"), model, depth), Searched::NothingFound);
}

#[test]
fn a_restarted_process_needs_a_grant() {
    let model = all_rules(false, Kinds::CRASH, 1);
    is_needed("grant after restart", model, |rules| rules.grant_after_restart = false);
}

#[test]
fn the_fence_is_waited_for() {
    let model = all_rules(false, Kinds::CUT, 1);
    is_needed("fence wait", model, |rules| rules.fence_wait = false);
}

#[test]
fn a_lease_counts_from_the_nodes_own_clock() {
    let model = all_rules(false, Kinds::BEAT.and(Kinds::CUT), 2);
    is_needed("clock and nonce", model, |rules| rules.clock_and_nonce = false);
}

/// The leader lost the store, the other one is elected, and does not reach the master.
const DEPOSED: &[Action] = &[
    Action::Isolate(0),
    Action::Tick,
    Action::AskMaster(0),
    Action::AskReplicas(0),
    Action::Tick,
    Action::AskMaster(0),
    Action::AskReplicas(0),
    Action::Tick,
    Action::AskMaster(0),
    Action::Elect(1),
    Action::Cut(1, 0),
];

#[test]
fn authority_bounds_leases() {
    let mut model = all_rules(false, Kinds::CUT, 0);
    (model.begin, model.bounds.writes) = (DEPOSED, 0);
    is_needed("authority", model, |rules| rules.authority = false);
    assert_eq!(search("with authority", model, 12), Searched::NothingFound);
}

/// The leader sends a compare-and-swap for the lease of a master it does not reach is over, and is
/// replaced by one that reaches it, and then does not.
const LATE_SWAP: &[Action] = &[
    Action::Cut(0, 0),
    Action::SwapLate(0),
    Action::AskReplicas(0),
    Action::Miss(0, 0),
    Action::Tick,
    Action::AskReplicas(0),
    Action::Tick,
    Action::AskReplicas(0),
    Action::AskReplicas(0),
    Action::Elect(1),
    Action::AskMaster(1),
    Action::AskReplicas(1),
    Action::AskMaster(1),
    Action::Cut(1, 0),
];

#[test]
fn every_write_compares_the_claim() {
    let mut model = all_rules(false, Kinds::CUT, 0);
    (model.begin, model.bounds.writes) = (LATE_SWAP, 0);
    is_needed("claim", model, |rules| rules.claim = false);
    assert_eq!(search("with claim", model, 12), Searched::NothingFound);
}

/// The leader does not know whether its compare-and-swap for the lease of a master it does not
/// reach was made, and then reaches that master for a moment.
const UNKNOWN: &[Action] = &[
    Action::Cut(0, 0),
    Action::SwapLost(0),
    Action::AskReplicas(0),
    Action::Miss(0, 0),
    Action::Tick,
    Action::AskReplicas(0),
];

#[test]
fn an_unknown_outcome_grants_nothing() {
    let mut model = all_rules(false, Kinds::CUT, 1);
    (model.begin, model.bounds.writes) = (UNKNOWN, 0);
    is_needed("doubt", model, |rules| rules.doubt = false);
    assert_eq!(search("with doubt", model, 12), Searched::NothingFound);
}

#[test]
fn all_sets_the_store_may_hold_are_waited_for() {
    let model = all_rules(false, Kinds::CUT, 1);
    is_needed("union of sets", model, |rules| rules.union_of_sets = false);
}

/// Both replicas are told to end, and their master has heard it; the store has not.
const LEAVING: &[Action] =
    &[Action::Leave(1), Action::Leave(2), Action::Follow(1), Action::Follow(2)];

#[test]
fn who_leaves_is_counted_on_until_the_store_has_confirmed() {
    let mut model = all_rules(false, Kinds::CUT, 1);
    model.begin = LEAVING;
    is_needed("union of sets that are left", model, |rules| rules.union_of_sets = false);
}

#[test]
fn replicas_that_leave_violate_nothing() {
    for balanced in [false, true] {
        let at = if balanced { "balancer" } else { "leases" };
        let mut model = all_rules(balanced, Kinds::LEAVE.and(Kinds::CRASH), 2);
        let name = format!("{at}, one leaves, another ends");
        assert_eq!(search(&name, model, 11), Searched::NothingFound);
        (model.begin, model.bounds.faults) = (LEAVING, 1);
        let name = format!("{at}, all leave, another ends");
        assert_eq!(search(&name, model, 11), Searched::NothingFound);
        (model.begin, model.bounds.writes) = (WANTED, 3);
        let name = format!("{at}, one leaves or ends in a switchover");
        assert_eq!(search(&name, model, 12), Searched::NothingFound);
    }
}

#[test]
fn answers_wait_for_the_set() {
    let model = all_rules(false, Kinds::PROCESSES, 1);
    is_needed("reply gate", model, |rules| rules.reply_gate = false);
}

/// Two writes reached a replica that the controller did not see when another one was promoted.
const AHEAD: &[Action] = &[
    Action::Write(0),
    Action::Write(0),
    Action::Follow(1),
    Action::Crash(0),
    Action::Cut(0, 1),
    Action::Miss(0, 0),
    Action::Tick,
    Action::Miss(0, 1),
    Action::AskReplicas(0),
    Action::Tick,
    Action::AskReplicas(0),
    Action::Tick,
    Action::AskReplicas(0),
    Action::AskMaster(0),
    Action::AskMaster(0),
    Action::Mend(0, 1),
];

#[test]
fn acknowledgements_count_under_their_epoch() {
    let mut model = all_rules(false, Kinds::CRASH, 1);
    (model.begin, model.bounds.writes) = (AHEAD, 3);
    is_needed("epoch check", model, |rules| rules.epoch_check = false);
}

#[test]
fn a_set_names_data() {
    let model = all_rules(false, Kinds::REBOOT, 2);
    is_needed("identity", model, |rules| rules.identity = false);
}

#[test]
fn nothing_is_rewound_for_a_master_without_a_later_epoch() {
    let model = all_rules(false, Kinds::REBOOT, 1);
    is_needed("rewind to newer", model, |rules| rules.rewind_to_newer = false);
}

/// The master's disk is lost, and its process back before anybody has noticed.
const LOST_DISK: &[Action] =
    &[Action::Write(0), Action::Follow(1), Action::Follow(2), Action::Lose(0)];

#[test]
fn nothing_is_given_up_for_a_master_that_shows_no_grant() {
    let mut model = all_rules(false, Kinds::LOSE, 0);
    // What is violated is that the shard comes back: every state is asked.
    (model.begin, model.bounds.recover_one_of) = (LOST_DISK, 1);
    is_needed("grant shown", model, |rules| rules.grant_shown = false);
}

#[test]
fn a_lost_disk_with_its_process_back_at_once_violates_nothing() {
    for balanced in [false, true] {
        let at = if balanced { "balancer" } else { "leases" };
        let mut model = all_rules(balanced, Kinds::LOSE, 1);
        model.bounds.recover_one_of = 64;
        assert_eq!(search(&format!("{at}, a lost disk"), model, 14), Searched::NothingFound);
        (model.begin, model.bounds.faults) = (LOST_DISK, 0);
        model.bounds.recover_one_of = 8;
        assert_eq!(search(&format!("{at}, a disk was lost"), model, 14), Searched::NothingFound);
    }
}

/// The answer of a process is read after its successor was granted an epoch, which the replicas
/// have; that one is not reached any more.
const OLD_ANSWER: &[Action] = &[
    Action::Crash(0),
    Action::Start(0),
    Action::AnswerLate(0, 0),
    Action::Crash(0),
    Action::Start(0),
    Action::AskMaster(0),
    Action::AskMaster(0),
    Action::AskMaster(0),
    Action::Follow(1),
    Action::Follow(2),
    Action::Cut(0, 0),
];

#[test]
fn an_answer_from_before_the_epoch_is_no_newer_process() {
    let mut model = all_rules(false, Kinds::CRASH, 0);
    (model.begin, model.bounds.writes) = (OLD_ANSWER, 0);
    is_needed("newer process", model, |rules| rules.newer_process = false);
    assert_eq!(search("with newer process", model, 12), Searched::NothingFound);
}

/// The controller reaches nobody.
const SILENCE: &[Action] = &[Action::Cut(0, 0), Action::Cut(0, 1), Action::Cut(0, 2)];

#[test]
fn promises_are_kept() {
    let mut model = all_rules(false, Kinds::CUT, 0);
    (model.begin, model.bounds.writes) = (SILENCE, 0);
    is_needed("promises", model, |rules| rules.promises = false);
    assert_eq!(search("with promises", model, 12), Searched::NothingFound);
}

/// A controller of a second store, whose terms are higher, reaches the replicas, and for longer
/// than a lease not the master, which the first store's controller leads.
const BESIDE: &[Action] = &[
    Action::Second,
    Action::Cut(1, 0),
    Action::AskReplicas(1),
    Action::Miss(1, 0),
    Action::AskMaster(0),
    Action::Tick,
    Action::AskReplicas(1),
    Action::AskMaster(0),
    Action::Tick,
    Action::AskReplicas(1),
    Action::AskMaster(0),
];

#[test]
fn nodes_refuse_a_second_store_whatever_its_terms() {
    for second in [Second::Earlier, Second::Other] {
        let mut model = all_rules(false, Kinds::CUT, 0);
        (model.begin, model.bounds.writes, model.second) = (BESIDE, 0, Some(second));
        // What is violated is more than that each keeps the other from its work.
        model.bounds.recover_one_of = u64::MAX;
        is_needed(&format!("store, {second:?}"), model, |rules| rules.store = false);
        model.bounds.recover_one_of = 1;
        assert_eq!(search("with store", model, 12), Searched::NothingFound);
    }
}

/// The replicas' processes are killed, and the second store's controller is the first that the next
/// ones hear.
const BESIDE_RESTARTED: &[Action] = &[
    Action::Second,
    Action::Cut(1, 0),
    Action::Crash(1),
    Action::Start(1),
    Action::Crash(2),
    Action::Start(2),
    Action::AskReplicas(1),
    Action::Miss(1, 0),
    Action::AskMaster(0),
    Action::Tick,
    Action::AskReplicas(1),
    Action::AskMaster(0),
    Action::Tick,
    Action::AskReplicas(1),
    Action::AskMaster(0),
];

#[test]
fn the_next_process_of_a_node_knows_its_store() {
    let mut model = all_rules(false, Kinds::CUT, 0);
    (model.begin, model.bounds.writes) = (BESIDE_RESTARTED, 0);
    (model.second, model.bounds.recover_one_of) = (Some(Second::Other), u64::MAX);
    is_needed("store kept", model, |rules| rules.store_kept = false);
    model.bounds.recover_one_of = 1;
    assert_eq!(search("with store kept", model, 12), Searched::NothingFound);
}

#[test]
fn a_fault_beside_a_second_store_violates_nothing() {
    for second in [Second::Earlier, Second::Other] {
        let mut model = all_rules(false, Kinds::ALL, 1);
        model.second = Some(second);
        let name = format!("leases, one fault, second store: {second:?}");
        assert_eq!(search(&name, model, 10), Searched::NothingFound);
        model.begin = BESIDE;
        assert_eq!(search(&format!("{name}, beside"), model, 10), Searched::NothingFound);
    }
}
