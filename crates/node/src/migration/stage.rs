//! What a migration does next: how long it replays the log before writes are stopped, and what is
//! so when nobody knows whether the target has taken over.

use topology::SlotRange;

/// Rounds of replay before writes are stopped, however much is left.
const ROUNDS: u32 = 10;

/// The replay of the log.
#[derive(Debug, Default)]
pub struct Replay {
    rounds: u32,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The log up to here.
    Through(u64),
    /// Writes of the slots are stopped, and the rest is replayed.
    Freeze,
}

impl Replay {
    /// Up to `done` the target has all, the log has `latest`.
    pub fn next(&mut self, done: u64, latest: u64, gap: u64) -> Next {
        if self.rounds >= ROUNDS || latest.saturating_sub(done) <= gap {
            return Next::Freeze;
        }
        self.rounds += 1;
        Next::Through(latest)
    }
}

/// Whose the slots are, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The target serves them.
    Theirs,
    /// The target does not, and will not.
    Ours(String),
    /// The target has been told to serve them, and its answer was lost. Neither side may write: it
    /// is to be asked, and a new topology decides.
    Unknown,
}

/// What the answer to `import <range> 1` says. An error is an answer: nothing was taken over.
pub fn answered(answer: Result<Result<(), String>, String>) -> Verdict {
    match answer {
        Ok(Ok(())) => Verdict::Theirs,
        Ok(Err(refused)) => Verdict::Ours(format!("the target refuses to take over: {refused}")),
        Err(_) => Verdict::Unknown,
    }
}

/// What CLUSTER INFO of the target says of it afterwards.
pub fn told(info: &str, range: SlotRange) -> Verdict {
    let value = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim_start_matches(':').trim())
    };
    // Without `(s)` up to Kvrocks 2.9.
    let importing = value("importing_slot(s)").or_else(|| value("importing_slot"));
    let is_this = importing == Some(range.to_string().as_str());
    match value("import_state") {
        Some("success") if is_this => Verdict::Theirs,
        Some("error") if is_this => Verdict::Ours("the target has not taken over".into()),
        // The end of the connection has not reached it yet; or it shows another import, as it shows
        // its newest alone; or none, as after a restart. It may have had these before, and have
        // acknowledged writes.
        _ => Verdict::Unknown,
    }
}

/// What a new topology says of slots that nobody knows of: all given to the target, or not.
pub fn decided(are_theirs: bool) -> Verdict {
    match are_theirs {
        true => Verdict::Theirs,
        false => Verdict::Ours("the topology leaves the slots here".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_stopped_when_little_is_left_or_after_ten_rounds() {
        let mut replay = Replay::default();
        assert_eq!(replay.next(100, 130, 10), Next::Through(130));
        assert_eq!(replay.next(130, 140, 10), Next::Freeze);
        let mut replay = Replay::default();
        for round in 0..10 {
            assert_eq!(replay.next(round * 50, round * 50 + 50, 1), Next::Through(round * 50 + 50));
        }
        assert_eq!(replay.next(500, 9_000, 1), Next::Freeze);
        // Another sequence than was expected is no reason to panic.
        assert_eq!(Replay::default().next(10, 5, 1), Next::Freeze);
    }

    #[test]
    fn an_answer_that_was_lost_decides_nothing() {
        let range = topology::parse_slots(b"7-9").unwrap()[0];
        let info = |state: &str, slots: &str| {
            told(
                &format!(
                    "cluster_state:ok\r\nimporting_slot(s): {slots}\r\nimport_state: {state}\r\n"
                ),
                range,
            )
        };
        assert_eq!(answered(Ok(Ok(()))), Verdict::Theirs);
        assert!(
            matches!(answered(Ok(Err("ERR x".into()))), Verdict::Ours(why) if why.ends_with("ERR x"))
        );
        assert_eq!(answered(Err("time-out".into())), Verdict::Unknown);
        assert_eq!(info("success", "7-9"), Verdict::Theirs);
        assert_eq!(info("start", "7-9"), Verdict::Unknown);
        assert!(matches!(info("error", "7-9"), Verdict::Ours(_)));
        assert_eq!(info("success", "7"), Verdict::Unknown, "another import came after it");
        let forgotten = told("cluster_state:ok\r\n", range);
        assert_eq!(forgotten, Verdict::Unknown, "it may have had them before it restarted");
        let older = told("importing_slot: 7-9\r\nimport_state: success\r\n", range);
        assert_eq!(older, Verdict::Theirs);
        assert_eq!(decided(true), Verdict::Theirs);
        assert!(matches!(decided(false), Verdict::Ours(_)));
    }
}
