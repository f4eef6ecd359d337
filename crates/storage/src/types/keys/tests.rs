use super::*;
use crate::key::DEFAULT_NAMESPACE;
use crate::types::head::{Header, Metadata};
use crate::types::keyspace::{self, Selection};
use crate::types::strings::{self, SetOptions};
use crate::types::{copy, expiry::Expiry};
use crate::{Direction, Options, Store};

const NOW_MS: u64 = 1_000_000;

struct Db {
    store: Store,
    scope: Scope<'static>,
    _dir: tempfile::TempDir,
}

fn matching(read: &impl Read, scope: &Scope<'_>, pattern: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    keyspace::keys(read, scope, pattern, |key| found.push(key.to_vec())).unwrap();
    found
}

impl Db {
    fn new(cluster: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { cluster, block_cache_size: 1 << 20, ..Options::default() };
        let scope = Scope { namespace: DEFAULT_NAMESPACE, cluster, now_ms: NOW_MS };
        Self { store: Store::open(dir.path(), options).unwrap(), scope, _dir: dir }
    }

    fn write<T>(&self, f: impl FnOnce(&mut Txn<'_>) -> T) -> T {
        let mut txn = self.store.txn();
        let outcome = f(&mut txn);
        txn.commit().unwrap();
        outcome
    }

    fn set(&self, key: &str, expire_ms: u64) {
        let expiry = if expire_ms == 0 { Expiry::Never } else { Expiry::At(expire_ms) };
        let options = SetOptions { expiry, ..SetOptions::default() };
        self.write(|txn| {
            strings::set(txn, &self.scope.at(key.as_bytes()), b"v", &options).unwrap();
        });
    }

    /// A key of any type with one sub-key in every family that may hold some.
    fn put(&self, key: &str, kind: Type) {
        self.write(|txn| {
            let mut metadata = Metadata::new(kind, 77);
            metadata.size = 1;
            txn.put(Family::Metadata, &self.scope.ns_key(key.as_bytes()), &metadata.encode());
            for family in [Family::Default, Family::ZsetScore, Family::Stream] {
                let sub_key = self.scope.sub_key(key.as_bytes(), 77, b"member");
                txn.put(family, &sub_key, b"value");
            }
        });
    }

    fn scan_all(&self, count: usize, selection: &Selection<'_>) -> Vec<String> {
        let (mut found, mut position) = (Vec::new(), Vec::new());
        loop {
            let page =
                keyspace::scan(&self.store, &self.scope, &position, count, selection).unwrap();
            assert!(page.items.len() <= count.max(2));
            found.extend(page.items.iter().map(|key| key.escape_ascii().to_string()));
            match page.next {
                Some(next) => position = next,
                None => return found,
            }
        }
    }

    fn sub_keys(&self, key: &str) -> Vec<(Family, Vec<u8>)> {
        let ns_key = self.scope.ns_key(key.as_bytes());
        let value = self.store.get(Family::Metadata, &ns_key).unwrap().unwrap();
        let (version, _) = Header::decode(&value).unwrap().version_and_size().unwrap();
        let prefix = self.scope.sub_key_prefix(key.as_bytes(), version);
        let mut found = Vec::new();
        for family in Family::ALL {
            let end = crate::key::prefix_end(&prefix);
            let mut cursor = self.store.scan(family, &prefix, &end, Direction::Forward).unwrap();
            while let Some((key, value)) = cursor.next().unwrap() {
                assert_eq!(value, b"value");
                found.push((family, key.strip_prefix(&*prefix).unwrap().to_vec()));
            }
        }
        found
    }
}

#[test]
fn lifetimes() {
    let db = Db::new(false);
    db.set("k", 0);
    let ends = |condition, at_ms| {
        db.write(|txn| expire(txn, &db.scope.at(b"k"), at_ms, condition).unwrap())
    };
    let always = ExpireCondition::default();
    let nx = ExpireCondition { only_endless: true, ..always };
    let xx = ExpireCondition { only_limited: true, ..always };
    let gt = ExpireCondition { only_later: true, ..always };
    let lt = ExpireCondition { only_earlier: true, ..always };
    assert!(!ends(xx, NOW_MS + 10));
    assert!(!ends(gt, NOW_MS + 10));
    assert!(ends(lt, NOW_MS + 1500));
    assert!(!ends(nx, NOW_MS + 10));
    assert!(!ends(gt, NOW_MS + 1500));
    assert!(ends(gt, NOW_MS + 1501));
    assert!(!ends(lt, NOW_MS + 1501));
    assert!(ends(xx, NOW_MS + 1499));
    let lifetime_of = |key: &[u8]| lifetime(&db.store, &db.scope.at(key)).unwrap();
    let lifetime = lifetime_of(b"k");
    assert_eq!((lifetime.ttl_ms(NOW_MS), lifetime.ttl_seconds(NOW_MS)), (1499, 1));
    assert_eq!((lifetime.unix_ms(), lifetime.unix_seconds()), (1_001_499, 1001));
    assert!(db.write(|txn| persist(txn, &db.scope.at(b"k")).unwrap()));
    assert!(!db.write(|txn| persist(txn, &db.scope.at(b"k")).unwrap()));
    assert_eq!(lifetime_of(b"k").ttl_seconds(NOW_MS), -1);
    assert_eq!(lifetime_of(b"x").ttl_ms(NOW_MS), -2);
    assert!(ends(always, NOW_MS - 1));
    assert_eq!(type_name(&db.store, &db.scope.at(b"k")).unwrap(), "none");
    assert!(!ends(always, NOW_MS + 10));
}

#[test]
fn deletion_counts_each_key_once() {
    let db = Db::new(false);
    for key in ["a", "b", "c"] {
        db.set(key, 0);
    }
    db.set("dead", 1);
    assert_eq!(exists(&db.store, &db.scope, &[b"a", b"a", b"dead", b"x"]).unwrap(), 2);
    let deleted = db.write(|txn| del(txn, &db.scope, &[b"a", b"dead", b"a", b"b", b"x"]).unwrap());
    assert_eq!(deleted, 2);
    assert_eq!(exists(&db.store, &db.scope, &[b"a", b"b", b"c"]).unwrap(), 1);
    let before = db.store.latest_sequence();
    assert_eq!(db.write(|txn| del(txn, &db.scope, &[b"a", b"dead"]).unwrap()), 0);
    assert_eq!(db.store.latest_sequence(), before);
}

#[test]
fn types_have_names() {
    let db = Db::new(true);
    for kind in Type::ALL.into_iter().filter(|kind| !kind.is_single()) {
        db.put(kind.name(), kind);
        assert_eq!(
            type_name(&db.store, &db.scope.at(kind.name().as_bytes())).unwrap(),
            kind.name()
        );
    }
    db.write(|txn| txn.put(Family::Metadata, &db.scope.ns_key(b"later"), b"\x8f\0\0\0\0\0\0\0\0"));
    assert_eq!(type_name(&db.store, &db.scope.at(b"later")).unwrap(), "unknown");
    let refused = strings::get(&db.store, &db.scope.at(b"later"));
    assert!(matches!(refused, Err(CommandError::WrongType)));
}

#[test]
fn copies_carry_all_sub_keys() {
    for cluster in [false, true] {
        let db = Db::new(cluster);
        for kind in Type::ALL.into_iter().filter(|kind| !kind.is_single()) {
            db.put("{t}a", kind);
            assert!(db.write(|txn| {
                copy::copy(txn, &db.scope.at(b"{t}a"), &db.scope.at(b"{t}b"), false).unwrap()
            }));
            let expected: Vec<_> = match kind {
                Type::Zset => vec![Family::Default, Family::ZsetScore],
                Type::Stream => vec![Family::Stream],
                _ => vec![Family::Default],
            };
            let expected: Vec<_> = expected.into_iter().map(|f| (f, b"member".to_vec())).collect();
            assert_eq!(db.sub_keys("{t}b"), expected);
            assert!(!db.write(|txn| {
                copy::copy(txn, &db.scope.at(b"{t}a"), &db.scope.at(b"{t}b"), false).unwrap()
            }));
            assert!(!db.write(|txn| {
                copy::renamenx(txn, &db.scope.at(b"{t}a"), &db.scope.at(b"{t}b")).unwrap()
            }));
            db.write(|txn| {
                copy::rename(txn, &db.scope.at(b"{t}a"), &db.scope.at(b"{t}b")).unwrap()
            });
            assert_eq!(db.sub_keys("{t}b"), expected);
            assert_eq!(type_name(&db.store, &db.scope.at(b"{t}a")).unwrap(), "none");
            db.write(|txn| del(txn, &db.scope, &[b"{t}b"]).unwrap());
        }
        let missing = db.write(|txn| copy::rename(txn, &db.scope.at(b"x"), &db.scope.at(b"y")));
        assert!(matches!(missing, Err(CommandError::NoSuchKey)));
        assert!(
            !db.write(|txn| copy::copy(txn, &db.scope.at(b"x"), &db.scope.at(b"y"), true).unwrap())
        );
    }
}

#[test]
fn a_rename_there_and_back_revives_nothing() {
    let db = Db::new(false);
    db.put("a", Type::Hash);
    db.write(|txn| copy::rename(txn, &db.scope.at(b"a"), &db.scope.at(b"b")).unwrap());
    let ns_key = db.scope.ns_key(b"b");
    let value = db.store.get(Family::Metadata, &ns_key).unwrap().unwrap();
    let metadata = Metadata::decode(&value, Type::Hash, NOW_MS).unwrap().unwrap();
    db.write(|txn| {
        txn.delete(Family::Default, &db.scope.sub_key(b"b", metadata.version, b"member"));
        txn.put(Family::Default, &db.scope.sub_key(b"b", metadata.version, b"other"), b"value");
    });
    db.write(|txn| copy::rename(txn, &db.scope.at(b"b"), &db.scope.at(b"a")).unwrap());
    assert_eq!(db.sub_keys("a"), [(Family::Default, b"other".to_vec())]);
}

#[test]
fn scans_find_every_key_once() {
    for cluster in [false, true] {
        let db = Db::new(cluster);
        let mut expected: Vec<String> = (0..50).map(|n| format!("key:{n}")).collect();
        expected.push(String::new());
        for key in &expected {
            db.set(key, 0);
        }
        db.set("dead", 1);
        db.put("hash", Type::Hash);
        let other = Scope { namespace: b"other", ..db.scope };
        db.write(|txn| {
            strings::set(txn, &other.at(b"elsewhere"), b"v", &SetOptions::default()).unwrap();
        });
        let strings = Selection { type_name: Some(b"STRING"), ..Selection::default() };
        expected.sort();
        for count in [1, 2, 7, 1000] {
            let mut found = db.scan_all(count, &strings);
            found.sort();
            assert_eq!(found, expected);
        }
        let tens = Selection { pattern: Some(b"key:1?"), ..Selection::default() };
        assert_eq!(db.scan_all(3, &tens).len(), 10);
        assert_eq!(matching(&db.store, &db.scope, b"*h*"), [b"hash"]);
        let census = keyspace::census(&db.store, &db.scope, || true).unwrap();
        assert_eq!((census.keys, census.expired, census.expires), (52, 1, 0));
        let random = keyspace::random_key(&db.store, &db.scope).unwrap().unwrap();
        assert_eq!(exists(&db.store, &db.scope, &[&random]).unwrap(), 1);
        db.write(|txn| keyspace::flush_namespace(txn, &db.scope));
        assert!(keyspace::random_key(&db.store, &db.scope).unwrap().is_none());
        assert_eq!(matching(&db.store, &other, b"*").len(), 1);
        db.write(|txn| keyspace::flush_all(txn).unwrap());
        assert_eq!(matching(&db.store, &other, b"*").len(), 0);
        let before = db.store.latest_sequence();
        db.write(|txn| keyspace::flush_all(txn).unwrap());
        assert_eq!(db.store.latest_sequence(), before);
    }
}

#[test]
fn a_census_of_keys_that_have_ended_can_be_ended_too() {
    let db = Db::new(false);
    for number in 0..1100 {
        db.set(&format!("dead:{number}"), 1);
    }
    let whole = keyspace::census(&db.store, &db.scope, || true).unwrap();
    assert_eq!((whole.keys, whole.expired), (0, 1100));
    let ended = keyspace::census(&db.store, &db.scope, || false).unwrap();
    assert_eq!((ended.keys, ended.expired), (0, 1023));
}

#[test]
fn slots() {
    let db = Db::new(true);
    for key in ["{a}1", "{a}2", "{a}3", "b"] {
        db.set(key, 0);
    }
    db.set("{a}dead", 1);
    let slot = crate::key::key_slot(b"a");
    assert_eq!(keyspace::count_in_slot(&db.store, &db.scope, slot).unwrap(), 3);
    let keys = keyspace::keys_in_slot(&db.store, &db.scope, slot, 2).unwrap();
    assert_eq!(keys, [b"{a}1", b"{a}2"]);
    db.write(|txn| keyspace::delete_slot(txn, &db.scope, slot));
    assert_eq!(keyspace::count_in_slot(&db.store, &db.scope, slot).unwrap(), 0);
    assert_eq!(exists(&db.store, &db.scope, &[b"b"]).unwrap(), 1);
}

#[test]
fn a_multi_sees_its_own_deletes() {
    let db = Db::new(false);
    db.set("a", 0);
    let mut txn = db.store.txn();
    assert_eq!(del(&mut txn, &db.scope, &[b"a"]).unwrap(), 1);
    assert_eq!(del(&mut txn, &db.scope, &[b"a"]).unwrap(), 0);
    assert_eq!(strings::incrby(&mut txn, &db.scope.at(b"a"), 4).unwrap(), 4);
    assert_eq!(strings::incrby(&mut txn, &db.scope.at(b"a"), 4).unwrap(), 8);
    assert_eq!(&*strings::get(&txn, &db.scope.at(b"a")).unwrap().unwrap(), b"8");
    copy::rename(&mut txn, &db.scope.at(b"a"), &db.scope.at(b"b")).unwrap();
    assert_eq!(matching(&txn, &db.scope, b"*"), [b"b"]);
    txn.commit().unwrap();
    assert_eq!(matching(&db.store, &db.scope, b"*"), [b"b"]);
}
