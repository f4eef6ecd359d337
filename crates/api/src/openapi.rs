//! The controller's REST interface as an OpenAPI 3.1 document, for programs that make or check
//! clients of it.
//!
//! [`DOCUMENT`] is `docs/openapi.json`. This module's tests make it: schemas are read out of the
//! types of [`crate::rest`] themselves, words out of their comments, routes out of a list with a
//! line for each. The list is held against the controller's table of routes there, and against the
//! calls of `ctl` by a test that answers them. It is written by
//! `HOLDFAST_UPDATE=1 cargo test --release --locked -p api --lib openapi`.

#[cfg(test)]
mod components;
#[cfg(test)]
mod document;
#[cfg(test)]
mod hand;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod said;
#[cfg(test)]
mod schema;

/// The document, as JSON.
pub const DOCUMENT: &str = include_str!("../../../docs/openapi.json");
