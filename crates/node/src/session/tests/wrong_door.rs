//! Rule R15: a client at the wrong node is neither served from data that nobody vouches for nor
//! sent in a circle.

use std::net::SocketAddr;

use api::heartbeat::ClientAccess;

use super::*;
use crate::clients::Via;
use crate::command::{Args, Renames, Reply};
use crate::session::SessionCx;
use crate::session::table::{self, Handler};

pub(super) const ME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(super) const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Slots of these keys: 3300 and 15495.
pub(super) const LOW: &str = "b";
pub(super) const HIGH: &str = "a";

/// Where clients are shown this node, and the other one.
pub(super) const MY_DOOR: &str = "192.0.2.1:7001";
pub(super) const OTHER_DOOR: &str = "192.0.2.2:7002";

impl Bench {
    /// A node that knows a topology; `table` is what each line says behind the local address.
    pub(super) fn in_cluster(role: Role, lines: [&str; 2]) -> Self {
        Self::served_to(ClientAccess::Any, role, lines)
    }

    fn served_to(access: ClientAccess, role: Role, [mine, other]: [&str; 2]) -> Self {
        let mut cluster = Cluster::default();
        let change = cluster.prepare_set_node_id(ME.as_bytes(), true).unwrap();
        cluster.commit(change).unwrap();
        let text = format!("{ME} 10.0.0.1 6666 {mine}\n{OTHER} 10.0.0.2 6666 {other}");
        let change = cluster.prepare_set_nodes(text.as_bytes(), 1, false, &|_| false).unwrap();
        cluster.commit(change).unwrap();
        let change = |values: &mut Values| {
            values.cluster_enabled = true;
            values.client_access = access;
        };
        Self::start(change, cluster, role)
    }

    /// Two masters with half of the slots each.
    pub(super) fn beside_another_master() -> Self {
        Self::in_cluster(
            Role::Master,
            ["master - 0-8191 192.0.2.1 7001", "master - 8192-16383 192.0.2.2 7002"],
        )
    }

    /// A replica of the other node, which holds all slots.
    pub(super) fn behind_a_master() -> Self {
        let from = topology::Endpoint { host: "10.0.0.2".into(), port: 6666 };
        Self::in_cluster(
            Role::Replica { from },
            [&format!("slave {OTHER} 192.0.2.1 7001"), "master - 0-16383 192.0.2.2 7002"],
        )
    }

    /// The next commands come over a balancer, from a client that dialled this address.
    pub(super) fn dial(&mut self, frontend: &str) {
        let balancer = SocketAddr::from(([10, 0, 8, 1], 1));
        let via = Via::Balancer { balancer, frontend: frontend.parse().unwrap() };
        let address = SocketAddr::from(([10, 0, 9, 1], 1));
        let client = self.node.clients.add(address, address, via, 0);
        self.session = Session::new(client, &self.node.config.now(), false);
    }

    /// What a command is answered; `Err` with the reason where the connection is closed instead.
    pub(super) fn answer(&mut self, command: &str) -> Result<String, &'static str> {
        let mut out = Vec::new();
        let mut batch = begin(&self.node);
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let step = batch.run(&mut self.session, &words, &mut out);
        batch.close(&self.session, &mut out).finish(&self.node)?;
        match step {
            After::Drop(why) => Err(why),
            _ => Ok(String::from_utf8(out).unwrap().replace("\r\n", " ").trim_end().to_owned()),
        }
    }

    #[track_caller]
    fn assert_untrusted(&mut self, command: &str) {
        let said = self.answer(command).unwrap();
        let refused = "-MASTERDOWN this node was master under an older version";
        assert!(said.starts_with(refused), "{command}: {said}");
    }
}

#[test]
fn data_that_is_to_be_replaced_is_shown_to_nobody() {
    let mut bench = Bench::new();
    assert_eq!(bench.pipeline(&["SET k v"]), "+OK");
    bench.node.resync.set_required(true);
    for command in ["GET k", "EXISTS k", "MGET k other", "SET k w", "DEL k"] {
        bench.assert_untrusted(command);
    }
    // Queued before it was known, and run after.
    bench.node.resync.set_required(false);
    assert_eq!(bench.pipeline(&["MULTI", "GET k"]), "+OK +QUEUED");
    bench.node.resync.set_required(true);
    let said = bench.answer("EXEC").unwrap();
    let refused = "-EXECABORT Transaction discarded because of: MASTERDOWN";
    assert!(said.starts_with(refused), "{said}");
    assert_eq!(bench.pipeline(&["PING"]), "+PONG", "it tells of no data");
    bench.node.resync.set_required(false);
    assert_eq!(bench.pipeline(&["GET k"]), "$1 v", "replaced, and nothing was written meanwhile");
}

#[test]
fn a_reader_of_replicas_is_not_shown_untrusted_data_either() {
    let mut bench = Bench::behind_a_master();
    assert_eq!(bench.pipeline(&["READONLY", "GET a"]), "+OK $-1");
    bench.node.resync.set_required(true);
    bench.assert_untrusted("GET a");
}

#[test]
fn a_client_that_would_be_sent_where_it_is_is_closed() {
    let moved = format!("-MOVED 15495 {OTHER_DOOR}");
    let circle = "reached through a balancer address that belongs to another node";
    let mut bench = Bench::beside_another_master();
    assert_eq!(bench.answer(&format!("GET {HIGH}")), Ok(moved.clone()), "it came by itself");
    bench.dial(MY_DOOR);
    assert_eq!(bench.answer(&format!("GET {HIGH}")), Ok(moved), "that door is another one");
    // The balancer of the other node's address points here; its client may have dialled IPv4 by a
    // v6 socket.
    for door in [OTHER_DOOR, "[::ffff:192.0.2.2]:7002"] {
        for command in [format!("GET {HIGH}"), format!("SET {HIGH} 1")] {
            bench.dial(door);
            assert_eq!(bench.answer(&command), Err(circle), "{door} {command}");
        }
        bench.dial(door);
        assert_eq!(bench.pipeline(&["MULTI"]), "+OK");
        assert_eq!(bench.answer(&format!("GET {HIGH}")), Err(circle), "{door}, to be queued");
    }
    // What is served here is served, whatever the door: nothing is redirected, so nothing circles.
    bench.dial(OTHER_DOOR);
    assert_eq!(bench.answer(&format!("SET {LOW} 1")), Ok("+OK".to_owned()));
}

/// Its balancer has not heard of the new master yet, or was restarted with the old one.
#[test]
fn the_door_of_the_master_that_leads_to_a_replica_is_closed() {
    let mut bench = Bench::behind_a_master();
    bench.dial(OTHER_DOOR);
    assert!(bench.answer(&format!("GET {LOW}")).is_err());
    bench.dial(OTHER_DOOR);
    assert!(bench.answer(&format!("SET {LOW} 1")).is_err());
    bench.dial(MY_DOOR);
    let moved = format!("-MOVED 3300 {OTHER_DOOR}");
    assert_eq!(bench.answer(&format!("GET {LOW}")), Ok(moved));
}

#[test]
fn an_ipv6_door_is_told_apart_by_address_and_port_however_it_is_spelled() {
    for announced in ["2001:db8::2", "2001:DB8:0:0::2"] {
        let other = format!("master - 8192-16383 {announced} 7002");
        let mut bench =
            Bench::in_cluster(Role::Master, ["master - 0-8191 2001:db8::1 7001", &other]);
        bench.dial("[2001:db8::2]:7001");
        let moved = format!("-MOVED 15495 {announced}:7002");
        assert_eq!(bench.answer(&format!("GET {HIGH}")), Ok(moved));
        bench.dial("[2001:db8::2]:7002");
        assert!(bench.answer(&format!("GET {HIGH}")).is_err(), "{announced}");
    }
}

/// By the name that leads to the address it dialled.
#[test]
fn a_client_is_not_sent_in_a_circle_by_an_announced_name_either() {
    let mut bench = Bench::in_cluster(
        Role::Master,
        ["master - 0-8191 lb.invalid 7001", "master - 8192-16383 lb.invalid 7002"],
    );
    let hosts = bench.node.hosts.clone();
    let [same, other]: [std::net::IpAddr; 2] =
        ["192.0.2.2", "192.0.2.9"].map(|ip| ip.parse().unwrap());
    let command = format!("GET {HIGH}");
    let moved = Ok("-MOVED 15495 lb.invalid:7002".to_owned());
    hosts.learn("lb.invalid", Ok(vec![other]));
    bench.dial(OTHER_DOOR);
    assert_eq!(bench.answer(&command), moved, "that name leads elsewhere");
    hosts.learn("lb.invalid", Ok(vec![other, same]));
    bench.dial(OTHER_DOOR);
    assert!(bench.answer(&command).is_err());
    // Its own endpoint has the name, too, at another port.
    bench.dial("192.0.2.2:7001");
    assert_eq!(bench.answer(&command), moved);
}

/// With this node or with a balancer in front of it: either way it is known of the connection.
#[test]
fn who_speaks_tls_is_sent_where_tls_alone_is_spoken() {
    let lines = [
        "master - 0-8191 192.0.2.1 7001 tls=0,7101",
        "master - 8192-16383 192.0.2.2 7002 tls=6667,7102",
    ];
    let mut bench = Bench::in_cluster(Role::Master, lines);
    let moved = format!("GET {HIGH}");
    let shown = |bench: &mut Bench, port: u16| {
        let nodes = bench.answer("CLUSTER NODES").unwrap();
        let slots = bench.answer("CLUSTER SLOTS").unwrap();
        nodes.contains(&format!("192.0.2.2:{port}@")) && slots.contains(&format!(" :{port} "))
    };
    bench.dial(MY_DOOR);
    assert_eq!(bench.answer(&moved).unwrap(), "-MOVED 15495 192.0.2.2:7002");
    assert!(shown(&mut bench, 7002));
    bench.dial("192.0.2.1:7101");
    bench.session.client.tls.set("TLSv1.3".into()).unwrap();
    assert_eq!(bench.answer(&moved).unwrap(), "-MOVED 15495 192.0.2.2:7102");
    assert!(shown(&mut bench, 7102));
    let said = bench.answer("CLUSTER SHARDS").unwrap();
    assert!(said.contains("$4 port :7002 $8 tls-port :7102"), "{said}");
    // The same circle as in clear.
    bench.dial("192.0.2.2:7102");
    bench.session.client.tls.set("TLSv1.3".into()).unwrap();
    assert!(bench.answer(&moved).is_err());
}

#[test]
fn who_comes_through_a_balancer_is_shown_what_balancers_reach() {
    let lines = ["master - 0-8191 192.0.2.1 7001", "master - 8192-16383"];
    let asked = ["CLUSTER NODES", "CLUSTER SLOTS", "CLUSTER SHARDS"];
    let replicas = format!("CLUSTER REPLICAS {OTHER}");
    let moved = format!("GET {HIGH}");
    // Kvrocks' rule while clients reach nodes: its own address.
    let mut bench = Bench::in_cluster(Role::Master, lines);
    bench.dial(MY_DOOR);
    for command in asked {
        assert!(bench.answer(command).unwrap().contains("10.0.0.2"), "{command}");
    }
    assert_eq!(bench.answer(&moved).unwrap(), "-MOVED 15495 10.0.0.2:6666");
    let mut bench = Bench::served_to(ClientAccess::BalancerOnly, Role::Master, lines);
    bench.dial(MY_DOOR);
    for command in asked.iter().copied().chain([replicas.as_str()]) {
        let said = bench.answer(command).unwrap();
        assert!(!said.contains("10.0.0."), "{command}: {said}");
    }
    let down = "-CLUSTERDOWN Hash slot not served: its master has no announced endpoint";
    assert_eq!(bench.answer(&moved).unwrap(), down);
    assert!(bench.answer("CLUSTER SLOTS").unwrap().contains("192.0.2.1"));
    // Peers and operators come to the node itself, and see every node.
    bench.session = Bench::session(&bench.node);
    bench.session.auth = crate::session::Auth::Peer;
    for command in asked {
        assert!(bench.answer(command).unwrap().contains("10.0.0.2"), "{command}");
    }
}

#[test]
fn a_node_without_a_door_of_its_own_shows_itself_without_an_address() {
    let from = topology::Endpoint { host: "10.0.0.2".into(), port: 6666 };
    let lines = [&*format!("slave {OTHER}"), "master - 0-16383 192.0.2.2 7002"];
    let mut bench = Bench::served_to(ClientAccess::BalancerOnly, Role::Replica { from }, lines);
    // By a door that is not switched over yet.
    bench.dial(MY_DOOR);
    let said = bench.answer("CLUSTER NODES").unwrap();
    assert!(said.contains(&format!("{ME} :0@0 myself,slave,noaddr {OTHER}")), "{said}");
    let moved = format!("GET {HIGH}");
    assert_eq!(bench.answer(&moved).unwrap(), format!("-MOVED 15495 {OTHER_DOOR}"));
}

#[test]
fn shard_channels_are_served_by_the_whole_shard() {
    let mut bench = Bench::behind_a_master();
    // As redis-server 7.0, without READONLY.
    let said = bench.answer(&format!("SSUBSCRIBE {LOW}")).unwrap();
    assert_eq!(said, format!("*3 $10 ssubscribe $1 {LOW} :1"));
    let said = bench.answer(&format!("SUNSUBSCRIBE {LOW}")).unwrap();
    assert_eq!(said, format!("*3 $12 sunsubscribe $1 {LOW} :0"));
    let moved = format!("-MOVED 3300 {OTHER_DOOR}");
    for command in [format!("SPUBLISH {LOW} x"), format!("GET {LOW}")] {
        assert_eq!(bench.answer(&command), Ok(moved.clone()), "{command}");
    }
    let mut bench = Bench::beside_another_master();
    let moved = format!("-MOVED 15495 {OTHER_DOOR}");
    assert_eq!(bench.answer(&format!("SSUBSCRIBE {HIGH}")), Ok(moved));
}

/// A slot may hold any number of keys, and any client may ask for them.
#[test]
fn keys_of_a_slot_are_read_elsewhere_where_they_are_many() {
    let mut bench = Bench::beside_another_master();
    let keys: Vec<String> = (0..40).map(|number| format!("{{{LOW}}}{number:02}")).collect();
    let sets: Vec<String> = keys.iter().map(|key| format!("SET {key} v")).collect();
    bench.pipeline(&sets.iter().map(String::as_str).collect::<Vec<_>>());
    let all = keys.iter().map(|key| format!(" $5 {key}")).collect::<String>();
    for (steps, reads) in [(20_000, 0_u64), (5, 2)] {
        let config = format!("CONFIG SET long-read-steps {steps}");
        assert_eq!(bench.pipeline(&[&config]), "+OK");
        let before = bench.node.long_reads.count();
        assert_eq!(bench.pipeline(&["CLUSTER COUNTKEYSINSLOT 3300"]), ":40");
        assert_eq!(bench.pipeline(&["CLUSTER GETKEYSINSLOT 3300 100"]), format!("*40{all}"));
        assert_eq!(
            bench.pipeline(&["CLUSTER GETKEYSINSLOT 3300 2"]),
            format!("*2 $5 {} $5 {}", keys[0], keys[1])
        );
        assert!(bench.node.long_reads.count() - before >= reads, "{steps}");
    }
    for wrong in ["CLUSTER COUNTKEYSINSLOT 16384", "CLUSTER GETKEYSINSLOT -1 1"] {
        assert_eq!(bench.pipeline(&[wrong]), "-ERR Invalid slot");
    }
}

/// A topology that came behind the gates has ended the subscriptions that it found.
#[test]
fn a_shard_subscription_that_comes_too_late_is_ended_at_once() {
    let mut bench = Bench::beside_another_master();
    let words = [&b"SSUBSCRIBE"[..], LOW.as_bytes(), HIGH.as_bytes()];
    let (_, command) = table::find(&Renames::default(), &words).unwrap();
    let Handler::Session(handler) = command.handler else { panic!("{command:?}") };
    let config = bench.node.config.now();
    let mut cx = SessionCx {
        node: &bench.node,
        session: &mut bench.session,
        config: &config,
        exec: None,
        began_us: None,
        now_ms: 1,
    };
    let mut out = Vec::new();
    let reply = Reply::new(resp::Writer::new(&mut out, resp::Protocol::V2));
    handler(&mut cx, &mut Args::behind(command.names, &words), reply).unwrap();
    bench.session.client.inbox.take(&mut out);
    let said = String::from_utf8(out).unwrap().replace("\r\n", " ");
    let begun = format!("*3 $10 ssubscribe $1 {LOW} :1 *3 $10 ssubscribe $1 {HIGH} :2 ");
    assert_eq!(said, format!("{begun}*3 $12 sunsubscribe $1 {HIGH} :1 "));
    assert_eq!(bench.node.pubsub.names(true, None), [LOW.as_bytes().to_vec()]);
}
