//! The answer to one stream of HTTP/2 on its way to the application. What becomes of the connection is not its affair.

use ::http::{Response, StatusCode, header};

use super::answered::Answered;
use super::http2_answer;
use crate::http::{ClientContext, FieldEdits, Method, ResponseHead, Version, websocket_accept};
use crate::http2::{Reason, Responder, outgoing_response, outgoing_trailers};
use crate::io::Lease;
use crate::proxy::call;
use crate::proxy::exchange_error::ExchangeError;
use crate::proxy::failure::Failure;
use crate::proxy::request::Request;
use crate::upstream::{Part, Sending};

/// As the head of HTTP/1 is written that becomes one of HTTP/2: nothing in it speaks of the connection.
const CLIENT: ClientContext = ClientContext { version: Version::Http11, keep_alive: true };

/// The way back of one request.
pub struct Http2Reply<'i> {
    responder: &'i Responder,
    request: &'i Request,
}

impl<'i> Http2Reply<'i> {
    #[must_use]
    pub fn new(responder: &'i Responder, request: &'i Request) -> Self {
        Self { responder, request }
    }

    pub fn responder(&self) -> &'i Responder {
        self.responder
    }

    pub fn interim(&self, head: &ResponseHead, raw: &[u8]) -> Result<(), ExchangeError> {
        let mut out = Vec::new();
        head.write_to(raw, &mut out, CLIENT);
        // What HTTP/2 cannot say of an interim response, its receiver can do without.
        let Ok(response) = outgoing_response(&out) else { return Ok(()) };
        self.responder.interim(response).map_err(|_| ExchangeError::Client)
    }

    pub fn start(
        &self,
        head: &ResponseHead,
        bytes: Lease,
        edits: &FieldEdits,
        is_over: bool,
    ) -> Result<Sending<'i>, ExchangeError> {
        let (raw, mut first) = (&bytes[..head.length], head.length);
        let mut edited = Vec::new();
        if !head.is_verbatim(CLIENT) || !edits.is_empty() {
            head.write_edited(raw, edits, &mut edited, CLIENT);
        }
        let written = if edited.is_empty() { raw } else { &edited };
        let mut response = outgoing_response(written).map_err(|error| ExchangeError::Response(error.to_string()))?;
        if head.is_upgrade {
            self.accept_tunnel(&mut response)?;
        }
        let has_data = bytes.len() > first;
        if is_over && !has_data && call::is_call(self.request) {
            // An answer without messages is its head alone; HTTP/1 needed the length.
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        self.responder.head(response, is_over && !has_data).map_err(|_| ExchangeError::Client)?;
        if has_data {
            let mut data = bytes;
            data.advance(std::mem::take(&mut first));
            self.responder.data(data, is_over).map_err(|_| ExchangeError::Client)?;
        }
        Ok(Sending::Http2Response(self.responder))
    }

    pub fn part(&self, part: Part, is_over: bool) -> Result<Sending<'i>, ExchangeError> {
        match part {
            Part::Bytes(bytes) => self.responder.data(bytes, is_over).map_err(|_| ExchangeError::Client)?,
            Part::Trailers(lines) => {
                let trailers = outgoing_trailers(&lines).map_err(|error| ExchangeError::Response(error.to_string()))?;
                self.responder.trailers(trailers).map_err(|_| ExchangeError::Client)?;
            }
        }
        Ok(Sending::Http2Response(self.responder))
    }

    pub fn end(&self) {
        if !self.responder.is_over() {
            // Whoever is gone needs no end.
            let _ = self.responder.data(b"", true);
        }
    }

    pub fn reset(&self) {
        if !self.responder.is_over() {
            self.responder.reset(Reason::INTERNAL_ERROR);
        }
    }

    pub fn answer(&self, failure: &Failure) -> Answered {
        let is_head = self.request.head.method == Method::Head;
        http2_answer::send(self.responder, failure, call::is_call(self.request), is_head)
    }

    /// What is 101 in HTTP/1 is a success of (extended) CONNECT here. The server's proof that it has read the key is looked at
    /// here, since the client knows none (RFC 8441 §5).
    fn accept_tunnel(&self, response: &mut Response<()>) -> Result<(), ExchangeError> {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::CONTENT_LENGTH);
        let proof = response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        let key = self.request.head.field(&self.request.raw, "sec-websocket-key");
        match key.map(|key| websocket_accept(&key)) {
            Some(expected) if proof.is_none_or(|proof| proof.as_bytes() != expected.as_bytes()) => {
                Err(ExchangeError::Response("Sec-WebSocket-Accept does not answer the key that was sent".to_owned()))
            }
            _ => Ok(()),
        }
    }

    pub async fn lost(&self) {
        self.responder.lost().await;
    }
}
