//! Ports of TLS: who is sent them, and where clients are sent by them.

use std::num::NonZeroU16;

use topology::TlsPorts;

use super::*;
use crate::RecordError;

const PLAIN: &str = "plain";

/// The master a has both ports and knows them, b knows none.
fn with_ports() -> Script {
    let mut s = Script::serving(&["a", "b"]);
    s.record.shards[0].nodes[0].tls = ports(2, 3);
    s.observed.plain_hash = Some(PLAIN.into());
    s.answers_with("a", |reply| reply.knows_tls_ports = true);
    s.answers_with("b", |reply| reply.topology_hash = PLAIN.into());
    s
}

fn ports(local: u16, announced: u16) -> TlsPorts {
    TlsPorts { local: NonZeroU16::new(local), announced: NonZeroU16::new(announced) }
}

fn stored(plan: Plan) -> Option<(i64, String)> {
    plan.actions.into_iter().find_map(|action| match action {
        Action::CompareAndSwap { record, reason } => Some((record.version, reason)),
        _ => None,
    })
}

fn is_settled(s: &Script, place: usize) -> bool {
    crate::settled(&s.record, &s.observed, &s.policy, &s.record.shards[0].nodes[place])
}

#[test]
fn a_node_that_knows_no_ports_of_tls_is_settled_without_them() {
    let mut s = with_ports();
    assert!(is_settled(&s, 0) && is_settled(&s, 1));
    assert_eq!(stored(s.plan()), None);
    // Where the topology has none, both are the same.
    s.observed.plain_hash = None;
    assert!(is_settled(&s, 0) && !is_settled(&s, 1));
}

#[test]
fn a_node_that_knows_ports_of_tls_since_its_restart_is_told_of_them() {
    let mut s = with_ports();
    s.answers_with("b", |reply| reply.knows_tls_ports = true);
    assert!(!is_settled(&s, 1));
    let why = "b:1 knows ports of TLS, and has a topology without them";
    assert_eq!(stored(s.plan()), Some((8, why.to_owned())));
    s.acts();
    for name in ["a", "b"] {
        s.answers_with(name, |reply| (reply.version, reply.topology_hash) = (8, HASH.into()));
    }
    assert!(is_settled(&s, 0) && is_settled(&s, 1));
    assert_eq!(stored(s.plan()), None);
    // And back: it starts with what an earlier version keeps of it.
    s.answers_with("b", |reply| {
        (reply.knows_tls_ports, reply.topology_hash) = (false, PLAIN.into());
    });
    assert!(is_settled(&s, 1));
    assert_eq!(stored(s.plan()), None);
}

#[test]
fn balancers_have_a_frontend_for_each_kind_that_leads_to_the_port_of_both() {
    let s = with_ports();
    let told = s.plan().actions.into_iter().find_map(|action| match action {
        Action::ApplyBalancers(desired) => Some(desired.frontends),
        _ => None,
    });
    let told = told.expect("another frontend");
    let led = |frontend: &api::balancer::Frontend| {
        let backend = frontend.backend.as_ref().map(|at| format!("{}:{}", at.host, at.port));
        (frontend.listen.to_string(), backend.unwrap_or_default())
    };
    let led: Vec<_> = told.iter().map(led).collect();
    let wanted = [("lb0:1", "a:1"), ("lb0:3", "a:1"), ("lb1:1", "b:1")];
    assert_eq!(led, wanted.map(|(listen, at)| (listen.to_owned(), at.to_owned())));
}

#[test]
fn the_announced_port_of_tls_goes_with_the_role_and_the_local_one_stays() {
    let mut record = with_ports().record;
    assert!(record.promote(0, &id("b")));
    let [a, b] = record.shards[0].nodes.as_slice() else { panic!("two nodes") };
    assert_eq!((a.announced.clone(), a.tls), (Some(endpoint("lb1")), ports(2, 0)));
    assert_eq!((b.announced.clone(), b.tls), (Some(endpoint("lb0")), ports(0, 3)));
    // A master that is announced nowhere has nothing to hand over.
    let mut record = with_ports().record;
    (record.shards[0].nodes[0].announced, record.shards[0].nodes[0].tls) = (None, ports(2, 0));
    record.shards[0].nodes[1].tls = ports(0, 4);
    assert!(record.promote(0, &id("b")));
    let [a, b] = record.shards[0].nodes.as_slice() else { panic!("two nodes") };
    assert_eq!((a.announced.clone(), a.tls), (None, ports(2, 0)));
    assert_eq!((b.announced.clone(), b.tls), (Some(endpoint("lb1")), ports(0, 4)));
}

#[test]
fn addresses_of_tls_belong_to_one_node() {
    let mut record = with_ports().record;
    assert_eq!(record.check(), Ok(()));
    record.shards[0].nodes[1].local = Endpoint { host: "a".into(), port: 2 };
    let taken = Endpoint { host: "a".into(), port: 2 };
    assert_eq!(record.check(), Err(RecordError::Address(taken)));
    let mut s = with_ports();
    s.record.shards[0].nodes[1].announced = Some(Endpoint { host: "LB0".into(), port: 3 });
    let alarms = s.plan().alarms;
    let is_told = |alarm: &String| alarm.contains("a:1, b:1 are all announced at lb0:3");
    assert!(alarms.iter().any(is_told), "{alarms:#?}");
}

#[test]
fn a_record_keeps_ports_of_tls_and_one_without_reads_as_before() {
    let record = with_ports().record;
    let text = |node: &Node| serde_json::to_value(node).unwrap();
    let [a, b] = record.shards[0].nodes.as_slice() else { panic!("two nodes") };
    assert_eq!(text(a)["tls"], serde_json::json!({ "local": 2, "announced": 3 }));
    assert_eq!(text(b).get("tls"), None);
    for node in [a, b] {
        assert_eq!(&serde_json::from_value::<Node>(text(node)).unwrap(), node);
    }
}
