//! The data server: sockets, sessions, commands, gates.
//!
//! Reading order: [`run`] starts it; [`worker`] and [`connection`] bring bytes; [`session`] turns
//! them into replies through the gates; [`families`] are the commands; [`node`] is what all threads
//! share; [`role`] changes topology and role; [`replication`] drives the streams.

pub mod acl;
pub mod admin;
pub mod backup;
pub mod clients;
pub mod clock;
pub mod command;
pub mod config;
pub mod connection;
pub mod cron;
pub mod cursors;
pub mod descriptors;
pub mod dial;
pub mod disk;
pub mod down_nodes;
mod durable;
pub mod events;
pub mod families;
pub mod gate;
pub mod grants;
mod handover;
pub mod hosts;
pub mod inbox;
pub mod info;
pub mod latency;
pub mod listener;
pub mod locks;
pub mod log;
pub mod long_reads;
pub mod machine;
pub mod memory;
pub mod migration;
pub mod monitor;
pub mod moves;
pub mod moving;
pub mod namespaces;
pub mod node;
pub mod perflog;
pub mod proxy_refused;
pub mod pubsub;
pub mod rdb_load;
mod reload;
pub mod replication;
pub mod role;
pub mod run;
pub mod scripts;
pub mod session;
#[cfg(test)]
mod shell;
pub mod slowlog;
pub mod stats;
pub mod stopping;
pub mod stream;
mod threads;
mod timed;
pub mod tls;
pub mod tls_records;
pub mod tracking;
mod upkeep;
pub mod version;
pub mod waiters;
pub mod watch;
pub mod worker;

pub use run::main;
