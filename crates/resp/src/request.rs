//! Incremental parsing of what clients send: arrays of bulk strings, or inline commands.
//!
//! Invariant: a client can make the parser keep no more than [`Limits`] allow, and no byte sequence
//! panics. The parser remembers how far it came, so a large command that arrives in many pieces is
//! scanned once. Arguments are ranges of the caller's buffer; nothing is copied. Limits and error
//! texts are those of Redis 7 (`networking.c` behaviour as clients see it).

use std::ops::Range;

use memchr::memchr;

/// Longest inline command and longest length line, in bytes (Redis: `PROTO_INLINE_MAX_SIZE`).
pub const INLINE_MAX: usize = 64 * 1024;

/// Places of arguments that are kept from one command to the next.
const ARGUMENTS_KEPT: usize = 256;

/// What a client may make the server hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of one command.
    pub arguments: usize,
    /// Bytes of one argument (`proto-max-bulk-len`).
    pub bulk: usize,
    /// Whether the limits are those of a client that has not authenticated: the error text then
    /// says so.
    pub is_unauthenticated: bool,
}

impl Limits {
    /// Limits of an authenticated client.
    pub fn new(bulk: usize) -> Self {
        Self { arguments: 1024 * 1024, bulk, is_unauthenticated: false }
    }

    /// Limits before authentication, as Redis 7 has them.
    pub fn unauthenticated() -> Self {
        Self { arguments: 10, bulk: 16 * 1024, is_unauthenticated: true }
    }
}

/// The stream is broken; the connection is closed after the error is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// `*` was followed by no acceptable number.
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    /// `$` was followed by no acceptable number.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// Something else than a bulk string inside an array.
    #[error("Protocol error: expected '$', got '{0}'")]
    NotBulk(char),
    /// The line with the number of arguments does not end.
    #[error("Protocol error: too big mbulk count string")]
    ArrayLine,
    /// The line with the length of an argument does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLine,
    /// An inline command does not end.
    #[error("Protocol error: too big inline request")]
    Inline,
    /// An inline command with an open quote.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// More arguments than an unauthenticated client may send.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedArray,
    /// A longer argument than an unauthenticated client may send.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulk,
}

/// What one call of [`Parser::parse`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// One command, of that many bytes; its arguments are in [`Parser::arguments`]. May have no
    /// arguments at all (an empty line): to be skipped.
    Command {
        /// Bytes of the buffer it took.
        length: usize,
    },
}

/// Reads one command after another from the front of a buffer that the caller owns and drains.
#[derive(Debug, Default)]
pub struct Parser {
    position: usize,
    remaining: usize,
    bulk: Option<usize>,
    in_array: bool,
    arguments: Vec<Range<usize>>,
    inline: Vec<Vec<u8>>,
    is_inline: bool,
}

impl Parser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of arguments of the command just parsed.
    pub fn len(&self) -> usize {
        if self.is_inline { self.inline.len() } else { self.arguments.len() }
    }

    /// True for an empty line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Argument `index` of the command just parsed; `buffer` must be the one passed to
    /// [`Parser::parse`]. Empty when out of range.
    pub fn argument<'a>(&'a self, buffer: &'a [u8], index: usize) -> &'a [u8] {
        if self.is_inline {
            return self.inline.get(index).map_or(&[], Vec::as_slice);
        }
        self.arguments.get(index).and_then(|range| buffer.get(range.clone())).unwrap_or_default()
    }

    /// All arguments, in order.
    pub fn arguments<'a>(&'a self, buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        (0..self.len()).map(move |index| self.argument(buffer, index))
    }

    /// How many bytes beyond the present end of the buffer are known to be needed, so that the
    /// caller can reserve them. 0 when unknown.
    pub fn wanted(&self, buffer_length: usize) -> usize {
        self.bulk.map_or(0, |bulk| (self.position + bulk + 2).saturating_sub(buffer_length))
    }

    /// Lets go of the command that was parsed last, which has run. What one command may take would
    /// stay for as long as its connection, with a client that has said nothing else.
    pub fn forget(&mut self) {
        self.inline = Vec::new();
        if !self.in_array {
            self.arguments.clear();
            self.arguments.shrink_to(ARGUMENTS_KEPT);
        }
    }

    /// Bytes that it holds, beside the buffer, of a command that has not come whole yet.
    pub fn held(&self) -> usize {
        if self.in_array { self.arguments.capacity() * size_of::<Range<usize>>() } else { 0 }
    }

    /// Parses one command at the front of `buffer`. After [`Parsed::Incomplete`] call again with
    /// the same bytes and more behind them; after [`Parsed::Command`] with a buffer that no longer
    /// has those `length` bytes.
    pub fn parse(&mut self, buffer: &[u8], limits: &Limits) -> Result<Parsed, ProtocolError> {
        if !self.in_array {
            self.arguments.clear();
            self.position = 0;
            match buffer.first() {
                None => return Ok(Parsed::Incomplete),
                Some(b'*') => {
                    self.is_inline = false;
                    if let Some(parsed) = self.array_header(buffer, limits)? {
                        return Ok(parsed);
                    }
                }
                Some(_) => return self.inline(buffer),
            }
        }
        while self.remaining > 0 {
            let Some(length) = self.bulk_header(buffer, limits)? else {
                return Ok(Parsed::Incomplete);
            };
            let end = self.position + length;
            if buffer.len() < end + 2 {
                return Ok(Parsed::Incomplete);
            }
            self.arguments.push(self.position..end);
            self.position = end + 2;
            self.bulk = None;
            self.remaining -= 1;
        }
        self.in_array = false;
        Ok(Parsed::Command { length: self.position })
    }

    /// `None`: the header was read and arguments follow.
    fn array_header(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<Parsed>, ProtocolError> {
        let Some(end) = line_end(buffer, ProtocolError::ArrayLine)? else {
            return Ok(Some(Parsed::Incomplete));
        };
        let count = number(&buffer[1..end]).ok_or(ProtocolError::ArrayLength)?;
        self.position = end + 2;
        let Ok(count) = usize::try_from(count) else {
            return Ok(Some(Parsed::Command { length: self.position }));
        };
        if count > limits.arguments {
            return Err(if limits.is_unauthenticated {
                ProtocolError::UnauthenticatedArray
            } else {
                ProtocolError::ArrayLength
            });
        }
        self.remaining = count;
        self.in_array = count > 0;
        if count == 0 {
            return Ok(Some(Parsed::Command { length: self.position }));
        }
        Ok(None)
    }

    fn bulk_header(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        if let Some(length) = self.bulk {
            return Ok(Some(length));
        }
        let rest = buffer.get(self.position..).unwrap_or_default();
        match rest.first() {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::NotBulk(char::from(*other))),
        }
        let Some(end) = line_end(rest, ProtocolError::BulkLine)? else { return Ok(None) };
        let length = number(&rest[1..end])
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(ProtocolError::BulkLength)?;
        if length > limits.bulk {
            return Err(if limits.is_unauthenticated {
                ProtocolError::UnauthenticatedBulk
            } else {
                ProtocolError::BulkLength
            });
        }
        self.position += end + 2;
        self.bulk = Some(length);
        Ok(Some(length))
    }

    fn inline(&mut self, buffer: &[u8]) -> Result<Parsed, ProtocolError> {
        let Some(newline) = memchr(b'\n', buffer) else {
            if buffer.len() > INLINE_MAX {
                return Err(ProtocolError::Inline);
            }
            return Ok(Parsed::Incomplete);
        };
        if newline > INLINE_MAX {
            return Err(ProtocolError::Inline);
        }
        let line = &buffer[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.inline = split_words(line).ok_or(ProtocolError::Quotes)?;
        self.is_inline = true;
        Ok(Parsed::Command { length: newline + 1 })
    }
}

/// Position of the `\r` of the first line, if the whole line is there.
fn line_end(buffer: &[u8], too_long: ProtocolError) -> Result<Option<usize>, ProtocolError> {
    match memchr(b'\r', &buffer[..buffer.len().min(INLINE_MAX)]) {
        Some(end) if buffer.len() > end + 1 => Ok(Some(end)),
        Some(_) => Ok(None),
        None if buffer.len() >= INLINE_MAX => Err(too_long),
        None => Ok(None),
    }
}

/// A decimal number of at most 10 digits with an optional minus: no more is needed for lengths.
fn number(digits: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, digits),
    };
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    let mut value = 0_i64;
    for digit in digits {
        value = value * 10 + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    Some(if is_negative { -value } else { value })
}

/// Splits a line as redis-cli does: blanks separate, `"…"` with `\n \r \t \b \a \xHH \\ \"`, `'…'`
/// with `\'`. `None` on open quotes.
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && (first.is_ascii_whitespace() || *first == 0)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let (word, tail) = next_word(rest)?;
        words.push(word);
        rest = tail;
    }
}

fn next_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            [b'"', tail @ ..] => {
                rest = double_quoted(tail, &mut word)?;
                return is_separated(rest).then_some((word, rest));
            }
            [b'\'', tail @ ..] => {
                rest = single_quoted(tail, &mut word)?;
                return is_separated(rest).then_some((word, rest));
            }
            [byte, tail @ ..] if byte.is_ascii_whitespace() || *byte == 0 => {
                return Some((word, tail));
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

/// A closing quote must be followed by a blank or the end of the line.
fn is_separated(rest: &[u8]) -> bool {
    rest.first().is_none_or(|byte| byte.is_ascii_whitespace() || *byte == 0)
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digits = [*high, *low];
                let text = std::str::from_utf8(&digits).ok()?;
                word.push(u8::from_str_radix(text, 16).ok()?);
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'\'', tail @ ..] => return Some(tail),
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

#[cfg(test)]
mod tests;
