//! The gates: every check that stands between a command and its handler, in one ordered list.
//!
//! A gate reads the table row, the connection, the node. It changes nothing but what tells of a
//! refusal (counters, ACL LOG), and the note that a replica is about to be written to by itself.
//! A command in MULTI passes those in `ALWAYS` when it is queued. EXEC passes all gates for every
//! queued command before the first of them runs, because role, topology and lease may have changed
//! in between: a refusal is EXEC's own reply, and nothing ran.

mod channels;
mod itself;
mod moves;
mod room;
mod script;

use std::borrow::Cow;
use std::net::IpAddr;

use api::heartbeat::{ClientAccess, LeaseMode, LinkStatus};
use resp::Protocol;
use topology::{Cluster, Route, RouteRequest, key_slot};

pub use channels::leave_foreign_channels;
pub use itself::{is_paused, may_write, serves_writes};
pub use moves::{Seen, all_may_change, route_write};
use moves::{frozen, hold, is_opened_by, may_run, moves};
use room::{database_size, memory, memory_to_queue, memory_to_write};
pub use room::{is_bound_in_memory, until_there_is_room, waits_for_memory};
pub use script::{
    are_opened, are_served, may_call, pass_in_script, pass_to_append, pass_to_read, pass_to_write,
};

use super::{Auth, Session};
use crate::acl::log::Context;
use crate::clients::{Kind, Pause, PauseKind, TOO_MANY, Via};
use crate::clock;
use crate::command::row::Usage;
use crate::command::texts::{LEASE_EXPIRED, LOADING, NOREPLICAS, READONLY};
use crate::command::{Flags, Row};
use crate::config::Values;
use crate::gate::Engine;
use crate::node::Node;

/// Why a command does not run.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The reply, without the leading `-`.
    Error(Cow<'static, str>),
    /// No reply: the connection is closed.
    Close(&'static str),
    /// Reply, then close.
    ErrorAndClose(Cow<'static, str>),
    /// To be tried again when the pause is over.
    Wait(Pause),
}

fn error(text: impl Into<Cow<'static, str>>) -> Result<(), Refusal> {
    Err(Refusal::Error(text.into()))
}

/// Where a command comes from and what it meets: the same for all commands of a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The node.
    pub node: &'a Node,
    /// The current options.
    pub config: &'a Values,
    /// The connection.
    pub session: &'a Session,
    /// Role and database.
    pub engine: &'a Engine,
    /// The cluster; `None` outside cluster mode.
    pub cluster: Option<&'a Cluster>,
}

impl<'a> Caller<'a> {
    /// What the gates are to know of one command.
    pub fn check(self, command: &'a Row, words: &'a [&'a [u8]]) -> Check<'a> {
        Check { caller: self, command, words }
    }

    /// How slots are looked up for it.
    pub fn route_request(&self, is_write: bool) -> RouteRequest {
        RouteRequest {
            is_write,
            readonly: self.session.is_readonly,
            asking: self.session.is_asking || self.session.imports(),
            asker: self.session.asker(self.config),
        }
    }
}

/// What gates look at.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    caller: Caller<'a>,
    command: &'a Row,
    /// The command, name included.
    words: &'a [&'a [u8]],
}

impl<'a> std::ops::Deref for Check<'a> {
    type Target = Caller<'a>;
    fn deref(&self) -> &Caller<'a> {
        &self.caller
    }
}

type Gate = fn(&Check<'_>) -> Result<(), Refusal>;

/// Lists of gates, and what passes those of each in their order. It names them, so that they are
/// compiled into one function: called through a list, each costs more than what it compares.
macro_rules! gates {
    ($($(#[$doc:meta])* $list:ident, $pass:ident: $($gate:ident),+;)+) => {
        $(
            $(#[$doc])*
            const $list: &[Gate] = &[$($gate),+];

            fn $pass(check: &Check<'_>) -> Result<(), Refusal> {
                $($gate(check)?;)+
                Ok(())
            }
        )+
    };
}

gates! {
    /// Passed when a command arrives, queued or not.
    ALWAYS, pass_always:
        health_check, place, fits, authenticated, permitted, admin, door, control, loading,
        cluster_mode, in_multi, slot_owner, subscriber;
    /// Passed in addition when it is about to run, and by the writes of a script.
    RUNNING, pass_running:
        moves, frozen, paused, trusted_data, read_only_replica, stale_replica, database_size,
        lease, in_sync;
    /// Passed last by what clients send: a command of a script would wait for memory with its keys.
    BEGINNING, pass_beginning: memory;
}

/// All gates of a command that is about to run, in order.
pub fn pass(check: &Check<'_>) -> Result<(), Refusal> {
    pass_always(check)?;
    pass_running(check)?;
    pass_beginning(check)
}

/// The gates of a command that is only being queued.
pub fn pass_to_queue(check: &Check<'_>) -> Result<(), Refusal> {
    pass_always(check)?;
    memory_to_queue(check)
}

/// All gates of a transaction. Every gate sees all commands before the next gate sees any: the
/// refusal is that of the first gate that refuses one of them, as if they were one command.
pub fn pass_all<'a>(checks: impl Iterator<Item = Check<'a>> + Clone) -> Result<(), Refusal> {
    ALWAYS
        .iter()
        .chain(RUNNING)
        .chain(BEGINNING)
        .try_for_each(|gate| checks.clone().try_for_each(|check| gate(&check)))
}

/// A visitor (a connection without a client's place) may show that it is a peer, and nothing else.
fn place(check: &Check<'_>) -> Result<(), Refusal> {
    if !check.session.client.is_visitor() {
        return Ok(());
    }
    let flags = check.command.flags;
    // A check holds no client's place, and may say nothing but PING.
    let needs_none = check.session.auth == Auth::Peer || is_health_check(check.session);
    if needs_none
        || flags.has(Flags::NO_AUTH)
        || flags.has(Flags::PEER)
        || flags.has(Flags::CONTROL)
    {
        return Ok(());
    }
    check.node.stats.rejected_connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Err(Refusal::ErrorAndClose(TOO_MANY.into()))
}

/// A load balancer's own connection may ask whether the node answers, and nothing else: no user
/// stands behind another command of it.
fn health_check(check: &Check<'_>) -> Result<(), Refusal> {
    if is_health_check(check.session) && check.command.name != "ping" {
        return error(
            "NOPERM a load balancer's own connection (PROXY command LOCAL) may only PING",
        );
    }
    Ok(())
}

fn is_health_check(session: &Session) -> bool {
    matches!(session.client.via, Via::Check { .. })
}

/// As many words as it takes; behind a container's name one of its commands.
fn fits(check: &Check<'_>) -> Result<(), Refusal> {
    let command = check.command;
    let second = check.words.get(1);
    let is_unknown = command.is_container && second.is_some();
    if !is_unknown && command.accepts(check.words.len()) {
        return Ok(());
    }
    let second = second.map(|word| String::from_utf8_lossy(&word[..word.len().min(128)]));
    let container = command.first_word().to_uppercase();
    match (command.usage, second) {
        (Usage::Text(text), Some(_)) => error(text),
        (Usage::Either, Some(word)) => error(format!(
            "ERR unknown subcommand or wrong number of arguments for '{word}'. Try {container} HELP."
        )),
        (Usage::Redis, Some(word)) if is_unknown => {
            error(format!("ERR unknown subcommand '{word}'. Try {container} HELP."))
        }
        _ => error(format!("ERR wrong number of arguments for '{}' command", command.name)),
    }
}

/// A password where one is needed; nothing but a greeting from strangers in protected mode.
fn authenticated(check: &Check<'_>) -> Result<(), Refusal> {
    if is_health_check(check.session) {
        return Ok(());
    }
    let flags = check.command.flags;
    if check.session.is_denied && check.session.auth != Auth::Peer && !flags.has(Flags::NO_AUTH) {
        return Err(Refusal::ErrorAndClose(DENIED.into()));
    }
    if check.session.auth == Auth::None && !flags.has(Flags::NO_AUTH) {
        return error("NOAUTH Authentication required.");
    }
    Ok(())
}

/// What the connection's user may do.
fn permitted(check: &Check<'_>) -> Result<(), Refusal> {
    ask(check, Some(check.session.context()))
}

/// The same; what is refused is noted in ACL LOG as said there.
fn ask(check: &Check<'_>, context: Option<Context>) -> Result<(), Refusal> {
    let place = (check.node, check.config);
    ask_user(place, check.session, (check.command, check.words), context).map_err(Refusal::Error)
}

fn ask_user(
    (node, config): (&Node, &Values),
    session: &Session,
    (command, words): (&Row, &[&[u8]]),
    context: Option<Context>,
) -> Result<(), Cow<'static, str>> {
    let Some(account) = session.account(node) else { return Ok(()) };
    let Some(refused) = account.refusal(command, words) else { return Ok(()) };
    if let Some(context) = context {
        let what = (refused.reason, refused.object.as_slice(), account.name.as_str());
        session.note_refusal((node, config), what, context, clock::unix_ms());
    }
    Err(refused.text.into())
}

/// What the rest of a transaction is asked once AUTH has made its connection somebody else's: the
/// gates were passed by the one that it was before.
///
/// # Errors
/// The reply, without the leading `-`.
pub fn pass_as_another(
    place: (&Node, &Values),
    session: &Session,
    (command, words): (&Row, &[&[u8]]),
) -> Result<(), Cow<'static, str>> {
    ask_user(place, session, (command, words), Some(Context::Multi))?;
    if is_beyond(command, session) { Err(NEEDS_ADMIN.into()) } else { Ok(()) }
}

/// Text of Redis' protected mode.
pub const DENIED: &str = "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. \
In this mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis you may adopt one of the following solutions: \
1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is running, \
however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. \
2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. \
3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. \
NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.";

/// What is for administrators is not for clients of a namespace.
fn admin(check: &Check<'_>) -> Result<(), Refusal> {
    if is_beyond(check.command, check.session) { error(NEEDS_ADMIN) } else { Ok(()) }
}

const NEEDS_ADMIN: &str = "ERR admin permission required to perform the command";

fn is_beyond(command: &Row, session: &Session) -> bool {
    let is_for_all = command.flags.has(Flags::ADMIN) || command.flags.has(Flags::WHOLE);
    is_for_all && !session.is_admin()
}

/// Pausing clients stops a whole node: behind balancers only peers may.
fn control(check: &Check<'_>) -> Result<(), Refusal> {
    let is_guarded = check.config.client_access == ClientAccess::BalancerOnly;
    if is_guarded && check.command.flags.has(Flags::CONTROL) && check.session.auth != Auth::Peer {
        return error("NOPERM only peers may pause the clients of this node");
    }
    Ok(())
}

/// Which door a client came through: where only balancers bring clients, keys are for clients and
/// the node's own affairs for peers.
fn door(check: &Check<'_>) -> Result<(), Refusal> {
    if check.config.client_access != ClientAccess::BalancerOnly {
        return Ok(());
    }
    match check.session.client.via {
        Via::Direct if check.command.is_data() && !check.session.imports() => {
            error("ERR this node serves clients only through its load balancer")
        }
        Via::Balancer { .. } if is_of_the_node(check.command) => error(format!(
            "NOPERM '{}' is not served through a load balancer: connect to the node itself and authenticate with peer-auth",
            check.command.name
        )),
        _ => Ok(()),
    }
}

fn is_of_the_node(command: &Row) -> bool {
    command.flags.has(Flags::PEER) || command.flags.has(Flags::AT_NODE)
}

fn loading(check: &Check<'_>) -> Result<(), Refusal> {
    if check.engine.store.is_some() || check.command.flags.has(Flags::LOADING) {
        return Ok(());
    }
    error(LOADING)
}

fn cluster_mode(check: &Check<'_>) -> Result<(), Refusal> {
    if check.command.flags.has(Flags::CLUSTER) && !check.config.cluster_enabled {
        return error("ERR Cluster mode is not enabled");
    }
    Ok(())
}

fn in_multi(check: &Check<'_>) -> Result<(), Refusal> {
    if check.session.transaction.is_open() && check.command.flags.has(Flags::NO_MULTI) {
        return error(format!("ERR Can't execute {} in MULTI", check.command.first_word()));
    }
    Ok(())
}

/// Is the slot of these keys served here? The rules, Kvrocks', are [`Cluster::route`]'s.
fn slot_owner(check: &Check<'_>) -> Result<(), Refusal> {
    let Some(cluster) = check.cluster else { return Ok(()) };
    let command = check.command;
    let slots = command.keys_in(check.words).map(key_slot);
    let mut request = check.route_request(command.is_write());
    // As in Redis: shard channels are served by every node of the shard.
    request.readonly |= command.flags.has(Flags::PUBSUB);
    request.asking |= command.flags.has(Flags::ASKING);
    match cluster.route(slots, request) {
        Route::Run => moves::counted(check),
        Route::Moved { slot, .. } if check.node.moves.is_held(slot.number()) => Err(hold()),
        Route::Moved { slot, .. } if is_opened_by(&check.caller, slot.number()) => Ok(()),
        Route::Moved { to, .. } if leads_back(check, &to) => {
            Err(Refusal::Close("reached through a balancer address that belongs to another node"))
        }
        other => error(other.to_string()),
    }
}

/// A redirection to the very address the client dialled would never end (rule R15). An announced
/// host name that was not looked up yet is answered as any other, and known the next time.
fn leads_back(check: &Check<'_>, to: &str) -> bool {
    let Via::Balancer { frontend, .. } = check.session.client.via else { return false };
    let Some((host, port)) = to.rsplit_once(':') else { return false };
    if port.parse() != Ok(frontend.port()) {
        return false;
    }
    // As an address, not as text: it is shown as it was announced, and an address of IPv6 has many
    // spellings.
    match host.parse::<IpAddr>() {
        Ok(host) => host.to_canonical() == frontend.ip().to_canonical(),
        Err(_) => check.node.hosts.has(host, frontend.ip()),
    }
}

/// In RESP2 a push looks like a reply: a connection that gets some asks for nothing else.
fn subscriber(check: &Check<'_>) -> Result<(), Refusal> {
    let session = check.session;
    let is_bound = session.protocol == Protocol::V2
        && !check.command.flags.has(Flags::SUBSCRIBER)
        && session.client.kind() == Kind::Subscriber;
    if !is_bound {
        return Ok(());
    }
    error(format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        check.command.name
    ))
}

fn paused(check: &Check<'_>) -> Result<(), Refusal> {
    let Some(pause) = check.node.clients.paused(clock::boottime_ns) else { return Ok(()) };
    let client = &check.session.client;
    let is_exempt = check.session.auth == Auth::Peer
        || !matches!(client.kind(), Kind::Normal | Kind::Subscriber);
    let concerns = match pause.kind {
        PauseKind::Write => check.command.is_write(),
        PauseKind::All => !check.command.flags.has(Flags::PEER),
    };
    if concerns && !is_exempt { Err(Refusal::Wait(pause)) } else { Ok(()) }
}

/// The data of a deposed master is another history until it has been replaced: no client may read
/// it (rule R15).
fn trusted_data(check: &Check<'_>) -> Result<(), Refusal> {
    if check.command.is_data() && check.node.resync.is_required() {
        return error(
            "MASTERDOWN this node was master under an older version and replaces its data by its master's first",
        );
    }
    Ok(())
}

fn read_only_replica(check: &Check<'_>) -> Result<(), Refusal> {
    let changes_data = check.command.is_write() && !check.command.flags.has(Flags::MAY_REPLICATE);
    if !changes_data || check.engine.role.is_master() {
        return Ok(());
    }
    if check.config.slave_read_only {
        return error(READONLY);
    }
    let Some(store) = &check.engine.store else { return Ok(()) };
    let (node, latest) = (check.node, store.latest_sequence());
    match node.replication.note_own_write(&node.db_path(), latest) {
        Ok(()) => Ok(()),
        Err(cause) => {
            tracing::error!(%cause, "cannot note that this replica writes by itself: the write is refused");
            error("ERR this replica cannot note on its disk that it writes by itself")
        }
    }
}

fn stale_replica(check: &Check<'_>) -> Result<(), Refusal> {
    let is_refused = !check.config.slave_serve_stale_data
        && !check.engine.role.is_master()
        && !check.command.flags.has(Flags::STALE)
        && check.node.replication.link_status() != LinkStatus::Up;
    if is_refused {
        error("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
    } else {
        Ok(())
    }
}

fn lease(check: &Check<'_>) -> Result<(), Refusal> {
    let mode = check.config.master_lease_mode;
    if mode == LeaseMode::Disabled || !check.command.is_data() {
        return Ok(());
    }
    match check.node.check_lease(mode, check.command.is_write(), &check.engine.role) {
        Ok(()) => Ok(()),
        Err(_) => error(LEASE_EXPIRED),
    }
}

/// How long a write waits at most before it looks again whether the set has acknowledged more.
const TAIL_WAIT_NS: u64 = 100_000_000;

/// A master whose set is too small takes no writes; one whose set is far behind lets them wait.
fn in_sync(check: &Check<'_>) -> Result<(), Refusal> {
    let commit = &check.node.grants.commit;
    let (lacks, is_waiting) = (commit.lacks_members(), commit.is_waiting());
    let is_in_use = lacks || is_waiting;
    if !is_in_use || !check.command.is_write() {
        return Ok(());
    }
    if lacks {
        return error(NOREPLICAS);
    }
    let limit = check.config.unacknowledged_max_bytes.0;
    match &check.engine.store {
        Some(store) if commit.tail_bytes(store) > limit => {
            let until_ns = clock::boottime_ns() + TAIL_WAIT_NS;
            Err(Refusal::Wait(Pause { kind: PauseKind::Write, until_ns }))
        }
        _ => Ok(()),
    }
}
