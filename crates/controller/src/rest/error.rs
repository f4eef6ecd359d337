//! Failures as `{"error":{"message":…},"data":null}`.

use api::rest::{Actor, Data, Done, Failure, Message, UserRole};
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
    /// Of a 503: whether it was done, where that can be told.
    done: Option<Done>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), roles: None, is_outside: false, done: None }
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

    /// Nothing was done of it, and before long it may be: ask again.
    pub(super) fn not_done(message: impl Into<String>) -> Self {
        let done = Some(Done::No);
        Self { done, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// Whether it was done is not known.
    pub(super) fn unknown(message: impl Into<String>) -> Self {
        let done = Some(Done::Unknown);
        Self { done, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// Of a later step of what was asked for: what came before it was done.
    pub(super) fn midway(self) -> Self {
        Self { done: self.done.map(|_| Done::Unknown), ..self }
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
        let error = Message { message: self.message, needs, has, done: self.done };
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
            // A change that may be done yet is `Unknown`.
            UpdateError::Store(StoreError::Silent(_)) | UpdateError::Over => {
                Self::not_done(message)
            }
            UpdateError::Unknown(_) => Self::unknown(message),
            UpdateError::Store(StoreError::Lost(_)) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(error: UpdateError) -> (u16, Option<Done>) {
        let error = ApiError::from(error);
        (error.status.as_u16(), error.done)
    }

    #[test]
    fn a_503_says_whether_it_may_be_asked_for_again() {
        let silent = || UpdateError::Store(StoreError::Silent(Duration::from_secs(5)));
        assert_eq!(told(silent()), (503, Some(Done::No)));
        assert_eq!(told(UpdateError::Over), (503, Some(Done::No)));
        assert_eq!(told(UpdateError::Unknown("x".into())), (503, Some(Done::Unknown)));
        assert_eq!(told(UpdateError::Store(StoreError::Lost("x".into()))), (503, None));
        assert_eq!(told(UpdateError::Refused("x".into())), (400, None));
        let midway = ApiError::from(silent()).midway();
        assert_eq!(midway.done, Some(Done::Unknown));
        assert_eq!(ApiError::bad("x").midway().done, None);
    }

    #[test]
    fn what_a_program_reads_has_a_word_for_it() {
        let error = |done| Message { message: "m".into(), needs: None, has: None, done };
        let text = |done| serde_json::to_string(&error(done)).unwrap();
        assert_eq!(text(None), r#"{"message":"m"}"#);
        assert_eq!(text(Some(Done::No)), r#"{"message":"m","done":"no"}"#);
        assert_eq!(text(Some(Done::Unknown)), r#"{"message":"m","done":"unknown"}"#);
    }
}
