//! What a copy that follows asks the Redis, beside its stream.

use anyhow::{Context as _, Result, bail};
use resp::{Value, encode_command};

use super::super::link::{Put, Source, ask, ask_for, dumped};
use super::super::refused;
use super::commands::Table;

/// Replicas that no Redis has: with this as `min-replicas-to-write` it refuses all writes.
const NEVER: &str = "1000000";
/// What it takes of the lag, for that option to count.
const LAG: &str = "min-replicas-max-lag";
const REPLICAS: &str = "min-replicas-to-write";

/// How a Redis was before it was told to refuse writes.
#[derive(Debug)]
pub(super) struct Fence {
    replicas: String,
    lag: String,
}

impl Source {
    /// Where the keys of its commands stand.
    pub(super) async fn table(&mut self) -> Result<Table> {
        Ok(Table::read(&ask(&mut self.0, &[b"COMMAND"]).await?))
    }

    /// The keys of a command.
    pub(super) async fn keys_of(&mut self, words: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let start: [&[u8]; 2] = [b"COMMAND", b"GETKEYS"];
        let words: Vec<&[u8]> = start.into_iter().chain(words.iter().map(Vec::as_slice)).collect();
        let bytes = encode_command(&words);
        let reply = self.0.pipeline(&bytes, 1).await.context("COMMAND GETKEYS")?.pop();
        match reply {
            Some(Value::Array(keys)) => {
                Ok(keys.iter().filter_map(|key| key.as_bytes().map(<[u8]>::to_vec)).collect())
            }
            // The command has none.
            Some(reply) if refused(&reply).is_some() => Ok(Vec::new()),
            reply => bail!("COMMAND GETKEYS: {reply:?}"),
        }
    }

    /// Where its stream ends.
    pub(super) async fn offset(&mut self) -> Result<u64> {
        offset_in(&ask(&mut self.0, &[b"INFO", b"replication"]).await?)
    }

    /// Keys as they are now, and the place in the stream that is now.
    pub(super) async fn look(&mut self, keys: &[Vec<u8>]) -> Result<(u64, Vec<Put>)> {
        let mut bytes = encode_command(&["MULTI"]);
        bytes.extend(encode_command(&["INFO", "replication"]));
        keys.iter().for_each(|key| ask_for(key, &mut bytes));
        bytes.extend(encode_command(&["EXEC"]));
        let count = 3 + 2 * keys.len();
        let replies = self.0.pipeline(&bytes, count).await.context("DUMP in a transaction")?;
        let Some(Value::Array(parts)) = replies.last() else {
            bail!("DUMP in a transaction: {:?}", replies.last())
        };
        let [info, values @ ..] = parts.as_slice() else { bail!("EXEC without replies") };
        let puts = keys.iter().zip(values.chunks(2)).map(|(key, values)| {
            Ok(dumped(key, values)?.map_or_else(|| Put::Gone(key.clone()), Put::Value))
        });
        Ok((offset_in(info)?, puts.collect::<Result<_>>()?))
    }

    async fn option(&mut self, name: &str) -> Result<String> {
        let reply = ask(&mut self.0, &[b"CONFIG", b"GET", name.as_bytes()]).await?;
        let Value::Array(parts) = &reply else { bail!("CONFIG GET {name}: {reply:?}") };
        let value = parts.get(1).and_then(Value::as_str);
        Ok(value.with_context(|| format!("CONFIG GET {name}: {reply:?}"))?.to_owned())
    }

    async fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let words: [&[u8]; 4] = [b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()];
        ask(&mut self.0, &words).await.map(drop)
    }

    /// How it is before it is told to refuse writes.
    pub(super) async fn unfenced(&mut self) -> Result<Fence> {
        Ok(Fence { replicas: self.option(REPLICAS).await?, lag: self.option(LAG).await? })
    }

    /// Lets it refuse writes from now on.
    pub(super) async fn fence(&mut self, before: &Fence) -> Result<()> {
        if before.lag == "0" {
            self.set(LAG, "10").await?;
        }
        self.set(REPLICAS, NEVER).await
    }

    /// Takes that back.
    pub(super) async fn unfence(&mut self, fence: &Fence) -> Result<()> {
        self.set(REPLICAS, &fence.replicas).await?;
        self.set(LAG, &fence.lag).await
    }
}

impl Fence {
    /// What a person types to take it back.
    pub(super) fn undo(&self) -> String {
        format!("CONFIG SET {REPLICAS} {}", self.replicas)
    }
}

fn offset_in(info: &Value) -> Result<u64> {
    let text = info.as_str().context("INFO is no text")?;
    let found = text.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
    let found = found.context("INFO replication has no master_repl_offset")?;
    found.trim().parse().context("master_repl_offset is no number")
}
