//! The Job of a worker, and the Pod in it.
//!
//! Before main starts, `init-main` makes sure that its outputs are empty and puts knitd where main finds it, and
//! `init-log` looks at the log. Then the recorder (`nurse`) starts, and main is started through `knitd wrap`, which
//! tells the recorder all that main writes and how it ended. Only the recorder has the Secret.

use super::pod::{
    CREDENTIALS, DOOR_PORT, VOLUMES, container, credentials, data, door, folder_of, mount, mount_credentials,
    mount_data, scratch,
};
use super::scheduling::{Scheduling, scheduling};
use super::{Labels, default_resources, labels, metadata};
use crate::engine::{EngineError, Mount, Volume, Work};
use crate::settings::Cluster;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSpec, PodTemplateSpec, ResourceRequirements, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knit_api::id::{PlanId, RunId};
use knit_api::image::{BUILT_IN_REGISTRY, ImageRef};
use knit_api::label::{self, worker_name};
use std::collections::{BTreeMap, BTreeSet};

/// How long a worker that is asked to end may take, unless whoever asks says otherwise.
pub const TERMINATION_GRACE: i64 = 30;

/// The folder that the containers of a worker share: knitd for main, and the socket of the recorder.
const SHARED: &str = "/.knit";
/// Name of its volume.
const SHARED_VOLUME: &str = "knit";
/// Where main finds knitd.
const INSTALLED: &str = "/.knit/knitd";

/// What main executes: decided by the Plan, else by the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MainCommand {
    /// The program, and what always comes after it.
    pub entrypoint: Vec<String>,
    /// What comes after that.
    pub args: Vec<String>,
}

/// Labels of a worker's Job, Pod and Secret.
pub fn worker_labels(run: &RunId, plan: &PlanId) -> Labels {
    let own =
        [(label::WORKER_RUN_ID, run.as_str()), (label::WORKER_RUN, run.as_str()), (label::WORKER_PLAN, plan.as_str())];
    labels(label::component::WORKER, &worker_name(run), &own)
}

/// The path of an image at the built-in registry, if its name means that one: without a host, or with the host by
/// which Plans or nodes call it.
pub fn built_in<'a>(image: &'a ImageRef, settings: &Cluster) -> Option<&'a str> {
    match image.host_and_path() {
        (None, path) => Some(path),
        (Some(host), path) => (host == BUILT_IN_REGISTRY || host == settings.registry).then_some(path),
    }
}

/// The image by the name with which a node fetches it.
pub fn image_on_node(image: &ImageRef, settings: &Cluster) -> String {
    match built_in(image, settings) {
        Some(path) => format!("{}/{path}:{}", settings.registry, image.tag),
        None => image.to_string(),
    }
}

/// The Job of a Run; its Secret has the same name. Work that would harm Data or that no cluster accepts is refused.
pub fn job(work: &Work, main: &MainCommand, settings: &Cluster) -> Result<Job, EngineError> {
    check(work, main)?;
    let name = worker_name(&work.run);
    let labels = worker_labels(&work.run, &work.plan);
    Ok(Job {
        metadata: metadata(&name, labels.clone()),
        spec: Some(JobSpec {
            parallelism: Some(1),
            completions: Some(1),
            backoff_limit: Some(0),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod(work, main, &name, settings)),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    })
}

fn pod(work: &Work, main: &MainCommand, name: &str, settings: &Cluster) -> PodSpec {
    let Scheduling { tolerations, affinity } = scheduling(&work.on_node);
    let account = Some(work.service_account.clone()).filter(|account| !account.is_empty());
    // A Data on two inputs is one volume with two mounts.
    let each_once: BTreeSet<&Volume> = written(work).chain(work.inputs.iter().map(|input| &input.volume)).collect();
    let mut volumes: Vec<_> = each_once.into_iter().map(data).collect();
    volumes.extend([scratch(SHARED_VOLUME), credentials(name)]);
    let mut before = vec![check_outputs(work, settings)];
    before.extend(work.log.as_ref().map(|log| check_log(log, settings)));
    PodSpec {
        init_containers: Some(before),
        // Containers are started in this order.
        containers: vec![recorder(work, settings), main_container(work, main, settings)],
        volumes: Some(volumes),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(TERMINATION_GRACE),
        enable_service_links: Some(false),
        automount_service_account_token: Some(account.is_some()),
        service_account_name: account,
        priority_class_name: settings.worker_priority.clone(),
        tolerations,
        affinity,
        ..PodSpec::default()
    }
}

/// The volumes that the worker fills.
fn written(work: &Work) -> impl Iterator<Item = &Volume> {
    work.outputs.iter().map(|output| &output.volume).chain(&work.log)
}

fn check_outputs(work: &Work, settings: &Cluster) -> Container {
    let outputs = || work.outputs.iter().map(|output| &output.volume);
    let args = ["check-empty", "--install", INSTALLED].map(ToOwned::to_owned);
    let args = args.into_iter().chain(outputs().map(folder_of)).collect();
    // Writable: their root folders are opened for the user of main's image.
    let mut mounts: Vec<_> = outputs().map(|output| mount_data(output, false)).collect();
    mounts.push(mount(SHARED_VOLUME, SHARED, false));
    container(label::container::CHECK_OUTPUTS, settings, args, mounts)
}

fn check_log(log: &Volume, settings: &Cluster) -> Container {
    let args = vec!["check-empty".to_owned(), folder_of(log)];
    container(label::container::CHECK_LOG, settings, args, vec![mount_data(log, false)])
}

fn recorder(work: &Work, settings: &Cluster) -> Container {
    let mut args: Vec<String> =
        ["record-log", "--volumes", VOLUMES, "--shared", SHARED, "--credentials", CREDENTIALS, "--port"]
            .map(ToOwned::to_owned)
            .into();
    args.push(DOOR_PORT.to_string());
    args.extend(work.outputs.iter().flat_map(|output| ["--output".to_owned(), output.volume.to_string()]));
    if let Some(log) = &work.log {
        let limit = settings.log_limit.to_string();
        args.extend(["--log".to_owned(), log.to_string(), "--log-limit".to_owned(), limit]);
    }
    let mut mounts: Vec<_> = written(work).map(|volume| mount_data(volume, false)).collect();
    mounts.extend([mount(SHARED_VOLUME, SHARED, false), mount_credentials()]);
    Container { ports: Some(vec![door()]), ..container(label::container::RECORDER, settings, args, mounts) }
}

fn main_container(work: &Work, main: &MainCommand, settings: &Cluster) -> Container {
    let command = [INSTALLED, "wrap", "--"].into_iter().map(ToOwned::to_owned);
    let command = command.chain(main.entrypoint.iter().chain(&main.args).map(|word| literally(word)));
    let at_path = |at: &Mount, read_only| mount(at.volume.as_str(), &at.path, read_only);
    let mut mounts: Vec<_> = work.inputs.iter().map(|input| at_path(input, true)).collect();
    mounts.extend(work.outputs.iter().map(|output| at_path(output, false)));
    mounts.push(mount(SHARED_VOLUME, SHARED, true));
    Container {
        name: label::container::MAIN.to_owned(),
        image: Some(image_on_node(&work.image, settings)),
        command: Some(command.collect()),
        volume_mounts: Some(mounts),
        resources: Some(resources(work)),
        security_context: Some(shut_in()),
        ..Container::default()
    }
}

/// Main may do what containers may by default on the cluster, but for making devices, which no Data can hold, and for
/// sending packets in the name of others: the same as on one machine.
fn shut_in() -> SecurityContext {
    let drop = ["MKNOD", "NET_RAW"].map(ToOwned::to_owned).into();
    SecurityContext { capabilities: Some(Capabilities { add: None, drop: Some(drop) }), ..SecurityContext::default() }
}

/// Kubernetes replaces `$(NAME)` in commands, and `$$` by `$`; what a Plan says is meant as it stands.
fn literally(word: &str) -> String {
    word.replace('$', "$$")
}

/// What the Plan asks for is what is set aside, and the most that it gets: a Run is never in another one's way.
fn resources(work: &Work) -> ResourceRequirements {
    let mut granted = default_resources();
    granted.extend(work.resources.clone());
    let granted: BTreeMap<_, _> =
        granted.into_iter().map(|(name, amount)| (name, Quantity(amount.to_string()))).collect();
    ResourceRequirements { requests: Some(granted.clone()), limits: Some(granted), ..ResourceRequirements::default() }
}

/// Refuses what would harm Data, or what no cluster accepts.
fn check(work: &Work, main: &MainCommand) -> Result<(), EngineError> {
    match fault(work, main) {
        None => Ok(()),
        Some(cause) => Err(EngineError::Failed { what: format!("making the worker of Run {}", work.run), cause }),
    }
}

fn fault(work: &Work, main: &MainCommand) -> Option<String> {
    if work.image.repository.is_empty() || work.image.tag.is_empty() {
        return Some("its Plan names no image with a tag".to_owned());
    }
    if main.entrypoint.iter().chain(&main.args).next().is_none() {
        let image = &work.image;
        return Some(format!(
            "neither its Plan nor the image {image} says what to execute; give the Plan an entrypoint"
        ));
    }
    let mounts = || work.inputs.iter().chain(&work.outputs);
    let volumes = || mounts().map(|at| &at.volume).chain(&work.log);
    if let Some(at) = mounts().find(|at| !can_be_mounted_at(&at.path)) {
        return Some(format!(
            "nothing can be mounted at \"{}\": a path is absolute, is not {SHARED} or below it, and has no colon in it",
            at.path
        ));
    }
    if let Some(volume) = volumes().find(|volume| !is_name_of_volume(volume.as_str())) {
        return Some(format!(
            "\"{volume}\" is not the name of a volume: 1 to 63 of a-z, 0-9 and '-', no '-' at the ends"
        ));
    }
    let mut paths = BTreeSet::new();
    if let Some(at) = mounts().find(|at| !paths.insert(&at.path)) {
        return Some(format!("two volumes are to be mounted at {}", at.path));
    }
    let mut filled = BTreeSet::new();
    if let Some(volume) = written(work).find(|volume| !filled.insert(*volume)) {
        return Some(format!("{volume} is to be filled by two outputs at one time"));
    }
    work.inputs
        .iter()
        .find(|input| filled.contains(&input.volume))
        .map(|input| format!("{} is an input and an output: it would be changed", input.volume))
}

fn can_be_mounted_at(path: &str) -> bool {
    let ours = path.strip_prefix(SHARED).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path.starts_with('/') && path != "/" && !path.contains(':') && !ours
}

/// A label of the Domain Name System: Pods name their volumes so.
fn is_name_of_volume(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}
