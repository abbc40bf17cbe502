//! Data as it stands on the wire: an immutable directory with tags, where it came from and where it went.

use crate::id::DataId;
use crate::plan::{LogPoint, Mountpoint, PlanSummary};
use crate::run::RunSummary;
use crate::tag::{self, Tag};
use serde::{Deserialize, Serialize};

/// One Data with its lineage one step up and down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Its id.
    #[serde(rename = "knitId")]
    pub id: DataId,
    /// User and system tags, in listing order.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// The Run that made it, and through which output.
    pub upstream: Upstream,
    /// The Runs that use it, invalidated ones left out.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub downstreams: Vec<Downstream>,
    /// The Plan inputs it fits.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub nomination: Vec<Nomination>,
    /// Root digest of its content once it is sealed (64 lower-case hex digits); a member of Knit's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Data {
    /// `Some("processing")` or `Some("failed")` while the Data cannot be used.
    pub fn transient(&self) -> Option<&str> {
        self.tags.iter().find(|tag| tag.key == tag::TRANSIENT).map(|tag| tag.value.as_str())
    }

    /// Its tags without the system's.
    pub fn user_tags(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|tag| !tag.is_system())
    }
}

/// Where a Data came from; one of `mountpoint` and `log` is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The output that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<Mountpoint>,
    /// The log that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogPoint>,
    /// The Run.
    pub run: RunSummary,
}

/// A use of a Data by a Run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downstream {
    /// The input it is mounted on.
    pub mountpoint: Mountpoint,
    /// The Run.
    pub run: RunSummary,
}

/// A Plan input that a Data fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nomination {
    /// The input.
    #[serde(flatten)]
    pub mountpoint: Mountpoint,
    /// Its Plan.
    pub plan: PlanSummary,
}
