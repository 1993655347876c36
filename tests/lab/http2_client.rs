//! An HTTP/2 client without TLS (prior knowledge), by the `h2` crate: what curl does not show, such as trailers, resets and
//! many streams at once.

use std::net::TcpStream;

use bytes::Bytes;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use tokio::runtime::Runtime;

use super::PATIENCE;

pub struct Http2Client {
    runtime: Runtime,
    send: SendRequest<Bytes>,
    /// The connection's end, once it has one.
    ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// A body and trailers that follow a head.
#[derive(Clone, Debug, Default)]
pub struct Body<'b> {
    pub data: &'b [u8],
    pub trailers: &'b [(&'static str, &'static str)],
}

impl Http2Client {
    pub fn new(stream: TcpStream) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        stream.set_nonblocking(true).expect("a socket");
        let (send, ended) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
            let (send, connection) = h2::client::handshake(stream).await.expect("a connection");
            (send, tokio::spawn(connection))
        });
        Self { runtime, send, ended }
    }

    /// Runs `future` with the connection at work; it must end in time.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it ends in time") })
    }

    pub fn sender(&self) -> SendRequest<Bytes> {
        self.send.clone()
    }

    pub fn get(&self, host: &str, path: &str) -> Result<Answer, h2::Error> {
        self.request(head("GET", host, path, &[]), None)
    }

    /// One request and its whole answer.
    pub fn request(&self, head: Request<()>, body: Option<Body<'_>>) -> Result<Answer, h2::Error> {
        self.run(async {
            let (answer, mut stream) = self.sender().ready().await?.send_request(head, body.is_none())?;
            if let Some(body) = body {
                stream.send_data(Bytes::copy_from_slice(body.data), body.trailers.is_empty())?;
                if !body.trailers.is_empty() {
                    stream.send_trailers(fields(body.trailers))?;
                }
            }
            whole(answer).await
        })
    }

    /// How the connection ended; it must.
    pub fn end(self) -> Result<(), h2::Error> {
        let Self { runtime, send, ended } = self;
        drop(send);
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, ended).await.expect("it ends in time") })
            .expect("no panic")
    }
}

/// All of an answer.
pub async fn whole(answer: ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = answer.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
}

pub fn head(method: &str, host: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://{host}{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

/// A gRPC call's head.
pub fn call(host: &str, path: &str) -> Request<()> {
    head("POST", host, path, &[("content-type", "application/grpc+proto"), ("te", "trailers")])
}

pub fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
}

/// The error code that a stream was reset with.
pub fn reset_reason<T: std::fmt::Debug>(outcome: &Result<T, h2::Error>) -> Option<Reason> {
    outcome.as_ref().err().filter(|error| error.is_reset()).and_then(h2::Error::reason)
}
