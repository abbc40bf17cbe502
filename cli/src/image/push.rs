//! Sends an image to a registry: first what its manifests name, then the manifests, then the tag.

use super::registry::Client;
use super::source::{self, Blob};
use super::{Access, ImageError, Progress, Source};
use bytes::Bytes;
use knit_api::image::ImageRef;
use knit_api::server::Registry;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

/// Pauses between attempts at one blob when the connection breaks.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
const CHUNK: usize = 1 << 18;

/// What is in the registry now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The name to write into a Plan: without a host, because that always means this registry.
    pub reference: String,
    /// `sha256:…` of what the tag names.
    pub digest: String,
}

/// Pushes the image in `source` as `target` to `registry`. When it is interrupted, the tag names what it
/// named before; a repetition sends only what is missing.
pub async fn push(
    source: Source,
    target: &ImageRef,
    registry: &Registry,
    access: &Access,
    progress: &dyn Progress,
) -> Result<Pushed, ImageError> {
    let (name, tag) = super::target(target, registry)?;
    let client = Client::new(registry, access)?;
    let origin = source.to_string();
    let opened = tokio::task::spawn_blocking(move || source::open(&source)).await;
    let image = opened.map_err(|error| local("reading the image", io::Error::other(error))).flatten()?;
    for blob in &image.blobs {
        let digest = blob.digest.to_string();
        if client.has_blob(name, &digest).await? {
            progress.skip(&digest, blob.part.size);
        } else {
            progress.begin(&digest, blob.part.size);
            send_surely(&client, name, blob, &origin, progress).await?;
            progress.end();
        }
    }
    let mut digest = String::new();
    let last = image.manifests.len() - 1;
    for (i, manifest) in image.manifests.into_iter().enumerate() {
        digest = manifest.digest.to_string();
        let reference = if i == last { tag } else { &digest };
        client.put_manifest(name, reference, &manifest.media_type, manifest.bytes).await?;
    }
    Ok(Pushed { reference: format!("{name}:{tag}"), digest })
}

fn local(what: &str, cause: io::Error) -> ImageError {
    ImageError::Local { what: what.to_owned(), cause }
}

async fn send_surely(
    client: &Client,
    name: &str,
    blob: &Blob,
    origin: &str,
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    for pause in PAUSES {
        match send(client, name, blob, progress).await {
            Err(ImageError::Unreachable { .. }) => {
                tokio::time::sleep(pause).await;
                progress.begin(&blob.digest.to_string(), blob.part.size);
            }
            ended => return ended.map_err(|error| blame(error, blob, origin)),
        }
    }
    send(client, name, blob, progress).await.map_err(|error| blame(error, blob, origin))
}

/// A registry that finds another digest than was announced has found damage in the source.
fn blame(error: ImageError, blob: &Blob, origin: &str) -> ImageError {
    match error {
        ImageError::Registry { cause, .. } if cause.contains("(DIGEST_INVALID)") => ImageError::Damaged {
            origin: origin.to_owned(),
            cause: format!("the content of {} is another: {cause}", blob.digest),
        },
        other => other,
    }
}

/// Sends one blob in one piece, reading the next part of it while one is on its way.
async fn send(client: &Client, name: &str, blob: &Blob, progress: &dyn Progress) -> Result<(), ImageError> {
    let what = "reading a layer of the image";
    let part = blob.part.open().map_err(|cause| local(what, cause))?;
    let place = client.begin_upload(name).await?;
    let (chunks, mut received) = mpsc::channel::<io::Result<Bytes>>(4);
    let body = reqwest::Body::wrap_stream(futures_util::stream::poll_fn(move |context| received.poll_recv(context)));
    let reading = async {
        let size = part.limit();
        let mut file = tokio::fs::File::from_std(part.into_inner()).take(size);
        file.get_mut().set_max_buf_size(CHUNK);
        let mut left = size;
        while left > 0 {
            let mut chunk = Vec::with_capacity(CHUNK);
            match file.read_buf(&mut chunk).await {
                Ok(0) => {
                    let cause = io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter");
                    let _ = chunks.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                    return Err(local(what, cause));
                }
                Ok(n) => {
                    left -= n as u64;
                    if chunks.send(Ok(chunk.into())).await.is_err() {
                        // The request is over; its answer tells why.
                        break;
                    }
                    progress.advance(n as u64);
                }
                Err(cause) => {
                    let _ = chunks.send(Err(cause.kind().into())).await;
                    return Err(local(what, cause));
                }
            }
        }
        drop(chunks);
        Ok(())
    };
    let digest = blob.digest.to_string();
    let sending = client.end_upload(place, &digest, blob.part.size, body);
    let (read, sent) = futures_util::future::join(reading, sending).await;
    read.and(sent)
}
