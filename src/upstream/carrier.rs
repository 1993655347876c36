//! What carries one request to a server and its response back, whichever protocol the server speaks.
//!
//! [`Carrier`] is one request's right to a connection. Whatever becomes of the exchange, dropping it ends what it held: its
//! place in the load balancer's count, and the connection, unless that was handed back to [`Upstreams`](super::Upstreams).
//! The two directions of an exchange run at once: [`Carrier::begin`] divides it into an [`Uplink`] and a [`Downlink`].
//!
//! Enums rather than traits: which protocol it is, is known once a connection, and each byte passes here.

use std::net::SocketAddr;

use super::http1::{self, Http1Response};
use super::http2::{Http2Response, StreamInUse, Upload};
use super::in_use::{Bond, InUse};
use super::message::{CarrierError, Form, Outgoing, Part, Sending};
use super::stream::Stream;
use super::tunnel_end::TunnelEnd;
use crate::http::{HeadLimits, RequestContext, ResponseHead};
use crate::io::Lease;
use crate::tls::Negotiated;

/// A connection, or a share of one, in use by one request.
pub enum Carrier<'u> {
    Http1(InUse<'u>),
    Http2(StreamInUse<'u>),
}

impl Carrier<'_> {
    /// The server's, or its forward proxy's.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Http1(used) => used.connection.key.address(),
            Self::Http2(stream) => stream.connection().address(),
        }
    }

    /// This end's address; `None` when the connection was reset before it could be asked for.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Http1(used) => used.connection.local,
            Self::Http2(stream) => stream.connection().local(),
        }
    }

    /// Whether an earlier request used the connection: the server may have closed it while this one was on its way.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Http1(used) => used.is_reused(),
            Self::Http2(stream) => stream.is_reused(),
        }
    }

    /// What was agreed upon in the handshake of its connection, where there was one.
    #[must_use]
    pub fn negotiated(&self) -> Option<Negotiated> {
        match self {
            Self::Http1(used) => used.connection.stream.negotiated(),
            Self::Http2(stream) => stream.connection().negotiated(),
        }
    }

    /// Whose the connection is. One that serves many is nobody's.
    #[must_use]
    pub fn bond(&self) -> Bond {
        match self {
            Self::Http1(used) => used.bond,
            Self::Http2(_) => Bond::Free,
        }
    }

    /// Credentials that authenticate the connection are about to be sent. In HTTP/2 they authenticate nothing: a server that
    /// wants them asks for HTTP/1 (`HTTP_1_1_REQUIRED`).
    pub fn note_credentials(&mut self) {
        if let Self::Http1(used) = self {
            used.bond = Bond::Authenticated;
        }
    }

    /// An answer has come that asks for such credentials, or that does not.
    pub fn note_answer(&mut self, challenges: bool) {
        if let Self::Http1(used) = self {
            used.bond = used.bond.after(challenges);
        }
    }

    /// Resolves when the server has said whether it takes what leads to another protocol. One of HTTP/1 says so in its answer.
    pub async fn settled(&self) {
        if let Self::Http2(stream) = self {
            stream.connection().settled().await;
        }
    }

    /// Whether a byte of the request has left for the server.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Http1(used) => used.connection.stream.socket().bytes_sent() > used.sent_before,
            Self::Http2(stream) => stream.was_sent(),
        }
    }

    /// Ends it in order, with its connection where that is its own. To be called when the exchange is over and another
    /// must not follow.
    pub fn close(self) {
        match self {
            Self::Http1(used) => used.connection.stream.close(),
            // What is not over yet is cancelled.
            Self::Http2(stream) => drop(stream),
        }
    }

    /// Gives the exchange up: the server must not take what it has for complete.
    pub async fn abort(self) {
        match self {
            Self::Http1(used) => used.connection.stream.abort().await,
            Self::Http2(stream) => drop(stream),
        }
    }

    /// Sends the head of `request` and the `first` bytes of its body at once, in one piece where the protocol allows. The
    /// future resolves when there is room for more; `None`: nothing can be sent any more, and what has come counts.
    pub fn begin<'c>(
        &'c mut self,
        request: Outgoing<'_>,
        first: &[u8],
    ) -> (Uplink<'c>, Downlink<'c>, Option<Sending<'c>>) {
        match self {
            Self::Http1(used) => {
                let stream = &used.connection.stream;
                used.sent_before = stream.socket().bytes_sent();
                let sending = http1::begin(stream, request, first).ok().map(Sending::Http1);
                let chunks = http1::has_to_be_framed(request.head, request.form);
                (Uplink::Http1 { stream, chunks }, Downlink::Http1(Http1Response::new(stream)), sending)
            }
            Self::Http2(stream) => {
                let (upload, response, sending) = stream.begin(request, first);
                (Uplink::Http2(upload), Downlink::Http2(response), sending)
            }
        }
    }
}

/// Where the rest of the request goes.
pub enum Uplink<'c> {
    Http1 {
        stream: &'c Stream,
        /// The body comes without the chunks that its head announces.
        chunks: bool,
    },
    /// `None`: there is no stream to send it on.
    Http2(Option<Upload<'c>>),
}

impl<'c> Uplink<'c> {
    /// Queues `part` of the body, as [`Carrier::begin`] does. `is_last`: the body ends with it.
    pub fn send(&self, part: Part, is_last: bool) -> Option<Sending<'c>> {
        match self {
            Self::Http1 { stream, chunks } => http1::send_part(stream, part, is_last, *chunks).ok().map(Sending::Http1),
            Self::Http2(upload) => upload.as_ref()?.send(part, is_last),
        }
    }
}

/// Where the response comes from.
pub enum Downlink<'c> {
    Http1(Http1Response<'c>),
    Http2(Http2Response<'c>),
}

impl<'c> Downlink<'c> {
    /// The next head of the answer to `request`: interim ones, each to be [taken](Self::take_head) before the next, and then the final one.
    ///
    /// # Errors
    /// None came.
    pub async fn head(&mut self, request: RequestContext, limits: HeadLimits) -> Result<ResponseHead, CarrierError> {
        match self {
            Self::Http1(response) => response.head(request, limits).await,
            Self::Http2(response) => response.head(request, limits).await,
        }
    }

    /// The bytes of the head that was read last, which stay.
    #[must_use]
    pub fn head_bytes(&self) -> &[u8] {
        match self {
            Self::Http1(response) => response.head_bytes(),
            Self::Http2(response) => response.head_bytes(),
        }
    }

    /// The bytes of the head that was read last: of an interim response, or of one behind which another protocol begins.
    pub fn take_head(&mut self) -> Lease {
        match self {
            Self::Http1(response) => response.take_head(),
            Self::Http2(response) => response.take_head(),
        }
    }

    /// The bytes of the final head, and behind them what has come of the body, in `form`.
    ///
    /// # Errors
    /// The body breaks its framing.
    pub fn start(&mut self, form: Form) -> Result<Lease, CarrierError> {
        match self {
            Self::Http1(response) => response.start(form),
            Self::Http2(response) => response.start(form),
        }
    }

    /// More of the body, in `form`; `None` at its end.
    ///
    /// # Errors
    /// There is more, and it does not come, or breaks its framing.
    pub async fn next(&mut self, form: Form) -> Result<Option<Part>, CarrierError> {
        match self {
            Self::Http1(response) => response.next(form).await,
            Self::Http2(response) => response.next(form).await,
        }
    }

    /// Whether nothing more of the body comes, as far as that is known before [`next`](Self::next) says so.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Http1(response) => response.is_over(),
            Self::Http2(response) => response.is_over(),
        }
    }

    /// Whether the next part came in the same receive as the last: it can be sent with it.
    #[must_use]
    pub fn has_more(&self) -> bool {
        match self {
            Self::Http1(response) => response.has_more(),
            Self::Http2(_) => false,
        }
    }

    /// Whether the connection is where another request may begin, as far as its bytes tell.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Http1(response) => response.is_clean(),
            Self::Http2(_) => true,
        }
    }

    /// Bytes of the final response's body so far, without framing.
    #[must_use]
    pub fn payload(&self) -> u64 {
        match self {
            Self::Http1(response) => response.payload(),
            Self::Http2(response) => response.payload(),
        }
    }

    /// Whether a byte has come.
    #[must_use]
    pub fn has_spoken(&self) -> bool {
        match self {
            Self::Http1(response) => response.has_spoken(),
            Self::Http2(response) => response.has_spoken(),
        }
    }

    /// The bytes themselves, where the server has switched to another protocol.
    /// `None`: there is nothing left of it.
    pub fn tunnel(&mut self) -> Option<TunnelEnd<'_, 'c>> {
        match self {
            Self::Http1(response) => Some(TunnelEnd::connection(response.reader())),
            Self::Http2(response) => response.tunnel(),
        }
    }
}
