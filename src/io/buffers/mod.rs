//! The receive buffers of a worker and the leases on them.
//!
//! The kernel picks a free buffer when bytes are there, so an idle socket holds none. What was received is handed out
//! as [`Lease`]s: owned, writable, disjoint views. When the last lease on a buffer is dropped, the buffer goes back.
//! A slow reader must not pin buffers that others need: while fewer than half are free, bytes are copied to the heap
//! and the buffer goes back at once. It refuses to know sockets, and how buffers reach the kernel.

#![allow(unsafe_code, reason = "leases are views into memory that the kernel fills")]

pub(in crate::io) mod buffer_cache;
pub(in crate::io) mod mapping;
pub(in crate::io) mod memory;
pub(in crate::io) mod provided;

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::io::buffers::buffer_cache::give_back;
use crate::io::buffers::mapping::Mapping;

/// `count` buffers of `size` bytes each.
pub(in crate::io) struct Pool {
    memory: Mapping,
    size: usize,
    /// Leases on each buffer; 0: it is the kernel's, or on its way there.
    holders: Box<[Cell<u32>]>,
    /// Neither leased nor the kernel's; the most recently used last.
    returned: RefCell<Vec<u16>>,
    in_use: Cell<usize>,
    /// Buffers that the kernel has to fill, and how many it ought to have: it fills them in turn, so that few are few
    /// pages touched and a warm cache. As many as are filled in a turn are not enough.
    provided: Cell<usize>,
    depth: Cell<usize>,
    copied: Cell<u64>,
    /// Blocks for large receives that nobody uses, the warmest last.
    spare: RefCell<Vec<Vec<u8>>>,
    blocks_in_use: Cell<usize>,
    /// Blocks in use at once: whoever comes later receives into the small buffers, which is merely slower.
    most_blocks: usize,
}

/// Bytes of a block: what a receive waits for (`GATHER`) and what comes meanwhile.
pub(in crate::io) const BLOCK_BYTES: usize = 256 * 1024;

/// Buffers that the kernel has at first, and again after a rest.
const FIRST_DEPTH: usize = 32;

/// Unused blocks kept; the rest go back to the allocator.
const MAX_SPARE_BLOCKS: usize = 16;

impl Pool {
    pub(in crate::io) fn new(count: u16, size: u32, most_blocks: usize) -> io::Result<Rc<Self>> {
        let memory = Mapping::anonymous(usize::from(count) * size as usize)?;
        Ok(Rc::new(Self {
            memory,
            size: size as usize,
            holders: vec![Cell::new(0); usize::from(count)].into(),
            returned: RefCell::new((0..count).rev().collect()),
            in_use: Cell::new(0),
            provided: Cell::new(0),
            depth: Cell::new(usize::from(count).min(FIRST_DEPTH)),
            copied: Cell::new(0),
            spare: RefCell::default(),
            blocks_in_use: Cell::new(0),
            most_blocks,
        }))
    }

    pub(in crate::io) fn count(&self) -> usize {
        self.holders.len()
    }

    pub(in crate::io) fn size(&self) -> usize {
        self.size
    }

    pub(in crate::io) fn in_use(&self) -> usize {
        self.in_use.get()
    }

    pub(in crate::io) fn free(&self) -> usize {
        self.count() - self.in_use()
    }

    /// Receives that were copied to the heap because buffers were short.
    pub(in crate::io) fn copied(&self) -> u64 {
        self.copied.get()
    }

    /// Where buffer `id` begins.
    pub(in crate::io) fn address(&self, id: u16) -> NonNull<u8> {
        assert!(usize::from(id) < self.count(), "buffer {id} of {}", self.count());
        // SAFETY: the mapping holds count × size bytes and id < count, so the result lies inside it.
        unsafe { self.memory.start().add(usize::from(id) * self.size) }
    }

    /// Moves as many free buffers to `to` as the kernel ought to have more, those used most recently. Twice as many from
    /// now on when it has filled half of them since the last call.
    pub(in crate::io) fn take_returned(&self, to: &mut Vec<u16>) {
        let provided = self.provided.get();
        if provided * 2 < self.depth.get() {
            self.depth.set((self.depth.get() * 2).min(self.count()));
        }
        let mut returned = self.returned.borrow_mut();
        let kept = returned.len().saturating_sub(self.depth.get().saturating_sub(provided));
        to.extend(returned.drain(kept..));
        self.provided.set(provided + to.len());
    }

    /// Lets go of the memory behind free buffers, and of spare blocks.
    pub(in crate::io) fn release_spares(&self) {
        self.depth.set(self.count().min(FIRST_DEPTH));
        self.spare.take();
        let mut free = self.returned.borrow().clone();
        free.sort_unstable();
        for run in free.chunk_by(|one, next| one + 1 == *next) {
            let first = usize::from(run[0]) * self.size;
            self.memory.release(first..first + run.len() * self.size);
        }
    }

    /// Takes over buffer `id`, of which the kernel has filled `length` bytes.
    pub(in crate::io) fn claim(self: &Rc<Self>, id: u16, length: usize) -> Lease {
        let start = self.address(id);
        assert!(length <= self.size, "the kernel filled more than a buffer");
        let holders = &self.holders[usize::from(id)];
        assert_eq!(holders.get(), 0, "the kernel filled a buffer that was not its own");
        holders.set(1);
        self.in_use.set(self.in_use.get() + 1);
        self.provided.set(self.provided.get() - 1);
        let lease = Lease { start, length, backing: Backing::Pool { pool: Rc::clone(self), id } };
        if self.free() * 2 >= self.count() {
            return lease;
        }
        self.copied.set(self.copied.get() + 1);
        Lease::from_vec(lease.to_vec())
    }

    /// A block to receive into (its length is what it holds), unless too many are in use.
    pub(in crate::io) fn block(&self) -> Option<Vec<u8>> {
        let in_use = self.blocks_in_use.get();
        if in_use >= self.most_blocks {
            return None;
        }
        self.blocks_in_use.set(in_use + 1);
        Some(self.spare.borrow_mut().pop().unwrap_or_else(|| vec![0; BLOCK_BYTES]))
    }

    /// Takes over a block, of which the kernel has filled `length` bytes. It comes back when the lease is dropped.
    pub(in crate::io) fn claim_block(self: &Rc<Self>, block: Vec<u8>, length: usize) -> Lease {
        let mut lease = Lease::on_heap(HeapBlock::new(block, Some(Rc::clone(self))));
        lease.truncate(length);
        lease
    }

    fn give_block(&self, block: Vec<u8>) {
        self.blocks_in_use.set(self.blocks_in_use.get() - 1);
        let mut spare = self.spare.borrow_mut();
        if spare.len() < MAX_SPARE_BLOCKS.min(self.most_blocks) {
            spare.push(block);
        }
    }

    fn share(&self, id: u16) {
        let holders = &self.holders[usize::from(id)];
        holders.set(holders.get() + 1);
    }

    fn release(&self, id: u16) {
        let holders = &self.holders[usize::from(id)];
        holders.set(holders.get() - 1);
        if holders.get() == 0 {
            self.in_use.set(self.in_use.get() - 1);
            self.returned.borrow_mut().push(id);
        }
    }
}

/// Bytes of a `Vec` that several leases share, disjointly.
struct HeapBlock {
    start: NonNull<u8>,
    length: usize,
    capacity: usize,
    /// Where it goes when it is free; otherwise to the allocator.
    home: Option<Rc<Pool>>,
}

impl HeapBlock {
    fn new(bytes: Vec<u8>, home: Option<Rc<Pool>>) -> Self {
        let mut bytes = ManuallyDrop::new(bytes);
        let start = NonNull::new(bytes.as_mut_ptr()).expect("a Vec's pointer is never null");
        Self { start, length: bytes.len(), capacity: bytes.capacity(), home }
    }
}

impl Drop for HeapBlock {
    fn drop(&mut self) {
        // SAFETY: the three parts are those of a Vec<u8> that was given up in `new`, and are used here once.
        let bytes = unsafe { Vec::from_raw_parts(self.start.as_ptr(), self.length, self.capacity) };
        match &self.home {
            Some(home) => home.give_block(bytes),
            None => give_back(bytes),
        }
    }
}

enum Backing {
    Pool {
        pool: Rc<Pool>,
        id: u16,
    },
    Heap(Rc<HeapBlock>),
    /// Of no bytes.
    Nothing,
}

impl Clone for Backing {
    fn clone(&self) -> Self {
        match self {
            Backing::Pool { pool, id } => {
                pool.share(*id);
                Backing::Pool { pool: Rc::clone(pool), id: *id }
            }
            Backing::Heap(block) => Backing::Heap(Rc::clone(block)),
            Backing::Nothing => Backing::Nothing,
        }
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        if let Backing::Pool { pool, id } = self {
            pool.release(*id);
        }
    }
}

/// Received bytes: an owned, writable view of a receive buffer or of heap memory. Several leases may share one
/// buffer, but never a byte of it; the buffer is free again when the last of them is dropped.
pub struct Lease {
    start: NonNull<u8>,
    length: usize,
    backing: Backing,
}

impl Lease {
    /// A lease on heap memory, so that made-up bytes can stand in for received ones.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        if bytes.capacity() == 0 {
            return Self { start: NonNull::dangling(), length: 0, backing: Backing::Nothing };
        }
        Self::on_heap(HeapBlock::new(bytes, None))
    }

    fn on_heap(block: HeapBlock) -> Self {
        Self { start: block.start, length: block.length, backing: Backing::Heap(Rc::new(block)) }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Drops the first `count` bytes from the view. `count` is at most [`len`](Self::len).
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.length, "advance by {count} of {}", self.length);
        // SAFETY: count ≤ length, so the result is inside the view or one past its end.
        self.start = unsafe { self.start.add(count) };
        self.length -= count;
    }

    /// Keeps only the first `count` bytes; nothing happens when there are fewer.
    pub fn truncate(&mut self, count: usize) {
        self.length = self.length.min(count);
    }

    /// Splits the first `count` bytes off; `self` keeps the rest. `count` is at most [`len`](Self::len).
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Lease {
        let mut head = Lease { start: self.start, length: self.length, backing: self.backing.clone() };
        self.advance(count);
        head.truncate(count);
        head
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the view lies in memory that `backing` keeps alive, which is initialised (zeroed by the kernel or
        // written by a Vec) and which nobody else writes: views are disjoint, and the kernel gave the buffer up.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` is the only way to these bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.backing {
            Backing::Pool { id, .. } => format!("buffer {id}"),
            Backing::Heap(_) => "heap".to_owned(),
            Backing::Nothing => "nowhere".to_owned(),
        };
        write!(f, "Lease({} bytes, {place})", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pool: &Rc<Pool>, id: u16, bytes: &[u8]) -> Lease {
        let mut lease = pool.claim(id, bytes.len());
        lease.copy_from_slice(bytes);
        lease
    }

    #[test]
    fn leases_of_one_buffer_are_disjoint_and_return_it_once() {
        let pool = Pool::new(8, 64, 1).unwrap();
        let mut returned = Vec::new();
        pool.take_returned(&mut returned);
        assert_eq!(returned.len(), 8, "all buffers begin free");
        returned.clear();

        let mut rest = filled(&pool, 3, b"head body tail");
        let mut head = rest.split_to(4);
        rest.advance(1);
        let body = rest.split_to(4);
        head.make_ascii_uppercase();
        rest.truncate(3);
        assert_eq!((&head[..], &body[..], &rest[..]), (&b"HEAD"[..], &b"body"[..], &b" ta"[..]));

        drop(head);
        drop(rest);
        assert_eq!(pool.in_use(), 1);
        drop(body);
        assert_eq!(pool.in_use(), 0);
        pool.take_returned(&mut returned);
        assert_eq!(returned, [3]);
    }

    #[test]
    fn scarce_buffers_are_copied_out_and_return_at_once() {
        let pool = Pool::new(4, 64, 1).unwrap();
        let mut provided = Vec::new();
        pool.take_returned(&mut provided);
        assert_eq!(provided.len(), 4, "the kernel has them all");
        let kept: Vec<Lease> = (0..4).map(|id| filled(&pool, id, &[id as u8; 10])).collect();
        assert_eq!(pool.in_use(), 2, "the third and fourth lease live on the heap");
        assert_eq!(pool.copied(), 2);
        drop(kept);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn heap_leases_outlive_their_siblings() {
        let mut rest = Lease::from_vec(b"abcdef".to_vec());
        let head = rest.split_to(2);
        drop(head);
        rest[0] = b'C';
        assert_eq!(&rest[..], b"Cdef");
        let mut empty = Lease::from_vec(Vec::new());
        assert!(empty.split_to(0).is_empty());
    }

    #[test]
    #[should_panic(expected = "advance by 2 of 1")]
    fn a_lease_cannot_pass_its_end() {
        Lease::from_vec(vec![0]).advance(2);
    }
}
