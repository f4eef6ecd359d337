//! Scripted plans of nodes that answer with errors, and of a controller that cannot ask: neither is a node's silence.

use super::grants::in_sync;
use super::*;

impl Script {
    fn complains(&mut self, name: &str, error: &str) {
        let now = self.now;
        self.observed.complained(&id(name), now, error);
    }
}

#[test]
fn a_master_that_answers_with_errors_is_alive_and_stays_master() {
    let mut s = in_sync(&["a", "b"]);
    s.misses("a", 3);
    for _ in 0..50 {
        s.after_ms(200);
        s.answers_with("b", |_| {});
        s.complains("a", "ERR max number of clients reached");
        s.check(expect![[r#"
            leases: a
            grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
            suspect: master a:1: answers with an error: ERR max number of clients reached
            alarm: a:1: answers with an error: ERR max number of clients reached
        "#]]);
    }
    s.answers_with("a", |_| {});
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
    "#]]);
}

#[test]
fn a_master_that_has_complained_and_then_is_silent_is_down() {
    let mut s = in_sync(&["a", "b"]);
    s.complains("a", "NOAUTH Authentication required.");
    s.after_ms(800);
    s.answers_with("b", |_| {});
    s.misses("a", 4);
    let plan = s.plan();
    assert_eq!(plan.shards[0].word(), "fencing", "{}", show(&plan));
}

#[test]
fn what_a_complaining_node_said_before_is_no_news_of_it() {
    let mut s = in_sync(&["a", "b"]);
    s.complains("b", "LOADING kvrocks is restoring the db from backup");
    s.misses("a", 4);
    let plan = s.plan();
    // The replica may not be what it was: nobody is promoted on its old word.
    assert!(!plan.actions.iter().any(|action| matches!(action, Action::CompareAndSwap { .. })));
    assert_eq!(plan.shards[0].word(), "stuck", "{}", show(&plan));
}

#[test]
fn a_controller_that_cannot_ask_counts_no_silence() {
    let mut s = in_sync(&["a", "b"]);
    for _ in 0..50 {
        s.after_ms(200);
        let now = s.now;
        for name in ["a", "b"] {
            s.observed.unasked(&id(name), now, "this controller cannot open a connection");
        }
        let plan = s.plan();
        assert_eq!(plan.shards[0].word(), "suspect", "{}", show(&plan));
        assert_eq!(plan.actions, []);
    }
}
