use super::*;

/// A file as Redis 7 writes it, but for its checksum, which is 0.
const FILE: &[u8] = b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0\x40\
    \xfe\x00\xfb\x03\x01\x00\x01a\x01x\xfc\x10\x27\0\0\0\0\0\0\x00\x01b\xc0\x05\
    \xf8\x05\xf9\x07\x02\x01s\x01\x01m\xf5\x03lib\xfe\x02\xfd\x0a\0\0\0\x00\x01c\x01y\
    \xf7\x01\x02\x02\x05\x01q\x00\x07\x01m\x09\x02\x05\x04\0\0\0\0\0\0\0\0\x00\
    \xff\0\0\0\0\0\0\0\0";

fn all(bytes: &[u8]) -> Result<Vec<String>, Error> {
    let mut file = File::open(bytes)?;
    let mut found = Vec::new();
    loop {
        match file.read_next()? {
            Next::Key(key) if key.code == 7 => {
                file.pass(&key)?;
                found.push("module".to_owned());
            }
            Next::Key(key) => {
                let Key { db, name, expire_ms, .. } = &key;
                let mut text = format!("{db} {} {expire_ms}", name.escape_ascii());
                file.value(&key, &mut |part| {
                    text.push_str(&format!(" {part:?}"));
                    Ok::<_, Error>(())
                })?;
                found.push(text);
            }
            Next::Library(code) => found.push(code.escape_ascii().to_string()),
            Next::End => return Ok(found),
        }
    }
}

#[test]
fn keys_come_with_their_databases_and_ends() {
    let expected = [
        "0 a 0 String([120])",
        "0 b 10000 String([53])",
        "0 s 0 Member([109])",
        "lib",
        "2 c 10000 String([121])",
        "module",
    ];
    assert_eq!(all(FILE).unwrap(), expected);
    for end in 0..FILE.len() {
        assert!(all(&FILE[..end]).is_err(), "{end}");
    }
}

#[test]
fn a_wrong_checksum_and_a_later_version_are_refused() {
    let mut summed = FILE.to_vec();
    let at = summed.len() - 8;
    let mut reader = Reader::new(&FILE[..at]);
    reader.bytes(at as u64).unwrap();
    summed[at..].copy_from_slice(&reader.checksum().to_le_bytes());
    assert_eq!(all(&summed).unwrap().len(), 6);
    summed[at] ^= 1;
    assert!(matches!(all(&summed), Err(Error::Footer)));
    for head in [&b"REDIS0013"[..], b"REDIS0000", b"REDIS00x1", b"RODIS0010"] {
        let file = [head, &FILE[9..]].concat();
        assert!(matches!(all(&file), Err(Error::Malformed(_))), "{}", head.escape_ascii());
    }
}
