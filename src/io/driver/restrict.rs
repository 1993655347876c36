//! What a worker's ring may be asked for: the operations that this engine uses, and no others (`IORING_REGISTER_RESTRICTIONS`,
//! kernel 5.10). The rest of io_uring (opening files, sockets of any kind, linked and forced operations) is closed, which
//! seccomp could not do: it does not see into rings.

use std::io;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode};

use crate::io::driver::ring_setup::build;

/// `IORING_UNREGISTER_RING_FDS` (linux/io_uring.h): a ring that is dropped lets go of itself.
const UNREGISTER_RING: u8 = 21;

/// The flags that entries of ours carry: `IOSQE_BUFFER_SELECT` and `IOSQE_CQE_SKIP_SUCCESS`.
const FLAGS: u8 = 1 << 5 | 1 << 6;

/// Every operation of the entries of `uring`, the driver.
const OPERATIONS: [u8; 7] = [
    opcode::Accept::CODE,
    opcode::Connect::CODE,
    opcode::Recv::CODE,
    opcode::Send::CODE,
    opcode::SendMsg::CODE,
    opcode::Read::CODE,
    opcode::AsyncCancel::CODE,
];

/// Restricts a ring that was set up disabled, and enables it. What is to be registered must have been before.
///
/// # Errors
/// The kernel does not know it; the ring is still disabled then.
pub(in crate::io) fn restrict(ring: &IoUring) -> io::Result<()> {
    let mut allowed: Vec<Restriction> = OPERATIONS.map(Restriction::sqe_op).into();
    allowed.push(Restriction::sqe_flags_allowed(FLAGS));
    allowed.push(Restriction::register_op(UNREGISTER_RING));
    ring.submitter().register_restrictions(&mut allowed)?;
    enable(ring)
}

/// Can a ring with the flags of ours be restricted on this host?
pub fn can_restrict_rings() -> bool {
    build(8, true).and_then(|ring| restrict(&ring)).is_ok()
}

/// Enables a ring that was set up disabled.
///
/// # Errors
/// `io_uring_register`'s.
pub(in crate::io) fn enable(ring: &IoUring) -> io::Result<()> {
    ring.submitter().register_enable_rings()
}

#[cfg(test)]
#[expect(unsafe_code, reason = "operations without memory are submitted")]
mod tests {
    use super::*;

    fn result(ring: &mut IoUring, entry: &io_uring::squeue::Entry) -> i32 {
        // SAFETY: the entries of this test refer to no memory but a static text.
        unsafe { ring.submission().push(entry) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        ring.completion().next().unwrap().result()
    }

    #[test]
    fn a_restricted_ring_opens_no_files_and_makes_no_sockets() {
        let mut ring = build(8, true).unwrap();
        restrict(&ring).unwrap();
        let here = io_uring::types::Fd(libc::AT_FDCWD);
        let open = opcode::OpenAt::new(here, c"/dev/null".as_ptr()).build();
        let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_RAW, 1).build();
        for forbidden in [open, socket, opcode::Nop::new().build()] {
            assert_eq!(result(&mut ring, &forbidden), -libc::EACCES, "{forbidden:?}");
        }
        let allowed = opcode::AsyncCancel::new(1).build();
        assert_eq!(result(&mut ring, &allowed), -libc::ENOENT);
        assert!(ring.submitter().register_probe(&mut io_uring::Probe::new()).is_err());
    }
}
