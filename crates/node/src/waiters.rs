//! Commands that wait for a key to get something: BLPOP and its kin.
//!
//! A command that found nothing is put here while its keys are still locked, so that no write comes
//! in between. The batch that gives a key something serves those that wait for it, in order of
//! arrival, before it lets go of the key (`session::serve`): nobody who comes later is first.
//!
//! Invariant: a waiting command is answered once. Whoever takes its [`Slot`] answers it, be it a
//! batch, the end of its time, or CLIENT UNBLOCK; the connection may withdraw it until then.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use resp::{Protocol, Writer};
use storage::Name;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a waiting command is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Its reply, as RESP.
    Answer(Vec<u8>),
    /// It begins anew: its keys are another node's now, and the gates say which one's.
    Again,
}

/// The right to answer.
pub type Slot = Option<oneshot::Sender<Told>>;

/// A command that waits.
#[derive(Debug)]
pub struct Waiter {
    wish: Wish,
    slot: Mutex<Slot>,
}

impl Deref for Waiter {
    type Target = Wish;

    fn deref(&self) -> &Wish {
        &self.wish
    }
}

impl Waiter {
    /// The right to answer, for as long as the guard is held: its time does not end meanwhile.
    pub fn slot(&self) -> parking_lot::MutexGuard<'_, Slot> {
        self.slot.lock()
    }
}

#[derive(Debug, Default)]
struct Queues {
    /// In order of arrival, by the id of the key's name.
    by_key: HashMap<Vec<u8>, VecDeque<Arc<Waiter>>>,
    by_client: HashMap<u64, Arc<Waiter>>,
}

/// All waiting commands of a node.
#[derive(Debug, Default)]
pub struct Waiters {
    count: AtomicUsize,
    queues: Mutex<Queues>,
}

/// What a command waits for, and what is needed to run it then.
#[derive(Debug)]
pub struct Wish {
    /// Of the connection.
    pub client: u64,
    /// The command, name included, as it is tried again.
    pub words: Vec<Vec<u8>>,
    /// These are other words than the client sent.
    pub is_other: bool,
    /// Keys it waits for; not always all that it names.
    pub keys: Vec<Vec<u8>>,
    /// It is tried again also when a key is gone.
    pub minds_end: bool,
    /// Version of RESP of its reply.
    pub protocol: Protocol,
    /// Whose keys it sees.
    pub namespace: Arc<[u8]>,
    /// Its reply when its time is over, as RESP.
    pub nil: Vec<u8>,
    /// How long; `None` for ever.
    pub patience: Option<Duration>,
}

impl Wish {
    /// The keys by the ids of their names.
    fn ids(&self) -> impl Iterator<Item = Vec<u8>> {
        self.keys.iter().map(|key| Name { namespace: &self.namespace, key }.id().to_vec())
    }
}

impl Waiters {
    /// Whether any command waits. One that begins to while its keys are locked by somebody else is
    /// seen by them afterwards: it begins under these locks.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Begins to wait; the caller holds the locks of the keys, or looks at them again afterwards.
    pub fn add(self: &Arc<Self>, wish: Wish) -> Waiting {
        let (sender, told) = oneshot::channel();
        let waiter = Arc::new(Waiter { wish, slot: Mutex::new(Some(sender)) });
        let mut queues = self.queues.lock();
        for id in waiter.ids() {
            let queue = queues.by_key.entry(id).or_default();
            // A key may be named twice.
            if !queue.back().is_some_and(|last| Arc::ptr_eq(last, &waiter)) {
                queue.push_back(Arc::clone(&waiter));
            }
        }
        queues.by_client.insert(waiter.client, Arc::clone(&waiter));
        self.count.fetch_add(1, Ordering::SeqCst);
        drop(queues);
        let until = waiter.patience.and_then(|patience| Instant::now().checked_add(patience));
        Waiting { all: Arc::clone(self), waiter, told, until }
    }

    /// Whether a command waits for this key.
    pub fn is_awaited(&self, key: &Name<'_>) -> bool {
        self.any() && self.queues.lock().by_key.contains_key(&*key.id())
    }

    /// The commands that wait for the key with this id, in order of arrival.
    pub fn of(&self, id: &[u8]) -> Vec<Arc<Waiter>> {
        let queues = self.queues.lock();
        queues.by_key.get(id).into_iter().flatten().cloned().collect()
    }

    /// Ids of keys, of one namespace or of all, whose end some command minds.
    pub fn minding_ends(&self, namespace: Option<&[u8]>) -> Vec<Vec<u8>> {
        let minding = self.all().into_iter().filter(|waiter| {
            waiter.minds_end && namespace.is_none_or(|wanted| *waiter.namespace == *wanted)
        });
        minding.flat_map(|waiter| waiter.ids().collect::<Vec<_>>()).collect()
    }

    /// One that was answered waits no more.
    pub fn remove(&self, waiter: &Arc<Waiter>) {
        let mut queues = self.queues.lock();
        let is_it = |other: &Arc<Waiter>| Arc::ptr_eq(other, waiter);
        if queues.by_client.get(&waiter.client).is_none_or(|other| !is_it(other)) {
            return;
        }
        queues.by_client.remove(&waiter.client);
        for id in waiter.ids() {
            let Some(queue) = queues.by_key.get_mut(&id) else { continue };
            queue.retain(|other| !is_it(other));
            if queue.is_empty() {
                queues.by_key.remove(&id);
            }
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Tells one of them; false if it was told something before.
    pub fn tell(&self, waiter: &Arc<Waiter>, told: Told) -> bool {
        let Some(sender) = waiter.slot().take() else { return false };
        self.remove(waiter);
        // The connection may have ended meanwhile, like one that ends before its reply arrives.
        let _ = sender.send(told);
        true
    }

    /// CLIENT UNBLOCK: with an error, or as if its time were over. False if this client's command
    /// does not wait.
    pub fn unblock(&self, client: u64, error: Option<&str>) -> bool {
        let waiter = self.queues.lock().by_client.get(&client).cloned();
        let Some(waiter) = waiter else { return false };
        let answer = match error {
            None => waiter.nil.clone(),
            Some(text) => format!("-{text}\r\n").into_bytes(),
        };
        self.tell(&waiter, Told::Answer(answer))
    }

    /// Ends all waits with an error.
    pub fn unblock_all(&self, text: &str) {
        for waiter in self.all() {
            self.tell(&waiter, Told::Answer(format!("-{text}\r\n").into_bytes()));
        }
    }

    /// All begin anew.
    pub fn begin_anew(&self) {
        for waiter in self.all() {
            self.tell(&waiter, Told::Again);
        }
    }

    /// Those begin anew that wait for a key which is not this node's.
    pub fn begin_anew_where(&self, is_gone: impl Fn(&[u8]) -> bool) {
        for waiter in self.all() {
            if waiter.keys.iter().any(|key| is_gone(key)) {
                self.tell(&waiter, Told::Again);
            }
        }
    }

    fn all(&self) -> Vec<Arc<Waiter>> {
        if !self.any() {
            return Vec::new();
        }
        self.queues.lock().by_client.values().cloned().collect()
    }
}

/// A command that waits, for its connection. It ends when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    all: Arc<Waiters>,
    waiter: Arc<Waiter>,
    told: oneshot::Receiver<Told>,
    until: Option<Instant>,
}

impl Waiting {
    /// What it is told, at the latest when its time is over.
    pub async fn told(&mut self) -> Told {
        let end = async {
            match self.until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            told = &mut self.told => return self.or_nil(told.ok()),
            () = end => {}
        }
        if self.withdraw() {
            return self.or_nil(None);
        }
        // It is being answered at this very moment.
        let told = (&mut self.told).await;
        self.or_nil(told.ok())
    }

    fn or_nil(&self, told: Option<Told>) -> Told {
        told.unwrap_or_else(|| Told::Answer(self.waiter.nil.clone()))
    }

    /// The command it is if it begins anew, where that is not what the client sent; as RESP.
    pub fn again(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, Protocol::V2).bulks(&self.waiter.words);
        self.waiter.is_other.then_some(bytes)
    }

    /// Ends the wait without an answer; false if there is one already.
    pub fn withdraw(&self) -> bool {
        let is_ours = self.waiter.slot().take().is_some();
        self.all.remove(&self.waiter);
        is_ours
    }

    /// What it was told, if anything yet.
    #[cfg(test)]
    pub fn now(&mut self) -> Option<Told> {
        self.told.try_recv().ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(client: u64, keys: &[&str], patience: Option<Duration>) -> Wish {
        Wish {
            client,
            words: vec![b"blpop".to_vec()],
            is_other: false,
            minds_end: false,
            keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            protocol: Protocol::V2,
            namespace: Arc::from(&b"n"[..]),
            nil: b"*-1\r\n".to_vec(),
            patience,
        }
    }

    fn name(key: &str) -> Name<'_> {
        Name { namespace: b"n", key: key.as_bytes() }
    }

    fn clients(waiters: &Waiters, key: &str) -> Vec<u64> {
        waiters.of(&name(key).id()).iter().map(|waiter| waiter.client).collect()
    }

    #[test]
    fn they_stand_in_order_of_arrival_until_they_are_told_or_dropped() {
        let waiters = Arc::new(Waiters::default());
        let mut first = waiters.add(wish(1, &["a", "b", "a"], None));
        let second = waiters.add(wish(2, &["b"], None));
        let mut third = waiters.add(wish(3, &["b"], None));
        assert_eq!(clients(&waiters, "b"), [1, 2, 3]);
        drop(second);
        assert_eq!(clients(&waiters, "b"), [1, 3]);
        assert!(waiters.unblock(1, None) && !waiters.unblock(1, None));
        assert_eq!(first.now(), Some(Told::Answer(b"*-1\r\n".to_vec())));
        assert!(!first.withdraw() && !waiters.is_awaited(&name("a")));
        waiters.begin_anew_where(|key| key == b"a");
        assert_eq!(third.now(), None);
        waiters.unblock_all("UNBLOCKED x");
        assert_eq!(third.now(), Some(Told::Answer(b"-UNBLOCKED x\r\n".to_vec())));
        assert!(!waiters.any() && !waiters.is_awaited(&name("b")));
    }

    #[tokio::test]
    async fn time_ends_a_wait_that_nobody_answered() {
        let waiters = Arc::new(Waiters::default());
        let mut waiting = waiters.add(wish(1, &["a"], Some(Duration::from_millis(1))));
        assert_eq!(waiting.told().await, Told::Answer(b"*-1\r\n".to_vec()));
        assert!(!waiters.any());
        // Whoever holds the slot answers, also after the time.
        let mut late = waiters.add(wish(2, &["a"], Some(Duration::from_millis(1))));
        let waiter = waiters.of(&name("a").id()).remove(0);
        assert!(waiters.tell(&waiter, Told::Again));
        assert_eq!(late.told().await, Told::Again);
    }
}
