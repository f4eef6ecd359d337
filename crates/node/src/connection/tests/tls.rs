//! Clients that speak TLS: with this node, through a balancer that passes it on, and with a
//! balancer where it ends.

use std::io::Write as _;

use api::heartbeat::ClientAccess;
use api::proxy::Secure;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::value::{AuthClients, ClientsUser};
use crate::tls::Tls;

/// Certificates that vouch for themselves, the node's and that of the client `ann`.
struct Files(tempfile::TempDir);

impl Files {
    /// The client's is valid until then, Unix seconds.
    fn until(ends_s: i64) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for (name, ends_s) in [("node", 7_258_118_400), ("ann", ends_s)] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            let since = Duration::from_secs(u64::try_from(ends_s).unwrap());
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since;
            let pem = params.self_signed(&key).unwrap().pem();
            std::fs::write(files.path(&format!("{name}.pem")), pem).unwrap();
            std::fs::write(files.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        files
    }

    fn good() -> Self {
        Self::until(7_258_118_400)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A node that believes the client.
    fn of_node(&self, values: &mut Values) {
        values.tls_cert_file = self.path("node.pem");
        values.tls_key_file = self.path("node.key");
        values.tls_ca_cert_file = self.path("ann.pem");
        values.tls_auth_clients = AuthClients::Yes;
    }

    /// What the client dials with.
    fn client(&self) -> ClientConfig {
        let values = Values {
            tls_cert_file: self.path("ann.pem"),
            tls_key_file: self.path("ann.key"),
            tls_ca_cert_file: self.path("node.pem"),
            tls_auth_clients: AuthClients::No,
            ..Values::default()
        };
        let tls = Tls::load(&values).unwrap().unwrap();
        ClientConfig::clone(&tls.client().unwrap())
    }
}

fn here() -> ServerName<'static> {
    ServerName::try_from("127.0.0.1").unwrap()
}

/// What the node says to commands over TLS, and which kind of handshake there was.
async fn asked(
    node: &Arc<Node>,
    config: &Arc<ClientConfig>,
    commands: &[u8],
) -> std::io::Result<(String, Option<HandshakeKind>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, peer) = listener.accept().await.unwrap();
    let seat = Seat { node: Arc::clone(node), worker: 0, peers: None };
    let serving = serve(seat, accepted, peer, node.clients.places.enter(1_000, 8));
    let asking = async {
        let mut tls = TlsConnector::from(Arc::clone(config)).connect(here(), stream).await?;
        tls.write_all(&[commands, b"QUIT\r\n"].concat()).await?;
        let mut said = Vec::new();
        tls.read_to_end(&mut said).await?;
        let kind = tls.get_ref().1.handshake_kind();
        Ok((String::from_utf8_lossy(&said).into_owned(), kind))
    };
    let ((), said) = tokio::time::timeout(PATIENCE, async { tokio::join!(serving, asking) })
        .await
        .expect("an end");
    said
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_certificate_names_the_user_where_that_is_asked_for() {
    let (files, folder) = (Files::good(), tempfile::tempdir().unwrap());
    let node = node(folder.path(), |values| {
        files.of_node(values);
        values.balancer_sources = Networks(Vec::new());
        values.requirepass = "secret".into();
    });
    let config = Arc::new(files.client());
    let whoami = || runtime().block_on(asked(&node, &config, b"ACL WHOAMI\r\n")).unwrap().0;
    let unknown = "-NOAUTH Authentication required.\r\n";
    assert!(whoami().starts_with(unknown));
    node.config.set(&[("tls-auth-clients-user", "CN")]).unwrap();
    assert!(whoami().starts_with(unknown), "there is no such user");
    node.acl.set("ann", &["off", "~*", "+@all"]).unwrap();
    assert!(whoami().starts_with(unknown), "the user is off");
    node.acl.set("ann", &["on"]).unwrap();
    assert!(whoami().starts_with("$3\r\nann\r\n"));
    let info = runtime().block_on(asked(&node, &config, b"CLIENT INFO\r\n")).unwrap().0;
    assert!(info.contains(" user=ann ") && info.contains(" tls=TLSv1.3"), "{info}");
}

#[test]
fn around_the_balancers_a_certificate_opens_no_more_than_a_password() {
    let (files, folder) = (Files::good(), tempfile::tempdir().unwrap());
    let node = node(folder.path(), |values| {
        files.of_node(values);
        values.balancer_sources = Networks(Vec::new());
        values.client_access = ClientAccess::BalancerOnly;
        values.peer_auth = "peers".into();
        values.tls_auth_clients_user = ClientsUser::Cn;
    });
    node.acl.set("ann", &["on", ">p", "~*", "+@all"]).unwrap();
    let config = Arc::new(files.client());
    let said = |commands: &[u8]| runtime().block_on(asked(&node, &config, commands)).unwrap().0;
    assert!(said(b"CONFIG GET port\r\n").starts_with("-NOAUTH "));
    assert!(said(b"AUTH ann p\r\n").starts_with("-WRONGPASS "));
    assert!(said(b"AUTH peers\r\nCONFIG GET port\r\n").starts_with("+OK\r\n*2\r\n"));
}

/// What another thread sends by the socket would be in clear.
#[test]
fn what_one_waits_for_over_tls_is_encrypted_by_its_connection() {
    let (files, folder) = (Files::good(), tempfile::tempdir().unwrap());
    let node = node(folder.path(), |values| {
        files.of_node(values);
        values.balancer_sources = Networks(Vec::new());
    });
    let connector = TlsConnector::from(Arc::new(files.client()));
    let waiting = async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let seat = Seat { node: Arc::clone(&node), worker: 0, peers: None };
        let serving = serve(seat, accepted, peer, node.clients.places.enter(1_000, 8));
        let asking = async {
            let mut tls = connector.connect(here(), stream).await.unwrap();
            tls.write_all(b"BLPOP q 0\r\n").await.unwrap();
            tls.flush().await.unwrap();
            until(|| node.waiters.any()).await;
            assert_eq!(ask(&node, "RPUSH q v"), ":1\r\n");
            let mut answer = [0; 18];
            tls.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"*2\r\n$1\r\nq\r\n$1\r\nv\r\n");
        };
        tokio::join!(serving, asking);
    };
    runtime().block_on(async { tokio::time::timeout(PATIENCE, waiting).await }).expect("an end");
}

#[test]
fn a_client_whose_tls_ended_at_a_balancer_is_the_user_of_its_certificate() {
    let secure = |is_known| Secure {
        version: "TLSv1.2".into(),
        cipher: String::new(),
        is_known,
        name: is_known.then(|| "ann".to_owned()),
    };
    let cases = [
        (Some(secure(true)), ClientsUser::Cn, "ann", true),
        (Some(secure(true)), ClientsUser::Off, "default", true),
        (Some(secure(false)), ClientsUser::Cn, "default", true),
        (None, ClientsUser::Cn, "default", false),
    ];
    let named_default = Secure { name: Some("default".to_owned()), ..secure(true) };
    served_by(
        |values| {
            values.tls_auth_clients_user = ClientsUser::Cn;
            values.requirepass = "secret".into();
        },
        |_, mut stream| async move {
            let (client, frontend) = ends();
            let head = proxy::encode_session(client, frontend, 0, &mark(), Some(&named_default));
            let all = [&head[..], &b"PING\r\n"[..], &mark().bytes()[..]].concat();
            stream.write_all(&all).await.unwrap();
            let said = rest(&mut stream).await;
            assert!(said.starts_with("-NOAUTH "), "{said}");
        },
    );
    for (secure, named, user, is_secure) in cases {
        let change = |values: &mut Values| values.tls_auth_clients_user = named;
        served_by(change, |node, mut stream| async move {
            node.acl.set("ann", &["on", "~*", "+@all"]).unwrap();
            let (client, frontend) = ends();
            let head = proxy::encode_session(client, frontend, 0, &mark(), secure.as_ref());
            let asked = b"ACL WHOAMI\r\nCLIENT INFO\r\n";
            let all = [&head[..], &asked[..], &mark().bytes()[..]].concat();
            stream.write_all(&all).await.unwrap();
            let said = rest(&mut stream).await;
            assert!(said.starts_with(&format!("${}\r\n{user}\r\n", user.len())), "{said}");
            assert_eq!(said.contains(" tls=TLSv1.2"), is_secure, "{said}");
        });
    }
}

#[test]
fn where_tls_alone_is_taken_nothing_runs_that_came_in_clear() {
    let files = Files::good();
    let only = |values: &mut Values| {
        files.of_node(values);
        values.tls_only = true;
    };
    let at_balancer = Secure { version: "TLSv1.3".into(), ..Secure::default() };
    // Nobody else heard the one whose TLS ended at the balancer; loopback is the balancer's host.
    for (client, secure, is_taken) in [
        ("10.0.0.1:5", None, false),
        ("192.0.2.1:5", None, false),
        ("10.0.0.1:5", Some(&at_balancer), true),
        ("127.0.0.9:5", None, false),
    ] {
        served_by(only, |_, mut stream| async move {
            let (client, (_, frontend)) = (client.parse().unwrap(), ends());
            let head = proxy::encode_session(client, frontend, 0, &mark(), secure);
            // In one piece with the header: it is not too late then.
            let all = [&head[..], &b"SET k v\r\nPING\r\n"[..], &mark().bytes()[..]].concat();
            stream.write_all(&all).await.unwrap();
            let said = rest(&mut stream).await;
            if is_taken {
                assert_eq!(said, "+OK\r\n+PONG\r\n", "{client}");
            } else {
                let refused = "-ERR this node takes TLS alone (tls-only), ";
                assert!(said.starts_with(refused) && said.lines().count() == 1, "{said}");
            }
        });
    }
    served_by(only, |_, mut stream| async move {
        let check = [&proxy::encode_local()[..], b"PING\r\n"].concat();
        stream.write_all(&check).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, "+PONG\r\n", "the balancer's own check");
    });
    let without_balancers = |values: &mut Values| {
        only(values);
        values.balancer_sources = Networks(Vec::new());
    };
    served_by(without_balancers, |_, mut stream| async move {
        stream.write_all(b"PING\r\nQUIT\r\n").await.unwrap();
        assert!(rest(&mut stream).await.starts_with("+PONG\r\n"), "a client of this host");
    });
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), without_balancers);
    let said = runtime().block_on(asked(&node, &Arc::new(files.client()), b"PING\r\n")).unwrap();
    assert!(said.0.starts_with("+PONG\r\n"), "{}", said.0);
}

#[test]
fn another_node_is_dialled_where_it_speaks_tls_and_in_clear_where_links_are() {
    let (files, folder) = (Files::good(), tempfile::tempdir().unwrap());
    let node = node(folder.path(), |values| {
        files.of_node(values);
        values.tls_replication = true;
    });
    let ids = ["a", "b"].map(|letter| letter.repeat(40));
    let lines = format!(
        "{} 10.0.0.1 6666 master - tls=6667,0\n{} 10.0.0.2 6666 slave {}",
        ids[0], ids[1], ids[0]
    );
    let cluster = Cluster::default();
    let change = cluster.prepare_set_nodes(lines.as_bytes(), 1, false, &|_| false).unwrap();
    node.cluster.store(Arc::new(change.into_parts().0));
    let way = |host: &str| {
        let way = node.way_to(&topology::Endpoint { host: host.into(), port: 6666 }).unwrap();
        (way.host, way.port, way.tls.is_some())
    };
    assert_eq!(way("10.0.0.1"), ("10.0.0.1".into(), 6667, true));
    // It has none of its own, and one that is not in the topology: the port takes both kinds.
    for host in ["10.0.0.2", "10.0.0.3"] {
        assert_eq!(way(host), (host.to_owned(), 6666, true));
    }
    node.config.set(&[("tls-replication", "no")]).unwrap();
    assert_eq!(way("10.0.0.1"), ("10.0.0.1".into(), 6666, false));
    // Nobody is dialled in clear because there is no certificate.
    node.config.set(&[("tls-replication", "yes")]).unwrap();
    node.tls.prepare(&Values::default()).unwrap().put_in_force();
    assert!(node.way_to(&topology::Endpoint { host: "h".into(), port: 1 }).is_err());
}

/// What comes over a balancer's own TLS is its client's, not that of the name in its certificate.
#[test]
fn a_balancer_that_speaks_tls_itself_is_not_the_user_of_its_certificate() {
    let files = Files::good();
    let config = Arc::new(files.client());
    let change = |values: &mut Values| {
        files.of_node(values);
        values.tls_auth_clients_user = ClientsUser::Cn;
        values.tls_only = true;
    };
    served_by(change, |node, mut stream| async move {
        for user in ["ann", "bob"] {
            node.acl.set(user, &["on", "~*", "+@all"]).unwrap();
        }
        let (client, frontend) = ends();
        let name = Some("bob".to_owned());
        let secure =
            Secure { version: "TLSv1.2".into(), is_known: true, name, ..Secure::default() };
        stream.write_all(&proxy::encode_secure(client, frontend, &secure)).await.unwrap();
        let mut tls = TlsConnector::from(config).connect(here(), stream).await.unwrap();
        tls.write_all(b"ACL WHOAMI\r\nCLIENT INFO\r\nQUIT\r\n").await.unwrap();
        let mut said = Vec::new();
        tls.read_to_end(&mut said).await.unwrap();
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("$3\r\nbob\r\n"), "{said}");
        // That of the client with the balancer.
        assert!(said.contains(" tls=TLSv1.2"), "{said}");
    });
}

/// Without a last word of TLS: the balancer sees the end of the client's side, and tells of it in
/// clear, right behind the last record.
#[test]
fn a_client_over_tls_that_ended_its_side_is_answered_to_the_end() {
    let files = Files::good();
    let config = Arc::new(files.client());
    served_by(
        |values| files.of_node(values),
        |_, mut stream| async move {
            let end = Mark::fresh(rand::random());
            let (client, frontend) = ends();
            let head = proxy::encode_moving(client, frontend, 0, &end);
            stream.write_all(&head).await.unwrap();
            let connector = TlsConnector::from(config);
            let mut tls = connector.connect(here(), stream).await.unwrap();
            let (socket, connection) = tls.get_mut();
            connection.writer().write_all(b"SET k v\r\nPING last\r\n").unwrap();
            let mut all = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut all).unwrap();
            }
            all.extend_from_slice(end.bytes());
            socket.write_all(&all).await.unwrap();
            let mut said = Vec::new();
            tls.read_to_end(&mut said).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&said), "+OK\r\n$4\r\nlast\r\n");
        },
    );
}

/// A resumed session shows no certificate, so nobody would look at one that has run out since.
#[test]
fn a_session_is_not_resumed_once_the_certificate_of_its_client_has_run_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut for_s = 3;
    let (node, config, ends_s) = loop {
        let ends_s = clock::unix_s() + for_s;
        let (files, folder) = (Files::until(ends_s), folder.path().join(for_s.to_string()));
        std::fs::create_dir(&folder).unwrap();
        let node = node(&folder, |values| {
            files.of_node(values);
            values.balancer_sources = Networks(Vec::new());
        });
        let mut config = files.client();
        config.resumption = Resumption::in_memory_sessions(8);
        let config = Arc::new(config);
        let kind = || runtime().block_on(asked(&node, &config, b"PING\r\n")).map(|said| said.1);
        let kinds = (kind(), kind());
        if clock::unix_s() < ends_s {
            let kinds = (kinds.0.unwrap(), kinds.1.unwrap());
            assert_eq!(kinds, (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)));
            break (node, config, ends_s);
        }
        // A machine that was too busy for that.
        for_s *= 3;
        assert!(for_s < 300, "two handshakes take minutes");
    };
    runtime().block_on(async {
        while clock::unix_s() <= ends_s {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(asked(&node, &config, b"PING\r\n").await.is_err());
    });
}

/// The files of certificates may lie on a disk that hangs.
#[tokio::test]
async fn what_reads_certificates_is_done_aside() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |_| {});
    let mut session = crate::shell::session(&node);
    let mut begin = |name: &[u8], value: &[u8]| {
        let mut out = Vec::new();
        let mut batch = Batch::begin(&node, node.config.now(), 0, clock::unix_ms());
        let after = batch.run(&mut session, &[b"CONFIG", b"SET", name, value], &mut out);
        batch.close(&session, &mut out).finish(&node).unwrap();
        match after {
            After::Later(answer, _) => answer,
            other => panic!("{other:?}"),
        }
    };
    let answer = String::from_utf8(begin(b"tls-cert-file", b"/none.pem").await).unwrap();
    assert!(answer.starts_with("-ERR CONFIG SET failed"), "{answer}");
    assert_eq!(node.config.now().tls_cert_file, "");
    // So is a change that comes while another one is under way.
    let mut other = None;
    let set = node.config.set_if(&[], |_| {
        other = Some(begin(b"timeout", b"7"));
        Ok(())
    });
    set.unwrap();
    assert_eq!(other.unwrap().await, b"+OK\r\n");
    assert_eq!(node.config.now().timeout, 7);
}

/// A balancer that asks whether the node answers has no certificate, or speaks TLS as clients do.
#[test]
fn a_balancers_check_is_answered_at_a_port_of_tls_alone_in_clear_and_over_tls() {
    let (files, folder) = (Files::good(), tempfile::tempdir().unwrap());
    let node = node(folder.path(), |values| files.of_node(values));
    let config = Arc::new(files.client());
    for is_over_tls in [false, true] {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, peer) = listener.accept().await.unwrap();
            let seat = Seat { node: Arc::clone(&node), worker: 0, peers: None };
            let place = node.clients.places.enter(1_000, 8);
            let serving = serve(seat, Stream::of_tls_port(accepted), peer, place);
            let asking = async {
                stream.write_all(&proxy::encode_local()).await.unwrap();
                let mut said = [0; 7];
                if is_over_tls {
                    let connector = TlsConnector::from(Arc::clone(&config));
                    let mut tls = connector.connect(here(), stream).await.unwrap();
                    tls.write_all(b"PING\r\n").await.unwrap();
                    tls.read_exact(&mut said).await.unwrap();
                } else {
                    stream.write_all(b"PING\r\n").await.unwrap();
                    stream.read_exact(&mut said).await.unwrap();
                }
                assert_eq!(&said, b"+PONG\r\n", "over TLS: {is_over_tls}");
            };
            let both = async { tokio::join!(serving, asking) };
            tokio::time::timeout(PATIENCE, both).await.expect("an end");
        });
    }
}
