//! Which announced endpoints a topology line can carry.
//!
//! On a line the announced endpoint follows a list of slots, so a host that reads like a slot, a
//! dash or a node id cannot be told from one. The parser never has to guess because [`check`]
//! refuses such hosts; the controller asks it before it stores one.

use std::net::Ipv6Addr;

use crate::{
    model::Endpoint,
    parse_error::ParseError,
    slots_arg::{number, words},
};

/// Longest host name of the DNS.
const HOST_BYTES_MAX: usize = 253;

/// Checks an announced endpoint as an operator wrote it; the result is what the topology stores
/// (IPv6 without brackets).
///
/// # Errors
/// `LbHost` for a host that no line can express or that has a zone id, `LbPort` for a port outside
/// 1..=65535.
pub fn check(host: &str, port: u16) -> Result<Endpoint, ParseError> {
    let host = host_of(host.as_bytes())?;
    if is_slot_token(host.as_bytes()) {
        return Err(ParseError::LbHost);
    }
    if port == 0 { Err(ParseError::LbPort) } else { Ok(Endpoint { host, port }) }
}

/// The last two words of a line: an endpoint, or `- -` for explicitly none.
pub(crate) fn parse(host: &[u8], port: &[u8]) -> Result<Option<Endpoint>, ParseError> {
    if host == b"-" && port == b"-" {
        return Ok(None);
    }
    if port == b"-" {
        return Err(ParseError::LbHost);
    }
    let host = host_of(host)?;
    match number(port) {
        None | Some(0) => Err(ParseError::LbPort),
        Some(port) => Ok(Some(Endpoint { host, port })),
    }
}

/// `^[0-9]+(-[0-9]+)?$`, whatever the numbers are.
pub(crate) fn is_slot_token(word: &[u8]) -> bool {
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let mut parts = word.split(|byte| *byte == b'-');
    parts.next().is_some_and(is_number)
        && parts.next().is_none_or(is_number)
        && parts.next().is_none()
}

/// Equal for two endpoints exactly if they are the same address: letter case and the spelling of an
/// IPv6 address do not count.
pub fn address_key(endpoint: &Endpoint) -> (String, u16) {
    let host = match endpoint.host.parse::<Ipv6Addr>() {
        Ok(address) => address.to_string(),
        Err(_) => endpoint.host.to_ascii_lowercase(),
    };
    (host, endpoint.port)
}

/// `[…]` around an IPv6 address (zone id included) taken off; anything else as it is.
pub(crate) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .filter(|inner| {
            let address = words(inner.as_bytes(), b'%').next().unwrap_or_default();
            std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        })
        .unwrap_or(host)
}

fn host_of(host: &[u8]) -> Result<String, ParseError> {
    let host = std::str::from_utf8(host).map_err(|_| ParseError::LbHost)?;
    // 40 bytes read as the id of a node after a forgotten newline, brackets included.
    if host.len() == 40 {
        return Err(ParseError::LbHost);
    }
    let host = without_brackets(host);
    let is_valid =
        if host.contains(':') { host.parse::<Ipv6Addr>().is_ok() } else { is_name(host) };
    if is_valid && host.len() != 40 { Ok(host.to_owned()) } else { Err(ParseError::LbHost) }
}

/// A host name or an IPv4 address, as far as its bytes tell.
fn is_name(host: &str) -> bool {
    (1..=HOST_BYTES_MAX).contains(&host.len())
        && !host.starts_with(['-', '.'])
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressible_hosts() {
        for host in ["lb1", "192.168.0.2", "::1", "2001:db8::1", "lb-1.example.org", "1-2-3", "a"] {
            let stored = check(host, 6379).unwrap();
            assert_eq!((stored.host.as_str(), stored.port), (host, 6379));
        }
        assert_eq!(check("[2001:db8::1]", 1).unwrap().host, "2001:db8::1");
    }

    #[test]
    fn hosts_no_line_can_express() {
        let id = "a".repeat(40);
        let long = "a".repeat(254);
        for host in [
            "",
            "-",
            "7",
            "10-20",
            "123456",
            "fe80::1%eth0",
            "[fe80::1%eth0]",
            "a b",
            "[lb1]",
            "[::1",
            "a:b",
            "-lb",
            ".lb",
            "lb\r",
            "ä",
            &id,
            &long,
        ] {
            assert_eq!(check(host, 6379), Err(ParseError::LbHost), "{host:?}");
        }
        assert_eq!(check("lb1", 0), Err(ParseError::LbPort));
    }

    #[test]
    fn addresses_are_compared_by_meaning() {
        let endpoint = |host: &str, port| Endpoint { host: host.to_owned(), port };
        let same_address = |a, b| address_key(&a) == address_key(&b);
        assert!(same_address(endpoint("LB1", 1), endpoint("lb1", 1)));
        assert!(same_address(endpoint("::1", 1), endpoint("0:0::1", 1)));
        assert!(!same_address(endpoint("lb1", 1), endpoint("lb1", 2)));
        assert!(!same_address(endpoint("lb1", 1), endpoint("lb2", 1)));
    }
}
