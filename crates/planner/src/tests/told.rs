//! What a person is told of a shard that serves.

use super::*;

#[test]
fn a_replica_without_a_stream_is_told_of_after_a_while() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("b", |reply| reply.link_status = LinkStatus::Connecting);
    let node = s.observed.nodes.get_mut(&id("b")).expect("b");
    node.unlinked_since = Some(s.now);
    s.after_ms(1_999);
    s.check(expect![[r#"
        leases: a
        steady: 
    "#]]);
    s.after_ms(1);
    s.check(expect![[r#"
    "#]]);
    s.observed.nodes.get_mut(&id("b")).expect("b").unlinked_since = None;
    assert!(s.plan().alarms.is_empty());
}

fn clocks(ahead_ms: &[(&str, i64)]) -> std::collections::BTreeSet<String> {
    let mut s = Script::serving(&["a", "b", "c"]);
    for (name, ms) in ahead_ms {
        s.observed.nodes.get_mut(&id(name)).expect("a node").clock_ahead_ms = Some(*ms);
    }
    s.plan().alarms
}

#[test]
fn a_clock_that_is_off_is_told_of_and_whose_it_is() {
    assert!(clocks(&[("a", 0), ("b", 900), ("c", -1_000)]).is_empty());
    let said = clocks(&[("a", 3), ("b", 3_600_050), ("c", 0)]);
    expect![[r#"
    "#]]
    .assert_debug_eq(&said);
    // The words do not change with every answer.
    assert_eq!(said, clocks(&[("a", 3), ("b", 3_612_345), ("c", 0)]));
    let said = clocks(&[("a", 61_000), ("b", 61_100), ("c", 60_900)]);
    expect![[r#"
    "#]]
    .assert_debug_eq(&said);
}

#[test]
fn lost_writes_are_an_alarm_for_an_hour() {
    let mut s = Script::serving(&["a", "b"]);
    s.observed.losses.insert(0, (s.now, "shard 0: 22 writes are lost".to_owned()));
    assert_eq!(s.plan().alarms.into_iter().collect::<Vec<_>>(), ["shard 0: 22 writes are lost"]);
    s.after_ms(3_600_000);
    assert!(s.plan().alarms.is_empty());
}

#[test]
fn nobody_is_promoted_that_lacks_more_than_may_be_lost() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("a", |reply| reply.sequence = 122);
    s.record.max_lag = Some(21);
    s.misses("a", 4);
    s.check(expect![[r#"
    "#]]);
    s.record.max_lag = Some(22);
    s.check(expect![[r#"
    "#]]);
}
