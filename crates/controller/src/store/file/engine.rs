//! The open file, and what becomes of it after a failure.
//!
//! redb takes nothing more once a call to the disk has failed, and what a failed commit left behind
//! is known only when the file is opened anew. So a failure closes the file, and the next use opens
//! it: a disk that was full, or failed, for a moment costs that moment. Until then
//! [`Engine::trouble`] says so, as it does of a call that does not come back.
//!
//! Each process that opens the file makes a term of its own: a term that is not this process's ends
//! it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redb::{Database, ReadableDatabase as _};

use super::{META, Outcome, StoreError, engine, failed};

/// How to open the file.
pub(super) type Opener =
    Box<dyn Fn() -> Result<Database, redb::DatabaseError> + Send + Sync + 'static>;

/// A call that takes longer is told of.
const SLOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Open {
    /// `None` after a failure.
    database: Option<Database>,
    /// Rises with every opening: a failure closes only what failed.
    generation: u64,
}

#[derive(Debug, Default)]
struct Watch {
    /// Calls under way, and since when.
    calls: BTreeMap<u64, Instant>,
    /// Since when it has been failing, and the last reason.
    failed: Option<(Instant, String)>,
    /// When something was last written.
    written: Option<Instant>,
    /// Another process has led with this file.
    lost: Option<String>,
}

pub(super) struct Engine {
    opener: Opener,
    open: RwLock<Open>,
    watch: Mutex<Watch>,
    calls: AtomicU64,
    /// The term that this process wrote; 0 before it has.
    term: AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("open", &self.open).finish_non_exhaustive()
    }
}

/// Takes a call off the list, whatever way it ends.
struct Call<'a>(&'a Engine, u64);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.watch.lock().calls.remove(&self.1);
    }
}

impl Engine {
    pub(super) fn new(opener: Opener) -> Result<Self, redb::DatabaseError> {
        let database = Some(opener()?);
        Ok(Self {
            opener,
            open: RwLock::new(Open { database, generation: 0 }),
            watch: Mutex::new(Watch::default()),
            calls: AtomicU64::new(0),
            term: AtomicU64::new(0),
        })
    }

    /// From here on the file must have this term.
    pub(super) fn hold_term(&self, term: u64) {
        self.term.store(term, Ordering::Relaxed);
    }

    /// What keeps the store from its work now.
    pub(super) fn trouble(&self) -> Option<String> {
        let watch = self.watch.lock();
        if let Some(lost) = &watch.lost {
            return Some(lost.clone());
        }
        if let Some((since, why)) = &watch.failed {
            let seconds = since.elapsed().as_secs();
            return Some(format!("it has failed for {seconds} s: {why}"));
        }
        let oldest = watch.calls.values().min()?.elapsed();
        (oldest >= SLOW).then(|| {
            format!("its disk has taken nothing for {} s: does it hang?", oldest.as_secs())
        })
    }

    /// Another controller has led with the file: this process must end.
    pub(super) fn lost(&self) -> Option<String> {
        self.watch.lock().lost.clone()
    }

    /// Since when something was last written durably.
    pub(super) fn written_ago(&self) -> Option<Duration> {
        self.watch.lock().written.map(|at| at.elapsed())
    }

    /// For how long nothing was written, or tried.
    pub(super) fn idle(&self) -> Option<Duration> {
        let watch = self.watch.lock();
        match (watch.calls.is_empty(), watch.failed.is_some()) {
            (false, _) => None,
            (true, true) => Some(Duration::MAX),
            (true, false) => Some(watch.written.map_or(Duration::MAX, |at| at.elapsed())),
        }
    }

    pub(super) fn read<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _call = self.call();
        let generation = self.opened(what)?;
        let result = {
            let open = self.open.read();
            match &open.database {
                Some(database) => {
                    database.begin_read().map_err(engine(what)).and_then(|tx| work(&tx))
                }
                None => Err(closed(what)),
            }
        };
        self.judge(generation, result.as_ref().err());
        result
    }

    pub(super) fn write<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<T, StoreError>,
    ) -> Outcome<T> {
        let _call = self.call();
        let generation = match self.opened(what) {
            Ok(generation) => generation,
            Err(error) => return Outcome::NotDone(error),
        };
        let outcome = {
            let open = self.open.read();
            match &open.database {
                Some(database) => transact(database, what, work),
                None => Outcome::NotDone(closed(what)),
            }
        };
        match &outcome {
            Outcome::Done(_) => {
                let mut watch = self.watch.lock();
                watch.written = Some(Instant::now());
                watch.failed = None;
            }
            Outcome::NotDone(error) | Outcome::Unknown(error) => {
                self.judge(generation, Some(error));
            }
        }
        outcome
    }

    fn call(&self) -> Call<'_> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        self.watch.lock().calls.insert(number, Instant::now());
        Call(self, number)
    }

    /// Opens the file if a failure closed it.
    fn opened(&self, what: &'static str) -> Result<u64, StoreError> {
        {
            let open = self.open.read();
            if open.database.is_some() {
                return Ok(open.generation);
            }
        }
        let mut open = self.open.write();
        if open.database.is_none() {
            let database = self.reopen().inspect_err(|error| self.fails(error))?;
            open.database = Some(database);
            open.generation += 1;
            tracing::info!(what, "the store is open again");
        }
        Ok(open.generation)
    }

    fn reopen(&self) -> Result<Database, StoreError> {
        if let Some(lost) = self.lost() {
            return Err(StoreError::Lost(lost));
        }
        let database = (self.opener)().map_err(engine("open again"))?;
        let term = term_of(&database)?;
        let own = self.term.load(Ordering::Relaxed);
        if own != 0 && term != own {
            let lost = format!(
                "a controller of term {term} has opened it since this one of term {own}: this process ends"
            );
            self.watch.lock().lost = Some(lost.clone());
            return Err(StoreError::Lost(lost));
        }
        Ok(database)
    }

    /// Closes what failed: every later call to it would fail too, whatever the disk does by then.
    fn judge(&self, generation: u64, error: Option<&StoreError>) {
        let Some(error @ StoreError::Engine { .. }) = error else { return };
        self.fails(error);
        let mut open = self.open.write();
        if open.generation == generation && open.database.take().is_some() {
            tracing::error!(error = %error.chain(), "the store failed; its file is opened again at the next use");
        }
    }

    fn fails(&self, error: &StoreError) {
        let mut watch = self.watch.lock();
        let since = watch.failed.take().map_or_else(Instant::now, |(since, _)| since);
        watch.failed = Some((since, error.chain()));
    }
}

/// One transaction, from begin to commit.
pub(super) fn transact<T>(
    database: &Database,
    what: &'static str,
    work: impl FnOnce(&redb::WriteTransaction) -> Result<T, StoreError>,
) -> Outcome<T> {
    let transaction = match database.begin_write() {
        Ok(transaction) => transaction,
        Err(error) => return Outcome::NotDone(engine(what)(error)),
    };
    let value = match work(&transaction) {
        Ok(value) => value,
        // It ends without a commit.
        Err(error) => return Outcome::NotDone(error),
    };
    match transaction.commit() {
        Ok(()) => Outcome::Done(value),
        Err(error) => Outcome::Unknown(engine(what)(error)),
    }
}

fn term_of(database: &Database) -> Result<u64, StoreError> {
    let tx = database.begin_read().map_err(engine("read term"))?;
    let meta = tx.open_table(META).map_err(engine("read term"))?;
    let term = meta.get("term").map_err(engine("read term"))?;
    Ok(term.map_or(0, |term| term.value()))
}

fn closed(what: &'static str) -> StoreError {
    failed(what)("its file was closed by another failure")
}
