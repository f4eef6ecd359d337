//! Places: how many connections there may be of each kind, counted and taken in one step.
//!
//! Clients have `maxclients` places. Peers, that is nodes and controllers, have places of their
//! own, so that clients can fill theirs and cut nobody off from the node's control. A new
//! connection does not show whose it is until it says something: if no client's place is free, it
//! is a *visitor* for a moment. A visitor that authenticates as a peer, or asks what only nodes and
//! controllers ask, stays; any other is told that there is no place.
//!
//! Invariant: no more clients enter than there are places, and no more visitors wait than
//! [`Places::enter`] is told. The newest visitor replaces the oldest, so that a silent crowd does
//! not keep out a peer that speaks at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// For how long a visitor may be silent.
const VISIT: Duration = Duration::from_secs(1);

/// Peers that are known by what they ask and not by a secret, at most: without `peer-auth` anybody
/// may ask it.
pub const PEERS_BY_CONDUCT: usize = 64;

/// What is taken.
#[derive(Debug, Default)]
pub struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    clients: usize,
    peers: usize,
    /// Of the peers.
    by_conduct: usize,
    /// Oldest first.
    visits: BTreeMap<u64, Arc<Visit>>,
    visitors: u64,
}

/// The moment that a visitor has.
#[derive(Debug)]
pub struct Visit {
    began: Instant,
    is_over: AtomicBool,
    over: Notify,
}

impl Visit {
    /// Returns when the visitor must go.
    pub async fn over(&self) {
        let called = async {
            while !self.is_over.load(Ordering::SeqCst) {
                self.over.notified().await;
            }
        };
        // Called away or not, it is over.
        let _ = tokio::time::timeout_at(self.began + VISIT, called).await;
    }

    fn call_away(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.over.notify_one();
    }
}

#[derive(Debug)]
enum Kind {
    Client,
    Peer { is_by_conduct: bool },
    Visitor(u64, Arc<Visit>),
}

/// The right to be connected, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    kind: Kind,
}

impl Places {
    /// A client's place if one is free, else a visitor's.
    pub fn enter(self: &Arc<Self>, clients_max: usize, visitors_max: usize) -> Place {
        let mut taken = self.0.lock();
        let kind = if taken.clients < clients_max {
            taken.clients += 1;
            Kind::Client
        } else {
            let number = taken.visitors;
            taken.visitors += 1;
            if taken.visits.len() >= visitors_max
                && let Some((_, oldest)) = taken.visits.pop_first()
            {
                oldest.call_away();
            }
            let visit = Arc::new(Visit {
                began: Instant::now(),
                is_over: AtomicBool::new(false),
                over: Notify::new(),
            });
            taken.visits.insert(number, Arc::clone(&visit));
            Kind::Visitor(number, visit)
        };
        drop(taken);
        Place { places: Arc::clone(self), kind }
    }

    /// Clients and peers that are there.
    pub fn count(&self) -> (usize, usize) {
        let taken = self.0.lock();
        (taken.clients, taken.peers)
    }
}

impl Taken {
    fn leave(&mut self, kind: &Kind) {
        match kind {
            Kind::Client => self.clients -= 1,
            Kind::Peer { is_by_conduct } => {
                self.peers -= 1;
                self.by_conduct -= usize::from(*is_by_conduct);
            }
            Kind::Visitor(number, _) => {
                // Not there if it was called away.
                self.visits.remove(number);
            }
        }
    }
}

impl Place {
    /// The moment it has, if it is a visitor's.
    pub fn visit(&self) -> Option<Arc<Visit>> {
        match &self.kind {
            Kind::Visitor(_, visit) => Some(Arc::clone(visit)),
            _ => None,
        }
    }

    /// Makes a visitor a client; false if there is no place for one.
    pub fn become_client(&mut self, clients_max: usize) -> bool {
        let mut taken = self.places.0.lock();
        if let Kind::Visitor(..) = self.kind {
            if taken.clients >= clients_max {
                return false;
            }
            taken.leave(&self.kind);
            taken.clients += 1;
            self.kind = Kind::Client;
        }
        true
    }

    /// It proved that it is a peer.
    pub fn become_peer(&mut self) {
        let mut taken = self.places.0.lock();
        taken.leave(&self.kind);
        taken.peers += 1;
        self.kind = Kind::Peer { is_by_conduct: false };
    }

    /// It is no peer any more: it has a client's place if one is free, else a visitor's.
    pub fn leave_peers(&mut self, clients_max: usize, visitors_max: usize) {
        if let Kind::Peer { .. } = self.kind {
            let mut next = self.places.enter(clients_max, visitors_max);
            // The peer's place goes with what is dropped here.
            std::mem::swap(&mut self.kind, &mut next.kind);
        }
    }

    /// It asks what peers ask. False, and nothing changed, if there are many such already.
    pub fn show_peer(&mut self) -> bool {
        let mut taken = self.places.0.lock();
        if let Kind::Peer { .. } = self.kind {
            return true;
        }
        if taken.by_conduct >= PEERS_BY_CONDUCT {
            return false;
        }
        taken.leave(&self.kind);
        taken.peers += 1;
        taken.by_conduct += 1;
        self.kind = Kind::Peer { is_by_conduct: true };
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().leave(&self.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_clients_enter_than_there_are_places_however_many_come_at_once() {
        let places = Arc::<Places>::default();
        let entered: Vec<Place> = std::thread::scope(|scope| {
            let come = || (0..50).map(|_| places.enter(10, 1000)).collect::<Vec<_>>();
            let crowds: Vec<_> = (0..4).map(|_| scope.spawn(come)).collect();
            crowds.into_iter().flat_map(|crowd| crowd.join().unwrap()).collect()
        });
        let visitors = entered.iter().filter(|place| place.visit().is_some()).count();
        assert_eq!((places.count(), visitors), ((10, 0), 190));
        drop(entered);
        assert_eq!(places.count(), (0, 0));
        assert!(places.enter(10, 1000).visit().is_none());
    }

    #[test]
    fn a_peer_gives_its_clients_place_back_and_needs_none() {
        let places = Arc::<Places>::default();
        let mut peer = places.enter(1, 8);
        peer.become_peer();
        let client = places.enter(1, 8);
        assert!(client.visit().is_none());
        let mut late = places.enter(1, 8);
        assert!(late.visit().is_some());
        assert!(!late.become_client(1));
        late.become_peer();
        late.become_peer();
        assert_eq!(places.count(), (1, 2));
        drop((peer, late));
        assert_eq!(places.count(), (1, 0));
        let mut next = places.enter(1, 8);
        drop(client);
        assert!(next.become_client(1) && next.become_client(1));
        assert_eq!(places.count(), (1, 0));
    }

    #[test]
    fn a_peer_that_is_one_no_more_gives_its_place_back() {
        let places = Arc::<Places>::default();
        let (mut first, mut second) = (places.enter(1, 8), places.enter(1, 8));
        first.become_peer();
        assert!(second.show_peer());
        assert_eq!(places.count(), (0, 2));
        second.leave_peers(1, 8);
        assert_eq!((places.count(), second.visit().is_none()), ((1, 1), true));
        assert_eq!(places.0.lock().by_conduct, 0);
        first.leave_peers(1, 8);
        assert_eq!((places.count(), first.visit().is_some()), ((1, 0), true));
        // A client stays what it is.
        second.leave_peers(0, 8);
        assert_eq!((places.count(), second.visit().is_none()), ((1, 0), true));
        drop((first, second));
        assert_eq!(places.count(), (0, 0));
    }

    #[test]
    fn peers_without_a_secret_are_bounded() {
        let places = Arc::<Places>::default();
        let mut shown: Vec<Place> = (0..=PEERS_BY_CONDUCT).map(|_| places.enter(1, 999)).collect();
        let last = shown.pop().unwrap();
        assert!(shown.iter_mut().all(Place::show_peer) && shown.iter_mut().all(Place::show_peer));
        let mut last = last;
        assert!(!last.show_peer());
        last.become_peer();
        assert_eq!(places.count(), (0, PEERS_BY_CONDUCT + 1));
        shown.pop();
        assert!(places.enter(0, 999).show_peer());
    }

    #[tokio::test]
    async fn the_oldest_visitor_leaves_for_the_newest_and_each_after_a_moment() {
        let places = Arc::<Places>::default();
        let began = Instant::now();
        let oldest = places.enter(0, 2);
        let (second, third) = (places.enter(0, 2), places.enter(0, 2));
        let called = oldest.visit().unwrap();
        assert!(called.is_over.load(Ordering::SeqCst));
        called.over().await;
        drop(oldest);
        for late in [second, third] {
            let visit = late.visit().unwrap();
            assert!(!visit.is_over.load(Ordering::SeqCst));
            visit.over().await;
            assert!(began.elapsed() >= VISIT);
        }
        assert_eq!(places.0.lock().visits.len(), 0);
    }
}
