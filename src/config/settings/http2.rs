//! The settings of HTTP/2: what one connection may ask of egret, whichever side egret is. Names are Envoy's where it has one.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Limits of each HTTP/2 connection. RFC 9113 §6.5.2 says what a peer is told of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    pub max_concurrent_streams: u32,
    /// Bytes.
    pub initial_stream_window_size: usize,
    /// Bytes.
    pub initial_connection_window_size: usize,
    /// Bytes.
    pub max_frame_size: usize,
    /// Bytes.
    pub hpack_table_size: usize,
    /// Bytes of a stream that are queued for sending before its source waits.
    pub send_buffer_size: usize,
    /// Streams that were reset before they were looked at, at once.
    pub max_pending_resets: usize,
    /// Streams reset by egret that are remembered, and for how long, so that what is still on its way for them is no error.
    pub max_remembered_resets: usize,
    pub remember_resets: Duration,
    /// Streams that a peer may break the protocol on, in a connection's life.
    pub max_protocol_errors: usize,
    /// Frames that carry nothing: so many at once, and so many more a second.
    pub idle_frame_burst: u32,
    pub idle_frames_per_second: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1024,
            initial_stream_window_size: 256 << 10,
            initial_connection_window_size: 16 << 20,
            max_frame_size: 16 << 10,
            hpack_table_size: 4096,
            send_buffer_size: 64 << 10,
            max_pending_resets: 1024,
            max_remembered_resets: 100,
            remember_resets: Duration::from_secs(1),
            max_protocol_errors: 1024,
            idle_frame_burst: 10_000,
            idle_frames_per_second: 1000,
        }
    }
}

/// What RFC 9113 allows.
pub(super) const STREAMS: RangeInclusive<i64> = 1..=i32::MAX as i64;
pub(super) const WINDOW_BYTES: RangeInclusive<i64> = 65_535..=i32::MAX as i64;
pub(super) const FRAME_BYTES: RangeInclusive<i64> = 16_384..=16_777_215;
/// A larger table is memory of every connection.
pub(super) const TABLE_BYTES: RangeInclusive<i64> = 0..=65_536;
pub(super) const BUFFER_BYTES: RangeInclusive<i64> = 16_384..=16 << 20;
pub(super) const RESETS: RangeInclusive<i64> = 1..=100_000;
pub(super) const FRAMES: RangeInclusive<i64> = 100..=10_000_000;
