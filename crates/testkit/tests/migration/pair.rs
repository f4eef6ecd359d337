//! Two nodes without a controller: slots with keys of every type go from one to the other while a
//! client writes to them.
//!
//! What the client was told is written goes to a third node as well, alone, which in the end has
//! what the target must have.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testkit::process::Server;
use testkit::wait;
use testkit::wire::{Connection, Reply};

use super::{A, B, PATIENCE, SLOT, info, ok};

/// What was seen.
pub(crate) struct Moved {
    /// Writes while the migration ran.
    pub(crate) during: usize,
    /// Keys that were compared.
    pub(crate) keys: usize,
}

/// Commands that make keys of every type, before and during the migration. `#` is a number that
/// counts up.
#[rustfmt::skip]
const MADE: &[&str] = &[
    "SET {T}string#7 v#", "APPEND {T}string#7 x#", "SET {T}ends v# PXAT 4102444800123", "PERSIST {T}ends", "SETRANGE {T}string#5 3 #",
    "HSET {T}hash#5 f#11 v# g#3 w", "HDEL {T}hash#5 f#11 f#13", "HINCRBY {T}hash n 1", "PEXPIREAT {T}hash#5 41024448#00000",
    "HSET {T}timed f#7 v# g#7 w", "HPEXPIREAT {T}timed 41024448#00000 FIELDS 1 f#7", "HDEL {T}timed g#5",
    "RPUSH {T}list#3 a# b#", "LPUSH {T}list#3 c#", "LPOP {T}list#3", "LSET {T}list#3 1 s#", "LINSERT {T}list#3 BEFORE b#7 i#", "LREM {T}list#3 1 a#9", "LTRIM {T}list#2 0 40",
    "LMOVE {T}list#3 {T}list#4 LEFT RIGHT",
    "SADD {T}set#4 m#13 o#5", "SREM {T}set#4 m#7", "SMOVE {T}set1 {T}set2 m#13", "SUNIONSTORE {T}union {T}set1 {T}set#4",
    "ZADD {T}zset#3 0.#7 m#17 -1.5 n#3", "ZREM {T}zset#3 m#5", "ZINCRBY {T}zset#3 0.1 n#3", "GEOADD {T}geo 13.36#7 38.11#5 p#9",
    "SETBIT {T}bits#3 #71 1", "SETBIT {T}bits#3 #5 0", "SETBIT {T}bits#3 #7000 0", "BITOP OR {T}bits {T}bits1 {T}bits2",
    "SIADD {T}ints#2 #19 #7", "SIREM {T}ints#2 #11",
    "XADD {T}stream#3 # f v#", "XDEL {T}stream#3 #", "XTRIM {T}stream#3 MAXLEN 20", "XSETID {T}stream#3 99999999-#7",
    "XADD {T}grouped # f v#", "XGROUP CREATE {T}grouped g# 0", "XGROUP DESTROY {T}grouped g#3", "XREADGROUP GROUP g#9 c COUNT 2 STREAMS {T}grouped >",
    "XADD {T}empty 1-# f v", "XTRIM {T}empty MAXLEN 0",
    "JSON.SET {T}json#3 $ {\"a\":[#,1.50],\"b\":\"x\"}", "JSON.ARRAPPEND {T}json#3 $.a #5",
    "BF.ADD {T}bloom#2 x#", "PFADD {T}sketch#2 x#",
    "DEL {T}hash#3 {T}list#3 {T}zset#3", "DEL {T}stream#5 {T}string#9 {T}bits#3 {T}json#3", "RENAME {T}set3 {T}renamed", "COPY {T}hash1 {T}copied REPLACE",
    "SET {T}retyped v#", "DEL {T}retyped", "SADD {T}retyped m#", "PEXPIREAT {T}retyped 4102444800123", "DEL {T}retyped",
    "HSET {T}emptied f v", "HDEL {T}emptied f",
];

/// Each `#n` becomes the number modulo n, each other `#` the number.
fn numbered(command: &str, number: usize) -> Vec<String> {
    let word = |word: &str| {
        let mut parts = word.split('#');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(part.len());
            // A run of zeros is no modulus.
            let modulus = part[..digits].parse::<usize>().ok().filter(|_| !part.starts_with('0'));
            match modulus {
                Some(modulus) => text += &(number % modulus).to_string(),
                None => text += &format!("{number}{}", &part[..digits]),
            }
            text += &part[digits..];
        }
        text
    };
    command.split(' ').map(word).collect()
}

/// The `number`-th command. They come in a different order each time around.
fn command(number: usize) -> Vec<String> {
    let place = number.wrapping_mul(31).wrapping_add(number / MADE.len()) % MADE.len();
    numbered(MADE[place], number)
}

/// Writes a command where the slot is, and to the reference what has become of it.
struct Writer {
    nodes: [Connection; 2],
    at: usize,
    reference: Connection,
    number: usize,
}

impl Writer {
    fn step(&mut self) -> Result<()> {
        self.number += 1;
        let words = command(self.number);
        let until = Instant::now() + PATIENCE;
        let reply = loop {
            let reply = self.nodes[self.at].call(&words)?;
            match reply.error_code().as_deref() {
                Some("MOVED") => self.at = 1 - self.at,
                Some("TRYAGAIN") => wait::pause(Duration::from_millis(1)),
                _ => break reply,
            }
            ensure!(Instant::now() < until, "{words:?}: {reply:?} for {PATIENCE:?}");
        };
        let expected = self.reference.call(&words)?;
        ensure!(reply == expected, "{words:?}: {reply:?}, and alone {expected:?}");
        Ok(())
    }
}

fn serve(id: &str, method: &str) -> Result<(Server, Connection)> {
    let server = Server::node(&format!(
        "cluster-enabled yes\nmigrate-type {method}\nmigrate-speed 1500\nmigrate-pipeline-size 8\nmigrate-sequence-gap 20\n\
         migrate-batch-size-kb 1\nmigrate-batch-rate-limit-mb 1"
    ))?;
    let mut connection = server.connect()?;
    ok(&mut connection, &["CLUSTERX", "SETNODEID", id])?;
    Ok((server, connection))
}

fn tell(connections: &mut [&mut Connection], nodes: &str, version: &str) -> Result<()> {
    connections
        .iter_mut()
        .try_for_each(|connection| ok(connection, &["CLUSTERX", "SETNODES", nodes, version]))
}

/// All that can be asked of a key.
fn contents(connection: &mut Connection, key: &str) -> Result<Vec<Reply>> {
    let kind = connection.call(&["TYPE", key])?.text();
    let mut replies = vec![Reply::Simple(kind.clone().into_bytes())];
    let mut ask = |words: &[&str]| -> Result<()> {
        replies.push(connection.call(words)?);
        Ok(())
    };
    ask(&["PEXPIRETIME", key])?;
    match kind.as_str() {
        "ReJSON-RL" => ask(&["JSON.GET", key])?,
        "MBbloom--" => {
            ask(&["BF.INFO", key])?;
            for number in 0..200 {
                ask(&["BF.EXISTS", key, &format!("x{number}")])?;
            }
        }
        "sortedint" => ask(&["SIRANGE", key, "0", "-1"])?,
        "list" => ask(&["LRANGE", key, "0", "-1"])?,
        "bitmap" => {
            ask(&["GET", key])?;
            ask(&["BITCOUNT", key])?;
        }
        "stream" => ask(&["XINFO", "STREAM", key, "FULL", "COUNT", "0"])?,
        "none" => {}
        _ => ask(&["DUMP", key])?,
    }
    if kind == "hash" {
        ask(&["HGETALL", key])?;
    }
    Ok(replies)
}

/// How long ago a consumer was seen depends on when it is asked.
fn still(reply: &Reply) -> String {
    let mut text = format!("{reply:?}");
    for name in ["seen-time", "active-time", "idle", "inactive"] {
        let bytes = format!("Bulk({:?})", name.as_bytes());
        let (mut out, mut rest) = (String::new(), text.as_str());
        while let Some(at) = rest.find(&bytes) {
            let (before, behind) = rest.split_at(at + bytes.len());
            out += before;
            rest = behind.find("),").map_or("", |end| &behind[end..]);
        }
        out += rest;
        text = out;
    }
    text
}

pub(crate) fn migrate(method: &str) -> Result<Moved> {
    let (source, mut from) = serve(A, method)?;
    let (target, mut to) = serve(B, method)?;
    let reference = Server::node("")?;
    let (a, b) = (source.address.port(), target.address.port());
    let nodes = |mine: &str, theirs: &str| {
        format!("{A} 127.0.0.1 {a} master - {mine}\n{B} 127.0.0.1 {b} master - {theirs}")
    };
    tell(&mut [&mut from, &mut to], &nodes("0-8191", "8192-16383"), "1")?;
    let connections = [source.connect()?, target.connect()?];
    let mut writer =
        Writer { nodes: connections, at: 0, reference: reference.connect()?, number: 0 };
    for _ in 0..1_500 {
        writer.step()?;
    }
    ok(&mut from, &["SET", "{A}stays", "here"])?;
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let thread = std::thread::spawn(move || -> Result<(Writer, usize)> {
        let begin = writer.number;
        while !ends.load(Ordering::SeqCst) {
            writer.step()?;
        }
        let during = writer.number - begin;
        for _ in 0..200 {
            writer.step()?;
        }
        Ok((writer, during))
    });
    from.set_patience(Duration::from_secs(120))?;
    let migrated = from.call(&["CLUSTERX", "MIGRATE", SLOT, B, "SYNC", "100"]);
    is_over.store(true, Ordering::SeqCst);
    let (mut writer, during) = thread.join().ok().context("the writer has panicked")??;
    let migrated = migrated?;
    ensure!(migrated.text() == "OK", "{method}: {migrated:?}\n{}", source.process().log());
    ensure!(writer.at == 1, "the writer was never sent to the target");
    ensure!(info(&mut to)?.contains("import_state: success"));
    let keys = compare(&mut writer, &mut to).with_context(|| method.to_owned())?;
    tell(&mut [&mut to, &mut from], &nodes("0-6768 6770-8191", "6769 8192-16383"), "2")?;
    compare(&mut writer, &mut to).with_context(|| format!("{method}, by the new topology"))?;
    let left = from.call(&["KEYS", "*"])?;
    ensure!(left.elements() == [Reply::Bulk(b"{A}stays".to_vec())], "{left:?}");
    // And home again, where former records may still lie.
    ok(&mut to, &["CLUSTERX", "MIGRATE", SLOT, A, "SYNC", "100"])?;
    tell(&mut [&mut from, &mut to], &nodes("0-8191", "8192-16383"), "3")?;
    compare(&mut writer, &mut from).with_context(|| format!("{method}, home again"))?;
    Ok(Moved { during, keys })
}

fn compare(writer: &mut Writer, node: &mut Connection) -> Result<usize> {
    let keys = |connection: &mut Connection| -> Result<BTreeSet<String>> {
        let keys = connection.call(&["KEYS", "{T}*"])?;
        Ok(keys.elements().iter().map(Reply::text).collect())
    };
    let expected = keys(&mut writer.reference)?;
    let found = keys(node)?;
    let missing: Vec<_> = expected.symmetric_difference(&found).collect();
    ensure!(missing.is_empty(), "keys of one side: {missing:?}");
    for key in &expected {
        let (here, there) = (contents(node, key)?, contents(&mut writer.reference, key)?);
        for (here, there) in here.iter().zip(&there) {
            ensure!(still(here) == still(there), "{key}: {here:?}, and alone {there:?}");
        }
    }
    Ok(expected.len())
}
