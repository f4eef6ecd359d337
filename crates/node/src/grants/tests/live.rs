//! Every option that CONFIG SET takes is looked up where it is used: changed on a node that runs,
//! each shows its effect.

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use super::*;
use crate::clock;
use crate::config::{Config, OPTIONS};
use crate::replication::tests::Running;

mod kept;
mod links;
mod migration;
mod tls;

#[test]
fn every_live_option_takes_effect_on_a_running_node() {
    for option in OPTIONS.iter().filter(|option| option.is_live) {
        let name = option.name;
        let is_known = of_connections(name)
            || of_memory(name)
            || of_secrets(name)
            || of_commands(name)
            || of_types(name)
            || of_masters(name)
            || of_replicas(name)
            || of_feeds(name)
            || of_access(name)
            || kept::of_kept(name)
            || links::of_links(name)
            || tls::of_tls(name)
            || migration::of_migration(name)
            || kept::is_told_to_be_ignored(name);
        assert!(is_known, "nothing shows that `{name}` takes effect while a node runs");
    }
}

fn plain() -> Running {
    Running::start_with(|_| {})
}

fn set(node: &Running, name: &str, value: &str) {
    assert_eq!(node.ask(&["CONFIG", "SET", name, value]), "+OK", "{name}");
}

/// What a new connection is told.
fn told(node: &Running, requests: &[&[&str]]) -> Vec<String> {
    let mut stream = node.connect();
    let ask = |words: &&[&str]| {
        send(&mut stream, words);
        answer(&mut stream)
    };
    requests.iter().map(ask).collect()
}

#[track_caller]
fn begins(said: &str, with: &str) {
    assert!(said.starts_with(with), "{said}");
}

fn of_access(name: &str) -> bool {
    let node = plain();
    match name {
        "resp3-enabled" => {
            set(&node, name, "no");
            begins(&node.ask(&["HELLO", "3"]), "-NOPROTO");
        }
        "acllog-max-len" => {
            set(&node, name, "0");
            begins(&node.ask(&["AUTH", "nobody", "x"]), "-WRONGPASS");
            assert_eq!(node.node.acl.log.newest(9), []);
        }
        "latency-monitor-threshold" => {
            set(&node, name, "1");
            assert_eq!(node.ask(&["DEBUG", "SLEEP", "0.01"]), "+OK");
            assert_eq!(node.ask(&["LATENCY", "RESET"]), ":1");
        }
        "repl-namespace-enabled" => {
            let add = ["NAMESPACE", "ADD", "a", "t"];
            begins(&node.ask(&add), "-ERR namespaces can be changed only where");
            set(&node, name, "yes");
            begins(&node.ask(&add), "-ERR forbidden to add namespace when requirepass was empty");
        }
        "notify-keyspace-events" => {
            let mut listener = node.connect();
            send(&mut listener, &["SUBSCRIBE", "__keyevent@0__:set"]);
            let (mut said, mut bytes) = (Vec::new(), [0; 512]);
            let mut hear = |word: &[u8]| {
                while !said.windows(word.len()).any(|window| window == word) {
                    let count = listener.read(&mut bytes).unwrap();
                    assert!(count > 0, "{}", said.escape_ascii());
                    said.extend_from_slice(&bytes[..count]);
                }
            };
            hear(b"subscribe");
            set(&node, name, "KEA");
            assert_eq!(node.ask(&["SET", "k", "v"]), "+OK");
            hear(b"$7\r\nmessage\r\n");
        }
        "tracking-table-max-keys" => {
            set(&node, name, "1");
            told(&node, &[&["CLIENT", "TRACKING", "ON"], &["GET", "a"], &["GET", "b"]]);
            assert_eq!(node.node.tracking.counts().1, 1);
        }
        "json-storage-format" | "json-max-nesting-depth" => {
            let (write, size) =
                (["JSON.SET", "j", "$", "[[\"a\"]]"], ["JSON.DEBUG", "MEMORY", "j"]);
            assert_eq!(node.ask(&write), "+OK");
            let before = node.ask(&size);
            let is_format = name == "json-storage-format";
            set(&node, name, if is_format { "cbor" } else { "1" });
            begins(&node.ask(&write), if is_format { "+OK" } else { "-ERR" });
            assert_eq!(node.ask(&size) != before, is_format);
        }
        _ => return false,
    }
    true
}

fn of_connections(name: &str) -> bool {
    match name {
        "log-level" => {
            let told = std::sync::Arc::new(parking_lot::Mutex::new(String::new()));
            let ear = std::sync::Arc::clone(&told);
            let config = Config::new(Values::default(), None)
                .with_log(move |level| level.clone_into(&mut ear.lock()));
            config.set(&[("log-level", "warning")]).unwrap();
            assert_eq!(*told.lock(), "warning");
        }
        "timeout" => {
            let node = plain();
            let mut idle = node.connect();
            send(&mut idle, &["PING"]);
            assert_eq!(answer(&mut idle), "+PONG");
            set(&node, name, "1");
            node.node.clients.list().iter().for_each(|c| c.last_ms.store(1, Ordering::SeqCst));
            crate::cron::close_idle(&node.node, clock::unix_ms());
            assert_eq!(idle.read(&mut [0]).unwrap(), 0);
        }
        "maxclients" => {
            let node = plain();
            let mut first = node.connect();
            send(&mut first, &["PING"]);
            assert_eq!(answer(&mut first), "+PONG");
            set(&node, name, "1");
            begins(&answer(&mut node.connect()), "-ERR max number of clients reached");
        }
        "protected-mode" => is_protected(name),
        "admin-allowed-hosts" => {
            let node = plain();
            let asked = || metrics_by_name(&node, "name.example");
            begins(&asked(), "HTTP/1.1 403");
            set(&node, name, "name.example");
            begins(&asked(), "HTTP/1.1 200");
        }
        "proto-max-bulk-len" | "client-query-buffer-limit" => {
            let node = plain();
            set(&node, name, "1048576");
            let mut stream = node.connect();
            stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4000000\r\n").unwrap();
            // The node may have ended it by then.
            let _ = stream.write_all(&vec![b'x'; 2 << 20]);
            let _ = stream.shutdown(Shutdown::Write);
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            let is_refused = said.starts_with(b"-ERR Protocol error: invalid bulk length");
            let is_cut = name.starts_with("client") && said.is_empty();
            assert!(is_refused || is_cut, "{}", String::from_utf8_lossy(&said));
        }
        "long-read-steps" => {
            let node = plain();
            assert_eq!(node.ask(&["SADD", "s", "a", "b", "c"]), ":3");
            set(&node, name, "2");
            assert_eq!(node.ask(&["SMEMBERS", "s"]), "a b c");
            assert_eq!(node.node.long_reads.count(), 1);
        }
        "client-output-buffer-limit" => {
            let node = plain();
            let mut subscriber = node.connect();
            send(&mut subscriber, &["SUBSCRIBE", "a"]);
            assert_eq!(answer(&mut subscriber), "subscribe a :1");
            assert_eq!(node.ask(&["PUBLISH", "a", "text"]), ":1");
            assert_eq!(answer(&mut subscriber), "message a text");
            set(&node, name, "pubsub 1 0 0");
            assert_eq!(node.ask(&["PUBLISH", "a", "text"]), ":1");
            assert_eq!(subscriber.read(&mut [0]).unwrap(), 0);
        }
        _ => return false,
    }
    true
}

/// The whole of the memory, and with it what a part of it bounds.
fn of_memory(name: &str) -> bool {
    if name != "maxmemory" {
        return false;
    }
    let node = plain();
    let refused = node.ask(&["CONFIG", "SET", name, "200mb"]);
    assert!(refused.contains("at least 256mb are needed"), "{refused}");
    set(&node, name, "256mb");
    assert_eq!(node.node.memory.limit(), 48 << 20);
    // A quarter of that for one argument.
    let mut stream = node.connect();
    stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$13000000\r\n").unwrap();
    begins(&answer(&mut stream), "-ERR Protocol error: invalid bulk length");
    set(&node, name, "0");
    assert_eq!(node.node.memory.limit(), 0);
    true
}

/// What the admin port says to a scrape that dials it by this name.
fn metrics_by_name(node: &Running, name: &str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let serving =
            tokio::spawn(crate::admin::serve(std::sync::Arc::clone(&node.node), listener));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut said).await.unwrap();
        serving.abort();
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// Clients from elsewhere, as a balancer's header names them.
fn is_protected(name: &str) {
    let node = Running::start_with(|values| {
        values.balancer_sources.0 = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let greet = || {
        let mut stream = node.connect();
        let far = |last: u8| SocketAddr::from(([10, 0, 0, last], 9));
        stream.write_all(&api::proxy::encode(far(9), far(1))).unwrap();
        send(&mut stream, &["PING"]);
        answer(&mut stream)
    };
    begins(&greet(), "-DENIED");
    node.node.config.set(&[(name, "no")]).unwrap();
    begins(&greet(), "+PONG");
}

fn of_secrets(name: &str) -> bool {
    let node = plain();
    let is_peer = |secret: &str| {
        let said = told(&node, &[&["AUTH", secret], &["CLIENT", "INFO"]]);
        said[0] == "+OK" && said[1].contains(" peer=1")
    };
    match name {
        "requirepass" => {
            set(&node, name, "one");
            begins(&node.ask(&["PING"]), "-NOAUTH");
            assert_eq!(told(&node, &[&["AUTH", "one"], &["PING"]]), ["+OK", "+PONG"]);
        }
        "requirepass-also" => {
            let both = ["CONFIG", "SET", "requirepass", "one", name, "two"];
            assert_eq!(node.ask(&both), "+OK");
            for secret in ["one", "two"] {
                assert_eq!(told(&node, &[&["AUTH", secret], &["PING"]]), ["+OK", "+PONG"]);
            }
            begins(&node.ask(&["AUTH", "three"]), "-WRONGPASS");
        }
        "peer-auth" => {
            set(&node, name, "one");
            assert!(is_peer("one"));
        }
        "peer-auth-also" => {
            begins(&node.ask(&["CONFIG", "SET", name, "two"]), "-ERR CONFIG SET failed");
            assert_eq!(node.ask(&["CONFIG", "SET", "peer-auth", "one", name, "two"]), "+OK");
            assert!(is_peer("one") && is_peer("two") && !is_peer("three"));
        }
        "masterauth" => {
            let replica = plain();
            set(&node, "requirepass", "one");
            assert_eq!(replica.ask(&["SLAVEOF", "127.0.0.1", &node.port.to_string()]), "+OK");
            set(&replica, name, "one");
            is_up(&replica);
        }
        _ => return false,
    }
    true
}

fn is_up(replica: &Running) {
    wait_until(|| match replica.node.replication.link_status() {
        LinkStatus::Up => Ok(()),
        other => Err(format!("the link is {other}")),
    });
}

fn of_types(name: &str) -> bool {
    let node = plain();
    match name {
        "max-bitmap-to-string-mb" => {
            assert_eq!(node.ask(&["SETBIT", "b", "8388608", "1"]), ":0");
            assert!(!node.ask(&["GET", "b"]).starts_with("-ERR"));
            set(&node, name, "1");
            begins(&node.ask(&["GET", "b"]), "-ERR Operation aborted: The size of the bitmap");
        }
        "hash-encoding-mode" => {
            set(&node, name, "field-expiration");
            assert_eq!(node.ask(&["HSET", "h", "f", "v"]), ":1");
            let kept = node.ask(&["KMETADATA", "h"]);
            assert!(kept.contains("field-expiration"), "{kept}");
        }
        "hash-length-mode" => {
            node.ask(&["HSET", "h", "a", "1", "b", "2"]);
            assert_eq!(node.ask(&["HPEXPIRE", "h", "1", "FIELDS", "1", "a"]), ":1");
            wait_until(|| match node.ask(&["HLEN", "h"]) {
                one if one == ":1" => Ok(()),
                other => Err(other),
            });
            set(&node, name, "approximate");
            assert_eq!(node.ask(&["HLEN", "h"]), ":2");
        }
        _ => return false,
    }
    true
}

fn of_commands(name: &str) -> bool {
    let node = plain();
    match name {
        "slowlog-log-slower-than" => {
            set(&node, name, "0");
            node.ask(&["PING"]);
            assert_ne!(node.ask(&["SLOWLOG", "LEN"]), ":0");
        }
        "slowlog-max-len" => {
            set(&node, "slowlog-log-slower-than", "0");
            set(&node, name, "1");
            node.ask(&["PING"]);
            assert_eq!(node.ask(&["SLOWLOG", "LEN"]), ":1");
        }
        "redis-cursor-compatible" => {
            node.ask(&["MSET", "a", "1", "b", "1", "c", "1"]);
            set(&node, name, "no");
            begins(&node.ask(&["SCAN", "0", "COUNT", "1"]), "_");
        }
        "max-db-size" => {
            node.node.used_bytes.store(2 << 30, Ordering::SeqCst);
            assert_eq!(node.ask(&["SET", "k", "v"]), "+OK");
            set(&node, name, "1");
            begins(&node.ask(&["SET", "k", "v"]), "-ERR write command not allowed");
        }
        "backup-dir" => {
            set(&node, name, "elsewhere");
            assert_eq!(node.ask(&["BGSAVE"]), "+OK");
            wait_until(|| match node.node.path("elsewhere").exists() {
                true => Ok(()),
                false => Err(node.ask(&["INFO", "persistence"])),
            });
        }
        "lua-time-limit" => {
            set(&node, name, "50");
            let mut endless = node.connect();
            send(&mut endless, &["EVAL", "while true do end", "1", "k"]);
            wait_until(|| match node.ask(&["SET", "k", "v"]) {
                busy if busy.starts_with("-BUSY") => Ok(()),
                other => Err(other),
            });
            assert_eq!(node.ask(&["SCRIPT", "KILL"]), "+OK");
            begins(&answer(&mut endless), "-ERR Error running script (user killed");
        }
        "script-time-max-ms" => {
            set(&node, name, "50");
            begins(
                &node.ask(&["EVAL", "while true do end", "0"]),
                "-ERR Error running script (longer",
            );
        }
        "lua-strict-key-accessing" => {
            let read = ["EVAL", "return redis.call('GET','k')", "0"];
            assert_eq!(node.ask(&read), "nil");
            set(&node, name, "yes");
            begins(&node.ask(&read), "-ERR Script attempted to access an undeclared key");
        }
        "rocksdb.write_options.write_batch_max_bytes" => {
            set(&node, name, "100");
            begins(&node.ask(&["SET", "k", &"v".repeat(200)]), "-ERR storage: too much at once");
        }
        _ => return false,
    }
    true
}

fn of_masters(name: &str) -> bool {
    match name {
        "persist-cluster-nodes-enabled" => {
            let node = master(|_| {});
            let file = node.node.path("nodes.conf");
            for (value, is_there) in [("no", false), ("yes", true)] {
                set(&node, name, value);
                assert_eq!(file.exists(), is_there);
            }
        }
        "master-lease-mode" => {
            let node = plain();
            set(&node, name, "block-write");
            begins(&node.ask(&["SET", "k", "v"]), "-CLUSTERDOWN master lease expired");
        }
        "master-lease-max-ms" => {
            let node = master(|_| {});
            let controller = Controller::of(&[member_of(&node)]);
            let lease = || {
                controller.try_grant(&node, &m());
                node.node.grants.remaining_ms(clock::boottime_ns())
            };
            set(&node, name, "1000");
            assert_eq!(lease(), 0, "30 s are too long");
            set(&node, name, "60000");
            assert!(lease() > 1000);
        }
        "in-sync-timeout-ms" => {
            let (node, _controller, _puppet) =
                in_sync(|values| values.in_sync_timeout_ms = 60_000, 1);
            let mut client = node.connect();
            send(&mut client, &["SET", "k", "v"]);
            set(&node, name, "50");
            wait_until(|| match Controller::hello(&node).standing.request {
                0 => Err("no other set is asked for".into()),
                _ => Ok(()),
            });
        }
        "unacknowledged-max-bytes" => the_tail_may_grow(name),
        "handover-timeout-ms" => a_stop_may_be_hurried(name),
        _ => return false,
    }
    true
}

fn a_stop_may_be_hurried(name: &str) {
    let node = master(|_| {});
    let controller = Controller::of(&[member_of(&node)]);
    controller.grant(&node);
    set(&node, name, "600000");
    let begin = || {
        let stopped = Arc::clone(&node.node);
        std::thread::spawn(move || {
            crate::threads::block_on(async move { crate::handover::wait(&stopped).await });
        })
    };
    let mut stop = begin();
    // A controller that is heard is waited for.
    wait_until(|| {
        controller.grant(&node);
        if stop.is_finished() {
            // It was not heard in time: this thread was held up.
            stop = begin();
            return Err("it did not wait".into());
        }
        if node.node.stopping.has_begun() { Ok(()) } else { Err("it has not begun".into()) }
    });
    set(&node, name, "1");
    wait_until(|| {
        controller.grant(&node);
        if stop.is_finished() { Ok(()) } else { Err("it waits".into()) }
    });
}

fn the_tail_may_grow(name: &str) {
    let small = |values: &mut Values| {
        values.unacknowledged_max_bytes = Size(1 << 16);
        values.in_sync_timeout_ms = 60_000;
    };
    let (node, _controller, _puppet) = in_sync(small, 1);
    let above = |sequence: u64| {
        wait_until(|| match node.sequence() {
            now if now > sequence => Ok(()),
            now => Err(format!("it waits at {now}")),
        });
        node.sequence()
    };
    let (mut client, mut other) = (node.connect(), node.connect());
    let before = node.sequence();
    send(&mut client, &["SET", "k", &"v".repeat(1 << 17)]);
    let full = above(before);
    send(&mut other, &["SET", "l", "v"]);
    set(&node, name, "1g");
    above(full);
}

/// A replica, and the master it follows.
fn pair() -> (Running, Running) {
    let (replica, master) = (plain(), plain());
    assert_eq!(replica.ask(&["SLAVEOF", "127.0.0.1", &master.port.to_string()]), "+OK");
    is_up(&replica);
    (replica, master)
}

fn of_replicas(name: &str) -> bool {
    match name {
        "slave-read-only" => {
            let (replica, _master) = pair();
            begins(&replica.ask(&["SET", "k", "v"]), "-READONLY");
            set(&replica, name, "no");
            assert_eq!(replica.ask(&["SET", "k", "v"]), "+OK");
        }
        "slave-serve-stale-data" => {
            let replica = plain();
            assert_eq!(replica.ask(&["SLAVEOF", "127.0.0.1", "1"]), "+OK");
            assert_eq!(replica.ask(&["GET", "k"]), "nil");
            set(&replica, name, "no");
            begins(&replica.ask(&["GET", "k"]), "-MASTERDOWN");
        }
        "slave-priority" => {
            let replica = plain();
            assert_eq!(replica.ask(&["SLAVEOF", "127.0.0.1", "1"]), "+OK");
            set(&replica, name, "7");
            let info = replica.ask(&["INFO", "replication"]);
            assert!(info.contains("slave_priority:7\r\n"), "{info}");
        }
        "replica-announce-ip" | "replica-announce-port" => {
            let (replica, master) = pair();
            let (value, shown) = match name {
                "replica-announce-ip" => ("10.9.8.7", "ip=10.9.8.7,"),
                _ => ("4711", "port=4711,"),
            };
            set(&replica, name, value);
            assert_eq!(master.ask(&["CLIENT", "KILL", "TYPE", "REPLICA"]), ":1");
            wait_until(|| match master.ask(&["INFO", "replication"]) {
                info if info.contains(shown) => Ok(()),
                info => Err(info),
            });
        }
        _ => return false,
    }
    true
}

fn of_feeds(name: &str) -> bool {
    match name {
        "replication-ping-ms" => {
            let node = Running::start_with(|values| values.replication_ping_ms = 60_000);
            let mut puppet = Puppet::follow(&node);
            set(&node, name, "10");
            puppet.read();
        }
        "replication-send-timeout-ms" => {
            let node = plain();
            let _puppet = Puppet::follow(&node);
            let value = "v".repeat(1 << 20);
            for _ in 0..24 {
                assert_eq!(node.ask(&["SET", "k", &value]), "+OK");
            }
            set(&node, name, "1");
            wait_until(|| match node.node.replication.replicas().len() {
                0 => Ok(()),
                count => Err(format!("{count} replicas")),
            });
        }
        _ => return false,
    }
    true
}
