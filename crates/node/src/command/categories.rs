//! The words COMMAND and ACL have for a command: flags and categories, as Redis 7 names them.

use super::keys::Keys;
use super::row::{Access, Flags, Row};

/// The categories of Redis, in its order, and those of types that it does not have.
pub const CATEGORIES: [&str; 22] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
    "sortedint",
];

/// Commands that are dangerous to a server without being an administrator's, beside those that write
/// all keys.
const DANGEROUS: [&str; 7] =
    ["info", "keys", "restore", "restore-asking", "role", "sort", "sort_ro"];

/// The flags that COMMAND shows.
pub fn flag_words(row: &Row) -> Vec<&'static str> {
    let kind = match row.access {
        Access::Write if row.flags.has(Flags::MAY_REPLICATE) => None,
        Access::Write => Some("write"),
        Access::Read => Some("readonly"),
        // DBSIZE counts outside the gate, but what it does is read.
        Access::None => row.flags.has(Flags::KEYSPACE).then_some("readonly"),
    };
    let grows = row.may_grow().then_some("denyoom");
    let moves = !matches!(row.keys, Keys::None | Keys::Range { .. });
    let moves = moves.then_some("movablekeys");
    kind.into_iter().chain(grows).chain(row.flags.words()).chain(moves).collect()
}

/// The category that commands of a family have by it; `None` where there is none.
fn of_family(family: &str) -> Option<String> {
    match family {
        "generic" | "server" | "cluster" | "replication" | "sort" | "acl" => None,
        "transactions" => Some("transaction".to_owned()),
        family => Some(family.replace('-', "")),
    }
}

/// The categories of a command, in Redis' order, without `@`.
pub fn categories(row: &Row, family: &str) -> Vec<String> {
    let flags = row.flags;
    let is_fast = flags.has(Flags::FAST);
    let is_admin = flags.has(Flags::ADMIN) || flags.has(Flags::PEER);
    let kind = flag_words(row).first().copied();
    let is_keyspace = flags.has(Flags::KEYSPACE) && !flags.has(Flags::PUBSUB);
    let is_dangerous = is_admin || flags.has(Flags::ALL_KEYS) || DANGEROUS.contains(&row.name);
    let own = of_family(family);
    let is = |category: &str| match category {
        "keyspace" => family == "generic" || is_keyspace,
        "read" => kind == Some("readonly"),
        "write" => kind == Some("write"),
        "admin" => is_admin,
        "fast" => is_fast,
        "slow" => !is_fast,
        "blocking" => flags.has(Flags::BLOCKING),
        "dangerous" => is_dangerous,
        "pubsub" => flags.has(Flags::PUBSUB) || family == "pubsub",
        category => own.as_deref() == Some(category),
    };
    let mut found: Vec<String> =
        CATEGORIES.into_iter().filter(|category| is(category)).map(str::to_owned).collect();
    let unknown = own.filter(|own| !CATEGORIES.contains(&own.as_str()));
    found.extend(unknown);
    found
}
