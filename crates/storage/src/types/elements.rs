//! A walk over the sub-keys of one version of a key.

use crate::cursor::Entry;
use crate::{Cursor, Error};

/// A scan under an object. Lends its entries, so that nothing is copied. What was deleted or is of
/// another version is not met.
pub struct Elements<'r> {
    cursor: Cursor<'r>,
    /// Bytes in front of every sub-key.
    prefix: usize,
}

impl<'r> Elements<'r> {
    pub(super) fn new(cursor: Cursor<'r>, prefix: usize) -> Self {
        Self { cursor, prefix }
    }

    /// The next sub-key and its value.
    ///
    /// # Errors
    /// I/O errors and corruption; the walk is over then.
    #[expect(clippy::should_implement_trait, reason = "lends from itself, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let entry = self.cursor.next()?;
        Ok(entry.map(|(key, value)| (key.get(self.prefix..).unwrap_or_default(), value)))
    }
}
