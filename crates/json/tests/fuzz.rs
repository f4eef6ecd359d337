//! Entry points for foreign bytes: documents as text and as CBOR, paths.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

use json::edit::{self, Arithmetic};
use json::{DEPTH_MAX, Number, Path, Value, from_cbor, from_text, to_cbor, to_text};

/// What is written is read back, in both forms.
fn kept(value: &Value) {
    let text = to_text(value, DEPTH_MAX).unwrap();
    let again = from_text(text.as_bytes(), DEPTH_MAX).unwrap();
    assert_eq!(to_text(&again, DEPTH_MAX).unwrap(), text);
    let bytes = to_cbor(value, DEPTH_MAX).unwrap();
    let again = from_cbor(&bytes, DEPTH_MAX).unwrap();
    assert_eq!(to_text(&again, DEPTH_MAX).unwrap(), text);
}

fn texts(bytes: &[u8]) {
    if let Ok(value) = from_text(bytes, DEPTH_MAX) {
        kept(&value);
    }
}

fn cbor(bytes: &[u8]) {
    if let Ok(value) = from_cbor(bytes, DEPTH_MAX) {
        kept(&value);
    }
}

const DOCUMENT: &str = r#"{"a":[1,2,{"b":3},[4,"x"]],"b":{"a":"s","n":null},"t":true,"f":1.5}"#;

type Edit = fn(&mut Value, &[u8]) -> json::Result<()>;

/// A path that can be read leads somewhere or nowhere, and each edit leaves a document.
fn paths(path: &[u8]) {
    let document = from_text(DOCUMENT.as_bytes(), DEPTH_MAX).unwrap();
    let Ok(parsed) = Path::parse(path) else { return };
    let _ = parsed.each(&document, |_| Ok(()));
    let edits: [Edit; 8] = [
        |value, path| edit::set(value, path, &Value::Bool(false), 5).map(drop),
        |value, path| edit::merge(value, path, br#"{"a":null,"z":[]}"#, DEPTH_MAX),
        |value, path| edit::remove(value, path).map(drop),
        |value, path| {
            let by = Number::Negative(i64::MIN);
            edit::compute(value, path, Arithmetic::Multiply, &by).map(drop)
        },
        |value, path| edit::append(value, path, &[Value::Null], 4).map(drop),
        |value, path| edit::insert(value, path, i64::MIN, &[Value::Null], 4).map(drop),
        |value, path| edit::pop(value, path, i64::MIN).map(drop),
        |value, path| edit::trim(value, path, -2, i64::MAX).map(drop),
    ];
    for edit in edits {
        let mut document = document.clone();
        if edit(&mut document, path).is_ok() {
            kept(&document);
        }
    }
}

#[test]
fn any_text() {
    fuzz::run(
        texts,
        &[
            DOCUMENT.as_bytes(),
            b"[1,-2.5e10,1e400,123456789012345678901234567890,-0.0,\"\\u00e9\\ud83d\\ude00\\n\"]",
            b" /* c */ {\"a\" : [ ] , // x\n \"b\":{}}",
        ],
    );
}

#[test]
fn any_cbor() {
    let document = from_text(DOCUMENT.as_bytes(), DEPTH_MAX).unwrap();
    let numbers = b"[1e400,0.1,123456789012345678901234567890,-18446744073709551617,300,-70000]";
    let numbers = from_text(numbers, DEPTH_MAX).unwrap();
    let (document, numbers) = (to_cbor(&document, DEPTH_MAX), to_cbor(&numbers, DEPTH_MAX));
    fuzz::run(
        cbor,
        &[&document.unwrap(), &numbers.unwrap(), &[0x82, 0xf9, 0x3e, 0, 0xc3, 0x41, 7]],
    );
}

#[test]
fn any_path() {
    fuzz::run(
        paths,
        &[
            b"$..a[0,-1,::2].b['x',\"y\"]..*",
            b"$.a[?(@.b == 3 && !@.c || @ > 1.5)].b^",
            b"$.a[(@.length-1)].b",
            b"sum($.a[?@ =~ /x.*/i])",
            b"$[?contains(@.a, 's')][*]",
            b"$[?length(keys($.b)) + -1 * 2 / 0 % 3 <= @[0]]",
            b"$.z.y.x",
        ],
    );
}
