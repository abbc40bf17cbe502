//! A connection to a door: to the Pod's address from inside the cluster, through the API server from outside.
//!
//! The door proves that it has the key of the one certificate that the caller expects, and the caller that it has the
//! token. Every step has a time limit, and what breaks off is an error, never an end.

use super::credentials::{DOOR_NAME, Pass};
use super::door::{FAILED, error_told};
use super::objects::pod::DOOR_PORT;
use crate::engine::{ByteStream, EngineError};
use crate::http::serve::{Moving, UNENCRYPTED};
use crate::transfers::{STILL, unless_still};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::stream;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Portforwarder;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use serde::de::DeserializeOwned;
use socket2::SockRef;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// How long a connection may take, with everything that belongs to it.
const CONNECT: Duration = Duration::from_secs(15);
/// Largest JSON of an answer, in bytes.
const LARGEST_JSON: usize = 1 << 20;

/// A door, and what opens it.
#[derive(Clone)]
pub(super) struct Door {
    pod: String,
    way: Way,
    tls: TlsConnector,
    token: HeaderValue,
}

#[derive(Clone)]
enum Way {
    Direct(SocketAddr),
    Forward(Box<Api<Pod>>),
}

/// What is asked of a door.
pub(super) struct Ask {
    method: Method,
    path: String,
    body: Option<ByteStream>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// No connection came about: nothing was sent.
    Unreached(EngineError),
    /// The door said so, or broke off.
    Failed(EngineError),
}

impl From<Unanswered> for EngineError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Unreached(error) | Unanswered::Failed(error) => error,
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("pod", &self.pod).finish_non_exhaustive()
    }
}

impl Ask {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self { method: Method::POST, path: path.into(), body: None }
    }

    pub(super) fn with(self, body: ByteStream) -> Self {
        Self { body: Some(body), ..self }
    }
}

impl Door {
    /// The door at this address, of this Pod.
    pub(super) fn direct(pod: &str, address: SocketAddr, pass: &Pass) -> Result<Self, EngineError> {
        Self::new(pod, Way::Direct(address), pass)
    }

    /// The door of this Pod, through the API server.
    pub(super) fn forwarded(pod: &str, pods: Api<Pod>, pass: &Pass) -> Result<Self, EngineError> {
        Self::new(pod, Way::Forward(Box::new(pods)), pass)
    }

    fn new(pod: &str, way: Way, pass: &Pass) -> Result<Self, EngineError> {
        let failed = |cause: String| EngineError::Failed { what: format!("preparing to reach Pod {pod}"), cause };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pinned =
            Pinned { certificate: pass.certificate.clone(), algorithms: provider.signature_verification_algorithms };
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| failed(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut token =
            HeaderValue::from_str(&format!("Bearer {}", pass.token)).map_err(|error| failed(error.to_string()))?;
        token.set_sensitive(true);
        Ok(Self { pod: pod.to_owned(), way, tls: TlsConnector::from(Arc::new(tls)), token })
    }

    /// Asks, on a connection of its own, and waits for the head of the answer. While the door takes its time, it is
    /// asked whether it is still there.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Reply, Unanswered> {
        let unreached = |cause: io::Error| self.unavailable("reaching", &cause);
        let connected = timeout(CONNECT, self.connect()).await.map_err(io::Error::from).flatten();
        let (mut sender, connection) = connected.map_err(|cause| Unanswered::Unreached(unreached(cause)))?;
        let fate = Arc::new(Fate::default());
        let body = Outflow { stream: ask.body, fate: Arc::clone(&fate) };
        let request = Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(header::HOST, DOOR_NAME)
            .header(header::AUTHORIZATION, self.token.clone())
            .header(header::TE, "trailers")
            .body(body)
            .map_err(|error| Unanswered::Failed(self.failed("asking", &error)))?;
        let mut asking = std::pin::pin!(sender.send_request(request));
        let mut moved = fate.moved.load(Ordering::Relaxed);
        let answer = loop {
            if let Ok(answer) = timeout(STILL, &mut asking).await {
                break answer;
            }
            let now = fate.moved.load(Ordering::Relaxed);
            if now == moved && !self.is_there().await {
                let cause = format!("it has not answered for {} seconds", STILL.as_secs());
                return Err(Unanswered::Failed(self.unavailable("waiting for", &cause)));
            }
            moved = now;
        };
        let answer = answer.map_err(|error| {
            Unanswered::Failed(match fate.broke_off() {
                // Not the door's fault: only the sender can do something about it.
                Some(cause) => EngineError::BadContent(format!("the transfer broke off: {cause}")),
                None => self.unavailable("asking", &in_full(&error)),
            })
        })?;
        self.accept(answer, connection).await.map_err(Unanswered::Failed)
    }

    /// The answer if it is one, or the error that it is.
    async fn accept(
        &self,
        answer: Response<Incoming>,
        connection: AbortOnDropHandle<()>,
    ) -> Result<Reply, EngineError> {
        let status = answer.status();
        let reply = Reply { door: self.clone(), body: answer.into_body(), _connection: connection };
        if status.is_success() {
            return Ok(reply);
        }
        let said = reply.bytes().await?;
        Err(error_told(&said).unwrap_or_else(|| match status {
            StatusCode::UNAUTHORIZED => self.failed("asking", &"it does not take our token"),
            _ => self.failed("asking", &format!("it answered {status}")),
        }))
    }

    /// Whether somebody is behind the door.
    pub(super) async fn is_there(&self) -> bool {
        let look = async {
            let (mut sender, _connection) = self.connect().await?;
            let body = Outflow { stream: None, fate: Arc::default() };
            let request = Request::get("/healthz").header(header::HOST, DOOR_NAME).body(body);
            let answer = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(answer.status().is_success())
        };
        matches!(timeout(CONNECT, look).await, Ok(Ok(true)))
    }

    async fn connect(&self) -> io::Result<(http1::SendRequest<Outflow>, AbortOnDropHandle<()>)> {
        match &self.way {
            Way::Direct(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_user_timeout(Some(STILL))?;
                self.open(stream).await
            }
            Way::Forward(pods) => {
                let mut forwarder = pods.portforward(&self.pod, &[DOOR_PORT]).await.map_err(io::Error::other)?;
                let stream = forwarder.take_stream(DOOR_PORT).ok_or(io::ErrorKind::NotConnected)?;
                self.open(Forwarded { stream, forwarder }).await
            }
        }
    }

    async fn open<S>(&self, stream: S) -> io::Result<(http1::SendRequest<Outflow>, AbortOnDropHandle<()>)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let name = ServerName::try_from(DOOR_NAME).map_err(io::Error::other)?;
        let large = |tls: &mut ClientConnection| tls.set_buffer_limit(Some(UNENCRYPTED));
        let stream = self.tls.connect_with(name, Moving::new(stream), large).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Its errors reach whoever sends or reads.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok((sender, AbortOnDropHandle::new(connection)))
    }

    /// Whoever is behind the door does not answer, or not any more.
    fn unavailable(&self, doing: &str, cause: &dyn fmt::Display) -> EngineError {
        EngineError::Unavailable { what: format!("{doing} the door of Pod {}", self.pod), cause: cause.to_string() }
    }

    fn failed(&self, doing: &str, cause: &dyn fmt::Display) -> EngineError {
        EngineError::Failed { what: format!("{doing} the door of Pod {}", self.pod), cause: cause.to_string() }
    }
}

/// An answer that is not an error.
pub(super) struct Reply {
    door: Door,
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl Reply {
    /// All of it, as a value.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, EngineError> {
        let door = self.door.clone();
        let body = self.bytes().await?;
        serde_json::from_slice(&body).map_err(|error| door.failed("understanding", &error))
    }

    async fn bytes(self) -> Result<Bytes, EngineError> {
        let Self { door, body, _connection } = self;
        let read = unless_still(Limited::new(body, LARGEST_JSON).collect()).await;
        let collected = read.and_then(|read| read.map_err(io::Error::other));
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| door.failed("hearing", &error))
    }

    /// All of it, as it comes. An answer that stands still, breaks off, or says in its end that it failed, is an
    /// error.
    pub(super) fn stream(self) -> ByteStream {
        Box::pin(stream::try_unfold(Some(self), async |reply| {
            let Some(mut reply) = reply else { return Ok(None) };
            let broken = |cause: &dyn fmt::Display, reply: &Self| {
                io::Error::other(reply.door.failed("hearing", cause).to_string())
            };
            match unless_still(reply.body.frame()).await {
                Err(still) => Err(broken(&still, &reply)),
                Ok(Some(Err(error))) => Err(broken(&in_full(&error), &reply)),
                Ok(None) => Ok(None),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => Ok(Some((bytes, Some(reply)))),
                    Err(frame) => {
                        let told = frame.trailers_ref().and_then(|trailers| trailers.get(FAILED));
                        let words = told.and_then(|told| hex::decode(told.as_bytes()).ok());
                        match words {
                            Some(words) => Err(io::Error::other(String::from_utf8_lossy(&words).into_owned())),
                            None => Ok(Some((Bytes::new(), Some(reply)))),
                        }
                    }
                },
            }
        }))
    }
}

/// An error with what caused it.
fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// How the body of a request fares.
#[derive(Default)]
struct Fate {
    /// Pieces that went out.
    moved: AtomicU64,
    /// Why it broke off.
    broke_off: Mutex<Option<io::Error>>,
}

impl Fate {
    fn broke_off(&self) -> Option<io::Error> {
        self.broke_off.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The body of a request.
struct Outflow {
    stream: Option<ByteStream>,
    fate: Arc<Fate>,
}

impl Body for Outflow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let next = ready!(stream.as_mut().poll_next(cx));
        self.fate.moved.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(next.map(|piece| match piece {
            Ok(bytes) => Ok(Frame::data(bytes)),
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                *self.fate.broke_off.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(told)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.stream.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// A connection through the API server, which lasts as long as this.
struct Forwarded {
    stream: DuplexStream,
    forwarder: Portforwarder,
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Takes exactly one certificate, from whoever has its key.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
