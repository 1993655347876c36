//! How busy a worker is, and how many completions a turn waits for because of that.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::io::driver::Batching;

/// Each connection is counted once in a period.
const PERIOD: Duration = Duration::from_millis(1);

/// Connections, accepted and opened, of which something came within a period before a turn waits for more than one
/// completion. From 16 on, a connection per request cost a tenth more; with 32 clients p50 was a tenth higher.
const BUSY_FROM: u32 = 72;

/// The same of connections that receive bodies in large pieces: these get larger while a turn waits.
const BODIES_FROM: u32 = 5;

/// The same of bytes of streams of which nobody knows the end, as those that are passed through: a gigabit a second. A
/// receive cannot wait for them (`receive.rs`), so this is what makes them larger.
const STREAMED_FROM: u32 = 128 * 1024;

/// A turn waits for half of the busy connections, but for no more than this.
const MOST: u32 = 32;

/// Counts busy connections, in this period and in the one before.
pub(super) struct Activity {
    period: Cell<u32>,
    began: Cell<Option<Instant>>,
    all: Count,
    bodies: Count,
    streamed: Count,
}

#[derive(Default)]
struct Count {
    now: Cell<u32>,
    before: Cell<u32>,
}

/// The periods in which a connection was counted last.
#[derive(Default)]
pub(super) struct Counted {
    active: Cell<u32>,
    body: Cell<u32>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            period: Cell::new(1),
            began: Cell::default(),
            all: Count::default(),
            bodies: Count::default(),
            streamed: Count::default(),
        }
    }

    /// Something of this connection has completed.
    pub(super) fn note(&self, connection: &Counted) {
        self.all.add_once(&connection.active, self.period.get());
    }

    /// A piece of a body has.
    pub(super) fn note_body(&self, connection: &Counted) {
        self.note(connection);
        self.bodies.add_once(&connection.body, self.period.get());
    }

    /// So many bytes of a stream have come at once.
    pub(super) fn note_streamed(&self, bytes: u32) {
        self.streamed.add(bytes);
    }

    /// Begins another period when this one is over.
    pub(super) fn roll(&self, now: Instant) {
        let age = self.began.get().map_or(Duration::MAX, |began| now.saturating_duration_since(began));
        if age >= PERIOD {
            self.all.roll(age);
            self.bodies.roll(age);
            self.streamed.roll(age);
            self.period.set(self.period.get().wrapping_add(1));
            self.began.set(Some(now));
        }
    }

    /// What a turn waits for that may take `micros` for more than its first completion; `None`: for that one only.
    pub(super) fn batching(&self, micros: u32) -> Option<Batching> {
        let busy = self.all.most();
        let pays = busy >= BUSY_FROM || self.bodies.most() >= BODIES_FROM || self.streamed.most() >= STREAMED_FROM;
        (pays && micros > 0).then(|| Batching { count: (busy / 2).clamp(2, MOST), micros })
    }
}

impl Count {
    fn add(&self, count: u32) {
        self.now.set(self.now.get().saturating_add(count));
    }

    fn add_once(&self, counted: &Cell<u32>, period: u32) {
        if counted.replace(period) != period {
            self.add(1);
        }
    }

    /// `age`: how long ago the period began that is over; what is older than two periods counts no more.
    fn roll(&self, age: Duration) {
        let ended = self.now.take();
        self.before.set(if age < 2 * PERIOD { ended } else { 0 });
    }

    fn most(&self) -> u32 {
        self.now.get().max(self.before.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: u32 = 100;

    fn many(count: u32) -> Vec<Counted> {
        (0..count).map(|_| Counted::default()).collect()
    }

    fn note_all(activity: &Activity, connections: &[Counted]) {
        for connection in connections {
            activity.note(connection);
        }
    }

    fn count(activity: &Activity) -> Option<u32> {
        activity.batching(WAIT).map(|batching| batching.count)
    }

    #[test]
    fn waits_from_many_connections_on_or_from_few_bodies() {
        let activity = Activity::new();
        let connections = many(BUSY_FROM);
        note_all(&activity, &connections[1..]);
        note_all(&activity, &connections[1..]);
        assert_eq!(count(&activity), None, "each is counted once");
        activity.note(&connections[0]);
        assert_eq!(count(&activity), Some(MOST));
        assert_eq!(activity.batching(0), None);

        let activity = Activity::new();
        for connection in many(BODIES_FROM) {
            activity.note_body(&connection);
        }
        assert_eq!(count(&activity), Some(2));

        let activity = Activity::new();
        activity.note_streamed(STREAMED_FROM - 1);
        assert_eq!(count(&activity), None);
        activity.note_streamed(1);
        assert_eq!(count(&activity), Some(2));
    }

    #[test]
    fn a_busy_period_counts_until_the_next_one_is_over() {
        let (activity, began) = (Activity::new(), Instant::now());
        activity.roll(began);
        note_all(&activity, &many(BUSY_FROM));
        activity.roll(began + PERIOD);
        assert_eq!(count(&activity), Some(MOST), "the one before was busy");
        activity.roll(began + 2 * PERIOD);
        assert_eq!(count(&activity), None);

        note_all(&activity, &many(BUSY_FROM));
        activity.roll(began + 5 * PERIOD);
        assert_eq!(count(&activity), None, "after a pause nobody is busy");
    }
}
