//! One Lua state, and how it runs scripts. It belongs to one thread.

use std::cell::Cell;
use std::ffi::c_int;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, IntoLua, Lua, LuaOptions, StdLib, Table};
use resp::Protocol;

use crate::answer::{self, TooLarge};
use crate::compiled::{Compiled, compile, not_compiled};
use crate::current::Current;
use crate::failed::{Error, Failed, inspector, plain};
use crate::host::{Host, Settings};
use crate::job::Job;
use crate::library::{Function as Registered, Libraries, Library, Registrar};
use crate::looks::{self, Running};
use crate::run::{self, Passing};
use crate::{api, bits, cjson, msgpack, pack, watched};

/// Values of Lua's that Rust may hold at a time. Lua's own bound, 8,000, is a panic of mlua's; room
/// up to here is made when a state is, as it cannot be made when memory has run out.
const HELD_MAX: usize = 7_800;
/// Settings of the collector that each run begins with, pause and speed: Lua's own.
const GC_PERCENT: i32 = 200;

/// What scripts may see of Lua's own functions; `prelude.lua` replaces some of them.
const NAMES: [&str; 20] = [
    "_VERSION",
    "assert",
    "collectgarbage",
    "error",
    "gcinfo",
    "getmetatable",
    "ipairs",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawset",
    "select",
    "setmetatable",
    "tonumber",
    "tostring",
    "type",
    "unpack",
    "xpcall",
];

/// See the module.
pub struct Engine {
    lua: Lua,
    settings: Settings,
    /// Bytes that Lua used before the first script.
    used_at_first: usize,
    /// Bytes beyond these that were in use when all else had just been collected.
    stayed: usize,
    /// Says of an error where it was raised.
    located: Function,
    /// Globals of scripts, and the table behind them.
    scripts: (Table, Table),
    /// The same of functions.
    functions: (Table, Table),
    /// `redis` for a library that is loaded, and for functions that run.
    faces: (Table, Table),
    current: Rc<Current>,
    running: looks::Shared,
    /// Strings that are used by each run, and stay.
    _names: Table,
    registrar: Registrar,
    /// The script has called `collectgarbage`, which may have set anything.
    collector: Rc<Cell<bool>>,
    compiled: Compiled,
    libraries: Libraries,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("compiled", &self.compiled.count()).finish_non_exhaustive()
    }
}

impl Engine {
    /// A state of its own.
    ///
    /// # Errors
    /// Lack of memory.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        lua.set_memory_limit(settings.memory_max)?;
        make_room(&lua)?;
        let running = looks::Shared::default();
        let collector = Rc::new(Cell::new(false));
        let look = looks::begin(&lua, settings.looks_every, &running, &collector)?;
        let current = Current::new(settings.memory_max);
        let slot = lua.create_sequence_from([api::dispatcher(&lua, &current)?])?;
        let registrar = Registrar::default();
        let ours = lua.create_table()?;
        ours.raw_set("bit", bits::library(&lua)?)?;
        ours.raw_set("cjson", cjson::library(&lua)?)?;
        ours.raw_set("cmsgpack", msgpack::library(&lua)?)?;
        ours.raw_set("struct", pack::library(&lua)?)?;
        let names = lua.create_table()?;
        for name in NAMES {
            names.raw_set(name, true)?;
        }
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=prelude");
        let wrapping =
            lua.create_function(|lua, (wrap, turn)| watched::wrapping(lua, wrap, turn))?;
        let lacking = Rc::clone(&current);
        let lack = lua.create_function(move |_, ()| {
            lacking.lacks.set(true);
            Ok(())
        })?;
        let (environment, located): (Function, Function) =
            prelude.call((ours, names, inspector(&lua)?, look, wrapping, lack))?;
        let redis = api::running(&lua, &settings, &slot, &current)?;
        let loading = api::loading(&lua, &settings, &slot, registrar.function(&lua)?)?;
        let scripts = environment.call((redis.clone(), lua.create_table()?))?;
        let functions: (Table, Table) = environment.call((redis, lua.create_table()?))?;
        let other: (Table, Table) = environment.call((loading, lua.create_table()?))?;
        let faces = (other.1.raw_get("redis")?, functions.1.raw_get("redis")?);
        let (compiled, libraries) = (Compiled::new(&lua)?, Libraries::new(&lua)?);
        Ok(Self {
            _names: answer::names(&lua)?,
            used_at_first: lua.used_memory(),
            stayed: 0,
            lua,
            settings,
            located,
            scripts,
            functions,
            faces,
            current,
            running,
            registrar,
            collector,
            compiled,
            libraries,
        })
    }

    /// Whether what ran last has met the bound of memory, be it that it went on: where there is
    /// more it may go on otherwise.
    pub fn has_lacked_memory(&self) -> bool {
        self.current.lacks.get()
    }

    /// Begins something of which that is noted.
    fn note_lack<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.current.lacks.set(false);
        let done = run(self);
        if done.as_ref().is_err_and(Error::is_lack) {
            self.current.lacks.set(true);
        }
        done
    }

    /// Bytes that Lua uses.
    pub fn used_memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// Runs a script whose hash is the name of the job; its reply.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn eval(
        &mut self,
        text: &[u8],
        host: &mut dyn Host,
        job: Job<'_>,
    ) -> Result<Vec<u8>, Error> {
        self.note_lack(|engine| engine.eval_script(text, host, job))
    }

    fn eval_script(
        &mut self,
        text: &[u8],
        host: &mut dyn Host,
        job: Job<'_>,
    ) -> Result<Vec<u8>, Error> {
        let place = self.compile(text, job.name)?;
        let script = (&self.compiled.scripts, place);
        let done = self.go(script, Passing::Globals(&self.scripts.1), host, job);
        self.relieve(None)?;
        done
    }

    /// Compiles a script whose hash is `name`, if that has not been done yet: [`Self::eval`] will
    /// find it so.
    ///
    /// # Errors
    /// The text of the error.
    pub fn prepare(&mut self, text: &[u8], name: &str) -> Result<(), Error> {
        self.note_lack(|engine| engine.compile(text, name).map(|_| ()))
    }

    /// The place of a script among those that are compiled.
    fn compile(&mut self, text: &[u8], name: &str) -> Result<c_int, Error> {
        if let Some(place) = self.compiled.get(name) {
            return Ok(place);
        }
        let length = crate::header::parse(text, false).map_err(Error::err)?.length;
        let body = text.get(length..).unwrap_or_default();
        let compiled = compile(&self.lua, body, "@user_script", Some(&self.scripts.0));
        if compiled.is_err() {
            self.relieve(None)?;
        }
        let script = compiled.map_err(not_compiled)?;
        Ok(self.compiled.put(&self.lua, name, &script, text.len())?)
    }

    /// Compiles a library and lets it register its functions.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn load(
        &mut self,
        text: &[u8],
        host: &mut dyn Host,
        job: Job<'_>,
    ) -> Result<Library, Error> {
        let loaded = self.note_lack(|engine| engine.load_library(text, host, job));
        let name = loaded.as_ref().ok().map(|library| library.name.as_str());
        self.relieve(name)?;
        loaded
    }

    fn load_library(
        &mut self,
        text: &[u8],
        host: &mut dyn Host,
        mut job: Job<'_>,
    ) -> Result<Library, Error> {
        let header = crate::header::parse(text, true).map_err(Error::err)?;
        let body = text.get(header.length..).unwrap_or_default();
        let code = compile(&self.lua, body, "@user_function", Some(&self.functions.0)).map_err(
            |error| Error::err(format_args!("Error compiling function: {}", plain(&error))),
        )?;
        self.functions.1.raw_set("redis", &self.faces.0)?;
        self.registrar.begin(&self.lua)?;
        let done = self.raw_go((&code, 0), Passing::Nothing, host, &mut job, None);
        let registered = self.registrar.end();
        self.functions.1.raw_set("redis", &self.faces.1)?;
        match done? {
            Ok(()) => {}
            Err(failed) => {
                return Err(Error::err(format_args!(
                    "Error registering functions: {}",
                    failed.text
                )));
            }
        }
        let Some(registered) = registered else {
            return Err(Error::err("No functions registered"));
        };
        let name = header.name.unwrap_or_default();
        let library = Library { name: name.clone(), functions: registered.functions.clone() };
        self.libraries.put(&name, text, registered)?;
        Ok(library)
    }

    /// What a library holds, which is loaded first if this state has not loaded this text yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn functions(
        &mut self,
        library: &str,
        text: &[u8],
        host: &mut dyn Host,
        job: Job<'_>,
    ) -> Result<Vec<Registered>, Error> {
        if let Some(functions) = self.libraries.get(library, text) {
            return Ok(functions.to_vec());
        }
        Ok(self.load(text, host, job)?.functions)
    }

    /// One function of a library, which is loaded first as [`Self::functions`] does.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn function(
        &mut self,
        (library, text): (&str, &[u8]),
        name: &str,
        host: &mut dyn Host,
        job: Job<'_>,
    ) -> Result<Option<Registered>, Error> {
        self.current.lacks.set(false);
        let named = |all: &[Registered]| all.iter().find(|one| one.name == name).cloned();
        if let Some(functions) = self.libraries.get(library, text) {
            return Ok(named(functions));
        }
        Ok(named(&self.load(text, host, job)?.functions))
    }

    /// Forgets a library.
    ///
    /// # Errors
    /// Lack of memory.
    pub fn forget(&mut self, library: &str) -> Result<(), Error> {
        Ok(self.libraries.forget(library)?)
    }

    /// Runs a function of a library that is loaded; its reply.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn call(
        &mut self,
        library: &str,
        host: &mut dyn Host,
        job: Job<'_>,
    ) -> Result<Vec<u8>, Error> {
        self.note_lack(|engine| engine.call_function(library, host, job))
    }

    fn call_function(
        &mut self,
        library: &str,
        host: &mut dyn Host,
        job: Job<'_>,
    ) -> Result<Vec<u8>, Error> {
        let Some(callback) = self.libraries.callback(library, job.name) else {
            return Err(Error::err("Function not found"));
        };
        let done = self.go((&callback, 0), Passing::Arguments, host, job);
        drop(callback);
        self.relieve(Some(library))?;
        done
    }

    /// What a script leaves behind is not the next one's to pay for. Where much of the memory stays
    /// in use, all goes that can be made again, but for one library. What stays is not looked
    /// through after each run: a worker's state is small, and what it has compiled soon a quarter.
    fn relieve(&mut self, library: Option<&str>) -> Result<(), Error> {
        let room = self.settings.memory_max.saturating_sub(self.used_at_first);
        let most = (self.stayed + room / 8).clamp(room / 4, room / 4 * 3);
        if self.used_since() <= most {
            return Ok(());
        }
        self.lua.gc_collect()?;
        if self.used_since() > room / 2 {
            self.compiled = Compiled::new(&self.lua)?;
            self.libraries.keep_only(library)?;
            self.lua.gc_collect()?;
        }
        self.stayed = self.used_since();
        Ok(())
    }

    fn used_since(&self) -> usize {
        self.lua.used_memory().saturating_sub(self.used_at_first)
    }

    /// Runs a function, or what has this place in a table of them; its reply.
    fn go(
        &self,
        function: (impl IntoLua, c_int),
        passing: Passing<'_>,
        host: &mut dyn Host,
        mut job: Job<'_>,
    ) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        match self.raw_go(function, passing, host, &mut job, Some(&mut out))? {
            Ok(()) => Ok(out),
            Err(failed) => Err(Error::Script(failed.at(job.name))),
        }
    }

    /// Runs a function under the eyes of `job`, which has its tick again afterwards, and writes
    /// what it returns as a reply. The outer error is none of the script's own.
    fn raw_go(
        &self,
        function: (impl IntoLua, c_int),
        passing: Passing<'_>,
        host: &mut dyn Host,
        job: &mut Job<'_>,
        out: Option<&mut Vec<u8>>,
    ) -> Result<Result<(), Failed>, Error> {
        self.current.protocol.set(Protocol::V2);
        let tick = std::mem::replace(&mut job.tick, Box::new(|| None));
        self.running.replace(Some(Running { control: Arc::clone(&job.control), tick }));
        let (lua, located, current) = (&self.lua, &self.located, &*self.current);
        let is_over = || looks::is_over(&self.running);
        let result = current.lend(host, || {
            let how = run::How { located, current, passing, is_over: &is_over };
            run::run(lua, how, function, job, out)
        });
        current.forget_large();
        if let Some(running) = self.running.replace(None) {
            job.tick = running.tick;
        }
        if self.collector.take() {
            self.lua.gc_restart();
            self.lua.gc_set_pause(GC_PERCENT);
            self.lua.gc_set_step_multiplier(GC_PERCENT);
        }
        if let Some(panic) = current.take_panic() {
            std::panic::resume_unwind(panic);
        }
        if let Some(why) = job.control.stopped() {
            return Err(Error::Stopped(why));
        }
        match result {
            Ok(Ok(Ok(()))) => Ok(Ok(())),
            Ok(Ok(Err(TooLarge))) => {
                current.lacks.set(true);
                Err(Error::err("the reply of the script is too large"))
            }
            Ok(Err(error)) => Ok(Err(Failed::of(&error))),
            Err(error) => Ok(Err(Failed { text: format!("ERR {}", plain(&error)), at: None })),
        }
    }
}

/// Holds as many values as may ever be held, for a moment.
fn make_room(lua: &Lua) -> mlua::Result<()> {
    let text = || lua.create_string("");
    std::iter::repeat_with(text).take(HELD_MAX).collect::<mlua::Result<Vec<_>>>().map(drop)
}
