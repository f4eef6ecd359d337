//! The Lua state of a thread, and what its scripts may ask for while a library is loaded.

use std::cell::RefCell;

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

/// Lends the Lua state of this thread, which is made if there is none.
pub(super) fn with<T>(
    node: &Node,
    config: &Values,
    run: impl FnOnce(&mut Engine) -> std::result::Result<T, script::Error>,
) -> Result<std::result::Result<T, script::Error>> {
    ENGINE.with(|slot| {
        let mut slot =
            slot.try_borrow_mut().map_err(|_| Error::err("a script may not run another one"))?;
        let before = slot.as_ref().map_or(0, Engine::used_memory);
        let engine = match &mut *slot {
            Some(engine) => engine,
            slot => {
                let settings = Settings {
                    version: REDIS_VERSION,
                    version_number: number(REDIS_VERSION),
                    memory_max: usize::try_from(config.script_memory_max.0).unwrap_or(usize::MAX),
                };
                let engine =
                    Engine::new(settings).map_err(|error| Error::text(error.to_string()))?;
                slot.insert(engine)
            }
        };
        let result = run(engine);
        let bytes = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        node.scripts.note_lua_bytes(bytes(engine.used_memory()).saturating_sub(bytes(before)));
        Ok(result)
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
    #[test]
    fn a_version_is_one_number() {
        assert_eq!(super::number("7.0.15"), 0x0007_000f);
    }
}
