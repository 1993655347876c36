//! One connection of an application, from accept to log line.
//!
//! [`serve`] is a connection's whole life: may its destination be dialled ([`guard`]), what does it speak ([`detect`]),
//! what does the policy say, and then either requests ([`downstream`], [`exchange`]) or bytes both ways
//! ([`opaque`]). What goes wrong becomes a [`failure`] with the status, flags and words that the application and the
//! log get. Nothing here knows how sockets are driven or how records are sealed.

mod access_log;
mod affinity;
mod audit;
mod call;
mod clocks;
mod close;
mod connection;
mod context;
mod counters;
mod detect;
mod downstream;
mod drain;
mod exchange;
mod exchange_error;
mod failure;
mod formats;
mod glance;
mod guard;
mod held;
mod interim_rate;
mod memory_release;
mod mirror;
mod names;
mod opaque;
mod peers;
mod progress;
mod random;
mod record;
mod request;
mod request_id;
mod routing;
mod table_cache;
#[cfg(test)]
mod tests;
mod transfer;

pub use connection::serve;
pub use context::Context;
pub use guard::{Guard, Refusal};
pub use names::{Answer, Crowded, Names, Question, RENEW};
