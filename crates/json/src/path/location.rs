//! A path that names one place, which need not be there yet.

use super::parse::Cursor;
use super::select::Key;
use crate::Result;

/// Takes a text for a place. `None` for one with a name that is missing (`$..a`): Kvrocks makes
/// members without a name there.
///
/// # Errors
/// [`crate::Error::Syntax`]: it is a path with more than names and indexes.
pub(crate) fn location(text: &[u8]) -> Result<Option<Vec<Key>>> {
    let mut cursor = Cursor::new(text);
    cursor.blanks();
    if !matches!(cursor.peek(), Some(b'$' | b'@')) {
        return cursor.wrong("Expected '$' or '@'");
    }
    cursor.at += 1;
    let (mut keys, mut is_named) = (Vec::new(), true);
    loop {
        cursor.blanks();
        let is_bracket = match cursor.peek() {
            None => return Ok(is_named.then_some(keys)),
            Some(b'[') => true,
            Some(b'.') => false,
            Some(_) => return cursor.wrong("Expected '[' or '.'"),
        };
        cursor.at += 1;
        cursor.blanks();
        match cursor.peek() {
            Some(b'\'' | b'"') => keys.push(Key::Name(cursor.quoted()?.into())),
            Some(b'0'..=b'9') => {
                let digits = cursor.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
                let text = std::str::from_utf8(cursor.rest().get(..digits).unwrap_or_default());
                let index = text.ok().and_then(|text| text.parse().ok());
                keys.push(Key::Index(index.ok_or_else(|| cursor.error("Invalid number"))?));
                cursor.at += digits;
            }
            None => return cursor.wrong("Unexpected EOF while parsing jsonpath expression"),
            Some(b'-') => return cursor.wrong("Expected ''' or digit"),
            Some(_) if is_bracket => return cursor.wrong("Expected ''' or digit"),
            Some(_) => {
                let name = cursor.unquoted();
                is_named &= !name.is_empty();
                keys.push(Key::Name(cursor.utf8(name)?.into()));
            }
        }
        if is_bracket {
            cursor.expect(b']', "Expected ]")?;
        }
    }
}
