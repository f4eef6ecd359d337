//! Addresses of host names, had without waiting for a resolver for as long as it takes.
//!
//! Each name is looked up once at a time, all of them side by side. An answer is waited for
//! [`LIMIT`] from when it was asked for; one that comes later counts for the next who asks. The
//! newest good answer is kept, so a resolver that fails or hangs takes no address away.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

/// How long an answer is waited for.
const LIMIT: Duration = Duration::from_millis(250);
/// For how long an answer, good or not, is not asked for again.
const FRESH: Duration = Duration::from_secs(1);
/// A name that nobody has asked for in so long is forgotten.
const FORGET: Duration = Duration::from_secs(600);
/// For how long an address that was told in turn with others stays the name's.
const TURN: Duration = Duration::from_secs(60);
/// Addresses that come back within that time make a name one whose addresses are told in turn; a
/// node that goes and comes back brings one.
const RETURNS: usize = 2;
/// Addresses of one name that are remembered.
const SAID_MAX: usize = 64;
/// Lookups at a time: each may keep a thread for as long as the resolver hangs.
const AT_A_TIME: usize = 32;

/// What a [`Resolver`] answers.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Looks a host and port up.
pub type Resolver = Arc<dyn Fn(String, u16) -> Resolving + Send + Sync>;

/// The resolver of this machine.
fn system(host: String, port: u16) -> Resolving {
    Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Of the newest good answer; empty before the first one.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Why there is no newer one.
    pub(crate) fault: Option<Fault>,
}

impl Answer {
    /// The address to go on with, where one is in use: that one, unless a good answer has others
    /// only. Answers that come in another order, or not at all, are no change.
    pub(crate) fn choose(&self, in_use: Option<SocketAddr>) -> Option<SocketAddr> {
        let stays = |address: &SocketAddr| self.fault.is_some() || self.addresses.contains(address);
        in_use.filter(stays).or_else(|| self.addresses.first().copied())
    }

    /// The addresses, or the error of a name of which none is known.
    pub(crate) fn addresses(self) -> io::Result<Vec<SocketAddr>> {
        match self.fault {
            Some(fault) if self.addresses.is_empty() => Err(fault.into()),
            _ => Ok(self.addresses),
        }
    }
}

/// Why a name has no new address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    text: String,
    /// The system's number, where the resolver gave one.
    number: Option<i32>,
}

impl Fault {
    fn of(error: &io::Error) -> Self {
        Self { text: error.to_string(), number: error.raw_os_error() }
    }

    fn text(text: &str) -> Self {
        Self { text: text.to_owned(), number: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        fault.number.map_or_else(|| Self::other(fault.text), Self::from_raw_os_error)
    }
}

type Name = (String, u16);

#[derive(Debug)]
struct Entry {
    /// Somebody wanted to know.
    wanted: Instant,
    /// When the lookup that is under way began.
    running: Option<Instant>,
    /// When the last one ended.
    ended: Option<Instant>,
    answer: Answer,
    past: Past,
}

/// What good answers have said lately. A server of names with several addresses for one may tell
/// one at a time, in turn: the others are there all the same, and nobody has moved.
#[derive(Debug, Default)]
struct Past {
    newest: Vec<SocketAddr>,
    /// When each was said last.
    said: Vec<(SocketAddr, Instant)>,
    /// When addresses came back that the answer before had not.
    returned: Vec<Instant>,
}

impl Past {
    /// All that a name has, by a good answer: what it says comes first.
    fn learn(&mut self, mut found: Vec<SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        let is_late = |at: Instant| now.saturating_duration_since(at) >= TURN;
        self.said.retain(|(_, at)| !is_late(*at));
        self.returned.retain(|at| !is_late(*at));
        let is_back = |address: &SocketAddr| {
            let was_said = self.said.iter().any(|(said, _)| said == address);
            was_said && !self.newest.contains(address)
        };
        if found.iter().any(is_back) {
            self.returned.push(now);
        }
        self.said.retain(|(said, _)| !found.contains(said));
        self.said.extend(found.iter().map(|address| (*address, now)));
        let surplus = self.said.len().saturating_sub(SAID_MAX);
        self.said.drain(..surplus);
        self.newest.clone_from(&found);
        if self.returned.len() >= RETURNS {
            let others = self.said.iter().map(|(said, _)| *said);
            found.extend(others.filter(|said| !self.newest.contains(said)));
        }
        found
    }
}

impl Entry {
    fn new(now: Instant) -> Self {
        let answer =
            Answer { addresses: Vec::new(), fault: Some(Fault::text("no answer in time")) };
        Self { wanted: now, running: None, ended: None, answer, past: Past::default() }
    }

    /// So is one that ended after `now`.
    fn is_fresh(&self, now: Instant) -> bool {
        self.ended.is_some_and(|ended| now.saturating_duration_since(ended) < FRESH)
    }

    /// How long to wait for this name.
    fn until(&self, now: Instant) -> Option<Instant> {
        self.running.filter(|_| !self.is_fresh(now)).map(|began| began + LIMIT)
    }

    /// What is known. An answer that is not fresh is the newest there is, and said to be so by
    /// a fault.
    fn known(&self, now: Instant) -> Answer {
        let mut answer = self.answer.clone();
        if !self.is_fresh(now) && answer.fault.is_none() {
            answer.fault = Some(Fault::text("no answer in time"));
        }
        answer
    }
}

/// All names that somebody asks for, and their resolver.
#[derive(Clone)]
pub(crate) struct Lookups(Arc<Inner>);

struct Inner {
    resolver: Resolver,
    names: Mutex<HashMap<Name, Entry>>,
    ended: Notify,
    turns: Semaphore,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lookups").field(&self.0.names.lock().len()).finish()
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Self::by(Arc::new(system))
    }
}

impl Lookups {
    /// By a resolver of one's own.
    pub(crate) fn by(resolver: Resolver) -> Self {
        let (names, ended) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inner { resolver, names, ended, turns: Semaphore::new(AT_A_TIME) }))
    }

    /// One host, or an address that is written as one.
    pub(crate) async fn one(&self, host: &str, port: u16) -> Answer {
        let mut answers = self.all(&[(host, port)]).await;
        let none = || Answer { addresses: Vec::new(), fault: Some(Fault::text("not looked up")) };
        answers.pop().unwrap_or_else(none)
    }

    /// Several of them, in their order.
    pub(crate) async fn all(&self, wanted: &[(&str, u16)]) -> Vec<Answer> {
        let names: Vec<Name> = (wanted.iter())
            .filter(|(host, port)| literal(host, *port).is_none())
            .map(|(host, port)| ((*host).to_owned(), *port))
            .collect();
        // What is fresh when it is asked for is so once the others were waited for.
        let now = Instant::now();
        self.ask(&names, now);
        self.wait(&names, now).await;
        let entries = self.0.names.lock();
        let known = |host: &str, port: u16| {
            let entry = entries.get(&(host.to_owned(), port));
            entry.map_or_else(|| Entry::new(now).answer, |entry| entry.known(now))
        };
        let answer = |(host, port): &(&str, u16)| match literal(host, *port) {
            Some(address) => Answer { addresses: vec![address], fault: None },
            None => known(host, *port),
        };
        wanted.iter().map(answer).collect()
    }

    /// Begins what is not under way.
    fn ask(&self, names: &[Name], now: Instant) {
        let mut entries = self.0.names.lock();
        for name in names {
            let entry = entries.entry(name.clone()).or_insert_with(|| Entry::new(now));
            entry.wanted = now;
            if entry.running.is_none() && !entry.is_fresh(now) {
                entry.running = Some(now);
                tokio::spawn(Arc::clone(&self.0).look_up(name.clone()));
            }
        }
        entries.retain(|_, entry| {
            entry.running.is_some() || now.duration_since(entry.wanted) < FORGET
        });
    }

    async fn wait(&self, names: &[Name], now: Instant) {
        loop {
            let ended = self.0.ended.notified();
            let until = {
                let entries = self.0.names.lock();
                names.iter().filter_map(|name| entries.get(name)?.until(now)).max()
            };
            let Some(until) = until else { return };
            if timeout_at(until, ended).await.is_err() {
                return;
            }
        }
    }
}

impl Inner {
    async fn look_up(self: Arc<Self>, name: Name) {
        // Closed by nobody.
        let _turn = self.turns.acquire().await;
        let found = (self.resolver)(name.0.clone(), name.1).await;
        if let Some(entry) = self.names.lock().get_mut(&name) {
            let now = Instant::now();
            (entry.running, entry.ended) = (None, Some(now));
            match found {
                Ok(addresses) if addresses.is_empty() => {
                    entry.answer.fault = Some(Fault::text("it has no address"));
                }
                Ok(found) => {
                    let addresses = entry.past.learn(found, now);
                    entry.answer = Answer { addresses, fault: None };
                }
                Err(error) => entry.answer.fault = Some(Fault::of(&error)),
            }
        }
        self.ended.notify_waiters();
    }
}

fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 7))
    }

    fn fault() -> Option<Fault> {
        Some(Fault::text("no such name"))
    }

    #[test]
    fn an_address_in_use_is_left_only_where_a_good_answer_has_others() {
        let (a, b, c) = (address(1), address(2), address(3));
        let good = Answer { addresses: vec![b, a], fault: None };
        assert_eq!(good.choose(None), Some(b));
        assert_eq!(good.choose(Some(a)), Some(a), "another order is no change");
        assert_eq!(good.choose(Some(c)), Some(b));
        let old = Answer { addresses: vec![b], fault: fault() };
        assert_eq!(old.choose(Some(c)), Some(c), "nothing says that it is there no more");
        assert_eq!(old.choose(None), Some(b));
        let none = Answer { addresses: vec![], fault: fault() };
        assert_eq!(none.choose(Some(a)), Some(a));
        assert_eq!(none.choose(None), None);
        assert!(none.addresses().is_err() && old.addresses().is_ok());
    }

    #[test]
    fn addresses_that_are_told_in_turn_are_all_there_and_a_move_is_a_move() {
        let (a, b, c) = (address(1), address(2), address(3));
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut past = Past::default();
        let mut in_use = None;
        let mut moves = 0;
        for (second, found) in [a, b, c].into_iter().cycle().take(60).enumerate() {
            let addresses = past.learn(vec![found], at(second as u64));
            assert_eq!(addresses[0], found, "what is said comes first");
            let next = Answer { addresses, fault: None }.choose(in_use);
            moves += usize::from(next != in_use);
            in_use = next;
        }
        assert!(moves <= 5, "{moves} moves, once for each until two have come back");
        // It is over: one address alone is said from then on.
        let mut left = vec![];
        for second in 60..130 {
            left = past.learn(vec![a], at(second));
        }
        assert_eq!(left, [a]);

        let mut past = Past::default();
        assert_eq!(past.learn(vec![a], at(0)), [a]);
        assert_eq!(past.learn(vec![b], at(1)), [b], "it has moved");
        assert_eq!(past.learn(vec![a], at(2)), [a], "and back");
        for last in 0..200 {
            past.learn(vec![address(last)], at(3));
        }
        assert!(past.said.len() <= SAID_MAX);
    }

    /// A resolver of which each name that begins with `slow` never answers.
    fn counting() -> (Lookups, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let resolver = move |host: String, _: u16| -> Resolving {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                if host.starts_with("slow") {
                    std::future::pending::<()>().await;
                }
                Ok(vec![address(1)])
            })
        };
        (Lookups::by(Arc::new(resolver)), count)
    }

    #[tokio::test]
    async fn a_name_that_hangs_holds_up_no_other_and_is_asked_for_once() {
        let (lookups, count) = counting();
        let wanted = [("slow1", 7), ("fast", 7), ("slow2", 7), ("10.0.0.9", 7)];
        for _ in 0..20 {
            let answers = lookups.all(&wanted).await;
            let good = |last| Answer { addresses: vec![address(last)], fault: None };
            assert_eq!((&answers[1], &answers[3]), (&good(1), &good(9)));
            for slow in [&answers[0], &answers[2]] {
                assert!(slow.addresses.is_empty() && slow.fault.is_some(), "{slow:?}");
            }
        }
        // The fast one again, where the machine was slow.
        assert!(count.load(Ordering::SeqCst) <= 2 + 20, "{count:?}");
        let slow = |name: &Name| name.0.starts_with("slow");
        assert_eq!(lookups.0.names.lock().keys().filter(|name| slow(name)).count(), 2);
    }

    #[tokio::test]
    async fn what_is_fresh_when_it_is_asked_for_is_so_after_the_wait_for_others() {
        let (lookups, _) = counting();
        let wanted = [("fast", 7), ("slow", 7)];
        lookups.one("fast", 7).await;
        // It grows old before the slow one is given up.
        let ended = Instant::now().checked_sub(FRESH.saturating_sub(LIMIT / 2));
        let name = ("fast".to_owned(), 7);
        lookups.0.names.lock().get_mut(&name).unwrap().ended = ended;
        let answers = lookups.all(&wanted).await;
        assert_eq!(answers[0], Answer { addresses: vec![address(1)], fault: None });
        assert!(answers[1].fault.is_some());
    }

    #[tokio::test]
    async fn a_resolver_that_fails_takes_no_address_away() {
        let is_well = Arc::new(AtomicUsize::new(1));
        let well = Arc::clone(&is_well);
        let resolver = move |_: String, _: u16| -> Resolving {
            let well = well.load(Ordering::SeqCst) == 1;
            Box::pin(async move {
                if well { Ok(vec![address(1)]) } else { Err(io::Error::other("no such name")) }
            })
        };
        let lookups = Lookups::by(Arc::new(resolver));
        assert_eq!(lookups.one("a", 7).await.fault, None);
        is_well.store(0, Ordering::SeqCst);
        let asking = async {
            loop {
                let answer = lookups.one("a", 7).await;
                assert_eq!(answer.addresses, [address(1)]);
                if answer.fault.as_ref().is_some_and(|fault| fault.text == "no such name") {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), asking).await.unwrap();
    }
}
