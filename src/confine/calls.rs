//! The system calls that a running proxy makes, by engine; every other is answered with EPERM.
//!
//! Read from the code and from traces of the end-to-end tests on both engines. Most are allowed whatever their arguments,
//! which lets the kernel decide without running the filter (since 5.11). It refuses to know files and addresses: Landlock
//! and policy judge those.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::io::EngineKind;

/// Reading and watching files, writing logs.
const FILES: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_close,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
];

/// Sockets, except for making one.
const SOCKETS: &[c_long] = &[
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_ppoll,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
];

/// Memory (but for what may become executable), time, locks, signals of our own, ending.
const PROCESS: &[c_long] = &[
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // A thread that was made just before says these first; the C library ends the process if it may not.
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What newer architectures no longer have.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Rings that exist may be entered; none can be made or changed any more.
const RINGS: &[c_long] = &[libc::SYS_io_uring_enter];

fn plain(engine: EngineKind) -> impl Iterator<Item = c_long> {
    let rings = if engine == EngineKind::Uring { RINGS } else { &[] };
    [FILES, SOCKETS, PROCESS, OLDER, rings].into_iter().flatten().copied()
}

/// How many calls are allowed.
pub(super) fn count(engine: EngineKind) -> usize {
    plain(engine).count() + 4
}

pub(super) fn filter(engine: EngineKind) -> Result<SeccompFilter, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = plain(engine).map(|call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, stream_and_datagram_sockets()?);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![nothing_executable()?]);
    }
    rules.insert(libc::SYS_prlimit64, vec![only_when_zero(2)?]);
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refusal, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)
}

/// socket(2): of the internet, and not raw.
fn stream_and_datagram_sockets() -> Result<Vec<SeccompRule>, BackendError> {
    const TYPE: u64 = 0xf;
    let mut rules = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            rules.push(SeccompRule::new(vec![
                SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family as u64)?,
                SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(TYPE), kind as u64)?,
            ])?);
        }
    }
    Ok(rules)
}

/// A call whose argument `index` is null: prlimit(2) then reads a limit and sets none.
fn only_when_zero(index: u8) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?])
}

/// mmap(2), mprotect(2): the third argument is the protection.
fn nothing_executable() -> Result<SeccompRule, BackendError> {
    let executable = libc::PROT_EXEC as u64;
    SeccompRule::new(vec![SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(executable), 0)?])
}
