//! Which slot a key belongs to: CRC16/XMODEM over the key or its hash tag.
//!
//! The function is part of the on-disk format and of every client library: it never changes.

use crate::model::{SLOT_COUNT, Slot};

/// CRC16/XMODEM: polynomial 0x1021, start 0, no reflection, no final xor.
const CRC16: [u16; 256] = crc16_table();

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// CRC16/XMODEM of `bytes`.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

/// The slot of a key: that of its hash tag when it has one.
pub fn key_slot(key: &[u8]) -> Slot {
    Slot::wrapping(crc16(hash_tag(key)) & (SLOT_COUNT - 1))
}

/// The bytes between the first `{` and the first `}` after it; the whole key if there is no such
/// pair or nothing inside it.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let inside = &key[open + 1..];
    match inside.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(close) => &inside[..close],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_vectors() {
        // From a running Kvrocks (CLUSTER KEYSLOT), but for the CRC itself.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, slot) in [
            (&b"AAA"[..], 3205),
            (b"123456789", 12739),
            (b"foo{}{bar}", 8363),
            (b"{user1000}.following", 3443),
            (b"{user1000}.followers", 3443),
            (b"foo{{bar}}zap", 4015),
            (b"foo{bar}{zap}", 5061),
            (b"", 0),
            (b"{}", 15257),
            (b"a{", 14311),
            (b"a}{b", 11640),
            (b"{\0}", 0),
            (b"a", 15495),
            (b"b", 3300),
            (b"foo", 12182),
            (b"B", 10374),
        ] {
            assert_eq!(key_slot(key).number(), slot, "{key:?}");
        }
    }

    #[test]
    fn tags_share_a_slot() {
        assert_eq!(hash_tag(b"{a}1"), b"a");
        assert_eq!(hash_tag(b"x}{a}1"), b"a");
        assert_eq!(hash_tag(b"{a"), b"{a");
        assert_eq!(key_slot(b"{a}1"), key_slot(b"a"));
    }
}
