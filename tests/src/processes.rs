//! Processes as a story sees them from outside: found by what they use, ended for good, waited for
//! without asking again and again.

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// The process of that number, if there is one.
    pub fn open(pid: i32) -> Option<Self> {
        let fd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, fd })
    }

    /// Ends it at once. One that has ended already is fine.
    pub fn kill(&self) {
        match rustix::process::pidfd_send_signal(&self.fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => panic!("cannot kill process {}: {e}", self.pid),
        }
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn interrupt(&self) {
        rustix::process::pidfd_send_signal(&self.fd, Signal::INT).expect("a process of our own takes signals");
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        rustix::process::pidfd_send_signal(&self.fd, Signal::TERM).expect("a process of our own takes signals");
    }

    /// Waits for its end; false when it still lives after `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return true,
                Err(e) => panic!("cannot wait for process {}: {e}", self.pid),
            }
        }
    }
}

/// All processes for which `wanted` says yes, this one left out.
pub fn all(wanted: impl Fn(i32) -> bool) -> Vec<Process> {
    let me = std::process::id() as i32;
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let opened = numbers.filter(|pid| *pid != me).filter_map(Process::open);
    opened.filter(|process| wanted(process.pid)).collect()
}

/// The words of a process's command line; empty for one that has ended.
pub fn arguments(pid: i32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|b| *b == 0).filter(|word| !word.is_empty()).map(|w| String::from_utf8_lossy(w).into_owned()).collect()
}

/// Where a process stands: what other programs of this user can read of its start.
pub fn environment(pid: i32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// Shims whose installation is `dir`.
pub fn shims(dir: &Path) -> Vec<Process> {
    let dir = dir.display().to_string();
    all(|pid| is_shim(pid) && (names(&arguments(pid), &dir) || uses(pid, &dir)))
}

fn is_shim(pid: i32) -> bool {
    arguments(pid).get(1).is_some_and(|role| role == "shim")
}

/// Processes inside containers whose installation is `dir`: they see its folders in a mount namespace that is not ours.
pub fn contained(dir: &Path) -> Vec<Process> {
    let dir = dir.display().to_string();
    let ours = std::fs::read_link("/proc/self/ns/mnt").ok();
    let elsewhere = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() != ours;
    all(|pid| elsewhere(pid) && !is_shim(pid) && mounts_name(pid, &dir))
}

fn names(words: &[String], dir: &str) -> bool {
    words.iter().any(|word| word.contains(dir))
}

/// True when the process has a file of the folder open, or works in it.
fn uses(pid: i32, dir: &str) -> bool {
    let in_dir = |link: &Path| std::fs::read_link(link).is_ok_and(|target| target.starts_with(dir));
    if in_dir(Path::new(&format!("/proc/{pid}/cwd"))) {
        return true;
    }
    let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    fds.filter_map(Result::ok).any(|fd| in_dir(&fd.path()))
}

fn mounts_name(pid: i32, dir: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|text| text.contains(dir))
}

/// Unmounts everything at or below `dir` in this mount namespace.
pub fn unmount_below(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below =
        mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).filter(|at| Path::new(at).starts_with(dir));
    for at in below {
        // It may be gone with the one above it.
        let _ = std::process::Command::new("umount").args(["--lazy", at]).output();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_the_folder_it_uses_and_its_end_is_seen() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut child = std::process::Command::new("sleep").arg("600").current_dir(dir.path()).spawn().expect("sleep");
        let text = dir.path().display().to_string();
        let found = all(|pid| uses(pid, &text));
        assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), [child.id() as i32]);
        assert!(!found[0].wait(Duration::ZERO));
        found[0].kill();
        assert!(found[0].wait(Duration::from_mins(1)));
        child.wait().expect("it is our child");
    }
}
