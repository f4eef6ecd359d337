//! The store that several controllers share: an etcd of version 3, by its JSON gateway.
//!
//! Invariants: every change compares the key `leader` with the claim of this process in the same transaction (rule O1), so
//! what an older leader had under way fails, whenever it arrives; a record is compared by its tag, never by a revision of
//! etcd (O6). Each call is linearizable and has a limit (O9). Nothing is watched: standbys read what changed since.
//!
//! Keys, below a prefix: `store` (format, name and generation), `leader`, `namespaces/NS`, `users/NAME`, `clusters/NS/C`
//! (the record), `tags/NS/C`, `used` (which cluster has which address: a transaction may not look at every cluster), `events/N` and
//! `history/N`.

mod claim;
mod client;
mod journal;
mod measured;
mod name;
mod named;
#[cfg(test)]
#[path = "../../tests/support/etcd.rs"]
#[allow(unreachable_pub, reason = "tests of the crate and of its outside share it")]
pub(crate) mod server;
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

use self::claim::Claims;
pub use self::claim::{Leader, Look};
use self::client::Client;
use self::journal::Journal;
use self::name::Name;
use self::used::Used;
pub(super) use self::whole::Idle;
use self::wire::{Answer, Compare, Found, Range, Write};
use super::{
    About, Change, Export, Identity, Outcome, Records, Store, StoreError, Wanted, Work, failed,
};
use crate::access::User;
use crate::events::Event;

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
    /// By what members behind `https://` are known, and what is shown to them.
    pub tls: Arc<Tls>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            prefix: "/holdfast/".to_owned(),
            user: None,
            limit: Duration::from_millis(250),
            tls: Arc::default(),
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
    /// Nobody answers, or what answers cannot be used.
    pub async fn open(place: Place) -> Result<Self, StoreError> {
        let (prefix, text) = (place.prefix.clone(), place.text());
        let client = Client::new(place)?;
        client.check_version().await?;
        let key = format!("{prefix}store");
        let fresh = encode(&Name::of(Identity::fresh(), None))?;
        let read = client.read("read the store's name", &[Range::Key(key.clone())]).await?;
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
            claims: Mutex::new(Claims { held, unknown: Vec::new(), term }),
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

    /// Makes a change as the leader. The answer's ranges show the compares in their order, behind that of the claim.
    async fn change(
        &self,
        what: &'static str,
        compares: Vec<Compare>,
        writes: Vec<Write>,
    ) -> Outcome<Changed> {
        let Some(claim) = self.claims.lock().held.clone() else {
            return Outcome::NotDone(StoreError::Lost("this controller does not lead".to_owned()));
        };
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
    async fn logged(&self, events: &[Event]) -> Result<Vec<Write>, StoreError> {
        let mut journal = self.journal.lock().await;
        let term = self.claims.lock().held.as_ref().map_or(0, |claim| claim.term);
        if journal.as_ref().is_none_or(|journal| journal.term != term) {
            // Another leader may have written since.
            *journal = Some(Journal::read(&self.client, &self.prefix, term).await?);
        }
        match journal.as_mut() {
            Some(journal) => journal.writes(&self.prefix, events),
            None => Ok(Vec::new()),
        }
    }

    /// The addresses in use, and what shows whether they are still so.
    async fn used(&self) -> Result<(Used, Compare), StoreError> {
        let key = self.key("used");
        let read =
            self.client.read("read the addresses in use", &[Range::Key(key.clone())]).await?;
        match read.found(0).value() {
            None => Ok((Used::default(), Compare::Absent(key))),
            Some(text) => {
                let used = Used::parse(text).map_err(failed("read the addresses in use"))?;
                // Its value has a tag, as a record: it is never the same twice.
                Ok((used, Compare::Is(key, text.to_owned())))
            }
        }
    }

    async fn put(&self, old: Option<&Record>, record: &Record, events: &[Event]) -> Outcome {
        let (doc, tag) = (key_of("clusters", record), key_of("tags", record));
        let (doc, tag) = (self.key(&doc), self.key(&tag));
        let (namespace, compare) = match old {
            Some(old) => (None, Compare::Is(tag.clone(), show(old.tag))),
            None => {
                let key = self.key(&format!("namespaces/{}", record.namespace));
                (Some(Compare::Present(key)), Compare::Absent(tag.clone()))
            }
        };
        for _ in 0..AGAIN {
            let mut writes = match self.logged(events).await {
                Ok(writes) => writes,
                Err(error) => return Outcome::NotDone(error),
            };
            let text = match encode(record) {
                Ok(text) => text,
                Err(error) => return Outcome::NotDone(error),
            };
            writes.push(Write::Put(doc.clone(), text));
            writes.push(Write::Put(tag.clone(), show(record.tag)));
            let mut compares = vec![compare.clone()];
            compares.extend(namespace.clone());
            if old.is_none_or(|old| used::addresses(old) != used::addresses(record)) {
                match self.reserve(record).await {
                    Ok((write, as_before)) => {
                        writes.push(write);
                        compares.push(as_before);
                    }
                    Err(error) => return Outcome::NotDone(error),
                }
            }
            let found = match self.change("change a cluster", compares, writes).await {
                Outcome::Done(Changed::Made) => return Outcome::Done(()),
                Outcome::Done(Changed::Found(answer)) => answer,
                Outcome::NotDone(error) => return Outcome::NotDone(error),
                Outcome::Unknown(error) => return Outcome::Unknown(error),
            };
            let is_as_before = match old {
                Some(old) => found.found(1).value() == Some(&show(old.tag)),
                None => found.found(1).value().is_none(),
            };
            if !is_as_before {
                let is_there = found.found(1).value().is_some();
                return Outcome::NotDone(match (old.is_some(), is_there) {
                    (true, false) => StoreError::NotFound,
                    (true, true) => StoreError::Conflict,
                    (false, _) => StoreError::Exists,
                });
            }
            if namespace.is_some() && found.found(2).value().is_none() {
                return Outcome::NotDone(StoreError::NotFound);
            }
            // The addresses in use have changed meanwhile.
        }
        Outcome::NotDone(StoreError::Conflict)
    }

    async fn reserve(&self, record: &Record) -> Result<(Write, Compare), StoreError> {
        let (mut used, as_before) = self.used().await?;
        used.take(record)?;
        Ok((Write::Put(self.key("used"), used.text()?), as_before))
    }

    async fn forget(&self, namespace: String, name: String, event: Event) -> Outcome {
        let doc = self.key(&format!("clusters/{namespace}/{name}"));
        let tag = self.key(&format!("tags/{namespace}/{name}"));
        for _ in 0..AGAIN {
            let prepared = async {
                let mut writes = self.logged(std::slice::from_ref(&event)).await?;
                let (mut used, as_before) = self.used().await?;
                used.release(&format!("{namespace}/{name}"));
                writes.push(Write::Put(self.key("used"), used.text()?));
                writes.extend([Write::Remove(doc.clone()), Write::Remove(tag.clone())]);
                Ok((writes, as_before))
            };
            let (writes, as_before) = match prepared.await {
                Ok(prepared) => prepared,
                Err(error) => return Outcome::NotDone(error),
            };
            let compares = vec![Compare::Present(tag.clone()), as_before];
            match self.change("delete a cluster", compares, writes).await {
                Outcome::Done(Changed::Made) => return Outcome::Done(()),
                Outcome::Done(Changed::Found(answer)) if answer.found(1).value().is_none() => {
                    return Outcome::NotDone(StoreError::NotFound);
                }
                Outcome::Done(Changed::Found(_)) => {}
                Outcome::NotDone(error) => return Outcome::NotDone(error),
                Outcome::Unknown(error) => return Outcome::Unknown(error),
            }
        }
        Outcome::NotDone(StoreError::Conflict)
    }

    async fn append_all(&self, events: Vec<Event>) -> Outcome {
        for some in events.chunks(journal::AT_ONCE) {
            let writes = match self.logged(some).await {
                Ok(writes) => writes,
                Err(error) => return Outcome::NotDone(error),
            };
            match self.change("write events", Vec::new(), writes).await {
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
            Ok(records(&read.found(0))?.pop())
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

    fn remove_user(&self, name: String, event: Event) -> Work<'_, Outcome> {
        Box::pin(async move { self.drop_user(&name, &event).await })
    }

    fn clusters(&self) -> Work<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let all = [Range::All(self.key("clusters/"))];
            records(&self.client.read("read clusters", &all).await?.found(0))
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

    /// Who leads is read all the time, which shows the same and costs etcd nothing. How full it is
    /// must be asked for.
    fn probe(&self) -> Work<'_, ()> {
        Box::pin(self.client.measure())
    }

    fn warnings(&self) -> Vec<String> {
        self.client.warnings()
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

    fn export(&self) -> Work<'_, Result<Export, StoreError>> {
        Box::pin(async move {
            let ranges = whole::ranges(&self.prefix);
            let what = "export the store";
            let read = self.client.read_within(EXPORT_LIMIT, what, &ranges).await?;
            whole::export(&read, &self.prefix, self.place.clone())
        })
    }
}

fn encode<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(failed("encode for the store"))
}

fn records(found: &Found) -> Result<Vec<Record>, StoreError> {
    let read =
        |pair: &wire::Pair| serde_json::from_str(&pair.value).map_err(failed("read a cluster"));
    found.pairs.iter().map(read).collect()
}

fn key_of(what: &str, record: &Record) -> String {
    format!("{what}/{}/{}", record.namespace, record.name)
}

/// A tag as its key has it.
fn show(tag: u64) -> String {
    format!("{tag:016x}")
}
