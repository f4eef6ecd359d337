//! The built-in balancer through its driver: real sockets, real HTTP.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::balancer::Frontend;
use balancer::server::{Config, Limits, Live, serve};
use balancer::{Applied, Builtin, Driver, Error};
use common::{Client, Node, desired, eventually, free_endpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use topology::Endpoint;

struct Balancer {
    driver: Builtin,
    admin: SocketAddr,
    stop: oneshot::Sender<()>,
    again: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

async fn start(config: Config) -> Balancer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = listener.local_addr().unwrap();
    let token = config.token.clone();
    let ((stop, stopped), (again, told_again)) = (oneshot::channel(), oneshot::channel());
    let live = Arc::new(Live::new(config).unwrap());
    let shutdown = async {
        let _ = stopped.await;
    };
    let once_more = async {
        if told_again.await.is_err() {
            std::future::pending().await
        }
    };
    let task = tokio::spawn(serve(live, listener, shutdown, once_more));
    let driver =
        Builtin::new("lb", &format!("http://{admin}"), token, Some(Duration::from_secs(10)))
            .unwrap();
    Balancer { driver, admin, stop, again, task }
}

/// Returns once it says that it stops.
async fn stops(admin: SocketAddr) {
    let url = format!("http://{admin}/healthz");
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let answer = reqwest::get(&url).await.expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
        if status == 503 {
            assert!(text.contains("stopping"), "{text}");
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{status} {text}");
    }
}

fn config() -> Config {
    Config {
        bind_source: Some("127.0.0.2".parse().unwrap()),
        workers: 2,
        health_interval_ms: 0,
        limits: Limits { drain_ms: 0, ..Limits::default() },
        ..Config::default()
    }
}

fn sessions(applied: &Applied, node: &Node) -> u64 {
    applied.sessions.iter().filter(|s| s.node == node.id).map(|s| s.count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_closed_and_names_the_client() {
    let balancer = start(config()).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    assert!(balancer.driver.observe().await.unwrap().in_force.is_empty());
    assert!(Client::connect(&listen).await.is_err());

    let applied = balancer.driver.apply(&desired(1, 1, &[(&listen, None)])).await.unwrap();
    assert_eq!(applied.in_force, [(listen.clone(), None)]);
    let refused = Client::connect(&listen).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);

    let applied = balancer.driver.apply(&desired(1, 2, &[(&listen, Some(&a))])).await.unwrap();
    assert_eq!(applied.in_force, [(listen.clone(), Some(a.backend()))]);
    assert_eq!(applied.source.as_deref(), Some("127.0.0.2"));
    let mut client = Client::connect(&listen).await.unwrap();
    let want = [a.id.clone(), client.local.to_string(), listen.to_string(), "127.0.0.2".to_owned()];
    assert_eq!(client.greeting, want);
    client.echo(&"x".repeat(300_000)).await.unwrap();
    assert_eq!(sessions(&balancer.driver.observe().await.unwrap(), &a), 1);
    drop(client);
    eventually("the node's connection is closed", || a.open() == 0).await;
    assert_eq!(a.resets.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_resets_both_sides_before_it_is_answered() {
    let balancer = start(config()).await;
    let (listen, other) = (free_endpoint(), free_endpoint());
    let (a, b) = (Node::start('a').await, Node::start('b').await);
    let first = desired(1, 1, &[(&listen, Some(&a)), (&other, Some(&b))]);
    balancer.driver.apply(&first).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(Client::connect(&listen).await.unwrap());
    }
    let mut bystander = Client::connect(&other).await.unwrap();
    let second = desired(1, 2, &[(&listen, Some(&b)), (&other, Some(&b))]);
    let applied = balancer.driver.apply(&second).await.unwrap();
    assert!(applied.fenced(&a.id) && applied.matches(&second));
    assert_eq!(sessions(&applied, &a), 0);
    for client in &mut clients {
        assert_eq!(client.end().await, Err(std::io::ErrorKind::ConnectionReset));
    }
    eventually("the old node saw the resets", || {
        a.open() == 0 && a.resets.load(std::sync::atomic::Ordering::SeqCst) == 50
    })
    .await;
    assert_eq!(Client::connect(&listen).await.unwrap().greeting[0], b.id);
    bystander.echo("still here").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_sessions_as_allowed_are_served_and_the_next_is_refused() {
    let limits = Limits { max_sessions: 2, drain_ms: 0, ..Limits::default() };
    let balancer = start(Config { limits, ..config() }).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut first = Client::connect(&listen).await.unwrap();
    let mut second = Client::connect(&listen).await.unwrap();
    for _ in 0..3 {
        let refused = Client::connect(&listen).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);
    }
    first.echo("still here").await.unwrap();
    second.echo("so am I").await.unwrap();
    assert_eq!(sessions(&balancer.driver.observe().await.unwrap(), &a), 2);

    // A place that is free again is given away again.
    drop(first);
    eventually("its end", || a.open() == 1).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut third = loop {
        match Client::connect(&listen).await {
            Ok(client) => break client,
            Err(error) => assert!(tokio::time::Instant::now() < until, "{error}"),
        }
    };
    third.echo("me too").await.unwrap();
    let refused = Client::connect(&listen).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stops_says_so_and_still_confirms_a_fence() {
    let limits = Limits { drain_ms: 20_000, ..Limits::default() };
    let balancer = start(Config { limits, ..config() }).await;
    let (listen, a, b) = (free_endpoint(), Node::start('a').await, Node::start('b').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut client = Client::connect(&listen).await.unwrap();
    balancer.stop.send(()).unwrap();
    stops(balancer.admin).await;
    client.echo("still served").await.unwrap();
    let wanted = desired(1, 2, &[(&listen, Some(&b))]);
    let applied = balancer.driver.apply(&wanted).await.unwrap();
    assert!(applied.fenced(&a.id), "{applied:?}");
    assert_eq!(client.end().await, Err(std::io::ErrorKind::ConnectionReset));
    assert!(Client::connect(&listen).await.is_err(), "its doors are closed");
    // Nobody is left to wait for.
    let ended = tokio::time::timeout(Duration::from_secs(10), balancer.task).await;
    ended.expect("its end").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_told_twice_to_stop_waits_for_no_session() {
    let limits = Limits { drain_ms: 600_000, ..Limits::default() };
    let balancer = start(Config { limits, ..config() }).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut client = Client::connect(&listen).await.unwrap();
    balancer.stop.send(()).unwrap();
    stops(balancer.admin).await;
    client.echo("still served").await.unwrap();
    balancer.again.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), balancer.task).await;
    ended.expect("its end").unwrap().unwrap();
    assert_eq!(client.end().await, Err(std::io::ErrorKind::ConnectionReset));
}

/// Clients connect without a pause while the route flips: none may stay with a node that is no
/// longer the backend.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_being_set_up_notice_a_switch() {
    let balancer = start(config()).await;
    let listen = free_endpoint();
    let (a, b) = (Node::start('a').await, Node::start('b').await);
    balancer.driver.apply(&desired(1, 0, &[(&listen, Some(&a))])).await.unwrap();
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
    for version in 1..=40 {
        let (new, old) = if version % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let state = desired(1, version, &[(&listen, Some(new))]);
        let applied = balancer.driver.apply(&state).await.unwrap();
        assert!(applied.fenced(&old.id), "{applied:?}");
        eventually("the old node has no connection", || old.open() == 0).await;
    }
    crowd.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_and_ambiguous_states_change_nothing() {
    let balancer = start(config()).await;
    let listen = free_endpoint();
    let (a, b) = (Node::start('a').await, Node::start('b').await);
    let current = desired(5, 3, &[(&listen, Some(&a))]);
    balancer.driver.apply(&current).await.unwrap();
    for stale in [desired(4, 9, &[(&listen, Some(&b))]), desired(5, 2, &[]), desired(5, 3, &[])] {
        let error = balancer.driver.apply(&stale).await.unwrap_err();
        assert!(matches!(error, Error::Stale { .. }), "{error}");
    }
    assert!(balancer.driver.observe().await.unwrap().matches(&current));
    balancer.driver.apply(&current).await.unwrap();
    balancer.driver.apply(&desired(6, 0, &[(&listen, Some(&b))])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlisted_frontend_is_closed_and_unbound() {
    let balancer = start(config()).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut client = Client::connect(&listen).await.unwrap();
    let applied = balancer.driver.apply(&desired(1, 2, &[])).await.unwrap();
    assert_eq!(applied.in_force, []);
    assert_eq!(client.end().await, Err(std::io::ErrorKind::ConnectionReset));
    let refused = Client::connect(&listen).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // Without SO_REUSEPORT: nobody else may be bound there.
    std::net::TcpListener::bind((listen.host.as_str(), listen.port)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_reported_and_the_rest_applied() {
    let balancer = start(config()).await;
    let (listen, taken, a) = (free_endpoint(), free_endpoint(), Node::start('a').await);
    let holder = std::net::TcpListener::bind((taken.host.as_str(), taken.port)).unwrap();
    let state = desired(1, 1, &[(&taken, Some(&a)), (&listen, Some(&a))]);
    let applied = balancer.driver.apply(&state).await.unwrap();
    assert_eq!(applied.errors.len(), 1);
    assert_eq!(applied.errors[0].0, taken);
    assert!(!applied.matches(&state));
    assert_eq!(Client::connect(&listen).await.unwrap().greeting[0], a.id);
    drop(holder);
    let applied = balancer.driver.apply(&state).await.unwrap();
    assert!(applied.matches(&state) && applied.errors.is_empty());
    Client::connect(&taken).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusing_backend_resets_the_client() {
    let balancer = start(config()).await;
    let (listen, nowhere) = (free_endpoint(), free_endpoint());
    let mut state = desired(1, 1, &[]);
    let backend =
        api::balancer::Backend { node: "x".repeat(40), host: nowhere.host, port: nowhere.port };
    state.frontends.push(Frontend { listen: listen.clone(), backend: Some(backend), hold: false });
    balancer.driver.apply(&state).await.unwrap();
    let error = Client::connect(&listen).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let page = get(&balancer, "/metrics").await;
    assert!(page.contains("holdfast_balancer_refused_total") && page.contains("} 1\n"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_an_address() {
    let (one, two) = (start(config()).await, start(config()).await);
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let state = desired(1, 1, &[(&listen, Some(&a))]);
    assert!(one.driver.apply(&state).await.unwrap().errors.is_empty());
    assert!(two.driver.apply(&state).await.unwrap().errors.is_empty());
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(Client::connect(&listen).await.unwrap());
    }
    let (first, second) =
        (one.driver.observe().await.unwrap(), two.driver.observe().await.unwrap());
    assert!(sessions(&first, &a) > 0 && sessions(&second, &a) > 0);
    assert_eq!(sessions(&first, &a) + sessions(&second, &a), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_shows_and_a_put_for_the_old_process_is_refused() {
    let (first, second) = (start(config()).await, start(config()).await);
    let old = first.driver.observe().await.unwrap().start_id;
    assert_ne!(old, second.driver.observe().await.unwrap().start_id);
    let answer = reqwest::Client::new()
        .put(format!("http://{}/api/v1/desired", second.admin))
        .header("If-Match", format!("\"{old}\""))
        .json(&desired(1, 1, &[]))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 412);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_asked_for() {
    let mut config = config();
    config.token = Some("secret".to_owned());
    let balancer = start(config).await;
    balancer.driver.observe().await.unwrap();
    let url = format!("http://{}", balancer.admin);
    for token in [None, Some("wrong!".to_owned())] {
        let asking = Builtin::new("lb", &url, token, Some(common::PATIENCE)).unwrap();
        let error = asking.observe().await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
    // It never asks for the token.
    let healthz = get(&balancer, "/healthz").await;
    assert!(healthz.starts_with("closed: no controller"), "{healthz}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_leads_no_more_opens_nothing() {
    let balancer = start(config()).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    let state = desired(1, 1, &[(&listen, Some(&a))]);
    // It was asked how it is, and then the authority was over.
    let error = balancer.driver.apply_while(&state, || false).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert!(balancer.driver.observe().await.unwrap().in_force.is_empty());
    assert!(balancer.driver.apply_while(&state, || true).await.unwrap().matches(&state));
}

/// A proxy that has an answer in store, or a balancer with a fault: its sessions go on somewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_says_yes_and_has_done_nothing_is_no_fence() {
    let state = |start_id: &str, term: u64, version: u64| {
        serde_json::json!({
            "start_id": start_id, "term": term, "version": version, "frontends": [],
        })
    };
    for (answer, told) in [
        (state("a", 5, 3), None),
        (state("a", 0, 0), Some("term 0 version 0, and was told term 5 version 3")),
        (state("a", 5, 2), Some("term 5 version 2, and was told term 5 version 3")),
        (state("a", 6, 3), Some("term 6 version 3, and was told term 5 version 3")),
        (state("b", 5, 3), Some("it answers as process b, a was asked")),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let before = state("a", 0, 0);
        let says = axum::routing::get(move || async move { axum::Json(before) });
        let takes = axum::routing::put(move || async move { axum::Json(answer) });
        let paths =
            axum::Router::new().route("/api/v1/state", says).route("/api/v1/desired", takes);
        let task = tokio::spawn(async move { axum::serve(listener, paths).await });
        let driver = Builtin::new("lb", &url, None, Some(Duration::from_secs(10))).unwrap();
        let applied = driver.apply(&desired(5, 3, &[])).await;
        match told {
            None => assert!(applied.unwrap().fenced("a")),
            Some(why) => {
                let error = applied.unwrap_err().to_string();
                assert!(error.ends_with(why), "{error}");
            }
        }
        task.abort();
    }
}

/// More of them than there are places: neither a controller that has a connection nor one that
/// comes now is kept out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_without_a_token_keep_no_controller_out() {
    let mut config = config();
    config.token = Some("secret".to_owned());
    let balancer = start(config).await;
    balancer.driver.observe().await.unwrap();
    let mut idle = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(balancer.admin).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /api/v1/state HTTP/1.1\r\n").await.unwrap();
        }
        idle.push(stream);
    }
    let url = format!("http://{}", balancer.admin);
    let limit = Some(Duration::from_secs(5));
    let late = Builtin::new("lb", &url, Some("secret".to_owned()), limit).unwrap();
    late.observe().await.unwrap();
    balancer.driver.observe().await.unwrap();
    let page = reqwest::Client::new().get(format!("{url}/metrics")).bearer_auth("secret");
    let page = page.send().await.unwrap().text().await.unwrap();
    let row = "process_http_connections_closed_total{reason=\"given-up\"} ";
    let count = page.lines().find_map(|line| line.strip_prefix(row)).expect("the row");
    assert!(count.parse::<u64>().unwrap() >= 136, "{count}");
}

/// What a check in front of several balancers must see: traffic drawn to a closed one would be
/// lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_was_told_nothing_yet_is_not_healthy() {
    let balancer = start(config()).await;
    let check = || async {
        let url = format!("http://{}/healthz", balancer.admin);
        let answer = reqwest::get(url).await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    };
    let (status, text) = check().await;
    assert_eq!(status, 503, "{text}");
    let listen = free_endpoint();
    balancer.driver.apply(&desired(1, 1, &[(&listen, None)])).await.expect("applied");
    // Closed because a controller wants it so.
    assert_eq!(check().await, (200, "ok\n".to_owned()));
    // An address that is taken: clients would find nobody.
    let taken = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let other = Endpoint { host: "127.0.0.1".to_owned(), port };
    let a = Node::start('a').await;
    let wanted = desired(1, 2, &[(&listen, None), (&other, Some(&a))]);
    balancer.driver.apply(&wanted).await.expect("applied");
    let (status, text) = check().await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains(&port.to_string()), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_change_nothing() {
    let balancer = start(config()).await;
    let listen = free_endpoint();
    let twice = desired(1, 1, &[(&listen, None), (&listen, None)]);
    let none = Endpoint { host: "127.0.0.1".to_owned(), port: 0 };
    for bad in [twice, desired(1, 1, &[(&none, None)])] {
        assert!(matches!(balancer.driver.apply(&bad).await, Err(Error::Refused { .. })));
    }
    let answer = reqwest::Client::new()
        .put(format!("http://{}/api/v1/desired", balancer.admin))
        .header("content-type", "application/json")
        .body("{\"term\":")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("\"error\""));
    assert!(balancer.driver.observe().await.unwrap().in_force.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_ends_sessions_and_the_process() {
    let balancer = start(config()).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut client = Client::connect(&listen).await.unwrap();
    balancer.stop.send(()).unwrap();
    assert_eq!(client.end().await, Err(std::io::ErrorKind::ConnectionReset));
    tokio::time::timeout(common::PATIENCE, balancer.task).await.unwrap().unwrap().unwrap();
    eventually("the node's connection is gone", || a.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_known_without_clients() {
    let mut config = config();
    config.health_interval_ms = 5;
    let balancer = start(config).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    wait_for_health(&balancer, Some(true)).await;
    drop(a);
    wait_for_health(&balancer, Some(false)).await;
    balancer.driver.apply(&desired(1, 2, &[(&listen, None)])).await.unwrap();
    wait_for_health(&balancer, None).await;
}

/// A switch has to stay quick however many clients there are; here that they are all cut and
/// counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_cut_as_a_whole() {
    let balancer = start(config()).await;
    let (listen, a) = (free_endpoint(), Node::start('a').await);
    balancer.driver.apply(&desired(1, 1, &[(&listen, Some(&a))])).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        clients.push(Client::connect(&listen).await.unwrap());
    }
    assert_eq!(sessions(&balancer.driver.observe().await.unwrap(), &a), 1_000);
    let started = std::time::Instant::now();
    let applied = balancer.driver.apply(&desired(1, 2, &[(&listen, None)])).await.unwrap();
    println!("cut 1000 sessions in {:?}", started.elapsed());
    assert!(applied.fenced(&a.id) && applied.sessions.is_empty());
    let page = get(&balancer, "/metrics").await;
    assert!(page.lines().any(|l| l.contains("cut_total{") && l.ends_with(" 1000")), "{page}");
}

/// A node that is busy takes connections all the same, and is not to be replaced for being late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_late_is_reached() {
    let listen = free_endpoint();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut config = config();
    config.health_interval_ms = 5;
    let balancer = start(config).await;
    let mut state = desired(1, 1, &[(&listen, None)]);
    let (host, port) = (address.ip().to_string(), address.port());
    state.frontends[0].backend = Some(api::balancer::Backend { node: "a".repeat(40), host, port });
    balancer.driver.apply(&state).await.unwrap();
    let check = async || {
        let taken = tokio::time::timeout(common::PATIENCE, silent.accept()).await;
        taken.expect("a check").unwrap().0
    };
    let first = check().await;
    // By then the first one has ended without an answer.
    let second = check().await;
    let text = get(&balancer, "/api/v1/state").await;
    let told: api::balancer::State = serde_json::from_str(&text).unwrap();
    assert_eq!(told.frontends[0].backend_up, None, "{text}");
    let row = async || {
        let page = get(&balancer, "/metrics").await;
        let is_row = |line: &&str| line.starts_with("holdfast_balancer_backend_up{");
        page.lines().find(is_row).map(str::to_owned)
    };
    // What is not known is not told as an outage.
    assert_eq!(row().await, None);
    // One that takes connections only to end them serves nobody.
    drop((first, second, silent));
    wait_for_health(&balancer, Some(false)).await;
    assert!(row().await.is_some_and(|row| row.ends_with(" 0")));
}

/// A node that does not know this balancer answers nothing, or, where it takes the header for
/// commands, something else. Clients that connect all the same do not make it healthy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_pong_is_health() {
    for answer in [&b""[..], b"+OK\r\n", b"-ERR unknown command\r\n"] {
        let listen = free_endpoint();
        let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = stranger.local_addr().unwrap();
        let checks = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&checks);
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = stranger.accept().await.unwrap();
                let mut bytes = [0; 256];
                let _ = stream.read(&mut bytes).await;
                let _ = stream.write_all(answer).await;
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        let mut config = config();
        config.health_interval_ms = 5;
        let balancer = start(config).await;
        let mut state = desired(1, 1, &[(&listen, None)]);
        let (host, port) = (address.ip().to_string(), address.port());
        state.frontends[0].backend =
            Some(api::balancer::Backend { node: "a".repeat(40), host, port });
        balancer.driver.apply(&state).await.unwrap();
        wait_for_health(&balancer, Some(false)).await;
        let told = balancer.driver.observe().await.unwrap();
        assert!(told.faults[0].1.contains("127.0.0.2"), "{told:?}");
        assert_eq!(told.dials, [("a".repeat(40), "127.0.0.2".to_owned())]);
        assert_eq!((told.source.as_deref(), told.sends_header), (Some("127.0.0.2"), Some(true)));
        let before = checks.load(std::sync::atomic::Ordering::SeqCst);
        for _ in 0..20 {
            assert_ne!(Client::connect(&listen).await.is_ok(), answer.is_empty());
            let told = balancer.driver.observe().await.unwrap();
            assert_eq!(told.reach, [("a".repeat(40), false)]);
        }
        let after = || checks.load(std::sync::atomic::Ordering::SeqCst) > before + 20;
        eventually("checks beside the clients", after).await;
        server.abort();
    }
}

async fn wait_for_health(balancer: &Balancer, wanted: Option<bool>) {
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let text = get(balancer, "/api/v1/state").await;
        let state: api::balancer::State = serde_json::from_str(&text).unwrap();
        if state.frontends[0].backend_up == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn get(balancer: &Balancer, path: &str) -> String {
    reqwest::get(format!("http://{}{path}", balancer.admin)).await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_moves_no_backend_and_every_refusal_is_json() {
    let balancer = start(Config { allowed_hosts: vec!["lb.example".into()], ..config() }).await;
    let (desired, http) =
        (format!("http://{}/api/v1/desired", balancer.admin), reqwest::Client::new());
    let body = serde_json::to_string(&desired_of(1, 1)).unwrap();
    let json = ("content-type", "application/json");
    for (headers, body, status) in [
        (vec![json, ("origin", "http://evil.example")], body.as_str(), 403),
        (vec![json, ("host", "evil.example:9400")], body.as_str(), 403),
        (vec![("content-type", "text/plain")], body.as_str(), 415),
        (vec![json], "{", 400),
        (vec![json], "{}", 422),
    ] {
        let mut request = http.put(&desired).body(body.to_owned());
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{headers:?}");
        let answer: serde_json::Value = answer.json().await.unwrap();
        assert!(answer["error"]["message"].is_string(), "{headers:?}: {answer}");
    }
    let answer = http.post(&desired).header(json.0, json.1).send().await.unwrap();
    assert_eq!(answer.status(), 405);
    let answer: serde_json::Value = answer.json().await.unwrap();
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!(message, "/api/v1/desired does not take POST; it takes PUT");

    let named = http.put(&desired).header("host", "lb.example:1").header(json.0, json.1);
    assert_eq!(named.body(body).send().await.unwrap().status(), 200);
}

fn desired_of(term: u64, version: u64) -> api::balancer::Desired {
    desired(term, version, &[])
}
