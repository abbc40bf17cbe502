//! Listens: takes connections and speaks HTTP/1.1 on them until the server stops.

use crate::transfers;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

/// Connections at one time; further ones wait in the system's queue.
const CONNECTIONS: usize = 1024;
/// How long the head of a request may take, and an idle connection may stay.
const HEAD: Duration = Duration::from_mins(2);
/// How long to wait when no connection can be taken, for want of file descriptors say.
const PAUSE: Duration = Duration::from_millis(500);

/// Serves until `stopping`. Then no connection is taken any more and requests under way may come to
/// their end, until `cut`: what is not over by then is cut off.
pub async fn serve<S>(listener: TcpListener, service: S, stopping: CancellationToken, cut: CancellationToken)
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let taken = tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            taken = take(&listener, &room) => taken,
        };
        let (stream, place) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let service = service.clone();
        let answer =
            service_fn(move |request: Request<hyper::body::Incoming>| service.clone().oneshot(request.map(Body::new)));
        let mut protocol = http1::Builder::new();
        protocol.timer(TokioTimer::new()).header_read_timeout(HEAD);
        let connection = graceful.watch(protocol.serve_connection(TokioIo::new(stream), answer));
        connections.spawn(async move {
            if let Err(error) = connection.await {
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

async fn take(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    // A client that takes nothing of what it asked for is no client any more.
    SockRef::from(&stream).set_tcp_user_timeout(Some(transfers::STILL))?;
    Ok((stream, place))
}
