//! Certificates of nodes and balancers: which CAs they know each other by, for those who replace
//! one, and those that run out, before clients are turned away.
//!
//! Looked at whenever they are asked for, by the wall clock, which plans do not have.

use api::certificate::{Certificate, Trust};
use api::rest::{CertificateHolder, CertificateHolders};
use axum::extract::Path;
use axum::response::Response;
use planner::{Observed, Record};
use web::certs;

use super::error::{ApiError, ok};
use super::{App, find};

/// Of this process, whether or not it leads.
pub(super) async fn own(registry: App) -> Response {
    let shared = &registry.shared;
    let name = shared.lead.as_ref().map_or_else(|| "this one".to_owned(), |lead| lead.address());
    let of = |(option, ends_s): (&str, i64)| Certificate { option: option.to_owned(), ends_s };
    let told = |trust: web::trust::Trust| {
        let web::trust::Trust { option, accepts, issued_by } = trust;
        Trust { option: option.to_owned(), accepts, issued_by }
    };
    ok(CertificateHolder {
        kind: "controller".to_owned(),
        name,
        told: true,
        certificates: shared.tls.ends().into_iter().map(of).collect(),
        trust: shared.tls.trust().into_iter().map(told).collect(),
    })
}

pub(super) async fn list(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let state = cluster.state.lock();
    Ok(ok(CertificateHolders { holders: holders(&state.record, &state.observed) }))
}

fn holders(record: &Record, observed: &Observed) -> Vec<CertificateHolder> {
    let nodes = record.nodes().map(|(_, node)| {
        let of = observed.node(&node.id);
        let seen = of.seen.as_ref();
        let told = seen.is_some() && of.misses == 0 && of.unclear_since.is_none();
        let of = seen.map(|seen| (seen.reply.certificates.clone(), seen.reply.trust.clone()));
        let (certificates, trust) = of.unwrap_or_default();
        let name = node.local.to_string();
        CertificateHolder { kind: "node".to_owned(), name, told, certificates, trust }
    });
    // Others have no port that speaks TLS with a certificate of ours.
    let builtin = |of: &&planner::Balancer| of.kind == planner::BalancerKind::Builtin;
    let balancers = record.balancers.iter().filter(builtin).map(|balancer| {
        let seen = observed.balancers.get(&balancer.name);
        let told = seen.is_some_and(|seen| seen.in_force.is_some() && seen.error.is_none());
        let of = seen.map(|seen| (seen.certificates.clone(), seen.trust.clone()));
        let (certificates, trust) = of.unwrap_or_default();
        let name = balancer.name.clone();
        CertificateHolder { kind: "balancer".to_owned(), name, told, certificates, trust }
    });
    nodes.chain(balancers).collect()
}

/// An alarm for each that is good for less than 14 days at that Unix time. One that is silent has
/// the certificates that it told of last.
pub(super) fn alarms(record: &Record, observed: &Observed, now_s: i64) -> Vec<String> {
    let mut alarms = Vec::new();
    for node in record.shards.iter().flat_map(|shard| &shard.nodes) {
        let Some(seen) = &observed.node(&node.id).seen else { continue };
        let told = seen.reply.certificates.iter();
        alarms.extend(told.filter_map(|one| alarm("node", &node.local, one, now_s)));
    }
    for balancer in &record.balancers {
        let Some(seen) = observed.balancers.get(&balancer.name) else { continue };
        let told = seen.certificates.iter();
        alarms.extend(told.filter_map(|one| alarm("balancer", &balancer.name, one, now_s)));
    }
    alarms
}

fn alarm(
    kind: &str,
    of: &dyn std::fmt::Display,
    Certificate { option, ends_s }: &Certificate,
    now_s: i64,
) -> Option<String> {
    let when = certs::ends_soon(*ends_s, now_s)?;
    Some(format!("{kind} {of}: its certificate ({option}) {when}: {}", certs::REMEDY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: i64 = 86_400;

    #[test]
    fn what_is_silent_now_tells_nothing_although_it_has() {
        let lb = planner::Balancer {
            name: "lb1".to_owned(),
            kind: planner::BalancerKind::Builtin,
            endpoint: "http://lb1".to_owned(),
            token: None,
            sources: Vec::new(),
            closing: false,
        };
        let record = Record { balancers: vec![lb], ..crate::cluster::test_pair() };
        let mut observed = Observed::default();
        crate::cluster::test_sequences(&mut observed, 1, 1);
        let in_force = planner::InForce {
            start_id: "a".to_owned(),
            version: 1,
            frontends: Vec::new(),
            sessions: Vec::new(),
            moved: 0,
            cut: 0,
            at: planner::Time::default(),
        };
        observed.balancers.entry("lb1".to_owned()).or_default().in_force = Some(in_force);
        let told = |observed: &Observed| -> Vec<bool> {
            holders(&record, observed).iter().map(|one| one.told).collect()
        };
        // The first node has never answered.
        assert_eq!(told(&observed), [false, true, true]);
        observed.nodes.entry("b".repeat(40)).or_default().misses = 1;
        observed.balancers.entry("lb1".to_owned()).or_default().error = Some("away".to_owned());
        assert_eq!(told(&observed), [false, false, false]);
    }

    #[test]
    fn who_when_and_what_to_do_are_told_for_fourteen_days() {
        let alarm = |days: i64| {
            let one = Certificate { option: "tls-cert-file".into(), ends_s: days * DAY_S + 7 };
            alarm("node", &"10.0.0.1:6666", &one, 7)
        };
        assert_eq!(alarm(14), None);
        let told = "node 10.0.0.1:6666: its certificate (tls-cert-file) runs out in 13 days: \
                    replace its file, then SIGHUP";
        assert_eq!(alarm(13).as_deref(), Some(told));
        assert!(alarm(-1).is_some_and(|text| text.contains(" has run out: ")));
    }
}
