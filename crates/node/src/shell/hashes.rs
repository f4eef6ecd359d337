//! Hashes against a model: random commands, time, transactions, restarts; the replica holds the
//! same raw entries. And two clients at once: what one reads whole was whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Shell;

/// Keys and fields meet each other's commands often.
const KEYS: [&str; 3] = ["a", "b", "c"];
const FIELDS: [&str; 5] = ["f", "g", "h", "ff", "x"];
/// Steps of one run; a run begins with an empty database.
const STEPS: usize = 400;

type Hash = BTreeMap<&'static str, String>;

/// What the database should hold: fields, and the last unix ms at which the key is there.
#[derive(Default)]
struct Model {
    now_ms: u64,
    hashes: BTreeMap<&'static str, (Hash, Option<u64>)>,
}

fn bulk(value: Option<&str>) -> String {
    value.map_or_else(|| "$-1".to_owned(), |value| format!("${} {value}", value.len()))
}

fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| bulk(Some(item))).collect();
    [vec![format!("*{}", items.len())], items].concat().join(" ")
}

impl Model {
    fn sweep(&mut self) {
        let now_ms = self.now_ms;
        self.hashes.retain(|_, (hash, until)| {
            !hash.is_empty() && until.is_none_or(|until| until >= now_ms)
        });
    }

    fn get(&self, key: &str, field: &str) -> Option<&str> {
        self.hashes.get(key)?.0.get(field).map(String::as_str)
    }

    fn set(&mut self, key: &'static str, field: &'static str, value: String) -> bool {
        self.hashes.entry(key).or_default().0.insert(field, value).is_none()
    }

    fn add(&mut self, key: &'static str, field: &'static str, by: i64) -> String {
        let Ok(number) = self.get(key, field).unwrap_or("0").parse::<i64>() else {
            return "-ERR hash value is not an integer".to_owned();
        };
        let Some(sum) = number.checked_add(by) else {
            return "-ERR increment or decrement would overflow".to_owned();
        };
        self.set(key, field, sum.to_string());
        format!(":{sum}")
    }

    fn all(&self, key: &str) -> Vec<&str> {
        let hash = self.hashes.get(key).into_iter().flat_map(|(hash, _)| hash);
        hash.flat_map(|(field, value)| [*field, value.as_str()]).collect()
    }

    fn del(&mut self, key: &str, fields: &[&str]) -> String {
        let Some((hash, _)) = self.hashes.get_mut(key) else { return ":0".to_owned() };
        let before = hash.len();
        hash.retain(|field, _| !fields.contains(field));
        let deleted = before - hash.len();
        self.sweep();
        format!(":{deleted}")
    }
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Model) -> (String, String) {
    let key = KEYS[random.random_range(0..KEYS.len())];
    let other = KEYS[random.random_range(0..KEYS.len())];
    let field = FIELDS[random.random_range(0..FIELDS.len())];
    let second = FIELDS[random.random_range(0..FIELDS.len())];
    let number = random.random_range(-3..1000_i64);
    match random.random_range(0..15) {
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
        4 => (format!("HGETALL {key}"), list(model.all(key))),
        5 => {
            let pairs = model.all(key);
            (format!("HKEYS {key}"), list(pairs.chunks(2).map(|pair| pair[0])))
        }
        6 => (format!("HDEL {key} {field} {second}"), model.del(key, &[field, second])),
        7 => (format!("HINCRBY {key} {field} {number}"), model.add(key, field, number)),
        8 => (format!("HINCRBY {key} {field} {}", i64::MAX), model.add(key, field, i64::MAX)),
        9 => (format!("HLEN {key}"), format!(":{}", model.all(key).len() / 2)),
        10 => {
            let is_new = model.get(key, field).is_none();
            if is_new {
                model.set(key, field, "n".to_owned());
            }
            (format!("HSETNX {key} {field} n"), format!(":{}", u8::from(is_new)))
        }
        11 => {
            let is_there = model.hashes.contains_key(key);
            if let Some((_, until)) = model.hashes.get_mut(key) {
                *until = Some(model.now_ms.saturating_add_signed(number));
            }
            model.sweep();
            (format!("PEXPIRE {key} {number}"), format!(":{}", u8::from(is_there)))
        }
        12 => {
            let Some(hash) = model.hashes.remove(key) else {
                return (format!("RENAME {key} {other}"), "-ERR no such key".to_owned());
            };
            model.hashes.insert(other, hash);
            (format!("RENAME {key} {other}"), "+OK".to_owned())
        }
        13 if key != other => {
            let copied = model.hashes.get(key).cloned();
            let reply = format!(":{}", u8::from(copied.is_some()));
            model.hashes.extend(copied.map(|hash| (other, hash)));
            (format!("COPY {key} {other} REPLACE"), reply)
        }
        _ => {
            let was = model.hashes.remove(key).is_some();
            (format!("DEL {key}"), format!(":{}", u8::from(was)))
        }
    }
}

/// Some commands as one transaction.
fn transaction(random: &mut StdRng, model: &mut Model, shell: &mut Shell) {
    assert_eq!(shell.run("MULTI"), "+OK");
    let count = random.random_range(1..8);
    let (mut commands, mut replies) = (Vec::new(), vec![format!("*{count}")]);
    for _ in 0..count {
        let (command, reply) = step(random, model);
        assert_eq!(shell.run(&command), "+QUEUED", "{command}");
        commands.push(command);
        replies.push(reply);
    }
    assert_eq!(shell.run("EXEC"), replies.join(" "), "{commands:?}");
}

fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut shell = Shell::new();
    shell.follow();
    let mut model = Model { now_ms: shell.now_ms(), ..Model::default() };
    for number in 0..STEPS {
        match random.random_range(0..40) {
            0 if number % 8 == 0 => shell.restart(),
            1..4 => {
                let ms = random.random_range(1..100);
                shell.advance(ms);
                model.now_ms += ms;
                model.sweep();
            }
            4..8 => transaction(&mut random, &mut model, &mut shell),
            _ => {
                let (command, wanted) = step(&mut random, &mut model);
                let said = shell.run(&command);
                assert_eq!(said, wanted, "seed {seed}, step {number}: {command}");
            }
        }
    }
    shell.assert_replica_is_equal();
    let before = shell.pairs();
    shell.restart();
    assert_eq!(shell.pairs(), before, "seed {seed}: reopened");
}

/// Others with `HOLDFAST_SEED`.
#[test]
fn hashes_are_what_the_model_says() {
    let first = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or(1);
    (first..first + 5).for_each(run);
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
    // A stream without entries, and a hash whose fields have lifetimes.
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
    put(&shell, "later", &[head(2, 1), vec![1; 25]].concat());
    let before = shell.pairs();
    for key in ["stream", "later"] {
        for command in ["HSET {} f v", "HGET {} f", "HGETALL {}", "HDEL {} f", "HLEN {}"] {
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
        ["one", "two", "three"].map(|value| list(pairs(value).iter().map(String::as_str))).into();
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
