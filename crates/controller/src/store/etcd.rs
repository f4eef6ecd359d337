//! The store that several controllers share: an etcd of version 3, by its JSON gateway.
//!
//! Invariants: every change compares the key `leader` with the claim of this process in the same
//! transaction (rule O1), so what an older leader had under way fails, whenever it arrives; a
//! record is compared by its tag, never by a revision of etcd (O6). Each call is linearizable and
//! has a limit (O9). Nothing is watched: standbys read what changed since.
//!
//! Keys, below a prefix: `store` (format, name and generation), `leader`, `namespaces/NS`,
//! `users/NAME`, `clusters/NS/C` (the record), `tags/NS/C`, `used` (which cluster has which
//! address: a transaction may not look at every cluster), `sealing` (the id of the key that the
//! leader seals with), `doubt` (what one that stands by asks the leader), and the log: `events/N`,
//! `history/N`, `acts/N` and `moves/N`.

mod claim;
mod client;
mod clusters;
mod doubt;
mod failure;
mod full;
mod journal;
mod measured;
mod name;
mod named;
mod sealing;
#[cfg(test)]
#[path = "../../tests/support/etcd.rs"]
#[allow(unreachable_pub, reason = "tests of the crate and of its outside share it")]
pub(crate) mod server;
mod sizes;
mod trial;
mod used;
mod whole;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use api::store::StoreId;
use parking_lot::Mutex;
use planner::Record;
use serde::Serialize;
use web::tls::Tls;

use self::claim::{Claim, Claims};
pub use self::claim::{Leader, Look};
use self::client::Client;
use self::clusters::{key_of, records, show};
pub use self::doubt::Doubt;
use self::journal::Journal;
use self::name::Name;
use self::sizes::Sizes;
pub(super) use self::whole::Idle;
use self::wire::{Answer, Compare, Range, Write};
use super::{
    About, Change, Export, Has, Held, Identity, Measures, Outcome, Records, Store, StoreError,
    Wanted, Weight, Work, failed, sealed,
};
use crate::access::User;
use crate::events::Event;
use crate::seal::Keys;

/// The largest request that an etcd takes unless its members are told otherwise, bytes.
const REQUEST_MAX: usize = 1_536 << 10;

/// How to reach an etcd.
#[derive(Debug, Clone)]
pub struct Place {
    /// `http://host:port` or `https://host:port` of each member.
    pub endpoints: Vec<String>,
    /// What all keys begin with; ends in `/`.
    pub prefix: String,
    /// Name and password, where etcd asks for them.
    pub user: Option<(String, String)>,
    /// Limit of a call.
    pub limit: Duration,
    /// The largest request that its members take, bytes, as far as is known: etcd does not say.
    pub request_max: usize,
    /// By what members behind `https://` are known, and what is shown to them.
    pub tls: Arc<Tls>,
    /// What secrets are sealed with there.
    pub keys: Arc<Keys>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            prefix: "/holdfast/".to_owned(),
            user: None,
            limit: Duration::from_millis(250),
            request_max: REQUEST_MAX,
            tls: Arc::default(),
            keys: Arc::default(),
        }
    }
}

impl Place {
    /// For people.
    pub(super) fn text(&self) -> String {
        format!("etcd {} {}", self.endpoints.join(","), self.prefix)
    }
}

/// An etcd that several controllers share.
#[derive(Debug)]
pub struct Etcd {
    client: Client,
    /// For people.
    place: String,
    prefix: String,
    identity: Identity,
    /// Where its content came from.
    origin: Option<String>,
    /// The stores whose place it takes.
    takes: Vec<StoreId>,
    /// The key `store` as this process began with it.
    name_text: String,
    claims: Mutex<Claims>,
    keys: Arc<Keys>,
    /// The key `sealing`, as it was read last.
    sealing: Mutex<Option<String>>,
    sizes: Sizes,
    journal: tokio::sync::Mutex<Option<Journal>>,
}

/// Limit of a read of all that there is.
const EXPORT_LIMIT: Duration = Duration::from_secs(4);

/// How often a change is made again that found another one of the addresses in use.
const AGAIN: usize = 8;

impl Etcd {
    /// Reaches an etcd, and gives the store a name if it has none.
    ///
    /// # Errors
    /// Nobody answers, what answers cannot be used, or its leader seals with a key that is not
    /// here.
    pub async fn open(place: Place) -> Result<Self, StoreError> {
        let (prefix, text, keys) = (place.prefix.clone(), place.text(), Arc::clone(&place.keys));
        let client = Client::new(place)?;
        client.check_version().await?;
        let key = format!("{prefix}store");
        let fresh = encode(&Name::of(Identity::fresh(), None))?;
        let ranges = [Range::Key(key.clone()), Range::Key(format!("{prefix}{}", sealing::KEY))];
        let read = client.read("read the store's name", &ranges).await?;
        let sealing = read.found(1).value().map(str::to_owned);
        sealing::check(sealing.as_deref(), &keys, &text)?;
        let name_text = match read.found(0).value() {
            Some(text) => text.to_owned(),
            None => {
                let made = [Write::Put(key.clone(), fresh.clone())];
                let answer =
                    client.write("name the store", &[Compare::Absent(key)], &made).await.done()?;
                match answer.found(0).value() {
                    // Another controller was faster.
                    Some(text) if !answer.succeeded => text.to_owned(),
                    _ => fresh,
                }
            }
        };
        let name = Name::parse(&name_text)?;
        name.check(&text)?;
        Ok(Self {
            client,
            place: text,
            prefix,
            identity: name.identity(),
            origin: name.origin,
            takes: name.instead_of,
            name_text,
            claims: Mutex::new(Claims::default()),
            keys,
            sealing: Mutex::new(sealing),
            sizes: Sizes::default(),
            journal: tokio::sync::Mutex::new(None),
        })
    }

    /// The same store and claim by another way.
    #[cfg(test)]
    pub(crate) fn through(&self, place: Place) -> Result<Self, StoreError> {
        let claims = self.claims.lock();
        let (held, term) = (claims.held.clone(), claims.term);
        Ok(Self {
            client: Client::new(place)?,
            place: self.place.clone(),
            prefix: self.prefix.clone(),
            identity: self.identity.clone(),
            origin: self.origin.clone(),
            takes: self.takes.clone(),
            name_text: self.name_text.clone(),
            claims: Mutex::new(Claims { held, term, ..Claims::default() }),
            keys: Arc::clone(&self.keys),
            sealing: Mutex::new(self.sealing.lock().clone()),
            sizes: Sizes::default(),
            journal: tokio::sync::Mutex::new(self.journal.try_lock().ok().and_then(|known| *known)),
        })
    }

    /// What this store is called.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// The claim under which something is to be changed: looked at when that is decided, and not
    /// once it is sent. Another may have led in between, and this process again since.
    fn claimed(&self) -> Result<Claim, StoreError> {
        let held = self.claims.lock().held.clone();
        held.ok_or_else(|| StoreError::Lost("this controller does not lead".to_owned()))
    }

    /// Makes a change as the leader by that claim. The answer's ranges show the compares in their
    /// order, behind that of the claim.
    async fn change(
        &self,
        (what, claim): (&'static str, &Claim),
        compares: Vec<Compare>,
        writes: Vec<Write>,
    ) -> Outcome<Changed> {
        let mut all = vec![Compare::Is(self.key("leader"), claim.value.clone())];
        all.extend(compares);
        match self.client.write(what, &all, &writes).await {
            Outcome::Done(answer) if answer.succeeded => Outcome::Done(Changed::Made),
            Outcome::Done(answer) => {
                let leads = answer.found(0);
                if leads.value() == Some(&claim.value) {
                    return Outcome::Done(Changed::Found(answer));
                }
                drop(self.noted(leads.value()));
                Outcome::NotDone(StoreError::Lost("another controller leads now".to_owned()))
            }
            Outcome::NotDone(error) => Outcome::NotDone(error),
            Outcome::Unknown(error) => Outcome::Unknown(error),
        }
    }

    /// What appends these events, behind whatever else the transaction does.
    async fn logged(&self, claim: &Claim, events: &[Event]) -> Result<Vec<Write>, StoreError> {
        let mut journal = self.journal.lock().await;
        let term = claim.term;
        if self.holds() != Some(term) {
            // Numbers are given out under the current claim alone.
            return Err(StoreError::Lost("another controller has led meanwhile".to_owned()));
        }
        if journal.as_ref().is_none_or(|journal| journal.term != term) {
            // Another leader may have written since.
            *journal = Some(Journal::read(&self.client, &self.prefix, term).await?);
        }
        match journal.as_mut() {
            Some(journal) => journal.writes(&self.prefix, events),
            None => Ok(Vec::new()),
        }
    }

    async fn append_all(&self, events: Vec<Event>) -> Outcome {
        let claim = match self.claimed() {
            Ok(claim) => claim,
            Err(error) => return Outcome::NotDone(error),
        };
        for some in events.chunks(journal::AT_ONCE) {
            let writes = match self.logged(&claim, some).await {
                Ok(writes) => writes,
                Err(error) => return Outcome::NotDone(error),
            };
            match self.change(("write events", &claim), Vec::new(), writes).await {
                Outcome::Done(_) => {}
                Outcome::NotDone(error) => return Outcome::NotDone(error),
                Outcome::Unknown(error) => return Outcome::Unknown(error),
            }
        }
        Outcome::Done(())
    }
}

/// What a change came to.
enum Changed {
    /// It is made.
    Made,
    /// A compare was not so; this is how it is.
    Found(Answer),
}

impl Records for Etcd {
    fn swap(&self, change: Change) -> Work<'_, Outcome> {
        Box::pin(async move { self.put(Some(&change.was), &change.record, &change.events()).await })
    }

    fn cluster<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> Work<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            let key = self.key(&format!("clusters/{namespace}/{name}"));
            let read = self.client.read("read a cluster", &[Range::Key(key)]).await?;
            Ok(records(&read.found(0), &self.keys)?.pop())
        })
    }

    /// A proposal may be made long after its client gave up.
    fn writes_may_arrive_late(&self) -> bool {
        true
    }
}

impl Store for Etcd {
    fn namespaces(&self) -> Work<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let prefix = self.key("namespaces/");
            let read = self.client.read("read namespaces", &[Range::Names(prefix.clone())]).await?;
            let names = read.found(0).pairs;
            let names = names.iter().filter_map(|pair| pair.key.strip_prefix(&prefix));
            Ok(names.map(str::to_owned).collect())
        })
    }

    fn create_namespace(&self, name: String, event: Event) -> Work<'_, Outcome> {
        Box::pin(async move { self.add_namespace(&name, &event).await })
    }

    fn delete_namespace(&self, name: String, event: Event) -> Work<'_, Outcome> {
        Box::pin(async move { self.remove_namespace(&name, &event).await })
    }

    fn users(&self) -> Work<'_, Result<Vec<User>, StoreError>> {
        Box::pin(self.all_users())
    }

    fn add_user(&self, user: User, event: Event) -> Work<'_, Outcome> {
        Box::pin(async move { self.put_user(&user, &event).await })
    }

    fn saw_users(&self, seen: Vec<(String, u64)>) -> Work<'_, Outcome> {
        Box::pin(async move { self.note_users(&seen).await })
    }

    fn remove_user(&self, name: String, event: Event) -> Work<'_, Outcome> {
        Box::pin(async move { self.drop_user(&name, &event).await })
    }

    fn clusters(&self) -> Work<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let all = [Range::All(self.key("clusters/"))];
            records(&self.client.read("read clusters", &all).await?.found(0), &self.keys)
        })
    }

    fn create(&self, record: Record, event: Event) -> Work<'_, Outcome> {
        Box::pin(async move { self.put(None, &record, &[event]).await })
    }

    fn delete(&self, namespace: String, name: String, event: Event) -> Work<'_, Outcome> {
        Box::pin(self.forget(namespace, name, event))
    }

    fn append(&self, events: Vec<Event>) -> Work<'_, Outcome> {
        Box::pin(self.append_all(events))
    }

    fn events(&self, limit: usize, wanted: Wanted) -> Work<'_, Result<Vec<Event>, StoreError>> {
        Box::pin(async move { journal::newest(&self.client, &self.prefix, limit, &wanted).await })
    }

    /// The leader is read all the time, which shows the same and costs etcd nothing. How full it is
    /// must be asked for.
    fn probe(&self) -> Work<'_, ()> {
        Box::pin(self.client.measure())
    }

    fn warnings(&self) -> Vec<String> {
        self.client.warnings()
    }

    fn weight(&self, namespace: &str, name: &str) -> Option<Weight> {
        let bytes = self.sizes.of(namespace, name)?;
        Some(Weight { bytes, limit: self.client.request_max() })
    }

    fn measures(&self) -> Option<Measures> {
        let leader_changes = self.claims.lock().changes;
        Some(Measures { leader_changes, ..self.client.measures() })
    }

    fn trouble(&self) -> Option<String> {
        self.client.trouble()
    }

    fn lost(&self) -> Option<String> {
        self.client.lost()
    }

    fn written_ago(&self) -> Option<Duration> {
        self.client.written_ago()
    }

    fn term(&self) -> u64 {
        self.claims.lock().term
    }

    fn about(&self) -> About {
        let (place, identity) = (self.place.clone(), self.identity.clone());
        let (origin, takes) = (self.origin.clone(), self.takes.clone());
        About { kind: "etcd", place, identity, origin, takes }
    }

    fn bytes(&self) -> Work<'_, Option<u64>> {
        Box::pin(self.client.bytes())
    }

    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn held(&self) -> Work<'_, Result<Vec<Held>, StoreError>> {
        Box::pin(async move {
            let clusters = self.key("clusters/");
            let all = [Range::All(clusters.clone())];
            let read = self.client.read("look at secrets", &all).await?.found(0);
            // One that cannot be read hides no other.
            let unread = |key: &str| {
                let (namespace, name) = key.strip_prefix(&clusters)?.split_once('/')?;
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                Some(Held { namespace, name, has: Has::Unread })
            };
            let all = read.pairs.iter().filter_map(|pair| {
                sealed::held(pair.value.as_bytes()).ok().or_else(|| unread(&pair.key))
            });
            Ok(all.collect())
        })
    }

    fn export(&self) -> Work<'_, Result<Export, StoreError>> {
        Box::pin(async move {
            let ranges = whole::ranges(&self.prefix);
            let what = "export the store";
            let read = self.client.read_within(EXPORT_LIMIT, what, &ranges).await?;
            whole::export(&read, &self.prefix, self.place.clone(), &self.keys)
        })
    }
}

fn encode<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(failed("encode for the store"))
}
