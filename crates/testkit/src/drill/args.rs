//! Command line: that of `holdfast drill`, of which it takes what concerns it and passes over the
//! rest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::control;
use crate::torture::setup::Balancer;

/// What happens to the master's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// Its interface goes down.
    LinkDown,
    /// It and the load balancers do not hear each other; everybody else hears it.
    PartitionBalancer,
    /// It and the controller do not hear each other; everybody else hears it.
    PartitionController,
}

impl Row {
    /// All, in the order in which they are drilled.
    pub const ALL: [Self; 3] = [Self::LinkDown, Self::PartitionBalancer, Self::PartitionController];

    /// As it is chosen.
    pub fn word(self) -> &'static str {
        match self {
            Self::LinkDown => "link-down",
            Self::PartitionBalancer => "partition-balancer",
            Self::PartitionController => "partition-controller",
        }
    }

    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinkDown => "interface of the master's host down",
            Self::PartitionBalancer => "partition: load balancers | master",
            Self::PartitionController => "partition: controller | master",
        }
    }

    /// The master is to stay what it is: clients and replicas reach it.
    pub fn leaves_the_master(self) -> bool {
        self == Self::PartitionController
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// In the order of [`Row::ALL`].
    pub rows: Vec<Row>,
    /// How often each.
    pub runs: u32,
    /// What stands in front.
    pub balancer: Balancer,
    /// Where to work; a temporary folder without.
    pub dir: Option<PathBuf>,
    /// Rows of several controllers on an etcd, in the order of [`control::row::Row::ALL`].
    pub control: Vec<control::row::Row>,
    /// For how long etcd is away in one of them.
    pub away: Duration,
    /// The row in which shards come and go was chosen as well, or none was.
    pub reshards: bool,
    /// The row in which much moves at once was chosen: it takes minutes, and disk for all of it, so
    /// it is not one of all.
    pub moves_one: bool,
}

/// As `holdfast drill` has it for a controller.
const AWAY: Duration = Duration::from_secs(60);
/// The rows in which slots move, as they are chosen.
const RESHARD: &str = "reshard";
const MOVE: &str = "move";

impl Args {
    /// Reads `--name value` and `--name=value`.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut args = Self {
            rows: Row::ALL.to_vec(),
            runs: 5,
            balancer: Balancer::Builtin,
            dir: None,
            control: control::row::Row::ALL.to_vec(),
            away: AWAY,
            reshards: true,
            moves_one: false,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, given) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            if name == "--no-dns" {
                continue;
            }
            let value = given.or_else(|| words.next());
            let value = value.with_context(|| format!("{name} needs a value"))?;
            args.set(&name, &value)?;
        }
        ensure!(args.runs > 0, "--runs must be at least 1");
        Ok(args)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "--only" => {
                let chosen: Vec<&str> = value.split(',').collect();
                self.rows.retain(|row| chosen.contains(&row.word()));
                self.control.retain(|row| chosen.contains(&row.word()));
                self.reshards = chosen.contains(&RESHARD);
                self.moves_one = chosen.contains(&MOVE);
            }
            "--runs" => self.runs = value.parse().context("--runs needs a number")?,
            "--balancer" => {
                self.balancer = match value {
                    "builtin" => Balancer::Builtin,
                    "haproxy" => Balancer::Haproxy,
                    other => bail!("--balancer is builtin or haproxy, not {other}"),
                }
            }
            "--dir" => self.dir = Some(PathBuf::from(value)),
            "--away" => {
                let seconds = value.parse().context("--away needs a number of seconds")?;
                self.away = Duration::from_secs(seconds);
            }
            // Of the other half only.
            "--base-port" => {}
            other => bail!("there is no option {other}"),
        }
        Ok(())
    }

    /// Where a part of the drill works.
    pub fn folder(&self, part: &str) -> PathBuf {
        match &self.dir {
            Some(dir) => dir.join(part),
            None => {
                std::env::temp_dir().join(format!("holdfast-drill-{part}-{}", std::process::id()))
            }
        }
    }

    /// Removes such a folder, unless somebody chose where it is.
    ///
    /// # Errors
    /// It stays.
    pub fn clear(&self, folder: &Path) -> Result<()> {
        if self.dir.is_some() {
            return Ok(());
        }
        std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Args> {
        Args::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn its_own_rows_are_chosen_and_the_rest_is_passed_over() {
        let args = parse("--only kill,link-down --runs=2 --away 3 --no-dns --dir /d").unwrap();
        assert_eq!((args.rows.as_slice(), args.runs), (&[Row::LinkDown][..], 2));
        assert_eq!(args.folder("network"), PathBuf::from("/d/network"));
        assert_eq!((args.away, args.control.len()), (Duration::from_secs(3), 0));
        assert_eq!(parse("").unwrap().rows, Row::ALL);
        assert_eq!(parse("").unwrap().control, control::row::Row::ALL);
        let args = parse("--only leader-kill,etcd-away,kill").unwrap();
        let chosen = [control::row::Row::LeaderKill, control::row::Row::EtcdAway];
        assert!(args.rows.is_empty() && !args.reshards && args.control == chosen);
        assert!(parse("--only dns").unwrap().rows.is_empty());
        assert!(!args.reshards && parse("").unwrap().reshards);
        let args = parse("--only reshard").unwrap();
        assert!(args.rows.is_empty() && args.reshards && !args.moves_one);
        let args = parse("--only move").unwrap();
        assert!(args.rows.is_empty() && !args.reshards && args.moves_one);
        assert!(!parse("").unwrap().moves_one, "only where it is asked for");
        assert!(parse("--runs 0").is_err() && parse("--unknown 1").is_err());
        assert!(parse("--away soon").is_err());
    }
}
