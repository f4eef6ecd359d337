//! CONFIG: reading, changing and keeping the options.
//!
//! Secrets are never shown: their value reads as empty whether or not one is set. CONFIG SET
//! changes all of its options or none.

use std::sync::Arc;

use api::heartbeat::{ClientAccess, LeaseMode};
use storage::types::glob;

use super::namespace::{REPLICATION as NAMESPACES, options_change};
use super::rewrite::write_file;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::config::{Changing, OPTIONS, SetError, Values, without_effect};
use crate::node::Node;
use crate::session::outcome::Tells;
use crate::session::table::SessionHandler;
use crate::session::{After, Command, SessionCx};
use crate::tls;

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    Show the options whose names match. Secrets read as empty.",
    "SET <option> <value> [<option> <value> ...]",
    "    Change options, all or none.",
    "RESETSTAT",
    "    Set the counters of INFO back to zero.",
    "REWRITE",
    "    Write the options of now into the configuration file.",
    "HELP",
    "    Print this help.",
];

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    config("config|get",      -3, get_options),
    config("config|help",      2, help),
    config("config|resetstat", 2, reset_counters).at_node(),
    config("config|rewrite",   2, rewrite_configuration).at_node(),
    config("config|set",      -4, set_options).at_node(),
];

const fn config(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    Command::session(name, arity, handler).admin().loading().stale().no_script()
}

fn get_options(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(get(&cx.node.config.now(), args.rest(), reply).into())
}

fn set_options(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let pairs = pairs(args.rest())?;
    // Certificates are files: a disk that hangs must not hold up the other clients of this worker,
    // nor must the change of somebody else that waits for one.
    let is_tls = pairs.iter().any(|(name, _)| is_of_tls(name));
    if cx.exec.is_some()
        && let Some(name) = [PERSIST, NAMESPACES].into_iter().find(|name| is_set(&pairs, name))
    {
        // EXEC holds the gate, and they wait for the disk.
        return Err(Error::err(format_args!("CONFIG SET of {name} writes, which EXEC does not")));
    }
    let changing = if is_tls { None } else { cx.node.config.try_change() };
    let Some(changing) = changing else {
        return match (cx.exec.is_some(), is_tls) {
            (false, _) => Ok(set_aside(cx, &pairs)),
            // EXEC holds what others wait for.
            (true, true) => {
                Err(Error::text("ERR CONFIG SET of tls-* reads files, which EXEC does not"))
            }
            (true, false) => Err(Error::text(
                "ERR CONFIG SET would wait for another change of options, which EXEC does not",
            )),
        };
    };
    change_options(cx.node, changing, &pairs, &cx.session.client.address.to_string())?;
    Ok(reply.ok().into())
}

/// `<mode>`: sets `master-lease-mode` for a controller that has named its term, at once or not at
/// all. What waits for another change of options would be made once a successor was heard (rule
/// O5).
pub(crate) fn set_lease_mode(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let pairs = [("master-lease-mode", args.text()?)];
    if !args.is_empty() {
        return Err(Error::Syntax);
    }
    let Some(changing) = cx.node.config.try_change() else {
        return Err(Error::text("ERR somebody else changes options of this node just now"));
    };
    change_options(cx.node, changing, &pairs, &cx.session.client.address.to_string())?;
    Ok(reply.ok().into())
}

fn reset_counters(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    cx.node.stats.reset();
    cx.node.acl.log.reset_counts();
    Ok(reply.ok().into())
}

fn rewrite_configuration(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    rewrite(cx)?;
    Ok(reply.ok().into())
}

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

fn get(values: &Values, patterns: &[&[u8]], reply: Reply<'_>) -> Replied {
    let patterns: Vec<Vec<u8>> =
        patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let found: Vec<(&str, String)> = OPTIONS
        .iter()
        .filter(|option| {
            patterns.iter().any(|pattern| glob::matches(pattern, option.name.as_bytes()))
        })
        .map(|option| {
            let shown = if option.is_secret { None } else { values.get(option.name) };
            (option.name, shown.unwrap_or_default())
        })
        .collect();
    reply.with(|writer| {
        writer.map(found.len());
        for (name, value) in &found {
            writer.bulk(name.as_bytes());
            writer.bulk(value.as_bytes());
        }
    })
}

/// Redis' text for an option that could not be set.
fn failed(name: &str, why: impl std::fmt::Display) -> Error {
    Error::err(format!("CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

fn set_error(name: &str, error: &SetError) -> Error {
    match error {
        SetError::Unknown => {
            Error::err(format!("Unknown option or number of arguments for CONFIG SET - '{name}'"))
        }
        SetError::Restart => failed(name, "can't set immutable config"),
        SetError::Value(why) => failed(name, why),
    }
}

/// Options and their values as CONFIG SET was given them.
fn pairs<'a>(words: &[&'a [u8]]) -> Result<Vec<(&'a str, &'a str)>> {
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(words.len() / 2);
    for pair in words.chunks(2) {
        let &[name, value] = pair else { return Err(Error::Arity("config|set".into())) };
        let name = std::str::from_utf8(name).map_err(|_| Error::Syntax)?;
        let value =
            std::str::from_utf8(value).map_err(|_| failed(name, "the value is no UTF-8 text"))?;
        if pairs.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(failed(name, "duplicate parameter"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

const PEER_AUTH: &str = "peer-auth";
const PERSIST: &str = "persist-cluster-nodes-enabled";

/// Whether an option is among these.
fn is_set(pairs: &[(&str, &str)], wanted: &str) -> bool {
    pairs.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted))
}

/// Changes options on another thread.
fn set_aside(cx: &SessionCx<'_>, pairs: &[(&str, &str)]) -> After {
    let (node, who) = (Arc::clone(cx.node), cx.session.client.address.to_string());
    let protocol = cx.session.protocol;
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let pairs: Vec<(String, String)> = pairs.iter().map(own).collect();
    let answer = Box::pin(async move {
        let change = move || {
            let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let pairs: Vec<_> = pairs.collect();
            change_options(&node, node.config.change(), &pairs, &who)
        };
        let done = tokio::task::spawn_blocking(change).await;
        let mut bytes = Vec::new();
        let mut writer = resp::Writer::new(&mut bytes, protocol);
        match done.unwrap_or_else(|error| Err(Error::err(error))) {
            Ok(()) => writer.simple("OK"),
            Err(error) => writer.error(&error.to_string()),
        }
        bytes
    });
    After::Later(answer, Tells::Nothing)
}

/// Changes live options, all or none, with what else a change means. `who` is for the log.
pub(crate) fn change_options(
    node: &Node,
    changing: Changing<'_>,
    pairs: &[(&str, &str)],
    who: &str,
) -> Result<()> {
    let config = &node.config;
    let drops_peers =
        pairs.iter().any(|(name, value)| name.eq_ignore_ascii_case(PEER_AUTH) && value.is_empty());
    if drops_peers && config.now().client_access == ClientAccess::BalancerOnly {
        return Err(failed(
            PEER_AUTH,
            "client-access balancer-only needs it, or no peer or controller could ever come",
        ));
    }
    check_clients(node, pairs)?;
    let (mut ready, mut kept) = (None, None);
    let set = changing.set_if(pairs, |after| {
        ready = new_tls(node, pairs, after)?;
        kept = Some(keep(node, &config.now(), after)?);
        Ok(())
    });
    let (before, after) = set.map_err(|(name, error)| set_error(&name, &error))?;
    drop(kept);
    if ["requirepass", "requirepass-also"].into_iter().any(|name| is_set(pairs, name)) {
        node.acl.take_requirepass();
    }
    if let Some(ready) = ready {
        ready.put_in_force();
    }
    let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    if !names.is_empty() {
        tracing::info!(options = ?names, client = who, "options changed");
    }
    for (name, value) in pairs {
        if let Some(why) = without_effect(name, value) {
            tracing::warn!(option = name, client = who, "an option is ignored: {why}");
        }
    }
    take_up(node, &after);
    if after.master_lease_mode != before.master_lease_mode {
        warn_of_weaker_lease_mode(node, before.master_lease_mode, after.master_lease_mode);
    }
    Ok(())
}

/// What is held from what was written down of options until these are in force: nobody changes in
/// between what was written down.
struct Kept<'n> {
    _topology: Option<tokio::sync::MutexGuard<'n, ()>>,
    _namespaces: Option<parking_lot::MutexGuard<'n, ()>>,
}

/// Writes down what a change means for what is kept in files and in the database, all of it or
/// nothing, before the options are in force: they never promise what is not kept.
fn keep<'n>(
    node: &'n Node,
    before: &Values,
    after: &Values,
) -> std::result::Result<Kept<'n>, (String, SetError)> {
    let is_persistence_changed = after.cluster_enabled
        && after.persist_cluster_nodes_enabled != before.persist_cluster_nodes_enabled;
    let topology = match is_persistence_changed {
        true => Some(keep_topology(node, after.persist_cluster_nodes_enabled)?),
        false => None,
    };
    let is_theirs = after.repl_namespace_enabled != before.repl_namespace_enabled
        || after.secrets() != before.secrets();
    if !is_theirs {
        return Ok(Kept { _topology: topology, _namespaces: None });
    }
    match options_change(node, before, after) {
        Ok(namespaces) => Ok(Kept { _topology: topology, _namespaces: Some(namespaces) }),
        Err(refused) => {
            if is_persistence_changed
                && let Err(error) =
                    crate::role::persist_now(node, before.persist_cluster_nodes_enabled)
            {
                tracing::error!(%error, "nodes.conf is not as persist-cluster-nodes-enabled says");
            }
            Err(refused)
        }
    }
}

/// As many clients as this process may have descriptors for; in Redis' words.
fn check_clients(node: &Node, pairs: &[(&str, &str)]) -> Result<()> {
    const NAME: &str = "maxclients";
    let asked = pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(NAME));
    // What is no number is refused with the others of its kind.
    let Some(wanted) = asked.and_then(|(_, value)| value.trim().parse().ok()) else {
        return Ok(());
    };
    let most = node.descriptors.most_clients(wanted);
    if u64::from(wanted) <= most {
        return Ok(());
    }
    let why =
        "The operating system is not able to handle the specified number of clients, try with";
    Err(failed(NAME, format_args!("{why} {most}")))
}

/// Certificates as these options name them, when one of the options of TLS is set, be it to what it
/// was.
fn new_tls<'n>(
    node: &'n Node,
    pairs: &[(&str, &str)],
    after: &Values,
) -> std::result::Result<Option<tls::Ready<'n>>, (String, SetError)> {
    if !pairs.iter().any(|(name, _)| is_of_tls(name)) {
        return Ok(None);
    }
    let ready = node.tls.prepare(after);
    ready.map(Some).map_err(|fault| (fault.option.to_owned(), SetError::Value(fault.why)))
}

/// Whether certificates are read again when this option is set.
pub(crate) fn is_of_tls(name: &str) -> bool {
    name.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case("tls-"))
}

/// Hands options to those who do not look them up themselves.
fn take_up(node: &Node, after: &Values) {
    let parts = after.parts();
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    if let Some(store) = &node.engine().store {
        node.tell_options(store);
    }
    // The database takes its new sizes within a second (`memory::watch`).
    node.memory.bound(size(parts.clients), node.clients.len());
    node.long_reads.resize(parts.long_reads);
    node.perflog.bound(after.profiling_sample_record_max_len);
    // It may be a password that the link waits for.
    node.replication.look_again();
}

/// A controller that counts on this node's fence learns of the change with its next heartbeat; what
/// happens until then is the operator's decision.
fn warn_of_weaker_lease_mode(node: &Node, before: LeaseMode, after: LeaseMode) {
    let strength =
        |mode: LeaseMode| LeaseMode::WORDS.iter().position(|word| *word == mode.as_str());
    if strength(after) < strength(before) && node.engine().role.is_master() {
        tracing::warn!(%before, %after, "master-lease-mode was made weaker while this node is master");
    }
}

/// Writes or removes `nodes.conf`; no topology changes until what is returned is dropped.
fn keep_topology(
    node: &Node,
    is_kept: bool,
) -> std::result::Result<tokio::sync::MutexGuard<'_, ()>, (String, SetError)> {
    let refused = |why: String| (PERSIST.to_owned(), SetError::Value(why));
    let Ok(one_at_a_time) = node.changing.try_lock() else {
        return Err(refused("a change of topology is running: try again".to_owned()));
    };
    if let Err(error) = crate::role::persist_now(node, is_kept) {
        // What is in place already becomes what it was.
        if error.is_in_place()
            && let Err(error) = crate::role::persist_now(node, !is_kept)
        {
            tracing::error!(%error, "nodes.conf is not as persist-cluster-nodes-enabled says");
        }
        return Err(refused(error.to_string()));
    }
    Ok(one_at_a_time)
}

fn rewrite(cx: &SessionCx<'_>) -> Result<()> {
    write_file(cx.node, &cx.node.namespaces.tokens())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits there holds up everybody.
    #[test]
    fn inside_exec_nothing_is_set_that_may_wait() {
        let mut shell = crate::shell::Shell::new();
        let node = shell.node();
        let mut exec = |command: &str| {
            assert_eq!(shell.run("MULTI"), "+OK");
            assert_eq!(shell.run(command), "+QUEUED");
            shell.run("EXEC")
        };
        let said = exec("CONFIG SET timeout 6 TLS-cert-file none.pem");
        assert!(said.starts_with("*1 -ERR CONFIG SET of tls-* reads files"), "{said}");
        for name in [PERSIST, NAMESPACES] {
            for value in ["yes", "no"] {
                let said = exec(&format!("CONFIG SET timeout 6 {} {value}", name.to_uppercase()));
                let refused = format!("*1 -ERR CONFIG SET of {name} writes");
                assert!(said.starts_with(&refused), "{said}");
            }
        }
        assert_ne!(node.config.now().timeout, 6, "all of it or nothing");
        let mut meanwhile = String::new();
        let set = node.config.set_if(&[], |_| {
            meanwhile = exec("CONFIG SET timeout 7");
            Ok(())
        });
        set.unwrap();
        assert!(meanwhile.starts_with("*1 -ERR CONFIG SET would wait"), "{meanwhile}");
        assert_eq!(exec("CONFIG SET timeout 8"), "*1 +OK");
        assert_eq!(node.config.now().timeout, 8);
    }

    /// What another client has set of the same options meanwhile would be undone with them.
    #[test]
    fn options_that_cannot_be_kept_were_never_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let values = Values { cluster_enabled: true, ..crate::shell::small() };
        let options = crate::config::engine::storage_options(&values);
        let store = storage::Store::open(&dir.path().join("db"), options).unwrap();
        let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let ear = Arc::clone(&told);
        let config = crate::config::Config::new(values, None)
            .with_log(move |level| ear.lock().push(level.to_owned()));
        let (cluster, master) = (topology::Cluster::default(), crate::gate::Role::Master);
        let commands = crate::shell::commands();
        let node = Node::new(config, dir.path().to_owned(), store, cluster, master, commands);
        let pairs = [("log-level", "debug"), (PERSIST, "no")];
        let set = || change_options(&node, node.config.change(), &pairs, "a test");
        let topology = node.changing.try_lock().unwrap();
        let said = set().unwrap_err().to_string();
        assert!(said.contains("a change of topology is running"), "{said}");
        assert!(told.lock().is_empty());
        assert!(node.config.now().persist_cluster_nodes_enabled);
        drop(topology);
        set().unwrap();
        assert_eq!(*told.lock(), ["debug"]);
        assert!(node.changing.try_lock().is_ok(), "it is let go of once they are in force");
    }

    #[test]
    fn pairs_are_whole_and_named_once() {
        let text = |words: &[&[u8]]| pairs(words).unwrap_err().to_string();
        assert_eq!(text(&[b"a"]), "ERR wrong number of arguments for 'config|set' command");
        assert_eq!(
            text(&[b"maxclients", b"1", b"MAXCLIENTS", b"2"]),
            "ERR CONFIG SET failed (possibly related to argument 'MAXCLIENTS') - duplicate parameter"
        );
        assert_eq!(pairs(&[b"a", b"1"]).unwrap(), [("a", "1")]);
    }

    #[test]
    fn errors_are_worded_as_redis_does() {
        assert_eq!(
            set_error("nosuch", &SetError::Unknown).to_string(),
            "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"
        );
        assert_eq!(
            set_error("port", &SetError::Restart).to_string(),
            "ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config"
        );
    }

    #[test]
    fn secrets_read_as_empty() {
        let values = Values { requirepass: "hush".into(), port: 7000, ..Values::default() };
        let mut out = Vec::new();
        let reply = Reply::new(resp::Writer::new(&mut out, resp::Protocol::V2));
        get(&values, &[b"REQUIREPASS", b"por?"], reply);
        assert_eq!(out, b"*4\r\n$4\r\nport\r\n$4\r\n7000\r\n$11\r\nrequirepass\r\n$0\r\n\r\n");
    }
}
