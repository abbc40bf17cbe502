//! What runs inside Pods: the roles of `knitd` that are a process of their own beside volumes.
//!
//! `knitd agent` serves volumes to servers; `knitd record-log` is the worker's recorder: it takes the log from main,
//! knows when main has ended, seals outputs and log, and tells servers through the same door; `knitd wrap` is what
//! main is started through; `knitd check-empty` makes sure that outputs are empty before anything is written.
//!
//! A door speaks HTTP/1.1 through TLS, to whoever has the token ([`server`]). An error of the engine crosses it and
//! is the same error on the other side.

pub use super::objects::pod::DOOR_PORT as PORT;

pub mod agent;
pub mod check_empty;
pub mod frames;
pub mod record;
pub mod server;
pub mod wrap;

use crate::engine::EngineError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// Trailer of an answer that broke off: why, in hex digits.
pub(super) const FAILED: &str = "x-knit-failed";

/// An [`EngineError`] on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
#[expect(missing_docs, reason = "each says what the error of the same name says")]
pub enum Told {
    BadContent { why: String },
    NotFound { what: String },
    Damaged { why: String },
    NoSpace { what: String },
    Unavailable { what: String, cause: String },
    Failed { what: String, cause: String },
}

impl From<EngineError> for Told {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::BadContent(why) => Self::BadContent { why },
            EngineError::NotFound(what) => Self::NotFound { what },
            EngineError::Damaged(why) => Self::Damaged { why },
            EngineError::NoSpace(what) => Self::NoSpace { what },
            EngineError::Unavailable { what, cause } => Self::Unavailable { what, cause },
            EngineError::Failed { what, cause } => Self::Failed { what, cause },
        }
    }
}

impl From<Told> for EngineError {
    fn from(told: Told) -> Self {
        match told {
            Told::BadContent { why } => Self::BadContent(why),
            Told::NotFound { what } => Self::NotFound(what),
            Told::Damaged { why } => Self::Damaged(why),
            Told::NoSpace { what } => Self::NoSpace(what),
            Told::Unavailable { what, cause } => Self::Unavailable { what, cause },
            Told::Failed { what, cause } => Self::Failed { what, cause },
        }
    }
}

/// What a door answers in place of what was asked for.
#[derive(Debug)]
pub struct Refused(pub EngineError);

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0 {
            EngineError::BadContent(_) => StatusCode::BAD_REQUEST,
            EngineError::NotFound(_) => StatusCode::NOT_FOUND,
            EngineError::Damaged(_) => StatusCode::CONFLICT,
            EngineError::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
            EngineError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            EngineError::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        json(status, &Told::from(self.0))
    }
}

/// The error that a door told; none if the body is no such thing.
pub(super) fn error_told(body: &[u8]) -> Option<EngineError> {
    serde_json::from_slice::<Told>(body).ok().map(EngineError::from)
}

/// One value as an answer.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    #[tokio::test]
    async fn every_error_of_the_engine_is_the_same_on_the_other_side() {
        let why = || "weil \"so\"\nist\u{0}".to_owned();
        for (status, error) in [
            (400, EngineError::BadContent(why())),
            (404, EngineError::NotFound(why())),
            (409, EngineError::Damaged(why())),
            (507, EngineError::NoSpace(why())),
            (503, EngineError::Unavailable { what: why(), cause: "x".to_owned() }),
            (500, EngineError::Failed { what: why(), cause: "x".to_owned() }),
        ] {
            let shown = format!("{error:?}");
            let answer = Refused(error).into_response();
            assert_eq!(answer.status(), status, "{shown}");
            let body = to_bytes(answer.into_body(), 1000).await.unwrap();
            assert_eq!(format!("{:?}", error_told(&body).unwrap()), shown);
        }
    }

    #[test]
    fn what_is_no_error_is_not_taken_for_one() {
        for body in ["", "{}", "null", r#"{"kind":"other"}"#, r#"{"kind":"notFound"}"#, "<html>"] {
            assert!(error_told(body.as_bytes()).is_none(), "{body}");
        }
    }
}
