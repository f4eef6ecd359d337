//! A second store: its content was the first one's once, its controller reaches the same nodes, and
//! the two know nothing of each other (rule O7). Its terms may have been raised above the first
//! one's.

use std::sync::Arc;

use api::store::{Said, StoreId};

use crate::planning::Stored;
use crate::rules::Failover;
use crate::world::World;

/// What the store is called from which controllers lead in the beginning.
pub(crate) const FIRST: StoreId = StoreId { name: 1, generation: 2 };

/// Which store the second one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// An earlier life of the first one: it was given up, or is a copy.
    Earlier,
    /// Another one, which takes nobody's place.
    Other,
}

impl Second {
    fn id(self) -> StoreId {
        match self {
            Self::Earlier => StoreId { generation: 1, ..FIRST },
            Self::Other => StoreId { name: 2, generation: 7 },
        }
    }
}

/// The second store, once controller 1 leads from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Apart {
    /// Its record.
    pub store: Arc<Stored>,
    /// Of the only controller that it has.
    pub term: u8,
}

/// By how much its terms are higher: an operator has raised them, or it was claimed often enough.
const OVERBID: u8 = 8;

/// Controller 1 begins on it.
pub(crate) fn begin(world: &mut World) {
    let (now, term, store) = (world.now, world.term + OVERBID, Arc::clone(&world.store));
    let controller = world.controller(1);
    controller.elected(term, now, &store);
    controller.is_apart = true;
    world.second = Some(Apart { store, term });
}

/// From which store a controller leads.
pub(crate) fn led_from(model: &Failover, is_apart: bool) -> StoreId {
    model.second.filter(|_| is_apart).map_or(FIRST, Second::id)
}

/// What a controller says of its store; nothing where the rule is off.
pub(crate) fn said(model: &Failover, world: &World, at: u8) -> Option<Said> {
    let is_apart = world.controllers[usize::from(at)].is_apart;
    let by = led_from(model, is_apart);
    model.rules.store.then_some(Said { by, instead_of: None })
}

/// Whether a node obeys commands of a controller that names its store.
pub(crate) fn is_obeyed(model: &Failover, world: &World, at: u8, node: u8) -> bool {
    let known = world.nodes[usize::from(node)].holder.store();
    said(model, world, at).is_none_or(|said| said.against(known).is_ok())
}

impl World {
    /// The store of a controller.
    pub(crate) fn stored(&self, at: u8) -> &Arc<Stored> {
        match &self.second {
            Some(second) if self.controllers[usize::from(at)].is_apart => &second.store,
            _ => &self.store,
        }
    }

    /// The same, to be changed.
    pub(crate) fn stored_mut(&mut self, at: u8) -> &mut Arc<Stored> {
        match &mut self.second {
            Some(second) if self.controllers[usize::from(at)].is_apart => &mut second.store,
            _ => &mut self.store,
        }
    }

    /// Whether the store of a controller has its claim.
    pub(crate) fn leads(&self, at: u8) -> bool {
        self.controllers[usize::from(at)].is_apart || self.leader == at
    }
}
