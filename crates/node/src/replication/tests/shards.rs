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

/// NODES and SLOTS show what the topology says, as Kvrocks'.
#[test]
fn a_replica_that_has_not_come_back_is_failed_where_no_controller_says_so() {
    let pair = ClusterPair::start();
    let (one, two) = (&pair.one, &pair.two);
    pair.push(0, "1");
    two.await_up_with(one);
    let health = |node: &Running| {
        let said = node.ask(&["CLUSTER", "SHARDS"]);
        let words: Vec<&str> = said.split(' ').collect();
        let behind = words.windows(2).filter(|pair| pair[0] == "health");
        behind.map(|pair| pair[1].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(health(one), ["online", "online"]);
    stop(&two.node);
    wait_until(|| match one.node.replication.replicas().len() {
        0 => Ok(()),
        count => Err(format!("{count} replicas")),
    });
    assert_eq!(health(one), ["online", "online"], "it may come back");
    // Ten seconds later.
    let age = |since: &mut u64| *since = since.saturating_sub(10_000);
    one.node.replication.feeders.lost.lock().iter_mut().for_each(|(_, since)| age(since));
    assert_eq!(health(one), ["online", "failed"]);
    assert!(!one.ask(&["CLUSTER", "NODES"]).contains("fail"));
    assert_eq!(health(two), ["online", "online"], "it feeds nobody");
    let generation = two.node.engine().generation;
    let from = Endpoint { host: "127.0.0.1".to_owned(), port: one.port };
    follow(&two.node, from, generation);
    two.await_up_with(one);
    wait_until(|| match health(one) {
        all if all == ["online", "online"] => Ok(()),
        all => Err(format!("{all:?}")),
    });
}
