//! What every store must do, run over each kind.

use std::sync::Arc;

use api::rest::UserRole;
use planner::Record;

use super::etcd::server::Etcd as Server;
use super::{Change, Embedded, Etcd, Has, Outcome, Place, Records as _, Store, StoreError};
use crate::access::User;
use crate::cluster::{test_actor, test_record};
use crate::events::Event;
use crate::seal::Keys;

/// A store that leads, and what it needs to be there.
struct Stage {
    store: Arc<dyn Store>,
    _folder: Option<tempfile::TempDir>,
    _etcd: Option<Server>,
}

async fn embedded() -> Stage {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
    Stage { store: Arc::new(store), _folder: Some(folder), _etcd: None }
}

async fn etcd() -> Stage {
    let server = Server::start(1).await;
    let store = leading(&server).await;
    Stage { store: Arc::new(store), _folder: None, _etcd: Some(server) }
}

/// Patient, because the machine may be busy.
pub(super) fn place(server: &Server) -> Place {
    let limit = std::time::Duration::from_secs(10);
    Place { endpoints: server.endpoints(), limit, ..Place::default() }
}

pub(super) async fn leading(server: &Server) -> Etcd {
    let store = Etcd::open(place(server)).await.expect("an etcd");
    let seen = store.leader().await.expect("who leads");
    store.claim(seen.as_ref(), "http://127.0.0.1:1", 0).await.done().expect("the lead");
    store
}

pub(super) fn event(kind: &str, text: &str) -> Event {
    Event::now(1, "n/c".to_owned(), kind, text.to_owned())
}

fn other(name: &str, port: u16) -> Record {
    let mut record = Record { name: name.to_owned(), tag: 7, ..test_record() };
    record.shards[0].nodes[0].local.port = port;
    record
}

pub(super) fn longer(was: &Arc<Record>) -> Change {
    let mut next = was.next();
    next.longest_lease_ms += 1;
    Change::new(Arc::clone(was), next, event("change", "longer leases"))
}

pub(super) async fn named(store: &dyn Store, name: &str) -> Outcome {
    store.create_namespace(name.to_owned(), event("operator", "a namespace")).await
}

macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        mod over_a_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(super::embedded().await).await; })*
        }
        mod over_etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(super::etcd().await).await; })*
        }
    };
}

suite!(
    namespaces_come_and_go_and_full_ones_stay,
    a_cluster_changes_only_from_what_the_store_has,
    an_address_is_one_clusters,
    a_deleted_cluster_leaves_its_addresses,
    events_are_in_the_transaction_of_the_change,
    a_change_brings_as_many_events_as_it_may,
    history_outlives_a_flood,
    users_come_and_go_with_their_events_or_not_at_all,
    a_term_is_above_zero_and_nothing_is_wrong,
);

async fn namespaces_come_and_go_and_full_ones_stay(stage: Stage) {
    let store = &*stage.store;
    for name in ["b", "n"] {
        named(store, name).await.done().expect("a new one");
    }
    let again = named(store, "n").await;
    assert!(matches!(again, Outcome::NotDone(StoreError::Exists)), "{again:?}");
    assert_eq!(store.namespaces().await.expect("names"), ["b", "n"]);
    store.create(test_record(), event("operator", "created")).await.done().expect("a cluster");
    let full = store.delete_namespace("n".to_owned(), event("operator", "away")).await;
    assert!(matches!(full, Outcome::NotDone(StoreError::NotEmpty)), "{full:?}");
    store
        .delete_namespace("b".to_owned(), event("operator", "away"))
        .await
        .done()
        .expect("an empty one");
    let gone = store.delete_namespace("b".to_owned(), event("operator", "away")).await;
    assert!(matches!(gone, Outcome::NotDone(StoreError::NotFound)), "{gone:?}");
}

async fn a_cluster_changes_only_from_what_the_store_has(stage: Stage) {
    let store = &*stage.store;
    let nowhere = store.create(test_record(), event("operator", "created")).await;
    assert!(matches!(nowhere, Outcome::NotDone(StoreError::NotFound)), "{nowhere:?}");
    named(store, "n").await.done().expect("a namespace");
    assert_eq!(store.cluster("n", "c").await.expect("a read"), None);
    let first = Arc::new(Record { tag: 3, ..test_record() });
    store.create(Record::clone(&first), event("operator", "created")).await.done().expect("new");
    let twice = store.create(Record::clone(&first), event("operator", "created")).await;
    assert!(matches!(twice, Outcome::NotDone(StoreError::Exists)), "{twice:?}");
    assert_eq!(store.cluster("n", "c").await.expect("a read").as_ref(), Some(&*first));

    let (one, late) = (longer(&first), longer(&first));
    assert_ne!(one.record.tag, late.record.tag);
    store.swap(one.clone()).await.done().expect("a change");
    let too_late = store.swap(late).await;
    assert!(matches!(too_late, Outcome::NotDone(StoreError::Conflict)), "{too_late:?}");
    assert_eq!(store.cluster("n", "c").await.expect("a read").as_ref(), Some(&*one.record));

    // The revision is right, and the content another: a store that was restored gives numbers
    // twice.
    let look_alike = Arc::new(Record { tag: 99, ..Record::clone(&one.record) });
    let foreign = store.swap(longer(&look_alike)).await;
    assert!(matches!(foreign, Outcome::NotDone(StoreError::Conflict)), "{foreign:?}");
    let nobody = Arc::new(Record { name: "x".to_owned(), ..Record::clone(&one.record) });
    let missing = store.swap(longer(&nobody)).await;
    assert!(matches!(missing, Outcome::NotDone(StoreError::NotFound)), "{missing:?}");
}

async fn an_address_is_one_clusters(stage: Stage) {
    let store = &*stage.store;
    named(store, "n").await.done().expect("a namespace");
    store.create(test_record(), event("operator", "created")).await.done().expect("a cluster");
    let taken = store.create(other("d", 1), event("operator", "created")).await;
    let Outcome::NotDone(StoreError::Used { what, cluster }) = taken else { panic!("{taken:?}") };
    assert_eq!((&*what, &*cluster), ("node 127.0.0.1:1", "n/c"));
    let free = other("d", 2);
    store.create(free.clone(), event("operator", "created")).await.done().expect("another");
    let mut grown = free.next();
    grown.shards[0].nodes.push(planner::Node {
        id: "b".repeat(40),
        role: planner::Role::Slave,
        ..test_record().shards[0].nodes[0].clone()
    });
    let change = Change::new(Arc::new(free), grown, event("operator", "added"));
    let taken = store.swap(change).await;
    assert!(matches!(taken, Outcome::NotDone(StoreError::Used { .. })), "{taken:?}");
    let names: Vec<_> =
        store.clusters().await.expect("clusters").into_iter().map(|of| of.name).collect();
    assert_eq!(names, ["c", "d"]);
}

async fn a_deleted_cluster_leaves_its_addresses(stage: Stage) {
    let store = &*stage.store;
    named(store, "n").await.done().expect("a namespace");
    store.create(test_record(), event("operator", "created")).await.done().expect("a cluster");
    let delete = || store.delete("n".to_owned(), "c".to_owned(), event("operator", "deleted"));
    delete().await.done().expect("its end");
    let gone = delete().await;
    assert!(matches!(gone, Outcome::NotDone(StoreError::NotFound)), "{gone:?}");
    assert!(store.clusters().await.expect("clusters").is_empty());
    store.create(other("d", 1), event("operator", "created")).await.done().expect("its address");
}

async fn events_are_in_the_transaction_of_the_change(stage: Stage) {
    let store = &*stage.store;
    named(store, "n").await.done().expect("a namespace");
    let first = Arc::new(test_record());
    store.create(Record::clone(&first), event("operator", "created")).await.done().expect("new");
    let one = longer(&first);
    store.swap(one.clone()).await.done().expect("a change");
    assert!(store.swap(longer(&first)).await.done().is_err());
    store.append(vec![event("alarm", "a node is silent")]).await.done().expect("an event");
    let all = store.events(10, Box::new(|_| true)).await.expect("events");
    let texts: Vec<&str> = all.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts, ["a namespace", "created", "longer leases", "a node is silent"]);
    assert!(all.is_sorted_by_key(|event| event.number));
    let some = store.events(1, Box::new(|event| event.kind == "change")).await.expect("events");
    assert_eq!(some.len(), 1);
}

/// A failover of many shards, each of which has lost something.
async fn a_change_brings_as_many_events_as_it_may(stage: Stage) {
    let store = &*stage.store;
    named(store, "n").await.done().expect("a namespace");
    let first = Arc::new(test_record());
    store.create(Record::clone(&first), event("operator", "created")).await.done().expect("new");
    let lost = |shard: u64| {
        let shard = Some(planner::ShardId(shard));
        Event { shard, ..event("loss", "shard 0: lost") }
    };
    let most = u64::try_from(Change::ALSO_MAX).expect("few");
    let also: Vec<Event> = (1..=most).map(lost).collect();
    let change = Change { also, ..longer(&first) };
    store.swap(change.clone()).await.done().expect("a change");
    let told = |event: &Event| event.kind == "loss";
    let all = store.events(1_000, Box::new(told)).await.expect("events");
    let shards: Vec<u64> = all.iter().filter_map(|event| Some(event.shard?.0)).collect();
    assert_eq!(shards, (1..=most).collect::<Vec<_>>());
    // With a change that is not made none of them is.
    assert!(store.swap(change).await.done().is_err());
    assert_eq!(store.events(1_000, Box::new(told)).await.expect("events").len(), shards.len());
}

async fn history_outlives_a_flood(stage: Stage) {
    let store = &*stage.store;
    store.append(vec![event("failover", "a master died")]).await.done().expect("room");
    // Every day's, and what somebody's script asks for again and again.
    for kind in ["alarm", "operator"] {
        for _ in 0..6 {
            let flood = (0..350).map(|number| event(kind, &number.to_string())).collect();
            store.append(flood).await.done().expect("room");
        }
    }
    let all = store.events(10_000, Box::new(|_| true)).await.expect("events");
    assert_eq!(all[0].text, "a master died");
    assert!(all.len() > 2_000, "{}", all.len());
    let newest = store.events(2, Box::new(|_| true)).await.expect("events");
    assert_eq!((newest.len(), newest[1].text.as_str()), (2, "349"));
}

async fn users_come_and_go_with_their_events_or_not_at_all(stage: Stage) {
    let store = &*stage.store;
    let user = |name: &str, hash: &str| User {
        name: name.to_owned(),
        role: UserRole::Operator,
        namespaces: Vec::new(),
        hash: hash.to_owned(),
        certificate: None,
        created_at_ms: 1,
        created_by: "admin".to_owned(),
        expires_at_ms: Some(9),
        last_used_ms: None,
    };
    assert!(store.users().await.expect("users").is_empty());
    for name in ["deploy", "be"] {
        let added = store.add_user(user(name, name), event("operator", "added")).await;
        added.done().expect("a new one");
    }
    // Nobody takes a name over, nor the token that goes with it.
    let again = store.add_user(user("be", "other"), event("operator", "twice")).await;
    assert!(matches!(again, Outcome::NotDone(StoreError::Exists)), "{again:?}");
    assert_eq!(store.users().await.expect("users"), [user("be", "be"), user("deploy", "deploy")]);
    let remove = || store.remove_user("be".to_owned(), event("operator", "removed"));
    remove().await.done().expect("its end");
    let gone = remove().await;
    assert!(matches!(gone, Outcome::NotDone(StoreError::NotFound)), "{gone:?}");
    assert_eq!(store.users().await.expect("users"), [user("deploy", "deploy")]);
    // That one is seen is no event, and brings nobody back.
    let seen = [("be", 5), ("deploy", 7), ("x", 9)].map(|(name, ms)| (name.to_owned(), ms));
    store.saw_users(seen.into()).await.done().expect("a note");
    let noted = User { last_used_ms: Some(7), ..user("deploy", "deploy") };
    assert_eq!(store.users().await.expect("users"), [noted]);
    let all = store.events(10, Box::new(|_| true)).await.expect("events");
    let texts: Vec<&str> = all.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts, ["added", "added", "removed"]);
    // The log has the actor as the request named it.
    let asked = Event::asked(&test_actor(), 1, String::new(), "asked".to_owned());
    store.append(vec![asked]).await.done().expect("an event");
    let audit = store.events(10, Box::new(|event| event.by.is_some())).await.expect("events");
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0].by, Some(test_actor()));
}

async fn a_term_is_above_zero_and_nothing_is_wrong(stage: Stage) {
    let store = &*stage.store;
    assert!(store.term() > 0);
    store.append(vec![event("start", "started")]).await.done().expect("an event");
    assert_eq!((store.trouble(), store.lost()), (None, None));
    assert!(store.written_ago().is_some());
}

/// Rule O1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_claims_shuts_the_last_leader_out() {
    let server = Server::start(1).await;
    let old = leading(&server).await;
    named(&old, "n").await.done().expect("a namespace");
    let first = Arc::new(Record { tag: 3, ..test_record() });
    old.create(Record::clone(&first), event("operator", "created")).await.done().expect("new");

    let next = Etcd::open(place(&server)).await.expect("an etcd");
    assert_eq!(next.identity(), old.identity());
    let refused = next.swap(longer(&first)).await;
    assert!(matches!(refused, Outcome::NotDone(StoreError::Lost(_))), "{refused:?}");
    let seen = next.leader().await.expect("a read");
    let look = next.look(0).await.expect("a look");
    assert_eq!((look.changed.len(), look.names.len()), (1, 1));
    next.claim(seen.as_ref(), "http://127.0.0.1:2", 0).await.done().expect("the lead");
    assert_eq!((old.holds(), next.holds()), (Some(1), Some(2)));
    // A third one that is late with the same proof gets nothing.
    let late = Etcd::open(place(&server)).await.expect("an etcd");
    let outcome = late.claim(seen.as_ref(), "http://127.0.0.1:3", 0).await;
    assert!(matches!(outcome, Outcome::NotDone(StoreError::Conflict)), "{outcome:?}");

    let refused = old.swap(longer(&first)).await;
    assert!(matches!(refused, Outcome::NotDone(StoreError::Lost(_))), "{refused:?}");
    assert_eq!(old.holds(), None);
    let change = longer(&first);
    next.swap(change.clone()).await.done().expect("a change");
    let quiet = next.look(look.revision).await.expect("a look");
    assert_eq!(quiet.changed, [Record::clone(&change.record)]);
    let quiet = next.look(quiet.revision).await.expect("a look");
    assert!(quiet.changed.is_empty() && quiet.names.len() == 1);
    let measures = next.measures().expect("what is measured of an etcd");
    assert_eq!((measures.leader_changes, measures.failures), (1, 0));
    assert!(measures.reads.count() >= 4 && measures.writes.count() >= 2, "{measures:?}");
    assert!(measures.answered_ago.is_some() && measures.raft_term > 0, "{measures:?}");

    // A vacant lead keeps its term.
    next.resign().await.done().expect("no lead");
    let vacant = old.leader().await.expect("a read").expect("a term");
    assert!(vacant.is_vacant());
    let term = old.claim(Some(&vacant), "http://127.0.0.1:1", 0).await.done().expect("the lead");
    assert_eq!(term, 3);
    let texts = old.events(9, Box::new(|_| true)).await.expect("events");
    assert_eq!(texts.len(), 3);
}

/// A proxy that passes requests on to etcd and keeps the answers to itself.
async fn swallowing(to: String) -> (String, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = format!("http://{}", listener.local_addr().expect("an address"));
    let task = tokio::spawn(async move {
        let to = to.trim_start_matches("http://").to_owned();
        while let Ok((mut from, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let Ok(mut on) = tokio::net::TcpStream::connect(to).await else { return };
                let mut buffer = vec![0; 1 << 16];
                while let Ok(count) = from.read(&mut buffer).await {
                    if count == 0 || on.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (here, task)
}

/// A leader that answers is not taken for gone, so a lead that it left without a word would be
/// nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_is_held_until_it_is_vacant_for_certain() {
    let mut server = Server::start(1).await;
    let store = leading(&server).await;
    let term = store.holds().expect("the lead");
    // Long enough for it to be sent, on a busy machine too.
    let limit = std::time::Duration::from_secs(2);
    // The answer is lost: it may be vacant, or not.
    let (deaf, task) = swallowing(place(&server).endpoints[0].clone()).await;
    let by_proxy = Place { endpoints: vec![deaf], limit, ..place(&server) };
    let unheard = store.through(by_proxy).expect("a way");
    let outcome = unheard.resign().await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    assert_eq!(unheard.holds(), Some(term));
    task.abort();
    let made = async {
        while !store.leader().await.expect("a read").expect("a term").is_vacant() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), made).await.expect("it was done");
    assert_eq!(store.holds(), None, "it was seen to be vacant");

    // Nobody is there to take it.
    let vacant = store.leader().await.expect("a read");
    let claimed = store.claim(vacant.as_ref(), "http://127.0.0.1:1", 0).await;
    let term = claimed.done().expect("the lead");
    server.kill(0);
    let outcome = store.resign().await;
    assert!(matches!(outcome, Outcome::NotDone(_) | Outcome::Unknown(_)), "{outcome:?}");
    assert_eq!(store.holds(), Some(term));
    server.start_again().await;
    store.resign().await.done().expect("no lead");
    assert_eq!(store.holds(), None);
}

/// A later version may write what this one cannot read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_read_hides_no_other() {
    let server = Server::start(1).await;
    let store = leading(&server).await;
    named(&store, "n").await.done().expect("a namespace");
    let first = Record { tag: 3, ..test_record() };
    store.create(first.clone(), event("operator", "created")).await.done().expect("new");
    server.put("/holdfast/clusters/n/later", "{\"shards\": 7}").await;
    let look = store.look(0).await.expect("a look");
    assert_eq!(look.changed, [first]);
    assert_eq!(look.names.len(), 2);
    let [((namespace, name), why)] = &look.unread[..] else { panic!("{look:?}") };
    assert_eq!((namespace.as_str(), name.as_str()), ("n", "later"));
    assert!(!why.is_empty());
    let quiet = store.look(look.revision).await.expect("a look");
    assert!(quiet.changed.is_empty() && quiet.unread.is_empty());
    let held = store.held().await.expect("a read").into_iter();
    let held: Vec<(String, Has)> = held.map(|one| (one.name, one.has)).collect();
    assert_eq!(held, [("c".to_owned(), Has::None), ("later".to_owned(), Has::Unread)]);
}

/// Hazard A3, rule O4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_neither_done_nor_not_done() {
    let mut server = Server::start(1).await;
    let store = leading(&server).await;
    named(&store, "n").await.done().expect("a namespace");
    let (deaf, task) = swallowing(place(&server).endpoints[0].clone()).await;
    let by_proxy = Place {
        endpoints: vec![deaf],
        // Long enough for it to be sent, on a busy machine too.
        limit: std::time::Duration::from_secs(2),
        ..place(&server)
    };
    // Only writes are asked: reads would go the same way.
    let unheard = store.through(by_proxy).expect("a way");
    let outcome = named(&unheard, "m").await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    assert!(unheard.trouble().is_some());
    task.abort();
    let made = async {
        while store.namespaces().await.expect("names").len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), made).await.expect("it was done");

    // Nobody there is certain, and so it is when it comes back.
    server.kill(0);
    let outcome = named(&store, "o").await;
    assert!(matches!(outcome, Outcome::NotDone(_) | Outcome::Unknown(_)), "{outcome:?}");
    let fresh = Etcd::open(place(&server)).await;
    assert!(matches!(fresh, Err(StoreError::Away(_))));
    server.start_again().await;
    assert_eq!(store.namespaces().await.expect("names").len(), 2);
    assert_eq!(store.trouble(), None);
}

/// Rule O9: a read waits for no member that is silent, and a change is asked of one alone: made by
/// two it could be refused by its own first half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_goes_to_two_members_at_once_and_a_change_to_one() {
    let server = Server::start(1).await;
    let store = leading(&server).await;
    named(&store, "n").await.done().expect("a namespace");
    let answering = place(&server).endpoints.remove(0);
    let (deaf, task) = swallowing(answering.clone()).await;
    let by_both = Place { endpoints: vec![deaf, answering], ..place(&server) };
    let reader = store.through(by_both.clone()).expect("a way");
    for _ in 0..3 {
        // One whose limit passes is an error.
        reader.leader().await.expect("a read").expect("a leader");
    }
    let limit = std::time::Duration::from_secs(2);
    let writer = store.through(Place { limit, ..by_both }).expect("a way");
    let outcome = named(&writer, "m").await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    task.abort();
}

fn key() -> String {
    crate::seal::grown("", false).expect("a key").0
}

fn keys(lines: &[&str]) -> Arc<Keys> {
    Arc::new(Keys::parse(&lines.join("\n")).expect("keys"))
}

fn secretive() -> Record {
    Record { tag: 3, password: Some("s3cret".to_owned()), ..test_record() }
}

/// How the secrets of the only cluster lie in the store.
async fn lies(store: &dyn Store) -> Has {
    let mut held = store.held().await.expect("a read");
    assert_eq!(held.len(), 1);
    held.remove(0).has
}

fn sealed(by: &Keys) -> Has {
    Has::Sealed(by.sealing().expect("a key").to_owned())
}

/// Opens the file as soon as a thread that wrote to it has let go of it.
async fn opened(path: &std::path::Path, keys: &Arc<Keys>) -> Result<Embedded, StoreError> {
    loop {
        match Embedded::open_with(path, 0, Arc::clone(keys)) {
            Err(StoreError::InUse(_)) => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            other => return other,
        }
    }
}

/// Written in clear, sealed by the next write, by another key, and in clear again. A process whose
/// keys do not do changes nothing, not even the term.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_opened_with_its_keys_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let (one, other) = (key(), key());
    let none = Arc::new(Keys::default());
    let clear = opened(&path, &none).await.expect("a store");
    named(&clear, "n").await.done().expect("a namespace");
    let made = clear.create(secretive(), event("operator", "created")).await;
    made.done().expect("a cluster");
    assert_eq!(lies(&clear).await, Has::Clear);
    drop(clear);

    let mut last = secretive();
    let (first, alone) = (keys(&[&one]), keys(&[&other]));
    let steps = [
        (Arc::clone(&first), Some(Arc::clone(&none))),
        (keys(&[&other, &one]), Some(Arc::clone(&first))),
        (keys(&["none", &other]), None),
        (Arc::clone(&first), Some(alone)),
    ];
    for (term, (own, not)) in (2..).zip(steps) {
        let store = opened(&path, &own).await.expect("a store");
        assert_eq!(store.term(), term, "nobody else has begun a term");
        assert_eq!(store.cluster("n", "c").await.expect("a read").as_ref(), Some(&last));
        let change = longer(&Arc::new(last));
        store.swap(change.clone()).await.done().expect("a change");
        last = Record::clone(&change.record);
        let has = if own.sealing().is_none() { Has::Clear } else { sealed(&own) };
        assert_eq!(lies(&store).await, has);
        drop(store);
        if let Some(not) = not {
            let error = opened(&path, &not).await.expect_err("a refusal");
            assert!(matches!(error, StoreError::Locked { .. }), "{error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}

/// The marker alone: nothing is sealed yet, and the next secret would be by a key that others lack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_secrets_is_not_led_with_other_keys_either() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let (one, other) = (key(), key());
    let open = |line: &str| Embedded::open_with(&path, 0, keys(&[line]));
    drop(open(&one).expect("a store"));
    assert!(matches!(open(&other), Err(StoreError::Locked { .. })));
    assert!(matches!(Embedded::open(&path, 0), Err(StoreError::Locked { .. })));
    assert_eq!(open(&one).expect("a store").term(), 2);
}

/// Also not one that began before anything was sealed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_claims_the_lead_who_cannot_open_what_is_sealed() {
    let server = Server::start(1).await;
    let (one, other) = (key(), key());
    let with = |lines: &[&str]| Place { keys: keys(lines), ..place(&server) };
    let claims = async |store: &Etcd| {
        let seen = store.leader().await.expect("who leads");
        store.claim(seen.as_ref(), "http://127.0.0.1:1", 0).await
    };
    let keyless = Etcd::open(place(&server)).await.expect("an etcd");
    let stranger = Etcd::open(with(&[&other])).await.expect("an etcd");
    let leader = Etcd::open(with(&[&one])).await.expect("an etcd");
    claims(&leader).await.done().expect("the lead");
    named(&leader, "n").await.done().expect("a namespace");
    let made = leader.create(secretive(), event("operator", "created")).await;
    made.done().expect("a cluster");
    assert_eq!(lies(&leader).await, sealed(leader.keys()));

    for blind in [&keyless, &stranger] {
        let refused = claims(blind).await;
        assert!(matches!(refused, Outcome::NotDone(StoreError::Locked { .. })), "{refused:?}");
        let look = blind.look(0).await.expect("a look");
        let name = ("n".to_owned(), "c".to_owned());
        assert!(look.changed.is_empty() && look.locked.contains(&name), "{look:?}");
        assert!(look.unread[0].1.contains("sealed with key"), "{look:?}");
        assert!(blind.locked().is_some() && blind.holds().is_none());
    }
    assert_eq!(leader.holds(), Some(1), "nothing was taken from it");
    let late = Etcd::open(place(&server)).await.expect_err("a refusal");
    assert!(matches!(late, StoreError::Locked { .. }), "{late}");

    // Another key seals from the next claim on, and the first one opens no more alone.
    let next = Etcd::open(with(&[&other, &one])).await.expect("an etcd");
    claims(&next).await.done().expect("the lead");
    let change = longer(&Arc::new(secretive()));
    next.swap(change).await.done().expect("a change");
    assert_eq!(lies(&next).await, sealed(next.keys()));
    let refused = claims(&leader).await;
    assert!(matches!(refused, Outcome::NotDone(StoreError::Locked { .. })), "{refused:?}");
    claims(&stranger).await.done().expect("it has that key");
    assert_eq!(stranger.look(0).await.expect("a look").changed.len(), 1);
}
