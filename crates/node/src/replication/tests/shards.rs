//! Questions of Redis' clients about the shard and the cluster bus, which does not exist here.

use super::*;

#[test]
fn the_nodes_of_a_shard_call_it_alike_and_go_on_so_after_a_failover() {
    let pair = ClusterPair::start();
    let uninitialised = pair.one.ask(&["CLUSTER", "MYSHARDID"]);
    assert!(uninitialised.starts_with("-CLUSTERDOWN"), "{uninitialised}");
    pair.push(0, "1");
    pair.two.await_up_with(&pair.one);
    let names = || [&pair.one, &pair.two].map(|node| node.ask(&["CLUSTER", "MYSHARDID"]));
    let [name, same] = names();
    assert_eq!(name, same);
    assert!(name.len() == 40 && name.bytes().all(|digit| digit.is_ascii_hexdigit()), "{name}");
    pair.push(1, "2");
    assert_eq!(names(), [name.clone(), name]);
}

#[test]
fn there_is_no_bus_and_nobody_reports_failures() {
    let pair = ClusterPair::start();
    pair.push(0, "1");
    let ask = |words: &[&str]| pair.one.ask(&[&["CLUSTER"], words].concat());
    assert_eq!(ask(&["LINKS"]), "");
    assert_eq!(ask(&["COUNT-FAILURE-REPORTS", &pair.ids[1]]), ":0");
    assert_eq!(ask(&["COUNT-FAILURE-REPORTS", "abc"]), "-ERR Unknown node abc");
    assert!(ask(&["HELP"]).contains("COUNT-FAILURE-REPORTS <node-id>"));
}
