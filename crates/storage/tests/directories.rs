//! Opens data directories of a real Kvrocks, and replicates their whole history.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;
use storage::types::bitmap::{Bits, Span};
use storage::types::geo::{self, Point};
use storage::types::hyperloglog;
use storage::types::json as documents;
use storage::types::keys::{self, Lifetime};
use storage::types::score;
use storage::types::sortedint;
use storage::types::stream::{self, Filter, Span as Entries};
use storage::types::strings;
use storage::types::zset::{self, Part, Range};
use storage::{At, Direction, Family, FeedRead, Options, Read, Scope, Store};

/// Keys of the recordings end in 2100 or ended long ago.
const NOW_MS: u64 = 2_000_000_000_000;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kvrocks").join(name)
}

fn lines(name: &str) -> Vec<Json> {
    let output = Command::new("gzip").arg("-dc").arg(fixture(name)).output().unwrap();
    assert!(output.status.success(), "gzip {name}");
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn unpack(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .arg("-xzf")
        .arg(fixture(&format!("{name}.tar.gz")))
        .arg("-C")
        .arg(dir.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "tar {name}");
    dir
}

fn options(cluster: bool) -> Options {
    Options {
        cluster,
        block_cache_size: 8 << 20,
        // Nothing is filtered, and the old files of the archive stay.
        disable_auto_compactions: true,
        wal_ttl_seconds: 1 << 40,
        ..Options::default()
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn unbase64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

fn pairs(store: &Store) -> Vec<(Family, Vec<u8>, Vec<u8>)> {
    let mut pairs = Vec::new();
    for family in Family::ALL {
        let mut cursor = store.scan(family, b"", b"", Direction::Forward).unwrap();
        while let Some((key, value)) = cursor.next().unwrap() {
            pairs.push((family, key.to_vec(), value.to_vec()));
        }
    }
    pairs
}

fn check_raw(store: &Store, name: &str) {
    let raw = lines(&format!("{name}.raw.jsonl.gz"));
    assert_eq!(Some(store.latest_sequence()), raw[0]["latest_seq"].as_u64());
    let mut expected: Vec<_> = raw[1..]
        .iter()
        .map(|pair| {
            let family = Family::ALL.into_iter().find(|f| f.name() == pair["cf"]).unwrap();
            let text = |field: &str| unhex(pair[field].as_str().unwrap());
            (family, text("k"), text("v"))
        })
        .collect();
    expected.sort();
    assert!(pairs(store) == expected, "raw pairs of {name} differ");
}

fn check_keys(store: &Store, name: &str, cluster: bool) {
    let expected = lines(&format!("{name}.expected.jsonl.gz"));
    assert!(expected.len() > 20);
    for line in expected {
        let namespace = line["ns"].as_str().unwrap();
        let scope = Scope { namespace: namespace.as_bytes(), cluster, now_ms: NOW_MS };
        let key = unbase64(line["key"].as_str().unwrap());
        let kind = line["type"].as_str().unwrap();
        let context = format!("{name} {}", key.escape_ascii());
        assert_eq!(keys::type_name(store, &scope.at(&key)).unwrap(), kind, "{context}");
        let exists = keys::exists(store, &scope, &[&key]).unwrap();
        assert_eq!(exists, u64::from(kind != "none"), "{context}");
        let lifetime = match (kind, line["ttl"].as_u64()) {
            ("none", _) => Lifetime::Absent,
            (_, None) => Lifetime::Endless,
            (_, Some(at)) => Lifetime::Until(at),
        };
        assert_eq!(keys::lifetime(store, &scope.at(&key)).unwrap(), lifetime, "{context}");
        if kind == "string" {
            let value = strings::get(store, &scope.at(&key)).unwrap().unwrap();
            assert!(*value == *unbase64(line["value"].as_str().unwrap()), "{context}");
        }
        if kind == "zset" {
            let range = Range::of(Part::Ranks(0, -1));
            let found = zset::range(&store.txn(), &scope.at(&key), &range).unwrap();
            let found: Vec<_> =
                found.iter().map(|(member, at)| (member.clone(), score::format(*at))).collect();
            let text = |value: &Json| value.as_str().unwrap().to_owned();
            let members = line["members"].as_array().unwrap().iter();
            let expected: Vec<_> =
                members.map(|pair| (unbase64(&text(&pair[0])), text(&pair[1]))).collect();
            assert_eq!(found, expected, "{context}");
            assert_eq!(zset::len(store, &scope.at(&key)).unwrap(), found.len() as u64, "{context}");
        }
        if kind == "stream" {
            check_stream(store, &scope.at(&key), &line, &context);
        }
        if kind == "bitmap" {
            let value = strings::get(store, &scope.at(&key)).unwrap().unwrap();
            assert_eq!(Some(value.len() as u64), line["get_len"].as_u64(), "{context}");
            let bits: Vec<u64> = (0..value.len() * 8)
                .filter(|bit| value[bit / 8] & (0x80 >> (bit % 8)) != 0)
                .map(|bit| bit as u64)
                .collect();
            let expected: Vec<u64> =
                line["bits_set"].as_array().unwrap().iter().filter_map(Json::as_u64).collect();
            assert_eq!(bits, expected, "{context}");
            let bits = Bits::find(store, &scope.at(&key)).unwrap().unwrap();
            let count = bits.count(store, Span::ALL).unwrap();
            assert_eq!(Some(count), line["bitcount"].as_u64(), "{context}");
        }
        check_derived(store, &scope.at(&key), &line, &context);
    }
}

/// What commands make of the records of a key: places, counts, numbers.
fn check_derived(store: &Store, at: &At<'_>, line: &Json, context: &str) {
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    if let Some(places) = line["geopos"].as_array() {
        let members = line["members"].as_array().unwrap().iter();
        let members: Vec<Vec<u8>> = members.map(|pair| unbase64(&text(&pair[0]))).collect();
        let names: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
        let scores = zset::mscore(store, at, &names).unwrap();
        let hashes = line["geohash"].as_array().unwrap();
        for ((score, place), hash) in scores.into_iter().zip(places).zip(hashes) {
            let score = score.unwrap();
            let point = Point::of_score(score);
            for (ours, theirs) in [(point.longitude, &place[0]), (point.latitude, &place[1])] {
                assert_eq!(ours, text(theirs).parse::<f64>().unwrap(), "{context}");
            }
            assert_eq!(geo::text_of_score(score), *text(hash).as_bytes(), "{context}");
        }
    }
    if let Some(count) = line["pfcount"].as_u64() {
        let found = hyperloglog::count(store, &at.scope, &[at.key]).unwrap();
        assert_eq!(found, count, "{context}");
    }
    if let Some(expected) = line["json"].as_str() {
        let document = documents::get(store, at).unwrap().unwrap();
        assert_eq!(json::to_text(&document, json::DEPTH_MAX).unwrap(), expected, "{context}");
    }
    if let Some(ids) = line["ids"].as_array() {
        let expected: Vec<u64> = ids.iter().filter_map(Json::as_u64).collect();
        let (numbers, direction) = (0..=u64::MAX, Direction::Forward);
        let range = sortedint::Range { numbers, direction, offset: 0, count: u64::MAX };
        let mut found = Vec::new();
        sortedint::for_each(&store.snapshot(), at, &range, |id| found.push(id)).unwrap();
        assert_eq!(found, expected, "{context}");
        assert_eq!(Some(sortedint::len(store, at).unwrap()), line["card"].as_u64(), "{context}");
    }
}

/// What Kvrocks says of a stream. Its XGROUP DESTROY removes entries too, and does not count them.
fn check_stream(store: &Store, at: &At<'_>, line: &Json, context: &str) {
    let found = stream::find(store, at).unwrap().unwrap();
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
    let mut entries = Vec::new();
    let all = (Direction::Forward, u64::MAX);
    stream::range(store, &found, Entries::ALL, all, |id, fields| {
        entries.push((id.to_string(), fields.iter().map(|field| field.to_vec()).collect()));
    })
    .unwrap();
    let expected: Vec<(String, Vec<Vec<u8>>)> = list(&line["entries"])
        .iter()
        .map(|entry| {
            let fields = list(&entry[1]);
            (text(&entry[0]), fields.iter().map(|field| unbase64(&text(field))).collect())
        })
        .collect();
    assert_eq!(entries, expected, "{context}");
    assert_eq!(Some(found.size), line["len"].as_u64(), "{context}");
    if line["xinfo_error"].is_null() {
        let (info, state) = (&line["info"], &found.tail);
        let ids = [state.last_generated, state.max_deleted, state.recorded_first];
        let fields = ["last-generated-id", "max-deleted-entry-id", "recorded-first-entry-id"];
        assert_eq!(ids.map(|id| id.to_string()), fields.map(|name| text(&info[name])), "{context}");
        assert_eq!(Some(state.entries_added), info["entries-added"].as_u64(), "{context}");
    }
    let mut expected = list(&line["groups"]);
    expected.sort_by_key(|group| text(&group["name"]));
    let groups = stream::groups(store, &found).unwrap();
    assert_eq!(groups.len(), expected.len(), "{context}");
    for ((name, known), expected) in groups.iter().zip(&expected) {
        assert_eq!(String::from_utf8_lossy(name), text(&expected["name"]), "{context}");
        let numbers = [Some(known.consumers), Some(known.pending), known.entries_read];
        let fields = ["consumers", "pending", "entries-read"];
        assert_eq!(numbers, fields.map(|name| expected[name].as_u64()), "{context}");
        let last = known.last_delivered.to_string();
        assert_eq!(last, text(&expected["last-delivered-id"]), "{context}");
        assert_eq!(stream::lag(&found, known), expected["lag"].as_i64(), "{context}");
        let group = stream::find_group(store, at, name).unwrap().unwrap();
        let filter = Filter { span: Entries::ALL, count: u64::MAX, idle_ms: 0, consumer: None };
        let pending: Vec<Json> = stream::list_pending(store, &group, &filter)
            .unwrap()
            .iter()
            .map(|(id, pending)| {
                let consumer = String::from_utf8_lossy(&pending.consumer).into_owned();
                serde_json::json!([id.to_string(), consumer, pending.count])
            })
            .collect();
        assert_eq!(pending, list(&expected["pending_list"]), "{context}");
        let mut consumers: Vec<Json> = list(&expected["consumer_list"]);
        consumers.sort_by_key(|consumer| text(&consumer["name"]));
        let theirs: Vec<Json> = group
            .consumers(store)
            .unwrap()
            .iter()
            .map(|(name, known)| {
                let name = String::from_utf8_lossy(name).into_owned();
                serde_json::json!({"name": name, "pending": known.pending})
            })
            .collect();
        assert_eq!(theirs, consumers, "{context}");
    }
}

/// Feeds the whole history of `store` to a new one.
fn replicate(store: &Store, dir: &Path, cluster: bool) -> Store {
    let replica = Store::open(dir, options(cluster)).unwrap();
    let mut feed = store.feed();
    let mut next = 1;
    loop {
        match feed.read(next, 1 << 16).unwrap() {
            FeedRead::Batches(batches) => {
                for batch in batches {
                    next = replica.write_raw(&batch.data).unwrap() + 1;
                }
            }
            FeedRead::UpToDate => break,
            FeedRead::Gone => panic!("gone at {next}"),
        }
    }
    replica.publish().unwrap();
    replica
}

fn check(name: &str, cluster: bool) {
    let dir = unpack(name);
    let db = dir.path().join(name).join("db");
    let wrong = Store::open(&db, options(!cluster));
    assert!(matches!(wrong, Err(storage::Error::WrongMode { .. })), "{name}");
    let store = Store::open(&db, options(cluster)).unwrap();
    check_raw(&store, name);
    check_keys(&store, name, cluster);
    let replica = replicate(&store, &dir.path().join("replica"), cluster);
    assert_eq!(replica.latest_sequence(), store.latest_sequence());
    check_keys(&replica, name, cluster);
    // What compaction removes is what nobody could read.
    replica.flush().unwrap();
    replica.compact(b"", b"").unwrap();
    check_keys(&replica, name, cluster);
    // Close, open again: the tail is still in the log.
    store.close().unwrap();
    let store = Store::open(&db, options(cluster)).unwrap();
    check_raw(&store, name);
}

#[test]
fn standalone() {
    check("standalone", false);
}

#[test]
fn cluster() {
    check("cluster", true);
}

#[test]
fn quirks() {
    check("quirks", false);
}

#[test]
fn killed() {
    check("killed", false);
}

/// A directory whose log is cut in the middle of a record opens at the last whole one.
#[test]
fn a_torn_tail_is_cut() {
    let dir = unpack("quirks");
    let db = dir.path().join("quirks/db");
    let mut logs: Vec<PathBuf> = std::fs::read_dir(&db)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    let last = logs.last().unwrap();
    let bytes = std::fs::read(last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::File::create(last).unwrap().write_all(&bytes[..end - 3]).unwrap();
    let store = Store::open(&db, options(false)).unwrap();
    let latest = lines("quirks.raw.jsonl.gz")[0]["latest_seq"].as_u64().unwrap();
    assert!(store.latest_sequence() < latest);
    let mut txn = store.txn();
    txn.put(Family::Metadata, b"k", b"v");
    let next = txn.commit().unwrap().unwrap();
    store.publish().unwrap();
    assert!(matches!(store.feed().read(next, 1).unwrap(), FeedRead::Batches(_)));
}
