//! What is measured: a command, and under which load.

use anyhow::{Result, bail};

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// As the table names it.
    pub name: &'static str,
    /// Requests in flight per connection.
    pub in_flight: u32,
    /// Connections.
    pub clients: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
}

impl Row {
    /// The base point: 50 connections, values of 100 bytes.
    pub fn base(name: &'static str, in_flight: u32) -> Self {
        Self { name, in_flight, clients: 50, value_bytes: 100 }
    }

    /// Requests to send. Enough for the processor time, which comes in steps of 10 ms.
    pub fn requests(&self, scale: f64) -> u64 {
        let (at_once, one_at_a_time) = match self.name {
            "MGET" | "MSET" | "HGETALL" | "LRANGE" | "ZRANGE" | "ZUNIONSTORE" => {
                (40_000.0, 20_000.0)
            }
            "MGET of 100" => (20_000.0, 10_000.0),
            "MGET of 1000" => (4_000.0, 2_000.0),
            _ => (300_000.0, 50_000.0),
        };
        let count = if self.in_flight > 1 { at_once } else { one_at_a_time };
        let per_size = (1_000.0 / self.value_bytes as f64).min(1.0);
        // Of what takes long, no more than it says.
        (count * scale * per_size).max(count.min(10_000.0)) as u64
    }

    /// The command, as redis-benchmark takes it: `__rand_int__` is another number in each request.
    pub fn words(&self) -> Vec<String> {
        let value = "x".repeat(self.value_bytes);
        let text = match self.name {
            "GET" => "GET key:__rand_int__".to_owned(),
            "GET of one key" => "GET one".to_owned(),
            "SET" => format!("SET key:__rand_int__ {value}"),
            "SET with a TTL" => format!("SET key:__rand_int__ {value} EX 3600"),
            "INCR" => "INCR counter:__rand_int__".to_owned(),
            "MGET" => format!("MGET{}", " key:__rand_int__".repeat(10)),
            "MGET of 100" => format!("MGET{}", " key:__rand_int__".repeat(100)),
            "MGET of 1000" => format!("MGET{}", " key:__rand_int__".repeat(1_000)),
            "MSET" => format!("MSET{}", format!(" key:__rand_int__ {value}").repeat(10)),
            "HSET" => format!("HSET myhash element:__rand_int__ {value}"),
            "HGET" => "HGET myhash element:__rand_int__".to_owned(),
            "HGETALL" => "HGETALL small".to_owned(),
            "LPUSH" => format!("LPUSH mylist {value}"),
            "LRANGE" => "LRANGE mylist 0 99".to_owned(),
            "ZADD" => "ZADD myzset __rand_int__ element:__rand_int__".to_owned(),
            "ZRANGE" => "ZRANGE myzset 0 99".to_owned(),
            "EVALSHA" => format!("EVALSHA {SCRIPT_SHA} 1 counter:__rand_int__"),
            "XADD" => format!("XADD mystream * field {value}"),
            "ZUNIONSTORE" => "ZUNIONSTORE myunion 2 hundred hundred".to_owned(),
            _ => "SADD myset element:__rand_int__".to_owned(),
        };
        text.split(' ').map(str::to_owned).collect()
    }

    /// What the table calls it.
    pub fn title(&self) -> String {
        let mut title = format!("{}, {} in flight", self.name, self.in_flight);
        if self.value_bytes != 100 {
            title.push_str(&format!(", {} bytes", self.value_bytes));
        }
        if self.clients != 50 {
            title.push_str(&format!(", {} connections", self.clients));
        }
        title
    }
}

/// What EVALSHA runs.
pub const SCRIPT: &str = "return redis.call('INCR', KEYS[1])";
/// Of this text.
const SCRIPT_SHA: &str = "61636018f4e6b5817b89791bbed242f93fa089e3";

/// Commands of the quick table, in an order in which each finds what it reads.
const QUICK: &[&str] =
    &["GET", "SET", "INCR", "HSET", "HGET", "LPUSH", "LRANGE", "ZADD", "SADD", "MGET"];
/// And of the whole one.
const ALL: &[&str] = &[
    "GET", "SET", "INCR", "MGET", "MSET", "HSET", "HGET", "HGETALL", "LPUSH", "LRANGE", "ZADD",
    "ZRANGE", "SADD",
];
/// Scripts, streams, and a command that writes as much as it reads.
const MORE: &[&str] = &["EVALSHA", "XADD", "ZUNIONSTORE"];
/// Those that are looked at along each other axis.
const FEW: &[&str] = &["SET", "GET", "HSET"];

/// The rows of an axis.
///
/// # Errors
/// No such axis.
pub fn of_axis(axis: &str) -> Result<Vec<Row>> {
    let of = |names: &[&'static str], change: &dyn Fn(&mut Row)| {
        let rows = names.iter().flat_map(|name| [Row::base(name, 1), Row::base(name, 16)]);
        rows.map(|mut row| {
            change(&mut row);
            row
        })
        .collect::<Vec<Row>>()
    };
    Ok(match axis {
        "quick" => of(QUICK, &|_| {}),
        "base" => of(ALL, &|_| {}),
        "more" => of(MORE, &|_| {}),
        "workers" => of(FEW, &|_| {}),
        "1k" => of(FEW, &|row| row.value_bytes = 1 << 10),
        "10k" => of(FEW, &|row| row.value_bytes = 10 << 10),
        "64k" => [1, 50, 1_000]
            .map(|clients| Row { clients, value_bytes: 64 << 10, ..Row::base("GET of one key", 1) })
            .to_vec(),
        "64" => FEW.iter().map(|name| Row::base(name, 64)).collect(),
        "1000" => of(FEW, &|row| row.clients = 1_000),
        // What fetches much at once: by one command, and by many that are sent together.
        "batches" => {
            let mut rows = vec![
                Row::base("MGET of 100", 1),
                Row::base("MGET of 100", 16),
                Row::base("MGET of 1000", 1),
            ];
            rows.extend(["GET", "SET"].map(|name| Row::base(name, 256)));
            rows.extend(["GET", "SET"].map(|name| Row::base(name, 1_000)));
            rows
        }
        "compacting" => of(&["GET", "SET", "HGET", "HSET"], &|row| row.value_bytes = 1 << 10),
        "insync" => of(FEW, &|_| {}),
        "ttl" => of(&["SET with a TTL", "GET"], &|_| {}),
        // The rows are the same, the systems are others.
        "cold" => of(&["GET", "SET", "HGET", "HSET"], &|row| row.value_bytes = 1 << 10),
        "replica" => of(FEW, &|_| {}),
        _ => bail!("there is no axis `{axis}`; accepted: {AXES}"),
    })
}

/// Names of the axes.
pub const AXES: &str = "quick, base, more, workers, 1k, 10k, 64, 1000, ttl, cold, replica, \
    64k, batches, compacting, insync";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_has_rows_of_its_own_titles() {
        for axis in AXES.split(", ") {
            let mut titles: Vec<String> = of_axis(axis).unwrap().iter().map(Row::title).collect();
            let count = titles.len();
            titles.sort();
            titles.dedup();
            assert!(count > 0 && titles.len() == count, "{axis}");
        }
        assert!(of_axis("nonsense").is_err());
        assert_eq!(Row::base("MSET", 1).words().len(), 21);
        assert_eq!(Row::base("MGET of 1000", 1).words().len(), 1_001);
    }

    #[test]
    fn there_are_enough_requests_and_no_more_than_it_takes() {
        let requests = |name, in_flight| Row::base(name, in_flight).requests(1.0);
        assert_eq!((requests("GET", 1), requests("GET", 16)), (50_000, 300_000));
        assert_eq!((requests("MGET of 1000", 1), requests("MGET of 100", 16)), (2_000, 20_000));
        let large = Row { value_bytes: 64 << 10, ..Row::base("GET", 1) };
        assert_eq!(large.requests(1.0), 10_000);
    }
}
