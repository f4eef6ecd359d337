//! What a controller makes of the records that it looks at, with a real etcd behind it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use planner::{Hearing, Policy, Proof, Record, Time};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::known::Lead;
use super::witness::Witness;
use super::{Claimed, End};
use crate::cluster::{Shared, test_record};
use crate::registry::Registry;
use crate::store::server::Etcd as Server;
use crate::store::{Etcd, Leader, Look, Outcome, Place, StoreError};

struct Stage {
    registry: Arc<Registry>,
    etcd: Arc<Etcd>,
    _server: Server,
}

/// One that stands by, and has not looked yet.
async fn stage() -> Stage {
    let server = Server::start(1).await;
    let limit = Duration::from_secs(10);
    let place = Place { endpoints: server.endpoints(), limit, ..Place::default() };
    let etcd = Arc::new(Etcd::open(place).await.expect("an etcd"));
    let live = Arc::new(crate::Live::new(crate::Config::default()).expect("a configuration"));
    let here = (live, SocketAddr::from(([127, 0, 0, 1], 1)));
    let lead = Lead::new(Arc::clone(&etcd), here, 0);
    let store = Arc::clone(&etcd);
    let shared = Shared::new(store, Policy::default()).expect("threads");
    let registry = Registry::new(Arc::new(shared.led_by(lead))).expect("a registry");
    Stage { registry, etcd, _server: server }
}

impl Stage {
    /// A look shows this record of the cluster n/c, and no other cluster.
    fn shows(&self, record: Record) -> Arc<crate::cluster::Cluster> {
        let names = BTreeSet::from([("n".to_owned(), "c".to_owned())]);
        self.registry.follow(Look { changed: vec![record], names, ..Look::default() });
        self.registry.get("n", "c").expect("the cluster")
    }
}

fn record(revision: u64, cluster_id: &str) -> Record {
    Record { revision, tag: revision, cluster_id: cluster_id.to_owned(), ..test_record() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_of_the_same_name_is_not_taken_for_the_first() {
    let stage = stage().await;
    let first = stage.shows(record(7, "one"));
    let later = stage.shows(record(8, "one"));
    assert!(Arc::ptr_eq(&first, &later), "it goes on");
    assert_eq!(first.record().revision, 8);
    // Removed and made anew while nobody looked; and once more, with more changes than the first.
    let second = stage.shows(record(1, "two"));
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(second.record().revision, 1);
    let third = stage.shows(record(9, "three"));
    assert!(!Arc::ptr_eq(&second, &third));
    // Of a version that gave clusters no name for nodes: the revision tells.
    let nameless = stage.shows(record(2, ""));
    assert!(!Arc::ptr_eq(&third, &nameless));
    assert_eq!(stage.registry.all().len(), 1);
    stage.registry.follow(Look::default());
    assert!(stage.registry.get("n", "c").is_none(), "it is named no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_tell_who_leads_is_trouble_after_a_while() {
    let stage = stage().await;
    let lead = stage.registry.shared.lead.as_ref().expect("one of several");
    let at = Time::from_millis;
    assert!(lead.looked(Some("no sense".to_owned()), at(1_000)), "the first");
    assert!(!lead.looked(Some("no answer".to_owned()), at(2_000)));
    assert_eq!(lead.trouble(at(5_999)), None);
    let trouble = lead.trouble(at(6_000)).expect("trouble");
    assert!(trouble.contains("for 5 s: no sense"), "{trouble}");
    assert!(!lead.looked(None, at(7_000)));
    assert_eq!(lead.trouble(at(60_000)), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_keeps_a_record_that_is_newer_than_what_it_reads() {
    let stage = stage().await;
    let term = stage.etcd.claim(None, "http://127.0.0.1:1", 0).await.done().expect("the lead");
    let lead = stage.registry.shared.lead.as_ref().expect("one of several");
    lead.known.lock().leads = Some(term);
    assert!(stage.registry.shared.leads());
    let cluster = stage.shows(record(7, "one"));
    let same = stage.shows(record(6, "one"));
    assert!(Arc::ptr_eq(&cluster, &same));
    assert_eq!(cluster.record().revision, 7);
    stage.registry.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_record_cannot_be_read_is_not_led_by_an_older_one() {
    let stage = stage().await;
    let name = ("n".to_owned(), "c".to_owned());
    stage.shows(record(7, "one"));
    let unread = || Look {
        unread: vec![(name.clone(), "a later version wrote it".to_owned())],
        names: BTreeSet::from([name.clone()]),
        ..Look::default()
    };
    stage.registry.follow(unread());
    // To stand by with what was known is good enough, and is no reason to go before others.
    assert!(stage.registry.get("n", "c").is_some());
    assert_eq!(stage.registry.hearing().unread, 1);
    let trouble = stage.registry.trouble().expect("trouble");
    assert!(trouble.contains("n/c") && trouble.contains("a later version"), "{trouble}");
    stage.registry.leads(2);
    assert!(stage.registry.get("n", "c").is_none());
    // Nothing new, then what it can read.
    stage.registry.read_again(unread());
    assert!(stage.registry.get("n", "c").is_none() && stage.registry.has_unread());
    let names = BTreeSet::from([name]);
    stage.registry.read_again(Look { changed: vec![record(8, "one")], names, ..Look::default() });
    assert_eq!(stage.registry.get("n", "c").expect("the cluster").record().revision, 8);
    assert!(!stage.registry.has_unread());
    stage.registry.stop();
}

/// What it cannot open it could not lead by, so it goes before nobody, whatever it hears.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_open_a_record_is_kept_out_until_it_can() {
    let stage = stage().await;
    let lead = stage.registry.shared.lead.as_ref().expect("one of several");
    let name = ("n".to_owned(), "c".to_owned());
    let unread = |locked: bool| Look {
        unread: vec![(name.clone(), "sealed with key ab".to_owned())],
        locked: locked.then(|| name.clone()).into_iter().collect(),
        names: BTreeSet::from([name.clone()]),
        ..Look::default()
    };
    stage.registry.follow(unread(false));
    assert!(!lead.is_kept_out(stage.registry.locked()), "a later version is no lock");
    stage.registry.follow(unread(true));
    assert!(lead.is_kept_out(stage.registry.locked()));
    let trouble = stage.registry.trouble().expect("trouble");
    assert!(trouble.contains("never leads: sealed with key ab"), "{trouble}");
    // Nothing new of it: it stays so.
    let names = BTreeSet::from([name.clone()]);
    stage.registry.follow(Look { names, ..Look::default() });
    assert!(lead.is_kept_out(stage.registry.locked()));
    stage.shows(record(8, "one"));
    assert!(!lead.is_kept_out(stage.registry.locked()));
    stage.registry.follow(unread(true));
    stage.registry.follow(Look::default());
    assert!(!lead.is_kept_out(stage.registry.locked()), "it is gone");
    stage.registry.stop();
}

/// One that leads, at least by its port: where it is, and what it was asked last.
async fn leading() -> (Leader, Arc<Mutex<String>>) {
    answering("", "").await
}

/// The same, with a line more in its answers, and a body that comes behind the rest of each.
async fn answering(line: &'static str, body: &'static str) -> (Leader, Arc<Mutex<String>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(String::new()));
    let newest = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut question).await {
                *newest.lock() = String::from_utf8_lossy(&question[..count]).into_owned();
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\n{line}Content-Length: {length}\r\n\r\n");
                if stream.write_all(head.as_bytes()).await.is_err() {
                    break;
                }
                // Before the next question comes.
                tokio::time::sleep(Duration::from_millis(20)).await;
                if stream.write_all(body.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    (leader_at(&address), asked)
}

fn leader_at(address: &str) -> Leader {
    let leader = serde_json::json!({ "term": 1, "claim": "a", "address": address });
    serde_json::from_value(leader).expect("a leader")
}

/// One that was asked and has not answered was not heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_heard_once_it_has_answered() {
    let stage = stage().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let mut witness = Witness::new(Arc::clone(&stage.registry.shared));
    assert!(!witness.has_heard(), "it looks at nobody");
    witness.watch(Some(&leader_at(&address)));
    let heard = async {
        // Once more where the answer came so late that it is waited for no longer.
        while !witness.has_heard() {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            if !matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {
                continue;
            }
            assert!(!witness.has_heard(), "it was asked");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            // Until it is heard, or the other end is closed.
            while !witness.has_heard() && !matches!(stream.try_read(&mut [0; 4096]), Ok(0)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("it is heard");
    stage.registry.stop();
}

/// Of one leader, and of one moment: nothing that was left, or comes late, speaks for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_in_the_store_answers_there_and_nobody_else_does() {
    let server = Server::start(1).await;
    let limit = Duration::from_secs(10);
    let open = async || {
        let place = Place { endpoints: server.endpoints(), limit, ..Place::default() };
        Etcd::open(place).await.expect("an etcd")
    };
    let (leader, standby, other) = (open().await, open().await, open().await);
    leader.claim(None, "http://127.0.0.1:1", 0).await.done().expect("the lead");
    let asked = async || {
        leader.leader().await.expect("a read");
        leader.asked()
    };
    let shown = async || standby.look(0).await.expect("a look").doubt;
    assert_eq!(asked().await, None);
    let look = standby.look(0).await.expect("a look");
    let (seen, none) = (look.leader.expect("a leader"), look.doubt);
    standby.ask(&seen, &none).await.done().expect("a question");
    let second = other.ask(&seen, &none).await;
    assert!(matches!(second, Outcome::NotDone(StoreError::Conflict)), "{second:?}");
    let doubt = asked().await.expect("a question");
    assert_eq!(asked().await, None, "each once");
    let outcome = standby.answer(&doubt, 9).await;
    assert!(matches!(outcome, Outcome::NotDone(StoreError::Lost(_))), "{outcome:?}");
    assert_eq!(shown().await.asked().reaches, None);
    leader.answer(&doubt, 3).await.done().expect("an answer");
    assert_eq!(shown().await.asked().reaches, Some(3));
    assert_eq!(asked().await, None, "it is answered");

    // What was asked before is answered no more.
    standby.ask(&seen, &shown().await).await.done().expect("a question");
    let before = asked().await.expect("a question");
    other.ask(&seen, &shown().await).await.done().expect("a question");
    let outcome = leader.answer(&before, 3).await;
    assert!(matches!(outcome, Outcome::NotDone(StoreError::Conflict)), "{outcome:?}");
    // Nor by one that was replaced meanwhile, and nobody asks that one.
    let last = asked().await.expect("a question");
    standby.claim(Some(&seen), "http://127.0.0.1:2", 0).await.done().expect("the lead");
    let outcome = leader.answer(&last, 3).await;
    assert!(matches!(outcome, Outcome::NotDone(StoreError::Lost(_))), "{outcome:?}");
    let unanswered = shown().await;
    assert_eq!(unanswered.asked().reaches, None);
    let outcome = other.ask(&seen, &unanswered).await;
    assert!(matches!(outcome, Outcome::NotDone(StoreError::Conflict)), "{outcome:?}");
    // It led before: the question is none to its next claim.
    let now = leader.leader().await.expect("a read");
    leader.claim(now.as_ref(), "http://127.0.0.1:1", 0).await.done().expect("the lead");
    assert_eq!(asked().await, None);
}

/// By that a leader knows whether it is worth while to give the lead up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_by_tells_the_leader_how_many_nodes_it_hears() {
    let stage = stage().await;
    let (leader, asked) = leading().await;
    let mut witness = Witness::new(Arc::clone(&stage.registry.shared));
    witness.watch(Some(&leader));
    let hearing = Hearing { nodes: 5, heard: 4, answering: 3, ..Hearing::default() };
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    let is_told = |hears: &str| {
        let asked = asked.lock();
        let is_health = asked.starts_with("GET /healthz HTTP/1.1\r\n");
        let is_told = asked.contains(&format!("\r\nx-holdfast-hears: {hears}\r\n"));
        assert!(tokio::time::Instant::now() < end, "{hears} is waited for: {asked}");
        is_health && is_told
    };
    while !is_told("3/5") {
        // As with each look at the store.
        witness.standby(None, (Vec::new(), hearing), None);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Its store answers no more: it would not take the lead.
    while !is_told("0/5") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stage.registry.stop();
}

/// Rule O10: one hop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_passed_on_follows_no_redirect() {
    let stage = stage().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let there = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let head = format!(
            "HTTP/1.1 307 x\r\nLocation: http://{there}/other\r\n\
             Connection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let mut asked = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = [0; 4096];
            let count = stream.read(&mut text).await.unwrap_or(0);
            asked.push(String::from_utf8_lossy(&text[..count]).into_owned());
            assert_eq!(asked.len(), 1, "{asked:?}");
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    let passed = stage.registry.passing.post(format!("http://{there}/api")).body("{}").send();
    let answer = passed.await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 307);
    assert!(!task.is_finished(), "it was asked once");
    task.abort();
}

/// All controllers start at one moment, as after a power cut: the address in the store answers, by
/// another process, perhaps the one that asks. Nobody would ever lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_at_the_leaders_address_is_not_taken_for_it() {
    let stage = stage().await;
    let hearing = Hearing::default();
    let cases = [
        ("x-holdfast-holds: 0\r\n", "", false),
        // The rest of an answer says nothing of it.
        ("x-holdfast-holds: 0\r\n", "etcd has not answered", false),
        ("x-holdfast-holds: 1\r\n", "ok", true),
        ("x-holdfast-holds: 2\r\n", "", true),
        // Nor does one of before.
        ("", "", true),
    ];
    for (line, body, is_it) in cases {
        let (leader, asked) = answering(line, body).await;
        let mut witness = Witness::new(Arc::clone(&stage.registry.shared));
        witness.watch(Some(&leader));
        let began = witness.standby(None, (Vec::new(), hearing), None).heard_at;
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut questions = 0;
        // The answer to one question is read before the next one is asked, unless it is too late.
        let is_seen = |witness: &Witness| {
            let standby = witness.standby(None, (Vec::new(), hearing), None);
            if is_it { standby.heard_at > began } else { standby.replaced_at.is_some() }
        };
        while questions < 3 || !is_seen(&witness) {
            if !std::mem::take(&mut *asked.lock()).is_empty() {
                questions += 1;
            }
            assert!(tokio::time::Instant::now() < end, "{line}: {questions}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let standby = witness.standby(None, (Vec::new(), hearing), None);
        assert_eq!(standby.heard_at > began, is_it, "{line}");
        assert_eq!(witness.has_heard(), is_it, "{line}");
        assert_eq!(standby.replaced_at.is_none(), is_it, "{line}");
        assert_eq!(standby.closed_at, None, "{line}: it takes connections all the same");
        let silent = planner::proof(&standby, &Policy::default(), began.plus_millis(400));
        assert_eq!(silent.is_some(), !is_it, "{line}");
    }
    stage.registry.stop();
}

/// What another one has taken in the same moment may be free again in the next, as where it dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_that_was_lost_is_no_claim() {
    let stage = stage().await;
    let lead = stage.registry.shared.lead.as_ref().expect("one of several");
    assert!(lead.claim(None, Proof::Vacant).await);
    assert!(!lead.claim(None, Proof::Vacant).await, "there is a leader by now");
    let leader = stage.etcd.leader().await.expect("an answer").expect("a leader");
    assert!(lead.claim(Some(&leader), Proof::Silent).await);
    let at = Time::from_millis;
    let mut claimed = Claimed::default();
    claimed.begins(Proof::Vacant, at(1_000));
    let vacant = |claimed: &Claimed| planner::Standby {
        vacant_at: Some(at(1_010)),
        claimed_at: claimed.at,
        ..planner::Standby::default()
    };
    let proof = |of: planner::Standby| planner::proof(&of, &Policy::default(), at(1_060));
    assert_eq!(proof(vacant(&claimed)), None, "one claim in two seconds");
    claimed.lost_race();
    assert_eq!(proof(vacant(&claimed)), Some(Proof::Vacant));
    stage.registry.stop();
}

/// Whatever refuses its claims, it does not claim with each look.
#[test]
fn races_that_are_lost_one_after_the_other_are_claims() {
    let at = Time::from_millis;
    let mut claimed = Claimed::default();
    let mut claims = Vec::new();
    for ms in (1_000..6_000).step_by(60) {
        let vacant = planner::Standby {
            vacant_at: Some(at(1_000)),
            claimed_at: claimed.at,
            ..planner::Standby::default()
        };
        if let Some(proof) = planner::proof(&vacant, &Policy::default(), at(ms)) {
            claims.push(ms);
            claimed.begins(proof, at(ms));
            claimed.lost_race();
        }
    }
    assert_eq!(claims, [1_000, 1_060, 3_100, 3_160, 5_200, 5_260]);
}

#[test]
fn a_lead_that_a_few_nodes_spoke_for_and_another_took_back_is_claimed_later_each_time() {
    let mut claimed = Claimed::default();
    let after = |claimed: &mut Claimed, by: Proof, end: End| {
        claimed.begins(by, Time::from_millis(1));
        claimed.ended(end, Time::from_millis(2));
        claimed.in_vain
    };
    assert_eq!(after(&mut claimed, Proof::Few, End::Lost), 1);
    assert_eq!(after(&mut claimed, Proof::Few, End::Lost), 2);
    assert_eq!(after(&mut claimed, Proof::Few, End::Deaf), 3, "given to one that hears more");
    assert_eq!(after(&mut claimed, Proof::Few, End::Moved), 0);
    assert_eq!(after(&mut claimed, Proof::Few, End::Lost), 1);
    assert_eq!(after(&mut claimed, Proof::Silent, End::Lost), 0, "that is over");
    // A cut that has ended is none of the next one.
    let hears = |heard: usize| Hearing { nodes: 3, heard, ..Hearing::default() };
    for (hears_leader, heard, left) in [(true, 1, 1), (false, 2, 1), (true, 2, 0)] {
        assert_eq!(after(&mut claimed, Proof::Silent, End::Lost), 0);
        assert_eq!(after(&mut claimed, Proof::Few, End::Lost), 1);
        claimed.hears(hears_leader, hears(heard));
        assert_eq!(claimed.in_vain, left, "{hears_leader}: {heard}");
    }
}

/// It would have it again before the one that it is given to has looked.
#[test]
fn a_lead_that_was_given_up_is_left_to_others_for_a_while() {
    let at = Time::from_millis;
    for (end, is_at_once) in [(End::Deaf, false), (End::Moved, true), (End::Lost, true)] {
        let mut claimed = Claimed::default();
        claimed.begins(Proof::Few, at(1_000));
        claimed.ended(end, at(5_000));
        let vacant = planner::Standby {
            vacant_at: Some(at(5_000)),
            claimed_at: claimed.at,
            ..planner::Standby::default()
        };
        for (ms, may) in [(5_060, is_at_once), (6_999, is_at_once), (7_000, true)] {
            let proof = planner::proof(&vacant, &Policy::default(), at(ms));
            assert_eq!(proof.is_some(), may, "{end:?}: at {ms}");
        }
    }
}
