//! The peers at the other ends of the sockets: what they say, what they hear, how they end.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::Read;
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::random::Random;

/// What a peer does after it has said everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Fin,
    Reset(i32),
    /// It keeps the connection and says nothing.
    Silence,
}

pub(super) struct Peer {
    pub(super) number: usize,
    pub(super) says: Vec<u8>,
    pub(super) said: usize,
    pub(super) then: Then,
    pub(super) heard: Vec<u8>,
    /// After that many bytes it hears no more: sends fail with the errno, or wait for ever.
    pub(super) hears: Option<(usize, Option<i32>)>,
    /// The other end of the descriptor that the engine has. No bytes go through it; it sees the FIN.
    far: Option<UnixStream>,
}

impl Peer {
    /// Has the engine sent its FIN?
    pub(super) fn has_fin(&self) -> bool {
        // An empty stream that is not over answers that it would block.
        self.far.as_ref().is_some_and(|mut far| far.read(&mut [0; 1]).is_ok_and(|count| count == 0))
    }
}

/// How often each kind of fault came about.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    const KINDS: [&'static str; 15] = [
        "accept fails",
        "cancelled",
        "cancelled and successful",
        "connection fails for sending",
        "descriptor comes again",
        "dropped in the middle",
        "late completion",
        "no buffers",
        "no buffers, it says",
        "overtaken completion",
        "receive interrupted",
        "receive ends",
        "reset",
        "send interrupted",
        "short send",
    ];

    pub(super) fn add(&mut self, other: &Tally) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub(super) fn never(&self) -> Vec<&'static str> {
        Self::KINDS.into_iter().filter(|kind| !self.0.contains_key(kind)).collect()
    }
}

/// What a driver and the tasks over it have in common.
pub(super) struct World {
    random: RefCell<Random>,
    now: Cell<Instant>,
    /// Those who have not connected yet.
    to_come: RefCell<VecDeque<Peer>>,
    /// By the engine's descriptor.
    present: RefCell<BTreeMap<RawFd, Peer>>,
    gone: RefCell<Vec<Peer>>,
    used: RefCell<BTreeSet<RawFd>>,
    tally: RefCell<Tally>,
    /// What each peer is to hear, by its number; less, but nothing else.
    scripts: RefCell<BTreeMap<usize, Vec<u8>>>,
    /// How many peers there are in all.
    pub(super) expected: usize,
    /// One fault in so many opportunities.
    rarity: u64,
}

impl World {
    pub(super) fn new(random: &mut Random) -> Rc<Self> {
        let expected = random.up_to(5);
        let to_come = (0..expected).map(|number| peer(number, random)).collect();
        let (rarity, seed) = (random.one_of(&[4, 16, 64]), random.below(u64::MAX));
        Rc::new(Self {
            random: RefCell::new(Random::new(seed)),
            now: Cell::new(Instant::now()),
            to_come: RefCell::new(to_come),
            present: RefCell::default(),
            gone: RefCell::default(),
            used: RefCell::default(),
            tally: RefCell::default(),
            scripts: RefCell::default(),
            expected,
            rarity,
        })
    }

    pub(super) fn random<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.borrow_mut())
    }

    /// Does a fault of this kind come about? Counts it.
    pub(super) fn strikes(&self, kind: &'static str) -> bool {
        let strikes = self.random(|random| random.one_in(self.rarity));
        if strikes {
            self.note(kind);
        }
        strikes
    }

    pub(super) fn note(&self, kind: &'static str) {
        debug_assert!(Tally::KINDS.contains(&kind), "{kind}");
        *self.tally.borrow_mut().0.entry(kind).or_default() += 1;
    }

    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(super) fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    pub(super) fn is_anyone_to_come(&self) -> bool {
        !self.to_come.borrow().is_empty()
    }

    /// The next peer connects; returns the engine's descriptor.
    pub(super) fn arrive(&self) -> Option<RawFd> {
        let mut peer = self.to_come.borrow_mut().pop_front()?;
        let (near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        peer.far = Some(far);
        let fd = near.into_raw_fd();
        if !self.used.borrow_mut().insert(fd) {
            self.note("descriptor comes again");
        }
        let before = self.present.borrow_mut().insert(fd, peer);
        assert!(before.is_none(), "descriptor {fd} is open already");
        Some(fd)
    }

    /// What is at the other end of `fd`, if it is a peer's.
    pub(super) fn with_peer<T>(&self, fd: RawFd, look: impl FnOnce(&mut Peer) -> T) -> Option<T> {
        self.present.borrow_mut().get_mut(&fd).map(look)
    }

    /// The engine closes `fd`.
    pub(super) fn leave(&self, fd: RawFd) {
        if let Some(peer) = self.present.borrow_mut().remove(&fd) {
            self.gone.borrow_mut().push(peer);
        }
    }

    /// Peer `number` is to hear `script`, or the beginning of it.
    pub(super) fn expect(&self, number: usize, script: Vec<u8>) {
        self.scripts.borrow_mut().insert(number, script);
    }

    /// Everybody is gone.
    pub(super) fn finish(&self) -> Tally {
        assert!(self.present.borrow().is_empty(), "sockets are open");
        let scripts = self.scripts.borrow();
        for Peer { number, heard, .. } in &*self.gone.borrow() {
            let script = scripts.get(number).map_or(&[][..], |script| script);
            assert!(script.starts_with(heard), "{number} has heard something else");
        }
        self.tally.borrow().clone()
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Peer { number, says, said, then, heard, hears, .. } in self.present.borrow().values() {
            let (all, heard) = (says.len(), heard.len());
            write!(f, "{number} has said {said} of {all} ({then:?}) and heard {heard} ({hears:?}); ")?;
        }
        Ok(())
    }
}

/// Bytes that depend on their place and on whose they are, so that a lost or swapped piece shows.
fn speech(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place.wrapping_mul(0x9E37_79B1) >> 13) as u8 ^ (number as u8).wrapping_mul(37)).collect()
}

fn peer(number: usize, random: &mut Random) -> Peer {
    let most = random.one_of(&[1, 40, 3000, 3000, 60_000]);
    let says = speech(number, random.below(most) as usize);
    let then = match random.below(8) {
        0 => Then::Silence,
        1 => Then::Reset(random.one_of(&[libc::ECONNRESET, libc::ETIMEDOUT, libc::EHOSTUNREACH])),
        _ => Then::Fin,
    };
    let hears = random.one_in(8).then(|| {
        let errno = random.one_of(&[None, Some(libc::EPIPE), Some(libc::ECONNRESET)]);
        (random.below(most) as usize, errno)
    });
    Peer { number, says, said: 0, then, heard: Vec::new(), hears, far: None }
}
