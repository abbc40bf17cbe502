//! What a machine must offer for containers of our own. It is not guessed from versions and files but
//! tried, in a process of its own that is thrown away afterwards.

use super::cgroup::Cgroups;
use super::program::Program;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;

/// Argument that makes a shim try instead of run.
pub(super) const TRY: &str = "--try";

/// What is missing, each with what to do; empty when all is there. `workers` is where containers will
/// have their folders.
pub fn missing(program: &Program, workers: &Path) -> io::Result<Vec<String>> {
    let mut command = program.command();
    command.arg("shim").arg(TRY).arg(workers).stdin(Stdio::null()).stderr(Stdio::null());
    let answer = command.output()?;
    if !answer.status.success() {
        return Ok(vec![format!("a shim process could not be started on this machine ({})", answer.status)]);
    }
    Ok(String::from_utf8_lossy(&answer.stdout).lines().map(ToOwned::to_owned).collect())
}

/// Tries everything; runs in the process that is thrown away.
pub(super) fn try_all(workers: &Path) -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        return vec!["root: containers are made by root; start knitd as root, for example with sudo".to_owned()];
    }
    let mut missing = Vec::new();
    missing.extend(kernel());
    missing.extend(control_groups());
    missing.extend(seccomp());
    missing.extend(namespaces());
    // Last, because it needs the mount namespace of the step before.
    missing.extend(overlay(workers));
    missing
}

/// libcontainer mounts with calls of this version.
fn kernel() -> Option<String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (version < (5, 12)).then(|| format!("Linux 5.12 or newer: this is {release}"))
}

fn control_groups() -> Vec<String> {
    let groups = match Cgroups::discover() {
        Ok(groups) => groups,
        Err(cause) => return vec![format!("control groups: /proc/self/mountinfo cannot be read: {cause}")],
    };
    let mut missing = Vec::new();
    for controller in ["cpu", "memory"] {
        if !groups.has(controller) {
            missing.push(format!(
                "control group controller \"{controller}\" below /sys/fs/cgroup ({}): mount it, or enable it at boot",
                groups.kind()
            ));
        }
    }
    let name = format!("knit-try-{}", std::process::id());
    for folder in groups.folders(&name) {
        if let Err(cause) = fs::create_dir(&folder) {
            missing.push(format!("a writable control group tree: {} cannot be made: {cause}", folder.display()));
        }
        let _ = fs::remove_dir(&folder);
    }
    missing
}

fn seccomp() -> Option<String> {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    (!actions.split_whitespace().any(|action| action == "errno"))
        .then(|| "seccomp filters: the kernel lacks CONFIG_SECCOMP_FILTER".to_owned())
}

fn namespaces() -> Vec<String> {
    [
        (CloneFlags::CLONE_NEWNS, "mount"),
        (CloneFlags::CLONE_NEWPID, "pid"),
        (CloneFlags::CLONE_NEWNET, "network"),
        (CloneFlags::CLONE_NEWUTS, "uts"),
        (CloneFlags::CLONE_NEWIPC, "ipc"),
        (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
    ]
    .into_iter()
    .filter_map(|(kind, name)| {
        unshare(kind).err().map(|errno| format!("{name} namespaces: a new one cannot be made: {}", errno.desc()))
    })
    .collect()
}

fn overlay(workers: &Path) -> Option<String> {
    let folder = workers.join(format!(".try-{}", std::process::id()));
    let tried = try_overlay(&folder);
    let _ = fs::remove_dir_all(&folder);
    tried.err().map(|cause| {
        format!(
            "overlayfs on {}: {cause}; load the kernel module \"overlay\", or keep the installation on another file system",
            workers.display()
        )
    })
}

fn try_overlay(folder: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for part in ["lower", "upper", "work", "rootfs"] {
        fs::create_dir_all(folder.join(part))?;
    }
    std::env::set_current_dir(folder)?;
    let options = "lowerdir=lower,upperdir=upper,workdir=work";
    mount(Some("overlay"), "rootfs", Some("overlay"), MsFlags::empty(), Some(options))?;
    nix::mount::umount("rootfs")?;
    std::env::set_current_dir("/")
}
