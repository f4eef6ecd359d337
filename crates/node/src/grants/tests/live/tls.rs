//! The options of TLS, each set on a node that runs and then seen in a handshake with it.

use std::path::Path;

use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite};

use super::*;
use crate::config::value::AuthClients;
use crate::tls::Tls;

/// Certificates that vouch for themselves, the node's and a client's, and both in one file.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let mut both = String::new();
        for name in ["node", "client"] {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            std::fs::write(files.path(&format!("{name}.pem")), &pem).unwrap();
            std::fs::write(files.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
            both.push_str(&pem);
        }
        for folder in ["of-node", "of-both"] {
            std::fs::create_dir(files.path(folder)).unwrap();
        }
        std::fs::copy(files.path("node.pem"), files.path("of-node/ca.pem")).unwrap();
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

    /// What is spoken with the node by a client that shows its own certificate; `None` if it is not
    /// let in.
    fn greeted(&self, node: &Running) -> Option<(ProtocolVersion, SupportedCipherSuite)> {
        let values = Values {
            tls_cert_file: self.path("client.pem"),
            tls_key_file: self.path("client.key"),
            tls_ca_cert_file: self.path("node.pem"),
            tls_auth_clients: AuthClients::No,
            ..Values::default()
        };
        let tls = Tls::load(&values).unwrap().unwrap();
        let socket = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
        let mut stream = tls.over(socket, "127.0.0.1").unwrap();
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
        _ => return is_in_force(&node, name),
    }
    true
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
