//! What a copy that follows asks the Redis, beside its stream.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use resp::{Value, encode_command};
use tokio::time::{Instant, sleep};

use super::super::link::{Source, ask};
use super::super::values::{Put, ask_for, dumped};
use super::commands::Table;

/// Replicas that no Redis has: with this as `min-replicas-to-write` it refuses all writes.
const NEVER: &str = "1000000";
/// What it takes of the lag, for that option to count.
const LAG: &str = "min-replicas-max-lag";
const REPLICAS: &str = "min-replicas-to-write";

/// How long a Redis may run a script, or load, before it says where the keys of a command stand.
const BUSY: Duration = Duration::from_secs(120);
/// Before it is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Why a Redis does not say the keys of a command.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// It has none, or is no command that could have run.
    HasNone,
    /// It cannot say so now.
    Later,
    /// It does not say so.
    Never,
}

impl Refused {
    /// By the text of the error.
    fn of(text: &str) -> Self {
        const NONE: [&str; 4] = [
            "The command has no key arguments",
            "Invalid command specified",
            "Invalid arguments specified for command",
            "Invalid number of arguments specified for command",
        ];
        match text.split_once(' ') {
            Some(("ERR", why)) if NONE.iter().any(|none| why.starts_with(none)) => Self::HasNone,
            Some(("BUSY" | "LOADING", _)) => Self::Later,
            _ => Self::Never,
        }
    }
}

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
        let (bytes, begun) = (encode_command(&words), Instant::now());
        loop {
            let reply = self.0.pipeline(&bytes, 1).await.context("COMMAND GETKEYS")?.pop();
            match reply {
                Some(Value::Array(keys)) => {
                    return Ok(keys
                        .iter()
                        .filter_map(|key| key.as_bytes().map(<[u8]>::to_vec))
                        .collect());
                }
                Some(Value::Error(text)) => match Refused::of(&text) {
                    Refused::HasNone => return Ok(Vec::new()),
                    Refused::Later if begun.elapsed() < BUSY => sleep(AGAIN).await,
                    // What the command wrote would be missing.
                    _ => bail!("COMMAND GETKEYS: {text}"),
                },
                reply => bail!("COMMAND GETKEYS: {reply:?}"),
            }
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
        let replicas = format!("CONFIG SET {REPLICAS} {}", self.replicas);
        match self.lag.as_str() {
            "0" => format!("{replicas} and then CONFIG SET {LAG} 0"),
            _ => replicas,
        }
    }
}

fn offset_in(info: &Value) -> Result<u64> {
    let text = info.as_str().context("INFO is no text")?;
    let found = text.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
    let found = found.context("INFO replication has no master_repl_offset")?;
    found.trim().parse().context("master_repl_offset is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_command_without_keys_has_none() {
        let none = Refused::of("ERR The command has no key arguments");
        assert_eq!(none, Refused::HasNone);
        for later in ["BUSY Redis is busy running a script.", "LOADING Redis is loading"] {
            assert_eq!(Refused::of(later), Refused::Later, "{later}");
        }
        for never in ["NOPERM User follower has no permissions", "ERR unknown", "ERR"] {
            assert_eq!(Refused::of(never), Refused::Never, "{never}");
        }
    }

    #[test]
    fn the_way_back_names_all_that_was_changed() {
        let undo = |lag: &str| Fence { replicas: "1".into(), lag: lag.into() }.undo();
        assert_eq!(undo("10"), "CONFIG SET min-replicas-to-write 1");
        assert!(undo("0").ends_with("and then CONFIG SET min-replicas-max-lag 0"));
    }
}
