//! The HTTP client of the API: one [`Client`] per profile, the requests by noun in [`data`], [`plans`]
//! and [`runs`], the streams of an [`upload`] and a [`download`], and looks into Data in [`content`].
//!
//! It speaks with servers of ours and with original v1.6.1 servers. [`Client::server`] tells them
//! apart; towards an original one nothing is ever sent that it does not know.

pub mod candidates;
pub mod content;
pub mod data;
pub mod download;
mod elements;
pub mod error;
pub mod events;
mod events_text;
pub mod explain;
pub mod graph;
mod incoming;
pub mod listing;
pub mod plans;
pub mod runs;
pub mod upload;

pub use content::{FileStream, ManifestStream, Verification};
pub use data::DataQuery;
pub use download::{Checked, Download, DownloadError};
pub use error::{Class, ClientError, Refusal};
pub use events::{RunEvent, RunWatch};
pub use graph::{Lineage, PlanGraph};
pub use incoming::{Arriving, PartReader};
pub use listing::Listing;
pub use plans::PlanQuery;
pub use runs::{RunLog, RunQuery};
pub use upload::UploadError;

use crate::endpoint;
use crate::profile::Profile;
use crate::server::ServerInfo;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, redirect};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use url::Url;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may be silent where nothing long is asked of it.
const SILENCE: Duration = Duration::from_mins(2);
/// How long a server may take no more of what is sent to it. On a cluster it takes a Data only when there is a Pod for
/// it, whose image and volume may take their time; reqwest alone would give up after 30 seconds.
#[cfg(target_os = "linux")]
const FULL: Duration = Duration::from_mins(3);
/// Most redirects that are followed.
const REDIRECTS: usize = 10;
/// Largest JSON answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 30;
/// Largest part of an error answer that is read, in bytes.
const MAX_PROBLEM: usize = 64 * 1024;

/// A connection pool to one server. Cloning is cheap and shares it.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    root: Url,
    token: Option<HeaderValue>,
    server: Arc<OnceCell<Option<ServerInfo>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("root", &self.root.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for the server of this profile; nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Profile`] when the profile cannot be used.
    pub fn new(profile: &Profile) -> Result<Self, ClientError> {
        let root = profile.check().map_err(|e| ClientError::Profile(e.to_string()))?;
        let token = match &profile.token {
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| ClientError::Profile("the token cannot be sent in a header".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let mut builder = connections(&root).redirect(redirect::Policy::custom(follow));
        if let Some(pem) = profile.ca_pem().map_err(|e| ClientError::Profile(e.to_string()))? {
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|e| ClientError::Profile(format!("cert.ca cannot be used: {}", error::root_cause(&e))))?;
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder.build().map_err(|e| ClientError::Profile(error::root_cause(&e)))?;
        Ok(Self { http, root, token, server: Arc::new(OnceCell::new()) })
    }

    /// The API's root, without a trailing slash.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// True when the server is on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.root)
    }

    /// What the server says of itself, asked once; `None` means an original v1.6.1 server.
    pub async fn server(&self) -> Result<Option<&ServerInfo>, ClientError> {
        let known = self
            .server
            .get_or_try_init(|| async {
                match self.json(Method::GET, endpoint::SERVER, &[]).await {
                    Ok(info) => Ok(Some(info)),
                    Err(e) if e.status() == Some(404) => Ok(None),
                    Err(e) => Err(e),
                }
            })
            .await?;
        Ok(known.as_ref())
    }

    /// True when the server announces this capability.
    pub async fn can(&self, capability: &str) -> Result<bool, ClientError> {
        Ok(self.server().await?.is_some_and(|server| server.can(capability)))
    }

    /// How the server does; not on an original one.
    pub async fn status(&self) -> Result<crate::server::ServerStatus, ClientError> {
        self.json(Method::GET, endpoint::SERVER_STATUS, &[]).await
    }

    /// What the server has to offer to Plans. Only for a server that announces
    /// [`crate::server::capability::CLUSTER`].
    pub async fn cluster(&self) -> Result<crate::cluster::Cluster, ClientError> {
        self.json(Method::GET, endpoint::CLUSTER, &[]).await
    }

    /// The URL of a route below the root, with a query.
    fn url(&self, route: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.root.clone();
        // Routes come percent-encoded, and `set_path` leaves that alone.
        url.set_path(&format!("{}{route}", self.root.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        url
    }

    /// A request with the token, if there is one.
    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        }
    }

    /// Sends a request and waits for the head of the answer; an answer that is an error becomes one.
    async fn send(&self, request: RequestBuilder, patience: Option<Duration>) -> Result<Response, ClientError> {
        let answer = match patience {
            Some(patience) => tokio::time::timeout(patience, request.send())
                .await
                .map_err(|_| ClientError::Silent { url: self.root.to_string(), seconds: patience.as_secs() })?,
            None => request.send().await,
        };
        let answer = answer.map_err(|e| ClientError::from_network(&self.root, &e))?;
        if answer.status().is_success() { Ok(answer) } else { Err(refused(answer).await) }
    }

    /// A request without a body whose answer is JSON.
    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let request = self.request(method, self.url(route, query));
        self.read_json(self.send(request, Some(SILENCE)).await?).await
    }

    /// A request with a JSON body whose answer is JSON.
    async fn json_with<B: serde::Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::NotUnderstood {
            url: self.root.to_string(),
            cause: format!("the request cannot be written as JSON: {e}"),
        })?;
        let request = self
            .request(method, self.url(route, &[]))
            // Exactly this text: the original refuses parameters behind it.
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        self.read_json(self.send(request, Some(SILENCE)).await?).await
    }

    /// Reads an answer whole and decodes it.
    async fn read_json<T: DeserializeOwned>(&self, answer: Response) -> Result<T, ClientError> {
        let url = answer.url().to_string();
        let body = self.collect(answer).await?;
        crate::json::from_slice(&body).map_err(|e| ClientError::NotUnderstood { url, cause: e.to_string() })
    }

    /// Reads an answer whole; the time between two parts of it is bounded, not the whole.
    async fn collect(&self, answer: Response) -> Result<Vec<u8>, ClientError> {
        let mut body = answer_body(answer);
        let mut whole = Vec::new();
        loop {
            let part = tokio::time::timeout(SILENCE, next_part(&mut body))
                .await
                .map_err(|_| ClientError::Silent { url: self.root.to_string(), seconds: SILENCE.as_secs() })?
                .map_err(|e| ClientError::from_network(&self.root, &e))?;
            let Some(part) = part else { return Ok(whole) };
            if whole.len() + part.len() > MAX_ANSWER {
                return Err(ClientError::NotUnderstood {
                    url: self.root.to_string(),
                    cause: format!("the answer has more than {} MiB", MAX_ANSWER >> 20),
                });
            }
            whole.extend_from_slice(&part);
        }
    }
}

/// Connections to the server at this root, be it an API or a registry: whoever speaks HTTP for us begins
/// here, so that what is sent to this machine stays on it. Redirects are the caller's to decide.
pub fn connections(root: &Url) -> reqwest::ClientBuilder {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Someone else may do the same at this moment: then theirs is there, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("knit/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .tcp_keepalive(Duration::from_mins(1))
        .tcp_nodelay(true)
        .referer(false);
    #[cfg(target_os = "linux")]
    {
        builder = builder.tcp_user_timeout(FULL);
    }
    if is_loopback(root) {
        // A proxy leads away from this machine, and would be given the token; and reading the system's
        // certificates costs time.
        builder = builder.no_proxy();
        if root.scheme() == "http" {
            builder = builder.tls_certs_only(std::iter::empty());
        }
    }
    builder
}

/// The token is dropped when the host, port or scheme changes; and nothing follows a redirect that
/// takes TLS away.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if (secure && attempt.url().scheme() != "https") || attempt.previous().len() > REDIRECTS {
        attempt.stop()
    } else {
        attempt.follow()
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The body of an answer as frames, so that trailers are seen.
fn answer_body(answer: Response) -> reqwest::Body {
    http::Response::from(answer).into_body()
}

/// The next bytes of a body; `None` at its end. Trailers are passed over.
async fn next_part(body: &mut reqwest::Body) -> Result<Option<Bytes>, reqwest::Error> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(e)) => return Err(e),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The error that an answer is. Only the beginning of its body is read, and not for long.
async fn refused(answer: Response) -> ClientError {
    let status = answer.status().as_u16();
    let url = answer.url().to_string();
    let location =
        answer.headers().get(reqwest::header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut body = answer_body(answer);
    let mut text = Vec::new();
    let read = async {
        while let Ok(Some(part)) = next_part(&mut body).await {
            text.extend_from_slice(&part[..part.len().min(MAX_PROBLEM - text.len())]);
            if text.len() >= MAX_PROBLEM {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await;
    let mut refusal = Refusal::parse(status, &text);
    if let (300..400, Some(location)) = (status, location) {
        refusal.advice = format!("the server points to {location}; correct apiRoot in the profile");
    }
    ClientError::Refused { url, status, refusal: Box::new(refusal) }
}
