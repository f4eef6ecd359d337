//! What clients write: a key of a kind, and how many writes it shows.

use anyhow::{Context as _, Result, bail};

use crate::wire::Reply;

/// A type of value, and how its n-th write is told from the one before.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// A part of the key's name.
    pub name: &'static str,
    /// The words of its n-th write, from 1 on, behind the key.
    write: (&'static str, fn(u64) -> Vec<String>),
    /// What tells how many writes there were, behind the key.
    count: (&'static str, &'static [&'static str]),
}

/// All of them.
pub const KINDS: [Kind; 11] = [
    Kind { name: "string", write: ("SET", |n| vec![n.to_string()]), count: ("GET", &[]) },
    Kind { name: "counter", write: ("INCR", |_| Vec::new()), count: ("GET", &[]) },
    Kind {
        name: "hash",
        write: ("HSET", |n| vec![format!("field-{n}"), n.to_string()]),
        count: ("HLEN", &[]),
    },
    Kind { name: "list", write: ("RPUSH", |n| vec![n.to_string()]), count: ("LLEN", &[]) },
    Kind { name: "set", write: ("SADD", |n| vec![format!("member-{n}")]), count: ("SCARD", &[]) },
    Kind {
        name: "zset",
        write: ("ZADD", |n| vec![n.to_string(), format!("member-{n}")]),
        count: ("ZCARD", &[]),
    },
    Kind {
        name: "geo",
        write: ("GEOADD", |n| vec!["13.4".into(), "52.5".into(), format!("place-{n}")]),
        count: ("ZCARD", &[]),
    },
    Kind {
        name: "stream",
        write: ("XADD", |n| vec![format!("{n}-1"), "n".into(), n.to_string()]),
        count: ("XLEN", &[]),
    },
    Kind {
        name: "bitmap",
        write: ("SETBIT", |n| vec![n.to_string(), "1".into()]),
        count: ("BITCOUNT", &[]),
    },
    Kind { name: "sortedint", write: ("SIADD", |n| vec![n.to_string()]), count: ("SICARD", &[]) },
    Kind {
        name: "json",
        write: ("JSON.SET", |n| vec!["$".into(), n.to_string()]),
        count: ("JSON.GET", &[]),
    },
];

impl Kind {
    /// Its n-th write to the key, as words.
    pub fn write(&self, key: &str, n: u64) -> Vec<String> {
        let (name, words) = self.write;
        [name.to_owned(), key.to_owned()].into_iter().chain(words(n)).collect()
    }

    /// The question how many writes the key shows.
    pub fn count(&self, key: &str) -> Vec<String> {
        let (name, words) = self.count;
        let words = words.iter().map(|word| (*word).to_owned());
        [name.to_owned(), key.to_owned()].into_iter().chain(words).collect()
    }

    /// The answer to that; 0 for a key that is not there.
    ///
    /// # Errors
    /// When it is no number.
    pub fn counted(&self, answer: &Reply) -> Result<u64> {
        match answer {
            Reply::NilBulk | Reply::Null => Ok(0),
            Reply::Integer(count) => u64::try_from(*count).context("a negative count"),
            Reply::Bulk(text) => {
                let text = String::from_utf8_lossy(text);
                text.parse().with_context(|| format!("{} has `{text}` for a number", self.name))
            }
            other => bail!("{} answers {other:?}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_and_its_count_name_the_key() {
        let stream = KINDS.iter().find(|kind| kind.name == "stream").unwrap();
        assert_eq!(stream.write("k", 3), ["XADD", "k", "3-1", "n", "3"]);
        assert_eq!(stream.count("k"), ["XLEN", "k"]);
        assert_eq!(stream.counted(&Reply::Integer(3)).unwrap(), 3);
        assert_eq!(stream.counted(&Reply::NilBulk).unwrap(), 0);
        assert_eq!(KINDS[0].counted(&Reply::Bulk(b"7".to_vec())).unwrap(), 7);
        assert!(KINDS[0].counted(&Reply::Bulk(b"x".to_vec())).is_err());
        assert!(KINDS[0].counted(&Reply::Error(b"ERR".to_vec())).is_err());
    }
}
