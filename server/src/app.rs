//! Everything the server's parts share: fields, no verbs.

use crate::content::ContentStore;
use crate::engine::Engine;
use crate::settings::Settings;
use crate::store::Store;
use crate::wake::Wake;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Shared by all loops and handlers of one process.
#[derive(Clone)]
pub struct App {
    /// What the operator decided.
    pub settings: Arc<Settings>,
    /// The facts.
    pub store: Store,
    /// Where bytes and work live.
    pub engine: Arc<dyn Engine>,
    /// Blobs of images.
    pub content: Arc<ContentStore>,
    /// Signals.
    pub wake: Arc<Wake>,
    /// Cancelled when the process is asked to stop.
    pub stopping: CancellationToken,
}
