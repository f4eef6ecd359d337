//! The rows of all commands, by name.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::OnceLock;

use super::row::Row;

/// All commands of this build. The process hands them in when it starts ([`Table::give`]).
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<&'static Row>,
    by_name: HashMap<&'static [u8], usize, BuildHasherDefault<Fnv>>,
}

/// FNV-1a. Every command is looked up, and names are short. They are ours: nobody can choose some
/// that share a bucket.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The length, which comes before a name, tells nothing more.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

static TABLE: OnceLock<Table> = OnceLock::new();

impl Table {
    /// The table; empty before it was given its rows.
    pub fn get() -> &'static Self {
        static EMPTY: OnceLock<Table> = OnceLock::new();
        TABLE.get().unwrap_or_else(|| EMPTY.get_or_init(Self::default))
    }

    /// Hands in the rows. The first ones of a process stay.
    pub fn give(rows: impl Iterator<Item = &'static Row>) {
        TABLE.get_or_init(|| {
            let rows: Vec<_> = rows.collect();
            let by_name =
                rows.iter().enumerate().map(|(at, row)| (row.name.as_bytes(), at)).collect();
            Self { rows, by_name }
        });
    }

    /// The row of that name in any case, with its index.
    pub fn find(&self, name: &[u8]) -> Option<(usize, &'static Row)> {
        let mut lower = [0_u8; 32];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let index = *self.by_name.get(&*lower)?;
        self.rows.get(index).map(|row| (index, *row))
    }

    /// All rows, in table order; the index is stable within a process.
    pub fn rows(&self) -> &[&'static Row] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Keys;

    #[test]
    fn each_command_is_found_by_its_name_in_any_case_and_by_no_part_of_it() {
        let table = crate::shell::table();
        for (index, row) in table.rows().iter().enumerate() {
            for name in [row.name.to_owned(), row.name.to_uppercase()] {
                let found = table.find(name.as_bytes()).map(|(index, row)| (index, row.name));
                assert_eq!(found, Some((index, row.name)));
            }
            let (_, part) = row.name.split_at(1);
            assert_ne!(table.find(part.as_bytes()).map(|(found, _)| found), Some(index));
        }
        assert!(table.find(b"").is_none() && table.find(&[b'x'; 33]).is_none());
    }

    #[test]
    fn names_are_unique_and_lower_case_and_keys_fit_the_arity() {
        let mut seen = std::collections::BTreeSet::new();
        for command in crate::shell::table().rows() {
            assert!(seen.insert(command.name), "{} twice", command.name);
            assert_eq!(command.name, command.name.to_lowercase());
            if let Keys::Range { first, .. } = command.keys {
                let shortest = command.arity.unsigned_abs();
                // Without one it ends all of the connection's.
                let is_optional = command.name == "sunsubscribe";
                assert!(
                    first < shortest || is_optional,
                    "{}: first key beyond its arity",
                    command.name
                );
            }
        }
    }
}
