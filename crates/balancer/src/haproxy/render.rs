//! A complete `haproxy.cfg` for a list of announced endpoints: closed until a controller opens it.

use std::fmt::Write;
use std::net::IpAddr;

use topology::Endpoint;

use super::names::backend_name;
use super::runtime::RuntimeAddress;

/// Path of the master socket unless an operator says otherwise.
pub const DEFAULT_MASTER: &str = "/run/haproxy/master.sock";

/// What a configuration is made from.
#[derive(Debug, Clone)]
pub struct ConfigFile<'a> {
    /// Announced endpoints, one frontend and one empty backend each.
    pub frontends: &'a [Endpoint],
    /// Address nodes are dialled from; must be inside the nodes' `balancer-sources`.
    pub bind_source: Option<IpAddr>,
    /// Runtime API the controller uses. A TCP one has no password: loopback only.
    pub runtime: &'a RuntimeAddress,
    /// Master socket, as `-S` gets it; only named in a comment; [`DEFAULT_MASTER`] if `None`.
    pub master: Option<&'a RuntimeAddress>,
    /// Most connections, 1 and up.
    pub maxconn: u32,
}

/// The text of a `haproxy.cfg` (HAProxy 2.6 and later).
pub fn render_config(file: &ConfigFile<'_>) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, file);
    out
}

fn write_all(out: &mut String, file: &ConfigFile<'_>) -> std::fmt::Result {
    let master = file.master.map_or_else(|| DEFAULT_MASTER.to_owned(), socket);
    writeln!(out, "# Made by Holdfast. Start with: haproxy -W -S {master} -f FILE")?;
    writeln!(
        out,
        "# Backends are empty on purpose: servers are added at run time by the controller,"
    )?;
    writeln!(out, "# and the master socket shows it the old workers that a reload leaves behind.")?;
    writeln!(out, "global")?;
    match file.runtime {
        RuntimeAddress::Unix(path) => {
            writeln!(out, "  stats socket {} mode 600 level admin", path.display())?;
        }
        RuntimeAddress::Tcp(address) => writeln!(out, "  stats socket ipv4@{address} level admin")?,
    }
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
    for endpoint in file.frontends {
        let backend = backend_name(endpoint);
        writeln!(out, "\nfrontend fe_{backend}\n  bind {endpoint}\n  default_backend {backend}")?;
        writeln!(out, "\nbackend {backend}")?;
        if let Some(source) = file.bind_source {
            writeln!(out, "  source {source}")?;
        }
    }
    Ok(())
}

fn socket(address: &RuntimeAddress) -> String {
    match address {
        RuntimeAddress::Unix(path) => path.display().to_string(),
        RuntimeAddress::Tcp(address) => format!("ipv4@{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frontend_and_one_empty_backend_per_endpoint() {
        let frontends = [
            Endpoint { host: "127.0.0.1".to_owned(), port: 7001 },
            Endpoint { host: "::1".to_owned(), port: 7002 },
        ];
        let text = render_config(&ConfigFile {
            frontends: &frontends,
            bind_source: Some("127.0.0.3".parse().unwrap()),
            runtime: &RuntimeAddress::Unix("/run/a.sock".into()),
            master: Some(&RuntimeAddress::Unix("/run/m.sock".into())),
            maxconn: 1000,
        });
        for wanted in [
            "-S /run/m.sock",
            "stats socket /run/a.sock mode 600 level admin\n",
            "frontend fe_hf_127_0_0_1_7001\n  bind 127.0.0.1:7001\n  default_backend hf_127_0_0_1_7001\n",
            "backend hf_127_0_0_1_7001\n  source 127.0.0.3\n",
            "bind [::1]:7002\n",
            "backend hf___1_7002\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in\n{text}");
        }
        assert!(!text.contains("  server "));
    }
}
