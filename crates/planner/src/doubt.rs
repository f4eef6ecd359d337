//! What a standby does where it hears the leader no more (rule O1): it asks in the store.
//!
//! Two controllers that a cut parts both reach the store, and each takes the other to be gone: they
//! would claim in turn, and each replace the masters of the other. So before a standby claims by a
//! silence it puts a question into the store, and the leader answers there how many nodes it
//! reaches. The one that reaches more has the lead, and the present leader where neither does.
//!
//! Invariant: no answer is dated by a clock of another machine, or by when it came: the store may
//! be slow, and an answer be under way for long. A leader answers a question that it has read, so
//! it lived after that was put, and that was after the last look that did not show it was sent.
//! All that is measured is how long ago this process sent that look.
//!
//! A question changes nothing but what is known. One that is not answered in time is no answer,
//! whatever the reason: a leader that hangs is replaced as soon as if nobody had asked.

use crate::authority::{Proof, Standby, Word, proof, proven};
use crate::{Policy, Time};

/// How long a leader has to answer at the least, ms, where what speaks against it is found all at
/// once: it looks for questions every 60 ms.
const ANSWER_MS: u64 = 100;

/// The question in the store, as a look shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked<'a> {
    /// Claim of the leader that is asked.
    pub claim: &'a str,
    /// Random, and new with each question; empty: there is none.
    pub question: &'a str,
    /// The answer: how many nodes that leader reaches.
    pub reaches: Option<usize>,
}

/// What a standby does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// It asks the leader in the store.
    Ask,
    /// It claims the lead.
    Claim(Proof),
}

/// What a standby knows of questions to the leader, its own and those of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doubts {
    /// Claim of the leader.
    claim: String,
    /// What the store has shown last.
    question: String,
    /// That was put later: when the last look was sent that did not show it; `None`: each did.
    after: Option<Time>,
    /// When the newest look was sent.
    looked_at: Option<Time>,
    /// The question is to this leader, and it has not answered.
    is_open: bool,
    /// What this leader has said last.
    word: Option<Word>,
    /// Since when this process doubts that it lives.
    since: Option<Time>,
    /// When it asked last.
    asked_at: Option<Time>,
}

impl Doubts {
    /// A look that was sent at `sent` has shown that this claim has the lead, empty if none has,
    /// and this question. True if it has the first answer of that leader.
    pub fn looked(&mut self, sent: Time, claim: &str, asked: Asked<'_>) -> bool {
        if self.claim != claim {
            claim.clone_into(&mut self.claim);
            (self.word, self.since, self.asked_at) = (None, None, None);
        }
        if self.question != asked.question {
            asked.question.clone_into(&mut self.question);
            self.after = self.looked_at;
        }
        self.looked_at = Some(sent);
        let is_of_it = asked.claim == claim;
        self.is_open = is_of_it && asked.reaches.is_none();
        let said = self.after.zip(asked.reaches).filter(|_| is_of_it);
        let is_first = said.is_some() && self.word.is_none();
        if let Some((at, reaches)) = said {
            self.word = Some(Word { at, reaches });
        }
        is_first
    }

    /// What is to be done by what is known. Of a lead that is vacant nobody need be asked, and a
    /// process that is gone answers nothing.
    pub fn step(&mut self, of: Standby, policy: &Policy, now: Time) -> Step {
        let of = Standby { word: self.word, ..of };
        let early = policy.silence_ms() / 2;
        let is_lately = |at: Time| now < at.plus_millis(early);
        let soon = proven(&of, policy, now, now.plus_millis(early));
        self.since = match soon {
            None | Some(Proof::Vacant) => None,
            Some(_) => self.since.or(Some(now)),
        };
        let has_waited = self.since.is_some_and(|at| now >= at.plus_millis(ANSWER_MS));
        match proof(&of, policy, now) {
            Some(proof @ (Proof::Vacant | Proof::Refused)) => return Step::Claim(proof),
            Some(proof) if has_waited => return Step::Claim(proof),
            _ => {}
        }
        let is_asked = self.asked_at.is_some_and(is_lately)
            || (self.is_open && self.after.is_some_and(is_lately));
        if self.since.is_none() || is_asked {
            return Step::Wait;
        }
        self.asked_at = Some(now);
        Step::Ask
    }
}

#[cfg(test)]
mod tests;
