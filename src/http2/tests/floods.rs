//! What a client that means harm gets: its stream reset, or its connection ended with the reason (RFC 9113 §5.4, §10.5).

use super::raw_peer::*;
use super::*;

/// Sends `bytes` on a connection that has just begun, and gives the error code of the GOAWAY that answers.
fn goaway_after(bytes: &[u8]) -> Option<u32> {
    let (end, code) = serve_raw(Limits::default(), CLOCKS, echo, async |mut peer| {
        peer.send(bytes).await;
        peer.goaway().await
    });
    assert!(matches!(end, ServerEnd::Failed(_)), "{end:?}");
    code
}

#[test]
fn broken_connections_are_ended_with_the_reason() {
    let open = |flags| headers(1, flags, &POST);
    let ended = [open(END_STREAM), headers(3, 0, &POST)].concat();
    for (what, bytes, code) in [
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        ("HEADERS on an even stream", headers(2, END_STREAM, &GET), PROTOCOL_ERROR),
        ("HEADERS on stream 0", headers(0, END_STREAM, &GET), PROTOCOL_ERROR),
        ("a stream's number again", [&ended[..], &headers(1, END_STREAM, &GET)].concat(), STREAM_CLOSED),
        ("a smaller number", [headers(5, 0, &POST), headers(3, END_STREAM, &GET)].concat(), PROTOCOL_ERROR),
        ("padding longer than the frame", [open(0), frame(DATA, PADDED, 1, &[9, 0])].concat(), PROTOCOL_ERROR),
        ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), PROTOCOL_ERROR),
        ("RST_STREAM of 3 bytes", [open(0), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), FRAME_SIZE_ERROR),
        ("WINDOW_UPDATE of an idle stream", window_update(1, 1), PROTOCOL_ERROR),
        ("WINDOW_UPDATE of 0 on the connection", window_update(0, 0), PROTOCOL_ERROR),
        ("a connection window beyond 2^31", window_update(0, 0x7fff_ffff), FLOW_CONTROL_ERROR),
        ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, b""), PROTOCOL_ERROR),
        ("SETTINGS ACK with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), FRAME_SIZE_ERROR),
        ("ENABLE_PUSH of 2", settings(&[(2, 2)]), PROTOCOL_ERROR),
        ("a window of 2^31", settings(&[(4, 0x8000_0000)]), FLOW_CONTROL_ERROR),
        ("frames of 16,383 bytes", settings(&[(5, 16_383)]), PROTOCOL_ERROR),
        ("PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        ("PUSH_PROMISE from a client", [open(0), frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])].concat(), PROTOCOL_ERROR),
        ("CONTINUATION alone", frame(CONTINUATION, 4, 1, b""), PROTOCOL_ERROR),
        (
            "a frame within a header block",
            [frame(HEADERS, 0, 1, &block(&GET)), frame(PING, 0, 0, &[0; 8])].concat(),
            PROTOCOL_ERROR,
        ),
        (
            "a block goes on on another stream",
            [frame(HEADERS, 0, 1, &block(&GET)), frame(CONTINUATION, 4, 3, b"")].concat(),
            PROTOCOL_ERROR,
        ),
        ("a frame of 16,385 bytes", [open(0), frame(DATA, 0, 1, &vec![0; 16_385])].concat(), FRAME_SIZE_ERROR),
        ("an index that no table has", frame(HEADERS, 5, 1, &[0xff, 0x7f]), COMPRESSION_ERROR),
        ("a table larger than allowed", frame(HEADERS, 5, 1, &[0x3f, 0xff, 0xff, 0x7f]), COMPRESSION_ERROR),
    ] {
        let answered = goaway_after(&bytes);
        // A codec may take any error for a connection error of PROTOCOL_ERROR (§5.4.1 names no code that must be used),
        // but it must end the connection and say so.
        assert!(answered == Some(code) || answered == Some(PROTOCOL_ERROR), "{what}: {answered:?}");
    }
}

/// The stream gets RST_STREAM; the connection and others go on.
#[test]
fn malformed_requests_end_their_stream_alone() {
    let with = |fields: &[(&'static str, &'static str)]| [&GET[..], fields].concat();
    for (what, fields) in [
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te", with(&[("te", "gzip")])),
        (":status", with(&[(":status", "200")])),
        (":method twice", with(&[(":method", "GET")])),
        (":path twice", with(&[(":path", "/b")])),
        ("pseudo-field behind a field", [&[("x", "y")][..], &GET[..]].concat()),
        ("no :method", GET[1..].to_vec()),
        ("no :scheme", vec![GET[0], GET[2], GET[3]]),
        ("no :path", GET[..3].to_vec()),
        ("empty :path", [&GET[..3], &[(":path", "")]].concat()),
        (":protocol without CONNECT", with(&[(":protocol", "websocket")])),
        (":path in CONNECT", [&[(":method", "CONNECT")][..], &GET[2..]].concat()),
        ("two lengths", with(&[("content-length", "1"), ("content-length", "2")])),
        ("a length that is no number", with(&[("content-length", "x")])),
        ("a length and no body", with(&[("content-length", "5")])),
    ] {
        let (end, ()) = serve_raw(Limits::default(), CLOCKS, echo, async |mut peer| {
            peer.send(&headers(1, END_STREAM, &fields)).await;
            assert_eq!(peer.outcome(1).await, Err(PROTOCOL_ERROR), "{what}");
            peer.send(&headers(3, END_STREAM, &GET)).await;
            assert!(peer.outcome(3).await.is_ok(), "{what}");
        });
        assert_eq!(end, ServerEnd::Orderly, "{what}");
    }
}

#[test]
fn a_body_must_be_as_long_as_it_says() {
    let length = |value| [&POST[..], &[("content-length", value)]].concat();
    for (what, bytes) in [
        ("too short", [headers(1, 0, &length("5")), frame(DATA, END_STREAM, 1, b"1234")].concat()),
        ("too long", [headers(1, 0, &length("5")), frame(DATA, 0, 1, b"123456")].concat()),
        ("trailers too early", [headers(1, 0, &length("5")), headers(1, END_STREAM, &[("x", "y")])].concat()),
        ("trailers that do not end it", [headers(1, 0, &POST), headers(1, 0, &[("x", "y")])].concat()),
    ] {
        let (end, ()) = serve_raw(Limits::default(), CLOCKS, echo, async |mut peer| {
            peer.send(&bytes).await;
            assert_eq!(peer.outcome(1).await, Err(PROTOCOL_ERROR), "{what}");
        });
        assert_eq!(end, ServerEnd::Orderly, "{what}");
    }
}

/// Frames that carry nothing, in numbers that no client needs. The connection ends, and says why.
#[test]
fn floods_are_ended() {
    let limits = Limits { idle_frames: FrameBudget { burst: 200, per_second: 1 }, ..Limits::default() };
    let open = headers(1, 0, &POST);
    for (what, before, flood) in [
        ("PING", b"".to_vec(), frame(PING, 0, 0, &[0; 8])),
        ("PING ACK", b"".to_vec(), frame(PING, ACK, 0, &[0; 8])),
        ("SETTINGS", b"".to_vec(), frame(SETTINGS, 0, 0, b"")),
        ("SETTINGS of a window", open.clone(), settings(&[(4, 70_000)])),
        ("PRIORITY", b"".to_vec(), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("unknown", b"".to_vec(), frame(0x42, 0, 0, b"")),
        ("WINDOW_UPDATE", open.clone(), window_update(1, 1)),
        ("empty DATA", open.clone(), frame(DATA, 0, 1, b"")),
        ("DATA of padding alone", open.clone(), frame(DATA, PADDED, 1, &[0])),
        ("RST_STREAM", open.clone(), frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())),
    ] {
        let (end, code) = serve_raw(limits, CLOCKS, echo, async |peer| {
            let mut peer = peer;
            peer.send(&before).await;
            // What cannot be written any more is not: the peer may have closed.
            while peer.try_send(&flood.repeat(10)).await {
                if let Some(code) = future::poll_once(peer.goaway()).await {
                    return code;
                }
            }
            peer.goaway().await
        });
        assert_eq!(code.unwrap_or(ENHANCE_YOUR_CALM), ENHANCE_YOUR_CALM, "{what}");
        assert!(
            end == ServerEnd::Flooded
                || matches!(&end, ServerEnd::Failed(why) if what.contains("DATA") && !why.is_empty()),
            "{what}: {end:?}"
        );
    }
}

/// CVE-2023-44487: streams that are opened and reset at once.
#[test]
fn rapid_resets_are_ended() {
    let limits = Limits { idle_frames: FrameBudget { burst: 1000, per_second: 1 }, ..Limits::default() };
    let begun = std::rc::Rc::new(std::cell::Cell::new(0_u32));
    let count = std::rc::Rc::clone(&begun);
    let handle = move |incoming: Incoming| {
        count.set(count.get() + 1);
        async move { drop(incoming.responder.lost().await) }
    };
    let (end, sent) = serve_raw(limits, CLOCKS, handle, async |mut peer| {
        let mut id = 1;
        loop {
            let pair = [headers(id, END_STREAM, &GET), frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes())].concat();
            if !peer.try_send(&pair).await {
                return id / 2;
            }
            id += 2;
            if future::poll_once(peer.goaway()).await.is_some() {
                return id / 2;
            }
        }
    });
    assert_eq!(end, ServerEnd::Flooded);
    // As many as the budget has, and what came in the same read as the last of them.
    assert!((90..400).contains(&begun.get()), "{} requests begun of {sent}", begun.get());
}

/// CVE-2024-27316 and its kin: a header block that never ends.
#[test]
fn a_header_block_without_end_is_ended() {
    for (what, piece) in [("of fields", block(&[("x-a", &"y".repeat(100))]).repeat(100)), ("of nothing", Vec::new())] {
        let (end, code) = serve_raw(Limits::default(), CLOCKS, echo, async |mut peer| {
            // Acknowledged first: nothing may stand between the parts of a block.
            peer.next_of(&[SETTINGS]).await.unwrap();
            peer.send(&frame(HEADERS, 0, 1, &block(&GET))).await;
            let mut sent = 0;
            while sent < 64 << 20 && peer.try_send(&frame(CONTINUATION, 0, 1, &piece)).await {
                sent += piece.len() + 9;
                if let Some(code) = future::poll_once(peer.goaway()).await {
                    assert!(sent < 4 << 20, "{what}: {sent} bytes taken");
                    return code;
                }
            }
            peer.goaway().await
        });
        assert_eq!(code.unwrap_or(ENHANCE_YOUR_CALM), ENHANCE_YOUR_CALM, "{what}");
        assert!(matches!(end, ServerEnd::Failed(_) | ServerEnd::Flooded), "{what}: {end:?}");
    }
}

/// CVE-2016-6581: a small block that becomes a large head.
#[test]
fn a_head_that_swells_is_refused() {
    let limits = Limits { max_header_list_size: 16 << 10, ..Limits::default() };
    // An entry of nearly the whole table, then again and again by its index, which is one byte.
    let mut bomb = vec![0x40, 1, b'x'];
    bomb.extend_from_slice(&[127, 0x80 | (4000 - 127) as u8 & 0x7f, ((4000 - 127) >> 7) as u8]);
    bomb.extend_from_slice(&[b'y'; 4000]);
    for (references, expected) in [(5, "431"), (100, "GOAWAY")] {
        let payload = [&block(&GET)[..], &bomb, &vec![0xbe; references]].concat();
        let (_, got) = serve_raw(limits, CLOCKS, echo, async |mut peer| {
            peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &payload)).await;
            let answer = peer.next_of(&[HEADERS, GOAWAY]).await.unwrap();
            match answer.kind {
                GOAWAY => "GOAWAY",
                _ => "431",
            }
        });
        assert_eq!(got, expected, "{references} references");
    }
}

#[test]
fn bytes_that_are_no_preface_are_not_served() {
    let end = run(async {
        let (near, mut far) = pipe();
        let limits = Limits::default();
        let client = async {
            use tokio::io::AsyncWriteExt;
            let _ = far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        };
        future::zip(serve(near, &limits, CLOCKS, future::pending(), echo), client).await.0
    });
    assert!(matches!(end, ServerEnd::Failed(_)), "{end:?}");
}
