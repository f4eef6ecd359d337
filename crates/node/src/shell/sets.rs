//! Sets against a model: random commands, time, transactions, restarts; the replica holds the same
//! raw entries. And two clients at once: what one reads of several sets was so at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use storage::Family;
use storage::batch::{self, Record};

use super::Shell;

/// Keys and members meet each other's commands often.
const KEYS: [&str; 3] = ["a", "b", "c"];
const MEMBERS: [&str; 5] = ["1", "2", "x", "xy", "z"];
/// Steps of one run; a run begins with an empty database.
const STEPS: usize = 400;

type Set = BTreeSet<&'static str>;

/// What the database should hold: members, and the last unix ms at which the key is there.
#[derive(Default)]
struct Model {
    now_ms: u64,
    sets: BTreeMap<&'static str, (Set, Option<u64>)>,
}

/// What the model says to a command.
enum Said {
    Exactly(String),
    /// So many of these members, each once, in any order; without a count as one bulk string.
    Some(Option<usize>, Set),
}

fn bulk(value: Option<&str>) -> String {
    value.map_or_else(|| "$-1".to_owned(), |value| format!("${} {value}", value.len()))
}

fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| bulk(Some(item))).collect();
    [vec![format!("*{}", items.len())], items].concat().join(" ")
}

fn number(count: usize) -> Said {
    Said::Exactly(format!(":{count}"))
}

fn members(set: &Set) -> Said {
    Said::Exactly(list(set.iter().copied()))
}

impl Model {
    fn sweep(&mut self) {
        let now_ms = self.now_ms;
        self.sets
            .retain(|_, (set, until)| !set.is_empty() && until.is_none_or(|until| until >= now_ms));
    }

    fn get(&self, key: &str) -> Set {
        self.sets.get(key).map(|(set, _)| set.clone()).unwrap_or_default()
    }

    fn add(&mut self, key: &'static str, names: &[&'static str]) -> usize {
        let set = &mut self.sets.entry(key).or_default().0;
        names.iter().filter(|name| set.insert(name)).count()
    }

    fn remove(&mut self, key: &str, names: &[&str]) -> usize {
        let Some((set, _)) = self.sets.get_mut(key) else { return 0 };
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

/// A random command of sets, and what the model says to it.
fn step(random: &mut StdRng, model: &mut Model) -> (String, Said) {
    let mut one = |of: &[&'static str]| of[random.random_range(0..of.len())];
    let (key, other, third) = (one(&KEYS), one(&KEYS), one(&KEYS));
    let (member, second) = (one(&MEMBERS), one(&MEMBERS));
    let how = one(&["SUNION", "SINTER", "SDIFF"]);
    let count = random.random_range(0..5);
    match random.random_range(0..20) {
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
            (format!("SMISMEMBER {key} {member} {second}"), Said::Exactly(said))
        }
        8 => (format!("SPOP {key}"), Said::Some(None, model.get(key))),
        9 => (format!("SPOP {key} {count}"), Said::Some(Some(count), model.get(key))),
        10 => (format!("SRANDMEMBER {key} {count}"), Said::Some(Some(count), model.get(key))),
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
        15 | 16 => {
            let result = model.combined(how, &[other, third]);
            let size = result.len();
            model.sets.insert(key, (result, None));
            model.sweep();
            (format!("{how}STORE {key} {other} {third}"), number(size))
        }
        _ => of_any_type(random, model, key, other),
    }
}

/// The same of a command that knows any type.
fn of_any_type(
    random: &mut StdRng,
    model: &mut Model,
    key: &'static str,
    other: &'static str,
) -> (String, Said) {
    let is_there = model.sets.contains_key(key);
    match random.random_range(0..4) {
        0 => {
            let ms = random.random_range(-3..1000_i64);
            if let Some((_, until)) = model.sets.get_mut(key) {
                *until = Some(model.now_ms.saturating_add_signed(ms));
            }
            model.sweep();
            (format!("PEXPIRE {key} {ms}"), number(usize::from(is_there)))
        }
        1 => {
            let command = format!("RENAME {key} {other}");
            let Some(set) = model.sets.remove(key) else {
                return (command, Said::Exactly("-ERR no such key".to_owned()));
            };
            model.sets.insert(other, set);
            (command, Said::Exactly("+OK".to_owned()))
        }
        2 if key != other => {
            let copied = model.sets.get(key).cloned();
            model.sets.extend(copied.map(|set| (other, set)));
            (format!("COPY {key} {other} REPLACE"), number(usize::from(is_there)))
        }
        _ => {
            model.sets.remove(key);
            (format!("DEL {key}"), number(usize::from(is_there)))
        }
    }
}

/// Holds a reply against what the model says, and lets the model lose what was popped.
#[track_caller]
fn check(model: &mut Model, command: &str, said: Said, reply: &str) {
    let (count, set) = match said {
        Said::Exactly(said) => return assert_eq!(reply, said, "{command}"),
        Said::Some(count, set) => (count, set),
    };
    let found: Vec<&str> = reply.split(' ').filter(|word| !word.starts_with(['$', '*'])).collect();
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
}

/// Some commands as one transaction. What is random is known when it ends, so it comes last.
fn transaction(random: &mut StdRng, model: &mut Model, shell: &mut Shell) {
    assert_eq!(shell.run("MULTI"), "+OK");
    let (mut commands, mut replies) = (Vec::new(), Vec::new());
    let last = loop {
        let (command, said) = step(random, model);
        assert_eq!(shell.run(&command), "+QUEUED", "{command}");
        match said {
            Said::Exactly(reply) if replies.len() < 7 => replies.push(reply),
            said => break (command, said),
        }
        commands.push(command);
    };
    let reply = shell.run("EXEC");
    let begin = [vec![format!("*{}", replies.len() + 1)], replies].concat().join(" ");
    let rest = reply.strip_prefix(&*begin);
    let rest = rest.unwrap_or_else(|| panic!("{commands:?}: {reply}, not {begin}"));
    check(model, &last.0, last.1, rest.trim_start());
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
            4..8 => transaction(&mut random, &mut model, &mut shell),
            _ => {
                let (command, said) = step(&mut random, &mut model);
                let reply = shell.run(&command);
                check(&mut model, &format!("{command} (seed {seed}, {number})"), said, &reply);
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
fn sets_are_what_the_model_says() {
    let first = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or(1);
    (first..first + 5).for_each(run);
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
        assert_eq!((shell.run("SADD s z"), shell.run("SMEMBERS s")), (":1".into(), list(["z"])));
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
    let states = |sets: &[&[String]]| list(sets.concat().iter().map(String::as_str));
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
