//! One request, one answer, errors in the controller's own words.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::env::variable;
use super::tls::TlsArgs;

/// Where the controller listens unless told otherwise.
const DEFAULT: &str = "127.0.0.1:9379";
/// How long an answer may take unless told otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// After so long it is asked again what was refused for the moment: a lead is taken up within a
/// second, mostly.
const AGAIN: Duration = Duration::from_millis(300);

/// What a process of ours says of a path that it does not have.
const NO_PATH: &str = "no such path";

/// How a token is given.
const TOKEN_HELP: &str =
    "pass --token-file or --token, or set HOLDFAST_TOKEN or HOLDFAST_TOKEN_FILE";

/// What a path of the interface means to people; nothing for what concerns all clusters.
fn thing(path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let Some((&"namespaces", [namespace, rest @ ..])) = parts.split_first() else { return None };
    let [_, name, rest @ ..] = rest else { return Some(format!("namespace {namespace}")) };
    let cluster = format!("cluster {namespace}/{name}");
    // Of an id the beginning is enough to know it by.
    let short = |node: &str| node.get(..8).filter(|_| node.len() == 40).unwrap_or(node).to_owned();
    Some(match rest {
        ["shards", shard, "nodes", node, ..] => {
            format!("{cluster}, shard {shard}, node {}", short(node))
        }
        ["shards", shard, ..] => format!("{cluster}, shard {shard}"),
        ["nodes", node, ..] => format!("{cluster}, node {}", short(node)),
        ["moves", id, ..] => format!("{cluster}, move {id}"),
        ["balancers", name, ..] => format!("{cluster}, balancer {name}"),
        ["discarded", _, file, ..] => format!("{cluster}, {file}"),
        _ => cluster,
    })
}

/// What a controller answers from memory: where that takes long, something hangs.
fn is_quick(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    matches!(
        parts.as_slice(),
        ["namespaces"]
            | ["namespaces", _, "clusters"]
            | ["namespaces", _, "clusters", _]
            | ["namespaces", _, "clusters", _, "status" | "moves" | "balancers"]
    )
}

/// The controller's words with the thing they are about, which they may name themselves.
fn named(thing: &Option<String>, message: &str) -> String {
    let Some(thing) = thing.as_ref().filter(|thing| !message.starts_with(*thing)) else {
        return message.to_owned();
    };
    let last = thing.rsplit(", ").next().unwrap_or(thing);
    let rest = message.strip_prefix(last).and_then(|rest| rest.strip_prefix(": "));
    format!("{thing}: {}", rest.unwrap_or(message))
}

/// What shows whether a change at that path was made.
fn shows(path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["users", ..] => "ctl user list",
        ["namespaces"] | ["namespaces", _] => "ctl list namespaces",
        ["namespaces", _, "clusters"] => "ctl list clusters",
        ["store", ..] => "ctl store status",
        ["namespaces", _, "clusters", _, "moves" | "migrate" | "rebalance", ..]
        | ["namespaces", _, "clusters", _, "shards", _, "drain"] => "ctl moves",
        _ => "ctl status",
    }
}

/// What a controller answered.
enum Answered {
    Data(Value),
    /// Nothing was done, or it was only to be read: it may be asked again.
    NotNow(anyhow::Error),
}

/// What may be meant by an address that gives such an error: `--controller` was mistyped more often
/// than anything else is wrong.
fn doubt(error: &reqwest::Error) -> &'static str {
    match error.is_builder() {
        true => "--controller takes URLs, http:// or https://, or host:port",
        false => meant(&crate::out::chain(error)),
    }
}

/// What libraries say, and what it means to those who gave the address.
const MEANT: [(&str, &str); 5] = [
    ("InvalidContentType", "what listens there does not speak HTTPS: is http:// meant?"),
    (
        "invalid HTTP version",
        "what listens there does not speak HTTP: is https:// meant, or is it the port of a node?",
    ),
    ("CertificateRequired", "it wants to be shown a certificate: --cert and --key"),
    ("UnknownIssuer", "its certificate is of a CA that is not known here: --cacert names it"),
    ("not valid for name", "its certificate does not name that address: dial one that it names"),
];

fn meant(words: &str) -> &'static str {
    let found = MEANT.iter().find(|(said, _)| words.contains(said));
    found.map_or("is it running? --controller says where", |(_, meant)| *meant)
}

pub(crate) struct Http {
    /// The controllers: whichever answers passes on what is for another.
    bases: Vec<String>,
    /// Which of them has answered last: it is asked first, since another one may hang.
    first: AtomicUsize,
    token: Option<String>,
    client: reqwest::Client,
    /// As the operator said it.
    limit: Option<Duration>,
    /// It was said that it waits for a controller.
    has_said: AtomicBool,
}

impl Http {
    pub(crate) fn new(
        controller: Option<String>,
        token: Option<String>,
        tls: &TlsArgs,
        limit: Option<Duration>,
    ) -> Result<Self> {
        let at = controller
            .or_else(|| variable("HOLDFAST_CONTROLLER"))
            .unwrap_or_else(|| DEFAULT.to_owned());
        let plain = if tls.is_given() { "https://" } else { "http://" };
        let base = |at: &str| {
            let scheme = if at.contains("://") { "" } else { plain };
            format!("{scheme}{}", at.trim().trim_end_matches('/'))
        };
        let bases = at.split(',').filter(|at| !at.trim().is_empty()).map(base);
        let bases: Vec<String> = bases.collect();
        let mut builder = reqwest::Client::builder();
        // Files that are not needed are not looked for.
        if bases.iter().any(|base| base.starts_with("https://")) {
            builder = builder.use_preconfigured_tls(tls.client()?);
        }
        let client = builder
            // A proxy of the environment has no business between an operator and a controller.
            .no_proxy()
            .connect_timeout(Duration::from_secs(3))
            .build()
            .context("build the HTTP client")?;
        let (first, has_said) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self { bases, first, token, client, limit, has_said })
    }

    /// How long something may take that usually takes so long: as the operator said it.
    pub(super) fn limit_or(&self, usual: Duration) -> Duration {
        self.limit.unwrap_or(usual)
    }

    /// The `data` of the answer, null when there is none.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Value> {
        self.call_long(method, path, body, PATIENCE).await
    }

    /// As [`Http::call`], for what may take `patience` by its nature. What is refused for the
    /// moment, and of which nothing was done, is asked for again.
    pub(crate) async fn call_long(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        patience: Duration,
    ) -> Result<Value> {
        let begun = Instant::now();
        let limit = self.limit.unwrap_or(patience);
        let waits = self.limit.unwrap_or(PATIENCE);
        loop {
            // Each has all of what it may take, unless an operator said how long all of it may.
            let passed = self.limit.map_or(Duration::ZERO, |_| begun.elapsed());
            let left = limit.saturating_sub(passed);
            let exchange = self.exchange(method.clone(), path, body, left);
            match tokio::time::timeout(left, exchange).await {
                Ok(Ok(Answered::Data(data))) => return Ok(data),
                // The next one must have time for an answer.
                Ok(Ok(Answered::NotNow(why))) if begun.elapsed() + 2 * AGAIN >= waits => {
                    return Err(why);
                }
                Ok(Ok(Answered::NotNow(why))) => self.says_that_it_waits(&why, waits),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(self.silent(limit, method != Method::GET)),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn silent(&self, limit: Duration, changes: bool) -> anyhow::Error {
        anyhow::anyhow!(
            "the controller at {} has not answered within {} s{}: does it hang? --timeout changes the limit",
            self.bases.join(", "),
            limit.as_secs_f64(),
            if changes { ", and may do it yet: look with `status`" } else { "" }
        )
    }

    /// Once, to people: what is printed is for programs.
    fn says_that_it_waits(&self, why: &anyhow::Error, waits: Duration) {
        if !self.has_said.swap(true, Ordering::Relaxed) {
            let waits = waits.as_secs_f64();
            crate::out::complain(&format!("{why}; it is asked again for up to {waits} s"));
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        limit: Duration,
    ) -> Result<Answered> {
        let reads = method == Method::GET;
        let answer = self.send(method, path, body, limit).await?;
        let status = answer.status();
        let bytes = answer.bytes().await.context("read the controller's answer")?;
        let mut value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(Answered::Data(value["data"].take()));
        }
        if status == reqwest::StatusCode::UNAUTHORIZED {
            let why = value["error"]["message"].as_str().unwrap_or("it has another one");
            match &self.token {
                None if why.contains("certificate") => bail!("the controller refuses this: {why}"),
                None => bail!("the controller wants a token: {TOKEN_HELP}"),
                Some(_) => bail!("the controller refuses this token: {why}"),
            }
        }
        let error = &value["error"];
        let is_away = status == reqwest::StatusCode::SERVICE_UNAVAILABLE;
        let done = error["done"].as_str().filter(|_| is_away);
        match error["message"].as_str() {
            Some(message) if done == Some("no") || (reads && done.is_some()) => {
                Ok(Answered::NotNow(anyhow::anyhow!("{}", named(&thing(path), message))))
            }
            Some(message) if done.is_some() => bail!(
                "{}. It is not asked for again by itself: see with `{}` first whether it was done",
                named(&thing(path), message),
                shows(path)
            ),
            // Nodes and balancers say so too.
            Some(NO_PATH) => bail!(
                "{} has nothing at {path}: is it a controller, and of this version?",
                self.bases.join(", ")
            ),
            Some(message) => bail!("{}", named(&thing(path), message)),
            None => bail!("HTTP {status}: is {} a controller?", self.bases.join(", ")),
        }
    }

    /// To the first controller that takes connections and is not away from the one that leads. What
    /// was sent is not sent again, unless nobody took it, or it changes nothing. Where an answer
    /// takes no time, each has its part of the `limit`: one that hangs, or waits for one that does,
    /// is no reason not to ask the others.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        limit: Duration,
    ) -> Result<reqwest::Response> {
        let reads = method == Method::GET;
        let count = self.bases.len();
        let parts = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let first = self.first.load(Ordering::Relaxed);
        let mut last = None;
        for tried in 0..count {
            let at = (first + tried) % count;
            let base = &self.bases[at];
            let mut request = self.client.request(method.clone(), format!("{base}/api/v1{path}"));
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            request = match body {
                Some(body) => request.json(body),
                None => request.header(reqwest::header::CONTENT_TYPE, "application/json"),
            };
            let is_last = tried + 1 == count;
            if reads && !is_last && is_quick(path) {
                request = request.timeout(limit / parts);
            }
            match request.send().await {
                Ok(answer) => {
                    let is_away = answer.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE;
                    // Whatever is asked next is asked of another one, if this one is away.
                    let next = if is_away { (at + 1) % count } else { at };
                    self.first.store(next, Ordering::Relaxed);
                    if is_last || !(is_away && reads) {
                        return Ok(answer);
                    }
                }
                Err(error) if error.is_connect() || reads => last = Some(error),
                Err(error) => {
                    last = Some(error);
                    break;
                }
            }
        }
        let at = self.bases.join(", ");
        let doubt = last.as_ref().map_or("--controller says where", doubt);
        let text = format!("reach the controller at {at}: {doubt}");
        match last {
            Some(error) => Err(anyhow::Error::new(error).context(text)),
            None => bail!(text),
        }
    }

    /// What each controller says of itself at a path that is no one's but its own, by its URL.
    pub(super) async fn each(&self, path: &str) -> Vec<(String, Result<Value>)> {
        let mut all = Vec::new();
        for base in &self.bases {
            let mut request = self.client.get(format!("{base}{path}"));
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let asked = async {
                let answer = request.timeout(PATIENCE).send().await?.error_for_status()?;
                let mut value: Value = answer.json().await?;
                anyhow::Ok(value["data"].take())
            };
            all.push((base.clone(), asked.await));
        }
        all
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let value = self.call(Method::GET, path, None::<&()>).await?;
        serde_json::from_value(value).with_context(|| {
            format!("read what the controller says of {}", thing(path).unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;

    use super::*;

    /// Answers with that status line, and counts how often.
    fn controller(status: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if stream.read(&mut [0; 4096]).unwrap_or(0) == 0 {
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let head = "connection: close\r\ncontent-length: 11\r\n\r\n";
                let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}{{\"data\":{{}}}}");
            }
        });
        (at, asked)
    }

    #[tokio::test]
    async fn the_controller_that_has_answered_is_asked_first() {
        let (away, asked_away) = controller("503 Service Unavailable");
        let (leads, asked) = controller("200 OK");
        let both = format!("http://{away},http://{leads}");
        let http = Http::new(Some(both), None, &TlsArgs::default(), None).unwrap();
        for _ in 0..3 {
            http.call(Method::GET, "/namespaces", None::<&()>).await.unwrap();
        }
        let counts = [asked_away, asked].map(|asked| asked.load(Ordering::SeqCst));
        assert_eq!(counts, [1, 3]);
    }

    const NOT_DONE: &str = r#"{"error":{"message":"nobody leads","done":"no"},"data":null}"#;
    const UNKNOWN: &str = r#"{"error":{"message":"it may be","done":"unknown"},"data":null}"#;
    const UNSAID: &str = r#"{"error":{"message":"unreadable"},"data":null}"#;
    const DONE: &str = r#"{"data":7}"#;

    /// Refuses with these bodies, one after the other, and then does what is asked for. Counts how
    /// often it was asked.
    fn refusing(bodies: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if stream.read(&mut [0; 4096]).unwrap_or(0) == 0 {
                    continue;
                }
                let body = bodies.get(count.fetch_add(1, Ordering::SeqCst)).unwrap_or(&DONE);
                let status = if *body == DONE { "200 OK" } else { "503 Service Unavailable" };
                let length = body.len();
                let head = format!("connection: close\r\ncontent-length: {length}\r\n\r\n");
                let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}{body}");
            }
        });
        (url, asked)
    }

    fn client(urls: String, limit: Option<Duration>) -> Http {
        Http::new(Some(urls), None, &TlsArgs::default(), limit).unwrap()
    }

    async fn changed(http: &Http) -> Result<Value, String> {
        let path = "/namespaces/n/clusters/c/moves";
        let answer = http.call(Method::POST, path, None::<&()>).await;
        answer.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn what_was_refused_before_anything_was_done_is_asked_for_again() {
        let (url, asked) = refusing(&[NOT_DONE, NOT_DONE]);
        let http = client(url, None);
        assert_eq!(changed(&http).await, Ok(Value::from(7)));
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        assert!(http.has_said.load(Ordering::Relaxed));
        // Of another controller first.
        let ((away, asked_away), (leads, asked)) = (refusing(&[NOT_DONE]), refusing(&[]));
        let http = client(format!("{away},{leads}"), None);
        assert_eq!(changed(&http).await, Ok(Value::from(7)));
        let counts = [asked_away, asked].map(|asked| asked.load(Ordering::SeqCst));
        assert_eq!(counts, [1, 1]);
    }

    #[tokio::test]
    async fn a_change_that_may_have_been_made_is_not_asked_for_again() {
        let (url, asked) = refusing(&[UNKNOWN, UNKNOWN]);
        let http = client(url, None);
        let told = changed(&http).await.unwrap_err();
        assert!(told.starts_with("cluster n/c: it may be. It is not asked for again"), "{told}");
        assert!(told.contains("`ctl moves`"), "{told}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(!http.has_said.load(Ordering::Relaxed));
        // To read twice changes nothing.
        let read = http.call(Method::GET, "/namespaces", None::<&()>).await;
        assert_eq!((read.unwrap(), asked.load(Ordering::SeqCst)), (Value::from(7), 3));
    }

    #[tokio::test]
    async fn what_does_not_say_what_was_done_is_asked_once() {
        for method in [Method::POST, Method::GET] {
            let (url, asked) = refusing(&[UNSAID]);
            let answer = client(url, None).call(method, "/namespaces", None::<&()>).await;
            assert_eq!(answer.unwrap_err().to_string(), "unreadable");
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
    }

    #[tokio::test]
    async fn nothing_is_asked_again_for_longer_than_an_operator_said() {
        let (url, asked) = refusing(&[NOT_DONE; 100]);
        let begun = std::time::Instant::now();
        let told = changed(&client(url, Some(Duration::from_secs(1)))).await.unwrap_err();
        assert_eq!(told, "cluster n/c: nobody leads");
        assert!((2..=3).contains(&asked.load(Ordering::SeqCst)), "{asked:?}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn what_shows_a_change_is_named() {
        assert_eq!(shows("/users/me"), "ctl user list");
        assert_eq!(shows("/namespaces"), "ctl list namespaces");
        assert_eq!(shows("/namespaces/n/clusters"), "ctl list clusters");
        assert_eq!(shows("/namespaces/n/clusters/c/shards/0/drain"), "ctl moves");
        assert_eq!(shows("/namespaces/n/clusters/c/shards/0/failover"), "ctl status");
        assert_eq!(shows("/store/reseal"), "ctl store status");
    }

    #[test]
    fn errors_name_the_thing_and_not_its_path() {
        let told = |path: &str| named(&thing(path), "no");
        assert_eq!(told("/namespaces"), "no");
        assert_eq!(told("/events?limit=5"), "no");
        assert_eq!(told("/namespaces/prod"), "namespace prod: no");
        assert_eq!(told("/namespaces/prod/clusters"), "namespace prod: no");
        assert_eq!(told("/namespaces/prod/clusters/main/import"), "cluster prod/main: no");
        assert_eq!(
            told("/namespaces/prod/clusters/main/shards/0/failover"),
            "cluster prod/main, shard 0: no"
        );
        assert_eq!(
            told("/namespaces/p/clusters/c/shards/1/nodes/abc"),
            "cluster p/c, shard 1, node abc: no"
        );
        let node = "0123456789".repeat(4);
        let path = format!("/namespaces/p/clusters/c/nodes/{node}");
        assert_eq!(told(&path), "cluster p/c, node 01234567: no");
        assert_eq!(told("/namespaces/p/clusters/c/balancers/lb1"), "cluster p/c, balancer lb1: no");
        assert_eq!(named(&Some("cluster a/b".into()), "cluster a/b: gone"), "cluster a/b: gone");
        let shard = Some("cluster a/b, shard 0".to_owned());
        assert_eq!(named(&shard, "shard 0: no loss"), "cluster a/b, shard 0: no loss");
        assert_eq!(named(&shard, "shard 0 has slots"), "cluster a/b, shard 0: shard 0 has slots");
    }

    #[test]
    fn what_takes_its_time_is_asked_of_one_controller() {
        for path in ["/namespaces", "/namespaces/n/clusters/c", "/namespaces/n/clusters/c/status"] {
            assert!(is_quick(path), "{path}");
        }
        for path in ["/store/export", "/events?limit=5", "/namespaces/n/clusters/c/discarded"] {
            assert!(!is_quick(path), "{path}");
        }
    }

    #[test]
    fn an_address_that_is_no_url_is_told_apart_from_one_where_nobody_is() {
        let client = reqwest::Client::new();
        let error = client.get("http://nonsense:port/").build().expect_err("no port");
        assert!(doubt(&error).starts_with("--controller takes URLs"), "{error}");
        let refused = "client error (Connect): tcp connect error: Connection refused";
        assert!(meant(refused).starts_with("is it running?"));
        let unknown = "client error (Connect): invalid peer certificate: UnknownIssuer";
        assert!(meant(unknown).contains("--cacert"));
    }
}
