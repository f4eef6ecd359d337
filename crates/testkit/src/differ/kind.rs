//! What stands in the place of a word in small letters. Pure.
//!
//! Numbers are drawn near the bounds of their types as often as they are ordinary. A time is either
//! past, or so far in the future and so finely drawn that neither the seconds of a run nor the
//! millisecond between two servers decide anything.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// The keys of all commands: few, so that they meet.
pub const KEYS: [&[u8]; 5] = [b"a", b"b", b"{a}c", b"d\0\xff", b""];

/// Keys of HyperLogLogs.
const SKETCHES: [&str; 3] = ["sketch:1", "sketch:2", "sketch:3"];

/// Whole numbers of 64 bits begin and end here, and some readers stop before.
const BOUNDS: [&str; 8] = [
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "9223372036854775",
    "-9223372036854775807",
    "18446744073709551616",
    "4294967296",
];
/// What may stand where something else is expected.
#[rustfmt::skip]
pub const ODD: [&str; 36] = [
    "", "abc", "1.5", "-1", "0", " 1000000", "1000000 ", "+1000000", "01000000", "-0", "0x100000", "1e9", "nan", "inf",
    "-inf", "1e400", "NX", "XX", "GT", "LT", "EX", "PX", "EXAT", "KEEPTTL", "PERSIST", "GET", "REPLACE", "COUNT",
    "MATCH", "DB", "LEN", "IDX", "\u{0}", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
];

/// Of entries, and what looks like it.
#[rustfmt::skip]
const IDS: [&str; 16] = [
    "0-1", "1", "1-1", "1-2", "2-0", "2-1", "2-*", "3", "3-3", "4-*", "5-5", "6", "7-1", "0", "0-0",
    "18446744073709551615-18446744073709551615",
];

/// Kinds of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of [`KEYS`].
    Key,
    /// Of a hash or a set: few, so that they meet.
    Field,
    /// Any bytes; often a number.
    Value,
    /// 64 bits, signed.
    Integer,
    /// A number with few binary digits behind the point: their sums are the same in every
    /// representation.
    Float,
    /// Of a member of a sorted set: with sums that are the same in every order.
    Score,
    /// Of scores: the same, or one that is left out.
    Bound,
    /// Of an entry of a stream: few, so that they meet, and none of the present time.
    Id,
    /// The same, as a bound of a range.
    Place,
    /// Where in a value, from either end.
    Index,
    /// Where in a value, from its beginning; none that would make a server reserve hundreds of
    /// megabytes.
    Offset,
    /// A time to live.
    Seconds,
    /// The same.
    Milliseconds,
    /// A point in time.
    At,
    /// The same.
    AtMs,
    /// As KEYS takes it.
    Pattern,
    /// The name of one.
    Type,
    /// The one there is.
    Database,
    /// That of a beginning.
    Cursor,
    /// So many that everything is on one page.
    Count,
    /// The number of a bit; none that would make a server reserve hundreds of megabytes.
    Bit,
    /// That of an integer in bits.
    Width,
    /// One of [`SKETCHES`].
    Sketch,
    /// Degrees: few, so that places meet.
    Longitude,
    /// The same.
    Latitude,
    /// How far.
    Length,
    /// Of a length.
    Unit,
}

impl Kind {
    /// As the table calls it.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "key" => Self::Key,
            "field" => Self::Field,
            "value" => Self::Value,
            "integer" => Self::Integer,
            "float" => Self::Float,
            "score" => Self::Score,
            "bound" => Self::Bound,
            "id" => Self::Id,
            "place" => Self::Place,
            "index" => Self::Index,
            "offset" => Self::Offset,
            "seconds" => Self::Seconds,
            "milliseconds" => Self::Milliseconds,
            "at" => Self::At,
            "at_ms" => Self::AtMs,
            "pattern" => Self::Pattern,
            "type" => Self::Type,
            "database" => Self::Database,
            "cursor" => Self::Cursor,
            "count" => Self::Count,
            "bit" => Self::Bit,
            "width" => Self::Width,
            "sketch" => Self::Sketch,
            "longitude" => Self::Longitude,
            "latitude" => Self::Latitude,
            "length" => Self::Length,
            "unit" => Self::Unit,
            _ => return None,
        })
    }

    /// One of its words.
    pub fn draw(self, rng: &mut StdRng) -> Vec<u8> {
        match self {
            Self::Key => one(&KEYS, rng).to_vec(),
            Self::Value => value(rng),
            Self::Integer if rng.random_ratio(1, 4) => text(&BOUNDS, rng),
            Self::Integer | Self::Index => match rng.random_range(0..12) {
                0 => text(&BOUNDS, rng),
                _ => number(rng.random_range(-12..=12)),
            },
            Self::Id => text(&IDS, rng),
            Self::Place => match rng.random_range(0..3) {
                0 => text(&["-", "+", "(0", "(2-1", "(3", "(5-5", "(0-0"], rng),
                _ => text(&IDS, rng),
            },
            Self::Offset => match rng.random_range(0..12) {
                0 => text(&["-1", "536870912", "4294967296", "9223372036854775807"], rng),
                _ => number(rng.random_range(0..=20)),
            },
            Self::Bit => bit(rng),
            Self::Seconds => time(1_000, 0, rng),
            Self::Milliseconds => time(1_000_000, 0, rng),
            Self::At => time(1_000, 4_102_444_800, rng),
            Self::AtMs => time(1_000_000, 4_102_444_800_000, rng),
            other => text(other.words(), rng),
        }
    }

    /// All words of a kind that has few.
    #[rustfmt::skip]
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Field => &["f", "g", "{f}", "\u{0}", ""],
            Self::Float => &[
                "0.5", "-0.5", "1.25", "3", "-2", "0", "1e3", "100.0625", "5.0e3", "-125e-3",
            ],
            Self::Score => &[
                "1", "2", "3", "-1", "0.5", "1.25", "1e3", "inf", "-inf", "0x10",
                "4503599627370496",
            ],
            Self::Bound => &[
                "-inf", "+inf", "inf", "0", "(0", "1", "(1", "2", "(2", "-1", "(1e3",
            ],
            Self::Pattern => &[
                "*", "a*", "?", "[ab]", "[^a]", "[b-a]", "\\a", "", "[", "[a", "{a}*", "*c", "**",
            ],
            Self::Type => &[
                "string", "String", "hash", "set", "list", "zset", "stream", "nosuch", "",
            ],
            Self::Database => &["0", "0", "0", "0", "abc", "-1"],
            Self::Cursor => &["0", "0", "0", "0", "00", "abc", "1.5"],
            Self::Count => &["1000", "1000", "500", "0", "-5", "abc"],
            Self::Width => &[
                "u1", "i1", "u4", "i5", "u8", "i8", "u8", "i16", "u63", "i64", "u64", "i0",
            ],
            Self::Sketch => &SKETCHES,
            Self::Longitude => &[
                "0", "13.361389", "15.087269", "15", "-179.95", "180", "-180", "181", "1e-5",
            ],
            Self::Latitude => &[
                "0", "38.115556", "37.502669", "37", "85.05", "-80.5", "-85.05112878", "86",
            ],
            Self::Length => &[
                "0", "1", "100", "200", "5000", "20000", "1e6", "0.5", "-1", "inf",
            ],
            Self::Unit => &["m", "km", "km", "km", "KM", "mi", "ft", "xx"],
            _ => &[""],
        }
    }
}

/// Within the first bytes, at the ends of a bitmap's segments, or none.
fn bit(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..16) {
        0 => text(&["-1", "4294967296", "9223372036854775808", "#1", "#", "#2"], rng),
        1 => number(rng.random_range(8_180..=8_200)),
        2 => number(rng.random_range(16_380..=16_390)),
        _ => number(rng.random_range(0..=40)),
    }
}

fn value(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..8) {
        0..3 => number(rng.random_range(-100..=100)),
        3 => text(&BOUNDS, rng),
        4 => text(&["1.5", "-0.25", " 10", "10 ", "010", "+1", "-0", "1e3", "nan", "inf"], rng),
        5 => text(&["", "\r\n", "ohmytext", "mynewtext", "\u{0}\u{0}", "äö"], rng),
        6 => b"abcde".repeat(rng.random_range(1..20)),
        _ => (0..rng.random_range(1..8)).map(|_| rng.random_range(b'a'..=b'c')).collect(),
    }
}

/// From `base` on `scale` to a thousand times as much, or one that is past or none.
fn time(scale: i64, base: i64, rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..16) {
        0 if base == 0 => text(&["0", "-1", "-100000"], rng),
        0 => text(&["0", "1", "-1"], rng),
        1 => text(&BOUNDS, rng),
        _ => number(base + rng.random_range(scale..1_000 * scale)),
    }
}

fn number(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// One of several texts.
pub fn text(from: &[&str], rng: &mut StdRng) -> Vec<u8> {
    one(from, rng).as_bytes().to_vec()
}

/// One of several, of which there is one at least.
fn one<'a, T: ?Sized>(from: &[&'a T], rng: &mut StdRng) -> &'a T {
    from.choose(rng).unwrap_or(&from[0])
}
