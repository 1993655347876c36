//! One side of a tunnel: bytes of a connection, or of one stream of HTTP/2, whose other bytes are somebody else's.

use std::cell::RefCell;
use std::io;

use super::message::Sending;
use super::reader::Reader;
use super::stream::{Stream, StreamError};
use crate::http2::{self, Received, ReceivedBody, Responder, SentBody};
use crate::io::SendBuf;

/// Where bytes of a tunnel come from.
pub enum TunnelSource<'a, 's> {
    Connection(&'a mut Reader<'s>),
    Stream(&'a mut ReceivedBody),
}

/// Where bytes of a tunnel go.
#[derive(Clone, Copy)]
pub enum TunnelSink<'a> {
    Connection(&'a Stream),
    Request(&'a RefCell<SentBody>),
    Response(&'a Responder),
}

/// Both directions of one side.
pub struct TunnelEnd<'a, 's> {
    pub source: TunnelSource<'a, 's>,
    pub sink: TunnelSink<'a>,
}

impl<'a, 's: 'a> TunnelEnd<'a, 's> {
    /// Of a whole connection.
    #[must_use]
    pub fn connection(reader: &'a mut Reader<'s>) -> Self {
        let stream: &'s Stream = reader.stream();
        Self { source: TunnelSource::Connection(reader), sink: TunnelSink::Connection(stream) }
    }
}

impl TunnelSource<'_, '_> {
    /// What has arrived, waiting for it if there is nothing; `None` at the end.
    ///
    /// # Errors
    /// Why the rest does not come.
    pub async fn next(&mut self) -> Result<Option<SendBuf>, StreamError> {
        match self {
            Self::Connection(reader) => Ok(reader.next().await?.map(SendBuf::from)),
            Self::Stream(body) => match body.piece().await {
                Ok(Some(Received::Data(data))) => Ok(Some(data.into())),
                Ok(Some(Received::Trailers(_)) | None) => Ok(None),
                Err(error) => Err(broken(&error)),
            },
        }
    }

    /// Tells how much more is likely to come: see [`Stream::expect`] and [`Stream::expect_more`]. A stream's window says it.
    pub fn expect_more(&self, much: bool, streams: bool) {
        if let Self::Connection(reader) = self {
            if much {
                reader.stream().expect_more(streams);
            } else {
                reader.stream().expect(0);
            }
        }
    }
}

impl<'a> TunnelSink<'a> {
    /// Queues `bytes`. The future resolves when there is room for more.
    ///
    /// # Errors
    /// The other side takes no more.
    pub fn send(self, bytes: SendBuf) -> Result<Sending<'a>, StreamError> {
        match self {
            Self::Connection(stream) => stream.send(bytes).map(Sending::Http1),
            Self::Request(body) => {
                body.borrow_mut().send(bytes, false).map_err(|error| broken(&error))?;
                Ok(Sending::Http2Request(body))
            }
            Self::Response(responder) => {
                responder.data(bytes, false).map_err(|error| broken(&error))?;
                Ok(Sending::Http2Response(responder))
            }
        }
    }

    /// Ends this direction, as a FIN does.
    ///
    /// # Errors
    /// The other side takes no more.
    pub async fn finish(self) -> io::Result<()> {
        let ended = match self {
            Self::Connection(stream) => return stream.shutdown_write().await,
            Self::Request(body) => body.borrow_mut().send(b"", true),
            Self::Response(responder) => responder.data(b"", true),
        };
        ended.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
    }

    /// Resolves with the reason when the other side has gone after it has finished sending.
    pub async fn left(self) -> StreamError {
        match self {
            Self::Connection(stream) => stream.left().await.into(),
            Self::Request(body) => broken(&std::future::poll_fn(|cx| body.borrow_mut().poll_reset(cx)).await),
            Self::Response(responder) => broken(&responder.lost().await),
        }
    }
}

fn broken(error: &http2::StreamError) -> StreamError {
    io::Error::new(io::ErrorKind::ConnectionReset, error.to_string()).into()
}
