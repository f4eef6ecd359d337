//! Names of HAProxy backends and servers, the only memory a driver has between two runs.
//!
//! `t17` marks a backend as served by term 17 (never enabled, weight 0). `t17.5-<node>` leads to a
//! node and was made by term 17, version 5; ids with bytes that HAProxy does not take in names are
//! written `t17.5_<hex>`. A name is never used twice for different nodes, so a late command on an
//! old one answers "No such server".

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use topology::Endpoint;

/// Prefix of every backend this driver owns.
const PREFIX: &str = "hf_";
/// What stands before it in the name of the frontend that leads there.
pub(super) const FRONTEND: &str = "fe_";

/// `hf_<host>_<port>`: a name for each address, another one for every other, however the same one
/// is spelled. Dots of IPv4 are `_`, host names are in lower case, and one that reads like IPv4
/// then begins with `:`, which no host name does.
pub fn backend_name(endpoint: &Endpoint) -> String {
    let Endpoint { host, port } = endpoint;
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => v4.to_string().replace('.', "_"),
        Ok(IpAddr::V6(v6)) => v6.to_string(),
        Err(_) => {
            let name = host.to_ascii_lowercase();
            if is_dotted(&name.replace('_', ".")) { format!(":{name}") } else { name }
        }
    };
    format!("{PREFIX}{host}_{port}")
}

/// The name in configurations from before host names and IPv6 addresses were kept apart: every byte
/// of the host that is not a letter or digit is `_`.
fn former_name(endpoint: &Endpoint) -> String {
    let host: String =
        endpoint.host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{PREFIX}{host}_{}", endpoint.port)
}

/// The backend of each endpoint, of those that the configuration has; `None` if it has none for it.
/// One of a former name counts where it is nobody else's.
pub(super) fn find_backends(
    endpoints: &[&Endpoint],
    backends: &[String],
) -> Vec<(String, Option<String>)> {
    let is_there = |name: &String| backends.contains(name);
    let own: Vec<String> = endpoints.iter().map(|endpoint| backend_name(endpoint)).collect();
    let former: Vec<String> = endpoints.iter().map(|endpoint| former_name(endpoint)).collect();
    let find = |(place, name): (usize, &String)| {
        let older = &former[place];
        let is_claimed = own.contains(older)
            || former.iter().enumerate().any(|(other, name)| other != place && name == older);
        let found = Some(name.clone()).filter(is_there);
        (
            name.clone(),
            found.or_else(|| Some(older.clone()).filter(is_there).filter(|_| !is_claimed)),
        )
    };
    own.iter().enumerate().map(find).collect()
}

fn is_dotted(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok()
}

/// Whether the backend is ours: named after a host and a port. An operator's `hf_web` is not.
pub(super) fn is_ours(backend: &str) -> bool {
    let address = backend.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('_'));
    let is_port =
        |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0 && port.to_string() == text);
    address.is_some_and(|(host, port)| !host.is_empty() && is_port(port))
}

/// The endpoint of a backend that this process was never told about; a guess for former names.
pub(super) fn guess_endpoint(backend: &str) -> Endpoint {
    let rest = backend.strip_prefix(PREFIX).unwrap_or(backend);
    let (host, port) = rest.rsplit_once('_').unwrap_or((rest, ""));
    let dotted = host.replace('_', ".");
    let host = match host.strip_prefix(':').filter(|name| !name.starts_with(':')) {
        _ if is_dotted(&dotted) => dotted,
        Some(name) => name.to_owned(),
        None => host.to_owned(),
    };
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

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.to_owned(), port }
    }

    #[test]
    fn backends_are_named_by_address() {
        for (host, port, name) in [
            ("127.0.0.1", 7001, "hf_127_0_0_1_7001"),
            ("::1", 7001, "hf_::1_7001"),
            ("2001:db8::1", 1, "hf_2001:db8::1_1"),
            ("lb-1.example", 1, "hf_lb-1.example_1"),
            ("127_0_0_1", 7001, "hf_:127_0_0_1_7001"),
            ("lb_1", 2, "hf_lb_1_2"),
        ] {
            assert_eq!(backend_name(&endpoint(host, port)), name);
            assert_eq!(guess_endpoint(name), endpoint(host, port));
            assert!(is_ours(name) && is_ours(&former_name(&endpoint(host, port))), "{name}");
        }
        for theirs in ["hf_web", "hf_", "hf__1", "hf_web_", "hf_web_0", "hf_web_v2", "hf_web_01"] {
            assert!(!is_ours(theirs), "{theirs}");
        }
        let same =
            |a: &str, b: &str| backend_name(&endpoint(a, 1)) == backend_name(&endpoint(b, 1));
        assert!(same("LB1", "lb1") && same("0:0::1", "::1"));
    }

    #[test]
    fn no_two_addresses_share_a_name() {
        let hosts = [
            "lb-1.a",
            "lb.1.a",
            "lb.1-a",
            "lb_1_a",
            "lb-1-a",
            "10.0.0.1",
            "10_0_0_1",
            "10-0-0-1",
            "10.0.0_1",
            "::1",
            "1::",
            "a",
            "a_1",
            "1",
            "1_1",
            "::a",
            "fd00::1",
            "fd00::1:0:0:1",
        ];
        let ports = [1, 11, 111];
        let all = || hosts.iter().flat_map(|host| ports.map(|port| endpoint(host, port)));
        let names: std::collections::BTreeSet<String> = all().map(|e| backend_name(&e)).collect();
        assert_eq!(names.len(), hosts.len() * ports.len());
    }

    #[test]
    fn a_former_name_counts_where_it_is_nobody_elses() {
        let (dash, dot) = (endpoint("lb-1", 1), endpoint("lb.1", 1));
        let there = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let found = |endpoints: &[&Endpoint], names: &[&str]| -> Vec<Option<String>> {
            find_backends(endpoints, &there(names)).into_iter().map(|(_, found)| found).collect()
        };
        assert_eq!(found(&[&dash], &["hf_lb_1_1"]), [Some("hf_lb_1_1".to_owned())]);
        assert_eq!(found(&[&dash], &["hf_lb_1_1", "hf_lb-1_1"]), [Some("hf_lb-1_1".to_owned())]);
        assert_eq!(found(&[&dash, &dot], &["hf_lb_1_1"]), [None, None], "whose is it?");
        let plain = endpoint("lb_1", 1);
        let expected = [None, Some("hf_lb_1_1".to_owned())];
        assert_eq!(found(&[&dash, &plain], &["hf_lb_1_1"]), expected, "it is the other's own");
        assert_eq!(found(&[&endpoint("::1", 7)], &["hf___1_7"]), [Some("hf___1_7".to_owned())]);
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
