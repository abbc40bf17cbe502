//! Volumes that nothing refers to any more are removed, then forgotten.

use super::{TICK, Trouble};
use crate::app::App;

/// Volumes in one round.
const ROUND: u32 = 256;

/// Collects until the process is asked to stop.
pub(super) async fn collect(app: App) {
    loop {
        app.metrics.round("collect");
        match collect_round(&app).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::error!(r#loop = "collect", %error, "garbage could not be read"),
        }
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = app.wake.collect.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// One round; true when it removed something and there may be more.
async fn collect_round(app: &App) -> Result<bool, Trouble> {
    let garbage = app.store.garbage(ROUND).await?;
    let full = garbage.len() == ROUND as usize;
    let mut removed = 0;
    for volume in garbage {
        if app.stopping.is_cancelled() {
            return Ok(false);
        }
        // One volume that cannot be removed must not keep the others.
        if let Err(error) = app.engine.remove_volume(&volume).await {
            tracing::error!(r#loop = "collect", %volume, %error, "a volume could not be removed");
            continue;
        }
        app.store.forget_garbage(&volume).await?;
        removed += 1;
    }
    if removed > 0 {
        tracing::info!(r#loop = "collect", volumes = removed, "removed what nothing refers to");
    }
    Ok(full && removed > 0)
}
