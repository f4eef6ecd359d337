//! The embedded store: the calls of [`File`], each where it may block.
//!
//! A call goes on to its end, whether or not somebody still waits for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use planner::Record;

use super::file::File;
use super::together::Together;
use super::{About, Change, Export, Held, Outcome, Records, Store, StoreError, Wanted, Work};
use crate::access::User;
use crate::events::Event;
use crate::seal::Keys;

/// For how long nothing may have been written before the file is tried.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// A file that one process at a time opens.
#[derive(Debug, Clone)]
pub struct Embedded {
    file: Arc<File>,
    swaps: Arc<Together>,
}

impl Embedded {
    /// Opens or creates the file and starts a new term, durably. Blocks.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn open(path: &Path, min_term: u64) -> Result<Self, StoreError> {
        Self::open_with(path, min_term, Arc::default())
    }

    /// The same with keys for its secrets.
    ///
    /// # Errors
    /// As [`Embedded::open`], and where a secret does not open with them: nothing was changed then.
    pub fn open_with(path: &Path, min_term: u64, keys: Arc<Keys>) -> Result<Self, StoreError> {
        let file = Arc::new(File::open(path, min_term, keys)?);
        Ok(Self { file, swaps: Arc::default() })
    }

    /// Where the controller that led from this file last said that it lies.
    pub(crate) fn home(&self) -> Option<&str> {
        self.file.home()
    }

    /// Says that the file is led from `home` now.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) async fn claim(&self, home: String) -> Result<(), StoreError> {
        self.read("claim the store", move |file| file.claim(&home)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&File) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || work(&file)).await;
        done.map_err(super::failed(what))?
    }

    async fn write(
        &self,
        what: &'static str,
        work: impl FnOnce(&File) -> Outcome + Send + 'static,
    ) -> Outcome {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || work(&file)).await;
        done.unwrap_or_else(|error| Outcome::Unknown(super::failed(what)(error)))
    }
}

impl Records for Embedded {
    fn swap(&self, change: Change) -> Work<'_, Outcome> {
        let file = Arc::clone(&self.file);
        Box::pin(self.swaps.swap(change, move |changes| file.swap_all(changes)))
    }

    fn cluster<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> Work<'a, Result<Option<Record>, StoreError>> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Box::pin(self.read("read a cluster", move |file| file.cluster(&namespace, &name)))
    }

    /// A call ends before its outcome is told, and the file is opened anew before it is read.
    fn writes_may_arrive_late(&self) -> bool {
        false
    }
}

impl Store for Embedded {
    fn namespaces(&self) -> Work<'_, Result<Vec<String>, StoreError>> {
        Box::pin(self.read("read namespaces", File::namespaces))
    }

    fn create_namespace(&self, name: String, event: Event) -> Work<'_, Outcome> {
        Box::pin(self.write("create a namespace", move |file| file.create_namespace(&name, &event)))
    }

    fn delete_namespace(&self, name: String, event: Event) -> Work<'_, Outcome> {
        Box::pin(self.write("delete a namespace", move |file| file.delete_namespace(&name, &event)))
    }

    fn users(&self) -> Work<'_, Result<Vec<User>, StoreError>> {
        Box::pin(self.read("read users", File::users))
    }

    fn add_user(&self, user: User, event: Event) -> Work<'_, Outcome> {
        Box::pin(self.write("add a user", move |file| file.add_user(&user, &event)))
    }

    fn saw_users(&self, seen: Vec<(String, u64)>) -> Work<'_, Outcome> {
        Box::pin(self.write("note that users were seen", move |file| file.saw_users(&seen)))
    }

    fn remove_user(&self, name: String, event: Event) -> Work<'_, Outcome> {
        Box::pin(self.write("remove a user", move |file| file.remove_user(&name, &event)))
    }

    fn clusters(&self) -> Work<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.read("read clusters", File::clusters))
    }

    fn create(&self, record: Record, event: Event) -> Work<'_, Outcome> {
        Box::pin(self.write("create a cluster", move |file| file.create(&record, &event)))
    }

    fn delete(&self, namespace: String, name: String, event: Event) -> Work<'_, Outcome> {
        let work = move |file: &File| file.delete(&namespace, &name, &event);
        Box::pin(self.write("delete a cluster", work))
    }

    fn append(&self, events: Vec<Event>) -> Work<'_, Outcome> {
        Box::pin(self.write("write events", move |file| file.append(&events)))
    }

    fn events(&self, limit: usize, wanted: Wanted) -> Work<'_, Result<Vec<Event>, StoreError>> {
        Box::pin(self.read("read events", move |file| file.events(limit, wanted)))
    }

    /// A disk that nobody needs at the moment must not be found broken when somebody does.
    fn probe(&self) -> Work<'_, ()> {
        Box::pin(async {
            if self.file.idle().is_none_or(|idle| idle < PROBE_EVERY) {
                return;
            }
            let file = Arc::clone(&self.file);
            drop(tokio::task::spawn_blocking(move || {
                if let Err(error) = file.probe() {
                    tracing::debug!(error = error.chain(), "try the store");
                }
            }));
        })
    }

    fn trouble(&self) -> Option<String> {
        self.file.trouble()
    }

    fn lost(&self) -> Option<String> {
        self.file.lost()
    }

    fn written_ago(&self) -> Option<Duration> {
        self.file.written_ago()
    }

    fn term(&self) -> u64 {
        self.file.term()
    }

    fn about(&self) -> About {
        self.file.about()
    }

    fn bytes(&self) -> Work<'_, Option<u64>> {
        Box::pin(async { self.file.bytes() })
    }

    fn keys(&self) -> &Keys {
        self.file.keys()
    }

    fn held(&self) -> Work<'_, Result<Vec<Held>, StoreError>> {
        Box::pin(self.read("look at secrets", File::held))
    }

    fn export(&self) -> Work<'_, Result<Export, StoreError>> {
        Box::pin(self.read("export the store", File::export))
    }
}
