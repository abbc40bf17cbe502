//! The parts that Pods of ours are made of.

use crate::engine::Volume as DataVolume;
use crate::settings::Cluster;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource,
    ResourceRequirements, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Where the volumes of Data stand in containers of ours, each below its name.
pub const VOLUMES: &str = "/volumes";
/// Where containers of ours have the Secret of their Pod.
pub const CREDENTIALS: &str = "/credentials";
/// On which port the door of an agent or a recorder is.
pub const DOOR_PORT: u16 = 18082;
/// The name of that port.
pub const DOOR: &str = "door";

/// Our program in its image.
const PROGRAM: &str = "/knitd";
/// Name of the volume with the Secret.
const SECRET: &str = "credentials";

/// A container of ours: knitd in one of its roles, the first of the arguments.
pub(super) fn container(name: &str, settings: &Cluster, args: Vec<String>, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(settings.image.clone()),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(args),
        volume_mounts: Some(mounts),
        resources: Some(modest()),
        security_context: Some(confined()),
        // Its last words come with its status: what it found wrong.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// The little that is kept free for a container of ours. Its use of processors is not limited: sealing outputs is
/// what the end of a Run waits for.
fn modest() -> ResourceRequirements {
    let amounts = |amounts: &[(&str, &str)]| {
        Some(amounts.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect())
    };
    ResourceRequirements {
        requests: amounts(&[("cpu", "50m"), ("memory", "100Mi")]),
        limits: amounts(&[("memory", "512Mi")]),
        ..ResourceRequirements::default()
    }
}

/// Only what it takes to read, make and hand over files of any owner. That is also what the "baseline" level of the
/// Pod Security Standards lets in.
fn confined() -> SecurityContext {
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    SecurityContext {
        run_as_user: Some(0),
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: names(&["CHOWN", "DAC_OVERRIDE", "FOWNER"]), drop: names(&["ALL"]) }),
        ..SecurityContext::default()
    }
}

/// The door of a container.
pub(super) fn door() -> ContainerPort {
    ContainerPort {
        name: Some(DOOR.to_owned()),
        container_port: DOOR_PORT.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Where a volume of Data stands in containers of ours.
pub fn folder_of(volume: &DataVolume) -> String {
    format!("{VOLUMES}/{volume}")
}

/// A volume of Data, by its own name. It is not told here whether it is read or written: one container may read it
/// that another one fills.
pub(super) fn data(volume: &DataVolume) -> Volume {
    Volume {
        name: volume.to_string(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: volume.to_string(),
            ..PersistentVolumeClaimVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A folder that lives as long as its Pod.
pub(super) fn scratch(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// The Secret of this name.
pub(super) fn credentials(name: &str) -> Volume {
    Volume {
        name: SECRET.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            default_mode: Some(0o400),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A volume at a path.
pub(super) fn mount(volume: &str, path: impl Into<String>, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.into(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

/// A volume of Data where containers of ours have it.
pub(super) fn mount_data(volume: &DataVolume, read_only: bool) -> VolumeMount {
    mount(volume.as_str(), folder_of(volume), read_only)
}

/// The Secret where containers of ours have it.
pub(super) fn mount_credentials() -> VolumeMount {
    mount(SECRET, CREDENTIALS, true)
}
