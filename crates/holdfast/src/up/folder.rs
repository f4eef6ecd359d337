//! The folder of a local cluster: its shape, its secret, the configuration files of its processes.
//!
//! ```text
//! DIR/up.json          shape, from the first start on
//! DIR/secret           peer-auth of the first start, and the balancers' token, mode 0600
//! DIR/lock             held while `up` runs
//! DIR/cluster.json     where everything is
//! DIR/nodes/<port>/    node.conf and the data
//! DIR/controller/      controller.toml of each, and the embedded store
//! DIR/etcd/<n>/        what a member of etcd keeps
//! DIR/balancers/<n>/   balancer.toml or haproxy.cfg, and HAProxy's sockets
//! DIR/logs/            one file per process
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::layout::Layout;
use super::state::replace;

/// An absolute path that this process alone uses.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// `peer-auth`: how controller and nodes know each other.
    pub(crate) secret: String,
    lock: File,
}

impl Drop for Folder {
    /// Closing the file would not do: a child that is just being forked has it too, and keeps the
    /// lock until it runs its program.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Folder {
    /// Creates the folder if need be and takes it for this process.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let path =
            path.canonicalize().with_context(|| format!("find the way to {}", path.display()))?;
        // HAProxy's sockets are here, and a socket's path must fit into 108 bytes.
        if path.as_os_str().len() > 70 {
            bail!(
                "{} is too long a path for sockets: choose a --dir of 70 bytes at most",
                path.display()
            );
        }
        if path.as_os_str().as_encoded_bytes().contains(&b',') {
            bail!("{} has a comma, which separates sockets: choose another --dir", path.display());
        }
        let lock = File::create(path.join("lock")).context("create the lock file")?;
        if lock.try_lock().is_err() {
            bail!("another `holdfast up` is running in {}", path.display());
        }
        for name in ["logs", "nodes", "controller", "etcd", "balancers"] {
            let dir = path.join(name);
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        }
        let secret = secret(&path.join("secret"))?;
        Ok(Self { path, secret, lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    /// A folder for one process; created.
    pub(crate) fn of(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let dir = self.path.join(kind).join(name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir)
    }

    /// The shape this folder was made with, if it was used before.
    pub(crate) fn layout(&self) -> Result<Option<Layout>> {
        let path = self.path.join("up.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Binds later starts to this shape.
    pub(crate) fn keep_layout(&self, layout: &Layout) -> Result<()> {
        let text = serde_json::to_vec_pretty(layout).context("render up.json")?;
        replace(&self.path.join("up.json"), &text, 0o644)
    }
}

/// Reads the secret, or makes one of 128 random bits.
fn secret(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("read {}", path.display()));
        }
        _ => {}
    }
    let secret = format!("{:032x}", rand::random::<u128>());
    replace(path, secret.as_bytes(), 0o600)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_secret_is_private_and_stays_and_the_folder_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(Folder::open(dir.path()).is_err());
        let secret = folder.secret.clone();
        // As in a child that is being forked.
        let inherited = folder.lock.try_clone().unwrap();
        drop(folder);
        assert_eq!(Folder::open(dir.path()).unwrap().secret, secret);
        drop(inherited);
    }
}
