//! Changes at the places a path leads to.
//!
//! Each place is changed once, the last one first, so that what is within a value changes before
//! the value does. Where a path leads to what the document does not hold (a `length`, what a
//! function says), the answer is told and nothing changes. When an edit fails the document is half
//! changed: it is thrown away.

use crate::path::{Key, Path, location::location};
use crate::value::{Number, Object, Value};
use crate::{BYTES_MAX, Error, Result, from_text};

/// Calls `edit` with every value the path leads to, and tells what it said, the last one first.
fn each<T>(
    document: &mut Value,
    path: &[u8],
    bytes_each: usize,
    mut edit: impl FnMut(&mut Value) -> Result<T>,
) -> Result<Vec<T>> {
    let places = Path::parse(path)?.places(document)?;
    if places.len().saturating_mul(bytes_each) > BYTES_MAX {
        return Err(Error::TooLarge);
    }
    let mut outcomes = Vec::with_capacity(places.len());
    for place in places {
        let mut made = place.made;
        let value = made.as_mut().or_else(|| document.at_mut(&place.keys));
        if let Some(value) = value {
            outcomes.push(edit(value)?);
        }
    }
    Ok(outcomes)
}

/// Puts a value, whose text has so many bytes, in place of each; where there is none, and the path
/// names one place, makes that and the objects around it. Tells whether anything changed.
///
/// # Errors
/// [`Error::Syntax`] also of a path that leads nowhere and names no place.
pub fn set(document: &mut Value, path: &[u8], value: &Value, bytes: usize) -> Result<bool> {
    let replaced = each(document, path, bytes, |place| {
        *place = value.clone();
        Ok(())
    })?;
    Ok(!replaced.is_empty() || create(document, path, value)?)
}

/// Makes a place. As in Kvrocks only members are made, around them objects; an index leads into an
/// array that is there. Unlike there, nothing is made on a way that does not lead to the end.
fn create(document: &mut Value, path: &[u8], value: &Value) -> Result<bool> {
    let Some(keys) = location(path)? else { return Ok(false) };
    let Some((last, around)) = keys.split_last() else { return Ok(false) };
    let missing = |at: usize| document.at(around.get(..at).unwrap_or_default()).is_none();
    let first_missing = (0..=around.len()).find(|at| missing(*at)).unwrap_or(around.len() + 1);
    // From the first that is missing on there may be names only.
    let new = keys.get(first_missing.saturating_sub(1)..).unwrap_or_default();
    if !new.iter().all(|key| matches!(key, Key::Name(_))) {
        return Ok(false);
    }
    let mut place = document;
    for key in around {
        let Key::Name(name) = key else {
            let Some(within) = place.at_mut(std::slice::from_ref(key)) else { return Ok(false) };
            place = within;
            continue;
        };
        let Value::Object(members) = place else { return Ok(false) };
        place = members.entry(name.to_string()).or_insert_with(|| Value::Object(Object::new()));
    }
    match (place, last) {
        (Value::Object(members), Key::Name(name)) => {
            members.insert(name.to_string(), value.clone());
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Merges a patch (RFC 7396), a text, into each; makes a place as [`set`] does. At another place
/// than the root a patch of `null` removes.
///
/// # Errors
/// As [`set`]; the patch is no JSON.
pub fn merge(document: &mut Value, path: &[u8], patch: &[u8], depth_max: usize) -> Result<()> {
    let value = from_text(patch, depth_max)?;
    let places = Path::parse(path)?.places(document)?;
    if places.is_empty() {
        create(document, path, &value)?;
    } else if path == b"$" || value != Value::Null {
        each(document, path, patch.len(), |place| {
            patched(place, &value);
            Ok(())
        })?;
    } else {
        remove(document, path)?;
    }
    Ok(())
}

fn patched(place: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *place = patch.clone();
        return;
    };
    if !matches!(place, Value::Object(_)) {
        *place = Value::Object(Object::new());
    }
    let Value::Object(members) = place else { return };
    for (name, patch) in patch {
        if *patch == Value::Null {
            members.remove(name);
        } else {
            patched(members.entry(name.clone()).or_insert(Value::Null), patch);
        }
    }
}

/// Removes each, but not the root. Returns how many.
///
/// # Errors
/// [`Error::Syntax`], [`Error::TooMuch`].
pub fn remove(document: &mut Value, path: &[u8]) -> Result<usize> {
    let mut count = 0;
    for place in Path::parse(path)?.places(document)? {
        let Some((last, around)) = place.keys.split_last() else { continue };
        let is_removed = match (document.at_mut(around), last) {
            (Some(Value::Object(members)), Key::Name(name)) => members.remove(&**name).is_some(),
            (Some(Value::Array(items)), Key::Index(index)) if *index < items.len() => {
                items.remove(*index);
                true
            }
            _ => false,
        };
        count += usize::from(is_removed);
    }
    Ok(count)
}

/// What is done to numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// NUMINCRBY.
    Add,
    /// NUMMULTBY.
    Multiply,
}

/// Computes with each number; `None` is told of what is none. Whole numbers stay whole and exact as
/// long as they have 64 bits; a double that is whole becomes so.
///
/// # Errors
/// As [`remove`]; [`Error::Infinite`].
pub fn compute(
    document: &mut Value,
    path: &[u8],
    how: Arithmetic,
    by: &Number,
) -> Result<Vec<Option<Number>>> {
    each(document, path, 0, |place| {
        let Value::Number(number) = place else { return Ok(None) };
        *number = computed(number, how, by)?;
        Ok(Some(number.clone()))
    })
}

fn computed(number: &Number, how: Arithmetic, by: &Number) -> Result<Number> {
    let whole = number.integer().zip(by.integer()).and_then(|(one, two)| match how {
        Arithmetic::Add => one.checked_add(two),
        Arithmetic::Multiply => one.checked_mul(two),
    });
    match whole.and_then(Number::of_integer) {
        Some(number) => Ok(number),
        None => Number::of_double(match how {
            Arithmetic::Add => number.double() + by.double(),
            Arithmetic::Multiply => number.double() * by.double(),
        }),
    }
}

/// Appends to each string. Tells their lengths in bytes, the first one first.
///
/// # Errors
/// As [`remove`]; [`Error::TooLarge`].
pub fn append_text(document: &mut Value, path: &[u8], text: &str) -> Result<Vec<Option<usize>>> {
    let mut lengths = each(document, path, text.len(), |place| {
        let Value::String(string) = place else { return Ok(None) };
        string.push_str(text);
        Ok(Some(string.len()))
    })?;
    lengths.reverse();
    Ok(lengths)
}

/// Turns each of `true` and `false` into the other, and tells it, the first one first.
///
/// # Errors
/// As [`remove`].
pub fn toggle(document: &mut Value, path: &[u8]) -> Result<Vec<Option<bool>>> {
    let mut values = each(document, path, 0, |place| {
        let Value::Bool(value) = place else { return Ok(None) };
        *value = !*value;
        Ok(Some(*value))
    })?;
    values.reverse();
    Ok(values)
}

/// Empties arrays and objects and makes numbers zero. Returns how many were not so.
///
/// # Errors
/// As [`remove`].
pub fn clear(document: &mut Value, path: &[u8]) -> Result<usize> {
    let cleared = each(document, path, 0, |place| {
        match place {
            Value::Array(items) if !items.is_empty() => items.clear(),
            Value::Object(members) if !members.is_empty() => members.clear(),
            Value::Number(number) if number.double() != 0.0 => *number = Number::Unsigned(0),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(cleared.into_iter().filter(|is_cleared| *is_cleared).count())
}

/// Puts values, whose texts have so many bytes, behind the elements of each array. Tells how many
/// it has then.
///
/// # Errors
/// As [`append_text`].
pub fn append(
    document: &mut Value,
    path: &[u8],
    values: &[Value],
    bytes: usize,
) -> Result<Vec<Option<usize>>> {
    each(document, path, bytes, |place| {
        let Value::Array(items) = place else { return Ok(None) };
        items.extend_from_slice(values);
        Ok(Some(items.len()))
    })
}

/// Puts values, whose texts have so many bytes, before the element at an index, which may count
/// from the end. Tells how many each array has then; one without such an element is left.
///
/// # Errors
/// As [`append_text`].
pub fn insert(
    document: &mut Value,
    path: &[u8],
    index: i64,
    values: &[Value],
    bytes: usize,
) -> Result<Vec<Option<usize>>> {
    each(document, path, bytes, |place| {
        let Value::Array(items) = place else { return Ok(None) };
        let Some(at) = from_either_end(index, items.len()).filter(|at| *at < items.len()) else {
            return Ok(None);
        };
        items.splice(at..at, values.iter().cloned());
        Ok(Some(items.len()))
    })
}

/// A place by an index that may count from the end; `None` before the beginning.
fn from_either_end(index: i64, length: usize) -> Option<usize> {
    let distance = usize::try_from(index.unsigned_abs()).ok()?;
    if index < 0 { length.checked_sub(distance) } else { Some(distance) }
}

/// Takes an element out of each array: that at an index, or the nearest to it.
///
/// # Errors
/// As [`remove`].
pub fn pop(document: &mut Value, path: &[u8], index: i64) -> Result<Vec<Option<Value>>> {
    each(document, path, 0, |place| match place {
        Value::Array(items) if !items.is_empty() => {
            let at = from_either_end(index, items.len());
            let beyond = if index < 0 { 0 } else { items.len() - 1 };
            Ok(Some(items.remove(at.unwrap_or(beyond).min(items.len() - 1))))
        }
        _ => Ok(None),
    })
}

/// Leaves of each array what is between two indexes, both included. Tells how much that is.
///
/// # Errors
/// As [`remove`].
pub fn trim(
    document: &mut Value,
    path: &[u8],
    start: i64,
    stop: i64,
) -> Result<Vec<Option<usize>>> {
    each(document, path, 0, |place| {
        let Value::Array(items) = place else { return Ok(None) };
        let place = |index: i64| {
            from_either_end(index, items.len()).unwrap_or(if index < 0 { 0 } else { usize::MAX })
        };
        let (start, end) = (place(start), place(stop).saturating_add(1).min(items.len()));
        items.truncate(end);
        items.drain(..start.min(items.len()));
        Ok(Some(items.len()))
    })
}

/// Where a value is first in an array, from an index to before another one, which is the end if it
/// is 0; -1 if it is not there. `None` is told of what is no array.
pub fn index_of(array: &Value, value: &Value, start: i64, stop: i64) -> Option<i64> {
    let Value::Array(items) = array else { return None };
    let from_end = |index: i64| from_either_end(index, items.len()).unwrap_or(0);
    let last = items.len().saturating_sub(1);
    let start = if start < 0 { from_end(start) } else { from_end(start).min(last) };
    let stop = if stop == 0 { items.len() } else { from_end(stop).min(items.len()) };
    let found =
        items.get(start..stop).unwrap_or_default().iter().position(|item| item.is_same(value));
    Some(found.and_then(|at| i64::try_from(start + at).ok()).unwrap_or(-1))
}
