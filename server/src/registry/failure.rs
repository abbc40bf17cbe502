//! What went wrong, in the form that the distribution protocol demands.

use crate::content::{ContentError, NameError};
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use knit_api::digest::DigestError;
use std::io;

/// The protocol's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    SizeInvalid,
    TagInvalid,
    Unauthorized,
    Unknown,
    Unsupported,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::Denied => "DENIED",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown | Self::BlobUploadUnknown | Self::ManifestUnknown | Self::NameUnknown => {
                StatusCode::NOT_FOUND
            }
            Self::ManifestBlobUnknown => StatusCode::NOT_FOUND,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::SizeInvalid => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    status: StatusCode,
    message: String,
    headers: Vec<(HeaderName, String)>,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, status: code.status(), message: message.into(), headers: Vec::new() }
    }

    pub(super) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn with(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn method(method: &Method) -> Self {
        Self::new(Code::Unsupported, format!("{method} is not possible here"))
    }

    /// The error of an operation on content, where `missing` is what it was about.
    pub(super) fn of(error: ContentError, missing: Code) -> Self {
        match error {
            ContentError::NotFound(_) => Self::new(missing, error.to_string()),
            ContentError::Digest { .. } => Self::new(Code::DigestInvalid, error.to_string()),
            ContentError::Offset { .. } => {
                Self::new(Code::BlobUploadInvalid, error.to_string()).status(StatusCode::RANGE_NOT_SATISFIABLE)
            }
            ContentError::Manifest(_) => Self::new(Code::ManifestInvalid, error.to_string()),
            ContentError::BlobUnknown(_) => Self::new(Code::ManifestBlobUnknown, error.to_string()),
            ContentError::Interrupted(_) => Self::new(Code::BlobUploadInvalid, error.to_string()),
            ContentError::Io(error) => error.into(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        tracing::error!(%error, "the registry's store failed");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::new(Code::Unknown, "no space is left for images on the server")
                    .status(StatusCode::INSUFFICIENT_STORAGE)
            }
            _ => Self::new(Code::Unknown, format!("the registry's store failed: {error}")),
        }
    }
}

impl From<DigestError> for Failure {
    fn from(error: DigestError) -> Self {
        NameError::from(error).into()
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        let code = match error {
            NameError::Digest(_) => Code::DigestInvalid,
            NameError::Repository(_) => Code::NameInvalid,
            NameError::Tag(_) => Code::TagInvalid,
        };
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "errors": [{ "code": self.code.text(), "message": self.message, "detail": null }]
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"knit\""));
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}
