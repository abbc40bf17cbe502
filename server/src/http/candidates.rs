//! Candidates: what begins as asked, for shells that complete and for those who type less than a whole id.

use super::answer;
use super::query::{Id, Query};
use super::refused::{Answer, Refused};
use crate::app::App;
use axum::extract::State;
use axum::http::StatusCode;
use knit_api::candidate::Kind;

/// How many are offered when the client does not say.
const USUAL: usize = 50;
/// How many are offered at most.
const MOST: usize = 200;
/// Longest beginning that is looked for, in characters.
const LONGEST_PREFIX: usize = 128;

/// `GET /candidates/{kind}?prefix=…&limit=…`, and for Plans also `name=…`: those that have exactly this name.
pub(super) async fn find(State(app): State<App>, Id(kind): Id<String>, query: Query) -> Answer {
    let Some(kind) = Kind::ALL.into_iter().find(|one| one.as_str() == kind) else {
        return Err(Refused::new(StatusCode::NOT_FOUND, "Not Found"));
    };
    let limit = query.limit(MOST)?.unwrap_or(USUAL);
    let prefix = query.first("prefix").unwrap_or_default();
    let found = match (query.first("name"), kind) {
        (None, _) if prefix.chars().nth(LONGEST_PREFIX).is_some() => {
            let why = format!("parameter prefix: it has more than {LONGEST_PREFIX} characters");
            return Err(Refused::bad_request(why));
        }
        (None, _) => app.store.candidates(kind, prefix, limit).await?,
        (Some(_), Kind::Plans) if !prefix.is_empty() => {
            return Err(Refused::bad_request("parameters name and prefix exclude each other"));
        }
        (Some(name), Kind::Plans) => app.store.plans_named(name, limit).await?,
        (Some(_), _) => return Err(Refused::bad_request("parameter name: only Plans are found by name")),
    };
    Ok(answer::list(found))
}
