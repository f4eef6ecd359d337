use super::*;
use crate::{Hearing, Witness};

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// Four nodes, of which so many answer this process; it and they have heard the leader at 10 s.
fn parted(answering: usize, ms: u64) -> Standby {
    let heard_at = Some(at(10_000));
    let node =
        |index: usize| Witness { answered_at: (index < answering).then(|| at(ms)), heard_at };
    let nodes = (0..4).map(node).collect();
    Standby { heard_at: at(10_000), nodes, ..Standby::default() }
}

/// One that has looked once, and seen no question.
fn fresh() -> Doubts {
    let mut doubts = Doubts::default();
    assert!(!doubts.looked(at(10_100), "a", Asked::default()));
    doubts
}

fn shows(doubts: &mut Doubts, ms: u64, question: &str, reaches: Option<usize>) -> bool {
    doubts.looked(at(ms), "a", Asked { claim: "a", question, reaches })
}

fn step(doubts: &mut Doubts, answering: usize, ms: u64) -> Step {
    doubts.step(parted(answering, ms), &Policy::default(), at(ms))
}

#[test]
fn a_leader_that_reaches_as_many_nodes_keeps_the_lead_as_long_as_it_says_so() {
    let mut doubts = fresh();
    assert_eq!(step(&mut doubts, 2, 10_199), Step::Wait);
    assert_eq!(step(&mut doubts, 2, 10_200), Step::Ask, "half of the silence");
    assert_eq!(step(&mut doubts, 2, 10_260), Step::Wait, "it has asked");
    assert!(!shows(&mut doubts, 10_250, "q", None));
    assert!(shows(&mut doubts, 10_310, "q", Some(2)), "the first word");
    assert!(!shows(&mut doubts, 10_370, "q", Some(2)));
    // It lived after 10,100: by then the question was not there.
    assert_eq!(step(&mut doubts, 2, 10_399), Step::Wait);
    assert_eq!(step(&mut doubts, 2, 10_400), Step::Ask, "that was a while ago");
    assert_eq!(step(&mut doubts, 2, 10_499), Step::Wait);
    assert_eq!(step(&mut doubts, 2, 10_500), Step::Claim(Proof::Silent), "and now too long");
    assert!(!shows(&mut doubts, 10_430, "r", None));
    assert!(!shows(&mut doubts, 10_490, "r", Some(2)));
    assert_eq!(step(&mut doubts, 2, 10_500), Step::Wait);
}

/// Numbers are compared: more takes the lead, as many do not.
#[test]
fn a_leader_that_reaches_fewer_nodes_is_replaced_whatever_it_says() {
    for (reaches, answering, is_replaced) in
        [(2, 2, false), (3, 2, false), (2, 3, true), (1, 2, true), (0, 2, true), (4, 3, false)]
    {
        let mut doubts = fresh();
        assert_eq!(step(&mut doubts, answering, 10_250), Step::Ask);
        shows(&mut doubts, 10_300, "q", Some(reaches));
        shows(&mut doubts, 10_350, "r", Some(reaches));
        let step = step(&mut doubts, answering, 10_450);
        let is_claim = step == Step::Claim(Proof::Silent);
        assert_eq!(is_claim, is_replaced, "{reaches} against {answering}: {step:?}");
    }
}

/// A leader that hangs, or an etcd that does, is waited for as long as before.
#[test]
fn what_is_not_answered_is_a_silence_like_any_other() {
    let mut unanswered = fresh();
    assert_eq!(step(&mut unanswered, 2, 10_250), Step::Ask);
    shows(&mut unanswered, 10_300, "q", None);
    assert_eq!(step(&mut unanswered, 2, 10_399), Step::Wait);
    assert_eq!(step(&mut unanswered, 2, 10_400), Step::Claim(Proof::Silent));
    // Nobody knows whether it was asked.
    let mut silent = fresh();
    assert_eq!(step(&mut silent, 2, 10_250), Step::Ask);
    assert_eq!(step(&mut silent, 2, 10_449), Step::Claim(Proof::Silent));
}

#[test]
fn only_an_answer_to_a_question_that_was_not_there_before_is_one() {
    // It may be as old as the store.
    let mut late = Doubts::default();
    assert!(!shows(&mut late, 10_100, "q", Some(4)));
    assert!(!shows(&mut late, 10_300, "q", Some(4)));
    step(&mut late, 2, 10_300);
    assert_eq!(step(&mut late, 2, 10_400), Step::Claim(Proof::Silent));
    // Put after the look of 10,100, and answered after that: when the answer came says nothing.
    let mut slow = fresh();
    shows(&mut slow, 10_390, "q", None);
    shows(&mut slow, 10_480, "q", Some(4));
    assert_eq!(step(&mut slow, 2, 10_300), Step::Ask);
    assert_eq!(step(&mut slow, 2, 10_499), Step::Wait);
    assert_eq!(step(&mut slow, 2, 10_500), Step::Claim(Proof::Silent));
}

#[test]
fn the_word_of_another_leader_is_none_of_this_one() {
    let mut doubts = fresh();
    let of = |claim| Asked { claim, question: "q", reaches: Some(4) };
    assert!(!doubts.looked(at(10_300), "a", of("z")), "of an earlier claim");
    assert_eq!(step(&mut doubts, 2, 10_300), Step::Ask);
    assert_eq!(step(&mut doubts, 2, 10_400), Step::Claim(Proof::Silent));
    // What the last one has said is over with its claim.
    let mut next = fresh();
    assert!(shows(&mut next, 10_300, "q", Some(4)));
    assert!(!next.looked(at(10_310), "b", of("a")));
    step(&mut next, 2, 10_310);
    assert_eq!(step(&mut next, 2, 10_450), Step::Claim(Proof::Silent));
}

/// Several that stand by ask one after the other, and each hears what the others are told.
#[test]
fn one_does_not_ask_what_another_has_just_asked() {
    let mut doubts = fresh();
    shows(&mut doubts, 10_290, "of another", None);
    assert_eq!(step(&mut doubts, 2, 10_290), Step::Wait, "put after 10,100");
    assert_eq!(step(&mut doubts, 2, 10_300), Step::Ask, "that is nobody's answer any more");
    let mut told = fresh();
    assert!(shows(&mut told, 10_290, "of another", Some(2)));
    assert_eq!(step(&mut told, 2, 10_400), Step::Ask);
    assert_eq!(step(&mut told, 2, 10_499), Step::Wait);
}

/// Nodes may answer all at once, and the leader have been silent for long.
#[test]
fn nobody_claims_by_a_silence_without_having_asked() {
    let mut doubts = fresh();
    assert_eq!(step(&mut doubts, 0, 15_000), Step::Wait, "no node answers");
    assert_eq!(step(&mut doubts, 2, 15_100), Step::Ask);
    assert_eq!(step(&mut doubts, 2, 15_199), Step::Wait);
    assert_eq!(step(&mut doubts, 2, 15_200), Step::Claim(Proof::Silent));
    // A node less for a moment: it begins anew.
    assert_eq!(step(&mut doubts, 0, 15_260), Step::Wait);
    assert_eq!(step(&mut doubts, 2, 15_320), Step::Ask);
    assert_eq!(step(&mut doubts, 2, 15_380), Step::Wait);
}

#[test]
fn nobody_is_asked_about_a_lead_that_is_free_or_whose_process_is_gone() {
    let policy = Policy::default();
    let mut doubts = fresh();
    let vacant = || Standby { vacant_at: Some(at(10_290)), ..parted(2, 10_300) };
    assert_eq!(doubts.step(vacant(), &policy, at(10_300)), Step::Claim(Proof::Vacant));
    let (closed_at, refused_at) = (Some(at(10_110)), Some(at(10_160)));
    let gone = |ms| Standby { closed_at, refused_at, ..parted(2, ms) };
    assert_eq!(doubts.step(gone(10_160), &policy, at(10_160)), Step::Claim(Proof::Refused));
    // A firewall that refuses: it takes the lead once, and then the other has time to speak.
    let paused = |ms| Standby { claimed_at: Some(at(10_000)), ..gone(ms) };
    assert_eq!(doubts.step(paused(11_799), &policy, at(11_799)), Step::Wait);
    assert_eq!(doubts.step(paused(11_800), &policy, at(11_800)), Step::Ask);
    shows(&mut doubts, 11_850, "q", None);
    shows(&mut doubts, 11_900, "r", Some(2));
    assert_eq!(doubts.step(paused(12_000), &policy, at(12_000)), Step::Wait);
    assert_eq!(doubts.step(paused(12_250), &policy, at(12_250)), Step::Claim(Proof::Refused));
    // What it said before its end is no sign of life behind that.
    let mut killed = fresh();
    shows(&mut killed, 10_105, "q", Some(4));
    assert_eq!(killed.step(gone(10_160), &policy, at(10_160)), Step::Claim(Proof::Refused));
}

/// A controller of the simulation.
#[derive(Default)]
struct Controller {
    doubts: Doubts,
    /// Claim that it watches, and when it heard the leader last, or began to watch it.
    watches: (u64, u64),
    claimed_at: Option<u64>,
    /// It leads by few nodes, and how often it has in vain.
    few: (bool, u32),
    /// When each node answered it, and by that answer had heard a controller.
    nodes: Vec<(Option<u64>, Option<u64>)>,
}

/// Two controllers that reach the store, and nodes of which a cut leaves some to each.
struct Scene {
    now: u64,
    /// Which nodes each reaches from then on.
    cuts: [(u64, Vec<usize>); 2],
    /// When the first leader hangs.
    hangs_at: u64,
    /// No leader is asked, as by controllers of before.
    is_unasked: bool,
    /// The controller that leads, and the number of its claim.
    leader: (usize, u64),
    /// Claim, number and answer.
    question: (u64, u64, Option<usize>),
    /// When each node heard a controller.
    heard: Vec<Option<u64>>,
    controllers: [Controller; 2],
    /// When the lead changed, and whose it was then.
    changes: Vec<(u64, usize)>,
}

/// The cut comes then.
const CUT: u64 = 5_000;

impl Scene {
    fn new(nodes: usize, first: &[usize], second: &[usize]) -> Self {
        let controller =
            || Controller { nodes: vec![(None, None); nodes], ..Controller::default() };
        Self {
            now: 0,
            cuts: [(CUT, first.to_vec()), (CUT, second.to_vec())],
            hangs_at: u64::MAX,
            is_unasked: false,
            leader: (0, 1),
            question: (0, 0, None),
            heard: vec![None; nodes],
            controllers: [controller(), controller()],
            changes: Vec::new(),
        }
    }

    fn hangs(&self, who: usize) -> bool {
        who == 0 && self.now >= self.hangs_at
    }

    fn run(mut self, until: u64) -> Vec<(u64, usize)> {
        while self.now < until {
            for who in (0..2).filter(|who| !self.hangs(*who)).collect::<Vec<_>>() {
                let phase = [0, 70][who];
                if (self.now + phase).is_multiple_of(200) {
                    self.beats(who);
                }
                let is_heard = self.now < self.cuts[0].0.min(self.cuts[1].0);
                if self.now.is_multiple_of(100) && is_heard && !self.hangs(self.leader.0) {
                    self.controllers[who].watches.1 = self.now;
                }
                if (self.now + phase).is_multiple_of(60) {
                    match who == self.leader.0 {
                        true => self.leads(who),
                        false => self.stands_by(who),
                    }
                }
            }
            self.now += 10;
        }
        self.changes
    }

    /// The nodes that it reaches answer, and hear it if it leads.
    fn beats(&mut self, who: usize) {
        let (cut_at, left) = &self.cuts[who];
        for node in 0..self.heard.len() {
            if self.now >= *cut_at && !left.contains(&node) {
                continue;
            }
            if who == self.leader.0 {
                self.heard[node] = Some(self.now);
            }
            self.controllers[who].nodes[node] = (Some(self.now), self.heard[node]);
        }
    }

    fn hearing(&self, who: usize) -> Hearing {
        let mut hearing = Hearing::default();
        for (answered_at, _) in &self.controllers[who].nodes {
            hearing.add(answered_at.map(at), &Policy::default(), at(self.now));
        }
        hearing
    }

    fn leads(&mut self, who: usize) {
        if !self.is_unasked && self.question.0 == self.leader.1 && self.question.2.is_none() {
            self.question.2 = Some(self.hearing(who).reached);
        }
    }

    fn stands_by(&mut self, who: usize) {
        let (hearing, policy, now) = (self.hearing(who), Policy::default(), at(self.now));
        let (of, number, reaches) = self.question;
        let (leader, of, number) = (self.leader.1.to_string(), of.to_string(), number.to_string());
        let own = &mut self.controllers[who];
        if own.watches.0 != self.leader.1 {
            own.watches = (self.leader.1, self.now);
        }
        own.doubts.looked(now, &leader, Asked { claim: &of, question: &number, reaches });
        let nodes = own.nodes.iter().map(|(answered_at, heard_at)| Witness {
            answered_at: answered_at.map(at),
            heard_at: heard_at.map(at),
        });
        let standby = Standby {
            heard_at: at(own.watches.1),
            nodes: nodes.collect(),
            hearing,
            claimed_at: own.claimed_at.map(at),
            in_vain: own.few.1,
            ..Standby::default()
        };
        let step = match self.is_unasked {
            true => proof(&standby, &policy, now).map_or(Step::Wait, Step::Claim),
            false => own.doubts.step(standby, &policy, now),
        };
        match step {
            Step::Wait => {}
            Step::Ask => self.question = (self.leader.1, self.question.1 + 1, None),
            Step::Claim(by) => {
                (own.claimed_at, own.few.0) = (Some(self.now), by == Proof::Few);
                let last = &mut self.controllers[self.leader.0].few;
                *last = (false, if last.0 { last.1 + 1 } else { 0 });
                self.leader = (who, self.leader.1 + 1);
                self.changes.push((self.now, who));
            }
        }
    }
}

/// Two minutes of a cut. Without a word the lead goes from hand to hand.
#[test]
fn no_cut_takes_the_lead_from_one_that_reaches_as_many_nodes() {
    let cases: [(usize, &[usize], &[usize], usize); 4] = [
        (4, &[0, 1], &[2, 3], 30),
        (6, &[0, 1, 2, 3], &[4, 5], 2),
        (5, &[0], &[1], 2),
        (1, &[], &[], 0),
    ];
    for (nodes, first, second, least) in cases {
        let scene = || Scene::new(nodes, first, second);
        let changes = scene().run(125_000);
        assert!(changes.is_empty(), "{first:?} {second:?}: {changes:?}");
        let before = Scene { is_unasked: true, ..scene() }.run(125_000);
        assert!(before.len() >= least, "{first:?} {second:?}: {before:?}");
    }
}

/// Neither side notices it at the same moment as the other.
#[test]
fn a_cut_that_one_side_notices_first_takes_no_lead() {
    for late in [0, 50, 100, 200] {
        for (first, second) in [(0, late), (late, 0)] {
            let mut scene = Scene::new(4, &[0, 1], &[2, 3]);
            (scene.cuts[0].0, scene.cuts[1].0) = (CUT + first, CUT + second);
            let changes = scene.run(30_000);
            assert!(changes.is_empty(), "{first} {second}: {changes:?}");
        }
    }
}

#[test]
fn one_that_reaches_more_nodes_takes_the_lead_once() {
    let cases: [(usize, &[usize], &[usize], u64); 4] = [
        (6, &[0, 1], &[2, 3, 4, 5], 0),
        (4, &[], &[2, 3], 0),
        (4, &[0], &[1, 2, 3], 0),
        // Of which it cannot know that they are most.
        (5, &[0], &[1, 2], 10_000),
    ];
    for (nodes, first, second, after) in cases {
        let changes = Scene::new(nodes, first, second).run(125_000);
        let is_soon = |ms: u64| (CUT + after..CUT + after + 1_500).contains(&ms);
        let is_so = matches!(changes[..], [(ms, 1)] if is_soon(ms));
        assert!(is_so, "{first:?} {second:?}: {changes:?}");
    }
}

#[test]
fn a_leader_that_hangs_is_replaced_as_soon_as_if_nobody_had_asked() {
    let all = [0, 1, 2];
    for phase in (0..600).step_by(10) {
        let hangs_at = CUT + phase;
        let scene = || Scene { hangs_at, ..Scene::new(3, &all, &all) };
        let uncut = |mut scene: Scene| {
            (scene.cuts[0].0, scene.cuts[1].0) = (u64::MAX, u64::MAX);
            scene.run(hangs_at + 5_000)
        };
        let changes = uncut(scene());
        assert_eq!(changes, uncut(Scene { is_unasked: true, ..scene() }), "{phase}");
        assert!(matches!(changes[..], [(ms, 1)] if ms < hangs_at + 500), "{phase}: {changes:?}");
    }
    // Behind a cut, where it has been saying that it lives.
    for phase in (0..600).step_by(10) {
        let hangs_at = 60_000 + phase;
        let changes = Scene { hangs_at, ..Scene::new(4, &[0, 1], &[2, 3]) }.run(70_000);
        let is_soon = |ms: u64| (hangs_at..hangs_at + 600).contains(&ms);
        assert!(matches!(changes[..], [(ms, 1)] if is_soon(ms)), "{phase}: {changes:?}");
    }
}
