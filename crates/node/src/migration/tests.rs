//! Keys of every type as commands and as records: what is sent makes the same keys at a target,
//! whole and then what has changed, whatever changed it.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use storage::slots::commands::{self, Closed, Out, Sent};
use storage::slots::{Batches, Dirty, for_each_key};
use storage::{FeedRead, Snapshot, Store};
use topology::{Cluster, Slot, SlotRange};

use crate::clock;
use crate::config::Values;
use crate::gate::Role;
use crate::node::Node;
use crate::session::dispatch::Batch;
use crate::session::{After, Session};

const ME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A node that has all slots.
pub(super) struct Side {
    pub(super) node: Arc<Node>,
    session: Session,
    _dir: tempfile::TempDir,
}

impl Side {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let values = Values { cluster_enabled: true, ..crate::shell::small() };
        let change = Cluster::default().prepare_set_node_id(ME.as_bytes(), false).unwrap();
        let text = format!("{ME} 127.0.0.1 1 master - 0-16383");
        let change = change.into_parts().0.prepare_set_nodes(text.as_bytes(), 1, false, &|_| false);
        let cluster = change.unwrap().into_parts().0;
        let node = crate::shell::node(dir.path(), values, cluster, Role::Master);
        let session = crate::shell::session(&node);
        Self { node, session, _dir: dir }
    }

    pub(super) fn run(&mut self, words: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let now_ms = clock::unix_ms();
        let mut batch = Batch::begin(&self.node, self.node.config.now(), 0, now_ms);
        let after = batch.run(&mut self.session, words, &mut out);
        let ran = batch.close(&self.session, &mut out);
        ran.finish(&self.node).unwrap();
        match after {
            After::Long(read) => out.extend(crate::shell::finish(read)),
            After::Later(answer, _) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                out = runtime.unwrap().block_on(answer);
                ran.finish_later(&self.node).unwrap();
            }
            // A script, on a thread for those that take long.
            After::Aside(answer) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                let back = runtime.unwrap().block_on(answer);
                ran.telling(back.tells).finish_later(&self.node).unwrap();
                out = back.bytes;
            }
            _ => {}
        }
        out.escape_ascii().to_string()
    }

    pub(super) fn line(&mut self, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.run(&words)
    }

    fn store(&self) -> Store {
        self.node.engine().store.clone().unwrap()
    }

    /// All that can be asked of all keys.
    fn contents(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for key in KEYS {
            let kind = self.line(&format!("TYPE {key}"));
            all.push(format!("{key} {kind} {}", self.line(&format!("PEXPIRETIME {key}"))));
            let asked = match kind.as_str() {
                "+ReJSON-RL\\r\\n" => format!("JSON.GET {key}"),
                "+MBbloom--\\r\\n" => format!("BF.INFO {key}"),
                "+sortedint\\r\\n" => format!("SIRANGE {key} 0 -1"),
                "+list\\r\\n" => format!("LRANGE {key} 0 -1"),
                "+MBbloomCF\\r\\n" => format!("CF.MEXISTS {key} x1 x2 x3 x4 x5 x6 x7"),
                "+TDIS-TYPE\\r\\n" => format!("TDIGEST.QUANTILE {key} 0 0.3 0.5 0.9 1"),
                "+timeseries\\r\\n" => format!("TS.RANGE {key} - +"),
                "+none\\r\\n" => continue,
                _ => format!("DUMP {key}"),
            };
            all.push(self.line(&asked));
        }
        all
    }
}

/// What takes commands for a target, and runs them there.
struct To<'t> {
    target: &'t mut Side,
    sent: usize,
}

impl Out for To<'_> {
    fn command(&mut self, words: &[&[u8]]) {
        let reply = self.target.run(words);
        let shown: Vec<_> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
        assert!(!reply.starts_with('-'), "{}: {reply}", shown.join(" "));
        self.sent += 1;
    }

    fn may_send(&mut self) -> Result<(), Closed> {
        Ok(())
    }
}

fn all() -> SlotRange {
    SlotRange::new(Slot::new(0).unwrap(), Slot::new(16_383).unwrap()).unwrap()
}

const KEYS: [&str; 19] = [
    "string", "ends", "hash", "timed", "list", "set", "zset", "bits", "ints", "stream", "grouped",
    "json", "bloom", "sketch", "geo", "digest", "series", "cuckoo", "any",
];

/// Commands; `#` is a small number, `@` one that counts up.
#[rustfmt::skip]
const COMMANDS: &[&str] = &[
    "SET string v#", "APPEND string #", "DEL string", "SET ends v# PXAT 4102444800#00", "PERSIST ends", "PEXPIREAT ends 4102444801#00",
    "HSET hash f# v# g# w#", "HDEL hash f# g#", "DEL hash", "PEXPIREAT hash 4102444800#00", "PERSIST hash",
    "HSET timed f# v#", "HPEXPIREAT timed 4102444800#00 FIELDS 1 f#", "HDEL timed f#",
    "RPUSH list a# b# c# d#", "LPUSH list e# f#", "LPOP list", "RPOP list", "LSET list 0 s#", "LSET list -1 t#", "LINSERT list AFTER a# i#", "LREM list 0 b#", "LTRIM list 1 -2", "LMOVE list list LEFT RIGHT", "DEL list",
    "SADD set m# n#", "SREM set m#", "DEL set", "SPOP set",
    "ZADD zset 0.# m# -#.5 n#", "ZREM zset m#", "ZINCRBY zset 0.1 n#", "ZADD zset inf m# -inf n#", "DEL zset",
    "SETBIT bits # 1", "SETBIT bits # 0", "SETBIT bits 9#00 1", "SETBIT bits 9#00 0", "SETBIT bits #00000 0", "DEL bits",
    "SIADD ints # 1# 18446744073709551615", "SIREM ints #", "DEL ints",
    "XADD stream @ f v#", "XADD stream @ g v#", "XDEL stream #-1", "XTRIM stream MAXLEN 3", "XTRIM stream MAXLEN 0", "DEL stream", "XSETID stream 99999-@",
    "XADD grouped @ f v#", "XGROUP CREATE grouped g# 0 MKSTREAM", "XGROUP DESTROY grouped g#", "XREADGROUP GROUP g# c COUNT 1 STREAMS grouped >", "XTRIM grouped MAXLEN 2", "DEL grouped",
    "JSON.SET json $ [#,1.50]", "JSON.ARRAPPEND json $ #", "DEL json",
    "TDIGEST.CREATE digest", "TDIGEST.ADD digest # 1#.5 -#", "TDIGEST.RESET digest", "DEL digest",
    "TS.ADD series @000 #", "TS.ADD series @001 #.5", "TS.DEL series 0 #000", "DEL series",
    "BF.ADD bloom x#", "PFADD sketch x# y# z#", "DEL bloom", "GEOADD geo 13.36# 38.11 p#", "ZREM geo p#",
    "CF.RESERVE cuckoo 4 BUCKETSIZE 1 MAXITERATIONS 2 EXPANSION 2", "CF.ADD cuckoo x#", "CF.INSERT cuckoo ITEMS x# y#", "CF.DEL cuckoo x#", "DEL cuckoo",
    "SET any v", "LPUSH any a", "SADD any a", "HSET any f v", "XADD any * f v", "DEL any", "EXPIRE any 100000", "PFADD any x", "SIADD any 1", "JSON.SET any $ 1", "BF.ADD any x", "SETBIT any 3 1",
];

/// Runs up to so many commands by chance. Of the wrong type, or of a stream that is further, they
/// are refused, and do no harm.
fn write(side: &mut Side, most: usize, random: &mut StdRng, counter: &mut u64) {
    for _ in 0..random.random_range(0..most) {
        *counter += 1;
        let command = COMMANDS[random.random_range(0..COMMANDS.len())];
        let number: u8 = random.random_range(1..8);
        let command = command.replace('#', &number.to_string());
        // Entries of streams; times of a series begin with the same number.
        let command = command.replace("@00", &format!("{counter}00"));
        side.line(&command.replace('@', &format!("{counter}-1")));
    }
}

fn batches(store: &Store, after: u64) -> Vec<Arc<[u8]>> {
    store.publish().unwrap();
    match store.feed().read(after + 1, usize::MAX).unwrap() {
        FeedRead::Batches(batches) => batches.into_iter().map(|batch| batch.data).collect(),
        FeedRead::UpToDate => Vec::new(),
        FeedRead::Gone => panic!("the log begins later"),
    }
}

const SEEDS: u64 = 40;

#[test]
fn commands_make_the_same_keys() {
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut source, mut target, mut counter) = (Side::new(), Side::new(), 0);
        write(&mut source, 150, &mut random, &mut counter);
        let store = source.store();
        let mut old = store.snapshot();
        let mut to = To { target: &mut target, sent: 0 };
        for_each_key::<commands::Halt>(&old, all(), |key| {
            commands::whole(&old, key, clock::unix_ms(), &mut to)
        })
        .unwrap();
        assert_eq!(source.contents(), to.target.contents(), "seed {seed}");
        for round in 0..3 {
            write(&mut source, 70, &mut random, &mut counter);
            let new = store.snapshot();
            let mut sent = Sent::default();
            // What changed comes in parts, each of a few batches.
            let part = random.random_range(1..40);
            for some in batches(&store, old.sequence()).chunks(part) {
                let mut dirty = Dirty::default();
                for batch in some {
                    dirty.note(batch, all()).unwrap();
                }
                let part = (dirty, &mut sent);
                commands::changes((&old, &new), part, clock::unix_ms, &mut to).unwrap();
            }
            old = new;
            assert_eq!(source.contents(), to.target.contents(), "seed {seed}, round {round}");
        }
        assert!(to.sent > 0, "seed {seed}");
    }
}

/// Its length is told by a bit that is not set, and must not clear one.
#[test]
fn a_bitmap_that_grows_keeps_its_last_bit() {
    let (mut source, mut target) = (Side::new(), Side::new());
    source.line("SETBIT bits 3 1");
    let store = source.store();
    let mut to = To { target: &mut target, sent: 0 };
    let old = send_all(&store, &mut to);
    source.line("SETBIT bits 15 1");
    send_changes(&store, &old, &mut to);
    assert_eq!(source.contents(), target.contents());
}

/// Sends the keys of a store, and returns the moment of it.
fn send_all<'s>(store: &'s Store, to: &mut To<'_>) -> Snapshot<'s> {
    let at = store.snapshot();
    for_each_key::<commands::Halt>(&at, all(), |key| {
        commands::whole(&at, key, clock::unix_ms(), to)
    })
    .unwrap();
    at
}

/// Sends what has changed since a moment, and returns the next one.
fn send_changes<'s>(store: &'s Store, old: &Snapshot<'_>, to: &mut To<'_>) -> Snapshot<'s> {
    send_changes_at(store, old, clock::unix_ms, to)
}

fn send_changes_at<'s>(
    store: &'s Store,
    old: &Snapshot<'_>,
    now_ms: impl Fn() -> u64,
    to: &mut To<'_>,
) -> Snapshot<'s> {
    let new = store.snapshot();
    let (mut dirty, mut sent) = (Dirty::default(), Sent::default());
    for batch in batches(store, old.sequence()) {
        dirty.note(&batch, all()).unwrap();
    }
    commands::changes((old, &new), (dirty, &mut sent), now_ms, to).unwrap();
    new
}

/// Its key at the target ends by itself, and what comes then must not make one without an end.
#[test]
fn what_changed_before_a_key_ended_does_not_outlive_it() {
    let (mut source, mut target) = (Side::new(), Side::new());
    let store = source.store();
    let end_ms = clock::unix_ms() + 300;
    for command in ["HSET h f v".to_owned(), format!("PEXPIREAT h {end_ms}")] {
        source.line(&command);
    }
    let mut to = To { target: &mut target, sent: 0 };
    let old = send_all(&store, &mut to);
    source.line("HSET h g w");
    let early_ms = clock::unix_ms();
    crate::replication::tests::wait_until(|| match clock::unix_ms() {
        now_ms if now_ms > end_ms => Ok(()),
        now_ms => Err(format!("{} ms to wait", end_ms - now_ms)),
    });
    // As a connection that is slow brings it.
    send_changes_at(&store, &old, || early_ms, &mut to);
    for asked in ["EXISTS h", "PTTL h"] {
        assert_eq!(source.line(asked), target.line(asked), "{asked}");
    }
}

/// Its version is the same on both sides, so the target still has what was deleted here.
#[test]
fn what_is_deleted_while_its_key_is_sent_anew_does_not_come_back() {
    let (mut source, mut target) = (Side::new(), Side::new());
    let store = source.store();
    let soon = clock::unix_ms() + 30_000;
    for command in [
        "HSET timed stays v goes w".to_owned(),
        "HPEXPIREAT timed 4102444800100 FIELDS 1 stays".into(),
        format!("PEXPIREAT timed {soon}"),
        "XADD grouped 1-1 f v".into(),
        "XADD grouped 2-1 f v".into(),
        "XADD grouped 3-1 f v".into(),
        "XGROUP CREATE grouped g 0".into(),
    ] {
        assert!(!source.line(&command).starts_with('-'), "{command}");
    }
    let mut to = To { target: &mut target, sent: 0 };
    let mut old = send_all(&store, &mut to);
    // The stream goes by commands meanwhile, and then by records again.
    for round in [
        &["HDEL timed goes", "PEXPIREAT timed 4102444800000", "XGROUP DESTROY grouped g"][..],
        &["XDEL grouped 2-1"],
        &["XGROUP CREATE grouped g 0"],
    ] {
        for command in round {
            assert!(!source.line(command).starts_with('-'), "{command}");
        }
        old = send_changes(&store, &old, &mut to);
        for asked in
            ["HGETALL timed", "PEXPIRETIME timed", "XRANGE grouped - +", "XINFO GROUPS grouped"]
        {
            assert_eq!(source.line(asked), to.target.line(asked), "{round:?}: {asked}");
        }
    }
}

#[test]
fn records_make_the_same_keys() {
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut source, mut target, mut counter) = (Side::new(), Side::new(), 0);
        write(&mut source, 150, &mut random, &mut counter);
        let store = source.store();
        let begin = store.snapshot();
        let mut take = |batch: &[u8]| -> Result<(), storage::Error> {
            let reply = target.run(&[b"APPLYBATCH", batch]);
            assert_eq!(reply, format!(":{}\\r\\n", batch.len()));
            Ok(())
        };
        let mut sent = Batches::new(random.random_range(1..5_000));
        for_each_key(&begin, all(), |key| sent.add_key(&begin, key, &mut take)).unwrap();
        sent.flush(&mut take).unwrap();
        write(&mut source, 70, &mut random, &mut counter);
        for batch in batches(&store, begin.sequence()) {
            sent.add_log(&batch, all()).unwrap();
            sent.pass_on(&mut take).unwrap();
        }
        sent.flush(&mut take).unwrap();
        assert_eq!(source.contents(), target.contents(), "seed {seed}");
    }
}

#[test]
fn a_flush_ends_what_is_sent() {
    let mut source = Side::new();
    source.line("SET a 1");
    let store = source.store();
    let before = store.latest_sequence();
    let mut txn = store.txn();
    let scope = source.node.scope(0);
    storage::types::keyspace::delete_slot(&mut txn, &scope, topology::key_slot(b"a").number());
    txn.commit().unwrap();
    let flushed = batches(&store, before).remove(0);
    let slot = |number| SlotRange::single(Slot::new(number).unwrap());
    let of_a = SlotRange::single(topology::key_slot(b"a"));
    assert!(Dirty::default().note(&flushed, of_a).is_err());
    assert!(Batches::new(1).add_log(&flushed, of_a).is_err());
    assert!(Dirty::default().note(&flushed, slot(1)).is_ok());
}
