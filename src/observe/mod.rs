//! What egret says about itself: access-log lines, the thread that writes them, counters and their exposition.
//!
//! Nothing here decides anything, and nothing here may hold up a connection: lines and counts are handed over, and
//! where they cannot be, they are dropped and counted.

mod access_log;
mod counter;
mod counters;
mod escape;
mod http2_connections;
mod istio;
mod log_buffer;
mod log_sink;
pub mod logging;
mod prometheus;
mod traffic;

pub use access_log::{AccessRecord, GrpcCall, HttpExchange};
pub use counter::Counter;
pub use counters::{CounterFamily, CounterKind, WorkerCounters};
pub use http2_connections::{Http2ConnectionRow, Http2Connections, Http2Listed, Http2Side, SideTotals};
pub use istio::{Source, render_traffic};
pub use log_buffer::{LogBuffer, LogFormat};
pub use log_sink::{Full, LogSink, LogSinkStats};
pub use prometheus::{Exposition, render_counters, render_http2};
pub use traffic::{Traffic, TrafficSeries};
