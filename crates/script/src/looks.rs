//! When a running script is looked at: each so many instructions, and in what Lua does as one of
//! them, be it a function of ours.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, HookTriggers, Lua, VmState};

use crate::control::{Control, Tick};
use crate::{text, watched};

/// Steps of a function of ours between two looks.
const STEPS: usize = 10_000;
/// Bytes that take about as long as a step.
const STEP_BYTES: usize = 64;

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

/// What a function of ours does that may do much of it: values, and their bytes.
#[derive(Default)]
pub(crate) struct Steps(usize);

impl Steps {
    /// One step more, with so many bytes.
    ///
    /// # Errors
    /// The script is to end.
    pub(crate) fn take(&mut self, lua: &Lua, bytes: usize) -> mlua::Result<()> {
        self.0 += 1 + bytes / STEP_BYTES;
        if self.0 < STEPS {
            return Ok(());
        }
        self.0 = 0;
        go_on(lua)
    }
}

/// An error where the script is to end.
pub(crate) fn go_on(lua: &Lua) -> mlua::Result<()> {
    let running = lua.app_data_ref::<Shared>();
    let is_to_end = running.is_some_and(|running| is_over(&running));
    if is_to_end { Err(stopped()) } else { Ok(()) }
}

/// Has a look made, every so many instructions, at whether what runs is to end; what looks when it
/// is called. It notes when a script calls the collector.
pub(crate) fn begin(
    lua: &Lua,
    every: u32,
    running: &Shared,
    collector: &Rc<Cell<bool>>,
) -> mlua::Result<Function> {
    lua.set_app_data(Rc::clone(running));
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
