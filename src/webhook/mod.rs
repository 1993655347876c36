//! The admission webhook: an HTTPS server that the API server asks about every new pod, with egret in it as the answer.
//!
//! It knows no cluster and keeps no state; any number of them may run. What is not answered is not admitted (the manifests
//! say `failurePolicy: Fail`), so it goes on serving for a while after it was told to end, until nobody asks any more.

mod review;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::control::watch::Watch;
use crate::tls::{MaterialError, server_config};
use review::{Verdict, answer};

pub use review::Rules;

/// Path that the API server asks at.
pub const PATH: &str = "/inject";
/// The API server takes objects of up to 3 MiB; in JSON, with what stands around it, one is hardly larger.
const MAX_BODY: usize = 4 << 20;
const MAX_CONNECTIONS: usize = 64;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// For a head, and for the time between two requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// The API server itself waits ten seconds for an answer.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How often a server that is about to end looks whether every request is answered.
const ANSWER_POLL: Duration = Duration::from_millis(20);
/// How long to wait after a failed accept: descriptors run out for longer than a turn of the loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What `egret webhook` was asked to do.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub rules: Rules,
    /// How long it serves on after SIGTERM, until every API server has heard that it is going.
    pub drain: Duration,
}

/// Why the webhook cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Certificate(#[from] MaterialError),
}

/// Answers until it is told to stop.
///
/// # Errors
/// What keeps it from starting.
pub fn run(options: WebhookOptions) -> Result<(), WebhookError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WebhookError::Runtime)?;
    LocalSet::new().block_on(&runtime, serve(options))
}

/// What all connections share.
struct Shared {
    rules: Rules,
    /// Connections take it as it is when they begin.
    acceptor: RefCell<TlsAcceptor>,
    draining: Cell<bool>,
    /// Requests that have begun and are not answered.
    open: Cell<usize>,
}

async fn serve(options: WebhookOptions) -> Result<(), WebhookError> {
    let certificate = Files { certificate: options.certificate, key: options.key };
    let mut watch = Watch::new(vec![certificate.certificate.clone(), certificate.key.clone()]);
    let shared = Rc::new(Shared {
        rules: options.rules,
        acceptor: RefCell::new(certificate.load()?),
        draining: Cell::new(false),
        open: Cell::new(0),
    });
    let mut terminate = signal(SignalKind::terminate()).map_err(WebhookError::Signals)?;
    let failed = |source| WebhookError::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
    tracing::info!(listen = %listener.local_addr().map_err(failed)?, "ready");
    let accepting = tokio::task::spawn_local(accept(listener, Rc::clone(&shared)));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            () = sleep(WATCH_INTERVAL) => {}
        }
        if watch.changed() {
            certificate.replace(&shared);
        }
    }
    tracing::info!(seconds = options.drain.as_secs(), "draining");
    shared.draining.set(true);
    tokio::select! {
        () = sleep(options.drain) => {}
        _ = terminate.recv() => return Ok(()),
    }
    accepting.abort();
    let answered = async {
        while shared.open.get() > 0 {
            sleep(ANSWER_POLL).await;
        }
    };
    let _ = timeout(BODY_DEADLINE, answered).await;
    Ok(())
}

/// Where the webhook's own certificate is.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn load(&self) -> Result<TlsAcceptor, MaterialError> {
        server_config(&self.certificate, &self.key).map(TlsAcceptor::from)
    }

    /// What cannot be used replaces nothing: certificate and key may be written one after the other.
    fn replace(&self, shared: &Shared) {
        match self.load() {
            Ok(acceptor) => {
                tracing::info!(certificate = %self.certificate.display(), "certificate replaced");
                *shared.acceptor.borrow_mut() = acceptor;
            }
            Err(error) => tracing::warn!(%error, "the new certificate cannot be used; the old one stays"),
        }
    }
}

async fn accept(listener: TcpListener, shared: Rc<Shared>) -> Infallible {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Rc::clone(&shared);
                tokio::task::spawn_local(async move {
                    connection(stream, shared).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Rc<Shared>) {
    let acceptor = shared.acceptor.borrow().clone();
    let stream = match timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // Most often: the caBundle of the MutatingWebhookConfiguration is not that of the certificate.
        Ok(Err(error)) => return tracing::warn!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake cut at its deadline"),
    };
    let service = service_fn(|request| {
        let shared = Rc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(request, &shared).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A request in the count of open ones, also when its connection ends before it is answered.
struct Open<'a>(&'a Cell<usize>);

impl<'a> Open<'a> {
    fn count(open: &'a Cell<usize>) -> Self {
        open.set(open.get() + 1);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

type Reply = Response<Full<Bytes>>;

async fn respond(request: Request<Incoming>, shared: &Shared) -> Reply {
    let _open = Open::count(&shared.open);
    let mut reply = match (request.uri().path(), request.method()) {
        ("/healthz", &Method::GET) if shared.draining.get() => text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        ("/healthz", &Method::GET) => text(StatusCode::OK, "ok"),
        (PATH, &Method::POST) => review_of(request, shared).await,
        ("/healthz", _) => not_allowed("GET"),
        (PATH, _) => not_allowed("POST"),
        _ => text(StatusCode::NOT_FOUND, "there are POST /inject and GET /healthz"),
    };
    if shared.draining.get() {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

async fn review_of(request: Request<Incoming>, shared: &Shared) -> Reply {
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    if !request.headers().get(CONTENT_TYPE).is_some_and(is_json) {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json");
    }
    let body = match timeout(BODY_DEADLINE, Limited::new(request.into_body(), MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "an AdmissionReview is at most 4 MiB long");
        }
        Ok(Err(_)) => return text(StatusCode::BAD_REQUEST, "the body broke off"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within ten seconds"),
    };
    match answer(&body, &shared.rules) {
        Ok(answer) => {
            match &answer.verdict {
                Verdict::Injected => tracing::info!(pod = ?answer.pod, "injected"),
                Verdict::Left(why) => tracing::info!(pod = ?answer.pod, why, "left as it is"),
                Verdict::Refused(why) => tracing::warn!(pod = ?answer.pod, why, "refused"),
            }
            let mut reply = Response::new(Full::from(answer.body.to_string()));
            reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            reply
        }
        Err(why) => {
            tracing::warn!(why, "a request that is no question");
            text(StatusCode::BAD_REQUEST, &why)
        }
    }
}

fn text(status: StatusCode, message: &str) -> Reply {
    let mut reply = Response::new(Full::from(format!("{message}\n")));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

fn not_allowed(method: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, &format!("use {method}"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    reply
}
