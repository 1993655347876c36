//! What a client gets from the server's loop.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::raw_peer::*;
use super::*;

#[test]
fn a_request_with_body_and_trailers_is_answered() {
    let (end, body) = serve_raw(Limits::default(), CLOCKS, echo, async |mut peer| {
        peer.send(&headers(1, 0, &[&POST[..], &[("x-a", "1")]].concat())).await;
        peer.send(&frame(DATA, 0, 1, b"hello ")).await;
        peer.send(&frame(DATA, PADDED, 1, &[&[3][..], b"world", &[0; 3]].concat())).await;
        peer.send(&headers(1, END_STREAM, &[("x-sum", "11")])).await;
        let mut trailers = None;
        let mut body = Vec::new();
        while trailers.is_none() {
            let frame = peer.next_of(&[DATA, HEADERS]).await.unwrap();
            match frame.kind {
                DATA => body.extend(frame.payload),
                _ if frame.flags & END_STREAM != 0 => trailers = Some(frame),
                _ => assert!(body.is_empty(), "one head, then the body"),
            }
        }
        String::from_utf8(body).unwrap()
    });
    assert_eq!(end, ServerEnd::Orderly);
    let head = "POST / HTTP/1.1\r\nhost: a.test\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(body, format!("{head}hello world"));
}

#[test]
fn streams_do_not_wait_for_each_other() {
    let (end, ()) = serve_raw(Limits::default(), CLOCKS, echo, async |mut peer| {
        // The first stays open all the while.
        peer.send(&headers(1, 0, &POST)).await;
        for id in (3..603).step_by(2) {
            peer.send(&headers(id, END_STREAM, &GET)).await;
        }
        let ids: Vec<u32> = (3..603).step_by(2).collect();
        for (id, outcome) in peer.outcomes(&ids).await {
            assert!(outcome.unwrap().starts_with(b"GET / "), "stream {id}");
        }
        peer.send(&frame(DATA, END_STREAM, 1, b"late")).await;
        assert_eq!(peer.outcome(1).await.unwrap(), b"late");
    });
    assert_eq!(end, ServerEnd::Orderly);
}

/// RFC 9113 §8.1: an answer may come before the request is complete.
#[test]
fn an_early_answer_ends_the_request_without_an_error() {
    let early = |incoming: Incoming| async move {
        incoming.responder.head(outgoing_response(b"HTTP/1.1 413 \r\n\r\n").unwrap(), true).unwrap();
    };
    let (_, reset) = serve_raw(Limits::default(), CLOCKS, early, async |mut peer| {
        peer.send(&headers(1, 0, &POST)).await;
        let head = peer.next_of(&[HEADERS]).await.unwrap();
        assert_eq!(head.flags & END_STREAM, END_STREAM);
        peer.next_of(&[RST_STREAM]).await.unwrap()
    });
    assert_eq!(reset.code(), 0, "NO_ERROR");
}

#[test]
fn interim_responses_come_first() {
    let interim = |incoming: Incoming| async move {
        let head = |text: &[u8]| outgoing_response(text).unwrap();
        incoming.responder.interim(head(b"HTTP/1.1 100 \r\n\r\n")).unwrap();
        incoming.responder.interim(head(b"HTTP/1.1 103 \r\nlink: </a>\r\n\r\n")).unwrap();
        incoming.responder.head(head(b"HTTP/1.1 204 \r\n\r\n"), true).unwrap();
        assert!(incoming.responder.interim(head(b"HTTP/1.1 103 \r\n\r\n")).is_err(), "the final one has gone");
    };
    let (_, flags) = serve_raw(Limits::default(), CLOCKS, interim, async |mut peer| {
        peer.send(&headers(1, END_STREAM, &GET)).await;
        let mut flags = Vec::new();
        for _ in 0..3 {
            flags.push(peer.next_of(&[HEADERS]).await.unwrap().flags & END_STREAM);
        }
        flags
    });
    assert_eq!(flags, [0, 0, END_STREAM]);
}

/// A handler that notes how its stream was lost.
fn waiting(lost: &Rc<RefCell<Vec<String>>>) -> impl FnMut(Incoming) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    let lost = Rc::clone(lost);
    move |incoming| {
        let lost = Rc::clone(&lost);
        Box::pin(async move {
            let why = incoming.responder.lost().await;
            lost.borrow_mut().push(format!("{}: {why}", incoming.stream_id));
        })
    }
}

#[test]
fn a_reset_ends_its_stream_alone_and_a_lost_connection_all() {
    let lost = Rc::default();
    let (end, ()) = serve_raw(Limits::default(), CLOCKS, waiting(&lost), async |mut peer| {
        for id in [1, 3, 5] {
            peer.send(&headers(id, END_STREAM, &GET)).await;
        }
        peer.send(&frame(RST_STREAM, 0, 3, &CANCEL.to_be_bytes())).await;
        peer.send(&frame(PING, 0, 0, &[7; 8])).await;
        peer.next_of(&[PING]).await.unwrap();
    });
    assert_eq!(end, ServerEnd::Orderly);
    let lost = lost.borrow();
    assert_eq!(lost[0], "3: the stream was reset: CANCEL");
    assert_eq!(lost.len(), 3, "all have ended when serving has: {lost:?}");
}

/// RFC 9113 §6.8: streams that are on their way when the first GOAWAY is sent are served.
#[test]
fn a_drain_goes_in_two_steps() {
    let (drains, waiting) = (Cell::new(false), RefCell::new(None::<std::task::Waker>));
    let ids = run(async {
        let (near, far) = pipe();
        let drain = std::future::poll_fn(|cx| {
            *waiting.borrow_mut() = Some(cx.waker().clone());
            if drains.get() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        let limits = Limits::default();
        let serving = serve(near, &limits, CLOCKS, drain, echo);
        let client = async {
            let mut peer = RawPeer::client(far).await;
            peer.send(&headers(1, 0, &POST)).await;
            peer.next_of(&[HEADERS]).await.unwrap();
            drains.set(true);
            waiting.take().unwrap().wake();
            let first = peer.next_of(&[GOAWAY]).await.unwrap();
            let ping = peer.next_of(&[PING]).await.unwrap();
            peer.send(&headers(3, END_STREAM, &GET)).await;
            peer.send(&frame(PING, ACK, 0, &ping.payload)).await;
            peer.send(&frame(DATA, END_STREAM, 1, b"x")).await;
            let (mut ended, mut second) = (Vec::new(), None);
            while let Some(frame) = peer.next_of(&[DATA, GOAWAY]).await {
                if frame.kind == GOAWAY {
                    second = second.or(Some(frame));
                } else if frame.flags & END_STREAM != 0 {
                    ended.push(frame.stream);
                }
            }
            ended.sort_unstable();
            assert_eq!(ended, [1, 3], "the one that ran, and the one that was on its way; then it closed");
            let second = second.unwrap();
            [first, second].map(|frame| (u32::from_be_bytes(frame.payload[..4].try_into().unwrap()), frame.code()))
        };
        let (end, ids) = future::zip(serving, client).await;
        assert_eq!(end, ServerEnd::Orderly);
        ids
    });
    assert_eq!(ids, [(0x7fff_ffff, 0), (3, 0)]);
}

#[test]
fn an_idle_connection_is_closed_in_order() {
    let clocks = ServerClocks { idle: Duration::from_millis(50), drain: DEADLINE };
    let (end, code) = serve_raw(Limits::default(), clocks, echo, async |mut peer| {
        peer.send(&headers(1, END_STREAM, &GET)).await;
        peer.outcome(1).await.unwrap();
        let code = peer.goaway().await;
        let ping = peer.next_of(&[PING]).await.unwrap();
        peer.send(&frame(PING, ACK, 0, &ping.payload)).await;
        while peer.read().await.is_some() {}
        code
    });
    assert_eq!((end, code), (ServerEnd::Idle, Some(0)));
}

#[test]
fn a_client_that_does_not_take_the_end_is_cut_off() {
    let clocks = ServerClocks { idle: Duration::from_millis(20), drain: Duration::from_millis(50) };
    let (end, ()) = serve_raw(Limits::default(), clocks, echo, async |mut peer| {
        // It answers no PING, and keeps its connection.
        while peer.read().await.is_some() {}
    });
    assert_eq!(end, ServerEnd::Idle);
}

/// RFC 9113 §5.1.2.
#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_run() {
    let limits = Limits { max_concurrent_streams: 2, ..Limits::default() };
    let (end, ()) = serve_raw(limits, CLOCKS, echo, async |mut peer| {
        for id in [1, 3, 5] {
            peer.send(&headers(id, 0, &POST)).await;
        }
        assert_eq!(peer.outcome(5).await, Err(REFUSED_STREAM));
        for id in [1, 3] {
            peer.send(&frame(DATA, END_STREAM, id, b"x")).await;
            assert!(peer.outcome(id).await.unwrap().ends_with(b"x"));
        }
    });
    assert_eq!(end, ServerEnd::Orderly);
}

/// A source gets no further ahead than its window, and one that is stalled does not stop another.
#[test]
fn windows_are_widened_by_what_was_passed_on() {
    let limits = Limits { initial_stream_window: 20_000, initial_connection_window: 100_000, ..Limits::default() };
    let (end, ()) = serve_raw(
        limits,
        CLOCKS,
        |incoming| async move {
            if incoming.stream_id == 1 {
                // Takes nothing.
                incoming.responder.lost().await;
            } else {
                echo(incoming).await;
            }
        },
        async |mut peer| {
            peer.send(&window_update(0, 1 << 30)).await;
            // The smaller window holds from when it is acknowledged.
            peer.next_of(&[SETTINGS]).await.unwrap();
            peer.send(&headers(1, 0, &POST)).await;
            for _ in 0..2 {
                peer.send(&frame(DATA, 0, 1, &[0; 10_000])).await;
            }
            peer.send(&headers(3, 0, &POST)).await;
            peer.send(&window_update(3, 1 << 30)).await;
            // Ten windows through the second stream, as its window allows.
            let (mut window, mut sent) = (20_000, 0);
            while sent < 200_000 {
                if window >= 10_000 {
                    peer.send(&frame(DATA, 0, 3, &[1; 10_000])).await;
                    (window, sent) = (window - 10_000, sent + 10_000);
                    continue;
                }
                let update = peer.next_of(&[WINDOW_UPDATE]).await.unwrap();
                assert_ne!(update.stream, 1, "nothing of the first was passed on");
                if update.stream == 3 {
                    window += u32::from_be_bytes(update.payload[..].try_into().unwrap()) as usize;
                }
            }
            // One byte more than the window of the first.
            peer.send(&frame(DATA, 0, 1, &[0])).await;
            assert_eq!(peer.outcome(1).await, Err(FLOW_CONTROL_ERROR));
            peer.send(&frame(DATA, END_STREAM, 3, b"")).await;
            assert!(peer.outcome(3).await.is_ok());
        },
    );
    assert_eq!(end, ServerEnd::Orderly);
}

/// A client that opens no window makes its stream wait, and nothing pile up.
#[test]
fn a_stream_without_a_window_waits() {
    let most = Rc::new(Cell::new(0));
    let seen = Rc::clone(&most);
    let limits = Limits { send_buffer: 30_000, ..Limits::default() };
    let (end, ()) = serve_raw(
        limits,
        CLOCKS,
        move |incoming| {
            let seen = Rc::clone(&seen);
            async move {
                incoming.responder.head(outgoing_response(b"HTTP/1.1 200 OK\r\n\r\n").unwrap(), false).unwrap();
                let mut sent = 0;
                loop {
                    if future::poll_fn(|cx| incoming.responder.poll_room(cx)).await.is_err() {
                        return;
                    }
                    incoming.responder.data(vec![0; 10_000], false).unwrap();
                    sent += 10_000;
                    seen.set(sent);
                }
            }
        },
        async |mut peer| {
            peer.send(&settings(&[(4, 0)])).await;
            peer.send(&headers(1, END_STREAM, &GET)).await;
            peer.next_of(&[HEADERS]).await.unwrap();
            for _ in 0..50 {
                peer.send(&frame(PING, 0, 0, &[1; 8])).await;
                peer.next_of(&[PING]).await.unwrap();
            }
            peer.send(&window_update(1, 25_000)).await;
            let mut got = 0;
            while got < 25_000 {
                got += peer.next_of(&[DATA]).await.unwrap().payload.len();
            }
            peer.send(&frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())).await;
        },
    );
    assert_eq!(end, ServerEnd::Orderly);
    // The mark, and one piece beyond it, behind what was taken.
    assert!((30_000..=25_000 + 40_000).contains(&most.get()), "{} bytes", most.get());
}
