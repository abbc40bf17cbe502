//! Blobs over HTTP: asked after, read whole or in part, deleted.

use super::failure::{Code, Failure};
use super::{CONTENT_DIGEST, Registry, bare, blocking, text};
use crate::content::{Digest, RepositoryName};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use std::io::{Seek as _, SeekFrom};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

impl Registry {
    pub(super) async fn blob(
        &self,
        name: &RepositoryName,
        digest: Digest,
        headers: &HeaderMap,
        with_body: bool,
    ) -> Result<Response, Failure> {
        let repository = self.content.repository(name);
        let opened = blocking(move || {
            // A client that asks after a blob means to refer to it soon: that keeps it from collection.
            if !with_body && repository.blob(&digest)?.is_none() {
                return Err(Failure::new(Code::BlobUnknown, format!("{digest} is not in this repository")));
            }
            repository.open_blob(&digest).map_err(|error| Failure::of(error, Code::BlobUnknown))
        });
        let mut blob = opened.await?;
        let part = text(headers, &header::RANGE).filter(|_| with_body).map_or(Ok(None), |range| part(range, blob.size));
        let part = part.map_err(|Unsatisfiable| {
            Failure::new(Code::SizeInvalid, "the blob has no such range")
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .with(header::CONTENT_RANGE, format!("bytes */{}", blob.size))
        })?;
        let (status, first, length) = match part {
            Some((first, last)) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
            None => (StatusCode::OK, 0, blob.size),
        };
        let mut response = bare(
            status,
            [
                (CONTENT_DIGEST, digest.to_string()),
                (header::CONTENT_LENGTH, length.to_string()),
                (header::ETAG, format!("\"{digest}\"")),
            ],
        )?;
        let answered = response.headers_mut();
        answered.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        answered.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some((first, last)) = part {
            let range = format!("bytes {first}-{last}/{}", blob.size);
            answered.insert(header::CONTENT_RANGE, HeaderValue::try_from(range).map_err(std::io::Error::other)?);
        }
        if with_body {
            blob.file.seek(SeekFrom::Start(first))?;
            let reader = tokio::fs::File::from_std(blob.file).take(length);
            *response.body_mut() = Body::from_stream(ReaderStream::with_capacity(reader, 1 << 17));
        }
        Ok(response)
    }

    pub(super) async fn delete_blob(&self, name: RepositoryName, digest: Digest) -> Result<Response, Failure> {
        let repository = self.content.repository(&name);
        if blocking(move || Ok(repository.unlink_blob(&digest)?)).await? {
            bare(StatusCode::ACCEPTED, [])
        } else {
            Err(Failure::new(Code::BlobUnknown, format!("{digest} is not in this repository")))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// First and last byte that a `Range` header asks for. What is not one plain range is as good as none.
fn part(range: &str, size: u64) -> Result<Option<(u64, u64)>, Unsatisfiable> {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|one| one.split_once('-')) else {
        return Ok(None);
    };
    let whole = size.saturating_sub(1);
    let (first, last) = match (first, last) {
        ("", suffix) if plain(suffix) => match suffix.parse::<u64>().unwrap_or(u64::MAX) {
            0 => return Err(Unsatisfiable),
            n => (size.saturating_sub(n), whole),
        },
        (first, "") if plain(first) => (first.parse().unwrap_or(u64::MAX), whole),
        (first, last) if plain(first) && plain(last) => {
            let (first, last) = (first.parse().unwrap_or(u64::MAX), last.parse().unwrap_or(u64::MAX));
            if last < first {
                return Ok(None);
            }
            (first, last.min(whole))
        }
        _ => return Ok(None),
    };
    if first >= size { Err(Unsatisfiable) } else { Ok(Some((first, last))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        for (range, size, part_wanted) in [
            ("bytes=0-0", 10, Ok(Some((0, 0)))),
            ("bytes=2-5", 10, Ok(Some((2, 5)))),
            ("bytes=2-", 10, Ok(Some((2, 9)))),
            ("bytes=2-99", 10, Ok(Some((2, 9)))),
            ("bytes=-3", 10, Ok(Some((7, 9)))),
            ("bytes=-99", 10, Ok(Some((0, 9)))),
            ("bytes=-0", 10, Err(Unsatisfiable)),
            ("bytes=10-", 10, Err(Unsatisfiable)),
            ("bytes=0-", 0, Err(Unsatisfiable)),
            ("bytes=99999999999999999999999-", 10, Err(Unsatisfiable)),
            ("bytes=5-2", 10, Ok(None)),
            ("bytes=0-1,3-4", 10, Ok(None)),
            ("bytes=+1-4", 10, Ok(None)),
            ("bytes=-", 10, Ok(None)),
            ("lines=1-2", 10, Ok(None)),
            ("", 10, Ok(None)),
        ] {
            assert_eq!(part(range, size), part_wanted, "{range} of {size}");
        }
    }
}
