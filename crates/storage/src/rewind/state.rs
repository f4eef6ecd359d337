//! The last state of a key in an export, and putting it back as it lay on disk.
//!
//! A key that nobody wrote at the master since the fork is there as it was at the fork, which is
//! what the discarded records were written upon. So the same records make of it what the deposed
//! master made of it, whatever its type: nothing needs to be known of that. Versions tell a key
//! that was there from one that was made anew.
//!
//! What is not there at the master and was not removed either has been made by discarded writes, or
//! its end came since, and compactions have taken what it had. The export has only a part of it
//! then, and it is left alone, unless the records show that they are all there is.

use super::records::What;
use crate::types::CommandError;
use crate::types::head::{Header, Prefix};
use crate::types::keys;
use crate::types::kind::Type;
use crate::{Error, Family, Scope, Txn};

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    key: Vec<u8>,
    last: Last,
    /// The key had no end before the first record that tells of it in this life.
    was_endless: bool,
    elements: Vec<Element>,
}

/// What became of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Last {
    /// It was not written.
    AsItWas,
    /// The key is no more.
    Gone,
    /// It is this.
    Put(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Element {
    family: Family,
    version: u64,
    sub: Vec<u8>,
    /// `None` if it was removed.
    value: Option<Vec<u8>>,
}

/// By which rule a key is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// If it was not written since the fork.
    Since {
        /// It was.
        is_changed: bool,
    },
    /// If it does not exist, whatever was written since.
    Absent,
}

/// What is to become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It can be put back.
    Fits,
    /// It is so already.
    Same,
    /// It was written since the fork.
    Changed,
    /// It exists.
    Exists,
    /// Its own end is past.
    Expired,
    /// Its end at the master came since the fork, and what it had is not there any more.
    Lapsed,
    /// The export has only a part of it, and nobody can tell whether the rest is the one at the
    /// master.
    Partial,
    /// It is larger than what is written at once.
    Large,
    /// The reader was told to end.
    Ended,
}

impl State {
    /// A string.
    pub fn string(key: &[u8], value: &[u8], expire_ms: u64) -> Self {
        let prefix = Prefix::new(Type::String, expire_ms);
        let last = Last::Put([prefix.as_bytes(), value].concat());
        Self { key: key.to_vec(), last, was_endless: false, elements: Vec::new() }
    }

    /// A key that was removed.
    pub fn deletion(key: &[u8]) -> Self {
        Self { key: key.to_vec(), last: Last::Gone, was_endless: false, elements: Vec::new() }
    }

    /// The state that the last record of each place makes. `None` if these are not the records of
    /// one life of a key of a type that is known here.
    pub fn of(key: &[u8], was_endless: bool, records: Vec<What>) -> Option<Self> {
        let (mut last, mut elements) = (Last::AsItWas, Vec::new());
        for record in records {
            let (place, value) = match record {
                What::Put { place, value, .. } => (place, Some(value)),
                What::Delete { place } => (place, None),
                _ => return None,
            };
            let (family, rest) = place.split_first()?;
            let (version, sub) = rest.split_first_chunk::<8>()?;
            match Family::from_id(u32::from(*family))? {
                Family::Metadata => last = value.map_or(Last::Gone, Last::Put),
                family => {
                    let version = u64::from_be_bytes(*version);
                    elements.push(Element { family, version, sub: sub.to_vec(), value });
                }
            }
        }
        let state = Self { key: key.to_vec(), last, was_endless, elements };
        let is_of = |version: u64, families: &[Family]| {
            let mut elements = state.elements.iter();
            elements.all(|found| found.version == version && families.contains(&found.family))
        };
        match &state.last {
            Last::AsItWas => {
                let families = [Family::Default, Family::ZsetScore, Family::Stream];
                is_of(state.version()?, &families).then_some(state)
            }
            Last::Gone => Some(Self { elements: Vec::new(), ..state }),
            Last::Put(value) => {
                let header = Header::decode(value)?;
                let kind = header.kind()?;
                if header.is_empty() {
                    return Some(Self::deletion(key));
                }
                let version = header.version_and_size().map(|(version, _)| version);
                let fits = match version {
                    Some(version) => is_of(version, kind.families()),
                    None => kind.is_single() && state.elements.is_empty(),
                };
                fits.then_some(state)
            }
        }
    }

    /// As clients know it.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// About what it takes in a batch.
    pub fn bytes(&self) -> usize {
        let metadata = if let Last::Put(value) = &self.last { value.len() } else { 0 };
        let of_element = |element: &Element| {
            self.key.len() + element.sub.len() + element.value.as_ref().map_or(0, Vec::len) + 48
        };
        self.key.len() + metadata + self.elements.iter().map(of_element).sum::<usize>()
    }

    /// That of its elements; `None` for a key without.
    fn version(&self) -> Option<u64> {
        match &self.last {
            Last::Gone => None,
            Last::Put(value) => Header::decode(value)?.version_and_size().map(|found| found.0),
            Last::AsItWas => self.elements.first().map(|element| element.version),
        }
    }

    /// Whether the export has all there is of the key: as many elements as it counts.
    fn is_whole(&self) -> bool {
        let Last::Put(value) = &self.last else { return false };
        let Some(header) = Header::decode(value) else { return false };
        let Some((_, size)) = header.version_and_size() else { return header.is_single() };
        let count = |family: Family| {
            let puts = self.elements.iter().filter(|found| found.value.is_some());
            puts.filter(|found| found.family == family).count() as u64
        };
        match header.kind() {
            Some(Type::Hash | Type::List | Type::Set | Type::SortedInt) => {
                count(Family::Default) == size
            }
            Some(Type::Zset) => count(Family::Default) == size && count(Family::ZsetScore) == size,
            // What they count is not what they consist of.
            _ => false,
        }
    }

    /// What is to become of the key. Its elements are compared with those at the master as long as
    /// `goes_on`, which is asked now and then; where that is `None`, they are not compared.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn judge(
        &self,
        txn: &Txn<'_>,
        scope: &Scope<'_>,
        rule: Rule,
        goes_on: Option<&mut dyn FnMut() -> bool>,
    ) -> Result<Verdict, Error> {
        let now = txn.get(Family::Metadata, &scope.ns_key(&self.key))?;
        let present = now.as_deref().and_then(Header::decode);
        let living = present.filter(|header| !header.is_dead(scope.now_ms));
        if let Some(goes_on) = goes_on {
            match self.is_same(txn, scope, living.as_ref(), goes_on)? {
                Some(true) => return Ok(Verdict::Same),
                Some(false) => {}
                None => return Ok(Verdict::Ended),
            }
        }
        if rule == (Rule::Since { is_changed: true }) {
            return Ok(Verdict::Changed);
        }
        if let Last::Put(value) = &self.last {
            let header = Header::decode(value);
            // A string ends with its last millisecond, as it did when strings alone were put back.
            let is_over = |header: Header<'_>| {
                header.is_dead(scope.now_ms)
                    || header.expire_ms != 0 && header.expire_ms <= scope.now_ms
            };
            if header.is_none_or(is_over) {
                return Ok(Verdict::Expired);
            }
        }
        if rule == Rule::Absent && living.is_some() {
            return Ok(Verdict::Exists);
        }
        if !self.has_its_rest(rule, present.as_ref(), living.is_some()) {
            return Ok(if rule == Rule::Absent { Verdict::Partial } else { Verdict::Lapsed });
        }
        // Half of it, since it is not known to the byte what it takes.
        if self.bytes() > txn.store().batch_bytes_max() / 2 {
            return Ok(Verdict::Large);
        }
        Ok(Verdict::Fits)
    }

    /// Whether what the records were written upon is at the master, or nothing was.
    fn has_its_rest(&self, rule: Rule, present: Option<&Header<'_>>, is_living: bool) -> bool {
        // A deletion, or a value in one piece.
        let Some(version) = self.version() else { return true };
        if self.is_whole() {
            return true;
        }
        let is_made_anew = matches!(self.last, Last::Put(_));
        let there = present.map(|header| header.version_and_size().map(|found| found.0));
        match (rule, there) {
            (Rule::Absent, _) => false,
            (_, Some(found)) if found == Some(version) => is_living,
            // Another life: all of this one is discarded.
            (_, Some(_)) => is_made_anew,
            // Without an end it cannot have come to it.
            (_, None) => is_made_anew && self.was_endless,
        }
    }

    /// `None` if it was told to end.
    fn is_same(
        &self,
        txn: &Txn<'_>,
        scope: &Scope<'_>,
        living: Option<&Header<'_>>,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<bool>, Error> {
        /// Elements between two questions.
        const STRIDE: usize = 256;
        let is_same = match (&self.last, living) {
            (Last::Gone, living) => return Ok(Some(living.is_none())),
            (_, None) => false,
            (Last::Put(value), Some(header)) => Header::decode(value).is_some_and(|last| {
                let both = (last.kind(), header.kind());
                both.0 == both.1 && last.expire_ms == header.expire_ms && last.rest == header.rest
            }),
            (Last::AsItWas, Some(header)) => {
                header.version_and_size().map(|found| found.0) == self.version()
            }
        };
        if !is_same {
            return Ok(Some(false));
        }
        for (place, element) in self.elements.iter().enumerate() {
            if place % STRIDE == STRIDE - 1 && !goes_on() {
                return Ok(None);
            }
            let on_disk = scope.sub_key(&self.key, element.version, &element.sub);
            if txn.get(element.family, &on_disk)?.as_deref() != element.value.as_deref() {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    /// Puts the key back, of which [`Self::judge`] says that it fits.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn put_back(&self, txn: &mut Txn<'_>, scope: &Scope<'_>) -> Result<(), CommandError> {
        let ns_key = scope.ns_key(&self.key);
        let log_data = match &self.last {
            Last::Gone => {
                keys::del(txn, scope, &[&self.key])?;
                return Ok(());
            }
            Last::Put(value) => Header::decode(value).and_then(|header| header.log_data()),
            Last::AsItWas => {
                let now = txn.get(Family::Metadata, &ns_key)?;
                now.as_deref().and_then(Header::decode).and_then(|header| header.log_data())
            }
        };
        if let Some(data) = log_data {
            txn.log(data);
        }
        for element in &self.elements {
            let on_disk = scope.sub_key(&self.key, element.version, &element.sub);
            match &element.value {
                Some(value) => txn.put(element.family, &on_disk, value),
                None => txn.delete(element.family, &on_disk),
            }
        }
        if let Last::Put(value) = &self.last {
            txn.put(Family::Metadata, &ns_key, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
