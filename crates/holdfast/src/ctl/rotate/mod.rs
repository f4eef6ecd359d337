//! `ctl rotate`: changes the passwords of a running cluster, node by node, without anybody being
//! refused meanwhile; and the CA of a site ([`ca`]).
//!
//! [`plan`] has the steps of passwords. A run that ended anywhere is made again with the same two
//! passwords: it asks the nodes what they take, and goes on. It stops before the next step wherever
//! the cluster is not well.

mod authorities;
mod ca;
mod nodes;
mod plan;

use std::fs::File;
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

/// Longest wait until the cluster is well, before the first step and after each.
const WELL: Duration = Duration::from_secs(30);
/// For how long it must have been well after a step by which another password is said: a node that
/// is refused is missed by then.
const STEADY: Duration = Duration::from_secs(2);
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
        #[arg(long, conflicts_with = "generate")]
        finish: bool,
    },
    /// The CA by which nodes, balancers and controllers know each other
    ///
    /// All know the new one beside the old one, then certificates are replaced, and then the old
    /// one is removed. It says how far that is, by what each process has in force, and which files
    /// are next. With --hook and --run a command of yours changes them, one after the other.
    Ca(ca::Ca),
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
        Rotate::Ca(ca) => return ca::run(cx, ca).await,
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
    rotation.well(Duration::ZERO).await.context("nothing was changed")?;
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
    if is_finish {
        rotation.is_known_to_nodes().await.context("nothing was changed")?;
    }
    let done = rotation.carry_out_all(&steps).await;
    done.map_err(|error| {
        let words = rotation.again(&common.new_file, &error);
        error.context(words)
    })?;
    if cx.json {
        return rotation.show(&steps, "done");
    }
    cx.say(&rotation.last_words(&steps, is_peers, is_finish))
}

/// What a node without a password of clients says of a second one.
const OPEN: &str = "without requirepass no password is asked for";

/// Where there are no steps.
const NOTHING: &str = "nothing to do: all nodes take the new password only";

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
            return self.cx.say(NOTHING);
        }
        let lines: Vec<String> = steps.iter().map(|step| self.line(step)).collect();
        self.cx.say(&format!(
            "This {done}, in this order:\n{}\nNothing was changed; --yes does it.",
            lines.join("\n")
        ))
    }

    /// That clients may use the new password at each node already: those that use it are refused
    /// otherwise.
    async fn is_known_to_nodes(&self) -> Result<()> {
        for node in &self.nodes {
            ensure!(
                self.peers.is_for_clients(node, &self.password).await?,
                "node {node} does not take the new password from clients: give the command without \
                 --finish first, with the same --new-file"
            );
        }
        Ok(())
    }

    async fn carry_out_all(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            self.carry_out(*step).await?;
            if !self.cx.json {
                self.cx.say(&self.line(step))?;
            }
        }
        // A former run may have ended between a change and its writing.
        for node in self.nodes.clone() {
            self.keep(node).await?;
        }
        Ok(())
    }

    /// Has a node write its file, unless it could not before.
    async fn keep(&mut self, node: String) -> Result<()> {
        if self.writes_files && !self.unwritten.iter().any(|(known, _)| *known == node) {
            let refused = self.peers.keep(&node).await?;
            self.unwritten.extend(refused.map(|why| (node, why)));
        }
        Ok(())
    }

    /// One step, and that it has done what it should.
    async fn carry_out(&mut self, step: Step) -> Result<()> {
        let steady = match step.what {
            What::Controller | What::SayNew => STEADY,
            _ => Duration::ZERO,
        };
        let Some(node) = step.node.and_then(|at| self.nodes.get(at)).cloned() else {
            let password = Some(self.peers.new.clone());
            let body = ClusterChange { password, ..ClusterChange::default() };
            self.cx.http.call(Method::PATCH, &self.path, Some(&body)).await?;
            return self.well(steady).await;
        };
        let (old, new) = (&self.peers.old, &self.password);
        self.peers.set(&node, &step.what.options(old, new)).await?;
        if let Some(wanted) = step.what.leads_to() {
            let takes = self.peers.takes(&node).await?;
            ensure!(
                takes == wanted,
                "node {node} takes {takes:?}, and should take {wanted:?}: another rotation is under \
                 way, and one of them alone may go on"
            );
        }
        self.keep(node).await?;
        self.well(steady).await
    }

    /// Waits until the cluster has been well for `steady`.
    async fn well(&self, steady: Duration) -> Result<()> {
        well::wait(self.cx, &self.path, well::follows, (steady, WELL)).await.map(drop)
    }

    /// What to do about a run that ended for this.
    fn again(&self, file: &Path, error: &anyhow::Error) -> String {
        if format!("{error:#}").contains(OPEN) {
            return "clients need no password there: set `requirepass` on every node first (CONFIG SET, CONFIG REWRITE)"
                .to_owned();
        }
        let mut words = format!(
            "not all was done: mend it, then give the same command again with {}, and only with it: \
             with another new password nodes may refuse each other",
            file.display()
        );
        for (node, why) in &self.unwritten {
            words.push_str(&format!("; {node} could not write its file ({why}): write it there"));
        }
        words
    }

    /// What is left to people.
    fn last_words(&self, steps: &[Step], is_peers: bool, is_finish: bool) -> String {
        let mut words = match (is_peers, is_finish) {
            _ if steps.is_empty() => NOTHING,
            (true, _) => "Done: nodes and controller say the new password, and take no other.\n\
                 Put it where the old one stands: files that ctl, backups and scripts read (HOLDFAST_PASSWORD_FILE, \
                 REDISCLI_AUTH), and what nodes are configured from.",
            (false, false) => "Clients may use either password. Let all of them use the new one, then give the same \
                 command with --finish.",
            (false, true) => "Done: new connections of clients need the new password.\n\
                 Connections that exist go on; CLIENT KILL TYPE normal ends them, where the old one is known to others.",
        }
        .to_owned();
        if !self.writes_files && !steps.is_empty() {
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
        let written = write_new(file, &word);
        written.with_context(|| format!("--new-file: write {}", file.display()))?;
        return Ok(word);
    }
    let word = web::read_secret(file).context("--new-file")?;
    match plan::bad(&word) {
        Some(why) => bail!("--new-file: this is no password: {why}"),
        None => Ok(word),
    }
}

/// Makes the file, and nothing where it cannot be written whole.
fn write_new(file: &Path, word: &str) -> std::io::Result<()> {
    let mut options = File::options();
    let mut made = options.write(true).create_new(true).mode(0o600).open(file)?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let written = made
        .write_all(format!("{word}\n").as_bytes())
        .and_then(|()| made.sync_all())
        .and_then(|()| File::open(parent.unwrap_or(Path::new(".")))?.sync_all());
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(file);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_password_is_not_made_when_clients_must_use_it() {
        let parse = |flags: &[&str]| {
            let words = [&["ctl", "clients", "--new-file", "f"], flags].concat();
            Rotate::augment_subcommands(clap::Command::new("ctl")).try_get_matches_from(words)
        };
        assert!(parse(&["--finish"]).is_ok() && parse(&["--generate"]).is_ok());
        let error = parse(&["--finish", "--generate"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

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
