//! Lists against a model: random commands, time, transactions, restarts; the replica holds the same
//! raw entries. And two clients at once: what one reads whole was whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::Shell;

/// Keys and elements meet each other's commands often.
const KEYS: [&str; 3] = ["a", "b", "c"];
const VALUES: [&str; 4] = ["x", "y", "zz", ""];
/// Steps of one run; a run begins with an empty database.
const STEPS: usize = 600;

type List = Vec<&'static str>;

/// What the database should hold: elements, and the last unix ms at which the key is there.
#[derive(Default)]
struct Model {
    now_ms: u64,
    lists: BTreeMap<&'static str, (List, Option<u64>)>,
}

fn bulk(value: Option<&str>) -> String {
    value.map_or_else(|| "$-1".to_owned(), |value| format!("${} {value}", value.len()))
}

fn array<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| bulk(Some(item))).collect();
    [vec![format!("*{}", items.len())], items].concat().join(" ")
}

impl Model {
    fn sweep(&mut self) {
        let now_ms = self.now_ms;
        self.lists.retain(|_, (list, until)| {
            !list.is_empty() && until.is_none_or(|until| until >= now_ms)
        });
    }

    fn get(&self, key: &str) -> &[&'static str] {
        self.lists.get(key).map_or(&[], |(list, _)| list)
    }

    /// Changes a list that is there, and nothing else.
    fn change<T: Default>(&mut self, key: &str, change: impl FnOnce(&mut List) -> T) -> T {
        let answer = self.lists.get_mut(key).map(|(list, _)| change(list)).unwrap_or_default();
        self.sweep();
        answer
    }

    fn push(&mut self, key: &'static str, is_left: bool, value: &'static str) -> usize {
        let list = &mut self.lists.entry(key).or_default().0;
        list.insert(if is_left { 0 } else { list.len() }, value);
        list.len()
    }

    fn pop(&mut self, key: &str, is_left: bool) -> Option<&'static str> {
        self.change(key, |list| {
            let last = list.len().checked_sub(1)?;
            Some(list.remove(if is_left { 0 } else { last }))
        })
    }

    fn pops(&mut self, key: &str, is_left: bool, count: usize) -> List {
        (0..count).map_while(|_| self.pop(key, is_left)).collect()
    }

    /// Where an index points, counted from either end.
    fn at(&self, key: &str, index: i64) -> Option<usize> {
        let length = self.get(key).len() as i64;
        let index = if index < 0 { index + length } else { index };
        usize::try_from(index).ok().filter(|index| *index < length as usize)
    }

    fn range(&self, key: &str, start: i64, stop: i64) -> List {
        let list = self.get(key);
        let length = list.len() as i64;
        let from_end = |index: i64| if index < 0 { index + length } else { index };
        let is_inside = |at: i64| (from_end(start)..=from_end(stop)).contains(&at);
        (0..length).filter(|at| is_inside(*at)).map(|at| list[at as usize]).collect()
    }

    fn remove(&mut self, key: &str, count: i64, value: &str) -> usize {
        self.change(key, |list| {
            let mut found: Vec<usize> = (0..list.len()).filter(|at| list[*at] == value).collect();
            if count < 0 {
                found.reverse();
            }
            if count != 0 {
                found.truncate(count.unsigned_abs() as usize);
            }
            found.sort_unstable();
            for at in found.iter().rev() {
                list.remove(*at);
            }
            found.len()
        })
    }

    fn insert(&mut self, key: &str, is_before: bool, pivot: &str, value: &'static str) -> i64 {
        self.change(key, |list| {
            let Some(at) = list.iter().position(|each| *each == pivot) else { return -1 };
            list.insert(if is_before { at } else { at + 1 }, value);
            list.len() as i64
        })
    }

    fn positions(&self, key: &str, value: &str, rank: i64, compared: usize) -> Vec<usize> {
        let list = self.get(key);
        let mut order: Vec<usize> = (0..list.len()).collect();
        if rank < 0 {
            order.reverse();
        }
        if compared > 0 {
            order.truncate(compared);
        }
        order.retain(|at| list[*at] == value);
        order.into_iter().skip(rank.unsigned_abs() as usize - 1).collect()
    }
}

fn one(from: &[&'static str], random: &mut StdRng) -> &'static str {
    from.choose(random).unwrap()
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Model) -> (String, String) {
    match random.random_range(0..16) {
        0..4 => pushes(random, model),
        4..6 => pops(random, model),
        6..8 => reads(random, model),
        8..12 => edits(random, model),
        _ => keys(random, model),
    }
}

fn pushes(random: &mut StdRng, model: &mut Model) -> (String, String) {
    let (key, is_left) = (one(&KEYS, random), random.random());
    let values: List = (0..random.random_range(1..6)).map(|_| one(&VALUES, random)).collect();
    let name = if is_left { "LPUSH" } else { "RPUSH" };
    if random.random_ratio(1, 4) {
        let is_there = model.lists.contains_key(key);
        let pushed = values.iter().map(|value| match is_there {
            true => model.push(key, is_left, value),
            false => 0,
        });
        let length = pushed.last().unwrap_or_default();
        return (format!("{name}X {key} {}", values.join(" ")), format!(":{length}"));
    }
    let length = values.iter().map(|value| model.push(key, is_left, value)).last();
    (format!("{name} {key} {}", values.join(" ")), format!(":{}", length.unwrap()))
}

fn pops(random: &mut StdRng, model: &mut Model) -> (String, String) {
    let (key, other, is_left) = (one(&KEYS, random), one(&KEYS, random), random.random());
    let count = random.random_range(0..5);
    let (name, side) = if is_left { ("LPOP", "LEFT") } else { ("RPOP", "RIGHT") };
    match random.random_range(0..3) {
        0 => (format!("{name} {key}"), bulk(model.pop(key, is_left))),
        1 => {
            let is_there = model.lists.contains_key(key);
            let popped = array(model.pops(key, is_left, count));
            let reply = if is_there { popped } else { "*-1".to_owned() };
            (format!("{name} {key} {count}"), reply)
        }
        _ => {
            let command = format!("LMPOP 2 {key} {other} {side} COUNT {}", count + 1);
            let first = [key, other].into_iter().find(|key| model.lists.contains_key(key));
            let Some(first) = first else { return (command, "*-1".to_owned()) };
            let popped = array(model.pops(first, is_left, count + 1));
            (command, format!("*2 {} {popped}", bulk(Some(first))))
        }
    }
}

fn reads(random: &mut StdRng, model: &mut Model) -> (String, String) {
    let (key, value) = (one(&KEYS, random), one(&VALUES, random));
    let (start, stop) = (random.random_range(-9..9_i64), random.random_range(-9..9_i64));
    match random.random_range(0..5) {
        0 => (format!("LLEN {key}"), format!(":{}", model.get(key).len())),
        1 => (format!("LRANGE {key} 0 -1"), array(model.get(key).iter().copied())),
        2 => (format!("LRANGE {key} {start} {stop}"), array(model.range(key, start, stop))),
        3 => {
            let value = model.at(key, start).map(|at| model.get(key)[at]);
            (format!("LINDEX {key} {start}"), bulk(value))
        }
        _ => {
            let rank = if stop == 0 { 1 } else { stop.clamp(-3, 3) };
            let (count, compared) = (random.random_range(0..4), random.random_range(0..6));
            let mut found = model.positions(key, value, rank, compared);
            if count > 0 {
                found.truncate(count);
            }
            let found: String = found.iter().map(|at| format!(" :{at}")).collect();
            (
                format!("LPOS {key} {value} RANK {rank} COUNT {count} MAXLEN {compared}"),
                format!("*{}{found}", found.matches(':').count()),
            )
        }
    }
}

fn edits(random: &mut StdRng, model: &mut Model) -> (String, String) {
    let (key, value, other) = (one(&KEYS, random), one(&VALUES, random), one(&VALUES, random));
    let (start, stop) = (random.random_range(-6..6_i64), random.random_range(-6..9_i64));
    match random.random_range(0..8) {
        0 | 1 => {
            let is_there = model.lists.contains_key(key);
            let at = model.at(key, start);
            model.change(key, |list| at.map(|at| list[at] = value));
            let reply = match (is_there, at) {
                (false, _) => "-ERR no such key",
                (true, None) => "-ERR index out of range",
                (true, Some(_)) => "+OK",
            };
            (format!("LSET {key} {start} {value}"), reply.to_owned())
        }
        2..4 => {
            let is_before = random.random();
            let word = if is_before { "BEFORE" } else { "AFTER" };
            let length = model.insert(key, is_before, value, other);
            (format!("LINSERT {key} {word} {value} {other}"), format!(":{length}"))
        }
        4..6 => {
            let count = start.clamp(-3, 3);
            let removed = model.remove(key, count, value);
            (format!("LREM {key} {count} {value}"), format!(":{removed}"))
        }
        6 => {
            let left = model.range(key, start, stop);
            model.change(key, |list| *list = left);
            (format!("LTRIM {key} {start} {stop}"), "+OK".to_owned())
        }
        _ => {
            model.change(key, |list| list.truncate(20));
            (format!("LTRIM {key} 0 19"), "+OK".to_owned())
        }
    }
}

fn keys(random: &mut StdRng, model: &mut Model) -> (String, String) {
    let (key, other) = (one(&KEYS, random), one(&KEYS, random));
    match random.random_range(0..9) {
        0..4 => {
            let (from_left, to_left) = (random.random(), random.random());
            let name = |is_left: bool| if is_left { "LEFT" } else { "RIGHT" };
            let mut command = format!("LMOVE {key} {other} {} {}", name(from_left), name(to_left));
            if !from_left && to_left {
                command = format!("RPOPLPUSH {key} {other}");
            }
            // Around one list it is never gone in between.
            let until = model.lists.get(key).and_then(|(_, until)| *until);
            let value = model.pop(key, from_left);
            if let Some(value) = value {
                model.push(other, to_left, value);
                if key == other {
                    model.lists.get_mut(key).unwrap().1 = until;
                }
            }
            (command, bulk(value))
        }
        4 => {
            let ms = random.random_range(-1..400_i64);
            let is_there = model.lists.contains_key(key);
            if let Some((_, until)) = model.lists.get_mut(key) {
                // Now is in the past already, unlike an end that is reached later.
                let end = if ms > 0 { model.now_ms.saturating_add_signed(ms) } else { 0 };
                *until = Some(end);
            }
            model.sweep();
            (format!("PEXPIRE {key} {ms}"), format!(":{}", u8::from(is_there)))
        }
        5 => {
            let Some(list) = model.lists.remove(key) else {
                return (format!("RENAME {key} {other}"), "-ERR no such key".to_owned());
            };
            model.lists.insert(other, list);
            (format!("RENAME {key} {other}"), "+OK".to_owned())
        }
        6 if key != other => {
            let copied = model.lists.get(key).cloned();
            let reply = format!(":{}", u8::from(copied.is_some()));
            model.lists.extend(copied.map(|list| (other, list)));
            (format!("COPY {key} {other} REPLACE"), reply)
        }
        7 => {
            let names = model.lists.keys().copied();
            (("SCAN 0 COUNT 100 TYPE list").to_owned(), format!("*2 $1 0 {}", array(names)))
        }
        _ => {
            let was = model.lists.remove(key).is_some();
            (format!("DEL {key}"), format!(":{}", u8::from(was)))
        }
    }
}

/// Some commands as one transaction.
fn transaction(random: &mut StdRng, model: &mut Model, shell: &mut Shell) {
    assert_eq!(shell.run("MULTI"), "+OK");
    let count = random.random_range(1..8);
    let (mut commands, mut replies) = (Vec::new(), vec![format!("*{count}")]);
    for _ in 0..count {
        let (command, reply) = step(random, model);
        assert_eq!(shell.run(&command), "+QUEUED", "{command}");
        commands.push(command);
        replies.push(reply);
    }
    let wanted = replies.join(" ");
    assert_eq!(shell.run("EXEC"), wanted.trim_end(), "{commands:?}");
}

fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut shell = Shell::new();
    shell.follow();
    let mut model = Model { now_ms: shell.now_ms(), ..Model::default() };
    for number in 0..STEPS {
        match random.random_range(0..40) {
            0 if number % 8 == 0 => shell.restart(),
            1..3 => {
                let ms = random.random_range(1..100);
                shell.advance(ms);
                model.now_ms += ms;
                model.sweep();
            }
            3..7 => transaction(&mut random, &mut model, &mut shell),
            _ => {
                let (command, wanted) = step(&mut random, &mut model);
                let said = shell.run(&command);
                assert_eq!(said, wanted.trim_end(), "seed {seed}, step {number}: {command}");
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
fn lists_are_what_the_model_says() {
    let first = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or(1);
    (first..first + 5).for_each(run);
}

/// A list turns while another client reads it: every reply is a state that was, and no element is
/// ever away.
#[test]
fn a_list_that_turns_is_read_as_it_was_at_one_moment() {
    let mut shell = Shell::new();
    let names: Vec<String> = (0..20).map(|number| format!("e{number:02}")).collect();
    shell.run(&format!("RPUSH l {}", names.join(" ")));
    let mut states: Vec<String> = Vec::new();
    for turn in 0..names.len() {
        let (end, begin) = names.split_at(turn);
        states.push(array(begin.iter().chain(end).map(String::as_str)));
    }
    let (mut writer, is_done) = (shell.beside(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let is_done = &is_done;
        scope.spawn(move || {
            for number in 0..1500 {
                match number % 500 {
                    0..300 => writer.run("LMOVE l l LEFT RIGHT"),
                    _ => writer.run("RPOPLPUSH l l"),
                };
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut reads = 0;
        while !is_done.load(Ordering::SeqCst) {
            let reply = shell.run("LRANGE l 0 -1");
            assert!(states.contains(&reply), "{reply}");
            for command in ["LINDEX l 0", "LINDEX l -1"] {
                assert!(shell.run(command).starts_with("$3 e"), "{command}");
            }
            assert_ne!(shell.run("LPOS l e07"), "$-1");
            assert_eq!(shell.run("LLEN l"), ":20");
            reads += 1;
        }
        assert!(reads > 10, "{reads} reads");
    });
}

#[test]
fn what_lies_outside_of_the_indexes_is_never_met() {
    let mut shell = Shell::new();
    // A list as Kvrocks makes it, of version 0, and an element of an earlier life of it.
    let mut writer = storage::batch::Writer::new(Vec::new());
    let element = |index: u64| {
        [b"\x0b__namespace\0\0\0\x01l\0\0\0\0\0\0\0\0".as_slice(), &index.to_be_bytes()].concat()
    };
    let middle = u64::MAX / 2;
    let head = [&[0x83][..], &[0; 16], &1_u64.to_be_bytes(), &middle.to_be_bytes()].concat();
    let head = [&head[..], &(middle + 1).to_be_bytes()].concat();
    writer.put(storage::Family::Default, &[&element(middle)], &[b"a"]);
    writer.put(storage::Family::Default, &[&element(middle + 1)], &[b"gone"]);
    writer.put(storage::Family::Default, &[&element(middle - 1)], &[b"gone"]);
    writer.put(storage::Family::Metadata, &[b"\x0b__namespacel"], &[&head]);
    let batch = writer.finish();
    batch[..8].copy_from_slice(&(shell.sequence() + 1).to_le_bytes());
    shell.apply(batch);
    for (command, reply) in [
        ("LRANGE l 0 -1", "*1 $1 a"),
        ("LPOS l gone", "$-1"),
        ("LREM l 0 gone", ":0"),
        ("LINSERT l AFTER gone x", ":-1"),
        ("LINDEX l 1", "$-1"),
        ("LINSERT l AFTER a b", ":2"),
        ("LRANGE l 0 -1", "*2 $1 a $1 b"),
        ("COPY l k", ":1"),
        ("LRANGE k 0 -1", "*2 $1 a $1 b"),
        ("LREM l 1 a", ":1"),
        ("LPOP l 9", "*1 $1 b"),
        ("EXISTS l", ":0"),
    ] {
        assert_eq!(shell.run(command), reply, "{command}");
    }
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let mut shell = Shell::new();
    shell.run("RPUSH l a b");
    shell.run("RPUSH one a");
    let before = shell.sequence();
    for command in [
        "LSET l 0 a",
        "LTRIM l 0 -1",
        "LTRIM l -9 9",
        "LREM l 0 x",
        "LINSERT l BEFORE x y",
        "LPOP l 0",
        "LPUSHX none a",
        "LMOVE l l LEFT LEFT",
        "LMOVE one one LEFT RIGHT",
        "LMOVE none l LEFT RIGHT",
        "LMPOP 1 none LEFT",
    ] {
        shell.run(command);
        assert_eq!(shell.sequence(), before, "{command}");
    }
}

#[test]
fn a_sorted_list_is_stored_as_one_that_is_made_anew() {
    let mut shell = Shell::new();
    shell.follow();
    shell.run("RPUSH l 3 1 2");
    shell.run("SET d v PX 100");
    shell.run("MSET w1 9 w2 8");
    for (command, reply) in [
        ("SORT l STORE d", ":3"),
        ("LRANGE d 0 -1", "*3 $1 1 $1 2 $1 3"),
        ("PTTL d", ":-1"),
        ("SORT d BY w* GET w* DESC STORE d", ":3"),
        ("LRANGE d 0 -1", "*3 $1 9 $1 8 $0"),
        ("SORT l LIMIT 9 9 STORE d", ":0"),
        ("EXISTS d", ":0"),
        ("SORT l BY x*->f GET #", "*3 $1 1 $1 2 $1 3"),
    ] {
        assert_eq!(shell.run(command), reply, "{command}");
    }
    shell.run("MULTI");
    shell.run("RPUSH l 0");
    shell.run("SORT l STORE l");
    shell.run("LPOP l 2");
    assert_eq!(shell.run("EXEC"), "*3 :4 :4 *2 $1 0 $1 1");
    shell.assert_replica_is_equal();
}
