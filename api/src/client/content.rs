//! Requests about what is in a Data, without fetching all of it. Only of a server that announces
//! [`crate::server::capability::CONTENT`].

use super::incoming::{Arriving, Incoming, PartReader};
use super::{Client, ClientError, SILENCE, answer_body, next_part};
use crate::bundle::Digest;
use crate::content::{Check, Checked};
use crate::endpoint;
use crate::id::DataId;
use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap, RANGE};
use reqwest::{Method, Response};

/// Longest line of a verification, in bytes: a path of the greatest length, in base64 too.
const LONGEST_LINE: usize = 64 * 1024;

/// The manifest of a Data, or of a part of it; the entries are still to come.
#[derive(Debug)]
pub struct ManifestStream {
    incoming: Incoming,
    digest: Digest,
    is_part: bool,
}

impl ManifestStream {
    /// Root digest of the Data.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it is a part, which the digest does not cover.
    pub fn is_part(&self) -> bool {
        self.is_part
    }

    /// The stream as a reader for a thread that may wait, and what tells in the end whether it was whole.
    pub fn open(self) -> (PartReader, Arriving) {
        self.incoming.open()
    }
}

/// One file of a Data, or some of its bytes.
#[derive(Debug)]
pub struct FileStream {
    body: reqwest::Body,
    client: Client,
    /// Bytes still to come.
    left: u64,
    /// What the whole file has to be; none where only a part of it comes.
    expected: Option<(Digest, blake3::Hasher)>,
}

impl FileStream {
    /// Bytes still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes; `None` at the end, when they were all and, of a whole file, the right ones.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let part = next_part(&mut self.body).await.map_err(|e| ClientError::from_network(self.client.root(), &e))?;
        if let Some(part) = part {
            if let Some((_, hasher)) = &mut self.expected {
                hasher.update(&part);
            }
            self.left = self.left.checked_sub(part.len() as u64).ok_or_else(|| self.not_what_was_told())?;
            return Ok(Some(part));
        }
        if self.left > 0 {
            return Err(self.not_what_was_told());
        }
        match &self.expected {
            Some((expected, hasher)) if Digest::from(hasher.finalize()) != *expected => {
                Err(ClientError::Integrity(format!(
                    "its content is not what was registered: it has the BLAKE3 {}, and should have {expected}",
                    Digest::from(hasher.finalize())
                )))
            }
            _ => Ok(None),
        }
    }

    fn not_what_was_told(&self) -> ClientError {
        ClientError::Lost { url: self.client.root().to_string(), cause: "it sent another length than it told".into() }
    }
}

/// A verification under way at the server.
#[derive(Debug)]
pub struct Verification {
    body: reqwest::Body,
    client: Client,
    line: Vec<u8>,
}

impl Verification {
    /// What the server tells next. It ends with [`Check::Done`]; a stream that ends before is broken.
    pub async fn next(&mut self) -> Result<Check, ClientError> {
        let not_understood = |cause: String| ClientError::NotUnderstood { url: self.client.root().to_string(), cause };
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                return crate::json::from_slice(&line).map_err(|e| not_understood(e.to_string()));
            }
            if self.line.len() > LONGEST_LINE {
                return Err(not_understood("a line of it has no end".to_owned()));
            }
            let part =
                next_part(&mut self.body).await.map_err(|e| ClientError::from_network(self.client.root(), &e))?;
            match part {
                Some(part) => self.line.extend_from_slice(&part),
                None => {
                    return Err(ClientError::Lost {
                        url: self.client.root().to_string(),
                        cause: "the server stopped before it had verified everything; its log says why".into(),
                    });
                }
            }
        }
    }
}

impl Client {
    /// The list of what is in a Data; with `under` only of what is at this path or below it.
    pub async fn manifest(&self, id: &DataId, under: Option<&[u8]>) -> Result<ManifestStream, ClientError> {
        let mut url = self.url(&endpoint::data_manifest(id), &[]);
        if let Some(under) = under {
            url.set_query(Some(&format!("{}={}", endpoint::UNDER, endpoint::path(under))));
        }
        let answer = self.send(self.request(Method::GET, url), Some(SILENCE)).await?;
        let told = digest_of(answer.headers(), endpoint::DIGEST, &answer)?;
        Ok(ManifestStream {
            incoming: Incoming::new(answer, self.clone(), false),
            digest: told,
            is_part: under.is_some(),
        })
    }

    /// One file of a Data, or the bytes of it that `range` names as HTTP does: `0-99`, `100-`, `-5`.
    pub async fn file(&self, id: &DataId, path: &[u8], range: Option<&str>) -> Result<FileStream, ClientError> {
        let mut request = self.request(Method::GET, self.url(&endpoint::data_file(id, path), &[]));
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={range}"));
        }
        let answer = self.send(request, Some(SILENCE)).await?;
        let digest = digest_of(answer.headers(), ETAG.as_str(), &answer)?;
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let Some(left) = length else { return Err(nonsense(&answer, "it does not tell the length of the file")) };
        let is_whole = answer.status() != reqwest::StatusCode::PARTIAL_CONTENT;
        if is_whole && range.is_some() {
            return Err(nonsense(&answer, "it does not send parts of files"));
        }
        Ok(FileStream {
            body: answer_body(answer),
            client: self.clone(),
            left,
            expected: is_whole.then(|| (digest, blake3::Hasher::new())),
        })
    }

    /// Lets the server read a Data again and compare it with its manifest.
    pub async fn verify(&self, id: &DataId) -> Result<Verification, ClientError> {
        let answer = self.send(self.request(Method::POST, self.url(&endpoint::data_verify(id), &[])), None).await?;
        Ok(Verification { body: answer_body(answer), client: self.clone(), line: Vec::new() })
    }
}

impl Check {
    /// What was compared so far, where it tells that.
    pub fn so_far(&self) -> Option<Checked> {
        match self {
            Self::Progress(checked) | Self::Done(checked) => Some(*checked),
            Self::Differs(_) => None,
        }
    }
}

/// The digest that stands in a header, quoted as an entity tag is or not.
fn digest_of(headers: &HeaderMap, name: &str, answer: &Response) -> Result<Digest, ClientError> {
    let told = headers.get(name).and_then(|value| value.to_str().ok()?.trim_matches('"').parse().ok());
    told.ok_or_else(|| nonsense(answer, "it does not tell the digest of what it sends"))
}

fn nonsense(answer: &Response, cause: &str) -> ClientError {
    ClientError::NotUnderstood { url: answer.url().to_string(), cause: cause.to_owned() }
}
