//! Entity tags: what a client has already is not sent again.

use axum::http::HeaderMap;
use axum::http::header::IF_NONE_MATCH;

use crate::access;

/// The tag of these bytes, in its quotes.
pub(super) fn of(bytes: &[u8]) -> String {
    format!("\"{}\"", access::hash(bytes))
}

/// Whether the client says that it has what has this tag. `*` is no tag of ours.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let said = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = said.flat_map(|value| value.split(',')).map(str::trim);
    // A proxy that packs an answer marks its tag as weak.
    tags.any(|said| said.strip_prefix("W/").unwrap_or(said) == tag)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_tag_is_known_by_itself_among_others_and_weakened() {
        let tag = of(b"text");
        assert_ne!(tag, of(b"texts"));
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 66, "{tag}");
        let says = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_str(value).expect("a value");
                headers.append(IF_NONE_MATCH, value);
            }
            is_known(&headers, &tag)
        };
        let (listed, weak) = (format!("\"x\", {tag}"), format!("W/{tag}"));
        for known in [tag.as_str(), &listed, &weak] {
            assert!(says(&[known]), "{known}");
        }
        assert!(says(&["\"x\"", tag.as_str()]), "in a header of its own");
        for other in ["", "*", "\"x\"", &tag[1..65]] {
            assert!(!says(&[other]), "{other}");
        }
        assert!(!says(&[]), "nothing is said");
    }
}
