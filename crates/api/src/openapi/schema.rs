//! Reads the schema of a type out of its own `Deserialize` and `Serialize`.
//!
//! The type is deserialized from nothing: whatever it asks for it gets, and what it asked for is
//! written down. It is asked again with one field left out (is it needed?), with one too many (is
//! it refused?), and with one that holds nothing (is it left out of answers, or null?). So the
//! document says what the code does, and not what somebody believed of it.

use std::any::type_name;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    self, Deserialize as _, DeserializeOwned, DeserializeSeed, IntoDeserializer as _, MapAccess,
    SeqAccess, Visitor,
};
use serde::{Deserializer, Serialize, forward_to_deserialize_any};
use serde_json::{Map, Value, json};

use super::components::{Components, reference};
use super::{hand, said::Said};

/// Which way a value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Request,
    Reply,
}

/// What is asked of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Probe {
    /// All of it.
    #[default]
    Whole,
    /// Without this field of this structure.
    Without(&'static str, &'static str),
    /// With a field that this structure does not have.
    More(&'static str),
    /// With nothing in this field of this structure.
    Empty(&'static str, &'static str),
}

#[derive(Debug, Clone, Default)]
struct State {
    probe: Probe,
    /// Fields of each structure, in their order.
    fields: BTreeMap<&'static str, Vec<&'static str>>,
    properties: BTreeMap<&'static str, Map<String, Value>>,
    /// What is complete as it is: words, and what is written by hand.
    whole: Components,
    /// Other names of fields.
    aliases: BTreeSet<(&'static str, &'static str)>,
    /// The last two keys that were offered.
    offered: [(&'static str, &'static str); 2],
}

/// Why a type does not take what it was given.
#[derive(Debug)]
enum Refused {
    Twice(&'static str),
    Missing,
    Unknown,
    Other(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice(field) => write!(f, "{field} is there twice"),
            Self::Missing => f.write_str("a field is missing"),
            Self::Unknown => f.write_str("a field is unknown"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::Other(text.to_string())
    }

    fn missing_field(_: &'static str) -> Self {
        Self::Missing
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::Unknown
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Twice(field)
    }
}

impl From<serde_json::Error> for Refused {
    fn from(error: serde_json::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// The same, or null.
fn or_null(schema: Value) -> Value {
    match schema.get("type") {
        Some(Value::String(one)) if schema.get("enum").is_none() => {
            let both = json!([one, "null"]);
            let mut schema = schema.clone();
            schema["type"] = both;
            schema
        }
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// What [`or_null`] was made of.
fn not_null(schema: Value) -> Value {
    if let Some(first) = schema.get("anyOf").and_then(|any| any.get(0)) {
        let is_made = schema["anyOf"].get(1) == Some(&json!({ "type": "null" }));
        return if is_made { first.clone() } else { schema };
    }
    match schema.get("type").and_then(Value::as_array).and_then(|types| types.first()).cloned() {
        Some(one) => {
            let mut schema = schema;
            schema["type"] = one;
            schema
        }
        None => schema,
    }
}

/// Gives a value whatever it asks for, and writes down what that was.
struct Tracer<'s> {
    state: &'s RefCell<State>,
    out: &'s mut Value,
    /// It is to hold as little as it can.
    is_empty: bool,
}

fn read<'de, S: DeserializeSeed<'de>>(seed: S, tracer: Tracer<'_>) -> Result<S::Value, Refused> {
    let name = type_name::<S::Value>();
    let inner = name.strip_prefix("core::option::Option<").and_then(|name| name.strip_suffix('>'));
    let Some(made) = hand::made(inner.unwrap_or(name)) else { return seed.deserialize(tracer) };
    let known = reference(made.name);
    *tracer.out = if inner.is_some() { or_null(known) } else { known };
    let mut state = tracer.state.borrow_mut();
    state.whole.insert(made.name.to_owned(), made.schema);
    state.whole.extend(made.more);
    drop(state);
    let is_none = inner.is_some() && tracer.is_empty;
    Ok(seed.deserialize(if is_none { Value::Null } else { made.sample })?)
}

macro_rules! scalars {
    ($($name:ident $visit:ident $type:ty, $schema:tt;)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            *self.out = json!($schema);
            visitor.$visit(<$type>::from(!self.is_empty))
        })*
    };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Refused;

    scalars! {
        deserialize_bool visit_bool bool, { "type": "boolean" };
        deserialize_i64 visit_i64 i64, { "type": "integer", "format": "int64" };
        deserialize_u64 visit_u64 u64, { "type": "integer", "format": "int64", "minimum": 0 };
        deserialize_u32 visit_u32 u32, { "type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32 };
        deserialize_u16 visit_u16 u16, { "type": "integer", "minimum": 0, "maximum": 65_535 };
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u128 f32 f64 char bytes byte_buf unit_struct tuple_struct identifier
    }

    /// What is not foreseen here has no schema, which a test finds.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        *self.out = json!({});
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        *self.out = json!({ "type": "null" });
        visitor.visit_unit()
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        *self.out = json!({ "type": "string" });
        visitor.visit_str(if self.is_empty { "" } else { "x" })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.is_empty {
            return visitor.visit_none();
        }
        let mut schema = Value::Null;
        let inner = Tracer { state: self.state, out: &mut schema, is_empty: false };
        let value = visitor.visit_some(inner)?;
        *self.out = or_null(schema);
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let mut schema = Value::Null;
        let left = usize::from(!self.is_empty);
        let value = visitor.visit_seq(Items { state: self.state, out: &mut schema, left })?;
        *self.out = json!({ "type": "array", "items": schema });
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let mut schema = Value::Null;
        let value = visitor.visit_seq(Items { state: self.state, out: &mut schema, left })?;
        *self.out = json!({ "type": "array", "items": schema, "minItems": left, "maxItems": left });
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let mut schema = Value::Null;
        let left = usize::from(!self.is_empty);
        let value = visitor.visit_map(Items { state: self.state, out: &mut schema, left })?;
        *self.out = json!({ "type": "object", "additionalProperties": schema });
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        *self.out = reference(name);
        let mut fields = fields.to_vec();
        let state = self.state.borrow();
        fields.retain(|field| !state.aliases.contains(&(name, *field)));
        let mut keys = fields.clone();
        keys.retain(|field| state.probe != Probe::Without(name, field));
        let has_more = state.probe == Probe::More(name);
        drop(state);
        keys.extend(has_more.then_some(NOBODYS));
        keys.reverse();
        let properties = Map::new();
        let mut access = Fields { state: self.state, name, keys, key: "", properties };
        let value = visitor.visit_map(&mut access)?;
        let mut state = self.state.borrow_mut();
        state.fields.insert(name, fields);
        state.properties.insert(name, access.properties);
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        *self.out = reference(name);
        let schema = json!({ "type": "string", "enum": words });
        self.state.borrow_mut().whole.insert(name.to_owned(), schema);
        let word: de::value::StrDeserializer<'_, Refused> = words[0].into_deserializer();
        visitor.visit_enum(word)
    }
}

/// A name that no structure has for a field.
const NOBODYS: &str = "x-nobody-has-this";

struct Fields<'s> {
    state: &'s RefCell<State>,
    name: &'static str,
    /// Those that are still to be offered, the next one last.
    keys: Vec<&'static str>,
    key: &'static str,
    properties: Map<String, Value>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        let Some(key) = self.keys.pop() else { return Ok(None) };
        self.key = key;
        let mut state = self.state.borrow_mut();
        state.offered = [state.offered[1], (self.name, key)];
        drop(state);
        let key: de::value::StrDeserializer<'_, Refused> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let is_empty = self.state.borrow().probe == Probe::Empty(self.name, self.key);
        let mut schema = Value::Null;
        let tracer = Tracer { state: self.state, out: &mut schema, is_empty };
        // What a function of its own reads does not say its type.
        let value = if (self.name, self.key) == ("Event", "by") {
            let by = Option::<crate::rest::Actor>::deserialize(tracer)?;
            seed.deserialize(serde_json::to_value(by)?)?
        } else {
            read(seed, tracer)?
        };
        self.properties.insert(self.key.to_owned(), schema);
        Ok(value)
    }
}

/// Of a list or a map: so many that are alike.
struct Items<'s> {
    state: &'s RefCell<State>,
    out: &'s mut Value,
    left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let tracer = Tracer { state: self.state, out: &mut *self.out, is_empty: false };
        read(seed, tracer).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let key: de::value::StrDeserializer<'_, Refused> = "x".into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        read(seed, Tracer { state: self.state, out: &mut *self.out, is_empty: false })
    }
}

/// Makes one value of a type, and what it asked for.
fn run<T: DeserializeOwned>(state: &State, probe: Probe) -> (Result<(Value, T), Refused>, State) {
    let state = RefCell::new(State { probe, ..state.clone() });
    let mut schema = Value::Null;
    let tracer = Tracer { state: &state, out: &mut schema, is_empty: false };
    let value = read(PhantomData::<T>, tracer);
    (value.map(|value| (schema, value)), state.into_inner())
}

/// Where a structure stands in a value whose schema this is.
fn found<'v>(state: &State, schema: &Value, value: &'v Value, name: &str) -> Option<&'v Value> {
    if let Some(known) = schema.get("$ref").and_then(Value::as_str) {
        let known = known.rsplit('/').next()?;
        if known == name {
            return Some(value);
        }
        let mut properties = state.properties.get(known)?.iter();
        return properties.find_map(|(key, schema)| found(state, schema, value.get(key)?, name));
    }
    if let Some(inner) = schema.get("anyOf") {
        return found(state, inner.get(0)?, value, name);
    }
    if let Some(items) = schema.get("items") {
        return found(state, items, value.get(0)?, name);
    }
    let inner = schema.get("additionalProperties")?;
    found(state, inner, value.as_object()?.values().next()?, name)
}

/// The schema of a type; those of what it consists of are put among the components.
pub(super) fn of<T: Serialize + DeserializeOwned>(
    components: &mut Components,
    said: &Said,
    way: Way,
) -> Value {
    let mut state = State::default();
    let schema = loop {
        let (made, after) = run::<T>(&state, Probe::Whole);
        match made {
            Ok((schema, _)) => {
                state = after;
                break schema;
            }
            Err(Refused::Twice(name)) => {
                let [before, last] = after.offered;
                let alias = if last.1 == name { before } else { last };
                assert!(state.aliases.insert(alias), "{alias:?} is refused twice");
            }
            Err(error) => panic!("{}: {error}", type_name::<T>()),
        }
    };
    for (&name, fields) in &state.fields {
        let structure = structure::<T>(&state, (&schema, way), name, fields);
        keep(components, name, said.describe(name, structure));
    }
    for (name, schema) in &state.whole {
        keep(components, name, said.describe(name, schema.clone()));
    }
    schema
}

/// One name is one schema. What goes both ways has the fields that both always have.
fn keep(components: &mut Components, name: &str, mut schema: Value) {
    if let Some(mut known) = components.remove(name) {
        let [one, other] = [&mut known, &mut schema].map(required);
        assert_eq!(known, schema, "{name} means two things");
        let both: Vec<Value> = one.into_iter().filter(|field| other.contains(field)).collect();
        if !both.is_empty() {
            schema["required"] = json!(both);
        }
    }
    components.insert(name.to_owned(), schema);
}

/// Takes out of a schema which fields are always there.
fn required(schema: &mut Value) -> Vec<Value> {
    let taken = schema.as_object_mut().and_then(|schema| schema.remove("required"));
    taken.and_then(|taken| taken.as_array().cloned()).unwrap_or_default()
}

fn structure<T: Serialize + DeserializeOwned>(
    state: &State,
    (schema, way): (&Value, Way),
    name: &'static str,
    fields: &[&'static str],
) -> Value {
    let mut properties = state.properties[name].clone();
    let mut required = Vec::new();
    for field in fields {
        let (made, _) = run::<T>(state, Probe::Empty(name, field));
        let (_, value) = made.expect("what holds nothing is read");
        let value = serde_json::to_value(&value).expect("JSON");
        let is_there =
            found(state, schema, &value, name).expect("it is in it").get(field).is_some();
        let (without, _) = run::<T>(state, Probe::Without(name, field));
        let is_needed = match way {
            Way::Request => matches!(without, Err(Refused::Missing)),
            Way::Reply => is_there,
        };
        required.extend(is_needed.then_some(*field));
        if !is_there {
            let schema = properties[*field].take();
            properties.insert((*field).to_owned(), not_null(schema));
        }
    }
    let mut made = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        made["required"] = json!(required);
    }
    let (more, _) = run::<T>(state, Probe::More(name));
    if way == Way::Request && matches!(more, Err(Refused::Unknown)) {
        made["additionalProperties"] = json!(false);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::{FailoverSpec, MovesAnswer, NamespaceSpec, Shards, UserSpec};

    fn components<T: Serialize + DeserializeOwned>(way: Way) -> Components {
        let mut components = Components::new();
        of::<T>(&mut components, &Said::default(), way);
        components
    }

    #[test]
    fn what_is_needed_refused_and_called_otherwise_is_found_out() {
        let user = &components::<UserSpec>(Way::Request)["UserSpec"];
        assert_eq!(user["required"], json!(["name", "role"]));
        assert_eq!(user["additionalProperties"], json!(false));
        assert_eq!(user["properties"]["expires_in_s"]["type"], "integer");
        assert_eq!(user["properties"]["role"], reference("UserRole"));
        let made = components::<FailoverSpec>(Way::Request);
        let names: Vec<_> =
            made["FailoverSpec"]["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["force", "options", "preferred_node_id"]);
        assert_eq!(made["FailoverSpec"].get("required"), None);
        assert_eq!(made["FailoverSpec"]["additionalProperties"], json!(false));
        assert_eq!(made["FailoverOptions"]["additionalProperties"], json!(false));
        let open = components::<NamespaceSpec>(Way::Request);
        assert_eq!(open["NamespaceSpec"].get("additionalProperties"), None);
    }

    #[test]
    fn what_an_answer_always_has_is_told_from_what_it_may_leave_out() {
        let answer = &components::<MovesAnswer>(Way::Reply)["MovesAnswer"];
        assert_eq!(answer["required"], json!(["moves", "slots", "done"]));
        let shard = &components::<Shards>(Way::Reply)["Shard"];
        assert_eq!(shard["properties"]["migrating_slot"]["type"], json!(["string", "null"]));
    }
}
