//! A node that speaks heartbeats and topology pushes as `docs/protocol.md` has them, and keeps
//! nothing but numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::heartbeat::{ClientAccess, LeaseMode, LinkStatus, Reply, Resync, Role, Standing};
use api::store::{Heeds, Said};
use parking_lot::Mutex;
use resp::{Limits, Parser, Protocol, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use topology::Topology;

use super::mover::{self, Mover};

/// Where nodes find each other's data, by port.
#[derive(Clone, Default)]
pub struct World(pub(super) Arc<Mutex<BTreeMap<u16, Arc<Mutex<Inside>>>>>);

/// What the node knows; the first group survives a restart.
pub struct Inside {
    pub id: String,
    /// `-` before it was told; empty for an older node.
    pub cluster_id: String,
    /// Set by [`Self::put`].
    pub topology: Option<Topology>,
    /// Of the topology: it is dear.
    topology_hash: String,
    pub sequence: u64,
    pub resync: Resync,
    /// Grants and moves; `None`: it knows neither.
    pub mover: Option<Mover>,
    /// From which store it is led; [`Heeds::Unsaid`]: it does not know the word.
    pub heeds: Heeds,

    pub nonce: u64,
    pub lease_until_ns: u64,
    pub paused_until_ns: u64,
    pub term: u64,
    /// Term and moment of the last heartbeat.
    pub heard: Option<(u64, Instant)>,
    /// Heartbeats that were answered.
    pub beats: u64,
    pub alive: bool,
    /// What is said in this term does not reach it.
    pub cut_from: Option<u64>,
    /// It does not say which leader it hears.
    pub hides_leader: bool,
    /// What it answers to everything, if it does.
    pub complaint: Option<&'static str>,
    /// How often it was answered.
    pub complained: u32,

    pub lease_mode: LeaseMode,
    /// It takes no other one.
    pub keeps_lease_mode: bool,
    /// The last term in which it was told one; `None`: it was told without.
    pub lease_mode_in: Option<u64>,
    /// It can be told one with a term.
    pub knows_lease_mode: bool,
    /// How often it was asked to keep what it was told.
    pub rewrites: usize,
    pub client_access: ClientAccess,
    pub balancer_sources: Vec<String>,
    pub strangers: Vec<api::heartbeat::Stranger>,
    pub certificates: Vec<api::certificate::Certificate>,
    /// It takes ports of TLS in a topology, and says so.
    pub knows_tls_ports: bool,
    pub trust: Vec<api::certificate::Trust>,
    /// By how much its wall clock is ahead; `None`: it says no time.
    pub ahead: Option<Duration>,
    started: Instant,
}

/// The wall clock of one that is so much ahead.
fn wall_ms(ahead: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from((now + ahead).as_millis()).expect("a time")
}

pub struct FakeNode {
    pub inside: Arc<Mutex<Inside>>,
    world: World,
    port: u16,
    running: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl FakeNode {
    pub async fn start(world: &World) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let inside = Arc::new(Mutex::new(Inside {
            id: String::new(),
            cluster_id: "-".to_owned(),
            topology: None,
            topology_hash: String::new(),
            sequence: 0,
            resync: Resync::None,
            mover: None,
            heeds: Heeds::Unsaid,
            nonce: rand::random::<u64>() | 1,
            lease_until_ns: 0,
            paused_until_ns: 0,
            term: 0,
            heard: None,
            beats: 0,
            alive: true,
            cut_from: None,
            hides_leader: false,
            complaint: None,
            complained: 0,
            lease_mode: LeaseMode::BlockAll,
            keeps_lease_mode: false,
            lease_mode_in: None,
            knows_lease_mode: true,
            rewrites: 0,
            client_access: ClientAccess::BalancerOnly,
            balancer_sources: vec!["127.0.0.2/32".to_owned()],
            strangers: Vec::new(),
            certificates: Vec::new(),
            knows_tls_ports: false,
            trust: Vec::new(),
            ahead: None,
            started: Instant::now(),
        }));
        world.0.lock().insert(port, Arc::clone(&inside));
        let running = watch::Sender::new(true);
        let task = Some(serve(listener, &inside, world, &running));
        Self { inside, world: world.clone(), port, running, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn id(&self) -> String {
        self.inside.lock().id.clone()
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        self.inside.lock().alive = false;
    }

    /// A new process on the same data.
    pub async fn restart(&mut self) {
        self.kill().await;
        let listener = super::until("the port", || async {
            TcpListener::bind(("127.0.0.1", self.port)).await.map_err(|e| e.to_string())
        })
        .await;
        {
            let mut inside = self.inside.lock();
            inside.nonce = rand::random::<u64>() | 1;
            inside.lease_until_ns = 0;
            inside.paused_until_ns = 0;
            inside.term = 0;
            inside.heard = None;
            inside.alive = true;
            if let Some(mover) = &mut inside.mover {
                mover.restart();
            }
        }
        self.task = Some(serve(listener, &self.inside, &self.world, &self.running));
    }

    /// SIGSTOP or SIGCONT.
    pub fn set_running(&self, running: bool) {
        self.running.send_replace(running);
    }

    /// From its next start on it takes grants and knows slot moves.
    #[allow(dead_code, reason = "not every test that shares this module uses it")]
    pub fn knows_moves(&self) {
        self.inside.lock().mover = Some(Mover::default());
    }

    /// A write of a client to a slot that may move.
    #[allow(dead_code, reason = "not every test that shares this module uses it")]
    pub fn write_to(&self, slot: u16) -> bool {
        let may = mover::takes_writes(&self.inside.lock(), slot);
        may && self.write()
    }

    /// A write of a client that reached the node.
    pub fn write(&self) -> bool {
        let mut inside = self.inside.lock();
        let serves = self.may_serve(&inside);
        if serves {
            inside.sequence += 1;
        }
        serves
    }

    /// Whether it would take a write of a client that reached it.
    #[allow(dead_code, reason = "not every test that shares this module uses it")]
    pub fn serves(&self) -> bool {
        self.may_serve(&self.inside.lock())
    }

    fn may_serve(&self, inside: &Inside) -> bool {
        let now = inside.clock_ns();
        inside.alive
            && *self.running.borrow()
            && inside.role() == Role::Master
            && inside.paused_until_ns <= now
            && (inside.lease_mode != LeaseMode::BlockAll || inside.lease_until_ns > now)
    }
}

fn serve(
    listener: TcpListener,
    inside: &Arc<Mutex<Inside>>,
    world: &World,
    running: &watch::Sender<bool>,
) -> JoinHandle<()> {
    let (inside, world, running) = (Arc::clone(inside), world.clone(), running.subscribe());
    tokio::spawn(async move {
        let mut sessions = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            sessions.spawn(session(stream, Arc::clone(&inside), world.clone(), running.clone()));
        }
    })
}

async fn session(
    mut stream: TcpStream,
    inside: Arc<Mutex<Inside>>,
    world: World,
    mut running: watch::Receiver<bool>,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        loop {
            running.wait_for(|running| *running).await.ok()?;
            let mut parser = Parser::new();
            let parsed = parser.parse(&buffer, &Limits::new(1 << 20)).ok()?;
            let resp::request::Parsed::Command { length } = parsed else { break };
            let arguments: Vec<String> = parser
                .arguments(&buffer)
                .map(|argument| String::from_utf8_lossy(argument).into_owned())
                .collect();
            buffer.drain(..length);
            let mut out = Vec::new();
            answer(&inside, &world, &arguments, Writer::new(&mut out, Protocol::V2));
            stream.write_all(&out).await.ok()?;
        }
        if stream.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn answer(inside: &Mutex<Inside>, world: &World, arguments: &[String], mut reply: Writer<'_>) {
    {
        let mut inside = inside.lock();
        if let Some(complaint) = inside.complaint {
            inside.complained += 1;
            return reply.error(complaint);
        }
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["CLUSTERX", "HEARTBEAT", _, _, term, ..] | ["CLUSTERX", "AS", term, ..]
            if inside.lock().cut_from == term.parse().ok() => {}
        ["CLUSTERX", "HEARTBEAT", master, lease, term, "CLOCK", clock, nonce, rest @ ..] => {
            let head = [*master, *lease, *term, *clock, *nonce];
            heartbeat(inside, world, &head, rest, reply);
        }
        ["CLUSTERX", "OBSERVE"] => {
            catch_up(inside, world);
            let inside = inside.lock();
            reply.bulk(inside.told().behind(&inside.reply()).as_bytes());
        }
        ["CLUSTERX", "AS", term, rest @ ..] => named(inside, world, (term, rest), reply),
        ["CLUSTERX", "SETNODEID", id] => {
            inside.lock().id = (*id).to_owned();
            reply.simple("OK");
        }
        ["CLUSTERX", "SETCLUSTERID", id] => {
            inside.lock().cluster_id = (*id).to_owned();
            reply.simple("OK");
        }
        ["CLUSTERX", "MOVE", what @ ("WEIGH" | "LOAD"), slots] => {
            match mover::counted(&inside.lock(), what, slots) {
                Some(text) => reply.bulk(text.as_bytes()),
                None => reply.error("ERR CLUSTERX command, CLUSTERX VERSION|…"),
            }
        }
        ["CLUSTERX", "CONTROLLER"] => controller(&inside.lock(), reply),
        // Any word will do.
        ["AUTH", _] => reply.simple("OK"),
        ["PING"] => reply.simple("PONG"),
        ["CONFIG", "SET", "master-lease-mode", mode] => {
            set_lease_mode(&mut inside.lock(), mode, reply);
        }
        ["CONFIG", "REWRITE"] => {
            inside.lock().rewrites += 1;
            reply.error("ERR the server is running without a config file");
        }
        ["CLUSTERX", "SETNODES", text, version] => {
            set_nodes(&mut inside.lock(), (text, version), reply);
        }
        ["CLUSTERX", "NODES"] => match &inside.lock().topology {
            Some(topology) => reply.bulk(topology.render().as_bytes()),
            None => reply.error("CLUSTERDOWN The cluster is not initialized"),
        },
        ["CLIENT", "PAUSE", ms, "WRITE"] => {
            let mut inside = inside.lock();
            let end = inside.clock_ns() + ms.parse::<u64>().expect("a time") * 1_000_000;
            inside.paused_until_ns = end;
            reply.simple("OK");
        }
        ["CLIENT", "UNPAUSE"] => {
            inside.lock().paused_until_ns = 0;
            reply.simple("OK");
        }
        other => reply.error(&format!("ERR unknown command {other:?}")),
    }
}

fn set_nodes(inside: &mut Inside, (text, version): (&str, &str), mut reply: Writer<'_>) {
    let version = version.parse().expect("a version");
    // One that does not know the word takes it for a slot, or a field too many.
    let is_refused = !inside.knows_tls_ports && text.contains(" tls=");
    match Topology::parse(text, version) {
        _ if is_refused => reply.error("ERR Slot is out of range"),
        Err(error) => reply.error(&format!("ERR {error}")),
        Ok(topology) => {
            inside.set(topology);
            reply.simple("OK");
        }
    }
}

fn set_lease_mode(inside: &mut Inside, mode: &str, mut reply: Writer<'_>) {
    if inside.keeps_lease_mode {
        return reply.error("ERR the mode stays what it is");
    }
    inside.lease_mode = mode.parse().expect("a mode");
    reply.simple("OK");
}

/// A command of a controller that names its term.
fn named(
    inside: &Mutex<Inside>,
    world: &World,
    (term, rest): (&str, &[&str]),
    mut reply: Writer<'_>,
) {
    let term: u64 = term.parse().expect("a term");
    let length = match rest {
        ["STORE", _, _, "FOR", ..] => 6,
        ["STORE", ..] => 3,
        _ => 0,
    };
    let (store, rest) = rest.split_at(length);
    if rest[0] == "LEASE-MODE" && !inside.lock().knows_lease_mode {
        return reply.error("ERR CLUSTERX command, CLUSTERX VERSION|…");
    }
    if let Err(refused) = inside.lock().obeys(term, store) {
        return reply.error(&refused);
    }
    if let ["LEASE-MODE", mode] = rest {
        let mut inside = inside.lock();
        inside.lease_mode_in = Some(term);
        return set_lease_mode(&mut inside, mode, reply);
    }
    let is_client = ["PAUSE", "UNPAUSE"].contains(&rest[0]);
    let family = if is_client { "CLIENT" } else { "CLUSTERX" };
    let bare: Vec<String> =
        std::iter::once(family).chain(rest.iter().copied()).map(str::to_owned).collect();
    answer(inside, world, &bare, reply);
}

fn heartbeat(
    inside: &Mutex<Inside>,
    world: &World,
    words: &[&str; 5],
    rest: &[&str],
    mut reply: Writer<'_>,
) {
    let [master, lease, term, clock, nonce] = *words;
    catch_up(inside, world);
    mover::flow(world);
    let mut inside = inside.lock();
    let term: u64 = term.parse().expect("a term");
    let from = rest.iter().position(|word| *word == "STORE").unwrap_or(rest.len());
    let store = rest[from..].split(|word| *word == "MOVES").next().unwrap_or_default();
    if let Err(refused) = inside.obeys(term, store) {
        return reply.error(&refused);
    }
    if master.bytes().any(|byte| byte != b'0') {
        inside.heard = Some((term, Instant::now()));
    }
    let end =
        clock.parse::<u64>().expect("a clock") + lease.parse::<u64>().expect("a lease") * 1_000_000;
    if inside.id == master && nonce == format!("{:x}", inside.nonce) {
        inside.lease_until_ns = inside.lease_until_ns.max(end);
        if let Some(mover) = &mut inside.mover {
            mover.grant(rest);
        }
    }
    inside.beats += 1;
    let moves = mover::asked(&mut inside, rest, term);
    reply.bulk(Reply { moves, ..inside.reply() }.render().as_bytes());
}

/// What it tells a controller that asks without leading.
fn controller(inside: &Inside, mut reply: Writer<'_>) {
    if inside.cluster_id.is_empty() {
        return reply.error("ERR CLUSTERX command, CLUSTERX VERSION|…");
    }
    reply.bulk(inside.told().render().as_bytes());
}

/// Replication: a replica is where its master is, at once, if the master lives.
fn catch_up(inside: &Mutex<Inside>, world: &World) {
    let Some(port) = inside.lock().master().map(|(_, port)| port) else { return };
    let Some(master) = world.0.lock().get(&port).cloned() else { return };
    let from = {
        let master = master.lock();
        (master.alive && master.role() == Role::Master).then_some(master.sequence)
    };
    if let Some(sequence) = from {
        let mut inside = inside.lock();
        inside.sequence = sequence;
        inside.resync = Resync::None;
    }
}

impl Inside {
    fn told(&self) -> api::heard::Told {
        let ms = |at: Instant| u64::try_from(at.elapsed().as_millis()).expect("not that long");
        let heard = self.heard.filter(|_| !self.hides_leader);
        api::heard::Told {
            myid: self.id.clone(),
            cluster_id: self.cluster_id.clone(),
            term: self.term,
            heard_ms: heard.map(|(_, at)| ms(at)),
            heard_term: heard.map_or(0, |(term, _)| term),
            store: self.heeds,
        }
    }

    /// Notes term and store of whoever says so, or says why not.
    fn obeys(&mut self, term: u64, store: &[&str]) -> Result<(), String> {
        let said = store.get(1..).and_then(Said::parse);
        assert!(store.is_empty() || said.is_some(), "{store:?}");
        if let Some(said) = said {
            assert_ne!(self.heeds, Heeds::Unsaid, "it does not know {store:?}");
            said.against(self.heeds.store()).map_err(|why| format!("ERR {why}"))?;
        }
        if term < self.term {
            return Err("ERR election version mismatch: a higher one was seen".to_owned());
        }
        self.term = term;
        self.heeds = said.map_or(self.heeds, |said| Heeds::Store(said.by));
        Ok(())
    }

    fn clock_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).expect("not that long")
    }

    fn set(&mut self, topology: Topology) {
        if self.topology.as_ref().is_some_and(|old| old.version >= topology.version) {
            return;
        }
        let was_master = self.topology.is_some() && self.role() == Role::Master;
        self.put(topology);
        if self.role() == Role::Slave {
            self.lease_until_ns = 0;
            self.paused_until_ns = 0;
            if was_master {
                self.resync = Resync::Required;
            }
        }
    }

    /// Has this topology, however it came to it.
    pub fn put(&mut self, topology: Topology) {
        self.topology_hash = topology.hash();
        self.topology = Some(topology);
    }

    pub fn myself(&self) -> Option<&topology::Node> {
        let nodes = &self.topology.as_ref()?.nodes;
        nodes.iter().find(|node| node.id.to_string() == self.id)
    }

    pub fn role(&self) -> Role {
        match self.myself() {
            Some(node) if !node.is_master() => Role::Slave,
            _ => Role::Master,
        }
    }

    fn master(&self) -> Option<(String, u16)> {
        let topology::Role::Replica { of } = &self.myself()?.role else { return None };
        let master = self.topology.as_ref()?.node(of)?;
        Some((master.local.host.clone(), master.local.port))
    }

    fn reply(&self) -> Reply {
        let now = self.clock_ns();
        let link = if self.role() == Role::Slave { LinkStatus::Up } else { LinkStatus::Connecting };
        Reply {
            role: self.role(),
            sequence: self.sequence,
            myid: self.id.clone(),
            cluster_id: self.cluster_id.clone(),
            version: self.topology.as_ref().map_or(-1, |topology| topology.version),
            topology_hash: self.topology_hash.clone(),
            clock_ns: now,
            nonce: format!("{:x}", self.nonce),
            lease_mode: self.lease_mode,
            lease_remaining_ms: self.lease_until_ns.saturating_sub(now).div_ceil(1_000_000),
            client_access: self.client_access,
            balancer_sources: self.balancer_sources.clone(),
            strangers: self.strangers.clone(),
            link_status: link,
            link_error: None,
            sync: None,
            master: self.master(),
            resync: self.resync,
            paused: self.paused_until_ns > now,
            loading: false,
            replicas: Vec::new(),
            log_wait_ms: 0,
            room: None,
            down: None,
            deposed: None,
            uptime_ms: now / 1_000_000,
            copies: mover::copies(self),
            wall_ms: self.ahead.map_or(0, wall_ms),
            standing: Standing {
                store: self.heeds,
                ..(self.mover.as_ref())
                    .map_or_else(Standing::default, |mover| mover.standing(self.sequence))
            },
            moves: self.mover.as_ref().map(|_| Vec::new()),
            knows_rates: self.mover.is_some(),
            knows_tls_ports: self.knows_tls_ports,
            copying: Vec::new(),
            usual_rate: None,
            flows: mover::flows(self),
            wishes: mover::wishes(self),
            certificates: self.certificates.clone(),
            trust: self.trust.clone(),
            newest_move: self.mover.as_ref().map(|mover| mover.newest()),
            stopping: false,
        }
    }
}
