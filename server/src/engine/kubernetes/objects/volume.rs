//! The PersistentVolumeClaim of a Data.

use super::{data_of, labels, metadata};
use crate::engine::Volume;
use crate::settings::Cluster;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knit_api::label;

/// What is claimed for a Data. Several Pods on several nodes may have it at one time: workers that read it, and
/// agents.
pub fn claim(volume: &Volume, settings: &Cluster) -> PersistentVolumeClaim {
    let name = volume.as_str();
    let capacity = Quantity(settings.initial_capacity.to_string());
    PersistentVolumeClaim {
        metadata: metadata(name, labels(label::component::DATA, name, &[(label::DATA_ID, data_of(volume))])),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteMany".to_owned()]),
            storage_class_name: settings.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), capacity)].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
