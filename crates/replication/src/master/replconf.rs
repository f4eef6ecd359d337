//! `REPLCONF`: what a replica says about itself.

use crate::history::{History, Position};
use crate::number::decimal;
use crate::{EXTENSION, EXTENSION_VERSION, GRANTED, HISTORY, LINEAGE};

/// The options of one or several `REPLCONF` on a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replconf {
    /// Port to show for the replica.
    pub listening_port: Option<u16>,
    /// Address to show for it, if not the connection's.
    pub ip_address: Option<String>,
    /// The other side is Holdfast: the forms of [`crate::files`] apply on this connection.
    pub is_holdfast: bool,
    /// Epochs and end of the replica's data; a request with it is answered with the master's.
    pub position: Option<Position>,
    /// It asks what this node is granted.
    pub asks_grant: bool,
    /// Which nodes wrote the replica's data, as far as it knows.
    pub lineage: Option<History>,
    /// Which data it is, as in-sync sets name it. The text is checked where members are known.
    pub member: Option<String>,
    /// Newest sequence applied (seen here only outside a stream).
    pub ack: Option<u64>,
}

/// A `REPLCONF` that is refused as a whole. The text is what follows `-ERR `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An option without a value, or nothing at all.
    #[error("wrong number of arguments")]
    Arity,
    /// Not a port.
    #[error("listening-port should be number or out of range")]
    Port,
    /// An address of no characters.
    #[error("ip-address should not be empty")]
    Address,
    /// Too long, or with signs that would break a line.
    #[error("member expected")]
    Member,
    /// Not a sequence number.
    #[error("value is not an integer or out of range")]
    Ack,
    /// Not a history of epochs.
    #[error("malformed epoch history")]
    History,
    /// An option this node does not have; other nodes then do without it.
    #[error("unknown option")]
    Unknown,
}

/// Longest address taken; host names have at most 255 characters.
const ADDRESS_BYTES_MAX: usize = 255;

impl Replconf {
    /// Adds the options behind `REPLCONF`; on an error nothing is changed.
    pub fn apply(&mut self, args: &[&[u8]]) -> Result<(), Refusal> {
        if args.is_empty() || !args.len().is_multiple_of(2) {
            return Err(Refusal::Arity);
        }
        let mut new = self.clone();
        for pair in args.chunks_exact(2) {
            let (option, value) = (pair[0].to_ascii_lowercase(), pair[1]);
            match &option[..] {
                b"listening-port" => new.listening_port = Some(port(value)?),
                b"ip-address" => new.ip_address = Some(address(value)?),
                HISTORY => {
                    new.position = Some(Position::parse(value).map_err(|_| Refusal::History)?);
                }
                GRANTED if value == b"?" => new.asks_grant = true,
                LINEAGE => {
                    new.lineage = Some(History::parse(value).map_err(|_| Refusal::History)?);
                }
                b"member" => new.member = Some(address(value).map_err(|_| Refusal::Member)?),
                b"ack" => new.ack = Some(decimal(value).ok_or(Refusal::Ack)?),
                other if other == EXTENSION.as_bytes() && value == EXTENSION_VERSION.as_bytes() => {
                    new.is_holdfast = true;
                }
                _ => return Err(Refusal::Unknown),
            }
        }
        *self = new;
        Ok(())
    }
}

fn port(value: &[u8]) -> Result<u16, Refusal> {
    let port = decimal(value).and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0);
    port.ok_or(Refusal::Port)
}

/// The address is shown in INFO and ROLE: nothing in it may end a line or a field there.
fn address(value: &[u8]) -> Result<String, Refusal> {
    let is_plain = value.iter().all(|b| b.is_ascii_graphic() && *b != b',');
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && text.len() <= ADDRESS_BYTES_MAX && is_plain => {
            Ok(text.to_owned())
        }
        _ => Err(Refusal::Address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(line: &str) -> Result<Replconf, String> {
        let args: Vec<&[u8]> = line.split(' ').skip(1).map(str::as_bytes).collect();
        let mut replconf = Replconf::default();
        replconf.apply(&args).map_err(|e| e.to_string())?;
        Ok(replconf)
    }

    #[test]
    fn recorded_probes() {
        let text = include_str!("../../testdata/kvrocks/replication_probes.txt");
        let mut seen = 0;
        for line in text.lines().filter(|l| l.starts_with("REPLCONF")) {
            let (command, answer) = line.split_once(" -> ").unwrap();
            let ours = match apply(command) {
                Ok(_) => "+OK\\r\\n".to_owned(),
                Err(text) => format!("-ERR {text}\\r\\n"),
            };
            assert_eq!(ours, answer, "{command}");
            seen += 1;
        }
        assert_eq!(seen, 5);
    }

    #[test]
    fn options_are_taken_together_or_not_at_all() {
        let both = apply("REPLCONF Listening-Port 7000 ip-address 10.0.0.1").unwrap();
        assert_eq!(
            (both.listening_port, both.ip_address.as_deref()),
            (Some(7000), Some("10.0.0.1"))
        );
        assert!(apply("REPLCONF holdfast 1").unwrap().is_holdfast);
        assert_eq!(apply("REPLCONF holdfast 2").unwrap_err(), "unknown option");
        assert_eq!(apply("REPLCONF history 7;-").unwrap().position.map(|p| p.latest), Some(7));
        assert_eq!(apply("REPLCONF history 7").unwrap_err(), "malformed epoch history");
        let asked = apply("REPLCONF history 7;- granted ? lineage 1:0000000000000001:1:0").unwrap();
        assert!(asked.asks_grant && asked.lineage.is_some_and(|lineage| !lineage.is_empty()));
        assert_eq!(apply("REPLCONF granted 7").unwrap_err(), "unknown option");
        assert_eq!(apply("REPLCONF lineage x").unwrap_err(), "malformed epoch history");
        let mut replconf = both.clone();
        let bad: [&[u8]; 4] = [b"listening-port", b"7001", b"what", b"1"];
        assert_eq!(replconf.apply(&bad), Err(Refusal::Unknown));
        assert_eq!(replconf, both);
        assert!(replconf.apply(&[b"ip-address", b"1.2.3.4,port=1\r\nslave1:"]).is_err());
    }
}
