//! Columns for people, JSON for programs.

use anyhow::Result;
use serde_json::Value;

pub(crate) use crate::out::text;

/// Longest line, unless `--wide` is said.
pub(crate) const WIDTH: usize = 100;
/// Blanks between columns.
const GAP: usize = 2;
/// Blanks before what goes on of a sentence.
const INDENT: usize = 4;
/// A column is not made narrower than this.
const NARROW: usize = 8;

/// Writes indented JSON.
pub(crate) fn json(value: &Value) -> Result<()> {
    text(&format!("{value:#}\n"))
}

/// Columns as wide as their widest cell, two spaces between; where that is more than `width`, the
/// widest columns are made narrower, and their cells go on below.
pub(crate) fn render(width: usize, head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let widths = widths(width, &head, rows);
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<Vec<String>> =
            row.iter().zip(&widths).map(|(cell, width)| wrap(cell, *width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..height {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let part = cell.get(index).map_or("", String::as_str);
                line.push_str(part);
                let rest = (width + GAP).saturating_sub(part.chars().count());
                line.extend(std::iter::repeat_n(' ', rest));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

fn widths(limit: usize, head: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths = vec![0; head.len()];
    for row in std::iter::once(head).chain(rows.iter().map(Vec::as_slice)) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let least = |index: usize| head[index].chars().count().max(NARROW);
    loop {
        let all: usize = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let widest = (0..widths.len())
            .filter(|index| widths[*index] > least(*index))
            .max_by_key(|index| widths[*index]);
        match widest {
            Some(index) if all > limit => widths[index] -= 1,
            _ => return widths,
        }
    }
}

/// Sentences for people, one a line: what is too long is parted, and goes on indented.
pub(crate) fn prose(width: usize, words: &str) -> String {
    let mut out = String::new();
    words.lines().for_each(|line| sentence(&mut out, width, line));
    out
}

/// Adds one sentence, parted where it is too long.
pub(crate) fn sentence(out: &mut String, width: usize, words: &str) {
    if words.chars().count() <= width {
        out.push_str(words);
        out.push('\n');
        return;
    }
    let indent = " ".repeat(INDENT);
    for (index, part) in wrap(words, width.saturating_sub(INDENT).max(20)).iter().enumerate() {
        out.push_str(if index == 0 { "" } else { &indent });
        out.push_str(part);
        out.push('\n');
    }
}

/// The lines of a text that is at most `width` wide: parted at blanks, behind `,` and `/`, or
/// wherever it must be.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut rest: Vec<char> = paragraph.chars().collect();
        while rest.len() > width.max(1) {
            let width = width.max(1);
            let blank = rest[..=width].iter().rposition(|c| *c == ' ').filter(|at| *at > 0);
            let sign = rest[..width].iter().rposition(|c| matches!(c, ',' | '/')).map(|at| at + 1);
            // A sign may part a path in two; a blank never hurts.
            let at = match (blank, sign) {
                (Some(blank), _) => blank,
                (None, Some(sign)) if sign < rest.len() => sign,
                _ => width,
            };
            let line: String = rest.drain(..at).collect();
            lines.push(line.trim_end().to_owned());
            while rest.first() == Some(&' ') {
                rest.remove(0);
            }
        }
        lines.push(rest.into_iter().collect());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["long cell".to_owned(), "x".to_owned()], vec!["é".into(), "y".into()]];
        assert_eq!(render(WIDTH, &["A", "B"], &rows), "A          B\nlong cell  x\né          y\n");
    }

    #[test]
    fn what_is_too_wide_goes_on_below() {
        let sockets = "/run/holdfast/first.sock,/run/holdfast/second.sock".to_owned();
        let rows =
            vec![vec!["lb1".to_owned(), sockets.clone(), "the node does not answer".to_owned()]];
        let head = ["NAME", "ENDPOINT", "STATE"];
        let narrow = render(50, &head, &rows);
        assert!(narrow.lines().all(|line| line.chars().count() <= 50), "{narrow}");
        let joined: String = narrow.split_whitespace().collect();
        assert!(joined.contains("thenodedoesnotanswer") || narrow.contains("does not"), "{narrow}");
        assert!(narrow.contains("/run/holdfast/first.sock,\n") || narrow.lines().count() > 2);
        assert_eq!(render(usize::MAX, &head, &rows).lines().count(), 2);
        assert!(render(WIDTH, &head, &rows).contains(&sockets));
    }

    #[test]
    fn a_sentence_goes_on_below_and_one_that_fits_stays_as_it_is() {
        let long = format!("node {} is master of shard 0: writes waited 21 ms", "a".repeat(40));
        let told = prose(60, &format!("short\n\n{long}\n"));
        let parts = format!("short\n\nnode {} is master\n    of shard 0: writes", "a".repeat(40));
        assert!(told.starts_with(&parts), "{told}");
        assert!(told.ends_with("21 ms\n") && told.lines().all(|line| line.len() <= 60), "{told}");
        assert_eq!(prose(usize::MAX, &long), format!("{long}\n"));
        let edge = "x".repeat(WIDTH);
        assert_eq!(prose(WIDTH, &edge), format!("{edge}\n"));
    }

    #[test]
    fn a_text_is_parted_where_it_hurts_least_and_nothing_is_lost() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a,bb,ccc", 5), ["a,bb,", "ccc"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("a\nb", 3), ["a", "b"]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
        for width in 1..40 {
            let text = "node 10.0.0.1:6666 takes nothing: /var/lib/holdfast is full";
            let lines = wrap(text, width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            let letters = |text: &str| text.replace(' ', "");
            assert_eq!(letters(&lines.concat()), letters(text));
        }
    }
}
