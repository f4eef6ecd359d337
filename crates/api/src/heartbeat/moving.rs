//! What a reply says of slot moves, as lines.

use super::Reply;
use crate::moves::OfSlots;

impl Reply {
    pub(super) fn render_moves(&self, line: &mut impl FnMut(&str, &dyn std::fmt::Display)) {
        for (index, copy) in self.copies.iter().enumerate() {
            line(&format!("copy{index}"), copy);
        }
        if let Some(moves) = &self.moves {
            line("moves", &1);
            for (index, said) in moves.iter().enumerate() {
                line(&format!("move{index}"), said);
            }
            let slots = moves.iter().filter_map(|said| Some((said.id, said.slots.clone()?)));
            for (index, (id, slots)) in slots.enumerate() {
                line(&format!("move_slots{index}"), &OfSlots { id, slots });
            }
        }
        if self.knows_rates {
            line("move_rate", &1);
        }
        for (index, copying) in self.copying.iter().enumerate() {
            line(&format!("copying{index}"), copying);
        }
        if let Some(rate) = self.usual_rate {
            line("usual_rate", &rate);
        }
        if let Some(flows) = &self.flows {
            line("flows", &1);
            for (index, flow) in flows.iter().enumerate() {
                line(&format!("flow{index}"), flow);
            }
        }
        for (index, wished) in self.wishes.iter().enumerate() {
            line(&format!("wish{index}"), wished);
        }
        if let Some(newest) = self.newest_move {
            line("move_newest", &newest);
        }
    }
}
