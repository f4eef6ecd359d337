//! Puts what a Redis sent into the target.
//!
//! Invariant: nothing is done twice to a key. A key that was read from the Redis anew is ahead of
//! the stream: commands on it that the Redis had carried out by then are passed over. So whatever
//! was not done for certain (an error, a connection that broke) is made good by reading its keys
//! anew.
//!
//! What does not fit a cluster is read anew as well, at the end of the commands that came together,
//! and what they do to these keys meanwhile is passed over. So a copy that is far behind catches up
//! with many commands by reading few keys.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Result, bail};
use tokio::sync::mpsc::Receiver;

use super::super::link::{Order, Source, Target};
use super::commands::{Meaning, Table, of_keys};
use super::progress::Progress;
use super::read::{Told, Work};
use crate::out;

/// Keys that are read in one transaction of the Redis.
const TOGETHER: usize = 16;

/// See the module.
pub(super) struct Applier {
    source: Source,
    target: Target,
    table: Table,
    /// What is copied.
    ours: u64,
    /// What the stream has selected.
    db: u64,
    /// Up to which place of the stream keys are ahead of it.
    ahead: HashMap<Vec<u8>, u64>,
    /// Commands that are to be sent.
    orders: Vec<Order>,
    /// Keys that are to be read anew, after these.
    stale: BTreeSet<Vec<u8>>,
    progress: Arc<Progress>,
}

impl Applier {
    pub(super) fn new(
        source: Source,
        target: Target,
        table: Table,
        ours: u64,
        progress: Arc<Progress>,
    ) -> Self {
        let (ahead, orders, stale) = (HashMap::new(), Vec::new(), BTreeSet::new());
        // A stream begins in no database: the first command selects one.
        Self { source, target, table, ours, db: 0, ahead, orders, stale, progress }
    }

    /// Does all that comes; it ends with an error alone.
    pub(super) async fn run(mut self, mut works: Receiver<Result<Work>>) -> Result<()> {
        while let Some(work) = works.recv().await {
            match work? {
                Work::Keys(values) => {
                    self.target.put(&values, false).await?;
                    self.progress.copy(values.len() as u64);
                }
                Work::Library(code) => {
                    let words = [&b"FUNCTION"[..], b"LOAD", b"REPLACE", &code];
                    self.everywhere(&words.map(<[u8]>::to_vec)).await?;
                }
                Work::Copied { passed } => {
                    if passed > 0 {
                        out::say(&format!("{passed} values of modules were passed over"));
                    }
                    self.progress.copied();
                }
                Work::Commands(told) => self.commands(&told).await?,
            }
        }
        bail!("the Redis sends nothing more")
    }

    async fn commands(&mut self, told: &[Told]) -> Result<()> {
        for one in told {
            let mut meaning = self.table.meaning(&one.words, self.db, self.ours);
            if meaning == Meaning::Ask {
                let keys = self.source.keys_of(&one.words).await?;
                meaning = if keys.is_empty() { Meaning::Nothing } else { of_keys(keys) };
            }
            match meaning {
                Meaning::Nothing | Meaning::Ask => {}
                Meaning::Select(db) => self.db = db,
                Meaning::Send(keys) => {
                    let left = behind(&self.ahead, &keys, one.end);
                    if left.len() < keys.len() || left.iter().any(|key| self.stale.contains(key)) {
                        self.stale.extend(left);
                    } else {
                        self.orders.push(Order { words: one.words.clone(), keys });
                    }
                }
                Meaning::Copy(keys) => self.stale.extend(behind(&self.ahead, &keys, one.end)),
                Meaning::Everywhere => {
                    self.flush().await?;
                    self.everywhere(&one.words).await?;
                    if is_flush(&one.words) {
                        // It may have deleted what was read of a later moment.
                        let ahead = self.ahead.iter().filter(|(_, ahead)| **ahead > one.end);
                        let keys = ahead.map(|(key, _)| key.clone()).collect();
                        self.read_anew(keys).await?;
                    }
                }
                Meaning::Stop(why) => bail!("{why}: begin anew, with an empty target"),
            }
        }
        self.flush().await?;
        if let Some(last) = told.last() {
            self.ahead.retain(|_, ahead| *ahead > last.end);
            self.progress.apply(last.end, told.len() as u64);
        }
        Ok(())
    }

    /// Sends what waits, then reads anew what is to be, and what was not done.
    async fn flush(&mut self) -> Result<()> {
        let orders = std::mem::take(&mut self.orders);
        if !orders.is_empty() {
            let failed = self.target.order(&orders).await;
            let orders = failed.iter().filter_map(|at| orders.get(*at));
            self.stale.extend(orders.flat_map(|order| order.keys.iter().cloned()));
        }
        let keys = std::mem::take(&mut self.stale).into_iter().collect();
        self.read_anew(keys).await
    }

    async fn read_anew(&mut self, keys: Vec<Vec<u8>>) -> Result<()> {
        for part in keys.chunks(TOGETHER) {
            let (offset, values) = self.source.look(part).await?;
            self.target.put(&values, false).await?;
            self.progress.copy_again(values.len() as u64);
            self.ahead.extend(part.iter().map(|key| (key.clone(), offset)));
        }
        Ok(())
    }

    async fn everywhere(&mut self, words: &[Vec<u8>]) -> Result<()> {
        self.target.everywhere(words).await
    }
}

/// Those that were not read after the place `end` of the stream.
fn behind(ahead: &HashMap<Vec<u8>, u64>, keys: &[Vec<u8>], end: u64) -> Vec<Vec<u8>> {
    let is_behind = |key: &&Vec<u8>| ahead.get(*key).is_none_or(|ahead| *ahead < end);
    keys.iter().filter(is_behind).cloned().collect()
}

/// It deletes keys: FLUSHALL or FLUSHDB. Libraries of functions are no keys.
fn is_flush(words: &[Vec<u8>]) -> bool {
    let names = [&b"flushall"[..], b"flushdb"];
    words.first().is_some_and(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_later_is_not_behind() {
        let key = |name: &str| name.as_bytes().to_vec();
        let ahead = HashMap::from([(key("early"), 9), (key("at"), 10), (key("late"), 11)]);
        let keys = ["early", "at", "late", "never"].map(key);
        assert_eq!(behind(&ahead, &keys, 10), [key("early"), key("never")]);
    }

    #[test]
    fn keys_are_deleted_everywhere_by_flushes_alone() {
        let of = |text: &str| {
            is_flush(&text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
        };
        assert!(of("FLUSHALL") && of("flushdb ASYNC"));
        assert!(!of("FUNCTION FLUSH") && !of("FUNCTION LOAD x"));
    }
}
