//! What no row knows: volumes whose push was not registered, workers whose Run is gone. A process that
//! was killed leaves such things behind; they are removed at the start and on a slow clock. So is what the
//! engine has no use for any more: layers of images that nobody runs, Pods and Secrets that belong to nothing.

use super::Trouble;
use super::hands::Hands;
use crate::app::App;
use crate::clock;
use crate::engine::Volume;
use knit_api::id::RunId;
use knit_api::run::RunStatus;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Volumes that no row knows, and for how long that is known; none for longer than this process lives.
pub(super) type Suspects = HashMap<Volume, Option<Instant>>;

/// How long a Run is held while a stray worker of it is removed: longer than that may take.
const HOLD: Duration = Duration::from_mins(5);

/// How long stays what only makes the next time faster, as unpacked layers do: over a weekend.
const GRACE_OF_CACHES: Duration = Duration::from_hours(72);

/// The strays that an earlier process left. To be called before anything is served by the only process there is:
/// nothing is being pushed yet, so no grace is needed.
pub(super) async fn strays_at_start(app: &App) -> Suspects {
    let strays = strays(app).await.unwrap_or_else(|error| {
        tracing::error!(r#loop = "housekeep", %error, "volumes that nothing refers to could not be looked for");
        Vec::new()
    });
    strays.into_iter().map(|volume| (volume, None)).collect()
}

/// Keeps house until the process is asked to stop; `suspects` are strays already. A volume is a stray only when no look
/// has found a row for it, or a use, for a while, and at least two have: a push has its bytes before it has its row.
pub(super) async fn housekeep(app: App, hands: Arc<Hands>, mut suspects: Suspects) {
    loop {
        app.metrics.round("housekeep");
        match remove_strays(&app, &suspects).await {
            Ok(now) => suspects = now,
            Err(error) => tracing::error!(r#loop = "housekeep", %error, "stray volumes could not be looked for"),
        }
        if let Err(error) = remove_workers(&app, &hands).await {
            tracing::error!(r#loop = "housekeep", %error, "stray workers could not be looked for");
        }
        tidy(&app, clock::file_time()).await;
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(app.settings.housekeeping) => {}
        }
    }
}

async fn strays(app: &App) -> Result<Vec<Volume>, Trouble> {
    let all = app.engine.volumes().await?;
    Ok(app.store.unknown_volumes(&all).await?)
}

/// Removes what has been a stray for long enough; returns what is one now.
async fn remove_strays(app: &App, suspects: &Suspects) -> Result<Suspects, Trouble> {
    let grace = app.settings.cluster.as_ref().map_or(Duration::ZERO, |cluster| cluster.stray_grace);
    let (now, due) = judge(strays(app).await?, suspects, grace, clock::deadline(Duration::ZERO));
    for volume in due {
        match app.engine.remove_volume(&volume).await {
            Ok(()) => tracing::info!(r#loop = "housekeep", %volume, "removed a volume that no row knows"),
            Err(error) => tracing::error!(r#loop = "housekeep", %volume, %error, "a stray volume stays for now"),
        }
    }
    Ok(now)
}

/// What is suspected after a look that found these strays, and which of them have been for the whole grace.
fn judge(strays: Vec<Volume>, suspects: &Suspects, grace: Duration, now: Instant) -> (Suspects, Vec<Volume>) {
    let known = |volume: &Volume| suspects.get(volume).copied();
    let long_enough = |since: Option<Instant>| since.is_none_or(|since| now.duration_since(since) >= grace);
    let due = strays.iter().filter(|volume| known(volume).is_some_and(long_enough)).cloned().collect();
    let since = |volume: &Volume| known(volume).unwrap_or(Some(now));
    (strays.into_iter().map(|volume| (volume.clone(), since(&volume))).collect(), due)
}

/// Removes workers whose Run is unknown, over, or has not come to its start.
async fn remove_workers(app: &App, hands: &Hands) -> Result<(), Trouble> {
    let owner = format!("housekeep-{}", clock::new_id());
    for run in app.engine.workers().await? {
        // Looked at before it is taken in hand, so that a Run that is followed is never held up here.
        if !is_stray(app, &run).await? {
            continue;
        }
        let _held = hands.hold(&run).await;
        // From here on no process begins anything with the Run, if there is one.
        let claim = app.store.hold_idle(&run, &owner, clock::now(), clock::after(HOLD)).await?;
        if claim.is_none() && app.store.run_status(&run).await?.is_some() {
            continue;
        }
        match app.engine.remove_worker(&run, Duration::ZERO).await {
            Ok(()) => tracing::info!(r#loop = "housekeep", %run, "removed a worker that no Run has"),
            Err(error) => tracing::error!(r#loop = "housekeep", %run, %error, "a stray worker stays for now"),
        }
        if let Some(claim) = claim {
            app.store.release(&claim).await?;
            app.wake.initialize.notify_one();
        }
    }
    Ok(())
}

/// Removes what the engine has no use for any more.
async fn tidy(app: &App, now: SystemTime) {
    match app.engine.tidy(now - GRACE_OF_CACHES).await {
        Ok(0) => {}
        Ok(things) => tracing::info!(r#loop = "housekeep", things, "removed what nobody uses any more"),
        Err(error) => tracing::error!(r#loop = "housekeep", %error, "what nobody uses any more stays for now"),
    }
}

async fn is_stray(app: &App, run: &RunId) -> Result<bool, Trouble> {
    Ok(match app.store.run_status(run).await? {
        None | Some(RunStatus::Deactivated | RunStatus::Waiting) => true,
        Some(status) => status.is_over(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_a_stray_when_nobody_had_to_do_with_it_for_the_whole_grace() {
        let (volume, grace, begin) = (Volume::from_stored("v".to_owned()), Duration::from_mins(1), Instant::now());
        let look = |suspects: &Suspects, grace, after| judge(vec![volume.clone()], suspects, grace, begin + after);
        let only = std::slice::from_ref(&volume);
        let (first, due) = look(&Suspects::new(), grace, Duration::ZERO);
        assert_eq!(due, []);
        let (second, due) = look(&first, grace, grace / 2);
        assert_eq!(due, []);
        assert_eq!(look(&second, grace, grace).1, only);

        let (used, _) = judge(Vec::new(), &second, grace, begin + grace);
        let (again, due) = look(&used, grace, grace * 2);
        assert_eq!(due, [], "somebody had to do with it meanwhile");
        assert_eq!(look(&again, Duration::ZERO, grace * 2).1, only, "without a grace two looks are enough");
        let left = Suspects::from([(volume.clone(), None)]);
        assert_eq!(look(&left, grace, Duration::ZERO).1, only, "it was one before this process began");
    }
}
