//! The ring of free receive buffers that the kernel takes from (`IORING_REGISTER_PBUF_RING`, kernel 5.19).
//!
//! A page-aligned array of descriptors; its tail, which lies in an unused field of the first descriptor, is ours to
//! move, and the kernel's head is never seen. It is as long as there are buffers, so it cannot overflow.

#![allow(unsafe_code, reason = "the ring is memory shared with the kernel")]

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::io::buffers::Pool;
use crate::io::buffers::mapping::Mapping;

/// The only group of buffers.
pub(in crate::io) const GROUP: u16 = 0;

pub(in crate::io) struct ProvidedRing {
    entries: Mapping,
    pool: Rc<Pool>,
    tail: u16,
    mask: u16,
}

impl ProvidedRing {
    /// Registers an empty ring with room for all buffers of `pool`, a power of two.
    pub(in crate::io) fn register(submitter: &Submitter<'_>, pool: &Rc<Pool>) -> io::Result<Self> {
        let count = u16::try_from(pool.count()).expect("buffers are numbered with 16 bits");
        let entries = Mapping::anonymous(usize::from(count) * size_of::<BufRingEntry>())?;
        let address = entries.start().as_ptr() as u64;
        // SAFETY: the mapping is page-aligned and holds `count` entries. It is dropped after the ring (see Uring), and
        // the kernel pins its pages besides.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0) }?;
        Ok(Self { entries, pool: Rc::clone(pool), tail: 0, mask: count - 1 })
    }

    /// Gives buffers to the kernel. Each of `ids` is not the kernel's already.
    pub(in crate::io) fn provide(&mut self, ids: &mut Vec<u16>) {
        let first: *mut BufRingEntry = self.entries.start().as_ptr().cast();
        for id in ids.drain(..) {
            // SAFETY: the index is below the number of entries, which the mapping holds.
            let entry = unsafe { &mut *first.add(usize::from(self.tail & self.mask)) };
            entry.set_addr(self.pool.address(id).as_ptr() as u64);
            entry.set_len(self.pool.size() as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: `first` is the first entry of a registered ring, zeroed by the kernel at least.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the tail is an aligned 16-bit field of the mapping, which the kernel only reads.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the kernel sees the entries before it sees that they are there.
        tail.store(self.tail, Ordering::Release);
    }
}
