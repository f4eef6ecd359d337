use expect_test::{Expect, expect};

use super::*;
use crate::{description::tests::EXAMPLE, model::Reach};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "cccccccccccccccccccccccccccccccccccccccc";
const D: &str = "dddddddddddddddddddddddddddddddddddddddd";

/// Behind balancers, in clear.
const BALANCED: Asker = Asker { reach: Reach::Announced, is_tls: false };

fn example() -> Topology {
    Topology::parse(EXAMPLE, 7).unwrap()
}

fn id(text: &str) -> NodeId {
    NodeId::new(text.as_bytes()).unwrap()
}

fn check(text: &[u8], expected: &Expect) {
    expected.assert_eq(&String::from_utf8_lossy(text).replace('\r', "<cr>"));
}

#[test]
fn nodes_with_announced_endpoints() {
    let myself = Some(id("9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs"));
    check(
        &nodes_text(&example(), myself, Asker::default(), 1000, &Jobs::default()),
        &expect![[r#"
        ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa 10.190.28.10:7115@17115 master - 999 1000 7 connected 0-5460
        qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg 10.190.28.10:7133@17133 master - 999 1000 7 connected 5461-10921
        9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs 192.168.0.2:1222@11222 myself,master - 999 1000 7 connected 10922-16383
        fuCHh8Ru9tFSY313QPfBcPQ3QeP63Z4rWpqpyaOl 10.190.28.10:7255@17255 slave ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa 999 1000 7 connected
        cIqdj5C37cMrr7r7ydZDZ8zm1T1vPLMWj8516rrF 10.190.28.10:6741@16741 slave qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg 999 1000 7 connected
        3D8JRN8YVONqRU57jP99E3JdH2QnLHzZpFN4rcQQ 192.168.0.1:1234@11234 slave 9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs 999 1000 7 connected
    "#]],
    );
}

#[test]
fn odd_nodes() {
    let text =
        format!("{A} h 1 master -\n{B} h 2 slave,fail {A} 2001:db8::1 65535\n{C} h 3 slave {D}");
    let topology = Topology::parse(&text, 0).unwrap();
    check(
        &nodes_text(&topology, Some(id(B)), Asker::default(), 0, &Jobs::default()),
        &expect![[r#"
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa h:1@10001 master - 0 0 0 connected
        bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 2001:db8::1:65535@75535 myself,slave,fail aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0 0 0 connected
        cccccccccccccccccccccccccccccccccccccccc h:3@10003 slave dddddddddddddddddddddddddddddddddddddddd 0 0 0 connected
    "#]],
    );
    assert_eq!(slots(&topology, Asker::default()), []);
}

fn range(first: u16, last: u16) -> Option<SlotRange> {
    SlotRange::new(Slot::new(first)?, Slot::new(last)?)
}

#[test]
fn slot_jobs() {
    let topology =
        Topology::parse(format!("{A} h 1 master - 0-8191\n{B} h 2 master - 8192-16383"), 1)
            .unwrap();
    let mut jobs = Jobs {
        migrating: Some(Migrating { range: range(5, 6), to: id(B), state: JobState::Start }),
        importing: Some(Importing { range: range(9000, 9000), state: JobState::Start }),
    };
    check(
        &nodes_text(&topology, Some(id(A)), Asker::default(), 2, &jobs),
        &expect![[r#"
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa h:1@10001 myself,master - 1 2 1 connected 0-8191 [5-6->-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb] [9000-<-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb]
        bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb h:2@10002 master - 1 2 1 connected 8192-16383
    "#]],
    );
    check(
        &info_text(&topology, &jobs),
        &expect![[r#"
        cluster_state:ok<cr>
        cluster_slots_assigned:16384<cr>
        cluster_slots_ok:16384<cr>
        cluster_slots_pfail:0<cr>
        cluster_slots_fail:0<cr>
        cluster_known_nodes:2<cr>
        cluster_size:2<cr>
        cluster_current_epoch:1<cr>
        cluster_my_epoch:1<cr>
        migrating_slot(s): 5-6<cr>
        destination_node: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb<cr>
        migrating_state: start<cr>
        importing_slot(s): 9000<cr>
        import_state: start<cr>
    "#]],
    );
    // Jobs that are over are seen in INFO only.
    jobs.migrating.as_mut().unwrap().state = JobState::Failed;
    jobs.importing = Some(Importing { range: None, state: JobState::Failed });
    let text = nodes_text(&topology, Some(id(A)), Asker::default(), 2, &jobs);
    assert!(!String::from_utf8(text).unwrap().contains('['));
    let info = String::from_utf8(info_text(&topology, &jobs)).unwrap();
    assert!(
        info.ends_with("migrating_state: fail\r\nimporting_slot(s): -1\r\nimport_state: error\r\n")
    );
}

#[test]
fn info_as_recorded() {
    let info = String::from_utf8(info_text(&example(), &Jobs::default())).unwrap();
    assert_eq!(
        info,
        "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:6\r\ncluster_size:3\r\ncluster_current_epoch:7\r\n\
         cluster_my_epoch:7\r\n"
    );
}

#[test]
fn slots_in_order_with_announced_endpoints() {
    let text = format!(
        "{B} 10.0.0.2 2 master - 101-199 201-16383\n{C} 10.0.0.3 3 slave {A} lb3 33\n\
         {A} 10.0.0.1 1 master - 0-100 200 fd00::1 11\n{D} 10.0.0.4 4 slave {A}"
    );
    let runs: String = slots(&Topology::parse(&text, 1).unwrap(), Asker::default())
        .iter()
        .map(|run| {
            let nodes: Vec<String> = run
                .nodes
                .iter()
                .map(|node| format!("{} {} {}", node.host, node.port, node.id))
                .collect();
            format!("{} {} {}\n", run.start, run.end, nodes.join(", "))
        })
        .collect();
    expect![[r#"
        0 100 fd00::1 11 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, lb3 33 cccccccccccccccccccccccccccccccccccccccc, 10.0.0.4 4 dddddddddddddddddddddddddddddddddddddddd
        101 199 10.0.0.2 2 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
        200 200 fd00::1 11 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, lb3 33 cccccccccccccccccccccccccccccccccccccccc, 10.0.0.4 4 dddddddddddddddddddddddddddddddddddddddd
        201 16383 10.0.0.2 2 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
    "#]].assert_eq(&runs);
}

#[test]
fn replicas() {
    let topology = example();
    check(
        &replicas_text(
            &topology,
            b"9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs",
            Asker::default(),
            1000,
        )
        .unwrap(),
        &expect![[r#"
            3D8JRN8YVONqRU57jP99E3JdH2QnLHzZpFN4rcQQ 192.168.0.1:1234@11234 slave 9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs 999 1000 7 connected
        "#]],
    );
    let error = |id: &[u8]| replicas_text(&topology, id, Asker::default(), 0).unwrap_err().reply();
    assert_eq!(error(b"3D8JRN8YVONqRU57jP99E3JdH2QnLHzZpFN4rcQQ"), "ERR The node isn't a master");
    assert_eq!(error(A.as_bytes()), "ERR Invalid cluster node id");
    assert_eq!(error(b"abc"), "ERR Invalid cluster node id");
}

#[test]
fn shards_show_no_local_address_where_another_is_announced() {
    let text = format!(
        "{A} 10.0.0.1 1 master - 0-9 20 lb1 11\n{B} 10.0.0.2 2 slave,fail {A} fd00::1 12\n{C} 10.0.0.3 3 master -"
    );
    let offset = |node: &Node| if node.id == id(A) { 42 } else { 0 };
    let shards = shards(&Topology::parse(&text, 1).unwrap(), Asker::default(), offset);
    assert_eq!(shards.len(), 2);
    assert_eq!(shards[0].slots, [(0, 9), (20, 20)]);
    let node = |id, ip: &str, port, role, replication_offset, health| ShardNode {
        id,
        port,
        tls_port: None,
        ip: ip.to_owned(),
        endpoint: ip.to_owned(),
        hostname: (ip == "lb1").then(|| ip.to_owned()),
        role,
        replication_offset,
        health,
    };
    assert_eq!(
        shards[0].nodes,
        [
            node(id(A), "lb1", 11, "master", 42, "online"),
            node(id(B), "fd00::1", 12, "replica", 0, "failed")
        ]
    );
    assert_eq!(shards[1].nodes, [node(id(C), "10.0.0.3", 3, "master", 0, "online")]);
    assert!(shards[1].slots.is_empty());
}

/// The first is announced with ports for both kinds, the second with one, the third not at all.
fn with_ports_of_tls() -> Topology {
    let text = format!(
        "{A} 10.0.0.1 1 master - 0-99 lb1 11 tls=2,12\n{B} 10.0.0.2 1 slave {A} lb2 21 tls=2,0\n\
         {C} 10.0.0.3 1 slave {A} tls=2,0"
    );
    Topology::parse(&text, 3).unwrap()
}

#[test]
fn who_asks_over_tls_is_sent_where_tls_is_spoken() {
    let topology = with_ports_of_tls();
    for (is_tls, shown) in
        [(false, ["lb1:11", "lb2:21", "10.0.0.3:1"]), (true, ["lb1:12", "lb2:21", "10.0.0.3:2"])]
    {
        let asker = Asker { is_tls, ..Asker::default() };
        let text = nodes_text(&topology, Some(id(A)), asker, 0, &Jobs::default());
        let text = String::from_utf8(text).unwrap();
        for (line, shown) in text.lines().zip(shown) {
            let port: u32 = shown.rsplit_once(':').unwrap().1.parse().unwrap();
            assert!(line.contains(&format!(" {shown}@{} ", port + 10_000)), "{shown}: {text}");
        }
        let runs = slots(&topology, asker);
        let of = |node: &SlotNode| format!("{}:{}", node.host, node.port);
        assert_eq!(runs[0].nodes.iter().map(of).collect::<Vec<_>>(), shown);
        let replicas = replicas_text(&topology, A.as_bytes(), asker, 0).unwrap();
        let replicas = String::from_utf8(replicas).unwrap();
        assert!(shown[1..].iter().all(|shown| replicas.contains(&format!(" {shown}@"))));
        // As in Redis: both, whoever asks.
        let shards = shards(&topology, asker, |_| 0);
        let ports = |node: &ShardNode| (node.port, node.tls_port);
        let ports: Vec<_> = shards[0].nodes.iter().map(ports).collect();
        assert_eq!(ports, [(11, Some(12)), (21, None), (1, Some(2))]);
    }
    // What is not reached is not reached over TLS either.
    let behind = Asker { reach: Reach::Announced, is_tls: true };
    let runs = slots(&topology, behind);
    assert_eq!(runs[0].nodes.iter().map(|node| node.port).collect::<Vec<_>>(), [12, 21]);
}

#[test]
fn clusterx_nodes_parses_back() {
    let text = clusterx_nodes_text(&example());
    assert_eq!(Topology::parse(text, 7), Ok(example()));
    let text = clusterx_nodes_text(&with_ports_of_tls());
    assert_eq!(Topology::parse(text, 3), Ok(with_ports_of_tls()));
}

/// Two shards; the master of the second and the replica of the first have no announced endpoint.
fn half_announced() -> Topology {
    let text = format!(
        "{A} 10.0.0.1 1 master - 0-99 192.0.2.1 7001\n{B} 10.0.0.2 1 slave {A}\n\
         {C} 10.0.0.3 1 master - 100-199\n{D} 10.0.0.4 1 slave {C} 192.0.2.4 7004"
    );
    Topology::parse(&text, 3).unwrap()
}

#[test]
fn who_reaches_announced_endpoints_is_shown_no_other() {
    let topology = half_announced();
    let nodes = |myself: &str, reach| {
        let text = nodes_text(&topology, Some(id(myself)), reach, 0, &Jobs::default());
        String::from_utf8(text).unwrap()
    };
    check(
        nodes(A, BALANCED).as_bytes(),
        &expect![[r#"
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 192.0.2.1:7001@17001 myself,master - 0 0 3 connected 0-99
        dddddddddddddddddddddddddddddddddddddddd 192.0.2.4:7004@17004 slave cccccccccccccccccccccccccccccccccccccccc 0 0 3 connected
    "#]],
    );
    // The node that answers is there whatever it is.
    check(
        nodes(B, BALANCED).as_bytes(),
        &expect![[r#"
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 192.0.2.1:7001@17001 master - 0 0 3 connected 0-99
        bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb :0@0 myself,slave,noaddr aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0 0 3 connected
        dddddddddddddddddddddddddddddddddddddddd 192.0.2.4:7004@17004 slave cccccccccccccccccccccccccccccccccccccccc 0 0 3 connected
    "#]],
    );
    let line = "cccccccccccccccccccccccccccccccccccccccc :0@0 myself,master,noaddr - 0 0 3 connected 100-199\n";
    assert!(nodes(C, BALANCED).contains(line));
    let runs = slots(&topology, BALANCED);
    let shown: Vec<_> = runs.iter().map(|run| (run.start, run.end, run.nodes.len())).collect();
    assert_eq!(shown, [(0, 99, 1)], "nobody serves the others, as far as this client is concerned");
    let shards = shards(&topology, BALANCED, |_| 0);
    assert_eq!(shards.iter().map(|shard| shard.nodes.len()).collect::<Vec<_>>(), [1]);
    let replicas = |of: &str| replicas_text(&topology, of.as_bytes(), BALANCED, 0).unwrap();
    assert_eq!(replicas(A), b"");
    assert!(replicas(C).starts_with(D.as_bytes()));
    // No local address in anything of it, and all of them for whoever reaches nodes.
    for myself in [A, B, C, D] {
        assert!(!nodes(myself, BALANCED).contains("10.0.0."));
    }
    assert!(nodes(A, Asker::default()).contains("10.0.0.2:1@10001"));
    assert_eq!(slots(&topology, Asker::default()).len(), 2);
}

#[test]
fn the_nodes_of_a_shard_agree_on_its_least_id_whoever_is_master() {
    let shards = |first: &str, second: &str| {
        let text =
            format!("{C} h 1 {first}\n{B} h 2 {second}\n{A} h 3 master - 6-9\n{D} h 4 slave {A}");
        let topology = Topology::parse(&text, 1).unwrap();
        [A, B, C, D].map(|node| least_in_shard(&topology, id(node)))
    };
    let expected = [A, B, B, A].map(|node| Some(id(node)));
    assert_eq!(shards("master - 0-5", &format!("slave {C}")), expected);
    assert_eq!(shards(&format!("slave {B}"), "master - 0-5"), expected);
    let alone = Topology::parse(format!("{A} h 1 master - 0-5"), 1).unwrap();
    assert_eq!(least_in_shard(&alone, id(B)), None);
}
