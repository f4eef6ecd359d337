//! A controllers' store that was restored from an older copy gives numbers of moves again, and does
//! not know what later moves have brought.

use super::*;

impl Master {
    fn order_for(&self, slots: &str, order: Order) -> Said {
        let ordered = Ordered { id: ID, slots: slots.parse().unwrap(), term: 1, order };
        let said = self.heartbeat(&[Asked::Do(ordered)]).moves.unwrap();
        said.into_iter().find(|said| said.id == ID).unwrap()
    }
}

#[test]
fn a_number_counts_for_the_slots_that_it_was_given_for() {
    let cluster = Cluster::new();
    let tags = tags(10);
    let mut client = Client::new(&cluster);
    fill(&mut client, &tags);
    cluster.copy();
    let (other, own) = ("4096-4100", MOVING.parse::<Slots>().ok());
    // The giver has no mark yet, and serves these as well.
    let mut at = None;
    wait_until(|| {
        let frozen = cluster.s.order_for(other, Order::Freeze { number: 1 });
        assert_eq!((&frozen.slots, frozen.feed), (&other.parse().ok(), None), "another's stream");
        at = frozen.frozen.and_then(|frozen| frozen.at);
        if at.is_some() { Ok(()) } else { Err(format!("{frozen:?}")) }
    });
    let at = at.unwrap();
    // The stream of what is staged does not end where the others are frozen.
    assert_eq!(client.run(&["SET", &format!("{{{}}}more", tags[0]), "1"]), "+OK");
    wait_until(|| match cluster.d.records() == cluster.s.records() {
        true => Ok(()),
        false => Err("not whole".into()),
    });
    let orders = [
        cluster.s.source(),
        Order::Freeze { number: 1 },
        Order::Open { at, version: 2 },
        Order::Leave { version: 1 },
        Order::Clean,
        Order::Drop,
    ];
    for order in orders {
        let said = cluster.d.order_for(other, order.clone());
        assert!(matches!(said.mark, Some(Mark::Staged { .. })), "{order:?}: {said:?}");
        assert_eq!((said.slots, said.frozen), (own.clone(), None), "{order:?}");
    }
    let newest = |master: &Master| master.heartbeat(&[]).newest_move;
    assert_eq!((newest(&cluster.d), newest(&cluster.s)), (Some(ID), Some(ID)));
    assert_eq!(cluster.s.order_for(MOVING, Order::Thaw { number: 1 }).slots, other.parse().ok());
    assert_eq!(cluster.s.order_for(other, Order::Thaw { number: 1 }).frozen, None);
    assert_eq!(newest(&cluster.s), Some(MoveId(0)));
    assert_eq!(cluster.d.records(), cluster.s.records());
}

/// An older record, restored, gives the slots to the giver again, which has deleted them.
#[test]
fn the_only_copy_is_not_staged_over_and_not_dropped() {
    let mut cluster = Cluster::new();
    let before = cluster.topology();
    fill(&mut Client::new(&cluster), &tags(10));
    cluster.copy();
    let at = cluster.freeze(1);
    cluster.own(at);
    for master in [&cluster.s, &cluster.d] {
        master.set_nodes(&before, 3);
    }
    let raw = cluster.d.raw();
    assert!(raw > 0);
    let pulled = cluster.d.order_of(MoveId(2), cluster.s.source());
    assert_eq!((pulled.mark, cluster.d.raw()), (None, raw));
    let dropped = cluster.d.order_of(MoveId(2), Order::Drop);
    assert_eq!((dropped.mark, dropped.slots), (Some(Mark::Held), MOVING.parse().ok()));
    let late = cluster.d.order_of(MoveId(2), cluster.s.source());
    assert_eq!((late.mark, cluster.d.raw()), (Some(Mark::Held), raw));
    assert_eq!(cluster.d.heartbeat(&[]).newest_move, Some(MoveId(2)));
}

#[test]
fn what_is_staged_is_said_unasked_unless_a_later_mark_lies_over_it() {
    let cluster = Cluster::new();
    assert!(matches!(cluster.d.order(cluster.s.source()).mark, Some(Mark::Staged { .. })));
    let said = |master: &Master| -> Vec<MoveId> {
        master.heartbeat(&[]).moves.unwrap().into_iter().map(|said| said.id).collect()
    };
    assert_eq!(said(&cluster.d), [ID]);
    cluster.d.order_of(MoveId(2), Order::Drop);
    assert_eq!(said(&cluster.d), []);
}
