//! What a key weighs: bytes of memory and of disk, just after it was written and at rest.
//!
//! Each shape has a server of its own, so that the memory of one is not another's.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::compaction::compact;
use super::systems::{Running, System};
use crate::wait;
use crate::wire::{Reply, encode};

/// Commands that are sent before their replies are read.
const DEPTH: u64 = 256;

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// As the table names it.
    pub name: &'static str,
    /// Bytes of a value, or of each of the fields.
    pub bytes: usize,
    /// Fields of a hash; 0: a string.
    pub fields: usize,
}

/// Those that are weighed.
pub const SHAPES: [Shape; 4] = [
    Shape { name: "string of 10 bytes", bytes: 10, fields: 0 },
    Shape { name: "string of 100 bytes", bytes: 100, fields: 0 },
    Shape { name: "string of 1 KiB", bytes: 1 << 10, fields: 0 },
    Shape { name: "hash of 8 fields of 16 bytes", bytes: 16, fields: 8 },
];

impl Shape {
    /// The command that writes a key.
    fn words(&self, number: u64) -> Vec<String> {
        let key = format!("key:{number:012}");
        // No two alike, or compression would have little to do.
        let value = |part: usize| {
            let text =
                format!("{:016x}", (number * 31 + part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            text.chars().cycle().take(self.bytes).collect::<String>()
        };
        if self.fields == 0 {
            return vec!["SET".into(), key, value(0)];
        }
        let fields = (0..self.fields).flat_map(|field| [format!("field{field}"), value(field)]);
        ["HSET".into(), key].into_iter().chain(fields).collect()
    }

    /// Bytes that a client gives for a key: its name, and what is in it.
    fn given(&self) -> usize {
        self.words(0).iter().skip(1).map(String::len).sum()
    }
}

/// What a key takes, bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight {
    /// Of memory, when all were just written, beyond that of the empty server.
    pub memory: f64,
    /// Of the disk then, the log included.
    pub disk: f64,
    /// Of memory once the data was written anew and free pages were given back.
    pub memory_at_rest: f64,
    /// Of the disk then.
    pub disk_at_rest: f64,
}

/// How it is weighed.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Keys of each shape.
    pub keys: u64,
    /// After the data was written anew: until the log and old files are let go of.
    pub rest: Duration,
}

/// Options of a node that lets go of its log soon: by default it keeps it for replicas, for hours.
pub const SHORT_LOG: &[&str] =
    &["--rocksdb.wal_ttl_seconds", "1", "--rocksdb.wal_size_limit_mb", "1"];

/// Writes keys of a shape to a server that is started for them.
///
/// # Errors
/// It does not start, or refuses a write.
pub fn weigh(system: System, shape: Shape, load: Load) -> Result<(Running, Weight)> {
    let running = system.start()?;
    let empty = running.resident_bytes()?;
    fill(&running, shape, load.keys)?;
    let each = |bytes: u64| bytes as f64 / load.keys.max(1) as f64;
    let memory = || Ok::<_, anyhow::Error>(running.resident_bytes()?.saturating_sub(empty));
    let (filled, disk) = (memory()?, running.disk_bytes()?);
    compact(&running)?;
    running.connect()?.call(&["MEMORY", "PURGE"])?;
    wait::pause(load.rest);
    let weight = Weight {
        memory: each(filled),
        disk: each(disk),
        memory_at_rest: each(memory()?),
        disk_at_rest: each(running.disk_bytes()?),
    };
    Ok((running, weight))
}

fn fill(running: &Running, shape: Shape, keys: u64) -> Result<()> {
    let mut connection = running.connect()?;
    let mut number = 0;
    while number < keys {
        let upto = (number + DEPTH).min(keys);
        let requests: Vec<u8> = (number..upto).flat_map(|key| encode(&shape.words(key))).collect();
        connection.send_raw(&requests)?;
        for key in number..upto {
            let reply = connection.receive()?;
            ensure!(!matches!(reply, Reply::Error(_)), "key {key}: {reply:?}");
        }
        number = upto;
    }
    Ok(())
}

/// What stands above the lines of the table.
pub const HEAD: &str = "Bytes per key. Memory is what the process has beyond that of the empty server: of a node \
    mostly caches and memtables, which have a size and do not grow with the data. The disk has the log as well; at rest \
    the node has let go of it, which by default takes hours.\n\n\
    | key | given | system | memory | disk | memory at rest | disk at rest |\n|---|---|---|---|---|---|---|\n";

/// A line of the table.
pub fn line(shape: Shape, name: &str, weight: &Weight) -> String {
    format!(
        "| {} | {} | {name} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
        shape.name,
        shape.given(),
        weight.memory,
        weight.disk,
        weight.memory_at_rest,
        weight.disk_at_rest,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_written_as_it_says() {
        let [small, .., hash] = SHAPES;
        let words = small.words(7);
        assert_eq!((words.len(), words[1].as_str(), words[2].len()), (3, "key:000000000007", 10));
        assert_ne!(small.words(7)[2], small.words(8)[2]);
        let words = hash.words(1);
        assert_eq!((words[0].as_str(), words.len()), ("HSET", 2 + 16));
        assert_eq!((small.given(), hash.given()), (16 + 10, 16 + 8 * (6 + 16)));
    }

    #[test]
    fn a_line_has_a_cell_for_each_column() {
        let weight = Weight { memory: 1.4, disk: 2.0, memory_at_rest: 3.0, disk_at_rest: 4.6 };
        let line = line(SHAPES[0], "one", &weight);
        assert_eq!(line, "| string of 10 bytes | 26 | one | 1 | 2 | 3 | 5 |\n");
        let head = HEAD.lines().find(|line| line.starts_with('|')).unwrap();
        assert_eq!(head.matches('|').count(), line.matches('|').count());
    }
}
