//! A second store: its content was the first one's once, its controller reaches the same nodes, and
//! the two know nothing of each other (rule O7). Its terms may have been raised above the first
//! one's.

use std::sync::Arc;

use api::store::StoreId;

use crate::stored::Stored;

/// What the store is called from which controllers lead in the beginning.
const FIRST: StoreId = StoreId { name: 1, generation: 2 };

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

/// From which store a controller leads where there is that second one.
pub(crate) fn led_from(second: Option<Second>, is_apart: bool) -> StoreId {
    second.filter(|_| is_apart).map_or(FIRST, Second::id)
}
