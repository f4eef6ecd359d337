//! Streams against a model: random commands, time, transactions, restarts; the replica holds the
//! same raw entries.

use std::collections::BTreeMap;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, array, bulk, flag};

type Id = (u64, u64);

const GROUPS: [&str; 2] = ["g", "long"];
/// Of two lengths: on disk the shorter names come first, in replies they do not.
const CONSUMERS: [&str; 3] = ["b", "aa", "c"];
const VALUES: [&str; 3] = ["x", "yy", ""];

#[derive(Clone, Default)]
struct Stream {
    entries: BTreeMap<Id, &'static str>,
    last: Id,
    added: u64,
    groups: BTreeMap<&'static str, Group>,
}

#[derive(Clone, Default)]
struct Group {
    last: Id,
    /// To whom, when and how often.
    pending: BTreeMap<Id, (&'static str, u64, u64)>,
    /// With the times at which each last asked, and last got something.
    consumers: BTreeMap<&'static str, (u64, u64)>,
}

fn text(id: Id) -> String {
    format!("{}-{}", id.0, id.1)
}

fn entry((id, value): (&Id, &&str)) -> String {
    format!("*2 {} *2 $1 f {}", bulk(Some(&text(*id))), bulk(Some(value)))
}

/// An array of what is RESP already.
fn listing(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    [vec![format!("*{}", items.len())], items].concat().join(" ")
}

fn ids(ids: &[Id]) -> String {
    array(ids.iter().map(|id| text(*id)).collect::<Vec<_>>().iter().map(String::as_str))
}

impl Stream {
    fn entries_of(&self, ids: &[Id], only_ids: bool) -> String {
        match only_ids {
            true => self::ids(ids),
            false => listing(ids.iter().filter_map(|id| self.entries.get_key_value(id)).map(entry)),
        }
    }

    fn after(&self, id: Id, count: usize) -> Vec<Id> {
        self.entries.keys().filter(|other| **other > id).take(count).copied().collect()
    }

    /// Removes what a trim of this form removes.
    fn trim(&mut self, form: &Trim) -> usize {
        let before = self.entries.len();
        match form {
            Trim::No => {}
            Trim::Length(length) => {
                while self.entries.len() > *length {
                    self.entries.pop_first();
                }
            }
            Trim::From(id) => self.entries.retain(|other, _| other >= id),
        }
        before - self.entries.len()
    }
}

enum Trim {
    No,
    Length(usize),
    From(Id),
}

impl Trim {
    fn draw(random: &mut StdRng, stream: Option<&Stream>) -> (Self, String) {
        let length = random.random_range(0..6);
        match random.random_range(0..4) {
            0 => (Self::Length(length), format!("MAXLEN {length} ")),
            1 => {
                let id = near(random, stream);
                (Self::From(id), format!("MINID = {} ", text(id)))
            }
            _ => (Self::No, String::new()),
        }
    }
}

/// An identifier that is there, or beside one.
fn near(random: &mut StdRng, stream: Option<&Stream>) -> Id {
    let Some(stream) = stream else { return (random.random_range(0..3), 1) };
    let known: Vec<Id> = stream.entries.keys().copied().chain([stream.last]).collect();
    let (ms, seq) = known[random.random_range(0..known.len())];
    match random.random_range(0..4) {
        0 => (ms, seq + 1),
        1 => (ms.saturating_sub(1), seq),
        _ => (ms, seq),
    }
}

impl Value for Stream {
    const TYPE: &'static str = "stream";

    fn is_nothing(&self) -> bool {
        false
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let key = any(&KEYS, random);
        let (command, reply) = match random.random_range(0..20) {
            0..7 => add(random, model, key),
            7..10 => read(random, model, key),
            10..12 => remove(random, model, key),
            12..14 => group(random, model, key),
            _ => in_group(random, model, key),
        };
        (command, reply.into())
    }
}

fn add(random: &mut StdRng, model: &mut Keyspace<Stream>, key: &'static str) -> (String, String) {
    let (now_ms, stream) = (model.now_ms, model.value(key));
    let last = stream.map_or((0, 0), |stream| stream.last);
    let (trim, trim_words) = Trim::draw(random, stream);
    let (word, id) = match random.random_range(0..4) {
        0 => ("*".to_owned(), if now_ms > last.0 { (now_ms, 0) } else { (last.0, last.1 + 1) }),
        1 => {
            let ms = last.0 + random.random_range(0..2);
            (format!("{ms}-*"), (ms, if ms == last.0 { last.1 + 1 } else { 0 }))
        }
        _ => {
            let id = (last.0 + random.random_range(0..3), random.random_range(0..3));
            (text(id), id)
        }
    };
    let (value, keeps_missing) = (any(&VALUES, random), random.random_ratio(1, 5));
    let option = if keeps_missing { "NOMKSTREAM " } else { "" };
    let command = format!("XADD {key} {option}{trim_words}{word} f {value}");
    if id == (0, 0) {
        return (command, "-ERR The ID specified in XADD must be greater than 0-0".to_owned());
    }
    if keeps_missing && stream.is_none() {
        return (command, bulk(None));
    }
    if id <= last {
        let error =
            "-ERR The ID specified in XADD is equal or smaller than the target stream top item";
        return (command, error.to_owned());
    }
    let stream = model.value_mut(key);
    stream.entries.insert(id, value);
    stream.last = id;
    stream.added += 1;
    stream.trim(&trim);
    (command, bulk(Some(&text(id))))
}

fn read(random: &mut StdRng, model: &mut Keyspace<Stream>, key: &'static str) -> (String, String) {
    let stream = model.value(key);
    let (from, to) = (near(random, stream), near(random, stream));
    let count = random.random_range(1..5);
    let nothing = Stream::default();
    let found = stream.unwrap_or(&nothing);
    match random.random_range(0..5) {
        0 => (format!("XLEN {key}"), format!(":{}", found.entries.len())),
        1 => {
            let within = found.entries.iter().filter(|(id, _)| (from..=to).contains(*id));
            let reply = listing(within.take(count).map(entry));
            (format!("XRANGE {key} {} {} COUNT {count}", text(from), text(to)), reply)
        }
        2 => {
            let within = found.entries.iter().rev().filter(|(id, _)| (from..to).contains(*id));
            let reply = match to {
                (0, 0) => "-ERR invalid end ID for the interval".to_owned(),
                _ => listing(within.map(entry)),
            };
            (format!("XREVRANGE {key} ({} {}", text(to), text(from)), reply)
        }
        3 => {
            let behind = found.after(from, count);
            let reply = match behind.is_empty() {
                true => "*-1".to_owned(),
                false => {
                    format!("*1 *2 {} {}", bulk(Some(key)), found.entries_of(&behind, false))
                }
            };
            (format!("XREAD COUNT {count} STREAMS {key} {}", text(from)), reply)
        }
        _ => (format!("XRANGE {key} - +"), listing(found.entries.iter().map(entry))),
    }
}

fn remove(
    random: &mut StdRng,
    model: &mut Keyspace<Stream>,
    key: &'static str,
) -> (String, String) {
    let stream = model.value(key);
    let (first, second) = (near(random, stream), near(random, stream));
    let mut nothing = Stream::default();
    match random.random_range(0..5) {
        0..3 => {
            let command = format!("XDEL {key} {} {}", text(first), text(second));
            let stream = model.entries.get_mut(key).map_or(&mut nothing, |(stream, _)| stream);
            let gone = [first, second].map(|id| usize::from(stream.entries.remove(&id).is_some()));
            (command, format!(":{}", gone.iter().sum::<usize>()))
        }
        3 => {
            let (trim, words) = Trim::draw(random, stream);
            let (trim, words) = match trim {
                Trim::No => (Trim::Length(2), "MAXLEN = 2".to_owned()),
                _ => (trim, words.trim_end().to_owned()),
            };
            let stream = model.entries.get_mut(key).map_or(&mut nothing, |(stream, _)| stream);
            (format!("XTRIM {key} {words}"), format!(":{}", stream.trim(&trim)))
        }
        _ => {
            let command = format!("XSETID {key} {}", text(first));
            let Some((stream, _)) = model.entries.get_mut(key) else {
                return (command, "-ERR no such key".to_owned());
            };
            if stream.entries.keys().next_back().is_some_and(|last| *last > first) {
                let error =
                    "-ERR The ID specified in XSETID is smaller than the target stream top item";
                return (command, error.to_owned());
            }
            stream.last = first;
            (command, "+OK".to_owned())
        }
    }
}

/// What XGROUP makes and removes.
fn group(random: &mut StdRng, model: &mut Keyspace<Stream>, key: &'static str) -> (String, String) {
    let (name, consumer) = (any(&GROUPS, random), any(&CONSUMERS, random));
    let (id, now_ms) = (near(random, model.value(key)), model.now_ms);
    let missing = "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you \
                   may want to use the MKSTREAM option to create an empty stream automatically.";
    let no_group = format!("-NOGROUP No such consumer group '{name}' for key name '{key}'");
    let is_end = random.random_ratio(1, 3);
    let position = if is_end { "$".to_owned() } else { text(id) };
    match random.random_range(0..9) {
        0..4 => {
            let command = format!("XGROUP CREATE {key} {name} {position} MKSTREAM");
            let stream = model.value_mut(key);
            if stream.groups.contains_key(name) {
                return (command, "-BUSYGROUP Consumer Group name already exists".to_owned());
            }
            let last = if is_end { stream.last } else { id };
            stream.groups.insert(name, Group { last, ..Group::default() });
            (command, "+OK".to_owned())
        }
        number => {
            let command = match number {
                4 => format!("XGROUP DESTROY {key} {name}"),
                5..7 => format!("XGROUP CREATECONSUMER {key} {name} {consumer}"),
                7 => format!("XGROUP DELCONSUMER {key} {name} {consumer}"),
                _ => format!("XGROUP SETID {key} {name} {position}"),
            };
            let Some((stream, _)) = model.entries.get_mut(key) else {
                return (command, missing.to_owned());
            };
            if number == 4 {
                return (command, flag(stream.groups.remove(name).is_some()));
            }
            let end = stream.last;
            let Some(group) = stream.groups.get_mut(name) else { return (command, no_group) };
            let reply = match number {
                5..7 => {
                    let is_new = !group.consumers.contains_key(consumer);
                    group.consumers.entry(consumer).or_insert((now_ms, now_ms));
                    flag(is_new)
                }
                7 => {
                    let before = group.pending.len();
                    group.pending.retain(|_, (theirs, ..)| *theirs != consumer);
                    group.consumers.remove(consumer);
                    format!(":{}", before - group.pending.len())
                }
                _ => {
                    group.last = if is_end { end } else { id };
                    "+OK".to_owned()
                }
            };
            (command, reply)
        }
    }
}

/// What consumers of a group do.
fn in_group(
    random: &mut StdRng,
    model: &mut Keyspace<Stream>,
    key: &'static str,
) -> (String, String) {
    let (name, consumer) = (any(&GROUPS, random), any(&CONSUMERS, random));
    let (id, other) = (near(random, model.value(key)), near(random, model.value(key)));
    let now_ms = model.now_ms;
    let kind = random.random_range(0..14);
    let (count, idle_ms) = (random.random_range(1..5), random.random_range(0..2) * 60);
    let (noack, only_ids) = (random.random_ratio(1, 5), random.random_ratio(1, 3));
    let force = random.random_ratio(1, 2);
    let word = |is_so, word| if is_so { word } else { "" };
    let just = word(only_ids, " JUSTID");
    let command = match kind {
        0..4 => {
            let noack = word(noack, "NOACK ");
            format!("XREADGROUP GROUP {name} {consumer} COUNT {count} {noack}STREAMS {key} >")
        }
        4 => format!("XREADGROUP GROUP {name} {consumer} STREAMS {key} {}", text(id)),
        5..7 => format!("XACK {key} {name} {} {}", text(id), text(other)),
        7..9 => {
            let force = word(force, " FORCE");
            format!(
                "XCLAIM {key} {name} {consumer} {idle_ms} {} {}{just}{force}",
                text(id),
                text(other)
            )
        }
        9 => {
            format!("XAUTOCLAIM {key} {name} {consumer} {idle_ms} {} COUNT {count}{just}", text(id))
        }
        10 => format!("XPENDING {key} {name}"),
        11 => format!("XPENDING {key} {name} IDLE {idle_ms} - + {count}"),
        12 => format!("XPENDING {key} {name} - + {count} {consumer}"),
        _ => format!("XINFO CONSUMERS {key} {name}"),
    };
    let is_there = model.entries.contains_key(key);
    let found = model.entries.get_mut(key).and_then(|(stream, _)| {
        let group = stream.groups.get_mut(name)?;
        Some((&mut stream.entries, group))
    });
    let Some((entries, group)) = found else {
        let reply = match kind {
            0..5 => format!(
                "-NOGROUP No such key '{key}' or consumer group '{name}' in XREADGROUP with GROUP option"
            ),
            5..7 => ":0".to_owned(),
            13 if !is_there => "-ERR no such key".to_owned(),
            13 => format!("-NOGROUP No such consumer group '{name}' for key name '{key}'"),
            _ => format!("-NOGROUP No such key '{key}' or consumer group '{name}'"),
        };
        return (command, reply);
    };
    let mut scene = Scene { entries, group, consumer, now_ms };
    let reply = match kind {
        0..4 => scene.read(key, count, noack),
        4 => scene.history(key, id),
        5..7 => {
            let gone = [id, other].map(|id| usize::from(scene.group.pending.remove(&id).is_some()));
            format!(":{}", gone.iter().sum::<usize>())
        }
        7..9 => scene.claim(&[id, other], (idle_ms, only_ids, force)),
        9 => scene.autoclaim((id, count), (idle_ms, only_ids)),
        10 => scene.summary(),
        11 => scene.pending(count, |_, since| since >= idle_ms),
        12 => scene.pending(count, |theirs, _| theirs == consumer),
        _ => scene.consumers(),
    };
    (command, reply)
}

/// A group and who asks.
struct Scene<'m> {
    entries: &'m mut BTreeMap<Id, &'static str>,
    group: &'m mut Group,
    consumer: &'static str,
    now_ms: u64,
}

impl Scene<'_> {
    fn asks(&mut self, gets_some: bool) {
        let now_ms = self.now_ms;
        let known = self.group.consumers.entry(self.consumer).or_insert((now_ms, now_ms));
        *known = (now_ms, if gets_some { now_ms } else { known.1 });
    }

    /// What got nothing is noted at most once a second.
    fn asks_in_vain(&mut self) {
        let known = self.group.consumers.get(self.consumer);
        if known.is_none_or(|(seen, _)| self.now_ms - seen >= 1000) {
            self.asks(false);
        }
    }

    fn listed(&self, ids: &[Id], only_ids: bool) -> String {
        match only_ids {
            true => self::ids(ids),
            false => listing(ids.iter().filter_map(|id| self.entries.get_key_value(id)).map(entry)),
        }
    }

    fn read(&mut self, key: &str, count: usize, noack: bool) -> String {
        let last = self.group.last;
        let new: Vec<Id> =
            self.entries.keys().filter(|id| **id > last).take(count).copied().collect();
        let Some(end) = new.last() else {
            self.asks_in_vain();
            return "*-1".to_owned();
        };
        self.group.last = *end;
        self.asks(!noack);
        if !noack {
            let delivered = new.iter().map(|id| (*id, (self.consumer, self.now_ms, 1)));
            self.group.pending.extend(delivered);
        }
        format!("*1 *2 {} {}", bulk(Some(key)), self.listed(&new, false))
    }

    fn history(&mut self, key: &str, after: Id) -> String {
        self.asks(false);
        let (mut shown, now_ms) = (Vec::new(), self.now_ms);
        for (id, (consumer, since, count)) in &mut self.group.pending {
            if *consumer != self.consumer || *id <= after {
                continue;
            }
            shown.push(match self.entries.get_key_value(id) {
                Some(found) => {
                    // It is delivered once more.
                    (*since, *count) = (now_ms, *count + 1);
                    entry(found)
                }
                None => format!("*2 {} *-1", bulk(Some(&text(*id)))),
            });
        }
        format!("*1 *2 {} {}", bulk(Some(key)), listing(shown))
    }

    fn take(&mut self, id: Id, only_ids: bool) {
        let before = self.group.pending.get(&id).map_or(1, |(.., count)| *count);
        let count = before + u64::from(!only_ids);
        self.asks(true);
        self.group.pending.insert(id, (self.consumer, self.now_ms, count));
    }

    fn is_idle(&self, id: Id, idle_ms: u64) -> bool {
        let pending = self.group.pending.get(&id);
        pending.is_some_and(|(_, since, _)| self.now_ms - since >= idle_ms)
    }

    fn claim(&mut self, ids: &[Id], (idle_ms, only_ids, force): (u64, bool, bool)) -> String {
        let mut claimed = Vec::new();
        for id in ids {
            if !self.entries.contains_key(id) {
                self.group.pending.remove(id);
            } else if self.is_idle(*id, idle_ms) || force && !self.group.pending.contains_key(id) {
                self.take(*id, only_ids);
                claimed.push(*id);
            }
        }
        if claimed.is_empty() {
            self.asks_in_vain();
        }
        self.listed(&claimed, only_ids)
    }

    fn autoclaim(
        &mut self,
        (first, count): (Id, usize),
        (idle_ms, only_ids): (u64, bool),
    ) -> String {
        let known: Vec<Id> = self.group.pending.range(first..).map(|(id, _)| *id).collect();
        let (mut claimed, mut deleted, mut next) = (Vec::new(), Vec::new(), (0, 0));
        for (looked, id) in known.into_iter().enumerate() {
            if claimed.len() + deleted.len() == count || looked == count * 10 {
                next = id;
                break;
            }
            if !self.entries.contains_key(&id) {
                self.group.pending.remove(&id);
                deleted.push(id);
            } else if self.is_idle(id, idle_ms) {
                self.take(id, only_ids);
                claimed.push(id);
            }
        }
        if claimed.is_empty() {
            self.asks_in_vain();
        }
        let claimed = self.listed(&claimed, only_ids);
        format!("*3 {} {claimed} {}", bulk(Some(&text(next))), ids(&deleted))
    }

    fn summary(&self) -> String {
        let pending = &self.group.pending;
        let (Some((first, _)), Some((last, _))) =
            (pending.first_key_value(), pending.last_key_value())
        else {
            return "*4 :0 $-1 $-1 *-1".to_owned();
        };
        let counts = self.group.consumers.keys().filter_map(|name| {
            let count = pending.values().filter(|(theirs, ..)| theirs == name).count();
            (count > 0).then(|| array([*name, &*count.to_string()]))
        });
        let [first, last] = [first, last].map(|id| bulk(Some(&text(*id))));
        format!("*4 :{} {first} {last} {}", pending.len(), listing(counts))
    }

    fn pending(&self, count: usize, is_shown: impl Fn(&str, u64) -> bool) -> String {
        let shown = self
            .group
            .pending
            .iter()
            .filter(|(_, (consumer, since, _))| is_shown(consumer, self.now_ms - since));
        listing(shown.take(count).map(|(id, (consumer, since, count))| {
            let (id, consumer) = (bulk(Some(&text(*id))), bulk(Some(consumer)));
            format!("*4 {id} {consumer} :{} :{count}", self.now_ms - since)
        }))
    }

    fn consumers(&self) -> String {
        listing(self.group.consumers.iter().map(|(name, (seen, active))| {
            let pending = self.group.pending.values().filter(|(theirs, ..)| theirs == name).count();
            let [key, count, idle, inactive] =
                ["name", "pending", "idle", "inactive"].map(|word| bulk(Some(word)));
            let (name, since, got) = (bulk(Some(name)), self.now_ms - seen, self.now_ms - active);
            format!("*8 {key} {name} {count} :{pending} {idle} :{since} {inactive} :{got}")
        }))
    }
}

#[test]
fn streams_are_those_of_the_model() {
    model::runs::<Stream>();
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let mut shell = Shell::new();
    for command in ["XADD s 1-1 f v", "XADD s 2-1 f v", "XGROUP CREATE s g 0", "SET text x"] {
        shell.run(command);
    }
    shell.run("XREADGROUP GROUP g c COUNT 1 STREAMS s >");
    let before = shell.sequence();
    for command in [
        "XADD s 1-1 f v",
        "XADD none NOMKSTREAM 1-1 f v",
        "XADD text 1-1 f v",
        "XDEL s 9-9",
        "XDEL none 1-1",
        "XTRIM s MAXLEN 2",
        "XTRIM s MAXLEN ~ 1",
        "XTRIM s MINID 1",
        "XSETID s 1-1",
        "XGROUP CREATE s g 0",
        "XGROUP CREATE none g 0",
        "XGROUP DESTROY s none",
        "XGROUP CREATECONSUMER s g c",
        "XGROUP DELCONSUMER s g none",
        "XREADGROUP GROUP g c STREAMS none >",
        "XACK s g 2-1",
        "XCLAIM s g c 1000 1-1",
        "XCLAIM s g c 0 2-1",
        "XAUTOCLAIM s g c 1000 0",
        "XAUTOCLAIM s g c 0 2-1",
    ] {
        shell.run(command);
        assert_eq!(shell.sequence(), before, "{command}");
    }
}

#[test]
fn all_of_a_stream_is_shown() {
    let mut shell = Shell::new();
    shell.set_now(1000);
    for command in [
        "XADD s 1-0 f v",
        "XADD s 2-0 f v",
        "XADD s 3-0 f v",
        "XGROUP CREATE s long 0",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g b COUNT 1 STREAMS s >",
        "XREADGROUP GROUP g aa COUNT 1 STREAMS s >",
    ] {
        shell.run(command);
    }
    shell.advance(5);
    shell.run("XDEL s 1-0");
    let words = |reply: String| {
        let is_data = |word: &&str| !word.starts_with(['*', '$', '%']);
        reply.split(' ').filter(is_data).collect::<Vec<_>>().join(" ")
    };
    let beginning = "length :2 radix-tree-keys :1 radix-tree-nodes :2 last-generated-id 3-0 \
                     max-deleted-entry-id 1-0 entries-added :3 recorded-first-entry-id 2-0";
    let ends = "groups :2 first-entry 2-0 f v last-entry 3-0 f v";
    assert_eq!(words(shell.run("XINFO STREAM s")), format!("{beginning} {ends}"));
    let groups = "groups name g last-delivered-id 2-0 entries-read :2 lag :1 pel-count :2 \
                  pending 1-0 b :1000 :1 consumers \
                  name aa seen-time :1000 active-time :1000 pel-count :1 pending 2-0 :1000 :1 \
                  name b seen-time :1000 active-time :1000 pel-count :1 pending 1-0 :1000 :1 \
                  name long last-delivered-id 0-0 entries-read lag :2 pel-count :0 pending consumers";
    let full = shell.run("XINFO STREAM s FULL COUNT 1");
    assert_eq!(words(full), format!("{beginning} entries 2-0 f v {groups}"));
    let short = "*20 $6 length :2 ";
    assert!(shell.run("XINFO STREAM s").starts_with(short));
    shell.run("HELLO 3");
    let full = shell.run("XINFO STREAM s FULL");
    assert!(full.starts_with("%9 $6 length :2 ") && full.contains(" $6 groups *2 %7 "), "{full}");
    assert!(shell.run("XREAD STREAMS s 2").starts_with("%1 $1 s *1 *2 $3 3-0 "));
    let group = "*2 %6 $4 name $1 g $9 consumers :2 $7 pending :2 ";
    assert!(shell.run("XINFO GROUPS s").starts_with(group));
    assert!(shell.run("XREAD STREAMS s 9").starts_with('_'));
}

#[test]
fn a_rough_trim_removes_whole_hundreds() {
    let mut shell = Shell::new();
    for number in 1..=350 {
        shell.run(&format!("XADD s {number}-0 f v"));
    }
    for (command, reply) in [
        ("XTRIM s MAXLEN ~ 51 LIMIT 199", ":100"),
        ("XTRIM s MAXLEN ~ 151", ":0"),
        ("XTRIM s MINID ~ 200", ":0"),
        ("XTRIM s MINID ~ 202", ":100"),
        ("XADD s MAXLEN ~ 51 351-0 f v", "$5 351-0"),
        ("XLEN s", ":51"),
        ("XADD s MAXLEN ~ 0 352-0 f v", "$5 352-0"),
        ("XLEN s", ":0"),
    ] {
        assert_eq!(shell.run(command), reply, "{command}");
    }
}

/// Fields are read where bytes of another kind lie: as data of another server may hold them.
#[test]
fn groups_and_entries_of_the_last_millisecond_do_not_meet() {
    const LAST: &str = "18446744073709551615";
    let mut shell = Shell::new();
    shell.run("XGROUP CREATE s g 0 MKSTREAM");
    shell.run("XADD s 1-1 f v");
    shell.run("XREADGROUP GROUP g c STREAMS s >");
    // Its number begins as the keys of consumers do.
    let seq = 0x0200_0000_0000_0000_u64;
    shell.run(&format!("XADD s {LAST}-{seq} f v"));
    shell.run(&format!("XADD s {LAST}-* f w"));
    let second = format!("*2 $39 {LAST}-{} *2 $1 f $1 w", seq + 1);
    assert_eq!(shell.run("XREVRANGE s + - COUNT 1"), format!("*1 {second}"));
    assert_eq!(shell.run("XRANGE s (1-1 + COUNT 5").matches("$1 f").count(), 2);
    assert_eq!(shell.run("XREADGROUP GROUP g d COUNT 9 STREAMS s >").matches("$1 f").count(), 2);
    assert!(shell.run("XPENDING s g").starts_with("*4 :3 $3 1-1 "));
    assert_eq!(shell.run("XINFO CONSUMERS s g").matches("$4 name").count(), 2);
    assert_eq!(shell.run("XGROUP DESTROY s g"), ":1");
    assert_eq!(shell.run("XRANGE s - +").matches("$1 f").count(), 3);
    assert_eq!(shell.run("XTRIM s MAXLEN 0"), ":3");
    assert_eq!(shell.run("XRANGE s - +"), "*0");
}
