//! One announced endpoint: its route, its listener and its sessions.
//!
//! Invariant: a session is entered for a backend under the same lock that reads the backend. So a
//! change of the backend under that lock sees every connection that goes to the old one, also those
//! that are still being set up, and later ones go to the new.
//!
//! While a frontend holds, its sessions are asked to leave their node, and those that have left, or
//! are new, wait for the next backend.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api::balancer::{Backend, FrontendState, Sessions};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use topology::Endpoint;

use super::counters::Counters;

/// For how long it is told that a client found no descriptor, or no port to be carried on from.
const SHORT: Duration = Duration::from_secs(5);
/// What is told then.
const SHORT_OF: &str = "clients are refused, as there is no descriptor, no memory or no local port left for them: \
                        raise LimitNOFILE or net.ipv4.ip_local_port_range, or lower limits.max_sessions";

/// Result of the last attempt to reach the backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Reach {
    #[default]
    Unknown,
    Up,
    /// With the reason.
    Down(String),
}

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Nowhere: they are reset.
    Closed,
    /// To a node.
    To(Backend),
    /// They wait for the node to come.
    Hold,
}

/// What a session is to do when it has no node.
enum Next {
    Go(Arc<Backend>),
    Wait,
    End,
}

/// See the module.
pub(super) struct Frontend {
    pub(super) listen: Endpoint,
    pub(super) counters: Counters,
    route: Mutex<Route>,
    /// Signalled when the last session that was to leave its node is gone from there.
    left: Notify,
    /// Signalled when waiting connections may go on.
    go: Notify,
}

#[derive(Default)]
struct Route {
    backend: Option<Arc<Backend>>,
    reach: Reach,
    /// Why the backend was not believed to be the node, when a session last spoke TLS with it.
    unbelieved: Option<String>,
    /// Where the backend was last dialled from.
    dials_from: Option<IpAddr>,
    hold: Hold,
    /// How often it began to hold.
    holds: u64,
    error: Option<String>,
    /// When a client was last refused for want of a descriptor, of memory or of a port.
    short: Option<Instant>,
    listener: Option<JoinHandle<()>>,
    sessions: HashMap<u64, Entry>,
    /// Entries that are to leave their node.
    leaving: usize,
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Hold {
    #[default]
    No,
    Yes,
    /// It was asked for, and lasted too long.
    Over,
}

struct Entry {
    /// The node it leads to; `None` while it waits for one.
    at: Option<Arc<Backend>>,
    /// `None` between entering and the start of its task.
    task: Option<AbortHandle>,
    /// To be asked to leave its node.
    order: Arc<Notify>,
    leaving: bool,
    doomed: bool,
}

impl Route {
    fn next(&self) -> Next {
        match (&self.backend, self.hold) {
            (Some(backend), _) => Next::Go(Arc::clone(backend)),
            (None, Hold::Yes) => Next::Wait,
            (None, Hold::No | Hold::Over) => Next::End,
        }
    }

    /// Why clients are not served, or not all of them.
    fn fault(&self) -> Option<String> {
        let has_ended = self.listener.as_ref().is_some_and(JoinHandle::is_finished);
        let is_short = self.short.is_some_and(|at| at.elapsed() < SHORT);
        self.error.clone().or_else(|| match (has_ended, is_short) {
            (true, _) => Some("it has stopped taking connections".to_owned()),
            (false, true) => Some(SHORT_OF.to_owned()),
            (false, false) => None,
        })
    }

    /// The entry is not at its node any more; true if it was the last that had to go.
    fn is_last_gone(&mut self, was_leaving: bool) -> bool {
        self.leaving -= usize::from(was_leaving);
        was_leaving && self.leaving == 0
    }
}

impl Entry {
    /// Its task is to be ended; it counts as leaving until it is gone.
    fn doom(&mut self, leaving: &mut usize, tasks: &mut Vec<Option<AbortHandle>>) {
        self.doomed = true;
        *leaving += usize::from(!self.leaving);
        self.leaving = true;
        tasks.push(self.task.take());
    }
}

/// The right to go to a backend; the session counts until this is dropped, so it is dropped after
/// the session's sockets.
pub(super) struct Pass {
    pub(super) frontend: Arc<Frontend>,
    /// Told when the session is to leave its node.
    pub(super) order: Arc<Notify>,
    id: u64,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut route = self.frontend.route.lock();
        let was_leaving = route.sessions.remove(&self.id).is_some_and(|entry| entry.leaving);
        if route.is_last_gone(was_leaving) {
            self.frontend.left.notify_waiters();
        }
    }
}

impl Frontend {
    pub(super) fn new(listen: Endpoint) -> Self {
        Self {
            listen,
            counters: Counters::default(),
            route: Mutex::default(),
            left: Notify::new(),
            go: Notify::new(),
        }
    }

    /// Enters a connection; `None` if the frontend is closed.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Pass> {
        let mut route = self.route.lock();
        if let Next::End = route.next() {
            return None;
        }
        let id = route.next;
        route.next += 1;
        let order = Arc::new(Notify::new());
        let entry = Entry {
            at: None,
            task: None,
            order: Arc::clone(&order),
            leaving: false,
            doomed: false,
        };
        route.sessions.insert(id, entry);
        Some(Pass { frontend: Arc::clone(self), order, id })
    }

    /// Tells how to end a session that was entered. One that was doomed since is ended here.
    pub(super) fn started(&self, id: u64, task: AbortHandle) {
        let doomed = match self.route.lock().sessions.get_mut(&id) {
            // Ended already.
            None => return,
            Some(entry) if entry.doomed => true,
            Some(entry) => {
                entry.task = Some(task.clone());
                false
            }
        };
        if doomed {
            task.abort();
        }
    }

    /// Sends new connections where `way` says. A session that leads elsewhere is reset, or, with
    /// [`Way::Hold`], asked to leave its node and to wait; [`Self::drained`] tells when they are
    /// gone. True if it holds from now on.
    pub(super) fn switch(&self, way: &Way) -> bool {
        let (mut tasks, mut orders) = (Vec::new(), Vec::new());
        let begins;
        {
            let mut route = self.route.lock();
            let route = &mut *route;
            let backend = match way {
                Way::To(backend) => Some(backend),
                Way::Closed | Way::Hold => None,
            };
            if route.backend.as_deref() != backend {
                route.backend = backend.cloned().map(Arc::new);
                route.reach = Reach::Unknown;
                route.unbelieved = None;
                route.dials_from = None;
            }
            begins = *way == Way::Hold && route.hold == Hold::No;
            route.holds += u64::from(begins);
            route.hold = match (way, route.hold) {
                // Asked for again: it does not last longer for that.
                (Way::Hold, Hold::Over) => Hold::Over,
                (Way::Hold, _) => Hold::Yes,
                _ => Hold::No,
            };
            for entry in route.sessions.values_mut().filter(|entry| !entry.doomed) {
                let is_wrong = entry.at.as_deref().is_some_and(|at| Some(at) != backend);
                if is_wrong && route.hold == Hold::Yes {
                    if !entry.leaving {
                        entry.leaving = true;
                        route.leaving += 1;
                        orders.push(Arc::clone(&entry.order));
                    }
                } else if (is_wrong && !entry.leaving)
                    || (route.hold == Hold::No && backend.is_none())
                {
                    entry.doom(&mut route.leaving, &mut tasks);
                }
            }
        }
        for order in orders {
            order.notify_one();
        }
        self.end(tasks);
        self.go.notify_waiters();
        begins
    }

    /// How often it began to hold, to be given to [`Self::expire`].
    pub(super) fn holds(&self) -> u64 {
        self.route.lock().holds
    }

    /// Resets what is still held since the hold of that number.
    pub(super) fn expire(&self, number: u64) {
        let mut tasks = Vec::new();
        {
            let mut route = self.route.lock();
            let route = &mut *route;
            if route.hold != Hold::Yes || route.holds != number {
                return;
            }
            route.hold = Hold::Over;
            for entry in route.sessions.values_mut().filter(|entry| !entry.doomed) {
                entry.doom(&mut route.leaving, &mut tasks);
            }
        }
        tracing::warn!(frontend = %self.listen, cut = tasks.len(), "held for too long: what waited is reset");
        self.end(tasks);
    }

    /// Resets what was asked to leave its node and has not.
    pub(super) fn cut_leaving(&self) {
        let mut tasks = Vec::new();
        {
            let mut route = self.route.lock();
            let route = &mut *route;
            let late = |entry: &&mut Entry| entry.leaving && !entry.doomed;
            for entry in route.sessions.values_mut().filter(late) {
                entry.doom(&mut route.leaving, &mut tasks);
            }
        }
        if !tasks.is_empty() {
            tracing::warn!(frontend = %self.listen, cut = tasks.len(), "sessions were not given back in time: reset");
            self.end(tasks);
        }
    }

    /// Ends the tasks of sessions that are cut; one that is not started yet ends when it is. To be
    /// called without the lock: an aborted task may be dropped right here, and its pass takes the
    /// lock.
    fn end(&self, tasks: Vec<Option<AbortHandle>>) {
        self.counters.cut.fetch_add(tasks.len() as u64, Ordering::Relaxed);
        for task in tasks.into_iter().flatten() {
            task.abort();
        }
    }

    /// Resolves when no session that was to leave its node is left there.
    pub(super) async fn drained(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.route.lock().leaving == 0 {
                return;
            }
            left.await;
        }
    }

    /// Takes a running accept task.
    pub(super) fn opened(&self, listener: JoinHandle<()>) {
        let mut route = self.route.lock();
        route.listener = Some(listener);
        route.error = None;
    }

    /// A client was refused because there is no descriptor, no memory or no port for it here.
    pub(super) fn came_short(&self) {
        self.route.lock().short = Some(Instant::now());
    }

    /// Says why there is no listener; true if that is news.
    pub(super) fn failed(&self, error: String) -> bool {
        let mut route = self.route.lock();
        let error = Some(error);
        let is_news = route.error != error;
        route.error = error;
        is_news
    }

    /// Whether an accept task runs.
    pub(super) fn is_open(&self) -> bool {
        self.route.lock().listener.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Stops listening; the address is free when this resolves.
    pub(super) async fn unbind(&self) {
        let listener = self.route.lock().listener.take();
        if let Some(task) = listener {
            task.abort();
            // The only error is that it was aborted.
            let _ = task.await;
        }
    }

    /// Live sessions, doomed and waiting ones included.
    pub(super) fn session_count(&self) -> usize {
        self.route.lock().sessions.len()
    }

    /// Notes whether `backend` was reached, and from where, unless it is not the backend any more.
    /// A change for the worse is told in the log.
    pub(super) fn set_reach(&self, backend: &Arc<Backend>, reach: Reach, from: Option<IpAddr>) {
        let mut route = self.route.lock();
        if !route.backend.as_ref().is_some_and(|current| Arc::ptr_eq(current, backend)) {
            return;
        }
        route.dials_from = from.or(route.dials_from);
        if let (Reach::Down(why), Reach::Unknown | Reach::Up) = (&reach, &route.reach) {
            let Backend { node, host, port } = &**backend;
            tracing::warn!(frontend = %self.listen, node, host, port, why, "backend not reached");
        }
        route.reach = reach;
    }

    /// A client's connection was made. That the node answers on it is not known yet: where checks
    /// find that out, a connection says nothing.
    pub(super) fn connected(&self, backend: &Arc<Backend>, from: Option<IpAddr>, checked: bool) {
        let known = if checked { self.route.lock().reach.clone() } else { Reach::Up };
        self.set_reach(backend, known, from);
    }

    /// Notes why TLS with `backend` failed, or that a session came to it so, or none is to. It says
    /// nothing of whether the node is reached. A change for the worse is told in the log.
    pub(super) fn set_unbelieved(&self, backend: &Arc<Backend>, why: Option<String>) {
        let mut route = self.route.lock();
        if !route.backend.as_ref().is_some_and(|current| Arc::ptr_eq(current, backend)) {
            return;
        }
        if let (Some(why), None) = (&why, &route.unbelieved) {
            let Backend { node, host, port } = &**backend;
            tracing::warn!(frontend = %self.listen, node, host, port, why, "backend not believed");
        }
        route.unbelieved = why;
    }

    /// Where new connections go.
    pub(super) fn backend(&self) -> Option<Arc<Backend>> {
        self.route.lock().backend.clone()
    }

    /// Why clients are not served, or not all of them. Anybody may ask, and as often as they like.
    pub(super) fn fault(&self) -> Option<String> {
        self.route.lock().fault()
    }

    /// What is in force. It counts all sessions.
    pub(super) fn state(&self) -> FrontendState {
        let route = self.route.lock();
        let mut sessions: BTreeMap<&str, u64> = BTreeMap::new();
        let mut held = 0;
        for entry in route.sessions.values() {
            match &entry.at {
                Some(at) => *sessions.entry(&at.node).or_default() += 1,
                None => held += 1,
            }
        }
        let (backend_up, backend_error) = match &route.reach {
            Reach::Unknown => (None, None),
            Reach::Up => (Some(true), None),
            Reach::Down(why) => (Some(false), Some(why.clone())),
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FrontendState {
            listen: self.listen.clone(),
            backend: route.backend.as_deref().cloned(),
            sessions: sessions
                .into_iter()
                .map(|(node, count)| Sessions { node: node.to_owned(), count })
                .collect(),
            hold: route.hold != Hold::No,
            held,
            moved: count(&self.counters.moved),
            cut: count(&self.counters.cut),
            accepted: count(&self.counters.accepted),
            refused: count(&self.counters.refused),
            backend_up,
            backend_error: backend_error.or_else(|| route.unbelieved.clone()),
            dials_from: route.dials_from.map(|ip| ip.to_string()),
            error: route.fault(),
        }
    }
}

impl Pass {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The session is not at its node any more: the connection to it is closed.
    pub(super) fn left(&self) {
        let mut route = self.frontend.route.lock();
        let mut was_leaving = false;
        if let Some(entry) = route.sessions.get_mut(&self.id) {
            entry.at = None;
            // One that is doomed leaves when it ends.
            was_leaving = entry.leaving && !entry.doomed;
            entry.leaving &= entry.doomed;
        }
        if route.is_last_gone(was_leaving) {
            self.frontend.left.notify_waiters();
        }
    }

    /// Waits until there is a backend, and enters the session for it; `None` if there will be none.
    pub(super) async fn next(&self) -> Option<Arc<Backend>> {
        loop {
            let go = self.frontend.go.notified();
            tokio::pin!(go);
            go.as_mut().enable();
            {
                let mut route = self.frontend.route.lock();
                match route.next() {
                    Next::Go(backend) => {
                        let entry = route.sessions.get_mut(&self.id)?;
                        entry.at = Some(Arc::clone(&backend));
                        return Some(backend);
                    }
                    Next::End => return None,
                    Next::Wait => {}
                }
            }
            go.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frontend_that_takes_no_connections_any_more_says_so_and_is_opened_anew() {
        let frontend = Frontend::new(Endpoint { host: "127.0.0.1".to_owned(), port: 7000 });
        frontend.opened(tokio::spawn(std::future::pending()));
        assert!(frontend.is_open() && frontend.state().error.is_none());
        frontend.opened(tokio::spawn(async {}));
        let ended = async {
            while frontend.is_open() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.unwrap();
        let why = frontend.state().error;
        assert_eq!(why.as_deref(), Some("it has stopped taking connections"));
        // Closed on purpose, or before the first listener, it has no fault.
        frontend.unbind().await;
        assert_eq!(frontend.state().error, None);
    }

    /// A controller says several times a second what it wants: the log is not to have that, too.
    #[tokio::test]
    async fn why_there_is_no_listener_is_news_once() {
        let frontend = Frontend::new(Endpoint { host: "127.0.0.1".to_owned(), port: 7000 });
        let failed = |why: &str| frontend.failed(why.to_owned());
        assert!(failed("in use") && !failed("in use") && failed("no such address"));
        assert_eq!(frontend.state().error.as_deref(), Some("no such address"));
        frontend.opened(tokio::spawn(std::future::pending()));
        assert!(failed("no such address"));
    }

    #[tokio::test]
    async fn a_frontend_without_a_descriptor_for_clients_says_so_for_a_while() {
        let frontend = Frontend::new(Endpoint { host: "127.0.0.1".to_owned(), port: 7000 });
        frontend.opened(tokio::spawn(std::future::pending()));
        assert_eq!(frontend.state().error, None);
        frontend.came_short();
        let why = frontend.state().error.unwrap_or_default();
        assert!(why.contains("no descriptor"), "{why}");
        // It goes on, and is not opened anew.
        assert!(frontend.is_open());
        frontend.route.lock().short = Instant::now().checked_sub(SHORT);
        assert_eq!(frontend.state().error, None);
    }
}
