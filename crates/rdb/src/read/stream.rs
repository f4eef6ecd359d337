//! Streams: entries in listpacks, what is known of the whole, groups with their consumers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use super::Reader;
use crate::Error;
use crate::packed::Packed;
use crate::part::{Id, Part, Read};

/// The entry is deleted.
const DELETED: i64 = 1;
/// It has the fields of the first one of its listpack.
const SAME_FIELDS: i64 = 2;

/// Most fields of an entry. A word takes some 40 bytes of memory here, and may take two in its
/// list.
const FIELDS_MAX: u64 = 1 << 20;

/// Reads a stream of type 15, 19 or 21.
pub(crate) fn read<R: io::Read, E: From<Error>>(
    reader: &mut Reader<R>,
    code: u8,
    visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for _ in 0..reader.length()? {
        let name = reader.string()?;
        let name = <[u8; 16]>::try_from(name.as_slice());
        let first = name.map_err(|_| Error::Malformed("a node of a stream has no identifier"))?;
        let node = reader.string()?;
        entries(Packed::listpack(&node)?, Id::from_bytes(first), visit)?;
    }
    let length = reader.length()?;
    let last = id(reader)?;
    let (mut max_deleted, mut entries_added) = (Id::default(), None);
    if code >= 19 {
        // The first entry, which is known by now.
        id(reader)?;
        max_deleted = id(reader)?;
        entries_added = Some(reader.length()?);
    }
    visit(Part::Stream { length, last, max_deleted, entries_added })?;
    for _ in 0..reader.length()? {
        group(reader, code, visit)?;
    }
    Ok(())
}

fn id<R: io::Read>(reader: &mut Reader<R>) -> Result<Id, Error> {
    Ok(Id { ms: reader.length()?, seq: reader.length()? })
}

/// A number that has no sign.
fn count(list: &mut Packed<'_>) -> Result<u64, Error> {
    let number = list.number()?;
    u64::try_from(number).map_err(|_| Error::Malformed("a count of a stream is negative"))
}

/// So many fields as an entry may have.
fn few(fields: u64) -> Result<u64, Error> {
    match fields {
        0..=FIELDS_MAX => Ok(fields),
        _ => Err(Error::Malformed("an entry of a stream has more than 1048576 fields")),
    }
}

/// The entries of a listpack, behind the one that it is named by.
fn entries<E: From<Error>>(
    mut list: Packed<'_>,
    first: Id,
    visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let (mut living, mut deleted) = (count(&mut list)?, count(&mut list)?);
    // They are read anew for each entry that has them: collected, they would take many times what
    // a compressed payload has.
    let fields_of_all = count(&mut list)?;
    let names_of_all = list.clone();
    for _ in 0..fields_of_all {
        list.must()?;
    }
    // Where the length of an entry stands elsewhere.
    list.must()?;
    while let Some(flags) = list.next()? {
        let flags = flags.number().ok_or(Error::Malformed("an entry of a stream has no flags"))?;
        let ms = first.ms.wrapping_add(list.number()? as u64);
        let seq = first.seq.wrapping_add(list.number()? as u64);
        let mut words: Vec<Cow<'_, [u8]>> = Vec::new();
        if flags & SAME_FIELDS != 0 {
            let mut names = names_of_all.clone();
            for _ in 0..few(fields_of_all)? {
                words.push(names.must()?.text());
                words.push(list.must()?.text());
            }
        } else {
            for _ in 0..few(count(&mut list)?)? {
                words.push(list.must()?.text());
                words.push(list.must()?.text());
            }
        }
        // How many elements of the list it took.
        list.must()?;
        let counter = if flags & DELETED == 0 { &mut living } else { &mut deleted };
        *counter = counter.checked_sub(1).ok_or(TOO_MANY)?;
        if flags & DELETED == 0 {
            let fields: Vec<&[u8]> = words.iter().map(|word| &**word).collect();
            visit(Part::Entry { id: Id { ms, seq }, fields: &fields })?;
        }
    }
    if living == 0 && deleted == 0 { Ok(()) } else { Err(TOO_MANY.into()) }
}

const TOO_MANY: Error = Error::Malformed("a node of a stream has another number of entries");

/// What was delivered: when, and how often.
type Delivered = BTreeMap<Id, (u64, u64)>;

fn group<R: io::Read, E: From<Error>>(
    reader: &mut Reader<R>,
    code: u8,
    visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let group = reader.string()?;
    let last_delivered = id(reader)?;
    let entries_read = match code {
        15 => Read::Unsaid,
        _ => match reader.length()? {
            // -1.
            u64::MAX => Read::Unknown,
            read => Read::Known(read),
        },
    };
    let mut delivered = Delivered::new();
    for _ in 0..reader.length()? {
        let id = Id::from_bytes(reader.array()?);
        let known = (reader.time_ms()?, reader.length()?);
        if delivered.insert(id, known).is_some() {
            return Err(Error::Malformed("an entry is pending twice").into());
        }
    }
    let pending = delivered.len() as u64;
    let consumers = reader.length()?;
    for _ in 0..consumers {
        consumer(reader, code, &group, &mut delivered, visit)?;
    }
    if !delivered.is_empty() {
        return Err(Error::Malformed("an entry is pending for nobody").into());
    }
    visit(Part::Group { name: &group, last_delivered, entries_read, consumers, pending })
}

fn consumer<R: io::Read, E: From<Error>>(
    reader: &mut Reader<R>,
    code: u8,
    group: &[u8],
    delivered: &mut Delivered,
    visit: &mut impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let name = reader.string()?;
    let seen_ms = reader.time_ms()?;
    let active_ms = if code >= 21 { reader.time_ms()? } else { seen_ms };
    let pending = reader.length()?;
    visit(Part::Consumer { group, name: &name, seen_ms, active_ms, pending })?;
    for _ in 0..pending {
        let id = Id::from_bytes(reader.array()?);
        let known = delivered.remove(&id);
        let (delivered_ms, count) =
            known.ok_or(Error::Malformed("a consumer has what was not delivered"))?;
        visit(Part::Pending { group, consumer: &name, id, delivered_ms, count })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listpack of small numbers.
    fn listpack(numbers: &[u8]) -> Vec<u8> {
        let elements: Vec<u8> = numbers.iter().flat_map(|number| [*number, 1]).collect();
        framed(numbers.len(), &elements)
    }

    /// A listpack of so many elements.
    fn framed(count: usize, elements: &[u8]) -> Vec<u8> {
        let mut bytes = (elements.len() as u32 + 7).to_le_bytes().to_vec();
        bytes.extend((count.min(0xffff) as u16).to_le_bytes());
        bytes.extend(elements);
        bytes.push(0xff);
        bytes
    }

    fn read_node(bytes: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, Error> {
        let mut found = Vec::new();
        entries(Packed::listpack(bytes)?, Id::default(), &mut |part| {
            if let Part::Entry { fields, .. } = part {
                found.push(fields.iter().map(|field| field.to_vec()).collect());
            }
            Ok::<_, Error>(())
        })?;
        Ok(found)
    }

    #[test]
    fn entries_of_the_same_fields_each_read_their_names() {
        // Two living, none deleted, one field `7`; each entry: flags, ms, seq, value, length.
        let node = listpack(&[2, 0, 1, 7, 0, 2, 0, 0, 8, 4, 2, 0, 1, 9, 4]);
        let found = read_node(&node).unwrap();
        let words = |texts: [&str; 2]| texts.map(|text| text.as_bytes().to_vec()).to_vec();
        assert_eq!(found, [words(["7", "8"]), words(["7", "9"])]);
    }

    #[test]
    fn an_entry_of_too_many_fields_is_refused_before_they_are_collected() {
        assert!(few(FIELDS_MAX).is_ok());
        let refused = few(FIELDS_MAX + 1).unwrap_err().to_string();
        assert!(refused.contains(&FIELDS_MAX.to_string()), "{refused}");
        let is_refused = |node: &[u8]| {
            let told = read_node(node).unwrap_err().to_string();
            assert_eq!(told, refused);
        };
        // 2^20 + 1, and behind it the length of the element.
        let many = [0xf2, 1, 0, 0x10, 4];
        // One living; the entry says itself how many it has, and has none.
        let own = [&[1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1][..], &many].concat();
        is_refused(&framed(8, &own));
        // Or it has as many as the listpack, which names them all.
        let names = [7, 1].repeat(FIELDS_MAX as usize + 1);
        let entry = [0, 1, 2, 1, 0, 1, 1, 1];
        let same = [&[1, 1, 0, 1][..], &many, &names, &entry].concat();
        is_refused(&framed(usize::MAX, &same));
    }
}
