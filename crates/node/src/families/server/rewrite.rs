//! CONFIG REWRITE: the configuration file as it is to be read at the next start.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::acl::Acl;
use crate::command::{Error, Result};
use crate::config::file::Kept;
use crate::config::{Tokens, Values, file};
use crate::node::Node;

/// Writes the current options into the configuration file, and these tokens, unless they stand in
/// the database.
pub(super) fn write_file(node: &Node, tokens: &Tokens) -> Result<()> {
    let Some(path) = &node.config.file else {
        return Err(Error::err("The server is running without a config file"));
    };
    let values = node.config.now();
    let mut kept = Kept::default();
    if !values.repl_namespace_enabled {
        kept.tokens.clone_from(tokens);
    }
    let users = node.acl.lines();
    // The default user as it is without a word needs none.
    if values.aclfile.is_empty() && users != Acl::default().lines() {
        kept.users = users;
    }
    match rewrite_file(path, &values, &kept) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "configuration file rewritten");
            Ok(())
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot rewrite the configuration file");
            Err(Error::err(format!("Rewriting config file: {error}")))
        }
    }
}

/// Replaces the file as a whole: after a crash there is the old one or the new one. The new one is
/// as private as the old one was.
fn rewrite_file(path: &Path, values: &Values, kept: &Kept) -> io::Result<()> {
    let present = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".rewrite");
    let temporary = folder.join(name);
    let outcome = write_then_rename(&temporary, path, &file::rewrite(&present, values, kept));
    if outcome.is_err() {
        // Nothing depends on it, and it may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    outcome?;
    fs::File::open(folder)?.sync_all()
}

fn write_then_rename(temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)?;
    if let Ok(present) = fs::metadata(path) {
        file.set_permissions(present.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_rewritten_file_keeps_its_permissions_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.conf");
        fs::write(&path, "# mine\nport 1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        rewrite_file(&path, &Values { port: 7000, ..Values::default() }, &Kept::default()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\nport 7000\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("node.conf");
        assert_eq!(
            rewrite_file(&path, &Values::default(), &Kept::default()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
