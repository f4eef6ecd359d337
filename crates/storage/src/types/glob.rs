//! Glob patterns of KEYS, SCAN, PSUBSCRIBE, as Redis matches them: `*`, `?`, `[abc]`, `[^a-c]`, `\x`.

/// Whether KEYS, SCAN and its kin return `name`: `*` alone is no pattern but "all of them".
pub fn selects(pattern: &[u8], name: &[u8]) -> bool {
    pattern == b"*" || matches(pattern, name)
}

/// Whether the whole of `text` matches. As in Redis, only the empty pattern matches the empty text:
/// `**` does not.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Where the last `*` ended, and the text position it was tried at last. Only the last star ever needs another try,
    // so matching is quadratic at worst.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if let Some(next) = text.get(t).and_then(|byte| one(pattern, p, *byte)) {
            p = next;
            t += 1;
            continue;
        }
        let Some((after_star, tried)) = retry else { return false };
        p = after_star;
        t = tried + 1;
        retry = Some((after_star, t));
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// The literal beginning every matching text has.
pub fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
    pattern.get(..end.unwrap_or(pattern.len())).unwrap_or_default()
}

/// Matches one byte against the pattern element at `at`; the position behind the element if it matches.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' => match pattern.get(at + 1) {
            Some(escaped) => (*escaped == byte).then_some(at + 2),
            None => (byte == b'\\').then_some(at + 1),
        },
        literal => (literal == byte).then_some(at + 1),
    }
}

/// Matches a class whose first byte is at `at`. An unclosed class ends with the pattern.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let is_negated = pattern.get(at) == Some(&b'^');
    at += usize::from(is_negated);
    let mut is_member = false;
    loop {
        match (pattern.get(at), pattern.get(at + 1), pattern.get(at + 2)) {
            (None, _, _) => break,
            (Some(b']'), _, _) => {
                at += 1;
                break;
            }
            (Some(b'\\'), Some(escaped), _) => {
                is_member |= *escaped == byte;
                at += 2;
            }
            (Some(low), Some(b'-'), Some(high)) => {
                is_member |= (*low.min(high)..=*low.max(high)).contains(&byte);
                at += 3;
            }
            (Some(member), _, _) => {
                is_member |= *member == byte;
                at += 1;
            }
        }
    }
    (is_member != is_negated).then_some(at)
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
        assert_eq!(literal_prefix(b"user:\\*x*"), b"user:");
        assert_eq!(literal_prefix(b"plain"), b"plain");
    }
}
