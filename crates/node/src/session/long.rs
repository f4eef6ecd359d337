//! Reads that take more steps than their worker has for them.
//!
//! Such a read is ended on its worker (`storage::budget`) and run anew, from its first step, by a
//! thread that serves no client. Its connection waits for the answer, and the worker's other
//! connections go on. E.g. SMEMBERS of ten million members takes some milliseconds of the worker,
//! and then seconds of a thread of its own.
//!
//! Invariants:
//!
//! * It holds neither the write gate nor a lock, so nothing waits for these.
//! * It ends soon after a change of role or database, after its client is gone, and at shutdown, so
//!   nothing waits long for the database that it holds open.
//! * Its answer passes the same checks as any other before it leaves (`Ran::finish_later`).
//!
//! Inside EXEC such a read is put aside: what it would have seen is kept as a [`Moment`], the
//! transaction goes on and is committed, and the gap in its reply is filled afterwards.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use resp::{Protocol, Room, Writer};
use storage::budget::{self, Budget};
use storage::{Moment, Store, Txn};
use topology::{RouteRequest, key_slot};

use super::gates::Seen;
use super::outcome::{Done, LongRead, Tells};
use super::table::{Handler, Taken};
use super::{Command, ReadCx, Session, scope_in};
use crate::command::texts::LOADING;
use crate::command::{Args, Error, Flags, Reply, Result, Words};
use crate::config::Values;
use crate::long_reads::Seat;
use crate::memory::parts;
use crate::node::Node;
use crate::perflog::Sampling;
use crate::slowlog;

/// For how long a read may keep its worker, whatever its steps.
const TIME: Duration = Duration::from_millis(8);
/// Steps between two looks at whether a read is still wanted.
const STEPS_OF_A_LOOK: u64 = 1024;
/// Time between two such looks while it waits for a seat.
const LOOK: Duration = Duration::from_millis(20);
/// What a client is told whose read was ended by a change of role or database.
const CHANGED: &str = "the role or the data of this node changed while the command ran: try again";

/// The reply is larger than the memory that a read may use.
pub(super) fn too_much(share: usize) -> Error {
    Error::err(format_args!(
        "the reply needs more than the {share} bytes that long-read-memory leaves it"
    ))
}

/// What a read may take of its worker.
pub(super) fn budget(config: &Values) -> Budget {
    // What is found on a worker is bounded by its steps.
    let steps = parts::steps(config.maxmemory.0, config.long_read_steps.into());
    Budget { steps, time: TIME }
}

/// A read that is to be run by another thread.
pub(super) struct Job {
    pub(super) node: Arc<Node>,
    pub(super) config: Arc<Values>,
    pub(super) command: &'static Command,
    pub(super) words: Vec<Vec<u8>>,
    pub(super) namespace: Arc<[u8]>,
    pub(super) protocol: Protocol,
    pub(super) now_ms: u64,
    /// Generation of the write gate when the gates were passed.
    pub(super) generation: u64,
    /// What it sees; `None`: the database as it is then.
    pub(super) moment: Option<Arc<Moment>>,
    /// Address and name of the client.
    pub(super) client: (String, String),
    /// How its slots are looked up.
    pub(super) request: RouteRequest,
}

/// A reply with gaps, which reads fill.
pub(super) struct Gaps {
    pub(super) reply: Vec<u8>,
    /// The reads, each with its place in the reply, in order.
    pub(super) jobs: Vec<(usize, Job)>,
}

/// What a read takes that is put aside, beside its words, bytes.
const JOB_BYTES: usize = 1 << 10;

/// The reads of a transaction that are put aside.
pub(super) struct Aside {
    pub(super) jobs: Vec<(usize, Job)>,
    /// What is left for the reads of the transaction together.
    left: Duration,
    /// What the last of them is to see, and how many bytes had been written by then.
    seen: Option<(usize, Arc<Moment>)>,
    /// What they keep until they are read, bytes.
    kept: usize,
}

impl Aside {
    pub(super) fn new() -> Self {
        Self { jobs: Vec::new(), left: 2 * TIME, seen: None, kept: 0 }
    }

    /// What is seen now. What is read is locked until the last command has run, so reads with no
    /// write between them see the same.
    fn moment(&mut self, txn: &Txn<'_>) -> Arc<Moment> {
        let written = txn.size_bytes();
        if let Some((bytes, moment)) = &self.seen
            && *bytes == written
        {
            return Arc::clone(moment);
        }
        let moment = Arc::new(txn.moment());
        self.seen = Some((written, Arc::clone(&moment)));
        moment
    }

    /// Puts a read aside that is to see `fixed`, or else what is seen now; its gap is at `at`. What
    /// was written before it is copied if something is written behind it: a client that reads and
    /// writes in turn would have all of it copied each time.
    ///
    /// # Errors
    /// Together they would keep more than `room` bytes.
    pub(super) fn put(
        &mut self,
        (at, job): (usize, Job),
        txn: &Txn<'_>,
        fixed: Option<&Arc<Moment>>,
        room: usize,
    ) -> Result<()> {
        let written = txn.size_bytes();
        let copied = match &self.seen {
            Some((bytes, _)) if *bytes == written => 0,
            _ => written,
        };
        let words: usize = job.words.iter().map(|word| word.len() + size_of::<Vec<u8>>()).sum();
        let kept = self.kept.saturating_add(JOB_BYTES + words).saturating_add(copied);
        if kept > room {
            return Err(too_much(room));
        }
        self.kept = kept;
        let moment = match fixed {
            Some(moment) => Arc::clone(moment),
            None => self.moment(txn),
        };
        self.jobs.push((at, Job { moment: Some(moment), ..job }));
        Ok(())
    }

    /// Runs a read within what is left; `None` if it is to be put aside.
    pub(super) fn within<T>(&mut self, config: &Values, read: impl FnOnce() -> T) -> Option<T> {
        let (started, all) = (Instant::now(), budget(config));
        let done = budget::within(Budget { time: all.time.min(self.left), ..all }, read);
        self.left = self.left.saturating_sub(started.elapsed());
        done
    }
}

/// Held by the connection that waits; once it is dropped, no connection waits for the read.
#[derive(Debug, Default)]
struct Wish(Arc<AtomicBool>);

impl Drop for Wish {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The answer of one read.
pub(super) fn answer(job: Job) -> LongRead {
    let waits = matches!(job.command.handler, Handler::BlockingRead(..));
    let again = waits.then(|| job.words.clone());
    // As where it is over at once: CLUSTER COUNTKEYSINSLOT is answered without a lease, too.
    let tells = if job.command.is_data() { Tells::Read } else { Tells::Nothing };
    let gaps = Gaps { reply: Vec::new(), jobs: vec![(0, job)] };
    LongRead { is_repeatable: true, again, ..filling(gaps, tells) }
}

/// The answer of a transaction that has run but for some reads.
pub(super) fn filling(gaps: Gaps, tells: Tells) -> LongRead {
    let answer = Box::pin(fill(gaps));
    LongRead { answer, tells, is_repeatable: false, closes: false, again: None }
}

async fn fill(gaps: Gaps) -> Done {
    let wish = Wish::default();
    let Some(node) = gaps.jobs.first().map(|(_, job)| Arc::clone(&job.node)) else {
        return Done { bytes: gaps.reply, hold: None, is_nothing: false };
    };
    let (mut gaps, mut seat) = (gaps, std::pin::pin!(node.long_reads.seat()));
    let seat = loop {
        tokio::select! {
            seat = &mut seat => break seat,
            () = tokio::time::sleep(LOOK) => {}
        }
        // One that waits must not keep the database open either.
        if gaps.jobs.iter().any(|(_, job)| !job.is_current()) {
            gaps.jobs.iter_mut().for_each(|(_, job)| job.moment = None);
            break None;
        }
    };
    let given_up = Arc::clone(&wish.0);
    let share = node.long_reads.share_bytes();
    let run = move || {
        let (bytes, is_nothing) = gaps.fill(&given_up, seat.as_ref().map(|_| share));
        let hold = seat.map(|seat: Seat| seat.leave(bytes.len()));
        Done { bytes, hold, is_nothing }
    };
    let done = tokio::task::spawn_blocking(run).await;
    drop(wish);
    // A thread that panicked: the connection is worth no more than the thread was.
    done.unwrap_or_else(|_| {
        let bytes = b"-ERR the command failed\r\n".to_vec();
        Done { bytes, hold: None, is_nothing: false }
    })
}

impl Gaps {
    /// The whole reply, and whether a read has found nothing that could be one and is to wait; with
    /// no share of memory nothing is read, and the gaps are errors.
    fn fill(self, given_up: &Arc<AtomicBool>, share: Option<usize>) -> (Vec<u8>, bool) {
        let (mut out, mut begin, mut is_nothing) = (Vec::new(), 0, false);
        for (at, job) in &self.jobs {
            out.extend_from_slice(self.reply.get(begin..*at).unwrap_or_default());
            begin = *at;
            let (mark, started) = (out.len(), Instant::now());
            let done = match share {
                Some(share) => job.run_sampled(given_up, share, &mut out),
                None => Err(Error::err(CHANGED)),
            };
            match done {
                Ok(is_answered) => is_nothing |= !is_answered,
                Err(error) => {
                    out.truncate(mark);
                    error.log(job.command.name);
                    let text = error.to_string();
                    // What nobody waits for any more is answered to nobody.
                    if !given_up.load(Ordering::Relaxed) {
                        job.node.stats.errors.note(text.as_bytes());
                    }
                    Writer::new(&mut out, job.protocol).error(&text);
                }
            }
            job.note_if_slow(started.elapsed());
        }
        out.extend_from_slice(self.reply.get(begin..).unwrap_or_default());
        (out, is_nothing)
    }
}

impl Job {
    pub(super) fn new(
        (node, config): (&Arc<Node>, &Arc<Values>),
        session: &Session,
        (command, words): (&'static Command, &[&[u8]]),
        (now_ms, generation): (u64, u64),
    ) -> Self {
        Self {
            node: Arc::clone(node),
            config: Arc::clone(config),
            command,
            words: words.iter().map(|word| word.to_vec()).collect(),
            namespace: Arc::clone(&session.namespace),
            protocol: session.protocol,
            now_ms,
            generation,
            moment: None,
            client: (session.client.address.to_string(), session.client.names.lock().name.clone()),
            request: RouteRequest {
                is_write: false,
                readonly: session.is_readonly,
                // It may have passed as one that asks.
                asking: true,
                asker: session.asker(config),
            },
        }
    }

    /// Whether role and database are the same as when the command came. A gate that is held alone
    /// now is looked at next time: this thread must not wait for it with the database open.
    fn is_current(&self) -> bool {
        self.node.gate.try_read().is_none_or(|engine| engine.generation == self.generation)
    }

    /// As [`Self::run`]; its sample for PERFLOG is this try's, which is the one that reads to its
    /// end.
    fn run_sampled(
        &self,
        given_up: &Arc<AtomicBool>,
        share: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let sampling = Sampling::begin(&self.config, self.command);
        let done = self.run(given_up, share, out);
        if let Some(sampling) = sampling {
            self.node.perflog.note(sampling, &self.config);
        }
        done
    }

    /// False if it found nothing to answer and is one that waits then.
    fn run(&self, given_up: &Arc<AtomicBool>, share: usize, out: &mut Vec<u8>) -> Result<bool> {
        let store;
        let txn = match &self.moment {
            Some(moment) => moment.txn(),
            None => {
                let engine = self.node.engine();
                if engine.generation != self.generation {
                    return Err(Error::err(CHANGED));
                }
                store = engine.store.clone().ok_or_else(|| Error::text(LOADING))?;
                store.txn()
            }
        };
        let seen = Seen::now(txn.store());
        let cx = ReadCx {
            txn: &txn,
            serves: None,
            scope: scope_in(&self.namespace, &self.config, self.now_ms),
            node: &self.node,
            config: &self.config,
            // Counters of a worker are added to by its own thread only.
            worker: usize::MAX,
        };
        let room = Rc::new(Room::new(share));
        let is_too_much = Rc::new(Cell::new(false));
        let shutdown = self.node.shutdown();
        let watcher = {
            let (room, is_too_much) = (Rc::clone(&room), Rc::clone(&is_too_much));
            let (given_up, node) = (Arc::clone(given_up), Arc::clone(&self.node));
            let generation = self.generation;
            move |gathered: usize| {
                is_too_much.set(gathered > share || room.is_over());
                let is_wanted = !given_up.load(Ordering::Relaxed) && !*shutdown.borrow();
                let is_current =
                    node.gate.try_read().is_none_or(|engine| engine.generation == generation);
                is_wanted && is_current && !is_too_much.get()
            }
        };
        let words: Words<'_> = self.words.iter().map(Vec::as_slice).collect();
        let read = || self.call(&cx, &words, &room, out);
        let done = budget::watched(STEPS_OF_A_LOOK, Box::new(watcher), read);
        if room.is_over() || is_too_much.get() {
            return Err(too_much(share));
        }
        let is_answered = done.unwrap_or_else(|| Err(Error::err(CHANGED)))?;
        self.has_found_all(&seen, txn.store(), &words)?;
        Ok(is_answered)
    }

    /// Whether the data of its slots was here to the end: it holds no gate, so what was given away
    /// may have been deleted while it waited or read. What a moment shows stays.
    fn has_found_all(&self, seen: &Seen, store: &Store, words: &[&[u8]]) -> Result<()> {
        if self.moment.is_some() || !self.config.cluster_enabled {
            return Ok(());
        }
        let slots = self.command.keys_in(words).map(key_slot);
        seen.are_still_here(&self.node, store, slots, self.request)
    }

    fn call(
        &self,
        cx: &ReadCx<'_>,
        words: &[&[u8]],
        room: &Room,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let mut args = Args::behind(self.command.names, words);
        let reply = Reply::new(Writer::new(out, self.protocol).within(Some(room)));
        match self.command.handler {
            Handler::Read(handler) => handler(cx, &mut args, reply).map(|_| true),
            Handler::BlockingRead(handler, _) => match handler(cx, &mut args, reply)? {
                Taken::Replied(_) => Ok(true),
                // Inside EXEC nothing waits.
                Taken::Nothing(wait) if self.moment.is_some() => {
                    wait.nil.write(&mut Writer::new(out, self.protocol));
                    Ok(true)
                }
                Taken::Nothing(_) => Ok(false),
            },
            _ => Err(Error::Syntax),
        }
    }

    /// Notes it as slow if it was: the worker that began it could not know how long it would take.
    fn note_if_slow(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (threshold_ms, at) = (self.config.latency_monitor_threshold, self.now_ms / 1000);
        let is_fast = self.command.flags.has(Flags::FAST);
        self.node.latency.note_command(is_fast, micros, threshold_ms, at);
        if !slowlog::is_slow(&self.config, self.command.flags, micros) {
            return;
        }
        let words: Words<'_> = self.words.iter().map(Vec::as_slice).collect();
        let words = slowlog::shorten(self.command.first_word(), &words);
        let (client, name) = self.client.clone();
        let entry = slowlog::Entry { id: 0, at, micros, words, client, name };
        self.node.slowlog.add(entry, &self.config);
    }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;
    use crate::shell::{Shell, session};

    /// A read that came just now.
    fn job(shell: &Shell, words: &[&[u8]]) -> Job {
        let node = shell.node();
        let config = node.config.now();
        let (_, command) = table::find(&config.renames, words).unwrap();
        Job::new((&node, &config), &session(&node), (command, words), (shell.now_ms(), 0))
    }

    #[test]
    fn what_tells_of_no_data_does_so_wherever_it_is_read() {
        let shell = Shell::new();
        let slot: [&[u8]; 3] = [b"CLUSTER", b"COUNTKEYSINSLOT", b"1"];
        assert_eq!(answer(job(&shell, &slot)).tells, Tells::Nothing);
        assert_eq!(answer(job(&shell, &[b"SMEMBERS", b"s"])).tells, Tells::Read);
    }

    #[test]
    fn an_error_that_nobody_waits_for_does_not_count() {
        let (shell, errors) = (Shell::new(), |shell: &Shell| shell.node().stats.errors.total());
        for (has_gone, count) in [(true, 0), (false, 1)] {
            let jobs = vec![(0, job(&shell, &[b"SMEMBERS", b"s"]))];
            let gaps = Gaps { reply: Vec::new(), jobs };
            let (bytes, _) = gaps.fill(&Arc::new(AtomicBool::new(has_gone)), None);
            assert!(bytes.starts_with(b"-ERR "), "{}", bytes.escape_ascii());
            assert_eq!(errors(&shell), count, "{has_gone}");
        }
    }

    #[test]
    fn how_long_a_read_took_is_told_where_it_has_ended() {
        let shell = Shell::with(|values| values.latency_monitor_threshold = 5);
        let (node, now_ms) = (shell.node(), shell.now_ms());
        let job = job(&shell, &[b"SMEMBERS", b"s"]);
        job.note_if_slow(Duration::from_micros(4999));
        assert!(node.latency.all().is_empty());
        job.note_if_slow(Duration::from_millis(7));
        let series = node.latency.of(b"command").unwrap();
        let samples: Vec<_> = series.samples.iter().map(|sample| (sample.at, sample.ms)).collect();
        assert_eq!(samples, [(now_ms / 1000, 7)]);
    }
}
