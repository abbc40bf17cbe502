//! Control groups: which kind this machine has, what they can limit, and how a container's group is
//! emptied and removed when its shim can no longer do it. libcontainer makes and fills the groups.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where libcontainer looks.
const ROOT: &str = "/sys/fs/cgroup";
/// How long the kernel may take to end processes that were sent SIGKILL; they can only be this slow
/// when a device or file system does not answer.
const DEATH: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The control groups of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// One tree with all controllers.
    Unified {
        /// Controllers that can be used below the root.
        controllers: Vec<String>,
    },
    /// One tree per controller.
    Separate {
        /// Mount point by controller.
        controllers: BTreeMap<String, PathBuf>,
    },
}

impl Cgroups {
    /// Looks at this machine.
    pub fn discover() -> io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let unified = std::fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
        Ok(Self::from_mounts(&mounts, &unified))
    }

    /// From the text of `mountinfo` and, for the unified kind, the root's `cgroup.controllers`.
    fn from_mounts(mounts: &str, unified: &str) -> Self {
        let mut separate = BTreeMap::new();
        for (point, kind, options) in mounts.lines().filter_map(mount) {
            if kind == "cgroup2" && point == ROOT {
                return Self::Unified { controllers: unified.split_whitespace().map(ToOwned::to_owned).collect() };
            }
            if kind == "cgroup" && Path::new(point).parent() == Some(Path::new(ROOT)) {
                for option in options.split(',') {
                    separate.insert(option.to_owned(), PathBuf::from(point));
                }
            }
        }
        Self::Separate { controllers: separate }
    }

    /// True when `controller` can limit workers.
    pub fn has(&self, controller: &str) -> bool {
        match self {
            Self::Unified { controllers } => controllers.iter().any(|name| name == controller),
            Self::Separate { controllers } => controllers.contains_key(controller),
        }
    }

    /// For the operator.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unified { .. } => "cgroup v2",
            Self::Separate { .. } => "cgroup v1",
        }
    }

    /// The folders in which a group of this name can exist.
    pub fn folders(&self, group: &str) -> Vec<PathBuf> {
        let group = group.trim_start_matches('/');
        let mut points: Vec<&Path> = match self {
            Self::Unified { .. } => vec![Path::new(ROOT)],
            Self::Separate { controllers } => controllers.values().map(PathBuf::as_path).collect(),
        };
        points.sort_unstable();
        points.dedup();
        points.into_iter().map(|point| point.join(group)).collect()
    }

    /// How many processes of the group the kernel has ended for want of memory.
    pub fn killed_for_memory(&self, group: &str) -> u64 {
        let file = match self {
            Self::Unified { .. } => "memory.events",
            Self::Separate { .. } => "memory.oom_control",
        };
        self.folders(group)
            .into_iter()
            .filter_map(|folder| std::fs::read_to_string(folder.join(file)).ok())
            .filter_map(|text| counter(&text, "oom_kill"))
            .sum()
    }

    /// Ends every process of the group and waits until they are gone. Nothing to do is fine.
    pub fn kill(&self, group: &str) -> io::Result<()> {
        loop {
            let alive: Vec<OwnedFd> = self
                .folders(group)
                .iter()
                .flat_map(|folder| members(folder).into_iter().filter_map(move |pid| alive_member(folder, pid)))
                .collect();
            if alive.is_empty() {
                return Ok(());
            }
            for process in &alive {
                // It may have ended meanwhile.
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
            for process in &alive {
                if !wait_for_end(process, &DEATH)? {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("processes of the control group {group} do not end although they were killed"),
                    ));
                }
            }
        }
    }

    /// Removes the empty group. One that is not there is fine.
    pub fn remove(&self, group: &str) -> io::Result<()> {
        self.folders(group).iter().try_for_each(|folder| remove_folder(folder))
    }
}

/// Mount point, file system type and super-block options of a line of `mountinfo`.
fn mount(line: &str) -> Option<(&str, &str, &str)> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    Some((front.split(' ').nth(4)?, back.next()?, back.nth(1)?))
}

fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn members(folder: &Path) -> Vec<Pid> {
    let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect()
}

/// A handle on the process, if it runs and still is a member now that the handle keeps its pid from
/// being given to another one.
fn alive_member(folder: &Path, pid: Pid) -> Option<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let ended = wait_for_end(&process, &Timespec { tv_sec: 0, tv_nsec: 0 }).ok()?;
    (!ended && members(folder).contains(&pid)).then_some(process)
}

fn wait_for_end(process: &OwnedFd, limit: &Timespec) -> io::Result<bool> {
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(limit)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The kernel says EBUSY for a moment after the last process has ended; there is no signal for it.
fn remove_folder(folder: &Path) -> io::Result<()> {
    let mut left = 100;
    loop {
        match std::fs::remove_dir(folder) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::ResourceBusy && left > 0 => {
                left -= 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_tree_is_recognised_with_its_controllers() {
        let mounts = "23 1 0:21 / /proc rw - proc proc rw\n\
                      30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Cgroups::from_mounts(mounts, "cpuset cpu io memory pids\n");
        assert!(found.has("cpu") && found.has("memory") && !found.has("devices"));
        assert_eq!(found.folders("/knit/a/b"), [PathBuf::from("/sys/fs/cgroup/knit/a/b")]);
    }

    #[test]
    fn separate_trees_are_recognised_also_beside_an_unused_unified_one() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                      51 31 0:48 / /mnt/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n";
        let found = Cgroups::from_mounts(mounts, "");
        assert!(found.has("cpu") && found.has("cpuacct") && found.has("memory") && !found.has("pids"));
        let folders = found.folders("knit/x");
        assert_eq!(folders.len(), 2, "{folders:?}");
    }

    #[test]
    fn the_counter_of_kills_is_read_from_both_kinds_of_file() {
        assert_eq!(counter("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n", "oom_kill"), Some(2));
        assert_eq!(counter("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "oom_kill"), Some(1));
        assert_eq!(counter("oom_kill_disable 0\n", "oom_kill"), None);
    }
}
