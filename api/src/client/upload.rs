//! Sending a folder as Data: packed on a thread of its own into a bounded channel, from which the
//! request's body is fed. Memory stays constant whatever is sent.

use super::{Client, ClientError};
use crate::bundle::Form;
use crate::data::Data;
use crate::endpoint;
use crate::server::capability;
use crate::tag::{Tag, TagChange, UserTag};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use md5::{Digest as _, Md5};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER};
use reqwest::{Body, Method};
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Bytes that are handed on at once.
const PART: usize = 256 * 1024;
/// Parts that may wait for the network.
const PARTS: usize = 4;

/// The media type of a form.
pub(super) fn media_type(form: Form) -> &'static str {
    match form {
        Form::Bundle => endpoint::BUNDLE,
        Form::BundleZstd => endpoint::BUNDLE_ZSTD,
        Form::TarGz => endpoint::TAR_GZ,
    }
}

/// The form that a media type names; anything unknown is the original's.
pub(super) fn form_of(media_type: &str) -> Form {
    match media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        endpoint::BUNDLE => Form::Bundle,
        endpoint::BUNDLE_ZSTD => Form::BundleZstd,
        _ => Form::TarGz,
    }
}

/// What became of an upload.
#[derive(Debug)]
pub enum UploadError<E> {
    /// The folder could not be packed; nothing is registered.
    Pack(E),
    /// The server or the network did not take it; nothing is registered.
    Send(ClientError),
    /// It is registered, but without its tags.
    Tag {
        /// The Data that is there now.
        data: Box<Data>,
        /// Why it has no tags.
        error: ClientError,
    },
}

impl Client {
    /// The best form for this server: our own if it takes it, compressed unless it is on this machine.
    pub async fn upload_form(&self) -> Result<Form, ClientError> {
        Ok(match (self.can(capability::BUNDLE).await?, self.is_loopback()) {
            (false, _) => Form::TarGz,
            (true, true) => Form::Bundle,
            (true, false) => Form::BundleZstd,
        })
    }

    /// Registers what `pack` writes, in this form, as one Data with these tags.
    ///
    /// `pack` runs on a thread of its own and must write the complete stream. Its error ends the
    /// request in the middle, so that the server refuses what it has. When the server answers
    /// before all is sent, that answer counts.
    pub async fn upload<E, P>(&self, form: Form, tags: &[Tag], pack: P) -> Result<Data, UploadError<E>>
    where
        P: FnOnce(&mut dyn Write) -> Result<(), E> + Send + 'static,
        E: Send + 'static,
    {
        let tags_travel = self.can(capability::PUSH_TAGS).await.map_err(UploadError::Send)?;
        let travelling = if tags_travel { tags } else { &[] };
        let query: Vec<_> = travelling.iter().map(|tag| ("tag", tag.to_string())).collect();
        let (body, packing) = packed_body(form, pack);
        let mut request = self
            .request(Method::POST, self.url(endpoint::DATA, &query))
            .header(CONTENT_TYPE, media_type(form))
            .body(body);
        if form == Form::TarGz {
            // Trailers are sent only if they are announced.
            request = request.header(TRAILER, endpoint::CHECKSUM_MD5);
        }
        // Whatever comes of the request, its body is dropped by now, which ends the packing.
        let answer = async { self.read_json::<Data>(self.send(request, None).await?).await }.await;
        let packed = packing.await.unwrap_or(Outcome::Ended);
        let data = match (answer, packed) {
            // The request broke because there was nothing more to send.
            (Err(ClientError::Lost { .. } | ClientError::Unreachable { .. }), Outcome::Failed(error)) => {
                return Err(UploadError::Pack(error));
            }
            (Err(error), _) => return Err(UploadError::Send(error)),
            (Ok(data), _) => data,
        };
        if tags_travel {
            return Ok(data);
        }
        // Also when there are none, as the original's client does.
        let change = TagChange { add: tags.iter().cloned().map(UserTag).collect(), ..TagChange::default() };
        self.change_tags(&data.id, &change).await.map_err(|error| UploadError::Tag { data: Box::new(data), error })
    }
}

/// How the packing ended.
enum Outcome<E> {
    /// Well, or because nobody took what it wrote.
    Ended,
    /// By its own error.
    Failed(E),
}

/// Starts packing; the body ends well only if the packing does.
fn packed_body<E, P>(form: Form, pack: P) -> (Body, tokio::task::JoinHandle<Outcome<E>>)
where
    P: FnOnce(&mut dyn Write) -> Result<(), E> + Send + 'static,
    E: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(PARTS);
    let packing = tokio::task::spawn_blocking(move || {
        let mut writer = PartWriter {
            sender,
            part: BytesMut::with_capacity(PART),
            md5: (form == Form::TarGz).then(Md5::new),
            refused: false,
        };
        match pack(&mut writer) {
            Ok(()) => {
                writer.close();
                Outcome::Ended
            }
            Err(_) if writer.refused => Outcome::Ended,
            Err(error) => {
                writer.fail();
                Outcome::Failed(error)
            }
        }
    });
    (Body::wrap(PartBody { receiver }), packing)
}

/// Collects what is written into parts and hands them to the body.
struct PartWriter {
    sender: mpsc::Sender<io::Result<Frame<Bytes>>>,
    part: BytesMut,
    md5: Option<Md5>,
    refused: bool,
}

impl PartWriter {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.part, BytesMut::with_capacity(PART)).freeze();
        if let Some(md5) = &mut self.md5 {
            md5.update(&part);
        }
        self.sender.blocking_send(Ok(Frame::data(part))).map_err(|_| {
            self.refused = true;
            io::Error::from(io::ErrorKind::BrokenPipe)
        })
    }

    /// The rest and the trailer. A body that nobody reads any more needs neither.
    fn close(mut self) {
        if self.hand_over().is_err() {
            return;
        }
        if let Some(md5) = self.md5.take() {
            let mut trailers = HeaderMap::new();
            let value = HeaderValue::from_str(&hex::encode(md5.finalize())).expect("hex digits stand in a header");
            trailers.insert(HeaderName::from_static(endpoint::CHECKSUM_MD5), value);
            let _ = self.sender.blocking_send(Ok(Frame::trailers(trailers)));
        }
    }

    /// Breaks the body off, so that the server never takes it for a complete one.
    fn fail(self) {
        let _ = self.sender.blocking_send(Err(io::Error::other("packing failed")));
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        if self.part.len() == PART {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

/// The request's body: the parts as they come.
struct PartBody {
    receiver: mpsc::Receiver<io::Result<Frame<Bytes>>>,
}

impl http_body::Body for PartBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.get_mut().receiver.poll_recv(context)
    }
}
