//! Text that is no reply of a heartbeat.

/// Why a reply could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// A field without which nothing can be decided is absent.
    #[error("heartbeat reply lacks `{0}`")]
    Missing(&'static str),
    /// A field has a value this version cannot read.
    #[error("heartbeat reply has a bad `{name}`: {why}")]
    Bad {
        /// The field.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
}
