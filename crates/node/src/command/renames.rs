//! `rename-command`: which names commands answer to.
//!
//! The one place where a name becomes a command: dispatch, the queue of MULTI and COMMAND ask
//! [`Renames::find`], so none of them can take a name for another command than the others do.

use std::collections::BTreeMap;

use super::{Row, Table};

/// Why a command cannot be renamed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// Nothing answers to the old name.
    #[error("there is no command `{0}`")]
    Unknown(String),
    /// Something answers to the new name already.
    #[error("`{0}` is already the name of a command")]
    Taken(String),
}

/// Names that differ from the table's, in lower case; `None`: no command answers to it any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames(BTreeMap<Vec<u8>, Option<usize>>);

impl Renames {
    /// Lets the command that answers to `from` answer to `to` instead, to nothing if that is empty.
    /// Later renames see the names that earlier ones gave, as in Redis and Kvrocks.
    ///
    /// # Errors
    /// `from` is no command, or `to` is one already.
    pub fn add(&mut self, from: &str, to: &str) -> Result<(), RenameError> {
        let (from, to) = (from.to_ascii_lowercase(), to.to_ascii_lowercase());
        let (index, _) =
            self.find(from.as_bytes()).ok_or_else(|| RenameError::Unknown(from.clone()))?;
        if !to.is_empty() && self.find(to.as_bytes()).is_some() {
            return Err(RenameError::Taken(to));
        }
        self.0.insert(from.into_bytes(), None);
        if !to.is_empty() {
            self.0.insert(to.into_bytes(), Some(index));
        }
        Ok(())
    }

    /// The command that answers to this name in any case, with its index in the table.
    pub fn find(&self, name: &[u8]) -> Option<(usize, &'static Row)> {
        let table = Table::get();
        if self.0.is_empty() {
            return table.find(name);
        }
        match self.0.get(name.to_ascii_lowercase().as_slice()) {
            Some(renamed) => {
                let index = (*renamed)?;
                table.rows().get(index).map(|row| (index, *row))
            }
            None => table.find(name),
        }
    }

    /// The commands that answer to some name, in table order, with their index.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &'static Row)> {
        let rows = Table::get().rows().iter().copied().enumerate();
        rows.filter(|(index, row)| {
            let hidden = self.0.get(row.name.as_bytes()).is_some_and(|now| *now != Some(*index));
            !hidden || self.0.values().any(|renamed| *renamed == Some(*index))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(renames: &Renames, name: &str) -> Option<&'static str> {
        renames.find(name.as_bytes()).map(|(_, command)| command.name)
    }

    #[test]
    fn names_may_be_swapped_in_steps_and_an_empty_one_hides_a_command() {
        crate::shell::table();
        let mut renames = Renames::default();
        for (from, to) in [("GET", "tmp"), ("SET", "GET"), ("Tmp", "set"), ("del", "")] {
            renames.add(from, to).unwrap();
        }
        assert_eq!(name(&renames, "get"), Some("set"));
        assert_eq!(name(&renames, "SET"), Some("get"));
        assert_eq!((name(&renames, "tmp"), name(&renames, "DEL")), (None, None));
        assert_eq!(name(&renames, "mget"), Some("mget"));
        let shown = renames.rows().map(|(_, command)| command.name);
        let all = Table::get().rows().iter().map(|command| command.name);
        assert_eq!(
            shown.collect::<Vec<_>>(),
            all.filter(|name| *name != "del").collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_cannot_be_renamed_is_said() {
        crate::shell::table();
        let mut renames = Renames::default();
        assert_eq!(renames.add("gett", "x"), Err(RenameError::Unknown("gett".into())));
        assert_eq!(renames.add("get", "SET"), Err(RenameError::Taken("set".into())));
        renames.add("get", "x").unwrap();
        assert_eq!(renames.add("get", "y"), Err(RenameError::Unknown("get".into())));
        assert_eq!(renames.add("set", "x"), Err(RenameError::Taken("x".into())));
    }
}
