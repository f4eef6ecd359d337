//! `WAIT`: how many replicas have what the master had when it was asked. `WAITAOF`: on whose disks
//! it is.

use crate::number;

/// A `WAIT` being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Replicas wanted.
    pub replicas: usize,
    /// Sequence they must have acknowledged: the master's newest at call time.
    pub sequence: u64,
    /// When to answer with what there is; `None` waits for ever.
    pub deadline: Option<u64>,
}

/// A `WAIT` that is refused. The text is what follows `-ERR `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The first argument.
    #[error("numreplicas should be a positive integer")]
    Replicas,
    /// The second argument is no number.
    #[error("timeout is not an integer or out of range")]
    Timeout,
    /// The second argument is below zero.
    #[error("timeout is negative")]
    NegativeTimeout,
    /// The second argument ends behind what Redis can count.
    #[error("timeout is out of range")]
    LateTimeout,
    /// Only a master knows.
    #[error("WAIT command can only be executed on master")]
    NotMaster,
    /// The first argument of WAITAOF.
    #[error("value is out of range, value must between 0 and 1")]
    LocalRange,
    /// The second argument of WAITAOF is below zero.
    #[error("value is out of range, must be positive")]
    ReplicasRange,
    /// One of the first two arguments of WAITAOF is no number.
    #[error("value is not an integer or out of range")]
    NotInteger,
    /// Only a master knows.
    #[error(
        "WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated."
    )]
    DisksOfReplica,
}

/// A decimal number as commands take it: without leading zeros.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_padded = text.len() > 1 && text.starts_with(b"0");
    if is_padded { None } else { number::decimal(text) }
}

impl Wait {
    /// Reads `<numreplicas> <timeout ms>`; a timeout of 0 waits for ever. Zero replicas are
    /// answered at once.
    pub fn parse(
        replicas: &[u8],
        timeout: &[u8],
        sequence: u64,
        now: u64,
    ) -> Result<Self, Refusal> {
        let replicas =
            decimal(replicas).and_then(|n| usize::try_from(n).ok()).ok_or(Refusal::Replicas)?;
        let deadline = deadline(timeout, now)?;
        Ok(Self { replicas, sequence, deadline })
    }

    /// The answer, if it is time for one. `acked` are the sequences acknowledged by the replicas
    /// connected now.
    pub fn poll(&self, acked: impl IntoIterator<Item = u64>, now: u64) -> Option<usize> {
        let count = acked.into_iter().filter(|a| *a >= self.sequence).count();
        let is_over = self.deadline.is_some_and(|at| at <= now);
        (count >= self.replicas || is_over).then_some(count)
    }
}

/// Unix ms until which is waited for that many ms from `now`; 0 waits for ever.
fn deadline(timeout: &[u8], now: u64) -> Result<Option<u64>, Refusal> {
    if is_negative(timeout) {
        return Err(Refusal::NegativeTimeout);
    }
    let timeout = decimal(timeout).filter(|t| i64::try_from(*t).is_ok());
    let timeout = timeout.ok_or(Refusal::Timeout)?;
    let end = now.saturating_add(timeout);
    i64::try_from(end).map_err(|_| Refusal::LateTimeout)?;
    Ok((timeout > 0).then_some(end))
}

fn is_negative(text: &[u8]) -> bool {
    text.strip_prefix(b"-").and_then(decimal).is_some_and(|n| n > 0)
}

/// On whose disks something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disks {
    /// The master's.
    pub is_local: bool,
    /// So many replicas'.
    pub replicas: usize,
}

/// A `WAITAOF` being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskWait {
    /// Whose disks are wanted.
    pub wanted: Disks,
    /// What they must have: the master's newest sequence at call time.
    pub sequence: u64,
    /// When to answer with what there is; `None` waits for ever.
    pub deadline: Option<u64>,
}

impl DiskWait {
    /// Reads `<numlocal> <numreplicas> <timeout ms>`, for a sequence that is said later; a timeout
    /// of 0 waits for ever.
    ///
    /// # Errors
    /// An argument makes no sense, in Redis' words.
    pub fn parse(local: &[u8], replicas: &[u8], timeout: &[u8], now: u64) -> Result<Self, Refusal> {
        let is_local = match decimal(local) {
            Some(0) => false,
            Some(1) => true,
            Some(_) => return Err(Refusal::LocalRange),
            None if is_negative(local) => return Err(Refusal::LocalRange),
            None => return Err(Refusal::NotInteger),
        };
        if is_negative(replicas) {
            return Err(Refusal::ReplicasRange);
        }
        let replicas = decimal(replicas).filter(|n| i64::try_from(*n).is_ok());
        let replicas = replicas.and_then(|n| usize::try_from(n).ok()).ok_or(Refusal::NotInteger)?;
        let deadline = deadline(timeout, now)?;
        Ok(Self { wanted: Disks { is_local, replicas }, sequence: 0, deadline })
    }

    /// On whose disks it is. `synced` is what the master's has, `acked` what replicas connected now
    /// have acknowledged as being on theirs.
    pub fn reached(&self, synced: u64, acked: impl IntoIterator<Item = u64>) -> Disks {
        let replicas = acked.into_iter().filter(|a| *a >= self.sequence).count();
        Disks { is_local: synced >= self.sequence, replicas }
    }

    /// The answer, if it is time for one.
    pub fn poll(&self, reached: Disks, now: u64) -> Option<Disks> {
        let is_over = self.deadline.is_some_and(|at| at <= now);
        let is_enough =
            (reached.is_local || !self.wanted.is_local) && reached.replicas >= self.wanted.replicas;
        (is_enough || is_over).then_some(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_those_that_have_it() {
        let wait = Wait::parse(b"2", b"100", 50, 1000).unwrap();
        assert_eq!(wait.poll([50, 49], 1000), None);
        assert_eq!(wait.poll([50, 51, 49], 1000), Some(2));
        assert_eq!(wait.poll([50, 49], 1100), Some(1));
        assert_eq!(Wait::parse(b"0", b"0", 50, 0).unwrap().poll([], 0), Some(0));
        assert_eq!(Wait::parse(b"1", b"0", 50, 0).unwrap().poll([], u64::MAX), None);
    }

    #[test]
    fn refuses_what_is_no_number() {
        let text = |a: &[u8], b: &[u8]| Wait::parse(a, b, 0, 0).unwrap_err().to_string();
        assert_eq!(text(b"-1", b"0"), "numreplicas should be a positive integer");
        assert_eq!(text(b"01", b"0"), "numreplicas should be a positive integer");
        assert_eq!(text(b"0", b"01"), "timeout is not an integer or out of range");
        assert_eq!(text(b"1", b"x"), "timeout is not an integer or out of range");
        assert_eq!(text(b"1", b"-5"), "timeout is negative");
        let late = Wait::parse(b"1", b"9223372036854775807", 0, 1).unwrap_err();
        assert_eq!(late.to_string(), "timeout is out of range");
    }

    #[test]
    fn disks_are_the_masters_and_those_of_replicas_that_say_so() {
        let wait = DiskWait::parse(b"1", b"2", b"100", 1000).unwrap();
        let wait = DiskWait { sequence: 50, ..wait };
        let polled = |synced, acked: &[u64], now| {
            let reached = wait.reached(synced, acked.iter().copied());
            wait.poll(reached, now).map(|disks| (disks.is_local, disks.replicas))
        };
        assert_eq!(polled(49, &[50, 51, 52], 1000), None);
        assert_eq!(polled(50, &[50, 49], 1000), None);
        assert_eq!(polled(50, &[50, 51], 1000), Some((true, 2)));
        assert_eq!(polled(49, &[50, 49], 1100), Some((false, 1)));
        // What is so is told, wanted or not.
        let nothing = DiskWait::parse(b"0", b"0", b"0", 0).unwrap();
        let nothing = DiskWait { sequence: 9, ..nothing };
        let reached = nothing.reached(9, [9]);
        assert_eq!(nothing.poll(reached, 0), Some(Disks { is_local: true, replicas: 1 }));
    }

    #[test]
    fn numbers_of_disks_are_checked_in_the_words_of_redis() {
        let text =
            |a: &[u8], b: &[u8], c: &[u8]| DiskWait::parse(a, b, c, 0).unwrap_err().to_string();
        let range = "value is out of range, value must between 0 and 1";
        assert_eq!([text(b"2", b"0", b"0"), text(b"-1", b"0", b"0")], [range; 2]);
        let integer = "value is not an integer or out of range";
        assert_eq!([text(b"x", b"0", b"0"), text(b"1", b"x", b"0")], [integer; 2]);
        assert_eq!(text(b"1", b"-1", b"0"), "value is out of range, must be positive");
        assert_eq!(text(b"1", b"0", b"x"), "timeout is not an integer or out of range");
        assert_eq!(text(b"1", b"0", b"-1"), "timeout is negative");
    }
}
