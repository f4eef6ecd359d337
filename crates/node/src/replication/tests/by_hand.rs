//! Promotions by hand (`SLAVEOF NO ONE`) of nodes whose data is not their master's.

use super::*;

const MARK: &str = "fullsync.required";

impl Running {
    fn await_refused(&self) {
        wait_until(|| match self.ask(&["GET", "k"]) {
            said if said.starts_with("-MASTERDOWN") => Ok(()),
            said => Err(said),
        });
    }

    /// The link that was there before has ended: it says nothing any more.
    fn await_no_link(&self) {
        drop(self.node.replication.one_link.lock());
    }
}

#[test]
fn what_was_not_touched_is_the_masters_that_it_was_before() {
    let (master, node) = (Running::start(), Running::start());
    assert_eq!(master.ask(&["SET", "k", "theirs"]), "+OK");
    assert_eq!(node.ask(&["SET", "k", "mine"]), "+OK");
    // No copy can begin.
    let obstacle = node.node.path(folder::NAME);
    std::fs::write(&obstacle, "").unwrap();
    node.follow(master.port);
    node.await_refused();
    assert_eq!(node.ask(&["SLAVEOF", "NO", "ONE"]), "+OK");
    node.await_no_link();
    assert_eq!(node.ask(&["GET", "k"]), "mine");
    assert_eq!(node.ask(&["SET", "k", "more"]), "+OK");

    std::fs::remove_file(obstacle).unwrap();
    node.follow(master.port);
    node.await_up_with(&master);
    assert_eq!(node.ask(&["GET", "k"]), "theirs");
    assert!(node.node.path("db.deposed").is_dir(), "what it wrote by itself is kept");
}

#[test]
fn data_that_is_spoilt_is_no_masters_either() {
    for (mark, is_good) in [("apart\n", true), ("spoilt\n", false), ("", false)] {
        let node = Running::start();
        assert_eq!(node.ask(&["SET", "k", "mine"]), "+OK");
        std::fs::write(node.node.path(MARK), mark).unwrap();
        // Nobody listens there.
        node.follow(1);
        node.await_refused();
        assert_eq!(node.ask(&["SLAVEOF", "NO", "ONE"]), "+OK");
        node.await_no_link();
        let said = node.ask(&["GET", "k"]);
        assert_eq!(said == "mine", is_good, "{mark}: {said}");
        assert!(node.node.path(MARK).exists(), "its next master's data replaces it");
        // The mark of whole data is for the next link alone.
        node.follow(1);
        node.await_refused();
    }
}

/// As when the link that noted it was ordered at run time, and the process has ended since.
#[test]
fn a_start_as_master_serves_no_data_that_is_spoilt() {
    let node = Running::start();
    assert_eq!(node.ask(&["SET", "k", "mine"]), "+OK");
    for (mark, is_good) in [(None, true), (Some("apart\n"), true), (Some("spoilt\n"), false)] {
        if let Some(mark) = mark {
            std::fs::write(node.node.path(MARK), mark).unwrap();
        }
        crate::replication::heed_mark(&node.node);
        let said = node.ask(&["GET", "k"]);
        assert_eq!(said == "mine", is_good, "{mark:?}: {said}");
    }
}
