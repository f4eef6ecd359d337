//! Scripted controllers beside this one.

use api::store::{Heeds, Said, StoreId};

use super::*;
use crate::{Guard, Led, guarded, said};

impl Script {
    fn led(&mut self, name: &str, term: u64, heard_ms_ago: Option<u64>) {
        let at = self.now;
        let heard_at = heard_ms_ago.map(|ms| Time::from_nanos(at.nanos() - ms * 1_000_000));
        self.observed.nodes.entry(id(name)).or_default().led =
            Some(Led { term, heard_at, at, store: None });
        self.observed.heard(&id(name), at);
    }

    fn led_from(&mut self, name: &str, store: StoreId) {
        self.led(name, 3, Some(80));
        let led = self.observed.nodes.entry(id(name)).or_default().led.as_mut();
        led.expect("it is led").store = Some(store);
    }

    fn guards(&mut self) {
        let (since, from) = (self.now, "h1 /a/store".to_owned());
        self.observed.guard = Some(Guard { since, quiet_ms: 1_000, from, rival: None });
    }

    fn judges(&mut self) {
        self.observed.guard = guarded(&self.record, &self.observed);
    }
}

/// Not an alarm for each node, and no word of nodes that are down.
#[test]
fn a_controller_that_was_replaced_says_so_in_one_line() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.after_ms(100_000);
    s.observed.term = 3;
    s.record.term = 3;
    for name in ["a", "b", "c"] {
        s.led(name, 100, Some(80));
    }
    s.check(expect![[r#"
        leases: 
        suspect: the controller of term 100 leads
        alarm: the controller of term 100 leads, this controller has term 3: it does nothing: stop it, or, if it is the one that should lead, stop the other
    "#]]);
    // Nobody leads: the store was restored, and its terms are old.
    for name in ["a", "b", "c"] {
        s.led(name, 100, Some(60_000));
    }
    s.check(expect![[r#"
        leases: 
        suspect: the nodes were led with term 100
        alarm: the nodes were led with term 100, this controller has term 3: they refuse it, and hear no other: set `min_term = 101` and start it again
    "#]]);
    // Silent ones change nothing of it, and one that obeys does.
    s.misses("c", 4);
    assert_eq!(s.plan().alarms.len(), 1);
    s.observed.nodes.entry(id("c")).or_default().led = None;
    s.answers("c", reply("c", 7, Does::Slave));
    let plan = s.plan();
    assert_eq!(plan.leases.len(), 1, "{plan:?}");
    assert!(
        plan.alarms.iter().any(|alarm| alarm.starts_with("a:1, b:1 obey a controller of term 100"))
    );
}

#[test]
fn a_moved_store_leads_once_most_nodes_hear_nobody() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.guards();
    s.check(expect![[r#"
        leases: 
        suspect: asking the nodes whether another controller leads
        alarm: the store of this controller was copied or moved from h1 /a/store: it leads once most nodes say that they hear no other; if they cannot, stop the other and start this one with --take-over
    "#]]);
    // What they heard before is its own predecessor's.
    s.after_ms(999);
    for name in ["a", "b", "c"] {
        s.led(name, 100, Some(1_000));
    }
    s.judges();
    assert!(s.observed.guard.is_some(), "not long enough");
    s.after_ms(1);
    s.led("a", 100, Some(1_100));
    s.judges();
    assert!(s.observed.guard.is_some(), "one of three");
    s.led("b", 100, None);
    s.judges();
    assert_eq!(s.observed.guard, None);
}

#[test]
fn a_copied_store_never_leads_beside_the_one_it_was_copied_from() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.guards();
    s.after_ms(500);
    s.led("a", 100, Some(80));
    s.judges();
    s.check(expect![[r#"
        leases: 
        suspect: the controller of term 100 leads
        alarm: the controller of term 100 leads, and the store of this one was copied or moved from h1 /a/store: it does nothing. Stop it, or, if it is the one that should lead, stop the other and start it with --take-over
    "#]]);
    // Also when that one pauses: it is the one that knows what happened since the copy.
    s.after_ms(60_000);
    for name in ["a", "b", "c"] {
        s.led(name, 100, Some(59_000));
    }
    s.judges();
    assert_eq!(s.observed.guard.as_ref().and_then(|guard| guard.rival), Some(100));
    assert!(s.plan().actions.is_empty() && s.plan().leases.is_empty());
}

const OWN: StoreId = StoreId { name: 0xb, generation: 2 };

/// Rule O7: whatever the terms are, and as a word that names both stores and what is to be done.
#[test]
fn a_controller_of_a_store_that_the_nodes_refuse_does_nothing_and_says_so() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.after_ms(100_000);
    (s.observed.term, s.record.term) = (1_000, 1_000);
    s.observed.store = Some(OWN);
    for name in ["a", "b", "c"] {
        s.led_from(name, StoreId { name: 0xa, generation: 3 });
    }
    s.check(expect![[r#"
        leases: 
        suspect: the nodes are led from store 000000000000000a, generation 3
        alarm: a:1, b:1, c:1 are led from store 000000000000000a, generation 3, this controller leads from store 000000000000000b, generation 2: it does nothing: stop the controllers of one of the two for good; if this one is to lead, `holdfast ctl store adopt` on it takes the place of the other
    "#]]);
    for name in ["a", "b", "c"] {
        s.led_from(name, StoreId { generation: 3, ..OWN });
    }
    let plan = s.plan();
    assert!(plan.actions.is_empty() && plan.leases.is_empty(), "{plan:?}");
    assert_eq!(plan.alarms.len(), 1, "{:?}", plan.alarms);
    assert!(
        plan.alarms.iter().all(|alarm| alarm.contains(
            "are led from store 000000000000000b, generation 3, this controller leads from store 000000000000000b, generation 2: it does nothing: that one counts"
        )),
        "{:?}",
        plan.alarms
    );
    // One that obeys is looked after, and the others are named.
    s.observed.nodes.entry(id("c")).or_default().led = None;
    s.answers("c", reply("c", 7, Does::Slave));
    let plan = s.plan();
    assert!(plan.stands_back.is_none(), "{plan:?}");
    assert!(
        plan.alarms.iter().any(|alarm| alarm.starts_with(
            "a:1, b:1 are led from store 000000000000000b, generation 3, the others from store"
        )),
        "{:?}",
        plan.alarms
    );
}

#[test]
fn nodes_that_know_its_store_or_none_are_no_reason_to_stand_back() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.after_ms(100_000);
    (s.observed.term, s.record.term) = (1_000, 1_000);
    for own in [None, Some(OWN)] {
        s.observed.store = own;
        for name in ["a", "b", "c"] {
            s.led_from(name, StoreId { generation: 1, ..OWN });
        }
        assert_eq!(s.plan().stands_back, None, "{own:?}");
    }
    // A store without a name that can be said is told apart by terms alone.
    s.observed.store = None;
    s.led_from("a", StoreId { name: 0xa, generation: 9 });
    assert_eq!(s.plan().stands_back, None);
}

#[test]
fn a_store_that_takes_the_place_of_another_says_so_to_its_nodes() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.after_ms(100_000);
    (s.observed.term, s.record.term) = (1_000, 1_000);
    s.observed.store = Some(OWN);
    let (lost, older) =
        (StoreId { name: 0xa, generation: 3 }, StoreId { name: 0xa, generation: 2 });
    let to = |s: &Script| said(&s.record, &s.observed, Heeds::Store(older));
    assert_eq!(to(&s), Some(Said { by: OWN, instead_of: None }));
    // By an adoption of the store, for all clusters; by an import, for one.
    s.observed.takes = vec![lost];
    assert_eq!(to(&s), Some(Said { by: OWN, instead_of: Some(lost) }));
    s.observed.takes = Vec::new();
    s.record.instead_of = vec![lost];
    assert_eq!(to(&s), Some(Said { by: OWN, instead_of: Some(lost) }));
    for name in ["a", "b", "c"] {
        s.led_from(name, older);
    }
    assert_eq!(s.plan().stands_back, None);
    assert_eq!(said(&s.record, &s.observed, Heeds::Unsaid), None);
}
