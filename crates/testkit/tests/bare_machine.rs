//! What `scripts/bootstrap` installs is what the build and the tests ask for: tried in a bare
//! Debian 12 root that has nothing but Rust, not on this machine, where somebody may have installed
//! the rest.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Runs a script in a fresh bare root with the tree at /src; what it printed, errors included.
fn in_bare_root(script: &str) -> Result<String> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = format!("exec 2>&1; {script}");
    let output = Command::new(tree.join("scripts/bare-root"))
        .args(["bash", "-uc", &script])
        .output()
        .context("run scripts/bare-root (it needs root)")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{said}\n{why}", output.status);
    Ok(said)
}

/// The part of the output behind a line `== name`, up to the next such line.
fn part<'a>(said: &'a str, name: &str) -> Result<&'a str> {
    let (_, rest) = said
        .split_once(&format!("== {name}\n"))
        .with_context(|| format!("no part {name}: {said}"))?;
    Ok(rest.split("\n== ").next().unwrap_or_default())
}

/// What Debian's smallest root has already; each of the others must be found missing there.
const IN_A_BARE_ROOT: &[&str] = &["mkfs", "mount"];
/// What `scripts/bare-root` takes along, where this machine has it.
const TAKEN_ALONG: &[&str] = &["tls"];

/// A line of `requirements=(` in `scripts/bootstrap`.
struct Requirement {
    /// The function that asks for it.
    name: String,
    /// What it is for, as it is named where it is missing.
    what: String,
}

/// All of them: one that is added there is looked for here.
fn requirements() -> Result<Vec<Requirement>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/bootstrap");
    let text = std::fs::read_to_string(&script).context("read scripts/bootstrap")?;
    let (_, rest) = text.split_once("\nrequirements=(\n").context("no requirements=(")?;
    let (list, _) = rest.split_once("\n)\n").context("no end of requirements=(")?;
    let read = |line: &str| {
        let line = line.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        let name = line.split_whitespace().next()?.to_owned();
        let what = line.rsplit("  ").next()?.trim().to_owned();
        Some(Requirement { name, what })
    };
    let found: Option<Vec<Requirement>> = list.lines().map(read).collect();
    let found = found.with_context(|| format!("a line that is no requirement: {list}"))?;
    ensure!(found.len() > 20, "only {} requirements", found.len());
    for name in IN_A_BARE_ROOT.iter().chain(TAKEN_ALONG) {
        ensure!(found.iter().any(|one| one.name == *name), "{name} is no requirement any more");
    }
    Ok(found)
}

#[test]
fn bootstrap_makes_a_bare_debian_able_to_build_and_test() -> Result<()> {
    // libclang-cpp is another library than libclang, however alike their names are.
    let said = in_bare_root(
        "echo == bare; /src/scripts/bootstrap --check; echo code $?
         echo == packages; apt-get update -qq; apt-get install -y -qq --no-install-recommends libclang-cpp14 gcc libc6-dev >/dev/null
         echo == another; ls /usr/lib/*/libclang-cpp.so.14 && /src/scripts/bootstrap --check; echo code $?
         echo == first; /src/scripts/bootstrap; echo code $?
         echo == check; /src/scripts/bootstrap --check; echo code $?
         echo == again; /src/scripts/bootstrap; echo code $?
         echo == compilers; printf 'int main(void) {}' >/tmp/a.c; printf 'int main() {}' >/tmp/a.cpp; . /src/scripts/env
         for turn in 1 2; do cc -c -o /tmp/a.o /tmp/a.c && c++ -c -o /tmp/a.o /tmp/a.cpp; done; ccache --print-stats | grep cache_hit
         echo == services; ls /proc/*/exe -l | grep -E 'haproxy|redis-server' | wc -l; ls /usr/sbin/policy-rc.d
         echo == broken; rm /usr/lib/llvm-*/lib/clang/*/include/stddef.h; /src/scripts/bootstrap --check; echo code $?",
    )?;
    let bare = part(&said, "bare")?;
    for wanted in requirements()? {
        if TAKEN_ALONG.contains(&wanted.name.as_str()) {
            continue;
        }
        // The last word of the question that failed is behind it.
        let line = format!("missing: {}: ", wanted.what);
        let is_missing = bare.contains(&line);
        match IN_A_BARE_ROOT.contains(&wanted.name.as_str()) {
            true => ensure!(!is_missing, "{} is not in a bare root: {bare}", wanted.name),
            false => ensure!(is_missing, "{} is not asked for: {bare}", wanted.name),
        }
    }
    ensure!(bare.ends_with("code 1"), "a bare root passes: {bare}");
    let another = part(&said, "another")?;
    ensure!(another.contains("missing: libclang that bindgen can load"), "{another}");
    ensure!(!another.contains("missing: a C compiler"), "{another}");
    let first = part(&said, "first")?;
    ensure!(first.starts_with("bootstrap: installing ") && first.ends_with("code 0"), "{first}");
    ensure!(
        first.contains("libclang-dev") && !first.contains(" gcc "),
        "only what is missing: {first}"
    );
    ensure!(part(&said, "check")? == "code 0", "{said}");
    ensure!(part(&said, "again")? == "code 0", "the second run does something: {said}");
    // By the names that the build of RocksDB asks for, each the second time.
    let compilers = part(&said, "compilers")?;
    let hits = compilers.lines().filter_map(|line| line.split('\t').nth(1)?.parse::<u32>().ok());
    ensure!(hits.sum::<u32>() == 2, "compiled again: {compilers}");
    let services = part(&said, "services")?;
    ensure!(services.starts_with('0') && services.contains("No such file"), "{services}");
    let broken = part(&said, "broken")?;
    ensure!(
        broken.contains("missing: libclang") && broken.contains("stddef.h"),
        "clang's headers are not asked for: {broken}"
    );
    Ok(())
}
