//! A listener for HTTP whose connections are counted: one that opens many, or says nothing on one,
//! takes no descriptors from what the process is there for, and keeps nobody out.
//!
//! A request's head has a limit from its first byte to its last, so that one byte a minute holds
//! no place. Where all places are taken, an idle connection gives its own to the next that comes:
//! first one that has shown no token, of the address that has most of them, the oldest first; then
//! the one with a token that has been idle for longest. A request keeps its place until its handler
//! has answered; an answer that its client is slow to take keeps none. Whether a token is good is
//! not decided here: see [`Conduct::know`].

use std::cmp::Reverse;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use limits::Seldom;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

/// Longest time for a request's head, from its first byte to its last; for the first request of a
/// connection from its begin, a TLS handshake included.
const HEAD: Duration = Duration::from_secs(10);
/// Longest time for a request's body, from the end of its head. Kept by the server, which sees
/// where a body ends: see [`late`].
pub const BODY: Duration = Duration::from_secs(60);
/// Rest after an error, so that one that stays does not cost a processor.
const REST: Duration = Duration::from_millis(20);
/// How often all other tasks get a turn before a place is given up: to begin, and to read.
const TURNS: u32 = 3;
/// How long is waited for the place of a connection that was told to give it up.
const LEAVES: Duration = Duration::from_secs(1);
/// Longest time for which a client may take nothing of its answer; less where less is given to
/// those who say nothing.
const TAKES: Duration = Duration::from_secs(60);
/// Between two words about connections that were closed.
const WORD: Duration = Duration::from_secs(10);

/// Why connections of this process were closed by it, and how many.
static CLOSED: [(&str, AtomicU64); 3] =
    [("full", AtomicU64::new(0)), ("given-up", AtomicU64::new(0)), ("slow", AtomicU64::new(0))];
const FULL: usize = 0;
const GIVEN_UP: usize = 1;
const SLOW: usize = 2;

static SLOW_ONES: Seldom = Seldom::every(WORD);

/// How many connections this process has closed, by the reason: `full`, no other could give its
/// place up; `given-up`, its place was given to another; `slow`, a request or an answer that took
/// too long. One that was merely idle for too long is in none.
pub fn closed() -> [(&'static str, u64); 3] {
    CLOSED.each_ref().map(|(why, count)| (*why, count.load(Ordering::Relaxed)))
}

fn count(why: usize) {
    CLOSED[why].1.fetch_add(1, Ordering::Relaxed);
}

/// Counts a request that took longer than it may, and tells of it now and then; the error to end
/// it with.
pub fn late(what: &'static str) -> io::Error {
    count(SLOW);
    if let Some(count) = SLOW_ONES.count() {
        tracing::info!(count, "closed an HTTP connection: {what}");
    }
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Accepts at most so many connections at a time, and closes those that say or take nothing for too
/// long.
#[derive(Debug)]
pub struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
    places: Arc<Places>,
    idle: Duration,
    head: Duration,
    refused: Seldom,
}

impl Bounded {
    /// At most `most` connections, none of them silent for longer than `idle`.
    pub fn new(listener: TcpListener, most: usize, idle: Duration) -> Self {
        let free = Arc::new(Semaphore::new(most));
        let refused = Seldom::every(WORD);
        Self { listener, free, places: Arc::default(), idle, head: HEAD, refused }
    }

    /// With another limit for the heads of requests than 10 s.
    #[must_use]
    pub fn head_within(self, head: Duration) -> Self {
        Self { head, ..self }
    }

    /// A place; `None` if all are taken by requests that are being answered.
    async fn permit(&self, peer: SocketAddr) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(permit);
        }
        // A request that has come already is read, and keeps its place.
        for _ in 0..TURNS {
            yield_now().await;
        }
        if !self.places.give_one_up() {
            return None;
        }
        count(GIVEN_UP);
        if let Some(count) = self.refused.count() {
            let told = "all places for HTTP connections are taken: an idle one was closed";
            tracing::warn!(%peer, count, "{told}");
        }
        let free = Arc::clone(&self.free).acquire_owned();
        timeout(LEAVES, free).await.ok()?.ok()
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(count) = self.refused.count() {
                        tracing::warn!(%error, count, "cannot accept an HTTP connection");
                    }
                    sleep(REST).await;
                    continue;
                }
            };
            if let Some(permit) = self.permit(peer).await {
                let (place, told) = Places::take(&self.places, peer.ip(), permit);
                return (Connection::new(stream, (self.idle, self.head), place, told), peer);
            }
            // Closed with the stream.
            count(FULL);
            if let Some(count) = self.refused.count() {
                tracing::warn!(%peer, count, "too many HTTP connections: closed");
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub struct Conduct {
    peer: IpAddr,
    opened: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// It has carried a request with a token that is good.
    is_known: bool,
    /// A request of it is being answered.
    is_served: bool,
    /// When the head that is being read began.
    began: Option<Instant>,
    /// When bytes went in or out last.
    moved: Instant,
}

impl Conduct {
    fn new(peer: IpAddr) -> Self {
        let opened = Instant::now();
        let state = State { is_known: false, is_served: false, began: Some(opened), moved: opened };
        Self { peer, opened, state: Mutex::new(state) }
    }

    /// A token that is good was seen: it gives its place up after all others.
    pub fn know(&self) {
        self.state.lock().is_known = true;
    }

    /// A head was read. The connection keeps its place until what is returned is dropped, which is
    /// to be when the handler has answered.
    #[must_use]
    pub fn serve(self: &Arc<Self>) -> Served {
        self.state.lock().is_served = true;
        Served(Arc::clone(self))
    }

    fn heard(&self) {
        let (mut state, now) = (self.state.lock(), Instant::now());
        state.moved = now;
        if !state.is_served {
            state.began.get_or_insert(now);
        }
    }

    fn took(&self) {
        self.state.lock().moved = Instant::now();
    }

    /// When the head that is being read must be there.
    fn head_by(&self, head: Duration) -> Option<Instant> {
        let state = *self.state.lock();
        state.began.filter(|_| !state.is_served).map(|began| began + head)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Served(Arc<Conduct>);

impl Drop for Served {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        (state.is_served, state.began) = (false, None);
    }
}

/// All connections that have a place.
#[derive(Debug, Default)]
struct Places {
    list: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    conduct: Arc<Conduct>,
    /// Tells it to go; `None` if it was told.
    go: Option<oneshot::Sender<()>>,
}

impl Places {
    fn take(
        this: &Arc<Self>,
        peer: IpAddr,
        permit: OwnedSemaphorePermit,
    ) -> (Place, oneshot::Receiver<()>) {
        let id = this.next.fetch_add(1, Ordering::Relaxed);
        let conduct = Arc::new(Conduct::new(peer));
        let (go, told) = oneshot::channel();
        this.list.lock().insert(id, Entry { conduct: Arc::clone(&conduct), go: Some(go) });
        (Place { id, places: Arc::clone(this), conduct, _permit: permit }, told)
    }

    /// Tells one connection to go, if there is one that may.
    fn give_one_up(&self) -> bool {
        let mut list = self.list.lock();
        let stays: Vec<Held> = (list.iter())
            .filter(|(_, entry)| entry.go.is_some())
            .map(|(id, Entry { conduct, .. })| {
                let State { is_known, is_served, moved, .. } = *conduct.state.lock();
                let Conduct { peer, opened, .. } = **conduct;
                Held { id: *id, peer, is_known, is_served, opened, moved }
            })
            .collect();
        let go = given_up(&stays).and_then(|id| list.get_mut(&id)?.go.take());
        go.is_some_and(|go| go.send(()).is_ok())
    }
}

/// What counts when one has to give its place up.
#[derive(Debug, Clone, Copy)]
struct Held {
    id: u64,
    peer: IpAddr,
    is_known: bool,
    is_served: bool,
    opened: Instant,
    moved: Instant,
}

/// Which one does; `None` if all are being answered.
fn given_up(held: &[Held]) -> Option<u64> {
    let idle = || held.iter().filter(|held| !held.is_served);
    let strangers = || idle().filter(|held| !held.is_known);
    let mut of_peer: HashMap<IpAddr, usize> = HashMap::new();
    for held in strangers() {
        *of_peer.entry(held.peer).or_default() += 1;
    }
    // By age and not by what it said last: a byte now and then must not keep a place.
    let stranger = strangers().max_by_key(|held| (of_peer.get(&held.peer), Reverse(held.opened)));
    stranger.or_else(|| idle().min_by_key(|held| held.moved)).map(|held| held.id)
}

#[derive(Debug)]
struct Place {
    id: u64,
    places: Arc<Places>,
    conduct: Arc<Conduct>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.list.lock().remove(&self.id);
    }
}

/// One of them.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    idle: Duration,
    head: Duration,
    silence: Pin<Box<Sleep>>,
    /// While nothing of what is written can leave.
    stuck: Option<Pin<Box<Sleep>>>,
    /// Says that its place is given to another; `None` once it has.
    told: Option<oneshot::Receiver<()>>,
    // Behind the stream: a place is free once the descriptor is.
    place: Place,
}

impl Connection {
    fn new(
        stream: TcpStream,
        (idle, head): (Duration, Duration),
        place: Place,
        told: oneshot::Receiver<()>,
    ) -> Self {
        let silence = Box::pin(sleep_until(Instant::now() + idle.min(head)));
        Self { stream, idle, head, silence, stuck: None, told: Some(told), place }
    }

    /// The address of this machine that it was made to.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// What it is doing, for the server to tell.
    pub fn conduct(&self) -> &Arc<Conduct> {
        &self.place.conduct
    }

    /// Whether it is to go, so that another can come.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(told) = &mut self.told {
            // The sender lives as long as the place is taken, so this is no error.
            let _ = ready!(Pin::new(told).poll(cx));
            self.told = None;
        }
        Poll::Ready(io::Error::new(io::ErrorKind::ConnectionReset, "its place was given up"))
    }

    /// Nothing more came: waits for as long as it may stay so.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let head_by = self.place.conduct.head_by(self.head);
        let idle_by = self.place.conduct.state.lock().moved + self.idle;
        let by = head_by.map_or(idle_by, |head_by| head_by.min(idle_by));
        if self.silence.deadline() != by {
            self.silence.as_mut().reset(by);
        }
        self.silence.as_mut().poll(cx).map(|()| match head_by {
            Some(_) => late("the head of a request was not sent in time"),
            None => io::Error::new(io::ErrorKind::TimedOut, "nothing was said"),
        })
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(gone) = self.poll_told(cx) {
            return Poll::Ready(Err(gone));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            return self.poll_silence(cx).map(Err);
        }
        if buffer.filled().len() > before {
            let head_by = self.place.conduct.head_by(self.head);
            if head_by.is_some_and(|by| Instant::now() > by) {
                return Poll::Ready(Err(late("the head of a request was not sent in time")));
            }
            self.place.conduct.heard();
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.stuck = None;
            self.place.conduct.took();
            return written;
        }
        if let Poll::Ready(gone) = self.poll_told(cx) {
            return Poll::Ready(Err(gone));
        }
        let limit = self.idle.min(TAKES);
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(limit)));
        stuck.as_mut().poll(cx).map(|()| Err(late("nothing of an answer was taken")))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::extract::connect_info::Connected;
    use axum::routing::get;
    use axum::serve::IncomingStream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    /// No limit that a test lives to see.
    const NEVER: Duration = Duration::from_secs(3_600);

    #[derive(Clone)]
    struct Info(Arc<Conduct>);

    impl Connected<IncomingStream<'_, Bounded>> for Info {
        fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
            Self(Arc::clone(stream.io().conduct()))
        }
    }

    /// A request for `/held`: says when it has come, and is answered when it is told to.
    #[derive(Default)]
    struct Gate {
        came: Notify,
        release: Notify,
    }

    async fn serve(most: usize, idle: Duration, head: Duration) -> (SocketAddr, Arc<Gate>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let held = move |ConnectInfo(Info(conduct)): ConnectInfo<Info>| {
            let gate = Arc::clone(&held);
            async move {
                let _served = conduct.serve();
                gate.came.notify_one();
                gate.release.notified().await;
                "held"
            }
        };
        let known = |ConnectInfo(Info(conduct)): ConnectInfo<Info>| async move {
            let _served = conduct.serve();
            conduct.know();
            "known"
        };
        let app = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/held", get(held))
            .route("/known", get(known))
            .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
            .into_make_service_with_connect_info::<Info>();
        let listener = Bounded::new(listener, most, idle).head_within(head);
        tokio::spawn(async move { axum::serve(listener, app).await });
        (address, gate)
    }

    /// What is answered until the connection ends.
    async fn ask(address: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    async fn until_it_answers(address: SocketAddr) {
        let asking = async {
            while !ask(address).await.is_ok_and(|text| text.ends_with("here")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap();
    }

    /// Asks on a connection that stays open, and reads until the answer's last word.
    async fn request(stream: &mut TcpStream, path: &str, last: &str) -> io::Result<()> {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
        let mut text = Vec::new();
        while !text.ends_with(last.as_bytes()) {
            if stream.read_buf(&mut text).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    async fn until_closed(stream: &mut TcpStream) {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 8])).await;
        assert_eq!(read.expect("it stays open").unwrap_or(0), 0);
    }

    fn total(why: &str) -> u64 {
        closed().into_iter().find(|(word, _)| *word == why).unwrap().1
    }

    #[tokio::test]
    async fn a_request_that_is_being_answered_keeps_its_place() {
        let (address, gate) = serve(1, NEVER, NEVER).await;
        let before = total("full");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let others = async {
            tokio::time::timeout(PATIENCE, gate.came.notified()).await.unwrap();
            for _ in 0..3 {
                let text = ask(address).await.unwrap_or_default();
                assert_eq!(text, "", "there is no place");
            }
            gate.release.notify_one();
        };
        let (answered, ()) = tokio::join!(request(&mut stream, "/held", "held"), others);
        answered.unwrap();
        assert!(total("full") >= before + 3);
        until_it_answers(address).await;
    }

    #[tokio::test]
    async fn a_request_that_has_come_is_answered_before_its_place_is_given_up() {
        let (address, _) = serve(1, NEVER, NEVER).await;
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let (answered, next) = tokio::join!(request(&mut stream, "/", "here"), ask(address));
            answered.unwrap();
            assert!(next.unwrap().ends_with("here"));
        }
    }

    #[tokio::test]
    async fn the_oldest_silent_connection_gives_its_place_up() {
        let (address, _) = serve(2, NEVER, NEVER).await;
        let before = total("given-up");
        let mut oldest = TcpStream::connect(address).await.unwrap();
        let mut newer = TcpStream::connect(address).await.unwrap();
        // Half a head, and more of it, is no reason to stay.
        oldest.write_all(b"GET / HT").await.unwrap();
        assert!(ask(address).await.unwrap().ends_with("here"));
        until_closed(&mut oldest).await;
        request(&mut newer, "/", "here").await.unwrap();
        assert!(total("given-up") > before);
    }

    #[tokio::test]
    async fn one_that_has_shown_a_token_stays_among_any_number_of_silent_ones() {
        let (address, _) = serve(4, NEVER, NEVER).await;
        let mut known = TcpStream::connect(address).await.unwrap();
        request(&mut known, "/known", "known").await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(ask(address).await.unwrap().ends_with("here"));
        request(&mut known, "/known", "known").await.unwrap();
    }

    #[tokio::test]
    async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
        let (address, _) = serve(1, NEVER, Duration::from_millis(100)).await;
        let before = total("slow");
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let dribbling = async {
            let pause = Duration::from_millis(5);
            while tokio::time::timeout(pause, slow.read(&mut [0; 8])).await.is_err() {
                // It may be closed by now, which the next look tells.
                let _ = slow.write_all(b"x").await;
            }
        };
        tokio::time::timeout(PATIENCE, dribbling).await.unwrap();
        assert!(total("slow") > before);
        until_it_answers(address).await;
    }

    /// The limit is for heads: neither for the time in which a request is answered, nor for the
    /// rest between two.
    #[tokio::test]
    async fn a_connection_outlives_the_limit_of_its_heads() {
        let head = Duration::from_secs(3);
        let longer = head * 5 / 4;
        let (address, gate) = serve(1, NEVER, head).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let released = async {
            let waited = tokio::time::timeout(longer, std::future::pending::<()>()).await;
            assert!(waited.is_err());
            gate.release.notify_one();
        };
        let (answered, ()) = tokio::join!(request(&mut stream, "/held", "held"), released);
        answered.unwrap();
        let rest = tokio::time::timeout(longer, stream.read(&mut [0; 8])).await;
        assert!(rest.is_err(), "it was closed");
        request(&mut stream, "/", "here").await.unwrap();
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_is_closed() {
        let (address, _) = serve(1, Duration::from_millis(50), NEVER).await;
        let mut stuck = TcpStream::connect(address).await.unwrap();
        // What follows is not read before the answer is written, so nobody waits for it to say
        // more; and nobody else wants its place.
        stuck.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let closed = async {
            let pause = Duration::from_millis(5);
            while !matches!(stuck.try_write(b"x"), Err(error) if error.kind() != io::ErrorKind::WouldBlock)
            {
                let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.unwrap();
        until_it_answers(address).await;
    }

    #[tokio::test]
    async fn who_says_nothing_is_closed() {
        let (address, _) = serve(1, Duration::from_millis(50), NEVER).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        until_closed(&mut silent).await;
        until_it_answers(address).await;
    }

    fn held(id: u64, peer: u8, age_s: u64) -> Held {
        // Not before the clock's begin, which may be this machine's start.
        let moved = Instant::now() + NEVER;
        let opened = moved - Duration::from_secs(age_s);
        let peer = IpAddr::from([10, 0, 0, peer]);
        Held { id, peer, is_known: false, is_served: false, opened, moved }
    }

    #[test]
    fn strangers_go_first_and_of_the_address_that_has_most_of_them() {
        assert_eq!(given_up(&[]), None);
        let known = Held { is_known: true, ..held(1, 1, 900) };
        let served = Held { is_served: true, ..held(2, 1, 800) };
        let (lone, first, second) = (held(3, 2, 700), held(4, 3, 500), held(5, 3, 600));
        assert_eq!(given_up(&[known, served, lone, first, second]), Some(5));
        // As many of each: the oldest.
        assert_eq!(given_up(&[known, served, first, lone]), Some(3));
        assert_eq!(given_up(&[known, served]), Some(1));
        assert_eq!(given_up(&[served]), None);
        let rested = Held { moved: known.moved - Duration::from_secs(9), id: 7, ..known };
        assert_eq!(given_up(&[known, rested, Held { is_served: true, ..rested }]), Some(7));
    }
}
