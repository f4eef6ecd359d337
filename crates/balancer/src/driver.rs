//! What a controller asks of a load balancer, whatever its kind, and what an instance answers.
//!
//! Invariant: [`Applied`] is made only from the instance's own answers, never from what it was told
//! to do.

use std::future::Future;
use std::time::Duration;

use api::balancer::{Backend, Desired};
use api::certificate::{Certificate, Trust};
use thiserror::Error;
use topology::Endpoint;

/// Sessions of one frontend that lead to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCount {
    /// The announced endpoint.
    pub frontend: Endpoint,
    /// Node id.
    pub node: String,
    /// 1 and up; those being set up are counted.
    pub count: u64,
}

/// What one instance has in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Changes with every start of the instance: a new one means that everything must be applied
    /// again.
    pub start_id: String,
    /// Every frontend known to the instance and the node behind it; `None` is closed.
    /// A frontend stands here more than once if more than one server takes its connections.
    pub in_force: Vec<(Endpoint, Option<Backend>)>,
    /// Live sessions.
    pub sessions: Vec<SessionCount>,
    /// Connections that wait for a backend.
    pub held: u64,
    /// Sessions that were moved to another node since the start.
    pub moved: u64,
    /// Sessions that were reset since the start because their node was no longer the backend.
    pub cut: u64,
    /// Node ids, and whether the last attempt to reach them succeeded; only those it tried, and
    /// only from kinds that tell.
    pub reach: Vec<(String, bool)>,
    /// Nodes it tried and did not reach, and why.
    pub faults: Vec<(String, String)>,
    /// The address it dials nodes from, by its own configuration; `None` from kinds that do not
    /// tell, and where none is configured.
    pub source: Option<String>,
    /// Node ids, and the address it last dialled each of them from.
    pub dials: Vec<(String, String)>,
    /// Whether nodes get a PROXY header; `None` where it is not said.
    pub sends_header: Option<bool>,
    /// Its certificates; nothing from kinds that do not tell.
    pub certificates: Vec<Certificate>,
    /// Which CAs it knows others by; nothing from kinds that do not tell.
    pub trust: Vec<Trust>,
    /// Frontends that could not be served as wished, and why.
    pub errors: Vec<(Endpoint, String)>,
    /// Why this answer does not cover every process of the instance; nothing is fenced then.
    pub uncertain: Option<String>,
}

impl Applied {
    /// Whether this instance has no way to the node any more and no session of it
    /// (`docs/protocol.md` §4). One instance's answer is a fence only together with those of all
    /// other instances in front of the node.
    pub fn fenced(&self, node: &str) -> bool {
        let led = self.in_force.iter().flat_map(|(_, backend)| backend).any(|b| b.node == node);
        let held = self.sessions.iter().any(|sessions| sessions.node == node && sessions.count > 0);
        self.uncertain.is_none() && !led && !held
    }

    /// Whether every listed frontend has exactly the wished backend.
    pub fn matches(&self, desired: &Desired) -> bool {
        desired.frontends.iter().all(|wanted| {
            let mut found = self.in_force.iter().filter(|(listen, _)| *listen == wanted.listen);
            found.next().is_some_and(|(_, backend)| *backend == wanted.backend)
                && found.next().is_none()
        })
    }
}

/// Why an instance did not do or tell what it was asked. `instance` is the name it was configured
/// with.
#[derive(Debug, Error)]
pub enum Error {
    /// Not reached, or no answer in time.
    #[error("balancer {instance}: {action}")]
    Unreachable {
        /// Which one.
        instance: String,
        /// What was tried.
        action: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something newer than the caller's `(term, version)` is in force: the caller is not in charge
    /// any more.
    #[error("balancer {instance}: a newer state is in force: {detail}")]
    Stale {
        /// Which one.
        instance: String,
        /// What it said.
        detail: String,
    },
    /// The process started anew between two steps; look at it again.
    #[error("balancer {instance}: it was restarted meanwhile: {detail}")]
    Restarted {
        /// Which one.
        instance: String,
        /// What it said.
        detail: String,
    },
    /// The caller may not tell it anything any more: it was told nothing, or not all.
    #[error("balancer {instance}: whoever tells it may not do so any more")]
    Ended {
        /// Which one.
        instance: String,
    },
    /// It answered, but refused.
    #[error("balancer {instance}: refused: {detail}")]
    Refused {
        /// Which one.
        instance: String,
        /// What it said.
        detail: String,
    },
    /// Its answer makes no sense.
    #[error("balancer {instance}: answer not understood: {detail}: {line:?}")]
    Nonsense {
        /// Which one.
        instance: String,
        /// What was expected.
        detail: String,
        /// The line, cut to a readable length.
        line: String,
    },
    /// The switch is in force, but sessions of a former backend are still there.
    #[error("balancer {instance}: {count} sessions remain at {server}")]
    Remaining {
        /// Which one.
        instance: String,
        /// Where.
        server: String,
        /// How many.
        count: u64,
    },
}

/// One load balancer instance.
pub trait Driver: Sync {
    /// Brings `desired` into force and answers what is; `Ok` only once no session to a former
    /// backend is left.
    ///
    /// An authority may end while an instance is looked at: `may` is asked again right before
    /// anything is changed, and before a way is opened.
    fn apply_while(
        &self,
        desired: &Desired,
        may: impl Fn() -> bool + Send + Sync,
    ) -> impl Future<Output = Result<Applied, Error>> + Send;

    /// The same by an authority that does not end.
    fn apply(&self, desired: &Desired) -> impl Future<Output = Result<Applied, Error>> + Send {
        self.apply_while(desired, || true)
    }

    /// Answers what is in force, changing nothing.
    fn observe(&self) -> impl Future<Output = Result<Applied, Error>> + Send;
}

/// Longest single exchange with an instance, where nothing else is configured.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_millis(1_000);

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint { host: "127.0.0.1".to_owned(), port }
    }

    fn backend(node: &str) -> Option<Backend> {
        Some(Backend { node: node.to_owned(), host: "127.0.0.1".to_owned(), port: 1 })
    }

    #[test]
    fn fenced_means_no_way_and_no_session() {
        let mut applied = Applied {
            in_force: vec![(endpoint(1), backend("b")), (endpoint(2), None)],
            ..Applied::default()
        };
        assert!(applied.fenced("a"));
        assert!(!applied.fenced("b"));
        applied.sessions.push(SessionCount {
            frontend: endpoint(2),
            node: "a".to_owned(),
            count: 1,
        });
        assert!(!applied.fenced("a"));
        applied.sessions.clear();
        applied.uncertain = Some("an old worker does not answer".to_owned());
        assert!(!applied.fenced("a"));
    }

    #[test]
    fn a_second_server_behind_a_frontend_is_no_match() {
        let backend_a = backend("a");
        let frontend =
            api::balancer::Frontend { listen: endpoint(1), backend: backend_a, hold: false };
        let desired = Desired { term: 1, version: 1, frontends: vec![frontend] };
        let mut applied =
            Applied { in_force: vec![(endpoint(1), backend("a"))], ..Applied::default() };
        assert!(applied.matches(&desired));
        applied.in_force.push((endpoint(1), backend("b")));
        assert!(!applied.matches(&desired));
    }
}
