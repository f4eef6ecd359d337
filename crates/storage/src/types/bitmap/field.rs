//! BITFIELD: integers of any width within the bits of a key.

use super::edit::Editor;
use crate::types::CommandError;
use crate::{At, Read, Txn};

/// BITFIELD's number in log data.
const BITFIELD: &[u8] = b"11";

/// How an integer is written: at most 64 bits signed, 63 unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    is_signed: bool,
    bits: u8,
}

impl Encoding {
    /// Reads `i8`, `u63`; `None` if it is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (is_signed, digits) = match text {
            [b'i' | b'I', digits @ ..] => (true, digits),
            [b'u' | b'U', digits @ ..] => (false, digits),
            _ => return None,
        };
        let bits = u8::try_from(crate::types::numbers::parse_integer(digits)?).ok()?;
        let most = if is_signed { 64 } else { 63 };
        (1..=most).contains(&bits).then_some(Self { is_signed, bits })
    }

    /// Its width.
    pub fn bits(self) -> u64 {
        u64::from(self.bits)
    }

    fn mask(self) -> u128 {
        (1 << self.bits) - 1
    }

    /// What its bits mean.
    fn decode(self, raw: u128) -> i64 {
        let is_negative = self.is_signed && raw >> (self.bits - 1) & 1 == 1;
        let raw = if is_negative { raw | !self.mask() } else { raw };
        raw as i64
    }

    fn bounds(self) -> (i128, i128) {
        match self.is_signed {
            true => (-(1_i128 << (self.bits - 1)), (1_i128 << (self.bits - 1)) - 1),
            false => (0, (1_i128 << self.bits) - 1),
        }
    }

    /// The bits of a number, as far as it fits; `None` if it does not, and must not be changed.
    fn encode(self, value: i128, overflow: Overflow) -> Option<u128> {
        let (least, most) = self.bounds();
        let value = match overflow {
            _ if (least..=most).contains(&value) => value,
            Overflow::Wrap => value,
            Overflow::Saturate => value.clamp(least, most),
            Overflow::Fail => return None,
        };
        Some(value as u128 & self.mask())
    }

    fn text(self) -> String {
        format!("{}{}", if self.is_signed { 'i' } else { 'u' }, self.bits)
    }
}

/// What becomes of a number that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// Its lowest bits count.
    #[default]
    Wrap,
    /// It is the nearest one that fits.
    Saturate,
    /// Nothing is written.
    Fail,
}

impl Overflow {
    fn text(self) -> &'static str {
        match self {
            Self::Wrap => "WRAP",
            Self::Saturate => "SAT",
            Self::Fail => "FAIL",
        }
    }
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is read.
    Get,
    /// It is replaced, and its old value returned.
    Set(i64),
    /// It is added to, and its new value returned.
    Incr(i64),
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Width and sign.
    pub encoding: Encoding,
    /// Its first bit.
    pub offset: u64,
    /// What is done.
    pub action: Action,
    /// For [`Action::Set`] and [`Action::Incr`].
    pub overflow: Overflow,
}

impl Field {
    /// The bytes that it lies in: the first one, and how many, at most nine.
    fn bytes(&self) -> (u64, u64) {
        let first = self.offset / 8;
        (first, (self.offset + self.encoding.bits() - 1) / 8 - first + 1)
    }

    /// The bits of its bytes that lie behind it.
    fn behind(&self) -> u64 {
        8 * self.bytes().1 - self.offset % 8 - self.encoding.bits()
    }

    fn read(&self, editor: &mut Editor<'_>, read: &impl Read) -> Result<u128, CommandError> {
        let (first, count) = self.bytes();
        let mut raw = 0;
        for at in first..first + count {
            raw = raw << 8 | u128::from(editor.byte(read, at)?);
        }
        Ok(raw >> self.behind() & self.encoding.mask())
    }

    fn write(
        &self,
        editor: &mut Editor<'_>,
        read: &impl Read,
        value: u128,
    ) -> Result<(), CommandError> {
        let (first, count) = self.bytes();
        let (mask, value) = (self.encoding.mask() << self.behind(), value << self.behind());
        for (place, at) in (first..first + count).enumerate() {
            let shift = 8 * (count as usize - 1 - place);
            let old = editor.byte(read, at)?;
            let kept = old & !((mask >> shift) as u8);
            editor.set_byte(read, at, kept | (value >> shift) as u8)?;
        }
        Ok(())
    }

    /// The number that is to be written. Redis takes that of a SET of an unsigned field for one
    /// without a sign; and it subtracts in 64 bits, so that of a signed one at their lower end the
    /// greatest number is the nearest.
    fn wanted(&self, old: i64) -> Option<i128> {
        match self.action {
            Action::Get => None,
            Action::Set(value) if self.encoding.is_signed => {
                let (_, most) = self.encoding.bounds();
                let is_turned = self.encoding.bits < 64
                    && i128::from(value) < most - i128::from(i64::MAX)
                    && self.overflow == Overflow::Saturate;
                Some(if is_turned { most } else { i128::from(value) })
            }
            Action::Set(value) => Some(i128::from(value as u64)),
            Action::Incr(by) => Some(i128::from(old) + i128::from(by)),
        }
    }

    /// Does it; `None` if the number does not fit.
    fn apply(
        &self,
        editor: &mut Editor<'_>,
        read: &impl Read,
    ) -> Result<Option<i64>, CommandError> {
        let old = self.encoding.decode(self.read(editor, read)?);
        let Some(wanted) = self.wanted(old) else { return Ok(Some(old)) };
        let Some(new) = self.encoding.encode(wanted, self.overflow) else { return Ok(None) };
        self.write(editor, read, new)?;
        let is_set = matches!(self.action, Action::Set(_));
        Ok(Some(if is_set { old } else { self.encoding.decode(new) }))
    }
}

/// BITFIELD_RO: the values of fields; actions are not done.
///
/// # Errors
/// Wrong type.
pub fn read_fields(
    read: &impl Read,
    at: &At<'_>,
    fields: &[Field],
) -> Result<Vec<i64>, CommandError> {
    let mut editor = Editor::of(at, at.living(read)?)?;
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        values.push(field.encoding.decode(field.read(&mut editor, read)?));
    }
    Ok(values)
}

/// BITFIELD: what each operation returns. As in Redis the key grows to the last bit that is to be
/// written, even if it is not.
///
/// # Errors
/// Wrong type, [`CommandError::TooLong`].
pub fn edit_fields(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    fields: &[Field],
) -> Result<Vec<Option<i64>>, CommandError> {
    let mut editor = Editor::of(at, at.load(txn)?)?;
    let written = fields.iter().filter(|field| field.action != Action::Get);
    let end = written.map(|field| (field.offset + field.encoding.bits() - 1) / 8 + 1).max();
    if let Some(end) = end {
        editor.grow(end)?;
    }
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        values.push(field.apply(&mut editor, txn)?);
    }
    let words = words(fields);
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    editor.store(txn, at, &[&[BITFIELD], words.as_slice()].concat());
    Ok(values)
}

/// What log data says of the operations that write.
fn words(fields: &[Field]) -> Vec<String> {
    let (mut words, mut overflow) = (Vec::new(), Overflow::Wrap);
    for field in fields {
        let (name, value) = match field.action {
            Action::Get => continue,
            Action::Set(value) => ("SET", value),
            Action::Incr(by) => ("INCRBY", by),
        };
        if field.overflow != overflow {
            overflow = field.overflow;
            words.extend(["OVERFLOW".to_owned(), overflow.text().to_owned()]);
        }
        let text = field.encoding.text();
        words.extend([name.to_owned(), text, field.offset.to_string(), value.to_string()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoding(text: &str) -> Encoding {
        Encoding::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn widths_are_those_of_redis() {
        for wrong in ["", "u", "i0", "u0", "i65", "u64", "x8", "u08", "i-1", "i256", "8"] {
            assert_eq!(Encoding::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(encoding("I64").text(), "i64");
        assert_eq!(encoding("u1").bounds(), (0, 1));
        assert_eq!(encoding("i1").bounds(), (-1, 0));
        assert_eq!(encoding("i64").bounds(), (i128::from(i64::MIN), i128::from(i64::MAX)));
    }

    #[test]
    fn numbers_that_do_not_fit_wrap_saturate_or_fail() {
        let put = |text: &str, value: i128, overflow| {
            let encoding = encoding(text);
            encoding.encode(value, overflow).map(|raw| encoding.decode(raw))
        };
        for (text, value, wrapped, saturated) in [
            ("u8", 300, 44, 255),
            ("u8", -1, 255, 0),
            ("i8", 128, -128, 127),
            ("i8", -129, 127, -128),
            ("i64", i128::from(i64::MAX) + 1, i64::MIN, i64::MAX),
            ("i64", i128::from(i64::MIN) - 1, i64::MAX, i64::MIN),
            ("u63", 1 << 63, 0, i64::MAX),
            ("i1", 1, -1, 0),
        ] {
            assert_eq!(put(text, value, Overflow::Wrap), Some(wrapped), "{text} {value}");
            assert_eq!(put(text, value, Overflow::Saturate), Some(saturated), "{text} {value}");
            assert_eq!(put(text, value, Overflow::Fail), None, "{text} {value}");
        }
        for text in ["i64", "u63", "i3", "u5"] {
            let (least, most) = encoding(text).bounds();
            for value in [least, 0, most] {
                assert_eq!(put(text, value, Overflow::Fail).map(i128::from), Some(value));
            }
        }
    }
}
