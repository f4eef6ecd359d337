//! Port ranges for clusters: below the range of outgoing connections, and taken by one test at a
//! time.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result, bail};

/// Ports in one range; `holdfast up` needs some 310.
pub const RANGE: u16 = 320;
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// A range that is free and stays ours until dropped.
#[derive(Debug)]
pub struct Range {
    /// Its first port.
    pub base: u16,
    _lock: File,
}

impl Range {
    /// Finds a range that no other test holds and nothing listens in.
    pub fn take() -> Result<Self> {
        let dir = std::env::temp_dir().join("holdfast-test-ports");
        std::fs::create_dir_all(&dir).context("create the folder of port locks")?;
        for base in (FIRST..LAST).step_by(usize::from(RANGE)) {
            let lock = File::create(dir.join(base.to_string())).context("create a port lock")?;
            if lock.try_lock().is_ok() && is_free(base) {
                return Ok(Self { base, _lock: lock });
            }
        }
        bail!("no free range of {RANGE} ports between {FIRST} and {LAST}")
    }
}

/// Looks at the places where `up` puts things, not at all of the range.
fn is_free(base: u16) -> bool {
    [0, 100, 200, 300].iter().all(|part| {
        (0..12).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, base + part + port)).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_get_different_ranges() {
        let (one, two) = (Range::take().unwrap(), Range::take().unwrap());
        assert!(one.base.abs_diff(two.base) >= RANGE);
    }
}
