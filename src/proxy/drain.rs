//! The end of a worker's service, seen from its connections: has it begun, and wake me when it does.
//!
//! It closes nothing itself. One thread, so that a flag and a list of wakers are enough.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// Whether the process drains: answers carry `Connection: close` then, and idle connections end.
#[derive(Debug, Default)]
pub struct Drain {
    on: Cell<bool>,
    waiting: RefCell<Slab<Waker>>,
}

impl Drain {
    /// Begins; for good.
    pub fn begin(&self) {
        self.on.set(true);
        // Those who wait take themselves off the list.
        let wakers: Vec<Waker> = self.waiting.borrow().iter().map(|(_, waker)| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.on.get()
    }

    /// Resolves when it has begun.
    #[must_use]
    pub fn begun(&self) -> Begun<'_> {
        Begun { drain: self, key: None }
    }
}

/// See [`Drain::begun`].
#[derive(Debug)]
pub struct Begun<'d> {
    drain: &'d Drain,
    /// Its place in the list.
    key: Option<usize>,
}

impl Future for Begun<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        if self.drain.has_begun() {
            return Poll::Ready(());
        }
        let drain = self.drain;
        let mut waiting = drain.waiting.borrow_mut();
        match self.key {
            Some(key) => waiting[key].clone_from(task.waker()),
            None => self.key = Some(waiting.insert(task.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.drain.waiting.borrow_mut().remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once, zip};

    use super::*;

    #[test]
    fn those_who_wait_are_woken_and_leave_nothing() {
        let drain = Drain::default();
        block_on(async {
            {
                let mut gone = drain.begun();
                assert_eq!(poll_once(&mut gone).await, None);
                assert_eq!(drain.waiting.borrow().len(), 1);
            }
            assert!(drain.waiting.borrow().is_empty());
            let both = zip(drain.begun(), drain.begun());
            zip(both, async { drain.begin() }).await;
            drain.begun().await;
        });
        assert!(drain.has_begun() && drain.waiting.borrow().is_empty());
    }
}
