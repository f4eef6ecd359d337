//! Where a key stands in a configuration file, and what is wrong there, for those who have to
//! correct it.

use toml::de::DeTable;

/// The line, counted from 1, on which the first of `keys` stands that is in a TOML text;
/// `tls.nodes` is the key `nodes` of the table `tls`. `None`: none of them is there, or this is no
/// TOML.
pub fn line_of(text: &str, keys: &[&str]) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let found = keys.iter().find_map(|key| begins(root.get_ref(), key))?;
    let before = text.as_bytes().get(..found)?;
    Some(before.iter().filter(|byte| **byte == b'\n').count() + 1)
}

/// Where the key begins, bytes from the start.
fn begins(table: &DeTable<'_>, key: &str) -> Option<usize> {
    match key.split_once('.') {
        Some((table_name, key)) => begins(table.get(table_name)?.get_ref().as_table()?, key),
        None => table.get_key_value(key).map(|(name, _)| name.span().start),
    }
}

/// Why a TOML text was not read, in one line: where, and without what stands there. That may be a
/// token whose quotes were forgotten, and the words go into logs.
pub fn misread(text: &str, error: &toml::de::Error) -> String {
    let mut bare = error.clone();
    bare.set_input(None);
    let said = bare.to_string();
    // Behind the message it names the key, if it knows that.
    let key = said.strip_prefix(error.message()).unwrap_or_default().trim();
    let what = format!("{} {key}", without_value(error.message()));
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => {
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |begun| begun.chars().count()) + 1;
            format!("line {line}, column {column}: {}", what.trim_end())
        }
        None => what.trim_end().to_owned(),
    }
}

/// `invalid type: integer, expected a string`.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((said, expected)) if said.starts_with("invalid ") => {
            let kind = said.split(['`', '"']).next().unwrap_or_default().trim_end();
            format!("{kind}, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        token: Option<String>,
        workers: Option<usize>,
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_never_with_a_secret() {
        let told = |text: &str| {
            let error = toml::from_str::<File>(text).unwrap_err();
            let told = misread(text, &error);
            assert!(!told.contains("s3cret") && !told.contains("4711"), "{told}");
            assert!(!told.contains('\n'), "{told:?}");
            told
        };
        for value in ["s3cret", "\"s3cret", "4711", "['s3cret']"] {
            let words = told(&format!("# ä\ntoken = {value}\n"));
            assert!(words.starts_with("line "), "{words}");
        }
        let words = told("# ä\ntoken = 4711\n");
        assert!(words.starts_with("line 2, column 9: invalid type: integer, "), "{words}");
        let words = told("workers = 's3cret, expected s3cret too'\n");
        assert!(words.starts_with("line 1, column 11: invalid type: string, expected "), "{words}");
        assert!(words.ends_with("in `workers`"), "{words}");
        assert!(told("tokne = 's3cret'\n").contains("`tokne`"));
        let File { token, workers } = toml::from_str("token = 'x'\nworkers = 3\n").unwrap();
        assert_eq!((token.as_deref(), workers), (Some("x"), Some(3)));
    }

    #[test]
    fn a_key_is_found_in_every_form_that_toml_has() {
        let line = |text, key| line_of(text, &[key]);
        assert_eq!(line("# a = 1\n\nb = 2\n  \"a\" = 3\n", "a"), Some(4));
        assert_eq!(line("a = '''\nb = 1\n'''\nb = 2\n", "b"), Some(4));
        for text in ["x = 1\n[t]\nk = 1\n", "x = 1\n\nt.k = 1\n", "x = 1\r\n\r\nt = { k = 1 }\r\n"]
        {
            assert_eq!(line(text, "t.k"), Some(3), "{text}");
        }
        assert_eq!(line("k = 1\n[t]\nx = 1\n", "t.k"), None);
        assert_eq!(line("t = 1\n", "t.k"), None);
        assert_eq!(line("a = \n", "a"), None);
    }

    #[test]
    fn the_first_of_several_keys_counts_that_is_there() {
        assert_eq!(line_of("b = 1\na = 2\n", &["a", "b"]), Some(2));
        assert_eq!(line_of("b = 1\n", &["a", "b"]), Some(1));
        assert_eq!(line_of("b = 1\n", &[]), None);
    }
}
