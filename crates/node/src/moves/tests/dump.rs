//! A dump file that is loaded while slots are handed over.

use super::*;

/// A string, as a dump file holds it.
fn string(key: &str) -> Vec<u8> {
    let length = u8::try_from(key.len()).unwrap();
    assert!(length < 64, "a length of one byte");
    [&[0, length][..], key.as_bytes(), b"\x01x"].concat()
}

#[test]
fn a_load_goes_on_beside_a_freeze_and_waits_for_slots_that_are_frozen() {
    let mut cluster = Cluster::new();
    let moving = format!("{{{}}}dumped", tags(1).remove(0));
    let mut file = b"REDIS0010\xfe\x00".to_vec();
    for key in ["{c}first", moving.as_str(), "{c}last"] {
        file.extend(string(key));
    }
    file.extend(b"\xff\0\0\0\0\0\0\0\0");
    std::fs::write(cluster.s.node().node.path("dump.rdb"), file).unwrap();
    cluster.copy();
    let at = cluster.freeze(1);
    let mut client = cluster.s.node().connect();
    let load: [&[u8]; 3] = [b"RDB", b"LOAD", b"dump.rdb"];
    client.write_all(&wire::request(&load)).unwrap();
    wait_until(|| match cluster.s.ask(&["GET", "{c}first"]) {
        value if value == "x" => Ok(()),
        other => Err(other),
    });
    assert_eq!(cluster.s.ask(&["EXISTS", "{c}last"]), ":0", "it waits for the key before it");
    cluster.own(at);
    assert_eq!(answer(&mut client), "+OK");
    assert_eq!(cluster.s.ask(&["GET", "{c}last"]), "x");
    assert_eq!(cluster.d.ask(&["EXISTS", &moving]), ":0", "it was another's by then");
}
