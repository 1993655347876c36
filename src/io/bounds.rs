//! The engine's limits, and what they add up to.

use std::fmt;
use std::time::Duration;

use crate::io::buffers::BLOCK_BYTES;
use crate::io::driver::ring_setup;

/// How sockets are driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// io_uring: kernel 6.1 or newer, where neither seccomp nor a sysctl forbids it.
    #[default]
    Uring,
    /// epoll: everywhere.
    Epoll,
}

impl EngineKind {
    /// Its word on the command line and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Uring => "uring",
            EngineKind::Epoll => "epoll",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an engine may use. [`Default`] suits a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    pub kind: EngineKind,
    /// Close the ring, where the kernel can, to all operations but the engine's own.
    pub restrict_ring: bool,
    /// Accepted connections open at once; more wait in the kernel's backlog. (Those that complete in the same turn as
    /// the last allowed one are still taken.)
    pub max_connections: usize,
    /// Connections opened to elsewhere at once, pooled ones included; more are refused.
    pub max_upstream_connections: usize,
    /// Receive buffers that all connections share; rounded up to a power of two, at most 32,768.
    pub recv_buffers: u16,
    /// Bytes of a receive buffer. The default holds the largest TLS record: 5 + 16,384 + 256, RFC 8446 §5.2.
    pub recv_buffer_bytes: u32,
    /// Blocks for large receives in use at once, of 256 KiB each.
    pub recv_blocks: usize,
    /// Bytes of the kernel's buffers of each socket, each way; `None`: as the kernel sees fit, some megabytes.
    pub socket_buffer: Option<u32>,
    /// Unread bytes of a connection above which its receive stops; it goes on below half of it.
    pub recv_high_water: usize,
    /// Unsent bytes of a connection from which on [`Socket::send`](super::Socket::send) waits.
    pub send_high_water: usize,
    /// The same while the kernel takes all that it is given: so the next receive is armed in the turn that sends what came
    /// of the last one. Below the high-water mark it says nothing.
    pub send_ahead: usize,
    /// How long a dropped socket may still send what was queued.
    pub linger: Duration,
    /// While at least 72 connections are busy, or five receive bodies in large pieces, or much is passed through, a turn
    /// waits this many microseconds for more completions than one (kernel 6.12): what has gathered meanwhile is received
    /// in fewer, larger pieces, and whoever waits for it is woken less often. 0 turns it off.
    pub batch_micros: u32,
    /// Entries of the submission queue, a power of two; the completion queue has eight times as many. Where the memory that
    /// may be locked is short, the ring is smaller.
    pub submission_entries: u32,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            kind: EngineKind::default(),
            restrict_ring: false,
            max_connections: 16_384,
            max_upstream_connections: 16_384,
            recv_buffers: 256,
            recv_buffer_bytes: 17 * 1024,
            recv_blocks: 64,
            socket_buffer: None,
            recv_high_water: 4 * 17 * 1024,
            send_high_water: 64 * 1024,
            send_ahead: 256 * 1024,
            linger: Duration::from_secs(5),
            batch_micros: 100,
            submission_entries: 256,
        }
    }
}

impl EngineOptions {
    /// Bytes that the ring of a worker locks where the kernel counts them.
    #[must_use]
    pub fn locked_bytes(&self) -> u64 {
        ring_setup::locked_bytes(self.submission_entries, self.recv_buffers)
    }

    /// The same with every value in the range that the kernel and the engine can work with.
    pub(super) fn checked(mut self) -> Self {
        self.max_connections = self.max_connections.max(1);
        self.recv_buffers = self.recv_buffers.clamp(2, 1 << 15).next_power_of_two();
        self.recv_buffer_bytes = self.recv_buffer_bytes.clamp(512, 1 << 20);
        self.send_high_water = self.send_high_water.max(1);
        self.submission_entries = self.submission_entries.clamp(8, 1 << 13).next_power_of_two();
        self
    }
}

/// What can be in use at once, from an engine's options. Prints one limit a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    options: EngineOptions,
}

impl Bounds {
    pub(super) fn of(options: &EngineOptions) -> Self {
        Self { options: options.clone() }
    }

    /// Sockets open at once.
    pub fn sockets(&self) -> usize {
        self.options.max_connections.saturating_add(self.options.max_upstream_connections)
    }

    /// Operations in the kernel at once: a receive and a send (or a connect) a socket, an accept, the wake-up read.
    pub fn operations(&self) -> usize {
        self.sockets().saturating_mul(2).saturating_add(2)
    }

    /// Bytes of receive buffers, shared by all connections. Untouched ones cost nothing.
    pub fn shared_bytes(&self) -> usize {
        usize::from(self.options.recv_buffers) * self.options.recv_buffer_bytes as usize
            + self.options.recv_blocks * BLOCK_BYTES
    }

    fn unsent(&self) -> usize {
        self.options.send_high_water.max(self.options.send_ahead)
    }

    /// Entries of the rings.
    pub fn ring_entries(&self) -> (u32, u32) {
        (self.options.submission_entries, self.options.submission_entries * ring_setup::COMPLETIONS)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (submissions, completions) = self.ring_entries();
        let EngineOptions { max_connections, max_upstream_connections, recv_buffers, recv_buffer_bytes, .. } =
            &self.options;
        let EngineOptions { recv_high_water, .. } = &self.options;
        writeln!(f, "connections            {max_connections} accepted + {max_upstream_connections} upstream")?;
        writeln!(f, "operations             {} (rings of {submissions} and {completions})", self.operations())?;
        writeln!(f, "receive buffers        {recv_buffers} × {recv_buffer_bytes} bytes, shared")?;
        writeln!(f, "large receive blocks   {} × {BLOCK_BYTES} bytes, shared", self.options.recv_blocks)?;
        writeln!(f, "                       {} bytes in all, used as needed", self.shared_bytes())?;
        write!(f, "queued per connection  {recv_high_water} bytes unread + {} bytes unsent", self.unsent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_options_are_brought_into_range() {
        let odd = EngineOptions { recv_buffers: 100, submission_entries: 0, send_high_water: 0, ..Default::default() };
        let EngineOptions { recv_buffers, submission_entries, send_high_water, .. } = odd.checked();
        assert_eq!((recv_buffers, submission_entries, send_high_water), (128, 8, 1));
        let default = EngineOptions::default();
        assert_eq!(default.clone().checked(), default);
    }

    #[test]
    fn bounds_add_up() {
        let bounds =
            Bounds::of(&EngineOptions { max_connections: 10, max_upstream_connections: 5, ..Default::default() });
        assert_eq!((bounds.sockets(), bounds.operations()), (15, 32));
        assert!(bounds.to_string().contains("10 accepted + 5 upstream"));
    }
}
