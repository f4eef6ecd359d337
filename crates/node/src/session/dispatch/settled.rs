//! Blocking reads whose words are settled first: a position such as `$` becomes the number it
//! stands for at that moment, so that entries which come meanwhile count as new.

use super::super::table::Handler;
use super::super::{After, Command, Session};
use super::Batch;
use crate::command::{Error, Words};

impl Batch<'_> {
    /// Runs a read that waits if there is nothing for it. Its words are settled first: it may be
    /// ended, and run by another thread later, and what comes meanwhile is new to it.
    pub(super) fn run_settled(
        &self,
        session: &Session,
        command: &'static Command,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        let Handler::BlockingRead(handler, settle) = command.handler else {
            return Err(Error::Syntax);
        };
        let settled = {
            let txn = self.store()?.txn();
            settle(&self.read_cx(session, &txn), words)
        };
        match settled {
            None => self.run_blocking_read(session, command, handler, words, out),
            Some(settled) => {
                let words: Words<'_> = settled.iter().map(Vec::as_slice).collect();
                self.run_blocking_read(session, command, handler, &words, out)
            }
        }
    }
}
