//! Reads that are under way while slots are handed over: what was given away is deleted behind
//! them, and what they find then is no answer.

use super::*;
use crate::moves::orders;

fn send(stream: &mut TcpStream, words: &[&str]) {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    stream.write_all(&wire::request(&words)).unwrap();
}

/// Two threads run long reads, and a third one waits.
#[test]
fn a_long_read_whose_slot_was_given_away_meanwhile_is_sent_on() {
    let mut cluster = Cluster::new();
    let key = format!("{{{}}}set", tags(1)[0]);
    let mut words = vec!["SADD".to_owned(), key.clone()];
    words.extend((0..100).map(|number| format!("member-{number}")));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(cluster.s.ask(&words), ":100");
    assert_eq!(cluster.s.ask(&["CONFIG", "SET", "long-read-steps", "10"]), "+OK");
    let node = Arc::clone(&cluster.s.node().node);
    let seat = || {
        let mut seat = None;
        crate::threads::block_on(async { seat = node.long_reads.seat().await });
        seat.unwrap()
    };
    let (first, second) = (seat(), seat());
    let (mut reader, before) = (cluster.s.node().connect(), node.long_reads.count());
    send(&mut reader, &["SMEMBERS", &key]);
    wait_until(|| match node.long_reads.count() > before {
        true => Ok(()),
        false => Err("it was read at once".into()),
    });
    cluster.copy();
    let at = cluster.freeze(1);
    cluster.own(at);
    drop((first, second));
    let said = answer(&mut reader);
    assert!(said.starts_with("-MOVED "), "{said}");
    assert_eq!(Client::new(&cluster).run(&["SCARD", &key]), ":100");
}

#[test]
fn what_is_gone_is_deleted_behind_the_commands_that_began_before() {
    let mut cluster = Cluster::new();
    fill(&mut Client::new(&cluster), &tags(2));
    cluster.copy();
    let at = cluster.freeze(1);
    assert!(cluster.s.order(Order::Seal).is_sealed);
    cluster.version = 2;
    cluster.d.order(Order::Open { at, version: 2 });
    cluster.push();
    let gone = Some(Mark::Gone { is_empty: false });
    assert_eq!(cluster.s.order(Order::Leave { version: 2 }).mark, gone);
    {
        let _a_transaction = cluster.s.node().node.engine();
        assert_eq!(cluster.s.order(Order::Clean).mark, gone);
        assert!(cluster.s.raw() > 0);
    }
    cluster.finish();
}

/// A cluster whose slots have moved: the giver has said so in its data, and deletes nothing yet.
fn gone() -> Cluster {
    let mut cluster = Cluster::new();
    fill(&mut Client::new(&cluster), &tags(1));
    cluster.copy();
    let at = cluster.freeze(1);
    assert!(cluster.s.order(Order::Seal).is_sealed);
    cluster.version = 2;
    cluster.d.order(Order::Open { at, version: 2 });
    cluster.push();
    cluster.s.order(Order::Leave { version: 2 });
    cluster
}

/// All that comes behind what waits for the gate waits as well, and would at each heartbeat.
#[test]
fn what_is_gone_is_not_waited_for_at_each_heartbeat_beside_what_reads_for_long() {
    let cluster = gone();
    {
        let node = &cluster.s.node().node;
        let _a_transaction = node.engine();
        let is_left_alone = |_| {
            let before = *node.moves.cleans.lock();
            cluster.s.order(Order::Clean);
            *node.moves.cleans.lock() == before
        };
        // This thread may be held up for longer than a pause lasts, but not again and again.
        assert!((0..20).any(is_left_alone));
    }
    cluster.finish();
}

/// The disk may hold up what deletes: clients do not wait for it.
#[test]
fn what_is_gone_is_deleted_beside_the_commands_that_come_then() {
    let cluster = gone();
    let node = &cluster.s.node().node;
    let slots = MOVING.parse().unwrap();
    let clean = [Asked::Do(Ordered { id: ID, slots, term: 1, order: Order::Clean })];
    let is_served = std::thread::scope(|scope| {
        // Held up here as it would be by the disk: behind the gate.
        let held = node.moves.lock(cluster.s.epoch);
        let cleans = scope.spawn(|| orders::obey_all(node, &clean, Some(1)));
        let end = Instant::now() + Duration::from_secs(5);
        while node.gate.try_write().is_some() && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // It may be some other command's: it is waited for as long as that can take.
        std::thread::park_timeout(Duration::from_millis(50));
        let is_served = node.gate.try_read_for(Duration::from_secs(10)).is_some();
        drop(held);
        cleans.join().unwrap();
        is_served
    });
    assert!(is_served);
    cluster.clean();
}

/// Of keys that it has not declared no gate knew when it began.
#[test]
fn a_script_reads_nothing_of_a_sealed_slot() {
    let mut cluster = Cluster::new();
    let key = format!("{{{}}}1", tags(1)[0]);
    let script = "return redis.call('get', ARGV[1])";
    assert_eq!(cluster.s.ask(&["SET", &key, "before"]), "+OK");
    assert_eq!(cluster.s.ask(&["EVAL", script, "0", &key]), "before");
    cluster.copy();
    let at = cluster.freeze(1);
    assert_eq!(cluster.s.ask(&["EVAL", script, "0", &key]), "before", "until the seal");
    assert!(cluster.s.order(Order::Seal).is_sealed);
    let mut reader = cluster.s.node().connect();
    send(&mut reader, &["EVAL", script, "0", &key]);
    for _ in 0..50 {
        assert_eq!(cluster.s.ask(&["GET", "{c}mine"]), "nil");
    }
    reader.set_nonblocking(true).unwrap();
    assert!(reader.peek(&mut [0]).is_err());
    reader.set_nonblocking(false).unwrap();
    cluster.own(at);
    let said = answer(&mut reader);
    assert!(said.starts_with('-'), "{said}");
    assert_eq!(cluster.d.ask(&["EVAL", script, "0", &key]), "before");
}

#[test]
fn a_script_runs_where_its_slot_was_opened_before_the_topology_comes() {
    let cluster = Cluster::new();
    let tags = tags(2);
    let key = |number: usize| format!("{{{}}}1", tags[number]);
    assert_eq!(cluster.s.ask(&["SET", &key(0), "before"]), "+OK");
    cluster.copy();
    let at = cluster.freeze(1);
    assert!(cluster.s.order(Order::Seal).is_sealed);
    cluster.d.order(Order::Open { at, version: 2 });
    let script = "redis.call('append', ARGV[1], '!') return redis.call('get', ARGV[1])";
    assert_eq!(cluster.d.ask(&["EVAL", script, "1", &key(0), &key(0)]), "before!");
    assert_eq!(cluster.d.ask(&["EVAL", script, "0", &key(0)]), "before!!", "not declared");
    let said = cluster.d.ask(&["EVAL", script, "1", &key(0), &key(1)]);
    assert!(said.contains("do not hash to the same slot"), "{said}");
    let said = cluster.d.ask(&["EVAL", script, "0", "{c}mine"]);
    assert!(said.contains("non local key"), "{said}");
    // In a transaction it runs aside, and its slots are looked at once more before it is written.
    let mut aside = cluster.d.node().connect();
    send(&mut aside, &["MULTI"]);
    send(&mut aside, &["EVAL", script, "0", &key(0)]);
    send(&mut aside, &["EXEC"]);
    let said = [answer(&mut aside), answer(&mut aside), answer(&mut aside)];
    assert_eq!(said, ["+OK", "+QUEUED", "before!!!"]);
    assert_eq!(cluster.d.ask(&["GET", &key(0)]), "before!!!");
}

/// It holds the locks of its other keys, and a seal lasts as long as controllers are away.
#[test]
fn a_script_that_waits_for_a_sealed_slot_can_be_killed() {
    let cluster = Cluster::new();
    let key = format!("{{{}}}1", tags(1)[0]);
    cluster.copy();
    cluster.freeze(1);
    assert!(cluster.s.order(Order::Seal).is_sealed);
    let mut reader = cluster.s.node().connect();
    send(&mut reader, &["EVAL", "return redis.call('get', ARGV[1])", "0", &key]);
    wait_until(|| match cluster.s.ask(&["SCRIPT", "KILL"]) {
        said if said == "+OK" => Ok(()),
        said => Err(said),
    });
    let said = answer(&mut reader);
    assert!(said.starts_with("-ERR Error running script (user killed"), "{said}");
}

/// What it has read was there, but a command of it may have been under way while it was deleted.
#[test]
fn a_script_that_ends_behind_its_slots_is_sent_on() {
    let mut cluster = Cluster::new();
    let key = format!("{{{}}}1", tags(1)[0]);
    // Until it is told to end; without a word for twenty seconds.
    let script = "local function us() \
                    local told = redis.call('info', 'server') \
                    return tonumber(string.match(told, 'server_time_usec:(%d+)')) \
                  end \
                  local value, till = redis.call('get', KEYS[1]), us() + 20000000 \
                  local function is_over() \
                    local told = redis.call('info', 'clients') \
                    return us() > till or string.find(told, 'maxclients:777') \
                  end \
                  while not is_over() do end \
                  return value";
    assert_eq!(cluster.s.ask(&["SET", &key, "1"]), "+OK");
    cluster.copy();
    let mut reader = cluster.s.node().connect();
    send(&mut reader, &["EVAL", script, "1", &key]);
    wait_until(|| match cluster.s.node().node.scripts.any_slow() {
        true => Ok(()),
        false => Err("it does not run".into()),
    });
    let at = cluster.freeze(1);
    assert!(cluster.s.order(Order::Seal).is_sealed);
    cluster.version = 2;
    assert_eq!(cluster.d.order(Order::Open { at, version: 2 }).mark, Some(Mark::Held));
    cluster.push();
    let gone = Some(Mark::Gone { is_empty: false });
    assert_eq!(cluster.s.order(Order::Leave { version: 2 }).mark, gone);
    assert_eq!(cluster.s.ask(&["CONFIG", "SET", "maxclients", "777"]), "+OK");
    let said = answer(&mut reader);
    assert!(said.starts_with("-MOVED "), "{said}");
    cluster.finish();
}
