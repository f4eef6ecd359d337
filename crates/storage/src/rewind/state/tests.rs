use std::collections::BTreeMap;

use super::*;
use crate::rewind::records::{self, Share};
use crate::rewind::{export, since};
use crate::types::stream::{self, Id};
use crate::types::{bitmap, bloom, copy, hash, hyperloglog, json, list, set, sortedint};
use crate::types::{strings, zset};
use crate::{Direction, FeedRead, Options, Store};

const NOW_MS: u64 = 1_000;
const SCOPE: Scope<'static> = Scope { namespace: b"__namespace", cluster: true, now_ms: NOW_MS };

/// A master that was deposed, and its successor, which have one history up to the fork.
struct Pair {
    deposed: Store,
    successor: Store,
    fork: u64,
    dir: tempfile::TempDir,
}

type Write<'a> = &'a dyn Fn(&mut Txn<'_>);

/// What a key's records come to: whether it had no end before, and the last record of each place.
type Folded = (bool, BTreeMap<Vec<u8>, What>);

impl Pair {
    fn new(before: &[Write<'_>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let options = Options { cluster: true, ..Options::default() };
            Store::open(&dir.path().join(name), options).unwrap()
        };
        let (deposed, successor) = (open("deposed"), open("successor"));
        let mut pair = Self { deposed, successor, fork: 0, dir };
        write(&pair.deposed, before);
        pair.fork = pair.deposed.publish().unwrap();
        let (mut feed, mut next) = (pair.deposed.feed(), 1);
        while next <= pair.fork {
            let FeedRead::Batches(batches) = feed.read(next, 1 << 20).unwrap() else {
                panic!("up to {next} of {}", pair.fork)
            };
            for batch in &batches {
                pair.successor.write_raw(&batch.data).unwrap();
                next = batch.end();
            }
        }
        pair.successor.publish().unwrap();
        pair
    }

    /// The last state of each key that was written behind the fork, as a controller folds it.
    fn states(&self) -> BTreeMap<Vec<u8>, Option<State>> {
        let folder = self.dir.path().join("discarded");
        let (path, _) = export::from_feed(&self.deposed, &folder, self.fork, 1).unwrap();
        let share = Share { part: 0, of: 1 };
        let page = records::page(&path.unwrap(), &SCOPE, 0, share).unwrap();
        assert_eq!(page.next, None);
        let mut folded = BTreeMap::<Vec<u8>, Folded>::new();
        for found in page.records {
            let key = SCOPE.user_key(&found.key).unwrap().to_vec();
            let (endless, places) = folded.entry(key).or_default();
            let (What::Put { place, .. } | What::Delete { place }) = &found.what else { panic!() };
            let place = place.clone();
            if place[0] == Family::Metadata.id() {
                let is_known = places.contains_key(&place);
                places.retain(|other, _| other[1..9] == place[1..9] && other[0] != 1);
                if let (What::Put { was_endless, .. }, false) = (&found.what, is_known) {
                    *endless = *was_endless;
                }
            }
            places.insert(place, found.what);
        }
        let state = |(key, (endless, places)): (Vec<u8>, Folded)| {
            let state = State::of(&key, endless, places.into_values().collect());
            (key, state)
        };
        folded.into_iter().map(state).collect()
    }

    fn changed(&self, key: &[u8]) -> bool {
        self.successor.publish().unwrap();
        let mut since = since::Since::new(&self.successor, &SCOPE, &[key], self.fork);
        assert_eq!(since.catch_up(|| true).unwrap(), since::Caught::Up);
        since.changed()[0]
    }

    fn judge(&self, state: &State) -> Verdict {
        self.judge_at(state, NOW_MS)
    }

    fn judge_at(&self, state: &State, now_ms: u64) -> Verdict {
        let rule = Rule::Since { is_changed: self.changed(state.key()) };
        let scope = Scope { now_ms, ..SCOPE };
        state.judge(&self.successor.txn(), &scope, rule, Some(&mut || true)).unwrap()
    }

    fn put_back(&self, state: &State) {
        let mut txn = self.successor.txn();
        state.put_back(&mut txn, &SCOPE).unwrap();
        txn.commit().unwrap();
    }
}

fn write(store: &Store, writes: &[Write<'_>]) {
    for run in writes {
        let mut txn = store.txn();
        run(&mut txn);
        txn.commit().unwrap();
    }
}

/// All of a key, as it lies on disk.
fn content(store: &Store, key: &[u8]) -> Vec<(Family, Vec<u8>, Vec<u8>)> {
    let txn = store.txn();
    let Some(value) = txn.get(Family::Metadata, &SCOPE.ns_key(key)).unwrap() else {
        return Vec::new();
    };
    let header = Header::decode(&value).unwrap();
    let mut all = vec![(Family::Metadata, Vec::new(), value.to_vec())];
    let Some((version, _)) = header.version_and_size() else { return all };
    let lower = SCOPE.sub_key_prefix(key, version);
    for family in header.kind().unwrap().families() {
        let upper = crate::prefix_end(&lower);
        let mut cursor = txn.scan(*family, &lower, &upper, Direction::Forward).unwrap();
        while let Some((sub, value)) = cursor.next().unwrap() {
            all.push((*family, sub.to_vec(), value.to_vec()));
        }
    }
    all
}

fn xadd(txn: &mut Txn<'_>, key: &[u8], ms: u64) {
    let addition = stream::Addition {
        id: stream::NewId::Given(Id { ms, seq: 1 }),
        fields: &[b"field", b"value"],
        trim: None,
        makes_stream: true,
    };
    stream::add(txn, &SCOPE.at(key), &addition).unwrap();
}

fn text() -> json::Form {
    json::Form::new(json::Format::Text, 100)
}

/// A key of every kind, or more of it where there is one.
fn every_kind(txn: &mut Txn<'_>, prefix: &str, turn: u64) {
    let name = |kind: &str| format!("{prefix}:{kind}").into_bytes();
    let word = format!("of turn {turn}").into_bytes();
    let word = word.as_slice();
    let shape = bloom::Shape::default();
    strings::set(txn, &SCOPE.at(&name("string")), word, &Default::default()).unwrap();
    hash::set(txn, &SCOPE.at(&name("hash")), &[(b"same", word), (word, b"v")]).unwrap();
    list::push(txn, &SCOPE.at(&name("list")), list::End::Left, &[word, b"x"]).unwrap();
    set::add(txn, &SCOPE.at(&name("set")), &[b"same", word]).unwrap();
    let score = if turn == 1 { 1.0 } else { 5.0 };
    let scores = [(score, &b"same"[..]), (2.0, word)];
    zset::add(txn, &SCOPE.at(&name("zset")), &scores, Default::default()).unwrap();
    sortedint::add(txn, &SCOPE.at(&name("sortedint")), &[turn, 99]).unwrap();
    xadd(txn, &name("stream"), turn);
    bitmap::set(txn, &SCOPE.at(&name("bitmap")), turn * 9_000, true).unwrap();
    bloom::insert(txn, &SCOPE.at(&name("bloom")), &[word], Some(&shape)).unwrap();
    hyperloglog::add(txn, &SCOPE.at(&name("hyperloglog")), &[word]).unwrap();
    json::set(txn, &SCOPE.at(&name("json")), text(), b"$", format!("[{turn}]").as_bytes()).unwrap();
}

const KINDS: [&str; 11] = [
    "string",
    "hash",
    "list",
    "set",
    "zset",
    "sortedint",
    "stream",
    "bitmap",
    "bloom",
    "hyperloglog",
    "json",
];

#[test]
fn keys_of_every_type_become_what_they_were_at_the_deposed_master() {
    let pair = Pair::new(&[&|txn| every_kind(txn, "old", 1), &|txn| every_kind(txn, "both", 1)]);
    write(
        &pair.deposed,
        &[
            &|txn| every_kind(txn, "old", 2),
            &|txn| every_kind(txn, "both", 2),
            &|txn| every_kind(txn, "new", 3),
            &|txn| every_kind(txn, "new", 4),
        ],
    );
    // As the successor goes on.
    write(&pair.successor, &[&|txn| every_kind(txn, "both", 5)]);
    let states = pair.states();
    assert_eq!(states.len(), 3 * KINDS.len());
    for prefix in ["old", "both", "new"] {
        for kind in KINDS {
            let key = format!("{prefix}:{kind}").into_bytes();
            let state = states[&key].as_ref().unwrap();
            let before = content(&pair.successor, &key);
            if prefix == "both" {
                assert_eq!(pair.judge(state), Verdict::Changed, "{kind}");
                continue;
            }
            assert_eq!(pair.judge(state), Verdict::Fits, "{prefix} {kind}");
            pair.put_back(state);
            let wanted = content(&pair.deposed, &key);
            assert!(!wanted.is_empty() && wanted != before, "{prefix} {kind}");
            assert_eq!(content(&pair.successor, &key), wanted, "{prefix} {kind}");
            // So it may be done again, after a failure half way.
            assert_eq!(pair.judge(state), Verdict::Same, "{prefix} {kind}");
        }
    }
}

#[test]
fn what_was_removed_made_anew_or_changed_in_place_is_so_again() {
    let pair = Pair::new(&[&|txn| {
        for key in [b"removed", b"renewed", b"inplace", b"shrunk ", b"emptied", b"string "] {
            hash::set(txn, &SCOPE.at(&key[..]), &[(b"f", b"old"), (b"g", b"old")]).unwrap();
        }
        set::add(txn, &SCOPE.at(b"other"), &[b"m"]).unwrap();
    }]);
    write(
        &pair.deposed,
        &[
            &|txn| assert_eq!(keys::del(txn, &SCOPE, &[b"removed", b"renewed"]).unwrap(), 2),
            &|txn| xadd(txn, b"renewed", 7),
            // Of this there is no record but that of the field.
            &|txn| {
                let set = hash::set(txn, &SCOPE.at(b"inplace"), &[(b"f", b"new")]);
                assert_eq!(set.unwrap(), 0);
            },
            &|txn| assert_eq!(hash::del(txn, &SCOPE.at(b"shrunk "), &[b"g"]).unwrap(), 1),
            &|txn| assert_eq!(hash::del(txn, &SCOPE.at(b"emptied"), &[b"f", b"g"]).unwrap(), 2),
            &|txn| {
                let at = SCOPE.at(b"string ");
                strings::set(txn, &at, b"v", &Default::default()).unwrap();
            },
            &|txn| copy::rename(txn, &SCOPE.at(b"other"), &SCOPE.at(b"moved")).unwrap(),
        ],
    );
    for (key, state) in pair.states() {
        let (state, name) = (state.unwrap(), key.escape_ascii().to_string());
        assert_eq!(pair.judge(&state), Verdict::Fits, "{name}");
        pair.put_back(&state);
        assert_eq!(pair.judge(&state), Verdict::Same, "{name}");
        // Metadata of size 0 is as good as none.
        let is_empty = |found: &Vec<(Family, Vec<u8>, Vec<u8>)>| match found.first() {
            Some((_, _, value)) => Header::decode(value).unwrap().is_empty(),
            None => true,
        };
        let (found, wanted) = (content(&pair.successor, &key), content(&pair.deposed, &key));
        assert!(found == wanted || is_empty(&found) && is_empty(&wanted), "{name}");
    }
    assert_eq!(hash::len(&pair.successor.txn(), &SCOPE.at(b"shrunk ")).unwrap(), 1);
    assert_eq!(stream::len(&pair.successor.txn(), &SCOPE.at(b"renewed")).unwrap(), 1);
}

/// Its members from before the fork are in no log any more, and may be in no table either.
#[test]
fn a_key_whose_end_came_at_the_master_since_is_left_alone_unless_all_of_it_is_there() {
    const LATER_MS: u64 = NOW_MS + 600_000;
    let ends = |txn: &mut Txn<'_>, key: &'static [u8]| {
        set::add(txn, &SCOPE.at(key), &[b"a", b"b"]).unwrap();
        keys::expire(txn, &SCOPE.at(key), NOW_MS + 10, Default::default()).unwrap();
    };
    let pair = Pair::new(&[&|txn| {
        for key in [&b"persisted"[..], b"added", b"all"] {
            ends(txn, key);
        }
    }]);
    write(
        &pair.deposed,
        &[
            &|txn| {
                for key in [&b"persisted"[..], b"added", b"all"] {
                    if key != b"persisted" {
                        set::add(txn, &SCOPE.at(key), &[b"c"]).unwrap();
                    }
                    assert!(keys::persist(txn, &SCOPE.at(key)).unwrap());
                }
                // With these, every member is in the export.
                set::remove(txn, &SCOPE.at(b"all"), &[b"a", b"b"]).unwrap();
                set::add(txn, &SCOPE.at(b"all"), &[b"a", b"b"]).unwrap();
            },
            &|txn| {
                let at = SCOPE.at(b"made");
                bloom::reserve(txn, &at, &bloom::Shape::default()).unwrap();
                keys::expire(txn, &at, LATER_MS + 10, Default::default()).unwrap();
            },
        ],
    );
    let states = pair.states();
    let state = |key: &[u8]| states[key].as_ref().unwrap();
    for is_compacted in [false, true] {
        if is_compacted {
            let keys = [&b"persisted"[..], b"added", b"all"].map(|key| SCOPE.ns_key(key));
            // As a compaction does it: no record says so.
            let mut txn = pair.successor.txn();
            keys.iter().for_each(|key| txn.delete(Family::Metadata, key));
            txn.commit().unwrap();
        }
        let judge = |key: &[u8]| {
            let rule = Rule::Since { is_changed: false };
            let scope = Scope { now_ms: LATER_MS, ..SCOPE };
            let txn = pair.successor.txn();
            state(key).judge(&txn, &scope, rule, Some(&mut || true)).unwrap()
        };
        assert_eq!(judge(b"persisted"), Verdict::Lapsed, "{is_compacted}");
        assert_eq!(judge(b"added"), Verdict::Lapsed, "{is_compacted}");
        assert_eq!(judge(b"all"), Verdict::Fits, "{is_compacted}");
        assert_eq!(judge(b"made"), Verdict::Fits, "{is_compacted}");
    }
    // Before its end it is what the records were written upon.
    let again = Pair::new(&[&|txn| ends(txn, b"k")]);
    write(&again.deposed, &[&|txn| assert!(keys::persist(txn, &SCOPE.at(b"k")).unwrap())]);
    let states = again.states();
    let state = states[&b"k"[..]].as_ref().unwrap();
    assert_eq!(again.judge(state), Verdict::Fits);
    again.put_back(state);
    assert_eq!(content(&again.successor, b"k"), content(&again.deposed, b"k"));
    assert_eq!(again.judge_at(state, LATER_MS), Verdict::Same);
}

#[test]
fn where_the_log_is_not_asked_only_what_is_whole_is_put_back() {
    let pair = Pair::new(&[&|txn| {
        set::add(txn, &SCOPE.at(b"part"), &[b"old"]).unwrap();
    }]);
    let members: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let members: Vec<&[u8]> = members.iter().map(String::as_bytes).collect();
    write(
        &pair.deposed,
        &[
            &|txn| assert_eq!(set::add(txn, &SCOPE.at(b"many"), &members).unwrap(), 300),
            &|txn| assert_eq!(set::add(txn, &SCOPE.at(b"part"), &[b"new"]).unwrap(), 1),
            &|txn| assert_eq!(set::add(txn, &SCOPE.at(b"whole"), &[b"new"]).unwrap(), 1),
            &|txn| xadd(txn, b"stream", 1),
            &|txn| {
                strings::set(txn, &SCOPE.at(b"string"), b"v", &Default::default()).unwrap();
            },
        ],
    );
    let judge = |state: &State, goes_on: bool| {
        state.judge(&pair.successor.txn(), &SCOPE, Rule::Absent, Some(&mut || goes_on)).unwrap()
    };
    let states = pair.states();
    let verdict = |key: &str| judge(states[key.as_bytes()].as_ref().unwrap(), true);
    assert_eq!(verdict("part"), Verdict::Exists);
    assert_eq!([verdict("whole"), verdict("string")], [Verdict::Fits; 2]);
    // Groups and their like are not counted.
    assert_eq!(verdict("stream"), Verdict::Partial);
    write(&pair.successor, &[&|txn| assert_eq!(keys::del(txn, &SCOPE, &[b"part"]).unwrap(), 1)]);
    assert_eq!(verdict("part"), Verdict::Partial);
    // What is larger than a batch may be is named; a comparison ends when it is told to.
    let many = states[&b"many"[..]].as_ref().unwrap();
    assert_eq!(judge(many, false), Verdict::Fits, "there is nothing to compare");
    pair.put_back(many);
    assert_eq!([judge(many, true), judge(many, false)], [Verdict::Same, Verdict::Ended]);
    pair.successor.set_batch_bytes_max(60);
    assert_eq!(verdict("whole"), Verdict::Large);
}

#[test]
fn records_that_fit_no_key_make_no_state() {
    let put = |family: Family, version: u64, value: &[u8]| What::Put {
        place: [&[family.id()][..], &version.to_be_bytes(), b"sub"].concat(),
        value: value.to_vec(),
        was_endless: true,
    };
    let hash = [&[0x82][..], &[0; 8], &7_u64.to_be_bytes(), &1_u64.to_be_bytes()].concat();
    let of = |records: Vec<What>| State::of(b"k", true, records);
    assert!(of(vec![put(Family::Metadata, 7, &hash), put(Family::Default, 7, b"v")]).is_some());
    assert!(of(vec![put(Family::Default, 7, b"v")]).is_some());
    for records in [
        vec![],
        vec![put(Family::Metadata, 7, &hash), put(Family::Default, 8, b"v")],
        vec![put(Family::Metadata, 7, &hash), put(Family::Stream, 7, b"v")],
        vec![put(Family::Metadata, 7, b"short")],
        vec![put(Family::Metadata, 0, &[0x8f; 30])],
        vec![put(Family::Default, 7, b"v"), put(Family::Default, 8, b"v")],
        vec![put(Family::Propagate, 7, b"v")],
        vec![What::Put { place: vec![0, 1], value: Vec::new(), was_endless: false }],
        vec![What::Large { place: vec![1; 9] }],
    ] {
        assert_eq!(of(records.clone()), None, "{records:?}");
    }
}
