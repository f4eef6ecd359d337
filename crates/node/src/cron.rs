//! What is done once a second: rates, disk use, idle connections, a word about a lost lease.
//!
//! Nothing here waits for the write gate: while it is taken, a round is left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use storage::Counters;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::info::process;
use crate::node::Node;
use crate::session::expire;

/// Rounds between two looks at the disk when no `max-db-size` depends on them.
const RELAXED_ROUNDS: u64 = 10;

/// The tail of the log stays out of the tables for no longer than this after the start,
/// milliseconds: it costs memory.
const HOLD_MS: u64 = 600_000;

/// Counters at the last round, to tell rates by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    at_ns: u64,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
    engine: Counters,
}

impl Counted {
    fn now(node: &Node) -> Self {
        Self {
            at_ns: clock::boottime_ns(),
            commands: node.stats.commands(),
            bytes_in: node.stats.sum(|worker| &worker.bytes_in),
            bytes_out: node.stats.sum(|worker| &worker.bytes_out),
            engine: node
                .gate
                .try_read()
                .and_then(|engine| engine.store.as_ref().map(storage::Store::counters))
                .unwrap_or_default(),
        }
    }

    /// Growth per second of one counter since `earlier`; 0 after CONFIG RESETSTAT.
    fn rate(&self, earlier: &Self, counter: impl Fn(&Self) -> u64) -> u64 {
        let passed_ns = u128::from(self.at_ns.saturating_sub(earlier.at_ns));
        let grown = u128::from(counter(self).saturating_sub(counter(earlier)));
        let rate = (grown * 1_000_000_000).checked_div(passed_ns).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

/// What is known of this node's lease from one round to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LeaseState {
    /// It needs none, or never had one.
    #[default]
    None,
    /// It had one at the last round.
    Held,
    /// It had one and has it no more.
    Lost,
}

impl LeaseState {
    fn next(self, is_needed: bool, is_valid: bool) -> Self {
        match (is_needed, is_valid) {
            (false, _) => Self::None,
            (true, true) => Self::Held,
            (true, false) if self == Self::None => Self::None,
            (true, false) => Self::Lost,
        }
    }
}

/// Runs once a second until the node shuts down.
///
/// # Errors
/// Only if the runtime is being torn down around it.
pub async fn run(node: Arc<Node>) -> anyhow::Result<()> {
    // Remembered for INFO.
    process::startup_bytes();
    let mut shutdown = node.shutdown();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counted = Counted::now(&node);
    let mut lease = LeaseState::default();
    let mut limits_met = 0;
    let mut minute = clock::unix_ms() / 60_000;
    // Up to where keys were looked at for those that have ended.
    let mut walked = Vec::new();
    for round in 0_u64.. {
        tokio::select! {
            _ = second.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => break,
        }
        counted = measure(&node, &counted);
        if node.moves.flows().is_empty() {
            node.moves.guests.rest(&node.stats);
        }
        crate::moves::look::note_replicas(&node);
        lease = look_at_lease(&node, lease);
        limits_met = look_at_limits(&node, limits_met);
        close_idle(&node, clock::unix_ms());
        if node.config.now().notify_keyspace_events.minds_ends() {
            let node = Arc::clone(&node);
            walked = tokio::task::spawn_blocking(move || expire::walk(&node, walked))
                .await
                .context("look for keys that have ended")?;
        }
        let now = clock::unix_ms() / 60_000;
        if now != std::mem::replace(&mut minute, now) {
            node.moves.loads.fade(node.grants.granted_epoch());
            let node = Arc::clone(&node);
            tokio::task::spawn_blocking(move || crate::timed::keep_to_schedule(&node, now * 60))
                .await
                .context("do what is due")?;
        }
        let is_due = node.config.now().max_db_size > 0 || round.is_multiple_of(RELAXED_ROUNDS);
        if is_due {
            let node = Arc::clone(&node);
            tokio::task::spawn_blocking(move || weigh(&node))
                .await
                .context("look at the disk use")?;
        }
        if round.is_multiple_of(RELAXED_ROUNDS) {
            crate::replication::follow_if_ended(&node);
            crate::replication::sweep(&node);
            let node = Arc::clone(&node);
            tokio::task::spawn_blocking(move || (tend(&node), crate::timed::make_room(&node)))
                .await
                .context("look after the log files")?;
        }
    }
    Ok(())
}

/// Tells the operator, once, that a master stopped serving because nobody renews its lease, and
/// once that it serves again.
fn look_at_lease(node: &Node, before: LeaseState) -> LeaseState {
    let Some(engine) = node.gate.try_read() else { return before };
    let mode = node.config.now().master_lease_mode;
    let is_needed = engine.role.is_master() && mode != api::heartbeat::LeaseMode::Disabled;
    drop(engine);
    let now = before.next(is_needed, node.grants.is_valid(clock::boottime_ns()));
    match (before, now) {
        (LeaseState::Held, LeaseState::Lost) => tracing::warn!(
            mode = mode.as_str(),
            "master lease expired: the controller does not renew it; it is valid again with its next heartbeats"
        ),
        (LeaseState::Lost, LeaseState::Held) => tracing::info!("master lease renewed"),
        _ => {}
    }
    now
}

/// Tells the operator that compactions meet a limit: they are tried again, and the database grows
/// meanwhile.
fn look_at_limits(node: &Node, before: u64) -> u64 {
    let Some(engine) = node.gate.try_read() else { return before };
    let Some(store) = &engine.store else { return before };
    let count = store.limits_met();
    if count > before {
        tracing::warn!(
            count,
            "compactions meet a limit of open files or memory of this process, and are tried again: raise it"
        );
    }
    count
}

fn measure(node: &Node, earlier: &Counted) -> Counted {
    let now = Counted::now(node);
    let stats = &node.stats;
    stats.ops_per_second.store(now.rate(earlier, |c| c.commands), Ordering::Relaxed);
    stats.bytes_in_per_second.store(now.rate(earlier, |c| c.bytes_in), Ordering::Relaxed);
    stats.bytes_out_per_second.store(now.rate(earlier, |c| c.bytes_out), Ordering::Relaxed);
    *stats.engine_per_second.lock() = Counters {
        puts: now.rate(earlier, |c| c.engine.puts),
        gets: now.rate(earlier, |c| c.engine.gets),
        seeks: now.rate(earlier, |c| c.engine.seeks),
        nexts: now.rate(earlier, |c| c.engine.nexts),
        prevs: now.rate(earlier, |c| c.engine.prevs),
        ..Counters::default()
    };
    now
}

/// `timeout`: as in Redis, never for replicas, nor for those that are silent because they wait: for
/// a key, for an answer that takes its time, for messages. Nor for peers, which keep a connection
/// for when they need it.
pub(crate) fn close_idle(node: &Node, now_ms: u64) {
    let longest_ms = u64::from(node.config.now().timeout) * 1000;
    if longest_ms == 0 {
        return;
    }
    let count = node.clients.kill_where(|client| {
        let idle_ms = now_ms.saturating_sub(client.last_ms.load(Ordering::Relaxed));
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let waits = is(&client.shown.is_blocked) || is(&client.is_subscriber);
        let is_exempt = is(&client.is_replica) || is(&client.is_peer) || is(&client.is_monitor);
        idle_ms > longest_ms && !waits && !is_exempt
    });
    if count > 0 {
        tracing::debug!(count, "closed idle connections");
    }
}

fn weigh(node: &Node) {
    *node.room.lock() = process::disk(&node.dir)
        .map(|disk| api::heartbeat::Room { free: disk.free, size: disk.capacity });
    // The disk may hang: a change of role must not wait for that.
    let Some(store) = node.gate.try_read().and_then(|engine| engine.store.clone()) else { return };
    match store.stats() {
        Ok(stats) => node.used_bytes.store(stats.disk_bytes(), Ordering::Relaxed),
        Err(error) => tracing::warn!(%error, "cannot tell how much disk the database takes"),
    }
}

/// From where on the log is needed by who copies a checkpoint, or has just done so: if a copy took
/// longer than the log is kept for, the next one would as well, and so for ever. Not where the disk
/// is nearly full, or the log, which counts, may become what makes the database larger than it may
/// be: clients' writes would be refused.
fn needed_from(node: &Node) -> u64 {
    let is_full = node.room.lock().is_some_and(|room| room.is_nearly_full(20));
    let is_scarce = is_full || !node.has_size_for_guests(&node.config.now());
    let copied = node.replication.checkpoint_at().filter(|_| !is_scarce);
    copied.map_or(u64::MAX, |sequence| sequence.saturating_add(1))
}

/// Purges old log files, keeps compactions going, and ends the care taken of the log's tail where
/// no master was found for long.
pub(crate) fn tend(node: &Node) {
    let Some(store) = node.gate.try_read().and_then(|engine| engine.store.clone()) else { return };
    if node.uptime_ms() > HOLD_MS && store.is_holding() {
        tracing::warn!(
            "the history here was compared with nobody's; a later rewind may be impossible"
        );
        crate::upkeep::settle(store.clone());
    }
    match store.purge_logs_before(needed_from(node)) {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "purged old log files"),
        Err(error) => tracing::warn!(%error, "cannot purge old log files"),
    }
    if let Err(error) = store.tend() {
        tracing::warn!(%error, "cannot keep in mind how far a rewind may go");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_never_negative() {
        let counted = |at_ns, commands, bytes_in, bytes_out| Counted {
            at_ns,
            commands,
            bytes_in,
            bytes_out,
            engine: Counters::default(),
        };
        let earlier = counted(1_000_000_000, 100, 50, 0);
        let later = counted(1_500_000_000, 150, 0, 7);
        assert_eq!(later.rate(&earlier, |c| c.commands), 100);
        assert_eq!(later.rate(&earlier, |c| c.bytes_in), 0);
        assert_eq!(later.rate(&later, |c| c.bytes_out), 0);
    }
    #[test]
    fn a_lease_is_lost_only_by_a_master_that_had_one() {
        let states = [(true, false), (true, true), (true, false), (true, false), (true, true)];
        let mut state = LeaseState::default();
        let seen = states.map(|(is_needed, is_valid)| {
            state = state.next(is_needed, is_valid);
            state
        });
        let [none, held, lost] = [LeaseState::None, LeaseState::Held, LeaseState::Lost];
        assert_eq!(seen, [none, held, lost, lost, held]);
        assert_eq!(lost.next(false, false), none);
    }
}
