//! Libraries that FUNCTION LOAD, RESTORE and LIST are about to load, loaded before anything is held:
//! their code runs as long as it likes, up to half a second each, and neither the write gate nor the
//! locks of keys are to wait for it.
//!
//! What was found stays with the thread until the handler takes it, or the next call begins.

use std::cell::RefCell;
use std::sync::Arc;

use script::{Function, Stop};
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

/// Loads what these calls will want.
pub(super) fn prepare(node: &Node, config: &Values, calls: &[Words<'_>]) {
    READY.with_borrow_mut(Vec::clear);
    for words in calls {
        let shown = crate::slowlog::shorten(words);
        let running = node.scripts.begin(Running::new("library".to_owned(), shown, true));
        for text in wanted(node, words) {
            let Ok(name) = library_name(&text) else { continue };
            let control = Arc::clone(&running.running.control);
            if control.stopped() == Some(Stop::Killed) {
                break;
            }
            let job = script::Job { control, ..job(&name) };
            let loaded = engine::with(node, config, |engine| {
                Ok(engine.functions(&name, &text, &mut Loading, job))
            });
            if let Ok(Ok(outcome)) = loaded {
                READY.with_borrow_mut(|ready| ready.push((text, outcome)));
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
    let engine = node.gate.read();
    let libraries = engine.store.as_ref().map(kept::libraries);
    let libraries = libraries.and_then(Result::ok).unwrap_or_default();
    libraries.into_iter().map(|(_, text)| text).collect()
}
