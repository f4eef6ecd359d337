//! What a machine does once it knows its master's epochs.

use std::fmt::Display;
use std::sync::Arc;

use super::*;
use crate::answer::{Answer, Granted};
use crate::history::Position;
use crate::history::{Entry, EpochId};
use crate::lineage::Source;
use crate::wire;

fn position(epochs: &[(u64, u64)], latest: u64) -> Position {
    let mut history = History::default();
    for (epoch, first) in epochs {
        let id = EpochId::from_random(*epoch);
        history.push(Entry { epoch: *epoch, id, first: *first, wall_ms: 0 }).unwrap();
    }
    Position { history, latest }
}

fn config(mine: &Position, is_deposed: bool) -> Config {
    let history = Arc::new(mine.history.clone());
    Config { next: mine.latest + 1, history, is_deposed, ..Config::default() }
}

fn says(machine: &mut Machine, conn: u32, text: &str, now: u64) -> Vec<Action<'static>> {
    let bytes: &'static [u8] = text.as_bytes().to_vec().leak();
    machine.step(Event::Received { conn: Conn(conn), bytes }, now)
}

fn send(conn: u32, args: &[&str]) -> Action<'static> {
    let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
    Action::Send { conn: Conn(conn), bytes: wire::request(&args) }
}

/// Connects as connection `conn`, and asks for the master's history; what its answer causes.
fn compared(m: &mut Machine, conn: u32, theirs: &impl Display, now: u64) -> Vec<Action<'static>> {
    m.step(Event::Connected(Conn(conn)), now);
    let (mine, lineage) = (m.position().to_string(), m.config.lineage.history().to_string());
    let asked = says(m, conn, "change.me.db\r\n+OK\r\n+OK\r\n", now);
    let words = ["replconf", "history", &mine, "granted", "?", "lineage", &lineage];
    assert_eq!(asked.last(), Some(&send(conn, &words)), "{asked:?}");
    says(m, conn, &format!("+{theirs}\r\n"), now)
}

/// What a master answers when it is asked.
fn answer(theirs: &Position, granted: Granted, lineage: &Lineage) -> Answer {
    let (position, lineage) = (theirs.clone(), Some(lineage.history()));
    Answer { position, granted, lineage, cluster: None }
}

fn started(mine: &Position, is_deposed: bool) -> Machine {
    let mut m = Machine::new(config(mine, is_deposed), 1);
    m.step(Event::Start, 0);
    m
}

#[test]
fn a_deposed_master_rewinds_and_goes_on_by_partial_sync() {
    let mine = position(&[(1, 1)], 70);
    let theirs = position(&[(1, 1), (2, 61)], 80);
    let mut m = started(&mine, true);
    assert_eq!(
        compared(&mut m, 1, &theirs, 0),
        [Action::Close(Conn(1)), Action::Rewind { fork: 60 }, Action::Report(State::Sync)]
    );
    assert!(m.is_distrusted() && !m.must_full_sync());
    assert_eq!(m.deadline(), None);
    assert_eq!(
        m.step(Event::Rewound { next: 61 }, 5),
        [Action::Connect(Conn(2)), Action::Report(State::Connecting)]
    );
    assert_eq!(compared(&mut m, 2, &theirs, 5), [send(2, &["PSYNC", "61"])]);
    says(&mut m, 2, "+OK\r\n", 5);
    assert_eq!(m.state(), State::Connected);
    assert!(!m.is_distrusted());
}

#[test]
fn histories_that_agree_need_nothing() {
    let mut m = started(&position(&[(1, 1)], 60), true);
    let theirs = position(&[(1, 1), (2, 61)], 61);
    assert_eq!(compared(&mut m, 1, &theirs, 0), [send(1, &["PSYNC", "61"])]);
    assert!(m.is_distrusted(), "not before the master agrees");
    // The master's history changed after it was asked.
    let actions = says(&mut m, 1, "-FORKED the histories differ\r\n", 0);
    assert!(matches!(actions[..], [Action::Close(_), Action::Failed { .. }]), "{actions:?}");
}

#[test]
fn a_master_without_an_epoch_of_its_own_is_waited_for() {
    let mut m = started(&position(&[(1, 1)], 60), true);
    let not_yet = position(&[(1, 1)], 60);
    let (mut conn, mut now) = (1, 0);
    loop {
        let actions = compared(&mut m, conn, &not_yet, now);
        if let [Action::Close(_), Action::FullSync(Reason::Parted(_)), ..] = &actions[..] {
            break;
        }
        let Some(Action::Failed { fault: Fault::NoEpoch, .. }) = actions.get(1) else {
            panic!("{actions:?}")
        };
        now = m.deadline().unwrap();
        m.step(Event::Tick, now);
        conn += 1;
    }
    assert!((10_000..16_000).contains(&now), "{now}");
    assert!(m.is_distrusted());
}

#[test]
fn data_that_may_hold_acknowledged_writes_is_not_given_up_for_a_master_without_an_epoch() {
    let mine = position(&[(1, 1)], 60);
    let mut m = Machine::new(Config { epoch_patience_ms: None, ..config(&mine, false) }, 1);
    m.step(Event::Start, 0);
    let shorter = position(&[(1, 1)], 50);
    let (mut conn, mut now) = (1, 0);
    while now < 3_600_000 {
        let actions = compared(&mut m, conn, &shorter, now);
        let is_waiting =
            matches!(actions.get(1), Some(Action::Failed { fault: Fault::NoEpoch, .. }));
        assert!(is_waiting, "{actions:?}");
        now = m.deadline().unwrap();
        m.step(Event::Tick, now);
        conn += 1;
    }
    let opened = position(&[(1, 1), (2, 51)], 51);
    let actions = compared(&mut m, conn, &opened, now);
    assert!(actions.contains(&Action::Rewind { fork: 50 }), "{actions:?}");
}

#[test]
fn what_cannot_be_rewound_is_copied() {
    let mine = position(&[(1, 1)], 70);
    let theirs = position(&[(1, 1), (2, 61)], 80);
    for is_spoilt in [false, true] {
        let mut m = started(&mine, false);
        compared(&mut m, 1, &theirs, 0);
        let late = Event::RewindImpossible { cause: "late".into(), is_spoilt };
        assert_eq!(
            m.step(late, 0),
            [Action::FullSync(Reason::Unrewindable("late".into())), Action::Connect(Conn(2))]
        );
        assert_eq!(m.must_full_sync(), is_spoilt);
        // The copy breaks off: no second rewind is tried.
        m.step(Event::Closed { conn: Conn(2), cause: "broken".into() }, 0);
        let now = m.deadline().unwrap();
        m.step(Event::Tick, now);
        if !is_spoilt {
            let actions = compared(&mut m, 3, &theirs, now);
            let is_copied = matches!(actions[1], Action::FullSync(Reason::Unrewindable(_)));
            assert!(is_copied, "{actions:?}");
            // At another fork it is another question, and what was exported is not all.
            m.step(Event::Closed { conn: Conn(4), cause: "broken".into() }, now);
            let now = m.deadline().unwrap();
            m.step(Event::Tick, now);
            let other = position(&[(1, 1), (3, 51)], 80);
            assert_eq!(compared(&mut m, 5, &other, now)[1], Action::Rewind { fork: 50 });
        }
    }
}

/// What was exported was what lay behind it then.
#[test]
fn a_fork_that_could_not_be_rewound_to_is_another_one_behind_a_stream() {
    let mine = position(&[(1, 1)], 70);
    let theirs = position(&[(1, 1), (2, 61)], 80);
    let mut m = started(&mine, false);
    assert_eq!(compared(&mut m, 1, &theirs, 0)[1], Action::Rewind { fork: 60 });
    m.step(Event::RewindImpossible { cause: "late".into(), is_spoilt: false }, 0);
    m.step(Event::Closed { conn: Conn(2), cause: "broken".into() }, 0);
    let now = m.deadline().unwrap();
    m.step(Event::Tick, now);
    // Another one answers there, which has all that is here.
    let longer = position(&[(1, 1), (2, 75)], 80);
    assert_eq!(compared(&mut m, 3, &longer, now), [send(3, &["PSYNC", "71"])]);
    says(&mut m, 3, "+OK\r\n", now);
    assert_eq!(m.state(), State::Connected);
    m.step(Event::Closed { conn: Conn(3), cause: "ended".into() }, now);
    let now = m.deadline().unwrap();
    m.step(Event::Tick, now);
    assert_eq!(compared(&mut m, 4, &theirs, now)[1], Action::Rewind { fork: 60 });
}

#[test]
fn a_failed_rewind_is_tried_again_and_a_stranger_is_copied() {
    let theirs = position(&[(1, 1), (2, 61)], 80);
    let mut m = started(&position(&[(1, 1)], 70), true);
    compared(&mut m, 1, &theirs, 0);
    let actions = m.step(Event::RewindFailed { cause: "disk full".into() }, 0);
    assert!(matches!(actions[0], Action::Failed { .. }), "{actions:?}");
    let now = m.deadline().unwrap();
    m.step(Event::Tick, now);
    assert_eq!(compared(&mut m, 2, &theirs, now)[1], Action::Rewind { fork: 60 });

    let theirs = position(&[(5, 1), (6, 61)], 80);
    let mut m = started(&position(&[(1, 1)], 70), false);
    let actions = compared(&mut m, 1, &theirs, 0);
    assert!(matches!(actions[1], Action::FullSync(Reason::Parted(_))), "{actions:?}");
    // An epoch learnt meanwhile counts at the next attempt.
    m.step(Event::Closed { conn: Conn(2), cause: "broken".into() }, 0);
    m.know(Arc::new(position(&[(5, 1), (6, 61)], 70).history), Arc::default(), 70);
    let now = m.deadline().unwrap();
    m.step(Event::Tick, now);
    assert_eq!(compared(&mut m, 3, &theirs, now), [send(3, &["PSYNC", "71"])]);
}

#[test]
fn a_master_without_histories_is_followed_only_where_there_is_none_here() {
    for (mine, expected) in [(position(&[], 9), "PSYNC"), (position(&[(1, 1)], 9), "waits")] {
        for answers in [
            // Kvrocks; a Holdfast that does not know histories yet.
            "change.me.db\r\n+OK\r\n-ERR unknown option\r\n",
            "change.me.db\r\n+OK\r\n+OK\r\n-ERR unknown option\r\n-ERR unknown option\r\n",
        ] {
            let mut m = started(&mine, false);
            m.step(Event::Connected(Conn(1)), 0);
            let actions = says(&mut m, 1, answers, 0);
            let found = match &actions[..] {
                [.., Action::Failed { fault: Fault::NoGrant { epoch: 1, .. }, .. }] => "waits",
                [.., last] if *last == send(1, &["PSYNC", "10"]) => "PSYNC",
                _ => panic!("{actions:?}"),
            };
            assert_eq!(found, expected);
        }
    }
    let mut m = started(&position(&[(1, 1)], 9), false);
    m.step(Event::Connected(Conn(1)), 0);
    let actions = says(&mut m, 1, "change.me.db\r\n+OK\r\n+OK\r\n+nonsense\r\n", 0);
    assert!(actions.iter().any(|action| matches!(action, Action::Failed { .. })), "{actions:?}");
}

#[test]
fn data_of_an_epoch_is_kept_while_the_master_shows_no_grant() {
    let mine = position(&[(1, 1), (2, 61)], 70);
    // Where leases block, and where they do not.
    for epoch_patience_ms in [None, Some(10_000)] {
        let config = Config { epoch_patience_ms, ..config(&mine, false) };
        let mut m = Machine::new(config, 1);
        m.step(Event::Start, 0);
        let empty = answer(&position(&[], 0), Granted::None, &Lineage::default());
        let (mut conn, mut now) = (1, 0);
        while now < 3_600_000 {
            let actions = compared(&mut m, conn, &empty, now);
            let [Action::Close(_), Action::Failed { fault, .. }] = &actions[..] else {
                panic!("{actions:?}")
            };
            assert!(fault.to_string().contains("no data and no grant of epoch 2"), "{fault}");
            assert!(!m.is_distrusted(), "it may still take over");
            now = m.deadline().unwrap();
            m.step(Event::Tick, now);
            conn += 1;
        }
        // An operator let the empty node go on, in a later epoch.
        let later = answer(&position(&[(3, 1)], 1), Granted::Epoch(3), &Lineage::default());
        let actions = compared(&mut m, conn, &later, now);
        assert!(actions.contains(&Action::FullSync(Reason::Parted("no epoch in common".into()))));
    }
}

/// Between the comparison and the copy the master may have become another process.
#[test]
fn a_grant_is_shown_once_more_where_the_copy_is_asked_for() {
    let mine = position(&[(1, 1)], 70);
    let later = answer(&position(&[(3, 1)], 1), Granted::Epoch(3), &Lineage::default());
    let config = Config { member: Some("m/1/-".into()), ..config(&mine, false) };
    for (granted, is_copied) in [(Granted::Epoch(3), true), (Granted::None, false)] {
        let mut m = Machine::new(config.clone(), 1);
        m.step(Event::Start, 0);
        m.step(Event::Connected(Conn(1)), 0);
        says(&mut m, 1, "change.me.db\r\n+OK\r\n+OK\r\n+OK\r\n", 0);
        let actions = says(&mut m, 1, &format!("+{later}\r\n"), 0);
        assert!(actions.contains(&Action::Connect(Conn(2))), "{actions:?}");
        m.step(Event::Connected(Conn(2)), 0);
        let named = says(&mut m, 2, "+OK\r\n", 0);
        assert_eq!(named, [send(2, &["replconf", "member", "m/1/-"])]);
        let words = ["replconf", "history", &mine.to_string(), "granted", "?", "lineage", "-"];
        assert_eq!(says(&mut m, 2, "+OK\r\n", 0), [send(2, &words)]);
        let theirs = answer(&later.position, granted, &Lineage::default());
        let actions = says(&mut m, 2, &format!("+{theirs}\r\n"), 0);
        let fetches = send(2, &["_fetch_meta"]);
        assert_eq!(actions.contains(&fetches), is_copied, "{actions:?}");
        let is_waiting = actions
            .iter()
            .any(|action| matches!(action, Action::Failed { fault: Fault::NoGrant { .. }, .. }));
        assert_eq!(is_waiting, !is_copied, "{actions:?}");
    }
}

#[test]
fn own_writes_are_copied_over_and_the_masters_lineage_is_taken_on() {
    let (mut a, mut b) = (Lineage::default(), Lineage::default());
    a.begin(0, EpochId::from_random(1), 0, Source::Own);
    b.begin(0, EpochId::from_random(1), 0, Source::Master);
    let theirs = answer(&position(&[], 80), Granted::None, &a);
    let adopts = Action::Adopt(Some(a.history()));
    let with = |lineage: &Lineage| {
        let lineage = Arc::new(lineage.clone());
        let mut m = Machine::new(Config { lineage, ..config(&position(&[], 71), false) }, 1);
        m.step(Event::Start, 0);
        m
    };
    let mut m = with(&b);
    assert_eq!(compared(&mut m, 1, &theirs, 0), [send(1, &["PSYNC", "72"])]);
    assert_eq!(says(&mut m, 1, "+OK\r\n", 0)[0], adopts);

    b.begin(70, EpochId::from_random(9), 0, Source::Own);
    let mut m = with(&b);
    let actions = compared(&mut m, 1, &theirs, 0);
    assert!(matches!(actions[1], Action::FullSync(Reason::Parted(_))), "{actions:?}");
    assert!(m.is_distrusted(), "what is replaced is kept aside");
    assert_eq!(m.copied_lineage(), Some(Some(&a.history())));

    // A master that tells nothing of itself: what was written here is not its own.
    let mut m = with(&b);
    m.step(Event::Connected(Conn(1)), 0);
    let actions = says(&mut m, 1, "change.me.db\r\n+OK\r\n-ERR unknown option\r\n", 0);
    assert!(actions.contains(&Action::FullSync(Reason::Required)), "{actions:?}");
    assert!(m.is_distrusted());
    assert_eq!(m.copied_lineage(), Some(None));
}

/// A rolling upgrade: the master is of a version that keeps histories and no lineage, and tells no
/// grant.
#[test]
fn data_that_the_epochs_prove_is_not_copied_from_a_master_of_before() {
    let mut own = Lineage::default();
    own.begin(0, EpochId::from_random(7), 0, Source::Own);
    let with = |mine: &Position, lineage: &Lineage, is_deposed| {
        let lineage = Arc::new(lineage.clone());
        let mut m = Machine::new(Config { lineage, ..config(mine, is_deposed) }, 1);
        m.step(Event::Start, 0);
        m
    };
    let theirs = position(&[(1, 1), (2, 61)], 80);
    for is_deposed in [false, true] {
        let mut m = with(&position(&[(1, 1)], 60), &own, is_deposed);
        assert_eq!(compared(&mut m, 1, &theirs, 0), [send(1, &["PSYNC", "61"])]);
        // The successor's records, which follow, are not this node's own.
        let nobodys = Action::Adopt(Some(History::default()));
        assert_eq!(says(&mut m, 1, "+OK\r\n", 0)[0], nobodys);
    }
    // A link that breaks, and a start: the epoch is not closed.
    let mut m = with(&position(&[(1, 1), (2, 61)], 70), &Lineage::default(), false);
    assert_eq!(compared(&mut m, 1, &theirs, 0), [send(1, &["PSYNC", "71"])]);
    // Without epochs, by hand: it was promoted and wrote nothing.
    own.begin(60, EpochId::from_random(8), 0, Source::Master);
    own.begin(70, EpochId::from_random(9), 0, Source::Own);
    let mut m = with(&position(&[], 70), &own, false);
    assert_eq!(compared(&mut m, 1, &position(&[], 80), 0), [send(1, &["PSYNC", "71"])]);
    assert_eq!(says(&mut m, 1, "+OK\r\n", 0)[0], Action::Adopt(None));
    // What is known of the data otherwise stays known.
    let mut own = Lineage::default();
    own.begin(0, EpochId::from_random(7), 0, Source::Master);
    let mut m = with(&position(&[], 70), &own, false);
    compared(&mut m, 1, &position(&[], 80), 0);
    let actions = says(&mut m, 1, "+OK\r\n", 0);
    assert!(!actions.iter().any(|action| matches!(action, Action::Adopt(_))), "{actions:?}");
}

/// What a replica wrote while it had no stream is asked about too.
#[test]
fn records_that_were_written_meanwhile_count() {
    let none = |latest| position(&[], latest);
    let mut m = started(&none(70), false);
    m.know(Arc::new(none(70).history), Arc::default(), 72);
    assert_eq!(compared(&mut m, 1, &none(75), 0), [send(1, &["PSYNC", "73"])]);
    // And what it writes while the answer is on its way makes the answer worthless.
    m.know(Arc::new(none(70).history), Arc::default(), 73);
    says(&mut m, 1, "+CONTINUE\r\n", 0);
    assert!(m.must_full_sync());
}

#[test]
fn what_a_master_had_written_when_it_was_asked_is_history() {
    let mut m = started(&position(&[(1, 1)], 70), false);
    compared(&mut m, 1, &position(&[(1, 1)], 80), 0);
    let actions = says(&mut m, 1, "+OK\r\n", 0);
    assert!(actions.contains(&Action::HistoryUpTo(80)), "{actions:?}");
}

/// Its epochs may have higher numbers, and be granted.
#[test]
fn nothing_is_taken_of_a_master_of_another_cluster_or_given_up_for_it() {
    let mine = position(&[(1, 1)], 70);
    let theirs = position(&[(1, 1), (2, 61)], 80);
    for (cluster, is_other) in [("00000000000000c1", false), ("00000000000000c2", true)] {
        for must_full_sync in [false, true] {
            let mut m = Machine::new(Config { must_full_sync, ..config(&mine, true) }, 1);
            m.be_of(Some("00000000000000c1".to_owned()));
            m.step(Event::Start, 0);
            let said = answer(&theirs, Granted::Epoch(2), &Lineage::default());
            let said = Answer { cluster: Some(cluster.to_owned()), ..said };
            let actions = compared(&mut m, 1, &said, 0);
            let refused = actions.iter().any(|action| {
                matches!(action, Action::Failed { fault: Fault::OtherCluster { .. }, .. })
            });
            assert_eq!(refused, is_other, "{actions:?}");
            let goes_on =
                |action: &Action<'_>| matches!(action, Action::Rewind { .. } | Action::FullSync(_));
            assert_eq!(actions.iter().any(goes_on), !is_other, "{actions:?}");
        }
    }
}

/// It may be empty, and would be copied over the data of an epoch.
#[test]
fn a_kvrocks_in_the_place_of_a_master_with_epochs_is_not_taken_for_it() {
    let mine = position(&[(1, 1)], 60);
    let mut m = started(&mine, false);
    assert_eq!(compared(&mut m, 1, &mine, 0), [send(1, &["PSYNC", "61"])]);
    says(&mut m, 1, "+OK\r\n", 0);
    assert_eq!(m.state(), State::Connected);
    m.step(Event::Closed { conn: Conn(1), cause: "ended".into() }, 0);
    let now = m.deadline().unwrap();
    m.step(Event::Tick, now);
    m.step(Event::Connected(Conn(2)), now);
    let actions = says(&mut m, 2, "change.me.db\r\n+OK\r\n-ERR unknown option\r\n", now);
    let is_waiting = |action: &Action<'_>| {
        matches!(action, Action::Failed { fault: Fault::NoGrant { epoch: 1, .. }, .. })
    };
    assert!(actions.iter().any(is_waiting), "{actions:?}");
}
