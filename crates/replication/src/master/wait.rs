//! `WAIT`: how many replicas have what the master had when it was asked.

use crate::wire;

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
    /// Only a master knows.
    #[error("WAIT command can only be executed on master")]
    NotMaster,
}

/// A decimal number as commands take it: without leading zeros.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_padded = text.len() > 1 && text.starts_with(b"0");
    if is_padded { None } else { wire::decimal(text) }
}

impl Wait {
    /// Reads `<numreplicas> <timeout ms>`; a timeout of 0 waits for ever. Zero replicas are answered at once.
    pub fn parse(
        replicas: &[u8],
        timeout: &[u8],
        sequence: u64,
        now: u64,
    ) -> Result<Self, Refusal> {
        let replicas =
            decimal(replicas).and_then(|n| usize::try_from(n).ok()).ok_or(Refusal::Replicas)?;
        if timeout.strip_prefix(b"-").and_then(decimal).is_some_and(|n| n > 0) {
            return Err(Refusal::NegativeTimeout);
        }
        let timeout = decimal(timeout).filter(|t| i64::try_from(*t).is_ok());
        let timeout = timeout.ok_or(Refusal::Timeout)?;
        let deadline = (timeout > 0).then(|| now.saturating_add(timeout));
        Ok(Self { replicas, sequence, deadline })
    }

    /// The answer, if it is time for one. `acked` are the sequences acknowledged by the replicas connected now.
    pub fn poll(&self, acked: impl IntoIterator<Item = u64>, now: u64) -> Option<usize> {
        let count = acked.into_iter().filter(|a| *a >= self.sequence).count();
        let is_over = self.deadline.is_some_and(|at| at <= now);
        (count >= self.replicas || is_over).then_some(count)
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
    }
}
