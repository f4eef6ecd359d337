//! What others do to an HAProxy, and what one says that is not as ever.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use balancer::haproxy::{RuntimeAddress, backend_name};
use balancer::{Driver, Error, Haproxy, HaproxyConfig};
use common::instance::Instance;
use common::{Client, Node, PATIENCE, desired, free_endpoint};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use topology::Endpoint;

/// An operator drains a server, or takes its weight: `show servers state` has it in service, and it
/// gets no client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_somebody_drains_is_told_of_and_serves_again() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = instance.driver();
    let state = desired(1, 1, &[(&listen, Some(&a))]);
    assert!(driver.apply(&state).await.unwrap().errors.is_empty());
    let mut client = Client::connect(&listen).await.unwrap();
    let server = format!("{}/t1.1-{}", backend_name(&listen), a.id);
    for word in ["state drain", "weight 0"] {
        let said = instance.by_hand(&format!("set server {server} {word}")).await;
        assert_eq!(said.trim(), "", "{word}");
        assert!(Client::connect(&listen).await.is_err(), "{word}");
        let seen = driver.observe().await.unwrap();
        assert!(!seen.fenced(&a.id), "its session goes on: {seen:?}");
        assert_eq!(seen.errors.len(), 1, "{word}: {seen:?}");
        let applied = driver.apply(&state).await.unwrap();
        assert!(applied.matches(&state) && applied.errors.is_empty(), "{word}: {applied:?}");
        Client::connect(&listen).await.unwrap();
        client.echo("still here").await.unwrap();
    }
}

/// As after maintenance, when somebody enables all servers that there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marker_that_somebody_enables_is_put_out_of_service() {
    let listen = free_endpoint();
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = instance.driver();
    let state = desired(1, 1, &[(&listen, None)]);
    driver.apply(&state).await.unwrap();
    let marker = format!("{}/t1", backend_name(&listen));
    assert_eq!(instance.by_hand(&format!("set server {marker} state ready")).await.trim(), "");
    assert!(driver.observe().await.unwrap().uncertain.is_some());
    let applied = driver.apply(&state).await.unwrap();
    assert!(applied.uncertain.is_none() && applied.matches(&state), "{applied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_of_somebody_that_begins_like_ours_is_left_alone() {
    let (listen, web, a) = (free_endpoint(), free_endpoint(), Node::start('a').await);
    let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = app.local_addr().unwrap();
    let theirs = format!(
        "\nfrontend fe_hf_web\n  bind {web}\n  default_backend hf_web\n\nbackend hf_web\n  server s {to}\n"
    );
    let instance = Instance::start_with(std::slice::from_ref(&listen), |text| text + &theirs).await;
    let at = (web.host.as_str(), web.port);
    let mut client = tokio::net::TcpStream::connect(at).await.unwrap();
    let (mut served, _) = app.accept().await.unwrap();
    let driver = instance.driver();
    for (version, node) in [(1, Some(&a)), (2, None)] {
        let state = desired(1, version, &[(&listen, node)]);
        let applied = driver.apply(&state).await.unwrap();
        assert!(applied.matches(&state) && applied.uncertain.is_none(), "{applied:?}");
        assert_eq!(applied.in_force.len(), 1, "{applied:?}");
    }
    let servers = instance.by_hand("show servers state hf_web").await;
    assert_eq!(servers.matches(" hf_web ").count(), 1, "{servers}");
    served.write_all(b"still here").await.unwrap();
    let mut text = [0; 10];
    client.read_exact(&mut text).await.unwrap();
    let _another = tokio::net::TcpStream::connect(at).await.unwrap();
    app.accept().await.unwrap();
}

/// A controller is stopped right before it opens a way, and goes on when its successor has closed
/// all of them and has seen that they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_controller_opens_nothing_that_was_closed_meanwhile() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let runtime = tokio::runtime::Handle::current();
    // Before its server is made, and before that one is put into service.
    for at in [2, 3] {
        let instance = Instance::start(std::slice::from_ref(&listen)).await;
        let (zombie, successor) = (instance.driver(), instance.driver());
        let (asked, fenced) = (AtomicUsize::new(0), AtomicBool::new(false));
        let may = || {
            if asked.fetch_add(1, Ordering::SeqCst) == at {
                let closed = desired(5, 1, &[(&listen, None)]);
                let applied = std::thread::scope(|scope| {
                    let applying = scope.spawn(|| runtime.block_on(successor.apply(&closed)));
                    applying.join().unwrap().unwrap()
                });
                fenced.store(applied.fenced(&a.id), Ordering::SeqCst);
            }
            true
        };
        let state = desired(4, 9, &[(&listen, Some(&a))]);
        let error = zombie.apply_while(&state, may).await.unwrap_err();
        assert!(matches!(error, Error::Stale { .. } | Error::Refused { .. }), "{at}: {error}");
        assert!(fenced.load(Ordering::SeqCst), "{at}");
        let seen = successor.observe().await.unwrap();
        assert!(seen.fenced(&a.id), "{at}: {seen:?}");
        assert_eq!(seen.in_force, [(listen.clone(), None)], "{at}");
    }
}

/// Answers each command at `path` by `says`, in prompt mode.
fn play(path: &Path, says: impl Fn(&str) -> String + Send + Sync + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    let says = Arc::new(says);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let says = Arc::clone(&says);
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let mut lines = BufReader::new(reader).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer = format!("{}\n> ", says(&line));
                    if writer.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state \
                     srv_uweight srv_port\n";

/// A worker whose backend `hf_lb_1` is empty.
fn worker(command: &str) -> String {
    match command {
        "show info" => "Name: HAProxy\nPid: 7\nStart_time_sec: 5\n".to_owned(),
        "show backend" => "# name\nhf_lb_1\n".to_owned(),
        "show servers state" => STATE.to_owned(),
        added if added.starts_with("add server ") => "New server registered.\n".to_owned(),
        _ => String::new(),
    }
}

fn processes(current: &[u32], old: &[u32]) -> String {
    let lines = |pids: &[u32]| -> String {
        pids.iter().map(|pid| format!("{pid}  worker  0  0d00h00m01s  2.6.12\n")).collect()
    };
    let (current, old) = (lines(current), lines(old));
    format!(
        "#<PID> <type> <reloads> <uptime> <version>\n1  master  1 [failed: 0]  0d00h00m09s  2.6.12\n# workers\n{current}# old workers\n{old}# programs\n"
    )
}

fn played(folder: &Path) -> Haproxy {
    let socket = |name: &str| RuntimeAddress::Unix(folder.join(name));
    let (runtime, master) = (socket("run.sock"), Some(socket("master.sock")));
    let (name, timeout) = ("played".to_owned(), Some(PATIENCE));
    Haproxy::new(HaproxyConfig { name, runtime, master, timeout })
}

#[tokio::test]
async fn of_two_current_workers_the_one_that_answers_proves_nothing() {
    const CASES: [(&[u32], bool); 2] = [(&[7], true), (&[7, 8], false)];
    for (current, is_proof) in CASES {
        let folder = tempfile::tempdir().unwrap();
        play(&folder.path().join("run.sock"), worker);
        play(&folder.path().join("master.sock"), move |command| match command {
            "show proc" => processes(current, &[]),
            _ => String::new(),
        });
        let seen = played(folder.path()).observe().await.unwrap();
        assert_eq!(seen.fenced("a"), is_proof, "{seen:?}");
    }
}

/// Of two old workers one ends while it is asked; the other has a session, and does not keep it.
#[tokio::test]
async fn an_old_worker_that_ends_keeps_no_session_of_another_one() {
    let folder = tempfile::tempdir().unwrap();
    play(&folder.path().join("run.sock"), worker);
    let (has_session, has_ended) = (AtomicBool::new(true), AtomicBool::new(false));
    play(&folder.path().join("master.sock"), move |command| match command {
        // The first is listed as long as the other has not been asked to let its session go.
        "show proc" if has_session.load(Ordering::SeqCst) => processes(&[7], &[5, 6]),
        "show proc" => processes(&[7], &[]),
        "@!5 show sess" => {
            has_ended.store(true, Ordering::SeqCst);
            "Can't find the target PID matching the prefix '@!5'\n".to_owned()
        }
        "@!6 show sess" if has_session.load(Ordering::SeqCst) => {
            "0x6: proto=tcpv4 src=127.0.0.1:9 fe=fe_hf_lb_1 be=hf_lb_1 srv=t1.0-a ts=00 age=1s\n"
                .to_owned()
        }
        "@!6 shutdown session 0x6" if has_ended.load(Ordering::SeqCst) => {
            has_session.store(false, Ordering::SeqCst);
            String::new()
        }
        _ => String::new(),
    });
    let listen = Endpoint { host: "lb".to_owned(), port: 1 };
    let applied = played(folder.path()).apply(&desired(1, 1, &[(&listen, None)])).await.unwrap();
    assert!(applied.fenced("a"), "{applied:?}");
}

#[tokio::test]
async fn a_backend_that_takes_no_server_keeps_no_other_one_closed() {
    let (folder, a) = (tempfile::tempdir().unwrap(), Node::start('a').await);
    let (is_open, row) = (AtomicBool::new(false), {
        let (ip, port) = (a.address.ip(), a.address.port());
        format!("3 hf_lb_2 2 t1.1-{} {ip} 2 0 1 {port}\n", a.id)
    });
    play(&folder.path().join("run.sock"), move |command| match command {
        "show backend" => "# name\nhf_lb_1\nhf_lb_2\n".to_owned(),
        "show servers state" if is_open.load(Ordering::SeqCst) => format!("{STATE}{row}"),
        added if added.starts_with("add server hf_lb_1/t1.1-") => "It takes none.\n".to_owned(),
        ready if ready.starts_with("set server hf_lb_2/") && ready.ends_with(" ready") => {
            is_open.store(true, Ordering::SeqCst);
            String::new()
        }
        other => worker(other),
    });
    play(&folder.path().join("master.sock"), |command| match command {
        "show proc" => processes(&[7], &[]),
        _ => String::new(),
    });
    let listens = [1, 2].map(|port| Endpoint { host: "lb".to_owned(), port });
    let state = desired(1, 1, &[(&listens[0], Some(&a)), (&listens[1], Some(&a))]);
    let applied = played(folder.path()).apply(&state).await.unwrap();
    let places: Vec<&Endpoint> = applied.errors.iter().map(|(listen, _)| listen).collect();
    assert_eq!(places, [&listens[0]], "{applied:?}");
    let open = (listens[1].clone(), Some(a.backend()));
    assert!(applied.in_force.contains(&open), "{applied:?}");
}
