//! Text to steps.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::order::Order;
use crate::wire::Shape;

/// A whole file.
#[derive(Debug)]
pub struct File {
    /// Its name, such as `string.resp`.
    pub name: String,
    /// RESP3: every connection begins with `HELLO 3`.
    pub is_resp3: bool,
    /// Recorded with `cluster-enabled yes`.
    pub is_cluster: bool,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

/// Steps that share connections and data.
#[derive(Debug, Default)]
pub struct Block {
    /// In order.
    pub steps: Vec<Step>,
}

/// One command, or one wait for a message, and what came back.
#[derive(Debug, Default)]
pub struct Step {
    /// Line in the file, from 1.
    pub line: usize,
    /// Which connection; `main` unless named.
    pub connection: String,
    /// The command; empty for a bare `>`.
    pub arguments: Vec<Pattern>,
    /// The line as written, after `> `.
    pub text: String,
    /// Top-level replies.
    pub replies: Vec<Expected>,
    /// The order that it is marked with.
    pub order: Order,
    /// Name and path of a reply element to remember.
    pub save: Option<(String, Vec<usize>)>,
    /// Lines of nodes.conf after the command.
    pub nodes_conf: Vec<Pattern>,
}

/// Bytes with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(pub Vec<Piece>);

/// Part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// `@{any}`: any bytes but line ends.
    Any,
    /// `@{name}`: what was saved, or what the player gives.
    Variable(String),
}

/// A recorded reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// One line: the sign and what follows.
    Line(char, Pattern),
    /// Several.
    Many(Shape, Vec<Expected>),
    /// `~ word`: anything of that type.
    AnyOf(String),
}

impl File {
    /// Reads and parses.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(&name, &text).with_context(|| format!("parse {}", path.display()))
    }

    /// Parses.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut file = Self {
            name: name.to_owned(),
            is_resp3: name.ends_with(".resp3"),
            is_cluster: false,
            blocks: Vec::new(),
        };
        let mut block = Builder::default();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() {
                block.finish_into(&mut file.blocks)?;
            } else if line == "# cluster: yes" {
                file.is_cluster = true;
            } else {
                block.line(index + 1, line).with_context(|| format!("line {}", index + 1))?;
            }
        }
        block.finish_into(&mut file.blocks)?;
        Ok(file)
    }
}

/// Collects the lines of one step after another.
#[derive(Debug, Default)]
struct Builder {
    steps: Vec<Step>,
    replies: Vec<String>,
    connection: Option<String>,
    order: Order,
    save: Option<(String, Vec<usize>)>,
}

impl Builder {
    fn line(&mut self, number: usize, line: &str) -> Result<()> {
        if let Some(reply) = line.strip_prefix("< ") {
            self.replies.push(reply.to_owned());
        } else if line == ">" || line.starts_with("> ") {
            self.finish_step()?;
            let text = line.get(2..).unwrap_or_default();
            self.steps.push(Step {
                line: number,
                connection: self.connection.take().unwrap_or_else(|| "main".to_owned()),
                arguments: words(text)?,
                text: text.to_owned(),
                order: std::mem::take(&mut self.order),
                save: self.save.take(),
                ..Step::default()
            });
        } else if let Some(conf) = line.strip_prefix("= ") {
            let step = self.steps.last_mut().context("`=` before any command")?;
            step.nodes_conf.push(pattern(conf)?);
        } else if let Some(header) = line.strip_prefix("# ") {
            // Headers are about the command that follows.
            self.finish_step()?;
            self.header(header)?;
        } else {
            bail!("`{line}` begins with none of `>`, `<`, `=`, `#`");
        }
        Ok(())
    }

    fn header(&mut self, header: &str) -> Result<()> {
        match header.split_once(": ") {
            Some(("conn", name)) => self.connection = Some(name.to_owned()),
            Some(("save", rest)) => {
                let (name, path) = rest.split_once(' ').unwrap_or((rest, ""));
                let path = path.split('.').filter(|part| !part.is_empty());
                let path =
                    path.map(|part| part.parse().context("read a path")).collect::<Result<_>>()?;
                self.save = Some((name.to_owned(), path));
            }
            Some(("family", _)) => {}
            _ => match mark(header) {
                Some(order) => self.order = order,
                None => bail!("unknown header `{header}`"),
            },
        }
        Ok(())
    }

    fn finish_step(&mut self) -> Result<()> {
        let lines = std::mem::take(&mut self.replies);
        if lines.is_empty() {
            return Ok(());
        }
        let step = self.steps.last_mut().context("a reply before any command")?;
        let mut rest = lines.as_slice();
        while !rest.is_empty() {
            let (reply, after) = expected(rest, 0)?;
            step.replies.push(reply);
            rest = after;
        }
        Ok(())
    }

    fn finish_into(&mut self, blocks: &mut Vec<Block>) -> Result<()> {
        self.finish_step()?;
        let Self { steps, .. } = std::mem::take(self);
        if !steps.is_empty() {
            blocks.push(Block { steps });
        }
        Ok(())
    }
}

/// What a line says after `# ` of the order of the reply to the command that follows.
pub fn mark(header: &str) -> Option<Order> {
    match header {
        "unordered" => Some(Order::Any),
        "unordered pairs" => Some(Order::Pairs),
        _ => None,
    }
}

/// Reads one reply at a depth of indentation; returns it and the lines after it.
fn expected(lines: &[String], depth: usize) -> Result<(Expected, &[String])> {
    let (line, mut rest) = lines.split_first().context("a reply is missing elements")?;
    let line = line.strip_prefix(&"  ".repeat(depth)).context("a reply is not indented")?;
    let sign = line.chars().next().context("an empty reply")?;
    let text = &line[sign.len_utf8()..];
    let shape = match sign {
        '*' => Shape::Array,
        '%' => Shape::Map,
        '>' => Shape::Push,
        '~' if !text.starts_with(' ') => Shape::Set,
        '~' => return Ok((Expected::AnyOf(text.trim().to_owned()), rest)),
        'n' if line == "nil" || line == "nil*" => {
            return Ok((Expected::Line('n', pattern(line)?), rest));
        }
        '+' | '-' | ':' | '$' | ',' | '#' | '_' | '(' | '=' => {
            return Ok((Expected::Line(sign, pattern(text)?), rest));
        }
        _ => bail!("`{line}` is no reply"),
    };
    let count: usize = text.parse().with_context(|| format!("read the length of `{line}`"))?;
    let count = if shape == Shape::Map { 2 * count } else { count };
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        let (element, after) = expected(rest, depth + 1)?;
        elements.push(element);
        rest = after;
    }
    Ok((Expected::Many(shape, elements), rest))
}

/// Splits a command into its arguments, which may be quoted.
fn words(text: &str) -> Result<Vec<Pattern>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = if rest.starts_with('"') {
            let close = closing_quote(rest).context("a quote is not closed")?;
            words.push(pattern(&rest[1..close])?);
            close + 1
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            words.push(pattern(&rest[..end])?);
            end
        };
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

/// Resolves escapes and holes.
fn pattern(text: &str) -> Result<Pattern> {
    let mut pieces = Vec::new();
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(hole) = rest.strip_prefix("@{") {
            let (name, after) = hole.split_once('}').context("`@{` without `}`")?;
            if !bytes.is_empty() {
                pieces.push(Piece::Bytes(std::mem::take(&mut bytes)));
            }
            pieces.push(match name {
                "any" => Piece::Any,
                name => Piece::Variable(name.to_owned()),
            });
            rest = after;
        } else if c == '\\' {
            rest = escape(&rest[1..], &mut bytes)?;
        } else {
            bytes.extend(c.to_string().bytes());
            rest = &rest[c.len_utf8()..];
        }
    }
    if !bytes.is_empty() {
        pieces.push(Piece::Bytes(bytes));
    }
    Ok(Pattern(pieces))
}

fn escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str> {
    match text.chars().next() {
        Some('x') => {
            let digits = text.get(1..3).context("`\\x` without two digits")?;
            bytes
                .push(u8::from_str_radix(digits, 16).with_context(|| format!("read \\x{digits}"))?);
            Ok(&text[3..])
        }
        Some(c @ ('\\' | '"')) => {
            bytes.push(u8::try_from(c).context("an escape")?);
            Ok(&text[1..])
        }
        _ => {
            // A backslash that escapes nothing is itself.
            ensure!(!text.starts_with('\n'), "an escape at the end of a line");
            bytes.push(b'\\');
            Ok(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "# family: x\n# cluster: yes\n\n> SET k \"a b\\x00\\\"\"\n< +OK\n# conn: b\n# unordered\n> KEYS *\n< *2\n<   $a\n<   *1\n<     nil\n> SUBSCRIBE a b\n< :1\n< :2\n>\n< ~ integer\n\n> GET @{x}y\n< $@{any}\n= version @{any}\n";

    #[test]
    fn every_form_of_line_is_understood() {
        let file = File::parse("x.resp", SAMPLE).unwrap();
        assert!(file.is_cluster && !file.is_resp3);
        let [first, second] = file.blocks.as_slice() else { panic!("{:?}", file.blocks) };
        let [set, keys, subscribe, message] = first.steps.as_slice() else { panic!("{first:?}") };
        assert_eq!(set.arguments[2], Pattern(vec![Piece::Bytes(b"a b\0\"".to_vec())]));
        assert_eq!((keys.connection.as_str(), &keys.order), ("b", &Order::Any));
        assert!(
            matches!(&keys.replies[0], Expected::Many(Shape::Array, elements) if elements.len() == 2)
        );
        assert_eq!((subscribe.replies.len(), subscribe.connection.as_str()), (2, "main"));
        assert!(message.arguments.is_empty());
        assert_eq!(message.replies, [Expected::AnyOf("integer".into())]);
        let get = &second.steps[0];
        let name = Piece::Variable("x".into());
        assert_eq!(get.arguments[1], Pattern(vec![name, Piece::Bytes(b"y".to_vec())]));
        assert_eq!(get.nodes_conf.len(), 1);
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        let error = File::parse("x.resp", "> GET k\n< *2\n<   $a\n").unwrap_err();
        assert!(format!("{error:#}").contains("missing elements"), "{error:#}");
        let error = File::parse("x.resp", "\nGET k\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2"), "{error:#}");
    }
}
