//! Streams, their states and their identifiers (RFC 9113 §5).

use super::Expected::*;
use super::framing::{data, post, request, then};
use super::{Case, HOST, MOST_STREAMS, Step, case, play};
use crate::lab::frames::*;

pub fn cases() -> Vec<Case> {
    [idle(), half_closed(), reset_by_the_client(), closed(), identifiers(), many()].into_iter().flatten().collect()
}

fn asked(stream: u32) -> Vec<u8> {
    get(stream, HOST, "/")
}

/// A request that is complete, and has no answer yet.
fn held(stream: u32) -> Vec<u8> {
    get(stream, HOST, "/never")
}

fn idle() -> Vec<Case> {
    let error = || Connection(&[PROTOCOL_ERROR]);
    let rest = frame(CONTINUATION, END_HEADERS, 1, &request("GET", "/"));
    vec![
        case("5.1", "idle: DATA", data(1, END_STREAM, b"x"), Connection(&[PROTOCOL_ERROR, STREAM_CLOSED])),
        case("5.1", "idle: RST_STREAM", reset(1), error()),
        case("5.1", "idle: WINDOW_UPDATE", window_update(1, 1), error()),
        case("5.1", "idle: CONTINUATION", rest, error()),
        case("5.1", "idle: PRIORITY", then(&[priority(1, 3), asked(1)]), Served(1, 200)),
    ]
}

fn half_closed() -> Vec<Case> {
    // An error of the stream that the codec makes one of the connection, with the code of those.
    let error = || Either(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    let rest = frame(CONTINUATION, END_HEADERS, 1, &request("GET", "/"));
    let gone = || Either(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    vec![
        case("5.1", "half-closed: DATA", then(&[held(1), data(1, END_STREAM, b"x")]), error()),
        case("5.1", "half-closed: empty DATA", then(&[held(1), data(1, END_STREAM, b"")]), error()),
        case("5.1", "half-closed: HEADERS", then(&[held(1), held(1)]), error()),
        case("5.1", "half-closed: CONTINUATION", then(&[held(1), rest]), gone()),
        case("5.1", "half-closed: WINDOW_UPDATE", then(&[asked(1), window_update(1, 1)]), Served(1, 200)),
        case("5.1", "half-closed: PRIORITY", then(&[asked(1), priority(1, 3)]), Served(1, 200)),
        case("5.1", "half-closed: RST_STREAM", then(&[held(1), reset(1)]), Ignored),
        case("5.1", "ended by DATA: DATA", then(&[post(1, "/never"), data(1, END_STREAM, b"x").repeat(2)]), error()),
    ]
}

fn reset_by_the_client() -> Vec<Case> {
    let error = || Either(&[STREAM_CLOSED]);
    let rest = || frame(CONTINUATION, END_HEADERS, 1, &request("GET", "/"));
    let gone = || Either(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    let over = || then(&[post(1, "/never"), reset(1)]);
    vec![
        case("5.1", "reset: DATA", then(&[over(), data(1, END_STREAM, b"x")]), error()),
        case("5.1", "reset: HEADERS", then(&[over(), held(1)]), gone()),
        case("5.1", "reset: CONTINUATION", then(&[over(), rest()]), gone()),
        case("5.1", "reset: PRIORITY", then(&[over(), priority(1, 3)]), Ignored),
        case("5.1", "reset: RST_STREAM", then(&[over(), reset(1)]), Ignored),
        case("5.1", "reset: WINDOW_UPDATE", then(&[over(), window_update(1, 1)]), Ignored),
    ]
}

fn closed() -> Vec<Case> {
    let after = |bytes| vec![Step::Send(asked(1)), Step::Answered(1), Step::Send(bytes)];
    let rest = frame(CONTINUATION, END_HEADERS, 1, &request("GET", "/"));
    let error = || Connection(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    vec![
        play("5.1", "closed: DATA", after(data(1, END_STREAM, b"x")), Either(&[STREAM_CLOSED])),
        play("5.1", "closed: HEADERS", after(asked(1)), error()),
        play("5.1", "closed: CONTINUATION", after(rest), error()),
        play("5.1", "closed: PRIORITY", after(priority(1, 3)), Ignored),
        play("5.1", "closed: WINDOW_UPDATE", after(window_update(1, 1)), Ignored),
        play("5.1", "closed: RST_STREAM", after(reset(1)), Ignored),
    ]
}

fn identifiers() -> Vec<Case> {
    let error = || Connection(&[PROTOCOL_ERROR]);
    let skipped = || Either(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    vec![
        case("5.1.1", "an even identifier", asked(2), error()),
        case("5.1.1", "a lower identifier", then(&[held(5), asked(3)]), error()),
        case("5.1.1", "identifiers may be left out", then(&[held(5), asked(101)]), Served(101, 200)),
        case("5.1.1", "DATA on one that was left out", then(&[held(5), data(3, 0, b"x")]), skipped()),
    ]
}

fn many() -> Vec<Case> {
    let ask = |count, path| (0..count).flat_map(|n| get(2 * n + 1, HOST, path)).collect::<Vec<_>>();
    let most = || ask(MOST_STREAMS, "/never");
    let next = 2 * MOST_STREAMS + 1;
    let goodbye = then(&[asked(1), goaway(0, NO_ERROR)]);
    vec![
        case("5.1.2", "more streams than allowed", then(&[most(), asked(next)]), Either(&[REFUSED_STREAM])),
        case("5.1.2", "half as many", ask(MOST_STREAMS / 2, "/"), Served(MOST_STREAMS - 1, 200)),
        case("5.1.2", "a reset makes room", then(&[most(), reset(7), asked(next)]), Served(next, 200)),
        case("6.8", "what was asked for before GOAWAY is answered", goodbye, Last(1, 200)),
    ]
}
