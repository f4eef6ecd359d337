//! The options of TLS, each set on a node that runs and then seen in a handshake with it.

use std::path::Path;

use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite};

use super::*;
use crate::config::value::AuthClients;
use crate::connection::{Seat, serve};
use crate::tls::Tls;

/// Certificates that vouch for themselves, the node's and a client's, and both in one file.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let mut both = String::new();
        for name in ["node", "client"] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let pem = params.self_signed(&key).unwrap().pem();
            std::fs::write(files.path(&format!("{name}.pem")), &pem).unwrap();
            std::fs::write(files.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
            both.push_str(&pem);
        }
        for folder in ["of-node", "of-both"] {
            std::fs::create_dir(files.path(folder)).unwrap();
        }
        std::fs::copy(files.path("node.pem"), files.path("of-node/ca.pem")).unwrap();
        // What others keep there: a text, and a certificate under a name that is none of a CA's.
        std::fs::write(files.path("of-node/README"), "no certificate").unwrap();
        for name in ["client.pem.bak", ".client.pem"] {
            std::fs::copy(files.path("client.pem"), files.path(&format!("of-node/{name}")))
                .unwrap();
        }
        for file in ["both.pem", "of-both/ca.pem"] {
            std::fs::write(files.path(file), &both).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> String {
        Path::new(self.0.path()).join(name).display().to_string()
    }

    /// A node with a certificate, that asks for none.
    fn node(&self) -> Running {
        let node = plain();
        let (pem, key) = (self.path("node.pem"), self.path("node.key"));
        let words = ["CONFIG", "SET", "tls-auth-clients", "no", "tls-cert-file", &pem];
        assert_eq!(node.ask(&[&words[..], &["tls-key-file", &key]].concat()), "+OK");
        node
    }

    /// What the client speaks TLS by.
    fn client(&self) -> Tls {
        let values = Values {
            tls_cert_file: self.path("client.pem"),
            tls_key_file: self.path("client.key"),
            tls_ca_cert_file: self.path("node.pem"),
            tls_auth_clients: AuthClients::No,
            ..Values::default()
        };
        Tls::load(&values).unwrap().unwrap()
    }

    /// The user that the client is to the node.
    fn user(&self, node: &Running) -> String {
        let socket = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
        let mut stream = self.client().over(socket, "127.0.0.1").unwrap();
        stream.write_all(b"ACL WHOAMI\r\n").unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
        lines.map_while(Result::ok).nth(1).unwrap()
    }

    /// Whether the admin port answers a probe over TLS, or in clear.
    fn probed(&self, node: &Running, is_secure: bool) -> bool {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&node.node);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(crate::admin::serve(serving, listener));
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut socket = TcpStream::connect(address).unwrap();
        let mut said = Vec::new();
        // One that is not let in learns it by an end or a reset.
        let _ = if is_secure {
            let mut stream = self.client().over(socket, "127.0.0.1").unwrap();
            stream.write_all(request).and_then(|()| stream.read_to_end(&mut said))
        } else {
            socket.write_all(request).and_then(|()| socket.read_to_end(&mut said))
        };
        said.starts_with(b"HTTP/1.1 200 ")
    }

    /// What is spoken with the node by a client that shows its own certificate; `None` if it is not
    /// let in.
    fn greeted(&self, node: &Running) -> Option<(ProtocolVersion, SupportedCipherSuite)> {
        let socket = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
        let mut stream = self.client().over(socket, "127.0.0.1").unwrap();
        let mut answer = [0; 5];
        let asked = stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut answer));
        let is_answered = asked.is_ok() && &answer == b"+PONG";
        let spoken = stream.conn.protocol_version().zip(stream.conn.negotiated_cipher_suite());
        spoken.filter(|_| is_answered)
    }
}

pub(super) fn of_tls(name: &str) -> bool {
    if !name.starts_with("tls-") {
        return false;
    }
    let files = Files::new();
    let node = files.node();
    let is_let_in = || files.greeted(&node).is_some();
    assert!(is_let_in());
    match name {
        "tls-cert-file" | "tls-key-file" => {
            begins(&node.ask(&["CONFIG", "SET", name, ""]), "-ERR CONFIG SET failed");
            let none = ["CONFIG", "SET", "tls-cert-file", "", "tls-key-file", ""];
            assert_eq!(node.ask(&none), "+OK");
            assert!(!is_let_in());
        }
        "tls-key-file-pass" | "tls-ciphers" => {
            begins(&node.ask(&["CONFIG", "SET", name, "x"]), "-ERR CONFIG SET failed");
            assert!(is_let_in());
        }
        "tls-auth-clients" => {
            set(&node, "tls-ca-cert-file", &files.path("node.pem"));
            for (asked, lets_in) in [("yes", false), ("no", true), ("optional", false)] {
                set(&node, name, asked);
                assert_eq!(is_let_in(), lets_in, "{asked}");
            }
        }
        "tls-ca-cert-file" | "tls-ca-cert-dir" => {
            let (node_alone, both) = match name {
                "tls-ca-cert-file" => ("node.pem", "both.pem"),
                _ => ("of-node", "of-both"),
            };
            let (node_alone, both) = (files.path(node_alone), files.path(both));
            let words = ["CONFIG", "SET", "tls-auth-clients", "yes", name, &node_alone];
            assert_eq!(node.ask(&words), "+OK");
            assert!(!is_let_in());
            set(&node, name, &both);
            assert!(is_let_in());
            if name == "tls-ca-cert-dir" {
                let empty = tempfile::tempdir().unwrap();
                let said = node.ask(&["CONFIG", "SET", name, empty.path().to_str().unwrap()]);
                assert!(said.contains("there is no certificate in "), "{said}");
            }
        }
        "tls-replication" => {
            begins(&node.ask(&["CONFIG", "SET", name, "yes"]), "-ERR CONFIG SET failed");
            set(&node, "tls-ca-cert-file", &files.path("both.pem"));
            assert!(node.node.link_tls().unwrap().is_none());
            set(&node, name, "yes");
            assert!(node.node.link_tls().unwrap().is_some());
        }
        "tls-protocols" => {
            set(&node, name, "TLSv1.2");
            assert_eq!(files.greeted(&node).unwrap().0, ProtocolVersion::TLSv1_2);
        }
        "tls-ciphersuites" => {
            set(&node, name, "TLS_CHACHA20_POLY1305_SHA256");
            let suite = files.greeted(&node).unwrap().1.suite();
            assert_eq!(suite, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        }
        _ => return is_of_whom(&files, &node, name) || is_in_force(&node, name),
    }
    true
}

/// Those about who a client is, and of the admin port.
fn is_of_whom(files: &Files, node: &Running, name: &str) -> bool {
    match name {
        "tls-auth-clients-user" => {
            let both = files.path("both.pem");
            let asks = ["CONFIG", "SET", "tls-auth-clients", "yes", "tls-ca-cert-file", &both];
            assert_eq!(node.ask(&asks), "+OK");
            node.node.acl.set("client", &["on", "~*", "+@all"]).unwrap();
            assert_eq!(files.user(node), "default");
            set(node, name, "CN");
            assert_eq!(files.user(node), "client");
        }
        "tls-only" => {
            begins(&plain().ask(&["CONFIG", "SET", name, "yes"]), "-ERR CONFIG SET failed");
            set(node, "protected-mode", "no");
            begins(&said_in_clear(node), "+PONG");
            set(node, name, "yes");
            begins(&said_in_clear(node), "-ERR this node takes TLS alone");
        }
        "tls-admin" => {
            let probed = || [true, false].map(|is_secure| files.probed(node, is_secure));
            assert_eq!(probed(), [false, true]);
            set(node, name, "yes");
            assert_eq!(probed(), [true, false]);
        }
        "tls-admin-auth-clients" => {
            let of_node = files.path("node.pem");
            let words = ["CONFIG", "SET", "tls-admin", "yes", "tls-ca-cert-file", &of_node];
            assert_eq!(node.ask(&words), "+OK");
            for (asked, lets_in) in [("no", true), ("yes", false), ("optional", false)] {
                set(node, name, asked);
                assert_eq!(files.probed(node, true), lets_in, "{asked}");
            }
            set(node, "tls-ca-cert-file", &files.path("both.pem"));
            assert!(files.probed(node, true));
        }
        _ => return false,
    }
    true
}

/// What a client of another host is told in clear.
fn said_in_clear(node: &Running) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream =
            tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let seat = Seat { node: Arc::clone(&node.node), worker: 0, peers: None };
        let place = node.node.clients.places.enter(1_000, 8);
        let from = SocketAddr::from(([10, 0, 0, 1], 5));
        let asking = async {
            stream.write_all(b"PING\r\nQUIT\r\n").await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        };
        tokio::join!(serve(seat, accepted, from, place), asking).1
    })
}

/// Those that a single handshake does not show.
fn is_in_force(node: &Running, name: &str) -> bool {
    let config = || {
        let acceptor = node.node.tls.now().unwrap().acceptor();
        Arc::clone(acceptor.config())
    };
    match name {
        "tls-prefer-server-ciphers" => {
            set(node, name, "yes");
            assert!(config().ignore_client_order);
        }
        "tls-session-caching" => {
            set(node, name, "no");
            assert!(!config().session_storage.can_cache() && config().send_tls13_tickets == 0);
        }
        "tls-session-cache-size" => {
            set(node, name, "1");
            let sessions = Arc::clone(&config().session_storage);
            for number in 0..9 {
                assert!(sessions.put(vec![number], vec![number]));
            }
            assert_eq!((sessions.get(&[0]), sessions.get(&[8])), (None, Some(vec![8])));
        }
        _ => return false,
    }
    true
}
