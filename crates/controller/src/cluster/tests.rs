//! A cluster whose node is real as far as heartbeats go.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use api::heartbeat::{ClientAccess, LeaseMode, LinkStatus, Reply, Resync, Role, Standing};
use planner::Policy;
use resp::{Limits, Parser, Protocol, Writer};

use super::*;
use crate::events::Event;
use crate::store::{Change, Embedded, Outcome, Records, StoreError, Work};

/// A node on a thread of its own, which answers heartbeats as a master that serves.
struct Master {
    port: u16,
    /// How many heartbeats carried a lease.
    leases: Arc<AtomicU64>,
    /// Connections that are open.
    open: Arc<AtomicU64>,
}

impl Master {
    fn start(id: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let leases = Arc::new(AtomicU64::new(0));
        let open = Arc::new(AtomicU64::new(0));
        let (counted, connected) = (Arc::clone(&leases), Arc::clone(&open));
        let hash = topology_of(&record(port)).expect("a topology").hash;
        std::thread::spawn(move || {
            let began = Instant::now();
            for stream in listener.incoming() {
                let (mut stream, id) = (stream.expect("a connection"), id.clone());
                let hash = Arc::clone(&hash);
                let (counted, connected) = (Arc::clone(&counted), Arc::clone(&connected));
                connected.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let (mut buffer, mut chunk) = (Vec::new(), [0; 4096]);
                    while let Ok(count @ 1..) = stream.read(&mut chunk) {
                        buffer.extend_from_slice(&chunk[..count]);
                        while let Some(words) = command(&mut buffer) {
                            let is_beat = words.get(1).is_some_and(|word| word == "HEARTBEAT");
                            let has_lease = words.get(7).is_some_and(|nonce| nonce == "7");
                            counted.fetch_add(u64::from(is_beat && has_lease), Ordering::SeqCst);
                            let mut out = Vec::new();
                            let mut writer = Writer::new(&mut out, Protocol::V2);
                            match is_beat {
                                true => writer.bulk(reply(&id, &hash, began).render().as_bytes()),
                                false => writer.simple("OK"),
                            }
                            // What is not taken shows in the next read.
                            let _ = stream.write_all(&out);
                        }
                    }
                    connected.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, leases, open }
    }

    fn leases(&self) -> u64 {
        self.leases.load(Ordering::SeqCst)
    }
}

fn command(buffer: &mut Vec<u8>) -> Option<Vec<String>> {
    let mut parser = Parser::new();
    let parsed = parser.parse(buffer, &Limits::new(1 << 20)).expect("RESP");
    let resp::request::Parsed::Command { length } = parsed else { return None };
    let words = parser.arguments(buffer);
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    buffer.drain(..length);
    Some(words)
}

fn reply(id: &str, hash: &str, began: Instant) -> Reply {
    let clock_ns = u64::try_from(began.elapsed().as_nanos()).expect("not that long");
    Reply {
        role: Role::Master,
        sequence: 5,
        myid: id.to_owned(),
        cluster_id: String::new(),
        version: 1,
        topology_hash: hash.to_owned(),
        clock_ns,
        nonce: "7".to_owned(),
        lease_mode: LeaseMode::BlockAll,
        lease_remaining_ms: 900,
        client_access: ClientAccess::BalancerOnly,
        balancer_sources: Vec::new(),
        strangers: Vec::new(),
        link_status: LinkStatus::Connecting,
        link_error: None,
        sync: None,
        master: None,
        resync: Resync::None,
        paused: false,
        loading: false,
        replicas: Vec::new(),
        log_wait_ms: 0,
        room: None,
        down: None,
        deposed: None,
        uptime_ms: clock_ns / 1_000_000,
        copies: Vec::new(),
        copying: Vec::new(),
        usual_rate: None,
        flows: None,
        wishes: Vec::new(),
        certificates: Vec::new(),
        trust: Vec::new(),
        newest_move: None,
        wall_ms: 0,
        standing: Standing::default(),
        moves: None,
        knows_rates: false,
        knows_tls_ports: false,
        stopping: false,
    }
}

/// Of one master, in the first term.
fn record(port: u16) -> Record {
    let mut record = Record { term: 1, ..test_record() };
    record.shards[0].nodes[0].local.port = port;
    record
}

/// A store that takes a change and never says what became of it.
#[derive(Debug)]
struct Silent {
    asked: AtomicU64,
}

impl Records for Silent {
    fn swap(&self, _: Change) -> Work<'_, Outcome> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }

    fn cluster<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> Work<'a, Result<Option<Record>, StoreError>> {
        Box::pin(std::future::pending())
    }

    fn writes_may_arrive_late(&self) -> bool {
        true
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waits = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waits).await.expect(what);
}

/// What other clusters do at that moment (plans, topologies, pushes) takes every thread there is,
/// and the store does not answer for this one: its master, which serves nobody without a lease,
/// keeps its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_master_keeps_its_lease_while_everything_else_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
    let silent = Arc::new(Silent { asked: AtomicU64::new(0) });
    let records: Arc<dyn Records> = Arc::<Silent>::clone(&silent);
    let policy = Policy { heartbeat_ms: 20, ..Policy::default() };
    let shared = Shared::new(Arc::new(store), policy).expect("threads").recorded_by(records);
    let master = Master::start("a".repeat(40));
    let cluster = Cluster::start(Arc::new(shared), record(master.port), None).expect("a cluster");
    // The first answer tells how the master is fenced, which is to be in the record.
    until("a change of the record", || silent.asked.load(Ordering::SeqCst) > 0).await;
    let before = master.leases();
    until("leases while the store is silent", || master.leases() >= before + 5).await;

    let (begun, all_begun) = mpsc::channel();
    let (end, ends) = mpsc::channel::<()>();
    let ends = Arc::new(Mutex::new(ends));
    let (counts, threads) = (Arc::clone(&master.leases), 2);
    let judge = std::thread::spawn(move || {
        for _ in 0..threads {
            all_begun.recv_timeout(Duration::from_secs(20)).expect("a thread that is taken");
        }
        let before = counts.load(Ordering::SeqCst);
        let until = Instant::now() + Duration::from_secs(20);
        while counts.load(Ordering::SeqCst) < before + 5 && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let leases = counts.load(Ordering::SeqCst) - before;
        drop(end);
        leases
    });
    let taken: Vec<_> = (0..threads)
        .map(|_| {
            let (begun, ends) = (begun.clone(), Arc::clone(&ends));
            tokio::spawn(async move {
                begun.send(()).expect("a judge");
                // Until the judge has seen enough.
                let _ = ends.lock().recv();
            })
        })
        .collect();
    for one in taken {
        one.await.expect("an end");
    }
    let leases = judge.join().expect("a judge");
    assert!(leases >= 5, "{leases} leases while all other threads were taken");
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_news_waits_for_more_and_what_is_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
    let shared = Shared::new(Arc::new(store), Policy::default()).expect("threads");
    // Nobody else takes part: there are no nodes, and its planner ends.
    let empty = Record { shards: Vec::new(), ..record(1) };
    let cluster = Cluster::start(Arc::new(shared), empty, None).expect("a cluster");
    let planner = cluster.planner.lock().take().expect("a planner");
    planner.abort();
    assert!(planner.await.is_err_and(|error| error.is_cancelled()));
    for left in [&cluster.wake, &cluster.soon] {
        let _ = tokio::time::timeout(Duration::ZERO, left.notified()).await;
    }
    let far = tokio::time::Instant::now() + Duration::from_secs(3_600);
    let made = |began| planner_task::Made { began, ended: began };

    // As if the last plan were made in an hour: soon is after that.
    cluster.seen(false, false);
    {
        let due = std::pin::pin!(planner_task::due(&cluster, far, made(far)));
        let early = tokio::time::timeout(Duration::from_millis(50), due).await;
        assert!(early.is_err(), "planned at once for what is no news");
    }
    cluster.seen(true, false);
    let due = planner_task::due(&cluster, far, made(tokio::time::Instant::now()));
    tokio::time::timeout(Duration::from_secs(20), due).await.expect("a plan for news");

    // What is no news is not forgotten either, unless the cluster rests.
    cluster.seen(false, false);
    let due = planner_task::due(&cluster, far, made(tokio::time::Instant::now()));
    tokio::time::timeout(Duration::from_secs(20), due).await.expect("a plan soon");
    cluster.seen(false, true);
    let due = planner_task::due(&cluster, far, made(tokio::time::Instant::now()));
    let early = tokio::time::timeout(Duration::from_millis(100), due).await;
    assert!(early.is_err(), "planned for nothing");
}

/// A leader that all nodes refuse is not deaf: to give the lead up would only raise the term.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_with_an_error_is_heard() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
    // Heard is what has answered within some of these.
    let policy = Policy { heartbeat_ms: 3_600_000, ..Policy::default() };
    let shared = Arc::new(Shared::new(Arc::new(store), policy).expect("threads"));
    let cluster = Cluster::start(Arc::clone(&shared), test_pair(), None).expect("a cluster");
    cluster.stop();
    let heard = || {
        let mut hearing = planner::Hearing::default();
        cluster.hears(&mut hearing);
        (hearing.nodes, hearing.heard)
    };
    assert_eq!(heard(), (2, 0));
    let error = "ERR keep on disk from which store this node is led: no space";
    cluster.state.lock().observed.complained(&"a".repeat(40), shared.now(), error);
    assert_eq!(heard(), (2, 1));
    // It refuses the store, and says who leads it.
    let other = "b".repeat(40);
    let told = api::heard::Told { myid: other.clone(), term: 9, ..api::heard::Told::default() };
    assert!(rival::heard(&cluster, &other, &told, shared.now()));
    assert_eq!(heard(), (2, 2));
}

/// An answer, a push or a pause may be under way to it by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_noted_of_a_node_that_has_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
    let shared = Arc::new(Shared::new(Arc::new(store), Policy::default()).expect("threads"));
    let cluster = Cluster::start(Arc::clone(&shared), test_pair(), None).expect("a cluster");
    let planner = cluster.planner.lock().take().expect("a planner");
    planner.abort();
    assert!(planner.await.is_err_and(|error| error.is_cancelled()));
    let (gone, now) = ("b".repeat(40), shared.now());
    let question = question::ask(&cluster, &gone, api::store::Heeds::Unsaid);
    let question = question.expect("a node of the cluster");
    let mut record = cluster.record().next();
    record.shards[0].nodes.retain(|node| node.id != gone);
    cluster.adopt(Arc::new(record)).expect("a topology");

    let is_noted = || cluster.state.lock().observed.nodes.contains_key(&gone);
    assert!(!is_noted());
    let reply = reply(&gone, "", Instant::now());
    let seen = planner::Seen { reply, sent_at: now, received_at: now };
    question::answered(&cluster, &gone, &question, seen, false);
    assert!(!is_noted());
    let told = api::heard::Told { myid: gone.clone(), term: 9, ..api::heard::Told::default() };
    assert!(!rival::heard(&cluster, &gone, &told, now));
    assert!(!is_noted());
    cluster.stop();
}

/// It was under way while the address was changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_from_where_a_balancer_was_says_nothing_of_where_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
    let shared = Arc::new(Shared::new(Arc::new(store), Policy::default()).expect("threads"));
    let lb = planner::Balancer {
        name: "lb".to_owned(),
        kind: planner::BalancerKind::Builtin,
        endpoint: "http://127.0.0.1:1".to_owned(),
        token: None,
        sources: Vec::new(),
        closing: false,
    };
    let record = Record { balancers: vec![lb.clone()], ..test_pair() };
    let cluster = Cluster::start(shared, record, None).expect("a cluster");
    let desired = Desired {
        version: 1,
        frontends: Vec::new(),
        holding: BTreeMap::new(),
        closing: BTreeSet::new(),
    };
    let is_noted = || {
        balancer_task::answered(&cluster, &lb, &desired, balancer::Applied::default());
        let state = cluster.state.lock();
        state.observed.balancers.get("lb").is_some_and(|seen| seen.in_force.is_some())
    };
    assert!(is_noted());
    let mut record = cluster.record().next();
    record.balancers[0].endpoint = "http://127.0.0.1:2".to_owned();
    cluster.adopt(Arc::new(record)).expect("a topology");
    assert!(!is_noted());
    cluster.stop();
}

/// Another controller may have led meanwhile, and have changed nothing but leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_planned_for_a_cluster_that_was_stopped_is_not_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
    let shared = Arc::new(Shared::new(Arc::new(store), Policy::default()).expect("threads"));
    let event = |text: &str| Event::now(1, "n/c".to_owned(), "change", text.to_owned());
    let record = test_pair();
    let namespace = shared.store.create_namespace(record.namespace.clone(), event("made"));
    namespace.await.done().expect("a namespace");
    shared.store.create(record.clone(), event("made")).await.done().expect("a record");
    let cluster = Cluster::start(Arc::clone(&shared), record, None).expect("a cluster");
    let planned = cluster.record().next();
    cluster.stop();
    let question = question::ask(&cluster, &"a".repeat(40), api::store::Heeds::Unsaid);
    assert!(question.is_none(), "nothing is granted");
    let late = cluster.swap(planned, event("late"), Vec::new()).await;
    assert!(matches!(late, Err(UpdateError::Over)), "{late:?}");
}

/// A process ends its runtime, and not each cluster: nothing may go on to grant then.
#[test]
fn heartbeats_end_with_the_runtime_that_began_them() {
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let until = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < until, "never: {what}");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
    let policy = Policy { heartbeat_ms: 20, ..Policy::default() };
    // Held, so that its threads stay.
    let shared = Arc::new(Shared::new(Arc::new(store), policy).expect("threads"));
    let master = Master::start("a".repeat(40));
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let begins = async { Cluster::start(Arc::clone(&shared), record(master.port), None) };
    drop(runtime.block_on(begins).expect("a cluster"));
    let is_open = || master.open.load(Ordering::SeqCst) > 0;
    wait("a lease", &|| master.leases() > 0 && is_open());
    runtime.shutdown_background();
    wait("the end of its heartbeats", &|| !is_open());
    let leases = master.leases();
    drop(shared);
    assert_eq!(master.leases(), leases, "granted after the end");
}
