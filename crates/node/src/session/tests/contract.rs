//! Sentences of `docs/protocol.md`: who may do what through which door (§3), what a node does without a lease (§2), what a pause promises (§1).

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use api::heartbeat::ClientAccess;

use super::*;
use crate::clients::Via;
use crate::command::{Flags, Row};
use crate::session::Auth;
use crate::session::gates::{self, Caller, Refusal};

const DIRECT: &str = "ERR this node serves clients only through its load balancer";
const LEASE: &str =
    "-CLUSTERDOWN master lease expired: this node has not heard from its controller";

/// Words that pass the gates of arity and subcommand.
fn words(command: &Row) -> Vec<&'static [u8]> {
    let first = command.subcommands.first();
    let mut words: Vec<&[u8]> = vec![command.name.as_bytes()];
    words.extend(first.map(|row| row.name.as_bytes()));
    while !command.accepts(words.len()) || first.is_some_and(|row| !row.accepts(words.len())) {
        words.push(b"x");
        assert!(words.len() < 20, "{}", command.name);
    }
    words
}

impl Bench {
    /// What the gates say of a command, which does not run.
    fn gate(&self, command: &Row) -> Result<(), Refusal> {
        let engine = self.node.engine();
        let caller = Caller {
            node: &self.node,
            config: &self.node.config.now(),
            session: &self.session,
            engine: &engine,
            cluster: None,
        };
        gates::pass(&caller.check(command, &words(command)))
    }

    fn by(&mut self, via: Via, auth: Auth) {
        let address = SocketAddr::from(([10, 0, 0, 1], 1));
        let client = self.node.clients.add(address, address, via, 0);
        self.session = Session::new(client, &self.node.config.now(), false);
        self.session.auth = auth;
    }

    fn says(&mut self, command: &str) -> String {
        self.pipeline(&[command])
    }
}

fn through_a_balancer() -> Via {
    let balancer = SocketAddr::from(([10, 0, 8, 1], 1));
    Via::Balancer { balancer, frontend: SocketAddr::from(([10, 0, 9, 1], 6379)) }
}

fn balanced() -> Bench {
    let change = |values: &mut Values| {
        values.client_access = ClientAccess::BalancerOnly;
        values.peer_auth = "secret".into();
    };
    Bench::start(change, Cluster::default(), Role::Master)
}

#[test]
fn each_command_has_its_door() {
    let mut bench = balanced();
    for command in crate::shell::table().rows() {
        let name = command.name;
        // Around the balancers: nothing before AUTH, no key after it, all of the rest.
        bench.by(Via::Direct, Auth::None);
        bench.session.auth = bench.session.initial_auth(&bench.node.config.now());
        let refused = bench.gate(command).is_err();
        assert!(refused || command.flags.has(Flags::NO_AUTH), "{name}");
        bench.by(Via::Direct, Auth::Peer);
        let door = Err(Refusal::Error(DIRECT.into()));
        assert_eq!(bench.gate(command) == door, command.is_data(), "{name}");
        assert!(
            command.is_data() || bench.gate(command).is_ok(),
            "{name}: {:?}",
            bench.gate(command)
        );
        // Through them: keys, and nothing of what is the node's own affair.
        bench.by(through_a_balancer(), Auth::Client);
        let is_peers = command.flags.has(Flags::PEER);
        match bench.gate(command) {
            Ok(()) => assert!(!is_peers, "{name}"),
            Err(Refusal::Error(text)) => {
                let noperm = format!("NOPERM '{name}' is not served through a load balancer");
                assert!(is_peers && text.starts_with(&noperm), "{name}: {text}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(!(is_peers && command.is_data()), "{name} has no door at all");
    }
}

#[test]
fn peer_auth_opens_the_nodes_own_door_and_no_other_word_does() {
    let mut bench = balanced();
    bench.by(Via::Direct, Auth::None);
    assert_eq!(bench.says("GET k"), "-NOAUTH Authentication required.");
    assert!(bench.says("AUTH wrong").starts_with("-WRONGPASS"), "{}", bench.says("AUTH wrong"));
    assert_eq!(bench.says("GET k"), "-NOAUTH Authentication required.");
    assert_eq!(bench.says("AUTH secret"), "+OK");
    assert_eq!(bench.says("SET k v"), format!("-{DIRECT}"));
    assert!(bench.says("CONFIG GET port").starts_with("*2"));
    // Behind a balancer it is no password.
    bench.by(through_a_balancer(), Auth::Client);
    assert!(bench.says("AUTH secret").starts_with('-'));
    assert_eq!(bench.session.auth, Auth::Client);
    assert_eq!(bench.says("SET k v"), "+OK");
}

#[test]
fn what_a_master_without_a_lease_does_is_its_modes_word() {
    for (mode, read, write) in [
        ("disabled", "$-1", "+OK"),
        ("log-only", "$-1", "+OK"),
        ("block-write", "$-1", LEASE),
        ("block-all", LEASE, LEASE),
    ] {
        // As after a restart: no heartbeat has come yet.
        let mut bench = Bench::new();
        bench.node.config.set(&[("master-lease-mode", mode)]).unwrap();
        assert_eq!(bench.says("GET k"), read, "{mode}");
        assert_eq!(bench.says("SET k v"), write, "{mode}");
        assert_eq!(bench.says("PING"), "+PONG", "no key, no lease: {mode}");
    }
}

/// CLIENT PAUSE … WRITE answers when no write is in flight any more: the sequence shown from then on is final.
#[test]
fn a_pause_answers_after_the_last_write() {
    let bench = Bench::new();
    let node = Arc::clone(&bench.node);
    let is_written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let in_flight = node.gate.read();
        let pausing = scope.spawn(|| {
            let mut session = Bench::session(&node);
            let said = Bench::run(&node, &mut session, &["CLIENT PAUSE 60000 WRITE"]);
            assert!(is_written.load(Ordering::SeqCst), "it answered before the write was done");
            said
        });
        while node.clients.paused(crate::clock::boottime_ns).is_none() {
            std::thread::yield_now();
        }
        is_written.store(true, Ordering::SeqCst);
        drop(in_flight);
        assert_eq!(pausing.join().unwrap(), "+OK");
    });
    let reply = crate::role::heartbeat_reply(&node);
    assert!(reply.paused);
    // Until it is over nobody writes; peers, who may, are asked not to by themselves.
    let mut out = Vec::new();
    let mut session = Bench::session(&node);
    let mut batch = begin(&node);
    let step = batch.run(&mut session, &[b"SET", b"k", b"v"], &mut out);
    assert!(matches!(step, Step::Wait(_)));
    batch.close(&session, &mut out).finish(&node).unwrap();
    assert_eq!(crate::role::heartbeat_reply(&node).sequence, reply.sequence);
}
