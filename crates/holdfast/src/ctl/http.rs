//! One request, one answer, errors in the controller's own words.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where the controller listens unless told otherwise.
const DEFAULT: &str = "127.0.0.1:9379";
/// How long an answer may take unless told otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Http {
    base: String,
    token: Option<String>,
    client: reqwest::Client,
    /// As the operator said it.
    limit: Option<Duration>,
}

impl Http {
    pub(crate) fn new(
        controller: Option<String>,
        token: Option<String>,
        limit: Option<Duration>,
    ) -> Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let at = controller
            .or_else(|| variable("HOLDFAST_CONTROLLER"))
            .unwrap_or_else(|| DEFAULT.to_owned());
        let scheme = if at.contains("://") { "" } else { "http://" };
        let client = reqwest::Client::builder()
            // A proxy of the environment has no business between an operator and a controller.
            .no_proxy()
            .connect_timeout(Duration::from_secs(3))
            .build()
            .context("build the HTTP client")?;
        Ok(Self {
            base: format!("{scheme}{}", at.trim_end_matches('/')),
            token: token.or_else(|| variable("HOLDFAST_TOKEN")),
            client,
            limit,
        })
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

    /// As [`Http::call`], for what may take `patience` by its nature.
    pub(crate) async fn call_long(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        patience: Duration,
    ) -> Result<Value> {
        let limit = self.limit.unwrap_or(patience);
        let changes = method != Method::GET;
        match tokio::time::timeout(limit, self.exchange(method, path, body)).await {
            Ok(result) => result,
            Err(_) => bail!(
                "the controller at {} has not answered within {} s{}: does it hang? --timeout changes the limit",
                self.base,
                limit.as_secs_f64(),
                if changes { ", and may do it yet: look with `status`" } else { "" }
            ),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Value> {
        let mut request = self.client.request(method, format!("{}/api/v1{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| {
            format!("reach the controller at {}: is it running? --controller says where", self.base)
        })?;
        let status = answer.status();
        let bytes = answer.bytes().await.context("read the controller's answer")?;
        let mut value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(value["data"].take());
        }
        if status == reqwest::StatusCode::UNAUTHORIZED {
            bail!("the controller wants a token: pass --token, or set HOLDFAST_TOKEN");
        }
        match value["error"]["message"].as_str() {
            Some(message) => bail!("{path}: {message}"),
            None => bail!("{path}: HTTP {status}: is {} a controller?", self.base),
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let value = self.call(Method::GET, path, None::<&()>).await?;
        serde_json::from_value(value).with_context(|| format!("read the answer to {path}"))
    }
}
