//! Room on the disk of a node.

/// A file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What this process may still write.
    pub free: u64,
    /// As a whole.
    pub size: u64,
}

impl Room {
    /// What is left free where slots of another shard come in, at least.
    const GUESTS_LEAVE: u64 = 2 << 30;

    /// Whether slots of another shard may come here: not onto the last tenth, nor the last 2 GiB. A
    /// move does not begin without, and a copy under way waits (rule M16).
    pub fn has_place_for_guests(self) -> bool {
        self.free >= self.kept_from_guests()
    }

    /// So many bytes of them may come.
    pub fn place_for_guests(self) -> u64 {
        self.free.saturating_sub(self.kept_from_guests())
    }

    fn kept_from_guests(self) -> u64 {
        Self::GUESTS_LEAVE.max(self.size / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_leave_a_tenth_of_the_disk_and_at_least_two_gibibytes() {
        let has_place = |free, size| Room { free, size }.has_place_for_guests();
        assert!(has_place(100 << 30, 1_000 << 30) && !has_place((100 << 30) - 1, 1_000 << 30));
        assert!(has_place(2 << 30, 10 << 30) && !has_place((2 << 30) - 1, 10 << 30));
        let place = |free, size| Room { free, size }.place_for_guests();
        assert_eq!((place(102 << 30, 1_000 << 30), place(1 << 30, 10 << 30)), (2 << 30, 0));
    }
}
