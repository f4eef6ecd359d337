//! `ctl haproxy-config`: the configuration an HAProxy in front of a cluster needs. Asks nobody.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use api::balancer::Endpoint;
use balancer::haproxy::{ConfigFile, DEFAULT_MASTER, RuntimeAddress, render_config};

/// What the file is made from.
#[derive(Debug, clap::Args)]
pub(crate) struct HaproxyConfig {
    /// Announced endpoints, host:port,…: one frontend and one empty backend each
    #[arg(long, value_delimiter = ',', required = true)]
    announce: Vec<String>,
    /// Address nodes are dialled from; inside their balancer-sources
    #[arg(long)]
    source: Option<IpAddr>,
    /// Runtime API for the controller: a socket path, or a loopback host:port (it has no password)
    #[arg(long, default_value = "/run/haproxy/holdfast.sock")]
    runtime: String,
    /// Master socket (`haproxy -W -S …`): without it nothing is known of old workers, the balancers are no fence, and a
    /// failover waits for the lease
    #[arg(long, default_value = DEFAULT_MASTER)]
    master: String,
    /// Most connections
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    maxconn: u32,
}

/// Prints the file.
pub(crate) fn print(config: &HaproxyConfig) -> Result<()> {
    let frontends: Vec<Endpoint> =
        config.announce.iter().map(|text| endpoint(text)).collect::<Result<_>>()?;
    let socket = |text: &str| {
        RuntimeAddress::parse(text)
            .with_context(|| format!("`{text}` is neither a socket path nor host:port"))
    };
    let (runtime, master) = (socket(&config.runtime)?, socket(&config.master)?);
    let text = render_config(&ConfigFile {
        frontends: &frontends,
        bind_source: config.source,
        runtime: &runtime,
        master: Some(&master),
        maxconn: config.maxconn,
    });
    crate::out::text(&text)
}

fn endpoint(text: &str) -> Result<Endpoint> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.with_context(|| format!("endpoint `{text}` must be host:port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Endpoint { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        let v6 = endpoint("[2001:db8::1]:6379").expect("an endpoint");
        assert_eq!((v6.host.as_str(), v6.port), ("2001:db8::1", 6379));
        assert!(endpoint("lb1").is_err());
        assert!(endpoint("lb1:x").is_err());
    }
}
