//! A worker's access log between a line and its writer: lines wait together, so that one write serves many.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::AccessLogFormat;
use crate::io;
use crate::observe::{AccessRecord, LogBuffer, LogFormat, LogSink, WorkerCounters};

/// Lines are handed to the writer at most this often, unless many wait; the first after a pause at once.
const INTERVAL: Duration = Duration::from_millis(20);

/// Lines that have not been written yet, and where they go.
pub struct AccessLog {
    lines: RefCell<LogBuffer>,
    sink: LogSink,
    /// Counts lines that were dropped.
    counters: Arc<WorkerCounters>,
    flushed: Cell<Instant>,
    /// A task flushes in intervals.
    flush_pending: Cell<bool>,
}

impl AccessLog {
    #[must_use]
    pub fn new(sink: LogSink, counters: Arc<WorkerCounters>) -> Self {
        let (lines, flushed) = (RefCell::default(), Cell::new(io::now()));
        Self { lines, sink, counters, flushed, flush_pending: Cell::new(false) }
    }

    /// Writes the line of `record`, unless the log is off.
    pub fn write(self: &Rc<Self>, record: &AccessRecord<'_>, format: AccessLogFormat) {
        let format = match format {
            AccessLogFormat::Text => LogFormat::Text,
            AccessLogFormat::Json => LogFormat::Json,
            AccessLogFormat::Off => return,
        };
        let is_full = {
            let mut lines = self.lines.borrow_mut();
            lines.push(record, format);
            lines.is_full()
        };
        if is_full || self.due() <= io::now() {
            self.flush();
        } else if !self.flush_pending.replace(true) {
            let log = Rc::clone(self);
            io::spawn(async move { log.flush_while_needed().await });
        }
    }

    /// Hands what has been logged to the writer.
    pub fn flush(&self) {
        self.flushed.set(io::now());
        let mut lines = self.lines.borrow_mut();
        lines.hand_over(&self.sink);
        self.counters.log_lines_dropped.set(lines.dropped());
    }

    fn due(&self) -> Instant {
        self.flushed.get() + INTERVAL
    }

    /// Under load this goes on and on, so that no task is made for each interval.
    async fn flush_while_needed(&self) {
        while !self.lines.borrow().is_empty() {
            let due = self.due();
            io::sleep_until(due).await;
            // A full buffer may have been handed over meanwhile.
            if self.due() == due {
                self.flush();
                io::sleep(INTERVAL).await;
            }
        }
        self.flush_pending.set(false);
    }
}
