//! NAMESPACE: who has which key space, by which token.

use parking_lot::MutexGuard;
use storage::changes::NAMESPACES;
use storage::{DEFAULT_NAMESPACE, Family};

use super::rewrite::write_file;
use crate::command::row::Usage;
use crate::command::{Args, Error, Reply, Result};
use crate::config::{SetError, Values};
use crate::namespaces::{self, Tokens, Wish, plan};
use crate::node::Node;
use crate::session::gates;
use crate::session::table::SessionHandler;
use crate::session::{After, Command, SessionCx};

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    namespace("namespace|add",      4, add),
    namespace("namespace|current",  2, current),
    namespace("namespace|del",      3, delete),
    namespace("namespace|get",      3, get),
    namespace("namespace|set",      4, set),
];

/// Kvrocks' text for what is none of them.
pub(super) const USAGE: Usage =
    Usage::Text("ERR NAMESPACE subcommand must be one of GET, SET, DEL, ADD");

const fn namespace(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    let command = Command::session(name, arity, handler).usage(USAGE);
    let command = command.loading().stale().no_script().no_multi().skip_slowlog();
    // Which namespace it is in anybody may know.
    if matches!(name.as_bytes(), b"namespace|current") { command } else { command.admin() }
}

fn current(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.bulk(&cx.session.namespace).into())
}

/// The token of one, or all with theirs. As in Kvrocks the default one is there with `requirepass`.
fn get(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let wanted = args.bytes()?;
    let tokens = cx.node.namespaces.tokens();
    if wanted == b"*" {
        let mut words: Vec<&[u8]> = Vec::with_capacity(2 * tokens.len() + 2);
        for (token, namespace) in &*tokens {
            words.extend([namespace.as_bytes(), token.as_bytes()]);
        }
        words.extend([DEFAULT_NAMESPACE, cx.config.requirepass.as_bytes()]);
        return Ok(reply.bulks(&words).into());
    }
    let token = tokens.iter().find(|(_, namespace)| namespace.as_bytes() == wanted);
    Ok(reply.bulk_or_null(token.map(|(token, _)| token.as_bytes())).into())
}

fn add(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (name, token) = (text(args)?, text(args)?);
    change(cx, Wish::Add(name, token), reply)
}

fn set(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (name, token) = (text(args)?, text(args)?);
    change(cx, Wish::Set(name, token), reply)
}

fn delete(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let name = text(args)?;
    change(cx, Wish::Delete(name), reply)
}

/// Both stand in the configuration file and in JSON.
fn text<'a>(args: &mut Args<'a>) -> Result<&'a str> {
    args.text().map_err(|_| Error::err("names and tokens of namespaces are UTF-8 text"))
}

fn change(cx: &mut SessionCx<'_>, wish: Wish<'_>, reply: Reply<'_>) -> Result<After> {
    let node = cx.node;
    let _one_at_a_time = node.namespaces.change();
    // The current option: a change of it holds that lock, too.
    let config = node.config.now();
    let values = &*config;
    if node.config.file.is_none() && !values.repl_namespace_enabled {
        return Err(Error::err(
            "namespaces can be changed only where there is a configuration file, or \
             repl-namespace-enabled",
        ));
    }
    let tokens = node.namespaces.tokens();
    let Some(next) = plan(&tokens, values, wish).map_err(Error::err)? else {
        return Ok(reply.ok().into());
    };
    tracing::info!(client = %cx.session.client.address, count = next.len(), "namespaces changed");
    if values.repl_namespace_enabled {
        keep_in_database(node, &next)?;
        node.namespaces.put_in_force(next);
        return Ok(After::Wrote(reply.ok()));
    }
    write_file(node, &next)?;
    node.namespaces.put_in_force(next);
    Ok(reply.ok().into())
}

/// Writes the tokens into the database, from where replicas have them.
fn keep_in_database(node: &Node, tokens: &Tokens) -> Result<()> {
    let engine = node.engine();
    if !engine.role.is_master() {
        return Err(Error::err("namespace is read-only for slave"));
    }
    let store = gates::may_write(node, &node.config.now(), &engine)?;
    let mut txn = store.txn();
    txn.put(Family::Propagate, NAMESPACES, &namespaces::to_json(tokens));
    txn.commit()?;
    store.publish()?;
    Ok(())
}

/// The option that says where tokens are kept.
pub(super) const REPLICATION: &str = "repl-namespace-enabled";

/// Options by which namespaces go are about to change. No namespace changes until what is returned
/// is dropped.
///
/// # Errors
/// The option that is in the way, and why.
pub(super) fn options_change<'n>(
    node: &'n Node,
    before: &Values,
    after: &Values,
) -> std::result::Result<MutexGuard<'n, ()>, (String, SetError)> {
    let refused = |name: &str, why: &str| (name.to_owned(), SetError::Value(why.to_owned()));
    let is_replication = after.repl_namespace_enabled != before.repl_namespace_enabled;
    let one_at_a_time = match is_replication {
        true => node.namespaces.change(),
        // What changes them may wait for the gate, which EXEC holds.
        false => node.namespaces.try_change().ok_or_else(|| {
            refused("requirepass", "namespaces are just being changed: try again")
        })?,
    };
    if after.secrets() != before.secrets() {
        let apart = after.check_tokens(&node.namespaces.tokens());
        apart.map_err(|(name, why)| refused(name, why))?;
    }
    if is_replication {
        replication_changed(node, after.repl_namespace_enabled).map_err(|error| {
            let text = error.to_string();
            refused(REPLICATION, text.strip_prefix("ERR ").unwrap_or(&text))
        })?;
    }
    Ok(one_at_a_time)
}

/// The tokens move from the file into the database. They do not move back. Nobody else changes them
/// meanwhile.
fn replication_changed(node: &Node, is_replicated: bool) -> Result<()> {
    let engine = node.engine();
    let Some(store) = &engine.store else { return Ok(()) };
    if !is_replicated {
        return match namespaces::stored(store) {
            Some(tokens) if !tokens.is_empty() => Err(Error::err(
                "cannot switch off repl_namespace_enabled when namespaces exist in db",
            )),
            _ => Ok(()),
        };
    }
    let mut tokens = namespaces::stored(store).unwrap_or_default();
    let is_master = engine.role.is_master();
    if is_master {
        let stored = tokens.len();
        for (token, name) in &*node.namespaces.tokens() {
            tokens.entry(token.clone()).or_insert_with(|| name.clone());
        }
        if tokens.len() > stored {
            keep_in_database(node, &tokens)?;
        }
    }
    node.namespaces.put_in_force(tokens);
    Ok(())
}
