//! How a balancer instance is spoken to.

use std::time::Duration;

use api::balancer as wire;
use planner::{Balancer, BalancerKind, Desired};

/// One instance behind its protocol.
pub(super) enum Driver {
    /// `holdfast balancer`: one PUT replaces everything.
    Builtin { http: reqwest::Client, url: String, token: Option<String> },
    /// This build cannot speak to it.
    Unsupported(&'static str),
}

impl Driver {
    pub(super) fn new(balancer: &Balancer) -> Self {
        match balancer.kind {
            BalancerKind::Builtin => {
                let base = balancer.endpoint.trim_end_matches('/');
                let base =
                    if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
                Self::Builtin {
                    http: reqwest::Client::builder()
                        .connect_timeout(Duration::from_millis(500))
                        .build()
                        .unwrap_or_default(),
                    url: format!("{base}/api/v1/desired"),
                    token: balancer.token.clone(),
                }
            }
            BalancerKind::Haproxy => Self::Unsupported("haproxy"),
        }
    }

    /// Returns what is in force after `desired` was put into force.
    pub(super) async fn apply(&self, term: u64, desired: &Desired) -> Result<wire::State, String> {
        match self {
            Self::Builtin { http, url, token } => {
                let body = wire::Desired {
                    term,
                    version: desired.version,
                    frontends: desired.frontends.clone(),
                };
                let mut request = http.put(url).json(&body);
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                let answer = request.send().await.map_err(|error| chain(&error))?;
                if !answer.status().is_success() {
                    let status = answer.status();
                    let text = answer.text().await.unwrap_or_default();
                    return Err(format!("{status}: {text}"));
                }
                answer.json().await.map_err(|error| chain(&error))
            }
            Self::Unsupported(kind) => Err(format!("balancers of kind {kind} are not supported")),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
