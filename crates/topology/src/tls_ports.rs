//! The attribute `tls=<local>,<announced>` of a line of a topology: at which ports of a node TLS
//! alone is spoken.
//!
//! Without it the port that takes clients in clear takes TLS too, and nobody is sent elsewhere. It
//! is the third attribute of a node's addresses, behind its local and its announced endpoint; nodes
//! that do not say in heartbeats that they know it are sent lines without it, since for them it
//! would be a slot that is out of range.

use std::{fmt, num::NonZeroU16};

use serde::{Deserialize, Serialize};

/// What a word of a line begins with that is this attribute; neither a slot nor a host has a `=`.
pub(crate) const WORD: &[u8] = b"tls=";

/// Ports of a node where TLS alone is spoken; without one, who speaks TLS goes where others go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct TlsPorts {
    /// Beside its local port, at the same host: for peers, and for clients that are shown its own
    /// address. It stays with the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<NonZeroU16>,
    /// Beside its announced port, at the same host. It goes with the announced endpoint from node
    /// to node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<NonZeroU16>,
}

impl TlsPorts {
    /// Neither is there.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a node with these ports may have it: a port of TLS is another one than the port
    /// beside it, and an announced one needs a host.
    pub fn fits(&self, local: u16, announced: Option<u16>) -> bool {
        let is_other = |tls: Option<NonZeroU16>, port| tls.is_none_or(|tls| tls.get() != port);
        let is_announced_well = match announced {
            Some(port) => is_other(self.announced, port),
            None => self.announced.is_none(),
        };
        is_other(self.local, local) && is_announced_well
    }

    /// What [`fmt::Display`] writes; `None` for anything else.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (local, announced) = std::str::from_utf8(text).ok()?.split_once(',')?;
        let (local, announced) = (number(local)?, number(announced)?);
        Some(Self { local: NonZeroU16::new(local), announced: NonZeroU16::new(announced) })
    }
}

/// Digits alone: no sign, no blanks.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for TlsPorts {
    /// `<local>,<announced>`, 0 for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |port: Option<NonZeroU16>| port.map_or(0, NonZeroU16::get);
        write!(f, "{},{}", number(self.local), number(self.announced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(local: u16, announced: u16) -> TlsPorts {
        TlsPorts { local: NonZeroU16::new(local), announced: NonZeroU16::new(announced) }
    }

    #[test]
    fn ports_are_two_numbers() {
        for (text, read) in [
            ("6667,6380", Some(ports(6667, 6380))),
            ("6667,0", Some(ports(6667, 0))),
            ("0,6380", Some(ports(0, 6380))),
            ("0,0", Some(TlsPorts::default())),
            ("65536,1", None),
            ("1", None),
            ("1,", None),
            (",1", None),
            ("1,2,3", None),
            ("-1,2", None),
            ("+1,2", None),
            ("", None),
        ] {
            assert_eq!(TlsPorts::parse(text.as_bytes()), read, "{text}");
            if let Some(read) = read {
                assert_eq!(read.to_string(), text);
            }
        }
    }

    #[test]
    fn a_port_of_tls_is_another_one_and_has_a_host() {
        assert!(TlsPorts::default().fits(6666, None));
        assert!(ports(6667, 6380).fits(6666, Some(6379)));
        // Of two hosts they may be the same.
        assert!(ports(6667, 6667).fits(6666, Some(6379)));
        assert!(!ports(6666, 0).fits(6666, Some(6379)));
        assert!(!ports(0, 6379).fits(6666, Some(6379)));
        assert!(!ports(6667, 6380).fits(6666, None));
    }
}
