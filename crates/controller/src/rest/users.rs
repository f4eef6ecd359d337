//! `/users`: who may ask, by tokens or certificates of their own.

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
/// Namespaces to which a user may be limited.
const NAMESPACES_MAX: usize = 100;
/// Longest name in a certificate.
const CERTIFICATE_MAX: usize = 255;

pub(super) async fn list(registry: App) -> Result<Response, ApiError> {
    let users = stored(&registry).await?;
    let (now_ms, known) = (now_ms(), &registry.shared.users);
    let told = |user: User| {
        // This process may have seen it since that was written down.
        let last_used_ms = user.last_used_ms.max(known.used(&user.name, user.created_at_ms));
        shown(User { last_used_ms, ..user }, now_ms)
    };
    Ok(ok(Users { users: users.into_iter().map(told).collect() }))
}

/// What a request says of namespaces and a certificate.
fn check(spec: &UserSpec) -> Result<(), ApiError> {
    for namespace in &spec.namespaces {
        namespaces::check_name("namespace", namespace)?;
    }
    if spec.namespaces.len() > NAMESPACES_MAX {
        return Err(ApiError::bad(format!("namespaces: {NAMESPACES_MAX} at most")));
    }
    let Some(certificate) = &spec.certificate else { return Ok(()) };
    let is_plain = !certificate.trim().is_empty()
        && certificate.trim() == certificate
        && certificate.len() <= CERTIFICATE_MAX
        && !certificate.chars().any(char::is_control);
    match is_plain {
        true => Ok(()),
        false => Err(ApiError::bad(
            "certificate must be a name in a certificate: 1 to 255 characters, no blanks at its ends",
        )),
    }
}

/// Whether certificates of that name could be shown here, and stand for nobody yet.
fn is_free(registry: &App, users: &[User], certificate: &str) -> Result<(), ApiError> {
    if !registry.shared.tls.asks_clients() {
        return Err(ApiError::conflict(
            "this controller asks nobody for a certificate: set `tls.client_ca_file` in its configuration first, with \
             `tls.client_optional` where others go on to use tokens, and reload it (SIGHUP)",
        ));
    }
    match users.iter().find(|user| user.certificate.as_deref() == Some(certificate)) {
        Some(user) => Err(ApiError::conflict(format!(
            "certificates of {certificate} stand for user {} already: `ctl user remove {}` first",
            user.name, user.name
        ))),
        None => Ok(()),
    }
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
    check(&spec)?;
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
    if let Some(certificate) = &spec.certificate {
        is_free(&registry, &users, certificate)?;
    }
    let now_ms = now_ms();
    let token = spec.certificate.is_none().then(access::mint);
    let user = User {
        name: spec.name.clone(),
        role: spec.role,
        namespaces: spec.namespaces,
        hash: token.as_ref().map(|token| access::hash(token.as_bytes())).unwrap_or_default(),
        certificate: spec.certificate,
        created_at_ms: now_ms,
        created_by: by.who.clone(),
        expires_at_ms: spec.expires_in_s.map(|seconds| end(now_ms, seconds)).transpose()?,
        last_used_ms: None,
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
        UpdateError::Unknown(why) => ApiError::unknown(format!(
            "whether it was done is not known yet: {why}; `ctl user list` shows it. A user whose token nobody was \
             told: `ctl user remove {name}`"
        )),
        other => other.into(),
    }
}

fn shown(user: User, now_ms: u64) -> rest::User {
    let expired = user.is_expired(now_ms);
    let User { name, role, namespaces, hash: _, certificate, created_at_ms, created_by, .. } = user;
    let (expires_at_ms, last_used_ms) = (user.expires_at_ms, user.last_used_ms);
    rest::User {
        name,
        role,
        created_at_ms,
        created_by,
        expires_at_ms,
        expired,
        certificate,
        namespaces,
        last_used_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_and_a_certificate_have_names() {
        let spec = |namespaces: &[&str], certificate: Option<&str>| UserSpec {
            name: "duty".to_owned(),
            role: rest::UserRole::Viewer,
            expires_in_s: None,
            certificate: certificate.map(str::to_owned),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert!(check(&spec(&["a", "b"], Some("spiffe://site/duty officer"))).is_ok());
        assert!(check(&spec(&[], None)).is_ok());
        let many = vec!["a"; NAMESPACES_MAX + 1];
        for wrong in [&["a/b"][..], &[""], &[".."], &many] {
            assert!(check(&spec(wrong, None)).is_err(), "{wrong:?}");
        }
        let long = "x".repeat(CERTIFICATE_MAX + 1);
        for wrong in ["", " ", " duty", "duty\n", &long] {
            assert!(check(&spec(&[], Some(wrong))).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_lasts_for_some_time_or_is_not_made() {
        assert_eq!(end(5_000, 2).expect("a time"), 7_000);
        for seconds in [0, u64::MAX, u64::MAX / 1_000, 300_000_000_000] {
            assert!(end(5_000, seconds).is_err(), "{seconds}");
        }
    }
}
