//! Entry points for foreign bytes: heartbeats, grants, moving sessions, PROXY headers, JSON.

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

use std::fmt::Debug;

use api::balancer::Desired;
use api::grant::{Grant, Member, Members};
use api::heard::Told;
use api::heartbeat::Reply;
use api::moving::{Session, find, trailer};
use api::proxy::{self, Opening, Parsed};
use api::rest::{BalancerSpec, ClusterSpec, Data, Failure, Namespaces, NodeSpec};
use serde::Serialize;
use serde::de::DeserializeOwned;

const REPLY: &[u8] = b"role:slave\r\nsequence:17\r\nmyid:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\
    cluster_id:00000000000000aa\r\nversion:-1\r\ntopology_hash:0123456789abcdef\r\nclock_ns:5\r\nnonce:beef\r\n\
    lease_mode:block-all\r\nlease_remaining_ms:3\r\nclient_access:balancer-only\r\n\
    balancer_sources:127.0.0.2/32,::1/128\r\nrefused_headers:10.0.8.3/3/200,2001:db8::3/1/0\r\n\
    link_status:sync\r\nlink_error:master has: no data\r\nmaster_host:::1\r\nmaster_port:6666\r\n\
    resync:running\r\npaused:1\r\nloading:0\r\nconnected_slaves:2\r\nslave0:ip=::1,port=1,offset=2,lag=15\r\n\
    slave1:ip=::1,port=2,offset=2,lag=15,member=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/0000000000000001/-\r\n\
    log_wait_ms:8\r\ndown:cccccccccccccccccccccccccccccccccccccccc\r\ndeposed_epoch:3\r\ndeposed_sequence:200\r\n\
    sync_done:4\r\nsync_of:10\r\nuptime_ms:9\r\nwall_ms:1798761599999\r\nincarnation:000000000000beef\r\n\
    boot:00000000000000000000000000000005\r\nhistory_epoch:4\r\nhistory_id:0000000000000003\r\n\
    granted_epoch:4\r\ncommitted:16\r\nrequest:2\r\n\
    request_members:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/0000000000000001/-\r\npromised_ms:1\r\n";
const GRANT: &[u8] = b"4 0000000000000003 0000000000000002 200 in-sync 2 7 \
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/000000000000beef/00000000000000000000000000000007,\
    bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/0000000000000001/-";

fn heartbeats(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = Reply::parse(&text);
    // A CR inside of a line is a sign like any other, and none at its end: the last field of a line
    // may lose it.
    if let Ok(reply) = Reply::parse(&text.replace('\r', "")) {
        reply.member();
        assert_eq!(Reply::parse(&reply.render()), Ok(reply));
    }
}

fn who_leads(bytes: &[u8]) {
    // The term of a heartbeat that never was is not told on.
    if let Some(told) = Told::parse(&String::from_utf8_lossy(bytes))
        && told.heard_ms.is_some()
    {
        assert_eq!(Told::parse(&told.render()), Some(told));
    }
}

fn grants(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split(' ').collect();
    if let Ok(grant) = Grant::parse(&words) {
        let written = grant.words();
        let written: Vec<&str> = written.iter().map(String::as_str).collect();
        assert_eq!(Grant::parse(&written), Ok(grant));
    }
    if let Ok(members) = text.parse::<Members>() {
        assert_eq!(members.to_string().parse(), Ok(members));
    }
    if let Ok(member) = text.parse::<Member>() {
        assert_eq!(member.to_string().parse(), Ok(member));
    }
}

/// A record that is read is written as it was, and found behind replies.
fn sessions(bytes: &[u8]) {
    if let Ok(session) = Session::decode(bytes) {
        let written = session.encode().expect("it came in a record");
        assert_eq!(Session::decode(&written), Ok(session));
    }
    if let Some(record) = find(bytes) {
        assert!(bytes.get(record).is_some());
    }
    let mut stream = b"+OK\r\n".to_vec();
    stream.extend(trailer(bytes.to_vec()).expect("it is short"));
    assert_eq!(find(&stream).map(|record| &stream[record]), Some(bytes));
}

/// A header is as long as it says, no part of it is one, and it is told from a command.
fn headers(bytes: &[u8]) {
    let opening = proxy::opening(bytes);
    if let Ok(Parsed::Header(header)) = proxy::parse(bytes) {
        assert_eq!(proxy::parse(&bytes[..header.len]), Ok(Parsed::Header(header.clone())));
        assert_eq!(proxy::parse(&bytes[..header.len - 1]), Ok(Parsed::Incomplete));
        assert_eq!(opening, Opening::Header);
        if let (Some(source), Some(destination)) = (header.source, header.destination) {
            let written = proxy::encode(source, destination);
            let Ok(Parsed::Header(read)) = proxy::parse(&written) else { panic!("{written:?}") };
            // An IPv4 address in the form of IPv6 is written as what it is.
            let plain = |at: std::net::SocketAddr| (at.ip().to_canonical(), at.port());
            assert_eq!(read.source.map(plain), Some(plain(source)));
            assert_eq!(read.destination.map(plain), Some(plain(destination)));
        }
    }
}

/// Whether it is one of this type.
fn document<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return false };
    let written = serde_json::to_vec(&value).expect("it can be written");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("it can be read"), value);
    true
}

/// What operators, controllers and load balancers send, by its type.
const DOCUMENTS: [fn(&[u8]) -> bool; 6] = [
    document::<ClusterSpec>,
    document::<NodeSpec>,
    document::<BalancerSpec>,
    document::<Data<Namespaces>>,
    document::<Failure>,
    document::<Desired>,
];

fn documents(bytes: &[u8]) {
    for document in DOCUMENTS {
        document(bytes);
    }
}

#[test]
fn any_heartbeat() {
    fuzz::run(heartbeats, &[REPLY, b"role:master\r\nsequence:1\r\nversion:1\r\n"]);
}

#[test]
fn any_word_of_who_leads() {
    let told = b"myid:a\r\ncluster_id:-\r\nterm:7\r\nheard_ms:80\r\nheard_term:6\r\n";
    fuzz::run(who_leads, &[told]);
}

#[test]
fn any_grant() {
    fuzz::run(grants, &[GRANT, b"1 0000000000000003 - 0 async 1 0 -"]);
}

#[test]
fn any_session() {
    let put = |text: &[u8]| [&(text.len() as u32).to_be_bytes()[..], text].concat();
    let count = |count: u32| count.to_be_bytes().to_vec();
    let parts = [
        vec![1, 0b10_1001, 3],
        vec![1; 32],
        put(b"10.0.0.1:5"),
        put(b"[2001:db8::1]:6379"),
        put(b"worker-1"),
        put(b"redis-py"),
        put(b"7"),
        count(2),
        count(2),
        put(b"GET"),
        put(b"k"),
        put(b"*1\r\n$4\r\nPI"),
    ];
    let record = parts.concat();
    assert!(Session::decode(&record).is_ok(), "{:?}", Session::decode(&record));
    fuzz::run(sessions, &[&record, &trailer(record.clone()).expect("it is short")]);
}

#[test]
fn any_header() {
    let at = |text: &str| text.parse().expect("an address");
    let mark = api::moving::Mark::new([7; 16]);
    let moving = proxy::encode_moving(at("10.0.0.1:5"), at("10.0.0.2:6379"), 9, &mark);
    let wide = proxy::encode(at("[2001:db8::1]:5"), at("10.0.0.2:6379"));
    let local = proxy::encode_local();
    fuzz::run(headers, &[&moving, &wide, &local, b"PROXY TCP4 10.0.0.1 10.0.0.2 5 6379\r\n"]);
}

#[test]
fn any_document() {
    let texts: [&[u8]; 6] = [
        br#"{"name":"c","nodes":["10.0.0.1:1","[::1]:2"],"password":"","replicas":1}"#,
        br#"{"addr":"10.0.0.1:1","announced_host":"h","announced_port":2}"#,
        br#"{"name":"b","kind":"builtin","endpoint":"http://127.0.0.1:1","token":"t"}"#,
        br#"{"data":{"namespaces":["a","b"]}}"#,
        br#"{"error":{"message":"no"},"data":null}"#,
        br#"{"term":1,"version":2,"frontends":[{"listen":{"host":"::1","port":1},"backend":null}]}"#,
    ];
    for (document, text) in DOCUMENTS.iter().zip(texts) {
        assert!(document(text), "{}", text.escape_ascii());
    }
    fuzz::run(documents, &texts);
}
