//! Strings against a model: random commands, time, transactions, restarts; the replica holds the
//! same raw entries.

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, bulk, flag};

const WRONG: &str = "-ERR value is not an integer or out of range";

impl Keyspace<String> {
    fn get(&self, key: &str) -> Option<&str> {
        self.value(key).map(String::as_str)
    }

    fn set(&mut self, key: &'static str, value: String, until: Option<u64>) -> String {
        self.entries.insert(key, (value, until));
        "+OK".to_owned()
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
        let value = self.value_mut(key);
        value.push_str(more);
        format!(":{}", value.len())
    }

    fn pttl(&self, key: &str) -> String {
        match self.entries.get(key) {
            None => ":-2".to_owned(),
            Some((_, None)) => ":-1".to_owned(),
            Some((_, Some(until))) => format!(":{}", until - self.now_ms),
        }
    }
}

impl Value for String {
    const TYPE: &'static str = "string";

    fn is_nothing(&self) -> bool {
        false
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = step(random, model);
        (command, reply.into())
    }
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<String>) -> (String, String) {
    let (key, other) = (any(&KEYS, random), any(&KEYS, random));
    let number = random.random_range(-3..1000_i64);
    match random.random_range(0..11) {
        0 => (format!("SET {key} {number}"), model.set(key, number.to_string(), None)),
        1 => {
            let ms = random.random_range(1..300);
            let until = Some(model.now_ms + ms);
            (format!("SET {key} x PX {ms}"), model.set(key, "x".to_owned(), until))
        }
        2 => (format!("GET {key}"), bulk(model.get(key))),
        3 => (format!("INCRBY {key} {number}"), model.add(key, number)),
        4 => (format!("INCRBY {key} {}", i64::MAX), model.add(key, i64::MAX)),
        5 => (format!("APPEND {key} yz"), model.append(key, "yz")),
        6 => (format!("PTTL {key}"), model.pttl(key)),
        7 => {
            let until = model.entries.get_mut(key).and_then(|(_, until)| until.take());
            (format!("PERSIST {key}"), flag(until.is_some()))
        }
        8 => {
            let is_free = !model.entries.contains_key(key);
            if is_free {
                model.set(key, "n".to_owned(), None);
            }
            (format!("SETNX {key} n"), flag(is_free))
        }
        9 => (
            format!("MGET {key} {other}"),
            format!("*2 {} {}", bulk(model.get(key)), bulk(model.get(other))),
        ),
        _ => {
            let length = model.get(key).map_or(0, str::len);
            (format!("STRLEN {key}"), format!(":{length}"))
        }
    }
}

#[test]
fn strings_are_what_the_model_says() {
    model::runs::<String>();
}

/// Of two faults Redis 7 names the one that it meets first.
#[test]
fn the_first_of_two_faults_is_told() {
    let mut shell = Shell::new();
    for command in ["SET k v", "RPUSH l a", "GEOADD g 1 2 a 2 3 b"] {
        shell.run(command);
    }
    let (syntax, number) = ("-ERR syntax error", "-ERR value is not an integer or out of range");
    let together = "-ERR NX and XX, GT or LT options at the same time are not compatible";
    let no_strings = "-ERR The specified keys must contain string values";
    for (command, answer) in [
        ("EXPIRE k abc BAD", "-ERR Unsupported option BAD"),
        ("PEXPIREAT k abc NX XX", together),
        ("EXPIRE k abc NX", number),
        ("EXPIRE none abc", number),
        ("LCS l k BAD", no_strings),
        ("LCS k l LEN IDX", no_strings),
        ("LCS k none MINMATCHLEN x", number),
        ("LCS k none MINMATCHLEN", syntax),
        ("GEODIST g a b xx yy", syntax),
        ("GEODIST k a b m yy", syntax),
    ] {
        assert_eq!(shell.run(command), answer, "{command}");
    }
    let unit = shell.run("GEODIST k a b xx");
    assert!(unit.starts_with("-ERR unsupported unit"), "{unit}");
}
