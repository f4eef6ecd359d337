//! What a text may have that is no topology.

/// Why a description was refused. `Display` is the error text of Kvrocks without `ERR `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer than five fields, a replica line with a wrong number of fields, no line at all, a host
    /// that is no text, too many nodes.
    #[error("Invalid cluster nodes info")]
    NodesInfo,
    /// An id that has not 40 bytes; a master line whose fifth field is not `-`.
    #[error("Invalid cluster node id")]
    NodeId,
    /// A local port outside 0..=65535.
    #[error("Invalid cluster node port")]
    NodePort,
    /// Neither `master` nor `slave`, `replica`, `slave,fail`.
    #[error("Invalid cluster node role")]
    NodeRole,
    /// Neither a slot nor `a-b` with a < b.
    #[error("Slot is out of range")]
    SlotRange,
    /// A slot named twice.
    #[error("Slot distribution is overlapped")]
    SlotOverlap,
    /// 40 bytes where no id belongs.
    #[error("Invalid nodes definition: Missing newline between node entries.")]
    MissingNewline,
    /// An announced host that is none, has a zone id, or stands beside a dash.
    #[error("Invalid cluster node lb host")]
    LbHost,
    /// An announced port outside 1..=65535.
    #[error("Invalid cluster node lb port")]
    LbPort,
    /// Two masters with one announced address: clients would be redirected for ever.
    #[error("Duplicated LB address")]
    DuplicatedLb,
    /// Not two port numbers, one that is the port beside it, or an announced one without an
    /// announced endpoint.
    #[error("Invalid cluster node tls ports")]
    TlsPorts,
}
