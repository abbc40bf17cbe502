//! The server behind every door: HTTP/1.1 through TLS with a certificate of its own, for whoever has its token.
//!
//! It ends when it is told to (SIGTERM), or by itself when nobody has asked for anything for a while: whatever becomes
//! of the servers that started it, it does not outlive them for long.

use super::super::credentials::{CERTIFICATE, KEY, TOKEN};
pub use super::super::objects::pod::CREDENTIALS;
use super::Refused;
use crate::engine::EngineError;
use crate::http::{guard, port, serve};
use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http_body::{Frame, SizeHint};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections at one time; further ones wait in the system's queue.
const CONNECTIONS: usize = 128;
/// How long requests may go on once the door is told to end.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// A door that is about to open.
pub struct Door {
    listener: TcpListener,
    tls: TlsAcceptor,
    token: String,
}

/// Why a door ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Nobody asked for anything for too long.
    Idle,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Door {
    /// Reads certificate, key and token from this folder, and listens.
    pub async fn open(listen: SocketAddr, credentials: &Path) -> anyhow::Result<Self> {
        let file = |name| credentials.join(name);
        let reading = |name| format!("reading {}", file(name).display());
        let certificate = CertificateDer::from_pem_file(file(CERTIFICATE)).with_context(|| reading(CERTIFICATE))?;
        let key = PrivateKeyDer::from_pem_file(file(KEY)).with_context(|| reading(KEY))?;
        let token = std::fs::read_to_string(file(TOKEN)).with_context(|| reading(TOKEN))?.trim().to_owned();
        anyhow::ensure!(!token.is_empty(), "{} is empty: a door asks for a token", file(TOKEN).display());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|tls| tls.with_no_client_auth().with_single_cert(vec![certificate], key))
            .with_context(|| format!("using the certificate in {}", credentials.display()))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
        Ok(Self { listener, tls: TlsAcceptor::from(Arc::new(tls)), token })
    }

    /// The same on every address of the machine, where a kernel without IPv6 has only others.
    pub async fn open_anywhere(port: u16, credentials: &Path) -> anyhow::Result<Self> {
        match Self::open((Ipv6Addr::UNSPECIFIED, port).into(), credentials).await {
            Ok(door) => Ok(door),
            Err(_) => Self::open((Ipv4Addr::UNSPECIFIED, port).into(), credentials).await,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves these routes, and `/healthz` to anyone, until `stopping`, or until nothing was under way for as long as
    /// `idle` says.
    pub async fn serve(self, routes: Router, idle: Option<Duration>, stopping: CancellationToken) -> Ended {
        let Self { listener, tls, token } = self;
        let (busy, under_way) = watch::channel(0);
        let guarded = routes
            .layer(middleware::from_fn_with_state(Arc::new(busy), count))
            .layer(middleware::from_fn_with_state(Arc::<str>::from(token), ask_for_token));
        let service = port::layered(Router::new().route("/healthz", get(async || "ok")).merge(guarded), bug);
        let (ending, cut) = (stopping.child_token(), CancellationToken::new());
        let serving = serve::serve_tls(listener, CONNECTIONS, tls, service, ending.clone(), cut.clone());
        let watching = async {
            let ended = tokio::select! {
                () = stopping.cancelled() => Ended::Stopped,
                () = nothing_under_way(under_way, idle) => Ended::Idle,
            };
            ending.cancel();
            tokio::time::sleep(LAST_ANSWERS).await;
            cut.cancel();
            ended
        };
        // Serving ends first when no answer was left to send.
        tokio::pin!(serving, watching);
        tokio::select! {
            () = &mut serving => {}
            ended = &mut watching => {
                serving.await;
                return ended;
            }
        }
        if stopping.is_cancelled() { Ended::Stopped } else { Ended::Idle }
    }
}

/// Cancelled when the process is asked to end. As the first process of a container it would not end by itself.
pub fn until_terminated() -> anyhow::Result<CancellationToken> {
    let stopping = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut told = signal(kind).context("listening to signals")?;
        let stopping = stopping.clone();
        tokio::spawn(async move {
            told.recv().await;
            stopping.cancel();
        });
    }
    Ok(stopping)
}

/// Ends when no request was under way for as long as that.
async fn nothing_under_way(mut under_way: watch::Receiver<usize>, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        // The sender lives in the routes, as long as this.
        if under_way.wait_for(|count| *count == 0).await.is_err() {
            return;
        }
        if tokio::time::timeout(idle, under_way.changed()).await.is_err() {
            return;
        }
    }
}

async fn ask_for_token(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    match guard::given_token(request.headers()) {
        Some(given) if guard::is_same(given, &token) => next.run(request).await,
        Some(_) => (StatusCode::UNAUTHORIZED, "the token is wrong").into_response(),
        None => (StatusCode::UNAUTHORIZED, "this door asks for a token").into_response(),
    }
}

/// Counts a request as under way until its answer has been sent.
async fn count(State(busy): State<Arc<watch::Sender<usize>>>, request: Request, next: Next) -> Response {
    let under_way = UnderWay::new(busy);
    next.run(request).await.map(|body| Body::new(Counted { body, _under_way: under_way }))
}

/// One request under way.
struct UnderWay(Arc<watch::Sender<usize>>);

impl UnderWay {
    fn new(busy: Arc<watch::Sender<usize>>) -> Self {
        busy.send_modify(|count| *count += 1);
        Self(busy)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A body that counts as long as it is there.
struct Counted {
    body: Body,
    _under_way: UnderWay,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a request gets that ran into a bug.
fn bug() -> Response {
    Refused(EngineError::Failed {
        what: "answering a request at a door".to_owned(),
        cause: "it ran into a bug; the log of its container says more".to_owned(),
    })
    .into_response()
}
