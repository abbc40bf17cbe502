//! The orderly stop of an embedded installation: workers end, and their Runs go back to where they
//! were before they started. (A crash, in contrast, leaves workers alone; they are adopted later.)

use super::Trouble;
use crate::app::App;
use crate::clock;
use crate::engine::Observation;
use crate::settings::Layout;
use fail::fail_point;
use futures_util::future::join_all;
use knit_api::id::RunId;
use serde::Serialize;
use std::io::Write;

/// What the stop interrupted, for whoever asked for it: `stopped.json` in the installation's folder.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Runs that will start anew.
    #[serde(rename = "putBack")]
    pub put_back: Vec<PutBack>,
}

/// A Run that was put back.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct PutBack {
    /// Which one.
    #[serde(rename = "runId")]
    pub run: RunId,
    /// What it executes.
    pub image: String,
}

/// Ends all workers at once, each with the operator's grace, and puts their Runs back. To be called
/// when the loops have ended.
pub async fn put_back(app: &App) -> Stopped {
    let workers = app.engine.workers().await.unwrap_or_else(|error| {
        tracing::error!(%error, "the workers could not be listed; they go on");
        Vec::new()
    });
    let each = workers.iter().map(|run| async move {
        end(app, run).await.unwrap_or_else(|error| {
            tracing::error!(%run, %error, "a worker could not be ended in order");
            None
        })
    });
    Stopped { put_back: join_all(each).await.into_iter().flatten().collect() }
}

/// Ends one worker. One that is over is left as it is: its end is recorded at the next start.
///
/// The Run goes back first. Should this process be killed in between, the next one finds a waiting Run and
/// removes its worker before it starts it anew; the other way round it would find a Run that lost its worker.
async fn end(app: &App, run: &RunId) -> Result<Option<PutBack>, Trouble> {
    if let Observation::Ended { .. } = app.engine.observe(run).await? {
        return Ok(None);
    }
    let put_back = app.store.put_back(run, clock::now()).await?;
    fail_point!("stop-put-back");
    if let Err(error) = app.engine.remove_worker(run, app.settings.grace).await {
        tracing::error!(%run, %error, "a worker could not be ended; the next start will do it");
    }
    if !put_back {
        return Ok(None);
    }
    let image = app.store.run(run).await?.map(|found| found.summary.plan.title()).unwrap_or_default();
    tracing::info!(%run, image, "a Run was put back");
    Ok(Some(PutBack { run: run.clone(), image }))
}

impl Stopped {
    /// Forgets what an earlier stop wrote.
    pub fn forget(layout: &Layout) -> std::io::Result<()> {
        match std::fs::remove_file(layout.stopped()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the file, beside and renamed.
    pub fn write(&self, layout: &Layout) -> std::io::Result<()> {
        let path = layout.stopped();
        let beside = path.with_extension("json.new");
        let mut file = std::fs::File::create(&beside)?;
        crate::private::close(&beside)?;
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        std::fs::File::open(layout.root())?.sync_all()
    }
}
