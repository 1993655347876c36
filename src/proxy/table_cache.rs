//! The policy table as one worker's requests share it.
//!
//! The count of the process's pointer is a cache line that all workers would write for each request. So a worker holds one
//! count of it, and its requests count for themselves.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::Guard;

use crate::policy::PolicyTable;
use crate::policy::publish::Published;

/// The published table, and the one that this worker has seen last.
pub struct TableCache {
    published: Published<PolicyTable>,
    #[allow(clippy::redundant_allocation, reason = "the outer count is the worker's own")]
    seen: RefCell<Rc<Arc<PolicyTable>>>,
}

impl TableCache {
    #[must_use]
    pub fn new(published: Published<PolicyTable>) -> Self {
        let seen = RefCell::new(Rc::new(published.load_full()));
        Self { published, seen }
    }

    /// The table of this moment, for a look at it.
    pub fn load(&self) -> Guard<Arc<PolicyTable>> {
        self.published.load()
    }

    /// The table of this moment, for holding across a wait.
    #[allow(clippy::redundant_allocation, reason = "the outer count is the worker's own")]
    pub fn table(&self) -> Rc<Arc<PolicyTable>> {
        let now = self.published.load();
        let mut seen = self.seen.borrow_mut();
        if !Arc::ptr_eq(&now, &seen) {
            *seen = Rc::new(Arc::clone(&now));
        }
        Rc::clone(&seen)
    }
}
