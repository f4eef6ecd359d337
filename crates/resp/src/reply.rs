//! Replies as bytes. One writer for both protocol versions, so that a handler says what it means (a
//! map, a null, a double) and the connection's version decides the form.

use std::cell::Cell;
use std::fmt::Write as _;

/// Protocol version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// RESP2, the version every connection starts with.
    #[default]
    V2,
    /// RESP3, after `HELLO 3`.
    V3,
}

/// How large a buffer may become. What would not fit is left out, and the reply is none.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    is_over: Cell<bool>,
}

impl Room {
    /// For a buffer of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { bytes, is_over: Cell::new(false) }
    }

    /// Whether a buffer of that length takes so many more.
    fn has(&self, length: usize, more: usize) -> bool {
        let has = length.saturating_add(more) <= self.bytes;
        self.is_over.set(self.is_over.get() || !has);
        has
    }

    /// Something was left out.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }
}

/// Appends replies to a buffer. Arrays and maps announce their length first; the caller then writes
/// as many elements.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
    room: Option<&'a Room>,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol, room: None }
    }

    /// Within this room.
    #[must_use]
    pub fn within(self, room: Option<&'a Room>) -> Self {
        Self { room, ..self }
    }

    /// The room there is; `None` where nothing is bounded.
    pub fn room(&self) -> Option<&'a Room> {
        self.room
    }

    /// The version replies are written in.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// A writer for a part of this reply.
    pub fn reborrow(&mut self) -> Writer<'_> {
        Writer { out: self.out, protocol: self.protocol, room: self.room }
    }

    /// Bytes as they are, already RESP.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// `+text`. Line breaks are replaced by blanks: they would end the reply.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// `-text`, beginning with its code. Line breaks are replaced by blanks.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    /// `:n`.
    pub fn integer(&mut self, value: i64) {
        self.head(b':', value);
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        if self.room.is_some_and(|room| !room.has(self.out.len(), bytes.len())) {
            return;
        }
        self.head(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An array of bulk strings.
    pub fn bulks<B: AsRef<[u8]>>(&mut self, items: &[B]) {
        self.array(items.len());
        for item in items {
            self.bulk(item.as_ref());
        }
    }

    /// A bulk string or null.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// The null of a missing value: `$-1` or `_`.
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::V2 => b"$-1\r\n",
            Protocol::V3 => b"_\r\n",
        });
    }

    /// The null of a missing array: `*-1` or `_`.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::V2 => b"*-1\r\n",
            Protocol::V3 => b"_\r\n",
        });
    }

    /// Head of an array of `length` elements.
    pub fn array(&mut self, length: usize) {
        self.head(b'*', length);
    }

    /// Head of a map of `length` pairs; RESP2: a flat array.
    pub fn map(&mut self, length: usize) {
        match self.protocol {
            Protocol::V2 => self.head(b'*', length * 2),
            Protocol::V3 => self.head(b'%', length),
        }
    }

    /// Head of a set of `length` elements; RESP2: an array.
    pub fn set(&mut self, length: usize) {
        match self.protocol {
            Protocol::V2 => self.head(b'*', length),
            Protocol::V3 => self.head(b'~', length),
        }
    }

    /// Head of a push message of `length` elements; RESP2: an array.
    pub fn push(&mut self, length: usize) {
        match self.protocol {
            Protocol::V2 => self.head(b'*', length),
            Protocol::V3 => self.head(b'>', length),
        }
    }

    /// Head of an attribute of `length` pairs, which says something about the reply behind it.
    /// RESP3 only.
    pub fn attribute(&mut self, length: usize) {
        self.head(b'|', length);
    }

    /// Readable text: a verbatim string in RESP3, a bulk string in RESP2.
    pub fn verbatim(&mut self, text: &[u8]) {
        match self.protocol {
            Protocol::V2 => self.bulk(text),
            Protocol::V3 => {
                self.head(b'=', text.len() + 4);
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// `#t`/`#f`, or 1/0.
    pub fn boolean(&mut self, value: bool) {
        match (self.protocol, value) {
            (Protocol::V2, _) => self.integer(i64::from(value)),
            (Protocol::V3, true) => self.out.extend_from_slice(b"#t\r\n"),
            (Protocol::V3, false) => self.out.extend_from_slice(b"#f\r\n"),
        }
    }

    /// A floating-point number in RESP3, its text in RESP2. `value` is in the form clients are to
    /// see.
    pub fn double(&mut self, value: &str) {
        match self.protocol {
            Protocol::V2 => self.bulk(value.as_bytes()),
            Protocol::V3 => self.line(b',', value),
        }
    }

    /// A floating-point number in Redis' form ([`float_text`]).
    pub fn float(&mut self, value: f64) {
        self.double(&float_text(value));
    }

    /// An array, map or set whose length is known at its end: `head` is the method that begins it,
    /// `write` returns the length that it is to be told.
    ///
    /// # Errors
    /// Those of `write`; then nothing was written.
    pub fn counted<E>(
        &mut self,
        head: fn(&mut Writer<'_>, usize),
        write: impl FnOnce(&mut Writer<'_>) -> Result<usize, E>,
    ) -> Result<(), E> {
        let start = self.out.len();
        let length = match write(&mut self.reborrow()) {
            Ok(length) => length,
            Err(error) => {
                self.out.truncate(start);
                return Err(error);
            }
        };
        let mut beginning = Vec::with_capacity(24);
        head(&mut Writer::new(&mut beginning, self.protocol), length);
        self.out.splice(start..start, beginning);
        Ok(())
    }

    /// How much is written.
    pub fn mark(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written since a mark.
    pub fn take_back(&mut self, mark: usize) {
        self.out.truncate(mark);
    }

    /// Puts what was written since the second mark before what was written since the first one:
    /// how a head comes before elements that had to be counted.
    pub fn put_first(&mut self, first: usize, second: usize) {
        let behind = self.out.len().saturating_sub(second);
        if let Some(part) = self.out.get_mut(first..).filter(|part| behind <= part.len()) {
            part.rotate_right(behind);
        }
    }

    /// An integer of any size, as decimal digits: a number of its own in RESP3, its text in RESP2.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::V2 => self.bulk(digits.as_bytes()),
            Protocol::V3 => self.line(b'(', digits),
        }
    }

    fn head(&mut self, kind: u8, number: impl itoa::Integer) {
        self.out.push(kind);
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &str) {
        self.out.push(kind);
        self.out.extend(
            text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }),
        );
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Digits that tell every double from every other.
const DIGITS: i32 = 17;

/// A double as Redis 7 shows it: 17 significant digits without trailing zeros, as C's `%.17g`; e.g.
/// 3.1 is `3.1000000000000001`, 1e21 is `1e+21`.
pub fn float_text(value: f64) -> String {
    if !value.is_finite() {
        let sign = if value.is_sign_negative() { "-" } else { "" };
        return format!("{sign}{}", if value.is_nan() { "nan" } else { "inf" });
    }
    let scientific = format!("{value:.16e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let plain = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        return plain(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", plain(digits), exponent.abs())
}

/// Escapes bytes as `redis-cli` prints them, for logs and error texts.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' | b'"' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            0x20..=0x7e => text.push(char::from(*byte)),
            // Writing to a String cannot fail.
            other => {
                let _ = write!(text, "\\x{other:02x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, protocol));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_version_has_its_own_form() {
        let everything = |writer: &mut Writer<'_>| {
            writer.map(1);
            writer.bulk(b"k");
            writer.null();
            writer.set(0);
            writer.boolean(true);
            writer.verbatim(b"t");
            writer.double("1.5");
            writer.big_number("123");
        };
        assert_eq!(
            written(Protocol::V2, everything),
            "*2\r\n$1\r\nk\r\n$-1\r\n*0\r\n:1\r\n$1\r\nt\r\n$3\r\n1.5\r\n$3\r\n123\r\n"
        );
        assert_eq!(
            written(Protocol::V3, everything),
            "%1\r\n$1\r\nk\r\n_\r\n~0\r\n#t\r\n=5\r\ntxt:t\r\n,1.5\r\n(123\r\n"
        );
    }

    #[test]
    fn floats_are_written_as_redis_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (3.1, "3.1000000000000001"),
            (0.1, "0.10000000000000001"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float_text(value), text);
        }
        assert_eq!(written(Protocol::V2, |w| w.float(1.5)), "$3\r\n1.5\r\n");
        assert_eq!(written(Protocol::V3, |w| w.float(f64::INFINITY)), ",inf\r\n");
    }

    #[test]
    fn a_length_may_be_told_at_the_end() {
        let three = |writer: &mut Writer<'_>| {
            (0..3).for_each(|number| writer.integer(number));
            Ok::<_, ()>(3)
        };
        let array = |writer: &mut Writer<'_>| {
            writer.simple("before");
            writer.counted(|writer, length| writer.set(length), three).unwrap();
        };
        assert_eq!(written(Protocol::V2, array), "+before\r\n*3\r\n:0\r\n:1\r\n:2\r\n");
        assert_eq!(written(Protocol::V3, array), "+before\r\n~3\r\n:0\r\n:1\r\n:2\r\n");
        let failed = |writer: &mut Writer<'_>| {
            writer.simple("before");
            let half = |writer: &mut Writer<'_>| {
                writer.integer(0);
                Err("half")
            };
            assert_eq!(writer.counted(|writer, length| writer.map(length), half), Err("half"));
        };
        assert_eq!(written(Protocol::V2, failed), "+before\r\n");
    }

    #[test]
    fn a_buffer_does_not_outgrow_its_room() {
        let (room, mut out) = (Room::new(20), Vec::new());
        let mut writer = Writer::new(&mut out, Protocol::V2).within(Some(&room));
        let many = |writer: &mut Writer<'_>| {
            (0..1000).for_each(|_| writer.bulk(b"some bytes"));
            Ok::<_, ()>(1000)
        };
        writer.bulk(b"fits");
        assert!(!writer.room().unwrap().is_over());
        writer.counted(|writer, length| writer.array(length), many).unwrap();
        assert!(room.is_over());
        assert!(out.len() < 60, "{}", out.len());
    }

    #[test]
    fn an_error_is_one_line_whatever_it_quotes() {
        assert_eq!(written(Protocol::V2, |w| w.error("ERR a\r\nb")), "-ERR a  b\r\n");
    }
}
