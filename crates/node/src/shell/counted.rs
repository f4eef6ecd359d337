//! Statistics of the commands that EXEC and scripts run: commandstats, errorstats, and SLOWLOG.

use crate::command::Catalog;
use crate::shell::Shell;

fn eval(text: &str, rest: &str) -> String {
    // Commands are split at blanks.
    format!("EVAL {} {rest}", text.replace(' ', "\t"))
}

/// Calls of a command, those of them that failed, and how often it was rejected.
fn counted(shell: &Shell, name: &str) -> (u64, u64, u64) {
    let total = shell.node.stats.command(Catalog::get().find(name).unwrap());
    (total.calls, total.failed, total.rejected)
}

/// Names of the commands in SLOWLOG, the first one first.
fn slow(shell: &Shell) -> Vec<String> {
    let entries = shell.node.slowlog.newest(100);
    let names = entries.iter().rev().map(|entry| {
        assert_eq!(entry.client, "127.0.0.1:1", "{entry:?}");
        String::from_utf8(entry.words[0].clone()).unwrap()
    });
    names.collect()
}

#[test]
fn what_is_queued_counts_when_exec_runs_it() {
    let mut shell = Shell::new();
    for command in ["MULTI", "SET a x", "INCR a", "INCR b"] {
        shell.run(command);
    }
    assert_eq!((counted(&shell, "set"), counted(&shell, "incr")), ((0, 0, 0), (0, 0, 0)));
    let replies = shell.run("EXEC");
    assert!(replies.starts_with("*3 +OK -ERR ") && replies.ends_with(" :1"), "{replies}");
    assert_eq!((counted(&shell, "set"), counted(&shell, "incr")), ((1, 0, 0), (2, 1, 0)));
    assert_eq!((counted(&shell, "multi"), counted(&shell, "exec")), ((1, 0, 0), (1, 0, 0)));
    // One that is given up runs nothing.
    for command in ["MULTI", "SET a 1", "GET", "EXEC"] {
        shell.run(command);
    }
    assert_eq!((counted(&shell, "set"), counted(&shell, "get")), ((1, 0, 0), (0, 0, 1)));
    assert_eq!(counted(&shell, "exec"), (2, 1, 0));
    // And so does one that finds changed what it watches.
    let other = shell.client();
    shell.run("WATCH a");
    shell.run_as(other, "SET a 2");
    for command in ["MULTI", "SET a 3"] {
        shell.run(command);
    }
    assert_eq!(shell.run("EXEC"), "*-1");
    assert_eq!((counted(&shell, "set"), counted(&shell, "exec")), ((2, 0, 0), (3, 1, 0)));
    // One of them that shows what is counted knows of those before it, and is not shown itself.
    for command in ["MULTI", "INCR b", "INFO commandstats"] {
        shell.run(command);
    }
    let replies = shell.run("EXEC");
    assert!(replies.contains("cmdstat_incr:calls=3,"), "{replies}");
    assert!(!replies.contains("cmdstat_info:"), "{replies}");
    for command in ["MULTI", "INCR b", "CONFIG RESETSTAT", "DEL b", "EXEC"] {
        shell.run(command);
    }
    assert_eq!((counted(&shell, "incr"), counted(&shell, "del")), ((0, 0, 0), (1, 0, 0)));
}

#[test]
fn what_a_script_calls_counts_once_wherever_it_ends() {
    let mut shell = Shell::new();
    let text = "redis.call('INCR',KEYS[1]) redis.pcall('HGET',KEYS[1],'f') \
                redis.pcall('EXEC') redis.pcall('GET') redis.pcall('NOSUCH') \
                return redis.call('INCR',KEYS[1])";
    assert_eq!(shell.run(&eval(text, "1 a")), ":2");
    assert_eq!((counted(&shell, "incr"), counted(&shell, "hget")), ((2, 0, 0), (1, 1, 0)));
    assert_eq!((counted(&shell, "exec"), counted(&shell, "get")), ((0, 0, 1), (0, 0, 1)));
    assert_eq!(counted(&shell, "eval"), (1, 0, 0));
    // One that takes too long here begins anew aside.
    let long = "redis.call('INCR',KEYS[1]) redis.pcall('GET') for i=1,1e7 do end \
                return redis.call('INCR',KEYS[1])";
    assert_eq!(shell.run(&eval(long, "1 a")), ":4");
    assert_eq!((counted(&shell, "incr"), counted(&shell, "get")), ((4, 0, 0), (0, 0, 2)));
    assert_eq!(counted(&shell, "eval"), (2, 0, 0));
    // It fails by what it calls.
    let failing = eval("return redis.call('HGET',KEYS[1],'f')", "1 a");
    assert!(shell.run(&failing).starts_with("-WRONGTYPE "));
    assert_eq!((counted(&shell, "eval"), counted(&shell, "hget")), ((3, 1, 0), (2, 2, 0)));
    assert!(shell.run("EVALSHA none 0").starts_with("-NOSCRIPT "));
    assert_eq!(counted(&shell, "evalsha"), (1, 1, 0));
}

#[test]
fn scripts_that_exec_runs_and_what_these_call_count_too() {
    let mut shell = Shell::new();
    let count = eval("return redis.call('INCR',KEYS[1])", "1 a");
    for command in ["MULTI", "SET a 1", count.as_str(), "INCR a", count.as_str()] {
        shell.run(command);
    }
    assert_eq!(shell.run("EXEC"), "*4 +OK :2 :3 :4");
    assert_eq!((counted(&shell, "set"), counted(&shell, "incr")), ((1, 0, 0), (3, 0, 0)));
    assert_eq!((counted(&shell, "eval"), counted(&shell, "exec")), ((2, 0, 0), (1, 0, 0)));
}

/// Each of these writes the whole value anew: a few bytes of a client would become gigabytes here
/// before the end refuses them.
#[test]
fn exec_runs_none_behind_the_one_that_makes_its_batch_too_large() {
    let mut shell = Shell::new();
    shell.run("SETRANGE k 3999 x");
    shell.store().set_batch_bytes_max(10_000);
    shell.run("MULTI");
    for _ in 0..20 {
        shell.run("APPEND k x");
    }
    shell.run("CLIENT SETNAME late");
    let reply = shell.run("EXEC");
    assert!(reply.starts_with("-ERR storage: "), "{reply}");
    assert_eq!(counted(&shell, "append"), (3, 0, 0));
    assert_eq!(shell.run("STRLEN k"), ":4000");
    assert_eq!(shell.run("CLIENT GETNAME"), "$-1");
    // What fits is written, and the next transaction begins anew.
    for command in ["MULTI", "APPEND k x", "APPEND k x"] {
        shell.run(command);
    }
    assert_eq!(shell.run("EXEC"), "*2 :4001 :4002");
}

#[test]
fn each_slow_one_is_in_the_slowlog_by_itself_and_exec_is_not() {
    let mut shell = Shell::with(|values| {
        values.long_read_steps = 50;
        values.slowlog_log_slower_than = 0;
    });
    for command in ["MULTI", "SET a 1", "INCR a", "EXEC"] {
        shell.run(command);
    }
    assert_eq!(slow(&shell), ["MULTI", "SET", "INCR"]);
    // Tried on its worker, and run aside.
    shell.node.slowlog.clear();
    let text = "redis.call('INCR',KEYS[1]) for i=1,1e7 do end return redis.call('GET',KEYS[1])";
    assert_eq!(shell.run(&eval(text, "1 a")), "$1 3");
    assert_eq!(slow(&shell), ["INCR", "GET", "EVAL"]);
    // A read that is put aside is there once it was read.
    let members: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    shell.run(&format!("SADD s {}", members.join(" ")));
    shell.node.slowlog.clear();
    for command in ["MULTI", "SMEMBERS s"] {
        shell.run(command);
    }
    assert!(shell.run("EXEC").starts_with("*1 *400 "));
    assert_eq!(slow(&shell), ["MULTI", "SMEMBERS"]);
    assert_eq!(counted(&shell, "smembers"), (1, 0, 0));
}

/// As in Redis.
#[test]
fn what_is_in_a_container_counts_by_itself() {
    let mut shell = Shell::new();
    for command in [
        "CLIENT ID",
        "CLIENT GETNAME",
        "CLIENT GETNAME",
        "CLIENT SETNAME a\nb",
        "CLIENT NOSUCH",
        "MULTI",
        "CONFIG GET port",
        "EXEC",
    ] {
        shell.run(command);
    }
    for (name, counts) in [
        ("client|id", (1, 0, 0)),
        ("client|getname", (2, 0, 0)),
        ("client|setname", (1, 1, 0)),
        ("client", (0, 0, 1)),
        ("config|get", (1, 0, 0)),
        ("config", (0, 0, 0)),
    ] {
        assert_eq!(counted(&shell, name), counts, "{name}");
    }
    let info = shell.run("INFO commandstats");
    assert!(info.contains(" cmdstat_client|getname:calls=2,"), "{info}");
    let one = shell.run("LATENCY HISTOGRAM client|id client|nosuch");
    assert!(one.starts_with("*2 $9 client|id *4 $5 calls :1 $14 histogram_usec *2 "), "{one}");
    let all = shell.run("LATENCY HISTOGRAM CLIENT");
    assert!(all.starts_with("*6 $"), "{all}");
    for name in ["client|id", "client|getname", "client|setname"] {
        assert!(all.contains(&format!(" {name} *4 $5 calls :")), "{all}");
    }
}

/// Codes of errors and how often each was answered.
fn errors(shell: &Shell) -> Vec<(String, u64)> {
    shell.node.stats.errors.counts()
}

#[track_caller]
fn check_errors(shell: &Shell, expected: &[(&str, u64)]) {
    let found = errors(shell);
    let found: Vec<(&str, u64)> = found.iter().map(|(code, count)| (&**code, *count)).collect();
    assert_eq!(found, expected);
}

#[test]
fn errors_are_counted_by_their_codes_where_they_are_answered() {
    let mut shell = Shell::new();
    assert_eq!(shell.run("SET s x"), "+OK");
    check_errors(&shell, &[]);
    for command in ["LPUSH s a", "NOSUCH", "GET", "INCR s", "EVALSHA none 0"] {
        assert!(shell.run(command).starts_with('-'), "{command}");
    }
    check_errors(&shell, &[("ERR", 3), ("NOSCRIPT", 1), ("WRONGTYPE", 1)]);
    // What EXEC runs counts, and what it discards, but no value that begins as an error does.
    for command in ["MULTI", "LPUSH s a", "SET m -ERR", "GET m"] {
        shell.run(command);
    }
    assert!(shell.run("EXEC").contains("$4 -ERR"));
    check_errors(&shell, &[("ERR", 3), ("NOSCRIPT", 1), ("WRONGTYPE", 2)]);
    for command in ["MULTI", "GET"] {
        shell.run(command);
    }
    assert!(shell.run("EXEC").starts_with("-EXECABORT "));
    let all = [("ERR", 4), ("EXECABORT", 1), ("NOSCRIPT", 1), ("WRONGTYPE", 2)];
    check_errors(&shell, &all);
    let info = shell.run("INFO");
    for line in ["# Errorstats", "errorstat_ERR:count=4", "errorstat_EXECABORT:count=1"] {
        assert!(info.contains(line), "{info}");
    }
    assert!(shell.run("INFO stats").contains("total_error_replies:8"));
    assert_eq!(shell.run("CONFIG RESETSTAT"), "+OK");
    check_errors(&shell, &[]);
    assert!(shell.run("INFO stats").contains("total_error_replies:0"));
}

/// Once AUTH has made its connection somebody else's.
#[test]
fn what_exec_refuses_of_its_queue_counts() {
    let mut shell = Shell::new();
    assert_eq!(shell.run("ACL SETUSER u on >pass ~a +get +exec"), "+OK");
    for command in ["MULTI", "AUTH u pass", "GET a", "GET b", "SET a 1"] {
        shell.run(command);
    }
    let told = shell.run("EXEC");
    assert!(told.starts_with("*4 +OK $-1 -NOPERM "), "{told}");
    check_errors(&shell, &[("NOPERM", 2)]);
    assert_eq!((counted(&shell, "get"), counted(&shell, "set")), ((1, 0, 0), (0, 0, 0)));
}

#[test]
fn an_error_that_a_script_hands_on_counts_once() {
    let mut shell = Shell::new();
    assert_eq!(shell.run("SET s x"), "+OK");
    let calls = eval("return redis.call('LPUSH',KEYS[1],'a')", "1 s");
    assert!(shell.run(&calls).starts_with("-WRONGTYPE "));
    check_errors(&shell, &[("WRONGTYPE", 1)]);
    // Also where the script makes nothing of it.
    let caught = "redis.pcall('LPUSH',KEYS[1],'a') redis.pcall('NOSUCH') return 1";
    assert_eq!(shell.run(&eval(caught, "1 s")), ":1");
    check_errors(&shell, &[("ERR", 1), ("WRONGTYPE", 2)]);
    let mine = "return redis.error_reply('MINE\\32of\\32the\\32script')";
    let own = format!("redis.pcall('LPUSH',KEYS[1],'a') {mine}");
    assert!(shell.run(&eval(&own, "1 s")).starts_with("-MINE of "));
    check_errors(&shell, &[("ERR", 1), ("MINE", 1), ("WRONGTYPE", 3)]);
    // Inside EXEC, and aside, where it begins anew.
    shell.run("MULTI");
    shell.run(&calls);
    shell.run(&eval(mine, "0"));
    assert!(shell.run("EXEC").starts_with("*2 -WRONGTYPE "));
    check_errors(&shell, &[("ERR", 1), ("MINE", 2), ("WRONGTYPE", 4)]);
    let long = "for i=1,1e7 do end return redis.call('LPUSH',KEYS[1],'a')";
    assert!(shell.run(&eval(long, "1 s")).starts_with("-WRONGTYPE "));
    check_errors(&shell, &[("ERR", 1), ("MINE", 2), ("WRONGTYPE", 5)]);
}

#[test]
fn errors_that_come_later_count_when_they_come() {
    let mut shell = Shell::new();
    let waits = shell.client();
    let waiting = shell.wait_as(waits, "BLPOP l 0");
    let id = shell.clients[waits].client.id;
    assert_eq!(shell.run(&format!("CLIENT UNBLOCK {id} ERROR")), ":1");
    drop(waiting);
    check_errors(&shell, &[("UNBLOCKED", 1)]);
}
