//! The Lua state of a thread, and what its scripts may ask for while a library is loaded.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use resp::Protocol;
use script::{Called, Engine, Host, Level, Settings};

use crate::command::{Error, Result};
use crate::config::Values;
use crate::node::Node;
use crate::version::REDIS_VERSION;

/// Instructions between two looks at whether a script is to end: on a thread for scripts, and on a
/// worker, where it is to end soon, also among instructions that take long.
const LOOKS: u32 = 10_000;
const LOOKS_HERE: u32 = 32;
/// Longest line of a script in the log.
pub(super) const LINE_MAX: usize = 4096;

/// So many bytes more or less are told to the node.
const NOTED: usize = 64 << 10;

/// The Lua state of a thread.
struct Kept {
    engine: Box<Engine>,
    /// It is one of a worker.
    is_here: bool,
    /// The bytes that it uses, as the node knows.
    noted: usize,
}

thread_local! {
    static ENGINE: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

fn number(version: &str) -> u32 {
    version.split('.').fold(0, |number, part| number << 8 | part.parse::<u32>().unwrap_or(0))
}

/// Most bytes that a Lua state may use.
pub(super) fn memory_max(config: &Values) -> usize {
    usize::try_from(config.parts().script).unwrap_or(usize::MAX)
}

fn settings(config: &Values, is_here: bool) -> Settings {
    let memory_max = match is_here {
        true => usize::try_from(config.script_bytes_here()).unwrap_or(usize::MAX),
        false => memory_max(config),
    };
    Settings {
        version: REDIS_VERSION,
        version_number: number(REDIS_VERSION),
        memory_max,
        looks_every: if is_here { LOOKS_HERE } else { LOOKS },
    }
}

/// Lends the Lua state of this thread, which is made if there is none: a small one if it `is_here`,
/// on a worker. A panic costs the state: what it left undone is not the next script's to find.
pub(super) fn with<T>(
    node: &Node,
    config: &Values,
    is_here: bool,
    run: impl FnOnce(&mut Engine) -> std::result::Result<T, script::Error>,
) -> Result<std::result::Result<T, script::Error>> {
    ENGINE.with(|slot| {
        let mut slot =
            slot.try_borrow_mut().map_err(|_| Error::err("a script may not run another one"))?;
        let mut kept = match slot.take() {
            Some(kept) if kept.is_here == is_here => kept,
            other => {
                other.into_iter().for_each(|kept| kept.end(node));
                let engine = Engine::new(settings(config, is_here));
                let engine = engine.map_err(|error| Error::text(error.to_string()))?;
                Kept { engine: Box::new(engine), is_here, noted: 0 }
            }
        };
        match catch_unwind(AssertUnwindSafe(|| run(&mut kept.engine))) {
            Ok(result) => {
                kept.note(node);
                *slot = Some(kept);
                Ok(result)
            }
            Err(panic) => {
                kept.end(node);
                resume_unwind(panic)
            }
        }
    })
}

impl Kept {
    /// Tells the node what it uses, where that is something else by now.
    fn note(&mut self, node: &Node) {
        let used = self.engine.used_memory();
        if used.abs_diff(self.noted) > NOTED {
            node.scripts.note_lua_bytes(bytes(used).saturating_sub(bytes(self.noted)));
            self.noted = used;
        }
    }

    fn end(self, node: &Node) {
        node.scripts.note_lua_bytes(bytes(self.noted).saturating_neg());
    }
}

fn bytes(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Gives up the Lua state of this thread, which will run no scripts.
pub(super) fn give_up(node: &Node) {
    ENGINE.with(|slot| {
        if let Some(kept) = slot.take() {
            kept.end(node);
        }
    });
}

/// A library that is being loaded runs no commands.
pub(super) struct Loading;

impl Host for Loading {
    fn call(&mut self, _words: &[&[u8]], _protocol: Protocol) -> Called {
        Called::Refused("ERR redis.call can only be called inside a script invocation".into())
    }

    fn log(&mut self, level: Level, text: &[u8]) {
        log(level, text);
    }

    fn may_call(&mut self, _words: &[&[u8]]) -> Option<bool> {
        None
    }
}

/// `redis.log`.
pub(super) fn log(level: Level, text: &[u8]) {
    let text = resp::reply::printable(text.get(..LINE_MAX).unwrap_or(text));
    match level {
        Level::Debug => tracing::trace!(text, "a script says"),
        Level::Verbose => tracing::debug!(text, "a script says"),
        Level::Notice => tracing::info!(text, "a script says"),
        Level::Warning => tracing::warn!(text, "a script says"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::Shell;

    #[test]
    fn a_version_is_one_number() {
        assert_eq!(number("7.0.15"), 0x0007_000f);
    }

    #[test]
    fn a_panic_costs_a_state_and_no_more() {
        let shell = Shell::new();
        let node = shell.node();
        let config = node.config.now();
        let prepare = |engine: &mut Engine| engine.prepare(b"return 1", "name");
        assert!(with(&node, &config, false, prepare).is_ok_and(|result| result.is_ok()));
        let used = node.scripts.lua_bytes();
        assert!(used > 0);
        let broken = catch_unwind(AssertUnwindSafe(|| {
            let fail = |_: &mut Engine| -> std::result::Result<(), _> { panic!("on purpose") };
            with(&node, &config, false, fail)
        }));
        assert!(broken.is_err());
        assert_eq!(node.scripts.lua_bytes(), 0);
        assert!(with(&node, &config, false, prepare).is_ok_and(|result| result.is_ok()));
        assert!(node.scripts.lua_bytes() > 0);
        // One of a worker takes its place.
        assert!(with(&node, &config, true, |engine| Ok(engine.used_memory())).is_ok());
        let small = ENGINE.with_borrow(|slot| slot.as_ref().map(|kept| (kept.is_here, kept.noted)));
        let noted = usize::try_from(node.scripts.lua_bytes()).unwrap();
        assert_eq!(small, Some((true, noted)));
        give_up(&node);
        assert_eq!(node.scripts.lua_bytes(), 0);
    }
}
