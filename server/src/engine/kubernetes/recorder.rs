//! The recorder of a worker, as servers ask it.

use super::client::Client;
use super::credentials::Pass;
use super::dial::{Ask, Door};
use super::door::record::{Closed, End};
use super::objects::pod::DOOR_PORT;
use crate::engine::{ByteStream, EngineError};
use crate::settings::{Cluster, Reach};
use k8s_openapi::api::core::v1::{ContainerState, Pod, Secret};
use knit_api::id::RunId;
use knit_api::label::{container, worker_name};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A recorder that runs.
pub(super) struct Recorder(Door);

impl Recorder {
    /// The recorder in this Pod of the Run's worker; none if it does not run, or not any more.
    pub(super) async fn of(
        run: &RunId,
        pod: &Pod,
        client: &Client,
        settings: &Cluster,
    ) -> Result<Option<Self>, EngineError> {
        let name = worker_name(run);
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse::<IpAddr>().ok());
        let Some(ip) = ip.filter(|_| runs(pod)) else { return Ok(None) };
        let Some(secret) = client.get::<Secret>(&name).await? else { return Ok(None) };
        let pass = Pass::from_secret(&secret)?;
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        Ok(Some(Self(match settings.reach {
            Reach::Direct => Door::direct(pod, SocketAddr::new(ip, DOOR_PORT), &pass)?,
            Reach::Forward => Door::forwarded(pod, client.api(), &pass)?,
        })))
    }

    /// How main ended, with what its volumes came to if `sealed`; none when it has not in time.
    pub(super) async fn end(&self, wait: Duration, sealed: bool) -> Result<Option<End>, EngineError> {
        self.0.ask(Ask::get(format!("/end?wait={}&sealed={sealed}", wait.as_secs()))).await?.json().await
    }

    /// Has it make volumes final: nothing of main is left.
    pub(super) async fn seal(&self) -> Result<(), EngineError> {
        self.0.ask(Ask::post("/seal")).await?;
        Ok(())
    }

    /// Sees to it that main does not start any more; true when it never has.
    pub(super) async fn close(&self) -> Result<bool, EngineError> {
        let Closed { started } = self.0.ask(Ask::post("/close")).await?.json().await?;
        Ok(!started)
    }

    /// Lets it go.
    pub(super) async fn done(&self) -> Result<(), EngineError> {
        self.0.ask(Ask::post("/done")).await?;
        Ok(())
    }

    /// The manifest of a volume that it made final.
    pub(super) async fn manifest(&self, digest: &str) -> Result<ByteStream, EngineError> {
        Ok(self.0.ask(Ask::get(format!("/manifests/{digest}"))).await?.stream())
    }

    /// The log from some byte on, and with `follow` to the last one that main writes.
    pub(super) async fn log(&self, from: u64, follow: bool) -> Result<ByteStream, EngineError> {
        Ok(self.0.ask(Ask::get(format!("/log?from={from}&follow={follow}"))).await?.stream())
    }

    /// The last bytes of the log as it is now.
    pub(super) async fn log_tail(&self, most: usize) -> Result<ByteStream, EngineError> {
        Ok(self.0.ask(Ask::get(format!("/log?from=-{most}"))).await?.stream())
    }
}

/// Whether the recorder in this Pod runs.
pub(super) fn runs(pod: &Pod) -> bool {
    state(pod, container::RECORDER).is_some_and(|state| state.running.is_some())
}

/// Whether main in this Pod has ended.
pub(super) fn is_main_gone(pod: &Pod) -> bool {
    state(pod, container::MAIN).is_some_and(|state| state.terminated.is_some())
}

fn state<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerState> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|one| one.name == container)?.state.as_ref()
}
