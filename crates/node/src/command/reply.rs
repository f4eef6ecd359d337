//! The one reply of a command, consumed when given.

use resp::{Protocol, Room, Writer};

use super::Result;

/// Proof that a handler has answered.
#[derive(Debug)]
pub struct Replied(());

impl Replied {
    /// To nothing there is no reply.
    pub(crate) fn to_nothing() -> Self {
        Self(())
    }
}

/// The right to answer once.
#[derive(Debug)]
pub struct Reply<'a>(Writer<'a>);

impl<'a> Reply<'a> {
    /// Wraps the connection's writer for one command.
    pub fn new(writer: Writer<'a>) -> Self {
        Self(writer)
    }

    /// `+OK`.
    pub fn ok(self) -> Replied {
        self.with(|writer| writer.raw(b"+OK\r\n"))
    }

    /// An error; the text begins with its code.
    pub fn error(self, text: &str) -> Replied {
        self.with(|writer| writer.error(text))
    }

    /// A simple string.
    pub fn simple(self, text: &str) -> Replied {
        self.with(|writer| writer.simple(text))
    }

    /// An integer.
    pub fn integer(self, value: i64) -> Replied {
        self.with(|writer| writer.integer(value))
    }

    /// A count.
    pub fn count(self, value: usize) -> Replied {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A number of elements as the data has it.
    pub fn number(self, value: u64) -> Replied {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// 1 or 0, in both protocol versions.
    pub fn flag(self, value: bool) -> Replied {
        self.integer(i64::from(value))
    }

    /// A bulk string.
    pub fn bulk(self, bytes: &[u8]) -> Replied {
        self.with(|writer| writer.bulk(bytes))
    }

    /// A bulk string, or null when there is no value.
    pub fn bulk_or_null(self, bytes: Option<&[u8]>) -> Replied {
        self.with(|writer| writer.bulk_or_null(bytes))
    }

    /// Null.
    pub fn null(self) -> Replied {
        self.with(|writer| writer.null())
    }

    /// Text for people.
    pub fn verbatim(self, text: &str) -> Replied {
        self.with(|writer| writer.verbatim(text.as_bytes()))
    }

    /// An array of bulk strings.
    pub fn bulks<B: AsRef<[u8]>>(self, items: &[B]) -> Replied {
        self.with(|writer| writer.bulks(items))
    }

    /// An array of bulk strings, null in place of those that are not there.
    pub fn bulks_or_nulls(self, items: &[Option<Vec<u8>>]) -> Replied {
        self.with(|writer| {
            writer.array(items.len());
            items.iter().for_each(|item| writer.bulk_or_null(item.as_deref()));
        })
    }

    /// Help texts, as Redis gives them: an array of simple strings.
    pub fn help(self, lines: &[&str]) -> Replied {
        self.with(|writer| {
            writer.array(lines.len());
            for line in lines {
                writer.simple(line);
            }
        })
    }

    /// An array of so many elements, all of which `write` writes. An error leaves nothing of it
    /// behind.
    pub fn elements(
        mut self,
        count: usize,
        write: impl FnOnce(&mut Writer<'_>) -> Result<()>,
    ) -> Result<Replied> {
        let start = self.0.mark();
        self.0.array(count);
        if let Err(error) = write(&mut self.0.reborrow()) {
            self.0.take_back(start);
            return Err(error);
        }
        Ok(Replied(()))
    }

    /// A listing whose length is known at its end: `write` writes its elements and returns how many
    /// they are, and `head` begins it with that number.
    /// An error of `write` leaves nothing of it behind.
    pub fn listing(
        mut self,
        head: impl FnOnce(&mut Writer<'a>, usize),
        write: impl FnOnce(&mut Writer<'_>) -> Result<usize>,
    ) -> Result<Replied> {
        let start = self.0.mark();
        let count = match write(&mut self.0.reborrow()) {
            Ok(count) => count,
            Err(error) => {
                self.0.take_back(start);
                return Err(error);
            }
        };
        let end = self.0.mark();
        Ok(self.with(|writer| {
            head(writer, count);
            writer.put_first(start, end);
        }))
    }

    /// The version of the protocol that it is written in.
    pub fn protocol(&self) -> Protocol {
        self.0.protocol()
    }

    /// The room it has, for what is written before it; `None` where nothing is bounded.
    pub fn room(&self) -> Option<&'a Room> {
        self.0.room()
    }

    /// A reply of several parts, some of which cannot be read perhaps: then nothing is written, and
    /// the error is the reply. `write` must write exactly one value.
    pub fn parts(self, write: impl FnOnce(&mut Writer<'_>) -> Result<()>) -> Result<Replied> {
        let mut value = Vec::new();
        write(&mut Writer::new(&mut value, self.protocol()).within(self.0.room()))?;
        Ok(self.with(|writer| writer.raw(&value)))
    }

    /// A reply of several parts; `write` must write exactly one value.
    pub fn with(mut self, write: impl FnOnce(&mut Writer<'a>)) -> Replied {
        write(&mut self.0);
        Replied(())
    }
}
