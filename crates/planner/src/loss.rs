//! The end of a shard's loss: nobody holds what the in-sync set acknowledged, and an operator says
//! which node goes on.
//!
//! Nothing here happens by itself. If a node answers as a member of the set, the loss is over: then
//! nothing is lost, and nothing may be given up. The old master is fenced as in any failover; the
//! node goes on in a new epoch whose set names its data alone, so data of the old members counts
//! for nothing any more, wherever it turns up.

use api::grant::Member;
use api::heartbeat::Reply;
use api::moves::{MoveId, Slots};

use crate::balance::joined;
use crate::candidate::Candidate;
use crate::context::{Case, Context, Health};
use crate::draft::Draft;
use crate::epoch::{self, Position};
use crate::queue::Floor;
use crate::takeover;
use crate::verdict::Verdict;
use crate::{Intent, Node, Observed, Plan, Policy, Record, Shard, ShardState, Time};

/// What is known of one member of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberLoss {
    /// Its node, as people know it.
    pub node: String,
    /// Why it does not count: `does not answer`, `no longer holds what it acknowledged`.
    pub why: String,
    /// Newest position it was seen at since this controller began: epoch and sequence.
    pub seen_at: Option<(u64, u64)>,
}

/// What is given up if a node goes on with what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Epoch of the set.
    pub epoch: u64,
    /// Its members; none of them answers with its data.
    pub members: Vec<MemberLoss>,
    /// Where the node that would go on stands: epoch and sequence.
    pub node_at: (u64, u64),
    /// What lies at each node of the shard, as far as it was heard.
    pub holds: Vec<Holding>,
    /// Slots that the node never had.
    pub never_had: Vec<NeverHad>,
}

/// Slots that came to the shard above what a node has: it would serve them as empty (rule M6 of
/// slot moves).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverHad {
    /// The move by which they came.
    pub id: MoveId,
    /// Those of them that the shard still owns.
    pub slots: Slots,
    /// Index of the shard that gave them, as long as it may not have deleted them.
    pub giver: Option<usize>,
}

/// What one node holds, as it said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Its id.
    pub id: String,
    /// `host:port`.
    pub node: String,
    /// It answers.
    pub is_up: bool,
    /// Where its data ends: epoch and sequence.
    pub at: Option<(u64, u64)>,
    /// Where that in its `db.deposed` ends.
    pub deposed: Option<(u64, u64)>,
}

impl Loss {
    /// All slots that the node never had, as ranges that rise.
    pub fn slots_never_had(&self) -> Vec<(u16, u16)> {
        joined(self.never_had.iter().flat_map(|never| never.slots.iter()))
    }

    /// Nodes that answer, and serve more than the node that would go on has: an operator may have
    /// named the empty one.
    pub fn passed_over(&self) -> impl Iterator<Item = &Holding> {
        let is_more = |holding: &&Holding| holding.at.is_some_and(|end| end > self.node_at);
        self.holds.iter().filter(|holding| holding.is_up).filter(is_more)
    }

    /// Nodes that keep in `db.deposed` more than the node that would go on has.
    pub fn overlooked(&self) -> impl Iterator<Item = &Holding> {
        self.holds.iter().filter(|holding| holding.deposed.is_some_and(|end| end > self.node_at))
    }
}

/// What would be given up if `id` of shard `index` went on.
///
/// # Errors
/// Why that is not possible, or not needed.
pub fn loss(
    record: &Record,
    observed: &Observed,
    policy: &Policy,
    index: usize,
    id: &str,
) -> Result<Loss, String> {
    let cx = Context::new(record, observed, policy, Time::default());
    let shard = record.shards.get(index).ok_or("there is no such shard")?;
    if shard.fence.is_some() {
        return Err("a switchover of this shard is under way".to_owned());
    }
    let reply = check(&cx, shard, id)?;
    let position = Position::of(reply);
    let members = shard.epoch.in_sync.iter().map(|member| member_loss(&cx, shard, member));
    Ok(Loss {
        epoch: shard.epoch.number,
        members: members.collect(),
        node_at: (position.epoch, position.sequence),
        holds: shard.nodes.iter().map(|node| holding(&cx, node)).collect(),
        never_had: never_had(record, shard, reply),
    })
}

fn never_had(record: &Record, shard: &Shard, reply: &Reply) -> Vec<NeverHad> {
    let owns = |slot: u16| shard.slot_ranges.iter().any(|&(a, b)| (a..=b).contains(&slot));
    let came = record.moves.came.iter();
    let above = came.filter(|came| came.to == shard.id && !came.floor.is_met(reply));
    let never = above.filter_map(|came| {
        let left = joined(came.slots.iter().filter(|slot| owns(*slot)));
        if left.is_empty() {
            return None;
        }
        // In more pieces than a move has: all of them are named.
        let slots = Slots::new(&left).unwrap_or_else(|_| came.slots.clone());
        let is_under_way = record.moves.list.iter().find(|one| one.id == came.id);
        let giver = is_under_way.and_then(|one| record.place_of(one.from));
        Some(NeverHad { id: came.id, slots, giver })
    });
    never.collect()
}

fn holding(cx: &Context<'_>, node: &Node) -> Holding {
    let reply = cx.reply(&node.id).filter(|reply| reply.myid == node.id);
    let at = reply.map(Position::of).map(|position| (position.epoch, position.sequence));
    Holding {
        id: node.id.clone(),
        node: node.local.to_string(),
        is_up: cx.health(&node.id) == Health::Up,
        at,
        deposed: reply.and_then(|reply| reply.deposed).map(|end| (end.epoch, end.sequence)),
    }
}

/// Data that lies in a `db.deposed` and goes further than what any node of the shard serves: it is
/// told with the command that brings it back.
pub(crate) fn tell_of_deposed(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) {
    let Case { index, shard, .. } = case;
    let holds: Vec<Holding> = shard.nodes.iter().map(|node| holding(cx, node)).collect();
    let furthest = holds.iter().filter_map(|holding| holding.at).max();
    for holding in &holds {
        let Some((epoch, sequence)) = holding.deposed.filter(|end| furthest < Some(*end)) else {
            continue;
        };
        plan.alarms.insert(format!(
            "shard {index}: {} keeps data of epoch {epoch} up to sequence {sequence} in db.deposed, more than any node of the shard \
             has in service: `ctl shard restore-deposed {index} --node {}` brings it back",
            holding.node, holding.id
        ));
    }
}

/// The answer of the node that is to go on.
fn check<'a>(cx: &Context<'a>, shard: &Shard, id: &str) -> Result<&'a Reply, String> {
    let floor = shard.floor.filter(|_| !epoch::by_set(shard));
    if floor.is_none() && !epoch::by_set(shard) {
        return Err("the shard has no in-sync set: any replica may take over".to_owned());
    }
    let node = shard.node(id).ok_or_else(|| format!("node {id} is not of this shard"))?;
    for member in shard.epoch.in_sync.iter() {
        let Some(holder) = epoch::node_of(shard, member) else { continue };
        may_be_gone(cx, holder, *member)?;
    }
    // Without a set it is only what was moved here that holds nodes back.
    for holder in shard.nodes.iter().filter(|_| floor.is_some()) {
        may_lack(cx, holder, floor)?;
    }
    let is_heard = |id: &str| matches!(cx.health(id), Health::Up | Health::Suspect);
    // Also a stranger's answer: it is said to be one.
    let reply = cx.answer(id).filter(|_| is_heard(id) || is_foreign(cx, id));
    let reply = reply.ok_or_else(|| format!("{} does not answer", node.local))?;
    if reply.myid != id || is_foreign(cx, id) {
        return Err(format!("{} answers as another node", node.local));
    }
    if reply.member().is_none() || reply.loading {
        return Err(format!("{} is replacing its data", node.local));
    }
    Ok(reply)
}

/// A member's data is given up only while its process is silent, or has other data by its own
/// account: a heartbeat that is late says nothing, and a disk that takes nothing still holds what
/// it took.
fn may_be_gone(cx: &Context<'_>, holder: &Node, member: Member) -> Result<(), String> {
    if cx.is_mute(&holder.id) {
        return Ok(());
    }
    let name = &holder.local;
    match cx.answer(&holder.id) {
        None => Err(format!("{name} has not been heard of yet: it may hold what was acknowledged")),
        Some(reply) if reply.myid != holder.id || reply.member() != Some(member) => Ok(()),
        Some(_) if is_foreign(cx, &holder.id) => Ok(()),
        Some(_) if cx.hangs(&holder.id) => Err(format!(
            "the disk of {name} takes nothing, but holds what was acknowledged: nothing is lost before its process is stopped"
        )),
        Some(_) => Err(format!("{name} answers and holds what was acknowledged: nothing is lost")),
    }
}

/// What was moved here is given up only while no process that has it is heard.
fn may_lack(cx: &Context<'_>, holder: &Node, floor: Option<Floor>) -> Result<(), String> {
    if cx.is_mute(&holder.id) || is_foreign(cx, &holder.id) {
        return Ok(());
    }
    let name = &holder.local;
    let has = |reply: &Reply| floor.is_none_or(|floor| floor.is_met(reply));
    match cx.answer(&holder.id) {
        None => Err(format!("{name} has not been heard of yet: it may hold what was moved here")),
        Some(reply) if reply.myid == holder.id && has(reply) => {
            Err(format!("{name} answers and holds what was moved here: nothing is lost"))
        }
        Some(_) => Ok(()),
    }
}

fn is_foreign(cx: &Context<'_>, id: &str) -> bool {
    cx.answer(id).is_some_and(|reply| crate::is_stranger(cx.record, id, reply))
}

fn member_loss(cx: &Context<'_>, shard: &Shard, member: &Member) -> MemberLoss {
    let Some(node) = epoch::node_of(shard, member) else {
        let why = "left the shard".to_owned();
        return MemberLoss { node: member.node().to_string(), why, seen_at: None };
    };
    let is_up = !cx.is_mute(&node.id);
    let reply = cx.reply(&node.id).filter(|reply| reply.member() == Some(*member));
    let seen_at = reply.map(Position::of).map(|position| (position.epoch, position.sequence));
    let why = if is_up { "no longer holds what it acknowledged" } else { "does not answer" };
    MemberLoss { node: node.local.to_string(), why: why.to_owned(), seen_at }
}

/// Carries out what the operator asked for, or says why not.
pub(crate) fn decide(
    cx: &Context<'_>,
    case: Case<'_>,
    intent: &Intent,
    plan: &mut Plan,
) -> Verdict {
    let Case { index, shard, master } = case;
    let id = intent.preferred.as_deref().unwrap_or_default();
    let reply = match check(cx, shard, id) {
        Ok(reply) => reply,
        Err(why) => return give_up(cx, index, intent, &why),
    };
    if id != master.id {
        let Some(node) = shard.node(id) else {
            return give_up(cx, index, intent, "the node left the shard");
        };
        let position = Position::of(reply);
        let chosen = Candidate { node, position, member: reply.member() };
        let reason = "the loss of its in-sync set was accepted";
        return takeover::take_over(cx, case, &chosen, &[], reason, plan);
    }
    // A process that is not known to live now may be one that the set's own data came back with.
    if !epoch::is_fresh(cx, master) {
        cx.ask(&master.id, plan);
        let text = format!("asking which process of {} runs", master.local);
        return Verdict::waiting(ShardState::Settling(text));
    }
    let mut draft = Draft::of(cx.record, index);
    epoch::open(cx, &mut draft, index, reply, std::iter::empty());
    let number = draft.shard.epoch.number;
    draft.shard.conclude(intent, None);
    let text = format!(
        "shard {index}: epoch {number} for {}: the loss of its in-sync set was accepted",
        master.local
    );
    let mut verdict = Verdict::waiting(ShardState::Settling(text.clone()));
    verdict.swap = Some((draft, text));
    verdict
}

fn give_up(cx: &Context<'_>, index: usize, intent: &Intent, why: &str) -> Verdict {
    let mut draft = Draft::of(cx.record, index);
    draft.shard.conclude(intent, Some(why));
    let mut verdict = Verdict::waiting(ShardState::Settling(why.to_owned()));
    verdict.swap = Some((draft, format!("shard {index}: no loss is accepted: {why}")));
    verdict
}
