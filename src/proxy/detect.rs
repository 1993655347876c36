//! What does the application speak? Its first bytes tell; where it stays silent the server probably speaks first.

use std::time::Duration;

use crate::io;
use crate::proxy::reader::Reader;
use crate::sniff::{self, Detection};
use crate::upstream::StreamError;

/// What the first bytes, or their absence, say.
#[derive(Debug)]
pub enum Spoken {
    /// Decided from bytes, which stay in the reader.
    Protocol(Detection),
    /// No byte came in time: a protocol where the server speaks first, or a slow client.
    Silence,
    /// The application closed its side without a byte.
    Nothing,
}

/// Reads until the protocol is clear, but not longer than `patience` for the first byte (zero waits for ever) and
/// `limit` for the rest; bytes that stay ambiguous are opaque.
///
/// # Errors
/// The stream's.
pub async fn detect(reader: &mut Reader<'_>, patience: Duration, limit: Duration) -> Result<Spoken, StreamError> {
    if reader.bytes().is_empty() {
        let first = reader.fill();
        let filled = if patience.is_zero() {
            first.await?
        } else {
            match io::timeout(patience, first).await {
                Ok(filled) => filled?,
                Err(io::Elapsed) => return Ok(Spoken::Silence),
            }
        };
        if !filled {
            return Ok(Spoken::Nothing);
        }
    }
    match io::timeout(limit, decide(reader)).await {
        Ok(detection) => Ok(Spoken::Protocol(detection?)),
        Err(io::Elapsed) => Ok(Spoken::Protocol(Detection::Opaque)),
    }
}

async fn decide(reader: &mut Reader<'_>) -> Result<Detection, StreamError> {
    loop {
        match sniff::detect(reader.bytes()) {
            Detection::NeedMore => {}
            decided => return Ok(decided),
        }
        if !reader.fill().await? {
            return Ok(Detection::Opaque);
        }
    }
}
