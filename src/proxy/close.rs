//! How an application's connection ends. It does not know why.

use std::time::Duration;

use crate::io;
use crate::upstream::Stream;

/// How an application's connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// FIN after everything queued.
    Orderly,
    /// As `Orderly`, but what the application still sends is read and thrown away for a while: closing with unread bytes
    /// would reset the connection and could take the answer away from the application (RFC 9112 §9.6).
    Gently,
    /// RST after everything that came for it: the application must not take what it has for complete.
    Abort,
}

/// How long an application that was refused may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// So much the kernel takes at once, unless it has said otherwise, in bytes: the least that Linux gives a socket for sending
/// (`tcp_wmem`).
const SOON_SENT: usize = 16 * 1024;
/// What an application that was refused may still send while it reads why, in bytes.
const LINGER_BYTES: usize = 256 * 1024;

impl Close {
    /// Ends `client` in this way. What is awaited for some connections only is boxed, and no part of the others' room.
    pub async fn end(self, client: Stream) {
        match self {
            Close::Orderly => {
                // What the kernel takes at once leaves with the FIN, in one segment. A slow reader gets more time than a
                // close gives.
                if client.socket().is_stalled() || client.socket().unsent() > SOON_SENT {
                    Box::pin(client.delivered()).await;
                }
                client.close();
            }
            Close::Gently => Box::pin(close_gently(client)).await,
            Close::Abort => Box::pin(client.abort_delivered()).await,
        }
    }
}

async fn close_gently(client: Stream) {
    let drained = async {
        client.shutdown_write().await.ok();
        let mut seen = 0;
        while seen < LINGER_BYTES {
            match client.recv().await {
                Ok(Some(bytes)) => seen += bytes.len(),
                Ok(None) | Err(_) => break,
            }
        }
    };
    let _ = io::timeout(LINGER, drained).await;
    // Closing with something unread resets the connection, whatever is still on its way to a slow reader.
    client.delivered().await;
    client.close();
}
