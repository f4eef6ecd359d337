//! HyperLogLogs against a model: random commands, time, transactions, restarts; the replica holds
//! the same raw entries.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, flag};

/// What was added. So few elements are counted exactly.
#[derive(Clone, Default)]
struct Sketch(BTreeSet<u32>);

impl Value for Sketch {
    const TYPE: &'static str = "hyperloglog";

    fn is_nothing(&self) -> bool {
        false
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = step(random, model);
        (command, reply.into())
    }
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Sketch>) -> (String, String) {
    let (key, other, third) = (any(&KEYS, random), any(&KEYS, random), any(&KEYS, random));
    let elements = |key: &str| model.value(key).map(|sketch| sketch.0.clone()).unwrap_or_default();
    match random.random_range(0..6) {
        0 | 1 => {
            let count = random.random_range(0..4);
            let added: Vec<u32> = (0..count).map(|_| random.random_range(0..60)).collect();
            let is_new = model.value(key).is_none();
            let mut is_changed = is_new;
            for element in &added {
                is_changed |= model.value_mut(key).0.insert(*element);
            }
            model.value_mut(key);
            let words: String = added.iter().map(|element| format!(" e{element}")).collect();
            (format!("PFADD {key}{words}"), flag(is_changed))
        }
        2 | 3 => (format!("PFCOUNT {key}"), format!(":{}", elements(key).len())),
        4 => {
            let all = &(&elements(key) | &elements(other)) | &elements(third);
            (format!("PFCOUNT {key} {other} {third}"), format!(":{}", all.len()))
        }
        _ => {
            let all = &elements(other) | &elements(third);
            model.value_mut(key).0.extend(all);
            (format!("PFMERGE {key} {other} {third}"), "+OK".to_owned())
        }
    }
}

#[test]
fn hyperloglogs_are_what_the_model_says() {
    model::runs::<Sketch>();
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let mut shell = Shell::new();
    shell.run("PFADD h a b c");
    shell.run("PFADD i a");
    let before = shell.sequence();
    for command in ["PFADD h a", "PFADD h", "PFMERGE h i", "PFMERGE h", "PFMERGE h none h"] {
        shell.run(command);
        assert_eq!(shell.sequence(), before, "{command}");
    }
    assert!(shell.run("GET h").starts_with("-WRONGTYPE"));
    assert!(shell.run("SETBIT h 0 1").starts_with("-WRONGTYPE"));
}
