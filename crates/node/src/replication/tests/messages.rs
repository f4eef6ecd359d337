//! Messages that come by the master's log.

use super::*;

fn say(client: &mut TcpStream, words: &[&str]) {
    client.write_all(&::replication::wire::request(&bytes(words))).unwrap();
}

#[test]
fn a_message_reaches_subscribers_of_a_replica_too() {
    let (master, replica) = (Running::start(), Running::start());
    replica.follow(master.port);
    replica.await_up_with(&master);
    let mut client = replica.connect();
    say(&mut client, &["SUBSCRIBE", "news"]);
    assert_eq!(answer(&mut client), "subscribe news :1");
    say(&mut client, &["SSUBSCRIBE", "shard"]);
    assert_eq!(answer(&mut client), "ssubscribe shard :1");
    // The master's own subscribers are none.
    assert_eq!(master.ask(&["PUBLISH", "news", "a"]), ":0");
    assert_eq!(master.ask(&["SPUBLISH", "shard", "b"]), ":0");
    assert_eq!(answer(&mut client), "message news a");
    assert_eq!(answer(&mut client), "smessage shard b");
    // A replica's message is its own.
    assert_eq!(replica.ask(&["PUBLISH", "news", "c"]), ":1");
    assert_eq!(answer(&mut client), "message news c");
    let mut other = master.connect();
    let discarded = [&["MULTI"][..], &["PUBLISH", "news", "d"], &["DISCARD"], &["PING"]];
    assert_eq!(talk(&mut other, &discarded).last().map(String::as_str), Some("+PONG"));
    let run = [&["MULTI"][..], &["PUBLISH", "news", "e"], &["PUBLISH", "news", "f"], &["EXEC"]];
    talk(&mut other, &run);
    assert_eq!(answer(&mut client), "message news e");
    assert_eq!(answer(&mut client), "message news f");
}

#[test]
fn messages_of_before_a_new_node_followed_are_history() {
    let (master, replica) = (Running::start(), Running::start());
    let mut client = replica.connect();
    say(&mut client, &["SUBSCRIBE", "news"]);
    assert_eq!(answer(&mut client), "subscribe news :1");
    assert_eq!(master.ask(&["PUBLISH", "news", "old"]), ":0");
    replica.follow(master.port);
    replica.await_up_with(&master);
    assert_eq!(master.ask(&["PUBLISH", "news", "new"]), ":0");
    assert_eq!(answer(&mut client), "message news new");
    // A link that ends is no new beginning.
    replica.ask(&["SLAVEOF", "127.0.0.1", "1"]);
    assert_eq!(master.ask(&["PUBLISH", "news", "meanwhile"]), ":0");
    replica.follow(master.port);
    assert_eq!(answer(&mut client), "message news meanwhile");
}
