//! How a try, an exchange or a tunnel ends that does not end with its server's answer.

use super::{Exchange, Tried, limit_reached};
use crate::flow::ResponseFlags;
use crate::http::Method;
use crate::http2::{self, Reason};
use crate::proxy::clocks::Clock;
use crate::proxy::exchange_error::ExchangeError;
use crate::proxy::failure::Failure;
use crate::proxy::opaque::End;
use crate::proxy::routing::Tries;
use crate::upstream::{self, Bond, Carrier, Target};

/// Of a server that ends in the middle of an answer.
const CUT: &str = "the server ended its connection in the middle of its answer";

impl Exchange<'_, '_> {
    /// Ends the upstream connection and decides between another try, an answer of egret's own, and a broken connection.
    pub(super) async fn give_up(
        &mut self,
        error: ExchangeError,
        carrier: Carrier<'_>,
        target: &Target<'_>,
        tries: &mut Tries<'_>,
    ) -> Tried {
        let (address, bond, heard) = (carrier.address(), carrier.bond(), self.progress.heard.get());
        let (was_sent, is_stream) = (carrier.was_sent(), matches!(carrier, Carrier::Http2(_)));
        let stale = matches!(error, ExchangeError::Upstream(_)) && carrier.is_reused() && !heard;
        if stale {
            self.context.upstreams.note_closed(&carrier);
        }
        carrier.abort().await;
        if stale && self.request.is_replayable() && tries.after_stale(was_sent) {
            self.context.counters.requests_retried.increment();
            // At once: the connection was over before the request, and says nothing of the server.
            tries.take();
            return if is_stream { Tried::Unprocessed } else { Tried::Stale };
        }
        if matches!(error, ExchangeError::Refused(_)) && self.held.is_intact() && tries.after_refusal() {
            self.context.counters.requests_retried.increment();
            // At once: it says nothing of the server, but that this connection takes no more.
            tries.take();
            return Tried::Unprocessed;
        }
        if matches!(error, ExchangeError::Reset(Reason::HTTP_1_1_REQUIRED))
            && target.may_speak_http1()
            && self.may_go_as_http1()
            && tries.after_refusal()
        {
            self.context.counters.requests_retried.increment();
            tries.take();
            return Tried::NeedsHttp1;
        }
        if stale && bond == Bond::Authenticated {
            return Tried::Failed(Failure::bond_ended());
        }
        if let Some(outcome) = error.outcome() {
            upstream::note(target, address, outcome);
        }
        let (is_open, is_unwanted) = (!self.progress.answering.get(), matches!(error, ExchangeError::Unwanted(_)));
        let was_sent = was_sent && !matches!(error, ExchangeError::Refused(_));
        let is_reset = is_open && error.is_reset();
        if (is_unwanted || is_reset && self.held.is_intact() && tries.after_reset(was_sent)) && is_open {
            return Tried::Again;
        }
        let spent = is_reset && tries.is_spent() && tries.covers_reset(was_sent);
        Tried::Failed(self.failure_of(error).after(tries.made()).behind(limit_reached(spent) | tries.flags()))
    }

    pub(super) fn failure_of(&self, error: ExchangeError) -> Failure {
        let counters = &self.context.counters;
        if let ExchangeError::Upstream(Some(error)) | ExchangeError::Cut(Some(error)) = &error {
            counters.count_broken(error);
        }
        let is_late = self.progress.answering.get();
        match error {
            ExchangeError::Client => Failure::client_gone(),
            ExchangeError::RequestBody(error) => Failure::request(400, "http1.codec_error", error.to_string()),
            ExchangeError::Upstream(error) if is_late => Failure::upstream_broke_off(error.as_ref()),
            ExchangeError::Upstream(error) => Failure::upstream_gone(error.as_ref()),
            ExchangeError::Response(what) if is_late => Failure::upstream_protocol_late(&what),
            ExchangeError::Response(what) => Failure::upstream_protocol(&what),
            ExchangeError::Cut(error) => {
                let what = error.map_or(CUT.to_owned(), |error| error.to_string());
                if is_late { Failure::upstream_protocol_late(&what) } else { Failure::upstream_protocol(&what) }
            }
            ExchangeError::Unsayable(what) => Failure::unsayable(&what),
            ExchangeError::Refused(why) => Failure::upstream_reset("remote refused stream reset", &why),
            ExchangeError::Reset(reason) if is_late => Failure::upstream_reset_late(http2::reason_name(reason)),
            ExchangeError::Reset(reason) => Failure::upstream_reset("remote reset", http2::reason_name(reason)),
            ExchangeError::Timeout => Failure::timeout(),
            ExchangeError::TryTimeout | ExchangeError::Unwanted(_) => Failure::per_try_timeout(),
            ExchangeError::Overdue(clock) => {
                let counter = match clock {
                    Clock::Idle => &counters.timeouts_idle,
                    Clock::RequestBody => &counters.timeouts_body,
                    Clock::Response => &counters.timeouts_response,
                };
                counter.increment();
                // Before there is a connection nobody waits for the application.
                let is_complete = !self.progress.has_carrier.get() || self.body.has_come();
                Failure::overdue(clock, is_complete)
            }
        }
    }

    /// Ends a tunnel's upstream side as the application's ended, and then the application's.
    pub(super) async fn end_tunnel(&mut self, upstream: Carrier<'_>) {
        let (flags, is_orderly) = match self.tunnel_end.take() {
            None | Some(End::Complete) => (ResponseFlags::default(), true),
            Some(End::Idle) => {
                self.record.end_tunnel("stream_idle_timeout");
                (ResponseFlags::STREAM_IDLE_TIMEOUT, true)
            }
            Some(End::Duration) => (ResponseFlags::DURATION_TIMEOUT, true),
            Some(End::Client(_)) => (ResponseFlags::DOWNSTREAM_CLOSED, false),
            Some(End::Upstream(_)) => (ResponseFlags::UPSTREAM_CLOSED, false),
        };
        self.record.add_flags(flags);
        if is_orderly {
            upstream.close();
            self.reply.end();
        } else {
            upstream.abort().await;
            self.reply.reset();
        }
    }

    /// Answers in the upstream's stead, or breaks off an answer that has begun.
    pub(super) async fn answer(&mut self, failure: Failure) {
        let failure = failure.told(self.table.settings().reply_details);
        self.record.fail(&failure);
        if self.progress.answering.get() || failure.status == 0 {
            self.reply.reset();
        } else {
            let answered = self.reply.answer(&failure).await;
            self.record.note_answer(answered, self.request.head.method != Method::Head);
        }
    }
}
