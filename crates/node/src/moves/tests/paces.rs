//! How fast copies go, that they stop when they are told to, and what is said of it.

use std::io::Read as _;
use std::net::{Shutdown, TcpListener};

use ::replication::slots::copy::encode_place;
use api::moves::{Brake, Flow};

use super::*;

impl Master {
    /// Its stream of the move, as it says.
    fn flow(&self) -> Option<Flow> {
        let flows = self.heartbeat(&[Asked::Of(ID)]).flows.unwrap();
        assert!(flows.iter().all(|flow| flow.id == ID), "{flows:?}");
        flows.first().copied()
    }

    /// As after minutes under its grant.
    fn settle_loads(&self) {
        let node = &self.node().node;
        (0..6).for_each(|_| node.moves.loads.fade(node.grants.granted_epoch()));
    }
}

impl Cluster {
    /// With values that take seconds at a MB a second.
    fn filled() -> Self {
        let cluster = Self::new();
        let (tags, value) = (tags(200), "x".repeat(60_000));
        for tag in &tags {
            assert_eq!(cluster.s.ask(&["SET", &format!("{{{tag}}}v"), &value]), "+OK");
        }
        cluster
    }

    /// Until so many bytes have come.
    fn await_bytes(&self, bytes: u64) {
        wait_until(|| {
            let copies = self.d.heartbeat(&[Asked::Of(ID)]).copies;
            let come = copies.iter().find(|of| of.id == ID).map_or(0, |of| of.bytes);
            if come >= bytes { Ok(()) } else { Err(format!("{come} of {bytes}")) }
        });
    }

    fn staged(&self) -> Option<Mark> {
        self.d.say().mark
    }
}

/// Above that size what clients write is refused: the copy is not what brings it there.
#[test]
fn a_copy_waits_before_the_database_is_as_large_as_it_may_be() {
    let cluster = Cluster::filled();
    assert_eq!(cluster.d.ask(&["CONFIG", "SET", "max-db-size", "1"]), "+OK");
    let node = &cluster.d.node().node;
    node.used_bytes.store(950 << 20, Ordering::SeqCst);
    cluster.d.order(cluster.s.source());
    wait_until(|| match cluster.d.flow().and_then(|flow| flow.brake) {
        Some(Brake::Room) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let staged = cluster.staged();
    assert!(matches!(staged, Some(Mark::Staged { is_whole: false, .. })), "{staged:?}");
    node.used_bytes.store(0, Ordering::SeqCst);
    cluster.copy();
    assert_eq!(cluster.s.records(), cluster.d.records());
}

/// What is written at the giver comes all the same: the move would never end.
#[test]
fn a_whole_copy_keeps_up_however_large_the_database_is() {
    let mut cluster = Cluster::new();
    let key = format!("{{{}}}behind", tags(1)[0]);
    cluster.copy();
    assert_eq!(cluster.d.ask(&["CONFIG", "SET", "max-db-size", "1"]), "+OK");
    cluster.d.node().node.used_bytes.store(950 << 20, Ordering::SeqCst);
    for number in 1..=20 {
        // Each comes by itself: the first of them would come anyway.
        let at = cluster.staged();
        assert_eq!(cluster.s.ask(&["INCR", &key]), format!(":{number}"));
        wait_until(|| match cluster.staged() == at {
            true => Err(format!("{at:?}")),
            false => Ok(()),
        });
    }
    let at = cluster.freeze(1);
    cluster.own(at);
    assert_eq!(cluster.d.ask(&["INCR", &key]), ":21");
}

#[test]
fn a_copy_that_is_told_to_rest_stops_and_goes_on_from_there() {
    let cluster = Cluster::filled();
    let slow = cluster.s.source_at(Rate::new(1).ok());
    assert_eq!((cluster.s.flow(), cluster.d.flow()), (None, None));
    cluster.d.order(slow.clone());
    cluster.await_bytes(100_000);
    let taken = cluster.d.flow().unwrap();
    assert_eq!((taken.is_taken, taken.rate), (true, Rate::new(1).ok()));
    let given = cluster.s.flow().unwrap();
    assert_eq!((given.is_taken, given.rate), (false, Rate::new(1).ok()));
    cluster.d.order(Order::Rest);
    wait_until(|| match (cluster.s.flow(), cluster.d.flow(), cluster.s.say().feed) {
        (None, None, None) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let staged = cluster.staged();
    assert!(matches!(staged, Some(Mark::Staged { at: Some(_), is_whole: false })), "{staged:?}");
    // Nothing comes, whatever is written at the giver; and to rest twice is to rest.
    assert_eq!(cluster.s.ask(&["INCR", "{c}other"]), ":1");
    cluster.d.order(Order::Rest);
    assert_eq!((cluster.staged(), cluster.s.flow()), (staged, None));
    cluster.copy();
    assert_eq!(cluster.d.records(), cluster.s.records());
}

#[test]
fn a_stream_begins_anew_at_another_rate_and_loses_nothing() {
    let cluster = Cluster::filled();
    cluster.d.order(cluster.s.source_at(Rate::new(1).ok()));
    cluster.await_bytes(200_000);
    let fast = Rate::new(500).ok();
    cluster.d.order(cluster.s.source_at(fast));
    wait_until(|| match (cluster.s.flow(), cluster.d.flow()) {
        (Some(given), Some(taken)) if given.rate == fast && taken.rate == fast => Ok(()),
        other => Err(format!("{other:?}")),
    });
    cluster.copy_at(fast);
    assert_eq!(cluster.d.records(), cluster.s.records());
}

/// A slow way to a giver: what comes of it trickles for seconds at first. Its port.
fn slow_way(giver: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let trickle = |mut from: TcpStream, mut to: TcpStream| {
        let mut bytes = [0; 1_000];
        for _ in 0..80 {
            let Ok(read @ 1..) = from.read(&mut bytes) else { break };
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Both).ok();
    };
    std::thread::spawn(move || {
        for taker in listener.incoming() {
            let (taker, giver) = (taker.unwrap(), TcpStream::connect(("127.0.0.1", giver)));
            let giver = giver.unwrap();
            let (mut asks, mut asked) = (taker.try_clone().unwrap(), giver.try_clone().unwrap());
            std::thread::spawn(move || {
                std::io::copy(&mut asks, &mut asked).ok();
                asked.shutdown(Shutdown::Both).ok();
            });
            std::thread::spawn(move || trickle(giver, taker));
        }
    });
    port
}

/// The giver hears nothing meanwhile, so that the controller orders a stream all the time.
#[test]
fn a_part_that_is_long_on_its_way_arrives_whatever_is_ordered() {
    let cluster = Cluster::new();
    let tag = tags(1).remove(0);
    assert_eq!(cluster.s.ask(&["SET", &tag, &"x".repeat(1 << 20)]), "+OK");
    let known = cluster.s.node().port;
    let (known, slow) = (format!(" {known} "), format!(" {} ", slow_way(known)));
    cluster.d.set_nodes(&cluster.topology().replacen(&known, &slow, 1), 2);
    wait_until(|| {
        cluster.d.order(cluster.s.source());
        match cluster.staged() {
            Some(Mark::Staged { is_whole: true, .. }) => Ok(()),
            staged => Err(format!("{staged:?}")),
        }
    });
    assert_eq!(cluster.d.records(), cluster.s.records());
}

#[test]
fn a_part_of_the_commands_is_counted_for_their_slots() {
    let cluster = Cluster::new();
    let tag = tags(1).remove(0);
    let slot = topology::key_slot(tag.as_bytes()).number();
    let said = cluster.s.peer(&["CLUSTERX", "MOVE", "LOAD", &slot.to_string()]);
    assert!(said.starts_with("-ERR commands are counted here for less than"), "{said}");
    cluster.s.settle_loads();
    assert_eq!(cluster.s.ask(&["SET", &tag, "v"]), "+OK");
    let mut stream = cluster.s.node().connect();
    let (get, ping) = (wire::request(&[b"GET", tag.as_bytes()]), wire::request(&[b"PING"]));
    let both = [get, ping].concat();
    for _ in 0..100 {
        stream.write_all(&both.repeat(200)).unwrap();
        for _ in 0..200 {
            assert_eq!((answer(&mut stream), answer(&mut stream)), ("v".into(), "+PONG".into()));
        }
    }
    let load = cluster.s.node().node.moves.loads.of(slot);
    assert!((14_000..26_000).contains(&load), "{load} of 20,000");
    let said = cluster.s.peer(&["CLUSTERX", "MOVE", "LOAD", &slot.to_string()]);
    assert_eq!(said.parse(), Ok(load));
    let other = u16::from(slot == 0).to_string();
    assert_eq!(cluster.s.peer(&["CLUSTERX", "MOVE", "LOAD", &other]), "0");
}

/// The controller is to have a stream begun, if there is somebody who could.
#[test]
fn a_giver_tells_of_no_stream_while_its_taker_is_silent() {
    let cluster = Cluster::filled();
    let (nonce, epoch) = (cluster.s.heartbeat(&[]).nonce, cluster.s.epoch.to_string());
    let mut taker = cluster.s.node().connect();
    let place = encode_place(None, &Cursor::Start);
    let pull: [&[u8]; 8] = [
        b"CLUSTERX",
        b"MOVE",
        b"PULL",
        b"1",
        MOVING.as_bytes(),
        nonce.as_bytes(),
        epoch.as_bytes(),
        &place,
    ];
    taker.write_all(&wire::request(&[b"AUTH", b"secret"])).unwrap();
    let begun = Instant::now();
    taker.write_all(&wire::request(&pull)).unwrap();
    assert_eq!(answer(&mut taker), "+OK");
    let await_feed = |taker: &mut TcpStream| {
        wait_until(|| match cluster.s.say().feed {
            Some(_) => Ok(()),
            None => {
                // It may have been silent for too long because this thread was held up.
                if cluster.s.flow().is_some() {
                    taker.write_all(b"+").unwrap();
                }
                Err("no stream".to_owned())
            }
        });
    };
    await_feed(&mut taker);
    wait_until(|| match cluster.s.say().feed {
        None => Ok(()),
        feed => Err(format!("{feed:?}")),
    });
    let passed = begun.elapsed();
    assert!(passed >= Duration::from_secs(2), "{passed:?}");
    assert!(cluster.s.flow().is_some_and(|flow| !flow.is_taken), "it is still there");
    // It is not gone after all, and reads what was sent.
    let mut sent = taker.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut sent, &mut std::io::sink()));
    taker.write_all(&[b'+'; 16]).unwrap();
    await_feed(&mut taker);
}
