//! The configuration file as text: `name value`, `#` comments, quotes; unknown lines survive a
//! rewrite.
//!
//! The rules are Kvrocks': a value ends at a `#` or at the end of the line, blanks around it do not
//! count, quotes and backslashes inside it are themselves. A value that begins with a quote ends at
//! the next one, knows escapes, and nothing but a comment may follow it. Beyond them a quoted value
//! knows `\xHH`, as values of CONFIG SET do. Lines of users, which Kvrocks has not, are Redis'.

use super::Tokens;
use super::options::{OPTIONS, Values};

/// Name of lines with users.
pub const USER: &str = "user";

/// What the names of lines with tokens begin with.
pub const NAMESPACE: &str = "namespace.";

/// The namespace that a line of this name gives a token.
pub fn namespace(name: &str) -> Option<&str> {
    let (begin, rest) = name.split_at_checked(NAMESPACE.len())?;
    begin.eq_ignore_ascii_case(NAMESPACE).then_some(rest)
}

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// 1-based.
    pub number: usize,
    /// Option name.
    pub name: String,
    /// Everything behind it, quotes removed.
    pub value: String,
    /// Nothing is behind it, not even quotes; a comment may be.
    pub is_bare: bool,
    /// A comment begins right behind the value, which may have been meant to go on.
    pub is_cut: bool,
}

/// The lines of a file, without the mark that some editors put before the first one.
fn lines_of(text: &str) -> std::str::Lines<'_> {
    text.strip_prefix('\u{feff}').unwrap_or(text).lines()
}

/// Reads the lines of a file. A quote that is not closed, or that something follows, is an error
/// with its line number.
pub fn parse(text: &str) -> Result<Vec<Line>, usize> {
    let mut lines = Vec::new();
    for (index, line) in lines_of(text).enumerate() {
        let (name, rest) = split_name(line);
        if name.is_empty() {
            continue;
        }
        let value = if name.eq_ignore_ascii_case("rename-command") {
            // Two words that may both be in quotes: `words` takes them apart.
            Some(rest.to_owned())
        } else if name.eq_ignore_ascii_case(USER) {
            // All of it may be in quotes, as any other value.
            let whole = value(rest).filter(|_| rest.starts_with(['"', '\'']));
            Some(whole.unwrap_or_else(|| modifiers(rest)))
        } else {
            value(rest)
        };
        let value = value.ok_or(index + 1)?;
        let is_quoted = rest.starts_with(['"', '\'']);
        let is_bare = value.is_empty() && !is_quoted;
        let behind = rest.strip_prefix(value.as_str()).filter(|_| !is_bare && !is_quoted);
        let is_cut = behind.is_some_and(|behind| behind.starts_with('#'));
        lines.push(Line { number: index + 1, name: name.to_owned(), value, is_bare, is_cut });
    }
    Ok(lines)
}

/// The name of a line, and what is behind it and the blanks that follow. Blanks are all that
/// Unicode calls white space, any number of them.
fn split_name(line: &str) -> (&str, &str) {
    let trimmed = line.trim();
    let end = trimmed.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(trimmed.len());
    let (name, rest) = trimmed.split_at(end);
    (name, rest.trim_start())
}

/// The words of a value that has several, each of which may be in quotes; a comment ends them.
/// `None` for a quote that is not closed.
pub fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        if rest.starts_with(['"', '\'']) {
            let (word, behind) = quoted(rest)?;
            words.push(word);
            if !(behind.is_empty() || behind.starts_with(|c: char| c.is_whitespace() || c == '#')) {
                return None;
            }
            rest = behind.trim_start();
        } else {
            let (word, behind) = split_name(rest);
            words.push(word.to_owned());
            rest = behind;
        }
    }
    Some(words)
}

/// The value at the beginning of `text`; `None` for a quote that is not closed or that something
/// follows.
fn value(text: &str) -> Option<String> {
    if !text.starts_with(['"', '\'']) {
        return Some(text.split('#').next().unwrap_or_default().trim().to_owned());
    }
    let (value, behind) = quoted(text)?;
    let behind = behind.trim_start();
    (behind.is_empty() || behind.starts_with('#')).then_some(value)
}

/// The words of a line of a user. There a `#` begins a hash, or is one letter of a password, unless
/// it stands alone: cut off there, the user would have a shorter password, and what the rest of the
/// line takes from it.
fn modifiers(text: &str) -> String {
    let words: Vec<&str> = text.split_ascii_whitespace().take_while(|word| *word != "#").collect();
    words.join(" ")
}

/// The word in quotes at the beginning of `text`, and what is behind it; `None` if the quote is not
/// closed.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.chars();
    let quote = rest.next()?;
    let mut bytes = Vec::new();
    loop {
        let c = match rest.next()? {
            c if c == quote => break,
            '\\' => match rest.next()? {
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(&digits, 16).ok()?);
                    continue;
                }
                't' => '\t',
                'r' => '\r',
                'n' => '\n',
                'v' => '\x0b',
                'f' => '\x0c',
                'b' => '\x08',
                c @ ('\'' | '"' | '\\') => c,
                _ => continue,
            },
            c => c,
        };
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some((String::from_utf8_lossy(&bytes).into_owned(), rest.as_str()))
}

/// What stands in a file beside options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Tokens of namespaces.
    pub tokens: Tokens,
    /// Whole lines, one for each user.
    pub users: Vec<String>,
}

/// The text of a file after CONFIG REWRITE: lines of known options take their present value,
/// everything else stays, options that differ from their default and were not in the file are
/// appended. Lines of namespaces and users make way for `kept`.
pub fn rewrite(text: &str, values: &Values, kept: &Kept) -> String {
    let defaults = Values::default();
    let mut written = std::collections::BTreeSet::new();
    let mut out = String::with_capacity(text.len() + 256);
    for line in lines_of(text) {
        let (name, _) = split_name(line);
        match super::options::find(name) {
            Some(option) => {
                if written.insert(option.name) {
                    push_line(&mut out, option.name, &values.get(option.name).unwrap_or_default());
                }
            }
            None if namespace(name).is_some() || name.eq_ignore_ascii_case(USER) => {}
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
    for line in &kept.users {
        out.push_str(line);
        out.push('\n');
    }
    for (token, namespace) in &kept.tokens {
        push_line(&mut out, &format!("{NAMESPACE}{namespace}"), token);
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
    let is_plain = !value.is_empty()
        && value.trim() == value
        && !value.contains(|c: char| c.is_control() || matches!(c, '"' | '\'' | '\\' | '#'));
    if is_plain {
        out.push_str(value);
    } else {
        out.push('"');
        for c in value.chars() {
            match c {
                '"' | '\'' | '\\' => out.extend(['\\', c]),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\n' => out.push_str("\\n"),
                '\x0b' => out.push_str("\\v"),
                '\x0c' => out.push_str("\\f"),
                '\x08' => out.push_str("\\b"),
                c => out.push(c),
            }
        }
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
        let rewritten = rewrite(text, &values, &Kept::default());
        assert_eq!(rewritten, "# mine\nport 7000\nfuture-option a b\nrequirepass \"a \\\"b\"\n");
        let lines = parse(&rewritten).unwrap();
        assert_eq!(lines[2].value, "a \"b");
        assert_eq!(parse("a 'b\n"), Err(1));
        let tokens = Tokens::from([("to k".to_owned(), "b".to_owned())]);
        let kept = Kept { tokens, users: vec!["user u on".to_owned()] };
        let marked = rewrite("\u{feff}port 1\n", &values, &Kept::default());
        assert_eq!(marked, "port 7000\nrequirepass \"a \\\"b\"\n");
        let text = rewrite("Namespace.a old\n# mine\nUSER o off\n", &Values::default(), &kept);
        assert_eq!(text, "# mine\nuser u on\nnamespace.b to k\n");
    }

    fn read(text: &str) -> Result<(String, String), usize> {
        let mut lines = parse(text)?;
        let line = lines.pop().unwrap();
        Ok((line.name, line.value))
    }

    #[test]
    fn values_end_where_they_end_in_kvrocks() {
        let is = |text: &str, value: &str| {
            assert_eq!(read(text), Ok(("name".to_owned(), value.to_owned())), "{text}");
        };
        is("name value # why", "value");
        is(" name\tvalue#why", "value");
        is("name", "");
        is("name # why", "");
        is("name#why", "");
        is("name two  words \t", "two  words");
        is("name it's a \\ \"word\"", "it's a \\ \"word\"");
        is("name \"a # b\" # why", "a # b");
        is(r#"name "a\"b\\c\td\x41""#, "a\"b\\c\tdA");
        is("name 'a \"b\"'", "a \"b\"");
        is("name ''", "");
        for bad in ["name \"a", "name 'a\" # b", "name \"a\" b", "name \"a\\"] {
            assert_eq!(read(bad), Err(1), "{bad}");
        }
        assert_eq!(parse("# only\n\n   # this\n"), Ok(Vec::new()));
    }

    #[test]
    fn a_line_of_a_user_is_whole() {
        let line = |text: &str| read(&format!("User {text}")).unwrap().1;
        let hash = format!("#{}", "0a".repeat(32));
        for text in [&*format!("u on {hash} ~k#1 +@all -@dangerous"), "u on >it's#\"1 -@all"] {
            assert_eq!(line(text), text);
            assert_eq!(line(&format!("  {text} \t # mine #2")), text);
        }
        let text = format!("u on {hash} +@all");
        for quote in ["\"", "'"] {
            assert_eq!(line(&format!("{quote}{text}{quote} # mine")), text);
        }
        assert_eq!(line("\"u on +@all"), "\"u on +@all", "it is the user's name that begins so");
        let kept = Kept { users: vec![format!("user u on {hash} +get")], ..Kept::default() };
        let rewritten = rewrite("", &Values::default(), &kept);
        assert_eq!(read(&rewritten), Ok(("user".to_owned(), format!("u on {hash} +get"))));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for value in [
            "",
            "plain",
            "two words",
            " ",
            "it's",
            "a\"b",
            "a\\b",
            "#",
            "a\tb\r\n",
            "ä € 😀",
            "\u{b}\u{c}\u{8}",
        ] {
            let mut line = String::new();
            push_line(&mut line, "name", value);
            assert_eq!(read(&line), Ok(("name".to_owned(), value.to_owned())), "{line}");
        }
    }
}
