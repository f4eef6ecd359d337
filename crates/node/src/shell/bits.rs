//! Bitmaps against a model: random commands, time, transactions, restarts; the replica holds the
//! same raw entries.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any};

/// The bits of a key, in whole bytes.
type Bits = Vec<bool>;

impl Value for Bits {
    const TYPE: &'static str = "bitmap";

    fn is_nothing(&self) -> bool {
        self.is_empty()
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = step(random, model);
        (command, reply.into())
    }
}

impl Keyspace<Bits> {
    fn bit(&self, key: &str, at: usize) -> bool {
        self.value(key).and_then(|bits| bits.get(at).copied()).unwrap_or(false)
    }

    fn grow(&mut self, key: &'static str, end: usize) -> &mut Bits {
        let bits = self.value_mut(key);
        bits.resize(bits.len().max(end.next_multiple_of(8)), false);
        bits
    }

    fn field(&self, key: &str, at: usize, width: usize) -> i128 {
        (at..at + width).fold(0, |sum, at| sum * 2 + i128::from(self.bit(key, at)))
    }

    fn set_field(&mut self, key: &'static str, at: usize, width: usize, value: i128) {
        let bits = self.grow(key, at + width);
        for place in 0..width {
            bits[at + place] = value >> (width - 1 - place) & 1 == 1;
        }
    }
}

/// Ends of bytes and of segments, and what lies between.
fn bit(random: &mut StdRng) -> usize {
    let base = [0, 0, 8, 8184, 8192, 16384, 2_000_000][random.random_range(0..7)];
    base + random.random_range(0..16)
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Bits>) -> (String, String) {
    let (key, other, to) = (any(&KEYS, random), any(&KEYS, random), any(&KEYS, random));
    let at = bit(random);
    match random.random_range(0..8) {
        0 | 1 => {
            let is_one = random.random_ratio(2, 3);
            let old = u8::from(model.bit(key, at));
            model.grow(key, at + 1)[at] = is_one;
            (format!("SETBIT {key} {at} {}", u8::from(is_one)), format!(":{old}"))
        }
        2 => (format!("GETBIT {key} {at}"), format!(":{}", u8::from(model.bit(key, at)))),
        3 => {
            let end = bit(random);
            let bits = model.value(key).map_or(&[][..], Vec::as_slice);
            let part = bits.get(at..bits.len().min(end + 1)).unwrap_or_default();
            let count = part.iter().filter(|bit| **bit).count();
            (format!("BITCOUNT {key} {at} {end} BIT"), format!(":{count}"))
        }
        4 => {
            let is_one = random.random_ratio(1, 2);
            let bits = model.value(key).map_or(&[][..], Vec::as_slice);
            let found = (at..bits.len()).find(|at| bits[*at] == is_one);
            let found = match (found, bits.len()) {
                (Some(found), _) => found.to_string(),
                (None, 0) if !is_one => "0".to_owned(),
                _ => "-1".to_owned(),
            };
            let command = format!("BITPOS {key} {} {at} -1 BIT", u8::from(is_one));
            (command, format!(":{found}"))
        }
        5 => bitop(random, model, (to, key, other)),
        6 => {
            let width = random.random_range(1..64_usize);
            let value = random.random_range(0..i64::MAX);
            let old = model.field(key, at, width);
            model.set_field(key, at, width, i128::from(value));
            (format!("BITFIELD {key} SET u{width} {at} {value}"), format!("*1 :{old}"))
        }
        _ => {
            let (width, by) = (random.random_range(1..=64_usize), random.random_range(-9..9_i64));
            let signed = |raw: i128| raw - (raw >> (width - 1) << width);
            let sum = signed(model.field(key, at, width)) + i128::from(by);
            model.set_field(key, at, width, sum);
            let sum = signed(model.field(key, at, width));
            let command = format!("BITFIELD {key} INCRBY i{width} {at} {by} GET i{width} {at}");
            (command, format!("*2 :{sum} :{sum}"))
        }
    }
}

fn bitop(
    random: &mut StdRng,
    model: &mut Keyspace<Bits>,
    (to, key, other): (&'static str, &'static str, &'static str),
) -> (String, String) {
    let name = any(&["AND", "OR", "XOR", "NOT"], random);
    let second = if name == "NOT" { None } else { Some(other) };
    let of = |key: &str| model.value(key).cloned().unwrap_or_default();
    let (one, two) = (of(key), second.map(of).unwrap_or_default());
    let bit = |bits: &Bits, at: usize| bits.get(at).copied().unwrap_or(false);
    let result: Bits = (0..one.len().max(two.len()))
        .map(|at| match (name, bit(&one, at), bit(&two, at)) {
            ("AND", one, two) => one && two,
            ("OR", one, two) => one || two,
            ("XOR", one, two) => one != two,
            (_, one, _) => !one,
        })
        .collect();
    let reply = format!(":{}", result.len() / 8);
    model.replace(to, result);
    let words = [Some(key), second].into_iter().flatten().collect::<Vec<_>>().join(" ");
    (format!("BITOP {name} {to} {words}"), reply)
}

#[test]
fn bitmaps_are_what_the_model_says() {
    model::runs::<Bits>();
}

#[test]
fn a_bitmap_is_read_as_a_string_and_becomes_one_when_a_command_for_strings_writes() {
    let mut shell = Shell::new();
    let fill = |shell: &mut Shell| {
        shell.run("DEL b");
        for bit in [1, 2, 7, 9, 15] {
            shell.run(&format!("SETBIT b {bit} 1"));
        }
        shell.run("PEXPIRE b 1000");
    };
    fill(&mut shell);
    assert_eq!(shell.run("GET b"), "$2 aA");
    assert_eq!(shell.run("STRLEN b"), ":2");
    assert_eq!(shell.run("GETRANGE b 1 1"), "$1 A");
    assert_eq!(shell.run("MGET b none"), "*2 $2 aA $-1");
    assert!(shell.run("LPUSH b x").starts_with("-WRONGTYPE"));
    assert_eq!(shell.run("INCR b"), "-ERR value is not an integer or out of range");
    assert_eq!(shell.run("TYPE b"), "+bitmap");
    assert_eq!(shell.run("SCAN 0 TYPE bitmap COUNT 100"), "*2 $1 0 *1 $1 b");
    for (command, reply, value) in [
        ("APPEND b x", ":3", "$3 aAx"),
        ("SETRANGE b 1 xy", ":3", "$3 axy"),
        ("GETEX b PX 1000", "$2 aA", "$2 aA"),
        ("GETDEL b", "$2 aA", "$-1"),
        ("GETSET b x", "$2 aA", "$1 x"),
        ("CAS b aA y", ":1", "$1 y"),
    ] {
        fill(&mut shell);
        assert_eq!(shell.run(command), reply, "{command}");
        assert_eq!(shell.run("GET b"), value, "{command}");
    }
    fill(&mut shell);
    shell.run("APPEND b x");
    assert_eq!(shell.run("PTTL b"), ":1000");
    assert_eq!(shell.run("TYPE b"), "+string");
    assert_eq!(shell.run("SETBIT b 14 1"), ":0");
    assert_eq!(shell.run("GET b"), "$3 aCx");
    assert_eq!(shell.run("TYPE b"), "+string");
}

#[test]
fn a_bitmap_above_a_bound_is_read_in_parts_only() {
    let mut shell = Shell::new();
    // One byte more than a MiB.
    assert_eq!(shell.run("SETBIT b 8388608 1"), ":0");
    assert_eq!(
        shell.run("CONFIG GET max-bitmap-to-string-mb"),
        "*2 $23 max-bitmap-to-string-mb $2 16"
    );
    let read = ["GET b", "GETEX b", "GETEX b PX 5000", "MGET none b"];
    for command in read {
        let said = shell.run(command);
        assert!(said.contains("$1048577 "), "{command}: {}", said.len());
    }
    assert_eq!(shell.run("DEL b"), ":1");
    assert_eq!(shell.run("SETBIT b 8388608 1"), ":0");
    assert_eq!(shell.run("CONFIG SET max-bitmap-to-string-mb 1"), "+OK");
    for command in read {
        let said = shell.run(command);
        assert!(said.starts_with("-ERR Operation aborted: The size of the bitmap"), "{said}");
    }
    assert_eq!((shell.run("TTL b"), shell.run("TYPE b")), (":-1".into(), "+bitmap".into()));
    assert_eq!(shell.run("STRLEN b"), ":1048577");
    assert_eq!(shell.run("GETBIT b 8388608"), ":1");
    assert_eq!(shell.run("GETRANGE b 0 0"), "$1 \0");
    // A string of that length is one.
    assert_eq!(shell.run("SETRANGE s 1048576 x"), ":1048577");
    assert!(shell.run("GET s").starts_with("$1048577 "));
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let mut shell = Shell::new();
    shell.run("SETBIT b 9 1");
    shell.run("SET s abc");
    let before = shell.sequence();
    for command in [
        "SETBIT b 9 1",
        "SETBIT b 3 0",
        "SETBIT s 1 1",
        "BITFIELD b GET u8 0 SET u2 8 1",
        "BITFIELD none GET u8 100",
        "BITFIELD s OVERFLOW FAIL INCRBY u8 0 200",
        "BITOP AND none none none",
        "BITOP NOT b none x",
        "SETBIT b 4294967296 1",
    ] {
        shell.run(command);
        assert_eq!(shell.sequence(), before, "{command}");
    }
}

#[test]
fn a_sparse_bitmap_of_the_greatest_size_is_searched_by_what_it_holds() {
    let mut shell = Shell::new();
    assert_eq!(shell.run("SETBIT b 4294967295 1"), ":0");
    assert_eq!(shell.run("SETBIT b 70000000 1"), ":0");
    assert_eq!(shell.run("STRLEN b"), ":536870912");
    assert_eq!(shell.run("BITCOUNT b"), ":2");
    assert_eq!(shell.run("BITPOS b 1"), ":70000000");
    assert_eq!(shell.run("BITPOS b 1 70000001 -1 BIT"), ":4294967295");
    assert_eq!(shell.run("BITPOS b 1 70000001 -2 BIT"), ":-1");
    assert_eq!(shell.run("BITOP OR c b b"), ":536870912");
    assert_eq!(shell.run("BITOP AND d c b none"), ":536870912");
    assert_eq!(shell.run("BITCOUNT c"), ":2");
    assert_eq!(shell.run("BITCOUNT d"), ":0");
    assert_eq!(shell.run("BITPOS d 1"), ":-1");
}

/// A few bytes of a client name a large string any number of times, and all of them are held.
#[test]
fn what_bitop_holds_of_strings_is_no_more_than_a_batch_may_be() {
    let mut shell = Shell::with(|values| values.rocksdb_write_batch_max_bytes = 100_000);
    assert_eq!(shell.run("SETRANGE k 29999 x"), ":30000");
    let bitop = |name: &str, times: usize| format!("BITOP {name} d{}", " k".repeat(times));
    let refusal = shell.run(&bitop("XOR", 1_000_000));
    assert!(refusal.starts_with("-ERR storage: too much at once: 1200"), "{refusal}");
    assert_eq!(shell.run("EXISTS d"), ":0");
    assert_eq!(shell.run(&bitop("XOR", 2)), ":30000");
    assert_eq!(shell.run("BITCOUNT d"), ":0");
    for (name, times) in [("XOR", 3), ("OR", 1_000), ("AND", 1_000)] {
        assert_eq!(shell.run(&bitop(name, times)), ":30000", "{name}");
        assert_eq!(shell.run("BITCOUNT d"), ":4", "{name}");
    }
}

#[test]
fn bounds_that_leave_nothing_are_told_before_a_wrong_word() {
    let mut shell = Shell::new();
    shell.run("SETBIT b 9 1");
    assert_eq!(shell.run("BITCOUNT b -1 -2 FOO"), ":0");
    assert_eq!(shell.run("BITCOUNT b -1 -2 FOO x"), "-ERR syntax error");
    assert_eq!(shell.run("BITCOUNT b 1 0 FOO"), "-ERR syntax error");
}

/// One client swaps what a key holds, another one reads it: every reply is of one of the two.
#[test]
fn a_bitmap_is_read_as_it_was_at_one_moment() {
    let mut shell = Shell::new();
    let bits = [0, 9_000, 17_000, 400_000, 2_000_000];
    for bit in bits {
        shell.run(&format!("SETBIT odd {bit} 1"));
        shell.run(&format!("SETBIT even {} 1", bit + 4));
        shell.run(&format!("SETBIT even {} 1", bit + 6));
    }
    shell.run("BITOP OR b odd");
    let (mut writer, is_done) = (shell.beside(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let is_done = &is_done;
        scope.spawn(move || {
            for _ in 0..300 {
                writer.run("BITOP OR b even");
                writer.run("BITOP OR b odd");
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut reads = 0;
        while !is_done.load(Ordering::SeqCst) {
            let count = shell.run("BITCOUNT b");
            assert!([":5", ":10"].contains(&&*count), "{count}");
            let position = shell.run("BITPOS b 1 1");
            assert!([":9000", ":9004"].contains(&&*position), "{position}");
            let fields = shell.run("BITFIELD_RO b GET u3 0 GET u3 9000 GET u3 2000000");
            assert!(["*3 :4 :4 :4", "*3 :0 :0 :0"].contains(&&*fields), "{fields}");
            reads += 1;
        }
        assert!(reads > 10, "{reads} reads");
    });
}
