//! A master whose set is itself alone.

use super::*;

#[test]
fn what_it_publishes_is_acknowledged_and_a_replica_says_nothing_of_that() {
    let node = master(|_| {});
    let mut controller = Controller::of(&[member_of(&node)]);
    assert_eq!(controller.grant(&node).standing.granted_epoch, 1);
    let store = node.node.engine().store.clone().unwrap();
    assert_eq!(node.ask(&["SET", "k", "v"]), "+OK");
    controller.grant(&node);
    assert_eq!(store.acknowledged(), Some(store.latest_sequence()));

    // A member that acknowledges nothing: nothing more is known to stay.
    let mut puppet = Puppet::follow(&node);
    let alone = store.latest_sequence();
    puppet.ack(alone, 1, None);
    wait_until(|| {
        controller.adopt(&node);
        let members = controller.members.to_string();
        if members.contains(&puppet.member.to_string()) { Ok(()) } else { Err(members) }
    });
    let mut writer = node.connect();
    send(&mut writer, &["SET", "k", "w"]);
    await_waiting(&node, 1, alone + 1);
    assert!(store.acknowledged() <= Some(alone), "{:?}", store.acknowledged());
    puppet.ack(alone + 1, 1, None);
    assert_eq!(answer(&mut writer), "+OK");
    assert_eq!(store.acknowledged(), Some(alone + 1));
}
