//! How `maxmemory` is divided: plain numbers.
//!
//! In sixteenths: block cache 4, memtables 3, connections 3, the process itself and what the
//! allocator cannot give back 2, long reads 1, scripts 1, a batch that is being written 1, small
//! values and batches for replicas a half each. The process has 48 MiB more, of the block cache's.
//! The Lua states of its workers are a part of what it has.

use crate::scripts::THREADS_MAX;

/// Least total, bytes: a smaller one would leave the parts too little to work with.
pub const LEAST: u64 = 256 << 20;
/// What a connection takes that holds nothing of its client's, bytes: its buffer and its state.
pub const CONNECTION: u64 = 28 << 10;

const UNITS: u64 = 16;
/// Of the process, whatever the total is, bytes.
const PROCESS: u64 = 48 << 20;
/// Memtables of one family before its writes stall, about; and two families are usual.
const WRITE_BUFFERS: u64 = 8;
/// What a step of a read may find, bytes, as `storage::budget` counts.
const STEP: u64 = 4096;
/// What a key takes that is noted for a client, bytes.
const TRACKED: u64 = 256;
/// Scripts that may run at a time.
const SCRIPTS: u64 = THREADS_MAX as u64;
/// Least of a script, bytes: Lua's own libraries take a part of it.
const SCRIPT_LEAST: u64 = 4 << 20;
/// Least and most bytes of a script on its worker, where it is to be over soon.
const SCRIPT_HERE: (u64, u64) = (2 << 20, 8 << 20);
/// Least steps of a read on its worker.
const STEPS_LEAST: u64 = 256;

/// What each part has, bytes unless it says otherwise. What the options ask for one by one is such
/// a division, too: one without a total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Of everything; 0: no bound.
    pub total: u64,
    /// Block cache.
    pub block_cache: u64,
    /// Small values in front of RocksDB; 0: none.
    pub values: u64,
    /// Memtables together; 0: no bound.
    pub memtables: u64,
    /// One memtable.
    pub write_buffer: u64,
    /// Live log; 0: as RocksDB chooses.
    pub log: u64,
    /// Batches for replicas.
    pub feed: u64,
    /// What connections hold together; 0: no bound.
    pub clients: u64,
    /// Replies of long reads together.
    pub long_reads: u64,
    /// One script.
    pub script: u64,
    /// One argument.
    pub argument: u64,
    /// What one client may send ahead.
    pub query: u64,
    /// One batch; 0: as large as replicas take.
    pub batch: u64,
    /// What a compaction reads ahead, of each table.
    pub readahead: u64,
    /// Keys that are noted for clients that track them; 0: no limit.
    pub tracked: u64,
    /// Steps of a read on its worker.
    pub steps: u64,
    /// Connections of clients.
    pub connections: u64,
}

/// Of a single thing where so much is asked for it: without a total all of that.
fn single(total: u64, asked: u64, share: u64) -> u64 {
    match (total, asked) {
        (0, _) => asked,
        (_, 0) => share,
        _ => asked.min(share),
    }
}

/// What connections hold together.
fn clients(total: u64) -> u64 {
    3 * (total / UNITS)
}

/// Of one argument, bytes; 0 of `total`: no bound. Every connection asks whenever it reads, so
/// this is no [`Parts::divide`].
pub fn argument(total: u64, asked: u64) -> u64 {
    // While it arrives its buffer may be twice as large.
    single(total, asked, clients(total) / 4)
}

/// What one client may send ahead, in the same way.
pub fn query(total: u64, asked: u64) -> u64 {
    single(total, asked, clients(total) / 2)
}

/// Steps of a read on its worker, in the same way.
pub fn steps(total: u64, asked: u64) -> u64 {
    single(total, asked, (clients(total) / 8 / STEP).max(STEPS_LEAST))
}

/// Of a script on one of so many workers, bytes: of a total all of them have an eighth of a
/// sixteenth. `script`: what one has that runs aside.
pub fn script_here(total: u64, workers: u64, script: u64) -> u64 {
    let (least, most) = SCRIPT_HERE;
    let share = if total == 0 { most } else { total / UNITS / 8 / workers.max(1) };
    share.clamp(least, most).min(script)
}

/// Keys that are noted for clients that track them, in the same way.
pub fn tracked(total: u64, asked: u64) -> u64 {
    single(total, asked, clients(total) / 8 / TRACKED)
}

impl Parts {
    /// Divides a total among the parts; 0: each has what is `asked` for it. What is asked
    /// explicitly, that is, otherwise than `usual`, is an upper bound of its part; limits (of an
    /// argument, a batch, a memtable …) always are.
    #[must_use]
    pub fn divide(total: u64, asked: &Self, usual: &Self) -> Self {
        if total == 0 {
            return *asked;
        }
        let unit = total / UNITS;
        let part = |of: fn(&Self) -> u64, share: u64| {
            let (asked, usual) = (of(asked), of(usual));
            if asked == usual { share } else { asked.min(share) }
        };
        let limit = |asked: u64, share: u64| single(total, asked, share);
        let (memtables, clients) = (3 * unit, clients(total));
        let script = (unit / SCRIPTS).max(SCRIPT_LEAST);
        Self {
            total,
            block_cache: part(|asked| asked.block_cache, (4 * unit).saturating_sub(PROCESS)),
            values: part(|asked| asked.values, unit / 2),
            memtables,
            write_buffer: limit(asked.write_buffer, (memtables / WRITE_BUFFERS).max(1 << 20)),
            // At a start all of it is in memtables, where small records take a multiple.
            log: limit(asked.log, memtables / 2),
            feed: limit(asked.feed, unit / 2),
            clients,
            long_reads: part(|asked| asked.long_reads, unit),
            script: limit(asked.script, script),
            argument: argument(total, asked.argument),
            query: query(total, asked.query),
            batch: limit(asked.batch, unit),
            // A compaction reads dozens of tables.
            readahead: asked.readahead.min(unit / 32),
            tracked: tracked(total, asked.tracked),
            steps: steps(total, asked.steps),
            // Idle, they take no more than half of the part.
            connections: asked.connections.min(clients / 2 / CONNECTION),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The defaults on a large machine.
    const USUAL: Parts = Parts {
        total: 0,
        block_cache: 4096 * MIB,
        values: 256 * MIB,
        memtables: 0,
        write_buffer: 64 * MIB,
        log: 512 * MIB,
        feed: 64 * MIB,
        clients: 0,
        long_reads: 2048 * MIB,
        script: 256 * MIB,
        argument: 512 * MIB,
        query: 1024 * MIB,
        batch: 0,
        readahead: 2 * MIB,
        tracked: 1_000_000,
        steps: 20_000,
        connections: 10_240,
    };

    fn sum(parts: &Parts) -> u64 {
        let scripts = parts.script * SCRIPTS;
        [parts.block_cache, parts.values, parts.memtables, parts.feed, parts.clients]
            .into_iter()
            .chain([parts.long_reads, scripts, parts.batch])
            .sum()
    }

    #[test]
    fn a_gibibyte_is_divided() {
        let parts = Parts::divide(1024 * MIB, &USUAL, &USUAL);
        let expected = Parts {
            total: 1024 * MIB,
            block_cache: 208 * MIB,
            values: 32 * MIB,
            memtables: 192 * MIB,
            write_buffer: 24 * MIB,
            log: 96 * MIB,
            feed: 32 * MIB,
            clients: 192 * MIB,
            long_reads: 64 * MIB,
            script: 8 * MIB,
            argument: 48 * MIB,
            query: 96 * MIB,
            batch: 64 * MIB,
            readahead: 2 * MIB,
            tracked: 98_304,
            steps: 6144,
            connections: 3510,
        };
        assert_eq!(parts, expected);
    }

    #[test]
    fn the_parts_leave_the_process_something_of_every_total() {
        for total in [LEAST, 300 * MIB, 512 * MIB, 1000 * MIB + 7, 4 << 30, 64 << 30, 1 << 40] {
            let parts = Parts::divide(total, &USUAL, &USUAL);
            // Where a script's least is more than its share, there is less left.
            let least = total / 8 + PROCESS - 8 * SCRIPT_LEAST.saturating_sub(total / 128);
            assert!(sum(&parts) + least <= total, "{total}: {parts:?}");
            assert!(parts.block_cache >= 16 * MIB && parts.argument >= MIB, "{parts:?}");
            assert!(
                parts.query >= 2 * parts.argument && parts.batch >= parts.argument,
                "{parts:?}"
            );
            assert!(parts.write_buffer <= parts.memtables / 4, "{parts:?}");
        }
    }

    #[test]
    fn what_is_asked_for_otherwise_than_by_default_is_an_upper_bound() {
        let small = Parts { block_cache: 8 * MIB, values: 0, long_reads: 3 * MIB, ..USUAL };
        let parts = Parts::divide(1024 * MIB, &small, &USUAL);
        assert_eq!((parts.block_cache, parts.values, parts.long_reads), (8 * MIB, 0, 3 * MIB));
        let large = Parts { block_cache: 900 * MIB, values: 800 * MIB, ..USUAL };
        let parts = Parts::divide(1024 * MIB, &large, &USUAL);
        assert_eq!((parts.block_cache, parts.values), (208 * MIB, 32 * MIB));
        // A default that is smaller than the part is none.
        let parts = Parts::divide(64 << 30, &USUAL, &USUAL);
        assert!(parts.block_cache > USUAL.block_cache && parts.values > USUAL.values);
        assert_eq!((parts.feed, parts.log), (USUAL.feed, USUAL.log));
        assert_eq!((parts.argument, parts.steps), (USUAL.argument, USUAL.steps));
        assert_eq!((parts.write_buffer, parts.connections), (64 * MIB, 10_240));
    }

    #[test]
    fn scripts_on_workers_take_little_of_what_the_process_has() {
        let here = |total, workers| script_here(total, workers, 8 * MIB);
        assert_eq!((here(0, 16), here(1024 * MIB, 2)), (8 * MIB, 4 * MIB));
        assert_eq!(here(1024 * MIB, 16), 2 * MIB);
        // No more than one that runs aside.
        assert_eq!(script_here(0, 2, MIB), MIB);
        for total in [LEAST, 1024 * MIB, 64 << 30] {
            let all = 16 * script_here(total, 16, 256 * MIB);
            assert!(all <= (total / UNITS / 8).max(32 * MIB), "{total}: {all}");
        }
    }

    #[test]
    fn without_a_total_each_part_has_what_is_asked() {
        let parts = Parts::divide(0, &USUAL, &USUAL);
        assert_eq!((parts.total, parts.memtables, parts.clients, parts.batch), (0, 0, 0, 0));
        assert_eq!((parts.block_cache, parts.log), (USUAL.block_cache, USUAL.log));
        assert_eq!((parts.argument, parts.connections), (USUAL.argument, USUAL.connections));
    }
}
