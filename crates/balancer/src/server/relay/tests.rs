//! Over real sockets, with the client's and the node's ends in the hands of the test.

use api::moving::trailer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
/// More than sockets hold.
const MUCH: usize = 32 << 20;
/// How long a client may stay behind its node's end.
const STAYS: Duration = Duration::from_millis(50);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (dialled, listener.accept().await.unwrap().0)
}

fn left(budget: &Budget) -> usize {
    budget.0.load(Ordering::Relaxed)
}

/// Relays between two sockets until the session ends or has left the node.
async fn run(
    client: &mut Side,
    backend: TcpStream,
    luggage: &mut Luggage,
    order: &Notify,
    budgets: &Budgets,
) -> io::Result<End> {
    let (inbound, outbound) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut backend = Side::from(backend);
    let leave = Leave { order, mark: Some(mark()), budgets, patience: STAYS };
    relay(client, &mut backend, luggage, (&inbound, &outbound), leave).await
}

fn mark() -> Mark {
    Mark::new([7; Mark::BYTES])
}

#[test]
fn what_is_withheld_has_a_bound_over_all_sessions() {
    let budgets = Budgets::default();
    let budget = &budgets.withheld;
    let (mut one, mut other) = (Share::none(budget), Share::none(budget));
    assert!(one.grow(WITHHELD_MAX - 10) && other.grow(10));
    assert!(!other.grow(1));
    one.shrink_to(5);
    assert!(other.grow(1));
    let part = other.split(3);
    assert_eq!((part.bytes, other.bytes), (3, 8));
    drop((one, other, part));
    assert_eq!(left(budget), WITHHELD_MAX);
}

/// A session that is not asked for withholds nothing, also when the client has ended its side.
#[tokio::test]
async fn a_clients_end_is_a_mark_and_holds_nothing_back() {
    let ((mut client, accepted), (dialled, mut node)) = (pair().await, pair().await);
    let mut accepted = Side::from(accepted);
    let (budgets, order, mut luggage) = (Budgets::default(), Notify::new(), Luggage::default());
    let relaying = run(&mut accepted, dialled, &mut luggage, &order, &budgets);
    let test = async {
        client.write_all(b"PING\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut seen = [0; 6 + Mark::BYTES];
        node.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen[6..], mark().bytes());
        // The node does not end its stream, and the client gets all of it.
        let (text, mut read) = (vec![b'x'; MUCH], vec![0; MUCH]);
        let (wrote, got) = tokio::join!(node.write_all(&text), client.read_exact(&mut read));
        wrote.and(got.map(|_| ())).unwrap();
        assert_eq!(left(&budgets.withheld), WITHHELD_MAX);
        drop(node);
    };
    let both = async { tokio::join!(relaying, test) };
    let (end, ()) = timeout(PATIENCE, both).await.expect("an end");
    assert!(matches!(end, Ok(End::Closed)), "{end:?}");
}

/// A client that has ended its side and then vanishes while its node has nothing to say.
#[tokio::test]
async fn a_client_that_is_gone_behind_its_end_ends_the_session() {
    let ((mut client, accepted), (dialled, mut node)) = (pair().await, pair().await);
    let mut accepted = Side::from(accepted);
    let (budgets, order, mut luggage) = (Budgets::default(), Notify::new(), Luggage::default());
    let relaying = run(&mut accepted, dialled, &mut luggage, &order, &budgets);
    let test = async {
        client.shutdown().await.unwrap();
        node.read_exact(&mut [0; Mark::BYTES]).await.unwrap();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        node
    };
    let both = async { tokio::join!(relaying, test) };
    let (end, _node) = timeout(PATIENCE, both).await.expect("an end");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// A client that keeps its side open behind its node's end, as one does that nobody looks at.
#[tokio::test]
async fn a_client_that_stays_when_its_node_has_ended_the_session_does_not_keep_it() {
    let ((mut client, accepted), (dialled, mut node)) = (pair().await, pair().await);
    let mut accepted = Side::from(accepted);
    let (budgets, order, mut luggage) = (Budgets::default(), Notify::new(), Luggage::default());
    let relaying = run(&mut accepted, dialled, &mut luggage, &order, &budgets);
    let test = async {
        node.write_all(b"+OK\r\n").await.unwrap();
        drop(node);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"+OK\r\n");
        client
    };
    let both = async { tokio::join!(relaying, test) };
    let (end, _client) = timeout(PATIENCE, both).await.expect("an end");
    assert!(matches!(end, Ok(End::Closed)), "{end:?}");
}

/// What a client leaves unread when its session moves is counted until it is read, and not with
/// what sessions need to move.
#[tokio::test]
async fn unread_replies_of_a_session_that_moved_are_counted() {
    const REPLIES: usize = 900_000;
    let ((mut client, accepted), (dialled, mut node)) = (pair().await, pair().await);
    let mut accepted = Side::from(accepted);
    // Most of it stays with the session.
    SockRef::from(&client).set_recv_buffer_size(16 * 1024).unwrap();
    SockRef::from(accepted.socket()).set_send_buffer_size(16 * 1024).unwrap();
    let (budgets, order, mut luggage) = (Budgets::default(), Notify::new(), Luggage::default());
    let relaying = run(&mut accepted, dialled, &mut luggage, &order, &budgets);
    let test = async {
        order.notify_one();
        assert_eq!(node.read(&mut [0; 1]).await.unwrap(), 0);
        node.write_all(&vec![b'x'; REPLIES]).await.unwrap();
        node.write_all(&trailer(b"record".to_vec()).unwrap()).await.unwrap();
        drop(node);
    };
    let both = async { tokio::join!(relaying, test) };
    let (end, ()) = timeout(PATIENCE, both).await.expect("an end");
    let Ok(End::Given(record)) = end else { panic!("{end:?}") };
    assert_eq!(record.bytes, b"record");
    assert_eq!(left(&budgets.withheld), WITHHELD_MAX - record.bytes.len());
    let unsent = luggage.to_client.len();
    assert!(unsent > REPLIES / 3, "{unsent}");
    assert_eq!(left(&budgets.unread), UNREAD_MAX - (unsent - SCRATCH));
    drop(record);
    assert_eq!(left(&budgets.withheld), WITHHELD_MAX);
    // At the next node, as the client reads.
    let (dialled, next) = pair().await;
    let relaying = run(&mut accepted, dialled, &mut luggage, &order, &budgets);
    let test = async {
        client.read_exact(&mut vec![0; REPLIES]).await.unwrap();
        drop((client, next));
    };
    let both = async { tokio::join!(relaying, test) };
    timeout(PATIENCE, both).await.expect("an end").0.ok();
    assert_eq!(left(&budgets.unread), UNREAD_MAX);
}

/// No room for what a client leaves unread: its session ends, and nothing stays taken.
#[test]
fn a_session_without_room_for_its_unread_replies_does_not_move() {
    let (budgets, total) = (Budgets::default(), AtomicU64::new(0));
    let mut all = Share::none(&budgets.unread);
    assert!(all.grow(UNREAD_MAX - 5));
    let mut pipe = Pipe::new(vec![0; SCRATCH + 6], &total, &budgets);
    assert_eq!(pipe.settle().unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    let mut small = Pipe::new(vec![0; SCRATCH + 5], &total, &budgets);
    small.settle().unwrap();
    drop((pipe, small, all));
    assert_eq!(left(&budgets.unread), UNREAD_MAX);
}
