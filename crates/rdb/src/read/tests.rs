use super::*;

fn parts(value: &[u8]) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let (code, rest) = value.split_first().unwrap();
    let mut reader = Reader::new(rest);
    reader.value(*code, &mut |part| {
        found.push(match part {
            Part::String(text) | Part::Element(text) | Part::Member(text) => {
                text.escape_ascii().to_string()
            }
            Part::Scored(member, score) => format!("{} {score}", member.escape_ascii()),
            Part::Field { name, value, end_ms } => {
                format!("{} {} {end_ms}", name.escape_ascii(), value.escape_ascii())
            }
            part => format!("{part:?}"),
        });
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

#[track_caller]
fn check(value: &[u8], expected: &[&str]) {
    assert_eq!(parts(value).unwrap(), expected, "{}", value.escape_ascii());
    for end in 1..value.len() {
        assert!(parts(&value[..end]).is_err(), "{} up to {end}", value.escape_ascii());
    }
}

#[test]
fn strings_are_read_in_all_their_forms() {
    check(b"\x00\x05hello", &["hello"]);
    check(b"\x00\x40\x02hi", &["hi"]);
    check(b"\x00\x80\x00\x00\x00\x02hi", &["hi"]);
    check(b"\x00\x81\x00\x00\x00\x00\x00\x00\x00\x02hi", &["hi"]);
    check(b"\x00\xc0\xff", &["-1"]);
    check(b"\x00\xc190", &["12345"]);
    check(b"\x00\xc2\x00\x00\x01\x00", &["65536"]);
    check(b"\x00\xc3\x04\x09\x00a\xc0\x00", &["aaaaaaaaa"]);
}

#[test]
fn plain_values_are_read() {
    check(b"\x01\x02\x01a\xc0\x05", &["a", "5"]);
    check(b"\x02\x02\x01a\x01b", &["a", "b"]);
    check(b"\x03\x03\x01a\x031.5\x01b\xfe\x01c\xff", &["a 1.5", "b inf", "c -inf"]);
    check(b"\x05\x01\x01a\x00\x00\x00\x00\x00\x00\xf0\x3f", &["a 1"]);
    check(b"\x04\x01\x01f\x01v", &["f v 0"]);
    check(b"\x12\x02\x01\x01a\x02\x0a\x0a\0\0\0\x01\0\x81b\x02\xff", &["a", "b"]);
    check(
        b"\x18\xe8\x03\0\0\0\0\0\0\x03\x00\x01a\x01b\x01\x01c\x01d\x05\x01e\x01f",
        &["a b 0", "c d 1000", "e f 1004"],
    );
    check(b"\x16\x01\x0a\x01a\x01b", &["a b 10"]);
}

#[test]
fn packed_values_are_read() {
    check(b"\x0b\x0a\x02\0\0\0\x01\0\0\0\x05\0", &["5"]);
    check(b"\x09\x07\x01\x01f\x01\x00v\xff", &["f v 0"]);
    let list = b"\x15\x15\0\0\0\x12\0\0\0\x04\0\0\x01a\x03\xf2\x02\x01b\x03\xf3\xff";
    check(&[b"\x0a", &list[..]].concat(), &["a", "1", "b", "2"]);
    check(&[b"\x0c", &list[..]].concat(), &["a 1", "b 2"]);
    check(&[b"\x0d", &list[..]].concat(), &["a 1 0", "b 2 0"]);
    let list = b"\x0c\x0c\0\0\0\x02\0\x81a\x02\x05\x01\xff";
    check(&[b"\x10", &list[..]].concat(), &["a 5 0"]);
    check(&[b"\x11", &list[..]].concat(), &["a 5"]);
    check(&[b"\x14", &list[..]].concat(), &["a", "5"]);
}

#[test]
fn what_is_no_value_is_refused() {
    for value in [
        // A length without a form, one that is a string, one that nothing can have.
        &b"\x00\x82"[..],
        b"\x01\xc0\x01",
        b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x80\xff\xff\xff\xff",
        b"\x00\xc4",
        // No numbers.
        b"\x03\x01\x01a\xfd",
        b"\x03\x01\x01a\x03nan",
        b"\x03\x01\x01a\x01x",
        b"\x05\x01\x01a\x00\x00\x00\x00\x00\x00\xf8\x7f",
        // An end behind all times.
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x01a\x01b",
        // A module's value, and a type that is none.
        b"\x07\x01\x00",
        b"\x63",
    ] {
        assert!(parts(value).is_err(), "{}", value.escape_ascii());
    }
}
