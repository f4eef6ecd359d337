//! `CLUSTERX DISCARDED` between nodes: what is reported of exports, and what is put back where.

use std::collections::BTreeMap;

use resp::{Value, encode_command};

use super::*;
use crate::locks::Locks;

/// A node of a cluster with one shard.
fn start() -> Running {
    Running::start_with(|values| values.cluster_enabled = true)
}

fn id(index: usize) -> String {
    index.to_string().repeat(40)
}

/// Tells node `index` that the shard has these nodes, and who is master.
fn tell(node: &Running, index: usize, master: usize, ports: &[u16], version: u64) {
    let line = |(index, port): (usize, &u16)| match index == master {
        true => format!("{} 127.0.0.1 {port} master - 0-16383", id(index)),
        false => format!("{} 127.0.0.1 {port} slave {}", id(index), id(master)),
    };
    let lines: Vec<String> = ports.iter().enumerate().map(line).collect();
    assert_eq!(node.ask(&["CLUSTERX", "SETNODEID", &id(index)]), "+OK");
    let version = version.to_string();
    assert_eq!(node.ask(&["CLUSTERX", "SETNODES", &lines.join("\n"), &version]), "+OK");
}

fn master() -> Running {
    let node = start();
    tell(&node, 0, 0, &[node.port], 1);
    node
}

fn apply(node: &Running, fork: u64, rest: &[&str]) -> String {
    node.ask(&[&["CLUSTERX", "DISCARDED", "APPLY", &fork.to_string()], rest].concat())
}

/// The fork lies in what the first successor went on with; the second one never had that, wrote
/// other records there, and the node with the export has them too by now. Whether a key was written
/// since is not to be found behind the fork.
#[test]
fn what_a_history_that_was_given_up_discarded_is_not_put_back_over_what_is_newer() {
    let (a, b, c) = (start(), start(), start());
    let ports = [a.port, b.port, c.port];
    // No node listens there: a replica that is told to follow it stays where it is.
    let nowhere = [a.port, b.port, c.port, 1];
    for (index, node) in [&a, &b, &c].into_iter().enumerate() {
        tell(node, index, 0, &ports, 1);
    }
    a.open_epoch(1);
    a.ask(&["SET", "k", "first"]);
    b.await_up_with(&a);
    c.await_up_with(&a);
    tell(&c, 2, 3, &nowhere, 2);
    for _ in 0..8 {
        a.ask(&["SET", "filler", "x"]);
    }
    b.await_up_with(&a);
    tell(&b, 1, 3, &nowhere, 2);
    let fork = b.sequence();
    assert!(c.sequence() + 8 == fork);
    a.ask(&["SET", "k", "old"]);
    tell(&b, 1, 1, &ports, 3);
    b.open_epoch(2);
    tell(&a, 0, 1, &ports, 3);
    a.await_up_with(&b);
    assert_eq!(a.discarded().len(), 1);
    drop(b);

    tell(&c, 2, 2, &ports, 4);
    // It lacks epoch 2, and is given the shard all the same.
    c.grant(3);
    c.ask(&["SET", "k", "new"]);
    assert!(c.sequence() < fork, "below where a search would begin");
    for _ in 0..10 {
        c.ask(&["SET", "filler", "y"]);
    }
    tell(&a, 0, 2, &ports, 4);
    a.await_up_with(&c);
    assert_eq!(a.store().position(), c.store().position());

    // What the node's history says of the fork now is what the second successor's says: it tells
    // nothing of the export.
    let now = |node: &Running| node.store().history().at(fork).map(|entry| entry.epoch);
    assert_eq!((now(&a), now(&c)), (Some(3), Some(3)));
    // One that cannot be read does not hide the others.
    std::fs::write(a.dir.path().join(DISCARDED).join("1-1.jsonl"), "x").unwrap();
    let list = a.ask(&["CLUSTERX", "DISCARDED", "LIST"]);
    let words: Vec<&str> = list.lines().next().unwrap_or_default().split(' ').collect();
    let &[file, _, at, _, end, epoch, epoch_id] = words.as_slice() else { panic!("{list}") };
    assert_eq!((at, end), (&*fork.to_string(), &*(fork + 1).to_string()), "{list}");
    assert_eq!((epoch, epoch_id), ("1", "0000000000000001"), "{list}");
    let page = a.ask(&["CLUSTERX", "DISCARDED", "READ", file, "0", "1000"]);
    assert_eq!(page, ":-1 set k old 0");
    for mode in ["DRY", "RUN"] {
        let said = apply(&c, fork, &[epoch_id, mode, "SINCE", "SET", "k", "old", "0"]);
        assert!(said.starts_with("-GONE"), "{said}");
    }
    assert_eq!(c.ask(&["GET", "k"]), "new");
}

#[test]
fn where_no_epoch_says_what_the_fork_is_nothing_is_put_back_by_the_log() {
    let node = master();
    node.ask(&["SET", "k", "1"]);
    let fork = node.sequence();
    let change = ["RUN", "SINCE", "SET", "other", "1", "0"];
    let with = |id| [&[id], change.as_slice()].concat();
    assert!(apply(&node, fork, &with("-")).starts_with("-GONE"));
    node.open_epoch(1);
    assert!(apply(&node, fork + 1, &with("-")).starts_with("-GONE"));
    assert!(
        apply(&node, fork + 2, &with("0000000000000001")).starts_with("-GONE"),
        "not yet there"
    );
    assert_eq!(apply(&node, fork + 1, &with("0000000000000001")), "applied");
    assert_eq!(apply(&node, fork, &["-", "RUN", "ABSENT", "SET", "absent", "1", "0"]), "applied");
}

/// What nobody could read any more, or would look for here, is not written.
#[test]
fn what_is_over_or_of_another_shard_is_told_and_not_put_back() {
    let node = start();
    // `bar` is of slot 5061, `foo` of 12182.
    let nodes = format!(
        "{} 127.0.0.1 {} master - 0-8191\n{} 127.0.0.1 1 master - 8192-16383",
        id(0),
        node.port,
        id(1)
    );
    assert_eq!(node.ask(&["CLUSTERX", "SETNODEID", &id(0)]), "+OK");
    assert_eq!(node.ask(&["CLUSTERX", "SETNODES", &nodes, "1"]), "+OK");
    let before = node.sequence();
    let changes = ["SET", "bar", "1", "1", "SET", "foo", "1", "0", "DEL", "{foo}", "", "0"];
    for mode in ["DRY", "RUN"] {
        let said = apply(&node, 0, &[&["-", mode, "ABSENT"], &changes[..]].concat());
        assert_eq!(said, "expired moved moved", "{mode}");
    }
    assert_eq!((node.sequence(), node.ask(&["GET", "bar"])), (before, "nil".into()));
}

#[test]
fn more_keys_than_fit_one_request_are_refused() {
    let node = master();
    let keys: Vec<String> = (0..=16_384).map(|number| number.to_string()).collect();
    let say = |count: usize| {
        let changes = keys[..count].iter().flat_map(|key| ["DEL", key.as_str(), "", "0"]);
        let words: Vec<&str> = ["-", "DRY", "ABSENT"].into_iter().chain(changes).collect();
        apply(&node, 0, &words)
    };
    assert_eq!(say(16_385), "-ERR syntax error");
    assert!(say(16_384).split(' ').all(|word| word == "same"));
}

/// The gate is held for a few keys at a time; each of them is judged all the same.
#[test]
fn many_keys_are_put_back_and_what_changed_stays() {
    const KEYS: usize = 1000;
    let node = master();
    node.open_epoch(1);
    let fork = node.sequence();
    node.ask(&["SET", "0", "newer"]);
    node.ask(&["SET", "999", "newer"]);
    node.ask(&["SET", "500", "discarded"]);
    let names: Vec<String> = (0..KEYS).map(|number| number.to_string()).collect();
    let changes = names.iter().flat_map(|name| ["SET", name, "discarded", "0"]);
    let request = |mode| {
        let head = ["0000000000000001", mode, "SINCE"];
        head.into_iter().chain(changes.clone()).collect::<Vec<_>>()
    };
    let expected = |place| match place {
        0 | 999 => "changed",
        500 => "same",
        _ => "applied",
    };
    let expected: Vec<&str> = (0..KEYS).map(expected).collect();
    let before = node.sequence();
    {
        // A dry run does not wait for readers, and does not hold them up.
        let _reading = node.node.gate.read();
        assert_eq!(apply(&node, fork, &request("DRY")), expected.join(" "));
    }
    assert_eq!(node.sequence(), before);
    assert_eq!(apply(&node, fork, &request("RUN")), expected.join(" "));
    for (name, word) in names.iter().zip(expected) {
        let value = if word == "changed" { "newer" } else { "discarded" };
        assert_eq!(node.ask(&["GET", name]), value, "{name}");
    }
}

/// So of two exports that have the same keys the newer one is to come first.
#[test]
fn what_one_export_put_back_is_kept_from_another() {
    let node = master();
    node.ask(&["SET", "k", "1"]);
    node.open_epoch(1);
    let fork = node.sequence();
    let put_back = |value: &str| {
        apply(&node, fork, &["0000000000000001", "RUN", "SINCE", "SET", "k", value, "0"])
    };
    assert_eq!(put_back("2"), "applied");
    assert_eq!(put_back("2"), "same");
    assert_eq!(put_back("older"), "changed");
    assert_eq!(node.ask(&["GET", "k"]), "2");
}

/// It holds the locks of its keys and not the gate, and writes in the end by what it read.
#[test]
fn keys_that_a_script_holds_are_not_put_back_beside_it() {
    let node = master();
    let stripes = Locks::stripes([b"held".as_slice()].into_iter());
    let held = node.node.locks.lock(&stripes);
    let before = node.sequence();
    let change = ["-", "RUN", "ABSENT", "SET", "free", "1", "0", "SET", "held", "1", "0"];
    let said = apply(&node, 0, &change);
    assert!(said.starts_with("-TRYAGAIN a script"), "{said}");
    assert_eq!(node.sequence(), before);
    // Nobody else is held up by that.
    assert_eq!(node.ask(&["SET", "other", "1"]), "+OK");
    drop(held);
    assert_eq!(apply(&node, 0, &change), "applied applied");
}

/// What a node answers to words of any bytes.
fn say(node: &Running, words: &[Vec<u8>]) -> Value {
    let (mut stream, mut buffer, mut chunk) = (node.connect(), Vec::new(), vec![0; 1 << 16]);
    stream.write_all(&encode_command(words)).unwrap();
    loop {
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "the connection was closed");
        buffer.extend_from_slice(&chunk[..length]);
        if let Some((value, _)) = Value::parse(&buffer, 1 << 24).unwrap() {
            return value;
        }
    }
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// Whether a key had no end before, and the words of the last record of each place.
type Folded = (Vec<u8>, BTreeMap<Vec<u8>, [Vec<u8>; 3]>);

/// The words of RESTORE for each key of an export, of which each place was written in one life.
fn restoring(node: &Running, file: &str) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let request = words(&["CLUSTERX", "DISCARDED", "RECORDS", file, "0", "0", "1"]);
    let Value::Array(found) = say(node, &request) else { panic!("no records") };
    let [Value::Integer(-1), Value::Integer(skip), records @ ..] = found.as_slice() else {
        panic!("{found:?}")
    };
    let skip = usize::try_from(*skip).unwrap();
    let mut keys = BTreeMap::<Vec<u8>, Folded>::new();
    for record in records.chunks(5) {
        let record: Vec<&[u8]> = record.iter().map(|word| word.as_bytes().unwrap()).collect();
        let [what, key, place, value, endless] = record.as_slice() else { panic!("{record:?}") };
        let (first, places) = keys.entry(key[skip..].to_vec()).or_default();
        if place[0] == 1 && first.is_empty() {
            *first = endless.to_vec();
        }
        places.insert(place.to_vec(), [what.to_vec(), place.to_vec(), value.to_vec()]);
    }
    let of_key = |(key, (first, places)): (Vec<u8>, Folded)| {
        let records: Vec<Vec<u8>> = places.into_values().flatten().collect();
        let first = if first.is_empty() { b"0".to_vec() } else { first };
        (key.clone(), vec![key, first, encode_command(&records)])
    };
    keys.into_iter().map(of_key).collect()
}

/// Keys of every type, told by an export and taken by another node; a client that waits for one is
/// served.
#[test]
fn keys_of_any_type_are_put_back_and_those_who_wait_for_them_are_served() {
    let (a, b) = (start(), start());
    let (ports, nowhere) = ([a.port, b.port], [a.port, b.port, 1]);
    for (index, node) in [&a, &b].into_iter().enumerate() {
        tell(node, index, 0, &ports, 1);
    }
    a.open_epoch(1);
    a.ask(&["SADD", "s", "old"]);
    a.ask(&["HSET", "h", "f", "1"]);
    b.await_up_with(&a);
    tell(&b, 1, 2, &nowhere, 2);
    let fork = b.sequence();
    for discarded in ["SADD s new", "HSET h f 2", "RPUSH l x y", "PFADD p e", "JSON.SET j $ [1]"] {
        a.ask(&discarded.split(' ').collect::<Vec<_>>());
    }
    tell(&b, 1, 1, &ports, 3);
    b.open_epoch(2);
    assert_eq!(b.ask(&["HSET", "h", "f", "3"]), ":0");
    tell(&a, 0, 1, &ports, 3);
    a.await_up_with(&b);
    let list = a.ask(&["CLUSTERX", "DISCARDED", "LIST"]);
    let line: Vec<&str> = list.trim().split(' ').collect();
    let (file, epoch_id) = (line[0], line[6]);

    let told = a.ask(&["CLUSTERX", "DISCARDED", "READ", file, "0", "100000", "COMMANDS"]);
    let expected = ":-1 command SADD s new command HSET h f 2 command RPUSH l x command RPUSH l y";
    assert!(told.starts_with(expected), "{told}");
    assert!(told.contains("other p a hyperloglog"), "{told}");
    assert!(told.ends_with("command JSON.SET j $ [1]"), "{told}");

    let mut waiting = b.connect();
    waiting.write_all(&encode_command(&["BLPOP", "l", "0"])).unwrap();
    wait_until(|| match b.node.waiters.any() {
        true => Ok(()),
        false => Err("nobody waits".to_owned()),
    });
    let keys = restoring(&a, file);
    let names: Vec<&[u8]> = keys.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [b"h", b"j", b"l", b"p", b"s"]);
    let request = |mode: &str| {
        let fork = fork.to_string();
        let head = ["CLUSTERX", "DISCARDED", "RESTORE", &fork, epoch_id, mode, "SINCE"];
        let all = words(&head).into_iter().chain(keys.values().flatten().cloned());
        match say(&b, &all.collect::<Vec<_>>()) {
            Value::Array(said) => {
                let said: Vec<&str> = said.iter().filter_map(Value::as_str).collect();
                said.join(" ")
            }
            other => panic!("{other:?}"),
        }
    };
    let before = b.sequence();
    assert_eq!(request("DRY"), "changed applied applied applied applied");
    assert_eq!(b.sequence(), before);
    assert_eq!(request("RUN"), "changed applied applied applied applied");
    assert_eq!(answer(&mut waiting), "l x");
    assert_eq!(b.ask(&["LRANGE", "l", "0", "-1"]), "y");
    assert_eq!(b.ask(&["HGET", "h", "f"]), "3");
    assert_eq!(b.ask(&["SMEMBERS", "s"]), "new old");
    assert_eq!(b.ask(&["PFCOUNT", "p"]), ":1");
    assert_eq!(b.ask(&["JSON.GET", "j"]), "[1]");
    // Once more it finds what is so, and what somebody has changed since.
    assert_eq!(request("RUN"), "changed same changed same same");
    a.await_up_with(&b);
    assert_eq!(a.store().position(), b.store().position());
}

#[test]
fn what_is_no_state_of_a_key_is_named_and_requests_that_are_none_are_refused() {
    let node = master();
    let restore = |key: &str, endless: &str, records: &[Vec<u8>]| {
        let head = ["CLUSTERX", "DISCARDED", "RESTORE", "0", "-", "RUN", "ABSENT", key, endless];
        let mut request = words(&head);
        request.push(encode_command(records));
        match say(&node, &request) {
            Value::Array(said) => said[0].as_str().unwrap().to_owned(),
            Value::Error(text) => text,
            other => panic!("{other:?}"),
        }
    };
    let record = |what: &str, place: &[u8], value: &[u8]| {
        vec![what.as_bytes().to_vec(), place.to_vec(), value.to_vec()]
    };
    let metadata = [&[1][..], &[0; 8]].concat();
    let string = [&[0x81][..], &[0; 8], b"v"].concat();
    let before = node.sequence();
    assert_eq!(restore("k", "0", &record("put", &metadata, &[0x8f; 30])), "unreadable");
    assert_eq!(restore("k", "0", &[]), "unreadable");
    assert_eq!(restore("k", "0", &record("put", b"", b"v")), "unreadable");
    // A field of a hash, of which the rest is not known.
    let field = [&[0][..], &7_u64.to_be_bytes(), b"f"].concat();
    assert_eq!(restore("k", "1", &record("put", &field, b"v")), "partial");
    assert_eq!(node.sequence(), before);
    assert_eq!(restore("k", "0", &record("put", &metadata, &string)), "applied");
    assert_eq!(node.ask(&["GET", "k"]), "v");
    assert_eq!(restore("k", "0", &record("put", &metadata, &string)), "same");
    for (endless, what) in [("2", "put"), ("0", "set")] {
        assert_eq!(restore("k", endless, &record(what, &metadata, b"")), "ERR syntax error");
    }
    for share in [["1", "1"], ["0", "0"]] {
        let request = [&["CLUSTERX", "DISCARDED", "RECORDS", "1-1.jsonl", "0"], &share[..]];
        assert_eq!(node.ask(&request.concat()), "-ERR syntax error");
    }
    let other = ["CLUSTERX", "DISCARDED", "READ", "1-1.jsonl", "0", "9", "RECORDS"];
    assert_eq!(node.ask(&other), "-ERR syntax error");
}
