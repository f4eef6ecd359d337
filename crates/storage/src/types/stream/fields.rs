//! The value of an entry: fields and values in turn, each with its length before it.

use crate::types::CommandError;

/// Appends a value.
pub(in crate::types) fn write(fields: &[&[u8]], value: &mut Vec<u8>) {
    for field in fields {
        let mut length = field.len();
        while length >= 0x80 {
            value.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        value.push(length as u8);
        value.extend_from_slice(field);
    }
}

/// Reads one.
///
/// # Errors
/// It is none.
pub fn decode(value: &[u8]) -> Result<Vec<&[u8]>, CommandError> {
    let (mut fields, mut rest) = (Vec::new(), value);
    while !rest.is_empty() {
        let (field, behind) = split(rest)
            .ok_or_else(|| CommandError::corrupt("the value of a stream's entry is cut"))?;
        fields.push(field);
        rest = behind;
    }
    Ok(fields)
}

/// The first field, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_u32;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        let digits = u32::from(byte & 0x7f);
        length |= digits.checked_shl(7 * at as u32).filter(|d| d >> (7 * at) == digits)?;
        if byte & 0x80 == 0 {
            return bytes.get(at + 1..)?.split_at_checked(usize::try_from(length).ok()?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(fields: &[&[u8]]) -> Vec<u8> {
        let mut value = Vec::new();
        write(fields, &mut value);
        value
    }

    #[test]
    fn lengths_have_seven_bits_a_byte() {
        assert_eq!(encode(&[b"f", b""]), b"\x01f\0");
        let long = vec![b'x'; 300];
        let value = encode(&[&long]);
        assert_eq!(value.get(..2), Some(&b"\xac\x02"[..]));
        assert_eq!(decode(&value).unwrap(), [&*long]);
        for cut in [&b"\x02f"[..], b"\x80", b"\xff\xff\xff\xff\xff\x01", b"\xff\xff\xff\xff\x7f"] {
            assert!(decode(cut).is_err(), "{}", cut.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn fields_lead_back(fields: Vec<Vec<u8>>) {
            let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            let value = encode(&fields);
            prop_assert_eq!(decode(&value).unwrap(), fields);
        }

        #[test]
        fn foreign_values_never_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&value);
        }
    }
}
