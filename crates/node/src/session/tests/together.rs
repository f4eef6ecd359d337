//! Commands of several connections in one batch.

use storage::FeedBatch;

use super::*;
use crate::session::dispatch::Ran;
use crate::waiters::Told;

/// Connections that share batches.
struct Turn {
    bench: Bench,
    store: Store,
    sessions: Vec<Session>,
}

impl Turn {
    fn new(connections: usize) -> Self {
        Self::of(Bench::new(), connections)
    }

    fn of(bench: Bench, connections: usize) -> Self {
        let store = bench.node.engine().store.clone().unwrap();
        let sessions = (0..connections).map(|_| Bench::session(&bench.node)).collect();
        Self { bench, store, sessions }
    }

    /// Runs what each of the connections sent, and returns their replies.
    fn take(&mut self, sent: &[&[&str]]) -> Vec<String> {
        let node = &self.bench.node;
        let mut batch = begin(node);
        let mut left: Vec<(Ran, Vec<u8>)> = Vec::new();
        for (session, commands) in self.sessions.iter_mut().zip(sent) {
            let mut out = Vec::new();
            for command in *commands {
                let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
                batch.run(session, &words, &mut out);
            }
            left.push((batch.leave(), out));
        }
        let ended = batch.end();
        let mut replies = Vec::new();
        for (member, (ran, mut out)) in left.into_iter().enumerate() {
            let ran = ended.apply(member, ran, &self.sessions[member], &mut out);
            ran.finish(node).unwrap();
            let text = String::from_utf8(out).unwrap();
            replies.push(text.replace("\r\n", " ").trim_end().to_owned());
        }
        replies
    }

    /// Batches of the log from `sequence` on.
    fn log(&self, sequence: u64) -> Vec<FeedBatch> {
        match self.store.feed().read(sequence, 1 << 20).unwrap() {
            FeedRead::Batches(batches) => batches,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn writes_of_several_connections_are_one_batch() {
    let mut turn = Turn::new(3);
    let first = turn.store.latest_sequence() + 1;
    let replies = turn.take(&[&["SET a 1", "INCR n"], &["INCR n"], &["LPUSH l x", "INCR n"]]);
    assert_eq!(replies, ["+OK :1", ":2", ":1 :3"]);
    let log = turn.log(first);
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(turn.store.published(), turn.store.latest_sequence());
    assert_eq!(turn.bench.pipeline(&["GET n"]), "$1 3");
}

/// What is written before the turn has ended, because it was large or because a command failed, is
/// answered in its place all the same.
#[test]
fn a_large_batch_is_written_before_the_next_command_whoever_sent_it() {
    let mut turn = Turn::new(2);
    let set = |key: &str| format!("SET {key} {}", "x".repeat(40 << 10));
    let [a, b, c] = ["a", "b", "c"].map(set);
    let first = turn.store.latest_sequence() + 1;
    let sent: [&[&str]; 2] = [&[&a, "INCR a", &b, "INCR n"], &[&c, "LPUSH a x", "INCR n"]];
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    let replies = turn.take(&sent);
    assert_eq!(replies[0], "+OK -ERR value is not an integer or out of range +OK :1");
    assert_eq!(replies[1], format!("+OK {wrong} :2"));
    let batches: Vec<u32> = turn.log(first).iter().map(|batch| batch.count).collect();
    assert_eq!(batches, [1, 3, 1], "the failed commands have written nothing");
    assert_eq!(turn.store.published(), turn.store.latest_sequence());
}

#[test]
fn scripts_that_are_over_at_once_are_of_the_batch_too() {
    let mut turn = Turn::new(3);
    let count = "EVAL return(redis.call('INCR',KEYS[1])) 1 n";
    let failing = "EVAL redis.call('SET','b','2')error('no') 1 b";
    let first = turn.store.latest_sequence() + 1;
    let replies = turn.take(&[&["SET a 1", count], &[count, failing], &[count, "INCR b"]]);
    assert_eq!((replies[0].as_str(), replies[2].as_str()), ("+OK :1", ":3 :3"));
    assert!(replies[1].starts_with(":2 -ERR user_script:1: no script: "), "{replies:?}");
    assert_eq!(turn.log(first).len(), 1);
    assert_eq!(turn.bench.pipeline(&["MGET a b n"]), "*3 $1 1 $1 3 $1 3");
    // One that would have to wait for another one's key runs by itself.
    let first = turn.store.latest_sequence() + 1;
    turn.sessions[1].namespace = b"other".as_slice().into();
    assert_eq!(turn.take(&[&[count], &[count], &[count]]), [":4", ":1", ":5"]);
    assert_eq!(turn.log(first).len(), 3);
}

#[test]
fn a_read_sees_what_its_own_connection_wrote_and_may_come_before_what_others_did() {
    let mut turn = Turn::new(3);
    let replies = turn.take(&[&["SET a 1"], &["GET a"], &["SET b 2", "GET b", "GET a"]]);
    assert_eq!(replies, ["+OK", "$-1", "+OK $1 2 $1 1"]);
    // A transaction is a batch of its own, behind what ran before it.
    let first = turn.store.latest_sequence() + 1;
    let replies = turn.take(&[
        &["SET a 2"],
        &["MULTI", "INCR a", "GET a", "EXEC"],
        &["WATCH a", "SET a 9", "GET a"],
    ]);
    assert_eq!(replies, ["+OK", "+OK +QUEUED +QUEUED *2 :3 $1 3", "+OK +OK $1 9"]);
    assert_eq!(turn.log(first).len(), 3);
}

#[test]
fn a_connection_that_only_read_has_written_nothing() {
    let mut turn = Turn::new(3);
    let node = std::sync::Arc::clone(&turn.bench.node);
    let mut batch = begin(&node);
    let mut outs = [Vec::new(), Vec::new(), Vec::new()];
    let sent: [&[&[u8]]; 3] = [&[b"SET", b"a", b"1"], &[b"GET", b"a"], &[b"PING"]];
    let mut ran = Vec::new();
    for ((session, out), words) in turn.sessions.iter_mut().zip(&mut outs).zip(sent) {
        batch.run(session, words, out);
        ran.push(batch.leave());
    }
    let ended = batch.end();
    let told: Vec<bool> = (0..3)
        .map(|at| ended.apply(at, ran[at], &turn.sessions[at], &mut outs[at]).has_written)
        .collect();
    assert_eq!(told, [true, false, false]);
}

#[test]
fn other_namespaces_are_other_batches() {
    let mut turn = Turn::new(2);
    turn.sessions[1].namespace = b"other".as_slice().into();
    let first = turn.store.latest_sequence() + 1;
    assert_eq!(turn.take(&[&["SET a 1"], &["SET a 2"]]), ["+OK", "+OK"]);
    assert_eq!(turn.log(first).len(), 2);
    assert_eq!(turn.take(&[&["GET a"], &["GET a"]]), ["$1 1", "$1 2"]);
}

/// It is served before the next command runs. A client that waits for another key divides nothing.
#[test]
fn a_client_that_waits_divides_a_batch_where_its_key_is_written() {
    let mut turn = Turn::new(2);
    let node = Arc::clone(&turn.bench.node);
    let mut session = Bench::session(&node);
    let mut batch = begin(&node);
    let after = batch.run(&mut session, &[b"BLPOP", b"q", b"0"], &mut Vec::new());
    batch.close(&session, &mut Vec::new());
    let After::Blocked(mut waiting) = after else { panic!("{after:?}") };
    let first = turn.store.latest_sequence() + 1;
    assert_eq!(turn.take(&[&["SET a 1", "SET b 2"], &["INCR n"]]), ["+OK +OK", ":1"]);
    assert_eq!((turn.log(first).len(), waiting.now()), (1, None));
    let first = turn.store.latest_sequence() + 1;
    let replies = turn.take(&[&["SET a 2", "RPUSH q x", "SET b 3", "RPUSH q y"], &["RPUSH q z"]]);
    assert_eq!(replies, ["+OK :1 +OK :1", ":2"]);
    // What is pushed, what is popped, and the rest.
    assert_eq!(turn.log(first).len(), 3);
    let answer = b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n".to_vec();
    assert_eq!(waiting.now(), Some(Told::Answer(answer)));
}

/// Its key is named by nobody: only the database that it is moved to is.
#[test]
fn a_client_that_waits_in_another_database_is_served_before_the_next_command() {
    let bench = Bench::start(|values| values.redis_databases = 2, Cluster::default(), Role::Master);
    let mut turn = Turn::of(bench, 1);
    let node = Arc::clone(&turn.bench.node);
    let mut session = Bench::session(&node);
    session.namespace = b"1".as_slice().into();
    let mut batch = begin(&node);
    let after = batch.run(&mut session, &[b"BLPOP", b"q", b"0"], &mut Vec::new());
    batch.close(&session, &mut Vec::new());
    let After::Blocked(mut waiting) = after else { panic!("{after:?}") };
    // The second one finds what the first one moved only if nobody has taken it.
    let replies = turn.take(&[&["RPUSH q a", "MOVE q 1", "RPUSH q b", "MOVE q 1"]]);
    assert_eq!(replies, [":1 :1 :1 :1"]);
    let answer = b"*2\r\n$1\r\nq\r\n$1\r\na\r\n".to_vec();
    assert_eq!(waiting.now(), Some(Told::Answer(answer)));
}
