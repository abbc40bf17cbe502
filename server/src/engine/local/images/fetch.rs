//! Fetches images from other registries into the content store.

use super::config::{CONFIG_LIMIT, Config};
use super::platform;
use super::{ImageProblem, Locks};
use crate::content::{
    ContentError, ContentStore, Descriptor, Digest, MANIFEST_LIMIT, Manifest, Platform, RepositoryName, TagName,
    media_type,
};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use knit_api::problem::reasons;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

/// Pauses between attempts at one request.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(700), Duration::from_secs(2)];
/// Layers that are fetched at the same time.
const AT_ONCE: usize = 3;
/// An index may list indexes, but not for ever.
const DEEPEST_INDEX: usize = 3;
/// What is asked for. Schema 1 is among it to be refused with its reason.
const ACCEPTED: [&str; 5] = [
    media_type::OCI_INDEX,
    media_type::DOCKER_LIST,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// Longest body of an error that is read.
const ERROR_LIMIT: usize = 64 << 10;

/// Other registries, over https; over http on this machine.
#[derive(Default)]
pub(in crate::engine) struct Remote {
    https: OnceLock<Connection>,
    http: OnceLock<Connection>,
}

/// How registries are asked.
struct Connection {
    scheme: &'static str,
    /// For tokens and blobs.
    client: Client,
    /// For manifests, which `client` would read whole, however long they are.
    manifests: reqwest::Client,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

/// What an image executes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Executed {
    /// `ENTRYPOINT`.
    pub(in crate::engine) entrypoint: Vec<String>,
    /// `CMD`.
    pub(in crate::engine) cmd: Vec<String>,
}

/// One image of one registry.
struct Wanted<'a> {
    connection: &'a Connection,
    reference: Reference,
    image: &'a str,
    host: &'a str,
}

impl Remote {
    /// Fetches what `tag` names there now, as far as it is not in `content`, and returns the digest of
    /// the manifest for this machine. The tag is asked for each time, so one that was moved is seen.
    pub(super) async fn fetch(
        &self,
        content: &ContentStore,
        locks: &Locks,
        image: &str,
        host: &str,
        name: &RepositoryName,
        tag: &TagName,
    ) -> Result<Digest, ImageProblem> {
        let not_a_host = || ImageProblem::NotFound {
            image: image.to_owned(),
            detail: format!("\"{host}\" is not a registry that can be asked"),
        };
        let repository = content.remote(host, name).ok_or_else(not_a_host)?;
        let wanted = self.wanted(image, host, name.as_str(), tag.as_str(), is_loopback(host))?;
        let (bytes, kind, manifest) = wanted.manifest().await?;
        let blobs: Vec<Descriptor> = manifest.blobs().cloned().collect();
        let asked = &wanted;
        let fetches = blobs.clone().into_iter().map(|blob| async move { asked.blob(content, locks, &blob).await });
        futures_util::stream::iter(fetches).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let (image, tag) = (image.to_owned(), tag.clone());
        let stored = tokio::task::spawn_blocking(move || {
            for blob in &blobs {
                repository.link_blob(&blob.digest)?;
            }
            repository.put_manifest(&bytes, kind, Some(&tag))
        });
        match stored.await.map_err(io::Error::other).map_err(ContentError::from).flatten() {
            Ok((stored, _)) => Ok(stored.digest),
            Err(error @ ContentError::Manifest(_)) => Err(ImageProblem::Bad { image, cause: error.to_string() }),
            Err(error) => Err(ImageProblem::Storage { image, cause: error.to_string() }),
        }
    }

    /// What the image that `tag` names there now executes by itself. A `plain` registry speaks http wherever it is.
    pub(in crate::engine) async fn executed(
        &self,
        image: &str,
        (host, name, tag): (&str, &str, &str),
        plain: bool,
    ) -> Result<Executed, ImageProblem> {
        let wanted = self.wanted(image, host, name, tag, plain || is_loopback(host))?;
        let (_, _, manifest) = wanted.manifest().await?;
        let Manifest::Image { config, .. } = &manifest else { return Err(wanted.bad("it is no image")) };
        let bytes = wanted.configuration(config).await?;
        let config = Config::read(&bytes).map_err(|cause| wanted.bad(format!("its configuration: {cause}")))?;
        let (_, process) = config.into_parts();
        Ok(Executed { entrypoint: process.entrypoint.unwrap_or_default(), cmd: process.cmd.unwrap_or_default() })
    }

    fn wanted<'a>(
        &'a self,
        image: &'a str,
        host: &'a str,
        name: &str,
        tag: &str,
        plain: bool,
    ) -> Result<Wanted<'a>, ImageProblem> {
        let connection = self.connection(plain).map_err(|error| ImageProblem::Unreachable {
            image: image.to_owned(),
            cause: format!("no connection can be set up on this machine: {}", reasons(&error)),
        })?;
        let reference = Reference::with_tag(host.to_owned(), name.to_owned(), tag.to_owned());
        Ok(Wanted { connection, reference, image, host })
    }

    fn connection(&self, plain: bool) -> Result<&Connection, OciDistributionError> {
        let (connection, scheme) = if plain { (&self.http, "http") } else { (&self.https, "https") };
        match connection.get() {
            Some(connection) => Ok(connection),
            None => Connection::new(scheme).map(|made| connection.get_or_init(|| made)),
        }
    }
}

impl Connection {
    fn new(scheme: &'static str) -> Result<Self, OciDistributionError> {
        const TO_CONNECT: Duration = Duration::from_secs(15);
        const TO_READ: Duration = Duration::from_mins(1);
        const NAME: &str = concat!("knitd/", env!("CARGO_PKG_VERSION"));
        // Does nothing when the program chose its cryptography already, as it does at its start.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let protocol = if scheme == "http" { ClientProtocol::Http } else { ClientProtocol::Https };
        let client = Client::try_from(ClientConfig {
            protocol,
            connect_timeout: Some(TO_CONNECT),
            read_timeout: Some(TO_READ),
            user_agent: NAME,
            ..ClientConfig::default()
        })?;
        let manifests = reqwest::Client::builder()
            .connect_timeout(TO_CONNECT)
            .read_timeout(TO_READ)
            .user_agent(NAME)
            .https_only(scheme == "https")
            .build()?;
        Ok(Self { scheme, client, manifests })
    }

    /// The bytes of a manifest; nothing when there are more than a manifest may have.
    async fn manifest(
        &self,
        reference: &Reference,
        token: Option<&str>,
    ) -> Result<Option<Vec<u8>>, OciDistributionError> {
        let which = reference.digest().or(reference.tag()).unwrap_or_default();
        let (registry, name) = (reference.resolve_registry(), reference.repository());
        let url = format!("{}://{registry}/v2/{name}/manifests/{which}", self.scheme);
        let mut request = self.manifests.get(&url).header(http::header::ACCEPT, ACCEPTED.join(", "));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let mut answer = request.send().await?;
        let status = answer.status();
        if status == http::StatusCode::OK {
            let (bytes, all) = start_of(&mut answer, MANIFEST_LIMIT as usize).await?;
            return Ok(all.then_some(bytes));
        }
        if status == http::StatusCode::UNAUTHORIZED {
            return Err(OciDistributionError::UnauthorizedError { url });
        }
        let (body, _) = start_of(&mut answer, ERROR_LIMIT).await?;
        Err(match serde_json::from_slice(&body) {
            Ok(envelope) if status.is_client_error() => OciDistributionError::RegistryError { envelope, url },
            _ => {
                let message = String::from_utf8_lossy(&body).into_owned();
                OciDistributionError::ServerError { code: status.as_u16(), url, message }
            }
        })
    }
}

/// Reads a body up to `limit` bytes; true when that is all of it.
async fn start_of(answer: &mut reqwest::Response, limit: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if chunk.len() > limit - bytes.len() {
            bytes.extend_from_slice(&chunk[..limit - bytes.len()]);
            return Ok((bytes, false));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, true))
}

impl Wanted<'_> {
    /// The manifest for this machine, with its bytes and kind.
    async fn manifest(&self) -> Result<(Vec<u8>, &'static str, Manifest), ImageProblem> {
        let host: Platform = platform::host();
        let mut reference = self.reference.clone();
        let client = &self.connection.client;
        let attempt = || client.auth(&self.reference, &RegistryAuth::Anonymous, RegistryOperation::Pull);
        let token = retried(attempt).await.map_err(|error| self.failed(&error))?;
        for _ in 0..DEEPEST_INDEX {
            let asked = &reference;
            let attempt = || self.connection.manifest(asked, token.as_deref());
            let sent = retried(attempt).await.map_err(|error| self.failed(&error))?;
            let bytes = sent.ok_or_else(|| self.bad(format!("its manifest has more than {MANIFEST_LIMIT} bytes")))?;
            if reference.digest().is_some_and(|digest| digest != Digest::of(&bytes).to_string()) {
                return Err(self.bad("the registry sent another manifest than the one that was asked for"));
            }
            let (manifest, kind) = Manifest::read(&bytes, "").map_err(|error| self.bad(error.to_string()))?;
            if manifest.children().is_empty() && matches!(manifest, Manifest::Image { .. }) {
                return Ok((bytes, kind, manifest));
            }
            let chosen = platform::choose(&host, manifest.children())
                .map_err(|there| ImageProblem::no_platform(self.image, &host, &there))?;
            reference = self.reference.clone_with_digest(chosen.digest.to_string());
        }
        Err(self.bad("its indexes are nested too deeply"))
    }

    /// The bytes of a configuration.
    async fn configuration(&self, blob: &Descriptor) -> Result<Vec<u8>, ImageProblem> {
        if blob.size > CONFIG_LIMIT {
            return Err(self.bad(format!("its configuration has more than {CONFIG_LIMIT} bytes")));
        }
        let mut failure = None;
        let mut body = Box::pin(Body { wanted: self, blob, at: 0, failure: &mut failure }.stream());
        let mut bytes = Vec::new();
        let mut broken = None;
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(error) => broken = Some(error),
            }
        }
        drop(body);
        match (failure, broken) {
            (Some(error), _) => Err(self.failed(&error)),
            (None, Some(error)) => Err(self.bad(error.to_string())),
            (None, None) if Digest::of(&bytes) != blob.digest => Err(self.bad("its configuration arrived damaged")),
            (None, None) => Ok(bytes),
        }
    }

    /// Fetches one blob unless it is there.
    async fn blob(&self, content: &ContentStore, locks: &Locks, blob: &Descriptor) -> Result<(), ImageProblem> {
        let _alone = locks.hold(&blob.digest.to_string()).await;
        let stored = |error: ContentError| ImageProblem::Storage { image: self.image.into(), cause: error.to_string() };
        if content.blob_size(&blob.digest).map_err(|error| stored(error.into()))? == Some(blob.size) {
            return Ok(());
        }
        let mut failure = None;
        let body = Box::pin(Body { wanted: self, blob, at: 0, failure: &mut failure }.stream());
        let ended = content.store_blob(body, blob.digest).await;
        match (ended, failure) {
            (Ok(_), None) => Ok(()),
            (_, Some(error)) => Err(self.failed(&error)),
            (Err(error @ ContentError::Digest { .. }), None) => {
                Err(self.bad(format!("layer {} arrived damaged: {error}", blob.digest)))
            }
            (Err(ContentError::Interrupted(cause)), None) => Err(self.bad(cause)),
            (Err(error), None) => Err(stored(error)),
        }
    }

    fn bad(&self, cause: impl Into<String>) -> ImageProblem {
        ImageProblem::Bad { image: self.image.to_owned(), cause: cause.into() }
    }

    fn failed(&self, error: &OciDistributionError) -> ImageProblem {
        let image = self.image.to_owned();
        let host = self.host;
        match answer(error) {
            Answer::NotThere => {
                ImageProblem::NotFound { image, detail: format!("the registry {host} does not have it") }
            }
            Answer::Refused => ImageProblem::NotFound {
                image,
                detail: format!(
                    "the registry {host} does not have it or does not give it without a login; \
                     copy it to the built-in registry with `knit image push`"
                ),
            },
            Answer::Other => ImageProblem::Unreachable { image, cause: format!("{host}: {}", reasons(error)) },
        }
    }
}

/// A blob on its way, which goes on where it broke off.
struct Body<'a> {
    wanted: &'a Wanted<'a>,
    blob: &'a Descriptor,
    at: u64,
    failure: &'a mut Option<OciDistributionError>,
}

type Chunks = BoxStream<'static, io::Result<Bytes>>;

impl<'a> Body<'a> {
    fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + 'a {
        let start: (Self, Option<Chunks>, usize) = (self, None, 0);
        futures_util::stream::try_unfold(start, |(mut body, mut chunks, mut broken)| async move {
            loop {
                if body.at >= body.blob.size {
                    // Whether it is the right content is for the store to say.
                    return Ok(None);
                }
                let mut flowing = match chunks.take() {
                    Some(chunks) => chunks,
                    None => body.request().await?,
                };
                match flowing.next().await {
                    None if broken >= PAUSES.len() => return Ok(None),
                    Some(Ok(chunk)) => {
                        body.at += chunk.len() as u64;
                        if body.at > body.blob.size {
                            let what = format!("layer {} is longer than the manifest says", body.blob.digest);
                            return Err(io::Error::other(what));
                        }
                        return Ok(Some((chunk, (body, Some(flowing), broken))));
                    }
                    Some(Err(error)) if broken >= PAUSES.len() => {
                        *body.failure = Some(OciDistributionError::IoError(io::Error::other(reasons(&error))));
                        return Err(error);
                    }
                    None | Some(Err(_)) => {}
                }
                tokio::time::sleep(PAUSES[broken]).await;
                broken += 1;
            }
        })
    }

    /// Asks for what is still missing.
    async fn request(&mut self) -> io::Result<Chunks> {
        let (wanted, digest) = (self.wanted, self.blob.digest.to_string());
        let descriptor = oci_client::manifest::OciDescriptor {
            media_type: self.blob.media_type.clone(),
            digest,
            size: self.blob.size as i64,
            ..Default::default()
        };
        let at = self.at;
        // The store verifies the whole; the client's own check would refuse a part.
        let left = self.blob.size.saturating_sub(at);
        let client = &wanted.connection.client;
        let attempt = || client.pull_blob_stream_partial(&wanted.reference, &descriptor, at, Some(left));
        let answered = retried(attempt).await.map_err(|error| {
            let told = io::Error::other(reasons(&error));
            *self.failure = Some(error);
            told
        })?;
        Ok(match answered {
            BlobResponse::Partial(part) => part.stream,
            // It does not know ranges: what was received before comes once more.
            BlobResponse::Full(whole) => Box::pin(skip(whole.stream, at)),
        })
    }
}

/// A stream without its first bytes.
fn skip(stream: Chunks, mut bytes: u64) -> impl Stream<Item = io::Result<Bytes>> {
    stream.map_ok(move |mut chunk| {
        let here = bytes.min(chunk.len() as u64);
        bytes -= here;
        chunk.split_off(here as usize)
    })
}

/// Does a request again, after a pause, while it fails in a way that may pass.
async fn retried<T, F>(attempt: impl Fn() -> F) -> Result<T, OciDistributionError>
where
    F: Future<Output = Result<T, OciDistributionError>>,
{
    for pause in PAUSES {
        match attempt().await {
            Err(error) if may_pass(&error) => tokio::time::sleep(pause).await,
            ended => return ended,
        }
    }
    attempt().await
}

fn may_pass(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(error) => !error.is_builder() && !error.is_redirect(),
        OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code >= 500 || *code == 429 || *code == 408,
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|one| one.code == OciErrorCode::Toomanyrequests)
        }
        _ => false,
    }
}

/// What a registry means by an error.
enum Answer {
    NotThere,
    Refused,
    Other,
}

fn answer(error: &OciDistributionError) -> Answer {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) | OciDistributionError::ServerError { code: 404, .. } => {
            Answer::NotThere
        }
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::ServerError { code: 401 | 403, .. } => Answer::Refused,
        OciDistributionError::RegistryError { envelope, .. } => match envelope.errors.first().map(|one| &one.code) {
            Some(
                OciErrorCode::ManifestUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::NotFound
                | OciErrorCode::BlobUnknown
                | OciErrorCode::NameInvalid,
            ) => Answer::NotThere,
            Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Answer::Refused,
            _ => Answer::Other,
        },
        _ => Answer::Other,
    }
}

/// True for this machine itself, where plain http is in order.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn plain_http_is_only_for_this_machine() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:80", "127.1.2.3", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example:80", "10.0.0.1:5000", "example.com", "127.0.0.1.example", "0.0.0.0:80", "[::2]"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
