//! What `make bench` measures beside redis-benchmark's rows, with loads that take a moment: that
//! each comes to figures, not which.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::bench::compaction::{Compacting, compact};
use testkit::bench::systems::System;
use testkit::bench::{handover, in_turn, minutes, publish, weight};
use testkit::wait;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn messages_reach_all_subscribers_and_elements_are_handed_over() -> Result<()> {
    let systems = [System::holdfast("holdfast", &[])?.start()?, System::redis().start()?];
    let load = publish::Load { subscribers: 20, messages: 5, bytes: 1_000 };
    let published = in_turn(&systems, 2, |running| publish::run(running, &load))?;
    for of in &published {
        ensure!(of.len() == 2 && of.iter().all(|one| one.latency_us.len() == 5), "{of:?}");
    }
    let page = publish::page(&systems, &[(load, published)]);
    ensure!(page.contains("| 1000 bytes to 20 | redis | "), "{page}");
    let load = handover::Load { rounds: 20, others: 10 };
    let handed = in_turn(&systems, 2, |running| handover::run(running, &load))?;
    let page = handover::page(&systems, &[(load, handed)]);
    ensure!(page.contains("| 10 | holdfast | ") && page.contains("| 10 | redis | "), "{page}");
    Ok(())
}

#[test]
fn a_server_compacts_on_until_it_is_no_longer_asked_to() -> Result<()> {
    for system in [System::holdfast("holdfast", &[])?, System::redis()] {
        let running = system.start()?;
        running.connect()?.call(&["SET", "key", "value"])?;
        let compacting = Compacting::begin(&running)?;
        wait::until("it begins anew", PATIENCE, || {
            ensure!(compacting.begun() >= 2, "{} begun", compacting.begun());
            Ok(())
        })?;
        drop(compacting);
        compact(&running)?;
    }
    Ok(())
}

#[test]
fn keys_are_weighed_and_writes_are_sampled() -> Result<()> {
    let load = weight::Load { keys: 2_000, rest: Duration::ZERO };
    for system in [System::holdfast("holdfast", weight::SHORT_LOG)?, System::redis()] {
        let (running, weight) = weight::weigh(system, weight::SHAPES[1], load)?;
        let name = running.system.name.clone();
        ensure!(weight.disk > 50.0 && weight.disk_at_rest > 50.0, "{name}: {weight:?}");
    }
    let running = System::holdfast("holdfast", &[])?.start()?;
    let load = minutes::Load {
        lasts: Duration::from_secs(3),
        connections: 2,
        in_flight: 4,
        keys: 100,
        value_bytes: 10,
    };
    let samples = minutes::run(&running, &load)?;
    let written: f64 = samples.iter().map(|sample| sample.rate).sum();
    // On a machine that stands still for a while there may be one.
    ensure!(!samples.is_empty() && written > 0.0, "{samples:?}");
    ensure!(samples.iter().all(|sample| sample.memory > 1 << 20), "{samples:?}");
    Ok(())
}

#[test]
fn the_node_and_the_balancers_of_a_cluster_are_found() -> Result<()> {
    let running = System::cluster("built-in", 0, "builtin", "async")?.start()?;
    let mut connection = running.connect()?;
    wait::until("the balancer has cost something", PATIENCE, || {
        for number in 0..2_000 {
            let said = connection.call(&["SET", &format!("key{number}"), "value"])?;
            ensure!(said.text() == "OK", "{said:?}");
        }
        let (node, balancer) = (running.cpu_seconds()?, running.balancer_cpu_seconds()?);
        ensure!(node > 0.0 && balancer > 0.0, "{node} s and {balancer} s");
        Ok(())
    })?;
    ensure!(running.disk_bytes().is_err() && !running.is_redis());
    Ok(())
}
