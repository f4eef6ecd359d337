//! HAProxy 2.6 and later, one instance, driven through its Runtime API.
//!
//! HAProxy knows no terms and takes any command. Three things make a late command of a former
//! controller harmless: servers are made at run time under names that carry term and version, so
//! that its commands on old names answer "No such server"; every backend holds a marker of the
//! newest term; and a driver adds its marker and its servers, *then* reads all names, *then*
//! enables. Of two drivers at work at once the older either finds the newer one's marker, or had
//! its servers made before and sees them deleted.
//!
//! Connection counters are not trusted (`show servers conn` shows 0 while a connection is being
//! retried), nor is a deleted server: a session that waits for a retry survives it and goes to the
//! old address. So all sessions of a backend are listed and seen to be gone before the next server
//! is opened. After a reload old workers live on with their sessions and refuse commands on
//! servers; they are seen through the master socket only, and cut session by session. Without a
//! master socket this instance is no fence.
//!
//! Not here: starting, reloading and supervising HAProxy.

mod names;
mod parse;
mod render;
mod runtime;
mod switch;
mod view;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::balancer::{Backend, Desired};
use tokio::sync::Mutex;
use topology::Endpoint;

use crate::driver::{Applied, DEFAULT_TIMEOUT, Driver, Error};
use crate::lookup::{Lookups, Resolver};
use parse::{Info, Nonsense, Processes};
use runtime::Link;

pub use names::backend_name;
pub use render::{ConfigFile, DEFAULT_MASTER, Listen, MAXCONN_MAX, RenderError, render_config};
pub use runtime::RuntimeAddress;

/// How to reach one instance.
#[derive(Debug, Clone)]
pub struct HaproxyConfig {
    /// Name in messages.
    pub name: String,
    /// Runtime API with level `admin`.
    pub runtime: RuntimeAddress,
    /// The master's socket (`haproxy -W -S …`). Without it this instance is never a fence.
    pub master: Option<RuntimeAddress>,
    /// Longest single exchange, and longest wait for cut sessions to be gone; one second if `None`.
    pub timeout: Option<Duration>,
}

/// One instance.
#[derive(Debug)]
pub struct Haproxy {
    config: HaproxyConfig,
    timeout: Duration,
    memory: Mutex<Memory>,
    lookups: Lookups,
}

/// What HAProxy's names cannot hold. Only for reporting: losing it makes answers less pretty, not
/// less true.
#[derive(Debug, Default)]
struct Memory {
    endpoints: HashMap<String, Endpoint>,
    hosts: HashMap<SocketAddr, String>,
}

impl Memory {
    fn endpoint(&self, backend: &str) -> Endpoint {
        self.endpoints.get(backend).cloned().unwrap_or_else(|| names::guess_endpoint(backend))
    }
}

/// What one apply or observe works with.
struct Cx<'a> {
    driver: &'a Haproxy,
    worker: Link,
    info: Info,
}

impl Haproxy {
    /// A driver for one instance; connects at each use.
    pub fn new(config: HaproxyConfig) -> Self {
        let timeout = config.timeout.unwrap_or(DEFAULT_TIMEOUT);
        Self { config, timeout, memory: Mutex::default(), lookups: Lookups::default() }
    }

    /// With another resolver of host names than this machine's.
    #[must_use]
    pub fn resolving_by(self, resolver: Resolver) -> Self {
        Self { lookups: Lookups::by(resolver), ..self }
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    async fn open(&self) -> Result<Cx<'_>, Error> {
        let mut worker = Link::open(&self.config.runtime, self.timeout)
            .await
            .map_err(|source| self.unreachable("open the Runtime API", source))?;
        let info = worker.ask("show info").await;
        let info = info.map_err(|source| self.unreachable("show info", source))?;
        let info = parse::info(&info).map_err(|error| self.nonsense(error))?;
        Ok(Cx { driver: self, worker, info })
    }

    /// All workers by the master's word; `None` without a master socket.
    async fn processes(&self) -> Result<Option<(Link, Processes)>, Error> {
        let Some(address) = &self.config.master else { return Ok(None) };
        let mut master = Link::open(address, self.timeout)
            .await
            .map_err(|source| self.unreachable("open the master socket", source))?;
        let text = master.ask("show proc").await;
        let text = text.map_err(|source| self.unreachable("show proc", source))?;
        let processes = parse::processes(&text).map_err(|error| self.nonsense(error))?;
        Ok(Some((master, processes)))
    }

    fn unreachable(&self, action: &str, source: io::Error) -> Error {
        Error::Unreachable {
            instance: self.config.name.clone(),
            action: action.to_owned(),
            source: Box::new(source),
        }
    }

    fn nonsense(&self, error: Nonsense) -> Error {
        Error::Nonsense {
            instance: self.config.name.clone(),
            detail: format!("expected {}", error.expected),
            line: error.line,
        }
    }

    fn refused(&self, command: &str, answer: &str) -> Error {
        Error::Refused {
            instance: self.config.name.clone(),
            detail: format!("`{command}`: {}", parse::first(answer)),
        }
    }
}

impl Cx<'_> {
    async fn ask(&mut self, command: &str) -> Result<String, Error> {
        let answer = self.worker.ask(command).await;
        answer.map_err(|source| self.driver.unreachable(command, source))
    }

    /// A command whose only good answer is an empty one.
    async fn tell(&mut self, command: &str) -> Result<(), Error> {
        let answer = self.ask(command).await?;
        if answer.trim().is_empty() { Ok(()) } else { Err(self.driver.refused(command, &answer)) }
    }

    async fn servers(&mut self) -> Result<Vec<parse::Server>, Error> {
        let text = self.ask("show servers state").await?;
        let mut servers = parse::servers(&text).map_err(|error| self.driver.nonsense(error))?;
        servers.retain(|server| names::is_ours(&server.backend));
        Ok(servers)
    }

    async fn backends(&mut self) -> Result<Vec<String>, Error> {
        let text = self.ask("show backend").await?;
        let mut backends = parse::backends(&text).map_err(|error| self.driver.nonsense(error))?;
        backends.retain(|name| names::is_ours(name));
        Ok(backends)
    }

    fn start_id(&self) -> String {
        format!("{}-{}", self.info.pid, self.info.start_time)
    }
}

impl Driver for Haproxy {
    async fn apply_while(
        &self,
        desired: &Desired,
        may: impl Fn() -> bool + Send + Sync,
    ) -> Result<Applied, Error> {
        // One apply at a time from this process; other processes are told apart by term.
        let mut memory = self.memory.lock().await;
        let mut cx = self.open().await?;
        let mut errors = switch::apply(&mut cx, &mut memory, desired, &may).await?;
        let mut applied = view::applied(&mut cx, &memory).await?;
        errors.append(&mut applied.errors);
        applied.errors = errors;
        Ok(applied)
    }

    async fn observe(&self) -> Result<Applied, Error> {
        let memory = self.memory.lock().await;
        let mut cx = self.open().await?;
        view::applied(&mut cx, &memory).await
    }
}

/// Where a frontend should lead. HAProxy looks no names up for servers made at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    listen: Endpoint,
    node: String,
    host: String,
    port: u16,
    /// `None` as long as the host is a name that was not looked up.
    address: Option<SocketAddr>,
}

impl Wish {
    fn new(listen: &Endpoint, backend: &Backend) -> Self {
        let Backend { node, host, port } = backend.clone();
        let address = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Self { listen: listen.clone(), node, host, port, address }
    }

    /// Whether a server leads there, as far as it is known where that is.
    fn is_behind(&self, server: &parse::Server) -> bool {
        let name = names::ServerName::parse(&server.name);
        name.as_ref().and_then(names::ServerName::node) == Some(&self.node)
            && server.port == self.port
            && self.address.is_none_or(|address| server.address() == Some(address))
    }
}
