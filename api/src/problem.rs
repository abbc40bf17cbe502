//! What an error looks like on the wire: `{"message": "reason\nadvice\n caused by:cause"}`.

use crate::id::PlanId;
use serde::{Deserialize, Serialize};

/// Body of every answer that is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Reason, then advice and cause if there are any, each on a line of its own.
    pub message: String,
    /// The Plan that is there already, when an equal one was registered; a member of Knit's own.
    #[serde(rename = "planId", default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<PlanId>,
}

impl Problem {
    /// A problem with a reason alone.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { message: reason.into(), plan_id: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advice(mut self, advice: &str) -> Self {
        self.message.push('\n');
        self.message.push_str(advice);
        self
    }

    /// Adds what lies beneath it.
    #[must_use]
    pub fn cause(mut self, cause: &str) -> Self {
        self.message.push_str("\n caused by:");
        self.message.push_str(cause);
        self
    }
}
