//! Commands whose answer comes later, or that are tried again. They hold up their connection, as in
//! Redis.
//!
//! While a command waits for a key, the connection watches for the end of its stream, so that
//! nothing is given to a client that is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use resp::Parser;

use super::event::Reads;
use super::room::LOOK;
use super::{Connection, End, Ended, Leave, moving as sessions, time_left};
use crate::clients::Pause;
use crate::clock;
use crate::command::Flags;
use crate::long_reads::Hold;
use crate::node::Node;
use crate::session::dispatch::Ran;
use crate::session::{After, LongRead, ReplyMode, Session};
use crate::stats::latency::Begun;
use crate::waiters::{Told, Waiting};

/// How the error of what CLIENT UNBLOCK has ended begins.
const UNBLOCKED: &[u8] = b"-UNBLOCKED ";

/// The words with which a command that has waited runs again, here or elsewhere; `None`: those it
/// had.
fn words_again(
    session: &Session,
    told: Option<&Told>,
    waiting: &Waiting,
    left: Option<Duration>,
) -> Option<Vec<u8>> {
    match (told, waiting.again(), left) {
        (Some(told), ..) if told.is_answer() => None,
        // The next node does not know how long it has waited.
        (None, (words, _), Some(left)) => {
            Some(time_left::with_rest(last_name(session), words, left))
        }
        (_, (words, is_other), _) => is_other.then(|| time_left::as_resp(words)),
    }
}

impl Connection {
    /// What follows a command after which the next one cannot follow at once.
    pub(super) async fn follow(
        &mut self,
        session: &mut Session,
        ended: Ended,
        parser: &mut Parser,
    ) -> Result<Option<Leave>, End> {
        let Ended { after, length, replies, ran, begun } = ended;
        match after {
            After::Next(_) | After::Wrote(_) => {}
            After::Again(_) if self.at_end && self.may_move() => {
                return Err(self.give_back(session).await);
            }
            After::Again(pause) => self.wait(session, pause).await?,
            After::Later(answer, _) => {
                let answer = self.later(session, answer).await?;
                // CLIENT UNBLOCK has counted its own.
                if let Some(answer) = answer.as_ref().filter(|all| !all.starts_with(UNBLOCKED)) {
                    self.node.stats.errors.note_reply(answer);
                }
                let told = answer.map(Told::Answer);
                self.conclude(session, told, (length, replies)).await?;
                self.send_later(session, ran, begun).await?;
            }
            After::Aside(answer) => {
                let back = self.later(session, answer).await?;
                let closes = back.as_ref().is_some_and(|back| back.closes);
                let ran = back.as_ref().map_or(ran, |back| ran.telling(back.tells));
                let told = back.map(|back| {
                    back.state.into_iter().for_each(|state| session.take_up(state));
                    Told::Answer(back.bytes)
                });
                self.conclude(session, told, (length, replies)).await?;
                self.send_later(session, ran, begun).await?;
                if closes {
                    return Err(End::Quit);
                }
            }
            After::Long(mut read) => {
                let (closes, again) = (read.closes, read.again.take());
                let since = Instant::now();
                let (told, hold) = self.long(session, read).await?;
                let begins_anew = told == Some(Told::Again);
                let again = again.map(|words| later(session, &words, since.elapsed()));
                let length = self.reword(told.as_ref(), length, again);
                self.conclude(session, told, (length, replies)).await?;
                if begins_anew {
                    (*parser, session.has_looked) = (Parser::new(), true);
                    return Ok(None);
                }
                self.send_later(session, ran, begun).await?;
                drop(hold);
                if closes {
                    return Err(End::Quit);
                }
            }
            After::Blocked(waiting) => {
                *parser = Parser::new();
                self.wait_for_key(session, waiting, (length, replies), (ran, begun)).await?;
            }
            After::Close | After::Drop(_) => return Err(End::Quit),
            After::Leave(take) => return Ok(Some(Leave::Detach(take))),
        }
        Ok(None)
    }

    /// Waits for a key, and answers; or the command is to begin anew.
    async fn wait_for_key(
        &mut self,
        session: &mut Session,
        mut waiting: Waiting,
        (length, replies): (usize, ReplyMode),
        (ran, begun): (Ran, Begun),
    ) -> Result<(), End> {
        let standing = waiting.standing();
        self.lend(session, &waiting, (ran, replies));
        let awaited = &session.client.shown.awaited_bytes;
        awaited.store(waiting.bytes(), Ordering::Relaxed);
        self.show_buffers(session);
        let told = self.blocked(session, &mut waiting).await;
        awaited.store(0, Ordering::Relaxed);
        let told = told?;
        self.lent = None;
        let begins_anew = told == Some(Told::Again);
        let has_left = matches!(told, Some(Told::Left { .. }));
        let again = words_again(session, told.as_ref(), &waiting, standing.left());
        drop(waiting);
        let length = self.reword(told.as_ref(), length, again);
        self.conclude(session, told, (length, replies)).await?;
        session.standing = begins_anew.then_some(standing);
        if has_left {
            // Whether it may was looked at before.
            self.send(session).await
        } else if begins_anew {
            Ok(())
        } else {
            self.send_later(session, ran, begun).await
        }
    }

    /// Waits until the last command may be tried again.
    pub(super) async fn wait(&mut self, session: &Session, pause: Pause) -> Result<(), End> {
        let left = Duration::from_nanos(pause.until_ns.saturating_sub(clock::boottime_ns()));
        let waits_for_memory = self.waits_for_memory(session);
        self.set_waiting(session, waits_for_memory);
        let (node, left) = (Arc::clone(&self.node), left.max(Duration::from_millis(1)));
        let over = pause_over(&node, self.worker, left, waits_for_memory);
        let reads = if self.may_move() { Reads::ToEnd } else { Reads::Not };
        self.done_or_end(session, reads, over).await.map(|_| ())
    }

    /// A reply that comes later; `None` if the balancer wants the session first, and the command
    /// may begin anew elsewhere.
    pub(super) async fn later<T>(
        &mut self,
        session: &Session,
        answer: impl Future<Output = T>,
    ) -> Result<Option<T>, End> {
        let _blocked = session.client.blocked();
        let moves = self.may_move() && sessions::is_repeatable(session);
        let reads = if moves { Reads::ToEnd } else { Reads::Not };
        // What waits for something else may wait for long.
        let reads_keys = session.client.last_command.get().is_some_and(|command| {
            [Flags::SCRIPT, Flags::RUNS_QUEUE].iter().any(|flag| command.flags.has(*flag))
        });
        self.keeps_pushes = reads_keys && session.tracks.is_some();
        let answered = self.done_or_end(session, reads, answer).await;
        self.keeps_pushes = false;
        answered
    }

    /// The answer of a long read, and the memory it uses until it is sent; `None` if the balancer
    /// wants the session first, and the read may begin anew elsewhere.
    pub(super) async fn long(
        &mut self,
        session: &Session,
        read: LongRead,
    ) -> Result<(Option<Told>, Option<Hold>), End> {
        let _blocked = session.client.blocked();
        // A transaction that has run is answered here, or not at all.
        let reads = if read.is_repeatable { Reads::WhileAwaited } else { Reads::Not };
        // An invalidation must follow the value that it is about: else the client would keep the
        // old value, and be told of nothing any more.
        self.keeps_pushes = session.tracks.is_some();
        let answered = self.done_or_end(session, reads, read.answer).await;
        self.keeps_pushes = false;
        match answered? {
            Some(done) if done.is_nothing => Ok((Some(Told::Again), None)),
            Some(done) => Ok((Some(Told::Answer(done.bytes)), done.hold)),
            None if self.is_over || !self.may_move() => Err(End::Eof),
            None => Ok((None, None)),
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
        if let Some(Told::Left { sent, rest }) = told {
            self.count_sent(session, sent);
            self.out = rest;
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
        let is_answered = told.is_some_and(Told::is_answer);
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
        waiting: &mut Waiting,
    ) -> Result<Option<Told>, End> {
        let _shown = session.client.blocked();
        if let Some(told) = self.done_or_end(session, Reads::UntilGone, waiting.told()).await? {
            return Ok(Some(told));
        }
        if self.is_over || !self.may_move() {
            return Err(End::Eof);
        }
        // If it cannot be withdrawn, its answer was there first.
        if waiting.withdraw() { Ok(None) } else { Ok(Some(waiting.told().await)) }
    }
}

/// The name of the command that is waited for, however it may be renamed.
fn last_name(session: &Session) -> &'static str {
    session.client.last_command.get().map_or("", |row| row.name)
}

/// A command that began so long ago as it begins anew.
fn later(session: &Session, words: &[Vec<u8>], ago: Duration) -> Vec<u8> {
    let name = last_name(session);
    match time_left::patience(name, words) {
        Some(patience) => time_left::with_rest(name, words, patience.saturating_sub(ago)),
        None => time_left::as_resp(words),
    }
}

/// The end of CLIENT PAUSE, or of the wait for a set that is far behind or for memory, or of
/// `left`.
async fn pause_over(node: &Node, worker: usize, left: Duration, is_for_memory: bool) {
    let acked = node.grants.commit.acked(worker);
    if node.clients.paused(clock::boottime_ns).is_some() {
        node.clients.resumed(left).await;
    } else if is_for_memory {
        // What others acknowledge frees none.
        tokio::time::sleep(left.min(LOOK)).await;
    } else if !node.grants.commit.is_waiting() {
        // Nobody acknowledges anything.
        tokio::time::sleep(left).await;
    } else {
        // In time or not: the command is tried again.
        let _ = tokio::time::timeout(left, acked).await;
    }
}
