//! Values that are places on the network: addresses, networks, names of hosts.

use topology::Endpoint;

use super::{Value, words_of};
use crate::listener;

/// Addresses of this host as they are written, separated by blanks or commas (`bind`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts(pub Vec<String>);

impl Value for Hosts {
    fn parse(text: &str) -> Result<Self, String> {
        words_of(text)
            .map(|word| Host::parse(word).map(|host| host.0))
            .collect::<Result<_, _>>()
            .map(Self)
    }
    fn render(&self) -> String {
        self.0.join(" ")
    }
}

/// One of them (`admin-bind`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(pub String);

impl Value for Host {
    fn parse(text: &str) -> Result<Self, String> {
        match listener::address(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(format!(
                "`{text}` is no IP address of this host, such as 10.0.0.1 or ::1, nor `localhost` or `*`"
            )),
        }
    }
    fn render(&self) -> String {
        self.0.clone()
    }
}

/// Path of a socket file; empty: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketPath(pub String);

impl Value for SocketPath {
    fn parse(text: &str) -> Result<Self, String> {
        match text.len() {
            0..=listener::FILE_PATH_MAX => Ok(Self(text.to_owned())),
            length => Err(format!(
                "a path of at most {} bytes is needed, this one has {length}",
                listener::FILE_PATH_MAX
            )),
        }
    }
    fn render(&self) -> String {
        self.0.clone()
    }
}

/// Networks in CIDR form or single addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(pub Vec<ipnet::IpNet>);

impl Networks {
    /// Whether an address lies in one of them; IPv4 in IPv6 clothes counts as IPv4.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl Value for Networks {
    fn parse(text: &str) -> Result<Self, String> {
        let words = words_of(text);
        words
            .map(|word| {
                word.parse::<ipnet::IpNet>()
                    .or_else(|_| word.parse::<std::net::IpAddr>().map(ipnet::IpNet::from))
                    .map_err(|_| {
                        format!("`{word}` is neither an address nor a network such as 10.0.0.0/8")
                    })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
    fn render(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Value for web::Names {
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = words_of(text).collect();
        Self::parse(&words).map_err(|error| error.to_string())
    }
    fn render(&self) -> String {
        self.texts().collect::<Vec<_>>().join(" ")
    }
}

/// Where a master is: `host port`, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Master(pub Option<Endpoint>);

impl Value for Master {
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            [] => Ok(Self(None)),
            [no, one] if no.eq_ignore_ascii_case("no") && one.eq_ignore_ascii_case("one") => {
                Ok(Self(None))
            }
            [host, port] => match port.parse() {
                Ok(0) | Err(_) => Err(format!("`{port}` is no port: 1 to 65535")),
                Ok(port) => Ok(Self(Some(Endpoint { host: (*host).to_owned(), port }))),
            },
            _ => Err("a host and a port are needed, as in `10.0.0.1 6666`".into()),
        }
    }
    fn render(&self) -> String {
        let place = self.0.as_ref();
        place.map_or_else(String::new, |Endpoint { host, port }| format!("{host} {port}"))
    }
}
