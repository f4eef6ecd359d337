//! Scripts that mean ill: they end, and nothing of them stays.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use resp::Protocol;
use script::{Called, Control, Engine, Error, Host, Job, Level, Settings, Stop};

const MEMORY_MAX: usize = 16 << 20;

/// Answers ECHO with its argument as it stands, COUNT with how many words it has.
struct Echo;

impl Host for Echo {
    fn call(&mut self, words: &[&[u8]], _protocol: Protocol) -> Called {
        match words {
            [b"ECHO", reply] => Called::Reply(reply.to_vec()),
            [b"COUNT", rest @ ..] => Called::Reply(format!(":{}\r\n", rest.len()).into_bytes()),
            _ => Called::Refused("ERR unknown".into()),
        }
    }

    fn log(&mut self, _level: Level, _text: &[u8]) {}

    fn may_call(&mut self, _words: &[&[u8]]) -> Option<bool> {
        None
    }
}

fn engine() -> Engine {
    let settings = Settings {
        version: "7.0.15",
        version_number: 1,
        memory_max: MEMORY_MAX,
        looks_every: 10_000,
    };
    Engine::new(settings).expect("an engine")
}

fn job<'j>(name: &'j str, args: &'j [&'j [u8]]) -> Job<'j> {
    let control = Arc::<Control>::default();
    Job { name, keys: &[], args, protocol: Protocol::V3, control, tick: Box::new(|| None) }
}

fn eval(engine: &mut Engine, text: &str, args: &[&[u8]]) -> Result<Vec<u8>, Error> {
    let name = script::sha1_hex(text.as_bytes());
    engine.eval(text.as_bytes(), &mut Echo, job(&name, args))
}

#[track_caller]
fn answers(engine: &mut Engine, text: &str, expected: &str) {
    let answer = match eval(engine, text, &[]) {
        Ok(reply) => String::from_utf8_lossy(&reply).replace("\r\n", " ").trim_end().to_owned(),
        Err(error) => format!("-{error}"),
    };
    let is_there = match expected.strip_suffix('…') {
        Some(begin) => answer.starts_with(begin),
        None => answer == expected,
    };
    assert!(is_there, "{text}: {}", answer.get(..200).unwrap_or(&answer));
}

/// More values than Lua's stack has places, of which each that Rust holds takes one.
const MANY: usize = 10_000;

#[test]
fn replies_have_as_many_elements_as_there_are() {
    let mut engine = engine();
    let array = format!("*{MANY}\r\n{}", "$1\r\nx\r\n".repeat(MANY)).into_bytes();
    let made = format!("local t = {{}} for i = 1, {MANY} do t[i] = 'x' end return t");
    assert_eq!(eval(&mut engine, &made, &[]), Ok(array.clone()));
    let passed = "redis.setresp(3) return redis.call('ECHO', ARGV[1])";
    assert_eq!(eval(&mut engine, passed, &[&array]), Ok(array.clone()));
    let inner = format!("*2\r\n{0}{0}", String::from_utf8_lossy(&array)).into_bytes();
    assert_eq!(eval(&mut engine, passed, &[&inner]), Ok(inner.clone()));
    // What has no order comes back with the same lines.
    let lines = |bytes: &[u8]| {
        let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        lines
    };
    for (head, of) in [('%', 2), ('~', 1)] {
        let member = |at| format!("$6\r\n{at:06}\r\n").repeat(of);
        let members: String = (0..MANY).map(member).collect();
        let reply = format!("{head}{MANY}\r\n{members}").into_bytes();
        let answer = eval(&mut engine, passed, &[&reply]).unwrap();
        assert_eq!(lines(&answer), lines(&reply), "{head}");
    }
}

#[test]
fn arguments_are_as_many_as_lua_takes_or_refused() {
    let mut engine = engine();
    for at in 0..2_100 {
        answers(&mut engine, &format!("return {at}"), &format!(":{at}"));
    }
    let filled = "local t = {} for i = 1, 7900 do t[i] = 'x' .. i end ";
    let with = |text: &str| format!("{filled}{text}");
    answers(&mut engine, &with("return redis.call('COUNT', unpack(t))"), ":7900");
    answers(&mut engine, &with("return redis.call('COUNT', unpack(t, 1, 300))"), ":300");
    for count in [0, 1, 30, 31, 32, 150] {
        let call = format!("return redis.call('COUNT', unpack(t, 1, {count}))");
        answers(&mut engine, &with(&call), &format!(":{count}"));
    }
    let strings = "ERR Lua redis lib command arguments must be strings or integers";
    let holed = "t[7000] = nil return redis.pcall('COUNT', unpack(t, 1, 7900))";
    answers(&mut engine, &with(holed), &format!("-{strings}"));
    for call in ["cmsgpack.pack(unpack(t))", "struct.pack('s', unpack(t))", "bit.bor(unpack(t))"] {
        let refused = "-ERR user_script:1: stack overflow (too many arguments) script: …";
        answers(&mut engine, &with(&format!("return {call}")), refused);
    }
    answers(&mut engine, "return 1", ":1");
}

#[test]
fn packed_and_json_values_are_as_large_as_they_are_or_refused() {
    // As large a stack as the threads have that run scripts.
    let thread = std::thread::Builder::new().stack_size(16 << 20);
    thread.spawn(pack_and_unpack_much).unwrap().join().unwrap();
}

fn pack_and_unpack_much() {
    let mut engine = engine();
    let map = "local t = {} for i = 1, 20000 do t['k' .. i] = 'v' .. i end \
               local u = cmsgpack.unpack(cmsgpack.pack(t)) return u.k20000";
    answers(&mut engine, map, "$6 v20000");
    let values = "return cmsgpack.unpack(('\\161x'):rep(10000))";
    answers(&mut engine, values, "-ERR user_script:1: Too many values to unpack.…");
    let nested = "return cmsgpack.unpack(('\\161x'):rep(6000) .. ('\\145'):rep(900) .. '\\192')";
    answers(&mut engine, nested, "-ERR user_script:1: Found too many nested data structures.…");
    let arguments = "local t = {} for i = 1, 6900 do t[i] = 'x' end \
                     return cmsgpack.unpack(('\\161x'):rep(200), unpack(t))";
    answers(&mut engine, arguments, "-ERR user_script:1: Too many values to unpack.…");
    let deep = "cjson.decode_max_depth(10000) return cjson.decode(('['):rep(9000))";
    let refused = "-ERR user_script:1: Found too many nested data structures (3001)…";
    answers(&mut engine, deep, refused);
    let deep = "cjson.encode_max_depth(10000) local t = {} \
                for i = 1, 9000 do t = {['k' .. i] = t} end return cjson.encode(t)";
    answers(&mut engine, deep, "-ERR user_script:1: Cannot serialise, excessive nesting (3001)…");
    answers(&mut engine, "return 1", ":1");
}

#[test]
fn a_library_has_as_many_functions_as_it_registers() {
    let mut engine = engine();
    let text = b"#!lua name=l\nfor i = 1, 9000 do redis.register_function('f' .. i, \
                 function() return i end) end";
    let library = engine.load(text, &mut Echo, job("l", &[])).unwrap();
    assert_eq!(library.functions.len(), 9_000);
    assert_eq!(engine.call("l", &mut Echo, job("f9000", &[])), Ok(b":9000\r\n".to_vec()));
    assert_eq!(engine.call("l", &mut Echo, job("f1", &[])), Ok(b":1\r\n".to_vec()));
}

#[test]
fn unpack_and_patterns_keep_to_their_stacks() {
    let mut engine = engine();
    for bounds in ["-2, 2147483646", "-2147483648, 2147483647", "1, 8000", "0, 2147483647"] {
        let refused = "-ERR user_script:1: too many results to unpack script: …";
        answers(&mut engine, &format!("return unpack({{}}, {bounds})"), refused);
    }
    answers(&mut engine, "return select('#', unpack({}, 1, 7000))", ":7000");
    for call in [
        "string.find('', p)",
        "string.match('', p)",
        "string.gsub('', p, '')",
        "string.gmatch('', p)()",
        "(''):find(p)",
        "string.gfind('', p)()",
    ] {
        let text = format!("local p = ('a-'):rep(1000000) return {call}");
        let refused = "-ERR user_script:1: pattern too complex script: …";
        answers(&mut engine, &text, refused);
    }
    answers(&mut engine, "return 1", ":1");
}

/// Which look tells a script to end.
const LAST_LOOK: usize = 10;

/// How often a script is looked at that is told to end by one of the looks.
fn looks_at(text: &str) -> usize {
    let mut engine = engine();
    let looks = Rc::new(Cell::new(0));
    let seen = Rc::clone(&looks);
    let tick = Box::new(move || {
        seen.set(seen.get() + 1);
        (seen.get() >= LAST_LOOK).then_some(Stop::Killed)
    });
    let done = engine.eval(text.as_bytes(), &mut Echo, Job { tick, ..job("name", &[]) });
    assert_eq!(done, Err(Error::Stopped(Stop::Killed)), "{text}");
    let looks = looks.get();
    assert_eq!(eval(&mut engine, "return 1", &[]), Ok(b":1\r\n".to_vec()));
    looks
}

#[test]
fn what_lua_does_in_one_call_and_in_many_coroutines_is_stopped_too() {
    for text in [
        "string.find(('a'):rep(40), ('a?'):rep(40) .. ('a'):rep(40))",
        "string.match(('a'):rep(200), ('.*'):rep(20) .. 'x')",
        "for _ in string.gmatch(('a'):rep(200), ('.*'):rep(20) .. 'x') do end",
        "string.gsub(('a'):rep(200), ('.*'):rep(20) .. 'x', '')",
        "pcall(string.gsub, ('a'):rep(200), ('.*'):rep(20) .. 'x', '')",
        "string.find(('a'):rep(1000000), ('a'):rep(500000) .. 'b', 1, true)",
        "while true do string.rep('', 2147483647) end",
        "table.insert({}, -2147483648, 1)",
        "local t = {} for i = 1, 26 do t = {t, t} end return t",
        "local s = ('x'):rep(1000000) while true do string.reverse(s) end",
        "local t = {} for i = 1, 200000 do t[i] = i end while true do table.insert(t, 1, 1) table.remove(t, 1) end",
        "while true do collectgarbage() end",
        "local t, u = {}, {} for i = 1, 2000 do t[i] = i u[i] = t end cjson.encode(u)",
        "local t, u = {}, {} for i = 1, 2000 do t[i] = i u[i] = t end cmsgpack.pack(u)",
        "local t = {} for i = 1, 5000 do t[i] = t end cjson.encode(t)",
        "local s = '\"' .. ('x'):rep(20000) .. '\"' for i = 1, 20 do cjson.decode(s) end",
        "local s = ('x'):rep(20000) for i = 1, 20 do redis.sha1hex(s) end",
        "local function make(n) return coroutine.create(function() \
           if n == 0 then for i = 1, 2000 do end return end \
           for k = 1, 1000 do coroutine.resume(make(n - 1)) end end) end \
         while true do coroutine.resume(make(3)) end",
        "local function make(n) return coroutine.wrap(function() \
           if n == 0 then for i = 1, 2000 do end return end \
           for k = 1, 1000 do pcall(make(n - 1)) end end) end \
         while true do pcall(make(3)) end",
    ] {
        // It ends soon: not all coroutines, say, run on until they are looked at.
        let looks = looks_at(text);
        assert!(looks < 10 * LAST_LOOK, "{text}: {looks}");
    }
}

/// Counts what it is asked for.
struct Counting(usize);

impl Host for Counting {
    fn call(&mut self, _words: &[&[u8]], _protocol: Protocol) -> Called {
        self.0 += 1;
        Called::Reply(b"+OK\r\n".to_vec())
    }

    fn log(&mut self, _level: Level, _text: &[u8]) {}

    fn may_call(&mut self, _words: &[&[u8]]) -> Option<bool> {
        None
    }
}

/// Lua calls a handler of errors deeper than what has failed. Where that is too deep, the error is
/// another one, and no look is made while a handler sees it.
#[test]
fn the_end_of_a_run_is_the_end_also_where_the_stack_of_c_ends() {
    let mut engine = engine();
    let text = "local function deep(n) \
                  if n > 0 then return pcall(deep, n - 1) end \
                  xpcall(function() while true do end end, function() redis.call('X') end) \
                  redis.call('X') \
                end \
                return deep(tonumber(ARGV[1]))";
    // Lua's own bound is 200, and some calls are ours.
    for depth in 150..220 {
        let (depth, mut host) = (depth.to_string(), Counting(0));
        let args: [&[u8]; 1] = [depth.as_bytes()];
        let tick = Box::new(|| Some(Stop::Killed));
        let done = engine.eval(text.as_bytes(), &mut host, Job { tick, ..job("name", &args) });
        assert_eq!((done, host.0), (Err(Error::Stopped(Stop::Killed)), 0), "{depth}");
    }
    assert_eq!(eval(&mut engine, "return 1", &[]), Ok(b":1\r\n".to_vec()));
}

#[test]
fn work_on_long_texts_and_on_any_table_is_looked_at_first() {
    let mut engine = engine();
    for call in [
        "string.find(long, 'b', 1, true)",
        "string.find('', long)",
        "string.match(long, 'b')",
        "string.gmatch('', long)()",
        "string.gsub('', 'b', long)",
        "table.maxn({})",
        "table.foreach({}, type)",
        "table.foreachi({}, type)",
    ] {
        // Few instructions: they are not looked at.
        let looks = Rc::new(Cell::new(0));
        let seen = Rc::clone(&looks);
        let tick = Box::new(move || {
            seen.set(seen.get() + 1);
            None::<Stop>
        });
        let text = format!("local long = ('a'):rep(10001) {call} return 1");
        let done = engine.eval(text.as_bytes(), &mut Echo, Job { tick, ..job(call, &[]) });
        assert_eq!(done, Ok(b":1\r\n".to_vec()), "{call}");
        assert!(looks.get() > 0, "{call}");
    }
}

#[test]
fn short_searches_in_few_instructions_are_looked_at_together() {
    let mut engine = engine();
    for call in [
        "string.match(short, 'b')",
        "string.find(short, '[b]')",
        "string.gmatch(short, 'b')()",
        "string.gsub(short, 'b', '')",
    ] {
        let looks = Rc::new(Cell::new(0));
        let seen = Rc::clone(&looks);
        let tick = Box::new(move || {
            seen.set(seen.get() + 1);
            None::<Stop>
        });
        let text = format!("local short = ('a'):rep(9000) for i = 1, 100 do {call} end return 1");
        let done = engine.eval(text.as_bytes(), &mut Echo, Job { tick, ..job(call, &[]) });
        assert_eq!(done, Ok(b":1\r\n".to_vec()), "{call}");
        assert!(looks.get() >= 10, "{call}: {}", looks.get());
    }
}

#[test]
fn what_is_said_many_times_is_bounded_too() {
    let mut engine = engine();
    let many = "local s, t = ('x'):rep(1048576), {} for i = 1, 17 do t[i] = s end ";
    let refused = "-ERR The arguments of this redis lib call are too large…";
    for call in ["redis.pcall", "redis.call", "redis.acl_check_cmd"] {
        answers(&mut engine, &format!("{many}return {call}('COUNT', unpack(t))"), refused);
    }
    answers(&mut engine, &format!("{many}redis.log(redis.LOG_NOTICE, unpack(t))"), refused);
    answers(&mut engine, &format!("{many}return redis.call('COUNT', unpack(t, 1, 9))"), ":9");
    let text = b"#!lua name=l\nlocal s = ('x'):rep(1048576) for i = 1, 17 do \
                 redis.register_function{function_name = 'f' .. i, description = s, \
                 callback = function() end} end";
    let loaded = engine.load(text, &mut Echo, job("l", &[]));
    let is_said = |error: &Error| error.to_string().contains("are too long");
    assert!(loaded.as_ref().is_err_and(is_said), "{:?}", loaded.map(|library| library.name));
}

#[test]
fn what_a_script_sets_of_the_collector_ends_with_it() {
    let mut engine = engine();
    let garbage = "for i = 1, 65536 do local s = ('x'):rep(1000) .. i end return 1";
    for setting in ["'setpause', 2000000000", "'stop'", "'setstepmul', 0"] {
        answers(&mut engine, &format!("collectgarbage({setting}) return 1"), ":1");
        answers(&mut engine, garbage, ":1");
    }
    answers(&mut engine, "collectgarbage('setpause', 300) return 1", ":1");
    answers(&mut engine, "return collectgarbage('setpause', 200)", ":200");
}

#[test]
fn libraries_that_are_used_no_more_go() {
    let mut engine = engine();
    let text = |at: usize| {
        format!("#!lua name=l{at}\nredis.register_function('f{at}', function() return {at} end)")
    };
    for at in 0..10_000 {
        let name = format!("l{at}");
        engine.load(text(at).as_bytes(), &mut Echo, job(&name, &[])).unwrap();
    }
    assert!(engine.used_memory() < 6 << 20, "{}", engine.used_memory());
    let mut call = |at: usize| {
        let name = format!("f{at}");
        engine.call(&format!("l{at}"), &mut Echo, job(&name, &[]))
    };
    assert_eq!(call(9_999), Ok(b":9999\r\n".to_vec()));
    // The caller has the text, and loads it again.
    assert_eq!(call(0), Err(Error::Script("ERR Function not found".into())));
    let functions = engine.functions("l0", text(0).as_bytes(), &mut Echo, job("l0", &[]));
    assert_eq!(functions.map(|all| all.len()), Ok(1));
    assert_eq!(engine.call("l0", &mut Echo, job("f0", &[])), Ok(b":0\r\n".to_vec()));
}

#[test]
fn libraries_that_hold_much_go_when_others_need_it() {
    let mut engine = engine();
    let text = |at: usize| {
        format!(
            "#!lua name=l{at}\nlocal kept = {{}} for i = 1, 3000 do kept[i] = ('x'):rep(1000) .. i end \
             redis.register_function('f{at}', function() return #kept end)"
        )
    };
    // Three megabytes each, of sixteen.
    for at in 0..10 {
        let (name, text) = (format!("l{at}"), text(at));
        engine.load(text.as_bytes(), &mut Echo, job(&name, &[])).unwrap();
        let function = format!("f{at}");
        let answer = engine.call(&name, &mut Echo, job(&function, &[]));
        assert_eq!(answer, Ok(b":3000\r\n".to_vec()), "{at}");
    }
}

#[test]
fn what_stays_is_not_collected_after_each_run() {
    let mut engine = engine();
    // Five megabytes of sixteen.
    let text =
        b"#!lua name=l\nlocal kept = {} for i = 1, 5000 do kept[i] = ('x'):rep(1000) .. i end \
                 redis.register_function('f', function() return #kept end)";
    engine.load(text, &mut Echo, job("l", &[])).unwrap();
    let garbage = "local t = {} for i = 1, 1000 do t[i] = {} end return 1";
    answers(&mut engine, garbage, ":1");
    let first = engine.used_memory();
    answers(&mut engine, garbage, ":1");
    answers(&mut engine, garbage, ":1");
    assert!(engine.used_memory() > first + 50_000, "{first} {}", engine.used_memory());
    for _ in 0..500 {
        answers(&mut engine, garbage, ":1");
        assert!(engine.used_memory() < 9 << 20, "{}", engine.used_memory());
    }
    assert_eq!(engine.call("l", &mut Echo, job("f", &[])), Ok(b":5000\r\n".to_vec()));
}

#[test]
fn a_text_is_compiled_within_bounds() {
    let text = "f() ".repeat(16 << 20);
    let refused = "ERR Error compiling script (new function): not enough memory";
    assert_eq!(script::check(text.as_bytes(), MEMORY_MAX), Err(Error::Script(refused.into())));
    assert_eq!(script::check(b"return 1", MEMORY_MAX), Ok(()));
    let mut engine = engine();
    answers(&mut engine, &text, &format!("-{refused}"));
    answers(&mut engine, "return 1", ":1");
    assert!(engine.prepare(b"return 1 +", "name").is_err());
}
