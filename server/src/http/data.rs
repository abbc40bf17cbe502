//! Data: searched, pushed, pulled, tagged.

use super::answer;
use super::list;
use super::query::{Id, Query};
use super::refused::{Answer, Refused};
use super::runs;
use super::transfer::{self, Download};
use crate::app::App;
use crate::clock;
use crate::engine::{Form, Registered, Sealed, Volume};
use crate::metrics::Direction;
use crate::store::{DataQuery, Located, Refusal, StoreError, Upload};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use knit_api::bundle::Selection;
use knit_api::endpoint::{CHECKSUM_MD5, DIGEST, INCLUDE};
use knit_api::id::DataId;
use knit_api::tag::{PROCESSING, Tag, TagChange, TagSet};

pub(super) fn no_such(id: &DataId) -> Refused {
    Refused::not_found(format!("there is no Data {id}"))
}

async fn show(app: &App, id: &DataId) -> Answer {
    let data = app.store.data(id).await?.ok_or_else(|| no_such(id))?;
    Ok(answer::ok(&data))
}

/// `GET /data`.
pub(super) async fn find(State(app): State<App>, query: Query) -> Answer {
    let tags = query.tags("tag")?;
    let (since, until) = query.period()?;
    let transient = query.flag("transient")?;
    list::find(&app, &query, DataQuery { tags, since, until, transient }).await
}

/// `PUT /data/{id}`.
pub(super) async fn change_tags(State(app): State<App>, Id(id): Id<DataId>, body: Body) -> Answer {
    let change: TagChange = answer::read_json(body).await?;
    change.check()?;
    if !app.store.change_tags(&id, &change).await? {
        return Err(no_such(&id));
    }
    app.wake.project.notify_one();
    app.wake.changed();
    show(&app, &id).await
}

/// `DELETE /data/{id}`: removes the Run that made it, with everything that it made; answered as the removal of a Run
/// is.
pub(super) async fn remove(State(app): State<App>, Id(id): Id<DataId>) -> Answer {
    match app.store.remove_data(&id, clock::now()).await? {
        Ok(_) => Ok(runs::removed(&app)),
        Err((_, Refusal::NotFound)) => Err(no_such(&id)),
        Err((run, refusal)) => Err(runs::refused(&run, runs::REMOVE, refusal)),
    }
}

/// `POST /data`. Whatever can be refused without the bytes is refused before they are read.
pub(super) async fn upload(State(app): State<App>, query: Query, headers: HeaderMap, body: Body) -> Answer {
    let tags = first_tags(&query)?;
    let id = DataId::new(clock::new_id());
    let volume = Volume::of(&id);
    fail::fail_point!("push-begin");
    let sealed = receive(&app, &volume, transfer::form_of_body(&headers), body).await?;
    fail::fail_point!("push-received");
    // From here on the bytes are there: a client that leaves now must not leave them without a row.
    let upload = Upload { data: id.clone(), volume, sealed, tags };
    let registering = tokio::spawn(register(app.clone(), upload));
    registering.await.map_err(|_| Refused::internal("registering the Data ran into a bug"))??;
    show(&app, &id).await
}

fn first_tags(query: &Query) -> Answer<Vec<Tag>> {
    let tags = query.all("tag").map(Tag::parse_user).collect::<Result<TagSet, _>>();
    let tags = tags.map_err(|error| Refused::bad_request(format!("parameter tag: {error}")))?;
    Ok(tags.into_iter().collect())
}

/// Takes the bytes into a new volume, to the end of the body and no matter where the archive ends.
async fn receive(app: &App, volume: &Volume, form: Form, body: Body) -> Answer<Sealed> {
    let (stream, returned) = transfer::Upload::new(body, form).lend();
    let stream = transfer::counted(stream, app.metrics.transferred(Direction::In));
    let received = app.engine.receive(volume, form, stream).await;
    let body = returned.await.map_err(|_| Refused::internal("receiving the Data ran into a bug"))?;
    match received {
        Ok(sealed) => match body.verdict().await {
            Ok(()) => Ok(sealed),
            Err(fault) => {
                discard(app, volume).await;
                Err(Refused::bad_request(format!("the Data was not taken: {fault}")))
            }
        },
        Err(error) => Err(match body.fault() {
            Some(fault) => Refused::bad_request(format!("the Data was not taken: {fault}")),
            None => Refused::by_engine("receiving the Data", &error),
        }),
    }
}

async fn register(app: App, upload: Upload) -> Answer<()> {
    if let Err(error) = app.store.add_upload(&upload, clock::now()).await {
        // What may have its row keeps its bytes; if it has none, housekeeping removes them.
        if !matches!(error, StoreError::Unsure { .. }) {
            discard(&app, &upload.volume).await;
        }
        return Err(error.into());
    }
    fail::fail_point!("push-registered");
    app.wake.project.notify_one();
    app.wake.changed();
    Ok(())
}

/// Removes bytes that got no row. When that fails, housekeeping finds them later.
async fn discard(app: &App, volume: &Volume) {
    if let Err(error) = app.engine.remove_volume(volume).await {
        tracing::error!(%volume, %error, "the bytes of a refused push could not be removed yet");
    }
}

/// Where the content of a Data is, once it is final. That of a failed Run may be looked at: it is what one wants then.
pub(super) async fn located(app: &App, id: &DataId) -> Answer<Located> {
    let place = app.store.locate(id).await?.ok_or_else(|| no_such(id))?;
    if place.status.transient() == Some(PROCESSING) {
        let status = place.status;
        return Err(Refused::conflict(format!("Data {id} is still being made: its Run is {status}"))
            .advice("Wait until the Run is done, then try again."));
    }
    Ok(place)
}

/// `GET /data/{id}`; with `include`, which may be repeated, only what these globs take.
pub(super) async fn download(State(app): State<App>, Id(id): Id<DataId>, query: Query, headers: HeaderMap) -> Answer {
    let globs: Vec<&str> = query.all(INCLUDE).collect();
    let only = Selection::new(&globs).map_err(|error| Refused::bad_request(format!("parameter {INCLUDE}: {error}")))?;
    let place = located(&app, &id).await?;
    let form = transfer::form_wanted(&headers);
    let registered = place
        .digest
        .filter(|_| globs.is_empty())
        .map(|digest| Registered { digest, compared_by_receiver: form != Form::TarGz && headers.contains_key(DIGEST) });
    let stream = if globs.is_empty() {
        app.engine.send(&place.volume, form, registered.as_ref()).await
    } else {
        app.engine.send_part(&place.volume, form, only).await
    };
    let stream = stream.map_err(|error| Refused::by_engine(&format!("reading Data {id}"), &error))?;
    let stream = transfer::counted(stream, app.metrics.transferred(Direction::Out));

    let trailer = form == Form::TarGz && transfer::takes_trailers(&headers);
    let mut response = Response::new(Body::new(Download::new(stream, trailer, format!("Data {id}"))));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, transfer::media_type(form));
    if let Some(Registered { digest, .. }) = registered {
        let digest = HeaderValue::from_str(&digest).map_err(|_| Refused::internal("the Data has no proper digest"))?;
        response.headers_mut().insert(HeaderName::from_static(DIGEST), digest);
    }
    if trailer {
        response.headers_mut().insert(header::TRAILER, HeaderValue::from_static(CHECKSUM_MD5));
    }
    Ok(response)
}
