//! Servers that speak JSON by HTTP, each asked from within its own namespace: no cut matters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;

use crate::netns;

/// Says to a controller that a request was passed on already, which is done once.
const HOP: &str = "x-holdfast-passed-on";

/// Where a server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Its host, as in reports.
    pub name: String,
    /// Its namespace.
    pub space: String,
    /// Where it listens, as its own host reaches it: `address:port`.
    pub address: String,
    /// What it asks for.
    pub token: Option<&'static str>,
}

/// On a thread of its own, which may go from namespace to namespace.
pub fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|_| Err(anyhow!("a thread that asks has panicked")))
    })
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Of HTTP.
    pub method: Method,
    /// Behind the address.
    pub path: &'a str,
    /// JSON.
    pub body: Option<&'a Json>,
    /// It may be asked twice.
    pub is_read: bool,
}

/// Why there is no answer to be used.
#[derive(Debug)]
pub struct Failure {
    /// What was asked for is certainly not done.
    pub is_refused: bool,
    /// In words.
    pub why: anyhow::Error,
}

/// Speaks JSON by HTTP; belongs to the thread that made it, and takes that from namespace to
/// namespace.
#[derive(Debug)]
pub struct Caller {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Caller {
    /// Each request may take so long.
    pub fn new(patience: Duration) -> Result<Self> {
        Self::with(patience, HeaderMap::new())
    }

    /// The same, and each controller that is asked answers for itself: one that does not lead
    /// passes nothing on, but says so.
    pub fn of_each(patience: Duration) -> Result<Self> {
        let hop = (HeaderName::from_static(HOP), HeaderValue::from_static("1"));
        Self::with(patience, HeaderMap::from_iter([hop]))
    }

    fn with(patience: Duration, headers: HeaderMap) -> Result<Self> {
        // One thread: others would be in another namespace.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        let http = reqwest::Client::builder()
            .timeout(patience)
            .default_headers(headers)
            .no_proxy()
            // A pooled connection would outlive the process it belongs to.
            .pool_max_idle_per_host(0)
            .build()
            .context("build the HTTP client")?;
        Ok(Self { runtime, http })
    }

    /// One request. The answer is JSON, or nothing.
    ///
    /// # Errors
    /// There is none, or its status is no success.
    pub fn call(&self, door: &Door, question: &Question<'_>) -> Result<Json, Failure> {
        let Question { method, path, body, is_read: _ } = question;
        netns::enter(&door.space).map_err(|why| Failure { is_refused: true, why })?;
        let url = format!("http://{}{path}", door.address);
        let mut request = self.http.request(method.clone(), url);
        if let Some(token) = door.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.map_err(|error| Failure {
                is_refused: error.is_connect(),
                why: anyhow!(error).context(format!("ask {} for {path}", door.name)),
            })?;
            let status = answer.status();
            let bytes = answer.bytes().await.map_err(|error| Failure {
                is_refused: false,
                why: anyhow!(error).context(format!("read {path} from {}", door.name)),
            })?;
            let body: Json = serde_json::from_slice(&bytes).unwrap_or(Json::Null);
            if status.is_success() {
                return Ok(body);
            }
            let message = ["/error/message", "/message"]
                .into_iter()
                .find_map(|at| body.pointer(at)?.as_str())
                .unwrap_or_default();
            // Said where nobody leads, or the request was not passed on.
            let is_refused = status == 503 && !message.contains("is not known");
            Err(Failure { is_refused, why: anyhow!("{path}: HTTP {status}: {message}") })
        })
    }

    /// The same of several, of which any will do, beginning with the `first`, which becomes the one
    /// that answered.
    pub fn any(
        &self,
        (doors, first): (&[Door], &AtomicUsize),
        question: &Question<'_>,
    ) -> Result<Json> {
        let begin = first.load(Ordering::Relaxed);
        let mut last = anyhow!("nobody is there to be asked for {}", question.path);
        for at in (0..doors.len()).map(|number| (begin + number) % doors.len()) {
            match self.call(&doors[at], question) {
                Ok(answer) => {
                    first.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(failure) if failure.is_refused || question.is_read => last = failure.why,
                Err(failure) => {
                    // It may be stopped: the next one is asked first from now on.
                    first.store((at + 1) % doors.len(), Ordering::Relaxed);
                    return Err(failure.why);
                }
            }
        }
        Err(last)
    }
}
