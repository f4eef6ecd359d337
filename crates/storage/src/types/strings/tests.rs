use super::*;
use crate::key::DEFAULT_NAMESPACE;
use crate::types::keys::{self, Lifetime};
use crate::{Options, Store};

const NOW_MS: u64 = 1_000_000;
const SCOPE: Scope<'static> =
    Scope { namespace: DEFAULT_NAMESPACE, cluster: false, now_ms: NOW_MS };

struct Db {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Db {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { block_cache_size: 1 << 20, ..Options::default() };
        Self { store: Store::open(dir.path(), options).unwrap(), _dir: dir }
    }

    fn write<T>(&self, f: impl FnOnce(&mut Txn<'_>) -> T) -> T {
        let mut txn = self.store.txn();
        let outcome = f(&mut txn);
        txn.commit().unwrap();
        outcome
    }

    fn set(&self, key: &str, value: &str) {
        self.write(|txn| {
            set(txn, &SCOPE.at(key.as_bytes()), value.as_bytes(), &SetOptions::default()).unwrap();
        });
    }

    fn get(&self, key: &str) -> Option<String> {
        get(&self.store, &SCOPE.at(key.as_bytes())).unwrap().map(|p| text(&p))
    }

    fn lifetime(&self, key: &str) -> Lifetime {
        keys::lifetime(&self.store, &SCOPE.at(key.as_bytes())).unwrap()
    }

    fn put_hash(&self, key: &str) {
        self.write(|txn| {
            let mut metadata = crate::types::head::Metadata::new(Type::Hash, 1);
            metadata.size = 1;
            txn.put(Family::Metadata, &SCOPE.ns_key(key.as_bytes()), &metadata.encode());
        });
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn with(condition: Condition<'_>, expiry: Expiry, get: bool) -> SetOptions<'_> {
    SetOptions { condition, expiry, get }
}

#[test]
fn set_and_its_options() {
    let db = Db::new();
    let run = |key: &str, value: &str, options: SetOptions<'_>| {
        let mut txn = db.store.txn();
        let outcome = set(&mut txn, &SCOPE.at(key.as_bytes()), value.as_bytes(), &options).unwrap();
        let answer = (outcome.is_set, outcome.old.as_deref().map(text));
        txn.commit().unwrap();
        answer
    };
    let old = |value: &str| Some(value.to_owned());
    assert_eq!(run("k", "1", with(Condition::IfPresent, Expiry::Never, false)), (false, None));
    assert_eq!(
        run("k", "1", with(Condition::IfAbsent, Expiry::At(NOW_MS + 5), false)),
        (true, None)
    );
    assert_eq!(run("k", "2", with(Condition::IfAbsent, Expiry::Never, true)), (false, old("1")));
    assert_eq!(db.lifetime("k"), Lifetime::Until(NOW_MS + 5));
    assert_eq!(run("k", "3", with(Condition::IfPresent, Expiry::Keep, true)), (true, old("1")));
    assert_eq!(db.lifetime("k"), Lifetime::Until(NOW_MS + 5));
    assert_eq!(run("k", "4", SetOptions::default()), (true, None));
    assert_eq!(db.lifetime("k"), Lifetime::Endless);
    assert_eq!(db.get("k").as_deref(), Some("4"));
    // In the past: absent at once.
    assert_eq!(run("k", "5", with(Condition::Always, Expiry::At(1), false)), (true, None));
    assert_eq!(db.get("k"), None);
    assert_eq!(run("k", "6", with(Condition::IfAbsent, Expiry::Keep, false)), (true, None));
    assert_eq!(db.lifetime("k"), Lifetime::Endless);
    // Over another type, unless its value is asked for.
    db.put_hash("h");
    let mut txn = db.store.txn();
    let refused =
        set(&mut txn, &SCOPE.at(b"h"), b"v", &with(Condition::Always, Expiry::Never, true));
    assert!(matches!(refused, Err(CommandError::WrongType)));
    drop(txn);
    assert!(matches!(get(&db.store, &SCOPE.at(b"h")), Err(CommandError::WrongType)));
    db.set("h", "v");
    assert_eq!(db.get("h").as_deref(), Some("v"));
}

#[test]
fn many_keys() {
    let db = Db::new();
    db.put_hash("h");
    let write = |pairs: &[(&[u8], &[u8])]| db.write(|txn| msetnx(txn, &SCOPE, pairs).unwrap());
    assert!(write(&[(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]));
    assert!(!write(&[(b"c", b"1"), (b"b", b"9")]));
    let mut values = Vec::new();
    mget(&db.store, &SCOPE, &[b"a", b"h", b"x", b"b"], u64::MAX, |value| {
        values.push(value.map(text))
    })
    .unwrap();
    assert_eq!(values, [Some("3".to_owned()), None, None, Some("2".to_owned())]);
    assert_eq!(db.get("c"), None);
}

#[test]
fn ranges() {
    let db = Db::new();
    db.set("k", "Hello");
    for (start, end, expected) in [
        (0, -1, "Hello"),
        (1, 3, "ell"),
        (-3, -1, "llo"),
        (-1, -3, ""),
        (3, 1, ""),
        (10, 20, ""),
        (-100, 1, "He"),
        (0, 100, "Hello"),
        (-100, -100, "H"),
        (i64::MIN, i64::MAX, "Hello"),
        (i64::MAX, i64::MIN, ""),
    ] {
        let found = getrange(&db.store, &SCOPE.at(b"k"), start, end).unwrap().unwrap();
        assert_eq!(text(&found), expected, "{start} {end}");
    }
    assert!(getrange(&db.store, &SCOPE.at(b"x"), 0, -1).unwrap().is_none());
    let patch = |key: &str, offset, patch: &str| {
        db.write(|txn| setrange(txn, &SCOPE.at(key.as_bytes()), offset, patch.as_bytes()))
    };
    assert_eq!(patch("k", 6, "World").unwrap(), 11);
    assert_eq!(db.get("k").as_deref(), Some("Hello\\x00World"));
    assert_eq!(patch("k", 1, "E").unwrap(), 11);
    assert_eq!(patch("none", 5, "").unwrap(), 0);
    assert_eq!(db.get("none"), None);
    assert!(matches!(patch("k", -1, "x"), Err(CommandError::OffsetOutOfRange)));
    assert!(matches!(patch("k", MAX_BYTES as i64, "x"), Err(CommandError::TooLong)));
    assert!(matches!(patch("k", i64::MAX, "x"), Err(CommandError::TooLong)));
    assert_eq!(strlen(&db.store, &SCOPE.at(b"k")).unwrap(), 11);
    assert_eq!(db.write(|txn| append(txn, &SCOPE.at(b"k"), b"!").unwrap()), 12);
    assert_eq!(db.write(|txn| append(txn, &SCOPE.at(b"new"), b"").unwrap()), 0);
    assert_eq!(db.get("new").as_deref(), Some(""));
}

#[test]
fn counters() {
    let db = Db::new();
    let add = |key: &str, delta| db.write(|txn| incrby(txn, &SCOPE.at(key.as_bytes()), delta));
    assert_eq!(add("n", 5).unwrap(), 5);
    assert_eq!(add("n", -7).unwrap(), -2);
    db.set("n", "9223372036854775807");
    assert!(matches!(add("n", 1), Err(CommandError::Overflow)));
    db.set("n", " 1");
    assert!(matches!(add("n", 1), Err(CommandError::NotAnInteger)));
    let add = |key: &str, by: &str| {
        db.write(|txn| incrbyfloat(txn, &SCOPE.at(key.as_bytes()), by.as_bytes())).map(|v| text(&v))
    };
    assert_eq!(add("f", "1.5").unwrap(), "1.5");
    assert_eq!(add("f", "-0.5").unwrap(), "1");
    assert!(matches!(add("n", "1"), Err(CommandError::NotAFloat)));
    // The time to live stays.
    db.write(|txn| {
        let options = with(Condition::Always, Expiry::At(NOW_MS + 9), false);
        set(txn, &SCOPE.at(b"t"), b"1", &options).unwrap();
    });
    db.write(|txn| incrby(txn, &SCOPE.at(b"t"), 1).unwrap());
    db.write(|txn| append(txn, &SCOPE.at(b"t"), b"0").unwrap());
    db.write(|txn| setrange(txn, &SCOPE.at(b"t"), 0, b"3").unwrap());
    assert_eq!(db.get("t").as_deref(), Some("30"));
    assert_eq!(db.lifetime("t"), Lifetime::Until(NOW_MS + 9));
}

#[test]
fn a_counter_goes_on_from_what_the_transaction_has_written() {
    let db = Db::new();
    let [n, old, bits, other] = ["n", "old", "bits", "other"].map(|key| SCOPE.at(key.as_bytes()));
    db.put_hash("other");
    db.write(|txn| {
        set(txn, &n, b"7", &with(Condition::Always, Expiry::At(NOW_MS + 9), false)).unwrap();
        set(txn, &old, b"7", &with(Condition::Always, Expiry::At(NOW_MS - 9), false)).unwrap();
        // The bits of a 1 as text.
        for bit in [2, 3, 7] {
            bitmap::set(txn, &bits, bit, true).unwrap();
        }
        let mut add = |at| [3, 4].map(|delta| incrby(txn, at, delta).unwrap());
        assert_eq!((add(&n), add(&old), add(&bits)), ([10, 14], [3, 7], [4, 8]));
        assert!(matches!(incrby(txn, &other, 1), Err(CommandError::WrongType)));
        txn.delete(Family::Metadata, &n.ns_key);
        assert_eq!(incrby(txn, &n, 1).unwrap(), 1);
        set(txn, &old, b"x", &SetOptions::default()).unwrap();
        assert!(matches!(incrby(txn, &old, 1), Err(CommandError::NotAnInteger)));
    });
    assert_eq!((db.get("n").as_deref(), db.get("bits").as_deref()), (Some("1"), Some("8")));
}

#[test]
fn get_and_change() {
    let db = Db::new();
    db.set("k", "v");
    let getex = |expiry| {
        let before = db.store.latest_sequence();
        let found = db
            .write(|txn| getex(txn, &SCOPE.at(b"k"), expiry, u64::MAX).unwrap().map(|p| text(&p)));
        (found.is_some(), db.store.latest_sequence() - before)
    };
    assert_eq!(getex(None), (true, 0));
    assert_eq!(getex(Some(Expiry::Never)), (true, 0));
    assert_eq!(getex(Some(Expiry::At(NOW_MS + 1))), (true, 1));
    assert_eq!(getex(Some(Expiry::Never)), (true, 1));
    assert_eq!(db.lifetime("k"), Lifetime::Endless);
    assert_eq!(getex(Some(Expiry::At(1))), (true, 1));
    assert_eq!(getex(None), (false, 0));
    db.set("k", "v");
    let cas = |old: &[u8], new: &[u8]| {
        db.write(|txn| cas(txn, &SCOPE.at(b"k"), old, new, Expiry::Never).unwrap())
    };
    assert_eq!(cas(b"x", b"y"), Compared::Different);
    assert_eq!(cas(b"v", b"w"), Compared::Equal);
    let cad = |old: &[u8]| db.write(|txn| cad(txn, &SCOPE.at(b"k"), old).unwrap());
    assert_eq!(cad(b"v"), Compared::Different);
    assert_eq!(cad(b"w"), Compared::Equal);
    assert_eq!(cad(b"w"), Compared::Absent);
    db.set("k", "v");
    assert_eq!(
        db.write(|txn| getdel(txn, &SCOPE.at(b"k")).unwrap().map(|p| text(&p))),
        Some("v".into())
    );
    assert_eq!(db.get("k"), None);
}

#[test]
fn old_form_stays_readable_and_keeps_its_form() {
    let db = Db::new();
    let key = SCOPE.ns_key(b"k");
    // 32-bit form: expires at second 2000.
    db.write(|txn| txn.put(Family::Metadata, &key, b"\x01\0\0\x07\xd05"));
    assert_eq!(db.get("k").as_deref(), Some("5"));
    assert_eq!(db.lifetime("k"), Lifetime::Until(2_000_000));
    db.write(|txn| incrby(txn, &SCOPE.at(b"k"), 1).unwrap());
    let stored = db.store.get(Family::Metadata, &key).unwrap().unwrap();
    assert_eq!(text(&stored), text(b"\x01\0\0\x07\xd06"));
}

#[test]
fn a_condition_on_the_value_decides_who_writes_and_deletes() {
    use super::compared::{Comparison, With, delex, digest};
    let db = Db::new();
    let of = |with, is_equal| Comparison { with, is_equal };
    let set = |value: &str, condition, get| {
        let options = with(Condition::If(condition), Expiry::Keep, get);
        let outcome = db.write(|txn| {
            let outcome = set(txn, &SCOPE.at(b"k"), value.as_bytes(), &options).unwrap();
            (outcome.is_set, outcome.old.map(|old| text(&old)))
        });
        (outcome.0, outcome.1, db.get("k"))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(set("1", of(With::Value(b"0"), true), false), (false, None, None));
    assert_eq!(set("1", of(With::Value(b"0"), false), true), (true, None, some("1")));
    assert_eq!(set("2", of(With::Value(b"1"), false), true), (false, some("1"), some("1")));
    assert_eq!(set("2", of(With::Value(b"1"), true), false), (true, None, some("2")));
    let of_two = digest(b"2");
    let same = With::Digest(of_two.as_bytes());
    assert_eq!(set("3", of(same, false), false), (false, None, some("2")));
    assert_eq!(set("3", of(same, true), true), (true, some("2"), some("3")));
    let delex = |condition| db.write(|txn| delex(txn, &SCOPE.at(b"k"), &condition).unwrap());
    assert!(!delex(of(same, true)) && !delex(of(With::Value(b"3"), false)));
    let before = db.store.latest_sequence();
    assert!(delex(of(same, false)));
    assert_eq!((db.get("k"), db.store.latest_sequence()), (None, before + 1));
    assert!(!delex(of(same, false)), "there is nothing to delete");
}

#[test]
fn several_strings_are_written_with_one_end_or_not_at_all() {
    let db = Db::new();
    let run = |pairs: &[(&str, &str)], how| {
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
        db.write(|txn| msetex(txn, &SCOPE, &pairs, how).unwrap())
    };
    let end = Expiry::At(NOW_MS + 500);
    assert!(!run(&[("a", "1"), ("b", "1")], (Condition::IfPresent, end)));
    assert!(run(&[("a", "1"), ("b", "2")], (Condition::IfAbsent, end)));
    assert_eq!([db.lifetime("a"), db.lifetime("b")], [Lifetime::Until(NOW_MS + 500); 2]);
    assert!(!run(&[("a", "3"), ("c", "3")], (Condition::IfAbsent, Expiry::Never)));
    assert!(!run(&[("a", "3"), ("c", "3")], (Condition::IfPresent, Expiry::Never)));
    assert_eq!([db.get("a"), db.get("c")], [Some("1".into()), None]);
    assert!(run(&[("a", "4"), ("a", "5"), ("c", "6")], (Condition::Always, Expiry::Keep)));
    assert_eq!([db.get("a"), db.get("c")], [Some("5".into()), Some("6".into())]);
    assert_eq!(db.lifetime("a"), Lifetime::Until(NOW_MS + 500));
    assert_eq!(db.lifetime("c"), Lifetime::Endless);
    assert!(run(&[("a", "7"), ("b", "8")], (Condition::IfPresent, Expiry::Never)));
    assert_eq!(db.lifetime("a"), Lifetime::Endless);
}
