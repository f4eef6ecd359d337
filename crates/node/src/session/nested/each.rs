//! The commands of a transaction one after the other, for as long as all of it can be written.

use std::cell::OnceCell;
use std::sync::Arc;

use super::super::WriteCx;
use super::super::table::Call;
use super::NestedCx;
use super::identity::Identity;

impl NestedCx<'_> {
    /// Runs the commands of a transaction that began as `whose`, each where the one before it has
    /// led (`entered` keeps the names of these namespaces); true if the connection is to be closed
    /// afterwards. Ends behind the one with which the batch became too large: none of it is
    /// written then.
    pub(super) fn call_each<'w>(
        &mut self,
        whose: &Identity,
        write: &mut WriteCx<'w>,
        calls: &[Call<'_>],
        entered: &'w [OnceCell<Arc<[u8]>>],
    ) -> bool {
        let mut closes = false;
        for ((command, words), place) in calls.iter().zip(entered) {
            let before = Arc::clone(&self.session.namespace);
            closes |= self.call_as(whose, write, command, words);
            if self.session.namespace != before {
                write.scope = self.scope(place);
            }
            // It would not be written at the end, and each of them may write a large value anew.
            if let Err(error) = write.txn.must_fit() {
                self.failed.get_or_insert(error.into());
                break;
            }
        }
        closes
    }
}
