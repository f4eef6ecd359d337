//! Moves that would be made, as people are shown them; and numbers of moves, for people.

use std::collections::BTreeMap;

use api::moves::{Rate, Slots};
use api::rest::{Cluster, MoveWish, MovesAnswer};

use super::table::{render, wrap};
use super::words::counted;

pub(super) fn slot_count(ranges: &str) -> usize {
    ranges.parse::<Slots>().map_or(0, |slots| slots.iter().count())
}

/// A shard by its index, where it has one.
pub(super) fn shard_name(id: &str, cluster: &Cluster) -> String {
    match cluster.shards.iter().position(|shard| shard.id == id) {
        Some(index) => index.to_string(),
        None => id.to_owned(),
    }
}

/// `1.5 MB`.
pub(super) fn bytes(count: u64) -> String {
    let (mut whole, mut unit) = (count, 0);
    let mut tenths = 0;
    while whole >= 1_000 && unit < 4 {
        tenths = whole % 1_000 / 100;
        whole /= 1_000;
        unit += 1;
    }
    match unit {
        0 => format!("{whole} B"),
        _ => format!("{whole}.{tenths} {}", ["B", "kB", "MB", "GB", "TB"][unit]),
    }
}

/// `40 s`, `12 min`, `3.5 h`.
fn lasting(micros: u64) -> String {
    let seconds = micros.div_ceil(1_000_000);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{}.{} h", seconds / 3_600, seconds % 3_600 / 360),
    }
}

/// All that goes from one shard to another.
#[derive(Default)]
struct Between {
    slots: Vec<u16>,
    moves: usize,
    /// As far as that is known of each of the moves.
    bytes: Option<u64>,
}

fn between(plan: &MovesAnswer) -> BTreeMap<(&str, &str), Between> {
    let mut all: BTreeMap<(&str, &str), Between> = BTreeMap::new();
    for wish in &plan.moves {
        let fresh = || Between { bytes: Some(0), ..Between::default() };
        let both = all.entry((&wish.from, &wish.to)).or_insert_with(fresh);
        both.bytes = both.bytes.zip(wish.bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
        both.moves += 1;
        if let Ok(slots) = wish.slots.parse::<Slots>() {
            both.slots.extend(slots.iter());
        }
    }
    all
}

/// Ranges of slots, as many as there are.
fn ranges(mut slots: Vec<u16>) -> String {
    slots.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(slot) => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    let show = |&(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(show).collect::<Vec<_>>().join(",")
}

/// What would move, and what each shard would have then.
pub(super) fn plan_text(
    width: usize,
    plan: &MovesAnswer,
    cluster: &Cluster,
    asked: Option<Rate>,
    limit: Option<u32>,
) -> String {
    if plan.moves.is_empty() {
        return "nothing to move: the slots are where they should be\n".to_owned();
    }
    let mut rows: Vec<(usize, Vec<String>)> = Vec::new();
    for ((from, to), both) in between(plan) {
        let place = cluster.shards.iter().position(|shard| shard.id == from);
        let mut row = vec![shard_name(from, cluster), shard_name(to, cluster)];
        row.extend([both.moves.to_string(), both.slots.len().to_string()]);
        row.push(both.bytes.map_or("-".to_owned(), bytes));
        let of_these = |wish: &&MoveWish| wish.from == from && wish.to == to;
        let rate = asked.unwrap_or_else(|| usual(plan.moves.iter().filter(of_these)));
        row.push(both.bytes.map_or("-".to_owned(), |bytes| lasting(rate.micros_of(bytes))));
        row.push(ranges(both.slots));
        rows.push((place.unwrap_or(usize::MAX), row));
    }
    rows.sort();
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    let head = ["FROM", "TO", "MOVES", "COUNT", "BYTES", "TIME", "SLOTS"];
    let mut out = render(width, &head, &rows);
    out.push('\n');
    out.push_str(&shards_text(width, plan, cluster));
    let (slots, moves) = (counted(plan.slots, "slot"), counted(plan.moves.len(), "move"));
    out.push_str(&format!("\n{slots} in {moves}"));
    let known: Option<u64> = plan.moves.iter().map(|wish| wish.bytes).sum();
    if let Some(all) = known {
        let longest = longest(plan, all, limit);
        let rate = asked.unwrap_or_else(|| usual(plan.moves.iter()));
        let time = lasting(rate.micros_of(longest));
        out.push_str(&format!(", about {}: at {rate} MB/s at least {time}", bytes(all)));
    }
    out.push('\n');
    for note in &plan.notes {
        let lines = wrap(&format!("note: {note}"), width);
        lines.iter().for_each(|line| out.push_str(&format!("{line}\n")));
    }
    out
}

/// What these bring where nothing else is said: the fastest of them, since it is said how long they
/// take at least.
fn usual<'w>(those: impl Iterator<Item = &'w MoveWish>) -> Rate {
    let rates = those.filter_map(|wish| Rate::new(wish.usual_mb?).ok());
    rates.max_by_key(|rate| rate.mb()).unwrap_or(Rate::USUAL)
}

/// Bytes that have to go one after the other: a shard gives and takes for one move at a time.
fn longest(plan: &MovesAnswer, all: u64, limit: Option<u32>) -> u64 {
    let mut of_shard: BTreeMap<(bool, &str), u64> = BTreeMap::new();
    for wish in &plan.moves {
        for party in [(false, wish.from.as_str()), (true, wish.to.as_str())] {
            let sum = of_shard.entry(party).or_default();
            *sum = sum.saturating_add(wish.bytes.unwrap_or(0));
        }
    }
    let busiest = of_shard.into_values().max().unwrap_or(0);
    let share = limit.filter(|limit| *limit > 0).map(|limit| all / u64::from(limit));
    busiest.max(share.unwrap_or(0))
}

/// How many slots, and how many bytes as far as that is known.
fn together<'w>(those: impl Iterator<Item = &'w MoveWish>) -> (usize, u64) {
    those.fold((0, 0), |(slots, bytes), wish| {
        (slots + slot_count(&wish.slots), bytes.saturating_add(wish.bytes.unwrap_or(0)))
    })
}

fn shards_text(width: usize, plan: &MovesAnswer, cluster: &Cluster) -> String {
    let row = |(index, shard): (usize, &api::rest::Shard)| {
        let of = |way: fn(&MoveWish) -> &str| {
            together(plan.moves.iter().filter(move |wish| way(wish) == shard.id))
        };
        let (given, taken) = (of(|wish| &wish.from), of(|wish| &wish.to));
        let has: usize = shard.slot_ranges.iter().map(|range| slot_count(range)).sum();
        let then = (has + taken.0).saturating_sub(given.0);
        let mut row = vec![index.to_string(), has.to_string(), then.to_string()];
        if let Some(now) = plan.bytes.get(&shard.id) {
            let then = now.saturating_add(taken.1).saturating_sub(given.1);
            row.extend([bytes(*now), bytes(then)]);
        } else if !plan.bytes.is_empty() {
            row.extend(["-".to_owned(), "-".to_owned()]);
        }
        row
    };
    let rows: Vec<Vec<String>> = cluster.shards.iter().enumerate().map(row).collect();
    let head: &[&str] = match plan.bytes.is_empty() {
        true => &["SHARD", "SLOTS NOW", "BY THESE MOVES"],
        false => &["SHARD", "SLOTS NOW", "BY THESE MOVES", "BYTES NOW", "BY THESE MOVES"],
    };
    render(width, head, &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster() -> Cluster {
        let shard = |id: &str, ranges: &[&str]| {
            json!({"id": id, "nodes": [], "slot_ranges": ranges, "target_shard_index": -1,
                "migrating_slot": null})
        };
        let shards = [shard("aa", &["0-9", "20"]), shard("bb", &["10-19"]), shard("cc", &[])];
        serde_json::from_value(json!({"name": "c", "version": 1, "shards": shards})).unwrap()
    }

    fn wish(slots: &str, from: &str, to: &str, bytes: Option<u64>) -> MoveWish {
        let (slots, from, to) = (slots.into(), from.into(), to.into());
        MoveWish { id: None, slots, from, to, bytes, usual_mb: None }
    }

    #[test]
    fn a_plan_shows_what_moves_and_what_each_shard_has_then() {
        let moves = vec![wish("8-9,20", "aa", "cc", None), wish("18-19", "bb", "cc", None)];
        let plan = MovesAnswer { moves, slots: 5, ..MovesAnswer::default() };
        assert_eq!(
            plan_text(100, &plan, &cluster(), None, None),
            "FROM  TO  MOVES  COUNT  BYTES  TIME  SLOTS\n\
             0     2   1      3      -      -     8-9,20\n\
             1     2   1      2      -      -     18-19\n\
             \n\
             SHARD  SLOTS NOW  BY THESE MOVES\n\
             0      11         8\n\
             1      10         8\n\
             2      0          5\n\
             \n\
             5 slots in 2 moves\n"
        );
        let none = plan_text(100, &MovesAnswer::default(), &cluster(), None, None);
        assert_eq!(none, "nothing to move: the slots are where they should be\n");
    }

    #[test]
    fn where_nodes_say_what_slots_weigh_so_does_the_plan_and_how_long_it_takes() {
        let gb = |count: u64| Some(count * 1_000_000_000);
        let moves = vec![
            wish("8", "aa", "cc", gb(4)),
            wish("9,20", "aa", "cc", gb(3)),
            wish("18-19", "bb", "cc", gb(2)),
        ];
        let bytes = [("aa", 12), ("bb", 7), ("cc", 0)];
        let bytes = bytes.map(|(id, count)| (id.to_owned(), count * 1_000_000_000));
        let plan = MovesAnswer { moves, slots: 5, bytes: bytes.into(), ..MovesAnswer::default() };
        let rate = Rate::new(5).ok();
        assert_eq!(
            plan_text(100, &plan, &cluster(), rate, None),
            "FROM  TO  MOVES  COUNT  BYTES   TIME    SLOTS\n\
             0     2   2      3      7.0 GB  24 min  8-9,20\n\
             1     2   1      2      2.0 GB  7 min   18-19\n\
             \n\
             SHARD  SLOTS NOW  BY THESE MOVES  BYTES NOW  BY THESE MOVES\n\
             0      11         8               12.0 GB    5.0 GB\n\
             1      10         8               7.0 GB     5.0 GB\n\
             2      0          5               0 B        9.0 GB\n\
             \n\
             5 slots in 3 moves, about 9.0 GB: at 5 MB/s at least 30 min\n"
        );
        let full = MovesAnswer { notes: vec!["a disk is small".into()], ..plan };
        let told = plan_text(100, &full, &cluster(), rate, None);
        assert!(told.ends_with("at least 30 min\nnote: a disk is small\n"), "{told}");
        // Without one, what the options of the nodes say.
        let mut usual = full;
        usual.moves.iter_mut().for_each(|wish| wish.usual_mb = Some(10));
        let told = plan_text(100, &usual, &cluster(), None, None);
        assert!(told.contains("7.0 GB  12 min") && told.contains("at 10 MB/s at least 15 min"));
        usual.moves[2].usual_mb = Some(20);
        let told = plan_text(100, &usual, &cluster(), None, None);
        assert!(told.contains("7.0 GB  12 min") && told.contains("2.0 GB  100 s"), "{told}");
        assert!(told.contains("at 20 MB/s at least 8 min"), "{told}");
    }

    #[test]
    fn times_and_bytes_are_said_in_few_digits() {
        assert_eq!([bytes(999), bytes(1_000), bytes(1_999_999)], ["999 B", "1.0 kB", "1.9 MB"]);
        let second = 1_000_000;
        let times = [0, 1, 119 * second, 120 * second, 7_199 * second, 7_200 * second];
        assert_eq!(times.map(lasting), ["0 s", "1 s", "119 s", "2 min", "120 min", "2.0 h"]);
        assert_eq!(lasting(u64::MAX), "5124095576.0 h");
        let plan = MovesAnswer {
            moves: vec![wish("1", "a", "b", Some(60)), wish("2", "c", "d", Some(40))],
            ..MovesAnswer::default()
        };
        assert_eq!([None, Some(1), Some(2)].map(|limit| longest(&plan, 100, limit)), [60, 100, 60]);
    }
}
