//! Certificates of nodes and balancers that run out: who has not noticed finds clients turned away.
//!
//! Looked at whenever a status is, by the wall clock, which plans do not have.

use api::certificate::Certificate;
use planner::{Observed, Record};
use web::certs;

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
