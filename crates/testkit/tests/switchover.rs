//! Planned switchovers behind the built-in balancer: clients see a pause, never an error, and every
//! command takes effect once.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::{PATIENCE, in_set, key_at, post, switch_over};
use testkit::cluster::{Cluster, Node, Options};
use testkit::wire::{Connection, Reply, answer_from, encode};
use testkit::{clients, process, wait};

/// Far above any stall: a client that waits longer has been forgotten.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// Client libraries end with their handle; this is for those that are left over.
const LONGEST: Duration = Duration::from_secs(900);

fn start() -> Result<Cluster> {
    Cluster::start(Options { shards: 1, ..Options::default() })
}

fn count(answer: &serde_json::Value, name: &str) -> u64 {
    answer[name].as_u64().unwrap_or(u64::MAX)
}

fn is(connection: &mut Connection, command: &[&str], expected: &str) -> Result<()> {
    let reply = connection.call(command)?;
    ensure!(reply.text() == expected, "{command:?}: {reply:?}, not {expected}");
    Ok(())
}

/// Its client has given no password.
fn is_nobodys(session: &mut Connection) -> Result<()> {
    let refused = session.call(&["GET", "k"])?.text();
    ensure!(refused.starts_with("NOAUTH"), "{refused}");
    Ok(())
}

/// Master and replica of the shard once the replica could take over.
fn pair(cluster: &Cluster) -> Result<(Node, Node)> {
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    in_set(cluster, &master, &replica)?;
    Ok((master, replica))
}

/// One that waits for a key waits at the new node and is served there; one that listens hears what
/// is said there.
#[test]
fn who_waits_and_who_listens_goes_on_at_the_new_node() -> Result<()> {
    let cluster = start()?;
    let (old, new) = pair(&cluster)?;
    let address = old.announced()?;
    let texts = |reply: Reply| reply.elements().iter().map(Reply::text).collect::<Vec<_>>();
    let mut blocked = Connection::open(address)?;
    blocked.send(&["BLPOP", "queue", "0"])?;
    wait::until("it waits at the node", PATIENCE, || {
        let info = cluster.peer(&old)?.call(&["INFO", "clients"])?.text();
        ensure!(info.contains("blocked_clients:1\r\n"), "{info}");
        Ok(())
    })?;
    let mut listening = Connection::open(address)?;
    for (command, told) in [("SUBSCRIBE", "subscribe"), ("SSUBSCRIBE", "ssubscribe")] {
        ensure!(texts(listening.call(&[command, "news"])?) == [told, "news", "1"], "{command}");
    }
    let mut asking = Connection::open(address)?;
    is(&mut asking, &["PING"], "PONG")?;
    let answer = switch_over(&cluster)?;
    ensure!(count(&answer, "moved") == 3 && count(&answer, "cut") == 0, "{answer}");
    is(&mut asking, &["CLUSTER", "MYID"], &new.id)?;
    is(&mut asking, &["RPUSH", "queue", "job"], "1")?;
    ensure!(texts(blocked.receive()?) == ["queue", "job"]);
    is(&mut asking, &["PUBLISH", "news", "a"], "1")?;
    is(&mut asking, &["SPUBLISH", "news", "b"], "1")?;
    ensure!(texts(listening.receive()?) == ["message", "news", "a"]);
    ensure!(texts(listening.receive()?) == ["smessage", "news", "b"]);
    Ok(())
}

#[test]
fn a_session_takes_everything_along() -> Result<()> {
    let cluster = start()?;
    let (old, new) = pair(&cluster)?;
    for node in [&old, &new] {
        is(&mut cluster.peer(node)?, &["CONFIG", "SET", "requirepass", "open"], "OK")?;
    }
    let address = old.announced()?;
    let login = |greeting: &[&str]| -> Result<Connection> {
        let mut connection = Connection::open(address)?;
        let reply = connection.call(greeting)?;
        ensure!(!matches!(reply, Reply::Error(_)), "{greeting:?}: {reply:?}");
        Ok(connection)
    };
    let mut named = login(&["HELLO", "3", "AUTH", "default", "open", "SETNAME", "worker-1"])?;
    is(&mut named, &["CLIENT", "SETINFO", "LIB-NAME", "mylib"], "OK")?;
    is(&mut named, &["SET", "k", "1"], "OK")?;
    let mut in_multi = login(&["AUTH", "open"])?;
    is(&mut in_multi, &["MULTI"], "OK")?;
    is(&mut in_multi, &["INCR", "k"], "QUEUED")?;
    is(&mut in_multi, &["INCR", "k"], "QUEUED")?;
    let mut watching = login(&["AUTH", "open"])?;
    is(&mut watching, &["WATCH", "k"], "OK")?;
    let mut half = login(&["AUTH", "open"])?;
    let command = encode(&["SET", "half", &"v".repeat(100_000)]);
    half.send_raw(&command[..50_000])?;
    let mut waits = login(&["AUTH", "open"])?;
    is(&mut waits, &["SET", "waits", "1"], "OK")?;
    waits.send(&["WAIT", "5", "3000"])?;
    let mut silent = login(&["AUTH", "open"])?;
    silent.send(&["CLIENT", "REPLY", "OFF"])?;
    let mut stranger = Connection::open(address)?;
    is_nobodys(&mut stranger)?;
    let mut reader = Connection::open(new.announced()?)?;
    is(&mut reader, &["AUTH", "open"], "OK")?;
    is(&mut reader, &["READONLY"], "OK")?;

    let answer = switch_over(&cluster)?;
    ensure!(count(&answer, "moved") == 8 && count(&answer, "cut") == 0, "{answer}");

    is(&mut named, &["CLUSTER", "MYID"], &new.id)?;
    is(&mut named, &["CLIENT", "GETNAME"], "worker-1")?;
    let info = named.call(&["CLIENT", "INFO"])?.text();
    ensure!(info.contains(" resp=3 lib-name=mylib "), "{info}");
    let nothing = named.call(&["GET", "none"])?;
    ensure!(nothing == Reply::Null, "RESP3 was not kept: {nothing:?}");
    let done = in_multi.call(&["EXEC"])?;
    ensure!(done.elements() == [Reply::Integer(2), Reply::Integer(3)], "{done:?}");
    // What happened to a watched key at the old node is not known at the new one.
    is(&mut watching, &["MULTI"], "OK")?;
    is(&mut watching, &["INCR", "k"], "QUEUED")?;
    ensure!(watching.call(&["EXEC"])? == Reply::NilArray);
    is(&mut watching, &["INCR", "k"], "4")?;
    half.send_raw(&command[50_000..])?;
    ensure!(half.receive()?.text() == "OK");
    ensure!(half.call(&["GET", "half"])?.text().len() == 100_000);
    ensure!(matches!(waits.receive()?, Reply::Integer(_)));
    silent.send(&["SET", "silent", "1"])?;
    silent.send(&["CLIENT", "REPLY", "ON"])?;
    ensure!(silent.receive()?.text() == "OK");
    is(&mut silent, &["GET", "silent"], "1")?;
    // A client that had given no password still has given none.
    is_nobodys(&mut stranger)?;
    // A reader of the replica goes to where the replica is now.
    is(&mut reader, &["CLUSTER", "MYID"], &old.id)?;
    wait::until("the new replica has it", PATIENCE, || {
        let reply = reader.call(&["GET", "k"]).map_err(|error| format!("{error:#}"))?;
        if reply.text() == "4" || matches!(reply, Reply::Error(_)) {
            Ok(reply)
        } else {
            Err(format!("{reply:?}"))
        }
    })
    .and_then(|reply| {
        ensure!(reply.text() == "4", "{reply:?}");
        Ok(())
    })
}

/// A header as a balancer sends it for a session that was elsewhere before, and behind it what is
/// to pass for its record.
fn moved_here(record: &[u8]) -> Vec<u8> {
    let mut value = b"holdfast-move\x01".to_vec();
    value.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
    let mut body = vec![10, 0, 0, 1, 10, 0, 0, 2, 0, 5, 0, 6, 0xe7, 0];
    body.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
    body.extend_from_slice(&value);
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0".to_vec();
    header.push(u8::try_from(body.len()).unwrap_or(u8::MAX));
    [header, body, record.to_vec()].concat()
}

/// From a balancer's own address, which no client has, but without the nodes' secret.
#[test]
fn a_forged_record_is_no_login() -> Result<()> {
    let cluster = start()?;
    let (node, _) = pair(&cluster)?;
    is(&mut cluster.peer(&node)?, &["CONFIG", "SET", "requirepass", "secret"], "OK")?;
    let folder = cluster.dir().join("nodes").join(node.port.to_string());
    let conf = std::fs::read_to_string(folder.join("node.conf")).context("read node.conf")?;
    let sources = conf.lines().find_map(|line| line.strip_prefix("balancer-sources "));
    let source = sources.and_then(|list| list.split('/').next()).context("find a source")?;
    let source: std::net::IpAddr = source.parse()?;
    let target = node.local()?;
    let dial = |bytes: &[u8]| answer_from(source, target, bytes, CLIENT_PATIENCE);
    let ping = encode(&["PING"]);
    let new = [moved_here(b""), ping.clone()].concat();
    ensure!(dial(&new)?.starts_with(b"-NOAUTH"), "a new session through this address");
    // Format 1, authenticated, nothing else; then 32 bytes that should be an HMAC.
    let mut plausible = vec![1, 1, 0];
    plausible.resize(3 + 32 + 20 + 32, 0);
    for record in [plausible, vec![0; 31], vec![0; 32], vec![0xff; 5_000]] {
        let answer = dial(&[moved_here(&record), ping.clone()].concat())?;
        ensure!(answer.is_empty(), "{} bytes: {}", record.len(), String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// A replica that does not catch up: writes waited for nothing, and nobody was disturbed otherwise.
#[test]
fn a_switchover_that_is_given_up_leaves_sessions_alone() -> Result<()> {
    let cluster = start()?;
    let (old, new) = pair(&cluster)?;
    let mut session = Connection::open(old.announced()?)?;
    session.set_patience(CLIENT_PATIENCE)?;
    let id = session.call(&["CLIENT", "ID"])?;
    process::signal(new.running()?, libc::SIGSTOP)?;
    let mut writer = Connection::open(old.announced()?)?;
    writer.set_patience(CLIENT_PATIENCE)?;
    // Now the replica is behind.
    writer.send(&["SET", "k", "1"])?;
    let url = cluster.state()?.controller.url;
    let url = format!("{url}/api/v1/namespaces/local/clusters/main/shards/0/failover");
    let body = serde_json::json!({ "options": { "sync_timeout_ms": 200 } });
    let (status, answer) = post(&url, body)?;
    process::signal(new.running()?, libc::SIGCONT)?;
    ensure!(status != 200, "{answer}");
    ensure!(writer.receive()?.text() == "OK");
    is(&mut session, &["SET", "k", "2"], "OK")?;
    ensure!(session.call(&["CLIENT", "ID"])? == id, "the session was moved");
    Ok(())
}

/// What the load has done so far, and the longest any client waited.
#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    done: AtomicU64,
    longest_us: AtomicU64,
}

impl Load {
    /// Repeats `turn` until it is told to stop or fails.
    fn run(
        self: &Arc<Self>,
        what: String,
        mut turn: impl FnMut() -> Result<u64> + Send + 'static,
    ) -> JoinHandle<Result<()>> {
        let load = Arc::clone(self);
        std::thread::spawn(move || {
            while !load.stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let count = turn().with_context(|| what.clone())?;
                let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                load.longest_us.fetch_max(took, Ordering::Relaxed);
                load.done.fetch_add(count, Ordering::Relaxed);
            }
            Ok(())
        })
    }
}

fn open(address: SocketAddr) -> Result<Connection> {
    let mut connection = Connection::open(address)?;
    connection.set_patience(CLIENT_PATIENCE).map(|()| connection)
}

/// The replies of a pipeline.
/// One that its node has answered: a switchover finds it there to be moved.
fn session(address: SocketAddr) -> Result<Connection> {
    let mut connection = open(address)?;
    is(&mut connection, &["PING"], "PONG").map(|()| connection)
}

fn pipeline(connection: &mut Connection, commands: &[Vec<u8>]) -> Result<Vec<Reply>> {
    connection.send_raw(&commands.concat())?;
    commands.iter().map(|_| connection.receive()).collect()
}

/// Increments its own counter, many at once: nobody else does, so the replies follow each other
/// without a gap or a repetition.
fn writer(address: SocketAddr, key: String) -> Result<impl FnMut() -> Result<u64> + Send> {
    const AT_ONCE: i64 = 16;
    let mut connection = session(address)?;
    let commands: Vec<Vec<u8>> = (0..AT_ONCE).map(|_| encode(&["INCR", &key])).collect();
    let mut last = 0;
    Ok(move || {
        for reply in pipeline(&mut connection, &commands)? {
            ensure!(reply == Reply::Integer(last + 1), "after {last}: {reply:?}");
            last += 1;
        }
        Ok(AT_ONCE as u64)
    })
}

/// Two counters in one transaction: they never differ.
fn transactions(address: SocketAddr, key: String) -> Result<impl FnMut() -> Result<u64> + Send> {
    let mut connection = session(address)?;
    let (one, other) = (format!("{key}:a"), format!("{key}:b"));
    let commands =
        [encode(&["MULTI"]), encode(&["INCR", &one]), encode(&["INCR", &other]), encode(&["EXEC"])];
    let mut last = 0;
    Ok(move || {
        let replies = pipeline(&mut connection, &commands)?;
        last += 1;
        let done = replies.last().map(Reply::elements).unwrap_or_default();
        ensure!(done == [Reply::Integer(last), Reply::Integer(last)], "{last}: {replies:?}");
        Ok(2)
    })
}

/// Reads a writer's counter, which never goes back.
fn reader(address: SocketAddr, key: String) -> Result<impl FnMut() -> Result<u64> + Send> {
    let mut connection = session(address)?;
    let command = encode(&["GET", &key]);
    let mut last = 0;
    Ok(move || {
        for reply in pipeline(&mut connection, &[command.clone(), command.clone()])? {
            let value: i64 = match reply {
                Reply::NilBulk => 0,
                Reply::Bulk(_) => reply.text().parse()?,
                other => anyhow::bail!("{other:?}"),
            };
            ensure!(value >= last, "{value} after {last}");
            last = value;
        }
        Ok(2)
    })
}

/// Reads at the replica, whoever that is. It may lag behind, but answers.
fn replica_reader(address: SocketAddr, key: String) -> Result<impl FnMut() -> Result<u64> + Send> {
    let mut connection = open(address)?;
    is(&mut connection, &["READONLY"], "OK")?;
    Ok(move || {
        let reply = connection.call(&["GET", &key])?;
        ensure!(matches!(reply, Reply::Bulk(_) | Reply::NilBulk), "{reply:?}");
        Ok(1)
    })
}

/// A new connection each time.
fn newcomer(address: SocketAddr, key: String) -> impl FnMut() -> Result<u64> + Send {
    let mut last = 0;
    move || {
        last += 1;
        is(&mut open(address)?, &["INCR", &key], &last.to_string()).map(|()| 1)
    }
}

/// Sends `commands`, ends its side, and reads to the end.
fn half_closing(address: SocketAddr, commands: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, CLIENT_PATIENCE)?;
    stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
    stream.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let mut sender = stream.try_clone()?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            sender.write_all(commands)?;
            sender.shutdown(Shutdown::Write)
        });
        let mut answers = String::new();
        let read = stream.read_to_string(&mut answers);
        sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?.context("send")?;
        read.with_context(|| format!("read behind {} bytes", answers.len()))?;
        Ok(answers)
    })
}

fn integers(answers: &str) -> Result<Vec<i64>> {
    let lines = answers.split_terminator("\r\n");
    lines
        .map(|line| line.trim_start_matches(':').parse().with_context(|| line.to_owned()))
        .collect()
}

/// Ends its side behind every pipeline: all of it counts and is answered.
fn half_closer(address: SocketAddr, key: String) -> impl FnMut() -> Result<u64> + Send {
    const AT_ONCE: i64 = 200;
    let increments = encode(&["INCR", &key]).repeat(AT_ONCE as usize);
    let commands = [increments, encode(&["DBSIZE"]), encode(&["INCR", &key])].concat();
    let mut last = 0;
    move || {
        let mut answers = integers(&half_closing(address, &commands)?)?;
        ensure!(answers.len() == AT_ONCE as usize + 2, "after {last}: {answers:?}");
        answers.remove(AT_ONCE as usize);
        let expected: Vec<i64> = (last + 1..=last + AT_ONCE + 1).collect();
        ensure!(answers == expected, "after {last}: {answers:?}");
        last += AT_ONCE + 1;
        Ok(AT_ONCE as u64 + 2)
    }
}

#[test]
fn a_client_that_ends_its_side_gets_every_answer() -> Result<()> {
    // More than a record holds, and than a node keeps of replies.
    const MANY: i64 = 60_000;
    let cluster = start()?;
    let (master, _) = pair(&cluster)?;
    let address = master.announced()?;
    let key = key_at(address)?;
    ensure!(!half_closing(address, &encode(&["DBSIZE"]))?.is_empty());
    let increments = encode(&["INCR", &key]).repeat(MANY as usize);
    let wait = encode(&["WAIT", "1", "5000"]);
    let commands = [increments, wait, encode(&["DBSIZE"])].concat();
    let answers = integers(&half_closing(address, &commands)?)?;
    let (counted, rest) = answers.split_at_checked(MANY as usize).context("too few answers")?;
    ensure!(counted.iter().copied().eq(1..=MANY), "{:?} at the end", counted.last());
    ensure!(matches!(rest, [1, keys] if *keys >= 1), "{rest:?}");
    Ok(())
}

#[test]
fn twenty_switchovers_under_load_without_a_client_error() -> Result<()> {
    const SWITCHOVERS: u32 = 20;
    let cluster = start()?;
    let (master, replica) = pair(&cluster)?;
    let address = master.announced()?;
    let key = key_at(address)?;
    let (load, at_replica) = (Arc::new(Load::default()), Arc::new(Load::default()));
    let mut threads = Vec::new();
    for number in 0..8 {
        let counter = format!("{{{key}}}:{number}");
        threads.push(load.run(format!("writer {number}"), writer(address, counter.clone())?));
        threads.push(load.run(format!("reader {number}"), reader(address, counter)?));
    }
    let pairs = format!("{{{key}}}:pair");
    threads.push(load.run("transactions".into(), transactions(address, pairs)?));
    let new = format!("{{{key}}}:new");
    threads.push(load.run("newcomer".into(), newcomer(address, new)));
    let half = format!("{{{key}}}:half");
    threads.push(load.run("half-closing".into(), half_closer(address, half)));
    let counter = format!("{{{key}}}:0");
    let reader = replica_reader(replica.announced()?, counter)?;
    threads.push(at_replica.run("reader of the replica".into(), reader));

    let (mut moved, mut stalls) = (0, Vec::new());
    for round in 0..SWITCHOVERS {
        // Something is done between any two of them.
        let before = load.done.load(Ordering::Relaxed);
        wait::until("the load goes on", PATIENCE, || {
            let done = load.done.load(Ordering::Relaxed);
            let is_over = threads.iter().any(JoinHandle::is_finished);
            if done > before + 500 || is_over { Ok(()) } else { Err(done) }
        })?;
        if threads.iter().any(JoinHandle::is_finished) {
            break;
        }
        let answer = switch_over(&cluster)?;
        ensure!(count(&answer, "cut") == 0, "round {round}: {answer}\n{}", cluster.logs());
        moved += count(&answer, "moved");
        stalls.push(count(&answer, "stall_ms"));
    }
    load.stop.store(true, Ordering::Relaxed);
    at_replica.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        let ended = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        ended.with_context(|| cluster.logs())?;
    }
    let longest_ms = |load: &Load| load.longest_us.load(Ordering::Relaxed) / 1_000;
    println!(
        "{} operations, {moved} sessions moved; stalls {stalls:?} ms, longest wait of a client {} ms, at the replica {} ms",
        load.done.load(Ordering::Relaxed),
        longest_ms(&load),
        longest_ms(&at_replica)
    );
    ensure!(stalls.len() == 20 && moved >= 18 * u64::from(SWITCHOVERS), "{moved}: {stalls:?}");
    Ok(())
}

#[test]
fn client_libraries_see_no_error() -> Result<()> {
    let cluster = start()?;
    let (master, _) = pair(&cluster)?;
    let start = master.announced()?;
    let folder = tempfile::tempdir().context("create a folder")?;
    let mut running = clients::installed()?
        .iter()
        .filter(|client| ["redis-crate", "redis-py"].contains(&client.name))
        .map(|client| client.start(start, 30, LONGEST, folder.path()))
        .collect::<Result<Vec<_>>>()?;
    ensure!(!running.is_empty());
    let more_passes = |client: &mut clients::Running, count: usize| {
        wait::until("a pass", PATIENCE, || {
            let passes = client.passes()?;
            ensure!(passes.len() >= count, "{}: {passes:?}\n{}", client.name, client.said());
            Ok(passes)
        })
    };
    for _ in 0..5 {
        for client in &mut running {
            let count = client.passes()?.len();
            more_passes(client, count + 2)?;
        }
        let answer = switch_over(&cluster)?;
        ensure!(count(&answer, "cut") == 0, "{answer}\n{}", cluster.logs());
    }
    for client in &mut running {
        let count = client.passes()?.len();
        let passes = more_passes(client, count + 2)?;
        ensure!(
            passes.iter().all(|errors| *errors == 0),
            "{}: {passes:?}\n{}",
            client.name,
            client.said()
        );
    }
    Ok(())
}

/// Goes on counting as a client that reconnects; the longest time between two answers, in ms.
fn returning_writer(
    address: SocketAddr,
    key: String,
    gap_ms: Arc<AtomicU64>,
) -> impl FnMut() -> Result<u64> + Send {
    let mut connection = None;
    let (mut sent, mut acknowledged) = (0_i64, 0_i64);
    let mut last = Instant::now();
    move || {
        let open = match &mut connection {
            Some(open) => open,
            none => match open(address) {
                Ok(open) => none.insert(open),
                Err(_) => return Ok(0),
            },
        };
        sent += 1;
        match open.call(&["INCR", &key]) {
            Ok(Reply::Integer(value)) => {
                // What was sent and not answered may have been done.
                ensure!((acknowledged + 1..=sent).contains(&value), "{value} after {acknowledged}");
                (sent, acknowledged) = (value, value);
                let gap = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
                gap_ms.fetch_max(gap, Ordering::Relaxed);
                last = Instant::now();
                Ok(1)
            }
            Ok(other) => anyhow::bail!("{other:?}"),
            Err(_) => {
                connection = None;
                Ok(0)
            }
        }
    }
}

/// SIGTERM for the master, and what the shard looks like afterwards.
fn stop_master(cluster: &Cluster, load: &Load) -> Result<Duration> {
    let (old, new) = pair(cluster)?;
    // On a busy machine nobody may be ready to take over for longer than it waits by default.
    let wait_for_long = ["CONFIG", "SET", "handover-timeout-ms", "600000"];
    is(&mut cluster.peer(&old)?, &wait_for_long, "OK")?;
    let begun = Instant::now();
    process::signal(old.running()?, libc::SIGTERM)?;
    cluster.await_that("its process ends as a replica", 2 * PATIENCE, |state| {
        state.nodes.iter().all(|node| match node.id == old.id {
            true => node.pid != old.pid && node.role == "replica",
            false => node.id != new.id || node.role == "master",
        })
    })?;
    let took = begun.elapsed();
    let log = std::fs::read_to_string(cluster.dir().join(format!("logs/node-{}.log", old.port)))?;
    ensure!(log.contains("it is a replica, and its controller knows"), "{log}");
    cluster.await_return(&old, PATIENCE)?;
    let before = load.done.load(Ordering::Relaxed);
    wait::until("the load goes on", PATIENCE, || {
        let done = load.done.load(Ordering::Relaxed);
        if done > before + 200 { Ok(()) } else { Err(done) }
    })?;
    Ok(took)
}

/// Each node of a shard stopped and started in turn, under load at the master.
#[test]
fn a_master_that_is_stopped_hands_over_and_no_client_sees_an_error() -> Result<()> {
    let cluster = start()?;
    let (master, _) = pair(&cluster)?;
    let address = master.announced()?;
    let key = key_at(address)?;
    let load = Arc::new(Load::default());
    let mut threads = Vec::new();
    for number in 0..4 {
        let counter = format!("{{{key}}}:{number}");
        threads.push(load.run(format!("writer {number}"), writer(address, counter.clone())?));
        threads.push(load.run(format!("reader {number}"), reader(address, counter)?));
    }
    let new = format!("{{{key}}}:new");
    threads.push(load.run("newcomer".into(), newcomer(address, new)));
    let mut took = Vec::new();
    for _ in 0..4 {
        took.push(stop_master(&cluster, &load)?);
    }
    load.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        let ended = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        ended.with_context(|| cluster.logs())?;
    }
    let longest_ms = load.longest_us.load(Ordering::Relaxed) / 1_000;
    let done = load.done.load(Ordering::Relaxed);
    println!(
        "{done} operations; the stops took {took:?}; longest wait of a client {longest_ms} ms"
    );
    Ok(())
}

#[test]
fn behind_haproxy_a_stop_cuts_connections_and_loses_no_write() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, balancer: "haproxy", ..Options::default() })?;
    let (master, _) = pair(&cluster)?;
    let address = master.announced()?;
    let key = key_at(address)?;
    let load = Arc::new(Load::default());
    let gap_ms = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let counter = format!("{{{key}}}:{number}");
            let turn = returning_writer(address, counter, Arc::clone(&gap_ms));
            load.run(format!("writer {number}"), turn)
        })
        .collect();
    let took = stop_master(&cluster, &load)?;
    load.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        let ended = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        ended.with_context(|| cluster.logs())?;
    }
    let gap_ms = gap_ms.load(Ordering::Relaxed);
    println!("the stop took {took:?}, without a write were {gap_ms} ms");
    // What nobody cuts is given up by its client once its patience is over.
    let gap = Duration::from_millis(gap_ms);
    ensure!(gap < CLIENT_PATIENCE, "{gap:?}: a client was left waiting");
    Ok(())
}

/// The replica goes first; the master serves until its patience is over, and nothing is lost.
#[test]
fn a_shard_that_is_stopped_as_a_whole_ends_with_its_master() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, restart: false, ..Options::default() })?;
    let (master, replica) = pair(&cluster)?;
    let key = key_at(master.announced()?)?;
    for node in [&replica, &master] {
        process::signal(node.running()?, libc::SIGTERM)?;
    }
    cluster.await_that("the replica has ended", PATIENCE, |state| {
        state.nodes.iter().all(|node| node.pid.is_some() == (node.id == master.id))
    })?;
    common::write_until_ok(master.announced()?, &key, "late")?;
    cluster.await_that("the master has ended too", PATIENCE, |state| {
        state.nodes.iter().all(|node| node.pid.is_none())
    })?;
    let log = cluster.dir().join(format!("logs/node-{}.log", master.port));
    let log = std::fs::read_to_string(log)?;
    ensure!(log.contains("nobody has taken over in time"), "{log}");
    Ok(())
}

/// Somebody who cannot wait for a successor says it twice.
#[test]
fn a_second_signal_ends_a_master_that_nobody_can_take_over_from() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, restart: false, ..Options::default() })?;
    let (master, replica) = pair(&cluster)?;
    is(&mut cluster.peer(&master)?, &["CONFIG", "SET", "handover-timeout-ms", "600000"], "OK")?;
    process::signal(replica.running()?, libc::SIGTERM)?;
    cluster.await_that("the replica has ended", PATIENCE, |state| {
        state.nodes.iter().all(|node| node.pid.is_some() == (node.id == master.id))
    })?;
    let log = cluster.dir().join(format!("logs/node-{}.log", master.port));
    let says = |text: &str| -> Result<()> {
        let log = std::fs::read_to_string(&log)?;
        ensure!(log.contains(text), "{text}: {log}");
        Ok(())
    };
    let pid = master.running()?;
    process::signal(pid, libc::SIGTERM)?;
    wait::until("it waits to be rid of its role", PATIENCE, || {
        says("a second signal ends this one")
    })?;
    process::signal(pid, libc::SIGINT)?;
    cluster.await_that("the master has ended too", PATIENCE, |state| {
        state.nodes.iter().all(|node| node.pid.is_none())
    })?;
    says("SIGINT again: stopping at once")?;
    says("stopped")?;
    ensure!(says("the wait is over").is_err(), "it ended by itself");
    Ok(())
}
