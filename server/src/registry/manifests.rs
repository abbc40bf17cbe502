//! Manifests and what speaks about them, over HTTP.

use super::failure::{Code, Failure};
use super::route::Reference;
use super::{CONTENT_DIGEST, Registry, bare, blocking, json, parameter, text};
use crate::content::{
    ContentError, Descriptor, Digest, MANIFEST_LIMIT, ManifestError, Repository, RepositoryName, media_type,
};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

impl Registry {
    pub(super) async fn manifest(
        &self,
        name: RepositoryName,
        reference: Reference,
        with_body: bool,
    ) -> Result<Response, Failure> {
        let repository = self.content.repository(&name);
        let (stored, bytes) = blocking(move || {
            let stored = repository.manifest(&digest_of(&repository, &reference)?).map_err(failed)?;
            let bytes = if with_body { repository.read_manifest(&stored).map_err(failed)? } else { Vec::new() };
            Ok((stored, bytes))
        })
        .await?;
        let mut response = bare(
            StatusCode::OK,
            [
                (header::CONTENT_TYPE, stored.media_type),
                (CONTENT_DIGEST, stored.digest.to_string()),
                (header::CONTENT_LENGTH, stored.size.to_string()),
                (header::ETAG, format!("\"{}\"", stored.digest)),
            ],
        )?;
        *response.body_mut() = Body::from(bytes);
        Ok(response)
    }

    pub(super) async fn put_manifest(
        &self,
        name: RepositoryName,
        reference: Reference,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Failure> {
        let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let bytes = whole(body).await?;
        let repository = self.content.repository(&name);
        let (stored, subject) = blocking(move || {
            let tag = match &reference {
                Reference::Tag(tag) => Some(tag),
                Reference::Digest(expected) => {
                    let (expected, actual) = (*expected, Digest::of(&bytes));
                    if expected != actual {
                        return Err(failed(ContentError::Digest { expected, actual }));
                    }
                    None
                }
            };
            let (stored, manifest) = repository.put_manifest(&bytes, &kind, tag).map_err(failed)?;
            Ok((stored, manifest.subject().map(|subject| subject.digest)))
        })
        .await?;
        let mut response = bare(
            StatusCode::CREATED,
            [
                (header::LOCATION, format!("/v2/{name}/manifests/{}", stored.digest)),
                (CONTENT_DIGEST, stored.digest.to_string()),
            ],
        )?;
        if let Some(subject) = subject {
            // Tells the client that it need not keep a list of referrers itself.
            let value = subject.to_string().try_into().map_err(std::io::Error::other)?;
            response.headers_mut().insert(SUBJECT, value);
        }
        Ok(response)
    }

    /// Removes a tag, or by digest the manifest with all its tags.
    pub(super) async fn delete_manifest(&self, name: RepositoryName, reference: Reference) -> Result<Response, Failure> {
        let repository = self.content.repository(&name);
        let removed = blocking(move || match &reference {
            Reference::Tag(tag) => Ok(repository.remove_tag(tag)?),
            Reference::Digest(digest) => repository.remove_manifest(digest).map_err(failed),
        });
        if removed.await? {
            bare(StatusCode::ACCEPTED, [])
        } else {
            Err(Failure::new(Code::ManifestUnknown, "the manifest is not there"))
        }
    }

    pub(super) async fn referrers(
        &self,
        name: RepositoryName,
        subject: Digest,
        query: &str,
    ) -> Result<Response, Failure> {
        let repository = self.content.repository(&name);
        let wanted = parameter(query, "artifactType").filter(|kind| !kind.is_empty());
        let found = blocking(move || repository.referrers(&subject).map_err(failed)).await?;
        let kept = found.into_iter().filter(|one| wanted.as_ref().is_none_or(|kind| *kind == one.artifact_type));
        let manifests: Vec<Descriptor> = kept
            .map(|one| Descriptor {
                media_type: one.stored.media_type,
                digest: one.stored.digest,
                size: one.stored.size,
                platform: None,
                artifact_type: Some(one.artifact_type).filter(|kind| !kind.is_empty()),
                annotations: one.annotations,
                urls: None,
            })
            .collect();
        let index =
            serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
        let mut response = json(media_type::OCI_INDEX, &index)?;
        if wanted.is_some() {
            response.headers_mut().insert(FILTERS, axum::http::HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    }
}

fn failed(error: ContentError) -> Failure {
    match error {
        ContentError::Manifest(ManifestError::TooLarge) => Failure::new(Code::SizeInvalid, error.to_string()),
        other => Failure::of(other, Code::ManifestUnknown),
    }
}

fn digest_of(repository: &Repository, reference: &Reference) -> Result<Digest, Failure> {
    match reference {
        Reference::Digest(digest) => Ok(*digest),
        Reference::Tag(tag) => repository.resolve(tag).map_err(failed),
    }
}

/// A manifest's bytes, as many as a manifest may have.
async fn whole(body: Body) -> Result<Vec<u8>, Failure> {
    match Limited::new(body, MANIFEST_LIMIT as usize).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(failed(ManifestError::TooLarge.into())),
        Err(error) => Err(failed(ContentError::Interrupted(error.to_string()))),
    }
}
