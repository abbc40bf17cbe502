//! Volumes as such: PersistentVolumeClaims, made, removed and listed. What is in them goes through agents.

use super::Shared;
use super::cache::{claims, ours};
use super::client::{Delete, Made};
use super::objects::volume;
use crate::clock;
use crate::engine::{EngineError, Volume};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knit_api::label::{COMPONENT, component};
use kube::runtime::watcher;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// How long a volume may take to go that is to be made anew.
const GONE: Duration = Duration::from_secs(30);
/// How long a volume may take to be bound before its Pod is made nevertheless.
const BOUND: Duration = Duration::from_secs(3);

/// What is known of storage classes, by name: whether their claims are bound as soon as they are made, which never
/// changes.
pub(super) type Classes = Mutex<HashMap<String, bool>>;

impl Shared {
    /// A volume of that name may be there because this was done before, or because a worker was ended that has
    /// written into it. Nobody can tell without a look into it, so that it is made anew unless nothing can have been
    /// written yet.
    pub(super) async fn create_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        let claim = volume::claim(volume, &self.settings);
        let found = match self.client.create(&claim).await? {
            Made::New(made) => return self.until_bound(volume, &made).await,
            Made::Found(found) if is_unused(&found) => return self.until_bound(volume, &found).await,
            Made::Found(found) => found,
        };
        let uid = found.metadata.uid;
        self.client
            .delete::<PersistentVolumeClaim>(volume.as_str(), &Delete { uid: uid.clone(), ..Delete::default() })
            .await?;
        let it = watcher::Config::default().fields(&format!("metadata.name={volume}"));
        let is_it = |claim: &PersistentVolumeClaim| claim.metadata.uid == uid;
        if !self.client.until_none(it, clock::deadline(GONE), is_it).await {
            return Err(EngineError::Failed {
                what: format!("emptying volume {volume}"),
                cause: "the PersistentVolumeClaim is still there; see which Pod mounts it".to_owned(),
            });
        }
        let (Made::New(made) | Made::Found(made)) = self.client.create(&claim).await?;
        self.until_bound(volume, &made).await
    }

    /// Gives a volume that is bound at once a moment for that: the scheduler sends away a Pod whose volumes are not
    /// bound, and looks at it again only seconds later. Other volumes are bound when a Pod asks for them.
    async fn until_bound(&self, volume: &Volume, claim: &PersistentVolumeClaim) -> Result<(), EngineError> {
        let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
        if is_unused(claim) && self.binds_at_once(class).await {
            let it = watcher::Config::default().fields(&format!("metadata.name={volume}"));
            self.client.until_none(it, clock::deadline(BOUND), is_unused).await;
        }
        Ok(())
    }

    /// Whether claims of this storage class are bound as soon as they are made. A class that is not there, or cannot
    /// be seen, is taken for one that waits.
    async fn binds_at_once(&self, class: &str) -> bool {
        let known = lock(&self.classes).get(class).copied();
        if let Some(known) = known {
            return known;
        }
        let at_once = match self.client.get_of_cluster::<StorageClass>(class).await {
            Ok(class) => class.is_some_and(|class| class.volume_binding_mode.is_none_or(|mode| mode == "Immediate")),
            Err(error) if error.is_forbidden() => {
                tracing::info!(%error, "Pods are made before their volumes are bound");
                false
            }
            Err(error) => {
                tracing::debug!(class, %error, "how the storage class binds is asked again");
                return false;
            }
        };
        lock(&self.classes).insert(class.to_owned(), at_once);
        at_once
    }

    /// Nobody can keep the volume any more when this returns. While a Pod mounts it, the cluster goes on to have it,
    /// and removes it by itself as soon as that Pod has ended.
    pub(super) async fn remove_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.client.delete::<PersistentVolumeClaim>(volume.as_str(), &Delete::default()).await?;
        // One that is only kept in case the volume is asked for again would keep the cluster from it.
        self.agents.release(volume).await;
        Ok(())
    }

    /// Volumes that nobody has to do with just now: an upload has its volume long before its row, and for a moment
    /// before a Pod mounts it.
    pub(super) async fn list_volumes(&self) -> Result<Vec<Volume>, EngineError> {
        let ours = ours();
        let data = format!("{ours},{COMPONENT}={}", component::DATA);
        // Pods after volumes: one that was made in between is seen.
        let all = self.client.list::<PersistentVolumeClaim>(&data).await?;
        let pods = self.client.list::<Pod>(&ours).await?;
        // Also those that are ending: whoever has filled a volume waits for that before it says what it is for.
        let mounted: HashSet<&str> = pods.iter().flat_map(claims).collect();
        let now = clock::file_time();
        let idle = |claim: &&PersistentVolumeClaim| {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            claim.metadata.deletion_timestamp.is_none()
                && !mounted.contains(name)
                && is_older_than(&claim.metadata, self.settings.stray_grace, now)
        };
        Ok(all.iter().filter(idle).filter_map(|claim| claim.metadata.name.clone()).map(Volume::from_stored).collect())
    }
}

/// Whether nothing was ever written into it, for sure: it has no place yet where that could be.
fn is_unused(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    claim.metadata.deletion_timestamp.is_none() && phase == Some("Pending")
}

/// Whether the object was made longer ago than this. One without a date is young.
pub(super) fn is_older_than(metadata: &ObjectMeta, age: Duration, now: SystemTime) -> bool {
    let made = metadata.creation_timestamp.as_ref().map(|made| SystemTime::from(made.0));
    made.is_some_and(|made| now.duration_since(made).is_ok_and(|lived| lived > age))
}

fn lock(classes: &Classes) -> MutexGuard<'_, HashMap<String, bool>> {
    classes.lock().unwrap_or_else(PoisonError::into_inner)
}
