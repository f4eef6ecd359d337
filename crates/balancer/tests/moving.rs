//! Sessions that are taken back from a node and go on at another one: what the built-in balancer
//! makes of a hold.
#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::balancer::{Backend, Desired, Frontend, FrontendState, GIVE_BACK_MS, HOLD_MAX_MS};
use api::moving::{Mark, trailer};
use api::proxy::{Parsed, encode_moving, parse};
use balancer::server::{Config, Limits, Live, serve};
use balancer::{Builtin, Driver};
use common::{Incoming, PATIENCE, eventually, free_endpoint, uncut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use topology::Endpoint;

/// What a node does when its side of a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Gives the session back.
    Gives,
    /// Closes without a trailer.
    Closes,
    /// Does nothing.
    Sits,
    /// Has something to do when the client ends its side, until the session is asked for: then
    /// gives it back.
    Lingers,
}

/// A node that greets with `<letter><record it was given>;` and echoes. Its record is
/// `<letter><bytes it has echoed>`.
struct Node {
    letter: char,
    port: u16,
    open: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    async fn start(letter: char, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&open);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    // An end of any kind is what the tests are about.
                    let _ = answer(stream, letter, manner).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { letter, port, open, task }
    }

    fn id(&self) -> String {
        std::iter::repeat_n(self.letter, 40).collect()
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, letter: char, manner: Manner) -> io::Result<()> {
    let mut bytes = Vec::new();
    let header = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        match parse(&bytes).map_err(io::Error::other)? {
            Parsed::Header(header) => break header,
            Parsed::Incomplete => {}
        }
    };
    let record = usize::try_from(header.moving.unwrap().record).unwrap();
    bytes.drain(..header.len);
    while bytes.len() < record {
        stream.read_buf(&mut bytes).await?;
    }
    let rest = bytes.split_off(record);
    stream.write_all(format!("{letter}{};", String::from_utf8_lossy(&bytes)).as_bytes()).await?;
    let mut incoming = Incoming::new(&header, rest);
    let mut echoed = 0;
    while let Some(bytes) = incoming.next(&mut stream).await? {
        stream.write_all(&bytes).await?;
        echoed += bytes.len();
    }
    if incoming.is_over {
        if manner != Manner::Lingers {
            return Ok(());
        }
        assert_eq!(stream.read(&mut [0; 1]).await?, 0, "something behind the mark");
    }
    match manner {
        Manner::Gives | Manner::Lingers => {
            let record = format!("{letter}{echoed}").into_bytes();
            stream.write_all(&trailer(record).unwrap()).await
        }
        Manner::Closes => Ok(()),
        Manner::Sits => std::future::pending().await,
    }
}

struct Site {
    driver: Builtin,
    admin: String,
    listen: Endpoint,
    version: u64,
    _stop: oneshot::Sender<()>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let config = Config {
            workers: 2,
            health_interval_ms: 0,
            limits: Limits { drain_ms: 0, ..Limits::default() },
            ..Config::default()
        };
        let shutdown = async {
            let _ = stopped.await;
        };
        let live = Arc::new(Live::new(config).unwrap());
        tokio::spawn(serve(live, listener, shutdown, std::future::pending()));
        let driver = Builtin::new("lb", &admin, None, Some(PATIENCE)).unwrap();
        Self { driver, admin, listen: free_endpoint(), version: 0, _stop: stop }
    }

    async fn tell(&mut self, to: Option<&Node>, hold: bool) -> FrontendState {
        self.version += 1;
        let backend =
            to.map(|node| Backend { node: node.id(), host: "127.0.0.1".into(), port: node.port });
        let frontends = vec![Frontend { listen: self.listen.clone(), backend, hold }];
        let desired = Desired { term: 1, version: self.version, frontends };
        self.driver.apply(&desired).await.unwrap();
        self.state().await
    }

    async fn to(&mut self, node: &Node) -> FrontendState {
        self.tell(Some(node), false).await
    }

    async fn hold(&mut self) -> FrontendState {
        self.tell(None, true).await
    }

    /// The same where every session is to be given back; an error if one was cut.
    async fn hold_all(&mut self) -> Result<FrontendState, String> {
        let held = self.hold().await;
        if held.cut == 0 { Ok(held) } else { Err(format!("{held:?}")) }
    }

    /// Waits until so many are held: one that has connected is taken a moment later.
    async fn holds(&self, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state().await;
            if state.held == count {
                return;
            }
            assert!(Instant::now() < deadline, "{state:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn state(&self) -> FrontendState {
        let url = format!("{}/api/v1/state", self.admin);
        let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url);
        let state: api::balancer::State =
            serde_json::from_slice(&answer.send().await.unwrap().bytes().await.unwrap()).unwrap();
        state.frontends.into_iter().find(|frontend| frontend.listen == self.listen).unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect((self.listen.host.as_str(), self.listen.port)).await.unwrap()
    }
}

async fn reads(client: &mut TcpStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    timeout(PATIENCE, client.read_exact(&mut bytes)).await.expect("bytes").unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

/// What a node makes of a client's bytes whose connection has this mark.
async fn seen(mark: &Mark, mut sent: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (client, frontend) = ("10.0.0.1:5".parse().unwrap(), "10.0.9.1:6379".parse().unwrap());
    let Ok(Parsed::Header(header)) = parse(&encode_moving(client, frontend, 0, mark)) else {
        panic!("no header")
    };
    let mut incoming = Incoming::new(&header, Vec::new());
    let mut seen = Vec::new();
    while let Some(bytes) = incoming.next(&mut sent).await.unwrap() {
        seen.push(bytes);
    }
    (seen, incoming.is_over)
}

/// One mark in so many begins with the byte that a line or a stream ends with.
#[tokio::test]
async fn a_mark_delays_no_line_and_swallows_no_bytes() {
    for byte in 0..=u8::MAX {
        let mark = Mark::new([byte; Mark::BYTES]);
        let text = [b"line\n", &[byte; 5][..]].concat();
        let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        let mut lines = vec![text[..whole].to_vec(), text[whole..].to_vec()];
        lines.retain(|part| !part.is_empty());
        assert_eq!(seen(&mark, &text).await, (lines, false), "{byte}");
        let ended = [b"line\nrest", &mark.bytes()[..]].concat();
        assert_eq!(seen(&mark, &ended).await.0.concat(), b"line\nrest", "{byte}");
        assert!(seen(&mark, &ended).await.1, "{byte}");
    }
}

/// How the other side ended the connection.
async fn ends(client: &mut TcpStream) -> Result<Vec<u8>, io::ErrorKind> {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, client.read_to_end(&mut rest)).await.expect("an end");
    read.map(|_| rest).map_err(|error| error.kind())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_session_goes_on_at_the_next_node_with_its_record() {
    uncut(held_sessions_go_on).await;
}

async fn held_sessions_go_on() -> Result<(), String> {
    let (a, b) = (Node::start('a', Manner::Gives).await, Node::start('b', Manner::Gives).await);
    let mut site = Site::start().await;
    site.to(&a).await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = site.connect().await;
        client.write_all(b"hello\n").await.unwrap();
        reads(&mut client, "a;hello\n").await;
        clients.push((number, client));
    }
    let held = site.hold_all().await?;
    assert_eq!((held.held, held.moved, held.cut), (20, 20, 0), "{held:?}");
    assert!(held.hold && held.backend.is_none() && held.sessions.is_empty(), "{held:?}");
    eventually("no connection to the old node is left", || a.open() == 0).await;
    // What a client sends meanwhile waits, and so do new clients.
    let mut late = site.connect().await;
    late.write_all(b"late\n").await.unwrap();
    for (number, client) in &mut clients {
        client.write_all(format!("<{number}>\n").as_bytes()).await.unwrap();
    }
    let there = site.to(&b).await;
    assert!(!there.hold && there.backend.is_some(), "{there:?}");
    reads(&mut late, "b;late\n").await;
    for (number, client) in &mut clients {
        reads(client, &format!("ba6;<{number}>\n")).await;
    }
    // And back, and once more: the record is that of the last node.
    site.hold_all().await?;
    site.to(&a).await;
    reads(&mut late, "ab5;").await;
    late.write_all(b"!\n").await.unwrap();
    reads(&mut late, "!\n").await;
    assert_eq!(site.state().await.cut, 0);
    Ok(())
}

/// Nothing of a stream is lost or doubled however often its session moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_survives_many_moves_byte_for_byte() {
    uncut(a_stream_moves).await;
}

async fn a_stream_moves() -> Result<(), String> {
    let (a, b) = (Node::start('a', Manner::Gives).await, Node::start('b', Manner::Gives).await);
    let mut site = Site::start().await;
    site.to(&a).await;
    let stream = site.connect().await;
    let (mut from, mut to) = stream.into_split();
    let writer = tokio::spawn(async move {
        for number in 0..20_000_u32 {
            to.write_all(format!("{number}\n").as_bytes()).await.unwrap();
            if number.is_multiple_of(100) {
                tokio::task::yield_now().await;
            }
        }
        to
    });
    let reader = tokio::spawn(async move {
        let (mut text, mut buffer) = (String::new(), [0; 16384]);
        // Lines are counted, since a greeting may come right behind the last one.
        while text.matches('\n').count() < 20_000 {
            let Ok(n) = timeout(PATIENCE, from.read(&mut buffer)).await else {
                panic!("nothing comes after …{:?}", &text[text.len().saturating_sub(40)..]);
            };
            let n = n.unwrap();
            assert!(n > 0, "an end after {} bytes", text.len());
            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        text
    });
    for round in 0..20 {
        site.hold_all().await?;
        site.to(if round % 2 == 0 { &b } else { &a }).await;
    }
    let _to = writer.await.unwrap();
    let text = reader.await.unwrap();
    // A greeting stands wherever the session began anew, also amid a line: taken out, the rest is
    // what was sent.
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['a', 'b']) {
        plain.push_str(&rest[..at]);
        let end = rest[at..].find(';').unwrap();
        rest = &rest[at + end + 1..];
    }
    plain.push_str(rest);
    let wanted: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    assert!(plain == wanted, "{} bytes of {}", plain.len(), wanted.len());
    assert_eq!(site.state().await.cut, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_given_back_is_cut_in_time() {
    uncut(what_is_kept_is_cut).await;
}

async fn what_is_kept_is_cut() -> Result<(), String> {
    let (sits, closes) =
        (Node::start('a', Manner::Sits).await, Node::start('b', Manner::Closes).await);
    let mut site = Site::start().await;
    site.to(&sits).await;
    let mut client = site.connect().await;
    reads(&mut client, "a;").await;
    let begun = Instant::now();
    let held = site.hold().await;
    assert!(begun.elapsed() >= Duration::from_millis(GIVE_BACK_MS));
    assert!(held.sessions.is_empty() && held.moved == 0 && held.cut == 1, "{held:?}");
    assert_eq!(ends(&mut client).await, Err(io::ErrorKind::ConnectionReset));
    // A node that ends the session itself: what it answered before reaches the client.
    site.to(&closes).await;
    let mut client = site.connect().await;
    client.write_all(b"last words\n").await.unwrap();
    reads(&mut client, "b;last words\n").await;
    let held = site.hold().await;
    assert!(held.sessions.is_empty() && held.moved == 0 && held.cut == 2, "{held:?}");
    let end = ends(&mut client).await;
    if end == Err(io::ErrorKind::ConnectionReset) {
        return Err("the node's end came too late".to_owned());
    }
    assert_eq!(end, Ok(vec![]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_over_after_its_time_and_does_not_begin_anew() {
    uncut(a_hold_ends).await;
}

async fn a_hold_ends() -> Result<(), String> {
    let a = Node::start('a', Manner::Gives).await;
    let mut site = Site::start().await;
    site.to(&a).await;
    let mut old = site.connect().await;
    reads(&mut old, "a;").await;
    let begun = Instant::now();
    site.hold_all().await?;
    let mut new = site.connect().await;
    site.holds(2).await;
    // Told again and again, as a controller does that sees no backend.
    while begun.elapsed() < Duration::from_millis(HOLD_MAX_MS * 2 / 3) {
        let held = site.hold().await.held;
        assert!(held == 2 || begun.elapsed() >= Duration::from_millis(HOLD_MAX_MS), "{held}");
    }
    assert_eq!(ends(&mut old).await, Err(io::ErrorKind::ConnectionReset));
    assert_eq!(ends(&mut new).await, Err(io::ErrorKind::ConnectionReset));
    assert!(begun.elapsed() >= Duration::from_millis(HOLD_MAX_MS));
    let over = site.hold().await;
    assert_eq!((over.held, over.cut), (0, 2), "{over:?}");
    // Perhaps before the client knows that it was accepted.
    let refused = match TcpStream::connect((site.listen.host.as_str(), site.listen.port)).await {
        Ok(mut refused) => ends(&mut refused).await,
        Err(error) => Err(error.kind()),
    };
    assert_eq!(refused, Err(io::ErrorKind::ConnectionReset));
    site.to(&a).await;
    reads(&mut site.connect().await, "a;").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_resets_what_is_held() {
    uncut(what_is_held_is_reset).await;
}

async fn what_is_held_is_reset() -> Result<(), String> {
    let a = Node::start('a', Manner::Gives).await;
    let mut site = Site::start().await;
    site.to(&a).await;
    let mut client = site.connect().await;
    reads(&mut client, "a;").await;
    assert_eq!(site.hold_all().await?.held, 1);
    let closed = site.tell(None, false).await;
    assert!(!closed.hold && closed.held == 0, "{closed:?}");
    assert_eq!(ends(&mut client).await, Err(io::ErrorKind::ConnectionReset));
    Ok(())
}

/// A client that ends its side gets all it is owed and nothing else: the trailer is not for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_client_sees_no_trailer() {
    let a = Node::start('a', Manner::Gives).await;
    let mut site = Site::start().await;
    site.to(&a).await;
    let mut client = site.connect().await;
    let text = "x".repeat(3 << 20);
    let (mut from, mut to) = client.split();
    let write = async {
        to.write_all(text.as_bytes()).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, read) = tokio::join!(write, timeout(PATIENCE, from.read_to_end(&mut back)));
    read.expect("an end").unwrap();
    assert!(back == format!("a;{text}").into_bytes(), "{} bytes", back.len());
    eventually("the session is over", || a.open() == 0).await;
    assert_eq!(site.state().await.moved, 0);
}

/// One that has ended its side and still waits for answers gets them from the next node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_client_moves_as_others_do() {
    uncut(half_closed_clients_move).await;
}

async fn half_closed_clients_move() -> Result<(), String> {
    let (a, b) = (Node::start('a', Manner::Lingers).await, Node::start('b', Manner::Gives).await);
    let mut site = Site::start().await;
    site.to(&a).await;
    let mut early = site.connect().await;
    early.write_all(b"hello\n").await.unwrap();
    early.shutdown().await.unwrap();
    reads(&mut early, "a;hello\n").await;
    let held = site.hold_all().await?;
    assert_eq!((held.held, held.moved, held.cut), (1, 1, 0), "{held:?}");
    // And one that ends its side while it is held.
    let mut late = site.connect().await;
    late.write_all(b"late").await.unwrap();
    late.shutdown().await.unwrap();
    site.to(&b).await;
    assert_eq!(ends(&mut early).await, Ok(b"ba6;".to_vec()));
    assert_eq!(ends(&mut late).await, Ok(b"b;late".to_vec()));
    assert_eq!(site.state().await.cut, 0);
    Ok(())
}
