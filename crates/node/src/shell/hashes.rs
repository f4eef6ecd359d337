//! Hashes against a model: random commands, time, transactions, restarts; the replica holds the
//! same raw entries. And two clients at once: what one reads whole was whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, array, bulk, flag};
use crate::config::value::HashForm;

/// Fields meet each other's commands often.
const FIELDS: [&str; 5] = ["f", "g", "h", "ff", "x"];

/// A value, and the last unix ms at which its field is there.
type Field = (String, Option<u64>);
type Hash = BTreeMap<&'static str, Field>;

impl Keyspace<Hash> {
    fn get(&self, key: &str, field: &str) -> Option<&str> {
        self.value(key)?.get(field).map(|(value, _)| value.as_str())
    }

    fn set(&mut self, key: &'static str, field: &'static str, value: String) -> bool {
        self.value_mut(key).insert(field, (value, None)).is_none()
    }

    fn add(&mut self, key: &'static str, field: &'static str, by: i64) -> String {
        let Ok(number) = self.get(key, field).unwrap_or("0").parse::<i64>() else {
            return "-ERR hash value is not an integer".to_owned();
        };
        let Some(sum) = number.checked_add(by) else {
            return "-ERR increment or decrement would overflow".to_owned();
        };
        self.value_mut(key).entry(field).or_default().0 = sum.to_string();
        format!(":{sum}")
    }

    fn all(&self, key: &str) -> Vec<&str> {
        self.value(key)
            .into_iter()
            .flatten()
            .flat_map(|(field, (value, _))| [*field, value.as_str()])
            .collect()
    }

    fn del(&mut self, key: &str, fields: &[&str]) -> String {
        let Some((hash, _)) = self.entries.get_mut(key) else { return ":0".to_owned() };
        let before = hash.len();
        hash.retain(|field, _| !fields.contains(field));
        let deleted = before - hash.len();
        self.sweep();
        format!(":{deleted}")
    }

    /// What `of` says of two fields, one after the other.
    fn both(
        &mut self,
        key: &str,
        fields: [&'static str; 2],
        of: impl Fn(&mut Hash, &'static str) -> i64,
    ) -> String {
        let mut nothing = Hash::new();
        let hash = self.entries.get_mut(key).map_or(&mut nothing, |(hash, _)| hash);
        let numbers = fields.map(|field| of(hash, field));
        self.sweep();
        format!("*2 :{} :{}", numbers[0], numbers[1])
    }

    /// HPEXPIREAT with the condition of this name.
    fn expire_fields(
        &mut self,
        key: &str,
        fields: [&'static str; 2],
        at: i64,
        only: &str,
    ) -> String {
        let now_ms = self.now_ms;
        self.both(key, fields, |hash, field| {
            let Some((_, until)) = hash.get_mut(field) else { return -2 };
            let at = at.unsigned_abs();
            let is_met = match (only, *until) {
                ("NX", until) => until.is_none(),
                ("XX", until) => until.is_some(),
                ("GT", until) => until.is_some_and(|until| at > until),
                ("LT", until) => until.is_none_or(|until| at < until),
                _ => true,
            };
            match () {
                () if !is_met => 0,
                () if at <= now_ms => {
                    hash.remove(field);
                    2
                }
                () => {
                    *until = Some(at);
                    1
                }
            }
        })
    }
}

impl Value for Hash {
    const TYPE: &'static str = "hash";

    fn is_nothing(&self) -> bool {
        self.is_empty()
    }

    fn pass(&mut self, now_ms: u64) {
        self.retain(|_, (_, until)| until.is_none_or(|until| until >= now_ms));
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = match random.random_ratio(1, 3) {
            true => lifetimes_step(random, model),
            false => step(random, model),
        };
        (command, reply.into())
    }
}

/// The same of the commands on lifetimes of fields.
fn lifetimes_step(random: &mut StdRng, model: &mut Keyspace<Hash>) -> (String, String) {
    let key = any(&KEYS, random);
    let fields = [any(&FIELDS, random), any(&FIELDS, random)];
    let tail = format!("FIELDS 2 {} {}", fields[0], fields[1]);
    let now_ms = i64::try_from(model.now_ms).unwrap();
    let only = any(&["", "", "NX", "XX", "GT", "LT"], random);
    match random.random_range(0..9) {
        6 => get_step(random, model, (key, fields)),
        7 | 8 => set_step(random, model, (key, fields)),
        0 | 1 => {
            let ms = random.random_range(0..200_i64);
            let command = format!("HPEXPIRE {key} {ms} {only} {tail}").replace("  ", " ");
            (command, model.expire_fields(key, fields, now_ms + ms, only))
        }
        2 => {
            let at = now_ms + random.random_range(-2..100_i64);
            let command = format!("HPEXPIREAT {key} {at} {only} {tail}").replace("  ", " ");
            (command, model.expire_fields(key, fields, at, only))
        }
        3 => {
            let reply = model.both(key, fields, |hash, field| match hash.get_mut(field) {
                None => -2,
                Some((_, until)) => until.take().map_or(-1, |_| 1),
            });
            (format!("HPERSIST {key} {tail}"), reply)
        }
        4 => {
            let reply = model.both(key, fields, |hash, field| match hash.get(field) {
                None => -2,
                Some((_, until)) => until.map_or(-1, |until| until as i64 - now_ms),
            });
            (format!("HPTTL {key} {tail}"), reply)
        }
        _ => {
            let seconds = random.random_range(0..2_u64);
            model.set(key, fields[0], "e".to_owned());
            let until = model.now_ms + seconds * 1000;
            model.entries.get_mut(key).unwrap().1 = Some(until);
            (format!("HSETEXPIRE {key} {seconds} {} e", fields[0]), "+OK".to_owned())
        }
    }
}

/// HGETDEL and HGETEX.
fn get_step(
    random: &mut StdRng,
    model: &mut Keyspace<Hash>,
    (key, fields): (&'static str, [&'static str; 2]),
) -> (String, String) {
    let now_ms = model.now_ms;
    let ms = random.random_range(0..100);
    let (option, end) = match random.random_range(0..5) {
        0 => ("HGETDEL".to_owned(), None),
        1 => ("HGETEX".to_owned(), Some(None)),
        2 => (format!("HGETEX {key} PX {ms}"), Some(Some(Some(now_ms + ms)))),
        3 => {
            let at = now_ms + ms - 2;
            (format!("HGETEX {key} PXAT {at}"), Some(Some(Some(at))))
        }
        _ => (format!("HGETEX {key} PERSIST"), Some(Some(None))),
    };
    let (mut nothing, mut seen) = (Hash::new(), Vec::new());
    let hash = model.entries.get_mut(key).map_or(&mut nothing, |(hash, _)| hash);
    for field in fields {
        seen.push(bulk(hash.get(field).map(|(value, _)| value.as_str())));
        match (end, hash.get_mut(field)) {
            (None, _) => drop(hash.remove(field)),
            (Some(Some(Some(at))), _) if at <= now_ms => drop(hash.remove(field)),
            (Some(Some(end)), Some((_, until))) => *until = end,
            _ => {}
        }
    }
    model.sweep();
    let begin = if option.contains(key) { option } else { format!("{option} {key}") };
    let command = format!("{begin} FIELDS 2 {} {}", fields[0], fields[1]);
    (command, format!("*2 {}", seen.join(" ")))
}

/// HSETEX.
fn set_step(
    random: &mut StdRng,
    model: &mut Keyspace<Hash>,
    (key, fields): (&'static str, [&'static str; 2]),
) -> (String, String) {
    let only = any(&["", "FNX", "FXX"], random);
    let end = random.random_range(0..4);
    let ms = if random.random_ratio(1, 4) { 0 } else { random.random_range(1..100) };
    let option = ["", "KEEPTTL", &format!("PX {ms}"), &format!("PX {ms}")][end].to_owned();
    let command =
        format!("HSETEX {key} {only} {option} FIELDS 2 {} one {} two", fields[0], fields[1]);
    let there = fields.map(|field| model.get(key, field).is_some());
    let is_met = match only {
        "FNX" => there == [false; 2],
        "FXX" => there == [true; 2],
        _ => true,
    };
    for (field, value) in fields.into_iter().zip(["one", "two"]).filter(|_| is_met) {
        let now_ms = model.now_ms;
        if end > 1 && ms == 0 {
            if let Some((hash, _)) = model.entries.get_mut(key) {
                hash.remove(field);
            }
            continue;
        }
        let (old, until) = model.value_mut(key).entry(field).or_default();
        *old = value.to_owned();
        match end {
            0 => *until = None,
            1 => {}
            _ => *until = Some(now_ms + ms),
        }
    }
    model.sweep();
    (command.split_whitespace().collect::<Vec<_>>().join(" "), flag(is_met))
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Hash>) -> (String, String) {
    let key = any(&KEYS, random);
    let (field, second) = (any(&FIELDS, random), any(&FIELDS, random));
    let number = random.random_range(-3..1000_i64);
    match random.random_range(0..13) {
        0 | 1 => {
            let added = u8::from(model.set(key, field, number.to_string()))
                + u8::from(model.set(key, second, "v".to_owned()));
            (format!("HSET {key} {field} {number} {second} v"), format!(":{added}"))
        }
        2 => (format!("HGET {key} {field}"), bulk(model.get(key, field))),
        3 => {
            let values = [model.get(key, field), model.get(key, second)].map(bulk);
            (format!("HMGET {key} {field} {second}"), format!("*2 {}", values.join(" ")))
        }
        4 => (format!("HGETALL {key}"), array(model.all(key))),
        5 => {
            let pairs = model.all(key);
            (format!("HKEYS {key}"), array(pairs.chunks(2).map(|pair| pair[0])))
        }
        6 => (format!("HDEL {key} {field} {second}"), model.del(key, &[field, second])),
        7 => (format!("HINCRBY {key} {field} {number}"), model.add(key, field, number)),
        8 => (format!("HINCRBY {key} {field} {}", i64::MAX), model.add(key, field, i64::MAX)),
        9 => (format!("HLEN {key}"), format!(":{}", model.all(key).len() / 2)),
        10 => (format!("HSCAN {key} 0"), format!("*2 $1 0 {}", array(model.all(key)))),
        11 => (format!("HRANGEBYLEX {key} - +"), array(model.all(key))),
        _ => {
            let is_new = model.get(key, field).is_none();
            if is_new {
                model.set(key, field, "n".to_owned());
            }
            (format!("HSETNX {key} {field} n"), flag(is_new))
        }
    }
}

#[test]
fn hashes_are_what_the_model_says() {
    model::runs::<Hash>();
}

#[test]
fn a_walk_meets_every_field_once_and_ends() {
    let mut shell = Shell::new();
    for number in 0..100 {
        shell.run(&format!("HSET h f{number:02} {number}"));
    }
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let reply = shell.run(&format!("HSCAN h {cursor} COUNT 7"));
        let words: Vec<&str> =
            reply.split(' ').filter(|word| !word.starts_with(['$', '*'])).collect();
        cursor = words[0].to_owned();
        seen.extend(words[1..].chunks(2).map(|pair| format!("{}={}", pair[0], pair[1])));
        // What is written behind the cursor is met, what lies before it is not met again.
        shell.run("HSET h f00 0 z end");
        if cursor == "0" {
            break;
        }
    }
    let mut expected: Vec<String> = (0..100).map(|n| format!("f{n:02}={n}")).collect();
    expected.push("z=end".to_owned());
    assert_eq!(seen, expected);
    assert_eq!(shell.run("HSCAN h 0 MATCH f1? COUNT 3").matches("$3 f1").count(), 3);
}

#[test]
fn data_of_types_that_are_not_served_is_kept_and_is_of_a_wrong_type() {
    let mut shell = Shell::new();
    // A stream without entries, and a hash of a form that nobody knows yet.
    let put = |shell: &Shell, key: &str, value: &[u8]| {
        let mut writer = storage::batch::Writer::new(Vec::new());
        let ns_key = [b"\x0b__namespace", key.as_bytes()].concat();
        writer.put(storage::Family::Metadata, &[&ns_key], &[value]);
        let batch = writer.finish();
        batch[..8].copy_from_slice(&(shell.sequence() + 1).to_le_bytes());
        shell.apply(batch);
    };
    let head =
        |kind: u8, size: u8| [&[0x80 | kind][..], &[0; 8], &[7; 8], &[0; 7], &[size]].concat();
    put(&shell, "stream", &[head(8, 0), vec![0; 96]].concat());
    put(&shell, "later", &[head(2, 1), vec![2; 25]].concat());
    let before = shell.pairs();
    for key in ["stream", "later"] {
        for command in
            ["HSET {} f v", "HGET {} f", "HGETALL {}", "HDEL {} f", "HLEN {}", "HTTL {} FIELDS 1 f"]
        {
            let reply = shell.run(&command.replace("{}", key));
            assert!(reply.starts_with("-WRONGTYPE "), "{command} {key}: {reply}");
        }
    }
    assert_eq!(shell.pairs(), before);
    assert_eq!(
        (shell.run("TYPE stream"), shell.run("TYPE later")),
        ("+stream".into(), "+hash".into())
    );
}

/// One client swaps or rewrites a hash, another one reads it: every reply is a state that was.
#[test]
fn a_hash_is_read_as_it_was_at_one_moment() {
    let mut shell = Shell::new();
    let fields = |value: &str| -> String {
        (0..40).map(|number| format!(" f{number:02} {value}")).collect()
    };
    let pairs = |value: &str| -> Vec<String> {
        (0..40).flat_map(|number| [format!("f{number:02}"), value.to_owned()]).collect()
    };
    let states: Vec<String> =
        ["one", "two", "three"].map(|value| array(pairs(value).iter().map(String::as_str))).into();
    shell.run(&format!("HSET h{}", fields("one")));
    let (mut writer, is_done) = (shell.beside(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let is_done = &is_done;
        scope.spawn(move || {
            for _ in 0..150 {
                writer.run(&format!("HSET other{}", fields("two")));
                writer.run("RENAME other h");
                writer.run(&format!("HSET h{}", fields("three")));
                writer.run("DEL h");
                writer.run(&format!("HSET h{}", fields("one")));
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut reads = 0;
        while !is_done.load(Ordering::SeqCst) {
            let reply = shell.run("HGETALL h");
            assert!(states.contains(&reply) || reply == "*0", "{reply}");
            reads += 1;
        }
        assert!(reads > 10, "{reads} reads");
    });
}

#[test]
fn fields_end_and_the_hash_with_the_last_of_them() {
    let mut shell = Shell::new();
    shell.follow();
    shell.run("HSET h a 1 b 2 c 3");
    assert_eq!(shell.run("HPEXPIRE h 100 FIELDS 4 a b a nope"), "*4 :1 :1 :1 :-2");
    assert_eq!(shell.run("HPEXPIRE h 50 NX FIELDS 2 c c"), "*2 :1 :0");
    let now_ms = shell.now_ms();
    assert_eq!(shell.run("HPEXPIRETIME h FIELDS 1 a"), format!("*1 :{}", now_ms + 100));
    assert_eq!(shell.run("HTTL h FIELDS 3 a c nope"), "*3 :1 :1 :-2");
    shell.advance(50);
    assert_eq!(shell.run("HPTTL h FIELDS 2 c a"), "*2 :0 :50");
    shell.advance(1);
    for (command, reply) in [
        ("HLEN h", ":2"),
        ("HGET h c", "$-1"),
        ("HEXISTS h c", ":0"),
        ("HSTRLEN h c", ":0"),
        ("HKEYS h", "*2 $1 a $1 b"),
        ("HMGET h a c", "*2 $1 1 $-1"),
        ("HRANDFIELD h 9", "*2 $1 a $1 b"),
        ("HPERSIST h FIELDS 1 c", "*1 :-2"),
        ("HPEXPIRE h 9 FIELDS 1 c", "*1 :-2"),
        ("HDEL h c", ":0"),
        ("HINCRBY h c 7", ":7"),
        ("HPTTL h FIELDS 1 c", "*1 :-1"),
        ("HINCRBY h a 7", ":8"),
        ("HPTTL h FIELDS 1 a", "*1 :49"),
        ("HSET h a 8", ":0"),
        ("HPTTL h FIELDS 1 a", "*1 :-1"),
        ("HDEL h a c", ":2"),
        ("COPY h copy", ":1"),
        ("RENAME h moved", "+OK"),
        ("HPTTL moved FIELDS 1 b", "*1 :49"),
        ("HPTTL copy FIELDS 1 b", "*1 :49"),
        ("EXISTS moved copy", ":2"),
    ] {
        assert_eq!(shell.run(command), reply, "{command}");
    }
    shell.advance(50);
    assert_eq!(shell.run("EXISTS moved copy"), ":0");
    assert_eq!((shell.run("TYPE moved"), shell.run("RANDOMKEY")), ("+none".into(), "$-1".into()));
    assert_eq!(shell.run("KEYS *"), "*0");
    assert_eq!((shell.run("HLEN moved"), shell.run("DEL copy")), (":0".into(), ":0".into()));
    assert_eq!(shell.run("HSET moved b new"), ":1");
    assert_eq!(shell.run("HPTTL moved FIELDS 1 b"), "*1 :-1");
    shell.assert_replica_is_equal();
}

#[test]
fn the_longest_lived_field_takes_the_hash_along() {
    let mut shell = Shell::new();
    shell.run("HSET h a 1 b 2");
    shell.run("HPEXPIRE h 1000 FIELDS 1 a");
    shell.run("HPEXPIRE h 10 FIELDS 1 b");
    assert_eq!(shell.run("HDEL h a"), ":1");
    shell.advance(11);
    assert_eq!(shell.run("EXISTS h"), ":0");
    shell.run("HSET h a 1 b 2");
    shell.run("HPEXPIRE h 1000 FIELDS 2 a b");
    assert_eq!(shell.run("HPEXPIRE h 10 LT FIELDS 2 a b"), "*2 :1 :1");
    assert_eq!(shell.run("HPEXPIREAT h 0 FIELDS 1 a"), "*1 :2");
    shell.advance(11);
    assert_eq!(shell.run("EXISTS h"), ":0");
}

#[test]
fn a_change_of_lifetimes_touches_a_watch_and_one_that_is_none_does_not() {
    let mut shell = Shell::new();
    let other = shell.client();
    shell.run("HSET h a 1");
    for (command, is_touched) in [
        ("HPEXPIRE h 1000 FIELDS 1 nope", false),
        ("HPEXPIRE h 1000 XX FIELDS 1 a", false),
        ("HPERSIST h FIELDS 1 a", false),
        ("HPEXPIRE h 1000 FIELDS 1 a", true),
        ("HPERSIST h FIELDS 1 a", true),
        ("HPEXPIRE h 0 FIELDS 1 a", true),
    ] {
        shell.run("WATCH h");
        shell.run_as(other, command);
        shell.run("MULTI");
        shell.run("PING");
        let reply = if is_touched { "*-1" } else { "*1 +PONG" };
        assert_eq!(shell.run("EXEC"), reply, "{command}");
    }
}

#[test]
fn a_large_hash_counts_what_is_there_and_keeps_the_rest_for_compaction() {
    let mut shell = Shell::new();
    shell.follow();
    for part in 0..6 {
        let pairs: String = (0..100).map(|n| format!(" f{part}{n:02} v")).collect();
        shell.run(&format!("HSET h{pairs}"));
    }
    let fields: Vec<String> = (0..100).map(|n| format!("f0{n:02}")).collect();
    shell.run(&format!("HPEXPIRE h 10 FIELDS 100 {}", fields.join(" ")));
    assert_eq!(shell.run("HLEN h"), ":600");
    shell.advance(11);
    assert_eq!(shell.run("HLEN h"), ":500");
    assert_eq!(shell.run("HSET h f000 new"), ":1");
    assert_eq!((shell.run("HLEN h"), shell.run("HGET h f000")), (":501".into(), "$3 new".into()));
    assert_eq!(shell.run("HDEL h f001 f000 f100"), ":2");
    assert_eq!(shell.run("HLEN h"), ":499");
    let drawn = shell.run("HRANDFIELD h 600");
    assert!(drawn.starts_with("*499 ") && !drawn.contains(" f0"), "{drawn}");
    shell.assert_replica_is_equal();
}

#[test]
fn a_hash_that_is_made_with_ends_is_not_written_anew_for_the_first_one() {
    let mut shell = Shell::with(|values| values.hash_encoding_mode = HashForm::FieldExpiration);
    shell.follow();
    let (log, field, metadata) = ("log 2 13 1", "put default", "put metadata");
    for (make, fields) in
        [("HSET h a 1 b 2", 2), ("HINCRBY n a 1", 1), ("HSETEX e FIELDS 1 a 1", 1)]
    {
        let expected = [vec![log], vec![field; fields], vec![metadata]].concat();
        assert_eq!(shell.written_by(make), expected, "{make}");
    }
    assert_eq!(shell.written_by("HPEXPIRE h 10 FIELDS 1 a"), [log, field, metadata]);
    shell.advance(11);
    assert_eq!((shell.run("HGETALL h"), shell.run("HLEN h")), ("*2 $1 b $1 2".into(), ":1".into()));
    assert_eq!(shell.run("CONFIG SET hash-length-mode approximate"), "+OK");
    assert_eq!(shell.run("HLEN h"), ":2");
    shell.assert_replica_is_equal();
    // Those that are there stay as they are.
    assert_eq!(shell.run("CONFIG SET hash-encoding-mode legacy"), "+OK");
    assert_eq!(shell.written_by("HSET n b 1"), [log, field, metadata]);
    assert_eq!(shell.written_by("HSET p a 1"), ["log 2", field, metadata]);
}
