//! Receiving a Data: the answer's body is fed to a reader on a thread of its own, and checked.

use super::upload::{form_of, media_type};
use super::{Client, ClientError};
use crate::bundle::Form;
use crate::endpoint;
use crate::id::DataId;
use crate::server::capability;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use md5::{Digest as _, Md5};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, TE, TRAILER};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Parts that may wait for the reader.
const PARTS: usize = 16;

/// The head of an answer that brings a Data; the bytes are still to come.
#[derive(Debug)]
pub struct Download {
    form: Form,
    body: reqwest::Body,
    client: Client,
    must_have_checksum: bool,
}

/// Whether the bytes were compared with a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// They are what the server read.
    Yes,
    /// The server sent no checksum; that the stream is complete is known only from its own structure.
    NoChecksum,
}

/// Why a download failed: on the way, or in the reader.
#[derive(Debug)]
pub enum DownloadError<E> {
    /// Server or network.
    Receive(ClientError),
    /// What was done with the bytes.
    Read(E),
}

impl Client {
    /// The form in which a folder travels whole and cheaply from this server, if the server has ours.
    pub fn whole_folder(&self) -> Form {
        if self.is_loopback() { Form::Bundle } else { Form::BundleZstd }
    }

    /// Asks for a Data in this form. A server that does not know it answers with the original's tar.gz: see
    /// [`Download::form`].
    pub async fn download(&self, id: &DataId, wanted: Form) -> Result<Download, ClientError> {
        let ours = self.can(capability::BUNDLE).await?;
        let mut request = self.request(Method::GET, self.url(&endpoint::data(id), &[]));
        if ours {
            request = request.header(ACCEPT, media_type(wanted)).header(TE, "trailers");
        }
        let answer = self.send(request, None).await?;
        let form =
            answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map_or(Form::TarGz, form_of);
        let announced = answer.headers().get_all(TRAILER).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|names| names.split(',').any(|n| n.trim().eq_ignore_ascii_case(endpoint::CHECKSUM_MD5)))
        });
        let body = super::answer_body(answer);
        Ok(Download {
            form,
            body,
            client: self.clone(),
            // An original server leaves it out now and then; ours never does.
            must_have_checksum: form == Form::TarGz && (announced || ours),
        })
    }
}

impl Download {
    /// The form in which the Data arrives.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Feeds the bytes to `read` on a thread of its own, and gives its result once the stream was
    /// received to its end and agrees with its checksum.
    ///
    /// A bundle is verified by whoever unpacks it: that is `read`'s part. `progress` is told of
    /// every part that arrives.
    pub async fn read_with<T, E, R>(
        self,
        progress: impl Fn(u64) + Send,
        read: R,
    ) -> Result<(T, Checked), DownloadError<E>>
    where
        R: FnOnce(&mut dyn Read) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(PARTS);
        let reading = tokio::task::spawn_blocking(move || {
            let mut reader = PartReader { receiver, part: Bytes::new() };
            let outcome = read(&mut reader);
            // What stands behind the archive still counts for the checksum.
            if outcome.is_ok() {
                let _ = io::copy(&mut reader, &mut io::sink());
            }
            outcome
        });
        let form = self.form;
        let must_have_checksum = self.must_have_checksum;
        let received = receive(self, sender, progress).await;
        let Ok(read) = reading.await else {
            return Err(DownloadError::Receive(ClientError::Local("reading ended without a result".into())));
        };
        let checked = match (received, read) {
            // The reader stopped taking: its reason is the true one.
            (Ok(Received::NotTaken) | Err(ClientError::Integrity(_)), Err(error)) => {
                return Err(DownloadError::Read(error));
            }
            // The reader failed because the stream ended early.
            (Err(error), _) => return Err(DownloadError::Receive(error)),
            (Ok(_), Err(error)) => return Err(DownloadError::Read(error)),
            (Ok(Received::NotTaken), Ok(_)) => {
                return Err(DownloadError::Receive(ClientError::Local("the stream was not read to its end".into())));
            }
            (Ok(Received::Whole { checksum }), Ok(value)) => (value, checksum),
        };
        match checked {
            (value, _) if form != Form::TarGz => Ok((value, Checked::Yes)),
            (value, Some(())) => Ok((value, Checked::Yes)),
            (_, None) if must_have_checksum => Err(DownloadError::Receive(ClientError::Integrity(
                "the server did not send the checksum of what it sent: the transfer is incomplete".to_owned(),
            ))),
            (value, None) => Ok((value, Checked::NoChecksum)),
        }
    }
}

enum Received {
    /// To its end; with a checksum, if there was one, that agrees.
    Whole { checksum: Option<()> },
    /// The reader wanted no more.
    NotTaken,
}

/// Moves the body into the channel and compares the checksum behind it.
async fn receive(
    download: Download,
    sender: mpsc::Sender<io::Result<Bytes>>,
    progress: impl Fn(u64),
) -> Result<Received, ClientError> {
    let Download { form, mut body, client, .. } = download;
    let mut md5 = (form == Form::TarGz).then(Md5::new);
    let mut trailers = HeaderMap::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            // The reader has seen enough, for instance that this is no archive.
            () = sender.closed() => return Ok(Received::NotTaken),
        };
        match frame {
            None => break,
            Some(Err(e)) => {
                let error = ClientError::from_network(client.root(), &e);
                let _ = sender.send(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string()))).await;
                return Err(error);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(part) => {
                    progress(part.len() as u64);
                    if let Some(md5) = &mut md5 {
                        md5.update(&part);
                    }
                    if sender.send(Ok(part)).await.is_err() {
                        return Ok(Received::NotTaken);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            },
        }
    }
    let Some(md5) = md5 else { return Ok(Received::Whole { checksum: None }) };
    let Some(expected) = trailers.get(endpoint::CHECKSUM_MD5) else { return Ok(Received::Whole { checksum: None }) };
    let found = hex::encode(md5.finalize());
    if expected.to_str().is_ok_and(|expected| expected.trim().eq_ignore_ascii_case(&found)) {
        Ok(Received::Whole { checksum: Some(()) })
    } else {
        Err(ClientError::Integrity(format!(
            "the bytes that arrived (MD5 {found}) are not the bytes that were sent (MD5 {})",
            expected.to_str().unwrap_or("unreadable").trim()
        )))
    }
}

/// The received parts as a reader.
struct PartReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    part: Bytes,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.receiver.blocking_recv() {
                Some(part) => self.part = part?,
                None => return Ok(0),
            }
        }
        let taken = buffer.len().min(self.part.len());
        buffer[..taken].copy_from_slice(&self.part.split_to(taken));
        Ok(taken)
    }
}
