//! A pipeline of which a command is sampled for PERFLOG.

use super::*;
use crate::config::sampled::Sampled;
use crate::config::value::Value as _;

/// All SETs are sampled, and all samples kept.
fn sampling() -> Bench {
    sampling_of("set")
}

fn sampling_of(command: &str) -> Bench {
    shell::table();
    let change = |values: &mut Values| {
        values.profiling_sample_ratio = 100;
        values.profiling_sample_commands = Sampled::parse(command).unwrap();
        values.profiling_sample_record_threshold_ms = 0;
    };
    Bench::start(change, Cluster::default(), Role::Master)
}

#[test]
fn a_write_that_is_sampled_is_written_alone_and_the_others_together() {
    let mut bench = sampling();
    let pipeline = ["INCR n", "INCR n", "SET a 1", "INCR n", "INCR n", "SET b 2", "INCR n"];
    assert_eq!(bench.pipeline(&pipeline), ":1 :2 +OK :3 :4 +OK :5");
    assert_eq!(bench.batches_since(0), [2, 1, 2, 1, 1]);
    let entries = bench.node.perflog.newest(10);
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        let is_whole = entry.work.contains("write_wal_time = ");
        assert!(entry.command == "set" && is_whole, "{entry:?}");
    }
    assert_eq!(bench.pipeline(&["CONFIG SET profiling-sample-ratio 0"]), "+OK");
    let before = bench.sequence();
    bench.pipeline(&["SET a 1", "SET b 2"]);
    assert_eq!(bench.batches_since(before), [2]);
    assert_eq!(bench.node.perflog.len(), 2);
}

/// Scripts begin on their worker, where they would join what waits.
#[test]
fn a_script_that_is_sampled_is_written_alone() {
    let mut bench = sampling_of("eval");
    let count = "EVAL return(redis.call('INCR',KEYS[1])) 1 n";
    let pipeline = ["INCR n", "INCR n", count, count, "INCR n", "INCR n"];
    assert_eq!(bench.pipeline(&pipeline), ":1 :2 :3 :4 :5 :6");
    assert_eq!(bench.batches_since(0), [2, 1, 1, 2]);
    let entries = bench.node.perflog.newest(10);
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        let is_whole = entry.work.contains("write_wal_time = ");
        assert!(entry.command == "eval" && is_whole, "{entry:?}");
    }
}

#[test]
fn one_that_fails_takes_nothing_of_the_others_with_it() {
    let mut bench = sampling();
    let replies = bench.pipeline(&["RPUSH l a", "SET l b GET", "RPUSH l c", "SET m 1"]);
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(replies, format!(":1 {wrong} :2 +OK"));
    assert_eq!(bench.pipeline(&["LRANGE l 0 -1", "GET m"]), "*2 $1 a $1 c $1 1");
}

/// A command that the gates refuse, or that is queued, has not run.
#[test]
fn what_does_not_run_is_not_sampled() {
    let mut bench = sampling();
    let replies = bench.pipeline(&["SET a", "MULTI", "SET a 1", "DISCARD"]);
    assert!(replies.starts_with("-ERR wrong number") && replies.ends_with("+QUEUED +OK"));
    assert!(bench.node.perflog.is_empty());
}
