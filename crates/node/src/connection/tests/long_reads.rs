//! Reads that another thread runs: what becomes of them, and of the others meanwhile.

use super::*;
use crate::long_reads;

/// More members than a worker has steps for.
fn filled(node: &Node) {
    let engine = node.engine();
    let names: Vec<String> = (0..500).map(|number| format!("member-{number}")).collect();
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    let (mut txn, scope) = (engine.store.as_ref().unwrap().txn(), node.scope(clock::unix_ms()));
    assert_eq!(storage::types::set::add(&mut txn, &scope.at(b"s"), &names).unwrap(), 500);
    txn.commit().unwrap();
}

fn short(values: &mut Values) {
    values.long_read_steps = 50;
}

/// Takes all seats, so that a long read waits for one of them.
async fn seats(node: &Node) -> [Option<long_reads::Seat>; 2] {
    [node.long_reads.seat().await, node.long_reads.seat().await]
}

/// Until a read waits for a seat; those of [`seats`] counted too.
async fn until_waits(node: &Node) {
    until(|| node.long_reads.count() == 3).await;
}

#[test]
fn others_are_served_while_a_long_read_waits_and_its_own_client_in_order() {
    served_by(short, |node, mut stream| async move {
        filled(&node);
        let taken = seats(&node).await;
        say(&mut stream, b"SET a 1\r\nSMEMBERS s\r\nSADD s more\r\nGET a\r\n").await;
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        until_waits(&node).await;
        // Nobody waits for it at the gate, or for the key.
        drop(node.gate.write());
        assert!(
            node.locks
                .try_lock(&crate::locks::Locks::stripes([b"s".as_slice()].into_iter()))
                .is_some()
        );
        drop(taken);
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n:1\r\n$1\r\n1\r\n") {
            stream.read_buf(&mut rest).await.unwrap();
        }
        assert!(rest.starts_with(b"*500\r\n$"));
        stream.write_all(mark().bytes()).await.unwrap();
        let mut end = Vec::new();
        stream.read_to_end(&mut end).await.unwrap();
        until(|| node.long_reads.are_done()).await;
    });
}

#[test]
fn a_long_read_ends_with_its_client() {
    let killed = |node: Arc<Node>, mut stream: TcpStream| async move {
        filled(&node);
        let taken = seats(&node).await;
        say(&mut stream, b"SMEMBERS s\r\n").await;
        until_waits(&node).await;
        node.clients.kill_where(|_| true);
        assert_eq!(rest(&mut stream).await, "");
        drop(taken);
        until(|| node.long_reads.are_done()).await;
    };
    served_by(short, killed);
    let gone = |node: Arc<Node>, mut stream: TcpStream| async move {
        filled(&node);
        let taken = seats(&node).await;
        say(&mut stream, b"SMEMBERS s\r\nSET after 1\r\n").await;
        until_waits(&node).await;
        stream.write_all(mark().bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
        drop(taken);
        until(|| node.long_reads.are_done()).await;
    };
    served_by(short, gone);
}

/// Else the client would keep the value, which was read before the change, for good.
#[test]
fn a_change_is_told_behind_the_long_read_of_what_was_there_before() {
    served_by(short, |node, mut stream| async move {
        filled(&node);
        let taken = seats(&node).await;
        say(&mut stream, b"CLIENT REPLY SKIP\r\nHELLO 3\r\nCLIENT TRACKING ON\r\nSMEMBERS s\r\n")
            .await;
        until_waits(&node).await;
        let client = node.clients.list().remove(0);
        assert_eq!(ask(&node, "SADD s more"), ":1\r\n");
        // As many turns as it would take to send it.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!client.inbox.is_empty(), "it has left");
        drop(taken);
        let push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\ns\r\n";
        let mut bytes = Vec::new();
        while !bytes.ends_with(push) {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "it was cut off");
        }
        assert!(bytes.starts_with(b"+OK\r\n~501\r\n"), "{}", bytes.escape_ascii());
    });
}

#[test]
fn one_that_waits_misses_nothing_while_another_thread_looks() {
    let shortest = |values: &mut Values| values.long_read_steps = 1;
    served_by(shortest, |node, mut stream| async move {
        assert_eq!(ask(&node, "XADD s 1-1 f v"), "$3\r\n1-1\r\n");
        let taken = seats(&node).await;
        say(&mut stream, b"XREAD BLOCK 0 STREAMS s t $ $\r\n").await;
        until_waits(&node).await;
        ask(&node, "XADD s 2-1 f v");
        drop(taken);
        let answer = "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n2-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
        let mut bytes = vec![0; answer.len()];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), answer);
        // Nor where it goes, if its balancer takes it elsewhere meanwhile.
        let _taken = seats(&node).await;
        let before = node.long_reads.count();
        stream.write_all(b"XREAD BLOCK 0 STREAMS s t $ $\r\n").await.unwrap();
        until(|| node.long_reads.count() > before).await;
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
        let moved = node.taken.open("secret", record, clock::unix_ms()).unwrap();
        let unread = String::from_utf8(moved.unread).unwrap().replace("\r\n", " ");
        let settled = "*8 $5 XREAD $5 BLOCK $1 0 $7 STREAMS $1 s $1 t $3 2-1 $3 0-0 ";
        assert_eq!(unread, settled);
    });
}

/// A session that its balancer asks for takes its read along.
#[test]
fn a_long_read_begins_anew_where_its_session_goes() {
    served_by(short, |node, mut stream| async move {
        filled(&node);
        let _taken = seats(&node).await;
        say(&mut stream, b"PING\r\nSMEMBERS s\r\nPING\r\n").await;
        until_waits(&node).await;
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
        let moved = node.taken.open("secret", record, clock::unix_ms()).unwrap();
        assert_eq!(moved.unread, b"SMEMBERS s\r\nPING\r\n");
    });
}

/// A transaction that has run does not run again elsewhere: it is answered first.
#[test]
fn a_transaction_with_a_long_read_is_answered_where_it_ran() {
    served_by(short, |node, mut stream| async move {
        filled(&node);
        let taken = seats(&node).await;
        let all = b"MULTI\r\nINCR n\r\nSMEMBERS s\r\nDEL s\r\nEXEC\r\nINCR n\r\n";
        say(&mut stream, all).await;
        until_waits(&node).await;
        stream.shutdown().await.unwrap();
        assert_eq!(node.long_reads.count(), 3);
        drop(taken);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let queued = "+QUEUED\r\n".repeat(3);
        assert!(text.starts_with(&format!("+OK\r\n{queued}*3\r\n:1\r\n*500\r\n$")), "{text}");
    });
}

#[test]
fn a_change_of_role_ends_a_long_read() {
    served_by(short, |node, mut stream| async move {
        filled(&node);
        let taken = seats(&node).await;
        say(&mut stream, b"SMEMBERS s\r\nPING\r\n").await;
        until_waits(&node).await;
        node.gate.write().generation += 1;
        drop(taken);
        let told =
            "-ERR the role or the data of this node changed while the command ran: try again\r\n";
        let mut answer = vec![0; told.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), told);
        stream.write_all(mark().bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "+PONG\r\n");
    });
}

/// What a read of a transaction is to see holds the database open, and must not do so for long.
#[test]
fn a_long_read_lets_go_of_a_database_that_is_replaced() {
    served_by(short, |node, mut stream| async move {
        filled(&node);
        let taken = seats(&node).await;
        say(&mut stream, b"MULTI\r\nSMEMBERS s\r\nEXEC\r\n").await;
        until_waits(&node).await;
        let store = {
            let mut engine = node.gate.write();
            engine.generation += 1;
            engine.store.take().unwrap()
        };
        let watch = store.close_watch();
        drop(store.close());
        until_closed(&watch).await;
        assert_eq!(rest(&mut stream).await, "+OK\r\n+QUEUED\r\n");
        drop(taken);
    });
}

async fn until_closed(watch: &storage::CloseWatch) {
    let closed = async {
        while !watch.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.expect("nobody holds the database");
}

/// Under leases the answer of another role is none.
#[test]
fn after_a_change_of_role_a_master_under_leases_does_not_answer_a_long_read() {
    let leases = |values: &mut Values| {
        short(values);
        values.master_lease_mode = api::heartbeat::LeaseMode::BlockWrite;
    };
    served_by(leases, |node, mut stream| async move {
        filled(&node);
        let taken = seats(&node).await;
        say(&mut stream, b"SMEMBERS s\r\n").await;
        until_waits(&node).await;
        node.gate.write().generation += 1;
        drop(taken);
        assert_eq!(rest(&mut stream).await, "");
    });
}
