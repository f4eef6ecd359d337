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
    /// What is left free where slots of another shard come in: a tenth of the disk, but not less
    /// than this, and not more than that. The disk is looked at every ten seconds while a copy
    /// comes, and a tenth of a large one would be room for hours of copying.
    const GUESTS_LEAVE: [u64; 2] = [2 << 30, 10 << 30];

    /// On a large disk a part of it is room for long.
    const NEARLY_FULL: u64 = 20 << 30;

    /// Whether less than one of so many `parts` of the disk is free, and less than 20 GiB. Never on
    /// a file system that says no size.
    pub fn is_nearly_full(self, parts: u64) -> bool {
        self.free < (self.size / parts).min(Self::NEARLY_FULL)
    }

    /// Whether slots of another shard may come here: not onto what they leave. A move does not
    /// begin without, and a copy under way waits (rule M16).
    pub fn has_place_for_guests(self) -> bool {
        self.free >= self.kept_from_guests()
    }

    /// So many bytes of them may come.
    pub fn place_for_guests(self) -> u64 {
        self.free.saturating_sub(self.kept_from_guests())
    }

    /// So many bytes are left free by them.
    pub fn kept_from_guests(self) -> u64 {
        let [least, most] = Self::GUESTS_LEAVE;
        (self.size / 10).clamp(least, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_large_disk_is_room_for_long() {
        let is = |free, size| Room { free, size }.is_nearly_full(20);
        assert!(is((5 << 30) - 1, 100 << 30) && !is(5 << 30, 100 << 30));
        assert!(is((20 << 30) - 1, 4_000 << 30) && !is(20 << 30, 4_000 << 30));
        assert!(!is(0, 0));
    }

    #[test]
    fn guests_leave_a_tenth_of_the_disk_but_two_gibibytes_at_least_and_ten_at_most() {
        let place = |free, size| {
            let room = Room { free, size };
            (room.has_place_for_guests(), room.place_for_guests())
        };
        for (left, size) in [(2 << 30, 10 << 30), (5 << 30, 50 << 30), (10 << 30, 1_000 << 30)] {
            assert_eq!(place(left - 1, size), (false, 0), "of {size}");
            assert_eq!(place(left, size), (true, 0), "of {size}");
            assert_eq!(place(left + 7, size), (true, 7), "of {size}");
        }
    }
}
