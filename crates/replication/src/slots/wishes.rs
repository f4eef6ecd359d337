//! What users asked of this node for its slots: a record in memory, of what waits for a controller,
//! what was taken, and what is over. It decides nothing, and ends with the process.

use std::collections::{BTreeSet, VecDeque};

use api::moves::wish::{Fate, PARTS_MAX, Part, PartId, Told, Wish, Wished};

/// Wishes that are not over, at most; and of those to cancel as many.
pub const OPEN_MAX: usize = 16;
/// Parts that are over and still shown.
const OVER_MAX: usize = 64;

/// Why a wish is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unkept {
    /// There are [`OPEN_MAX`].
    #[error("{OPEN_MAX} wishes are not over yet")]
    Full,
    /// None, or more than [`PARTS_MAX`].
    #[error("1 to {PARTS_MAX} targets expected")]
    Parts,
}

/// From which end slots were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At the node that gives them.
    Giver,
    /// At the node that takes them.
    Taker,
}

/// One part of a wish, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: PartId,
    /// Its slots and where they are to go.
    pub part: Part,
    /// Where it was asked for.
    pub end: End,
    /// The node that had the slots when it was asked for; empty if it was not one.
    pub from: String,
    /// What has become of it; `None` before a controller has said a word.
    pub fate: Option<Fate>,
    /// When it was asked for, ms since 1970.
    pub created_ms: u64,
    /// When its fate was last another one.
    pub updated_ms: u64,
}

impl Job {
    /// Nothing follows any more.
    pub fn is_over(&self) -> bool {
        self.fate.as_ref().is_some_and(Fate::is_end)
    }
}

/// What has become of a wish as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No controller has said a word.
    Waits,
    /// It is in the queue.
    Taken,
    /// It is over, and done.
    Done,
    /// It is over, and why it was not done, or not all of it.
    Failed(String),
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Parts of wishes to move, the oldest first.
    jobs: VecDeque<Job>,
    /// Wishes to cancel that are not over, with what is known of each.
    cancels: Vec<(PartId, Vec<PartId>, Option<Fate>)>,
}

impl Wishes {
    /// Keeps a wish to move; each part comes with who gives its slots now.
    ///
    /// # Errors
    /// When there are too many, or the wish is none.
    pub fn wish(
        &mut self,
        id: PartId,
        parts: Vec<(Part, String)>,
        end: End,
        now_ms: u64,
    ) -> Result<(), Unkept> {
        if !(1..=PARTS_MAX).contains(&parts.len()) {
            return Err(Unkept::Parts);
        }
        if self.told_of().count() >= OPEN_MAX {
            return Err(Unkept::Full);
        }
        for (number, (part, from)) in (0..=u8::MAX).zip(parts) {
            let (id, created_ms, updated_ms) = (id.part(number), now_ms, now_ms);
            self.jobs.push_back(Job { id, part, end, from, fate: None, created_ms, updated_ms });
        }
        Ok(())
    }

    /// Keeps a wish to cancel these parts; without any that is not over it is done already.
    ///
    /// # Errors
    /// When there are too many to cancel: those to move keep nobody from giving them up.
    pub fn cancel(&mut self, id: PartId, parts: &[PartId]) -> Result<(), Unkept> {
        if self.cancels.iter().filter(|(.., fate)| fate.is_none()).count() >= OPEN_MAX {
            return Err(Unkept::Full);
        }
        let is_open =
            |part: &&PartId| self.jobs.iter().any(|job| job.id == **part && !job.is_over());
        let parts: Vec<PartId> = parts.iter().filter(is_open).copied().collect();
        let fate = parts.is_empty().then_some(Fate::Done);
        // Nobody may be left who wants to hear the end of an old one.
        let over = self.cancels.iter().position(|(.., fate)| fate.is_some());
        if let Some(place) = over.filter(|_| self.cancels.len() >= 2 * OPEN_MAX) {
            self.cancels.remove(place);
        }
        self.cancels.push((id, parts, fate));
        Ok(())
    }

    /// Names of wishes that a controller is to hear of, the oldest first.
    fn told_of(&self) -> impl Iterator<Item = PartId> + '_ {
        let moves = self.jobs.iter().filter(|job| job.id == job.id.wish()).map(|job| job.id);
        let moves = moves.filter(move |id| self.parts(*id).any(|job| !job.is_over()));
        let open = self.cancels.iter().filter(|(_, _, fate)| fate.is_none());
        moves.chain(open.map(|(id, _, _)| *id))
    }

    fn parts(&self, wish: PartId) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(move |job| job.id.wish() == wish)
    }

    /// What a controller is to hear of.
    pub fn open(&self) -> Vec<Wished> {
        let wished = |id: PartId| {
            if let Some((_, parts, _)) = self.cancels.iter().find(|(known, ..)| *known == id) {
                return Wished { id, is_heard: false, wish: Wish::Cancel(parts.clone()) };
            }
            let is_heard = self.parts(id).all(|job| job.fate.is_some());
            let parts = self.parts(id).map(|job| job.part.clone());
            Wished { id, is_heard, wish: Wish::Move(parts.collect()) }
        };
        self.told_of().map(wished).collect()
    }

    /// A controller has said a word; whether it is news.
    pub fn told(&mut self, told: &Told, now_ms: u64) -> bool {
        let (Told { id, fate }, is_refused) = (told, matches!(told.fate, Fate::Refused(_)));
        if let Some((.., known)) = self.cancels.iter_mut().find(|(cancel, ..)| cancel == id) {
            let is_news = known.is_none() && fate.is_end();
            if is_news {
                *known = Some(fate.clone());
            }
            return is_news;
        }
        let mut is_news = false;
        for job in &mut self.jobs {
            let is_of = job.id == *id || is_refused && job.id.wish() == *id;
            if is_of && !job.is_over() && job.fate.as_ref() != Some(fate) {
                (job.fate, job.updated_ms, is_news) = (Some(fate.clone()), now_ms, true);
            }
        }
        self.forget();
        is_news
    }

    /// Nobody waits for it any more that no controller has said a word of, and none is to hear of
    /// it.
    pub fn withdraw(&mut self, wish: PartId, why: &str, now_ms: u64) {
        let fate = Fate::Failed(why.to_owned());
        if let Some((.., known)) = self.cancels.iter_mut().find(|(cancel, ..)| *cancel == wish) {
            known.get_or_insert(fate);
            return;
        }
        for job in self.jobs.iter_mut().filter(|job| job.id.wish() == wish) {
            if job.fate.is_none() {
                (job.fate, job.updated_ms) = (Some(fate.clone()), now_ms);
            }
        }
        self.forget();
    }

    /// What has become of a wish; a wish to cancel is forgotten with that once it is over. `None`:
    /// it is not known.
    pub fn take(&mut self, wish: PartId) -> Option<Standing> {
        if let Some(place) = self.cancels.iter().position(|(cancel, ..)| *cancel == wish) {
            if self.cancels[place].2.is_none() {
                return Some(Standing::Waits);
            }
            let (.., fate) = self.cancels.remove(place);
            return Some(match fate {
                Some(Fate::Failed(why) | Fate::Refused(why)) => Standing::Failed(why),
                _ => Standing::Done,
            });
        }
        let fates: Vec<Option<&Fate>> = self.parts(wish).map(|job| job.fate.as_ref()).collect();
        if fates.is_empty() {
            return None;
        }
        if fates.contains(&None) {
            return Some(Standing::Waits);
        }
        let why = fates.iter().flatten().find_map(|fate| match fate {
            Fate::Failed(why) | Fate::Refused(why) => Some(why.clone()),
            _ => None,
        });
        Some(match (fates.iter().flatten().all(|fate| fate.is_end()), why) {
            (false, _) => Standing::Taken,
            (true, None) => Standing::Done,
            (true, Some(why)) => Standing::Failed(why),
        })
    }

    /// All parts that are shown, the oldest first.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter()
    }

    /// Of the wishes that are over the oldest go, with all their parts.
    fn forget(&mut self) {
        let open = self.jobs.iter().filter(|job| !job.is_over()).map(|job| job.id.wish());
        let open: BTreeSet<PartId> = open.collect();
        let is_over = |job: &Job| !open.contains(&job.id.wish());
        let mut above =
            self.jobs.iter().filter(|job| is_over(job)).count().saturating_sub(OVER_MAX);
        let mut going = None;
        self.jobs.retain(|job| {
            let wish = Some(job.id.wish());
            let goes = is_over(job) && (above > 0 || going == wish);
            if goes {
                (above, going) = (above.saturating_sub(1), wish);
            }
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use api::moves::wish::Stage;

    use super::*;

    const WISH: PartId = PartId::of_wish([1; 20]);
    const OTHER: PartId = PartId::of_wish([2; 20]);

    fn parts(slots: &[&str]) -> Vec<(Part, String)> {
        let part = |slots: &&str| Part { slots: slots.parse().unwrap(), to: "d".repeat(40) };
        slots.iter().map(|slots| (part(slots), "s".repeat(40))).collect()
    }

    fn says(wishes: &mut Wishes, id: PartId, fate: Fate) -> bool {
        wishes.told(&Told { id, fate }, 7)
    }

    #[test]
    fn a_wish_is_told_of_until_its_end_is_heard() {
        let mut wishes = Wishes::default();
        assert_eq!((wishes.open(), wishes.take(WISH)), (vec![], None));
        wishes.wish(WISH, parts(&["1", "5-9"]), End::Giver, 5).unwrap();
        let told = wishes.open();
        let all = parts(&["1", "5-9"]).into_iter().map(|(part, _)| part).collect();
        assert_eq!(told, [Wished { id: WISH, is_heard: false, wish: Wish::Move(all) }]);
        assert_eq!(wishes.take(WISH), Some(Standing::Waits));
        let queued = Fate::Taken(Stage::Queued);
        assert!(
            says(&mut wishes, WISH, queued.clone()) && !says(&mut wishes, WISH, queued.clone())
        );
        assert_eq!(wishes.take(WISH), Some(Standing::Waits), "the other part");
        assert!(says(&mut wishes, WISH.part(1), queued));
        assert_eq!((wishes.take(WISH), wishes.open()[0].is_heard), (Some(Standing::Taken), true));
        // Once taken it is not withdrawn.
        wishes.withdraw(WISH, "late", 8);
        assert!(says(&mut wishes, WISH, Fate::Done));
        assert_eq!((wishes.take(WISH), wishes.open().len()), (Some(Standing::Taken), 1));
        assert!(says(&mut wishes, WISH.part(1), Fate::Failed("cancelled".into())));
        assert_eq!(wishes.take(WISH), Some(Standing::Failed("cancelled".into())));
        assert_eq!(wishes.open(), []);
        assert!(!says(&mut wishes, WISH, Fate::Taken(Stage::Copy)), "late: it is over");
        let job = wishes.jobs().next().unwrap();
        assert_eq!((job.created_ms, job.updated_ms, job.fate.as_ref()), (5, 7, Some(&Fate::Done)));
    }

    #[test]
    fn a_wish_is_refused_as_a_whole_and_withdrawn_while_nobody_has_said_a_word() {
        let mut wishes = Wishes::default();
        wishes.wish(WISH, parts(&["1", "2"]), End::Taker, 5).unwrap();
        assert!(says(&mut wishes, WISH, Fate::Refused("no".into())));
        assert_eq!(wishes.take(WISH), Some(Standing::Failed("no".into())));
        wishes.wish(OTHER, parts(&["1"]), End::Taker, 6).unwrap();
        wishes.withdraw(OTHER, "nobody answers", 9);
        assert_eq!(wishes.take(OTHER), Some(Standing::Failed("nobody answers".into())));
        assert_eq!(wishes.open(), []);
        assert!(!says(&mut wishes, OTHER, Fate::Done));
        assert_eq!(wishes.wish(OTHER, parts(&[]), End::Taker, 6), Err(Unkept::Parts));
        let many: Vec<String> = (0..17).map(|slot| slot.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(wishes.wish(OTHER, parts(&many), End::Taker, 6), Err(Unkept::Parts));
    }

    #[test]
    fn a_wish_to_cancel_names_what_is_not_over() {
        let mut wishes = Wishes::default();
        wishes.wish(WISH, parts(&["1", "2"]), End::Giver, 5).unwrap();
        assert!(says(&mut wishes, WISH, Fate::Done));
        wishes.cancel(OTHER, &[WISH, WISH.part(1), WISH.part(9)]).unwrap();
        let cancel = Wish::Cancel(vec![WISH.part(1)]);
        assert_eq!(wishes.open()[1], Wished { id: OTHER, is_heard: false, wish: cancel });
        assert_eq!(wishes.take(OTHER), Some(Standing::Waits));
        assert!(says(&mut wishes, OTHER, Fate::Done) && !says(&mut wishes, OTHER, Fate::Done));
        assert_eq!((wishes.open().len(), wishes.take(OTHER)), (1, Some(Standing::Done)));
        assert_eq!(wishes.take(OTHER), None, "it is forgotten");
        // Nothing to cancel is done at once.
        wishes.cancel(OTHER, &[WISH]).unwrap();
        assert_eq!((wishes.open().len(), wishes.take(OTHER)), (1, Some(Standing::Done)));
        wishes.cancel(OTHER, &[WISH.part(1)]).unwrap();
        wishes.withdraw(OTHER, "nobody answers", 9);
        assert_eq!(wishes.take(OTHER), Some(Standing::Failed("nobody answers".into())));
    }

    #[test]
    fn so_many_are_open_and_so_many_are_shown() {
        let mut wishes = Wishes::default();
        let id = |number: u8| PartId::of_wish([number; 20]);
        for number in 0..16 {
            wishes.wish(id(number), parts(&["1"]), End::Giver, 5).unwrap();
        }
        assert_eq!(wishes.wish(id(16), parts(&["1"]), End::Giver, 5), Err(Unkept::Full));
        // Whatever is open may be given up.
        for number in 200..216 {
            wishes.cancel(id(number), &[id(0)]).unwrap();
        }
        assert_eq!(wishes.cancel(id(216), &[id(0)]), Err(Unkept::Full));
        for number in 200..216 {
            assert!(says(&mut wishes, id(number), Fate::Done));
        }
        assert!(says(&mut wishes, id(0), Fate::Done));
        wishes.cancel(id(16), &[id(1)]).unwrap();
        assert_eq!(wishes.open().len(), 16);
        for number in 1..16 {
            says(&mut wishes, id(number), Fate::Done);
        }
        // What nobody asks after is not kept for ever.
        for _ in 0..200 {
            wishes.cancel(id(18), &[id(0)]).unwrap();
        }
        assert!(wishes.cancels.len() <= 2 * OPEN_MAX);
        for number in 20..120 {
            wishes.wish(id(number), parts(&["1"]), End::Giver, 5).unwrap();
            says(&mut wishes, id(number), Fate::Done);
        }
        let shown: Vec<PartId> = wishes.jobs().map(|job| job.id).collect();
        assert_eq!((shown.len(), shown[63], shown[0]), (64, id(119), id(56)));
    }

    #[test]
    fn a_wish_is_forgotten_as_a_whole() {
        let mut wishes = Wishes::default();
        wishes.wish(WISH, parts(&["1", "2"]), End::Giver, 5).unwrap();
        assert!(says(&mut wishes, WISH, Fate::Done));
        for number in 20..120 {
            let id = PartId::of_wish([number; 20]);
            wishes.wish(id, parts(&["1"]), End::Giver, 5).unwrap();
            says(&mut wishes, id, Fate::Done);
        }
        let all = parts(&["1", "2"]).into_iter().map(|(part, _)| part).collect();
        let open = Wished { id: WISH, is_heard: false, wish: Wish::Move(all) };
        assert_eq!((wishes.open(), wishes.jobs().count()), (vec![open], 66));
        // It is over with its last part, and is the oldest.
        assert!(says(&mut wishes, WISH.part(1), Fate::Done));
        assert_eq!((wishes.open(), wishes.jobs().count()), (vec![], 64));
        assert!(wishes.jobs().all(|job| job.id.wish() != WISH));
    }
}
