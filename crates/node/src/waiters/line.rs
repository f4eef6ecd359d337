//! How the answer of a command that waits leaves.
//!
//! A connection that waits and does nothing else lends its line: who makes the answer sends it as
//! well, and no thread has to be woken for that. The connection learns of it when it is woken by
//! something else, e.g. by what its client sends next. Before it does anything but wait, or ends,
//! it takes the line back.
//!
//! Invariant: an answer leaves once and whole, by one of the two. Where a part of it has left, the
//! connection sends the rest before anything else.

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What a waiting command is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Its reply, as RESP.
    Answer(Vec<u8>),
    /// Its reply has left, by the line that was lent.
    Left {
        /// So many bytes of it.
        sent: usize,
        /// All but these.
        rest: Vec<u8>,
    },
    /// It begins anew: its keys are another node's now, and the gates say which one's; or a script
    /// holds one of them, which is waited for where every command waits for it; or it is a read
    /// that takes too long for the thread that would serve it.
    Again,
}

impl Told {
    /// Whether the command is over.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Answer(_) | Self::Left { .. })
    }
}

/// Sends an answer, on whichever thread, if it may leave now: how many of its bytes have left.
pub type Wire = Box<dyn Fn(&[u8]) -> usize + Send>;

/// See the module documentation.
#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
enum State {
    /// The connection sends.
    #[default]
    Own,
    /// The thread that answers sends.
    Lent(Wire),
    /// The answer has left, so many bytes. The end of the bell would wake the connection, too.
    Used { sent: usize, _bell: oneshot::Sender<Told> },
    /// A part of it has, and the connection was told of the rest.
    Begun,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Line {
    /// From here on who answers sends.
    pub(super) fn lend(&self, wire: Wire) {
        let mut state = self.0.lock();
        if matches!(*state, State::Own) {
            *state = State::Lent(wire);
        }
    }

    /// From here on the connection sends; nobody else does when this has returned. False if an
    /// answer has left by it, or a part of one.
    pub(super) fn take_back(&self) -> bool {
        let mut state = self.0.lock();
        if matches!(*state, State::Lent(_)) {
            *state = State::Own;
        }
        matches!(*state, State::Own)
    }

    /// What there is to know of an answer that the bell did not ring for.
    pub(super) fn left(&self) -> Option<Told> {
        match &*self.0.lock() {
            State::Used { sent, .. } => Some(Told::Left { sent: *sent, rest: Vec::new() }),
            State::Own | State::Lent(_) | State::Begun => None,
        }
    }

    /// Sends an answer by a line that is lent, or rings for the connection to do it.
    pub(super) fn send(&self, bell: oneshot::Sender<Told>, mut answer: Vec<u8>) {
        let mut state = self.0.lock();
        let sent = match &*state {
            State::Lent(wire) => wire(&answer).min(answer.len()),
            State::Own | State::Used { .. } | State::Begun => 0,
        };
        let told = if sent == 0 {
            *state = State::Own;
            Told::Answer(answer)
        } else if sent == answer.len() {
            *state = State::Used { sent, _bell: bell };
            return;
        } else {
            *state = State::Begun;
            Told::Left { sent, rest: answer.split_off(sent) }
        };
        // The connection may have ended meanwhile, like one that ends before its reply arrives.
        let _ = bell.send(told);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A line, what left by it, and what rings.
    type Lent = (Line, Arc<Mutex<Vec<u8>>>, oneshot::Sender<Told>, oneshot::Receiver<Told>);

    fn lent(takes: usize) -> Lent {
        let (line, left) = (Line::default(), Arc::<Mutex<Vec<u8>>>::default());
        let to = Arc::clone(&left);
        line.lend(Box::new(move |bytes| {
            let sent = takes.min(bytes.len());
            to.lock().extend_from_slice(&bytes[..sent]);
            sent
        }));
        let (bell, rung) = oneshot::channel();
        (line, left, bell, rung)
    }

    #[test]
    fn what_leaves_whole_wakes_nobody() {
        let (line, left, bell, mut rung) = lent(usize::MAX);
        assert_eq!(line.left(), None);
        line.send(bell, b"answer".to_vec());
        assert_eq!(*left.lock(), b"answer");
        assert_eq!(rung.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(line.left(), Some(Told::Left { sent: 6, rest: Vec::new() }));
        assert!(!line.take_back(), "it has left");
    }

    #[test]
    fn of_what_leaves_in_part_the_connection_has_the_rest() {
        let (line, left, bell, mut rung) = lent(2);
        line.send(bell, b"answer".to_vec());
        assert_eq!(*left.lock(), b"an");
        assert_eq!(rung.try_recv(), Ok(Told::Left { sent: 2, rest: b"swer".to_vec() }));
        assert_eq!(line.left(), None, "it was told already");
        assert!(!line.take_back(), "nothing may come between");
    }

    #[test]
    fn what_may_not_leave_or_has_no_line_is_the_connections() {
        let (line, left, bell, mut rung) = lent(0);
        line.send(bell, b"answer".to_vec());
        assert_eq!(rung.try_recv(), Ok(Told::Answer(b"answer".to_vec())));
        assert!(line.take_back() && left.lock().is_empty());
        let (line, left, bell, mut rung) = lent(usize::MAX);
        assert!(line.take_back());
        line.send(bell, b"answer".to_vec());
        assert_eq!(rung.try_recv(), Ok(Told::Answer(b"answer".to_vec())));
        assert!(line.left().is_none() && left.lock().is_empty());
        assert_eq!(Arc::strong_count(&left), 1, "nothing is kept of what was lent");
    }
}
