//! Real clusters in network namespaces, faults from a seed, and a check of everything clients were
//! told.
//!
//! One run: a cluster of its own ([`site`]), clients that write down every operation ([`client`];
//! what may be asked of which kind of key is in [`keys`] and [`commands`]), a schedule of faults
//! ([`faults`] names them) that depends on nothing but the seed ([`schedule`]) and is carried out
//! by [`nemesis`]. Meanwhile [`observer`] asks who is master of what, [`leaders`] which controller
//! leads, and [`terms`] each node whom it obeys; they only ask. Then everything is healed, all keys
//! are read once more, and [`verdict`] says what cannot have happened. A run with findings leaves a
//! folder ([`report`]).

pub mod actions;
pub mod args;
pub mod client;
pub mod commands;
pub mod deposed;
pub mod errands;
pub mod etcd;
pub mod faults;
pub mod finale;
pub mod health;
pub mod history;
pub mod host;
pub mod http;
pub mod keys;
pub mod leaders;
pub mod limits;
pub mod movers;
pub mod nemesis;
pub mod network;
pub mod observer;
pub mod placement;
pub mod prepare;
pub mod queues;
pub mod report;
pub mod rest;
pub mod run;
pub mod schedule;
pub mod scripts;
pub mod setup;
pub mod site;
pub mod streams;
pub mod subscribers;
pub mod terms;
pub mod timeline;
pub mod verdict;
