//! Sorted sets against a model: random commands, time, transactions, restarts; the replica holds
//! the same raw entries. And two clients at once: what one reads whole was whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Shell;

/// Keys and members meet each other's commands often.
const KEYS: [&str; 3] = ["a", "b", "c"];
const MEMBERS: [&str; 5] = ["m", "n", "o", "mm", "x"];
/// Steps of one run; a run begins with an empty database.
const STEPS: usize = 400;

type Zset = BTreeMap<&'static str, i64>;

/// What the database should hold: scores, and the last unix ms at which the key is there.
#[derive(Default)]
struct Model {
    now_ms: u64,
    zsets: BTreeMap<&'static str, (Zset, Option<u64>)>,
}

fn list<S: AsRef<str>>(items: &[S]) -> String {
    let items = items.iter().map(AsRef::as_ref);
    let items = items.map(|item| format!(" ${} {item}", item.len())).collect::<String>();
    format!("*{}{items}", items.matches('$').count())
}

/// Members and scores as one flat list.
fn flat(pairs: &[(&str, i64)]) -> String {
    let words = pairs.iter().flat_map(|(member, score)| [(*member).to_owned(), score.to_string()]);
    list(&words.collect::<Vec<_>>())
}

impl Model {
    fn sweep(&mut self) {
        let now_ms = self.now_ms;
        self.zsets.retain(|_, (zset, until)| {
            !zset.is_empty() && until.is_none_or(|until| until >= now_ms)
        });
    }

    fn score(&self, key: &str, member: &str) -> Option<i64> {
        self.zsets.get(key)?.0.get(member).copied()
    }

    /// In the order of scores, then of names.
    fn all(&self, key: &str) -> Vec<(&'static str, i64)> {
        let zset = self.zsets.get(key).into_iter().flat_map(|(zset, _)| zset);
        let mut all: Vec<_> = zset.map(|(member, score)| (*member, *score)).collect();
        all.sort_by_key(|(member, score)| (*score, *member));
        all
    }

    fn set(&mut self, key: &'static str, member: &'static str, score: i64) -> bool {
        self.zsets.entry(key).or_default().0.insert(member, score).is_none()
    }

    /// Leaves only what `keeps` says; returns what is gone, in order.
    fn keep(&mut self, key: &str, keeps: impl Fn(&str, i64) -> bool) -> Vec<(&'static str, i64)> {
        let mut gone = self.all(key);
        gone.retain(|(member, score)| !keeps(member, *score));
        if let Some((zset, _)) = self.zsets.get_mut(key) {
            zset.retain(|member, score| keeps(member, *score));
        }
        self.sweep();
        gone
    }

    fn store(
        &mut self,
        key: &'static str,
        members: impl Iterator<Item = (&'static str, i64)>,
    ) -> String {
        let zset: Zset = members.collect();
        let reply = format!(":{}", zset.len());
        self.zsets.insert(key, (zset, None));
        self.sweep();
        reply
    }
}

/// A random write and what the model says to it.
fn write(random: &mut StdRng, model: &mut Model) -> (String, String) {
    let key = KEYS[random.random_range(0..KEYS.len())];
    let other = KEYS[random.random_range(0..KEYS.len())];
    let member = MEMBERS[random.random_range(0..MEMBERS.len())];
    let second = MEMBERS[random.random_range(0..MEMBERS.len())];
    let number = random.random_range(-3..6_i64);
    let bound = random.random_range(-3..6_i64);
    match random.random_range(0..10) {
        0..3 => {
            let added =
                u8::from(model.set(key, member, number)) + u8::from(model.set(key, second, bound));
            (format!("ZADD {key} {number} {member} {bound} {second}"), format!(":{added}"))
        }
        3 => {
            let old = model.score(key, member);
            if old.is_some_and(|old| number > old) {
                model.set(key, member, number);
            }
            let changed = u8::from(old.is_some_and(|old| number > old));
            (format!("ZADD {key} XX GT CH {number} {member}"), format!(":{changed}"))
        }
        4 => {
            let score = model.score(key, member).unwrap_or(0) + number;
            model.set(key, member, score);
            let text = score.to_string();
            (format!("ZINCRBY {key} {number} {member}"), format!("${} {text}", text.len()))
        }
        5 => {
            let gone = model.keep(key, |name, _| name != member && name != second).len();
            (format!("ZREM {key} {member} {second}"), format!(":{gone}"))
        }
        6 => {
            let gone = model.keep(key, |_, score| score < number || score >= bound).len();
            (format!("ZREMRANGEBYSCORE {key} {number} ({bound}"), format!(":{gone}"))
        }
        7 => {
            let last = model.all(key).pop();
            model.keep(key, |name, _| last.is_none_or(|(member, _)| name != member));
            (format!("ZPOPMAX {key}"), flat(last.as_slice()))
        }
        8 => {
            let mut union = Zset::new();
            for (member, score) in model.all(key).into_iter().chain(model.all(other)) {
                *union.entry(member).or_default() += score;
            }
            let to = KEYS[random.random_range(0..KEYS.len())];
            let reply = model.store(to, union.into_iter());
            (format!("ZUNIONSTORE {to} 2 {key} {other}"), reply)
        }
        _ => {
            let (from, count) = (model.all(other), random.random_range(0..4));
            let reply = model.store(key, from.into_iter().take(count));
            let last = count as i64 - 1;
            // An empty range of ranks: from the second one to the first one.
            let ranks = if last < 0 { "1 0".to_owned() } else { format!("0 {last}") };
            (format!("ZRANGESTORE {key} {other} {ranks}"), reply)
        }
    }
}

/// A random read and what the model says to it.
fn read(random: &mut StdRng, model: &Model) -> (String, String) {
    let key = KEYS[random.random_range(0..KEYS.len())];
    let other = KEYS[random.random_range(0..KEYS.len())];
    let member = MEMBERS[random.random_range(0..MEMBERS.len())];
    let (min, max) = (random.random_range(-3..6_i64), random.random_range(-3..6_i64));
    let mut all = model.all(key);
    match random.random_range(0..7) {
        0 => {
            let score = model.score(key, member).map(|score| score.to_string());
            let reply = score.map_or("$-1".into(), |text| format!("${} {text}", text.len()));
            (format!("ZSCORE {key} {member}"), reply)
        }
        1 => (format!("ZRANGE {key} 0 -1 WITHSCORES"), flat(&all)),
        2 => {
            all.reverse();
            all.retain(|(_, score)| (min..=max).contains(score));
            let some: Vec<_> = all.into_iter().skip(1).collect();
            let command = format!("ZREVRANGEBYSCORE {key} {max} {min} WITHSCORES LIMIT 1 -1");
            (command, flat(&some))
        }
        3 => {
            let rank = all.iter().rev().position(|(name, _)| *name == member);
            let reply = rank.map_or("$-1".into(), |rank| format!(":{rank}"));
            (format!("ZREVRANK {key} {member}"), reply)
        }
        4 => {
            all.retain(|(_, score)| (min..=max).contains(score));
            (format!("ZCOUNT {key} {min} {max}"), format!(":{}", all.len()))
        }
        5 => {
            all.retain(|(name, _)| model.score(other, name).is_none());
            (format!("ZDIFF 2 {key} {other} WITHSCORES"), flat(&all))
        }
        _ => (format!("ZCARD {key}"), format!(":{}", all.len())),
    }
}

/// A random command of keys of any type.
fn generic(random: &mut StdRng, model: &mut Model) -> (String, String) {
    let key = KEYS[random.random_range(0..KEYS.len())];
    let other = KEYS[random.random_range(0..KEYS.len())];
    match random.random_range(0..5) {
        0 => {
            let is_there = model.zsets.contains_key(key);
            let ms = random.random_range(-3..200_i64);
            if let Some((_, until)) = model.zsets.get_mut(key) {
                // A time that is not ahead is past, this very millisecond included.
                let last = if ms > 0 { ms } else { -1 };
                *until = Some(model.now_ms.saturating_add_signed(last));
            }
            model.sweep();
            (format!("PEXPIRE {key} {ms}"), format!(":{}", u8::from(is_there)))
        }
        1 => {
            let Some(zset) = model.zsets.remove(key) else {
                return (format!("RENAME {key} {other}"), "-ERR no such key".to_owned());
            };
            model.zsets.insert(other, zset);
            (format!("RENAME {key} {other}"), "+OK".to_owned())
        }
        2 if key != other => {
            let copied = model.zsets.get(key).cloned();
            let reply = format!(":{}", u8::from(copied.is_some()));
            model.zsets.extend(copied.map(|zset| (other, zset)));
            (format!("COPY {key} {other} REPLACE"), reply)
        }
        3 => {
            let kind = if model.zsets.contains_key(key) { "+zset" } else { "+none" };
            (format!("TYPE {key}"), kind.to_owned())
        }
        _ => {
            let was = model.zsets.remove(key).is_some();
            (format!("DEL {key}"), format!(":{}", u8::from(was)))
        }
    }
}

fn step(random: &mut StdRng, model: &mut Model) -> (String, String) {
    match random.random_range(0..20) {
        0..9 => write(random, model),
        9..16 => read(random, model),
        _ => generic(random, model),
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
    assert_eq!(shell.run("EXEC"), replies.join(" "), "{commands:?}");
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
                let (command, wanted) = step(&mut random, &mut model);
                let said = shell.run(&command);
                assert_eq!(said, wanted, "seed {seed}, step {number}: {command}");
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
fn sorted_sets_are_what_the_model_says() {
    let first = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or(1);
    (first..first + 5).for_each(run);
}

/// Every member has one score, and every score one member: nothing of the past stays in either
/// family.
#[test]
fn both_families_hold_the_same() {
    let mut shell = Shell::new();
    for command in [
        "ZADD z 1 a 2 b 3 c 4 d 5 e",
        "ZADD z 3 a 3 a 2 a",
        "ZADD z 7 b 2 b",
        "ZINCRBY z -0 c",
        "ZADD z -0 c",
        "ZADD z 0 c",
        "ZINCRBY z 1.5 c",
        "ZREMRANGEBYRANK z -1 -1",
        "ZREM z d d nope",
        "ZADD z XX INCR 1 nope",
    ] {
        shell.run(command);
    }
    assert_eq!(shell.run("ZRANGE z 0 -1 WITHSCORES"), "*6 $1 c $3 1.5 $1 a $1 2 $1 b $1 2");
    let count =
        |shell: &Shell, family| shell.pairs().into_iter().filter(|(of, ..)| *of == family).count();
    let (members, scores) = (storage::Family::Default, storage::Family::ZsetScore);
    assert_eq!((count(&shell, members), count(&shell, scores)), (3, 3));
    shell.run("ZPOPMIN z 9");
    assert_eq!((count(&shell, members), count(&shell, scores)), (0, 0));
    assert_eq!(
        (shell.run("EXISTS z"), shell.run("SCAN 0 TYPE zset")),
        (":0".into(), "*2 $1 0 *0".into())
    );
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let mut shell = Shell::new();
    shell.run("ZADD z 1 a 0 b");
    let before = shell.sequence();
    for command in [
        "ZADD z 1 a",
        "ZADD z 2 a 1 a",
        "ZADD z -0 b",
        "ZADD z NX 5 a",
        "ZADD z XX 5 new",
        "ZADD none XX 5 new",
        "ZADD z LT 2 a",
        "ZADD z GT INCR -1 a",
        "ZINCRBY z 0 a",
        "ZREM z nope",
        "ZREM none a",
        "ZREMRANGEBYSCORE z 5 9",
        "ZPOPMIN z 0",
        "ZPOPMIN none",
        "ZMPOP 2 none other MIN",
    ] {
        shell.run(command);
        assert_eq!(shell.sequence(), before, "{command}");
    }
}

/// A set counts as a sorted set of scores 1; its metadata and its members are as SADD makes them.
#[test]
fn sets_are_combined_with_sorted_sets() {
    let mut shell = Shell::new();
    shell.run("ZADD z 5 x 7 y");
    let mut writer = storage::batch::Writer::new(Vec::new());
    let head = [&[0x84][..], &[0; 8], &[7; 8], &[0; 7], &[2]].concat();
    writer.put(storage::Family::Metadata, &[b"\x0b__namespaces"], &[&head]);
    for member in [b"x", b"w"] {
        let key = [b"\x0b__namespace\0\0\0\x01s".as_slice(), &[7; 8], member].concat();
        writer.put(storage::Family::Default, &[&key], &[]);
    }
    let batch = writer.finish();
    batch[..8].copy_from_slice(&(shell.sequence() + 1).to_le_bytes());
    shell.apply(batch);
    assert_eq!(
        shell.run("ZUNION 2 z s WEIGHTS 1 10 WITHSCORES"),
        "*6 $1 y $1 7 $1 w $2 10 $1 x $2 15"
    );
    assert_eq!(shell.run("ZINTER 2 s z WITHSCORES"), "*2 $1 x $1 6");
    assert_eq!(shell.run("ZDIFFSTORE d 2 s z"), ":1");
    assert_eq!(shell.run("ZRANGE d 0 -1 WITHSCORES"), "*2 $1 w $1 1");
    assert!(shell.run("ZCARD s").starts_with("-WRONGTYPE"));
}

#[test]
fn a_walk_meets_every_member_once_and_ends() {
    let mut shell = Shell::new();
    for number in 0..100 {
        shell.run(&format!("ZADD z {} m{number:02}", 100 - number));
    }
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let reply = shell.run(&format!("ZSCAN z {cursor} COUNT 7"));
        let words: Vec<&str> =
            reply.split(' ').filter(|word| !word.starts_with(['$', '*'])).collect();
        cursor = words[0].to_owned();
        seen.extend(words[1..].chunks(2).map(|pair| pair[0].to_owned()));
        // A score that changes moves nothing along the walk.
        shell.run("ZINCRBY z 50 m50");
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen, (0..100).map(|number| format!("m{number:02}")).collect::<Vec<_>>());
}

/// One client rewrites all scores, another one reads them: every reply is a state that was.
#[test]
fn a_sorted_set_is_read_as_it_was_at_one_moment() {
    let mut shell = Shell::new();
    let pairs =
        |score: u32| -> String { (0..40).map(|number| format!(" {score} m{number:02}")).collect() };
    let names: Vec<String> = (0..40).map(|number| format!("m{number:02}")).collect();
    let states: Vec<String> = [1, 2, 30]
        .map(|score| flat(&names.iter().map(|name| (name.as_str(), score)).collect::<Vec<_>>()))
        .into();
    let once = list(&names);
    shell.run(&format!("ZADD z{}", pairs(1)));
    let (mut writer, is_done) = (shell.beside(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let is_done = &is_done;
        scope.spawn(move || {
            for _ in 0..150 {
                writer.run(&format!("ZADD z{}", pairs(2)));
                writer.run(&format!("ZADD other{}", pairs(30)));
                writer.run("RENAME other z");
                writer.run("ZUNIONSTORE z 1 z WEIGHTS 0.5 AGGREGATE MIN");
                writer.run(&format!("ZADD z{}", pairs(1)));
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut reads = 0;
        let halves = flat(&names.iter().map(|name| (name.as_str(), 15)).collect::<Vec<_>>());
        while !is_done.load(Ordering::SeqCst) {
            let reply = shell.run("ZRANGE z 0 -1 WITHSCORES");
            assert!(states.contains(&reply) || reply == halves, "{reply}");
            assert_eq!(shell.run("ZRANGEBYSCORE z -inf +inf"), once);
            assert_eq!(shell.run("ZCOUNT z -inf +inf"), ":40");
            assert_eq!(shell.run("ZINTERCARD 2 z z"), ":40");
            let rank = shell.run("ZREVRANK z m39");
            assert_eq!(rank, ":0");
            reads += 1;
        }
        assert!(reads > 10, "{reads} reads");
    });
}
