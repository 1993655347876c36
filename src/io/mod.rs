//! The engine: a single-threaded executor over one io_uring (or epoll), and the project's only unsafe code.
//!
//! # What it must do
//!
//! Carry many TCP connections on one thread with few system calls; hand out received bytes without copying them; keep
//! what the kernel works on alive until the kernel has done with it; stay within printed bounds whatever peers do; do
//! nothing at all while nothing happens. It refuses to know protocols, policy and configuration.
//!
//! # The loop
//!
//! ```text
//!       ┌──────────────────────────────────────────────────────────────────────────┐
//!       ▼                                                                          │
//!  run ready tasks ─► build sends, give buffers back, re-arm ─► io_uring_enter ─► clock, alarms, completions ─► wake
//!  (four rounds)      (one operation a socket)                  (submit + wait)
//! ```
//!
//! One system call a turn submits everything that the tasks asked for and waits for the next completion or the next
//! alarm. While many connections are busy it waits a little longer for several completions
//! ([`EngineOptions::batch_micros`]).
//!
//! # The life of a socket
//!
//! ```text
//!  accept ──► Socket ◄── connect            held by a task
//!               │
//!               ├── receive ──► operation ┐
//!               ├── send ─────► operation ┼─ each holds the connection and the memory that the kernel uses
//!               ▼                         │
//!  drop: cancel the receive, give what is queued the linger time
//!               │                         │
//!               └────────► last one out ◄─┘  closes the descriptor: the one place that frees
//! ```
//!
//! Ids of operations carry a generation, so a late completion reaches nobody. Dropped futures cancel nothing and lose
//! nothing: arrived bytes wait in the socket, queued bytes are sent.
//!
//! # The one circle of files
//!
//! An operation owns the connection that it is about until the kernel has done with it, and a connection starts the next
//! operation. So these files use each other, and no others of the room do: `engine`, `reactor`, and of `socket/` all but
//! `batch`. An order among them would need a trait between each
//! two, with one implementer, on the way of every byte. `tests/tidy` allows this circle and no other.
//!
//! # What liveness rests on
//!
//! * A task that is always ready delays others by its own running time only: the ring is entered every four rounds.
//! * A receive without a free buffer is parked and re-armed in a later turn, when leases have been dropped. Leases that
//!   are kept for ever would starve it; while fewer than half of the buffers are free, received bytes are copied away
//!   from them, so slow readers alone cannot bring that about.
//! * Accepting pauses when descriptors or allowed connections run out, and goes on when a socket closes.
//! * The completion queue is eight times the submission queue; an overflow costs time, not completions (NODROP).
//!
//! [`driver`] is the narrow waist: where a host forbids io_uring, [`driver::epoll`] takes the place of [`driver::uring`], and nothing
//! outside of this module can tell ([`driver::engine_select`] decides). Its turn is the same, with epoll_wait for io_uring_enter and
//! a system call for each operation.

mod activity;
mod bounds;
mod buffers;
mod driver;
mod engine;
mod executor;
mod reactor;
mod shedding;
#[cfg(test)]
pub(crate) mod simulation;
mod socket;
#[cfg(test)]
mod tests;

pub use bounds::{Bounds, EngineKind, EngineOptions};
pub use buffers::Lease;
pub use buffers::buffer_cache::buffer;
pub use buffers::memory::{release_heap, release_program};
pub use driver::engine_select::{EngineSelection, SelectedEngine, select_engine};
pub use driver::probe::{EngineError, Features, probe};
pub use driver::restrict::can_restrict_rings;
pub use engine::{Engine, EngineStats, allow_accepting, release_spares, spawn, stats, woken};
pub use executor::Remote;
pub use executor::timer::{Elapsed, Sleep, now, sleep, sleep_until, timeout};
pub use shedding::Shedding;
pub use socket::batch::SendBuf;
pub use socket::connect::{ConnectOptions, Keepalive};
pub use socket::listener::Listener;
pub use socket::receive::PeekState;
pub use socket::{Ended, FlushFuture, Readable, Recv, SendFuture, Socket};
