//! What servers that were killed left behind, and what nobody asked to remove: agents that have ended or never began,
//! and Secrets whose Job or Pod is gone.

use super::Shared;
use super::agents::{READY, is_left};
use super::cache::ours;
use super::claims::is_older_than;
use super::client::{Delete, Deleted, Kind};
use crate::clock;
use crate::engine::EngineError;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use knit_api::label::{COMPONENT, component};
use std::collections::HashSet;

impl Shared {
    /// Removes leftovers; tells how many there were.
    pub(super) async fn remove_leftovers(&self) -> Result<u64, EngineError> {
        Ok(self.remove_left_agents().await? + self.remove_lonely_secrets().await?)
    }

    async fn remove_left_agents(&self) -> Result<u64, EngineError> {
        let agents = self.client.list::<Pod>(&format!("{},{COMPONENT}={}", ours(), component::AGENT)).await?;
        let now = clock::file_time();
        let mut removed = 0;
        // A server that lives gives up what does not start.
        let patience = READY + self.settings.stray_grace;
        for pod in agents.iter().filter(|pod| is_left(pod, now, patience)) {
            removed += self.remove_leftover(pod, "an agent that nobody uses").await?;
        }
        Ok(removed)
    }

    async fn remove_lonely_secrets(&self) -> Result<u64, EngineError> {
        let ours = ours();
        // Owners after Secrets: one that was made in between is seen.
        let secrets = self.client.list::<Secret>(&ours).await?;
        let jobs = self.client.list::<Job>(&ours).await?;
        let pods = self.client.list::<Pod>(&ours).await?;
        let owners: HashSet<_> = jobs
            .iter()
            .map(|job| &job.metadata)
            .chain(pods.iter().map(|pod| &pod.metadata))
            .filter_map(|owner| owner.name.as_deref())
            .collect();
        // One is made before that to which it belongs.
        let (grace, now) = (self.settings.stray_grace, clock::file_time());
        let mut removed = 0;
        for secret in &secrets {
            let component = secret.metadata.labels.as_ref().and_then(|labels| labels.get(COMPONENT));
            let of_ours = matches!(component.map(String::as_str), Some(component::WORKER | component::AGENT));
            let alone = secret.metadata.name.as_deref().is_none_or(|name| !owners.contains(name));
            if of_ours && alone && is_older_than(&secret.metadata, grace, now) {
                removed += self.remove_leftover(secret, "a Secret whose owner is gone").await?;
            }
        }
        Ok(removed)
    }

    async fn remove_leftover<K: Kind>(&self, object: &K, what: &str) -> Result<u64, EngineError> {
        let name = object.meta().name.as_deref().unwrap_or_default();
        let how = Delete { uid: object.meta().uid.clone(), ..Delete::default() };
        let gone = self.client.delete::<K>(name, &how).await?;
        if gone == Deleted::Gone {
            return Ok(0);
        }
        tracing::info!(name, what, "removed what was left behind");
        Ok(1)
    }
}
