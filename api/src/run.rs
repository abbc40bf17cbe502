//! Runs as they stand on the wire, and the ten statuses of their life.

use crate::id::{DataId, RunId};
use crate::plan::PlanSummary;
use crate::tag::Tag;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where a Run stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Parked, because its Plan is inactive.
    Deactivated,
    /// Its inputs are fixed; nothing has been prepared.
    Waiting,
    /// Its output volumes exist.
    Ready,
    /// Its worker was asked for and does not run yet.
    Starting,
    /// Its worker runs; or, for an upload, its bytes arrive.
    Running,
    /// It succeeded; its worker is to be removed and its outputs sealed.
    Completing,
    /// It failed; its worker is to be removed.
    Aborting,
    /// Over, well.
    Done,
    /// Over, badly.
    Failed,
    /// Deleted; kept only so that the same combination is not run again.
    Invalidated,
}

impl RunStatus {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 10] = [
        Self::Deactivated,
        Self::Waiting,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Completing,
        Self::Aborting,
        Self::Done,
        Self::Failed,
        Self::Invalidated,
    ];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deactivated => "deactivated",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Completing => "completing",
            Self::Aborting => "aborting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Invalidated => "invalidated",
        }
    }

    /// True when nothing more will happen by itself.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Invalidated)
    }

    /// True when its work has begun, or will never begin: its log can be read, if it has one.
    pub const fn has_started(self) -> bool {
        !matches!(self, Self::Deactivated | Self::Waiting | Self::Ready | Self::Starting)
    }

    /// The value of `knit#transient` on the Run's outputs, if they carry one.
    pub const fn transient(self) -> Option<&'static str> {
        match self {
            Self::Done => None,
            Self::Failed | Self::Invalidated => Some(crate::tag::FAILED),
            _ => Some(crate::tag::PROCESSING),
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a status of a Run: use deactivated, waiting, ready, starting, running, completing, aborting, done or failed"
)]
pub struct StatusError(String);

impl FromStr for RunStatus {
    type Err = StatusError;
    fn from_str(text: &str) -> Result<Self, StatusError> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| StatusError(text.to_owned()))
    }
}

/// How a Run's work ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Of the container, or one of [`exit_code`].
    pub code: u8,
    /// Empty for a normal end.
    pub message: String,
}

/// Exit codes that the system itself records.
pub mod exit_code {
    /// The program ended well, but what it made cannot be kept.
    pub const NOT_KEPT: u8 = 252;
    /// Aborted by a user.
    pub const ABORTED: u8 = 253;
    /// The worker vanished.
    pub const LOST: u8 = 254;
    /// The worker could not be started.
    pub const NOT_STARTED: u8 = 255;
}

/// What every mention of a Run says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its id.
    #[serde(rename = "runId")]
    pub id: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// Since when.
    #[serde(rename = "updatedAt")]
    pub updated_at: Timestamp,
    /// How its work ended, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// What it executes.
    pub plan: PlanSummary,
}

/// A Run with everything that went in and came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What every mention says.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// In the order of the Plan's inputs.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub inputs: Vec<Assignment>,
    /// In the order of the Plan's outputs.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub outputs: Vec<Assignment>,
    /// Always present on the wire, `null` when the Plan records no log.
    #[serde(default)]
    pub log: Option<LogAssignment>,
    /// Digest of the image that ran (`sha256:…`), once resolved; a member of Knit's own.
    #[serde(rename = "imageDigest", default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// Why it waits, or what was noticed; a member of Knit's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One input or output of a Run and the Data on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Where in the container.
    pub path: String,
    /// Tags of the mountpoint, not of the Data.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub tags: Vec<Tag>,
    /// The Data; empty when none is assigned.
    #[serde(rename = "knitId")]
    pub data: DataId,
}

/// The log of a Run and its Data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogAssignment {
    /// Tags of the Plan's log.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub tags: Vec<Tag>,
    /// The Data; empty when none is assigned.
    #[serde(rename = "knitId")]
    pub data: DataId,
}
