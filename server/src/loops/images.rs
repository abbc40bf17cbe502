//! What images leave behind in the registry: content that no tag leads to any more. It goes where the content is,
//! whoever keeps house for the Runs.

use crate::clock;
use crate::content::{Collected, ContentStore};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The slow clock.
const SLOW: Duration = Duration::from_mins(15);
/// How long content stays that no tag leads to: a push has its layers before its manifest, and whoever
/// moved a tag may want to move it back.
const GRACE: Duration = Duration::from_hours(24);

/// Collects content until the process is asked to stop.
pub(super) async fn collect_content(content: Arc<ContentStore>, stopping: CancellationToken) {
    loop {
        collect(&content).await;
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(SLOW) => {}
        }
    }
}

async fn collect(content: &Arc<ContentStore>) {
    let (content, before) = (Arc::clone(content), clock::file_time() - GRACE);
    match tokio::task::spawn_blocking(move || content.collect(before)).await {
        Ok(Ok(gone)) if gone == Collected::default() => {}
        Ok(Ok(Collected { blobs, bytes, manifests, uploads })) => tracing::info!(
            r#loop = "images",
            blobs,
            bytes,
            manifests,
            uploads,
            "removed content that no image refers to"
        ),
        Ok(Err(error)) => tracing::error!(r#loop = "images", %error, "unused content stays for now"),
        Err(error) => tracing::error!(r#loop = "images", %error, "collecting content ran into a bug"),
    }
}
