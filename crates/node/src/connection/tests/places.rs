//! Which kind of place a connection takes, as it proves what it is; what CLIENT LIST shows of it.

use super::*;
use crate::clients::TOO_MANY;

/// Sends a line, and reads as much as the answer that is expected.
async fn asked(stream: &mut TcpStream, line: &str, answer: &str) {
    stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    let mut bytes = vec![0; answer.len() + 2];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), format!("{answer}\r\n"), "{line}");
}

fn direct(values: &mut Values) {
    values.balancer_sources = Networks(Vec::new());
    values.maxclients = 1;
}

#[test]
fn a_peer_that_becomes_a_client_takes_a_clients_place() {
    served_by(direct, |node, mut stream| async move {
        let places = || node.clients.places.count();
        for _ in 0..2 {
            asked(&mut stream, "AUTH secret", "+OK").await;
            assert_eq!(places(), (0, 1));
            asked(&mut stream, "RESET", "+RESET").await;
            assert_eq!(places(), (1, 0));
        }
        // Where no client needs a password, any will do for one.
        asked(&mut stream, "AUTH secret", "+OK").await;
        asked(&mut stream, "AUTH default any", "+OK").await;
        assert_eq!(places(), (1, 0));
        asked(&mut stream, "SET k v", "+OK").await;
    });
}

#[test]
fn a_peer_that_becomes_a_client_where_no_place_is_left_must_go() {
    served_by(direct, |node, mut stream| async move {
        asked(&mut stream, "AUTH secret", "+OK").await;
        let other = node.clients.places.enter(1, 8);
        asked(&mut stream, "RESET", "+RESET").await;
        assert_eq!(node.clients.places.count(), (1, 0));
        // It may still show that it is a peer, and is one again.
        asked(&mut stream, "AUTH secret", "+OK").await;
        asked(&mut stream, "SET k v", "+OK").await;
        asked(&mut stream, "RESET", "+RESET").await;
        stream.write_all(b"GET k\r\n").await.unwrap();
        assert_eq!(rest(&mut stream).await, format!("-{TOO_MANY}\r\n"));
        drop(other);
    });
}

#[test]
fn what_waits_for_a_client_that_does_not_read_is_shown() {
    const LARGE: usize = 24 << 20;
    served_by(direct, |node, mut stream| async move {
        let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${LARGE}\r\n");
        stream.write_all(set.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'v'; LARGE]).await.unwrap();
        asked(&mut stream, "", "+OK").await;
        let field = |name: &str| -> usize {
            let line = node.clients.list()[0].line(0);
            let found = line.split(' ').find_map(|field| field.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{name} in {line}")).parse().unwrap()
        };
        until(|| field("omem=") == 0 && field("obl=") == 0).await;
        stream.write_all(b"GET k\r\n").await.unwrap();
        until(|| field("omem=") >= LARGE).await;
        assert!(field("omem=") >= field("obl=") && field("obl=") >= LARGE);
        let mut read = vec![0; LARGE + format!("${LARGE}\r\n\r\n").len()];
        stream.read_exact(&mut read).await.unwrap();
        until(|| field("omem=") == 0).await;
    });
}
