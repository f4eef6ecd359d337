//! The commands, one module per family: the table first, its handlers below in table order.

pub mod acl;
pub mod bit;
pub mod bloom;
mod client;
pub mod cluster;
pub mod connection;
pub mod cuckoo;
pub mod docs;
pub mod dump;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod json;
pub mod key;
pub mod list;
mod object;
pub mod pubsub;
pub mod rdb;
pub mod replication;
pub mod script;
pub mod server;
pub mod set;
pub mod sort;
pub mod sortedint;
pub mod stream;
pub mod string;
pub mod tdigest;
pub mod timeseries;
pub mod transaction;
mod walk;
pub mod zset;

use crate::session::table::Family;

/// Every family of this build.
pub const ALL: &[Family] = &[
    Family { name: "string", commands: string::COMMANDS },
    Family { name: "hash", commands: hash::COMMANDS },
    Family { name: "list", commands: list::COMMANDS },
    Family { name: "set", commands: set::COMMANDS },
    Family { name: "sorted-set", commands: zset::COMMANDS },
    Family { name: "geo", commands: geo::COMMANDS },
    Family { name: "bitmap", commands: bit::COMMANDS },
    Family { name: "sorted-int", commands: sortedint::COMMANDS },
    Family { name: "hyperloglog", commands: hyperloglog::COMMANDS },
    Family { name: "bloom-filter", commands: bloom::COMMANDS },
    Family { name: "cuckoo-filter", commands: cuckoo::COMMANDS },
    Family { name: "tdigest", commands: tdigest::COMMANDS },
    Family { name: "timeseries", commands: timeseries::COMMANDS },
    Family { name: "json", commands: json::COMMANDS },
    Family { name: "stream", commands: stream::COMMANDS },
    Family { name: "generic", commands: key::COMMANDS },
    Family { name: "generic", commands: dump::COMMANDS },
    Family { name: "sort", commands: sort::COMMANDS },
    Family { name: "connection", commands: connection::COMMANDS },
    Family { name: "pubsub", commands: pubsub::COMMANDS },
    Family { name: "server", commands: rdb::COMMANDS },
    Family { name: "acl", commands: acl::COMMANDS },
    Family { name: "scripting", commands: script::COMMANDS },
    Family { name: "server", commands: server::COMMANDS },
    Family { name: "transactions", commands: transaction::COMMANDS },
    Family { name: "cluster", commands: cluster::COMMANDS },
    Family { name: "replication", commands: replication::COMMANDS },
];
