//! A master under grants, on loopback, with a controller and replicas played by the test, and with
//! a real replica.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use ::grant::{Member, Members};
use ::replication::wire;
use api::heartbeat::{LeaseMode, LinkStatus, Reply};

use crate::config::Values;
use crate::config::value::Size;
use crate::replication::tests::{Running, answer, wait_until};

use super::state::MS;
use crate::clock;

mod alone;
mod answers;
mod leader;
mod leaving;
mod live;

/// Id of the master.
fn m() -> String {
    "m".repeat(40)
}

/// Id of the replica.
fn r() -> String {
    "r".repeat(40)
}

fn start(change: impl FnOnce(&mut Values)) -> Running {
    Running::start_with(|values| {
        values.cluster_enabled = true;
        values.master_lease_mode = LeaseMode::BlockAll;
        values.replication_ping_ms = 20;
        // Nobody is late because a test is held up.
        values.in_sync_timeout_ms = 10_000;
        values.peer_auth = "secret".into();
        change(values);
    })
}

/// A controller that says what the test wants.
struct Controller {
    lease_ms: u64,
    epoch: u64,
    min: u32,
    request: u64,
    members: Members,
    /// Of the topology; 0 as older controllers, which name none.
    version: i64,
}

impl Controller {
    fn of(members: &[Member]) -> Self {
        let members = members.iter().copied().collect();
        Self { lease_ms: 30_000, epoch: 1, min: 1, request: 0, members, version: 0 }
    }

    fn hello(node: &Running) -> Reply {
        let text = node.ask(&["CLUSTERX", "HEARTBEAT", "nobody", "1000", "1", "CLOCK", "0", "0"]);
        Reply::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn words(&self, to: &str, seen: &Reply) -> Vec<String> {
        let (lease, epoch) = (self.lease_ms.to_string(), self.epoch.to_string());
        let (clock, id) = (seen.clock_ns.to_string(), format!("{:016x}", self.epoch * 11));
        let words = ["HEARTBEAT", to, &lease, "1", "CLOCK", &clock, &seen.nonce, "GRANT"];
        let (min, request) = (self.min.to_string(), self.request.to_string());
        let members = self.members.to_string();
        let grant = [&epoch, &id, "-", "0", "in-sync", &min, &request, &members];
        let version = (self.version > 0).then(|| self.version.to_string());
        words.iter().chain(&grant).map(ToString::to_string).chain(version).collect()
    }

    /// Grants to the node of id `to`; the text of the reply.
    fn try_grant(&self, node: &Running, to: &str) -> String {
        let words = self.words(to, &Self::hello(node));
        let words: Vec<&str> =
            std::iter::once("CLUSTERX").chain(words.iter().map(String::as_str)).collect();
        node.ask(&words)
    }

    fn grant(&self, node: &Running) -> Reply {
        let text = self.try_grant(node, &m());
        Reply::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Adopts what the node asks for, as the store does, and says so.
    fn adopt(&mut self, node: &Running) -> Reply {
        let seen = Self::hello(node).standing;
        (self.request, self.members) = (seen.request, seen.request_members);
        self.grant(node)
    }
}

/// A replica that acknowledges what the test wants.
pub(crate) struct Puppet {
    stream: TcpStream,
    pub(crate) member: Member,
    bulks: wire::BulkReader,
    /// Newest sequence it was sent. A master ends the feed of whoever acknowledges more.
    sent: u64,
    /// Newest ping with a clock that was not echoed yet.
    newest: Option<wire::Stamp>,
    /// What the master said last of its leave.
    leave: Option<wire::Leave>,
}

impl Puppet {
    fn member() -> Member {
        format!("{}/1/1", r()).parse().unwrap()
    }

    pub(crate) fn follow(master: &Running) -> Self {
        let (mut stream, member, sent) = (master.connect(), Self::member(), master.sequence());
        for words in [
            vec!["replconf", "holdfast", "1"],
            vec!["replconf", "member", &member.to_string()],
            vec!["PSYNC", &(sent + 1).to_string()],
        ] {
            stream
                .write_all(&wire::request(&words.iter().map(|w| w.as_bytes()).collect::<Vec<_>>()))
                .unwrap();
            assert_eq!(answer(&mut stream), "+OK");
        }
        let bulks = wire::BulkReader::new(1 << 30);
        Self { stream, member, bulks, sent, newest: None, leave: None }
    }

    fn ack(&mut self, sequence: u64, epoch: u64, echo: Option<wire::Stamp>) {
        self.ack_under(sequence, epoch * 11, echo);
    }

    /// Under the epoch of that id.
    pub(crate) fn ack_under(&mut self, sequence: u64, id: u64, echo: Option<wire::Stamp>) {
        while self.sent < sequence {
            self.read();
        }
        let epoch = ::replication::history::EpochId::from_random(id);
        self.stream.write_all(&wire::ack_of_member(sequence, Some(epoch), echo)).unwrap();
    }

    /// Reads what has come, at least something.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the feed ended");
        let mut input = &buffer[..read];
        while let Some(payload) = self.bulks.read(&mut input).unwrap() {
            if let Some(stamp) = wire::Stamp::parse_ping(&payload) {
                self.newest = Some(stamp);
            } else if let Some(leave) = wire::Leave::parse(&payload) {
                self.leave = Some(leave);
            } else if let (Some(first), Some(count)) =
                (payload.first_chunk::<8>(), payload.get(8..).and_then(<[u8]>::first_chunk::<4>))
            {
                let count = u64::from(u32::from_le_bytes(*count));
                self.sent = u64::from_le_bytes(*first) + count - 1;
            }
        }
    }

    /// The newest ping with a clock. Those that were sent while the test was busy are too old to be
    /// worth an echo.
    fn stamp(&mut self) -> wire::Stamp {
        loop {
            self.stream.set_nonblocking(true).unwrap();
            let has_more = self.stream.peek(&mut [0]).is_ok();
            self.stream.set_nonblocking(false).unwrap();
            match self.newest.take() {
                Some(stamp) if !has_more => return stamp,
                newest => self.newest = newest,
            }
            self.read();
        }
    }
}

fn topology(master: &Running, replica_port: u16) -> String {
    let (m, r) = (m(), r());
    format!(
        "{m} 127.0.0.1 {} master - 0-16383\n{r} 127.0.0.1 {replica_port} slave {m}",
        master.port
    )
}

/// As a controller: connections of others end with a demotion.
fn set_nodes(node: &Running, text: &str, version: u32) {
    let mut stream = node.connect();
    send(&mut stream, &["AUTH", "secret"]);
    send(&mut stream, &["CLUSTERX", "SETNODES", text, &version.to_string()]);
    assert_eq!((answer(&mut stream), answer(&mut stream)), ("+OK".into(), "+OK".into()));
}

/// A master of a topology, without any grant.
fn master(change: impl FnOnce(&mut Values)) -> Running {
    let node = start(change);
    assert_eq!(node.ask(&["CLUSTERX", "SETNODEID", &m()]), "+OK");
    set_nodes(&node, &topology(&node, 1), 1);
    node
}

fn member_of(node: &Running) -> Member {
    Controller::hello(node).member().unwrap()
}

/// A master in sync with a puppet.
fn in_sync(change: impl FnOnce(&mut Values), min: u32) -> (Running, Controller, Puppet) {
    let node = master(change);
    let mut puppet = Puppet::follow(&node);
    let mut controller = Controller::of(&[member_of(&node), puppet.member]);
    controller.min = min;
    assert_eq!(controller.grant(&node).standing.granted_epoch, 1);
    puppet.ack(node.sequence(), 1, None);
    (node, controller, puppet)
}

fn send(stream: &mut TcpStream, words: &[&str]) {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    stream.write_all(&wire::request(&words)).unwrap();
}

/// Returns once the commands before ran, and `count` connections wait for the set.
fn await_waiting(node: &Running, count: usize, sequence: u64) {
    wait_until(|| {
        let waiting = node.node.grants.commit.waiting();
        let now = node.sequence();
        let is_so = waiting == count && now >= sequence;
        if is_so { Ok(()) } else { Err(format!("{waiting} wait, at {now}")) }
    });
}

fn assert_silent(stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0]);
    assert_eq!(read.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    stream.set_nonblocking(false).unwrap();
}

fn assert_closed(stream: &mut TcpStream) {
    let mut byte = [0];
    assert!(matches!(stream.read(&mut byte), Ok(0) | Err(_)), "answered {byte:?}");
}

#[test]
fn a_copy_of_a_replicas_folder_is_refused_while_the_replica_is_heard() {
    // For five pings it counts as heard.
    let (node, _, mut puppet) = in_sync(|values| values.replication_ping_ms = 4_000, 1);
    let twin = || {
        let (mut stream, next) = (node.connect(), (node.sequence() + 1).to_string());
        let member = Puppet::member().to_string();
        let requests = [
            &["replconf", "holdfast", "1"][..],
            &["replconf", "listening-port", "7777"],
            &["replconf", "member", &member],
            &["PSYNC", &next],
        ];
        let said = requests.map(|words| {
            send(&mut stream, words);
            answer(&mut stream)
        });
        said.into_iter().next_back().unwrap()
    };
    let sequence = node.sequence();
    puppet.ack(sequence, 1, None);
    let said = twin();
    assert!(said.starts_with("-TWIN 127.0.0.1:0 follows with the data of node"), "{said}");
    // Its stream goes on.
    let mut writer = node.connect();
    send(&mut writer, &["SET", "k", "v"]);
    puppet.ack(sequence + 1, 1, None);
    assert_eq!(answer(&mut writer), "+OK");
    drop(Puppet::follow(&node));
}

#[test]
fn a_grant_opens_an_epoch_and_older_ones_are_refused() {
    let node = master(|_| {});
    let mut controller = Controller::of(&[member_of(&node)]);
    assert!(node.ask(&["GET", "k"]).starts_with("-CLUSTERDOWN"));
    let before = node.sequence();
    let standing = controller.grant(&node).standing;
    assert_eq!((standing.granted_epoch, standing.history_epoch), (1, 1));
    assert_eq!((standing.committed, node.sequence()), (before + 1, before + 1));
    assert_eq!(node.ask(&["SET", "k", "1"]), "+OK");
    controller.epoch = 3;
    assert_eq!(controller.grant(&node).standing.granted_epoch, 3);
    controller.epoch = 2;
    let refused = controller.try_grant(&node, &m());
    assert_eq!(refused, "-ERR grant refused: epoch 2 is older than 3");
    // A grant of another set, to other data.
    controller.epoch = 4;
    controller.members = [Puppet::member()].into_iter().collect();
    assert!(controller.try_grant(&node, &m()).contains("is no member of the set"));
    let info = node.ask(&["INFO", "holdfast"]);
    assert!(info.contains("granted_epoch:3\r\ncommit_mode:in-sync\r\n"), "{info}");
}

/// Slots may have been given away in topologies that this process has not seen (H3 of slot moves).
#[test]
fn a_process_serves_nothing_before_it_has_the_topology_of_its_epoch() {
    let node = master(|_| {});
    let mut controller = Controller::of(&[member_of(&node)]);
    controller.version = 2;
    let standing = controller.grant(&node).standing;
    assert_eq!((standing.granted_epoch, standing.history_epoch), (0, 0), "passed over");
    assert!(node.ask(&["GET", "k"]).starts_with("-CLUSTERDOWN"));
    let moved = topology(&node, 1).replace("0-16383", "0-100");
    set_nodes(&node, &moved, 2);
    let standing = controller.grant(&node).standing;
    assert_eq!((standing.granted_epoch, standing.granted_version), (1, Some(2)));
    assert!(node.ask(&["GET", "k"]).contains("Hash slot not served"));
}

#[test]
fn once_grants_are_in_use_a_lease_alone_is_none() {
    let node = master(|_| {});
    let seen = Controller::hello(&node);
    let lease = |seen: &Reply| {
        let clock = seen.clock_ns.to_string();
        let id = m();
        node.ask(&["CLUSTERX", "HEARTBEAT", &id, "30000", "1", "CLOCK", &clock, &seen.nonce])
    };
    lease(&seen);
    assert_eq!(node.ask(&["SET", "k", "1"]), "+OK", "as before, where nobody grants");
    let controller = Controller { epoch: 7, ..Controller::of(&[Puppet::member()]) };
    assert!(controller.try_grant(&node, &m()).starts_with("-ERR grant refused"));
    lease(&seen);
    assert!(node.ask(&["GET", "k"]).starts_with("-CLUSTERDOWN"));
}

/// Rule O3: a controller that stands by must not keep replicas from lending.
#[test]
fn who_observes_is_no_controller_heard() {
    let node = master(|_| {});
    let observe = || node.ask(&["CLUSTERX", "OBSERVE"]);
    let told = |text: &str| api::heard::Told::parse(text).unwrap_or_else(|| panic!("{text}"));
    let text = observe();
    let seen = Reply::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((seen.myid, seen.nonce), (m(), Controller::hello(&node).nonce));
    assert_eq!(told(&text).heard_ms, None);
    Controller::of(&[member_of(&node)]).grant(&node);
    let heard = node.node.grants.heard.newest();
    let text = observe();
    assert_eq!((told(&text).term, told(&text).heard_term), (1, 1));
    assert!(told(&text).heard_ms.is_some(), "{text}");
    assert_eq!(node.node.grants.heard.newest(), heard);
}

/// Rule O5: what an older controller sent arrives behind its successor's.
#[test]
fn a_command_of_an_older_term_is_refused() {
    let node = master(|_| {});
    let as_term = |term: &str, words: &[&str]| {
        let all: Vec<&str> = ["CLUSTERX", "AS", term].iter().chain(words).copied().collect();
        node.ask(&all)
    };
    let is_paused = || Controller::hello(&node).paused;
    assert_eq!(as_term("1", &["PAUSE", "60000", "WRITE"]), "+OK");
    assert!(is_paused());
    // Any command that names a term is heard as that term.
    assert_eq!(as_term("1", &["SETNODEID", &m()]), "+OK");
    let mode = || node.node.config.now().master_lease_mode.to_string();
    assert_eq!(as_term("1", &["LEASE-MODE", "block-write"]), "+OK");
    assert!(as_term("1", &["LEASE-MODE", "disabled", "x"]).starts_with("-ERR syntax error"));
    assert!(as_term("1", &["LEASE-MODE", "x"]).starts_with("-ERR CONFIG SET failed"));
    assert_eq!(mode(), "block-write");
    {
        let _another_change = node.node.config.change();
        assert!(as_term("1", &["LEASE-MODE", "disabled"]).starts_with("-ERR somebody else"));
    }
    assert!(as_term("3", &["FLUSHALL"]).starts_with("-ERR CLUSTERX command"));
    assert_eq!(node.node.grants.term(), 1, "what is no such command is not obeyed");
    super::leader::obey(&node.node, 2, None).expect("a newer one");
    for late in [
        &["UNPAUSE"][..],
        &["PAUSE", "1", "WRITE"],
        &["SETNODEID", &m()],
        &["LEASE-MODE", "disabled"],
    ] {
        let refused = as_term("1", late);
        assert_eq!(refused, "-ERR election version mismatch: 1 is older than 2");
    }
    assert_eq!(mode(), "block-write");
    assert_eq!(as_term("2", &["UNPAUSE"]), "+OK");
    let text = node.ask(&["CLUSTERX", "OBSERVE"]);
    assert!(!Reply::parse(&text).expect("a reply").paused);
}

/// Rule O7: a controller on a store that was left behind must not find its nodes without a memory.
#[test]
fn the_next_process_refuses_terms_that_this_one_refused() {
    let node = master(|_| {});
    let hear = |node: &Running, term: &str| {
        node.ask(&["CLUSTERX", "HEARTBEAT", "nobody", "1000", term, "CLOCK", "0", "0"])
    };
    let hello = ["CLUSTERX", "HEARTBEAT", "0", "1000", "7", "CLOCK", "0", "0"];
    Reply::parse(&node.ask(&hello)).expect("a reply");
    assert_eq!(node.node.grants.term_to_keep(), None, "who says hello may not lead it");
    Reply::parse(&hear(&node, "9")).expect("a reply");
    let dir = node.node.dir.clone();
    wait_until(|| match super::identity::load_obeyed(&dir).term {
        9 => Ok(()),
        other => Err(format!("term {other} on disk")),
    });
    let next = node.restart(|values| values.cluster_enabled = true);
    next.node.grants.remember(super::identity::load_obeyed(&dir));
    let refused = hear(&next, "8");
    assert_eq!(refused, "-ERR election version mismatch: 8 is older than 9");
    Reply::parse(&hear(&next, "9")).expect("the same one is obeyed");
}

#[test]
fn replies_to_writes_and_to_reads_of_them_wait_and_leave_in_order() {
    let (node, _, mut puppet) = in_sync(|_| {}, 1);
    let (mut writer, mut reader) = (node.connect(), node.connect());
    let first = node.sequence() + 1;
    send(&mut writer, &["SET", "k", "1"]);
    await_waiting(&node, 1, first);
    // A further command of the same connection runs meanwhile.
    send(&mut writer, &["INCR", "k"]);
    await_waiting(&node, 1, first + 1);
    send(&mut reader, &["GET", "k"]);
    await_waiting(&node, 2, first + 1);
    assert_silent(&mut writer);
    assert_silent(&mut reader);
    puppet.ack(first, 1, None);
    assert_eq!(answer(&mut writer), "+OK");
    await_waiting(&node, 2, first + 1);
    assert_silent(&mut reader);
    // An acknowledgement under another epoch counts for nothing.
    puppet.ack(first + 1, 9, None);
    puppet.ack(first + 1, 1, None);
    assert_eq!((answer(&mut writer), answer(&mut reader)), (":2".into(), "2".into()));
}

#[test]
fn a_lost_member_is_waited_for_until_the_store_confirmed() {
    let (node, mut controller, puppet) = in_sync(|_| {}, 1);
    let mut writer = node.connect();
    send(&mut writer, &["SET", "k", "1"]);
    await_waiting(&node, 1, node.sequence());
    drop(puppet);
    wait_until(|| match Controller::hello(&node).standing.request {
        1 => Ok(()),
        other => Err(other.to_string()),
    });
    // A renewal that does not know of it yet confirms nothing.
    controller.grant(&node);
    await_waiting(&node, 1, 0);
    assert_silent(&mut writer);
    assert_eq!(controller.adopt(&node).standing.request_members.len(), 1);
    assert_eq!(answer(&mut writer), "+OK");
    assert_eq!(node.ask(&["SET", "k", "2"]), "+OK");
}

#[test]
fn below_min_in_sync_writes_are_refused_and_those_under_way_not_acknowledged() {
    let (node, mut controller, puppet) = in_sync(|_| {}, 2);
    let mut writer = node.connect();
    let before = node.sequence();
    send(&mut writer, &["SET", "k", "1"]);
    await_waiting(&node, 1, before + 1);
    drop(puppet);
    wait_until(|| {
        let said = node.ask(&["PING"]);
        let lacks = node.node.grants.commit.lacks_members();
        if lacks { Ok(()) } else { Err(said) }
    });
    controller.adopt(&node);
    assert_closed(&mut writer);
    let refused = "-NOREPLICAS Not enough good replicas to write.";
    assert_eq!(node.ask(&["SET", "k", "2"]), refused);
    assert_eq!(node.ask(&["GET", "k"]), "1");
    let mut stream = node.connect();
    for words in [vec!["MULTI"], vec!["SET", "k", "3"], vec!["EXEC"]] {
        send(&mut stream, &words);
    }
    let replies: Vec<String> = (0..3).map(|_| answer(&mut stream)).collect();
    let aborted = format!("-EXECABORT Transaction discarded because of: {}", &refused[1..]);
    assert_eq!(replies, ["+OK", "+QUEUED", &aborted]);
}

#[test]
fn a_demoted_master_closes_instead_of_answering() {
    let (node, controller, _puppet) = in_sync(|_| {}, 1);
    let mut writer = node.connect();
    let before = node.sequence();
    send(&mut writer, &["SET", "k", "1"]);
    await_waiting(&node, 1, before + 1);
    let (m, r) = (m(), r());
    let text = format!("{r} 127.0.0.1 1 master - 0-16383\n{m} 127.0.0.1 {} slave {r}", node.port);
    set_nodes(&node, &text, 2);
    assert_closed(&mut writer);
    assert_eq!(controller.grant(&node).standing.granted_epoch, 0);
    // Back by topology, it is not back by the old grant.
    set_nodes(&node, &topology(&node, 1), 3);
    let refused = controller.try_grant(&node, &m);
    assert!(refused.contains("was opened before and given up"), "{refused}");
}

#[test]
fn nothing_but_a_newer_grant_undoes_a_demotion() {
    let (node, controller, _puppet) = in_sync(|_| {}, 1);
    // What a controller read before the demotion, and sends after it; and a pause that a switchover
    // began.
    let seen = Controller::hello(&node);
    let pause_ms = 200;
    let paused_ns = clock::boottime_ns();
    assert_eq!(node.ask(&["CLIENT", "PAUSE", &pause_ms.to_string(), "WRITE"]), "+OK");
    let (m, r) = (m(), r());
    let text = format!("{r} 127.0.0.1 1 master - 0-16383\n{m} 127.0.0.1 {} slave {r}", node.port);
    set_nodes(&node, &text, 2);
    let newer = Controller { epoch: 2, ..Controller::of(&[member_of(&node)]) };
    let late = |controller: &Controller| {
        let words = controller.words(&m, &seen);
        let words: Vec<&str> =
            std::iter::once("CLUSTERX").chain(words.iter().map(String::as_str)).collect();
        node.ask(&words)
    };
    let moved = "-MOVED 7629 127.0.0.1:1";
    wait_until(|| {
        for late in [late(&controller), late(&newer)] {
            assert_eq!(Reply::parse(&late).unwrap().standing.granted_epoch, 0);
        }
        let (read, written) = (node.ask(&["GET", "k"]), node.ask(&["SET", "k", "1"]));
        assert_eq!((read.as_str(), written.as_str()), (moved, moved));
        let mut reader = node.connect();
        send(&mut reader, &["READONLY"]);
        send(&mut reader, &["GET", "k"]);
        let (ok, read) = (answer(&mut reader), answer(&mut reader));
        assert!(ok == "+OK" && read.starts_with("-MASTERDOWN"), "{ok} {read}");
        let passed_ms = (clock::boottime_ns() - paused_ns) / MS;
        if passed_ms > 2 * pause_ms { Ok(()) } else { Err(format!("{passed_ms} ms")) }
    });
    // Master by topology again, with a lease that would still be good: it is given up for ever.
    set_nodes(&node, &topology(&node, 1), 3);
    assert!(node.ask(&["GET", "k"]).starts_with("-CLUSTERDOWN"));
    let refused = late(&controller);
    assert!(refused.contains("was opened before and given up"), "{refused}");
    assert!(node.ask(&["GET", "k"]).starts_with("-CLUSTERDOWN"));
    assert_eq!(newer.grant(&node).standing.granted_epoch, 2);
    assert_eq!(node.ask(&["GET", "k"]), "nil");
}

#[test]
fn the_unacknowledged_tail_is_bounded() {
    let (node, _, mut puppet) =
        in_sync(|values| values.unacknowledged_max_bytes = Size(1 << 16), 1);
    let value = "v".repeat(50_000);
    let mut writer = node.connect();
    let before = node.sequence();
    for _ in 0..2 {
        send(&mut writer, &["SET", "k", &value]);
        await_waiting(&node, 1, node.sequence());
    }
    wait_until(|| {
        let bytes = crate::info::tail_bytes(&node.node);
        if bytes > 1 << 16 { Ok(()) } else { Err(format!("{bytes} unacknowledged")) }
    });
    let full = node.sequence();
    let mut other = node.connect();
    send(&mut other, &["SET", "other", "1"]);
    await_waiting(&node, 2, full);
    assert_eq!(node.sequence(), full, "it waits before it writes");
    assert!(full > before);
    puppet.ack(full, 1, None);
    assert_eq!((answer(&mut writer), answer(&mut writer)), ("+OK".into(), "+OK".into()));
    await_waiting(&node, 1, full + 1);
    puppet.ack(node.sequence(), 1, None);
    assert_eq!(answer(&mut other), "+OK");
}

#[test]
fn a_replicas_promise_is_a_lease() {
    let node = master(|_| {});
    let mut puppet = Puppet::follow(&node);
    let mut controller = Controller::of(&[member_of(&node), puppet.member]);
    controller.lease_ms = 300;
    controller.grant(&node);
    // The controller falls silent, and its lease runs out.
    wait_until(|| {
        puppet.ack(node.sequence(), 1, None);
        match node.ask(&["GET", "k"]) {
            refused if refused.starts_with("-CLUSTERDOWN") => Ok(()),
            other => Err(other),
        }
    });
    wait_until(|| {
        let stamp = puppet.stamp();
        puppet.ack(node.sequence(), 1, Some(stamp));
        match node.ask(&["GET", "k"]) {
            nil if nil == "nil" => Ok(()),
            other => Err(format!("{other} {stamp:?}")),
        }
    });
}

#[test]
fn a_real_replica_keeps_its_master_serving_and_refuses_to_replace_it() {
    let (a, b) = (master(|_| {}), start(|_| {}));
    assert_eq!(b.ask(&["CLUSTERX", "SETNODEID", &r()]), "+OK");
    let text = topology(&a, b.port);
    for node in [&a, &b] {
        set_nodes(node, &text, 2);
    }
    let mut controller = Controller::of(&[member_of(&a)]);
    controller.lease_ms = 5000;
    controller.grant(&a);
    // It joins by what the master asks for and the store adopts.
    wait_until(|| {
        let standing = controller.adopt(&a).standing;
        let count = controller.members.len();
        let is_in = count == 2 && b.node.replication.link_status() == LinkStatus::Up;
        if is_in { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    assert!(controller.members.contains(&member_of(&b)));
    let mut client = a.connect();
    send(&mut client, &["CLIENT", "REPLY", "SKIP"]);
    for words in [vec!["SET", "k", "0"], vec!["MULTI"], vec!["INCR", "k"], vec!["EXEC"]] {
        send(&mut client, &words);
    }
    send(&mut client, &["WAIT", "1", "10000"]);
    send(&mut client, &["GET", "k"]);
    let replies: Vec<String> = (0..5).map(|_| answer(&mut client)).collect();
    assert_eq!(replies, ["+OK", "+QUEUED", ":1", ":1", "1"]);
    // The controller is silent for longer than its lease; nobody but the replica keeps the master
    // serving.
    let silent_ns = clock::boottime_ns();
    wait_until(|| {
        let passed_ms = (clock::boottime_ns() - silent_ns) / MS;
        if passed_ms > controller.lease_ms { Ok(()) } else { Err(format!("{passed_ms} ms")) }
    });
    assert_eq!(a.ask(&["SET", "k", "2"]), "+OK");
    let promised = b.node.grants.holder.lock().promised_ns(clock::boottime_ns());
    assert!(promised > 0);
    // So it takes no grant itself, though a topology makes it master.
    let (m_id, r_id) = (m(), r());
    let text = format!(
        "{r_id} 127.0.0.1 {} master - 0-16383\n{m_id} 127.0.0.1 {} slave {r_id}",
        b.port, a.port
    );
    // Its controller reaches it through its replica.
    let words = controller.words(&m_id, &Controller::hello(&a));
    let relayed: Vec<&str> =
        ["CLUSTERX", "RELAY", &m_id].into_iter().chain(words.iter().map(String::as_str)).collect();
    // It gives its master a second for that.
    let relay = || Reply::parse(&b.ask(&relayed)).map_err(|error| error.to_string());
    let is_masters = |seen: Reply| assert_eq!((seen.myid, seen.standing.granted_epoch), (m(), 1));
    wait_until(|| relay().map(is_masters));
    let refused = b.ask(&["CLUSTERX", "RELAY", &r_id, "HEARTBEAT", "x", "1", "1"]);
    assert_eq!(refused, "-ERR relay: that is not the master of this node");
    set_nodes(&b, &text, 3);
    (controller.epoch, controller.request) = (2, 0);
    controller.members = [member_of(&b)].into_iter().collect();
    let passed_over = Reply::parse(&controller.try_grant(&b, &r_id)).unwrap().standing;
    assert_eq!(passed_over.granted_epoch, 0);
    assert!(passed_over.promised_ms > 0);
    wait_until(|| match Reply::parse(&controller.try_grant(&b, &r_id)).unwrap().standing {
        taken if taken.granted_epoch == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(b.ask(&["GET", "k"]).as_str(), "2");
}

/// A member answers for the set's data, and must have it until the store has a set without it (rule
/// R3).
#[test]
fn data_that_the_store_counts_is_not_replaced_by_a_full_copy() {
    let (node, mut controller, puppet) = in_sync(|_| {}, 1);
    let fetch = || {
        let mut stream = node.connect();
        let member = Puppet::member().to_string();
        for words in [["replconf", "holdfast", "1"], ["replconf", "member", &member]] {
            send(&mut stream, &words);
            assert_eq!(answer(&mut stream), "+OK");
        }
        send(&mut stream, &["_fetch_meta"]);
        answer(&mut stream)
    };
    assert!(fetch().starts_with("-INSYNC this data is in the in-sync set"), "{}", fetch());
    drop(puppet);
    wait_until(|| match Controller::hello(&node).standing.request {
        0 => Err("it asks for no other set".into()),
        _ => Ok(()),
    });
    assert!(fetch().starts_with("-INSYNC"), "asked for is not adopted");
    controller.adopt(&node);
    assert!(fetch().starts_with("holdfast 1 "), "{}", fetch());
}
