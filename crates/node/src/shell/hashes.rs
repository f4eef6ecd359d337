//! Hashes against a model: random commands, time, transactions, restarts; the replica holds the
//! same raw entries. And two clients at once: what one reads whole was whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, array, bulk, flag};

/// Fields meet each other's commands often.
const FIELDS: [&str; 5] = ["f", "g", "h", "ff", "x"];

type Hash = BTreeMap<&'static str, String>;

impl Keyspace<Hash> {
    fn get(&self, key: &str, field: &str) -> Option<&str> {
        self.value(key)?.get(field).map(String::as_str)
    }

    fn set(&mut self, key: &'static str, field: &'static str, value: String) -> bool {
        self.value_mut(key).insert(field, value).is_none()
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
        self.value(key)
            .into_iter()
            .flatten()
            .flat_map(|(field, value)| [*field, value.as_str()])
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
}

impl Value for Hash {
    const TYPE: &'static str = "hash";

    fn is_nothing(&self) -> bool {
        self.is_empty()
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = step(random, model);
        (command, reply.into())
    }
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Hash>) -> (String, String) {
    let key = any(&KEYS, random);
    let (field, second) = (any(&FIELDS, random), any(&FIELDS, random));
    let number = random.random_range(-3..1000_i64);
    match random.random_range(0..11) {
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
