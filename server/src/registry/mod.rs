//! The image registry: the OCI distribution protocol, version 1.1, over the content store.
//!
//! Every answer about content goes by one path pattern, so routing is done by hand in [`route`]:
//! names of repositories have any number of parts, which no router pattern can take in the middle.

mod auth;
mod blobs;
mod failure;
mod manifests;
mod route;
mod uploads;

pub use auth::Auth;

use crate::content::{ContentStore, RepositoryName};
use crate::http::port::{self, Template};
use crate::http::tls::Wire;
use crate::metrics::Metrics;
use auth::Purpose;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use failure::{Code, Failure};
use route::Route;
use serde::Serialize;
use std::sync::Arc;

/// Says which protocol is spoken here, for clients of before the specification.
const API_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("docker-distribution-api-version"), HeaderValue::from_static("registry/2.0"));
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a page holds when the client does not say, and at most.
const PAGE: usize = 1000;

/// How a request came that no port took: from a program of this process.
const LOCAL: Wire = Wire { is_encrypted: false, is_local: true };

#[derive(Clone)]
struct Registry {
    content: Arc<ContentStore>,
    auth: Auth,
}

/// The registry as a router to be served on an address of its own.
pub fn router(content: Arc<ContentStore>, auth: Auth, metrics: Arc<Metrics>) -> Router {
    let routes = Router::new().route("/healthz", get(async || "ok\n")).fallback(any(handle));
    port::measured(port::layered(routes, bug), metrics).with_state(Registry { content, auth })
}

/// What a request gets that ran into a bug.
fn bug() -> Response {
    Failure::new(Code::Unknown, "the registry ran into a bug while it worked on this request").into_response()
}

async fn handle(State(registry): State<Registry>, request: Request) -> Response {
    let wire = request.extensions().get::<Wire>().copied().unwrap_or(LOCAL);
    let mut template = None;
    let answer = async {
        let route = route::parse(request.uri().path());
        template = route.as_ref().ok().map(|route| Template(route.template()));
        // Who may not ask does not learn what there could be.
        let purpose = route.as_ref().map_or(Purpose::Other, |route| Purpose::of(route, request.method()));
        registry.auth.check(purpose, wire, request.headers(), request.uri())?;
        registry.answer(route?, request).await
    };
    let mut response = answer.await.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(API_VERSION.0, API_VERSION.1);
    if let Some(template) = template {
        response.extensions_mut().insert(template);
    }
    response
}

impl Registry {
    async fn answer(&self, route: Route, request: Request) -> Result<Response, Failure> {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let (method, headers) = (&head.method, &head.headers);
        match route {
            Route::Version => match *method {
                Method::GET | Method::HEAD => json("application/json", &serde_json::json!({})),
                _ => Err(Failure::method(method)),
            },
            Route::Catalog => match *method {
                Method::GET => self.catalog(query).await,
                _ => Err(Failure::method(method)),
            },
            Route::Tags(name) => match *method {
                Method::GET => self.tags(name, query).await,
                _ => Err(Failure::method(method)),
            },
            Route::Referrers(name, subject) => match *method {
                Method::GET => self.referrers(name, subject, query).await,
                _ => Err(Failure::method(method)),
            },
            Route::Blob(name, digest) => match *method {
                Method::GET | Method::HEAD => self.blob(&name, digest, headers, *method == Method::GET).await,
                Method::DELETE => self.delete_blob(name, digest).await,
                _ => Err(Failure::method(method)),
            },
            Route::Uploads(name) => match *method {
                Method::POST => self.begin_upload(name, query, body).await,
                _ => Err(Failure::method(method)),
            },
            Route::Upload(name, id) => match *method {
                Method::GET | Method::HEAD => self.upload_status(name, id).await,
                Method::PATCH => self.continue_upload(name, id, headers, body).await,
                Method::PUT => self.end_upload(name, id, query, headers, body).await,
                Method::DELETE => self.cancel_upload(name, id).await,
                _ => Err(Failure::method(method)),
            },
            Route::Manifest(name, reference) => match *method {
                Method::GET | Method::HEAD => self.manifest(name, reference, *method == Method::GET).await,
                Method::PUT => self.put_manifest(name, reference, headers, body).await,
                Method::DELETE => self.delete_manifest(name, reference).await,
                _ => Err(Failure::method(method)),
            },
        }
    }

    async fn catalog(&self, query: &str) -> Result<Response, Failure> {
        let (n, last) = page(query)?;
        let content = self.content.clone();
        let (names, more) = blocking(move || Ok(content.repositories(n, &last)?)).await?;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut response = json("application/json", &serde_json::json!({ "repositories": names }))?;
        link_next(&mut response, "/v2/_catalog", n, more.then_some(names.last()).flatten());
        Ok(response)
    }

    async fn tags(&self, name: RepositoryName, query: &str) -> Result<Response, Failure> {
        let (n, last) = page(query)?;
        let repository = self.content.repository(&name);
        let (tags, more) = blocking(move || {
            if !repository.exists() {
                return Err(Failure::new(Code::NameUnknown, "the repository is not there"));
            }
            Ok(repository.tags(n, &last)?)
        })
        .await?;
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let body = serde_json::json!({ "name": name.as_str(), "tags": tags });
        let mut response = json("application/json", &body)?;
        link_next(&mut response, &format!("/v2/{name}/tags/list"), n, more.then_some(tags.last()).flatten());
        Ok(response)
    }
}

/// Length of the page that is asked for, and after which name it begins.
fn page(query: &str) -> Result<(usize, String), Failure> {
    let (mut n, mut last) = (PAGE, String::new());
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "n" => {
                let asked: usize = value.parse().map_err(|_| {
                    Failure::new(Code::PaginationNumberInvalid, "n is not a number").status(StatusCode::BAD_REQUEST)
                })?;
                n = asked.min(PAGE);
            }
            "last" => last = value.into_owned(),
            _ => {}
        }
    }
    Ok((n, last))
}

fn link_next(response: &mut Response, path: &str, n: usize, last: Option<&String>) {
    let link = last.and_then(|last| HeaderValue::try_from(format!("<{path}?n={n}&last={last}>; rel=\"next\"")).ok());
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn json(media_type: &'static str, body: &impl Serialize) -> Result<Response, Failure> {
    let text = serde_json::to_vec(body).map_err(std::io::Error::other)?;
    Ok(([(header::CONTENT_TYPE, media_type)], text).into_response())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An answer without a body, whose headers are all ours and therefore valid.
fn bare<const N: usize>(status: StatusCode, headers: [(HeaderName, String); N]) -> Result<Response, Failure> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::try_from(value).map_err(std::io::Error::other)?);
    }
    Ok(response)
}

/// Runs what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
