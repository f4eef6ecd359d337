//! Columns for people, JSON for programs.

use anyhow::Result;
use serde_json::Value;

pub(crate) use crate::out::text;

/// Writes indented JSON.
pub(crate) fn json(value: &Value) -> Result<()> {
    text(&format!("{value:#}\n"))
}

/// Columns as wide as their widest cell, two spaces between.
pub(crate) fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut widths = vec![0; head.len()];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["long cell".to_owned(), "x".to_owned()], vec!["é".into(), "y".into()]];
        assert_eq!(render(&["A", "B"], &rows), "A          B\nlong cell  x\né          y\n");
    }
}
