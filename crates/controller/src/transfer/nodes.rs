//! What the nodes of all clusters say of who leads them, asked by a tool that leads nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::heard::Told;
use api::store::StoreId;
use planner::{Node, Record};
use tokio::task::JoinSet;
use web::tls::Tls;

use crate::client::{ClientError, Connection};
use crate::cluster::rival;

/// Longest wait for one node.
const PATIENCE: Duration = Duration::from_secs(3);
/// A controller is heard within so long, at least: nodes are asked again after it.
const LISTEN: Duration = Duration::from_secs(1);

/// What the nodes said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Heard {
    /// Highest term that any of them has seen.
    pub(super) term: u64,
    /// How many nodes there are.
    pub(super) nodes: usize,
    /// Addresses of those that have not told.
    pub(super) silent: Vec<String>,
    /// Addresses of those that heard a controller while they were asked.
    pub(super) led: Vec<String>,
    /// What each that told has seen, and its address, the highest term first.
    pub(super) terms: Vec<(u64, String)>,
    /// From which stores they were led: of each the highest generation.
    pub(super) stores: Vec<StoreId>,
}

impl Heard {
    /// Whether a store may begin to lead these nodes.
    ///
    /// # Errors
    /// A controller leads them, or too few tell.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(node) = self.led.first() {
            return Err(format!(
                "{node} hears a controller of term {}: stop all controllers of these clusters first",
                self.term
            ));
        }
        if self.nodes > 0 && 2 * self.silent.len() >= self.nodes {
            return Err(format!(
                "{} of {} nodes do not say whether they hear a controller ({}): if no controller of these clusters runs, and none will, --without-nodes does not ask them",
                self.silent.len(),
                self.nodes,
                self.silent.join(", ")
            ));
        }
        Ok(())
    }

    /// What is to be said of nodes that have obeyed a higher term than the store of their
    /// controllers knows: another store has led them, perhaps still does, and none but the terms
    /// keep the two apart.
    pub(super) fn beyond(&self, term: u64) -> Option<String> {
        let beyond: Vec<&str> = (self.terms.iter())
            .filter(|(seen, _)| *seen > term)
            .map(|(_, address)| address.as_str())
            .collect();
        let (highest, _) = self.terms.first().filter(|_| !beyond.is_empty())?;
        Some(format!(
            "{} of {} nodes have obeyed term {highest}, and the store that is given up knows {term} ({}): another store has led them. See that its controllers are stopped; the terms of the new one are above",
            beyond.len(),
            self.nodes,
            beyond.join(", ")
        ))
    }
}

/// Asks all nodes twice, so long apart that a controller which leads is heard between.
pub(super) async fn ask(records: &[Record], tls: &Arc<Tls>, heartbeat_ms: u64) -> Heard {
    let began = Instant::now();
    let first = asked(records, tls, began).await;
    let listen = LISTEN.max(Duration::from_millis(heartbeat_ms.saturating_mul(5)));
    tokio::time::sleep(listen.saturating_sub(began.elapsed())).await;
    let second = asked(records, tls, began).await;
    Heard { term: first.term.max(second.term), ..second }
}

/// Asks all nodes once, for their terms.
pub(super) async fn ask_once(records: &[Record], tls: &Arc<Tls>) -> Heard {
    asked(records, tls, Instant::now()).await
}

async fn asked(records: &[Record], tls: &Arc<Tls>, since: Instant) -> Heard {
    let mut asked = JoinSet::new();
    for record in records {
        for (_, node) in record.nodes() {
            let (node, password) = (node.clone(), record.password.clone());
            let (tls, cluster) = (Arc::clone(tls), record.cluster_id.clone());
            asked.spawn(async move {
                let (told, is_led) = one(&node, password, &cluster, &tls, since).await?;
                Ok::<_, String>((node.local.to_string(), told, is_led))
            });
        }
    }
    let mut heard = Heard { nodes: asked.len(), ..Heard::default() };
    let mut stores = Vec::new();
    for answer in asked.join_all().await {
        match answer {
            Ok((address, told, is_led)) => {
                heard.term = heard.term.max(told.term);
                if is_led {
                    heard.led.push(address.clone());
                }
                stores.extend(told.store.store());
                heard.terms.push((told.term, address));
            }
            Err(address) => heard.silent.push(address),
        }
    }
    heard.stores = newest(stores);
    heard.led.sort();
    heard.silent.sort();
    heard.terms.sort_by(|(one, at), (other, there)| other.cmp(one).then_with(|| at.cmp(there)));
    heard
}

/// Of each store the highest generation.
pub(crate) fn newest(stores: impl IntoIterator<Item = StoreId>) -> Vec<StoreId> {
    let mut newest = BTreeMap::new();
    for StoreId { name, generation } in stores {
        let known = newest.entry(name).or_insert(generation);
        *known = generation.max(*known);
    }
    newest.into_iter().map(|(name, generation)| StoreId { name, generation }).collect()
}

/// What it says, and whether it heard a controller since. What another cluster's node says there
/// says nothing; its address then.
async fn one(
    node: &Node,
    password: Option<String>,
    cluster: &str,
    tls: &Arc<Tls>,
    since: Instant,
) -> Result<(Told, bool), String> {
    let exchange = async {
        let mut connection = Connection::open(&node.local, password.as_deref(), tls).await?;
        // Before the question: however long the answer takes, what is heard since then was heard
        // since.
        let elapsed = since.elapsed();
        Ok::<_, ClientError>((rival::ask(&mut connection).await?, elapsed))
    };
    let address = node.local.to_string();
    let Ok(Ok((told, elapsed))) = tokio::time::timeout(PATIENCE, exchange).await else {
        return Err(address);
    };
    let is_nameless = told.cluster_id.is_empty() || told.cluster_id == "-" || cluster.is_empty();
    if told.myid != node.id || !(is_nameless || told.cluster_id == cluster) {
        return Err(address);
    }
    let is_led = told.heard_ms.is_some_and(|ms| Duration::from_millis(ms) < elapsed);
    Ok((told, is_led))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_begins_to_lead_nodes_that_are_led_or_that_do_not_tell() {
        let two = |silent: usize, led: usize| Heard {
            term: 4,
            nodes: 2,
            silent: vec!["a:1".to_owned(); silent],
            led: vec!["b:1".to_owned(); led],
            terms: Vec::new(),
            stores: Vec::new(),
        };
        assert_eq!(two(0, 0).check(), Ok(()));
        assert!(two(0, 1).check().expect_err("led").contains("b:1 hears a controller of term 4"));
        assert!(two(1, 0).check().expect_err("half of them").contains("1 of 2 nodes"));
        assert!(two(1, 1).check().expect_err("led").contains("hears"));
        assert_eq!(Heard::default().check(), Ok(()), "there is nobody to ask");
        let three = Heard { nodes: 3, ..two(1, 0) };
        assert_eq!(three.check(), Ok(()), "most of them told");
    }

    #[test]
    fn of_each_store_that_has_led_them_the_newest_life_counts() {
        let of = |name, generation| StoreId { name, generation };
        let told = [of(2, 1), of(1, 3), of(2, 4), of(1, 2)];
        assert_eq!(newest(told), [of(1, 3), of(2, 4)]);
    }

    #[test]
    fn nodes_that_know_a_higher_term_than_their_store_are_named() {
        let terms = vec![(9, "b:1".to_owned()), (7, "a:1".to_owned())];
        let heard = Heard { term: 9, nodes: 3, terms, ..Heard::default() };
        assert_eq!(heard.beyond(9), None);
        let told = heard.beyond(7).expect("a word");
        assert!(told.starts_with("1 of 3 nodes have obeyed term 9"), "{told}");
        assert!(told.contains("knows 7 (b:1)"), "{told}");
        assert!(heard.beyond(6).expect("a word").contains("(b:1, a:1)"));
        assert_eq!(Heard::default().beyond(0), None);
    }
}
