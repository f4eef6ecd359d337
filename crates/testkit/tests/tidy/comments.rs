//! How comments of Rust files are written: lines that fit beside each other, and sentences that
//! need not be read twice. Code in a fence is not prose and is left out.

use anyhow::{Result, ensure};

use super::{files, text};

/// Widest line with a comment, in characters, its indentation included.
const WIDTH_MAX: usize = 100;

/// No sentence begins with these: its actor is a riddle until its end.
const OPENERS: &[&str] = &["Who", "Whoever", "Whom"];

/// What does not follow "of": "the current" and "recent" say the same.
const TIMES: &[&str] = &["now", "late"];

/// Lines of a source file, from 1, whose comment is not as it should be, and why. A habit that two
/// lines of one comment share is told of the second.
fn faults(source: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    let mut before = "";
    for (line, number) in source.lines().zip(1..) {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            (is_fenced, before) = (false, "");
            continue;
        };
        let said = comment.trim_start_matches(['/', '!']).trim();
        if said.starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        if is_fenced {
            continue;
        }
        let may_be_wide = said.starts_with('|') || said.contains("://");
        if !may_be_wide && line.chars().count() > WIDTH_MAX {
            found.push((number, "is wider than 100 columns"));
        }
        for word in said.split_whitespace() {
            // Quotes and backticks stay: what they hold is named, not said.
            let begun = word.trim_start_matches(['(', '*', '_']);
            let plain = begun.trim_end_matches(|c: char| c.is_ascii_punctuation());
            // Only a sentence's first word has a capital.
            if OPENERS.contains(&plain) {
                found.push((number, "begins a sentence with Who, Whoever or Whom"));
            }
            if before.eq_ignore_ascii_case("of") && TIMES.contains(&plain) {
                found.push((number, "says \"of now\" or \"of late\""));
            }
            before = begun;
        }
    }
    found
}

#[test]
fn faults_of_comments_are_told_by_line() {
    let check = |source: &str, expected: &[usize]| {
        let told: Vec<usize> = faults(source).into_iter().map(|(number, _)| number).collect();
        assert_eq!(told, expected, "{source}");
    };
    let wide = |begin: &str, width: usize| {
        let rest = width.saturating_sub(begin.chars().count());
        format!("fn f() {{}}\n{begin}{}\n", "ä".repeat(rest))
    };
    for begin in ["// ", "/// ", "//! ", "    // "] {
        check(&wide(begin, 100), &[]);
        check(&wide(begin, 101), &[2]);
    }
    for begin in ["// See https://example.com/", "/// | a | ", "let a = 1; // ", "let a = \"// "] {
        check(&wide(begin, 101), &[]);
    }
    // A fence ends at its second line, or with the comment.
    let code = "ä".repeat(120);
    check(&format!("//! ```text\n//! {code}\n//! Who\n//! ```\n//! {code}\n"), &[5]);
    check(&format!("/// ```\nfn f() {{}}\n/// {code}\n"), &[3]);

    for sentence in ["Who leads.", "It is. Whoever leads.", "It is: Whom?", "* (Who leads.)"] {
        check(&format!("let a = 1;\n    // {sentence}\n"), &[2]);
    }
    for sentence in ["All who lead.", "Whose it is.", "A `Who` is told.", "\"Who leads\""] {
        check(&format!("/// {sentence}\n"), &[]);
    }

    for idiom in ["Values of now.", "Of late, it is so.", "Those (of now) count."] {
        check(&format!("// {idiom}\n"), &[1]);
    }
    check("// Those of\n// now.\n", &[2]);
    for idiom in ["The kind of latency", "Of later ones.", "By now, of nowhere.", "of\nnow()"] {
        check(&format!("// {idiom}\n"), &[]);
    }
    check("let a = \"Who is of now\";\n", &[]);
}

#[test]
fn comments_are_narrow_and_their_sentences_begin_with_a_noun() -> Result<()> {
    let mut read = 0;
    let mut found = Vec::new();
    for path in files()?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let Some(text) = text(&path)? else { continue };
        read += 1;
        let all = faults(&text).into_iter();
        found.extend(all.map(|(number, what)| format!("{}:{number}: {what}", path.display())));
    }
    ensure!(read > 100, "only {read} files were read");
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}
