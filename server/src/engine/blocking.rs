//! Bytes between the asynchronous side and work on files, which happens on blocking threads.
//!
//! The two are joined by short channels on which the end is a message of its own: a channel that just closes is a
//! failure, never the end of the content.

use super::{ByteStream, EngineError};
use crate::transfers::{self, unless_still};
use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use knit_api::bundle;
use std::io::{self, Read, Write};
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio::task;

/// Pieces in flight between a connection and a blocking thread. With pieces of up to 256 KiB this
/// bounds the memory of one transfer to about 2 MiB.
const PIECES: usize = 8;

/// Has `work` read the stream on a blocking thread. When this is dropped early, `work` is told that its sender gave up.
pub(super) async fn taken<T: Send + 'static>(
    what: String,
    mut body: ByteStream,
    work: impl FnOnce(Body) -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let place = transfers::place().await;
    let (sender, pieces) = mpsc::channel(PIECES);
    let working = blocking(what, move || {
        let _place = place;
        work(Body { pieces, current: Bytes::new(), ended: false })
    });
    let forwarding = async move {
        while let Some(piece) = unless_still(body.next()).await.unwrap_or_else(|still| Some(Err(still))) {
            let piece = piece.map_or_else(Piece::Failed, Piece::Next);
            let last = matches!(piece, Piece::Failed(_));
            if sender.send(piece).await.is_err() || last {
                return;
            }
        }
        // Nobody to tell means that the work has failed, which it says itself.
        let _ = sender.send(Piece::End).await;
    };
    tokio::pin!(working);
    // The work may fail while the sender is silent: then nobody waits for the sender.
    tokio::select! {
        done = &mut working => done,
        () = forwarding => working.await,
    }
}

/// Streams what `work` writes on a blocking thread; `what` says what that is.
pub(super) async fn outgoing(
    what: String,
    work: impl FnOnce(Outgoing<'_>) -> Result<(), bundle::Error> + Send + 'static,
) -> ByteStream {
    made_elsewhere(what, |sender| work(Outgoing { pieces: sender })).await
}

/// Streams what `work` sends from a blocking thread. When the other side stops taking, so does the thread.
pub(super) async fn made_elsewhere<T: Send + 'static>(
    what: String,
    work: impl FnOnce(&mpsc::Sender<Piece<T>>) -> Result<(), bundle::Error> + Send + 'static,
) -> Pin<Box<dyn Stream<Item = io::Result<T>> + Send>> {
    let place = transfers::place().await;
    let (sender, made) = mpsc::channel(PIECES);
    let (onward, pieces) = mpsc::channel(1);
    task::spawn(pass_on(made, onward, what.clone()));
    task::spawn_blocking(move || {
        let _place = place;
        let last = match work(&sender) {
            Ok(()) => Piece::End,
            // Nobody takes it any more.
            Err(_) if sender.is_closed() => return,
            // It is logged by whoever sends it.
            Err(error) => Piece::Failed(io::Error::other(format!("{what} cannot be sent: {error}"))),
        };
        // Nobody to tell means that the transfer was given up.
        let _ = sender.blocking_send(last);
    });
    Box::pin(stream::unfold(Some(pieces), |pieces| async {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Piece::Next(next)) => Some((Ok(next), Some(pieces))),
            Some(Piece::Failed(cause)) => Some((Err(cause), None)),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("sending broke off")), None)),
        }
    }))
}

/// A stream to be read on a blocking thread while its pieces come from a task of their own, which ends when nobody
/// reads any more.
pub(super) fn readable(mut stream: ByteStream) -> Body {
    let (sender, pieces) = mpsc::channel(PIECES);
    task::spawn(async move {
        while let Some(piece) = stream.next().await {
            let piece = piece.map_or_else(Piece::Failed, Piece::Next);
            let last = matches!(piece, Piece::Failed(_));
            if sender.send(piece).await.is_err() || last {
                return;
            }
        }
        // Nobody to tell means that nobody reads.
        let _ = sender.send(Piece::End).await;
    });
    Body { pieces, current: Bytes::new(), ended: false }
}

/// Passes pieces on to whoever takes them, in time: when it stops, so does the thread that makes them.
async fn pass_on<T>(mut made: mpsc::Receiver<Piece<T>>, onward: mpsc::Sender<Piece<T>>, what: String) {
    while let Some(piece) = made.recv().await {
        match unless_still(onward.send(piece)).await {
            Ok(Ok(())) => {}
            // The transfer was given up.
            Ok(Err(_)) => return,
            Err(error) => {
                tracing::warn!(what, %error, "sending is given up");
                return;
            }
        }
    }
}

/// One part of a transfer.
pub(super) enum Piece<T = Bytes> {
    Next(T),
    Failed(io::Error),
    End,
}

/// The body of a request, read on a blocking thread.
pub(super) struct Body {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Next(bytes)) => self.current = bytes,
                Some(Piece::Failed(cause)) => return Err(cause),
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the sender gave up")),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// The body of an answer, written on a blocking thread in large pieces.
pub(super) struct Outgoing<'a> {
    pieces: &'a mpsc::Sender<Piece>,
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Piece::Next(Bytes::copy_from_slice(bytes));
        self.pieces.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs work on files where it may block. A panic in it is a failure like any other.
pub(super) async fn blocking<T: Send + 'static>(
    what: String,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(EngineError::Failed { what, cause: "it ended unexpectedly; the log says more".to_owned() }),
    }
}
