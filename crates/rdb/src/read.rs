//! Values out of a stream of bytes.

mod stream;

use std::io;

use crate::checksum::{Running, begin};
use crate::packed::{self, Packed};
use crate::part::{Kind, Part};
use crate::{Error, STRING_MAX, lzf};

/// Takes bytes from a reader, and values from the bytes.
pub struct Reader<R> {
    input: R,
    checksum: Running,
    /// Bytes taken so far.
    taken: u64,
    kept: Option<Kept>,
}

/// Bytes that are wanted as they are, too.
struct Kept {
    bytes: Vec<u8>,
    is_too_long: bool,
}

/// What a length says.
pub(crate) enum Length {
    /// So much.
    Number(u64),
    /// What follows is a string in another form.
    Form(u8),
}

impl<R: io::Read> Reader<R> {
    /// From the reader's place on.
    pub fn new(input: R) -> Self {
        Self { input, checksum: begin(), taken: 0, kept: None }
    }

    /// What it took bytes from.
    pub(crate) fn into_input(self) -> R {
        self.input
    }

    /// From here on bytes are kept, behind these.
    pub(crate) fn keep(&mut self, bytes: Vec<u8>) {
        self.kept = Some(Kept { bytes, is_too_long: false });
    }

    /// What was kept; no longer than a string is.
    pub(crate) fn take_kept(&mut self) -> Result<Vec<u8>, Error> {
        match self.kept.take() {
            Some(kept) if kept.is_too_long => {
                Err(Error::Malformed("a value is longer than RESTORE takes"))
            }
            kept => Ok(kept.map(|kept| kept.bytes).unwrap_or_default()),
        }
    }

    /// Bytes taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The checksum of all of them.
    pub(crate) fn checksum(&self) -> u64 {
        self.checksum.clone().finalize()
    }

    /// So many bytes, of which the number is known here.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Cut,
            _ => Error::Io(error),
        })?;
        self.note(&bytes);
        Ok(bytes)
    }

    /// So many bytes as the data itself says: no more memory is taken than there are bytes.
    pub(crate) fn bytes(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        if length > STRING_MAX {
            return Err(Error::Malformed("a string is longer than any is"));
        }
        let mut bytes = Vec::new();
        let mut part = io::Read::take(&mut self.input, length);
        io::Read::read_to_end(&mut part, &mut bytes).map_err(Error::Io)?;
        if bytes.len() as u64 != length {
            return Err(Error::Cut);
        }
        self.note(&bytes);
        Ok(bytes)
    }

    fn note(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.taken += bytes.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.is_too_long |= (kept.bytes.len() + bytes.len()) as u64 > STRING_MAX;
            if kept.is_too_long {
                kept.bytes = Vec::new();
            } else {
                kept.bytes.extend_from_slice(bytes);
            }
        }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Error> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(crate) fn length_or_form(&mut self) -> Result<Length, Error> {
        let first = self.byte()?;
        Ok(match first {
            0x00..0x40 => Length::Number(u64::from(first)),
            0x40..0x80 => {
                let low = self.byte()?;
                Length::Number(u64::from(u16::from_be_bytes([first & 0x3f, low])))
            }
            0x80 => Length::Number(u64::from(u32::from_be_bytes(self.array()?))),
            0x81 => Length::Number(u64::from_be_bytes(self.array()?)),
            0xc0.. => Length::Form(first & 0x3f),
            _ => return Err(Error::Malformed("a length has no form")),
        })
    }

    /// A number in the form of lengths.
    pub(crate) fn length(&mut self) -> Result<u64, Error> {
        match self.length_or_form()? {
            Length::Number(number) => Ok(number),
            Length::Form(_) => Err(Error::Malformed("a length is a string")),
        }
    }

    /// A time, Unix ms.
    pub(crate) fn time_ms(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A string in any of its forms.
    pub(crate) fn string(&mut self) -> Result<Vec<u8>, Error> {
        let number = match self.length_or_form()? {
            Length::Number(length) => return self.bytes(length),
            Length::Form(0) => i32::from(i8::from_le_bytes(self.array()?)),
            Length::Form(1) => i32::from(i16::from_le_bytes(self.array()?)),
            Length::Form(2) => i32::from_le_bytes(self.array()?),
            Length::Form(3) => {
                let (packed, length) = (self.length()?, self.length()?);
                let packed = self.bytes(packed)?;
                return lzf::expand(&packed, length);
            }
            Length::Form(_) => return Err(Error::Malformed("a string has no form")),
        };
        Ok(itoa::Buffer::new().format(number).as_bytes().to_vec())
    }

    /// A score of the first version: a text, with its length before it.
    fn text_score(&mut self) -> Result<f64, Error> {
        match self.byte()? {
            0xff => Ok(f64::NEG_INFINITY),
            0xfe => Ok(f64::INFINITY),
            0xfd => Err(NO_SCORE),
            length => score(&self.bytes(u64::from(length))?),
        }
    }

    /// Calls `visit` with the parts of a value of this type. Returns what it is.
    ///
    /// # Errors
    /// Those of this crate, and those of `visit`.
    pub fn value<E: From<Error>>(
        &mut self,
        code: u8,
        visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<Kind, E> {
        let kind = Kind::of(code).ok_or(Error::Kind(code))?;
        match code {
            0 => visit(Part::String(&self.string()?))?,
            1 | 2 => {
                for _ in 0..self.length()? {
                    let string = self.string()?;
                    let is_list = kind == Kind::List;
                    visit(if is_list { Part::Element(&string) } else { Part::Member(&string) })?;
                }
            }
            3 | 5 => {
                for _ in 0..self.length()? {
                    let member = self.string()?;
                    let score = match code {
                        3 => self.text_score()?,
                        _ => f64::from_le_bytes(self.array()?),
                    };
                    visit(Part::Scored(&member, number(score)?))?;
                }
            }
            4 => {
                for _ in 0..self.length()? {
                    let (name, value) = (self.string()?, self.string()?);
                    visit(Part::Field { name: &name, value: &value, end_ms: 0 })?;
                }
            }
            14 | 18 => self.quicklist(code, visit)?,
            22 | 24 => self.timed_hash(code, visit)?,
            15 | 19 | 21 => stream::read(self, code, visit)?,
            _ => self.packed(code, visit)?,
        }
        Ok(kind)
    }

    fn quicklist<E: From<Error>>(
        &mut self,
        code: u8,
        visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for _ in 0..self.length()? {
            let is_plain = match code {
                14 => false,
                _ => match self.length()? {
                    1 => true,
                    2 => false,
                    _ => return Err(Error::Malformed("a node of a list has no form").into()),
                },
            };
            let node = self.string()?;
            if is_plain {
                visit(Part::Element(&node))?;
                continue;
            }
            let list = if code == 14 { Packed::ziplist(&node) } else { Packed::listpack(&node) };
            elements(list?, visit)?;
        }
        Ok(())
    }

    /// A hash whose fields have ends, as it lies since Redis 7.4.
    fn timed_hash<E: From<Error>>(
        &mut self,
        code: u8,
        visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let least_ms = if code == 24 { self.time_ms()? } else { 0 };
        for _ in 0..self.length()? {
            let end_ms = match (self.length()?, code) {
                (0, _) => 0,
                // The first end is 1.
                (more, 24) => end(least_ms.checked_add(more - 1))?,
                (end_ms, _) => end(Some(end_ms))?,
            };
            let (name, value) = (self.string()?, self.string()?);
            visit(Part::Field { name: &name, value: &value, end_ms })?;
        }
        Ok(())
    }

    /// A value that is one string.
    fn packed<E: From<Error>>(
        &mut self,
        code: u8,
        visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if code == 25 {
            // The first end of them all, which stands at the fields too.
            self.time_ms()?;
        }
        let bytes = self.string()?;
        match code {
            9 => {
                packed::zipmap(&bytes, |name, value| visit(Part::Field { name, value, end_ms: 0 }))
            }
            10 => elements(Packed::ziplist(&bytes)?, visit),
            11 => packed::integers(&bytes, |number| {
                visit(Part::Member(itoa::Buffer::new().format(number).as_bytes()))
            }),
            12 => scored(Packed::ziplist(&bytes)?, visit),
            13 => fields(Packed::ziplist(&bytes)?, false, visit),
            16 => fields(Packed::listpack(&bytes)?, false, visit),
            17 => scored(Packed::listpack(&bytes)?, visit),
            20 => {
                let mut list = Packed::listpack(&bytes)?;
                while let Some(item) = list.next()? {
                    visit(Part::Member(&item.text()))?;
                }
                Ok(())
            }
            23 | 25 => fields(Packed::listpack(&bytes)?, true, visit),
            code => Err(Error::Kind(code).into()),
        }
    }
}

const NO_SCORE: Error = Error::Malformed("a score is no number");

fn score(text: &[u8]) -> Result<f64, Error> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NO_SCORE)
}

fn number(score: f64) -> Result<f64, Error> {
    if score.is_nan() { Err(NO_SCORE) } else { Ok(score) }
}

/// An end of a field. Redis knows none that do not fit 48 bits.
fn end(end_ms: Option<u64>) -> Result<u64, Error> {
    let end_ms = end_ms.filter(|end_ms| *end_ms < 1 << 48);
    end_ms.ok_or(Error::Malformed("a field ends too late"))
}

fn elements<E: From<Error>>(
    mut list: Packed<'_>,
    visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(item) = list.next()? {
        visit(Part::Element(&item.text()))?;
    }
    Ok(())
}

fn scored<E: From<Error>>(
    mut list: Packed<'_>,
    visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(member) = list.next()? {
        let score = match list.must()? {
            packed::Item::Number(number) => number as f64,
            packed::Item::Bytes(text) => score(text)?,
        };
        visit(Part::Scored(&member.text(), number(score)?))?;
    }
    Ok(())
}

fn fields<E: From<Error>>(
    mut list: Packed<'_>,
    has_ends: bool,
    visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(name) = list.next()? {
        let value = list.must()?;
        let end_ms = match has_ends {
            true => end(u64::try_from(list.number()?).ok())?,
            false => 0,
        };
        visit(Part::Field { name: &name.text(), value: &value.text(), end_ms })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
