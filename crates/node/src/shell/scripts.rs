//! Scripts through gates, locks and the log: what they write, what is kept of it, what stops them.

use std::time::Duration;

use storage::Family;

use super::Shell;
use crate::clock;
use crate::command::Error;
use crate::locks::Locks;
use crate::session::Tells;
use crate::shell::Beside;

/// A script without blanks, for commands that are split at them.
fn script(text: &str) -> String {
    text.replace(' ', "\t")
}

fn eval(text: &str, rest: &str) -> String {
    format!("EVAL {} {rest}", script(text))
}

#[test]
fn a_script_reads_what_it_wrote_and_is_one_batch() {
    let mut shell = Shell::new();
    shell.follow();
    let before = shell.sequence();
    let text = "redis.call('SET',KEYS[1],ARGV[1]) redis.call('RPUSH',KEYS[2],'a','b') \
                return {redis.call('GET',KEYS[1]),redis.call('LLEN',KEYS[2])}";
    assert_eq!(shell.run(&eval(text, "2 k l v")), "*2 $1 v :2");
    assert_eq!(shell.batches_since(before).len(), 1);
    let before = shell.sequence();
    assert_eq!(shell.run(&eval("return redis.call('GET',KEYS[1])", "1 k")), "$1 v");
    assert_eq!(shell.batches_since(before).len(), 0);
    shell.assert_replica_is_equal();
}

/// As in Redis 7.2.
#[test]
fn time_stands_still_in_a_script_and_in_exec() {
    let mut shell = Shell::new();
    let wait = "for i=1,1e5 do end";
    let text = format!(
        "local a=redis.call('TIME') {wait} local b=redis.call('TIME') \
         return {{a[1],a[2],b[1],b[2]}}"
    );
    let halves = |reply: &str, count: &str| {
        let words: Vec<&str> = reply.strip_prefix(count).unwrap().split(' ').collect();
        let (one, other) = words.split_at(words.len() / 2);
        assert_eq!(one, other, "{reply}");
    };
    halves(&shell.run(&eval(&text, "0")), "*4 ");
    for command in ["MULTI", "TIME", &eval(wait, "0"), "TIME"] {
        shell.run(command);
    }
    halves(&shell.run("EXEC").replace(" $-1 ", " "), "*3 ");
    // Outside it goes on.
    let earlier = shell.run("TIME");
    shell.run(&eval(wait, "0"));
    assert_ne!(shell.run("TIME"), earlier);
}

#[test]
fn a_script_that_fails_by_itself_keeps_what_it_wrote() {
    let mut shell = Shell::new();
    let failing = eval("redis.call('SET','k','v') error('x')", "0");
    assert!(shell.run(&failing).starts_with("-ERR user_script:1: x script: "));
    assert_eq!(shell.run("GET k"), "$1 v");
    let wrong = eval("redis.call('SET','l','v') redis.call('HGET','l','f')", "0");
    assert!(shell.run(&wrong).starts_with("-WRONGTYPE Operation against"));
    assert_eq!(shell.run("GET l"), "$1 v");
}

#[test]
fn one_that_runs_too_long_keeps_nothing() {
    let mut shell = Shell::with(|values| values.script_time_max_ms = 50);
    let before = shell.sequence();
    let endless = eval("redis.call('SET','k','v') while true do pcall(error) end", "0");
    assert!(shell.run(&endless).contains("longer than script-time-max-ms"));
    assert_eq!(shell.run("EXISTS k"), ":0");
    assert_eq!(shell.sequence(), before);
    assert_eq!(shell.run(&eval("return 1", "0")), ":1");
}

#[test]
fn a_batch_that_is_too_large_is_dropped_whole() {
    let mut shell = Shell::with(|values| values.rocksdb_write_batch_max_bytes = 10_000);
    let text = "for i=1,1000 do redis.pcall('SET','k'..i,('x'):rep(1000)) end return 1";
    let before = shell.sequence();
    assert!(shell.run(&eval(text, "0")).starts_with("-ERR storage: "), "{}", shell.run("GET k1"));
    assert_eq!(shell.sequence(), before);
}

#[test]
fn scripts_inside_a_transaction_are_part_of_its_batch() {
    let mut shell = Shell::new();
    let other = shell.client();
    let before = shell.sequence();
    shell.run("WATCH w");
    shell.run("MULTI");
    shell.run("SET k 1");
    let text = eval("return redis.call('INCR','k')", "0");
    assert_eq!(shell.run(&text), "+QUEUED");
    assert_eq!(shell.run("GET k"), "+QUEUED");
    assert_eq!(shell.run("EXEC"), "*3 +OK :2 $1 2");
    assert_eq!(shell.batches_since(before).len(), 1);
    // The transaction is over, and watches nothing.
    assert_eq!(shell.run("EXEC"), "-ERR EXEC without MULTI");
    shell.run("WATCH w");
    shell.run("MULTI");
    assert_eq!(shell.run(&text), "+QUEUED");
    shell.run_as(other, "SET w 1");
    assert_eq!(shell.run("EXEC"), "*-1");
    assert_eq!(shell.run("GET k"), "$1 2");
}

#[test]
fn what_a_script_may_not_call_is_refused() {
    let mut shell = Shell::new();
    for (call, expected) in [
        ("'NOSUCH'", "ERR Unknown Redis command called from script"),
        ("'GET'", "ERR Wrong number of args calling Redis command from script"),
        ("'BLPOP','l',0", "ERR This Redis command is not allowed from script"),
        (
            "'XREAD','BLOCK',0,'STREAMS','s','$'",
            "ERR XREAD command is not allowed with BLOCK option from scripts",
        ),
        ("'SUBSCRIBE','c'", "ERR This Redis command is not allowed from script"),
        ("'EVAL','return 1',0", "ERR This Redis command is not allowed from script"),
        ("'MULTI'", "ERR This Redis command is not allowed from script"),
        ("'CONFIG','GET','port'", "ERR This Redis command is not allowed from script"),
        ("'PING'", "+PONG"),
    ] {
        let reply = shell.run(&eval(&format!("return redis.pcall({call})"), "0"));
        assert!(reply.trim_start_matches('-').starts_with(expected), "{call}: {reply}");
    }
    let reading = script("return redis.pcall('SET','k','v')");
    let refused = "-ERR Write commands are not allowed from read-only scripts.";
    assert_eq!(shell.run(&format!("EVAL_RO {reading} 0")), refused);
    assert_eq!(shell.run(&format!("EVAL #!lua\tflags=no-writes\n{reading} 0")), refused);
    assert!(shell.run("EVAL_RO #!lua\nreturn\t1 0").starts_with("-ERR Can not execute"));
}

#[test]
fn scripts_and_libraries_are_kept_where_kvrocks_keeps_them() {
    let mut shell = Shell::new();
    shell.follow();
    let hash = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    let before = shell.sequence();
    assert_eq!(
        shell.run("SCRIPT LOAD return\t1"),
        "$40 6dd83a7b8a2ff7a4a34b14f02ba4e9a8e5e1a77b"
            .replace("6dd83a7b8a2ff7a4a34b14f02ba4e9a8e5e1a77b", &script::sha1_hex(b"return\t1"))
    );
    assert_eq!(script::sha1_hex(b"return 1"), hash);
    assert_eq!(shell.batches_since(before).len(), 1);
    shell.restart();
    let loaded = script::sha1_hex(b"return\t1");
    assert_eq!(shell.run(&format!("EVALSHA {loaded} 0")), ":1");
    assert_eq!(shell.run(&format!("SCRIPT EXISTS {loaded} {hash}")), "*2 :1 :0");
    let code = "#!lua\tname=lib\nredis.register_function('f',function(k,a)return(redis.call('SET',k[1],a[1]))end)";
    assert_eq!(shell.run(&format!("FUNCTION LOAD {code}")), "$3 lib");
    let kept: Vec<(String, String)> = shell
        .pairs()
        .into_iter()
        .filter(|(family, ..)| *family == Family::Propagate)
        .map(|(_, key, value)| (String::from_utf8(key).unwrap(), String::from_utf8(value).unwrap()))
        .filter(|(key, _)| key.starts_with("lua_"))
        .collect();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        kept,
        [
            pair(&format!("lua_f_{loaded}"), "return\t1"),
            pair("lua_func_lib_f", "lib"),
            pair("lua_lib_code_lib", code),
        ]
    );
    shell.restart();
    assert_eq!(shell.run("FCALL f 1 k v"), "+OK");
    assert_eq!(shell.run("GET k"), "$1 v");
    shell.assert_replica_is_equal();
    assert_eq!(shell.run("SCRIPT FLUSH"), "+OK");
    assert!(shell.run(&format!("EVALSHA {loaded} 0")).starts_with("-NOSCRIPT"));
    assert_eq!(shell.run("FUNCTION DELETE lib"), "+OK");
    assert_eq!(shell.run("FCALL f 1 k v"), "-ERR Function not found");
    shell.assert_replica_is_equal();
}

#[test]
fn a_library_that_is_replaced_is_another_one_at_once() {
    let mut shell = Shell::new();
    let code = |answer: u8| {
        format!("#!lua\tname=lib\nredis.register_function('f',function()return({answer})end)")
    };
    assert_eq!(shell.run(&format!("FUNCTION LOAD {}", code(1))), "$3 lib");
    assert_eq!(shell.run("FCALL f 0"), ":1");
    assert!(
        shell.run(&format!("FUNCTION LOAD {}", code(2))).starts_with("-ERR Library 'lib' already")
    );
    assert_eq!(shell.run(&format!("FUNCTION LOAD REPLACE {}", code(2))), "$3 lib");
    assert_eq!(shell.run("FCALL f 0"), ":2");
    let other = "#!lua\tname=other\nredis.register_function('f',function()end)";
    assert_eq!(shell.run(&format!("FUNCTION LOAD {other}")), "-ERR Function f already exists");
    assert_eq!(shell.run("FUNCTION FLUSH"), "+OK");
    assert_eq!(shell.run("FUNCTION LIST"), "*0");
}

#[test]
fn a_call_finds_the_text_that_is_kept_whatever_was_loaded_beforehand() {
    let mut shell = Shell::new();
    let code = |answer: u8| {
        format!("#!lua\tname=lib\nredis.register_function('f',function()return({answer})end)")
    };
    assert_eq!(shell.run(&format!("FUNCTION LOAD {}", code(1))), "$3 lib");
    shell.run("MULTI");
    // Both are loaded before the first of these runs, and the first one takes nothing.
    for command in [
        format!("FUNCTION LOAD {}", code(1)),
        "FCALL f 0".to_owned(),
        format!("FUNCTION LOAD REPLACE {}", code(2)),
        "FCALL f 0".to_owned(),
    ] {
        assert_eq!(shell.run(&command), "+QUEUED");
    }
    assert_eq!(shell.run("EXEC"), "*4 -ERR Library 'lib' already exists :1 $3 lib :2");
}

#[test]
fn what_a_script_reads_may_have_more_elements_than_luas_stack_places() {
    let mut shell = Shell::new();
    let filled = "for i=1,10000 do redis.call('RPUSH','l','v'..i) redis.call('SADD','s',i) end \
                  for i=1,5000 do redis.call('HSET','h','f'..i,i) end return 1";
    assert_eq!(shell.run(&eval(filled, "0")), ":1");
    for (command, keys, direct) in [
        ("'LRANGE',KEYS[1],0,-1", "1 l", "LRANGE l 0 -1"),
        ("'SMEMBERS',KEYS[1]", "1 s", "SMEMBERS s"),
        ("'HGETALL',KEYS[1]", "1 h", "HGETALL h"),
    ] {
        let answer = shell.run(&eval(&format!("return redis.call({command})"), keys));
        assert!(answer.starts_with("*10000 "), "{command}: {}", &answer[..40.min(answer.len())]);
        assert!(answer == shell.run(direct), "{command}");
    }
    assert_eq!(shell.run(&eval("return 1", "0")), ":1");
}

#[test]
fn a_text_that_does_not_compile_is_not_known() {
    let mut shell = Shell::new();
    let (text, before) = (script("return 1 +"), shell.node.scripts.texts());
    let hash = script::sha1_hex(text.as_bytes());
    assert!(shell.run(&format!("EVAL {text} 0")).starts_with("-ERR Error compiling script"));
    assert_eq!(shell.run(&format!("SCRIPT EXISTS {hash}")), "*1 :0");
    assert!(shell.run(&format!("EVALSHA {hash} 0")).starts_with("-NOSCRIPT "));
    assert_eq!(shell.node.scripts.texts(), before);
    // One that runs is, and one that fails as it runs.
    for text in ["return 2", "error('x')"] {
        shell.run(&eval(text, "0"));
        let hash = script::sha1_hex(script(text).as_bytes());
        assert_eq!(shell.run(&format!("SCRIPT EXISTS {hash}")), "*1 :1", "{text}");
    }
}

#[test]
fn a_long_text_is_loaded_without_the_write_gate_and_within_bounds() {
    let mut shell = Shell::with(|values| values.script_memory_max.0 = 128 << 20);
    let text = "f()\t".repeat(9 << 20);
    let refused = "-ERR Error compiling script (new function): not enough memory";
    // This thread may be held up just then, but not again and again.
    let is_had = (0..20).any(|_| {
        let loading = beside(shell.beside(), format!("SCRIPT LOAD {text}"));
        let (began, mut had) = (std::time::Instant::now(), Vec::new());
        while !loading.is_finished() {
            drop(shell.node.gate.write());
            let at = began.elapsed().as_millis();
            if had.last() != Some(&at) {
                had.push(at);
            }
        }
        let taken = began.elapsed().as_millis();
        assert_eq!(loading.join().unwrap(), refused);
        // Held all the while, it would be had before and at the end alone.
        let within = taken / 2..taken * 9 / 10;
        had.iter().any(|at| within.contains(at))
    });
    assert!(is_had, "the gate is held");
    assert_eq!(shell.run(&format!("EVAL {text} 0")), refused);
    assert_eq!(shell.run("SCRIPT LOAD return\t1"), {
        format!("$40 {}", script::sha1_hex(b"return\t1"))
    });
}

/// Runs a command on another thread until `done`.
fn beside(mut client: Beside, command: String) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || client.run(&command))
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "waits for a state, with a bound")]
fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} does not come to pass");
}

/// What MONITOR has shown a client: the words.
fn seen(shell: &Shell, client: usize) -> Vec<String> {
    let mut out = Vec::new();
    shell.clients[client].client.inbox.take(&mut out);
    let text = String::from_utf8(out).unwrap();
    text.lines().map(|line| line.split_once("] ").unwrap().1.to_owned()).collect()
}

#[test]
fn those_who_watch_see_a_script_once_and_then_what_it_runs() {
    let mut shell = Shell::new();
    let watching = shell.client();
    assert_eq!(shell.run_as(watching, "MONITOR"), "+OK");
    for command in [
        "EVAL redis.call('SET',KEYS[1],'v') 1 k",
        "SCRIPT LOAD return(1)",
        "GET k",
        "MULTI",
        "EVAL return(1) 0",
        "EXEC",
    ] {
        shell.run(command);
    }
    let expected = [
        r#""EVAL" "redis.call('SET',KEYS[1],'v')" "1" "k""#,
        r#""SET" "k" "v""#,
        r#""SCRIPT" "LOAD" "return(1)""#,
        r#""GET" "k""#,
        r#""MULTI""#,
        r#""EVAL" "return(1)" "0""#,
    ];
    assert_eq!(seen(&shell, watching), expected);
}

#[test]
fn a_long_script_is_killed_and_others_go_on_meanwhile() {
    let mut shell = Shell::with(|values| values.lua_time_limit = 100);
    assert!(shell.run("SCRIPT KILL").starts_with("-NOTBUSY"));
    let long = beside(
        shell.beside(),
        eval("redis.call('GET',KEYS[1]) while true do pcall(error) end", "1 k"),
    );
    await_that("a slow script", || shell.node.scripts.any_slow());
    // What it has not locked is served, by the same and by other commands.
    assert_eq!(shell.run("SET free 1"), "+OK");
    assert_eq!(shell.run(&eval("return redis.call('GET','free')", "0")), "$1 1");
    assert_eq!(shell.run("GET k"), "$-1");
    await_that("BUSY", || shell.node.scripts.busy(Duration::from_millis(100)).is_some());
    let watching = shell.client();
    assert_eq!(shell.run_as(watching, "MONITOR"), "+OK");
    assert!(shell.run("SET k 1").starts_with("-BUSY "));
    assert!(seen(&shell, watching).is_empty(), "it has not run");
    // As in Redis, EXEC ends its transaction: what comes next is not queued.
    for queued in ["SET k 1", "EVAL return(1) 1 k"] {
        assert_eq!((shell.run("MULTI"), shell.run(queued)), ("+OK".into(), "+QUEUED".into()));
        let said = shell.run("EXEC");
        let aborted = "-EXECABORT Transaction discarded because of: BUSY Redis is busy";
        assert!(said.starts_with(aborted), "{said}");
        assert_eq!(shell.run("GET k"), "$-1");
    }
    assert!(shell.run("FUNCTION KILL").starts_with("-BUSY "));
    assert_eq!(shell.run("SCRIPT KILL"), "+OK");
    assert!(long.join().unwrap().contains("user killed with SCRIPT KILL"));
    assert_eq!(shell.run("SET k 1"), "+OK");
}

#[test]
fn a_change_of_role_waits_for_no_script_and_takes_what_it_wrote() {
    let mut shell = Shell::new();
    let text = "redis.call('SET',KEYS[1],'v') while true do pcall(error) end";
    let long = beside(shell.beside(), eval(text, "1 k"));
    await_that("a slow script", || shell.node.scripts.any_slow());
    assert!(shell.run("SCRIPT KILL").starts_with("-UNKILLABLE "));
    // This thread may be held up for longer, but not again and again.
    let is_had_soon = |_| {
        let before = std::time::Instant::now();
        drop(shell.node.gate.write());
        before.elapsed() < Duration::from_millis(500)
    };
    assert!((0..20).any(is_had_soon));
    shell.node.gate.write().generation += 1;
    let reply = long.join();
    // The connection would be closed, or told so.
    assert!(reply.is_err() || reply.unwrap().contains("role of this node changed"));
    assert_eq!(shell.run("EXISTS k"), ":0");
}

/// Its locks are waited for by batches that have the gate, and what it waits for may need the gate:
/// a lease that has expired is over for good once this node is told that it is no master.
#[test]
fn an_end_that_waits_for_the_gates_is_waited_for_by_nobody() {
    for is_exec in [false, true] {
        let mut shell = Shell::new();
        shell.run("SET k 0");
        let (text, mut client) =
            ("redis.call('INCR',KEYS[1]) for i=1,20000000 do end return 1", shell.beside());
        let script = eval(text, "1 k");
        let long = std::thread::spawn(move || {
            if is_exec {
                assert_eq!(
                    (client.run("MULTI"), client.run(&script)),
                    ("+OK".into(), "+QUEUED".into())
                );
                return client.run("EXEC");
            }
            client.run(&script)
        });
        await_that("a slow script", || shell.node.scripts.any_slow());
        assert_eq!(shell.run("CLIENT PAUSE 60000 WRITE"), "+OK");
        let has_ended = || shell.node.scripts.oldest(None, None).is_none();
        await_that("its end", || has_ended() && shell.node.scripts.any());
        // As a command that was let through before has it.
        let (node, gate) = (std::sync::Arc::clone(&shell.node), shell.node.gate.read());
        let write = std::thread::spawn(move || {
            let stripes = Locks::stripes([b"k".as_slice()].into_iter());
            matches!(crate::session::nested::lock(&node, &stripes), Err(Error::Locked))
        });
        await_that("an answer", || write.is_finished());
        assert!(write.join().unwrap(), "it is told to come again");
        drop(gate);
        assert_eq!(shell.run("CLIENT UNPAUSE"), "+OK");
        assert_eq!(long.join().unwrap(), if is_exec { "*1 :1" } else { ":1" });
        assert!(!shell.node.scripts.any() && !shell.node.scripts.any_slow());
        assert_eq!(shell.run("GET k"), "$1 1");
    }
}

#[test]
fn a_library_that_is_loaded_holds_up_nobody() {
    let mut shell = Shell::new();
    let code = "#!lua\tname=lib\nwhile(true)do\tend";
    let mut is_had = false;
    // Half a second may go by unseen: then once more.
    for _ in 0..20 {
        let load = beside(shell.beside(), format!("FUNCTION LOAD {code}"));
        while !load.is_finished() {
            let gate = shell.node.gate.try_write();
            // Its code still runs, and does not hold what we hold.
            is_had |= gate.is_some() && shell.node.scripts.any();
            drop(gate);
            if is_had {
                assert_eq!(shell.run("SET k v"), "+OK");
                // Half a second is over, or somebody ends it before.
                shell.run("FUNCTION KILL");
            }
        }
        let said = load.join().unwrap();
        assert!(said.contains("FUNCTION LOAD timeout") || said.contains("FUNCTION KILL"), "{said}");
        assert_eq!(shell.run("FUNCTION LIST"), "*0");
        if is_had {
            break;
        }
    }
    assert!(is_had, "the gate is held");
}

#[test]
fn a_change_of_role_waits_for_no_handler_of_errors() {
    let mut shell = Shell::new();
    let text = "redis.call('SET',KEYS[1],'v') local f=function() while true do end end xpcall(f,f)";
    let long = beside(shell.beside(), eval(text, "1 k"));
    await_that("a slow script", || shell.node.scripts.any_slow());
    shell.node.gate.write().generation += 1;
    let reply = long.join();
    // The connection would be closed, or told so.
    assert!(reply.is_err() || reply.unwrap().contains("role of this node changed"));
    assert_eq!(shell.run("EXISTS k"), ":0");
    assert!(!shell.node.scripts.any());
}

#[test]
fn scripts_that_meet_at_keys_they_do_not_name_lose_nothing() {
    let mut shell = Shell::new();
    let text = "local a=redis.call('GET',ARGV[1]) or 0 local b=redis.call('GET',ARGV[2]) or 0 \
                redis.call('SET',ARGV[1],a+1) redis.call('SET',ARGV[2],b+1) return 1";
    let rounds = 200;
    let threads: Vec<_> = [("x", "y"), ("y", "x"), ("x", "y"), ("y", "x")]
        .into_iter()
        .map(|(first, second)| {
            let (mut client, command) =
                (shell.beside(), eval(text, &format!("0 {first} {second}")));
            std::thread::spawn(move || {
                for _ in 0..rounds {
                    assert_eq!(client.run(&command), ":1");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(shell.run("MGET x y"), "*2 $3 800 $3 800");
}

#[test]
fn what_an_exec_with_scripts_makes_of_its_connection_stays() {
    let mut shell = Shell::with(|values| values.redis_databases = 3);
    for command in ["MULTI", "EVAL return(1) 0", "SELECT 2", "SET k v", "HELLO 3"] {
        shell.run(command);
    }
    let said = shell.run("EXEC");
    assert!(said.starts_with("*4 :1 +OK +OK "), "{said}");
    assert_eq!(shell.run("HGETALL none"), "%0");
    assert_eq!(shell.run("GET k"), "$1 v");
    let shown = shell.run("CLIENT INFO");
    assert!(shown.contains(" db=2 ") && shown.contains(" resp=3 "), "{shown}");
    assert_eq!(shell.run("SELECT 0"), "+OK");
    assert_eq!(shell.run("EXISTS k"), ":0");
}

#[test]
fn what_is_watched_stays_watched_while_scripts_run() {
    let mut shell = Shell::new();
    let other = shell.client();
    for script in
        ["EVAL return(1) 0", "EVAL_RO return(1) 0", "SCRIPT LOAD return(1)", "FUNCTION LIST"]
    {
        for command in ["WATCH k", script] {
            shell.run(command);
        }
        assert_eq!(shell.run_as(other, "SET k theirs"), "+OK");
        for command in ["MULTI", "SET k mine"] {
            shell.run(command);
        }
        assert_eq!(shell.run("EXEC"), "*-1", "{script}");
        assert_eq!(shell.run("GET k"), "$6 theirs");
    }
    // What a script of its own changes counts too, as in Redis.
    for command in ["WATCH k", "EVAL redis.call('SET',KEYS[1],'mine') 1 k", "MULTI", "GET k"] {
        shell.run(command);
    }
    assert_eq!(shell.run("EXEC"), "*-1");
    for command in ["WATCH k", "EVAL return(1) 0", "MULTI", "GET k"] {
        shell.run(command);
    }
    assert_eq!(shell.run("EXEC"), "*1 $4 mine");
}

#[test]
fn only_a_script_that_wrote_tells_of_a_write() {
    let mut shell = Shell::new();
    for (script, tells) in [
        ("EVAL return(redis.call('get','k')) 1 k", Tells::Read),
        ("EVAL return(redis.call('set','k','v')) 1 k", Tells::Write),
        ("EVAL redis.call('set','k','v')error('no') 1 k", Tells::Write),
        ("EVAL return(1) 0", Tells::Read),
    ] {
        assert_eq!(shell.tells(script), tells, "{script}");
    }
}

/// As without a script.
#[test]
fn a_transaction_with_a_script_may_have_replies_sent_again() {
    let mut shell = Shell::new();
    for command in ["CLIENT REPLY OFF", "MULTI", "EVAL return(1) 0", "CLIENT REPLY ON"] {
        assert_eq!(shell.run(command), "", "{command}");
    }
    shell.run("EXEC");
    assert_eq!(shell.run("PING"), "+PONG");
}

/// Of two that change one key the later one is told a later time.
#[test]
fn time_is_when_the_keys_were_there() {
    let shell = Shell::new();
    let (node, mut client) = (shell.node(), shell.beside());
    let held = node.locks.lock(&Locks::stripes([b"k".as_slice()].into_iter()));
    let waiting = std::thread::spawn(move || {
        for command in ["MULTI", "SET k v", "TIME"] {
            client.run(command);
        }
        client.run("EXEC")
    });
    await_that("EXEC", || {
        let clients = node.clients.list();
        let mut last = clients.iter().filter_map(|client| client.last_command.get());
        last.any(|row| row.name == "exec")
    });
    // By then it waits.
    let seen_us = clock::unix_us();
    await_that("a later time", || clock::unix_us() > seen_us + 20_000);
    let released_us = clock::unix_us();
    drop(held);
    let told = waiting.join().unwrap();
    let words: Vec<&str> = told.split(' ').collect();
    let ["*2", "+OK", "*2", _, seconds, _, micros] = words.as_slice() else { panic!("{told}") };
    let number = |word: &str| word.parse::<u64>().unwrap();
    let told_us = number(seconds) * 1_000_000 + number(micros);
    assert!(told_us >= released_us, "{told_us} {released_us}");
}
