//! Which node a person means: by its id, by the beginning of it, or by its address.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use api::rest::{Cluster, ClusterAnswer, Node};

use super::{Context, Place};

/// Letters of an id that tables show, where they are enough to tell the nodes apart.
const SHORT: usize = 8;

/// A node of a cluster.
pub(super) struct Found {
    /// All 40 letters.
    pub(super) id: String,
    /// Index of its shard.
    pub(super) shard: usize,
    pub(super) addr: String,
}

impl Found {
    /// How it is named to people.
    pub(super) fn name(&self) -> String {
        format!("{} ({})", self.addr, self.id.get(..SHORT).unwrap_or(&self.id))
    }
}

/// Asks the controller which node of the cluster is meant.
pub(super) async fn find(cx: &Context, place: &Place, meant: &str) -> Result<Found> {
    let answer: ClusterAnswer = cx.http.get(&cx.cluster(place).await?).await?;
    pick(&answer.cluster, meant)
}

fn pick(cluster: &Cluster, meant: &str) -> Result<Found> {
    let all = || {
        let shards = cluster.shards.iter().enumerate();
        shards.flat_map(|(shard, it)| it.nodes.iter().map(move |node| (shard, node)))
    };
    let found = |(shard, node): (usize, &Node)| Found {
        id: node.id.clone(),
        shard,
        addr: node.addr.clone(),
    };
    // A whole id or address is meant, even where it begins another one.
    if let Some(whole) = all().find(|(_, node)| node.id == meant || node.addr == meant) {
        return Ok(found(whole));
    }
    let begun: Vec<_> =
        all().filter(|(_, node)| !meant.is_empty() && node.id.starts_with(meant)).collect();
    match begun.as_slice() {
        [only] => Ok(found(*only)),
        [] => {
            let known: Vec<String> = all().map(|node| found(node).name()).collect();
            bail!(
                "no node of cluster {} has the id or address `{meant}`; there are: {}",
                cluster.name,
                known.join(", ")
            )
        }
        many => {
            let many: Vec<String> =
                many.iter().map(|(_, node)| format!("{} {}", node.id, node.addr)).collect();
            bail!("`{meant}` begins several ids: {}", many.join(", "))
        }
    }
}

/// A shard as people name it: by its index, or by its id, which stays when another one is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardWord(String);

impl FromStr for ShardWord {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_index = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_id = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let word = (is_index || is_id).then(|| Self(text.to_owned()));
        word.ok_or_else(|| "an index, or an id of 16 hexadecimal digits, expected".to_owned())
    }
}

impl ShardWord {
    /// Says so if the node is of another shard: better than that the controller does not find it in
    /// the one that was named.
    ///
    /// # Errors
    /// The index is another one. An id is the controller's to compare.
    pub(super) fn is_of(&self, node: &Found) -> Result<()> {
        match self.0.parse::<usize>() {
            Ok(index) if self.0.len() < 16 && index != node.shard => {
                bail!("node {} is of shard {}, not {index}", node.name(), node.shard)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for ShardWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The beginnings of ids that tell them apart, in their order, of one length.
pub(super) fn short(ids: &[&str]) -> Vec<String> {
    let longest = ids.iter().map(|id| id.chars().count()).max().unwrap_or(0);
    let cut = |id: &str, length: usize| id.chars().take(length).collect::<String>();
    let is_enough = |length: &usize| {
        let mut short: Vec<String> = ids.iter().map(|id| cut(id, *length)).collect();
        short.sort_unstable();
        short.windows(2).all(|pair| pair[0] != pair[1])
    };
    let length = (SHORT..=longest).find(is_enough).unwrap_or(longest);
    ids.iter().map(|id| cut(id, length)).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use serde_json::json;

    use super::*;

    fn cluster() -> Cluster {
        let node = |id: &str, addr: &str| json!({"id": id, "addr": addr, "role": "master", "created_at": 0});
        let shard = |nodes| json!({"nodes": nodes, "slot_ranges": [], "target_shard_index": -1, "migrating_slot": null});
        let shards = [
            shard(vec![node("abcdefgh1", "10.0.0.1:6666"), node("abcdefgh12", "10.0.0.2:6666")]),
            shard(vec![node("Abcdefgh", "[::1]:6666")]),
        ];
        serde_json::from_value(json!({"name": "c", "version": 1, "shards": shards})).unwrap()
    }

    /// Verb, and what its help says of the node that is meant.
    fn helps(verb: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        for argument in verb.get_arguments() {
            if ["node", "preferred"].contains(&argument.get_id().as_str()) {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                found.push((path.to_owned(), help));
            }
        }
        for verb in verb.get_subcommands() {
            helps(verb, &format!("{path} {}", verb.get_name()), found);
        }
    }

    #[test]
    fn every_verb_that_takes_a_node_says_how_it_may_be_named() {
        let program = crate::Cli::command();
        let mut found = Vec::new();
        helps(program.find_subcommand("ctl").unwrap(), "ctl", &mut found);
        assert!(found.len() >= 6, "{found:?}");
        for (verb, help) in found {
            assert!(help.contains("id, the beginning of it, or its address"), "{verb}: {help}");
        }
    }

    #[test]
    fn a_shard_of_which_the_node_is_not_is_told_by_its_index() {
        let node = super::pick(&cluster(), "Abcdefgh").unwrap();
        let is_of = |word: &str| word.parse::<ShardWord>().unwrap().is_of(&node);
        assert!(is_of("1").is_ok() && is_of("01").is_ok());
        assert!(is_of("47f0c2d40e5b061f").is_ok(), "an id is the controller's affair");
        let told = is_of("0").unwrap_err().to_string();
        assert_eq!(told, "node [::1]:6666 (Abcdefgh) is of shard 1, not 0");
    }

    #[test]
    fn a_node_is_meant_by_id_by_beginning_or_by_address() {
        let pick =
            |meant: &str| super::pick(&cluster(), meant).map(|found| (found.shard, found.id));
        assert_eq!(pick("abcdefgh12").unwrap(), (0, "abcdefgh12".to_owned()));
        assert_eq!(pick("abcdefgh1").unwrap().1, "abcdefgh1", "a whole id is no beginning");
        assert_eq!(pick("A").unwrap(), (1, "Abcdefgh".to_owned()));
        assert_eq!(pick("10.0.0.2:6666").unwrap().1, "abcdefgh12");
        assert_eq!(pick("[::1]:6666").unwrap().0, 1);
        let several = pick("abc").unwrap_err().to_string();
        assert!(several.contains("abcdefgh1 10.0.0.1:6666, abcdefgh12 10.0.0.2:6666"), "{several}");
        for nobody in ["", "x", "abcdefgh123", "10.0.0.1"] {
            let error = pick(nobody).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("10.0.0.1:6666 (abcdefgh)"), "{nobody}: {error}");
        }
    }

    #[test]
    fn short_ids_are_told_apart() {
        assert_eq!(short(&["abcdefgh1", "abcdefgi1"]), ["abcdefgh", "abcdefgi"]);
        assert_eq!(short(&["abcdefgh1", "abcdefgh2"]), ["abcdefgh1", "abcdefgh2"]);
        assert_eq!(short(&["same", "same"]), ["same", "same"]);
        assert!(short(&[]).is_empty());
    }
}
