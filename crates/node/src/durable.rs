//! Small files that are there after a power cut, and what is removed for good.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Writes a small file so that it is there after a power cut, once its folder is synced.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Replaces a small file as a whole; durable once its folder is synced. Others may be replaced
/// beside it at the same time.
pub(crate) fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    write_durably(&new, content)?;
    fs::rename(&new, path)
}

/// The same for a file that nobody else may read.
pub(crate) fn replace_privately(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    remove_if_there(&new)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Makes creations, renames and removals in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a file; not an error if there is none.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    or_not_there(fs::remove_file(path))
}

/// Removes a folder and what is in it; not an error if there is none.
pub(crate) fn remove_folder_if_there(path: &Path) -> io::Result<()> {
    or_not_there(fs::remove_dir_all(path))
}

fn or_not_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several threads write into the database folder, each a file of its own.
    #[test]
    fn files_that_are_replaced_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["holdfast.owner", "holdfast.lineage", "holdfast.position"];
        std::thread::scope(|scope| {
            for name in names {
                let path = dir.path().join(name);
                scope.spawn(move || {
                    for _ in 0..200 {
                        replace_durably(&path, name.as_bytes()).unwrap();
                    }
                });
            }
        });
        for name in names {
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), name);
        }
    }
}
