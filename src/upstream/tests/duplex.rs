//! HTTP/2 over the engine's own sockets: what the pipes of `http2`'s tests cannot show.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ::http::uri::Scheme;
use futures_lite::future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::http2::{
    ClientEnd, Incoming, Limits, Received, ResponseParts, ServerClocks, ServerEnd, connect, outgoing_request,
    outgoing_response, serve,
};
use crate::io::{self, ConnectOptions, Engine, EngineKind, EngineOptions, Lease, Listener, Socket};

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `main` with both ends of a connection.
fn with_pair<T>(kind: EngineKind, main: impl AsyncFnOnce(Stream, Stream) -> T) -> T {
    Engine::new(EngineOptions { kind, ..EngineOptions::default() }).unwrap().run(async {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let listener = Listener::from_std(listener).unwrap();
        let options = ConnectOptions::default();
        let (near, far) = future::zip(Socket::connect(address, &options), listener.accept()).await;
        let both = main(Stream::plaintext(near.unwrap()), Stream::plaintext(far.unwrap()));
        io::timeout(DEADLINE, both).await.expect("it ends in time")
    })
}

/// Sends the body back.
async fn echo(incoming: Incoming) {
    let Incoming { mut body, responder, .. } = incoming;
    responder.head(outgoing_response(b"HTTP/1.1 200 OK\r\n\r\n").unwrap(), false).unwrap();
    while let Ok(Some(Received::Data(data))) = body.piece().await {
        responder.data(data, false).unwrap();
        future::poll_fn(|cx| responder.poll_room(cx)).await.unwrap();
    }
    responder.data(b"", true).unwrap();
}

#[test]
fn a_body_of_megabytes_goes_and_comes() {
    const PIECES: usize = 200;
    for kind in [EngineKind::Epoll, EngineKind::Uring] {
        let (sum, ends) = with_pair(kind, async |near, far| {
            let clocks = ServerClocks { idle: DEADLINE, drain: DEADLINE };
            let limits = Limits::default();
            let serving = serve(Duplex::new(far, None), &limits, clocks, future::pending(), echo);
            let (connection, driver) = connect(Duplex::new(near, None), &limits, None).await.unwrap();
            let using = async move {
                let head = outgoing_request(b"POST / HTTP/1.1\r\nhost: a\r\n\r\n", &Scheme::HTTP).unwrap();
                let stream = connection.open(head, false).unwrap();
                let (mut sent, mut received) = (stream.sent, stream.received);
                let upload = async {
                    for piece in 0..PIECES {
                        future::poll_fn(|cx| sent.poll_room(cx)).await.unwrap();
                        sent.send(Lease::from_vec(vec![piece as u8; 50_000]), false).unwrap();
                    }
                    sent.send(b"", true).unwrap();
                };
                let download = async {
                    while let ResponseParts::Interim(_) = received.head().await.unwrap() {}
                    let (mut at, mut sum) = (0, 0);
                    while let Some(Received::Data(data)) = received.body().unwrap().piece().await.unwrap() {
                        assert!(data.iter().enumerate().all(|(n, byte)| *byte == ((at + n) / 50_000) as u8));
                        at += data.len();
                        sum += data.len();
                    }
                    sum
                };
                future::zip(upload, download).await.1
            };
            let ((sum, client), server) = future::zip(future::zip(using, driver.run()), serving).await;
            (sum, (client, server))
        });
        assert_eq!((sum, ends), (PIECES * 50_000, (ClientEnd::Closed, ServerEnd::Orderly)), "{kind}");
    }
}

#[test]
fn ends_and_resets_are_passed_on() {
    with_pair(EngineKind::Epoll, async |near, far| {
        let mut writer = Duplex::new(near, None);
        let mut reader = Duplex::new(far, Some(Lease::from_vec(b"before, ".to_vec())));
        writer.write_all(b"and then the end").await.unwrap();
        writer.shutdown().await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "before, and then the end");
        assert_eq!(writer.write_all(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
    with_pair(EngineKind::Epoll, async |near, far| {
        let mut reader = Duplex::new(far, None);
        near.abort().await;
        assert_eq!(reader.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

/// A peer that reads nothing stops the writer: nothing piles up.
#[test]
fn a_writer_waits_for_room() {
    with_pair(EngineKind::Epoll, async |near, far| {
        let mut writer = Duplex::new(&near, None);
        let (mut written, much) = (0_usize, vec![0; 100_000]);
        loop {
            let more = io::timeout(Duration::from_millis(200), writer.write(&much)).await;
            match more {
                Ok(count) => written += count.unwrap(),
                Err(io::Elapsed) => break,
            }
        }
        assert!(near.socket().unsent() < 512 * 1024, "{} bytes queued", near.socket().unsent());
        // What the kernels hold between the two, and what is queued here.
        drop(writer);
        near.close();
        let mut reader = Duplex::new(far, None);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), written);
    });
}
