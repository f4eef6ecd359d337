//! `/namespaces`: groups of clusters, nothing to do with the nodes' own namespaces.

use api::rest::{Actor, NamespaceSpec, Namespaces};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;

use super::error::{ApiError, created, gone, ok};
use super::table::Within;
use super::{App, body};
use crate::cluster::UpdateError;

pub(super) async fn list(
    registry: App,
    Extension(within): Extension<Within>,
) -> Result<Response, ApiError> {
    let mut namespaces = registry.store(|store| async move { store.namespaces().await }).await?;
    namespaces.retain(|name| within.shows(name));
    Ok(ok(Namespaces { namespaces }))
}

pub(super) async fn create(
    registry: App,
    Extension(by): Extension<Actor>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let spec: NamespaceSpec = body(&bytes)?;
    if spec.namespace.is_empty() {
        return Err(ApiError::bad("namespace should NOT be empty"));
    }
    check_name("namespace", &spec.namespace)?;
    registry.create_namespace(spec.namespace.clone(), &by).await.map_err(failed)?;
    Ok(created(spec))
}

pub(super) async fn show(registry: App, Path(name): Path<String>) -> Result<Response, ApiError> {
    exists(&registry, &name).await?.then(|| ok(())).ok_or_else(|| ApiError::not_found("not found"))
}

pub(super) async fn remove(
    registry: App,
    Extension(by): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    registry.delete_namespace(name, &by).await.map_err(failed)?;
    Ok(gone())
}

fn failed(error: UpdateError) -> ApiError {
    match error {
        UpdateError::Unknown(why) => ApiError::unknown(format!(
            "whether it was done is not known yet: {why}; `ctl list namespaces` shows it once the store tells"
        )),
        other => other.into(),
    }
}

pub(super) async fn exists(registry: &App, name: &str) -> Result<bool, ApiError> {
    let names = registry.store(|store| async move { store.namespaces().await }).await?;
    Ok(names.iter().any(|known| known == name))
}

/// Names appear in paths and in labels of metrics.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), ApiError> {
    let fine = !matches!(name, "" | "." | "..")
        && name.len() <= 255
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fine {
        Ok(())
    } else {
        Err(ApiError::bad(format!(
            "{what} `{name}` must be 1 to 255 letters, digits, `-`, `_`, `.`, and not `.` or `..`"
        )))
    }
}
