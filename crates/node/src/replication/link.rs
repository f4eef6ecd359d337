//! The link to the master: executes what the replica's machine orders, on a thread of its own.
//!
//! Invariant: a batch is applied under the write gate, and only while the gate's generation is the
//! one the link was started under (or that it made itself by replacing the database). A link that
//! was told to end, or finds another generation, touches nothing any more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::heartbeat::LinkStatus;
use replication::history::{EpochId, Position};
use replication::replica::{
    Action, Blame, Config, Conn, Event, Fault, Machine, Options, Reason, State,
};
use replication::wire::Stamp;
use tokio::sync::{mpsc, watch};
use topology::{Endpoint, NodeId};

use super::applying::{Applying, Stale, adopt, apply, begin};
use super::conn::{Incoming, Socket};
use super::failures::Failures;
use super::folder::Folder;
use super::mark::{self, Mark};
use crate::clock::{boottime_ms as now_ms, until};
use crate::config::Values;
use crate::disk;
use crate::node::Node;
use crate::threads::block_on;
use crate::upkeep::settle;

/// What a link is started with.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) node: Arc<Node>,
    pub(super) master: Endpoint,
    /// This link's number: what it reports counts while it is the node's newest link.
    pub(super) serial: u64,
    /// Of the write gate.
    pub(super) generation: u64,
    pub(super) cancelled: watch::Receiver<bool>,
}

/// The link's thread.
pub(super) fn run(job: Job) {
    let node = Arc::clone(&job.node);
    // The link before this one may be in the middle of replacing the database; it ends by itself.
    let _alone = node.replication.one_link.lock();
    if *job.cancelled.borrow() {
        return;
    }
    block_on(async move {
        let (events, incoming) = mpsc::channel(16);
        let Some(mut driver) = Driver::new(job, events) else { return };
        let end = driver.run(incoming).await;
        driver.end();
        tracing::info!(master = %driver.job.master, %end, "replication link ended");
    });
}

/// Why a link is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Over {
    #[error("it was told to end")]
    Cancelled,
    #[error("the role or the database changed")]
    Stale,
    #[error("the node stops")]
    Shutdown,
}

pub(super) struct Driver {
    pub(super) job: Job,
    pub(super) machine: Machine,
    events: mpsc::Sender<Incoming>,
    sockets: HashMap<Conn, Socket>,
    pub(super) folder: Folder,
    /// All records that the master lacks were exported, up to the newest.
    pub(super) is_exported: bool,
    /// What the file says of the data here.
    pub(super) mark: Option<Mark>,
    /// What the machine goes by.
    options: Options,
    /// What the log has of attempts that failed.
    failures: Failures,
}

impl From<Stale> for Over {
    fn from(Stale: Stale) -> Self {
        Self::Stale
    }
}

impl Driver {
    /// `None` if the node is not what it was when the link was ordered.
    pub(super) fn new(job: Job, events: mpsc::Sender<Incoming>) -> Option<Self> {
        let node = &job.node;
        let mark = Mark::read(&node.dir);
        let position = begin((node, job.generation), mark.is_some())?;
        let options = options(&node.config.now());
        let mut machine = Machine::new(config(node, position, mark), rand::random());
        machine.set_options(options.clone());
        let folder = Folder::new(&node.dir);
        let (sockets, failures) = (HashMap::new(), Failures::default());
        let is_exported = false;
        Some(Self { job, machine, events, sockets, folder, is_exported, mark, options, failures })
    }

    async fn run(&mut self, mut incoming: mpsc::Receiver<Incoming>) -> Over {
        let mut cancelled = self.job.cancelled.clone();
        let mut shutdown = self.job.node.shutdown();
        let node = Arc::clone(&self.job.node);
        if let Err(over) = self.feed(Event::Start).await {
            return over;
        }
        let mut is_leaving = false;
        loop {
            // Looked at before what has come: under load something always has. And a link that
            // begins while the node stops was not there to be rung.
            if !is_leaving && node.stopping.has_begun() {
                is_leaving = true;
                if let Err(over) = self.feed(Event::Leave).await {
                    return over;
                }
            }
            let deadline = self.machine.deadline();
            let step = tokio::select! {
                biased;
                // An error means that the sender is gone, so nobody can cancel any more: it is
                // cancelled.
                _ = cancelled.wait_for(|cancelled| *cancelled) => return Over::Cancelled,
                _ = shutdown.wait_for(|stop| *stop) => return Over::Shutdown,
                Some(message) = incoming.recv() => self.take(message).await,
                () = node.replication.poke.notified() => self.feed(Event::Retry).await,
                () = node.stopping.begun(), if !is_leaving => Ok(()),
                () = until(deadline.unwrap_or(0)), if deadline.is_some() => self.feed(Event::Tick).await,
            };
            if let Err(over) = step {
                return over;
            }
        }
    }

    async fn take(&mut self, message: Incoming) -> Result<(), Over> {
        match message {
            Incoming::Connected(conn) => self.feed(Event::Connected(conn)).await,
            Incoming::Closed(conn, cause) => self.feed(Event::Closed { conn, cause }).await,
            Incoming::Data(conn, bytes) => {
                self.job.node.replication.last_io_ms.store(now_ms(), Ordering::Relaxed);
                self.feed(Event::Received { conn, bytes: &bytes }).await
            }
        }
    }

    /// Gives the machine an event, and then those that executing its actions makes.
    async fn feed(&mut self, event: Event<'_>) -> Result<(), Over> {
        let mut follow = self.step(event)?;
        while let Some(done) = follow.pop_front() {
            let event = match done {
                Done::Event(event) => event,
                Done::Swap => self.swap().await?,
                Done::Rewind(fork) => self.rewind(fork).await?,
                Done::Pinged(stamp) => {
                    if !crate::grants::drive::promise(&self.job.node, stamp.lease_ms) {
                        continue;
                    }
                    self.machine.echo(stamp);
                    Event::Tick
                }
            };
            // Data of another history has another epoch; copied data another identity, too.
            if matches!(event, Event::Swapped { .. } | Event::Rewound { .. }) {
                self.job.node.replication.news.begin_anew();
                self.machine.set_member(member(&self.job.node));
                self.machine.set_epoch(newest_epoch(&self.job.node));
            }
            follow.extend(self.step(event)?);
        }
        self.job.node.replication.set_progress(self.job.serial, self.machine.progress());
        let resync = &self.job.node.resync;
        match (self.machine.is_distrusted(), resync.is_required()) {
            (true, is_required) => {
                if !is_required {
                    self.require()?;
                }
                if self.machine.must_full_sync() {
                    self.distrust()?;
                }
            }
            (false, true) => self.trust().await?,
            (false, false) => {}
        }
        Ok(())
    }

    /// One step of the machine, with everything it orders but a swap.
    fn step(&mut self, event: Event<'_>) -> Result<VecDeque<Done>, Over> {
        let mut done = VecDeque::new();
        let mut applying = Applying::default();
        let mut has_failed = false;
        self.follow_options();
        let told = match self.machine.state() {
            State::Connected => None,
            State::Connecting | State::Sync => self.tell_history(),
        };
        let (node, generation) = (Arc::clone(&self.job.node), self.job.generation);
        let to = (&node, generation);
        for action in self.machine.step(event, now_ms()) {
            let result = match action {
                Action::Apply(batch) => {
                    apply(to, &batch, &mut applying)?;
                    Ok(())
                }
                Action::Adopt(theirs) => {
                    adopt(to, theirs.as_ref(), told, &mut applying)?;
                    Ok(())
                }
                Action::Prepare { checkpoint, files } => {
                    let held = self.prepare(checkpoint.as_ref(), &files);
                    held.map(|held| done.push_back(Done::Event(Event::Prepared { held })))
                }
                Action::OpenFile { .. } | Action::WriteFile { .. } | Action::FinishFile { .. }
                    if has_failed =>
                {
                    Ok(())
                }
                Action::OpenFile { conn, name, offset } => self.folder.open(conn, name, offset),
                Action::WriteFile { conn, bytes } => self.folder.write(conn, bytes),
                Action::FinishFile { conn } => self.folder.finish(conn),
                Action::DiscardFile { conn } => self.folder.discard(conn),
                other => {
                    done.extend(self.plain(other));
                    Ok(())
                }
            };
            if let Err(error) = result {
                has_failed = true;
                let cause = format!("write the downloaded files: {error}");
                let is_full = disk::has_no_room(&error);
                if is_full {
                    // Others of this disk would end for what came in vain.
                    self.folder.give_room_back();
                }
                done.push_back(Done::Event(Event::FileFailed { cause, is_full }));
            }
        }
        if has_failed {
            // Nothing incomplete is put in service, whatever else this step ordered.
            done.retain(|done| !matches!(done, Done::Swap));
        }
        if let Some(event) = applying.finish(to)? {
            self.machine.set_epoch(newest_epoch(&self.job.node));
            done.push_back(Done::Event(event));
        }
        Ok(done)
    }

    /// An action that cannot fail, or is done later.
    fn plain(&mut self, action: Action<'_>) -> Option<Done> {
        match action {
            Action::Connect(conn) => {
                let way = self.job.node.way_to(&self.job.master);
                let socket = Socket::open(conn, way, self.events.clone());
                self.sockets.insert(conn, socket);
            }
            Action::Send { conn, bytes } => {
                self.sockets.get(&conn).into_iter().for_each(|socket| socket.send(&bytes));
            }
            Action::SendAck { conn, bytes } => {
                if let Some(socket) = self.sockets.get(&conn) {
                    socket.send_ack(bytes);
                }
            }
            Action::Close(conn) => {
                self.sockets.remove(&conn);
                self.folder.close(conn);
            }
            Action::Swap => return Some(Done::Swap),
            Action::Rewind { fork } => return Some(Done::Rewind(fork)),
            Action::Pinged(stamp) => return Some(Done::Pinged(stamp)),
            Action::Leaves(leave) => self.job.node.stopping.leaves(Some(leave), now_ms()),
            Action::HistoryUpTo(latest) => self.job.node.replication.news.streams(latest),
            Action::Report(state) => {
                if state == State::Connected {
                    self.failures.forget();
                    self.has_joined();
                }
                report(&self.job, state);
            }
            Action::Failed { fault, retry_ms } => {
                self.job.node.replication.set_link_error(self.job.serial, &fault);
                if let Some(untold) = self.failures.tell(&fault, now_ms()) {
                    log_failure(&self.job.master, &fault, retry_ms, untold);
                }
            }
            Action::FullSync(reason) => {
                // What was exported lay behind a fork, and now there is none.
                self.is_exported &= !matches!(reason, Reason::Parted(_));
                log_full_sync(&self.job.master, &reason);
            }
            // Done in `step`, where they can fail.
            Action::Apply(_)
            | Action::Adopt(_)
            | Action::Prepare { .. }
            | Action::OpenFile { .. }
            | Action::WriteFile { .. }
            | Action::FinishFile { .. }
            | Action::DiscardFile { .. } => {}
        }
        None
    }

    /// Options may have changed since the last step, the password among them.
    fn follow_options(&mut self) {
        let options = options(&self.job.node.config.now());
        if options != self.options {
            self.machine.set_options(options.clone());
            self.options = options;
        }
    }

    /// Tells the machine what the data here is now, up to which record.
    fn tell_history(&mut self) -> Option<u64> {
        let cluster = self.job.node.cluster.load().cluster_id();
        self.machine.be_of(cluster.map(|cluster| cluster.to_string()));
        let engine = self.job.node.engine();
        let store = engine.store.as_ref()?;
        let lineage = self.job.node.replication.lineage.now();
        let latest = store.latest_sequence();
        self.machine.know(store.history(), lineage, latest);
        Some(latest)
    }

    /// The data here is the master's: partial syncs are sound again. Not this link's to say once
    /// the role has changed.
    async fn trust(&mut self) -> Result<(), Over> {
        let (node, generation) = (Arc::clone(&self.job.node), self.job.generation);
        {
            // A change of role sets these under the gate.
            let engine = node.engine();
            if engine.generation != generation {
                return Err(Over::Stale);
            }
            node.resync.set_running(false);
            node.resync.set_touched(false);
            node.resync.set_required(false);
        }
        self.mark = None;
        if let Err(error) = mark::remove(&node.dir) {
            tracing::warn!(%error, "cannot remove a mark: the next start takes another full sync");
        }
        if node.config.now().cluster_enabled {
            node.regained(generation).await;
            let engine = node.engine();
            if engine.generation != generation {
                return Err(Over::Stale);
            }
            // A topology that came while the mark was still in nodes.conf asked for the sync again.
            node.resync.set_required(false);
        }
        tracing::info!("the data of this node is its master's again");
        Ok(())
    }

    /// The data here turned out to be another history. A node that was promoted meanwhile has taken
    /// it for its own.
    fn require(&self) -> Result<(), Over> {
        let engine = self.job.node.engine();
        if engine.generation != self.job.generation {
            return Err(Over::Stale);
        }
        self.job.node.resync.set_required(true);
        Ok(())
    }

    /// The same for good: no comparison with another master says otherwise.
    fn distrust(&mut self) -> Result<(), Over> {
        let node = &self.job.node;
        // What was copied and found too short is not the data that was here.
        let mark = if node.resync.is_touched() { Mark::Spoilt } else { Mark::Apart };
        if self.mark >= Some(mark) {
            return Ok(());
        }
        self.require()?;
        match mark.keep(&node.dir) {
            Ok(()) => self.mark = Some(mark),
            Err(error) => {
                tracing::error!(%error, "cannot keep in mind that a full sync is required");
            }
        }
        Ok(())
    }
}

/// What is left to do after a step.
enum Done {
    Event(Event<'static>),
    Swap,
    Rewind(u64),
    /// The master sent its clock.
    Pinged(Stamp),
}

/// The newest epoch in the database.
fn newest_epoch(node: &Node) -> Option<EpochId> {
    let engine = node.engine();
    engine.store.as_ref()?.history().newest().map(|newest| newest.id)
}

/// What the machine is told of the current options; looked at in every step.
pub(super) fn options(values: &Values) -> Options {
    let announced = values.replica_announce_port;
    Options {
        password: values.link_secret().map(|secret| secret.as_bytes().to_vec()),
        announce_port: if announced == 0 { values.told_port() } else { announced },
        announce_ip: Some(values.replica_announce_ip.clone()).filter(|ip| !ip.is_empty()),
        // Under grants a master without an epoch of its own will get one, or another node will:
        // data that is ahead of it may hold what was acknowledged.
        epoch_patience_ms: (!Node::is_lease_blocking(values.master_lease_mode)).then_some(10_000),
        connect_timeout_ms: u64::from(values.replication_connect_timeout_ms),
        receive_timeout_ms: u64::from(values.replication_recv_timeout_ms),
    }
}

fn config(node: &Node, position: Position, mark: Option<Mark>) -> Config {
    let config = node.config.now();
    Config {
        db_name: config.db_name.clone(),
        next: position.latest + 1,
        history: Arc::new(position.history),
        lineage: node.replication.lineage.now(),
        must_full_sync: mark.is_some(),
        is_deposed: node.resync.is_required(),
        member: member(node),
        epoch: newest_epoch(node),
        ..Config::default()
    }
}

/// What the data here is called in in-sync sets. Outside cluster mode there are none, and no name
/// of the node that lasts: there it is called by its process, so that the master knows whether what
/// is acknowledged is on a disk.
fn member(node: &Node) -> Option<String> {
    let values = node.config.now();
    let id = match values.cluster_enabled {
        true => node.cluster.load().id(),
        false => NodeId::new(node.run_id.as_bytes()),
    };
    let member = node.grants.identity.member(id, values.durable_ack);
    member.map(|member| member.to_string())
}

fn report(job: &Job, state: State) {
    let status = match state {
        State::Connecting => LinkStatus::Connecting,
        State::Sync => LinkStatus::Sync,
        State::Connected => LinkStatus::Up,
    };
    job.node.replication.set_status(job.serial, status);
    if status != LinkStatus::Up {
        job.node.stopping.leaves(None, now_ms());
    }
    let store = job.node.engine().store.clone();
    if let Some(store) = store.filter(|_| status == LinkStatus::Up) {
        store.forget_acknowledged();
        settle(store);
    }
    job.node.resync.set_running(state == State::Sync);
    tracing::info!(master = %job.master, state = state.as_str(), "replication link");
}

fn log_failure(master: &Endpoint, fault: &Fault, retry_ms: u64, untold: u32) {
    let what = "replication attempt failed";
    match fault.blame() {
        Blame::Peer => tracing::warn!(%master, %fault, retry_ms, untold, "{what}"),
        Blame::Local => tracing::error!(%master, %fault, retry_ms, untold, "{what}"),
    }
}

fn log_full_sync(master: &Endpoint, reason: &Reason) {
    match reason {
        Reason::Required => tracing::warn!(
            %master,
            "full sync: this node was master under an older version, or its data is another history; a partial sync would not be sound"
        ),
        Reason::Parted(why) | Reason::Unrewindable(why) => tracing::warn!(
            %master,
            why,
            "full sync: the data here has parted from the master's; it is kept aside or exported"
        ),
        Reason::Refused(answer) => {
            tracing::info!(%master, answer, "full sync: partial sync was refused")
        }
    }
}
