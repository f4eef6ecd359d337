//! `/users`: who may ask, by tokens of their own.

use api::rest::{self, Actor, UserAdded, UserSpec, Users};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;

use super::error::{ApiError, created, gone, ok};
use super::{App, body, namespaces};
use crate::access::{self, OPEN, User};
use crate::cluster::UpdateError;
use crate::events::now_ms;
use crate::store::StoreError;

/// Each request is compared with every one of them.
const USERS_MAX: usize = 1_000;

pub(super) async fn list(registry: App) -> Result<Response, ApiError> {
    let users = stored(&registry).await?;
    let now_ms = now_ms();
    Ok(ok(Users { users: users.into_iter().map(|user| shown(user, now_ms)).collect() }))
}

pub(super) async fn add(
    registry: App,
    Extension(by): Extension<Actor>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let spec: UserSpec = body(&bytes)?;
    namespaces::check_name("user", &spec.name)?;
    if !spec.name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        // Neither a path nor a command line takes it for anything else.
        return Err(ApiError::bad(format!(
            "user `{}` must begin with a letter or a digit",
            spec.name
        )));
    }
    if by.who == OPEN {
        return Err(ApiError::conflict(
            "users mean nothing while anybody who reaches this port is an admin: set `token_file` or `token` in the \
             controller's configuration first, and reload it (SIGHUP)",
        ));
    }
    let users = stored(&registry).await?;
    if users.len() >= USERS_MAX {
        return Err(ApiError::conflict(format!(
            "there are {} users, {USERS_MAX} at most: `ctl user list` shows which have expired",
            users.len()
        )));
    }
    let now_ms = now_ms();
    let token = access::mint();
    let user = User {
        name: spec.name.clone(),
        role: spec.role,
        hash: access::hash(token.as_bytes()),
        created_at_ms: now_ms,
        created_by: by.who.clone(),
        expires_at_ms: spec.expires_in_s.map(|seconds| end(now_ms, seconds)).transpose()?,
    };
    registry.add_user(user.clone(), &by).await.map_err(|error| of_user(&spec.name, error))?;
    Ok(created(UserAdded { user: shown(user, now_ms), token }))
}

pub(super) async fn remove(
    registry: App,
    Extension(by): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let removed = registry.remove_user(name.clone(), &by).await;
    removed.map_err(|error| of_user(&name, error))?;
    Ok(gone())
}

/// What the store has, not what this process last read of it.
async fn stored(registry: &App) -> Result<Vec<User>, ApiError> {
    Ok(registry.store(|store| async move { store.users().await }).await?)
}

/// When a token ends that is made now.
fn end(now_ms: u64, seconds: u64) -> Result<u64, ApiError> {
    let end = seconds.checked_mul(1_000).and_then(|ms| now_ms.checked_add(ms));
    end.filter(|end| seconds > 0 && *end <= LATEST_MS).ok_or_else(|| {
        ApiError::bad(format!("expires_in_s is {seconds}; accepted: 1 and up, until the year 9999, or nothing for ever"))
    })
}

/// The year 9999.
const LATEST_MS: u64 = 253_370_764_800_000;

fn of_user(name: &str, error: UpdateError) -> ApiError {
    match error {
        UpdateError::Store(StoreError::Exists) => ApiError::conflict(format!(
            "user {name} already exists: `ctl user remove {name}` first, or choose another name"
        )),
        UpdateError::Store(StoreError::NotFound) => {
            ApiError::not_found(format!("user {name}: not found; `ctl user list` shows all"))
        }
        UpdateError::Unknown(why) => ApiError::new(
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "whether it was done is not known yet: {why}; `ctl user list` shows it. A user whose token nobody was \
                 told: `ctl user remove {name}`"
            ),
        ),
        other => other.into(),
    }
}

fn shown(user: User, now_ms: u64) -> rest::User {
    let expired = user.is_expired(now_ms);
    let User { name, role, hash: _, created_at_ms, created_by, expires_at_ms } = user;
    rest::User { name, role, created_at_ms, created_by, expires_at_ms, expired }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_for_some_time_or_is_not_made() {
        assert_eq!(end(5_000, 2).expect("a time"), 7_000);
        for seconds in [0, u64::MAX, u64::MAX / 1_000, 300_000_000_000] {
            assert!(end(5_000, seconds).is_err(), "{seconds}");
        }
    }
}
