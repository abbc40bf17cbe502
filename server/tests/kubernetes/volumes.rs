//! Volumes of a cluster, as such.

use crate::place::{PATIENCE, Place};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use knit_api::id::DataId;
use knit_server::engine::{Engine as _, Volume};
use kube::runtime::wait::await_condition;
use tokio::time::timeout;

fn is_bound(claim: Option<&PersistentVolumeClaim>) -> bool {
    claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
}

#[tokio::test]
async fn a_volume_is_made_and_made_anew_and_removed() {
    let Some(place) = Place::new().await else { return };
    let volume = Volume::of(&DataId::new("3f0c"));
    let claims = place.api::<PersistentVolumeClaim>();

    place.engine.create_volume(&volume).await.unwrap();
    let bound = await_condition(claims.clone(), volume.as_str(), is_bound);
    let first = timeout(PATIENCE, bound).await.unwrap().unwrap().unwrap();
    assert_eq!(first.metadata.labels.as_ref().unwrap()["knit/data.knitid"], "3f0c");

    // Somebody may have written into it.
    place.engine.create_volume(&volume).await.unwrap();
    let second = claims.get(volume.as_str()).await.unwrap();
    assert_ne!(second.metadata.uid, first.metadata.uid, "it is an empty one");
    assert!(second.metadata.deletion_timestamp.is_none());

    assert_eq!(place.engine.volumes().await.unwrap(), [], "nobody can have come to use it yet");
    place.engine.remove_volume(&volume).await.unwrap();
    place.engine.remove_volume(&volume).await.unwrap();
}
