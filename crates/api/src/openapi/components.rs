//! Schemas by name, and how one stands for another.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Schemas by the names of their types.
pub(super) type Components = BTreeMap<String, Value>;

/// What stands where the schema of this name is meant.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}
