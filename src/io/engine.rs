//! The engine of a thread: the loop that runs tasks and turns the reactor, and what the thread's code reaches it by.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use crate::io::bounds::{Bounds, EngineKind, EngineOptions};
use crate::io::buffers::Pool;
use crate::io::driver::Driver;
use crate::io::driver::epoll::Epoll;
use crate::io::driver::probe::{EngineError, classify};
use crate::io::driver::uring::Uring;
use crate::io::executor::{Executor, Remote};
use crate::io::reactor::Reactor;
use crate::io::shedding::Shedding;
use crate::io::socket::operations::Operation;

/// How long a dropped engine waits for the kernel to let go of its operations.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// How long a dropped engine goes on sending what its tasks had queued. Draining is for whoever runs the engine.
const FAREWELL: Duration = Duration::from_secs(1);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Context>>> = const { RefCell::new(None) };
}

/// What the free functions and constructors of this module reach.
pub(super) struct Context {
    pub(super) reactor: Rc<Reactor>,
    pub(super) executor: Executor,
}

pub(super) fn context() -> Rc<Context> {
    CURRENT.with_borrow(Clone::clone).expect("called on a thread that has an engine")
}

/// As [`context`], for a look at it only.
pub(super) fn with_context<T>(look: impl FnOnce(&Context) -> T) -> T {
    CURRENT.with_borrow(|current| look(current.as_ref().expect("called on a thread that has an engine")))
}

/// A worker's engine. It lives on the thread that made it; a thread has at most one.
pub struct Engine {
    context: Rc<Context>,
    _not_send: PhantomData<*const ()>,
}

impl Engine {
    /// Sets up the driver, its buffers and this thread's executor.
    ///
    /// # Errors
    /// Why this host cannot run it, and what to do about that.
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        Self::on(options, |options, pool| {
            Ok(match options.kind {
                EngineKind::Uring => Box::new(Uring::new(options, pool)?),
                EngineKind::Epoll => Box::new(Epoll::new(pool)?),
            })
        })
    }

    /// As [`new`](Self::new), on the driver that `driver` makes.
    pub(super) fn on(
        options: EngineOptions,
        driver: impl FnOnce(&EngineOptions, &Rc<Pool>) -> Result<Box<dyn Driver>, EngineError>,
    ) -> Result<Self, EngineError> {
        let options = options.checked();
        if CURRENT.with_borrow(Option::is_some) {
            return Err(EngineError::Occupied);
        }
        let pool = Pool::new(options.recv_buffers, options.recv_buffer_bytes, options.recv_blocks)
            .map_err(|error| classify(error, "mapping receive buffers"))?;
        let driver = driver(&options, &pool)?;
        let executor = Executor::new().map_err(|error| classify(error, "making an eventfd"))?;
        let context = Rc::new(Context { reactor: Reactor::new(driver, pool, options), executor });
        context.listen_for_signals();
        CURRENT.set(Some(Rc::clone(&context)));
        Ok(Self { context, _not_send: PhantomData })
    }

    /// Drives `main` and every spawned task until `main` is done. The others rest until the next call.
    pub fn run<F: Future>(&mut self, main: F) -> F::Output {
        let Context { reactor, executor } = &*self.context;
        let waker = executor.main_waker();
        let mut cx = TaskContext::from_waker(&waker);
        let mut main = pin!(main);
        loop {
            if executor.take_main_ready()
                && let Poll::Ready(output) = main.as_mut().poll(&mut cx)
            {
                waker.wake_by_ref();
                return output;
            }
            executor.run_ready();
            reactor.turn(executor.is_ready()).expect("a ring that was set up can be entered");
            if reactor.take_signalled() {
                executor.on_signal();
                self.context.listen_for_signals();
            }
        }
    }

    /// What can be in use at once.
    pub fn bounds(&self) -> Bounds {
        Bounds::of(&self.context.reactor.options)
    }

    /// How often accepting stops, and whether it rests now; for other threads to read.
    pub fn shedding(&self) -> Arc<Shedding> {
        Arc::clone(&self.context.reactor.shedding)
    }

    /// Wakes this engine from other threads.
    pub fn remote(&self) -> Remote {
        self.context.executor.remote()
    }
}

impl Context {
    fn listen_for_signals(&self) {
        self.reactor.start(Operation::ReadEvent(self.executor.remote(), Box::new(0)));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Tasks first, while what they hold still works; then the kernel.
        self.context.executor.clear();
        self.context.reactor.shut_down(FAREWELL, SHUTDOWN_PATIENCE);
        CURRENT.set(None);
    }
}

/// Runs `task` on this thread's engine. A panic ends that task only; it is counted and reported.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    context().executor.spawn(task);
}

/// Resolves after the next [`Remote::wake`], or at once when there was one since the last time.
pub async fn woken() {
    let context = context();
    poll_fn(|cx| context.executor.poll_woken(cx)).await;
}

/// Lets this thread's listeners accept, or leaves connections in the backlog: memory is short.
pub fn allow_accepting(allowed: bool) {
    context().reactor.allow_accepting(allowed);
}

/// Gives back the memory that this thread's engine keeps for being busy: buffers beyond the first few, which are had
/// again when they are needed. For when there is nothing to do.
pub fn release_spares() {
    context().reactor.pool.release_spares();
    crate::io::buffers::buffer_cache::clear();
}

/// Figures of an engine, since it began or (where marked) now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Times the kernel was entered to submit and wait.
    pub turns: u64,
    pub submissions: u64,
    pub completions: u64,
    /// Now: receive buffers that leases hold.
    pub recv_buffers_in_use: usize,
    /// Receives that were copied to the heap because fewer than half of the buffers were free.
    pub recv_copies: u64,
    /// Receives that ended because no buffer was free.
    pub enobufs: u64,
    /// Turns in which the completion queue had overflown (nothing is lost by that, but time).
    pub cq_overflows: u64,
    /// Pauses of accepting: too few descriptors, or as many connections as allowed.
    pub accept_pauses: u64,
    /// Now: sockets whose descriptor is open, accepted and connected.
    pub open_sockets: usize,
    /// Now: operations in the kernel; an idle engine has one, which waits for other threads.
    pub operations: usize,
    /// Now: alarms set.
    pub timers: usize,
    /// Now: spawned tasks that have not ended.
    pub tasks: usize,
    pub task_panics: u64,
}

/// The figures of this thread's engine.
pub fn stats() -> EngineStats {
    let context = context();
    let Context { reactor, executor } = &*context;
    let (counters, driver) = (&reactor.counters, reactor.driver_counters());
    EngineStats {
        turns: counters.turns.get(),
        submissions: driver.submissions,
        completions: driver.completions,
        recv_buffers_in_use: reactor.pool.in_use(),
        recv_copies: reactor.pool.copied(),
        enobufs: counters.enobufs.get(),
        cq_overflows: driver.overflows,
        accept_pauses: reactor.shedding.pauses(),
        open_sockets: counters.accepted_open.get() + counters.connected_open.get(),
        operations: reactor.in_flight(),
        timers: reactor.alarms_set(),
        tasks: executor.tasks(),
        task_panics: executor.panics(),
    }
}
