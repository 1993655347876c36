//! An HTTP/2 server without TLS, by the `h2` crate: what nginx does not show, such as trailers, resets and small limits.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};

use super::Lab;
use super::server::Server;

/// One stream of a connection, as a handler gets it.
pub struct Stream {
    /// Of its connection, from 0.
    pub connection: usize,
    /// On its connection, from 0.
    pub number: usize,
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
}

impl Stream {
    /// All of the request's body, and its trailers.
    pub async fn body(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        let stream = self.request.body_mut();
        let mut body = Vec::new();
        while let Some(Ok(data)) = stream.data().await {
            let _ = stream.flow_control().release_capacity(data.len());
            body.extend_from_slice(&data);
        }
        (body, stream.trailers().await.ok().flatten())
    }

    /// Answers 200 with `body` and `trailers`.
    pub fn answer(&mut self, body: &[u8], trailers: &[(&'static str, &'static str)]) {
        let response = Response::builder().status(200).body(()).expect("a response");
        let Ok(mut stream) = self.respond.send_response(response, false) else { return };
        let _ = stream.send_data(Bytes::copy_from_slice(body), trailers.is_empty());
        if !trailers.is_empty() {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (name.parse().expect("a name"), value.parse().expect("a value"))
            };
            let _ = stream.send_trailers(trailers.iter().map(pair).collect());
        }
    }
}

/// What a server says of itself.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    pub max_streams: Option<u32>,
    /// It says goodbye (GOAWAY) after so many streams of a connection.
    pub streams_per_connection: Option<usize>,
    /// It takes extended CONNECT (RFC 8441).
    pub takes_upgrades: bool,
}

/// Listens outside; each stream is a task of its own that runs `handler`.
pub fn start<H, F>(lab: &Lab, at: SocketAddr, manner: Manner, handler: H) -> Server
where
    H: Fn(Stream) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + 'static,
{
    let connections = AtomicUsize::new(0);
    let handler = Arc::new(handler);
    Server::start(lab, at, move |socket| {
        let connection = connections.fetch_add(1, Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        tokio::task::LocalSet::new().block_on(&runtime, serve(socket, manner, connection, Arc::clone(&handler)))
    })
}

async fn serve<H, F>(socket: TcpStream, manner: Manner, connection: usize, handler: Arc<H>) -> std::io::Result<()>
where
    H: Fn(Stream) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    socket.set_nonblocking(true)?;
    let mut builder = h2::server::Builder::new();
    if let Some(most) = manner.max_streams {
        builder.max_concurrent_streams(most);
    }
    if manner.takes_upgrades {
        builder.enable_connect_protocol();
    }
    let socket = tokio::net::TcpStream::from_std(socket)?;
    let mut h2 = builder.handshake(socket).await.map_err(std::io::Error::other)?;
    let mut number = 0;
    while let Some(stream) = h2.accept().await {
        let (request, respond) = stream.map_err(std::io::Error::other)?;
        let stream = Stream { connection, number, request, respond };
        number += 1;
        if manner.streams_per_connection == Some(number) {
            h2.graceful_shutdown();
        }
        tokio::task::spawn_local(handler(stream));
    }
    Ok(())
}
