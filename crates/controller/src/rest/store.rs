//! `/store`: what the records of all clusters are kept in, and all of it as one file.

use api::rest::{Actor, StoreExport, StoreStatus};
use axum::Extension;
use axum::response::Response;

use super::App;
use super::error::{ApiError, ok};
use crate::cluster::UpdateError;
use crate::store::{About, FORMAT};

/// Also where the store does not work: then what cannot be read is left out.
pub(super) async fn show(registry: App) -> Response {
    let shared = &registry.shared;
    let About { kind, place, identity, origin, takes: _ } = shared.store.about();
    let namespaces = registry.store(|store| async move { store.namespaces().await }).await;
    let bytes = registry.store(|store| async move { Ok(store.bytes().await) }).await;
    ok(StoreStatus {
        kind: kind.to_owned(),
        place,
        name: identity.name,
        generation: identity.generation,
        format: FORMAT,
        term: shared.store.term(),
        leader: shared.lead.as_ref().map(|lead| lead.address()),
        bytes: bytes.ok().flatten(),
        namespaces: namespaces.ok().map(|names| names.len()),
        clusters: registry.all().len(),
        origin,
        trouble: shared.store.trouble(),
    })
}

/// Secrets come out here, and nowhere else: without them no controller reaches the nodes.
pub(super) async fn export(
    registry: App,
    Extension(by): Extension<Actor>,
) -> Result<Response, ApiError> {
    // First: whoever has them is known, also where this process dies meanwhile.
    let text = "the store was exported, secrets included".to_owned();
    registry.write_down(&by, String::new(), text).await?;
    let export = registry.store(|store| async move { store.export().await }).await?;
    let file = export.text().map_err(UpdateError::from)?;
    Ok(ok(StoreExport { file }))
}
