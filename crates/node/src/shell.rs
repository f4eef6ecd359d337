//! A node without sockets, for the tests of commands: several clients, a clock of its own,
//! restarts, and a replica that is told every batch.
//!
//! Commands run as they do on a worker: through the table, the gates and the batch of a read
//! buffer. E.g. `shell.run("SET k v PX 10")`, `shell.advance(10)`, `shell.run("GET k")`.

use std::net::SocketAddr;
use std::sync::Arc;

use storage::batch::{self, Record};
use storage::changes::{self, Change};
use storage::{Direction, Family, FeedRead, FeedReader, Read as _, Store};
use tempfile::TempDir;
use topology::Cluster;

use crate::clients::Via;
use crate::command::{Flags, Renames, Table};
use crate::config::{Config, Values};
use crate::gate::Role;
use crate::node::Node;
use crate::session::dispatch::Batch;
use crate::session::{After, LongRead, Session, Tells, table};
use crate::waiters::Waiting;

mod batches;
mod bits;
mod blooms;
mod bounds;
mod counted;
mod cuckoos;
pub(crate) mod ear;
mod events;
mod geo;
mod groups;
mod hashes;
mod hyperloglogs;
mod jsons;
mod lists;
mod long_reads;
mod model;
mod namespaces;
mod perflog;
mod polled;
mod reading;
mod scripts;
mod scripts_here;
mod sets;
mod sortedints;
mod streams;
mod strings;
mod tdigests;
mod timeseries;
mod tracking;
mod users;
mod waiting;
mod zsets;

/// Options with small caches, for nodes that a test starts by the dozen.
pub(crate) fn small() -> Values {
    let mut values = Values { workers: 1, ..Values::default() };
    values.rocksdb_metadata_block_cache_size = 8;
    values.rocksdb_subkey_block_cache_size = 8;
    values
}

/// The table of commands; given its rows, if no test has done so before.
pub(crate) fn table() -> &'static Table {
    crate::session::table::give(crate::families::ALL);
    Table::get()
}

/// How many commands there are, with what is in containers.
pub(crate) fn commands() -> usize {
    crate::session::table::give(crate::families::ALL)
}

/// A node on the database in `dir`, which is made if it is not there.
pub(crate) fn node(
    dir: &std::path::Path,
    values: Values,
    cluster: Cluster,
    role: Role,
) -> Arc<Node> {
    let options = crate::config::engine::storage_options(&values);
    let store = Store::open(&dir.join("db"), options).unwrap();
    let node = Node::new(
        Config::new(values, None),
        dir.to_owned(),
        store,
        cluster,
        role,
        crate::shell::commands(),
    );
    Arc::new(node.with_namespaces().on_regained(crate::role::note_regained))
}

/// A client's session that came by no balancer.
pub(crate) fn session(node: &Node) -> Session {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let client = node.clients.add(address, address, Via::Direct, 0);
    let mut session = Session::new(client, &node.config.now(), false);
    session.meet(node);
    session
}

/// A raw entry: family, key, value.
pub(crate) type Pair = (Family, Vec<u8>, Vec<u8>);

/// A second database that applies what the first one logs, as a replica does.
struct Follower {
    store: Store,
    feed: FeedReader,
    next: u64,
    _dir: TempDir,
}

/// See [`Shell::beside`].
pub(crate) struct Beside {
    node: Arc<Node>,
    session: Session,
    now_ms: u64,
}

impl Beside {
    /// Runs a command; its reply in one line.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) -> String {
        run(&self.node, &mut self.session, self.now_ms, command)
    }
}

/// The answer of a long read. On a busy machine any read may become one.
pub(crate) fn finish(read: LongRead) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(read.answer).bytes
}

#[track_caller]
fn run(node: &Arc<Node>, session: &mut Session, now_ms: u64, command: &str) -> String {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let mut out = Vec::new();
    let mut batch = Batch::begin(node, node.config.now(), 0, now_ms);
    let step = batch.run(session, &words, &mut out);
    let ran = batch.close(session, &mut out);
    ran.finish(node).unwrap();
    match step {
        After::Next(_) | After::Wrote(_) => {}
        After::Long(read) => out.extend(finish(read)),
        After::Later(answer, _) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            out = runtime.unwrap().block_on(answer);
            ran.finish_later(node).unwrap();
        }
        // A script, on a thread for those that take long.
        After::Aside(answer) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let back = runtime.unwrap().block_on(answer);
            ran.telling(back.tells).finish_later(node).unwrap();
            back.state.into_iter().for_each(|state| session.take_up(state));
            out = back.bytes;
        }
        step => panic!("{command} does not end at once: {step:?}"),
    }
    String::from_utf8_lossy(&out).replace("\r\n", " ").trim_end().to_owned()
}

/// See the module.
pub(crate) struct Shell {
    node: Arc<Node>,
    clients: Vec<Session>,
    follower: Option<Follower>,
    values: Values,
    /// Unix ms, as commands see it.
    now_ms: u64,
    dir: TempDir,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Values)) -> Self {
        let mut values = small();
        change(&mut values);
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path(), values.clone(), Cluster::default(), Role::Master);
        let clients = vec![session(&node)];
        let now_ms = crate::clock::unix_ms();
        Self { node, clients, follower: None, values, now_ms, dir }
    }

    /// The node that runs the commands.
    pub(crate) fn node(&self) -> Arc<Node> {
        Arc::clone(&self.node)
    }

    /// Another client; its number for [`Self::run_as`].
    pub(crate) fn client(&mut self) -> usize {
        self.clients.push(session(&self.node));
        self.clients.len() - 1
    }

    /// Runs a command of the first client; its reply in one line, ends of lines as blanks.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.run_as(0, command)
    }

    /// The same for another client.
    #[track_caller]
    pub(crate) fn run_as(&mut self, client: usize, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let (before, has_waiters) = (self.sequence(), self.node.waiters.any());
        let reply = run(&self.node, &mut self.clients[client], self.now_ms, command);
        // What serves those who wait writes their keys too.
        if !has_waiters {
            self.assert_keys_are_declared(&words, before);
        }
        reply
    }

    /// What the answer of a script tells of.
    #[track_caller]
    pub(crate) fn tells(&mut self, command: &str) -> Tells {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let (mut out, session) = (Vec::new(), &mut self.clients[0]);
        let mut batch = Batch::begin(&self.node, self.node.config.now(), 0, self.now_ms);
        let after = batch.run(session, &words, &mut out);
        let ran = batch.close(session, &mut out);
        match after {
            After::Aside(answer) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                runtime.unwrap().block_on(answer).tells
            }
            After::Next(_) if ran.has_written => Tells::Write,
            After::Next(_) => Tells::Read,
            after => panic!("{command}: {after:?}"),
        }
    }

    /// A client for another thread, at this shell's time.
    pub(crate) fn beside(&self) -> Beside {
        Beside { node: Arc::clone(&self.node), session: session(&self.node), now_ms: self.now_ms }
    }

    /// Locks and slots go by the keys that a row declares: a handler may write no others.
    #[track_caller]
    fn assert_keys_are_declared(&self, words: &[&[u8]], before: u64) {
        let Some((_, command)) = table::find(&Renames::default(), words) else { return };
        // What a read finds written meanwhile is of a client beside it. What a script writes is
        // locked when it is called.
        if !command.is_write() || command.flags.has(Flags::ALL_KEYS) {
            return;
        }
        // The series that rules lead to are found while it runs, and locked then.
        if command.flags.has(Flags::LEADS) {
            return;
        }
        let declared: Vec<&[u8]> = command.keys_in(words).collect();
        for batch in self.batches_since(before) {
            for change in changes::of(&batch, self.values.cluster_enabled) {
                let is_declared = match change {
                    Change::Key(key)
                    | Change::Part(key)
                    | Change::Group(key)
                    | Change::Emptied(key) => declared.contains(&key.key),
                    Change::Range { .. } => false,
                    Change::Message { .. } | Change::Namespaces(_) => true,
                };
                assert!(
                    is_declared,
                    "{} writes {change:?}, and declares {declared:?}",
                    command.name
                );
            }
        }
    }

    /// Runs a command that is to wait for a key.
    #[track_caller]
    pub(crate) fn wait_as(&mut self, client: usize, command: &str) -> Waiting {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let (mut out, session) = (Vec::new(), &mut self.clients[client]);
        let mut batch = Batch::begin(&self.node, self.node.config.now(), 0, self.now_ms);
        let after = batch.run(session, &words, &mut out);
        batch.close(session, &mut out).finish(&self.node).unwrap();
        match after {
            After::Blocked(waiting) => waiting,
            after => panic!("{command}: {after:?}, {}", out.escape_ascii()),
        }
    }

    /// The clock of commands goes on.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Unix ms, as commands see it.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Sets the clock of commands.
    pub(crate) fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    fn store(&self) -> Store {
        self.node.engine().store.clone().expect("a database in service")
    }

    /// Number of the newest record.
    pub(crate) fn sequence(&self) -> u64 {
        self.store().latest_sequence()
    }

    /// Applies a batch that no command of this node has written.
    pub(crate) fn apply(&self, batch: &[u8]) {
        self.store()
            .write_raw(batch)
            .unwrap_or_else(|error| panic!("{error}: {}", batch.escape_ascii()));
    }

    /// Applies a batch of a master.
    pub(crate) fn apply_as_replica(&self, batch: &[u8]) {
        self.apply(batch);
        crate::replication::serve_reads(&self.node, &self.store(), batch);
    }

    /// Bytes of the batches behind `sequence`, in order.
    pub(crate) fn batches_since(&self, sequence: u64) -> Vec<Vec<u8>> {
        match self.store().feed().read(sequence + 1, usize::MAX).unwrap() {
            FeedRead::Batches(batches) => batches.iter().map(|b| b.data.to_vec()).collect(),
            FeedRead::UpToDate => Vec::new(),
            FeedRead::Gone => panic!("the log begins later"),
        }
    }

    /// What one command writes, in words: log data, and which families its records are in.
    pub(crate) fn written_by(&mut self, command: &str) -> Vec<String> {
        let before = self.sequence();
        self.run(command);
        let batches = self.batches_since(before);
        let word = |record| match record {
            Record::Put { family, .. } => format!("put {}", family.name()),
            Record::Delete { family, .. } => format!("delete {}", family.name()),
            Record::DeleteRange { family, .. } => format!("delete range {}", family.name()),
            Record::LogData(data) => format!("log {}", data.escape_ascii()),
        };
        batches
            .iter()
            .flat_map(|batch| batch::records(batch))
            .map(|record| word(record.unwrap()))
            .collect()
    }

    /// From here on a replica follows; the database must be new.
    pub(crate) fn follow(&mut self) {
        let dir = tempfile::tempdir().unwrap();
        let options = crate::config::engine::storage_options(&self.values);
        let store = Store::open(dir.path(), options).unwrap();
        let feed = self.store().feed();
        self.follower = Some(Follower { store, feed, next: 1, _dir: dir });
    }

    /// Ends the process, so to speak, and starts another one on its database. Clients are new.
    pub(crate) fn restart(&mut self) {
        self.catch_up();
        let count = self.clients.len();
        self.clients.clear();
        if let Some(follower) = &mut self.follower {
            // A reader of the log holds its database open; for now it reads another one's.
            follower.feed = follower.store.feed();
        }
        let store = self.node.gate.write().store.take().expect("a database in service");
        let watch = store.close_watch();
        // The node's own threads and readers let go of it at their own pace.
        drop(store.close());
        assert!(watch.wait(std::time::Duration::from_secs(30)), "the database stays open");
        self.node = node(self.dir.path(), self.values.clone(), Cluster::default(), Role::Master);
        self.clients.extend((0..count).map(|_| session(&self.node)));
        let feed = self.store().feed();
        if let Some(follower) = &mut self.follower {
            follower.feed = feed;
        }
    }

    fn catch_up(&mut self) {
        let Some(follower) = &mut self.follower else { return };
        loop {
            match follower.feed.read(follower.next, usize::MAX).unwrap() {
                FeedRead::Batches(batches) => {
                    for batch in batches {
                        follower.store.write_raw(&batch.data).unwrap();
                        follower.next += u64::from(batch.count);
                    }
                }
                FeedRead::UpToDate => return,
                FeedRead::Gone => panic!("the log begins later"),
            }
        }
    }

    /// All raw entries of the database.
    pub(crate) fn pairs(&self) -> Vec<Pair> {
        pairs(&self.store())
    }

    /// Whether the replica holds the same raw entries, once it has applied what was written.
    #[track_caller]
    pub(crate) fn assert_replica_is_equal(&mut self) {
        self.catch_up();
        let follower = self.follower.as_ref().expect("a replica");
        assert_eq!(self.pairs(), pairs(&follower.store));
    }
}

fn pairs(store: &Store) -> Vec<Pair> {
    let mut all = Vec::new();
    for family in Family::ALL {
        let mut cursor = store.scan(family, b"", b"", Direction::Forward).unwrap();
        while let Some((key, value)) = cursor.next().unwrap() {
            all.push((family, key.to_vec(), value.to_vec()));
        }
    }
    all
}

mod tests {
    use super::*;

    #[test]
    fn time_goes_on_when_the_test_says_so_and_data_outlives_a_restart() {
        let mut shell = Shell::new();
        shell.follow();
        assert_eq!(shell.run("SET k v PX 10"), "+OK");
        assert_eq!(shell.run("PTTL k"), ":10");
        shell.advance(9);
        assert_eq!(shell.run("GET k"), "$1 v");
        let other = shell.client();
        shell.restart();
        assert_eq!(shell.run_as(other, "PTTL k"), ":1");
        shell.advance(1);
        assert_eq!(shell.run("PTTL k"), ":0");
        shell.advance(1);
        assert_eq!(shell.run("GET k"), "$-1");
        assert_eq!(shell.run("SET l 1"), "+OK");
        shell.assert_replica_is_equal();
    }
}
