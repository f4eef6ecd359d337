//! Elements as arguments of commands.

use super::{Closed, Error, Halt, Header, Id, Out, Type, corrupt, fields, score_text};

/// Elements of a command.
const ITEMS: usize = 16;

/// Elements on their way into commands.
pub(super) struct Items<'o> {
    out: &'o mut dyn Out,
    words: Vec<Vec<u8>>,
    count: usize,
}

impl<'o> Items<'o> {
    pub(super) fn new(out: &'o mut dyn Out, command: &[u8], key: &[u8]) -> Self {
        Self { out, words: vec![command.to_vec(), key.to_vec()], count: 0 }
    }

    /// One more element, of one word or two.
    pub(super) fn add(&mut self, element: Vec<Vec<u8>>) -> Result<(), Halt> {
        self.words.extend(element);
        self.count += 1;
        if self.count == ITEMS {
            self.close();
            self.out.may_send().map_err(|Closed| Halt::Closed)?;
        }
        Ok(())
    }

    /// The command with what there is.
    pub(super) fn close(&mut self) {
        if self.count > 0 {
            let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
            self.out.command(&words);
            self.words.truncate(2);
            self.count = 0;
        }
    }
}

/// The words by which an element is added.
pub(super) fn elements(kind: Type, sub: &[u8], value: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    Ok(match kind {
        Type::Hash => pair(sub, value),
        Type::List => vec![value.to_vec()],
        Type::Zset => {
            let score = score_text(value).ok_or_else(|| corrupt("a score is not of 8 bytes"))?;
            pair(score.as_bytes(), sub)
        }
        _ => vec![name_of(kind, sub)?],
    })
}

/// The word by which an element is removed.
pub(super) fn name_of(kind: Type, sub: &[u8]) -> Result<Vec<u8>, Error> {
    match kind {
        Type::SortedInt => Ok(index(sub)?.to_string().into_bytes()),
        _ => Ok(sub.to_vec()),
    }
}

pub(super) fn pair(first: &[u8], second: &[u8]) -> Vec<Vec<u8>> {
    vec![first.to_vec(), second.to_vec()]
}

/// A number of eight bytes.
pub(super) fn index(sub: &[u8]) -> Result<u64, Error> {
    let bytes = sub.try_into().map_err(|_| corrupt("a number is not of 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Indexes of a list's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) head: u64,
    pub(super) tail: u64,
}

impl Ends {
    /// Whether a sub-key is the index of an element.
    pub(super) fn contains(self, sub: &[u8]) -> bool {
        index(sub).is_ok_and(|index| (self.head..self.tail).contains(&index))
    }
}

/// Those of a list.
pub(super) fn ends(header: &Header<'_>) -> Result<Ends, Error> {
    let malformed = || corrupt("a list without its ends");
    let (head, tail) = header.tail().split_first_chunk::<8>().ok_or_else(malformed)?;
    Ok(Ends { head: u64::from_be_bytes(*head), tail: index(tail)? })
}

/// Sends the bits of a segment that are not what they were. The lowest bit of a byte is its first.
pub(super) fn bits(
    key: &[u8],
    sub: &[u8],
    (was, now): (&[u8], &[u8]),
    out: &mut dyn Out,
    highest: &mut Option<u64>,
) -> Result<(), Halt> {
    let start = std::str::from_utf8(sub).ok().and_then(|text| text.parse::<u64>().ok());
    let start = start.ok_or_else(|| corrupt("a segment without its number"))?;
    for at in 0..was.len().max(now.len()) {
        let byte = |bytes: &[u8]| bytes.get(at).copied().unwrap_or(0);
        let (was, now) = (byte(was), byte(now));
        let mut changed = was ^ now;
        if changed == 0 {
            continue;
        }
        while changed != 0 {
            let place = changed.trailing_zeros();
            changed &= changed - 1;
            let bit = (start.saturating_add(at as u64))
                .saturating_mul(8)
                .saturating_add(u64::from(place));
            let value: &[u8] = if now >> place & 1 == 1 { b"1" } else { b"0" };
            out.command(&[b"setbit", key, bit.to_string().as_bytes(), value]);
            *highest = (*highest).max(Some(bit));
        }
        out.may_send()?;
    }
    Ok(())
}

/// Sends an entry of a stream.
pub(super) fn entry(key: &[u8], sub: &[u8], value: &[u8], out: &mut dyn Out) -> Result<(), Halt> {
    let id = Id::from_bytes(sub).ok_or_else(|| corrupt("an entry without its id"))?.to_string();
    let fields = fields::decode(value).map_err(|_| corrupt("an entry is cut"))?;
    let mut words: Vec<&[u8]> = vec![b"XADD", key, id.as_bytes()];
    words.extend(fields);
    out.command(&words);
    Ok(())
}
