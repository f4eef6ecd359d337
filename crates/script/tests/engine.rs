//! Scripts against a host that knows two commands: the sandbox, its errors, conversions, limits.

use std::sync::Arc;

use resp::Protocol;
use script::{Called, Control, Engine, Error, Host, Job, Level, Settings, Stop};

/// Answers ECHO with its argument as it stands, so that a test can hand any reply to a script.
struct Echo(Vec<(Level, String)>);

impl Host for Echo {
    fn call(&mut self, words: &[&[u8]], protocol: Protocol) -> Called {
        match words {
            [b"ECHO", reply] => Called::Reply(reply.to_vec()),
            [b"PROTOCOL"] => Called::Reply(format!("+{protocol:?}\r\n").into_bytes()),
            [b"STOP"] => Called::Stop,
            _ => Called::Refused("ERR Unknown Redis command called from script".into()),
        }
    }

    fn log(&mut self, level: Level, text: &[u8]) {
        self.0.push((level, String::from_utf8_lossy(text).into_owned()));
    }

    fn may_call(&mut self, words: &[&[u8]]) -> Option<bool> {
        (words[0] == b"ECHO").then_some(true)
    }
}

fn engine() -> Engine {
    engine_of(16 << 20)
}

fn engine_of(memory_max: usize) -> Engine {
    let settings = Settings {
        version: "7.0.15",
        version_number: 0x0007_000f,
        memory_max,
        looks_every: 10_000,
    };
    Engine::new(settings).expect("an engine")
}

fn job<'j>(name: &'j str, args: &'j [&'j [u8]], protocol: Protocol) -> Job<'j> {
    let control = Arc::<Control>::default();
    Job { name, keys: &[], args, protocol, control, tick: Box::new(|| None) }
}

fn run_with(engine: &mut Engine, text: &str, args: &[&[u8]], protocol: Protocol) -> String {
    let name = script::sha1_hex(text.as_bytes());
    let done = engine.eval(text.as_bytes(), &mut Echo(Vec::new()), job(&name, args, protocol));
    match done {
        Ok(reply) => String::from_utf8_lossy(&reply).replace("\r\n", " ").trim_end().to_owned(),
        Err(Error::Script(text)) => format!("-{}", text.replace(&name, "SHA")),
        Err(Error::Stopped(why)) => format!("stopped: {why:?}"),
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(run_with(&mut engine(), text, &[], Protocol::V2), expected, "{text}");
}

#[test]
fn values_become_replies() {
    for (text, two, three) in [
        ("return 3.99", ":3", ":3"),
        ("return -3.99", ":-3", ":-3"),
        ("return 1e30", ":-9223372036854775808", ":-9223372036854775808"),
        ("return 'x'", "$1 x", "$1 x"),
        ("return true", ":1", ":1"),
        ("return false", "$-1", "_"),
        ("redis.setresp(3) return {true, false}", "*2 :1 :0", "*2 #t #f"),
        ("return {1, 2, nil, 4}", "*2 :1 :2", "*2 :1 :2"),
        ("return {ok = 'fine'}", "+fine", "+fine"),
        ("return {err = 'MY boom'}", "-MY boom", "-MY boom"),
        ("return {double = 3.5}", "$3 3.5", ",3.5"),
        ("return {map = {a = 1}}", "*2 $1 a :1", "%1 $1 a :1"),
        ("return {set = {a = true}}", "*1 $1 a", "~1 $1 a"),
        ("return {big_number = '123'}", "$3 123", "(123"),
        ("return {verbatim_string = {string = 'x', format = 'txt'}}", "$1 x", "=5 txt:x"),
        ("return function() end", "$-1", "_"),
        ("return redis.status_reply('S')", "+S", "+S"),
        ("return redis.error_reply('boom')", "-ERR boom", "-ERR boom"),
        ("return redis.error_reply('-X boom')", "-X boom", "-X boom"),
        (
            "return redis.error_reply(1)",
            "-ERR wrong number or type of arguments",
            "-ERR wrong number or type of arguments",
        ),
    ] {
        assert_eq!(run_with(&mut engine(), text, &[], Protocol::V2), two, "{text}");
        assert_eq!(run_with(&mut engine(), text, &[], Protocol::V3), three, "{text}");
    }
    let deep = format!("{}-ERR reached lua stack limit", "*1 ".repeat(513));
    check("local t = {} t[1] = t return t", &deep);
    check(
        "local t = {('x'):rep(1000)} for i = 1, 30 do t = {t, t, t, t} end return t",
        "-ERR the reply of the script is too large",
    );
}

#[test]
fn replies_become_values() {
    let text = "local v = redis.call('ECHO', ARGV[1]) \
                if type(v) ~= 'table' then return type(v) .. ' ' .. tostring(v) end \
                return cjson.encode(v)";
    for (reply, expected) in [
        ("+OK\r\n", "{\"ok\":\"OK\"}"),
        (":5\r\n", "number 5"),
        ("$1\r\nx\r\n", "string x"),
        ("$-1\r\n", "boolean false"),
        ("*-1\r\n", "boolean false"),
        ("*2\r\n:1\r\n$1\r\na\r\n", "[1,\"a\"]"),
        ("_\r\n", "nil nil"),
        ("#t\r\n", "boolean true"),
        (",1.5\r\n", "{\"double\":1.5}"),
        ("(12\r\n", "{\"big_number\":\"12\"}"),
        ("%1\r\n+k\r\n:1\r\n", "-"),
        ("~1\r\n$1\r\na\r\n", "{\"set\":{\"a\":true}}"),
        ("%1\r\n$1\r\nk\r\n:1\r\n", "{\"map\":{\"k\":1}}"),
    ] {
        let answer = run_with(&mut engine(), text, &[reply.as_bytes()], Protocol::V2);
        if expected == "-" {
            assert!(answer.starts_with("-ERR user_script:1: Cannot serialise table"), "{answer}");
        } else {
            let (_, value) = answer.split_once(' ').unwrap();
            assert_eq!(value, expected, "{reply:?}");
        }
    }
    for broken in ["", "$5\r\nx\r\n", "?\r\n", "*3\r\n:1\r\n", "$9999999999999\r\n"] {
        let answer = run_with(&mut engine(), text, &[broken.as_bytes()], Protocol::V2);
        assert!(answer.starts_with("-ERR a command answered what scripts cannot read"), "{answer}");
    }
    check("redis.setresp(3) return redis.call('PROTOCOL')", "+V3");
    check("return redis.call('PROTOCOL')", "+V2");
}

#[test]
fn errors_say_what_and_where() {
    for (text, expected) in [
        ("error('boom')", "ERR user_script:1: boom script: SHA, on @user_script:1."),
        ("error('boom', 0)", "ERR boom script: SHA, on @user_script:1."),
        ("error({err = 'MY boom'})", "MY boom script: SHA, on @user_script:1."),
        (
            "local x = nil\nreturn x.y",
            "ERR user_script:2: attempt to index local 'x' (a nil value) script: SHA, on @user_script:2.",
        ),
        (
            "redis.call('NOSUCH')",
            "ERR Unknown Redis command called from script script: SHA, on @user_script:1.",
        ),
        (
            "local function f() return redis.call('NOSUCH') end\nreturn f()",
            "ERR Unknown Redis command called from script script: SHA, on @user_script:1.",
        ),
        (
            "redis.call()",
            "ERR Please specify at least one argument for this redis lib call script: SHA, on @user_script:1.",
        ),
        (
            "redis.call({})",
            "ERR Lua redis lib command arguments must be strings or integers script: SHA, on @user_script:1.",
        ),
        ("redis.log(9, 'x')", "ERR Invalid debug level. script: SHA, on @user_script:1."),
        (
            "return bit.band('x')",
            "ERR user_script:1: bad argument #1 to 'band' (number expected, got string) script: SHA, on @user_script:1.",
        ),
        (
            "#!lua flags=no-writes\nerror('x')",
            "ERR user_script:2: x script: SHA, on @user_script:2.",
        ),
        (
            "return 1 +",
            "ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'",
        ),
    ] {
        check(text, &format!("-{expected}"));
    }
    check("return redis.pcall('NOSUCH')", "-ERR Unknown Redis command called from script");
    check("local ok, e = pcall(redis.call, 'NOSUCH') return type(e) .. e", {
        "$50 stringERR Unknown Redis command called from script"
    });
    check("local ok, e = pcall(error, {a = 5}) return e.a", ":5");
    check(
        "local ok, e = xpcall(function() error({err = 'X y'}) end, function(e) return e end) return e.err",
        "$3 X y",
    );
}

#[test]
fn what_is_shared_is_read_only() {
    let place = " script: SHA, on @user_script:1.";
    for text in ["x = 1", "redis.x = 1", "math.x = 1", "KEYS = 1", "_G.foo = 1", "redis = nil"] {
        check(text, &format!("-ERR user_script:1: Attempt to modify a readonly table{place}"));
    }
    for text in ["setmetatable(_G, {})", "rawset(_G, 'x', 1)", "rawset(math, 'x', 1)"] {
        check(text, &format!("-ERR Attempt to modify a readonly table{place}"));
    }
    for name in
        ["x", "os", "io", "debug", "require", "dofile", "loadfile", "print", "newproxy", "getfenv"]
    {
        check(
            &format!("return {name}"),
            &format!(
                "-ERR user_script:1: Script attempted to access nonexistent global variable '{name}'{place}"
            ),
        );
    }
    check("return {getmetatable('') == false, getmetatable(redis) == false}", "*2 :1 :1");
    check("return ('x'):upper() .. #('abc'):rep(2)", "$2 X6");
    check("return {loadstring(string.dump(function() return 1 end))}", "*0");
    check(
        "return {load(function() return nil end)() == nil, loadstring('return 5')()}",
        "*2 :1 :5",
    );
    check("return loadstring('x = 1')()", {
        "-ERR [string \"x = 1\"]:1: Attempt to modify a readonly table script: SHA, on x = 1:1."
    });
    let mut engine = engine();
    assert_eq!(
        run_with(&mut engine, "table.insert(math, 'x') return #math", &[], Protocol::V2),
        ":1"
    );
    assert_eq!(run_with(&mut engine, "return math[1]", &[], Protocol::V2), "$1 x");
    assert_eq!(run_with(&mut engine, "return ARGV[1]", &[b"a"], Protocol::V2), "$1 a");
    assert_eq!(run_with(&mut engine, "return ARGV[1]", &[], Protocol::V2), "$-1");
}

#[test]
fn lack_of_memory_and_deep_recursion_are_errors() {
    let mut engine = engine();
    let text = "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end";
    let answer = run_with(&mut engine, text, &[], Protocol::V2);
    assert!(answer.starts_with("-ERR not enough memory"), "{answer}");
    assert_eq!(run_with(&mut engine, "return 1", &[], Protocol::V2), ":1");
    let text = "local function f(n) return 1 + f(n) end return f(1)";
    let answer = run_with(&mut engine, text, &[], Protocol::V2);
    assert!(answer.starts_with("-ERR user_script:1: stack overflow"), "{answer}");
    let text = "local s = ('('):rep(100000) return string.find(s, s)";
    let answer = run_with(&mut engine, text, &[], Protocol::V2);
    assert!(answer.starts_with("-ERR user_script:1: too many captures"), "{answer}");
}

#[test]
fn lack_of_memory_is_known_also_where_a_script_goes_on() {
    let mut engine = engine_of(2 << 20);
    let many = "local s, t = ('x'):rep(100000), {} for i = 1, 40 do t[i] = s end";
    for (text, lacks) in [
        ("return 1", false),
        ("return {pcall(error, 'x')}", false),
        ("return #LARGE", true),
        ("return {pcall(function() return LARGE end)}", true),
        ("return {xpcall(function() return LARGE end, function() return 1 end)}", true),
        ("return {coroutine.resume(coroutine.create(function() return LARGE end))}", true),
        ("return {pcall(coroutine.wrap(function() return LARGE end))}", true),
        ("return {xpcall(coroutine.wrap(function() return LARGE end), function() end)}", true),
        ("MANY return 1", false),
        ("MANY return t", true),
        ("MANY return {pcall(redis.call, 'ECHO', unpack(t))}", true),
    ] {
        let text = text.replace("LARGE", "('x'):rep(4194304)").replace("MANY", many);
        run_with(&mut engine, &text, &[], Protocol::V2);
        assert_eq!(engine.has_lacked_memory(), lacks, "{text}");
    }
}

/// A host with a fault.
struct Faulty;

impl Host for Faulty {
    fn call(&mut self, _words: &[&[u8]], _protocol: Protocol) -> Called {
        panic!("on purpose")
    }

    fn log(&mut self, _level: Level, _text: &[u8]) {}

    fn may_call(&mut self, _words: &[&[u8]]) -> Option<bool> {
        None
    }
}

#[test]
fn a_panic_of_the_host_goes_through_and_no_script_catches_it() {
    for text in [
        "redis.call('X') return 1",
        "while true do pcall(redis.pcall, 'X') end",
        "pcall(redis.call, unpack({'X', 1, 2, 3}, 1, 4)) return 1",
        "local t = {} for i = 1, 100 do t[i] = 'x' end redis.pcall(unpack(t)) return 1",
    ] {
        let mut engine = engine();
        let run = || engine.eval(text.as_bytes(), &mut Faulty, job("n", &[], Protocol::V2));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        let said = ended.unwrap_err().downcast_ref::<&str>().copied();
        assert_eq!(said, Some("on purpose"), "{text}");
    }
}

#[test]
fn keys_and_arguments_are_there_as_long_as_a_script_runs() {
    let mut engine = engine();
    let (keys, args): ([&[u8]; 2], [&[u8]; 1]) = ([b"k", b"l"], [b"a\0b"]);
    let text = "return {#KEYS, KEYS[1], KEYS[2], #ARGV, ARGV[1], KEYS[3] == nil}";
    for failing in ["error('x')", "error()", "local t = {} for i = 1, 1e9 do t[i] = i end"] {
        let mut eval = |text: &str| {
            let job = Job { keys: &keys, ..job(text, &args, Protocol::V2) };
            engine.eval(text.as_bytes(), &mut Echo(Vec::new()), job)
        };
        let expected = b"*6\r\n:2\r\n$1\r\nk\r\n$1\r\nl\r\n:1\r\n$3\r\na\0b\r\n:1\r\n";
        assert_eq!(eval(text), Ok(expected.to_vec()));
        assert!(eval(failing).is_err(), "{failing}");
        let code = "#!lua name=lib\nredis.register_function('f', function() return KEYS end)";
        let loading = job("lib", &[], Protocol::V2);
        engine.load(code.as_bytes(), &mut Echo(Vec::new()), loading).unwrap();
        let after = engine.call("lib", &mut Echo(Vec::new()), job("f", &[], Protocol::V2));
        assert!(
            after.is_err_and(|error| error.to_string().contains("nonexistent global variable"))
        );
    }
}

#[test]
fn a_stopped_script_catches_nothing() {
    for text in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function(e) return e end) end",
        "while true do xpcall(function() while true do end end, function() return 1 end) end",
        "xpcall(function() while true do end end, function() while true do end end) return 1",
        "while true do xpcall(function() while true do end end, function() error('x') end) end",
        "xpcall(error, function() while true do end end) return 1",
        "while true do pcall(xpcall, function() end) end",
        "while true do xpcall(function() while true do end end, 5) end",
        "local c = coroutine.wrap(function() while true do end end) while true do pcall(c) end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "pcall(redis.call, 'STOP') return 1",
    ] {
        let mut engine = engine();
        let control = Arc::<Control>::default();
        if text.contains("STOP") {
            control.stop(Stop::Aborted);
        }
        let count = std::cell::Cell::new(0);
        let tick = Box::new(move || {
            count.set(count.get() + 1);
            (count.get() > 3).then_some(Stop::Killed)
        });
        let job = Job { control, tick, ..job("name", &[], Protocol::V2) };
        let done = engine.eval(text.as_bytes(), &mut Echo(Vec::new()), job);
        let why = if text.contains("STOP") { Stop::Aborted } else { Stop::Killed };
        assert_eq!(done, Err(Error::Stopped(why)), "{text}");
        assert_eq!(run_with(&mut engine, "return 1", &[], Protocol::V2), ":1");
    }
}

#[test]
fn the_log_and_what_may_be_called() {
    let mut host = Echo(Vec::new());
    let text = b"redis.log(redis.LOG_WARNING, 'a', 5) return {redis.acl_check_cmd('ECHO', 'x')}";
    let reply = engine().eval(text, &mut host, job("n", &[], Protocol::V2));
    assert_eq!(reply, Ok(b"*1\r\n:1\r\n".to_vec()));
    assert_eq!(host.0, [(Level::Warning, "a 5".to_owned())]);
    check(
        "redis.acl_check_cmd('NO')",
        "-ERR Invalid command passed to redis.acl_check_cmd() script: SHA, on @user_script:1.",
    );
}

#[test]
fn libraries_register_functions_that_are_called_later() {
    let mut engine = engine();
    let mut host = Echo(Vec::new());
    let text = b"#!lua name=lib\nlocal n = 0\nredis.register_function('f', function(keys, args) n = n + 1 return {n, args[1], redis.call('PROTOCOL')} end)\n\
        redis.register_function{function_name = 'g', callback = function() return KEYS end, flags = {'no-writes'}, description = 'd'}";
    let library = engine.load(text, &mut host, job("lib", &[], Protocol::V2)).unwrap();
    assert_eq!(library.name, "lib");
    assert_eq!(library.functions.len(), 2);
    assert!(library.functions[1].flags.no_writes);
    assert_eq!(library.functions[1].description.as_deref(), Some(b"d".as_slice()));
    let mut call = |name: &str| {
        let functions = engine.functions("lib", text, &mut host, job("lib", &[], Protocol::V2));
        assert_eq!(functions.map(|all| all.len()), Ok(2));
        engine.call("lib", &mut host, job(name, &[b"a"], Protocol::V2))
    };
    assert_eq!(call("f"), Ok(b"*3\r\n:1\r\n$1\r\na\r\n+V2\r\n".to_vec()));
    assert_eq!(call("f"), Ok(b"*3\r\n:2\r\n$1\r\na\r\n+V2\r\n".to_vec()));
    let missing = "ERR user_function:4: Script attempted to access nonexistent global variable 'KEYS' script: g, on @user_function:4.";
    assert_eq!(call("g"), Err(Error::Script(missing.into())));
    assert_eq!(call("h"), Err(Error::Script("ERR Function not found".into())));
}

#[test]
fn what_is_wrong_with_a_library_is_said() {
    let mut engine = engine();
    for (text, expected) in [
        ("retur 1", "Error compiling function: user_function:2: '=' expected near '1'"),
        ("return 1", "No functions registered"),
        (
            "redis.register_function()",
            "Error registering functions: ERR wrong number of arguments to redis.register_function",
        ),
        (
            "redis.register_function('a', 5)",
            "Error registering functions: ERR second argument to redis.register_function must be a function",
        ),
        (
            "redis.register_function('a b', function() end)",
            "Error registering functions: ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
        ),
        (
            "redis.call('SET')",
            "Error registering functions: ERR user_function:2: attempt to call field 'call' (a nil value)",
        ),
        (
            "x = 1",
            "Error registering functions: ERR user_function:2: Attempt to modify a readonly table",
        ),
        (
            "return x",
            "Error registering functions: ERR user_function:2: Script attempted to access nonexistent global variable 'x'",
        ),
        (
            "redis.register_function{function_name='a', callback=function() end, flags={'x'}}",
            "Error registering functions: ERR unknown flag given",
        ),
    ] {
        let text = format!("#!lua name=l\n{text}");
        let done = engine.load(text.as_bytes(), &mut Echo(Vec::new()), job("l", &[], Protocol::V2));
        assert_eq!(done, Err(Error::Script(format!("ERR {expected}"))), "{text}");
    }
}
