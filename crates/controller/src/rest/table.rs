//! What can be asked, and the role it needs: a route is a row, and a row has a role.
//!
//! Nothing else makes routes of the interface, so none is left open by being forgotten. A user that
//! is limited to namespaces asks for what has one of them in its path, and for little else.

use std::sync::Arc;

use api::rest::{Actor, UserRole};
use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{self, MethodRouter};

use super::error::ApiError;
use crate::registry::Registry;

/// One method of one path.
pub(super) struct Row {
    method: &'static str,
    path: String,
    needs: UserRole,
    run: MethodRouter<Arc<Registry>>,
}

/// What stands before a row.
#[derive(Clone)]
struct Gate {
    needs: UserRole,
    /// As the table has it.
    route: Arc<str>,
}

/// Makes the functions by which rows are written, one for each method.
macro_rules! methods {
    ($($name:ident $method:literal,)*) => {
        $(pub(super) fn $name<H, T>(path: impl Into<String>, needs: UserRole, run: H) -> Row
        where
            H: Handler<T, Arc<Registry>>,
            T: 'static,
        {
            Row { method: $method, path: path.into(), needs, run: routing::$name(run) }
        })*
    };
}

methods! { get "GET", post "POST", patch "PATCH", delete "DELETE", }

/// A router of these rows. A guard that stands before it says who asks.
pub(super) fn router(rows: Vec<Row>) -> Router<Arc<Registry>> {
    rows.into_iter().fold(Router::new(), |router, row| {
        let Row { method, path, needs, run } = row;
        let route = format!("{method} {path}").into();
        let gate = Gate { needs, route };
        router.route(&path, run.route_layer(middleware::from_fn_with_state(gate, allowed)))
    })
}

async fn allowed(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (by, within) = (request.extensions().get::<Actor>(), request.extensions().get::<Within>());
    let Some((by, within)) = by.zip(within) else {
        return ApiError::failed(format!("{}: nobody has looked who asks", gate.route))
            .into_response();
    };
    let may = must_be(by, gate.needs).and_then(|()| {
        let is_inside = within.has(&gate.route, request.uri().path());
        if is_inside { Ok(()) } else { Err(ApiError::outside(by, &within.0)) }
    });
    match may {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The namespaces to which whoever asks is limited; none: all, and what is of no namespace.
#[derive(Debug, Clone)]
pub(super) struct Within(pub(super) Arc<[String]>);

/// What is of no namespace and shows nothing of others.
const OF_NONE: [&str; 3] =
    ["GET /api/v1/overview", "GET /api/v1/namespaces", "GET /api/v1/openapi.json"];

impl Within {
    /// Whether a request of this row is within them.
    fn has(&self, route: &str, path: &str) -> bool {
        if self.is_everywhere() {
            return true;
        }
        match namespace(route, path) {
            // One that is spelled with escapes is none of them.
            Some(name) => self.0.iter().any(|own| own == name),
            None => OF_NONE.contains(&route),
        }
    }

    /// No limit.
    pub(super) fn is_everywhere(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this namespace may be shown.
    pub(super) fn shows(&self, name: &str) -> bool {
        self.is_everywhere() || self.0.iter().any(|own| own == name)
    }
}

/// What stands in a path in the place of `{ns}`.
fn namespace<'p>(route: &str, path: &'p str) -> Option<&'p str> {
    let at = route.split('/').position(|part| part == "{ns}")?;
    path.split('/').nth(at)
}

/// For what of a request needs more than its route.
pub(super) fn must_be(by: &Actor, needs: UserRole) -> Result<(), ApiError> {
    if by.role >= needs { Ok(()) } else { Err(ApiError::forbidden(by, needs)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What each role may do, as the operator's page has it. Nothing that changes is for viewers.
    #[test]
    fn each_route_needs_what_the_page_says() {
        let rows = super::super::rows();
        let of = |role: UserRole| -> Vec<String> {
            let short = |path: &str| {
                let path = path.replace("/api/v1", "");
                path.replace("/namespaces/{ns}/clusters/{c}", "…")
            };
            let of_role = rows.iter().filter(|row| row.needs == role);
            of_role.map(|row| format!("{} {}", row.method, short(&row.path))).collect()
        };
        let changes = |row: &&Row| row.method != "GET";
        assert!(rows.iter().filter(changes).all(|row| row.needs > UserRole::Viewer));
        assert_eq!(of(UserRole::Admin), ADMIN);
        assert_eq!(of(UserRole::Operator), OPERATOR);
        assert!(rows.len() > ADMIN.len() + OPERATOR.len());
    }

    /// The document has these routes and no others, each with its role.
    #[test]
    fn the_openapi_document_has_the_routes_of_the_table_and_their_roles() {
        let document: serde_json::Value =
            serde_json::from_str(api::openapi::DOCUMENT).expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        let mut told = BTreeSet::new();
        for (path, methods) in paths {
            for (method, route) in methods.as_object().expect("methods") {
                let role = route["x-holdfast-role"].as_str().unwrap_or("nobody");
                told.insert(format!("{} {path}: {role}", method.to_uppercase()));
            }
        }
        let rows = super::super::rows();
        let row = |row: &Row| format!("{} {}: {}", row.method, row.path, row.needs);
        let mut there: BTreeSet<String> = rows.iter().map(row).collect();
        assert_eq!(there.len(), rows.len());
        there.extend(super::super::PROBES.iter().map(|path| format!("GET {path}: nobody")));
        assert_eq!(told, there, "see crates/api/src/openapi/routes.rs");
    }

    const ADMIN: [&str; 16] = [
        "POST /namespaces",
        "DELETE /namespaces/{ns}",
        "GET /users",
        "POST /users",
        "DELETE /users/{name}",
        "GET /store/export",
        "POST /store/reseal",
        "POST /namespaces/{ns}/clusters",
        "DELETE …",
        "POST …/import",
        "POST …/release",
        "POST …/discarded/{id}/{file}/apply",
        "POST …/shards",
        "POST …/shards/{i}/accept-loss",
        "POST …/shards/{i}/restore-deposed",
        "POST …/shards/{i}/nodes",
    ];

    const OPERATOR: [&str; 16] = [
        "PATCH …",
        "POST …/balancers",
        "PATCH …/balancers/{name}",
        "DELETE …/balancers/{name}",
        "PATCH …/nodes/{id}",
        "GET …/discarded/{id}/{file}",
        "POST …/moves",
        "PATCH …/moves/{id}",
        "DELETE …/moves/{id}",
        "POST …/migrate",
        "POST …/rebalance",
        "DELETE …/shards/{i}",
        "POST …/shards/{i}/failover",
        "POST …/shards/{i}/drain",
        "DELETE …/shards/{i}/nodes/{id}",
        "PATCH …/shards/{i}/nodes/{id}",
    ];

    /// Of each row: with a namespace in its path it is asked for there alone, and without one it is
    /// not asked for, or has been looked at.
    #[test]
    fn a_user_that_is_limited_asks_for_nothing_outside() {
        let within = Within(vec!["a".to_owned(), "b".to_owned()].into());
        let everywhere = Within(Vec::new().into());
        let mut inside = 0;
        for row in super::super::rows() {
            let route = format!("{} {}", row.method, row.path);
            let path = |name: &str| row.path.replace("{ns}", name).replace("{c}", "a");
            assert!(everywhere.has(&route, &path("x")));
            let is_of_one = row.path.contains("{ns}");
            inside += usize::from(is_of_one);
            for name in ["a", "b"] {
                let may = is_of_one || OF_NONE.contains(&route.as_str());
                assert_eq!(within.has(&route, &path(name)), may, "{route}");
            }
            for name in ["x", "", "ab", "A", "%61", "a%2Fb", "..", "x/a"] {
                assert!(!is_of_one || !within.has(&route, &path(name)), "{route}: {name}");
            }
        }
        assert!(inside > 30, "{inside}");
        assert!(within.shows("a") && !within.shows("x") && everywhere.shows("x"));
    }

    #[test]
    fn a_role_that_is_too_low_is_told_both_roles() {
        let by = crate::cluster::test_actor();
        let viewer = Actor { role: UserRole::Viewer, ..by };
        assert!(must_be(&viewer, UserRole::Viewer).is_ok());
        let error = must_be(&viewer, UserRole::Operator).expect_err("too low").to_string();
        assert!(error.contains("`operator`, and deploy has `viewer`"), "{error}");
        assert!(error.contains("ctl user add NAME --role operator"), "{error}");
    }
}
