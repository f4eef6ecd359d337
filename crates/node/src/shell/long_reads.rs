//! Reads that take more steps than a worker has for them: they answer what they would have
//! answered.

use super::Shell;

/// Reads of what [`filled`] makes, each of which takes many steps.
const READS: [&str; 43] = [
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
    "MGET 1 2 h missing 399 1",
    "HMGET h 1 2 missing 399 1",
    "EXISTS 1 2 2 h missing",
    "TOUCH 1 2 missing",
    "SORT l LIMIT 10 20",
    "SORT s ALPHA DESC",
    "GEORADIUS g 0 0 20000 km WITHHASH",
    "GEORADIUSBYMEMBER g m1 20000 km ASC",
    "GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 20000 km ASC WITHDIST",
    "LCS 1 2 IDX",
    "HRANDFIELD h 1000",
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
        shell.run(&format!("GEOADD g {} {} m{id}", id % 170, id % 80));
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
    for number in 0..200 {
        shell.run(&format!("SET {long}{number} v"));
        shell.run(&format!("SET k{number} {long}"));
        shell.run(&format!("HSET h {long}{number} v k{number} {long}"));
        shell.run(&format!("GEOADD g 1 {} {long}{number}", number % 80));
        shell.run(&format!("ZADD z {number} {long}{number}"));
        shell.run(&format!("XADD x 1-{} f {long}", number + 1));
    }
    for number in 0..5 {
        shell.run(&format!("SADD few {long}{number}"));
    }
    let names = (0..200).map(|number| format!(" k{number}")).collect::<String>();
    let (mget, hmget) = (format!("MGET{names}"), format!("HMGET h{names}"));
    for read in [
        mget.as_str(),
        hmget.as_str(),
        "KEYS *",
        "SCAN 0 COUNT 1000",
        "HRANGEBYLEX h - +",
        "SRANDMEMBER s -300",
        "SRANDMEMBER s 150",
        "SRANDMEMBER few -200",
        "HRANDFIELD h -300",
        "ZRANDMEMBER z -300",
        "ZREVRANGE z 0 150",
        "SORT s ALPHA",
        "GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 20000 km ASC",
        "GEORADIUS g 0 0 20000 km",
        "LCS k1 k2 LEN",
        "XRANGE x - +",
        "XREAD STREAMS x 0",
    ] {
        assert_eq!(shell.run(read), refusal, "{}", &read[..read.len().min(40)]);
    }
    assert!(shell.run("SRANDMEMBER few -100").starts_with("*100 "));
    assert_eq!(shell.run(&format!("EXISTS{names}")), ":200");
    assert!(shell.run("SMEMBERS t").starts_with("*200 "));
    assert_eq!(shell.run("SCARD s"), ":200");
    for command in ["MULTI", "SADD t more", "SMEMBERS s", "SCARD t"] {
        shell.run(command);
    }
    assert_eq!(shell.run("EXEC"), format!("*3 :1 {refusal} :201"));
    assert!(shell.node.long_reads.are_done());
}

/// None of these reads is a long one: what bounds them is what the transaction has gathered.
#[test]
fn a_transaction_gathers_no_more_than_a_long_read_may() {
    let mut shell = Shell::with(|values| {
        values.long_read_memory = crate::config::value::Size(1 << 20);
    });
    let long = "x".repeat(300_000);
    shell.run(&format!("SET k {long}"));
    let refusal = "-ERR the reply needs more than the 524288 bytes that long-read-memory leaves it";
    let got = format!("$300000 {long}");
    // On a busy machine one of them may be a long one, for the time that it took: then once more.
    let is_bounded = (1..50).any(|round| {
        let before = shell.node.long_reads.count();
        for command in ["MULTI", "GET k", "GET k", "GET k", "INCR n", "GET k"] {
            shell.run(command);
        }
        let replies = shell.run("EXEC");
        if shell.node.long_reads.count() > before {
            return false;
        }
        let expected = format!("*5 {got} {got} {refusal} :{round} {refusal}");
        assert!(replies == expected, "{}", replies.len());
        true
    });
    assert!(is_bounded, "all of them are long reads");
    assert!(shell.run("GET k") == got);
}

/// What was written before each of them is kept for it. A client that writes and reads in turn
/// would have all of that copied each time, gigabytes for some thousand commands.
#[test]
fn reads_that_a_transaction_puts_aside_keep_no_more_than_a_long_read_may() {
    let mut shell = Shell::with(|values| {
        values.long_read_steps = 1;
        values.long_read_memory = crate::config::value::Size(1 << 20);
    });
    shell.run("SADD s a b c");
    let members = "*3 $1 a $1 b $1 c";
    // Those with no write between them see one moment.
    shell.run("MULTI");
    for _ in 0..300 {
        shell.run("SMEMBERS s");
    }
    assert_eq!(shell.run("EXEC"), format!("*300{}", format!(" {members}").repeat(300)));
    let long = "x".repeat(1_000);
    shell.run("MULTI");
    for number in 0..60 {
        shell.run(&format!("SET k{number} {long}"));
        shell.run("SMEMBERS s");
    }
    let replies = shell.run("EXEC");
    let refusal = "-ERR the reply needs more than the 524288 bytes that long-read-memory leaves it";
    let (read, refused) = (replies.matches(members).count(), replies.matches(refusal).count());
    assert!(replies.starts_with("*120 +OK ") && read + refused == 60, "{replies}");
    // The first hold 1, 2, 3 … thousand bytes.
    assert!((25..=32).contains(&read), "{read}");
    assert_eq!(shell.run("EXISTS k0 k59"), ":2");
    assert!(shell.node.long_reads.are_done());
}

/// A script aside has no budget for what it reads, and its own memory is asked only once all of the
/// reply is there.
#[test]
fn a_script_reads_no_more_at_once_than_a_long_read_may() {
    let mut shell = Shell::with(|values| {
        values.long_read_memory = crate::config::value::Size(1 << 20);
    });
    for (key, length) in [("a", 300_000), ("b", 600_000)] {
        shell.run(&format!("SET {key} {}", "x".repeat(length)));
        shell.run(&format!("RPUSH l{}", format!(" {}", "x".repeat(length)).repeat(2)));
    }
    let refusal = "-ERR the reply needs more than the 524288 bytes that long-read-memory leaves it";
    // INFO is not for a script on its worker.
    let read = |call: &str| format!("EVAL redis.call('INFO')\treturn\t#redis.call({call}) 0");
    assert_eq!(shell.run(&read("'GET','a'")), ":300000");
    for call in ["'GET','b'", "'LRANGE','l',0,-1"] {
        assert!(shell.run(&read(call)).starts_with(refusal), "{call}");
    }
    assert_eq!(shell.run(&read("'GET','a'")), ":300000");
}

/// A write is not refused by itself for what others have answered: the rest would be written.
#[test]
fn a_transaction_whose_writes_answer_too_much_writes_nothing() {
    let mut shell = Shell::with(|values| {
        values.long_read_memory = crate::config::value::Size(1 << 20);
    });
    shell.run("SETRANGE k 7999999 x");
    let run = |shell: &mut Shell, reads: usize| {
        for command in ["MULTI", "INCR n"].into_iter().chain(vec!["GETEX k"; reads]) {
            shell.run(command);
        }
        shell.run("EXEC")
    };
    let fits = run(&mut shell, 4);
    assert!(fits.starts_with("*5 :1 $8000000 ") && fits.len() > 32_000_000, "{}", fits.len());
    let refusal =
        "-ERR the reply needs more than the 33554432 bytes that long-read-memory leaves it";
    assert_eq!(run(&mut shell, 6), refusal);
    assert_eq!(shell.run("GET n"), "$1 1");
    // The connection goes on as after any transaction.
    assert_eq!(run(&mut shell, 0), "*1 :2");
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

/// SORT and GEORADIUS without STORE take no locks, and leave their worker as other reads do.
#[test]
fn what_only_its_words_make_a_read_is_one() {
    let mut shell = filled(50);
    let before = shell.node.long_reads.count();
    for read in ["SORT s", "GEORADIUS g 0 0 20000 km", "GEORADIUSBYMEMBER g m1 20000 km"] {
        assert!(shell.run(read).starts_with("*400 ") || shell.run(read).starts_with("*399 "));
    }
    assert!(shell.node.long_reads.count() >= before + 3);
    let stored = shell.node.long_reads.count();
    for write in ["SORT s STORE d", "GEORADIUS g 0 0 20000 km STORE e"] {
        assert!(shell.run(write).starts_with(':'), "{write}");
    }
    assert_eq!(shell.node.long_reads.count(), stored, "what is stored is written by its worker");
    // The gates take them for writes, as Redis does.
    for command in ["SORT s", "SORT s STORE d"] {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let (_, found) =
            crate::session::table::find(&crate::command::Renames::default(), &words).unwrap();
        assert!(found.is_write() && found.name == "sort", "{command}");
    }
}

/// A few bytes of a client name each element any number of times.
#[test]
fn what_sort_stores_is_not_gathered_beyond_what_is_written() {
    let mut shell = Shell::with(|values| values.rocksdb_write_batch_max_bytes = 20_000);
    for number in 0..100 {
        shell.run(&format!("RPUSH l {number}"));
    }
    let refusal = shell.run(&format!("SORT l{} STORE d", " GET #".repeat(400)));
    let bytes = refusal.strip_prefix("-ERR storage: too much at once: ").unwrap_or(&refusal);
    let bytes: usize = bytes.split(' ').next().unwrap().parse().expect("a number of bytes");
    assert!((20_001..20_100).contains(&bytes), "{refusal}");
    assert_eq!(shell.run("EXISTS d"), ":0");
    assert_eq!(shell.run("SORT l GET # GET # STORE d"), ":200");
}

/// What takes elements out and returns them knows before it reads how much that is.
#[test]
fn what_is_popped_is_bounded_as_a_batch_is() {
    let mut shell = Shell::with(|values| values.rocksdb_write_batch_max_bytes = 20_000);
    let long = "x".repeat(1_000);
    for number in 0..100 {
        shell.run(&format!("RPUSH l {long}"));
        shell.run(&format!("SADD s {long}{number}"));
        shell.run(&format!("ZADD z {number} {long}{number}"));
    }
    for (pop, count) in [
        ("LPOP l 50", "LLEN l"),
        ("RPOP l 50", "LLEN l"),
        ("LMPOP 1 l LEFT COUNT 50", "LLEN l"),
        ("SPOP s 50", "SCARD s"),
        ("ZPOPMIN z 50", "ZCARD z"),
    ] {
        let refusal = shell.run(pop);
        assert!(refusal.contains("too much at once: "), "{pop}: {refusal}");
        assert_eq!(shell.run(count), ":100", "{pop}");
    }
    for pop in ["LPOP l 5", "SPOP s 5", "ZPOPMIN z 5"] {
        assert!(shell.run(pop).starts_with('*'), "{pop}");
    }
    assert_eq!(shell.run("LLEN l"), ":95");
}
