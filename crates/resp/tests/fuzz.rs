//! Entry points for foreign bytes: what clients send, what servers answer.

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

use resp::request::{Parsed, split_words};
use resp::{Limits, Parser, Protocol, ProtocolError, Value, Writer, encode_command};

type Commands = Vec<Vec<Vec<u8>>>;

/// The commands in these bytes, as they come in portions, and the error that ends them.
fn commands(
    bytes: &[u8],
    portion: usize,
    limits: &Limits,
) -> (Commands, Result<(), ProtocolError>) {
    let (mut parser, mut buffer, mut found) = (Parser::new(), Vec::new(), Vec::new());
    for portion in bytes.chunks(portion) {
        buffer.extend_from_slice(portion);
        loop {
            match parser.parse(&buffer, limits) {
                Ok(Parsed::Incomplete) => break,
                Ok(Parsed::Command { length }) => {
                    assert!((1..=buffer.len()).contains(&length), "{length} bytes");
                    found.push(parser.arguments(&buffer).map(<[u8]>::to_vec).collect());
                    buffer.drain(..length);
                }
                Err(error) => return (found, Err(error)),
            }
        }
    }
    (found, Ok(()))
}

/// Commands are the same however they arrive, and what they are written as is read back.
fn requests(bytes: &[u8]) {
    for limits in [Limits::new(512), Limits::unauthenticated()] {
        let whole = commands(bytes, usize::MAX, &limits);
        assert_eq!(commands(bytes, 1, &limits), whole);
        for command in whole.0.iter().filter(|command| !command.is_empty()) {
            let written = encode_command(command);
            let read = commands(&written, 3, &Limits::new(usize::MAX / 2));
            assert_eq!(read, (vec![command.clone()], Ok(())));
        }
    }
}

/// A reply is as long as it says, and shorter bytes are not a reply yet.
fn replies(bytes: &[u8]) {
    if let Ok(Some((value, length))) = Value::parse(bytes, 1024) {
        assert_eq!(Value::parse(&bytes[..length], 1024), Ok(Some((value, length))));
        assert_eq!(Value::parse(&bytes[..length - 1], 1024), Ok(None));
    }
    let mut written = Vec::new();
    Writer::new(&mut written, Protocol::V3).bulk(bytes);
    let read = Value::parse(&written, usize::MAX / 2);
    assert_eq!(read, Ok(Some((Value::Bulk(bytes.to_vec()), written.len()))));
}

fn words(bytes: &[u8]) {
    let _ = split_words(bytes);
}

#[test]
fn any_request() {
    fuzz::run(
        requests,
        &[
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nv \r\n \r\n*1\r\n$4\r\nPING\r\n",
            b"SET k \"a \\x00\\n\\\"\" 'b\\''\r\nPING\n\r\n",
            b"*0\r\n*-1\r\n*2\r\n$0\r\n\r\n$1\r\na\r\n",
        ],
    );
}

#[test]
fn any_reply() {
    fuzz::run(
        replies,
        &[
            b"*3\r\n:1\r\n$-1\r\n+OK\r\n",
            b"%2\r\n$1\r\na\r\n#t\r\n+b\r\n~2\r\n,1.5\r\n(123\r\n",
            b"=6\r\ntxt:ab\r\n",
            b"-ERR no\r\n",
            b">2\r\n_\r\n!5\r\nERR x\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*-1\r\n",
        ],
    );
}

#[test]
fn any_line_of_words() {
    fuzz::run(words, &[b"SET k \"a \\x00\\n\\\"\" 'b\\'' c", b"\"\" '' \"\\xff\\xg\""]);
}
