//! What a connection to a server carries.

use ::http::uri::Scheme;

use super::raw_peer::*;
use super::*;

fn request(head: &str) -> ::http::Request<()> {
    outgoing_request(head.as_bytes(), &Scheme::HTTP).unwrap()
}

const HEAD: &str = "POST / HTTP/1.1\r\nhost: a.test\r\n\r\n";

/// A connection to the server's loop, which echoes, and `client` on it.
fn with_echo<T>(limits: Limits, client: impl AsyncFnOnce(&ClientConnection) -> T) -> (T, ClientEnd, ServerEnd) {
    run(async {
        let (near, far) = pipe();
        let serving = serve(near, &limits, CLOCKS, future::pending(), echo);
        let using = async {
            let (connection, driver) = connect(far, &limits, None).await.unwrap();
            let used = async {
                let result = client(&connection).await;
                drop(connection);
                result
            };
            future::zip(used, driver.run()).await
        };
        let ((result, client_end), server_end) = future::zip(using, serving).await;
        (result, client_end, server_end)
    })
}

/// A connection to a server that writes its frames itself.
fn with_raw<T, U>(
    client: impl AsyncFnOnce(&ClientConnection) -> T,
    server: impl AsyncFnOnce(RawPeer) -> U,
) -> (T, ClientEnd) {
    run(async {
        let (near, far) = pipe();
        let limits = Limits::default();
        let using = async {
            let (connection, driver) = connect(near, &limits, None).await.unwrap();
            let used = async {
                let result = client(&connection).await;
                drop(connection);
                result
            };
            future::zip(used, driver.run()).await
        };
        let serving = async { server(RawPeer::server(far).await).await };
        future::zip(using, serving).await.0
    })
}

async fn final_head(stream: &mut ClientStream) -> Result<u16, StreamError> {
    loop {
        if let ResponseParts::Final(parts) = stream.received.head().await? {
            return Ok(parts.status.as_u16());
        }
    }
}

async fn body_of(stream: &mut ClientStream) -> Result<(Vec<u8>, Option<String>), StreamError> {
    let (mut data, body) = (Vec::new(), stream.received.body().unwrap());
    loop {
        match body.piece().await? {
            Some(Received::Data(bytes)) => data.extend_from_slice(&bytes),
            Some(Received::Trailers(trailers)) => {
                let lines = trailer_lines(&trailers, crate::http::HeadLimits::default()).unwrap();
                return Ok((data, Some(String::from_utf8(lines).unwrap())));
            }
            None => return Ok((data, None)),
        }
    }
}

#[test]
fn many_requests_share_a_connection() {
    let (count, client_end, server_end) = with_echo(Limits::default(), async |connection| {
        let mut streams: Vec<ClientStream> = (0..200).map(|_| connection.open(request(HEAD), false).unwrap()).collect();
        assert_eq!((connection.active(), connection.opened()), (200, 200));
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.sent.send(format!("body {number}").into_bytes(), false).unwrap();
            stream.sent.send_trailers(outgoing_trailers(format!("x-n: {number}\r\n").as_bytes()).unwrap()).unwrap();
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            assert_eq!(final_head(stream).await.unwrap(), 200);
            let (data, trailers) = body_of(stream).await.unwrap();
            assert!(data.ends_with(format!("\r\n\r\nbody {number}").as_bytes()));
            assert_eq!(trailers, Some(format!("x-n: {number}\r\n")));
        }
        drop(streams);
        assert_eq!(connection.active(), 0);
        connection.opened()
    });
    assert_eq!((count, client_end, server_end), (200, ClientEnd::Closed, ServerEnd::Orderly));
}

#[test]
fn a_large_body_goes_through_small_windows() {
    let limits = Limits { initial_stream_window: 10_000, initial_connection_window: 70_000, ..Limits::default() };
    let (length, ..) = with_echo(limits, async |connection| {
        let mut stream = connection.open(request(HEAD), false).unwrap();
        let ClientStream { sent, received, .. } = &mut stream;
        let upload = async {
            for _ in 0..100 {
                future::poll_fn(|cx| sent.poll_room(cx)).await.unwrap();
                sent.send(vec![7; 30_000], false).unwrap();
                assert!(sent.queued() <= 64 * 1024 + 30_000, "{}", sent.queued());
            }
            sent.send(b"", true).unwrap();
        };
        let download = async {
            while let ResponseParts::Interim(_) = received.head().await.unwrap() {}
            let mut length = 0;
            while let Some(Received::Data(data)) = received.body().unwrap().piece().await.unwrap() {
                length += data.len();
            }
            length
        };
        future::zip(upload, download).await.1
    });
    let head = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n".len();
    assert_eq!(length, 100 * 30_000 + head);
}

/// RFC 9113 §8.7: what a server has not looked at may be sent again, and nothing else is called so.
#[test]
fn what_was_not_processed_is_known() {
    let ((refused, reset, above, below), _) = with_raw(
        async |connection| {
            let mut streams: Vec<ClientStream> =
                (0..4).map(|_| connection.open(request(HEAD), true).unwrap()).collect();
            let mut outcomes = Vec::new();
            for stream in &mut streams {
                outcomes.push(final_head(stream).await);
            }
            let below = outcomes.remove(2);
            assert!(!connection.is_usable(), "the server is going away");
            let late = connection.open(request(HEAD), true);
            assert!(matches!(late, Err(StreamError::Unprocessed(_))));
            let [refused, reset, above] = outcomes.try_into().unwrap();
            (refused.unwrap_err(), reset.unwrap_err(), above.unwrap_err(), below.unwrap())
        },
        async |mut peer| {
            for _ in 0..4 {
                peer.next_of(&[HEADERS]).await.unwrap();
            }
            peer.send(&frame(RST_STREAM, 0, 1, &REFUSED_STREAM.to_be_bytes())).await;
            peer.send(&frame(RST_STREAM, 0, 3, &CANCEL.to_be_bytes())).await;
            peer.send(&frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0])).await;
            peer.send(&headers(5, END_STREAM, &[(":status", "204")])).await;
            while peer.read().await.is_some() {}
        },
    );
    assert!(matches!(refused, StreamError::Unprocessed(_)), "{refused:?}");
    assert!(matches!(reset, StreamError::Reset(Reason::CANCEL)), "{reset:?}");
    assert!(matches!(above, StreamError::Unprocessed(_)), "{above:?}");
    assert_eq!(below, 204);
}

#[test]
fn a_lost_connection_is_no_refusal() {
    let (error, _) = with_raw(
        async |connection| final_head(&mut connection.open(request(HEAD), true).unwrap()).await.unwrap_err(),
        async |mut peer| drop(peer.next_of(&[HEADERS]).await),
    );
    assert!(matches!(error, StreamError::Connection(_)), "{error:?}");
}

/// A server may answer before it has everything, and say that it needs no more.
#[test]
fn an_early_answer_counts() {
    let ((status, body, is_fine), _) = with_raw(
        async |connection| {
            let mut stream = connection.open(request(HEAD), false).unwrap();
            let status = final_head(&mut stream).await.unwrap();
            let body = body_of(&mut stream).await.unwrap().0;
            let gone = future::poll_fn(|cx| stream.sent.poll_reset(cx)).await;
            (status, body, gone.is_no_error())
        },
        async |mut peer| {
            peer.next_of(&[HEADERS]).await.unwrap();
            peer.send(&headers(1, 0, &[(":status", "413")])).await;
            peer.send(&frame(DATA, END_STREAM, 1, b"too much")).await;
            peer.send(&frame(RST_STREAM, 0, 1, &[0; 4])).await;
            while peer.read().await.is_some() {}
        },
    );
    assert_eq!((status, &body[..], is_fine), (413, &b"too much"[..], true));
}

#[test]
fn a_dropped_stream_is_cancelled() {
    let ((), end) = with_raw(
        async |connection| drop(connection.open(request(HEAD), false).unwrap()),
        async |mut peer| {
            // Its head may not even have been sent.
            while let Some(frame) = peer.next_of(&[HEADERS, RST_STREAM]).await {
                if frame.kind == RST_STREAM {
                    assert_eq!(frame.code(), CANCEL);
                }
            }
        },
    );
    assert_eq!(end, ClientEnd::Closed);
}

#[test]
fn the_servers_limit_of_streams_is_known() {
    let (allowed, _) = with_raw(
        async |connection| {
            let before = connection.allowed();
            let mut stream = connection.open(request(HEAD), true).unwrap();
            final_head(&mut stream).await.unwrap();
            (before, connection.allowed(), connection.takes_extended_connect())
        },
        async |mut peer| {
            peer.send(&settings(&[(3, 7)])).await;
            peer.send(&settings(&[(8, 1)])).await;
            peer.next_of(&[HEADERS]).await.unwrap();
            peer.send(&headers(1, END_STREAM, &[(":status", "200")])).await;
            while peer.read().await.is_some() {}
        },
    );
    assert_eq!(allowed, (100, 7, true));
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let clocks = KeepaliveClocks { interval: Duration::from_millis(20), timeout: Duration::from_millis(60) };
    for answers in [3, 0] {
        let (pings, end, error) = run(async {
            let (near, far) = pipe();
            let limits = Limits::default();
            let (connection, driver) = connect(near, &limits, Some(clocks)).await.unwrap();
            let mut stream = connection.open(request(HEAD), true).unwrap();
            let serving = async {
                let mut peer = RawPeer::server(far).await;
                let mut pings = 0;
                while let Some(ping) = peer.next_of(&[PING]).await {
                    pings += 1;
                    if pings <= answers {
                        peer.send(&frame(PING, ACK, 0, &ping.payload)).await;
                    }
                }
                pings
            };
            let using = async { final_head(&mut stream).await.unwrap_err() };
            let ((end, error), pings) = future::zip(future::zip(driver.run(), using), serving).await;
            (pings, end, error)
        });
        assert_eq!((pings, end), (answers + 1, ClientEnd::Silent));
        assert!(matches!(error, StreamError::Connection(_)), "{error:?}");
    }
}
