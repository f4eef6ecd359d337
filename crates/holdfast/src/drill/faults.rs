//! The faults, and the story around each: settle, write, hurt, wait for the takeover, wait for the
//! return, look.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use resp::{Value, encode_command};

use super::Timeline;
use super::dns;
use super::outcome::Outcome;
use super::route::Route;
use super::rows::Fault;
use super::witness::{Seen, Witness};
use super::writer::{Acknowledged, Log, Writer};
use crate::client::Client;
use crate::up::configs;
use crate::up::process;
use crate::up::running::{RESTART_DELAY, Running, client_address};
use crate::up::state::{Node, Role};
use crate::up::supervisor::Restart;

const WRITERS: usize = 2;
/// How long writes flow before the fault and after the return.
const CALM: Duration = Duration::from_millis(500);
/// How long a deposed master stays stopped after its successor answered.
const STOPPED_ON: Duration = Duration::from_secs(1);
/// Bound for everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(5);
/// Keys looked for in one packet.
const BATCH: usize = 500;

/// A cluster to hurt.
#[derive(Debug)]
pub(crate) struct Drill<'a> {
    pub(crate) running: Running,
    pub(crate) timeline: &'a Timeline,
}

impl Drill<'_> {
    /// One fault of one shard, from calm to calm. `away`: for how long a killed controller is.
    pub(crate) async fn fault(
        &mut self,
        fault: Fault,
        (shard, run): (usize, u32),
        away: Duration,
    ) -> Result<Outcome> {
        self.settled().await?;
        let old = self.master(shard)?;
        let announced = client_address(&old)?;
        let tag = tag_of(announced).await.context("find a key of the shard")?;
        let writers: Vec<Writer> = (0..WRITERS)
            .map(|writer| {
                let prefix = format!("{{{tag}}}:{fault:?}:{run}:{writer}");
                Writer::start(Route::Announced(announced), prefix)
            })
            .collect();
        let probe = format!("{{{tag}}}:probe");
        let mut witness = Witness::start(announced, &probe);
        tokio::time::sleep(CALM).await;

        let hurt_at = Instant::now();
        if !fault.leaves_the_master() {
            witness.knock(local_address(&old)?, &probe);
        }
        self.carry_out(fault, &old, (&writers, hurt_at), away).await?;
        self.settled().await?;
        self.timeline.say("everybody is back and in step");
        tokio::time::sleep(CALM).await;

        let mut logs = Vec::new();
        for writer in writers {
            logs.push(writer.finish().await);
        }
        let seen = witness.finish().await;
        self.judge(&logs, seen, &old, announced).await
    }

    /// Hurts, waits until clients write again, and takes back what does not end by itself.
    async fn carry_out(
        &mut self,
        fault: Fault,
        old: &Node,
        (writers, hurt_at): (&[Writer], Instant),
        away: Duration,
    ) -> Result<()> {
        let victim = match fault {
            Fault::Switchover => {
                self.timeline.say(&format!("another master than {} is asked for", old.port));
                let id = self.running.controller().switch_over(old.shard).await?;
                self.timeline.say(&format!("the controller says: done, {id}"));
                None
            }
            Fault::ControllerKill => {
                self.lose_controller(away).await?;
                None
            }
            Fault::ReplicaKill | Fault::ReplicaStop => {
                let replica = self.running.state().replica(old.shard);
                let replica = replica.context("the shard has no replica")?.clone();
                self.hurt(fault, &replica)?;
                Some(replica)
            }
            Fault::Kill | Fault::Stop | Fault::KillAndRestart => {
                self.hurt(fault, old)?;
                Some(old.clone())
            }
        };
        let by = self.written_again(writers, (fault, old), hurt_at).await?;
        if fault != Fault::ControllerKill {
            self.tell_takeover(old, &by, hurt_at);
        }
        if let (Fault::Stop | Fault::ReplicaStop, Some(victim)) = (fault, victim) {
            tokio::time::sleep(STOPPED_ON).await;
            process::signal(victim.pid.unwrap_or_default(), libc::SIGCONT);
            self.timeline.say(&format!("{} continued", victim.port));
        }
        Ok(())
    }

    /// Kills the controller and waits until it has been away for long enough.
    async fn lose_controller(&mut self, away: Duration) -> Result<()> {
        let pid = self.running.state().controller.pid.context("the controller is not running")?;
        self.running.supervisor().set_restart(configs::CONTROLLER, Restart::After(away));
        process::signal(pid, libc::SIGKILL);
        self.timeline.say(&format!("controller killed, back in {} s", away.as_secs()));
        tokio::time::sleep(away).await;
        self.running.supervisor().set_restart(configs::CONTROLLER, Restart::After(RESTART_DELAY));
        self.timeline.say("controller started again");
        Ok(())
    }

    /// SIGKILL for the master of shard 0, with one writer per TTL that follows a name.
    pub(crate) async fn kill_by_name(
        &mut self,
        server: &dns::Server,
        ttls: &[Duration],
        run: u32,
    ) -> Result<Vec<Outcome>> {
        self.settled().await?;
        let old = self.master(0)?;
        let address = local_address(&old)?;
        server.set(0, old.port);
        let tag = tag_of(address).await.context("find a key of the shard")?;
        let writers: Vec<Writer> = ttls
            .iter()
            .map(|ttl| {
                let route = Route::by_name(server.address(), dns::name(0, *ttl));
                Writer::start(route, format!("{{{tag}}}:dns:{run}:{}", ttl.as_secs()))
            })
            .collect();
        // The longer writers wait here, the less of the longest TTL is left when the fault comes;
        // runs differ by it, as clients in the field do.
        tokio::time::sleep(CALM * (1 + 3 * run)).await;
        let hurt_at = Instant::now();
        self.hurt(Fault::Kill, &old)?;
        let mut recovered = vec![false; writers.len()];
        while recovered.contains(&false) {
            self.running.changed().await?;
            let now = self.master(0)?;
            server.set(0, now.port);
            for ((writer, done), ttl) in writers.iter().zip(&mut recovered).zip(ttls) {
                let last = writer.last().filter(|write| write.at > hurt_at && write.by != old.id);
                if let (false, Some(write)) = (*done, last) {
                    *done = true;
                    let after = write.at.duration_since(hurt_at).as_secs_f64();
                    self.timeline
                        .say(&format!("TTL {} s: writes again by {after:.2} s", ttl.as_secs()));
                }
            }
            if hurt_at.elapsed() > PATIENCE {
                bail!("clients that follow a name do not write again");
            }
        }
        let master = local_address(&self.master(0)?)?;
        let mut outcomes = Vec::new();
        for writer in writers {
            let logs = [writer.finish().await];
            outcomes.push(self.judge(&logs, Seen::default(), &old, master).await?);
        }
        Ok(outcomes)
    }

    fn master(&self, shard: usize) -> Result<Node> {
        let master = self.running.state().master(shard);
        master.cloned().with_context(|| format!("shard {shard} has no master"))
    }

    fn hurt(&self, fault: Fault, node: &Node) -> Result<()> {
        let pid = node.pid.with_context(|| format!("node {} is not running", node.port))?;
        let supervisor = self.running.supervisor();
        let name = configs::name(configs::Kind::Node, node.port);
        let (signal, delay, what) = match fault {
            Fault::KillAndRestart => {
                (libc::SIGKILL, Duration::ZERO, "killed, to be restarted at once")
            }
            Fault::Stop | Fault::ReplicaStop => (libc::SIGSTOP, RESTART_DELAY, "stopped"),
            _ => (libc::SIGKILL, RESTART_DELAY, "killed"),
        };
        supervisor.set_restart(&name, Restart::After(delay));
        process::signal(pid, signal);
        let role = if node.role == Role::Master { "master" } else { "replica" };
        self.timeline.say(&format!("{role} {} {what}", node.port));
        Ok(())
    }

    /// Waits until every writer wrote again. An answer that the master still gave before the signal
    /// reached all its threads is none of these, even if it was read later.
    async fn written_again(
        &mut self,
        writers: &[Writer],
        (fault, old): (Fault, &Node),
        hurt_at: Instant,
    ) -> Result<Acknowledged> {
        let is_again = |write: &Acknowledged| {
            let must_move = matches!(fault, Fault::Stop | Fault::Switchover);
            write.sent > hurt_at + POLL && (!must_move || write.by != old.id)
        };
        loop {
            let last: Option<Vec<Acknowledged>> =
                writers.iter().map(|writer| writer.last().filter(is_again)).collect();
            if let Some(write) = last.and_then(|writes| writes.into_iter().next()) {
                return Ok(write);
            }
            if hurt_at.elapsed() > PATIENCE {
                bail!("no write succeeded within {} s of the fault", PATIENCE.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn tell_takeover(&self, old: &Node, write: &Acknowledged, hurt_at: Instant) {
        let nodes = &self.running.state().nodes;
        let by = nodes.iter().find(|node| node.id == write.by).map_or(0, |node| node.port);
        let how = if write.by == old.id { "master as before" } else { "the replica" };
        let after = write.at.duration_since(hurt_at).as_secs_f64();
        self.timeline.say(&format!("every client wrote by {after:.2} s, served by {by} ({how})"));
    }

    /// Waits until all processes run, have the wanted topology, and every replica follows.
    async fn settled(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.running.changed().await?;
            let obstacle = self.obstacle().await;
            if obstacle.is_none() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "not settled after {} s: {}",
                    PATIENCE.as_secs(),
                    obstacle.unwrap_or_default()
                );
            }
        }
    }

    async fn obstacle(&self) -> Option<String> {
        let nodes = match self.running.controller().nodes().await {
            Ok(nodes) => nodes,
            Err(error) => return Some(format!("{error:#}")),
        };
        if let Some(node) = self.running.state().nodes.iter().find(|node| node.pid.is_none()) {
            return Some(format!("node {} is not running", node.port));
        }
        nodes.iter().find_map(|node| {
            let follows = node.role == Role::Master || node.follows;
            (!node.in_step || !follows || !node.in_sync)
                .then(|| format!("{} is not in step: {node:?}", node.address))
        })
    }

    async fn judge(
        &self,
        logs: &[Log],
        seen: Seen,
        old: &Node,
        address: SocketAddr,
    ) -> Result<Outcome> {
        let end = logs
            .iter()
            .filter_map(|log| log.acknowledged.last())
            .map(|write| write.at)
            .max()
            .unwrap_or_else(Instant::now);
        let mut outcome = Outcome::of(logs, seen, &old.id, end);
        let keys: Vec<&str> =
            logs.iter().flat_map(|log| &log.acknowledged).map(|write| write.key.as_str()).collect();
        outcome.missing = missing(address, &keys).await.context("look for acknowledged writes")?;
        let from = outcome.outage_from.map_or(0.0, |from| self.timeline.at(from));
        self.timeline.say(&format!(
            "longest time without a write {:.3} s, from {from:.2} s on; {} writes acknowledged, {} of them missing",
            outcome.outage.as_secs_f64(),
            outcome.acknowledged,
            outcome.missing
        ));
        Ok(outcome)
    }
}

fn local_address(node: &Node) -> Result<SocketAddr> {
    let host = node.host.parse().with_context(|| format!("read address `{}`", node.host))?;
    Ok(SocketAddr::new(host, node.port))
}

/// A word that hashes to a slot of the node behind this address.
async fn tag_of(address: SocketAddr) -> Result<String> {
    let mut client = Client::connect(address, PATIENCE).await?;
    for number in 0_u32..1000 {
        let tag = format!("drill-{number}");
        match client.call(&["GET", &tag]).await? {
            Value::Error(text) if text.starts_with("MOVED ") => {}
            Value::Error(text) => bail!("{text}"),
            _ => return Ok(tag),
        }
    }
    bail!("{address} owns no slots")
}

/// How many of the keys are not there.
async fn missing(address: SocketAddr, keys: &[&str]) -> Result<usize> {
    let mut client = Client::connect(address, PATIENCE).await?;
    let mut missing = 0;
    for batch in keys.chunks(BATCH) {
        let bytes: Vec<u8> =
            batch.iter().flat_map(|key| encode_command(&["EXISTS", key])).collect();
        for reply in client.pipeline(&bytes, batch.len()).await? {
            match reply {
                Value::Integer(1) => {}
                Value::Integer(_) => missing += 1,
                other => bail!("answered {other:?} to EXISTS"),
            }
        }
    }
    Ok(missing)
}
