//! Calls to etcd's members: a limit for each, reads to two members at once, writes to one (rule
//! O9).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use web::causes::chain;

use super::Place;
use super::failure::{Failure, refused};
use super::full::{self, Fate};
use super::measured::{Measured, Status};
use super::wire::{self, Answer, Compare, Header, Range, Write};
use crate::store::{Measures, Outcome, StoreError};

/// Largest answer, bytes.
const ANSWER_MAX: usize = 64 << 20;

/// How far an answer may be behind in raft's term: a member may call an election while it answers.
const TERM_SLACK: i64 = 1;

/// A change that was refused is trouble for so long: claims are made again every 2 s, the rest
/// sooner.
const REFUSED: Duration = Duration::from_secs(10);

const TRANSACTION: &str = "/v3/kv/txn";

/// How far the newest answer was.
#[derive(Debug, Clone, Default)]
struct Seen {
    cluster_id: String,
    revision: i64,
    raft_term: i64,
}

#[derive(Debug, Default)]
struct Health {
    /// Since when it has been failing, and the last reason.
    failed: Option<(Instant, String)>,
    /// How many calls came to nothing.
    failures: u64,
    answered: Option<Instant>,
    written: Option<Instant>,
    /// When etcd last refused a change, and why; none since it took one.
    refused: Option<(Instant, String)>,
    lost: Option<String>,
}

impl Health {
    /// Why changes are refused at `now`, though reads may go on. What is needed is tried again.
    fn refuses(&self, now: Instant) -> Option<String> {
        let (at, why) = self.refused.as_ref()?;
        let is_lately = now.duration_since(*at) < REFUSED;
        is_lately.then(|| format!("etcd refuses changes, and answers reads: {why}"))
    }
}

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    place: Place,
    token: Mutex<Option<String>>,
    /// The member that is asked first.
    first: AtomicUsize,
    seen: Mutex<Seen>,
    health: Mutex<Health>,
    measured: Mutex<Measured>,
}

#[derive(Debug, Deserialize)]
struct Version {
    etcdserver: String,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
}

impl Client {
    pub(super) fn new(place: Place) -> Result<Self, StoreError> {
        if place.endpoints.is_empty() {
            return Err(StoreError::Unusable("no endpoint of etcd is given".to_owned()));
        }
        let what = "prepare connections to etcd";
        let tls = place.tls.client().map_err(crate::store::failed(what))?;
        let http = reqwest::Client::builder().use_preconfigured_tls(tls).no_proxy();
        // What a member sends elsewhere is not asked there: perhaps in clear, and with a password.
        let http = http.redirect(reqwest::redirect::Policy::none()).tcp_nodelay(true);
        let http = http.build().map_err(crate::store::failed(what))?;
        Ok(Self {
            http,
            place,
            token: Mutex::new(None),
            first: AtomicUsize::new(0),
            seen: Mutex::new(Seen::default()),
            health: Mutex::new(Health::default()),
            measured: Mutex::default(),
        })
    }

    /// Reads ranges of one revision, newest and confirmed by a quorum.
    pub(super) async fn read(
        &self,
        what: &'static str,
        ranges: &[Range],
    ) -> Result<Answer, StoreError> {
        self.read_within(self.place.limit, what, ranges).await
    }

    /// Of a call.
    pub(super) fn limit(&self) -> Duration {
        self.place.limit
    }

    /// The largest request that is taken, bytes, as far as is known.
    pub(super) fn request_max(&self) -> usize {
        self.place.request_max
    }

    /// Of a read by which somebody leads: by one that took longer nobody would (rule O2), and while
    /// it is waited for none is sent that would be answered at once.
    pub(super) fn fresh_limit(&self) -> Duration {
        self.place.limit.min(Duration::from_millis(planner::FRESH_MS))
    }

    /// The same with another limit: what is much takes longer.
    pub(super) async fn read_within(
        &self,
        limit: Duration,
        what: &'static str,
        ranges: &[Range],
    ) -> Result<Answer, StoreError> {
        let (body, before) = (wire::reads(ranges), self.seen.lock().clone());
        let began = Instant::now();
        let mut read = self.hedged(&body, limit).await;
        if read.as_ref().is_err_and(|failure| failure.wants_token) && self.log_in().await {
            read = self.hedged(&body, limit).await;
        }
        match read {
            Ok(answer) => {
                self.went_on(&before, &answer.header)?;
                // What is given more time is much.
                if limit <= self.place.limit {
                    self.measured.lock().read(began.elapsed(), self.fresh_limit());
                }
                Ok(answer)
            }
            Err(failure) => {
                // The next attempt begins with others.
                self.first.fetch_add(1, Ordering::Relaxed);
                Err(self.fails(what, failure))
            }
        }
    }

    /// Makes a transaction. `Done` has its answer, also where a compare was not so.
    pub(super) async fn write(
        &self,
        what: &'static str,
        compares: &[Compare],
        writes: &[Write],
    ) -> Outcome<Answer> {
        if let Some(lost) = self.lost() {
            return Outcome::NotDone(StoreError::Lost(lost));
        }
        let (body, before) = (wire::transaction(compares, writes), self.seen.lock().clone());
        let (mut last, mut is_too_large) = (None, false);
        for _ in 0..=self.place.endpoints.len() {
            let (at, began) = (self.first.load(Ordering::Relaxed), Instant::now());
            match self.post::<Answer>(at, TRANSACTION, &body).await {
                Ok(answer) => {
                    if let Err(error) = self.went_on(&before, &answer.header) {
                        return Outcome::Unknown(error);
                    }
                    self.measured.lock().wrote(began.elapsed());
                    let mut health = self.health.lock();
                    (health.written, health.refused) = (Some(Instant::now()), None);
                    return Outcome::Done(answer);
                }
                Err(failure) if failure.is_refused && failure.wants_token => {
                    last = Some(failure);
                    if !self.log_in().await {
                        break;
                    }
                }
                Err(failure) if failure.is_full => {
                    return self.found_full(what, (compares, writes), failure).await;
                }
                Err(failure) => {
                    self.first.fetch_add(1, Ordering::Relaxed);
                    if !failure.is_refused {
                        return Outcome::Unknown(self.fails(what, failure));
                    }
                    // Another member may take more.
                    is_too_large |= failure.is_too_large;
                    last = Some(failure);
                }
            }
        }
        if is_too_large {
            // Of this change alone: others are taken, so it is no trouble of the store.
            self.health.lock().failures += 1;
            let bytes = wire::bytes(compares, writes);
            return Outcome::NotDone(StoreError::TooLarge { what, bytes });
        }
        let last = last.unwrap_or_else(|| Failure::refused("no answer".to_owned()));
        if last.is_answer {
            self.health.lock().refused = Some((Instant::now(), last.why.clone()));
        }
        Outcome::NotDone(self.fails(what, last))
    }

    /// What became of a transaction that was answered with "full": asked of the keys that it writes
    /// (rule O4). Nowhere else is it tried: all members are full then.
    async fn found_full(
        &self,
        what: &'static str,
        (compares, writes): (&[Compare], &[Write]),
        failure: Failure,
    ) -> Outcome<Answer> {
        self.measured.lock().said_full();
        let read = self.read(what, &full::ranges(writes)).await;
        let fate = read.as_ref().map_or(Fate::Unknown, |read| full::fate(compares, writes, read));
        match (fate, read) {
            (Fate::Made, Ok(mut answer)) => {
                answer.succeeded = true;
                self.health.lock().written = Some(Instant::now());
                Outcome::Done(answer)
            }
            (Fate::NotMade, _) => Outcome::NotDone(self.fails(what, failure)),
            _ => Outcome::Unknown(StoreError::Full { what, why: failure.why }),
        }
    }

    /// Two members at once; whichever answers first.
    async fn hedged(&self, body: &Value, limit: Duration) -> Result<Answer, Failure> {
        let first = self.first.load(Ordering::Relaxed);
        let ask = |at| self.post_within::<Answer>(limit, at, TRANSACTION, body);
        if self.place.endpoints.len() == 1 {
            return ask(first).await;
        }
        let (mut one, mut other) = (Box::pin(ask(first)), Box::pin(ask(first + 1)));
        tokio::select! {
            answer = &mut one => match answer {
                Ok(answer) => Ok(answer),
                Err(_) => other.await,
            },
            answer = &mut other => match answer {
                Ok(answer) => Ok(answer),
                Err(_) => one.await,
            },
        }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        at: usize,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        self.post_within(self.place.limit, at, path, body).await
    }

    async fn post_within<T: DeserializeOwned>(
        &self,
        limit: Duration,
        at: usize,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        let endpoints = &self.place.endpoints;
        let endpoint = &endpoints[at % endpoints.len()];
        let mut request = self.http.post(format!("{endpoint}{path}")).json(body);
        if let Some(token) = self.token.lock().clone() {
            request = request.header("Authorization", token);
        }
        let call = async {
            let mut answer = request.send().await.map_err(|error| Failure {
                is_refused: error.is_connect(),
                ..Failure::unclear(format!("{endpoint}: {}", chain(&error)))
            })?;
            let unclear = Failure::unclear;
            let mut text = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|error| unclear(chain(&error)))? {
                if text.len() + chunk.len() > ANSWER_MAX {
                    return Err(unclear(format!("{endpoint}: answer above {ANSWER_MAX} bytes")));
                }
                text.extend_from_slice(&chunk);
            }
            if !answer.status().is_success() {
                return Err(refused(endpoint, &text));
            }
            serde_json::from_slice(&text)
                .map_err(|error| unclear(format!("{endpoint}: an answer that is none: {error}")))
        };
        let late = || Failure::unclear(format!("{endpoint}: no answer within {limit:?}"));
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
    }

    /// Tokens end by themselves and with every change of a user. True if there is a new one.
    async fn log_in(&self) -> bool {
        let Some((name, password)) = &self.place.user else { return false };
        let body = json!({ "name": name, "password": password });
        for at in 0..self.place.endpoints.len() {
            *self.token.lock() = None;
            match self.post::<Token>(at, "/v3/auth/authenticate", &body).await {
                Ok(answer) => {
                    *self.token.lock() = Some(answer.token);
                    return true;
                }
                Err(failure) => tracing::warn!(error = failure.why, "log in at etcd"),
            }
        }
        false
    }

    /// Whether all members that answer are of a version that keeps what it was given.
    ///
    /// # Errors
    /// One is not, or none answers.
    pub(super) async fn check_version(&self) -> Result<(), StoreError> {
        let mut last = "no member answers".to_owned();
        let mut is_found = false;
        for endpoint in &self.place.endpoints {
            let request = self.http.get(format!("{endpoint}/version")).timeout(self.place.limit);
            let read = async { request.send().await?.json::<Version>().await };
            match read.await {
                Ok(Version { etcdserver })
                    if matches!(&*etcdserver, "3.5.0" | "3.5.1" | "3.5.2") =>
                {
                    return Err(StoreError::Unusable(format!(
                        "{endpoint} runs etcd {etcdserver}, which may corrupt data: upgrade it to 3.5.3 or later"
                    )));
                }
                Ok(_) => is_found = true,
                Err(error) => last = format!("{endpoint}: {}", chain(&error)),
            }
        }
        if is_found { Ok(()) } else { Err(StoreError::Away(last)) }
    }

    /// Answers go on, of one etcd: what went back is another one, or one that was restored (rule
    /// O7). Looked at against what was known when the question was sent, since answers overtake
    /// each other.
    fn went_on(&self, before: &Seen, header: &Header) -> Result<(), StoreError> {
        let is_other = !before.cluster_id.is_empty() && before.cluster_id != header.cluster_id;
        let went_back = header.revision < before.revision
            || header.raft_term.saturating_add(TERM_SLACK) < before.raft_term;
        let mut health = self.health.lock();
        if is_other || went_back {
            let lost = format!(
                "etcd answers with revision {} of term {}, and has answered with {} of {} before: it was restored, or is another one; this process ends",
                header.revision, header.raft_term, before.revision, before.raft_term
            );
            health.lost.get_or_insert(lost.clone());
            return Err(StoreError::Lost(lost));
        }
        (health.failed, health.answered) = (None, Some(Instant::now()));
        let mut seen = self.seen.lock();
        seen.cluster_id.clone_from(&header.cluster_id);
        seen.revision = seen.revision.max(header.revision);
        seen.raft_term = seen.raft_term.max(header.raft_term);
        Ok(())
    }

    fn fails(&self, what: &'static str, failure: Failure) -> StoreError {
        let mut health = self.health.lock();
        health.failures += 1;
        let since = health.failed.take().map_or_else(Instant::now, |(since, _)| since);
        health.failed = Some((since, failure.why.clone()));
        StoreError::Engine { what, cause: failure.why.into() }
    }

    /// What the member that is asked first has on its disk, bytes.
    pub(super) async fn bytes(&self) -> Option<u64> {
        self.status().await?.size()
    }

    /// What that member has and may have, bytes; `None` where it does not say.
    pub(super) async fn room(&self) -> Option<(u64, u64)> {
        let room = self.status().await?.room()?;
        Some((room.size, room.quota))
    }

    async fn status(&self) -> Option<Status> {
        let at = self.first.load(Ordering::Relaxed);
        self.post(at, "/v3/maintenance/status", &json!({})).await.ok()
    }

    /// Asks now and then how full it is.
    pub(super) async fn measure(&self) {
        if self.measured.lock().is_due(Instant::now()) {
            let status = self.status().await;
            let mut measured = self.measured.lock();
            let of = status.as_ref();
            measured.room(of.and_then(Status::size), of.and_then(Status::room));
            // One that does not answer has said nothing of it.
            if let Some(status) = status {
                measured.alarms(status.errors);
            }
        }
    }

    /// What may become a trouble.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.measured.lock().warnings(self.fresh_limit())
    }

    /// For `/metrics`.
    pub(super) fn measures(&self) -> Measures {
        let (answered_ago, failures) = {
            let health = self.health.lock();
            (health.answered.map(|at| at.elapsed()), health.failures)
        };
        let raft_term = u64::try_from(self.seen.lock().raft_term).unwrap_or(0);
        let measures = self.measured.lock().measures();
        let request_max = u64::try_from(self.place.request_max).ok();
        Measures { answered_ago, failures, raft_term, request_max, ..measures }
    }

    /// This process must end.
    pub(super) fn loses(&self, why: String) {
        self.health.lock().lost.get_or_insert(why);
    }

    pub(super) fn lost(&self) -> Option<String> {
        self.health.lock().lost.clone()
    }

    pub(super) fn trouble(&self) -> Option<String> {
        let health = self.health.lock();
        let failed = health.failed.as_ref().map(|(since, why)| {
            format!("etcd has not answered for {} s: {why}", since.elapsed().as_secs())
        });
        let refused = || health.refuses(Instant::now());
        health.lost.clone().or(failed).or_else(|| self.measured.lock().trouble()).or_else(refused)
    }

    pub(super) fn written_ago(&self) -> Option<Duration> {
        self.health.lock().written.map(|at| at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A role that was changed, or never did: reads go on, and nobody leads or fails over.
    #[test]
    fn changes_that_are_refused_again_and_again_are_told_though_reads_go_on() {
        let now = Instant::now();
        let why = refused("m", br#"{"code":7,"message":"etcdserver: permission denied"}"#);
        assert!(why.is_refused && why.is_answer);
        let mut health = Health { refused: Some((now, why.why)), ..Health::default() };
        let told = health.refuses(now + REFUSED / 2).expect("trouble");
        assert!(told.contains("permission denied"), "{told}");
        assert_eq!(health.refuses(now + REFUSED), None, "nobody wants one any more");
        health.refused = None;
        assert_eq!(health.refuses(now), None);
    }

    #[test]
    fn an_etcd_that_went_back_ends_the_process() {
        let place = Place { endpoints: vec!["http://127.0.0.1:1".to_owned()], ..Place::default() };
        let client = Client::new(place).expect("a client");
        let at = |revision, raft_term| Header { cluster_id: "c".to_owned(), revision, raft_term };
        let before = client.seen.lock().clone();
        client.went_on(&before, &at(100, 4)).expect("forward");
        let after = client.seen.lock().clone();
        // Sent before the other was read.
        client.went_on(&before, &at(90, 4)).expect("an answer that was overtaken");
        assert_eq!(client.lost(), None);
        assert!(client.went_on(&after, &at(99, 4)).is_err());
        assert!(client.lost().expect("an end").contains("restored"));
    }

    /// A member may call an election while it answers, once.
    #[test]
    fn a_raft_term_may_be_behind_by_one_and_another_etcd_is_none_that_went_on() {
        let place = Place { endpoints: vec!["http://127.0.0.1:1".to_owned()], ..Place::default() };
        let of = |cluster: &str, raft_term| Header {
            cluster_id: cluster.to_owned(),
            revision: 100,
            raft_term,
        };
        let cases =
            [(of("c", 4), true), (of("c", 3), true), (of("c", 2), false), (of("d", 4), false)];
        for (header, goes_on) in cases {
            let client = Client::new(place.clone()).expect("a client");
            client.went_on(&Seen::default(), &of("c", 4)).expect("forward");
            let after = client.seen.lock().clone();
            assert_eq!(client.went_on(&after, &header).is_ok(), goes_on, "{header:?}");
            assert_eq!(client.lost().is_none(), goes_on, "{header:?}");
        }
    }

    /// A member that says that it is of this version, of a cluster that began with an old one.
    async fn member(version: &str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = format!("http://{}", listener.local_addr().expect("an address"));
        let body = format!(r#"{{"etcdserver":"{version}","etcdcluster":"3.5.0"}}"#);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
        let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {
                    // The one that asked may be gone.
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        here
    }

    #[tokio::test]
    async fn members_of_versions_that_may_lose_data_are_refused() {
        let limit = Duration::from_secs(10);
        let check = async |versions: &[&str]| {
            let mut endpoints = Vec::new();
            for version in versions {
                endpoints.push(member(version).await);
            }
            let place = Place { endpoints, limit, ..Place::default() };
            Client::new(place).expect("a client").check_version().await
        };
        for version in ["3.4.23", "3.5.3", "3.5.16", "3.6.0"] {
            check(&[version]).await.expect(version);
        }
        for versions in [&["3.5.0"][..], &["3.5.1"], &["3.5.2"], &["3.5.16", "3.5.2"]] {
            let refused = check(versions).await.expect_err("a refusal");
            assert!(matches!(refused, StoreError::Unusable(_)), "{versions:?}: {refused}");
            assert!(refused.to_string().contains("3.5.3 or later"), "{refused}");
        }
    }
}
