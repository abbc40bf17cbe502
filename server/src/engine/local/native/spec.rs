//! The container as the OCI runtime specification says it: namespaces, mounts, limits, capabilities.

use super::order::{Bind, Order};
use super::overlay::MOUNTED;
use super::user::Identity;
use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxDeviceCgroupBuilder,
    LinuxDeviceType, LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder,
    LinuxResourcesBuilder, Mount, MountBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder, get_default_maskedpaths, get_default_readonly_paths,
};
use rustix::process::{Resource, getrlimit};
use std::path::PathBuf;

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The scheduler's period, in microseconds; the kernel's own default.
const CPU_PERIOD: u64 = 100_000;
/// The kernel takes no smaller quota, in microseconds.
const LEAST_CPU_QUOTA: u64 = 1_000;
/// Open files: enough for data loaders, and small enough for programs that close every possible one.
const OPEN_FILES: u64 = 65_536;

/// Docker's default set without `MKNOD` and `NET_RAW`: devices and raw packets have no place in a Run.
const CAPABILITIES: [Capability; 12] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Program and arguments, by the rules of Kubernetes' `command` and `args`: an entrypoint of the Plan
/// replaces the image's and its arguments; arguments of the Plan replace the image's.
pub fn command(
    entrypoint: &[String],
    args: &[String],
    image_entrypoint: &[String],
    image_cmd: &[String],
) -> Vec<String> {
    match (entrypoint.is_empty(), args.is_empty()) {
        (false, _) => [entrypoint, args].concat(),
        (true, false) => [image_entrypoint, args].concat(),
        (true, true) => [image_entrypoint, image_cmd].concat(),
    }
}

/// The environment: the image's, with `PATH` and `HOME` where it has none.
pub(super) fn environment(image: &[String], identity: &Identity) -> Vec<String> {
    let mut variables: Vec<String> = image.iter().filter(|pair| pair.contains('=')).cloned().collect();
    if !variables.iter().any(|pair| pair.starts_with("PATH=")) {
        variables.push(DEFAULT_PATH.to_owned());
    }
    if !variables.iter().any(|pair| pair.starts_with("HOME=")) {
        variables.push(format!("HOME={}", identity.home.as_deref().unwrap_or("/")));
    }
    variables
}

/// The whole specification.
pub(super) fn build(order: &Order, identity: &Identity, working_dir: &str) -> Result<Spec, OciSpecError> {
    let mut kinds = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Cgroup,
    ];
    if !order.host_network {
        kinds.push(LinuxNamespaceType::Network);
    }
    let namespaces: Result<Vec<_>, _> =
        kinds.into_iter().map(|kind| LinuxNamespaceBuilder::default().typ(kind).build()).collect();
    let linux = LinuxBuilder::default()
        .namespaces(namespaces?)
        .masked_paths(get_default_maskedpaths())
        .readonly_paths(get_default_readonly_paths())
        .rootfs_propagation("private")
        .cgroups_path(PathBuf::from(&order.cgroup))
        .resources(resources(order)?)
        .build()?;
    SpecBuilder::default()
        .version("1.0.2")
        .hostname(&order.hostname)
        .process(process(order, identity, working_dir)?)
        .root(RootBuilder::default().path(MOUNTED).readonly(false).build()?)
        .mounts(mounts(order)?)
        .linux(linux)
        .build()
}

fn resources(order: &Order) -> Result<libcontainer::oci_spec::runtime::LinuxResources, OciSpecError> {
    let memory = i64::try_from(order.memory_bytes).unwrap_or(i64::MAX);
    let quota = (order.cpu_millis.saturating_mul(CPU_PERIOD) / 1000).max(LEAST_CPU_QUOTA);
    let deny_all = LinuxDeviceCgroupBuilder::default().allow(false).typ(LinuxDeviceType::A).access("rwm").build()?;
    let mut resources = LinuxResourcesBuilder::default()
        // Memory and swap together are limited to what memory alone is: a worker does not swap.
        .memory(LinuxMemoryBuilder::default().limit(memory).swap(memory).build()?)
        .cpu(LinuxCpuBuilder::default().period(CPU_PERIOD).quota(i64::try_from(quota).unwrap_or(i64::MAX)).build()?)
        .devices(vec![deny_all]);
    if let Some(limit) = order.pids {
        resources = resources.pids(LinuxPidsBuilder::default().limit(limit).build()?);
    }
    resources.build()
}

fn process(
    order: &Order,
    identity: &Identity,
    working_dir: &str,
) -> Result<libcontainer::oci_spec::runtime::Process, OciSpecError> {
    let none = Capabilities::new;
    let all = || CAPABILITIES.into_iter().collect::<Capabilities>();
    // Another user than root holds none; the bounding set says what a root-owned program could regain,
    // and no-new-privileges keeps it from doing so.
    let held = if identity.uid == 0 { all() } else { none() };
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(all())
        .effective(held.clone())
        .permitted(held)
        .inheritable(none())
        .ambient(none())
        .build()?;
    ProcessBuilder::default()
        .terminal(false)
        .user(
            UserBuilder::default()
                .uid(identity.uid)
                .gid(identity.gid)
                .additional_gids(identity.groups.clone())
                .umask(0o022u32)
                .build()?,
        )
        .args(order.command.clone())
        .env(environment(&order.env, identity))
        .cwd(working_dir)
        .capabilities(capabilities)
        .no_new_privileges(true)
        .rlimits(rlimits()?)
        .build()
}

/// Open files within what this process may give; no core dumps, because the host's handler would get them.
fn rlimits() -> Result<Vec<PosixRlimit>, OciSpecError> {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let limit = |kind, soft: u64, hard: u64| PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build();
    Ok(vec![
        limit(PosixRlimitType::RlimitNofile, OPEN_FILES.min(most), most.min(1 << 20))?,
        limit(PosixRlimitType::RlimitCore, 0, 0)?,
    ])
}

fn mounts(order: &Order) -> Result<Vec<Mount>, OciSpecError> {
    let shm = format!("size={}", order.memory_bytes);
    let mut mounts = vec![
        system("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        system("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"])?,
        system(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        // Its pages count towards the memory limit, so its size need not be a limit of its own.
        system("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm])?,
        system("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        system("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
    ];
    for bind in &order.inputs {
        mounts.push(bound(bind, "ro")?);
    }
    for bind in &order.outputs {
        mounts.push(bound(bind, "rw")?);
    }
    Ok(mounts)
}

fn system(destination: &str, kind: &str, source: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    MountBuilder::default().destination(destination).typ(kind).source(source).options(options).build()
}

fn bound(bind: &Bind, access: &str) -> Result<Mount, OciSpecError> {
    let options: Vec<String> =
        ["bind", "rprivate", "nosuid", "nodev", access].iter().map(|option| (*option).to_owned()).collect();
    MountBuilder::default().destination(&bind.path).typ("bind").source(&bind.source).options(options).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn the_command_follows_the_rules_of_kubernetes() {
        for (entrypoint, args, image_entrypoint, image_cmd, expected) in [
            ("", "", "/init", "serve", "/init serve"),
            ("", "", "", "sh", "sh"),
            ("", "", "", "", ""),
            ("", "train", "/init", "serve", "/init train"),
            ("/run", "", "/init", "serve", "/run"),
            ("/run", "fast", "/init", "serve", "/run fast"),
            ("", "echo a", "", "serve", "echo a"),
        ] {
            let found = command(&words(entrypoint), &words(args), &words(image_entrypoint), &words(image_cmd));
            assert_eq!(found, words(expected), "{entrypoint}|{args}|{image_entrypoint}|{image_cmd}");
        }
    }

    #[test]
    fn path_and_home_are_set_where_the_image_has_none() {
        let ann = Identity { home: Some("/home/ann".to_owned()), ..Identity::default() };
        let from = |image: &[&str], identity: &Identity| {
            environment(&image.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>(), identity)
        };
        assert_eq!(from(&[], &ann), [DEFAULT_PATH, "HOME=/home/ann"]);
        assert_eq!(from(&["A=b", "junk"], &Identity::default()), ["A=b", DEFAULT_PATH, "HOME=/"]);
        assert_eq!(from(&["PATH=/x", "HOME=/h"], &ann), ["PATH=/x", "HOME=/h"]);
    }

    fn order() -> Order {
        Order {
            image_digest: "sha256:0".to_owned(),
            layers: Vec::new(),
            user: String::new(),
            working_dir: String::new(),
            env: Vec::new(),
            command: words("sh -c true"),
            inputs: vec![
                Bind { path: "/in/1".to_owned(), source: "/v/a".into() },
                Bind { path: "/in/2".to_owned(), source: "/v/a".into() },
            ],
            outputs: vec![Bind { path: "/out".to_owned(), source: "/v/b".into() }],
            log: None,
            log_limit: 0,
            cpu_millis: 1500,
            memory_bytes: 64 << 20,
            pids: Some(100),
            cgroup: "/knit/x/y".to_owned(),
            host_network: false,
            hostname: "worker".to_owned(),
        }
    }

    #[test]
    fn inputs_are_read_only_outputs_writable_and_nobody_gets_devices_or_set_uid_programs_from_them() {
        let spec = build(&order(), &Identity::default(), "/").unwrap();
        for (path, access, source) in [("/in/1", "ro", "/v/a"), ("/in/2", "ro", "/v/a"), ("/out", "rw", "/v/b")] {
            let mounts = spec.mounts().as_ref().unwrap();
            let found = mounts.iter().find(|m| m.destination().to_str() == Some(path)).unwrap();
            let options = found.options().as_ref().unwrap();
            for option in [access, "bind", "nosuid", "nodev", "rprivate"] {
                assert!(options.iter().any(|o| o == option), "{path} {option}");
            }
            assert_eq!(found.source().as_ref().unwrap(), &PathBuf::from(source));
        }
        let shm = spec.mounts().as_ref().unwrap().iter().find(|m| m.destination().ends_with("shm")).unwrap();
        assert!(shm.options().as_ref().unwrap().contains(&"size=67108864".to_owned()));
    }

    #[test]
    fn only_root_holds_capabilities_and_nobody_gains_new_ones() {
        for (uid, held) in [(0, 12), (1000, 0)] {
            let identity = Identity { uid, ..Identity::default() };
            let spec = build(&order(), &identity, "/").unwrap();
            let process = spec.process().as_ref().unwrap();
            let capabilities = process.capabilities().as_ref().unwrap();
            assert_eq!(capabilities.effective().as_ref().unwrap().len(), held);
            assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 12);
            assert!(!capabilities.bounding().as_ref().unwrap().contains(&Capability::Mknod));
            assert_eq!(process.no_new_privileges(), Some(true));
        }
    }

    #[test]
    fn limits_are_exact_and_swap_is_none() {
        for (cpu_millis, quota) in [(1500, 150_000), (100, 10_000), (0, 1_000)] {
            let spec = build(&Order { cpu_millis, ..order() }, &Identity::default(), "/").unwrap();
            let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap().clone();
            assert_eq!(resources.cpu().as_ref().unwrap().quota(), Some(quota));
            assert_eq!(resources.memory().as_ref().unwrap().limit(), Some(64 << 20));
            assert_eq!(resources.memory().as_ref().unwrap().swap(), Some(64 << 20));
            assert_eq!(resources.pids().as_ref().unwrap().limit(), 100);
        }
    }

    #[test]
    fn the_network_is_private_unless_the_operator_decides_otherwise() {
        for host_network in [false, true] {
            let spec = build(&Order { host_network, ..order() }, &Identity::default(), "/").unwrap();
            let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
            let private = namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Network);
            assert_eq!(private, !host_network);
        }
    }
}
