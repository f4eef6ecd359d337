//! What a cluster at rest is planned anew for.

use api::moves::wish::{PartId, Wish, Wished};

use super::*;
use crate::{is_news, rests};

#[test]
fn a_cluster_that_serves_rests_and_one_whose_master_is_missed_does_not() {
    let mut s = Script::serving(&["a", "b", "c"]);
    assert!(rests(&s.record, &s.plan(), s.now), "{}", show(&s.plan()));
    s.misses("a", 1);
    assert!(!rests(&s.record, &s.plan(), s.now));
}

#[test]
fn a_cluster_with_something_to_do_does_not_rest() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.record.version += 1;
    let plan = s.plan();
    assert!(!plan.actions.is_empty());
    assert!(!rests(&s.record, &plan, s.now));
}

#[test]
fn what_changes_all_the_time_is_no_news() {
    let s = Script::serving(&["a", "b", "c"]);
    let before = s.observed.node(&id("a"));
    let seen = before.seen.as_ref().expect("an answer");
    let mut reply = seen.reply.clone();
    reply.sequence += 5;
    reply.clock_ns += 1;
    reply.uptime_ms += 1;
    reply.wall_ms += 1;
    reply.lease_remaining_ms -= 1;
    reply.standing.committed += 5;
    // A status tells of it, and no plan.
    reply.certificates =
        api::certificate::Certificate::of("tls-cert-file", Some(1)).into_iter().collect();
    let (option, accepts) = ("tls-ca-cert-file".to_owned(), vec!["ab.cd".to_owned()]);
    reply.trust = vec![api::certificate::Trust { option, accepts, issued_by: None }];
    // There are none without a move, and a cluster with one does not rest.
    reply.flows = Some(Vec::new());
    assert!(!is_news(before, &reply));
}

#[test]
fn what_plans_look_at_is_news() {
    let s = Script::serving(&["a", "b", "c"]);
    let before = s.observed.node(&id("a"));
    let seen = before.seen.as_ref().expect("an answer");
    let changes: [fn(&mut Reply); 14] = [
        |reply| reply.lease_remaining_ms = 0,
        |reply| reply.nonce = "2".into(),
        |reply| reply.version += 1,
        |reply| reply.knows_tls_ports = true,
        |reply| reply.role = Does::Slave,
        |reply| reply.paused = true,
        |reply| reply.loading = true,
        |reply| reply.stopping = true,
        |reply| reply.log_wait_ms = 1,
        |reply| reply.resync = Resync::Required,
        |reply| reply.link_status = LinkStatus::Up,
        |reply| reply.standing.request += 1,
        |reply| reply.standing.granted_epoch += 1,
        |reply| {
            let (id, wish) = (PartId::of_wish([1; 20]), Wish::Cancel(Vec::new()));
            reply.wishes.push(Wished { id, is_heard: false, wish });
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut reply = seen.reply.clone();
        change(&mut reply);
        assert!(is_news(before, &reply), "change {number}");
    }
}

#[test]
fn an_answer_after_silence_or_an_error_is_news() {
    let mut s = Script::serving(&["a", "b", "c"]);
    let reply = s.observed.node(&id("a")).seen.clone().expect("an answer").reply;
    s.misses("a", 1);
    assert!(is_news(s.observed.node(&id("a")), &reply));
    s.answers("a", reply.clone());
    assert!(!is_news(s.observed.node(&id("a")), &reply));
    let now = s.now;
    s.observed.complained(&id("a"), now, "ERR max number of clients reached");
    assert!(is_news(s.observed.node(&id("a")), &reply));
    assert!(is_news(&crate::NodeObserved::default(), &reply), "never heard of");
}

#[test]
fn what_a_plan_asks_for_is_waited_for() {
    let mut s = Script::serving(&["a", "b", "c"]);
    assert!(crate::awaited(&s.plan()).is_empty());
    // Both replicas are compared once their master is fenced, and say what they said before.
    s.misses("a", 4);
    s.acts();
    s.after_ms(5_000);
    s.balancer_answers(&[]);
    let plan = s.plan();
    let awaited: Vec<String> = crate::awaited(&plan).into_iter().collect();
    assert_eq!(awaited, [id("b"), id("c")], "{}", show(&plan));
    for name in ["b", "c"] {
        let before = s.observed.node(&id(name));
        let reply = &before.seen.as_ref().expect("an answer").reply;
        assert!(!is_news(before, reply), "{name}");
    }
}

fn answer(of: &mut crate::BalancerObserved) -> &mut InForce {
    of.in_force.as_mut().expect("an answer")
}

#[test]
fn a_balancer_that_says_the_same_again_is_no_news() {
    let mut s = Script::serving(&["a", "b"]);
    s.balancer_answers(&["a"]);
    let before = s.observed.balancers.values().next().expect("a balancer").clone();
    let later = |change: fn(&mut crate::BalancerObserved)| {
        let mut after = before.clone();
        change(&mut after);
        crate::is_news_of_balancer(&before, &after)
    };
    assert!(!later(|of| answer(of).at = Time::from_millis(77_000)));
    assert!(!later(|of| answer(of).sessions[0].count += 5));
    assert!(!later(|of| of.certificates =
        vec![api::certificate::Certificate { option: "tls.cert_file".to_owned(), ends_s: 1 }]));
    let news: [fn(&mut crate::BalancerObserved); 8] = [
        |of| answer(of).version += 1,
        |of| answer(of).sessions[0].count = 0,
        |of| answer(of).sessions.clear(),
        |of| answer(of).frontends.clear(),
        |of| answer(of).start_id.push('x'),
        |of| of.in_force = None,
        |of| of.error = Some("no answer".to_owned()),
        |of| of.source = Some("127.0.0.9".to_owned()),
    ];
    for (number, change) in news.into_iter().enumerate() {
        assert!(later(change), "change {number}");
    }
}
