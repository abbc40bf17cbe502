//! The body of an answer as it arrives: fed to a reader on a thread that may wait, with its checksum behind it.

use super::{Client, ClientError, DownloadError, answer_body};
use crate::endpoint;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use md5::{Digest as _, Md5};
use reqwest::Response;
use reqwest::header::HeaderMap;
use std::io::{self, Read};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Parts that may wait for the reader.
const PARTS: usize = 16;

/// A body that has not been read yet.
#[derive(Debug)]
pub(super) struct Incoming {
    body: reqwest::Body,
    client: Client,
    /// Whether an MD5 may follow it.
    summed: bool,
}

impl Incoming {
    pub(super) fn new(answer: Response, client: Client, summed: bool) -> Self {
        Self { body: answer_body(answer), client, summed }
    }

    /// Feeds the bytes to `read` on a thread of its own, and gives its result once the stream was received to
    /// its end and agrees with its checksum, if there was one. `progress` is told of every part that arrives.
    pub(super) async fn read_with<T, E, R>(
        self,
        progress: impl Fn(u64) + Send,
        read: R,
    ) -> Result<(T, Option<()>), DownloadError<E>>
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
        let received = receive(self, sender, progress).await;
        let Ok(read) = reading.await else {
            return Err(DownloadError::Receive(ClientError::Local("reading ended without a result".into())));
        };
        match (received, read) {
            // The reader failed, and perhaps stopped taking: its reason is the true one.
            (Ok(_) | Err(ClientError::Integrity(_)), Err(error)) => Err(DownloadError::Read(error)),
            // Or it failed because the stream ended early.
            (Err(error), _) => Err(DownloadError::Receive(error)),
            (Ok(Received::NotTaken), Ok(_)) => {
                Err(DownloadError::Receive(ClientError::Local("the stream was not read to its end".into())))
            }
            (Ok(Received::Whole { checksum }), Ok(value)) => Ok((value, checksum)),
        }
    }

    /// The two ends of it, for one who reads several at a time. Must be called within a Tokio runtime.
    pub(super) fn open(self) -> (PartReader, Arriving) {
        let (sender, receiver) = mpsc::channel(PARTS);
        let task = tokio::spawn(receive(self, sender, |_| {}));
        (PartReader { receiver, part: Bytes::new() }, Arriving { task })
    }
}

#[derive(Debug)]
enum Received {
    /// To its end; with a checksum, if there was one, that agrees.
    Whole { checksum: Option<()> },
    /// The reader wanted no more.
    NotTaken,
}

/// Moves the body into the channel and compares the checksum behind it.
async fn receive(
    incoming: Incoming,
    sender: mpsc::Sender<io::Result<Bytes>>,
    progress: impl Fn(u64),
) -> Result<Received, ClientError> {
    let Incoming { mut body, client, summed } = incoming;
    let mut md5 = summed.then(Md5::new);
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

/// The received parts as a reader. It waits, so it belongs on a thread of its own; dropping it ends the transfer.
#[derive(Debug)]
pub struct PartReader {
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

/// The arriving half of a body that is read elsewhere. Dropping it ends the transfer.
#[derive(Debug)]
pub struct Arriving {
    task: JoinHandle<Result<Received, ClientError>>,
}

impl Arriving {
    /// Why the stream was not what it should be, if so: the network, or its checksum. To be asked once the reader is
    /// done or gone.
    pub async fn fault(mut self) -> Option<ClientError> {
        match (&mut self.task).await {
            Ok(received) => received.err(),
            Err(_) => Some(ClientError::Local("receiving ended without a result".into())),
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.task.abort();
    }
}
