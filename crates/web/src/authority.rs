//! `host`, `host:port`, `[v6]:port`: what a Host header, an Origin or an operator may say.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// A host and perhaps a port. Names are in lower case and without the final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// IPv4 in IPv6 clothes is IPv4.
    Address(IpAddr),
    Name(String),
}

/// Why a text is no host with or without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadName(String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no host name or address; accepted: name, name:port, [IPv6]:port", self.0)
    }
}

impl std::error::Error for BadName {}

impl FromStr for Authority {
    type Err = BadName;

    /// Strict: no user, no path, no blanks, no port 0, no IPv6 address without brackets, and no
    /// other spelling of an IPv4 address than four decimal numbers.
    fn from_str(text: &str) -> Result<Self, BadName> {
        read(text).ok_or_else(|| BadName(text.chars().take(100).collect()))
    }
}

fn read(text: &str) -> Option<Authority> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, behind) = rest.split_once(']')?;
            let address = IpAddr::from(inside.parse::<Ipv6Addr>().ok()?);
            (Host::Address(address.to_canonical()), behind)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (name(&text[..end])?, &text[end..])
        }
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => Some(number(digits)?),
        None if port.is_empty() => None,
        None => return None,
    };
    Some(Authority { host, port })
}

fn name(text: &str) -> Option<Host> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty()
        || text.len() > 253
        || text.split('.').any(str::is_empty)
        || !text.chars().all(is_known)
    {
        return None;
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Some(Host::Address(address)),
        Err(_) => Some(Host::Name(text.to_ascii_lowercase())),
    }
}

fn number(digits: &str) -> Option<u16> {
    let is_short = (1..=5).contains(&digits.len());
    let port = (is_short && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)?;
    port.parse().ok().filter(|port| *port != 0)
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            Host::Name(name) => f.write_str(name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Authority {
    /// `http://…` or `https://…` without path, as in an Origin; the port is the scheme's where none is named.
    pub(crate) fn of_origin(text: &str) -> Option<(Self, u16)> {
        let (scheme, rest) = text.split_once("://")?;
        let default = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some((read(rest)?, default))
    }

    /// Whether both are one place, for whom a missing port is `default`.
    pub(crate) fn is_same(&self, other: &Self, default: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }

    /// Whether a port is named.
    pub fn has_port(&self) -> bool {
        self.port.is_some()
    }

    /// The address, if it is one and no name.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Address(address) => Some(address),
            Host::Name(_) => None,
        }
    }

    /// `localhost` or an address of this machine's loopback, whatever the port: that of a forward
    /// may be another one.
    pub(crate) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Address(address) => address.is_loopback(),
            Host::Name(name) => name == "localhost",
        }
    }
}

/// Names that a process answers to beside its own addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Arc<[Authority]>);

impl Names {
    /// Reads what an operator listed.
    ///
    /// # Errors
    /// The first that is no name.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, BadName> {
        let names: Result<Vec<_>, _> = texts.iter().map(|text| text.as_ref().parse()).collect();
        names.map(|names| Self(names.into()))
    }

    /// One without a port stands for every port.
    pub(crate) fn contain(&self, asked: &Authority) -> bool {
        self.0
            .iter()
            .any(|name| name.host == asked.host && (name.port.is_none() || name.port == asked.port))
    }

    /// As they are written in a file.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        text.parse::<Authority>().ok().map(|authority| authority.to_string())
    }

    #[test]
    fn a_host_is_read_in_one_way_only() {
        for (text, is) in [
            ("localhost", "localhost"),
            ("LocalHost.:9379", "localhost:9379"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("[::1]:65535", "[::1]:65535"),
            ("[::FFFF:127.0.0.1]", "127.0.0.1"),
            ("lb_1.example-2.net", "lb_1.example-2.net"),
        ] {
            assert_eq!(read(text).as_deref(), Some(is), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let long = "a".repeat(254);
        for text in [
            "",
            ".",
            ":80",
            "::1",
            "[::1",
            "[::1]x",
            "[::1%lo]:1",
            "[127.0.0.1]",
            "localhost:",
            "localhost:0",
            "localhost:+1",
            "localhost:65536",
            "localhost:000080",
            "localhost:80:80",
            "localhost..",
            "user@localhost",
            "localhost@evil.example",
            "localhost:80@evil.example",
            "localhost/evil.example",
            "localhost#.evil.example",
            "localhost?.evil.example",
            "localhost\\.evil.example",
            "local host",
            "localhost,evil.example",
            "localhost\t",
            "löcalhost",
            "%6cocalhost",
            long.as_str(),
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn other_spellings_of_an_address_are_no_loopback() {
        for text in ["127.1", "0x7f.0.0.1", "2130706433", "017700000001", "0.0.0.0", "[::]"] {
            let authority: Authority = text.parse().unwrap();
            assert!(!authority.is_loopback(), "{text}");
        }
    }

    #[test]
    fn a_listed_name_without_a_port_stands_for_all_ports() {
        let names = Names::parse(&["ops.example", "lb.example:8443", "[2001:db8::1]"]).unwrap();
        let has = |text: &str| names.contain(&text.parse().unwrap());
        assert!(has("OPS.example.:1") && has("ops.example") && has("lb.example:8443"));
        assert!(has("[2001:db8:0::1]:9"));
        assert!(!has("lb.example") && !has("lb.example:844") && !has("x.ops.example"));
        assert!(Names::parse(&["http://ops.example"]).is_err());
    }
}
