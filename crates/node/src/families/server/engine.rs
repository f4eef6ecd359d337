//! What is asked of the database as a whole: COMPACT, STATS, POLLUPDATES, APPLYBATCH,
//! FLUSHMEMTABLE, FLUSHBLOCKCACHE.

use resp::Writer;
use storage::batch::{self, Record};
use storage::told::Told;
use storage::{DEFAULT_NAMESPACE, Family, FeedBatch, FeedRead, Scope, Store, prefix_end};

use crate::command::texts::LOADING;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{After, SessionCx, Tells, WriteCx};
use crate::timed;

/// Begins to compact the database, or the client's namespace; INFO tells when it is done.
pub(super) fn compact(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let bounds = if *cx.session.namespace == *DEFAULT_NAMESPACE {
        (Vec::new(), Vec::new())
    } else {
        let scope = Scope { namespace: &cx.session.namespace, cluster: false, now_ms: 0 };
        let prefix = scope.namespace_prefix();
        (prefix.to_vec(), prefix_end(&prefix))
    };
    if !timed::compact(cx.node, bounds) {
        return Err(Error::err("compact in-progress"));
    }
    Ok(reply.ok().into())
}

/// Writes memtables to tables, and answers when it is done, or with ASYNC at once. What is in
/// tables cannot be cut off any more: a node that has to give some of it up takes a copy instead.
pub(super) fn flush_memtable(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let waits = match (args.word().as_deref(), args.is_empty()) {
        (_, false) => return Err(Error::Arity("flushmemtable".into())),
        (None, true) => true,
        (Some(b"ASYNC"), true) => false,
        (Some(_), true) => return Err(Error::err("parameter must be 'ASYNC'")),
    };
    let store = cx.node.engine().store.clone().ok_or_else(|| Error::text(LOADING))?;
    if store.is_holding() {
        return Err(storage::Error::Unsettled.into());
    }
    if !waits {
        let spawned = std::thread::Builder::new().name("flush".into()).spawn(move || {
            if let Err(error) = store.flush() {
                tracing::error!(%error, "FLUSHMEMTABLE ASYNC failed");
            }
        });
        spawned.map_err(|error| Error::err(format_args!("start a thread: {error}")))?;
        return Ok(reply.ok().into());
    }
    let answer = Box::pin(async move {
        let flushed = tokio::task::spawn_blocking(move || store.flush().map_err(Error::from)).await;
        match flushed.unwrap_or_else(|error| Err(Error::err(error))) {
            Ok(()) => b"+OK\r\n".to_vec(),
            Err(error) => format!("-{error}\r\n").into_bytes(),
        }
    });
    Ok(After::Later(answer, Tells::Nothing))
}

/// Gives the memory of caches back, but for what is in use.
pub(super) fn flush_block_cache(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    _reply: Reply<'_>,
) -> Result<After> {
    let store = cx.node.engine().store.clone().ok_or_else(|| Error::text(LOADING))?;
    // A large cache takes its time.
    let answer = Box::pin(async move {
        match tokio::task::spawn_blocking(move || store.release_caches()).await {
            Ok(()) => b"+OK\r\n".to_vec(),
            Err(error) => format!("-ERR {error}\r\n").into_bytes(),
        }
    });
    Ok(After::Later(answer, Tells::Nothing))
}

/// What INFO's RocksDB section shows, as JSON.
pub(super) fn stats(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let text = crate::info::render(cx.node, &["rocksdb".to_owned()]);
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let number = |value: &str| value.parse::<u64>().map_or_else(|_| value.into(), Into::into);
    let map: serde_json::Map<String, serde_json::Value> =
        pairs.map(|(name, value)| (name.to_owned(), number(value))).collect();
    Ok(reply.bulk(serde_json::Value::Object(map).to_string().as_bytes()).into())
}

/// Batches of a reply unless told otherwise, and at most; as in Kvrocks.
const BATCHES: usize = 16;
const BATCHES_MAX: i64 = 1000;
/// Bytes of batches in one reply; of those that are told as commands, which take several times as
/// much memory.
const BYTES_MAX: usize = 64 << 20;
const TOLD_BYTES_MAX: usize = 8 << 20;
/// How many places are tried for the beginning of the batch that a sequence lies in.
const STEPS_BACK: u64 = 64;

/// How batches are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// As they are in the log, in hexadecimal digits.
    Raw,
    /// As commands.
    Resp,
}

struct Poll {
    /// Everything behind it is wanted.
    sequence: u64,
    max: usize,
    is_strict: bool,
    format: Format,
}

impl Poll {
    fn parse(args: &mut Args<'_>) -> Result<Self> {
        let sequence = args.number()?;
        let mut poll = Self { sequence, max: BATCHES, is_strict: false, format: Format::Raw };
        while let Some(word) = args.word() {
            match &*word {
                b"MAX" => {
                    let max = args.integer()?;
                    let is_right = (1..=BATCHES_MAX).contains(&max);
                    let max = usize::try_from(max).ok().filter(|_| is_right);
                    poll.max = max.ok_or_else(|| Error::err("out of numeric range"))?;
                }
                b"STRICT" => poll.is_strict = true,
                b"FORMAT" => {
                    poll.format = match args.word().as_deref() {
                        Some(b"RAW") => Format::Raw,
                        Some(b"RESP") => Format::Resp,
                        _ => {
                            let why = "invalid FORMAT option, should be RAW or RESP";
                            return Err(Error::err(why));
                        }
                    };
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(poll)
    }

    /// The batches from the one that holds the next sequence on. Reads files.
    fn read(&self, store: &Store) -> Result<Vec<FeedBatch>> {
        let next = self.sequence.saturating_add(1);
        if next > store.latest_sequence().saturating_add(1) {
            return Err(Error::err("next sequence is out of range"));
        }
        let mut feed = store.feed();
        let bytes_max = if self.format == Format::Raw { BYTES_MAX } else { TOLD_BYTES_MAX };
        let steps = if self.is_strict { 0 } else { STEPS_BACK.min(next.saturating_sub(1)) };
        for from in (next - steps..=next).rev() {
            match feed.read(from, bytes_max)? {
                FeedRead::Batches(mut batches) => {
                    batches.truncate(self.max);
                    return Ok(batches);
                }
                FeedRead::UpToDate => return Ok(Vec::new()),
                FeedRead::Gone => {}
            }
        }
        Err(Error::err("no batch begins there, or it is in the log no more"))
    }

    /// `cluster`: whether keys carry their slots.
    fn answer(&self, store: &Store, cluster: bool, writer: &mut Writer<'_>) -> Result<()> {
        let batches = self.read(store)?;
        let mut told = Told::new(cluster);
        if self.format == Format::Resp {
            batches.iter().try_for_each(|batch| told.add(&batch.data))?;
        }
        let next = batches.last().map_or(self.sequence, |last| {
            last.sequence.saturating_add(u64::from(last.count)).saturating_sub(1)
        });
        let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        writer.map(3);
        writer.bulk(b"next_sequence");
        writer.integer(integer(next));
        writer.bulk(b"latest_sequence");
        writer.integer(integer(store.latest_sequence()));
        writer.bulk(b"updates");
        match self.format {
            Format::Raw => {
                writer.array(batches.len());
                for batch in &batches {
                    writer.bulk(&hexadecimal(&batch.data));
                }
            }
            Format::Resp => write_told(&told, writer),
        }
        Ok(())
    }
}

/// The commands of each namespace behind its name; as in Kvrocks an array in RESP3 too.
fn write_told(told: &Told, writer: &mut Writer<'_>) {
    let namespaces = told.by_namespace();
    writer.array(2 * namespaces.len());
    for (namespace, commands) in namespaces {
        writer.bulk(if namespace == DEFAULT_NAMESPACE { b"default" } else { namespace });
        writer.array(commands.len());
        for words in commands {
            writer.array(words.len());
            for word in words {
                writer.bulk(word);
            }
        }
    }
}

/// Two digits for each byte. There may be many.
fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + (value - 10) };
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The batches behind a sequence, as they are in the log, or as commands.
pub(super) fn poll_updates(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    _reply: Reply<'_>,
) -> Result<After> {
    let poll = Poll::parse(args)?;
    let store = cx.node.engine().store.clone().ok_or_else(|| Error::text(LOADING))?;
    let (protocol, cluster) = (cx.session.protocol, cx.config.cluster_enabled);
    let answer = Box::pin(async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes, protocol);
            poll.answer(&store, cluster, &mut writer).map(|()| bytes)
        });
        let answered = read.await.unwrap_or_else(|error| Err(Error::err(error)));
        answered.unwrap_or_else(|error| format!("-{error}\r\n").into_bytes())
    });
    Ok(After::Later(answer, Tells::Read))
}

/// Writes the records of a batch that another database logged. The sequence numbers are our own.
pub(super) fn apply_batch(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let raw = args.bytes()?;
    match args.word().as_deref() {
        None | Some(b"LOWPRI") => args.end()?,
        Some(_) => return Err(Error::err("only support LOWPRI option")),
    }
    batch::parse(raw).map_err(Error::err)?;
    for record in batch::records(raw) {
        let record = record.map_err(Error::err)?;
        // Which process wrote which stretch of the history stands there too, and is nobody's to
        // say.
        let is_ours = match record {
            Record::LogData(_) => false,
            Record::Put { family, .. }
            | Record::Delete { family, .. }
            | Record::DeleteRange { family, .. } => family == Family::Propagate,
        };
        if is_ours {
            return Err(Error::err("a batch with records of the family propagate is not applied"));
        }
        match record {
            Record::Put { family, key, value } => cx.txn.put(family, key, value),
            Record::Delete { family, key } => cx.txn.delete(family, key),
            Record::DeleteRange { family, begin, end } => cx.txn.delete_range(family, begin, end),
            Record::LogData(data) => cx.txn.log(data),
        }
        cx.txn.must_fit()?;
    }
    Ok(reply.count(raw.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_two_digits() {
        assert_eq!(hexadecimal(&[0, 9, 0x9a, 0xff]), b"00099AFF");
    }
}
