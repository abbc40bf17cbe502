//! From a path to what it means, with every name in it checked.

use super::failure::{Code, Failure};
use crate::content::{Digest, RepositoryName, TagName, UploadId};
use axum::http::StatusCode;

/// What a path is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Version,
    Catalog,
    Tags(RepositoryName),
    Referrers(RepositoryName, Digest),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, UploadId),
    Manifest(RepositoryName, Reference),
}

impl Route {
    /// The path with its names left out.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::Version => "/v2/",
            Self::Catalog => "/v2/_catalog",
            Self::Tags(_) => "/v2/{name}/tags/list",
            Self::Referrers(..) => "/v2/{name}/referrers/{digest}",
            Self::Blob(..) => "/v2/{name}/blobs/{digest}",
            Self::Uploads(_) => "/v2/{name}/blobs/uploads",
            Self::Upload(..) => "/v2/{name}/blobs/uploads/{id}",
            Self::Manifest(..) => "/v2/{name}/manifests/{reference}",
        }
    }
}

/// How a manifest is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Tag(TagName),
    Digest(Digest),
}

/// Reads a path. The last of the protocol's own words decides, because names may contain them, too.
pub(super) fn parse(path: &str) -> Result<Route, Failure> {
    let path = percent_decoded(path)?;
    let unknown = || Failure::new(Code::Unsupported, "there is nothing at this path").status(StatusCode::NOT_FOUND);
    let rest = match path.strip_prefix("/v2") {
        Some("" | "/") => return Ok(Route::Version),
        Some(rest) => rest.strip_prefix('/').ok_or_else(unknown)?,
        None => return Err(unknown()),
    };
    if rest == "_catalog" {
        return Ok(Route::Catalog);
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Ok(Route::Tags(name.parse()?));
    }
    if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
        return Ok(Route::Uploads(name.parse()?));
    }
    let (front, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
    if let Some(name) = front.strip_suffix("/blobs/uploads") {
        let gone = || Failure::new(Code::BlobUploadUnknown, "there is no such upload");
        return Ok(Route::Upload(name.parse()?, UploadId::parse(last).ok_or_else(gone)?));
    }
    if let Some(name) = front.strip_suffix("/blobs") {
        return Ok(Route::Blob(name.parse()?, last.parse()?));
    }
    if let Some(name) = front.strip_suffix("/referrers") {
        return Ok(Route::Referrers(name.parse()?, last.parse()?));
    }
    if let Some(name) = front.strip_suffix("/manifests") {
        let reference =
            if last.contains(':') { Reference::Digest(last.parse()?) } else { Reference::Tag(last.parse()?) };
        return Ok(Route::Manifest(name.parse()?, reference));
    }
    Err(unknown())
}

/// Some clients escape the colon of a digest.
fn percent_decoded(path: &str) -> Result<String, Failure> {
    if !path.contains('%') {
        return Ok(path.to_owned());
    }
    let wrong = || Failure::new(Code::NameInvalid, "the path is not well escaped");
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let code = tail.get(..2).and_then(|two| hex::decode(two).ok()).ok_or_else(wrong)?;
            bytes.extend(code);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_the_specification_says() {
        let digest = Digest::of(b"");
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let tag = |text: &str| Reference::Tag(text.parse().unwrap());
        let id = "5b3bd3cf-2d5f-4a3c-9f4e-6f2f0f1d3c11";
        for (path, route) in [
            ("/v2".to_owned(), Route::Version),
            ("/v2/".to_owned(), Route::Version),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/tags/list".to_owned(), Route::Tags(name("a"))),
            ("/v2/tags/list/tags/list".to_owned(), Route::Tags(name("tags/list"))),
            ("/v2/a/b/manifests/v1".to_owned(), Route::Manifest(name("a/b"), tag("v1"))),
            ("/v2/manifests/manifests/manifests".to_owned(), Route::Manifest(name("manifests"), tag("manifests"))),
            (format!("/v2/a/manifests/{digest}"), Route::Manifest(name("a"), Reference::Digest(digest))),
            (format!("/v2/a/blobs/sha256%3A{}", digest.hex()), Route::Blob(name("a"), digest)),
            (format!("/v2/a/blobs/blobs/{digest}"), Route::Blob(name("a/blobs"), digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            (format!("/v2/a/blobs/uploads/{id}"), Route::Upload(name("a"), UploadId::parse(id).unwrap())),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(name("a"), digest)),
        ] {
            assert_eq!(parse(&path).unwrap(), route, "{path}");
        }
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/../manifests/x",
            "/v2/a/blobs/uploads/../../x",
            "/v2//manifests/x",
            "/v2/a/%2e%2e/manifests/x",
            "/v2/a%2f..%2fb/manifests/x",
            "/v2/_uploads/manifests/x",
            "/v2/a/manifests/..",
            "/v2/a/blobs/x",
            "/v2/a/manifests/sha256:x",
            "/v2/a/manifests/%zz",
            "/v2/a/manifests/%",
        ] {
            assert!(parse(path).is_err(), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_a_path_never_fails_hard(path in "(/v2/)?[a-z%0-9./:_-]{0,60}", any in ".{0,40}") {
            let _ = (parse(&path), parse(&any));
        }
    }
}
