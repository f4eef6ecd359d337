//! The HAProxy driver against a real HAProxy in master-worker mode.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use balancer::haproxy::{ConfigFile, Listen, RuntimeAddress, backend_name, render_config};
use balancer::{Applied, Driver, Error, Haproxy, HaproxyConfig, Resolver, Resolving};
use common::instance::{HAPROXY, Instance};
use common::{Client, Node, PATIENCE, desired, eventually, free_endpoint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::timeout;
use topology::Endpoint;

fn sessions(applied: &Applied, node: &Node) -> u64 {
    applied.sessions.iter().filter(|s| s.node == node.id).map(|s| s.count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_closed_and_names_the_client() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = instance.driver();
    let seen = driver.observe().await.unwrap();
    assert_eq!((seen.in_force, seen.uncertain), (vec![(listen.clone(), None)], None));
    assert!(Client::connect(&listen).await.is_err());

    let state = desired(1, 1, &[(&listen, Some(&a))]);
    let applied = driver.apply(&state).await.unwrap();
    assert!(applied.matches(&state), "{applied:?}");
    let mut client = Client::connect(&listen).await.unwrap();
    let want = [a.id.clone(), client.local.to_string(), listen.to_string(), "127.0.0.3".to_owned()];
    assert_eq!(client.greeting, want);
    client.echo("hello").await.unwrap();
    assert_eq!(sessions(&driver.observe().await.unwrap(), &a), 1);
    // A driver without memory reads the same from HAProxy's names.
    assert!(instance.driver().observe().await.unwrap().matches(&state));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_leaves_no_session_of_the_old_node() {
    let (listen, other) = (free_endpoint(), free_endpoint());
    let (a, b) = (Node::start('a').await, Node::start('b').await);
    let instance = Instance::start(&[listen.clone(), other.clone()]).await;
    let driver = instance.driver();
    let first = desired(1, 1, &[(&listen, Some(&a)), (&other, Some(&b))]);
    driver.apply(&first).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(Client::connect(&listen).await.unwrap());
    }
    let mut bystander = Client::connect(&other).await.unwrap();
    let second = desired(1, 2, &[(&listen, Some(&b)), (&other, Some(&b))]);
    let applied = driver.apply(&second).await.unwrap();
    assert!(applied.fenced(&a.id) && applied.matches(&second), "{applied:?}");
    for client in &mut clients {
        let end = client.end().await;
        assert!(matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{end:?}");
    }
    eventually("the old node has no connection", || a.open() == 0).await;
    assert_eq!(Client::connect(&listen).await.unwrap().greeting[0], b.id);
    bystander.echo("still here").await.unwrap();

    let applied = driver.apply(&desired(1, 3, &[])).await.unwrap();
    assert!(applied.fenced(&b.id));
    assert!(Client::connect(&listen).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_being_set_up_do_not_escape_a_switch() {
    let listen = free_endpoint();
    let (a, b) = (Node::start('a').await, Node::start('b').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = instance.driver();
    driver.apply(&desired(1, 0, &[(&listen, Some(&a))])).await.unwrap();
    let crowd: Vec<_> = (0..8)
        .map(|_| {
            let listen = listen.clone();
            tokio::spawn(async move {
                loop {
                    let _ = Client::connect(&listen).await;
                }
            })
        })
        .collect();
    for version in 1..=20 {
        let (new, old) = if version % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let applied = driver.apply(&desired(1, version, &[(&listen, Some(new))])).await.unwrap();
        assert!(applied.fenced(&old.id), "{applied:?}");
        eventually("the old node has no connection", || old.open() == 0).await;
    }
    crowd.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Sessions that wait for their next attempt hang on no server, so neither `shutdown sessions
/// server` nor `del server` minds them; HAProxy would connect them to the old address a second
/// later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_being_retried_do_not_escape_a_switch() {
    let (listen, dead, b) = (free_endpoint(), free_endpoint(), Node::start('b').await);
    let retrying = |text: String| text.replace("retries 0", "retries 5");
    let instance = Instance::start_with(std::slice::from_ref(&listen), retrying).await;
    let driver = instance.driver();
    let old = "a".repeat(40);
    let mut state = desired(1, 1, &[(&listen, None)]);
    let (host, port) = (dead.host.clone(), dead.port);
    state.frontends[0].backend = Some(api::balancer::Backend { node: old.clone(), host, port });
    driver.apply(&state).await.unwrap();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let listen = listen.clone();
            tokio::spawn(async move { Client::connect(&listen).await.is_err() })
        })
        .collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let seen = driver.observe().await.unwrap();
        if seen.sessions.iter().map(|s| s.count).sum::<u64>() == 4 {
            break;
        }
        let ended = clients.iter().filter(|client| client.is_finished()).count();
        assert!(tokio::time::Instant::now() < deadline, "{ended} clients ended; {seen:?}");
    }
    let applied = driver.apply(&desired(1, 2, &[(&listen, Some(&b))])).await.unwrap();
    assert!(applied.fenced(&old), "{applied:?}");
    // The old node comes back: nobody may arrive there. HAProxy's next attempt would be within a
    // second.
    let back = tokio::net::TcpListener::bind((dead.host.as_str(), dead.port)).await.unwrap();
    let arrived = tokio::time::timeout(Duration::from_millis(2_500), back.accept()).await;
    assert!(arrived.is_err(), "{arrived:?}");
    for client in clients {
        assert!(client.await.unwrap(), "a retried session was cut");
    }
}

/// Clients lose patience with a stopped node and close; HAProxy waits for the node to close as
/// well, which it cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_left_a_stopped_node_do_not_hold_up_a_switch() {
    let (listen, b) = (free_endpoint(), Node::start('b').await);
    // Connections are accepted by the kernel and answered by nobody.
    let stopped = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = stopped.local_addr().unwrap();
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = instance.driver();
    let old = "a".repeat(40);
    let mut state = desired(1, 1, &[(&listen, None)]);
    let (host, port) = (address.ip().to_string(), address.port());
    state.frontends[0].backend = Some(api::balancer::Backend { node: old.clone(), host, port });
    driver.apply(&state).await.unwrap();
    for _ in 0..4 {
        let to = (listen.host.as_str(), listen.port);
        let mut client = tokio::net::TcpStream::connect(to).await.unwrap();
        client.write_all(b"PING\r\n").await.unwrap();
        let seen = || async { driver.observe().await.unwrap() };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while seen().await.sessions.is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "the client never gets a session");
        }
    }
    let applied = driver.apply(&desired(1, 2, &[(&listen, Some(&b))])).await.unwrap();
    assert!(applied.fenced(&old), "{applied:?}");
    assert_eq!(Client::connect(&listen).await.unwrap().greeting[0], b.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_controller_changes_nothing() {
    let listen = free_endpoint();
    let (a, b) = (Node::start('a').await, Node::start('b').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let (zombie, successor) = (instance.driver(), instance.driver());
    zombie.apply(&desired(4, 7, &[(&listen, Some(&a))])).await.unwrap();
    let current = desired(5, 1, &[(&listen, Some(&b))]);
    successor.apply(&current).await.unwrap();
    for stale in [desired(4, 99, &[(&listen, Some(&a))]), desired(4, 100, &[])] {
        let error = zombie.apply(&stale).await.unwrap_err();
        assert!(matches!(error, Error::Stale { .. }), "{error}");
    }
    let name = format!("{}/t4.7-{}", backend_name(&listen), a.id);
    assert!(
        instance
            .by_hand(&format!("set server {name} state ready"))
            .await
            .contains("No such server")
    );
    assert!(successor.observe().await.unwrap().matches(&current));

    // Also where the successor only closed: the marker stays.
    successor.apply(&desired(5, 2, &[(&listen, None)])).await.unwrap();
    let error = zombie.apply(&desired(4, 101, &[(&listen, Some(&a))])).await.unwrap_err();
    assert!(matches!(error, Error::Stale { .. }), "{error}");
    // And a server it had made, but not enabled yet, is gone after the successor's next apply.
    let late = format!("{}/t4.102-{}", backend_name(&listen), a.id);
    assert!(
        instance.by_hand(&format!("add server {late} {}", a.address)).await.contains("New server")
    );
    successor.apply(&desired(5, 3, &[(&listen, Some(&b))])).await.unwrap();
    assert!(
        instance
            .by_hand(&format!("set server {late} state ready"))
            .await
            .contains("No such server")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_leads_no_more_opens_nothing() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = instance.driver();
    let state = desired(3, 1, &[(&listen, Some(&a))]);
    for times in 0..2 {
        // Its authority ends before the first change, or before a way is opened.
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let may = || asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < times;
        let error = driver.apply_while(&state, may).await.unwrap_err();
        assert!(matches!(error, Error::Ended { .. }), "{error}");
        assert_eq!(driver.observe().await.unwrap().in_force, [(listen.clone(), None)]);
        let servers = instance.by_hand("show servers state").await;
        assert_eq!(servers.contains(" t3 "), times == 1, "{servers}");
    }
    assert!(driver.apply(&state).await.unwrap().matches(&state));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_term_with_the_same_backend_cuts_nothing() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    instance.driver().apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut client = Client::connect(&listen).await.unwrap();
    let state = desired(2, 0, &[(&listen, Some(&a))]);
    assert!(instance.driver().apply(&state).await.unwrap().matches(&state));
    client.echo("still here").await.unwrap();
    let error = instance.driver().apply(&desired(1, 9, &[(&listen, Some(&a))])).await.unwrap_err();
    assert!(matches!(error, Error::Stale { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_shows_and_closes() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let mut instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = instance.driver();
    let state = desired(1, 1, &[(&listen, Some(&a))]);
    let before = driver.apply(&state).await.unwrap();
    instance.restart().await;
    let after = driver.observe().await.unwrap();
    assert_ne!(before.start_id, after.start_id);
    assert_eq!(after.in_force, [(listen.clone(), None)]);
    assert!(driver.apply(&state).await.unwrap().matches(&state));
    Client::connect(&listen).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_old_workers_count_and_are_cut() {
    let listen = free_endpoint();
    let (a, b) = (Node::start('a').await, Node::start('b').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = instance.driver();
    driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::connect(&listen).await.unwrap());
    }
    instance.reload().await;
    // The old worker may not answer its master yet.
    let counted = async {
        loop {
            let seen = driver.observe().await.unwrap();
            assert_eq!(seen.in_force, [(listen.clone(), None)]);
            assert!(!seen.fenced(&a.id));
            if sessions(&seen, &a) == 5 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, counted).await.expect("the sessions of the old worker");

    // To the same backend they may stay …
    driver.apply(&desired(1, 2, &[(&listen, Some(&a))])).await.unwrap();
    clients[0].echo("still here").await.unwrap();
    // … and to another one they go. The old worker may end with its last session while it is asked,
    // and so tell nothing: the next look finds it gone.
    let state = desired(1, 3, &[(&listen, Some(&b))]);
    timeout(PATIENCE, async {
        loop {
            let applied = driver.apply(&state).await.unwrap();
            if applied.fenced(&a.id) {
                return;
            }
            assert!(applied.uncertain.is_some(), "{applied:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("a fence");
    for client in &mut clients {
        let end = client.end().await;
        assert!(matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{end:?}");
    }
    eventually("the old node has no connection", || a.open() == 0).await;
}

/// A reload leaves sessions of other proxies as well, for as long as their clients like.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_other_proxies_in_old_workers_are_left_alone() {
    let (listen, web, a) = (free_endpoint(), free_endpoint(), Node::start('a').await);
    let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = app.local_addr().unwrap();
    let theirs = format!(
        "\nfrontend web\n  bind {web}\n  default_backend app\n\nbackend app\n  server s {to}\n"
    );
    let instance = Instance::start_with(std::slice::from_ref(&listen), |text| text + &theirs).await;
    let driver = instance.driver();
    driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut client = tokio::net::TcpStream::connect((web.host.as_str(), web.port)).await.unwrap();
    let (mut served, _) = app.accept().await.unwrap();
    instance.reload().await;
    let applied = driver.apply(&desired(1, 2, &[(&listen, None)])).await.unwrap();
    assert!(applied.fenced(&a.id), "{applied:?}");
    served.write_all(b"still here").await.unwrap();
    let mut text = [0; 10];
    client.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"still here");
}

#[derive(Debug, Clone, Copy)]
enum Says {
    At(&'static [[u8; 4]]),
    Fails,
    Hangs,
}

fn resolver(says: Says) -> Resolver {
    Arc::new(move |_, port| -> Resolving {
        Box::pin(async move {
            match says {
                Says::At(all) => Ok(all.iter().map(|ip| SocketAddr::from((*ip, port))).collect()),
                Says::Fails => Err(std::io::Error::other("no such name")),
                Says::Hangs => std::future::pending().await,
            }
        })
    })
}

fn by_name(version: u64, listen: &Endpoint, node: &Node) -> api::balancer::Desired {
    let mut state = desired(1, version, &[(listen, Some(node))]);
    for frontend in &mut state.frontends {
        if let Some(backend) = &mut frontend.backend {
            backend.host = "node.test".to_owned();
        }
    }
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_its_server_while_its_name_cannot_be_looked_up() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let first = Says::At(&[[127, 0, 0, 1]]);
    let state = by_name(1, &listen, &a);
    let applied = instance.driver().resolving_by(resolver(first)).apply(&state).await.unwrap();
    assert!(applied.matches(&state) && applied.errors.is_empty(), "{applied:?}");
    let mut client = Client::connect(&listen).await.unwrap();
    let rotated = Says::At(&[[127, 0, 0, 9], [127, 0, 0, 1]]);
    for (version, says) in (2..).zip([Says::Fails, Says::Hangs, rotated]) {
        // Each driver is as new as that of a controller that has begun just now.
        let driver = instance.driver().resolving_by(resolver(says));
        let state = by_name(version, &listen, &a);
        let applied = driver.apply(&state).await.unwrap();
        assert!(applied.matches(&state), "{says:?}: {applied:?}");
        assert_eq!(applied.errors.is_empty(), matches!(says, Says::At(_)), "{applied:?}");
        client.echo("still here").await.unwrap();
    }
    // It is elsewhere, and nowhere else.
    let driver = instance.driver().resolving_by(resolver(Says::At(&[[127, 0, 0, 9]])));
    let state = by_name(9, &listen, &a);
    assert!(driver.apply(&state).await.unwrap().matches(&state));
    let end = client.end().await;
    assert!(matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolver_that_hangs_holds_up_no_fence() {
    let listen = free_endpoint();
    let (a, b) = (Node::start('a').await, Node::start('b').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = instance.driver().resolving_by(resolver(Says::Hangs));
    driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut client = Client::connect(&listen).await.unwrap();
    let state = by_name(2, &listen, &b);
    let applying = driver.apply(&state);
    let applied = tokio::time::timeout(PATIENCE, applying).await.unwrap().unwrap();
    assert!(applied.fenced(&a.id), "{applied:?}");
    assert_eq!(applied.in_force, [(listen.clone(), None)]);
    assert_eq!(applied.errors.len(), 1, "{applied:?}");
    let end = client.end().await;
    assert!(matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_an_address() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let one = Instance::start(std::slice::from_ref(&listen)).await;
    let two = Instance::start(std::slice::from_ref(&listen)).await;
    let state = desired(1, 1, &[(&listen, Some(&a))]);
    one.driver().apply(&state).await.unwrap();
    two.driver().apply(&state).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(Client::connect(&listen).await.unwrap());
    }
    let (first, second) =
        (one.driver().observe().await.unwrap(), two.driver().observe().await.unwrap());
    assert!(sessions(&first, &a) > 0 && sessions(&second, &a) > 0);
    assert_eq!(sessions(&first, &a) + sessions(&second, &a), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_master_socket_nothing_is_fenced() {
    let listen = free_endpoint();
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let driver = Haproxy::new(HaproxyConfig { master: None, ..instance.config() });
    let applied = driver.apply(&desired(1, 1, &[(&listen, None)])).await.unwrap();
    assert!(!applied.fenced("anybody") && applied.uncertain.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_made_by_hand_is_put_out_of_service() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let name = format!("{}/main", backend_name(&listen));
    instance.by_hand(&format!("add server {name} {} send-proxy-v2", a.address)).await;
    instance.by_hand(&format!("set server {name} state ready")).await;
    let driver = instance.driver();
    let mut client = Client::connect(&listen).await.unwrap();
    let seen = driver.observe().await.unwrap();
    assert!(!seen.fenced(&a.id) && seen.uncertain.is_some(), "{seen:?}");
    driver.apply(&desired(1, 1, &[(&listen, None)])).await.unwrap();
    let _ = client.end().await;
    assert!(driver.observe().await.unwrap().fenced(&a.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_endpoint_is_reported_and_the_rest_applied() {
    let (listen, unknown, a) = (free_endpoint(), free_endpoint(), Node::start('a').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let state = desired(1, 1, &[(&unknown, Some(&a)), (&listen, Some(&a))]);
    let applied = instance.driver().apply(&state).await.unwrap();
    assert_eq!(applied.errors.len(), 1);
    assert_eq!(applied.errors[0].0, unknown);
    assert!(!applied.matches(&state));
    Client::connect(&listen).await.unwrap();
}

#[tokio::test]
async fn nonsense_names_the_instance_and_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let runtime = RuntimeAddress::Unix(path.clone());
    let config = HaproxyConfig { name: "lb7".into(), runtime, master: None, timeout: None };
    let driver = Haproxy::new(config);
    let error = driver.observe().await.unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. }) && error.to_string().contains("lb7"),
        "{error}"
    );

    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
            stream.write_all(b"HTTP/1.1 400 Bad Request\n> ").await.unwrap();
        }
    });
    let error = driver.observe().await.unwrap_err().to_string();
    assert!(error.contains("lb7") && error.contains("HTTP/1.1 400 Bad Request"), "{error}");
}

/// What HAProxy itself says of a file, in a folder of its own.
fn accepted_by_haproxy(text: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let said = Command::new(HAPROXY).args(["-c", "-f"]).arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    if said.status.success() && !told.contains("[WARNING]") { Ok(()) } else { Err(told) }
}

/// Names and addresses as operators write them, put together by chance that is the same each time:
/// every file that is made is one that HAProxy takes.
#[test]
fn haproxy_takes_every_configuration_that_is_made() {
    use rand::seq::IndexedRandom as _;
    use rand::{Rng as _, SeedableRng as _};
    let hosts = [
        "10.0.9.1",
        "10.0.9.2",
        "127.0.0.1",
        "::1",
        "2001:db8::1",
        "fd00::1:0:0:1",
        "::ffff:10.0.9.1",
        "localhost",
        "lb1",
        "LB1",
        "lb-1.example.org",
        "lb.1-example.org",
        "lb_1_example_org",
        "127_0_0_1",
        "1-2-3",
        "a",
        "xn--bcher-kva.example",
        &"n".repeat(63),
        &format!("{}.example", "n".repeat(240)),
    ];
    let binds = ["10.0.9.3", "::1", "2001:db8::5", "0.0.0.0", "::", "127.0.0.9"];
    let sources = ["10.0.8.1", "127.0.0.3", "::1", "2001:db8::9", "fd00::9", "::ffff:10.0.8.1"];
    let sockets = [
        "/run/holdfast/lb.sock",
        "unix@/run/a.sock",
        "/run/lb:1@host+x_y-z.sock",
        "127.0.0.1:9001",
        "[::1]:9001",
        "localhost:9001",
        &format!("/{}", "s".repeat(96)),
    ];
    let mut rng = rand::rngs::StdRng::seed_from_u64(14);
    let (mut made, mut refused) = (0, 0);
    while made < 150 {
        let mut frontends = Vec::new();
        for _ in 0..rng.random_range(1..6) {
            let host = (*hosts.choose(&mut rng).unwrap()).to_owned();
            // A name is bound where it leads; here none leads anywhere.
            let needs_bind = host.parse::<std::net::IpAddr>().is_err() && host != "localhost";
            let bind = binds.choose(&mut rng).filter(|_| needs_bind || rng.random_ratio(1, 4));
            let port = *[1, 6379, 7001, 65535].choose(&mut rng).unwrap();
            let bind = bind.map(|bind| bind.parse().unwrap());
            frontends.push(Listen { endpoint: Endpoint { host, port }, bind });
        }
        let socket = |text: &str| RuntimeAddress::parse(text).unwrap();
        let (runtime, master) =
            (socket(sockets.choose(&mut rng).unwrap()), socket(sockets.choose(&mut rng).unwrap()));
        let source = sources.choose(&mut rng).filter(|_| rng.random_ratio(3, 4));
        let file = ConfigFile {
            frontends: &frontends,
            bind_source: source.map(|source| source.parse().unwrap()),
            runtime: &runtime,
            master: Some(&master),
            maxconn: *[1, 2_000, 100_000].choose(&mut rng).unwrap(),
        };
        let Ok(text) = render_config(&file) else {
            refused += 1;
            continue;
        };
        made += 1;
        if let Err(told) = accepted_by_haproxy(&text) {
            panic!("{told}\n{text}");
        }
    }
    println!("{made} taken by HAProxy, {refused} refused before: two frontends on one address");
}

/// Its authority ends while a name is looked up: what serves stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_leads_no_more_cuts_nothing() {
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let instance = Instance::start(std::slice::from_ref(&listen)).await;
    let there = instance.driver().resolving_by(resolver(Says::At(&[[127, 0, 0, 1]])));
    there.apply(&by_name(1, &listen, &a)).await.unwrap();
    let mut client = Client::connect(&listen).await.unwrap();
    client.echo("here").await.unwrap();
    let elsewhere = instance.driver().resolving_by(resolver(Says::At(&[[127, 0, 0, 9]])));
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let may = || asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 1;
    let error = elsewhere.apply_while(&by_name(2, &listen, &a), may).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    client.echo("still here").await.unwrap();
}
