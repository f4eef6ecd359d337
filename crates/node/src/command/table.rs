//! The rows of all commands, by name.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::row::Row;

/// All commands of this build. The process hands them in when it starts ([`Table::give`]).
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<&'static Row>,
    by_name: HashMap<&'static [u8], usize>,
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
