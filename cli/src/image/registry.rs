//! The registry as a client sees it: the part of the OCI distribution protocol that pushing and
//! listing need.

use super::{Access, ImageError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use knit_api::problem::reasons;
use knit_api::server::Registry;
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use std::error::Error as _;
use std::time::Duration;

/// Largest document that is read whole.
const DOCUMENT_LIMIT: usize = 8 << 20;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A connection to one registry.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    host: String,
    token: Option<String>,
}

/// A manifest as the registry gave it.
pub(super) struct Fetched {
    pub digest: Option<String>,
    pub bytes: Vec<u8>,
}

impl Client {
    pub(super) fn new(registry: &Registry, access: &Access) -> Result<Self, ImageError> {
        let scheme = if registry.insecure { "http" } else { "https" };
        let host = registry.host.clone();
        let unusable = |cause: String| ImageError::Unreachable { registry: registry.host.clone(), cause };
        let base = Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|error| unusable(error.to_string()))?;
        let ca = access.ca.as_deref().map(reqwest::Certificate::from_pem_bundle).transpose();
        let ca = ca.map_err(|error| unusable(format!("cert.ca cannot be used: {}", reasons(&error))))?;
        let http = knit_api::client::connections(&base)
            .tls_certs_merge(ca.into_iter().flatten())
            .read_timeout(Duration::from_mins(5))
            // The token must not travel to wherever an answer points.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| unusable(reasons(&error)))?;
        Ok(Self { http, base, host, token: access.token.clone() })
    }

    /// True when the repository has this blob.
    pub(super) async fn has_blob(&self, name: &str, digest: &str) -> Result<bool, ImageError> {
        let what = format!("looking for {digest}");
        let response = self.send(self.request(Method::HEAD, self.url(&format!("{name}/blobs/{digest}"))?)).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            _ => self.expect(response, &what).await.map(|_| true),
        }
    }

    /// Asks where a blob may be sent to.
    pub(super) async fn begin_upload(&self, name: &str) -> Result<Url, ImageError> {
        let what = format!("beginning an upload to {name}");
        let request = self.request(Method::POST, self.url(&format!("{name}/blobs/uploads/"))?);
        let response = self.send(request.header(header::CONTENT_LENGTH, 0)).await?;
        let response = self.expect(response, &what).await?;
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let place = location.and_then(|location| self.base.join(location).ok());
        place.ok_or_else(|| self.failed(&what, "it did not say where to send the blob to".to_owned()))
    }

    /// Sends a whole blob to where an upload was begun.
    pub(super) async fn end_upload(
        &self,
        mut place: Url,
        digest: &str,
        size: u64,
        body: reqwest::Body,
    ) -> Result<(), ImageError> {
        place.query_pairs_mut().append_pair("digest", digest);
        let request = self.request(Method::PUT, place);
        let request = request
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, size)
            .body(body);
        let response = self.send(request).await?;
        self.expect(response, &format!("taking {digest}")).await.map(drop)
    }

    /// Stores a manifest under a tag or its digest.
    pub(super) async fn put_manifest(
        &self,
        name: &str,
        reference: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<(), ImageError> {
        let request = self.request(Method::PUT, self.url(&format!("{name}/manifests/{reference}"))?);
        let response = self.send(request.header(header::CONTENT_TYPE, media_type).body(bytes)).await?;
        self.expect(response, &format!("taking the manifest {name}:{reference}")).await.map(drop)
    }

    /// Reads a manifest by tag or digest; nothing if it is not there.
    pub(super) async fn manifest(&self, name: &str, reference: &str) -> Result<Option<Fetched>, ImageError> {
        let what = format!("reading the manifest {name}:{reference}");
        let request = self.request(Method::GET, self.url(&format!("{name}/manifests/{reference}"))?);
        let response = self.send(request.header(header::ACCEPT, MANIFESTS)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = self.expect(response, &what).await?;
        let digest = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Some(Fetched { digest, bytes: self.document(response, &what).await? }))
    }

    /// All strings in the member `member` of the lists that begin at `path`, page by page. A list that
    /// is not there is empty.
    pub(super) async fn names(&self, path: &str, member: &str) -> Result<Vec<String>, ImageError> {
        let what = format!("listing {path}");
        let mut names = Vec::new();
        let mut next = Some(self.url(path)?);
        while let Some(url) = next.take() {
            let response = self.send(self.request(Method::GET, url.clone())).await?;
            if response.status() == StatusCode::NOT_FOUND {
                break;
            }
            let response = self.expect(response, &what).await?;
            next = next_page(response.headers(), &url);
            let bytes = self.document(response, &what).await?;
            let mut page: serde_json::Value =
                serde_json::from_slice(&bytes).map_err(|error| self.failed(&what, error.to_string()))?;
            let listed = page.get_mut(member).map(serde_json::Value::take).unwrap_or_default();
            let listed: Option<Vec<String>> =
                serde_json::from_value(listed).map_err(|error| self.failed(&what, error.to_string()))?;
            let before = names.len();
            names.extend(listed.unwrap_or_default());
            if names.len() == before {
                break;
            }
        }
        Ok(names)
    }

    pub(super) fn failed(&self, what: &str, cause: String) -> ImageError {
        ImageError::Registry { registry: self.host.clone(), what: what.to_owned(), cause }
    }

    fn url(&self, path: &str) -> Result<Url, ImageError> {
        self.base.join(path).map_err(|error| self.failed(path, error.to_string()))
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        // An upload may be sent elsewhere; the token may not.
        let ours = url.origin() == self.base.origin();
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) if ours => request.basic_auth("knit", Some(token)),
            _ => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ImageError> {
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &reqwest::Error) -> ImageError {
        // The address may hold the state of an upload, and says nothing more than the host.
        let cause = error.source().map_or_else(|| error.to_string(), reasons);
        ImageError::Unreachable { registry: self.host.clone(), cause }
    }

    /// The response if it is a success, else the error that it is.
    async fn expect(&self, response: Response, what: &str) -> Result<Response, ImageError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(ImageError::NotAuthorised { registry: self.host.clone() });
        }
        let body = self.document(response, what).await.unwrap_or_default();
        let said = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|body| {
            let first = body.get("errors")?.get(0)?;
            let text = |member: &str| first.get(member).and_then(serde_json::Value::as_str).unwrap_or_default();
            Some(format!("{} ({})", text("message"), text("code")))
        });
        Err(self.failed(what, said.unwrap_or_else(|| format!("HTTP {status}"))))
    }

    async fn document(&self, response: Response, what: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk: Bytes = chunk.map_err(|error| self.unreachable(&error))?;
            if bytes.len() + chunk.len() > DOCUMENT_LIMIT {
                return Err(self.failed(what, "its answer is too long".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// `Link: <…>; rel="next"`, as long as it stays with the same registry.
fn next_page(headers: &HeaderMap, from: &Url) -> Option<Url> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let (target, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = from.join(target).ok()?;
    (relation.contains("next") && next.origin() == from.origin()).then_some(next)
}
