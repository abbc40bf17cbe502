//! The server as a process: where its program is, how it is started and known again, how it is
//! asked to stop.
//!
//! A process id alone says nothing, since ids are used again. The server is the process that holds
//! the lock of its folder, and it is addressed through a pidfd that was opened before that was seen.

use crate::folder::Folder;
use crate::problem::{Kind, Problem};
use crate::record::Choices;
use knit_api::problem::in_words;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::Deserialize;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the server may take until it is ready; migrations of a large database are within it.
const READY_LIMIT: Duration = Duration::from_mins(5);
/// How much of the log is shown when the server did not start.
const SHOWN_LINES: usize = 15;
/// A line longer than this is not the server's, in bytes.
const READY_LINE_LIMIT: usize = 64 << 10;

/// Finds the server's program: the one that was named, or the one beside this program, or the one on PATH.
pub fn find(named: Option<&Path>) -> Result<PathBuf, Problem> {
    if let Some(named) = named {
        if is_program(named) {
            return std::path::absolute(named).map_err(|e| Problem::file("find", named, &e));
        }
        return Err(Problem::new(Kind::NotFound, format!("{} is not a program", named.display()))
            .advise("name the server's program with --knitd PATH"));
    }
    let beside = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join("knitd")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join("knitd"));
    beside.into_iter().chain(on_path).find(|program| is_program(program)).ok_or_else(|| {
        Problem::new(Kind::NotFound, "the server's program knitd is neither beside knitctl nor on PATH")
            .advise("install it there, or name it with --knitd PATH")
    })
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

/// True when a server could listen on this port of the loopback address now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// What the server says on its standard output when it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ready {
    /// `host:port` of the API.
    pub api: String,
    /// `host:port` of the registry.
    pub registry: String,
    /// Its process id.
    pub pid: i32,
}

/// Starts the server in the background, in a session of its own, and waits until it is ready. It
/// then lives on without us; its log goes to the folder.
pub fn start(knitd: &Path, folder: &Folder, choices: &Choices) -> Result<Ready, Problem> {
    let (log, before) = open_log(&folder.log()).map_err(|e| Problem::file("open", &folder.log(), &e))?;
    let mut command = Command::new(knitd);
    command.args(["serve", "--dir"]).arg(folder.root());
    command.arg("--listen").arg(format!("127.0.0.1:{}", choices.port));
    command.arg("--registry-listen").arg(format!("127.0.0.1:{}", choices.registry_port));
    if choices.auth {
        // By file: everybody on the machine can read command lines.
        command.arg("--token-file").arg(folder.token());
    } else {
        command.arg("--no-auth");
    }
    command.args(["--worker-network", choices.worker_network.as_str()]);
    command.arg("--grace").arg(in_units(choices.grace_milliseconds));
    // Its stderr leads there from the start, for what is said before the log is open.
    command.args(["--log-format", "text", "--log-file"]).arg(folder.log());
    command.current_dir(folder.root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    in_its_own_session(&mut command);
    let mut child = command.spawn().map_err(|e| Problem::file("start", knitd, &e))?;
    let said = wait_until_ready(&mut child);
    said.map_err(|silence| not_started(silence, &mut child, folder, before))
}

/// A span in the largest unit that says it exactly.
fn in_units(milliseconds: u64) -> String {
    if milliseconds.is_multiple_of(1000) { format!("{}s", milliseconds / 1000) } else { format!("{milliseconds}ms") }
}

/// A terminal that closes, or Ctrl-C in it, must not reach the server.
#[expect(
    unsafe_code,
    reason = "std has no stable way to start a process in a new session; setsid is async-signal-safe"
)]
fn in_its_own_session(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and only makes the system call setsid.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
}

/// Opens the log for appending, and says where the new part begins. The server itself puts it aside when it
/// becomes large.
fn open_log(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Why no word of readiness came.
#[derive(Debug)]
enum Silence {
    /// The server closed its output.
    Ended,
    /// It is still at work.
    TooLong,
    /// Its output cannot be read.
    Broken(io::Error),
}

fn wait_until_ready(child: &mut Child) -> Result<Ready, Silence> {
    let mut out = child.stdout.take().ok_or(Silence::Ended)?;
    let deadline = Instant::now() + READY_LIMIT;
    let mut line = Vec::new();
    loop {
        if !wait_readable(out.as_fd(), deadline).map_err(Silence::Broken)? {
            return Err(Silence::TooLong);
        }
        let mut chunk = [0_u8; 4096];
        match out.read(&mut chunk) {
            Ok(0) => return Err(Silence::Ended),
            Ok(n) => line.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Silence::Broken(e)),
        }
        while let Some(end) = line.iter().position(|b| *b == b'\n') {
            if let Ok(ready) = serde_json::from_slice(&line[..end]) {
                return Ok(ready);
            }
            line.drain(..=end);
        }
        if line.len() > READY_LINE_LIMIT {
            return Err(Silence::Broken(io::Error::other("it prints something else than knitd does")));
        }
    }
}

/// What is said when the server did not come up; it does not live on half started.
fn not_started(silence: Silence, child: &mut Child, folder: &Folder, log_from: u64) -> Problem {
    let why = match silence {
        Silence::Ended => match child.wait() {
            Ok(status) => format!("the server ended before it was ready ({status})"),
            Err(e) => format!("the server ended before it was ready ({})", in_words(&e.to_string())),
        },
        Silence::TooLong => format!("the server was not ready within {} s", READY_LIMIT.as_secs()),
        Silence::Broken(e) => format!("the server's output cannot be read: {}", in_words(&e.to_string())),
    };
    // It may have ended by itself in the meantime: then there is nothing to end.
    let _ = child.kill();
    let _ = child.wait();
    let log = folder.log();
    let said = last_lines(&log, log_from).unwrap_or_default();
    let what = if said.is_empty() { why } else { format!("{why}; it said:\n{}", said.join("\n")) };
    Problem::new(Kind::Failed, what).advise(format!("read the whole log: {}", log.display()))
}

/// The last lines of a log from an offset on; from its beginning when it was put aside meanwhile.
pub fn last_lines(path: &Path, from: u64) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let from = if file.metadata()?.len() < from { 0 } else { from };
    file.seek(SeekFrom::Start(from))?;
    let mut last = VecDeque::new();
    for line in BufReader::new(file).split(b'\n') {
        if last.len() == SHOWN_LINES {
            last.pop_front();
        }
        last.push_back(format!("  {}", String::from_utf8_lossy(&line?)));
    }
    Ok(last.into())
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Asks it to stop, and waits for its end. False when it still lives after `limit`.
    pub fn stop(&self, limit: Duration) -> Result<bool, Problem> {
        match rustix::process::pidfd_send_signal(&self.pidfd, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => {
                let kind = if e == rustix::io::Errno::PERM { Kind::NotAllowed } else { Kind::Failed };
                return Err(Problem::new(kind, format!("cannot stop the server (process {}): {e}", self.pid())));
            }
        }
        wait_readable(self.pidfd.as_fd(), Instant::now() + limit).map_err(|e| {
            Problem::new(Kind::Failed, format!("cannot wait for the server: {}", in_words(&e.to_string())))
        })
    }
}

/// Whether a server holds the folder; `None` where we may not look.
pub fn is_held(folder: &Folder) -> Result<Option<bool>, Problem> {
    let path = folder.server_lock();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(false)),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(e) => return Err(Problem::file("open", &path, &e)),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(false)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(true)),
        Err(e) => Err(Problem::file("look at", &path, &e.into())),
    }
}

/// The server of this folder, if it runs. `recorded` is the process that it should be.
pub fn running(folder: &Folder, recorded: Option<i32>) -> Result<Option<Running>, Problem> {
    if is_held(folder)? != Some(true) {
        return Ok(None);
    }
    let lock = folder.server_lock();
    let meta = std::fs::metadata(&lock).map_err(|e| Problem::file("look at", &lock, &e))?;
    let candidates = recorded.into_iter().chain(holders(meta.ino()));
    for pid in candidates.filter_map(Pid::from_raw) {
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if has_open(pid, &meta) {
            return Ok(Some(Running { pid, pidfd }));
        }
    }
    // It may have ended between the first look and this one.
    match is_held(folder)? {
        Some(true) => Err(Problem::new(
            Kind::Conflict,
            format!("{} is locked by a process that cannot be seen from here", lock.display()),
        )
        .advise("stop the server in the other container or machine that uses this folder")),
        _ => Ok(None),
    }
}

/// The processes that hold a whole-file lock on an inode of that number, on whatever file system.
fn holders(inode: u64) -> Vec<i32> {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().filter_map(|line| holder(line, inode)).collect()
}

/// One line of /proc/locks: `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`.
fn holder(line: &str, inode: u64) -> Option<i32> {
    let mut words = line.split_whitespace().skip(1);
    (words.next()? == "FLOCK").then_some(())?;
    let pid = words.nth(2)?.parse().ok()?;
    let (_, number) = words.next()?.rsplit_once(':')?;
    (number.parse() == Ok(inode)).then_some(pid)
}

/// True when the process has this very file open.
fn has_open(pid: Pid, file: &std::fs::Metadata) -> bool {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())) else { return false };
    fds.filter_map(Result::ok)
        .any(|fd| std::fs::metadata(fd.path()).is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino())))
}

/// Waits until there is something to read, or the end of it. False when nothing came in time.
fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Held by tests that start processes or take locks: between fork and exec a child holds every lock of its parent.
#[cfg(test)]
pub(crate) static FORKING: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Caller;
    use std::os::unix::fs::PermissionsExt;

    /// A folder and a program in the place of `knitd` that runs a shell script.
    fn with_program(script: &str) -> (tempfile::TempDir, Folder, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::at(&place.path().join("dir")).unwrap();
        folder.claim(&Caller::find()).unwrap();
        let program = place.path().join("knitd");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        (place, folder, program)
    }

    #[test]
    fn a_server_that_says_it_is_ready_lives_on_and_is_known_by_its_lock() {
        let _alone = FORKING.lock();
        let script = r#"
            exec 9>lock; flock -n 9 || exit 1
            echo "$@" >&2
            echo '{"api":"127.0.0.1:1","registry":"127.0.0.1:2","pid":'$$'}'
            exec sleep 600"#;
        let (_place, folder, program) = with_program(script);
        assert!(running(&folder, None).unwrap().is_none());
        let ready = start(&program, &folder, &Choices::default()).unwrap();
        assert_eq!((ready.api.as_str(), ready.registry.as_str()), ("127.0.0.1:1", "127.0.0.1:2"));
        let said = last_lines(&folder.log(), 0).unwrap().join("");
        let token = folder.token().display().to_string();
        assert!(said.contains("--listen 127.0.0.1:30803 --registry-listen 127.0.0.1:30503"), "{said}");
        assert!(said.contains(&format!("--token-file {token} --worker-network none --grace 10s")), "{said}");
        let server = running(&folder, Some(ready.pid)).unwrap().unwrap();
        assert_eq!(server.pid(), ready.pid);
        assert!(server.stop(Duration::from_mins(1)).unwrap());
        assert!(running(&folder, Some(ready.pid)).unwrap().is_none());
    }

    #[test]
    fn the_holder_of_the_lock_is_found_whatever_was_recorded() {
        let _alone = FORKING.lock();
        let (_place, folder, _program) = with_program("");
        let lock = File::create(folder.server_lock()).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        for recorded in [Some(me), Some(1), None] {
            assert_eq!(running(&folder, recorded).unwrap().unwrap().pid(), me);
        }
        drop(lock);
        assert!(running(&folder, Some(me)).unwrap().is_none(), "a process without the lock is not the server");
    }

    #[test]
    fn a_server_that_does_not_come_up_is_quoted() {
        let _alone = FORKING.lock();
        let (_place, folder, program) = with_program("echo 'the database is damaged' >&2; exit 3");
        let problem = start(&program, &folder, &Choices::default()).unwrap_err();
        assert!(problem.what.contains("exit status: 3"), "{problem}");
        assert!(problem.what.contains("the database is damaged"), "{problem}");
        assert!(problem.advice.contains("knitd.log"));
    }

    #[test]
    fn only_this_starts_part_of_the_log_is_quoted() {
        let _alone = FORKING.lock();
        let (_place, folder, program) = with_program("exit 3");
        std::fs::write(folder.log(), "an old complaint\n").unwrap();
        let problem = start(&program, &folder, &Choices::default()).unwrap_err();
        assert!(!problem.what.contains("old complaint"), "{problem}");
    }

    #[test]
    fn a_program_is_looked_for_where_it_was_named() {
        let (_place, _folder, program) = with_program("");
        assert_eq!(find(Some(&program)).unwrap(), program);
        for wrong in ["/no/such/knitd", "/etc/passwd", "/"] {
            assert_eq!(find(Some(Path::new(wrong))).unwrap_err().kind, Kind::NotFound);
        }
    }

    #[test]
    fn holders_are_read_from_the_systems_list_of_locks() {
        let line = "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF";
        assert_eq!(holder(line, 5678), Some(1234));
        assert_eq!(holder(line, 567), None);
        for other in
            ["", "1:", "1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF", "2: -> FLOCK ADVISORY WRITE 1 a:b:5678 0 EOF"]
        {
            assert_eq!(holder(other, 5678), None, "{other}");
        }
    }
}
