//! What is asked of the cluster, as objects: computed from plain words, no call is made here. Only fields that are
//! generally available both in 1.20 and in the version that the types are made for; a test holds all of them
//! against that list.

pub mod agent;
pub mod pod;
pub mod scheduling;
#[cfg(test)]
mod tests;
pub mod volume;
pub mod worker;

use crate::engine::Volume;
use crate::rules::plan::DEFAULTS;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knit_api::label;
use knit_api::plan::Resources;
use std::collections::BTreeMap;

/// Labels of one object.
pub type Labels = BTreeMap<String, String>;

/// What a worker gets of resources for which its Plan does not ask: the same as at its registration.
pub fn default_resources() -> Resources {
    DEFAULTS.iter().filter_map(|(name, amount)| Some(((*name).to_owned(), amount.parse().ok()?))).collect()
}

/// The Secret from which an agent or a recorder has what it and its callers know each other by. With an owner it
/// goes when that goes.
pub fn secret(name: &str, data: BTreeMap<String, Vec<u8>>, labels: Labels, owner: Option<OwnerReference>) -> Secret {
    Secret {
        metadata: ObjectMeta { owner_references: owner.map(|owner| vec![owner]), ..metadata(name, labels) },
        data: Some(data.into_iter().map(|(field, bytes)| (field, ByteString(bytes))).collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// The labels that everything of ours carries, and those of its own kind.
fn labels(component: &str, instance: &str, own: &[(&str, &str)]) -> Labels {
    let common = [
        (label::VERSION, env!("CARGO_PKG_VERSION")),
        (label::NAME, component),
        (label::INSTANCE, instance),
        (label::COMPONENT, component),
        (label::PART_OF, label::MANAGER),
        (label::MANAGED_BY, label::MANAGER),
    ];
    common.iter().chain(own).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn metadata(name: &str, labels: Labels) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() }
}

/// The Data whose volume this is.
fn data_of(volume: &Volume) -> &str {
    let name = volume.as_str();
    name.strip_prefix(Volume::PREFIX).unwrap_or(name)
}
