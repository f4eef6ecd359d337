//! Slots that go from shard to shard: what would be done is shown, then asked for.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::moves::{Rate, Slots};
use api::rest::{
    By, Cluster, ClusterAnswer, DrainSpec, Move, MoveAnswer, MoveChange, Moves, MovesAnswer,
    MovesSpec, RebalanceSpec,
};
use clap::Subcommand;
use reqwest::Method;
use serde::Serialize;

use super::ids::ShardWord;
use super::planned::{bytes, plan_text, shard_name};
use super::table::{json, render, text};
use super::{Context, Place};
use crate::out::{anew, part};

#[derive(Debug, Subcommand)]
pub(crate) enum MoveVerb {
    /// To another shard, while clients read and write them
    ///
    /// Shows the moves, one for each shard that gives, and asks; `--yes` does not ask. The
    /// controller queues them and carries them out one after the other; `ctl moves` shows how far
    /// they are. Writes of slots that change hands wait some milliseconds.
    Slots {
        /// n or a-b, several with commas: 0-99,200
        slots: Slots,
        /// Index or id of the shard that is to have them
        #[arg(long, value_name = "SHARD")]
        to: ShardWord,
        #[command(flatten)]
        how: How,
    },
}

/// How moves are queued.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    #[command(flatten)]
    place: Place,
    /// Do it without being asked
    #[arg(long)]
    yes: bool,
    /// Most moves of the cluster that are under way at a time from now on; 0: as many as shards
    /// allow, each of which gives and takes for one
    #[arg(long, value_name = "MOVES")]
    max_concurrent: Option<u32>,
    /// Most that the copy of each of these moves brings, MB a second, 1 to 10000; if left out, as
    /// the nodes' `move-rate-mb` says
    #[arg(long, value_name = "MB")]
    bandwidth: Option<Rate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// Slots, whatever lies in them
    Slots,
    /// Bytes on disk, as the masters estimate them
    Bytes,
    /// Commands of the last minutes, as the masters count a part of them
    Load,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RebalanceArgs {
    /// What every shard is to have as much of
    #[arg(long, value_enum, default_value = "slots")]
    by: What,
    /// By bytes, or by load: how far from the mean a shard may stay, percent, 1 to 50; 5 if left
    /// out
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=50))]
    tolerance: Option<u32>,
    #[command(flatten)]
    how: How,
}

/// How long masters may take to say what all slots weigh, and the controller to ask them.
const WEIGHED: Duration = Duration::from_secs(40);

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct MovesArgs {
    #[command(subcommand)]
    verb: Option<MovesVerb>,
    #[command(flatten)]
    place: Place,
    /// Show them again every second, until none is queued or under way
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MovesVerb {
    /// Show what is queued, under way, and over
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Let one not begin, not copy on, and not hand its slots over
    Pause {
        #[command(flatten)]
        which: Which,
    },
    /// Give one another rate, also while it copies
    Pace {
        #[command(flatten)]
        which: Which,
        /// Most that its copy brings from now on, MB a second, 1 to 10000; 0: as the nodes'
        /// `move-rate-mb` says
        #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(0..=10_000))]
        bandwidth: u32,
    },
    /// Let a paused one go on
    Resume {
        #[command(flatten)]
        which: Which,
    },
    /// Give one up whose slots have not moved yet: what was copied is deleted
    Cancel {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Number of the move, as `ctl moves` shows it
    id: u64,
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn slots(cx: &Context, verb: MoveVerb) -> Result<()> {
    let MoveVerb::Slots { slots, to, how } = verb;
    let base = cx.cluster(&how.place).await?;
    let (slots, to) = (slots.to_string(), to.to_string());
    let dry = MovesSpec { slots, to, dry: true, ..MovesSpec::default() };
    plan(cx, &how, (&base, "/moves"), &dry).await
}

pub(crate) async fn rebalance(cx: &Context, args: RebalanceArgs) -> Result<()> {
    let RebalanceArgs { by, tolerance, how } = args;
    let by = By::from(by);
    if by == By::Slots && tolerance.is_some() {
        bail!("--tolerance goes with --by bytes, and --by load");
    }
    let base = cx.cluster(&how.place).await?;
    let dry = RebalanceSpec { by, tolerance, dry: true, ..RebalanceSpec::default() };
    plan(cx, &how, (&base, "/rebalance"), &dry).await
}

impl From<What> for By {
    fn from(what: What) -> Self {
        match what {
            What::Slots => Self::Slots,
            What::Bytes => Self::Bytes,
            What::Load => Self::Load,
        }
    }
}

pub(crate) async fn drain(cx: &Context, shard: &ShardWord, by: What, how: How) -> Result<()> {
    let base = cx.cluster(&how.place).await?;
    let dry = DrainSpec { by: by.into(), dry: true, ..DrainSpec::default() };
    plan(cx, &how, (&base, &format!("/shards/{shard}/drain")), &dry).await
}

/// Asks what would be done, shows it, and queues exactly that.
async fn plan(
    cx: &Context,
    how: &How,
    (base, path): (&str, &str),
    dry: &(impl Serialize + Sync),
) -> Result<()> {
    let path = format!("{base}{path}");
    let value = cx.http.call_long(Method::POST, &path, Some(dry), WEIGHED).await?;
    let shown: MovesAnswer = serde_json::from_value(value.clone()).context("read the plan")?;
    let cluster: ClusterAnswer = cx.http.get(base).await?;
    if !cx.json {
        let (rate, limit) = (how.bandwidth, how.max_concurrent);
        text(&plan_text(cx.width, &shown, &cluster.cluster, rate, limit))?;
    }
    let has_nothing = shown.moves.is_empty() && how.max_concurrent.is_none();
    if has_nothing {
        return if cx.json { json(&value) } else { Ok(()) };
    }
    if cx.json && !how.yes {
        json(&value)?;
    }
    must_be_wanted(cx, how.yes)?;
    let spec = MovesSpec {
        moves: shown.moves,
        max_concurrent: how.max_concurrent,
        rate_mb: how.bandwidth.map(Rate::mb),
        ..MovesSpec::default()
    };
    let value = cx.http.call(Method::POST, &format!("{base}/moves"), Some(&spec)).await?;
    if cx.json {
        return json(&value);
    }
    let queued: MovesAnswer = serde_json::from_value(value).context("read the answer")?;
    cx.say(&format!("queued as {}; `ctl moves` shows how far they are", ids_text(&queued)))
}

/// They follow each other.
fn ids_text(queued: &MovesAnswer) -> String {
    let ids: Vec<String> =
        (queued.moves.iter().filter_map(|one| one.id)).map(|id| id.to_string()).collect();
    match &ids[..] {
        [first, .., last] if ids.len() > 3 => format!("{first} to {last}"),
        ids => ids.join(", "),
    }
}

/// A person at a terminal is asked; a script has to say it, and is told by the exit code if it did
/// not.
fn must_be_wanted(cx: &Context, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if cx.json || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        bail!("nothing was changed: there is no terminal to ask at; --yes does it without");
    }
    text("Do it? [y/N] ")?;
    std::io::stdout().flush().context("write to the terminal")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("read the answer")?;
    if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        bail!("nothing was changed");
    }
    Ok(())
}

pub(crate) async fn moves(cx: &Context, args: MovesArgs) -> Result<()> {
    let paused = |paused| Some(MoveChange { paused: Some(paused), rate_mb: None });
    let (which, method, body) = match args.verb {
        None if args.watch => return watch(cx, &args.place).await,
        None => return list(cx, &args.place).await,
        Some(MovesVerb::List { place }) => return list(cx, &place).await,
        Some(MovesVerb::Pause { which }) => (which, Method::PATCH, paused(true)),
        Some(MovesVerb::Resume { which }) => (which, Method::PATCH, paused(false)),
        Some(MovesVerb::Pace { which, bandwidth }) => {
            let change = MoveChange { paused: None, rate_mb: Some(bandwidth) };
            (which, Method::PATCH, Some(change))
        }
        Some(MovesVerb::Cancel { which }) => (which, Method::DELETE, None),
    };
    let path = format!("{}/moves/{}", cx.cluster(&which.place).await?, which.id);
    let value = cx.http.call(method, &path, body.as_ref()).await?;
    if cx.json {
        return json(&value);
    }
    let answer: MoveAnswer = serde_json::from_value(value).context("read the move")?;
    cx.say(&changed_text(which.id, body.as_ref(), &answer))
}

fn changed_text(id: u64, change: Option<&MoveChange>, answer: &MoveAnswer) -> String {
    let is_dropping = answer.of.as_ref().is_some_and(|one| one.state == "drop");
    match (change, &answer.of) {
        (Some(MoveChange { paused: Some(true), .. }), Some(_)) => {
            format!("move {id} is paused; `ctl moves resume {id}` lets it go on\n")
        }
        (Some(MoveChange { paused: Some(false), .. }), Some(_)) => format!("move {id} goes on\n"),
        (Some(_), Some(one)) => format!("move {id} copies at {} MB/s at most\n", one.rate_mb),
        (None, Some(_)) if is_dropping => {
            format!("move {id} is cancelled; what was copied is being deleted\n")
        }
        _ => format!("move {id} is over\n"),
    }
}

async fn list(cx: &Context, place: &Place) -> Result<()> {
    let base = cx.cluster(place).await?;
    let value = cx.http.call(Method::GET, &format!("{base}/moves"), None::<&()>).await?;
    if cx.json {
        return json(&value);
    }
    let moves: Moves = serde_json::from_value(value).context("read the moves")?;
    let cluster: ClusterAnswer = cx.http.get(&base).await?;
    text(&list_text(cx.width, &moves, &cluster.cluster))
}

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);

/// Shows the queue again and again, until nothing is left of it, or nobody looks any more.
async fn watch(cx: &Context, place: &Place) -> Result<()> {
    let base = cx.cluster(place).await?;
    let is_terminal = std::io::stdout().is_terminal();
    loop {
        let value = cx.http.call(Method::GET, &format!("{base}/moves"), None::<&()>).await?;
        let moves: Moves = serde_json::from_value(value.clone()).context("read the moves")?;
        let is_read = if cx.json {
            part(&format!("{value:#}\n"))?
        } else {
            let cluster: ClusterAnswer = cx.http.get(&base).await?;
            let shown = list_text(cx.width, &moves, &cluster.cluster);
            // On a terminal each takes the place of the one before.
            if is_terminal { anew(&shown)? } else { part(&format!("{shown}\n"))? }
        };
        if moves.moves.is_empty() || !is_read {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Moves that are over and shown.
const DONE_SHOWN: usize = 10;

fn list_text(width: usize, moves: &Moves, cluster: &Cluster) -> String {
    let mut out = String::new();
    if moves.moves.is_empty() {
        out.push_str("no slots are queued to move\n");
    } else {
        let rows: Vec<Vec<String>> = moves.moves.iter().map(|one| row(one, cluster)).collect();
        let head = [
            "MOVE",
            "FROM",
            "TO",
            "SLOTS",
            "STATE",
            "RECORDS",
            "BYTES",
            "RATE",
            "LIMIT",
            "LEFT",
            "WAITS FOR",
        ];
        out.push_str(&render(width, &head, &rows));
    }
    if let Some(limit) = moves.max_concurrent {
        out.push_str(&format!("at most {limit} at a time\n"));
    }
    if !moves.done.is_empty() {
        let newest = moves.done.iter().rev().take(DONE_SHOWN);
        let rows: Vec<Vec<String>> = newest
            .map(|past| {
                vec![
                    past.id.to_string(),
                    shard_name(&past.from, cluster),
                    shard_name(&past.to, cluster),
                    past.slots.clone(),
                    past.error.clone().unwrap_or_else(|| "done".to_owned()),
                ]
            })
            .collect();
        out.push('\n');
        out.push_str(&render(width, &["OVER", "FROM", "TO", "SLOTS", "END"], &rows));
    }
    out
}

fn row(one: &Move, cluster: &Cluster) -> Vec<String> {
    let progress = one.progress.as_ref();
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let bytes_of = progress.map(|progress| match progress.of_bytes {
        Some(all) => format!("{} of {}", bytes(progress.bytes), bytes(all)),
        None => bytes(progress.bytes),
    });
    let rate = progress.and_then(|progress| progress.bytes_per_s);
    let left = progress.and_then(|progress| progress.left_ms);
    let state = if one.paused { format!("{}, paused", one.state) } else { one.state.clone() };
    vec![
        one.id.to_string(),
        shard_name(&one.from, cluster),
        shard_name(&one.to, cluster),
        one.slots.clone(),
        state,
        or_dash(progress.map(|progress| progress.records.to_string())),
        or_dash(bytes_of),
        or_dash(rate.map(|rate| format!("{}/s", bytes(rate)))),
        or_dash(Some(one.rate_mb).filter(|mb| *mb > 0).map(|mb| format!("{mb} MB/s"))),
        or_dash(left.map(|ms| format!("{} s", ms.div_ceil(1_000)))),
        waits_text(one),
    ]
}

fn waits_text(one: &Move) -> String {
    let slowed = one.slowed_by.iter().map(|brake| format!("slowed by {brake}"));
    let waits_for = Some(one.waits_for.clone()).filter(|waits_for| !waits_for.is_empty());
    waits_for.into_iter().chain(slowed).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster() -> Cluster {
        let shard = |id: &str, ranges: &[&str]| {
            json!({"id": id, "nodes": [], "slot_ranges": ranges, "target_shard_index": -1,
                "migrating_slot": null})
        };
        let shards = [shard("aa", &["0-9", "20"]), shard("bb", &["10-19"]), shard("cc", &[])];
        serde_json::from_value(json!({"name": "c", "version": 1, "shards": shards})).unwrap()
    }

    #[test]
    fn the_queue_shows_how_far_moves_are_and_why_they_ended() {
        let moves: Moves = serde_json::from_value(json!({
            "moves": [{
                "id": 7, "slots": "0-9", "from": "aa", "to": "bb", "state": "copy",
                "waits_for": "the copy", "rate_mb": 5,
                "slowed_by": "what clients wait at the giver", "progress": {
                    "records": 5, "bytes": 1_500_000, "of_bytes": 3_000_000,
                    "bytes_per_s": 250_000, "left_ms": 6_000,
                },
            }, {
                "id": 8, "slots": "20", "from": "aa", "to": "gone", "state": "queued",
                "paused": true, "waits_for": "an operator",
            }],
            "done": [{"id": 6, "slots": "1", "from": "bb", "to": "aa", "error": "cancelled"}],
            "max_concurrent": 2,
        }))
        .unwrap();
        let told = list_text(usize::MAX, &moves, &cluster());
        for words in [
            "7     0     1     0-9    copy            5        1.5 MB of 3.0 MB  250.0 kB/s  5 MB/s  6 s   the copy; slowed by what clients wait at the giver",
            "8     0     gone  20     queued, paused  -        -                 -           -       -     an operator",
            "at most 2 at a time",
            "6     1     0   1      cancelled",
        ] {
            assert!(told.contains(words), "{words}\n{told}");
        }
        assert!(list_text(100, &moves, &cluster()).lines().all(|line| line.len() <= 100));
        assert_eq!(list_text(100, &Moves::default(), &cluster()), "no slots are queued to move\n");
    }

    #[test]
    fn what_became_of_a_move_is_said() {
        let under_way = MoveAnswer {
            of: Some(Move { id: 7, state: "copy".into(), rate_mb: 20, ..Move::default() }),
            done: None,
        };
        let change = |paused, rate_mb| MoveChange { paused, rate_mb };
        for (change, told) in [
            (change(Some(true), None), "move 7 is paused; `ctl moves resume 7` lets it go on\n"),
            (change(Some(false), None), "move 7 goes on\n"),
            (change(None, Some(20)), "move 7 copies at 20 MB/s at most\n"),
        ] {
            assert_eq!(changed_text(7, Some(&change), &under_way), told);
        }
        let over = MoveAnswer::default();
        assert_eq!(changed_text(7, Some(&change(Some(true), None)), &over), "move 7 is over\n");
        assert_eq!(changed_text(7, None, &over), "move 7 is over\n");
    }

    #[test]
    fn moves_that_were_queued_are_named_in_short() {
        let queued = |ids: std::ops::Range<u64>| {
            let moves = ids.map(|id| json!({"id": id, "slots": "1", "from": "a", "to": "b"}));
            serde_json::from_value(json!({"moves": moves.collect::<Vec<_>>()})).unwrap()
        };
        assert_eq!(ids_text(&queued(7..10)), "7, 8, 9");
        assert_eq!(ids_text(&queued(7..107)), "7 to 106");
    }

    #[test]
    fn a_rate_or_a_tolerance_out_of_bounds_is_refused_before_anything_is_asked() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RebalanceArgs,
        }
        let line = |words: &[&str]| {
            let words = std::iter::once("rebalance").chain(words.iter().copied());
            let line = <Line as clap::Parser>::try_parse_from(words);
            line.map(|line| line.args).map_err(|error| error.to_string())
        };
        let plain = line(&[]).unwrap();
        assert_eq!((plain.by, plain.tolerance, plain.how.bandwidth), (What::Slots, None, None));
        let all = line(&["--by", "bytes", "--tolerance", "10", "--bandwidth", "5"]).unwrap();
        assert_eq!((all.by, all.tolerance), (What::Bytes, Some(10)));
        assert_eq!(all.how.bandwidth, Rate::new(5).ok());
        let load = line(&["--by", "load"]).unwrap();
        assert_eq!((load.by, load.tolerance), (What::Load, None));
        for (words, why) in [
            (["--bandwidth", "0"], "MB a second expected, from 1 to 10000"),
            (["--bandwidth", "10001"], "MB a second expected, from 1 to 10000"),
            (["--tolerance", "51"], "51 is not in 1..=50"),
            (["--by", "keys"], "possible values: slots, bytes, load"),
        ] {
            let error = line(&words).err().unwrap_or_default();
            assert!(error.contains(why), "{words:?}: {error}");
        }
    }

    #[test]
    fn bad_slots_are_refused_before_anything_is_asked() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(subcommand)]
            verb: MoveVerb,
        }
        let line = |slots: &str, to: &str| {
            let line = ["move", "slots", slots, "--to", to];
            <Line as clap::Parser>::try_parse_from(line).map_err(|error| error.to_string())
        };
        let Ok(Line { verb: MoveVerb::Slots { slots, .. } }) = line("0-99,200", "3") else {
            panic!("a good line")
        };
        assert_eq!(slots.to_string(), "0-99,200");
        assert!(line("0-99,200", "0123456789abcdef").is_ok());
        for (slots, to, why) in [
            ("9-1", "3", "slots `9-1`: n or a-b expected, from 0 to 16383"),
            ("0-16384", "3", "from 0 to 16383"),
            ("5,4", "3", "slots must rise and not overlap"),
            ("0", "x", "an index, or an id of 16 hexadecimal digits, expected"),
        ] {
            let error = line(slots, to).err().unwrap_or_default();
            assert!(error.contains(why), "{slots} {to}: {error}");
        }
    }
}
