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

/// Commands that are dangerous to a server without being an administrator's.
const DANGEROUS: [&str; 10] = [
    "compact",
    "flushall",
    "flushdb",
    "info",
    "keys",
    "restore",
    "restore-asking",
    "sort",
    "sort_ro",
    "stats",
];

/// Commands of administrators that clients of a namespace may run all the same, as in Kvrocks.
const ADMIN: [&str; 10] = [
    "client|kill",
    "client|list",
    "client|no-evict",
    "client|unblock",
    "cluster|count-failure-reports",
    "cluster|replicas",
    "cluster|reset",
    "cluster|slaves",
    "module|list",
    "role",
];

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
    let is_admin = flags.has(Flags::ADMIN) || flags.has(Flags::PEER) || ADMIN.contains(&row.name);
    let kind = flag_words(row).first().copied();
    let is_keyspace = flags.has(Flags::KEYSPACE) && !flags.has(Flags::PUBSUB);
    let is_dangerous = is_admin || DANGEROUS.contains(&row.name);
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

#[cfg(test)]
mod tests {
    use crate::command::Catalog;

    /// As ACL CAT of Redis 7.0.15 lists them, of commands that there are here.
    const OF_ADMINISTRATORS: &str = "acl|deluser acl|dryrun acl|getuser acl|list acl|load acl|log \
        acl|save acl|setuser acl|users bgsave client|kill client|list client|no-evict client|pause \
        client|unblock client|unpause cluster|count-failure-reports cluster|replicas cluster|reset \
        cluster|slaves config|get config|resetstat config|rewrite config|set failover lastsave \
        latency|doctor latency|graph latency|histogram latency|history latency|latest latency|reset \
        module|list monitor role save shutdown slaveof slowlog|get slowlog|len slowlog|reset";
    const DANGEROUS_BESIDES: &str = "flushall flushdb info keys restore sort sort_ro";

    fn has(name: &str, category: &str) -> Option<bool> {
        crate::shell::table();
        let catalog = Catalog::get();
        let entry = catalog.find(name).map(|at| &catalog.entries()[at])?;
        Some(entry.categories.iter().any(|own| own == category))
    }

    #[test]
    fn administrators_have_the_commands_that_redis_gives_them() {
        for name in OF_ADMINISTRATORS.split_ascii_whitespace() {
            for category in ["admin", "dangerous"] {
                assert_ne!(has(name, category), Some(false), "{name} @{category}");
            }
        }
        // Kvrocks' own beside Redis': all of the database is written anew, and what INFO tells.
        let own = ["compact", "stats"];
        for name in DANGEROUS_BESIDES.split_ascii_whitespace().chain(own) {
            assert_eq!(has(name, "dangerous"), Some(true), "{name}");
            assert_eq!(has(name, "admin"), Some(false), "{name}");
        }
        for name in ["client|id", "client|setname", "client|tracking", "cluster|slots", "time"] {
            assert_eq!(has(name, "dangerous"), Some(false), "{name}");
        }
        for name in ["function|load", "function|delete", "function|flush", "function|restore"] {
            assert_eq!(has(name, "dangerous"), Some(false), "{name}");
        }
    }
}
