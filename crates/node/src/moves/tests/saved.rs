//! What a backup says of slots while they move, what writes by itself (RDB LOAD) keeps to, and
//! parts of a copy that are longer than the taker takes.

use super::*;

fn name(master: &Master) -> Vec<String> {
    assert_eq!(master.ask(&["SAVE"]), "+OK");
    let path = master.node().node.path("backup").join("holdfast.backup");
    let text = std::fs::read_to_string(path).unwrap();
    let is_of_slots = |line: &&str| line.starts_with("slots") || line.starts_with("moving");
    text.lines().filter(is_of_slots).map(str::to_owned).collect()
}

#[test]
fn a_backup_names_the_slots_whose_data_is_in_it() {
    let mut cluster = Cluster::new();
    fill(&mut Client::new(&cluster), &tags(3));
    cluster.copy();
    assert_eq!(
        (name(&cluster.s), name(&cluster.d)),
        (vec!["slots 0-8191".into()], vec!["slots 8192-16383".into()])
    );
    let at = cluster.freeze(1);
    assert!(cluster.s.order(Order::Seal).is_sealed);
    // The topology gives the slots, and they are not opened.
    cluster.version = 2;
    cluster.push();
    assert_eq!(name(&cluster.d), ["slots 8192-16383", "moving 0-4095"]);
    let opened = cluster.d.order(Order::Open { at, version: 2 });
    assert_eq!(opened.mark, Some(Mark::Held));
    assert_eq!(name(&cluster.d), ["slots 0-4095 8192-16383"]);
    cluster.finish();
    assert_eq!(name(&cluster.s), ["slots 4096-8191"]);
}

/// A dump file with one string.
fn dump(key: &str) -> Vec<u8> {
    let length = u8::try_from(key.len()).unwrap();
    assert!(length < 64, "a length of one byte");
    [b"REDIS0010\xfe\x00\x00", &[length][..], key.as_bytes(), b"\x01x\xff\0\0\0\0\0\0\0\0"].concat()
}

#[test]
fn a_dump_file_is_loaded_where_its_keys_are_served() {
    let mut cluster = Cluster::new();
    let tag = tags(1).remove(0);
    fill(&mut Client::new(&cluster), std::slice::from_ref(&tag));
    let key = format!("{{{tag}}}loaded");
    for master in [&cluster.s, &cluster.d] {
        std::fs::write(master.node().node.path("one.rdb"), dump(&key)).unwrap();
    }
    let load = |master: &Master| master.ask(&["RDB", "LOAD", "one.rdb"]);
    cluster.copy();
    let at = cluster.freeze(1);
    assert!(cluster.s.order(Order::Seal).is_sealed);
    cluster.version = 2;
    cluster.push();
    // The topology gives the slots, and the data says that they are staged.
    let records = cluster.d.records();
    let said = load(&cluster.d);
    assert!(said.contains("by move 1 its data is not on this node"), "{said}");
    assert!(cluster.d.records() == records, "nothing is put beside what is staged");
    // What is of another database than is asked for is passed over, wherever its slots are.
    assert_eq!(cluster.d.ask(&["RDB", "LOAD", "one.rdb", "DB", "1"]), "+OK");
    cluster.d.order(Order::Open { at, version: 2 });
    cluster.finish();
    assert_eq!(load(&cluster.d), "+OK");
    assert_eq!(Client::new(&cluster).run(&["GET", &key]), "x");
    // An older record, restored, gives them to the giver again: nobody would find what is stored
    // there.
    cluster.version = 1;
    cluster.s.set_nodes(&cluster.topology(), 3);
    let said = load(&cluster.s);
    assert!(said.contains("by move 1 its data is not on this node"), "{said}");
    assert_eq!(cluster.s.raw(), 0);
}

/// The taker takes so many bytes at once from here on.
fn takes(cluster: &Cluster, bytes: usize) {
    let engine = cluster.d.node().node.engine();
    engine.store.as_ref().unwrap().set_batch_bytes_max(bytes);
}

/// What a person is told to mend.
fn clash(cluster: &Cluster) -> Option<String> {
    let copying = cluster.d.heartbeat(&[]).copying;
    copying.into_iter().find_map(|copying| copying.clash)
}

/// What is told, once something is and the stream has ended; nothing has to be waited for before it
/// is tried again.
fn told(cluster: &Cluster) -> String {
    let mut told = None;
    wait_until(|| {
        cluster.d.order(cluster.s.source());
        told = clash(cluster);
        if told.is_some() { Ok(()) } else { Err("nothing is told".into()) }
    });
    let take = || Arc::clone(&cluster.d.node().node.moves.takes.lock()[&ID]);
    let ended = take();
    wait_until(|| match ended.is_over.load(Ordering::SeqCst) {
        true => Ok(()),
        false => Err("it goes on".into()),
    });
    // As if that were just now.
    ended.progress_ms.store(u64::MAX, Ordering::SeqCst);
    cluster.d.order(cluster.s.source());
    assert!(Arc::ptr_eq(&ended, &take()), "it is tried again at once");
    ended.progress_ms.store(0, Ordering::SeqCst);
    told.unwrap()
}

#[test]
fn a_part_of_a_copy_that_is_longer_than_the_taker_takes_is_told() {
    let cluster = Cluster::new();
    let key = format!("{{{}}}long", tags(1)[0]);
    assert_eq!(cluster.s.ask(&["SET", &key, &"x".repeat(3 << 20)]), "+OK");
    takes(&cluster, 1 << 20);
    let told = told(&cluster);
    assert!(told.contains("longer than the taker takes at once (2097152 bytes"), "{told}");
    takes(&cluster, 0);
    cluster.copy();
    assert_eq!(clash(&cluster), None);
    assert_eq!(cluster.s.records(), cluster.d.records());
}

/// Nothing is handed over while it is told.
#[test]
fn what_is_too_long_behind_a_whole_copy_is_told_until_it_has_come() {
    let cluster = Cluster::new();
    fill(&mut Client::new(&cluster), &tags(3));
    cluster.copy();
    takes(&cluster, 1 << 20);
    let key = format!("{{{}}}long", tags(1)[0]);
    assert_eq!(cluster.s.ask(&["SET", &key, &"x".repeat(3 << 20)]), "+OK");
    let told = told(&cluster);
    assert!(told.contains("longer than the taker takes at once"), "{told}");
    takes(&cluster, 0);
    wait_until(|| {
        cluster.d.order(cluster.s.source());
        clash(&cluster).map_or(Ok(()), Err)
    });
    cluster.copy();
    assert_eq!(cluster.s.records(), cluster.d.records());
}
