//! A door in front of a server with a readable path, one that changes something, and a health
//! check: asked over sockets, byte by byte, as a browser that was tricked would, and as programs
//! do.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use web::{Door, Names, service};

fn say(status: StatusCode, message: String) -> Response {
    (status, Json(serde_json::json!({ "error": { "message": message } }))).into_response()
}

async fn server(at: &str) -> SocketAddr {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", get(|| async { "seen" }))
        .route("/change", post(|_: Bytes| async { "changed" }).delete(|| async { "deleted" }))
        .route("/healthz", get(|| async { "ok" }))
        .fallback(|| async { say(StatusCode::NOT_FOUND, "no such path".to_owned()) });
    let names = Names::parse(&["ops.example", "lb.example:8443"]).unwrap();
    let door = Door::new(move || names.clone(), &["/healthz"], "allowed_hosts", say);
    tokio::spawn(axum::serve(listener, service(door.before(router))).into_future());
    address
}

/// Status and body of the answer to these bytes; `$` is where the server listens.
async fn ask(at: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = request.replace('$', &at.to_string()).replace('\n', "\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

async fn host(at: SocketAddr, host: &str) -> u16 {
    ask(at, &format!("GET / HTTP/1.1\nHost: {host}\n\n")).await.0
}

/// A change with these header lines besides Host.
async fn change(at: SocketAddr, headers: &str) -> u16 {
    ask(at, &format!("POST /change HTTP/1.1\nHost: $\n{headers}Content-Length: 2\n\n{{}}")).await.0
}

const JSON: &str = "Content-Type: application/json\n";

#[tokio::test]
async fn only_this_listeners_names_are_served() {
    let at = server("127.0.0.1:0").await;
    let port = at.port();
    for own in [
        "$".to_owned(),
        "127.0.0.1".to_owned(),
        format!("localhost:{port}"),
        "LOCALHOST.".to_owned(),
        // Through a forward, whose port is another one.
        "127.0.0.1:19379".to_owned(),
        "localhost:1".to_owned(),
        "[::1]:19379".to_owned(),
        format!("[::ffff:127.0.0.1]:{port}"),
        "ops.example".to_owned(),
        "OPS.example.:77".to_owned(),
        "lb.example:8443".to_owned(),
    ] {
        assert_eq!(host(at, &own).await, 200, "{own}");
    }
    for foreign in [
        format!("evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        "evil.example".to_owned(),
        "ops.example.evil.example".to_owned(),
        "xops.example".to_owned(),
        "lb.example".to_owned(),
        "lb.example:84430".to_owned(),
        format!("10.9.8.7:{port}"),
        format!("[2001:db8::1]:{port}"),
        format!("0.0.0.0:{port}"),
        "2130706433".to_owned(),
        "127.1".to_owned(),
        format!("localhost:{port}@evil.example"),
        format!("evil.example@localhost:{port}"),
        "localhost:80:80".to_owned(),
        "[::1".to_owned(),
        "::1".to_owned(),
        "localhost,evil.example".to_owned(),
        "localhost evil.example".to_owned(),
        String::new(),
    ] {
        assert_eq!(host(at, &foreign).await, 403, "{foreign:?}");
    }
}

#[tokio::test]
async fn an_address_is_ours_where_the_connection_arrived_at_it() {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { return };
    drop(listener);
    // On all addresses: 127.0.0.2 is where this connection arrives, and it is a loopback address
    // anyway; an address elsewhere is not.
    let at = server("0.0.0.0:0").await;
    let here = SocketAddr::from(([127, 0, 0, 2], at.port()));
    assert_eq!(host(here, &here.to_string()).await, 200);
    assert_eq!(host(here, &format!("0.0.0.0:{}", at.port())).await, 403);
    assert_eq!(host(here, &format!("192.0.2.9:{}", at.port())).await, 403);
}

#[tokio::test]
async fn a_request_says_where_it_goes_once_and_in_one_voice() {
    let at = server("127.0.0.1:0").await;
    let status = async |request: &str| ask(at, request).await.0;
    assert_eq!(status("GET / HTTP/1.1\n\n").await, 400, "no Host");
    assert_eq!(status("GET / HTTP/1.0\n\n").await, 400, "no Host in HTTP/1.0");
    assert_eq!(status("GET / HTTP/1.0\nHost: $\n\n").await, 200);
    assert_eq!(status("GET / HTTP/1.0\nHost: evil.example\n\n").await, 403);
    assert_eq!(status("GET / HTTP/1.1\nHost: $\nHost: $\n\n").await, 400);
    assert_eq!(status("GET / HTTP/1.1\nHost: $\nHost: evil.example\n\n").await, 400);
    assert_eq!(status("GET / HTTP/1.1\nHost: evil.example\nX-Forwarded-Host: $\n\n").await, 403);
    assert_eq!(status("GET http://$/ HTTP/1.1\nHost: $\n\n").await, 200);
    assert_eq!(status("GET http://evil.example/ HTTP/1.1\nHost: $\n\n").await, 403);
    assert_eq!(status("GET http://$/ HTTP/1.1\nHost: evil.example\n\n").await, 403);
    assert_eq!(status("GET http://$@evil.example/ HTTP/1.1\nHost: $\n\n").await, 403);
    assert_eq!(status("CONNECT evil.example:80 HTTP/1.1\nHost: $\n\n").await, 403);
}

#[tokio::test]
async fn a_page_of_another_place_may_not_ask() {
    let at = server("127.0.0.1:0").await;
    for own in ["Origin: http://$\n", "ORIGIN: HTTP://$\n", ""] {
        assert_eq!(change(at, &format!("{own}{JSON}")).await, 200, "{own}");
    }
    for foreign in [
        "Origin: http://evil.example\n",
        "Origin: null\n",
        "Origin: \n",
        "Origin: http://localhost:3000\n",
        "Origin: http://127.0.0.1\n",
        "Origin: http://127.0.0.1:1\n",
        "Origin: file://\n",
        "Origin: chrome-extension://abc\n",
        "Origin: http://$.evil.example\n",
        "Origin: http://$@evil.example\n",
        "Origin: http://$/x\n",
        "Origin: $\n",
    ] {
        assert_eq!(change(at, &format!("{foreign}{JSON}")).await, 403, "{foreign}");
        let read = ask(at, &format!("GET / HTTP/1.1\nHost: $\n{foreign}\n")).await;
        assert_eq!(read.0, 403, "{foreign}");
    }
    let twice = "Origin: http://$\nOrigin: http://evil.example\n";
    assert_eq!(change(at, &format!("{twice}{JSON}")).await, 400);
    // Of a name that is listed, with the port that the scheme means.
    let named = |origin: &str| {
        format!(
            "POST /change HTTP/1.1\nHost: ops.example\nOrigin: {origin}\n{JSON}Content-Length: 2\n\n{{}}"
        )
    };
    assert_eq!(ask(at, &named("https://ops.example")).await.0, 200);
    assert_eq!(ask(at, &named("http://ops.example:80")).await.0, 200);
    assert_eq!(ask(at, &named("https://ops.example:80")).await.0, 403);
}

#[tokio::test]
async fn a_change_says_that_it_is_json() {
    let at = server("127.0.0.1:0").await;
    for json in [
        JSON,
        "content-type: Application/JSON; charset=utf-8\n",
        "Content-Type: application/json;charset=x\n",
    ] {
        assert_eq!(change(at, json).await, 200, "{json}");
    }
    for other in [
        "",
        "Content-Type: text/plain\n",
        "Content-Type: text/plain; application/json\n",
        "Content-Type: application/x-www-form-urlencoded\n",
        "Content-Type: multipart/form-data; boundary=application/json\n",
        "Content-Type: application/jsonp\n",
        "Content-Type: xapplication/json\n",
        "Content-Type: \n",
        "Content-Type: application/json, text/plain\n",
    ] {
        assert_eq!(change(at, other).await, 415, "{other}");
    }
    let twice = "Content-Type: application/json\nContent-Type: text/plain\n";
    assert_eq!(change(at, twice).await, 400);
    let status = async |request: &str| ask(at, request).await.0;
    assert_eq!(status("POST /change HTTP/1.1\nHost: $\nContent-Length: 0\n\n").await, 415);
    assert_eq!(status("DELETE /change HTTP/1.1\nHost: $\n\n").await, 200);
    assert_eq!(status("DELETE /change HTTP/1.1\nHost: $\nContent-Length: 1\n\nx").await, 415);
    let plain = "DELETE /change HTTP/1.1\nHost: $\nContent-Type: text/plain\n\n";
    assert_eq!(status(plain).await, 415);
    let chunked = "DELETE /change HTTP/1.1\nHost: $\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n";
    assert_eq!(status(chunked).await, 415);
}

#[tokio::test]
async fn health_checks_may_leave_the_host_out_or_use_any_address() {
    let at = server("127.0.0.1:0").await;
    let status = async |request: &str| ask(at, request).await.0;
    assert_eq!(status("GET /healthz HTTP/1.0\n\n").await, 200);
    assert_eq!(status("HEAD /healthz HTTP/1.0\n\n").await, 200);
    assert_eq!(status("GET /healthz HTTP/1.1\nHost: 192.0.2.1:80\n\n").await, 200);
    assert_eq!(status("GET /healthz HTTP/1.1\nHost: [2001:db8::1]\n\n").await, 200);
    assert_eq!(status("GET /healthz HTTP/1.1\nHost: evil.example\n\n").await, 403);
    assert_eq!(status("GET /healthz HTTP/1.1\n\n").await, 400);
    assert_eq!(status("GET /healthz/ HTTP/1.0\n\n").await, 400);
    let page = "GET /healthz HTTP/1.1\nHost: $\nOrigin: http://evil.example\n\n";
    assert_eq!(status(page).await, 403);
}

#[tokio::test]
async fn every_refusal_is_json_that_names_the_remedy() {
    let at = server("127.0.0.1:0").await;
    let long = "x".repeat(3 << 20);
    let long =
        format!("POST /change HTTP/1.1\nHost: $\n{JSON}Content-Length: {}\n\n{long}", long.len());
    for (request, status, words) in [
        ("GET / HTTP/1.1\nHost: evil.example\n\n", 403, "`allowed_hosts`"),
        ("GET / HTTP/1.1\nHost: $\nOrigin: null\n\n", 403, "Origin `null`"),
        ("POST /change HTTP/1.1\nHost: $\n\n", 415, "`Content-Type: application/json`"),
        ("GET /nothing HTTP/1.1\nHost: $\n\n", 404, "no such path"),
        ("GET /change HTTP/1.1\nHost: $\n\n", 405, "/change does not take GET; it takes POST"),
        ("OPTIONS / HTTP/1.1\nHost: $\n\n", 405, "/ does not take OPTIONS"),
        (long.as_str(), 413, "2 MiB"),
    ] {
        let (given, body) = ask(at, request).await;
        let first = request.lines().next().unwrap_or_default();
        assert_eq!(given, status, "{first}: {body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{first}: {message}");
    }
}
