//! Does a reply match its recording? Pure.

use std::collections::BTreeMap;

use super::parse::{Expected, Order, Pattern, Piece};
use crate::wire::{Reply, Shape};

/// Saved elements and what the player gives.
pub type Variables = BTreeMap<String, Vec<u8>>;

impl Pattern {
    /// The bytes, every variable replaced. A variable without value stands for itself.
    pub fn fill(&self, variables: &Variables) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Bytes(literal) => bytes.extend(literal),
                Piece::Any => bytes.extend(b"@{any}"),
                Piece::Variable(name) => match variables.get(name) {
                    Some(value) => bytes.extend(value),
                    None => bytes.extend(format!("@{{{name}}}").bytes()),
                },
            }
        }
        bytes
    }

    /// Whether these bytes fit the pattern as a whole.
    pub fn matches(&self, bytes: &[u8], variables: &Variables) -> bool {
        pieces_match(&self.0, bytes, variables)
    }

    /// One pattern for each line of a text.
    fn lines(&self) -> Vec<Self> {
        let mut lines = vec![Self(Vec::new())];
        for piece in &self.0 {
            let Piece::Bytes(bytes) = piece else {
                if let Some(line) = lines.last_mut() {
                    line.0.push(piece.clone());
                }
                continue;
            };
            for (index, part) in bytes.split(|byte| *byte == b'\n').enumerate() {
                if index > 0 {
                    lines.push(Self(Vec::new()));
                }
                if let (Some(line), false) = (lines.last_mut(), part.is_empty()) {
                    line.0.push(Piece::Bytes(part.to_vec()));
                }
            }
        }
        lines
    }
}

fn pieces_match(pieces: &[Piece], bytes: &[u8], variables: &Variables) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return bytes.is_empty() };
    match piece {
        Piece::Bytes(literal) => bytes
            .strip_prefix(literal.as_slice())
            .is_some_and(|bytes| pieces_match(rest, bytes, variables)),
        Piece::Variable(name) => match variables.get(name) {
            Some(value) => bytes
                .strip_prefix(value.as_slice())
                .is_some_and(|bytes| pieces_match(rest, bytes, variables)),
            None => any_match(rest, bytes, variables),
        },
        Piece::Any => any_match(rest, bytes, variables),
    }
}

fn any_match(rest: &[Piece], bytes: &[u8], variables: &Variables) -> bool {
    let line_end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    (0..=line_end.unwrap_or(bytes.len()))
        .any(|length| pieces_match(rest, &bytes[length..], variables))
}

/// Whether a reply is the recorded one.
pub fn matches(expected: &Expected, actual: &Reply, order: Order, variables: &Variables) -> bool {
    match (expected, actual) {
        (Expected::AnyOf(kind), actual) => kind_of(actual) == kind,
        (Expected::Many(shape, expected), Reply::Many(actual_shape, actual)) => {
            shape == actual_shape && elements_match(expected, actual, order, variables)
        }
        (Expected::Line(sign, pattern), actual) => {
            line_matches(*sign, pattern, actual, order, variables)
        }
        (Expected::Many(..), _) => false,
    }
}

fn line_matches(
    sign: char,
    pattern: &Pattern,
    actual: &Reply,
    order: Order,
    variables: &Variables,
) -> bool {
    let (actual_sign, bytes) = match actual {
        Reply::Simple(bytes) => ('+', bytes.clone()),
        Reply::Error(bytes) => ('-', bytes.clone()),
        Reply::Integer(number) => (':', number.to_string().into_bytes()),
        Reply::Bulk(bytes) => ('$', bytes.clone()),
        Reply::NilBulk => ('n', b"nil".to_vec()),
        Reply::NilArray => ('n', b"nil*".to_vec()),
        Reply::Null => ('_', Vec::new()),
        Reply::Double(bytes) => (',', bytes.clone()),
        Reply::Boolean(value) => ('#', if *value { b"t".to_vec() } else { b"f".to_vec() }),
        Reply::BigNumber(bytes) => ('(', bytes.clone()),
        Reply::Verbatim(bytes) => ('=', bytes.clone()),
        Reply::Many(..) => return false,
    };
    if sign != actual_sign {
        return false;
    }
    if order == Order::Exact || sign != '$' {
        return pattern.matches(&bytes, variables);
    }
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    any_order(&pattern.lines(), &lines, |pattern, line| pattern.matches(line, variables))
}

fn elements_match(
    expected: &[Expected],
    actual: &[Reply],
    order: Order,
    variables: &Variables,
) -> bool {
    if expected.len() != actual.len() {
        return false;
    }
    let one = |expected: &Expected, actual: &Reply| matches(expected, actual, order, variables);
    match order {
        Order::Exact => expected.iter().zip(actual).all(|(expected, actual)| one(expected, actual)),
        Order::Any => any_order(expected, actual, one),
        Order::Pairs => {
            let expected: Vec<&[Expected]> = expected.chunks(2).collect();
            let actual: Vec<&[Reply]> = actual.chunks(2).collect();
            any_order(&expected, &actual, |expected, actual| {
                expected.len() == actual.len()
                    && expected.iter().zip(*actual).all(|(expected, actual)| one(expected, actual))
            })
        }
    }
}

/// Whether each of one side has a partner of its own on the other. Greedy: recorded patterns with holes do not overlap.
fn any_order<E, A>(expected: &[E], actual: &[A], one: impl Fn(&E, &A) -> bool) -> bool {
    let mut left: Vec<&A> = actual.iter().collect();
    expected.len() == actual.len()
        && expected.iter().all(|expected| {
            let found = left.iter().position(|actual| one(expected, actual));
            found.map(|index| left.swap_remove(index)).is_some()
        })
}

fn kind_of(reply: &Reply) -> &'static str {
    match reply {
        Reply::Simple(_) => "simple",
        Reply::Error(_) => "error",
        Reply::Integer(_) => "integer",
        Reply::Bulk(_) => "bulk",
        Reply::NilBulk | Reply::NilArray | Reply::Null => "nil",
        Reply::Double(_) => "double",
        Reply::Boolean(_) => "boolean",
        Reply::BigNumber(_) => "bignumber",
        Reply::Verbatim(_) => "verbatim",
        Reply::Many(Shape::Array, _) => "array",
        Reply::Many(Shape::Set, _) => "set",
        Reply::Many(Shape::Push, _) => "push",
        Reply::Many(Shape::Map, _) => "map",
    }
}

/// Whether two servers said the same, errors compared by their code and elements in any order.
pub fn same_answer(ours: &Reply, theirs: &Reply) -> bool {
    match (ours, theirs) {
        (Reply::Error(_), Reply::Error(_)) => ours.error_code() == theirs.error_code(),
        (Reply::Many(one, ours), Reply::Many(other, theirs)) => {
            one == other && any_order(ours, theirs, same_answer)
        }
        _ => ours == theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::File;
    use super::*;

    fn check(recorded: &str, header: &str, actual: &Reply) -> bool {
        let file = File::parse("x.resp", &format!("{header}> X\n{recorded}")).unwrap();
        let step = &file.blocks[0].steps[0];
        let variables = Variables::from([("port".to_owned(), b"7".to_vec())]);
        matches(&step.replies[0], actual, step.order, &variables)
    }

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.into())
    }

    #[test]
    fn holes_stop_at_line_ends() {
        assert!(check("< $a@{any}z:@{port}\n", "", &bulk("a..z:7")));
        assert!(!check("< $a@{any}z\n", "", &bulk("a\nz")));
        assert!(!check("< $@{port}\n", "", &bulk("8")));
    }

    #[test]
    fn order_matters_unless_said_otherwise() {
        let actual = Reply::Many(Shape::Array, vec![bulk("b"), bulk("1"), bulk("a"), bulk("2")]);
        let pairs = "< *4\n<   $a\n<   $2\n<   $b\n<   $1\n";
        assert!(!check(pairs, "", &actual));
        assert!(check(pairs, "# unordered pairs\n", &actual));
        assert!(check("< *4\n<   $1\n<   $2\n<   $a\n<   $b\n", "# unordered\n", &actual));
        assert!(!check("< *4\n<   $1\n<   $1\n<   $a\n<   $b\n", "# unordered\n", &actual));
        assert!(check("< $x:1\\x0ay:@{any}\n", "# unordered\n", &bulk("y:2\nx:1")));
    }

    #[test]
    fn types_are_part_of_the_answer() {
        assert!(check("< nil\n", "", &Reply::NilBulk));
        assert!(!check("< nil*\n", "", &Reply::NilBulk));
        assert!(!check("< $1\n", "", &Reply::Integer(1)));
        assert!(check("< ~ integer\n", "", &Reply::Integer(5)));
        let error = |text: &str| Reply::Error(text.into());
        assert!(same_answer(&error("ERR one"), &error("ERR two")));
        assert!(!same_answer(&error("ERR one"), &error("WRONGTYPE one")));
    }
}
