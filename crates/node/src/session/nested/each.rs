//! The commands of a transaction one after the other, for as long as all of it can be written.

use std::cell::OnceCell;
use std::sync::Arc;

use super::super::table::{Call, Handler};
use super::super::{WriteCx, long};
use super::NestedCx;
use super::identity::Identity;
use crate::command::Result;

/// What the commands of a transaction that are no reads may answer together, bytes, however little
/// long reads have: short replies to as many as may be queued.
const ANSWERS_LEAST: usize = 32 << 20;

impl NestedCx<'_> {
    /// Runs the commands of a transaction that began as `whose`, each where the one before it has
    /// led (`entered` keeps the names of these namespaces); true if the connection is to be closed
    /// afterwards. Ends behind the one with which the batch became too large, or what they answer:
    /// none of it is written then.
    pub(super) fn call_each<'w>(
        &mut self,
        whose: &Identity,
        write: &mut WriteCx<'w>,
        calls: &[Call<'_>],
        entered: &'w [OnceCell<Arc<[u8]>>],
    ) -> bool {
        let (mut closes, mut answered) = (false, 0_usize);
        for ((command, words), place) in calls.iter().zip(entered) {
            if let Err(error) = self.may_answer_more(answered) {
                self.failed.get_or_insert(error);
                break;
            }
            let (before, mark) = (Arc::clone(&self.session.namespace), self.mark());
            closes |= self.call_as(whose, write, command, words);
            if self.session.namespace != before {
                write.scope = self.scope(place);
            }
            // Reads look by themselves: one that is refused harms no other command.
            if !matches!(command.handler, Handler::Read(_) | Handler::BlockingRead(..)) {
                answered = answered.saturating_add(self.mark().saturating_sub(mark));
            }
            // It would not be written at the end, and each of them may write a large value anew.
            if let Err(error) = write.txn.must_fit() {
                self.failed.get_or_insert(error.into());
                break;
            }
        }
        closes
    }

    /// Whether a further command may run where those that are no reads have answered so much. E.g.
    /// COMMAND, or GETEX of a large value, as often as a transaction has commands. One that writes
    /// is not left out by itself: half of the transaction would be written.
    fn may_answer_more(&self, answered: usize) -> Result<()> {
        if answered <= ANSWERS_LEAST {
            return Ok(());
        }
        let max = self.node.long_reads.share_bytes().max(ANSWERS_LEAST);
        if answered > max { Err(long::too_much(max)) } else { Ok(()) }
    }
}
