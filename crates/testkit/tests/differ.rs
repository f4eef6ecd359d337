//! Random sequences of commands against a node, with redis-server as the judge: a few seconds of
//! what `make differ` does.

use anyhow::{Context as _, Result, bail, ensure};
use testkit::differ::declared::Declared;
use testkit::differ::run::Outcome;
use testkit::differ::shrink::shrink;
use testkit::differ::{Pair, Step};

const SEQUENCES: u64 = 150;

/// `HOLDFAST_DIFFER_SEED` begins elsewhere.
fn first_seed() -> Result<u64> {
    match std::env::var("HOLDFAST_DIFFER_SEED") {
        Ok(seed) => seed.parse().with_context(|| format!("read the seed `{seed}`")),
        Err(_) => Ok(1),
    }
}

fn check(is_resp3: bool) -> Result<()> {
    let (pair, declared) = (Pair::start(is_resp3)?, Declared::read()?);
    let (first, mut compared) = (first_seed()?, 0);
    for seed in first..first + SEQUENCES {
        match pair.check(seed, &declared)? {
            Outcome::Alike(replies) => compared += replies,
            Outcome::Declared => {}
            Outcome::Differs(_, text) => bail!("{text}"),
        }
    }
    ensure!(compared > 2_000, "only {compared} replies compared");
    Ok(())
}

#[test]
fn random_commands_in_resp2() -> Result<()> {
    check(false)
}

#[test]
fn random_commands_in_resp3() -> Result<()> {
    check(true)
}

/// Proof of life, by a difference that is to stay: no server ever gives this cursor.
#[test]
fn a_difference_is_found_and_made_small() -> Result<()> {
    let pair = Pair::start(false)?;
    let ask = |line: &str| Step::Ask('a', line.split(' ').map(|word| word.into()).collect());
    let mut steps: Vec<Step> = (0..30).map(|number| ask(&format!("SET a {number}"))).collect();
    steps.insert(20, ask("SCAN -1 COUNT 1000"));
    let found = pair.play(&steps)?.context("find it")?;
    ensure!((found.at, found.name().as_str()) == (20, "SCAN"), "{found:?}");
    let small = shrink(steps, |steps| Ok(pair.play(steps)?.is_some()))?;
    ensure!(small == [ask("SCAN -1")], "{small:?}");
    Ok(())
}
