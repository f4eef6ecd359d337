//! `ctl import redis`: copies the keys of a running Redis into a node or a cluster.
//!
//! It walks through the keys with SCAN, asks for each with DUMP and PTTL, and puts it with RESTORE,
//! at the node that a cluster names for it. After each page a file says how far it is, so that it
//! can go on where it was stopped. What is written at the source meanwhile may be missed: writers
//! stop before the last run. With `--follow` it copies as a replica ([`follow`]) and misses
//! nothing.
//!
//! Passwords come from files or the environment, never from the command line.

mod digest;
mod follow;
mod link;
mod names;
mod progress;
mod values;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use resp::Value;

use super::secret;
use crate::out;
use follow::Plan;
use link::{Access, Source, TOGETHER, Target};
use progress::Saved;
use values::Put;

/// See the module.
#[derive(Debug, clap::Args)]
pub(crate) struct FromRedis {
    /// Where it is: redis://HOST:PORT[/DB]
    url: String,
    /// A node, or an announced address of the cluster: HOST:PORT
    #[arg(long)]
    to: String,
    /// File whose only line is the password of the Redis [env: HOLDFAST_REDIS_PASSWORD]
    #[arg(long, value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    /// User name at the Redis, where it has users
    #[arg(long)]
    from_user: Option<String>,
    /// File whose only line is the clients' password at the target [env: HOLDFAST_TARGET_PASSWORD]
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,
    /// Keys that are there already stay as they are
    #[arg(long)]
    keep: bool,
    /// File that says how far it is; with it a run that was stopped goes on
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Copy as a replica of the Redis, and go on with what is written there, until SIGINT. The
    /// target is empty at the beginning
    #[arg(long, conflicts_with_all = ["keep", "state"])]
    follow: bool,
    /// Once nearly all is copied, let the Redis refuse writes (min-replicas-to-write), wait for the
    /// rest, and end
    #[arg(long, requires = "follow")]
    cut_over: bool,
    /// Folder for what the Redis has sent and the target does not have yet [default: that of
    /// temporary files]
    #[arg(long, value_name = "DIR", requires = "follow")]
    spool: Option<PathBuf>,
    /// Afterwards compare each value with its source
    #[arg(long)]
    verify: bool,
}

/// Between two lines that say how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// What became of keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    copied: u64,
    /// There already, with --keep.
    kept: u64,
    /// Gone at the source before they were read.
    gone: u64,
}

/// Where a Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    address: String,
    db: u32,
}

fn place(url: &str) -> Result<Place> {
    let rest = url.strip_prefix("redis://").context("the URL begins with redis://")?;
    ensure!(
        !rest.contains('@'),
        "no password in the URL, where others on this host see it: use --from-password-file"
    );
    let (address, db) = rest.split_once('/').unwrap_or((rest, ""));
    let db = if db.is_empty() { 0 } else { db.parse().context("the database is a number")? };
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { address.to_owned() } else { format!("{address}:6379") };
    Ok(Place { address, db })
}

fn password(file: Option<PathBuf>, option: &str, variable: &str) -> Result<Option<String>> {
    match secret::of(None, file.as_deref(), option)? {
        Some(password) => Ok(Some(password)),
        None => Ok(super::env::variable(variable)),
    }
}

/// Copies, and compares if that is wanted.
///
/// # Errors
/// One of the two does not answer or refuses; a value differs.
pub(crate) async fn run(args: FromRedis) -> Result<()> {
    let place = place(&args.url)?;
    let from =
        password(args.from_password_file, "--from-password-file", "HOLDFAST_REDIS_PASSWORD")?;
    let to = password(args.to_password_file, "--to-password-file", "HOLDFAST_TARGET_PASSWORD")?;
    let access = Access { address: place.address, user: args.from_user, password: from };
    let mut source = Source::open(&access, place.db).await?;
    let mut target = Target::new(&args.to, to.clone());
    target.greet().await?;
    if args.follow {
        let spool = args.spool.unwrap_or_else(std::env::temp_dir);
        let (db, to_password) = (place.db, to);
        let cut_over = args.cut_over;
        follow::run(Plan { access, db, to: args.to, to_password, cut_over, spool }).await?;
    } else {
        let run_id = source.run_id().await?;
        let (cursor, name) = ("0".to_owned(), target.copy_name().to_owned());
        let begin = Saved { db: place.db, to: args.to, run_id, cursor, seen: 0, name };
        let state = args.state.as_deref();
        let counts = copy(&mut source, &mut target, args.keep, (begin, state)).await?;
        let Counts { copied, kept, gone } = counts;
        out::say(&format!("{copied} keys copied, {kept} kept, {gone} gone meanwhile"));
    }
    if args.verify {
        let compared = verify(&mut source, &mut target).await?;
        out::say(&format!("{compared} keys compared, all equal"));
    }
    Ok(())
}

async fn copy(
    source: &mut Source,
    target: &mut Target,
    keeps: bool,
    (begin, state): (Saved, Option<&std::path::Path>),
) -> Result<Counts> {
    let total = source.size().await?;
    let mut at = begin;
    if let Some(path) = state
        && let Some(saved) = Saved::read(path)?
    {
        saved.must_be_of(at.db, &at.to, path)?;
        if !saved.name.is_empty() {
            target.succeed(&saved.name);
            at.name.clone_from(&saved.name);
        }
        // A cursor means something to the process that gave it.
        if saved.run_id == at.run_id {
            at = Saved { name: at.name, ..saved };
        }
    }
    // The next run is to know this one's connections, whenever this one ends.
    if let Some(path) = state {
        at.write(path)?;
    }
    let (mut counts, mut told) = (Counts::default(), Instant::now());
    loop {
        let (next, keys) = source.scan(&at.cursor).await?;
        at.seen += keys.len() as u64;
        let values = source.dump(&keys).await?;
        counts.gone += values.iter().filter(|value| value.is_none()).count() as u64;
        let values: Vec<Put> = values.into_iter().flatten().map(Put::Value).collect();
        let kept = target.put(&values, keeps).await?;
        counts.kept += kept;
        counts.copied += values.len() as u64 - kept;
        if next == "0" {
            break;
        }
        at.cursor = next;
        if let Some(path) = state {
            at.write(path)?;
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            out::say(&format!("{} of about {total} keys", at.seen));
        }
    }
    if let Some(path) = state {
        Saved::remove(path)?;
    }
    Ok(counts)
}

/// Reads all values again, on both sides.
async fn verify(source: &mut Source, target: &mut Target) -> Result<u64> {
    let (mut cursor, mut compared, mut told) = ("0".to_owned(), 0, Instant::now());
    loop {
        let (next, keys) = source.scan(&cursor).await?;
        let values: Vec<_> = source.dump(&keys).await?.into_iter().flatten().collect();
        for part in values.chunks(TOGETHER) {
            let keys: Vec<&[u8]> = part.iter().map(|value| value.key.as_slice()).collect();
            for (value, there) in part.iter().zip(target.dump(&keys).await?) {
                let name = value.key.escape_ascii();
                let there = there.with_context(|| format!("{name} is not there"))?;
                if digest::of(&value.payload)? != digest::of(&there)? {
                    bail!("{name} has another value there");
                }
                compared += 1;
            }
        }
        if next == "0" {
            return Ok(compared);
        }
        cursor = next;
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            out::say(&format!("{compared} keys compared"));
        }
    }
}

/// The text of a reply that is an error.
fn refused(value: &Value) -> Option<&str> {
    match value {
        Value::Error(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_place_and_no_password() {
        let at = |url: &str| place(url).map(|place| (place.address, place.db)).ok();
        assert_eq!(at("redis://h:1/2"), Some(("h:1".to_owned(), 2)));
        assert_eq!(at("redis://h"), Some(("h:6379".to_owned(), 0)));
        assert_eq!(at("redis://[::1]:7"), Some(("[::1]:7".to_owned(), 0)));
        for wrong in ["h:1", "redis://:secret@h:1", "redis://u:p@h", "redis://h:1/x"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
