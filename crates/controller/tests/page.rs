//! The web page by its port: what it tells browsers, who gets it, and the overview that it asks
//! for.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "the support module is shared by tests, not published"
)]

mod support;

use std::time::{Duration, Instant};

use controller::Config;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use support::{Controller, Stage, until};

const TOKEN: &str = "geheim";
const FILES: [(&str, &str); 9] = [
    ("/", "text/html; charset=utf-8"),
    ("/ui/index.html", "text/html; charset=utf-8"),
    ("/ui/page.css", "text/css; charset=utf-8"),
    ("/ui/page.js", "text/javascript; charset=utf-8"),
    ("/ui/acts.js", "text/javascript; charset=utf-8"),
    ("/ui/ask.js", "text/javascript; charset=utf-8"),
    ("/ui/parts.js", "text/javascript; charset=utf-8"),
    ("/ui/remedies.js", "text/javascript; charset=utf-8"),
    ("/ui/views.js", "text/javascript; charset=utf-8"),
];
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
    form-action 'none'";

/// One that wants to know from each who asks.
async fn guarded() -> (Controller, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("store.redb");
    let config = Config { data, token: Some(TOKEN.into()), ..Config::default() };
    (Controller::start_with(config).await, folder)
}

fn client() -> Client {
    Client::builder().no_proxy().build().expect("a client")
}

fn head(answer: &Response, name: &str) -> String {
    let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_page_comes_without_a_token_and_says_what_browsers_may_do_with_it() {
    let (controller, _folder) = guarded().await;
    let http = client();
    let safe = |answer: &Response, path: &str| {
        assert_eq!(head(answer, "content-security-policy"), POLICY, "{path}");
        assert_eq!(head(answer, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(head(answer, "referrer-policy"), "same-origin", "{path}");
        assert_eq!(head(answer, "cross-origin-resource-policy"), "same-origin", "{path}");
        assert_eq!(head(answer, "cache-control"), "no-cache", "{path}");
    };
    for (path, kind) in FILES {
        let url = format!("{}{path}", controller.url);
        let answer = http.get(&url).send().await.expect("an answer");
        assert_eq!((answer.status().as_u16(), head(&answer, "content-type").as_str()), (200, kind));
        safe(&answer, path);
        let tag = head(&answer, "etag");
        assert!(!answer.text().await.expect("a text").is_empty(), "{path}");

        let answer = http.head(&url).send().await.expect("an answer");
        assert_eq!((answer.status().as_u16(), head(&answer, "content-type").as_str()), (200, kind));
        safe(&answer, path);
        assert!(answer.text().await.expect("a text").is_empty(), "{path}");

        let asked = http.get(&url).header("if-none-match", &tag);
        let answer = asked.send().await.expect("an answer");
        assert_eq!((answer.status().as_u16(), head(&answer, "etag")), (304, tag), "{path}");
        safe(&answer, path);
        let asked = http.get(&url).header("if-none-match", "\"x\"");
        assert_eq!(asked.send().await.expect("an answer").status(), 200, "{path}");
    }
    controller.stop().await;
}

/// What stands before everything stands before the page as well.
#[tokio::test]
async fn another_name_another_origin_another_method_and_another_file_are_refused() {
    let (controller, _folder) = guarded().await;
    let http = client();
    let ask = async |method: Method, path: &str, name: &str, value: &str| {
        let asked = http.request(method, format!("{}{path}", controller.url)).header(name, value);
        let answer = asked.send().await.expect("an answer");
        let (code, policy) = (answer.status().as_u16(), head(&answer, "content-security-policy"));
        let told: Value = answer.json().await.expect("a refusal in JSON");
        assert!(told["error"]["message"].is_string() && policy.is_empty(), "{told}");
        code
    };
    for path in ["/", "/ui/page.js"] {
        assert_eq!(ask(Method::GET, path, "host", "evil.example").await, 403, "{path}");
        assert_eq!(ask(Method::GET, path, "origin", "http://evil.example").await, 403, "{path}");
        let kind = ("content-type", "application/json");
        assert_eq!(ask(Method::POST, path, kind.0, kind.1).await, 405, "{path}");
        assert_eq!(ask(Method::POST, path, "content-type", "text/plain").await, 415, "{path}");
    }
    for path in ["/ui/none.js", "/ui/..%2Fpage.rs", "/ui/PAGE.js", "/ui/page.js.map"] {
        assert_eq!(ask(Method::GET, path, "accept", "*/*").await, 404, "{path}");
    }
    // What is no file of the page wants a token first, as ever.
    for path in ["/index.html", "/ui/", "/ui/a/b", "/api/v1/overview"] {
        assert_eq!(ask(Method::GET, path, "accept", "*/*").await, 401, "{path}");
    }
    controller.stop().await;
}

/// Code, tag and data of the overview, for one that has an answer with this tag.
async fn overview(controller: &Controller, token: &str, has: &str) -> (u16, String, Value) {
    waited(&controller.url, token, has, 0).await
}

/// The same of one that waits so long for another answer, ms.
async fn waited(url: &str, token: &str, has: &str, ms: u64) -> (u16, String, Value) {
    let asked = client().get(format!("{url}/api/v1/overview?wait_ms={ms}")).bearer_auth(token);
    let answer = asked.header("if-none-match", has).send().await.expect("an answer");
    let (code, tag) = (answer.status().as_u16(), head(&answer, "etag"));
    let text = answer.text().await.expect("a text");
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    (code, tag, body["data"].clone())
}

#[tokio::test]
async fn the_overview_says_how_all_is_and_comes_again_only_if_that_has_changed() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let tag = until("an overview that stays as it is", || async {
        let (code, tag, told) = overview(&stage.controller, "", "").await;
        let (again, same, _) = overview(&stage.controller, "", &tag).await;
        let cluster = &told["clusters"][0];
        let is_well = cluster["healthy"] == true && cluster["alarms"] == json!([]);
        match (code, again, is_well && tag == same) {
            (200, 304, true) => Ok(tag),
            other => Err(format!("{other:?} {told}")),
        }
    })
    .await;
    let (_, _, told) = overview(&stage.controller, "", "").await;
    assert_eq!(told["by"]["role"], "admin", "{told}");
    assert_eq!((&told["within"], &told["leader"]), (&json!([]), &Value::Null), "{told}");
    let version = told["clusters"][0]["version"].as_i64().expect("a version");
    let cluster = json!({
        "namespace": "n", "name": "c", "version": version, "healthy": true, "alarms": [],
        "shards": 1, "stuck": 0, "nodes": 2, "down": 0, "moves": 0,
    });
    assert_eq!(told["clusters"], json!([cluster]), "{told}");

    let pause = json!({"paused": true, "reason": "new switches"});
    let (code, answer) = stage.controller.call("PATCH", "/namespaces/n/clusters/c", pause).await;
    assert_eq!(code, 200, "{answer}");
    until("what an operator has done to be told", || async {
        let (code, other, told) = overview(&stage.controller, "", &tag).await;
        let cluster = &told["clusters"][0];
        let is_told = cluster["paused"] == "new switches"
            && cluster["healthy"] == false
            && cluster["alarms"].to_string().contains("automatic failover is paused");
        if code == 200 && other != tag && is_told { Ok(()) } else { Err(format!("{code} {told}")) }
    })
    .await;
}

/// While nothing changes a request that waits is answered at the end of its time, and by then it is
/// known to be so; what changes ends the wait.
#[tokio::test]
async fn a_request_waits_for_another_overview_if_it_says_so() {
    const WAIT_MS: u64 = 400;
    let stage = Stage::new(2).await;
    stage.create().await;
    let tag = until("a wait to its end", || async {
        let (_, tag, _) = overview(&stage.controller, "", "").await;
        let began = Instant::now();
        let (code, same, told) = waited(&stage.controller.url, "", &tag, WAIT_MS).await;
        if code != 304 {
            return Err(format!("{code} {told}"));
        }
        assert!(began.elapsed() >= Duration::from_millis(WAIT_MS), "it was not waited for");
        Ok(same)
    })
    .await;
    let url = stage.controller.url.clone();
    let waits = tokio::spawn(async move { waited(&url, "", &tag, 10_000).await });
    let pause = json!({"paused": true, "reason": "new switches"});
    let (code, answer) = stage.controller.call("PATCH", "/namespaces/n/clusters/c", pause).await;
    assert_eq!(code, 200, "{answer}");
    let (code, _, told) = waits.await.expect("no panic");
    assert_eq!(code, 200, "{told}");
    let (code, _, told) = waited(&stage.controller.url, "", "", 10_001).await;
    assert_eq!((code, told), (400, Value::Null));
}

#[tokio::test]
async fn the_overview_has_what_its_reader_may_see_and_no_more() {
    let (controller, _folder) = guarded().await;
    let http = client();
    let call = async |path: &str, body: Value| {
        let asked = http.post(format!("{}/api/v1{path}", controller.url)).bearer_auth(TOKEN);
        // Nobody listens at the addresses of these nodes.
        let asked = asked.header("X-Dont-Check-Cluster-Mode", "yes").json(&body);
        let answer = asked.send().await.expect("an answer");
        assert_eq!(answer.status(), 201, "{path}");
        answer.json::<Value>().await.expect("JSON")
    };
    for (space, port) in [("a", 1), ("b", 2)] {
        call("/namespaces", json!({"namespace": space})).await;
        let spec = json!({
            "name": "c", "nodes": [format!("127.0.0.1:{port}")], "allow_unfenced": true,
        });
        call(&format!("/namespaces/{space}/clusters"), spec).await;
    }
    let user = json!({"name": "duty", "role": "viewer", "namespaces": ["b", "x"]});
    let made = call("/users", user).await;
    let limited = made["data"]["token"].as_str().expect("a token");
    let spaces = |told: &Value| -> Vec<String> {
        let all = told["clusters"].as_array().expect("clusters").iter();
        all.filter_map(|one| one["namespace"].as_str().map(str::to_owned)).collect()
    };
    let (_, _, told) = overview(&controller, TOKEN, "").await;
    assert_eq!(spaces(&told), ["a", "b"], "{told}");
    let (code, _, told) = overview(&controller, limited, "").await;
    assert_eq!((code, spaces(&told)), (200, vec!["b".to_owned()]), "{told}");
    assert_eq!((&told["by"]["who"], &told["by"]["role"]), (&json!("duty"), &json!("viewer")));
    assert_eq!(told["within"], json!(["b", "x"]));
    controller.stop().await;
}
