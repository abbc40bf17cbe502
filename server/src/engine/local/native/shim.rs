//! The shim: one process per worker that makes its container, records its log, waits for its end and
//! writes that down. It is `knitd` started as `knitd shim FOLDER`.
//!
//! It has exactly one thread, because libcontainer clones the process and goes on allocating in the
//! child: with a second thread that could hold the allocator's lock forever.

use super::cgroup::Cgroups;
use super::executor::Launch;
use super::order::{End, Order, Outcome, file, read_json, write_json};
use super::overlay::{MOUNTED, Root};
use super::record::{Log, until_end};
use super::user::{Identity, resolve};
use super::{lock, owner, requirements, seccomp, spec};
use knit_api::run::exit_code;
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Name of the container within its folder, which is its own namespace.
const CONTAINER: &str = "c";
/// Where libcontainer keeps what it knows, in the worker's folder.
const STATE: &str = "state";
/// What the shim says on its stdout when the container's program has started.
pub(in crate::engine::local) const STARTED: &[u8] = b"started\n";
/// What else a person should know of a worker that failed then.
const DISK_FULL: &str = "the server's disk was full when it ended";
/// How much rather than the server a worker is ended when the whole machine runs out of memory.
const OOM_SCORE: &str = "300";

/// Runs the shim named by this process's arguments: `knitd shim FOLDER`. Call it before any thread
/// exists. The exit code only says whether an outcome was written.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(2);
    match (arguments.next(), arguments.next()) {
        (Some(flag), Some(workers)) if flag == requirements::TRY => {
            let missing: String =
                requirements::try_all(Path::new(&workers)).into_iter().map(|line| line + "\n").collect();
            code(rustix::io::write(rustix::stdio::stdout(), missing.as_bytes()).is_ok())
        }
        (Some(folder), None) => code(run(Path::new(&folder)).unwrap_or(false)),
        _ => code(false),
    }
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the worker of this folder; false when another shim has it or had it.
fn run(folder: &Path) -> io::Result<bool> {
    // Away from the server's session, so that what ends that one does not end the worker.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir(folder)?;
    let stop = requests_to_stop()?;
    let Some(_held) = lock::take(Path::new(file::LOCK))? else { return Ok(false) };
    if Path::new(file::RESULT).exists() {
        return Ok(false);
    }
    // The container's first process is a grandchild; this makes it a child when its parent ends.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let outcome = match read_json::<Order>(Path::new(file::ORDER)) {
        Ok(Some(order)) => execute(&order, &stop).unwrap_or_else(Outcome::from),
        Ok(None) => Outcome::not_started("the order of this worker is not in its folder"),
        Err(cause) => Outcome::not_started(format!("the order of this worker cannot be read: {cause}")),
    };
    leave(Path::new(file::RESULT), outcome, &stop)?;
    Ok(true)
}

/// Writes down how the worker ended. On a full disk, which is often what its container has filled, that
/// waits for room; a request to end is a request not to wait.
fn leave(path: &Path, mut outcome: Outcome, stop: &SignalFd) -> io::Result<()> {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(5);
    let mut pause = FIRST;
    loop {
        match write_json(path, &outcome) {
            Err(cause) if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                if !outcome.notes.iter().any(|known| known == DISK_FULL) {
                    outcome.notes.push(DISK_FULL.to_owned());
                }
                if is_asked_within(stop, pause)? {
                    return Err(cause);
                }
                pause = (pause * 2).min(LONGEST);
            }
            written => return written,
        }
    }
}

/// Waits for a request to end, this long.
fn is_asked_within(stop: &SignalFd, longest: Duration) -> io::Result<bool> {
    let longest = Timespec::try_from(longest).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(stop, PollFlags::IN)], Some(&longest)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// SIGTERM becomes something to read instead of an end.
fn requests_to_stop() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// A failure before the program started, as the end of the worker.
fn failed(what: &str, cause: &dyn Error) -> End {
    let mut message = format!("{what}: {cause}");
    let mut deeper = cause.source();
    while let Some(cause) = deeper {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        deeper = cause.source();
    }
    End::NotStarted { code: exit_code::NOT_STARTED, message }
}

fn execute(order: &Order, stop: &SignalFd) -> Result<Outcome, End> {
    if order.command.is_empty() {
        return Err(End::NotStarted {
            code: exit_code::NOT_STARTED,
            message:
                "there is nothing to execute: neither the Plan (entrypoint, args) nor the image (ENTRYPOINT, CMD) \
                      names a program"
                    .to_owned(),
        });
    }
    let groups = Cgroups::discover().map_err(|cause| failed("control groups cannot be found", &cause))?;
    let (identity, working_dir) = prepare_root(order)?;
    give_outputs(order, &identity)?;
    let order = &with_readable_inputs(order, &identity)?;
    let spec = spec::build(order, &identity, &working_dir)
        .map_err(|cause| failed("the container cannot be specified", &cause))?;
    spec.save("config.json").map_err(|cause| failed("the container's specification cannot be written", &cause))?;
    let log = Log::open(order.log.as_deref(), order.log_limit)
        .map_err(|cause| failed("the log file cannot be opened", &cause))?;
    let started = start(order, &identity)?;
    Ok(observe(order, &groups, started, stop, log))
}

/// Mounts the root file system and puts in what every container expects; answers who will use it, and
/// from which folder.
fn prepare_root(order: &Order) -> Result<(Identity, String), End> {
    let private = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        // What the host unmounts later goes away here too; nothing goes the other way.
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
    };
    private().map_err(|cause| failed("a private mount namespace cannot be made", &cause))?;
    let root = Root::mount(&order.layers).map_err(|cause| failed("the image's layers cannot be mounted", &cause))?;
    let list = |path: &str| {
        root.read_list(path).map_err(|cause| failed(&format!("the image's {path} cannot be read"), &cause))
    };
    let identity = resolve(&order.user, &list("/etc/passwd")?, &list("/etc/group")?)
        .map_err(|message| End::NotStarted { code: exit_code::NOT_STARTED, message })?;
    let working_dir =
        if order.working_dir.starts_with('/') { order.working_dir.clone() } else { format!("/{}", order.working_dir) };
    let furnish = || -> io::Result<()> {
        root.put("/etc", "hostname", &format!("{}\n", order.hostname))?;
        root.put("/etc", "hosts", &hosts(order))?;
        root.put("/etc", "resolv.conf", &resolv_conf(order))?;
        root.make_folders("/tmp", 0o1777)?;
        root.make_folders(&working_dir, 0o755)?;
        Ok(())
    };
    furnish().map_err(|cause| failed("the container's root folder cannot be prepared", &cause))?;
    Ok((identity, working_dir))
}

fn hosts(order: &Order) -> String {
    let own = format!("127.0.0.1 localhost {0}\n::1 localhost ip6-localhost {0}\n", order.hostname);
    let host = if order.host_network { fs::read_to_string("/etc/hosts").unwrap_or_default() } else { String::new() };
    format!("{own}{host}")
}

fn resolv_conf(order: &Order) -> String {
    if order.host_network {
        fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
    } else {
        "# This container has no network besides its loopback device.\n".to_owned()
    }
}

/// Gives the outputs to the container's user.
fn give_outputs(order: &Order, identity: &Identity) -> Result<(), End> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let owner = (rustix::fs::Uid::from_raw(identity.uid), rustix::fs::Gid::from_raw(identity.gid));
    for bind in &order.outputs {
        rustix::fs::open(&bind.source, flags, Mode::empty())
            .and_then(|folder| rustix::fs::fchown(folder, Some(owner.0), Some(owner.1)))
            .map_err(|cause| failed(&format!("the output {} cannot be prepared", bind.path), &cause))?;
    }
    Ok(())
}

/// The order with its inputs replaced by mounts that show them as the user's own, where that is needed
/// and the file system can do it; else their owner and modes count as they are.
fn with_readable_inputs(order: &Order, identity: &Identity) -> Result<Order, End> {
    let here = std::env::current_dir().map_err(|cause| failed("the worker's folder is gone", &cause))?;
    let mut order = order.clone();
    for (number, bind) in order.inputs.iter_mut().enumerate() {
        let target = here.join("in").join(number.to_string());
        match owner::mount_as_own(&bind.source, &target, identity) {
            Ok(true) => bind.source = target,
            Ok(false) => {}
            Err(_) => open_to_all(&bind.source)
                .map_err(|cause| failed(&format!("the input {} cannot be prepared", bind.path), &cause))?,
        }
    }
    Ok(order)
}

/// Opens the way into a folder; its own mode is no part of its identity.
fn open_to_all(folder: &Path) -> rustix::io::Result<()> {
    let folder = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&folder)?.st_mode & 0o7777);
    rustix::fs::fchmod(&folder, mode | Mode::from_raw_mode(0o555))
}

/// A container whose program runs.
struct Started {
    container: Container,
    pid: i32,
    init: OwnedFd,
    output: OwnedFd,
}

fn start(order: &Order, identity: &Identity) -> Result<Started, End> {
    let prepare = |cause: &dyn Error| failed("the container cannot be prepared", cause);
    let (output, container_end) = pipe_with(PipeFlags::CLOEXEC).map_err(|cause| prepare(&cause))?;
    rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK).map_err(|cause| prepare(&cause))?;
    // A program may open /dev/stdout, and then the pipe's owner counts.
    let owner = (rustix::fs::Uid::from_raw(identity.uid), rustix::fs::Gid::from_raw(identity.gid));
    rustix::fs::fchown(&container_end, Some(owner.0), Some(owner.1)).map_err(|cause| prepare(&cause))?;
    let (report, report_end) = pipe_with(PipeFlags::CLOEXEC).map_err(|cause| prepare(&cause))?;
    let filters = seccomp::filters().map_err(|cause| prepare(&cause))?;
    let launch = Launch { filters: Arc::new(filters), report: report_end.as_raw_fd(), shim_end: report.as_raw_fd() };

    let mut container =
        build(container_end, launch).map_err(|cause| failed("the container cannot be made", &*cause))?;
    drop(report_end);
    let started = go(order, &mut container, report);
    match started {
        Ok((pid, init)) => Ok(Started { container, pid, init, output }),
        Err(end) => {
            let _ = container.delete(true);
            Err(end)
        }
    }
}

fn build(container_end: OwnedFd, launch: Launch) -> Result<Container, Box<dyn Error>> {
    let input: OwnedFd = File::open("/dev/null")?.into();
    let bundle = std::env::current_dir()?;
    fs::create_dir_all(STATE)?;
    let container = ContainerBuilder::new(CONTAINER.to_owned(), SyscallType::default())
        .with_root_path(STATE)?
        .with_executor(launch)
        .with_stdin(input)
        .with_stdout(container_end.try_clone()?)
        .with_stderr(container_end)
        .validate_id()?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()?;
    Ok(container)
}

/// Lets the prepared container go, and waits until its program has taken over.
fn go(order: &Order, container: &mut Container, report: OwnedFd) -> Result<(i32, OwnedFd), End> {
    let prepare = |cause: &dyn Error| failed("the container cannot be started", cause);
    let pid = container.state.pid.ok_or_else(|| prepare(&io::Error::other("it has no process")))?;
    let process = rustix::process::Pid::from_raw(pid).ok_or_else(|| prepare(&io::Error::other("it has no process")))?;
    // Its number cannot be given to another process: this one is its parent and has not waited for it.
    let init = pidfd_open(process, PidfdFlags::empty()).map_err(|cause| prepare(&cause))?;
    if !order.host_network {
        loopback_up(pid).map_err(|cause| failed("the container's loopback device cannot be brought up", &cause))?;
    }
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE);
    container.start().map_err(|cause| prepare(&cause))?;
    let mut said = Vec::new();
    File::from(report).read_to_end(&mut said).map_err(|cause| prepare(&cause))?;
    if let Ok(end) = serde_json::from_slice::<End>(&said) {
        return Err(end);
    }
    tell_the_server();
    Ok((pid, init))
}

/// Enters the container's network namespace, which this process has no other use for, and brings up
/// its loopback device: the kernel makes it down, and programs expect 127.0.0.1 to work.
fn loopback_up(pid: i32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET)?;
    #[expect(unsafe_code, reason = "there is no safe wrapper for the request that sets a device's flags")]
    // SAFETY: the request is zeroed, names the device, and outlives the calls; the socket is closed.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let done = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        let cause = io::Error::last_os_error();
        libc::close(socket);
        if done < 0 { Err(cause) } else { Ok(()) }
    }
}

/// The server may be gone; then nobody needs to be told.
fn tell_the_server() {
    let _ = rustix::io::write(rustix::stdio::stdout(), STARTED);
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null.as_fd());
    }
}

/// Stays with the container to its end, and cleans up after it.
fn observe(order: &Order, groups: &Cgroups, started: Started, stop: &SignalFd, mut log: Log) -> Outcome {
    let Started { mut container, pid, init, output } = started;
    let recorded = until_end(&init, pid, output, stop, &mut log);
    let status = waitpid(Pid::from_raw(pid), None);
    // Before anything makes room again.
    let is_disk_full = is_disk_full();
    let killed = groups.killed_for_memory(&order.cgroup);
    // If this fails, the server removes what is left.
    let _ = container.delete(true);
    // The root file system goes with this process's mount namespace.
    let _ = nix::mount::umount2(MOUNTED, nix::mount::MntFlags::MNT_DETACH);
    let mut notes: Vec<String> = log.note().into_iter().collect();
    notes.extend(recorded.err().map(|cause| format!("the log is incomplete: {cause}")));
    let end = match status {
        Ok(WaitStatus::Exited(_, code)) if killed > 0 => {
            End::OutOfMemory { limit: order.memory_bytes, code: Some(code as u8) }
        }
        Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)) if killed > 0 => {
            End::OutOfMemory { limit: order.memory_bytes, code: None }
        }
        Ok(WaitStatus::Exited(_, code)) => End::Exited { code: code as u8 },
        Ok(WaitStatus::Signaled(_, signal, _)) => End::Signalled { signal: signal as i32 },
        Ok(_) | Err(_) => End::Lost,
    };
    if is_disk_full && !matches!(end, End::Exited { code: 0 }) {
        notes.push(DISK_FULL.to_owned());
    }
    Outcome { end, notes }
}

/// Whether next to nothing is left of the disk that holds the worker's folder, for anyone but root.
fn is_disk_full() -> bool {
    const LEAST: u64 = 1 << 20;
    rustix::fs::statvfs(".").is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < LEAST)
}
