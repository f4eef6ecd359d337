//! Where a store lives: this machine, this path, this very file. A copy, or one that was moved or
//! restored, is known by that it says another place.
//!
//! Not proof against everything: a machine that was cloned as a whole has all three in common with
//! its original.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The place of the file, for comparing and for people. What cannot be found out is left out, so
/// that it is the same each time.
pub(crate) fn of(path: &Path) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let file = std::fs::metadata(&path).map_or(0, |file| file.ino());
    let machine = machine.trim();
    let machine = if machine.is_empty() { "unknown" } else { machine };
    format!("{} (file {file}, machine {machine})", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lives_elsewhere_also_in_the_place_of_its_original() {
        let dir = tempfile::tempdir().expect("a folder");
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::write(&one, "x").expect("a file");
        let home = of(&one);
        assert_eq!(of(&one), home);
        std::fs::copy(&one, &other).expect("a copy");
        assert_ne!(of(&other), home);
        std::fs::rename(&other, &one).expect("a restored copy");
        assert_ne!(of(&one), home);
    }
}
