//! Clients that write while something is told.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::client::{self, Client, Key, Map, Shared, Written};
use super::found::Log;

/// Writers, each with keys and connections of its own.
const WRITERS: usize = 8;

/// What was told, and what clients saw of it.
pub(super) struct Told<T> {
    pub(super) logs: Vec<Log>,
    pub(super) written: Written,
    /// For so long they wrote.
    pub(super) took: Duration,
    /// What came of the telling.
    pub(super) of: T,
}

/// Tells something while clients write so many times a second, all together.
pub(super) fn under_load<T>(
    keys: &[Key],
    map: &Map,
    rate: u32,
    tell: impl FnOnce(&Shared) -> Result<T>,
) -> Result<Told<T>> {
    let shared = Shared::new();
    let rate = f64::from(rate) / WRITERS as f64;
    std::thread::scope(|threads| -> Result<Told<T>> {
        let _ends = EndsThem(&shared);
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let its: Vec<usize> = (writer..keys.len()).step_by(WRITERS).collect();
            let (map, shared) = (map.clone(), &shared);
            writers.push(threads.spawn(move || client::write(keys, &its, (map, rate), shared)));
        }
        let of = tell(&shared)?;
        shared.stop.store(true, Ordering::SeqCst);
        let took = shared.since_begin();
        let joined = writers.into_iter().map(|writer| writer.join());
        let all = joined.collect::<Result<Vec<_>, _>>();
        let all = all.map_err(|_| anyhow::anyhow!("a client panicked"))?;
        let (logs, written): (Vec<Log>, Vec<Written>) = all.into_iter().unzip();
        Ok(Told { logs, written: written.concat(), took, of })
    })
}

/// Clients end with what they are watched by, whatever becomes of that.
struct EndsThem<'a>(&'a Shared);

impl Drop for EndsThem<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// How many writes that were acknowledged are not shown.
pub(super) fn missing(mut client: Client, keys: &[Key], written: &[(usize, u64)]) -> Result<u64> {
    let mut missing = 0;
    for (index, acknowledged) in written {
        let key = keys.get(*index).context("a key that is none")?;
        let answer = client.call(key.slot, &key.kind.count(&key.name))?;
        missing += acknowledged.saturating_sub(key.kind.counted(&answer)?);
    }
    Ok(missing)
}
