//! The key `store`: format, name and generation, and the mark of a store that is not to be led
//! from.

use api::store::StoreId;
use serde::{Deserialize, Serialize};

use crate::store::whole::{GivenUp, Identity};
use crate::store::{FORMAT, StoreError, failed};

/// The key `store`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    pub(super) format: u64,
    /// The random name; earlier versions know it by this word.
    #[serde(rename = "generation")]
    pub(super) name: String,
    /// The generation. Earlier versions say none, and read none.
    #[serde(default = "first")]
    pub(super) number: u64,
    /// Where the content came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<String>,
    /// The stores whose place it takes. Earlier versions read none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) instead_of: Vec<StoreId>,
    /// It was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) given_up: Option<GivenUp>,
    /// An import has begun: random, of that attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) filling: Option<String>,
    /// What is imported then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) filling_of: Option<Identity>,
    /// Of a store that is not to be led from: the highest term, since `leader` says none.
    #[serde(default)]
    pub(super) term: u64,
}

fn first() -> u64 {
    1
}

impl Name {
    /// Of a store that may be led from.
    pub(super) fn of(identity: Identity, origin: Option<String>) -> Self {
        Self {
            format: FORMAT,
            name: identity.name,
            number: identity.generation,
            origin,
            instead_of: Vec::new(),
            given_up: None,
            filling: None,
            filling_of: None,
            term: 0,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        serde_json::from_str(text).map_err(failed("read the store's name"))
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { name: self.name.clone(), generation: self.number }
    }

    /// Whether it may be led from, at `place`.
    ///
    /// # Errors
    /// It was given up, an import has not ended, or its format is a later one.
    pub(super) fn check(&self, place: &str) -> Result<(), StoreError> {
        if let Some(mark) = &self.given_up {
            return Err(StoreError::GivenUp { what: place.to_owned(), mark: mark.clone() });
        }
        if self.filling.is_some() {
            return Err(StoreError::Unusable(format!(
                "an import into {place} has begun and not ended: make it once more"
            )));
        }
        if self.format > FORMAT {
            return Err(StoreError::Unusable(format!(
                "{place} has format {}, this version reads formats up to {FORMAT}; start the version that wrote it, or a later one",
                self.format
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape that earlier versions know.
    #[derive(Debug, Deserialize)]
    struct Before {
        format: u64,
        generation: String,
    }

    #[test]
    fn an_older_version_reads_a_name_and_does_not_touch_what_is_closed() {
        let identity = Identity { name: "ab".to_owned(), generation: 4 };
        let instead_of = vec![StoreId { name: 0xcd, generation: 2 }];
        let name = Name { instead_of, ..Name::of(identity.clone(), Some("a file".to_owned())) };
        let text = serde_json::to_string(&name).expect("a text");
        let before: Before = serde_json::from_str(&text).expect("a name of before");
        assert_eq!((before.format, &*before.generation), (FORMAT, "ab"));
        assert_eq!(Name::parse(&text).expect("a name"), name);
        assert_eq!(name.identity(), identity);

        let old = Name::parse(r#"{"format":1,"generation":"cd"}"#).expect("a name of before");
        assert_eq!(old.identity(), Identity { name: "cd".to_owned(), generation: 1 });
        old.check("/x/").expect("one to lead from");

        let mark = GivenUp { to: "a file".to_owned(), generation: 5, term: 9, at_ms: 1 };
        let closed = Name {
            format: crate::store::whole::CLOSED,
            given_up: Some(mark.clone()),
            ..name.clone()
        };
        let text = serde_json::to_string(&closed).expect("a text");
        let before: Before = serde_json::from_str(&text).expect("a name of before");
        assert!(before.format > FORMAT);
        let read = Name::parse(&text).expect("a name");
        assert!(
            matches!(read.check("/x/"), Err(StoreError::GivenUp { mark: of, .. }) if of == mark)
        );
        let filling = Name { filling: Some("1".to_owned()), ..name };
        assert!(matches!(filling.check("/x/"), Err(StoreError::Unusable(_))));
    }
}
