//! What is known of a flow when the policy is asked about it: where the application connected, and what it has said so far.
//!
//! Borrowed from whoever asks. It knows no table and no answer.

use crate::flow::{Authority, Host, Hostname, OriginalDst};

/// A connection, or one request on it.
#[derive(Clone, Copy)]
pub struct Flow<'f> {
    /// Where the application connected.
    pub destination: OriginalDst,
    pub content: Content<'f>,
}

/// What the application has said.
#[derive(Clone, Copy)]
pub enum Content<'f> {
    /// Nothing, or nobody looked: its server may speak first.
    Silence,
    /// Too little to tell what it is.
    Undecided,
    /// Neither a request nor TLS.
    Opaque,
    /// A ClientHello, and the server name that it asks for.
    Tls(Option<&'f Hostname>),
    /// A request outside TLS.
    Request(&'f RequestView<'f>),
    /// A request for a tunnel to this authority (CONNECT). The view's host is where the application connected, to the
    /// forward proxy that is asked.
    Connect(&'f Authority, &'f RequestView<'f>),
}

/// What policy may ask of a request.
#[derive(Clone, Copy)]
pub struct RequestView<'r> {
    /// The address dialled, where the request names no host.
    pub host: &'r Host,
    /// As it was written; empty where the request names no host (HTTP/1.0 without Host).
    pub authority: &'r [u8],
    pub method: &'r [u8],
    /// Path and query, as they were written.
    pub target: &'r [u8],
    pub any_value: &'r AnyValue<'r>,
}

/// Whether something holds for one of the values of a header field, by its lower-case name: see `http::any_value`.
pub type AnyValue<'r> = dyn Fn(&str, &mut dyn FnMut(&[u8]) -> bool) -> bool + 'r;

impl<'f> Flow<'f> {
    /// Whether nothing is known of its bytes.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        matches!(self.content, Content::Silence | Content::Undecided)
    }

    /// The request; `None` for what is not read as requests.
    #[must_use]
    pub fn request(&self) -> Option<&'f RequestView<'f>> {
        match self.content {
            Content::Request(request) | Content::Connect(_, request) => Some(request),
            Content::Silence | Content::Undecided | Content::Opaque | Content::Tls(_) => None,
        }
    }

    /// The name that a ClientHello asks for, where one is known.
    #[must_use]
    pub fn server_name(&self) -> Option<&'f Hostname> {
        if let Content::Tls(name) = self.content { name } else { None }
    }
}
