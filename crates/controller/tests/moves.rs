//! Slots that move, from the request to the end, with nodes that run the machines of those that
//! ship on data that is a number.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "the support module is shared by tests, not published"
)]

mod support;

use api::moves::wish::{Fate, Part, PartId, Wish, Wished};
use api::moves::{MoveId, Rate, Slots};
use api::rest::{Data, MoveAnswer, Moves, MovesAnswer};
use replication::slots::State;
use serde_json::{Value, json};
use support::fake_node::FakeNode;
use support::mover::Mover;
use support::{Stage, until};

const CLUSTER: &str = "/namespaces/n/clusters/c";

/// Shards of one node each, which serve under epochs; the last `spare` nodes are in no cluster.
async fn stage(shards: usize, spare: usize) -> Stage {
    let stage = Stage::new(shards + spare).await;
    for node in &stage.nodes {
        node.knows_moves();
    }
    let mut spec = stage.spec();
    spec["nodes"].as_array_mut().expect("nodes").truncate(shards);
    spec["replicas"] = json!(1);
    let (code, body) = stage.controller.call("POST", "/namespaces/n/clusters", spec).await;
    assert_eq!(code, 201, "{body}");
    stage
        .controller
        .until("every master to have an epoch", |status| {
            status.healthy && status.shards.iter().all(|shard| shard.epoch > 0)
        })
        .await;
    stage
}

trait Asks {
    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value);
    async fn moves(&self) -> Moves;
    async fn queued(&self, path: &str, body: Value) -> MovesAnswer;
    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String);
    async fn waits(&self, what: &str, is_so: impl Fn(&Moves) -> bool) -> Moves;
    async fn slots(&self) -> Vec<Vec<String>>;
    fn stuck(&self, node: usize, is_stuck: bool);
    fn inside_of_all(&self, look: impl FnMut(&mut Mover));
    fn takers_of(&self, slot: u16) -> Vec<usize>;
    async fn takes(&self, slot: u16, node: usize);
    fn marks(&self, id: u64) -> Vec<Option<State>>;
}

impl Asks for Stage {
    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.controller.call(method, &format!("{CLUSTER}{path}"), body).await
    }

    async fn moves(&self) -> Moves {
        let (code, body) = self.ask("GET", "/moves", json!({})).await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_value::<Data<Moves>>(body).expect("moves").data
    }

    async fn queued(&self, path: &str, body: Value) -> MovesAnswer {
        let (code, answer) = self.ask("POST", path, body).await;
        assert!(matches!(code, 200 | 201), "{code} {answer}");
        serde_json::from_value::<Data<MovesAnswer>>(answer).expect("an answer").data
    }

    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (code, answer) = self.ask(method, path, body).await;
        let text = answer["error"]["message"].as_str();
        (code, text.unwrap_or_else(|| panic!("{code} {answer}")).to_owned())
    }

    async fn waits(&self, what: &str, is_so: impl Fn(&Moves) -> bool) -> Moves {
        until(what, || async {
            let moves = self.moves().await;
            if is_so(&moves) { Ok(moves) } else { Err(format!("{moves:#?}")) }
        })
        .await
    }

    async fn slots(&self) -> Vec<Vec<String>> {
        let status = self.controller.status().await;
        status.shards.into_iter().map(|shard| shard.slot_ranges).collect()
    }

    fn stuck(&self, node: usize, is_stuck: bool) {
        let mut inside = self.nodes[node].inside.lock();
        inside.mover.as_mut().expect("a mover").is_stuck = is_stuck;
    }

    fn inside_of_all(&self, mut look: impl FnMut(&mut Mover)) {
        for node in &self.nodes {
            look(node.inside.lock().mover.as_mut().expect("a mover"));
        }
    }

    /// The nodes that take a write to the slot.
    fn takers_of(&self, slot: u16) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].write_to(slot)).collect()
    }

    /// Waits until this node alone takes a write to the slot: its lease may be over for a moment.
    async fn takes(&self, slot: u16, node: usize) {
        until("the owner to take a write", || async {
            let takers = self.takers_of(slot);
            assert!(takers.iter().all(|taker| *taker == node), "{takers:?}");
            if takers.is_empty() { Err("nobody does".to_owned()) } else { Ok(()) }
        })
        .await;
    }

    fn marks(&self, id: u64) -> Vec<Option<State>> {
        let mark = |node: &FakeNode| {
            let inside = node.inside.lock();
            let mover = inside.mover.as_ref()?;
            Some(mover.table.of(MoveId(id))?.state.clone())
        };
        self.nodes.iter().map(mark).collect()
    }
}

fn is_done(moves: &Moves) -> bool {
    moves.moves.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_go_from_shard_to_shard_while_clients_write() {
    let stage = stage(2, 0).await;
    let wish = json!({"slots": "0-99,200", "to": "1", "dry": true});
    let shown = stage.queued("/moves", wish).await;
    assert_eq!((shown.slots, shown.done, shown.moves.len()), (101, false, 1));
    assert_eq!(shown.moves[0].slots, "0-99,200");
    assert!(is_done(&stage.moves().await), "it was only shown");
    stage.takes(0, 0).await;
    let queued = stage.queued("/moves", json!({ "moves": shown.moves })).await;
    assert_eq!((queued.done, queued.moves[0].id), (true, Some(1)));
    until("the move to be over", || async {
        // Never two of them, and each taker of a write is the one that the next ask finds.
        let takers = stage.takers_of(0);
        assert!(takers.len() <= 1, "{takers:?}");
        let moves = stage.moves().await;
        if is_done(&moves) { Ok(()) } else { Err(format!("{moves:#?}")) }
    })
    .await;
    stage.takes(0, 1).await;
    stage.takes(100, 0).await;
    assert_eq!(
        stage.slots().await,
        [vec!["100-199", "201-8191"], vec!["0-99", "200", "8192-16383"]]
    );
    assert_eq!(stage.marks(1), [Some(State::Gone { is_empty: true }), Some(State::Held)]);
    let past = &stage.moves().await.done[0];
    assert_eq!((past.id, past.slots.as_str(), &past.error), (1, "0-99,200", &None));
    let (_, events) = stage.ask("GET", "/events", json!({})).await;
    let events = events["data"]["events"].as_array().expect("events").clone();
    let moved: Vec<&str> = (events.iter().filter(|event| event["kind"] == "move"))
        .filter_map(|event| event["text"].as_str())
        .collect();
    assert_eq!(moved.len(), 3, "{moved:?}");
    assert!(moved[0].contains("begin to move") && moved[1].contains("owns 0-99,200"), "{moved:?}");
    assert_eq!(moved[2], "move 1: done");
    // Counted a moment after it is seen.
    until("its numbers", || async {
        let page = reqwest::get(format!("{}/metrics", stage.controller.url)).await;
        let page = page.expect("a page").text().await.expect("text");
        let rows = ["moves_done_total 1\n", "slots_moved_total 101\n"];
        let is_there = |row: &str| page.contains(&format!("holdfast_controller_{row}"));
        if rows.into_iter().all(is_there) { Ok(()) } else { Err(page) }
    })
    .await;
}

/// Leadership and both masters change in the middle; the record and the nodes' data are enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_controller_and_the_next_processes_carry_a_move_to_its_end() {
    let mut stage = stage(2, 0).await;
    stage.stuck(1, true);
    stage.queued("/moves", json!({"slots": "0-9", "to": "1"})).await;
    stage.queued("/moves", json!({"slots": "20", "to": "1"})).await;
    let copies =
        |moves: &Moves| moves.moves[0].state == "copy" && moves.moves[0].progress.is_some();
    let moves = stage.waits("the copy to begin", copies).await;
    assert_eq!(
        (moves.moves[1].state.as_str(), moves.moves[1].waits_for.as_str()),
        ("queued", "its turn")
    );
    stage.restart_controller().await;
    stage.waits("the copy to be taken up", copies).await;
    for node in [0, 1] {
        stage.nodes[node].restart().await;
    }
    stage.stuck(1, false);
    let moves = stage.waits("the moves to be over", is_done).await;
    assert!(moves.done.iter().all(|past| past.error.is_none()), "{moves:#?}");
    assert_eq!(stage.slots().await[1], ["0-9", "20", "8192-16383"]);
    stage.takes(9, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_paused_and_cancelled_as_long_as_nothing_has_moved() {
    let stage = stage(2, 0).await;
    stage.stuck(1, true);
    stage.queued("/moves", json!({"slots": "0-9", "to": "1", "max_concurrent": 1})).await;
    stage.queued("/moves", json!({"slots": "8192", "to": "0"})).await;
    let moves = stage.waits("the copy", |moves| moves.moves[0].progress.is_some()).await;
    assert_eq!(moves.max_concurrent, Some(1));
    assert_eq!(moves.moves[1].state, "queued");
    let (code, body) = stage.ask("PATCH", "/moves/1", json!({"paused": true})).await;
    assert_eq!((code, &body["data"]["move"]["paused"]), (200, &json!(true)));
    let rests = |moves: &Moves| moves.moves[0].waits_for.ends_with("nothing is copied");
    stage.waits("the pause to be in force", rests).await;
    stage.stuck(1, false);
    stage.takes(0, 0).await;
    let (code, body) = stage.ask("DELETE", "/moves/1", json!({})).await;
    assert_eq!((code, &body["data"]["move"]["state"]), (200, &json!("drop")));
    let over = |moves: &Moves| moves.moves.iter().all(|one| one.id != 1);
    stage.waits("the cancelled one to be over", over).await;
    let (_, answer) = stage.ask("GET", "/moves/1", json!({})).await;
    let answer: MoveAnswer = serde_json::from_value(answer["data"].clone()).expect("a move");
    assert_eq!(answer.done.and_then(|past| past.error).as_deref(), Some("cancelled"));
    let moves = stage.waits("the other one to be done", is_done).await;
    assert_eq!(moves.done.last().map(|past| (past.id, past.error.clone())), Some((2, None)));
    stage.takes(0, 0).await;
    assert_eq!(stage.marks(1), [None, Some(State::Gone { is_empty: true })]);
    let again = stage.refused("DELETE", "/moves/1", json!({})).await;
    assert_eq!(again, (409, "move 1 is over: cancelled".to_owned()));
    let done = stage.refused("PATCH", "/moves/2", json!({"paused": true})).await;
    assert_eq!(done, (409, "move 2 is done".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_under_way_stops_while_it_is_paused_and_goes_on_at_another_rate() {
    let stage = stage(2, 0).await;
    stage.stuck(1, true);
    stage.queued("/moves", json!({"slots": "0-9", "to": "1"})).await;
    let change = async |body: Value| {
        let (code, body) = stage.ask("PATCH", "/moves/1", body).await;
        assert_eq!(code, 200, "{body}");
    };
    let newest_rate = || {
        let mut newest = None;
        stage.inside_of_all(|mover| newest = mover.rates.last().copied().or(newest));
        newest
    };
    until("the copy to begin", || async {
        if newest_rate() == Some(None) { Ok(()) } else { Err(format!("{:?}", newest_rate())) }
    })
    .await;
    change(json!({"rate_mb": 7})).await;
    until("the copy to go on at its rate", || async {
        let rate = newest_rate();
        if rate == Some(Rate::new(7).ok()) { Ok(()) } else { Err(format!("{rate:?}")) }
    })
    .await;
    change(json!({"paused": true})).await;
    let rests = |moves: &Moves| moves.moves[0].waits_for.ends_with("nothing is copied");
    let moves = stage.waits("the copy to stop", rests).await;
    assert_eq!((moves.moves[0].rate_mb, moves.moves[0].paused), (7, true));
    // It could go on, and does not.
    stage.stuck(1, false);
    for (body, why) in [
        (json!({}), "`paused`, `rate_mb`, or both expected"),
        (json!({"rate_mb": 10_001}), "`rate_mb`: MB a second expected, from 1 to 10000"),
    ] {
        assert_eq!(stage.refused("PATCH", "/moves/1", body).await, (400, why.to_owned()));
    }
    let marks = stage.marks(1);
    assert!(matches!(marks[1], Some(State::Staged { at: None, .. })), "{marks:?}");
    change(json!({"paused": false, "rate_mb": 0})).await;
    stage.waits("the move to be done", is_done).await;
    assert_eq!(newest_rate(), Some(None));
    stage.takes(0, 1).await;
    let late = stage.refused("PATCH", "/moves/1", json!({"rate_mb": 5})).await;
    assert_eq!(late, (409, "move 1 is done".to_owned()));
}

/// As kvctl asks for it, and as it looks after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_are_migrated_as_kvrocks_controller_is_asked_to() {
    let stage = stage(2, 0).await;
    stage.stuck(1, true);
    let (code, body) = stage
        .ask("POST", "/migrate", json!({"target": 1, "slot": "0-9", "slot_only": false}))
        .await;
    let shards = &body["data"]["cluster"]["shards"];
    let of = |shard: &Value| (shard["target_shard_index"].clone(), shard["migrating_slot"].clone());
    assert_eq!(code, 200, "{body}");
    assert_eq!(
        (of(&shards[0]), of(&shards[1])),
        ((json!(1), json!("0-9")), (json!(-1), json!(null)))
    );
    for (body, status, why) in [
        (
            json!({"target": 1, "slot": "20", "slot_only": true}),
            400,
            "`slot_only` gives slots away",
        ),
        (json!({"target": 2, "slot": "20"}), 400, "shard index out of range"),
        (json!({"target": 1, "slot": "x"}), 400, "slots `x`"),
        (json!({"target": 1, "slot": "5"}), 409, "slots 5 are in move 1 already"),
        (json!({"target": 0, "slot": "20"}), 400, "slots 20 belong to shard"),
    ] {
        let (code, text) = stage.refused("POST", "/migrate", body).await;
        assert!(code == status && text.starts_with(why), "{code} {text}");
    }
    stage.stuck(1, false);
    stage.waits("the slots to arrive", is_done).await;
    let (_, body) = stage.ask("GET", "/shards/0", json!({})).await;
    assert_eq!(of(&body["data"]["shard"]), (json!(-1), json!(null)));
    assert_eq!(stage.slots().await[1], ["0-9", "8192-16383"]);
}

/// As Valkey's and Redis' commands ask for it at a node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_users_wish_at_a_node_goes_by_the_same_queue() {
    let stage = stage(2, 0).await;
    let taker = stage.nodes[1].inside.lock().id.clone();
    let wishes = |number: u8, slots: &str, to: &str| {
        let part = Part { slots: slots.parse().expect("slots"), to: to.to_owned() };
        let id = PartId::of_wish([number; 20]);
        let wished = Wished { id, is_heard: false, wish: Wish::Move(vec![part]) };
        let mut inside = stage.nodes[0].inside.lock();
        inside.mover.as_mut().expect("a mover").wishes.push(wished);
        id
    };
    let until_end = async |id: PartId| {
        until("the end of a wish to be told", || async {
            let inside = stage.nodes[0].inside.lock();
            let told = &inside.mover.as_ref().expect("a mover").told;
            let end = told.iter().find(|told| told.id == id && told.fate.is_end());
            end.map(|told| told.fate.clone()).ok_or_else(|| format!("{told:?}"))
        })
        .await
    };
    let id = wishes(1, "0-9", &taker);
    assert_eq!(until_end(id).await, Fate::Done);
    assert_eq!(stage.slots().await[1], ["0-9", "8192-16383"]);
    let told = stage.nodes[0].inside.lock().mover.as_ref().expect("a mover").told.clone();
    assert!(told.iter().any(|told| matches!(told.fate, Fate::Taken(_))), "{told:?}");
    let done = stage.moves().await.done;
    assert_eq!((done.len(), done[0].slots.as_str()), (1, "0-9"), "once, however often it was said");
    let refused = until_end(wishes(2, "0-9", &taker)).await;
    let Fate::Refused(why) = refused else { panic!("{refused:?}") };
    assert!(why.starts_with("slots 0-9 belong to shard"), "{why}");
    let refused = until_end(wishes(3, "20", &"f".repeat(40))).await;
    assert!(matches!(refused, Fate::Refused(why) if why.ends_with("is not of this cluster")));
    assert_eq!(stage.moves().await.done.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let stage = stage(2, 0).await;
    let post = async |body: Value| stage.refused("POST", "/moves", body).await;
    for (slots, why) in [
        ("9-1", "slots `9-1`: n or a-b expected, from 0 to 16383"),
        ("16384", "slots `16384-16384`: n or a-b expected, from 0 to 16383"),
        ("", "slots expected: n or a-b, separated by commas"),
        ("5,4", "slots must rise and not overlap"),
    ] {
        assert_eq!(post(json!({"slots": slots, "to": "1"})).await, (400, why.to_owned()));
    }
    let (code, text) = post(json!({"slots": "0", "to": "2"})).await;
    assert!(code == 400 && text.contains("shard index out of range"), "{code} {text}");
    let (code, text) = post(json!({"slots": "0", "to": "00000000000000ff"})).await;
    assert_eq!((code, text.as_str()), (404, "shard 00000000000000ff: not found"));
    let (code, text) = post(json!({"slots": "8190-8200", "to": "1"})).await;
    assert!(code == 400 && text.starts_with("slots 8192-8200 belong to shard"), "{code} {text}");
    for path in ["/moves/7", "/moves/x"] {
        let (code, text) = stage.refused("DELETE", path, json!({})).await;
        assert!(matches!(code, 400 | 404) && text.contains(&path[7..]), "{code} {text}");
    }
    let (code, text) = stage.refused("POST", "/moves", json!({"slot": "0"})).await;
    assert!(code == 400 && text.contains("unknown field"), "{code} {text}");

    stage.stuck(1, true);
    stage.queued("/moves", json!({"slots": "0-9", "to": "1"})).await;
    let (code, text) = post(json!({"slots": "5-20", "to": "1"})).await;
    assert_eq!(code, 409);
    assert!(text.starts_with("slots 5-9 are in move 1 already"), "{text}");
    let (code, text) = stage.refused("DELETE", "/shards/1", json!({})).await;
    assert_eq!(code, 409);
    assert!(text.contains("is in move 1") && text.contains("ctl moves cancel 1"), "{text}");
    stage.ask("DELETE", "/moves/1", json!({})).await;
    stage.waits("the move to be given up", is_done).await;
    let (code, text) = stage.refused("DELETE", "/shards/1", json!({})).await;
    assert!(code == 409 && text.contains("`ctl shard drain 1`"), "{code} {text}");

    // Nodes that could not carry it out.
    stage.nodes[1].inside.lock().mover = None;
    until("a refusal", || async {
        let (code, body) =
            stage.ask("POST", "/moves", json!({"slots": "0", "to": "1", "dry": true})).await;
        let text = body["error"]["message"].as_str().unwrap_or_default().to_owned();
        let is_told = code == 409 && text.contains("does not know slot moves (no `moves:1`");
        if is_told { Ok(()) } else { Err(format!("{code} {body}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_added_filled_drained_and_removed() {
    let stage = stage(2, 1).await;
    let spec = json!({"nodes": [{
        "addr": stage.nodes[2].address(), "announced_host": "lb.test", "announced_port": 7002,
    }]});
    let (code, body) = stage.ask("POST", "/shards", spec).await;
    assert_eq!(code, 201, "{body}");
    let id = body["data"]["shard"]["id"].as_str().expect("an id").to_owned();
    stage
        .controller
        .until("the third shard to serve", |status| {
            status.healthy && status.shards.len() == 3 && status.shards[2].epoch > 0
        })
        .await;
    // What is seen comes before what is done.
    until("its frontend to lead there", || async {
        let behind = stage.behind(7002);
        if behind == Some(2) { Ok(()) } else { Err(format!("{behind:?}")) }
    })
    .await;
    let queued = stage.queued("/rebalance", json!({})).await;
    assert_eq!((queued.slots, queued.moves.len()), (5_461, 2), "{queued:?}");
    stage.waits("the share to arrive", is_done).await;
    let counts = |slots: Vec<Vec<String>>| -> Vec<usize> {
        let count = |ranges: &Vec<String>| match ranges.join(",").parse::<api::moves::Slots>() {
            Ok(slots) => slots.iter().count(),
            Err(_) => 0,
        };
        slots.iter().map(count).collect()
    };
    assert_eq!(counts(stage.slots().await), [5_462, 5_461, 5_461]);
    assert_eq!(stage.queued("/rebalance", json!({})).await.moves, []);
    let queued = stage.queued(&format!("/shards/{id}/drain"), json!({})).await;
    assert_eq!(queued.slots, 5_461);
    stage.waits("the shard to be empty", is_done).await;
    assert_eq!(counts(stage.slots().await), [8_192, 8_192, 0]);
    let (code, body) = stage.ask("DELETE", &format!("/shards/{id}"), json!({})).await;
    assert_eq!(code, 204, "{body}");
    stage.controller.until("two shards", |status| status.healthy && status.shards.len() == 2).await;
    let (code, text) = stage.refused("POST", "/shards/1/drain", json!({"dry": 1})).await;
    assert_eq!(code, 400, "{text}");
}

/// Of two shards with as many slots the first has three times as many bytes, most of them in front.
fn weigh(slot: u16) -> u64 {
    if slot < 4_096 { 5 << 20 } else { 1 << 20 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_are_brought_to_as_many_bytes_at_a_rate() {
    let stage = stage(2, 0).await;
    let by_bytes = |more: Value| {
        let mut body = json!({"by": "bytes"});
        body.as_object_mut().expect("a body").extend(more.as_object().expect("fields").clone());
        body
    };
    let (code, text) = stage.refused("POST", "/rebalance", by_bytes(json!({}))).await;
    assert!(code == 409 && text.contains("does not know what slots weigh"), "{code} {text}");
    for node in &stage.nodes {
        node.inside.lock().mover.as_mut().expect("a mover").weigh = Some(weigh);
    }
    for (body, why) in [
        (by_bytes(json!({"tolerance": 0})), "`tolerance`: 1 to 50 percent expected"),
        (by_bytes(json!({"rate_mb": 0})), "`rate_mb`: MB a second expected, from 1 to 10000"),
        (json!({"tolerance": 5}), "`tolerance` goes with `by: bytes` and `by: load`"),
    ] {
        assert_eq!(stage.refused("POST", "/rebalance", body).await, (400, why.to_owned()));
    }
    let shown = stage.queued("/rebalance", by_bytes(json!({"dry": true}))).await;
    let (mib, sum) = (1 << 20, shown.moves.iter().filter_map(|one| one.bytes).sum::<u64>());
    let mut has: Vec<u64> = shown.bytes.values().map(|bytes| bytes / mib).collect();
    has.sort_unstable();
    assert_eq!(has, [8_192, 24_576]);
    // From 24 and 8 GiB to 16 each, but for the tolerance; in moves of 4 GiB at most.
    assert!((7_300..=8_200).contains(&(sum / mib)), "{} MiB", sum / mib);
    assert_eq!(shown.moves.len(), 2, "{shown:?}");
    assert!(shown.moves.iter().all(|one| one.bytes.is_some_and(|bytes| bytes <= 4 << 30)));
    let wishes = json!({"moves": shown.moves, "rate_mb": 5});
    stage.inside_of_all(|mover| mover.is_stuck = true);
    assert_eq!(stage.queued("/moves", wishes).await.moves[0].bytes, None, "it was shown before");
    let moves = stage.waits("the first copy", |moves| moves.moves[0].progress.is_some()).await;
    assert!(moves.moves.iter().all(|one| one.rate_mb == 5), "{moves:#?}");
    stage.inside_of_all(|mover| mover.is_stuck = false);
    stage.waits("the shares to arrive", is_done).await;
    let mut rates = Vec::new();
    stage.inside_of_all(|mover| rates.append(&mut mover.rates));
    assert!(!rates.is_empty() && rates.iter().all(|rate| *rate == Rate::new(5).ok()), "{rates:?}");
    assert_eq!(stage.queued("/rebalance", by_bytes(json!({}))).await.moves, [], "it is even");
    // Of what is moved by slots the givers are asked.
    let one = json!({"slots": "8192", "to": "0", "dry": true});
    assert_eq!(stage.queued("/moves", one).await.moves[0].bytes, Some(1 << 20));
}

/// By slots each of the others would get a half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_drained_by_what_its_slots_weigh() {
    let stage = stage(3, 0).await;
    let by_bytes = json!({"by": "bytes", "dry": true});
    let (code, text) = stage.refused("POST", "/shards/1/drain", by_bytes.clone()).await;
    assert!(code == 409 && text.contains("does not know what slots weigh"), "{code} {text}");
    stage.inside_of_all(|mover| mover.weigh = Some(weigh));
    let shown = stage.queued("/shards/1/drain", by_bytes).await;
    let light = stage.controller.status().await.shards[2].id.clone();
    assert_eq!(shown.slots, 5_461);
    assert!(shown.moves.iter().all(|one| one.to == light), "{shown:?}");
    let by_slots = stage.queued("/shards/1/drain", json!({"dry": true})).await;
    assert!(by_slots.moves.iter().any(|one| one.to != light), "{by_slots:?}");
}

/// As many slots each, and nearly all commands are for half of those of the first shard.
fn load(slot: u16) -> u64 {
    if slot < 4_096 { 1_000 } else { 10 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_are_brought_to_as_many_commands() {
    let stage = stage(2, 0).await;
    let by_load = json!({"by": "load", "dry": true});
    let (code, text) = stage.refused("POST", "/rebalance", by_load.clone()).await;
    assert!(code == 409 && text.contains("does not know how many commands slots get"), "{text}");
    stage.inside_of_all(|mover| mover.load = Some(|_| 1));
    let (code, text) = stage.refused("POST", "/rebalance", by_load.clone()).await;
    assert!(code == 409 && text.starts_with("about 16384 commands were counted"), "{code} {text}");
    stage.inside_of_all(|mover| mover.load = Some(load));
    let shown = stage.queued("/rebalance", by_load).await;
    let slots = shown.moves.iter().map(|one| one.slots.parse::<Slots>().expect("slots"));
    let moved: u64 = slots.flat_map(|slots| slots.iter().map(load).collect::<Vec<_>>()).sum();
    let all: u64 = (0..16_384).map(load).sum();
    // Half of what the two differ by, but for the tolerance.
    assert!((all * 45 / 100..all * 50 / 100).contains(&moved), "{moved} of {all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_moves_are_a_cluster_as_before() {
    let stage = Stage::new(2).await;
    stage.create().await;
    assert_eq!(stage.moves().await, Moves::default());
    let (code, text) = stage.refused("POST", "/shards/0/drain", json!({})).await;
    assert!(code == 400 && text.contains("no other shard"), "{code} {text}");
    assert_eq!(stage.queued("/rebalance", json!({})).await.moves, []);
}
