//! What an HTTP/2 connection may ask of egret, and how it is put to the `h2` crate.

use std::time::Duration;

use crate::config::{Http2, Settings};

/// What RFC 9113 §6.5.2 counts for each field beside its name and value.
const FIELD_OVERHEAD: usize = 32;

/// Limits of one connection, the same whichever side egret is. Names are those of RFC 9113 and Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams that the peer may have open at once (`SETTINGS_MAX_CONCURRENT_STREAMS`). Envoy's default since 1.36.
    pub max_concurrent_streams: u32,
    /// Bytes of a body that may be on their way before they are taken, per stream (`SETTINGS_INITIAL_WINDOW_SIZE`): what a
    /// stalled stream can make egret hold.
    pub initial_stream_window: u32,
    /// The same for all streams of the connection: what a connection can make egret hold. Larger by far than a stream's, so
    /// that a few stalled streams do not stop the others.
    pub initial_connection_window: u32,
    /// Bytes of the largest frame that is accepted (`SETTINGS_MAX_FRAME_SIZE`): 16,384 to 16,777,215.
    pub max_frame_size: u32,
    /// Bytes of the table by which the peer compresses its heads (`SETTINGS_HEADER_TABLE_SIZE`).
    pub header_table_size: u32,
    /// Bytes of a decoded header block, as RFC 9113 §6.5.2 counts them: 32 more for each field. Above, a request is
    /// answered with 431 by the codec; above four times as much the connection ends.
    pub max_header_list_size: u32,
    /// Bytes of one stream that may be queued for sending before its source waits.
    pub send_buffer: usize,
    /// Streams reset by the peer before they were even looked at, at once.
    pub max_pending_reset_streams: usize,
    /// Streams that were reset here and are remembered, so that what the peer has sent meanwhile is recognised, and how long.
    pub max_remembered_resets: usize,
    pub remember_resets: Duration,
    /// Streams that the peer may break the protocol on during the connection's life.
    pub max_protocol_errors: usize,
    /// How many frames the peer may send that carry nothing.
    pub idle_frames: FrameBudget,
}

/// A budget of frames without effect (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA, CONTINUATION, unknown
/// ones). A stream that ends in order pays for ten, a DATA frame that egret sends for two; a reset costs ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBudget {
    /// Most that is saved up, and what a connection begins with.
    pub burst: u32,
    /// What is added each second.
    pub per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&Settings::default())
    }
}

impl Limits {
    /// What `settings` say. Heads are limited as in HTTP/1; what the codec counts of one is larger, and it answers what is too
    /// large by itself, without a line in the log. So it lets twice as much pass.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let Http2 {
            max_concurrent_streams,
            initial_stream_window_size,
            initial_connection_window_size,
            max_frame_size,
            hpack_table_size,
            send_buffer_size: send_buffer,
            max_pending_resets: max_pending_reset_streams,
            max_remembered_resets,
            remember_resets,
            max_protocol_errors,
            idle_frame_burst: burst,
            idle_frames_per_second: per_second,
        } = settings.http2;
        // All are of the ranges of RFC 9113.
        let number = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            max_concurrent_streams,
            initial_stream_window: number(initial_stream_window_size),
            initial_connection_window: number(initial_connection_window_size),
            max_frame_size: number(max_frame_size),
            header_table_size: number(hpack_table_size),
            max_header_list_size: number(2 * (settings.max_head_bytes + FIELD_OVERHEAD * settings.max_head_fields)),
            send_buffer,
            max_pending_reset_streams,
            max_remembered_resets,
            remember_resets,
            max_protocol_errors,
            idle_frames: FrameBudget { burst, per_second },
        }
    }

    /// For a connection that an application has opened.
    #[must_use]
    pub fn server(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .max_concurrent_streams(self.max_concurrent_streams)
            .initial_window_size(self.initial_stream_window)
            .initial_connection_window_size(self.initial_connection_window)
            .max_frame_size(self.max_frame_size)
            .header_table_size(self.header_table_size)
            .max_header_list_size(self.max_header_list_size)
            .max_send_buffer_size(self.send_buffer)
            .max_pending_accept_reset_streams(self.max_pending_reset_streams)
            .max_concurrent_reset_streams(self.max_remembered_resets)
            .reset_stream_duration(self.remember_resets)
            .max_local_error_reset_streams(Some(self.max_protocol_errors))
            // RFC 8441: WebSocket over a stream.
            .enable_connect_protocol();
        builder
    }

    /// For a connection to a server.
    #[must_use]
    pub fn client(&self) -> h2::client::Builder {
        /// RFC 9113 §6.5.2 recommends no fewer; so many are assumed until the server has said.
        const UNTIL_SETTINGS: usize = 100;
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(UNTIL_SETTINGS)
            .initial_window_size(self.initial_stream_window)
            .initial_connection_window_size(self.initial_connection_window)
            .max_frame_size(self.max_frame_size)
            .header_table_size(self.header_table_size)
            .max_header_list_size(self.max_header_list_size)
            .max_send_buffer_size(self.send_buffer)
            .max_pending_accept_reset_streams(self.max_pending_reset_streams)
            .max_concurrent_reset_streams(self.max_remembered_resets)
            .reset_stream_duration(self.remember_resets)
            .max_local_error_reset_streams(Some(self.max_protocol_errors));
        builder
    }
}
