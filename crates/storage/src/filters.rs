//! Compaction filters: they remove what no reader can see any more (expired keys, sub-keys of
//! deleted or re-created keys, transient families), as Kvrocks' do.
//!
//! Invariant: when in doubt, keep. Undecodable entries are kept, and until [`Filters::attach`]
//! nothing is removed, so a directory opened in the wrong cluster mode loses nothing.
//!
//! One difference from Kvrocks: both the metadata of an expired key and its sub-keys stay for the
//! same grace period. With grace for the sub-keys only, a replica whose clock is ahead drops the
//! metadata first, then the sub-keys of the missing metadata at once, while the master may still
//! prolong the key.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use rocksdb::{CompactionDecision, DB};

use crate::key::metadata_key_of;
use crate::slots::barriers::Barriers;
use crate::types::fields::{self, Form};
use crate::types::head::Header;
use crate::types::kind::Type;
use crate::types::timeseries::way::{Way, sub_key};
use crate::view::{View, Views};
use crate::{Family, Scope};

/// How long an expired key survives compaction, milliseconds.
pub(crate) const GRACE_MS: u64 = 5 * 60 * 1000;

/// What the filters of one database share.
#[derive(Clone)]
pub(crate) struct Filters {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: bool,
    /// Weak: the filters are owned by the database. The store waits for background work before it
    /// drops its strong reference, so a filter never holds the last one.
    db: OnceLock<Weak<DB>>,
    /// Weak for the same reason.
    views: OnceLock<Weak<Views>>,
    /// Epochs are in use: what is above the acknowledged sequence may be discarded, and must not be
    /// looked at.
    has_epochs: AtomicBool,
    /// Copies of slots that a view may be older than.
    barriers: Barriers,
    read: Moments,
}

/// What is still to be read as of an earlier moment, which snapshots alone do not keep from
/// filters.
struct Moments {
    /// So many at each sequence.
    all: Mutex<BTreeMap<u64, usize>>,
    /// The first of these sequences; the last possible one where there is none.
    oldest: AtomicU64,
}

impl Moments {
    fn change(&self, change: impl FnOnce(&mut BTreeMap<u64, usize>)) {
        let mut all = self.all.lock();
        change(&mut all);
        let oldest = all.keys().next().copied().unwrap_or(u64::MAX);
        self.oldest.store(oldest, Ordering::SeqCst);
    }
}

/// For as long as it is kept, what can be seen at a sequence stays.
pub(crate) struct Keeping {
    shared: Arc<Shared>,
    sequence: u64,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.shared.read.change(|all| {
            if let Some(count) = all.get_mut(&self.sequence) {
                *count -= 1;
            }
            all.retain(|_, count| *count > 0);
        });
    }
}

/// Which rule a family's filter follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterKind {
    /// Expired keys.
    Metadata,
    /// Sub-keys without living metadata, in this family.
    SubKey(Family),
    /// Everything.
    All,
    /// The key `script`.
    Propagate,
    /// Ways from labels to time series that do not have them.
    Index,
}

impl Filters {
    pub(crate) fn new(cluster: bool) -> Self {
        let (db, views, has_epochs) = (OnceLock::new(), OnceLock::new(), AtomicBool::new(true));
        let barriers = Barriers::default();
        let read = Moments { all: Mutex::default(), oldest: AtomicU64::new(u64::MAX) };
        Self { shared: Arc::new(Shared { cluster, db, views, has_epochs, barriers, read }) }
    }

    /// Keeps what can be seen from this sequence on; to be called before it is read at.
    pub(crate) fn keep(&self, sequence: u64) -> Keeping {
        self.shared.read.change(|all| *all.entry(sequence).or_default() += 1);
        Keeping { shared: Arc::clone(&self.shared), sequence }
    }

    /// Lets the filters work: from now on they remove entries.
    pub(crate) fn attach(&self, db: &Arc<DB>, views: &Arc<Views>) {
        // A second call would name the same database; the first one wins.
        let _ = self.shared.views.set(Arc::downgrade(views));
        let _ = self.shared.db.set(Arc::downgrade(db));
    }

    /// Whether the database has epochs, so that records can be discarded.
    pub(crate) fn set_epochs(&self, has_epochs: bool) {
        self.shared.has_epochs.store(has_epochs, Ordering::Release);
    }

    /// Slots that were copied here.
    pub(crate) fn barriers(&self) -> &Barriers {
        &self.shared.barriers
    }

    pub(crate) fn factory(&self, kind: FilterKind) -> Factory {
        Factory { kind, shared: Arc::clone(&self.shared) }
    }
}

/// Makes one filter per compaction.
pub(crate) struct Factory {
    kind: FilterKind,
    shared: Arc<Shared>,
}

impl rocksdb::compaction_filter_factory::CompactionFilterFactory for Factory {
    type Filter = Filter;

    fn create(&mut self, _: rocksdb::compaction_filter_factory::CompactionFilterContext) -> Filter {
        Filter {
            kind: self.kind,
            shared: Arc::clone(&self.shared),
            now_ms: crate::types::now_ms(),
            look: self.shared.look(),
            last_key: Vec::new(),
            last: Owner::Unknown,
        }
    }

    fn name(&self) -> &CStr {
        self.kind.name()
    }
}

impl FilterKind {
    fn name(self) -> &'static CStr {
        match self {
            Self::Metadata => c"MetadataFilter",
            Self::SubKey(_) => c"SubKeyFilter",
            Self::All => c"PubSubFilter",
            Self::Propagate => c"PropagateFilter",
            Self::Index => c"IndexFilter",
        }
    }
}

/// What is known about the key that owns a sub-key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Not looked up, or not decodable: keep.
    Unknown,
    /// No metadata, or a type without sub-keys, or expired beyond the grace.
    Dead,
    /// Sub-keys of this version live.
    Alive { version: u64, holds: Holds },
}

/// Which of the sub-keys of a living key are nothing all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// None of them.
    Elements,
    /// Segments without a bit.
    Segments,
    /// Fields that ended before the grace.
    Fields(Form),
}

/// Where a filter looks metadata up.
enum Look {
    /// As it is now.
    Now,
    /// As it was at a sequence that stays.
    At(Arc<View>),
    /// Nowhere: nothing is known to stay.
    Nowhere,
}

impl Shared {
    fn look(&self) -> Look {
        if !self.has_epochs.load(Ordering::Acquire) {
            return Look::Now;
        }
        let views = self.views.get().and_then(Weak::upgrade);
        views.and_then(|views| views.usable()).map_or(Look::Nowhere, Look::At)
    }
}

/// The filter of one compaction, used by one thread.
pub(crate) struct Filter {
    kind: FilterKind,
    shared: Arc<Shared>,
    now_ms: u64,
    look: Look,
    last_key: Vec<u8>,
    last: Owner,
}

impl Filter {
    fn is_dead(&mut self, key: &[u8], value: &[u8]) -> bool {
        match self.kind {
            FilterKind::All => true,
            FilterKind::Propagate => key == b"script",
            FilterKind::Metadata => {
                Header::decode(value).is_some_and(|header| header.is_expired(self.before_grace()))
            }
            FilterKind::Index => self.leads_nowhere(key) && !self.is_read(),
            FilterKind::SubKey(_) if !self.may_judge(key) => false,
            FilterKind::SubKey(family) => match self.why(key, value) {
                None => false,
                // Looked at last: a reader that comes later sees the entry as dead, too.
                Some(_) if self.is_read() => false,
                Some(Why::Owner) => self.is_old_enough(family, key, None),
                Some(Why::Value) => self.is_old_enough(family, key, Some(value)),
            },
        }
    }

    /// Whether a way from a label leads to no series with this label. It has no version: one that
    /// led nowhere may have been written once more since, for a series that has the label again, or
    /// has it again once its deletion is discarded. So it is judged by what is now, where nothing
    /// is ever discarded, and stays otherwise: a query looks at the series, and only takes longer.
    fn leads_nowhere(&self, key: &[u8]) -> bool {
        let has_epochs = self.shared.has_epochs.load(Ordering::Acquire);
        if has_epochs || !matches!(self.look, Look::Now) {
            return false;
        }
        let Some(way) = Way::read(key) else { return false };
        let scope = Scope { namespace: way.namespace, cluster: self.shared.cluster, now_ms: 0 };
        match self.look_up(&scope.ns_key(way.key)) {
            Owner::Unknown => false,
            Owner::Dead => true,
            Owner::Alive { version, .. } => {
                let sub_key = scope.sub_key(way.key, version, &sub_key(way.label));
                self.value_now(Family::Default, &sub_key, |value| value != Some(way.value))
            }
        }
    }

    /// What `judge` makes of a value as it is now; false where it cannot be read.
    fn value_now(
        &self,
        family: Family,
        key: &[u8],
        judge: impl FnOnce(Option<&[u8]>) -> bool,
    ) -> bool {
        let Some(db) = self.shared.db.get().and_then(Weak::upgrade) else { return false };
        let Some(family) = db.cf_handle(family.name()) else { return false };
        db.get_pinned_cf(family, key).is_ok_and(|found| judge(found.as_deref()))
    }

    /// Whether somebody reads at a moment before the one at which this filter looks: what is dead
    /// now may have lived then.
    fn is_read(&self) -> bool {
        let oldest = self.shared.read.oldest.load(Ordering::SeqCst);
        match &self.look {
            Look::Now => oldest < u64::MAX,
            Look::At(view) => oldest < view.sequence(),
            Look::Nowhere => true,
        }
    }

    /// A view from before a copy of the slot began may know versions as dead that the copy has
    /// brought back (rule M13).
    fn may_judge(&self, key: &[u8]) -> bool {
        match &self.look {
            Look::At(view) if self.shared.cluster => {
                self.shared.barriers.allow(key, view.sequence())
            }
            // A sub-key may come before the metadata that it belongs to.
            Look::Now if self.shared.cluster => !self.shared.barriers.are_held(key),
            _ => true,
        }
    }

    /// What had ended by then may go.
    fn before_grace(&self) -> u64 {
        self.now_ms.saturating_sub(GRACE_MS)
    }

    /// Why a sub-key may be removed; `None` if it may not.
    fn why(&mut self, key: &[u8], value: &[u8]) -> Option<Why> {
        let mut owner_key = std::mem::take(&mut self.last_key);
        let version = metadata_key_of(key, self.shared.cluster, |prefix, user_key| {
            let is_same = owner_key.strip_prefix(prefix).is_some_and(|rest| rest == user_key);
            if !is_same {
                owner_key.clear();
                owner_key.extend_from_slice(prefix);
                owner_key.extend_from_slice(user_key);
                self.last = self.look_up(&owner_key);
            }
        });
        self.last_key = owner_key;
        match (version?, self.last) {
            (_, Owner::Unknown) => None,
            (_, Owner::Dead) => Some(Why::Owner),
            (version, Owner::Alive { version: current, .. }) if version != current => {
                Some(Why::Owner)
            }
            (_, Owner::Alive { holds: Holds::Elements, .. }) => None,
            (_, Owner::Alive { holds: Holds::Segments, .. }) => {
                value.iter().all(|byte| *byte == 0).then_some(Why::Owner)
            }
            (_, Owner::Alive { holds: Holds::Fields(form), .. }) => {
                let (end_ms, _) = form.split(value).ok()?;
                fields::is_over(end_ms, self.before_grace()).then_some(Why::Value)
            }
        }
    }

    /// A sub-key of a view's dead owner is dead for ever if it was there then: no version comes
    /// back, but with a copy of its slot ([`Self::may_judge`]). A newer one may belong to an owner
    /// that the view has not seen. A filter that began before the first epoch decides nothing after
    /// it. One that is dead by its `value` must have had it then: another one may be discarded, and
    /// what lay below it comes back.
    fn is_old_enough(&self, family: Family, key: &[u8], value: Option<&[u8]>) -> bool {
        match &self.look {
            Look::Now => !self.shared.has_epochs.load(Ordering::Acquire),
            Look::At(view) => view.get(family, key).is_ok_and(|found| {
                found.is_some_and(|found| value.is_none_or(|value| *found == *value))
            }),
            Look::Nowhere => false,
        }
    }

    fn look_up(&self, metadata_key: &[u8]) -> Owner {
        match &self.look {
            Look::Nowhere => Owner::Unknown,
            Look::At(view) => match view.get(Family::Metadata, metadata_key) {
                Ok(found) => self.judge(found.as_deref()),
                Err(_) => Owner::Unknown,
            },
            Look::Now => {
                let Some(db) = self.shared.db.get().and_then(Weak::upgrade) else {
                    return Owner::Unknown;
                };
                let Some(family) = db.cf_handle(Family::Metadata.name()) else {
                    return Owner::Unknown;
                };
                let Ok(found) = db.get_pinned_cf(family, metadata_key) else {
                    return Owner::Unknown;
                };
                self.judge(found.as_deref())
            }
        }
    }

    fn judge(&self, metadata: Option<&[u8]>) -> Owner {
        let Some(value) = metadata else { return Owner::Dead };
        let Some(header) = Header::decode(value) else { return Owner::Unknown };
        if header.is_expired(self.before_grace()) || header.is_single() {
            return Owner::Dead;
        }
        let holds = match (header.kind(), header.form()) {
            (Some(Type::Bitmap), _) => Holds::Segments,
            (_, Some(form @ Form::Timed(_))) => Holds::Fields(form),
            _ => Holds::Elements,
        };
        match header.version_and_size() {
            Some((version, _)) => Owner::Alive { version, holds },
            None => Owner::Unknown,
        }
    }
}

/// What makes a sub-key dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The key it belongs to, or a value that means the same as none.
    Owner,
    /// Its own value, whose end is past.
    Value,
}

impl rocksdb::compaction_filter::CompactionFilter for Filter {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> CompactionDecision {
        let is_attached = self.shared.db.get().is_some();
        if is_attached && self.is_dead(key, value) {
            CompactionDecision::Remove
        } else {
            CompactionDecision::Keep
        }
    }

    fn name(&self) -> &CStr {
        self.kind.name()
    }
}
