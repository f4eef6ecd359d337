//! What a value consists of, whatever its encoding: two payloads of DUMP are compared by it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use anyhow::{Context as _, Result};
use rdb::{Error, Id, Kind, Part, Reader};

/// A digest of a value: the same for the same value.
///
/// # Errors
/// The payload is none.
pub(super) fn of(payload: &[u8]) -> Result<(u64, u64)> {
    let value = rdb::body(payload).context("read a payload")?;
    let (&code, rest) = value.split_first().context("read an empty payload")?;
    let kind = Kind::of(code);
    // Order matters in lists and streams; elsewhere parts are added up.
    let is_ordered = matches!(kind, Some(Kind::List | Kind::Stream));
    let (mut digest, mut count) = (0_u64, 0_u64);
    let mut first = None;
    let taken = Reader::new(rest).value(code, &mut |mut part: Part<'_>| {
        match &mut part {
            Part::Entry { id, .. } if first.is_none() => first = Some(*id),
            // What was deleted before the first entry leaves no gap. Kvrocks, and so Holdfast,
            // notes it there when a stream is trimmed; a Redis does not.
            Part::Stream { max_deleted, .. } if first.is_none_or(|id| *max_deleted < id) => {
                *max_deleted = Id::default();
            }
            _ => {}
        }
        let part = of_part(&part, if is_ordered { count } else { 0 });
        digest = digest.wrapping_add(part);
        count += 1;
        Ok::<_, Error>(())
    });
    taken.context("read a payload")?;
    Ok((digest, count))
}

fn of_part(part: &Part<'_>, place: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    place.hash(&mut hasher);
    match part {
        // Redis keeps a HyperLogLog in one of two encodings, and an estimate beside it.
        Part::String(text) if text.starts_with(b"HYLL") => 0.hash(&mut hasher),
        // When it last got something is known since Redis 7.2.
        Part::Consumer { group, name, seen_ms, pending, .. } => {
            (group, name, seen_ms, pending).hash(&mut hasher);
        }
        Part::String(text) => (1, text).hash(&mut hasher),
        Part::Element(text) => (2, text).hash(&mut hasher),
        Part::Member(text) => (3, text).hash(&mut hasher),
        Part::Field { name, value, end_ms } => (name, value, end_ms).hash(&mut hasher),
        Part::Entry { id, fields } => (id.ms, id.seq, fields).hash(&mut hasher),
        Part::Scored(member, score) => (member, score.to_bits()).hash(&mut hasher),
        part => format!("{part:?}").hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use rdb::write::{Elements, Stream, StreamState};

    use super::*;

    #[test]
    fn what_a_stream_lost_at_its_beginning_is_none_of_its_value() {
        let id = |ms| Id { ms, seq: 0 };
        let stream = |max_deleted| {
            let mut stream = Stream::default();
            [5, 9].into_iter().for_each(|ms| stream.entry(id(ms), &[b"f", b"v"]));
            let state = StreamState { last: id(9), max_deleted: id(max_deleted), entries_added: 4 };
            of(&stream.finish(&state, &[])).unwrap()
        };
        assert_eq!(stream(0), stream(4));
        assert_ne!(stream(0), stream(5));
        assert_ne!(stream(6), stream(7));
    }

    #[test]
    fn order_matters_where_it_is_part_of_the_value() {
        let made = |mut elements: Elements, add: fn(&mut Elements, &[u8]), texts: [&str; 2]| {
            texts.iter().for_each(|text| add(&mut elements, text.as_bytes()));
            of(&elements.finish()).unwrap()
        };
        let set = |texts| made(Elements::set(), Elements::member, texts);
        assert_eq!(set(["a", "b"]), set(["b", "a"]));
        assert_ne!(set(["a", "b"]), set(["a", "c"]));
        let list = |texts| made(Elements::list(), Elements::element, texts);
        assert_ne!(list(["a", "b"]), list(["b", "a"]));
        assert!(of(b"").is_err());
    }
}
