//! The family that is made when something is first put into it, and the handles of all of them.
//!
//! The binding makes families through a handle of the database that nobody shares. Here many
//! threads share it, so RocksDB is asked itself: it lets other writers wait for that.
//!
//! Invariant: RocksDB has the family on the disk (its MANIFEST) before the log has a record that
//! names it. So a restart always finds both, and a rewind, which touches no MANIFEST, leaves an
//! empty family at most. A checkpoint that was begun before may have such a record without the
//! family, and is made once more ([`Store::checkpoint`]).

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rocksdb::{AsColumnFamilyRef, AsRawPtr, ColumnFamily, DB, ffi_raw};

use super::waits::Step;
use crate::{Error, Family, Options, Store, engine};

const ACTION: &str = "make a column family";
/// What `native/family.cc` says of a family whose number is not the one that batches say.
const OTHER_NUMBER: &str = "the next family has another number";

type Raw = ffi_raw::rocksdb_column_family_handle_t;

#[expect(unsafe_code, reason = "functions of `native/family.cc`")]
unsafe extern "C" {
    fn holdfast_make_family(
        db: *mut ffi_raw::rocksdb_t,
        options: *const ffi_raw::rocksdb_options_t,
        name: *const c_char,
        id: u32,
        error: *mut *mut c_char,
    ) -> *mut Raw;
}

/// A family that was made while the database was open. To be dropped before it is closed.
pub(crate) struct Made(NonNull<Raw>);

#[expect(unsafe_code, reason = "the handle is a pointer to what RocksDB lets many threads use")]
// SAFETY: RocksDB's handles are never changed, and are used by any thread; the binding says the
// same of its own.
unsafe impl Send for Made {}
#[expect(unsafe_code, reason = "the handle is a pointer to what RocksDB lets many threads use")]
// SAFETY: see `Send`.
unsafe impl Sync for Made {}

impl Made {
    #[expect(unsafe_code, reason = "the binding wants a handle of the database that nobody shares")]
    fn new(db: &DB, name: &CStr, id: u32, options: &rocksdb::Options) -> Result<Self, Error> {
        let mut error = std::ptr::null_mut();
        // SAFETY: database, options and name live through the call. Any thread may make a family
        // while others use the database. The error is written if there is no handle, and is a text
        // that ends with 0.
        let made = unsafe {
            let (db, options) = (db.as_raw_ptr(), options.as_raw_ptr());
            holdfast_make_family(db, options, name.as_ptr(), id, &raw mut error)
        };
        if let Some(made) = NonNull::new(made) {
            return Ok(Self(made));
        }
        if error.is_null() {
            return Err(Error::engine_text(ACTION, String::new()));
        }
        // SAFETY: see above; it is ours to free, and is not used afterwards.
        let message = unsafe {
            let message = CStr::from_ptr(error).to_string_lossy().into_owned();
            ffi_raw::rocksdb_free(error.cast());
            message
        };
        Err(Error::engine_text(ACTION, message))
    }
}

impl Drop for Made {
    #[expect(unsafe_code, reason = "the handle was given to us")]
    fn drop(&mut self) {
        // SAFETY: nobody else has it, and the database is open.
        unsafe { ffi_raw::rocksdb_column_family_handle_destroy(self.0.as_ptr()) }
    }
}

/// A family of an open database, for RocksDB.
#[derive(Clone, Copy)]
pub(crate) enum Cf<'s> {
    /// It was there when the database was opened.
    Opened(&'s ColumnFamily),
    /// It was made since.
    Made(&'s Made),
}

impl AsColumnFamilyRef for Cf<'_> {
    fn inner(&self) -> *mut Raw {
        match self {
            Self::Opened(family) => family.inner(),
            Self::Made(made) => made.0.as_ptr(),
        }
    }
}

/// The family that is made late.
pub(super) struct Late {
    made: OnceLock<Made>,
    /// Held while it is made. Why that cannot be, as far as it is known.
    refusal: Mutex<Option<String>>,
}

impl Late {
    /// For a database that also has a family which is not known here: the next number is another
    /// one then.
    pub(super) fn new(strange: Option<&str>) -> Self {
        let refusal =
            strange.map(|name| format!("the database has the family {name} of a later version"));
        Self { made: OnceLock::new(), refusal: Mutex::new(refusal) }
    }
}

/// Refuses a database whose late family has another number than batches say. An empty one is
/// dropped instead: a process may have been killed between making it and dropping it again.
pub(super) fn check(db: &mut DB, late: &Late) -> Result<(), Error> {
    let family = Family::Index;
    let Some(opened) = db.cf_handle(family.name()) else { return Ok(()) };
    let id = opened.id();
    if id == u32::from(family.id()) {
        return Ok(());
    }
    let mut refusal = late.refusal.lock();
    if refusal.is_none() && is_empty(db, opened)? {
        db.drop_cf(family.name()).map_err(|error| Error::engine("drop a column family", error))?;
        *refusal = Some(OTHER_NUMBER.to_owned());
        return Ok(());
    }
    let message = format!("the family {} has the number {id}", family.name());
    Err(Error::corrupt("open the database", message))
}

fn is_empty(db: &DB, family: &ColumnFamily) -> Result<bool, Error> {
    let mut records = db.raw_iterator_cf(family);
    records.seek_to_first();
    records.status().map_err(|error| Error::engine("open the database", error))?;
    Ok(!records.valid())
}

impl Store {
    /// `None`: it is made late, and was not made yet. Nothing lies there.
    pub(crate) fn cf_if_made(&self, family: Family) -> Option<Cf<'_>> {
        let inner = &*self.inner;
        if let Some(opened) = inner.db.cf_handle(family.name()) {
            return Some(Cf::Opened(opened));
        }
        let made = if family.is_late() { inner.late.made.get() } else { None };
        made.map(Cf::Made)
    }

    pub(crate) fn cf(&self, family: Family) -> Result<Cf<'_>, Error> {
        self.cf_if_made(family).ok_or_else(|| Error::Engine {
            action: "find a column family",
            message: family.name().to_owned(),
        })
    }

    /// The same for a read: `None` where nothing is to be found.
    pub(crate) fn cf_to_read(&self, family: Family) -> Result<Option<Cf<'_>>, Error> {
        match self.cf_if_made(family) {
            None if family.is_late() => Ok(None),
            None => self.cf(family).map(Some),
            found => Ok(found),
        }
    }

    /// The families that are there.
    pub(crate) fn families(&self) -> impl Iterator<Item = Family> {
        let is_there =
            move |family: &Family| !family.is_late() || self.cf_if_made(*family).is_some();
        Family::ALL.into_iter().filter(is_there)
    }

    /// Whether the family is there that is made late.
    pub(super) fn has_late(&self) -> bool {
        self.cf_if_made(Family::Index).is_some()
    }

    /// Makes the family that is made late, if it is not there. To be called before a batch is
    /// written that names it.
    ///
    /// # Errors
    /// I/O errors, after which the database is failed; one in which it would get another number.
    pub(crate) fn make_late(&self) -> Result<(), Error> {
        const NAME: &CStr = c"index";
        if self.has_late() {
            return Ok(());
        }
        let inner = &*self.inner;
        let mut refusal = inner.late.refusal.lock();
        if self.has_late() {
            return Ok(());
        }
        if let Some(message) = &*refusal {
            return Err(Error::Engine { action: ACTION, message: message.clone() });
        }
        inner.failure.check()?;
        // Held until it is made: options of all families are set for those that are there. As all
        // others, until the database is settled nothing may go into tables.
        let sizes = inner.sizes.lock();
        let options = match self.is_holding() {
            true => engine::holding(&inner.options, &inner.dir),
            false => Options { write_buffer_size: sizes.write_buffer, ..inner.options.clone() },
        };
        let family = Family::Index;
        let options = engine::family(family, &options, &inner.cache, &inner.filters);
        let waiting = inner.waits.begin(Step::Sync, 0);
        let made = Made::new(&inner.db, NAME, family.id().into(), &options);
        drop(waiting);
        match made {
            // Nobody else sets it while the lock is held.
            Ok(made) => drop(inner.late.made.set(made)),
            Err(Error::Engine { action, message }) => {
                // The same the next time.
                if message.contains(OTHER_NUMBER) {
                    *refusal = Some(message.clone());
                }
                return Err(Error::Engine { action, message });
            }
            // In memory the number is used up, on the disk it is not.
            Err(error) => return Err(inner.failure.failed(error)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
