//! The far end of one socket of the engine: what it says, what it hears, what is on the way, how it ends.
//!
//! A peer of a play has said everything before it comes, and hears what is sent as soon as it is. A peer that a program
//! speaks for ([`super::programs`]) has a connection with two ends and a way between them: bytes wait in the engine's
//! kernel, are on the way, and wait in the peer's kernel until the program takes them; a reset loses what has not arrived.

use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::task::Waker;

use super::random::Random;

/// What a peer does after it has said everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Fin,
    Reset(i32),
    /// It keeps the connection and says nothing.
    Silence,
}

/// Who is at the ends, as the engine's side has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Where the peer meant to connect to.
    pub(super) original: SocketAddr,
}

/// What the peer's kernel holds for a program before the sender must wait.
const WINDOWS: [usize; 4] = [512, 4096, 16_384, 100_000];

pub(super) struct Peer {
    pub(super) number: usize,
    pub(super) says: Vec<u8>,
    /// Bytes of it that the engine has received.
    pub(super) said: usize,
    /// Bytes of it that can be received.
    pub(super) arrived: usize,
    pub(super) then: Then,
    /// What it does then has arrived as well.
    end_arrived: bool,
    /// Taken by the engine's kernel, and on the way.
    pub(super) sending: Vec<u8>,
    pub(super) heard: Vec<u8>,
    /// After that many bytes it hears no more: sends fail with the errno, or wait for ever.
    pub(super) hears: Option<(usize, Option<i32>)>,
    /// The other end of the descriptor that the engine has. No bytes go through it; it sees the FIN.
    far: Option<UnixStream>,
    pub(super) ends: Option<Ends>,
    way: Option<Way>,
}

/// What a peer has that a program speaks for.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent of one another")]
struct Way {
    /// What the engine's kernel and the peer's kernel hold.
    send_buffer: usize,
    window: usize,
    /// Bytes that the program has taken.
    taken: usize,
    /// The engine's FIN has arrived.
    fin: bool,
    /// The connection has failed for the program.
    has_failed: bool,
    /// The program has let go of it.
    is_left: bool,
    /// The engine has closed its descriptor.
    is_closed: bool,
    /// The errno for the engine's sends, once a reset has arrived; told as the socket's error once.
    broken: Option<i32>,
    error: Option<i32>,
    waiting: Vec<Waker>,
}

/// What the program finds.
pub(super) enum Found {
    Bytes(Vec<u8>),
    Fin,
    Failed,
    Nothing,
}

impl Peer {
    /// One of a play.
    pub(super) fn scripted(number: usize, says: Vec<u8>, then: Then, hears: Option<(usize, Option<i32>)>) -> Self {
        let arrived = says.len();
        Self {
            number,
            says,
            said: 0,
            arrived,
            then,
            end_arrived: true,
            sending: Vec::new(),
            heard: Vec::new(),
            hears,
            far: None,
            ends: None,
            way: None,
        }
    }

    /// One that a program speaks for.
    pub(super) fn spoken_for(number: usize, ends: Ends, random: &mut Random) -> Self {
        let way = Way { send_buffer: random.one_of(&WINDOWS), window: random.one_of(&WINDOWS), ..Way::default() };
        let scripted = Self::scripted(number, Vec::new(), Then::Silence, None);
        Self { end_arrived: false, ends: Some(ends), way: Some(way), ..scripted }
    }

    pub(super) fn connected(&mut self, far: UnixStream) {
        self.far = Some(far);
    }

    // As the engine sees it.

    /// Has the engine sent its FIN?
    pub(super) fn has_fin(&self) -> bool {
        // An empty stream that is not over answers that it would block.
        self.far.as_ref().is_some_and(|mut far| far.read(&mut [0; 1]).is_ok_and(|count| count == 0))
    }

    /// Bytes that can be received.
    pub(super) fn receivable(&self) -> usize {
        self.arrived - self.said
    }

    /// Nothing is to be received now, not even the end.
    pub(super) fn is_silent(&self) -> bool {
        self.receivable() == 0 && self.end() == Then::Silence
    }

    /// What a receive finds behind the last byte.
    pub(super) fn end(&self) -> Then {
        if self.end_arrived && self.said == self.says.len() { self.then } else { Then::Silence }
    }

    pub(super) fn say(&mut self, memory: &mut [u8]) {
        memory.copy_from_slice(&self.says[self.said..][..memory.len()]);
        self.said += memory.len();
        self.wake();
    }

    /// How many bytes a send gets rid of, or the errno that ends it.
    pub(super) fn room(&self) -> Result<usize, i32> {
        match &self.way {
            Some(Way { broken: Some(errno), .. }) => Err(*errno),
            Some(way) => Ok(way.send_buffer.saturating_sub(self.sending.len())),
            None => match self.hears {
                None => Ok(usize::MAX),
                Some((most, errno)) => match (most - self.heard.len(), errno) {
                    (0, Some(errno)) => Err(errno),
                    (room, _) => Ok(room),
                },
            },
        }
    }

    /// The engine's kernel takes `bytes`.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if self.way.is_some() { &mut self.sending } else { &mut self.heard }.extend_from_slice(bytes);
    }

    /// What the peer has not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.sending.len()
    }

    /// Is there still a connection?
    pub(super) fn is_connected(&self) -> bool {
        self.way.as_ref().is_none_or(|way| way.broken.is_none())
    }

    pub(super) fn take_error(&mut self) -> Option<i32> {
        self.way.as_mut()?.error.take()
    }

    /// The engine closes its descriptor, in order or (`resets`) by a reset.
    pub(super) fn close(&mut self, resets: bool) {
        // Closing with something unread is a reset, too (RFC 2525 §2.17).
        let resets = resets || self.receivable() > 0;
        self.far = None;
        let Some(way) = &mut self.way else { return };
        way.is_closed = true;
        if resets {
            way.has_failed = true;
            self.sending.clear();
        }
        self.wake();
    }

    // On the way.

    /// Could something move?
    pub(super) fn is_under_way(&self) -> bool {
        self.way.is_some() && (self.comes_in() || self.goes_out())
    }

    fn comes_in(&self) -> bool {
        let Some(way) = &self.way else { return false };
        let is_over = way.broken.is_some() || way.is_closed && way.has_failed;
        !is_over && (self.arrived < self.says.len() || !self.end_arrived && self.then != Then::Silence)
    }

    fn goes_out(&self) -> bool {
        let Some(way) = &self.way else { return false };
        if way.broken.is_some() || way.has_failed {
            return false;
        }
        if self.sending.is_empty() {
            return !way.fin && (way.is_closed || self.has_fin());
        }
        way.is_left || self.window() > 0
    }

    /// What the peer's kernel has room for.
    fn window(&self) -> usize {
        self.way.as_ref().map_or(0, |way| way.window.saturating_sub(self.heard.len() - way.taken))
    }

    /// Moves some of what is on the way.
    pub(super) fn travel(&mut self, random: &mut Random) {
        if self.comes_in() {
            self.travel_in(random);
        }
        if self.goes_out() {
            self.travel_out(random);
        }
    }

    fn travel_in(&mut self, random: &mut Random) {
        let rest = self.says.len() - self.arrived;
        let way = self.way.as_mut().expect("it travels");
        if rest > 0 && way.is_closed {
            // Nobody takes it: the answer is a reset.
            way.has_failed = true;
            self.wake();
        } else if rest > 0 {
            self.arrived += piece(rest, random);
        } else {
            self.end_arrived = true;
            if let Then::Reset(errno) = self.then {
                self.break_off(errno);
            }
        }
    }

    fn travel_out(&mut self, random: &mut Random) {
        let window = self.window();
        let way = self.way.as_mut().expect("it travels");
        if self.sending.is_empty() {
            way.fin = true;
        } else if way.is_left {
            // The peer's process is gone: its kernel answers with a reset, which comes behind its FIN, if it sent one.
            let fin_came = self.end_arrived && self.then == Then::Fin;
            self.break_off(if fin_came { libc::EPIPE } else { libc::ECONNRESET });
            if !fin_came {
                (self.then, self.end_arrived) = (Then::Reset(libc::ECONNRESET), true);
                self.says.truncate(self.arrived);
            }
        } else {
            let count = piece(window.min(self.sending.len()), random);
            self.heard.extend(self.sending.drain(..count));
        }
        self.wake();
    }

    /// A reset of the peer's has arrived: what has not been delivered is lost.
    fn break_off(&mut self, errno: i32) {
        self.sending.clear();
        let Some(way) = &mut self.way else { return };
        (way.broken, way.error) = (Some(errno), Some(errno));
        self.wake();
    }

    // As its program sees it.

    fn wake(&mut self) {
        if let Some(way) = &mut self.way {
            way.waiting.drain(..).for_each(Waker::wake);
        }
    }

    pub(super) fn wait(&mut self, waker: &Waker) {
        self.way.as_mut().expect("a program speaks for it").waiting.push(waker.clone());
    }

    /// The next bytes, at most `most`.
    pub(super) fn hear(&mut self, most: usize) -> Found {
        let way = self.way.as_mut().expect("a program speaks for it");
        let rest = &self.heard[way.taken..];
        if !rest.is_empty() {
            let bytes = rest[..most.min(rest.len())].to_vec();
            way.taken += bytes.len();
            return Found::Bytes(bytes);
        }
        match (way.has_failed, way.fin) {
            (true, _) => Found::Failed,
            (false, true) => Found::Fin,
            (false, false) => Found::Nothing,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.way.as_ref().is_some_and(|way| way.has_failed)
    }

    /// Everything that it said has been received, or cannot be any more.
    pub(super) fn is_delivered(&self) -> bool {
        let way = self.way.as_ref().expect("a program speaks for it");
        self.said == self.says.len() || way.has_failed || way.is_closed
    }

    /// How much it may say before what it said before has been received; `None`: the connection has failed.
    pub(super) fn may_say(&self) -> Option<usize> {
        let way = self.way.as_ref().expect("a program speaks for it");
        let waits = self.says.len() - self.said;
        (!way.has_failed && self.then == Then::Silence).then(|| way.window.saturating_sub(waits))
    }

    /// It says nothing more.
    pub(super) fn finish(&mut self) {
        if self.then == Then::Silence {
            self.then = Then::Fin;
        }
    }

    /// It resets the connection: what has not arrived is lost.
    pub(super) fn reset(&mut self) {
        self.says.truncate(self.arrived);
        (self.then, self.end_arrived) = (Then::Reset(libc::ECONNRESET), false);
        self.let_go();
    }

    /// Its process is gone. What it has not read makes a reset of it.
    pub(super) fn leave(&mut self) {
        let way = self.way.as_ref().expect("a program speaks for it");
        if way.taken < self.heard.len() && !way.has_failed {
            self.reset();
        } else {
            self.finish();
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        self.way.as_mut().expect("a program speaks for it").is_left = true;
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, says, said, arrived, then, sending, heard, hears, way, .. } = self;
        let (all, sending, heard) = (says.len(), sending.len(), heard.len());
        write!(f, "{number} has said {said}, {arrived} on the way, of {all} ({then:?}); heard {heard} ({hears:?})")?;
        match way {
            Some(way) => write!(f, ", with {sending} on the way, took {} of them", way.taken),
            None => Ok(()),
        }
    }
}

/// How much of `rest` moves at once: a byte, a part, or all of it.
fn piece(rest: usize, random: &mut Random) -> usize {
    match random.below(4) {
        0 => 1,
        1 => random.up_to(rest),
        _ => rest,
    }
}
