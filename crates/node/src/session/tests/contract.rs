//! Sentences of `docs/protocol.md`: which connections may use which commands (§3), what a node does
//! without a lease (§2), what a pause promises (§1).

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use api::heartbeat::ClientAccess;

use super::wrong_door::LOW;
use super::*;
use crate::clients::Via;
use crate::command::{Flags, Renames, Row};
use crate::session::gates::{self, Caller, Refusal};
use crate::session::{Auth, Command, table};

const DIRECT: &str = "ERR this node serves clients only through its load balancer";
const LEASE: &str =
    "-CLUSTERDOWN master lease expired: this node has not heard from its controller";

/// Words that pass the gate of their number.
fn words(command: &Row) -> Vec<&'static [u8]> {
    let mut words: Vec<&[u8]> = command.name.split('|').map(str::as_bytes).collect();
    while !command.accepts(words.len()) {
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

    pub(super) fn says(&mut self, command: &str) -> String {
        self.pipeline(&[command])
    }
}

/// All that can be called.
fn commands() -> impl Iterator<Item = &'static Row> {
    crate::shell::table();
    let all = table::all(&Renames::default()).collect::<Vec<_>>().into_iter();
    let called = |command: &'static Command| match command.leaves {
        [] => std::slice::from_ref(command),
        leaves => leaves,
    };
    all.flat_map(called).map(|command| &command.row)
}

fn through_a_balancer() -> Via {
    let balancer = SocketAddr::from(([10, 0, 8, 1], 1));
    Via::Balancer { balancer, frontend: SocketAddr::from(([10, 0, 9, 1], 6379)) }
}

fn balanced() -> Bench {
    balanced_with(|_| {})
}

fn balanced_with(more: impl FnOnce(&mut Values)) -> Bench {
    let change = |values: &mut Values| {
        values.client_access = ClientAccess::BalancerOnly;
        values.peer_auth = "secret".into();
        more(values);
    };
    Bench::start(change, Cluster::default(), Role::Master)
}

/// A client that could end them again and again could keep a master from its set and its
/// controller.
#[test]
fn through_a_balancer_nobody_ends_the_connections_of_peers() {
    let mut bench = balanced();
    let address = SocketAddr::from(([10, 0, 0, 2], 1));
    let [peer, replica] = [0, 1].map(|_| bench.node.clients.add(address, address, Via::Direct, 0));
    peer.become_peer();
    replica.is_replica.store(true, Ordering::Relaxed);
    let ended = || (peer.is_killed(), replica.is_killed());
    bench.by(through_a_balancer(), Auth::Client);
    assert_eq!(bench.says("CLIENT KILL 10.0.0.2:1"), "-ERR No such client");
    let by_id = format!("ID {}", peer.id);
    for filter in ["ADDR 10.0.0.2:1", "TYPE REPLICA", "USER default ADDR 10.0.0.2:1", &by_id] {
        assert_eq!(bench.says(&format!("CLIENT KILL {filter}")), ":0", "{filter}");
    }
    assert_eq!(ended(), (false, false));
    // A peer may, and is no user itself.
    bench.by(Via::Direct, Auth::Peer);
    assert_eq!(bench.says("CLIENT KILL USER default ADDR 10.0.0.2:1"), ":1");
    assert_eq!(ended(), (false, true));
    assert_eq!(bench.says(&format!("CLIENT KILL {by_id}")), ":1");
    assert_eq!(ended(), (true, true));
}

#[test]
fn each_command_has_its_door() {
    let mut bench = balanced_with(|values| values.cluster_enabled = true);
    for command in commands() {
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
        let is = |flag: Flags| command.flags.has(flag);
        let is_peers = is(Flags::PEER) || is(Flags::AT_NODE) || is(Flags::CONTROL);
        match bench.gate(command) {
            Ok(()) => assert!(!is_peers, "{name}"),
            Err(Refusal::Error(text)) => {
                let noperm = match is(Flags::CONTROL) {
                    true => "NOPERM only peers may pause the clients of this node".to_owned(),
                    false => format!("NOPERM '{name}' is not served through a load balancer"),
                };
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

/// CLIENT PAUSE … WRITE answers when no write is in flight any more: the sequence shown from then
/// on is final.
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
    // Until it is over no client writes; peers may, but are expected not to.
    let mut out = Vec::new();
    let mut session = Bench::session(&node);
    let mut batch = begin(&node);
    let step = batch.run(&mut session, &[b"SET", b"k", b"v"], &mut out);
    assert!(matches!(step, After::Again(_)));
    batch.close(&session, &mut out).finish(&node).unwrap();
    assert_eq!(crate::role::heartbeat_reply(&node).sequence, reply.sequence);
}

#[test]
fn what_is_for_administrators_is_not_for_clients_of_a_namespace() {
    let mut bench = Bench::new();
    assert_eq!(bench.says("SET k ours"), "+OK");
    bench.session.enter(b"n".as_slice().into(), true);
    for command in ["CONFIG GET port", "SLOWLOG LEN", "BGSAVE"] {
        let refused = "-ERR admin permission required to perform the command";
        assert_eq!(bench.says(command), refused, "{command}");
    }
    assert_eq!(bench.says("GET k"), "$-1");
    assert_eq!(
        bench.pipeline(&["MULTI", "SET k theirs", "GET k", "EXEC"]),
        "+OK +QUEUED +QUEUED *2 +OK $6 theirs"
    );
    bench.session.enter(storage::DEFAULT_NAMESPACE.into(), false);
    assert_eq!(bench.says("GET k"), "$4 ours");
}

#[test]
fn a_database_may_be_said_to_be_full() {
    let mut bench = Bench::new();
    assert_eq!(bench.says("SET k v"), "+OK");
    assert_eq!(bench.says("DEBUG DBSIZE-LIMIT 2"), "-ERR invalid debug dbsize-limit value");
    assert_eq!(bench.says("DEBUG DBSIZE-LIMIT 1"), "+OK");
    let refusal = "-ERR write command not allowed when reached max-db-size.";
    assert_eq!(bench.says("SET k w"), refusal);
    assert_eq!(bench.pipeline(&["GET k", "DEL k"]), "$1 v :1");
    assert_eq!(bench.says("DEBUG DBSIZE-LIMIT 0"), "+OK");
    assert_eq!(bench.says("SET k w"), "+OK");
}

/// What leads from a label to a time series has no slot.
#[test]
fn labels_of_time_series_are_refused_in_cluster_mode() {
    let mut bench = Bench::beside_another_master();
    for command in ["TS.CREATE", "TS.ALTER", "TS.ADD", "TS.INCRBY"] {
        let words = match command {
            "TS.ADD" => " 1 1",
            "TS.INCRBY" => " 1",
            _ => "",
        };
        let refusal = "-ERR labels of time series are not supported in cluster mode";
        assert_eq!(bench.says(&format!("{command} {LOW}{words} LABELS a b")), refusal);
    }
    for command in ["TS.MGET FILTER", "TS.MRANGE - + FILTER", "TS.MREVRANGE - + FILTER"] {
        let refusal = "-ERR time series are not found by labels in cluster mode";
        assert_eq!(bench.says(&format!("{command} a=b")), refusal);
        assert_eq!(bench.says("TS.QUERYINDEX a=b"), refusal);
    }
    assert_eq!(bench.says(&format!("EXISTS {LOW}")), ":0");
    assert_eq!(bench.says(&format!("TS.CREATE {LOW}")), "+OK");
}

/// What does not fit is refused when it is queued, and takes the transaction with it.
#[test]
fn words_of_a_container_are_counted_before_it_is_queued() {
    let mut bench = Bench::new();
    for (command, refused) in [
        ("CLIENT x", "-ERR unknown subcommand 'x'. Try CLIENT HELP."),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command"),
        ("client Id 1", "-ERR wrong number of arguments for 'client|id' command"),
        ("COMMAND GETKEYS a", "-ERR wrong number of arguments for 'command|getkeys' command"),
        ("COMMAND x", "-ERR unknown subcommand 'x'. Try COMMAND HELP."),
    ] {
        assert_eq!(bench.says(command), refused);
        assert_eq!(bench.pipeline(&["MULTI", command]), format!("+OK {refused}"));
        assert!(bench.says("EXEC").starts_with("-EXECABORT"), "{command}");
    }
    assert_eq!(bench.pipeline(&["MULTI", "CLIENT GETNAME", "EXEC"]), "+OK +QUEUED *1 $-1");
    let either = "-ERR unknown subcommand or wrong number of arguments for 'x'. Try DEBUG HELP.";
    assert_eq!(bench.says("DEBUG x"), either);
    let usage = "-ERR CLUSTER command, CLUSTER INFO|NODES|SLOTS|KEYSLOT|RESET|REPLICAS";
    assert_eq!(bench.says("CLUSTER KEYSLOT"), usage);
    assert_eq!(bench.says("CLUSTER KEYSLOT k"), "-ERR Cluster mode is not enabled");
}
