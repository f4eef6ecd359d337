//! Log data of batches: what tells consumers of the log which type, and sometimes which command,
//! the records behind it belong to. The first word of a type is its id ([`Type::log_data`]).

use super::kind::Type;

/// DEL and UNLINK.
pub const DELETE: &[u8] = b"0";
/// EXPIRE, its kin, and PERSIST.
pub const EXPIRE: &[u8] = b"0 8";

/// A type, and words that say more: the number of a command, its arguments. Blanks within words are
/// not escaped, as they are not in Kvrocks.
pub fn words(kind: Type, words: &[&[u8]]) -> Vec<u8> {
    let mut data = kind.log_data().to_vec();
    for word in words {
        data.push(b' ');
        data.extend_from_slice(word);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_follow_the_type() {
        let data = words(Type::List, &[b"12", b"a", b"b", b"left", b"right"]);
        assert_eq!(data, b"3 12 a b left right");
        assert_eq!(words(Type::Hash, &[]), b"2");
    }
}
