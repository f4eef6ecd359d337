//! Secrets in a store of a running controller: in clear, sealed, sealed anew, and out of it.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "the support module is shared by tests, not published"
)]

#[path = "support/etcd.rs"]
mod etcd;
mod support;

use std::path::Path;
use std::sync::Arc;

use api::rest::{Data, StoreExport, StoreResealed, StoreSealing, StoreStatus};
use controller::seal::{self, Keys};
use controller::store::{Export, Has, held_in};
use controller::transfer::{self, How};
use controller::{Config, Kind};
use etcd::Etcd;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::{Controller, until};

const SECRET: &str = "s3cret-of-the-nodes";

fn keys(lines: &[&str]) -> Arc<Keys> {
    let none = lines.is_empty().then(Keys::default);
    Arc::new(none.unwrap_or_else(|| Keys::parse(&lines.join("\n")).expect("keys")))
}

fn on(data: &Path, lines: &[&str]) -> Config {
    Config { data: data.to_owned(), store_keys: keys(lines), ..Config::default() }
}

/// On an etcd, where no controller writes a record only because it has started.
fn on_etcd(etcd: &Etcd, lines: &[&str]) -> Config {
    Config {
        store: Kind::Etcd,
        etcd_endpoints: etcd.endpoints(),
        etcd_limit_ms: 5_000,
        store_keys: keys(lines),
        ..Config::default()
    }
}

/// One that leads.
async fn leading(config: Config) -> Controller {
    let controller = Controller::start_with(config).await;
    until("a leader", || async {
        let (code, body) = controller.call("GET", "/store", json!({})).await;
        if code == 200 { Ok(()) } else { Err(format!("{code} {body}")) }
    })
    .await;
    controller
}

fn key() -> String {
    seal::grown("", false).expect("a key").0
}

async fn asked<T: DeserializeOwned>(controller: &Controller, method: &str, path: &str) -> T {
    let (code, body) = controller.call(method, path, json!({})).await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_value::<Data<T>>(body).expect("an answer").data
}

async fn sealing(controller: &Controller) -> StoreSealing {
    let status: StoreStatus = asked(controller, "GET", "/store").await;
    status.sealing.expect("how secrets lie there")
}

/// A cluster with a password, whose node is away.
async fn create(controller: &Controller) {
    let (code, body) = controller.call("POST", "/namespaces", json!({"namespace": "n"})).await;
    assert_eq!(code, 201, "{body}");
    let node = json!({"addr": "127.0.0.1:1", "announced_host": "lb.test", "announced_port": 7000});
    let spec = json!({ "name": "c", "nodes": [node], "password": SECRET, "allow_unfenced": true });
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let made = http
        .post(format!("{}/api/v1/namespaces/n/clusters", controller.url))
        .header("X-Dont-Check-Cluster-Mode", "yes")
        .json(&spec);
    assert_eq!(made.send().await.expect("an answer").status().as_u16(), 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_sealed_and_sealed_anew_and_come_out_as_was_asked_for() {
    let etcd = Etcd::start(1).await;
    let (one, other) = (key(), key());
    let controller = leading(on_etcd(&etcd, &[])).await;
    create(&controller).await;
    let told = sealing(&controller).await;
    assert_eq!((told.in_clear, told.behind, told.seals_with), (1, 0, None));
    let (code, body) = controller.call("GET", "/store/export", json!({})).await;
    assert_eq!(code, 409, "{body}");
    assert!(body.to_string().contains("--clear"), "{body}");
    let clear: StoreExport = asked(&controller, "GET", "/store/export?clear=yes").await;
    assert!(clear.file.contains(SECRET));
    controller.stop().await;

    for (lines, replaced) in [(vec![&*one], None), (vec![&*other, &*one], Some(&one))] {
        let config = on_etcd(&etcd, &lines);
        let seals = config.store_keys.sealing().expect("a key").to_owned();
        let controller = leading(config.clone()).await;
        let told = sealing(&controller).await;
        assert_eq!((told.behind, told.seals_with), (1, Some(seals.clone())));
        let done: StoreResealed = asked(&controller, "POST", "/store/reseal").await;
        assert_eq!((done.resealed, done.left.len()), (1, 0));
        let told = sealing(&controller).await;
        assert_eq!((told.in_clear, told.behind), (0, 0));
        assert_eq!(told.used.get(&seals), Some(&1));
        let again: StoreResealed = asked(&controller, "POST", "/store/reseal").await;
        assert_eq!(again.resealed, 0, "there is nothing to do");

        // Out of it as it is in it, and in clear where that is asked for; both are written down.
        let export: StoreExport = asked(&controller, "GET", "/store/export").await;
        assert!(!export.file.contains(SECRET));
        assert_eq!(held_in(&export.file).expect("an export")[0].has, Has::Sealed(seals.clone()));
        let read = Export::parse_with(&export.file, &config.store_keys).expect("an export");
        assert_eq!(read.clusters[0].password.as_deref(), Some(SECRET));
        let clear: StoreExport = asked(&controller, "GET", "/store/export?clear=yes").await;
        assert!(clear.file.contains(SECRET));
        let events: Value = asked(&controller, "GET", "/events?limit=100&audit=yes").await;
        let events = events.to_string();
        assert!(!events.contains(SECRET), "{events}");
        for said in [
            format!("secrets sealed with key {seals}"),
            format!("the store was exported, secrets sealed with key {seals}"),
            "the store was exported, secrets in clear".to_owned(),
        ] {
            assert!(events.contains(&said), "{said}: {events}");
        }
        controller.stop().await;
        let mut wrong = vec![on_etcd(&etcd, &[])];
        wrong.extend(replaced.map(|line| on_etcd(&etcd, &[line])));
        for config in wrong {
            let started = Controller::try_start_with(config).await;
            let why = format!("{:#}", started.err().expect("no start"));
            assert!(why.contains(&format!("sealed with key {seals}")), "{why}");
            assert!(why.contains("`store_key_file`") && !why.contains(one.trim()), "{why}");
        }
    }
    // The old key is of no use any more, and nothing was lost.
    let controller = leading(on_etcd(&etcd, &[&other])).await;
    let clear: StoreExport = asked(&controller, "GET", "/store/export?clear=yes").await;
    assert!(clear.file.contains(SECRET));
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_export_is_imported_with_its_key_and_sealed_stores_move_only_to_such() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let key = key();
    let sealed = on(&path("sealed.redb"), &[&key]);
    let controller = Controller::start_with(sealed.clone()).await;
    create(&controller).await;
    let export: StoreExport = asked(&controller, "GET", "/store/export").await;
    controller.stop().await;

    let how = How { replace: false, without_nodes: true };
    let import = async |to: &Config| {
        let begun = transfer::import(&export.file, to, how, &|_| ()).await;
        begun.map(|begun| begun.clusters).map_err(|error| format!("{error:#}"))
    };
    for keys in [vec![], vec![self::key()]] {
        let lines: Vec<&str> = keys.iter().map(String::as_str).collect();
        let why = import(&on(&path("none.redb"), &lines)).await.expect_err("a refusal");
        assert!(why.contains("sealed with key"), "{why}");
        assert!(!path("none.redb").exists(), "nothing was made");
    }
    let to = on(&path("other.redb"), &[&key]);
    assert_eq!(import(&to).await, Ok(1));
    let text = transfer::export_text(&to, None, false, &|_| ()).await.expect("an export");
    assert!(!text.contains(SECRET));

    // In clear only where somebody says so, and before anything is given up.
    let bare = on(&path("bare.redb"), &[]);
    let why = transfer::migrate(&to, &bare, how, &|_| ()).await.expect_err("a refusal");
    assert!(format!("{why:#}").contains("would lie in clear"), "{why:#}");
    let clear = on(&path("bare.redb"), &["none", &key]);
    until("the file to be free", || async {
        let moved = transfer::migrate(&to, &clear, how, &|_| ()).await;
        moved.map_err(|error| format!("{error:#}"))
    })
    .await;
    let told = transfer::export_text(&bare, None, false, &|_| ()).await.expect_err("a refusal");
    assert!(format!("{told:#}").contains("--clear"), "{told:#}");
    let text = transfer::export_text(&bare, None, true, &|_| ()).await.expect("an export");
    assert!(text.contains(SECRET));
    // What cannot be opened is not given up.
    let keyless = on(&path("sealed.redb"), &[]);
    let why = until("the file to be free", || async {
        let given = transfer::export_text(&keyless, Some("a drawer"), true, &|_| ()).await;
        let why = format!("{:#}", given.expect_err("a refusal"));
        if why.contains("another controller uses") { Err(why) } else { Ok(why) }
    })
    .await;
    assert!(why.contains("sealed with key"), "{why}");
    Controller::start_with(sealed).await.stop().await;
}
