use super::*;

fn all(mut packed: Packed<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = Vec::new();
    while let Some(item) = packed.next()? {
        found.push(item.text().into_owned());
    }
    Ok(found)
}

#[test]
fn every_form_of_an_element_of_a_ziplist_is_read() {
    let long = "x".repeat(300);
    let mut elements = vec![
        b"\x01a".to_vec(),
        [b"\x41\x2c".as_slice(), long.as_bytes()].concat(),
        [b"\x80\x00\x00\x01\x2c".as_slice(), long.as_bytes()].concat(),
        b"\xc0\xfe\xff".to_vec(),
        b"\xd0\x00\x00\x01\x00".to_vec(),
        b"\xe0\x00\x00\x00\x00\x01\x00\x00\x00".to_vec(),
        b"\xf0\xff\xff\x7f".to_vec(),
        b"\xfe\x80".to_vec(),
        b"\xf1".to_vec(),
        b"\xfd".to_vec(),
    ];
    let mut body = Vec::new();
    let mut before = 0;
    for element in &mut elements {
        let prefix = match before {
            0..254 => vec![before as u8],
            _ => [&b"\xfe"[..], &(before as u32).to_le_bytes()].concat(),
        };
        let element = [prefix, element.clone()].concat();
        before = element.len();
        body.extend(element);
    }
    let mut list = ((body.len() + 11) as u32).to_le_bytes().to_vec();
    list.extend(b"\x0a\0\0\0\x0a\0");
    list.extend(&body);
    list.push(END);
    let expected = ["a", &long, &long, "-2", "65536", "4294967296", "8388607", "-128", "0", "12"];
    assert_eq!(all(Packed::ziplist(&list).unwrap()).unwrap(), expected.map(str::as_bytes));
    // Every cut is noticed, and so is a count that is another one.
    for end in 0..list.len() {
        assert!(Packed::ziplist(&list[..end]).and_then(all).is_err(), "{end}");
    }
    list[8] = 9;
    assert!(Packed::ziplist(&list).and_then(all).is_err());
}

#[test]
fn every_form_of_an_element_of_a_listpack_is_read() {
    let middle = "y".repeat(100);
    let long = "z".repeat(5000);
    let elements = [
        b"\x05".to_vec(),
        b"\x81a".to_vec(),
        b"\xdf\xff".to_vec(),
        b"\xcf\xff".to_vec(),
        [b"\xe0\x64".as_slice(), middle.as_bytes()].concat(),
        [b"\xf0\x88\x13\0\0".as_slice(), long.as_bytes()].concat(),
        b"\xf1\x00\x80".to_vec(),
        b"\xf2\x00\x00\x80".to_vec(),
        b"\xf3\x00\x00\x00\x80".to_vec(),
        b"\xf4\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(),
    ];
    let mut body = Vec::new();
    for element in &elements {
        body.extend(element);
        body.extend(back_length(element.len()));
    }
    let mut list = ((body.len() + 7) as u32).to_le_bytes().to_vec();
    list.extend(b"\xff\xff");
    list.extend(&body);
    list.push(END);
    let expected = [
        "5",
        "a",
        "-1",
        "4095",
        &middle,
        &long,
        "-32768",
        "-8388608",
        "-2147483648",
        "9223372036854775807",
    ];
    assert_eq!(all(Packed::listpack(&list).unwrap()).unwrap(), expected.map(str::as_bytes));
    for end in 0..list.len() {
        assert!(Packed::listpack(&list[..end]).and_then(all).is_err(), "{end}");
    }
}

#[test]
fn lengths_behind_elements_are_those_of_redis() {
    for (length, bytes) in [
        (1, &b"\x01"[..]),
        (127, b"\x7f"),
        (128, b"\x01\x80"),
        (16382, b"\x7f\xfe"),
        (16383, b"\x00\xff\xff"),
        (16384, b"\x01\x80\x80"),
    ] {
        assert_eq!(back_length(length), bytes, "{length}");
    }
}

#[test]
fn sets_of_integers_and_zipmaps_are_read() {
    let mut found = Vec::new();
    let mut keep = |number| {
        found.push(number);
        Ok::<_, Error>(())
    };
    integers(b"\x02\0\0\0\x02\0\0\0\xff\xff\x05\0", &mut keep).unwrap();
    integers(b"\x04\0\0\0\x01\0\0\0\0\0\x01\0", &mut keep).unwrap();
    integers(b"\x08\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0", &mut keep).unwrap();
    assert_eq!(found, [-1, 5, 65536, 1 << 32]);
    for wrong in [
        &b"\x02\0\0\0\x03\0\0\0\xff\xff\x05\0"[..],
        b"\x03\0\0\0\x00\0\0\0",
        b"\x00\0\0\0\xff\xff\xff\xff",
        b"\x02\0\0\0",
    ] {
        assert!(integers(wrong, |_| Ok::<_, Error>(())).is_err(), "{}", wrong.escape_ascii());
    }
    let mut pairs = Vec::new();
    let map = b"\x02\x01a\x02\x01xyf\x03abc\xfe\x01\0\0\0\0z\xff";
    zipmap(map, |field, value| {
        pairs.push((field.to_vec(), value.to_vec()));
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(pairs, [(b"a".to_vec(), b"xy".to_vec()), (b"abc".to_vec(), b"z".to_vec())]);
    for end in 0..map.len() {
        assert!(zipmap(&map[..end], |_, _| Ok::<_, Error>(())).is_err(), "{end}");
    }
}
