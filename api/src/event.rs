//! Events about Runs: what `GET <apiRoot>/runs/events` streams as server-sent events. Not on an original server.
//!
//! A stream begins with how the selection stands: a `run` for each Run that is not over, and for the ended ones
//! that changed last; then `synced`. From then on there is a `run` whenever status, exit or reason of one
//! changed, also when it thereby leaves the selection, and `gone` when one that was told is erased. `quiet` says
//! that nothing of the selection is under way and nothing is left to project for it, `busy` that this is over.
//! Whoever connects again is told everything again.

use crate::id::{DataId, PlanId, RunId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Media type of a stream of events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Names of the events.
pub mod name {
    /// A Run as it stands; the data is that of `GET /runs/{id}`.
    pub const RUN: &str = "run";
    /// A Run is no more; the data is [`super::Gone`].
    pub const GONE: &str = "gone";
    /// All that is there has been told.
    pub const SYNCED: &str = "synced";
    /// Nothing is under way, and nothing is left to project.
    pub const QUIET: &str = "quiet";
    /// That is over.
    pub const BUSY: &str = "busy";
}

/// How many ended Runs a stream begins with when the client does not say: those that changed last.
pub const ENDED: usize = 1000;

/// Data of the event `gone`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The Run that is no more.
    #[serde(rename = "runId")]
    pub run: RunId,
}

/// What Runs come from, however many Runs lie between: `data:ID[,ID…]` or `plan:ID[,ID…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// All Runs downstream of these Data.
    Data(Vec<DataId>),
    /// The Runs of these Plans, and all downstream of them.
    Plans(Vec<PlanId>),
}

/// Why a text is not a cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a cause: write data:ID or plan:ID, further ids behind commas")]
pub struct CauseError(String);

impl FromStr for Cause {
    type Err = CauseError;
    fn from_str(text: &str) -> Result<Self, CauseError> {
        fn ids<T: for<'a> From<&'a str>>(list: &str) -> Option<Vec<T>> {
            list.split(',').map(|id| (!id.is_empty()).then(|| T::from(id))).collect()
        }
        let cause = match text.split_once(':') {
            Some(("data", list)) => ids(list).map(Self::Data),
            Some(("plan", list)) => ids(list).map(Self::Plans),
            _ => None,
        };
        cause.ok_or_else(|| CauseError(text.to_owned()))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn joined<T: fmt::Display>(f: &mut fmt::Formatter<'_>, kind: &str, ids: &[T]) -> fmt::Result {
            f.write_str(kind)?;
            ids.iter().enumerate().try_for_each(|(at, id)| write!(f, "{}{id}", if at == 0 { ":" } else { "," }))
        }
        match self {
            Self::Data(ids) => joined(f, "data", ids),
            Self::Plans(ids) => joined(f, "plan", ids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_reads_and_prints_the_same() {
        for text in ["data:d1", "data:d1,d2", "plan:p1"] {
            assert_eq!(text.parse::<Cause>().unwrap().to_string(), text);
        }
        for text in ["", "d1", "data:", "data:a,", "run:r1", "DATA:a"] {
            assert!(text.parse::<Cause>().is_err(), "{text}");
        }
    }
}
