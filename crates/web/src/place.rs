//! Where a key stands in a configuration file, for those who have to correct it.

use toml::de::DeTable;

/// The line, counted from 1, on which the first of `keys` stands that is in a TOML text; `tls.nodes` is the key
/// `nodes` of the table `tls`. `None`: none of them is there, or this is no TOML.
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

#[cfg(test)]
mod tests {
    use super::*;

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
