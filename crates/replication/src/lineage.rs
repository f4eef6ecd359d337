//! The lineage of a database: which process wrote which stretch of it, kept beside the data.
//!
//! Epochs ([`crate::history`]) tell two histories apart where a controller grants them. A lineage
//! does where nobody grants anything, or more than one node wrote within one epoch: every node that
//! becomes master, and every start of one, begins an entry with a random id; a replica takes over
//! the entries of the master whose stream it applies. Two databases then hold the same records up
//! to the smaller end of the newest entry both have, as with epochs.
//!
//! It is no part of the data, so Kvrocks is sent none of it and no sequence number is spent. A
//! stretch that came from a master without a lineage (Kvrocks) is an entry of its own that nobody
//! else can name.
//!
//! Invariant: an entry is on the disk before the first record of its stretch is written here.

use std::fmt;

use crate::history::{Entry, EpochId, Fork, History, Malformed, Position, SENT_ENTRIES_MAX, fork};

/// Where a stretch came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This node was the master.
    Own,
    /// A master that told its lineage.
    Master,
    /// A master that keeps none.
    Foreign,
}

impl Source {
    fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Master => "master",
            Self::Foreign => "foreign",
        }
    }

    fn parse(word: &[u8]) -> Option<Self> {
        [Self::Own, Self::Master, Self::Foreign]
            .into_iter()
            .find(|source| source.word().as_bytes() == word)
    }
}

/// The stretches of a database, oldest first. Empty where nothing is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    entries: Vec<(Entry, Source)>,
}

impl Lineage {
    /// Reads what [`Lineage::to_string`] writes.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let mut lineage = Self::default();
        let mut history = History::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let at = line.iter().position(|byte| *byte == b' ').ok_or(Malformed)?;
            let entry = Entry::parse(&line[..at]).ok_or(Malformed)?;
            let source = Source::parse(&line[at + 1..]).ok_or(Malformed)?;
            history.push(entry).map_err(|_| Malformed)?;
            lineage.entries.push((entry, source));
        }
        Ok(lineage)
    }

    /// The entries as they are sent and compared.
    pub fn history(&self) -> History {
        let mut history = History::default();
        for (entry, _) in &self.entries {
            // They were pushed in this order before.
            let fits = history.push(*entry);
            debug_assert!(fits.is_ok(), "{fits:?}");
        }
        history
    }

    /// Begins a stretch behind `latest`. Entries of which the database holds no record are dropped:
    /// what they would have held is not here.
    pub fn begin(&mut self, latest: u64, id: EpochId, wall_ms: u64, source: Source) {
        self.entries.retain(|(entry, _)| entry.first <= latest);
        let epoch = self.entries.last().map_or(0, |(newest, _)| newest.epoch) + 1;
        self.entries.push((Entry { epoch, id, first: latest + 1, wall_ms }, source));
        let surplus = self.entries.len().saturating_sub(SENT_ENTRIES_MAX);
        self.entries.drain(..surplus);
    }

    /// The lineage of a replica of a master with these entries.
    pub fn adopted(theirs: &History) -> Self {
        let entries = theirs.entries().iter().map(|entry| (*entry, Source::Master));
        Self { entries: entries.collect() }
    }

    /// The lineage of a copy of data that a master without one gave.
    pub fn foreign(id: EpochId, wall_ms: u64) -> Self {
        let mut lineage = Self::default();
        lineage.begin(0, id, wall_ms, Source::Foreign);
        lineage
    }

    /// Where the newest of the records up to `latest` came from; `None` where that is not known.
    pub fn source(&self, latest: u64) -> Option<Source> {
        self.stretch(latest).map(|(_, source)| source)
    }

    /// The stretch that holds the newest of the records up to `latest`: its first record, and where
    /// it came from.
    pub fn stretch(&self, latest: u64) -> Option<(u64, Source)> {
        let found = self.entries.iter().rev().find(|(entry, _)| entry.first <= latest);
        found.map(|(entry, source)| (entry.first, *source))
    }

    /// Where data of this lineage that ends at `latest` parts from a master's that ends at
    /// `their_latest`; `None` where nothing is known of the data here.
    pub fn fork(&self, latest: u64, theirs: &History, their_latest: u64) -> Option<Fork> {
        if self.entries.is_empty() {
            return None;
        }
        let mine = Position { history: self.history(), latest };
        let theirs = Position { history: theirs.clone(), latest: their_latest };
        Some(fork(&mine, &theirs))
    }
}

/// A line for each entry: `<number>:<id>:<first>:<wall ms> own|master|foreign`.
impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|(entry, source)| writeln!(f, "{entry} {}", source.word()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(bits: u64) -> EpochId {
        EpochId::from_random(bits)
    }

    /// A master that began at 1 and restarted at 61.
    fn master() -> Lineage {
        let mut lineage = Lineage::default();
        lineage.begin(0, id(1), 0, Source::Own);
        lineage.begin(60, id(2), 0, Source::Own);
        lineage
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let mut lineage = Lineage::adopted(&master().history());
        lineage.begin(80, id(3), 7, Source::Foreign);
        assert_eq!(Lineage::parse(lineage.to_string().as_bytes()), Ok(lineage.clone()));
        assert_eq!(Lineage::parse(b""), Ok(Lineage::default()));
        for bad in ["x", "1:0000000000000001:1:0", "1:0000000000000001:1:0 what", "1:1:1:0 own"] {
            assert_eq!(Lineage::parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
        assert_eq!(History::parse(lineage.history().to_string().as_bytes()), Ok(lineage.history()));
    }

    #[test]
    fn a_replica_is_a_part_of_its_master() {
        let master = master();
        let replica = Lineage::adopted(&master.history());
        assert_eq!(replica.fork(70, &master.history(), 80), Some(Fork::Same));
        // It lost its newest records with the power, even those of the newest entry.
        assert_eq!(replica.fork(50, &master.history(), 80), Some(Fork::Same));
        // The entry was begun, and nothing written yet.
        assert_eq!(replica.fork(60, &master.history(), 60), Some(Fork::Same));
        assert_eq!(Lineage::default().fork(60, &master.history(), 60), None);
    }

    #[test]
    fn own_writes_part_a_node_from_its_former_master() {
        let (mut a, mut b) = (master(), Lineage::adopted(&master().history()));
        b.begin(70, id(9), 0, Source::Own);
        assert_eq!(b.fork(71, &a.history(), 71), Some(Fork::At(70)), "both wrote one record");
        assert_eq!(b.fork(71, &a.history(), 500), Some(Fork::At(70)));
        assert_eq!(b.source(71), Some(Source::Own));
        // It was master and wrote nothing.
        assert_eq!(b.fork(70, &a.history(), 71), Some(Fork::Same));
        assert_eq!(b.source(70), Some(Source::Master));
        // A third node that follows the promoted one.
        let third = Lineage::adopted(&a.history());
        assert_eq!(third.fork(70, &b.history(), 90), Some(Fork::Same));
        assert_eq!(third.fork(75, &b.history(), 90), Some(Fork::At(70)), "ahead of the fork");
        // The master came back without its newest records and went on.
        a.begin(65, id(8), 0, Source::Own);
        assert_eq!(third.fork(70, &a.history(), 90), Some(Fork::At(65)));
    }

    #[test]
    fn an_entry_without_records_is_replaced() {
        let mut lineage = master();
        lineage.begin(60, id(3), 0, Source::Own);
        let ids: Vec<_> = lineage.history().entries().iter().map(|e| (e.id, e.first)).collect();
        assert_eq!(ids, [(id(1), 1), (id(3), 61)]);
    }

    #[test]
    fn a_stretch_from_elsewhere_has_no_name_for_others() {
        let master = master();
        let mut replica = Lineage::adopted(&master.history());
        replica.begin(70, id(5), 0, Source::Foreign);
        assert_eq!(replica.fork(75, &master.history(), 90), Some(Fork::At(70)));
        let copy = Lineage::foreign(id(6), 0);
        assert_eq!(copy.fork(75, &master.history(), 90), Some(Fork::None));
        assert_eq!(copy.source(75), Some(Source::Foreign));
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut lineage = Lineage::default();
        for number in 0..2000 {
            lineage.begin(number, id(number), 0, Source::Own);
        }
        assert_eq!(lineage.history().entries().len(), SENT_ENTRIES_MAX);
        assert!(lineage.history().contains(id(1999)));
    }
}
