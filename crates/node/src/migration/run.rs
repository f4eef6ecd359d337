//! The thread that gives slots to another master.
//!
//! What is sent is the database at one moment, then what the log has since. When little is left,
//! writes of the slots are stopped, the rest is sent, and the target is told that all has come.
//! From then on it serves them, and this node says MOVED. Whatever fails before leaves the slots
//! here, and a target that is too slow for that is such a failure: writes are stopped for
//! [`FREEZE`] at most.
//!
//! An answer to that last request that is lost is asked for until it is known: neither side may
//! write meanwhile, since both might.

use std::sync::Arc;
use std::time::Duration;

use resp::value::Value;
use storage::slots::commands::{self, Halt, Sent};
use storage::slots::{Batches, Dirty, Refusal, for_each_key};
use storage::{FeedBatch, FeedRead, FeedReader, Snapshot, Store};
use topology::Endpoint;

use super::link::{Failed, Limits, Link};
use super::marks;
use super::pace::{Pipeline, Rate};
use super::stage::{self, Next, Replay, Verdict};
use super::state::Job;
use crate::clock;
use crate::config::Values;
use crate::config::value::MigrateType;
use crate::gate::Engine;
use crate::node::Node;
use crate::threads::spawn;

/// Bytes of the log that are read at once.
const LOG_BYTES: usize = 1 << 20;
/// Between two questions whether the target has taken over.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Longest time for which writes of the slots are stopped, as long as the target has not been asked
/// to take over. Then they stay here.
const FREEZE: Duration = Duration::from_secs(10);

/// Ends a job however its thread ends, and if there is none.
struct Ending {
    node: Arc<Node>,
    job: Arc<Job>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // It has none, or its thread panicked: the target may have been asked.
        let is_open = self.job.is_asked();
        self.node.migration.end(&self.job, Err("its thread has ended".into()), is_open);
    }
}

/// Begins a migration to a node at this local address.
pub fn start(node: &Arc<Node>, job: Arc<Job>, to: Endpoint) {
    let ending = Ending { node: Arc::clone(node), job };
    spawn("migrate", move || {
        let Ending { node, job } = &ending;
        let (range, target) = (job.range, job.to);
        tracing::info!(%range, %target, at = %to, "slots are migrated");
        let result = run(node, job, &to, FREEZE);
        match conclude(node, job, result) {
            Ok(()) => {
                tracing::info!(%range, %target, "slots were migrated: the topology is to say so")
            }
            Err(why) => {
                tracing::warn!(%range, %target, why, "slots were not migrated: they stay here")
            }
        }
    });
}

/// Writes down whose the slots are now, and that the job has ended: a topology that comes in
/// between would take it for one that runs.
fn conclude(node: &Arc<Node>, job: &Arc<Job>, result: Result<(), Failed>) -> super::state::Ended {
    let is_given = result.is_ok();
    // This process ends, and may serve for a moment yet what the target has.
    let is_open = matches!(result, Err(Failed::Stopped(_))) && job.is_asked();
    let _one_at_a_time = node.changing.blocking_lock();
    let update = marks::update(node, |_, cluster, marks| -> Result<(), std::convert::Infallible> {
        if is_given && super::checks::are_mine(cluster, job.range) {
            marks.migrated.extend(job.range.slots().map(|slot| (slot, job.to)));
        }
        if !is_given && !is_open {
            marks.write_forbidden = None;
        }
        Ok(())
    });
    let Ok(()) = update;
    if is_given {
        leave(node, job);
    }
    let ended = result.map_err(|failed| failed.to_string());
    node.migration.end(job, ended.clone(), is_open);
    ended
}

/// What waits for keys of the slots begins anew, to be told where they are; subscriptions to their
/// channels end.
fn leave(node: &Node, job: &Job) {
    let is_gone = |key: &[u8]| job.range.contains(topology::key_slot(key));
    node.waiters.begin_anew_where(is_gone);
    node.pubsub.drop_shards(is_gone, node.config.now().subscriber_limit(), clock::unix_ms());
}

fn run(node: &Arc<Node>, job: &Job, to: &Endpoint, freeze: Duration) -> Result<(), Failed> {
    let (store, generation) = {
        let engine = node.engine();
        let store = master(&engine, None).ok_or(Failed::Stopped(NO_MASTER))?;
        (store.clone(), engine.generation)
    };
    let shutdown = node.shutdown();
    let stop = || {
        let is_other = node.engine().generation != generation;
        let is_over = *shutdown.borrow();
        job.stopped().or(is_other.then_some(NO_MASTER)).or(is_over.then_some("this node ends"))
    };
    let options = node.config.now();
    let limits = &Limits::new(&stop);
    Run { node, job, to, store: &store, generation, options: &options, limits, freeze }.run()
}

const NO_MASTER: &str = "this node is no master any more, or its database is another one";

fn master(engine: &Engine, generation: Option<u64>) -> Option<&Store> {
    let is_same = generation.is_none_or(|generation| engine.generation == generation);
    engine.store.as_ref().filter(|_| engine.role.is_master() && is_same)
}

/// A migration. It keeps the options of its start, except for the size and rate of batches: those
/// are read anew for each batch.
struct Run<'n> {
    node: &'n Arc<Node>,
    job: &'n Job,
    to: &'n Endpoint,
    store: &'n Store,
    generation: u64,
    options: &'n Values,
    limits: &'n Limits<'n>,
    /// See [`FREEZE`].
    freeze: Duration,
}

impl<'n> Run<'n> {
    fn run(&self) -> Result<(), Failed> {
        let mut link = self.connect()?;
        self.import(&mut link, b"0")?;
        match self.send_all(&mut link).and_then(|()| self.may_ask()) {
            Ok(()) => {}
            Err(failed) => {
                // If the connection still holds, the target is told why nothing more comes.
                if !matches!(failed, Failed::Broken { .. }) {
                    self.give_up(&mut link);
                }
                return Err(failed);
            }
        }
        let answer = match self.import(&mut link, b"1") {
            Ok(()) => Ok(Ok(())),
            Err(Failed::Refused { said, .. }) => Ok(Err(said)),
            Err(other) => Err(other.to_string()),
        };
        match stage::answered(answer) {
            Verdict::Theirs => Ok(()),
            Verdict::Ours(why) => {
                self.limits.note_asked(false);
                self.give_up(&mut link);
                Err(Failed::Unreadable(why))
            }
            Verdict::Unknown => {
                drop(link);
                self.find_out()
            }
        }
    }

    /// Whether the target may be asked to take over. From here on a topology decides, and ends
    /// nothing.
    fn may_ask(&self) -> Result<(), Failed> {
        let stopped = self.limits.why().map_or(Ok(()), Err);
        stopped.and_then(|()| self.job.ask()).map_err(Failed::Stopped)?;
        self.limits.note_asked(true);
        Ok(())
    }

    fn connect(&self) -> Result<Link<'n>, Failed> {
        let mut link = Link::open(self.to, self.limits)?;
        let config = self.node.config.now();
        let own = Some(config.requirepass.as_str()).filter(|secret| !secret.is_empty());
        link.greet(config.link_secret().or(own))?;
        Ok(link)
    }

    fn import(&self, link: &mut Link<'_>, state: &[u8]) -> Result<(), Failed> {
        let range = self.job.range.to_string();
        link.ask("cluster import", &[b"cluster", b"import", range.as_bytes(), state]).map(|_| ())
    }

    /// Lets the target delete what has come. If it does not hear of it, it sees the connection end.
    fn give_up(&self, link: &mut Link<'_>) {
        if let Err(error) = self.import(link, b"2") {
            tracing::info!(%error, "the target was not told that the slots do not come");
        }
    }

    /// Asks until it is known whose the slots are.
    #[expect(clippy::disallowed_methods, reason = "a thread for one migration serves nobody else")]
    fn find_out(&self) -> Result<(), Failed> {
        tracing::warn!(
            range = %self.job.range,
            target = %self.job.to,
            "the answer to the handover was lost: nobody may write these slots until the target says whether it has them, or a new topology says whose they are"
        );
        loop {
            let verdict = match self.job.decided() {
                Some(are_theirs) => stage::decided(are_theirs),
                None => self.look(),
            };
            match verdict {
                Verdict::Theirs => return Ok(()),
                Verdict::Ours(why) => return Err(Failed::Unreadable(why)),
                Verdict::Unknown => {}
            }
            if let Some(why) = self.limits.why() {
                return Err(Failed::Stopped(why));
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }

    fn look(&self) -> Verdict {
        let said =
            self.connect().and_then(|mut link| link.ask("cluster info", &[b"cluster", b"info"]));
        match said.as_ref().map(Value::as_str) {
            Ok(Some(info)) => stage::told(info, self.job.range),
            _ => Verdict::Unknown,
        }
    }

    fn send_all(&self, link: &mut Link<'_>) -> Result<(), Failed> {
        let is_raw = match self.options.migrate_type {
            MigrateType::RedisCommand => false,
            MigrateType::RawKeyValue => takes_batches(link)?,
        };
        self.store.publish()?;
        // What is written while keys are read stays in memory for it.
        let feed = self.store.feed();
        let begin = self.store.snapshot();
        match is_raw {
            true => self.send_records(link, feed, begin),
            false => self.send_commands(link, feed, begin),
        }
    }

    fn send_records(
        &self,
        link: &mut Link<'_>,
        mut feed: FeedReader,
        begin: Snapshot<'_>,
    ) -> Result<(), Failed> {
        let size = || kib(self.node.config.now().migrate_batch_size_kb);
        let mut batches = Batches::new(size());
        let mut rate = Rate::default();
        let mut sink = |batch: &[u8]| rate.send(link, batch, &self.node.config.now());
        let done = begin.sequence();
        for_each_key::<Failed>(&begin, self.job.range, |key| {
            batches.set_max_bytes(size());
            batches.add_key(&begin, key, &mut sink)
        })?;
        drop(begin);
        batches.flush(&mut sink)?;
        self.replay(done, |done, through| {
            self.read_log(&mut feed, (done, through), |batch| {
                batches.add_log(&batch.data, self.job.range).map_err(refused)?;
                batches.pass_on(&mut sink)
            })?;
            batches.flush(&mut sink)?;
            Ok(through)
        })
    }

    fn send_commands(
        &self,
        link: &mut Link<'_>,
        mut feed: FeedReader,
        begin: Snapshot<'_>,
    ) -> Result<(), Failed> {
        let mut out = Pipeline::new(link, self.options);
        let sent = for_each_key::<Halt>(&begin, self.job.range, |key| {
            commands::whole(&begin, key, clock::unix_ms(), &mut out)
        });
        settled(sent, &mut out)?;
        let done = begin.sequence();
        let mut old = begin;
        self.replay(done, |done, _| {
            let new = self.store.snapshot();
            self.store.publish()?;
            let (mut dirty, mut sent) = (Dirty::default(), Sent::default());
            let through = new.sequence();
            self.read_log(&mut feed, (done, through), |batch| {
                dirty.note(&batch.data, self.job.range).map_err(refused)?;
                if dirty.is_full() {
                    let part = (std::mem::take(&mut dirty), &mut sent);
                    let done = commands::changes((&old, &new), part, clock::unix_ms, &mut out);
                    settled(done, &mut out)?;
                }
                Ok(())
            })?;
            let rest = (dirty, &mut sent);
            let done = commands::changes((&old, &new), rest, clock::unix_ms, &mut out);
            settled(done, &mut out)?;
            old = new;
            Ok(through)
        })
    }

    /// Replays the log behind `done` by `round`, which gets from where and how far it is to go at
    /// least, and says how far it went; stops writes when little is left, and replays the rest.
    fn replay(
        &self,
        mut done: u64,
        mut round: impl FnMut(u64, u64) -> Result<u64, Failed>,
    ) -> Result<(), Failed> {
        let mut replay = Replay::default();
        let gap = u64::from(self.options.migrate_sequence_gap);
        while let Next::Through(through) = replay.next(done, self.store.publish()?, gap) {
            done = round(done, through)?;
        }
        self.freeze()?;
        let rest = self.store.publish()?;
        round(done, rest).map(|_| ())
    }

    /// Stops writes of the slots: those that ran have ended, and lie in the log.
    fn freeze(&self) -> Result<(), Failed> {
        let _one_at_a_time = self.node.changing.blocking_lock();
        marks::update(self.node, |engine, cluster, marks| {
            if master(engine, Some(self.generation)).is_none() {
                return Err(Failed::Stopped(NO_MASTER));
            }
            if let Some(why) = self.job.stopped() {
                return Err(Failed::Stopped(why));
            }
            if !super::checks::are_mine(cluster, self.job.range) {
                return Err(Failed::Stopped("the slots are another node's"));
            }
            self.node.migration.forbid(self.job.range);
            marks.write_forbidden = Some(self.job.range);
            self.limits.freeze(self.freeze);
            Ok(())
        })
    }

    /// Calls `each` with the batches of the log behind the first sequence, up to the second.
    fn read_log(
        &self,
        feed: &mut FeedReader,
        (after, through): (u64, u64),
        mut each: impl FnMut(&FeedBatch) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let mut next = after.saturating_add(1);
        while next <= through {
            if let Some(why) = self.limits.why() {
                return Err(Failed::Stopped(why));
            }
            match feed.read(next, LOG_BYTES)? {
                FeedRead::Batches(batches) => {
                    for batch in batches.iter().take_while(|batch| batch.sequence <= through) {
                        each(batch)?;
                        next = batch.end();
                    }
                }
                FeedRead::UpToDate => drop(self.store.publish()?),
                FeedRead::Gone => {
                    return Err(Failed::Unreadable(
                        "the log does not reach back to where the migration began: it took longer than the log is kept".into(),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn kib(kib: u32) -> usize {
    usize::try_from(u64::from(kib) << 10).unwrap_or(usize::MAX)
}

/// Whether the target knows APPLYBATCH.
fn takes_batches(link: &mut Link<'_>) -> Result<bool, Failed> {
    let known = link.ask("command info", &[b"command", b"info", b"applybatch"])?;
    let takes =
        matches!(&known, Value::Array(rows) if matches!(rows.first(), Some(Value::Array(_))));
    if !takes {
        tracing::info!("the target takes no batches: slots are migrated as redis-command");
    }
    Ok(takes)
}

fn refused(refusal: Refusal) -> Failed {
    Failed::Unreadable(refusal.to_string())
}

/// What was collected is sent, and all of it answered.
fn settled(result: Result<(), Halt>, out: &mut Pipeline<'_, '_>) -> Result<(), Failed> {
    match result {
        Ok(()) => out.flush(),
        // It says why.
        Err(Halt::Closed) => out.flush().and(Err(Failed::Stopped("the target takes nothing more"))),
        Err(Halt::Storage(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
