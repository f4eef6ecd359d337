//! Starting and stopping a node.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use storage::Store;
use tokio::signal::unix::{SignalKind, signal};
use topology::persist::{self, Disk, NodesConf};
use topology::{Assignment, Cluster, Endpoint};
use web::supervisor;

use crate::config::engine::starting_options;
use crate::config::load::{Loaded, Request};
use crate::config::{Config, Values, load};
use crate::descriptors::Descriptors;
use crate::gate::Role;
use crate::listener::{self, Listener};
use crate::log::Log;
use crate::node::Node;
use crate::reload::{self, Reload, Signals};
use crate::session::table;
use crate::{
    admin, backup, cron, disk, families, grants, handover, memory, replication, role, version,
    worker,
};

/// Exit code for a command line that is not understood.
const USAGE: u8 = 2;

/// `holdfast node …`: starts a node and serves until SIGTERM, SIGINT or SHUTDOWN. `log` is told the
/// configured log level and place at the start, the level whenever CONFIG SET changes it, and the
/// place at each SIGHUP and SIGUSR1.
pub fn main(arguments: &[String], log: Box<dyn Log>) -> anyhow::Result<ExitCode> {
    // The configuration may rename commands.
    table::give(families::ALL);
    let loaded = match load::load(arguments) {
        Ok(Request::Start(loaded)) => *loaded,
        Err(error) if error.is_usage() => {
            eprintln!("holdfast: {error}");
            return Ok(ExitCode::from(USAGE));
        }
        Err(error) => return Err(error.into()),
        Ok(Request::Print(text)) => {
            use std::io::Write;
            let mut out = std::io::stdout().lock();
            let written = writeln!(out, "{text}").and_then(|()| out.flush());
            return match written {
                // The reader of the pipe has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                written => written.context("write to standard output"),
            }
            .map(|()| ExitCode::SUCCESS);
        }
    };
    log.set_level(loaded.values.log_level.as_str());
    reload::direct(&*log, &loaded.values.log_dir)?;
    let config = loaded.file.as_ref().map(|file| file.display().to_string());
    let config = config.as_deref().unwrap_or("none");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    // Before the first line of the log: a supervisor that has read it may send them. From here on
    // neither SIGHUP nor SIGUSR1 ends the process, whenever it comes.
    let signals = {
        let _inside = runtime.enter();
        Signals::listen()?
    };
    tracing::info!(version = version::VERSION, config, dir = loaded.values.dir, "node starts");
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let tables = loaded.values.rocksdb_max_open_files;
    let again = Reload { arguments: arguments.to_vec(), log: Arc::from(log), tables };
    match runtime.block_on(serve(loaded, again, signals)) {
        Err(error) if disk::is_full(&error) => {
            tracing::error!(exit_code = disk::EXIT_CODE, "the disk is full: {error:#}");
            Ok(ExitCode::from(disk::EXIT_CODE))
        }
        Err(error) if disk::is_limit(&error) => {
            tracing::error!(exit_code = disk::LIMIT_EXIT_CODE, "a limit was met: {error:#}");
            Ok(ExitCode::from(disk::LIMIT_EXIT_CODE))
        }
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

async fn serve(mut loaded: Loaded, again: Reload, signals: Signals) -> anyhow::Result<()> {
    loaded.check_files()?;
    let descriptors = Descriptors::prepare(&mut loaded.values)?;
    let values = &loaded.values;
    let dir = data_folder(values)?;
    // Ports first: a node that cannot be reached must not touch its data.
    let listeners = listeners(values)?;
    let admin_listener = match values.admin_port {
        0 => None,
        port => {
            let options = listener::Options { bind: "admin-bind", port: "admin-port" };
            listener::listen(std::slice::from_ref(&values.admin_bind.0), port, 64, options)?.pop()
        }
    };
    storage::check_format(&dir.join("db"))?;
    let _lock = replication::recover(&dir).with_context(|| {
        format!("lock {} and finish a full sync that was interrupted there", dir.display())
    })?;
    find_room(&dir).with_context(|| format!("try out the disk of {}", dir.display()))?;
    let conf = identified(values, &dir)?;
    make_private(&dir);
    let opening = disk::Opening::begin(&dir);
    let options = starting_options(values);
    replication::finish_rewind(&dir, &options)?;
    let began = Instant::now();
    tracing::info!(dir = %dir.display(), "opening the database");
    let store = Store::open(&dir.join("db"), options)?;
    let (took_ms, sequence) = (began.elapsed().as_millis(), store.latest_sequence());
    tracing::info!(took_ms, sequence, "database open");
    let node = build(loaded, dir, store, conf, Arc::clone(&again.log))?;
    let node = Arc::new(node.with_descriptors(descriptors));
    grants::owner::keep(&node);
    backup::sweep(&node);
    write_pid_file(&node)?;
    drop(opening);
    node.reads.watch(&node.db_path());
    replication::look_aside(&node);
    begin_role(&node).context("note in the database folder who writes from now on")?;
    if !node.config.now().unixsocket.0.is_empty() {
        // Set once: the option does not change while the process runs.
        let _ = node.clients.file.set(node.config.now().unixsocket.0.as_str().into());
    }
    let workers = worker::start(&node)?;
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        tasks.spawn(worker::accept(Arc::clone(&node), listener, workers.clone()));
    }
    if let Some(listener) = admin_listener {
        tasks.spawn(admin::serve(Arc::clone(&node), listener));
    }
    tasks.spawn(cron::run(Arc::clone(&node)));
    tasks.spawn(memory::watch::run(Arc::clone(&node)));
    tasks.spawn(grants::drive::run(Arc::clone(&node)));
    let config = node.config.now();
    tracing::info!(
        port = config.told_port(),
        dir = %node.dir.display(),
        cluster = config.cluster_enabled,
        version = node.cluster.load().version(),
        "ready to serve"
    );
    supervisor::ready();
    wait_for_end(&node, &mut tasks, signals, again).await?;
    stop(&node)
}

/// `dir`, made where it is missing.
fn data_folder(values: &Values) -> anyhow::Result<PathBuf> {
    let dir = PathBuf::from(&values.dir);
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("create data directory {}", dir.display()))?;
    let dir =
        dir.canonicalize().with_context(|| format!("find data directory {}", dir.display()))?;
    if values.dir == Values::default().dir {
        tracing::warn!(
            dir = %dir.display(),
            "`dir` is not set: many systems empty this place when they start, or after some days"
        );
    }
    Ok(dir)
}

/// What the log of an earlier process has reserved, or a full sync has brought, may be all that is
/// in the way of a start: the data in service is whole without.
fn find_room(dir: &Path) -> std::io::Result<()> {
    let is_full = |tried: &std::io::Result<()>| tried.as_ref().is_err_and(disk::has_no_room);
    let mut tried = disk::try_out(dir);
    if is_full(&tried) {
        tracing::warn!("no room: what an earlier process has reserved for its log is given back");
        if let Err(error) = storage::give_back_reserve(&dir.join("db")) {
            tracing::warn!(%error, "what was reserved for the log may not be given back");
        }
        tried = disk::try_out(dir);
    }
    if let Err(error) = &tried
        && disk::has_no_room(error)
    {
        tracing::warn!(%error, "what a full sync has brought is removed");
        replication::discard_download(dir)?;
        tried = disk::try_out(dir);
    }
    tried
}

/// Where clients, peers and controllers come in.
fn listeners(values: &Values) -> anyhow::Result<Vec<Listener>> {
    let mut all = Vec::new();
    let listen = |port, name| {
        let options = listener::Options { bind: "bind", port: name };
        listener::listen(&values.bind.0, port, values.tcp_backlog, options)
    };
    if values.port > 0 {
        let ports = listen(values.port, "port")?;
        all.extend(ports.into_iter().map(Listener::Tcp));
    }
    if values.tls_port > 0 {
        let ports = listen(values.tls_port, "tls-port")?;
        all.extend(ports.into_iter().map(Listener::Tls));
    }
    if !values.unixsocket.0.is_empty() {
        let path = Path::new(&values.unixsocket.0);
        all.push(listener::listen_on_file(path, values.unixsocketperm.0, values.tcp_backlog)?);
    }
    Ok(all)
}

/// What an earlier version, or a copy, left open to others on this host: the data, and what was
/// discarded of it. Folders that are not the node's are their owner's business.
fn make_private(dir: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let is_ours = |name: &str| {
        ["db", "backup", "checkpoint", "discarded"].contains(&name) || name.starts_with("db.")
    };
    let folders = std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| {
        // Links are not followed.
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.file_name().to_str().is_some_and(is_ours)
    });
    for folder in folders {
        let (path, metadata) = (folder.path(), folder.metadata());
        let Ok(mode) = metadata.map(|metadata| metadata.permissions().mode()) else { continue };
        if mode & 0o077 == 0 {
            continue;
        }
        match std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & !0o077)) {
            Ok(()) => {
                tracing::warn!(folder = %path.display(), "others could read it, and cannot any more");
            }
            Err(error) => tracing::warn!(folder = %path.display(), %error, "others may read it"),
        }
    }
}

fn build(
    loaded: Loaded,
    dir: PathBuf,
    store: Store,
    conf: Option<NodesConf>,
    log: Arc<dyn Log>,
) -> anyhow::Result<Node> {
    let slaveof = loaded.values.slaveof.0.clone();
    let config =
        Config::new(loaded.values, loaded.file).with_log(move |level| log.set_level(level));
    let commands = table::give(families::ALL);
    let node = Node::new(config, dir, store, Cluster::default(), Role::Master, commands)
        .with_namespaces()
        .on_failure(Arc::new(disk::end))
        .on_regained(role::note_regained);
    load_users(&node)?;
    node.tls.start(&node.config)?;
    if let Some(conf) = conf {
        load_topology(&node, conf)?;
    } else if let Some(from) = slaveof {
        node.gate.write().role = Role::Replica { from };
    }
    replication::heed_mark(&node);
    Ok(node)
}

/// The users of the configuration, or of the file that it names.
fn load_users(node: &Node) -> anyhow::Result<()> {
    let config = node.config.now();
    let text = match config.aclfile.as_str() {
        "" => config.users.join("\n"),
        path => {
            let path = node.path(path);
            std::fs::read_to_string(&path)
                .with_context(|| format!("read the users of {}", path.display()))?
        }
    };
    let place = if config.aclfile.is_empty() { "configuration" } else { &config.aclfile };
    let taken = node.acl.replace(&text);
    taken.map(drop).map_err(|why| anyhow::anyhow!("users of {place}: {why}"))
}

/// Takes identity and role from `nodes.conf`. In the blocking lease modes this makes nobody a
/// master: that takes a lease.
fn load_topology(node: &Node, conf: NodesConf) -> anyhow::Result<()> {
    let is_here = |endpoint: &Endpoint| role::identifies(node, endpoint);
    let loaded = Cluster::load(conf, &is_here);
    loaded.check_place(&is_here).with_context(|| format!("start on {}", node.dir.display()))?;
    let outcome = loaded.outcome();
    node.resync.set_required(outcome.full_sync_required);
    if let Assignment::ReplicaOf { local, .. } = outcome.assignment {
        node.gate.write().role = Role::Replica { from: local };
    }
    // A node without an id was reset, or is new: what was obeyed in this folder before is nothing
    // to it.
    match loaded.id() {
        Some(_) => node.grants.remember(grants::identity::load_obeyed(&node.dir)),
        None => grants::identity::forget_term(&node.dir).context("remove the file `term`")?,
    }
    node.cluster.store(Arc::new(loaded));
    Ok(())
}

/// This node's identity, by `nodes.conf` and by its data; the two must agree before the database is
/// touched.
fn identified(values: &Values, dir: &Path) -> anyhow::Result<Option<NodesConf>> {
    if !values.cluster_enabled {
        return Ok(None);
    }
    let conf = persist::load(&Disk, dir)?;
    if values.persist_cluster_nodes_enabled { grants::owner::check(dir, conf) } else { Ok(conf) }
}

fn begin_role(node: &Arc<Node>) -> std::io::Result<()> {
    let (role, generation) = {
        let engine = node.engine();
        (engine.role.clone(), engine.generation)
    };
    if let Role::Replica { .. } = role {
        role::take_role(node, role, generation);
    } else {
        role::begin_to_write(node, &node.engine())?;
        role::settle_without_epochs(node);
    }
    Ok(())
}

fn write_pid_file(node: &Node) -> anyhow::Result<()> {
    let config = node.config.now();
    let path = match config.pidfile.as_str() {
        "" => node.path("kvrocks.pid"),
        path => PathBuf::from(path),
    };
    std::fs::write(&path, format!("{}\n", std::process::id()))
        .with_context(|| format!("write pid file {}", path.display()))
}

async fn wait_for_end(
    node: &Arc<Node>,
    tasks: &mut tokio::task::JoinSet<anyhow::Result<()>>,
    signals: Signals,
    again: Reload,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
    let mut shutdown = node.shutdown();
    let reloading = tokio::task::spawn(signals.obey(Arc::clone(node), again));
    let is_told = tokio::select! {
        _ = terminate.recv() => { tracing::info!("SIGTERM: stopping"); true }
        _ = interrupt.recv() => { tracing::info!("SIGINT: stopping"); true }
        _ = shutdown.wait_for(|stop| *stop) => { tracing::info!("SHUTDOWN: stopping"); false }
        Some(ended) = tasks.join_next() => {
            ended.context("a service task ended")??;
            false
        }
    };
    reloading.abort();
    supervisor::stopping();
    if is_told {
        let timeout_ms = node.config.now().handover_timeout_ms;
        supervisor::waits(Duration::from_millis(timeout_ms.into()));
        tokio::select! {
            () = handover::wait(node) => {}
            _ = terminate.recv() => tracing::info!("SIGTERM again: stopping at once"),
            _ = interrupt.recv() => tracing::info!("SIGINT again: stopping at once"),
            _ = shutdown.wait_for(|stop| *stop) => tracing::info!("SHUTDOWN: stopping at once"),
            Some(ended) = tasks.join_next() => {
                ended.context("a service task ended")??;
            }
        }
    }
    node.shut_down();
    Ok(())
}

/// Nothing is written from here on: the gate is held while the last bytes go to the disk, and the
/// database is closed.
fn stop(node: &Arc<Node>) -> anyhow::Result<()> {
    replication::end(node);
    let store = node.gate.write().store.take();
    if let Some(store) = store {
        store.publish().context("write the last of the WAL")?;
        let watch = store.close_watch();
        if let Err(error) = store.close() {
            // A feed or scan of a connection that is just ending may hold it.
            if !watch.wait(CLOSE_PATIENCE) {
                tracing::warn!(%error, "stopped; the kernel closes the database with the process");
                disk::exit_at_once(0);
            }
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// How long a stop waits for the last users of the database.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
