//! Secrets that lie in files of their own, so that neither command lines nor configurations show
//! them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Longest file that is read.
const LENGTH_MAX: u64 = 64 << 10;

/// Why a file gave no secret.
#[derive(Debug)]
pub struct SecretError {
    path: PathBuf,
    why: String,
}

impl std::fmt::Display for SecretError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for SecretError {}

/// The first line of a file, without its end.
///
/// # Errors
/// A file that cannot be read, is empty, or has more than one line.
pub fn read_secret(path: &Path) -> Result<String, SecretError> {
    let failed = |why: String| SecretError { path: path.to_owned(), why };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LENGTH_MAX + 1).read_to_string(&mut text))
        .map_err(|error| failed(error.to_string()))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(failed("it is empty; put the secret into its only line".to_owned()));
    }
    if text.len() as u64 > LENGTH_MAX || line.contains(['\n', '\r', '\0']) {
        return Err(failed("it has more than the one line that is the secret".to_owned()));
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_only_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_secret(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read("s3cret\n"), Ok("s3cret".to_owned()));
        assert_eq!(read(" with blanks \r\n"), Ok(" with blanks ".to_owned()));
        assert!(read("").unwrap_err().contains("is empty"));
        assert!(read("\n").unwrap_err().contains("is empty"));
        assert!(read("one\ntwo\n").unwrap_err().contains("more than the one line"));
        let missing = folder.path().join("none");
        assert!(read_secret(&missing).unwrap_err().to_string().contains("none: "));
    }
}
