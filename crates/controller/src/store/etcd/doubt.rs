//! The key `doubt`: what one that stands by asks the leader where it hears it no more, and what the
//! leader says to that ([`planner::Doubts`]).
//!
//! It decides nothing: it is no record, no claim, and nobody keeps it. A question is put against
//! the leader and the question that were read, an answer against the claim of the one that answers,
//! so of two that write at once one is told so, and one that leads no more answers nothing.

use serde::{Deserialize, Serialize};

use super::wire::Compare;
use crate::store::fresh_tag;

/// Behind the prefix.
pub(super) const KEY: &str = "doubt";

/// The key `doubt`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Doubt {
    /// Of the leader that is asked.
    claim: String,
    /// Random, of this question; empty: there is none.
    question: String,
    /// The answer: how many nodes it reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reaches: Option<usize>,
    /// As the key has it; `None`: there is no such key.
    #[serde(skip)]
    text: Option<String>,
}

impl Doubt {
    /// As it was read. What cannot be read is no question, and gives way to the next one.
    pub(super) fn read(value: Option<&str>) -> Self {
        let read = value.and_then(|text| serde_json::from_str::<Self>(text).ok());
        Self { text: value.map(str::to_owned), ..read.unwrap_or_default() }
    }

    /// A question to that leader.
    pub(super) fn to(claim: &str) -> Self {
        let question = format!("{:016x}", fresh_tag());
        Self { claim: claim.to_owned(), question, ..Self::default() }
    }

    /// The same with its answer.
    pub(super) fn answered(&self, reaches: usize) -> Self {
        Self { reaches: Some(reaches), ..self.clone() }
    }

    /// That the key is as it was read.
    pub(super) fn as_read(&self, key: String) -> Compare {
        match &self.text {
            Some(text) => Compare::Is(key, text.clone()),
            None => Compare::Absent(key),
        }
    }

    /// Which question it is.
    pub(super) fn question(&self) -> &str {
        &self.question
    }

    /// Whether that leader is asked, and has not answered.
    pub(super) fn is_to(&self, claim: &str) -> bool {
        self.claim == claim && !self.question.is_empty() && self.reaches.is_none()
    }

    /// For a decision.
    pub fn asked(&self) -> planner::Asked<'_> {
        planner::Asked { claim: &self.claim, question: &self.question, reaches: self.reaches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_compared_as_it_was_read_whatever_it_says() {
        let key = || "k".to_owned();
        let none = Doubt::read(None);
        assert!(matches!(none.as_read(key()), Compare::Absent(of) if of == "k"));
        // A later version may say more, or something else.
        let more = r#"{"claim":"a","question":"q","reaches":3,"more":1}"#;
        let broken = r#"{"claim":"a","question":"q","reaches":-1}"#;
        for text in [more, "no sense", r#"{"claim":"a"}"#, broken] {
            let read = Doubt::read(Some(text));
            assert!(read.as_read(key()).wants("k", text), "{text}");
            assert!(!read.is_to("a"), "{text}");
            let reaches = Some(3).filter(|_| text == more);
            assert_eq!(read.asked().reaches, reaches, "{text}");
        }
    }

    #[test]
    fn a_question_is_to_one_leader_until_it_is_answered() {
        let written = |doubt: &Doubt| {
            let text = serde_json::to_string(doubt).expect("a text");
            Doubt::read(Some(&text))
        };
        let asked = written(&Doubt::to("a"));
        assert!(asked.is_to("a") && !asked.is_to("b"));
        assert_eq!(asked.question().len(), 16);
        assert_ne!(asked.question(), Doubt::to("a").question());
        let answered = written(&asked.answered(0));
        assert!(!answered.is_to("a"));
        let expected = planner::Asked { claim: "a", question: asked.question(), reaches: Some(0) };
        assert_eq!(answered.asked(), expected);
    }
}
