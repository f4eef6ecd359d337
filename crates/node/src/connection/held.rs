//! Replies that wait for the in-sync set, in the order of their commands.
//!
//! They leave once every member of the set has what their commands could see, and only if role,
//! grant and lease are still the same as when the commands ran. Otherwise the connection is closed,
//! and they never leave (rule R4).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::event::Event;
use super::{Connection, End};
use crate::grants::drive;
use crate::grants::state::Ticket;
use crate::session::Session;
use crate::session::dispatch::Ran;
use crate::stats::latency::Begun;

/// Groups of replies that may wait on one connection; above that nothing more is read from it.
const GROUPS_MAX: usize = 1024;

/// The waiting replies.
#[derive(Debug, Default)]
pub(super) struct Held {
    groups: VecDeque<Group>,
    bytes: usize,
    /// How many of these bytes are pushes.
    pushed: usize,
}

/// Replies of one batch.
#[derive(Debug)]
struct Group {
    bytes: Vec<u8>,
    /// `None` for replies that only wait for their turn.
    ticket: Option<Ticket>,
    begun: Begun,
    is_pushed: bool,
}

impl Group {
    fn pushed_bytes(&self) -> usize {
        if self.is_pushed { self.bytes.len() } else { 0 }
    }
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes what is in `out`.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, ticket: Option<Ticket>, begun: Begun) {
        if !out.is_empty() {
            self.put(Group { bytes: std::mem::take(out), ticket, begun, is_pushed: false });
        }
    }

    /// Takes pushes, which wait for their turn only.
    pub(super) fn push_behind(&mut self, pushes: Vec<u8>) {
        let begun = Begun { at: Instant::now(), commands: 0 };
        self.put(Group { bytes: pushes, ticket: None, begun, is_pushed: true });
    }

    fn put(&mut self, group: Group) {
        if group.bytes.is_empty() {
            return;
        }
        self.bytes += group.bytes.len();
        self.pushed += group.pushed_bytes();
        self.groups.push_back(group);
    }

    /// Bytes of all waiting replies.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of pushes among them.
    pub(super) fn pushed_bytes(&self) -> usize {
        self.pushed
    }

    fn is_full(&self, replies_max: usize) -> bool {
        self.bytes > replies_max || self.groups.len() >= GROUPS_MAX
    }

    /// What the oldest one waits for; 0 if for nothing.
    fn sequence(&self) -> u64 {
        let ticket = self.groups.front().and_then(|group| group.ticket);
        ticket.map_or(0, |ticket| ticket.sequence)
    }
}

impl Connection {
    /// Sends what may leave by now.
    async fn release(&mut self, session: &Session) -> Result<(), End> {
        while let Some(group) = self.held.groups.front() {
            if let Some(ticket) = &group.ticket {
                if !self.node.grants.commit.has(ticket.sequence) {
                    break;
                }
                drive::may_leave(&self.node, ticket).map_err(|why| End::Refused(why.into()))?;
            }
            if let Some(group) = self.held.groups.pop_front() {
                self.held.bytes -= group.bytes.len();
                self.held.pushed -= group.pushed_bytes();
                if self.out.is_empty() {
                    self.out = group.bytes;
                } else {
                    self.out.extend_from_slice(&group.bytes);
                }
                self.leaving.push(group.begun);
            }
        }
        self.send(session).await
    }

    /// Waits until the oldest reply may leave, and sends what may.
    async fn release_next(&mut self, session: &Session) -> Result<(), End> {
        let node = Arc::clone(&self.node);
        let reached = node.grants.commit.reached(self.worker, self.held.sequence());
        self.event(session, false, reached).await?;
        self.release(session).await
    }

    /// Sends an answer that was made later than its batch, once it may leave.
    pub(super) async fn send_later(
        &mut self,
        session: &Session,
        ran: Ran,
        begun: Begun,
    ) -> Result<(), End> {
        let ticket = ran.finish_later(&self.node).map_err(|why| End::Refused(why.into()))?;
        if ticket.is_some() {
            // The time it took is the command's own, e.g. that of a WAIT.
            self.held.push(&mut self.out, ticket, Begun { commands: 0, ..begun });
            self.drain(session).await?;
        }
        self.send(session).await
    }

    /// Waits until nothing waits.
    pub(super) async fn drain(&mut self, session: &Session) -> Result<(), End> {
        while !self.held.is_empty() {
            self.release_next(session).await?;
        }
        Ok(())
    }

    /// Waits until there is room for the replies of further commands.
    pub(super) async fn make_room(&mut self, session: &Session) -> Result<(), End> {
        while self.held.is_full(self.replies_max(session)) {
            self.release_next(session).await?;
        }
        Ok(())
    }

    /// While replies wait: sends those that become free, and reads what the client sends meanwhile.
    /// `None` once nothing waits and nothing was read.
    pub(super) async fn read_while_waiting(
        &mut self,
        session: &Session,
    ) -> Result<Option<usize>, End> {
        while !self.held.is_empty() {
            self.make_room(session).await?;
            let node = Arc::clone(&self.node);
            let reached = node.grants.commit.reached(self.worker, self.held.sequence());
            if let Event::Read(read) = self.event(session, true, reached).await? {
                return Ok(Some(read));
            }
            self.release(session).await?;
        }
        Ok(None)
    }
}
