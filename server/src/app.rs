//! Everything the server's parts share: fields, no verbs.

use crate::content::ContentStore;
use crate::engine::Engine;
use crate::metrics::Metrics;
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
    /// Blobs of images, where this process has any.
    pub content: Option<Arc<ContentStore>>,
    /// Signals.
    pub wake: Arc<Wake>,
    /// What this process counts of itself.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the process is asked to stop: nothing is begun any more that is not asked for.
    pub stopping: CancellationToken,
    /// Cancelled when no request is taken any more. Those who wait for something are answered.
    pub closing: CancellationToken,
}
