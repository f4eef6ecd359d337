//! The search itself. `scripts/test` runs it within small bounds, `make model` the ignored ones within larger.

use std::time::{Duration, Instant};

use model::{Bounds, Failover, Kinds, Rules, World};
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

const BOUNDS: Bounds = Bounds { faults: 2, writes: 1, kinds: Kinds::ALL, recover_one_of: 256 };

#[test]
fn nothing_is_found_with_all_rules() {
    let searches = [
        ("processes", Kinds::PROCESSES),
        ("data", Kinds::DATA),
        ("links", Kinds::LINKS),
        ("controllers", Kinds::CONTROLLERS),
        ("messages", Kinds::MESSAGES),
    ];
    for balanced in [false, true] {
        for (name, kinds) in searches {
            let name = format!("{} {name}", if balanced { "balancer" } else { "leases" });
            let bounds = Bounds { kinds, ..BOUNDS };
            let model = Failover { bounds, rules: Rules::ALL, balanced };
            assert_eq!(search(&name, model), None);
        }
    }
}

/// One rule is off: what is needed to see that?
#[track_caller]
fn is_needed(name: &str, balanced: bool, bounds: Bounds, off: impl FnOnce(&mut Rules)) {
    let mut rules = Rules::ALL;
    off(&mut rules);
    let found = search(&format!("without {name}"), Failover { bounds, rules, balanced });
    assert!(found.is_some(), "{name} makes no difference");
}

#[test]
fn a_restarted_process_needs_a_grant() {
    let bounds = Bounds { kinds: Kinds::PROCESSES, ..BOUNDS };
    is_needed("grant after restart", false, bounds, |rules| rules.grant_after_restart = false);
}

#[test]
fn the_fence_is_waited_for() {
    let bounds = Bounds { kinds: Kinds::LINKS, ..BOUNDS };
    is_needed("fence wait", false, bounds, |rules| rules.fence_wait = false);
}

#[test]
fn a_lease_counts_from_the_nodes_own_clock() {
    let bounds = Bounds { kinds: Kinds::MESSAGES.and(Kinds::LINKS), ..BOUNDS };
    is_needed("clock and nonce", false, bounds, |rules| rules.clock_and_nonce = false);
}

#[test]
fn authority_bounds_leases() {
    let kinds = Kinds::CONTROLLERS.and(Kinds::LINKS);
    let bounds = Bounds { kinds, writes: 0, ..BOUNDS };
    is_needed("authority", false, bounds, |rules| rules.authority = false);
}

#[test]
fn a_controller_writes_its_term_first() {
    let kinds = Kinds::CONTROLLERS.and(Kinds::MESSAGES).and(Kinds::LINKS);
    let bounds = Bounds { faults: 3, kinds, writes: 0, ..BOUNDS };
    is_needed("term first", false, bounds, |rules| rules.term_first = false);
}

#[test]
fn all_sets_the_store_may_hold_are_waited_for() {
    let bounds = Bounds { kinds: Kinds::PROCESSES.and(Kinds::LINKS), ..BOUNDS };
    is_needed("union of sets", false, bounds, |rules| rules.union_of_sets = false);
}

#[test]
fn answers_wait_for_the_set() {
    let bounds = Bounds { faults: 1, kinds: Kinds::PROCESSES, ..BOUNDS };
    is_needed("reply gate", false, bounds, |rules| rules.reply_gate = false);
}

#[test]
fn acknowledgements_count_under_their_epoch() {
    let bounds = Bounds { kinds: Kinds::PROCESSES, writes: 2, ..BOUNDS };
    is_needed("epoch check", false, bounds, |rules| rules.epoch_check = false);
}

#[test]
fn a_set_names_data() {
    let bounds = Bounds { kinds: Kinds::DATA, ..BOUNDS };
    is_needed("identity", false, bounds, |rules| rules.identity = false);
}

#[test]
fn nothing_is_rewound_for_a_master_without_a_later_epoch() {
    let bounds = Bounds { faults: 1, kinds: Kinds::DATA, ..BOUNDS };
    is_needed("rewind to newer", false, bounds, |rules| rules.rewind_to_newer = false);
}

#[test]
fn an_answer_from_before_the_epoch_is_no_newer_process() {
    let kinds = Kinds::PROCESSES.and(Kinds::MESSAGES);
    let bounds = Bounds { kinds, ..BOUNDS };
    is_needed("newer process", false, bounds, |rules| rules.newer_process = false);
}

#[test]
fn the_search_begins_in_a_steady_state() {
    for balanced in [false, true] {
        let model = Failover { bounds: BOUNDS, rules: Rules::ALL, balanced };
        let (end, is_whole) = model.recovered(&model.steady());
        assert!(is_whole, "{end:#?}");
    }
}
