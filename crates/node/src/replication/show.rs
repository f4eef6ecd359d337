//! Replication as INFO and ROLE show it.

use std::fmt::Write as _;

use api::heartbeat::{LinkStatus, ReplicaLine, Resync};

use replication::replica::Progress;

use crate::gate;
use crate::node::Node;

/// What ROLE answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A master at `sequence`, and its replicas.
    Master {
        /// Newest sequence.
        sequence: u64,
        /// In the order they came.
        replicas: Vec<ReplicaLine>,
    },
    /// A replica.
    Replica {
        /// Its master's local host.
        host: String,
        /// And port.
        port: u16,
        /// `connected`, `sync` or `connecting`.
        state: &'static str,
        /// Newest sequence applied.
        sequence: u64,
    },
}

/// The facts for ROLE.
pub fn role(node: &Node) -> Role {
    let (role, sequence) = role_and_sequence(node);
    match role {
        gate::Role::Master => Role::Master { sequence, replicas: node.replication.replicas() },
        gate::Role::Replica { from } => {
            let state = match node.replication.link_status() {
                LinkStatus::Up => "connected",
                LinkStatus::Sync => "sync",
                LinkStatus::Connecting => "connecting",
            };
            Role::Replica { host: from.host, port: from.port, state, sequence }
        }
    }
}

impl Role {
    /// As Kvrocks answers: numbers are bulk strings, and a master without replicas has two
    /// elements.
    pub fn write(&self, writer: &mut resp::Writer<'_>) {
        let text = |writer: &mut resp::Writer<'_>, items: &[&str]| {
            items.iter().for_each(|item| writer.bulk(item.as_bytes()));
        };
        match self {
            Self::Master { sequence, replicas } => {
                writer.array(if replicas.is_empty() { 2 } else { 3 });
                text(writer, &["master", &sequence.to_string()]);
                if replicas.is_empty() {
                    return;
                }
                writer.array(replicas.len());
                for replica in replicas {
                    writer.array(3);
                    let (port, offset) = (replica.port.to_string(), replica.offset.to_string());
                    text(writer, &[&replica.ip, &port, &offset]);
                }
            }
            Self::Replica { host, port, state, sequence } => {
                writer.array(5);
                let (port, sequence) = (port.to_string(), sequence.to_string());
                text(writer, &["slave", host, &port, state, &sequence]);
            }
        }
    }
}

/// The section `# Replication` of INFO, in Kvrocks' order, with one line of ours while a full sync
/// is due.
pub fn info(node: &Node) -> String {
    let (role, sequence) = role_and_sequence(node);
    let mut out = String::from("# Replication\r\n");
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{name}:{value}\r\n");
    };
    match role {
        gate::Role::Master => line("role", &"master"),
        gate::Role::Replica { from } => {
            let status = node.replication.link_status();
            line("role", &"slave");
            line("master_host", &from.host);
            line("master_port", &from.port);
            line("master_link_status", &if status == LinkStatus::Up { "up" } else { "down" });
            if let Some(why) = node.replication.link_error() {
                line("master_link_error", &why);
            }
            let needs_somebody = node.replication.needs_somebody();
            line("master_sync_unrecoverable_error", &if needs_somebody { "yes" } else { "no" });
            line("master_sync_in_progress", &u8::from(status == LinkStatus::Sync));
            if let Some(progress) = node.replication.sync_progress() {
                show_progress(progress, &mut line);
            }
            let seconds = node.replication.last_io_seconds();
            line(
                "master_last_io_seconds_ago",
                &seconds.map_or(-1, |s| i64::try_from(s).unwrap_or(i64::MAX)),
            );
            line("slave_repl_offset", &sequence);
            line("slave_priority", &node.config.now().slave_priority);
        }
    }
    match node.resync.now() {
        Resync::None => {}
        due => line("resync", &due),
    }
    let replicas = node.replication.replicas();
    line("connected_slaves", &replicas.len());
    for (index, replica) in replicas.iter().enumerate() {
        let ReplicaLine { ip, port, offset, .. } = replica;
        let lag = sequence.saturating_sub(*offset);
        line(
            &format!("slave{index}"),
            &format_args!("ip={ip},port={port},offset={offset},lag={lag}"),
        );
    }
    line("master_repl_offset", &sequence);
    out
}

/// How far a full sync is, by Redis' names. Where the master does not say how much there is, the
/// whole is 0, as in Redis.
fn show_progress(progress: Progress, line: &mut impl FnMut(&str, &dyn std::fmt::Display)) {
    let Progress { done, of } = progress;
    let of = of.unwrap_or(0);
    let percent = if of == 0 { 0.0 } else { done as f64 / of as f64 * 100.0 };
    line("master_sync_total_bytes", &of);
    line("master_sync_read_bytes", &done);
    line("master_sync_left_bytes", &of.saturating_sub(done));
    line("master_sync_perc", &format_args!("{percent:.2}"));
}

fn role_and_sequence(node: &Node) -> (gate::Role, u64) {
    let engine = node.engine();
    let sequence = engine.store.as_ref().map_or(0, storage::Store::latest_sequence);
    (engine.role.clone(), sequence)
}
