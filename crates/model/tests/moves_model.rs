//! The search of the model of slot moves. `scripts/test` runs it within small bounds, `make model`
//! the ignored ones within larger.

mod common;

use common::Searched;
use model::moves::{Begin, Faults, MoveRules, Moving, Step, World};
use stateright::Model;

fn search(name: &str, model: Moving, depth: usize) -> Searched {
    let judge = |last: &World| {
        let end = model.recovered(last).0;
        (format!("{:?}", last.wrong.or(end.wrong)), end)
    };
    common::search(&format!("moves {name}"), model, depth, judge)
}

/// Deepest violation that is looked for where a rule is off.
const DEPTH: usize = 14;

fn all_rules(begin: Begin, kinds: Faults, faults: u8) -> Moving {
    Moving {
        rules: MoveRules::ALL,
        faults,
        kinds,
        writes: 1,
        begin,
        script: &[],
        recover_one_of: 1,
    }
}

/// With the depths of searches that take about as long.
const BEGINNINGS: [(Begin, usize); 5] = [
    (Begin::Queued, 8),
    (Begin::Copied, 7),
    (Begin::Given, 6),
    (Begin::CameBack, 6),
    (Begin::Reused, 6),
];

#[test]
fn a_move_ends_wherever_it_is() {
    for (begin, _) in BEGINNINGS {
        let model = all_rules(begin, Faults::ALL, 0);
        let world = model.init_states().swap_remove(0);
        let (end, is_over) = model.recovered(&world);
        assert!(is_over, "{begin:?}: {end:#?}");
        let owner = if begin == Begin::CameBack { 0 } else { 1 };
        assert_eq!(end.store.owner, owner, "{begin:?}");
    }
}

#[test]
fn one_fault_violates_nothing() {
    for (begin, depth) in BEGINNINGS {
        let model = all_rules(begin, Faults::ALL, 1);
        assert_eq!(
            search(&format!("{begin:?}, one fault"), model, depth + 3),
            Searched::NothingFound
        );
    }
}

#[test]
fn two_faults_violate_nothing() {
    for (begin, depth) in BEGINNINGS {
        let model = all_rules(begin, Faults::ALL, 2);
        assert_eq!(search(&format!("{begin:?}, two faults"), model, depth), Searched::NothingFound);
    }
}

#[test]
#[ignore = "larger bounds: `make model`"]
fn three_faults_violate_nothing() {
    for (begin, depth) in BEGINNINGS {
        let model = Moving { recover_one_of: 64, ..all_rules(begin, Faults::ALL, 3) };
        assert_eq!(
            search(&format!("{begin:?}, three faults"), model, depth + 1),
            Searched::NothingFound
        );
        for (name, kinds) in [
            ("processes", Faults::RESTART.and(Faults::FAILOVER).and(Faults::LOSS)),
            ("controllers", Faults::ELECT.and(Faults::SWAP).and(Faults::CUT)),
            ("messages", Faults::ORDER.and(Faults::ANSWER).and(Faults::FRAME)),
            ("operators", Faults::CANCEL.and(Faults::SWAP).and(Faults::ELECT)),
        ] {
            let model = Moving { recover_one_of: 64, ..all_rules(begin, kinds, 2) };
            let name = format!("{begin:?}, two faults of {name}");
            assert_eq!(search(&name, model, depth + 4), Searched::NothingFound);
        }
    }
}

/// One rule is off: a violation must be found. With it on, from the same beginning and as deep,
/// none is.
#[track_caller]
fn is_needed(name: &str, model: Moving, off: impl FnOnce(&mut MoveRules)) {
    // Some are only seen in the end.
    let model = Moving { recover_one_of: 1, ..model };
    let mut without = model;
    off(&mut without.rules);
    let searched = search(&format!("without {name}"), without, DEPTH);
    let Searched::Found { depth, .. } = searched else {
        panic!("{name} makes no difference: {searched:?}")
    };
    assert_eq!(search(&format!("with {name}"), model, depth), Searched::NothingFound);
}

#[test]
fn no_timer_thaws() {
    let model = all_rules(Begin::Copied, Faults::SWAP, 1);
    is_needed("thawing by order alone", model, |rules| rules.no_timer = false);
}

/// The giver is frozen for the first controller, which stops as it sends the order to thaw.
const FROZEN_FOR_ANOTHER: &[Step] =
    &[Step::Ask(0, 0), Step::Pass(0), Step::OrderLate(0, 0), Step::Elect(1)];

#[test]
fn a_freeze_is_one_terms() {
    let mut model = all_rules(Begin::Copied, Faults::ELECT, 0);
    model.script = FROZEN_FOR_ANOTHER;
    is_needed("freeze of a term", model, |rules| rules.freeze_of_term = false);
}

#[test]
fn a_swap_rests_on_the_givers_epoch() {
    let model = all_rules(Begin::Copied, Faults::RESTART, 1);
    is_needed("the giver's epoch", model, |rules| rules.giver_epoch = false);
}

#[test]
fn a_swap_rests_on_the_takers_epoch() {
    let model = all_rules(Begin::Copied, Faults::LOSS, 1);
    is_needed("the taker's epoch", model, |rules| rules.taker_epoch = false);
}

#[test]
fn ready_is_committed() {
    let model = all_rules(Begin::Copied, Faults::FAILOVER, 1);
    is_needed("commitment at the taker", model, |rules| rules.committed = false);
}

#[test]
fn the_taker_opens_once_the_giver_is_sealed() {
    let model = all_rules(Begin::Given, Faults::CUT, 1);
    is_needed("seal", model, |rules| rules.sealed = false);
}

#[test]
fn silence_is_no_seal() {
    let model = all_rules(Begin::Given, Faults::CUT, 1);
    is_needed("no seal by silence", model, |rules| rules.silence_is_no_seal = false);
}

#[test]
fn a_grant_names_the_topology() {
    let model = all_rules(Begin::Given, Faults::RESTART, 1);
    is_needed("the topology of an epoch", model, |rules| rules.epoch_version = false);
}

#[test]
fn a_position_is_an_epoch_and_a_sequence() {
    let model = all_rules(Begin::Copied, Faults::LOSS, 1);
    is_needed("the epoch of a position", model, |rules| rules.position_by_id = false);
}

#[test]
fn only_what_is_acknowledged_is_sent() {
    let model = all_rules(Begin::Copied, Faults::ALL, 0);
    is_needed("acknowledgement before sending", model, |rules| rules.acknowledged_only = false);
}

#[test]
fn the_mark_is_part_of_its_batch() {
    let model = all_rules(Begin::Copied, Faults::FAILOVER, 1);
    is_needed("the mark in the batch", model, |rules| rules.mark_in_batch = false);
}

#[test]
fn staging_begins_empty() {
    let model = all_rules(Begin::Queued, Faults::ALL, 0);
    is_needed("empty beginning", model, |rules| rules.begins_empty = false);
}

#[test]
fn the_giver_deletes_once_the_taker_is_on_disk() {
    let model = all_rules(Begin::Given, Faults::ALL, 0);
    is_needed("the taker's disk", model, |rules| rules.held_on_disk = false);
}

#[test]
fn nothing_is_deleted_for_an_earlier_move() {
    let model = all_rules(Begin::CameBack, Faults::ALL, 0);
    is_needed("the newest mark", model, |rules| rules.clean_under_mark = false);
}

#[test]
fn a_number_is_one_moves() {
    let model = all_rules(Begin::Reused, Faults::ALL, 0);
    is_needed("one number for one move", model, |rules| rules.one_number = false);
}
