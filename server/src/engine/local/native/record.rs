//! While the container runs: its output goes to the log file, within the limit, and a request to end
//! goes to the container.

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The log of one worker.
#[derive(Debug)]
pub(in crate::engine) struct Log {
    file: Option<File>,
    limit: u64,
    kept: u64,
    length: u64,
    problem: Option<String>,
}

impl Log {
    /// Opens the file for adding, or discards what is written when there is none.
    pub(in crate::engine) fn open(path: Option<&Path>, limit: u64) -> io::Result<Self> {
        let file = path
            .map(|path| {
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o644)
                    .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                    .open(path)
            })
            .transpose()?;
        let length = file.as_ref().map(File::metadata).transpose()?.map_or(0, |found| found.len());
        Ok(Self { file, limit, kept: 0, length, problem: None })
    }

    /// Bytes in the file.
    pub(in crate::engine) fn length(&self) -> u64 {
        self.length
    }

    /// Keeps what fits. A container is never stopped for its log: what cannot be kept is dropped, and
    /// that is said.
    pub(in crate::engine) fn add(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let room = usize::try_from(self.limit - self.kept).unwrap_or(usize::MAX);
        let (fits, over) = bytes.split_at(room.min(bytes.len()));
        let mut written = file.write_all(fits);
        self.kept += fits.len() as u64;
        self.length += fits.len() as u64;
        let cut = written.is_ok() && !over.is_empty();
        if cut {
            let said =
                format!("\n[knit] the log reached its limit of {} bytes; the rest is not recorded\n", self.limit);
            written = file.write_all(said.as_bytes());
            self.length += said.len() as u64;
            self.problem = Some(format!("the log was cut at its limit of {} bytes", self.limit));
        }
        let failed = written.is_err();
        if let Err(cause) = written {
            self.length = file.metadata().map_or(self.length, |found| found.len());
            self.problem = Some(format!("the log is incomplete: {cause}"));
        }
        if cut || failed {
            self.file = None;
        }
    }

    /// What a person should know of the log, once it is complete.
    pub(in crate::engine) fn note(self) -> Option<String> {
        self.problem
    }
}

/// Records until the container's first process has ended and everything it wrote is kept.
/// `init` is that process, `pid` its number while it is not reaped; `output` is read without blocking.
pub(super) fn until_end(init: &OwnedFd, pid: i32, output: OwnedFd, stop: &SignalFd, log: &mut Log) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut output = Some(output);
    loop {
        let stop_end = stop.as_fd();
        let mut watched = vec![PollFd::new(init, PollFlags::IN), PollFd::new(&stop_end, PollFlags::IN)];
        watched.extend(output.as_ref().map(|output| PollFd::new(output, PollFlags::IN)));
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let happened: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(watched);
        if happened[1] {
            stop.read_signal()?;
            ask_to_end(init, pid);
        }
        // Once it has ended, so has everything in its pid namespace: no more can come.
        let ended = happened[0];
        if (ended || happened.get(2) == Some(&true)) && !drain(&mut output, &mut buffer, log, ended)? {
            output = None;
        }
        if ended {
            return Ok(());
        }
    }
}

/// Reads one piece, or all there is; false when nothing can come any more.
fn drain(output: &mut Option<OwnedFd>, buffer: &mut [u8], log: &mut Log, all: bool) -> io::Result<bool> {
    let Some(output) = output else { return Ok(false) };
    loop {
        match rustix::io::read(&*output, &mut *buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => log.add(&buffer[..length]),
            Err(Errno::AGAIN) => return Ok(!all),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if !all {
            return Ok(true);
        }
    }
}

/// Asks the container to end. The first process of a pid namespace never sees a signal that it does not
/// handle, so waiting for it would be in vain: then it is ended at once.
fn ask_to_end(init: &OwnedFd, pid: i32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let signal = if handles_term(&status) { Signal::TERM } else { Signal::KILL };
    // It may have ended meanwhile.
    let _ = pidfd_send_signal(init, signal);
}

fn handles_term(status: &str) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (libc::SIGTERM - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_with_a_handler_is_asked_politely() {
        assert!(handles_term("Name:\tsh\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000004000\n"));
        assert!(!handles_term("Name:\tsleep\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000000000\n"));
        assert!(!handles_term(""));
    }

    #[test]
    fn a_log_is_cut_at_its_limit_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::open(Some(&path), 10).unwrap();
        log.add(b"0123456");
        log.add(b"789abc");
        log.add(b"never");
        assert!(log.note().unwrap().contains("10 bytes"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("0123456789\n[knit] ") && !text.contains("abc") && !text.contains("never"), "{text}");
    }

    #[test]
    fn a_log_that_just_fits_is_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::open(Some(&path), 4).unwrap();
        log.add(b"0123");
        assert_eq!(log.note(), None);
        assert_eq!(fs::read(&path).unwrap(), b"0123");
    }

    #[test]
    fn a_log_is_never_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("log")).unwrap();
        assert!(Log::open(Some(&folder.path().join("log")), 4).is_err());
    }
}
