//! Every cluster of this controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use planner::Record;

use crate::cluster::{Cluster, Shared, UpdateError};
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
    pub(crate) async fn start(shared: Arc<Shared>) -> anyhow::Result<Arc<Self>> {
        let registry =
            Arc::new(Self { shared: Arc::clone(&shared), clusters: Mutex::new(BTreeMap::new()) });
        for record in registry.store(|store| store.clusters()).await? {
            registry.run(record)?;
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

    fn run(&self, record: Record) -> Result<Arc<Cluster>, UpdateError> {
        let key = (record.namespace.clone(), record.name.clone());
        let cluster = Cluster::start(Arc::clone(&self.shared), record)?;
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

    /// Stores a new cluster and starts it.
    pub(crate) async fn create(
        &self,
        mut record: Record,
        reason: String,
    ) -> Result<Arc<Cluster>, UpdateError> {
        record.term = self.shared.election().term();
        record.check()?;
        crate::cluster::topology_of(&record)?;
        let label = format!("{}/{}", record.namespace, record.name);
        let event = Event::now(self.shared.store.term(), label, "change", reason);
        let stored = record.clone();
        self.store(move |store| store.create(&stored, &event)).await?;
        self.run(record)
    }

    /// Forgets a cluster; its nodes and balancers keep what they have.
    pub(crate) async fn delete(&self, namespace: &str, name: &str) -> Result<(), UpdateError> {
        let key = (namespace.to_owned(), name.to_owned());
        let label = format!("{namespace}/{name}");
        let event = Event::now(self.shared.store.term(), label, "change", "deleted".to_owned());
        let (space, cluster) = key.clone();
        self.store(move |store| store.delete(&space, &cluster, &event)).await?;
        if let Some(cluster) = self.clusters.lock().remove(&key) {
            cluster.stop();
        }
        Ok(())
    }

    /// Ends all tasks.
    pub(crate) fn stop(&self) {
        for (_, cluster) in std::mem::take(&mut *self.clusters.lock()) {
            cluster.stop();
        }
    }
}
