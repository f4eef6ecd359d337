//! Commands that wait for a key to get something: BLPOP and its kin.
//!
//! A command that found nothing is put here while its keys are still locked, so that no write comes
//! in between. The batch that gives a key something serves those that wait for it, in order of
//! arrival, before it lets go of the key (`session::serve`): nobody who comes later is first.
//!
//! Invariant: a waiting command is answered once. A batch, the end of its time and CLIENT UNBLOCK
//! may all try: the first to take its [`Slot`] answers. The connection may withdraw it until then.
//! What a batch answers may leave without the connection ([`line`]).
//!
//! What waits for something else (WAIT) is known here for CLIENT UNBLOCK alone ([`Apart`]).

mod line;

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, Range};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use resp::Protocol;
use storage::Name;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::acl::Account;
use crate::memory::held::name_bytes;
use line::Line;
pub use line::{Told, Wire};

/// The right to answer.
pub type Slot = Option<oneshot::Sender<Told>>;

/// A command that waits.
#[derive(Debug)]
pub struct Waiter {
    wish: Wish,
    standing: Standing,
    slot: Mutex<Slot>,
    line: Line,
}

impl Deref for Waiter {
    type Target = Wish;

    fn deref(&self) -> &Wish {
        &self.wish
    }
}

impl Waiter {
    /// Its place among those that wait: who came earlier has a smaller one.
    pub fn place(&self) -> u64 {
        self.standing.place
    }

    /// The right to answer, for as long as the guard is held: its time does not end meanwhile.
    pub fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock()
    }
}

/// An answer that was made, and has not left. If it is dropped, the connection sends it.
#[derive(Debug)]
pub struct Answer {
    waiter: Arc<Waiter>,
    made: Option<(oneshot::Sender<Told>, Vec<u8>)>,
}

impl Answer {
    /// Sends it, where the connection has lent its line; else the connection does.
    pub fn send(mut self) {
        if let Some((bell, bytes)) = self.made.take() {
            self.waiter.line.send(bell, bytes);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some((bell, bytes)) = self.made.take() {
            // The connection may have ended meanwhile, like one that ends before its reply arrives.
            let _ = bell.send(Told::Answer(bytes));
        }
    }
}

/// Where a command stands among those that wait, and until when. It keeps that when it begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    place: u64,
    until: Option<Instant>,
}

/// What a queue takes in the table, with the name of its key and the first one that waits, bytes.
const QUEUE_BYTES: usize = 400;

/// Those that wait for one key.
#[derive(Debug, Default)]
struct Queue {
    /// By their places, that is in order of arrival.
    waiting: BTreeMap<u64, Arc<Waiter>>,
    /// How many of them mind its end.
    minding: usize,
}

#[derive(Debug, Default)]
struct Queues {
    /// By the id of the key's name.
    by_key: HashMap<Vec<u8>, Queue>,
    by_client: HashMap<u64, Arc<Waiter>>,
    /// The next place.
    next: u64,
}

/// All waiting commands of a node.
#[derive(Debug, Default)]
pub struct Waiters {
    count: AtomicUsize,
    queues: Mutex<Queues>,
    /// By their clients, those that wait for something else than a key.
    apart: Mutex<HashMap<u64, oneshot::Sender<Ending>>>,
}

/// How CLIENT UNBLOCK ends a command that waits: with an error, or as if its time were over.
pub type Ending = Result<(), String>;

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
    /// Whose it is: what that user may do is asked again when it is served. `None`: nobody asks.
    pub user: Option<Arc<Account>>,
    /// Version of RESP of its reply.
    pub protocol: Protocol,
    /// Whose keys it sees.
    pub namespace: Arc<[u8]>,
    /// Its reply when its time is over, as RESP.
    pub nil: Vec<u8>,
    /// How long; `None` for ever.
    pub patience: Option<Duration>,
    /// What it has from before, if it begins anew.
    pub standing: Option<Standing>,
}

impl Wish {
    /// The keys by the ids of their names.
    fn ids(&self) -> impl Iterator<Item = Vec<u8>> {
        self.keys.iter().map(|key| Name { namespace: &self.namespace, key }.id().to_vec())
    }
}

impl Standing {
    /// For how long it still waits; `None`: for ever.
    pub fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

impl Waiters {
    /// Whether any command waits. One that begins to while its keys are locked by somebody else is
    /// seen by them afterwards: it begins under these locks.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Keys that commands wait for, and how many of these some command minds the end of.
    pub fn keys(&self) -> (usize, usize) {
        let queues = self.queues.lock();
        let minding = queues.by_key.values().filter(|queue| queue.minding > 0).count();
        (queues.by_key.len(), minding)
    }

    /// Begins to wait; the caller holds the locks of the keys, or looks at them again afterwards.
    pub fn add(self: &Arc<Self>, wish: Wish) -> Waiting {
        let (sender, told) = oneshot::channel();
        let until = || wish.patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut queues = self.queues.lock();
        let standing = match wish.standing {
            Some(standing) => standing,
            None => Standing { place: queues.next, until: until() },
        };
        queues.next = queues.next.max(standing.place.saturating_add(1));
        let (slot, line) = (Mutex::new(Some(sender)), Line::default());
        let waiter = Arc::new(Waiter { wish, standing, slot, line });
        for id in waiter.ids() {
            let queue = queues.by_key.entry(id).or_default();
            // A key may be named twice.
            let is_new = queue.waiting.insert(standing.place, Arc::clone(&waiter)).is_none();
            queue.minding += usize::from(is_new && waiter.minds_end);
        }
        queues.by_client.insert(waiter.client, Arc::clone(&waiter));
        self.count.fetch_add(1, Ordering::SeqCst);
        drop(queues);
        Waiting { all: Arc::clone(self), waiter, told }
    }

    /// Whether a command waits for this key.
    pub fn is_awaited(&self, key: &Name<'_>) -> bool {
        self.any() && self.queues.lock().by_key.contains_key(&*key.id())
    }

    /// The places of those that wait by now.
    pub fn places(&self) -> Range<u64> {
        0..self.queues.lock().next
    }

    /// The first of these places that waits for the key with this id, and the places behind it. If
    /// the key is gone and no waiter minds its end, there is none: a client that pushes one element
    /// for a thousand waiters does not pass by all of them.
    pub fn next(
        &self,
        id: &[u8],
        places: Range<u64>,
        is_gone: bool,
    ) -> Option<(Arc<Waiter>, Range<u64>)> {
        let queues = self.queues.lock();
        let queue = queues.by_key.get(id).filter(|queue| !is_gone || queue.minding > 0)?;
        if places.is_empty() {
            return None;
        }
        let (place, waiter) = queue.waiting.range(places.clone()).next()?;
        Some((Arc::clone(waiter), place.saturating_add(1)..places.end))
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
            let was_there = queue.waiting.remove(&waiter.standing.place).is_some();
            queue.minding -= usize::from(was_there && waiter.minds_end);
            if queue.waiting.is_empty() {
                queues.by_key.remove(&id);
            }
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Answers one of them, whose slot the caller holds; `None` if it was told something before.
    pub fn answer(
        &self,
        waiter: &Arc<Waiter>,
        mut slot: MutexGuard<'_, Slot>,
        bytes: Vec<u8>,
    ) -> Option<Answer> {
        let bell = slot.take();
        drop(slot);
        self.remove(waiter);
        Some(Answer { waiter: Arc::clone(waiter), made: Some((bell?, bytes)) })
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
        let Some(waiter) = waiter else {
            let apart = self.apart.lock().remove(&client);
            let ending = error.map_or(Ok(()), |text| Err(text.to_owned()));
            return apart.is_some_and(|sender| sender.send(ending).is_ok());
        };
        let answer = match error {
            None => waiter.nil.clone(),
            Some(text) => format!("-{text}\r\n").into_bytes(),
        };
        self.tell(&waiter, Told::Answer(answer))
    }

    /// A client's command waits for something else than a key, for as long as what is returned is
    /// kept.
    pub fn wait_apart(self: &Arc<Self>, client: u64) -> Apart {
        let (sender, ended) = oneshot::channel();
        self.apart.lock().insert(client, sender);
        Apart { all: Arc::clone(self), client, ended: Some(ended) }
    }

    /// Ends all waits with an error. Returns how many there were.
    pub fn unblock_all(&self, text: &str) -> usize {
        let answer = || Told::Answer(format!("-{text}\r\n").into_bytes());
        self.all().iter().filter(|waiter| self.tell(waiter, answer())).count()
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
}

impl Waiting {
    /// What it keeps if it begins anew.
    pub fn standing(&self) -> Standing {
        self.waiter.standing
    }

    /// What it is told, at the latest when its time is over.
    pub async fn told(&mut self) -> Told {
        let end = async {
            match self.waiter.standing.until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            told = heard(&self.waiter, &mut self.told) => return self.or_nil(told),
            () = end => {}
        }
        if self.withdraw() {
            return self.or_nil(None);
        }
        // It is being answered at this very moment.
        let told = heard(&self.waiter, &mut self.told).await;
        self.or_nil(told)
    }

    /// Bytes that it has the node keep: its words, and its keys here and in the table of queues.
    pub fn bytes(&self) -> usize {
        let words = self.waiter.words.iter().map(|word| name_bytes(word));
        let keys = self.waiter.keys.iter().map(|key| name_bytes(key) + QUEUE_BYTES + key.len());
        words.chain(keys).sum()
    }

    /// Lets who answers send the answer as well.
    pub fn lend(&self, wire: Wire) -> Lent {
        self.waiter.line.lend(wire);
        Lent(Arc::clone(&self.waiter))
    }

    fn or_nil(&self, told: Option<Told>) -> Told {
        told.unwrap_or_else(|| Told::Answer(self.waiter.nil.clone()))
    }

    /// The words it begins anew with, and whether these are others than its client sent.
    pub fn again(&self) -> (&[Vec<u8>], bool) {
        (&self.waiter.words, self.waiter.is_other)
    }

    /// Ends the wait without an answer; false if there is one already, of which the connection
    /// hears then.
    pub fn withdraw(&self) -> bool {
        let is_ours = self.waiter.slot().take().is_some();
        self.waiter.line.take_back();
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

/// The line of a connection, while it is lent.
#[derive(Debug)]
pub struct Lent(Arc<Waiter>);

impl Lent {
    /// Whether the connection may send: the line is its own again. False if an answer has left, or
    /// a part of one, of which it hears at once.
    pub fn take_back(&self) -> bool {
        self.0.line.take_back()
    }
}

/// What a waiting command is told; `None` if nobody will tell it anything.
async fn heard(waiter: &Waiter, told: &mut oneshot::Receiver<Told>) -> Option<Told> {
    let told = std::future::poll_fn(|cx| match waiter.line.left() {
        Some(left) => Poll::Ready(Some(left)),
        None => Pin::new(&mut *told).poll(cx).map(Result::ok),
    });
    told.await
}

/// A command that waits for something else than a key.
#[derive(Debug)]
pub struct Apart {
    all: Arc<Waiters>,
    client: u64,
    /// Nothing once nobody can say anything any more.
    ended: Option<oneshot::Receiver<Ending>>,
}

impl Apart {
    /// What CLIENT UNBLOCK says, if it is ever sent.
    pub async fn unblocked(&mut self) -> Ending {
        if let Some(ended) = &mut self.ended {
            if let Ok(ending) = ended.await {
                return ending;
            }
            self.ended = None;
        }
        std::future::pending().await
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.ended = None;
        let mut apart = self.all.apart.lock();
        // The client's next command may wait already.
        if apart.get(&self.client).is_some_and(oneshot::Sender::is_closed) {
            apart.remove(&self.client);
        }
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
            user: None,
            protocol: Protocol::V2,
            namespace: Arc::from(&b"n"[..]),
            nil: b"*-1\r\n".to_vec(),
            patience,
            standing: None,
        }
    }

    fn name(key: &str) -> Name<'_> {
        Name { namespace: b"n", key: key.as_bytes() }
    }

    fn of(waiters: &Waiters, key: &str) -> Vec<Arc<Waiter>> {
        let (mut all, mut places) = (Vec::new(), waiters.places());
        while let Some((waiter, behind)) = waiters.next(&name(key).id(), places, false) {
            places = behind;
            all.push(waiter);
        }
        all
    }

    fn clients(waiters: &Waiters, key: &str) -> Vec<u64> {
        of(waiters, key).iter().map(|waiter| waiter.client).collect()
    }

    #[tokio::test]
    async fn one_that_begins_anew_keeps_its_place_and_its_time() {
        let waiters = Arc::new(Waiters::default());
        let first = waiters.add(wish(1, &["a"], Some(Duration::from_millis(20))));
        let _second = waiters.add(wish(2, &["a"], None));
        let standing = first.standing();
        waiters.begin_anew_where(|_| true);
        drop(first);
        let again = wish(1, &["a", "b"], Some(Duration::from_secs(3600)));
        let _third = waiters.add(wish(3, &["a"], None));
        let mut again = waiters.add(Wish { standing: Some(standing), ..again });
        assert_eq!(clients(&waiters, "a"), [1, 3]);
        assert_eq!(again.told().await, Told::Answer(b"*-1\r\n".to_vec()));
        assert_eq!(clients(&waiters, "a"), [3]);
    }

    /// Seconds, were it quadratic.
    #[test]
    fn many_may_wait_for_one_key() {
        let waiters = Arc::new(Waiters::default());
        let all: Vec<Waiting> =
            (0..50_000).map(|client| waiters.add(wish(client, &["a"], None))).collect();
        for _ in 0..50_000 {
            assert!(
                waiters.next(&name("a").id(), waiters.places(), true).is_none(),
                "nobody minds its end"
            );
            let (first, behind) = waiters.next(&name("a").id(), waiters.places(), false).unwrap();
            assert_eq!((first.client, behind), (0, 1..50_000));
        }
        let minding = Wish { minds_end: true, ..wish(50_000, &["a"], None) };
        let minding = waiters.add(minding);
        assert!(waiters.next(&name("a").id(), waiters.places(), true).is_some());
        drop(minding);
        assert!(waiters.next(&name("a").id(), waiters.places(), true).is_none());
        assert_eq!(waiters.unblock_all("UNBLOCKED x"), 50_000);
        assert!(!waiters.any());
        drop(all);
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
        assert_eq!(waiters.unblock_all("UNBLOCKED x"), 1);
        assert_eq!(third.now(), Some(Told::Answer(b"-UNBLOCKED x\r\n".to_vec())));
        assert!(!waiters.any() && !waiters.is_awaited(&name("b")));
    }

    #[tokio::test]
    async fn time_ends_a_wait_that_nobody_answered() {
        let waiters = Arc::new(Waiters::default());
        let mut waiting = waiters.add(wish(1, &["a"], Some(Duration::from_millis(1))));
        assert_eq!(waiting.told().await, Told::Answer(b"*-1\r\n".to_vec()));
        assert!(!waiters.any());
        // The holder of the slot answers, even after the time is over.
        let mut late = waiters.add(wish(2, &["a"], Some(Duration::from_millis(1))));
        let waiter = of(&waiters, "a").remove(0);
        assert!(waiters.tell(&waiter, Told::Again));
        assert_eq!(late.told().await, Told::Again);
    }

    #[tokio::test]
    async fn nothing_leaves_by_a_line_that_was_taken_back() {
        let waiters = Arc::new(Waiters::default());
        let left = Arc::<Mutex<Vec<u8>>>::default();
        let lend = |waiting: &Waiting| {
            let to = Arc::clone(&left);
            waiting.lend(Box::new(move |bytes| {
                to.lock().extend_from_slice(bytes);
                bytes.len()
            }))
        };
        let answer = |bytes: &[u8]| {
            let waiter = of(&waiters, "a").remove(0);
            waiters.answer(&waiter, waiter.slot(), bytes.to_vec()).unwrap()
        };
        let ended = waiters.add(wish(1, &["a"], None));
        lend(&ended);
        let made = answer(b"1");
        drop(ended);
        made.send();
        // Its time is over while it is answered.
        let mut late = waiters.add(wish(2, &["a"], Some(Duration::from_millis(1))));
        lend(&late);
        let made = answer(b"2");
        let answering = async {
            while Arc::strong_count(&left) > 1 {
                tokio::task::yield_now().await;
            }
            made.send();
        };
        let (told, ()) = tokio::join!(late.told(), answering);
        assert_eq!(told, Told::Answer(b"2".to_vec()));
        let mut busy = waiters.add(wish(3, &["a"], None));
        assert!(lend(&busy).take_back());
        drop(answer(b"3"));
        assert_eq!(busy.told().await, Told::Answer(b"3".to_vec()));
        assert!(left.lock().is_empty());
        let mut idle = waiters.add(wish(4, &["a"], Some(Duration::from_millis(1))));
        let lent = lend(&idle);
        answer(b"4").send();
        assert!(!lent.take_back() && !idle.withdraw());
        assert_eq!(idle.told().await, Told::Left { sent: 1, rest: Vec::new() });
        assert_eq!(*left.lock(), b"4");
    }

    #[tokio::test]
    async fn what_waits_for_no_key_is_unblocked_once_and_forgotten_at_its_end() {
        let waiters = Arc::new(Waiters::default());
        let mut first = waiters.wait_apart(7);
        assert!(!waiters.any() && !waiters.unblock(8, None));
        assert!(waiters.unblock(7, Some("UNBLOCKED x")));
        assert!(!waiters.unblock(7, None), "it was told");
        assert_eq!(first.unblocked().await, Err("UNBLOCKED x".to_owned()));
        let mut second = waiters.wait_apart(7);
        drop(first);
        assert!(waiters.unblock(7, None));
        assert_eq!(second.unblocked().await, Ok(()));
        drop((second, waiters.wait_apart(7)));
        assert!(!waiters.unblock(7, None));
    }
}
