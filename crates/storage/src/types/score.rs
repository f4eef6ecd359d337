//! Doubles: as eight bytes in the order of their numbers, and as text in Redis' form.

use super::numbers::parse_float;

/// Eight bytes; smaller numbers have smaller bytes. -0 is smaller than 0, and so another record.
pub fn encode(score: f64) -> [u8; 8] {
    let bits = score.to_bits();
    let ordered = if score.is_sign_negative() { !bits } else { bits | 1 << 63 };
    ordered.to_be_bytes()
}

/// The number that eight bytes stand for.
pub fn decode(bytes: [u8; 8]) -> f64 {
    let ordered = u64::from_be_bytes(bytes);
    let bits = if ordered >> 63 == 0 { !ordered } else { ordered & !(1 << 63) };
    f64::from_bits(bits)
}

/// A number as an argument: finite or infinite, not NaN. What a double cannot hold (1e400, 1e-400)
/// is none. Hexadecimal digits are read as C reads them.
pub fn parse(text: &[u8]) -> Option<f64> {
    if let Some(score) = parse_hexadecimal(text) {
        return Some(score);
    }
    let score = parse_float(text)?;
    let mantissa = text.split(|byte| byte.eq_ignore_ascii_case(&b'e')).next().unwrap_or_default();
    let is_lost = match score {
        0.0 => mantissa.iter().any(|byte| (b'1'..=b'9').contains(byte)),
        score => score.is_infinite() && text.iter().any(u8::is_ascii_digit),
    };
    Some(score).filter(|_| !is_lost)
}

/// A number as a bound, which Redis reads as C does: no number at all is 0, blanks may stand in
/// front, and what a double cannot hold is the nearest one that it can.
pub fn parse_loosely(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let text = text.trim_ascii_start();
    parse(text).or_else(|| parse_float(text))
}

/// E.g. `0x1.8p3`, which is 12.
fn parse_hexadecimal(text: &[u8]) -> Option<f64> {
    let (sign, text) = match text {
        [b'-', rest @ ..] => (-1.0, rest),
        [b'+', rest @ ..] => (1.0, rest),
        _ => (1.0, text),
    };
    let [b'0', b'x' | b'X', text @ ..] = text else { return None };
    let mut parts = text.splitn(2, |byte| byte.eq_ignore_ascii_case(&b'p'));
    let mantissa = parts.next()?;
    let mut exponent: i32 = match parts.next() {
        Some(exponent) => std::str::from_utf8(exponent).ok()?.parse().ok()?,
        None => 0,
    };
    let (mut value, mut digits, mut is_fraction) = (0u64, 0, false);
    for byte in mantissa {
        if *byte == b'.' && !is_fraction {
            is_fraction = true;
            continue;
        }
        let digit = u64::from(char::from(*byte).to_digit(16)?);
        digits += 1;
        let mut shift = if is_fraction { -4 } else { 0 };
        if value < 1 << 59 {
            value = value << 4 | digit;
        } else {
            // What lies behind the last bit matters only for rounding.
            value |= u64::from(digit > 0);
            shift += 4;
        }
        exponent = exponent.saturating_add(shift);
    }
    // In two steps, of which neither leaves the range before the number does.
    let half = exponent / 2;
    let number = value as f64 * 2f64.powi(half) * 2f64.powi(exponent - half);
    let is_lost = number.is_infinite() || (number == 0.0 && value > 0);
    (digits > 0 && !is_lost).then_some(sign * number)
}

/// Digits that tell every double from its neighbours.
const DIGITS: usize = 17;

/// As C prints a number with `%.17g`, which is Redis 7's form in replies.
pub fn format(score: f64) -> String {
    if score.is_infinite() {
        return if score > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let text = format!("{score:.*e}", DIGITS - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let is_plain = (-4..DIGITS as i32).contains(&exponent);
    let text = if is_plain {
        let decimals = DIGITS as i32 - 1 - exponent;
        format!("{score:.*}", usize::try_from(decimals).unwrap_or(0))
    } else {
        mantissa.to_owned()
    };
    let short = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    match is_plain {
        true => short.to_owned(),
        false => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{short}e{sign}{:02}", exponent.unsigned_abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_those_of_kvrocks() {
        assert_eq!(encode(1.0), [0xbf, 0xf0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode(-1.5), [0x40, 0x07, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(encode(-0.0), [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn texts_are_those_of_redis() {
        for (score, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (3.1, "3.1000000000000001"),
            (100.0, "100"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (0.5e-10, "5.0000000000000002e-11"),
            (2f64.powi(60), "1.152921504606847e+18"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format(score), text);
        }
    }

    #[test]
    fn what_a_double_cannot_hold_is_none() {
        for (text, score) in [
            ("1e3", Some(1000.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("+inf", Some(f64::INFINITY)),
            ("0e400", Some(0.0)),
            ("1e400", None),
            ("1e-400", None),
            ("nan", None),
            ("", None),
            (" 1", None),
            ("0x10", Some(16.0)),
            ("-0x1.8p3", Some(-12.0)),
            ("0X.8", Some(0.5)),
            ("0x20000000000001", Some(9_007_199_254_740_992.0)),
            ("0x20000000000001000000001", Some(2f64.powi(89) + 2f64.powi(37))),
            ("0x1p-1074", Some(5e-324)),
            ("0x1p-1080", None),
            ("0x1p1024", None),
            ("0x", None),
            ("0xg", None),
            ("0x1p", None),
        ] {
            assert_eq!(parse(text.as_bytes()), score, "{text}");
        }
    }

    #[test]
    fn bounds_are_read_as_c_reads_them() {
        for (text, score) in [
            ("", Some(0.0)),
            (" 1.5", Some(1.5)),
            ("1e400", Some(f64::INFINITY)),
            ("-1e400", Some(f64::NEG_INFINITY)),
            ("1e-400", Some(0.0)),
            ("1 ", None),
            (" ", None),
            ("nan", None),
            ("x", None),
        ] {
            assert_eq!(parse_loosely(text.as_bytes()), score, "{text}");
        }
    }

    proptest! {
        #[test]
        fn order_is_kept_and_texts_come_back(a: f64, b: f64) {
            prop_assert_eq!(encode(a) < encode(b), a < b || (a == b && encode(a) != encode(b) && a.is_sign_negative()));
            prop_assert_eq!(decode(encode(a)).to_bits(), a.to_bits());
            prop_assert_eq!(format(a).parse::<f64>().unwrap().to_bits(), a.to_bits());
        }
    }
}
