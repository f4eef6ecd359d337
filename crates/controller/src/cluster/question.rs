//! One heartbeat: what it asks and grants, and what its answer tells.
//!
//! What is granted is decided under the lock and written down before the heartbeat leaves.

use std::sync::Arc;

use api::grant::Grant;
use api::health::Health;
use api::heard::Told;
use api::heartbeat::Reply;
use api::moves::Asked;
use api::store::{Heeds, Said};
use planner::{Led, Refusal, Role, Seen, Time};
use resp::Value;

use super::{Cluster, Copied, State};
use crate::client::{ClientError, Connection};
use crate::events::now_ms;

/// What a node says to a grant that contradicts what it has. The node is alive all the same.
const REFUSED: &str = "ERR grant refused";

/// Longest trip of an answer from which the node's clock is read, ms.
const CLOCK_TRIP_MS: u64 = 200;

/// A heartbeat ready to leave.
pub(super) struct Question {
    master: String,
    lease_ms: u64,
    term: u64,
    clock_ns: u64,
    nonce: String,
    grant: Option<Grant>,
    /// From which store this controller leads.
    store: Option<Said>,
    /// Of slots that move.
    moves: Vec<Asked>,
    pub(super) sent_at: Time,
}

impl Question {
    /// The command.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = vec!["CLUSTERX".to_owned(), "HEARTBEAT".to_owned(), self.master.clone()];
        words.extend([self.lease_ms.to_string(), self.term.to_string(), "CLOCK".to_owned()]);
        words.extend([self.clock_ns.to_string(), self.nonce.clone()]);
        if let Some(grant) = &self.grant {
            words.push("GRANT".to_owned());
            words.extend(grant.words());
        }
        words.extend(self.store.iter().flat_map(Said::words));
        if !self.moves.is_empty() {
            words.push("MOVES".to_owned());
            words.extend(self.moves.iter().map(Asked::to_string));
        }
        words
    }
}

/// Decides under the lock what this heartbeat grants, and writes the bound down first. `heeds`:
/// from which store the node is led, as it said last. `None`: the node is in the cluster no more,
/// or that was stopped, and what leads its nodes by now counts with nothing that is granted here.
pub(super) fn ask(cluster: &Arc<Cluster>, id: &str, heeds: Heeds) -> Option<Question> {
    let shared = &cluster.shared;
    let mut state = cluster.state.lock();
    if state.deleted {
        return None;
    }
    state.observed.authority = shared.authority();
    let (shard, _) = state.places.find(&state.record, id)?;
    let master = shard.master().map_or_else(|| id.to_owned(), |master| master.id.clone());
    let (record, policy) = (&state.record, &shared.policy);
    let granted = planner::granted(&state.plan, record, shard, &state.observed, policy, id);
    let store = planner::said(&state.record, &state.observed, heeds);
    let node = state.observed.nodes.entry(id.to_owned()).or_default();
    let mut question = Question {
        master,
        lease_ms: shared.policy.lease_ms.max(1),
        term: shared.store.term(),
        clock_ns: 0,
        nonce: "0".to_owned(),
        grant: None,
        store,
        moves: Vec::new(),
        sent_at: shared.now(),
    };
    if let Some(granted) = granted {
        node.lease_until = Some(node.lease_until.map_or(granted.end, |old| old.max(granted.end)));
        node.lease_nonce = Some(granted.nonce.clone());
        question.lease_ms = granted.lease_ms;
        question.clock_ns = granted.clock_ns;
        question.nonce = granted.nonce;
        question.grant = granted.grant;
    }
    let asked = planner::moving::asked(&state.plan, &state.record, &state.observed, id);
    for asked in asked {
        if let Asked::Do(ordered) = &asked {
            // Of another term it would not be obeyed, and nothing may count on it.
            if ordered.term != question.term {
                continue;
            }
            planner::moves::ordered(&mut state.observed.attempts, ordered, question.sent_at);
        }
        question.moves.push(asked);
    }
    Some(question)
}

/// The answer in `value`.
pub(super) fn read(
    cluster: &Cluster,
    question: &Question,
    value: &Value,
) -> Result<Seen, ClientError> {
    let received_at = cluster.shared.now();
    let text = value.as_str().ok_or(ClientError::Unexpected { command: "CLUSTERX HEARTBEAT" })?;
    let reply = Reply::parse(text).map_err(|error| ClientError::Node(error.to_string()))?;
    Ok(Seen { reply, sent_at: question.sent_at, received_at })
}

/// Asks a node how it is, without leading it by that, and writes down what it says (rule O3).
pub(super) fn observed(
    cluster: &Arc<Cluster>,
    id: &str,
    sent_at: Time,
    value: &Value,
) -> Result<(), ClientError> {
    let unexpected = || ClientError::Unexpected { command: "CLUSTERX OBSERVE" };
    let told = value.as_str().and_then(Told::parse).ok_or_else(unexpected)?;
    let question = Question {
        master: String::new(),
        lease_ms: 0,
        term: 0,
        clock_ns: 0,
        nonce: String::new(),
        grant: None,
        store: None,
        moves: Vec::new(),
        sent_at,
    };
    let seen = read(cluster, &question, value)?;
    answered(cluster, id, &question, seen, false);
    let heard_at = told
        .heard_ms
        .map(|ms| Time::from_nanos(sent_at.nanos().saturating_sub(ms.saturating_mul(1_000_000))));
    if let Some(node) = cluster.state.lock().seen_of(id) {
        let store = told.store.store();
        node.led = Some(Led { term: told.term, heard_at, at: sent_at, store });
    }
    Ok(())
}

/// The first question on a connection: whether the node knows stores by name, and from which one it
/// is led. It changes nothing there. Nodes of earlier versions do not know the question,
/// or say nothing of stores. One that cannot answer now may know: it is not led by less than its
/// store's name.
pub(super) async fn meet(connection: &mut Connection) -> Result<Heeds, ClientError> {
    match connection.command(&["CLUSTERX", "OBSERVE"]).await {
        Ok(value) => Ok(heeds(&value)),
        Err(ClientError::Node(why)) if is_not_known(&why) => Ok(Heeds::Unsaid),
        Err(error) => Err(error),
    }
}

/// What a node says to a question that it does not know.
fn is_not_known(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    ["clusterx command", "unknown", "wrong number", "syntax"].iter().any(|word| why.contains(word))
}

/// The same from an answer to that question.
pub(super) fn heeds(value: &Value) -> Heeds {
    value.as_str().and_then(Told::parse).map_or(Heeds::Unsaid, |told| told.store)
}

/// Writes an answer down, and has the cluster planned if that is news to it. An older one than the
/// newest is none.
pub(super) fn answered(
    cluster: &Cluster,
    id: &str,
    question: &Question,
    seen: Seen,
    is_relayed: bool,
) {
    let (mut is_news, rests);
    {
        let mut state = cluster.state.lock();
        let is_own = !planner::is_stranger(&state.record, id, &seen.reply);
        let found = state.places.find(&state.record, id);
        let is_master = is_own && found.is_some_and(|(_, node)| node.role == Role::Master);
        let Some(node) = state.seen_of(id) else { return };
        if node.seen.as_ref().is_some_and(|newest| newest.sent_at > seen.sent_at) {
            return;
        }
        let was_confirmed = node.confirmed;
        is_news = is_relayed || planner::is_news(node, &seen.reply);
        if is_master && seen.reply.role == api::heartbeat::Role::Master {
            node.served(&seen.reply);
        }
        if let Some(grant) = question.grant.as_ref().filter(|_| is_own)
            && seen.reply.standing.granted_epoch == grant.epoch
        {
            node.confirmed = Some((grant.epoch, grant.request));
            node.refusal = None;
        }
        is_news |= node.confirmed != was_confirmed;
        node.relayed_at = is_relayed.then_some(seen.received_at);
        let at = seen.received_at;
        let is_unlinked = seen.reply.role == api::heartbeat::Role::Slave
            && seen.reply.link_status != api::heartbeat::LinkStatus::Up;
        node.unlinked_since = is_unlinked.then(|| node.unlinked_since.unwrap_or(at));
        let took_ms = seen.received_at.millis_since(seen.sent_at);
        node.clock_ahead_ms = clock_ahead_ms(seen.reply.wall_ms, took_ms, now_ms());
        node.clock_error_ms = took_ms.div_ceil(2);
        let copies = if is_own { seen.reply.copies.clone() } else { Vec::new() };
        node.saw(seen);
        node.led = None;
        state.observed.heard(id, at);
        for said in copies {
            let state = &mut *state;
            let is_known = state.record.moves.list.iter().any(|one| one.id == said.id);
            if is_known {
                let copied = Copied::after(state.copies.get(&said.id), said, at);
                state.copies.insert(said.id, copied);
            }
        }
        is_news |= state.awaited.remove(id);
        rests = state.rests;
    }
    cluster.seen(is_news, rests);
}

/// Replicas that are down, sorted.
pub(super) fn gone(state: &State, policy: &planner::Policy, now: Time) -> Vec<String> {
    let health = planner::healths(&state.record, &state.observed, policy, now);
    let is_down =
        |node: &&planner::Node| node.role != Role::Master && health(&node.id) == Health::Down;
    let nodes = state.record.nodes().map(|(_, node)| node);
    let mut down: Vec<String> = nodes.filter(is_down).map(|node| node.id.clone()).collect();
    down.sort();
    down
}

/// The command that tells a node which replicas are gone, if it shows others, or none, to its
/// clients. A node that cannot be told says nothing of it.
pub(super) fn news_of_gone(cluster: &Cluster, id: &str) -> Option<Vec<String>> {
    let state = cluster.state.lock();
    let shown = state.observed.nodes.get(id)?.seen.as_ref()?.reply.down.as_ref()?;
    if *shown == state.gone {
        return None;
    }
    let term = cluster.shared.store.term().to_string();
    let words = ["CLUSTERX".to_owned(), "DOWN".to_owned(), term];
    Some(words.into_iter().chain(state.gone.iter().cloned()).collect())
}

/// By how much the node's wall clock, which said `wall_ms`, is ahead of this one, which says
/// `now_ms` now. It was read somewhere between question and answer: an answer that took long says
/// nothing, nor does 0, of a node that tells no time.
fn clock_ahead_ms(wall_ms: u64, took_ms: u64, now_ms: u64) -> Option<i64> {
    if wall_ms == 0 || took_ms > CLOCK_TRIP_MS {
        return None;
    }
    let then_ms = i64::try_from(now_ms.saturating_sub(took_ms / 2)).ok()?;
    Some(i64::try_from(wall_ms).ok()?.saturating_sub(then_ms))
}

/// Whether the node only refused the grant; then it is noted, and the node is asked without one.
pub(super) fn is_refusal(
    cluster: &Cluster,
    id: &str,
    question: &Question,
    error: &ClientError,
) -> bool {
    let ClientError::Node(why) = error else { return false };
    let Some(grant) = question.grant.as_ref().filter(|_| why.starts_with(REFUSED)) else {
        return false;
    };
    let at = cluster.shared.now();
    {
        let mut state = cluster.state.lock();
        if let Some(node) = state.seen_of(id) {
            node.refusal = Some(Refusal { epoch: grant.epoch, at, why: why.clone() });
        }
        // Not to be granted again before the next plan has seen this.
        state.plan.grants.remove(id);
    }
    cluster.wake.notify_one();
    true
}

#[cfg(test)]
mod tests {
    use api::store::StoreId;

    use super::*;

    fn words(store: Option<Said>) -> Vec<String> {
        let question = Question {
            master: "m".to_owned(),
            lease_ms: 1_000,
            term: 7,
            clock_ns: 5,
            nonce: "beef".to_owned(),
            grant: None,
            store,
            moves: Vec::new(),
            sent_at: Time::default(),
        };
        question.words()
    }

    /// A rolling upgrade in either order: an earlier node is asked as before.
    #[test]
    fn a_store_is_said_to_who_knows_the_word() {
        let before = ["CLUSTERX", "HEARTBEAT", "m", "1000", "7", "CLOCK", "5", "beef"];
        let (own, other) = (StoreId { name: 1, generation: 2 }, StoreId { name: 3, generation: 4 });
        let to = |said: &str| words(Said::to(own, [other], heeds(&Value::Bulk(said.into()))));
        for said in ["OK", "term:7\r\n", "term:7\r\nstore:nonsense\r\n"] {
            assert_eq!(to(said), before, "{said}");
        }
        let named = [&before[..], &["STORE", "0000000000000001", "2"]].concat();
        for said in ["term:7\r\nstore:-\r\n", "term:7\r\nstore:0000000000000003/9\r\n"] {
            assert_eq!(to(said), named, "{said}");
        }
        let heir = [&named[..], &["FOR", "0000000000000003", "4"]].concat();
        assert_eq!(to("term:7\r\nstore:0000000000000003/4\r\n"), heir);
    }

    #[test]
    fn a_node_that_cannot_answer_now_is_not_taken_for_one_of_before() {
        for why in [
            "ERR CLUSTERX command, CLUSTERX VERSION|MYID|SETNODEID|SETNODES|SETSLOT|MIGRATE",
            "ERR unknown command 'CLUSTERX', with args beginning with: 'OBSERVE'",
            "ERR Wrong number of arguments",
        ] {
            assert!(is_not_known(why), "{why}");
        }
        for why in [
            "LOADING kvrocks is restoring the db from backup",
            "ERR max number of clients reached",
            "NOAUTH Authentication required.",
        ] {
            assert!(!is_not_known(why), "{why}");
        }
    }

    #[test]
    fn a_clock_is_compared_with_the_middle_of_question_and_answer() {
        const NOW: u64 = 1_790_000_000_000;
        assert_eq!(clock_ahead_ms(NOW, 0, NOW), Some(0));
        assert_eq!(clock_ahead_ms(NOW - 50, 100, NOW), Some(0));
        assert_eq!(clock_ahead_ms(NOW + 3_600_000, 100, NOW), Some(3_600_050));
        assert_eq!(clock_ahead_ms(NOW - 3_600_000, 200, NOW), Some(-3_599_900));
        // It may have been read at any moment of so long a time.
        assert_eq!(clock_ahead_ms(NOW, 201, NOW), None);
        assert_eq!(clock_ahead_ms(0, 1, NOW), None);
        assert_eq!(clock_ahead_ms(u64::MAX, 1, NOW), None);
    }
}
