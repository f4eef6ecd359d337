//! Scripts: the threads that run them, which of them run now, and the texts that EVAL brought.
//!
//! A script may run as long as it likes, so one that is not over at once runs on a thread of its
//! own and holds up neither the connections of a worker nor a change of role. Threads are made when
//! all others have work, up to a bound; each has its own Lua state. Those of scripts that are over
//! at once, on their workers, are not known here.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use script::{Control, Stop};
use storage::DEFAULT_NAMESPACE;

/// Most threads that run scripts.
pub const THREADS_MAX: usize = 8;
/// Of the stack of a thread that runs scripts: conversions of deeply nested values recurse.
pub const STACK_BYTES: usize = 16 << 20;
/// How long others may be held up by a script unknowingly.
pub const SLICE: Duration = Duration::from_millis(5);
/// Texts of EVAL that are kept, and their bytes; the oldest go first.
const TEXTS_MAX: usize = 10_000;
const TEXT_BYTES_MAX: usize = 64 << 20;

/// What a thread is given to do; its argument is the number of the thread.
pub type Job = Box<dyn FnOnce(usize) + Send>;

/// A script that runs.
#[derive(Debug)]
pub struct Running {
    /// How it is stopped.
    pub control: Arc<Control>,
    /// Its hash, or the name of the function.
    pub name: String,
    /// The command that runs it.
    pub words: Vec<Vec<u8>>,
    /// FCALL, not EVAL.
    pub is_function: bool,
    /// Whose keys it sees.
    namespace: Arc<[u8]>,
    /// When it began.
    pub since: Instant,
    is_slow: AtomicBool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    is_over: bool,
}

#[derive(Default)]
struct Pool {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Texts {
    by_hash: HashMap<String, Arc<[u8]>>,
    order: VecDeque<String>,
    bytes: usize,
    /// How many were ever kept.
    count: u64,
}

/// See the module.
#[derive(Default)]
pub struct Scripts {
    pool: Arc<Pool>,
    running: Mutex<Vec<Arc<Running>>>,
    count: AtomicUsize,
    slow: AtomicUsize,
    waiting: AtomicUsize,
    texts: Mutex<Texts>,
    lua_bytes: AtomicI64,
}

impl Scripts {
    /// Gives a job to a thread.
    ///
    /// # Errors
    /// If no thread can be made, and there is none.
    pub fn run(&self, job: Job) -> std::io::Result<()> {
        let mut queue = self.pool.queue.lock();
        let needs_thread = queue.idle <= queue.jobs.len() && queue.threads < THREADS_MAX;
        if needs_thread {
            let (pool, number) = (Arc::clone(&self.pool), queue.threads);
            let thread = std::thread::Builder::new()
                .name(format!("script-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || pool.work(number));
            match thread {
                Ok(_) => queue.threads += 1,
                Err(error) if queue.threads == 0 => return Err(error),
                Err(error) => tracing::warn!(%error, "cannot make another thread for scripts"),
            }
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.pool.more.notify_one();
        Ok(())
    }

    /// A script begins; it has ended when the guard is gone.
    pub fn begin(&self, running: Running) -> Guard<'_> {
        let running = Arc::new(running);
        self.running.lock().push(Arc::clone(&running));
        self.count.fetch_add(1, Ordering::SeqCst);
        Guard { scripts: self, running }
    }

    /// A command aside waits, with locks in its hands, for what others have to do: until the guard
    /// is gone.
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Whether any is there that may hold locks for long.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0 || self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Whether one is there that has used up its slice, or waits.
    pub fn any_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed) > 0 || self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The one that has run longest, of those of a namespace if one is named.
    pub fn oldest(
        &self,
        is_function: Option<bool>,
        namespace: Option<&[u8]>,
    ) -> Option<Arc<Running>> {
        let running = self.running.lock();
        let mut fitting = running
            .iter()
            .filter(|running| is_function.is_none_or(|wanted| running.is_function == wanted))
            .filter(|running| running.is_of(namespace));
        fitting.next().map(Arc::clone)
    }

    /// What is answered to a command that a script holds up, once that has run for `threshold`.
    pub fn busy(&self, threshold: Duration) -> Option<&'static str> {
        let oldest = self.oldest(None, None)?;
        if threshold.is_zero() || oldest.since.elapsed() < threshold {
            return None;
        }
        Some(match oldest.is_function {
            true => {
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
            }
            false => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
            }
        })
    }

    /// Stops all scripts, or functions, that have written nothing; those of a namespace if one is
    /// named.
    ///
    /// # Errors
    /// What is to be answered if there is none.
    pub fn kill(&self, is_function: bool, namespace: Option<&[u8]>) -> Result<(), &'static str> {
        let all = self.running.lock();
        let mut fitting: Vec<_> = all.iter().filter(|running| running.is_of(namespace)).collect();
        if fitting.is_empty() {
            return Err("NOTBUSY No scripts in execution right now.");
        }
        fitting.retain(|running| running.is_function == is_function);
        if fitting.is_empty() {
            return Err(match is_function {
                true => {
                    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
                }
                false => {
                    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
                }
            });
        }
        fitting.retain(|running| !running.control.has_written());
        if fitting.is_empty() {
            return Err(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
            );
        }
        for running in fitting {
            running.control.stop(Stop::Killed);
        }
        Ok(())
    }

    /// Keeps the text of a script.
    pub fn remember(&self, hash: &str, text: &[u8]) {
        let mut texts = self.texts.lock();
        if texts.by_hash.contains_key(hash) {
            return;
        }
        texts.bytes += text.len();
        texts.by_hash.insert(hash.to_owned(), text.into());
        texts.order.push_back(hash.to_owned());
        texts.count += 1;
        while texts.order.len() > TEXTS_MAX || texts.bytes > TEXT_BYTES_MAX {
            let Some(oldest) = texts.order.pop_front() else { break };
            let gone = texts.by_hash.remove(&oldest).map_or(0, |text| text.len());
            texts.bytes -= gone;
        }
    }

    /// The text with that hash.
    pub fn text(&self, hash: &str) -> Option<Arc<[u8]>> {
        self.texts.lock().by_hash.get(hash).cloned()
    }

    /// How many were ever kept, and of those behind the first `seen` the ones that still are.
    pub fn since(&self, seen: u64) -> (u64, Vec<Arc<[u8]>>) {
        let texts = self.texts.lock();
        let new = usize::try_from(texts.count.saturating_sub(seen)).unwrap_or(usize::MAX);
        let from = texts.order.len().saturating_sub(new);
        let texts_of =
            texts.order.range(from..).filter_map(|hash| texts.by_hash.get(hash).cloned());
        (texts.count, texts_of.collect())
    }

    /// Forgets all of them.
    pub fn forget(&self) {
        let mut texts = self.texts.lock();
        *texts = Texts { count: texts.count, ..Texts::default() };
    }

    /// How many there are, and their bytes.
    pub fn texts(&self) -> (usize, usize) {
        let texts = self.texts.lock();
        (texts.order.len(), texts.bytes)
    }

    /// A Lua state uses so much more.
    pub fn note_lua_bytes(&self, more: i64) {
        self.lua_bytes.fetch_add(more, Ordering::Relaxed);
    }

    /// What all Lua states use.
    pub fn lua_bytes(&self) -> u64 {
        u64::try_from(self.lua_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        self.pool.queue.lock().is_over = true;
        self.pool.more.notify_all();
    }
}

impl Pool {
    fn work(&self, number: usize) {
        loop {
            let mut queue = self.queue.lock();
            let job = loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.is_over {
                    return;
                }
                queue.idle += 1;
                self.more.wait(&mut queue);
                queue.idle -= 1;
            };
            drop(queue);
            // The client is told by what the job drops. The thread goes on: it is counted, and no
            // other would be made in its place.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(number))) {
                tracing::error!(panic = said(&*panic), "a script ended by a fault of its engine");
            }
        }
    }
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

/// See [`Scripts::wait`].
pub struct Waiting<'s>(&'s Scripts);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// See [`Scripts::begin`].
pub struct Guard<'s> {
    scripts: &'s Scripts,
    /// What runs.
    pub running: Arc<Running>,
}

impl Guard<'_> {
    /// To be called from time to time: a script that has used up its slice is slow.
    pub fn look(scripts: &Scripts, running: &Running) {
        if running.since.elapsed() > SLICE && !running.is_slow.swap(true, Ordering::Relaxed) {
            scripts.slow.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Running {
    /// A script that begins now, in the default namespace.
    pub fn new(name: String, words: Vec<Vec<u8>>, is_function: bool) -> Self {
        Self {
            control: Arc::default(),
            name,
            words,
            is_function,
            namespace: DEFAULT_NAMESPACE.into(),
            since: Instant::now(),
            is_slow: AtomicBool::new(false),
        }
    }

    /// The same in this one.
    #[must_use]
    pub fn within(self, namespace: Arc<[u8]>) -> Self {
        Self { namespace, ..self }
    }

    fn is_of(&self, namespace: Option<&[u8]>) -> bool {
        namespace.is_none_or(|namespace| *namespace == *self.namespace)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let scripts = self.scripts;
        scripts.running.lock().retain(|running| !Arc::ptr_eq(running, &self.running));
        scripts.count.fetch_sub(1, Ordering::SeqCst);
        if self.running.is_slow.load(Ordering::Relaxed) {
            scripts.slow.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(is_function: bool) -> Running {
        Running::new("f".into(), Vec::new(), is_function)
    }

    #[test]
    fn what_has_written_is_not_killed() {
        let scripts = Scripts::default();
        assert!(scripts.kill(false, None).is_err_and(|text| text.starts_with("NOTBUSY")));
        let first = scripts.begin(running(false));
        assert!(scripts.kill(true, None).is_err_and(|text| text.starts_with("BUSY")));
        first.running.control.note_write();
        assert!(scripts.kill(false, None).is_err_and(|text| text.starts_with("UNKILLABLE")));
        let second = scripts.begin(running(false));
        assert_eq!(scripts.kill(false, None), Ok(()));
        assert_eq!(first.running.control.stopped(), None);
        assert_eq!(second.running.control.stopped(), Some(Stop::Killed));
        drop((first, second));
        assert!(!scripts.any());
    }

    #[test]
    fn texts_are_bounded_and_the_oldest_goes_first() {
        let scripts = Scripts::default();
        for at in 0..=TEXTS_MAX {
            scripts.remember(&at.to_string(), b"ab");
        }
        assert_eq!(scripts.texts(), (TEXTS_MAX, 2 * TEXTS_MAX));
        assert!(scripts.text("0").is_none() && scripts.text("1").is_some());
        let ever = TEXTS_MAX as u64 + 1;
        let since = |seen| {
            let (count, texts) = scripts.since(seen);
            (count, texts.len())
        };
        assert_eq!(
            (since(0), since(ever - 2), since(ever)),
            ((ever, TEXTS_MAX), (ever, 2), (ever, 0))
        );
        scripts.forget();
        assert_eq!(scripts.texts(), (0, 0));
        assert_eq!(since(0), (ever, 0));
        scripts.remember("new", b"new");
        assert_eq!(scripts.since(ever), (ever + 1, vec![Arc::from(&b"new"[..])]));
    }

    #[test]
    fn jobs_run_at_once_while_there_are_threads() {
        let scripts = Scripts::default();
        let (tell, told) = std::sync::mpsc::channel();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        for _ in 0..3 {
            let (tell, barrier) = (tell.clone(), Arc::clone(&barrier));
            // None of them ends before all of them have begun.
            let job = Box::new(move |number| {
                barrier.wait();
                tell.send(number).unwrap();
            });
            scripts.run(job).unwrap();
        }
        let mut numbers: Vec<usize> = told.iter().take(3).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2]);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let scripts = Scripts::default();
        let (tell, told) = std::sync::mpsc::channel();
        for _ in 0..2 * THREADS_MAX {
            let tell = tell.clone();
            let job = move |_: usize| {
                let _dropped = tell;
                panic!("on purpose");
            };
            scripts.run(Box::new(job)).unwrap();
        }
        scripts.run(Box::new(move |number| tell.send(number).unwrap())).unwrap();
        let number = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(number < THREADS_MAX);
        // All of them have ended, and each told its waiter.
        let all_gone = Err(std::sync::mpsc::RecvTimeoutError::Disconnected);
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), all_gone);
        assert!(scripts.pool.queue.lock().threads <= THREADS_MAX);
    }
}
