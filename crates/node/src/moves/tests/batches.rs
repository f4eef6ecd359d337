//! What another master's migration brings to nodes of a cluster: the slots of the records of
//! APPLYBATCH are as those of a command's keys, a link that another one has taken over from brings
//! nothing more, and an import that a demotion ends leaves compactions as they were.

use storage::batch::Writer;

use super::*;

/// A batch that puts the metadata of a key.
fn batch(node: &Running, key: &str) -> Vec<u8> {
    let scope = node.node.scope(0);
    let mut writer = Writer::new(Vec::new());
    writer.put(Family::Metadata, &[&scope.ns_key(key.as_bytes())], &[b"\x01\0\0\0\0\0\0\0\0v"]);
    writer.finish().clone()
}

fn apply(stream: &mut TcpStream, batch: &[u8]) -> String {
    stream.write_all(&wire::request(&[b"APPLYBATCH", batch])).unwrap();
    answer(stream)
}

#[test]
fn nothing_is_applied_to_slots_that_are_staged() {
    let mut cluster = Cluster::new();
    let tag = tags(1).remove(0);
    fill(&mut Client::new(&cluster), std::slice::from_ref(&tag));
    cluster.copy();
    let foreign = batch(cluster.d.node(), &format!("{{{tag}}}foreign"));
    let mut stream = cluster.d.node().connect();
    let said = apply(&mut stream, &foreign);
    assert!(said.starts_with("-MOVED "), "{said}");
    // Also once the topology gives them, as long as they are not opened.
    cluster.version = 2;
    cluster.push();
    let said = apply(&mut stream, &foreign);
    assert!(said.starts_with("-CLUSTERDOWN Hash slot not served: by move 1"), "{said}");
    assert_eq!(cluster.s.records(), cluster.d.records());
    let tag = (0..).map(|number| format!("u{number}"));
    let mut tag = tag.filter(|tag| topology::key_slot(tag.as_bytes()).number() > 8191);
    let own = batch(cluster.d.node(), &tag.next().unwrap());
    assert_eq!(apply(&mut stream, &own), format!(":{}", own.len()));
}

/// Kvrocks' migration, without a controller: the giver has given the first connection up.
#[test]
fn a_link_that_another_one_has_taken_over_from_applies_nothing() {
    let node = Running::start_with(|values| values.cluster_enabled = true);
    let (id, other) = ("a".repeat(40), "b".repeat(40));
    let topology = format!(
        "{id} 127.0.0.1 {} master - 0-8191\n{other} 127.0.0.1 1 master - 8192-16383",
        node.port
    );
    assert_eq!(node.ask(&["CLUSTERX", "SETNODEID", &id]), "+OK");
    assert_eq!(node.ask(&["CLUSTERX", "SETNODES", &topology, "1"]), "+OK");
    let key = (0..).map(|number| format!("u{number}"));
    let mut key = key.filter(|key| topology::key_slot(key.as_bytes()).number() > 8191);
    let (comes, stays) = (key.next().unwrap(), key.next().unwrap());
    let slot = topology::key_slot(comes.as_bytes()).number().to_string();
    assert_ne!(topology::key_slot(stays.as_bytes()).number().to_string(), slot);
    let batch = |key: &str| batch(&node, key);
    let import = || {
        let mut stream = node.connect();
        let words: [&[u8]; 4] = [b"CLUSTER", b"IMPORT", slot.as_bytes(), b"0"];
        stream.write_all(&wire::request(&words)).unwrap();
        assert_eq!(answer(&mut stream), "+OK");
        stream
    };
    let mut first = import();
    let bytes = batch(&comes);
    assert_eq!(apply(&mut first, &bytes), format!(":{}", bytes.len()));
    let mut second = import();
    let said = apply(&mut first, &bytes);
    assert!(said.starts_with("-ERR the slots that this connection brought"), "{said}");
    let said = apply(&mut second, &batch(&stays));
    assert!(said.starts_with("-MOVED "), "of other slots: {said}");
    assert_eq!(apply(&mut second, &bytes), format!(":{}", bytes.len()));
}

/// What comes is not judged by compactions, in whatever order its records arrive; nor was it ever
/// again where the import ended at a replica.
#[test]
fn an_import_that_a_demotion_ends_keeps_nothing_from_being_compacted_away() {
    let node = Running::start_with(|values| {
        values.cluster_enabled = true;
        values.peer_auth = "secret".into();
    });
    let (id, other) = ("a".repeat(40), "b".repeat(40));
    // As a controller: connections of others end with a demotion.
    let set = |mine: &str, theirs: &str, version: &str| {
        let line = format!("{id} 127.0.0.1 {} {mine}\n{other} 127.0.0.1 1 {theirs}", node.port);
        let mut peer = node.connect();
        for words in [&["AUTH", "secret"][..], &["CLUSTERX", "SETNODES", &line, version]] {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            peer.write_all(&wire::request(&words)).unwrap();
            assert_eq!(answer(&mut peer), "+OK");
        }
    };
    assert_eq!(node.ask(&["CLUSTERX", "SETNODEID", &id]), "+OK");
    set("master - 0-8191", "master - 8192-16383", "1");
    let key = (0..).map(|number| format!("u{number}"));
    let mut key = key.filter(|key| topology::key_slot(key.as_bytes()).number() > 8191);
    let key = key.next().unwrap();
    let slot = topology::key_slot(key.as_bytes()).number().to_string();
    let mut link = node.connect();
    let hash: Vec<&[u8]> = vec![b"HSET", key.as_bytes(), b"a", b"1", b"b", b"2"];
    let import: Vec<&[u8]> = vec![b"CLUSTER", b"IMPORT", slot.as_bytes(), b"0"];
    for (words, expected) in [(import, "+OK"), (hash, ":2")] {
        link.write_all(&wire::request(&words)).unwrap();
        assert_eq!(answer(&mut link), expected);
    }
    set(&format!("slave {other}"), "master - 0-16383", "2");
    drop(link);
    wait_until(|| match node.node.migration.is_taking() {
        true => Err("it still comes".into()),
        false => Ok(()),
    });
    let engine = node.node.engine();
    let store = engine.store.as_ref().unwrap();
    let count = || {
        let mut cursor = store.scan(Family::Default, b"", b"", Direction::Forward).unwrap();
        let mut found = 0;
        while cursor.next().unwrap().is_some() {
            found += 1;
        }
        found
    };
    assert_eq!(count(), 2);
    let scope = node.node.scope(0);
    let mut txn = store.txn();
    txn.delete(Family::Metadata, &scope.ns_key(key.as_bytes()));
    txn.commit().unwrap();
    // The end of the import has a thread of its own; what is written after it counts.
    wait_until(|| {
        let mut txn = store.txn();
        txn.put(Family::Metadata, &scope.ns_key(b"other"), b"\x01\0\0\0\0\0\0\0\0v");
        txn.commit().unwrap();
        store.publish().unwrap();
        store.flush().unwrap();
        store.compact(b"", b"").unwrap();
        if count() == 0 { Ok(()) } else { Err(format!("{} are left", count())) }
    });
}
