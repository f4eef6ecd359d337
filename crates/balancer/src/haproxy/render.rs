//! A complete `haproxy.cfg` for a list of announced endpoints: closed until a controller opens it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use topology::Endpoint;

use super::names::{FRONTEND, backend_name};
use super::runtime::RuntimeAddress;

/// Path of the master socket unless an operator says otherwise.
pub const DEFAULT_MASTER: &str = "/run/haproxy/master.sock";

/// One announced endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where clients connect, as the topology has it.
    pub endpoint: Endpoint,
    /// The address to bind in place of its host: for a host name that HAProxy is not to look up, or
    /// that does not lead here.
    pub bind: Option<IpAddr>,
}

/// What a configuration is made from.
#[derive(Debug, Clone)]
pub struct ConfigFile<'a> {
    /// Announced endpoints, one frontend and one empty backend each.
    pub frontends: &'a [Listen],
    /// Address nodes are dialled from; must be inside the nodes' `balancer-sources`.
    pub bind_source: Option<IpAddr>,
    /// Runtime API the controller uses. A TCP one has no password: loopback only.
    pub runtime: &'a RuntimeAddress,
    /// Master socket, as `-S` gets it; only named in a comment; [`DEFAULT_MASTER`] if `None`.
    pub master: Option<&'a RuntimeAddress>,
    /// Most connections, 1 to [`MAXCONN_MAX`].
    pub maxconn: u32,
}

/// Above it HAProxy has no room for twice as many descriptors.
pub const MAXCONN_MAX: u32 = 500_000_000;

/// Longest path of a socket that HAProxy takes, in bytes.
const PATH_BYTES_MAX: usize = 97;

/// Why no configuration is made: HAProxy would refuse it, or serve something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Nothing to listen on.
    #[error("no announced endpoint: HAProxy does not start without a listener")]
    Nothing,
    /// One address, two frontends.
    #[error("{0} and {1} are one address: each may stand there once")]
    Twice(Endpoint, Endpoint),
    /// A host or port that no topology can announce.
    #[error(
        "endpoint {0} cannot be announced: a host name, an address, and a port from 1 to 65535 are needed"
    )]
    Endpoint(Endpoint),
    /// HAProxy would read it as something else.
    #[error(
        "socket `{0}`: a path has at most {PATH_BYTES_MAX} bytes, of letters, digits and `/._-+@:`; an address is host:port"
    )]
    Path(String),
    /// Out of range.
    #[error("maxconn {0} is not from 1 to {MAXCONN_MAX}")]
    Connections(u32),
}

/// The text of a `haproxy.cfg` (HAProxy 2.6 and later).
///
/// # Errors
/// What HAProxy would refuse is refused here, with the reason.
pub fn render_config(file: &ConfigFile<'_>) -> Result<String, RenderError> {
    check(file)?;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, file);
    Ok(out)
}

fn check(file: &ConfigFile<'_>) -> Result<(), RenderError> {
    if file.frontends.is_empty() {
        return Err(RenderError::Nothing);
    }
    let mut named: BTreeMap<String, &Endpoint> = BTreeMap::new();
    let mut bound: BTreeMap<(IpAddr, u16), &Endpoint> = BTreeMap::new();
    for Listen { endpoint, bind } in file.frontends {
        let is_known = topology::announced::check(&endpoint.host, endpoint.port);
        if is_known.as_ref() != Ok(endpoint) {
            return Err(RenderError::Endpoint(endpoint.clone()));
        }
        let ip = bind.or_else(|| endpoint.host.parse().ok());
        let same = named.insert(backend_name(endpoint), endpoint);
        let same = same.or_else(|| bound.insert((ip?, endpoint.port), endpoint));
        if let Some(other) = same {
            return Err(RenderError::Twice(other.clone(), endpoint.clone()));
        }
    }
    for address in [Some(file.runtime), file.master].into_iter().flatten() {
        let (text, is_path) = match address {
            RuntimeAddress::Unix(path) => (path.display().to_string(), true),
            RuntimeAddress::Tcp(text) => (text.clone(), false),
        };
        let others = if is_path { "/._-+@:" } else { "._-:[]" };
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
        if text.len() > PATH_BYTES_MAX || !is_plain {
            return Err(RenderError::Path(text));
        }
    }
    match file.maxconn {
        1..=MAXCONN_MAX => Ok(()),
        other => Err(RenderError::Connections(other)),
    }
}

fn write_all(out: &mut String, file: &ConfigFile<'_>) -> std::fmt::Result {
    let master = file.master.map_or_else(|| DEFAULT_MASTER.to_owned(), socket);
    writeln!(out, "# Made by Holdfast. Start with: haproxy -W -S {master} -f FILE")?;
    writeln!(
        out,
        "# Backends are empty on purpose: servers are added at run time by the controller,"
    )?;
    writeln!(out, "# and the master socket shows it the old workers that a reload leaves behind.")?;
    writeln!(
        out,
        "# HAProxy needs two descriptors for each of its connections and some more: more than {} (LimitNOFILE, ulimit -n).",
        u64::from(file.maxconn) * 2
    )?;
    writeln!(out, "global\n  stats socket {} level admin", stats_socket(file.runtime))?;
    writeln!(out, "  stats timeout 1m\n  maxconn {}\n", file.maxconn)?;
    writeln!(
        out,
        "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 24h\n  timeout server 24h"
    )?;
    // HAProxy cannot shut a session down whose client has closed already (`shutdown session` looks
    // at the request side only), so one at a stopped node would hold up a switch for all of
    // `server-fin`. Short is right: a Redis server drops what it has not sent to such a client.
    writeln!(out, "  timeout client-fin 30s\n  timeout server-fin 200ms")?;
    writeln!(out, "  option clitcpka\n  option srvtcpka\n  retries 0")?;
    for Listen { endpoint, bind } in file.frontends {
        let backend = backend_name(endpoint);
        let host = bind.map_or_else(|| endpoint.host.clone(), |ip| ip.to_string());
        let bind = Endpoint { host, port: endpoint.port };
        writeln!(
            out,
            "\nfrontend {FRONTEND}{backend}\n  bind {bind}\n  default_backend {backend}"
        )?;
        writeln!(out, "\nbackend {backend}")?;
        match file.bind_source {
            // Without brackets its last group is read as a port.
            Some(IpAddr::V6(source)) => writeln!(out, "  source [{source}]")?,
            Some(source) => writeln!(out, "  source {source}")?,
            None => {}
        }
    }
    Ok(())
}

/// With its options. The family is said only for addresses: a host name may have either.
fn stats_socket(address: &RuntimeAddress) -> String {
    match address {
        RuntimeAddress::Unix(path) => format!("{} mode 600", path.display()),
        RuntimeAddress::Tcp(_) => socket(address),
    }
}

fn socket(address: &RuntimeAddress) -> String {
    match address {
        RuntimeAddress::Unix(path) => path.display().to_string(),
        RuntimeAddress::Tcp(address) => match address.parse::<SocketAddr>() {
            Ok(SocketAddr::V4(_)) => format!("ipv4@{address}"),
            Ok(SocketAddr::V6(_)) => format!("ipv6@{address}"),
            Err(_) => address.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frontend_and_one_empty_backend_per_endpoint() {
        let listen = |host: &str, port| Listen {
            endpoint: Endpoint { host: host.to_owned(), port },
            bind: None,
        };
        let frontends = [listen("127.0.0.1", 7001), listen("::1", 7002)];
        let text = render_config(&ConfigFile {
            frontends: &frontends,
            bind_source: Some("127.0.0.3".parse().unwrap()),
            runtime: &RuntimeAddress::Unix("/run/a.sock".into()),
            master: Some(&RuntimeAddress::Unix("/run/m.sock".into())),
            maxconn: 1000,
        })
        .unwrap();
        for wanted in [
            "-S /run/m.sock",
            "stats socket /run/a.sock mode 600 level admin\n",
            "frontend fe_hf_127_0_0_1_7001\n  bind 127.0.0.1:7001\n  default_backend hf_127_0_0_1_7001\n",
            "backend hf_127_0_0_1_7001\n  source 127.0.0.3\n",
            "bind [::1]:7002\n",
            "backend hf_::1_7002\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in\n{text}");
        }
        assert!(!text.contains("  server "));
    }
}
