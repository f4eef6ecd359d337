//! What lies between a controller and its etcd: requests that wait, and answers that etcd may give.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use planner::Record;

use super::etcd::server::Etcd as Server;
use super::suite::{event, leading, longer, named, place};
use super::{Change, Etcd, Outcome, Place, Records as _, Store as _, StoreError};
use crate::cluster::test_record;

const FULL: &str = r#"{"code":8,"message":"etcdserver: mvcc: database space exceeded"}"#;
const DENIED: &str = r#"{"code":7,"message":"etcdserver: permission denied"}"#;

/// What a proxy does.
#[derive(Default)]
struct Between {
    /// What puts something is answered with this,
    says: Option<&'static str>,
    /// and is made.
    makes: AtomicBool,
    /// The next request waits.
    holds: AtomicBool,
    goes_on: tokio::sync::Notify,
    /// What puts something, and is refused, has the next request wait.
    hides: AtomicBool,
    /// Every answer that may be long waits for so long.
    takes: Duration,
}

/// Such a proxy.
async fn between(to: String, does: Arc<Between>) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = format!("http://{}", listener.local_addr().expect("an address"));
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (http, to, does) = (http.clone(), to.clone(), Arc::clone(&does));
            tokio::spawn(async move { passed(stream, (&http, &to), &does).await });
        }
    });
    (here, task)
}

/// One request, and the end.
async fn passed(
    mut stream: tokio::net::TcpStream,
    (http, to): (&reqwest::Client, &str),
    does: &Between,
) -> Option<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut text = Vec::new();
    let (path, body) = loop {
        (stream.read_buf(&mut text).await.ok()? > 0).then_some(())?;
        let asked = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = asked.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
        if body.len() < length {
            continue;
        }
        break (head.split(' ').nth(1)?.to_owned(), body.to_owned());
    };
    if does.holds.swap(false, Ordering::SeqCst) {
        does.goes_on.notified().await;
    }
    let says = does.says.filter(|_| body.contains("request_put"));
    let (refuses, mut answer) = (says.is_some(), (429, says.unwrap_or_default().to_owned()));
    if refuses && does.hides.load(Ordering::SeqCst) {
        does.holds.store(true, Ordering::SeqCst);
    }
    let takes = if body.contains("range_end") { does.takes } else { Duration::ZERO };
    if !refuses || does.makes.load(Ordering::SeqCst) {
        let made = http.post(format!("{to}{path}")).body(body).send().await.ok()?;
        let made = (made.status().as_u16(), made.text().await.ok()?);
        answer = if refuses { answer } else { made };
    }
    tokio::time::sleep(takes).await;
    let (status, body) = answer;
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.ok()
}

/// Rule O4: etcd says that it is full of what it has made as well, and a master that is promoted by
/// it is not to be one of two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_etcd_says_of_a_change_is_looked_up() {
    let server = Server::start(1).await;
    let store = leading(&server).await;
    named(&store, "n").await.done().expect("a namespace");
    let first = Arc::new(Record { tag: 3, ..test_record() });
    store.create(Record::clone(&first), event("operator", "created")).await.done().expect("new");
    let does = Arc::new(Between { says: Some(FULL), ..Between::default() });
    let (by, task) = between(place(&server).endpoints.remove(0), Arc::clone(&does)).await;
    let by = Place { endpoints: vec![by], ..place(&server) };
    // Long enough for what is not held, on a busy machine too.
    let limit = Duration::from_secs(3);
    let brief = store.through(Place { limit, ..by.clone() }).expect("a way");
    let full = store.through(by).expect("a way");

    let refused = full.swap(longer(&first)).await;
    assert!(matches!(refused, Outcome::NotDone(StoreError::Engine { .. })), "{refused:?}");
    assert_eq!(store.cluster("n", "c").await.expect("a read").as_ref(), Some(&*first));
    full.leader().await.expect("a read").expect("a leader");
    assert!(full.trouble().expect("trouble").contains("alarm disarm"), "reads go on, and hide it");

    does.makes.store(true, Ordering::SeqCst);
    let change = longer(&first);
    full.swap(change.clone()).await.done().expect("it was made");
    assert_eq!(store.cluster("n", "c").await.expect("a read").as_ref(), Some(&*change.record));
    assert_eq!(store.events(9, Box::new(|_| true)).await.expect("events").len(), 3);

    // Not known, and nothing that could still arrive.
    does.hides.store(true, Ordering::SeqCst);
    let unseen = brief.swap(longer(&change.record)).await;
    assert!(matches!(unseen, Outcome::Unknown(StoreError::Full { .. })), "{unseen:?}");
    does.hides.store(false, Ordering::SeqCst);
    full.resign().await.done().expect("no lead");
    assert_eq!(full.holds(), None);
    task.abort();
}

/// Nothing of it is made, nobody is in doubt, and what is small enough is made as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_large_for_etcd_is_refused_by_that_name() {
    let server = Server::start_with(1, &["--max-request-bytes", "65536"]).await;
    let store = leading(&server).await;
    named(&store, "n").await.done().expect("a namespace");
    let first = Arc::new(Record { tag: 3, ..test_record() });
    store.create(Record::clone(&first), event("operator", "created")).await.done().expect("new");
    let weight = store.weight("n", "c").expect("a weight");
    assert_eq!(weight.limit, Place::default().request_max);

    let change = longer(&first);
    let large = Record { password: Some("x".repeat(70_000)), ..Record::clone(&change.record) };
    let refused = store.swap(Change { record: Arc::new(large), ..change }).await;
    let told = match refused {
        Outcome::NotDone(error @ StoreError::TooLarge { bytes: 70_001..80_000, .. }) => {
            error.to_string()
        }
        other => panic!("{other:?}"),
    };
    assert!(told.contains("`--max-request-bytes`") && told.contains("change a cluster"), "{told}");
    assert_eq!(store.cluster("n", "c").await.expect("a read").as_ref(), Some(&*first));
    assert_eq!(store.events(9, Box::new(|_| true)).await.expect("events").len(), 2);
    assert_eq!(store.trouble(), None, "it takes what is smaller");
    assert_eq!(store.weight("n", "c"), Some(weight), "it is as it was");

    let change = longer(&first);
    let more = Record { password: Some("x".repeat(30_000)), ..Record::clone(&change.record) };
    store.swap(Change { record: Arc::new(more), ..change }).await.done().expect("a change");
    let heavier = store.weight("n", "c").expect("a weight").bytes;
    assert!(heavier > weight.bytes + 30_000, "{heavier} after {weight:?}");
    // One that stands by sees the same, as long as the cluster is there.
    let other = Etcd::open(place(&server)).await.expect("an etcd");
    assert_eq!(other.weight("n", "c"), None);
    let look = other.look(0).await.expect("a look");
    assert_eq!(other.weight("n", "c").map(|weight| weight.bytes), Some(heavier));
    let gone = store.delete("n".to_owned(), "c".to_owned(), event("operator", "deleted"));
    gone.await.done().expect("its end");
    other.look(look.revision).await.expect("a look");
    assert_eq!(other.weight("n", "c"), None);
}

/// What all records are takes as long as they are large, and nobody leads without them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_all_records_has_more_time_each_time_that_it_failed() {
    let server = Server::start(1).await;
    let store = leading(&server).await;
    let does = Arc::new(Between { takes: Duration::from_millis(2_500), ..Between::default() });
    let (by, task) = between(place(&server).endpoints.remove(0), Arc::clone(&does)).await;
    let limit = Duration::from_secs(1);
    let slow = Place { endpoints: vec![by], limit, ..place(&server) };
    let slow = store.through(slow).expect("a way");
    for failed in 0..=3 {
        slow.look_again(0, failed).await.expect_err("too little time");
    }
    let look = slow.look_again(0, 20).await.expect("a look");
    assert_eq!(look.leader, store.leader().await.expect("a read"));
    // One that is away is given no longer than ever: it is to be noticed when it is back.
    does.holds.store(true, Ordering::SeqCst);
    let away = tokio::time::timeout(limit * 8, slow.look_again(0, 20)).await;
    away.expect("an end").expect_err("no answer");
    task.abort();
}

/// A proposal that etcd has lost is answered by nobody, and the next one at once. While one that
/// leads waits for the first, no node hears a controller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_by_which_one_leads_is_waited_for_no_longer_than_it_is_of_use() {
    let server = Server::start(1).await;
    let store = leading(&server).await;
    let does = Arc::new(Between::default());
    let (by, task) = between(place(&server).endpoints.remove(0), Arc::clone(&does)).await;
    let limit = Duration::from_secs(60);
    let patient = Place { endpoints: vec![by], limit, ..place(&server) };
    let patient = store.through(patient).expect("a way");
    does.holds.store(true, Ordering::SeqCst);
    let read = tokio::time::timeout(limit / 2, patient.fresh_leader()).await.expect("an end");
    let error = read.expect_err("no answer").chain();
    assert!(error.contains("no answer within 250ms"), "{error}");
    does.holds.store(false, Ordering::SeqCst);
    patient.leader().await.expect("a read").expect("a leader");
    task.abort();
}

/// A member that sends a password elsewhere, perhaps in clear, is one that does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_etcd_is_asked_is_asked_nowhere_else() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start(1).await;
    let store = leading(&server).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let by = format!("http://{}", listener.local_addr().expect("an address"));
    let there = server.endpoints().remove(0);
    let task = tokio::spawn(async move {
        let head = format!(
            "HTTP/1.1 307 x\r\nLocation: {there}/v3/kv/txn\r\n\
             Connection: close\r\nContent-Length: 0\r\n\r\n"
        );
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1 << 14]).await;
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    let sent_on = store.through(Place { endpoints: vec![by], ..place(&server) }).expect("a way");
    sent_on.leader().await.expect_err("an answer from elsewhere");
    let outcome = sent_on.resign().await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    assert!(!store.leader().await.expect("a read").expect("a leader").is_vacant());
    task.abort();
}

/// Where a role lacks a key, or lost it: nobody leads, or nothing changes, and reads are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_etcd_refuses_are_told_of_while_reads_go_on() {
    let server = Server::start(1).await;
    let store = leading(&server).await;
    let does = Arc::new(Between { says: Some(DENIED), ..Between::default() });
    let (by, task) = between(place(&server).endpoints.remove(0), does).await;
    let denied = store.through(Place { endpoints: vec![by], ..place(&server) }).expect("a way");
    let refused = named(&denied, "n").await;
    assert!(matches!(refused, Outcome::NotDone(StoreError::Engine { .. })), "{refused:?}");
    denied.leader().await.expect("a read").expect("a leader");
    let told = denied.trouble().expect("trouble");
    assert!(told.contains("refuses changes") && told.contains("permission denied"), "{told}");
    assert_eq!(store.trouble(), None);
    task.abort();
}

/// Takes the lead; the term.
async fn leads(store: &Etcd) -> u64 {
    let seen = store.leader().await.expect("who leads");
    store.claim(seen.as_ref(), "http://127.0.0.1:1", 0).await.done().expect("the lead")
}

/// Rule O1: what was decided under one claim is not made under a later one of the same process.
/// Another led in between, and gave leases that the decision does not know of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_made_under_the_claim_that_it_was_begun_under_or_not_at_all() {
    let server = Server::start(1).await;
    let other = leading(&server).await;
    named(&other, "n").await.done().expect("a namespace");
    let first = Arc::new(Record { tag: 3, ..test_record() });
    other.create(Record::clone(&first), event("operator", "created")).await.done().expect("new");
    let does = Arc::new(Between::default());
    let (by, task) = between(place(&server).endpoints.remove(0), Arc::clone(&does)).await;
    let by = Place { endpoints: vec![by], ..place(&server) };
    let next = Etcd::open(place(&server)).await.expect("an etcd");
    let store = Arc::new(next.through(by).expect("a way"));
    assert_eq!(leads(&store).await, 2);

    // It reads where the log goes on first, and waits for that.
    does.holds.store(true, Ordering::SeqCst);
    let late = tokio::spawn({
        let (store, change) = (Arc::clone(&store), longer(&first));
        async move { store.swap(change).await }
    });
    let held = async {
        while does.holds.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), held).await.expect("a request");
    assert_eq!(leads(&other).await, 3);
    assert_eq!(leads(&store).await, 4);
    does.goes_on.notify_one();
    let outcome = late.await.expect("an end");
    assert!(matches!(outcome, Outcome::NotDone(StoreError::Lost(_))), "{outcome:?}");
    assert_eq!(store.cluster("n", "c").await.expect("a read").as_ref(), Some(&*first));
    assert_eq!(store.holds(), Some(4));
    store.swap(longer(&first)).await.done().expect("what is decided now");
    task.abort();
}
