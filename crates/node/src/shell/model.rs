//! Commands of a type against a model of it: random ones, alone and in transactions, while time
//! passes and the node restarts. Afterwards the replica holds the same raw entries, and so does the
//! database when it is opened again.
//!
//! Each type says what its own commands do ([`Value::step`]); what all types share is here: keys,
//! their time, RENAME, COPY, DEL, TYPE. Time does not pass by itself, so a seed always gives the
//! same run.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Shell;

/// Few, so that commands meet each other's keys.
pub(super) const KEYS: [&str; 3] = ["a", "b", "c"];
/// Steps of one run; a run begins with an empty database.
const STEPS: usize = 400;
/// Runs of one test.
const RUNS: u64 = 5;

/// What a key holds.
pub(super) trait Value: Clone + Default {
    /// The word of TYPE.
    const TYPE: &'static str;

    /// Whether a key with this value is none.
    fn is_nothing(&self) -> bool;

    /// Drops what is over by now; most types have nothing of the kind.
    fn pass(&mut self, _now_ms: u64) {}

    /// A random command of the type, done to the model, and what the model says to it.
    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>);
}

/// Looks at a reply that is partly left to chance, and tells the model what it was.
pub(super) type Check<V> = Box<dyn FnOnce(&mut Keyspace<V>, &str)>;

/// What the model says to a command.
pub(super) enum Said<V> {
    /// The reply, in one line.
    Exactly(String),
    /// Replies that this accepts.
    ByChance(Check<V>),
}

impl<V> From<String> for Said<V> {
    fn from(reply: String) -> Self {
        Self::Exactly(reply)
    }
}

/// What the database should hold: values, and the last unix ms at which a key is there.
#[derive(Default)]
pub(super) struct Keyspace<V> {
    pub(super) now_ms: u64,
    pub(super) entries: BTreeMap<&'static str, (V, Option<u64>)>,
}

impl<V: Value> Keyspace<V> {
    /// Drops what is over and what holds nothing.
    pub(super) fn sweep(&mut self) {
        let now_ms = self.now_ms;
        self.entries.retain(|_, (value, until)| {
            value.pass(now_ms);
            !value.is_nothing() && until.is_none_or(|until| until >= now_ms)
        });
    }

    /// The value of a key that is there.
    pub(super) fn value(&self, key: &str) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// The value of a key, made if it is not there.
    pub(super) fn value_mut(&mut self, key: &'static str) -> &mut V {
        &mut self.entries.entry(key).or_default().0
    }

    /// Replaces what a key holds, its time included.
    pub(super) fn replace(&mut self, key: &'static str, value: V) {
        self.entries.insert(key, (value, None));
        self.sweep();
    }

    fn expire(&mut self, key: &str, ms: i64) -> bool {
        let Some((_, until)) = self.entries.get_mut(key) else { return false };
        // A time that is not ahead is past, this very millisecond included.
        *until = u64::try_from(ms).ok().filter(|ms| *ms > 0).map(|ms| self.now_ms + ms);
        if until.is_none() {
            self.entries.remove(key);
        }
        true
    }
}

/// A random command that knows any type.
fn of_any_type<V: Value>(random: &mut StdRng, model: &mut Keyspace<V>) -> (String, String) {
    let (key, other) = (any(&KEYS, random), any(&KEYS, random));
    let is_there = model.entries.contains_key(key);
    match random.random_range(0..5) {
        0 => {
            let ms = random.random_range(-3..1000_i64);
            (format!("PEXPIRE {key} {ms}"), flag(model.expire(key, ms)))
        }
        1 => {
            let Some(entry) = model.entries.remove(key) else {
                return (format!("RENAME {key} {other}"), "-ERR no such key".to_owned());
            };
            model.entries.insert(other, entry);
            (format!("RENAME {key} {other}"), "+OK".to_owned())
        }
        2 if key != other => {
            let copied = model.entries.get(key).cloned();
            model.entries.extend(copied.map(|entry| (other, entry)));
            (format!("COPY {key} {other} REPLACE"), flag(is_there))
        }
        3 => {
            let kind = if is_there { V::TYPE } else { "none" };
            (format!("TYPE {key}"), format!("+{kind}"))
        }
        _ => {
            model.entries.remove(key);
            (format!("DEL {key}"), flag(is_there))
        }
    }
}

fn step<V: Value>(random: &mut StdRng, model: &mut Keyspace<V>) -> (String, Said<V>) {
    if random.random_ratio(1, 4) {
        let (command, reply) = of_any_type(random, model);
        return (command, reply.into());
    }
    V::step(random, model)
}

/// Some commands as one transaction. What is left to chance is known when it ends, so that comes
/// last.
fn transaction<V: Value>(random: &mut StdRng, model: &mut Keyspace<V>, shell: &mut Shell) {
    assert_eq!(shell.run("MULTI"), "+OK");
    let count = random.random_range(1..8);
    let (mut commands, mut replies, mut last) = (Vec::new(), Vec::new(), None);
    while commands.len() < count && last.is_none() {
        let (command, said) = step(random, model);
        assert_eq!(shell.run(&command), "+QUEUED", "{command}");
        commands.push(command);
        match said {
            Said::Exactly(reply) => replies.push(reply),
            Said::ByChance(check) => last = Some(check),
        }
    }
    let begin = [vec![format!("*{}", commands.len())], replies].concat().join(" ");
    let reply = shell.run("EXEC");
    let Some(check) = last else {
        return assert_eq!(reply, begin.trim_end(), "{commands:?}");
    };
    let rest = reply.strip_prefix(&*begin);
    let rest = rest.unwrap_or_else(|| panic!("{commands:?}: {reply}, not {begin}"));
    check(model, rest.trim_start());
}

fn run<V: Value>(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut shell = Shell::new();
    shell.follow();
    let mut model = Keyspace::<V> { now_ms: shell.now_ms(), ..Keyspace::default() };
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
                let (command, said) = step(&mut random, &mut model);
                let reply = shell.run(&command);
                match said {
                    Said::Exactly(said) => {
                        let said = said.trim_end();
                        assert_eq!(reply, said, "seed {seed}, step {number}: {command}");
                    }
                    Said::ByChance(check) => check(&mut model, &reply),
                }
            }
        }
    }
    shell.assert_replica_is_equal();
    let before = shell.pairs();
    shell.restart();
    assert_eq!(shell.pairs(), before, "seed {seed}: reopened");
}

/// Runs a type against its model; from another seed on with `HOLDFAST_SEED`.
pub(super) fn runs<V: Value>() {
    let first = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or(1);
    (first..first + RUNS).for_each(run::<V>);
}

/// One of these words.
pub(super) fn any(words: &[&'static str], random: &mut StdRng) -> &'static str {
    words[random.random_range(0..words.len())]
}

/// A bulk string as the shell shows it; `None` is the null.
pub(super) fn bulk(value: Option<&str>) -> String {
    value.map_or_else(|| "$-1".to_owned(), |value| format!("${} {value}", value.len()))
}

/// An array of bulk strings.
pub(super) fn array<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| bulk(Some(item))).collect();
    [vec![format!("*{}", items.len())], items].concat().join(" ")
}

/// 1 or 0.
pub(super) fn flag(is_so: bool) -> String {
    format!(":{}", u8::from(is_so))
}
