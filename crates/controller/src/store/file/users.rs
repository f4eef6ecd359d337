//! The users in the embedded store's file: a JSON document each, by name. Earlier versions
//! neither read nor write them.

use redb::{ReadableTable as _, TableDefinition};

use super::{StoreError, engine, failed};
use crate::access::User;

const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");

pub(super) fn create(tx: &redb::WriteTransaction) -> Result<(), StoreError> {
    tx.open_table(USERS).map_err(engine("open users"))?;
    Ok(())
}

pub(super) fn all(tx: &redb::ReadTransaction) -> Result<Vec<User>, StoreError> {
    let table = tx.open_table(USERS).map_err(engine("read users"))?;
    let mut users = Vec::new();
    for row in table.iter().map_err(engine("read users"))? {
        let (_, bytes) = row.map_err(engine("read users"))?;
        users.extend(User::read(bytes.value()));
    }
    Ok(users)
}

pub(super) fn add(tx: &redb::WriteTransaction, user: &User) -> Result<(), StoreError> {
    let text = serde_json::to_vec(user).map_err(failed("encode a user"))?;
    let mut table = tx.open_table(USERS).map_err(engine("open users"))?;
    let old = table.insert(user.name.as_str(), text.as_slice());
    // What was written over comes back: an error ends the transaction without a commit.
    if old.map_err(engine("write a user"))?.is_some() { Err(StoreError::Exists) } else { Ok(()) }
}

pub(super) fn saw(tx: &redb::WriteTransaction, seen: &[(String, u64)]) -> Result<(), StoreError> {
    let mut table = tx.open_table(USERS).map_err(engine("open users"))?;
    for (name, at_ms) in seen {
        let known = table.get(name.as_str()).map_err(engine("read users"))?;
        let document = known.and_then(|known| User::seen(known.value(), *at_ms));
        if let Some(document) = document {
            let written = table.insert(name.as_str(), document.as_slice());
            written.map_err(engine("write a user"))?;
        }
    }
    Ok(())
}

pub(super) fn remove(tx: &redb::WriteTransaction, name: &str) -> Result<(), StoreError> {
    let mut table = tx.open_table(USERS).map_err(engine("open users"))?;
    let old = table.remove(name).map_err(engine("remove a user"))?;
    if old.is_none() { Err(StoreError::NotFound) } else { Ok(()) }
}
