//! Tasks that wait for one thing: usually none or one, so one is kept without allocating.

use std::task::Waker;

#[derive(Default)]
pub(in crate::io) struct Waiters {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Waiters {
    /// Adds `waker` unless its task waits already.
    pub(in crate::io) fn add(&mut self, waker: &Waker) {
        if self.first.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        if self.first.is_none() {
            self.first = Some(waker.clone());
        } else if !self.others.iter().any(|known| known.will_wake(waker)) {
            self.others.push(waker.clone());
        }
    }

    /// Takes all, so that they can be woken after the borrow that guards the list has ended.
    #[must_use]
    pub(in crate::io) fn take(&mut self) -> Waiters {
        std::mem::take(self)
    }

    pub(in crate::io) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(in crate::io) fn wake(self) {
        self.first.into_iter().chain(self.others).for_each(Waker::wake);
    }
}
