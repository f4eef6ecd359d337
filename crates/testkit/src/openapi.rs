//! `docs/openapi.json`, as a program that was handed it would use it: which operation a request is,
//! and whether a value is what a schema says. Knows the words that the document uses, and refuses
//! others.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The document.
#[derive(Debug, Clone)]
pub struct Document(Value);

/// A method of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    /// In capitals.
    pub method: String,
    /// With its placeholders.
    pub path: String,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Whether a path is one of a template, whose parts in braces stand for anything.
fn is_of(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && (template.iter().zip(&path))
            .all(|(wanted, part)| wanted == part || wanted.starts_with('{') && !part.is_empty())
}

impl Document {
    /// The one of the tree.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read() -> Result<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let text = std::fs::read_to_string(&path).context("read docs/openapi.json")?;
        Ok(Self(serde_json::from_str(&text).context("read docs/openapi.json as JSON")?))
    }

    /// The whole of it.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// All that can be asked.
    pub fn operations(&self) -> Vec<Operation> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        let of = |(path, methods): (&String, &Value)| {
            let methods: Vec<String> = methods
                .as_object()
                .into_iter()
                .flatten()
                .map(|(method, _)| method.clone())
                .collect();
            let path = path.clone();
            methods.into_iter().map(move |method| Operation {
                method: method.to_ascii_uppercase(),
                path: path.clone(),
            })
        };
        paths.flat_map(of).collect()
    }

    /// Which operation a request is; the path may have a query. A path without placeholders wins.
    pub fn find(&self, method: &str, path: &str) -> Option<Operation> {
        let path = path.split('?').next().unwrap_or_default();
        let all = self.operations().into_iter();
        let mut fit: Vec<Operation> =
            all.filter(|one| one.method == method && is_of(&one.path, path)).collect();
        fit.sort_by_key(|one| one.path.matches('{').count());
        fit.into_iter().next()
    }

    fn at(&self, of: &Operation) -> &Value {
        &self.0["paths"][&of.path][of.method.to_ascii_lowercase()]
    }

    /// Looks at a request: its body, and the words of its query.
    ///
    /// # Errors
    /// What the document has not.
    pub fn check_request(&self, of: &Operation, path: &str, body: &str) -> Result<()> {
        let operation = self.at(of);
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let is_query = |parameter: &&Value| parameter["in"] == "query";
        let known: Vec<&str> =
            parameters.iter().filter(is_query).filter_map(|one| one["name"].as_str()).collect();
        let query = path.split_once('?').map_or("", |(_, query)| query);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split('=').next().unwrap_or_default();
            ensure!(known.contains(&name), "{of} has no `{name}` in its query, but {known:?}");
        }
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            ensure!(body.is_empty(), "{of} takes no body: {body}");
            return Ok(());
        }
        let value = serde_json::from_str(body).with_context(|| format!("{of}: {body}"))?;
        self.check(schema, &value).with_context(|| format!("{of}: {body}"))
    }

    /// Looks at an answer.
    ///
    /// # Errors
    /// A status or a value that the document has not.
    pub fn check_answer(&self, of: &Operation, status: u16, body: &Value) -> Result<()> {
        let answers = &self.at(of)["responses"];
        let answer = answers.get(status.to_string()).unwrap_or(&answers["default"]);
        ensure!(!answer.is_null(), "{of} never answers {status}");
        let answer = self.followed(answer)?;
        let schema = &answer["content"]["application/json"]["schema"];
        ensure!(!schema.is_null(), "{of} has no JSON in {status}");
        self.check(schema, body).with_context(|| format!("{of}: {status} {body:#}"))
    }

    fn followed<'v>(&'v self, value: &'v Value) -> Result<&'v Value> {
        match value.get("$ref").and_then(Value::as_str) {
            None => Ok(value),
            Some(place) => {
                let found = self.0.pointer(place.trim_start_matches('#'));
                found.with_context(|| format!("{place} leads nowhere"))
            }
        }
    }

    /// Whether a value is what a schema says. What the schema does not name must not be there, so
    /// that nothing is left out of the document.
    fn check(&self, schema: &Value, value: &Value) -> Result<()> {
        let schema = self.followed(schema)?;
        if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
            let mut refused = Vec::new();
            for one in any {
                match self.check(one, value) {
                    Ok(()) => return Ok(()),
                    Err(error) => refused.push(format!("{error:#}")),
                }
            }
            bail!("none of these: {refused:?}");
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            ensure!(words.contains(value), "{value} is none of {words:?}");
            return Ok(());
        }
        let kinds = match &schema["type"] {
            Value::String(kind) => vec![kind.as_str()],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            other => bail!("a schema without a type: {other}"),
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        ensure!(kinds.contains(&kind), "{value} is {kind}, and no {kinds:?}");
        if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64()) {
            ensure!(number >= least, "{number} is below {least}");
        }
        if let (Some(most), Some(number)) = (schema["maximum"].as_u64(), value.as_u64()) {
            ensure!(number <= most, "{number} is above {most}");
        }
        for item in value.as_array().into_iter().flatten() {
            self.check(&schema["items"], item)?;
        }
        for (key, inner) in value.as_object().into_iter().flatten() {
            let of = schema["properties"].get(key);
            let of = of.or_else(|| schema.get("additionalProperties").filter(|of| of.is_object()));
            match of {
                Some(of) => {
                    self.check(of, inner).with_context(|| format!("in `{key}`"))?;
                }
                None => bail!("`{key}` is not in the schema"),
            }
        }
        for needed in schema["required"].as_array().into_iter().flatten() {
            let is_there = needed.as_str().is_some_and(|key| value.get(key).is_some());
            ensure!(is_there, "{needed} is missing in {value}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Document {
        Document(json!({
            "paths": {
                "/a/{x}": { "get": { "responses": {} }, "post": { "requestBody": { "content": {
                    "application/json": { "schema": { "$ref": "#/components/schemas/S" } } } } } },
                "/a/b": { "get": { "parameters": [{ "in": "query", "name": "limit" }] } },
            },
            "components": { "schemas": { "S": {
                "type": "object", "required": ["n"],
                "properties": {
                    "n": { "type": "integer", "minimum": 0, "maximum": 9 },
                    "of": { "anyOf": [{ "type": "string", "enum": ["none"] }, { "type": "null" }] },
                    "all": { "type": "array", "items": { "type": ["string", "null"] } },
                    "map": { "type": "object", "additionalProperties": { "type": "boolean" } },
                },
            } } },
        }))
    }

    #[test]
    fn a_request_is_the_operation_whose_path_fits_best() {
        let document = document();
        let path = |path: &str| document.find("GET", path).map(|found| found.path);
        assert_eq!(path("/a/b?limit=1").as_deref(), Some("/a/b"));
        assert_eq!(path("/a/c").as_deref(), Some("/a/{x}"));
        assert_eq!(path("/a/c/d"), None);
        assert_eq!(path("/a/"), None);
        assert!(document.find("DELETE", "/a/b").is_none());
        let found = document.find("GET", "/a/b").unwrap();
        assert!(document.check_request(&found, "/a/b?limit=1", "").is_ok());
        assert!(document.check_request(&found, "/a/b?other=1", "").is_err());
        assert!(document.check_request(&found, "/a/b", "{}").is_err());
    }

    #[test]
    fn a_value_is_held_against_its_schema() {
        let document = document();
        let found = document.find("POST", "/a/c").unwrap();
        let check = |body: &str| document.check_request(&found, "/a/c", body).is_ok();
        for good in [
            r#"{"n":9}"#,
            r#"{"n":0,"of":null,"all":["a",null],"map":{"x":true}}"#,
            r#"{"n":1,"of":"none"}"#,
        ] {
            assert!(check(good), "{good}");
        }
        for bad in [
            "{}",
            "",
            r#"{"n":10}"#,
            r#"{"n":-1}"#,
            r#"{"n":1.5}"#,
            r#"{"n":1,"more":1}"#,
            r#"{"n":1,"of":"some"}"#,
            r#"{"n":1,"all":[1]}"#,
            r#"{"n":1,"map":{"x":1}}"#,
        ] {
            assert!(!check(bad), "{bad}");
        }
    }
}
