//! SIGKILL in the middle of commands that write much: after the restart, and at the replica, each
//! took effect as a whole or not at all, and what a key says of its size is what it has.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use testkit::restartable::Restartable;
use testkit::wait;
use testkit::wire::{Connection, Reply};

const PATIENCE: Duration = Duration::from_secs(60);
/// How often the master is killed; more where somebody looks for the one moment in thousands.
const KILLS_VARIABLE: &str = "HOLDFAST_WHOLE_KILLS";
const KILLS: usize = 24;
/// Elements of the large keys.
const MANY: usize = 3_000;
/// Elements of a destination before.
const FEW: usize = 7;
/// The kill comes within so many µs of the command.
const LATEST_US: u64 = 15_000;
const LINES: &str = "workers 2\nrocksdb.block_cache_size 16\nrocksdb.write_buffer_size 4";

struct Node(Restartable);

impl std::ops::Deref for Node {
    type Target = Restartable;

    fn deref(&self) -> &Restartable {
        &self.0
    }
}

impl std::ops::DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Restartable {
        &mut self.0
    }
}

impl Node {
    fn start() -> Result<Self> {
        Restartable::start(LINES).map(Self)
    }

    /// Replies to commands that may not fail.
    fn ask(&self, commands: &[&str]) -> Result<Vec<Reply>> {
        let mut connection = self.connect()?;
        commands.iter().map(|command| ask(&mut connection, command)).collect()
    }
}

fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}

fn ask(connection: &mut Connection, command: &str) -> Result<Reply> {
    let said = connection.call(&words(command))?;
    ensure!(said.error_code().is_none(), "{:.80}: {}", command, said.text());
    Ok(said)
}

/// What is cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    Union,
    Rename,
    Moves,
    Transactions,
    Sort,
    Script,
    /// What a consumer is given becomes pending.
    Group,
    /// A transaction of scripts.
    Scripts,
}

const STORIES: [Story; 8] = [
    Story::Union,
    Story::Rename,
    Story::Moves,
    Story::Transactions,
    Story::Sort,
    Story::Script,
    Story::Group,
    Story::Scripts,
];

/// `name` with `n` elements, each `before` and a number.
fn elements(command: &str, count: usize, element: impl Fn(usize) -> String) -> String {
    (0..count).fold(command.to_owned(), |text, number| text + " " + &element(number))
}

/// What all stories begin with.
fn fill(node: &Node) -> Result<()> {
    let scored = |letter: char| move |number: usize| format!("{number} {letter}{number}");
    let all = [
        elements("ZADD za", MANY, scored('a')),
        elements("ZADD zb", MANY, scored('b')),
        elements("HSET big", MANY, |number| format!("f{number} v{number}")),
        elements("RPUSH from", MANY, |number| number.to_string()),
        elements("RPUSH unsorted", MANY, |number| (number * 7919 % 10_007).to_string()),
    ];
    node.ask(&all.each_ref().map(String::as_str))?;
    let entries: Vec<String> = (1..=MANY).map(|id| format!("XADD stream {id} f v")).collect();
    node.ask(&entries.iter().map(String::as_str).collect::<Vec<_>>())?;
    node.ask(&["XGROUP CREATE stream group 0"]).map(|_| ())
}

impl Story {
    /// Before the command: the destination holds something else, and the source everything.
    fn prepare(self, node: &Node) -> Result<()> {
        let commands: Vec<String> = match self {
            Self::Union => {
                vec!["DEL zd".into(), elements("ZADD zd", FEW, |number| format!("1 old{number}"))]
            }
            Self::Sort => {
                vec!["DEL sorted".into(), elements("RPUSH sorted", FEW, |n| n.to_string())]
            }
            Self::Script => vec!["DEL s:hash s:list".into()],
            Self::Scripts => vec!["DEL e:hash e:list e:string".into()],
            Self::Group => {
                vec!["XGROUP DESTROY stream group".into(), "XGROUP CREATE stream group 0".into()]
            }
            // A key that was renamed goes back, and so does what was moved.
            Self::Rename if exists(node, "renamed")? => vec!["RENAME renamed big".into()],
            Self::Moves if exists(node, "to")? => vec![
                "DEL from to".into(),
                elements("RPUSH from", MANY, |number| number.to_string()),
            ],
            Self::Rename | Self::Moves | Self::Transactions => Vec::new(),
        };
        for command in commands {
            node.ask(&[&command])?;
        }
        Ok(())
    }

    fn send(self, connection: &mut Connection, number: usize) -> Result<()> {
        let mut send = |command: &str| connection.send(&words(command));
        match self {
            Self::Union => send("ZUNIONSTORE zd 2 za zb"),
            Self::Rename => send("RENAME big renamed"),
            Self::Sort => send("SORT unsorted STORE sorted"),
            // Blanks divide words here.
            Self::Script => send(
                "EVAL for\ti=1,3000\tdo\tredis.call('HSET','s:hash','f'..i,i)\t\
                 redis.call('RPUSH','s:list',i)\tend 0",
            ),
            Self::Group => send("XREADGROUP GROUP group consumer STREAMS stream >"),
            Self::Scripts => {
                let half = |from: usize, to: usize| {
                    format!(
                        "EVAL for\ti={from},{to}\tdo\tredis.call('HSET','e:hash','f'..i,i)\t\
                         redis.call('RPUSH','e:list',i)\tend 0"
                    )
                };
                let (first, second) = (half(1, MANY / 2), half(MANY / 2 + 1, MANY));
                ["MULTI", &first, "SET e:string x", &second, "EXEC"].into_iter().try_for_each(send)
            }
            Self::Moves => (0..200).try_for_each(|_| send("LMOVE from to LEFT RIGHT")),
            Self::Transactions => (0..20).try_for_each(|turn| {
                let value = number * 1_000 + turn;
                for command in [
                    "MULTI",
                    &format!("SET t:string {value}"),
                    &format!("HSET t:hash last {value} f{value} 1"),
                    &format!("RPUSH t:list {value}"),
                    &format!("SADD t:set {value}"),
                    &format!("ZADD t:zset {value} m{value}"),
                    "EXEC",
                ] {
                    send(command)?;
                }
                Ok(())
            }),
        }
    }

    /// Checks what a node has; true if it has the effect.
    fn check(self, node: &Node) -> Result<bool> {
        match self {
            Self::Union => {
                let [size, by_member, by_score] =
                    counts(node, ["ZCARD zd", "ZRANGE zd 0 -1", "ZRANGEBYSCORE zd -inf +inf"])?;
                ensure!([size, size] == [by_member, by_score], "{size} {by_member} {by_score}");
                whole(size, FEW, 2 * MANY)
            }
            Self::Rename => {
                let [old, fields, new, new_fields] =
                    counts(node, ["HLEN big", "HKEYS big", "HLEN renamed", "HKEYS renamed"])?;
                ensure!([old, new] == [fields, new_fields], "{old} {fields} {new} {new_fields}");
                ensure!(old + new == MANY, "{old} fields before, {new} after");
                whole(new, 0, MANY)
            }
            Self::Sort => {
                let [size, read] = counts(node, ["LLEN sorted", "LRANGE sorted 0 -1"])?;
                ensure!(size == read, "LLEN {size}, LRANGE {read}");
                let numbers = numbers(node, "LRANGE sorted 0 -1")?;
                ensure!(numbers.is_sorted(), "not sorted: {numbers:?}");
                whole(size, FEW, MANY)
            }
            Self::Moves => {
                let [from, to] = counts(node, ["LLEN from", "LLEN to"])?;
                let all = [numbers(node, "LRANGE to 0 -1")?, numbers(node, "LRANGE from 0 -1")?];
                ensure!([to, from] == all.each_ref().map(Vec::len), "{to} {from}");
                let both = all.concat();
                ensure!(both.iter().copied().eq(0..MANY), "after {to} moves: {both:?}");
                Ok(to > 0)
            }
            Self::Script => scripts(node, "s"),
            Self::Scripts => {
                let is_done = scripts(node, "e")?;
                ensure!(exists(node, "e:string")? == is_done, "a string, {is_done} by its scripts");
                Ok(is_done)
            }
            Self::Group => group(node),
            Self::Transactions => transactions(node),
        }
    }
}

/// All that scripts write to a hash and a list, or nothing.
fn scripts(node: &Node, prefix: &str) -> Result<bool> {
    let commands = ["HLEN %:hash", "HKEYS %:hash", "LLEN %:list", "LRANGE %:list 0 -1"];
    let commands = commands.map(|command| command.replace('%', prefix));
    let [size, fields, list, read] = counts(node, commands.each_ref().map(String::as_str))?;
    ensure!([size, size, size] == [fields, list, read], "{size} {fields} {list} {read}");
    whole(size, 0, MANY)
}

/// Everything is pending, and the group knows it for given, or nothing is.
fn group(node: &Node) -> Result<bool> {
    let told = node.ask(&[
        "XPENDING stream group",
        "XPENDING stream group - + 10000",
        "XINFO GROUPS stream",
        "XINFO CONSUMERS stream group",
    ])?;
    let number = |reply: Option<&Reply>| reply.map_or_else(String::new, Reply::text);
    let pending = number(told[0].elements().first());
    let listed = told[1].elements().len();
    ensure!(pending == listed.to_string(), "{pending} pending, {listed} listed");
    let field = |reply: &Reply, name: &str| -> String {
        let of = reply.elements().first().map(Reply::elements).unwrap_or_default();
        number(of.iter().skip_while(|word| word.text() != name).nth(1))
    };
    let is_done = whole(listed, 0, MANY)?;
    let last = if is_done { format!("{MANY}-0") } else { "0-0".to_owned() };
    let group = ["pending", "last-delivered-id"].map(|name| field(&told[2], name));
    ensure!(group == [pending.clone(), last], "{pending} pending: {:?}", told[2]);
    let of_consumer = field(&told[3], "pending");
    ensure!(of_consumer == if is_done { &*pending } else { "" }, "{pending}: {:?}", told[3]);
    Ok(is_done)
}

/// All of a transaction's commands, or none.
fn transactions(node: &Node) -> Result<bool> {
    let [list, set, zset, hash] =
        counts(node, ["LLEN t:list", "SCARD t:set", "ZCARD t:zset", "HLEN t:hash"])?;
    let [in_list, in_set, in_zset, in_hash] = counts(
        node,
        ["LRANGE t:list 0 -1", "SMEMBERS t:set", "ZRANGE t:zset 0 -1", "HKEYS t:hash"],
    )?;
    let sizes = [list, set, zset, hash];
    ensure!(sizes == [in_list, in_set, in_zset, in_hash], "{sizes:?}");
    let fields = list + usize::from(list > 0);
    ensure!([list, list, fields] == [set, zset, hash], "{sizes:?}");
    let told =
        node.ask(&["GET t:string", "HGET t:hash last", "LINDEX t:list -1", "ZRANGE t:zset -1 -1"])?;
    let last = told[0].text();
    let in_zset = told[3].elements().first().map(Reply::text).unwrap_or_default();
    ensure!(told[1].text() == last && told[2].text() == last, "{told:?}");
    ensure!(in_zset.trim_start_matches('m') == last, "{told:?}");
    let once: BTreeSet<usize> = numbers(node, "LRANGE t:list 0 -1")?.into_iter().collect();
    ensure!(once.len() == list, "{list} pushes of {} values", once.len());
    Ok(list > 0)
}

fn whole(size: usize, before: usize, after: usize) -> Result<bool> {
    ensure!(size == before || size == after, "{size} elements: neither {before} nor {after}");
    Ok(size == after)
}

fn exists(node: &Node, key: &str) -> Result<bool> {
    Ok(node.ask(&[&format!("EXISTS {key}")])?[0] == Reply::Integer(1))
}

/// The number that each command answers, or the number of elements.
fn counts<const N: usize>(node: &Node, commands: [&str; N]) -> Result<[usize; N]> {
    let replies = node.ask(&commands)?;
    let count = |reply: &Reply| match reply {
        Reply::Integer(number) => usize::try_from(*number).unwrap_or(usize::MAX),
        other => other.elements().len(),
    };
    Ok(std::array::from_fn(|index| count(&replies[index])))
}

fn numbers(node: &Node, command: &str) -> Result<Vec<usize>> {
    let replies = node.ask(&[command])?;
    let number = |reply: &Reply| reply.text().parse().context("read an element");
    replies[0].elements().iter().map(number).collect()
}

/// Until the replica has all its master has: what was sent to it may not be there yet.
fn follows(master: &Node, replica: &Node) -> Result<()> {
    let newest = |node: &Node| -> Result<u64> {
        let text = node.ask(&["INFO replication"])?[0].text();
        let line = text.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
        line.with_context(|| text.clone())?.trim().parse().context("read a number")
    };
    wait::until("the replica has it all", PATIENCE, || {
        let (has, all) = (newest(replica)?, newest(master)?);
        ensure!(has == all, "{has} of {all}");
        Ok(())
    })
}

#[test]
fn a_kill_in_the_middle_of_a_large_write_leaves_all_of_it_or_nothing() -> Result<()> {
    let kills = std::env::var(KILLS_VARIABLE).map_or(Ok(KILLS), |text| text.parse())?;
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut master, replica) = (Node::start()?, Node::start()?);
    fill(&master)?;
    let port = master.port.to_string();
    replica.ask(&[&format!("SLAVEOF 127.0.0.1 {port}")])?;
    follows(&master, &replica)?;
    let mut done = 0;
    for number in 0..kills {
        let story = STORIES[number % STORIES.len()];
        story.prepare(&master).with_context(|| format!("prepare {story:?}"))?;
        let mut connection = master.connect()?;
        story.send(&mut connection, number)?;
        wait::pause(Duration::from_micros(rng.random_range(0..LATEST_US)));
        master.kill()?;
        master.up()?;
        let context = || format!("kill {number}, in {story:?}");
        let is_done = story.check(&master).with_context(context)?;
        done += usize::from(is_done);
        follows(&master, &replica).with_context(context)?;
        let at_replica =
            story.check(&replica).with_context(|| format!("replica: {}", context()))?;
        ensure!(at_replica == is_done, "{}: at the replica {at_replica}", context());
    }
    println!("{kills} kills, {done} of them after the effect");
    Ok(())
}
