//! How far an exchange has come: where its two halves meet, and what its clocks and its log line read.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::io;
use crate::proxy::call::Call;
use crate::proxy::request::Request;

/// How far an exchange has come.
pub struct Progress {
    /// When bytes last moved in either direction.
    pub moved: Cell<Instant>,
    /// There is a connection to a server.
    pub has_carrier: Cell<bool>,
    /// The whole request has been handed to the upstream's carrier.
    pub uploaded: Cell<bool>,
    /// The application has been sent a byte of the final response: egret can no longer answer itself.
    pub answering: Cell<bool>,
    /// Status of the final response; 0 before it.
    pub status: Cell<u16>,
    /// When its head was complete.
    pub head_at: Cell<Option<Instant>>,
    /// Body bytes from the application, without framing.
    pub from_client: Cell<u64>,
    /// Body bytes to the application, without framing.
    pub to_client: Cell<u64>,
    /// A byte has come from the upstream.
    pub heard: Cell<bool>,
    /// When the whole request had been handed over.
    pub uploaded_at: Cell<Option<Instant>>,
    /// The application is waited for: it has not sent all of its request.
    pub starved: Cell<bool>,
    /// What it is as a call of gRPC.
    pub call: Call,
}

impl Progress {
    #[must_use]
    pub fn new(request: &Request) -> Self {
        Self {
            call: Call::of(request),
            moved: Cell::new(io::now()),
            has_carrier: Cell::new(false),
            uploaded: Cell::new(false),
            answering: Cell::new(false),
            status: Cell::new(0),
            head_at: Cell::new(None),
            from_client: Cell::new(0),
            to_client: Cell::new(0),
            heard: Cell::new(false),
            uploaded_at: Cell::new(None),
            starved: Cell::new(false),
        }
    }

    /// So much of the request's body has come in all; `whole`: with it the request is complete.
    pub fn note_upload(&self, payload: u64, whole: bool) {
        self.count(&self.from_client, payload);
        self.uploaded.set(whole);
        self.uploaded_at.set(whole.then(io::now));
    }

    /// So much of the response's body goes to the application in all.
    pub fn note_download(&self, payload: u64) {
        self.count(&self.to_client, payload);
    }

    /// The final response's head is here, and goes to the application.
    pub fn note_answer(&self, status: u16) {
        self.status.set(status);
        self.head_at.set(Some(io::now()));
        self.answering.set(true);
    }

    /// How long the server took, where the request was complete before the answer came, as Envoy counts it: every try
    /// included, and the time for a connection.
    #[must_use]
    pub fn service_time(&self, complete: Option<Instant>) -> Option<Duration> {
        self.head_at.get()?.checked_duration_since(complete?)
    }

    /// Waits until `timeout` has passed since the request was complete, as Envoy counts it; forever without one.
    /// `since` is when that was, where it was before this try.
    pub async fn overdue(&self, timeout: Option<Duration>, since: Option<Instant>) {
        let Some(timeout) = timeout else { return future::pending().await };
        loop {
            let now = io::now();
            let until = since.or(self.uploaded_at.get()).unwrap_or(now) + timeout;
            if until <= now {
                return;
            }
            io::sleep_until(until).await;
        }
    }

    /// Something moved that is no part of a body.
    pub fn note_movement(&self) {
        self.moved.set(io::now());
    }

    fn count(&self, counter: &Cell<u64>, payload: u64) {
        counter.set(payload);
        self.moved.set(io::now());
    }
}
