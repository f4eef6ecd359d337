//! What nodes and load balancers say of each other, and balancers that are removed.

use api::heartbeat::Stranger;

use super::*;

/// The alarms of the plan.
fn alarms(s: &Script) -> Vec<String> {
    s.plan().alarms.into_iter().collect()
}

impl Script {
    /// The balancer's record.
    fn registered(&mut self, sources: &[&str]) {
        self.record.balancers[0].sources = sources.iter().map(ToString::to_string).collect();
    }

    fn balancer_says(&mut self, change: impl FnOnce(&mut crate::BalancerObserved)) {
        change(self.observed.balancers.entry("lb".into()).or_default());
    }

    #[track_caller]
    fn alarm(&self, parts: &[&str]) {
        let alarms = alarms(self);
        let found = alarms.iter().any(|alarm| parts.iter().all(|part| alarm.contains(part)));
        assert!(found, "{parts:?} in {alarms:#?}");
    }
}

#[test]
fn both_sides_agree_and_nothing_is_said() {
    let mut s = Script::serving(&["a", "b"]);
    assert_eq!(alarms(&s), [""; 0]);
    // One address of the network that nodes list, or a network around it.
    for sources in [&["10.1.2.3"][..], &["10.0.0.0/8"], &["10.1.0.0/16"], &["::ffff:10.1.2.3"]] {
        s.registered(sources);
        let of_sources = |alarm: &String| alarm.contains("dials from");
        assert!(!alarms(&s).iter().any(of_sources), "{sources:?}: {:?}", alarms(&s));
    }
}

#[test]
fn a_balancer_that_a_node_does_not_list_is_told_with_both_names_and_the_remedy() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("b", |reply| reply.balancer_sources = vec!["10.1.0.1/32".into()]);
    s.registered(&["10.1.0.1", "10.1.0.3"]);
    s.alarm(&[
        "balancer lb dials from 10.1.0.3",
        "not in the `balancer-sources` of b:1:",
        "Add it to their node.conf",
    ]);
    assert_eq!(alarms(&s).iter().filter(|alarm| alarm.contains("dials from")).count(), 1);
    // One list of several nodes, and a node that lists nobody.
    s.answers_with("a", |reply| reply.balancer_sources = Vec::new());
    s.alarm(&["balancer lb dials from 10.1.0.1", "of a:1:"]);
    s.alarm(&["balancer lb dials from 10.1.0.3", "of a:1, b:1:"]);
}

#[test]
fn what_a_balancer_says_of_itself_counts_beside_what_is_registered() {
    let mut s = Script::serving(&["a", "b"]);
    s.balancer_says(|seen| seen.source = Some("192.168.0.3".into()));
    s.alarm(&["balancer lb dials from 192.168.0.3", "of a:1, b:1:"]);
    s.alarm(&["says that it dials from 192.168.0.3", "registered with source 10.0.0.0/8"]);
    s.registered(&[]);
    s.alarm(&["says that it dials from 192.168.0.3", "registered without a source"]);
    // Nothing configured: what its own host shows of its connections.
    let mut s = Script::serving(&["a", "b"]);
    s.balancer_says(|seen| {
        seen.dials.insert(id("b"), "192.168.0.4".into());
    });
    s.alarm(&["balancer lb dials from 192.168.0.4", "of b:1:"]);
    s.alarm(&["says that it dials from 192.168.0.4"]);
    // The node answers its PING: it knows the balancer, by an address that a router gave it.
    let now = s.now;
    s.balancer_says(|seen| seen.reaches([(id("b"), true)], now));
    assert_eq!(alarms(&s), [""; 0]);
}

#[test]
fn a_balancer_without_headers_is_none_for_nodes_that_want_them() {
    let mut s = Script::serving(&["a", "b"]);
    s.balancer_says(|seen| seen.sends_header = Some(false));
    s.alarm(&["balancer lb sends no PROXY header", "a:1, b:1", "send_proxy = true"]);
    for name in ["a", "b"] {
        s.answers_with(name, |reply| {
            reply.balancer_sources = Vec::new();
            reply.client_access = ClientAccess::Any;
        });
    }
    let about = |alarm: &String| alarm.contains("PROXY header") || alarm.contains("dials from");
    assert!(!alarms(&s).iter().any(about), "as before any header: {:?}", alarms(&s));
}

#[test]
fn what_nodes_refuse_is_told_as_long_as_it_lasts() {
    let mut s = Script::serving(&["a", "b"]);
    let refused = |address: &str, age_ms| Stranger {
        address: address.parse().expect("an address"),
        connections: 7,
        age_ms,
    };
    s.answers_with("a", |reply| reply.strangers = vec![refused("192.168.0.3", 100)]);
    s.answers_with("b", |reply| reply.strangers = vec![refused("192.168.0.3", 59_000)]);
    s.alarm(&[
        "a load balancer at 192.168.0.3 is refused by a:1, b:1,",
        "no listed balancer is known",
    ]);
    let before = alarms(&s);
    s.answers_with("a", |reply| reply.strangers = vec![refused("192.168.0.3", 300)]);
    assert_eq!(alarms(&s), before, "one alarm, not one for each number");
    s.answers_with("b", |reply| reply.strangers = vec![refused("192.168.0.3", 60_000)]);
    s.alarm(&["a load balancer at 192.168.0.3 is refused by a:1,"]);
    s.registered(&["10.1.0.1", "192.168.0.3"]);
    s.alarm(&["a load balancer at 192.168.0.3 is refused by a:1,", "it is balancer lb's"]);
    s.answers_with("a", |reply| reply.strangers = vec![refused("192.168.0.3", 60_000)]);
    assert!(!alarms(&s).iter().any(|alarm| alarm.contains("is refused by")));
}

#[test]
fn nodes_without_any_door_are_told() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.balancers.clear();
    s.alarm(&["no load balancer is listed", "a:1, b:1", "holdfast ctl balancer add"]);
    for name in ["a", "b"] {
        s.answers_with(name, |reply| reply.client_access = ClientAccess::Any);
    }
    assert_eq!(alarms(&s), [""; 0]);
}

#[test]
fn a_balancer_is_closed_before_it_is_forgotten() {
    let mut s = Script::serving(&["a", "b"]);
    let mut other = s.record.balancers[0].clone();
    (other.name, other.endpoint) = ("lb2".into(), "http://lb2".into());
    s.record.balancers.push(other);
    s.record.balancers[0].closing = true;
    s.balancer_answers(&["a"]);
    let told = s.acts();
    let desired = told.actions.iter().find_map(|action| match action {
        Action::ApplyBalancers(desired) => Some(desired),
        _ => None,
    });
    let desired = desired.expect("a demand");
    assert_eq!(desired.closing, ["lb".to_owned()].into());
    assert!(desired.frontends.iter().any(|f| f.backend.is_some()), "the other one stays open");
    let stays = |s: &Script| {
        let plan = s.plan();
        assert!(plan.actions.iter().all(|a| !matches!(a, Action::CompareAndSwap { .. })));
    };
    // An answer to what it was told before, one with a session left, one with a way left: none is
    // the end of it.
    stays(&s);
    s.balancer_answers(&["a"]);
    s.balancer_says(|seen| {
        let answer = seen.in_force.as_mut().expect("an answer");
        answer.frontends.clear();
    });
    stays(&s);
    s.balancer_answers(&[]);
    stays(&s);
    s.balancer_says(|seen| {
        seen.in_force.as_mut().expect("an answer").frontends.clear();
        seen.error = Some("an old worker did not tell its sessions".into());
    });
    stays(&s);
    s.alarm(&["balancer lb is to be removed and does not close: an old worker"]);
    s.balancer_says(|seen| seen.error = None);
    s.acts();
    let left: Vec<&str> = s.record.balancers.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(left, ["lb2"]);
    // What comes after it is newer than what closed it.
    let before = s.observed.desired.as_ref().map(|desired| desired.version);
    s.acts();
    assert!(s.observed.desired.as_ref().map(|desired| desired.version) > before);
}

#[test]
fn a_balancer_that_closes_is_asked_for_nothing_more() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.balancers[0].closing = true;
    s.acts();
    let now = s.now;
    s.balancer_says(|seen| seen.reaches([(id("a"), false), (id("b"), true)], now));
    s.after_ms(1_000);
    assert!(!alarms(&s).iter().any(|alarm| alarm.contains("is not reached")), "{:?}", alarms(&s));
}

#[test]
fn a_master_that_is_shown_to_nobody_is_told() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.shards[0].nodes[1].announced = None;
    assert!(!alarms(&s).iter().any(|alarm| alarm.contains("no announced endpoint")));
    s.record.shards[0].nodes[0].announced = None;
    s.alarm(&[
        "master a:1 has no announced endpoint",
        "served to nobody",
        "ctl node announce a:1 HOST:PORT",
    ]);
    s.answers_with("a", |reply| reply.client_access = ClientAccess::Any);
    assert!(!alarms(&s).iter().any(|alarm| alarm.contains("no announced endpoint")));
}

#[test]
fn two_nodes_at_one_address_are_told() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.record.shards[0].nodes[2].announced = Some(Endpoint { host: "LB1".into(), port: 1 });
    s.alarm(&["b:1, c:1 are all announced at lb1:1", "ctl node announce"]);
}
