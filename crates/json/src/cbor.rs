//! A document as CBOR (RFC 8949), as jsoncons writes it: shortest heads, doubles as floats of 32
//! bits where that loses nothing, whole numbers beyond 64 bits as bignums, members sorted.
//!
//! What no JSON document becomes is not read: byte strings, other tags, texts in pieces, undefined.

use crate::value::{Number, Object, Value};
use crate::{BYTES_MAX, Error, Result};

/// The bytes of a document.
///
/// # Errors
/// [`Error::TooDeep`], [`Error::TooLarge`].
pub fn to_cbor(value: &Value, depth_max: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    put(value, depth_max, &mut out)?;
    Ok(out)
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const OTHER: u8 = 7;
/// Tags of bignums.
const POSITIVE_BIG: u64 = 2;
const NEGATIVE_BIG: u64 = 3;

fn head(major: u8, value: u64, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let (code, length) = match value {
        0..24 => (value as u8, 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | code);
    out.extend_from_slice(bytes.get(8 - length..).unwrap_or_default());
}

fn put(value: &Value, depth_left: usize, out: &mut Vec<u8>) -> Result<()> {
    if out.len() > BYTES_MAX {
        return Err(Error::TooLarge);
    }
    let deeper = || depth_left.checked_sub(1).ok_or(Error::TooDeep);
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        Value::Number(Number::Unsigned(value)) => head(UNSIGNED, *value, out),
        Value::Number(Number::Negative(value)) => head(NEGATIVE, !value.cast_unsigned(), out),
        Value::Number(Number::Double(value)) => double(*value, out),
        Value::Number(Number::Big(digits)) => big(digits, out),
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            let depth_left = deeper()?;
            head(ARRAY, items.len() as u64, out);
            items.iter().try_for_each(|item| put(item, depth_left, out))?;
        }
        Value::Object(members) => {
            let depth_left = deeper()?;
            head(MAP, members.len() as u64, out);
            for (name, member) in members {
                string(name, out);
                put(member, depth_left, out)?;
            }
        }
    }
    Ok(())
}

fn string(text: &str, out: &mut Vec<u8>) {
    head(TEXT, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn double(value: f64, out: &mut Vec<u8>) {
    let short = value as f32;
    if f64::from(short).to_bits() == value.to_bits() {
        out.push(0xfa);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0xfb);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// A bignum of digits: its bytes, and of a negative one those of what is one nearer to zero.
fn big(digits: &str, out: &mut Vec<u8>) {
    let (tag, digits) = match digits.strip_prefix('-') {
        Some(digits) => (NEGATIVE_BIG, digits),
        None => (POSITIVE_BIG, digits),
    };
    let mut bytes = Limbs::of_digits(digits);
    if tag == NEGATIVE_BIG {
        bytes.decrement();
    }
    let bytes = bytes.to_bytes();
    head(TAG, tag, out);
    head(BYTES, bytes.len() as u64, out);
    out.extend_from_slice(&bytes);
}

/// A large whole number, the lowest 32 bits first.
struct Limbs(Vec<u32>);

impl Limbs {
    fn of_digits(digits: &str) -> Self {
        let mut limbs = Self(Vec::new());
        for nine in digits.as_bytes().chunks(9) {
            let scale = 10_u64.pow(nine.len() as u32);
            let part = nine.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit & 15));
            limbs.scale(scale, part);
        }
        limbs
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let mut limbs = Self(Vec::new());
        bytes.iter().for_each(|byte| limbs.scale(256, u64::from(*byte)));
        limbs
    }

    /// Times something, and something more; both below 2^32.
    fn scale(&mut self, factor: u64, more: u64) {
        let mut carry = more;
        for limb in &mut self.0 {
            let product = u64::from(*limb) * factor + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn increment(&mut self) {
        self.scale(1, 1);
    }

    /// One less; zero stays.
    fn decrement(&mut self) {
        if self.0.iter().all(|limb| *limb == 0) {
            return;
        }
        for limb in &mut self.0 {
            let (less, is_borrowed) = limb.overflowing_sub(1);
            *limb = less;
            if !is_borrowed {
                break;
            }
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.0.iter().rev().flat_map(|limb| limb.to_be_bytes());
        bytes.skip_while(|byte| *byte == 0).collect()
    }

    fn into_digits(mut self) -> String {
        let mut groups = Vec::new();
        while self.0.iter().any(|limb| *limb > 0) {
            let mut rest = 0_u64;
            for limb in self.0.iter_mut().rev() {
                let value = rest << 32 | u64::from(*limb);
                *limb = (value / 1_000_000_000) as u32;
                rest = value % 1_000_000_000;
            }
            groups.push(rest);
        }
        let mut digits: String = groups.iter().rev().map(|group| format!("{group:09}")).collect();
        digits.drain(..digits.len() - digits.trim_start_matches('0').len());
        if digits.is_empty() { "0".to_owned() } else { digits }
    }
}

/// Reads a document of at most `depth_max` arrays and objects within each other.
///
/// # Errors
/// [`Error::Cbor`], [`Error::TooDeep`].
pub fn from_cbor(bytes: &[u8], depth_max: usize) -> Result<Value> {
    let mut reader = Reader { rest: bytes };
    let value = reader.value(depth_max)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(Error::Cbor("there is more behind it")) }
}

struct Reader<'b> {
    rest: &'b [u8],
}

const SHORT: Error = Error::Cbor("it ends early");

impl<'b> Reader<'b> {
    fn take(&mut self, count: u64) -> Result<&'b [u8]> {
        let count = usize::try_from(count).map_err(|_| SHORT)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number of so many bytes.
    fn number(&mut self, count: u64) -> Result<u64> {
        Ok(self.take(count)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The major type, the code behind it, and what it stands for.
    fn head(&mut self) -> Result<(u8, u8, u64)> {
        let first = self.number(1)? as u8;
        let (major, code) = (first >> 5, first & 31);
        let value = match code {
            0..24 => u64::from(code),
            24 => self.number(1)?,
            25 => self.number(2)?,
            26 => self.number(4)?,
            27 => self.number(8)?,
            _ => return Err(Error::Cbor("a length that is left open")),
        };
        Ok((major, code, value))
    }

    fn text(&mut self, length: u64) -> Result<String> {
        let text = std::str::from_utf8(self.take(length)?);
        Ok(text.map_err(|_| Error::Cbor("a text that is not UTF-8"))?.to_owned())
    }

    fn value(&mut self, depth_left: usize) -> Result<Value> {
        let (major, code, value) = self.head()?;
        let deeper = || depth_left.checked_sub(1).ok_or(Error::TooDeep);
        Ok(match major {
            UNSIGNED => Value::Number(Number::Unsigned(value)),
            NEGATIVE => Value::Number(negative(value)),
            TEXT => Value::String(self.text(value)?),
            ARRAY => {
                let depth_left = deeper()?;
                // What is not there has not been paid for: nothing is set aside for the count.
                let mut items = Vec::new();
                for _ in 0..value {
                    items.push(self.value(depth_left)?);
                }
                Value::Array(items)
            }
            MAP => {
                let depth_left = deeper()?;
                let mut members = Object::new();
                for _ in 0..value {
                    let (TEXT, _, length) = self.head()? else {
                        return Err(Error::Cbor("a name that is no text"));
                    };
                    let name = self.text(length)?;
                    let member = self.value(depth_left)?;
                    members.entry(name).or_insert(member);
                }
                Value::Object(members)
            }
            TAG => self.bignum(value)?,
            OTHER => match code {
                20 => Value::Bool(false),
                21 => Value::Bool(true),
                22 => Value::Null,
                25 => Value::Number(Number::Double(half(value as u16))),
                26 => Value::Number(Number::Double(f64::from(f32::from_bits(value as u32)))),
                27 => Value::Number(Number::Double(f64::from_bits(value))),
                _ => return Err(Error::Cbor("a simple value that JSON has not")),
            },
            _ => return Err(Error::Cbor("a string of bytes")),
        })
    }

    fn bignum(&mut self, tag: u64) -> Result<Value> {
        const DIGITS_MAX: u64 = 1 << 16;
        let (POSITIVE_BIG | NEGATIVE_BIG, (BYTES, _, length @ ..DIGITS_MAX)) = (tag, self.head()?)
        else {
            return Err(Error::Cbor("a tag that JSON has not"));
        };
        let mut limbs = Limbs::of_bytes(self.take(length)?);
        let mut text = String::new();
        if tag == NEGATIVE_BIG {
            limbs.increment();
            text.push('-');
        }
        text.push_str(&limbs.into_digits());
        let small = text.parse::<i128>().ok().and_then(Number::of_integer);
        Ok(Value::Number(small.unwrap_or(Number::Big(text))))
    }
}

/// -1 less this.
fn negative(value: u64) -> Number {
    let whole = -1 - i128::from(value);
    Number::of_integer(whole).unwrap_or_else(|| Number::Big(whole.to_string()))
}

/// A float of 16 bits.
fn half(bits: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => mantissa * 2.0_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2.0_f64.powi(exponent - 25),
    };
    if bits >> 15 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEPTH_MAX, from_text, to_text};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes of jsoncons 0.177.
    #[test]
    fn documents_have_the_bytes_that_kvrocks_gives_them() {
        for (text, bytes) in [
            ("1e400", "fa7f800000"),
            ("1e-400", "fa00000000"),
            ("-0", "00"),
            ("-0.0", "fa80000000"),
            ("0.1", "fb3fb999999999999a"),
            ("1.0", "fa3f800000"),
            ("1E5", "fa47c35000"),
            ("1e17", "fb4376345785d8a000"),
            ("-1.5", "fabfc00000"),
            ("5e-324", "fb0000000000000001"),
            ("18446744073709551615", "1bffffffffffffffff"),
            ("-9223372036854775808", "3b7fffffffffffffff"),
            ("18446744073709551616", "c249010000000000000000"),
            ("-9223372036854775809", "c3488000000000000000"),
            ("12345678901234567890123", "c24a029d42b64e76714244cb"),
            ("\"\\u007f\"", "617f"),
            (r#"{"b":1,"a":2,"b":3}"#, "a2616102616201"),
            ("[[1],{\"a\":[]}]", "828101a1616180"),
            (
                "[24,255,256,65535,65536,4294967296,-24,-25,true,false,null]",
                "8b181818ff19010019ffff1a000100001b000000010000000037 3818f5f4f6",
            ),
        ] {
            let value = from_text(text.as_bytes(), DEPTH_MAX).unwrap();
            let written = to_cbor(&value, DEPTH_MAX).unwrap();
            assert_eq!(hex(&written), bytes.replace(' ', ""), "{text}");
            let read = from_cbor(&written, DEPTH_MAX).unwrap();
            let (before, after) = (to_text(&value, DEPTH_MAX), to_text(&read, DEPTH_MAX));
            assert_eq!(after.unwrap(), before.unwrap(), "{text}");
        }
    }

    #[test]
    fn foreign_bytes_are_read_or_refused() {
        for (bytes, text) in [
            (&[0xf9, 0x3e, 0x00][..], "1.5"),
            (&[0xf9, 0x00, 0x01], "5.960464477539063e-08"),
            (&[0xf9, 0xfc, 0x00], "null"),
            (&[0x3b, 255, 255, 255, 255, 255, 255, 255, 255], "-18446744073709551616"),
            (&[0xc2, 0x41, 7], "7"),
            (&[0xc2, 0x40], "0"),
            (&[0xc3, 0x41, 0], "-1"),
        ] {
            let value = from_cbor(bytes, DEPTH_MAX).unwrap();
            assert_eq!(to_text(&value, DEPTH_MAX).unwrap(), text);
        }
        for bytes in [
            &[][..],
            &[0x9b, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0xbb, 0, 0, 1, 0, 0, 0, 0, 0],
            &[0x7b, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0x41, 0],
            &[0x9f, 0xff],
            &[0xf7],
            &[0xc0, 0x60],
            &[0xa1, 1, 1],
            &[0x61, 0xff],
            &[1, 1],
            &[0xc2, 0x5b, 0, 0, 0, 255, 0, 0, 0, 0],
        ] {
            assert!(from_cbor(bytes, DEPTH_MAX).is_err(), "{bytes:?}");
        }
        assert_eq!(from_cbor(&[0x81; 5000], DEPTH_MAX), Err(Error::TooDeep));
    }
}
