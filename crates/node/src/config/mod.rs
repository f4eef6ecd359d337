//! Configuration: Kvrocks' file format and option names.
//!
//! One declaration (`options`) yields the struct, the defaults, the parser, CONFIG GET/SET/REWRITE and the sample file. Unknown names warn; a bad value
//! stops the start and names file, line, option and what would be accepted.

pub mod file;
pub mod load;
pub mod options;
pub mod value;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use options::{OPTIONS, SetError, Values};

/// The live configuration of a node.
#[derive(Debug)]
pub struct Config {
    values: ArcSwap<Values>,
    changing: Mutex<()>,
    /// The file the node was started with; CONFIG REWRITE needs one.
    pub file: Option<PathBuf>,
}

impl Config {
    /// A configuration that starts with `values`.
    pub fn new(values: Values, file: Option<PathBuf>) -> Self {
        Self { values: ArcSwap::from_pointee(values), changing: Mutex::new(()), file }
    }

    /// The values of now. A command keeps one view from start to end.
    pub fn now(&self) -> Arc<Values> {
        self.values.load_full()
    }

    /// Changes live options: all or none. Returns the values before and after.
    pub fn set(
        &self,
        pairs: &[(&str, &str)],
    ) -> Result<(Arc<Values>, Arc<Values>), (String, SetError)> {
        let _one_at_a_time = self.changing.lock();
        let before = self.now();
        let mut after = Values::clone(&before);
        for (name, value) in pairs {
            let option = options::find(name).ok_or(((*name).to_owned(), SetError::Unknown))?;
            if !option.is_live {
                return Err(((*name).to_owned(), SetError::Restart));
            }
            after.set(name, value).map_err(|error| ((*name).to_owned(), error))?;
        }
        let after = Arc::new(after);
        self.values.store(Arc::clone(&after));
        Ok((before, after))
    }
}
