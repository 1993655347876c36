//! Tasks of one thread: the run queue, waking it from elsewhere, and containing panics.
//!
//! A task never leaves its thread, but its waker may: one woken on another thread travels through a locked queue and an
//! eventfd that the engine reads. It refuses to know what tasks wait for.

pub(in crate::io) mod timer;
pub(in crate::io) mod waiters;
pub(in crate::io) mod wheel;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use async_task::Runnable;
use nix::sys::eventfd::{EfdFlags, EventFd};
use slab::Slab;

use crate::io::executor::waiters::Waiters;

/// Tasks woken while tasks run are run in the same turn, this many times over; then the ring has its turn. A task that
/// is always ready therefore cannot keep completions and timers from being seen.
const ROUNDS_PER_TURN: usize = 4;

thread_local! {
    /// Tasks ready to run. One queue is enough, since a thread has at most one engine.
    static READY: RefCell<VecDeque<Runnable>> = const { RefCell::new(VecDeque::new()) };
    /// Whose tasks run on this thread.
    static OWNER: Cell<usize> = const { Cell::new(0) };
}

/// Wakes an engine from any thread.
#[derive(Clone)]
pub struct Remote(Arc<Shared>);

/// What other threads may touch.
struct Shared {
    /// Tells engines apart, dead ones included.
    engine: usize,
    event: EventFd,
    /// The eventfd has been written and not yet read.
    signalled: AtomicBool,
    /// [`Remote::wake`] was called and no [`woken`](super::woken) has seen it.
    woken: AtomicBool,
    main_ready: AtomicBool,
    arrived: Mutex<Vec<Runnable>>,
}

impl Remote {
    fn new() -> io::Result<Self> {
        static ENGINES: AtomicUsize = AtomicUsize::new(1);
        // Blocking, since io_uring answers EAGAIN at once for a non-blocking eventfd instead of waiting.
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        Ok(Self(Arc::new(Shared {
            engine: ENGINES.fetch_add(1, Ordering::Relaxed),
            event,
            signalled: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            main_ready: AtomicBool::new(true),
            arrived: Mutex::default(),
        })))
    }

    /// Makes [`woken`](super::woken) resolve on the engine's thread. Several calls before that count as one.
    pub fn wake(&self) {
        self.0.woken.store(true, Ordering::Release);
        self.0.signal();
    }

    pub(in crate::io) fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

impl Shared {
    fn is_mine(&self) -> bool {
        OWNER.try_with(Cell::get) == Ok(self.engine)
    }

    fn signal(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            // The count stays far below the limit at which a write would block: one write for each read.
            if let Err(error) = self.event.write(1) {
                tracing::error!(%error, "cannot wake a worker");
            }
        }
    }

    fn schedule(&self, task: Runnable) {
        if self.is_mine() {
            READY.with_borrow_mut(|ready| ready.push_back(task));
        } else {
            self.arrived.lock().unwrap_or_else(PoisonError::into_inner).push(task);
            self.signal();
        }
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.main_ready.store(true, Ordering::Release);
        if !self.is_mine() {
            self.signal();
        }
    }
}

/// The tasks of this thread's engine.
pub(in crate::io) struct Executor {
    remote: Remote,
    alive: Rc<RefCell<Slab<Waker>>>,
    woken: RefCell<Waiters>,
    panics: Cell<u64>,
}

impl Executor {
    /// Makes this thread's executor; the thread has no other.
    pub(in crate::io) fn new() -> io::Result<Self> {
        let remote = Remote::new()?;
        OWNER.set(remote.0.engine);
        Ok(Self { remote, alive: Rc::default(), woken: RefCell::default(), panics: Cell::new(0) })
    }

    pub(in crate::io) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    pub(in crate::io) fn main_waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.remote.0))
    }

    /// Does the main future want to be polled? Asked once for each waking.
    pub(in crate::io) fn take_main_ready(&self) -> bool {
        self.remote.0.main_ready.swap(false, Ordering::AcqRel)
    }

    pub(in crate::io) fn tasks(&self) -> usize {
        self.alive.borrow().len()
    }

    pub(in crate::io) fn panics(&self) -> u64 {
        self.panics.get()
    }

    pub(in crate::io) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let shared = Arc::clone(&self.remote.0);
        let place = self.alive.borrow_mut().insert(Waker::noop().clone());
        let listed = Listed { alive: Rc::clone(&self.alive), place };
        // Boxed here, since a block that awaits what it captured is twice as large: once captured, once awaited.
        let future = Box::pin(future);
        let listed_future = async move {
            let _listed = listed;
            future.await;
        };
        let (runnable, task) = async_task::spawn_local(listed_future, move |task| shared.schedule(task));
        self.alive.borrow_mut()[place] = runnable.waker();
        task.detach();
        runnable.schedule();
    }

    /// Is there anything to run without waiting?
    pub(in crate::io) fn is_ready(&self) -> bool {
        self.remote.0.main_ready.load(Ordering::Acquire) || READY.with_borrow(|ready| !ready.is_empty())
    }

    /// Runs what is ready, within a turn's budget.
    pub(in crate::io) fn run_ready(&self) {
        for _ in 0..ROUNDS_PER_TURN {
            let count = READY.with_borrow(VecDeque::len);
            if count == 0 {
                break;
            }
            for _ in 0..count {
                let Some(task) = READY.with_borrow_mut(VecDeque::pop_front) else { break };
                self.run(task);
            }
        }
    }

    fn run(&self, task: Runnable) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| task.run())) else { return };
        self.panics.set(self.panics.get() + 1);
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        tracing::error!(panic = text, "a task panicked; its connection is closed, others are not affected");
    }

    /// The eventfd was read: fetches what other threads have woken.
    pub(in crate::io) fn on_signal(&self) {
        let shared = &self.remote.0;
        // Before the queue is emptied: whoever pushes later signals again.
        shared.signalled.store(false, Ordering::Release);
        let mut arrived = shared.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        READY.with_borrow_mut(|ready| ready.extend(arrived.drain(..)));
        drop(arrived);
        if shared.woken.load(Ordering::Acquire) {
            let waiting = self.woken.borrow_mut().take();
            waiting.wake();
        }
    }

    pub(in crate::io) fn poll_woken(&self, cx: &Context<'_>) -> Poll<()> {
        if self.remote.0.woken.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        self.woken.borrow_mut().add(cx.waker());
        Poll::Pending
    }

    /// Drops every task.
    pub(in crate::io) fn clear(&self) {
        while self.tasks() > 0 {
            let alive: Vec<Waker> = self.alive.borrow().iter().map(|(_, waker)| waker.clone()).collect();
            alive.into_iter().for_each(Waker::wake);
            // A task that another thread is waking at this moment arrives within a few instructions.
            self.on_signal();
            while let Some(task) = READY.with_borrow_mut(VecDeque::pop_front) {
                drop(task);
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.clear();
        OWNER.set(0);
    }
}

/// Keeps a task on the list of living ones.
struct Listed {
    alive: Rc<RefCell<Slab<Waker>>>,
    place: usize,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let waker = self.alive.borrow_mut().try_remove(self.place);
        drop(waker);
    }
}
