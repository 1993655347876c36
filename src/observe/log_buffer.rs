//! A worker's access-log lines between two hand-overs to the writer. Bounded: what does not fit is dropped and counted.

use super::access_log::AccessRecord;
use super::log_sink::{Full, LogSink};

/// The form of access-log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Collects lines; belongs to one worker.
#[derive(Debug)]
pub struct LogBuffer {
    format: LogFormat,
    lines: Vec<u8>,
    count: u64,
    dropped: u64,
}

/// From here on a batch is worth a hand-over without waiting for the end of the turn.
const BATCH_BYTES: usize = 32 << 10;

/// What waits while the writer is behind.
const MAX_BYTES: usize = 256 << 10;

impl LogBuffer {
    #[must_use]
    pub fn new(format: LogFormat) -> Self {
        Self { format, lines: Vec::new(), count: 0, dropped: 0 }
    }

    /// Adds the line of `record`, or drops it when too much waits already.
    pub fn push(&mut self, record: &AccessRecord<'_>) {
        let before = self.lines.len();
        match self.format {
            LogFormat::Text => record.write_text(&mut self.lines),
            LogFormat::Json => record.write_json(&mut self.lines),
        }
        if self.lines.len() > MAX_BYTES {
            self.lines.truncate(before);
            self.dropped += 1;
        } else {
            self.count += 1;
        }
    }

    /// Whether enough lines wait to hand them over at once.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_BYTES
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Lines dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes the lines that wait: whole lines, in order.
    pub fn take(&mut self) -> Vec<u8> {
        self.count = 0;
        std::mem::take(&mut self.lines)
    }

    /// Hands the lines that wait to `sink`. When it is behind they stay here, up to the bound.
    pub fn hand_over(&mut self, sink: &LogSink) {
        if self.is_empty() {
            return;
        }
        let count = self.count;
        if let Err(Full(lines)) = sink.submit(self.take()) {
            self.lines = lines;
            self.count = count;
        }
    }
}

impl Drop for LogBuffer {
    /// Lines that nobody took are lost; say so rather than let them vanish.
    fn drop(&mut self) {
        if self.count > 0 {
            tracing::warn!(lines = self.count, "access-log lines were not written");
        }
    }
}
