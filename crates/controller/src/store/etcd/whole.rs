//! The etcd as a whole: all of it at once, its end, and its beginning from another store.
//!
//! Where it begins or ends, `store` and `leader` change in one transaction: whoever led makes no
//! change from then on, sees it with the next read and ends, and nobody claims, since a claim
//! compares `store`. `leader` then says what no version reads as a leader.
//!
//! An import takes many transactions. Until its last one `store` says that it has not ended, and of
//! which store it is, and each of them compares that: of two imports at a time one fails, and what
//! is not whole is led from by nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::claim::Leader;
use super::client::Client;
use super::journal::Journal;
use super::name::Name;
use super::used::Used;
use super::wire::{Answer, Compare, Range, Write};
use super::{Place, doubt, encode, journal, key_of, records, sealing, show, trial};
use crate::events::Event;
use crate::seal::Keys;
use crate::store::whole::{Beginning, CLOSED, Export, Found, GivenUp, Identity};
use crate::store::{FORMAT, StoreError, failed, fresh_tag, sealed};

/// All keys but `store` and `leader`: what ends in `/` is a prefix.
const CONTENT: [&str; 8] =
    ["namespaces/", "clusters/", "tags/", "users/", "events/", "history/", "acts/", "moves/"];
/// Operations in one transaction: etcd takes 128.
const AT_ONCE: usize = 100;
/// Bytes in one transaction: etcd takes 1.5 MiB.
const BYTES_AT_ONCE: usize = 512 << 10;

/// What is read for an export, all of one revision.
pub(super) fn ranges(prefix: &str) -> Vec<Range> {
    let key = |rest: &str| format!("{prefix}{rest}");
    let mut ranges = vec![
        Range::Key(key("store")),
        Range::Key(key("leader")),
        Range::All(key("namespaces/")),
        Range::All(key("clusters/")),
        Range::All(key("users/")),
    ];
    ranges.extend(journal::ROWS.map(|row| Range::All(key(row))));
    ranges
}

/// An export from the answer to that.
pub(super) fn export(
    answer: &Answer,
    prefix: &str,
    from: String,
    keys: &Keys,
) -> Result<Export, StoreError> {
    let name = answer.found(0);
    let name = name.value().ok_or_else(|| StoreError::Unusable(format!("{prefix} is empty")))?;
    let name = Name::parse(name)?;
    let namespaces = answer.found(2).pairs;
    let below = format!("{prefix}namespaces/");
    let namespaces = namespaces.iter().filter_map(|pair| pair.key.strip_prefix(&below));
    let below = format!("{prefix}users/");
    let mut users = BTreeMap::new();
    for pair in &answer.found(4).pairs {
        let Some(name) = pair.key.strip_prefix(&below) else { continue };
        let user = serde_json::from_str(&pair.value).map_err(failed("read a user"))?;
        users.insert(name.to_owned(), user);
    }
    let mut events = Vec::new();
    for row in 0..journal::ROWS.len() {
        events.extend(journal::read(&answer.found(5 + row))?);
    }
    events.sort_by_key(|event| event.number);
    Ok(Export {
        format: if name.format == CLOSED { FORMAT } else { name.format },
        identity: name.identity(),
        term: name.term.max(led_with(answer.found(1).value())),
        from,
        made_at_ms: crate::events::now_ms(),
        namespaces: namespaces.map(str::to_owned).collect(),
        clusters: records(&answer.found(3), keys)?,
        users,
        events,
    })
}

/// The term that `leader` names, if it names one.
fn led_with(leader: Option<&str>) -> u64 {
    let leader = leader.and_then(|text| serde_json::from_str::<Leader>(text).ok());
    leader.map_or(0, |leader| leader.term)
}

/// An etcd from which this process does not lead.
#[derive(Debug)]
pub(in crate::store) struct Idle {
    client: Client,
    place: String,
    prefix: String,
    keys: Arc<Keys>,
    /// Keys `store` and `leader`, as they were read last.
    read: (Option<String>, Option<String>),
}

impl Idle {
    /// Reaches it. Nothing is written.
    ///
    /// # Errors
    /// Nobody answers, or what answers cannot be used.
    pub(in crate::store) async fn open(place: Place) -> Result<Self, StoreError> {
        let (prefix, text, keys) = (place.prefix.clone(), place.text(), Arc::clone(&place.keys));
        let client = Client::new(place)?;
        client.check_version().await?;
        Ok(Self { client, place: text, prefix, keys, read: (None, None) })
    }

    fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// What is there.
    ///
    /// # Errors
    /// It cannot be read, or is of a later format.
    pub(in crate::store) async fn found(&mut self) -> Result<Found, StoreError> {
        let ranges = [
            Range::Key(self.key("store")),
            Range::Key(self.key("leader")),
            Range::Names(self.key("namespaces/")),
            Range::Names(self.key("clusters/")),
        ];
        let answer = self.client.read("look at the store", &ranges).await?;
        let (store, leader) = (answer.found(0), answer.found(1));
        self.read = (store.value().map(str::to_owned), leader.value().map(str::to_owned));
        let name = store.value().map(Name::parse).transpose()?;
        if let Some(name) = &name {
            match name.check(&self.place) {
                Err(error) if name.given_up.is_none() && name.filling.is_none() => {
                    return Err(error);
                }
                _ => {}
            }
        }
        let kept = name.as_ref().map_or(0, |name| name.term);
        Ok(Found {
            identity: name.as_ref().map(Name::identity),
            term: kept.max(led_with(leader.value())),
            namespaces: answer.found(2).pairs.len(),
            clusters: answer.found(3).pairs.len(),
            given_up: name.as_ref().and_then(|name| name.given_up.clone()),
            is_filling: name.as_ref().is_some_and(|name| name.filling.is_some()),
            filling_of: name.and_then(|name| name.filling_of),
        })
    }

    /// All of it, marked or not.
    ///
    /// # Errors
    /// It cannot be read.
    pub(in crate::store) async fn export(&self) -> Result<Export, StoreError> {
        let answer = self.client.read("export the store", &ranges(&self.prefix)).await?;
        export(&answer, &self.prefix, self.place.clone(), &self.keys)
    }

    /// Puts `store` and `leader`, and makes more writes, if both are as [`Self::found`] read them,
    /// and what is said beside is so.
    async fn turn(
        &mut self,
        what: &'static str,
        (name, leader): (&Name, String),
        beside: Vec<Compare>,
        more: Vec<Write>,
    ) -> Result<(), StoreError> {
        let as_read = |key: String, value: &Option<String>| match value {
            Some(value) => Compare::Is(key, value.clone()),
            None => Compare::Absent(key),
        };
        let (store, lead) = (self.key("store"), self.key("leader"));
        let mut compares =
            vec![as_read(store.clone(), &self.read.0), as_read(lead.clone(), &self.read.1)];
        compares.extend(beside);
        let text = encode(name)?;
        let mut writes = vec![Write::Put(store, text.clone()), Write::Put(lead, leader.clone())];
        writes.extend(more);
        let answer = self.client.write(what, &compares, &writes).await.done()?;
        if !answer.succeeded {
            return Err(StoreError::Conflict);
        }
        self.read = (Some(text), Some(leader));
        Ok(())
    }

    /// Marks it: from here on nobody leads from it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where it has changed since it was looked at; or it is not known
    /// whether it was done.
    pub(in crate::store) async fn give_up(
        &mut self,
        found: &Found,
        mark: &GivenUp,
    ) -> Result<(), StoreError> {
        let Some(identity) = found.identity.clone() else {
            return Err(StoreError::Unusable(format!("{} is empty", self.place)));
        };
        let name = Name {
            format: CLOSED,
            given_up: Some(mark.clone()),
            term: found.term,
            ..Name::of(identity, None)
        };
        let closed = json!({ "given_up": mark }).to_string();
        self.turn("give up the store", (&name, closed), Vec::new(), Vec::new()).await
    }

    /// Takes it up again as it is, under another generation and a higher term; `event` says so.
    ///
    /// # Errors
    /// As [`Self::give_up`].
    pub(in crate::store) async fn adopt(
        &mut self,
        as_: &Beginning,
        event: &Event,
    ) -> Result<(), StoreError> {
        let (name, vacant) = begun(as_)?;
        // What leads now makes no change once `leader` is another, so the log ends here.
        let mut log = Journal::read(&self.client, &self.prefix, as_.term).await?;
        let told = log.writes(&self.prefix, std::slice::from_ref(event))?;
        self.turn("adopt the store", (&name, vacant), Vec::new(), told).await
    }

    /// Shows that it would take all of `export`, as [`trial`] does.
    ///
    /// # Errors
    /// It would not, or does not answer.
    pub(in crate::store) async fn try_out(&self, export: &Export) -> Result<(), StoreError> {
        let pairs = content(&self.prefix, export, &self.keys)?;
        let bytes = |(key, value): &(String, String)| key.len() + value.len();
        let all: usize = pairs.iter().map(bytes).sum();
        let used = format!("{}used", self.prefix);
        // A cluster that gets a node is written with the addresses in use, and against them.
        let beside = pairs.iter().find(|pair| pair.0 == used).map_or(0, bytes);
        let largest = pairs.iter().filter(|pair| pair.0 != used).max_by_key(|pair| bytes(pair));
        let (of, largest) = largest.map_or((&used, 0), |pair| (&pair.0, bytes(pair)));
        let portions = portions(pairs.clone());
        let portions = portions.iter().map(|some| some.iter().map(bytes).sum::<usize>());
        let request = portions.max().unwrap_or(0).max(largest + 2 * beside);
        let wanted = trial::Wanted { request, of: of.clone(), all };
        let single = ["used", "store", "leader", sealing::KEY, doubt::KEY];
        trial::run(&self.client, (&self.prefix, &self.place), (&CONTENT, &single), &wanted).await
    }

    /// Replaces what it holds. What was begun and did not end is begun anew by the next one.
    ///
    /// # Errors
    /// As [`Self::give_up`].
    pub(in crate::store) async fn fill(
        &mut self,
        found: &Found,
        export: &Export,
        as_: &Beginning,
    ) -> Result<(), StoreError> {
        let attempt = format!("{:016x}", fresh_tag());
        let kept = found.identity.clone().unwrap_or_else(Identity::fresh);
        let filling = Name {
            format: CLOSED,
            filling: Some(attempt.clone()),
            filling_of: Some(export.identity.clone()),
            term: found.term.max(as_.term),
            ..Name::of(kept, None)
        };
        let closed = json!({ "filling": attempt }).to_string();
        // What was found empty is so still: its controllers may run, and be asked for a cluster.
        let is_empty = found.namespaces == 0 && found.clusters == 0 && !found.is_filling;
        let none_of = ["namespaces/", "clusters/"].map(|of| Compare::NoneOf(self.key(of)));
        let beside = none_of.into_iter().filter(|_| is_empty).collect();
        self.turn("begin an import", (&filling, closed), beside, Vec::new()).await?;
        let mut clear: Vec<Write> =
            CONTENT.iter().map(|prefix| Write::Clear(self.key(prefix))).collect();
        clear.extend(["used", sealing::KEY, doubt::KEY].map(|key| Write::Remove(self.key(key))));
        self.put(clear).await?;
        for some in portions(content(&self.prefix, export, &self.keys)?) {
            let puts = some.into_iter().map(|(key, value)| Write::Put(key, value));
            self.put(puts.collect()).await?;
        }
        let (name, vacant) = begun(as_)?;
        self.turn("end an import", (&name, vacant), Vec::new(), Vec::new()).await
    }

    /// Makes these writes, as long as `store` is as this process put it.
    async fn put(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let own = self.read.0.clone().unwrap_or_default();
        let compare = [Compare::Is(self.key("store"), own)];
        let answer = self.client.write("import into the store", &compare, &writes).await.done()?;
        if answer.succeeded { Ok(()) } else { Err(StoreError::Conflict) }
    }
}

/// The keys `store` and `leader` of one that begins: it is vacant, and its first leader has a
/// higher term.
fn begun(as_: &Beginning) -> Result<(Name, String), StoreError> {
    let name = Name::of(as_.identity.clone(), Some(as_.origin.clone()));
    let name = Name { instead_of: as_.takes.clone(), ..name };
    Ok((name, encode(&Leader::vacant(as_.term))?))
}

/// Keys and values as they go into one transaction each: as many as etcd takes, and no more bytes
/// than it need take for one of them alone.
fn portions(pairs: Vec<(String, String)>) -> Vec<Vec<(String, String)>> {
    let mut all = Vec::new();
    let (mut some, mut bytes) = (Vec::new(), 0);
    for (key, value) in pairs {
        let more = key.len() + value.len();
        if some.len() >= AT_ONCE || (!some.is_empty() && bytes + more > BYTES_AT_ONCE) {
            all.push(std::mem::take(&mut some));
            bytes = 0;
        }
        bytes += more;
        some.push((key, value));
    }
    all.push(some);
    all
}

/// Keys and values of all that an export has.
fn content(
    prefix: &str,
    export: &Export,
    keys: &Keys,
) -> Result<Vec<(String, String)>, StoreError> {
    let mut all = Vec::new();
    let mut used = Used::default();
    for name in &export.namespaces {
        all.push((format!("{prefix}namespaces/{name}"), String::new()));
    }
    for record in &export.clusters {
        used.take(record)?;
        all.push((format!("{prefix}{}", key_of("clusters", record)), sealed::text(record, keys)?));
        all.push((format!("{prefix}{}", key_of("tags", record)), show(record.tag)));
    }
    for (name, user) in &export.users {
        all.push((format!("{prefix}users/{name}"), encode(user)?));
    }
    all.push((format!("{prefix}used"), used.text()?));
    let seals = keys.sealing().map(|id| (format!("{prefix}{}", sealing::KEY), id.to_owned()));
    all.extend(seals);
    all.extend(journal::kept(prefix, &export.events)?);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use planner::Record;

    use super::*;
    use crate::cluster::test_record;
    use crate::events::Event;

    #[test]
    fn a_store_that_is_built_has_every_key_that_its_controllers_look_at() {
        let record = Record { tag: 10, ..test_record() };
        let events = ["failover", "alarm", "operator", "move"]
            .map(|kind| Event::now(1, "n/c".to_owned(), kind, "x".to_owned()));
        let export = Export {
            format: FORMAT,
            identity: Identity::fresh(),
            term: 1,
            from: String::new(),
            made_at_ms: 0,
            namespaces: vec!["n".to_owned()],
            clusters: vec![record.clone()],
            users: BTreeMap::from([("deploy".to_owned(), json!({ "hash": "ab" }))]),
            events: events.into(),
        };
        let all = content("/p/", &export, &Keys::default()).expect("keys");
        let keys: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "/p/namespaces/n",
                "/p/clusters/n/c",
                "/p/tags/n/c",
                "/p/users/deploy",
                "/p/used",
                "/p/events/00000000000000000001",
                "/p/history/00000000000000000001",
                "/p/acts/00000000000000000001",
                "/p/moves/00000000000000000001",
            ]
        );
        assert_eq!(all[2].1, "000000000000000a");
        assert_eq!(all[3].1, r#"{"hash":"ab"}"#);
        assert!(all[4].1.contains("node 127.0.0.1:1"), "{}", all[4].1);
        // Two clusters on one node cannot be led from any store.
        let twice = Record { name: "d".to_owned(), ..record };
        let export = Export { clusters: vec![export.clusters[0].clone(), twice], ..export };
        let refused = content("/p/", &export, &Keys::default());
        assert!(matches!(refused, Err(StoreError::Used { .. })));
    }

    #[test]
    fn no_request_of_an_import_is_larger_than_it_must_be() {
        let of = |bytes: usize| (String::new(), "x".repeat(bytes));
        let sizes = |pairs: Vec<_>| {
            let size = |some: &Vec<(String, String)>| some.iter().map(|pair| pair.1.len()).sum();
            portions(pairs).iter().map(size).collect::<Vec<usize>>()
        };
        let half = BYTES_AT_ONCE / 2;
        assert_eq!(sizes(vec![of(half), of(half), of(1)]), [2 * half, 1]);
        assert_eq!(sizes(vec![of(1), of(3 * half), of(1)]), [1, 3 * half, 1]);
        assert_eq!(sizes(vec![of(1); AT_ONCE + 1]), [AT_ONCE, 1]);
        assert_eq!(sizes(Vec::new()), [0]);
    }

    #[test]
    fn a_closed_store_names_no_leader() {
        for closed in [json!({ "given_up": { "term": 7 } }), json!({ "filling": "ab" })] {
            let text = closed.to_string();
            assert!(serde_json::from_str::<Leader>(&text).is_err(), "{text}");
            assert_eq!(led_with(Some(&text)), 0);
        }
        let vacant = encode(&Leader::vacant(7)).expect("a text");
        assert_eq!(led_with(Some(&vacant)), 7);
        assert_eq!(led_with(None), 0);
    }
}
