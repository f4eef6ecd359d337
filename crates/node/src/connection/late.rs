//! Commands whose answer comes later hold up their connection, as in Redis.
//!
//! While one waits for a key, the end of the stream is noticed, so that nothing is given to a client
//! that is gone.

use api::moving;
use tokio::io::AsyncReadExt as _;

use super::{Connection, End, READ_BYTES, moving as sessions};
use crate::session::{Answer, ReplyMode, Session};
use crate::waiters::{Told, Waiting};

/// How the stream ended.
enum Ended {
    /// The balancer wants the session.
    Wanted,
    /// The client is gone.
    Gone,
}

impl Connection {
    /// A reply that comes later; `None` if the balancer wants the session first, and the command
    /// may begin anew elsewhere.
    pub(super) async fn later(
        &mut self,
        session: &Session,
        answer: Answer,
    ) -> Result<Option<Vec<u8>>, End> {
        let _blocked = session.client.blocked();
        tokio::select! {
            biased;
            bytes = answer => Ok(Some(bytes)),
            () = session.client.killed() => Err(End::Killed),
            ended = self.read_to_end(), if self.moves && sessions::is_repeatable(session) => ended.map(|()| None),
        }
    }

    /// Writes the answer that came, or sets the command back to where it begins: anew here, or at
    /// the node that the balancer gives the session to.
    pub(super) async fn conclude(
        &mut self,
        session: &mut Session,
        told: Option<Told>,
        (length, replies): (usize, ReplyMode),
    ) -> Result<(), End> {
        if let Some(Told::Answer(bytes)) = told {
            if replies == ReplyMode::On {
                self.out = bytes;
            }
            return Ok(());
        }
        // It has had no effect.
        self.start -= length;
        session.reply_mode = replies;
        match told {
            None => Err(self.give_back(session).await),
            Some(_) => Ok(()),
        }
    }

    /// A command that begins anew begins with other words than it came with, if it waits with such:
    /// what it has waited for by now it does not miss. Returns how long it is.
    pub(super) fn reword(
        &mut self,
        told: Option<&Told>,
        length: usize,
        again: Option<Vec<u8>>,
    ) -> usize {
        let is_answered = matches!(told, Some(Told::Answer(_)));
        let Some(again) = again.filter(|_| !is_answered) else { return length };
        let begin = self.start - length;
        self.buffer.splice(begin..self.start, again.iter().copied());
        self.start = begin + again.len();
        again.len()
    }

    /// Waits for what the command is told; `None` if the balancer wants the session first, and the
    /// command has had no effect and may begin anew elsewhere.
    pub(super) async fn blocked(
        &mut self,
        session: &Session,
        mut waiting: Waiting,
    ) -> Result<Option<Told>, End> {
        let _shown = session.client.blocked();
        let ended = tokio::select! {
            biased;
            told = waiting.told() => return Ok(Some(told)),
            () = session.client.killed() => return Err(End::Killed),
            ended = self.read_while_blocked() => ended?,
        };
        match ended {
            Ended::Gone => Err(End::Eof),
            Ended::Wanted if waiting.withdraw() => Ok(None),
            // Its answer was there first.
            Ended::Wanted => Ok(Some(waiting.told().await)),
        }
    }

    /// Reads on, as much as a record may hold, until the stream ends.
    async fn read_while_blocked(&mut self) -> Result<Ended, End> {
        loop {
            if self.is_over {
                return Ok(Ended::Gone);
            }
            if self.at_end {
                return Ok(if self.moves { Ended::Wanted } else { Ended::Gone });
            }
            if self.buffer.len() - self.start > moving::RECORD_MAX {
                return std::future::pending().await;
            }
            self.buffer.reserve(READ_BYTES);
            self.at_end = self.stream.read_buf(&mut self.buffer).await? == 0;
            self.look_for_mark();
        }
    }
}
