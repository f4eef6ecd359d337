//! PSYNC, REPLCONF and the other requests of replicas; WAIT and WAITAOF; SLAVEOF. Texts and rules:
//! Kvrocks' replication reference.

mod disks;

use std::sync::Arc;

use ::replication::answer::{Answer, Granted};
use ::replication::files::{self, CheckpointId};
use ::replication::history::is_grant_shown;
use ::replication::master::psync;
use ::replication::master::replconf::Replconf;
use ::replication::master::wait::{self, Wait};
use topology::Endpoint;

use crate::command::texts::LOADING;
use crate::command::{Args, Error, Reply, Result};
use crate::gate::Role;
use crate::node::Node;
use crate::replication::{self, ByHand, FileRequest};
use crate::role::{ChangeError, forget_note, identifies, note_ahead, note_writer, take_role};
use crate::session::{After, Command, SessionCx, Tells};
use crate::waiters::Apart;

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    // The least number of words is checked below: the text of a wrong one is Kvrocks', and its
    // replicas look at it.
    Command::session("psync",       -1, psync).admin().peer().no_multi().no_script().stale().skip_slowlog(),
    Command::session("replconf",    -1, replconf).admin().peer().no_script().stale(),
    Command::session("_fetch_meta",  1, fetch_meta).admin().peer().no_multi().no_script().stale().skip_slowlog(),
    Command::session("_fetch_file", -2, fetch_file).admin().peer().no_multi().no_script().stale().skip_slowlog(),
    Command::session("_db_name",     1, db_name).admin().peer().no_script().stale(),
    Command::session("wait",         3, wait).blocking().no_script().skip_slowlog(),
    Command::session("waitaof",      4, disks::wait_aof).blocking().no_script().skip_slowlog(),
    Command::session("slaveof",      3, slaveof).admin().peer().no_multi().no_script().stale(),
    Command::session("replicaof",    3, slaveof).admin().peer().no_multi().no_script().stale(),
];

/// The decision needs the WAL, so it is taken on the thread that will feed the replica.
fn psync(_cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let request = psync::parse(args.rest()).map_err(Error::err)?;
    Ok(After::Leave(Box::new(move |detached| replication::feed(detached, request))))
}

fn replconf(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let mut said = Replconf::default();
    said.apply(args.rest()).map_err(Error::err)?;
    let facts = &mut cx.session.replica;
    if let Some(port) = said.listening_port {
        facts.port = port;
    }
    if said.ip_address.is_some() {
        facts.ip = said.ip_address;
    }
    facts.is_holdfast |= said.is_holdfast;
    if let Some(text) = said.member {
        facts.member = Some(text.parse().map_err(Error::err)?);
    }
    let Some(position) = said.position else { return Ok(reply.ok().into()) };
    facts.lineage = said.lineage;
    // What it will be compared with. Data that must be replaced is no measure for anybody.
    let engine = cx.node.engine();
    let mine = match (&engine.store, cx.node.resync.is_required()) {
        (Some(store), false) => store.position(),
        _ => return Err(Error::text(LOADING)),
    };
    facts.compared_with = Some(engine.generation);
    let (lineage, granted) = (cx.node.replication.lineage.now(), cx.node.grants.granted_epoch());
    if !said.asks_grant {
        // A version that would take a copy of whatever is here for lack of a common epoch.
        let newest = position.history.newest();
        if newest.is_some_and(|newest| !is_grant_shown(newest, &mine.history, granted)) {
            return Err(Error::text(replication::no_grant(newest)));
        }
        facts.position = Some(position);
        return Ok(reply.simple(&mine.to_string()).into());
    }
    facts.position = Some(position);
    let granted = granted.map_or(Granted::None, Granted::Epoch);
    let (lineage, cluster) = (Some(lineage.history()), cx.node.cluster.load().cluster_id());
    let cluster = cluster.map(|cluster| cluster.to_string());
    let answer = Answer { position: mine, granted, lineage, cluster };
    Ok(reply.simple(&answer.to_string()).into())
}

fn fetch_meta(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    Ok(After::Leave(Box::new(|detached| replication::send_files(detached, FileRequest::Meta))))
}

/// `_fetch_file <names>`, or from a Holdfast replica `_fetch_file <checkpoint> <names with
/// offsets>`.
fn fetch_file(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let request = match (cx.session.replica.is_holdfast, args.rest()) {
        (false, [names]) => files::parse_plain_fetch(names).map(|wanted| (None, wanted)),
        (true, [id, names]) => {
            let id = CheckpointId::parse(id).ok_or(Error::Syntax)?;
            files::parse_fetch(names).map(|wanted| (Some(id), wanted))
        }
        _ => return Err(Error::Syntax),
    };
    match request {
        Ok((checkpoint, wanted)) => {
            let request = FileRequest::Files { checkpoint, wanted };
            Ok(After::Leave(Box::new(move |detached| replication::send_files(detached, request))))
        }
        Err(error) => {
            // As Kvrocks does for what it does not have: the connection ends without a byte.
            tracing::warn!(client = %cx.session.client.address, %error, "file request refused");
            Ok(After::Close)
        }
    }
}

/// The name, without any RESP around it.
fn db_name(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let line = format!("{}\r\n", cx.config.db_name);
    Ok(reply.with(|writer| writer.raw(line.as_bytes())).into())
}

fn wait(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (replicas, timeout) = (args.bytes()?, args.bytes()?);
    let sequence = {
        let engine = cx.node.engine();
        if !engine.role.is_master() {
            return Err(Error::err(wait::Refusal::NotMaster));
        }
        let loading = || Error::text(LOADING);
        // Published first: replicas are never sent what is not.
        engine.store.as_ref().ok_or_else(loading)?.publish()?
    };
    let wait = Wait::parse(replicas, timeout, sequence, cx.now_ms).map_err(Error::err)?;
    let acked = cx.node.replication.acked();
    let reached =
        if cx.exec.is_some() { Some(count(&acked, sequence)) } else { wait.poll(acked, cx.now_ms) };
    match reached {
        Some(count) => Ok(reply.count(count).into()),
        None => {
            let apart = cx.node.waiters.wait_apart(cx.session.client.id);
            let answer = Box::pin(wait_for_acks(Arc::clone(cx.node), (wait, sequence), apart));
            Ok(After::Later(answer, Tells::Nothing))
        }
    }
}

fn count(acked: &[u64], sequence: u64) -> usize {
    acked.iter().filter(|acked| **acked >= sequence).count()
}

async fn wait_for_acks(
    node: Arc<Node>,
    (wait, sequence): (Wait, u64),
    mut apart: Apart,
) -> Vec<u8> {
    let mut news = node.replication.acks();
    node.replication.ask_for_acks();
    loop {
        let now_ms = crate::clock::unix_ms();
        let (is_master, acked) = (node.engine().role.is_master(), node.replication.acked());
        if !is_master {
            return format!("-ERR {}\r\n", wait::Refusal::NotMaster).into_bytes();
        }
        if let Some(count) = wait.poll(acked, now_ms) {
            return format!(":{count}\r\n").into_bytes();
        }
        // Now and then a look at the role, which tells nobody that it changed.
        let longest = wait.deadline.map_or(500, |at| at.saturating_sub(now_ms).clamp(1, 500));
        let longest = std::time::Duration::from_millis(longest);
        tokio::select! {
            biased;
            ending = apart.unblocked() => {
                // As Redis: what is so by now, or the error.
                return match ending {
                    Ok(()) => format!(":{}\r\n", count(&node.replication.acked(), sequence)),
                    Err(text) => format!("-{text}\r\n"),
                }
                .into_bytes();
            }
            // News, or time: the loop looks at both.
            _ = tokio::time::timeout(longest, news.changed()) => {}
        }
    }
}

fn slaveof(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let (host, port) = (args.bytes()?, args.bytes()?);
    if cx.config.cluster_enabled {
        return Err(Error::err("can't change to slave in cluster mode"));
    }
    let wanted = if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        Role::Master
    } else {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Error::Syntax);
        let port = text(port)?.parse().map_err(|_| Error::err("port should be number"))?;
        let from = Endpoint { host: text(host)?.to_owned(), port };
        if identifies(cx.node, &from)
            || (from.host == "localhost"
                && from.port > 0
                && [cx.config.port, cx.config.tls_port].contains(&from.port))
        {
            return Err(Error::err("can't replicate itself"));
        }
        let replicas = cx.node.replication.replicas();
        if replicas.iter().any(|replica| replica.ip == from.host && replica.port == from.port) {
            return Err(Error::err("can't replicate your own replicas"));
        }
        Role::Replica { from }
    };
    Ok(After::Later(Box::pin(change_role(Arc::clone(cx.node), wanted)), Tells::Nothing))
}

async fn change_role(node: Arc<Node>, wanted: Role) -> Vec<u8> {
    let _one_at_a_time = node.changing.lock().await;
    if node.engine().role == wanted {
        // An order that is repeated asks for the link, and not for the rest of a delay.
        node.replication.retry();
        return b"+OK\r\n".to_vec();
    }
    if let Err(error) = note_ahead(&node, &wanted).await {
        return format!("-{error}\r\n").into_bytes();
    }
    match take_under_the_gate(&node, &wanted) {
        Ok(generation) => {
            node.config.note_master(match &wanted {
                Role::Master => None,
                Role::Replica { from } => Some(from.clone()),
            });
            take_role(&node, wanted, generation);
        }
        Err(error) => {
            forget_note(&node).await;
            return format!("-{error}\r\n").into_bytes();
        }
    }
    b"+OK\r\n".to_vec()
}

/// What a promotion by hand is told while a copy takes the place of the data: what it would take is
/// neither the one nor the other yet.
const BEING_REPLACED: &str = "ERR the data of this node is just being replaced: try again";

/// The new generation, or what there is to tell.
fn take_under_the_gate(node: &Node, wanted: &Role) -> std::result::Result<u64, String> {
    let mut engine = node.gate.write();
    let by_hand = wanted.is_master().then(|| replication::by_hand(node, &engine));
    if by_hand == Some(ByHand::Busy) {
        return Err(BEING_REPLACED.to_owned());
    }
    note_writer(node, &engine, wanted).map_err(|error| ChangeError::Lineage(error).to_string())?;
    match by_hand {
        // The mark stays: as a replica the node takes a copy, whatever the master.
        Some(ByHand::Good) => node.resync.set_required(false),
        Some(ByHand::Useless) => {
            tracing::error!("this node is a master now, and its data is of no use to anybody");
        }
        Some(ByHand::Busy) | None => {}
    }
    engine.role = wanted.clone();
    engine.generation += 1;
    Ok(engine.generation)
}
