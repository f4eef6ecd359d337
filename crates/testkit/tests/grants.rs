//! Real processes under grants, driven by hand: no controller, no balancer, only RESP.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::process::{self, Server, free_port};
use testkit::wait;
use testkit::wire::{Connection, Reply};

const PATIENCE: Duration = Duration::from_secs(30);
/// More than the 250 ms above which a wait is counted, also where a command is read late.
const LONG: Duration = Duration::from_millis(1_500);
const LINES: &str = "cluster-enabled yes\nmaster-lease-mode block-all\nreplication-ping-ms 50\n\
                     peer-auth secret\nworkers 1\nrocksdb.block_cache_size 16";

fn id(letter: char) -> String {
    letter.to_string().repeat(40)
}

/// What the controller's record of the shard would hold.
struct Record {
    epoch: u64,
    request: u64,
    members: String,
    lease_ms: u64,
}

type Fields = BTreeMap<String, String>;

fn fields(text: &str) -> Fields {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn hello(node: &Server) -> Result<Fields> {
    let said = node.connect()?.call(&[
        "CLUSTERX",
        "HEARTBEAT",
        "nobody",
        "1000",
        "1",
        "CLOCK",
        "0",
        "0",
    ])?;
    Ok(fields(&said.text()))
}

/// What a set calls the data of a node.
fn member(node: &Server) -> Result<String> {
    let seen = hello(node)?;
    Ok(format!("{}/{}/{}", seen["myid"], seen["incarnation"], seen["boot"]))
}

impl Record {
    fn heartbeat(&self, node: &Server, to: char) -> Result<Reply> {
        let seen = hello(node)?;
        let (epoch, request) = (self.epoch.to_string(), self.request.to_string());
        let (lease, name) = (self.lease_ms.to_string(), format!("{:016x}", self.epoch));
        let to = id(to);
        node.connect()?.call(&[
            "CLUSTERX",
            "HEARTBEAT",
            &to,
            &lease,
            "1",
            "CLOCK",
            &seen["clock_ns"],
            &seen["nonce"],
            "GRANT",
            &epoch,
            &name,
            "-",
            "0",
            "in-sync",
            "1",
            &request,
            &self.members,
        ])
    }

    /// Adopts what the master asks for, and confirms it.
    fn adopt(&mut self, node: &Server, to: char) -> Result<Fields> {
        let seen = hello(node)?;
        if seen["granted_epoch"] == self.epoch.to_string() {
            self.request = seen["request"].parse().context("a request")?;
            self.members.clone_from(&seen["request_members"]);
        }
        let said = self.heartbeat(node, to)?;
        ensure!(said.error_code().is_none(), "{said:?}");
        Ok(fields(&said.text()))
    }
}

struct Pair {
    master: Server,
    /// Port of the master's metrics.
    admin: u16,
    replica: Server,
    record: Record,
    _folders: [tempfile::TempDir; 2],
}

fn set_nodes(node: &Server, letter: char, topology: &str, version: u32) -> Result<()> {
    // As a controller: connections of others end with a demotion.
    let mut connection = node.connect()?;
    ensure!(connection.call(&["AUTH", "secret"])?.text() == "OK");
    let version = version.to_string();
    for words in [vec!["SETNODEID", &id(letter)], vec!["SETNODES", topology, &version]] {
        let said = connection.call(&[vec!["CLUSTERX"], words].concat())?;
        ensure!(said.text() == "OK", "{said:?}");
    }
    Ok(())
}

/// `m` is master and `r` its replica, both in the set.
fn pair() -> Result<Pair> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let admin = free_port()?;
    let lines = format!("{LINES}\nadmin-port {admin}");
    let master = Server::node_at(folders[0].path(), free_port()?, &lines)?;
    let replica = Server::node_at(folders[1].path(), free_port()?, LINES)?;
    let topology = topology('m', &master, 'r', &replica);
    set_nodes(&master, 'm', &topology, 1)?;
    set_nodes(&replica, 'r', &topology, 1)?;
    let members = member(&master)?;
    let mut record = Record { epoch: 1, request: 0, members, lease_ms: 60_000 };
    wait::until("the replica is in the set", PATIENCE, || {
        let standing = record.adopt(&master, 'm')?;
        ensure!(record.members.contains(&member(&replica)?), "{standing:?}");
        Ok(())
    })?;
    Ok(Pair { master, admin, replica, record, _folders: folders })
}

fn topology(master: char, at: &Server, replica: char, replica_at: &Server) -> String {
    format!(
        "{m} 127.0.0.1 {} master - 0-16383\n{} 127.0.0.1 {} slave {m}",
        at.address.port(),
        id(replica),
        replica_at.address.port(),
        m = id(master)
    )
}

/// Nothing has been answered so far.
fn is_silent(connection: &mut Connection) -> Result<()> {
    connection.set_patience(Duration::from_millis(1))?;
    let said = connection.receive();
    connection.set_patience(PATIENCE)?;
    ensure!(said.is_err(), "answered {said:?}");
    Ok(())
}

fn metrics(admin: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).context("reach the admin port")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let question = format!("GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:{admin}\r\n\r\n");
    stream.write_all(question.as_bytes()).context("ask for metrics")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("read metrics")?;
    Ok(text)
}

fn sequence(node: &Server) -> Result<u64> {
    hello(node)?["sequence"].parse().context("a sequence")
}

#[test]
fn a_write_waits_for_a_stopped_member_until_a_confirmed_set_is_without_it() -> Result<()> {
    let Pair { master, admin, replica, mut record, _folders } = pair()?;
    let mut client = master.connect()?;
    ensure!(client.call(&["SET", "k", "1"])?.text() == "OK");
    let has = sequence(&replica)?;
    ensure!(has >= sequence(&master)?, "answered before the replica had it: {has}");

    process::signal(replica.process().pid(), libc::SIGSTOP)?;
    let before = sequence(&master)?;
    client.send(&["SET", "k", "2"])?;
    let mut reader = master.connect()?;
    wait::until("the write is in the log", PATIENCE, || {
        ensure!(sequence(&master)? > before);
        Ok(())
    })?;
    reader.send(&["GET", "k"])?;
    wait::until("the master asks for a set without it", PATIENCE, || {
        // A renewal without the store's word for it changes nothing.
        record.heartbeat(&master, 'm')?;
        let seen = hello(&master)?;
        ensure!(!seen["request_members"].contains(&id('r')), "{seen:?}");
        Ok(())
    })?;
    is_silent(&mut client)?;
    is_silent(&mut reader)?;
    // The reader may have come when the member was noticed already: both wait for a while.
    wait::pause(LONG);
    record.adopt(&master, 'm')?;
    ensure!(client.receive()?.text() == "OK");
    ensure!(reader.receive()?.text() == "2");
    // A reply is counted once it is sent.
    wait::until("the time they waited is counted", PATIENCE, || {
        let text = metrics(admin)?;
        let value = |name: &str| -> Result<u64> {
            let start = format!("holdfast_node_reply_seconds_{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.with_context(|| format!("find {name} in {text}"))?.parse().context("a count")
        };
        let (within, all) = (value("bucket{le=\"0.25\"}")?, value("count")?);
        ensure!(all >= within + 2 && within > 0, "{within} of {all} within 250 ms");
        Ok(())
    })?;

    process::signal(replica.process().pid(), libc::SIGCONT)?;
    wait::until("it is in the set again", PATIENCE, || {
        let standing = record.adopt(&master, 'm')?;
        ensure!(record.members.contains(&id('r')), "{standing:?}");
        Ok(())
    })?;
    ensure!(client.call(&["SET", "k", "3"])?.text() == "OK");
    ensure!(sequence(&replica)? >= sequence(&master)?);
    Ok(())
}

/// Answers that come later, and writes that peers ask for, tell of data as all others do (R4).
#[test]
fn what_is_answered_later_and_what_peers_write_waits_for_the_set_too() -> Result<()> {
    let Pair { master, replica, mut record, _folders, .. } = pair()?;
    let mut peer = master.connect()?;
    ensure!(peer.call(&["AUTH", "secret"])?.text() == "OK");
    let mut client = master.connect()?;
    ensure!(client.call(&["SET", "k", "1"])?.text() == "OK");
    process::signal(replica.process().pid(), libc::SIGSTOP)?;
    let before = sequence(&master)?;
    // `foo` is of slot 12182.
    client.send(&["SET", "foo", "2"])?;
    let mut counter = master.connect()?;
    wait::until("the write is in the log", PATIENCE, || {
        ensure!(sequence(&master)? > before);
        Ok(())
    })?;
    counter.send(&["DBSIZE"])?;
    let written = sequence(&master)?;
    peer.send(&["CLUSTERX", "FLUSHSLOTS", "12182"])?;
    wait::until("the deletion is in the log", PATIENCE, || {
        ensure!(sequence(&master)? > written);
        Ok(())
    })?;
    let mut operator = master.connect()?;
    ensure!(operator.call(&["AUTH", "secret"])?.text() == "OK");
    let deleted = sequence(&master)?;
    let apply = "CLUSTERX DISCARDED APPLY 0 - RUN ABSENT SET back 3 0";
    operator.send(&apply.split(' ').collect::<Vec<_>>())?;
    wait::until("what is put back is in the log", PATIENCE, || {
        ensure!(sequence(&master)? > deleted);
        Ok(())
    })?;
    wait::until("the master asks for a set without it", PATIENCE, || {
        let seen = hello(&master)?;
        ensure!(!seen["request_members"].contains(&id('r')), "{seen:?}");
        Ok(())
    })?;
    for connection in [&mut client, &mut counter, &mut peer, &mut operator] {
        is_silent(connection)?;
    }
    record.adopt(&master, 'm')?;
    ensure!(client.receive()?.text() == "OK");
    ensure!(matches!(counter.receive()?, Reply::Integer(1 | 2)));
    ensure!(peer.receive()?.text() == "OK");
    let told = operator.receive()?;
    ensure!(told.elements().iter().map(Reply::text).eq(["applied"]), "{told:?}");
    ensure!(client.call(&["EXISTS", "foo"])? == Reply::Integer(0));
    process::signal(replica.process().pid(), libc::SIGCONT)
}

#[test]
fn a_restarted_master_is_none_until_a_newer_epoch_is_granted_to_the_new_process() -> Result<()> {
    let Pair { master, replica: _replica, mut record, _folders, .. } = pair()?;
    let (port, before) = (master.address.port(), member(&master)?);
    ensure!(master.connect()?.call(&["SET", "k", "1"])?.text() == "OK");
    let late = hello(&master)?;
    master.kill()?;
    let master = Server::node_at(_folders[0].path(), port, LINES)?;
    ensure!(member(&master)? == before, "the same data, under another name");
    let refused = |command: &[&str]| -> Result<()> {
        let said = master.connect()?.call(command)?;
        ensure!(said.error_code().as_deref() == Some("CLUSTERDOWN"), "{command:?}: {said:?}");
        Ok(())
    };
    // Not by what the old process was sent, not by a lease alone, not by the old epoch.
    let (clock, nonce) = (late["clock_ns"].as_str(), late["nonce"].as_str());
    let to = id('m');
    let mut connection = master.connect()?;
    let stale =
        connection.call(&["CLUSTERX", "HEARTBEAT", &to, "60000", "1", "CLOCK", clock, nonce])?;
    ensure!(stale.error_code().is_none(), "{stale:?}");
    let now = hello(&master)?;
    let (clock, nonce) = (now["clock_ns"].as_str(), now["nonce"].as_str());
    connection.call(&["CLUSTERX", "HEARTBEAT", &to, "60000", "1", "CLOCK", clock, nonce])?;
    refused(&["SET", "k", "2"])?;
    refused(&["GET", "k"])?;
    let said = record.heartbeat(&master, 'm')?;
    ensure!(said.text().contains("was opened before and given up"), "{said:?}");
    refused(&["GET", "k"])?;

    record.epoch = 2;
    record.request = 0;
    wait::until("it serves again, its replica in the set", PATIENCE, || {
        let standing = record.adopt(&master, 'm')?;
        let mut client = master.connect()?;
        client.set_patience(Duration::from_millis(200))?;
        let said = client.call(&["SET", "k", "3"])?;
        ensure!(said.text() == "OK" && standing["granted_epoch"] == "2", "{said:?} {standing:?}");
        Ok(())
    })?;
    ensure!(master.connect()?.call(&["GET", "k"])?.text() == "3");
    // And no older epoch any more.
    record.epoch = 1;
    let said = record.heartbeat(&master, 'm')?;
    ensure!(said.text() == "ERR grant refused: epoch 1 is older than 2", "{said:?}");
    Ok(())
}
