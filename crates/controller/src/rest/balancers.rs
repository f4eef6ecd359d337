//! `/balancers` of a cluster: every instance must be listed, or its cut proves nothing.

use api::rest::{BalancerSpec, Balancers};
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;

use super::error::{ApiError, created, gone, ok};
use super::{App, body, find, probe, view};

pub(super) async fn list(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    Ok(ok(Balancers { balancers: record.balancers.iter().map(view::balancer).collect() }))
}

pub(super) async fn add(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let balancer = view::new_balancer(body::<BalancerSpec>(&bytes)?)?;
    let answer = view::balancer(&balancer);
    cluster
        .update(&format!("balancer {} added", balancer.name), move |record| {
            if record.balancers.iter().any(|known| known.name == balancer.name) {
                return Err(format!("balancer {} already exists", balancer.name));
            }
            record.balancers.push(balancer.clone());
            Ok(())
        })
        .await
        .map_err(|error| match error.to_string() {
            text if text.ends_with("already exists") => ApiError::conflict(text),
            _ => error.into(),
        })?;
    Ok(created(answer))
}

pub(super) async fn remove(
    registry: App,
    Path((ns, name, balancer)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    if !cluster.record().balancers.iter().any(|known| known.name == balancer) {
        return Err(ApiError::not_found(format!("balancer {balancer}: not found")));
    }
    let mut without = (*cluster.record()).clone();
    without.balancers.retain(|known| known.name != balancer);
    probe::fenceable(&without)?;
    cluster
        .update(&format!("balancer {balancer} removed"), move |record| {
            record.balancers.retain(|known| known.name != balancer);
            Ok(())
        })
        .await?;
    Ok(gone())
}
