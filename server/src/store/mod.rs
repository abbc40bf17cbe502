//! The facts: all SQL of the server, one text for SQLite and PostgreSQL.
//!
//! Methods are whole transactions. What they return is what the wire shows, assembled with a fixed
//! number of statements however many rows there are.
//!
//! The order inside every transaction that writes: begin; intern tags, sorted; pass the gate; lock rows,
//! a Run before its Data before Plans; then the rest. A row is locked by an update that changes nothing.
//! On PostgreSQL this order is what keeps transactions from waiting for each other in a circle, and
//! unique keys, not the isolation level, are what refuses a second equal Run.

mod candidates;
mod claims;
mod data;
mod engine;
mod explain;
mod garbage;
#[cfg(feature = "bench")]
pub mod generate;
mod graphs;
mod impact;
mod manifests;
mod migrations;
mod nominations;
mod pages;
mod plans;
mod projection;
mod runs;
mod signals;
mod tags;
mod watching;

#[cfg(test)]
mod explained;

pub use crate::rules::lifecycle::Stop;
pub use explain::Circumstances;
pub use manifests::{KeptManifest, NotKept};
pub use pages::{Page, Place, Window};
pub use signals::Listener;
pub use watching::{Look, RunState, Selection, Watched};

use crate::engine::{Sealed, Volume};
use engine::{Database, Db, Value, repeatable, whole};
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::image::ImageQuery;
use knit_api::run::{Exit, RunStatus};
use knit_api::tag::{Tag, TagSet};
use knit_api::time::Timestamp;
use std::path::Path;
use std::time::Duration;

/// Connections to PostgreSQL, of one process.
pub const CONNECTIONS: u32 = 16;
/// How soon a database answers that is ready.
const SOON: Duration = Duration::from_secs(2);

/// A handle on the facts; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    db: Database,
}

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
    /// The database does not answer; nothing was changed.
    #[error("{cause}")]
    Unavailable {
        /// Where it is, and what was seen of it.
        cause: String,
    },
    /// The connection broke at the very end.
    #[error("{what}: {cause}; whether it was done is not known")]
    Unsure {
        /// What was being done.
        what: &'static str,
        /// Where the database is, and what was seen of it.
        cause: String,
    },
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
    /// Only what cannot be used, or only what can.
    pub transient: Option<bool>,
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

/// A claim as it stands in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The Run.
    pub run: RunId,
    /// Of the claim.
    pub attempt: i64,
    /// When it ends.
    pub until: Timestamp,
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

impl Store {
    /// The version of the schema that this program knows.
    pub const SCHEMA: i64 = migrations::NEWEST;

    /// Opens the embedded database, making or migrating it. The folder must be there, and no other process
    /// may write to it.
    pub async fn open_sqlite(path: &Path) -> Result<Self> {
        let db = Database::open_sqlite(path)
            .await
            .map_err(|error| error.about(&path.display().to_string()).during("opening the database"))?;
        Self::open(db).await
    }

    /// Opens a PostgreSQL database by its URL, making or migrating the schema.
    pub async fn open_postgres(url: &str) -> Result<Self> {
        Self::open_postgres_with(url, CONNECTIONS).await
    }

    /// The same, with at most so many connections.
    pub async fn open_postgres_with(url: &str, connections: u32) -> Result<Self> {
        let opening = Database::open_postgres(url, connections).await;
        Self::open(opening.map_err(|error| error.during("connecting to the database"))?).await
    }

    async fn open(db: Database) -> Result<Self> {
        migrations::migrate(&db).await?;
        Ok(Self { db })
    }

    /// True when the database answers, and soon. A connection that broke is no reason to say no.
    pub async fn is_ready(&self) -> bool {
        let answer = async { whole!("asking whether it is ready", self.db.rows("select 1", &[])) };
        tokio::time::timeout(SOON, answer).await.is_ok_and(|answer| answer.is_ok())
    }

    /// How many connections to the database there are, and how many of them do nothing.
    pub fn connections(&self) -> (u32, u32) {
        self.db.connections()
    }

    /// Closes all connections after what is under way.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// A transaction of one statement, which changes nothing when it is done again; how many rows it changed.
    async fn change(&self, what: &'static str, sql: &'static str, args: &[Value<'_>]) -> Result<u64> {
        repeatable!(what, self.try_change(sql, args))
    }

    async fn try_change(&self, sql: &'static str, args: &[Value<'_>]) -> Db<u64> {
        let mut tx = self.db.begin().await?;
        let changed = tx.exec(sql, args).await?;
        tx.commit().await?;
        Ok(changed)
    }
}
