//! The last command of a connection.
//!
//! Nobody waits for it: it is one pointer.

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::command::row::Row;

/// The last command of a connection, which others look at while it runs.
#[derive(Debug, Default)]
pub struct LastCommand(AtomicPtr<Row>);

impl LastCommand {
    /// It is this one from now on.
    pub fn set(&self, row: &'static Row) {
        self.0.store(std::ptr::from_ref(row).cast_mut(), Ordering::Relaxed);
    }

    /// The command; `None` before the first.
    #[expect(unsafe_code, reason = "nothing in std keeps a reference in an atomic")]
    pub fn get(&self) -> Option<&'static Row> {
        // SAFETY: the pointer is null, or it was made of a `&'static Row`, which nothing changes.
        unsafe { self.0.load(Ordering::Relaxed).as_ref() }
    }
}
