//! `COMPAT.md` is what the binary's table of commands makes it. `make compat` writes it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use testkit::compat::{self, Sources};
use testkit::process::Server;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))
}

/// Names of all commands that the binary has, those in containers as `a|b`.
fn commands() -> Result<BTreeSet<String>> {
    let node = Server::node("workers 2")?;
    let table = node.connect()?.call(&["COMMAND"])?;
    let mut names = BTreeSet::new();
    for row in table.elements() {
        let name = row.elements().first().context("a row without a name")?;
        names.insert(name.text());
        let leaves = row.elements().get(9).map(|leaves| leaves.elements()).unwrap_or_default();
        names.extend(leaves.iter().filter_map(|leaf| Some(leaf.elements().first()?.text())));
    }
    ensure!(names.len() > 100, "the table is too short: {names:?}");
    Ok(names)
}

#[test]
fn the_page_of_compatibility_is_up_to_date() -> Result<()> {
    let is_update = std::env::var_os("HOLDFAST_UPDATE").is_some();
    let kvrocks = read("tests/compat/commands/kvrocks.txt")?;
    let redis = read("tests/compat/commands/redis-7.2.txt")?;
    let reasons = read("tests/compat/commands/reasons.txt")?;
    let exceptions = read("tests/compat/exceptions.txt")?;
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/compat"))? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "probe"));
    paths.sort();
    let probes: Vec<String> =
        paths.iter().map(std::fs::read_to_string).collect::<Result<_, _>>()?;
    let ours = commands()?;
    let mut sources = Sources {
        kvrocks: &kvrocks,
        redis: &redis,
        reasons: &reasons,
        exceptions: &exceptions,
        probes: &probes,
        ours: &ours,
    };
    let kept = compat::without_idle_reasons(&sources)?;
    if is_update {
        std::fs::write(root().join("tests/compat/commands/reasons.txt"), &kept)?;
        sources.reasons = &kept;
    }
    let page = compat::page(&sources)?;
    if is_update {
        std::fs::write(root().join("COMPAT.md"), &page)?;
    }
    ensure!(read("COMPAT.md")? == page, "COMPAT.md is out of date: run `make compat`");
    Ok(())
}
