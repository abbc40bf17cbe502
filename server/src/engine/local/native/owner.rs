//! Inputs that the container's user can read whoever owns them on disk. Their modes are part of their
//! identity and stay, so the mount says instead who owns them: an id-mapped mount shows what belongs to
//! the folder's owner as the user's own, and the other way round.

use super::user::Identity;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Mounts the folder `source` on `target` so that `identity` stands for its owner. False when that is
/// not needed; an error when the file system cannot do it.
pub(super) fn mount_as_own(source: &Path, target: &Path, identity: &Identity) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(source, flags, Mode::empty())?;
    let state = rustix::fs::fstat(&folder)?;
    if identity.uid == 0 || (state.st_uid, state.st_gid) == (identity.uid, identity.gid) {
        return Ok(false);
    }
    let mapping = user_namespace(&swap(state.st_uid, identity.uid), &swap(state.st_gid, identity.gid))?;
    let tree = open_tree(CWD, source, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    set_mapping(&tree, &mapping)?;
    fs::create_dir_all(target)?;
    move_mount(tree.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(true)
}

/// The map that exchanges two ids and leaves all others as they are, in the kernel's form: lines of
/// first id inside, first id outside, how many.
fn swap(one: u32, other: u32) -> String {
    let (low, high) = (one.min(other), one.max(other));
    if low == high {
        return format!("0 0 {}\n", u32::MAX);
    }
    let ranges = [
        (0, 0, low),
        (low, high, 1),
        (low + 1, low + 1, high - low - 1),
        (high, low, 1),
        (high + 1, high + 1, u32::MAX - high - 1),
    ];
    let mut lines = String::new();
    for (inside, outside, count) in ranges {
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{inside} {outside} {count}");
        }
    }
    lines
}

/// A user namespace with these maps. It needs a process to be made in, which is gone afterwards.
fn user_namespace(uids: &str, gids: &str) -> io::Result<File> {
    let (ready, ready_end) = pipe_with(PipeFlags::CLOEXEC)?;
    #[expect(unsafe_code, reason = "the shim has one thread, so a forked child may run any code")]
    // SAFETY: there is no other thread whose locks the child could find taken.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            let made = unshare(CloneFlags::CLONE_NEWUSER).is_ok();
            let _ = rustix::io::write(&ready_end, &[u8::from(made)]);
            // It may not outlive the shim, and ends when the shim says so or is gone.
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            loop {
                nix::unistd::pause();
            }
        }
        ForkResult::Parent { child } => child,
    };
    drop(ready_end);
    let made = open_namespace(&ready, child, uids, gids);
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
    made
}

fn open_namespace(ready: &OwnedFd, child: Pid, uids: &str, gids: &str) -> io::Result<File> {
    let mut answer = [0];
    if rustix::io::read(ready, &mut answer)? != 1 || answer != [1] {
        return Err(io::Error::other("a user namespace cannot be made"));
    }
    fs::write(format!("/proc/{child}/uid_map"), uids)?;
    fs::write(format!("/proc/{child}/gid_map"), gids)?;
    File::open(format!("/proc/{child}/ns/user"))
}

fn set_mapping(tree: &OwnedFd, mapping: &File) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(mapping.as_raw_fd()).map_err(io::Error::other)?,
    };
    #[expect(unsafe_code, reason = "there is no safe wrapper for this call")]
    // SAFETY: the path is an empty C string, and the structure is whole, of the size given, and only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ids_are_exchanged_and_every_other_stays() {
        for (one, other, expected) in [
            (0, 1, "0 1 1\n1 0 1\n2 2 4294967293\n"),
            (0, 1000, "0 1000 1\n1 1 999\n1000 0 1\n1001 1001 4294966294\n"),
            (1000, 7, "0 0 7\n7 1000 1\n8 8 992\n1000 7 1\n1001 1001 4294966294\n"),
            (5, 5, "0 0 4294967295\n"),
        ] {
            assert_eq!(swap(one, other), expected, "{one} {other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_map_covers_every_id_once_on_both_sides(one in 0..=i32::MAX as u32, other in 0..=i32::MAX as u32) {
            let lines: Vec<Vec<u64>> =
                swap(one, other).lines().map(|l| l.split(' ').map(|n| n.parse().unwrap()).collect()).collect();
            for side in 0..2 {
                let mut ranges: Vec<(u64, u64)> = lines.iter().map(|l| (l[side], l[2])).collect();
                ranges.sort_unstable();
                let end = ranges.into_iter().try_fold(0, |at, (first, count)| (first == at).then_some(at + count));
                proptest::prop_assert_eq!(end, Some(u64::from(u32::MAX)));
            }
        }
    }
}
