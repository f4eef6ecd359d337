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

const BOUNDS: Bounds =
    Bounds { faults: 2, ticks: 5, writes: 1, kinds: Kinds::ALL, recover_one_of: 256 };

#[test]
fn nothing_is_found_with_all_rules() {
    let kinds = [
        ("processes", Kinds::PROCESSES),
        ("links", Kinds::LINKS),
        ("controllers", Kinds::CONTROLLERS),
        ("messages", Kinds::MESSAGES),
    ];
    for balanced in [false, true] {
        for (name, kinds) in kinds {
            let name = format!("{} {name}", if balanced { "balancer" } else { "leases" });
            let bounds = Bounds { kinds, ..BOUNDS };
            let model = Failover { bounds, rules: Rules::ALL, balanced };
            assert_eq!(search(&name, model), None);
        }
    }
}
