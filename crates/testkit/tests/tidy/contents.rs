//! Pages that begin with a list of their contents: it names their sections in the order in which
//! they stand.

use anyhow::{Result, ensure};

use super::{files, text};

/// What leads to a heading within its page, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Where the links before the first section of a page lead, and its sections, each in their order;
/// of parts of sections only those that the links name.
fn listed_and_found(page: &str) -> (Vec<String>, Vec<String>) {
    let head = page.split("\n## ").next().unwrap_or_default();
    let links = head.split("](#").skip(1).filter_map(|rest| rest.split(')').next());
    let listed: Vec<String> = links.map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut is_fenced = false;
    for line in page.lines() {
        is_fenced ^= line.trim_start().starts_with("```");
        let Some(heading) = line.strip_prefix("##").filter(|_| !is_fenced) else { continue };
        let name = anchor(heading.trim_start_matches(['#', ' ']));
        if heading.starts_with(' ') || listed.contains(&name) {
            found.push(name);
        }
    }
    (listed, found)
}

#[test]
fn sections_are_found_and_blocks_are_none() {
    let check = |page: &str, listed: &[&str], found: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected: (Vec<String>, Vec<String>) = (own(listed), own(found));
        assert_eq!(listed_and_found(page), expected, "{page}");
    };
    let sections = "## B → c, d\n\n```\n## no\n```\n\n### E's\n\n### F\n\n## 2. G_h\n\n[B](#b)\n";
    check(&format!("# P\n\nNone.\n\n{sections}"), &[], &["b--c-d", "2-g_h"]);
    let head = "# P\n\n[B](#b--c-d) · [E](#es) · [G](#2-g_h)\n\n";
    let all = ["b--c-d", "es", "2-g_h"];
    check(&format!("{head}{sections}"), &all, &all);
    let head = "# P\n\n[G](#2-g_h) · [E](#es)\n\n";
    check(&format!("{head}{sections}"), &["2-g_h", "es"], &all);
}

#[test]
fn contents_name_the_sections_of_their_page_in_order() -> Result<()> {
    let mut pages = 0;
    for path in files()?.iter().filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let Some(text) = text(path)? else { continue };
        let (listed, found) = listed_and_found(&text);
        if !listed.is_empty() {
            pages += 1;
            let place = path.display();
            ensure!(listed == found, "{place}: in its contents {listed:#?}, sections {found:#?}");
        }
    }
    ensure!(pages >= 3, "{pages} pages begin with their contents");
    Ok(())
}
