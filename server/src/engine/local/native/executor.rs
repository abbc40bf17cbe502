//! The last steps before a container's own program: made by its first process, inside the container,
//! after libcontainer has set everything else.

use super::order::End;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use seccompiler::BpfProgram;
use std::collections::HashMap;
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

/// Starts the program. What goes wrong is written to a pipe that the program itself never sees: it is
/// closed when the program starts, which tells the shim that it did.
#[derive(Clone)]
pub(super) struct Launch {
    /// See [`super::seccomp::filters`].
    pub(super) filters: Arc<[BpfProgram; 2]>,
    /// The end of the pipe that is written.
    pub(super) report: RawFd,
    /// The end that the shim reads.
    pub(super) shim_end: RawFd,
}

impl Executor for Launch {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let problem = self.launch(spec);
        let said = serde_json::to_vec(&problem).unwrap_or_default();
        let _ = rustix::io::write(self.report_end(), &said);
        Err(ExecutorError::Other("the program could not be executed".to_owned()))
    }

    /// Nothing to check before: [`Executor::exec`] finds out, and can say it better.
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// The environment is handed to the program, not set in this process.
    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

impl Launch {
    #[expect(unsafe_code, reason = "the shim keeps this end open until libcontainer has copied it to this process")]
    fn report_end(&self) -> BorrowedFd<'_> {
        // SAFETY: nothing in this process closes it before the program starts.
        unsafe { BorrowedFd::borrow_raw(self.report) }
    }

    /// Comes back only with the reason why the program did not start.
    fn launch(&self, spec: &Spec) -> End {
        if let Err(cause) = self.die_with_the_shim().and_then(|()| plain_signals()) {
            return not_started(126, format!("the container could not be prepared: {cause}"));
        }
        let Some(process) = spec.process() else {
            return not_started(126, "the container's specification names no process".to_owned());
        };
        let words = |list: &Option<Vec<String>>| -> Result<Vec<CString>, std::ffi::NulError> {
            list.iter().flatten().map(|word| CString::new(word.as_bytes())).collect()
        };
        let (Ok(arguments), Ok(environment)) = (words(process.args()), words(process.env())) else {
            return not_started(126, "the command or the environment contains a NUL character".to_owned());
        };
        for filter in self.filters.iter() {
            if let Err(cause) = seccompiler::apply_filter(filter) {
                return not_started(126, format!("the filter of system calls could not be set: {cause}"));
            }
        }
        let program = process.args().iter().flatten().next().cloned().unwrap_or_default();
        let path = process.env().iter().flatten().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
        execute(&program, path, &arguments, &environment, process.user().uid())
    }

    /// A container without a shim would go on unobserved.
    fn die_with_the_shim(&self) -> nix::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
        // The shim may have died before that. Its end of the pipe tells, once this process's own copy
        // of that end is closed.
        #[expect(unsafe_code, reason = "closes this process's copy of a descriptor that only the shim uses")]
        // SAFETY: no other code of this process knows the descriptor.
        drop(unsafe { OwnedFd::from_raw_fd(self.shim_end) });
        let report = self.report_end();
        let mut state = [PollFd::new(&report, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut state, Some(&now)).map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
        if state[0].revents().contains(PollFlags::ERR) { Err(Errno::EOWNERDEAD) } else { Ok(()) }
    }
}

/// Undoes what Rust and the shim set for themselves and a program would inherit.
fn plain_signals() -> nix::Result<()> {
    #[expect(unsafe_code, reason = "sets a disposition that runs no code of ours")]
    // SAFETY: the default disposition is no handler.
    unsafe {
        signal(Signal::SIGPIPE, SigHandler::SigDfl)?;
    }
    SigSet::empty().thread_set_mask()
}

/// Looks for the program as a shell would, and becomes it.
fn execute(program: &str, path: &str, arguments: &[CString], environment: &[CString], uid: u32) -> End {
    let candidates: Vec<String> = if program.contains('/') {
        vec![program.to_owned()]
    } else {
        path.split(':').map(|folder| format!("{}/{program}", if folder.is_empty() { "." } else { folder })).collect()
    };
    let mut refused = None;
    for candidate in &candidates {
        let Ok(file) = CString::new(candidate.as_bytes()) else { continue };
        let errno = match nix::unistd::execve(&file, arguments, environment) {
            Err(errno) => errno,
            Ok(never) => match never {},
        };
        let there = Path::new(candidate).symlink_metadata().is_ok();
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if there => {
                return not_started(
                    127,
                    format!(
                        "\"{candidate}\" cannot start: what it links to, or the interpreter or loader that it names, is not in the image"
                    ),
                );
            }
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES if Path::new(candidate).is_dir() => {
                refused.get_or_insert(format!("\"{candidate}\" is a folder, not a program"));
            }
            Errno::EACCES => {
                refused.get_or_insert(format!(
                    "\"{candidate}\" may not be executed by user {uid}: give it the execute permission in the image"
                ));
            }
            Errno::ENOEXEC => {
                return not_started(
                    126,
                    format!(
                        "\"{candidate}\" is no program for this machine: it is built for another kind, or is a script without \"#!\""
                    ),
                );
            }
            other => return not_started(126, format!("\"{candidate}\" cannot be executed: {}", other.desc())),
        }
    }
    match refused {
        Some(message) => not_started(126, message),
        None if program.contains('/') => not_started(127, format!("\"{program}\" is not in the image")),
        None => not_started(127, format!("\"{program}\" is not in the image; it was looked for in {path}")),
    }
}

fn not_started(code: u8, message: String) -> End {
    End::NotStarted { code, message }
}
