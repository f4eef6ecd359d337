//! What a move waits for, for people: which nodes and shards that is about, and what is missing.
//!
//! Nothing is decided by it. The words that a move waits by ([`Moved::waits_for`]) stay the same as
//! long as it waits; what may change meanwhile is said behind them.

use api::heartbeat::{Reply, Room};
use api::moves::Brake;

use super::flows;
use super::reached::unled;
use crate::moves::{
    A_SHORT_STOP, ANSWERS, AS_ASKED, CLOCKS, GIVERS_REPLICAS, KNOWING_NODES, LED_TO, Move, Moved,
    Moves, NUMBERS, ROOM, SWITCHOVER, TAKERS_REPLICAS, THE_COPY,
};
use crate::{Node, Observed, Record, Shard, ShardId};

/// What changes all the time is told in such steps, bytes: an alarm whose words change is told
/// anew.
const STEP: u64 = 500_000_000;

/// What the move waits for, with what it is about.
pub fn waits_for(record: &Record, observed: &Observed, one: &Move, sign: &Moved) -> String {
    format!("{}{}", sign.waits_for, behind(record, observed, one, sign))
}

/// What is said behind what the move waits for.
pub(super) fn behind(record: &Record, observed: &Observed, one: &Move, sign: &Moved) -> String {
    let words = sign.waits_for.as_str();
    if words.is_empty() || AS_ASKED.contains(&words) {
        return String::new();
    }
    let about = about(record, observed, one, words).filter(|about| !about.is_empty());
    about.map(|about| format!(" ({about})")).unwrap_or_default()
}

/// A shard of a move, and what its master said last.
struct Side<'a> {
    place: usize,
    shard: &'a Shard,
    reply: Option<&'a Reply>,
}

impl<'a> Side<'a> {
    fn of(record: &'a Record, observed: &'a Observed, id: ShardId) -> Option<Self> {
        let place = record.place_of(id)?;
        let shard = record.shards.get(place)?;
        let seen = shard.master().and_then(|master| observed.node(&master.id).seen.as_ref());
        Some(Self { place, shard, reply: seen.map(|seen| &seen.reply) })
    }

    fn called(&self, node: &Node) -> String {
        format!("{} of shard {}", node.local, self.place)
    }

    /// Its master.
    fn name(&self) -> String {
        match self.shard.master() {
            Some(master) => self.called(master),
            None => format!("shard {}, which has no master", self.place),
        }
    }

    /// Its replicas.
    fn replicas(&self) -> String {
        let names: Vec<String> = self.shard.replicas().map(|node| self.called(node)).collect();
        names.join(", ")
    }

    /// The master answers as the record has it, and is not to be fenced first.
    fn answers(&self) -> bool {
        let epoch = &self.shard.epoch;
        let is_granted = |reply: &Reply| {
            let standing = &reply.standing;
            reply.nonce == epoch.nonce
                && standing.granted_epoch == epoch.number
                && standing.history_epoch == epoch.number
                && standing.history_id == Some(epoch.id)
        };
        !epoch.is_none() && self.shard.fence.is_none() && self.reply.is_some_and(is_granted)
    }

    fn knows_moves(&self) -> bool {
        self.reply.is_some_and(|reply| reply.moves.is_some())
    }

    /// It knows of no move above those that a store gave.
    fn leaves_numbers(&self) -> bool {
        let newest = self.reply.and_then(|reply| reply.newest_move);
        newest.is_none_or(|newest| newest <= Moves::KNOWN_MAX)
    }
}

fn about(record: &Record, observed: &Observed, one: &Move, words: &str) -> Option<String> {
    let giver = Side::of(record, observed, one.from);
    let taker = Side::of(record, observed, one.to);
    let both: Vec<&Side<'_>> = [&giver, &taker].into_iter().flatten().collect();
    let all = || both.iter().map(|side| side.name()).collect::<Vec<_>>().join(", ");
    // Those that it is about, or both, where it may have been mended since.
    let those = |is_meant: fn(&Side<'_>) -> bool| {
        let meant = both.iter().filter(|side| is_meant(side));
        let meant: Vec<String> = meant.map(|side| side.name()).collect();
        if meant.is_empty() { all() } else { meant.join(", ") }
    };
    Some(match words {
        ANSWERS => those(|side| !side.answers()),
        SWITCHOVER => those(|side| side.shard.intent.is_some()),
        KNOWING_NODES => those(|side| !side.knows_moves()),
        ROOM => {
            let taker = taker.as_ref()?;
            no_place(observed, one, taker).unwrap_or_else(|| taker.name())
        }
        LED_TO => led_to(record, observed, taker.as_ref()?)?,
        THE_COPY => copy(record, observed, one, (giver.as_ref()?, taker.as_ref()?)),
        A_SHORT_STOP => all(),
        GIVERS_REPLICAS => giver.as_ref()?.replicas(),
        TAKERS_REPLICAS => taker.as_ref()?.replicas(),
        _ if words.starts_with(NUMBERS) => those(|side| !side.leaves_numbers()),
        _ if words.starts_with(CLOCKS) => all(),
        _ if words.starts_with("the giver") => giver.as_ref()?.name(),
        // What is in the way of a copy is found at the taker.
        _ => taker.as_ref()?.name(),
    })
}

/// Who brings what to whom, and whether room is what stops it.
fn copy(
    record: &Record,
    observed: &Observed,
    one: &Move,
    (giver, taker): (&Side<'_>, &Side<'_>),
) -> String {
    let flow = flows::flow(record, observed, one, (one.to, true));
    if flow.and_then(|flow| flow.brake) != Some(Brake::Room) {
        return format!("{} takes it from {}", taker.name(), giver.name());
    }
    if let Some(text) = no_place(observed, one, taker) {
        return text;
    }
    // Its disk has room, if it says so: then it is the database's own bound.
    let name = taker.name();
    let (lacks, more) = match taker.reply.and_then(|reply| reply.room) {
        Some(_) => ("below its `max-db-size`", "raise that"),
        None => ("on its disk, or below its `max-db-size`", "make room there or raise that"),
    };
    let comes = coming(one, taker).map(|bytes| format!(" for about {} MB", up(bytes)));
    let comes = comes.unwrap_or_default();
    format!("{name} lacks room {lacks}{comes}: {more}, {}", back(one))
}

/// Which balancers do not lead to the taker.
fn led_to(record: &Record, observed: &Observed, taker: &Side<'_>) -> Option<String> {
    let master = taker.shard.master()?;
    let unled: Vec<&str> = unled(record, observed, master).map(|one| one.name.as_str()).collect();
    Some(match unled.is_empty() {
        true => taker.name(),
        false => format!("{}: not so {}", taker.name(), unled.join(", ")),
    })
}

/// The node of the taking shard whose disk lacks most, and what to do; `None` if none lacks any.
fn no_place(observed: &Observed, one: &Move, taker: &Side<'_>) -> Option<String> {
    let lacking = |node: &Node| {
        let room: Room = observed.node(&node.id).seen.as_ref()?.reply.room?;
        let lacks = room.kept_from_guests().checked_sub(room.free).filter(|lacks| *lacks > 0)?;
        Some((lacks, room, taker.called(node)))
    };
    let (_, room, called) =
        taker.shard.nodes.iter().filter_map(lacking).max_by_key(|(lacks, ..)| *lacks)?;
    let free = match room.free / STEP * STEP {
        0 => format!("less than {} MB", STEP / 1_000_000),
        free => format!("over {} MB", free / 1_000_000),
    };
    let kept = room.kept_from_guests().div_ceil(1_000_000);
    let needed = match coming(one, taker).map(up) {
        Some(mb) => format!(
            "{} MB are needed: {kept} MB that guests leave, and about {mb} MB that come",
            kept.saturating_add(mb)
        ),
        None => format!("{kept} MB that guests leave are needed, and what comes"),
    };
    Some(format!("{called} has {free} free, and {needed}: make room there, {}", back(one)))
}

/// What is still to come: of a copy under way as the taker tells, else what was guessed of it when
/// it was queued.
fn coming(one: &Move, taker: &Side<'_>) -> Option<u64> {
    let copies = taker.reply.map(|reply| reply.copies.iter());
    let progress = copies.into_iter().flatten().find(|progress| progress.id == one.id);
    let left = progress.and_then(|copy| Some(copy.of_bytes?.saturating_sub(copy.bytes)));
    left.or(one.bytes)
}

/// In MB, and rounded where there are many.
fn up(bytes: u64) -> u64 {
    match bytes < STEP {
        true => bytes.div_ceil(1_000_000),
        false => bytes.div_ceil(STEP).saturating_mul(STEP / 1_000_000),
    }
}

fn back(one: &Move) -> String {
    format!("or take the move back with `ctl moves cancel {}`", one.id)
}
