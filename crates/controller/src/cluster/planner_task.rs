//! plan → act, for one cluster. Woken by what is seen; nothing slow runs inside the loop except
//! the store, whose answer decides what may be planned next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::store::{Heeds, Said};
use planner::{Action, Pause, Pushed};
use tokio::time::{Instant, sleep_until};

use super::{Cluster, UpdateError, losses, question};
use crate::client;
use crate::events::Event;
use crate::store::StoreError;

/// Longest time a push, pause or unpause may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// Longest time a heartbeat may take by way of a replica.
const RELAY_LIMIT: Duration = Duration::from_millis(1_500);
/// After the store failed, before it is tried again.
const STORE_RETRY: Duration = Duration::from_millis(200);

/// From the beginning of a plan to that of the next, where nothing that was seen meanwhile is news.
const SOON: Duration = Duration::from_millis(10);
/// A plan that takes longer is followed by a rest as long as it took,
const SHORT: Duration = Duration::from_millis(1);
/// but no longer than this.
const REST_MAX: Duration = Duration::from_millis(50);

/// When a plan was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut alarms = BTreeSet::new();
    loop {
        let (actions, wake_at, made) = {
            // Nobody closes it. What is seen while others have their turns is in this plan.
            let _turn = cluster.shared.turns.acquire().await;
            let began = Instant::now();
            let (actions, wake_at) = step(&cluster, &mut alarms);
            (actions, wake_at, Made { began, ended: Instant::now() })
        };
        let mut swap = None;
        for action in actions {
            match action {
                Action::CompareAndSwap { record, reason } => swap = Some((record, reason)),
                other => act(&cluster, other),
            }
        }
        if let Some((record, reason)) = swap {
            cluster.state.lock().plan_due = None;
            commit(&cluster, *record, &reason).await;
            continue;
        }
        due(&cluster, cluster.shared.instant(wake_at), made).await;
    }
}

/// Waits until the next plan is to be made: at once where there is news, and `at` the latest.
pub(super) async fn due(cluster: &Cluster, at: Instant, Made { began, ended }: Made) {
    let soon = async {
        cluster.soon.notified().await;
        sleep_until(began + SOON).await;
    };
    tokio::select! {
        () = cluster.wake.notified() => {}
        () = soon => {}
        () = sleep_until(at) => {}
    }
    let took = ended - began;
    if took >= SHORT {
        // A plan of very many shards keeps heartbeats of its cluster from what it looks at.
        sleep_until(ended + took.min(REST_MAX)).await;
    }
}

/// Plans, and puts into force what must not lag behind the plan: leases, pushes and pauses that
/// are under way, what balancers are told.
fn step(cluster: &Arc<Cluster>, alarms: &mut BTreeSet<String>) -> (Vec<Action>, planner::Time) {
    let shared = &cluster.shared;
    let now = shared.now();
    let mut state = cluster.state.lock();
    state.observed.fresh_id = rand::random();
    state.observed.authority = shared.authority();
    let mut plan = planner::plan(&state.record, &state.observed, &shared.policy, now);
    // What is no news by itself ([`planner::is_news`]) is looked at then.
    let beat = now.plus_millis(shared.policy.heartbeat_ms);
    state.rests = planner::rests(&state.record, &plan, beat);
    state.gone = question::gone(&state, &shared.policy, now);
    state.awaited.extend(planner::awaited(&plan));
    let actions = std::mem::take(&mut plan.actions);
    planner::moving::note(&mut state.observed, &plan, now);
    let version = state.record.version;
    for action in &actions {
        match action {
            Action::Push { node, .. } => {
                state.observed.nodes.entry(node.clone()).or_default().pushing = Some(version);
            }
            Action::Pause { node, for_ms, intent } => {
                state.observed.nodes.entry(node.clone()).or_default().pause = Some(Pause {
                    intent: intent.clone(),
                    sent_at: now,
                    for_ms: *for_ms,
                    acked_at: None,
                    error: None,
                });
            }
            // Not asked for twice: the pause has a bound of its own.
            Action::Unpause { node, .. } => {
                state.observed.nodes.entry(node.clone()).or_default().pause = None;
            }
            Action::ApplyBalancers(desired) => state.observed.desired = Some(desired.clone()),
            Action::Relay { node, .. } => {
                state.observed.nodes.entry(node.clone()).or_default().relaying = Some(now);
            }
            Action::HeartbeatNow { .. } | Action::CompareAndSwap { .. } => {}
        }
    }
    plan.alarms.extend(planner::silent(&state.record, &state.observed, &shared.policy));
    let raised: Vec<String> = plan.alarms.difference(alarms).cloned().collect();
    let over: Vec<String> = alarms.difference(&plan.alarms).cloned().collect();
    alarms.clone_from(&plan.alarms);
    let wake_at = plan.wake_at.map_or(beat, |at| at.min(beat));
    state.plan = plan;
    state.plan_due = Some(wake_at);
    drop(state);
    for text in raised {
        if note(cluster, "alarm", text.clone()) {
            tracing::warn!(cluster = %cluster.label(), "{text}");
        }
    }
    for text in over {
        if note(cluster, "over", text.clone()) {
            tracing::info!(cluster = %cluster.label(), "over: {text}");
        }
    }
    (actions, wake_at)
}

/// Writes an event without waiting for the disk; false if it repeats another, and is only counted.
pub(super) fn note(cluster: &Arc<Cluster>, kind: &'static str, text: String) -> bool {
    let event = Event::now(cluster.shared.store.term(), cluster.label(), kind, text);
    cluster.shared.journal.add(event)
}

async fn commit(cluster: &Arc<Cluster>, record: planner::Record, reason: &str) {
    let before = cluster.record();
    let kinds = Kinds::of(&before, &record);
    let kind = kinds.word(&before, &record);
    tracing::info!(cluster = %cluster.label(), version = record.version, kind, "{reason}");
    let promoted = record.version;
    let lost = losses::of(cluster, &record);
    let term = cluster.shared.store.term();
    let told = format!("{reason}{}", losses::unknown(cluster, &record));
    let event = Event::now(term, cluster.label(), kind, told);
    match cluster.swap(record, event, lost).await {
        Ok(after) => {
            let counters = &cluster.shared.counters;
            counters.record_changes.add(1);
            if promoted != before.version {
                counters.topology_changes.add(1);
            }
            counters.failovers.add(kinds.failovers);
            counters.switchovers.add(kinds.switchovers);
            if before.moves != after.moves {
                count_moves(cluster, &before, &after);
            }
        }
        // A faster writer has put the newer record into force, or is about to.
        Err(UpdateError::Store(StoreError::Conflict)) => tokio::task::yield_now().await,
        Err(error) => {
            tracing::error!(cluster = %cluster.label(), %error, "change the record");
            tokio::time::sleep(STORE_RETRY).await;
        }
    }
}

/// Moves that are over by this change, and slots that changed their owner.
fn count_moves(cluster: &Cluster, before: &planner::Record, after: &planner::Record) {
    let counters = &cluster.shared.counters;
    let newest = before.moves.done.last().map_or(0, |past| past.id.0);
    let is_new = |past: &&planner::moves::Past| {
        past.id.0 > newest || before.moves.list.iter().any(|one| one.id == past.id)
    };
    for past in after.moves.done.iter().filter(is_new) {
        match past.error {
            None => counters.moves_done.add(1),
            Some(_) => counters.moves_given_up.add(1),
        }
    }
    let is_owned = |one: &&planner::moves::Move| one.phase.word() == "owned";
    let was_owned = |id| before.moves.list.iter().any(|old| old.id == id && is_owned(&old));
    let given = after.moves.list.iter().filter(is_owned).filter(|one| !was_owned(one.id));
    counters.slots_moved.add(given.map(|one| one.slots.iter().count() as u64).sum());
}

/// How many shards a change replaces the master of, by force and as asked; a switchover that is
/// given up counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kinds {
    failovers: u64,
    switchovers: u64,
}

impl Kinds {
    fn of(before: &planner::Record, after: &planner::Record) -> Self {
        let mut kinds = Self::default();
        for (old, new) in before.shards.iter().zip(&after.shards) {
            let master = |shard: &planner::Shard| shard.master().map(|node| node.id.clone());
            let is_asked_for = old.intent.is_some() || old.fence.is_some() || new.fence.is_some();
            match (master(old) != master(new), is_asked_for) {
                (true, true) => kinds.switchovers += 1,
                (true, false) => kinds.failovers += 1,
                // Given up.
                (false, _) if old.intent.is_some() && new.intent.is_none() => {
                    kinds.switchovers += 1;
                }
                (false, _) => {}
            }
        }
        kinds
    }

    /// What the change is in the log of events: of several, what matters most.
    fn word(self, before: &planner::Record, after: &planner::Record) -> &'static str {
        match (self.failovers, self.switchovers) {
            (1.., _) => "failover",
            (0, 1..) => "switchover",
            (0, 0) if before.moves != after.moves => "move",
            (0, 0) => "change",
        }
    }
}

fn act(cluster: &Arc<Cluster>, action: Action) {
    match action {
        Action::HeartbeatNow { node } => {
            if let Some(task) = cluster.state.lock().nodes.get(&node) {
                task.now.notify_one();
            }
        }
        Action::Relay { node, via } => {
            tokio::spawn(relay(Arc::clone(cluster), node, via));
        }
        Action::Push { node, reason } => {
            tracing::info!(cluster = %cluster.label(), node, "push the topology: {reason}");
            let cluster = Arc::clone(cluster);
            tokio::spawn(async move {
                let is_urgent = || is_taking_over(&cluster, &node);
                let work = push(Arc::clone(&cluster), node.clone());
                cluster.shared.pushes.run(cluster.changes(), is_urgent, work).await;
            });
        }
        Action::ApplyBalancers(desired) => {
            tracing::info!(cluster = %cluster.label(), version = desired.version, "tell balancers");
            cluster.desired.send_replace(Some(desired));
        }
        Action::Pause { node, for_ms, intent } => {
            tracing::info!(cluster = %cluster.label(), node, for_ms, "pause writes");
            tokio::spawn(pause(Arc::clone(cluster), node, for_ms, intent));
        }
        Action::Unpause { node, reason } => {
            tracing::info!(cluster = %cluster.label(), node, "lift the pause: {reason}");
            tokio::spawn(unpause(Arc::clone(cluster), node));
        }
        // Handled by the loop.
        Action::CompareAndSwap { .. } => {}
    }
}

/// A master that does not know it yet: its shard waits for that.
fn is_taking_over(cluster: &Cluster, id: &str) -> bool {
    let state = cluster.state.lock();
    let is_master = |node: &planner::Node| node.role == planner::Role::Master;
    let seen = state.observed.node(id).seen.as_ref();
    state.places.find(&state.record, id).is_some_and(|(_, node)| is_master(node))
        && seen.is_some_and(|seen| seen.reply.role == api::heartbeat::Role::Slave)
}

async fn push(cluster: Arc<Cluster>, id: String) {
    let found = {
        let state = cluster.state.lock();
        // While it waited for its turn.
        let found = state.places.find(&state.record, &id).filter(|_| !state.deleted);
        let node = found.map(|(_, node)| node.local.clone());
        let reply = state.observed.node(&id).seen.as_ref().map(|seen| &seen.reply);
        let is_named = reply.is_some_and(|reply| reply.myid == id);
        let is_nameless = reply.is_some_and(|reply| reply.is_nameless());
        let cluster_id = Some(state.record.cluster_id.clone());
        let cluster_id = cluster_id.filter(|name| is_nameless && !name.is_empty());
        let (password, topology) = (state.record.password.clone(), Arc::clone(&state.topology));
        let text = Arc::clone(topology.text_for(reply));
        node.map(|local| (local, (is_named, cluster_id), password, (topology.version, text)))
    };
    let Some((local, (is_named, cluster_id), password, topology)) = found else { return };
    let (pushed, text) = topology;
    let version = pushed.to_string();
    let mut commands = vec![("CLUSTERX SETNODES", vec!["CLUSTERX", "SETNODES", &text, &version])];
    // Each of the two is a durable write on the node, and a takeover waits for it. A node that lost
    // its id since it was asked finds itself in the topology by its address.
    if !is_named {
        commands.insert(0, ("CLUSTERX SETNODEID", vec!["CLUSTERX", "SETNODEID", &id]));
    }
    if let Some(name) = &cluster_id {
        commands.push(("CLUSTERX SETCLUSTERID", vec!["CLUSTERX", "SETCLUSTERID", name]));
    }
    let under = named_by(&cluster, &id);
    let commands = commands.into_iter().map(|command| named(&under, command));
    let commands: Vec<_> = commands.collect();
    let result =
        client::once((&local, &cluster.shared.tls), password.as_deref(), &commands, COMMAND_LIMIT)
            .await;
    cluster.shared.counters.pushes.add(1);
    {
        let mut state = cluster.state.lock();
        let now = cluster.shared.now();
        if let Some(node) = state.seen_of(&id) {
            node.pushing = None;
            match &result {
                Ok(()) => {
                    node.pushed = Some(Pushed { version: pushed, at: now });
                    node.push_failed_at = None;
                }
                Err(_) => node.push_failed_at = Some(now),
            }
        }
        if let Some(task) = state.nodes.get(&id) {
            task.now.notify_one();
        }
    }
    if let Err(error) = result {
        tracing::warn!(cluster = %cluster.label(), node = id, %error, "push the topology");
        note(&cluster, "failed", format!("push version {version} to {local}: {error}"));
    }
    cluster.wake.notify_one();
}

/// Reaches a master through one of its replicas, which passes the heartbeat on (rule R9).
async fn relay(cluster: Arc<Cluster>, id: String, via: String) {
    let (Some((local, password)), Some(question)) =
        (address(&cluster, &via), question::ask(&cluster, &id, heeds(&cluster, &id)))
    else {
        return;
    };
    let words = question.words();
    let mut arguments = vec!["CLUSTERX", "RELAY", &id];
    arguments.extend(words.iter().map(String::as_str).skip(1));
    let exchange = async {
        let mut connection =
            client::Connection::open(&local, password.as_deref(), &cluster.shared.tls).await?;
        connection.command(&arguments).await
    };
    let answer = tokio::time::timeout(RELAY_LIMIT, exchange).await;
    let read = match answer {
        Ok(Ok(value)) => question::read(&cluster, &question, &value),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(client::ClientError::Timeout(RELAY_LIMIT)),
    };
    match read {
        Ok(seen) => question::answered(&cluster, &id, &question, seen, true),
        Err(error) => {
            tracing::debug!(cluster = %cluster.label(), node = id, via, %error, "relay a heartbeat");
        }
    }
}

async fn pause(cluster: Arc<Cluster>, id: String, for_ms: u64, intent: String) {
    let Some((local, password)) = address(&cluster, &id) else { return };
    let bound = for_ms.to_string();
    let under = named_by(&cluster, &id);
    let command = ("CLIENT PAUSE", vec!["CLIENT", "PAUSE", &bound, "WRITE"]);
    let command = [named(&under, command)];
    let result =
        client::once((&local, &cluster.shared.tls), password.as_deref(), &command, COMMAND_LIMIT)
            .await;
    {
        let mut state = cluster.state.lock();
        let now = cluster.shared.now();
        let pause = state.seen_of(&id).and_then(|node| node.pause.as_mut());
        if let Some(pause) = pause.filter(|pause| pause.intent == intent) {
            match result {
                Ok(()) => pause.acked_at = Some(now),
                Err(error) => pause.error = Some(error.to_string()),
            }
        }
        if let Some(task) = state.nodes.get(&id) {
            task.now.notify_one();
        }
    }
    cluster.wake.notify_one();
}

async fn unpause(cluster: Arc<Cluster>, id: String) {
    let Some((local, password)) = address(&cluster, &id) else { return };
    let under = named_by(&cluster, &id);
    let command = [named(&under, ("CLIENT UNPAUSE", vec!["CLIENT", "UNPAUSE"]))];
    if let Err(error) =
        client::once((&local, &cluster.shared.tls), password.as_deref(), &command, COMMAND_LIMIT)
            .await
    {
        tracing::warn!(cluster = %cluster.label(), node = id, %error, "lift the pause");
    }
}

/// From which store the node is led, as it said last.
fn heeds(cluster: &Cluster, id: &str) -> Heeds {
    let state = cluster.state.lock();
    let seen = state.observed.node(id).seen.as_ref();
    seen.map_or(Heeds::Unsaid, |seen| seen.reply.standing.store)
}

/// Words in front of a command to the node that say under which term, and from which store, it is
/// said: none for an older node of a controller that shares its store with nobody.
pub(crate) fn named_by(cluster: &Cluster, id: &str) -> Vec<String> {
    let heeds = heeds(cluster, id);
    let said = {
        let state = cluster.state.lock();
        planner::said(&state.record, &state.observed, heeds)
    };
    if cluster.shared.lead.is_none() && said.is_none() {
        return Vec::new();
    }
    let term = cluster.shared.store.term().to_string();
    let words = ["CLUSTERX".to_owned(), "AS".to_owned(), term];
    words.into_iter().chain(said.iter().flat_map(Said::words)).collect()
}

/// The command under this controller's term, where others may lead: a node refuses a term lower
/// than one it has seen, so what an older leader sent arrives behind its successor's for nothing
/// (rule O5), and so for its store (O7).
fn named<'a>(
    under: &'a [String],
    (name, words): (&'static str, Vec<&'a str>),
) -> (&'static str, Vec<&'a str>) {
    if under.is_empty() {
        return (name, words);
    }
    let rest = words.into_iter().skip(1);
    (name, under.iter().map(String::as_str).chain(rest).collect())
}

fn address(cluster: &Cluster, id: &str) -> Option<(topology::Endpoint, Option<String>)> {
    let state = cluster.state.lock();
    let (_, node) = state.places.find(&state.record, id)?;
    Some((node.local.clone(), state.record.password.clone()))
}
