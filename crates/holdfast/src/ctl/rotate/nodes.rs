//! The nodes of a cluster at their own ports, as a peer of theirs: what they take, what they are
//! told.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use controller::client::{ClientError, Connection, once};
use resp::Value;
use web::tls::Tls;

use super::plan::Takes;
use crate::ctl::words::endpoint;

/// Longest wait for a node.
const PATIENCE: Duration = Duration::from_secs(5);

/// The passwords, and how nodes are dialled.
pub(super) struct Peers {
    pub(super) old: String,
    pub(super) new: String,
    pub(super) tls: Arc<Tls>,
}

impl Peers {
    /// Which of the passwords a node takes.
    ///
    /// # Errors
    /// It takes neither, or cannot be asked.
    pub(super) async fn takes(&self, node: &str) -> Result<Takes> {
        let (old, new) =
            (self.is_taken(node, &self.old).await?, self.is_taken(node, &self.new).await?);
        match (old, new) {
            (true, true) => Ok(Takes::Both),
            (true, false) => Ok(Takes::Old),
            (false, true) => Ok(Takes::New),
            (false, false) => bail!(
                "node {node} takes neither the present password nor the new one: is it its `peer-auth`?"
            ),
        }
    }

    async fn is_taken(&self, node: &str, password: &str) -> Result<bool> {
        let asked = self.peer(node, password).await;
        Ok(asked.with_context(|| format!("ask node {node}"))?.is_some())
    }

    /// Whether a node takes this password from clients, as far as it can be asked: where clients
    /// come through balancers alone, its own port takes none of theirs.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) async fn is_for_clients(&self, node: &str, password: &str) -> Result<bool> {
        let about = || format!("ask node {node}");
        let endpoint = endpoint(node).with_context(about)?;
        match once((&endpoint, &self.tls), Some(password), &[], PATIENCE).await {
            Ok(()) => return Ok(true),
            Err(ClientError::Node(text)) if is_refusal(&text) => {}
            Err(error) => return Err(error).with_context(about),
        }
        let Some(mut peer) = self.peer(node, &self.old).await.with_context(about)? else {
            return Ok(false);
        };
        let asked = peer.command(&["CONFIG", "GET", "client-access"]);
        let told = tokio::time::timeout(PATIENCE, asked).await.with_context(about)?;
        let Value::Array(words) = told.with_context(about)? else { return Ok(false) };
        Ok(words.iter().any(|word| word.as_str() == Some("balancer-only")))
    }

    /// Tells a node these options, all or none of them.
    ///
    /// # Errors
    /// It cannot be asked, takes neither password, or refuses.
    pub(super) async fn set(&self, node: &str, options: &[&str]) -> Result<()> {
        let words = [&["CONFIG", "SET"], options].concat();
        self.told(node, &words).await.with_context(|| format!("change node {node}"))
    }

    /// Has a node keep what it was told, in its file. What it says if it does not.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) async fn keep(&self, node: &str) -> Result<Option<String>> {
        match self.told(node, &["CONFIG", "REWRITE"]).await {
            Ok(()) => Ok(None),
            Err(ClientError::Node(why)) => Ok(Some(why)),
            Err(error) => Err(error).with_context(|| format!("ask node {node}")),
        }
    }

    async fn told(&self, node: &str, words: &[&str]) -> Result<(), ClientError> {
        let mut connection = match self.peer(node, &self.new).await? {
            Some(connection) => connection,
            None => {
                let old = self.peer(node, &self.old).await?;
                old.ok_or_else(|| ClientError::Node("it takes neither password".to_owned()))?
            }
        };
        let told = connection.expect_ok("CONFIG", words);
        tokio::time::timeout(PATIENCE, told).await.map_err(|_| ClientError::Timeout(PATIENCE))?
    }

    /// A connection as a peer; nothing where the password is not that of one. A password of clients
    /// opens the node's port too.
    async fn peer(&self, node: &str, password: &str) -> Result<Option<Connection>, ClientError> {
        let unread = || ClientError::Unexpected { command: "its address" };
        let endpoint = endpoint(node).ok_or_else(unread)?;
        let opened = async {
            let mut connection = Connection::open(&endpoint, Some(password), &self.tls).await?;
            let info = connection.command(&["CLIENT", "INFO"]).await?;
            Ok::<_, ClientError>((connection, info))
        };
        let limited = tokio::time::timeout(PATIENCE, opened).await;
        match limited.unwrap_or(Err(ClientError::Timeout(PATIENCE))) {
            Ok((connection, info)) => {
                let is_peer = info.as_str().is_some_and(is_peer);
                Ok(is_peer.then_some(connection))
            }
            Err(ClientError::Node(text)) if is_refusal(&text) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether a node says that a password is none of its own: the second where clients need none.
fn is_refusal(text: &str) -> bool {
    text.starts_with("WRONGPASS") || text.starts_with("ERR AUTH <password> called without any")
}

/// What CLIENT INFO says of whom it asks for.
fn is_peer(info: &str) -> bool {
    info.split_whitespace().any(|word| word == "peer=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_with_a_password_is_no_peer() {
        assert!(is_peer("id=1 name=x via=direct peer=1 namespace=n"));
        assert!(!is_peer("id=1 name=peer via=direct peer=0"));
        assert!(is_refusal("WRONGPASS invalid username-password pair or user is disabled."));
        assert!(!is_refusal("LOADING kvrocks is restoring the db from backup"));
    }
}
