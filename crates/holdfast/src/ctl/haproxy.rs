//! `ctl haproxy-config`: the configuration an HAProxy in front of a cluster needs. Asks nobody.

use std::net::{IpAddr, ToSocketAddrs as _};

use anyhow::{Context as _, Result, ensure};
use api::balancer::Endpoint;
use balancer::haproxy::{
    ConfigFile, DEFAULT_MASTER, Listen, MAXCONN_MAX, RuntimeAddress, render_config,
};

use super::words::with_tls_port;

/// What the file is made from.
#[derive(Debug, clap::Args)]
pub(crate) struct HaproxyConfig {
    /// Announced endpoints, HOST:PORT[/TLSPORT][=ADDRESS],…: one frontend and one empty backend for
    /// each port. HAProxy binds the host, or ADDRESS in its place where the host is a name that
    /// does not lead to this machine
    #[arg(long, value_delimiter = ',', required = true)]
    announce: Vec<String>,
    /// Address nodes are dialled from; inside their balancer-sources. IPv6 with or without brackets
    #[arg(long, value_parser = ip)]
    source: Option<IpAddr>,
    /// Runtime API for the controller: a socket path, or a loopback host:port (it has no password)
    #[arg(long, default_value = "/run/haproxy/holdfast.sock")]
    runtime: String,
    /// Master socket (`haproxy -W -S …`): without it nothing is known of old workers, the balancers
    /// are no fence, and a failover waits for the lease
    #[arg(long, default_value = DEFAULT_MASTER)]
    master: String,
    /// Take a --runtime or --master that other hosts reach. They have no password: a firewall has
    /// to keep everybody away from them but the controllers
    #[arg(long)]
    open_sockets: bool,
    /// Most connections
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAXCONN_MAX)))]
    maxconn: u32,
}

/// Prints the file.
pub(crate) fn print(config: &HaproxyConfig) -> Result<()> {
    let text = text(config)?;
    crate::out::text(&text)
}

fn text(config: &HaproxyConfig) -> Result<String> {
    let listens: Vec<Vec<Listen>> =
        config.announce.iter().map(|text| listens(text)).collect::<Result<_>>()?;
    let frontends = listens.concat();
    for frontend in &frontends {
        resolves(frontend)?;
    }
    let socket = |text: &str| {
        RuntimeAddress::parse(text)
            .with_context(|| format!("`{text}` is neither a socket path nor host:port"))
    };
    let (runtime, master) = (socket(&config.runtime)?, socket(&config.master)?);
    for address in [&runtime, &master] {
        ensure!(
            config.open_sockets || is_of_this_host(address),
            "anybody who reaches `{address}` rules this HAProxy, since it has no password: name a socket file or a loopback address, which ssh forwards, or say --open-sockets"
        );
    }
    let text = render_config(&ConfigFile {
        frontends: &frontends,
        bind_source: config.source,
        runtime: &runtime,
        master: Some(&master),
        maxconn: config.maxconn,
    })?;
    Ok(text)
}

/// Whether no other host reaches it.
fn is_of_this_host(address: &RuntimeAddress) -> bool {
    let RuntimeAddress::Tcp(text) = address else { return true };
    let host = web::tls::host(text);
    let ip = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// HAProxy looks names up when it starts, and does not start with one that it does not find.
fn resolves(Listen { endpoint, bind }: &Listen) -> Result<()> {
    if bind.is_some() {
        return Ok(());
    }
    let Endpoint { host, port } = endpoint;
    let found = (host.as_str(), *port).to_socket_addrs();
    found.map(drop).with_context(|| {
        format!(
            "find the address of `{host}`, which HAProxy would not find either: say what it is to bind, {host}:{port}=ADDRESS"
        )
    })
}

fn ip(text: &str) -> Result<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    inner.parse().with_context(|| format!("`{text}` is no IP address"))
}

/// `host:port`, or `host:port=address`; the port may have one of TLS behind a `/`.
fn listens(text: &str) -> Result<Vec<Listen>> {
    let (announced, bind) = match text.split_once('=') {
        Some((announced, bind)) => (announced, Some(ip(bind)?)),
        None => (text, None),
    };
    let (announced, tls_port) = with_tls_port(announced)?;
    let endpoint = endpoint(announced)?;
    let tls = tls_port.map(|port| Endpoint { port, ..endpoint.clone() });
    let endpoints = std::iter::once(endpoint).chain(tls);
    Ok(endpoints.map(|endpoint| Listen { endpoint, bind }).collect())
}

fn endpoint(text: &str) -> Result<Endpoint> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.with_context(|| format!("endpoint `{text}` must be host:port"))?;
    topology::announced::check(host, port).with_context(|| format!("endpoint `{text}`"))
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

    fn made(arguments: &[&str]) -> Result<String> {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            config: HaproxyConfig,
        }
        let line = ["haproxy-config"].iter().chain(arguments);
        text(&<Line as clap::Parser>::try_parse_from(line)?.config)
    }

    #[test]
    fn what_haproxy_would_refuse_is_refused_with_the_reason() {
        for (arguments, word) in [
            (&["--announce", "10.0.9.1:6379,10.0.9.1:6379"][..], "are one address"),
            (&["--announce", "[::1]:6379,[0::1]:6379"], "are one address"),
            (&["--announce", "a:1=10.0.9.1,b:1=10.0.9.1"], "are one address"),
            (&["--announce", "no.such.invalid:6379"], "=ADDRESS"),
            (&["--announce", "a b:6379"], "endpoint `a b:6379`"),
            (&["--announce", "10.0.9.1:0"], "endpoint `10.0.9.1:0`"),
            (&["--announce", "10.0.9.1:1/1"], "are one address"),
            (&["--announce", "10.0.9.1:1/x"], "no port of TLS"),
            (&["--announce", "a:1=nowhere"], "no IP address"),
            (&["--announce", "10.0.9.1:1", "--runtime", "/run/a b"], "socket `/run/a b`"),
            (&["--announce", "10.0.9.1:1", "--master", "/run/a,b"], "socket `/run/a,b`"),
            (&["--announce", "10.0.9.1:1", "--runtime", "10.0.8.1:9001"], "--open-sockets"),
            (&["--announce", "10.0.9.1:1", "--master", "[::]:9002"], "--open-sockets"),
            (&["--announce", "10.0.9.1:1", "--runtime", "lb1:9001"], "--open-sockets"),
            (&["--announce", "10.0.9.1:1", "--maxconn", "0"], "maxconn"),
            (&["--announce", "10.0.9.1:1", "--source", "lb1"], "no IP address"),
        ] {
            let error = format!("{:#}", made(arguments).expect_err("a refusal"));
            assert!(error.contains(word), "{arguments:?}: {error}");
        }
        for (socket, option) in [
            ("127.0.0.9:9001", None),
            ("[::1]:9001", None),
            ("localhost:9001", None),
            ("10.0.8.1:9001", Some("--open-sockets")),
        ] {
            let arguments = ["--announce", "10.0.9.1:1", "--runtime", socket];
            let arguments: Vec<&str> = arguments.into_iter().chain(option).collect();
            let text = made(&arguments).expect("a configuration");
            assert!(text.contains(&format!("{socket} level admin\n")), "{text}");
        }
        let named = made(&["--announce", "no.such.invalid:6379=10.0.9.1", "--source", "[::1]"]);
        let named = named.expect("a configuration");
        assert!(named.contains("bind 10.0.9.1:6379\n  default_backend hf_no.such.invalid_6379\n"));
        assert!(named.contains("source [::1]\n"));
        let both = made(&["--announce", "no.such.invalid:1/2=10.0.9.1"]).expect("two frontends");
        for port in [1, 2] {
            let lines =
                format!("bind 10.0.9.1:{port}\n  default_backend hf_no.such.invalid_{port}\n");
            assert!(both.contains(&lines), "{both}");
        }
    }
}
