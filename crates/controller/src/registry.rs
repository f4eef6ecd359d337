//! Every cluster of this controller.

mod in_short;
mod namespaces;
mod unread;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::rest::Actor;
use parking_lot::Mutex;
use planner::{Guard, Hearing, Record};

use crate::cluster::{Cluster, STORE_LIMIT, Shared, UpdateError, losses, rival};
use crate::events::Event;
use crate::store::{Look, Outcome, Store, StoreError, fresh_tag};

pub(crate) use self::in_short::{InShort, Seen};

type Key = (String, String);

/// How often the store is looked at.
const WATCH_PACE: Duration = Duration::from_millis(500);
/// Longest wait for a connection to the controller that leads.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Between two attempts to read what became of a change.
const READ_RETRY: Duration = Duration::from_millis(200);

/// Running clusters by namespace and name.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) shared: Arc<Shared>,
    clusters: Mutex<BTreeMap<Key, Arc<Cluster>>>,
    /// Clusters of a shared store whose record cannot be read, and why.
    unread: Mutex<BTreeMap<Key, String>>,
    /// Those of them whose secrets do not open here.
    locked: Mutex<BTreeSet<Key>>,
    /// Asks the controller that leads, where this one does not.
    pub(crate) passing: reqwest::Client,
    /// For those who look at all clusters.
    pub(crate) in_short: InShort,
}

impl Registry {
    /// No cluster yet: who leads, and what there is, comes from [`crate::lead`].
    pub(crate) fn new(shared: Arc<Shared>) -> anyhow::Result<Arc<Self>> {
        let tls = shared.tls.client().context("prepare TLS with other controllers")?;
        let passing = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .no_proxy()
            // One hop (rule O10), and no further one with a token and a body.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .build()
            .context("prepare requests to other controllers")?;
        let (clusters, unread, locked) = (Mutex::default(), Mutex::default(), Mutex::default());
        let in_short = InShort::default();
        Ok(Arc::new(Self { shared, clusters, unread, locked, passing, in_short }))
    }

    /// Runs the records that a look shows, newer ones of clusters that run already, and none that
    /// is not named.
    pub(crate) fn follow(&self, look: Look) {
        let Look { changed, unread, locked, names, .. } = look;
        self.could_read(&changed, (unread, locked), &names);
        for record in changed {
            let key = (record.namespace.clone(), record.name.clone());
            let mut known = self.clusters.lock().get(&key).map(Arc::clone);
            // What leads has newer ones than it reads, now and then.
            if !self.shared.leads()
                && let Some(gone) = known.take_if(|known| is_another(&known.record(), &record))
            {
                gone.stop();
            }
            let done = match known {
                Some(cluster) => cluster.adopt(Arc::new(record)).map_err(UpdateError::from),
                None => self.run(record, None).map(drop),
            };
            if let Err(error) = done {
                tracing::error!(cluster = format!("{}/{}", key.0, key.1), %error, "follow the store");
            }
        }
        self.clusters.lock().retain(|key, cluster| {
            let is_there = names.contains(key);
            if !is_there {
                cluster.stop();
            }
            is_there
        });
    }

    /// As the leader: runs what could not be read before and can be now. What else there is has
    /// newer records here than any look shows.
    pub(crate) fn read_again(&self, look: Look) {
        let Look { mut changed, unread, locked, names, .. } = look;
        changed.retain(|record| self.unread(&record.namespace, &record.name).is_some());
        self.could_read(&changed, (unread, locked), &names);
        for record in changed {
            let cluster = format!("{}/{}", record.namespace, record.name);
            if let Err(error) = self.run(record, None) {
                tracing::error!(cluster, %error, "run a cluster");
            }
        }
    }

    /// This process leads every cluster from here on. What it knows of one whose record it cannot
    /// read is outdated, and nothing to lead by.
    pub(crate) fn leads(&self, term: u64) {
        for key in self.unread.lock().keys() {
            if let Some(cluster) = self.clusters.lock().remove(key) {
                cluster.stop();
            }
        }
        for cluster in self.all() {
            cluster.leads(term);
        }
        let text = format!("controller leads with term {term}{}", seals(&*self.shared.store));
        self.shared.journal.add(Event::now(term, String::new(), "start", text));
        self.recall();
    }

    /// What earlier controllers said was lost is said again, as soon as the store tells.
    fn recall(&self) {
        tokio::spawn(losses::recall(Arc::clone(&self.shared), self.all()));
    }

    /// What all nodes say of who leads them.
    pub(crate) fn witnesses(&self) -> Vec<planner::Witness> {
        self.all().iter().flat_map(|cluster| cluster.witnesses()).collect()
    }

    /// What this process hears of all nodes.
    pub(crate) fn hearing(&self) -> Hearing {
        let mut hearing = Hearing::default();
        self.all().iter().for_each(|cluster| cluster.hears(&mut hearing));
        hearing.unread = self.unread_count();
        hearing
    }

    /// Starts every cluster of the store.
    ///
    /// With `from`, where the store was before it was copied or moved here, they lead once their
    /// nodes hear of nobody else.
    pub(crate) async fn start(
        shared: Arc<Shared>,
        from: Option<String>,
    ) -> anyhow::Result<Arc<Self>> {
        let registry = Self::new(Arc::clone(&shared))?;
        registry.read_users().await?;
        for record in registry.store(|store| async move { store.clusters().await }).await? {
            let guard = from.clone().map(|from| rival::guard(&shared, from));
            registry.run(record, guard)?;
        }
        let event = Event::now(
            shared.store.term(),
            String::new(),
            "start",
            format!(
                "controller started with term {}{}",
                shared.store.term(),
                seals(&*shared.store)
            ),
        );
        registry.store(|store| async move { store.append(vec![event]).await.done() }).await?;
        registry.recall();
        Ok(registry)
    }

    /// Runs `work` to its end, and waits for it, not for ever.
    pub(crate) async fn store<T, F>(
        &self,
        work: impl FnOnce(Arc<dyn Store>) -> F,
    ) -> Result<T, UpdateError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let call = self.shared.call().await?;
        let work = work(Arc::clone(&self.shared.store));
        let work = tokio::spawn(async move {
            let done = work.await;
            drop(call);
            done
        });
        match tokio::time::timeout(STORE_LIMIT, work).await {
            Ok(done) => Ok(done.map_err(|_| UpdateError::Gone)??),
            Err(_) => Err(StoreError::Silent(STORE_LIMIT).into()),
        }
    }

    /// The record in the store after a change whose outcome was not told, as soon as it can be
    /// read.
    async fn told(&self, (namespace, name): &Key) -> Option<Record> {
        loop {
            let (namespace, name) = (namespace.clone(), name.clone());
            let read =
                |store: Arc<dyn Store>| async move { store.cluster(&namespace, &name).await };
            match self.store(read).await {
                Ok(record) => return record,
                Err(error) => tracing::warn!(%error, "read what became of a change"),
            }
            tokio::time::sleep(READ_RETRY).await;
        }
    }

    /// Ends those who wait for `work` after a while; it goes on.
    async fn bounded<T: Send + 'static>(
        work: impl Future<Output = Result<T, UpdateError>> + Send + 'static,
    ) -> Result<T, UpdateError> {
        match tokio::time::timeout(STORE_LIMIT, tokio::spawn(work)).await {
            Ok(done) => done.map_err(|_| UpdateError::Gone)?,
            Err(_) => Err(UpdateError::Unknown(StoreError::Silent(STORE_LIMIT).to_string())),
        }
    }

    fn run(&self, record: Record, guard: Option<Guard>) -> Result<Arc<Cluster>, UpdateError> {
        let key = (record.namespace.clone(), record.name.clone());
        let mut clusters = self.clusters.lock();
        // Two would lead the same nodes, each by its own record. First: what it has granted is
        // counted from the beginning of the next one.
        if let Some(before) = clusters.remove(&key) {
            before.stop();
        }
        let cluster = Cluster::start(Arc::clone(&self.shared), record, guard)?;
        clusters.insert(key, Arc::clone(&cluster));
        Ok(cluster)
    }

    /// Runs a cluster that is in the store and is not looked after: what made it was given up by
    /// the store's client, and arrived after it was looked for.
    async fn take_up(&self, (namespace, name): &Key) {
        if self.get(namespace, name).is_some() || self.unread(namespace, name).is_some() {
            return;
        }
        let (namespace, name) = (namespace.clone(), name.clone());
        let read = |store: Arc<dyn Store>| async move { store.cluster(&namespace, &name).await };
        let done = match self.store(read).await {
            Ok(Some(found)) => self.run(found, None).map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::error!(%error, "look after a cluster that is in the store");
        }
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Cluster>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.clusters.lock().get(&key).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Cluster>> {
        self.clusters.lock().values().map(Arc::clone).collect()
    }

    /// Stores a new cluster and starts it, whether or not somebody still waits for it.
    pub(crate) async fn create(
        self: &Arc<Self>,
        mut record: Record,
        by: &Actor,
        reason: String,
    ) -> Result<Arc<Cluster>, UpdateError> {
        record.term = self.shared.store.term();
        record.tag = fresh_tag();
        record.check()?;
        crate::cluster::topology_of(&record)?;
        let label = format!("{}/{}", record.namespace, record.name);
        let event = Event::asked(by, self.shared.store.term(), label, reason);
        let stored = record.clone();
        let registry = Arc::clone(self);
        let work = async move {
            let key = (record.namespace.clone(), record.name.clone());
            match registry.change(|store| async move { store.create(stored, event).await }).await? {
                Outcome::Done(()) => registry.run(record, None),
                Outcome::NotDone(error) => {
                    if matches!(error, StoreError::Exists) {
                        registry.take_up(&key).await;
                    }
                    Err(error.into())
                }
                Outcome::Unknown(error) => match registry.told(&key).await {
                    Some(found) => registry.run(found, None),
                    None => Err(UpdateError::Unknown(error.chain())),
                },
            }
        };
        Self::bounded(work).await
    }

    /// Forgets a cluster, whether or not somebody still waits for it; its nodes and balancers keep
    /// what they have.
    pub(crate) async fn delete(
        self: &Arc<Self>,
        namespace: &str,
        name: &str,
        by: &Actor,
    ) -> Result<(), UpdateError> {
        let key = (namespace.to_owned(), name.to_owned());
        let label = format!("{namespace}/{name}");
        let event = Event::asked(by, self.shared.store.term(), label, "deleted".to_owned());
        let (space, cluster) = key.clone();
        let registry = Arc::clone(self);
        let work = async move {
            match registry
                .change(|store| async move { store.delete(space, cluster, event).await })
                .await?
            {
                Outcome::Done(()) => {}
                // Deleted by what was given up, and arrived after it was looked for.
                Outcome::NotDone(StoreError::NotFound)
                    if registry.get(&key.0, &key.1).is_some() => {}
                Outcome::NotDone(error) => return Err(error.into()),
                Outcome::Unknown(error) => {
                    if registry.told(&key).await.is_some() {
                        return Err(UpdateError::Unknown(error.chain()));
                    }
                }
            }
            if let Some(cluster) = registry.clusters.lock().remove(&key) {
                cluster.stop();
            }
            Ok(())
        };
        Self::bounded(work).await
    }

    /// Runs a change to its end.
    async fn change<F>(
        &self,
        work: impl FnOnce(Arc<dyn Store>) -> F,
    ) -> Result<Outcome, UpdateError>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let call = self.shared.call().await?;
        let work = work(Arc::clone(&self.shared.store));
        let work = tokio::spawn(async move {
            let outcome = work.await;
            drop(call);
            outcome
        });
        work.await.map_err(|_| UpdateError::Gone)
    }

    /// What keeps this controller from its work, although it runs; `None` if nothing does. Never
    /// waits.
    pub(crate) fn trouble(&self) -> Option<String> {
        let of_store = self.shared.store.trouble().map(|why| {
            format!("the store does not work, so nobody fails over and no set changes: {why}")
        });
        let unread = || {
            let unread = self.unread.lock();
            let ((namespace, name), why) = unread.first_key_value()?;
            Some(format!(
                "the record of cluster {namespace}/{name} in the store cannot be read, so this controller does not look after it: {why}"
            ))
        };
        let lead = || self.shared.lead.as_ref()?.trouble(self.shared.now());
        of_store
            .or_else(lead)
            .or_else(unread)
            .or_else(|| self.all().iter().find_map(|cluster| cluster.trouble()))
    }

    /// Why this process, the only one of its store, carries nothing out; `None` if it does.
    pub(crate) fn stands_back(&self) -> Option<String> {
        self.all().iter().find_map(|cluster| cluster.stands_back())
    }

    /// Why no failover could be carried out now; `None` if one could. Never waits.
    pub(crate) fn unready(&self) -> Option<String> {
        self.trouble().or_else(|| self.stands_back())
    }

    /// Keeps the store and the log of events going; returns why this process must end.
    pub(crate) async fn keep(self: &Arc<Self>) -> String {
        let shared = Arc::clone(&self.shared);
        let journal = async {
            let write = |events: Vec<Event>| {
                let shared = Arc::clone(&self.shared);
                // What one notes that only observes is the leader's to note.
                async move { !shared.leads() || shared.store.append(events).await.done().is_ok() }
            };
            shared.journal.run(write).await;
        };
        let lead = async {
            match &self.shared.lead {
                Some(lead) => lead.run(self).await,
                None => std::future::pending().await,
            }
        };
        let users = async {
            match &self.shared.lead {
                Some(_) => self.follow_users().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = users => "users are read no more".to_owned(),
            () = self.note_users() => "it is noted no more when users were seen".to_owned(),
            () = journal => "the log of events is written no more".to_owned(),
            () = lead => "who leads is looked at no more".to_owned(),
            why = self.watch() => why,
        }
    }

    async fn watch(self: &Arc<Self>) -> String {
        loop {
            tokio::time::sleep(WATCH_PACE).await;
            if let Some(lost) = self.shared.store.lost() {
                return lost;
            }
            // Not started again in this process: nobody knows what it had in hand, and a change of
            // its may still be on its way to the store (rule O4).
            if let Some(ended) = self.all().iter().find_map(|cluster| cluster.ended()) {
                return format!(
                    "{ended}, by a panic that the log has: the next process goes by what is in the store"
                );
            }
            self.shared.store.probe().await;
        }
    }

    /// Ends all tasks.
    pub(crate) fn stop(&self) {
        for (_, cluster) in std::mem::take(&mut *self.clusters.lock()) {
            cluster.stop();
        }
    }
}

/// With which key: that it was changed stands in the log.
fn seals(store: &dyn Store) -> String {
    let key = store.keys().sealing();
    key.map(|key| format!(", secrets are sealed with key {key}")).unwrap_or_default()
}

/// Whether the record that was read is of another cluster, which has taken the name while nobody
/// looked: it has another name for nodes, or begins at one again.
fn is_another(known: &Record, read: &Record) -> bool {
    let ids = [&known.cluster_id, &read.cluster_id];
    let is_renamed = ids.iter().all(|id| !id.is_empty()) && ids[0] != ids[1];
    is_renamed || read.revision < known.revision
}

#[cfg(test)]
mod tests {
    use planner::Policy;

    use super::*;
    use crate::cluster::{test_actor, test_record as record};
    use crate::store::{Change, Embedded};

    /// Polled once, then dropped: what the server does with the request of a client that hangs up.
    async fn hang_up(request: impl Future) {
        tokio::select! {
            biased;
            _ = request => {}
            () = std::future::ready(()) => {}
        }
    }

    /// Bounded.
    async fn eventually(what: &str, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert!(done.is_ok(), "never: {what}");
    }

    /// One without clusters, and with a namespace `n`.
    async fn registry(folder: &std::path::Path) -> Arc<Registry> {
        let store = Embedded::open(&folder.join("store"), 0).expect("a store");
        let shared = Arc::new(Shared::new(Arc::new(store), Policy::default()).expect("threads"));
        let registry = Registry::start(shared, None).await.expect("a registry");
        let (store, created) =
            (&registry.shared.store, Event::now(1, String::new(), "", String::new()));
        store.create_namespace("n".to_owned(), created).await.done().expect("a namespace");
        registry
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_client_began_is_in_force_although_it_hung_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let registry = registry(dir.path()).await;
        let by = test_actor();
        hang_up(registry.create(record(), &by, "created".to_owned())).await;
        eventually("the cluster runs", || registry.get("n", "c").is_some()).await;
        let cluster = registry.get("n", "c").expect("the cluster");

        for revision in 2..12_u64 {
            hang_up(cluster.update(&by, "a change", |record| {
                record.longest_lease_ms += 1;
                Ok(())
            }))
            .await;
            eventually("the change is in force", || cluster.record().revision >= revision).await;
        }

        hang_up(registry.delete("n", "c", &by)).await;
        eventually("the cluster is gone", || registry.get("n", "c").is_none()).await;
    }

    /// An etcd that is late once must not make a namespace look as if it were somebody else's.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_a_namespace_it_is_read_what_became_of_it_where_the_store_does_not_say() {
        fn silent() -> Outcome {
            Outcome::Unknown(StoreError::Silent(Duration::from_secs(1)))
        }
        fn event() -> Event {
            Event::now(1, String::new(), "", String::new())
        }
        let dir = tempfile::tempdir().expect("a folder");
        let registry = registry(dir.path()).await;
        let nothing = |_: Arc<dyn Store>| async move { silent() };
        let create = |store: Arc<dyn Store>| async move {
            store.create_namespace("m".to_owned(), event()).await.done().expect("a namespace");
            silent()
        };
        let delete = |store: Arc<dyn Store>| async move {
            store.delete_namespace("m".to_owned(), event()).await.done().expect("its end");
            silent()
        };
        let m = || "m".to_owned();
        let unknown = registry.change_namespace(m(), true, nothing).await;
        assert!(matches!(unknown, Err(UpdateError::Unknown(_))), "{unknown:?}");
        registry.change_namespace(m(), true, create).await.expect("it is there");
        let unknown = registry.change_namespace(m(), false, nothing).await;
        assert!(matches!(unknown, Err(UpdateError::Unknown(_))), "{unknown:?}");
        registry.change_namespace(m(), false, delete).await.expect("it is gone");
        let by = test_actor();
        registry.create_namespace(m(), &by).await.expect("a namespace");
        let again = registry.create_namespace(m(), &by).await;
        assert!(matches!(again, Err(UpdateError::Store(StoreError::Exists))), "{again:?}");
        registry.delete_namespace(m(), &by).await.expect("its end");
        let again = registry.delete_namespace(m(), &by).await;
        assert!(matches!(again, Err(UpdateError::Store(StoreError::NotFound))), "{again:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_record_that_fell_behind_its_store_catches_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let registry = registry(dir.path()).await;
        let by = test_actor();
        let made = registry.create(record(), &by, "created".to_owned()).await;
        let cluster = made.expect("a cluster");
        // As if a write had failed by its own account, and was done.
        let (known, event) =
            (cluster.record(), Event::now(1, "n/c".to_owned(), "change", "unseen".to_owned()));
        let next = known.next();
        let change = Change::new(known, next, event);
        let unseen = Arc::clone(&change.record);
        registry.shared.store.swap(change).await.done().expect("a write");
        let updated = tokio::time::timeout(
            Duration::from_secs(10),
            cluster.update(&by, "seen", |record| {
                record.longest_lease_ms += 1;
                Ok(())
            }),
        );
        let updated = updated.await.expect("an end").expect("an update");
        assert_eq!(updated.revision, unseen.revision + 1);
        registry.stop();
    }

    /// A store far away may do later what it was thought not to have done.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_made_or_deleted_late_is_so_once_it_is_asked_for_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let registry = registry(dir.path()).await;
        let (by, store) = (test_actor(), &registry.shared.store);
        let event = || Event::now(1, "n/c".to_owned(), "operator", "late".to_owned());
        store.create(record(), event()).await.done().expect("a cluster");
        let again = registry.create(record(), &by, "created".to_owned()).await;
        assert!(matches!(again, Err(UpdateError::Store(StoreError::Exists))), "{again:?}");
        let first = registry.get("n", "c").expect("a cluster that is looked after");

        store.delete("n".to_owned(), "c".to_owned(), event()).await.done().expect("its end");
        registry.delete("n", "c", &by).await.expect("its end, as it is asked for");
        assert!(registry.get("n", "c").is_none());
        let again = registry.delete("n", "c", &by).await;
        assert!(matches!(again, Err(UpdateError::Store(StoreError::NotFound))), "{again:?}");
        let refused = first.update(&by, "a change", |_| Ok(())).await;
        assert!(matches!(refused, Err(UpdateError::Over)), "{refused:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_a_name_there_is_one_and_what_was_stopped_changes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let registry = registry(dir.path()).await;
        let (by, store) = (test_actor(), &registry.shared.store);
        let event = Event::now(1, "n/c".to_owned(), "operator", "late".to_owned());
        let create = || registry.create(record(), &by, "created".to_owned());
        let first = create().await.expect("a cluster");
        store.delete("n".to_owned(), "c".to_owned(), event).await.done().expect("its end");
        let second = create().await.expect("another of its name");
        let refused = first.update(&by, "a change", |_| Ok(())).await;
        assert!(matches!(refused, Err(UpdateError::Over)), "{refused:?}");
        second.update(&by, "a change", |_| Ok(())).await.expect("a change");
        registry.stop();
        let refused = second.update(&by, "a change", |_| Ok(())).await;
        assert!(matches!(refused, Err(UpdateError::Over)), "{refused:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_ended_by_itself_is_the_end_of_the_process() {
        let dir = tempfile::tempdir().expect("a folder");
        let registry = registry(dir.path()).await;
        let by = test_actor();
        for name in ["gone", "c"] {
            let made = Record { name: name.to_owned(), ..record() };
            registry.create(made, &by, "created".to_owned()).await.expect("a cluster");
            if name == "gone" {
                registry.delete("n", name, &by).await.expect("its end");
            }
        }
        let mut keeping = Box::pin(registry.keep());
        // One that was ended on purpose is none.
        let short = tokio::time::timeout(3 * WATCH_PACE, &mut keeping).await;
        assert!(short.is_err(), "{short:?}");

        registry.get("n", "c").expect("the cluster").end_planner();
        let why = tokio::time::timeout(Duration::from_secs(10), keeping).await.expect("an end");
        assert!(why.contains("the planner of cluster n/c has ended"), "{why}");
        registry.stop();
    }
}
