//! Which system calls a container may make. Programs for training and data need a few hundred of the
//! kernel's calls; the others (mounting, namespaces, modules, keys, tracing of the kernel, clocks) are
//! where escapes come from, and they answer EPERM here. The list follows Docker's default profile for a
//! container with the capabilities that a worker has.

use libc as c;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

/// Flags of `clone` that make namespaces.
const CLONE_NAMESPACES: u64 = (c::CLONE_NEWNS
    | c::CLONE_NEWUTS
    | c::CLONE_NEWIPC
    | c::CLONE_NEWUSER
    | c::CLONE_NEWPID
    | c::CLONE_NEWNET
    | c::CLONE_NEWCGROUP) as u64;

/// The personalities that are harmless: Linux and its 32-bit form, with and without address
/// randomisation, and the question which one is set.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Socket families that reach past the network namespace: the hypervisor, and the kernel's own crypto.
const CLOSED_FAMILIES: [i32; 2] = [c::AF_VSOCK, c::AF_ALG];

/// The highest call that the list was made with (`mseal`). Newer ones answer ENOSYS, so that a newer C
/// library in an image falls back to what it did before.
const NEWEST_KNOWN: u32 = 462;

/// `clone3`, which has this number everywhere. Its flags lie in memory, where a filter cannot look.
const CLONE3: u32 = 435;

/// `fchmodat2`, which has this number everywhere.
const FCHMODAT2: i64 = 452;

/// Both filters, in the order in which they are to be set: of two that refuse, the later one decides
/// with which error.
pub(super) fn filters() -> Result<[BpfProgram; 2], BackendError> {
    Ok([allowed()?, unknown()])
}

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// Lets the listed calls through and answers EPERM to all others.
fn allowed() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        EVERYWHERE.iter().chain(HERE).map(|call| (*call, Vec::new())).collect();
    rules.insert(FCHMODAT2, Vec::new());
    let word = |argument, operator, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
    let no_namespaces = word(0, SeccompCmpOp::MaskedEq(CLONE_NAMESPACES), 0)?;
    rules.insert(c::SYS_clone, vec![SeccompRule::new(vec![no_namespaces])?]);
    let personalities: Result<Vec<_>, BackendError> =
        PERSONALITIES.into_iter().map(|value| SeccompRule::new(vec![word(0, SeccompCmpOp::Eq, value)?])).collect();
    rules.insert(c::SYS_personality, personalities?);
    let families: Result<Vec<_>, BackendError> =
        CLOSED_FAMILIES.into_iter().map(|family| word(0, SeccompCmpOp::Ne, family as u64)).collect();
    rules.insert(c::SYS_socket, vec![SeccompRule::new(families?)?]);
    SeccompFilter::new(rules, SeccompAction::Errno(c::EPERM as u32), SeccompAction::Allow, ARCH)?.try_into()
}

/// Answers ENOSYS to `clone3` and to calls that did not exist when the list was made. Written out,
/// because it compares numbers, which the crate's rules cannot.
fn unknown() -> BpfProgram {
    const LOAD: u16 = (c::BPF_LD | c::BPF_W | c::BPF_ABS) as u16;
    const EQUAL: u16 = (c::BPF_JMP | c::BPF_JEQ | c::BPF_K) as u16;
    const GREATER: u16 = (c::BPF_JMP | c::BPF_JGT | c::BPF_K) as u16;
    const RETURN: u16 = (c::BPF_RET | c::BPF_K) as u16;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        // The number of the call stands first in what a filter sees.
        step(LOAD, 0, 0, 0),
        step(EQUAL, 2, 0, CLONE3),
        step(GREATER, 1, 0, NEWEST_KNOWN),
        step(RETURN, 0, 0, c::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, c::SECCOMP_RET_ERRNO | c::ENOSYS as u32),
    ]
}

/// Allowed on every machine.
#[rustfmt::skip]
const EVERYWHERE: &[i64] = &[
    c::SYS_accept, c::SYS_accept4, c::SYS_adjtimex, c::SYS_bind, c::SYS_brk, c::SYS_capget, c::SYS_capset,
    c::SYS_chdir, c::SYS_chroot, c::SYS_clock_adjtime, c::SYS_clock_getres, c::SYS_clock_gettime,
    c::SYS_clock_nanosleep, c::SYS_close, c::SYS_close_range, c::SYS_connect, c::SYS_copy_file_range,
    c::SYS_dup, c::SYS_dup3, c::SYS_epoll_create1, c::SYS_epoll_ctl, c::SYS_epoll_pwait, c::SYS_epoll_pwait2,
    c::SYS_eventfd2, c::SYS_execve, c::SYS_execveat, c::SYS_exit, c::SYS_exit_group, c::SYS_faccessat,
    c::SYS_faccessat2, c::SYS_fadvise64, c::SYS_fallocate, c::SYS_fanotify_mark, c::SYS_fchdir, c::SYS_fchmod,
    c::SYS_fchmodat, c::SYS_fchown, c::SYS_fchownat, c::SYS_fcntl, c::SYS_fdatasync, c::SYS_fgetxattr,
    c::SYS_flistxattr, c::SYS_flock, c::SYS_fremovexattr, c::SYS_fsetxattr, c::SYS_fstat, c::SYS_fstatfs,
    c::SYS_fsync, c::SYS_ftruncate, c::SYS_futex, c::SYS_futex_waitv, c::SYS_get_robust_list, c::SYS_getcpu,
    c::SYS_getcwd, c::SYS_getdents64, c::SYS_getegid, c::SYS_geteuid, c::SYS_getgid, c::SYS_getgroups,
    c::SYS_getitimer, c::SYS_getpeername, c::SYS_getpgid, c::SYS_getpid, c::SYS_getppid, c::SYS_getpriority,
    c::SYS_getrandom, c::SYS_getresgid, c::SYS_getresuid, c::SYS_getrlimit, c::SYS_getrusage, c::SYS_getsid,
    c::SYS_getsockname, c::SYS_getsockopt, c::SYS_gettid, c::SYS_gettimeofday, c::SYS_getuid, c::SYS_getxattr,
    c::SYS_inotify_add_watch, c::SYS_inotify_init1, c::SYS_inotify_rm_watch, c::SYS_io_cancel,
    c::SYS_io_destroy, c::SYS_io_getevents, c::SYS_io_setup, c::SYS_io_submit, c::SYS_ioctl, c::SYS_ioprio_get,
    c::SYS_ioprio_set, c::SYS_kill, c::SYS_landlock_add_rule, c::SYS_landlock_create_ruleset,
    c::SYS_landlock_restrict_self, c::SYS_lgetxattr, c::SYS_linkat, c::SYS_listen, c::SYS_listxattr,
    c::SYS_llistxattr, c::SYS_lremovexattr, c::SYS_lseek, c::SYS_lsetxattr, c::SYS_madvise, c::SYS_membarrier,
    c::SYS_memfd_create, c::SYS_memfd_secret, c::SYS_mincore, c::SYS_mkdirat, c::SYS_mknodat, c::SYS_mlock,
    c::SYS_mlock2, c::SYS_mlockall, c::SYS_mmap, c::SYS_mprotect, c::SYS_mq_getsetattr, c::SYS_mq_notify,
    c::SYS_mq_open, c::SYS_mq_timedreceive, c::SYS_mq_timedsend, c::SYS_mq_unlink, c::SYS_mremap, c::SYS_mseal,
    c::SYS_msgctl, c::SYS_msgget, c::SYS_msgrcv, c::SYS_msgsnd, c::SYS_msync, c::SYS_munlock,
    c::SYS_munlockall, c::SYS_munmap, c::SYS_name_to_handle_at, c::SYS_nanosleep, c::SYS_newfstatat,
    c::SYS_openat, c::SYS_openat2, c::SYS_pidfd_open, c::SYS_pidfd_send_signal, c::SYS_pipe2,
    c::SYS_pkey_alloc, c::SYS_pkey_free, c::SYS_pkey_mprotect, c::SYS_ppoll, c::SYS_prctl, c::SYS_pread64,
    c::SYS_preadv, c::SYS_preadv2, c::SYS_prlimit64, c::SYS_process_mrelease, c::SYS_process_vm_readv,
    c::SYS_process_vm_writev, c::SYS_pselect6, c::SYS_ptrace, c::SYS_pwrite64, c::SYS_pwritev, c::SYS_pwritev2,
    c::SYS_read, c::SYS_readahead, c::SYS_readlinkat, c::SYS_readv, c::SYS_recvfrom, c::SYS_recvmmsg,
    c::SYS_recvmsg, c::SYS_remap_file_pages, c::SYS_removexattr, c::SYS_renameat, c::SYS_renameat2,
    c::SYS_restart_syscall, c::SYS_rseq, c::SYS_rt_sigaction, c::SYS_rt_sigpending, c::SYS_rt_sigprocmask,
    c::SYS_rt_sigqueueinfo, c::SYS_rt_sigreturn, c::SYS_rt_sigsuspend, c::SYS_rt_sigtimedwait,
    c::SYS_rt_tgsigqueueinfo, c::SYS_sched_get_priority_max, c::SYS_sched_get_priority_min,
    c::SYS_sched_getaffinity, c::SYS_sched_getattr, c::SYS_sched_getparam, c::SYS_sched_getscheduler,
    c::SYS_sched_rr_get_interval, c::SYS_sched_setaffinity, c::SYS_sched_setattr, c::SYS_sched_setparam,
    c::SYS_sched_setscheduler, c::SYS_sched_yield, c::SYS_seccomp, c::SYS_semctl, c::SYS_semget, c::SYS_semop,
    c::SYS_semtimedop, c::SYS_sendfile, c::SYS_sendmmsg, c::SYS_sendmsg, c::SYS_sendto, c::SYS_set_robust_list,
    c::SYS_set_tid_address, c::SYS_setfsgid, c::SYS_setfsuid, c::SYS_setgid, c::SYS_setgroups,
    c::SYS_setitimer, c::SYS_setpgid, c::SYS_setpriority, c::SYS_setregid, c::SYS_setresgid, c::SYS_setresuid,
    c::SYS_setreuid, c::SYS_setrlimit, c::SYS_setsid, c::SYS_setsockopt, c::SYS_setuid, c::SYS_setxattr,
    c::SYS_shmat, c::SYS_shmctl, c::SYS_shmdt, c::SYS_shmget, c::SYS_shutdown, c::SYS_sigaltstack,
    c::SYS_signalfd4, c::SYS_socketpair, c::SYS_splice, c::SYS_statfs, c::SYS_statx, c::SYS_symlinkat,
    c::SYS_sync, c::SYS_sync_file_range, c::SYS_syncfs, c::SYS_sysinfo, c::SYS_tee, c::SYS_tgkill,
    c::SYS_timer_create, c::SYS_timer_delete, c::SYS_timer_getoverrun, c::SYS_timer_gettime,
    c::SYS_timer_settime, c::SYS_timerfd_create, c::SYS_timerfd_gettime, c::SYS_timerfd_settime, c::SYS_times,
    c::SYS_tkill, c::SYS_truncate, c::SYS_umask, c::SYS_uname, c::SYS_unlinkat, c::SYS_utimensat,
    c::SYS_vmsplice, c::SYS_wait4, c::SYS_waitid, c::SYS_write, c::SYS_writev,
];

/// Allowed on this kind of machine: the older forms of calls, which newer kinds never had.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const HERE: &[i64] = &[
    c::SYS_access, c::SYS_alarm, c::SYS_arch_prctl, c::SYS_chmod, c::SYS_chown, c::SYS_creat, c::SYS_dup2,
    c::SYS_epoll_create, c::SYS_epoll_wait, c::SYS_eventfd, c::SYS_fork, c::SYS_futimesat,
    c::SYS_get_thread_area, c::SYS_getdents, c::SYS_getpgrp, c::SYS_inotify_init, c::SYS_lchown, c::SYS_link,
    c::SYS_lstat, c::SYS_mkdir, c::SYS_mknod, c::SYS_modify_ldt, c::SYS_open, c::SYS_pause, c::SYS_pipe,
    c::SYS_poll, c::SYS_readlink, c::SYS_rename, c::SYS_rmdir, c::SYS_select, c::SYS_set_thread_area,
    c::SYS_signalfd, c::SYS_stat, c::SYS_symlink, c::SYS_time, c::SYS_unlink, c::SYS_utime, c::SYS_utimes,
    c::SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const HERE: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    /// What a filter answers, by the rules of the kernel's interpreter for the few instructions used.
    fn answer(program: &BpfProgram, call: i64, arguments: [u64; 6]) -> u32 {
        let arch: u32 = match ARCH {
            TargetArch::x86_64 => 0xc000_003e,
            _ => 0xc000_00b7,
        };
        let mut data = Vec::new();
        data.extend_from_slice(&(call as u32).to_ne_bytes());
        data.extend_from_slice(&arch.to_ne_bytes());
        data.extend_from_slice(&0u64.to_ne_bytes());
        for argument in arguments {
            data.extend_from_slice(&argument.to_ne_bytes());
        }
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let (class, operation) = (u32::from(step.code) & 0x07, u32::from(step.code) & 0xf0);
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            match class {
                c::BPF_LD => {
                    let from = step.k as usize;
                    accumulator = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                }
                c::BPF_RET => return step.k,
                c::BPF_ALU => accumulator &= step.k,
                c::BPF_JMP => match operation {
                    c::BPF_JA => at += step.k as usize,
                    c::BPF_JEQ => at += jump(accumulator == step.k),
                    c::BPF_JGT => at += jump(accumulator > step.k),
                    c::BPF_JGE => at += jump(accumulator >= step.k),
                    other => panic!("jump {other}"),
                },
                other => panic!("class {other}"),
            }
        }
    }

    fn verdict(call: i64, first: u64) -> u32 {
        let [allowed, unknown] = filters().unwrap();
        let (old, new) =
            (answer(&allowed, call, [first, 0, 0, 0, 0, 0]), answer(&unknown, call, [first, 0, 0, 0, 0, 0]));
        // A refusal beats a permission, and the later filter beats the earlier one.
        if new == c::SECCOMP_RET_ALLOW { old } else { new }
    }

    const EPERM: u32 = c::SECCOMP_RET_ERRNO | c::EPERM as u32;
    const ENOSYS: u32 = c::SECCOMP_RET_ERRNO | c::ENOSYS as u32;

    #[test]
    fn what_leads_out_of_a_container_is_refused() {
        for call in [
            c::SYS_mount,
            c::SYS_umount2,
            c::SYS_pivot_root,
            c::SYS_keyctl,
            c::SYS_add_key,
            c::SYS_bpf,
            c::SYS_perf_event_open,
            c::SYS_kexec_load,
            c::SYS_init_module,
            c::SYS_finit_module,
            c::SYS_unshare,
            c::SYS_setns,
            c::SYS_userfaultfd,
            c::SYS_io_uring_setup,
            c::SYS_open_by_handle_at,
            c::SYS_reboot,
            c::SYS_swapon,
            c::SYS_settimeofday,
            c::SYS_clock_settime,
            c::SYS_fsopen,
            c::SYS_move_mount,
            c::SYS_open_tree,
            c::SYS_mount_setattr,
            c::SYS_syslog,
            c::SYS_acct,
            c::SYS_quotactl,
            c::SYS_pidfd_getfd,
        ] {
            assert_eq!(verdict(call, 0), EPERM, "call {call}");
        }
    }

    #[test]
    fn what_programs_need_is_let_through() {
        for call in [
            c::SYS_read,
            c::SYS_execve,
            c::SYS_openat,
            c::SYS_mmap,
            c::SYS_futex,
            c::SYS_statx,
            c::SYS_ioctl,
            c::SYS_exit_group,
            c::SYS_prctl,
            c::SYS_seccomp,
            c::SYS_close_range,
            c::SYS_memfd_create,
            FCHMODAT2,
        ] {
            assert_eq!(verdict(call, 0), c::SECCOMP_RET_ALLOW, "call {call}");
        }
    }

    #[test]
    fn threads_can_be_made_and_namespaces_cannot() {
        let thread = (c::CLONE_VM | c::CLONE_FS | c::CLONE_FILES | c::CLONE_THREAD | c::CLONE_SIGHAND) as u64;
        assert_eq!(verdict(c::SYS_clone, thread), c::SECCOMP_RET_ALLOW);
        assert_eq!(verdict(c::SYS_clone, c::SIGCHLD as u64), c::SECCOMP_RET_ALLOW);
        for flag in [c::CLONE_NEWUSER, c::CLONE_NEWNS, c::CLONE_NEWNET, c::CLONE_NEWPID, c::CLONE_NEWCGROUP] {
            assert_eq!(verdict(c::SYS_clone, (flag | c::SIGCHLD) as u64), EPERM, "flag {flag}");
        }
        assert_eq!(verdict(c::SYS_clone3, 0), ENOSYS);
    }

    #[test]
    fn calls_of_the_future_do_not_exist() {
        assert_eq!(verdict(463, 0), ENOSYS);
        assert_eq!(verdict(600, 0), ENOSYS);
        // The 32-bit pointer form of x86_64 sets a high bit.
        assert_eq!(verdict(0x4000_0000, 0), ENOSYS);
    }

    #[test]
    fn sockets_stay_within_the_network_namespace() {
        for (family, expected) in [
            (c::AF_INET, c::SECCOMP_RET_ALLOW),
            (c::AF_UNIX, c::SECCOMP_RET_ALLOW),
            (c::AF_NETLINK, c::SECCOMP_RET_ALLOW),
            (c::AF_VSOCK, EPERM),
            (c::AF_ALG, EPERM),
        ] {
            assert_eq!(verdict(c::SYS_socket, family as u64), expected, "family {family}");
        }
        assert_eq!(verdict(c::SYS_personality, 0xffff_ffff), c::SECCOMP_RET_ALLOW);
        assert_eq!(verdict(c::SYS_personality, 0x0040_0000), EPERM);
    }
}
