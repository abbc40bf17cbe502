//! The program that shims run: this very executable, copied once into sealed memory.
//!
//! Until its own program starts, a container's first process runs the shim's executable, and a hostile
//! image can make it open that for writing (CVE-2019-5736). A sealed copy cannot be written by anyone,
//! and a shim can be started even after the file on disk was replaced by an upgrade.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// The sealed copy.
#[derive(Debug)]
pub struct Program {
    sealed: File,
}

impl Program {
    /// Copies `executable` and seals the copy.
    pub fn seal(executable: &Path) -> io::Result<Self> {
        let mut source = File::open(executable)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 know no flag that says a memory file may be executed; there all may.
        let memory =
            memfd_create("knitd-shim", flags | MemfdFlags::EXEC).or_else(|_| memfd_create("knitd-shim", flags))?;
        let mut sealed = File::from(memory);
        io::copy(&mut source, &mut sealed)?;
        fcntl_add_seals(&sealed, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        Ok(Self { sealed })
    }

    /// The path by which this process and its children can execute the copy.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.sealed.as_raw_fd()).into()
    }

    /// A command that executes the copy, with an empty environment.
    pub fn command(&self) -> std::process::Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = std::process::Command::new(self.path());
        command.arg0("knitd").env_clear();
        command
    }
}
