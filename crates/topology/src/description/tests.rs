use std::num::NonZeroU16;

use expect_test::expect;
use proptest::prelude::*;

use super::*;

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// The canonical text of what was understood, or the error.
fn understood(text: &str) -> String {
    match Topology::parse(text, 1) {
        Ok(topology) => topology.render(),
        Err(error) => error.to_string(),
    }
}

/// One line: what follows the port, and the canonical form of that or the error.
fn check_tail(tail: &str, expected: &str) {
    let head = format!("{ID} 10.0.0.1 7237 ");
    let got = understood(&format!("{head}{tail}"));
    assert_eq!(got.strip_prefix(&head).unwrap_or(&got), expected, "{tail:?}");
}

#[test]
fn announced_vectors() {
    let slave = format!("slave {OTHER}");
    let info = "Invalid cluster nodes info";
    let range = "Slot is out of range";
    let newline = "Invalid nodes definition: Missing newline between node entries.";
    for (tail, expected) in [
        ("master - 0-100", "master - 0-100"),
        ("master - 0-100 192.168.0.2 1222", "master - 0-100 192.168.0.2 1222"),
        ("master - 192.168.0.2 1222", "master - 192.168.0.2 1222"),
        ("master - 1222", "master - 1222"),
        ("master - 5 1222", "master - 5 1222"),
        ("master - 0-100 1222", "master - 0-100 1222"),
        ("master - lb1 6379", "master - lb1 6379"),
        ("master - 0-100 ::1 6379", "master - 0-100 ::1 6379"),
        ("master - 0-100 [2001:db8::1] 6379", "master - 0-100 2001:db8::1 6379"),
        ("master - 0-100 - -", "master - 0-100"),
        ("master - - -", "master -"),
        ("master -", "master -"),
        ("master - 0-100 192.168.0.2", range),
        ("master - 0-100 192.168.0.2 70000", "Invalid cluster node lb port"),
        ("master - 0-100 192.168.0.2 0", "Invalid cluster node lb port"),
        ("master - 0-100 192.168.0.2 +1", "Invalid cluster node lb port"),
        ("master - 0-100 192.168.0.2 -", "Invalid cluster node lb host"),
        ("master - 0-100 - 1222", "Invalid cluster node lb host"),
        ("master - 0-100 fe80::1%eth0 1222", "Invalid cluster node lb host"),
        ("master - 192.168.0.2 1222 0-100", range),
        ("master - lb1", range),
        ("master - 0-100 x lb1 6379", range),
        (&slave, &slave),
        (&format!("{slave} 192.168.0.2 1222"), &format!("{slave} 192.168.0.2 1222")),
        (&format!("{slave} - -"), &slave),
        (&format!("{slave} 192.168.0.2"), info),
        (&format!("{slave} 192.168.0.2 1222 7"), info),
        (&format!("{slave} 1 2"), info),
        (&format!("{slave} lb1 -"), "Invalid cluster node lb host"),
        (&format!("{slave} - 7"), "Invalid cluster node lb host"),
        (&format!("{slave} lb1 65536"), "Invalid cluster node lb port"),
        (&format!("master - 0-100 {OTHER} 10.0.0.2 6379 slave {ID}"), newline),
        (&format!("master - {OTHER} 6379"), newline),
        (&format!("master - 0-100 10.0.0.2 {OTHER}"), newline),
        (&format!("{slave} {ID} 6379"), newline),
    ] {
        check_tail(tail, expected);
    }
}

#[test]
fn ports_of_tls_stand_last() {
    let (slave, tls) = (format!("slave {OTHER}"), "Invalid cluster node tls ports");
    for (tail, expected) in [
        ("master - 0-100 lb1 6379 tls=7238,6380", "master - 0-100 lb1 6379 tls=7238,6380"),
        ("master - 0-100 lb1 6379 tls=0,6380", "master - 0-100 lb1 6379 tls=0,6380"),
        ("master - 0-100 tls=7238,0", "master - 0-100 tls=7238,0"),
        ("master - tls=7238,0", "master - tls=7238,0"),
        ("master - - - tls=7238,0", "master - tls=7238,0"),
        // None is none.
        ("master - 5 tls=0,0", "master - 5"),
        (&format!("{slave} tls=07238,0"), &format!("{slave} tls=7238,0")),
        (&format!("{slave} lb1 6379 tls=0,6380"), &format!("{slave} lb1 6379 tls=0,6380")),
        ("master - 0-100 tls=0,6380", tls),
        ("master - 0-100 lb1 6379 tls=0,6379", tls),
        ("master - 0-100 tls=7237,0", tls),
        ("master - 0-100 tls=7238", tls),
        ("master - 0-100 tls=65536,0", tls),
        ("master - 0-100 tls=", tls),
        (&format!("{slave} tls=x,1"), tls),
        ("master - tls=7238,0 0-100", "Invalid cluster node lb host"),
        ("master - 0-100 TLS=7238,0", "Slot is out of range"),
        (&format!("{slave} tls=1,0 tls=2,0"), "Invalid cluster nodes info"),
    ] {
        check_tail(tail, expected);
    }
}

#[test]
fn the_plain_form_is_what_there_was_before_ports_of_tls() {
    let text = format!("{ID} h 1 master - 0-5 lb1 7 tls=11,8\n{OTHER} h 2 slave {ID} tls=12,0");
    let topology = Topology::parse(&text, 1).unwrap();
    let plain = format!("{ID} h 1 master - 0-5 lb1 7\n{OTHER} h 2 slave {ID}");
    assert_eq!(topology.render(), text);
    assert_eq!(topology.render_in(Form::Plain), plain);
    let without = Topology::parse(&plain, 1).unwrap();
    assert!(topology.has_tls_ports() && !without.has_tls_ports());
    assert_ne!(topology.hash(), without.hash());
    // What a node computes that was sent the plain one.
    assert_eq!(topology.hash_in(Form::Plain), without.hash());
    assert_eq!(without.hash_in(Form::Plain), without.hash());
}

#[test]
fn addresses_of_tls_are_addresses() {
    let masters = |first: &str, second: &str| {
        understood(&format!("{ID} h 1 master - 0 {first}\n{OTHER} h 2 master - 1 {second}"))
    };
    assert_eq!(masters("lb1 7 tls=0,8", "lb1 8"), "Duplicated LB address");
    assert_eq!(masters("lb1 7 tls=0,8", "LB1 9 tls=0,8"), "Duplicated LB address");
    assert!(masters("lb1 7 tls=0,8", "lb2 8").starts_with(ID));
    let warnings = |first: &str, second: &str| {
        let text = format!("{ID} h 1 master - 0 {first}\n{OTHER} h 2 slave {ID} {second}");
        let warnings = Topology::parse(text, 1).unwrap().warnings();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(warnings("lb1 7 tls=0,8", "lb1 9 tls=0,8").ends_with("are both at lb1:8 for clients"));
    assert!(warnings("tls=5,0", "h 5").ends_with("are both at h:5 for clients"));
    assert_eq!(warnings("lb1 7 tls=5,8", "lb1 9 tls=6,10"), "");
}

#[test]
fn ports_of_tls_are_put_beside_the_addresses_they_fit() {
    let topology = Topology::parse(format!("{ID} h 1 master - 0 lb1 7\n{OTHER} h 2 slave {ID}"), 1);
    let topology = topology.unwrap();
    let id = |text: &str| NodeId::new(text.as_bytes()).unwrap();
    let with = |node: &str, ports: &str| {
        let ports = [(id(node), TlsPorts::parse(ports.as_bytes()).unwrap())];
        topology.clone().with_tls_ports(&ports).map(|topology| topology.render())
    };
    let line = format!("{ID} h 1 master - 0 lb1 7 tls=11,8\n{OTHER} h 2 slave {ID}");
    assert_eq!(with(ID, "11,8"), Ok(line));
    assert_eq!(with(OTHER, "0,8"), Err(ParseError::TlsPorts));
    // Of a node that is gone.
    assert_eq!(with(&"c".repeat(40), "1,2"), Ok(topology.render()));
}

#[test]
fn recorded_lines() {
    let (info, id, port) =
        ("Invalid cluster nodes info", "Invalid cluster node id", "Invalid cluster node port");
    for (text, expected) in [
        (format!("{ID} 10.0.0.1 6666 master"), info),
        (format!("{ID} 10.0.0.1 6666"), info),
        ("abc 10.0.0.1 6666 master -".to_owned(), id),
        (format!("{ID} 10.0.0.1 abc master -"), port),
        (format!("{ID} 10.0.0.1 70000 master -"), port),
        (format!("{ID} 10.0.0.1 -1 master -"), port),
        (format!("{ID} 10.0.0.1 6666 leader -"), "Invalid cluster node role"),
        (format!("{ID} 10.0.0.1 6666 master {OTHER} 0-1"), id),
        (format!("{ID} 10.0.0.1 6666 slave -"), id),
        (format!("{ID} 10.0.0.1 6666 slave abc"), id),
        (format!("{ID} 10.0.0.1 6666 slave {OTHER} 1"), info),
        (format!("{ID} 10.0.0.1:6666@16666 master - 0-1"), port),
        (format!("{ID}\t10.0.0.1\t6666\tmaster\t-"), info),
        (format!("{ID} 10.0.0.1 6666 master -\r\n"), id),
        ("\n".to_owned(), info),
        ("   ".to_owned(), info),
        (String::new(), info),
    ] {
        assert_eq!(understood(&text), expected, "{text:?}");
    }
    for (tail, expected) in [
        ("master - 16384", "Slot is out of range"),
        ("master - -1", "master - 1"),
        ("master - 5-5", "Slot is out of range"),
        ("master - 9-5", "Slot is out of range"),
        ("master - 0-16384", "Slot is out of range"),
        ("master - abc", "Slot is out of range"),
        ("master - 1-2-3", "Slot is out of range"),
        ("master - 1 1", "Slot distribution is overlapped"),
        ("master - 1-5 3", "Slot distribution is overlapped"),
        ("MASTER - 1", "master - 1"),
        (&format!("Replica {OTHER}"), &format!("slave {OTHER}")),
        (&format!("slave,fail {OTHER}"), &format!("slave,fail {OTHER}")),
        ("master,fail -", "Invalid cluster node role"),
    ] {
        check_tail(tail, expected);
    }
    assert_eq!(
        understood(&format!("{ID} h 1 master - 1-5\n{OTHER} h 2 master - 5")),
        "Slot distribution is overlapped"
    );
}

#[test]
fn spaces_and_lines() {
    let text = format!("  {ID}  h 1 master -  0-5  \n \n\n{OTHER} [::1] 2 slave {ID}   \n");
    expect![[r#"
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa h 1 master - 0-5
        bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb ::1 2 slave aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"#]]
    .assert_eq(&understood(&text.replace(" \n \n", "\n\n")));
    // A line of spaces only is a line without fields, as in Kvrocks.
    assert_eq!(understood(" \n"), "Invalid cluster nodes info");
}

/// Six nodes, two of them announced; spaces around the newlines included.
pub(crate) const EXAMPLE: &str = "ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa 10.190.28.10 7115 master - 0-5460 \n qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg 10.190.28.10 7133 master - 5461-10921 \n 9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs 10.190.28.10 7237 master - 10922-16383 192.168.0.2 1222\n fuCHh8Ru9tFSY313QPfBcPQ3QeP63Z4rWpqpyaOl 10.190.28.10 7255 slave ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa \n cIqdj5C37cMrr7r7ydZDZ8zm1T1vPLMWj8516rrF 10.190.28.10 6741 slave qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg \n 3D8JRN8YVONqRU57jP99E3JdH2QnLHzZpFN4rcQQ 10.190.28.10 6765 slave 9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs 192.168.0.1 1234";

#[test]
fn a_topology_with_announced_endpoints() {
    let topology = Topology::parse(EXAMPLE, 1_754_120_940).unwrap();
    expect![[r#"
        ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa 10.190.28.10 7115 master - 0-5460
        qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg 10.190.28.10 7133 master - 5461-10921
        9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs 10.190.28.10 7237 master - 10922-16383 192.168.0.2 1222
        fuCHh8Ru9tFSY313QPfBcPQ3QeP63Z4rWpqpyaOl 10.190.28.10 7255 slave ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa
        cIqdj5C37cMrr7r7ydZDZ8zm1T1vPLMWj8516rrF 10.190.28.10 6741 slave qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg
        3D8JRN8YVONqRU57jP99E3JdH2QnLHzZpFN4rcQQ 10.190.28.10 6765 slave 9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs 192.168.0.1 1234"#]]
    .assert_eq(&topology.render());
    assert_eq!(
        (topology.version, topology.size(), topology.assigned_slots()),
        (1_754_120_940, 3, 16384)
    );
    assert_eq!(topology.warnings(), []);
}

#[test]
fn last_line_of_an_id_wins() {
    let text = format!("{ID} h 1 master - 0-5\n{OTHER} h 2 master - 6\n{ID} h 3 master - 7");
    expect![[r#"
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa h 3 master - 7
        bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb h 2 master - 6"#]]
    .assert_eq(&understood(&text));
}

#[test]
fn equal_announced_endpoints() {
    let masters = format!("{ID} h 1 master - 0 LB1 7\n{OTHER} h 2 master - 1 lb1 7");
    assert_eq!(understood(&masters), "Duplicated LB address");
    let spelled = format!("{ID} h 1 master - 0 ::1 7\n{OTHER} h 2 master - 1 0::1 7");
    assert_eq!(understood(&spelled), "Duplicated LB address");
    let other_port = format!("{ID} h 1 master - 0 lb1 7\n{OTHER} h 2 master - 1 lb1 8");
    assert_eq!(Topology::parse(&other_port, 1).unwrap().warnings(), []);
    let pair = format!("{ID} h 1 master - 0 lb1 7\n{OTHER} h 2 slave {ID} lb1 7");
    let warnings = Topology::parse(&pair, 1).unwrap().warnings();
    expect!["nodes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa and bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb are both at lb1:7 for clients"]
        .assert_eq(&warnings[0].to_string());
    // The address of another node, announced or not; its own is no mistake.
    for (first, second, count) in
        [("", "h 1", 1), ("lb1 7", "h 1", 1), ("lb1 7", "H 1", 1), ("", "h 2", 0)]
    {
        let text = format!("{ID} h 1 master - 0 {first}\n{OTHER} h 2 slave {ID} {second}");
        let warnings = Topology::parse(&text, 1).unwrap().warnings();
        assert_eq!(warnings.len(), count, "{text}: {warnings:?}");
    }
}

#[test]
fn hash_ignores_order_and_version() {
    let (a, b) = (format!("{ID} h 1 master - 0"), format!("{OTHER} h 2 master - 1 lb1 7"));
    let hash = |text: &str, version| Topology::parse(text, version).unwrap().hash();
    assert_eq!(hash(&format!("{a}\n{b}"), 1), hash(&format!("{b}\n{a}"), 2));
    assert_ne!(hash(&format!("{a}\n{b}"), 1), hash(&format!("{a}\n{b}").replace("lb1", "lb2"), 1));
    // Written down, because nodes and controllers of different builds compare it.
    expect!["db816a86526d183d"].assert_eq(&hash(&format!("{a}\n{b}"), 1));
    assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
}

#[test]
fn ids_and_hosts_need_not_be_ascii() {
    let mut text = vec![0xFF; 40];
    text.extend_from_slice("  h\u{f6}st 1 master - 3".as_bytes());
    let topology = Topology::parse(&text, 1).unwrap();
    assert_eq!(topology.nodes[0].id.as_bytes(), [0xFF; 40]);
    assert_eq!(Topology::parse(topology.to_bytes(), 1), Ok(topology));
    let host =
        |host: &[u8]| Topology::parse([ID.as_bytes(), b" ", host, b" 1 master -"].concat(), 1);
    assert_eq!(host(b"\xff").unwrap_err(), ParseError::NodesInfo);
    assert_eq!(host(b"a\rb").unwrap_err(), ParseError::NodesInfo);
}

#[test]
fn node_count_is_bounded() {
    let text: String = (0..=NODES_MAX).map(|i| format!("{i:040} h 1 master -\n")).collect();
    assert_eq!(understood(&text), "Invalid cluster nodes info");
}

fn host() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        "[a-z][a-z0-9.-]{0,20}",
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string()),
    ]
    .prop_filter("40 bytes is an id", |host| host.len() != 40)
}

/// Any topology a description can express: slots dealt out at random, ids of any bytes but
/// separators.
pub(crate) fn topologies() -> impl Strategy<Value = Topology> {
    let id = prop::array::uniform32(any::<u8>()).prop_map(|bytes| {
        let bytes = bytes.map(|byte| if byte == b' ' || byte == b'\n' { b'_' } else { byte });
        let mut id = [b'x'; 40];
        id[..32].copy_from_slice(&bytes);
        NodeId::new(&id).unwrap()
    });
    let endpoint = (host(), 1..=u16::MAX).prop_map(|(host, port)| Endpoint { host, port });
    let node = (
        id.clone(),
        endpoint.clone(),
        prop::option::of(endpoint),
        (any::<u16>(), any::<u16>()),
        prop::option::of(id),
        any::<bool>(),
    );
    let nodes = prop::collection::vec(node, 1..6);
    (nodes, 0..=i64::MAX, prop::collection::vec((0..SLOTS, 1..200u16, 0..6usize), 0..12))
        .prop_map(|(nodes, version, runs)| {
            let mut nodes: Vec<Node> = nodes
                .into_iter()
                .map(|(id, local, announced, ports, master, failed)| Node {
                    id,
                    tls: fitting_ports(ports, &local, announced.as_ref()),
                    local,
                    announced,
                    failed: failed && master.is_some(),
                    role: master.map_or(Role::Master, |of| Role::Replica { of }),
                    slots: SlotSet::default(),
                })
                .collect();
            let mut taken = SlotSet::default();
            for (start, length, owner) in runs {
                let owner = owner % nodes.len();
                if !nodes[owner].is_master() {
                    continue;
                }
                for slot in (start..start.saturating_add(length)).filter_map(Slot::new) {
                    if taken.insert(slot) {
                        nodes[owner].slots.insert(slot);
                    }
                }
            }
            Topology { version, nodes }
        })
        .prop_filter("two masters with one address", |topology| topology.check_announced().is_ok())
}

/// These, as far as they fit; about every second node has none of a kind.
fn fitting_ports(
    (local_tls, announced_tls): (u16, u16),
    local: &Endpoint,
    announced: Option<&Endpoint>,
) -> TlsPorts {
    let other = |port: u16, than: u16| {
        NonZeroU16::new(port).filter(|port| port.get() % 2 == 0 && port.get() != than)
    };
    TlsPorts {
        local: other(local_tls, local.port),
        announced: announced.and_then(|endpoint| other(announced_tls, endpoint.port)),
    }
}

const SLOTS: u16 = crate::model::SLOT_COUNT;

proptest! {
    #[test]
    fn text_round_trip(topology in topologies()) {
        let text = topology.to_bytes();
        let parsed = Topology::parse(&text, topology.version).unwrap();
        prop_assert_eq!(&parsed, &topology);
        prop_assert_eq!(parsed.hash(), topology.hash());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Topology::parse(&bytes, 1);
        let _ = crate::slots_arg::parse_slots(&bytes);
        let _ = crate::persist::NodesConf::parse(&bytes);
    }

    /// Words that the grammar knows, in any order: what is understood is understood again.
    #[test]
    fn any_words(words in prop::collection::vec(prop_oneof![
        Just(ID), Just(OTHER), Just("-"), Just("master"), Just("slave"), Just("1"), Just("0-5"), Just("7-9"),
        Just("-1"), Just("lb1"), Just("::1"), Just("1222"), Just("\n"), Just("70000"), Just("[::1]"),
        Just("tls=9,0"), Just("tls=9,10"),
    ], 0..12)) {
        let tail = words.join(" ");
        for text in [format!("{ID} h 1 master - {tail}"), format!("{ID} h 1 slave {OTHER} {tail}")] {
            if let Ok(topology) = Topology::parse(&text, 1) {
                prop_assert_eq!(Topology::parse(topology.to_bytes(), 1), Ok(topology));
            }
        }
    }
}
