//! What a driver, the tasks over it and the peers at the far ends have in common: the clock, the seed's dice, who is where.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::EngineKind;
use super::peer::{Ends, Peer, Then};
use super::programs::{Far, Program, Programs};
use super::random::Random;

/// How often each kind of fault came about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

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

/// Who is at an address.
#[derive(Clone)]
pub(crate) enum Host {
    /// A server, with the program that each connection gets.
    Serves(Rc<dyn Fn(Far) -> Program>),
    /// Connections are refused.
    Refuses,
    /// Nobody answers.
    Silent,
}

impl Host {
    pub(crate) fn serving<F: Future<Output = ()> + 'static>(program: impl Fn(Far) -> F + 'static) -> Self {
        Self::Serves(Rc::new(move |far| Box::pin(program(far))))
    }
}

/// Where applications and the engine are.
const POD: [u8; 4] = [10, 77, 0, 2];
/// The first of their ports; each connection has its own.
const FIRST_PORT: u16 = 20_000;

pub(crate) struct World {
    random: RefCell<Random>,
    /// Whose manners the driver has.
    pub(super) kind: EngineKind,
    now: Cell<Instant>,
    peers: RefCell<Vec<Peer>>,
    /// Those who have not been accepted yet.
    to_come: RefCell<VecDeque<usize>>,
    /// How many connections applications have opened.
    pub(crate) applications: Cell<u64>,
    /// By the engine's descriptor.
    present: RefCell<BTreeMap<RawFd, usize>>,
    hosts: RefCell<BTreeMap<SocketAddr, Rc<dyn Fn() -> Host>>>,
    pub(super) programs: Programs,
    used: RefCell<BTreeSet<RawFd>>,
    tally: RefCell<Tally>,
    /// What each peer is to hear, by its number; less, but nothing else.
    scripts: RefCell<BTreeMap<usize, Vec<u8>>>,
    /// How many peers there are in all, in a play.
    pub(super) expected: usize,
    /// One fault in so many opportunities.
    rarity: u64,
}

impl World {
    /// A world of peers that are scripts.
    pub(super) fn scripted(random: &mut Random) -> Rc<Self> {
        let expected = random.up_to(5);
        let peers: Vec<Peer> = (0..expected).map(|number| peer(number, random)).collect();
        let kind = if random.one_in(4) { EngineKind::Epoll } else { EngineKind::Uring };
        Rc::new(Self {
            to_come: RefCell::new((0..expected).collect()),
            peers: RefCell::new(peers),
            expected,
            ..Self::empty(kind, random)
        })
    }

    /// A world of programs.
    pub(super) fn of_programs(kind: EngineKind, random: &mut Random) -> Rc<Self> {
        Rc::new(Self::empty(kind, random))
    }

    fn empty(kind: EngineKind, random: &mut Random) -> Self {
        let (rarity, seed) = (random.one_of(&[4, 16, 64]), random.below(u64::MAX));
        Self {
            random: RefCell::new(Random::new(seed)),
            kind,
            now: Cell::new(Instant::now()),
            peers: RefCell::default(),
            to_come: RefCell::default(),
            applications: Cell::new(0),
            present: RefCell::default(),
            hosts: RefCell::default(),
            programs: Programs::default(),
            used: RefCell::default(),
            tally: RefCell::default(),
            scripts: RefCell::default(),
            expected: 0,
            rarity,
        }
    }

    pub(crate) fn random<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
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

    /// As [`strikes`](Self::strikes), of what only io_uring does.
    pub(super) fn strikes_ring(&self, kind: &'static str) -> bool {
        self.kind == EngineKind::Uring && self.strikes(kind)
    }

    pub(super) fn note(&self, kind: &'static str) {
        debug_assert!(Tally::KINDS.contains(&kind), "{kind}");
        *self.tally.borrow_mut().0.entry(kind).or_default() += 1;
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(super) fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    // Who comes and who is called.

    pub(super) fn is_anyone_to_come(&self) -> bool {
        !self.to_come.borrow().is_empty()
    }

    /// The next peer connects; returns the engine's descriptor.
    pub(super) fn arrive(&self) -> Option<RawFd> {
        let number = self.to_come.borrow_mut().pop_front()?;
        let fd = self.join(number).into_raw_fd();
        self.enter(fd, number);
        Some(fd)
    }

    /// The near end of peer `number`'s connection.
    fn join(&self, number: usize) -> OwnedFd {
        let (near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        self.peer(number, |peer| peer.connected(far));
        near.into()
    }

    fn enter(&self, fd: RawFd, number: usize) {
        if !self.used.borrow_mut().insert(fd) {
            self.note("descriptor comes again");
        }
        let before = self.present.borrow_mut().insert(fd, number);
        assert!(before.is_none(), "descriptor {fd} is open already");
    }

    /// An application connects to `original`, from where the rules bring it to the engine.
    pub(crate) fn connect(self: &Rc<Self>, original: SocketAddr) -> Far {
        let far = self.meet(|own| Ends { local: SocketAddr::from(([127, 0, 0, 1], 15001)), remote: own, original });
        self.to_come.borrow_mut().push_back(far.0);
        self.applications.set(self.applications.get() + 1);
        far.1
    }

    /// A new peer, whose ends are told by an address of the pod.
    fn meet(self: &Rc<Self>, ends: impl FnOnce(SocketAddr) -> Ends) -> (usize, Far) {
        let number = self.peers.borrow().len();
        let own = SocketAddr::from((POD, FIRST_PORT + number as u16));
        let peer = self.random(|random| Peer::spoken_for(number, ends(own), random));
        self.peers.borrow_mut().push(peer);
        (number, Far::new(Rc::clone(self), number))
    }

    /// Who is at `address` from now on, asked for each connection.
    pub(crate) fn host(&self, address: SocketAddr, who: impl Fn() -> Host + 'static) {
        self.hosts.borrow_mut().insert(address, Rc::new(who));
    }

    /// A server at `address`.
    pub(crate) fn serve<F: Future<Output = ()> + 'static>(
        &self,
        address: SocketAddr,
        program: impl Fn(Far) -> F + 'static,
    ) {
        let host = Host::serving(program);
        self.host(address, move || host.clone());
    }

    /// The engine connects `fd` to `address`: the result, or that there will be none.
    pub(super) fn dial(self: &Rc<Self>, fd: RawFd, address: SocketAddr, adopt: impl FnOnce(OwnedFd)) -> Option<i32> {
        let who = self.hosts.borrow().get(&address).cloned();
        match who.map_or(Host::Refuses, |who| who()) {
            Host::Silent => None,
            Host::Refuses => Some(-libc::ECONNREFUSED),
            Host::Serves(program) => {
                let (number, far) = self.meet(|own| Ends { local: own, remote: address, original: address });
                adopt(self.join(number));
                self.enter(fd, number);
                self.programs.spawn(program(far), false);
                Some(0)
            }
        }
    }

    pub(super) fn peer<T>(&self, number: usize, look: impl FnOnce(&mut Peer) -> T) -> T {
        look(&mut self.peers.borrow_mut()[number])
    }

    /// What is at the other end of `fd`, if it is a peer's.
    pub(super) fn with_peer<T>(&self, fd: RawFd, look: impl FnOnce(&mut Peer) -> T) -> Option<T> {
        let number = self.present.borrow().get(&fd).copied()?;
        Some(self.peer(number, look))
    }

    /// The engine closes `fd`.
    pub(super) fn leave(&self, fd: RawFd, resets: bool) {
        let number = self.present.borrow_mut().remove(&fd);
        if let Some(number) = number {
            self.peer(number, |peer| peer.close(resets));
        }
    }

    // Time goes on.

    /// Runs the programs that can. Did any?
    pub(super) fn run_programs(&self) -> bool {
        self.programs.run(self.now(), |draw| self.random(|random| draw(random)))
    }

    /// Moves some of what is on the way. Is anything?
    pub(super) fn travel(&self) -> bool {
        let mut any = false;
        for peer in self.peers.borrow_mut().iter_mut().filter(|peer| peer.is_under_way()) {
            any = true;
            let mut random = self.random.borrow_mut();
            if !random.one_in(3) {
                peer.travel(&mut random);
            }
        }
        any
    }

    /// Resolves when the programs that are waited for have ended.
    pub(crate) async fn ended(&self) {
        self.programs.ended().await;
    }

    /// Peer `number` is to hear `script`, or the beginning of it.
    pub(super) fn expect(&self, number: usize, script: Vec<u8>) {
        self.scripts.borrow_mut().insert(number, script);
    }

    /// Everybody is gone.
    pub(super) fn finish(&self) -> Tally {
        assert!(self.present.borrow().is_empty(), "sockets are open");
        let scripts = self.scripts.borrow();
        for Peer { number, heard, .. } in self.peers.borrow().iter().take(self.expected) {
            let script = scripts.get(number).map_or(&[][..], |script| script);
            assert!(script.starts_with(heard), "{number} has heard something else");
        }
        self.tally.borrow().clone()
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for number in self.present.borrow().values() {
            self.peer(*number, |peer| write!(f, "{peer}; "))?;
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
    Peer::scripted(number, says, then, hears)
}
