//! Entry points for foreign bytes: descriptions, `nodes.conf`, lists of slots.

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

use topology::description::Form;
use topology::persist::NodesConf;
use topology::{ClusterId, Topology, key_slot, parse_slots};

const NODES: &[u8] = b"ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa 10.190.28.10 7115 master - 0-5460 5462
qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg 2001:db8::1 7133 master - 5463-10921 192.168.0.2 1222
fuCHh8Ru9tFSY313QPfBcPQ3QeP63Z4rWpqpyaOl host 7255 slave ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa 192.168.0.1 1234 tls=7256,1235
cIqdj5C37cMrr7r7ydZDZ8zm1T1vPLMWj8516rrF host 6741 slave,fail qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg";

fn descriptions(bytes: &[u8]) {
    if let Ok(topology) = Topology::parse(bytes, 5) {
        topology.hash();
        topology.warnings();
        topology.render();
        let plain = Topology::parse(topology.to_bytes_in(Form::Plain), 5).expect("a topology");
        assert_eq!((plain.hash(), plain.has_tls_ports()), (topology.hash_in(Form::Plain), false));
        assert_eq!(Topology::parse(topology.to_bytes(), 5), Ok(topology));
    }
}

fn files(bytes: &[u8]) {
    if let Ok(conf) = NodesConf::parse(bytes) {
        assert_eq!(NodesConf::parse(&conf.to_bytes()), Ok(conf));
    }
}

fn words(bytes: &[u8]) {
    key_slot(bytes);
    let _ = parse_slots(bytes);
    let id = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<ClusterId>().ok());
    if let Some(id) = id {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

#[test]
fn any_description() {
    fuzz::run(descriptions, &[NODES]);
}

#[test]
fn any_nodes_conf() {
    let mut conf = b"version 5\nid ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa\n\
        # holdfast-mastered-at 4\n# holdfast-cluster 00000000000000aa\n\
        # holdfast-tls 6742,0 cIqdj5C37cMrr7r7ydZDZ8zm1T1vPLMWj8516rrF\n"
        .to_vec();
    for line in NODES.split(|byte| *byte == b'\n') {
        conf.extend([b"node ", line, b"\n"].concat());
    }
    let quoted = b"version -1\nid \"ZrFserb4Mqi5dbyCLC\\x4dUm9zFXMNPhzKE4RbFauJa\" # why\n\n";
    fuzz::run(files, &[&conf, quoted]);
}

#[test]
fn any_list_of_slots() {
    fuzz::run(words, &[b"1 5-7 5-5 16383", b"a{bc}d", b"00000000000000aa"]);
}
