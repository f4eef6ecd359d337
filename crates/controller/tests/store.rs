//! A store that is moved: from a file to etcd, back by export and import; what is left behind is
//! led from by nobody.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "the support module is shared by tests, not published"
)]

#[path = "support/etcd.rs"]
mod etcd;
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::rest::{Data, Status, StoreExport, StoreStatus};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use controller::store::{Embedded, Export, Identity, Place, Store as _, StoreError};
use controller::transfer::{self, Begun, How};
use controller::{Config, Kind};
use etcd::Etcd;
use planner::Record;
use serde_json::{Value, json};
use support::fake_node::{FakeNode, World};
use support::{Controller, Stage, until};

fn on_file(data: &Path) -> Config {
    Config { data: data.to_owned(), ..Config::default() }
}

fn on_etcd(etcd: &Etcd) -> Config {
    let etcd_endpoints = etcd.endpoints();
    Config { store: Kind::Etcd, etcd_endpoints, etcd_limit_ms: 5_000, ..Config::default() }
}

fn place(etcd: &Etcd) -> Place {
    Place { endpoints: etcd.endpoints(), limit: Duration::from_secs(10), ..Place::default() }
}

fn record(name: &str, port: u16) -> Record {
    let local = json!({ "host": "127.0.0.1", "port": port });
    let node = json!({ "id": "a".repeat(40), "local": local, "role": "master" });
    let shard = json!({ "nodes": [node], "slot_ranges": [[0, 16_383]] });
    let record = json!({
        "namespace": "n", "name": name, "revision": 3, "tag": u64::MAX, "version": 2,
        "shards": [shard], "longest_lease_ms": 1_000, "password": "s3cret",
    });
    serde_json::from_value(record).expect("a record")
}

fn event(text: &str) -> Value {
    json!({
        "number": 7, "at_ms": 1, "term": 40, "cluster": "n/c", "kind": "operator", "text": text,
    })
}

/// The leader's, or not any more.
async fn appended(store: &controller::store::Etcd, text: &str) -> Result<(), StoreError> {
    let event = serde_json::from_value(event(text)).expect("an event");
    store.append(vec![event]).await.done()
}

/// Of a store of that name with a cluster whose node is away.
fn content(name: &str) -> Export {
    let export = json!({
        "format": 1, "identity": { "name": name, "generation": 1 }, "term": 40, "from": "a test",
        "made_at_ms": 1, "namespaces": ["n"], "clusters": [record("c", 1)],
        "users": { "deploy": { "name": "deploy", "hash": "ab" } },
        "events": [event("created")],
    });
    serde_json::from_value(export).expect("an export")
}

/// A file with that, as generation 2, and what it holds.
async fn filled(path: &Path, name: &str) -> Export {
    let text = content(name).text().expect("a text");
    transfer::import(&text, &on_file(path), UNASKED, &|_| ()).await.expect("an import");
    let store = Embedded::open(path, 0).expect("a store");
    store.export().await.expect("an export")
}

const UNASKED: How = How { replace: false, without_nodes: true };

async fn migrated(from: &Config, to: &Config) -> anyhow::Result<Begun> {
    transfer::migrate(from, to, UNASKED, &|_| ()).await
}

fn given_up(error: &StoreError) -> (&str, u64) {
    let StoreError::GivenUp { mark, .. } = error else { panic!("{error}") };
    (&mark.to, mark.generation)
}

/// What `ctl events` shows of a store, the last entry apart.
fn log(export: &Export) -> (Vec<&str>, &str) {
    let texts: Vec<&str> = export.events.iter().map(|event| event.text.as_str()).collect();
    let (last, before) = texts.split_last().expect("an event");
    (before.to_vec(), last)
}

/// The JSON gateway of an etcd.
async fn post(etcd: &Etcd, path: &str, body: Value) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("{}/v3/{path}", etcd.endpoints()[0]);
    let answer = http.post(url).json(&body).send().await;
    let answer = answer.expect("an answer").error_for_status().expect("no refusal");
    answer.json().await.expect("JSON")
}

/// All keys of the prefix.
async fn keys(etcd: &Etcd) -> Vec<String> {
    let (key, range_end) = (STANDARD.encode("/holdfast/"), STANDARD.encode("/holdfast0"));
    let range = json!({ "key": key, "range_end": range_end, "keys_only": true });
    let answer = post(etcd, "kv/range", range).await;
    let all = answer["kvs"].as_array().into_iter().flatten();
    let key = |pair: &Value| STANDARD.decode(pair["key"].as_str().expect("a key"));
    all.map(|pair| String::from_utf8(key(pair).expect("base64")).expect("a key")).collect()
}

/// A way to etcd that ends, with what it carries, as soon as the record of a cluster is to be put.
async fn torn(etcd: &Etcd) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = format!("http://{}", listener.local_addr().expect("an address"));
    let to = etcd.endpoints()[0].trim_start_matches("http://").to_owned();
    let last = STANDARD.encode("/holdfast/clusters/n/c").into_bytes();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = tokio::net::TcpStream::connect(&to).await else { return };
            let (mut from, mut back) = near.into_split();
            let (mut answers, mut on) = far.into_split();
            let answering = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut answers, &mut back).await;
            });
            let last = last.clone();
            tokio::spawn(async move {
                let (mut seen, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
                while let Ok(count @ 1..) = from.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..count]);
                    let is_last = seen.windows(last.len()).any(|some| some == last);
                    if is_last || on.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
                answering.abort();
            });
        }
    });
    here
}

fn words(result: anyhow::Result<Begun>) -> String {
    format!("{:#}", result.expect_err("a refusal"))
}

/// Rule O7: of two stores of one name at most one is led from, whichever controller is started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_goes_to_etcd_and_back_and_whatever_is_left_behind_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let before = filled(&path, "aa").await;
    let etcd = Etcd::start(1).await;
    let begun = migrated(&on_file(&path), &on_etcd(&etcd)).await.expect("a migration");
    assert!(before.has_the_content_of(&content("aa")));
    let first = Identity { name: "aa".to_owned(), generation: 3 };
    assert_eq!((&begun.beginning.identity, begun.clusters), (&first, 1));
    assert!(begun.beginning.term > before.term + 1_000_000);

    // The file.
    let refused = Embedded::open(&path, 0).expect_err("it was given up");
    assert_eq!(given_up(&refused), (&*begun.place, 3));
    // The etcd: everything is there, and nobody has led yet.
    let store = controller::store::Etcd::open(place(&etcd)).await.expect("an etcd");
    let moved = store.export().await.expect("an export");
    assert!(moved.has_the_content_of(&before), "{moved:?}");
    assert_eq!(moved.identity, first);
    let (texts, begins) = log(&moved);
    assert_eq!(texts, before.events.iter().map(|event| &*event.text).collect::<Vec<_>>());
    let from = path.display();
    assert_eq!(begins, format!("the store begins here as generation 3, with 1 clusters of {from}"));
    let by = moved.events.last().and_then(|event| event.by.as_ref()).expect("of the audit");
    assert!(by.who.starts_with("(ctl store, uid "), "{by:?}");
    let seen = store.leader().await.expect("a read").expect("a term");
    assert!(seen.is_vacant());
    let term = store.claim(Some(&seen), "http://127.0.0.1:1", 0).await.done().expect("the lead");
    assert_eq!(term, begun.beginning.term + 1);
    appended(&store, "led").await.expect("a change");

    // The way back: the one that leads is shut out with the mark, before its content is read.
    let export = transfer::export(&on_etcd(&etcd), Some("a drawer"), &|_| ()).await;
    let export = export.expect("an export");
    let (texts, last) = log(&export);
    assert_eq!((texts.len(), last, export.term), (3, "led", term));
    let late = appended(&store, "late").await;
    assert!(matches!(late, Err(StoreError::Lost(_))), "{late:?}");
    assert!(store.leader().await.is_err());
    assert_eq!(store.holds(), None);
    let lost = store.lost().expect("its process ends");
    assert!(lost.contains("was given up for a drawer"), "{lost}");
    let claim = store.claim(Some(&seen), "http://127.0.0.1:1", 0).await.done();
    assert!(claim.is_err(), "{claim:?}");
    let refused = controller::store::Etcd::open(place(&etcd)).await.expect_err("given up");
    assert_eq!(given_up(&refused), ("a drawer", 4));

    let text = export.text().expect("a text");
    let to = on_file(&path);
    let kept = transfer::import(&text, &to, UNASKED, &|_| ()).await;
    assert!(words(kept).contains("--replace"));
    let how = How { replace: true, ..UNASKED };
    let begun = transfer::import(&text, &to, how, &|_| ()).await.expect("an import");
    assert_eq!((begun.beginning.identity.generation, begun.clusters), (4, 1));
    let store = Embedded::open(&path, 0).expect("it counts again");
    assert!(store.term() > term + 1_000_000);
    assert_eq!(store.about().identity, begun.beginning.identity);
    let here = store.export().await.expect("an export");
    assert!(here.has_the_content_of(&export));
    let (texts, begins) = log(&here);
    assert_eq!((texts.len(), texts[3]), (4, "led"));
    assert!(begins.contains("generation 4") && begins.contains("of an export of etcd"), "{begins}");
    assert!(matches!(
        controller::store::Etcd::open(place(&etcd)).await,
        Err(StoreError::GivenUp { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_ended_at_any_step_is_led_from_by_nobody_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let before = filled(&path, "aa").await;
    let etcd = Etcd::start(1).await;
    let (from, to) = (on_file(&path), on_etcd(&etcd));
    // It ends in the middle of the import.
    let mut endpoints = vec![torn(&etcd).await];
    endpoints.extend(etcd.endpoints());
    let by_way = Config { etcd_endpoints: endpoints, ..to.clone() };
    let ended = words(migrated(&from, &by_way).await);
    assert!(ended.contains("make it once more"), "{ended}");
    let StoreError::GivenUp { mark, .. } = Embedded::open(&path, 0).expect_err("given up") else {
        panic!("it is not given up");
    };
    let half = controller::store::Etcd::open(place(&etcd)).await.expect_err("it is not whole");
    assert!(half.to_string().contains("has begun and not ended"), "{half}");
    let elsewhere = on_file(&folder.path().join("nowhere.redb"));
    assert!(words(migrated(&to, &elsewhere).await).contains("not ended"), "nor is it moved on");
    // Another store does not end it: its operator would believe that all is there.
    let other = content("bb").text().expect("a text");
    let how = How { replace: true, ..UNASKED };
    let refused = words(transfer::import(&other, &to, how, &|_| ()).await);
    assert!(refused.contains("of store aa, generation 2 has begun and not ended"), "{refused}");
    assert!(refused.contains("etcdctl del --prefix"), "{refused}");

    // The same place in other words: one of its members is enough.
    let begun = migrated(&from, &to).await.expect("a migration");
    assert_eq!((begun.beginning.term, &*mark.to), (mark.term, &*by_way_place(&by_way)));
    // Nobody said that it has ended.
    let again = migrated(&from, &to).await.expect("it is seen to be done");
    assert_eq!(again.beginning.identity, begun.beginning.identity);
    controller::store::Etcd::open(place(&etcd)).await.expect("one to lead from");

    // A store is given up once.
    let elsewhere = on_file(&folder.path().join("other.redb"));
    assert!(words(migrated(&from, &elsewhere).await).contains("was given up for etcd"));
    // Taken up again, it is above the other.
    let adopted = transfer::adopt(&from, UNASKED, &|_| ()).await.expect("an adoption");
    assert_eq!(adopted.beginning.identity.generation, 4);
    let store = Embedded::open(&path, 0).expect("it counts again");
    let here = store.export().await.expect("an export");
    assert!(here.has_the_content_of(&before));
    assert!(log(&here).1.starts_with("the store is adopted as generation 4: "), "{here:?}");
    drop(store);
    assert!(words(migrated(&to, &from).await).contains("it is no older one"));
}

fn by_way_place(config: &Config) -> String {
    format!("etcd {} /holdfast/", config.etcd_endpoints.join(","))
}

/// Its nodes may be away, so its mark must tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_taken_up_again_has_terms_above_the_one_that_was_made_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    drop(filled(&path, "aa").await);
    let etcd = Etcd::start(1).await;
    // Somebody has led there, of nothing: the terms go on from theirs.
    let store = controller::store::Etcd::open(place(&etcd)).await.expect("an etcd");
    store.claim(None, "http://127.0.0.1:1", 50_000_000).await.done().expect("the lead");
    drop(store);
    let (from, to) = (on_file(&path), on_etcd(&etcd));
    let begun = migrated(&from, &to).await.expect("a migration");
    assert!(begun.beginning.term > 51_000_000);
    let adopted = transfer::adopt(&from, UNASKED, &|_| ()).await.expect("an adoption");
    assert!(adopted.beginning.term > begun.beginning.term + 1_000_000, "{adopted:?}");

    // So does an etcd, whose log tells of it.
    transfer::export(&to, Some("a drawer"), &|_| ()).await.expect("an export");
    let adopted = transfer::adopt(&to, UNASKED, &|_| ()).await.expect("an adoption");
    let store = controller::store::Etcd::open(place(&etcd)).await.expect("one to lead from");
    let here = store.export().await.expect("an export");
    assert!(here.term > begun.beginning.term + 2_000_000);
    assert_eq!(here.term, adopted.beginning.term);
    assert!(log(&here).1.starts_with("the store is adopted as generation 5: "), "{here:?}");
    let by = here.events.last().and_then(|event| event.by.as_ref());
    assert!(by.is_some_and(|by| by.who.starts_with("(ctl store")), "{by:?}");
}

/// The source can be led from as before, and the etcd is as it was found.
async fn refused_before(from: &Path, etcd: &Etcd, config: &Config, why: &str) {
    let told = words(migrated(&on_file(from), config).await);
    assert!(told.contains(why) && told.contains("Nothing was changed"), "{told}");
    drop(Embedded::open(from, 0).expect("it was not given up"));
    assert_eq!(keys(etcd).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_target_cannot_take_is_found_before_the_source_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let large = Record { password: Some("x".repeat(100_000)), ..record("c", 1) };
    let export = Export { clusters: vec![large], ..content("aa") };
    let text = export.text().expect("a text");
    transfer::import(&text, &on_file(&path), UNASKED, &|_| ()).await.expect("an import");

    let etcd = Etcd::start_with(1, &["--max-request-bytes", "65536"]).await;
    refused_before(&path, &etcd, &on_etcd(&etcd), "raise --max-request-bytes").await;
    let etcd = Etcd::start_with(1, &["--quota-backend-bytes", "65536"]).await;
    refused_before(&path, &etcd, &on_etcd(&etcd), "etcdctl alarm disarm").await;
    // No folder for the file, whether it is a move or an import.
    let nowhere = on_file(&folder.path().join("gone").join("store.redb"));
    let told = words(migrated(&on_file(&path), &nowhere).await);
    assert!(told.contains("say another `data` file"), "{told}");
    let etcd = Etcd::start_with(1, &["--max-request-bytes", "65536"]).await;
    let told = words(transfer::import(&text, &on_etcd(&etcd), UNASKED, &|_| ()).await);
    assert!(told.contains("clusters/n/c: raise --max-request-bytes"), "{told}");
    assert!(keys(&etcd).await.is_empty());
    // One that can take it does, and keeps nothing of the trial.
    let etcd = Etcd::start(1).await;
    migrated(&on_file(&path), &on_etcd(&etcd)).await.expect("a migration");
    assert!(!keys(&etcd).await.contains(&"/holdfast/trial".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_must_reach_the_whole_prefix_and_needs_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, secret) = (folder.path().join("store.redb"), folder.path().join("secret"));
    drop(filled(&path, "aa").await);
    std::fs::write(&secret, "pw").expect("a file");
    let etcd = Etcd::start(1).await;
    let grant = |role: &str, from: &str, to: &str| {
        let key = STANDARD.encode(from);
        let perm = json!({ "permType": 2, "key": key, "range_end": STANDARD.encode(to) });
        json!({ "name": role, "perm": perm })
    };
    for name in ["root", "some", "all"] {
        post(&etcd, "auth/user/add", json!({ "name": name, "password": "pw" })).await;
        post(&etcd, "auth/role/add", json!({ "name": name })).await;
        post(&etcd, "auth/user/grant", json!({ "user": name, "role": name })).await;
    }
    post(&etcd, "auth/role/grant", grant("some", "/holdfast/", "/holdfast/tags/")).await;
    post(&etcd, "auth/role/grant", grant("all", "/holdfast/", "/holdfast0")).await;
    post(&etcd, "auth/enable", json!({})).await;
    let on = |user: &str| Config {
        etcd_user: Some(user.to_owned()),
        etcd_password_file: Some(secret.clone()),
        ..on_etcd(&etcd)
    };
    let told = words(migrated(&on_file(&path), &on("some")).await);
    assert!(told.contains("permission denied"), "{told}");
    drop(Embedded::open(&path, 0).expect("it was not given up"));
    let begun = migrated(&on_file(&path), &on("all")).await.expect("a migration");
    assert_eq!(begun.clusters, 1);
}

/// Its own controllers run until the mark, so nodes that hear one say nothing; what they have
/// obeyed does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_obeyed_a_higher_term_than_their_etcd_knows_are_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let etcd = Etcd::start(1).await;
    let node = FakeNode::start(&World::default()).await;
    {
        let mut inside = node.inside.lock();
        (inside.id, inside.term) = ("a".repeat(40), 77_000_000);
    }
    let open = Record { password: None, ..record("c", node.port()) };
    let export = Export { clusters: vec![open], ..content("aa") };
    let text = export.text().expect("a text");
    transfer::import(&text, &on_etcd(&etcd), UNASKED, &|_| ()).await.expect("an import");
    let said = std::cell::RefCell::new(String::new());
    let say = |line: &str| said.borrow_mut().push_str(line);
    let to = on_file(&folder.path().join("store.redb"));
    let begun = transfer::migrate(&on_etcd(&etcd), &to, How::default(), &say).await;
    let begun = begun.expect("a migration");
    let said = said.into_inner();
    assert!(said.contains("1 of 1 nodes have obeyed term 77000000"), "{said}");
    assert!(said.contains("another store has led them"), "{said}");
    assert!(begun.beginning.term > 78_000_000, "{begun:?}");
}

/// As a start would refuse it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_of_records_that_nobody_could_lead_by_is_refused_before_it_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let etcd = Etcd::start(1).await;
    let mut headless = record("c", 1);
    headless.shards[0].nodes[0].role = planner::Role::Slave;
    for (clusters, why) in [
        (vec![record("b", 9), headless], "n/c: shard 0 must have exactly one master"),
        (vec![record("c", 1), record("d", 1)], "is already used by cluster"),
    ] {
        let text = Export { clusters, ..content("aa") }.text().expect("a text");
        for to in [on_file(&path), on_etcd(&etcd)] {
            let told = words(transfer::import(&text, &to, UNASKED, &|_| ()).await);
            assert!(told.contains(why) && told.contains("nothing was changed"), "{told}");
        }
        assert!(!path.exists());
        assert!(keys(&etcd).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let [path, other, empty] = ["a", "b", "c"].map(|name| folder.path().join(name));
    let before = filled(&path, "aa").await;
    let foreign = filled(&other, "bb").await;
    let text = before.text().expect("a text");
    let import = |text: String, to: PathBuf, how| async move {
        words(transfer::import(&text, &on_file(&to), how, &|_| ()).await)
    };
    let replace = How { replace: true, ..UNASKED };
    assert!(import(text.clone(), other.clone(), replace).await.contains("holds other clusters"));
    assert!(import(text.clone(), path.clone(), replace).await.contains("no older one"));
    let cut = text[..text.len() - 3].to_owned();
    assert!(import(cut, empty.clone(), UNASKED).await.contains("checksum"));
    // The node is away, and nobody said that this is known.
    let told = import(text, empty.clone(), How::default()).await;
    assert!(told.contains("1 of 1 nodes do not say"), "{told}");
    assert!(!empty.exists());
    assert!(words(migrated(&on_file(&empty), &on_file(&other)).await).contains("nothing to move"));
    assert!(words(migrated(&on_file(&path), &on_file(&path)).await).contains("the same place"));
    // A controller that runs has its file.
    let running = Embedded::open(&path, 0).expect("a store");
    let told = words(migrated(&on_file(&path), &on_file(&empty)).await);
    assert!(told.contains("another controller uses"), "{told}");
    let now = running.export().await.expect("an export");
    assert!(now.has_the_content_of(&before) && now.identity == before.identity);
    let now = Embedded::open(&other, 0).expect("a store").export().await.expect("an export");
    assert!(now.has_the_content_of(&foreign) && now.identity == foreign.identity);
}

/// An earlier version, which knows no marks, finds it so.
#[tokio::test]
async fn a_file_that_was_given_up_has_a_format_that_no_earlier_version_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    drop(filled(&path, "aa").await);
    let format = || {
        const META: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
        let file = redb::Database::create(&path).expect("a file");
        let tx = redb::ReadableDatabase::begin_read(&file).expect("a read");
        let meta = tx.open_table(META).expect("a table");
        meta.get("format").expect("a read").expect("a format").value()
    };
    assert_eq!(format(), 1);
    let export = transfer::export(&on_file(&path), Some("a drawer"), &|_| ()).await;
    assert_eq!(export.expect("an export").clusters.len(), 1);
    assert_eq!(format(), 1_000_000);
    transfer::export(&on_file(&path), Some("a drawer"), &|_| ()).await.expect("the same again");
    transfer::adopt(&on_file(&path), UNASKED, &|_| ()).await.expect("an adoption");
    assert_eq!(format(), 1);
}

async fn data<T: serde::de::DeserializeOwned>(controller: &Controller, path: &str) -> T {
    let (code, body) = controller.call("GET", path, json!({})).await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_value::<Data<T>>(body).expect("an answer").data
}

/// A controller of an etcd, as [`Controller::start_with`] has them on a port of their own.
async fn led_by_etcd(etcd: &Etcd) -> Controller {
    let controller = Controller::start_with(on_etcd(etcd)).await;
    until("a leader", || async {
        let (code, body) = controller.call("GET", "/store", json!({})).await;
        if code == 200 { Ok(()) } else { Err(format!("{code} {body}")) }
    })
    .await;
    controller
}

/// The whole way, with nodes that serve meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_moved_while_it_serves_and_old_controllers_are_refused() {
    let mut stage = Stage::new(3).await;
    stage.create().await;
    let path = stage.folder.path().join("store.redb");
    let status: StoreStatus = data(&stage.controller, "/store").await;
    assert_eq!((&*status.kind, status.generation, status.clusters), ("embedded", 1, 1));
    assert!(status.bytes > Some(0) && status.leader.is_none(), "{status:?}");
    let export: StoreExport = data(&stage.controller, "/store/export").await;
    let export = Export::parse(&export.file).expect("an export");
    assert_eq!(export.identity.name, status.name);

    // A controller runs: its file cannot be had, and an import finds its nodes led.
    let etcd = Etcd::start(1).await;
    let (old, new) = (on_file(&path), on_etcd(&etcd));
    let text = export.text().expect("a text");
    let led = transfer::import(&text, &new, How::default(), &|_| ()).await;
    assert!(words(led).contains("hears a controller of term"));
    stage.stop_controller().await;
    let copy = stage.folder.path().join("copy.redb");
    std::fs::copy(&path, &copy).expect("a copy");
    // A process would be gone; of this controller tasks may still hold the file.
    let begun = until("a migration", || async {
        let moved = transfer::migrate(&old, &new, How::default(), &|_| ()).await;
        moved.map_err(|error| format!("{error:#}"))
    })
    .await;
    let controller = led_by_etcd(&etcd).await;
    let moved = controller.until("the etcd to lead", |status| status.healthy).await;
    assert_eq!(moved.term, begun.beginning.term + 1);
    assert_eq!(moved.version, 1, "nobody was replaced");
    until("a write", || async { stage.nodes[0].write().then_some(()).ok_or("refused".into()) })
        .await;
    let status: StoreStatus = data(&controller, "/store").await;
    assert_eq!((&*status.kind, status.generation, status.clusters), ("etcd", 2, 1));
    assert_eq!(
        (&status.name, &status.leader),
        (&export.identity.name, &Some(controller.url.clone()))
    );

    // The old host boots: with its file, and with a copy made before the migration.
    let refused = Controller::try_start(path.clone()).await.err().expect("a refusal");
    assert!(format!("{refused:#}").contains("was given up for etcd"), "{refused:#}");
    let config = Config { data: copy, take_over: true, ..Config::default() };
    let stale = Controller::start_with(config).await;
    // What the shard says and the alarm are of plans one after the other.
    let leads = format!("the controller of term {} leads", moved.term);
    let stands_back = |status: &Status| {
        let detail = &status.shards[0].detail;
        detail.starts_with("the controller of term")
            && status.alarms.iter().any(|alarm| alarm.starts_with(&leads))
    };
    stale.until("it to stand back", stands_back).await;
    stale.stop().await;
    controller.until("the etcd to lead on", |status| status.healthy).await;

    // Back, under the eyes of the controller that leads.
    let export = transfer::export(&new, Some("the file"), &|_| ()).await.expect("an export");
    until("its end", || async {
        match controller_ends(&controller).await {
            true => Ok(()),
            false => Err("it runs".to_owned()),
        }
    })
    .await;
    let text = export.text().expect("a text");
    let how = How { replace: true, without_nodes: false };
    let begun = transfer::import(&text, &old, how, &|_| ()).await.expect("an import");
    assert_eq!(begun.beginning.identity.generation, 3);
    stage.controller = Controller::start(path).await;
    let back = stage.controller.until("the file to lead", |status| status.healthy).await;
    assert!(back.term > moved.term);
    assert!(Controller::try_start_with(new).await.is_err(), "the etcd was given up");
}

/// Nobody answers there any more.
async fn controller_ends(controller: &Controller) -> bool {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    http.get(format!("{}/healthz", controller.url)).send().await.is_err()
}
