//! Time series against a model: random commands, time, transactions, restarts; the replica holds
//! the same raw entries.

use std::collections::BTreeMap;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any};
use crate::locks::Locks;
use crate::scripts::Running;

/// Samples by their times. Chunks are small and duplicates are added up.
#[derive(Clone, Default)]
struct Series(BTreeMap<u64, i64>);

const SHAPE: &str = "CHUNK_SIZE 3 DUPLICATE_POLICY SUM";
const MISSING: &str = "-ERR the key is not a TSDB key";

impl Series {
    fn last(&self) -> Option<(u64, i64)> {
        self.0.last_key_value().map(|(at, value)| (*at, *value))
    }

    fn samples(&self) -> impl DoubleEndedIterator<Item = (u64, i64)> {
        self.0.iter().map(|(at, value)| (*at, *value))
    }

    fn add(&mut self, at: u64, value: i64) -> String {
        *self.0.entry(at).or_default() += value;
        format!(":{at}")
    }
}

impl Value for Series {
    const TYPE: &'static str = "timeseries";

    fn is_nothing(&self) -> bool {
        false
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let key = any(&KEYS, random);
        let last = model.value(key).and_then(Series::last).map_or(100, |(at, _)| at);
        let at = (last + random.random_range(0..20)).saturating_sub(14);
        let value = random.random_range(-9..9_i64);
        let (command, reply) = match random.random_range(0..10) {
            0 => {
                let reply = match model.value(key) {
                    Some(_) => "-ERR key already exists",
                    None => "+OK",
                };
                model.value_mut(key);
                (format!("TS.CREATE {key} {SHAPE}"), reply.to_owned())
            }
            1..4 => {
                let reply = model.value_mut(key).add(at, value);
                (format!("TS.ADD {key} {at} {value} {SHAPE}"), reply)
            }
            4 => (format!("TS.INCRBY {key} {value} TIMESTAMP {at} {SHAPE}"), {
                let series = model.value_mut(key);
                match series.last() {
                    Some((last, _)) if at < last => {
                        "-ERR timestamp must be equal to or higher than the maximum existing timestamp"
                            .to_owned()
                    }
                    last => {
                        series.0.insert(at, value + last.map_or(0, |(_, last)| last));
                        format!(":{at}")
                    }
                }
            }),
            5 => delete(key, random, model),
            6 => madd(key, at, random, model),
            _ => read(key, random, model),
        };
        (command, reply.into())
    }
}

fn delete(
    key: &'static str,
    random: &mut StdRng,
    model: &mut Keyspace<Series>,
) -> (String, String) {
    let begin = model.value(key).and_then(|series| series.samples().next());
    let from = begin.map_or(0, |(at, _)| at) + random.random_range(0..30);
    let to = from + random.random_range(0..15);
    let command = format!("TS.DEL {key} {from} {to}");
    if model.value(key).is_none() {
        return (command, MISSING.to_owned());
    }
    let series = model.value_mut(key);
    let before = series.0.len();
    series.0.retain(|at, _| !(from..=to).contains(at));
    (command, format!(":{}", before - series.0.len()))
}

fn madd(
    key: &'static str,
    at: u64,
    random: &mut StdRng,
    model: &mut Keyspace<Series>,
) -> (String, String) {
    let other = any(&KEYS, random);
    let command = format!("TS.MADD {key} {at} 1 {other} {} 2", at + 1);
    let mut add = |key, at, value| match model.value(key) {
        None => MISSING.to_owned(),
        Some(_) => model.value_mut(key).add(at, value),
    };
    let replies = [add(key, at, 1), add(other, at + 1, 2)];
    (command, format!("*2 {} {}", replies[0], replies[1]))
}

fn sample((at, value): (u64, i64)) -> String {
    let value = value.to_string();
    format!("*2 :{at} {}", model::bulk(Some(&value)))
}

fn list(samples: impl Iterator<Item = (u64, i64)>) -> String {
    let samples: Vec<String> = samples.map(sample).collect();
    [vec![format!("*{}", samples.len())], samples].concat().join(" ")
}

fn read(key: &'static str, random: &mut StdRng, model: &Keyspace<Series>) -> (String, String) {
    let count = random.random_range(1..5_usize);
    let (command, words) = [
        ("TS.GET", String::new()),
        ("TS.RANGE", format!(" - + COUNT {count}")),
        ("TS.REVRANGE", format!(" - + COUNT {count}")),
        ("TS.RANGE", " - + AGGREGATION sum 10".to_owned()),
    ][random.random_range(0..4)]
    .clone();
    let line = format!("{command} {key}{words}");
    let Some(series) = model.value(key) else {
        return (line, "-ERR key does not exist".to_owned());
    };
    let reply = match command {
        "TS.GET" => list(series.last().into_iter()),
        "TS.REVRANGE" => list(series.samples().rev().take(count)),
        _ if words.ends_with("10") => {
            let mut sums: BTreeMap<u64, i64> = BTreeMap::new();
            for (at, value) in series.samples() {
                *sums.entry(at - at % 10).or_default() += value;
            }
            list(sums.into_iter())
        }
        _ => list(series.samples().take(count)),
    };
    (line, reply)
}

#[test]
fn time_series_are_what_the_model_says() {
    model::runs::<Series>();
}

#[test]
fn batches_are_those_of_kvrocks() {
    let mut shell = Shell::new();
    let (log, value, metadata) = ("log 13", "put default", "put metadata");
    let made = "log 13 createTimeSeries";
    assert_eq!(shell.written_by("TS.CREATE a CHUNK_SIZE 2"), [made, metadata]);
    assert_eq!(shell.written_by("TS.ADD a 1 1"), [log, value, metadata]);
    assert_eq!(shell.written_by("TS.ADD a 2 1"), [log, value]);
    assert_eq!(shell.written_by("TS.ADD a 3 1"), [log, value, value, metadata]);
    assert_eq!(shell.written_by("TS.ADD a 0 1"), [log, "delete default", value]);
    assert_eq!(shell.written_by("TS.ADD b 1 1"), [made, metadata, log, value, metadata]);
    assert_eq!(shell.written_by("TS.ALTER b RETENTION 5"), [log, metadata]);
    assert_eq!(shell.written_by("TS.DEL b 1 1"), [log, "delete default", metadata]);
    for command in ["TS.ALTER b RETENTION 5", "TS.DEL b 1 1", "TS.ADD a 3 2", "TS.CREATE a"] {
        assert_eq!(shell.written_by(command), Vec::<String>::new(), "{command}");
    }
}

#[test]
fn batches_with_labels_are_those_of_kvrocks() {
    let mut shell = Shell::new();
    let (log, made) = ("log 13", "log 13 createTimeSeries");
    let (metadata, label, way) = ("put metadata", "put default", "put index");
    let (no_label, no_way) = ("delete default", "delete index");
    let written = shell.written_by("TS.CREATE a LABELS room 1 floor 2");
    assert_eq!(written, [made, metadata, label, label, way, way]);
    let written = shell.written_by("TS.ADD b 1 1 LABELS room 1");
    assert_eq!(written, [made, metadata, label, way, log, "put default", metadata]);
    let written = shell.written_by("TS.ALTER a LABELS room 3 floor 2");
    assert_eq!(written, [log, no_label, no_way, label, way]);
    let written = shell.written_by("TS.ALTER a RETENTION 5 LABELS");
    assert_eq!(written, [log, metadata, log, no_label, no_way, no_label, no_way]);
    let written = shell.written_by("RENAME b c");
    let carried = ["put default", label, no_way, way];
    assert_eq!(written, [&[log, "delete metadata", metadata][..], &carried].concat());
    // Labels are given to what is made, and to nothing else.
    for command in ["TS.ALTER a LABELS", "TS.CREATE a LABELS x y", "TS.ALTER none LABELS x y"] {
        assert_eq!(shell.written_by(command), Vec::<String>::new(), "{command}");
    }
    assert_eq!(shell.written_by("TS.ADD a 1 1 LABELS x y"), [log, "put default", metadata]);
}

/// Three series: of room 1 and of room 2 on floor 2, and one of room 1.
fn labelled() -> Shell {
    let mut shell = Shell::new();
    shell.follow();
    for (command, reply) in [
        ("TS.CREATE a LABELS room 1 floor 2", "+OK"),
        ("TS.ADD b 10 5 LABELS room 1", ":10"),
        ("TS.INCRBY c 3 TIMESTAMP 20 LABELS room 2 floor 2", ":20"),
    ] {
        assert_eq!(shell.run(command), reply, "{command}");
    }
    shell
}

#[test]
fn series_are_found_by_their_labels_at_the_master_its_replica_and_after_a_restart() {
    let mut shell = labelled();
    assert_eq!(shell.run("TS.QUERYINDEX floor=2"), "*2 $1 a $1 c");
    assert_eq!(shell.run("TS.QUERYINDEX room=(1,2) floor="), "*1 $1 b");
    assert_eq!(shell.run("TS.MGET FILTER room=1"), "*2 *3 $1 a *0 *0 *3 $1 b *0 *1 *2 :10 $1 5");
    shell.assert_replica_is_equal();
    let before = shell.pairs();
    shell.restart();
    assert_eq!(shell.pairs(), before);
    assert_eq!(shell.run("TS.QUERYINDEX floor=2"), "*2 $1 a $1 c");
    for command in ["DEL a", "RENAME b a", "COPY a d", "TS.ALTER c LABELS room 3"] {
        shell.run(command);
    }
    assert_eq!(shell.run("TS.QUERYINDEX room=1"), "*2 $1 a $1 d");
    assert_eq!(shell.run("TS.QUERYINDEX floor=2"), "*0");
    assert_eq!(shell.run("PEXPIRE d 10"), ":1");
    shell.advance(11);
    assert_eq!(shell.run("TS.QUERYINDEX room=1"), "*1 $1 a");
    assert_eq!(shell.run("FLUSHDB"), "+OK");
    assert_eq!(shell.run("TS.QUERYINDEX room=(1,2,3)"), "*0");
    shell.assert_replica_is_equal();
}

/// Before anything has a label there is no family for them, and nothing is found.
#[test]
fn no_series_with_labels_are_found_where_there_are_none() {
    let mut shell = Shell::new();
    assert_eq!(shell.run("TS.CREATE a"), "+OK");
    for command in ["TS.MGET FILTER room=1", "TS.MRANGE - + FILTER room=1", "TS.QUERYINDEX a=b"] {
        assert_eq!(shell.run(command), "*0", "{command}");
    }
}

#[test]
fn values_have_the_form_of_the_protocol() {
    let mut shell = labelled();
    shell.run("HELLO 3");
    let reply = shell.run("TS.MGET SELECTED_LABELS none FILTER room=2");
    assert_eq!(reply, "*1 *3 $1 c *1 *2 $4 none _ *1 *2 :20 ,3");
    let reply = shell.run("TS.MRANGE - + FILTER floor=2 GROUPBY floor REDUCE count");
    assert_eq!(reply, "*1 *3 $7 floor=2 *0 *1 *2 :20 ,1");
}

#[test]
fn transactions_and_scripts_find_what_they_have_made() {
    let mut shell = labelled();
    shell.run("MULTI");
    for command in ["TS.CREATE d LABELS room 2", "TS.QUERYINDEX room=2", "DEL c"] {
        assert_eq!(shell.run(command), "+QUEUED", "{command}");
    }
    assert_eq!(shell.run("TS.QUERYINDEX room=2"), "+QUEUED");
    assert_eq!(shell.run("EXEC"), "*4 +OK *2 $1 c $1 d :1 *1 $1 d");
    let script = "EVAL return\tredis.call('TS.QUERYINDEX','room=2') 0";
    assert_eq!(shell.run(script), "*1 $1 d");
    shell.assert_replica_is_equal();
}

const RULE: [&str; 3] =
    ["TS.CREATE s CHUNK_SIZE 2", "TS.CREATE d", "TS.CREATERULE s d AGGREGATION sum 10"];

/// A node with a rule from `s` to `d`.
fn ruled() -> Shell {
    let mut shell = Shell::new();
    shell.follow();
    for command in RULE {
        assert_eq!(shell.run(command), "+OK", "{command}");
    }
    shell
}

/// Alone, behind other writes of a pipeline, in transactions and in scripts.
#[test]
fn what_a_rule_leads_to_is_written_wherever_its_source_is() {
    let mut shell = ruled();
    assert_eq!(shell.run("TS.ADD s 1 1"), ":1");
    assert_eq!(shell.run("TS.MADD s 2 2 d 100 7 s 11 4"), "*3 :2 :100 :11");
    assert_eq!(shell.run("TS.RANGE d - +"), "*2 *2 :0 $1 3 *2 :100 $1 7");
    for command in ["MULTI", "TS.INCRBY s 1 TIMESTAMP 21", "SET k v", "EXEC"] {
        shell.run(command);
    }
    assert_eq!(shell.run("TS.RANGE d 10 10"), "*1 *2 :10 $1 4");
    let script = "EVAL return\tredis.call('TS.ADD',KEYS[1],31,1) 1 s";
    assert_eq!(shell.run(script), ":31");
    assert_eq!(shell.run("TS.RANGE d 20 20"), "*1 *2 :20 $1 5");
    assert_eq!(shell.run("TS.DEL s 1 2"), ":2");
    assert_eq!(shell.run("TS.RANGE d 0 9"), "*0");
    shell.assert_replica_is_equal();
    let before = shell.pairs();
    shell.restart();
    assert_eq!(shell.pairs(), before);
}

#[test]
fn batches_of_rules_are_those_of_kvrocks() {
    let mut shell = ruled();
    let (log, value, metadata) = ("log 13", "put default", "put metadata");
    let (rule, made) = ("log 13 upsertDownStream", "log 13 createDownStreamMetadata");
    shell.run("TS.CREATE e");
    let written = shell.written_by("TS.CREATERULE s e AGGREGATION avg 100");
    assert_eq!(written, [log, made, value, metadata]);
    assert_eq!(shell.written_by("TS.ADD s 1 1"), [log, value, metadata]);
    // A bucket is over: the rule, and the series that it leads to.
    let over = [log, value, rule, value, log, value, metadata];
    assert_eq!(shell.written_by("TS.ADD s 11 1"), over);
    assert_eq!(shell.written_by("TS.DELETERULE s d"), [log, "delete default", metadata]);
    assert_eq!(shell.written_by("TS.ADD s 12 1")[..2], [log, value]);
}

/// The series that a rule leads to is not among the words of the command.
#[test]
fn the_series_that_a_rule_leads_to_is_locked_before_it_is_read() {
    let mut shell = ruled();
    shell.run("TS.ADD s 1 1");
    assert_eq!(shell.run("CONFIG SET lua-time-limit 1"), "+OK");
    let node = shell.node();
    let stripes = |key: &'static [u8]| Locks::stripes(std::iter::once(key));
    assert_ne!(stripes(b"s"), stripes(b"d"));
    // A lock that a script may hold for long is not waited for to the end.
    let script = node.scripts.begin(Running::new("f".to_owned(), Vec::new(), false));
    let held = node.locks.lock(&stripes(b"d"));
    let reply = shell.run("TS.ADD s 11 1");
    assert!(reply.starts_with("-BUSY "), "it did not wait for the other series: {reply}");
    drop((held, script));
    assert_eq!(shell.run("TS.ADD s 11 1"), ":11");
    assert_eq!(shell.run("TS.RANGE d - +"), "*1 *2 :0 $1 1");
}
