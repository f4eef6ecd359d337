//! The Lua state of a thread, and what its scripts may ask for while a library is loaded.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use resp::Protocol;
use script::{Called, Engine, Host, Level, Settings};

use crate::command::{Error, Result};
use crate::config::Values;
use crate::node::Node;
use crate::version::REDIS_VERSION;

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

fn number(version: &str) -> u32 {
    version.split('.').fold(0, |number, part| number << 8 | part.parse::<u32>().unwrap_or(0))
}

/// Most bytes that a Lua state may use.
pub(super) fn memory_max(config: &Values) -> usize {
    usize::try_from(config.parts().script).unwrap_or(usize::MAX)
}

/// Lends the Lua state of this thread, which is made if there is none. A panic costs the state:
/// what it left undone there is not the next script's to find.
pub(super) fn with<T>(
    node: &Node,
    config: &Values,
    run: impl FnOnce(&mut Engine) -> std::result::Result<T, script::Error>,
) -> Result<std::result::Result<T, script::Error>> {
    ENGINE.with(|slot| {
        let mut slot =
            slot.try_borrow_mut().map_err(|_| Error::err("a script may not run another one"))?;
        let before = slot.as_ref().map_or(0, Engine::used_memory);
        let mut engine = match slot.take() {
            Some(engine) => engine,
            None => {
                let settings = Settings {
                    version: REDIS_VERSION,
                    version_number: number(REDIS_VERSION),
                    memory_max: memory_max(config),
                };
                Engine::new(settings).map_err(|error| Error::text(error.to_string()))?
            }
        };
        let note = |after: usize| {
            let bytes = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
            node.scripts.note_lua_bytes(bytes(after).saturating_sub(bytes(before)));
        };
        match catch_unwind(AssertUnwindSafe(|| run(&mut engine))) {
            Ok(result) => {
                note(engine.used_memory());
                *slot = Some(engine);
                Ok(result)
            }
            Err(panic) => {
                note(0);
                drop(engine);
                resume_unwind(panic)
            }
        }
    })
}

/// Gives up the Lua state of this thread, which will run no scripts.
pub(super) fn give_up(node: &Node) {
    ENGINE.with(|slot| {
        if let Some(engine) = slot.take() {
            let bytes = i64::try_from(engine.used_memory()).unwrap_or(i64::MAX);
            node.scripts.note_lua_bytes(bytes.saturating_neg());
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
    /// Longest line of a script in the log.
    const TEXT_MAX: usize = 4096;
    let text = resp::reply::printable(text.get(..TEXT_MAX).unwrap_or(text));
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
        assert!(with(&node, &config, prepare).is_ok_and(|result| result.is_ok()));
        let used = node.scripts.lua_bytes();
        assert!(used > 0);
        let broken = catch_unwind(AssertUnwindSafe(|| {
            with(&node, &config, |_| -> std::result::Result<(), _> { panic!("on purpose") })
        }));
        assert!(broken.is_err());
        assert_eq!(node.scripts.lua_bytes(), 0);
        assert!(with(&node, &config, prepare).is_ok_and(|result| result.is_ok()));
        assert!(node.scripts.lua_bytes() > 0);
        give_up(&node);
        assert_eq!(node.scripts.lua_bytes(), 0);
    }
}
