//! What streams and their groups keep, where the model of `streams` does not look.

use std::time::Duration;

use storage::budget::{self, Budget};

use super::Shell;
use super::waiting::told;
use crate::command::{Args, Renames, Reply};
use crate::session::ReadCx;
use crate::session::table::{self, Handler};

#[test]
fn what_a_consumer_reads_again_is_not_taken_for_forgotten() {
    let mut shell = Shell::new();
    for command in [
        "XADD s 1-1 f v",
        "XADD s 2-1 f v",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g a STREAMS s >",
        "XDEL s 2-1",
    ] {
        shell.run(command);
    }
    shell.advance(60_000);
    let again = shell.run("XREADGROUP GROUP g a STREAMS s 0");
    assert_eq!(again, "*1 *2 $1 s *2 *2 $3 1-1 *2 $1 f $1 v *2 $3 2-1 *-1");
    // As in Redis: what is there is delivered once more, what was deleted is not.
    let pending = "*2 *4 $3 1-1 $1 a :0 :2 *4 $3 2-1 $1 a :60000 :1";
    assert_eq!(shell.run("XPENDING s g - + 10"), pending);
    let nothing = "*3 $3 0-0 *0 *1 $3 2-1";
    assert_eq!(shell.run("XAUTOCLAIM s g b 30000 0"), nothing, "its owner works on it");
}

#[test]
fn consumers_have_as_much_pending_as_is_listed_for_them() {
    let claims =
        ["XAUTOCLAIM s g c 0 0", "XCLAIM s g c 0 1-1 2-1 3-1", "XCLAIM s g d 0 3-1 2-1 1-1"];
    for claim in claims {
        let mut shell = Shell::new();
        for command in [
            "XADD s 1-1 f v",
            "XADD s 2-1 f v",
            "XADD s 3-1 f v",
            "XGROUP CREATE s g 0",
            "XREADGROUP GROUP g c COUNT 2 STREAMS s >",
            "XREADGROUP GROUP g d STREAMS s >",
            "XDEL s 2-1",
            claim,
        ] {
            shell.run(command);
        }
        for consumer in ["c", "d"] {
            let listed =
                shell.run(&format!("XPENDING s g - + 10 {consumer}")).matches("*4").count();
            let known = shell.run("XINFO CONSUMERS s g");
            let wanted = format!("$4 name $1 {consumer} $7 pending :{listed} ");
            assert!(known.contains(&wanted), "{claim}: {known}, and {listed} for {consumer}");
        }
        assert!(shell.run("XPENDING s g").starts_with("*4 :2 "), "{claim}");
    }
}

/// Kvrocks' XGROUP DESTROY removes entries and leaves the size as it was.
#[test]
fn a_size_that_is_too_large_costs_no_entry() {
    let mut shell = Shell::new();
    // Where nothing is to go, as of so few by `~`, nobody counts them.
    for (trim, ids, length) in
        [("MAXLEN 5", "3-1 4-1", 2), ("MAXLEN ~ 5", "3-1 4-1", 22), ("MAXLEN 1", "4-1", 1)]
    {
        shell.run("DEL s");
        for id in 1..=20 {
            shell.run(&format!("XADD s 1-{id} f v"));
        }
        // As it is left: entries that are gone, and are counted.
        let next = shell.sequence() + 1;
        let mut writer = storage::batch::Writer::new(Vec::new());
        for (family, key, _) in shell.pairs() {
            if family == storage::Family::Stream {
                writer.delete(family, &key);
            }
        }
        let batch = writer.finish();
        batch[..8].copy_from_slice(&next.to_le_bytes());
        shell.apply(batch);
        assert_eq!((shell.run("XLEN s"), shell.run("XRANGE s - +")), (":20".into(), "*0".into()));
        for id in ["3-1", "4-1"] {
            assert_eq!(shell.run(&format!("XADD s {trim} {id} f v")), format!("$3 {id}"));
        }
        let ids: Vec<String> =
            ids.split(' ').map(|id| format!("*2 $3 {id} *2 $1 f $1 v")).collect();
        let entries = format!("*{} {}", ids.len(), ids.join(" "));
        assert_eq!(shell.run("XRANGE s - +"), entries, "{trim}");
        assert_eq!(shell.run("XLEN s"), format!(":{length}"), "{trim}");
    }
}

#[test]
fn what_consumers_are_given_at_once_is_bounded() {
    let mut shell = Shell::new();
    let value = "x".repeat(20_000);
    for id in 1..=10 {
        shell.run(&format!("XADD s {id}-1 f {value}"));
    }
    shell.run("XGROUP CREATE s g 0");
    let limit = "rocksdb.write_options.write_batch_max_bytes";
    let read = "XREADGROUP GROUP g c STREAMS s >";
    shell.run(&format!("CONFIG SET {limit} 100000"));
    assert!(shell.run(read).starts_with("-ERR "));
    assert_eq!(shell.run("XPENDING s g"), "*4 :0 $-1 $-1 *-1", "nothing was delivered");
    let some = shell.run("XREADGROUP GROUP g c COUNT 4 STREAMS s >");
    assert_eq!(some.matches("*2 $1 f").count(), 4);
    shell.run(&format!("CONFIG SET {limit} 0"));
    assert_eq!(shell.run(read).matches("*2 $1 f").count(), 6);
    shell.run(&format!("CONFIG SET {limit} 100000"));
    for too_much in [
        "XREADGROUP GROUP g c STREAMS s 0",
        "XAUTOCLAIM s g d 0 0",
        "XCLAIM s g d 0 1-1 2-1 3-1 4-1 5-1",
    ] {
        assert!(shell.run(too_much).starts_with("-ERR "), "{too_much}");
    }
    assert!(shell.run("XPENDING s g").ends_with("*1 *2 $1 c $2 10"), "nothing changed hands");
    let all = shell.run("XAUTOCLAIM s g d 0 0 JUSTID");
    assert!(all.starts_with("*3 $3 0-0 *10 $3 1-1 "), "{all}");
}

/// As in Redis, where what fills a stream serves those who wait before anything else.
#[test]
fn who_has_waited_gets_a_thousand_entries_unless_it_asked_for_more() {
    let mut shell = Shell::new();
    let clients = [shell.client(), shell.client(), shell.client()];
    let fill = |shell: &mut Shell, key: &str| {
        for id in 1..=1200 {
            shell.run(&format!("XADD {key} {id}-1 f v"));
        }
    };
    shell.run("XGROUP CREATE s g 0 MKSTREAM");
    fill(&mut shell, "source");
    let mut waiting = [
        "XREAD BLOCK 0 STREAMS k 0",
        "XREAD COUNT 1100 BLOCK 0 STREAMS k 0",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
    ]
    .into_iter()
    .zip(clients)
    .map(|(command, client)| shell.wait_as(client, command))
    .collect::<Vec<_>>();
    shell.run("RENAME source k");
    shell.run("MULTI");
    fill(&mut shell, "s");
    shell.run("EXEC");
    for (waiting, count) in waiting.iter_mut().zip([1000, 1100, 1000]) {
        let told = told(waiting).expect("an answer");
        assert_eq!(told.matches("*2 $1 f").count(), count);
    }
    assert_eq!(shell.run("XREAD STREAMS k 0").matches("*2 $1 f").count(), 1200);
}

/// Steps of a walk, not time: idle consumers are many, and cost no walk of their own.
#[test]
fn all_of_a_group_is_shown_in_one_walk() {
    let mut shell = Shell::new();
    shell.run("XGROUP CREATE s g 0 MKSTREAM");
    for id in 1..=200 {
        shell.run(&format!("XADD s {id}-1 f v"));
    }
    shell.run("XREADGROUP GROUP g busy COUNT 190 STREAMS s >");
    shell.run("XREADGROUP GROUP g last STREAMS s >");
    for number in 0..50 {
        shell.run(&format!("XGROUP CREATECONSUMER s g idle{number}"));
    }
    let words = [&b"XINFO"[..], b"STREAM", b"s", b"FULL", b"COUNT", b"3"];
    let (_, command) = table::find(&Renames::default(), &words).unwrap();
    let Handler::Read(handler) = command.handler else { panic!("{command:?}") };
    let (node, store) = (shell.node(), shell.store());
    let (config, txn, mut out) = (node.config.now(), store.txn(), Vec::new());
    let cx = ReadCx {
        txn: &txn,
        serves: None,
        scope: node.scope(shell.now_ms()),
        node: &node,
        config: &config,
        worker: 0,
    };
    let reply = Reply::new(resp::Writer::new(&mut out, resp::Protocol::V2));
    let budget = Budget { steps: 2000, time: Duration::from_secs(3600) };
    let read = || handler(&cx, &mut Args::behind(command.names, &words), reply);
    assert!(budget::within(budget, read).expect("few steps").is_ok());
    let text = String::from_utf8(out).unwrap().replace("\r\n", " ");
    assert!(text.contains("$4 last $9 seen-time "), "{text}");
    for id in ["$3 1-1", "$3 3-1", "$5 191-1", "$5 193-1"] {
        assert!(text.contains(id), "{id}: {text}");
    }
    assert!(!text.contains("194-1"), "{text}");
}

#[test]
fn what_a_group_gets_is_no_change_of_its_stream() {
    let mut shell = Shell::new();
    let watcher = shell.client();
    for command in [
        "XADD s 1-1 f v",
        "XADD s 2-1 f v",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g a COUNT 1 STREAMS s >",
    ] {
        shell.run(command);
    }
    let after = |shell: &mut Shell, command: &str| {
        shell.run_as(watcher, "WATCH s");
        shell.run(command);
        for command in ["MULTI", "XLEN s"] {
            shell.run_as(watcher, command);
        }
        shell.run_as(watcher, "EXEC")
    };
    for command in [
        "XREADGROUP GROUP g a STREAMS s >",
        "XREADGROUP GROUP g a STREAMS s 0",
        "XCLAIM s g b 0 1-1",
        "XAUTOCLAIM s g c 0 0",
        "XACK s g 1-1",
        "XGROUP SETID s g 0",
        "XGROUP CREATECONSUMER s g d",
        "XGROUP DELCONSUMER s g c",
    ] {
        assert_eq!(after(&mut shell, command), "*1 :2", "{command}");
    }
    for command in ["XADD s 3-1 f v", "XDEL s 3-1", "XTRIM s MAXLEN 1"] {
        assert_eq!(after(&mut shell, command), "*-1", "{command}");
    }
}

/// As redis-server 7.0 and Kvrocks, for both commands.
#[test]
fn a_list_of_streams_without_as_many_identifiers_is_refused_by_one_text() {
    let mut shell = Shell::new();
    let text = "-ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be \
                specified.";
    for command in ["XREAD STREAMS a b c", "XREADGROUP GROUP g c STREAMS a b c"] {
        assert_eq!(shell.run(command), text, "{command}");
    }
}

/// As in Redis 7.2. What is seen of one that gets nothing is written once a second: it may ask
/// without end.
#[test]
fn who_asks_is_a_consumer_whether_or_not_it_gets_something() {
    let mut shell = Shell::new();
    shell.follow();
    let waits = shell.client();
    for (command, reply) in [
        ("XADD s 1-1 f v", "$3 1-1"),
        ("XGROUP CREATE s g $", "+OK"),
        ("XREADGROUP GROUP g read STREAMS s >", "*-1"),
        ("XCLAIM s g claimed 0 1-1", "*0"),
        ("XAUTOCLAIM s g auto 0 0", "*3 $3 0-0 *0 *0"),
    ] {
        assert_eq!(shell.run(command), reply, "{command}");
    }
    let waiting = shell.wait_as(waits, "XREADGROUP GROUP g waited BLOCK 0 STREAMS s >");
    let shown = |name: &str, idle: u64, inactive: u64| {
        let length = name.len();
        format!("*8 $4 name ${length} {name} $7 pending :0 $4 idle :{idle} $8 inactive :{inactive}")
    };
    let all = ["auto", "claimed", "read", "waited"].map(|name| shown(name, 0, 0)).join(" ");
    assert_eq!(shell.run("XINFO CONSUMERS s g"), format!("*4 {all}"));
    assert!(shell.run("XINFO GROUPS s").contains("$9 consumers :4 "));
    drop(waiting);
    let read = "XREADGROUP GROUP g read STREAMS s >";
    for (ms, is_written) in [(999, false), (1, true), (1, false)] {
        shell.advance(ms);
        let before = shell.sequence();
        for command in [read, "XCLAIM s g read 0 1-1", "XAUTOCLAIM s g read 0 0"] {
            shell.run(command);
        }
        assert_eq!(shell.sequence() > before, is_written, "{ms}");
    }
    let consumers = shell.run("XINFO CONSUMERS s g");
    for known in [shown("read", 1, 1001), shown("auto", 1001, 1001)] {
        assert!(consumers.contains(&known), "{consumers}");
    }
    // What it is given to keep is what makes it active.
    for (option, inactive) in [("NOACK ", 1001), ("", 0)] {
        shell.run("XADD s * f v");
        shell.run(&format!("XREADGROUP GROUP g read {option}STREAMS s >"));
        let pending = format!("pending :{}", usize::from(inactive == 0));
        let known = shown("read", 0, inactive).replace("pending :0", &pending);
        let consumers = shell.run("XINFO CONSUMERS s g");
        assert!(consumers.contains(&known), "{consumers}");
    }
    shell.assert_replica_is_equal();
}
