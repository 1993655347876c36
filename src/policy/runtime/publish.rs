//! How the control thread hands what it computed to the workers: a pointer that is swapped, never locked.
//!
//! The only user of `arc-swap`.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

/// A value that is replaced as a whole, and read by many threads meanwhile. Cloning shares it.
#[derive(Debug)]
pub struct Published<T>(Arc<ArcSwap<T>>);

impl<T> Clone for Published<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Published<T> {
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// The value of this moment; it stays alive as long as the guard.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// As [`load`](Self::load), for holding across a wait.
    #[must_use]
    pub fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    pub fn publish(&self, value: T) {
        self.0.store(Arc::new(value));
    }

    /// Replaces the value by what `change` makes of it; `change` is asked again when another thread was quicker.
    pub fn update(&self, mut change: impl FnMut(&T) -> T) {
        self.0.rcu(|value| change(value));
    }
}

/// The addresses of one endpoint: fixed, or the latest good answer for its name.
pub type Addresses = Published<Vec<IpAddr>>;
