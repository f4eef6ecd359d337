//! Secrets on their way to the controller: from the command line, where others on this host see
//! them, from files and from the environment, where they do not.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::env::variable;

/// The controller's token: what the command line says wins.
pub(super) fn token(given: Option<String>, file: Option<PathBuf>) -> Result<Option<String>> {
    let from_command_line = of(given, file.as_deref(), "--token-file")?;
    Ok(match from_command_line {
        Some(token) => Some(token),
        None => of_environment("HOLDFAST_TOKEN", "HOLDFAST_TOKEN_FILE")?,
    })
}

/// `peer-auth` of a cluster's nodes.
#[derive(Debug, clap::Args)]
pub(super) struct Password {
    /// peer-auth of the nodes; others on this host see command lines [env: HOLDFAST_PASSWORD]
    #[arg(long)]
    password: Option<String>,
    /// File whose only line is peer-auth of the nodes [env: HOLDFAST_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
}

impl Password {
    pub(super) fn get(&self) -> Result<Option<String>> {
        let file = self.password_file.as_deref();
        Ok(match of(self.password.clone(), file, "--password-file")? {
            Some(password) => Some(password),
            None => of_environment("HOLDFAST_PASSWORD", "HOLDFAST_PASSWORD_FILE")?,
        })
    }
}

/// What is given, or the only line of the file that is.
pub(super) fn of(given: Option<String>, file: Option<&Path>, what: &str) -> Result<Option<String>> {
    match file {
        Some(file) => web::read_secret(file).with_context(|| what.to_owned()).map(Some),
        None => Ok(given),
    }
}

fn of_environment(name: &str, file: &str) -> Result<Option<String>> {
    match variable(name) {
        Some(secret) => Ok(Some(secret)),
        None => of(None, variable(file).map(PathBuf::from).as_deref(), file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_from_its_file_or_the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "s3cret\n").unwrap();
        assert_eq!(of(None, Some(&path), "--x").unwrap().as_deref(), Some("s3cret"));
        assert_eq!(of(Some("given".into()), None, "--x").unwrap().as_deref(), Some("given"));
        let missing = folder.path().join("none");
        let error = format!("{:#}", of(None, Some(&missing), "--token-file").unwrap_err());
        assert!(error.starts_with("--token-file: ") && error.contains("none"), "{error}");
    }
}
