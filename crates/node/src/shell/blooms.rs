//! Bloom filters against a model: random commands, time, transactions, restarts; the replica holds
//! the same raw entries.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, flag};

/// What was added. With so few errors, a filter knows that exactly.
#[derive(Clone, Default)]
struct Filter(BTreeSet<u32>);

const RATE: &str = "0.0000001";

impl Value for Filter {
    const TYPE: &'static str = "MBbloom--";

    fn is_nothing(&self) -> bool {
        false
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = step(random, model);
        (command, reply.into())
    }
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Filter>) -> (String, String) {
    let key = any(&KEYS, random);
    let count = random.random_range(1..5_usize);
    let items: Vec<u32> = (0..count).map(|_| random.random_range(0..60)).collect();
    let words: String = items.iter().map(|item| format!(" i{item}")).collect();
    let listed = |flags: Vec<bool>| {
        let flags: String = flags.into_iter().map(|is_so| format!(" {}", flag(is_so))).collect();
        format!("*{count}{flags}")
    };
    match random.random_range(0..6) {
        0..3 => {
            let held = &mut model.value_mut(key).0;
            let added = items.iter().map(|item| held.insert(*item)).collect();
            // Small ones, so that chains grow.
            let command = format!("BF.INSERT {key} CAPACITY 8 ERROR {RATE} ITEMS{words}");
            (command, listed(added))
        }
        3 => {
            let held = model.value(key).cloned().unwrap_or_default().0;
            let there = items.iter().map(|item| held.contains(item)).collect();
            (format!("BF.MEXISTS {key}{words}"), listed(there))
        }
        4 => {
            let held = model.value(key).map_or(0, |filter| filter.0.len());
            (format!("BF.CARD {key}"), format!(":{held}"))
        }
        _ => {
            let is_new = model.value(key).is_none();
            model.value_mut(key);
            let reply =
                if is_new { "+OK" } else { "-ERR Invalid argument: the key already exists" };
            (format!("BF.RESERVE {key} {RATE} 8"), reply.to_owned())
        }
    }
}

#[test]
fn bloom_filters_are_what_the_model_says() {
    model::runs::<Filter>();
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let mut shell = Shell::new();
    shell.run("BF.MADD b x y");
    shell.run("BF.RESERVE n 0.01 1 NONSCALING");
    shell.run("BF.ADD n x");
    let before = shell.sequence();
    for command in ["BF.ADD b x", "BF.MADD b y x", "BF.ADD n y", "BF.INSERT m NOCREATE ITEMS x"] {
        shell.run(command);
        assert_eq!(shell.sequence(), before, "{command}");
    }
    assert_eq!(shell.run("BF.ADD n y"), "-ERR nonscaling filter is full");
    assert_eq!(shell.run("BF.INSERT m NOCREATE ITEMS x"), "-ERR key is not found");
    assert_eq!(shell.run("EXISTS m"), ":0");
}
