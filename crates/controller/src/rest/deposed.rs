//! `/restore-deposed` of a shard: a node puts what a full sync took the place of back in service.
//!
//! The node does it, whole or not at all, and never while it serves under a grant. What follows
//! needs no order: data that a set still names makes its node a member again, and the planner lets
//! it take over.

use std::time::Duration;

use api::rest::{Actor, RestoreAnswer, RestoreSpec};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;

use super::discarded::Peer;
use super::error::{ApiError, ok};
use super::{App, body, find, shard_index};
use crate::client::ClientError;

/// Longest time a node may take to look into its folder.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);
/// The same to close one database and open another: its log is read.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn restore(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, index)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: RestoreSpec = body(&bytes)?;
    let record = cluster.record();
    let index = shard_index(&index, &record)?;
    let id = spec.node_id.as_str();
    let node = record.shards.get(index).and_then(|shard| shard.node(id));
    let addr = node.ok_or_else(|| ApiError::not_found("node: not of this shard"))?.local.clone();
    let peer = Peer::find(&registry, &record, id)?;
    let (text, (deposed_epoch, deposed_sequence)) = shown(&peer).await?;
    let at = {
        let state = cluster.state.lock();
        let seen = state.observed.node(id).seen.as_ref().map(|seen| &seen.reply);
        seen.map_or((0, 0), |reply| (reply.standing.history_epoch, reply.sequence))
    };
    let answer = |done| RestoreAnswer {
        addr: addr.to_string(),
        deposed_epoch,
        deposed_sequence,
        node_epoch: at.0,
        node_sequence: at.1,
        done,
    };
    if !spec.confirm {
        return Ok(ok(answer(false)));
    }
    let reason = format!(
        "shard {index}: AN OPERATOR BRINGS DATA BACK: {addr} puts db.deposed (epoch {deposed_epoch}, sequence {deposed_sequence}) \
         in the place of what it has (epoch {}, sequence {})",
        at.0, at.1
    );
    tracing::warn!(cluster = %cluster.label(), "{reason}");
    registry.write_down(&by, cluster.label(), reason).await?;
    // To its end, also when whoever asked hangs up.
    let work = async move {
        let words: [&[u8]; 4] = [b"CLUSTERX", b"DEPOSED", b"RESTORE", text.as_bytes()];
        peer.ask(&words, PATIENCE).await.map_err(|error| peer.failed(&error))
    };
    let done = tokio::spawn(work).await.map_err(|error| ApiError::failed(error.to_string()))?;
    if let Err(error) = done {
        let text = format!("shard {index}: {addr} did not bring its data back: {error}");
        if let Err(error) = registry.write_down(&by, cluster.label(), text).await {
            tracing::warn!(cluster = %cluster.label(), %error, "write down that no data came back");
        }
        return Err(error);
    }
    Ok(ok(answer(true)))
}

/// The node's own words for what lies in `db.deposed`, and its newest epoch and sequence.
async fn shown(peer: &Peer) -> Result<(String, (u64, u64)), ApiError> {
    let words: [&[u8]; 3] = [b"CLUSTERX", b"DEPOSED", b"SHOW"];
    let value = peer.ask(&words, LOOK_PATIENCE).await.map_err(|error| peer.failed(&error))?;
    let unexpected = || peer.failed(&ClientError::Unexpected { command: "CLUSTERX DEPOSED SHOW" });
    let text = value.as_str().ok_or_else(unexpected)?;
    if text == "-" {
        return Err(ApiError::conflict("nothing lies in db.deposed of this node"));
    }
    let end = end_of(text).ok_or_else(unexpected)?;
    Ok((text.to_owned(), end))
}

/// Newest epoch and sequence of `<sequence>;<epoch>:…,<epoch>:…` or `<sequence>;-`.
fn end_of(text: &str) -> Option<(u64, u64)> {
    let (sequence, epochs) = text.split_once(';')?;
    let newest = epochs.rsplit(',').next()?;
    let epoch = if newest == "-" { 0 } else { newest.split(':').next()?.parse().ok()? };
    Some((epoch, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::end_of;

    #[test]
    fn the_newest_epoch_is_the_last_one() {
        assert_eq!(end_of("7;-"), Some((0, 7)));
        assert_eq!(end_of("70;1:0a:1:0"), Some((1, 70)));
        assert_eq!(end_of("70;1:0a:1:0,12:0b:60:0"), Some((12, 70)));
        assert_eq!(end_of("70"), None);
        assert_eq!(end_of("x;-"), None);
    }
}
