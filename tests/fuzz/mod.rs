//! Foreign bytes for the entry points of the pure crates: texts that are right, changed until they
//! hardly are.
//!
//! Each crate's `tests/fuzz.rs` has its entry points, `fn(&[u8])` that must not panic and read back
//! what they print, and includes this file. A run takes a second for each; `HOLDFAST_FUZZ_SEED`
//! begins elsewhere, `HOLDFAST_FUZZ_SECONDS` takes longer. What is tried depends on the seed and
//! the number of the try alone.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// A function that takes any bytes.
pub(crate) type Entry = fn(&[u8]);

/// Inputs grow no longer than this.
const BYTES_MAX: usize = 4096;
/// What separates and delimits in one text or another, and numbers at the bounds of their types.
#[rustfmt::skip]
const TOKENS: &[&[u8]] = &[
    b"\r\n", b"\n", b" ", b",", b":", b";", b"/", b"-", b".", b"=", b"\"", b"'", b"\\", b"#", b"\0", b"\xff", b"$", b"*",
    b"0", b"-1", b"255", b"256", b"16383", b"16384", b"65535", b"65536", b"2147483648", b"4294967295", b"4294967296",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"1e9",
];

/// Tries an entry for its time with what becomes of these texts.
pub(crate) fn run(entry: Entry, texts: &[&[u8]]) {
    let seed = variable("HOLDFAST_FUZZ_SEED", 1);
    let end = Instant::now() + Duration::from_secs(variable("HOLDFAST_FUZZ_SECONDS", 1));
    texts.iter().for_each(|text| attempt(entry, text, "a text as it is"));
    let mut number = 0_u64;
    while number < 100 || Instant::now() < end {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number));
        let input = change(texts, &mut random);
        attempt(entry, &input, &format!("seed {seed}, try {number}"));
        number += 1;
    }
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn attempt(entry: Entry, input: &[u8], which: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| entry(input))) {
        eprintln!("{which}: b\"{}\"", input.escape_ascii());
        resume_unwind(panic);
    }
}

/// One of the texts, or none, with some changes.
fn change(texts: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(texts.len() + 1) {
        0 => Vec::new(),
        number => texts[number - 1].to_vec(),
    };
    for _ in 0..=random.below(6) {
        let (from, to) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 64));
        match random.below(9) {
            0 if from < bytes.len() => bytes[from] ^= 1 << random.below(8),
            1 if from < bytes.len() => bytes[from] = random.next() as u8,
            2 => bytes.truncate(from),
            3 => drop(bytes.drain(from..to)),
            4 => {
                let again = bytes[from..to].to_vec();
                bytes.splice(from..from, again);
            }
            5 if !texts.is_empty() => {
                let other = texts[random.below(texts.len())];
                bytes.truncate(from);
                bytes.extend(&other[random.below(other.len() + 1)..]);
            }
            6 => {
                // A number becomes another one.
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let begin = bytes[from..].iter().position(is_digit).map_or(from, |at| from + at);
                let length = bytes[begin..].iter().take_while(|byte| is_digit(byte)).count();
                bytes.splice(begin..begin + length, token(random));
            }
            _ => drop(bytes.splice(from..from, token(random))),
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn token(random: &mut Random) -> Vec<u8> {
    TOKENS[random.below(TOKENS.len())].to_vec()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
