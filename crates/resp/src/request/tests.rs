use proptest::prelude::*;

use super::*;

fn limits() -> Limits {
    Limits::new(512 * 1024 * 1024)
}

fn all(input: &[u8], piece: usize) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
    let mut parser = Parser::new();
    let (mut buffer, mut commands) = (Vec::new(), Vec::new());
    for chunk in input.chunks(piece.max(1)) {
        buffer.extend_from_slice(chunk);
        while let Parsed::Command { length } = parser.parse(&buffer, &limits())? {
            commands.push(parser.arguments(&buffer).map(<[u8]>::to_vec).collect());
            buffer.drain(..length);
        }
    }
    Ok(commands)
}

#[test]
fn pipelined_arrays_and_inline_commands_come_in_order() {
    let input = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING \"a b\\x41\" 'c'\r\n*0\r\n*1\r\n$0\r\n\r\n";
    let expected: Vec<Vec<Vec<u8>>> = vec![
        vec![b"GET".to_vec(), b"a".to_vec()],
        vec![b"PING".to_vec(), b"a bA".to_vec(), b"c".to_vec()],
        vec![],
        vec![b"".to_vec()],
    ];
    for piece in 1..input.len() {
        assert_eq!(all(input, piece), Ok(expected.clone()), "in pieces of {piece}");
    }
}

#[test]
fn what_a_command_took_is_given_back_and_what_has_not_come_whole_stays() {
    let mut parser = Parser::new();
    let line = [b"a ".repeat(20_000), b"\n".to_vec()].concat();
    assert_eq!(parser.parse(&line, &limits()), Ok(Parsed::Command { length: line.len() }));
    assert_eq!(parser.len(), 20_000);
    parser.forget();
    assert_eq!((parser.len(), parser.inline.capacity()), (0, 0));
    let array = [b"*100000\r\n".to_vec(), b"$0\r\n\r\n".repeat(100_000)].concat();
    assert_eq!(parser.parse(&array[..array.len() / 2], &limits()), Ok(Parsed::Incomplete));
    parser.forget();
    assert!(parser.held() >= 40_000 * size_of::<Range<usize>>(), "{}", parser.held());
    assert_eq!(parser.parse(&array, &limits()), Ok(Parsed::Command { length: array.len() }));
    assert_eq!(parser.len(), 100_000);
    parser.forget();
    assert_eq!((parser.len(), parser.held()), (0, 0));
    assert!(parser.arguments.capacity() < 1_000, "{}", parser.arguments.capacity());
}

#[test]
fn broken_streams_are_named_as_redis_names_them() {
    let cases: &[(&[u8], &str)] = &[
        (b"*x\r\n", "Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "Protocol error: invalid multibulk length"),
        (b"*99999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\nx", "Protocol error: expected '$', got 'x'"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
        (b"set \"a\r\n", "Protocol error: unbalanced quotes in request"),
        (b"set \"a\"b\r\n", "Protocol error: unbalanced quotes in request"),
    ];
    for (input, text) in cases {
        assert_eq!(all(input, 1).unwrap_err().to_string(), *text);
    }
    let endless = vec![b'a'; INLINE_MAX + 1];
    assert_eq!(all(&endless, 4096), Err(ProtocolError::Inline));
    let mut endless = vec![b'1'; INLINE_MAX];
    endless[0] = b'*';
    assert_eq!(all(&endless, 4096), Err(ProtocolError::ArrayLine));
}

#[test]
fn who_has_not_authenticated_may_send_little() {
    let limits = Limits::unauthenticated();
    let long_array = Parser::new().parse(b"*11\r\n", &limits);
    assert_eq!(long_array, Err(ProtocolError::UnauthenticatedArray));
    let long_bulk = Parser::new().parse(b"*1\r\n$16385\r\n", &limits);
    assert_eq!(long_bulk, Err(ProtocolError::UnauthenticatedBulk));
}

#[test]
fn a_negative_count_is_an_empty_command() {
    assert_eq!(all(b"*-1\r\nPING\r\n", 3), Ok(vec![vec![], vec![b"PING".to_vec()]]));
}

proptest! {
    #[test]
    fn no_bytes_panic(input in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..20) {
        let _ = all(&input, piece);
    }

    #[test]
    fn any_arguments_survive_any_split(
        arguments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..6),
        piece in 1_usize..40,
    ) {
        let bytes = crate::encode_command(&arguments);
        prop_assert_eq!(all(&bytes, piece), Ok(vec![arguments]));
    }
}
