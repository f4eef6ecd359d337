//! Names of HAProxy backends and servers, the only memory a driver has between two runs.
//!
//! `t17` marks a backend as served by term 17 (never enabled, weight 0). `t17.5-<node>` leads to a node and was made by term 17, version 5; ids with bytes
//! that HAProxy does not take in names are written `t17.5_<hex>`. A name is never used twice for different nodes, so a late command on an old one answers "No such server".

use std::fmt;

use topology::Endpoint;

/// Prefix of every backend this driver owns.
const PREFIX: &str = "hf_";

/// `hf_<host>_<port>`, every byte of the host that is not a letter or digit replaced by `_`.
pub fn backend_name(endpoint: &Endpoint) -> String {
    let host: String =
        endpoint.host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{PREFIX}{host}_{}", endpoint.port)
}

/// Whether the backend is ours.
pub(super) fn is_ours(backend: &str) -> bool {
    backend.starts_with(PREFIX)
}

/// Best guess at the endpoint of a backend that this process was never told about: exact for IPv4.
pub(super) fn guess_endpoint(backend: &str) -> Endpoint {
    let rest = backend.strip_prefix(PREFIX).unwrap_or(backend);
    let (host, port) = rest.rsplit_once('_').unwrap_or((rest, ""));
    let dotted = host.replace('_', ".");
    let host = if dotted.parse::<std::net::Ipv4Addr>().is_ok() { dotted } else { host.to_owned() };
    Endpoint { host, port: port.parse().unwrap_or(0) }
}

/// A server's name, taken apart. Orders by `(term, version)` first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ServerName {
    /// `t<term>`.
    Marker { term: u64 },
    /// `t<term>.<version>-<node>`.
    Node { term: u64, version: u64, node: String },
}

impl ServerName {
    /// `None` for a name this driver never makes; each has one spelling only.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix('t')?;
        let parsed = match rest.split_once('.') {
            None => Self::Marker { term: rest.parse().ok()? },
            Some((term, rest)) => {
                let at = rest.find(['-', '_'])?;
                let (version, id) = (rest.get(..at)?, rest.get(at + 1..)?);
                let plain = rest.as_bytes().get(at) == Some(&b'-');
                let node = if plain { id.to_owned() } else { unhex(id)? };
                Self::Node { term: term.parse().ok()?, version: version.parse().ok()?, node }
            }
        };
        (parsed.node() != Some("") && parsed.to_string() == name).then_some(parsed)
    }

    /// The node it leads to.
    pub(super) fn node(&self) -> Option<&str> {
        match self {
            Self::Marker { .. } => None,
            Self::Node { node, .. } => Some(node),
        }
    }

    /// Whether a caller at `(term, version)` is out of date when it finds this name.
    pub(super) fn is_newer_than(&self, now: (u64, u64)) -> bool {
        match self {
            Self::Marker { term } => *term > now.0,
            Self::Node { term, version, .. } => (*term, *version) > now,
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marker { term } => write!(f, "t{term}"),
            Self::Node { term, version, node }
                if node.bytes().all(|b| b.is_ascii_alphanumeric()) =>
            {
                write!(f, "t{term}.{version}-{node}")
            }
            Self::Node { term, version, node } => {
                write!(f, "t{term}.{version}_")?;
                node.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

fn unhex(text: &str) -> Option<String> {
    let pairs = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok()
        })
        .collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_named_by_address() {
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 7001 };
        assert_eq!(backend_name(&endpoint), "hf_127_0_0_1_7001");
        assert_eq!(guess_endpoint("hf_127_0_0_1_7001"), endpoint);
        let named = Endpoint { host: "lb-1.example".to_owned(), port: 1 };
        assert_eq!(backend_name(&named), "hf_lb_1_example_1");
        assert_eq!(guess_endpoint("hf_lb_1_example_1").host, "lb_1_example");
    }

    #[test]
    fn server_names_round_trip() {
        let node = |node: &str| ServerName::Node { term: 17, version: 5, node: node.to_owned() };
        for (name, text) in [
            (ServerName::Marker { term: 17 }, "t17"),
            (node("abc"), "t17.5-abc"),
            (node("a b/é"), "t17.5_6120622fc3a9"),
        ] {
            assert_eq!(name.to_string(), text);
            assert_eq!(ServerName::parse(text), Some(name));
        }
        for foreign in [
            "main", "t", "t1x", "t017", "t1.2", "t1.2-", "t1.-a", "t1.2_6", "t1.2_zz", "t+1",
            "t1.2_+1",
        ] {
            assert_eq!(ServerName::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn newer_is_by_term_then_version() {
        let server = ServerName::parse("t17.5-a").unwrap();
        assert!(server.is_newer_than((16, 99)) && server.is_newer_than((17, 4)));
        assert!(!server.is_newer_than((17, 5)) && !server.is_newer_than((18, 0)));
        assert!(!ServerName::parse("t17").unwrap().is_newer_than((17, 0)));
    }
}
