use super::*;
use crate::{DEPTH_MAX, from_text, to_text};

fn get(document: &str, path: &str) -> Result<String> {
    let document = from_text(document.as_bytes(), DEPTH_MAX)?;
    let mut found = Vec::new();
    Path::parse(path.as_bytes())?.each(&document, |value| {
        found.push(value.clone());
        Ok(())
    })?;
    to_text(&Value::Array(found), DEPTH_MAX)
}

#[test]
fn wrong_paths_are_told_in_the_words_of_jsoncons() {
    for (path, said) in [
        (".a", "Expected '$' or function expression at line 1 and column 1"),
        ("a", "Expected '$' or function expression at line 1 and column 2"),
        ("$.", "Syntax error at line 1 and column 3"),
        ("$\n.a\n!", "Syntax error at line 3 and column 1"),
    ] {
        let refused = get("{}", path).unwrap_err().to_string();
        assert_eq!(refused.split(" at ").next(), said.split(" at ").next(), "{path}: {refused}");
    }
}

#[test]
fn a_path_nests_to_a_limit() {
    let nested = |levels: usize| ["$", &"[?@".repeat(levels), &"]".repeat(levels)].concat();
    assert_eq!(get("[]", &nested(50)), Ok("[]".to_owned()));
    for path in [
        nested(20_000),
        format!("$[?{}1]", "!".repeat(60_000)),
        format!("$[?{}1]", "(".repeat(60_000)),
        format!("$[?{}1]", "1 + ".repeat(15_000)),
        format!("$[?{}", "abs(".repeat(15_000)),
        "$".repeat(PATH_BYTES_MAX + 1),
    ] {
        assert_eq!(get("[1]", &path), Err(Error::TooMuch));
    }
}

#[test]
fn a_document_of_the_largest_depth_is_walked() {
    let document = ["[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX)].concat();
    let path = ["$", &"[0]".repeat(DEPTH_MAX - 1)].concat();
    assert_eq!(get(&document, &path), Ok("[[]]".to_owned()));
    assert_eq!(get(&document, "$[?length($..[*]) == 0]"), Ok("[]".to_owned()));
    let mut count = 0;
    let value = from_text(document.as_bytes(), DEPTH_MAX).unwrap();
    let path = Path::parse(b"$..*").unwrap();
    path.each(&value, |_| {
        count += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(count, DEPTH_MAX - 1);
    assert_eq!(path.places(&value).unwrap().len(), DEPTH_MAX - 1);
}

#[test]
fn a_path_that_visits_too_much_is_given_up() {
    let document = format!("[{}1]", "[1,2,3],".repeat(3000));
    let every = ["$", &"[*,*,*,*]".repeat(2), &"^[*,*,*,*]".repeat(4)].concat();
    for path in [&*every, "$[?length($..*) > 0][?length($..*) > 0]", "$[?$[?$[*]]]"] {
        assert_eq!(get(&document, path), Err(Error::TooMuch), "{path}");
    }
}

#[test]
fn a_place_is_named_or_not() {
    let keys = |path: &str| location::location(path.as_bytes());
    let name = |name: &str| Key::Name(name.into());
    assert_eq!(
        keys("$.a[\"b c\"][2]['d'].3"),
        Ok(Some(vec![name("a"), name("b c"), Key::Index(2), name("d"), Key::Index(3),]))
    );
    assert_eq!(keys("$"), Ok(Some(Vec::new())));
    assert_eq!(keys("$..a"), Ok(None));
    for path in ["$.a[*]", "$[-1]", "$.*", "$.", "a", "$.a[?@]", "$a", "$[99999999999999999999]"] {
        assert!(!matches!(keys(path), Ok(Some(_))), "{path}");
    }
}
