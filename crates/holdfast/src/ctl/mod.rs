//! `holdfast ctl`: the controller's REST interface for people and scripts, in kvctl's verbs.
//!
//! A skin: it decides nothing. Without `-n` and `-c` it takes the only namespace and cluster there
//! are. Exit codes: 0 done, 1 the controller refused or could not be reached, 2 usage (clap's);
//! `status` also 3 for a cluster that is not healthy, and 4 for one with a shard that is stuck.

mod away;
mod backup;
mod balancers;
mod change;
mod decide;
mod discarded;
mod env;
mod haproxy;
mod http;
mod ids;
mod made;
mod moves;
mod node;
mod planned;
mod redis;
mod rotate;
mod secret;
mod shards;
mod show;
mod status;
mod store;
mod table;
mod tls;
mod upgrade;
mod user;
mod well;
mod words;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use api::rest::{Clusters, Namespaces};
use clap::Subcommand;

use http::Http;
use table::prose;

/// Talk to the controller.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the controllers are: URL or host:port, several with commas, any of which will do [env:
    /// HOLDFAST_CONTROLLER]
    #[arg(short = 'H', long, alias = "host", global = true, value_name = "URL")]
    controller: Option<String>,
    /// Bearer token of the controller; others on this host see command lines [env: HOLDFAST_TOKEN]
    #[arg(long, global = true)]
    token: Option<String>,
    /// File whose only line is that token [env: HOLDFAST_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: tls::TlsArgs,
    /// Print the controller's answer as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Do not wrap tables at 100 columns
    #[arg(long, global = true)]
    wide: bool,
    /// Longest wait for the controller, seconds; default: 10, more for what takes longer by its
    /// nature
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(subcommand)]
    verb: Verb,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let said = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    said.filter(|limit| !limit.is_zero()).ok_or_else(|| "seconds, above 0".to_owned())
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a namespace, cluster, shard or node
    #[command(subcommand)]
    Create(change::Create),
    /// List namespaces or clusters
    #[command(subcommand)]
    List(show::List),
    /// Show what the store holds of a cluster or shard
    #[command(subcommand)]
    Get(show::Get),
    /// Delete a namespace, cluster, shard or node
    #[command(subcommand)]
    Delete(change::Delete),
    /// Make a replica the master, without losing writes
    #[command(subcommand)]
    Failover(change::Failover),
    /// Change what a cluster promises
    #[command(subcommand)]
    Set(decide::Set),
    /// Let no failover happen by itself, for a maintenance
    #[command(subcommand)]
    Pause(away::Pause),
    /// Let failovers happen by themselves again
    #[command(subcommand)]
    Resume(away::Resume),
    /// Let a cluster go on without a controller
    #[command(subcommand)]
    Release(away::Release),
    /// Add, drain or remove a shard, or decide about one
    #[command(subcommand)]
    Shard(decide::ShardVerb),
    /// Move slots to another shard
    #[command(subcommand)]
    Move(moves::MoveVerb),
    /// Show slots that move; pause, resume or cancel a move
    Moves(moves::MovesArgs),
    /// Even shards out by slots, bytes or load, with as few moves as possible
    ///
    /// Shows the moves and asks; `--yes` does not ask.
    Rebalance(moves::RebalanceArgs),
    /// List, show or put back writes that deposed masters had to discard
    #[command(subcommand)]
    Discarded(discarded::DiscardedVerb),
    /// Set what a node announces to clients, or its port for TLS
    #[command(subcommand)]
    Node(node::NodeVerb),
    /// Take over a cluster that runs, or copy the keys of a Redis
    #[command(subcommand)]
    Import(change::Import),
    /// Add, list, change or remove load balancers
    #[command(subcommand)]
    Balancer(balancers::BalancerVerb),
    /// Show, export or move what the controllers keep: the store as a whole
    #[command(subcommand)]
    Store(store::StoreVerb),
    /// Restart the nodes one after the other, for a new version or an option that is read at the
    /// start
    ///
    /// Shard by shard: replicas, a switchover, the former master; before each step the cluster must
    /// be healthy. Without --run it says what would be done. Can be made again at any time.
    Upgrade(upgrade::Upgrade),
    /// Save nodes of this host, and keep copies elsewhere
    ///
    /// Each node makes its backup (`SAVE`), which is copied to a folder of its own below --to,
    /// named by time, node and sequence. Run it on the host of the nodes, as a user that may read
    /// their folders. A copy is of one moment of its shard.
    Backup(backup::Backup),
    /// Change a password of a running cluster, or the CA of a site, without anybody being refused
    /// meanwhile
    #[command(subcommand)]
    Rotate(rotate::Rotate),
    /// Print the configuration of an HAProxy in front of a cluster
    HaproxyConfig(haproxy::HaproxyConfig),
    /// Print the controller's REST interface as an OpenAPI document, as of this version
    Openapi,
    /// Show what is seen of a cluster now
    ///
    /// Exit code 0: healthy, 3: not healthy or with an alarm, 4: a shard is stuck, 1: the
    /// controller does not say.
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Show what happened and why; with --audit, who asked for what
    Events(show::EventsArgs),
    /// Add, list or remove users: who may ask the controller, by tokens of their own
    #[command(subcommand)]
    User(user::UserVerb),
}

/// Which cluster is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Namespace; the only one if left out
    #[arg(short, long)]
    namespace: Option<String>,
    /// Cluster; the only one if left out
    #[arg(short, long)]
    cluster: Option<String>,
}

impl Place {
    /// The cluster of that name, where a name is given in place of `-c`.
    fn or(self, name: Option<String>) -> Self {
        Self { cluster: self.cluster.or(name), ..self }
    }
}

/// Runs one command.
///
/// # Errors
/// The controller cannot be reached, or refuses; the text names the thing and what to do.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    // A log, or a program that reads it, gets it in one line.
    let is_read = std::io::stderr().is_terminal() && !args.json && !args.wide;
    let done = act(args).await;
    done.map_err(|error| if is_read { parted(&error) } else { error })
}

/// The error as sentences that fit, behind the name of the program.
fn parted(error: &anyhow::Error) -> anyhow::Error {
    let words = prose(table::WIDTH - "holdfast: ".len(), &crate::out::chain(&**error));
    anyhow::Error::msg(words.trim_end().to_owned())
}

async fn act(args: Args) -> Result<ExitCode> {
    let token = secret::token(args.token, args.token_file)?;
    let width = if args.wide { usize::MAX } else { table::WIDTH };
    let http = Http::new(args.controller, token, &args.tls, args.timeout)?;
    let cx = Context { http, json: args.json, width };
    match args.verb {
        Verb::Create(create) => change::create(&cx, create).await?,
        Verb::List(list) => show::list(&cx, list).await?,
        Verb::Get(get) => show::get(&cx, get).await?,
        Verb::Delete(delete) => change::delete(&cx, delete).await?,
        Verb::Failover(failover) => change::failover(&cx, failover).await?,
        Verb::Set(set) => decide::set(&cx, set).await?,
        Verb::Pause(pause) => away::pause(&cx, pause).await?,
        Verb::Resume(resume) => away::resume(&cx, resume).await?,
        Verb::Release(release) => away::release(&cx, release).await?,
        Verb::Shard(verb) => decide::shard(&cx, verb).await?,
        Verb::Move(verb) => moves::slots(&cx, verb).await?,
        Verb::Moves(args) => moves::moves(&cx, args).await?,
        Verb::Rebalance(args) => moves::rebalance(&cx, args).await?,
        Verb::Discarded(verb) => discarded::run(&cx, verb).await?,
        Verb::Node(verb) => node::run(&cx, verb).await?,
        Verb::Import(import) => change::import(&cx, import).await?,
        Verb::HaproxyConfig(config) => haproxy::print(&config)?,
        Verb::Balancer(balancer) => balancers::balancer(&cx, balancer).await?,
        Verb::Store(verb) => store::run(&cx, verb).await?,
        Verb::Upgrade(rolling) => upgrade::run(&cx, &args.tls, rolling).await?,
        Verb::Backup(nodes) => backup::run(&cx, &args.tls, nodes).await?,
        Verb::Rotate(verb) => rotate::run(&cx, &args.tls, verb).await?,
        Verb::Openapi => table::text(api::openapi::DOCUMENT)?,
        Verb::Status { place } => return status::status(&cx, &place).await,
        Verb::Events(args) => show::events(&cx, &args).await?,
        Verb::User(verb) => user::run(&cx, verb).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What every verb needs.
pub(crate) struct Context {
    http: Http,
    json: bool,
    /// Longest line of a table.
    width: usize,
}

impl Context {
    /// Writes sentences for people.
    fn say(&self, words: &str) -> Result<()> {
        table::text(&prose(self.width, words))
    }

    /// `/namespaces/<ns>/clusters`.
    async fn namespace(&self, given: Option<&str>) -> Result<String> {
        if let Some(name) = given {
            let name = words::in_path("namespace", name, "list namespaces")?;
            return Ok(format!("/namespaces/{name}/clusters"));
        }
        let known: Namespaces = self.http.get("/namespaces").await?;
        match known.namespaces.as_slice() {
            [only] => Ok(format!("/namespaces/{only}/clusters")),
            [] => bail!("there is no namespace; create one: holdfast ctl create namespace NAME"),
            many => bail!("choose a namespace with -n: {}", many.join(", ")),
        }
    }

    /// `/namespaces/<ns>/clusters/<name>`.
    async fn named(&self, namespace: Option<&str>, name: &str) -> Result<String> {
        let base = self.namespace(namespace).await?;
        Ok(format!("{base}/{}", words::in_path("cluster", name, "list clusters")?))
    }

    /// `/namespaces/<ns>/clusters/<c>`.
    async fn cluster(&self, place: &Place) -> Result<String> {
        if let Some(name) = &place.cluster {
            return self.named(place.namespace.as_deref(), name).await;
        }
        let base = self.namespace(place.namespace.as_deref()).await?;
        let known: Clusters = self.http.get(&base).await?;
        match known.clusters.as_slice() {
            [only] => Ok(format!("{base}/{only}")),
            [] => bail!(
                "there is no cluster; create or import one: holdfast ctl create cluster --help"
            ),
            many => bail!("choose a cluster with -c: {}", many.join(", ")),
        }
    }
}
