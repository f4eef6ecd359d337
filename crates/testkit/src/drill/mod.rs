//! The rows of the drill that need a network of their own: a namespace per host, the interface of
//! one goes down, or two hosts do not hear each other. Same story and same table as `holdfast
//! drill`, after which `make drill` runs it.
//!
//! It uses the site of the torture; what it measures is what clients behind the load balancers see.
//! [`control`] has the rows of several controllers on an etcd.

pub mod args;
pub mod clients;
pub mod control;
pub mod outcome;
pub mod report;
pub mod story;
pub mod writer;
