//! What is asked of the cluster, as objects: computed from plain words, no call is made here. Only fields that are
//! generally available both in 1.20 and in the version that the types are made for; a test holds all of them
//! against that list.

pub mod agent;
pub mod scheduling;
pub mod volume;
pub mod worker;

use knit_api::plan::Resources;

/// What a worker gets of resources for which its Plan does not ask.
pub fn default_resources() -> Resources {
    Resources::default()
}
