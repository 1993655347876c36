//! The two halves of an exchange: the request on its way up, the response on its way down. They run at once and meet
//! only in [`Progress`]. Neither buffers a body, but for what [`Held`] keeps of a request's; each stops reading where the other side stops taking.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::http::{
    BodyError, BodyLength, BodyScanner, ClientContext, FieldEdits, HeadLimits, Parsed, RequestEdits, ResponseHead,
    Version, parse_response,
};
use crate::io::{self, Lease};
use crate::policy::Outcome;
use crate::proxy::clocks::Clock;
use crate::proxy::held::Held;
use crate::proxy::http1::Request;
use crate::proxy::reader::Reader;
use crate::upstream::{Stream, StreamError};

/// Most interim (1xx) responses before the final one; a server that sends more is not answering.
const MAX_INTERIM: usize = 32;

/// What must be left of a body, or of one of its chunks, for large receives to pay.
const BULK: u64 = 16 * 1024;

/// How far an exchange has come.
pub struct Progress {
    /// When bytes last moved in either direction.
    pub moved: Cell<Instant>,
    /// The whole request has been handed to the upstream's socket.
    pub uploaded: Cell<bool>,
    /// The application has been sent a byte of the final response: egret can no longer answer itself.
    pub answering: Cell<bool>,
    /// The application can tell by the response's framing whether it has all of it.
    pub shows_end: Cell<bool>,
    /// Status of the final response; 0 before it.
    pub status: Cell<u16>,
    /// When its head was complete.
    pub head_at: Cell<Option<Instant>>,
    /// Body bytes from the application.
    pub from_client: Cell<u64>,
    /// Body bytes to the application.
    pub to_client: Cell<u64>,
    /// A byte has come from the upstream.
    pub heard: Cell<bool>,
    /// When the whole request had been handed over.
    uploaded_at: Cell<Option<Instant>>,
    /// The application is waited for: it has not sent all of its request.
    pub starved: Cell<bool>,
}

impl Progress {
    #[must_use]
    pub fn new() -> Self {
        Self {
            moved: Cell::new(io::now()),
            uploaded: Cell::new(false),
            answering: Cell::new(false),
            shows_end: Cell::new(false),
            status: Cell::new(0),
            head_at: Cell::new(None),
            from_client: Cell::new(0),
            to_client: Cell::new(0),
            heard: Cell::new(false),
            uploaded_at: Cell::new(None),
            starved: Cell::new(false),
        }
    }

    fn note_uploaded(&self, whole: bool) {
        self.uploaded.set(whole);
        self.uploaded_at.set(whole.then(io::now));
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

    fn count(&self, counter: &Cell<u64>, bytes: usize) {
        counter.set(counter.get() + bytes as u64);
        self.moved.set(io::now());
    }
}

/// Why an exchange cannot be finished.
#[derive(Debug)]
pub enum Broken {
    /// The application reset its connection, or ended it in the middle of its request.
    Client,
    /// The request's body breaks its framing.
    RequestBody(BodyError),
    /// The upstream closed (`None`) or failed.
    Upstream(Option<StreamError>),
    /// The response breaks HTTP.
    Response(String),
    /// It took too long.
    Overdue(Clock),
    /// The route's time for the whole request is over.
    Timeout,
    /// The route's time for one try is over.
    TryTimeout,
    /// The route wants the request sent again after an answer of this status; nothing of it was passed on.
    Unwanted(u16),
}

impl Broken {
    /// What it says of the upstream; `None` where the application was at fault.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Broken::Client | Broken::RequestBody(_) | Broken::Overdue(Clock::Idle | Clock::RequestBody) => None,
            Broken::Upstream(_) | Broken::Response(_) => Some(Outcome::Failed),
            Broken::Timeout | Broken::TryTimeout | Broken::Overdue(Clock::Response) => Some(Outcome::TimedOut),
            Broken::Unwanted(status) => Some(Outcome::Answered(*status)),
        }
    }
}

/// What is done with a response.
pub struct Reception<'r> {
    pub limits: HeadLimits,
    pub edits: &'r FieldEdits,
    /// Whether an answer of this status is thrown away for another try.
    pub is_unwanted: &'r dyn Fn(u16) -> bool,
}

/// A response that has been passed on to its last byte.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The upstream connection is at a clean boundary and may carry another request.
    pub upstream_reusable: bool,
    /// The application was told that its connection stays open.
    pub client_keep_alive: bool,
    /// 101: from here on both directions are another protocol.
    pub upgraded: bool,
    /// How long the upstream says that it keeps its connection open.
    pub keeps_for: Option<Duration>,
    /// It asks for credentials that authenticate the upstream connection.
    pub challenges_connection: bool,
}

/// Sends the request: its head and the body bytes that came with it at once, then the rest of the body as it comes.
///
/// An upstream that stops reading ends this without an error: it may have answered already, and the answer counts.
///
/// # Errors
/// What the application did wrong.
pub async fn upload(
    request: &Request,
    reader: &mut Reader<'_>,
    upstream: &Stream,
    edits: RequestEdits<'_>,
    body: &Held<'_>,
    progress: &Progress,
) -> Result<(), Broken> {
    let first = body.first(reader)?;
    let mut rewritten = Vec::new();
    let head: &[u8] = if request.head.is_verbatim() && edits.is_empty() {
        &request.raw
    } else {
        request.head.write_edited(&request.raw, edits, &mut rewritten);
        &rewritten
    };
    progress.count(&progress.from_client, first.len());
    progress.note_uploaded(body.is_complete());
    let Ok(sending) = upstream.send_pieces(&[head, &first]) else { return Ok(()) };
    if sending.await.is_err() {
        return Ok(());
    }
    while !body.is_complete() {
        expect(reader.stream(), body.remaining());
        progress.starved.set(true);
        match reader.fill().await {
            Ok(true) => progress.starved.set(false),
            Ok(false) | Err(_) => return Err(Broken::Client),
        }
        let part = body.next(reader)?;
        progress.count(&progress.from_client, part.len());
        progress.note_uploaded(body.is_complete());
        let Ok(sending) = upstream.send(part) else { return Ok(()) };
        if sending.await.is_err() {
            progress.uploaded.set(false);
            return Ok(());
        }
    }
    reader.stream().expect(0);
    Ok(())
}

/// Passes the response on, interim ones included.
///
/// `client_context` is asked when the final head goes out: only then is it known whether the connection can stay open.
///
/// # Errors
/// What kept the response from being complete.
pub async fn download(
    client: &Stream,
    back: &mut Reader<'_>,
    request: &Request,
    client_context: impl Fn(&ResponseHead) -> ClientContext,
    reception: Reception<'_>,
    progress: &Progress,
) -> Result<Received, Broken> {
    let (head, length) = final_head(client, back, request, reception.limits, progress).await?;
    if (reception.is_unwanted)(head.status) {
        return Err(Broken::Unwanted(head.status));
    }
    progress.status.set(head.status);
    progress.head_at.set(Some(io::now()));
    progress.answering.set(true);
    let context = client_context(&head);
    let delivery = head.delivery(context);
    progress.shows_end.set(!head.is_close_delimited() && !delivery.dechunk);
    let scanner = BodyScanner::new(head.body);
    let mut body = Body { scanner, dechunk: delivery.dechunk, surplus: false, edits: reception.edits };
    body.pass_first(client, back, &head, length, context, progress).await?;
    if head.is_upgrade {
        return Ok(Received {
            upstream_reusable: false,
            client_keep_alive: false,
            upgraded: true,
            keeps_for: None,
            challenges_connection: false,
        });
    }
    while !body.scanner.is_complete() {
        expect(back.stream(), body.scanner.remaining());
        match back.next().await {
            Ok(Some(bytes)) => {
                let part = body.part(bytes)?;
                progress.count(&progress.to_client, part.len());
                let sending = client.send(part).map_err(|_| Broken::Client)?;
                // All that came in one receive leaves in one send; it is here anyway.
                if !back.stream().has_opened() {
                    sending.await.map_err(|_| Broken::Client)?;
                }
            }
            Ok(None) if head.is_close_delimited() => break,
            Ok(None) => return Err(Broken::Upstream(None)),
            Err(error) => return Err(Broken::Upstream(Some(error))),
        }
    }
    back.stream().expect(0);
    let upstream_reusable = head.keep_alive && !head.is_close_delimited() && !body.surplus && back.bytes().is_empty();
    let keeps_for = head.keeps_for.map(|seconds| Duration::from_secs(seconds.into()));
    Ok(Received {
        upstream_reusable,
        client_keep_alive: delivery.keep_alive,
        upgraded: false,
        keeps_for,
        challenges_connection: head.challenges_connection,
    })
}

/// Much of a body is received in few, large pieces.
fn expect(stream: &Stream, remaining: Option<u64>) {
    stream.expect(remaining.filter(|&bytes| bytes > BULK).unwrap_or(0));
}

/// Reads up to the final head, which stays in the reader; interim responses are passed on (RFC 9110 §15.2).
async fn final_head(
    client: &Stream,
    back: &mut Reader<'_>,
    request: &Request,
    limits: HeadLimits,
    progress: &Progress,
) -> Result<(ResponseHead, usize), Broken> {
    let asked = request.head.context();
    for _ in 0..=MAX_INTERIM {
        let (head, length) = loop {
            match parse_response(back.bytes(), asked, limits) {
                Ok(Parsed::Complete { head, length }) => break (head, length),
                Ok(Parsed::Partial) => {}
                Err(error) => return Err(Broken::Response(error.to_string())),
            }
            match back.fill().await {
                Ok(true) => progress.heard.set(true),
                Ok(false) => return Err(Broken::Upstream(None)),
                Err(error) => return Err(Broken::Upstream(Some(error))),
            }
        };
        if !head.is_interim {
            return Ok((head, length));
        }
        let interim = back.take(length);
        if request.head.version == Version::Http11 {
            let mut out = Vec::new();
            let keep = ClientContext { version: Version::Http11, keep_alive: true };
            head.write_to(&interim, &mut out, keep);
            pass(client, Lease::from_vec(out), &Progress::new()).await?;
        }
    }
    Err(Broken::Response(format!("more than {MAX_INTERIM} interim responses")))
}

/// The response's body between two receives.
struct Body<'r> {
    scanner: BodyScanner,
    dechunk: bool,
    /// Bytes came behind the end of the response: nobody asked for them, and the connection must not be used again.
    surplus: bool,
    /// Changes of the head.
    edits: &'r FieldEdits,
}

impl Body<'_> {
    /// Sends the head and what came with it of the body as one.
    async fn pass_first(
        &mut self,
        client: &Stream,
        back: &mut Reader<'_>,
        head: &ResponseHead,
        length: usize,
        context: ClientContext,
        progress: &Progress,
    ) -> Result<(), Broken> {
        if head.is_verbatim(context) && self.edits.is_empty() && !self.dechunk && !head.is_upgrade {
            let mut all = back.take_all();
            let used = self.scanner.advance(&all[length..]).map_err(broken_body)?;
            self.surplus = length + used < all.len();
            all.truncate(length + used);
            progress.count(&progress.to_client, used);
            return send(client, all).await;
        }
        let raw = back.take(length);
        let mut out = Vec::with_capacity(length + 64);
        head.write_edited(&raw, self.edits, &mut out, context);
        let first = if head.is_upgrade { Lease::from_vec(Vec::new()) } else { self.part(back.take_all())? };
        out.extend_from_slice(&first);
        progress.count(&progress.to_client, first.len());
        send(client, Lease::from_vec(out)).await
    }

    /// The part of `bytes` that goes to the application.
    fn part(&mut self, mut bytes: Lease) -> Result<Lease, Broken> {
        if self.dechunk {
            return self.data_of(&bytes);
        }
        let used = self.scanner.advance(&bytes).map_err(broken_body)?;
        self.surplus = used < bytes.len();
        bytes.truncate(used);
        Ok(bytes)
    }

    /// The data in `bytes` without its framing, for a client that does not know chunks.
    fn data_of(&mut self, bytes: &[u8]) -> Result<Lease, Broken> {
        let mut data = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() && !self.scanner.is_complete() {
            let chunk = self.scanner.next_chunk(&bytes[at..]).map_err(broken_body)?;
            data.extend_from_slice(&bytes[at..][chunk.data]);
            at += chunk.consumed;
        }
        self.surplus = at < bytes.len();
        Ok(Lease::from_vec(data))
    }
}

async fn pass(client: &Stream, bytes: Lease, progress: &Progress) -> Result<(), Broken> {
    progress.count(&progress.to_client, bytes.len());
    send(client, bytes).await
}

async fn send(client: &Stream, bytes: Lease) -> Result<(), Broken> {
    if bytes.is_empty() {
        return Ok(());
    }
    match client.send(bytes) {
        Ok(sending) => sending.await.map_err(|_| Broken::Client),
        Err(_) => Err(Broken::Client),
    }
}

fn broken_body(error: BodyError) -> Broken {
    Broken::Response(error.to_string())
}

/// Whether `request` may be sent a second time when the first connection died without a byte of an answer.
#[must_use]
pub fn is_replayable(request: &Request) -> bool {
    request.head.method.is_idempotent() && is_over_with_head(request)
}

/// Whether nothing of `request` comes behind its head.
#[must_use]
pub fn is_over_with_head(request: &Request) -> bool {
    matches!(request.head.body, BodyLength::None | BodyLength::Length(0)) && request.head.upgrade.is_none()
}
