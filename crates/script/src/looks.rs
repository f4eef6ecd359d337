//! When a running script is looked at: each so many instructions, and in what Lua does as one of
//! them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, HookTriggers, Lua, VmState};

use crate::control::{Control, Tick};
use crate::{text, watched};

/// What runs in a state, if something does.
pub(crate) type Shared = Rc<RefCell<Option<Running>>>;

/// What is looked at.
pub(crate) struct Running {
    pub(crate) control: Arc<Control>,
    pub(crate) tick: Tick,
}

impl Running {
    /// Whether it is to end.
    pub(crate) fn is_over(&self) -> bool {
        if let Some(why) = (self.tick)() {
            self.control.stop(why);
        }
        self.control.stopped().is_some()
    }
}

/// Has a look made, every so many instructions, at whether what runs is to end; what looks when it
/// is called. It notes when a script calls the collector.
pub(crate) fn begin(
    lua: &Lua,
    every: u32,
    running: &Shared,
    collector: &Rc<Cell<bool>>,
) -> mlua::Result<Function> {
    let asked = Rc::clone(running);
    let look = lua.create_function(move |_, ends: bool| match (is_over(&asked), ends) {
        (true, true) => Err(stopped()),
        (is_over, _) => Ok(is_over),
    })?;
    let (collector, asked) = (Rc::clone(collector), Rc::clone(running));
    let collecting = lua.create_function(move |_, _: bool| {
        collector.set(true);
        if is_over(&asked) { Err(stopped()) } else { Ok(()) }
    })?;
    text::replace(lua, &look)?;
    watched::replace(lua, &look, &collecting)?;
    let hooked = Rc::clone(running);
    let triggers = HookTriggers::new().every_nth_instruction(every);
    lua.set_global_hook(triggers, move |_, _| match is_over(&hooked) {
        true => Err(stopped()),
        false => Ok(VmState::Continue),
    })?;
    Ok(look)
}

/// Whether a script is to end.
pub(crate) fn is_over(running: &RefCell<Option<Running>>) -> bool {
    running.borrow().as_ref().is_some_and(Running::is_over)
}

/// What ends a script.
fn stopped() -> mlua::Error {
    mlua::Error::runtime("the script was stopped")
}
