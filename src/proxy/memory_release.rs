//! Gives back what a busy worker has needed, when it is quiet again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::io;

/// A worker is quiet when it has had few completions for so long: longer than idle connections take to be swept.
const QUIET_AFTER: Duration = Duration::from_millis(1500);
const FEW_COMPLETIONS: u64 = 64;
/// What must have happened for giving memory back to be worth its while.
const MANY_COMPLETIONS: u64 = 1024;

/// Whether this worker is busy, and when it last gave memory back.
#[derive(Default)]
pub struct MemoryRelease {
    /// A task waits for the end of what this worker is busy with.
    is_busy: Cell<bool>,
    /// The engine's completions when memory was last given back.
    released_at: Cell<u64>,
}

impl MemoryRelease {
    /// Something is to be done: when it is over, what was needed for it is given back.
    pub fn note_busy(self: &Rc<Self>) {
        if !self.is_busy.replace(true) {
            let release = Rc::clone(self);
            io::spawn(async move { release.when_quiet().await });
        }
    }

    async fn when_quiet(&self) {
        let completions = || io::stats().completions;
        let mut before = completions();
        loop {
            io::sleep(QUIET_AFTER).await;
            let now = completions();
            let is_quiet = now.saturating_sub(before) < FEW_COMPLETIONS;
            before = now;
            if is_quiet {
                break;
            }
        }
        self.is_busy.set(false);
        // What the first requests needed, above all the code of handshakes, is needed seldom afterwards.
        let is_first = self.released_at.get() == 0;
        if is_first || before.saturating_sub(self.released_at.get()) >= MANY_COMPLETIONS {
            self.released_at.set(before);
            io::release_spares();
            io::release_heap();
            io::release_program();
        }
    }
}
