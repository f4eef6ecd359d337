//! One way to search a model, for all of them: how long, and what is told of it.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

/// Seconds a search may take; from the environment for those who look for something.
fn limit() -> Duration {
    let seconds = std::env::var("MODEL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(600))
}

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Searched {
    /// Everything within its bounds was seen.
    NothingFound,
    /// How to violate something.
    Found {
        /// What, and by which steps.
        how: String,
        /// The `depth` of a search that just sees it.
        depth: usize,
    },
    /// Time was over first.
    CutOff,
}

/// All schedules of at most `depth - 2` steps: the beginning has depth 1, and states of depth
/// `depth` are not looked at any more. `judge` says what is wrong with a last state, and where it
/// ends once faults have.
#[expect(clippy::print_stdout, reason = "states and seconds are what it is run for")]
pub(crate) fn search<M>(
    name: &str,
    model: M,
    depth: usize,
    judge: impl Fn(&M::State) -> (String, M::State),
) -> Searched
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let began = Instant::now();
    let checker = model
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .target_max_depth(depth)
        .timeout(limit())
        .spawn_bfs()
        .join();
    let took = began.elapsed();
    let states = checker.unique_state_count();
    let found = checker.discoveries().into_iter().next().map(|(what, path)| {
        let steps: Vec<String> =
            path.clone().into_actions().iter().map(|step| format!("{step:?}")).collect();
        let last = path.last_state();
        let (wrong, end) = judge(last);
        if std::env::var_os("MODEL_SHOW").is_some() {
            println!("{last:#?}\nin the end {end:#?}");
        }
        (format!("{what}: {wrong} after {}", steps.join(", ")), steps.len() + 2)
    });
    let searched = match found {
        Some((how, depth)) => Searched::Found { how, depth },
        None if took < limit() => Searched::NothingFound,
        None => Searched::CutOff,
    };
    println!(
        "{name}: {states} states, depth {}, {:.1} s: {searched:?}",
        checker.max_depth(),
        took.as_secs_f64(),
    );
    searched
}
