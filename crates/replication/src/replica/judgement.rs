//! A replica acts on what the comparison of the histories says ([`compare::judge`]): it goes on,
//! cuts off, copies or waits.

use std::sync::Arc;

use super::compare::{self, Mine, Verdict};
use super::{Action, Fault, Machine, Peer, Phase, Reason};
use crate::answer::Answer;
use crate::history::{History, Position};
use crate::lineage::Source;

impl Machine {
    /// Tells the name of this node's cluster, as far as it is known by now: an address may be
    /// another cluster's since the topology was told.
    pub fn be_of(&mut self, cluster: Option<String>) {
        self.config.cluster = cluster;
    }

    /// The stream was accepted: what is here is the master's, and what follows too. Nothing of it
    /// is this node's own any more.
    pub(super) fn adopt(&mut self, out: &mut Vec<Action<'_>>) {
        // What follows may part there again, and is to be rewound or kept like any other.
        self.unrewindable = None;
        let is_own_next = self.config.lineage.source(self.config.next) == Some(Source::Own);
        match self.their_lineage.clone().flatten() {
            Some(lineage) => out.push(Action::Adopt(Some(lineage))),
            None if self.peer == Peer::Kvrocks => out.push(Action::Adopt(None)),
            // Versions that keep histories and no lineage are on their way out, and the next one
            // begins a lineage that nobody here can name. Their epochs say whose this is; beside
            // them nothing more is known of it.
            None if self.has_epochs => out.push(Action::Adopt(Some(History::default()))),
            None if is_own_next => out.push(Action::Adopt(None)),
            None => {}
        }
        out.extend(self.their_latest.map(Action::HistoryUpTo));
    }

    pub(super) fn position(&self) -> Position {
        let latest = self.config.next.saturating_sub(1);
        Position { history: History::clone(&self.config.history), latest }
    }

    /// Decides by the histories; `theirs` is `None` for a master that keeps none.
    pub(super) fn compare(
        &mut self,
        theirs: Option<&Answer>,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) -> Result<(), Fault> {
        self.their_lineage = Some(theirs.and_then(|theirs| theirs.lineage.clone()));
        self.their_latest = theirs.map(|theirs| theirs.position.latest);
        self.has_epochs = theirs.is_some_and(|theirs| !theirs.position.history.is_empty());
        let (position, lineage) = (self.position(), Arc::clone(&self.config.lineage));
        let mine = Mine {
            position: &position,
            lineage: &lineage,
            is_deposed: self.config.is_deposed,
            is_spoilt: self.config.must_full_sync,
        };
        let verdict = match theirs {
            Some(theirs) => compare::judge(mine, theirs),
            None => compare::judge_unknown(mine, self.is_proven),
        };
        let waited = now.saturating_sub(*self.waiting_since.get_or_insert(now));
        if verdict != Verdict::Wait {
            self.waiting_since = None;
        }
        if !matches!(verdict, Verdict::NoGrant(_)) {
            // What is waited for without a grant was not compared: what was found before still
            // holds.
            self.is_parted =
                matches!(verdict, Verdict::Rewind(_) | Verdict::Parted(_) | Verdict::Required);
        }
        match verdict {
            Verdict::NoGrant(epoch) => return Err(Fault::no_grant(epoch, theirs)),
            Verdict::Continue => {
                if let Phase::Handshake(dialog) = &mut self.phase {
                    dialog.psync_now(&self.config, now, out);
                }
            }
            Verdict::Rewind(fork) if self.unrewindable != Some(fork) => {
                out.extend(self.open_conns().into_iter().map(Action::Close));
                out.push(Action::Rewind { fork });
                self.phase = Phase::Rewinding(fork);
            }
            Verdict::Rewind(fork) => {
                let why = format!("no rewind to {fork} is possible");
                self.full_sync(Reason::Unrewindable(why), now, out);
            }
            Verdict::Wait if self.config.epoch_patience_ms.is_none_or(|limit| waited < limit) => {
                return Err(Fault::NoEpoch);
            }
            Verdict::Wait => {
                self.is_parted = true;
                let why = "the master opened no epoch of its own".to_owned();
                self.full_sync(Reason::Parted(why), now, out);
            }
            Verdict::Required => self.full_sync(Reason::Required, now, out),
            Verdict::Parted(why) => self.full_sync(Reason::Parted(why.to_owned()), now, out),
        }
        Ok(())
    }
}
