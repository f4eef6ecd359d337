//! The store: namespaces, one JSON document per cluster, users, the log of events.
//!
//! Every change is one durable transaction, together with the event that says why. A cluster
//! changes only by compare-and-swap on its tag, a random number that is new with each write: a
//! store that was restored may give a revision twice, a tag never (rule O6). A change whose outcome
//! is not known is told apart from one that was not made: [`Outcome`] (rule O4).
//!
//! A store has a name and a generation ([`Identity`]), and may be given up for another one, for
//! good (rule O7): no controller leads from it then, whichever is started. Tools that move its
//! content work on one that nobody leads from: [`Idle`].
//!
//! Where there is a key (`store_key_file`) the secrets of records are sealed (`sealed`): that of a
//! cluster's nodes, those of its balancers. The store says which key its leader seals with, and
//! nobody leads that does not have it, or cannot open a record.
//!
//! Two kinds: a file that one process at a time opens ([`Embedded`]), and an etcd that several
//! controllers share ([`Etcd`]). What both must do is tested by one suite.

#[cfg(test)]
mod between;
mod embedded;
mod etcd;
mod file;
mod idle;
mod measures;
mod sealed;
#[cfg(test)]
mod suite;
mod together;
mod weight;
mod whole;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use planner::Record;
use topology::Endpoint;

pub use embedded::Embedded;
#[cfg(test)]
pub(crate) use etcd::server;
pub use etcd::{Doubt, Etcd, Leader, Look, Place};
pub use idle::{At, Idle};
pub use measures::{Measures, Times};
pub use sealed::{Has, Held};
pub use weight::Weight;
pub use whole::{About, Beginning, Export, ExportError, Found, GivenUp, Identity, held_in};

use crate::access::User;
use crate::events::Event;
use crate::seal::{Keys, Locked};

/// The format of a store: a later one is not touched.
pub(crate) const FORMAT: u64 = 1;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file.
    #[error("another controller uses {}; stop it, or set another `data` file", .0.display())]
    InUse(PathBuf),
    /// What it holds is sealed, and does not open here.
    #[error("{what}: {why}")]
    Locked {
        /// Which secrets.
        what: String,
        /// Why not.
        why: Locked,
    },
    /// A later version wrote it.
    #[error("{} has format {found}, this version reads formats up to {FORMAT}; start the version that wrote it, or a later one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
    /// What it held is led from elsewhere.
    #[error("{what} was given up for {}, where what it held goes on as generation {}: no controller may lead from it. `holdfast ctl store adopt` takes it up again, once those of the other are stopped for good", mark.to, mark.generation)]
    GivenUp {
        /// Its file, or prefix.
        what: String,
        /// For what.
        mark: GivenUp,
    },
    /// The cluster was changed meanwhile.
    #[error("the cluster has been updated by others")]
    Conflict,
    /// It is there already.
    #[error("already exists")]
    Exists,
    /// It is not there.
    #[error("not found")]
    NotFound,
    /// A namespace still has clusters.
    #[error("forbidden: please delete clusters first")]
    NotEmpty,
    /// An address or balancer belongs to another cluster.
    #[error("{what} is already used by cluster {cluster}")]
    Used {
        /// The address.
        what: String,
        /// Its owner.
        cluster: String,
    },
    /// The file cannot be made, or its rights be changed.
    #[error("open the store {} (`data`)", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file is no store, or a broken one.
    #[error("open the store {} (`data`): is it a controller's?", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another controller has led with the file, or holds the claim.
    #[error("the store is another controller's: {0}")]
    Lost(String),
    /// Nobody is at the other end.
    #[error("the store is not reached: {0}")]
    Away(String),
    /// What is at the other end cannot be used.
    #[error("the store cannot be used: {0}")]
    Unusable(String),
    /// It did not answer in time; what was asked may be done yet.
    #[error("the store has not answered for {} s: does its disk hang?", .0.as_secs())]
    Silent(Duration),
    /// It has answered that it is full, which it may say of what it has made as well, and no read
    /// has told which. None of it is under way any more.
    #[error("store: {what}: {why}")]
    Full {
        /// What was being done.
        what: &'static str,
        /// What it has said.
        why: String,
    },
    /// It has refused that for its size. Nothing of it was made.
    #[error("{what}: {} KiB are too large for a request to etcd, so nothing of it was made: raise `--max-request-bytes` of all its members, then `etcd_max_request_bytes` of the controllers, or make more than one cluster of it", bytes.div_ceil(1 << 10))]
    TooLarge {
        /// What was being done.
        what: &'static str,
        /// Of keys and values in it.
        bytes: usize,
    },
    /// The file or its content is broken, or the disk is.
    #[error("store: {what}")]
    Engine {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Names what failed.
fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl FnOnce(E) -> StoreError {
    move |cause| StoreError::Engine { what, cause: cause.into() }
}

impl StoreError {
    /// With all its causes.
    pub(crate) fn chain(&self) -> String {
        match self {
            Self::Engine { what, cause } => format!("{what}: {cause}"),
            other => other.to_string(),
        }
    }
}

/// What became of a change.
#[derive(Debug)]
pub enum Outcome<T = ()> {
    /// It is made, durably.
    Done(T),
    /// It is not made, and will not be.
    NotDone(StoreError),
    /// Nobody knows: it may be made, or be made yet. What is in force must be read; if that is
    /// still the former content, the change must be shut out.
    Unknown(StoreError),
}

impl<T> Outcome<T> {
    /// For those to whom nothing happens by what they do not know.
    ///
    /// # Errors
    /// Everything but [`Outcome::Done`].
    pub fn done(self) -> Result<T, StoreError> {
        match self {
            Self::Done(value) => Ok(value),
            Self::NotDone(error) | Self::Unknown(error) => Err(error),
        }
    }
}

/// A call to the store, under way.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which events are wanted.
pub type Wanted = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// A cluster's next record.
#[derive(Debug, Clone)]
pub struct Change {
    /// What it is made from: nothing else may be in the store.
    pub was: Arc<Record>,
    /// The next one; its tag is new.
    pub record: Arc<Record>,
    /// Why.
    pub event: Event,
    /// What else it brings about; at most [`Change::ALSO_MAX`].
    pub also: Vec<Event>,
}

impl Change {
    /// Events beside the first one: a transaction of etcd has room for no more.
    pub const ALSO_MAX: usize = 50;

    /// `record` in place of `was`, under a tag of its own.
    pub fn new(was: Arc<Record>, mut record: Record, event: Event) -> Self {
        record.tag = fresh_tag();
        Self { was, record: Arc::new(record), event, also: Vec::new() }
    }

    /// All events that are written with it.
    pub(crate) fn events(&self) -> Vec<Event> {
        std::iter::once(&self.event).chain(&self.also).cloned().collect()
    }
}

/// A tag that was never given. Zero is what records of earlier versions have.
pub fn fresh_tag() -> u64 {
    rand::random::<u64>().max(1)
}

/// Where records are kept, as far as a running cluster needs it.
pub trait Records: std::fmt::Debug + Send + Sync {
    /// Replaces a cluster's record, if the store still has what the change was made from. Dropped,
    /// it may go on.
    fn swap(&self, change: Change) -> Work<'_, Outcome>;

    /// The record in force; `None` if there is none of that name.
    ///
    /// # Errors
    /// It cannot be read.
    fn cluster<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> Work<'a, Result<Option<Record>, StoreError>>;

    /// A write whose outcome is unknown may be done after a read has shown what was there before.
    fn writes_may_arrive_late(&self) -> bool;
}

/// All of it. Errors of reads: it cannot be read. What is dropped before its end may still be done.
pub trait Store: Records {
    /// Names of all namespaces, sorted.
    fn namespaces(&self) -> Work<'_, Result<Vec<String>, StoreError>>;

    /// Adds a namespace.
    fn create_namespace(&self, name: String, event: Event) -> Work<'_, Outcome>;

    /// Removes an empty namespace.
    fn delete_namespace(&self, name: String, event: Event) -> Work<'_, Outcome>;

    /// Every user, by name.
    fn users(&self) -> Work<'_, Result<Vec<User>, StoreError>>;

    /// Adds a user.
    fn add_user(&self, user: User, event: Event) -> Work<'_, Outcome>;

    /// Notes when users were seen, ms since 1970. One that is gone meanwhile stays gone. No event
    /// says so, and another store than a leader's takes nothing.
    fn saw_users(&self, seen: Vec<(String, u64)>) -> Work<'_, Outcome>;

    /// Removes a user.
    fn remove_user(&self, name: String, event: Event) -> Work<'_, Outcome>;

    /// Every cluster of every namespace.
    fn clusters(&self) -> Work<'_, Result<Vec<Record>, StoreError>>;

    /// Adds a cluster.
    fn create(&self, record: Record, event: Event) -> Work<'_, Outcome>;

    /// Forgets a cluster.
    fn delete(&self, namespace: String, name: String, event: Event) -> Work<'_, Outcome>;

    /// Adds events that change nothing.
    fn append(&self, events: Vec<Event>) -> Work<'_, Outcome>;

    /// The newest `limit` events that are wanted, oldest first.
    fn events(&self, limit: usize, wanted: Wanted) -> Work<'_, Result<Vec<Event>, StoreError>>;

    /// Shows that it would take a change, where nothing else has for a while.
    fn probe(&self) -> Work<'_, ()>;

    /// What keeps the store from its work now, for people; `None` if nothing does. Never waits.
    fn trouble(&self) -> Option<String>;

    /// What may keep it from its work soon, for people. Never waits.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the record of a cluster takes there, where that is bounded and known. Never waits.
    fn weight(&self, _namespace: &str, _name: &str) -> Option<Weight> {
        None
    }

    /// What was measured of it, where it is far away. Never waits.
    fn measures(&self) -> Option<Measures> {
        None
    }

    /// Why this process must end: another controller has led with the store, or it is not the same
    /// any more.
    fn lost(&self) -> Option<String>;

    /// How long ago this process last wrote something durably.
    fn written_ago(&self) -> Option<Duration>;

    /// Term of this process; 0 before it ever led.
    fn term(&self) -> u64;

    /// What it is, for people.
    fn about(&self) -> About;

    /// What it takes on disk, bytes, as far as it says.
    fn bytes(&self) -> Work<'_, Option<u64>>;

    /// What secrets are sealed with.
    fn keys(&self) -> &Keys;

    /// How the secrets of each cluster lie there; of one whose record cannot be read, that, where
    /// such a store can be led.
    fn held(&self) -> Work<'_, Result<Vec<Held>, StoreError>>;

    /// All that it holds, of one moment.
    fn export(&self) -> Work<'_, Result<Export, StoreError>>;
}

/// Nodes and balancers are told everything as a whole: two clusters on one would fight for it.
pub(crate) fn unused_elsewhere(all: &[Record], record: &Record) -> Result<(), StoreError> {
    for other in all {
        if other.namespace == record.namespace && other.name == record.name {
            continue;
        }
        let cluster = format!("{}/{}", other.namespace, other.name);
        let taken = |local: &Endpoint| other.nodes().any(|(_, node)| node.local == *local);
        if let Some((_, node)) = record.nodes().find(|(_, node)| taken(&node.local)) {
            return Err(StoreError::Used { what: format!("node {}", node.local), cluster });
        }
        let taken = |at: &str| other.balancers.iter().any(|balancer| balancer.endpoint == at);
        if let Some(balancer) = record.balancers.iter().find(|b| taken(&b.endpoint)) {
            return Err(StoreError::Used {
                what: format!("balancer {}", balancer.endpoint),
                cluster,
            });
        }
    }
    Ok(())
}
