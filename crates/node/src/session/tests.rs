//! Commands of one read buffer, from words to replies, on a real database.

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use storage::{FeedRead, Store};
use topology::Cluster;

use super::After;
use super::Session;
use super::dispatch::{Batch, UNWRITTEN};
use crate::clients::PauseKind;
use crate::config::Values;
use crate::gate::Role;
use crate::grants::state::Ticket;
use crate::node::Node;
use crate::shell;

mod contract;
mod sampled;
mod together;
mod whole;
mod wrong_door;

/// The commands of one read buffer, from now on.
fn begin(node: &Arc<Node>) -> Batch<'_> {
    Batch::begin(node, node.config.now(), 0, crate::clock::unix_ms())
}

struct Bench {
    node: Arc<Node>,
    session: Session,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::start(|_| {}, Cluster::default(), Role::Master)
    }

    fn start(change: impl FnOnce(&mut Values), cluster: Cluster, role: Role) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut values = shell::small();
        change(&mut values);
        let node = shell::node(dir.path(), values, cluster, role);
        let session = Self::session(&node);
        Self { node, session, _dir: dir }
    }

    fn session(node: &Node) -> Session {
        shell::session(node)
    }

    /// Runs a pipeline and returns its replies as text.
    fn pipeline(&mut self, commands: &[&str]) -> String {
        Self::run(&self.node, &mut self.session, commands)
    }

    fn run(node: &Arc<Node>, session: &mut Session, commands: &[&str]) -> String {
        let mut out = Vec::new();
        let mut batch = begin(node);
        for command in commands {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            match batch.run(session, &words, &mut out) {
                After::Next(_) => {}
                After::Long(read) => out.extend(shell::finish(read)),
                after => panic!("{command}: {after:?}"),
            }
        }
        batch.close(session, &mut out).finish(node).unwrap();
        String::from_utf8(out).unwrap().replace("\r\n", " ").trim_end().to_owned()
    }

    /// Runs a command and returns its reply, whether or not it may leave.
    fn run_unfinished(node: &Arc<Node>, session: &mut Session, command: &str) -> String {
        let mut out = Vec::new();
        let mut batch = begin(node);
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        batch.run(session, &words, &mut out);
        drop(batch);
        String::from_utf8(out).unwrap().replace("\r\n", " ").trim_end().to_owned()
    }

    /// Runs a pipeline after which a connection is to be closed instead of answered; returns why.
    fn unanswered(&mut self, command: &str) -> &'static str {
        let mut out = Vec::new();
        let mut batch = begin(&self.node);
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        batch.run(&mut self.session, &words, &mut out);
        batch.close(&self.session, &mut out).finish(&self.node).unwrap_err()
    }

    /// From now on whatever is written to the log meets a full disk.
    #[expect(unsafe_code, reason = "std cannot put another file behind an open descriptor")]
    fn fill_disk(&self) {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut found = 0;
        for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let is_log = target.extension().is_some_and(|extension| extension == "log");
            if is_log && target.starts_with(self._dir.path()) {
                let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
                // SAFETY: dup2 takes two descriptors, both open, and touches no memory.
                assert_eq!(unsafe { libc::dup2(full.as_raw_fd(), number) }, number);
                found += 1;
            }
        }
        assert!(found > 0);
    }

    /// Record counts of the batches written since `sequence`.
    fn batches_since(&self, sequence: u64) -> Vec<u32> {
        let engine = self.node.engine();
        let mut reader = engine.store.as_ref().unwrap().feed();
        match reader.read(sequence + 1, 1 << 20).unwrap() {
            FeedRead::Batches(batches) => batches.iter().map(|batch| batch.count).collect(),
            _ => Vec::new(),
        }
    }

    fn sequence(&self) -> u64 {
        self.node.engine().store.as_ref().map_or(0, Store::latest_sequence)
    }
}

#[test]
fn writes_of_a_pipeline_share_a_batch_also_those_of_one_key() {
    let mut bench = Bench::new();
    assert_eq!(bench.pipeline(&["SET a 1", "SET b 2", "INCR a", "SET c 3"]), "+OK +OK :2 +OK");
    assert_eq!(bench.batches_since(0), [4]);
    let before = bench.sequence();
    let one = ["INCR a", "DEL a", "INCR a", "HSET a f v", "DEL a b", "HSET a f v", "HDEL a f"];
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(bench.pipeline(&one), format!(":3 :1 :1 {wrong} :2 :1 :1"));
    // What fails commits what waits.
    assert_eq!(bench.batches_since(before), [3, 6]);
    assert_eq!(bench.pipeline(&["SET d 1", "GET d", "INCR d"]), "+OK $1 1 :2");
}

#[test]
fn a_command_that_fails_leaves_the_others_of_its_pipeline_alone() {
    let mut bench = Bench::new();
    let replies = bench.pipeline(&["SET a x", "SET b 1", "INCR a", "INCR b", "NOPE", "SET c 1"]);
    assert!(
        replies.starts_with(
            "+OK +OK -ERR value is not an integer or out of range :2 -ERR unknown command"
        ),
        "{replies}"
    );
    assert!(replies.ends_with("+OK"));
    assert_eq!(bench.pipeline(&["MGET a b c"]), "*3 $1 x $1 2 $1 1");
}

#[test]
fn words_of_a_browser_end_the_connection_and_others_like_them_do_not() {
    let mut bench = Bench::new();
    for command in ["POST / HTTP/1.1", "post", "Host: 127.0.0.1:6666", "HOST:"] {
        let said = bench.answer(command);
        assert!(said.is_err_and(|why| why.contains("HTTP")), "{command}");
    }
    for command in ["host a", "POSTS", "PUT / HTTP/1.1", "User-Agent: a"] {
        let said = bench.answer(command).unwrap();
        assert!(said.starts_with("-ERR unknown command"), "{said}");
    }
    // It holds in a transaction too.
    assert_eq!(bench.pipeline(&["MULTI", "SET a 1"]), "+OK +QUEUED");
    assert!(bench.answer("Host: a").is_err());
}

#[test]
fn exec_is_one_batch_and_sees_its_own_writes() {
    let mut bench = Bench::new();
    let replies = bench.pipeline(&["MULTI", "SET a 1", "INCR a", "GET a", "INCR b x", "EXEC"]);
    assert!(replies.starts_with("+OK +QUEUED +QUEUED +QUEUED -ERR wrong number"), "{replies}");
    assert!(replies.ends_with("-EXECABORT Transaction discarded because of previous errors."));
    let before = bench.sequence();
    let replies = bench.pipeline(&["MULTI", "SET a 1", "INCR a", "GET a", "EXEC"]);
    assert_eq!(replies, "+OK +QUEUED +QUEUED +QUEUED *3 +OK :2 $1 2");
    assert_eq!(bench.batches_since(before), [2]);
}

#[test]
fn a_command_touches_the_keys_that_it_changes_and_no_others() {
    let mut bench = Bench::new();
    let mut watcher = Bench::session(&bench.node);
    let exec = ["MULTI", "SET w 1", "EXEC"];
    bench.pipeline(&["SET full 1"]);
    for untouching in [
        &["DEL absent full"][..],
        &["EXPIRE absent 10"],
        &["SET full 1", "SET absent 2 XX"],
        &["MULTI", "DEL absent full", "UNLINK absent", "EXEC"],
        &["FLUSHALL"],
        &["SUNIONSTORE absent nothing"],
        &["ZUNIONSTORE absent 1 nothing"],
        &["LMOVE absent absent LEFT LEFT"],
    ] {
        bench.pipeline(&["SET full 1"]);
        Bench::run(&bench.node, &mut watcher, &["WATCH absent"]);
        bench.pipeline(untouching);
        let replies = Bench::run(&bench.node, &mut watcher, &exec);
        assert_eq!(replies, "+OK +QUEUED *1 +OK", "{untouching:?}");
    }
    for touching in [
        &["DEL absent full"][..],
        &["MULTI", "MSET full 2 other 1", "EXEC"],
        &["FLUSHALL"],
        &["FLUSHALL", "SET full 1"],
        &["SUNIONSTORE full nothing"],
        &["DEL full", "RPUSH full a", "LMOVE full full LEFT LEFT"],
    ] {
        bench.pipeline(&["SET full 1"]);
        Bench::run(&bench.node, &mut watcher, &["WATCH full"]);
        bench.pipeline(touching);
        let replies = Bench::run(&bench.node, &mut watcher, &exec);
        assert_eq!(replies, "+OK +QUEUED *-1", "{touching:?}");
    }
}

#[test]
fn an_element_that_stays_where_it_is_touches_its_list() {
    let mut bench = Bench::new();
    let mut watcher = Bench::session(&bench.node);
    bench.pipeline(&["RPUSH l a b", "RPUSH one a"]);
    for (key, command) in [("l", "LMOVE l l LEFT LEFT"), ("one", "RPOPLPUSH one one")] {
        Bench::run(&bench.node, &mut watcher, &[&format!("WATCH {key}")]);
        let before = bench.sequence();
        bench.pipeline(&[command]);
        assert_eq!(bench.sequence(), before, "{command} writes nothing");
        let replies = Bench::run(&bench.node, &mut watcher, &["MULTI", "PING", "EXEC"]);
        assert_eq!(replies, "+OK +QUEUED *-1", "{command}");
    }
}

#[test]
fn a_write_that_waits_in_a_pipeline_still_touches_who_watches() {
    let mut bench = Bench::new();
    let mut watcher = Bench::session(&bench.node);
    Bench::run(&bench.node, &mut watcher, &["WATCH a"]);
    bench.pipeline(&["SET x 1", "SET a 1"]);
    let replies = Bench::run(&bench.node, &mut watcher, &["MULTI", "SET b 1", "EXEC"]);
    assert_eq!(replies, "+OK +QUEUED *-1");
    Bench::run(&bench.node, &mut watcher, &["WATCH a"]);
    bench.pipeline(&["FLUSHALL"]);
    let replies = Bench::run(&bench.node, &mut watcher, &["MULTI", "SET b 1", "EXEC"]);
    assert_eq!(replies, "+OK +QUEUED *-1");
}

#[test]
fn a_transaction_that_is_to_abort_still_is_after_a_pause() {
    let mut bench = Bench::new();
    let replies = bench.pipeline(&["MULTI", "SET k 1", "NOSUCH"]);
    assert!(replies.starts_with("+OK +QUEUED -ERR unknown command"), "{replies}");
    bench.node.clients.pause(PauseKind::Write, u64::MAX, 0);
    let mut out = Vec::new();
    let mut batch = begin(&bench.node);
    let step = batch.run(&mut bench.session, &[b"EXEC"], &mut out);
    assert!(matches!(step, After::Again(_)) && out.is_empty());
    drop(batch);
    bench.node.clients.unpause();
    let replies = bench.pipeline(&["EXEC", "GET k"]);
    assert_eq!(replies, "-EXECABORT Transaction discarded because of previous errors. $-1");
}

#[test]
fn a_failed_append_is_answered_by_nobody_and_neither_is_what_was_read() {
    let mut bench = Bench::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    // As `run` does it, where the hook ends the process.
    let store = bench.node.engine().store.clone().unwrap();
    store.on_failure(Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    assert_eq!(bench.pipeline(&["SET a 1"]), "+OK");
    let ticket = Ticket { sequence: bench.sequence(), generation: 0, is_write: false };
    bench.fill_disk();
    assert_eq!(bench.pipeline(&["GET a"]), "$1 1", "nothing had to be written for that");
    // The append goes into a buffer; handing it over fails.
    assert_eq!(bench.unanswered("SET a 2"), UNWRITTEN);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let script = "EVAL return(redis.call('GET','a')) 1 a";
    for command in ["GET a", "SET b 1", "EXISTS a", "DEL a", script] {
        assert_eq!(bench.unanswered(command), UNWRITTEN, "{command}");
    }
    // What waited for the set does not leave any more either.
    let why = crate::grants::drive::may_leave(&bench.node, &ticket).unwrap_err();
    assert!(why.contains("WAL"), "{why}");
    assert_eq!(bench.pipeline(&["PING"]), "+PONG", "it tells of no data");
}

#[test]
fn a_read_of_what_another_thread_has_not_published_yet_publishes_it() {
    let mut bench = Bench::new();
    let store = bench.node.engine().store.clone().unwrap();
    let mut other = Bench::session(&bench.node);
    let mut out = Vec::new();
    let mut batch = begin(&bench.node);
    batch.run(&mut other, &[b"SET".as_slice(), b"a", b"1"], &mut out);
    let ran = batch.close(&other, &mut out);
    assert!(store.published() < store.latest_sequence());
    assert_eq!(bench.pipeline(&["GET a"]), "$1 1");
    assert_eq!(store.published(), store.latest_sequence());
    ran.finish(&bench.node).unwrap();
}

/// As redis-server 7 answers.
#[test]
fn debug_protocol_shows_attributes_and_pushes_where_there_are_any() {
    let mut bench = Bench::new();
    let real = |what: &str| format!("Some real reply following the {what}");
    let (attribute, push) = (real("attribute"), real("push reply"));
    let said = bench.pipeline(&["DEBUG PROTOCOL attrib", "DEBUG PROTOCOL push"]);
    assert_eq!(said, format!("$39 {attribute} -ERR RESP2 is not supported by this command"));
    bench.pipeline(&["HELLO 3"]);
    let said = bench.pipeline(&["DEBUG PROTOCOL attrib"]);
    assert_eq!(said, format!("|1 $14 key-popularity *2 $7 key:123 :90 $39 {attribute}"));
    let said = bench.pipeline(&["DEBUG PROTOCOL push"]);
    assert_eq!(said, format!(">2 $16 server-cpu-usage :42 $40 {push}"));
}
