//! The Pod of an agent: `knitd agent` beside the volumes that it serves.

use super::pod::{
    CREDENTIALS, DOOR, DOOR_PORT, VOLUMES, container, credentials, data, door, mount, mount_credentials, mount_data,
    scratch,
};
use super::{Labels, data_of, labels, metadata};
use crate::engine::Volume;
use crate::settings::Cluster;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use knit_api::label;
use std::time::Duration;

/// Where an agent keeps manifests until they are fetched.
pub const SCRATCH: &str = "/scratch";

/// How long an agent that is asked to end may finish what it does.
const TERMINATION_GRACE: i64 = 5;
/// How much longer than servers keep it an agent stays when nobody asks it for anything: then they have forgotten it.
/// Less, where other things that nobody knows go sooner.
const FORGOTTEN: Duration = Duration::from_mins(2);
/// How often in a row the door must be seen closed before the Pod is called not ready.
const MISSES: i32 = 3;

/// What an agent does with its volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Mode {
    /// It hands them out.
    Read,
    /// It fills them or makes them final.
    Write,
}

impl Mode {
    /// As labels, arguments and names have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What is asked of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSpec {
    /// Of its Pod and its Secret.
    pub name: String,
    /// What it serves; at least one.
    pub volumes: Vec<Volume>,
    /// How.
    pub mode: Mode,
    /// When the cluster ends it, though nobody asked for that any more: a last resort.
    pub deadline: Duration,
}

/// Labels of an agent's Pod and Secret.
pub fn agent_labels(spec: &AgentSpec) -> Labels {
    let first = spec.volumes.first().map_or("", data_of);
    let own = [(label::AGENT_DATA, first), (label::AGENT_MODE, spec.mode.as_str())];
    labels(label::component::AGENT, &spec.name, &own)
}

/// The Pod of an agent. Its Secret has the same name, and must be there before it can start.
pub fn pod(spec: &AgentSpec, settings: &Cluster) -> Pod {
    let mut volumes: Vec<_> = spec.volumes.iter().map(data).collect();
    volumes.extend([scratch("scratch"), credentials(&spec.name)]);
    Pod {
        metadata: metadata(&spec.name, agent_labels(spec)),
        spec: Some(PodSpec {
            containers: vec![agent(spec, settings)],
            volumes: Some(volumes),
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: i64::try_from(spec.deadline.as_secs()).ok().map(|seconds| seconds.max(1)),
            termination_grace_period_seconds: Some(TERMINATION_GRACE),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn agent(spec: &AgentSpec, settings: &Cluster) -> Container {
    let read_only = spec.mode == Mode::Read;
    let mut mounts: Vec<_> = spec.volumes.iter().map(|volume| mount_data(volume, read_only)).collect();
    mounts.extend([mount("scratch", SCRATCH, false), mount_credentials()]);
    let port = DOOR_PORT.to_string();
    let forgotten = FORGOTTEN.min(settings.stray_grace);
    let idle = format!("{}s", settings.agent_idle.saturating_add(forgotten).as_secs());
    let args = [
        "agent",
        "--volumes",
        VOLUMES,
        "--mode",
        spec.mode.as_str(),
        "--credentials",
        CREDENTIALS,
        "--scratch",
        SCRATCH,
        "--port",
        &port,
        "--idle",
        &idle,
    ];
    Container {
        ports: Some(vec![door()]),
        readiness_probe: Some(Probe {
            tcp_socket: Some(TCPSocketAction { port: IntOrString::String(DOOR.to_owned()), host: None }),
            period_seconds: Some(1),
            failure_threshold: Some(MISSES),
            ..Probe::default()
        }),
        ..container(label::component::AGENT, settings, args.map(ToOwned::to_owned).into(), mounts)
    }
}
