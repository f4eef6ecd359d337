//! The controller: observes nodes and balancers, plans with `planner`, acts, and keeps the record.
//!
//! Reading order: [`config`], [`store`], [`client`], `lead` (which of several controllers acts),
//! `cluster` (the loop), `rest`. [`transfer`] is for tools.
//!
//! Invariants: the store's file is opened by one process at a time, and where controllers share an
//! etcd, one of them leads; a record changes only by compare-and-swap; the plan is the only place
//! that decides who is master or holds a lease.
//! It never links the storage engine: to it a node is a RESP port.

mod access;
pub mod client;
mod cluster;
pub mod config;
mod events;
mod home;
mod lead;
mod metrics;
mod registry;
mod rest;
pub mod seal;
mod server;
pub mod store;
pub mod transfer;

pub use config::{Config, Kind};
pub use server::{bind, run, serve};

/// The configuration of a controller that runs.
pub type Live = web::Live<Config>;
