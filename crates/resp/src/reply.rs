//! Replies as bytes. One writer for both protocol versions, so that a handler says what it means (a map, a null, a double) and the connection's version decides the form.

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

/// Appends replies to a buffer. Arrays and maps announce their length first; the caller then writes as many elements.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The version replies are written in.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// A writer for a part of this reply.
    pub fn reborrow(&mut self) -> Writer<'_> {
        Writer { out: self.out, protocol: self.protocol }
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

    /// A floating-point number in RESP3, its text in RESP2. `value` is in the form clients are to see.
    pub fn double(&mut self, value: &str) {
        match self.protocol {
            Protocol::V2 => self.bulk(value.as_bytes()),
            Protocol::V3 => self.line(b',', value),
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
    fn an_error_is_one_line_whatever_it_quotes() {
        assert_eq!(written(Protocol::V2, |w| w.error("ERR a\r\nb")), "-ERR a  b\r\n");
    }
}
