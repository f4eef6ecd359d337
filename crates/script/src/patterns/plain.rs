//! Texts that are looked for as they stand, since no byte of them means anything in a pattern.

use super::{Found, Pace, up_to_zero};

/// Whether a pattern is a text to look for as it stands.
pub(crate) fn is_plain(pattern: &[u8]) -> bool {
    !up_to_zero(pattern).iter().any(|byte| b"^$*+?.([%-".contains(byte))
}

/// Where a text stands in another one.
pub(crate) fn find_plain(text: &[u8], wanted: &[u8], pace: &mut Pace<'_>) -> Found<Option<usize>> {
    let Some((first, rest)) = wanted.split_first() else { return Ok(Some(0)) };
    let mut at = 0;
    while text.len() - at >= wanted.len() {
        let candidates = &text[at..text.len() - rest.len()];
        let Some(skipped) = find_byte(candidates, *first) else { return Ok(None) };
        at += skipped + 1;
        let same = common(&text[at..at + rest.len()], rest);
        if same == rest.len() {
            return Ok(Some(at - 1));
        }
        pace.step(1 + (skipped + same) / 16)?;
    }
    Ok(None)
}

/// Where a byte stands. Blocks are looked at as a whole, which compilers make wide instructions of.
fn find_byte(bytes: &[u8], wanted: u8) -> Option<usize> {
    const BLOCK: usize = 32;
    let mut at = 0;
    for block in bytes.chunks_exact(BLOCK) {
        if block.iter().fold(false, |any, byte| any | (*byte == wanted)) {
            break;
        }
        at += BLOCK;
    }
    bytes[at..].iter().position(|byte| *byte == wanted).map(|more| at + more)
}

/// How many bytes are the same at the beginning of two texts of one length; all of them, or less
/// than a block too few.
fn common(one: &[u8], other: &[u8]) -> usize {
    const BLOCK: usize = 64;
    let blocks = one.chunks(BLOCK).zip(other.chunks(BLOCK));
    let same = blocks.take_while(|(one, other)| one == other).count() * BLOCK;
    same.min(one.len())
}
