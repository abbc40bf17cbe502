//! The lock of a worker's folder: whoever holds it is the worker's one shim.
//!
//! It is a POSIX record lock because the kernel releases it the moment its process ends, does not
//! hand it on to children, and tells everyone the pid of its holder.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The lock is held until this is dropped or the process ends. Closing any other descriptor of the
/// same file in this process would release it too, so nothing else here opens it meanwhile.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// Takes the lock, or answers `None` when another process has it. The file is made if need be.
pub fn take(path: &Path) -> io::Result<Option<Held>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    match fcntl(&file, FcntlArg::F_SETLK(&whole_file(libc::F_WRLCK))) {
        Ok(_) => Ok(Some(Held { _file: file })),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The pid of the process that holds the lock, if one does. Locks of this process do not count.
pub fn holder(path: &Path) -> io::Result<Option<i32>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let mut answer = whole_file(libc::F_WRLCK);
    fcntl(&file, FcntlArg::F_GETLK(&mut answer))?;
    Ok((i32::from(answer.l_type) != libc::F_UNLCK).then_some(answer.l_pid))
}

fn whole_file(kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}
