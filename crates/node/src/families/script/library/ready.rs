//! Libraries that FUNCTION LOAD, RESTORE and LIST are about to load, loaded before anything is
//! held: their code runs as long as it likes, up to half a second each, and neither the write gate
//! nor the locks of keys are to wait for it.
//!
//! What was found stays with the thread until the handler takes it, or the call is over.

use std::cell::RefCell;
use std::sync::Arc;

use script::{Function, Stop};
use storage::types::glob;
use storage::types::scripts as kept;

use super::super::engine::{self, Loading};
use super::{job, library_name};
use crate::command::Words;
use crate::config::Values;
use crate::node::Node;
use crate::scripts::Running;

/// What came of a library.
type Outcome = Result<Vec<Function>, script::Error>;

thread_local! {
    static READY: RefCell<Vec<(Vec<u8>, Outcome)>> = const { RefCell::new(Vec::new()) };
}

/// Takes what came of this text.
pub(super) fn take(text: &[u8]) -> Option<Outcome> {
    READY.with_borrow_mut(|ready| {
        let place = ready.iter().position(|(known, _)| known == text)?;
        Some(ready.swap_remove(place).1)
    })
}

/// Loads what these calls will want, and nothing else stays; without calls: nothing.
pub(super) fn prepare(node: &Node, config: &Values, calls: &[Words<'_>]) {
    READY.with_borrow_mut(Vec::clear);
    let keep = |text, outcome| READY.with_borrow_mut(|ready| ready.push((text, outcome)));
    for words in calls {
        let shown = crate::slowlog::shorten("function", words);
        let mut ended: Option<Stop> = None;
        for text in wanted(node, words) {
            let Ok(name) = library_name(&text) else { continue };
            // The handler fails at the one that was ended, and is not to load those behind it.
            if let Some(why) = ended {
                keep(text, Err(script::Error::Stopped(why)));
                continue;
            }
            let running = Running::new("library".to_owned(), shown.clone(), true);
            let running = node.scripts.begin(running);
            let job = script::Job { control: Arc::clone(&running.running.control), ..job(&name) };
            let loaded = engine::with(node, config, false, |engine| {
                Ok(engine.functions(&name, &text, &mut Loading, job))
            });
            ended = running.running.control.stopped();
            if let Ok(Ok(outcome)) = loaded {
                keep(text, outcome);
            }
        }
    }
}

/// Texts of libraries that a call loads.
fn wanted(node: &Node, words: &[&[u8]]) -> Vec<Vec<u8>> {
    let is =
        |name: &str| words.get(1).is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    if is("load") {
        return words.last().map(|text| text.to_vec()).into_iter().collect();
    }
    if is("restore") {
        return words
            .get(2)
            .and_then(|payload| rdb::functions::read(payload).ok())
            .unwrap_or_default();
    }
    // As `list` reads its words.
    let mut rest = words.iter().skip(2);
    let pattern = rest.find(|word| word.eq_ignore_ascii_case(b"LIBRARYNAME"));
    let pattern = pattern.and_then(|_| rest.next());
    let engine = node.gate.read();
    let libraries = engine.store.as_ref().map(kept::libraries);
    let libraries = libraries.and_then(Result::ok).unwrap_or_default();
    let is_shown = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
    libraries.into_iter().filter(|(name, _)| is_shown(name)).map(|(_, text)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::Shell;

    #[test]
    fn what_is_not_taken_goes_and_what_is_not_shown_is_not_loaded() {
        let mut shell = Shell::new();
        let text = |name: &str| {
            format!("#!lua\tname={name}\nredis.register_function('{name}',function()end)")
        };
        for name in ["a", "b"] {
            assert!(shell.run(&format!("FUNCTION LOAD {}", text(name))).ends_with(name));
        }
        let node = shell.node();
        let config = node.config.now();
        let prepared = |call: &str| {
            let calls: Vec<Words<'_>> = match call {
                "" => Vec::new(),
                call => vec![call.split(' ').map(str::as_bytes).collect()],
            };
            prepare(&node, &config, &calls);
            ["a", "b"].map(|name| take(text(name).as_bytes()).is_some())
        };
        assert_eq!(prepared("FUNCTION LIST"), [true, true]);
        assert_eq!(prepared("FUNCTION LIST WITHCODE LIBRARYNAME a*"), [true, false]);
        let left: Words<'_> = [&b"FUNCTION"[..], b"LIST"].into_iter().collect();
        prepare(&node, &config, &[left]);
        assert_eq!(prepared(""), [false, false]);
        engine::give_up(&node);
    }
}
