//! What a torture is asked to do: `NAME=VALUE` arguments, as `make` gives them.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use super::faults::{Kind, Style};
use super::keys;
use super::setup::{Balancer, Mode, Shape, Store};

/// Names and what they take, for the message about a wrong one.
const HELP: &str = "RUNS=n SEED=n MODE=in-sync|async BALANCER=haproxy|builtin SHAPE=<shards>x<nodes> \
                    FAULTS=<kind,…>|all[,-kind…][,alone|,mixed] KEYS=<kind,…>|all[,-kind…] \
                    CLIENTS=busy|quiet LEASE=ms MISSES=n MOVES=on|off CONTROLLERS=1..5 STORE=embedded|etcd SECONDS=n \
                    KEEP=yes DIR=folder";

/// Everything that can be said. What is `None` is chosen by the seed of each run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many runs; seeds count up.
    pub runs: u64,
    /// Seed of the first run.
    pub seed: Option<u64>,
    /// How writes are acknowledged.
    pub mode: Mode,
    /// What stands in front.
    pub balancer: Option<Balancer>,
    /// Shards and nodes.
    pub shape: Option<Shape>,
    /// Which faults may happen.
    pub faults: Vec<Kind>,
    /// Which kinds of keys are used.
    pub keys: Vec<keys::Kind>,
    /// One after the other, or several at a time.
    pub style: Option<Style>,
    /// Clients that nearly only read.
    pub quiet: Option<bool>,
    /// Length of leases, ms.
    pub lease_ms: Option<u64>,
    /// Heartbeats, one each 200 ms, without an answer before a node counts as down.
    pub misses: u32,
    /// Whether slots go from shard to shard meanwhile.
    pub moves: bool,
    /// 1..=5; several share a store.
    pub controllers: usize,
    /// What they keep their records in.
    pub store: Store,
    /// For how long faults are begun, s.
    pub seconds: u64,
    /// Whether folders of runs without findings stay, data included.
    pub keep: bool,
    /// Where folders and results go.
    pub dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            runs: 1,
            seed: None,
            mode: Mode::InSync,
            balancer: None,
            shape: None,
            faults: Kind::ALL.to_vec(),
            keys: keys::Kind::ALL.to_vec(),
            style: None,
            quiet: None,
            lease_ms: None,
            misses: 4,
            moves: false,
            controllers: 1,
            store: Store::Embedded,
            seconds: 14,
            keep: false,
            dir: None,
        }
    }
}

impl Options {
    /// Reads arguments; each is optional.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        // Which faults there are is said by what there is to be hit.
        let is_of_site =
            |word: &String| ["CONTROLLERS=", "STORE="].iter().any(|name| word.starts_with(name));
        let (site, others): (Vec<String>, Vec<String>) =
            arguments.into_iter().partition(is_of_site);
        let set = |options: &mut Self, words: &[String]| {
            words.iter().try_for_each(|word| {
                options.set(word).with_context(|| format!("`{word}`; accepted: {HELP}"))
            })
        };
        set(&mut options, &site)?;
        let is_shared = options.store == Store::Etcd;
        ensure!(is_shared || options.controllers == 1, "several controllers need STORE=etcd");
        options.faults = options.known();
        set(&mut options, &others)?;
        let is_single = options.shape.is_some_and(|shape| shape.shards == 1);
        ensure!(!(options.moves && is_single), "MOVES=on needs two shards or more");
        Ok(options)
    }

    /// The faults that such a site can have.
    pub fn known(&self) -> Vec<Kind> {
        Kind::of(self.controllers, self.store)
    }

    fn set(&mut self, argument: &str) -> Result<()> {
        let (name, value) = argument.split_once('=').context("not NAME=VALUE")?;
        match name {
            "RUNS" => self.runs = value.parse().context("not a number")?,
            "SEED" => self.seed = Some(value.parse().context("not a number")?),
            "SECONDS" => self.seconds = value.parse().context("not a number")?,
            "MODE" => {
                self.mode = match value {
                    "in-sync" => Mode::InSync,
                    "async" => Mode::Async,
                    _ => bail!("no such mode"),
                }
            }
            "BALANCER" => {
                self.balancer = Some(match value {
                    "builtin" => Balancer::Builtin,
                    "haproxy" => Balancer::Haproxy,
                    _ => bail!("no such balancer"),
                });
            }
            "CLIENTS" => {
                self.quiet = Some(match value {
                    "busy" => false,
                    "quiet" => true,
                    _ => bail!("no such clients"),
                });
            }
            "LEASE" => self.lease_ms = Some(value.parse().context("not a number")?),
            "MISSES" => self.misses = value.parse().context("not a number")?,
            "MOVES" => {
                self.moves = match value {
                    "on" => true,
                    "off" => false,
                    _ => bail!("neither on nor off"),
                }
            }
            "CONTROLLERS" => {
                self.controllers = value.parse().context("not a number")?;
                ensure!((1..=5).contains(&self.controllers), "1 to 5 controllers");
            }
            "STORE" => {
                self.store = match value {
                    "embedded" => Store::Embedded,
                    "etcd" => Store::Etcd,
                    _ => bail!("no such store"),
                }
            }
            "SHAPE" => self.shape = Some(shape(value)?),
            "FAULTS" => self.set_faults(value)?,
            "KEYS" => self.set_keys(value)?,
            "KEEP" => self.keep = value == "yes",
            "DIR" => self.dir = Some(value.into()),
            _ => bail!("no such argument"),
        }
        ensure!((1..=600).contains(&self.seconds), "SECONDS is 1..=600");
        Ok(())
    }

    fn set_faults(&mut self, value: &str) -> Result<()> {
        let known = self.known();
        let kind = |name: &str| kind(name, &known);
        let (mut faults, mut without): (Vec<Kind>, Vec<Kind>) = (Vec::new(), Vec::new());
        for word in value.split(',') {
            match word {
                "all" => faults.extend(&known),
                "none" => {}
                "alone" => self.style = Some(Style::Alone),
                "mixed" => self.style = Some(Style::Mixed),
                name => match name.strip_prefix('-') {
                    Some(name) => without.push(kind(name)?),
                    None => faults.push(kind(name)?),
                },
            }
        }
        if faults.is_empty() && !value.contains("none") {
            faults.extend(&known);
        }
        // In one order however they are written: schedules draw from it.
        let is_wanted = |kind: &Kind| faults.contains(kind) && !without.contains(kind);
        self.faults = known.iter().copied().filter(is_wanted).collect();
        Ok(())
    }

    fn set_keys(&mut self, value: &str) -> Result<()> {
        let (mut wanted, mut without) = (Vec::new(), Vec::new());
        for word in value.split(',') {
            match word.strip_prefix('-') {
                Some(name) => without.push(key_kind(name)?),
                None if word == "all" => wanted.extend(keys::Kind::ALL),
                None => wanted.push(key_kind(word)?),
            }
        }
        if wanted.is_empty() {
            wanted.extend(keys::Kind::ALL);
        }
        let is_wanted = |kind: &keys::Kind| wanted.contains(kind) && !without.contains(kind);
        self.keys = keys::Kind::ALL.into_iter().filter(is_wanted).collect();
        ensure!(!self.keys.is_empty(), "no kind of key is left");
        Ok(())
    }
}

fn key_kind(name: &str) -> Result<keys::Kind> {
    keys::Kind::parse(name).with_context(|| {
        let known: Vec<&str> = keys::Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("no kind of key `{name}`; there are: {}", known.join(" "))
    })
}

/// One of those that the site can have.
fn kind(name: &str, known: &[Kind]) -> Result<Kind> {
    let kind = Kind::parse(name);
    kind.filter(|kind| known.contains(kind)).with_context(|| {
        let names: Vec<&str> = known.iter().map(|kind| kind.as_str()).collect();
        let why = if kind.is_some() { "at this STORE and these CONTROLLERS " } else { "" };
        format!("{why}no fault `{name}`; there are: {}", names.join(" "))
    })
}

fn shape(text: &str) -> Result<Shape> {
    let (shards, nodes) = text.split_once('x').context("not <shards>x<nodes>")?;
    let shape = Shape {
        shards: shards.parse().context("not a number of shards")?,
        nodes: nodes.parse().context("not a number of nodes")?,
    };
    let fits = (1..=8).contains(&shape.shards) && (2..=5).contains(&shape.nodes);
    ensure!(fits, "1 to 8 shards of 2 to 5 nodes");
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_read_and_wrong_ones_named() {
        let options =
            parse("RUNS=3 SEED=9 MODE=async BALANCER=builtin SHAPE=3x2 FAULTS=kill,mixed").unwrap();
        assert_eq!((options.runs, options.seed, options.mode), (3, Some(9), Mode::Async));
        assert_eq!(options.shape, Some(Shape { shards: 3, nodes: 2 }));
        assert_eq!((options.faults, options.style), (vec![Kind::Kill], Some(Style::Mixed)));
        assert_eq!(parse("CLIENTS=quiet").unwrap().quiet, Some(true));
        assert!(parse("MOVES=on").unwrap().moves && !parse("MOVES=off").unwrap().moves);
        assert!(parse("MOVES=on SHAPE=2x2").is_ok() && parse("MOVES=on SHAPE=1x3").is_err());
        assert_eq!(parse("FAULTS=alone").unwrap().faults, Kind::ALL);
        assert!(parse("FAULTS=none").unwrap().faults.is_empty());
        let most = parse("FAULTS=-disk-full,mixed").unwrap().faults;
        assert_eq!(
            parse("FAULTS=kill-restart,kill").unwrap().faults,
            parse("FAULTS=kill,kill-restart").unwrap().faults
        );
        assert!(most.len() == Kind::ALL.len() - 1 && !most.contains(&Kind::DiskFull));
        assert_eq!(parse("KEYS=all").unwrap().keys, keys::Kind::ALL);
        assert_eq!(parse("KEYS=set,queue").unwrap().keys, [keys::Kind::Queue, keys::Kind::Set]);
        assert_eq!(parse("KEYS=-lock").unwrap().keys.len(), keys::Kind::ALL.len() - 1);
        let three = parse("FAULTS=raft-kill,kill CONTROLLERS=3 STORE=etcd").unwrap();
        assert_eq!((three.controllers, three.store), (3, Store::Etcd));
        assert_eq!(three.faults, [Kind::Kill, Kind::RaftKill]);
        let all = parse("CONTROLLERS=3 STORE=etcd").unwrap();
        assert_eq!(all.faults, Kind::of(3, Store::Etcd));
        let most = parse("FAULTS=-etcd-full STORE=etcd CONTROLLERS=3").unwrap().faults;
        assert!(most.len() == all.faults.len() - 1 && !most.contains(&Kind::EtcdFull));
        assert_eq!(parse("STORE=etcd").unwrap().faults, Kind::of(1, Store::Etcd));
        for wrong in ["CONTROLLERS=3", "CONTROLLERS=3 STORE=embedded", "FAULTS=raft-kill"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("FAULTS=store-full STORE=etcd").is_err());
        for bad in [
            "CONTROLLERS=0",
            "CONTROLLERS=6",
            "STORE=paper",
            "RUNS",
            "KEYS=rain",
            "KEYS=set,-set",
            "RUNS=x",
            "MODE=sync",
            "SHAPE=3",
            "SHAPE=0x2",
            "FAULTS=rain",
            "CLIENTS=few",
            "LEASE=1s",
            "MISSES=few",
            "MOVES=few",
            "X=1",
        ] {
            assert!(format!("{:#}", parse(bad).unwrap_err()).contains(bad), "{bad}");
        }
    }
}
