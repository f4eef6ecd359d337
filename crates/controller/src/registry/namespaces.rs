//! Namespaces: changed in the store, and read there where it does not say what became of a change.

use std::sync::Arc;

use api::rest::Actor;

use super::{READ_RETRY, Registry};
use crate::cluster::UpdateError;
use crate::store::{Outcome, Store};

impl Registry {
    /// Makes a namespace, whether or not somebody still waits for it.
    pub(crate) async fn create_namespace(
        self: &Arc<Self>,
        name: String,
        by: &Actor,
    ) -> Result<(), UpdateError> {
        let event = self.about_all(by, format!("namespace {name} created"));
        let made = name.clone();
        let work = |store: Arc<dyn Store>| async move { store.create_namespace(made, event).await };
        self.change_namespace(name, true, work).await
    }

    /// Removes an empty one, likewise.
    pub(crate) async fn delete_namespace(
        self: &Arc<Self>,
        name: String,
        by: &Actor,
    ) -> Result<(), UpdateError> {
        let event = self.about_all(by, format!("namespace {name} deleted"));
        let gone = name.clone();
        let work = |store: Arc<dyn Store>| async move { store.delete_namespace(gone, event).await };
        self.change_namespace(name, false, work).await
    }

    /// Does it, and if the store does not tell what became of it, looks whether the namespace is
    /// there, as it `is_wanted` to be. If not, it may be yet.
    pub(super) async fn change_namespace<F>(
        self: &Arc<Self>,
        name: String,
        is_wanted: bool,
        work: impl FnOnce(Arc<dyn Store>) -> F + Send + 'static,
    ) -> Result<(), UpdateError>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let registry = Arc::clone(self);
        let work = async move {
            let why = match registry.change(work).await? {
                Outcome::Done(()) => return Ok(()),
                Outcome::NotDone(error) => return Err(error.into()),
                Outcome::Unknown(error) => error.chain(),
            };
            loop {
                let read = |store: Arc<dyn Store>| async move { store.namespaces().await };
                match registry.store(read).await {
                    Ok(names) if names.contains(&name) == is_wanted => return Ok(()),
                    Ok(_) => return Err(UpdateError::Unknown(why)),
                    Err(error) => tracing::warn!(%error, "read what became of a namespace"),
                }
                tokio::time::sleep(READ_RETRY).await;
            }
        };
        Self::bounded(work).await
    }
}
