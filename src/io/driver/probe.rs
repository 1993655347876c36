//! Can this host run the engine? If not: why, and what to do about it.
//!
//! It tries the real thing (set-up with the real flags, registering buffers, one operation), since versions lie: a
//! seccomp profile may forbid what the kernel has. It refuses to decide what happens then.

#![allow(unsafe_code, reason = "one NOP is submitted")]

use std::fmt;
use std::io;
use std::rc::Rc;

use io_uring::{IoUring, Probe, opcode, squeue};

use crate::io::bounds::EngineOptions;
use crate::io::buffers::Pool;
use crate::io::buffers::provided::ProvidedRing;
use crate::io::driver::ring_setup;

/// What io_uring offers on this host beyond what is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The submission queue has no indirection (kernel 6.6).
    pub no_sqarray: bool,
    /// Waiting for several completions for a bounded time (kernel 6.12).
    pub min_wait: bool,
    /// A receive that ends by itself after a number of bytes (kernel 6.17).
    pub receive_limit: bool,
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |has| if has { "yes" } else { "no (works without)" };
        let Features { no_sqarray, min_wait, receive_limit } = *self;
        write!(f, "NO_SQARRAY: {}, ", word(no_sqarray))?;
        write!(f, "min-wait: {}, receive limit: {}", word(min_wait), word(receive_limit))
    }
}

/// Why this host, or this thread, cannot run an engine. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// io_uring is missing or hidden
    #[error(
        "{step}: io_uring is not there (ENOSYS): the kernel is older than 6.1, or the container's seccomp profile hides \
         it; allow io_uring_setup, io_uring_enter and io_uring_register there (config/seccomp holds a profile)"
    )]
    Missing { step: &'static str },
    /// io_uring is forbidden by the sysctl
    #[error(
        "{step}: io_uring is forbidden (EPERM) by the sysctl kernel.io_uring_disabled={value}; set it to 0 on the node, \
         or to 1 and give this process a group of kernel.io_uring_group"
    )]
    Disabled { step: &'static str, value: u8 },
    /// io_uring is forbidden by something else
    #[error(
        "{step}: io_uring is forbidden (EPERM), not by kernel.io_uring_disabled, so by the container's seccomp profile \
         or a security module; allow io_uring_setup, io_uring_enter and io_uring_register there (config/seccomp holds a \
         profile)"
    )]
    Forbidden { step: &'static str },
    /// too little memory may be locked
    #[error("{step}: out of memory (ENOMEM): raise the memory limit of the container, or RLIMIT_MEMLOCK (ulimit -l)")]
    Memory { step: &'static str },
    /// too few descriptors
    #[error("{step}: too many open files: raise RLIMIT_NOFILE (ulimit -n)")]
    Descriptors { step: &'static str },
    /// the kernel is too old
    #[error("{step}: the kernel ({release}) is too old for this (EINVAL): io_uring needs {needs}")]
    TooOld { step: &'static str, needs: &'static str, release: String },
    /// the thread has an engine
    #[error("this thread has an engine already")]
    Occupied,
    /// anything else
    #[error("{step}: {source}")]
    Other { step: &'static str, source: io::Error },
}

/// Says what an error of `step` means.
pub(in crate::io) fn classify(error: io::Error, step: &'static str) -> EngineError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => EngineError::Missing { step },
        Some(libc::EPERM | libc::EACCES) => match disabled_by_sysctl() {
            Some(value @ 1..) => EngineError::Disabled { step, value },
            _ => EngineError::Forbidden { step },
        },
        Some(libc::ENOMEM) => EngineError::Memory { step },
        Some(libc::EMFILE | libc::ENFILE) => EngineError::Descriptors { step },
        Some(libc::EINVAL) => too_old(step, "kernel 6.1 or newer"),
        _ => EngineError::Other { step, source: error },
    }
}

fn too_old(step: &'static str, needs: &'static str) -> EngineError {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    EngineError::TooOld { step, needs, release: release.unwrap_or_else(|_| "unknown version".to_owned()) }
}

/// `kernel.io_uring_disabled` (kernel 6.6): 0 all may, 1 a group and CAP_SYS_ADMIN may, 2 nobody may.
fn disabled_by_sysctl() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

/// Tries everything that an engine needs, and leaves nothing behind.
///
/// # Errors
/// The first thing that is missing.
pub fn probe() -> Result<Features, EngineError> {
    let pool = Pool::new(8, 4096, 0).map_err(|error| classify(error, "mapping receive buffers"))?;
    // As large as a worker's: a small limit of locked memory may allow less (its pages count on kernels 6.14 to 6.18).
    let (mut ring, _buffers) = set_up(EngineOptions::default().submission_entries, false, &pool)?;
    check_operations(&ring)?;
    check_entering(&mut ring).map_err(|error| classify(error, "io_uring_enter"))?;
    let receive_limit = ring_setup::can_limit_receives(&mut ring).map_err(|error| classify(error, "receiving"))?;
    let no_sqarray = IoUring::<squeue::Entry>::builder().setup_no_sqarray().build(1).is_ok();
    Ok(Features { no_sqarray, min_wait: ring.params().is_feature_min_timeout(), receive_limit })
}

/// A ring with room for the buffers of `pool`: of `entries`, or where the memory that may be locked allows no such ring, the
/// largest that it allows.
///
/// # Errors
/// There is none, or something else is missing.
pub(in crate::io) fn set_up(
    entries: u32,
    disabled: bool,
    pool: &Rc<Pool>,
) -> Result<(IoUring, ProvidedRing), EngineError> {
    let mut entries = entries;
    loop {
        match set_up_exactly(entries, disabled, pool) {
            Err(EngineError::Memory { .. }) if entries > ring_setup::FEWEST_ENTRIES => entries /= 2,
            outcome => return outcome,
        }
    }
}

fn set_up_exactly(entries: u32, disabled: bool, pool: &Rc<Pool>) -> Result<(IoUring, ProvidedRing), EngineError> {
    let ring = ring_setup::build(entries, disabled).map_err(|error| classify(error, "io_uring_setup"))?;
    let step = "registering receive buffers";
    let buffers = ProvidedRing::register(&ring.submitter(), pool).map_err(|error| classify(error, step))?;
    Ok((ring, buffers))
}

fn check_operations(ring: &IoUring) -> Result<(), EngineError> {
    let step = "asking io_uring for its operations";
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known).map_err(|error| classify(error, step))?;
    for (code, needs) in [
        (opcode::AcceptMulti::CODE, "ACCEPT (kernel 5.5; multishot 5.19)"),
        (opcode::Connect::CODE, "CONNECT (kernel 5.5)"),
        (opcode::RecvMulti::CODE, "RECV (kernel 5.6; multishot 6.0)"),
        (opcode::Send::CODE, "SEND (kernel 5.6)"),
        (opcode::SendMsg::CODE, "SENDMSG (kernel 5.3)"),
        (opcode::AsyncCancel::CODE, "ASYNC_CANCEL (kernel 5.5)"),
        (opcode::Read::CODE, "READ (kernel 5.6)"),
    ] {
        if !known.is_supported(code) {
            return Err(too_old(step, needs));
        }
    }
    if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
        return Err(too_old(step, "EXT_ARG and NODROP (kernel 5.11)"));
    }
    Ok(())
}

fn check_entering(ring: &mut IoUring) -> io::Result<()> {
    // SAFETY: a NOP refers to no memory.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }.expect("a new queue has room");
    ring.submit_and_wait(1)?;
    ring.completion().for_each(drop);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_can_run_the_engine() {
        let features = probe().unwrap_or_else(|error| panic!("{error}"));
        println!("{features}");
        assert!(features.to_string().contains("min-wait"));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for (errno, advice) in [
            (libc::ENOSYS, "seccomp"),
            (libc::EPERM, "allow io_uring_setup"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK"),
            (libc::EMFILE, "RLIMIT_NOFILE"),
            (libc::EINVAL, "kernel 6.1 or newer"),
            (libc::EIO, "io_uring_setup: "),
        ] {
            let text = classify(io::Error::from_raw_os_error(errno), "io_uring_setup").to_string();
            assert!(text.contains(advice) || text.contains("kernel.io_uring_disabled"), "{text}");
        }
    }
}
