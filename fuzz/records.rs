//! What must hold for the records of an established TLS session, whatever a server sends. Entered by the fuzz target
//! `tls_records`, and by `tests/e2e/fuzz_corpus.rs` with the committed corpus; a violation panics.
//!
//! The input is a script of what the server seals, damages and sends in the clear, and of what the client does in
//! between. The same bytes go to egret in one piece, to egret cut, and to rustls's own record layer.

#[path = "peer.rs"]
mod peer;

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};

use egret::io::Lease;
use egret::tls::Session;
use peer::{Direction, Peer};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const KEY_UPDATE: u8 = 24;

/// Longer scripts only repeat themselves.
const MAX_WIRE: usize = 200_000;

/// What happens, in order.
enum Step {
    /// The server's bytes.
    Arrives(Vec<u8>),
    /// The client seals that many bytes.
    Sends(usize),
    Closes,
}

struct Script {
    steps: Vec<Step>,
    /// The data in genuine records, in order, up to the first bytes that are none.
    data: Vec<u8>,
    intact: bool,
}

/// What became of a session.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    received: Vec<u8>,
    failure: Option<String>,
    peer_closed: bool,
    /// All that the client sent, sealed.
    sent: Vec<u8>,
    /// The data in it.
    said: Vec<u8>,
}

/// The verdict does not depend on how the bytes were cut; only genuine data arrives, in order and all of it; what is sent
/// is genuine; and nothing is let pass that rustls refuses.
pub fn tls_records(input: &[u8]) {
    let Some((&[choice, cut], script)) = input.split_first_chunk() else { return };
    let peers = peer::all();
    let peer = &peers[usize::from(choice) % peers.len()];
    let script = read(script, peer);
    let whole = run(peer, &script, usize::MAX);
    assert_eq!(run(peer, &script, 1 + usize::from(cut)), whole, "cut into pieces of {}", 1 + usize::from(cut));
    assert!(script.data.starts_with(&whole.received), "only what was sealed arrives");
    if script.intact && whole.failure.is_none() && !whole.peer_closed {
        assert!(script.data == whole.received, "all that was sealed arrives");
    }
    check_sent(peer, &whole);
    let (received, failure, peer_closed) = refer(peer, &script);
    if whole.failure.is_none() {
        // rustls judges the first byte of what is no record, egret the first five.
        assert!(failure.is_none() || !script.intact, "rustls refuses this: {failure:?}");
        assert!(received == whole.received && peer_closed == whole.peer_closed, "rustls hears something else");
    } else {
        assert!(received.starts_with(&whole.received), "rustls hears less");
    }
}

/// Takes `count` bytes, or what is left.
fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    taken
}

fn number(input: &mut &[u8]) -> usize {
    take(input, 1).first().copied().unwrap_or_default().into()
}

fn read(mut input: &[u8], peer: &Peer) -> Script {
    let mut server = Server { sealing: peer.sealing.clone(), is_tls13: peer.is_tls13, data: Vec::new(), intact: true };
    let (mut steps, mut wire, mut length, mut closed) = (Vec::new(), Vec::new(), 0, false);
    while !input.is_empty() && length + wire.len() < MAX_WIRE {
        let action = number(&mut input);
        if action % 16 < 14 {
            server.act(action % 16, &mut input, &mut wire);
            continue;
        }
        length += wire.len();
        steps.push(Step::Arrives(std::mem::take(&mut wire)));
        match action % 16 {
            14 if !closed => steps.push(Step::Sends(number(&mut input) * (1 + number(&mut input)))),
            15 if number(&mut input).is_multiple_of(4) => {
                closed = true;
                steps.push(Step::Closes);
            }
            _ => {}
        }
    }
    steps.push(Step::Arrives(wire));
    Script { steps, data: server.data, intact: server.intact }
}

/// The server while it follows a script.
struct Server {
    sealing: Direction,
    is_tls13: bool,
    data: Vec<u8>,
    intact: bool,
}

impl Server {
    fn act(&mut self, action: usize, input: &mut &[u8], wire: &mut Vec<u8>) {
        match action {
            0 => {
                let length = number(input);
                self.data(take(input, length), 0, wire);
            }
            1 => self.data(&vec![b'm'; number(input) * 8], 0, wire),
            // Around the longest content.
            2 => self.data(&vec![b'l'; 16_381 + number(input) % 6], 0, wire),
            3 => self.data(&vec![b'p'; number(input)], number(input) * 65, wire),
            4 => (0..number(input) % 40).for_each(|_| self.data(b"", 0, wire)),
            5 => {
                let length = number(input);
                wire.extend(self.sealing.seal(HANDSHAKE, take(input, length), 0));
            }
            6 => {
                let length = [2, 2, 2, 0, 1, 3][number(input) % 6];
                wire.extend(self.sealing.seal(ALERT, take(input, length), 0));
            }
            7 => {
                let kind = number(input) as u8;
                let length = number(input) % 32;
                let content = take(input, length);
                match kind {
                    DATA => self.data(content, 0, wire),
                    0 if self.is_tls13 => self.without_type(content, wire),
                    _ => wire.extend(self.sealing.seal(kind, content, 0)),
                }
            }
            8 => self.update_key(number(input) as u8, wire),
            9 => (0..number(input) % 40).for_each(|_| self.update_key(0, wire)),
            10 => {
                // A ticket: lifetime, age, nonce, ticket, extensions.
                let ticket = vec![b't'; number(input) * 4 + 1];
                let body =
                    [&[0, 0, 1, 0, 1, 2, 3, 4, 1, 0][..], &(ticket.len() as u16).to_be_bytes(), &ticket, &[0, 0]];
                let body = body.concat();
                let message = [&[4, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
                let split = number(input).min(message.len());
                for part in [&message[..split], &message[split..]].into_iter().filter(|part| !part.is_empty()) {
                    wire.extend(self.sealing.seal(HANDSHAKE, part, 0));
                }
            }
            11 => self.damage(input, wire),
            12 => {
                // The record before once more, or what else stands there.
                let again = wire[wire.len() - number(input).min(wire.len())..].to_vec();
                self.intact &= again.is_empty();
                wire.extend(again);
            }
            _ => {
                let length = number(input);
                let clear = take(input, length);
                self.intact &= clear.is_empty();
                wire.extend_from_slice(clear);
            }
        }
    }

    fn data(&mut self, content: &[u8], padding: usize, wire: &mut Vec<u8>) {
        let is_within = content.len() <= 1 << 14 && (!self.is_tls13 || content.len() + padding <= 1 << 14);
        self.intact &= is_within;
        if self.intact {
            self.data.extend_from_slice(content);
        }
        wire.extend(self.sealing.seal(DATA, content, padding));
    }

    /// A type of zero is one byte more of padding, and the last byte of the content that is not zero is the type
    /// (RFC 8446 §5.4).
    fn without_type(&mut self, content: &[u8], wire: &mut Vec<u8>) {
        let end = content.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        match content.get(end) {
            Some(&DATA) => self.data(&content[..end], content.len() - end, wire),
            _ => wire.extend(self.sealing.seal(0, content, 0)),
        }
    }

    fn update_key(&mut self, asks: u8, wire: &mut Vec<u8>) {
        wire.extend(self.sealing.seal(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, asks], 0));
        if self.is_tls13 {
            self.sealing.update();
        }
    }

    /// One bit of a record is changed, or its end is missing, or something stands behind it.
    fn damage(&mut self, input: &mut &[u8], wire: &mut Vec<u8>) {
        self.intact = false;
        let mut record = self.sealing.seal(DATA, &vec![b'd'; number(input)], 0);
        let (how, place) = (number(input), number(input));
        let at = place % record.len();
        match how % 4 {
            0 => record.truncate(at),
            1 => record.insert(at, how as u8),
            _ => record[at] ^= 1 << (how / 4 % 8),
        }
        wire.extend(record);
    }
}

/// egret follows a script; what arrives does so in pieces of `piece` bytes.
fn run(peer: &Peer, script: &Script, piece: usize) -> Outcome {
    let mut session = peer.session();
    let mut outcome =
        Outcome { received: Vec::new(), failure: None, peer_closed: false, sent: Vec::new(), said: Vec::new() };
    for step in &script.steps {
        match step {
            Step::Arrives(bytes) => arrive(&mut session, bytes, piece, &mut outcome),
            Step::Sends(length) => {
                let data = vec![b'c'; *length];
                let before = session.failure().is_some();
                let result = session.seal(&[&data[..length / 3], &data[length / 3..]], &mut outcome.sent);
                assert_eq!(result.is_err(), before, "{result:?}");
                if result.is_ok() {
                    outcome.said.extend(data);
                }
            }
            Step::Closes => session.close(&mut outcome.sent),
        }
    }
    outcome.peer_closed = session.peer_closed();
    outcome.failure = session.failure().map(ToString::to_string);
    outcome
}

fn arrive(session: &mut Session, bytes: &[u8], piece: usize, outcome: &mut Outcome) {
    for part in bytes.chunks(piece.min(bytes.len().max(1))) {
        let before = session.failure().is_some();
        let mut plaintext = VecDeque::new();
        let result = session.open(Lease::from_vec(part.to_vec()), &mut plaintext);
        assert!(!before || result.is_err() && plaintext.is_empty(), "nothing arrives after a failure");
        for lease in &plaintext {
            assert!(!lease.is_empty());
            outcome.received.extend_from_slice(lease);
        }
        session.take_output_behind(&mut outcome.sent);
    }
}

/// Appends also where something stands already.
trait TakeOutputBehind {
    fn take_output_behind(&mut self, out: &mut Vec<u8>);
}

impl TakeOutputBehind for Session {
    fn take_output_behind(&mut self, out: &mut Vec<u8>) {
        let mut output = Vec::new();
        self.take_output(&mut output);
        out.append(&mut output);
    }
}

/// The server can open all of it, and finds what was said; nothing follows the last alert.
fn check_sent(peer: &Peer, outcome: &Outcome) {
    let (mut opening, mut rest, mut said, mut over) = (peer.opening.clone(), &outcome.sent[..], Vec::new(), false);
    while !rest.is_empty() {
        assert!(!over, "something behind the end");
        let length = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        let (kind, content) = opening.open(&rest[..length]).expect("what egret seals can be opened");
        rest = &rest[length..];
        match (kind, content.as_slice()) {
            (DATA, data) => said.extend_from_slice(data),
            (HANDSHAKE, [KEY_UPDATE, 0, 0, 1, 0]) if peer.is_tls13 => opening.update(),
            // no_renegotiation is the only warning that is not the end.
            (ALERT, [1, 100]) if !peer.is_tls13 => {}
            (ALERT, [1, 0]) => over = true,
            (ALERT, [2, alert]) if *alert > 0 => over = true,
            other => panic!("egret sent {other:?}"),
        }
    }
    assert!(said == outcome.said);
}

/// rustls follows a script: what it received, its failure, and whether it heard close_notify.
fn refer(peer: &Peer, script: &Script) -> (Vec<u8>, Option<String>, bool) {
    let mut client = peer.reference();
    client.set_buffer_limit(None);
    let (mut received, mut closed) = (Vec::new(), false);
    for step in &script.steps {
        match step {
            Step::Arrives(bytes) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() && !closed {
                    client.read_tls(&mut rest).expect("there is room");
                    let state = client.process_new_packets();
                    // It says when there is no more than that.
                    let _ = client.reader().read_to_end(&mut received);
                    match state {
                        Ok(state) => closed = state.peer_has_closed(),
                        Err(error) => return (received, Some(error.to_string()), closed),
                    }
                }
            }
            Step::Sends(length) => client.writer().write_all(&vec![b'c'; *length]).expect("no limit"),
            // It changes nothing of what arrives, and rustls asserts that no alert follows.
            Step::Closes => {}
        }
        while client.wants_write() {
            client.write_tls(&mut std::io::sink()).expect("a sink takes all");
        }
    }
    (received, None, closed)
}
