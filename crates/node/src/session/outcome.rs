//! How a command ends, for its handler, the batch it is in and the connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::ReplicaFacts;
use super::lend::State;
use crate::clients::{Client, Pause};
use crate::command::Replied;
use crate::long_reads::Hold;
use crate::node::Node;
use crate::stream::Away;
use crate::threads::surviving;
use crate::waiters::Waiting;

/// What comes after a command.
pub enum After {
    /// It answered; the next one runs.
    Next(Replied),
    /// It answered, and has written data on its own: the answer waits as that of any write (rule
    /// R4).
    Wrote(Replied),
    /// What is written is sent, then the connection is closed.
    Close,
    /// The connection is closed without what is written; why, for the log.
    Drop(&'static str),
    /// What is written is sent; then the same command is tried again, at the end of the wait.
    Again(Pause),
    /// What is written is sent; the answer follows when it is there.
    Later(Answer, Tells),
    /// What is written is sent; a script runs, or an EXEC with scripts, on a thread for these, and
    /// answers when it is done.
    Aside(Pin<Box<dyn Future<Output = Back>>>),
    /// What is written is sent; the answer is made by another thread.
    Long(LongRead),
    /// What is written is sent; the command waits for one of its keys.
    Blocked(Waiting),
    /// What is written is sent; the socket leaves its worker, to become a replication stream or a
    /// file transfer.
    Leave(Takeover),
}

/// An answer that comes later, as RESP.
pub type Answer = Pin<Box<dyn Future<Output = Vec<u8>>>>;

/// What comes back of a command that ran on a thread for scripts.
#[derive(Debug)]
pub struct Back {
    /// Its answer, as RESP.
    pub bytes: Vec<u8>,
    /// What it tells of.
    pub tells: Tells,
    /// The connection is closed after it.
    pub closes: bool,
    /// What it has made of the session, if it ran.
    pub state: Option<State>,
}

/// An answer that another thread makes (`session::long`).
pub struct LongRead {
    /// The answer.
    pub answer: Pin<Box<dyn Future<Output = Done>>>,
    /// What it tells of.
    pub tells: Tells,
    /// It has had no effect, and may begin anew elsewhere.
    pub is_repeatable: bool,
    /// The connection is closed after it.
    pub closes: bool,
    /// The words that it begins anew with, if they differ from those its client sent.
    pub again: Option<Vec<Vec<u8>>>,
}

/// The result of a long read.
#[derive(Debug)]
pub struct Done {
    /// The answer, as RESP.
    pub bytes: Vec<u8>,
    /// The memory it takes, to be kept until it is sent.
    pub hold: Option<Hold>,
    /// There is no answer: the command is one that waits, and begins anew, to do so.
    pub is_nothing: bool,
}

/// What takes a socket that leaves its worker.
pub type Takeover = Box<dyn FnOnce(Detached) + Send>;

/// What an answer that comes later is about: one that tells of data waits for the in-sync set when
/// it is there (rule R4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// Not of data: it leaves at once.
    Nothing,
    /// Of what was read.
    Read,
    /// Of what was written.
    Write,
}

impl std::fmt::Debug for After {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Next(_) => "Next",
            Self::Wrote(_) => "Wrote",
            Self::Close => "Close",
            Self::Drop(_) => "Drop",
            Self::Again(_) => "Again",
            Self::Later(..) => "Later",
            Self::Aside(_) => "Aside",
            Self::Long(_) => "Long",
            Self::Blocked(_) => "Blocked",
            Self::Leave(_) => "Leave",
        })
    }
}

impl From<Replied> for After {
    fn from(replied: Replied) -> Self {
        Self::Next(replied)
    }
}

/// A socket that has left its worker.
#[derive(Debug)]
pub struct Detached {
    /// The stream, not bound to a runtime.
    pub stream: Away,
    /// Bytes that were read and not used.
    pub unread: Vec<u8>,
    /// Its entry in CLIENT LIST; to be removed by the last owner of the socket.
    pub client: Arc<Client>,
    /// The node.
    pub node: Arc<Node>,
    /// What it said of itself.
    pub facts: ReplicaFacts,
}

impl Detached {
    /// Runs the socket's new task to its end, and forgets its client then. A panic ends this
    /// connection alone: the other end connects again.
    pub(crate) async fn attended(self, what: &str, run: impl AsyncFnOnce(Self)) {
        let (node, client) = (Arc::clone(&self.node), Arc::clone(&self.client));
        if let Err(panic) = surviving(run(self)).await {
            let (conn, address) = (client.id, client.address);
            tracing::error!(conn, %address, panic, "a {what} panicked: its connection is closed");
        }
        node.clients.remove(client.id);
    }
}
