//! Names and labels of what Knit makes on Kubernetes. They are Knitfab's, so that what administrators and scripts
//! select by them goes on to work; those that Knit adds stand after them.

use crate::id::{DataId, RunId};

/// Who manages an object: the value of [`MANAGED_BY`], and the field manager of everything that is applied.
pub const MANAGER: &str = "knit";

/// The program's version.
pub const VERSION: &str = "app.kubernetes.io/version";
/// What kind of thing it is: `worker`, `data`, `dataagt`.
pub const NAME: &str = "app.kubernetes.io/name";
/// The object's own name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The same as [`NAME`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Always [`MANAGER`] for what the server makes at run time.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Always [`MANAGER`] for what the server makes at run time.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// On a worker: its Run.
pub const WORKER_RUN_ID: &str = "knit/worker.runid";
/// On a worker: its Run, a second time, as Knitfab has it.
pub const WORKER_RUN: &str = "knit/worker.run";
/// On a worker: its Plan.
pub const WORKER_PLAN: &str = "knit/worker.plan";
/// On a volume: its Data.
pub const DATA_ID: &str = "knit/data.knitid";
/// On an agent: its Data (the first one, when it serves several).
pub const AGENT_DATA: &str = "knit/dataagt.knitid";
/// On an agent: `read` or `write`.
pub const AGENT_MODE: &str = "knit/dataagt.mode";

/// Components of what the server makes at run time.
pub mod component {
    /// Jobs of Runs, their Pods and Secrets.
    pub const WORKER: &str = "worker";
    /// Volumes.
    pub const DATA: &str = "data";
    /// Agents and their Secrets.
    pub const AGENT: &str = "dataagt";
}

/// Containers of a worker.
pub mod container {
    /// The Plan's image.
    pub const MAIN: &str = "main";
    /// Records the log and seals the outputs.
    pub const RECORDER: &str = "nurse";
    /// Makes sure that outputs are empty, before the others start.
    pub const CHECK_OUTPUTS: &str = "init-main";
    /// Makes sure that the log is empty, before the others start.
    pub const CHECK_LOG: &str = "init-log";
}

/// Name of the Job of a Run.
pub fn worker_name(run: &RunId) -> String {
    format!("worker-run-{run}")
}

/// Name of an agent of a Data; `suffix` tells it from others of the same Data.
pub fn agent_name(data: &DataId, mode: &str, suffix: &str) -> String {
    format!("knitid-{data}-{mode}-{suffix}")
}
