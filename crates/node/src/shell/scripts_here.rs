//! Scripts on the worker of their connection: those that are over there, and those that give way.

use crate::command::Words;
use crate::gate::Role;
use crate::locks::Locks;
use crate::session::After;
use crate::session::dispatch::Batch;
use crate::shell::waiting::told;
use crate::shell::{Shell, session};

fn eval(text: &str, rest: &str) -> String {
    // Commands are split at blanks.
    format!("EVAL {} {rest}", text.replace(' ', "\t"))
}

/// Runs commands that have come together; their replies in one line, and the one that comes later.
#[track_caller]
fn run(shell: &mut Shell, commands: &[&str]) -> (String, Option<String>) {
    let node = shell.node();
    let (mut out, mut later) = (Vec::new(), None);
    let now_ms = shell.now_ms();
    let client = &mut shell.clients[0];
    let mut batch = Batch::begin(&node, node.config.now(), 0, now_ms);
    for command in commands {
        assert!(later.is_none(), "{command} comes behind what is aside");
        let words: Words<'_> = command.split(' ').map(str::as_bytes).collect();
        match batch.run(client, &words, &mut out) {
            After::Next(_) => {}
            After::Aside(answer) => later = Some(answer),
            after => panic!("{command}: {after:?}"),
        }
    }
    batch.close(client, &mut out).finish(&node).unwrap();
    let line = |bytes: Vec<u8>| {
        String::from_utf8(bytes).unwrap().replace("\r\n", " ").trim_end().to_owned()
    };
    let answered = later.map(|answer| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        line(runtime.unwrap().block_on(answer).bytes)
    });
    (line(out), answered)
}

/// What the only command answers, if it goes aside.
#[track_caller]
fn aside(shell: &mut Shell, command: &str) -> String {
    let (before, answer) = run(shell, &[command]);
    assert_eq!(before, "");
    answer.unwrap_or_else(|| panic!("{command} does not go aside"))
}

#[test]
fn a_script_that_is_over_at_once_is_one_batch_with_what_waits() {
    let mut shell = Shell::new();
    shell.follow();
    let before = shell.sequence();
    let count = eval("return redis.call('INCR',KEYS[1])", "1 a");
    let both = eval("return {redis.call('GET','b'),redis.call('GET',KEYS[1])}", "1 a");
    let replies = run(&mut shell, &["SET a 1", &count, "SET b 2", &both, &count, "GET a"]);
    assert_eq!(replies, ("+OK :2 +OK *2 $1 2 $1 2 :3 $1 3".into(), None));
    assert_eq!(shell.batches_since(before).len(), 1);
    shell.assert_replica_is_equal();
    // By its hash, as one of a library, and one that fails after it wrote.
    let hash = script::sha1_hex(b"return\tredis.call('INCR',KEYS[1])");
    let code = "#!lua\tname=lib\nredis.register_function('f',function(k)return(redis.call('INCR',k[1]))end)";
    assert_eq!(shell.run(&format!("FUNCTION LOAD {code}")), "$3 lib");
    let before = shell.sequence();
    let (by_hash, wrong) = (format!("EVALSHA {hash} 1 a"), "EVALSHA none 1 a");
    let failing = eval("redis.call('SET',KEYS[1],'7') redis.call('HGET',KEYS[1],'f')", "1 a");
    let (replies, later) = run(&mut shell, &[&by_hash, "FCALL f 1 a", wrong, &failing, "INCR a"]);
    assert!(replies.starts_with(":4 :5 -NOSCRIPT No matching script. "), "{replies}");
    assert!(replies.contains(" -WRONGTYPE Operation against"), "{replies}");
    assert!(replies.ends_with(" :8") && later.is_none(), "{replies}");
    assert_eq!(shell.batches_since(before).len(), 1);
}

#[test]
fn one_that_takes_long_begins_anew_aside_and_what_waits_before_it_stays() {
    let mut shell = Shell::new();
    let text = "redis.call('INCR',KEYS[1]) redis.log(redis.LOG_WARNING,'once') \
                for i=1,1e7 do end return redis.call('INCR',KEYS[1])";
    let (before, answer) = run(&mut shell, &["SET a 5", &eval(text, "1 a")]);
    assert_eq!((before.as_str(), answer.as_deref()), ("+OK", Some(":7")));
    // What reads much, and what many commands do.
    let filled = eval("for i=1,30000 do redis.call('RPUSH',KEYS[1],i) end return 1", "1 l");
    assert_eq!(aside(&mut shell, &filled), ":1");
    let read = eval("return #redis.call('LRANGE',KEYS[1],0,-1)", "1 l");
    assert_eq!(aside(&mut shell, &read), ":30000");
    assert_eq!(shell.run("LLEN l"), ":30000");
}

#[test]
fn one_that_needs_what_a_worker_does_not_give_begins_anew_aside() {
    let mut shell = Shell::new();
    // Memory, also where the script would go on without.
    assert_eq!(aside(&mut shell, &eval("return #('x'):rep(20000000)", "0")), ":20000000");
    let caught = eval("local ok=pcall(string.rep,'x',20000000) return {ok}", "0");
    assert_eq!(aside(&mut shell, &caught), "*1 :1");
    let large = eval("return ('x'):rep(9000000)", "0");
    assert_eq!(aside(&mut shell, &large).len(), "$9000000 ".len() + 9_000_000);
    // All keys, and what is more than about the connection.
    let flush = eval("redis.call('SET','k','v') return redis.call('FLUSHALL')", "0");
    assert_eq!(aside(&mut shell, &flush), "+OK");
    assert_eq!(shell.run("DBSIZE"), ":0");
    assert_eq!(aside(&mut shell, &eval("return type(redis.call('INFO'))", "0")), "$6 string");
    let time = eval("return {type(redis.call('TIME')[1]),redis.call('PING')}", "0");
    assert_eq!(run(&mut shell, &[&time]), ("*2 $6 string +PONG".into(), None));
    // A long text.
    let long = eval(&format!("{}return 1", "do local x=1 end ".repeat(7_000)), "0");
    assert_eq!(aside(&mut shell, &long), ":1");
}

#[test]
fn one_that_is_too_large_only_with_what_waits_begins_anew_behind_it() {
    let mut shell = Shell::with(|values| values.rocksdb_write_batch_max_bytes = 20_000);
    assert_eq!(shell.run(&format!("RPUSH l{}", " x".repeat(200))), ":200");
    let set = format!("SET a {}", "y".repeat(18_500));
    let pop = eval("return #redis.call('LPOP',KEYS[1],100)", "1 l");
    assert_eq!(run(&mut shell, &[&set, &pop]), ("+OK".into(), Some(":100".into())));
    assert_eq!(run(&mut shell, &[&pop, "EXISTS a"]), (":100 :1".into(), None));
}

#[test]
fn one_that_would_wait_for_a_key_begins_anew_aside() {
    let mut shell = Shell::new();
    let node = shell.node();
    let text = eval("redis.call('INCR',KEYS[1]) return redis.call('INCR','other')", "1 k");
    let held = node.locks.lock(&Locks::stripes([b"other".as_slice()].into_iter()));
    let mut out = Vec::new();
    let mut client = session(&node);
    let mut batch = Batch::begin(&node, node.config.now(), 0, shell.now_ms());
    let words: Words<'_> = text.split(' ').map(str::as_bytes).collect();
    let After::Aside(answer) = batch.run(&mut client, &words, &mut out) else {
        panic!("it does not wait: {}", out.escape_ascii());
    };
    batch.close(&client, &mut out).finish(&node).unwrap();
    drop(held);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    assert_eq!(runtime.unwrap().block_on(answer).bytes, b":1\r\n");
    // Where nobody else has it, it is there at once, also for what waits before.
    let replies = run(&mut shell, &["SET other 5", &text, "INCR other"]);
    assert_eq!(replies, ("+OK :6 :7".into(), None));
    assert_eq!(shell.run("GET k"), "$1 2");
}

#[test]
fn a_message_of_a_replica_is_sent_once_by_one_that_begins_anew() {
    let mut shell = Shell::new();
    let listener = shell.client();
    shell.run_as(listener, "SUBSCRIBE c");
    let heard = |shell: &mut Shell, text: &str| {
        assert_eq!(aside(shell, &eval(text, "0")), ":1");
        let mut out = Vec::new();
        shell.clients[listener].client.inbox.take(&mut out);
        String::from_utf8(out).unwrap().matches("message").count()
    };
    // A master's message is in the batch, and nobody has seen it.
    let text = "local n=redis.call('PUBLISH','c','x') for i=1,1e7 do end return n";
    assert_eq!(heard(&mut shell, text), 1);
    let from = topology::Endpoint { host: "10.0.0.2".into(), port: 1 };
    shell.node().gate.write().role = Role::Replica { from };
    // Another text, of which it is not known that it takes long.
    assert_eq!(heard(&mut shell, &format!("{text} ")), 1);
}

#[test]
fn texts_that_were_called_before_are_those_that_the_transaction_sees() {
    let mut shell = Shell::new();
    let by_hash = format!("EVALSHA {} 0", script::sha1_hex(b"return\t1"));
    shell.run("SCRIPT LOAD return\t1");
    assert_eq!(run(&mut shell, &[&by_hash, &by_hash, "SET k v"]), (":1 :1 +OK".into(), None));
    // Also where what changes them is not committed yet.
    let (replies, later) = run(&mut shell, &["SCRIPT FLUSH", &by_hash]);
    assert!(replies.starts_with("+OK -NOSCRIPT ") && later.is_none(), "{replies}");
    assert!(shell.run(&by_hash).starts_with("-NOSCRIPT "));
    shell.run("SCRIPT LOAD return\t1");
    for command in ["MULTI", by_hash.as_str(), "SCRIPT FLUSH", by_hash.as_str()] {
        shell.run(command);
    }
    let replies = shell.run("EXEC");
    assert!(replies.starts_with("*3 :1 +OK -NOSCRIPT "), "{replies}");
}

#[test]
fn what_is_waited_for_is_written_before_the_next_command_and_nothing_else() {
    let mut shell = Shell::with(|values| values.redis_databases = 2);
    let (one, other) = (shell.client(), shell.client());
    let mut waiting = shell.wait_as(one, "BLPOP q 0");
    let before = shell.sequence();
    let count = eval("return redis.call('INCR',KEYS[1])", "1 a");
    let looks = eval("return redis.call('LLEN','q')", "1 a");
    let replies = run(&mut shell, &[&count, "SET b 1", &looks, &count]);
    assert_eq!(replies, (":1 +OK :0 :2".into(), None));
    assert_eq!(shell.batches_since(before).len(), 1);
    assert_eq!(told(&mut waiting), None);
    // Whatever it was called with.
    let push = eval("return redis.call('RPUSH','q','x')", "1 a");
    assert_eq!(run(&mut shell, &[&push, &looks]), (":1 :0".into(), None));
    assert_eq!(told(&mut waiting).as_deref(), Some("*2 $1 q $1 x"));
    // In another database: all that may be waited for counts.
    assert_eq!(shell.run_as(other, "SELECT 1"), "+OK");
    let mut waiting = shell.wait_as(other, "BLPOP q 0");
    assert_eq!(shell.run("RPUSH q y"), ":1");
    let before = shell.sequence();
    let moves = eval("return redis.call('MOVE',KEYS[1],'1')", "1 q");
    assert_eq!(run(&mut shell, &[&moves, &count]), (":1 :3".into(), None));
    assert_eq!(shell.batches_since(before).len(), 3);
    assert_eq!(told(&mut waiting).as_deref(), Some("*2 $1 q $1 y"));
}

#[test]
fn where_somebody_wants_to_be_told_scripts_run_aside() {
    let mut shell = Shell::new();
    let reads = eval("return redis.call('GET',KEYS[1])", "1 k");
    assert_eq!(run(&mut shell, &[&reads]), ("$-1".into(), None));
    let watching = shell.client();
    assert_eq!(shell.run_as(watching, "MONITOR"), "+OK");
    assert_eq!(aside(&mut shell, &reads), "$-1");
    let mut shell = Shell::new();
    assert_eq!(shell.run("CONFIG SET notify-keyspace-events KEAm"), "+OK");
    assert_eq!(aside(&mut shell, &reads), "$-1");
    let mut shell = Shell::new();
    shell.run("HELLO 3");
    assert_eq!(shell.run("CLIENT TRACKING ON"), "+OK");
    assert_eq!(aside(&mut shell, &reads), "_");
}
