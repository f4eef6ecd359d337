//! `ctl import redis --follow`: copies as a replica of the Redis, and goes on with what is written
//! there until somebody cuts over.
//!
//! [`stream`] takes what the Redis sends into a [`spool`], [`read`] makes it out, [`commands`] says
//! what it means, [`apply`] puts it into the target.

mod apply;
mod commands;
mod progress;
mod read;
mod source;
mod spool;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::TOLD_EVERY;
use super::link::{Access, Source, Target};
use crate::{out, signals};
use apply::Applier;
use progress::Progress;
use source::Fence;
use stream::Stream;

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the Redis may refuse writes before it is given up.
const CUT_OVER: Duration = Duration::from_secs(30);

/// What is wanted.
pub(super) struct Plan {
    pub(super) access: Access,
    pub(super) db: u32,
    pub(super) to: String,
    pub(super) to_password: Option<String>,
    pub(super) cut_over: bool,
    pub(super) spool: PathBuf,
}

/// Follows until it is told to stop, or has cut over.
///
/// # Errors
/// One of the two does not answer or refuses; the Redis no longer has what would come next.
pub(super) async fn run(plan: Plan) -> Result<()> {
    let shutdown = signals::terminal()?;
    let source = || Source::open(&plan.access, plan.db);
    let mut own = source().await?;
    let table = own.table().await?;
    let mut control = source().await?;
    let mut target = Target::new(&plan.to, plan.to_password.clone());
    target.greet().await?;

    let stream = Stream::open(plan.access.clone()).await?;
    let (progress, offset) = (Arc::new(Progress::default()), stream.offset());
    progress.begin(offset);
    out::say(&format!("following {} from offset {offset}", plan.access.address));
    let (writer, reader) = spool::open(&plan.spool);
    let (works, work) = mpsc::channel(2);
    let db = u64::from(plan.db);
    // It ends with the spool, or when nobody takes its work.
    std::thread::Builder::new()
        .name("import-read".to_owned())
        .spawn(move || read::run(reader, db, offset, &works))
        .context("start a thread")?;
    let applier = Applier::new(own, target, table, db, Arc::clone(&progress));

    let (mut fence, mut is_cut) = (None, false);
    let end = tokio::select! {
        ended = stream.run(writer, Arc::clone(&progress)) => ended.map(|never| match never {}),
        ended = applier.run(work) => ended,
        () = tell(&progress) => Ok(()),
        cut = cut_over(&mut control, &progress, &mut fence), if plan.cut_over => {
            is_cut = cut.is_ok();
            cut
        }
        () = shutdown => Ok(()),
    };
    if is_cut {
        return Ok(());
    }
    // What `control` was asked when it was given up may still be answered there.
    let mut last = match source().await {
        Ok(last) => last,
        Err(error) => return Err(end.err().unwrap_or(error).context(left_fenced(fence.as_ref()))),
    };
    if let Some(fence) = &fence {
        last.unfence(fence).await.with_context(|| left_fenced(Some(fence)))?;
        out::say("the Redis takes writes again");
    }
    end?;
    stopped(&mut last, &progress).await
}

/// What to know of a Redis that could not be asked at the end.
fn left_fenced(fence: Option<&Fence>) -> String {
    match fence {
        Some(fence) => format!("the Redis may still refuse writes; there: {}", fence.undo()),
        None => "the copy has ended".to_owned(),
    }
}

async fn tell(progress: &Progress) {
    loop {
        sleep(TOLD_EVERY).await;
        out::say(&progress.line());
    }
}

/// Lets the Redis refuse writes, and waits until all that it has is at the target.
async fn cut_over(
    source: &mut Source,
    progress: &Progress,
    fence: &mut Option<Fence>,
) -> Result<()> {
    while !progress.is_near() {
        sleep(PAUSE).await;
    }
    let by_hand = "stop the writes at the Redis; stop its writers yourself and end this with SIGINT once it is 0 bytes behind";
    // It is known how to go back before anything is changed, to whoever reads this too.
    let before = fence.insert(source.unfenced().await.context(by_hand)?);
    let undo = before.undo();
    out::say(&format!("the Redis refuses writes from now on; to take it back: {undo}"));
    let begun = Instant::now();
    source.fence(before).await.context(by_hand)?;
    let end = source.offset().await?;
    while progress.applied() < end {
        ensure!(begun.elapsed() < CUT_OVER, "not all was at the target within {CUT_OVER:?}");
        sleep(PAUSE).await;
    }
    let pause = begun.elapsed().as_millis();
    out::say(&progress.line());
    out::say(&format!(
        "cut over at offset {end}, {pause} ms after the last write: the Redis refuses writes, and all it had is at the target. \
         Send clients there. To take it back: {undo}"
    ));
    Ok(())
}

/// Somebody has ended it: whether all is at the target.
async fn stopped(source: &mut Source, progress: &Progress) -> Result<()> {
    out::say(&progress.line());
    let behind = source.offset().await?.saturating_sub(progress.applied());
    if behind > 0 {
        bail!("stopped, and {behind} bytes of the Redis' stream are not at the target");
    }
    out::say("stopped; all that the Redis had is at the target");
    Ok(())
}
