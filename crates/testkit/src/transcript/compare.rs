//! Does a reply match its recording? Pure.

use std::collections::BTreeMap;

use super::order::Order;
use super::parse::{Expected, Pattern, Piece};
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
pub fn matches(expected: &Expected, actual: &Reply, order: &Order, variables: &Variables) -> bool {
    match (expected, actual) {
        (Expected::AnyOf(kind), actual) => kind_of(actual) == kind,
        (Expected::Many(shape, expected), Reply::Many(actual_shape, actual)) => {
            shape == actual_shape
                && elements_match(*shape, order, expected, actual, |expected, actual, order| {
                    matches(expected, actual, order, variables)
                })
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
    order: &Order,
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
    if let (':', Order::Near(slack), Reply::Integer(actual @ 1..)) = (sign, order, actual)
        && let Ok(recorded @ 1..) = String::from_utf8_lossy(&pattern.fill(variables)).parse::<i64>()
    {
        return recorded.abs_diff(*actual) <= *slack;
    }
    if *order != Order::Any || sign != '$' {
        return pattern.matches(&bytes, variables);
    }
    any_order(&pattern.lines(), &lines(&bytes), |pattern, line| pattern.matches(line, variables))
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split(|byte| *byte == b'\n').collect()
}

/// Whether the elements of two aggregates of one shape are alike; `one` compares two of them in the
/// order that is theirs.
fn elements_match<E, A>(
    shape: Shape,
    order: &Order,
    expected: &[E],
    actual: &[A],
    one: impl Fn(&E, &A, &Order) -> bool,
) -> bool {
    if expected.len() != actual.len() {
        return false;
    }
    let exact = |expected: &E, actual: &A| one(expected, actual, &Order::Exact);
    let pairs = |expected: &[E], actual: &[A]| {
        let (expected, actual): (Vec<_>, Vec<_>) =
            (expected.chunks(2).collect(), actual.chunks(2).collect());
        any_order(&expected, &actual, |expected, actual| {
            expected.len() == actual.len()
                && expected.iter().zip(*actual).all(|(expected, actual)| exact(expected, actual))
        })
    };
    let each = |order: &dyn Fn(usize) -> Order| {
        let both = expected.iter().zip(actual).enumerate();
        both.into_iter().all(|(at, (expected, actual))| one(expected, actual, &order(at)))
    };
    let page = |order: Order| each(&|at| if at == 1 { order.clone() } else { Order::Exact });
    match (shape, order) {
        (Shape::Map, _) | (_, Order::Pairs) => pairs(expected, actual),
        (Shape::Set, _) | (_, Order::Any) => any_order(expected, actual, exact),
        (_, Order::Page) => page(Order::Any),
        (_, Order::PagePairs) => page(Order::Pairs),
        (_, Order::Each(orders)) => each(&|at| orders.get(at).cloned().unwrap_or_default()),
        (_, Order::Near(slack)) => each(&|_| Order::Near(*slack)),
        (_, Order::Exact | Order::Groups) => each(&|_| Order::Exact),
    }
}

/// Whether each of one side has a partner of its own on the other. Greedy: recorded patterns with
/// holes do not overlap.
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
        Reply::Many(Shape::Attribute, _) => "attribute",
    }
}

/// Whether two servers said the same: in the same order where it is not open, errors compared by
/// their code.
pub fn same_answer(ours: &Reply, theirs: &Reply, order: &Order) -> bool {
    match (ours, theirs, order) {
        (Reply::Error(_), Reply::Error(_), _) => ours.error_code() == theirs.error_code(),
        (_, _, Order::Groups) => {
            let (ours, theirs) = (without_consumers(ours), without_consumers(theirs));
            same_answer(&ours, &theirs, &Order::Exact)
        }
        (Reply::Many(one, ours), Reply::Many(other, theirs), _) => {
            one == other && elements_match(*one, order, ours, theirs, same_answer)
        }
        (Reply::Bulk(ours), Reply::Bulk(theirs), Order::Any)
        | (Reply::Verbatim(ours), Reply::Verbatim(theirs), Order::Any) => {
            any_order(&lines(ours), &lines(theirs), |ours, theirs| ours == theirs)
        }
        (Reply::Integer(ours @ 1..), Reply::Integer(theirs @ 1..), Order::Near(slack)) => {
            ours.abs_diff(*theirs) <= *slack
        }
        _ => ours == theirs,
    }
}

/// What XINFO GROUPS says, as if no group had any consumers.
fn without_consumers(reply: &Reply) -> Reply {
    let Reply::Many(shape, groups) = reply else { return reply.clone() };
    let groups = groups.iter().map(|group| {
        let Reply::Many(shape, words) = group else { return group.clone() };
        let mut words = words.clone();
        // Behind the group's own name, which may be any.
        let found = words.iter().skip(2).position(|word| word.text() == "consumers");
        if let Some(count) = found.and_then(|at| words.get_mut(at + 3))
            && matches!(count, Reply::Integer(_))
        {
            *count = Reply::Integer(0);
        }
        Reply::Many(*shape, words)
    });
    Reply::Many(*shape, groups.collect())
}

#[cfg(test)]
mod tests {
    use super::super::parse::File;
    use super::*;

    fn check(recorded: &str, header: &str, actual: &Reply) -> bool {
        let file = File::parse("x.resp", &format!("{header}> X\n{recorded}")).unwrap();
        let step = &file.blocks[0].steps[0];
        let variables = Variables::from([("port".to_owned(), b"7".to_vec())]);
        matches(&step.replies[0], actual, &step.order, &variables)
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
        assert!(same_answer(&error("ERR one"), &error("ERR two"), &Order::Exact));
        assert!(!same_answer(&error("ERR one"), &error("WRONGTYPE one"), &Order::Exact));
    }

    fn many(shape: Shape, words: &[&str]) -> Reply {
        Reply::Many(shape, words.iter().map(|word| bulk(word)).collect())
    }

    #[test]
    fn a_reversed_array_is_another_answer() {
        let one = many(Shape::Array, &["a", "1", "b", "2"]);
        let reversed = many(Shape::Array, &["2", "b", "1", "a"]);
        let swapped = many(Shape::Array, &["b", "2", "a", "1"]);
        for (other, any, pairs) in [(&reversed, true, false), (&swapped, true, true)] {
            assert!(!same_answer(&one, other, &Order::Exact), "{other:?}");
            assert_eq!(same_answer(&one, other, &Order::Any), any, "{other:?}");
            assert_eq!(same_answer(&one, other, &Order::Pairs), pairs, "{other:?}");
        }
        // An element less, or one twice.
        let short = many(Shape::Array, &["a", "1", "b"]);
        let twice = many(Shape::Array, &["a", "1", "b", "b"]);
        assert!(!same_answer(&one, &short, &Order::Any));
        assert!(!same_answer(&one, &twice, &Order::Any));
    }

    #[test]
    fn the_order_of_a_level_is_not_that_of_the_next() {
        let list = |words: &[&str]| many(Shape::Array, words);
        let both = |one: Reply, other: Reply| Reply::Many(Shape::Array, vec![one, other]);
        let rows = |one: &[&str], other: &[&str]| both(list(one), list(other));
        assert!(same_answer(&rows(&["a", "b"], &["c"]), &rows(&["c"], &["a", "b"]), &Order::Any));
        assert!(!same_answer(&rows(&["a", "b"], &["c"]), &rows(&["b", "a"], &["c"]), &Order::Any));
        let page = |cursor: &str, words: &[&str]| both(bulk(cursor), list(words));
        let (one, other) = (page("0", &["a", "b"]), page("0", &["b", "a"]));
        assert!(same_answer(&one, &other, &Order::Page));
        assert!(!same_answer(&one, &other, &Order::Exact));
        assert!(!same_answer(&one, &other, &Order::PagePairs));
        assert!(!same_answer(&one, &page("7", &["a", "b"]), &Order::Page));
        let executed = Order::Each(vec![Order::Exact, Order::Any]);
        assert!(same_answer(&rows(&["a"], &["b", "c"]), &rows(&["a"], &["c", "b"]), &executed));
        assert!(!same_answer(&rows(&["b", "c"], &["a"]), &rows(&["c", "b"], &["a"]), &executed));
    }

    #[test]
    fn maps_and_sets_have_no_order() {
        let map = |words: &[&str]| many(Shape::Map, words);
        assert!(same_answer(
            &map(&["a", "1", "b", "2"]),
            &map(&["b", "2", "a", "1"]),
            &Order::Exact
        ));
        assert!(!same_answer(
            &map(&["a", "1", "b", "2"]),
            &map(&["a", "2", "b", "1"]),
            &Order::Any
        ));
        let set = |words: &[&str]| many(Shape::Set, words);
        assert!(same_answer(&set(&["a", "b"]), &set(&["b", "a"]), &Order::Exact));
        assert!(!same_answer(&set(&["a", "b"]), &many(Shape::Array, &["a", "b"]), &Order::Any));
    }

    #[test]
    fn how_many_consumers_a_group_has_is_open_and_nothing_else_of_it() {
        let group = |consumers: i64, pending: i64| {
            let words = [bulk("name"), bulk("consumers"), bulk("consumers")].into_iter();
            let counts = [Reply::Integer(consumers), bulk("pending"), Reply::Integer(pending)];
            let group = Reply::Many(Shape::Array, words.chain(counts).collect());
            Reply::Many(Shape::Array, vec![group])
        };
        assert!(same_answer(&group(1, 2), &group(5, 2), &Order::Groups));
        assert!(!same_answer(&group(1, 2), &group(1, 3), &Order::Groups));
        assert!(!same_answer(&group(1, 2), &group(5, 2), &Order::Exact));
        assert!(!same_answer(&group(1, 2), &bulk("x"), &Order::Groups));
    }

    #[test]
    fn a_time_is_near_and_what_says_that_there_is_none_is_exact() {
        let (near, number) = (Order::Near(1), Reply::Integer);
        assert!(same_answer(&number(100), &number(99), &near));
        assert!(!same_answer(&number(100), &number(98), &near));
        assert!(!same_answer(&number(-1), &number(-2), &near));
        assert!(!same_answer(&number(1), &number(0), &near));
        let several = |numbers: [i64; 2]| {
            Reply::Many(Shape::Array, numbers.into_iter().map(Reply::Integer).collect())
        };
        assert!(same_answer(&several([100, -1]), &several([99, -1]), &near));
        assert!(!same_answer(&several([100, -1]), &several([99, -2]), &near));
        let line = |text: &str| Expected::Line(':', Pattern(vec![Piece::Bytes(text.into())]));
        let is = |recorded: &Expected, actual: &Reply| {
            matches(recorded, actual, &near, &Variables::new())
        };
        assert!(is(&line("100"), &number(99)) && !is(&line("100"), &number(98)));
        assert!(is(&line("-1"), &number(-1)) && !is(&line("-1"), &number(-2)));
        assert!(!is(&line("1"), &number(0)) && !is(&line("1"), &bulk("1")));
        let recorded = Expected::Many(Shape::Array, vec![line("100"), line("-1")]);
        assert!(is(&recorded, &several([99, -1])) && !is(&recorded, &several([99, -2])));
    }
}
