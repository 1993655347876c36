//! The thread that writes the access log. A log that blocks, is full or is closed holds up this thread and no other.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The writer is behind: the batch, back again.
#[derive(Debug, PartialEq, Eq)]
pub struct Full(pub Vec<u8>);

/// What the writer has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSinkStats {
    pub bytes_written: u64,
    /// Batches of which at least a part was lost because writing failed (ENOSPC, EPIPE).
    pub batches_failed: u64,
}

/// A handle to the writer. The thread ends when the last handle is gone and all has been written.
#[derive(Clone, Debug)]
pub struct LogSink {
    messages: SyncSender<Message>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes_written: AtomicU64,
    batches_failed: AtomicU64,
}

enum Message {
    /// Whole lines, and where their memory goes when they are written.
    Batch(Vec<u8>, Option<Arc<Spares>>),
    /// Everything before this has been written (or lost) once it is answered.
    Flush(SyncSender<()>),
}

/// Batches that may wait for the writer: at 32 KiB and more each, some megabytes.
const QUEUE: usize = 64;

/// Memory of batches that have been written, on its way back to the worker that filled them: a worker that always gets
/// some back allocates nothing for its log.
#[derive(Debug, Default)]
pub struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    /// One that is being written, and one that waits.
    const MOST: usize = 2;

    /// What a batch has normally; the memory of a larger one goes back to the allocator.
    const MAX_BYTES: usize = 64 << 10;

    /// Empty memory, of the size that the last batches had. Never waits.
    pub fn take(&self) -> Vec<u8> {
        self.0.try_lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default()
    }

    fn give(&self, mut batch: Vec<u8>) {
        batch.clear();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < Self::MOST && batch.capacity() <= Self::MAX_BYTES {
            spare.push(batch);
        }
    }
}

/// A pause before trying again what would block: a full queue, a pipe that somebody made non-blocking.
const PAUSE: Duration = Duration::from_millis(5);

impl LogSink {
    /// Starts a writer to standard output.
    ///
    /// # Errors
    /// When it cannot be duplicated or the thread cannot be started.
    pub fn stdout() -> io::Result<Self> {
        // A duplicate, not the standard library's handle: that one buffers, and loses what a failed write left over.
        Self::over(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// Starts a writer to `out`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn over(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, queue) = mpsc::sync_channel(QUEUE);
        let state = Arc::new(State::default());
        let writer = Writer { out, state: Arc::clone(&state), line_is_torn: false };
        thread::Builder::new().name("egret-log".into()).spawn(move || writer.run(&queue))?;
        Ok(Self { messages, state })
    }

    /// Hands over whole lines. Never waits.
    ///
    /// # Errors
    /// [`Full`] with the lines when the writer is behind.
    pub fn submit(&self, batch: Vec<u8>) -> Result<(), Full> {
        self.send(batch, None)
    }

    /// As [`submit`](Self::submit); the batch's memory goes back to `spares` afterwards.
    ///
    /// # Errors
    /// As there.
    pub fn submit_from(&self, spares: &Arc<Spares>, batch: Vec<u8>) -> Result<(), Full> {
        self.send(batch, Some(Arc::clone(spares)))
    }

    fn send(&self, batch: Vec<u8>, spares: Option<Arc<Spares>>) -> Result<(), Full> {
        match self.messages.try_send(Message::Batch(batch, spares)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => match message {
                Message::Batch(batch, _) => Err(Full(batch)),
                Message::Flush(_) => unreachable!("a batch was sent"),
            },
        }
    }

    /// Waits until everything submitted before has been written; false when that took longer than `patience`.
    #[must_use]
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let (done, written) = mpsc::sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(error) = self.messages.try_send(message) {
            let TrySendError::Full(again) = error else { return false };
            if Instant::now() >= deadline {
                return false;
            }
            message = again;
            thread::sleep(PAUSE);
        }
        written.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }

    #[must_use]
    pub fn stats(&self) -> LogSinkStats {
        LogSinkStats {
            bytes_written: self.state.bytes_written.load(Ordering::Relaxed),
            batches_failed: self.state.batches_failed.load(Ordering::Relaxed),
        }
    }
}

struct Writer<W> {
    out: W,
    state: Arc<State>,
    /// A write failed within a line: the next begins on a line of its own.
    line_is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self, queue: &Receiver<Message>) {
        for message in queue {
            match message {
                Message::Batch(batch, spares) => {
                    self.write(&batch);
                    if let Some(spares) = spares {
                        spares.give(batch);
                    }
                }
                // Whoever asked may have lost patience.
                Message::Flush(done) => drop(done.try_send(())),
            }
        }
    }

    fn write(&mut self, batch: &[u8]) {
        if self.line_is_torn && self.write_all(b"\n").is_err() {
            return self.count_failure();
        }
        self.line_is_torn = false;
        if let Err(written) = self.write_all(batch) {
            self.line_is_torn = written > 0 && batch[written - 1] != b'\n';
            self.count_failure();
        }
    }

    /// Writes all of `bytes`, or says how many were written before it failed.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.out.write(&bytes[at..]) {
                Ok(0) => return Err(at),
                Ok(written) => {
                    at += written;
                    self.state.bytes_written.fetch_add(written as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(_) => return Err(at),
            }
        }
        Ok(())
    }

    fn count_failure(&self) {
        self.state.batches_failed.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn lines_arrive_in_order_and_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let sink = LogSink::over(File::create(&path).unwrap()).unwrap();
        let mut expected = String::new();
        for number in 0..1000 {
            let line = format!("line {number}\n");
            expected += &line;
            let mut batch = line.into_bytes();
            while let Err(Full(again)) = sink.submit(batch) {
                assert!(sink.flush(PATIENCE));
                batch = again;
            }
        }
        assert!(sink.flush(PATIENCE));
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
        assert_eq!(sink.stats(), LogSinkStats { bytes_written: expected.len() as u64, batches_failed: 0 });
    }

    #[test]
    fn the_memory_of_a_batch_comes_back() {
        let sink = LogSink::over(io::sink()).unwrap();
        let spares = Arc::new(Spares::default());
        let batch = Vec::with_capacity(4096);
        let address = batch.as_ptr();
        for batch in [batch, Vec::with_capacity(Spares::MAX_BYTES + 1)] {
            sink.submit_from(&spares, batch).unwrap();
        }
        assert!(sink.flush(PATIENCE));
        let back = spares.take();
        assert_eq!((back.as_ptr(), back.len()), (address, 0));
        assert_eq!(spares.take().capacity(), 0, "too much to keep");
        for _ in 0..5 {
            spares.give(Vec::with_capacity(1));
        }
        assert_eq!(spares.0.lock().unwrap().len(), Spares::MOST);
    }

    #[test]
    fn a_full_device_is_counted_and_survived() {
        let sink = LogSink::over(File::options().append(true).open("/dev/full").unwrap()).unwrap();
        for _ in 0..3 {
            sink.submit(b"x\n".to_vec()).unwrap();
        }
        assert!(sink.flush(PATIENCE));
        assert_eq!(sink.stats(), LogSinkStats { bytes_written: 0, batches_failed: 3 });
    }

    #[test]
    fn a_blocked_log_gives_the_batch_back() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = LogSink::over(writer).unwrap();
        let line = [vec![b'a'; 65_535], b"\n".to_vec()].concat();
        let mut accepted = 0;
        // A pipe holds 64 KiB: the writer blocks, then its queue fills.
        while sink.submit(line.clone()).is_ok() {
            accepted += 1;
            assert!(accepted <= QUEUE + 3, "the queue has no end");
        }
        assert!(!sink.flush(Duration::ZERO));
        assert_eq!(sink.submit(line.clone()), Err(Full(line.clone())));
        drop(sink);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), accepted * line.len(), "everything accepted is written before the thread ends");
    }

    /// Takes three bytes and then fails, once.
    struct FailsOnce(Vec<u8>, mpsc::Sender<Vec<u8>>);

    impl Write for FailsOnce {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = if self.0.len() < 3 { 3 - self.0.len() } else { bytes.len() };
            if self.0.len() == 3 {
                self.0.push(b'|');
                return Err(ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(&bytes[..room.min(bytes.len())]);
            Ok(room.min(bytes.len()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for FailsOnce {
        fn drop(&mut self) {
            drop(self.1.send(std::mem::take(&mut self.0)));
        }
    }

    #[test]
    fn a_torn_line_does_not_swallow_the_next() {
        let (sender, written) = mpsc::channel();
        let sink = LogSink::over(FailsOnce(Vec::new(), sender)).unwrap();
        sink.submit(b"first\n".to_vec()).unwrap();
        sink.submit(b"second\n".to_vec()).unwrap();
        assert!(sink.flush(PATIENCE));
        assert_eq!(sink.stats().batches_failed, 1);
        drop(sink);
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), b"fir|\nsecond\n");
    }
}
