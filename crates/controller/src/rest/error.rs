//! Failures as `{"error":{"message":…},"data":null}`.

use api::rest::{Actor, Data, Failure, Message, UserRole};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::client::ClientError;
use crate::cluster::UpdateError;
use crate::store::StoreError;

/// What a client is told.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    /// What is needed and what there is, where that is why.
    roles: Option<(UserRole, UserRole)>,
    /// It is none of the namespaces to which the user is limited.
    is_outside: bool,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), roles: None, is_outside: false }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// The role of whoever asks is too low.
    pub(super) fn forbidden(by: &Actor, needs: UserRole) -> Self {
        let message = format!(
            "this needs the role `{needs}`, and {} has `{}`: an admin gives it with `ctl user add NAME --role {needs}`",
            by.who, by.role
        );
        Self { roles: Some((needs, by.role)), ..Self::new(StatusCode::FORBIDDEN, message) }
    }

    /// The user is limited to other namespaces.
    pub(super) fn outside(by: &Actor, namespaces: &[String]) -> Self {
        let message = format!(
            "user {} is limited to namespaces {}, and this is of another, or of all",
            by.who,
            namespaces.join(", ")
        );
        Self { is_outside: true, ..Self::new(StatusCode::FORBIDDEN, message) }
    }

    /// What a user that is limited may not do within its namespaces either: it could reach others.
    pub(super) fn beyond(message: impl Into<String>) -> Self {
        Self { is_outside: true, ..Self::new(StatusCode::FORBIDDEN, message) }
    }

    /// A node that could not be asked.
    pub(super) fn node(address: &impl std::fmt::Display, error: &ClientError) -> Self {
        Self::bad(format!("node {address}: {error}"))
    }
}

/// Of a response: it refuses because of a role, whichever place found it out.
#[derive(Debug, Clone, Copy)]
pub(super) struct TooLow {
    pub(super) needs: UserRole,
}

/// Of a response: it refuses because of a namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outside;

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (needs, has) = self.roles.unzip();
        let error = Message { message: self.message, needs, has };
        let body = Failure { error, data: () };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(needs) = needs {
            response.extensions_mut().insert(TooLow { needs });
        }
        if self.is_outside {
            response.extensions_mut().insert(Outside);
        }
        response
    }
}

impl From<UpdateError> for ApiError {
    fn from(error: UpdateError) -> Self {
        let message = error.to_string();
        match error {
            UpdateError::Store(StoreError::NotFound) => Self::not_found(message),
            UpdateError::Store(
                StoreError::Exists | StoreError::Conflict | StoreError::Used { .. },
            ) => Self::conflict(message),
            UpdateError::Store(StoreError::NotEmpty) => Self::new(StatusCode::FORBIDDEN, message),
            UpdateError::Refused(_) | UpdateError::Record(_) | UpdateError::Topology(_) => {
                Self::bad(message)
            }
            UpdateError::Store(StoreError::Silent(_) | StoreError::Lost(_))
            | UpdateError::Unknown(_)
            | UpdateError::Over => Self::new(StatusCode::SERVICE_UNAVAILABLE, message),
            UpdateError::Store(ref inner) => Self::failed(inner.chain()),
            UpdateError::Gone => Self::failed(message),
        }
    }
}

/// Refusals of the door and of the server itself, in the same form.
pub(super) fn say(status: StatusCode, message: String) -> Response {
    ApiError::new(status, message).into_response()
}

/// 200 with data.
pub(super) fn ok<T: Serialize>(data: T) -> Response {
    Json(Data { data }).into_response()
}

/// 201 with data.
pub(super) fn created<T: Serialize>(data: T) -> Response {
    (StatusCode::CREATED, Json(Data { data })).into_response()
}

/// 204.
pub(super) fn gone() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
