//! Carries errands out: asks the controller for moves, gives some up and pauses others; and says in
//! the end where everything is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value as Json, json};

use super::errands::{Errand, Then, block};
use super::keys::{Key, Kind, Ranges, range, slot};
use super::rest::{self, CLUSTER, Control};
use super::timeline::Timeline;
use crate::wait;

const TICK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(1);

/// What an operator does at some time.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Begin(Errand),
    Cancel(u64),
    Pause(u64, bool),
}

/// The operator, on a thread of its own.
#[derive(Debug)]
pub struct Movers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Movers {
    /// Asks these controllers; `slots` are those that each shard began with.
    pub fn start(
        control: &Control,
        errands: &[Errand],
        slots: &[Ranges],
        timeline: &Timeline,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (control, stopped) = (control.clone(), Arc::clone(&stop));
        let deeds = (0..).zip(errands).map(|(number, errand)| {
            let at = timeline.clock().now() / 1_000_000 + errand.at_ms;
            ((at, number), Deed::Begin(*errand))
        });
        let mover =
            Mover { timeline: timeline.clone(), slots: slots.to_vec(), due: deeds.collect() };
        let thread = std::thread::spawn(move || mover.run(&control, &stopped));
        Self { stop, thread }
    }

    /// Nothing more begins.
    pub fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the mover panicked"))?
    }
}

struct Mover {
    timeline: Timeline,
    slots: Vec<Ranges>,
    /// By time, ms since the start of the timeline, and a number that tells them apart.
    due: BTreeMap<(u64, usize), Deed>,
}

impl Mover {
    fn run(mut self, control: &Control, stop: &AtomicBool) -> Result<()> {
        let client = rest::Client::new(control, PATIENCE)?;
        while !stop.load(Ordering::Relaxed) {
            let now = self.timeline.clock().now() / 1_000_000;
            while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
                let deed = entry.remove();
                let said = self.carry_out(&client, deed, now);
                self.timeline.note(match said {
                    Ok(text) => format!("mover: {text}"),
                    Err(error) => format!("mover: {deed:?}: {error:#}"),
                });
            }
            wait::pause(TICK);
        }
        Ok(())
    }

    fn carry_out(&mut self, client: &rest::Client, deed: Deed, now: u64) -> Result<String> {
        match deed {
            Deed::Begin(errand) => self.begin(client, &errand, now),
            Deed::Cancel(id) => {
                client.delete(&format!("{CLUSTER}/moves/{id}"))?;
                Ok(format!("move {id} cancelled"))
            }
            Deed::Pause(id, paused) => {
                client.patch(&format!("{CLUSTER}/moves/{id}"), &json!({ "paused": paused }))?;
                Ok(format!("move {id} paused: {paused}"))
            }
        }
    }

    fn begin(&mut self, client: &rest::Client, errand: &Errand, now: u64) -> Result<String> {
        let block = block(self.slots.get(errand.home).context("find a shard")?, errand.block);
        let (first, _) = block.first().context("find a block")?;
        let owners = owners(&client.status()?)?;
        let from = owner(&owners, *first).context("find who has a block")?;
        let to = (from + errand.by) % owners.len();
        let text: Vec<String> = block.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        let body = json!({ "slots": text.join(","), "to": to.to_string() });
        let answer = client.post(&format!("{CLUSTER}/moves"), &body)?;
        let id = answer.pointer("/moves/0/id").and_then(Json::as_u64).context("read its number")?;
        let next = self.due.keys().map(|(_, number)| number + 1).max().unwrap_or_default();
        match errand.then {
            Then::Nothing => {}
            Then::Cancel(after) => drop(self.due.insert((now + after, next), Deed::Cancel(id))),
            Then::Pause(after, length) => {
                let pause = |paused| Deed::Pause(id, paused);
                self.due.insert((now + after, next), pause(true));
                self.due.insert((now + after + length, next + 1), pause(false));
            }
        }
        Ok(format!(
            "move {id}: {} from shard {from} to {to}, then {:?}",
            text.join(","),
            errand.then
        ))
    }
}

/// The slots of each shard, by the controller's status.
pub fn owners(status: &Json) -> Result<Vec<Ranges>> {
    let shards = status.get("shards").and_then(Json::as_array).context("find the shards")?;
    let ranges = |shard: &Json| -> Option<Ranges> {
        let texts = shard.get("slot_ranges").and_then(Json::as_array)?;
        texts.iter().map(|text| range(text.as_str()?)).collect()
    };
    shards.iter().map(|shard| ranges(shard).context("read the slots of a shard")).collect()
}

/// The shard that has a slot.
pub fn owner(owners: &[Ranges], slot: u16) -> Option<usize> {
    owners.iter().position(|ranges| ranges.iter().any(|(a, b)| (*a..=*b).contains(&slot)))
}

/// Keys as these shards have them. A channel is no key: it stays where it was.
pub fn at_home(keys: &[Key], owners: &[Ranges]) -> Vec<Key> {
    let place = |key: &Key| match key.kind {
        Kind::Channel => key.shard,
        _ => owner(owners, slot(key.name.as_bytes())).unwrap_or(key.shard),
    };
    keys.iter().map(|key| Key { shard: place(key), ..key.clone() }).collect()
}

/// What moves came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The slots are where they were to go.
    pub done: u64,
    /// By an operator.
    pub cancelled: u64,
    /// For another reason; most of them begin anew.
    pub given_up: u64,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.cancelled += other.cancelled;
        self.given_up += other.given_up;
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { done, cancelled, given_up } = self;
        write!(f, "moves: {done} done, {cancelled} cancelled, {given_up} given up")
    }
}

/// Resumes what is paused; what all came to, once no move is queued or under way.
pub fn end(control: &Control) -> Result<Outcome> {
    control.once(PATIENCE, |client| {
        let answer = client.get(&format!("{CLUSTER}/moves"))?;
        let list = answer.get("moves").and_then(Json::as_array).context("find the moves")?;
        for one in list.iter().filter(|one| one["paused"] == true) {
            client.patch(&format!("{CLUSTER}/moves/{}", one["id"]), &json!({ "paused": false }))?;
        }
        ensure!(list.is_empty(), "{}", json!(list));
        outcome(&answer)
    })
}

fn outcome(moves: &Json) -> Result<Outcome> {
    let done = moves.get("done").and_then(Json::as_array).context("find the moves")?;
    let count = |is: fn(Option<&str>) -> bool| {
        done.iter().filter(|past| is(past["error"].as_str())).count() as u64
    };
    Ok(Outcome {
        done: count(|error| error.is_none()),
        cancelled: count(|error| error == Some("cancelled")),
        given_up: count(|error| error.is_some_and(|error| error != "cancelled")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_what_is_read_from_the_status() {
        let status = json!({ "shards": [{ "slot_ranges": ["0-5", "9"] }, { "slot_ranges": [] }] });
        let owners = owners(&status).unwrap();
        assert_eq!(owners, [vec![(0, 5), (9, 9)], vec![]]);
        assert_eq!((owner(&owners, 9), owner(&owners, 8)), (Some(0), None));
        let key = |kind| Key { name: "foo".into(), kind, shard: 1, ttl_ms: 0, successor: None };
        let all = vec![vec![(0, 16_383)], vec![]];
        let placed = at_home(&[key(Kind::Set), key(Kind::Channel)], &all);
        assert_eq!([placed[0].shard, placed[1].shard], [0, 1]);
    }

    #[test]
    fn what_is_over_is_counted_by_its_end() {
        let errors = [json!(null), json!("cancelled"), json!("begun anew as 5: x"), json!(null)];
        let done: Vec<Json> = errors.map(|error| json!({ "error": error })).into();
        let counted = outcome(&json!({ "done": done })).unwrap();
        assert_eq!(counted, Outcome { done: 2, cancelled: 1, given_up: 1 });
    }
}
