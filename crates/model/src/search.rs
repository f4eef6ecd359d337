//! The model as it is searched.

use stateright::{Model, Property};

use crate::action::Action;
use crate::rules::Failover;
use crate::world::World;
use crate::{act, check, possible};

impl Failover {
    /// Where a world ends once faults have, and whether the shard serves then.
    pub fn recovered(&self, world: &World) -> (World, bool) {
        check::recovered(self, world.clone(), true)
    }

    /// The shard in its steady state: everybody up, in sync and granted.
    pub fn steady(&self) -> World {
        check::recovered(self, World::new(), false).0
    }
}

impl Model for Failover {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = self.steady();
        for step in self.begin {
            act::act(self, &mut world, *step);
            check::observe(self, &mut world);
        }
        world.faults = 0;
        world.normalize();
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        possible::possible(self, world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        act::act(self, &mut next, action);
        check::observe(self, &mut next);
        next.normalize();
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nobody violates anything", |_: &Self, world: &World| {
                world.violation.is_none()
            }),
            Property::always("the shard recovers", |model: &Self, world: &World| {
                check::is_skipped(model, world)
                    || world.violation.is_some()
                    || check::recovers(model, world)
            }),
        ]
    }
}
