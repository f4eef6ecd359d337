//! The memory of a node as a whole, where `maxmemory` bounds it.
//!
//! [`parts`] divides it, [`held`] counts what connections hold of their part, [`pressure`] decides
//! whom memory is taken from, [`watch`] looks and does it, [`shown`] tells of it. Peers and
//! replicas are never made to wait, refused or closed for want of memory.

pub mod held;
pub mod parts;
pub mod pressure;
pub mod shown;
#[cfg(test)]
mod tests;
pub mod watch;
