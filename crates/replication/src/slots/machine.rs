//! What a master does on the orders of a move.

use std::collections::BTreeMap;

use api::grant::Least;
use api::moves::{Frozen, MoveId, Order, Ordered, Rate, Said, Slots};

use super::marks::{Cursor, Mark, State, Table, serves};

/// What an order is judged by, all of one moment.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// The marks of the database.
    pub table: &'a Table,
    /// Version of the topology in force.
    pub version: i64,
    /// By it this shard owns all of the slots, or none; `None`: some.
    pub owns: Option<bool>,
    /// There are records in those of the slots whose newest mark says `held`.
    pub keeps: bool,
}

impl Here<'_> {
    /// Some of the slots are served here.
    fn serves_any(&self, slots: &Slots) -> bool {
        let gives = self.owns.unwrap_or(true);
        let newest = self.table.newest_each(slots);
        newest.into_iter().any(|mark| serves(mark, gives, self.version))
    }

    /// All of them are.
    fn serves_all(&self, slots: &Slots) -> bool {
        let gives = self.owns.unwrap_or(false);
        let newest = self.table.newest_each(slots);
        newest.into_iter().all(|mark| serves(mark, gives, self.version))
    }
}

/// What is left to be done by the node, under its grant and in the write gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Act {
    /// Nothing: it is so already.
    Nothing,
    /// Wait until each batch that may write to the slots has let go, then [`Machine::drained`].
    Drain,
    /// Append the mark.
    Put(Mark),
    /// Append, as one batch, the mark and the deletion of the slots in every data family.
    Empty(Mark),
    /// Have a stream from that process of the giver, from where the mark says.
    Pull {
        /// Id of the node.
        node: String,
        /// Of its process.
        nonce: String,
        /// Its epoch.
        epoch: u64,
        /// No faster; `None`: at the usual rate.
        rate: Option<Rate>,
    },
    /// End the stream, and begin none: what is staged stays.
    Rest,
}

/// Why an order is not obeyed. The controller that gave it sees the state here, and decides anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// A controller of a higher term has given orders for this move.
    #[error("a controller of a higher term has ordered something else")]
    Term,
    /// A later move has a mark for the slots: what is here is that one's.
    #[error("a later move of these slots has begun")]
    Superseded,
    /// The slots are served here, or are not, as the order needs it.
    #[error("the slots are served here, or are not")]
    Owner,
    /// The order belongs to another state than the mark says.
    #[error("the mark of the move says something else")]
    State,
    /// Another attempt to freeze is in force.
    #[error("another attempt to freeze is in force")]
    Attempt,
    /// The topology that gives the slots away is not here yet.
    #[error("the topology is older than the move")]
    Topology,
    /// The number is a move's of other slots here: an earlier state of the store has given it
    /// again.
    #[error("the move of that number is one of other slots here")]
    Slots,
}

/// What a client may do with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// As ever.
    Free,
    /// Writes wait.
    ReadsOnly,
    /// All wait.
    Nothing,
}

/// What is held back for a move.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Hold {
    slots: Slots,
    frozen: Frozen,
    is_sealed: bool,
}

/// What the process that holds the epoch keeps in memory of moves: what it holds back, and nothing
/// else. The next process, or the next master, begins without; it has a later epoch then.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Machine {
    holds: BTreeMap<MoveId, Hold>,
}

impl Machine {
    /// Judges an order.
    ///
    /// # Errors
    /// Why it is not obeyed; then nothing has changed.
    pub fn obey(&mut self, ordered: &Ordered, here: Here<'_>) -> Result<Act, Refusal> {
        let Ordered { id, slots, term, order } = ordered;
        let known = self.holds.get(id).map_or(0, |hold| hold.frozen.term);
        if *term < known {
            return Err(Refusal::Term);
        }
        if self.slots(*id, here.table).is_some_and(|known| known != slots) {
            return Err(Refusal::Slots);
        }
        // A thaw is of a hold alone, whatever has a mark since.
        let is_thaw = matches!(order, Order::Thaw { .. });
        if !is_thaw && here.table.is_newer(*id, slots) {
            return Err(Refusal::Superseded);
        }
        let mark = here.table.of(*id);
        match order {
            Order::Freeze { number } => self.freeze(ordered, *number, here),
            Order::Thaw { number } => self.thaw(*id, *term, *number),
            Order::Seal => self.seal(ordered, here),
            Order::Leave { version } => self.leave(ordered, *version, here),
            Order::Pull { node, nonce, epoch, rate } => match mark.map(|mark| &mark.state) {
                Some(State::Staged { .. }) => {
                    let (node, nonce) = (node.clone(), nonce.clone());
                    Ok(Act::Pull { node, nonce, epoch: *epoch, rate: *rate })
                }
                Some(_) => Err(Refusal::State),
                // What a move has brought is this shard's, whatever an earlier record says: it may
                // be the only copy.
                None if here.serves_any(slots) || here.keeps => Err(Refusal::Owner),
                // Staging begins empty.
                None => Ok(Act::Empty(Mark {
                    id: *id,
                    slots: slots.clone(),
                    version: 0,
                    state: State::Staged { at: None, cursor: Cursor::Start },
                })),
            },
            Order::Open { at, version } => open(mark, *at, *version),
            Order::Clean => match mark.map(|mark| (mark, &mark.state)) {
                Some((mark, State::Gone { is_empty: false })) => {
                    Ok(Act::Empty(Mark { state: State::Gone { is_empty: true }, ..mark.clone() }))
                }
                Some((_, State::Gone { is_empty: true })) => Ok(Act::Nothing),
                _ => Err(Refusal::State),
            },
            Order::Drop => drop_staged(ordered, here),
            Order::Rest => match mark.map(|mark| &mark.state) {
                Some(State::Staged { .. }) => Ok(Act::Rest),
                _ => Err(Refusal::State),
            },
        }
    }

    fn freeze(&mut self, ordered: &Ordered, number: u64, here: Here<'_>) -> Result<Act, Refusal> {
        let Ordered { id, slots, term, .. } = ordered;
        if let Some(hold) = self.holds.get_mut(id) {
            if (*term, number) < (hold.frozen.term, hold.frozen.number) {
                return Err(Refusal::Attempt);
            }
            // Nothing was written since: it is this attempt's freeze as well, and no other's.
            (hold.frozen.term, hold.frozen.number) = (*term, number);
            return Ok(if hold.frozen.at.is_none() { Act::Drain } else { Act::Nothing });
        }
        if here.table.of(*id).is_some() || !here.serves_all(slots) {
            return Err(Refusal::Owner);
        }
        let frozen = Frozen { term: *term, number, at: None };
        self.holds.insert(*id, Hold { slots: slots.clone(), frozen, is_sealed: false });
        Ok(Act::Drain)
    }

    fn thaw(&mut self, id: MoveId, term: u64, number: u64) -> Result<Act, Refusal> {
        let Some(hold) = self.holds.get(&id) else { return Ok(Act::Nothing) };
        if hold.is_sealed {
            return Err(Refusal::State);
        }
        if term == hold.frozen.term && number != hold.frozen.number {
            return Err(Refusal::Attempt);
        }
        self.holds.remove(&id);
        Ok(Act::Nothing)
    }

    fn seal(&mut self, ordered: &Ordered, here: Here<'_>) -> Result<Act, Refusal> {
        let Ordered { id, slots, term, .. } = ordered;
        // Given away already: nothing is served that could be sealed.
        if here.table.of(*id).is_some() {
            return Err(Refusal::State);
        }
        let frozen = Frozen { term: *term, number: 0, at: None };
        let hold = self.holds.entry(*id);
        let hold = hold.or_insert_with(|| Hold { slots: slots.clone(), frozen, is_sealed: true });
        (hold.frozen.term, hold.is_sealed) = (*term, true);
        Ok(Act::Nothing)
    }

    fn leave(&mut self, ordered: &Ordered, version: i64, here: Here<'_>) -> Result<Act, Refusal> {
        let Ordered { id, slots, .. } = ordered;
        match here.table.of(*id).map(|mark| &mark.state) {
            Some(State::Gone { .. }) => {
                // The data says so from here on.
                self.holds.remove(id);
                return Ok(Act::Nothing);
            }
            Some(_) => return Err(Refusal::State),
            None => {}
        }
        if here.version < version {
            return Err(Refusal::Topology);
        }
        if here.owns != Some(false) {
            return Err(Refusal::Owner);
        }
        let state = State::Gone { is_empty: false };
        Ok(Act::Put(Mark { id: *id, slots: slots.clone(), version, state }))
    }

    /// Each batch that might write has let go: the data of the slots ends at `at`.
    pub fn drained(&mut self, id: MoveId, at: Least) {
        if let Some(hold) = self.holds.get_mut(&id) {
            hold.frozen.at.get_or_insert(at);
        }
    }

    /// What clients may do with a slot, as far as moves are concerned.
    pub fn access(&self, slot: u16) -> Access {
        let holds = self.holds.values().filter(|hold| hold.slots.contains(slot));
        let held = |hold: &Hold| if hold.is_sealed { Access::Nothing } else { Access::ReadsOnly };
        holds.map(held).max().unwrap_or(Access::Free)
    }

    /// The freeze of a move of these slots, if there is one.
    pub fn frozen(&self, id: MoveId, slots: &Slots) -> Option<Frozen> {
        self.holds.get(&id).filter(|hold| hold.slots == *slots).map(|hold| hold.frozen)
    }

    /// The slots that go by a number, as the data says, or else what is held back.
    fn slots<'a>(&'a self, id: MoveId, table: &'a Table) -> Option<&'a Slots> {
        let mark = table.of(id).map(|mark| &mark.slots);
        mark.or_else(|| self.holds.get(&id).map(|hold| &hold.slots))
    }

    /// The highest number of a move that is known here; 0 for none.
    pub fn newest(&self, table: &Table) -> MoveId {
        let held = self.holds.last_key_value().map(|(id, _)| *id);
        held.max(table.newest_move()).unwrap_or_default()
    }

    /// Moves for which something is held back.
    pub fn held(&self) -> impl Iterator<Item = MoveId> + '_ {
        self.holds.keys().copied()
    }

    /// What a controller is told of a move, but for the stream and how far the mark's record is.
    pub fn say(&self, id: MoveId, table: &Table) -> Said {
        let hold = self.holds.get(&id);
        Said {
            frozen: hold.map(|hold| hold.frozen),
            is_sealed: hold.is_some_and(|hold| hold.is_sealed),
            mark: table.of(id).map(Mark::told),
            slots: self.slots(id, table).cloned(),
            ..Said::nothing(id)
        }
    }
}

/// The move is given up. It leaves a mark, also where nothing was staged: an order to begin that is
/// late must find that it is over, and so must a replica that takes over.
fn drop_staged(ordered: &Ordered, here: Here<'_>) -> Result<Act, Refusal> {
    let Ordered { id, slots, .. } = ordered;
    let gone = State::Gone { is_empty: true };
    match here.table.of(*id) {
        Some(mark) if matches!(mark.state, State::Staged { .. }) => {
            Ok(Act::Empty(Mark { state: gone, ..mark.clone() }))
        }
        Some(mark) if mark.state == gone => Ok(Act::Nothing),
        Some(_) => Err(Refusal::State),
        None if here.keeps => kept(*id, slots, here.table).map(Act::Put).ok_or(Refusal::Owner),
        None if here.serves_any(slots) => Err(Refusal::Owner),
        None => {
            // What an earlier number has staged of some of them is nobody's, and goes with it; what
            // was given away and not cleaned yet may be the only copy, and stays.
            let newest = |slot| here.table.newest(slot).map(|mark| &mark.state);
            let is_staged = |slot| matches!(newest(slot), Some(State::Staged { .. }));
            let is_left = |slot| matches!(newest(slot), Some(State::Gone { is_empty: false }));
            let empties = slots.iter().any(is_staged) && !slots.iter().any(is_left);
            let mark = Mark { id: *id, slots: slots.clone(), version: 0, state: gone };
            Ok(if empties { Act::Empty(mark) } else { Act::Put(mark) })
        }
    }
}

/// A mark of the number over what earlier moves have brought, which says as they do: the move is
/// over with it, and nothing is served or deleted that was not before.
fn kept(id: MoveId, slots: &Slots, table: &Table) -> Option<Mark> {
    let held = |slot: &u16| table.newest(*slot).filter(|mark| mark.state == State::Held);
    let version = slots.iter().filter_map(|slot| held(&slot)).map(|mark| mark.version).min()?;
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in slots.iter().filter(|slot| held(slot).is_some()) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    Some(Mark { id, slots: Slots::new(&ranges).ok()?, version, state: State::Held })
}

/// The record has given the slots: what is staged is the whole of them, and nobody else's any more.
fn open(mark: Option<&Mark>, at: Least, version: i64) -> Result<Act, Refusal> {
    let mark = mark.ok_or(Refusal::State)?;
    match &mark.state {
        State::Staged { at: Some(staged), cursor: Cursor::End } if *staged == at => {
            Ok(Act::Put(Mark { version, state: State::Held, ..mark.clone() }))
        }
        State::Held => Ok(Act::Nothing),
        _ => Err(Refusal::State),
    }
}

#[cfg(test)]
mod tests {
    use api::grant::EpochId;

    use super::*;

    const AT: Least = Least { id: Some(EpochId(1)), sequence: 50 };

    fn order(id: u64, term: u64, order: Order) -> Ordered {
        Ordered { id: MoveId(id), slots: "5-6".parse().unwrap(), term, order }
    }

    /// A node that has what it is told to put.
    #[derive(Default)]
    struct Node {
        machine: Machine,
        table: Table,
        version: i64,
        owns: bool,
        keeps: bool,
    }

    impl Node {
        fn obeys(&mut self, ordered: &Ordered) -> Result<Act, Refusal> {
            let (table, version) = (&self.table, self.version);
            let here = Here { table, version, owns: Some(self.owns), keeps: self.keeps };
            let act = self.machine.obey(ordered, here);
            match &act {
                Ok(Act::Put(mark) | Act::Empty(mark)) => self.table.put(mark.clone()),
                Ok(Act::Drain) => self.machine.drained(ordered.id, AT),
                _ => {}
            }
            act
        }

        fn access(&self) -> (bool, Access) {
            (self.table.serves(5, self.owns, self.version), self.machine.access(5))
        }
    }

    #[test]
    fn the_giver_holds_back_lets_go_and_leaves() {
        let mut s = Node { version: 11, owns: true, ..Node::default() };
        let freeze = |number| order(1, 3, Order::Freeze { number });
        assert_eq!(s.obeys(&freeze(1)), Ok(Act::Drain));
        let said = s.machine.say(MoveId(1), &s.table);
        assert_eq!(said.frozen, Some(Frozen { term: 3, number: 1, at: Some(AT) }));
        assert_eq!(s.access(), (true, Access::ReadsOnly));
        assert_eq!(s.machine.access(7), Access::Free);
        assert_eq!(s.obeys(&order(1, 3, Order::Thaw { number: 1 })), Ok(Act::Nothing));
        assert_eq!(s.access(), (true, Access::Free));
        assert_eq!(s.obeys(&freeze(2)), Ok(Act::Drain));
        assert_eq!(s.obeys(&order(1, 3, Order::Thaw { number: 1 })), Err(Refusal::Attempt), "late");
        assert_eq!(s.obeys(&freeze(1)), Err(Refusal::Attempt));
        assert_eq!(s.obeys(&order(1, 3, Order::Seal)), Ok(Act::Nothing));
        assert_eq!(s.access().1, Access::Nothing);
        let thaw = order(1, 4, Order::Thaw { number: 2 });
        assert_eq!(s.obeys(&thaw), Err(Refusal::State), "the record has decided");
        let leave = order(1, 3, Order::Leave { version: 12 });
        assert_eq!(s.obeys(&leave), Err(Refusal::Topology));
        (s.version, s.owns) = (12, false);
        assert_eq!(s.obeys(&order(1, 3, Order::Clean)), Err(Refusal::State));
        assert!(matches!(s.obeys(&leave), Ok(Act::Put(_))));
        assert_eq!(s.obeys(&leave), Ok(Act::Nothing));
        assert_eq!(s.access(), (false, Access::Free), "the mark says it");
        assert!(matches!(s.obeys(&order(1, 3, Order::Clean)), Ok(Act::Empty(_))));
        assert_eq!(s.obeys(&order(1, 3, Order::Clean)), Ok(Act::Nothing));
        assert_eq!(s.obeys(&order(1, 3, Order::Drop)), Ok(Act::Nothing), "nothing is left of it");
        s.owns = true;
        assert!(!s.access().0, "no topology brings back what is gone");
    }

    #[test]
    fn a_freeze_is_that_of_the_newest_term() {
        let mut s = Node { owns: true, ..Node::default() };
        let freeze = |term, number| order(1, term, Order::Freeze { number });
        s.obeys(&freeze(3, 7)).unwrap();
        assert_eq!(s.obeys(&freeze(4, 1)), Ok(Act::Nothing), "as it is, and its own from here on");
        let said = s.machine.say(MoveId(1), &s.table).frozen.unwrap();
        assert_eq!((said.term, said.number, said.at), (4, 1, Some(AT)));
        assert_eq!(s.obeys(&order(1, 3, Order::Thaw { number: 7 })), Err(Refusal::Term));
        assert_eq!(s.obeys(&order(1, 5, Order::Thaw { number: 0 })), Ok(Act::Nothing));
    }

    #[test]
    fn the_taker_stages_and_opens_what_is_whole() {
        let mut d = Node { version: 11, ..Node::default() };
        let pull =
            order(1, 3, Order::Pull { node: "s".into(), nonce: "1".into(), epoch: 2, rate: None });
        d.owns = true;
        assert_eq!(d.obeys(&pull), Err(Refusal::Owner), "what it serves is not emptied");
        d.owns = false;
        assert!(matches!(d.obeys(&pull), Ok(Act::Empty(_))), "begins empty");
        assert!(matches!(d.obeys(&pull), Ok(Act::Pull { .. })));
        let open = |at| order(1, 3, Order::Open { at, version: 12 });
        assert_eq!(d.obeys(&open(AT)), Err(Refusal::State));
        let mut mark = d.table.of(MoveId(1)).unwrap().clone();
        mark.state = State::Staged { at: Some(AT), cursor: Cursor::End };
        d.table.put(mark);
        let other = Least { sequence: 51, ..AT };
        assert_eq!(d.obeys(&open(other)), Err(Refusal::State), "other data than was decided about");
        assert!(!d.access().0);
        assert!(matches!(d.obeys(&open(AT)), Ok(Act::Put(_))));
        assert!(d.access().0, "before the topology says so");
        assert_eq!(d.obeys(&open(AT)), Ok(Act::Nothing));
        assert_eq!(d.obeys(&order(1, 3, Order::Drop)), Err(Refusal::State));
        assert_eq!(d.obeys(&pull), Err(Refusal::State));
    }

    #[test]
    fn a_copy_that_rests_keeps_what_is_staged() {
        let rest = order(1, 3, Order::Rest);
        let mut d = Node::default();
        assert_eq!(d.obeys(&rest), Err(Refusal::State), "nothing was begun");
        let pull =
            order(1, 3, Order::Pull { node: "s".into(), nonce: "1".into(), epoch: 2, rate: None });
        d.obeys(&pull).unwrap();
        let staged = d.table.of(MoveId(1)).cloned();
        assert_eq!((d.obeys(&rest), d.obeys(&rest)), (Ok(Act::Rest), Ok(Act::Rest)));
        assert_eq!(d.table.of(MoveId(1)).cloned(), staged);
        assert!(matches!(d.obeys(&pull), Ok(Act::Pull { .. })), "it goes on");
        d.obeys(&order(1, 3, Order::Drop)).unwrap();
        assert_eq!(d.obeys(&rest), Err(Refusal::State), "late");
    }

    #[test]
    fn what_is_dropped_does_not_begin_again() {
        let pull =
            order(1, 3, Order::Pull { node: "s".into(), nonce: "1".into(), epoch: 2, rate: None });
        for has_begun in [true, false] {
            let mut d = Node::default();
            if has_begun {
                d.obeys(&pull).unwrap();
            }
            let act = d.obeys(&order(1, 3, Order::Drop)).unwrap();
            assert_eq!(matches!(act, Act::Empty(_)), has_begun);
            assert_eq!(d.obeys(&order(1, 3, Order::Drop)), Ok(Act::Nothing));
            assert_eq!(d.obeys(&pull), Err(Refusal::State), "late");
            let next = Ordered { id: MoveId(2), ..pull.clone() };
            assert!(matches!(d.obeys(&next), Ok(Act::Empty(_))), "another number");
        }
        let mut owner = Node { owns: true, ..Node::default() };
        assert_eq!(owner.obeys(&order(1, 3, Order::Drop)), Err(Refusal::Owner));
        // What a lower number has staged is dropped with the next one.
        let mut d = Node::default();
        d.obeys(&pull).unwrap();
        assert!(matches!(d.obeys(&order(2, 3, Order::Drop)), Ok(Act::Empty(_))));
        // Also of some of the slots; but nothing is deleted with it that no move has cleaned yet.
        for is_left in [false, true] {
            let mut d = Node::default();
            let wider = |id, of| Ordered { slots: "5-8".parse().unwrap(), ..order(id, 3, of) };
            d.obeys(&pull).unwrap();
            if is_left {
                let (slots, state) = ("8".parse().unwrap(), State::Gone { is_empty: false });
                d.table.put(Mark { id: MoveId(2), slots, version: 0, state });
            }
            let act = d.obeys(&wider(3, Order::Drop)).unwrap();
            assert_eq!(matches!(act, Act::Empty(_)), !is_left, "{act:?}");
        }
    }

    /// A store that was restored from an older copy has given the number again.
    #[test]
    fn nothing_is_obeyed_of_a_number_that_is_another_moves() {
        let at = |slots: &str, of| Ordered { slots: slots.parse().unwrap(), ..order(1, 3, of) };
        let pull = Order::Pull { node: "s".into(), nonce: "1".into(), epoch: 2, rate: None };
        let orders = || {
            let freeze = Order::Freeze { number: 9 };
            let open = Order::Open { at: AT, version: 12 };
            let leave = Order::Leave { version: 12 };
            let thaw = Order::Thaw { number: 9 };
            let (seal, clean, rest) = (Order::Seal, Order::Clean, Order::Rest);
            [pull.clone(), freeze, thaw, seal, open, leave, clean, Order::Drop, rest]
        };
        let states = [
            State::Staged { at: Some(AT), cursor: Cursor::End },
            State::Held,
            State::Gone { is_empty: false },
            State::Gone { is_empty: true },
        ];
        for state in states {
            let mut node = Node { version: 12, ..Node::default() };
            let slots = "5-6".parse().unwrap();
            node.table.put(Mark { id: MoveId(1), slots, version: 7, state });
            let before = node.table.clone();
            for (owns, other) in [(true, "50-60"), (false, "50-60"), (false, "5"), (false, "5-7")] {
                node.owns = owns;
                for of in orders() {
                    assert_eq!(node.obeys(&at(other, of.clone())), Err(Refusal::Slots), "{of:?}");
                }
            }
            assert_eq!((&node.table, node.machine.newest(&node.table)), (&before, MoveId(1)));
            let said = node.machine.say(MoveId(1), &node.table);
            assert_eq!(said.slots, "5-6".parse().ok());
        }
        // What is held back is of its slots alone, too.
        let mut node = Node { owns: true, ..Node::default() };
        node.obeys(&at("5-6", Order::Freeze { number: 1 })).unwrap();
        for of in orders() {
            assert_eq!(node.obeys(&at("50-60", of)), Err(Refusal::Slots));
        }
        assert_eq!(node.machine.say(MoveId(1), &node.table).slots, "5-6".parse().ok());
        assert_eq!(node.machine.newest(&node.table), MoveId(1));
        assert_eq!(node.machine.frozen(MoveId(1), &"50-60".parse().unwrap()), None);
        assert_eq!(node.obeys(&at("5-6", Order::Thaw { number: 1 })), Ok(Act::Nothing));
        assert_eq!(node.machine.newest(&node.table), MoveId(0));
    }

    /// The topology's record is older than that move: what it brought may be the only copy.
    #[test]
    fn what_a_move_has_brought_is_neither_staged_over_nor_dropped_while_there_is_data_of_it() {
        let held = |id, slots: &str, version| Mark {
            id: MoveId(id),
            slots: slots.parse().unwrap(),
            version,
            state: State::Held,
        };
        let pull = Order::Pull { node: "s".into(), nonce: "1".into(), epoch: 2, rate: None };
        let mut node = Node { version: 20, keeps: true, ..Node::default() };
        node.table.put(held(1, "5", 9));
        node.table.put(held(2, "6-7", 8));
        assert_eq!(node.obeys(&order(3, 3, pull.clone())), Err(Refusal::Owner));
        assert!(matches!(node.obeys(&order(3, 3, Order::Drop)), Ok(Act::Put(_))));
        assert_eq!(node.table.of(MoveId(3)), Some(&held(3, "5-6", 8)), "says as the earlier ones");
        assert_eq!(node.obeys(&order(3, 3, pull.clone())), Err(Refusal::State), "late");
        let wider = |of| Ordered { slots: "4-9".parse().unwrap(), ..order(4, 3, of) };
        assert!(matches!(node.obeys(&wider(Order::Drop)), Ok(Act::Put(_))));
        assert_eq!(node.table.of(MoveId(4)), Some(&held(4, "5-7", 8)));
        // Where nothing is left of it, it is nobody's copy.
        node.keeps = false;
        assert!(matches!(node.obeys(&order(5, 3, pull)), Ok(Act::Empty(_))));
    }

    #[test]
    fn nothing_of_an_earlier_move_is_obeyed_once_a_later_one_has_a_mark() {
        let mut node = Node { version: 20, owns: true, ..Node::default() };
        let mark = |id, slots: &str, state| {
            let slots = slots.parse().unwrap();
            Mark { id: MoveId(id), slots, version: 9, state }
        };
        node.table.put(mark(1, "5-6", State::Gone { is_empty: false }));
        node.table.put(mark(7, "5-6", State::Held));
        let open = Order::Open { at: AT, version: 9 };
        let pull = Order::Pull { node: "s".into(), nonce: "1".into(), epoch: 2, rate: None };
        let freeze = Order::Freeze { number: 1 };
        for late in [Order::Clean, Order::Drop, Order::Seal, open, pull, freeze] {
            assert_eq!(node.obeys(&order(1, 9, late)), Err(Refusal::Superseded));
        }
        assert!(matches!(node.obeys(&order(8, 9, Order::Freeze { number: 1 })), Ok(Act::Drain)));
    }
}
