//! PING while nothing comes, so that a server that is gone is noticed (RFC 9113 §6.7; Envoy's `connection_keepalive`,
//! Istio's `http2KeepAlive`).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};

use super::wire::WireState;
use crate::io::{self, Sleep};

/// When to ask, and how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveClocks {
    /// Without a byte from the peer.
    pub interval: Duration,
    /// From the PING to its answer, or any other byte.
    pub timeout: Duration,
}

/// The keep-alive of one connection.
pub(super) struct PingKeepalive {
    clocks: KeepaliveClocks,
    pings: PingPong,
    wire: Rc<WireState>,
    timer: Pin<Box<Sleep>>,
    /// When the PING was sent that has no answer yet.
    asked: Option<Instant>,
}

impl PingKeepalive {
    pub(super) fn new(clocks: KeepaliveClocks, pings: PingPong, wire: Rc<WireState>) -> Self {
        Self { clocks, pings, wire, timer: Box::pin(io::sleep(clocks.interval)), asked: None }
    }

    /// Ready when the peer is gone: it has not answered, nor sent anything else.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.asked.is_some() && self.pings.poll_pong(cx).is_ready() {
                self.asked = None;
                self.timer = Box::pin(io::sleep(self.clocks.interval));
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let heard = self.wire.heard();
            let due = match self.asked {
                Some(asked) => asked.max(heard) + self.clocks.timeout,
                None => heard + self.clocks.interval,
            };
            if io::now() < due {
                self.timer = Box::pin(io::sleep_until(due));
            } else if self.asked.is_some() || self.pings.send_ping(Ping::opaque()).is_err() {
                // The codec refuses a PING when the connection is over; it says so itself then.
                return if self.asked.is_some() { Poll::Ready(()) } else { Poll::Pending };
            } else {
                self.asked = Some(io::now());
                self.timer = Box::pin(io::sleep(self.clocks.timeout));
            }
        }
    }
}
