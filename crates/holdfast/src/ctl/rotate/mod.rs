//! `ctl rotate`: changes the passwords of a running cluster, node by node, without anybody being
//! refused meanwhile.
//!
//! [`plan`] has the steps. A run that ended anywhere is made again with the same two passwords: it
//! asks the nodes what they take, and goes on. It stops before the next step wherever the cluster
//! is not well.

mod nodes;
mod plan;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use api::rest::{ClusterAnswer, ClusterChange};
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use self::nodes::Peers;
use self::plan::{Step, What};
use super::secret::Password;
use super::table::json as print_json;
use super::tls::TlsArgs;
use super::{Context, Place, well};

/// Longest wait until the cluster is well, before the first step and after each: a link to a master
/// is made anew.
const WELL: Duration = Duration::from_secs(30);
/// Random bytes of a password that is made.
const RANDOM: usize = 32;

#[derive(Debug, Subcommand)]
pub(crate) enum Rotate {
    /// The password of nodes and controllers among each other: `peer-auth`, `masterauth`
    ///
    /// All nodes take the new one, the controller says it, all nodes say it, and then none takes
    /// the old one any more. Without --yes it says what would be done. A run that was interrupted
    /// is made again with the same files.
    Peers(Common),
    /// The password of clients: `requirepass`; first both are good, and with --finish the new one
    /// alone
    ///
    /// Let the clients use the new one in between. Without --yes it says what would be done.
    Clients {
        #[command(flatten)]
        common: Common,
        /// All clients use the new password: take the old one no more
        #[arg(long)]
        finish: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    password: Password,
    /// File whose only line is the new password
    #[arg(long, value_name = "FILE")]
    new_file: PathBuf,
    /// Make a random password, and that file, readable by its owner alone, unless it is there
    #[arg(long)]
    generate: bool,
    /// Dial the nodes over TLS; they are known by --cacert
    #[arg(long)]
    nodes_tls: bool,
    /// Do not let the nodes write it into their configuration files: that is done by other means
    #[arg(long)]
    no_rewrite: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// A rotation of one cluster.
struct Rotation<'a> {
    cx: &'a Context,
    /// Path of the cluster.
    path: String,
    /// Addresses, in the order of the shards.
    nodes: Vec<String>,
    peers: Peers,
    /// Of clients: the new one.
    password: String,
    writes_files: bool,
    /// Nodes whose files have it not, and why.
    unwritten: Vec<(String, String)>,
}

pub(crate) async fn run(cx: &Context, tls: &TlsArgs, rotate: Rotate) -> Result<()> {
    let (common, is_finish, is_peers) = match rotate {
        Rotate::Peers(common) => (common, false, true),
        Rotate::Clients { common, finish } => (common, finish, false),
    };
    let old = common.password.get()?;
    let old = old.context("give the nodes' present peer-auth: --password-file")?;
    let new = new_password(&common.new_file, common.generate)?;
    ensure!(old != new, "the new password is the nodes' present peer-auth");
    let path = cx.cluster(&common.place).await?;
    let cluster: ClusterAnswer = cx.http.get(&path).await?;
    let nodes: Vec<String> = (cluster.cluster.shards.iter())
        .flat_map(|shard| shard.nodes.iter().map(|node| node.addr.clone()))
        .collect();
    let tls = Arc::new(tls.nodes(common.nodes_tls)?);
    // To change that of clients, nodes are told by their own.
    let peers = Peers { new: if is_peers { new.clone() } else { old.clone() }, old, tls };
    let (writes_files, unwritten) = (!common.no_rewrite, Vec::new());
    let mut rotation = Rotation { cx, path, nodes, peers, password: new, writes_files, unwritten };
    rotation.well(WELL).await.context("nothing was changed")?;
    let steps = if is_peers {
        let mut takes = Vec::new();
        for node in &rotation.nodes {
            takes.push(rotation.peers.takes(node).await.context("nothing was changed")?);
        }
        plan::peers(&takes)
    } else {
        let what = if is_finish { What::ClientsOnly } else { What::ClientsToo };
        plan::clients(what, rotation.nodes.len())
    };
    if !common.yes {
        return rotation.show(&steps, "would be done");
    }
    for step in &steps {
        rotation.carry_out(*step).await.context(AGAIN)?;
        if !cx.json {
            cx.say(&rotation.line(step))?;
        }
    }
    if cx.json {
        return rotation.show(&steps, "done");
    }
    cx.say(&rotation.last_words(&steps, is_peers, is_finish))
}

/// What to do about a run that ended.
const AGAIN: &str =
    "not all was done, and nobody is refused for that: mend it, then give the same command again";

impl Rotation<'_> {
    fn name(&self, step: &Step) -> &str {
        step.node.and_then(|at| self.nodes.get(at)).map_or("the controller", String::as_str)
    }

    fn line(&self, step: &Step) -> String {
        format!("{} {}", self.name(step), step.what.about())
    }

    fn show(&self, steps: &[Step], done: &str) -> Result<()> {
        if self.cx.json {
            let steps: Vec<_> = (steps.iter())
                .map(|step| json!({ "at": self.name(step), "what": step.what.about() }))
                .collect();
            let unwritten: Vec<_> = self.unwritten.iter().map(|(node, _)| node).collect();
            return print_json(
                &json!({ "steps": steps, "done": done == "done", "unwritten": unwritten }),
            );
        }
        if steps.is_empty() {
            return self.cx.say("nothing to do: all nodes take the new password only");
        }
        let lines: Vec<String> = steps.iter().map(|step| self.line(step)).collect();
        self.cx.say(&format!(
            "This {done}, in this order:\n{}\nNothing was changed; --yes does it.",
            lines.join("\n")
        ))
    }

    /// One step, and that it has done what it should.
    async fn carry_out(&mut self, step: Step) -> Result<()> {
        let Some(node) = step.node.and_then(|at| self.nodes.get(at)).cloned() else {
            let password = Some(self.peers.new.clone());
            let body = ClusterChange { password, ..ClusterChange::default() };
            self.cx.http.call(Method::PATCH, &self.path, Some(&body)).await?;
            return self.well(WELL).await;
        };
        let (old, new) = (&self.peers.old, &self.password);
        self.peers.set(&node, &step.what.options(old, new)).await?;
        if let Some(wanted) = step.what.leads_to() {
            let takes = self.peers.takes(&node).await?;
            ensure!(takes == wanted, "node {node} takes {takes:?}, and should take {wanted:?}");
        }
        if self.writes_files && !self.unwritten.iter().any(|(known, _)| *known == node) {
            let refused = self.peers.keep(&node).await?;
            self.unwritten.extend(refused.map(|why| (node, why)));
        }
        self.well(WELL).await
    }

    /// Waits until the cluster is well.
    async fn well(&self, limit: Duration) -> Result<()> {
        well::wait(self.cx, &self.path, well::follows, (Duration::ZERO, limit)).await.map(drop)
    }

    /// What is left to people.
    fn last_words(&self, steps: &[Step], is_peers: bool, is_finish: bool) -> String {
        if steps.is_empty() {
            return "nothing to do: all nodes take the new password only".to_owned();
        }
        let mut words = match (is_peers, is_finish) {
            (true, _) => "Done: nodes and controller say the new password, and take no other.\n\
                 Put it where the old one stands: files that ctl, backups and scripts read (HOLDFAST_PASSWORD_FILE, \
                 REDISCLI_AUTH), and what nodes are configured from.",
            (false, false) => "Clients may use either password. Let all of them use the new one, then give the same \
                 command with --finish.",
            (false, true) => "Done: new connections of clients need the new password.\n\
                 Connections that exist go on; CLIENT KILL TYPE normal ends them, where the old one is known to others.",
        }
        .to_owned();
        if !self.writes_files {
            words.push_str(
                "\nThe nodes' files were not written: write it there before one of them restarts.",
            );
        }
        for (node, why) in &self.unwritten {
            words.push_str(&format!("\n{node} could not write its file ({why}): write it there."));
        }
        words
    }
}

/// The password in the file, which is made if it may be.
fn new_password(file: &Path, may_make: bool) -> Result<String> {
    if may_make && !file.exists() {
        let random: [u8; RANDOM] = rand::random();
        let word: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut options = std::fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(file);
        let written = made.and_then(|mut file| {
            file.write_all(format!("{word}\n").as_bytes())?;
            file.sync_all()
        });
        written.with_context(|| format!("--new-file: write {}", file.display()))?;
        return Ok(word);
    }
    let word = web::read_secret(file).context("--new-file")?;
    match plan::bad(&word) {
        Some(why) => bail!("--new-file: this is no password: {why}"),
        None => Ok(word),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_password_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new");
        assert!(new_password(&file, false).is_err());
        let made = new_password(&file, true).unwrap();
        assert_eq!(made.len(), 2 * RANDOM);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // A run that is made again goes on with the same one.
        assert_eq!(new_password(&file, true).unwrap(), made);
        std::fs::write(&file, "two words\n").unwrap();
        let error = format!("{:#}", new_password(&file, true).unwrap_err());
        assert!(error.contains("no blanks"), "{error}");
    }
}
