//! The replies to commands that a gate refuses.
//!
//! The gates have decided by then: nothing here admits a refused command.

use std::borrow::Cow;
use std::time::Duration;

use super::super::gates::Refusal;
use super::super::{After, Session};
use super::Batch;
use crate::clients::{Pause, PauseKind};
use crate::clock;

/// What stands before the reason for which an EXEC has ended its transaction.
pub(super) const ABORTED: &str = "EXECABORT Transaction discarded because of: ";

/// After so long a command is tried again whose keys a script holds.
const AGAIN_NS: u64 = 5_000_000;

impl Batch<'_> {
    /// As Redis: an EXEC that is refused ends its transaction, and says so, unless the reply tells
    /// where the transaction belongs or when to try again: clients of a cluster look for its code.
    pub(super) fn abort_exec(&self, session: &mut Session, refusal: Refusal) -> Refusal {
        const OF_THE_CLUSTER: [&str; 4] = ["MOVED ", "CROSSSLOT ", "TRYAGAIN ", "CLUSTERDOWN "];
        if matches!(refusal, Refusal::Wait(_)) {
            return refusal;
        }
        session.transaction.take();
        session.transaction.unwatch(self.node);
        session.is_asking = false;
        let abort = |text: Cow<'static, str>| {
            if OF_THE_CLUSTER.iter().any(|code| text.starts_with(code)) {
                return text;
            }
            let why = text.strip_prefix("ERR ").unwrap_or(&text);
            format!("{ABORTED}{why}").into()
        };
        match refusal {
            Refusal::Error(text) => Refusal::Error(abort(text)),
            Refusal::ErrorAndClose(text) => Refusal::ErrorAndClose(abort(text)),
            other => other,
        }
    }

    pub(super) fn refuse(
        &mut self,
        session: &mut Session,
        refusal: Refusal,
        out: &mut Vec<u8>,
    ) -> After {
        if !matches!(refusal, Refusal::Wait(_)) {
            session.transaction.is_aborted |= session.transaction.is_open();
        }
        match refusal {
            Refusal::Error(text) => session.reply(out).error(&text).into(),
            Refusal::ErrorAndClose(text) => {
                session.reply(out).error(&text);
                After::Close
            }
            Refusal::Close(why) => After::Drop(why),
            Refusal::Wait(pause) => {
                // Not refused: it is tried again.
                self.release();
                After::Again(pause)
            }
        }
    }

    /// A script holds the keys of a command: it is tried again, unless that has gone on for long.
    pub(super) fn wait_for_script(
        &mut self,
        session: &mut Session,
        is_exec: bool,
        out: &mut Vec<u8>,
    ) -> After {
        let threshold = Duration::from_millis(u64::from(self.config.lua_time_limit));
        let refusal = match self.node.scripts.busy(threshold) {
            Some(busy) => Refusal::Error(busy.into()),
            None => Refusal::Wait(Pause {
                kind: PauseKind::Write,
                until_ns: clock::boottime_ns() + AGAIN_NS,
            }),
        };
        let refusal = if is_exec { self.abort_exec(session, refusal) } else { refusal };
        self.refuse(session, refusal, out)
    }
}
