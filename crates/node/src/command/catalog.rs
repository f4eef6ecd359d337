//! Every command and every command of a container by its whole name, with its ACL categories.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::categories::{CATEGORIES, categories};
use super::row::Row;

/// One of them.
#[derive(Debug)]
pub struct Entry {
    /// What is known of it.
    pub row: &'static Row,
    /// Without `@`, in Redis' order.
    pub categories: Vec<String>,
}

/// All of them, containers too, in the order of the table.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: Vec<Entry>,
    by_name: HashMap<&'static str, usize>,
}

static CATALOG: OnceLock<Catalog> = OnceLock::new();

impl Catalog {
    /// The catalog; empty before it was given its rows.
    pub fn get() -> &'static Self {
        static EMPTY: OnceLock<Catalog> = OnceLock::new();
        CATALOG.get().unwrap_or_else(|| EMPTY.get_or_init(Self::default))
    }

    /// Hands in the rows with the names of their families. The first ones of a process stay.
    pub fn give(rows: impl Iterator<Item = (&'static Row, &'static str)>) {
        CATALOG.get_or_init(|| {
            let entries: Vec<Entry> = rows
                .map(|(row, family)| Entry { row, categories: categories(row, family) })
                .collect();
            let by_name =
                entries.iter().enumerate().map(|(index, entry)| (entry.row.name, index)).collect();
            Self { entries, by_name }
        });
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where the entry of that name, in lower case, is.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Whether any command has this category, or Redis has it.
    pub fn has_category(&self, category: &str) -> bool {
        let is_it = |entry: &Entry| entry.categories.iter().any(|other| other == category);
        CATEGORIES.contains(&category) || self.entries.iter().any(is_it)
    }
}
