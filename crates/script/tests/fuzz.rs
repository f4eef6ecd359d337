//! Entry points for foreign bytes: JSON, MessagePack, packed data and their formats, first lines,
//! whole scripts.

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

use std::cell::RefCell;
use std::sync::Arc;

use resp::Protocol;
use script::{Called, Control, Engine, Error, Host, Job, Level, Settings, Stop};

/// A host that knows no commands.
struct Nobody;

impl Host for Nobody {
    fn call(&mut self, _words: &[&[u8]], _protocol: Protocol) -> Called {
        Called::Refused("ERR there are no commands".into())
    }

    fn log(&mut self, _level: Level, _text: &[u8]) {}

    fn may_call(&mut self, _words: &[&[u8]]) -> Option<bool> {
        None
    }
}

thread_local! {
    static ENGINE: RefCell<Engine> = RefCell::new(engine());
}

fn engine() -> Engine {
    let settings = Settings {
        version: "7.0.15",
        version_number: 1,
        memory_max: 64 << 20,
        looks_every: 10_000,
    };
    Engine::new(settings).expect("a new state")
}

/// Runs a script with these arguments; it may take so many looks.
fn run(text: &[u8], args: &[&[u8]], looks: u32) -> Result<Vec<u8>, Error> {
    let count = std::cell::Cell::new(0);
    let tick = Box::new(move || {
        count.set(count.get() + 1);
        (count.get() > looks).then_some(Stop::Killed)
    });
    let control = Arc::<Control>::default();
    let name = script::sha1_hex(text);
    let job = Job { name: &name, keys: &[], args, protocol: Protocol::V3, control, tick };
    ENGINE.with(|engine| engine.borrow_mut().eval(text, &mut Nobody, job))
}

/// What a library answers to any bytes is a reply or an error of the script; what it read, it reads
/// back from what it writes.
fn read_back(text: &str, bytes: &[u8]) {
    match run(text.as_bytes(), &[bytes], u32::MAX) {
        Ok(reply) => assert_eq!(reply, b":1\r\n", "{}", reply.escape_ascii()),
        Err(Error::Script(_)) => {}
        Err(other) => panic!("{other}"),
    }
}

fn json(bytes: &[u8]) {
    read_back(
        "local v = cjson.decode(ARGV[1]) local ok, s = pcall(cjson.encode, v) \
         if ok then cjson.decode(s) end return 1",
        bytes,
    );
}

fn message_pack(bytes: &[u8]) {
    read_back(
        "cmsgpack.unpack_one(ARGV[1]) pcall(cmsgpack.unpack_limit, ARGV[1], 3, 1) \
         local v = {cmsgpack.unpack(ARGV[1])} cmsgpack.unpack(cmsgpack.pack(v)) return 1",
        bytes,
    );
}

fn packed(bytes: &[u8]) {
    read_back(
        "pcall(struct.size, ARGV[1]) pcall(struct.unpack, ARGV[1], ARGV[1]) \
         pcall(struct.unpack, '<i3!8dBc0s', ARGV[1]) pcall(struct.pack, ARGV[1], 1, 2, 'x', 3) return 1",
        bytes,
    );
}

fn headers(bytes: &[u8]) {
    for is_library in [false, true] {
        if let Ok(header) = script::parse_header(bytes, is_library) {
            assert!(header.length <= bytes.len());
        }
    }
}

fn scripts(bytes: &[u8]) {
    // Whatever it is, it ends, and the next one finds nothing of it.
    let _ = run(bytes, &[b"a"], 20);
    assert_eq!(run(b"return #ARGV + (rawget(_G, 'x') or 0)", &[], 20), Ok(b":0\r\n".to_vec()));
}

#[test]
fn any_json() {
    fuzz::run(json, &[br#"{"a":[1,2.5e3,true,null,"x\u00e9\ud83d\ude00"],"b":{"c":[[],{}]}}"#]);
}

#[test]
fn any_message_pack() {
    fuzz::run(
        message_pack,
        &[
            b"\x93\x01\xa1a\x82\x01\xc0\xa1b\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a",
            b"\xdc\x00\x02\xd9\x01x\xcf\x00\x00\x00\x01\x00\x00\x00\x00",
            b"\xdd\xff\xff\xff\xff\x01",
        ],
    );
}

#[test]
fn any_packed_data() {
    fuzz::run(packed, &[b"!8<bhilfdsI3c0>x", b"\x01\x02\x03\x04abc\0defgh", b"c2147483647I32"]);
}

#[test]
fn any_first_line() {
    fuzz::run(headers, &[b"#!lua flags=no-writes,allow-stale\nreturn 1", b"#!lua name=lib\n"]);
}

#[test]
fn any_script() {
    fuzz::run(
        scripts,
        &[
            b"local t = {} for i = 1, 3 do t[i] = ARGV[1] end return {t, cjson.encode(t)}",
            b"return pcall(redis.call, 'GET', 'k')",
            b"local f = loadstring('return ' .. ARGV[1]) return f and f()",
            b"return coroutine.wrap(function() coroutine.yield(bit.bnot(1)) end)()",
        ],
    );
}
