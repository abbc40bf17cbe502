//! What a request is refused with: a status, and the body that every error of the wire has.

use crate::engine::EngineError;
use crate::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use knit_api::id::PlanId;
use knit_api::problem::{Problem, in_words};
use knit_api::tag::TagError;
use knit_api::time::TimeError;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    problem: Problem,
}

/// What every handler returns.
pub(super) type Answer<T = Response> = Result<T, Refused>;

impl Refused {
    /// With a reason alone.
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, problem: Problem::new(reason) }
    }

    /// 400.
    pub(super) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// 404.
    pub(super) fn not_found(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, reason)
    }

    /// 409.
    pub(super) fn conflict(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, reason)
    }

    /// 500. The cause belongs into the log, not on the wire.
    pub(super) fn internal(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, reason).advice("Look for the cause in the server's log.")
    }

    /// 507.
    pub(super) fn no_space(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, reason)
            .advice("Remove Runs that are no longer needed, or give the server's disk more room; then try again.")
    }

    /// Adds what to do about it.
    pub(super) fn advice(mut self, advice: &str) -> Self {
        self.problem = self.problem.advice(advice);
        self
    }

    /// Adds the Plan that is there already.
    pub(super) fn plan(mut self, id: PlanId) -> Self {
        self.problem.plan_id = Some(id);
        self
    }

    /// What the engine could not do while it was `doing` something.
    pub(super) fn by_engine(doing: &str, error: &EngineError) -> Self {
        match error {
            EngineError::BadContent(why) => Self::bad_request(format!("{doing} failed: {}", in_words(why))),
            EngineError::NotFound(what) => Self::not_found(format!("{doing} failed: {what} is not there")),
            EngineError::Damaged(why) => {
                tracing::error!(%error, doing, "what is kept is damaged");
                let mut refused =
                    Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{doing} failed: {}", in_words(why)))
                        .advice("See what else is damaged: knit data verify DATA_ID");
                refused.problem.damaged = true;
                refused
            }
            EngineError::NoSpace(_) => {
                tracing::error!(%error, doing, "the disk is full");
                Self::no_space(format!("{doing} failed: the server's disk is full"))
            }
            EngineError::Unavailable { .. } => {
                tracing::warn!(%error, doing, "the engine cannot do it now");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{doing} failed: {}", in_words(&error.to_string())))
                    .advice("Try again in a moment; if it stays so, see what knitctl status says.")
            }
            EngineError::Failed { .. } => {
                tracing::error!(%error, doing, "the engine failed");
                Self::internal(format!("{doing} failed"))
            }
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        match error {
            StoreError::NoSpace => Self::no_space("the server's disk is full"),
            StoreError::Unavailable { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server's database does not answer; nothing was changed")
                    .advice("Try again in a moment.")
            }
            StoreError::Unsure { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the connection to the server's database broke; whether this was done is not known",
            )
            .advice("Look how it stands before you try again."),
            _ => Self::internal("the server's database did not do what was asked"),
        }
    }
}

impl From<TagError> for Refused {
    fn from(error: TagError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<TimeError> for Refused {
    fn from(error: TimeError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = super::answer::json(self.status, &self.problem);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
