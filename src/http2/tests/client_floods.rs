//! What a server that means harm gets.

use ::http::uri::Scheme;

use super::raw_peer::*;
use super::*;

/// One request to a server that sends `frames` behind its head; what became of the request and the connection.
fn answered_with(limits: Limits, frames: &[u8]) -> (Result<Vec<u8>, StreamError>, ClientEnd) {
    run(async {
        let (near, far) = pipe();
        let (connection, driver) = connect(near, &limits, None).await.unwrap();
        // With the last of its streams and handles gone, the connection ends.
        let used = async move {
            let head = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
            let mut stream = connection.open(outgoing_request(head, &Scheme::HTTP).unwrap(), true).unwrap();
            let mut interims = 0;
            loop {
                match stream.received.head().await? {
                    ResponseParts::Interim(_) => interims += 1,
                    ResponseParts::Final(_) => break,
                }
                assert!(interims < 1000, "whoever reads them sets the limit");
            }
            let (mut data, body) = (Vec::new(), stream.received.body().unwrap());
            while let Some(Received::Data(bytes)) = body.piece().await? {
                data.extend_from_slice(&bytes);
            }
            Ok(data)
        };
        let serving = async {
            let mut peer = RawPeer::server(far).await;
            peer.next_of(&[HEADERS]).await.unwrap();
            peer.send(frames).await;
            while peer.read().await.is_some() {}
        };
        future::zip(future::zip(used, driver.run()), serving).await.0
    })
}

const OK: [(&str, &str); 1] = [(":status", "200")];

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    for (what, frames) in [
        ("push", frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block(&GET)].concat())),
        ("a stream of the server's", headers(2, END_STREAM, &OK)),
        ("DATA on an idle stream", frame(DATA, 0, 3, b"x")),
        ("DATA before the head", frame(DATA, 0, 1, b"x")),
        ("a window beyond 2^31", window_update(0, 0x7fff_ffff)),
        (
            "an endless header block",
            [frame(HEADERS, 0, 1, &block(&OK)), frame(CONTINUATION, 0, 1, b"").repeat(100)].concat(),
        ),
        ("a frame too large", frame(DATA, 0, 1, &vec![0; 16_385])),
    ] {
        let (outcome, end) = answered_with(Limits::default(), &frames);
        assert!(outcome.is_err(), "{what}");
        assert!(matches!(end, ClientEnd::Failed(_)), "{what}: {end:?}");
    }
}

#[test]
fn a_response_that_is_none_ends_its_stream() {
    for (what, frames) in [
        ("no :status", headers(1, END_STREAM, &[("x", "y")])),
        (":status that is no number", headers(1, END_STREAM, &[(":status", "2x0")])),
        ("a pseudo-field nobody knows", headers(1, END_STREAM, &[(":status", "200"), (":x", "y")])),
        ("connection", headers(1, END_STREAM, &[(":status", "200"), ("connection", "close")])),
        ("a length and no body", headers(1, END_STREAM, &[(":status", "200"), ("content-length", "5")])),
        ("a body behind 204", [headers(1, 0, &[(":status", "204")]), frame(DATA, END_STREAM, 1, b"x")].concat()),
        ("a body behind 304", [headers(1, 0, &[(":status", "304")]), frame(DATA, END_STREAM, 1, b"x")].concat()),
        ("more than its window", [headers(1, 0, &OK), frame(DATA, 0, 1, &[0; 16_384]).repeat(20)].concat()),
        ("cut off", [headers(1, 0, &OK), frame(DATA, 0, 1, b"x"), frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])].concat()),
    ] {
        let (outcome, end) = answered_with(Limits { initial_stream_window: 65_535, ..Limits::default() }, &frames);
        assert!(outcome.is_err(), "{what}: {outcome:?}");
        assert!(matches!(end, ClientEnd::Closed | ClientEnd::Failed(_)), "{what}: {end:?}");
    }
}

#[test]
fn floods_are_left() {
    let limits = Limits { idle_frames: FrameBudget { burst: 200, per_second: 1 }, ..Limits::default() };
    for (what, flood) in [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, b"")),
        ("WINDOW_UPDATE", window_update(1, 1)),
        ("unknown", frame(0x42, 0, 0, b"")),
    ] {
        let (outcome, end) = answered_with(limits, &flood.repeat(1000));
        assert!(outcome.is_err() && end == ClientEnd::Flooded, "{what}: {outcome:?} {end:?}");
    }
    let empty = [headers(1, 0, &OK), frame(DATA, 0, 1, b"").repeat(1000)].concat();
    let (outcome, end) = answered_with(limits, &empty);
    assert!(outcome.is_err() && end != ClientEnd::Closed, "{outcome:?} {end:?}");
}
