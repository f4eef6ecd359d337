//! Random sequences of commands against a node, with redis-server as the judge: a few seconds of
//! what `make differ` does.

use anyhow::{Context as _, Result, bail, ensure};
use testkit::differ::Pair;
use testkit::differ::declared::Declared;
use testkit::differ::run::Outcome;

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
