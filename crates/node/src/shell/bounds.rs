//! What a client makes the node hold, or do, by few or short words.

use super::Shell;
use crate::memory::held::NAMES_BYTES_MAX;

/// A name that, with what stands beside it, would take more than all names of a connection may.
fn long() -> String {
    "x".repeat(NAMES_BYTES_MAX / 2)
}

#[test]
fn the_names_of_what_is_watched_are_bounded_and_counted() {
    let (mut shell, long) = (Shell::new(), long());
    assert_eq!(shell.run("WATCH a b a"), "+OK");
    let bytes = shell.clients[0].transaction.watched_bytes();
    assert!((200..1_000).contains(&bytes), "{bytes}");
    let refusal = "-ERR the names of the keys that are watched are too long";
    assert_eq!(shell.run(&format!("WATCH {long}")), refusal);
    // What was watched before is watched on.
    let other = shell.client();
    shell.run_as(other, "SET a 1");
    shell.run("MULTI");
    assert_eq!(shell.run("EXEC"), "*-1");
    assert_eq!(shell.clients[0].transaction.watched_bytes(), 0);
    assert_eq!(shell.run("WATCH c"), "+OK");
}

#[test]
fn the_names_of_what_is_subscribed_to_are_bounded_and_counted() {
    let (mut shell, long) = (Shell::new(), long());
    let listener = shell.client();
    let client = std::sync::Arc::clone(&shell.clients[listener].client);
    let told = shell.run_as(listener, &format!("SUBSCRIBE a {long} b"));
    let refusal = "-ERR the names of this client's subscriptions are too long";
    let told_of = |name: &str, count: u32| format!("*3 $9 subscribe $1 {name} :{count}");
    assert_eq!(told, format!("{} {refusal} {}", told_of("a", 1), told_of("b", 2)));
    assert!(shell.run("PUBSUB CHANNELS").starts_with("*2 "));
    assert!((200..1_000).contains(&client.names_bytes()), "{}", client.names_bytes());
    shell.run_as(listener, "UNSUBSCRIBE");
    assert_eq!(client.names_bytes(), 0);
}

#[test]
fn prefixes_that_a_client_tracks_are_bounded_and_counted() {
    let (mut shell, long) = (Shell::new(), long());
    let client = std::sync::Arc::clone(&shell.clients[0].client);
    assert!(shell.run("HELLO 3").starts_with('%'));
    assert_eq!(shell.run("CLIENT TRACKING ON BCAST PREFIX a"), "+OK");
    let bytes = client.names_bytes();
    assert!((1..1_000).contains(&bytes), "{bytes}");
    let refused = shell.run(&format!("CLIENT TRACKING ON BCAST PREFIX {long}"));
    assert_eq!(refused, "-ERR the prefixes of this client are too many");
    assert_eq!(client.names_bytes(), bytes);
    assert!(shell.run("CLIENT TRACKINGINFO").ends_with("$8 prefixes *1 $1 a"));
    assert_eq!(shell.run("CLIENT TRACKING OFF"), "+OK");
    assert_eq!(client.names_bytes(), 0);
}

#[test]
fn names_of_clients_and_lists_of_commands_are_bounded() {
    let mut shell = Shell::new();
    let (most, more) = ("n".repeat(4096), "n".repeat(4097));
    for set in ["CLIENT SETNAME", "CLIENT SETINFO LIB-NAME", "CLIENT SETINFO LIB-VER"] {
        assert_eq!(shell.run(&format!("{set} {most}")), "+OK");
        let refused = shell.run(&format!("{set} {more}"));
        assert!(refused.ends_with(" cannot be longer than 4096 bytes."), "{refused}");
    }
    assert!(shell.run(&format!("HELLO 2 SETNAME {more}")).starts_with("-ERR Client names "));
    assert_eq!(shell.run("CLIENT GETNAME"), format!("$4096 {most}"));
    for ask in ["COMMAND INFO", "COMMAND DOCS"] {
        let reply = shell.run(&format!("{ask}{}", " get".repeat(10_000)));
        assert!(reply.starts_with("*10000 ") || reply.starts_with("*20000 "), "{ask}");
        let refused = shell.run(&format!("{ask}{}", " get".repeat(10_001)));
        assert_eq!(refused, "-ERR too many names of commands at once");
    }
}

#[test]
fn clients_are_listed_by_any_number_of_ids() {
    let mut shell = Shell::new();
    for _ in 0..10 {
        shell.client();
    }
    let id = shell.clients[7].client.id;
    let others: String = (0..100_000).map(|more| format!(" {}", 1_000_000 + more)).collect();
    let told = shell.run(&format!("CLIENT LIST ID{others} {id} {id}"));
    assert_eq!((told.matches("id=").count(), told.contains(&format!("id={id} "))), (1, true));
}

/// What is read of a hash to be changed or returned is held, and a field may be named any number of
/// times.
#[test]
fn fields_named_again_and_again_are_held_no_more_than_a_batch_may_be() {
    let mut shell = Shell::with(|values| values.rocksdb_write_batch_max_bytes = 20_000);
    shell.run(&format!("HSET h f {}", "x".repeat(1_000)));
    let fields = |count: usize| format!("FIELDS {count}{}", " f".repeat(count));
    for command in [
        "HGETEX h",
        "HGETEX h PX 100000",
        "HGETEX h PERSIST",
        "HEXPIRE h 100",
        "HPERSIST h",
        "HGETDEL h",
    ] {
        let refused = shell.run(&format!("{command} {}", fields(1_000)));
        assert!(refused.starts_with("-ERR storage: too much at once: 2"), "{command}: {refused}");
        let few = shell.run(&format!("{command} {}", fields(5)));
        assert!(few.starts_with("*5 "), "{command}: {few}");
    }
    assert_eq!(shell.run("HEXISTS h f"), ":0");
}

#[test]
fn documents_that_are_set_together_are_no_larger_than_a_batch_may_be() {
    let mut shell = Shell::with(|values| values.rocksdb_write_batch_max_bytes = 20_000);
    for key in ["a", "b", "c"] {
        shell.run(&format!("JSON.SET {key} $ [\"{}\",1]", "x".repeat(9_000)));
    }
    let refused = shell.run("JSON.MSET a $[0] 2 b $[0] 2 c $[0] 2");
    assert!(refused.starts_with("-ERR storage: too much at once: 27"), "{refused}");
    assert_eq!(shell.run("JSON.MSET a $[0] 2 b $[0] 2"), "+OK");
    assert_eq!(shell.run("JSON.GET a"), "$5 [2,1]");
}

#[test]
fn messages_of_one_command_reach_all_in_order() {
    let mut shell = Shell::new();
    let listener = shell.client();
    shell.run_as(listener, "SUBSCRIBE p1");
    shell.run_as(listener, "PSUBSCRIBE p* *2");
    assert_eq!(shell.run("MPUBLISH p1 a b"), ":4");
    for command in ["MULTI", "PUBLISH p2 c", "SPUBLISH p1 d", "PUBLISH p2 e"] {
        shell.run(command);
    }
    assert_eq!(shell.run("EXEC"), "*3 :2 :0 :2");
    let mut pushes = Vec::new();
    shell.clients[listener].client.inbox.take(&mut pushes);
    let by = |pattern: &str, channel: &str, text: &str| {
        format!("*4 $8 pmessage $2 {pattern} $2 {channel} $1 {text} ")
    };
    let mut expected = String::new();
    for text in ["a", "b"] {
        expected += &format!("*3 $7 message $2 p1 $1 {text} ");
        expected += &by("p*", "p1", text);
    }
    for text in ["c", "e"] {
        expected += &by("*2", "p2", text);
        expected += &by("p*", "p2", text);
    }
    assert_eq!(String::from_utf8(pushes).unwrap().replace("\r\n", " "), expected);
}
