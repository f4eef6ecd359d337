//! PROXY protocol version 2: the header that tells a node which client is behind a balancer's
//! connection.
//!
//! Pure: bytes in, bytes out. The parser is incremental and bounded; it never reads past the length
//! the header states and never panics on any input. Of the TLVs two are read: Holdfast's own, by
//! which a balancer says that it can move the session (`docs/protocol.md` §12), and `PP2_TYPE_SSL`,
//! by which it says that TLS ended there. Others are skipped. Not here: reading version 1 (text),
//! checksums; who may send a header at all (`docs/protocol.md` §3). [`opening`] knows either
//! version where none is expected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use crate::moving::Mark;

/// The twelve bytes every header starts with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Longest header accepted, in bytes. The format allows 65,551; addresses and customary TLVs need
/// far less.
pub const MAX_HEADER: usize = 4096;

/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const TCP4_LEN: usize = 12;
const TCP6_LEN: usize = 36;

/// Of the range that the format leaves to applications.
const TLV_MOVING: u8 = 0xe7;
/// What its value begins with. Then come the form, 1 byte, the length of a record, 4 bytes, and in
/// form 2 a mark.
const MOVING: [u8; 13] = *b"holdfast-move";
/// Without a mark: older balancers.
const UNMARKED: u8 = 1;
const MARKED: u8 = 2;

/// `PP2_TYPE_SSL`: a byte of bits, 4 bytes that are 0 if the client's certificate is believed, then
/// TLVs of its own.
const TLV_TLS: u8 = 0x20;
/// The client speaks TLS.
const TLS: u8 = 0x01;
/// It showed a certificate on this connection, or in the session that this one resumes.
const SHOWED_NOW: u8 = 0x02;
const SHOWED: u8 = 0x04;
const TLS_VERSION: u8 = 0x21;
const TLS_NAME: u8 = 0x22;
const TLS_CIPHER: u8 = 0x23;
/// Longest name that is sent, in bytes; the standard allows 64 characters.
const NAME_MAX: usize = 256;

/// What the sender of the header stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The balancer itself speaks, for instance a health check.
    Local,
    /// A client speaks through it.
    Proxy,
}

/// A client whose TLS ended at the balancer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secure {
    /// As OpenSSL writes it: `TLSv1.3`. Empty if the balancer does not say.
    pub version: String,
    /// As the standard writes it: `TLS_AES_256_GCM_SHA384`. Empty if the balancer does not say.
    pub cipher: String,
    /// It showed a certificate that the balancer believes.
    pub is_known: bool,
    /// The common name in it.
    pub name: Option<String>,
}

/// A complete header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Bytes the header took, 16..=[`MAX_HEADER`]; what follows is the client's.
    pub len: usize,
    /// PROXY: a client speaks; LOCAL: the balancer itself.
    pub command: Command,
    /// The client; `None` with LOCAL and with families that are not TCP over IP.
    pub source: Option<SocketAddr>,
    /// The frontend the client connected to; `None` where `source` is.
    pub destination: Option<SocketAddr>,
    /// The sender can move the session to another node: when it ends its side, it wants a trailer.
    pub moving: Option<Moving>,
    /// The client speaks TLS with the sender.
    pub secure: Option<Box<Secure>>,
}

/// What a balancer says that can move a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moving {
    /// Length of the record that follows the header, 0 without one: then the session is new.
    pub record: u32,
    /// What it sends when the client has ended its side. Without one the balancer ends its own, and
    /// nobody can tell that from the wish for a trailer.
    pub mark: Option<Mark>,
}

/// What was found at the start of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// A correct beginning; more bytes are needed.
    Incomplete,
    /// A whole header.
    Header(Header),
}

/// Why bytes are not an acceptable header. The connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// The signature is wrong: this peer does not speak PROXY protocol version 2.
    #[error("not a PROXY protocol v2 header")]
    Signature,
    /// The high half of byte 13 is not 2.
    #[error("PROXY protocol version {0} is not supported")]
    Version(u8),
    /// The low half of byte 13 is neither LOCAL nor PROXY.
    #[error("PROXY protocol command {0} is not known")]
    Command(u8),
    /// Byte 14 names a family or transport that does not exist.
    #[error("PROXY protocol family {0:#04x} is not known")]
    Family(u8),
    /// The stated length makes the header longer than [`MAX_HEADER`].
    #[error("PROXY protocol header of {0} bytes is too long")]
    TooLong(usize),
    /// The stated length is too small for the addresses of the family.
    #[error("PROXY protocol header has {0} bytes of addresses, too few for its family")]
    TooShort(usize),
}

/// Looks for a header at the start of `bytes`. Wrong bytes are refused as soon as they are seen,
/// before the header is complete.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Error> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(Error::Signature);
    }
    let command = match bytes.get(12) {
        None => return Ok(Parsed::Incomplete),
        Some(byte) => command(*byte)?,
    };
    let family = match bytes.get(13) {
        None => return Ok(Parsed::Incomplete),
        Some(byte) => check_family(*byte)?,
    };
    let (Some(&high), Some(&low)) = (bytes.get(14), bytes.get(15)) else {
        return Ok(Parsed::Incomplete);
    };
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    let len = FIXED + body_len;
    if len > MAX_HEADER {
        return Err(Error::TooLong(len));
    }
    let needed = match (command, family) {
        (Command::Proxy, TCP4) => TCP4_LEN,
        (Command::Proxy, TCP6) => TCP6_LEN,
        _ => 0,
    };
    if body_len < needed {
        return Err(Error::TooShort(body_len));
    }
    let Some(body) = bytes.get(FIXED..len) else {
        return Ok(Parsed::Incomplete);
    };
    // LOCAL says nothing about a client, whatever addresses stand in it.
    let (source, destination) = match needed {
        TCP4_LEN => tcp4(body),
        TCP6_LEN => tcp6(body),
        _ => None,
    }
    .unzip();
    let tlvs = match command {
        Command::Proxy => body.get(needed..).unwrap_or_default(),
        Command::Local => &[],
    };
    let (moving, secure) = (moving(tlvs), secure(tlvs).map(Box::new));
    Ok(Parsed::Header(Header { len, command, source, destination, moving, secure }))
}

/// Kinds and values of the TLVs; what is not well-formed ends them.
fn tlvs(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, high, low], behind) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some((kind, value))
    })
}

fn moving(bytes: &[u8]) -> Option<Moving> {
    let ours = |(kind, value): (u8, &[u8])| {
        let value = (kind == TLV_MOVING).then(|| value.strip_prefix(&MOVING)).flatten()?;
        Some(form(value))
    };
    tlvs(bytes).find_map(ours).flatten()
}

fn secure(bytes: &[u8]) -> Option<Secure> {
    let (_, value) = tlvs(bytes).find(|(kind, _)| *kind == TLV_TLS)?;
    let (&[bits, fault @ ..], inner) = value.split_first_chunk::<5>()?;
    if bits & TLS == 0 {
        return None;
    }
    let text = |wanted: u8| {
        let (_, text) = tlvs(inner).find(|(kind, _)| *kind == wanted)?;
        std::str::from_utf8(text).ok().map(str::to_owned)
    };
    let is_known = bits & (SHOWED | SHOWED_NOW) != 0 && fault == [0; 4];
    Some(Secure {
        version: text(TLS_VERSION).unwrap_or_default(),
        cipher: text(TLS_CIPHER).unwrap_or_default(),
        is_known,
        name: text(TLS_NAME).filter(|_| is_known),
    })
}

fn form(value: &[u8]) -> Option<Moving> {
    let (&form, rest) = value.split_first()?;
    let (&length, rest) = rest.split_first_chunk()?;
    let mark = match form {
        UNMARKED if rest.is_empty() => None,
        MARKED => Some(Mark::new(rest.try_into().ok()?)),
        _ => return None,
    };
    Some(Moving { record: u32::from_be_bytes(length), mark })
}

/// What the bytes at the beginning of a command are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// No header: a command, or the beginning of one.
    Command,
    /// As far as they go they may be either; more bytes will tell.
    Undecided,
    /// A header of version 1 or 2.
    Header,
}

/// How a header of version 1 begins.
const TEXT: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];

/// Tells a header from a command, where a header may not be. Read as commands, version 2 ends in
/// QUIT, and its `+OK` would be taken for the answer to the client's first command.
pub fn opening(bytes: &[u8]) -> Opening {
    let is_like = |header: &[u8]| {
        let seen = bytes.len().min(header.len());
        bytes[..seen] == header[..seen]
    };
    let candidates: &[&[u8]] = match bytes.first() {
        Some(b'\r') => &[&SIGNATURE],
        Some(b'P') => &TEXT,
        _ => return Opening::Command,
    };
    match candidates.iter().find(|header| is_like(header)) {
        None => Opening::Command,
        Some(header) if bytes.len() < header.len() => Opening::Undecided,
        Some(_) => Opening::Header,
    }
}

/// A header for the connection of a client whose session can be moved; `record` is the length of
/// the record that is sent behind it, 0 for a new session.
pub fn encode_moving(
    source: SocketAddr,
    destination: SocketAddr,
    record: u32,
    mark: &Mark,
) -> Vec<u8> {
    encode_session(source, destination, record, mark, None)
}

/// The same for a client whose TLS ended here, where there is something to be said of it.
pub fn encode_session(
    source: SocketAddr,
    destination: SocketAddr,
    record: u32,
    mark: &Mark,
    secure: Option<&Secure>,
) -> Vec<u8> {
    let mut out = encode(source, destination);
    let value = [&MOVING[..], &[MARKED], &record.to_be_bytes(), mark.bytes()].concat();
    put(&mut out, TLV_MOVING, &value);
    if let Some(secure) = secure {
        put(&mut out, TLV_TLS, &tls(secure));
    }
    with_length(out)
}

/// A header for a client whose TLS ended here, and whose session is not moved.
pub fn encode_secure(source: SocketAddr, destination: SocketAddr, secure: &Secure) -> Vec<u8> {
    let mut out = encode(source, destination);
    put(&mut out, TLV_TLS, &tls(secure));
    with_length(out)
}

/// The header, which says how long it is.
fn with_length(mut out: Vec<u8>) -> Vec<u8> {
    let length = (out.len() - FIXED) as u16;
    out[14..FIXED].copy_from_slice(&length.to_be_bytes());
    out
}

/// Appends a TLV.
fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

/// The value of `PP2_TYPE_SSL`.
fn tls(Secure { version, cipher, is_known, name }: &Secure) -> Vec<u8> {
    let (bits, fault) = if *is_known { (TLS | SHOWED, 0_u32) } else { (TLS, 1) };
    let mut value = vec![bits];
    value.extend_from_slice(&fault.to_be_bytes());
    put(&mut value, TLS_VERSION, version.as_bytes());
    put(&mut value, TLS_CIPHER, cipher.as_bytes());
    if let Some(name) = name.as_ref().filter(|name| name.len() <= NAME_MAX) {
        put(&mut value, TLS_NAME, name.as_bytes());
    }
    value
}

/// A header for a client's connection. With one IPv4 and one IPv6 address both are written as IPv6,
/// the former as `::ffff:a.b.c.d`.
pub fn encode(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(FIXED + TCP6_LEN);
    out.extend_from_slice(&SIGNATURE);
    out.push(0x21);
    match (plain(source.ip()), plain(destination.ip())) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.push(TCP4);
            out.extend_from_slice(&(TCP4_LEN as u16).to_be_bytes());
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.push(TCP6);
            out.extend_from_slice(&(TCP6_LEN as u16).to_be_bytes());
            out.extend_from_slice(&wide(from).octets());
            out.extend_from_slice(&wide(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    out
}

/// A header for the balancer's own connection, such as a health check.
pub fn encode_local() -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend_from_slice(&[0x20, 0x00, 0, 0]);
    out
}

fn command(byte: u8) -> Result<Command, Error> {
    match (byte >> 4, byte & 0x0f) {
        (2, 0) => Ok(Command::Local),
        (2, 1) => Ok(Command::Proxy),
        (2, other) => Err(Error::Command(other)),
        (version, _) => Err(Error::Version(version)),
    }
}

/// UNSPEC, IPv4, IPv6 or UNIX over nothing, stream or datagram.
fn check_family(byte: u8) -> Result<u8, Error> {
    if byte >> 4 <= 3 && byte & 0x0f <= 2 { Ok(byte) } else { Err(Error::Family(byte)) }
}

fn tcp4(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let from: [u8; 4] = body.get(0..4)?.try_into().ok()?;
    let to: [u8; 4] = body.get(4..8)?.try_into().ok()?;
    let (from, to) = (Ipv4Addr::from(from), Ipv4Addr::from(to));
    Some(((from, port(body, 8)?).into(), (to, port(body, 10)?).into()))
}

fn tcp6(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let from: [u8; 16] = body.get(0..16)?.try_into().ok()?;
    let to: [u8; 16] = body.get(16..32)?.try_into().ok()?;
    let (from, to) = (plain(Ipv6Addr::from(from).into()), plain(Ipv6Addr::from(to).into()));
    Some(((from, port(body, 32)?).into(), (to, port(body, 34)?).into()))
}

fn port(body: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]))
}

/// `::ffff:a.b.c.d` is the same client as `a.b.c.d`: rules about addresses must see one of them
/// only.
fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn header(bytes: &[u8]) -> Header {
        match parse(bytes) {
            Ok(Parsed::Header(header)) => header,
            other => panic!("{other:?}"),
        }
    }

    /// Recorded from HAProxy 2.6 `send-proxy-v2`, client 127.0.0.1:36504, frontend 127.0.0.1:17001.
    const HAPROXY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x8e\x98Bi";

    #[test]
    fn reads_what_haproxy_sends() {
        let bytes = [HAPROXY, b"hi"].concat();
        assert_eq!(
            header(&bytes),
            Header {
                len: 28,
                command: Command::Proxy,
                source: Some(address("127.0.0.1:36504")),
                destination: Some(address("127.0.0.1:17001")),
                moving: None,
                secure: None,
            }
        );
        assert_eq!(encode(address("127.0.0.1:36504"), address("127.0.0.1:17001")), HAPROXY);
    }

    #[test]
    fn skips_tlvs_and_leaves_the_clients_bytes() {
        let mut bytes = HAPROXY.to_vec();
        bytes[15] = 17;
        bytes.extend_from_slice(b"\x04\0\x02xyPING");
        assert_eq!(header(&bytes).len, 33);
        assert_eq!(parse(&bytes[..32]), Ok(Parsed::Incomplete));
    }

    #[test]
    fn a_balancer_that_can_move_says_so_behind_other_tlvs() {
        let (from, to) = (address("10.0.0.1:5"), address("[2001:db8::1]:6"));
        let mark = Mark::new([7; Mark::BYTES]);
        for record in [0, 7, u32::MAX] {
            let bytes = encode_moving(from, to, record, &mark);
            let header = header(&bytes);
            assert_eq!(header.moving, Some(Moving { record, mark: Some(mark) }));
            assert_eq!(header.len, bytes.len());
            assert_eq!((header.source, header.destination), (Some(from), Some(to)));
        }
        let ours = encode_moving(from, from, 9, &mark)[FIXED + TCP4_LEN..].to_vec();
        let with = |tlvs: &[&[u8]]| {
            let mut bytes = encode(from, from);
            bytes.extend(tlvs.concat());
            bytes[15] = (bytes.len() - FIXED) as u8;
            header(&bytes).moving
        };
        let nine = Some(Moving { record: 9, mark: Some(mark) });
        assert_eq!(with(&[b"\x04\0\x02xy", &ours]), nine);
        assert_eq!(with(&[b"\xe7\0\x02xy", &ours]), nine, "somebody else's use of the type");
        assert_eq!(with(&[b"\x04\0\x7fxy", &ours]), None);
        assert_eq!(with(&[&ours[..ours.len() - 1]]), None);
        let older = b"\xe7\0\x12holdfast-move\x01\0\0\0\x09";
        assert_eq!(with(&[older]), Some(Moving { record: 9, mark: None }));
        let mut other = ours.clone();
        other[16] = 3;
        assert_eq!(with(&[&other]), None, "a form of later days");
        let mut local = encode_moving(from, from, 9, &mark);
        local[12] = 0x20;
        assert_eq!(header(&local).moving, None);
    }

    #[test]
    fn a_client_whose_tls_ended_at_the_balancer_is_told_of() {
        let (from, mark) = (address("10.0.0.1:5"), Mark::new([7; Mark::BYTES]));
        let known = Secure {
            version: "TLSv1.3".into(),
            cipher: "TLS_AES_256_GCM_SHA384".into(),
            is_known: true,
            name: Some("zoë".into()),
        };
        let sent = |secure: &Secure| {
            let bytes = encode_session(from, from, 9, &mark, Some(secure));
            let read = header(&bytes);
            assert_eq!(read.moving, Some(Moving { record: 9, mark: Some(mark) }));
            assert_eq!(read.len, bytes.len());
            read.secure.map(|secure| *secure)
        };
        assert_eq!(sent(&known), Some(known.clone()));
        let stays = header(&encode_secure(from, from, &known));
        assert_eq!((stays.moving, stays.secure.as_deref()), (None, Some(&known)));
        let unknown = Secure { is_known: false, name: None, ..known.clone() };
        assert_eq!(sent(&unknown), Some(unknown.clone()));
        // A client that nobody vouched for has no name, and a name that is too long is left out.
        assert_eq!(sent(&Secure { is_known: false, ..known.clone() }), Some(unknown));
        let long = Secure { name: Some("x".repeat(NAME_MAX + 1)), ..known.clone() };
        assert_eq!(sent(&long), Some(Secure { name: None, ..known }));
        let mut local = encode_session(from, from, 9, &mark, Some(&long));
        local[12] = 0x20;
        assert_eq!(header(&local).secure, None);
    }

    #[test]
    fn the_tls_that_haproxy_tells_of_is_read() {
        let with = |value: &[u8]| {
            let mut bytes = encode(address("10.0.0.1:5"), address("10.0.0.1:5"));
            put(&mut bytes, TLV_TLS, value);
            bytes[15] = (bytes.len() - FIXED) as u8;
            header(&bytes).secure.map(|secure| *secure)
        };
        // As `send-proxy-v2-ssl-cn` lays it out: bits, verify, version, then the name.
        let told = with(b"\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x03ann").expect("TLS");
        assert_eq!((told.version.as_str(), told.name.as_deref()), ("TLSv1.3", Some("ann")));
        assert!(told.is_known && told.cipher.is_empty());
        // A certificate that was not verified names nobody, and without one nobody is named.
        for bits in [b"\x07\0\0\0\x13", b"\x01\0\0\0\0"] {
            let told = with(&[&bits[..], b"\x22\0\x03ann"].concat()).expect("TLS");
            assert_eq!((told.is_known, told.name), (false, None));
        }
        assert_eq!(with(b"\0\0\0\0\0\x21\0\x07TLSv1.3"), None, "in clear");
        assert_eq!(with(b"\x01\0\0"), None, "too short");
        let cut = with(b"\x07\0\0\0\0\x22\0\x09ann").expect("TLS");
        assert_eq!((cut.is_known, cut.name), (true, None));
    }

    #[test]
    fn local_and_unspecified_name_nobody() {
        let local = header(&encode_local());
        assert_eq!((local.len, local.command, local.source), (16, Command::Local, None));
        let mut unspecified = encode_local();
        unspecified[12] = 0x21;
        assert_eq!(header(&unspecified).source, None);
        let mut addressed = HAPROXY.to_vec();
        addressed[12] = 0x20;
        assert_eq!(header(&addressed).source, None);
    }

    #[test]
    fn a_mapped_client_is_an_ipv4_client() {
        let bytes = encode(address("[::ffff:10.0.0.1]:5"), address("[2001:db8::1]:6"));
        assert_eq!(header(&bytes).source, Some(address("10.0.0.1:5")));
        assert_eq!(header(&bytes).destination, Some(address("[2001:db8::1]:6")));
    }

    #[test]
    fn refuses_at_the_first_wrong_byte() {
        assert_eq!(parse(b"*1\r\n"), Err(Error::Signature));
        assert_eq!(parse(b"\r\n\r\nP"), Err(Error::Signature));
        let with = |at: usize, byte: u8| {
            let mut bytes = HAPROXY.to_vec();
            bytes[at] = byte;
            parse(&bytes)
        };
        assert_eq!(with(12, 0x11), Err(Error::Version(1)));
        assert_eq!(with(12, 0x22), Err(Error::Command(2)));
        assert_eq!(with(13, 0x41), Err(Error::Family(0x41)));
        assert_eq!(with(13, 0x13), Err(Error::Family(0x13)));
        assert_eq!(with(14, 0xff), Err(Error::TooLong(16 + 0xff0c)));
        assert_eq!(with(15, 11), Err(Error::TooShort(11)));
        assert_eq!(with(13, TCP6), Err(Error::TooShort(12)));
    }

    #[test]
    fn a_header_is_known_where_none_may_be_and_a_command_is_none() {
        let text = [&b"PROXY TCP4 10.0.0.1 "[..], b"PROXY TCP6 ::1 ", b"PROXY UNKNOWN\r\n"];
        for (bytes, known) in [(&SIGNATURE[..], 12), (text[0], 11), (text[1], 11), (text[2], 13)] {
            for length in 1..bytes.len() {
                let expected = if length < known { Opening::Undecided } else { Opening::Header };
                assert_eq!(opening(&bytes[..length]), expected, "{:?}", &bytes[..length]);
            }
        }
        for bytes in [
            &b""[..],
            b"*1\r\n$4\r\nPING\r\n",
            b"PING\r\n",
            b"PR\r\n",
            b"PROXY tcp4 ",
            b"PROXY\r\n",
            b"\r\nPING\r\n",
            b"\r\n\r\n\r\n",
            b"\r\n\r\n\0\r\nQUIT\r\n",
            b"QUIT\r\n",
        ] {
            assert_eq!(opening(bytes), Opening::Command, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..80), keep in 0usize..17) {
            let bytes = [&HAPROXY[..keep], &tail[..]].concat();
            if let Ok(Parsed::Header(header)) = parse(&bytes) {
                prop_assert!(header.len <= bytes.len());
            }
        }

        #[test]
        fn what_is_written_is_read(from: (u128, u16), to: (u128, u16), short: bool) {
            let ip = |n: u128| match short {
                true => IpAddr::V4(Ipv4Addr::from(n as u32)),
                false => plain(Ipv6Addr::from(n).into()),
            };
            let (from, to) = (SocketAddr::new(ip(from.0), from.1), SocketAddr::new(ip(to.0), to.1));
            let bytes = encode(from, to);
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Incomplete));
            }
            let header = header(&bytes);
            prop_assert_eq!((header.source, header.destination), (Some(from), Some(to)));
            prop_assert_eq!(header.len, bytes.len());
        }
    }
}
