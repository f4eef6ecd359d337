//! Strings against a model: random commands, time, transactions, restarts; the replica holds the
//! same raw entries.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Shell;

/// Keys meet each other's commands often.
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// Steps of one run; a run begins with an empty database.
const STEPS: usize = 400;

/// What the database should hold: value, and the last unix ms at which it is there.
#[derive(Default)]
struct Model {
    now_ms: u64,
    entries: BTreeMap<&'static str, (String, Option<u64>)>,
}

const WRONG: &str = "-ERR value is not an integer or out of range";

impl Model {
    fn sweep(&mut self) {
        let now_ms = self.now_ms;
        self.entries.retain(|_, (_, until)| until.is_none_or(|until| until >= now_ms));
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|(value, _)| value.as_str())
    }

    fn set(&mut self, key: &'static str, value: String, until: Option<u64>) -> String {
        self.entries.insert(key, (value, until));
        "+OK".to_owned()
    }

    fn bulk(value: Option<&str>) -> String {
        value.map_or_else(|| "$-1".to_owned(), |value| format!("${} {value}", value.len()))
    }

    fn add(&mut self, key: &'static str, by: i64) -> String {
        let (value, until) =
            self.entries.get(key).cloned().unwrap_or_else(|| ("0".to_owned(), None));
        let Ok(number) = value.parse::<i64>() else { return WRONG.to_owned() };
        let Some(sum) = number.checked_add(by) else {
            return "-ERR increment or decrement would overflow".to_owned();
        };
        self.entries.insert(key, (sum.to_string(), until));
        format!(":{sum}")
    }

    fn append(&mut self, key: &'static str, more: &str) -> String {
        let (value, _) = self.entries.entry(key).or_default();
        value.push_str(more);
        format!(":{}", value.len())
    }

    fn expire(&mut self, key: &'static str, ms: i64) -> String {
        let Some((_, until)) = self.entries.get_mut(key) else { return ":0".to_owned() };
        *until = Some(self.now_ms.saturating_add_signed(ms));
        self.sweep();
        ":1".to_owned()
    }

    fn pttl(&self, key: &str) -> String {
        match self.entries.get(key) {
            None => ":-2".to_owned(),
            Some((_, None)) => ":-1".to_owned(),
            Some((_, Some(until))) => format!(":{}", until - self.now_ms),
        }
    }
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Model) -> (String, String) {
    let key = KEYS[random.random_range(0..KEYS.len())];
    let other = KEYS[random.random_range(0..KEYS.len())];
    let number = random.random_range(-3..1000_i64);
    match random.random_range(0..14) {
        0 => (format!("SET {key} {number}"), model.set(key, number.to_string(), None)),
        1 => {
            let ms = random.random_range(1..300);
            let until = Some(model.now_ms + ms);
            (format!("SET {key} x PX {ms}"), model.set(key, "x".to_owned(), until))
        }
        2 => (format!("GET {key}"), Model::bulk(model.get(key))),
        3 => (format!("INCRBY {key} {number}"), model.add(key, number)),
        4 => (format!("INCRBY {key} {}", i64::MAX), model.add(key, i64::MAX)),
        5 => (format!("APPEND {key} yz"), model.append(key, "yz")),
        6 => {
            let was = model.entries.remove(key).is_some();
            (format!("DEL {key}"), format!(":{}", u8::from(was)))
        }
        7 => (format!("PEXPIRE {key} {number}"), model.expire(key, number)),
        8 => (format!("PTTL {key}"), model.pttl(key)),
        9 => {
            let until = model.entries.get_mut(key).and_then(|(_, until)| until.take());
            (format!("PERSIST {key}"), format!(":{}", u8::from(until.is_some())))
        }
        10 => {
            let Some(entry) = model.entries.remove(key) else {
                return (format!("RENAME {key} {other}"), "-ERR no such key".to_owned());
            };
            model.entries.insert(other, entry);
            (format!("RENAME {key} {other}"), "+OK".to_owned())
        }
        11 => {
            let is_free = !model.entries.contains_key(key);
            if is_free {
                model.set(key, "n".to_owned(), None);
            }
            (format!("SETNX {key} n"), format!(":{}", u8::from(is_free)))
        }
        12 => (
            format!("MGET {key} {other}"),
            format!("*2 {} {}", Model::bulk(model.get(key)), Model::bulk(model.get(other))),
        ),
        _ => {
            let length = model.get(key).map_or(0, str::len);
            (format!("STRLEN {key}"), format!(":{length}"))
        }
    }
}

/// Some commands as one transaction.
fn transaction(random: &mut StdRng, model: &mut Model, shell: &mut Shell) {
    assert_eq!(shell.run("MULTI"), "+OK");
    let count = random.random_range(1..6);
    let mut replies = vec![format!("*{count}")];
    for _ in 0..count {
        let (command, reply) = step(random, model);
        assert_eq!(shell.run(&command), "+QUEUED", "{command}");
        replies.push(reply);
    }
    assert_eq!(shell.run("EXEC"), replies.join(" "));
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
            4..6 => transaction(&mut random, &mut model, &mut shell),
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
fn strings_are_what_the_model_says() {
    let first = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or(1);
    (first..first + 5).for_each(run);
}
