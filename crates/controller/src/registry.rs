//! Every cluster of this controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use planner::{Guard, Record};

use crate::cluster::{Cluster, Shared, UpdateError, rival};
use crate::events::Event;
use crate::store::{Store, StoreError};

type Key = (String, String);

/// Running clusters by namespace and name.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) shared: Arc<Shared>,
    clusters: Mutex<BTreeMap<Key, Arc<Cluster>>>,
}

impl Registry {
    /// Starts every cluster of the store.
    ///
    /// With `from`, where the store was before it was copied or moved here, they lead once their nodes hear of nobody else.
    pub(crate) async fn start(
        shared: Arc<Shared>,
        from: Option<String>,
    ) -> anyhow::Result<Arc<Self>> {
        let registry =
            Arc::new(Self { shared: Arc::clone(&shared), clusters: Mutex::new(BTreeMap::new()) });
        for record in registry.store(|store| store.clusters()).await? {
            let guard = from.clone().map(|from| rival::guard(&shared, from));
            registry.run(record, guard)?;
        }
        let event = Event::now(
            shared.store.term(),
            String::new(),
            "start",
            format!("controller started with term {}", shared.store.term()),
        );
        registry.store(move |store| store.append(&event)).await?;
        Ok(registry)
    }

    /// Runs `work` where it may block.
    pub(crate) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, UpdateError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || work(&shared.store)).await;
        Ok(done.map_err(|_| UpdateError::Gone)??)
    }

    fn run(&self, record: Record, guard: Option<Guard>) -> Result<Arc<Cluster>, UpdateError> {
        let key = (record.namespace.clone(), record.name.clone());
        let cluster = Cluster::start(Arc::clone(&self.shared), record, guard)?;
        self.clusters.lock().insert(key, Arc::clone(&cluster));
        Ok(cluster)
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
        reason: String,
    ) -> Result<Arc<Cluster>, UpdateError> {
        record.term = self.shared.election().term();
        record.check()?;
        crate::cluster::topology_of(&record)?;
        let label = format!("{}/{}", record.namespace, record.name);
        let event = Event::now(self.shared.store.term(), label, "change", reason);
        let stored = record.clone();
        let registry = Arc::clone(self);
        let work = async move {
            registry.store(move |store| store.create(&stored, &event)).await?;
            registry.run(record, None)
        };
        tokio::spawn(work).await.map_err(|_| UpdateError::Gone)?
    }

    /// Forgets a cluster, whether or not somebody still waits for it; its nodes and balancers keep what they have.
    pub(crate) async fn delete(
        self: &Arc<Self>,
        namespace: &str,
        name: &str,
    ) -> Result<(), UpdateError> {
        let key = (namespace.to_owned(), name.to_owned());
        let label = format!("{namespace}/{name}");
        let event = Event::now(self.shared.store.term(), label, "change", "deleted".to_owned());
        let (space, cluster) = key.clone();
        let registry = Arc::clone(self);
        let work = async move {
            registry.store(move |store| store.delete(&space, &cluster, &event)).await?;
            if let Some(cluster) = registry.clusters.lock().remove(&key) {
                cluster.stop();
            }
            Ok(())
        };
        tokio::spawn(work).await.map_err(|_| UpdateError::Gone)?
    }

    /// Ends all tasks.
    pub(crate) fn stop(&self) {
        for (_, cluster) in std::mem::take(&mut *self.clusters.lock()) {
            cluster.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use planner::{Epoch, Node, Policy, Role, Shard};
    use topology::Endpoint;

    use super::*;

    fn record() -> Record {
        let node = Node {
            id: "a".repeat(40),
            local: Endpoint { host: "127.0.0.1".to_owned(), port: 1 },
            announced: None,
            role: Role::Master,
            created_at: 0,
            stated: None,
        };
        let shard = Shard {
            nodes: vec![node],
            slot_ranges: vec![(0, 16_383)],
            intent: None,
            last_intent: None,
            fence: None,
            epoch: Epoch::default(),
        };
        Record {
            namespace: "n".to_owned(),
            name: "c".to_owned(),
            revision: 1,
            version: 1,
            shards: vec![shard],
            balancers: Vec::new(),
            longest_lease_ms: 1_000,
            allow_unfenced: true,
            password: None,
            commit_mode: api::grant::CommitMode::Async,
            min_in_sync: 1,
            term: 0,
            cluster_id: String::new(),
            paused: None,
        }
    }

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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_client_began_is_in_force_although_it_hung_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("store"), 0).expect("a store");
        let shared = Arc::new(Shared::new(store, Policy::default()));
        let registry = Registry::start(shared, None).await.expect("a registry");
        registry.shared.store.create_namespace("n").expect("a namespace");

        hang_up(registry.create(record(), "created".to_owned())).await;
        eventually("the cluster runs", || registry.get("n", "c").is_some()).await;
        let cluster = registry.get("n", "c").expect("the cluster");

        for revision in 2..12_u64 {
            hang_up(cluster.update("a change", |record| {
                record.longest_lease_ms += 1;
                Ok(())
            }))
            .await;
            eventually("the change is in force", || cluster.record().revision >= revision).await;
        }

        hang_up(registry.delete("n", "c")).await;
        eventually("the cluster is gone", || registry.get("n", "c").is_none()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_record_that_fell_behind_its_store_catches_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("store"), 0).expect("a store");
        let shared = Arc::new(Shared::new(store, Policy::default()));
        let registry = Registry::start(Arc::clone(&shared), None).await.expect("a registry");
        shared.store.create_namespace("n").expect("a namespace");
        let cluster = registry.create(record(), "created".to_owned()).await.expect("a cluster");
        // As if a write had failed by its own account, and was done.
        let unseen = cluster.record().next();
        let event = Event::now(1, "n/c".to_owned(), "change", "unseen".to_owned());
        shared.store.swap(&unseen, &event).expect("a write");
        let updated = tokio::time::timeout(
            Duration::from_secs(10),
            cluster.update("seen", |record| {
                record.longest_lease_ms += 1;
                Ok(())
            }),
        );
        let updated = updated.await.expect("an end").expect("an update");
        assert_eq!(updated.revision, unseen.revision + 1);
        registry.stop();
    }
}
