//! A file that a Redis server wrote, or the stream of one to its replica: keys with their values,
//! one after the other.

use std::io;

use crate::checksum::seal;
use crate::part::{Kind, Part};
use crate::read::Reader;
use crate::{Error, FUNCTION, VERSION_MAX};

/// Checksums stand at the end since this version.
const SUMMED: u16 = 5;

/// See the module.
pub struct File<R> {
    reader: Reader<R>,
    version: u16,
    db: u64,
}

/// A key, before its value is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The number of its database.
    pub db: u64,
    /// Its name.
    pub name: Vec<u8>,
    /// When it ends, Unix ms; 0 for never.
    pub expire_ms: u64,
    /// The type of its value, for [`File::value`].
    pub code: u8,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A key: its value must be read, or passed over, before what follows.
    Key(Key),
    /// The source of a library of functions.
    Library(Vec<u8>),
    /// The end of the data; the checksum is right.
    End,
}

impl<R: io::Read> File<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is no such file, or of a version that is not known.
    pub fn open(input: R) -> Result<Self, Error> {
        let mut reader = Reader::new(input);
        let head: [u8; 9] = reader.array()?;
        let version = head
            .strip_prefix(b"REDIS")
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
        let version = version.ok_or(Error::Malformed("this is no RDB file"))?;
        if !(1..=VERSION_MAX).contains(&version) {
            return Err(Error::Malformed("the version of the file is not known"));
        }
        Ok(Self { reader, version, db: 0 })
    }

    /// Bytes read so far.
    pub fn taken(&self) -> u64 {
        self.reader.taken()
    }

    /// The next key, library, or the end.
    ///
    /// # Errors
    /// Those of the crate.
    pub fn read_next(&mut self) -> Result<Next, Error> {
        let mut expire_ms = 0;
        loop {
            match self.reader.byte()? {
                // Which slot follows, and how many keys.
                244 => (0..3).try_for_each(|_| self.reader.length().map(drop))?,
                FUNCTION => return Ok(Next::Library(self.reader.string()?)),
                246 => return Err(Error::Malformed("functions of a test version of Redis")),
                247 => self.module_aux()?,
                // When it was used last, and how often.
                248 => self.reader.length().map(drop)?,
                249 => self.reader.byte().map(drop)?,
                250 => (0..2).try_for_each(|_| self.reader.string().map(drop))?,
                // How many keys there are.
                251 => (0..2).try_for_each(|_| self.reader.length().map(drop))?,
                252 => expire_ms = self.reader.time_ms()?,
                253 => {
                    let seconds = i32::from_le_bytes(self.reader.array()?);
                    expire_ms = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000).max(1);
                }
                254 => self.db = self.reader.length()?,
                255 => return self.end(),
                code => {
                    let name = self.reader.string()?;
                    return Ok(Next::Key(Key { db: self.db, name, expire_ms, code }));
                }
            }
        }
    }

    /// Calls `visit` with the parts of the value of the key that came last.
    ///
    /// # Errors
    /// As [`Reader::value`].
    pub fn value<E: From<Error>>(
        &mut self,
        key: &Key,
        visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<Kind, E> {
        self.reader.value(key.code, visit)
    }

    /// Passes the value of the key that came last over; a module's too.
    ///
    /// # Errors
    /// Those of the crate.
    pub fn pass(&mut self, key: &Key) -> Result<(), Error> {
        if key.code == 7 {
            self.reader.length()?;
            return self.module_parts();
        }
        self.reader.value(key.code, &mut |_| Ok::<_, Error>(())).map(drop)
    }

    /// The value of the key that came last, as DUMP would answer it.
    ///
    /// # Errors
    /// Those of the crate; [`Error::Malformed`] if it is longer than a string may be.
    pub fn payload(&mut self, key: &Key) -> Result<Vec<u8>, Error> {
        self.reader.keep(vec![key.code]);
        let passed = self.pass(key);
        let value = self.reader.take_kept();
        passed?;
        Ok(seal(value?, self.version))
    }

    /// What comes behind the end: the input, as far as it was read.
    pub fn into_input(self) -> R {
        self.reader.into_input()
    }

    /// What a module wrote beside keys.
    fn module_aux(&mut self) -> Result<(), Error> {
        // Which module, and when it is to be read.
        for _ in 0..3 {
            self.reader.length()?;
        }
        self.module_parts()
    }

    /// What a module wrote: each part says what it is.
    fn module_parts(&mut self) -> Result<(), Error> {
        loop {
            match self.reader.length()? {
                0 => return Ok(()),
                1 | 2 => self.reader.length().map(drop)?,
                3 => self.reader.array::<4>().map(drop)?,
                4 => self.reader.array::<8>().map(drop)?,
                5 => self.reader.string().map(drop)?,
                _ => return Err(Error::Malformed("a module's value has a part of no form")),
            }
        }
    }

    fn end(&mut self) -> Result<Next, Error> {
        if self.version < SUMMED {
            return Ok(Next::End);
        }
        let summed = self.reader.checksum();
        let written = u64::from_le_bytes(self.reader.array()?);
        // A server that was told not to sum writes 0.
        if written == 0 || written == summed { Ok(Next::End) } else { Err(Error::Footer) }
    }
}

#[cfg(test)]
mod tests;
