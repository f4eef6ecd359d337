//! Errors that more than one place answers with.

/// Commands are told this while the database is being replaced. Replicas look for its first word,
/// so the text is the protocol's.
pub use ::replication::master::LOADING;

/// Redis' text for `min-replicas-to-write`.
pub const NOREPLICAS: &str = "NOREPLICAS Not enough good replicas to write.";

/// A write meets a replica that takes none.
pub const READONLY: &str = "READONLY You can't write against a read only replica.";

/// A command about data meets a master that may not serve.
pub const LEASE_EXPIRED: &str =
    "CLUSTERDOWN master lease expired: this node has not heard from its controller";
