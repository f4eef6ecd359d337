//! Integers and floats in their text forms, as Redis reads and writes them.

use super::CommandError;

/// Digits behind the point that INCRBYFLOAT keeps.
const FRACTION_DIGITS: u32 = 17;
/// 10^17.
const SCALE: i128 = 100_000_000_000_000_000;

/// A 64-bit integer in Redis' strict form: no sign but `-`, no leading zeros, no spaces.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !is_negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value = 0i128;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i128::from(digit - b'0');
    }
    i64::try_from(if is_negative { -value } else { value }).ok()
}

/// A float as an increment or as the value to be incremented: finite or infinite, not NaN, no
/// spaces.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<f64>().ok().filter(|value| !value.is_nan())
}

/// The sum of two floats in text form, in the form INCRBYFLOAT stores.
///
/// Redis adds with 64 bits of mantissa and keeps 17 digits behind the point. Decimal arithmetic
/// gives the same for every sum that fits it (0.1 + 0.2 = 0.3); beyond, the sum is that of 64-bit
/// floats.
///
/// # Errors
/// Not a float, or the sum is not finite.
pub fn add_floats(current: &[u8], increment: &[u8]) -> Result<Vec<u8>, CommandError> {
    let (Some(a), Some(b)) = (parse_float(current), parse_float(increment)) else {
        return Err(CommandError::NotAFloat);
    };
    let sum = a + b;
    if !sum.is_finite() {
        return Err(CommandError::NanOrInfinity);
    }
    let exact = parse_fixed(current)
        .zip(parse_fixed(increment))
        .and_then(|(a, b)| a.checked_add(b))
        .map(format_fixed);
    Ok(exact.unwrap_or_else(|| format_float(sum)).into_bytes())
}

/// Without exponent, without superfluous zeros, no more than 17 digits behind the point, "-0" as
/// "0".
fn format_float(value: f64) -> String {
    let mut text = value.to_string();
    if text.split_once('.').is_some_and(|(_, fraction)| fraction.len() > 17) {
        text = format!("{value:.17}");
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    if matches!(&*text, "0" | "-0") { "0".to_owned() } else { text }
}

/// A decimal number in units of 10^-17; `None` if it is not exactly one, or out of range.
fn parse_fixed(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (is_negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut value = 0i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let fraction_digits = i32::try_from(fraction.len()).ok()?;
    let shift = (FRACTION_DIGITS as i32).checked_sub(fraction_digits)?.checked_add(exponent)?;
    let power = 10i128.checked_pow(shift.unsigned_abs())?;
    let scaled = if shift >= 0 {
        value.checked_mul(power)?
    } else if value % power == 0 {
        value / power
    } else {
        return None;
    };
    Some(if is_negative { -scaled } else { scaled })
}

fn format_fixed(value: i128) -> String {
    let sign = if value < 0 { "-" } else { "" };
    // Its least value has no positive one.
    let (whole, fraction) =
        (value.unsigned_abs() / SCALE.unsigned_abs(), value.unsigned_abs() % SCALE.unsigned_abs());
    let text = format!("{sign}{whole}.{fraction:017}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_strict() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("99999999999999999999", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("", None),
            ("-", None),
            ("1a", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn floats_add_like_redis() {
        for (a, b, sum) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("3", "-3", "0"),
            ("1e20", "0", "100000000000000000000"),
            ("-1.5", "0.25", "-1.25"),
            ("1e300", "1", "1"),
            ("1e-16", "1e-18", "0.0000000000000001"),
        ] {
            let found = String::from_utf8(add_floats(a.as_bytes(), b.as_bytes()).unwrap()).unwrap();
            assert!(found.starts_with(sum), "{a} + {b} = {found}");
        }
        let least = format_fixed(i128::MIN);
        assert!(least.starts_with("-1701411834604692317316.8730"), "{least}");
        assert_eq!(least.matches('-').count(), 1, "{least}");
        assert_eq!(add_floats(b"0", b"1e-20").unwrap(), b"0");
        assert_eq!(add_floats(b"-1e-20", b"0").unwrap(), b"0");
        assert!(matches!(add_floats(b"x", b"1"), Err(CommandError::NotAFloat)));
        assert!(matches!(add_floats(b"1", b"nan"), Err(CommandError::NotAFloat)));
        assert!(matches!(add_floats(b"1", b" 1"), Err(CommandError::NotAFloat)));
        assert!(matches!(add_floats(b"1e308", b"1e308"), Err(CommandError::NanOrInfinity)));
        assert!(matches!(add_floats(b"1", b"inf"), Err(CommandError::NanOrInfinity)));
    }
}
