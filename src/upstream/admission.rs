//! Who may open a connection now, where `connectionPool` limits how many there are.
//!
//! The counts are the process's ([`Occupancy`]); who waits is this worker's affair. A worker without a connection to a
//! cluster may always open one, as in Envoy: so whoever waits can count on a connection of its own worker coming free,
//! and no worker has to wake another. `max(maxConnections, workers)` connections can therefore be open.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::policy::{Cluster, Occupancy};

/// One worker's part of the limited clusters.
#[derive(Default)]
pub(super) struct Admission {
    /// By the address of the counts, which the share keeps alive.
    shares: RefCell<HashMap<*const Occupancy, Rc<Share>>>,
}

impl Admission {
    pub(super) fn share(&self, cluster: &Cluster) -> Rc<Share> {
        let mut shares = self.shares.borrow_mut();
        let share = shares.entry(Arc::as_ptr(&cluster.occupancy)).or_insert_with(|| Share::new(&cluster.occupancy));
        Rc::clone(share)
    }

    /// Forgets clusters that nothing is connected to and nobody waits for.
    pub(super) fn forget_unused(&self) {
        self.shares.borrow_mut().retain(|_, share| Rc::strong_count(share) > 1);
    }
}

/// This worker's connections to one cluster, and its requests that wait for one.
pub(super) struct Share {
    occupancy: Arc<Occupancy>,
    open: Cell<u32>,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    last: Cell<u64>,
}

impl Share {
    fn new(occupancy: &Arc<Occupancy>) -> Rc<Self> {
        let occupancy = Arc::clone(occupancy);
        Rc::new(Self { occupancy, open: Cell::new(0), waiting: RefCell::default(), last: Cell::new(0) })
    }

    /// The right to one more connection, if there may be one.
    pub(super) fn try_open(self: &Rc<Self>, limit: Option<u32>) -> Option<Slot> {
        match limit {
            Some(limit) if self.open.get() > 0 => self.occupancy.connections.try_enter(limit).then_some(())?,
            _ => self.occupancy.connections.enter(),
        }
        self.open.set(self.open.get() + 1);
        Some(Slot(Rc::clone(self)))
    }

    /// A place among the requests without a connection, if there may be one more.
    pub(super) fn try_wait(self: &Rc<Self>, limit: Option<u32>) -> Option<Pending> {
        let admitted = self.occupancy.pending.try_enter(limit.unwrap_or(u32::MAX));
        admitted.then(|| Pending(Rc::clone(self)))
    }

    /// A connection has become free, or there is room for one: the request that waits longest is woken.
    pub(super) fn release(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }

    /// Resolves at a [`release`](Self::release). Who has waited before (`again`) goes before those who have not.
    pub(super) async fn released(&self, again: bool) {
        let mut place = Place { share: self, ticket: self.last.get() + 1, is_served: false };
        self.last.set(place.ticket);
        let mut queued = false;
        poll_fn(|cx| {
            let mut waiting = self.waiting.borrow_mut();
            let entry = (place.ticket, cx.waker().clone());
            match waiting.iter().position(|(ticket, _)| *ticket == place.ticket) {
                Some(at) => waiting[at] = entry,
                None if queued => return Poll::Ready(()),
                None if again => waiting.push_front(entry),
                None => waiting.push_back(entry),
            }
            queued = true;
            Poll::Pending
        })
        .await;
        place.is_served = true;
    }
}

/// A place in the queue. One that is given up after it was woken wakes the next instead.
struct Place<'s> {
    share: &'s Share,
    ticket: u64,
    is_served: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_served {
            return;
        }
        let mut waiting = self.share.waiting.borrow_mut();
        if let Some(at) = waiting.iter().position(|(ticket, _)| *ticket == self.ticket) {
            waiting.remove(at);
        } else {
            drop(waiting);
            self.share.release();
        }
    }
}

/// One open connection in the counts; it lives and ends with the connection.
pub(super) struct Slot(Rc<Share>);

impl Slot {
    pub(super) fn share(&self) -> &Rc<Share> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.occupancy.connections.leave();
        self.0.release();
    }
}

/// One request without a connection in the counts.
pub(super) struct Pending(Rc<Share>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.occupancy.pending.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn limits_hold_for_all_workers_and_each_may_have_one() {
        let occupancy = Arc::default();
        let (near, far) = (Share::new(&occupancy), Share::new(&occupancy));
        let first = near.try_open(Some(2)).unwrap();
        let second = near.try_open(Some(2)).unwrap();
        assert!(near.try_open(Some(2)).is_none());
        let third = far.try_open(Some(2)).expect("a worker without one may have one");
        assert!(far.try_open(Some(2)).is_none());
        drop((first, second, third));
        assert_eq!(occupancy.connections.now(), 0);
        assert!(near.try_wait(Some(1)).is_some_and(|_pending| far.try_wait(Some(1)).is_none()));
        assert!(far.try_wait(Some(1)).is_some(), "the place was given back");
    }

    #[test]
    fn a_release_serves_the_one_that_waits_longest() {
        let share = Share::new(&Arc::default());
        let mut first = pin!(share.released(false));
        let mut second = pin!(share.released(false));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        share.release();
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(first.as_mut()).is_ready());
        let mut again = pin!(share.released(true));
        assert!(poll(again.as_mut()).is_pending());
        share.release();
        assert!(poll(second.as_mut()).is_pending() && poll(again.as_mut()).is_ready());
    }

    #[test]
    fn a_release_is_passed_on_by_one_who_left() {
        let share = Share::new(&Arc::default());
        let mut first = Box::pin(share.released(false));
        let mut second = pin!(share.released(false));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        share.release();
        drop(first);
        assert!(poll(second.as_mut()).is_ready());
        assert!(share.waiting.borrow().is_empty());
    }
}
