//! The document itself, and the test that it is up to date.

use serde_json::{Map, Value, json};

use super::components::{Components, reference};
use super::routes::{self, Holds, Route};
use super::said::Said;
use super::schema::{self, Way};
use crate::rest::Failure;

/// What stands for something in a path, with the part before it where that tells.
fn placeholder(before: &str, name: &str) -> &'static str {
    match (before, name) {
        (_, "ns") => "Namespace.",
        (_, "c") => "Cluster.",
        (_, "i") => "Index of a shard, or its lasting id.",
        ("users", _) => "Name of a user.",
        ("balancers", _) => "Name of a load balancer.",
        ("moves", _) => "Number of a move.",
        ("nodes" | "discarded", "id") => "Id of a node, 40 characters.",
        (_, "file") => "Name of an export, as the list has it.",
        _ => panic!("{before}/{{{name}}} stands for nothing"),
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let text = json!({ "type": "string" });
    let parts: Vec<&str> = route.path.split('/').collect();
    let mut made: Vec<Value> = (parts.windows(2))
        .filter_map(|pair| {
            let name = pair[1].strip_prefix('{')?.strip_suffix('}')?;
            Some(json!({
                "name": name, "in": "path", "required": true, "schema": text,
                "description": placeholder(pair[0], name),
            }))
        })
        .collect();
    made.extend(route.query.iter().map(|(name, schema, about)| {
        json!({ "name": name, "in": "query", "schema": schema, "description": about })
    }));
    if route.has_header {
        made.push(json!({
            "name": "X-Dont-Check-Cluster-Mode", "in": "header",
            "schema": { "type": "string", "enum": ["yes"] },
            "description": "`yes`: what is added is not asked first.",
        }));
    }
    made
}

fn meaning(status: u16) -> &'static str {
    match status {
        200 => "Done, or what was asked for.",
        201 => "Made, or queued.",
        204 => "Gone.",
        304 => "As it was when it had the `ETag` that `If-None-Match` names.",
        503 => "Why not.",
        _ => panic!("{status} has no meaning"),
    }
}

fn operation(route: &Route, components: &mut Components, said: &Said) -> Value {
    let mut answers = Map::new();
    for (status, holds) in &route.answers {
        let content = |kind: &str, schema: Value| json!({ kind: { "schema": schema } });
        let mut answer = json!({ "description": meaning(*status) });
        let holds = match holds {
            Holds::Data(schema) => {
                let data = schema(components, said, Way::Reply);
                let whole = json!({
                    "type": "object", "properties": { "data": data }, "required": ["data"],
                });
                Some(content("application/json", whole))
            }
            Holds::Text(kind) => Some(content(kind, json!({ "type": "string" }))),
            Holds::Json => Some(content("application/json", json!({ "type": "object" }))),
            Holds::Nothing => None,
        };
        if let Some(holds) = holds {
            answer["content"] = holds;
        }
        answers.insert(status.to_string(), answer);
    }
    let mut made = json!({ "operationId": route.id, "summary": route.about, "responses": answers });
    if let Some(needs) = route.needs {
        made["x-holdfast-role"] = json!(needs);
        made["responses"]["default"] = json!({ "$ref": "#/components/responses/Failure" });
    } else {
        made["security"] = json!([]);
    }
    let parameters = parameters(route);
    if !parameters.is_empty() {
        made["parameters"] = json!(parameters);
    }
    if let Some(body) = route.body {
        let schema = body(components, said, Way::Request);
        // An empty body counts as `{}`.
        made["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
    }
    made
}

const ABOUT: &str = "A success is `{\"data\": …}`, a failure `{\"error\": {\"message\": …}, \"data\": null}`. \
    What changes something must come as `application/json`. Numbers out of their range are refused. \
    Clients should pass over what they do not know in answers: later versions tell more.";

fn document() -> Value {
    let (mut components, said) = (Components::new(), Said::of_types());
    let mut paths = Map::new();
    for route in routes::all() {
        let operation = operation(&route, &mut components, &said);
        let of_path = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        assert!(of_path.get(route.method).is_none(), "{} {} twice", route.method, route.path);
        of_path[route.method] = operation;
    }
    schema::of::<Failure>(&mut components, &said, Way::Reply);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast controller",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:9379" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": { "Failure": {
                "description": "Refused, or failed: 400, 401 and 403 (who asks, in which role), 404, 409 (something stands in the way), 500, 503 (the store, or no leader).",
                "content": { "application/json": { "schema": reference("Failure") } },
            } },
            "securitySchemes": { "token": {
                "type": "http", "scheme": "bearer",
                "description": "The configured token, or that of a user.",
            } },
        },
    })
}

/// Every reference, and every schema that says nothing.
fn look<'v>(value: &'v Value, path: &str, references: &mut Vec<&'v str>, empty: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str));
            for (key, value) in fields {
                let path = format!("{path}/{key}");
                let is_empty = value.as_object().is_some_and(Map::is_empty) || value.is_null();
                empty.extend(is_empty.then(|| path.clone()));
                look(value, &path, references, empty);
            }
        }
        Value::Array(items) => {
            for item in items {
                look(item, path, references, empty);
            }
        }
        _ => {}
    }
}

#[test]
fn each_reference_leads_somewhere_and_each_schema_says_something() {
    let document = document();
    let (mut references, mut empty) = (Vec::new(), Vec::new());
    look(&document, "", &mut references, &mut empty);
    assert!(references.len() > 100, "{references:?}");
    for reference in references {
        let place = reference.trim_start_matches('#');
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
    assert_eq!(empty, Vec::<String>::new());
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for (name, schema) in schemas {
        // What is one of several forms, or a word, is said by its schema.
        assert!(schema.get("description").is_some(), "{name} has no comment");
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property.get("description").is_some(), "{name}.{field} has no comment");
        }
    }
}

#[test]
fn ids_are_unique() {
    let mut ids: Vec<&str> = routes::all().iter().map(|route| route.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn the_document_is_what_the_code_makes_it() {
    let made = document();
    if std::env::var_os("HOLDFAST_UPDATE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let text = serde_json::to_string_pretty(&made).expect("JSON") + "\n";
        std::fs::write(path, text).expect("docs/openapi.json is written");
        return;
    }
    let kept: Value = serde_json::from_str(super::DOCUMENT).expect("docs/openapi.json is JSON");
    assert!(
        kept == made,
        "docs/openapi.json is out of date: HOLDFAST_UPDATE=1 cargo test --release --locked -p api --lib openapi"
    );
}
