//! Users: changed in the store, known to this process, and looked up for every request.
//!
//! Where several controllers share the store, only the leader changes users, and every one reads
//! them anew all the time: a user that was removed is a stranger to the leader at once, to the
//! others within [`PACE`] of reaching the store.

use std::sync::Arc;
use std::time::Duration;

use api::rest::Actor;

use super::{READ_RETRY, Registry};
use crate::access::{Asks, User, Verdict, is_one};
use crate::cluster::UpdateError;
use crate::events::{Event, now_ms};
use crate::store::{Outcome, Store};

/// How often they are read where others may change them.
const PACE: Duration = Duration::from_secs(1);
/// Between two reads because of tokens that nobody has, ms: strangers must not keep the store busy.
const PAUSE_MS: u64 = 100;
/// How often it is looked whether somebody was seen whose note is old.
const NOTE_PACE: Duration = Duration::from_secs(60);

impl Registry {
    /// Adds a user, whether or not somebody still waits for it.
    pub(crate) async fn add_user(
        self: &Arc<Self>,
        user: User,
        by: &Actor,
    ) -> Result<(), UpdateError> {
        let event = self.about_all(by, format!("user {} added: {}", user.name, user.promise()));
        self.change_users(|store| async move { store.add_user(user, event).await }).await
    }

    /// Removes a user, likewise.
    pub(crate) async fn remove_user(
        self: &Arc<Self>,
        name: String,
        by: &Actor,
    ) -> Result<(), UpdateError> {
        let event = self.about_all(by, format!("user {name} removed"));
        self.change_users(|store| async move { store.remove_user(name, event).await }).await
    }

    async fn change_users<F>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<dyn Store>) -> F + Send + 'static,
    ) -> Result<(), UpdateError>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let registry = Arc::clone(self);
        let work = async move {
            let outcome = match registry.change(work).await? {
                Outcome::Done(()) => Ok(()),
                Outcome::NotDone(error) => return Err(error.into()),
                Outcome::Unknown(error) => Err(UpdateError::Unknown(error.chain())),
            };
            // Also where it is not known: what is stored counts.
            while let Err(error) = registry.read_users().await {
                tracing::warn!(%error, "read the users after a change");
                tokio::time::sleep(READ_RETRY).await;
            }
            outcome
        };
        Self::bounded(work).await
    }

    /// What somebody asks for, that is about no one cluster.
    pub(crate) fn about_all(&self, by: &Actor, text: String) -> Event {
        Event::asked(by, self.shared.store.term(), String::new(), text)
    }

    /// Writes down what somebody asks for and is no change of the store, before it is done.
    pub(crate) async fn write_down(
        &self,
        by: &Actor,
        cluster: String,
        text: String,
    ) -> Result<(), UpdateError> {
        let event = Event::asked(by, self.shared.store.term(), cluster, text);
        self.store(|store| async move { store.append(vec![event]).await.done() }).await
    }

    /// Reads the users: from here on, they are who may ask.
    pub(super) async fn read_users(&self) -> Result<(), UpdateError> {
        let began = self.shared.now();
        let users = self.store(|store| async move { store.users().await }).await?;
        self.shared.users.take(began, users);
        Ok(())
    }

    /// Reads them again and again: another controller may change them, and a write that was given
    /// up may arrive.
    pub(super) async fn follow_users(&self) {
        loop {
            if let Err(error) = self.read_users().await {
                tracing::debug!(%error, "read the users");
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Writes down, now and then, when users were seen, as long as this process leads.
    pub(super) async fn note_users(&self) {
        loop {
            tokio::time::sleep(NOTE_PACE).await;
            let seen = self.shared.users.unwritten();
            if seen.is_empty() || !self.shared.leads() {
                continue;
            }
            let noted = self.store(|store| async move { store.saw_users(seen).await.done() }).await;
            // What was written is known by what is read.
            let known = match noted {
                Ok(()) => self.read_users().await,
                Err(error) => Err(error),
            };
            if let Err(error) = known {
                tracing::debug!(%error, "note that users were seen");
            }
        }
    }

    /// What somebody asks by is worth now. What nobody has, as far as this process knows, may be a
    /// moment old.
    pub(crate) async fn judge(&self, asks: Asks<'_>, from: &str) -> Verdict {
        let shared = &self.shared;
        let verdict = shared.users.judge(asks, from, now_ms());
        let is_known = !matches!(verdict, Verdict::Unknown | Verdict::NotRead);
        let may_be_new = match asks {
            Asks::Token(token) => is_one(token),
            Asks::Certificate(_) | Asks::Vouched { .. } => true,
        };
        if is_known || shared.lead.is_none() || !may_be_new {
            return verdict;
        }
        let arrived = shared.now();
        let mut asked = shared.users.asked.lock().await;
        // Another may have read them since, or not have been able to.
        if *asked <= arrived {
            tokio::time::sleep_until(shared.instant(asked.plus_millis(PAUSE_MS))).await;
            *asked = shared.now();
            if let Err(error) = self.read_users().await {
                tracing::debug!(%error, "read the users because of one that is not known");
            }
        }
        shared.users.judge(asks, from, now_ms())
    }
}
