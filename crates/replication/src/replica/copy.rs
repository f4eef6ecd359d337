//! Full sync: the list of the master's files, what is missing of them, the swap.

use super::dialog::{Dialog, Outcome, Purpose};
use super::download::Download;
use super::event::{Action, Conn, Fault, Held, Peer, Reason};
use super::{Machine, Phase};
use crate::ReplicationId;
use crate::files::ListReader;

impl Machine {
    /// What has kept attempts apart so far counts no more.
    pub(super) fn forget_delays(&mut self) {
        self.backoff.reset();
        self.copies.reset();
    }

    pub(super) fn full_sync(&mut self, reason: Reason, now: u64, out: &mut Vec<Action<'_>>) {
        out.extend(self.open_conns().into_iter().map(Action::Close));
        out.push(Action::FullSync(reason));
        let conn = self.next_conn();
        let dialog = Dialog::open(conn, Purpose::Meta, self.peer, &self.config, now, out);
        self.phase = Phase::Listing { dialog, is_asked: false, list: ListReader::default() };
    }

    pub(super) fn listed(
        &mut self,
        conn: Conn,
        mut input: &[u8],
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) -> Result<(), Fault> {
        let Phase::Listing { dialog, is_asked, list } = &mut self.phase else { return Ok(()) };
        if !*is_asked {
            *is_asked = dialog.received(&mut input, &self.config, now, out)? == Outcome::Data;
            if let Some(lineage) = dialog.copied.clone() {
                self.their_lineage = Some(lineage);
            }
        }
        while *is_asked && !input.is_empty() {
            let Some(line) = dialog.lines.read(&mut input)? else { break };
            if line.starts_with(b"-") {
                let reply = String::from_utf8_lossy(&line).into_owned();
                return Err(Fault::Refused { request: "_fetch_meta", reply });
            }
            dialog.deadline = now.saturating_add(self.config.transfer_timeout_ms);
            let found = match dialog.peer {
                Peer::Kvrocks => Some(ListReader::plain(&line)?),
                Peer::Holdfast => list.line(&line)?,
            };
            if let Some(found) = found {
                out.push(Action::Close(conn));
                let (checkpoint, files) = (found.checkpoint.clone(), found.files.clone());
                out.push(Action::Prepare { checkpoint, files });
                self.phase = Phase::Preparing(found);
                break;
            }
        }
        Ok(())
    }

    pub(super) fn download(&mut self, held: &[Held], now: u64, out: &mut Vec<Action<'_>>) {
        let Phase::Preparing(list) = &self.phase else { return };
        let sequence = list.sequence;
        let conns = &mut self.conns;
        let next_conn = || {
            *conns = conns.wrapping_add(1);
            Conn(*conns)
        };
        let download = Download::open(list, held, self.peer, &self.config, now, next_conn, out);
        if download.is_done() {
            out.push(Action::Swap);
            self.phase = Phase::Swapping { sequence };
        } else {
            self.phase = Phase::Downloading { download, sequence };
        }
    }

    pub(super) fn swapped(
        &mut self,
        next: u64,
        replication_id: Option<ReplicationId>,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) -> Result<(), Fault> {
        let Phase::Swapping { sequence: announced } = self.phase else { return Ok(()) };
        let found = next.saturating_sub(1);
        self.config.next = next;
        self.config.replication_id = replication_id;
        if found < announced {
            self.config.must_full_sync = true;
            return Err(Fault::ShortCopy { announced, found });
        }
        self.copies.reset();
        (self.config.must_full_sync, self.config.is_deposed) = (false, false);
        (self.is_parted, self.unrewindable, self.waiting_since) = (false, None, None);
        // What was copied is this master's, though it keeps no histories. One that does is not
        // known by its address: what comes there next may be anything.
        self.is_proven = self.peer == Peer::Kvrocks;
        self.attempt(now, out);
        Ok(())
    }
}
