//! Plans: searched, registered, shown, changed, switched on and off, waited for.

use super::answer;
use super::list;
use super::query::{Id, Query};
use super::refused::{Answer, Refused};
use super::wait::Wait;
use crate::app::App;
use crate::clock;
use crate::rules;
use crate::store::{PlanQuery, Registered};
use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use knit_api::id::PlanId;
use knit_api::image::ImageQuery;
use knit_api::plan::{AnnotationChange, PlanSpec, Quiet, ResourceChange, ServiceAccountChange};
use serde::de::DeserializeOwned;

pub(super) fn no_such(id: &PlanId) -> Refused {
    Refused::not_found(format!("there is no Plan {id}"))
}

/// `GET /plans`.
pub(super) async fn find(State(app): State<App>, query: Query) -> Answer {
    let active = query.flag("active")?;
    let image = query.first("image").map(str::parse::<ImageQuery>).transpose();
    let image = image.map_err(|error| Refused::bad_request(format!("parameter image: {error}")))?;
    let (in_tags, out_tags) = (query.tags("in_tag")?, query.tags("out_tag")?);
    list::find(&app, &query, PlanQuery { active, image, in_tags, out_tags }).await
}

/// `GET /plans/{id}`.
pub(super) async fn show(State(app): State<App>, Id(id): Id<PlanId>) -> Answer {
    let plan = app.store.plan(&id).await?.ok_or_else(|| no_such(&id))?;
    Ok(answer::ok(&plan))
}

/// `POST /plans`.
pub(super) async fn register(State(app): State<App>, headers: HeaderMap, body: Body) -> Answer {
    let spec = read(&headers, body).await?;
    match app.store.register_plan(&spec).await? {
        Registered::New(id) => {
            app.wake.project.notify_one();
            app.wake.changed();
            show(State(app), Id(id)).await
        }
        Registered::Equal(id) => Err(Refused::conflict(format!("an equal Plan is registered already: {id}")).plan(id)),
        Registered::Cycle(plans) => Err(Refused::conflict(cycle(&plans))
            .advice("Give the outputs or the log a tag that none of these Plans' inputs ask for.")),
    }
}

/// The Plan in the body, checked and in normal form.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Answer<PlanSpec> {
    require_json(headers)?;
    let spec: PlanSpec = answer::read_json(body).await?;
    rules::plan::check(spec).map_err(|error| Refused::bad_request(error.to_string()))
}

fn cycle(plans: &[PlanId]) -> String {
    if plans.is_empty() {
        return "the Plan's outputs would feed its own inputs".to_owned();
    }
    let names: Vec<&str> = plans.iter().map(PlanId::as_str).collect();
    format!("the Plan would feed itself, through these Plans: {}", names.join(", "))
}

fn require_json(headers: &HeaderMap) -> Answer<()> {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = named.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refused::bad_request(format!("the content type is \"{named}\"")).advice("Send it as application/json."))
}

/// The body of a change. None at all, whatever its type, is a change of nothing.
async fn read_change<T: DeserializeOwned + Default>(headers: &HeaderMap, body: Body) -> Answer<T> {
    if body.size_hint().exact() == Some(0) {
        return Ok(T::default());
    }
    require_json(headers)?;
    answer::read_json(body).await
}

fn wrong(faults: &rules::plan::Faults) -> Refused {
    Refused::bad_request(faults.to_string())
}

/// `PUT /plans/{id}/active`.
pub(super) async fn activate(state: State<App>, id: Id<PlanId>) -> Answer {
    set_active(state, id, true).await
}

/// `DELETE /plans/{id}/active`.
pub(super) async fn deactivate(state: State<App>, id: Id<PlanId>) -> Answer {
    set_active(state, id, false).await
}

async fn set_active(State(app): State<App>, Id(id): Id<PlanId>, active: bool) -> Answer {
    if !app.store.set_active(&id, active, clock::now()).await? {
        return Err(
            no_such(&id).advice("Name a Plan that has an image: those without are built in and cannot be switched.")
        );
    }
    app.wake.project.notify_one();
    app.wake.initialize.notify_one();
    app.wake.changed();
    show(State(app), Id(id)).await
}

/// `PUT /plans/{id}/resources`, also of built-in Plans.
pub(super) async fn change_resources(
    State(app): State<App>,
    Id(id): Id<PlanId>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let change: ResourceChange = read_change(&headers, body).await?;
    rules::plan::check_resource_change(&change).map_err(|faults| wrong(&faults))?;
    if !app.store.change_resources(&id, &change, clock::now()).await? {
        return Err(no_such(&id));
    }
    app.wake.run.notify_one();
    show(State(app), Id(id)).await
}

/// `PUT /plans/{id}/annotations`, also of built-in Plans.
pub(super) async fn annotate(State(app): State<App>, Id(id): Id<PlanId>, headers: HeaderMap, body: Body) -> Answer {
    let change: AnnotationChange = read_change(&headers, body).await?;
    rules::plan::check_annotation_change(&change).map_err(|faults| wrong(&faults))?;
    if !app.store.annotate(&id, &change).await? {
        return Err(no_such(&id));
    }
    show(State(app), Id(id)).await
}

/// `PUT /plans/{id}/serviceaccount`, also of built-in Plans.
pub(super) async fn set_service_account(state: State<App>, id: Id<PlanId>, headers: HeaderMap, body: Body) -> Answer {
    let ServiceAccountChange { service_account: name } = read_change(&headers, body).await?;
    rules::plan::check_service_account_name(&name).map_err(|faults| wrong(&faults))?;
    put_service_account(state, id, &name).await
}

/// `DELETE /plans/{id}/serviceaccount`; there need not be one.
pub(super) async fn unset_service_account(state: State<App>, id: Id<PlanId>) -> Answer {
    put_service_account(state, id, "").await
}

async fn put_service_account(State(app): State<App>, Id(id): Id<PlanId>, name: &str) -> Answer {
    if !app.store.set_service_account(&id, name).await? {
        return Err(no_such(&id));
    }
    show(State(app), Id(id)).await
}

/// `GET /plans/{id}/wait`: answers when no Run of the Plan is under way, or when the time is over.
pub(super) async fn wait(State(app): State<App>, Id(id): Id<PlanId>, query: Query) -> Answer {
    let mut wait = Wait::begin(&app, &query)?;
    loop {
        let quiet = app.store.plan_is_quiet(&id).await?.ok_or_else(|| no_such(&id))?;
        if quiet || !wait.changed().await {
            return Ok(answer::ok(&Quiet { quiet }));
        }
    }
}
