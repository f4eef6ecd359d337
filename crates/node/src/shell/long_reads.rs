//! Reads that take more steps than a worker has for them: they answer what they would have answered.

use super::Shell;

/// Reads of what [`filled`] makes, each of which takes many steps.
const READS: [&str; 32] = [
    "SMEMBERS s",
    "SINTER s s2",
    "SUNION s s2",
    "SDIFF s s2",
    "SINTERCARD 2 s s2",
    "SSCAN s 0 COUNT 1000",
    "SMISMEMBER s 1 2 3 x",
    "HGETALL h",
    "HKEYS h",
    "HVALS h",
    "HSCAN h 0 COUNT 1000",
    "HRANGEBYLEX h - +",
    "LRANGE l 0 -1",
    "LPOS l 399",
    "LINDEX l -1",
    "ZRANGE z 0 -1 WITHSCORES",
    "ZREVRANGE z 0 -1",
    "ZRANGEBYSCORE z -inf +inf",
    "ZCOUNT z -inf +inf",
    "ZRANK z 399",
    "ZUNION 2 z s WITHSCORES",
    "ZINTER 2 z s",
    "ZDIFF 2 z s2",
    "ZSCAN z 0 COUNT 1000",
    "XRANGE x - +",
    "XREAD STREAMS x 0",
    "SORT_RO s LIMIT 10 20",
    "SORT_RO l BY nothing GET #",
    "KEYS *",
    "SCAN 0 COUNT 1000",
    "GET missing",
    "SMEMBERS l",
];

/// Some of each type, of 400 elements.
fn filled(steps: u32) -> Shell {
    let mut shell = Shell::with(|values| values.long_read_steps = steps);
    let numbers = |from: u32| (from..400).map(|n| n.to_string()).collect::<Vec<_>>();
    let joined = |words: Vec<String>| words.join(" ");
    let pairs = |numbers: Vec<String>| numbers.iter().map(|n| format!("{n} {n}")).collect();
    for command in [
        format!("SADD s {}", joined(numbers(0))),
        format!("SADD s2 {}", joined(numbers(200))),
        format!("HSET h {}", joined(pairs(numbers(0)))),
        format!("RPUSH l {}", joined(numbers(0))),
        format!("ZADD z {}", joined(pairs(numbers(0)))),
        format!("MSET {}", joined(pairs(numbers(0)))),
    ] {
        shell.run(&command);
    }
    for id in 1..400 {
        shell.run(&format!("XADD x {id}-1 f v"));
    }
    shell
}

#[test]
fn a_long_read_answers_as_a_short_one() {
    let (mut short, mut long) = (filled(1_000_000), filled(50));
    for hello in ["HELLO 2", "HELLO 3"] {
        short.run(hello);
        long.run(hello);
        for read in READS {
            assert_eq!(long.run(read), short.run(read), "{read}");
        }
    }
    assert!(long.node.long_reads.count() > 40, "{}", long.node.long_reads.count());
    assert!(long.node.long_reads.are_done());
}

#[test]
fn a_long_read_in_a_transaction_sees_what_was_there_at_its_turn() {
    let transaction = [
        "MULTI",
        "SADD s new",
        "SMEMBERS s",
        "SREM s new",
        "SCARD s",
        "HGETALL h",
        "LRANGE missing 0 -1",
        "DEL s",
        "SMEMBERS s",
        "RPUSH s now a list",
        "LRANGE s 0 -1",
        "SMEMBERS s",
        "XREAD STREAMS x 0",
        "XREAD BLOCK 0 STREAMS x $",
        "EXEC",
        "TYPE s",
        "EXEC",
    ];
    let (mut short, mut long) = (filled(1_000_000), filled(50));
    short.follow();
    for command in transaction {
        assert_eq!(long.run(command), short.run(command), "{command}");
    }
    assert!(long.node.long_reads.count() >= 1);
}

#[test]
fn a_transaction_that_reads_without_end_puts_all_its_reads_aside() {
    let (mut short, mut long) = (filled(1_000_000), filled(1));
    for shell in [&mut short, &mut long] {
        shell.run("MULTI");
        for read in READS {
            shell.run(read);
        }
    }
    assert_eq!(long.run("EXEC"), short.run("EXEC"));
    assert_eq!(long.node.long_reads.count(), 1, "one seat for all of them");
}

#[test]
fn a_reply_that_its_memory_does_not_hold_is_an_error_and_says_why() {
    let mut shell = Shell::with(|values| {
        values.long_read_steps = 50;
        values.long_read_memory = crate::config::value::Size(1 << 20);
    });
    let long = "x".repeat(4000);
    for number in 0..200 {
        shell.run(&format!("SADD s {long}{number}"));
        shell.run(&format!("SADD t {number}"));
    }
    let refusal = "-ERR the reply needs more than the 524288 bytes that long-read-memory leaves it";
    for read in ["SMEMBERS s", "SUNION s t", "SORT_RO s ALPHA", "SSCAN s 0 COUNT 200"] {
        assert_eq!(shell.run(read), refusal, "{read}");
    }
    assert!(shell.run("SMEMBERS t").starts_with("*200 "));
    assert_eq!(shell.run("SCARD s"), ":200");
    for command in ["MULTI", "SADD t more", "SMEMBERS s", "SCARD t"] {
        shell.run(command);
    }
    assert_eq!(shell.run("EXEC"), format!("*3 :1 {refusal} :201"));
    assert!(shell.node.long_reads.are_done());
}

#[test]
fn a_long_read_is_in_the_slowlog() {
    let mut shell = Shell::with(|values| {
        values.long_read_steps = 50;
        values.slowlog_log_slower_than = 0;
    });
    let members: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    shell.run(&format!("SADD s {}", members.join(" ")));
    shell.run("SLOWLOG RESET");
    shell.run("SMEMBERS s");
    let entries = shell.node.slowlog.newest(10);
    let reads = entries.iter().filter(|entry| entry.words == [&b"SMEMBERS"[..], b"s"]);
    assert_eq!(reads.count(), 1);
}
