//! What is known of the migration that gives slots away, and of the one that brings some.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use topology::state::Marks;
use topology::view::{Importing, JobState, Jobs, Migrating};
use topology::{Cluster, NodeId, SlotRange, SlotSet};

use super::checks::{Refused, are_mine, overlap};

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Migration {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    giving: Giving,
    taking: Taking,
}

/// Of slots that are given away. What it was last stays until the next one.
#[derive(Debug, Default)]
struct Giving {
    job: Option<Arc<Job>>,
    /// Where writes are forbidden; stays when they have been given away.
    forbidden: Option<SlotRange>,
    failed: Option<SlotRange>,
    /// Whose those are that failed is not known: they are forbidden until a topology says it.
    is_open: bool,
    shown: Option<(NodeId, JobState)>,
}

/// Of slots that come.
#[derive(Debug, Default)]
struct Taking {
    range: Option<SlotRange>,
    state: Option<JobState>,
    /// The connection that brings them.
    link: u64,
    /// Some of what has come was deleted since, with all other keys of this node.
    is_flushed: bool,
}

/// How a migration ended; the error is a text for people.
pub type Ended = Result<(), String>;

/// A migration that gives slots away.
#[derive(Debug)]
pub struct Job {
    /// Its slots.
    pub range: SlotRange,
    /// The node that takes them.
    pub to: NodeId,
    course: Mutex<Course>,
    ended: watch::Sender<Option<Ended>>,
}

/// How a job goes.
#[derive(Debug, Default)]
enum Course {
    /// It goes on, and may be ended.
    #[default]
    Runs,
    /// It is to end, for this.
    Stopped(&'static str),
    /// The target is asked to take over: from here on its answer or a topology decides, and nothing
    /// that happens here.
    Asked {
        /// Slots of which a topology has said since whose they are.
        told: SlotSet,
        /// What a topology has decided: the slots are the target's, or not.
        are_theirs: Option<bool>,
    },
}

impl Job {
    fn new(range: SlotRange, to: NodeId) -> Arc<Self> {
        Arc::new(Self { range, to, course: Mutex::default(), ended: watch::Sender::new(None) })
    }

    /// Why it is to end, if it is.
    pub fn stopped(&self) -> Option<&'static str> {
        match *self.course.lock() {
            Course::Stopped(why) => Some(why),
            _ => None,
        }
    }

    fn stop(&self, why: &'static str) {
        let course = &mut *self.course.lock();
        if let Course::Runs = course {
            *course = Course::Stopped(why);
        }
    }

    /// The target is about to be asked to take over.
    ///
    /// # Errors
    /// Why it must not be asked.
    pub fn ask(&self) -> Result<(), &'static str> {
        let course = &mut *self.course.lock();
        match course {
            Course::Stopped(why) => return Err(*why),
            Course::Runs => *course = Course::Asked { told: SlotSet::default(), are_theirs: None },
            Course::Asked { .. } => {}
        }
        Ok(())
    }

    /// Whether the target was asked: it may have the slots.
    pub fn is_asked(&self) -> bool {
        matches!(*self.course.lock(), Course::Asked { .. })
    }

    /// Whether the slots are the target's, once a topology has said so.
    pub fn decided(&self) -> Option<bool> {
        match *self.course.lock() {
            Course::Asked { are_theirs, .. } => are_theirs,
            _ => None,
        }
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Ended {
        let mut ended = self.ended.subscribe();
        let seen = ended.wait_for(Option::is_some).await;
        let result = seen.ok().and_then(|ended| ended.clone());
        result.unwrap_or_else(|| Err("the migration ended without a result".into()))
    }
}

impl Migration {
    /// Begins to give slots away.
    ///
    /// # Errors
    /// [`Refused::Busy`], or [`Refused::Migrated`] where the last ones were given.
    pub fn begin(&self, range: SlotRange, to: NodeId) -> Result<Arc<Job>, Refused> {
        let giving = &mut self.kept.lock().giving;
        if giving.job.is_some() {
            return Err(Refused::Busy);
        }
        if giving.forbidden.is_some_and(|forbidden| overlap(forbidden, range)) {
            return Err(Refused::Migrated);
        }
        let job = Job::new(range, to);
        let (shown, job_kept) = (Some((to, JobState::Start)), Some(Arc::clone(&job)));
        *giving = Giving { job: job_kept, shown, ..Giving::default() };
        Ok(job)
    }

    /// Writes of the job's slots are stopped from now on.
    pub fn forbid(&self, range: SlotRange) {
        self.kept.lock().giving.forbidden = Some(range);
    }

    /// The job has ended. Does nothing for one that ended before. Where it `is_open` whose the
    /// slots are, nobody may write them until a topology says so.
    pub fn end(&self, job: &Arc<Job>, ended: Ended, is_open: bool) {
        let giving = &mut self.kept.lock().giving;
        if !giving.job.as_ref().is_some_and(|known| Arc::ptr_eq(known, job)) {
            return;
        }
        giving.job = None;
        match &ended {
            Ok(()) => giving.shown = Some((job.to, JobState::Success)),
            Err(_) => {
                giving.shown = Some((job.to, JobState::Failed));
                (giving.failed, giving.is_open) = (Some(job.range), is_open);
                if !is_open {
                    giving.forbidden = None;
                }
            }
        }
        job.ended.send_replace(Some(ended));
    }

    /// Slots whose writes are stopped until it is known whether they have gone.
    pub fn frozen(&self) -> Option<SlotRange> {
        let giving = &self.kept.lock().giving;
        giving.forbidden.filter(|_| giving.job.is_some())
    }

    /// All keys of these slots are deleted here, or of all slots. What is given away is not sent
    /// on: a deletion of all at once is not in what is sent. What comes is not whole any more.
    pub fn flushed(&self, slots: Option<SlotRange>) {
        let Kept { giving, taking } = &mut *self.kept.lock();
        let concerns = |range: SlotRange| slots.is_none_or(|slots| overlap(slots, range));
        if let Some(job) = giving.job.as_ref().filter(|job| concerns(job.range)) {
            job.stop("the slots were flushed meanwhile");
        }
        taking.is_flushed |= taking.range.is_some_and(concerns);
    }

    /// Whether slots are being given away.
    pub fn is_giving(&self) -> bool {
        self.kept.lock().giving.job.is_some()
    }

    /// Whether slots are coming.
    pub fn is_taking(&self) -> bool {
        self.kept.lock().taking.state == Some(JobState::Start)
    }

    /// What CLUSTER INFO and NODES show.
    pub fn jobs(&self) -> Jobs {
        let Kept { giving, taking } = &*self.kept.lock();
        let range = giving.job.as_ref().map(|job| job.range);
        let range = range.or(giving.forbidden).or(giving.failed);
        let migrating = giving.shown.filter(|_| range.is_some());
        Jobs {
            migrating: migrating.map(|(to, state)| Migrating { range, to, state }),
            importing: taking.state.map(|state| Importing { range: taking.range, state }),
        }
    }

    /// Slots begin to come over a connection. If they do already, they begin anew, over this one:
    /// the giver has given the other one up.
    ///
    /// # Errors
    /// [`Refused::Importing`].
    pub fn take(&self, range: SlotRange, link: u64) -> Result<(), Refused> {
        let Kept { giving, taking } = &mut *self.kept.lock();
        let is_running = taking.state == Some(JobState::Start);
        if let Some(known) = taking.range.filter(|known| is_running && *known != range) {
            return Err(Refused::Importing(known));
        }
        let state = Some(JobState::Start);
        *taking = Taking { range: Some(range), state, link, is_flushed: false };
        if giving.job.is_none() {
            giving.forbidden = giving.forbidden.filter(|forbidden| *forbidden != range);
        }
        Ok(())
    }

    /// Whether slots come over this connection.
    pub fn takes_from(&self, link: u64) -> bool {
        let taking = &self.kept.lock().taking;
        taking.state == Some(JobState::Start) && taking.link == link
    }

    /// The slots have come, or will not.
    ///
    /// # Errors
    /// [`Refused::Mismatch`], also where no import of them runs: what was deleted is not whole, and
    /// what is served is not deleted. [`Refused::Flushed`]: they are not whole, and still come.
    pub fn taken(&self, range: SlotRange, is_whole: bool) -> Result<(), Refused> {
        let taking = &mut self.kept.lock().taking;
        let known = taking.range.filter(|_| taking.state == Some(JobState::Start));
        if known != Some(range) {
            return Err(Refused::Mismatch { known, got: range });
        }
        if is_whole && taking.is_flushed {
            return Err(Refused::Flushed(range));
        }
        taking.state = Some(if is_whole { JobState::Success } else { JobState::Failed });
        Ok(())
    }

    /// A connection has ended. The slots that it was bringing: they will not come.
    pub fn link_ended(&self, link: u64) -> Option<SlotRange> {
        let taking = &mut self.kept.lock().taking;
        if taking.state != Some(JobState::Start) || taking.link != link {
            return None;
        }
        taking.state = Some(JobState::Failed);
        taking.range
    }

    /// A new topology comes into force, which tells of these slots whose they are, with the role
    /// that it gives. What runs keeps its marks if it still fits; what nobody knows is decided if
    /// all of it is told. To be called with the gate held alone.
    pub fn topology_changed(&self, cluster: &mut Cluster, told: &SlotSet, is_master: bool) {
        let Kept { giving, taking } = &mut *self.kept.lock();
        if cluster.version() < 0 {
            // Reset, which is refused while anything runs.
            (*giving, *taking) = (Giving::default(), Taking::default());
            return;
        }
        if let Some(job) = &giving.job {
            judge(job, cluster, (told, is_master));
        } else {
            let is_marked = |range: &SlotRange| {
                range.slots().any(|slot| cluster.marks().migrated.contains_key(&slot))
            };
            let is_told = |range: &SlotRange| range.slots().all(|slot| told.contains(slot));
            let is_open = giving.is_open;
            giving.forbidden =
                giving.forbidden.filter(|range| is_marked(range) || (is_open && !is_told(range)));
        }
        let importing = taking.range.filter(|_| taking.state == Some(JobState::Start));
        let forbidden = giving.forbidden;
        cluster.update_marks(|marks: &mut Marks| {
            (marks.write_forbidden, marks.importing) = (forbidden, importing);
        });
    }
}

fn judge(job: &Job, cluster: &Cluster, (told, is_master): (&SlotSet, bool)) {
    if let Course::Asked { told: known, are_theirs } = &mut *job.course.lock() {
        let is_theirs = |slot| cluster.owner(slot).is_some_and(|node| node.id == job.to);
        for slot in job.range.slots().filter(|slot| told.contains(*slot)) {
            known.insert(slot);
        }
        // What was said of other slots, or of some of these, says nothing of the rest: the target
        // may have it.
        if job.range.slots().all(|slot| known.contains(slot)) {
            *are_theirs = Some(job.range.slots().all(is_theirs));
        }
        return;
    }
    let target = cluster.topology().ok().and_then(|topology| topology.node(&job.to));
    if !is_master {
        job.stop("this node is no master any more");
    } else if !are_mine(cluster, job.range) {
        job.stop("by a new topology the slots are another node's");
    } else if !target.is_some_and(topology::Node::is_master) {
        job.stop("by a new topology the target is no master");
    }
}

#[cfg(test)]
mod tests {
    use topology::{SLOT_COUNT, Slot, parse_slots};

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn range(text: &str) -> SlotRange {
        parse_slots(text.as_bytes()).unwrap()[0]
    }

    fn b() -> NodeId {
        NodeId::new(B.as_bytes()).unwrap()
    }

    /// A is this node; it has the slots up to the last one.
    fn cluster(last: u16) -> Cluster {
        // A range of one slot is none.
        let mine = if last == 0 { "0".to_owned() } else { format!("0-{last}") };
        let text =
            format!("{A} 127.0.0.1 1 master - {mine}\n{B} 127.0.0.1 2 master - {}-16383", last + 1);
        let change = Cluster::default().prepare_set_node_id(A.as_bytes(), false).unwrap();
        let change = change.into_parts().0.prepare_set_nodes(text.as_bytes(), 1, false, &|_| false);
        change.unwrap().into_parts().0
    }

    /// What SETNODES tells of: every slot.
    fn every() -> SlotSet {
        (0..SLOT_COUNT).filter_map(Slot::new).collect()
    }

    fn slots(text: &str) -> SlotSet {
        range(text).slots().collect()
    }

    fn shown(migration: &Migration) -> Option<(String, JobState)> {
        let job = migration.jobs().migrating?;
        Some((job.range.map(|range| range.to_string()).unwrap_or_default(), job.state))
    }

    #[tokio::test]
    async fn one_job_runs_and_the_last_one_is_shown() {
        let migration = Migration::default();
        assert_eq!(shown(&migration), None);
        let job = migration.begin(range("1-3"), b()).unwrap();
        assert_eq!(migration.begin(range("9"), b()).unwrap_err(), Refused::Busy);
        assert_eq!(shown(&migration), Some(("1-3".into(), JobState::Start)));
        migration.forbid(job.range);
        migration.end(&job, Err("x".into()), false);
        assert_eq!(job.wait().await, Err("x".into()));
        assert_eq!(shown(&migration), Some(("1-3".into(), JobState::Failed)));
        // It may be tried again, and ends once.
        let again = migration.begin(range("1-3"), b()).unwrap();
        migration.end(&job, Err("late".into()), false);
        assert!(migration.is_giving());
        migration.forbid(again.range);
        migration.end(&again, Ok(()), false);
        assert_eq!(again.wait().await, Ok(()));
        assert_eq!(shown(&migration), Some(("1-3".into(), JobState::Success)));
        assert_eq!(migration.begin(range("3-5"), b()).unwrap_err(), Refused::Migrated);
        assert!(migration.begin(range("4-5"), b()).is_ok());
    }

    /// This process ends, or a thread did, after the target was asked.
    #[test]
    fn slots_that_the_target_may_have_stay_closed_until_a_topology_says_whose_they_are() {
        let migration = Migration::default();
        let job = migration.begin(range("1-3"), b()).unwrap();
        assert!(!job.is_asked());
        migration.forbid(job.range);
        job.ask().unwrap();
        assert!(job.is_asked());
        migration.end(&job, Err("this node ends".into()), true);
        let mut other = cluster(99);
        migration.topology_changed(&mut other, &SlotSet::default(), true);
        assert_eq!(other.marks().write_forbidden, Some(range("1-3")), "it says nothing of them");
        migration.topology_changed(&mut other, &every(), true);
        assert_eq!(other.marks().write_forbidden, None);
    }

    #[test]
    fn a_topology_releases_what_was_given_and_keeps_what_runs() {
        let migration = Migration::default();
        let job = migration.begin(range("1-3"), b()).unwrap();
        migration.forbid(job.range);
        let mut same = cluster(99);
        migration.topology_changed(&mut same, &every(), true);
        assert_eq!(job.stopped(), None);
        assert_eq!(same.marks().write_forbidden, Some(job.range), "it is still forbidden");
        migration.end(&job, Ok(()), false);
        let mut marked = cluster(99);
        marked.update_marks(|marks| {
            marks.migrated.insert(Slot::new(2).unwrap(), b());
        });
        migration.topology_changed(&mut marked, &every(), true);
        assert_eq!(marked.marks().write_forbidden, Some(range("1-3")), "one is not published yet");
        let mut next = cluster(0);
        migration.topology_changed(&mut next, &every(), true);
        assert_eq!((next.marks().write_forbidden, shown(&migration)), (None, None));
    }

    #[test]
    fn a_topology_that_does_not_fit_ends_a_job() {
        for (mut cluster, is_master, why) in
            [(cluster(99), false, "no master"), (cluster(2), true, "another node's")]
        {
            let migration = Migration::default();
            let job = migration.begin(range("1-3"), b()).unwrap();
            migration.topology_changed(&mut cluster, &every(), is_master);
            assert!(job.stopped().is_some_and(|said| said.contains(why)), "{why}");
        }
    }

    #[test]
    fn what_nobody_knows_is_decided_by_a_topology() {
        for (last, decided) in [(0, true), (99, false), (2, false)] {
            let migration = Migration::default();
            let job = migration.begin(range("1-3"), b()).unwrap();
            job.ask().unwrap();
            migration.topology_changed(&mut cluster(last), &every(), true);
            assert_eq!((job.decided(), job.stopped()), (Some(decided), None), "{last}");
        }
    }

    /// SETSLOT of other slots, or of a part, leaves open who serves the rest.
    #[test]
    fn what_nobody_knows_is_decided_once_all_of_it_is_told() {
        let first = [((1, "2-3"), (0, "1"), true), ((1, "2-3"), (1, "1"), false)];
        let kept = ((99, "1"), (99, "2-3"), false);
        for (one, other, decided) in first.into_iter().chain([kept]) {
            let migration = Migration::default();
            let job = migration.begin(range("1-3"), b()).unwrap();
            migration.forbid(job.range);
            job.ask().unwrap();
            let mut now = cluster(99);
            migration.topology_changed(&mut now, &slots("50-99"), true);
            migration.topology_changed(&mut now, &SlotSet::default(), true);
            assert_eq!(job.decided(), None, "nothing was said of them");
            now = cluster(one.0);
            migration.topology_changed(&mut now, &slots(one.1), true);
            assert_eq!((job.decided(), job.stopped()), (None, None), "{one:?}");
            assert_eq!(now.marks().write_forbidden, Some(job.range), "{one:?}");
            migration.topology_changed(&mut cluster(other.0), &slots(other.1), true);
            assert_eq!(job.decided(), Some(decided), "{one:?}, {other:?}");
        }
    }

    #[test]
    fn a_job_that_is_to_end_asks_nothing_and_one_that_has_asked_is_not_ended() {
        let migration = Migration::default();
        let job = migration.begin(range("1-3"), b()).unwrap();
        migration.flushed(Some(range("4-5")));
        assert_eq!(job.stopped(), None, "other slots");
        migration.flushed(Some(range("3-5")));
        assert!(job.stopped().is_some());
        assert_eq!(job.ask().err(), job.stopped());
        migration.end(&job, Err("x".into()), false);
        let job = migration.begin(range("1-3"), b()).unwrap();
        assert_eq!(migration.frozen(), None);
        migration.forbid(job.range);
        assert_eq!(migration.frozen(), Some(job.range));
        job.ask().unwrap();
        migration.flushed(None);
        assert_eq!(job.stopped(), None);
        migration.end(&job, Ok(()), false);
        assert_eq!(migration.frozen(), None, "they have gone");
    }

    #[test]
    fn slots_that_were_flushed_while_they_came_have_not_come() {
        let migration = Migration::default();
        migration.take(range("7"), 1).unwrap();
        migration.flushed(None);
        assert_eq!(migration.taken(range("7"), true), Err(Refused::Flushed(range("7"))));
        assert_eq!(migration.taken(range("7"), false), Ok(()), "and what is there of them goes");
        migration.take(range("7"), 2).unwrap();
        assert_eq!(migration.taken(range("7"), true), Ok(()), "they came anew");
    }

    #[test]
    fn slots_come_over_one_connection_at_a_time() {
        let migration = Migration::default();
        assert_eq!(
            migration.taken(range("7"), true).unwrap_err().to_string(),
            "mismatch slot, importing slot(s): -1, but got: 7"
        );
        assert_eq!(migration.take(range("7"), 1), Ok(()));
        assert!(migration.takes_from(1));
        assert_eq!(migration.take(range("8"), 2), Err(Refused::Importing(range("7"))));
        assert_eq!(migration.take(range("7"), 2), Ok(()));
        assert!(migration.takes_from(2) && !migration.takes_from(1));
        assert_eq!(migration.link_ended(1), None, "another one brings them now");
        assert_eq!(migration.link_ended(2), Some(range("7")));
        assert_eq!(migration.link_ended(2), None);
        assert_eq!(migration.jobs().importing.unwrap().state, JobState::Failed);
        assert!(migration.taken(range("7"), true).is_err(), "what was deleted is not whole");
        assert_eq!(migration.take(range("8"), 3), Ok(()));
        assert!(migration.taken(range("7"), true).is_err());
        assert_eq!(migration.taken(range("8"), true), Ok(()));
        assert!(migration.taken(range("8"), false).is_err(), "what is served is not deleted");
        assert_eq!(migration.link_ended(3), None);
        assert_eq!(migration.jobs().importing.unwrap().state, JobState::Success);
    }

    #[test]
    fn an_import_of_what_was_given_releases_it() {
        let migration = Migration::default();
        let job = migration.begin(range("1-3"), b()).unwrap();
        migration.forbid(job.range);
        migration.end(&job, Ok(()), false);
        migration.take(range("1-3"), 1).unwrap();
        assert_eq!(shown(&migration), None);
    }
}
