//! Controllers that share an etcd, and that etcd: who leads now, and what happens to all members.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use super::{Nemesis, TICK, Undo};
use crate::torture::actions::Target;
use crate::torture::etcd::Etcd;
use crate::torture::host::{Host, Role};
use crate::torture::http::Caller;
use crate::torture::rest;
use crate::torture::timeline::Timeline;
use crate::wait;

/// Of one request of those that fill etcd, or empty it.
const PATIENCE: Duration = Duration::from_secs(3);
/// An etcd may be away while it is to have room again.
const ROOM_PATIENCE: Duration = Duration::from_secs(30);

/// Etcd is full until its end is told, on a thread of its own: other faults are due.
#[derive(Debug)]
pub(super) struct Quota {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Nemesis<'_> {
    /// The controller that leads, by what the store said last; else one that could.
    pub(super) fn leading(&self) -> Option<usize> {
        let url = self.leads.lock().claims.last().map(|seen| seen.claim.address.clone());
        let hosts = &self.site.hosts;
        let is_there =
            |host: &Host, url: &str| url == format!("http://{}:{}", host.address, rest::PORT);
        let claims = |host: &Host| url.as_deref().is_some_and(|url| is_there(host, url));
        let find = |is_so: &dyn Fn(&Host) -> bool| {
            hosts.iter().position(|host| matches!(host.role, Role::Controller(_)) && is_so(host))
        };
        find(&claims).or_else(|| find(&Host::goes_on)).or_else(|| find(&|_: &Host| true))
    }

    /// One of the others.
    pub(super) fn standing_by(&self, number: usize) -> Option<usize> {
        let leading = self.leading();
        let all = self.site.hosts.iter().enumerate();
        let others = all.filter(|(index, host)| {
            matches!(host.role, Role::Controller(_)) && Some(*index) != leading
        });
        others.map(|(index, _)| index).nth(number)
    }

    /// As an operator does; one that is stopped would not hear it.
    pub(super) fn end(&mut self, target: Target, end: u64) -> Result<()> {
        let Some(index) = self.host_of(target) else { return Ok(()) };
        if !self.site.hosts[index].goes_on() {
            self.say("not ended, for it does not go on:", index);
            return Ok(());
        }
        self.say("end", index);
        self.site.hosts[index].terminate()?;
        self.undo.push((end, Undo::Start(index)));
        Ok(())
    }

    /// All members of etcd that are not stopped already.
    pub(super) fn freeze(&mut self, end: u64) -> Result<()> {
        for index in 0..self.site.hosts.len() {
            let host = &mut self.site.hosts[index];
            if matches!(host.role, Role::Member(_)) && host.goes_on() {
                host.stop()?;
                self.undo.push((end, Undo::GoOn(index)));
            }
        }
        Ok(())
    }

    pub(super) fn use_up_quota(&mut self, end: u64) {
        let Some(etcd) = self.site.control().etcd().cloned() else { return };
        if self.quota.is_some() {
            self.timeline.note("not filled, for it was: etcd");
            return;
        }
        let (is_over, timeline) = (Arc::new(AtomicBool::new(false)), self.timeline.clone());
        let told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || fill(&etcd, &told, &timeline));
        self.quota = Some(Quota { is_over, thread });
        self.undo.push((end, Undo::Room));
    }

    /// It is to have room again.
    pub(super) fn wants_room(&self) {
        if let Some(quota) = &self.quota {
            quota.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until it has.
    pub(super) fn await_room(&mut self) {
        let Some(quota) = self.quota.take() else { return };
        quota.is_over.store(true, Ordering::Relaxed);
        let done = match quota.thread.join() {
            Ok(done) => done.map_err(|error| format!("{error:#}")),
            Err(_) => Err("the thread has panicked".to_owned()),
        };
        if let Err(error) = done {
            self.surprises.push(format!("etcd has no room again: {error}"));
        }
    }
}

fn fill(etcd: &Etcd, is_over: &AtomicBool, timeline: &Timeline) -> Result<()> {
    let caller = Caller::new(PATIENCE)?;
    timeline.note(match etcd.use_up(&caller) {
        Ok(count) => format!("etcd is full after {count} MiB"),
        Err(error) => format!("etcd is not full: {error:#}"),
    });
    while !is_over.load(Ordering::Relaxed) {
        wait::pause(TICK);
    }
    wait::until("etcd has room", ROOM_PATIENCE, || {
        etcd.make_room(&caller).map_err(|error| format!("{error:#}"))
    })?;
    timeline.note("etcd has room");
    Ok(())
}
