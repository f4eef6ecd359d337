use proptest::prelude::*;

use super::*;
use crate::batch::Writer;
use crate::{DEFAULT_NAMESPACE, Scope};

fn scope(namespace: &'static [u8], cluster: bool) -> Scope<'static> {
    Scope { namespace, cluster, now_ms: 0 }
}

fn mine() -> Scope<'static> {
    scope(DEFAULT_NAMESPACE, false)
}

/// Commands in one line each, their words apart.
fn lines(commands: &[Command]) -> Vec<String> {
    commands.iter().map(|words| words.join(&b'|').escape_ascii().to_string()).collect()
}

/// What one batch tells of the default namespace.
fn told(write: impl FnOnce(&mut Writer)) -> Vec<String> {
    let mut writer = Writer::new(Vec::new());
    write(&mut writer);
    let mut told = Told::new(false);
    told.add(writer.finish()).unwrap();
    told.by_namespace().flat_map(|(_, commands)| lines(commands)).collect()
}

/// Metadata of this type: its end, a version, a size.
fn metadata(kind: Type, end_ms: u64) -> Vec<u8> {
    [&[0x80 | kind.id()][..], &end_ms.to_be_bytes(), &[7; 8], &[0, 0, 0, 0, 0, 0, 0, 3]].concat()
}

fn element(name: &[u8], sub: &[u8]) -> Vec<u8> {
    mine().sub_key(name, 7, sub).to_vec()
}

#[test]
fn words_with_blanks_are_known_by_keys_and_elements() {
    let inserted = |data: &'static [u8], last: &'static [u8]| {
        told(|writer| {
            writer.log(data);
            writer.put(Family::Default, &[&element(b"l", &[0; 8])], &[b"c d"]);
            writer.put(Family::Default, &[&element(b"l", &[1; 8])], &[last]);
            let key = mine().ns_key(b"l");
            writer.put(Family::Metadata, &[&key], &[&metadata(Type::List, 0)]);
        })
    };
    assert_eq!(inserted(b"3 1 1 a b c d", b"c d"), ["LINSERT|l|before|a b|c d"]);
    assert_eq!(inserted(b"3 1 0 a b c d", b"b c d"), ["LINSERT|l|after|a|b c d"]);
    // As other writers may order their records.
    assert_eq!(inserted(b"3 1 0 a b", b"x"), ["LINSERT|l|after|a|b"]);
    assert_eq!(inserted(b"3 1 0 a b c", b"x"), [""; 0], "it may be either");
    let removed = |data: &'static [u8]| {
        told(|writer| {
            writer.log(data);
            writer.delete(Family::Default, &element(b"my list", &[0; 8]));
            writer.delete(Family::Default, &element(b"my list", &[1; 8]));
        })
    };
    assert_eq!(removed(b"3 5 -2 a b"), ["LREM|my list|-2|a b"]);
    assert_eq!(removed(b"3 2 1 4"), ["LTRIM|my list|1|4"]);
    let moved = ["LMOVE|my list|to here|left|right"];
    assert_eq!(removed(b"3 12 my list to here left right"), moved);
    assert_eq!(removed(b"3 12 other to here left right"), [""; 0]);
    assert_eq!(removed(b"3 3"), ["LPOP|my list", "LPOP|my list"]);
    assert_eq!(removed(b"M7"), [""; 0], "slots that move");
}

#[test]
fn an_end_comes_behind_the_elements_and_goes_with_the_key() {
    let (key, other) = (mine().ns_key(b"h"), mine().ns_key(b"o"));
    let field = element(b"h", b"f");
    // As a copy is written.
    let copied = |writer: &mut Writer| {
        writer.log(b"2");
        writer.put(Family::Metadata, &[&key], &[&metadata(Type::Hash, 99)]);
        writer.put(Family::Default, &[&field], &[b"v"]);
    };
    assert_eq!(told(copied), ["HSET|h|f|v", "PEXPIREAT|h|99"]);
    let behind = |data: &'static [u8], end_ms: u64| {
        told(|writer| {
            copied(writer);
            writer.log(data);
            writer.put(Family::Metadata, &[&key], &[&metadata(Type::Hash, end_ms)]);
            writer.put(Family::Metadata, &[&other], &[b"\x81", &[0; 8], b"v"]);
        })
    };
    let set = "SET|o|v";
    assert_eq!(behind(log::EXPIRE, 5), ["HSET|h|f|v", "PEXPIREAT|h|5", set]);
    assert_eq!(behind(log::EXPIRE, 0), ["HSET|h|f|v", "PERSIST|h", set]);
    assert_eq!(behind(b"2", 5), ["HSET|h|f|v", set, "PEXPIREAT|h|5"]);
    let deleted = told(|writer| {
        copied(writer);
        writer.delete(Family::Metadata, &key);
    });
    assert_eq!(deleted, ["HSET|h|f|v", "DEL|h"]);
}

#[test]
fn each_namespace_has_its_commands_and_slots_are_no_part_of_keys() {
    for cluster in [false, true] {
        let mut told = Told::new(cluster);
        let other = &b"other"[..];
        for (namespace, name) in [(other, b"a"), (DEFAULT_NAMESPACE, b"b"), (other, b"c")] {
            let scope = Scope { namespace, cluster, now_ms: 0 };
            let mut writer = Writer::new(Vec::new());
            writer.log(b"4");
            writer.put(Family::Default, &[&scope.sub_key(name, 7, b"m")], &[b""]);
            writer.delete(Family::Metadata, &scope.ns_key(name));
            writer.put(Family::Stream, &[&scope.sub_key(name, 7, &[0xff; 17])], &[b"of a group"]);
            told.add(writer.finish()).unwrap();
        }
        let found: Vec<_> =
            told.by_namespace().map(|(name, commands)| (name.to_vec(), lines(commands))).collect();
        let both = |name: &&str| [format!("SADD|{name}|m"), format!("DEL|{name}")];
        let told = |names: &[&str]| names.iter().flat_map(both).collect::<Vec<String>>();
        let expected =
            [(DEFAULT_NAMESPACE.to_vec(), told(&["b"])), (b"other".to_vec(), told(&["a", "c"]))];
        assert_eq!(found, expected, "{cluster}");
    }
}

#[test]
fn bits_are_those_of_segments() {
    let segment = [0, 0b0000_0010];
    let set = |data: &'static [u8]| {
        told(|writer| {
            writer.log(data);
            writer.put(Family::Default, &[&element(b"b", b"1024")], &[&segment]);
            writer.put(Family::Default, &[&element(b"b", b"2048")], &[&segment]);
        })
    };
    let of_first = |offset: u64| format!("6 9 {offset}");
    for (offset, value) in [(8 * 1024 + 9, "1"), (8 * 1024 + 8, "0"), (8 * 1024 + 7, "0")] {
        let data = of_first(offset);
        let told = told(|writer| {
            writer.log(data.as_bytes());
            writer.put(Family::Default, &[&element(b"b", b"1024")], &[&segment]);
        });
        assert_eq!(told, [format!("SETBIT|b|{offset}|{value}")]);
    }
    assert_eq!(set(b"6 10 AND x y"), ["BITOP|AND|b|x|y"]);
    assert_eq!(set(b"6 11 SET u8 0 255"), ["BITFIELD|b|SET|u8|0|255"]);
    assert_eq!(set(b"6"), [""; 0], "a copy");
}

#[test]
fn what_is_no_batch_is_an_error() {
    assert!(Told::new(false).add(b"short").is_err());
    let no_record = [[0; 12].as_slice(), &[0xff]].concat();
    assert!(Told::new(false).add(&no_record).is_err());
}

proptest! {
    #[test]
    fn foreign_records_never_panic(
        data in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..12),
            "([0-9]|1[0-4]) ?[0-9]{0,2}( [a-z0-9]{0,3}){0,4}".prop_map(String::into_bytes),
        ],
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::collection::vec(any::<u8>(), 0..40),
        cluster: bool,
    ) {
        let mut writer = Writer::new(Vec::new());
        writer.log(&data);
        for family in [Family::Metadata, Family::Default, Family::Stream] {
            let whole = [&b"\x01n\0\0\0\x01k"[..], &key].concat();
            for key in [&key, &whole] {
                writer.put(family, &[key], &[&value]);
                writer.delete(family, key);
            }
        }
        Told::new(cluster).add(writer.finish()).unwrap();
        let _ = Told::new(cluster).add(&value);
    }
}
