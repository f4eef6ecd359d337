//! Reads that wait for entries of streams: what wakes them, and what they are answered.

use super::Shell;
use super::waiting::told;

fn got(key: &str, id: &str) -> Option<String> {
    Some(format!("*1 *2 ${} {key} *1 *2 ${} {id} *2 $1 f $1 v", key.len(), id.len()))
}

#[test]
fn one_entry_serves_all_readers() {
    let mut shell = Shell::new();
    shell.run("XADD s 1-0 f v");
    let clients = [shell.client(), shell.client(), shell.client(), shell.client()];
    let mut first = shell.wait_as(clients[0], "XREAD BLOCK 0 STREAMS s $");
    let mut second = shell.wait_as(clients[1], "XREAD COUNT 1 BLOCK 0 STREAMS other s $ 1-0");
    let mut third = shell.wait_as(clients[2], "XREAD BLOCK 0 STREAMS new $");
    let mut fourth = shell.wait_as(clients[3], "XREAD BLOCK 0 STREAMS s 5");
    shell.run("XADD s 2-0 f v");
    assert_eq!((told(&mut first), told(&mut second)), (got("s", "2-0"), got("s", "2-0")));
    assert_eq!((told(&mut third), told(&mut fourth)), (None, None));
    assert_eq!(shell.run("XADD new 0-1 f v"), "$3 0-1");
    assert_eq!(told(&mut third), got("new", "0-1"));
    // What is said of a stream as a whole is no entry, and another type is not awaited.
    for command in ["XSETID s 4-0", "XDEL s 1-0", "DEL s", "SET s x", "DEL s", "XADD s 5-0 f v"] {
        shell.run(command);
    }
    assert_eq!(told(&mut fourth), None);
    shell.run("XADD s 5-1 f v");
    assert_eq!(told(&mut fourth), got("s", "5-1"));
}

#[test]
fn what_is_there_is_read_at_once_and_a_transaction_wakes_at_its_end() {
    let mut shell = Shell::new();
    let client = shell.client();
    shell.run("XADD s 1-0 f v");
    assert_eq!(Some(shell.run("XREAD BLOCK 0 STREAMS none s 0 0")), got("s", "1-0"));
    assert_eq!(shell.run("XREAD STREAMS s $"), "*-1");
    let mut waiting = shell.wait_as(client, "XREAD BLOCK 0 STREAMS s $");
    for command in ["MULTI", "XADD s 2-0 f v", "XDEL s 2-0", "XADD s 3-0 f v"] {
        shell.run(command);
    }
    assert_eq!(told(&mut waiting), None);
    shell.run("EXEC");
    assert_eq!(told(&mut waiting), got("s", "3-0"));
    let mut waiting = shell.wait_as(client, "XREAD BLOCK 0 STREAMS d 0");
    shell.run("RENAME s d");
    let both = "*1 *2 $1 d *2 *2 $3 1-0 *2 $1 f $1 v *2 $3 3-0 *2 $1 f $1 v";
    assert_eq!(told(&mut waiting).as_deref(), Some(both));
}

#[test]
fn a_read_that_begins_anew_still_waits_for_what_it_waited_for() {
    let mut shell = Shell::new();
    let client = shell.client();
    shell.run("XADD s 7-0 f v");
    let dollar = shell.wait_as(client, "XREAD BLOCK 0 STREAMS s none $ $");
    let again = |waiting: &crate::waiters::Waiting| {
        let (words, is_other) = waiting.again();
        is_other.then(|| String::from_utf8(words.join(&b' ')).unwrap())
    };
    assert_eq!(again(&dollar).unwrap(), "XREAD BLOCK 0 STREAMS s none 7-0 0-0");
    drop(dollar);
    let mut seven = shell.wait_as(client, "XREAD BLOCK 0 STREAMS s 7-0");
    assert_eq!(again(&seven).unwrap(), "XREAD BLOCK 0 STREAMS s 7-0");
    shell.run("XADD s 8-0 f v");
    assert_eq!(told(&mut seven), got("s", "8-0"));
}

/// The writer of an entry would copy it for the reader so often, under the locks of its keys.
#[test]
fn one_that_names_a_stream_again_and_again_begins_anew_and_is_a_long_read() {
    let mut shell = Shell::with(|values| values.long_read_steps = 100);
    let client = shell.client();
    let read = format!("XREAD BLOCK 0 STREAMS{}{}", " s".repeat(60), " $".repeat(60));
    let mut waiting = shell.wait_as(client, &read);
    assert_eq!(shell.run("XADD s 1-1 f v"), "$3 1-1");
    assert_eq!(told(&mut waiting).as_deref(), Some("again"));
    let again = String::from_utf8(waiting.again().0.join(&b' ')).unwrap();
    drop(waiting);
    let before = shell.node.long_reads.count();
    let each = " *2 $1 s *1 *2 $3 1-1 *2 $1 f $1 v".repeat(60);
    assert_eq!(shell.run_as(client, &again), format!("*60{each}"));
    assert_eq!(shell.node.long_reads.count(), before + 1);
}

#[test]
fn each_entry_goes_to_one_consumer_of_a_group() {
    let mut shell = Shell::new();
    shell.follow();
    let (one, other, third) = (shell.client(), shell.client(), shell.client());
    shell.run("XGROUP CREATE s g $ MKSTREAM");
    shell.run("XGROUP CREATE s h $");
    let mut first = shell.wait_as(one, "XREADGROUP GROUP g a BLOCK 0 STREAMS s >");
    let mut second = shell.wait_as(other, "XREADGROUP GROUP g b BLOCK 0 STREAMS s >");
    let mut elsewhere = shell.wait_as(third, "XREADGROUP GROUP h a BLOCK 0 NOACK STREAMS s >");
    // As in Redis 7.2, one that waits is a consumer already.
    let consumers = shell.run("XINFO CONSUMERS s g");
    assert!(consumers.starts_with("*2 *8 $4 name $1 a $7 pending :0 "), "{consumers}");
    shell.run("XADD s 1-0 f v");
    assert_eq!((told(&mut first), told(&mut elsewhere)), (got("s", "1-0"), got("s", "1-0")));
    assert_eq!(told(&mut second), None);
    for command in ["XACK s g 1-0", "XGROUP SETID s h 0", "XGROUP CREATECONSUMER s g d"] {
        shell.run(command);
    }
    assert_eq!(told(&mut second), None);
    shell.run("XADD s 2-0 f v");
    assert_eq!(told(&mut second), got("s", "2-0"));
    assert_eq!(shell.run("XPENDING s g"), "*4 :1 $3 2-0 $3 2-0 *1 *2 $1 b $1 1");
    assert!(shell.run("XPENDING s h").starts_with("*4 :0 "));
    shell.assert_replica_is_equal();
}

/// With the answers of Redis 7.2.
#[test]
fn the_end_of_a_group_ends_its_waits() {
    let gone = "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option";
    let no_stream = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    for (commands, error) in [
        (&["XGROUP DESTROY s g"][..], gone),
        (&["DEL s"], gone),
        (&["RENAME s d"], gone),
        (&["SET s x"], no_stream),
        (&["PEXPIRE s -1"], gone),
        (&["FLUSHALL"], gone),
        (&["FLUSHDB"], gone),
        (&["MULTI", "DEL s", "XADD s 1-0 f v", "EXEC"], gone),
        (&["RENAME other s"], gone),
    ] {
        let mut shell = Shell::new();
        let (one, other) = (shell.client(), shell.client());
        shell.run("XADD other 1-0 f v");
        shell.run("XGROUP CREATE s g $ MKSTREAM");
        let mut waiting = shell.wait_as(one, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        let mut reader = shell.wait_as(other, "XREAD BLOCK 0 STREAMS s 8");
        for command in commands {
            shell.run(command);
        }
        assert_eq!(told(&mut waiting).as_deref(), Some(error), "{commands:?}");
        assert_eq!(told(&mut reader), None, "{commands:?}");
    }
}

/// A replica applies batches without locks; those who read there wait as well.
#[test]
fn readers_wait_on_a_replica() {
    let mut shell = Shell::new();
    let mut master = Shell::new();
    let client = shell.client();
    master.run("XADD s 1-0 f v");
    let before = master.sequence();
    for batch in master.batches_since(0) {
        shell.apply(&batch);
    }
    let mut waiting = shell.wait_as(client, "XREAD BLOCK 0 STREAMS s $");
    master.run("XGROUP CREATE s g 0");
    master.run("XADD s 2-0 f v");
    for batch in master.batches_since(before) {
        assert_eq!(told(&mut waiting), None);
        shell.apply_as_replica(&batch);
    }
    assert_eq!(told(&mut waiting), got("s", "2-0"));
}
