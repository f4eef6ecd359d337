//! Glob patterns of KEYS, SCAN, PSUBSCRIBE, as Redis matches them: `*`, `?`, `[abc]`, `[^a-c]`,
//! `\x`.
//!
//! A client chooses both the pattern and what it is matched with, so the time that takes is bounded
//! ([`runs`]): it grows with the length of both, not with their product.

mod runs;

/// Whether KEYS, SCAN and its kin return `name`: `*` alone is no pattern but "all of them".
pub fn selects(pattern: &[u8], name: &[u8]) -> bool {
    pattern == b"*" || matches(pattern, name)
}

/// Whether the whole of `text` matches. As in Redis, only the empty pattern matches the empty text:
/// `**` does not.
///
/// Within a read that has used up its budget the answer is none: it is ended, and nobody asks.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    // Nearly all patterns and texts are told by trying; few need what takes more than that.
    let tries = TRIES + 8 * text.len();
    by_trying(pattern, text, tries)
        .unwrap_or_else(|| runs::matches(pattern, text, &mut runs::Work::default()))
}

/// What is tried at least before more is prepared.
const TRIES: usize = 1024;

/// The same by trying; `None` if that takes more steps than `left`. Where the first star matches
/// little, the text behind it is looked at again and again.
fn by_trying(pattern: &[u8], text: &[u8], mut left: usize) -> Option<bool> {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` ended, and the text position it was tried at last. Only the last star ever
    // needs another try.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        left = left.checked_sub(1)?;
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if let Some((is_match, next)) = text.get(t).and_then(|byte| one(pattern, p, *byte)) {
            // A class takes as long as it is written.
            left = left.checked_sub(next - p)?;
            if is_match {
                p = next;
                t += 1;
                continue;
            }
        }
        let Some((after_star, tried)) = retry else { return Some(false) };
        p = after_star;
        t = tried + 1;
        retry = Some((after_star, t));
    }
    Some(pattern.get(p..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*')))
}

/// The literal beginning every matching text has.
pub fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
    pattern.get(..end.unwrap_or(pattern.len())).unwrap_or_default()
}

/// Whether a byte matches the pattern's element at `at`, and the position behind that; `None` at
/// the end of the pattern.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<(bool, usize)> {
    Some(match *pattern.get(at)? {
        b'?' => (true, at + 1),
        b'[' => {
            let mut is_member = false;
            let (is_negated, behind) =
                class(pattern, at + 1, |low, high| is_member |= (low..=high).contains(&byte));
            (is_member != is_negated, behind)
        }
        b'\\' => match pattern.get(at + 1) {
            Some(escaped) => (*escaped == byte, at + 2),
            None => (byte == b'\\', at + 1),
        },
        literal => (literal == byte, at + 1),
    })
}

/// Reads a class whose first byte is at `at`, and calls `take` with the first and the last byte of
/// each range in it. Returns whether it takes all other bytes instead, and the position behind it.
/// An unclosed class ends with the pattern.
fn class(pattern: &[u8], mut at: usize, mut take: impl FnMut(u8, u8)) -> (bool, usize) {
    let is_negated = pattern.get(at) == Some(&b'^');
    at += usize::from(is_negated);
    loop {
        match (pattern.get(at), pattern.get(at + 1), pattern.get(at + 2)) {
            (None, _, _) => break,
            (Some(b']'), _, _) => {
                at += 1;
                break;
            }
            (Some(b'\\'), Some(escaped), _) => {
                take(*escaped, *escaped);
                at += 2;
            }
            (Some(low), Some(b'-'), Some(high)) => {
                take(*low.min(high), *low.max(high));
                at += 3;
            }
            (Some(member), _, _) => {
                take(*member, *member);
                at += 1;
            }
        }
    }
    (is_negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_redis_does() {
        for (pattern, text, expected) in [
            ("*", "", false),
            ("**", "", false),
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("[\\]]", "]", true),
            ("a[", "a", false),
            ("a[b", "ab", true),
            ("*a*b*", "xxaxxbxx", true),
            ("", "", true),
            ("", "a", false),
            ("a**", "a", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(selects(b"*", b"") && selects(b"*", b"a") && !selects(b"**", b""));
        let many_stars = [b"a*".repeat(50), b"b".to_vec()].concat();
        assert!(!matches(&many_stars, &b"a".repeat(500)));
        // More than is tried.
        let text = [b"a".repeat(50_000), b"b".to_vec()].concat();
        for (pattern, is_match) in [("*X", true), ("*Xa*", false), ("*X*", true), ("*?X", true)] {
            let pattern = pattern.replace('X', &format!("{}b", "a".repeat(20_000)));
            let found = by_trying(pattern.as_bytes(), &text, TRIES + 8 * text.len());
            assert_eq!((found, matches(pattern.as_bytes(), &text)), (None, is_match));
        }
        assert_eq!(literal_prefix(b"user:\\*x*"), b"user:");
        assert_eq!(literal_prefix(b"plain"), b"plain");
    }
}
