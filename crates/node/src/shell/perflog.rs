//! PERFLOG: which commands leave samples, wherever they run, and how these are shown.

use super::Shell;
use crate::config::Values;
use crate::config::sampled::Sampled;
use crate::config::value::Value as _;

/// All of these commands are sampled, all samples kept, and no value is kept before RocksDB.
fn sampling_with(commands: &str, change: impl FnOnce(&mut Values)) -> Shell {
    super::table();
    let commands = Sampled::parse(commands).unwrap();
    Shell::with(|values| {
        values.value_cache_size = 0;
        values.profiling_sample_ratio = 100;
        values.profiling_sample_commands = commands;
        values.profiling_sample_record_threshold_ms = 0;
        change(values);
    })
}

fn sampling(commands: &str) -> Shell {
    sampling_with(commands, |_| {})
}

/// The commands of the samples, the first one first.
fn sampled(shell: &Shell) -> Vec<&'static str> {
    shell.node.perflog.newest(100).iter().rev().map(|entry| entry.command).collect()
}

#[test]
fn samples_tell_what_rocksdb_did_in_the_form_of_kvrocks() {
    let mut shell = sampling("*");
    for command in ["SET k v", "PING", "GET k"] {
        shell.run(command);
    }
    assert_eq!(shell.run("PERFLOG LEN"), ":2");
    let entries = shell.node.perflog.newest(10);
    let [get, set] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((get.command, set.command), ("get", "set"));
    for name in ["write_wal_time = ", "write_memtable_time = "] {
        assert!(set.work.contains(name) && !get.work.contains(name), "{entries:?}");
    }
    assert!(get.work.contains("get_from_memtable_count = "), "{get:?}");
    assert!(get.files.contains("thread_pool_id = "), "{get:?}");
    let newest = shell.run("PERFLOG GET 1");
    assert!(newest.starts_with(&format!("*1 *6 :2 :{} $3 get :", get.at)), "{newest}");
    let texts = [&get.work, &get.files].map(|text| format!(" ${} {text}", text.len()));
    assert!(newest.ends_with(&texts.concat()), "{newest}");
    for all in ["", " *", " 0", " -1", " 10", " 9223372036854775807"] {
        let shown = shell.run(&format!("perflog get{all}"));
        assert!(shown.starts_with("*2 *6 :2 :") && shown.contains(" *6 :1 :"), "{shown}");
    }
    assert_eq!(shell.run("PERFLOG GET x"), "-ERR value is not an integer or out of range");
    assert_eq!(shell.run("PERFLOG RESET"), "+OK");
    assert_eq!((shell.run("PERFLOG LEN"), shell.run("PERFLOG GET")), (":0".into(), "*0".into()));
    shell.run("SET k w");
    assert!(shell.run("PERFLOG GET *").starts_with("*1 *6 :3 :"));
}

#[test]
fn options_count_at_once_and_what_they_cannot_be_is_said() {
    let mut shell = sampling("set");
    for value in 0..3 {
        shell.run(&format!("SET k {value}"));
    }
    assert_eq!(shell.run("CONFIG SET profiling-sample-record-max-len 2"), "+OK");
    assert_eq!(shell.run("PERFLOG LEN"), ":2");
    assert!(shell.run("PERFLOG GET").starts_with("*2 *6 :3 :"));
    assert_eq!(shell.run("CONFIG SET profiling-sample-commands Get,sEt"), "+OK");
    let shown = "*2 $25 profiling-sample-commands $7 get,set";
    assert_eq!(shell.run("CONFIG GET profiling-sample-commands"), shown);
    for (name, value, why) in [
        ("ratio", "101", "argument must be between 0 and 100"),
        ("commands", "get,nosuch", "there is no command `nosuch`"),
        ("record-threshold-ms", "-1", "argument must be an integer between 0 and"),
        ("record-max-len", "2147483648", "argument must be between 0 and 2147483647"),
    ] {
        let name = format!("profiling-sample-{name}");
        let said = shell.run(&format!("CONFIG SET {name} {value}"));
        let wanted =
            format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
        assert!(said.starts_with(&wanted), "{said}");
    }
}

#[test]
fn a_transaction_is_one_sample_or_its_commands_are_samples() {
    for (commands, found) in [("get,exec", &["exec"][..]), ("get", &["get", "get"]), ("del", &[])] {
        let mut shell = sampling(commands);
        for command in ["MSET a 1 b 2", "MULTI", "GET a", "SET c 3", "GET b", "EXEC"] {
            shell.run(command);
        }
        assert_eq!(sampled(&shell), found, "{commands}");
        let reads = shell.node.perflog.newest(10);
        for entry in reads {
            assert!(entry.work.contains("get_from_memtable_count = "), "{entry:?}");
            assert_eq!(entry.work.contains("write_wal_time = "), entry.command == "exec");
        }
    }
}

#[test]
fn scripts_are_sampled_on_their_threads() {
    for (commands, found) in [("get,eval", "eval"), ("get", "get")] {
        let mut shell = sampling(commands);
        shell.run("SET k v");
        assert_eq!(shell.run("EVAL return(redis.call('GET',KEYS[1])) 1 k"), "$1 v");
        assert_eq!(sampled(&shell), [found]);
    }
}

/// A script is one of the commands that run inside of it, which have dice of their own.
#[test]
fn the_dice_are_thrown_once_for_a_script() {
    let mut shell = sampling_with("eval", |values| {
        values.profiling_sample_ratio = 50;
        values.profiling_sample_record_max_len = 1_000;
    });
    shell.run("SET k v");
    for _ in 0..400 {
        assert_eq!(shell.run("EVAL return(redis.call('GET',KEYS[1])) 1 k"), "$1 v");
    }
    // Six times the standard deviation, which is 10. Thrown twice they would choose 300.
    let count = shell.node.perflog.len();
    assert!((140..=260).contains(&count), "{count} of 400");
}

#[test]
fn a_long_read_is_sampled_once_where_it_is_read() {
    let mut shell = sampling_with("smembers", |values| values.long_read_steps = 50);
    let members: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    shell.run(&format!("SADD s {}", members.join(" ")));
    assert!(shell.run("SMEMBERS s").starts_with("*400 "));
    assert_eq!(shell.node.long_reads.count(), 1);
    assert_eq!(sampled(&shell), ["smembers"]);
    for command in ["MULTI", "SMEMBERS s", "EXEC"] {
        shell.run(command);
    }
    assert_eq!(sampled(&shell), ["smembers", "smembers"]);
}

#[test]
fn a_command_is_sampled_by_its_own_name() {
    let mut shell = sampling_with("get", |values| values.renames.add("get", "fetch").unwrap());
    shell.run("SET k v");
    assert_eq!(shell.run("FETCH k"), "$1 v");
    assert_eq!(sampled(&shell), ["get"]);
}

#[test]
fn what_is_answered_from_memory_leaves_no_sample() {
    let mut shell = sampling_with("get", |values| values.value_cache_size = 8);
    shell.run("SET k v");
    shell.run("GET k");
    shell.run("PERFLOG RESET");
    assert_eq!(shell.run("GET k"), "$1 v");
    assert_eq!(shell.run("PERFLOG LEN"), ":0");
}
