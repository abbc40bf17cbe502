//! What a change would come to: of a deed on a Run, of the removal of a Data, of a change of tags. Nothing changes.

use super::answer;
use super::data;
use super::query::{Id, Query};
use super::refused::{Answer, Refused};
use super::runs;
use crate::app::App;
use crate::store::Refusal;
use axum::body::Body;
use axum::extract::State;
use knit_api::id::{DataId, RunId};
use knit_api::impact::{self, Deed, RunImpact};
use knit_api::tag::TagChange;

fn deed(query: &Query) -> Answer<Deed> {
    let named = query.first("of").unwrap_or_default();
    named.parse().map_err(|error| Refused::bad_request(format!("parameter of: {error}")))
}

/// `GET /runs/{id}/impact?of=rm|retry`.
pub(super) async fn of_deed(State(app): State<App>, Id(id): Id<RunId>, query: Query) -> Answer {
    let impact = look(&app, &id, deed(&query)?).await?;
    Ok(answer::ok(&impact.ok_or_else(|| runs::no_such(&id))?))
}

/// `GET /data/{id}/impact?of=rm`: of the removal of the Run that made it.
pub(super) async fn of_removal(State(app): State<App>, Id(id): Id<DataId>, query: Query) -> Answer {
    if deed(&query)? != Deed::Rm {
        return Err(Refused::bad_request("parameter of: only rm can be asked about a Data"));
    }
    let run = app.store.run_of(&id).await?.ok_or_else(|| data::no_such(&id))?;
    let impact = look(&app, &run, Deed::Rm).await?;
    Ok(answer::ok(&impact.ok_or_else(|| data::no_such(&id))?))
}

async fn look(app: &App, id: &RunId, of: Deed) -> Answer<Option<RunImpact>> {
    let found = app.store.run_impact(id, of).await?;
    Ok(found.map(|(impact, refusal)| RunImpact { refused: refusal.map(|refusal| told(id, of, refusal)), ..impact }))
}

fn told(id: &RunId, of: Deed, refusal: Refusal) -> impact::Refusal {
    let can = match of {
        Deed::Rm => runs::REMOVE,
        Deed::Retry => runs::RETRY,
    };
    let reason = runs::words(id, can, &refusal);
    let downstreams = match refusal {
        Refusal::HasDownstreams(runs) => runs,
        _ => Vec::new(),
    };
    impact::Refusal { reason, downstreams }
}

/// `POST /data/{id}/impact` with a change of tags.
pub(super) async fn of_tags(State(app): State<App>, Id(id): Id<DataId>, body: Body) -> Answer {
    let change: TagChange = answer::read_json(body).await?;
    change.check()?;
    let impact = app.store.tag_impact(&id, &change).await?;
    Ok(answer::ok(&impact.ok_or_else(|| data::no_such(&id))?))
}
