//! `/discarded`: what deposed masters cut off and keep in their folders, and putting it back through the present master.
//!
//! The controller holds one export at a time in memory while it puts it back, up to a bound; each key's last state counts.

use std::collections::BTreeMap;
use std::time::Duration;

use api::rest::{
    Discarded, DiscardedApply, DiscardedChange, DiscardedExport, DiscardedOutcome, DiscardedPage,
    DiscardedSilent,
};
use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::response::Response;
use planner::{Node, Record};
use resp::Value;
use topology::Endpoint;

use super::error::{ApiError, ok};
use super::{App, body, find};
use crate::client::{ClientError, Connection};

/// Longest time a node may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for putting keys back: the master looks through its log first.
const APPLY_PATIENCE: Duration = Duration::from_secs(60);
/// Of a file, asked for at once.
const PAGE_BYTES: u64 = 512 << 10;
/// Keys and values that are put back by one request.
const APPLY_BYTES: usize = 4 << 20;
/// And how many keys.
const APPLY_KEYS: usize = 4_096;
/// Keys and values held while an export is put back. The tail that an in-sync master may have unacknowledged is far
/// smaller.
const EXPORT_BYTES_MAX: usize = 256 << 20;
/// Keys named in an answer, of each outcome.
const NAMED_MAX: usize = 100;

pub(super) async fn list(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    let mut answer = Discarded { exports: Vec::new(), silent: Vec::new() };
    for (shard, node) in record.nodes() {
        match listed(&record, shard, node).await {
            Ok(exports) => answer.exports.extend(exports),
            Err(error) => answer
                .silent
                .push(DiscardedSilent { addr: node.local.to_string(), error: error.to_string() }),
        }
    }
    Ok(ok(answer))
}

async fn listed(
    record: &Record,
    shard: usize,
    node: &Node,
) -> Result<Vec<DiscardedExport>, ClientError> {
    let value = ask(&node.local, record, &[b"CLUSTERX", b"DISCARDED", b"LIST"], PATIENCE).await?;
    let unexpected = || ClientError::Unexpected { command: "CLUSTERX DISCARDED LIST" };
    let text = value.as_str().ok_or_else(unexpected)?;
    let line = |line: &str| {
        let mut words = line.split(' ');
        let file = words.next()?.to_owned();
        let mut number = || words.next()?.parse::<u64>().ok();
        let (bytes, fork, at_ms, end, epoch) =
            (number()?, number()?, number()?, number()?, number()?);
        let epoch_id = words.next()?.to_owned();
        Some(DiscardedExport {
            node: node.id.clone(),
            addr: node.local.to_string(),
            shard,
            file,
            bytes,
            at_ms,
            fork,
            epoch,
            epoch_id,
            records: end.saturating_sub(fork),
        })
    };
    text.lines().map(|text| line(text).ok_or_else(unexpected)).collect()
}

pub(super) async fn show(
    registry: App,
    Path((ns, name, id, file)): Path<(String, String, String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    let node = record.node(&id).ok_or_else(|| ApiError::not_found("node: not found"))?;
    let offset = query.get("offset").map_or(Ok(0), |text| text.parse());
    let offset = offset.map_err(|_| ApiError::bad("offset is no number"))?;
    let (changes, next) = page(&record, node, &file, offset).await?;
    let changes = changes.into_iter().map(shown).collect();
    Ok(ok(DiscardedPage { changes, next }))
}

fn shown(change: Change) -> DiscardedChange {
    let Change { what, key, value, expire_ms } = change;
    DiscardedChange { what, key: latin(&key), value: latin(&value), expire_ms }
}

/// Bytes as characters U+0000 to U+00FF, as in the export itself.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A change as nodes tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    /// `set`, `del` or `other`.
    what: String,
    key: Vec<u8>,
    /// Of `other`: what it is.
    value: Vec<u8>,
    expire_ms: u64,
}

async fn page(
    record: &Record,
    node: &Node,
    file: &str,
    offset: u64,
) -> Result<(Vec<Change>, Option<u64>), ApiError> {
    let (offset, bytes) = (offset.to_string(), PAGE_BYTES.to_string());
    let words: [&[u8]; 6] =
        [b"CLUSTERX", b"DISCARDED", b"READ", file.as_bytes(), offset.as_bytes(), bytes.as_bytes()];
    let value = ask(&node.local, record, &words, PATIENCE).await;
    let value = value.map_err(|error| ApiError::node(&node.local, &error))?;
    read_page(&value)
        .ok_or_else(|| ApiError::failed(format!("node {}: its answer cannot be read", node.local)))
}

fn read_page(value: &Value) -> Option<(Vec<Change>, Option<u64>)> {
    let Value::Array(elements) = value else { return None };
    let (next, changes) = elements.split_first()?;
    let Value::Integer(next) = next else { return None };
    let changes = changes.chunks(4).map(|words| {
        let [what, key, value, expire_ms] = words else { return None };
        Some(Change {
            what: what.as_str()?.to_owned(),
            key: key.as_bytes()?.to_vec(),
            value: value.as_bytes()?.to_vec(),
            expire_ms: expire_ms.as_str()?.parse().ok()?,
        })
    });
    Some((changes.collect::<Option<_>>()?, u64::try_from(*next).ok()))
}

pub(super) async fn apply(
    registry: App,
    Path((ns, name, id, file)): Path<(String, String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: DiscardedApply = body(&bytes)?;
    let record = cluster.record();
    let (shard, node) = record
        .nodes()
        .find(|(_, node)| node.id == id)
        .ok_or_else(|| ApiError::not_found("node: not found"))?;
    let exports = listed(&record, shard, node).await;
    let exports = exports.map_err(|error| ApiError::node(&node.local, &error))?;
    let export = exports.into_iter().find(|export| export.file == file);
    let export = export.ok_or_else(|| ApiError::not_found("there is no such export"))?;
    let master = record.shards.get(shard).and_then(planner::Shard::master);
    let master = master.ok_or_else(|| ApiError::failed("the shard has no master"))?;
    let (changes, mut outcome) = last_states(&record, node, &file).await?;
    let mut batch = Vec::new();
    let mut size = 0;
    let mut changes = changes.into_iter().peekable();
    while let Some(change) = changes.next() {
        size += change.key.len() + change.value.len();
        batch.push(change);
        if changes.peek().is_none() || size >= APPLY_BYTES || batch.len() >= APPLY_KEYS {
            put_back(&record, master, &export, spec, &batch, &mut outcome).await?;
            (batch, size) = (Vec::new(), 0);
        }
    }
    outcome.master = master.local.to_string();
    outcome.done = spec.confirm;
    if spec.confirm {
        let counts = outcome.counts.iter().map(|(word, count)| format!("{count} {word}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let text = format!(
            "discarded writes of {} ({file}) put back through {}: {counts}",
            node.local, master.local
        );
        tracing::info!(cluster = %cluster.label(), "{text}");
        cluster.note("change", text);
    }
    Ok(ok(outcome))
}

/// The last state of each key in an export, and what of it cannot be put back.
async fn last_states(
    record: &Record,
    node: &Node,
    file: &str,
) -> Result<(Vec<Change>, DiscardedOutcome), ApiError> {
    let mut last = BTreeMap::<Vec<u8>, Change>::new();
    let mut outcome = DiscardedOutcome::default();
    let (mut offset, mut size) = (0, 0);
    loop {
        let (changes, next) = page(record, node, file, offset).await?;
        for change in changes {
            size += change.key.len() + change.value.len();
            last.insert(change.key.clone(), change);
        }
        if size > EXPORT_BYTES_MAX {
            return Err(ApiError::bad(format!(
                "the export holds more than {} MiB: too much to put back at once",
                EXPORT_BYTES_MAX >> 20
            )));
        }
        match next {
            Some(next) if next > offset => offset = next,
            _ => break,
        }
    }
    let (usable, other): (Vec<Change>, Vec<Change>) =
        last.into_values().partition(|change| change.what != "other");
    for change in other {
        count(&mut outcome, "unsupported", &change.key);
    }
    Ok((usable, outcome))
}

async fn put_back(
    record: &Record,
    master: &Node,
    export: &DiscardedExport,
    spec: DiscardedApply,
    batch: &[Change],
    outcome: &mut DiscardedOutcome,
) -> Result<(), ApiError> {
    let fork = export.fork.to_string();
    let mode: &[u8] = if spec.confirm { b"RUN" } else { b"DRY" };
    let rule: &[u8] = if spec.only_absent { b"ABSENT" } else { b"SINCE" };
    let mut words: Vec<&[u8]> = vec![b"CLUSTERX", b"DISCARDED", b"APPLY"];
    words.extend([fork.as_bytes(), export.epoch_id.as_bytes(), mode, rule]);
    let expiries: Vec<String> = batch.iter().map(|change| change.expire_ms.to_string()).collect();
    for (change, expiry) in batch.iter().zip(&expiries) {
        words.extend([change.what.as_bytes(), &change.key, &change.value, expiry.as_bytes()]);
    }
    let value = ask(&master.local, record, &words, APPLY_PATIENCE).await;
    let value = value.map_err(|error| ApiError::node(&master.local, &error))?;
    let Value::Array(answers) = value else {
        return Err(ApiError::failed(format!(
            "master {}: its answer cannot be read",
            master.local
        )));
    };
    for (change, answer) in batch.iter().zip(&answers) {
        count(outcome, answer.as_str().unwrap_or("unknown"), &change.key);
    }
    Ok(())
}

fn count(outcome: &mut DiscardedOutcome, word: &str, key: &[u8]) {
    *outcome.counts.entry(word.to_owned()).or_default() += 1;
    let named = outcome.keys.entry(word.to_owned()).or_default();
    if named.len() < NAMED_MAX {
        named.push(latin(key));
    }
}

async fn ask(
    endpoint: &Endpoint,
    record: &Record,
    words: &[&[u8]],
    patience: Duration,
) -> Result<Value, ClientError> {
    let asked = async {
        let mut connection = Connection::open(endpoint, record.password.as_deref()).await?;
        connection.command(words).await
    };
    tokio::time::timeout(patience, asked).await.map_err(|_| ClientError::Timeout(patience))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_whole_or_not_at_all() {
        let bulk = |text: &str| Value::Bulk(text.into());
        let words = vec![Value::Integer(-1), bulk("set"), bulk("k"), bulk("v"), bulk("0")];
        let (changes, next) = read_page(&Value::Array(words.clone())).expect("a page");
        assert_eq!((changes.len(), next), (1, None));
        assert_eq!(shown(changes[0].clone()).key, "k");
        assert_eq!(read_page(&Value::Array(words[..4].to_vec())), None);
        assert_eq!(read_page(&Value::Null), None);
        assert_eq!(latin(&[0, 0xff]), "\0ÿ");
    }
}
