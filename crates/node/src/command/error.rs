//! Why a command was refused, and the one place that turns it into the text a client sees.

use std::borrow::Cow;

/// Result of a handler.
pub type Result<T> = std::result::Result<T, Error>;

/// A reply that is an error. `Display` is the text behind the `-`, code included.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Options that make no sense together, unknown words, missing values.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument or stored value is no 64-bit integer.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// Too few or too many arguments.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    /// A text of its own, beginning with its code.
    #[error("{0}")]
    Text(Cow<'static, str>),
    /// A script holds the keys: the command is tried again, or refused if that takes too long.
    #[error(
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    )]
    Locked,
    /// It writes these keys besides, which it does not name: it is tried again with their locks.
    #[error("ERR the series that it leads to change all the time")]
    Beyond(Vec<Vec<u8>>),
    /// A data type or the engine refused.
    #[error("{}", storage_text(.0))]
    Storage(#[from] storage::Error),
}

impl Error {
    /// An error with a text of its own, beginning with its code (`ERR …`).
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }

    /// `ERR` and a formatted text.
    pub fn err(text: impl std::fmt::Display) -> Self {
        Self::Text(format!("ERR {text}").into())
    }

    /// A failure of the storage is for the log; what a client did wrong is not.
    pub fn log(&self, command: &str) {
        use storage::Error as Cause;
        let is_refused = matches!(self, Self::Storage(Cause::TooLarge { .. } | Cause::SlotsMove));
        if let (Self::Storage(cause), false) = (self, is_refused) {
            tracing::error!(command, error = %cause, "a command failed in storage");
        }
    }
}

impl From<storage::types::CommandError> for Error {
    /// The texts of Redis 7.
    fn from(error: storage::types::CommandError) -> Self {
        use storage::types::CommandError as Cause;
        use storage::types::stream::Refusal;
        match error {
            Cause::WrongType => Self::WrongType,
            Cause::NotAnInteger => Self::NotInteger,
            Cause::HashValueNotAnInteger => Self::text("ERR hash value is not an integer"),
            Cause::HashValueNotAFloat => Self::text("ERR hash value is not a float"),
            Cause::Overflow => Self::text("ERR increment or decrement would overflow"),
            Cause::NotAFloat => Self::text("ERR value is not a valid float"),
            Cause::NanOrInfinity => Self::text("ERR increment would produce NaN or Infinity"),
            Cause::ScoreIsNan => Self::text("ERR resulting score is not a number (NaN)"),
            Cause::OffsetOutOfRange => Self::text("ERR offset is out of range"),
            Cause::TooLong => {
                Self::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
            }
            // Kvrocks' text.
            Cause::BitmapTooLong => Self::text(
                "ERR Operation aborted: The size of the bitmap string exceeds the configuration \
                 item max-bitmap-to-string-mb",
            ),
            // The command's name is known to the handler only, which words it.
            Cause::InvalidExpire => Self::text("ERR invalid expire time"),
            Cause::IndexOutOfRange => Self::text("ERR index out of range"),
            Cause::NoSuchKey => Self::text("ERR no such key"),
            Cause::NoRedisForm => Self::text("ERR Invalid or Not supported object type"),
            Cause::Redis(rdb::Error::Footer) => {
                Self::text("ERR DUMP payload version or checksum are wrong")
            }
            Cause::Redis(_) => Self::text("ERR Bad data format"),
            Cause::NotAtRoot => {
                Self::text("ERR Invalid argument: new objects must be created at the root")
            }
            Cause::LeadsTo(keys) => Self::Beyond(keys),
            Cause::BeyondRetention => Self::text(
                "ERR Invalid argument: When a series has compactions, deleting samples or \
                 compaction buckets beyond the series retention period is not possible",
            ),
            Cause::TooManyBuckets => Self::text("ERR too many empty buckets"),
            Cause::Json(cause) => cause.into(),
            Cause::Stream(refusal) => Self::text(match refusal {
                Refusal::NotGreater => {
                    "ERR The ID specified in XADD is equal or smaller than the target stream top \
                     item"
                }
                Refusal::NoneLeft => {
                    "ERR The stream has exhausted the last possible ID, unable to add more items"
                }
                Refusal::BelowEntries => {
                    "ERR The ID specified in XSETID is smaller than the target stream top item"
                }
                Refusal::TooFewAdded => {
                    "ERR The entries_added specified in XSETID is smaller than the target stream \
                     length"
                }
            }),
            Cause::Storage(cause) => Self::Storage(cause),
        }
    }
}

/// What went wrong below is for the log; a client learns that its command was not done and where to
/// look. In Kvrocks' words.
impl From<json::Error> for Error {
    fn from(error: json::Error) -> Self {
        Self::err(format_args!("Invalid argument: {error}"))
    }
}

fn storage_text(error: &storage::Error) -> String {
    match error {
        storage::Error::SlotsMove => format!("TRYAGAIN {error}"),
        _ => format!("ERR storage: {error}"),
    }
}
