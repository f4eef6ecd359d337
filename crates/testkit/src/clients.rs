//! The programs under `tests/clients`: real client libraries, each told where to begin and how many keys to write.
//!
//! Each writes keys over all slots, reads them back, and prints `ok <written> <masters>`; what it was shown of the
//! cluster is its own library's view.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A client program that is installed here.
#[derive(Debug)]
pub struct Client {
    /// Name of the library.
    pub name: &'static str,
    program: PathBuf,
    arguments: Vec<PathBuf>,
}

/// Where `scripts/client-libraries` puts things.
fn folder() -> PathBuf {
    if let Some(path) = std::env::var_os("HOLDFAST_CLIENTS") {
        return path.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    cache.join("holdfast/clients")
}

/// The client programs in the source tree.
fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// All clients, and those of them that are installed.
pub fn installed() -> Vec<Client> {
    let folder = folder();
    let all = [
        Client {
            name: "redis-py",
            program: folder.join("python/bin/python"),
            arguments: vec![sources().join("python/client.py")],
        },
        Client {
            name: "ioredis",
            program: "node".into(),
            arguments: vec![folder.join("node/client.js")],
        },
        Client { name: "go-redis", program: folder.join("go-client"), arguments: vec![] },
        Client {
            name: "jedis",
            program: "java".into(),
            arguments: vec!["-jar".into(), folder.join("java/target/client.jar")],
        },
    ];
    let is_there = |client: &Client| {
        let files = client.arguments.iter().filter(|argument| argument.is_absolute());
        let program = Some(&client.program).filter(|program| program.is_absolute());
        files.chain(program).all(|path| path.exists())
    };
    all.into_iter().filter(is_there).collect()
}

impl Client {
    /// Writes and reads `keys` keys; returns how many masters the library wrote to.
    pub fn run(&self, start: SocketAddr, keys: u32) -> Result<u32> {
        let output = Command::new(&self.program)
            .args(&self.arguments)
            .args([start.ip().to_string(), start.port().to_string(), keys.to_string()])
            .output()
            .with_context(|| format!("run the {} client", self.name))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let words: Vec<&str> = said.lines().last().unwrap_or_default().split(' ').collect();
        ensure!(
            output.status.success() && words.len() == 3 && words.first() == Some(&"ok"),
            "{} ended with {}: {said}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let written: u32 = words.get(1).unwrap_or(&"").parse().context("read the count")?;
        ensure!(written == keys, "{} wrote {written} of {keys} keys", self.name);
        words.get(2).unwrap_or(&"").parse().context("read the number of masters")
    }
}
