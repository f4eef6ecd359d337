//! Kvrocks' own slot migration: recordings of a real one played against a node as its source and as
//! its destination, and slots with keys of every type that go from one node to another while a
//! client writes.

#[path = "migration/capture.rs"]
mod capture;
mod common;
#[path = "migration/pair.rs"]
mod pair;
#[path = "migration/target.rs"]
mod target;

use std::collections::BTreeMap;
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use testkit::process::Server;
use testkit::wait;
use testkit::wire::{Connection, Reply};

use common::PATIENCE;
use target::{Conduct, Target};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// That of the tag `{T}`, which all keys of the recordings have.
const SLOT: &str = "6769";
const RAW: &str = include_str!("../testdata/kvrocks/migration_raw_key_value.txt");
const COMMANDS: &str = include_str!("../testdata/kvrocks/migration_redis_command.txt");
const ON_GROUP: &str =
    include_str!("../testdata/kvrocks/migration_redis_command_fails_on_group.txt");
const FOREIGN: &str =
    include_str!("../testdata/kvrocks/migration_redis_command_foreign_stream.txt");
/// Where the recorded source was.
const RECORDED_PORT: u16 = 27_631;

fn ok(connection: &mut Connection, words: &[&str]) -> Result<()> {
    let reply = connection.call(words)?;
    ensure!(reply == Reply::Simple(b"OK".to_vec()), "{words:?}: {reply:?}");
    Ok(())
}

/// The second of two nodes; the other one, of the lower slots or of the given ones, is at that
/// port.
fn node(mine: &str, theirs: &str, port: u16, lines: &str) -> Result<(Server, Connection)> {
    let server = Server::node(&format!("cluster-enabled yes\n{lines}"))?;
    let mut connection = server.connect()?;
    if lines.contains("requirepass") {
        ok(&mut connection, &["AUTH", "clusterpw"])?;
    }
    ok(&mut connection, &["CLUSTERX", "SETNODEID", B])?;
    topology(&mut connection, (mine, server.address.port()), (theirs, port), "1")?;
    Ok((server, connection))
}

fn topology(
    connection: &mut Connection,
    (mine, port): (&str, u16),
    (theirs, other): (&str, u16),
    version: &str,
) -> Result<()> {
    let nodes =
        format!("{B} 127.0.0.1 {port} master - {mine}\n{A} 127.0.0.1 {other} master - {theirs}");
    ok(connection, &["CLUSTERX", "SETNODES", &nodes, version])
}

fn info(connection: &mut Connection) -> Result<String> {
    Ok(connection.call(&["CLUSTER", "INFO"])?.text())
}

/// Plays the source's part of a recording; the answers must be those of the destination.
fn play(server: &Server, recording: &str) -> Result<()> {
    let mut connection = server.connect()?;
    for exchange in capture::read(recording)? {
        connection.send_raw(&exchange.requests.concat())?;
        if exchange.requests.iter().any(|request| request.ends_with(b"applybatch\r\n")) {
            // It is known, that is all the source looks at.
            let known = connection.receive()?;
            ensure!(!known.elements().is_empty() && !known.elements()[0].elements().is_empty());
            continue;
        }
        let answer = connection.receive_raw(exchange.answer.len())?;
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        ensure!(
            answer == exchange.answer,
            "to {}: {} and not {}",
            shown(&exchange.requests.concat()),
            shown(&answer),
            shown(&exchange.answer)
        );
    }
    Ok(())
}

#[test]
fn a_kvrocks_gives_slots_to_a_node() -> Result<()> {
    // One of the recorded keys has ended since.
    for (recording, keys, score, renamed) in
        [(COMMANDS, 89 - 1, "0.123457", ""), (RAW, 83 - 1, "0.123456789", "1")]
    {
        let (server, mut connection) =
            node("8192-16383", "0-8191", RECORDED_PORT, "requirepass clusterpw")?;
        // Left over from an import that failed once.
        let moved = format!("MOVED {SLOT} 127.0.0.1:{RECORDED_PORT}");
        ensure!(connection.call(&["GET", "{T}wal:s"])?.text() == moved);
        play(&server, recording)?;
        let said = info(&mut connection)?;
        ensure!(
            said.ends_with(&format!("importing_slot(s): {SLOT}\r\nimport_state: success\r\n")),
            "{said}"
        );
        let mut expect = |words: &[&str], expected: &str| -> Result<()> {
            let reply = connection.call(words)?;
            ensure!(reply.text() == expected, "{words:?}: {reply:?}");
            Ok(())
        };
        expect(&["CLUSTER", "COUNTKEYSINSLOT", SLOT], &keys.to_string())?;
        expect(&["GET", "{T}wal:s"], "vx")?;
        expect(&["PEXPIRETIME", "{T}wal:s"], "4102444800123")?;
        expect(&["ZSCORE", "{T}wal:z", "m"], score)?;
        expect(&["ZSCORE", "{T}m:zset", "pi"], "3.1415926535897931")?;
        expect(&["HGET", "{T}m:hash", "f1"], "v1")?;
        expect(&["LRANGE", "{T}wal:l", "0", "-1"], "")?;
        expect(&["LINDEX", "{T}wal:l2", "0"], "a")?;
        expect(&["GETBIT", "{T}wal:bm", "9"], "1")?;
        expect(&["GET", "{T}wal:renamed"], renamed)?;
        ok(&mut connection, &["SET", "{T}wal:s", "written here"])?;
        let mine = ("6769 8192-16383", server.address.port());
        topology(&mut connection, mine, ("0-6768 6770-8191", RECORDED_PORT), "2")?;
        ensure!(connection.call(&["GET", "{T}wal:s"])?.text() == "written here");
    }
    Ok(())
}

#[test]
fn what_a_kvrocks_does_not_finish_is_deleted() -> Result<()> {
    for (recording, is_cut) in [(ON_GROUP, false), (FOREIGN, false), (COMMANDS, true)] {
        let (server, mut connection) =
            node("8192-16383", "0-8191", RECORDED_PORT, "requirepass clusterpw")?;
        if is_cut {
            let end = recording.find("# 1.518").context("the middle")?;
            play(&server, &recording[..end])?;
        } else {
            play(&server, recording)?;
        }
        wait::until("the import to be over", PATIENCE, || {
            let said = info(&mut connection)?;
            ensure!(
                said.ends_with(&format!("importing_slot(s): {SLOT}\r\nimport_state: error\r\n")),
                "{said}"
            );
            let left = connection.call(&["CLUSTER", "COUNTKEYSINSLOT", SLOT])?;
            ensure!(left == Reply::Integer(0), "{left:?}");
            Ok(())
        })?;
        let moved = connection.call(&["GET", "{T}m:hash"])?.text();
        ensure!(moved == format!("MOVED {SLOT} 127.0.0.1:{RECORDED_PORT}"), "{moved}");
    }
    Ok(())
}

/// A node that has what a recording brought, and the slots up to 8191 with it, beside a target.
fn filled(recording: &str, target: &Target, lines: &str) -> Result<(Server, Connection)> {
    let lines = format!("requirepass clusterpw\nmigrate-pipeline-size 4\nmigrate-speed 0\n{lines}");
    let (server, mut connection) = node("8192-16383", "0-8191", RECORDED_PORT, &lines)?;
    play(&server, recording)?;
    let mine = ("0-16382", server.address.port());
    topology(&mut connection, mine, ("16383", target.port), "2")?;
    Ok((server, connection))
}

/// Whether a request is about a key that the recorded client wrote during the migration.
fn is_late(request: &[Vec<u8>]) -> bool {
    request.get(1).is_some_and(|key| key.starts_with(b"{T}wal:"))
}

#[test]
fn a_node_sends_the_commands_that_a_kvrocks_sends() -> Result<()> {
    let target = Target::start(Conduct::Takes, false)?;
    let (_server, mut connection) = filled(COMMANDS, &target, "migrate-type redis-command")?;
    // What was deleted during the recorded migration.
    ok(&mut connection, &["SET", "{T}m:str", "iello"])?;
    ok(&mut connection, &["CLUSTERX", "MIGRATE", SLOT, A, "SYNC"])?;
    let recorded: Vec<Vec<Vec<u8>>> = capture::read(COMMANDS)?
        .iter()
        .flat_map(|exchange| &exchange.requests)
        .map(|request| capture::words(request))
        .collect::<Result<_>>()?;
    let is_deletion = |words: &[Vec<u8>]| words[0] == b"DEL";
    let expected: Vec<_> =
        recorded.into_iter().filter(|words| !is_late(words) && !is_deletion(words)).collect();
    let sent: Vec<_> = target.requests().into_iter().filter(|words| !is_late(words)).collect();
    for (sent, expected) in sent.iter().zip(&expected) {
        let shown = |words: &[Vec<u8>]| words.join(&b' ').escape_ascii().to_string();
        ensure!(sent == expected, "{} and not {}", shown(sent), shown(expected));
    }
    ensure!(sent.len() == expected.len() && sent.len() > 140, "{} requests", sent.len());
    let said = info(&mut connection)?;
    let shown = format!(
        "migrating_slot(s): {SLOT}\r\ndestination_node: {A}\r\nmigrating_state: success\r\n"
    );
    ensure!(said.contains(&shown), "{said}");
    given(&mut connection, target.port)
}

/// After a migration that succeeded: MOVED, no second one, and the keys go with the new topology.
fn given(connection: &mut Connection, port: u16) -> Result<()> {
    let moved = connection.call(&["SET", "{T}m:str", "x"])?.text();
    ensure!(moved == format!("MOVED {SLOT} 127.0.0.1:{port}"), "{moved}");
    let again = connection.call(&["CLUSTERX", "MIGRATE", "6760-6770", A])?.text();
    ensure!(again == "ERR Can't migrate slot which has been migrated", "{again}");
    ok(connection, &["CLUSTERX", "SETSLOT", SLOT, "NODE", A, "3"])?;
    let left = connection.call(&["CLUSTER", "COUNTKEYSINSLOT", SLOT])?;
    ensure!(left == Reply::Integer(0), "{left:?}");
    let said = info(connection)?;
    ensure!(!said.contains("migrating"), "{said}");
    Ok(())
}

#[test]
fn a_node_sends_the_records_that_a_kvrocks_sends() -> Result<()> {
    let target = Target::start(Conduct::Takes, true)?;
    let (_server, mut connection) = filled(RAW, &target, "migrate-batch-size-kb 1")?;
    ok(&mut connection, &["CLUSTERX", "MIGRATE", SLOT, A, "SYNC", "30"])?;
    let batches = |requests: &[Vec<Vec<u8>>]| -> Result<Vec<capture::Record>> {
        let batches = requests.iter().filter(|words| words[0] == b"APPLYBATCH");
        let records: Vec<_> =
            batches.map(|words| capture::records(&words[1])).collect::<Result<_>>()?;
        Ok(records.concat())
    };
    let recorded: Vec<Vec<Vec<u8>>> = capture::read(RAW)?
        .iter()
        .flat_map(|exchange| &exchange.requests)
        .map(|request| capture::words(request))
        .collect::<Result<_>>()?;
    // Keys that no record of the log touched are as they were when the recorded migration began.
    let is_still = |record: &capture::Record| {
        let text = record.1.escape_ascii().to_string();
        !text.contains("{T}wal:") && !text.ends_with("{T}m:str")
    };
    let still = |records: Vec<capture::Record>| -> Vec<capture::Record> {
        records.into_iter().filter(is_still).collect()
    };
    let (sent, expected) = (still(batches(&target.requests())?), still(batches(&recorded)?));
    for (sent, expected) in sent.iter().zip(&expected) {
        ensure!(
            sent == expected,
            "{:?} and not {:?}",
            sent.1.escape_ascii().to_string(),
            expected.1.escape_ascii().to_string()
        );
    }
    ensure!(sent.len() == expected.len() && sent.len() > 150, "{} records", sent.len());
    let longest = target.requests().iter().filter_map(|words| words.get(1).map(Vec::len)).max();
    ensure!(longest < Some(70_000), "a batch of {longest:?} bytes where 1 KiB is the limit");
    given(&mut connection, target.port)
}

/// Slots stay where they are, also for writers.
fn kept(connection: &mut Connection) -> Result<()> {
    let said = info(connection)?;
    let shown =
        format!("migrating_slot(s): {SLOT}\r\ndestination_node: {A}\r\nmigrating_state: fail\r\n");
    ensure!(said.contains(&shown), "{said}");
    ok(connection, &["SET", "{T}m:str", "written"])?;
    ensure!(connection.call(&["HLEN", "{T}m:bulk1"])? == Reply::Integer(18));
    Ok(())
}

#[test]
fn what_fails_leaves_the_slots_with_the_source() -> Result<()> {
    for (conduct, why) in [
        (Conduct::Refuses, "not today"),
        (Conduct::Dies(20), "the target"),
        (Conduct::Forgets("error"), "has not taken over"),
    ] {
        let target = Target::start(conduct, true)?;
        let (_server, mut connection) = filled(COMMANDS, &target, "migrate-type redis-command")?;
        let said = connection.call(&["CLUSTERX", "MIGRATE", SLOT, A, "SYNC"])?.text();
        ensure!(said.starts_with("ERR ") && said.contains(why), "{conduct:?}: {said}");
        kept(&mut connection)?;
        if conduct == Conduct::Refuses {
            // Its client is answered first.
            wait::until("the target to be told", PATIENCE, || {
                let last = target.requests().last().cloned().unwrap_or_default();
                ensure!(last.get(3).is_some_and(|state| state == b"2"), "{last:?}");
                Ok(())
            })?;
        }
        // It may be tried again, to a target that is not there any more.
        if conduct == Conduct::Dies(20) {
            wait::until("the target to be gone", PATIENCE, || {
                ensure!(TcpStream::connect(("127.0.0.1", target.port)).is_err(), "it listens");
                Ok(())
            })?;
            let said = connection.call(&["CLUSTERX", "MIGRATE", SLOT, A, "SYNC"])?.text();
            let at =
                format!("cannot reach the target at its local address 127.0.0.1:{}", target.port);
            ensure!(said.contains(&at), "{said}");
            kept(&mut connection)?;
        }
    }
    Ok(())
}

#[test]
fn a_lost_answer_is_asked_for() -> Result<()> {
    let target = Target::start(Conduct::Forgets("success"), true)?;
    let (_server, mut connection) = filled(COMMANDS, &target, "")?;
    ok(&mut connection, &["CLUSTERX", "MIGRATE", SLOT, A, "SYNC"])?;
    given(&mut connection, target.port)?;
    // As long as nobody knows, nobody writes; a topology decides.
    let target = Target::start(Conduct::Forgets("start"), true)?;
    let (server, mut connection) = filled(COMMANDS, &target, "")?;
    let nothing = connection.call(&["CLUSTERX", "MIGRATE", SLOT, A, "SYNC", "2"])?;
    ensure!(nothing == Reply::NilBulk, "{nothing:?}");
    wait::until("the target to be told", PATIENCE, || {
        let requests = target.requests();
        let is_import = |word: &Vec<u8>| word.eq_ignore_ascii_case(b"import");
        let is_end = |words: &Vec<Vec<u8>>| words.get(3).is_some_and(|state| state == b"1");
        let mut imports = requests.iter().filter(|words| words.get(1).is_some_and(is_import));
        ensure!(imports.any(is_end), "{} requests", requests.len());
        Ok(())
    })?;
    let said = connection.call(&["SET", "{T}m:str", "x"])?.text();
    ensure!(said.starts_with("TRYAGAIN Can't write to slot being migrated"), "{said}");
    ensure!(connection.call(&["GET", "{T}m:str"])? == Reply::NilBulk);
    ensure!(info(&mut connection)?.contains("migrating_state: start"));
    let busy = connection.call(&["CLUSTERX", "MIGRATE", "1", A])?.text();
    ensure!(busy == "ERR There is already a migrating job", "{busy}");
    let mine = ("0-16382", server.address.port());
    topology(&mut connection, mine, ("16383", target.port), "3")?;
    wait::until("writes to be taken", PATIENCE, || ok(&mut connection, &["SET", "{T}m:str", "x"]))?;
    kept(&mut connection)
}

#[test]
fn keys_of_every_type_go_while_a_client_writes() -> Result<()> {
    let mut seen = BTreeMap::new();
    for method in ["redis-command", "raw-key-value"] {
        let mut moved = pair::migrate(method)?;
        // A client that gets no processor meanwhile has not written: then once more.
        for _ in 0..5 {
            if moved.during <= 20 {
                moved = pair::migrate(method)?;
            }
        }
        ensure!(moved.during > 20, "{method}: {} writes during the migration", moved.during);
        seen.insert(method, moved.keys);
    }
    ensure!(seen.values().all(|keys| *keys > 30), "{seen:?}");
    Ok(())
}
