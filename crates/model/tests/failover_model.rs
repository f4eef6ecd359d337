//! The search itself. `scripts/test` runs it within small bounds, `make model` the ignored ones within larger.

use std::time::{Duration, Instant};

use model::{Action, Bounds, Failover, Kinds, Rules, World};
use stateright::{Checker, HasDiscoveries, Model};

/// Seconds a search may take; from the environment for those who look for something.
fn limit() -> Duration {
    let seconds = std::env::var("MODEL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(600))
}

fn search(name: &str, model: Failover) -> Option<String> {
    let began = Instant::now();
    let checker = model
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .timeout(limit())
        .spawn_bfs()
        .join();
    let took = began.elapsed();
    let states = checker.unique_state_count();
    let found = checker.discoveries().into_iter().next().map(|(what, path)| {
        let steps: Vec<String> =
            path.clone().into_actions().iter().map(|step| format!("{step:?}")).collect();
        let last: &World = path.last_state();
        let end = model.recovered(last).0;
        let violation = last.violation.or(end.violation);
        if std::env::var_os("MODEL_SHOW").is_some() {
            println!("{last:#?}\nin the end {end:#?}");
        }
        format!("{what}: {violation:?} after {}", steps.join(", "))
    });
    println!(
        "model {name}: {states} states, depth {}, {:.1} s{}: {}",
        checker.max_depth(),
        took.as_secs_f64(),
        if took < limit() { "" } else { ", CUT OFF" },
        found.as_deref().unwrap_or("nothing found")
    );
    found
}

const BOUNDS: Bounds = Bounds { faults: 2, writes: 1, kinds: Kinds::ALL, recover_one_of: 512 };

fn all_rules(balanced: bool, kinds: Kinds, faults: u8) -> Failover {
    let bounds = Bounds { kinds, faults, ..BOUNDS };
    Failover { bounds, rules: Rules::ALL, balanced, begin: &[] }
}

#[test]
fn the_search_begins_in_a_steady_state() {
    for balanced in [false, true] {
        let model = all_rules(balanced, Kinds::ALL, 0);
        let (end, is_whole) = model.recovered(&model.steady());
        assert!(is_whole, "{end:#?}");
    }
}

#[test]
fn two_faults_of_a_kind_violate_nothing() {
    for (name, balanced, kinds) in [
        ("leases, crash", false, Kinds::CRASH),
        ("leases, stop", false, Kinds::STOP),
        ("leases, cut", false, Kinds::CUT),
        ("leases, isolate and restart", false, Kinds::CONTROLLERS),
        ("leases, messages", false, Kinds::MESSAGES),
        ("balancer, crash", true, Kinds::CRASH),
        ("balancer, stop", true, Kinds::STOP),
    ] {
        assert_eq!(search(name, all_rules(balanced, kinds, 2)), None);
    }
}

#[test]
#[ignore = "larger bounds: `make model`"]
fn two_faults_of_any_kinds_violate_nothing() {
    for (name, balanced, kinds) in [
        ("leases, processes and data", false, Kinds::PROCESSES.and(Kinds::DATA)),
        ("leases, processes and links", false, Kinds::PROCESSES.and(Kinds::LINKS)),
        ("leases, links and controllers", false, Kinds::LINKS.and(Kinds::CONTROLLERS)),
        ("leases, controllers and messages", false, Kinds::CONTROLLERS.and(Kinds::MESSAGES)),
        ("leases, all", false, Kinds::ALL),
        ("balancer, all", true, Kinds::ALL),
    ] {
        assert_eq!(search(name, all_rules(balanced, kinds, 2)), None);
    }
}

/// One rule is off: a violation must be found. With it on, from the same beginning, none is.
#[track_caller]
fn is_needed(name: &str, model: Failover, off: impl FnOnce(&mut Rules)) {
    let mut without = model;
    off(&mut without.rules);
    let found = search(&format!("without {name}"), without);
    assert!(found.is_some(), "{name} makes no difference");
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

#[test]
fn authority_bounds_leases() {
    let mut model = all_rules(false, Kinds::ISOLATE.and(Kinds::CUT), 2);
    model.bounds.writes = 0;
    is_needed("authority", model, |rules| rules.authority = false);
}

#[test]
fn a_controller_writes_its_term_first() {
    let mut model = all_rules(false, Kinds::SWAP.and(Kinds::CUT), 2);
    model.bounds.writes = 0;
    is_needed("term first", model, |rules| rules.term_first = false);
}

#[test]
fn all_sets_the_store_may_hold_are_waited_for() {
    let model = all_rules(false, Kinds::CUT, 1);
    is_needed("union of sets", model, |rules| rules.union_of_sets = false);
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
    assert_eq!(search("with epoch check", model), None);
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

#[test]
fn an_answer_from_before_the_epoch_is_no_newer_process() {
    let model = all_rules(false, Kinds::CRASH.and(Kinds::ANSWER), 2);
    is_needed("newer process", model, |rules| rules.newer_process = false);
}

/// The controller reaches nobody.
const SILENCE: &[Action] = &[Action::Cut(0, 0), Action::Cut(0, 1), Action::Cut(0, 2)];

#[test]
fn promises_are_kept() {
    let mut model = all_rules(false, Kinds::CUT, 0);
    (model.begin, model.bounds.writes) = (SILENCE, 0);
    is_needed("promises", model, |rules| rules.promises = false);
    assert_eq!(search("with promises", model), None);
}
