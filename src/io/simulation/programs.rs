//! Programs at the far ends: applications and servers as a test writes them, on the simulated clock.
//!
//! They run while the driver waits, in an order that follows from the seed, and know nothing of the engine: a program has
//! its end of a connection ([`Far`]) and the time. A panic of one ends the play with that panic.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::peer::Found;
use super::random::Random;
use super::world::World;

/// What a program does.
pub(crate) type Program = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    program: Program,
    /// The play goes on until it is done.
    is_awaited: bool,
}

#[derive(Default)]
pub(super) struct Programs {
    tasks: RefCell<Vec<Option<Task>>>,
    ready: Arc<Mutex<Vec<usize>>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    timers_set: Cell<u64>,
    awaited: Cell<usize>,
    /// What a program panicked with.
    failure: RefCell<Option<Box<dyn Any + Send>>>,
    has_failed: Cell<bool>,
    /// Who waits for their end, and whether it was woken since the driver asked.
    watcher: RefCell<Option<Waker>>,
    has_news: Cell<bool>,
}

struct Ready(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        let mut ready = self.1.lock().expect("no program panics while it is woken");
        if !ready.contains(&self.0) {
            ready.push(self.0);
        }
    }
}

impl Programs {
    pub(super) fn spawn(&self, program: Program, is_awaited: bool) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.push(Some(Task { program, is_awaited }));
        self.awaited.set(self.awaited.get() + usize::from(is_awaited));
        self.ready.lock().expect("as above").push(tasks.len() - 1);
    }

    /// Runs who is ready, until nobody is. Did anybody run?
    pub(super) fn run(&self, now: Instant, draw: impl Fn(&dyn Fn(&mut Random) -> u64) -> u64) -> bool {
        let later = self.timers.borrow_mut().split_off(&(now + Duration::from_nanos(1), 0));
        let due = self.timers.replace(later);
        due.into_values().for_each(Waker::wake);
        let mut any = false;
        loop {
            let index = {
                let mut ready = self.ready.lock().expect("as above");
                if self.has_failed.get() || ready.is_empty() {
                    return any;
                }
                let count = ready.len() as u64;
                ready.swap_remove(draw(&|random| random.below(count)) as usize)
            };
            any = true;
            self.poll(index);
        }
    }

    fn poll(&self, index: usize) {
        let Some(mut task) = self.tasks.borrow_mut()[index].take() else { return };
        let waker = Waker::from(Arc::new(Ready(index, Arc::clone(&self.ready))));
        let polled = catch_unwind(AssertUnwindSafe(|| task.program.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => self.tasks.borrow_mut()[index] = Some(task),
            Ok(Poll::Ready(())) => {
                self.awaited.set(self.awaited.get() - usize::from(task.is_awaited));
                if self.awaited.get() == 0 {
                    self.tell();
                }
            }
            Err(panic) => {
                self.has_failed.set(true);
                self.failure.replace(Some(panic));
                self.tell();
            }
        }
    }

    fn tell(&self) {
        self.has_news.set(true);
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }

    /// Must the engine run, although nothing has completed?
    pub(super) fn take_news(&self) -> bool {
        self.has_news.take()
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.borrow().keys().next().map(|(at, _)| *at)
    }

    /// Resolves when all that are awaited have ended.
    pub(super) async fn ended(&self) {
        poll_fn(|cx| {
            if let Some(panic) = self.failure.take() {
                resume_unwind(panic);
            }
            if self.awaited.get() == 0 {
                return Poll::Ready(());
            }
            self.watcher.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    async fn sleep_until(&self, clock: impl Fn() -> Instant, at: Instant) {
        poll_fn(|cx| {
            if clock() >= at {
                return Poll::Ready(());
            }
            let number = self.timers_set.get();
            self.timers_set.set(number + 1);
            self.timers.borrow_mut().insert((at, number), cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ends everybody: they hold the world, and the world holds them.
    pub(super) fn clear(&self) {
        self.has_failed.set(true);
        let tasks = self.tasks.take();
        self.timers.take();
        drop(tasks);
    }
}

/// A program's end of a connection. Dropping it is what the end of its process does: FIN, or a reset where it has not read
/// everything.
pub(crate) struct Far {
    world: Rc<World>,
    number: usize,
}

impl Far {
    pub(super) fn new(world: Rc<World>, number: usize) -> Self {
        Self { world, number }
    }

    /// The next bytes, at most `most`; none after the FIN.
    pub(crate) async fn recv(&self, most: usize) -> io::Result<Vec<u8>> {
        poll_fn(|cx| {
            self.world.peer(self.number, |peer| match peer.hear(most) {
                Found::Bytes(bytes) => Poll::Ready(Ok(bytes)),
                Found::Fin => Poll::Ready(Ok(Vec::new())),
                Found::Failed => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Found::Nothing => {
                    peer.wait(cx.waker());
                    Poll::Pending
                }
            })
        })
        .await
    }

    /// Says all of `bytes`; waits while what it said before has not been received.
    pub(crate) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|cx| {
            self.world.peer(self.number, |peer| {
                let Some(room) = peer.may_say() else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
                let (now, later) = bytes.split_at(room.min(bytes.len()));
                peer.says.extend_from_slice(now);
                bytes = later;
                if bytes.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                peer.wait(cx.waker());
                Poll::Pending
            })
        })
        .await
    }

    /// Resolves when the engine has received what was said, or never will.
    pub(crate) async fn delivered(&self) {
        poll_fn(|cx| {
            self.world.peer(self.number, |peer| {
                if peer.is_delivered() {
                    return Poll::Ready(());
                }
                peer.wait(cx.waker());
                Poll::Pending
            })
        })
        .await;
    }

    /// Has the connection failed, whatever is still to be read?
    pub(crate) fn has_failed(&self) -> bool {
        self.world.peer(self.number, |peer| peer.has_failed())
    }

    /// Sends a FIN behind what was said.
    pub(crate) fn finish(&self) {
        self.world.peer(self.number, super::peer::Peer::finish);
    }

    /// Resets the connection.
    pub(crate) fn reset(&self) {
        self.world.peer(self.number, super::peer::Peer::reset);
    }

    /// This end's address, as the engine sees it.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.world.peer(self.number, |peer| peer.ends.expect("a program speaks for it").remote)
    }

    pub(crate) fn world(&self) -> &Rc<World> {
        &self.world
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.world.peer(self.number, super::peer::Peer::leave);
    }
}

impl World {
    /// A program that the play waits for.
    pub(crate) fn spawn(&self, program: impl Future<Output = ()> + 'static) {
        self.programs.spawn(Box::pin(program), true);
    }

    /// For programs.
    pub(crate) async fn sleep(&self, time: Duration) {
        self.programs.sleep_until(|| self.now(), self.now() + time).await;
    }
}
