//! `/store`: what the records of all clusters are kept in, how their secrets lie there, and all of
//! it as one file.

use std::collections::BTreeMap;

use api::rest::{Actor, StoreExport, StoreResealed, StoreSealing, StoreStatus};
use axum::Extension;
use axum::extract::Query;
use axum::response::Response;

use super::error::{ApiError, ok};
use super::{App, yes_or_no};
use crate::cluster::UpdateError;
use crate::seal::Keys;
use crate::store::{About, FORMAT, Has, Held, StoreError};

/// Also where the store does not work: then what cannot be read is left out.
pub(super) async fn show(registry: App) -> Response {
    let shared = &registry.shared;
    let About { kind, place, identity, origin, takes: _ } = shared.store.about();
    let namespaces = registry.store(|store| async move { store.namespaces().await }).await;
    let bytes = registry.store(|store| async move { Ok(store.bytes().await) }).await;
    let held = held(&registry).await;
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
        sealing: held.ok().map(|held| sealing(shared.store.keys(), &held)),
    })
}

async fn held(registry: &App) -> Result<Vec<Held>, UpdateError> {
    registry.store(|store| async move { store.held().await }).await
}

fn sealing(keys: &Keys, held: &[Held]) -> StoreSealing {
    let mut used = BTreeMap::<String, usize>::new();
    for one in held {
        if let Has::Sealed(key) = &one.has {
            *used.entry(key.clone()).or_default() += 1;
        }
    }
    StoreSealing {
        seals_with: keys.sealing().map(str::to_owned),
        opens_with: keys.opening().map(str::to_owned).collect(),
        in_clear: held.iter().filter(|one| one.has == Has::Clear).count(),
        behind: held.iter().filter(|one| one.is_behind(keys)).count(),
        used,
    }
}

/// Secrets come out here, and nowhere else: without them no controller reaches the nodes. They are
/// sealed as in the store, or else it must be said that they may be in clear.
pub(super) async fn export(
    registry: App,
    Extension(by): Extension<Actor>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, ApiError> {
    let may_be_clear = yes_or_no(&query, "clear")?;
    let keys = if may_be_clear { Keys::default() } else { registry.shared.store.keys().clone() };
    // Before anything is written down: what is refused is not done.
    let held = held(&registry).await?;
    if keys.sealing().is_none() && !may_be_clear && held.iter().any(|one| one.has != Has::None) {
        return Err(ApiError::conflict(
            "no key seals the secrets of this store (`store_key_file`), so passwords of nodes and tokens of balancers would \
             come in clear: `ctl store export --clear`, or clear=yes, asks for that",
        ));
    }
    // First: whoever has them is known, also where this process dies meanwhile.
    let text = match keys.sealing() {
        Some(key) => format!("the store was exported, secrets sealed with key {key}"),
        None => "the store was exported, secrets in clear".to_owned(),
    };
    registry.write_down(&by, String::new(), text).await?;
    let export = registry.store(|store| async move { store.export().await }).await?;
    let file = export.text_with(&keys).map_err(UpdateError::from)?;
    Ok(ok(StoreExport { file }))
}

/// Writes each record once more whose secrets are not sealed with the key that seals now. What was
/// done stays done where it ends half way.
pub(super) async fn reseal(
    registry: App,
    Extension(by): Extension<Actor>,
) -> Result<Response, ApiError> {
    let key = registry.shared.store.keys().sealing().map(str::to_owned);
    let reason = match &key {
        Some(key) => format!("secrets sealed with key {key}"),
        None => "secrets written in clear: `store_key_file` says none".to_owned(),
    };
    let (mut resealed, mut failed) = (0, None);
    for one in behind(&registry).await? {
        // One that was deleted meanwhile has no secrets any more.
        let Some(cluster) = registry.get(&one.namespace, &one.name) else { continue };
        match cluster.update(&by, &reason, |_| Ok(())).await {
            Ok(_) => resealed += 1,
            Err(UpdateError::Over | UpdateError::Store(StoreError::NotFound)) => {}
            // It is left, and the others are not for that.
            Err(error) => {
                let cluster = format!("{}/{}", one.namespace, one.name);
                tracing::warn!(cluster, %error, "write a record anew for its secrets");
                failed.get_or_insert(error);
            }
        }
    }
    if let Some(error) = failed.filter(|_| resealed == 0) {
        return Err(error.into());
    }
    let left = behind(&registry).await;
    let left = left.map_err(|error| ApiError::from(error).midway())?;
    let left = left.into_iter().map(|one| format!("{}/{}", one.namespace, one.name)).collect();
    Ok(ok(StoreResealed { seals_with: key, resealed, left }))
}

async fn behind(registry: &App) -> Result<Vec<Held>, UpdateError> {
    let keys = registry.shared.store.keys();
    let mut all = held(registry).await?;
    all.retain(|one| one.is_behind(keys));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_secrets_is_by_which_key_how_many_are_sealed() {
        let keys = Keys::parse(&crate::seal::grown("", false).expect("a key").0).expect("keys");
        let key = keys.sealing().expect("a key").to_owned();
        let held = [Has::None, Has::Clear, Has::Sealed(key.clone()), Has::Sealed("old".to_owned())];
        let held = held.map(|has| Held { namespace: "n".to_owned(), name: "c".to_owned(), has });
        let told = sealing(&keys, &held);
        assert_eq!((told.in_clear, told.behind), (1, 2));
        assert_eq!(told.used, BTreeMap::from([(key.clone(), 1), ("old".to_owned(), 1)]));
        assert_eq!((told.seals_with, told.opens_with), (Some(key.clone()), vec![key]));
        assert_eq!(sealing(&Keys::default(), &held).behind, 2, "they would be in clear");
    }
}
