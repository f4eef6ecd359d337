//! Records of an export by the key they belong to, for putting keys back as they lay on disk.
//!
//! The controller that folds them into last states cannot hold a large export: it asks for a share
//! of the keys at a time, and the file is read once for each share.

use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::Path;

use super::lines::{self, VALUE};
use super::review::{bytes, parse};
use crate::key::split_internal;
use crate::types::head::Header;
use crate::types::log;
use crate::{Error, Family, Scope, slots};

const ACTION: &str = "read discarded writes";
/// Most of a file that is read for one page, whatever of it is asked for.
const READ_BYTES: u64 = 32 << 20;
/// Bytes of records after which a page ends.
const PAGE_BYTES: usize = 1 << 20;
/// Bytes of a line that are held as text. Of what is longer the value is read without its text.
const LINE_BYTES: usize = 16 << 20;
/// Largest key with its value that is told.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Bytes of a version in a place.
const VERSION_BYTES: usize = 8;

/// Which keys are asked for: those whose hash has this remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Below `of`.
    pub part: u64,
    /// At least 1.
    pub of: u64,
}

impl Share {
    fn has(self, key: &[u8]) -> bool {
        // FNV-1a: the same in every build, as one share may be read from several.
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash.checked_rem(self.of) == Some(self.part)
    }

    /// What is of no key is told once.
    fn is_first(self) -> bool {
        self.part == 0
    }
}

/// A record of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key in the metadata family; empty where it is not known.
    pub key: Vec<u8>,
    /// What was done.
    pub what: What,
}

/// What a record did.
///
/// A place is the id of the family, the version in eight bytes (zeros without one), and what stands
/// behind it in the key on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A value was set.
    Put {
        /// Where.
        place: Vec<u8>,
        /// As it lay on disk.
        value: Vec<u8>,
        /// Of metadata: the key had no end before this record, if it was there at all.
        was_endless: bool,
    },
    /// It was removed.
    Delete {
        /// Where.
        place: Vec<u8>,
    },
    /// A value was set that is too large to be told.
    Large {
        /// Where; without the version if it is metadata.
        place: Vec<u8>,
    },
    /// All keys from this one on were removed.
    Range {
        /// The first one that was not.
        end: Vec<u8>,
    },
    /// Something of another namespace, or of no key.
    Foreign,
    /// Slots came from another shard, whose keys are not told: told in each share, of no key. Of a
    /// key that is not there at the master nobody can say then that it was made by what is told.
    Copied,
}

/// A part of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub records: Vec<Found>,
    /// Where the next part begins; `None` after the last one.
    pub next: Option<u64>,
}

/// Reads the records of a share of the keys from an offset on that an earlier page gave, or 0.
///
/// # Errors
/// I/O errors; lines that are none of an export's.
pub fn page(path: &Path, scope: &Scope<'_>, offset: u64, share: Share) -> Result<Page, Error> {
    let io = |error: std::io::Error| Error::io(ACTION, &error);
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut file = BufReader::with_capacity(256 << 10, file);
    let (said, records) = (Said::Nothing, Vec::new());
    let mut reader = Reader { scope, share, said, records, bytes: 0, has_copies: false };
    let (mut at, mut line, mut value) = (offset, Vec::new(), Vec::new());
    while !reader.may_end() || (at - offset < READ_BYTES && reader.bytes < PAGE_BYTES) {
        let wanted = (&mut value, VALUE_BYTES_MAX);
        let found = lines::with_value(&mut file, &mut line, LINE_BYTES, wanted).map_err(io)?;
        let Some(found) = found else {
            return Ok(Page { records: reader.records, next: None });
        };
        at += found.bytes;
        let held = match found.value_bytes {
            None => Held::All,
            Some(_) if !found.has_key => Held::Beginning,
            Some(bytes) if bytes > VALUE_BYTES_MAX as u64 => Held::AllButValue(None),
            Some(_) => Held::AllButValue(Some(std::mem::take(&mut value))),
        };
        reader.line(&line, held)?;
    }
    Ok(Page { records: reader.records, next: Some(at) })
}

/// What the log data says that stands before a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    /// Only when the key ends is changed. One record follows.
    Expiry,
    /// Anything else, on the line before.
    Other,
}

/// How much of a line is there as text.
enum Held {
    All,
    /// All but its value, which is this; `None` if it is too large.
    AllButValue(Option<Vec<u8>>),
    /// Not even the whole key.
    Beginning,
}

struct Reader<'a> {
    scope: &'a Scope<'a>,
    share: Share,
    said: Said,
    records: Vec<Found>,
    bytes: usize,
    /// It was told on this page that there are some.
    has_copies: bool,
}

impl Reader<'_> {
    /// Not behind log data, which would not be known on the next page.
    fn may_end(&self) -> bool {
        self.said == Said::Nothing
    }

    fn line(&mut self, line: &[u8], held: Held) -> Result<(), Error> {
        let said = std::mem::replace(&mut self.said, Said::Nothing);
        if matches!(held, Held::Beginning) {
            self.beginning(line)?;
        } else if line.starts_with(b"{\"log\"") {
            let data = bytes(&parse(line)?, "log")?;
            self.said = if data == log::EXPIRE { Said::Expiry } else { Said::Other };
            if slots::names_move(&data) && !self.has_copies {
                self.has_copies = true;
                self.tell(Vec::new(), What::Copied);
            }
        } else if line.starts_with(b"{\"put\"") {
            self.put(line, held, said)?;
        } else if line.starts_with(b"{\"delete\"") {
            let fields = parse(line)?;
            let family = fields.get("delete").and_then(|family| family.as_str());
            let key = bytes(&fields, "key")?;
            if let Some((key, place)) = self.owner(family.unwrap_or_default(), &key) {
                self.tell(key, What::Delete { place });
            }
        } else if line.starts_with(b"{\"delete_range\"") {
            let fields = parse(line)?;
            let family = fields.get("delete_range").and_then(|family| family.as_str());
            let (begin, end) = (bytes(&fields, "begin")?, bytes(&fields, "end")?);
            if family == Some(Family::Metadata.name()) {
                self.tell(begin, What::Range { end });
            } else if self.share.is_first() {
                self.tell(Vec::new(), What::Foreign);
            }
        }
        Ok(())
    }

    /// Of a record whose key on disk is large itself. An element's begins with the name of its
    /// owner, which without it is not as it was; of other ones nothing is known.
    fn beginning(&mut self, line: &[u8]) -> Result<(), Error> {
        // Log data is not read.
        let head = parse(line)?;
        let family = head.get("put").or_else(|| head.get("delete")).and_then(|name| name.as_str());
        let Some(family) = family else {
            self.said = Said::Other;
            return Ok(());
        };
        let on_disk = bytes(&head, "key")?;
        let is_metadata = family == Family::Metadata.name();
        if is_metadata || split_internal(&on_disk, self.scope.cluster).is_none() {
            if self.share.is_first() {
                self.tell(Vec::new(), What::Large { place: Vec::new() });
            }
        } else if let Some((key, place)) = self.owner(family, &on_disk) {
            self.tell(key, What::Large { place });
        }
        Ok(())
    }

    fn put(&mut self, line: &[u8], held: Held, said: Said) -> Result<(), Error> {
        // Most of a line is its value, which is not read for keys that nobody asks for.
        let place_of_value = line.windows(VALUE.len()).position(|window| window == VALUE);
        let head = match place_of_value.and_then(|at| line.get(..at)) {
            Some(head) => parse(&[head, b"\"}"].concat())?,
            None => parse(line)?,
        };
        let family = head.get("put").and_then(|family| family.as_str()).unwrap_or_default();
        let on_disk = bytes(&head, "key")?;
        let Some((key, mut place)) = self.owner(family, &on_disk) else { return Ok(()) };
        let value = match held {
            Held::AllButValue(Some(value)) => value,
            Held::AllButValue(None) => {
                self.tell(key, What::Large { place });
                return Ok(());
            }
            Held::All | Held::Beginning => bytes(&parse(line)?, "value")?,
        };
        let mut was_endless = false;
        if family == Family::Metadata.name()
            && let Some(header) = Header::decode(&value)
        {
            let version = header.version_and_size().map_or(0, |(version, _)| version);
            place = place_of(Family::Metadata, version, &[]);
            // No other command takes an end away, and none that is behind log data of its own.
            was_endless = said != Said::Expiry && header.expire_ms == 0;
        }
        let is_large = key.len() + value.len() > VALUE_BYTES_MAX;
        let what = match is_large {
            true => What::Large { place },
            false => What::Put { place, value, was_endless },
        };
        self.tell(key, what);
        Ok(())
    }

    /// The key in the metadata family that owns a key on disk, and the place. `None` for what is
    /// not asked for, and for what is of no key.
    fn owner(&mut self, family: &str, on_disk: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let family = Family::ALL.into_iter().find(|one| one.name() == family)?;
        let (key, version, sub) = match family {
            Family::Metadata => (on_disk.to_vec(), 0, &[][..]),
            Family::Default | Family::ZsetScore | Family::Stream => {
                let (prefix, name, version) = split_internal(on_disk, self.scope.cluster)?;
                let behind = prefix.len() + size_of::<u32>() + name.len() + VERSION_BYTES;
                ([prefix, name].concat(), version, on_disk.get(behind..)?)
            }
            // Messages, scripts, epochs, indexes.
            _ => return None,
        };
        if !self.share.has(&key) {
            return None;
        }
        if self.scope.user_key(&key).is_none() {
            // Also of an element: it may be all that was written of the key.
            self.tell(key, What::Foreign);
            return None;
        }
        Some((key, place_of(family, version, sub)))
    }

    fn tell(&mut self, key: Vec<u8>, what: What) {
        let (key, what) = match key.len() {
            0..=VALUE_BYTES_MAX => (key, what),
            _ => (Vec::new(), What::Large { place: Vec::new() }),
        };
        self.bytes += key.len()
            + match &what {
                What::Put { place, value, .. } => place.len() + value.len(),
                What::Delete { place } | What::Large { place } => place.len(),
                What::Range { end } => end.len(),
                What::Foreign | What::Copied => 0,
            };
        // What it takes on the way besides.
        self.bytes += 64;
        self.records.push(Found { key, what });
    }
}

fn place_of(family: Family, version: u64, sub: &[u8]) -> Vec<u8> {
    [&[family.id()][..], &version.to_be_bytes(), sub].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewind::export;
    use crate::types::{hash, keys, keyspace, set, strings};
    use crate::{Options, Store, Txn};

    const SCOPE: Scope<'static> = Scope { namespace: b"__namespace", cluster: true, now_ms: 1 };
    const WHOLE: Share = Share { part: 0, of: 1 };

    struct Db {
        store: Store,
        dir: tempfile::TempDir,
    }

    impl Db {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = Options { cluster: true, ..Options::default() };
            Self { store: Store::open(&dir.path().join("db"), options).unwrap(), dir }
        }

        fn write(&self, run: impl Fn(&mut Txn<'_>)) {
            let mut txn = self.store.txn();
            run(&mut txn);
            txn.commit().unwrap();
        }

        /// All that was written, of each of so many shares.
        fn shares(&self, of: u64) -> Vec<Vec<Found>> {
            let folder = self.dir.path().join("discarded");
            let (path, _) = export::from_feed(&self.store, &folder, 0, of).unwrap();
            let path = path.unwrap();
            (0..of).map(|part| all(&path, Share { part, of })).collect()
        }
    }

    fn all(path: &Path, share: Share) -> Vec<Found> {
        let (mut records, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let page = page(path, &SCOPE, offset, share).unwrap();
            records.extend(page.records);
            next = page.next;
        }
        records
    }

    fn of_key(key: &[u8], records: &[Found]) -> Vec<What> {
        let key = SCOPE.ns_key(key).to_vec();
        let records = records.iter().filter(|found| found.key == key);
        records.map(|found| found.what.clone()).collect()
    }

    fn count(records: &[Found], is: impl Fn(&What) -> bool) -> usize {
        records.iter().filter(|found| is(&found.what)).count()
    }

    fn is_range(what: &What) -> bool {
        matches!(what, What::Range { .. })
    }

    #[test]
    fn every_record_of_a_key_is_in_one_share_with_its_place() {
        let db = Db::new();
        for number in 0..20 {
            let key = format!("h{number}");
            db.write(|txn| {
                let at = SCOPE.at(key.as_bytes());
                hash::set(txn, &at, &[(b"f", b"v")]).unwrap();
                keys::expire(txn, &at, 9_000, Default::default()).unwrap();
            });
        }
        db.write(|txn| {
            let theirs = Scope { namespace: b"theirs", ..SCOPE };
            strings::set(txn, &theirs.at(b"k"), b"v", &Default::default()).unwrap();
            keys::del(txn, &SCOPE, &[b"h0"]).unwrap();
            keyspace::delete_slot(txn, &SCOPE, crate::key::key_slot(b"h1"));
        });
        let whole = db.shares(WHOLE.of).remove(0);
        let records = of_key(b"h2", &whole);
        let [What::Put { place: element, value, was_endless: false }, made, ended] =
            records.as_slice()
        else {
            panic!("{records:?}")
        };
        assert!(element[0] == 0 && element.ends_with(b"f") && value == b"v", "{records:?}");
        let version = &element[1..9];
        let is_metadata = |what: &What, is_endless: bool| match what {
            What::Put { place, was_endless, .. } => {
                place[0] == 1 && place[1..] == *version && *was_endless == is_endless
            }
            _ => false,
        };
        assert!(is_metadata(made, true), "{made:?}");
        // Whether it had another end before, the record does not say.
        assert!(is_metadata(ended, false), "{ended:?}");
        let zeros = [&[1][..], &[0; 8]].concat();
        assert_eq!(of_key(b"h0", &whole).last(), Some(&What::Delete { place: zeros }));
        assert_eq!(count(&whole, |what| *what == What::Foreign), 1);

        let shares = db.shares(3);
        for number in 0..20 {
            let key = format!("h{number}");
            let found = shares.iter().map(|share| of_key(key.as_bytes(), share));
            let found: Vec<_> = found.filter(|records| !records.is_empty()).collect();
            assert_eq!(found, [of_key(key.as_bytes(), &whole)], "{key}");
        }
        // A range is everybody's.
        let ranges: Vec<usize> = shares.iter().map(|share| count(share, is_range)).collect();
        assert_eq!((count(&whole, is_range), ranges), (1, vec![1; 3]));
    }

    #[test]
    fn values_are_told_up_to_a_bound_however_long_their_text_is() {
        let db = Db::new();
        let large = vec![b'v'; VALUE_BYTES_MAX];
        // Of a line that is not held.
        let long: Vec<u8> = (0..=255).cycle().take(LINE_BYTES / 2).collect();
        db.write(|txn| {
            strings::set(txn, &SCOPE.at(b"large"), &large, &Default::default()).unwrap();
            strings::set(txn, &SCOPE.at(b"long"), &long, &Default::default()).unwrap();
        });
        let whole = db.shares(WHOLE.of).remove(0);
        let records = [of_key(b"large", &whole), of_key(b"long", &whole)].concat();
        let [What::Large { .. }, What::Put { value, .. }] = records.as_slice() else {
            panic!("{} records", records.len())
        };
        // With the byte of the type and eight of the expiry.
        assert!(value.ends_with(&long) && value.len() == long.len() + 9);
    }

    /// Without them a key would be put back in part.
    #[test]
    fn of_members_that_are_too_long_to_be_told_the_key_is_told() {
        let db = Db::new();
        // Of six characters each in the text.
        let long = vec![0_u8; LINE_BYTES / 6 + 1];
        db.write(|txn| {
            set::add(txn, &SCOPE.at(b"s"), &[&long, b"short"]).unwrap();
            hash::set(txn, &SCOPE.at(b"h"), &[(&long, b"v")]).unwrap();
        });
        db.write(|txn| assert_eq!(set::remove(txn, &SCOPE.at(b"s"), &[&long]).unwrap(), 1));
        let whole = db.shares(WHOLE.of).remove(0);
        let is_large = |what: &What| matches!(what, What::Large { .. });
        let large = |key: &[u8]| of_key(key, &whole).into_iter().filter(is_large).count();
        assert_eq!([large(b"s"), large(b"h"), count(&whole, is_large)], [2, 1, 3]);
        let records = of_key(b"h", &whole);
        let [What::Large { place: element }, What::Put { place: metadata, .. }] =
            records.as_slice()
        else {
            panic!("{} records", records.len())
        };
        assert_eq!((element[0], &element[1..9]), (0, &metadata[1..9]));
        let shares = db.shares(2);
        assert_eq!(shares.iter().map(|share| count(share, is_large)).sum::<usize>(), 3);
    }

    #[test]
    fn a_field_of_another_namespace_is_told_of_also_without_its_metadata() {
        let db = Db::new();
        let theirs = Scope { namespace: b"theirs", ..SCOPE };
        for value in [b"old", b"new"] {
            db.write(|txn| {
                hash::set(txn, &theirs.at(b"h"), &[(b"f", value)]).unwrap();
            });
        }
        let whole = db.shares(WHOLE.of).remove(0);
        // Field and metadata, and the field once more.
        assert_eq!(count(&whole, |what| *what == What::Foreign), 3);
        assert!(whole.iter().all(|found| found.key == *theirs.ns_key(b"h")));
    }

    #[test]
    fn each_share_is_told_of_copies_and_none_of_their_keys() {
        let db = Db::new();
        db.write(|txn| {
            hash::set(txn, &SCOPE.at(b"own"), &[(b"f", b"v")]).unwrap();
        });
        let is_copied = |what: &What| *what == What::Copied;
        assert_eq!(count(&db.shares(WHOLE.of)[0], is_copied), 0);
        db.write(|txn| {
            txn.log(b"M7");
            txn.put(Family::Metadata, &SCOPE.ns_key(b"guest"), b"of another shard");
        });
        for share in db.shares(2) {
            assert_eq!(count(&share, is_copied), 1);
            assert!(of_key(b"guest", &share).is_empty());
        }
    }
}
