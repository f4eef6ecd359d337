//! The steps of the model.

/// A step. Numbers name controllers (0, 1), nodes (0, 1, 2) and instances of the balancer (0, 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Half a lease passes.
    Tick,
    /// A controller asks its master, and does what follows.
    AskMaster(u8),
    /// A controller asks all its replicas, and does what follows.
    AskReplicas(u8),
    /// A heartbeat of a controller to a node is late.
    AskLate(u8, u8),
    /// The answer of a node to a controller is late.
    AnswerLate(u8, u8),
    /// A controller notices that a node does not answer, and does what follows.
    Miss(u8, u8),
    /// The next compare-and-swap of a controller will be late: it is stopped, or cut off from the
    /// store, as it sends it.
    SwapLate(u8),
    /// The same, and the controller goes on: it does not know what became of it.
    SwapLost(u8),
    /// A controller finds out what became of a change, and shuts it out if it has not arrived.
    Settle(u8),
    /// An order to an instance of the balancer is late.
    OrderLate(u8, u8),
    /// A late message arrives.
    Arrive(u8),
    /// A client writes at a node.
    Write(u8),
    /// A replica takes its master's stream and acknowledges it.
    Follow(u8),
    /// The same; the acknowledgement is late.
    FollowLate(u8),
    /// A replica acknowledges what it has to the master it is told to follow, before it took
    /// anything of its stream.
    Claim(u8),
    /// A replica answers its master's ping while no controller is heard.
    Echo(u8),
    /// kill -9.
    Crash(u8),
    /// The machine restarts.
    Reboot(u8),
    /// A replica replaces its data by a copy of its master's.
    Replace(u8),
    /// A replica that has no epoch in common with its master takes a copy of what that has.
    Copy(u8),
    /// The disk is lost, and the process is back at once with an empty one.
    Lose(u8),
    /// A replica's process is told to end: it asks to be in no set first.
    Leave(u8),
    /// It ends, once its master counts on it no more.
    End(u8),
    /// A supervisor starts the process.
    Start(u8),
    /// SIGSTOP.
    Stop(u8),
    /// SIGCONT.
    Continue(u8),
    /// The link between a controller and a node is cut.
    Cut(u8, u8),
    /// It is whole again.
    Mend(u8, u8),
    /// A replica no longer gets its master's stream.
    Part(u8),
    /// It does again.
    Join(u8),
    /// A controller no longer reaches the store: it is cut off, or stopped.
    Isolate(u8),
    /// It does again.
    Reconnect(u8),
    /// The other controller claims the lead.
    Elect(u8),
    /// The leader is replaced by its next process.
    RestartController,
    /// An operator asks for another master.
    Want,
    /// Controller 1 begins to lead from the second store.
    Second,
}

impl Action {
    /// What it takes of the budget.
    pub(crate) fn cost(self) -> u8 {
        match self {
            Self::AskLate(..)
            | Self::AnswerLate(..)
            | Self::SwapLate(..)
            | Self::SwapLost(..)
            | Self::OrderLate(..)
            | Self::FollowLate(..)
            | Self::Crash(..)
            | Self::Reboot(..)
            | Self::Replace(..)
            | Self::Lose(..)
            | Self::Leave(..)
            | Self::Stop(..)
            | Self::Cut(..)
            | Self::Part(..)
            | Self::Isolate(..)
            | Self::RestartController => 1,
            _ => 0,
        }
    }
}
