//! What users of nodes wish: what is queued of it, and what nodes are told.

use api::moves::MoveId;
use api::moves::wish::{Fate, Part, PartId, Stage, Told, Wish, Wished};

use super::moves::two;
use super::*;

const WISH: PartId = PartId::of_wish([7; 20]);
const OTHER: PartId = PartId::of_wish([8; 20]);

/// Shards of a and c, and nothing that moves.
fn calm() -> Script {
    let mut s = two();
    s.record.moves = crate::moves::Moves::default();
    s.acts();
    s.balancer_answers(&[]);
    s.acts();
    s
}

fn part(slots: &str, to: &str) -> Part {
    Part { slots: slots.parse().unwrap(), to: id(to) }
}

fn told(id: PartId, fate: Fate) -> Told {
    Told { id, fate }
}

impl Script {
    fn wishes(&mut self, name: &str, id: PartId, wish: Wish) {
        let wished = Wished { id, is_heard: false, wish };
        self.answers_with(name, |reply| reply.wishes = vec![wished]);
    }

    fn told(&self, name: &str) -> Vec<Told> {
        self.plan().told.get(&id(name)).cloned().unwrap_or_default()
    }

    /// Nothing of it is done, and why.
    fn refuses_wish(&mut self, parts: Vec<Part>) -> String {
        self.wishes("a", WISH, Wish::Move(parts));
        assert_eq!(self.swap(), None);
        match &self.told("a")[..] {
            [Told { id: WISH, fate: Fate::Refused(why) }] => why.clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_wish_is_taken_into_the_queue_once_and_told_of_to_its_end() {
    let mut s = calm();
    let parts = vec![part("20-29", "c"), part("40", "c")];
    s.wishes("a", WISH, Wish::Move(parts));
    assert_eq!(s.told("a"), [], "nothing is told before it is in the store");
    let why = format!(
        "slots 20-29 are to move to {0}, slots 40 are to move to {0}: asked for at node a:1",
        id("c")
    );
    assert_eq!(s.swap(), Some(why));
    s.acts();
    let queued = |s: &Script| -> Vec<(String, Option<PartId>)> {
        s.record.moves.list.iter().map(|one| (one.slots.to_string(), one.wish)).collect()
    };
    let both = [("20-29".to_owned(), Some(WISH)), ("40".to_owned(), Some(WISH.part(1)))];
    assert_eq!(queued(&s), both);
    let taken = |id| told(id, Fate::Taken(Stage::Queued));
    assert_eq!(s.told("a"), [taken(WISH), taken(WISH.part(1))]);
    assert!(s.leaves("a").contains(&format!("wish {WISH} taken queued")), "{}", s.leaves("a"));
    // It is taken once, whatever leads then, and whatever becomes of the answer.
    s.acts();
    s.acts();
    assert_eq!(queued(&s), both);
    assert_eq!(s.record.moves.list[0].phase.word(), "copy");
    let copied = told(WISH, Fate::Taken(Stage::Copy));
    assert_eq!(s.told("a"), [copied, taken(WISH.part(1))]);
    // Begun anew it is the same wish.
    s.record.moves.again(MoveId(1), "the giver has lost it");
    assert_eq!(s.told("a")[0], taken(WISH));
    s.record.moves.conclude(MoveId(3), None);
    s.record.moves.conclude(MoveId(2), Some("cancelled".into()));
    let ends = [told(WISH, Fate::Done), told(WISH.part(1), Fate::Failed("cancelled".into()))];
    assert_eq!((s.told("a"), s.swap()), (ends.to_vec(), None));
    s.answers_with("a", |reply| reply.wishes.clear());
    assert_eq!(s.told("a"), []);
}

#[test]
fn what_is_new_or_over_is_told_before_what_goes_on() {
    let mut s = calm();
    let (heard, other) = (WISH, OTHER);
    let parts = vec![part("20", "c"), part("40", "c")];
    s.wishes("a", heard, Wish::Move(parts.clone()));
    s.acts();
    s.wishes("a", other, Wish::Move(vec![part("50", "c")]));
    s.acts();
    s.acts();
    let last = s.record.moves.list.iter().find(|one| one.wish == Some(heard.part(1)));
    let last = last.unwrap().id;
    s.record.moves.conclude(last, None);
    let wished = |id, is_heard, parts| Wished { id, is_heard, wish: Wish::Move(parts) };
    let said = [wished(heard, true, parts), wished(other, false, vec![part("50", "c")])];
    s.answers_with("a", |reply| reply.wishes = said.to_vec());
    let told: Vec<PartId> = s.told("a").into_iter().map(|told| told.id).collect();
    assert_eq!(told, [other, heard.part(1), heard]);
}

/// The store was restored from before the wish was taken.
#[test]
fn what_was_taken_and_is_not_known_any_more_is_not_taken_again() {
    let mut s = calm();
    let wish = Wish::Move(vec![part("20-29", "c")]);
    s.answers_with("a", |reply| {
        reply.wishes = vec![Wished { id: WISH, is_heard: true, wish }];
    });
    assert_eq!(s.swap(), None);
    let told = s.told("a");
    assert!(matches!(&told[..], [Told { id: WISH, fate: Fate::Refused(_) }]), "{told:?}");
}

#[test]
fn what_cannot_be_done_is_refused_as_a_whole_with_the_reason() {
    let mut s = calm();
    let unknown = s.refuses_wish(vec![part("20", "c"), part("21", "x")]);
    assert_eq!(unknown, format!("node {} is not of this cluster", id("x")));
    let there = s.refuses_wish(vec![part("10000", "c")]);
    assert!(there.starts_with("slots 10000 belong to shard"), "{there}");
    let twice = s.refuses_wish(vec![part("20", "c"), part("20", "c")]);
    assert!(twice.starts_with("slots 20 are in move"), "{twice}");
    s.answers_with("c", |reply| reply.moves = None);
    let unable = s.refuses_wish(vec![part("20", "c")]);
    assert!(unable.contains("does not know slot moves"), "{unable}");
    assert!(s.record.moves.is_empty());
    // What is known of a node that is gone is no wish any more.
    s.answers_with("c", |reply| reply.moves = Some(Vec::new()));
    s.misses("a", 100);
    assert_eq!((s.told("a"), s.record.moves.list.len()), (vec![], 0));
}

#[test]
fn a_wish_to_cancel_gives_up_what_was_wished_and_nothing_else() {
    let mut s = calm();
    s.wishes("a", WISH, Wish::Move(vec![part("20", "c"), part("40", "c")]));
    s.acts();
    // An operator's; and one that has changed hands.
    s.record.moves.queue("50".parse().unwrap(), s.record.shards[0].id, s.record.shards[1].id);
    let (at, version, epoch) = (api::grant::Least::default(), 7, 1);
    let owned = crate::moves::Phase::Owned { at, version, epoch, process: String::new() };
    s.record.moves.get_mut(MoveId(2)).unwrap().phase = owned;
    s.wishes("a", OTHER, Wish::Cancel(vec![WISH, WISH.part(1)]));
    assert_eq!(s.swap().as_deref(), Some("move 1 cancelled: asked for at node a:1"));
    s.acts();
    assert!(s.told("a").contains(&told(OTHER, Fate::Done)));
    let left: Vec<u64> = s.record.moves.list.iter().map(|one| one.id.0).collect();
    assert_eq!(left, [2, 3]);
    assert_eq!(s.record.moves.done[0].error.as_deref(), Some("cancelled"));
}
