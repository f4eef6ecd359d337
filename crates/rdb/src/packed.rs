//! Small values in one string: ziplists, listpacks, sets of integers, zipmaps. They are walked from
//! the front, and are checked as far as that goes.

use std::borrow::Cow;

use crate::Error;

/// An element of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Bytes(&'a [u8]),
    Number(i64),
}

impl<'a> Item<'a> {
    /// As a string of Redis has it.
    pub(crate) fn text(self) -> Cow<'a, [u8]> {
        match self {
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
            Self::Number(number) => {
                Cow::Owned(itoa::Buffer::new().format(number).as_bytes().to_vec())
            }
        }
    }

    /// As a number, also where it lies as a text.
    pub(crate) fn number(self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        }
    }
}

/// The first bytes, and what follows.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*bytes)
}

fn take_slice<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}

/// A number of three bytes, the low one first.
fn of_three([low, middle, high]: [u8; 3]) -> i64 {
    i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)
}

/// A packed list, of which the elements are taken one by one.
#[derive(Debug, Clone)]
pub(crate) struct Packed<'a> {
    rest: &'a [u8],
    form: Form,
    /// Elements that are still to come, where it says how many it has.
    left: Option<u16>,
    /// Length of the element before, which a ziplist repeats.
    before: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Ziplist,
    Listpack,
}

/// The number of elements that means "count them".
const UNCOUNTED: u16 = u16::MAX;
/// The byte behind the last element.
const END: u8 = 0xff;

impl<'a> Packed<'a> {
    /// A ziplist.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub(crate) fn ziplist(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::new(bytes, Form::Ziplist).ok_or(Error::Malformed("a ziplist is none"))
    }

    /// A listpack.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub(crate) fn listpack(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::new(bytes, Form::Listpack).ok_or(Error::Malformed("a listpack is none"))
    }

    fn new(bytes: &'a [u8], form: Form) -> Option<Self> {
        let mut rest = bytes;
        let total = u32::from_le_bytes(take(&mut rest)?);
        if form == Form::Ziplist {
            // Where the last element begins: nothing is read from there.
            take::<4>(&mut rest)?;
        }
        let count = u16::from_le_bytes(take(&mut rest)?);
        let is_whole = usize::try_from(total).is_ok_and(|total| total == bytes.len());
        let left = Some(count).filter(|count| *count != UNCOUNTED);
        is_whole.then_some(Self { rest, form, left, before: 0 })
    }

    /// The next element; `None` behind the last one.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub(crate) fn next(&mut self) -> Result<Option<Item<'a>>, Error> {
        if self.rest.first() == Some(&END) {
            let is_whole = self.rest.len() == 1 && self.left.unwrap_or(0) == 0;
            return if is_whole { Ok(None) } else { Err(Error::Malformed("a packed list is cut")) };
        }
        let item = match self.form {
            Form::Ziplist => self.in_ziplist(),
            Form::Listpack => self.in_listpack(),
        };
        let item = item.ok_or(Error::Malformed("a packed list has an element that is none"))?;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(Error::Malformed("a packed list has too many"))?;
        }
        Ok(Some(item))
    }

    /// The next element, which must be there.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub(crate) fn must(&mut self) -> Result<Item<'a>, Error> {
        self.next()?.ok_or(Error::Malformed("a packed list has too few elements"))
    }

    /// The next element, which must be there and a number.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub(crate) fn number(&mut self) -> Result<i64, Error> {
        self.must()?.number().ok_or(Error::Malformed("an element of a packed list is no number"))
    }

    fn in_ziplist(&mut self) -> Option<Item<'a>> {
        let rest = &mut self.rest;
        let whole = rest.len();
        let [before] = take(rest)?;
        let before = match before {
            0xfe => usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?,
            before => usize::from(before),
        };
        if before != self.before {
            return None;
        }
        let [code] = take(rest)?;
        let item = match code {
            0x00..0x40 => Item::Bytes(take_slice(rest, usize::from(code))?),
            0x40..0x80 => {
                let length = u16::from_be_bytes([code & 0x3f, take::<1>(rest)?[0]]);
                Item::Bytes(take_slice(rest, usize::from(length))?)
            }
            0x80 => {
                let length = u32::from_be_bytes(take(rest)?);
                Item::Bytes(take_slice(rest, usize::try_from(length).ok()?)?)
            }
            0xc0 => Item::Number(i64::from(i16::from_le_bytes(take(rest)?))),
            0xd0 => Item::Number(i64::from(i32::from_le_bytes(take(rest)?))),
            0xe0 => Item::Number(i64::from_le_bytes(take(rest)?)),
            0xf0 => Item::Number(of_three(take(rest)?)),
            0xfe => Item::Number(i64::from(i8::from_le_bytes(take(rest)?))),
            0xf1..=0xfd => Item::Number(i64::from(code & 0x0f) - 1),
            _ => return None,
        };
        self.before = whole - rest.len();
        Some(item)
    }

    fn in_listpack(&mut self) -> Option<Item<'a>> {
        let rest = &mut self.rest;
        let whole = rest.len();
        let [code] = take(rest)?;
        let item = match code {
            0x00..0x80 => Item::Number(i64::from(code)),
            0x80..0xc0 => Item::Bytes(take_slice(rest, usize::from(code & 0x3f))?),
            0xc0..0xe0 => {
                // Thirteen bits, the highest of which is the sign.
                let bits = u16::from_be_bytes([code & 0x1f, take::<1>(rest)?[0]]);
                Item::Number(i64::from((bits << 3) as i16 >> 3))
            }
            0xe0..0xf0 => {
                let length = u16::from_be_bytes([code & 0x0f, take::<1>(rest)?[0]]);
                Item::Bytes(take_slice(rest, usize::from(length))?)
            }
            0xf0 => {
                let length = u32::from_le_bytes(take(rest)?);
                Item::Bytes(take_slice(rest, usize::try_from(length).ok()?)?)
            }
            0xf1 => Item::Number(i64::from(i16::from_le_bytes(take(rest)?))),
            0xf2 => Item::Number(of_three(take(rest)?)),
            0xf3 => Item::Number(i64::from(i32::from_le_bytes(take(rest)?))),
            0xf4 => Item::Number(i64::from_le_bytes(take(rest)?)),
            _ => return None,
        };
        let length = back_length(whole - rest.len());
        (take_slice(rest, length.len())? == &*length).then_some(item)
    }
}

/// What stands behind an element of a listpack: its length, to be read from the end, seven bits a
/// byte.
pub(crate) fn back_length(length: usize) -> Vec<u8> {
    let mut bytes = vec![(length & 0x7f) as u8 | 0x80];
    let mut left = length >> 7;
    while left > 0 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    // Redis goes over to one byte more at these lengths already.
    if matches!(length, 0x3fff | 0x1f_ffff | 0x0fff_ffff) {
        bytes.push(0x80);
    }
    if let Some(last) = bytes.last_mut() {
        *last &= 0x7f;
    }
    bytes.reverse();
    bytes
}

/// Calls `visit` with the numbers of a set of integers.
///
/// # Errors
/// [`Error::Malformed`], and those of `visit`.
pub(crate) fn integers<E: From<Error>>(
    bytes: &[u8],
    mut visit: impl FnMut(i64) -> Result<(), E>,
) -> Result<(), E> {
    const WRONG: Error = Error::Malformed("a set of integers is none");
    let mut rest = bytes;
    let width = u32::from_le_bytes(take(&mut rest).ok_or(WRONG)?);
    let count = u32::from_le_bytes(take(&mut rest).ok_or(WRONG)?);
    let is_whole = u64::from(count).checked_mul(u64::from(width)) == Some(rest.len() as u64);
    if !is_whole || !matches!(width, 2 | 4 | 8) {
        return Err(WRONG.into());
    }
    while !rest.is_empty() {
        let number = match width {
            2 => take(&mut rest).map(|bytes| i64::from(i16::from_le_bytes(bytes))),
            4 => take(&mut rest).map(|bytes| i64::from(i32::from_le_bytes(bytes))),
            _ => take(&mut rest).map(i64::from_le_bytes),
        };
        visit(number.ok_or(WRONG)?)?;
    }
    Ok(())
}

/// Calls `visit` with the fields and values of a zipmap.
///
/// # Errors
/// [`Error::Malformed`], and those of `visit`.
pub(crate) fn zipmap<E: From<Error>>(
    bytes: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    const WRONG: Error = Error::Malformed("a zipmap is none");
    // The number of fields, which may be "count them".
    let (_, mut rest) = bytes.split_first().ok_or(WRONG)?;
    loop {
        if rest == [END] {
            return Ok(());
        }
        let field = map_length(&mut rest).and_then(|length| take_slice(&mut rest, length));
        let field = field.ok_or(WRONG)?;
        let length = map_length(&mut rest).ok_or(WRONG)?;
        // Bytes that are free behind the value.
        let [free] = take(&mut rest).ok_or(WRONG)?;
        let value = take_slice(&mut rest, length).ok_or(WRONG)?;
        take_slice(&mut rest, usize::from(free)).ok_or(WRONG)?;
        visit(field, value)?;
    }
}

fn map_length(rest: &mut &[u8]) -> Option<usize> {
    let [length] = take(rest)?;
    match length {
        0xff => None,
        0xfe => usize::try_from(u32::from_le_bytes(take(rest)?)).ok(),
        length => Some(usize::from(length)),
    }
}

#[cfg(test)]
mod tests;
