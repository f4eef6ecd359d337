//! `/discarded`: what deposed masters cut off and keep in their folders, and putting it back
//! through the present master.

mod apply;
mod fold;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::rest::{Discarded, DiscardedChange, DiscardedExport, DiscardedPage, DiscardedSilent};
use axum::extract::{Path, Query};
use axum::response::Response;
use planner::{Node, Record};
use resp::Value;
use tokio::task::JoinSet;
use topology::Endpoint;
use web::tls::Tls;

use super::error::{ApiError, ok};
use super::{App, find};
use crate::client::{ClientError, Connection, REPLY_BYTES_MAX};

pub(super) use apply::apply;

/// Longest time a node may take to list its exports; all are asked at once, and one that is away
/// must not hide the others for long.
const LIST_PATIENCE: Duration = Duration::from_secs(3);
/// The same for a page of an export.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a file, asked for at once. With the largest batch that a node tells it is a reply that is
/// read.
const PAGE_BYTES: u64 = 512 << 10;

/// A node that is asked.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    id: String,
    endpoint: Endpoint,
    /// Index of its shard.
    shard: usize,
    password: Option<String>,
    tls: Arc<Tls>,
}

impl Peer {
    fn new(registry: &App, record: &Record, (shard, node): (usize, &Node)) -> Self {
        let (id, endpoint) = (node.id.clone(), node.local.clone());
        let tls = Arc::clone(&registry.shared.tls);
        Self { id, endpoint, shard, password: record.password.clone(), tls }
    }

    pub(super) fn find(registry: &App, record: &Record, id: &str) -> Result<Self, ApiError> {
        let found = record.nodes().find(|(_, node)| node.id == id);
        let found = found.map(|of| Self::new(registry, record, of));
        found.ok_or_else(|| ApiError::not_found("node: not found"))
    }

    pub(super) async fn ask(
        &self,
        words: &[&[u8]],
        patience: Duration,
    ) -> Result<Value, ClientError> {
        self.ask_much(words, patience, REPLY_BYTES_MAX).await
    }

    /// What may be answered at more length.
    async fn ask_much(
        &self,
        words: &[&[u8]],
        patience: Duration,
        reply_bytes_max: usize,
    ) -> Result<Value, ClientError> {
        let asked = async {
            let password = self.password.as_deref();
            let mut connection = Connection::open(&self.endpoint, password, &self.tls).await?;
            connection.set_reply_bytes_max(reply_bytes_max);
            connection.command(words).await
        };
        tokio::time::timeout(patience, asked).await.map_err(|_| ClientError::Timeout(patience))?
    }

    pub(super) fn failed(&self, error: &ClientError) -> ApiError {
        ApiError::node(&self.endpoint, error)
    }
}

pub(super) async fn list(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    let peers = record.nodes().map(|of| Peer::new(&registry, &record, of));
    Ok(ok(list_of(peers.collect()).await))
}

/// Asks all of them at once; the answer is in their order.
async fn list_of(peers: Vec<Peer>) -> Discarded {
    let mut asked = JoinSet::new();
    for (place, peer) in peers.into_iter().enumerate() {
        asked.spawn(async move {
            let found = listed(&peer).await;
            (place, peer.endpoint.to_string(), found)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(place, ..)| *place);
    let mut answer = Discarded { exports: Vec::new(), silent: Vec::new() };
    for (_, addr, found) in answers {
        match found {
            Ok(exports) => answer.exports.extend(exports),
            Err(error) => {
                answer.silent.push(DiscardedSilent { addr, error: error.to_string() });
            }
        }
    }
    answer
}

async fn listed(peer: &Peer) -> Result<Vec<DiscardedExport>, ClientError> {
    let value = peer.ask(&[b"CLUSTERX", b"DISCARDED", b"LIST"], LIST_PATIENCE).await?;
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
            node: peer.id.clone(),
            addr: peer.endpoint.to_string(),
            shard: peer.shard,
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
    let peer = Peer::find(&registry, &record, &id)?;
    let offset = query.get("offset").map_or(Ok(0), |text| text.parse());
    let offset = offset.map_err(|_| ApiError::bad("offset is no number"))?;
    let (changes, next) = page(&peer, &file, offset).await?;
    let changes = changes.into_iter().map(shown).collect();
    Ok(ok(DiscardedPage { changes, next }))
}

fn shown(change: Change) -> DiscardedChange {
    let (what, key, value, words) = match change {
        Change::Command(words) => {
            let key = words.get(1).map_or_else(String::new, |key| latin(key));
            ("command", key, String::new(), words.iter().map(|word| latin(word)).collect())
        }
        Change::Other { key, what } => ("other", latin(&key), latin(&what), Vec::new()),
    };
    DiscardedChange { what: what.to_owned(), key, value, words }
}

/// Bytes as characters U+0000 to U+00FF, as in the export itself.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// What was discarded, as nodes tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// A command, in words.
    Command(Vec<Vec<u8>>),
    /// What no command says.
    Other { key: Vec<u8>, what: Vec<u8> },
}

async fn page(
    peer: &Peer,
    file: &str,
    offset: u64,
) -> Result<(Vec<Change>, Option<u64>), ApiError> {
    let (offset, bytes) = (offset.to_string(), PAGE_BYTES.to_string());
    let words: [&[u8]; 7] = [
        b"CLUSTERX",
        b"DISCARDED",
        b"READ",
        file.as_bytes(),
        offset.as_bytes(),
        bytes.as_bytes(),
        b"COMMANDS",
    ];
    let value = peer.ask(&words, PATIENCE).await.map_err(|error| peer.failed(&error))?;
    read_page(&value).ok_or_else(|| {
        ApiError::failed(format!("node {}: its answer cannot be read", peer.endpoint))
    })
}

fn read_page(value: &Value) -> Option<(Vec<Change>, Option<u64>)> {
    let Value::Array(elements) = value else { return None };
    let (next, changes) = elements.split_first()?;
    let Value::Integer(next) = next else { return None };
    let changes = changes.chunks(2).map(|said| {
        let [what, Value::Array(words)] = said else { return None };
        let words: Vec<Vec<u8>> =
            words.iter().map(|word| Some(word.as_bytes()?.to_vec())).collect::<Option<_>>()?;
        match (what.as_bytes()?, words.as_slice()) {
            (b"command", [_, ..]) => Some(Change::Command(words)),
            (b"other", [key, what]) => Some(Change::Other { key: key.clone(), what: what.clone() }),
            _ => None,
        }
    });
    Some((changes.collect::<Option<_>>()?, u64::try_from(*next).ok()))
}

#[cfg(test)]
pub(in crate::rest) mod tests {
    use resp::{Limits, Parser, Protocol, Writer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::Barrier;

    use super::*;

    /// A node that answers each command with what `answer` makes of its words.
    pub(super) async fn node(
        answer: impl AsyncFn(&[Vec<u8>], &mut Vec<u8>) + 'static,
        local: &tokio::task::LocalSet,
    ) -> Peer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        local.spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut buffer, mut parser) = (Vec::new(), Parser::new());
                while let Ok(1..) = stream.read_buf(&mut buffer).await {
                    let parsed = parser.parse(&buffer, &Limits::new(64 << 20));
                    let Ok(resp::request::Parsed::Command { length }) = parsed else { continue };
                    let words: Vec<Vec<u8>> =
                        parser.arguments(&buffer).map(<[u8]>::to_vec).collect();
                    buffer.drain(..length);
                    let mut out = Vec::new();
                    answer(&words, &mut out).await;
                    if stream.write_all(&out).await.is_err() {
                        break;
                    }
                }
            }
        });
        let endpoint = Endpoint { host: "127.0.0.1".into(), port };
        Peer { id: format!("node {port}"), endpoint, shard: 0, password: None, tls: Arc::default() }
    }

    /// Each answers only once both were asked.
    #[tokio::test]
    async fn all_nodes_are_asked_at_once() {
        let local = tokio::task::LocalSet::new();
        let both = Arc::new(Barrier::new(2));
        let answers = async || {
            let mut peers = Vec::new();
            for fork in [7, 8] {
                let both = Arc::clone(&both);
                let answer = async move |_: &[Vec<u8>], out: &mut Vec<u8>| {
                    both.wait().await;
                    let line = format!("1-{fork}.jsonl 100 {fork} 1 9 1 0000000000000001\r\n");
                    Writer::new(out, Protocol::V2).bulk(line.as_bytes());
                };
                peers.push(node(answer, &local).await);
            }
            list_of(peers).await
        };
        let list = local.run_until(answers()).await;
        assert_eq!(list.silent, []);
        let forks: Vec<_> = list.exports.iter().map(|export| export.fork).collect();
        assert_eq!(forks, [7, 8], "in the order of the nodes");
    }

    #[test]
    fn pages_are_read_whole_or_not_at_all() {
        let bulk = |text: &str| Value::Bulk(text.into());
        let list = |words: &[&str]| Value::Array(words.iter().map(|word| bulk(word)).collect());
        let words = vec![
            Value::Integer(-1),
            bulk("command"),
            list(&["HSET", "k", "f", "v"]),
            bulk("other"),
            list(&["h", "a hyperloglog"]),
        ];
        let (changes, next) = read_page(&Value::Array(words.clone())).expect("a page");
        assert_eq!((changes.len(), next), (2, None));
        let [command, other] = [0, 1].map(|place: usize| shown(changes[place].clone()));
        assert_eq!((command.key.as_str(), command.words.len()), ("k", 4));
        assert_eq!((other.key.as_str(), other.value.as_str()), ("h", "a hyperloglog"));
        assert_eq!(read_page(&Value::Array(words[..4].to_vec())), None);
        let unknown = vec![Value::Integer(-1), bulk("set"), list(&["k", "v"])];
        assert_eq!(read_page(&Value::Array(unknown)), None);
        assert_eq!(read_page(&Value::Null), None);
        assert_eq!(latin(&[0, 0xff]), "\0ÿ");
    }
}
