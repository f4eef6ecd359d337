//! What a session takes along to the next node, which connections may bring it there, and which
//! sessions end with their connection.

use super::*;

/// The node answers with `text`, and nothing else so far.
async fn expect(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

/// The balancer asks for the session: its record, or `None` where it ends instead.
async fn given_back(mut stream: TcpStream) -> Option<Vec<u8>> {
    stream.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    find(&bytes).map(|range| bytes[range].to_vec())
}

/// What the node answers to these commands of a session that comes with `record`, under a header
/// of this client and frontend.
async fn taken_over(
    node: &Arc<Node>,
    (client, frontend): (SocketAddr, SocketAddr),
    record: &[u8],
    commands: &[u8],
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut next = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, peer) = listener.accept().await.unwrap();
    let seat = Seat { node: Arc::clone(node), worker: 0, peers: None };
    let serving = serve(seat, accepted, peer, node.clients.places.enter(1_000, 8));
    let going_on = async {
        let length = u32::try_from(record.len()).unwrap();
        let head = proxy::encode_moving(client, frontend, length, &mark());
        let all = [&head[..], record, commands, &mark().bytes()[..]].concat();
        next.write_all(&all).await.unwrap();
        greeting::remains(&mut next).await
    };
    let (_, said) = tokio::join!(serving, going_on);
    String::from_utf8_lossy(&said).into_owned()
}

/// Users belong to a node: where that name is not one, nobody is let in by another node's word.
#[test]
fn a_session_of_a_user_is_that_users_at_the_next_node_or_nobodys() {
    const NOBODY: &str = "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n";
    type Change = fn(&Node);
    let changes: [(Change, &str); 3] = [
        (|_| {}, "$1\r\nv\r\n-NOPERM "),
        (|node| node.acl.set("ann", &["off"]).unwrap(), NOBODY),
        (|node| assert!(node.acl.remove("ann")), NOBODY),
    ];
    for (change, answers) in changes {
        served(|node, mut stream| async move {
            node.acl.set("ann", &["on", ">p", "~a*", "+get", "+set"]).unwrap();
            say(&mut stream, b"AUTH ann p\r\nSET a v\r\n").await;
            expect(&mut stream, "+OK\r\n+OK\r\n").await;
            let record = given_back(stream).await.expect("a record");
            change(&node);
            let said = taken_over(&node, ends(), &record, b"GET a\r\nGET b\r\n").await;
            assert!(said.starts_with(answers), "{said}");
        });
    }
}

/// The user that needs no name may be off here as well.
#[test]
fn a_session_of_the_default_user_is_nobodys_where_that_user_is_off() {
    served(|node, mut stream| async move {
        say(&mut stream, b"SET a v\r\n").await;
        expect(&mut stream, "+OK\r\n").await;
        let record = given_back(stream).await.expect("a record");
        node.acl.set("default", &["off"]).unwrap();
        let said = taken_over(&node, ends(), &record, b"GET a\r\n").await;
        assert!(said.starts_with("-NOAUTH "), "{said}");
    });
}

/// What it may hear is for this node to say, too: subscriptions that it brings along pass no gate.
#[test]
fn a_session_that_subscribes_to_what_it_may_not_hear_here_ends() {
    type Change = fn(&Node);
    let changes: [(Change, &str); 3] = [
        (|_| {}, "*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
        (|node| node.acl.set("ann", &["resetchannels", "&other"]).unwrap(), ""),
        (|node| assert!(node.acl.remove("ann")), ""),
    ];
    for (change, answer) in changes {
        served(|node, mut stream| async move {
            node.acl.set("ann", &["on", ">p", "&news", "+subscribe", "+ping"]).unwrap();
            say(&mut stream, b"AUTH ann p\r\nSUBSCRIBE news\r\n").await;
            expect(&mut stream, "+OK\r\n*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n").await;
            let record = given_back(stream).await.expect("a record");
            change(&node);
            assert_eq!(taken_over(&node, ends(), &record, b"PING\r\n").await, answer);
            assert!(!node.pubsub.any(), "it has left");
        });
    }
}

/// Somebody who may dial from a balancer's address must not go on with another client's login.
#[test]
fn a_record_is_taken_for_its_own_client_and_frontend_alone() {
    let (client, frontend) = ends();
    let other = "10.0.0.1:6".parse().unwrap();
    let all = [((client, frontend), "$1\r\nv\r\n"), ((other, frontend), ""), ((client, other), "")];
    for (ends, answer) in all {
        served(|node, mut stream| async move {
            say(&mut stream, b"SET k v\r\n").await;
            expect(&mut stream, "+OK\r\n").await;
            let record = given_back(stream).await.expect("a record");
            assert_eq!(taken_over(&node, ends, &record, b"GET k\r\n").await, answer, "{ends:?}");
        });
    }
}

/// What the node knows of them goes nowhere: the client has to begin anew, and sees that it must.
#[test]
fn sessions_that_track_monitor_or_have_a_namespace_end_with_their_connection() {
    let all = [
        ("CLIENT REPLY SKIP\r\nHELLO 3\r\nCLIENT TRACKING ON\r\n", "+OK\r\n", false),
        ("CLIENT REPLY SKIP\r\nHELLO 3\r\nCLIENT TRACKING OFF\r\n", "+OK\r\n", true),
        ("MONITOR\r\n", "+OK\r\n", false),
        ("NAMESPACE ADD n token\r\nPING\r\n", "+OK\r\n+PONG\r\n", true),
        ("NAMESPACE ADD n token\r\nAUTH token\r\n", "+OK\r\n+OK\r\n", false),
    ];
    let change = |values: &mut Values| {
        values.requirepass = "open".into();
        values.repl_namespace_enabled = true;
    };
    for (commands, answers, moves) in all {
        served_by(change, |_, mut stream| async move {
            say(&mut stream, format!("AUTH open\r\n{commands}").as_bytes()).await;
            expect(&mut stream, &format!("+OK\r\n{answers}")).await;
            assert_eq!(given_back(stream).await.is_some(), moves, "{commands}");
        });
    }
}
