//! Keyspace notifications through the table.

use super::Shell;
use crate::clock;
use crate::replication::tests::wait_until;
use crate::session::expire;

struct Listener {
    shell: Shell,
    client: usize,
}

impl Listener {
    fn new(classes: &str) -> Self {
        let mut shell = Shell::new();
        let client = shell.client();
        assert_eq!(shell.run(&format!("CONFIG SET notify-keyspace-events {classes}")), "+OK");
        shell.run_as(client, "PSUBSCRIBE __key*");
        Self { shell, client }
    }

    /// What is told of a command: `event key`.
    #[track_caller]
    fn told(&mut self, command: &str, expected: &[&str]) {
        let answer = self.shell.run(command);
        assert!(!answer.starts_with('-'), "{command}: {answer}");
        let mut out = Vec::new();
        self.shell.clients[self.client].client.inbox.take(&mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        let lines: Vec<&str> = text.split("\r\n").collect();
        let mut found = Vec::new();
        for push in lines.chunks(9) {
            let [_, _, _, _, _, _, channel, _, text] = push else { continue };
            match channel.strip_prefix("__keyevent@0__:") {
                Some(event) => found.push(format!("{event} {text}")),
                None => found.push(format!("{channel} {text}")),
            }
        }
        assert_eq!(found, expected, "{command}");
    }
}

#[test]
fn what_happens_to_keys_is_told_by_the_names_of_redis() {
    let mut told = Listener::new("EA");
    let mut check = |command, expected: &[&str]| told.told(command, expected);
    check("SET k v", &["set k"]);
    check("SET k v EX 10", &["set k", "expire k"]);
    check("GET k", &[]);
    check("DEL k none", &["del k"]);
    check("MSET a 1 b 2", &["set a", "set b"]);
    check("DECR a", &["incrby a"]);
    check("RENAME a c", &["rename_from a", "rename_to c"]);
    check("EXPIRE c 100", &["expire c"]);
    check("PERSIST c", &["persist c"]);
    check("EXPIRE c -1", &["del c"]);
    check("LPUSH l a b", &["lpush l"]);
    check("LMOVE l m LEFT RIGHT", &["rpush m", "lpop l"]);
    check("RPOP l", &["rpop l", "del l"]);
    check("SADD s a", &["sadd s"]);
    check("SADD s a", &[]);
    check("SMOVE s t a", &["srem s", "del s", "sadd t"]);
    check("SUNIONSTORE u s t", &["sunionstore u"]);
    check("SPOP u", &["spop u", "del u"]);
    check("HSET h f 1 g 2", &["hset h"]);
    check("HINCRBY h f 1", &["hincrby h"]);
    check("HDEL h f g", &["hdel h", "del h"]);
    check("ZADD z 1 a", &["zadd z"]);
    check("ZADD z INCR 1 a", &["zincr z"]);
    check("ZPOPMIN z", &["zpopmin z", "del z"]);
    check("XADD x * f v", &["xadd x"]);
    check("COPY b d", &["copy_to d"]);
    check("MULTI", &[]);
    check("SET e 1", &[]);
    check("DEL e", &[]);
    check("EXEC", &["set e", "del e"]);
    check("FLUSHALL", &[]);
    check("MSETEX 2 a ex b 1", &["set a", "set b"]);
    check("MSETEX 2 a 1 b 1 EX 10", &["set a", "expire a", "set b", "expire b"]);
    check("SET a 2 IFEQ 1", &["set a"]);
    check("SET a 3 IFNE ex", &["set a"]);
    check("SET a 3 IFNE 2 PX 9000", &["set a", "expire a"]);
    check("SET a 4 IFEQ 2", &[]);
    check("DELEX a IFEQ 4", &[]);
    check("DELEX a IFEQ 3", &["del a"]);
    check("DELEX b", &["del b"]);
}

/// As redis-server 7.0 tells them.
#[test]
fn keys_may_be_called_as_options_are_and_one_command_may_do_two_things() {
    let mut told = Listener::new("EA");
    let mut check = |command, expected: &[&str]| told.told(command, expected);
    check("RPUSH left a b", &["rpush left"]);
    check("LMPOP 1 left RIGHT", &["rpop left"]);
    check("BLMPOP 0 1 left LEFT", &["lpop left", "del left"]);
    check("ZADD min 1 a 2 b", &["zadd min"]);
    check("ZMPOP 1 min MAX", &["zpopmax min"]);
    check("BZMPOP 0 1 min MIN", &["zpopmin min", "del min"]);
    check("ZADD k 1 incr", &["zadd k"]);
    check("ZADD k CH INCR 1 incr", &["zincr k"]);
    check("SET persist v", &["set persist"]);
    check("GETEX persist EX 10", &["expire persist"]);
    check("GETEX persist PERSIST", &["persist persist"]);
    check("RPUSH l a b", &["rpush l"]);
    check("LMOVE l l LEFT RIGHT", &["rpush l", "lpop l"]);
    check("LMOVE l m LEFT RIGHT", &["rpush m", "lpop l"]);
    check("BLMOVE l m LEFT RIGHT 0", &["rpush m", "lpop l", "del l"]);
    check("RPOPLPUSH m l", &["lpush l", "rpop m"]);
    check("XADD x 1-1 f v", &["xadd x"]);
    check("XADD x MAXLEN 5 2-1 f v", &["xadd x"]);
    check("XADD x MAXLEN 1 3-1 f v", &["xadd x", "xtrim x"]);
}

/// As redis-server 7.0: what a key has already is a change for those who watch or track it, or are
/// told of events. Nothing of it is written.
#[test]
fn what_writes_nothing_is_a_change_all_the_same() {
    let mut told = Listener::new("EA");
    let mut check = |command, expected: &[&str]| told.told(command, expected);
    check("HSET h f 1 g 2", &["hset h"]);
    check("RPUSH l a b", &["rpush l"]);
    check("RPUSH one a", &["rpush one"]);
    check("SET s v", &["set s"]);
    check("PFADD p a b", &["pfadd p"]);
    check("PFADD q a", &["pfadd q"]);
    let (watcher, reader) = (told.shell.client(), told.shell.client());
    told.shell.run_as(reader, "HELLO 3");
    assert_eq!(told.shell.run_as(reader, "CLIENT TRACKING ON"), "+OK");
    for (key, read, command, expected) in [
        ("h", "HGET h f", "HSET h f 1", &["hset h"][..]),
        ("h", "HGETALL h", "HMSET h g 2 f 1", &["hset h"]),
        ("l", "LRANGE l 0 -1", "LSET l 0 a", &["lset l"]),
        ("l", "LRANGE l 0 -1", "LTRIM l 0 -1", &["ltrim l"]),
        ("l", "LLEN l", "LMOVE l l LEFT LEFT", &["lpush l", "lpop l"]),
        ("one", "LLEN one", "RPOPLPUSH one one", &["lpush one", "rpop one"]),
        ("one", "LLEN one", "BLMOVE one one LEFT LEFT 0", &["lpush one", "lpop one"]),
        ("s", "GET s", "APPEND s ", &["append s"]),
        ("p", "PFCOUNT p", "PFMERGE p q", &["pfadd p"]),
    ] {
        told.shell.run_as(watcher, &format!("WATCH {key}"));
        told.shell.run_as(reader, read);
        let before = told.shell.sequence();
        told.told(command, expected);
        assert_eq!(told.shell.sequence(), before, "{command} writes nothing");
        told.shell.run_as(watcher, "MULTI");
        told.shell.run_as(watcher, "PING");
        assert_eq!(told.shell.run_as(watcher, "EXEC"), "*-1", "{command}");
        let mut pushed = Vec::new();
        told.shell.clients[reader].client.inbox.take(&mut pushed);
        assert!(String::from_utf8_lossy(&pushed).contains("invalidate"), "{command}");
    }
    let mut check = |command, expected: &[&str]| told.told(command, expected);
    for command in ["MULTI", "HSET h f 1", "APPEND s ", "LTRIM none 0 -1"] {
        check(command, &[]);
    }
    check("EXEC", &["hset h", "append s"]);
    // What fails, and what is told only where it changes something, is told of as before.
    for command in ["SADD set a", "ZADD z 1 a"] {
        told.shell.run(command);
    }
    told.shell.clients[told.client].client.inbox.take(&mut Vec::new());
    for command in ["SADD set a", "ZADD z 1 a", "SETRANGE s 0 ", "PFADD p a", "SET s w NX"] {
        told.told(command, &[]);
    }
}

/// As redis-server 7.0 tells them.
#[test]
fn a_result_of_nothing_removes_what_it_would_replace() {
    let mut told = Listener::new("EA");
    for command in [
        "BITOP AND d none",
        "SINTERSTORE d none other",
        "SUNIONSTORE d none",
        "SDIFFSTORE d none other",
        "ZUNIONSTORE d 1 none",
        "ZINTERSTORE d 2 none other",
        "ZDIFFSTORE d 1 none",
        "ZRANGESTORE d none 0 -1",
        "SORT none STORE d",
        "GEORADIUS none 1 1 1 km STORE d",
        "GEOSEARCHSTORE d none FROMLONLAT 1 1 BYRADIUS 1 km",
    ] {
        told.told("SET d v", &["set d"]);
        told.told(command, &["del d"]);
        told.told(command, &[]);
    }
    told.told("SADD s a b", &["sadd s"]);
    told.told("SORT s ALPHA STORE d", &["sortstore d"]);
}

/// Also where nobody asks for keys that have ended.
#[test]
fn a_store_of_nothing_ends_what_was_there_wherever_it_runs() {
    let mut told = Listener::new("Eg");
    let script = "EVAL redis.call('SUNIONSTORE','d','none') 0";
    let in_exec = ["MULTI", "SUNIONSTORE d none", "EXEC"];
    for commands in [&["SUNIONSTORE d none"][..], &in_exec, &[script]] {
        told.told("SET d v", &[]);
        for expected in [&["del d"][..], &[]] {
            let (last, first) = commands.split_last().unwrap();
            for command in first {
                told.told(command, &[]);
            }
            told.told(last, expected);
        }
    }
}

/// By the command that did it, and not by the script as well, whatever keys that declares.
#[test]
fn what_a_script_did_is_told_once() {
    let both = "EVAL redis.call('SET',KEYS[1],'v');redis.call('DEL',KEYS[1]) 1 k";
    // On its worker; and aside, as where somebody asks for keys that are not there.
    Listener::new("Eg$").told(both, &["set k", "del k"]);
    let mut told = Listener::new("EAmn");
    told.told(both, &["new k", "set k", "del k"]);
    told.told("EVAL redis.call('SET',KEYS[1],'v') 1 k", &["new k", "set k"]);
    told.told("EVAL_RO return(1) 1 none", &[]);
}

/// As in Redis, by whatever it asks.
#[test]
fn a_consumer_that_is_made_without_being_told_to_is_told_of() {
    let mut told = Listener::new("EA");
    let made = &["xgroup-createconsumer s"][..];
    told.told("XADD s 1-1 f v", &["xadd s"]);
    told.told("XGROUP CREATE s g 0", &["xgroup-create s"]);
    for command in [
        "XREADGROUP GROUP g a STREAMS s >",
        "XREADGROUP GROUP g b STREAMS s >",
        "XREADGROUP GROUP g c STREAMS s 0",
        "XCLAIM s g d 0 1-1",
        "XAUTOCLAIM s g e 0 0",
        "XGROUP CREATECONSUMER s g f",
    ] {
        told.told(command, made);
        told.told(command, &[]);
    }
    let waits = told.shell.client();
    let _waiting = told.shell.wait_as(waits, "XREADGROUP GROUP g w BLOCK 0 STREAMS s >");
    told.told("PING", made);
    // One that is served makes it anew.
    told.told("XGROUP DELCONSUMER s g w", &["xgroup-delconsumer s"]);
    told.told("XADD s 2-1 f v", &["xadd s", "xgroup-createconsumer s"]);
}

#[test]
fn only_the_classes_and_channels_that_are_wanted_are_told() {
    let mut told = Listener::new("K$");
    told.told("SET k v EX 10", &["__keyspace@0__:k set"]);
    told.told("DEL k", &[]);
    let shell = &mut told.shell;
    assert_eq!(
        shell.run("CONFIG GET notify-keyspace-events"),
        "*2 $22 notify-keyspace-events $2 $K"
    );
    for refused in ["e", "Ke", "q"] {
        let answer = shell.run(&format!("CONFIG SET notify-keyspace-events {refused}"));
        assert!(answer.starts_with("-ERR CONFIG SET failed"), "{answer}");
    }
    assert_eq!(shell.run("CONFIG SET notify-keyspace-events KEA"), "+OK");
    assert_eq!(
        shell.run("CONFIG GET notify-keyspace-events"),
        "*2 $22 notify-keyspace-events $3 AKE"
    );
}

#[test]
fn a_push_that_serves_a_client_is_told_before_what_that_takes() {
    let mut told = Listener::new("EA");
    let waits = told.shell.client();
    let _waiting = told.shell.wait_as(waits, "BLPOP q 0");
    told.told("LPUSH q x", &["lpush q", "lpop q", "del q"]);
}

#[test]
fn one_that_waited_tells_of_what_it_finds_when_it_is_served() {
    let mut told = Listener::new("EAn");
    told.told("RPUSH to a", &["new to", "rpush to"]);
    told.told("PEXPIRE to 10", &["expire to"]);
    let waits = told.shell.client();
    let _waiting = told.shell.wait_as(waits, "BLMOVE q to LEFT RIGHT 0");
    told.shell.advance(11);
    let expected = ["new q", "rpush q", "expired to", "new to", "rpush to", "lpop q", "del q"];
    told.told("RPUSH q x", &expected);
}

#[test]
fn keys_that_are_not_there_are_told_where_that_is_wanted() {
    let mut told = Listener::new("EAmn");
    let mut check = |command, expected: &[&str]| told.told(command, expected);
    check("GET k", &["keymiss k"]);
    check("MGET k l", &["keymiss k", "keymiss l"]);
    check("SET k v", &["new k", "set k"]);
    check("SET k w", &["set k"]);
    check("LPOP l", &[]);
    check("EXISTS l k", &["keymiss l"]);
    for command in ["MULTI", "GET l", "RPUSH l a", "LLEN l", "RENAME l m"] {
        check(command, &[]);
    }
    check("EXEC", &["keymiss l", "new l", "rpush l", "rename_from l", "new m", "rename_to m"]);
    let shell = &mut told.shell;
    assert_eq!(
        shell.run("CONFIG GET notify-keyspace-events"),
        "*2 $22 notify-keyspace-events $4 AEmn"
    );
    told.told("EVAL redis.call('get','no');redis.call('get','no') 0", &["keymiss no"]);
    let shell = &mut told.shell;
    // Without those letters nobody looks.
    assert_eq!(shell.run("CONFIG SET notify-keyspace-events EA"), "+OK");
    told.told("GET none", &[]);
    told.told("SET none v", &["set none"]);
}

/// To look for its keys would hold up others as the read itself would.
#[test]
fn a_read_that_is_too_long_for_its_worker_tells_of_no_key_that_it_misses() {
    let mut told = Listener::new("EAm");
    assert_eq!(told.shell.run("CONFIG SET long-read-steps 10"), "+OK");
    told.told("MGET a b", &["keymiss a", "keymiss b"]);
    told.told("MGET a b c d e f g h i j k l", &[]);
}

/// As in Redis, but that what nobody asks for waits for the walk in the background.
#[test]
fn keys_that_have_ended_are_removed_and_told_of_once() {
    let mut told = Listener::new("EA");
    told.shell.follow();
    let watcher = told.shell.client();
    for key in ["read", "set", "popped", "queued", "waited", "watched"] {
        told.told(
            &format!("SET {key} v PX 10"),
            &[&format!("set {key}"), &format!("expire {key}")],
        );
    }
    told.shell.advance(11);
    assert_eq!(told.shell.run_as(watcher, "WATCH read"), "+OK");
    told.told("GET read", &["expired read"]);
    told.told("GET read", &[]);
    // It was gone when it was watched.
    told.shell.run_as(watcher, "MULTI");
    told.shell.run_as(watcher, "PING");
    assert_eq!(told.shell.run_as(watcher, "EXEC"), "*1 +PONG");
    told.told("SET set w", &["expired set", "set set"]);
    told.told("LPOP popped", &["expired popped"]);
    told.told("MULTI", &[]);
    told.told("GET queued", &[]);
    told.told("EXEC", &["expired queued"]);
    told.told("EXPIRE set -1", &["del set"]);
    told.told("GET set", &[]);
    told.told("EVAL return(redis.call('get','waited')) 0", &["expired waited"]);
    told.shell.assert_replica_is_equal();
    assert_eq!(told.shell.pairs().len(), 1, "the one that nobody asked for");
}

#[test]
fn a_walk_finds_keys_that_nobody_asks_for() {
    let mut told = Listener::new("EA");
    told.told("SET k v PX 1", &["set k", "expire k"]);
    told.told("SET stays v", &["set stays"]);
    let end_ms = told.shell.now_ms() + 1;
    wait_until(|| match clock::unix_ms() {
        now_ms if now_ms > end_ms => Ok(()),
        now_ms => Err(now_ms.to_string()),
    });
    assert_eq!(expire::walk(&told.shell.node, Vec::new()), Vec::<u8>::new(), "it is through");
    told.told("PING", &["expired k"]);
    expire::walk(&told.shell.node, Vec::new());
    told.told("PING", &[]);
    assert_eq!(told.shell.pairs().len(), 1);
    // Where nobody wants to know it removes nothing.
    assert_eq!(told.shell.run("SET k v PX 1"), "+OK");
    assert_eq!(told.shell.run("CONFIG SET notify-keyspace-events Kg"), "+OK");
    expire::walk(&told.shell.node, Vec::new());
    assert_eq!(told.shell.pairs().len(), 2);
}
