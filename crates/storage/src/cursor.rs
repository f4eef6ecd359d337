//! Range scans: the engine's entries with those of an overlay between them.

use std::cmp::Ordering;

use rocksdb::DBRawIterator;

use crate::overlay::Slice as OverlaySlice;
use crate::{Direction, Error, budget};

/// Key and value of an entry.
pub type Entry<'e> = (&'e [u8], &'e [u8]);

/// A range scan. Lends its entries, so that nothing is copied.
pub struct Cursor<'a> {
    engine: DBRawIterator<'a>,
    direction: Direction,
    position: Position,
    overlay: Option<OverlaySlice>,
}

/// Where the engine's iterator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Unopened,
    /// On an entry that was lent already.
    Used,
    /// On an entry that was not lent yet, or behind the end.
    Fresh,
}

enum Source {
    Engine,
    Overlay,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(
        engine: DBRawIterator<'a>,
        direction: Direction,
        overlay: Option<OverlaySlice>,
    ) -> Self {
        Self { engine, direction, position: Position::Unopened, overlay }
    }

    /// The next entry (key, value).
    ///
    /// # Errors
    /// I/O errors and corruption; the scan is over then.
    #[expect(clippy::should_implement_trait, reason = "lends from itself, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let entry = if self.overlay.is_none() {
            self.next_of_engine()?
        } else {
            match self.step()? {
                None => None,
                Some(Source::Engine) => self.engine.item(),
                Some(Source::Overlay) => self.overlay.as_ref().and_then(OverlaySlice::passed),
            }
        };
        if let Some((_, value)) = entry {
            budget::found(value.len());
        }
        Ok(entry)
    }

    /// The next entry of a scan that passes over nothing but the engine's: as few calls of it as
    /// there can be.
    fn next_of_engine(&mut self) -> Result<Option<Entry<'_>>, Error> {
        budget::step(1)?;
        match (self.position, self.direction) {
            (Position::Unopened, Direction::Forward) => self.engine.seek_to_first(),
            (Position::Unopened, Direction::Reverse) => self.engine.seek_to_last(),
            // Behind the end they do nothing.
            (_, Direction::Forward) => self.engine.next(),
            (_, Direction::Reverse) => self.engine.prev(),
        }
        self.position = Position::Used;
        if let Some(entry) = self.engine.item() {
            return Ok(Some(entry));
        }
        self.status()?;
        Ok(None)
    }

    fn status(&self) -> Result<(), Error> {
        self.engine.status().map_err(|error| Error::engine("scan a family", error))
    }

    fn step(&mut self) -> Result<Option<Source>, Error> {
        loop {
            budget::step(1)?;
            self.advance_engine()?;
            let Some(overlay) = &mut self.overlay else { return Ok(self.lend_engine()) };
            let head = overlay.head(self.direction);
            let order = match (self.engine.key(), head) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(engine), Some(key)) => match self.direction {
                    Direction::Forward => engine.cmp(key),
                    Direction::Reverse => (**key).cmp(engine),
                },
            };
            if order == Ordering::Less {
                if self.engine.key().is_some_and(|key| overlay.hides(key)) {
                    self.position = Position::Used;
                    continue;
                }
                return Ok(self.lend_engine());
            }
            if order == Ordering::Equal {
                self.position = Position::Used;
            }
            overlay.pop(self.direction);
            if overlay.passed().is_some() {
                return Ok(Some(Source::Overlay));
            }
        }
    }

    fn lend_engine(&mut self) -> Option<Source> {
        self.engine.valid().then(|| {
            self.position = Position::Used;
            Source::Engine
        })
    }

    fn advance_engine(&mut self) -> Result<(), Error> {
        match (self.position, self.direction) {
            (Position::Fresh, _) => return Ok(()),
            (Position::Unopened, Direction::Forward) => self.engine.seek_to_first(),
            (Position::Unopened, Direction::Reverse) => self.engine.seek_to_last(),
            (Position::Used, _) if !self.engine.valid() => {}
            (Position::Used, Direction::Forward) => self.engine.next(),
            (Position::Used, Direction::Reverse) => self.engine.prev(),
        }
        self.position = Position::Fresh;
        if self.engine.valid() {
            return Ok(());
        }
        self.status()
    }
}
