//! A worker's access-log lines between two hand-overs to the writer. Bounded: what does not fit is dropped and counted.

use std::sync::Arc;

use super::access_log::AccessRecord;
use super::log_sink::{Full, LogSink, Spares};

/// The form of access-log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Collects lines; belongs to one worker.
#[derive(Debug, Default)]
pub struct LogBuffer {
    lines: Vec<u8>,
    count: u64,
    dropped: u64,
    spares: Arc<Spares>,
}

/// From here on a batch is worth a hand-over without waiting for the end of the turn.
const BATCH_BYTES: usize = 32 << 10;

/// What waits while the writer is behind.
const MAX_BYTES: usize = 256 << 10;

impl LogBuffer {
    /// Adds the line of `record`, or drops it when too much waits already.
    pub fn push(&mut self, record: &AccessRecord<'_>, format: LogFormat) {
        let before = self.lines.len();
        match format {
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
        std::mem::replace(&mut self.lines, self.spares.take())
    }

    /// Hands the lines that wait to `sink`. When it is behind they stay here, up to the bound.
    pub fn hand_over(&mut self, sink: &LogSink) {
        if self.is_empty() {
            return;
        }
        let count = self.count;
        if let Err(Full(lines)) = sink.submit_from(&self.spares.clone(), self.take()) {
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn record() -> AccessRecord<'static> {
        AccessRecord::blank(UNIX_EPOCH)
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let mut buffer = LogBuffer::default();
        let mut pushed = 0;
        while buffer.dropped() < 3 {
            buffer.push(&record(), LogFormat::Json);
            pushed += 1;
        }
        assert!(buffer.is_full());
        let lines = buffer.take();
        assert!(lines.len() <= MAX_BYTES && buffer.is_empty());
        let whole = lines.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"}\n")).count();
        assert_eq!(whole, pushed - 3);
        buffer.push(&record(), LogFormat::Text);
        assert_eq!((buffer.dropped(), buffer.take().is_empty()), (3, false));
    }

    #[test]
    fn lines_are_handed_over_or_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let sink = LogSink::over(File::create(&path).unwrap()).unwrap();
        let mut buffer = LogBuffer::default();
        buffer.push(&record(), LogFormat::Text);
        buffer.push(&record(), LogFormat::Text);
        buffer.hand_over(&sink);
        assert!(buffer.is_empty());
        assert!(sink.flush(Duration::from_secs(20)));
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 2);
    }
}
