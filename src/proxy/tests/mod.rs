//! The proxy over the simulated network (`io/simulation`): whole connections, from accept to log line, between applications
//! and servers that are programs of a test. Everything but the network and the clock is real: policy, HTTP, TLS, pool.
//!
//! Each play follows from its seed, which is printed when it fails; `EGRET_SEED=7` plays one again, `EGRET_SEEDS=100000`
//! many. No play needs a privilege, and none takes the time that it is about.

mod calls;
#[path = "../../../tests/http/cases.rs"]
mod cases;
mod conversations;
mod departures;
mod drains;
mod expectations;
mod http2_ends;
#[path = "../../../tests/http/judge.rs"]
mod judge;
mod logged;
mod many_at_once;
mod movement;
mod pooled_deaths;
mod relays;
mod reuse;
mod rewritten;
mod server_frames;
mod shared_connections;
mod stage;
mod stalls;
mod talk;
mod tries;
mod tunnels;
mod upstream;
mod versions;
mod wire;

// The judge reads with what is to be judged by, here and in the tests of the whole program.
use crate::http;
