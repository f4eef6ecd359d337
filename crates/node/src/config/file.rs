//! The configuration file as text: `name value`, `#` comments, quotes; unknown lines survive a rewrite.

use super::options::{OPTIONS, Values};

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// 1-based.
    pub number: usize,
    /// Option name.
    pub name: String,
    /// Everything behind it, quotes removed, words joined by one blank.
    pub value: String,
}

/// Reads the lines of a file. An open quote is an error with its line number.
pub fn parse(text: &str) -> Result<Vec<Line>, usize> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let words = resp::request::split_words(trimmed.as_bytes()).ok_or(index + 1)?;
        let mut words = words.iter().map(|word| String::from_utf8_lossy(word).into_owned());
        let name = words.next().unwrap_or_default();
        lines.push(Line { number: index + 1, name, value: words.collect::<Vec<_>>().join(" ") });
    }
    Ok(lines)
}

/// The text of a file after CONFIG REWRITE: lines of known options take their present value, everything else stays, options that differ from their
/// default and were not in the file are appended.
pub fn rewrite(text: &str, values: &Values) -> String {
    let defaults = Values::default();
    let mut written = std::collections::BTreeSet::new();
    let mut out = String::with_capacity(text.len() + 256);
    for line in text.lines() {
        let name = line.trim().split([' ', '\t']).next().unwrap_or_default();
        match super::options::find(name) {
            Some(option) => {
                if written.insert(option.name) {
                    push_line(&mut out, option.name, &values.get(option.name).unwrap_or_default());
                }
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    for option in OPTIONS {
        let value = values.get(option.name);
        if !written.contains(option.name) && value != defaults.get(option.name) {
            push_line(&mut out, option.name, &value.unwrap_or_default());
        }
    }
    out
}

/// The sample file: every option with its documentation and default.
pub fn sample() -> String {
    let defaults = Values::default();
    let mut out = String::new();
    for option in OPTIONS {
        for line in option.doc.lines() {
            out.push_str("# ");
            out.push_str(line.trim());
            out.push('\n');
        }
        out.push_str("# ");
        push_line(&mut out, option.name, &defaults.get(option.name).unwrap_or_default());
        out.push('\n');
    }
    out
}

fn push_line(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push(' ');
    let is_plain = !value.is_empty() && !value.contains(['"', '\'', '\\', '#']);
    if is_plain {
        out.push_str(value);
    } else {
        out.push('"');
        out.push_str(&resp::reply::printable(value.as_bytes()));
        out.push('"');
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewrite_keeps_comments_and_unknown_lines_and_is_read_back() {
        let text = "# mine\nport 1\nfuture-option a b\nport 2\n";
        let mut values = Values { port: 7000, ..Values::default() };
        values.requirepass = "a \"b".into();
        let rewritten = rewrite(text, &values);
        assert_eq!(rewritten, "# mine\nport 7000\nfuture-option a b\nrequirepass \"a \\\"b\"\n");
        let lines = parse(&rewritten).unwrap();
        assert_eq!(lines[2].value, "a \"b");
        assert_eq!(parse("a 'b\n"), Err(1));
    }
}
