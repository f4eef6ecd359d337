//! What a cluster at rest is planned anew for.

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
    assert!(!is_news(before, &reply));
}

#[test]
fn what_plans_look_at_is_news() {
    let s = Script::serving(&["a", "b", "c"]);
    let before = s.observed.node(&id("a"));
    let seen = before.seen.as_ref().expect("an answer");
    let changes: [fn(&mut Reply); 12] = [
        |reply| reply.lease_remaining_ms = 0,
        |reply| reply.nonce = "2".into(),
        |reply| reply.version += 1,
        |reply| reply.role = Does::Slave,
        |reply| reply.paused = true,
        |reply| reply.loading = true,
        |reply| reply.stopping = true,
        |reply| reply.log_wait_ms = 1,
        |reply| reply.resync = Resync::Required,
        |reply| reply.link_status = LinkStatus::Up,
        |reply| reply.standing.request += 1,
        |reply| reply.standing.granted_epoch += 1,
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
