//! The controller's REST interface, asked from within its namespace.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value as Json;

use crate::netns;

/// Where it listens: loopback of its own namespace.
pub const LISTEN: &str = "127.0.0.1:9379";
/// Path of the cluster of a run.
pub const CLUSTER: &str = "/namespaces/torture/clusters/main";

/// A client that belongs to the thread that made it.
#[derive(Debug)]
pub struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Client {
    /// For a thread that is in the controller's namespace already.
    pub fn new(patience: Duration) -> Result<Self> {
        // One thread: others would be in another namespace.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        let http = reqwest::Client::builder()
            .timeout(patience)
            .no_proxy()
            // A pooled connection would outlive the controller it belongs to.
            .pool_max_idle_per_host(0)
            .build()
            .context("build the HTTP client")?;
        Ok(Self { runtime, http })
    }

    /// `GET` and its `data`.
    pub fn get(&self, path: &str) -> Result<Json> {
        self.ask(self.http.get(format!("http://{LISTEN}/api/v1{path}")), path)
    }

    /// `POST` and its `data`.
    pub fn post(&self, path: &str, body: &Json) -> Result<Json> {
        self.ask(self.http.post(format!("http://{LISTEN}/api/v1{path}")).json(body), path)
    }

    /// `PATCH` and its `data`.
    pub fn patch(&self, path: &str, body: &Json) -> Result<Json> {
        self.ask(self.http.patch(format!("http://{LISTEN}/api/v1{path}")).json(body), path)
    }

    /// `DELETE` and its `data`.
    pub fn delete(&self, path: &str) -> Result<Json> {
        self.ask(self.http.delete(format!("http://{LISTEN}/api/v1{path}")), path)
    }

    fn ask(&self, request: reqwest::RequestBuilder, path: &str) -> Result<Json> {
        self.runtime.block_on(async {
            let answer = request.send().await.with_context(|| format!("ask for {path}"))?;
            let status = answer.status();
            let bytes = answer.bytes().await.with_context(|| format!("read {path}"))?;
            let mut body: Json = serde_json::from_slice(&bytes).unwrap_or(Json::Null);
            let message = body.pointer("/error/message").and_then(Json::as_str).unwrap_or("");
            ensure!(status.is_success(), "{path}: HTTP {status}: {message}");
            Ok(body.get_mut("data").map(Json::take).unwrap_or_default())
        })
    }
}

/// One request from any thread.
pub fn once<T: Send>(
    space: &str,
    patience: Duration,
    work: impl FnOnce(&Client) -> Result<T> + Send,
) -> Result<T> {
    netns::inside(space, || work(&Client::new(patience)?))
}

/// The first value under a name, however deep.
pub fn find<'a>(value: &'a Json, name: &str) -> Option<&'a Json> {
    match value {
        Json::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|inner| find(inner, name)))
        }
        Json::Array(elements) => elements.iter().find_map(|inner| find(inner, name)),
        _ => None,
    }
}
