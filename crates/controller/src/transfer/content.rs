//! Whether controllers could lead from a content: looked at before any of it is written. Pure.

use std::collections::BTreeSet;

use planner::Record;

use crate::cluster::topology_of;
use crate::store::{Export, unused_elsewhere};

/// As a start does, and as each change that a running controller makes is looked at.
///
/// # Errors
/// The first record that no controller could lead by, and why.
pub(super) fn check(export: &Export) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in &export.namespaces {
        if !is_name(name) || !seen.insert((name.as_str(), "")) {
            return Err(format!("namespace `{name}` is twice there, or is no name"));
        }
    }
    for record in &export.clusters {
        let Record { namespace, name, .. } = record;
        let wrong = |why: String| Err(format!("cluster {namespace}/{name}: {why}"));
        if !is_name(name) || !seen.insert((namespace, name)) {
            return wrong("it is twice there, or has no name".to_owned());
        }
        if !export.namespaces.contains(namespace) {
            return wrong(format!("there is no namespace `{namespace}`"));
        }
        if let Err(error) = record.check() {
            return wrong(error.to_string());
        }
        if let Err(error) = topology_of(record) {
            return wrong(error.to_string());
        }
        if let Err(error) = unused_elsewhere(&export.clusters, record) {
            return wrong(error.to_string());
        }
    }
    Ok(())
}

/// A part of a key.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/')
}

#[cfg(test)]
mod tests {
    use planner::Role;

    use super::*;
    use crate::cluster::test_record;
    use crate::store::Identity;

    fn export(clusters: Vec<Record>) -> Export {
        Export {
            format: 1,
            identity: Identity { name: "ab".to_owned(), generation: 1 },
            term: 1,
            from: String::new(),
            made_at_ms: 0,
            namespaces: vec!["n".to_owned()],
            clusters,
            users: std::collections::BTreeMap::new(),
            events: Vec::new(),
        }
    }

    #[test]
    fn what_no_controller_could_lead_by_is_named() {
        let good = test_record();
        assert_eq!(check(&export(vec![good.clone()])), Ok(()));
        let refused = |clusters| check(&export(clusters)).expect_err("a refusal");

        let mut none = good.clone();
        none.shards[0].nodes[0].role = Role::Slave;
        assert_eq!(refused(vec![none]), "cluster n/c: shard 0 must have exactly one master");
        let mut short = good.clone();
        short.shards[0].nodes[0].id.pop();
        assert!(refused(vec![short]).contains("must be 40 characters"));
        let mut spaced = good.clone();
        spaced.shards[0].nodes[0].local.host = "a b".to_owned();
        assert!(refused(vec![spaced]).starts_with("cluster n/c: "));
        assert!(refused(vec![good.clone(), good.clone()]).contains("twice"));
        let other = Record { name: "d".to_owned(), ..good.clone() };
        assert!(refused(vec![good.clone(), other]).contains("already used by cluster n/d"));
        let astray = Record { namespace: "m".to_owned(), ..good.clone() };
        assert!(refused(vec![astray]).contains("no namespace `m`"));
        let slash = Record { name: "a/b".to_owned(), ..good };
        assert!(refused(vec![slash]).contains("no name"));
        let twice = Export { namespaces: vec!["n".to_owned(); 2], ..export(Vec::new()) };
        assert!(check(&twice).is_err());
    }
}
