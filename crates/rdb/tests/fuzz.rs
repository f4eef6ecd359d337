//! Entry points for foreign bytes: payloads, values of every type, files.

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

use rdb::file::{File, Next};
use rdb::write::{Elements, Group, Pending, Stream, StreamState};
use rdb::{Error, Id, Part, Reader, body, functions, write};

/// The first byte is the type. What is compressed may grow 88 times.
fn values(bytes: &[u8]) {
    let Some((code, rest)) = bytes.split_first() else { return };
    let mut reader = Reader::new(rest);
    let mut parts = 0;
    let read = reader.value(*code, &mut |_: Part<'_>| {
        parts += 1;
        Ok::<_, Error>(())
    });
    if read.is_ok() {
        assert!(parts <= 100 * bytes.len() + 1, "{parts}");
    }
}

fn payloads(bytes: &[u8]) {
    if let Ok(value) = body(bytes) {
        values(value);
    }
    if let Ok(sources) = functions::read(bytes) {
        assert!(sources.iter().map(Vec::len).sum::<usize>() <= 100 * bytes.len());
    }
}

fn files(bytes: &[u8]) {
    let Ok(mut file) = File::open(bytes) else { return };
    while let Ok(next) = file.read_next() {
        match next {
            Next::End => return,
            Next::Library(_) => {}
            Next::Key(key) => {
                if file.pass(&key).is_err() {
                    return;
                }
            }
        }
    }
}

fn without_footer(mut payload: Vec<u8>) -> Vec<u8> {
    payload.truncate(payload.len() - 10);
    payload
}

fn samples() -> Vec<Vec<u8>> {
    let (mut list, mut set) = (Elements::list(), Elements::set());
    let (mut zset, mut hash) = (Elements::zset(), Elements::hash());
    let mut stream = Stream::default();
    for number in 0..5_u64 {
        let text = format!("text {number}");
        list.element(text.as_bytes());
        set.member(text.as_bytes());
        zset.scored(text.as_bytes(), number as f64);
        hash.field(text.as_bytes(), b"v");
        stream.entry(Id { ms: 5 + number, seq: 1 }, &[b"f", text.as_bytes()]);
    }
    let group = Group {
        name: b"g".to_vec(),
        consumers: vec![(b"c".to_vec(), 5)],
        pending: vec![Pending { id: Id { ms: 5, seq: 1 }, ..Pending::default() }],
        ..Group::default()
    };
    let timed = write::timed_hash(&[(b"f", b"v", 0), (b"g", b"w", 1000), (b"h", b"x", 1005)]);
    let payloads = [
        list.finish(),
        set.finish(),
        zset.finish(),
        hash.finish(),
        timed,
        stream.finish(&StreamState::default(), &[group]),
        write::string(b"text"),
    ];
    payloads.into_iter().map(without_footer).collect()
}

#[test]
fn any_value() {
    let mut texts = samples();
    let ziplist = b"\x15\0\0\0\x12\0\0\0\x04\0\0\x01a\x03\xf2\x02\x01b\x03\xf3\xff";
    let listpack = b"\x0c\0\0\0\x02\0\x81a\x02\x05\x01\xff";
    for (code, packed) in [(10, &ziplist[..]), (12, ziplist), (13, ziplist)] {
        texts.push([&[code, packed.len() as u8], packed].concat());
    }
    for (code, packed) in [(16, &listpack[..]), (17, listpack), (20, listpack)] {
        texts.push([&[code, packed.len() as u8], packed].concat());
    }
    texts.push(b"\x09\x07\x01\x01f\x01\x00v\xff".to_vec());
    texts.push(b"\x0b\x0a\x02\0\0\0\x01\0\0\0\x05\0".to_vec());
    texts.push(b"\x00\xc3\x04\x09\x00a\xc0\x00".to_vec());
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    fuzz::run(values, &texts);
}

#[test]
fn any_payload() {
    let libraries = functions::dump([&b"#!lua name=a"[..], b"#!lua name=b"]);
    fuzz::run(payloads, &[&write::string(b"text"), &write::string(b"12"), &libraries]);
}

#[test]
fn any_file() {
    let mut file = b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfe\x00\xfb\x03\x01".to_vec();
    for (number, mut value) in samples().into_iter().enumerate() {
        let rest = value.split_off(1);
        file.extend([&value[..], &[1, b'a' + number as u8], &rest].concat());
    }
    file.extend(b"\xff\0\0\0\0\0\0\0\0");
    fuzz::run(files, &[&file]);
}
