//! One announced endpoint: its route, its listener and its sessions.
//!
//! Invariant: a connection is entered in `sessions` under the same lock that reads the backend. Whoever changes the backend under that lock therefore sees every
//! connection that goes to the old one, also those that are still being set up, and later ones go to the new.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use api::balancer::{Backend, FrontendState, Sessions};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use topology::Endpoint;

/// Totals since the frontend was opened first.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) cut: AtomicU64,
    /// Bytes from clients.
    pub(super) inbound: AtomicU64,
    /// Bytes from backends.
    pub(super) outbound: AtomicU64,
}

/// Result of the last attempt to reach the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reach {
    Unknown,
    Up,
    Down,
}

/// See the module.
pub(super) struct Frontend {
    pub(super) listen: Endpoint,
    pub(super) counters: Counters,
    route: Mutex<Route>,
    reach: AtomicU8,
    /// Signalled when the last session that was to be cut is gone.
    left: Notify,
}

#[derive(Default)]
struct Route {
    backend: Option<Arc<Backend>>,
    error: Option<String>,
    listener: Option<JoinHandle<()>>,
    sessions: HashMap<u64, Entry>,
    /// Entries that are doomed.
    doomed: usize,
    next: u64,
}

struct Entry {
    backend: Arc<Backend>,
    /// `None` between entering and the start of its task.
    task: Option<AbortHandle>,
    doomed: bool,
}

/// The right to go to a backend; the session counts until this is dropped, so it is dropped after the session's sockets.
pub(super) struct Pass {
    pub(super) frontend: Arc<Frontend>,
    pub(super) backend: Arc<Backend>,
    id: u64,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut route = self.frontend.route.lock();
        if route.sessions.remove(&self.id).is_some_and(|entry| entry.doomed) {
            route.doomed -= 1;
            if route.doomed == 0 {
                self.frontend.left.notify_waiters();
            }
        }
    }
}

impl Frontend {
    pub(super) fn new(listen: Endpoint) -> Self {
        Self {
            listen,
            counters: Counters::default(),
            route: Mutex::default(),
            reach: AtomicU8::new(Reach::Unknown as u8),
            left: Notify::new(),
        }
    }

    /// Enters a connection; `None` if the frontend is closed.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Pass> {
        let mut route = self.route.lock();
        let backend = Arc::clone(route.backend.as_ref()?);
        let id = route.next;
        route.next += 1;
        let entry = Entry { backend: Arc::clone(&backend), task: None, doomed: false };
        route.sessions.insert(id, entry);
        Some(Pass { frontend: Arc::clone(self), backend, id })
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

    /// Sends new connections to `backend` and resets every session that leads elsewhere. [`Self::drained`] tells when they are gone.
    pub(super) fn switch(&self, backend: Option<&Backend>) {
        let mut tasks = Vec::new();
        {
            let mut route = self.route.lock();
            let route = &mut *route;
            if route.backend.as_deref() != backend {
                route.backend = backend.cloned().map(Arc::new);
                self.reach.store(Reach::Unknown as u8, Ordering::Relaxed);
            }
            for entry in route.sessions.values_mut() {
                if Some(&*entry.backend) != backend && !entry.doomed {
                    entry.doomed = true;
                    route.doomed += 1;
                    tasks.extend(entry.task.take());
                    self.counters.cut.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        // Outside the lock: an aborted task may be dropped right here, and its pass takes the lock.
        for task in tasks {
            task.abort();
        }
    }

    /// Resolves when no session that was to be cut is left.
    pub(super) async fn drained(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.route.lock().doomed == 0 {
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

    /// Says why there is no listener.
    pub(super) fn failed(&self, error: String) {
        self.route.lock().error = Some(error);
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

    /// Live sessions, doomed ones included.
    pub(super) fn session_count(&self) -> usize {
        self.route.lock().sessions.len()
    }

    /// Notes whether `backend` was reached, unless it is not the backend any more.
    pub(super) fn set_reach(&self, backend: &Arc<Backend>, reach: Reach) {
        let route = self.route.lock();
        if route.backend.as_ref().is_some_and(|current| Arc::ptr_eq(current, backend)) {
            self.reach.store(reach as u8, Ordering::Relaxed);
        }
    }

    /// Where new connections go.
    pub(super) fn backend(&self) -> Option<Arc<Backend>> {
        self.route.lock().backend.clone()
    }

    /// What is in force.
    pub(super) fn state(&self) -> FrontendState {
        let route = self.route.lock();
        let mut sessions: BTreeMap<&str, u64> = BTreeMap::new();
        for entry in route.sessions.values() {
            *sessions.entry(&entry.backend.node).or_default() += 1;
        }
        let reach = self.reach.load(Ordering::Relaxed);
        FrontendState {
            listen: self.listen.clone(),
            backend: route.backend.as_deref().cloned(),
            sessions: sessions
                .into_iter()
                .map(|(node, count)| Sessions { node: node.to_owned(), count })
                .collect(),
            accepted: self.counters.accepted.load(Ordering::Relaxed),
            refused: self.counters.refused.load(Ordering::Relaxed),
            backend_up: (reach != Reach::Unknown as u8).then_some(reach == Reach::Up as u8),
            error: route.error.clone(),
        }
    }
}

impl Pass {
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}
