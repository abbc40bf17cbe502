//! Upload sessions over HTTP.

use super::failure::{Code, Failure};
use super::{CONTENT_DIGEST, Registry, bare, blocking, parameter, text};
use crate::content::{ContentError, Digest, RepositoryName, UploadId};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Registry {
    /// Mounts a blob of another repository, or takes one whole, or begins a session.
    pub(super) async fn begin_upload(&self, name: RepositoryName, query: &str, body: Body) -> Result<Response, Failure> {
        let repository = self.content.repository(&name);
        if let Some(mount) = parameter(query, "mount") {
            let digest: Digest = mount.parse()?;
            let from: Option<RepositoryName> = parameter(query, "from").and_then(|from| from.parse().ok());
            let (content, target) = (self.content.clone(), repository.clone());
            let mounted = blocking(move || {
                let there = from.is_some_and(|from| content.repository(&from).blob(&digest).is_ok_and(|b| b.is_some()));
                Ok(there && target.link_blob(&digest)?)
            });
            if mounted.await? {
                return created(&name, &digest);
            }
        } else if let Some(digest) = parameter(query, "digest") {
            let digest: Digest = digest.parse()?;
            self.content.store_blob(body.into_data_stream(), digest).await.map_err(failed)?;
            blocking(move || Ok(repository.link_blob(&digest)?)).await?;
            return created(&name, &digest);
        }
        let id = blocking(move || Ok(repository.begin_upload()?)).await?;
        accepted(StatusCode::ACCEPTED, &name, &id, 0)
    }

    pub(super) async fn upload_status(&self, name: RepositoryName, id: UploadId) -> Result<Response, Failure> {
        let (repository, session) = (self.content.repository(&name), id.clone());
        let size = blocking(move || repository.upload_size(&session).map_err(failed)).await?;
        accepted(StatusCode::NO_CONTENT, &name, &id, size)
    }

    pub(super) async fn continue_upload(
        &self,
        name: RepositoryName,
        id: UploadId,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Failure> {
        let at = begins_at(headers)?;
        let repository = self.content.repository(&name);
        let size = repository.append_upload(&id, at, body.into_data_stream()).await;
        let size = size.map_err(|error| at_odds(error, &name, &id))?;
        accepted(StatusCode::ACCEPTED, &name, &id, size)
    }

    pub(super) async fn end_upload(
        &self,
        name: RepositoryName,
        id: UploadId,
        query: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Failure> {
        let none = || Failure::new(Code::DigestInvalid, "the parameter digest is missing");
        let digest: Digest = parameter(query, "digest").ok_or_else(none)?.parse()?;
        let at = begins_at(headers)?;
        let repository = self.content.repository(&name);
        let appended = repository.append_upload(&id, at, body.into_data_stream()).await;
        appended.map_err(|error| at_odds(error, &name, &id))?;
        repository.finish_upload(&id, &digest).await.map_err(failed)?;
        created(&name, &digest)
    }

    pub(super) async fn cancel_upload(&self, name: RepositoryName, id: UploadId) -> Result<Response, Failure> {
        let repository = self.content.repository(&name);
        blocking(move || repository.cancel_upload(&id).map_err(failed)).await?;
        bare(StatusCode::NO_CONTENT, [])
    }
}

fn failed(error: ContentError) -> Failure {
    Failure::of(error, Code::BlobUploadUnknown)
}

/// A chunk in the wrong place is answered with where the right one is.
fn at_odds(error: ContentError, name: &RepositoryName, id: &UploadId) -> Failure {
    match error {
        ContentError::Offset { at } => failed(error)
            .with(header::LOCATION, location(name, id))
            .with(header::RANGE, received(at))
            .with(UPLOAD_ID, id.to_string()),
        other => failed(other),
    }
}

/// Where a chunk says it begins: `Content-Range: <first>-<last>`, which some clients put after `bytes `.
fn begins_at(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(range) = text(headers, &header::CONTENT_RANGE) else { return Ok(None) };
    let range = range.trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    let range = range.split('/').next().unwrap_or_default();
    let bounds = range.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let wrong = || Failure::new(Code::BlobUploadInvalid, "Content-Range is not <first>-<last>");
    let (first, last): (u64, u64) = bounds.ok_or_else(wrong)?;
    let length = text(headers, &header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if last.checked_sub(first).and_then(|n| n.checked_add(1)).is_none_or(|n| length.is_some_and(|length| length != n)) {
        return Err(Failure::new(Code::SizeInvalid, "Content-Range and Content-Length do not agree")
            .status(StatusCode::BAD_REQUEST));
    }
    Ok(Some(first))
}

fn location(name: &RepositoryName, id: &UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// What was received, as first and last byte. The protocol has no word for nothing, so that is `0-0`.
fn received(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn accepted(status: StatusCode, name: &RepositoryName, id: &UploadId, size: u64) -> Result<Response, Failure> {
    bare(
        status,
        [(header::LOCATION, location(name, id)), (header::RANGE, received(size)), (UPLOAD_ID, id.to_string())],
    )
}

fn created(name: &RepositoryName, digest: &Digest) -> Result<Response, Failure> {
    bare(
        StatusCode::CREATED,
        [(header::LOCATION, format!("/v2/{name}/blobs/{digest}")), (CONTENT_DIGEST, digest.to_string())],
    )
}
