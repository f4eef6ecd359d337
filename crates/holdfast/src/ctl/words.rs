//! What the command line says of nodes, announced endpoints and balancers.

use anyhow::{Context as _, Result, bail};
use api::rest::{Announced, BalancerSpec, NodeFields, NodeSpec};
use topology::Endpoint;

use super::secret::{self, Password};

#[derive(Debug, clap::Args)]
pub(crate) struct Members {
    /// Addresses, host:port[/port of TLS alone],…
    #[arg(long, value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    /// Announced endpoints in the order of --nodes, host:port[/port of TLS alone] or `-` for none
    #[arg(long, value_delimiter = ',', value_name = "ENDPOINTS")]
    announce: Vec<String>,
    #[command(flatten)]
    pub(super) password: Password,
    /// A load balancer:
    /// name=…,endpoint=…[,kind=builtin|haproxy][,master=…][,source=…][,token-file=…|,token=…]
    #[arg(long = "balancer", value_name = "FIELDS")]
    balancers: Vec<String>,
    /// Go on although nothing could fence a master: a failover then risks two of them
    #[arg(long)]
    pub(super) allow_unfenced: bool,
}

impl Members {
    /// Refuses a list of nodes that leaves a shard with fewer of them than the others.
    pub(super) fn fill_shards_of(&self, nodes_per_shard: i64) -> Result<()> {
        let count = self.nodes.len();
        match usize::try_from(nodes_per_shard) {
            Ok(each) if each > 0 && !count.is_multiple_of(each) => bail!(
                "--nodes: {count} nodes cannot be parted into shards of {each} (--nodes-per-shard)"
            ),
            _ => Ok(()),
        }
    }
}

/// What `create` and `import` are told of nodes.
pub(super) fn specs(members: &Members) -> Result<Vec<NodeSpec>> {
    nodes(&members.nodes, &members.announce)
}

/// Nodes at these addresses, announced at these endpoints in the same order, or not at all.
pub(super) fn nodes(addresses: &[String], announce: &[String]) -> Result<Vec<NodeSpec>> {
    if !announce.is_empty() && announce.len() != addresses.len() {
        bail!(
            "--announce has {} endpoints for {} nodes; give one for each, `-` for none",
            announce.len(),
            addresses.len()
        );
    }
    let endpoints = announce.iter().map(String::as_str).chain(std::iter::repeat("-"));
    let spec = |(addr, endpoint): (&String, &str)| fields(addr, endpoint).map(NodeSpec::Full);
    addresses.iter().zip(endpoints).map(spec).collect()
}

/// A node at `host:port[/port of TLS]`, announced at such an endpoint or not.
pub(super) fn fields(address: &str, endpoint: &str) -> Result<NodeFields> {
    let (addr, tls_port) = with_tls_port(address)?;
    let announced = announced(endpoint)?;
    Ok(NodeFields { addr: addr.to_owned(), tls_port, announced, ..NodeFields::default() })
}

/// What stands before a port of TLS, and that.
pub(super) fn with_tls_port(text: &str) -> Result<(&str, Option<u16>)> {
    let Some((endpoint, port)) = text.split_once('/') else { return Ok((text, None)) };
    let number = port.parse().ok().filter(|port| *port > 0);
    let number = number.with_context(|| format!("`{text}`: `{port}` is no port of TLS"))?;
    Ok((endpoint, Some(number)))
}

/// An endpoint and its port of TLS, as [`announced`] reads it.
pub(super) fn shown(endpoint: &str, tls_port: Option<u16>) -> String {
    let tls = tls_port.map(|port| format!("/{port}")).unwrap_or_default();
    format!("{endpoint}{tls}")
}

/// `host:port`, IPv6 in brackets, and `/port` where TLS alone is spoken; `-` or `none` for none.
pub(super) fn announced(text: &str) -> Result<Announced> {
    if text == "-" || text == "none" {
        return Ok(Announced::default());
    }
    let (text, announced_tls_port) = with_tls_port(text)?;
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Some((host.to_owned(), port.parse().ok()?))
    });
    let (host, port) =
        parts.with_context(|| format!("endpoint `{text}` must be host:port, or `none`"))?;
    Ok(Announced { announced_host: Some(host), announced_port: Some(port), announced_tls_port })
}

/// `1 shard`, `2 shards`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The address of a node: `host:port`, IPv6 in brackets.
pub(super) fn endpoint(address: &str) -> Option<Endpoint> {
    let (_, port) = address.rsplit_once(':')?;
    Some(Endpoint { host: web::tls::host(address).to_owned(), port: port.parse().ok()? })
}

/// The rest of the line of a text that begins with a name and a separator, as those of INFO.
pub(super) fn value<'a>(text: &'a str, name: &str, separator: char) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(separator)).map(str::trim)
}

/// What `create` and `import` are told of balancers.
pub(super) fn balancers(members: &Members) -> Result<Vec<BalancerSpec>> {
    members.balancers.iter().map(|text| balancer_spec(text)).collect()
}

fn balancer_spec(text: &str) -> Result<BalancerSpec> {
    let mut spec = BalancerSpec { kind: "builtin".to_owned(), ..BalancerSpec::default() };
    let mut master = None;
    for (number, field) in (1..).zip(text.split(',')) {
        // It may be a token, or the rest of one with a comma in it: it is not shown.
        let strange = || {
            format!(
                "--balancer: its field {number} is none of name=…, kind=…, endpoint=…, master=…, source=…, token=…, token-file=…"
            )
        };
        let (name, value) = field.split_once('=').with_context(strange)?;
        let value = value.to_owned();
        match name {
            "name" => spec.name = value,
            "kind" => spec.kind = value,
            "endpoint" => spec.endpoint = value,
            "master" => master = Some(value),
            "token" => spec.token = Some(value),
            "token-file" => {
                spec.token = secret::of(None, Some(value.as_ref()), "token-file")?;
            }
            // Several sources are several fields.
            "source" => {
                spec.source =
                    Some(spec.source.map_or(value.clone(), |old| format!("{old},{value}")));
            }
            _ => bail!(strange()),
        }
    }
    spec.endpoint = with_master(spec.endpoint, master);
    Ok(spec)
}

/// A name as a part of a path, which is read again on its way: `..` or `?` in it would make it
/// another path. `all` is the command that shows which names there are.
pub(super) fn in_path<'a>(what: &str, name: &'a str, all: &str) -> Result<&'a str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || matches!(name, "." | "..") || !name.bytes().all(is_plain) {
        bail!(
            "no {what} is called `{name}`: names have letters, digits, `-`, `_` and `.`; `ctl {all}` shows all"
        );
    }
    Ok(name)
}

/// An HAProxy is reached at its Runtime API and its master socket.
pub(super) fn with_master(endpoint: String, master: Option<String>) -> String {
    match master {
        Some(master) => format!("{endpoint},{master}"),
        None => endpoint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_becomes_another_path() {
        assert_eq!(in_path("user", "a-B_9.x", "user list").expect("a name"), "a-B_9.x");
        for name in ["", ".", "..", "../namespaces/n", "a/b", "duty?x", "duty#", "%2e%2e", "ä"] {
            let error = in_path("user", name, "user list").expect_err(name).to_string();
            assert!(error.contains("`ctl user list` shows all"), "{error}");
        }
    }

    #[test]
    fn addresses_of_nodes_are_those_of_the_controller() {
        let of = |text: &str| endpoint(text).map(|endpoint| (endpoint.host, endpoint.port));
        assert_eq!(of("10.0.0.1:6666"), Some(("10.0.0.1".to_owned(), 6666)));
        assert_eq!(of("[::1]:7"), Some(("::1".to_owned(), 7)));
        assert_eq!(of("host"), None);
    }

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let info = "# Server\r\nrole_before:a\r\nrole:master\r\nrole:b\r\nempty:\r\n";
        assert_eq!(value(info, "role", ':'), Some("master"));
        assert_eq!(value(info, "empty", ':'), Some(""));
        assert_eq!((value(info, "ole", ':'), value(info, "role", ' ')), (None, None));
    }

    #[test]
    fn endpoints_and_balancers_are_read_from_the_command_line() {
        let v6 = announced("[::1]:7000").expect("an endpoint");
        assert_eq!(v6.announced_host.as_deref(), Some("::1"));
        assert_eq!(announced("none").expect("none"), Announced::default());
        assert!(announced("host").is_err());
        let both = announced("[::1]:7000/7001").expect("an endpoint");
        assert_eq!((both.announced_port, both.announced_tls_port), (Some(7000), Some(7001)));
        for wrong in ["lb:7000/", "lb:7000/0", "lb:7000/65536", "lb:7000/a", "lb/7001"] {
            assert!(announced(wrong).is_err(), "{wrong}");
        }
        let node = fields("10.0.0.1:6666/6667", "lb:1/2").expect("a node");
        assert_eq!((node.addr.as_str(), node.tls_port), ("10.0.0.1:6666", Some(6667)));
        assert_eq!(node.announced.announced_tls_port, Some(2));
        let (nodes_of, one) = (["a:1".to_owned(), "b:1".to_owned()], ["lb:1".to_owned()]);
        assert!(nodes(&nodes_of, &one).is_err());
        assert_eq!(nodes(&nodes_of, &[]).expect("two nodes").len(), 2);
        assert_eq!(shown("lb:1", Some(2)), "lb:1/2");
        assert_eq!(shown("lb:1", None), "lb:1");
        let spec = balancer_spec("name=b,endpoint=http://h:1,source=10.0.0.1,source=10.0.0.2")
            .expect("a balancer");
        assert_eq!(spec.source.as_deref(), Some("10.0.0.1,10.0.0.2"));
        let spec = balancer_spec("name=b,kind=haproxy,endpoint=/run/r,master=/run/m").expect("one");
        assert_eq!(spec.endpoint, "/run/r,/run/m");
        for wrong in ["token=s3cret,colour=red", "token=s3cret,red", "token=a,s3cret=", "=s3cret"] {
            let error = format!("{:#}", balancer_spec(wrong).expect_err(wrong));
            assert!(error.contains("its field ") && !error.contains("s3cret"), "{error}");
        }
    }
}
