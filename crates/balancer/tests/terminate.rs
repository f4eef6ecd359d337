//! TLS that ends at the built-in balancer: real sockets, clients of rustls.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::balancer::{Backend, Desired, Frontend};
use api::moving::trailer;
use api::proxy::{Header, Parsed, parse};
use balancer::server::{Config, Limits, Live, serve};
use balancer::{Builtin, Driver};
use common::{Node, desired, eventually, free_endpoint, uncut};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use topology::Endpoint;

/// Longer than a handshake may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Certificates that vouch for themselves.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for name in ["lb", "ann"] {
            files.issue(name, 2200);
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn issue(&self, name: &str, until: i32) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(self.path(&format!("{name}.pem")), pem).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// The configuration file of a balancer that ends TLS, with these lines in its table.
    fn config(&self, lines: &str) -> PathBuf {
        let path = self.path("balancer.toml");
        let file = |name| self.path(name).display().to_string();
        let text = format!(
            "workers = 2\nhealth_interval_ms = 0\n[limits]\ndrain_ms = 0\n[tls.terminate]\n\
             cert_file = '{}'\nkey_file = '{}'\n{lines}",
            file("lb.pem"),
            file("lb.key"),
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn believes_ann(&self) -> String {
        format!("client_ca_file = '{}'\n", self.path("ann.pem").display())
    }

    /// A client that knows the balancer by the certificate `ca`, and shows `own`.
    fn client(&self, ca: &str, own: Option<&str>) -> TlsConnector {
        let read = |name: &str| CertificateDer::from_pem_file(self.path(&format!("{name}.pem")));
        let mut roots = RootCertStore::empty();
        roots.add(read(ca).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(vec![read(name).unwrap()], key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

struct Balancer {
    driver: Builtin,
    live: Arc<Live>,
    _task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn start(path: &std::path::Path) -> Balancer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = listener.local_addr().unwrap();
    let config = Config::from_toml(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(config.limits, Limits { drain_ms: 0, ..Limits::default() });
    let live = Arc::new(Live::new(config).unwrap());
    let task = tokio::spawn(serve(Arc::clone(&live), listener, pending(), pending()));
    let wait = Some(Duration::from_secs(10));
    let driver = Builtin::new("lb", &format!("http://{admin}"), None, wait).unwrap();
    Balancer { driver, live, _task: task }
}

/// A client that was greeted, and how.
struct Secure {
    stream: BufReader<TlsStream<TcpStream>>,
    greeting: Vec<String>,
}

impl Secure {
    async fn connect(to: &Endpoint, by: &TlsConnector) -> io::Result<Self> {
        timeout(PATIENCE, async {
            let socket = TcpStream::connect((to.host.as_str(), to.port)).await?;
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let mut stream = BufReader::new(by.connect(name, socket).await?);
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let greeting = line.split_whitespace().map(str::to_owned).collect();
            Ok(Self { stream, greeting })
        })
        .await
        .expect("an answer or an end of the connection")
    }

    async fn echo(&mut self, line: &str) {
        let line = format!("{line}\n");
        let mut back = vec![0; line.len()];
        let (mut from, mut to) = tokio::io::split(&mut self.stream);
        let both = async {
            tokio::try_join!(
                async {
                    to.write_all(line.as_bytes()).await?;
                    to.flush().await
                },
                from.read_exact(&mut back)
            )
        };
        timeout(PATIENCE, both).await.expect("an echo").unwrap();
        assert!(back == line.as_bytes());
    }

    /// Says much, and ends its side.
    async fn all_comes_back(&mut self) {
        self.echo("hello").await;
        // More than sockets and TLS hold.
        self.echo(&"x".repeat(16 << 20)).await;
        // Its end is passed on, and what the node still says reaches it.
        self.stream.write_all(b"the last\n").await.unwrap();
        self.stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest, b"the last\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_ends_here_and_the_node_is_told_who_came_by_it() {
    let files = Files::new();
    let balancer = start(&files.config(&files.believes_ann())).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let ann = files.client("lb", Some("ann"));
    let mut client = Secure::connect(&listen, &ann).await.unwrap();
    let told = &client.greeting[4..];
    assert_eq!((told[0].as_str(), told[2].as_str()), ("TLSv1.3", "ann"), "{told:?}");
    assert!(told[1].starts_with("TLS_"), "{told:?}");
    client.all_comes_back().await;
    eventually("the node's connection is closed", || a.open() == 0).await;
    assert_eq!(a.resets.load(Ordering::SeqCst), 0);
    // Nobody is let in without a certificate, or one of somebody else; nobody speaks in clear.
    files.issue("bob", 2200);
    for by in [files.client("lb", None), files.client("lb", Some("bob"))] {
        assert!(Secure::connect(&listen, &by).await.is_err());
    }
    let mut plain = TcpStream::connect((listen.host.as_str(), listen.port)).await.unwrap();
    plain.write_all(b"hello\n").await.unwrap();
    let mut rest = Vec::new();
    // An end or a reset.
    let _ = timeout(PATIENCE, plain.read_to_end(&mut rest)).await.expect("its end");
    assert!(!rest.starts_with(a.id.as_bytes()), "{}", rest.escape_ascii());
    let certificates = balancer.driver.observe().await.unwrap().certificates;
    let named: Vec<&str> = certificates.iter().map(|one| one.option.as_str()).collect();
    assert_eq!(named, ["tls.terminate.cert_file"]);
    assert_eq!(certificates[0].ends_s, 7_258_118_400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_and_of_whom_tls_ends_is_the_operators_to_say() {
    let files = Files::new();
    let (listen, other, a) = (free_endpoint(), free_endpoint(), Node::start('a').await);
    let lines = format!(
        "{}client_optional = true\nplain = true\nfrontends = ['{listen}']\n",
        files.believes_ann()
    );
    let balancer = start(&files.config(&lines)).await;
    let all = desired(1, 1, &[(&listen, Some(&a)), (&other, Some(&a))]);
    balancer.driver.apply(&all).await.unwrap();
    let nobody = Secure::connect(&listen, &files.client("lb", None)).await.unwrap();
    assert_eq!(nobody.greeting[6], "nobody");
    let ann = Secure::connect(&listen, &files.client("lb", Some("ann"))).await.unwrap();
    assert_eq!(ann.greeting[6], "ann");
    // One that may be left out must be good all the same.
    files.issue("bob", 2200);
    assert!(Secure::connect(&listen, &files.client("lb", Some("bob"))).await.is_err());
    // In clear there too: the first byte tells. The node speaks only once it was spoken to.
    let mut plain = TcpStream::connect((listen.host.as_str(), listen.port)).await.unwrap();
    plain.write_all(b"hello\n").await.unwrap();
    let (mut lines, mut said) = (BufReader::new(plain), String::new());
    for _ in 0..2 {
        timeout(PATIENCE, lines.read_line(&mut said)).await.unwrap().unwrap();
    }
    assert!(said.ends_with("127.0.0.1\nhello\n"), "{said}");
    // Elsewhere it is the node's, which greets in clear here.
    let mut passed_on = common::Client::connect(&other).await.unwrap();
    assert_eq!(passed_on.greeting.len(), 4);
    passed_on.echo("\u{16}\u{3}\u{1}").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_cuts_sessions_over_tls_as_all_others() {
    let files = Files::new();
    let balancer = start(&files.config("")).await;
    let (listen, a, b) = (free_endpoint(), Node::start('a').await, Node::start('b').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let by = files.client("lb", None);
    let mut client = Secure::connect(&listen, &by).await.unwrap();
    client.echo("hello").await;
    // In the middle of a handshake, which counts as a session and has no node.
    let mut half = TcpStream::connect((listen.host.as_str(), listen.port)).await.unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).await.unwrap();
    let applied = balancer.driver.apply(&desired(1, 2, &[(&listen, Some(&b))])).await.unwrap();
    assert!(applied.fenced(&a.id));
    assert_eq!(applied.cut, 1);
    assert!(timeout(PATIENCE, client.stream.read_u8()).await.unwrap().is_err());
    // Accepted behind the other one, so that one is there by now.
    let second = Secure::connect(&listen, &by).await.unwrap();
    assert_eq!(second.greeting[0], b.id);
    let applied = balancer.driver.apply(&desired(1, 3, &[(&listen, None)])).await.unwrap();
    assert!(applied.fenced(&b.id));
    assert_eq!(applied.cut, 3, "the handshake that lasts is cut too, before it has taken too long");
    // An end or a reset.
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, half.read_to_end(&mut rest)).await.expect("its end");
    assert!(Secure::connect(&listen, &by).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_is_not_finished_holds_up_nobody_and_is_given_up() {
    let files = Files::new();
    let balancer = start(&files.config("")).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut slow = Vec::new();
    for bytes in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0]] {
        let mut stream = TcpStream::connect((listen.host.as_str(), listen.port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        slow.push(stream);
    }
    let by = files.client("lb", None);
    for _ in 0..20 {
        Secure::connect(&listen, &by).await.unwrap().echo("meanwhile").await;
    }
    for mut stream in slow {
        let mut rest = Vec::new();
        // A reset is as good as an end; a limit that passes is neither.
        if let Err(error) = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end")
        {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
    eventually("the node's connections are closed", || a.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_read_again_as_a_whole_or_not_at_all() {
    let files = Files::new();
    let path = files.config("");
    let balancer = start(&path).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    std::fs::copy(files.path("lb.pem"), files.path("old.pem")).unwrap();
    let mut begun = Secure::connect(&listen, &files.client("old", None)).await.unwrap();
    let refused = |words: &str| {
        let why = balancer.live.reload(&path).unwrap_err().to_string();
        assert!(why.starts_with("option `tls.terminate.") && why.contains(words), "{why}");
    };
    // A key of another certificate, one that cannot be read, a pair that has run out.
    std::fs::copy(files.path("lb.key"), files.path("good.key")).unwrap();
    std::fs::copy(files.path("ann.key"), files.path("lb.key")).unwrap();
    refused("it is not the key of the certificate");
    std::fs::write(files.path("lb.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n").unwrap();
    refused("there is no key in it that can be read");
    files.issue("lb", 2001);
    refused("it ran out at");
    Secure::connect(&listen, &files.client("old", None)).await.unwrap();
    files.issue("lb", 2200);
    let changed = balancer.live.reload(&path).unwrap().changed;
    assert_eq!(changed, [""; 0], "the file is the same, what it names is not");
    assert!(Secure::connect(&listen, &files.client("old", None)).await.is_err());
    Secure::connect(&listen, &files.client("lb", None)).await.unwrap();
    // Sessions that have begun go on.
    begun.echo("still here").await;
    // Without the table TLS is passed on, and a client that speaks it finds no TLS at this node.
    std::fs::write(&path, "workers = 2\nhealth_interval_ms = 0\n[limits]\ndrain_ms = 0\n").unwrap();
    assert_eq!(balancer.live.reload(&path).unwrap().changed, ["tls"]);
    assert!(Secure::connect(&listen, &files.client("lb", None)).await.is_err());
    assert_eq!(common::Client::connect(&listen).await.unwrap().greeting.len(), 4);
    begun.echo("and here").await;
}

/// A node that is spoken to over TLS behind the header, which it gives away; it greets and echoes.
async fn secure_node(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    headers: UnboundedSender<Header>,
) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        let header = loop {
            match parse(&bytes).unwrap() {
                Parsed::Header(header) => break header,
                // The header alone: what follows is for the handshake.
                Parsed::Incomplete => bytes.push(stream.read_u8().await.unwrap()),
            }
        };
        let (acceptor, headers) = (acceptor.clone(), headers.clone());
        tokio::spawn(async move {
            let tls = acceptor.accept(stream).await?;
            headers.send(header).map_err(io::Error::other)?;
            let (mut from, mut to) = tokio::io::split(tls);
            to.write_all(b"over TLS\n").await?;
            to.flush().await?;
            tokio::io::copy(&mut from, &mut to).await?;
            to.shutdown().await
        });
    }
}

/// A balancer of two hops: its own TLS with the node, which is told in clear who came, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_may_be_spoken_to_over_tls_where_that_of_clients_ends_here() {
    let files = Files::new();
    files.issue("node", 2200);
    let read = |name: &str| CertificateDer::from_pem_file(files.path(name)).unwrap();
    let key = PrivateKeyDer::from_pem_file(files.path("node.key")).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![read("node.pem")], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mut headers) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(secure_node(listener, TlsAcceptor::from(Arc::new(server)), sender));
    let listen = free_endpoint();
    let told = |version: u64, is_open: bool| {
        let backend =
            is_open.then(|| Backend { node: "a".repeat(40), host: "127.0.0.1".into(), port });
        let frontends = vec![Frontend { listen: listen.clone(), hold: backend.is_none(), backend }];
        Desired { term: 1, version, frontends }
    };
    let lines = |ca: &str| {
        let ca = files.path(ca).display().to_string();
        format!("{}[tls]\nnodes = true\nca_file = '{ca}'\n", files.believes_ann())
    };
    let path = files.config(&lines("node.pem"));
    let balancer = start(&path).await;
    balancer.driver.apply(&told(1, true)).await.unwrap();
    let ann = files.client("lb", Some("ann"));
    let mut client = Secure::connect(&listen, &ann).await.unwrap();
    assert_eq!(client.greeting, ["over", "TLS"]);
    let header = timeout(PATIENCE, headers.recv()).await.unwrap().unwrap();
    assert_eq!(header.secure.unwrap().name.as_deref(), Some("ann"));
    assert_eq!(header.moving, None, "what is encrypted for a node cannot be taken back");
    client.all_comes_back().await;
    // So it does not move.
    let mut stays = Secure::connect(&listen, &ann).await.unwrap();
    stays.echo("here").await;
    let holding = balancer.driver.apply(&told(2, false)).await.unwrap();
    assert_eq!((holding.moved, holding.cut), (0, 1), "{holding:?}");
    let mut rest = Vec::new();
    // An end or a reset.
    let _ = timeout(PATIENCE, stays.stream.read_to_end(&mut rest)).await.expect("its end");
    assert_eq!(rest, b"");
    // Nobody is believed for being there.
    files.config(&format!("plain = true\n{}", lines("ann.pem")));
    balancer.live.reload(&path).unwrap();
    balancer.driver.apply(&told(3, true)).await.unwrap();
    assert!(Secure::connect(&listen, &ann).await.is_err());
    // Nor for a client in clear that came to it.
    let mut plain = TcpStream::connect((listen.host.as_str(), listen.port)).await.unwrap();
    plain.write_all(b"hello\n").await.unwrap();
    let mut rest = Vec::new();
    // An end or a reset.
    let _ = timeout(PATIENCE, plain.read_to_end(&mut rest)).await.expect("its end");
    let state = balancer.driver.observe().await.unwrap();
    assert!(format!("{state:?}").contains("UnknownIssuer"), "{state:?}");
    // That is told, and no reason to replace the node: the one in clear was there.
    assert_eq!(state.reach, [("a".repeat(40), true)], "{state:?}");
}

/// It may be busy: an unasked switchover would help nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_late_with_its_handshake_was_reached() {
    let files = Files::new();
    let ca = files.path("node.pem").display().to_string();
    files.issue("node", 2200);
    let balancer = start(&files.config(&format!("[tls]\nnodes = true\nca_file = '{ca}'\n"))).await;
    // Nobody takes the connections that it has.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let listen = free_endpoint();
    let backend = Some(Backend { node: "a".repeat(40), host: "127.0.0.1".into(), port });
    let frontends = vec![Frontend { listen: listen.clone(), hold: false, backend }];
    balancer.driver.apply(&Desired { term: 1, version: 1, frontends }).await.unwrap();
    assert!(Secure::connect(&listen, &files.client("lb", None)).await.is_err());
    let state = balancer.driver.observe().await.unwrap();
    assert!(state.reach.is_empty() && state.faults.is_empty(), "{state:?}");
}

/// The next connection of the balancer, its header, and the record behind it.
async fn arrived(listener: &TcpListener) -> (TcpStream, Header, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    let header = loop {
        match parse(&bytes).unwrap() {
            Parsed::Header(header) => break header,
            Parsed::Incomplete => assert!(stream.read_buf(&mut bytes).await.unwrap() > 0),
        }
    };
    let mut record = bytes.split_off(header.len);
    let length = usize::try_from(header.moving.unwrap().record).unwrap();
    while record.len() < length {
        assert!(stream.read_buf(&mut record).await.unwrap() > 0);
    }
    (stream, header, record)
}

/// The keys are the balancer's, so the session may go where it likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_tls_ends_here_moves_to_another_node() {
    uncut(a_session_moves).await;
}

async fn a_session_moves() -> Result<(), String> {
    let files = Files::new();
    let balancer = start(&files.config(&files.believes_ann())).await;
    let listen = free_endpoint();
    let (one, two) = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let to = |node: char, listener: &TcpListener| Backend {
        node: node.to_string().repeat(40),
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
    };
    let told = |version: u64, backend: Option<Backend>| Desired {
        term: 1,
        version,
        frontends: vec![Frontend { listen: listen.clone(), hold: backend.is_none(), backend }],
    };
    balancer.driver.apply(&told(1, Some(to('a', &one)))).await.unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, header, _) = arrived(&one).await;
        assert_eq!(header.secure.unwrap().name.as_deref(), Some("ann"));
        stream.write_all(b"one\n").await.unwrap();
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await.unwrap();
        stream.write_all(b"the rest of one\n").await.unwrap();
        stream.write_all(&trailer(b"record".to_vec()).unwrap()).await.unwrap();
        asked
    });
    let ann = files.client("lb", Some("ann"));
    let mut client = Secure::connect(&listen, &ann).await.unwrap();
    assert_eq!(client.greeting, ["one"]);
    let holding = balancer.driver.apply(&told(2, None)).await.unwrap();
    if holding.cut > 0 {
        return Err(format!("{holding:?}"));
    }
    assert_eq!((holding.held, holding.moved, holding.cut), (1, 1, 0));
    assert_eq!(timeout(PATIENCE, served).await.unwrap().unwrap(), b"");
    balancer.driver.apply(&told(3, Some(to('b', &two)))).await.unwrap();
    let (mut stream, header, record) = timeout(PATIENCE, arrived(&two)).await.unwrap();
    assert_eq!(
        (record.as_slice(), header.secure.unwrap().name.as_deref()),
        (&b"record"[..], Some("ann"))
    );
    stream.write_all(b"two\n").await.unwrap();
    let mut said = String::new();
    for _ in 0..2 {
        timeout(PATIENCE, client.stream.read_line(&mut said)).await.unwrap().unwrap();
    }
    assert_eq!(said, "the rest of one\ntwo\n");
    client.stream.write_all(b"asked\n").await.unwrap();
    client.stream.flush().await.unwrap();
    let mut asked = [0; 6];
    timeout(PATIENCE, stream.read_exact(&mut asked)).await.unwrap().unwrap();
    assert_eq!(&asked, b"asked\n");
    Ok(())
}
