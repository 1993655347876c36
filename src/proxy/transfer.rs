//! The two halves of an exchange: the request on its way up, the response on its way down. They run at once and meet
//! only in [`Progress`]. Neither buffers a body, but for what [`Held`] keeps of a request's; each stops reading where the
//! other side stops taking. Neither knows which protocol either side speaks.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::grpc;
use crate::http::{FieldEdits, HeadLimits, RequestContext, ResponseHead};
use crate::io;
use crate::proxy::downstream::{Reply, RequestBody};
use crate::proxy::exchange_error::ExchangeError;
use crate::proxy::held::Held;
use crate::proxy::interim_rate::InterimRate;
use crate::proxy::progress::Progress;
use crate::upstream::{Downlink, Part, Sending, Uplink};

/// What is done with a response.
pub struct Reception<'r> {
    /// What the request was, as far as its answer depends on it.
    pub request: RequestContext,
    pub limits: HeadLimits,
    pub edits: &'r FieldEdits,
    /// Whether an answer of this status is thrown away for another try; beside it that of gRPC in its head.
    pub is_unwanted: &'r dyn Fn(u16, Option<grpc::Status>) -> bool,
    /// The server's connection knows the application, which must learn that it is over.
    pub is_bound: bool,
    /// The application is told how long the server took.
    pub stamps: bool,
    /// When the request was complete, where that was before this try.
    pub complete: Option<Instant>,
}

/// A response that has been passed on to its last byte.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The upstream connection is at a clean boundary and may carry another request.
    pub upstream_reusable: bool,
    /// From here on both directions are another protocol.
    pub upgraded: bool,
    /// How long the upstream says that it keeps its connection open.
    pub keeps_for: Option<Duration>,
    /// It asks for credentials that authenticate the upstream connection.
    pub challenges_connection: bool,
}

/// Sends the rest of the body as it comes, behind what is `sending` already.
///
/// An upstream that stops reading ends this without an error: it may have answered already, and the answer counts.
///
/// # Errors
/// What the application did wrong.
pub async fn upload(
    body: &mut RequestBody<'_, '_>,
    uplink: Uplink<'_>,
    sending: Option<Sending<'_>>,
    held: &Held<'_>,
    progress: &Progress,
) -> Result<(), ExchangeError> {
    let Some(sending) = sending else { return Ok(()) };
    if sending.await.is_err() {
        return Ok(());
    }
    while !body.is_complete() {
        progress.starved.set(true);
        let part = body.next().await?;
        progress.starved.set(false);
        match &part {
            Part::Bytes(bytes) => held.hold(bytes.as_ref()),
            Part::Trailers(_) => held.give_up(),
        }
        progress.call.see_request(body.form(), part.bytes());
        let is_last = body.is_complete();
        progress.note_upload(body.payload(), is_last);
        let Some(sending) = uplink.send(part, is_last) else { return Ok(()) };
        if sending.await.is_err() {
            progress.uploaded.set(false);
            return Ok(());
        }
        // A side that takes its bytes slowly is not idle.
        progress.note_movement();
    }
    Ok(())
}

/// Passes the response on, interim ones included.
///
/// # Errors
/// What kept the response from being complete.
pub async fn download(
    reply: &Reply<'_>,
    downlink: &mut Downlink<'_>,
    reception: Reception<'_>,
    progress: &Progress,
) -> Result<Received, ExchangeError> {
    let head = final_head(reply, downlink, &reception, progress).await?;
    progress.call.see_head(&head, downlink.head_bytes());
    if (reception.is_unwanted)(head.status, progress.call.status()) {
        return Err(ExchangeError::Unwanted(head.status));
    }
    let form = reply.begin(&head, reception.is_bound && !head.keep_alive);
    // What came with the head is judged before anything is sent: until then the application can be told what is wrong.
    let bytes = if head.is_upgrade { downlink.take_head() } else { downlink.start(form)? };
    progress.note_answer(head.status);
    progress.note_download(downlink.payload());
    progress.call.see_response(form, &bytes[head.length..]);
    let is_over = !head.is_upgrade && downlink.is_over();
    reply
        .start(&head, bytes, &response_edits(&reception, progress), is_over)?
        .await
        .map_err(|_| ExchangeError::Client)?;
    let mut received = Received {
        upstream_reusable: false,
        upgraded: head.is_upgrade,
        keeps_for: head.keeps_for.map(|seconds| Duration::from_secs(seconds.into())),
        challenges_connection: head.challenges_connection,
    };
    if head.is_upgrade {
        return Ok(received);
    }
    while let Some(part) = downlink.next(form).await? {
        progress.note_download(downlink.payload());
        progress.call.see_part(form, &part);
        let sending = reply.part(part, downlink.is_over())?;
        // All that came in one receive leaves in one send; it is here anyway.
        if !downlink.has_more() {
            sending.await.map_err(|_| ExchangeError::Client)?;
            progress.note_movement();
        }
    }
    received.upstream_reusable = head.keep_alive && downlink.is_clean();
    Ok(received)
}

/// What changes of the response's head. In Envoy's order: the route changes the stamp as any other field.
fn response_edits<'r>(reception: &Reception<'r>, progress: &Progress) -> Cow<'r, FieldEdits> {
    const SERVICE_TIME: &str = "x-envoy-upstream-service-time";
    let edits = Cow::Borrowed(reception.edits);
    let complete = reception.complete.or(progress.uploaded_at.get());
    let Some(time) = progress.service_time(complete).filter(|_| reception.stamps) else { return edits };
    if edits.drops(SERVICE_TIME.as_bytes()) {
        return edits;
    }
    let mut edits = edits.into_owned();
    edits.set.push((SERVICE_TIME.to_owned(), time.as_millis().to_string()));
    Cow::Owned(edits)
}

/// Reads up to the final head, whose bytes stay in `downlink`; interim responses are passed on (RFC 9110 §15.2).
async fn final_head(
    reply: &Reply<'_>,
    downlink: &mut Downlink<'_>,
    reception: &Reception<'_>,
    progress: &Progress,
) -> Result<ResponseHead, ExchangeError> {
    let mut allowance = InterimRate::new(io::now());
    loop {
        let read = downlink.head(reception.request, reception.limits).await;
        progress.heard.set(downlink.has_spoken());
        let head = read?;
        if !head.is_interim {
            return Ok(head);
        }
        if !allowance.take(io::now()) {
            return Err(ExchangeError::Response("more interim responses than a server that answers sends".to_owned()));
        }
        progress.note_movement();
        let interim = downlink.take_head();
        reply.interim(&head, &interim).await?;
    }
}
