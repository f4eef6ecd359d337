//! One Lua state, and how it runs scripts. It belongs to one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, Lua, LuaOptions, MultiValue, StdLib, Table, Value};
use resp::Protocol;

use crate::api::Bounds;
use crate::compiled::{Compiled, compile, not_compiled};
use crate::control::{Control, Tick};
use crate::convert::Reply;
use crate::failed::{Error, Failed, inspector, plain};
use crate::guard::outcome;
use crate::host::{Host, Settings};
use crate::library::{Function as Registered, Libraries, Library, Registrar};
use crate::looks::{self, Running};
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

/// One run.
pub struct Job<'j> {
    /// What error texts call it: the hash of a script, the name of a function.
    pub name: &'j str,
    /// Names of keys.
    pub keys: &'j [&'j [u8]],
    /// Further arguments.
    pub args: &'j [&'j [u8]],
    /// Of the client.
    pub protocol: Protocol,
    /// How it is stopped.
    pub control: Arc<Control>,
    /// Asked while it runs.
    pub tick: Tick,
}

/// See the module.
pub struct Engine {
    lua: Lua,
    settings: Settings,
    /// Bytes that Lua used before the first script.
    used_at_first: usize,
    run: Function,
    /// Globals of scripts, and the table behind them.
    scripts: (Table, Table),
    /// The same of functions.
    functions: (Table, Table),
    /// `redis` for a library that is loaded, and for functions that run.
    faces: (Table, Table),
    /// What `redis.call` and its like call.
    slot: Table,
    protocol: Rc<Cell<Protocol>>,
    running: looks::Shared,
    registrar: Registrar,
    /// The script has called `collectgarbage`, which may have set anything.
    collector: Rc<Cell<bool>>,
    /// What ran last has met the bound of memory.
    lacks: Rc<Cell<bool>>,
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
        let protocol = Rc::new(Cell::new(Protocol::V2));
        let slot = lua.create_table()?;
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
        let lacks = Rc::new(Cell::new(false));
        let lacking = Rc::clone(&lacks);
        let lack = lua.create_function(move |_, ()| {
            lacking.set(true);
            Ok(())
        })?;
        let (environment, run): (Function, Function) =
            prelude.call((ours, names, inspector(&lua)?, look, wrapping, lack))?;
        let redis = api::running(&lua, &settings, &slot, &protocol)?;
        let loading = api::loading(&lua, &settings, &slot, registrar.function(&lua)?)?;
        let scripts = environment.call((redis.clone(), lua.create_table()?))?;
        let functions: (Table, Table) = environment.call((redis, lua.create_table()?))?;
        let other: (Table, Table) = environment.call((loading, lua.create_table()?))?;
        let faces = (other.1.raw_get("redis")?, functions.1.raw_get("redis")?);
        let (compiled, libraries) = (Compiled::new(&lua)?, Libraries::new(&lua)?);
        Ok(Self {
            used_at_first: lua.used_memory(),
            lua,
            settings,
            run,
            scripts,
            functions,
            faces,
            slot,
            protocol,
            running,
            registrar,
            collector,
            lacks,
            compiled,
            libraries,
        })
    }

    /// Whether what ran last has met the bound of memory, be it that it went on: where there is more
    /// it may go on otherwise.
    pub fn has_lacked_memory(&self) -> bool {
        self.lacks.get()
    }

    /// Begins something of which that is noted.
    fn note_lack<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.lacks.set(false);
        let done = run(self);
        if done.as_ref().is_err_and(Error::is_lack) {
            self.lacks.set(true);
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
        let script = self.compile(text, job.name)?;
        let globals = self.scripts.1.clone();
        globals.raw_set("KEYS", self.strings(job.keys)?)?;
        globals.raw_set("ARGV", self.strings(job.args)?)?;
        let done = self.go(&script, (), host, job);
        for name in ["KEYS", "ARGV"] {
            globals.raw_set(name, Value::Nil)?;
        }
        drop((script, globals));
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

    fn compile(&mut self, text: &[u8], name: &str) -> Result<Function, Error> {
        if let Some(script) = self.compiled.get(name) {
            return Ok(script);
        }
        let length = crate::header::parse(text, false).map_err(Error::err)?.length;
        let body = text.get(length..).unwrap_or_default();
        let compiled = compile(&self.lua, body, "@user_script", Some(&self.scripts.0));
        if compiled.is_err() {
            self.relieve(None)?;
        }
        let script = compiled.map_err(not_compiled)?;
        self.compiled.put(&self.lua, name, &script, text.len())?;
        Ok(script)
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
        let done = self.raw_go(&code, (), host, &mut job);
        let registered = self.registrar.end();
        self.functions.1.raw_set("redis", &self.faces.1)?;
        match done? {
            Ok(_) => {}
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
        self.lacks.set(false);
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
        let arguments = (self.strings(job.keys)?, self.strings(job.args)?);
        let done = self.go(&callback, arguments, host, job);
        drop(callback);
        self.relieve(Some(library))?;
        done
    }

    /// What a script leaves behind is not the next one's to pay for. Where much of the memory stays
    /// in use, all goes that can be made again, but for one library.
    fn relieve(&mut self, library: Option<&str>) -> Result<(), Error> {
        let room = self.settings.memory_max.saturating_sub(self.used_at_first);
        if self.used_since() <= room / 4 {
            return Ok(());
        }
        self.lua.gc_collect()?;
        if self.used_since() > room / 2 {
            self.compiled = Compiled::new(&self.lua)?;
            self.libraries.keep_only(library)?;
            self.lua.gc_collect()?;
        }
        Ok(())
    }

    fn used_since(&self) -> usize {
        self.lua.used_memory().saturating_sub(self.used_at_first)
    }

    fn strings(&self, words: &[&[u8]]) -> Result<Table, Error> {
        let table = self.lua.create_table_with_capacity(words.len().min(1 << 16), 0)?;
        for (at, word) in words.iter().enumerate() {
            table.raw_set(at + 1, self.lua.create_string(word)?)?;
        }
        Ok(table)
    }

    fn go(
        &self,
        function: &Function,
        arguments: impl mlua::IntoLuaMulti,
        host: &mut dyn Host,
        mut job: Job<'_>,
    ) -> Result<Vec<u8>, Error> {
        let value = match self.raw_go(function, arguments, host, &mut job)? {
            Ok(value) => value,
            Err(failed) => return Err(Error::Script(failed.at(job.name))),
        };
        let running = Running { control: job.control, tick: job.tick };
        let is_over = || running.is_over();
        let mut out = Vec::new();
        let mut reply = Reply {
            out: &mut out,
            protocol: job.protocol,
            is_script_v3: self.protocol.get() == Protocol::V3,
            bytes_max: self.settings.memory_max,
            values: 0,
            is_over: &is_over,
        };
        let written = reply.value(&value, 0);
        if let Some(why) = running.control.stopped() {
            return Err(Error::Stopped(why));
        }
        match written {
            Ok(()) => Ok(out),
            Err(_) => {
                self.lacks.set(true);
                Err(Error::err("the reply of the script is too large"))
            }
        }
    }

    /// Runs a function under the eyes of `job`, which has its tick again afterwards. The outer error
    /// is none of the script's own.
    fn raw_go(
        &self,
        function: &Function,
        arguments: impl mlua::IntoLuaMulti,
        host: &mut dyn Host,
        job: &mut Job<'_>,
    ) -> Result<Result<Value, Failed>, Error> {
        self.protocol.set(Protocol::V2);
        let tick = std::mem::replace(&mut job.tick, Box::new(|| None));
        self.running.replace(Some(Running { control: Arc::clone(&job.control), tick }));
        let host = RefCell::new(host);
        let result = self.lua.scope(|scope| {
            let dispatch = scope.create_function(|lua, args: MultiValue| {
                let bytes_max = self.settings.memory_max;
                let bounds = Bounds { bytes_max, lacks: &self.lacks };
                outcome(lua, api::dispatch(lua, &host, (&*self.protocol, &bounds), args))
            })?;
            self.slot.raw_set(1, dispatch)?;
            let mut all = arguments.into_lua_multi(&self.lua)?;
            all.push_front(Value::Function(function.clone()));
            self.run.call::<(bool, Value)>(all)
        });
        self.slot.raw_set(1, Value::Nil)?;
        if let Some(running) = self.running.replace(None) {
            job.tick = running.tick;
        }
        if self.collector.take() {
            self.lua.gc_restart();
            self.lua.gc_set_pause(GC_PERCENT);
            self.lua.gc_set_step_multiplier(GC_PERCENT);
        }
        if let Some(why) = job.control.stopped() {
            return Err(Error::Stopped(why));
        }
        match result {
            Ok((true, value)) => Ok(Ok(value)),
            Ok((false, error)) => Ok(Err(Failed::of(&error))),
            Err(error) => Ok(Err(Failed { text: format!("ERR {}", plain(&error)), at: None })),
        }
    }
}

/// Holds as many values as may ever be held, for a moment.
fn make_room(lua: &Lua) -> mlua::Result<()> {
    let text = || lua.create_string("");
    std::iter::repeat_with(text).take(HELD_MAX).collect::<mlua::Result<Vec<_>>>().map(drop)
}
