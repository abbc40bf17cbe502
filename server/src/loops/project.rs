//! New combinations of Data become Runs, Plan by Plan, in bounded steps.

use super::TICK;
use crate::app::App;
use crate::clock;
use crate::store::StoreError;

/// Projects until the process is asked to stop.
pub(super) async fn project(app: App) {
    loop {
        app.metrics.round("project");
        if let Err(error) = project_all(&app).await {
            tracing::error!(r#loop = "project", %error, "the Plans to project could not be read");
        }
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = app.wake.project.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// One step for each Plan in turn, so that a large Plan does not hold up a small one, until none has
/// more. A Plan with an error is left alone until the next look.
async fn project_all(app: &App) -> Result<(), StoreError> {
    let mut plans = app.store.plans_to_project().await?;
    while !plans.is_empty() && !app.stopping.is_cancelled() {
        let mut unfinished = Vec::new();
        for plan in plans {
            match app.store.project(&plan, clock::now()).await {
                Ok(step) => {
                    if step.made > 0 {
                        tracing::info!(r#loop = "project", %plan, runs = step.made, "new Runs");
                        app.wake.initialize.notify_one();
                    }
                    app.wake.changed();
                    if step.more {
                        unfinished.push(plan);
                    }
                }
                Err(error) => tracing::error!(r#loop = "project", %plan, %error, "a Plan could not be projected"),
            }
        }
        plans = unfinished;
    }
    Ok(())
}
