//! Agents: started when bytes are to go in or out, shared by those who read the same Data at one time, kept for a
//! short while in case it is asked for again, and always removed.

use crate::settings::Cluster;

/// The agents that this process knows.
pub(super) struct Agents {}

impl Agents {
    pub(super) fn new(_settings: &Cluster) -> Self {
        Self {}
    }
}
