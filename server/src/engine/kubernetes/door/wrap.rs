//! `knitd wrap`: the first process of main's container. It starts the Plan's program, passes what that writes on to
//! its own stdout and to the recorder, passes signals on to it, and tells the recorder how it ended.
//!
//! The log that a cluster offers loses bytes when much is written at once. Here every byte is taken only when both
//! readers of the last one have it, so that a program that writes faster than its log can be kept waits for it.
//!
//! It has one thread and next to no memory of its own, which counts as main's.

use super::frames::{HEADER, How, LONGEST, MainEnd, output_header};
use crate::clock::Stopwatch;
use knit_api::run::exit_code;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Where the recorder listens.
pub const SOCKET: &str = "/.knit/main.sock";
/// In place of a program, with the reason behind it: what the image executes could not be found out.
pub const UNKNOWN: &str = "[unknown]";
/// Exit code when the command line cannot be understood.
const USAGE: u8 = 2;
/// How long the recorder, which is started first, may take to listen.
const RECORDER_COMES: Duration = Duration::from_mins(2);
/// Pause between looks for it. Main's user may not be allowed to watch the folder.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long processes may take to go that were killed: longer only when a device does not answer.
const DEATH: Duration = Duration::from_secs(10);
/// Pause between looks at processes that are not this one's children.
const STILL_DYING: Duration = Duration::from_millis(2);
/// Signals that are not passed on: they are about this process, or about its terminal.
const OWN: [Signal; 9] = [
    Signal::SIGCHLD,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGPIPE,
];

/// Runs `knitd wrap [--socket PATH] -- PROGRAM [ARGUMENT]...`. Call it before any thread exists.
pub fn main() -> ExitCode {
    let Some((socket, command)) = read_arguments(std::env::args_os().skip(2)) else {
        say("usage: knitd wrap [--socket PATH] -- PROGRAM [ARGUMENT]...");
        return ExitCode::from(USAGE);
    };
    // It ends all other processes that it can see when the program has ended.
    if std::process::id() != 1 {
        say("knitd wrap is the first process of a container, and nothing to be called by hand");
        return ExitCode::from(USAGE);
    }
    ExitCode::from(run(&socket, &command))
}

fn read_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<(PathBuf, Vec<OsString>)> {
    let mut socket = PathBuf::from(SOCKET);
    let mut first = arguments.next()?;
    if first == "--socket" {
        socket = arguments.next()?.into();
        first = arguments.next()?;
    }
    (first == "--").then(|| (socket, arguments.collect()))
}

/// Runs the program to its end, and answers with what to exit.
fn run(socket: &Path, command: &[OsString]) -> u8 {
    // What runs in main has the same user: it must not get at the socket through this process.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let signals = match take_signals() {
        Ok(signals) => signals,
        Err(cause) => return not_started(&format!("signals cannot be taken: {cause}")),
    };
    let recorder = match connect(socket, &signals) {
        Ok(Connected::To(recorder)) => recorder,
        Ok(Connected::Stopped(signal)) => return How::Signalled { signal }.code(),
        Err(cause) => return not_started(&format!("the recorder of its log cannot be reached: {cause}")),
    };
    let killed_before = killed_for_memory();
    let mut tee = Tee::new(recorder);
    let mut end = match start(command) {
        Ok(started) => supervise(started, &signals, &mut tee),
        Err(end) => end,
    };
    if let How::NotStarted { message, .. } = &end.how {
        tee.say(message);
    }
    end.out_of_memory = killed_for_memory() > killed_before;
    end.memory_limit = memory_limit();
    tee.finish(&end);
    end.how.code()
}

/// Nobody but a reader of main's own log can be told.
fn not_started(why: &str) -> u8 {
    say(&format!("[knit] the program was not started: {why}"));
    exit_code::NOT_STARTED
}

fn say(line: &str) {
    let _ = rustix::io::write(rustix::stdio::stdout(), format!("{line}\n").as_bytes());
}

/// All signals become something to read: the first process of a container never sees those that it leaves alone.
fn take_signals() -> nix::Result<SignalFd> {
    let mut mask = SigSet::all();
    for own in OWN.into_iter().filter(|own| *own != Signal::SIGCHLD) {
        mask.remove(own);
    }
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The next signal that has come.
fn next_signal(signals: &SignalFd) -> Option<i32> {
    signals.read_signal().ok().flatten().map(|told| told.ssi_signo as i32)
}

enum Connected {
    To(UnixStream),
    /// It was asked to end before.
    Stopped(i32),
}

/// Connects to the recorder, which may be only just starting.
fn connect(socket: &Path, signals: &SignalFd) -> io::Result<Connected> {
    let waiting = Stopwatch::start();
    loop {
        match UnixStream::connect(socket) {
            Ok(recorder) => {
                recorder.set_nonblocking(true)?;
                return Ok(Connected::To(recorder));
            }
            Err(cause) if waiting.elapsed() > RECORDER_COMES => return Err(cause),
            Err(_) => {}
        }
        if wait(&mut [PollFd::new(signals, PollFlags::IN)], Some(LOOK_AGAIN))?
            && let Some(signal @ (libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP)) = next_signal(signals)
        {
            return Ok(Connected::Stopped(signal));
        }
    }
}

/// Waits until something happens; false when nothing did in time.
fn wait(watched: &mut [PollFd<'_>], longest: Option<Duration>) -> io::Result<bool> {
    let longest = longest.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    match poll(watched, longest.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// A program that runs.
struct Started {
    pid: Pid,
    /// What it and all its descendants write; none once nobody can write there any more.
    output: Option<OwnedFd>,
}

fn start(command: &[OsString]) -> Result<Started, MainEnd> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(MainEnd::not_started(
            "there is nothing to execute: neither the Plan (entrypoint, args) nor the image (ENTRYPOINT, CMD) names a \
             program",
        ));
    };
    if program == UNKNOWN {
        let reason = arguments.first().map(|reason| reason.to_string_lossy().into_owned());
        return Err(MainEnd::not_started(reason.unwrap_or_default()));
    }
    let prepare = |cause: &dyn std::error::Error| {
        MainEnd::not_started(format!("the program's output cannot be prepared: {cause}"))
    };
    let (output, end) = pipe_with(PipeFlags::CLOEXEC).map_err(|cause| prepare(&cause))?;
    rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK).map_err(|cause| prepare(&cause))?;
    let second_end = end.try_clone().map_err(|cause| prepare(&cause))?;
    let mut command = Command::new(program);
    command.args(arguments).stdout(end).stderr(second_end);
    // The standard library restores SIGPIPE, but a program would inherit that all signals are held back here.
    #[expect(unsafe_code, reason = "there is no safe way to do something between fork and exec")]
    // SAFETY: it only makes one system call that may be made there, and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?));
    }
    match command.spawn() {
        Ok(child) => Ok(Started { pid: Pid::from_child(&child), output: Some(output) }),
        Err(cause) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let (code, message) = why_not(program, &path, &cause);
            Err(MainEnd { how: How::NotStarted { code, message }, ..MainEnd::not_started("") })
        }
    }
}

/// The exit code that a shell would report, and what a person can do about it.
fn why_not(program: &OsStr, path: &OsStr, cause: &io::Error) -> (u8, String) {
    let shown = program.to_string_lossy();
    let is_path = program.as_encoded_bytes().contains(&b'/');
    let found = if is_path {
        Some(PathBuf::from(program)).filter(|file| file.symlink_metadata().is_ok())
    } else {
        std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.symlink_metadata().is_ok())
    };
    match (cause.raw_os_error(), found) {
        (Some(libc::ENOENT | libc::ENOTDIR), Some(file)) => (
            127,
            format!(
                "\"{}\" cannot start: what it links to, or the interpreter or loader that it names, is not in the image",
                file.display()
            ),
        ),
        (Some(libc::ENOENT | libc::ENOTDIR), None) if is_path => (127, format!("\"{shown}\" is not in the image")),
        (Some(libc::ENOENT | libc::ENOTDIR), None) => {
            (127, format!("\"{shown}\" is not in the image; it was looked for in {}", path.to_string_lossy()))
        }
        (Some(libc::EACCES), Some(file)) if file.is_dir() => {
            (126, format!("\"{}\" is a folder, not a program", file.display()))
        }
        (Some(libc::EACCES), _) => (
            126,
            format!(
                "\"{shown}\" may not be executed by user {}: give it the execute permission in the image",
                rustix::process::geteuid().as_raw()
            ),
        ),
        (Some(libc::ENOEXEC), _) => (
            126,
            format!(
                "\"{shown}\" is no program for this machine: it is built for another kind, or is a script without \
                 \"#!\""
            ),
        ),
        _ => (126, format!("\"{shown}\" cannot be executed: {cause}")),
    }
}

/// Stays with the program to its end, ends whatever it leaves behind, and takes the last of what was written.
fn supervise(mut started: Started, signals: &SignalFd, tee: &mut Tee) -> MainEnd {
    let how = loop {
        if let Err(cause) = pass_on(&mut started, signals, tee) {
            tee.say(&format!("the rest of what the program writes is lost: {cause}"));
            started.output = None;
        }
        while let Some(signal) = next_signal(signals) {
            forward(signal, started.pid);
        }
        if let Some(how) = reap(started.pid) {
            break how;
        }
    };
    let alone = end_all_others(signals);
    if let Some(output) = &started.output {
        // Nobody is left who could write: what is in the pipe is all there is.
        while tee.drain().and_then(|()| tee.take(output)).is_ok_and(|taken| taken == Taken::Some) {}
    }
    MainEnd { how, out_of_memory: false, memory_limit: None, alone }
}

/// Waits for the next thing to happen, and passes on what was written.
fn pass_on(started: &mut Started, signals: &SignalFd, tee: &mut Tee) -> io::Result<()> {
    let (is_free, output) = (tee.is_free(), started.output.as_ref());
    let mut watched = vec![PollFd::new(signals, PollFlags::IN)];
    match output {
        Some(output) if is_free => watched.push(PollFd::new(output, PollFlags::IN)),
        _ => watched.extend(tee.awaited()),
    }
    wait(&mut watched, None)?;
    drop(watched);
    tee.write();
    if let Some(output) = output
        && tee.is_free()
        && tee.take(output)? == Taken::All
    {
        started.output = None;
    }
    Ok(())
}

/// Passes a signal on. The program may have ended meanwhile, or not be this user's any more.
fn forward(signal: i32, to: Pid) {
    if OWN.iter().all(|own| *own as i32 != signal) {
        #[expect(unsafe_code, reason = "the safe wrappers know no real-time signals")]
        // SAFETY: `kill` takes two numbers and touches no memory. The process is a child that was not waited for, so
        // that its number is not another's.
        unsafe {
            libc::kill(to.as_raw_nonzero().get(), signal);
        }
    }
}

/// Takes leave of all children that have ended; answers how the program did, if it is among them.
fn reap(program: Pid) -> Option<How> {
    let mut how = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => {
                how = status
                    .exit_status()
                    .map(|code| How::Exited { code: code as u8 })
                    .or_else(|| status.terminating_signal().map(|signal| How::Signalled { signal }))
                    .or(how);
            }
            Err(Errno::INTR) | Ok(Some(_)) => {}
            Ok(None) | Err(_) => return how,
        }
    }
}

/// Ends every other process of the container, and waits until they are gone; false when some are not, in time.
fn end_all_others(signals: &SignalFd) -> bool {
    let waiting = Stopwatch::start();
    loop {
        let everyone = nix::unistd::Pid::from_raw(-1);
        let nobody = kill(everyone, Signal::SIGKILL) == Err(nix::errno::Errno::ESRCH);
        while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_)) | Err(Errno::INTR)) {}
        if nobody || waiting.elapsed() > DEATH {
            return nobody;
        }
        // Those that came in from outside are not this one's children: no signal tells of their end.
        let _ = wait(&mut [PollFd::new(signals, PollFlags::IN)], Some(STILL_DYING));
        while next_signal(signals).is_some() {}
    }
}

/// What was read of the program's output.
#[derive(PartialEq, Eq)]
enum Taken {
    Some,
    /// Nothing for now.
    Nothing,
    /// Nothing, and nothing can come any more.
    All,
}

/// One piece of output on its way to both readers. One that is gone is written to no more.
struct Tee {
    /// Room for the header, and the piece behind it.
    frame: Box<[u8]>,
    stdout: Option<Writer<BorrowedFd<'static>>>,
    recorder: Option<Writer<UnixStream>>,
    /// How stdout was set: others may use it too.
    stdout_flags: Option<OFlags>,
}

/// One of the readers, and what of the frame it does not have yet.
struct Writer<W> {
    to: W,
    left: std::ops::Range<usize>,
}

impl<W: AsFd> Writer<W> {
    fn new(to: W) -> Self {
        Self { to, left: 0..0 }
    }

    /// Writes what goes without waiting; false when nobody reads any more.
    fn write(&mut self, frame: &[u8]) -> bool {
        while !self.left.is_empty() {
            match rustix::io::write(&self.to, &frame[self.left.clone()]) {
                Ok(written) => self.left.start += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn awaited(&self) -> Option<PollFd<'_>> {
        (!self.left.is_empty()).then(|| PollFd::new(&self.to, PollFlags::OUT))
    }
}

impl Tee {
    fn new(recorder: UnixStream) -> Self {
        let stdout = rustix::stdio::stdout();
        let stdout_flags = rustix::fs::fcntl_getfl(stdout).ok();
        if let Some(flags) = stdout_flags {
            let _ = rustix::fs::fcntl_setfl(stdout, flags | OFlags::NONBLOCK);
        }
        Self {
            frame: vec![0; HEADER + LONGEST].into_boxed_slice(),
            stdout: Some(Writer::new(stdout)),
            recorder: Some(Writer::new(recorder)),
            stdout_flags,
        }
    }

    /// Both readers have all that was taken.
    fn is_free(&self) -> bool {
        self.stdout.as_ref().is_none_or(|writer| writer.left.is_empty())
            && self.recorder.as_ref().is_none_or(|writer| writer.left.is_empty())
    }

    /// What to wait for until more can be taken.
    fn awaited(&self) -> impl Iterator<Item = PollFd<'_>> {
        let stdout = self.stdout.as_ref().and_then(Writer::awaited);
        stdout.into_iter().chain(self.recorder.as_ref().and_then(Writer::awaited))
    }

    /// Takes the next piece.
    fn take(&mut self, output: &OwnedFd) -> io::Result<Taken> {
        match rustix::io::read(output, &mut self.frame[HEADER..]) {
            Ok(0) => Ok(Taken::All),
            Ok(length) => {
                self.begin(length);
                Ok(Taken::Some)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Taken::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Begins to write the piece that stands in the frame.
    fn begin(&mut self, length: usize) {
        self.frame[..HEADER].copy_from_slice(&output_header(length));
        if let Some(stdout) = &mut self.stdout {
            stdout.left = HEADER..HEADER + length;
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.left = 0..HEADER + length;
        }
        self.write();
    }

    /// Writes what goes without waiting.
    fn write(&mut self) {
        let frame = &self.frame;
        self.stdout.take_if(|stdout| !stdout.write(frame));
        self.recorder.take_if(|recorder| !recorder.write(frame));
    }

    /// Writes all that was taken.
    fn drain(&mut self) -> io::Result<()> {
        self.write();
        while !self.is_free() {
            let mut awaited: Vec<_> = self.awaited().collect();
            wait(&mut awaited, None)?;
            drop(awaited);
            self.write();
        }
        Ok(())
    }

    /// Adds a line of its own.
    fn say(&mut self, line: &str) {
        if self.drain().is_ok() {
            let line = format!("[knit] {line}\n");
            let length = line.len().min(LONGEST);
            self.frame[HEADER..HEADER + length].copy_from_slice(&line.as_bytes()[..length]);
            self.begin(length);
        }
    }

    /// Writes the rest, and tells the recorder the end.
    fn finish(mut self, end: &MainEnd) {
        let _ = self.drain();
        if let (Some(recorder), Ok(frame)) = (&self.recorder, end.frame())
            && recorder.to.set_nonblocking(false).is_ok()
        {
            // A recorder that is gone cannot be told.
            let _ = io::Write::write_all(&mut &recorder.to, &frame);
        }
        if let Some(flags) = self.stdout_flags {
            let _ = rustix::fs::fcntl_setfl(rustix::stdio::stdout(), flags);
        }
    }
}

/// Files of the container's control group, in version 2 and in version 1.
const MEMORY: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.max"),
    ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
];

/// How many processes of this container the kernel has ended for want of memory.
fn killed_for_memory() -> u64 {
    let events = MEMORY.iter().find_map(|(events, _)| fs::read_to_string(events).ok()).unwrap_or_default();
    counter(&events, "oom_kill").unwrap_or(0)
}

fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// What this container may use, if that is limited.
fn memory_limit() -> Option<u64> {
    /// Version 1 writes a number that no machine has for none.
    const NONE: u64 = 1 << 60;
    let text = MEMORY.iter().find_map(|(_, limit)| fs::read_to_string(limit).ok())?;
    text.trim().parse().ok().filter(|limit| *limit < NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_stands_behind_two_dashes() {
        let read = |words: &[&str]| read_arguments(words.iter().map(OsString::from));
        let command = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(read(&["--", "a", "--", "b"]), Some((PathBuf::from(SOCKET), command(&["a", "--", "b"]))));
        assert_eq!(read(&["--socket", "s", "--", "a"]), Some((PathBuf::from("s"), command(&["a"]))));
        assert_eq!(read(&["--"]), Some((PathBuf::from(SOCKET), Vec::new())));
        for words in [&[][..], &["a"], &["--socket", "--", "a"], &["--socket"]] {
            assert_eq!(read(words), None, "{words:?}");
        }
    }

    #[test]
    fn a_program_that_cannot_start_has_the_code_of_a_shell_and_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("script"), "x").unwrap();
        let path = folder.path().as_os_str();
        let script = folder.path().join("script");
        for (program, errno, code, words) in [
            (OsStr::new("none"), libc::ENOENT, 127, "looked for in /"),
            (OsStr::new("/none"), libc::ENOENT, 127, "\"/none\" is not in the image"),
            (OsStr::new("script"), libc::ENOENT, 127, "interpreter"),
            (script.as_os_str(), libc::ENOTDIR, 127, "interpreter"),
            (path, libc::EACCES, 126, "is a folder"),
            (script.as_os_str(), libc::EACCES, 126, "execute permission"),
            (script.as_os_str(), libc::ENOEXEC, 126, "no program for this machine"),
            (script.as_os_str(), libc::E2BIG, 126, "cannot be executed"),
        ] {
            let (found, message) = why_not(program, path, &io::Error::from_raw_os_error(errno));
            assert!(found == code && message.contains(words), "{program:?} {errno}: {found} {message}");
        }
    }

    #[test]
    fn the_counter_of_kills_is_read_from_both_kinds_of_file() {
        assert_eq!(counter("low 0\noom 1\noom_kill 2\noom_group_kill 0\n", "oom_kill"), Some(2));
        assert_eq!(counter("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "oom_kill"), Some(1));
        assert_eq!(counter("oom_kill_disable 0\n", "oom_kill"), None);
    }
}
