//! What a change would come to, asked before it is made. Nothing here changes anything, and none of it is known
//! to an original server.

use crate::explain::{Count, PlanInputRef};
use crate::id::{DataId, PlanId, RunId};
use crate::run::RunStatus;
use crate::tag::Tag;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is to be done with a Run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// It is deleted, with what it made.
    Rm,
    /// It is executed again; what it made is replaced.
    Retry,
}

impl Deed {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rm => "rm",
            Self::Retry => "retry",
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Deed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Rm, Self::Retry]
            .into_iter()
            .find(|deed| deed.as_str() == text)
            .ok_or_else(|| format!("\"{text}\" is neither rm nor retry"))
    }
}

/// Answer of `GET <apiRoot>/runs/{id}/impact?of=rm|retry` and, for the Run that made a Data, of
/// `GET <apiRoot>/data/{id}/impact?of=rm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImpact {
    /// The Run.
    #[serde(rename = "runId")]
    pub run: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// What is asked about.
    pub of: Deed,
    /// Why it would be refused; then nothing of what follows would happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// The Data that would go, the log last.
    #[serde(default)]
    pub data: Vec<GoingData>,
    /// What would become of the Run.
    pub becomes: Fate,
    /// Inputs that these Data fit now, and would no longer.
    pub withdrawn: Inputs,
    /// Deleted Runs that used these Data, of which no trace would be left.
    pub forgotten: Count,
    /// When it is executed again and ends well: the Plans that would get what it makes, and the new Runs of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feeds: Vec<NewRuns>,
}

/// What would become of a Run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Nothing would be left of it: it was an upload.
    Erased,
    /// It would be kept as deleted, so that its combination of Data is not run again.
    Invalidated,
    /// It would be executed again.
    Waiting,
}

/// Why a change would be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For a person.
    pub reason: String,
    /// The Runs that use its Data, when that is why; at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub downstreams: Vec<RunId>,
}

/// A Data that would go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoingData {
    /// Its id.
    #[serde(rename = "knitId")]
    pub id: DataId,
    /// The output that made it; missing on logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Bytes in its files, once it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Some inputs of Plans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// How many there are.
    #[serde(flatten)]
    pub count: Count,
    /// The first few.
    #[serde(default)]
    pub inputs: Vec<PlanInputRef>,
}

/// Runs that a Plan would get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRuns {
    /// The Plan.
    #[serde(rename = "planId")]
    pub plan: PlanId,
    /// Whether they would start.
    pub active: bool,
    /// How many they are.
    pub runs: Count,
}

/// Answer of `POST <apiRoot>/data/{id}/impact` with a [`crate::tag::TagChange`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagImpact {
    /// The Data.
    #[serde(rename = "knitId")]
    pub data: DataId,
    /// The tags that users gave it, after the change.
    pub tags: Vec<Tag>,
    /// Inputs that it would fit, and does not now.
    pub nominated: Inputs,
    /// Inputs that it fits now, and would no longer. Runs that have it there stay.
    pub withdrawn: Inputs,
    /// The Plans that would get new Runs.
    #[serde(default)]
    pub runs: Vec<NewRuns>,
    /// True when there are more such Plans than were looked at.
    #[serde(rename = "runsCapped", default)]
    pub runs_capped: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_is_named_as_its_command_is() {
        assert_eq!("rm".parse(), Ok(Deed::Rm));
        assert_eq!("retry".parse(), Ok(Deed::Retry));
        assert!("".parse::<Deed>().is_err());
        assert_eq!(serde_json::to_string(&Deed::Retry).unwrap(), "\"retry\"");
    }
}
