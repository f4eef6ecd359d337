//! Roles given by hand, without a controller: whatever a node wrote as a master is never taken for
//! its next master's.
//!
//! Each story ends with both nodes holding the same, and with what one of them had to give up in
//! its `db.deposed`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::restartable::Restartable;
use testkit::wait;
use testkit::wire::Reply;

const PATIENCE: Duration = Duration::from_secs(60);
const LINES: &str = "workers 1\nrocksdb.block_cache_size 16";

struct Node(Restartable);

impl std::ops::Deref for Node {
    type Target = Restartable;

    fn deref(&self) -> &Restartable {
        &self.0
    }
}

impl std::ops::DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Restartable {
        &mut self.0
    }
}

impl Node {
    fn start(more: &str) -> Result<Self> {
        Restartable::start(&format!("{LINES}\n{more}")).map(Self)
    }

    fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.up()
    }

    /// Starts again with another configuration.
    fn begin_with(&mut self, more: &str) -> Result<()> {
        self.restart_with(&format!("{LINES}\n{more}"))
    }

    fn call(&self, words: &[&str]) -> Result<Reply> {
        self.connect()?.call(words)
    }

    fn ok(&self, words: &[&str]) -> Result<()> {
        let said = self.call(words)?;
        ensure!(said == Reply::Simple(b"OK".to_vec()), "{words:?}: {}", said.text());
        Ok(())
    }

    fn set(&self, key: &str, value: &str) -> Result<()> {
        self.ok(&["SET", key, value])
    }

    fn get(&self, key: &str) -> Result<String> {
        Ok(self.call(&["GET", key])?.text())
    }

    /// A node that has just been this one's replica may still be listed as one for a moment.
    fn follow(&self, master: &Self) -> Result<()> {
        wait::until("another master is taken", PATIENCE, || {
            self.ok(&["SLAVEOF", "127.0.0.1", &master.port.to_string()])
        })
    }

    fn alone(&self) -> Result<()> {
        self.ok(&["SLAVEOF", "NO", "ONE"])
    }

    fn info(&self, name: &str) -> Result<String> {
        let text = self.call(&["INFO"])?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.unwrap_or_default().trim().to_owned())
    }

    fn has_aside(&self) -> bool {
        self.dir().join("db.deposed").exists()
    }
}

/// Waits until the replica's stream flows and it has a value that its master was given just now,
/// and nothing is different.
fn same(replica: &Node, master: &Node, keys: &[&str]) -> Result<()> {
    let mark = format!("mark-{:x}", rand::random::<u64>());
    master.set("mark", &mark)?;
    wait::until("the replica follows", PATIENCE, || {
        ensure!(replica.info("master_link_status")? == "up", "{:?}", replica.call(&["INFO"])?);
        let found = replica.get("mark")?;
        ensure!(found == mark, "{found} is not {mark}");
        Ok(())
    })?;
    for key in keys {
        let (ours, theirs) = (replica.get(key)?, master.get(key)?);
        ensure!(ours == theirs, "{key} is {ours} at the replica and {theirs} at its master");
    }
    Ok(())
}

/// A, B that follows it and has a common past with it.
fn pair() -> Result<(Node, Node)> {
    let (a, b) = (Node::start("")?, Node::start("")?);
    a.set("common", "1")?;
    b.follow(&a)?;
    same(&b, &a, &["common"])?;
    Ok((a, b))
}

#[test]
fn a_master_for_a_while_gives_its_writes_up_for_its_masters() -> Result<()> {
    let (a, b) = pair()?;
    b.alone()?;
    a.set("t", "of a")?;
    b.set("t", "of b")?;
    b.follow(&a)?;
    same(&b, &a, &["common", "t"])?;
    ensure!(b.has_aside(), "what B wrote is gone");
    Ok(())
}

#[test]
fn the_same_after_any_number_of_writes_on_either_side() -> Result<()> {
    let (a, b) = pair()?;
    for (of_a, of_b) in [(0, 1), (1, 3), (3, 1), (5, 5)] {
        b.alone()?;
        for number in 0..of_a {
            a.set(&format!("k{number}"), "of a")?;
        }
        for number in 0..of_b {
            b.set(&format!("k{number}"), "of b")?;
        }
        b.follow(&a)?;
        same(&b, &a, &["common", "k0", "k1", "k2", "k3", "k4"])?;
    }
    Ok(())
}

#[test]
fn a_master_for_a_while_that_wrote_nothing_needs_no_copy() -> Result<()> {
    let (a, b) = pair()?;
    b.alone()?;
    a.set("t", "of a")?;
    b.follow(&a)?;
    same(&b, &a, &["common", "t"])?;
    ensure!(!b.has_aside() && a.info("sync_full")? == "0", "{}", a.info("sync_full")?);
    Ok(())
}

#[test]
fn a_restart_on_the_way_makes_no_difference() -> Result<()> {
    let (mut a, mut b) = pair()?;
    b.alone()?;
    a.set("t", "of a")?;
    b.set("t", "of b")?;
    b.restart()?;
    ensure!(b.get("t")? == "of b");
    a.restart()?;
    b.follow(&a)?;
    same(&b, &a, &["common", "t"])?;
    ensure!(b.has_aside());
    // As a replica it goes on where it was.
    b.begin_with(&format!("slaveof 127.0.0.1 {}", a.port))?;
    a.set("later", "of a")?;
    same(&b, &a, &["common", "t", "later"])?;
    ensure!(a.info("sync_full")? == "1", "a replica that restarts needs no copy");
    Ok(())
}

/// The configuration gives it a master, not a command.
#[test]
fn a_master_in_the_configuration_is_compared_too() -> Result<()> {
    let (a, mut b) = pair()?;
    b.alone()?;
    a.set("t", "of a")?;
    b.set("t", "of b")?;
    b.begin_with(&format!("slaveof 127.0.0.1 {}", a.port))?;
    same(&b, &a, &["common", "t"])?;
    ensure!(b.has_aside());
    Ok(())
}

/// A replica is told to follow another one that was promoted with less than it has.
#[test]
fn a_replica_that_is_ahead_of_the_promoted_one_gives_that_up() -> Result<()> {
    let (a, b) = pair()?;
    let c = Node::start("")?;
    c.follow(&a)?;
    same(&c, &a, &["common"])?;
    // C has what B has; B goes its own way from here, and C takes two more of A's.
    b.alone()?;
    a.set("t", "of a")?;
    a.set("u", "of a")?;
    same(&c, &a, &["t", "u"])?;
    for key in ["t", "u", "v", "w", "x"] {
        b.set(key, "of b")?;
    }
    c.follow(&b)?;
    same(&c, &b, &["common", "t", "u", "v", "w", "x", "mark"])?;
    ensure!(c.has_aside());
    // One that is not ahead goes on without a copy.
    let (a, b) = pair()?;
    let c = Node::start("")?;
    c.follow(&a)?;
    same(&c, &a, &["common"])?;
    same(&b, &a, &["common"])?;
    b.alone()?;
    c.follow(&b)?;
    b.set("t", "of b")?;
    same(&c, &b, &["common", "t"])?;
    ensure!(b.info("sync_full")? == "0" && !c.has_aside());
    Ok(())
}

/// `slave-read-only no`: a replica that was written to while its master was away.
#[test]
fn what_a_replica_wrote_by_itself_is_given_up_too() -> Result<()> {
    let (mut a, b) = pair()?;
    b.ok(&["CONFIG", "SET", "slave-read-only", "no"])?;
    a.kill()?;
    b.set("t", "of b")?;
    a.up()?;
    for key in ["t", "u", "v"] {
        a.set(key, "of a")?;
    }
    same(&b, &a, &["common", "t", "u", "v"])?;
    ensure!(b.has_aside(), "what B wrote is gone");
    Ok(())
}

/// Everybody changes roles, and each time somebody gives something up.
#[test]
fn roles_that_go_back_and_forth_end_equal() -> Result<()> {
    let (a, b) = pair()?;
    for round in 0..3 {
        let value = |name: &str| format!("{round} of {name}");
        b.alone()?;
        a.set("t", &value("a"))?;
        b.set("t", &value("b"))?;
        a.follow(&b)?;
        same(&a, &b, &["common", "t"])?;
        ensure!(b.get("t")? == value("b"));
        a.alone()?;
        a.set("u", &value("a"))?;
        b.follow(&a)?;
        same(&b, &a, &["common", "t", "u"])?;
    }
    Ok(())
}

const IDS: [&str; 2] =
    ["1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"];

fn topology(nodes: [&Node; 2], master: usize) -> String {
    let line = |index: usize| match index == master {
        true => format!("{} 127.0.0.1 {} master - 0-16383", IDS[index], nodes[index].port),
        false => format!("{} 127.0.0.1 {} slave {}", IDS[index], nodes[index].port, IDS[master]),
    };
    format!("{}\n{}", line(0), line(1))
}

/// Topologies sent by hand: a swap, and a node that forgot in between that it had ever been a
/// master.
#[test]
fn topologies_by_hand_and_a_node_that_was_reset() -> Result<()> {
    let (mut a, b) = (Node::start("cluster-enabled yes")?, Node::start("cluster-enabled yes")?);
    for (node, id) in [(&a, IDS[0]), (&b, IDS[1])] {
        node.ok(&["CLUSTERX", "SETNODEID", id])?;
        node.ok(&["CLUSTERX", "SETNODES", &topology([&a, &b], 0), "1"])?;
    }
    b.call(&["READONLY"])?;
    a.set("common", "1")?;
    let in_step = |replica: &Node, master: &Node| {
        wait::until("the replica follows", PATIENCE, || {
            let (theirs, ours) =
                (master.info("master_repl_offset")?, replica.info("master_repl_offset")?);
            let (link, resync) = (replica.info("master_link_status")?, replica.info("resync")?);
            let is_whole = resync.is_empty() || resync == "none";
            ensure!(
                theirs == ours && link == "up" && is_whole,
                "{ours} of {theirs}, {link} {resync}"
            );
            Ok(())
        })
    };
    in_step(&b, &a)?;
    // B is promoted while A still believes to be master.
    b.ok(&["CLUSTERX", "SETNODES", &topology([&a, &b], 1), "2"])?;
    a.set("t", "of a")?;
    b.set("t", "of b")?;
    // A forgets its topology: only its data tells by whom it was written.
    a.kill()?;
    std::fs::remove_file(a.dir().join("nodes.conf")).context("forget the topology")?;
    a.up()?;
    a.ok(&["CLUSTERX", "SETNODEID", IDS[0]])?;
    a.ok(&["CLUSTERX", "SETNODES", &topology([&a, &b], 1), "2"])?;
    b.set("later", "of b")?;
    in_step(&a, &b)?;
    ensure!(a.has_aside(), "what A wrote is gone");
    a.ok(&["CLUSTERX", "SETNODES", &topology([&a, &b], 0), "3"])?;
    ensure!(a.get("t")? == "of b" && a.get("later")? == "of b", "A kept what it had");
    Ok(())
}
