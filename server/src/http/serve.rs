//! Listens: takes connections and speaks HTTP/1.1 on them, through TLS or not, until the server stops.
//!
//! A client may read as slowly as it likes, but one that takes nothing of what it asked for is no client any more:
//! whatever is answered, a connection whose bytes do not move is ended ([`Moving`]).

use super::tls::{HANDSHAKE_RECORD, Speaks, Tls, Wire};
use crate::transfers;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConnection;
use socket2::SockRef;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

/// Connections at one time; further ones wait in the system's queue.
const CONNECTIONS: usize = 1024;
/// How long the head of a request may take, and an idle connection may stay.
const HEAD: Duration = Duration::from_mins(2);
/// How long a handshake of TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What HTTP is told on a port that speaks TLS alone.
const USE_TLS: &str = "{\"message\": \"this port speaks TLS\\nUse https in place of http.\"}\n";
/// How long to wait when no connection can be taken, for want of file descriptors say.
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes that are encrypted at once where both sides are ours: a few pieces of a transfer.
pub(crate) const UNENCRYPTED: usize = 512 << 10;
/// How many bytes may wait in the system to be sent: the fewer, the sooner it is seen that a slow client moves.
const UNSENT: u32 = 128 << 10;

/// Serves plain HTTP until `stopping`. Then no connection is taken any more and requests under way may come to
/// their end, until `cut`: what is not over by then is cut off.
pub async fn serve<S>(listener: TcpListener, service: S, stopping: CancellationToken, cut: CancellationToken)
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    serve_as(Speaks::Plain, listener, service, stopping, cut).await;
}

/// The same, speaking what is said. Each request has its [`Wire`] as an extension.
pub async fn serve_as<S>(
    speaks: Speaks,
    listener: TcpListener,
    service: S,
    stopping: CancellationToken,
    cut: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let begin = move |stream| {
        let speaks = speaks.clone();
        async move { begin(&speaks, stream).await }
    };
    serve_begun(listener, CONNECTIONS, begin, service, stopping, cut).await;
}

/// Speaks TLS alone, on at most so many connections at one time.
pub(crate) async fn serve_tls<S>(
    listener: TcpListener,
    connections: usize,
    tls: TlsAcceptor,
    service: S,
    stopping: CancellationToken,
    cut: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let begin = move |stream| {
        let large = |tls: &mut ServerConnection| tls.set_buffer_limit(Some(UNENCRYPTED));
        let accepting = tokio::time::timeout(HANDSHAKE, tls.accept_with(Moving::new(stream), large));
        async move { accepting.await?.map(|stream| Some((Box::new(stream) as Box<dyn Spoken>, true))) }
    };
    serve_begun(listener, connections, begin, service, stopping, cut).await;
}

/// Serves on what `begin` makes of each connection.
async fn serve_begun<S, B, F>(
    listener: TcpListener,
    most: usize,
    begin: B,
    service: S,
    stopping: CancellationToken,
    cut: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<Option<(Box<dyn Spoken>, bool)>>> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    loop {
        let taken = tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            taken = take(&listener, &room) => taken,
        };
        let (stream, is_local, place) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (begun, service, watcher) = (begin(stream), service.clone(), graceful.watcher());
        let stopping = stopping.clone();
        connections.spawn(async move {
            let begun = tokio::select! {
                biased;
                begun = begun => begun,
                // Nothing was asked yet.
                () = stopping.cancelled() => return,
            };
            let (stream, is_encrypted) = match begun {
                Ok(Some(begun)) => begun,
                Ok(None) => return,
                Err(error) => return tracing::debug!(%error, "a connection did not begin"),
            };
            let wire = Wire { is_encrypted, is_local };
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(wire);
                service.clone().oneshot(request)
            });
            let mut protocol = http1::Builder::new();
            protocol.timer(TokioTimer::new()).header_read_timeout(HEAD);
            if let Err(error) = watcher.watch(protocol.serve_connection(TokioIo::new(stream), answer)).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = cut.cancelled() => tracing::info!("requests still under way are cut off"),
    }
}

/// A connection on which requests come, whatever is below.
trait Spoken: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Spoken for S {}

/// Begins to speak; with it, whether through TLS. None for a client that has been told all there is to say.
async fn begin(speaks: &Speaks, stream: TcpStream) -> io::Result<Option<(Box<dyn Spoken>, bool)>> {
    let tls = match speaks {
        Speaks::Plain => return Ok(Some((Box::new(Moving::new(stream)), false))),
        Speaks::Tls(tls) | Speaks::Either(tls) => tls,
    };
    let mut first = [0];
    tokio::time::timeout(HEAD, stream.peek(&mut first)).await??;
    if first[0] == HANDSHAKE_RECORD {
        return Ok(Some((tokio::time::timeout(HANDSHAKE, encrypted(tls, stream)).await??, true)));
    }
    if let Speaks::Either(_) = speaks {
        return Ok(Some((Box::new(Moving::new(stream)), false)));
    }
    tokio::time::timeout(HANDSHAKE, tell_to_use_tls(stream)).await??;
    Ok(None)
}

async fn encrypted(tls: &Tls, stream: TcpStream) -> io::Result<Box<dyn Spoken>> {
    Ok(Box::new(tls.acceptor().accept(Moving::new(stream)).await?))
}

async fn tell_to_use_tls(mut stream: TcpStream) -> io::Result<()> {
    // What was sent is read first: closing over it would take the answer back.
    let _ = stream.read(&mut [0; 8 << 10]).await?;
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
    stream.write_all(format!("{head} {}\r\n\r\n{USE_TLS}", USE_TLS.len()).as_bytes()).await?;
    stream.shutdown().await
}

async fn take(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, bool, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    // For what the system has taken to send and cannot.
    socket.set_tcp_user_timeout(Some(transfers::STILL))?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok((stream, peer.ip().to_canonical().is_loopback(), place))
}

/// A stream of bytes on which writing fails that makes no progress for [`transfers::STILL`]. A connection on which
/// nothing is to be written may be silent for as long as its protocol lets it.
pub(crate) struct Moving<S> {
    stream: S,
    /// Runs while something waits to be written.
    still: Option<Pin<Box<Sleep>>>,
}

impl<S> Moving<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, still: None }
    }

    /// What became of a write, or that it has waited for too long.
    fn watched<T>(&mut self, context: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.still = None;
            return write;
        }
        let still = self.still.get_or_insert_with(|| Box::pin(tokio::time::sleep(transfers::STILL)));
        ready!(still.as_mut().poll(context));
        Poll::Ready(Err(transfers::stood_still()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Moving<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Moving<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Bytes;
    use axum::routing::get;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A client that has asked a port whose answer never ends, and what is cancelled when the answer is dropped.
    async fn endless() -> (TcpStream, CancellationToken) {
        let dropped = CancellationToken::new();
        let token = dropped.clone();
        let answer = get(async move || {
            let guard = token.drop_guard();
            let pieces = stream::repeat_with(move || {
                let _until_the_end = &guard;
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16 << 10]))
            });
            Response::new(Body::from_stream(pieces))
        });
        let service = Router::new().route("/", answer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stopping, cut) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(serve(listener, service, stopping, cut));
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        (client, dropped)
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut() {
        let (client, dropped) = endless().await;
        let cut = tokio::time::timeout(transfers::STILL * 10, dropped.cancelled()).await;
        assert!(cut.is_ok(), "its answer was dropped");
        drop(client);
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_but_steadily_is_not_cut() {
        let (mut client, dropped) = endless().await;
        let mut bytes = vec![0; 64 << 10];
        // Past all that buffers hold, for several times as long as one may stand still.
        let mut rounds = tokio::time::interval(transfers::STILL / 10);
        for _ in 0..50 {
            rounds.tick().await;
            client.read_exact(&mut bytes).await.unwrap();
        }
        assert!(!dropped.is_cancelled());
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_and_one_that_pauses_are_not_cut() {
        let slow = get(async || {
            tokio::time::sleep(transfers::STILL * 2).await;
            let pieces = stream::unfold(0, async |n| {
                tokio::time::sleep(transfers::STILL * 2).await;
                (n < 2).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"beat")), n + 1))
            });
            Response::new(Body::from_stream(pieces))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stopping = CancellationToken::new();
        tokio::spawn(serve(listener, Router::new().route("/", slow), stopping.clone(), CancellationToken::new()));
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text.matches("beat").count(), 2, "{text}");
        assert!(text.ends_with("0\r\n\r\n"), "{text}");
    }
}
