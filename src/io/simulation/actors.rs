//! Tasks as the proxy has them, each of which knows what its peer says and judges what it gets.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::zip;

use super::super::{Lease, PeekState, SendBuf, Socket, timeout};
use super::peer::Then;
use super::random::Random;
use super::world::World;

/// By the simulated clock: nobody who goes on takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A task.
pub(super) type Act = Pin<Box<dyn Future<Output = ()>>>;

/// How a task treats its socket.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent of one another")]
struct Habits {
    /// Sends leases in pieces, and as copies of all kinds.
    cuts: bool,
    /// Keeps what it gets until the end.
    hoards: bool,
    /// Says how much it expects.
    expects: bool,
    /// Asks, and loses interest before the answer.
    is_fickle: bool,
    /// After so many pieces it drops the socket, or resets the connection.
    leaves: Option<(u64, bool)>,
}

impl Habits {
    const PLAIN: Habits = Habits { cuts: false, hoards: false, expects: false, is_fickle: false, leaves: None };

    fn new(random: &mut Random) -> Self {
        let leaves = random.one_in(5).then(|| (random.below(5), random.one_in(2)));
        let (cuts, hoards) = (random.one_in(3), random.one_in(5));
        Self { cuts, hoards, expects: random.one_in(3), is_fickle: random.one_in(3), leaves }
    }
}

/// How the peer's part of a conversation ended.
#[derive(PartialEq, Eq)]
enum Ended {
    Fin,
    /// By an error, or in silence.
    Otherwise,
}

/// A socket and what is known of its peer.
pub(super) struct Part {
    socket: Socket,
    number: usize,
    says: Vec<u8>,
    then: Then,
    hears: Option<(usize, Option<i32>)>,
    /// Bytes of it that have been received.
    got: Cell<usize>,
}

pub(super) struct Stage {
    pub(super) world: Rc<World>,
    /// Two connections may be open at once.
    relays: bool,
}

impl Stage {
    pub(super) fn new(world: Rc<World>, relays: bool) -> Self {
        Self { world, relays }
    }

    /// A task for `socket`; two that are to be relayed to one another wait for the other.
    pub(super) fn cast(self: &Rc<Self>, random: &mut Random, socket: Socket, waiting: &mut Option<Part>) -> Act {
        let part = self.part(socket);
        if !self.relays || !random.one_in(3) {
            return Box::pin(Rc::clone(self).echo(part, Habits::new(random)));
        }
        if let Some(other) = waiting.take() {
            return Box::pin(Rc::clone(self).relay(other, part));
        }
        *waiting = Some(part);
        Box::pin(async {})
    }

    /// A task for the one that waited in vain.
    pub(super) fn alone(self: &Rc<Self>, part: Part) -> Act {
        Box::pin(Rc::clone(self).echo(part, Habits::PLAIN))
    }

    fn part(&self, socket: Socket) -> Part {
        let fd = socket.connection.descriptor();
        let known = self.world.with_peer(fd, |peer| (peer.number, peer.says.clone(), peer.then, peer.hears));
        let (number, says, then, hears) = known.expect("the socket is a peer's");
        Part { socket, number, says, then, hears, got: Cell::new(0) }
    }

    /// Sends everything back.
    async fn echo(self: Rc<Self>, part: Part, habits: Habits) {
        self.world.expect(part.number, part.says.clone());
        let has_left = self.carry(&part, &part, habits).await;
        if has_left && let Some((_, true)) = habits.leaves {
            part.socket.abort();
        }
    }

    /// Carries both ways.
    async fn relay(self: Rc<Self>, one: Part, other: Part) {
        self.world.expect(one.number, other.says.clone());
        self.world.expect(other.number, one.says.clone());
        zip(self.carry(&one, &other, Habits::PLAIN), self.carry(&other, &one, Habits::PLAIN)).await;
    }

    /// One way, until one of the peers has done; or the task has left: then it is true.
    async fn carry(&self, from: &Part, to: &Part, habits: Habits) -> bool {
        let mut hoard = Vec::new();
        let mut pieces = 0;
        let ended = loop {
            if habits.leaves.is_some_and(|(after, _)| pieces >= after) {
                return true;
            }
            pieces += 1;
            match self.next(from, habits).await {
                Ok(lease) if habits.hoards => hoard.push(lease),
                Ok(lease) => {
                    if !self.answer(to, lease, habits).await {
                        return false;
                    }
                }
                Err(ended) => break ended,
            }
        };
        for lease in hoard {
            if !self.answer(to, lease, habits).await {
                return false;
            }
        }
        if ended == Ended::Fin {
            self.finish(to, from.got.get()).await;
        }
        false
    }

    /// What the peer says next, or why it says nothing more.
    async fn next(&self, part: &Part, habits: Habits) -> Result<Lease, Ended> {
        let socket = &part.socket;
        if habits.expects {
            socket.expect_bulk((part.says.len() - part.got.get()) as u64);
        }
        if habits.is_fickle {
            self.lose_interest(part).await;
        }
        let received = match timeout(PATIENCE, socket.recv()).await {
            Err(_) => {
                assert_eq!(part.then, Then::Silence, "{} is not heard", part.number);
                Err(Ended::Otherwise)
            }
            Ok(Ok(Some(lease))) => {
                assert!(!lease.is_empty());
                assert!(part.says[part.got.get()..].starts_with(&lease), "{} said something else", part.number);
                part.got.set(part.got.get() + lease.len());
                return Ok(lease);
            }
            Ok(Ok(None)) => {
                assert_eq!(part.then, Then::Fin);
                assert!(matches!(socket.recv().await, Ok(None)), "the end stays the end");
                Err(Ended::Fin)
            }
            Ok(Err(error)) => {
                let errno = error.raw_os_error();
                assert!(matches!(part.then, Then::Reset(reset) if Some(reset) == errno), "{error}: {:?}", part.then);
                Err(Ended::Otherwise)
            }
        };
        assert_eq!(part.got.get(), part.says.len(), "{} is cut short", part.number);
        received
    }

    /// Futures that are dropped before they are done cost nothing.
    async fn lose_interest(&self, part: &Part) {
        let socket = &part.socket;
        let (which, micros) = self.world.random(|random| (random.below(4), random.below(500)));
        let briefly = Duration::from_micros(micros);
        match which {
            0 => drop(timeout(briefly, socket.readable()).await),
            1 => {
                if let Ok(ended) = timeout(briefly, socket.ended()).await {
                    let expected = match part.then {
                        Then::Fin => Ok(()),
                        Then::Reset(errno) => Err(Some(errno)),
                        Then::Silence => panic!("{} has not ended", part.number),
                    };
                    assert_eq!(ended.map_err(|error| error.raw_os_error()), expected);
                }
            }
            2 => drop(timeout(briefly, socket.flush()).await),
            _ => {
                let all = part.got.get() == part.says.len();
                match socket.peek_state() {
                    PeekState::Pending => {}
                    PeekState::Data => assert!(!all, "{} has said everything", part.number),
                    PeekState::Closed => assert!(all && part.then != Then::Silence, "{} goes on", part.number),
                }
            }
        }
    }

    /// Sends `lease` to `part`'s peer; false when it hears no more.
    async fn answer(&self, part: &Part, mut lease: Lease, habits: Habits) -> bool {
        while habits.cuts && lease.len() > 1 && self.world.random(|random| random.one_in(2)) {
            let length = self.world.random(|random| random.up_to(lease.len() - 1));
            let head = lease.split_to(length);
            let piece: SendBuf = match self.world.random(|random| random.below(3)) {
                0 => head.into(),
                1 => head.to_vec().into(),
                _ => Bytes::copy_from_slice(&head).into(),
            };
            if self.world.random(|random| random.one_in(2)) {
                // Queued in any case.
                drop(part.socket.send(piece));
            } else if !self.is_heard(part, part.socket.send(piece)).await {
                return false;
            }
        }
        self.is_heard(part, part.socket.send(lease)).await
    }

    async fn is_heard(&self, part: &Part, sending: impl Future<Output = io::Result<()>>) -> bool {
        match timeout(PATIENCE, sending).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let known = part.hears.and_then(|(_, errno)| errno);
                assert!(known.is_some() && known == error.raw_os_error(), "{error}: {:?}", part.hears);
                false
            }
            Err(_) => {
                assert!(matches!(part.hears, Some((_, None))), "{} would have listened", part.number);
                false
            }
        }
    }

    /// Ends what has been sent, `sent` bytes.
    async fn finish(&self, part: &Part, sent: usize) {
        if self.is_heard(part, part.socket.shutdown_write()).await {
            let fd = part.socket.connection.descriptor();
            let (heard, fin) = self.world.with_peer(fd, |peer| (peer.heard.len(), peer.has_fin())).expect("it is open");
            assert_eq!((heard, fin), (sent, true), "{} has heard everything, and the end", part.number);
        }
    }
}
