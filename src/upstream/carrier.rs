//! What carries one request to a server and its response back, whichever protocol the server speaks.
//!
//! [`Carrier`] is one request's right to a connection. Whatever becomes of the exchange, dropping it ends what it held: its
//! place in the load balancer's count, and the connection, unless that was handed back to [`Upstreams`](super::Upstreams).
//! The two directions of an exchange run at once: [`Carrier::begin`] divides it into an [`Uplink`] and a [`Downlink`].
//!
//! Enums rather than traits: which protocol it is, is known once a connection, and each byte passes here.

use std::net::SocketAddr;

use super::http1::{self, Http1Response};
use super::in_use::{Bond, InUse};
use super::message::{CarrierError, Form, Outgoing};
use super::reader::Reader;
use super::stream::Stream;
use crate::http::{HeadLimits, RequestContext, ResponseHead};
use crate::io::{Lease, SendBuf, SendFuture};

/// A connection, or a share of one, in use by one request.
pub enum Carrier<'u> {
    Http1(InUse<'u>),
}

impl Carrier<'_> {
    /// The server's, or its forward proxy's.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let Self::Http1(connection) = self;
        connection.key.address()
    }

    /// This end's address; `None` when the connection was reset before it could be asked for.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        let Self::Http1(connection) = self;
        connection.local
    }

    /// Whether an earlier request used the connection: the server may have closed it while this one was on its way.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        let Self::Http1(connection) = self;
        connection.is_reused()
    }

    #[must_use]
    pub fn stream(&self) -> &Stream {
        let Self::Http1(connection) = self;
        &connection.stream
    }

    #[must_use]
    pub fn bond(&self) -> Bond {
        let Self::Http1(connection) = self;
        connection.bond
    }

    /// Credentials that authenticate the connection are about to be sent.
    pub fn note_credentials(&mut self) {
        let Self::Http1(connection) = self;
        connection.bond = Bond::Authenticated;
    }

    /// An answer has come that asks for such credentials, or that does not.
    pub fn note_answer(&mut self, challenges: bool) {
        let Self::Http1(connection) = self;
        connection.bond = connection.bond.after(challenges);
    }

    /// Bytes that have left for the server over the connection, by all requests.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.stream().socket().bytes_sent()
    }

    /// Ends it in order, with its connection where that is its own. To be called when the exchange is over and another
    /// must not follow.
    pub fn close(self) {
        let Self::Http1(connection) = self;
        connection.stream.close();
    }

    /// Gives the exchange up: the server must not take what it has for complete.
    pub async fn abort(self) {
        let Self::Http1(connection) = self;
        connection.stream.abort().await;
    }

    /// Its connection, where the server has switched to another protocol: it never carries another request.
    #[must_use]
    pub fn into_tunnel(self) -> Stream {
        let Self::Http1(connection) = self;
        connection.stream
    }

    /// Sends the head of `request` and the `first` bytes of its body at once, in one piece where the protocol allows. The
    /// future resolves when there is room for more; `None`: nothing can be sent any more, and what has come counts.
    pub fn begin<'c>(
        &'c mut self,
        request: Outgoing<'_>,
        first: &[u8],
    ) -> (Uplink<'c>, Downlink<'c>, Option<SendFuture<'c>>) {
        let Self::Http1(connection) = self;
        let stream = &connection.stream;
        let sending = http1::begin(stream, request, first).ok();
        (Uplink::Http1(stream), Downlink::Http1(Http1Response::new(stream)), sending)
    }
}

/// Where the rest of the request goes.
pub enum Uplink<'c> {
    Http1(&'c Stream),
}

impl<'c> Uplink<'c> {
    /// Queues `part` of the body, as [`Carrier::begin`] does.
    pub fn send(&self, part: impl Into<SendBuf>) -> Option<SendFuture<'c>> {
        let Self::Http1(stream) = self;
        stream.send(part).ok()
    }
}

/// Where the response comes from.
pub enum Downlink<'c> {
    Http1(Http1Response<'c>),
}

impl<'c> Downlink<'c> {
    /// The next head of the answer to `request`: interim ones, each to be [taken](Self::take_head) before the next, and then the final one.
    ///
    /// # Errors
    /// None came.
    pub async fn head(&mut self, request: RequestContext, limits: HeadLimits) -> Result<ResponseHead, CarrierError> {
        let Self::Http1(response) = self;
        response.head(request, limits).await
    }

    /// The bytes of the head that was read last: of an interim response, or of one behind which another protocol begins.
    pub fn take_head(&mut self) -> Lease {
        let Self::Http1(response) = self;
        response.take_head()
    }

    /// The bytes of the final head, and behind them what has come of the body, in `form`.
    ///
    /// # Errors
    /// The body breaks its framing.
    pub fn start(&mut self, form: Form) -> Result<Lease, CarrierError> {
        let Self::Http1(response) = self;
        response.start(form)
    }

    /// More of the body, in `form`; `None` at its end.
    ///
    /// # Errors
    /// There is more, and it does not come, or breaks its framing.
    pub async fn next(&mut self, form: Form) -> Result<Option<Lease>, CarrierError> {
        let Self::Http1(response) = self;
        response.next(form).await
    }

    /// Whether the next part came in the same receive as the last: it can be sent with it.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let Self::Http1(response) = self;
        response.has_more()
    }

    /// Whether the connection is where another request may begin, as far as its bytes tell.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let Self::Http1(response) = self;
        response.is_clean()
    }

    /// Whether a byte has come.
    #[must_use]
    pub fn has_spoken(&self) -> bool {
        let Self::Http1(response) = self;
        response.has_spoken()
    }

    /// The bytes themselves, where the server has switched to another protocol.
    pub fn tunnel(&mut self) -> &mut Reader<'c> {
        let Self::Http1(response) = self;
        response.reader()
    }
}
