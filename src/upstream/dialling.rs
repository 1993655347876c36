//! Connects under way that others may wait for: what comes of them can be shared.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::RandomState;

use super::pool::PoolKey;

/// One worker's connects under way.
#[derive(Default)]
pub(super) struct Connects(RefCell<HashMap<PoolKey, Vec<Rc<Dialling>>, RandomState>>);

/// One connect under way.
#[derive(Default)]
pub(super) struct Dialling {
    outcome: Cell<Option<Dialled>>,
    waiting: RefCell<HashMap<u64, Option<Waker>, RandomState>>,
    last: Cell<u64>,
}

/// What came of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialled {
    /// There is a connection.
    Up,
    /// There is one that cannot be shared.
    Alone,
    Failed,
    /// Whoever dialled has lost interest.
    Abandoned,
}

impl Connects {
    /// Announces a connect. It is over when what this returns is.
    pub(super) fn begin(&self, key: &PoolKey) -> Announced<'_> {
        let dialling = Rc::new(Dialling::default());
        self.0.borrow_mut().entry(key.clone()).or_default().push(Rc::clone(&dialling));
        Announced { connects: self, key: key.clone(), dialling, outcome: Dialled::Abandoned }
    }

    /// A place behind whoever dials `key` now, of whom at most `most` others wait for each.
    pub(super) fn join(&self, key: &PoolKey, most: usize) -> Option<Joined> {
        let connects = self.0.borrow();
        let dialling = connects.get(key)?.iter().find(|dialling| dialling.waiting.borrow().len() < most)?;
        let ticket = dialling.last.get() + 1;
        dialling.last.set(ticket);
        dialling.waiting.borrow_mut().insert(ticket, None);
        Some(Joined { dialling: Rc::clone(dialling), ticket })
    }
}

/// A connect that others see.
pub(super) struct Announced<'c> {
    connects: &'c Connects,
    key: PoolKey,
    dialling: Rc<Dialling>,
    outcome: Dialled,
}

impl Announced<'_> {
    pub(super) fn finish(mut self, outcome: Dialled) {
        self.outcome = outcome;
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        let mut connects = self.connects.0.borrow_mut();
        if let Some(of_key) = connects.get_mut(&self.key) {
            of_key.retain(|other| !Rc::ptr_eq(other, &self.dialling));
            if of_key.is_empty() {
                connects.remove(&self.key);
            }
        }
        self.dialling.outcome.set(Some(self.outcome));
        for waker in self.dialling.waiting.borrow_mut().values_mut().filter_map(Option::take) {
            waker.wake();
        }
    }
}

/// A wait for somebody else's connect: resolves with what came of it.
pub(super) struct Joined {
    dialling: Rc<Dialling>,
    ticket: u64,
}

impl Future for Joined {
    type Output = Dialled;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Dialled> {
        if let Some(outcome) = self.dialling.outcome.get() {
            return Poll::Ready(outcome);
        }
        self.dialling.waiting.borrow_mut().insert(self.ticket, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.dialling.waiting.borrow_mut().remove(&self.ticket);
    }
}
