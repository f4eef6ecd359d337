//! The controllers' store that this node obeys (rule O7).

use api::store::{Heeds, Said, StoreId};

use super::*;
use crate::grants::identity::{Obeyed, load_obeyed};
use crate::grants::leader::{begin, keep_term};

const OWN: StoreId = StoreId { name: 0xaa, generation: 2 };
const OTHER: StoreId = StoreId { name: 0xbb, generation: 9 };

/// A heartbeat for the shard of `master`, with that behind it.
fn beat(node: &Running, master: &str, term: &str, store: &[&str]) -> String {
    let head = ["CLUSTERX", "HEARTBEAT", master, "1000", term, "CLOCK", "0", "0"];
    node.ask(&[&head[..], store].concat())
}

fn told(node: &Running) -> (u64, Heeds) {
    let text = node.ask(&["CLUSTERX", "CONTROLLER"]);
    let told = api::heard::Told::parse(&text).unwrap_or_else(|| panic!("{text}"));
    (told.term, told.store)
}

fn led(text: &str) -> Heeds {
    Reply::parse(text).unwrap_or_else(|error| panic!("{error}: {text}")).standing.store
}

#[test]
fn the_store_is_on_disk_before_the_first_answer_and_no_other_is_obeyed_whatever_its_term() {
    let node = master(|_| {});
    assert_eq!(told(&node).1, Heeds::Nobody);
    // A controller of an earlier version says no store.
    assert_eq!(led(&beat(&node, &m(), "8", &[])), Heeds::Nobody);
    assert_eq!(led(&beat(&node, &m(), "9", &["STORE", "aa", "2"])), Heeds::Store(OWN));
    let dir = node.node.dir.clone();
    assert_eq!(load_obeyed(&dir), Obeyed { term: 9, store: Some(OWN) });
    let refused = beat(&node, &m(), "1000", &["STORE", "aa", "1"]);
    let wanted = "-ERR store mismatch: this node is led from store 00000000000000aa, generation 2, and refuses \
                  store 00000000000000aa, generation 1: ";
    assert!(refused.starts_with(wanted), "{refused}");
    for words in [
        &["PAUSE", "60000", "WRITE"][..],
        &["SETNODEID", &m()],
        &["SETNODES", &topology(&node, 2), "7"],
    ] {
        let other = ["CLUSTERX", "AS", "1000", "STORE", "bb", "9"];
        let refused = node.ask(&[&other[..], words].concat());
        assert!(refused.starts_with("-ERR store mismatch: "), "{refused}");
    }
    let text = node.ask(&["CLUSTERX", "OBSERVE"]);
    let seen = Reply::parse(&text).unwrap();
    assert!(!seen.paused && seen.version == 1, "{text}");
    assert_eq!(told(&node), (9, Heeds::Store(OWN)), "what is refused leaves nothing");
    let own = ["CLUSTERX", "AS", "9", "STORE", "aa", "2"];
    assert_eq!(node.ask(&[&own[..], &["PAUSE", "1", "WRITE"]].concat()), "+OK");
    assert_eq!(node.ask(&["CLUSTERX", "AS", "9", "UNPAUSE"]), "+OK", "as one of before says it");

    let next = node.restart(|values| values.cluster_enabled = true);
    next.node.grants.remember(load_obeyed(&dir));
    let refused = beat(&next, &m(), "1000", &["STORE", "bb", "9"]);
    assert!(refused.starts_with("-ERR store mismatch: "), "{refused}");
    let heir = beat(&next, &m(), "1000", &["STORE", "bb", "9", "FOR", "aa", "2"]);
    assert_eq!(led(&heir), Heeds::Store(OTHER));
    assert_eq!(load_obeyed(&dir), Obeyed { term: 1000, store: Some(OTHER) });
    let refused = beat(&next, &m(), "2000", &["STORE", "aa", "2"]);
    assert!(refused.starts_with("-ERR store mismatch: "), "{refused}");
}

#[test]
fn words_of_a_store_stand_behind_a_grant_and_before_moves() {
    let node = master(|_| {});
    let mut words = Controller::of(&[member_of(&node)]).words(&m(), &Controller::hello(&node));
    words.extend(["STORE", "aa", "2", "MOVES"].map(str::to_owned));
    let words: Vec<&str> =
        std::iter::once("CLUSTERX").chain(words.iter().map(String::as_str)).collect();
    let text = node.ask(&words);
    let seen = Reply::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((seen.standing.granted_epoch, seen.standing.store), (1, Heeds::Store(OWN)));
    for bad in
        [&["STORE"][..], &["STORE", "aa"], &["STORE", "aa", "x"], &["STORE", "aa", "2", "FOR"]]
    {
        let said = beat(&node, &m(), "1", bad);
        assert!(said.starts_with("-ERR malformed word of a store"), "{said}");
        let said = node.ask(&[&["CLUSTERX", "AS", "1"], bad].concat());
        assert!(said.starts_with("-ERR"), "{said}");
    }
}

/// Under the grant it would serve slots of other shards, until its controller has seen that.
#[test]
fn a_topology_by_hand_is_not_taken_beside_a_controller_that_has_a_name() {
    let node = master(|_| {});
    let controller = Controller::of(&[member_of(&node)]);
    let set = |before: &[&str], version: &str| {
        node.ask(&[before, &["SETNODES", &topology(&node, 2), version]].concat())
    };
    let own = ["CLUSTERX", "AS", "1", "STORE", "aa", "2"];
    let lead = |more: &[&str]| {
        let mut words = controller.words(&m(), &Controller::hello(&node));
        words.extend(more.iter().map(ToString::to_string));
        let words: Vec<&str> =
            std::iter::once("CLUSTERX").chain(words.iter().map(String::as_str)).collect();
        let text = node.ask(&words);
        let seen = Reply::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(seen.standing.granted_epoch, 1);
        seen.version
    };
    // A controller of an earlier version has no other way to say it.
    assert_eq!(lead(&[]), 1);
    assert_eq!(set(&["CLUSTERX"], "2"), "+OK");
    assert_eq!(lead(&["STORE", "aa", "2"]), 2);
    let refused = set(&["CLUSTERX"], "3");
    assert!(refused.starts_with("-ERR a controller leads this node"), "{refused}");
    assert_eq!(set(&own, "3"), "+OK");
    assert_eq!(lead(&["STORE", "aa", "2"]), 3);
    // Its controller was put back to an earlier version.
    assert_eq!(lead(&[]), 3);
    assert_eq!(set(&["CLUSTERX"], "4"), "+OK");
}

/// Its address is in the record of a cluster that it is not of.
#[test]
fn who_leads_another_cluster_leaves_no_name() {
    let node = master(|_| {});
    let other = "x".repeat(40);
    assert_eq!(led(&beat(&node, &other, "7", &["STORE", "bb", "9"])), Heeds::Nobody);
    // The shard of a replica is led by its master's id.
    assert_eq!(led(&beat(&node, &r(), "7", &["STORE", "aa", "2"])), Heeds::Store(OWN));
    let refused = beat(&node, &other, "7", &["STORE", "bb", "9"]);
    assert!(refused.starts_with("-ERR store mismatch: "), "{refused}");
}

#[test]
fn a_store_takes_the_place_of_another_only_where_the_disk_takes_that() {
    let node = master(|_| {});
    assert_eq!(led(&beat(&node, &m(), "9", &["STORE", "aa", "2"])), Heeds::Store(OWN));
    // Nothing can be put in the place of a folder that is not empty.
    let file = node.node.dir.join("term");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    let heir = ["STORE", "bb", "9", "FOR", "aa", "2"];
    let refused = beat(&node, &m(), "9", &heir);
    assert!(refused.starts_with("-ERR keep on disk from which store"), "{refused}");
    assert_eq!(told(&node).1, Heeds::Store(OWN));
    assert_eq!(led(&beat(&node, &m(), "9", &["STORE", "aa", "2"])), Heeds::Store(OWN));
    std::fs::remove_dir_all(&file).unwrap();
    assert_eq!(led(&beat(&node, &m(), "9", &heir)), Heeds::Store(OTHER));
}

#[test]
fn the_first_store_is_obeyed_by_its_term_where_the_disk_takes_nothing() {
    let node = master(|_| {});
    std::fs::create_dir_all(node.node.dir.join("term/in the way")).unwrap();
    assert_eq!(led(&beat(&node, &m(), "9", &["STORE", "aa", "2"])), Heeds::Nobody);
    assert_eq!(told(&node).0, 9);
    let older = beat(&node, &m(), "8", &["STORE", "aa", "2"]);
    assert_eq!(older, "-ERR election version mismatch: 8 is older than 9");
}

#[test]
fn a_reset_makes_it_nobodys() {
    let node = master(|_| {});
    assert_eq!(led(&beat(&node, &m(), "9", &["STORE", "aa", "2"])), Heeds::Store(OWN));
    assert_eq!(node.ask(&["CLUSTER", "RESET", "HARD"]), "+OK");
    assert_eq!(told(&node), (0, Heeds::Nobody));
    assert_eq!(load_obeyed(&node.node.dir), Obeyed::default());
    // What was on its way to the disk then.
    begin(&node.node, 9, Some(Said { by: OWN, instead_of: None })).unwrap();
    keep_term(&node.node).unwrap();
    assert_eq!(told(&node), (0, Heeds::Nobody));
    assert!(!node.node.dir.join("term").exists());
    // Its former controller, which has it in its record still.
    assert_eq!(led(&beat(&node, &m(), "9", &["STORE", "aa", "2"])), Heeds::Nobody);
}
