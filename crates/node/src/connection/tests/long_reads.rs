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
