//! Sets against a model: random commands, time, transactions, restarts; the replica holds the same
//! raw entries. And two clients at once: what one reads of several sets was so at one moment.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng as _;
use rand::rngs::StdRng;
use storage::Family;
use storage::batch::{self, Record};

use super::Shell;
use super::model::{self, Check, KEYS, Keyspace, Said, Value, any, array};

/// Members meet each other's commands often.
const MEMBERS: [&str; 5] = ["1", "2", "x", "xy", "z"];

type Set = BTreeSet<&'static str>;

fn number(count: usize) -> Said<Set> {
    format!(":{count}").into()
}

fn members(set: &Set) -> Said<Set> {
    array(set.iter().copied()).into()
}

impl Keyspace<Set> {
    fn get(&self, key: &str) -> Set {
        self.value(key).cloned().unwrap_or_default()
    }

    fn add(&mut self, key: &'static str, names: &[&'static str]) -> usize {
        let set = self.value_mut(key);
        names.iter().filter(|name| set.insert(name)).count()
    }

    fn remove(&mut self, key: &str, names: &[&str]) -> usize {
        let Some((set, _)) = self.entries.get_mut(key) else { return 0 };
        let removed = names.iter().filter(|name| set.remove::<str>(name)).count();
        self.sweep();
        removed
    }

    fn combined(&self, how: &str, keys: &[&str]) -> Set {
        let sets = keys.iter().map(|key| self.get(key));
        let both = |one: Set, other: Set| match how {
            "SUNION" => &one | &other,
            "SINTER" => &one & &other,
            _ => &one - &other,
        };
        sets.reduce(both).unwrap_or_default()
    }
}

/// So many of these members, each once, in any order; without a count as one bulk string. The model
/// loses what was popped.
fn some(command: &str, count: Option<usize>, set: Set) -> (String, Said<Set>) {
    let (command, asked) = (command.to_owned(), command.to_owned());
    let check: Check<Set> = Box::new(move |model, reply| {
        let found: Vec<&str> =
            reply.split(' ').filter(|word| !word.starts_with(['$', '*'])).collect();
        let found_once: Set =
            MEMBERS.into_iter().filter(|name| found.contains(name) && set.contains(name)).collect();
        assert_eq!(found.len(), found_once.len(), "{command}: {reply}");
        assert_eq!(found.len(), count.unwrap_or(1).min(set.len()), "{command}: {reply}");
        if let (None, []) = (count, &*found) {
            assert_eq!(reply, "$-1");
        }
        if let Some(rest) = command.strip_prefix("SPOP ") {
            model.remove(rest.split(' ').next().unwrap(), &found);
        }
    });
    (asked, Said::ByChance(check))
}

impl Value for Set {
    const TYPE: &'static str = "set";

    fn is_nothing(&self) -> bool {
        self.is_empty()
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        step(random, model)
    }
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Set>) -> (String, Said<Set>) {
    let (key, other, third) = (any(&KEYS, random), any(&KEYS, random), any(&KEYS, random));
    let (member, second) = (any(&MEMBERS, random), any(&MEMBERS, random));
    let how = any(&["SUNION", "SINTER", "SDIFF"], random);
    let count = random.random_range(0..5);
    match random.random_range(0..17) {
        0..=2 => {
            let added = model.add(key, &[member, second, member]);
            (format!("SADD {key} {member} {second} {member}"), number(added))
        }
        3 => {
            let removed = model.remove(key, &[member, second]);
            (format!("SREM {key} {member} {second}"), number(removed))
        }
        4 => (format!("SMEMBERS {key}"), members(&model.get(key))),
        5 => (format!("SCARD {key}"), number(model.get(key).len())),
        6 => {
            let held = usize::from(model.get(key).contains(member));
            (format!("SISMEMBER {key} {member}"), number(held))
        }
        7 => {
            let held = [member, second].map(|name| u8::from(model.get(key).contains(name)));
            let said = format!("*2 :{} :{}", held[0], held[1]);
            (format!("SMISMEMBER {key} {member} {second}"), said.into())
        }
        8 => some(&format!("SPOP {key}"), None, model.get(key)),
        9 => some(&format!("SPOP {key} {count}"), Some(count), model.get(key)),
        10 => some(&format!("SRANDMEMBER {key} {count}"), Some(count), model.get(key)),
        11 => {
            let is_there = model.get(key).contains(member);
            if is_there && key != other {
                model.remove(key, &[member]);
                model.add(other, &[member]);
            }
            (format!("SMOVE {key} {other} {member}"), number(usize::from(is_there)))
        }
        12 | 13 => (format!("{how} {key} {other}"), members(&model.combined(how, &[key, other]))),
        14 => {
            let found = model.combined("SINTER", &[key, other]).len();
            let limited = if count == 0 { found } else { found.min(count) };
            (format!("SINTERCARD 2 {key} {other} LIMIT {count}"), number(limited))
        }
        _ => {
            let result = model.combined(how, &[other, third]);
            let size = result.len();
            model.replace(key, result);
            (format!("{how}STORE {key} {other} {third}"), number(size))
        }
    }
}

#[test]
fn sets_are_what_the_model_says() {
    model::runs::<Set>();
}

#[test]
fn a_walk_meets_every_member_once_and_ends() {
    let mut shell = Shell::new();
    for number in 0..100 {
        shell.run(&format!("SADD s m{number:02}"));
    }
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let reply = shell.run(&format!("SSCAN s {cursor} COUNT 7"));
        let words: Vec<&str> =
            reply.split(' ').filter(|word| !word.starts_with(['$', '*'])).collect();
        cursor = words[0].to_owned();
        seen.extend(words[1..].iter().map(|member| (*member).to_owned()));
        // What is written behind the cursor is met, what lies before it is not met.
        shell.run("SADD s a z");
        if cursor == "0" {
            break;
        }
    }
    let mut expected: Vec<String> = (0..100).map(|number| format!("m{number:02}")).collect();
    expected.push("z".to_owned());
    assert_eq!(seen, expected);
    assert_eq!(shell.run("SSCAN s 0 MATCH m1? COUNT 3").matches("$3 m1").count(), 3);
}

/// What was recorded in two batches is one here, with the same records.
#[test]
fn a_member_moves_in_one_batch() {
    let mut shell = Shell::new();
    shell.run("SADD s1 a");
    shell.run("SADD s2 b");
    // The end of the key: what is before it is the same, or a time.
    let name = |family: Family, key: &[u8]| {
        let length = if family == Family::Metadata { 2 } else { 1 };
        format!("{family:?} {}", key[key.len() - length..].escape_ascii())
    };
    let mut moved = |command: &str| -> Vec<String> {
        let before = shell.sequence();
        shell.run(command);
        let batches = shell.batches_since(before);
        assert!(batches.len() <= 1, "{command}");
        let records = batches.iter().flat_map(|batch| batch::records(batch));
        let told = records.map(|record| match record.unwrap() {
            Record::LogData(data) => format!("log {}", data.escape_ascii()),
            Record::Put { family, key, .. } => format!("put {}", name(family, key)),
            Record::Delete { family, key } => format!("delete {}", name(family, key)),
            Record::DeleteRange { .. } => "range".to_owned(),
        });
        told.collect()
    };
    let out = ["log 4", "delete Default a", "delete Metadata s1"];
    let into = ["log 4", "put Default a", "put Metadata s2"];
    assert_eq!(moved("SMOVE s1 s2 a"), [out, into].concat());
    // It is in both: it leaves the one. Twice the same set: nothing happens.
    moved("SADD s1 a");
    assert_eq!(moved("SMOVE s1 s2 a"), out);
    assert!(moved("SMOVE s2 s2 a").is_empty());
    assert!(moved("SMOVE s2 s1 nope").is_empty());
}

#[test]
fn what_is_emptied_stays_or_goes_as_recorded_and_comes_back_anew() {
    let mut shell = Shell::new();
    let heads = |shell: &Shell| {
        let pairs = shell.pairs();
        pairs.iter().filter(|(family, ..)| *family == Family::Metadata).count()
    };
    for (command, left) in [
        ("SREM s x y", 0),
        ("SMOVE s t x", 1),
        ("SPOP s 2", 1),
        ("SINTERSTORE s s nokey", 1),
        ("SDIFFSTORE s s s", 1),
        ("SUNIONSTORE s nokey", 1),
    ] {
        shell.run("FLUSHDB");
        shell.run(if command.starts_with("SMOVE") { "SADD s x" } else { "SADD s x y" });
        shell.run("PEXPIRE s 100000");
        shell.run(command);
        assert_eq!(heads(&shell), left, "{command}");
        assert_eq!(shell.run("EXISTS s"), ":0", "{command}");
        assert_eq!((shell.run("SADD s z"), shell.run("SMEMBERS s")), (":1".into(), array(["z"])));
        assert_eq!(shell.run("PTTL s"), ":-1", "{command}");
    }
}

/// One client swaps two sets, another one combines them: every reply is of one moment.
#[test]
fn sets_are_combined_as_they_were_at_one_moment() {
    let mut shell = Shell::new();
    let names = |from: u32| -> Vec<String> { (from..from + 40).map(|n| n.to_string()).collect() };
    let (one, two) = (names(100), names(200));
    let add = |key: &str, names: &[String]| format!("SADD {key} {}", names.join(" "));
    shell.run(&add("a", &one));
    shell.run(&add("b", &two));
    let states = |sets: &[&[String]]| array(sets.concat().iter().map(String::as_str));
    // There is always one of the two, or both; never one of them twice.
    let unions = [states(&[&one, &two]), states(&[&one]), states(&[&two])];
    let (mut writer, is_done) = (shell.beside(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let is_done = &is_done;
        scope.spawn(move || {
            for _ in 0..300 {
                writer.run("RENAME a hidden");
                writer.run("RENAME b a");
                writer.run("RENAME hidden b");
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut reads = 0;
        while !is_done.load(Ordering::SeqCst) {
            let union = shell.run("SUNION a b");
            assert!(unions.contains(&union), "{union}");
            for command in ["SINTER a b", "SDIFF a a"] {
                assert_eq!(shell.run(command), "*0", "{command}");
            }
            let difference = shell.run("SDIFF a b");
            assert!(unions[1..].contains(&difference) || difference == "*0", "{difference}");
            assert_eq!(shell.run("SINTERCARD 2 a b"), ":0");
            reads += 1;
        }
        assert!(reads > 10, "{reads} reads");
    });
}
