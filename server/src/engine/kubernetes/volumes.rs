//! What is done with volumes: filled, read and sealed through agents. What only asks for manifests is answered from
//! the store.

use super::Shared;
use super::agents::Agent;
use super::client::{Client, Delete};
use super::dial::Ask;
use crate::clock;
use crate::engine::blocking::{outgoing, readable, taken};
use crate::engine::{
    ByteStream, Checks, EngineError, Entry, Form, Manifest, Registered, Sealed, Volume, manifest as manifests,
};
use crate::store::{KeptManifest, NotKept, Store, StoreError};
use crate::transfers::unless_still;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use knit_api::bundle::{Digest, Selection, copy_part};
use knit_api::content::Check;
use knit_api::time::Timestamp;
use std::io;
use std::ops::Range;
use std::time::SystemTime;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio_util::io::StreamReader;

/// Longest line of a verification, in bytes: a path in JSON and in base64.
const LONGEST_LINE: u64 = 64 << 10;

impl Shared {
    pub(super) async fn receive(&self, volume: &Volume, form: Form, body: ByteStream) -> Result<Sealed, EngineError> {
        if self.client.get::<PersistentVolumeClaim>(volume.as_str()).await?.is_some() {
            return Err(failed("receiving", volume, &"it exists already"));
        }
        let filling = Filling { client: self.client.clone(), volume: volume.clone(), armed: true };
        match self.fill(volume, form, body).await {
            Ok(sealed) => {
                filling.keep();
                Ok(sealed)
            }
            Err(error) => {
                filling.undo().await;
                Err(error)
            }
        }
    }

    async fn fill(&self, volume: &Volume, form: Form, body: ByteStream) -> Result<Sealed, EngineError> {
        self.create_volume(volume).await?;
        let agent = self.agents.writer(volume).await?;
        let ask = Ask::post(format!("/volumes/{volume}?form={}", name_of(form))).with(in_time(body));
        let sealed = agent.ask(ask).await?.json().await?;
        self.finish(agent, sealed).await
    }

    pub(super) async fn seal(&self, volume: &Volume) -> Result<Sealed, EngineError> {
        let agent = self.agents.writer(volume).await?;
        let sealed = agent.ask(Ask::post(format!("/volumes/{volume}/seal"))).await?.json().await?;
        self.finish(agent, sealed).await
    }

    /// Keeps the manifest that the agent has made, and lets go of the agent. It writes only when it is asked to, and
    /// nobody else can ask it: nothing will write into the volume any more, though it takes the cluster seconds to end
    /// a Pod.
    async fn finish(&self, agent: Agent, sealed: Sealed) -> Result<Sealed, EngineError> {
        let manifest = agent.ask(Ask::get(format!("/manifests/{}", sealed.digest))).await?;
        self.keep_manifest(&sealed.digest, manifest.stream()).await?;
        drop(agent);
        Ok(sealed)
    }

    /// Keeps a manifest that an agent or a recorder has made.
    pub(super) async fn keep_manifest(&self, digest: &str, manifest: ByteStream) -> Result<(), EngineError> {
        let kept = self.store.keep_manifest(digest, &clock::new_id(), clock::now(), manifest).await;
        kept.map_err(|error| match error {
            NotKept::Store(StoreError::NoSpace) => EngineError::NoSpace(format!("the database, for manifest {digest}")),
            NotKept::Store(error @ StoreError::Unavailable { .. }) => {
                EngineError::Unavailable { what: format!("keeping manifest {digest}"), cause: error.to_string() }
            }
            error => EngineError::Failed { what: format!("keeping manifest {digest}"), cause: error.to_string() },
        })
    }

    pub(super) async fn send(
        &self,
        volume: &Volume,
        form: Form,
        registered: Option<&Registered>,
    ) -> Result<ByteStream, EngineError> {
        let mut path = format!("/volumes/{volume}?form={}", name_of(form));
        if let Some(Registered { digest, compared_by_receiver }) = registered {
            path = format!("{path}&digest={}&compared_by_receiver={compared_by_receiver}", parsed(digest)?);
        }
        self.read_with(volume, || Ask::get(path.clone())).await
    }

    pub(super) async fn send_part(
        &self,
        volume: &Volume,
        form: Form,
        only: Selection,
    ) -> Result<ByteStream, EngineError> {
        let path = format!("/volumes/{volume}/part?form={}", name_of(form));
        let globs = serde_json::to_vec(only.globs()).map_err(|cause| failed("choosing in", volume, &cause))?;
        let globs = Bytes::from(globs);
        let body = || Box::pin(stream::iter([Ok(globs.clone())]));
        self.read_with(volume, || Ask::post(path.clone()).with(body())).await
    }

    pub(super) async fn read(
        &self,
        volume: &Volume,
        path: &[u8],
        size: u64,
        bytes: Range<u64>,
    ) -> Result<ByteStream, EngineError> {
        let Range { start, end } = bytes;
        let path = format!("/volumes/{volume}/file?path={}&size={size}&from={start}&to={end}", hex::encode(path));
        self.read_with(volume, || Ask::get(path.clone())).await
    }

    pub(super) async fn verify(&self, volume: &Volume, digest: &str) -> Result<Checks, EngineError> {
        let path = format!("/volumes/{volume}/verify?digest={}", parsed(digest)?);
        // Said before an agent is started for nothing.
        self.kept(digest).await?;
        let manifest = || -> ByteStream {
            let (store, digest) = (self.store.clone(), digest.to_owned());
            let kept = async move { kept_in(&store, &digest).await.map(|kept| kept.stream).map_err(io::Error::other) };
            Box::pin(stream::once(kept).try_flatten())
        };
        let ask = || Ask::post(path.clone()).with(manifest());
        let checks = BufReader::new(StreamReader::new(self.read_with(volume, ask).await?));
        Ok(Box::pin(stream::try_unfold(checks, async |mut checks| {
            let mut line = Vec::new();
            let count = (&mut checks).take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
            let check = (count > 0).then(|| serde_json::from_slice::<Check>(&line)).transpose();
            Ok(check.map_err(io::Error::other)?.map(|check| (check, checks)))
        })))
    }

    /// What an agent that hands out this volume answers; the agent is held until the end of it.
    pub(super) async fn read_with(
        &self,
        volume: &Volume,
        ask: impl Fn() -> Ask + Send + Sync,
    ) -> Result<ByteStream, EngineError> {
        let (reply, lease) = self.agents.ask_reader(volume, ask).await?;
        Ok(lease.stream(reply))
    }

    pub(super) async fn look_up(&self, digest: &str, path: &[u8]) -> Result<Entry, EngineError> {
        let (parsed, kept) = (parsed(digest)?, self.kept(digest).await?);
        let (name, path) = (digest.to_owned(), path.to_vec());
        taken(format!("looking into manifest {digest}"), kept.stream, move |body| {
            manifests::look_up(&path, &name, || manifests::read(body, parsed))
        })
        .await
    }

    pub(super) async fn manifest(&self, digest: &str, under: Option<&[u8]>) -> Result<Manifest, EngineError> {
        let (parsed, kept) = (parsed(digest)?, self.kept(digest).await?);
        let Some(under) = under.map(<[u8]>::to_vec) else {
            return Ok(Manifest { stream: kept.stream, length: Some(kept.length) });
        };
        let body = readable(kept.stream);
        let stream = outgoing(format!("manifest {digest}"), move |mut out| {
            let mut entries = knit_api::bundle::ManifestReader::new(body, parsed)?;
            copy_part(&mut entries, &under, &mut out)
        });
        Ok(Manifest { stream: stream.await, length: None })
    }

    async fn kept(&self, digest: &str) -> Result<KeptManifest, EngineError> {
        kept_in(&self.store, digest).await
    }

    /// Removes what is left of manifests that were begun before that and never became whole; how many there were.
    pub(super) async fn give_up_manifests(&self, before: SystemTime) -> Result<u64, EngineError> {
        let since = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let before = Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        self.store.give_up_manifests(before).await.map_err(|error| EngineError::Failed {
            what: "removing pieces of manifests".to_owned(),
            cause: error.to_string(),
        })
    }
}

async fn kept_in(store: &Store, digest: &str) -> Result<KeptManifest, EngineError> {
    let kept = store.manifest(digest).await.map_err(|error| EngineError::Failed {
        what: format!("looking for manifest {digest}"),
        cause: error.to_string(),
    })?;
    kept.ok_or_else(|| EngineError::Damaged(format!("the manifest {digest} is lost")))
}

/// A volume that is being filled. It is removed unless it is kept.
struct Filling {
    client: Client,
    volume: Volume,
    armed: bool,
}

impl Filling {
    fn keep(mut self) {
        self.armed = false;
    }

    async fn undo(mut self) {
        self.armed = false;
        remove(&self.client, &self.volume).await;
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // Without a runtime the process is about to end; housekeeping removes what no row knows.
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && self.armed
        {
            let (client, volume) = (self.client.clone(), self.volume.clone());
            runtime.spawn(async move { remove(&client, &volume).await });
        }
    }
}

async fn remove(client: &Client, volume: &Volume) {
    if let Err(error) = client.delete::<PersistentVolumeClaim>(volume.as_str(), &Delete::default()).await {
        tracing::warn!(%volume, %error, "a volume that could not be filled stays for now; housekeeping removes it");
    }
}

/// A body whose sender may not stand still for ever.
fn in_time(body: ByteStream) -> ByteStream {
    Box::pin(stream::unfold(Some(body), async |body| {
        let mut body = body?;
        match unless_still(body.next()).await {
            Ok(None) => None,
            Ok(Some(piece)) => Some((piece, Some(body))),
            Err(still) => Some((Err(still), None)),
        }
    }))
}

/// A form as agents call it.
fn name_of(form: Form) -> &'static str {
    match form {
        Form::Bundle => "bundle",
        Form::BundleZstd => "bundle-zstd",
        Form::TarGz => "tar-gz",
    }
}

fn parsed(digest: &str) -> Result<Digest, EngineError> {
    digest.parse::<Digest>().map_err(|cause| EngineError::Failed {
        what: format!("using digest {}", digest.escape_debug()),
        cause: cause.to_string(),
    })
}

fn failed(doing: &str, volume: &Volume, cause: &dyn std::fmt::Display) -> EngineError {
    EngineError::Failed { what: format!("{doing} volume {volume}"), cause: cause.to_string() }
}
