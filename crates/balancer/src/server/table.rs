//! All frontends of the process, and how a new desired state comes into force.
//!
//! Invariants: one state is applied at a time; a lower `(term, version)` is refused before anything
//! is touched; old sessions are cut before new listeners are made.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use api::balancer::{Desired, GIVE_BACK_MS, HOLD_MAX_MS, State};
use api::certificate::{Certificate, Trust};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use topology::Endpoint;
use web::tls::Tls;

use super::config::Config;
use super::frontend::{Frontend, Way};
use super::relay::Budgets;
use super::session::{self, Shared};
use super::sys;
use super::workers::Workers;
use crate::lookup::{Answer, Lookups};

/// Longest wait for cut sessions to be gone; a cut needs one turn of its worker.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a desired state was not applied.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    #[error(
        "term {term} version {version} is older than what is applied: term {applied_term} version {applied_version}"
    )]
    Older { term: u64, version: u64, applied_term: u64, applied_version: u64 },
    #[error("term {term} version {version} was applied with other content")]
    Ambiguous { term: u64, version: u64 },
    #[error("this process started as {is}, not as {expected}")]
    Restarted { is: String, expected: String },
    #[error("frontend {0} is listed twice")]
    Twice(Endpoint),
    #[error("{0} has no port")]
    NoPort(Endpoint),
    #[error("sessions of former backends remain at {0}")]
    Remaining(Endpoint),
}

/// See the module.
pub(super) struct Table {
    name: String,
    start_id: String,
    bind_source: Option<IpAddr>,
    shared: Arc<Shared>,
    frontends: Mutex<BTreeMap<Endpoint, Arc<Frontend>>>,
    applied: Mutex<Option<Desired>>,
    /// Which frontend listens at an address, or did.
    bound: Mutex<HashMap<SocketAddr, Endpoint>>,
    /// Why backends are not checked, although they should be.
    unchecked: Mutex<Option<String>>,
    /// Held while a state is brought into force.
    turn: tokio::sync::Mutex<()>,
    /// The process is stopping: sessions are ended as ever, but nothing is opened any more.
    stopping: AtomicBool,
}

impl Table {
    pub(super) fn new(config: &Config, workers: Workers, tls: Arc<Tls>) -> Self {
        Self {
            name: config.name.clone(),
            start_id: format!("{:016x}", rand::random::<u64>()),
            bind_source: config.bind_source,
            shared: Arc::new(Shared {
                workers,
                bind_source: config.bind_source,
                send_proxy: config.send_proxy,
                is_checked: config.health_interval_ms > 0,
                connect_timeout: config.limits.connect_timeout(),
                max_sessions: config.limits.max_sessions,
                sessions: AtomicUsize::new(0),
                budgets: Budgets::default(),
                tls,
                lookups: Lookups::default(),
            }),
            frontends: Mutex::default(),
            applied: Mutex::default(),
            bound: Mutex::default(),
            unchecked: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn start_id(&self) -> &str {
        &self.start_id
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// All frontends, by address.
    pub(super) fn frontends(&self) -> Vec<Arc<Frontend>> {
        self.frontends.lock().values().cloned().collect()
    }

    /// Term and version of what is applied; 0 before the first.
    pub(super) fn applied(&self) -> (u64, u64) {
        self.applied.lock().as_ref().map_or((0, 0), |applied| (applied.term, applied.version))
    }

    /// What is in force.
    pub(super) fn state(&self) -> State {
        let (term, version) = self.applied();
        State {
            start_id: self.start_id.clone(),
            term,
            version,
            bind_source: self.bind_source.map(|ip| ip.to_string()),
            send_proxy: Some(self.shared.send_proxy),
            certificates: certificates(&self.shared.tls),
            trust: trust(&self.shared.tls),
            frontends: self.frontends().iter().map(|frontend| frontend.state()).collect(),
        }
    }

    /// Backends are checked, or, with the reason, are not.
    pub(super) fn checked(&self, fault: Option<String>) {
        *self.unchecked.lock() = fault;
    }

    /// Why clients should not be sent here; `None` if nothing speaks against it.
    pub(super) fn trouble(&self) -> Option<String> {
        if self.stopping.load(Ordering::SeqCst) {
            return Some("closed: this process is stopping".to_owned());
        }
        let fault = self.shared.workers.trouble().or_else(|| self.unchecked.lock().clone());
        if fault.is_some() {
            return fault;
        }
        if self.applied.lock().is_none() {
            return Some("closed: no controller has told this process yet what to open".to_owned());
        }
        let failed: Vec<String> = (self.frontends().iter())
            .filter_map(|frontend| {
                frontend.fault().map(|error| format!("{}: {error}", frontend.listen))
            })
            .collect();
        (!failed.is_empty()).then(|| failed.join("; "))
    }

    /// Brings `desired` into force. Answers once every session to a former backend is gone.
    pub(super) async fn apply(
        &self,
        desired: Desired,
        expected_start: Option<&str>,
    ) -> Result<State, Refusal> {
        check(&desired)?;
        if let Some(expected) = expected_start.filter(|expected| *expected != self.start_id) {
            return Err(Refusal::Restarted {
                is: self.start_id.clone(),
                expected: expected.into(),
            });
        }
        let _turn = self.turn.lock().await;
        self.admit(&desired)?;
        let unlisted = self.cut(&desired);
        for frontend in &unlisted {
            frontend.unbind().await;
        }
        if !self.stopping.load(Ordering::SeqCst) {
            self.open_all(&desired).await;
        }
        let deadline = Instant::now() + Duration::from_millis(GIVE_BACK_MS);
        for frontend in self.frontends() {
            if timeout_at(deadline, frontend.drained()).await.is_err() {
                frontend.cut_leaving();
            }
        }
        let deadline = Instant::now() + CUT_TIMEOUT;
        for frontend in self.frontends() {
            if timeout_at(deadline, frontend.drained()).await.is_err() {
                return Err(Refusal::Remaining(frontend.listen.clone()));
            }
        }
        self.frontends
            .lock()
            .retain(|listen, _| desired.frontends.iter().any(|f| f.listen == *listen));
        Ok(self.state())
    }

    /// Compares with what is applied, and remembers `desired` from here on: an older one is refused
    /// even while this one is half-way.
    fn admit(&self, desired: &Desired) -> Result<(), Refusal> {
        let (term, version) = (desired.term, desired.version);
        let mut applied = self.applied.lock();
        if let Some(last) = applied.as_ref() {
            if (term, version) < (last.term, last.version) {
                return Err(Refusal::Older {
                    term,
                    version,
                    applied_term: last.term,
                    applied_version: last.version,
                });
            }
            if (term, version) == (last.term, last.version) && desired != last {
                return Err(Refusal::Ambiguous { term, version });
            }
        }
        *applied = Some(desired.clone());
        Ok(())
    }

    /// Switches all known frontends in one go; returns those that are not listed any more.
    fn cut(&self, desired: &Desired) -> Vec<Arc<Frontend>> {
        let mut unlisted = Vec::new();
        for frontend in self.frontends() {
            match desired.frontends.iter().find(|wanted| wanted.listen == frontend.listen) {
                Some(wanted) => switch(&frontend, &way(wanted)),
                None => {
                    switch(&frontend, &Way::Closed);
                    unlisted.push(frontend);
                }
            }
        }
        unlisted
    }

    /// Makes sure that all frontends listen. Names of those that do not yet are looked up side by
    /// side: one whose resolver hangs holds up no other, and opens at a later application.
    async fn open_all(&self, desired: &Desired) {
        let closed: Vec<(Arc<Frontend>, Way)> = {
            let mut frontends = self.frontends.lock();
            let mut frontend = |listen: &Endpoint| {
                let new = || Arc::new(Frontend::new(listen.clone()));
                Arc::clone(frontends.entry(listen.clone()).or_insert_with(new))
            };
            let all = desired.frontends.iter().map(|f| (frontend(&f.listen), way(f)));
            all.filter(|(frontend, _)| !frontend.is_open()).collect()
        };
        let names: Vec<(&str, u16)> = (closed.iter())
            .map(|(frontend, _)| (frontend.listen.host.as_str(), frontend.listen.port))
            .collect();
        let found = self.shared.lookups.all(&names).await;
        for ((frontend, way), answer) in closed.iter().zip(found) {
            self.open(frontend, way, answer);
        }
    }

    /// Makes the listener of a frontend, which is new or has lost its own.
    fn open(&self, frontend: &Arc<Frontend>, way: &Way, found: Answer) {
        let listen = &frontend.listen;
        match self.bind(listen, found) {
            Ok(listener) => {
                if self.shared.tls.terminator(&listen.to_string()).is_some() {
                    tracing::info!(frontend = %listen, "TLS of its clients ends here");
                } else {
                    tracing::info!(frontend = %listen, "TLS of its clients is passed on");
                }
                switch(frontend, way);
                let accepting =
                    session::accept(listener, Arc::clone(frontend), Arc::clone(&self.shared));
                let listen = listen.clone();
                frontend.opened(tokio::spawn(async move {
                    if let Err(error) = accepting.await {
                        tracing::error!(frontend = %listen, %error, "frontend stopped accepting");
                    }
                }));
            }
            Err(error) => {
                switch(frontend, &Way::Closed);
                if frontend.failed(format!("bind {listen}: {error}")) {
                    tracing::warn!(frontend = %listen, %error, "cannot bind a frontend");
                }
            }
        }
    }

    fn bind(&self, listen: &Endpoint, found: Answer) -> io::Result<std::net::TcpListener> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in found.addresses()? {
            match self.claim(listen, address).and_then(|()| sys::listen(address)) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes an address for a frontend. Another one may have it under another name, and the kernel
    /// would part the clients between both, which lead to two nodes.
    fn claim(&self, listen: &Endpoint, address: SocketAddr) -> io::Result<()> {
        let mut bound = self.bound.lock();
        let frontends = self.frontends.lock();
        bound.retain(|_, other| frontends.get(other).is_some_and(|other| other.is_open()));
        match bound.get(&address).filter(|other| *other != listen) {
            Some(other) => {
                let why = format!("{address} is where {other} is served, under another name");
                Err(io::Error::new(io::ErrorKind::AddrInUse, why))
            }
            None => {
                bound.insert(address, listen.clone());
                Ok(())
            }
        }
    }

    /// Closes all listeners, lets sessions finish for `drain`, or until `again` resolves, and
    /// resets the rest. Meanwhile a fence can still be had here.
    pub(super) async fn stop(&self, drain: Duration, again: impl Future<Output = ()>) {
        let frontends = {
            let _turn = self.turn.lock().await;
            self.stopping.store(true, Ordering::SeqCst);
            let frontends = self.frontends();
            for frontend in &frontends {
                frontend.unbind().await;
            }
            frontends
        };
        let finished = async {
            while frontends.iter().any(|frontend| frontend.session_count() > 0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = finished => {}
            () = tokio::time::sleep(drain) => {}
            () = again => {}
        }
        let deadline = Instant::now() + CUT_TIMEOUT;
        for frontend in &frontends {
            switch(frontend, &Way::Closed);
            let _ = timeout_at(deadline, frontend.drained()).await;
        }
    }
}

/// As an answer has them.
fn certificates(tls: &Tls) -> Vec<Certificate> {
    let all = tls.ends().into_iter();
    all.map(|(option, ends_s)| Certificate { option: option.to_owned(), ends_s }).collect()
}

fn trust(tls: &Tls) -> Vec<Trust> {
    let told = |web::trust::Trust { option, accepts, issued_by }| Trust {
        option: String::from(option),
        accepts,
        issued_by,
    };
    tls.trust().into_iter().map(told).collect()
}

/// Switches a frontend; one that begins to hold does so for a bounded time, whatever becomes of the
/// controller.
fn switch(frontend: &Arc<Frontend>, way: &Way) {
    if frontend.switch(way) {
        let (frontend, number) = (Arc::clone(frontend), frontend.holds());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(HOLD_MAX_MS)).await;
            frontend.expire(number);
        });
    }
}

fn way(wanted: &api::balancer::Frontend) -> Way {
    match &wanted.backend {
        Some(backend) => Way::To(backend.clone()),
        None if wanted.hold => Way::Hold,
        None => Way::Closed,
    }
}

fn check(desired: &Desired) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for frontend in &desired.frontends {
        let listen = &frontend.listen;
        if listen.port == 0 {
            return Err(Refusal::NoPort(listen.clone()));
        }
        if let Some(backend) = frontend.backend.as_ref().filter(|backend| backend.port == 0) {
            return Err(Refusal::NoPort(Endpoint { host: backend.host.clone(), port: 0 }));
        }
        if !seen.insert(listen) {
            return Err(Refusal::Twice(listen.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::Resolving;

    fn free_port() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn two_names_of_one_address_are_not_both_served_there() {
        let workers = Workers::start(1).unwrap();
        let mut table = Table::new(&Config::default(), workers, Arc::default());
        let resolver = |_: String, port: u16| -> Resolving {
            Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) })
        };
        Arc::get_mut(&mut table.shared).unwrap().lookups = Lookups::by(Arc::new(resolver));
        let port = free_port();
        let frontend = |host: &&str| api::balancer::Frontend {
            listen: Endpoint { host: (*host).to_owned(), port },
            backend: None,
            hold: false,
        };
        let faults = async |version, hosts: &[&str]| {
            let frontends = hosts.iter().map(frontend).collect();
            let state = table.apply(Desired { term: 1, version, frontends }, None).await.unwrap();
            state.frontends.into_iter().map(|f| f.error.unwrap_or_default()).collect::<Vec<_>>()
        };
        for version in [1, 2] {
            let told = faults(version, &["one.test", "two.test"]).await;
            assert!(told[0].is_empty() && told[1].contains("one.test"), "{told:?}");
        }
        // It is the other's once it is free.
        assert_eq!(faults(3, &["two.test"]).await, [""]);
    }

    #[tokio::test]
    async fn a_name_whose_resolver_hangs_holds_up_no_other_frontend() {
        let workers = Workers::start(1).unwrap();
        let mut table = Table::new(&Config::default(), workers, Arc::default());
        let go_on = Arc::new(tokio::sync::Notify::new());
        let answered = Arc::clone(&go_on);
        let resolver = move |host: String, port: u16| -> Resolving {
            let answered = Arc::clone(&answered);
            Box::pin(async move {
                if host == "slow.test" {
                    answered.notified().await;
                }
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
            })
        };
        Arc::get_mut(&mut table.shared).unwrap().lookups = Lookups::by(Arc::new(resolver));
        let frontend = |host: &str| api::balancer::Frontend {
            listen: Endpoint { host: host.to_owned(), port: free_port() },
            backend: None,
            hold: false,
        };
        let frontends = ["slow.test", "fast.test", "127.0.0.1"].map(frontend).to_vec();
        let desired = Desired { term: 1, version: 1, frontends };
        let faults = async || {
            let applying = table.apply(desired.clone(), None);
            let state = tokio::time::timeout(Duration::from_secs(20), applying).await.unwrap();
            let state = state.unwrap();
            let fault = |f: api::balancer::FrontendState| f.error.map(|_| f.listen.host);
            state.frontends.into_iter().filter_map(fault).collect::<Vec<_>>()
        };
        assert_eq!(faults().await, ["slow.test"]);
        assert_eq!(faults().await, ["slow.test"]);
        go_on.notify_one();
        let opened = async {
            while !faults().await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), opened).await.unwrap();
    }
}
