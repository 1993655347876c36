//! What the kernel is working on: each operation with everything that it refers to.
//!
//! A slot owns the socket, the buffers and the addresses of its operation until the last completion; there is no other
//! owner that could free them earlier. An id carries the slot's generation, so a completion that comes late can
//! neither find the slot's next user nor free anything twice.

#![allow(unsafe_code, reason = "the driver's contract is met here, where the memory is owned")]

use std::os::fd::AsRawFd;
use std::rc::Rc;

use crate::io::driver::{Driver, Manner, OpId, Submission};
use crate::io::executor::Remote;
use crate::io::socket::batch::Batch;
use crate::io::socket::connect::Connecting;
use crate::io::socket::connection::Connection;
use crate::io::socket::listener::Accepting;

/// An operation and what it keeps alive.
pub(in crate::io) enum Operation {
    /// One connection, or many.
    Accept(Rc<Accepting>, bool),
    /// With the number of bytes after which it is to end.
    Receive(Rc<Connection>, u32),
    /// Into a block; whether it waits for the socket's low-water mark.
    ReceiveInto(Rc<Connection>, Vec<u8>, bool),
    Send(Rc<Connection>, Batch, Manner),
    Connect(Rc<Connection>, Rc<Connecting>),
    ReadEvent(Remote, Box<u64>),
}

impl Operation {
    fn submission(&mut self) -> Submission {
        match self {
            Operation::Accept(accepting, many) => Submission::Accept { fd: accepting.descriptor(), many: *many },
            Operation::Receive(connection, limit) => Submission::Receive { fd: connection.descriptor(), limit: *limit },
            Operation::ReceiveInto(connection, space, gather) => Submission::ReceiveInto {
                fd: connection.descriptor(),
                start: space.as_mut_ptr(),
                length: u32::try_from(space.len()).unwrap_or(u32::MAX),
                gather: *gather,
            },
            Operation::Send(connection, batch, manner) => {
                let (fd, manner) = (connection.descriptor(), *manner);
                let length = u32::try_from(batch.len()).unwrap_or(u32::MAX);
                match batch.single() {
                    Some(piece) => Submission::Send { fd, start: piece.as_ptr(), length, manner },
                    None => Submission::SendMany { fd, header: batch.header(), length, manner },
                }
            }
            Operation::Connect(connection, connecting) => Submission::Connect {
                fd: connection.descriptor(),
                address: connecting.address().as_ptr().cast(),
                length: connecting.address().len(),
            },
            Operation::ReadEvent(remote, count) => {
                Submission::ReadEvent { fd: remote.event().as_raw_fd(), into: &raw mut **count }
            }
        }
    }
}

/// All operations that are in the kernel.
#[derive(Default)]
pub(in crate::io) struct Operations {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    operation: Option<Operation>,
}

impl Operations {
    /// Operations that the kernel has not finished.
    pub(in crate::io) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Starts `operation`.
    pub(in crate::io) fn start(&mut self, driver: &mut dyn Driver, operation: Operation) -> OpId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("operations are bounded, far below 2³²")
        });
        let slot = &mut self.slots[index as usize];
        let id = OpId::new(index as usize, slot.generation);
        let submission = slot.operation.insert(operation).submission();
        // SAFETY: the descriptor and the memory belong to the operation, which rests in its slot, untouched, until
        // `finish` is called for the last completion of `id`. All of it is behind a Box, Rc, Vec or Bytes, so it does
        // not move with the slot. A table that is dropped earlier (see `abandon`) leaks it instead of freeing it.
        unsafe { driver.submit(id, &submission) };
        id
    }

    /// The operation that `id` names, if the kernel still has it.
    pub(in crate::io) fn find(&self, id: OpId) -> Option<&Operation> {
        let slot = self.slots.get(id.slot())?;
        if slot.generation != id.generation() {
            return None;
        }
        slot.operation.as_ref()
    }

    /// Takes the operation that `id` names, its last completion having arrived.
    pub(in crate::io) fn finish(&mut self, id: OpId) -> Option<Operation> {
        let index = id.slot();
        let slot = self.slots.get_mut(index)?;
        if slot.generation != id.generation() {
            return None;
        }
        let operation = slot.operation.take()?;
        slot.generation = (slot.generation + 1) & OpId::MAX_GENERATION;
        self.free.push(index as u32);
        Some(operation)
    }

    /// The ids of all operations in the kernel.
    pub(in crate::io) fn ids(&self) -> impl Iterator<Item = OpId> {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.operation.is_some());
        used.map(|(index, slot)| OpId::new(index, slot.generation))
    }

    /// Leaks whatever the kernel may still use.
    pub(in crate::io) fn abandon(&mut self) {
        for slot in &mut self.slots {
            std::mem::forget(slot.operation.take());
        }
        self.slots.clear();
        self.free.clear();
    }
}

impl Drop for Operations {
    fn drop(&mut self) {
        self.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::driver::queries::Queries;
    use crate::io::driver::{Completion, DriverCounters, Wait};
    use crate::io::executor::Executor;

    /// Takes operations and never completes them.
    struct Silent;

    impl Queries for Silent {}

    impl Driver for Silent {
        unsafe fn submit(&mut self, _: OpId, _: &Submission) {}
        fn cancel(&mut self, _: OpId) {}
        fn provide(&mut self, _: &mut Vec<u16>) {}
        fn turn(&mut self, _: Wait, _: &mut Vec<Completion>) -> std::io::Result<()> {
            Ok(())
        }
        fn can_batch(&self) -> bool {
            false
        }
        fn counters(&self) -> DriverCounters {
            DriverCounters::default()
        }
    }

    #[test]
    fn a_late_completion_does_not_reach_the_next_user_of_a_slot() {
        let executor = Executor::new().unwrap();
        let read = || Operation::ReadEvent(executor.remote(), Box::new(0));
        let mut operations = Operations::default();
        let first = operations.start(&mut Silent, read());
        assert!(operations.finish(first).is_some());
        let second = operations.start(&mut Silent, read());
        assert_eq!((first.slot(), first == second), (second.slot(), false), "one slot, two ids");
        assert!(operations.find(first).is_none() && operations.finish(first).is_none());
        assert_eq!(operations.in_flight(), 1);
        assert!(operations.finish(second).is_some() && operations.finish(second).is_none());
        assert_eq!(operations.in_flight(), 0);
    }
}
