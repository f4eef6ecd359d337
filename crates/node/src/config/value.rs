//! How single values are written in files and by CONFIG SET.

use api::heartbeat::{ClientAccess, LeaseMode};

mod places;

pub use places::{Host, Hosts, Master, Networks, SocketPath};

/// A value of an option.
pub trait Value: Sized {
    /// Reads it; the error says what would be accepted.
    fn parse(text: &str) -> Result<Self, String>;
    /// Takes a new value; what the text leaves out stays.
    fn change(&mut self, text: &str) -> Result<(), String> {
        *self = Self::parse(text)?;
        Ok(())
    }
    /// Writes it as it would be read.
    fn render(&self) -> String;
    /// For range checks.
    fn number(&self) -> Option<i128> {
        None
    }
}

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err("argument must be 'yes' or 'no'".into()),
        }
    }
    fn render(&self) -> String {
        if *self { "yes" } else { "no" }.into()
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn render(&self) -> String {
        self.clone()
    }
}

macro_rules! integers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!(
                    "argument must be an integer between {} and {}", <$type>::MIN, <$type>::MAX))
            }
            fn render(&self) -> String {
                self.to_string()
            }
            fn number(&self) -> Option<i128> {
                Some(i128::from(*self))
            }
        }
    )+};
}
integers!(u16, u32, u64, i32, i64);

macro_rules! words {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!(
                    "invalid enum option, acceptable values are '{}'", <$type>::WORDS.join("', '")))
            }
            fn render(&self) -> String {
                self.as_str().into()
            }
        }
    )+};
}
words!(LeaseMode, ClientAccess, LogLevel, Compression, JsonFormat, AuthClients, MigrateType);
words!(CacheType, DumpLevel, ClientsUser, HashForm, HashLength);

/// Bytes, with Kvrocks' suffixes k, m, g, t, p (1024-based).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Value for Size {
    fn parse(text: &str) -> Result<Self, String> {
        let error = || "argument must be a memory value such as 1024, 16k, 512m or 1g".to_owned();
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix('b').unwrap_or(&lower);
        let (digits, shift) = match lower.chars().last() {
            Some('k') => (&lower[..lower.len() - 1], 10),
            Some('m') => (&lower[..lower.len() - 1], 20),
            Some('g') => (&lower[..lower.len() - 1], 30),
            Some('t') => (&lower[..lower.len() - 1], 40),
            Some('p') => (&lower[..lower.len() - 1], 50),
            _ => (lower, 0),
        };
        let number: u64 = digits.parse().map_err(|_| error())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(error)
    }
    fn render(&self) -> String {
        self.0.to_string()
    }
    fn number(&self) -> Option<i128> {
        Some(i128::from(self.0))
    }
}

/// Classes of keyspace notifications, by Redis' letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events(u32);

/// Those that there are, in the order in which they are shown: `A` stands for all of the first.
const EVENT_CLASSES: &[u8] = b"g$lshzxtd";
const EVENT_CHANNELS: &[u8] = b"KE";
/// Classes that `A` does not stand for.
const EVENT_OTHERS: &[u8] = b"mn";
/// All of them, each at the place of its bit.
const EVENT_LETTERS: &[u8] = b"g$lshzxtdKEmn";

impl Events {
    // These are asked for with every command.
    const CHANNELS: u32 = Self::bit(b'K') | Self::bit(b'E');
    const ENDED: u32 = Self::bit(b'x');
    const ABSENT: u32 = Self::ENDED | Self::bit(b'm') | Self::bit(b'n');

    const fn bit(letter: u8) -> u32 {
        let (mut place, mut left) = (0_u32, EVENT_LETTERS);
        while let [other, behind @ ..] = left {
            if *other == letter {
                return 1 << place;
            }
            (place, left) = (place + 1, behind);
        }
        0
    }

    /// Whether a class, or a kind of channel, is wanted.
    pub fn has(self, letter: u8) -> bool {
        self.0 & Self::bit(letter) != 0
    }

    /// Whether anything is to be told.
    pub fn any(self) -> bool {
        self.0 & Self::CHANNELS != 0
    }

    /// Whether it is to be told of keys that have ended, which are removed then.
    pub fn minds_ends(self) -> bool {
        self.any() && self.0 & Self::ENDED != 0
    }

    /// Whether something is to be told of keys that are not there.
    pub fn minds_absence(self) -> bool {
        self.any() && self.0 & Self::ABSENT != 0
    }
}

impl Value for Events {
    fn parse(text: &str) -> Result<Self, String> {
        let all = EVENT_CLASSES.iter().fold(0, |all, letter| all | Self::bit(*letter));
        let mut events = 0;
        for letter in text.bytes() {
            events |= match letter {
                b'A' => all,
                letter if Self::bit(letter) != 0 => Self::bit(letter),
                b'e' => {
                    return Err("no key is ever evicted (e): leave that letter out".into());
                }
                _ => return Err("argument must be letters of K E g $ l s h z x t d m n A".into()),
            };
        }
        Ok(Self(events))
    }

    fn render(&self) -> String {
        let is_all = EVENT_CLASSES.iter().all(|letter| self.has(*letter));
        let classes: &[u8] = if is_all { b"A" } else { EVENT_CLASSES };
        let shown = classes.iter().filter(|letter| is_all || self.has(**letter));
        let channels = EVENT_CHANNELS.iter().filter(|letter| self.has(**letter));
        let others = EVENT_OTHERS.iter().filter(|letter| self.has(**letter));
        shown.chain(channels).chain(others).map(|letter| char::from(*letter)).collect()
    }
}

/// Permissions of a file, written in octal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Octal(pub u32);

impl Value for Octal {
    fn parse(text: &str) -> Result<Self, String> {
        let error = || "argument must be an octal number between 1 and 777".to_owned();
        let is_octal = !text.is_empty() && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let number = if is_octal { u32::from_str_radix(text, 8).ok() } else { None };
        number.filter(|mode| (1..=0o777).contains(mode)).map(Self).ok_or_else(error)
    }
    fn render(&self) -> String {
        format!("{:o}", self.0)
    }
}

/// The words of a list, separated by any number of blanks and commas.
pub(super) fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty())
}

/// Where the log goes (`log-dir`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogDir {
    /// The folder of the log's file.
    pub folder: Option<std::path::PathBuf>,
    /// Whether lines go to standard output.
    pub is_stdout: bool,
}

/// The log's file in its folder.
const LOG_FILE: &str = "holdfast.log";

impl LogDir {
    /// The log's file.
    pub fn file(&self) -> Option<std::path::PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(LOG_FILE))
    }
}

impl Value for LogDir {
    fn parse(text: &str) -> Result<Self, String> {
        let mut dir = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part {
                "stdout" => dir.is_stdout = true,
                // Where lines go without a folder.
                "stderr" => {}
                _ if dir.folder.is_some() => return Err("one folder, and `stdout`".into()),
                folder => dir.folder = Some(folder.into()),
            }
        }
        Ok(dir)
    }
    fn render(&self) -> String {
        let folder = self.folder.as_ref().map(|folder| folder.display().to_string());
        let parts = folder.into_iter().chain(self.is_stdout.then(|| "stdout".to_owned()));
        parts.collect::<Vec<_>>().join(",")
    }
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($(#[$vdoc])* $variant),+ }

        impl $type {
            /// Accepted words.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
            /// The word in files.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl std::str::FromStr for $type {
            type Err = ();
            fn from_str(word: &str) -> Result<Self, ()> {
                match word { $($word => Ok(Self::$variant),)+ _ => Err(()) }
            }
        }
    };
}
word_enum! {
    /// Least severe message that is logged.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// State changes.
        Info = "info",
        /// Odd but continued.
        Warning = "warning",
        /// Somebody must look.
        Error = "error",
        /// As error.
        Fatal = "fatal",
    }
}
word_enum! {
    /// Whether clients show a certificate.
    AuthClients {
        /// They need none.
        No = "no",
        /// They must.
        Yes = "yes",
        /// One that is shown must be good.
        Optional = "optional",
    }
}
word_enum! {
    /// The user that a client's certificate makes it.
    ClientsUser {
        /// Nobody.
        Off = "off",
        /// The user of its common name.
        Cn = "CN",
    }
}
word_enum! {
    /// How documents are kept.
    JsonFormat {
        /// As text.
        Json = "json",
        /// As CBOR.
        Cbor = "cbor",
    }
}
word_enum! {
    /// How hashes are kept that are made anew.
    HashForm {
        /// Plainly, until a field gets an end.
        Legacy = "legacy",
        /// Each field with an end, be it never.
        FieldExpiration = "field-expiration",
    }
}
word_enum! {
    /// What HLEN answers where fields may have ended.
    HashLength {
        /// How many are there.
        Accurate = "accurate",
        /// How many were counted when the hash was last written.
        Approximate = "approximate",
    }
}
word_enum! {
    /// How Kvrocks' slot migration sends keys.
    MigrateType {
        /// As commands.
        RedisCommand = "redis-command",
        /// As batches of records.
        RawKeyValue = "raw-key-value",
    }
}
word_enum! {
    /// With which level SLOWLOG's entries go to the log.
    DumpLevel {
        /// They do not.
        Off = "off",
        /// For those who look at everything.
        Debug = "debug",
        /// State changes.
        Info = "info",
        /// Odd but continued.
        Warning = "warning",
    }
}
word_enum! {
    /// RocksDB's block cache.
    CacheType {
        /// What was used longest ago goes.
        Lru = "lru",
        /// Nearly so, with fewer locks.
        Hcc = "hcc",
    }
}
word_enum! {
    /// RocksDB block compression.
    Compression {
        /// None.
        No = "no",
        /// Snappy.
        Snappy = "snappy",
        /// Zlib.
        Zlib = "zlib",
        /// LZ4.
        Lz4 = "lz4",
        /// Zstandard.
        Zstd = "zstd",
    }
}
