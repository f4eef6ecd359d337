//! How far a copy is, in a file, so that a run that was stopped goes on there.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Which database of the source is copied.
    pub(super) db: u32,
    /// To where, as it was named.
    pub(super) to: String,
    /// Which process of the source gave the cursor.
    pub(super) run_id: String,
    /// Where SCAN goes on.
    pub(super) cursor: String,
    /// Keys that were seen.
    pub(super) seen: u64,
    /// What the names of its connections to the target begin with; an earlier version did not say.
    #[serde(default)]
    pub(super) name: String,
}

impl Saved {
    /// `None` if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        serde_json::from_str(&text).with_context(|| format!("read {}", path.display())).map(Some)
    }

    /// What was copied below the cursor of another copy is not there.
    ///
    /// # Errors
    /// When it is that of another one.
    pub(super) fn must_be_of(&self, db: u32, to: &str, path: &Path) -> Result<()> {
        ensure!(
            self.db == db && self.to == to,
            "{} is the state of a copy of database {} to {}: name another file for this one, or \
             remove it",
            path.display(),
            self.db,
            self.to
        );
        Ok(())
    }

    /// Replaces the file as a whole.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new");
        let text = serde_json::to_string(self).context("write the state")?;
        std::fs::write(&new, text).with_context(|| format!("write {}", new.display()))?;
        std::fs::rename(&new, path).with_context(|| format!("write {}", path.display()))
    }

    /// The copy is complete.
    pub(super) fn remove(path: &Path) -> Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("remove {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_back_and_goes_when_all_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(Saved::read(&path).unwrap(), None);
        let to = "h:1".to_owned();
        let (run_id, cursor, name) = ("r".into(), "7".into(), "n".into());
        let saved = Saved { db: 1, to, run_id, cursor, seen: 9, name };
        saved.write(&path).unwrap();
        assert_eq!(Saved::read(&path).unwrap().as_ref(), Some(&saved));
        assert!(saved.must_be_of(1, "h:1", &path).is_ok());
        for (db, to) in [(0, "h:1"), (1, "h:2")] {
            let refused = saved.must_be_of(db, to, &path).unwrap_err().to_string();
            assert!(refused.contains("database 1 to h:1"), "{refused}");
        }
        Saved::remove(&path).unwrap();
        Saved::remove(&path).unwrap();
        std::fs::write(&path, "{").unwrap();
        assert!(Saved::read(&path).is_err());
    }
}
