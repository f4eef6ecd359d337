//! The one place where a connection waits: for its client, for whatever it waits for besides, for
//! pushes, for its end.

use std::future::Future;

use api::moving;
use tokio::io::AsyncReadExt as _;

use super::{Connection, End, READ_BYTES};
use crate::session::Session;

/// What came first.
#[derive(Debug)]
pub(super) enum Event<T> {
    /// What was waited for.
    Done(T),
    /// So many bytes; 0 at the end of the stream. They are in the buffer, for which the caller has
    /// made room.
    Read(usize),
}

/// For how long a connection that waits reads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// It does not.
    Not,
    /// Until the stream has ended.
    ToEnd,
    /// Until its client has ended its side, or the stream has ended.
    WhileAwaited,
    /// The same, however much the client sends ahead: its end must be noticed, as a client that is
    /// gone must take nothing from others. Above `client-query-buffer-limit` it is cut off, as by
    /// Redis; so it is above its share, if connections use all the memory they may.
    UntilGone,
}

impl Connection {
    /// Waits for `done`, and for the client if the connection `reads`. Pushes leave meanwhile,
    /// unless they must not overtake what is waited for.
    pub(super) async fn event<T>(
        &mut self,
        session: &Session,
        reads: bool,
        done: impl Future<Output = T>,
    ) -> Result<Event<T>, End> {
        let (client, keeps_pushes) = (&session.client, self.keeps_pushes);
        let mut done = std::pin::pin!(done);
        loop {
            tokio::select! {
                biased;
                done = &mut done => return Ok(Event::Done(done)),
                read = self.stream.read_buf(&mut self.buffer), if reads => {
                    let read = read?;
                    self.take_back();
                    self.at_end = read == 0;
                    self.look_for_mark();
                    // One that sends without pause is never asked below.
                    return if client.is_killed() { Err(End::Killed) } else { Ok(Event::Read(read)) };
                }
                () = client.called(), if !keeps_pushes => {}
                () = client.killed(), if keeps_pushes => {}
                () = client.visit_over(), if client.is_visitor() => return Err(self.turn_away().await),
            }
            if client.is_killed() {
                return Err(End::Killed);
            }
            if !self.take_back() {
                // What is waited for has left, or begun to: it is done, and comes first.
                continue;
            }
            self.take_pushes(session);
            self.send(session).await?;
        }
    }

    /// The same, reading on as much as a record may hold, or a client may send; `None` once what is
    /// read has come to its end.
    pub(super) async fn done_or_end<T>(
        &mut self,
        session: &Session,
        reads: Reads,
        done: impl Future<Output = T>,
    ) -> Result<Option<T>, End> {
        let mut done = std::pin::pin!(done);
        loop {
            let has_ended = match reads {
                Reads::Not => false,
                Reads::ToEnd => self.at_end,
                Reads::WhileAwaited | Reads::UntilGone => self.at_end || self.is_over,
            };
            if has_ended {
                tokio::select! {
                    biased;
                    done = &mut done => return Ok(Some(done)),
                    () = std::future::ready(()) => return Ok(None),
                }
            }
            let reads_on = match reads {
                Reads::Not => false,
                Reads::ToEnd | Reads::WhileAwaited => {
                    let ahead = self.buffer.len() - self.start;
                    ahead <= moving::RECORD_MAX.min(self.ahead_max(session))
                }
                Reads::UntilGone => {
                    let ahead = self.unserved(session)?;
                    self.may_send_ahead(ahead)?;
                    true
                }
            };
            if reads_on {
                self.buffer.reserve(READ_BYTES);
            }
            match self.event(session, reads_on, &mut done).await? {
                Event::Done(done) => return Ok(Some(done)),
                Event::Read(read) => {
                    self.count(|stats| &stats.bytes_in, read);
                    self.show_buffers(session);
                }
            }
        }
    }

    /// Lines up the pushes that have come, behind the replies that are there already.
    pub(super) fn take_pushes(&mut self, session: &Session) {
        let inbox = &session.client.inbox;
        if inbox.is_empty() {
            return;
        }
        if self.held.is_empty() {
            inbox.take(&mut self.out);
        } else {
            let mut pushes = Vec::new();
            inbox.take(&mut pushes);
            self.held.push_behind(pushes);
        }
        // They count as long as they are here, against the limit of those that come.
        self.show_buffers(session);
    }
}
