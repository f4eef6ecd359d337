//! PROXY headers: where one must be, where none may be, and what a load balancer may do in its own
//! name.

use api::heartbeat::ClientAccess;

use super::*;
use crate::proxy_refused::Fault;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const LOCAL_ONLY: &str =
    "-NOPERM a load balancer's own connection (PROXY command LOCAL) may only PING\r\n";

/// No address is a balancer's.
fn unlisted(values: &mut Values) {
    values.balancer_sources = Networks(Vec::new());
}

/// What a balancer sends that is not listed, or not known to be one.
fn foreign() -> Vec<Vec<u8>> {
    let (v4, v6) = ("10.0.0.1:5".parse().unwrap(), "[2001:db8::1]:6".parse().unwrap());
    vec![
        proxy::encode(v4, v4),
        proxy::encode(v4, v6),
        proxy::encode_moving(v4, v4, 0, &mark()),
        proxy::encode_local(),
        b"PROXY TCP4 10.0.0.1 10.0.9.1 5 6379\r\n".to_vec(),
        b"PROXY TCP6 ::1 ::2 5 6379\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
    ]
}

/// The rest of a connection that may have been reset, because bytes were left unread.
pub(super) async fn remains(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    bytes
}

#[test]
fn a_header_from_nobodys_balancer_ends_the_connection_without_a_byte() {
    for header in foreign() {
        served_by(unlisted, |node, mut stream| async move {
            stream.write_all(&[&header[..], b"SET a b\r\nGET a\r\n"].concat()).await.unwrap();
            assert_eq!(remains(&mut stream).await, b"", "{header:?}");
            assert_eq!(node.proxy_refused.total(Fault::Unlisted), 1);
            assert_eq!(node.proxy_refused.list(clock::boottime_ns()).len(), 1);
        });
    }
}

#[test]
fn a_header_in_pieces_is_known_at_every_cut() {
    for header in [&foreign()[0], &foreign()[4]] {
        for cut in 1..20 {
            served_by(unlisted, |node, mut stream| async move {
                stream.set_nodelay(true).unwrap();
                stream.write_all(&header[..cut]).await.unwrap();
                // As soon as the node has read them; from the twelfth byte on it is gone by then.
                let known = || node.proxy_refused.total(Fault::Unlisted) == 1;
                let read = |node: &Node| {
                    let clients = node.clients.list();
                    clients.iter().any(|c| c.query_bytes.load(Ordering::Relaxed) == cut)
                };
                until(|| known() || read(&node)).await;
                let rest = [&header[cut..], b"SET a b\r\n"].concat();
                // It may be gone already.
                let _ = stream.write_all(&rest).await;
                assert_eq!(remains(&mut stream).await, b"", "cut at {cut}");
                assert!(known());
            });
        }
    }
}

#[test]
fn what_only_begins_like_a_header_is_a_command() {
    served_by(unlisted, |node, mut stream| async move {
        let commands = [&b"\r\n\r\nPING a\r\nPROXY tcp\r\n"[..], PING, b"QUIT\r\n"].concat();
        stream.write_all(&commands).await.unwrap();
        let said = rest(&mut stream).await;
        let unknown = "-ERR unknown command";
        assert!(said.starts_with(&format!("$1\r\na\r\n{unknown}")), "{said}");
        assert!(said.ends_with("+PONG\r\n+OK\r\n"), "{said}");
        assert_eq!(node.proxy_refused.total(Fault::Unlisted), 0);
    });
}

/// A browser sends these to any address that a page names, with what the page likes behind them.
#[test]
fn a_request_of_a_web_page_runs_nothing_of_what_is_in_it() {
    let body = "\r\nSET a b\r\nGET a\r\n";
    let heads = [
        "POST / HTTP/1.1\r\nHost: 127.0.0.1:6379\r\n",
        "post /x HTTP/1.0\r\n",
        "PUT / HTTP/1.1\r\nhost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "*1\r\n$4\r\nPOST\r\n",
    ];
    for head in heads {
        served_by(unlisted, |_, mut stream| async move {
            stream.write_all([head, body].concat().as_bytes()).await.unwrap();
            let said = remains(&mut stream).await;
            assert!(!said.windows(3).any(|part| part == b"+OK"), "{head}: {said:?}");
        });
    }
}

/// A connection that protected mode refuses is told so, even if it has said nothing. One that
/// starts with a PROXY header gets no answer.
#[test]
fn protected_mode_answers_no_header() {
    let protected = |values: &mut Values| {
        values.protected_mode = true;
        values.peer_auth = String::new();
    };
    served_by(protected, |node, mut stream| async move {
        say(&mut stream, &foreign()[0]).await;
        assert_eq!(remains(&mut stream).await, b"");
        assert_eq!(node.proxy_refused.total(Fault::Twice), 1);
    });
    for first in [PING, b"\r\n", b""] {
        served_by(protected, |node, mut stream| async move {
            say(&mut stream, first).await;
            let said = remains(&mut stream).await;
            assert!(said.starts_with(b"-DENIED"), "{}", String::from_utf8_lossy(&said));
            assert_eq!(node.proxy_refused.total(Fault::Twice), 0);
        });
    }
}

/// A client that may say who it is, and nothing else, holds no more than one without the password.
#[test]
fn protected_mode_takes_no_large_argument() {
    let protected = |values: &mut Values| values.protected_mode = true;
    let all = [
        (&b"*2\r\n$4\r\nAUTH\r\n$16385\r\n"[..], "unauthenticated bulk length"),
        (&b"*11\r\n$4\r\nAUTH\r\n"[..], "unauthenticated multibulk length"),
    ];
    for (bytes, why) in all {
        served_by(protected, |_, mut stream| async move {
            say(&mut stream, bytes).await;
            let said = remains(&mut stream).await;
            let answer = format!("-ERR Protocol error: {why}\r\n");
            assert_eq!(String::from_utf8_lossy(&said), answer);
        });
    }
}

#[test]
fn a_listed_balancer_that_sends_no_header_is_counted() {
    for bytes in [PING, b"PROXY TCP4 10.0.0.1 10.0.9.1 5 6379\r\n", b"\r\n\r\n\0\r\nQUIT\n\x11"] {
        served(|node, mut stream| async move {
            stream.write_all(bytes).await.unwrap();
            assert_eq!(remains(&mut stream).await, b"");
            assert_eq!(node.proxy_refused.total(Fault::NoHeader), 1);
            assert_eq!(node.proxy_refused.list(0), [], "it is listed");
        });
    }
    // A check that connects and leaves has broken no rule.
    served(|node, stream| async move {
        drop(stream);
        until(|| node.clients.is_empty()).await;
        assert_eq!(node.proxy_refused.total(Fault::NoHeader), 0);
    });
}

#[test]
fn a_second_header_is_no_command_of_the_client() {
    for second in foreign() {
        served(|node, mut stream| async move {
            say(&mut stream, &[&second[..], b"SET a b\r\n"].concat()).await;
            assert_eq!(remains(&mut stream).await, b"", "{second:?}");
            assert_eq!(node.proxy_refused.total(Fault::Twice), 1);
        });
    }
}

/// Everything of the table but PING, and none of it runs.
#[test]
fn a_balancer_may_ping_in_its_own_name_and_nothing_else() {
    for access in [ClientAccess::Any, ClientAccess::BalancerOnly] {
        for password in ["", "geheim"] {
            let change = |values: &mut Values| {
                values.client_access = access;
                values.requirepass = password.into();
                values.protected_mode = true;
            };
            served_by(change, |node, mut stream| async move {
                let refused = ["SET k v", "GET k", "AUTH geheim", "AUTH secret", "MULTI"];
                let more = ["HELLO 3", "CONFIG GET *", "CLUSTERX VERSION", "PSYNC 1", "QUIT"];
                let commands: Vec<&str> = refused.into_iter().chain(more).collect();
                let text = commands.iter().map(|c| format!("{c}\r\n")).collect::<String>();
                stream.write_all(&proxy::encode_local()).await.unwrap();
                stream.write_all(&[PING, text.as_bytes(), PING].concat()).await.unwrap();
                stream.shutdown().await.unwrap();
                let said = rest(&mut stream).await;
                let expected = LOCAL_ONLY.repeat(commands.len());
                assert_eq!(said, format!("+PONG\r\n{expected}+PONG\r\n"));
                let engine = node.engine();
                assert_eq!(engine.store.as_ref().map(Store::latest_sequence), Some(0));
            });
        }
    }
}
