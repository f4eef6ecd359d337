//! POLLUPDATES … FORMAT RESP: the log as commands, which make what the log is of.

use super::Shell;

/// What FORMAT RESP shows behind a sequence number.
fn updates(shell: &mut Shell, behind: u64) -> String {
    let said = shell.run(&format!("POLLUPDATES {behind} MAX 1000 FORMAT RESP"));
    let (head, updates) = said.split_once(" $7 updates ").unwrap();
    let sequence = shell.sequence();
    assert_eq!(head, format!("*6 $13 next_sequence :{sequence} $15 latest_sequence :{sequence}"));
    updates.to_owned()
}

/// The commands in it, of the default namespace.
fn commands(shell: &mut Shell, behind: u64) -> Vec<String> {
    let updates = updates(shell, behind);
    let mut words = updates.split(' ');
    if count(&mut words) == 0 {
        return Vec::new();
    }
    assert_eq!((words.next(), words.next()), (Some("$7"), Some("default")));
    let commands = count(&mut words);
    let command = |_| {
        let length = count(&mut words);
        let word = |_| words.by_ref().nth(1).unwrap();
        (0..length).map(word).collect::<Vec<_>>().join(" ")
    };
    (0..commands).map(command).collect()
}

fn count<'w>(words: &mut impl Iterator<Item = &'w str>) -> usize {
    words.next().and_then(|word| word.strip_prefix('*')).unwrap().parse().unwrap()
}

/// Reads of all that the writes below make.
const READS: [&str; 14] = [
    "GET k",
    "PEXPIRETIME k",
    "HGETALL h",
    "PEXPIRETIME h",
    "HPEXPIRETIME h FIELDS 1 g",
    "HGETALL c",
    "PEXPIRETIME c",
    "LRANGE l 0 -1",
    "LRANGE m 0 -1",
    "SMEMBERS s",
    "ZRANGE z 0 -1 WITHSCORES",
    "SIRANGE i 0 10",
    "XRANGE x - +",
    "JSON.GET j",
];

#[test]
fn each_write_is_told_and_what_is_told_makes_the_same() {
    let (mut shell, mut other) = (Shell::new(), Shell::new());
    for (write, told) in [
        ("SET k v", &["SET k v"][..]),
        ("SET k w PXAT 9999999999999", &["SET k w", "PEXPIREAT k 9999999999999"]),
        ("PERSIST k", &["SET k w"]),
        ("INCR n", &["SET n 1"]),
        ("DEL n", &["DEL n"]),
        ("GET k", &[]),
        ("HSET h f v", &["HSET h f v"]),
        ("HSET h g w", &["HSET h g w"]),
        ("PEXPIREAT h 9999999999999", &["PEXPIREAT h 9999999999999"]),
        ("COPY h c", &["HSET c f v", "HSET c g w", "PEXPIREAT c 9999999999999"]),
        ("PERSIST h", &["PERSIST h"]),
        ("HDEL h f", &["HDEL h f"]),
        (
            "HPEXPIREAT h 9999999999999 FIELDS 1 g",
            &["HSET h g w", "HPEXPIREAT h 9999999999999 FIELDS 1 g"],
        ),
        ("RPUSH l a b c d", &["RPUSH l a", "RPUSH l b", "RPUSH l c", "RPUSH l d"]),
        ("LPUSH l z", &["LPUSH l z"]),
        ("LSET l -1 e", &["LSET l 4 e"]),
        ("LINSERT l BEFORE b x", &["LINSERT l before b x"]),
        ("LREM l 1 x", &["LREM l 1 x"]),
        ("LTRIM l 1 -1", &["LTRIM l 1 4"]),
        ("LPOP l", &["LPOP l"]),
        ("RPOP l", &["RPOP l"]),
        ("LMOVE l m LEFT RIGHT", &["LMOVE l m left right"]),
        ("SADD s a", &["SADD s a"]),
        ("SADD s b", &["SADD s b"]),
        ("SREM s a", &["SREM s a"]),
        ("ZADD z 1.5 a", &["ZADD z 1.5 a"]),
        ("ZADD z 1e-9 b", &["ZADD z 1.0000000000000001e-09 b"]),
        ("ZINCRBY z 1 a", &["ZADD z 2.5 a"]),
        ("ZREM z a", &["ZREM z a"]),
        ("SIADD i 5", &["SIADD i 5"]),
        ("SIADD i 7", &["SIADD i 7"]),
        ("SIREM i 5", &["SIREM i 5"]),
        ("SETBIT b 9 1", &["SETBIT b 9 1"]),
        ("BITFIELD b SET u8 0 255", &["BITFIELD b SET u8 0 255"]),
        ("BITOP NOT d b", &["BITOP NOT d b"]),
        ("XADD x 1-1 f v", &["XADD x 1-1 f v"]),
        ("XADD x MAXLEN 1 2-1 f w", &["XDEL x 1-1", "XADD x 2-1 f w"]),
        ("XADD x 3-1 f w", &["XADD x 3-1 f w"]),
        ("XDEL x 2-1", &["XDEL x 2-1"]),
        ("XSETID x 5-0", &["XSETID x 5-0 ENTRIESADDED 3 MAXDELETEDID 2-1"]),
        ("XGROUP CREATE x readers 0", &[]),
        ("JSON.SET j $ {\"a\":1,\"b\":[2]}", &["JSON.SET j $ {\"a\":1,\"b\":[2]}"]),
        ("JSON.DEL j $.a", &["JSON.SET j $ {\"b\":[2]}"]),
        ("PFADD p a", &[]),
    ] {
        let before = shell.sequence();
        let said = shell.run(write);
        assert!(!said.starts_with('-'), "{write}: {said}");
        let found = commands(&mut shell, before);
        assert_eq!(found, told, "{write}");
        for command in found {
            let said = other.run(&command);
            assert!(!said.starts_with('-'), "{command}: {said}");
        }
    }
    for read in READS.into_iter().chain(["BITCOUNT b", "BITCOUNT d"]) {
        assert_eq!(other.run(read), shell.run(read), "{read}");
    }
}

#[test]
fn namespaces_come_one_behind_the_other_and_batches_are_one_list() {
    let mut shell = Shell::with(|values| values.redis_databases = 4);
    for command in ["SET a 1", "SELECT 1", "SET a 2", "SELECT 0", "SET a 3"] {
        shell.run(command);
    }
    let set = |value: u8| format!("*3 $3 SET $1 a $1 {value}");
    let expected = format!("*4 $1 1 *1 {} $7 default *2 {} {}", set(2), set(1), set(3));
    assert_eq!(updates(&mut shell, 0), expected);
    shell.run("HELLO 3");
    let said = shell.run("POLLUPDATES 0 FORMAT RESP");
    assert!(said.starts_with("%3 $13 next_sequence :3 ") && said.ends_with(&expected), "{said}");
    let last = shell.run("POLLUPDATES 2 FORMAT raw");
    assert!(last.contains(" $7 updates *1 $"), "{last}");
    let refused = shell.run("POLLUPDATES 0 FORMAT JSON");
    assert_eq!(refused, "-ERR invalid FORMAT option, should be RAW or RESP");
}
