//! The log of the process as a node sees it: something whose level and place may change.

use std::path::Path;

/// Given to [`crate::main`].
pub trait Log: Send + Sync {
    /// From now on logs what `level` (a value of `log-level`) asks for.
    fn set_level(&self, level: &str);

    /// From now on lines go to the end of `file`, which is made, or opened again, and to standard
    /// output if `is_stdout`; without both to standard error.
    ///
    /// # Errors
    /// The file cannot be opened; then nothing is changed.
    fn direct(&self, file: Option<&Path>, is_stdout: bool) -> anyhow::Result<()>;
}
