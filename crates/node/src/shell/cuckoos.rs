//! Cuckoo filters against a model: random commands, time, transactions, restarts; the replica holds
//! the same raw entries.

use std::collections::BTreeMap;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, flag};

/// How often each item was added. So few items in so many buckets are told apart exactly.
#[derive(Clone, Default)]
struct Filter(BTreeMap<u32, u32>);

const ITEMS: u32 = 60;
const CAPACITY: &str = "100000";

impl Value for Filter {
    const TYPE: &'static str = "MBbloomCF";

    fn is_nothing(&self) -> bool {
        false
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = step(random, model);
        (command, reply.into())
    }
}

fn times(filter: &Filter, item: u32) -> u32 {
    filter.0.get(&item).copied().unwrap_or(0)
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Filter>) -> (String, String) {
    let key = any(&KEYS, random);
    let count = random.random_range(1..5_usize);
    let items: Vec<u32> = (0..count).map(|_| random.random_range(0..ITEMS)).collect();
    let words: String = items.iter().map(|item| format!(" i{item}")).collect();
    let item = items[0];
    let listed = |flags: Vec<bool>| {
        let flags: String = flags.into_iter().map(|is_so| format!(" {}", flag(is_so))).collect();
        format!("*{count}{flags}")
    };
    match random.random_range(0..9) {
        0..3 => {
            let held = &mut model.value_mut(key).0;
            items.iter().for_each(|item| *held.entry(*item).or_default() += 1);
            let command = format!("CF.INSERT {key} CAPACITY {CAPACITY} ITEMS{words}");
            (command, listed(vec![true; count]))
        }
        3 => {
            let held = &mut model.value_mut(key).0;
            let mut added = Vec::new();
            for item in &items {
                let times = held.entry(*item).or_default();
                added.push(*times == 0);
                *times = (*times).max(1);
            }
            (format!("CF.INSERTNX {key} CAPACITY {CAPACITY} ITEMS{words}"), listed(added))
        }
        4 => {
            let held = model.value(key).cloned().unwrap_or_default();
            let there = items.iter().map(|item| times(&held, *item) > 0).collect();
            (format!("CF.MEXISTS {key}{words}"), listed(there))
        }
        5 => {
            let held = model.value(key).map_or(0, |filter| times(filter, item));
            (format!("CF.COUNT {key} i{item}"), format!(":{held}"))
        }
        6..8 => {
            let is_there = model.value(key).is_some_and(|filter| times(filter, item) > 0);
            if is_there {
                *model.value_mut(key).0.entry(item).or_default() -= 1;
            }
            (format!("CF.DEL {key} i{item}"), flag(is_there))
        }
        _ => {
            let is_new = model.value(key).is_none();
            model.value_mut(key);
            let reply =
                if is_new { "+OK" } else { "-ERR Invalid argument: the key already exists" };
            (format!("CF.RESERVE {key} {CAPACITY}"), reply.to_owned())
        }
    }
}

#[test]
fn cuckoo_filters_are_what_the_model_says() {
    model::runs::<Filter>();
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let mut shell = Shell::new();
    shell.run("CF.ADD c x");
    shell.run("CF.RESERVE n 4 BUCKETSIZE 1 MAXITERATIONS 1 EXPANSION 0");
    for number in 0..7 {
        assert_eq!(shell.run(&format!("CF.ADD n i{number}")), ":1");
    }
    let before = shell.sequence();
    for command in [
        "CF.ADDNX c x",
        "CF.DEL c none",
        "CF.DEL none x",
        "CF.ADD n i7",
        "CF.INSERT n ITEMS i8 i9",
        "CF.INSERT m NOCREATE ITEMS x",
        "CF.EXISTS c x",
    ] {
        shell.run(command);
        assert_eq!(shell.sequence(), before, "{command}");
    }
    assert_eq!(shell.run("CF.ADD n i7"), "-ERR Operation aborted: filter is full");
    assert_eq!(shell.run("CF.INSERT n ITEMS i8 i9"), "*2 :-1 :-1");
    assert_eq!(shell.run("EXISTS m"), ":0");
}

#[test]
fn batches_are_those_of_kvrocks() {
    let mut shell = Shell::new();
    let (page, metadata) = ("put default", "put metadata");
    assert_eq!(shell.written_by("CF.RESERVE a 1000"), ["log 14 reserve a", metadata]);
    assert_eq!(shell.written_by("CF.ADD a x"), ["log 14 add a", page, metadata]);
    assert_eq!(shell.written_by("CF.ADD b x"), ["log 14 add b", page, metadata]);
    assert_eq!(shell.written_by("CF.INSERT a ITEMS x y"), ["log 14 add a", page, metadata]);
    assert_eq!(shell.written_by("CF.DEL a y"), ["log 14 del a", page, metadata]);
}

#[test]
fn a_filter_that_is_emptied_goes_with_its_pages() {
    let mut shell = Shell::new();
    shell.follow();
    shell.run("CF.RESERVE c 4 BUCKETSIZE 1 MAXITERATIONS 1 EXPANSION 2");
    for number in 0..12 {
        assert_eq!(shell.run(&format!("CF.ADD c i{number}")), ":1");
    }
    for number in [11, 10, 9, 8] {
        assert_eq!(shell.run(&format!("CF.DEL c i{number}")), ":1");
    }
    let (page, metadata) = ("put default", "put metadata");
    let written = shell.written_by("CF.DEL c i7");
    assert_eq!(written.first().map(String::as_str), Some("log 14 del c"));
    assert!(written.iter().any(|record| record == "delete default"), "{written:?}");
    assert_eq!(written.last().map(String::as_str), Some(metadata));
    assert_eq!(shell.run("CF.MEXISTS c i0 i6"), "*2 :1 :1");
    assert_eq!(shell.written_by("CF.ADD c i0"), ["log 14 add c", page, metadata]);
    shell.assert_replica_is_equal();
}
