//! Measures projection: how long it takes until all combinations of Data that are there have become Runs.

use knit_api::id::DataId;
use knit_api::plan::PlanSpec;
use knit_api::tag::Tag;
use knit_server::engine::{Sealed, Volume};
use knit_server::store::{Registered, Store, Upload};
use knit_server::{clock, rules};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const USAGE: &str = "\
Usage: time-projection RUNS STORE

Adds Data and Plans to STORE, the file of a SQLite database that no server has open or the URL of a PostgreSQL
database, so that there are RUNS combinations: of one input, and of two. Prints for each of them, on a line of its own
and separated by tabs: its name, the seconds that projecting took, and
those of its longest step.
";
/// Uploads at one time.
const CLIENTS: usize = 8;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [runs, place] = arguments.as_slice() else { return usage() };
    let Ok(runs @ 1..) = runs.parse::<usize>() else { return usage() };
    if let Err(cause) = measure(runs, place).await {
        // Nobody is left to tell when standard error is gone, too.
        let _ = writeln!(io::stderr(), "time-projection: cannot measure {place}: {cause}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let _ = write!(io::stderr(), "{USAGE}");
    ExitCode::from(2)
}

async fn measure(runs: usize, place: &str) -> Result<(), String> {
    let opened = if place.starts_with("postgres") {
        Store::open_postgres(place).await
    } else {
        Store::open_sqlite(Path::new(place)).await
    };
    let store = opened.map_err(|error| error.to_string())?;
    let side = runs.isqrt();
    let one = timed(&store, "one input", &[("projection:alone", runs)]).await?;
    let two = timed(&store, "two inputs", &[("projection:left", side), ("projection:right", side)]).await?;
    store.close().await;
    let mut out = io::stdout().lock();
    [one, two].iter().try_for_each(|line| writeln!(out, "{line}")).map_err(|error| error.to_string())
}

/// Makes the Data and a Plan for them, and projects it to the end.
async fn timed(store: &Store, name: &str, inputs: &[(&str, usize)]) -> Result<String, String> {
    for (tag, amount) in inputs {
        push(store, tag, *amount).await?;
    }
    let mounts = inputs.iter().enumerate().map(|(n, (tag, _))| format!(r#"{{"path": "/in/{n}", "tags": ["{tag}"]}}"#));
    let spec = format!(
        r#"{{"image": "projection:v1", "args": ["{name}"], "inputs": [{}],
            "outputs": [{{"path": "/out", "tags": ["projection:output"]}}], "log": {{"tags": ["projection:log"]}}}}"#,
        mounts.collect::<Vec<_>>().join(", ")
    );
    let spec: PlanSpec = knit_api::json::from_slice(spec.as_bytes()).map_err(|error| error.to_string())?;
    let spec = rules::plan::check(spec).map_err(|error| error.to_string())?;
    let Registered::New(plan) = store.register_plan(&spec).await.map_err(|error| error.to_string())? else {
        return Err("this store has been measured before".to_owned());
    };
    let wanted: usize = inputs.iter().map(|(_, amount)| amount).product();
    let (begun, mut made, mut longest) = (Instant::now(), 0, Duration::ZERO);
    loop {
        let step = Instant::now();
        let projected = store.project(&plan, clock::now()).await.map_err(|error| error.to_string())?;
        longest = longest.max(step.elapsed());
        made += projected.made;
        if !projected.more {
            break;
        }
    }
    if made != wanted {
        return Err(format!("{made} Runs were made, and there are {wanted} combinations"));
    }
    Ok(format!("{name}\t{:.3}\t{:.3}", begun.elapsed().as_secs_f64(), longest.as_secs_f64()))
}

async fn push(store: &Store, tag: &str, amount: usize) -> Result<(), String> {
    let tag: Tag = tag.parse().map_err(|error| format!("{error}"))?;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (store, tag) = (store.clone(), tag.clone());
        clients.spawn(async move {
            for _ in (client..amount).step_by(CLIENTS) {
                let data = DataId::new(clock::new_id());
                let sealed = Sealed { digest: "0".repeat(64), entries: 1, bytes: 1, left_out: Vec::new() };
                let upload = Upload { volume: Volume::of(&data), data, sealed, tags: vec![tag.clone()] };
                store.add_upload(&upload, clock::now()).await?;
            }
            Ok::<_, knit_server::store::StoreError>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    }
    Ok(())
}
