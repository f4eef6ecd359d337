//! What the comments of the types say of them and of their fields: each is said once, there.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Comments, by `Type` and `Type.field`.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<String, String>);

impl Said {
    /// Reads the files that the types of the interface are in.
    pub(super) fn of_types() -> Self {
        let mut said = Self::default();
        for text in [
            include_str!("../rest.rs"),
            include_str!("../rest/access.rs"),
            include_str!("../rest/answer.rs"),
            include_str!("../rest/certificates.rs"),
            include_str!("../rest/moves.rs"),
            include_str!("../rest/node.rs"),
            include_str!("../rest/operator.rs"),
            include_str!("../rest/overview.rs"),
            include_str!("../rest/store.rs"),
            include_str!("../certificate.rs"),
            include_str!("../grant.rs"),
            include_str!("../health.rs"),
        ] {
            said.read(text);
        }
        said
    }

    fn read(&mut self, text: &str) {
        let (mut comment, mut renamed, mut of) = (Vec::new(), None, String::new());
        let mut is_in_attribute = false;
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix("///") {
                comment.push(words.trim());
            } else if is_in_attribute || line.starts_with("#[") {
                is_in_attribute = !line.ends_with(']');
                let name =
                    line.split_once("rename = \"").and_then(|(_, rest)| rest.split_once('"'));
                renamed = name.map(|(name, _)| name.to_owned()).or(renamed);
            } else {
                let words = comment.join(" ").replace("[`", "`").replace("`]", "`");
                if let Some(name) = of_type(line) {
                    of = name.to_owned();
                    self.0.insert(of.clone(), words);
                } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(field) {
                    let name = renamed.as_deref().unwrap_or(name);
                    self.0.insert(format!("{of}.{name}"), words);
                }
                comment.clear();
                renamed = None;
            }
        }
    }

    /// The schema with the words of its type and fields, where there are any. The type of another
    /// place with this name has its own.
    pub(super) fn describe(&self, name: &str, mut schema: Value) -> Value {
        let words = |of: &str| self.0.get(of).filter(|words| !words.is_empty());
        if let Some(words) = words(name) {
            schema["description"] = json!(words);
        }
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for (field, property) in properties {
                let flat = ["Announced"].iter().map(|inner| format!("{inner}.{field}"));
                let places = std::iter::once(format!("{name}.{field}")).chain(flat);
                if let Some(words) = places.filter_map(|place| words(&place)).next() {
                    property["description"] = json!(words);
                }
            }
        }
        schema
    }
}

/// The type that a line begins.
fn of_type(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "))?;
    rest.split(|c: char| !c.is_alphanumeric()).next()
}

/// The field that a line has.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, of) = line.split_once(": ")?;
    name.chars()
        .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        .then_some((name, of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_type_and_the_field() {
        let said = Said::of_types();
        assert_eq!(said.0["MoveAnswer.move"], "It, unless it is over.");
        assert_eq!(said.0["ShardStatus.id"], "Its lasting id, as in `Shard`.");
        assert_eq!(said.0["CommitMode"], "When a reply may leave (`commit-mode`).");
    }
}
