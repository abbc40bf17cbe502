//! The facts: all SQL of the server, one text for SQLite and PostgreSQL.
//!
//! Methods are whole transactions. What they return is what the wire shows, assembled with a fixed
//! number of statements however many rows there are.

use crate::engine::{Sealed, Volume, Work};
use knit_api::data::Data;
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::image::ImageQuery;
use knit_api::plan::{Plan, PlanSpec};
use knit_api::run::{Exit, Run, RunStatus};
use knit_api::tag::{Tag, TagChange, TagSet};
use knit_api::time::Timestamp;
use std::path::Path;

/// A handle on the facts; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {}

/// Why a statement did not work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is newer than this program.
    #[error("the database has schema version {found}, this program knows {known}: use a newer knitd")]
    TooNew {
        /// Version found.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// The disk is full.
    #[error("no space is left for the database")]
    NoSpace,
    /// What the database said, with what was being done.
    #[error("{what}: {cause}")]
    Failed {
        /// What was being done.
        what: &'static str,
        /// The database's words.
        cause: String,
    },
}

/// A refused change of a Run: the HTTP layer makes a 404 or a 409 of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such Run (or it is invalidated).
    NotFound,
    /// Its status does not allow that; the status.
    Status(RunStatus),
    /// Live Runs use its outputs; some of them.
    HasDownstreams(Vec<RunId>),
    /// It belongs to a built-in Plan.
    BuiltIn,
}

/// Search for Data; dimensions are joined by "and".
#[derive(Clone, Debug, Default)]
pub struct DataQuery {
    /// All of them; may be system tags.
    pub tags: TagSet,
    /// Inclusive, on `knit#timestamp` or else the Run's `updatedAt`.
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
}

/// Search for Plans; dimensions are joined by "and".
#[derive(Clone, Debug, Default)]
pub struct PlanQuery {
    /// Only active or only inactive ones.
    pub active: Option<bool>,
    /// Only of this image.
    pub image: Option<ImageQuery>,
    /// One single input has all of them.
    pub in_tags: TagSet,
    /// One single output, or the log, has all of them.
    pub out_tags: TagSet,
}

/// Search for Runs; each list is joined by "or", the lists by "and"; an empty list is no condition.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// Plans.
    pub plans: Vec<PlanId>,
    /// Data on any input.
    pub inputs: Vec<DataId>,
    /// Data on any output or the log.
    pub outputs: Vec<DataId>,
    /// Statuses.
    pub statuses: Vec<RunStatus>,
    /// Inclusive, on `updatedAt`.
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
}

/// An upload that is complete, verified and synced.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its new id.
    pub data: DataId,
    /// Where its bytes are.
    pub volume: Volume,
    /// What they are.
    pub sealed: Sealed,
    /// Its first tags.
    pub tags: Vec<Tag>,
}

/// Outcome of registering a Plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is new.
    New(PlanId),
    /// An equal one is there.
    Equal(PlanId),
    /// It would feed itself, through these Plans.
    Cycle(Vec<PlanId>),
}

/// Outcome of one bounded step of projection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Projected {
    /// New Runs.
    pub made: usize,
    /// True when the Plan has more to project: call again.
    pub more: bool,
}

/// A Run that one loop holds for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The Run.
    pub run: RunId,
    /// Its status when it was claimed.
    pub status: RunStatus,
    /// Who holds it.
    pub owner: String,
    /// Fencing: grows with each claim.
    pub attempt: i64,
    /// How often in a row the work on it failed: what back-off is computed from.
    pub failures: i64,
}

/// What a loop found out about a claimed Run. `None` leaves a field as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// The status from now on (may be the same).
    pub status: RunStatus,
    /// How its work ended.
    pub exit: Option<Exit>,
    /// When to look again at the latest.
    pub due: Timestamp,
    /// Why it waits; an empty text clears it.
    pub reason: Option<String>,
    /// The image that runs.
    pub image_digest: Option<String>,
}

/// How a user stops a Run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It fails.
    Abort,
    /// It ends well, with what it has made so far.
    Tearoff,
}

/// What is needed to read a Data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where its bytes are.
    pub volume: Volume,
    /// Status of the Run that makes it.
    pub status: RunStatus,
    /// Its root digest, once sealed.
    pub digest: Option<String>,
}

/// What is needed to read the log of a Run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The Run's status.
    pub status: RunStatus,
    /// Where its log is; none when its Plan records none, or it is invalidated.
    pub volume: Option<Volume>,
}

type Result<T, E = StoreError> = std::result::Result<T, E>;

#[allow(unused_variables, clippy::unused_async, reason = "bodies follow")]
impl Store {
    /// Opens the embedded database, making or migrating it.
    pub async fn open_sqlite(path: &Path) -> Result<Self> {
        unreachable!()
    }

    /// Opens a PostgreSQL database by its URL, making or migrating the schema.
    pub async fn open_postgres(url: &str) -> Result<Self> {
        unreachable!()
    }

    /// True when the database answers.
    pub async fn is_ready(&self) -> bool {
        unreachable!()
    }

    /// Closes all connections after what is under way.
    pub async fn close(&self) {}

    // ---- Data

    /// Registers an upload with its tags, as a done Run of the built-in Plan, and nominates it.
    pub async fn add_upload(&self, upload: &Upload, now: Timestamp) -> Result<()> {
        unreachable!()
    }

    /// One Data.
    pub async fn data(&self, id: &DataId) -> Result<Option<Data>> {
        unreachable!()
    }

    /// All that match, by time, those without a time last, then by id.
    pub async fn find_data(&self, query: &DataQuery) -> Result<Vec<Data>> {
        unreachable!()
    }

    /// Changes tags (remove, remove keys, then add) and matches again; false when there is no such Data.
    pub async fn change_tags(&self, id: &DataId, change: &TagChange) -> Result<bool> {
        unreachable!()
    }

    /// Where a Data is.
    pub async fn locate(&self, id: &DataId) -> Result<Option<Located>> {
        unreachable!()
    }

    // ---- Plans

    /// Registers a Plan (already checked and normalised by [`crate::rules`]) and nominates for it.
    pub async fn register_plan(&self, spec: &PlanSpec) -> Result<Registered> {
        unreachable!()
    }

    /// One Plan with its neighbours.
    pub async fn plan(&self, id: &PlanId) -> Result<Option<Plan>> {
        unreachable!()
    }

    /// All that match, by id, built-in ones included.
    pub async fn find_plans(&self, query: &PlanQuery) -> Result<Vec<Plan>> {
        unreachable!()
    }

    /// Activates or deactivates, with its waiting or parked Runs; false for unknown and built-in Plans.
    pub async fn set_active(&self, id: &PlanId, active: bool, now: Timestamp) -> Result<bool> {
        unreachable!()
    }

    // ---- Runs

    /// One Run.
    pub async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        unreachable!()
    }

    /// All that match, by `updatedAt`, then id.
    pub async fn find_runs(&self, query: &RunQuery) -> Result<Vec<Run>> {
        unreachable!()
    }

    /// Number of Runs in each status that occurs.
    pub async fn count_runs(&self) -> Result<Vec<(RunStatus, u64)>> {
        unreachable!()
    }

    /// Status alone: the cheap look of those who wait.
    pub async fn run_status(&self, id: &RunId) -> Result<Option<RunStatus>> {
        unreachable!()
    }

    /// True when no Run of the Plan is under way and nothing is left to project for it.
    /// None for an unknown Plan.
    pub async fn plan_is_quiet(&self, id: &PlanId) -> Result<Option<bool>> {
        unreachable!()
    }

    /// Asks a Run to stop.
    pub async fn stop(&self, id: &RunId, how: Stop, now: Timestamp) -> Result<Result<(), Refusal>> {
        unreachable!()
    }

    /// Puts an ended Run back to waiting with new outputs; the old ones become garbage.
    pub async fn retry(&self, id: &RunId, now: Timestamp) -> Result<Result<(), Refusal>> {
        unreachable!()
    }

    /// Removes an ended Run and its outputs; one with inputs stays as `invalidated`.
    pub async fn remove_run(&self, id: &RunId, now: Timestamp) -> Result<Result<(), Refusal>> {
        unreachable!()
    }

    /// Where a Run's log is; none for an unknown Run.
    pub async fn log_place(&self, id: &RunId) -> Result<Option<LogPlace>> {
        unreachable!()
    }

    // ---- Loops

    /// Plans with something new to project.
    pub async fn plans_to_project(&self) -> Result<Vec<PlanId>> {
        unreachable!()
    }

    /// One bounded, repeatable step of projection for one Plan.
    pub async fn project(&self, plan: &PlanId, now: Timestamp) -> Result<Projected> {
        unreachable!()
    }

    /// Takes up to `limit` due Runs of these statuses, the longest due first, until `until`.
    /// Runs of built-in Plans are never claimed.
    pub async fn claim(
        &self,
        statuses: &[RunStatus],
        owner: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claim>> {
        unreachable!()
    }

    /// Everything needed to execute a Run; none when it is gone or has no image.
    pub async fn work(&self, run: &RunId) -> Result<Option<Work>> {
        unreachable!()
    }

    /// Settles a claim; false when it was lost meanwhile (taken over, or the status was changed by a user).
    pub async fn settle(&self, claim: &Claim, settle: &Settle, now: Timestamp) -> Result<bool> {
        unreachable!()
    }

    /// Gives a claim back after an error: counted, shown as the reason, due later.
    pub async fn give_back(&self, claim: &Claim, due: Timestamp, error: &str) -> Result<()> {
        unreachable!()
    }

    /// Ends a claimed Run (`completing` becomes `done`, `aborting` becomes `failed`) with what its outputs
    /// and log are, stamps and nominates them; false when the claim was lost.
    pub async fn finish(
        &self,
        claim: &Claim,
        sealed: &[(DataId, Sealed)],
        message: Option<&str>,
        now: Timestamp,
    ) -> Result<bool> {
        unreachable!()
    }

    /// Output Data of a Run, the log included, with their volumes.
    pub async fn outputs(&self, run: &RunId) -> Result<Vec<(DataId, Volume)>> {
        unreachable!()
    }

    /// Puts a started Run back to `waiting` as if it had never started, when the server stops; false when
    /// it is not `ready`, `starting` or `running`.
    pub async fn put_back(&self, run: &RunId, now: Timestamp) -> Result<bool> {
        unreachable!()
    }

    /// Makes a Run due now, whatever back-off it had.
    pub async fn hasten(&self, run: &RunId, now: Timestamp) -> Result<()> {
        unreachable!()
    }

    /// Makes the `limit` longest waiting `ready` Runs due now that would be due within a minute.
    pub async fn hasten_ready(&self, now: Timestamp, limit: u32) -> Result<()> {
        unreachable!()
    }

    /// At the start of the only server process of this database: drops all leases and makes all Runs under
    /// way due now.
    pub async fn take_over(&self, now: Timestamp) -> Result<()> {
        unreachable!()
    }

    /// When the next claimable Run of these statuses is due, if any.
    pub async fn next_due(&self, statuses: &[RunStatus]) -> Result<Option<Timestamp>> {
        unreachable!()
    }

    /// Volumes that nothing refers to any more, at most `limit`.
    pub async fn garbage(&self, limit: u32) -> Result<Vec<Volume>> {
        unreachable!()
    }

    /// Forgets garbage whose volume was removed.
    pub async fn forget_garbage(&self, volume: &Volume) -> Result<()> {
        unreachable!()
    }

    /// Of these volumes, those that no row knows.
    pub async fn unknown_volumes(&self, volumes: &[Volume]) -> Result<Vec<Volume>> {
        unreachable!()
    }
}
