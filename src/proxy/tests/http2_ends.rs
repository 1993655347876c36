//! HTTP/2 at the far ends, by the `h2` crate: applications that open streams, and servers whose streams are programs.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use futures_lite::future;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::wire::Wire;

/// Between a program and its connection.
const PIPE: usize = 256 * 1024;

/// What a server says of itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Manner {
    pub(super) max_streams: Option<u32>,
    /// It says goodbye (GOAWAY) after so many streams of a connection.
    pub(super) streams_per_connection: Option<usize>,
}

/// One stream, as a server's program gets it.
pub(super) struct Stream {
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
}

impl Stream {
    pub(super) fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// All of the request's body.
    pub(super) async fn body(&mut self) -> Vec<u8> {
        read(self.request.body_mut()).await.unwrap_or_default()
    }

    /// Answers 200 with `body`.
    pub(super) fn answer(&mut self, body: &str) {
        let Ok(mut stream) = self.respond.send_response(Response::new(()), false) else { return };
        let _ = stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true);
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<F: Future<Output = ()> + 'static>(wire: Wire, manner: Manner, handle: impl Fn(Stream) -> F) {
    let (near, far) = tokio::io::duplex(PIPE);
    let serving = async move {
        let mut builder = h2::server::Builder::new();
        if let Some(most) = manner.max_streams {
            builder.max_concurrent_streams(most);
        }
        let Ok(mut connection) = builder.handshake::<_, Bytes>(near).await else { return };
        let mut running: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
        let number = Cell::new(0);
        poll_fn(|cx| {
            while let Poll::Ready(accepted) = connection.poll_accept(cx) {
                let Some(Ok((request, respond))) = accepted else { return Poll::Ready(()) };
                let stream = Stream { request, respond };
                number.set(number.get() + 1);
                if manner.streams_per_connection == Some(number.get()) {
                    connection.graceful_shutdown();
                }
                running.push(Box::pin(handle(stream)));
            }
            running.retain_mut(|task| task.as_mut().poll(cx).is_pending());
            Poll::Pending
        })
        .await;
    };
    future::zip(pump(&wire, far), serving).await;
}

/// Runs `script` on a connection whose server reads and writes at the other end of `wire`.
pub(super) async fn speak<T>(wire: Wire, script: impl AsyncFnOnce(SendRequest<Bytes>) -> T) -> T {
    let (near, far) = tokio::io::duplex(PIPE);
    let (send, connection) = h2::client::Builder::new().handshake::<_, Bytes>(near).await.expect("it is only begun");
    let driving = async {
        let _ = connection.await;
        pending().await
    };
    let pumping = async {
        pump(&wire, far).await;
        pending().await
    };
    future::or(script(send), future::or(driving, pumping)).await
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    pub(super) body: String,
    pub(super) trailers: Option<HeaderMap>,
}

/// One request with this body, and these fields beside.
pub(super) async fn ask(
    send: &SendRequest<Bytes>,
    method: &str,
    uri: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Result<Got, h2::Error> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    let mut send = send.clone().ready().await?;
    let (response, mut upload) = send.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        upload.send_data(Bytes::copy_from_slice(body), true)?;
    }
    let (parts, mut stream) = response.await?.into_parts();
    let body = String::from_utf8_lossy(&read(&mut stream).await?).into_owned();
    let trailers = stream.trailers().await?;
    Ok(Got { status: parts.status.as_u16(), fields: parts.headers, body, trailers })
}

async fn read(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    Ok(body)
}

/// Carries bytes between a connection and the pipe to what speaks over it, both ways.
async fn pump(wire: &Wire, pipe: DuplexStream) {
    let (mut from, mut to) = tokio::io::split(pipe);
    let hear = async {
        while let Ok(bytes) = wire.recv().await {
            if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    let say = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count) = from.read(&mut bytes).await {
            if count == 0 || wire.send(&bytes[..count]).await.is_err() {
                break;
            }
        }
        wire.finish().await;
    };
    future::zip(hear, say).await;
}
