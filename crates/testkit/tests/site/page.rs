//! Blocks of commands in a page, each marked by a comment on the line before its fence.

use std::path::Path;

use anyhow::{Context as _, Result};

/// A page of the project.
pub(crate) fn read(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {name}"))
}

/// The part of a page below this heading, up to the next one.
pub(crate) fn section<'a>(page: &'a str, heading: &str) -> Result<&'a str> {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).context("find the heading")?;
    Ok(rest.split("\n## ").next().unwrap_or_default())
}

/// Marked blocks, in the order of the page: what is marked by `<!-- KIND: NAME -->`.
pub(crate) fn blocks(text: &str, kind: &str) -> Vec<(String, String)> {
    let begin = format!("<!-- {kind}: ");
    let marked = text.split(&begin).skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once(" -->\n```sh\n")?;
        let (block, _) = rest.split_once("\n```\n")?;
        Some((name.to_owned(), format!("{block}\n")))
    });
    marked.collect()
}

/// The one block of that name.
pub(crate) fn block(blocks: &[(String, String)], name: &str) -> Result<String> {
    let found = blocks.iter().find(|(known, _)| known == name);
    found.map(|(_, text)| text.clone()).with_context(|| format!("no block `{name}`"))
}
