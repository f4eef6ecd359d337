//! What the integration tests share: backends that check the PROXY header, clients, bounded waits.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod instance;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use api::balancer::{Backend, Desired, Frontend};
use api::moving::Mark;
use api::proxy::{Command, Header, Parsed, parse};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use topology::Endpoint;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// A backend: reads a PROXY header, greets with `<node> <client> <frontend> <who connected>`, then
/// echoes.
pub struct Node {
    pub id: String,
    pub address: SocketAddr,
    pub open: Arc<AtomicUsize>,
    pub resets: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    pub async fn start(letter: char) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let id: String = std::iter::repeat_n(letter, 40).collect();
        let (open, resets) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (name, opened, reset) = (id.clone(), Arc::clone(&open), Arc::clone(&resets));
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, peer)) = listener.accept().await else { continue };
                let (name, opened, reset) = (name.clone(), Arc::clone(&opened), Arc::clone(&reset));
                tokio::spawn(async move {
                    opened.fetch_add(1, Ordering::SeqCst);
                    if let Err(error) = answer(stream, peer, &name).await
                        && error.kind() == io::ErrorKind::ConnectionReset
                    {
                        reset.fetch_add(1, Ordering::SeqCst);
                    }
                    opened.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { id, address, open, resets, task }
    }

    pub fn backend(&self) -> Backend {
        Backend {
            node: self.id.clone(),
            host: self.address.ip().to_string(),
            port: self.address.port(),
        }
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, peer: SocketAddr, name: &str) -> io::Result<()> {
    let mut bytes = Vec::new();
    let header = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(&bytes).map_err(io::Error::other)? {
            Parsed::Header(header) => break header,
            Parsed::Incomplete => {}
        }
    };
    if header.command == Command::Local {
        return stream.write_all(b"+PONG\r\n").await;
    }
    let (source, destination) = (header.source.unwrap(), header.destination.unwrap());
    // What is known of a client whose TLS ended at the balancer, behind the rest.
    let secure = header.secure.as_ref().map_or_else(String::new, |secure| {
        let name = secure.name.as_deref().unwrap_or("nobody");
        format!(" {} {} {name}", secure.version, secure.cipher)
    });
    let greeting = format!("{name} {source} {destination} {}{secure}\n", peer.ip());
    stream.write_all(greeting.as_bytes()).await?;
    let mut incoming = Incoming::new(&header, bytes[header.len..].to_vec());
    while let Some(bytes) = incoming.next(&mut stream).await? {
        stream.write_all(&bytes).await?;
    }
    Ok(())
}

/// What a client sends, as its node sees it: whole lines, as a node runs whole commands. The end of
/// what is no whole line may be the beginning of the mark, by chance or not, and is passed on only
/// at the end of the stream. So a test that waits for an echo has to end what it sends with LF.
pub struct Incoming {
    mark: Option<Mark>,
    bytes: Vec<u8>,
    /// The client has ended its side.
    pub is_over: bool,
    is_open: bool,
}

impl Incoming {
    /// `bytes` came with the header.
    pub fn new(header: &Header, bytes: Vec<u8>) -> Self {
        let mark = header.moving.and_then(|moving| moving.mark);
        Self { mark, bytes, is_over: false, is_open: true }
    }

    /// The next bytes; `None` once the client has ended its side, or the balancer, and all it sent
    /// was taken.
    pub async fn next<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(mark) = self.mark
                && mark.begun_in(&self.bytes) == Mark::BYTES
            {
                self.bytes.truncate(self.bytes.len() - Mark::BYTES);
                (self.mark, self.is_over) = (None, true);
            }
            let is_last = self.is_over || !self.is_open;
            let lines = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let ready = if is_last { self.bytes.len() } else { lines };
            if ready > 0 {
                return Ok(Some(self.bytes.drain(..ready).collect()));
            }
            if is_last {
                return Ok(None);
            }
            self.is_open = stream.read_buf(&mut self.bytes).await? > 0;
        }
    }
}

/// A client that was greeted.
pub struct Client {
    pub stream: BufReader<TcpStream>,
    pub local: SocketAddr,
    pub greeting: Vec<String>,
}

impl Client {
    pub async fn connect(to: &Endpoint) -> io::Result<Self> {
        timeout(PATIENCE, async {
            let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
            let local = stream.local_addr()?;
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let greeting = line.split_whitespace().map(str::to_owned).collect();
            Ok(Self { stream, local, greeting })
        })
        .await
        .expect("an answer or an end of the connection")
    }

    /// Sends a line and reads it back.
    pub async fn echo(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{line}\n");
        self.stream.write_all(line.as_bytes()).await?;
        let mut back = vec![0; line.len()];
        timeout(PATIENCE, self.stream.read_exact(&mut back)).await.expect("an echo")?;
        assert_eq!(back, line.as_bytes());
        Ok(())
    }

    /// Waits for the other side to end the connection, and says how.
    pub async fn end(&mut self) -> Result<usize, io::ErrorKind> {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut rest))
            .await
            .expect("an end of the connection")
            .map_err(|error| error.kind())
    }
}

/// An address that only this process knows of: no other test listens there, and no outgoing
/// connection is given its port, as happens to ports that were free a moment ago.
pub fn free_endpoint() -> Endpoint {
    static NEXT: AtomicU16 = AtomicU16::new(7_001);
    let [.., high, low] = std::process::id().to_be_bytes();
    // Not 127.0.x.y, which nodes and load balancers are given; all of 127.0.0.0/8 is ours to listen
    // on.
    let host = format!("127.{}.{low}.1", 64 + high % 128);
    Endpoint { host, port: NEXT.fetch_add(1, Ordering::SeqCst) }
}

pub fn desired(term: u64, version: u64, frontends: &[(&Endpoint, Option<&Node>)]) -> Desired {
    let frontends = frontends
        .iter()
        .map(|(listen, node)| Frontend {
            listen: (*listen).clone(),
            backend: node.map(Node::backend),
            hold: false,
        })
        .collect();
    Desired { term, version, frontends }
}

/// Plays it once more where a session was cut: one that is given back too late is, and where the
/// machine is busy a node may be late. What is wrong is wrong each time.
pub async fn uncut<F: Future<Output = Result<(), String>>>(play: impl Fn() -> F) {
    let mut last = String::new();
    for _ in 0..5 {
        match play().await {
            Ok(()) => return,
            Err(state) => last = state,
        }
    }
    panic!("sessions are cut each time: {last}");
}

/// Bounded, level-triggered wait.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
