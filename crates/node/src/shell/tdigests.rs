//! T-digests against a model: random commands, time, transactions, restarts; the replica holds the
//! same raw entries.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use resp::float_text;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, array};

/// All numbers, in their order: so few that the finest sketch joins none of them.
#[derive(Clone, Default)]
struct Numbers(Vec<u32>);

const MOST: usize = 300;

impl Value for Numbers {
    const TYPE: &'static str = "TDIS-TYPE";

    fn is_nothing(&self) -> bool {
        false
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let key = any(&KEYS, random);
        let (command, reply) = match random.random_range(0..9) {
            0 => create(key, model),
            1..4 => add(key, random, model),
            4 => merge(key, random, model),
            5 if random.random_ratio(1, 8) => reset(key, model),
            _ => ask(key, random, model),
        };
        (command, reply.into())
    }
}

const OK: &str = "+OK";
const MISSING: &str = "-ERR key does not exist";

fn create(key: &'static str, model: &mut Keyspace<Numbers>) -> (String, String) {
    let is_new = model.value(key).is_none();
    model.value_mut(key);
    let reply = if is_new { OK } else { "-ERR key already exists" };
    (format!("TDIGEST.CREATE {key} COMPRESSION 1000"), reply.to_owned())
}

fn reset(key: &'static str, model: &mut Keyspace<Numbers>) -> (String, String) {
    let is_there = model.value(key).is_some();
    if is_there {
        model.value_mut(key).0.clear();
    }
    (format!("TDIGEST.RESET {key}"), if is_there { OK } else { MISSING }.to_owned())
}

fn add(key: &'static str, random: &mut StdRng, model: &mut Keyspace<Numbers>) -> (String, String) {
    let numbers: Vec<u32> =
        (0..random.random_range(1..9)).map(|_| random.random_range(0..60)).collect();
    match model.value(key) {
        Some(held) if held.0.len() + numbers.len() > MOST => return reset(key, model),
        Some(_) => {
            let held = &mut model.value_mut(key).0;
            held.extend(&numbers);
            held.sort_unstable();
        }
        None => {}
    }
    let reply = if model.value(key).is_some() { OK } else { MISSING };
    let words: String = numbers.iter().map(|number| format!(" {number}")).collect();
    (format!("TDIGEST.ADD {key}{words}"), reply.to_owned())
}

fn merge(
    key: &'static str,
    random: &mut StdRng,
    model: &mut Keyspace<Numbers>,
) -> (String, String) {
    let sources = [any(&KEYS, random), any(&KEYS, random)];
    let (word, is_override) = [("", false), (" OVERRIDE", true)][random.random_range(0..2)];
    let command = format!("TDIGEST.MERGE {key} 2 {} {}{word}", sources[0], sources[1]);
    if let Some(missing) = sources.iter().find(|source| model.value(source).is_none()) {
        let reply = format!("-ERR Invalid argument: key does not exist: {missing}");
        return (command, reply);
    }
    let kept = model.value(key).filter(|_| !is_override);
    let parts = sources.iter().filter_map(|source| model.value(source)).chain(kept);
    let mut all: Vec<u32> = parts.flat_map(|part| part.0.iter().copied()).collect();
    if all.len() > MOST {
        return reset(key, model);
    }
    all.sort_unstable();
    model.value_mut(key).0 = all;
    (command, OK.to_owned())
}

/// A question that the numbers themselves answer exactly.
fn ask(key: &'static str, random: &mut StdRng, model: &Keyspace<Numbers>) -> (String, String) {
    let number = random.random_range(0..62_u32);
    let command = *[
        "MIN",
        "MAX",
        "RANK",
        "REVRANK",
        "BYRANK",
        "BYREVRANK",
        "CDF",
        "QUANTILE",
        "TRIMMED_MEAN",
    ]
    .choose(random)
    .unwrap();
    let words = match command {
        "MIN" | "MAX" => String::new(),
        "QUANTILE" => " 0 1".to_owned(),
        "TRIMMED_MEAN" => " 0 1".to_owned(),
        _ => format!(" {number}"),
    };
    let words = format!("TDIGEST.{command} {key}{words}");
    let Some(Numbers(held)) = model.value(key) else { return (words, MISSING.to_owned()) };
    (words, answer(command, number, held))
}

fn answer(command: &str, number: u32, held: &[u32]) -> String {
    let less = held.iter().filter(|other| **other < number).count();
    let more = held.iter().filter(|other| **other > number).count();
    let equal = held.len() - less - more;
    let rank = |before: usize| match before + equal {
        _ if held.is_empty() => "*1 :-2".to_owned(),
        0 => "*1 :-1".to_owned(),
        _ => format!("*1 :{}", before + equal / 2),
    };
    let at = number as usize;
    let text = |number: Option<&u32>| number.map_or("nan".to_owned(), u32::to_string);
    let by_rank = |number: Option<&u32>, beyond: &str| match number {
        None if held.is_empty() => array(["nan"]),
        None => array([beyond]),
        Some(number) => array([&*number.to_string()]),
    };
    let float = |number: f64| if held.is_empty() { "nan".to_owned() } else { float_text(number) };
    let count = held.len() as f64;
    match command {
        "MIN" => model::bulk(Some(&text(held.first()))),
        "MAX" => model::bulk(Some(&text(held.last()))),
        "RANK" => rank(less),
        "REVRANK" => rank(more),
        "BYRANK" => by_rank(held.get(at), "inf"),
        "BYREVRANK" => by_rank(held.iter().rev().nth(at), "-inf"),
        "CDF" => array([&*float((less as f64 + equal as f64 / 2.0) / count)]),
        "QUANTILE" => array([&*text(held.first()), &*text(held.last())]),
        _ => {
            let sum: f64 = held.iter().copied().map(f64::from).sum();
            model::bulk(Some(&float(sum / count)))
        }
    }
}

#[test]
fn t_digests_are_what_the_model_says() {
    model::runs::<Numbers>();
}

#[test]
fn buffers_are_merged_alike_on_replicas() {
    let mut random = StdRng::seed_from_u64(3);
    let mut shell = Shell::new();
    shell.follow();
    shell.run("TDIGEST.CREATE a COMPRESSION 20");
    shell.run("TDIGEST.CREATE b");
    for _ in 0..150 {
        let words: String = (0..20).map(|_| format!(" {}", random.random_range(0..1000))).collect();
        assert_eq!(shell.run(&format!("TDIGEST.ADD {}{words}", any(&["a", "b"], &mut random))), OK);
    }
    let before = shell.sequence();
    for question in ["QUANTILE a 0.5", "RANK b 500", "CDF a 10", "TRIMMED_MEAN b 0.1 0.9"] {
        shell.run(&format!("TDIGEST.{question}"));
    }
    assert_eq!(shell.sequence(), before, "reads write nothing");
    shell.run("TDIGEST.MERGE c 2 a b COMPRESSION 30");
    shell.assert_replica_is_equal();
    let median = shell.run("TDIGEST.QUANTILE c 0.5");
    let median: f64 = median.split(' ').next_back().unwrap().parse().unwrap();
    assert!((400.0..600.0).contains(&median), "{median}");
    assert!(shell.run("TDIGEST.RESET c").contains("OK"));
    shell.assert_replica_is_equal();
    let before = shell.sequence();
    shell.run("TDIGEST.RESET c");
    assert_eq!(shell.sequence(), before, "there is nothing to reset");
}

#[test]
fn batches_are_those_of_kvrocks() {
    let mut shell = Shell::new();
    let (log, value, metadata) = ("log 12", "put default", "put metadata");
    assert_eq!(shell.written_by("TDIGEST.CREATE a COMPRESSION 1"), [log, metadata]);
    assert_eq!(shell.written_by("TDIGEST.ADD a 1 2"), [log, value, metadata]);
    // The buffer takes 16 values: with more it goes, and centroids come.
    let filled = shell.written_by("TDIGEST.ADD a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15");
    let centroids = vec![value; filled.len() - 3];
    assert_eq!(filled, [vec![log, "delete default"], centroids.clone(), vec![metadata]].concat());
    let merged = shell.written_by("TDIGEST.MERGE b 1 a COMPRESSION 1");
    assert_eq!(merged.first().map(String::as_str), Some(log));
    assert_eq!(merged.get(1).map(String::as_str), Some(metadata));
    let deleted = vec!["delete default"; centroids.len() + 1];
    assert_eq!(shell.written_by("TDIGEST.RESET a"), [vec![log], deleted, vec![metadata]].concat());
}
