//! Bounds of the search, and the rules that can be switched off.

use crate::action::Action;
use crate::second::Second;

/// How far the search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Faults of processes, links, messages and controllers, together.
    pub faults: u8,
    /// Writes of clients.
    pub writes: u8,
    /// Planned switchovers.
    pub switchovers: u8,
    /// Which.
    pub kinds: Kinds,
    /// One state of so many is made to recover, to see that the shard is not stuck.
    pub recover_one_of: u64,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    /// kill -9.
    pub const CRASH: Self = Self(1);
    /// SIGSTOP.
    pub const STOP: Self = Self(1 << 1);
    /// The machine restarts.
    pub const REBOOT: Self = Self(1 << 2);
    /// A full sync.
    pub const REPLACE: Self = Self(1 << 3);
    /// Between controller and node.
    pub const CUT: Self = Self(1 << 4);
    /// Between replica and master.
    pub const PART: Self = Self(1 << 5);
    /// Between controller and store, or a controller stops.
    pub const ISOLATE: Self = Self(1 << 6);
    /// A controller restarts.
    pub const RESTART: Self = Self(1 << 7);
    /// Late heartbeats.
    pub const BEAT: Self = Self(1 << 8);
    /// Late answers.
    pub const ANSWER: Self = Self(1 << 9);
    /// Late acknowledgements.
    pub const ACK: Self = Self(1 << 10);
    /// A late compare-and-swap: its sender is gone, or does not know what became of it.
    pub const SWAP: Self = Self(1 << 11);
    /// Late orders to the balancer.
    pub const ORDER: Self = Self(1 << 12);
    /// The disk is lost, and the process back at once. With it goes whatever that node alone had.
    pub const LOSE: Self = Self(1 << 13);
    /// A replica is told to end, and leaves its set first.
    pub const LEAVE: Self = Self(1 << 14);
    /// Processes.
    pub const PROCESSES: Self = Self::CRASH.and(Self::STOP);
    /// What loses data.
    pub const DATA: Self = Self::REBOOT.and(Self::REPLACE);
    /// Links.
    pub const LINKS: Self = Self::CUT.and(Self::PART);
    /// Controllers.
    pub const CONTROLLERS: Self = Self::ISOLATE.and(Self::RESTART);
    /// Messages that are late, and come twice.
    pub const MESSAGES: Self =
        Self::BEAT.and(Self::ANSWER).and(Self::ACK).and(Self::SWAP).and(Self::ORDER);
    /// All of them but lost disks and replicas that leave: these have searches of their own.
    pub const ALL: Self = Self(!Self::LOSE.and(Self::LEAVE).0);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Rules of the protocol. All are on in what ships; a test switches one off to see that it is
/// needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A restarted process holds no grant (R1).
    pub grant_after_restart: bool,
    /// Fence before promote: leases are waited for (R10).
    pub fence_wait: bool,
    /// Leases count from the node's own clock and for one process (R7).
    pub clock_and_nonce: bool,
    /// Leases are granted only from stamps that are older than a read which showed the own claim
    /// (O2).
    pub authority: bool,
    /// Every write to the store compares the claim of whoever sent it (O1).
    pub claim: bool,
    /// A change whose outcome is unknown grants nothing, and is shut out or adopted first (O4).
    pub doubt: bool,
    /// The master waits for the union of all sets the store may hold (R3).
    pub union_of_sets: bool,
    /// Answers wait for the set (R4).
    pub reply_gate: bool,
    /// Acknowledgements count under their epoch only (R11).
    pub epoch_check: bool,
    /// A set names data, not nodes (R3).
    pub identity: bool,
    /// Only answers from after the epoch was known tell a newer process (R1).
    pub newer_process: bool,
    /// Nothing is rewound or replaced but for a master that opened a later epoch (R12).
    pub rewind_to_newer: bool,
    /// Data of an epoch is given up only for a master that shows a grant of it or a later one
    /// (R12).
    pub grant_shown: bool,
    /// Replicas that let a master go on without its controller refuse grants (R9).
    pub promises: bool,
    /// Nodes that were led from a store refuse earlier lives of it, and any other, whatever the
    /// term (O7).
    pub store: bool,
    /// A node's next process knows that store (O7).
    pub store_kept: bool,
}

impl Rules {
    /// As it ships.
    pub const ALL: Self = Self {
        grant_after_restart: true,
        fence_wait: true,
        clock_and_nonce: true,
        authority: true,
        claim: true,
        doubt: true,
        union_of_sets: true,
        reply_gate: true,
        epoch_check: true,
        identity: true,
        newer_process: true,
        rewind_to_newer: true,
        grant_shown: true,
        promises: true,
        store: true,
        store_kept: true,
    };
}

/// The model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// How far.
    pub bounds: Bounds,
    /// By which rules.
    pub rules: Rules,
    /// Nodes serve clients only through the balancer; otherwise only leases fence.
    pub balanced: bool,
    /// A second store, from which controller 1 may begin to lead.
    pub second: Option<Second>,
    /// What has happened when the search begins, after the steady state; its faults are not
    /// counted.
    pub begin: &'static [Action],
}
