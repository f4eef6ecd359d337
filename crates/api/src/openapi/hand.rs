//! Schemas of the few types that do not say what they are made of: those that are read as one of
//! several forms, or whose fields stand among another one's.

use serde_json::{Value, json};

use super::components::{Components, reference};
use crate::health::Health;

/// A type that is described by hand.
pub(super) struct Made {
    pub(super) name: &'static str,
    pub(super) schema: Value,
    /// What its schema refers to.
    pub(super) more: Components,
    /// One value of it, with everything it may have.
    pub(super) sample: Value,
}

/// By the path of a type.
pub(super) fn made(path: &str) -> Option<Made> {
    let name = path.strip_prefix("api::")?.rsplit("::").next()?;
    let more = Components::new();
    Some(match name {
        "NodeSpec" => {
            let fields = made("api::rest::NodeFields")?;
            Made {
                name: "NodeSpec",
                schema: json!({ "anyOf": [{ "type": "string" }, reference("NodeFields")] }),
                more: Components::from([("NodeFields".to_owned(), fields.schema)]),
                sample: fields.sample,
            }
        }
        "NodeFields" => node_fields(),
        "Node" if path == "api::rest::node::Node" => Made {
            name: "Node",
            schema: object(
                json!({
                    "id": { "type": "string" },
                    "addr": { "type": "string" },
                    "role": { "type": "string" },
                    "password": { "type": "string" },
                    "created_at": { "type": "integer", "format": "int64", "minimum": 0 },
                    "tls_port": port(),
                    "announced_host": { "type": "string" },
                    "announced_port": port(),
                    "announced_tls_port": port(),
                }),
                &["id", "addr", "role", "password", "created_at"],
            ),
            more,
            sample: json!({
                "id": "x", "addr": "x:1", "role": "slave", "password": "", "created_at": 1,
                "tls_port": 2,
                "announced_host": "x", "announced_port": 1, "announced_tls_port": 2,
            }),
        },
        "MaxLag" => Made {
            name: "MaxLag",
            schema: json!({ "anyOf": [
                { "type": "integer", "format": "int64", "minimum": 0 },
                { "type": "string", "enum": ["none"] },
            ] }),
            more,
            sample: json!(1),
        },
        "Health" => Made {
            name: "Health",
            schema: json!({ "type": "string", "enum": Health::WORDS }),
            more,
            sample: json!("up"),
        },
        _ => return None,
    })
}

fn node_fields() -> Made {
    Made {
        name: "NodeFields",
        schema: object(
            json!({
                "addr": { "type": "string" },
                "role": { "type": "string" },
                "password": { "type": "string" },
                "tls_port": port(),
                "announced_host": { "type": "string" },
                "announced_port": port(),
                "announced_tls_port": port(),
            }),
            &["addr"],
        ),
        more: Components::new(),
        sample: json!({
            "addr": "x:1", "role": "slave", "password": "x", "tls_port": 2,
            "announced_host": "x", "announced_port": 1, "announced_tls_port": 2,
        }),
    }
}

fn port() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": 65_535 })
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::rest::{Node, NodeFields};

    /// All fields, and those that are there without the rest.
    fn is_right<T: Serialize + DeserializeOwned>(path: &str) {
        let Made { schema, sample, .. } = made(path).expect("it is described");
        let keys = |value: &Value| -> Vec<String> {
            value.as_object().expect("an object").keys().cloned().collect()
        };
        let whole: T = serde_json::from_value(sample.clone()).expect("it is read");
        let whole = serde_json::to_value(&whole).expect("JSON");
        assert_eq!(keys(&whole), keys(&schema["properties"]));
        let required: Vec<String> = serde_json::from_value(schema["required"].clone()).unwrap();
        let least: serde_json::Map<String, Value> =
            required.iter().map(|key| (key.clone(), sample[key].clone())).collect();
        let least: T = serde_json::from_value(Value::Object(least)).expect("no more is needed");
        let mut required = required;
        required.sort();
        assert_eq!(keys(&serde_json::to_value(&least).expect("JSON")), required);
    }

    #[test]
    fn what_is_described_by_hand_has_the_fields_of_its_type() {
        is_right::<Node>("api::rest::node::Node");
        is_right::<NodeFields>("api::rest::node::NodeFields");
        assert!(made("api::rest::Shard").is_none());
    }
}
