//! What the sockets, listeners and timers of one thread share: the driver, the operations, the buffers, the alarms.
//!
//! A turn does, in this order: what the tasks left to be submitted; one wait in the kernel; the clock; alarms;
//! completions. Tasks run between turns. It refuses to know what runs in them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::io::activity::Activity;
use crate::io::bounds::EngineOptions;
use crate::io::buffers::Pool;
use crate::io::driver::{Completion, Driver, OpId, Wait};
use crate::io::executor::wheel::{AlarmKey, Wheel};
use crate::io::shedding::Shedding;
use crate::io::socket::batch::Batch;
use crate::io::socket::connection::{Connection, Origin};
use crate::io::socket::listener::Accepting;
use crate::io::socket::operations::{Operation, Operations};

/// Empty batches kept for the next sends.
const MAX_SPARE_BATCHES: usize = 64;

/// What happens at a time.
pub(super) enum Alarm {
    Wake(Waker),
    /// A closed connection has had its time to send what was queued.
    Linger(Rc<Connection>),
    ResumeAccepting,
    /// A receive that waits for many bytes has waited long enough.
    Hurry(Weak<Connection>),
}

pub(super) struct Reactor {
    pub(super) pool: Rc<Pool>,
    pub(super) options: EngineOptions,
    pub(super) counters: Counters,
    pub(super) shedding: Arc<Shedding>,
    /// Nothing may be accepted, whatever the limits say.
    withheld: Cell<bool>,
    driver: RefCell<Box<dyn Driver>>,
    operations: RefCell<Operations>,
    alarms: RefCell<Wheel<Alarm>>,
    started: Instant,
    now: Cell<Instant>,
    /// Connections with something to send at the end of the turn.
    to_send: RefCell<Vec<Rc<Connection>>>,
    /// Connections whose receive ended for lack of buffers.
    parked: RefCell<VecDeque<Weak<Connection>>>,
    /// Listeners that wait for a connection to close.
    paused: RefCell<Vec<Weak<Accepting>>>,
    resume_accepting: Cell<bool>,
    signalled: Cell<bool>,
    /// Closed connections that still have something to send.
    lingering: Cell<usize>,
    /// The engine is being dropped: nothing is started any more.
    closed: Cell<bool>,
    batches: RefCell<Vec<Batch>>,
    pub(super) activity: Activity,
    scratch: RefCell<Scratch>,
}

/// Counted since the engine began, or now.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) turns: Cell<u64>,
    pub(super) enobufs: Cell<u64>,
    pub(super) accepted_open: Cell<usize>,
    pub(super) connected_open: Cell<usize>,
}

#[derive(Default)]
struct Scratch {
    done: Vec<Completion>,
    due: Vec<Alarm>,
    buffers: Vec<u16>,
}

impl Reactor {
    pub(super) fn new(driver: Box<dyn Driver>, pool: Rc<Pool>, options: EngineOptions) -> Rc<Self> {
        let now = driver.now();
        Rc::new(Self {
            pool,
            options,
            counters: Counters::default(),
            shedding: Arc::default(),
            withheld: Cell::new(false),
            driver: RefCell::new(driver),
            operations: RefCell::default(),
            alarms: RefCell::new(Wheel::new()),
            started: now,
            now: Cell::new(now),
            to_send: RefCell::default(),
            parked: RefCell::default(),
            paused: RefCell::default(),
            resume_accepting: Cell::new(false),
            signalled: Cell::new(false),
            lingering: Cell::new(0),
            closed: Cell::new(false),
            batches: RefCell::default(),
            activity: Activity::new(),
            scratch: RefCell::default(),
        })
    }

    /// Starts an operation; it reaches the kernel at the end of this turn.
    pub(super) fn start(&self, operation: Operation) -> OpId {
        self.operations.borrow_mut().start(&mut **self.driver.borrow_mut(), operation)
    }

    pub(super) fn cancel(&self, id: OpId) {
        if self.operations.borrow().find(id).is_some() {
            self.driver.borrow_mut().cancel(id);
        }
    }

    /// Submits, waits (not at all if `ready`), and handles what has come.
    ///
    /// # Errors
    /// The kernel refuses to be asked: the engine is of no more use.
    pub(super) fn turn(self: &Rc<Self>, ready: bool) -> io::Result<()> {
        let mut scratch = self.scratch.take();
        self.prepare(&mut scratch.buffers);
        let wait = self.wait(ready);
        let waited = self.driver.borrow_mut().turn(wait, &mut scratch.done);
        self.counters.turns.set(self.counters.turns.get() + 1);
        self.now.set(self.driver.borrow().now());
        self.activity.roll(self.now.get());
        self.sound_alarms(&mut scratch.due);
        for done in scratch.done.drain(..) {
            self.dispatch(&done);
        }
        self.scratch.replace(scratch);
        waited
    }

    /// Sends first: a connection of which nothing is left but its place on the list closes here, and makes room.
    fn prepare(self: &Rc<Self>, buffers: &mut Vec<u16>) {
        let mut to_send = self.to_send.take();
        to_send.drain(..).for_each(|connection| connection.start_send());
        if self.to_send.borrow().is_empty() {
            self.to_send.replace(to_send);
        }
        if self.resume_accepting.take() {
            let paused = self.paused.take();
            self.shedding.end();
            paused.iter().filter_map(Weak::upgrade).for_each(|accepting| accepting.resume());
        }
        self.pool.take_returned(buffers);
        if !buffers.is_empty() {
            self.driver.borrow_mut().provide(buffers);
        }
        self.unpark();
    }

    /// As many as there are buffers: each of them probably has bytes waiting.
    fn unpark(&self) {
        let count = self.pool.free().min(self.parked.borrow().len());
        for _ in 0..count {
            let connection = self.parked.borrow_mut().pop_front();
            if let Some(connection) = connection.and_then(|weak| weak.upgrade()) {
                connection.unpark();
            }
        }
    }

    fn wait(&self, ready: bool) -> Wait {
        if ready || self.signalled.get() {
            return Wait::Poll;
        }
        let next = self.alarms.borrow().next();
        let timeout = next.map(|tick| self.instant(tick).saturating_duration_since(self.now.get()));
        let batch = self.activity.batching(self.options.batch_micros).filter(|_| self.driver.borrow().can_batch());
        Wait::Block { timeout, batch }
    }

    fn dispatch(self: &Rc<Self>, done: &Completion) {
        if done.more {
            self.dispatch_one_of_many(done);
        } else {
            self.dispatch_last(done);
        }
    }

    fn dispatch_one_of_many(&self, done: &Completion) {
        let operations = self.operations.borrow();
        match operations.find(done.id) {
            Some(Operation::Receive(connection, _)) => {
                let connection = Rc::clone(connection);
                drop(operations);
                self.activity.note(&connection.counted);
                connection.on_receive(done);
            }
            Some(Operation::Accept(accepting, _)) => {
                let accepting = Rc::clone(accepting);
                drop(operations);
                accepting.on_accept(done);
            }
            _ => unreachable!("only receives and accepts are asked to go on"),
        }
    }

    fn dispatch_last(self: &Rc<Self>, done: &Completion) {
        let operation = self.operations.borrow_mut().finish(done.id);
        match operation.expect("an operation completes for the last time once") {
            Operation::Accept(accepting, _) => accepting.on_accept(done),
            Operation::Receive(connection, _) => {
                self.activity.note(&connection.counted);
                connection.on_receive(done);
            }
            Operation::ReceiveInto(connection, block, _) => {
                self.activity.note_body(&connection.counted);
                connection.on_receive_into(done, block);
            }
            Operation::Send(connection, batch, _) => connection.on_sent(done.result, batch),
            Operation::Connect(_, connecting) => connecting.on_connected(done.result),
            Operation::ReadEvent(..) => self.signalled.set(true),
        }
    }

    /// Was the eventfd read since the last call?
    pub(super) fn take_signalled(&self) -> bool {
        self.signalled.take()
    }

    // Connections.

    pub(super) fn on_opened(&self, origin: Origin) {
        let open = self.open(origin);
        open.set(open.get() + 1);
    }

    pub(super) fn on_closed(&self, origin: Origin) {
        let open = self.open(origin);
        open.set(open.get() - 1);
        self.resume_accepting.set(true);
    }

    pub(super) fn allow_accepting(&self, allowed: bool) {
        self.withheld.set(!allowed);
        self.resume_accepting.set(allowed);
    }

    pub(super) fn ask<T>(&self, question: impl FnOnce(&dyn Driver) -> T) -> T {
        question(&**self.driver.borrow())
    }

    /// `fd` is about to be closed; the kernel has no operation on it.
    pub(super) fn forget(&self, fd: RawFd) {
        self.driver.borrow_mut().forget(fd);
    }

    fn open(&self, origin: Origin) -> &Cell<usize> {
        match origin {
            Origin::Accepted => &self.counters.accepted_open,
            Origin::Connected => &self.counters.connected_open,
        }
    }

    /// Connections that may still be accepted.
    pub(super) fn accept_room(&self) -> usize {
        if self.withheld.get() {
            return 0;
        }
        self.options.max_connections.saturating_sub(self.counters.accepted_open.get())
    }

    pub(super) fn is_at_connect_limit(&self) -> bool {
        self.counters.connected_open.get() >= self.options.max_upstream_connections
    }

    pub(super) fn has_to_send(&self, connection: &Rc<Connection>) {
        self.to_send.borrow_mut().push(Rc::clone(connection));
    }

    pub(super) fn park(&self, connection: &Rc<Connection>) {
        self.counters.enobufs.set(self.counters.enobufs.get() + 1);
        self.parked.borrow_mut().push_back(Rc::downgrade(connection));
    }

    /// A quiet send may keep its buffers until something else happens: only while others do not wait for them.
    pub(super) fn has_buffers_to_spare(&self) -> bool {
        self.parked.borrow().is_empty() && self.pool.free() >= self.pool.count() / 2
    }

    pub(super) fn pause(&self, accepting: &Rc<Accepting>) {
        self.shedding.begin();
        self.paused.borrow_mut().push(Rc::downgrade(accepting));
    }

    pub(super) fn high_water(&self) -> usize {
        self.options.recv_high_water
    }

    pub(super) fn low_water(&self) -> usize {
        self.options.recv_high_water / 2
    }

    pub(super) fn send_high_water(&self) -> usize {
        self.options.send_high_water
    }

    /// Lets a closed connection live until it has sent what was queued, or its time is over.
    pub(super) fn linger(&self, connection: &Rc<Connection>) -> AlarmKey {
        self.lingering.set(self.lingering.get() + 1);
        self.set_alarm(self.options.linger, Alarm::Linger(Rc::clone(connection)))
    }

    /// Lets go of the lingering connection: the caller holds another reference to it.
    pub(super) fn end_linger(&self, key: AlarmKey) {
        self.lingering.set(self.lingering.get() - 1);
        drop(self.clear_alarm(key));
    }

    pub(super) fn take_batch(&self) -> Batch {
        self.batches.borrow_mut().pop().unwrap_or_else(Batch::new)
    }

    pub(super) fn give_batch(&self, mut batch: Batch) {
        batch.clear();
        let mut spare = self.batches.borrow_mut();
        if spare.len() < MAX_SPARE_BATCHES {
            spare.push(batch);
        }
    }

    // Time.

    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Milliseconds since the engine began, rounded up: an alarm is never early.
    fn tick(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        since.as_secs().saturating_mul(1000).saturating_add(since.subsec_nanos().div_ceil(1_000_000).into())
    }

    fn instant(&self, tick: u64) -> Instant {
        let after = Duration::from_millis(tick);
        self.started.checked_add(after).unwrap_or_else(|| self.now.get() + Duration::from_secs(86_400))
    }

    pub(super) fn set_alarm(&self, after: Duration, alarm: Alarm) -> AlarmKey {
        self.set_alarm_at(self.now.get() + after, alarm)
    }

    pub(super) fn set_alarm_at(&self, at: Instant, alarm: Alarm) -> AlarmKey {
        self.alarms.borrow_mut().insert(self.tick(at), alarm)
    }

    /// Points an alarm at another task; false when it has gone off.
    pub(super) fn renew_alarm(&self, key: AlarmKey, waker: &Waker) -> bool {
        let mut alarms = self.alarms.borrow_mut();
        let Some(Alarm::Wake(known)) = alarms.item_mut(key) else { return false };
        known.clone_from(waker);
        true
    }

    #[must_use = "an alarm may hold the last reference to a connection: drop it outside of any borrow"]
    pub(super) fn clear_alarm(&self, key: AlarmKey) -> Option<Alarm> {
        self.alarms.borrow_mut().remove(key)
    }

    fn sound_alarms(&self, due: &mut Vec<Alarm>) {
        let elapsed = self.now.get().saturating_duration_since(self.started);
        let elapsed = elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis());
        self.alarms.borrow_mut().advance(elapsed, due);
        for alarm in due.drain(..) {
            match alarm {
                Alarm::Wake(waker) => waker.wake(),
                Alarm::Linger(connection) => {
                    connection.reset_at_close();
                    connection.give_up_sending();
                }
                Alarm::ResumeAccepting => self.resume_accepting.set(true),
                Alarm::Hurry(connection) => {
                    if let Some(connection) = connection.upgrade() {
                        connection.hurry();
                    }
                }
            }
        }
    }

    // The end.

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Gives closed connections `farewell` to send what was queued, then cancels everything in the kernel and waits
    /// `patience` for it to let go; what is left after that is leaked, since the kernel could still use it.
    pub(super) fn shut_down(self: &Rc<Self>, farewell: Duration, patience: Duration) {
        self.turn_while(farewell, || self.lingering.get() > 0);
        self.closed.set(true);
        drop(self.alarms.replace(Wheel::new()));
        self.to_send.take().iter().for_each(|connection| connection.give_up_sending());
        self.turn_while(patience, || {
            let ids: Vec<OpId> = self.operations.borrow().ids().collect();
            for id in &ids {
                self.cancel(*id);
            }
            !ids.is_empty()
        });
        if self.in_flight() > 0 {
            tracing::error!(operations = self.in_flight(), "the kernel does not let go of operations; leaking them");
            self.operations.borrow_mut().abandon();
            std::mem::forget(Rc::clone(self));
        }
    }

    fn turn_while(self: &Rc<Self>, limit: Duration, goes_on: impl Fn() -> bool) {
        let time = || self.driver.borrow().now();
        let deadline = time() + limit;
        // So that a turn in which nothing completes ends, too.
        let poke = Duration::from_millis(10);
        while goes_on() && time() < deadline {
            self.set_alarm(poke, Alarm::ResumeAccepting);
            if self.turn(false).is_err() {
                break;
            }
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.operations.borrow().in_flight()
    }

    pub(super) fn alarms_set(&self) -> usize {
        self.alarms.borrow().len()
    }

    pub(super) fn driver_counters(&self) -> crate::io::driver::DriverCounters {
        self.driver.borrow().counters()
    }
}
