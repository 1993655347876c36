//! The name servers as they are now: one reading of `resolv.conf` and one way to reach them, for names that egret resolves
//! and for queries of applications that it passes on.
//!
//! It does not know what is asked.

use std::cell::{Cell, Ref, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::exchange::{PlainServers, ServerView};
use super::resolver_environment::{Change, Environment};
use super::stream::StreamTransport;
use crate::dns::resolv_conf::ResolvConf;

/// Where many queries come, the file is looked at no more often than this.
const LOOK: Duration = Duration::from_secs(1);

/// What a lookup depends on besides its name.
pub struct NameServers {
    environment: RefCell<Environment>,
    /// Counts changes.
    changes: watch::Sender<u64>,
    streams: RefCell<StreamTransport>,
    plain: PlainServers,
    turn: Cell<usize>,
    looked: Cell<Instant>,
}

impl NameServers {
    /// Reads the files.
    pub(super) fn new(mut environment: Environment) -> Self {
        environment.look();
        Self {
            environment: RefCell::new(environment),
            changes: watch::Sender::new(0),
            streams: RefCell::default(),
            plain: PlainServers::default(),
            turn: Cell::new(0),
            looked: Cell::new(Instant::now()),
        }
    }

    /// `resolv.conf` as it is now.
    #[must_use]
    pub fn conf(&self) -> Rc<ResolvConf> {
        if self.looked.get().elapsed() >= LOOK {
            self.look_around();
        }
        Rc::clone(&self.environment.borrow().conf)
    }

    /// Another number each time, for `rotate`.
    #[must_use]
    pub fn turn(&self) -> usize {
        self.turn.replace(self.turn.get().wrapping_add(1))
    }

    /// From now on name servers are asked so. Every name is looked up again, in case it could not be otherwise.
    pub fn set_streams(&self, streams: StreamTransport) {
        *self.streams.borrow_mut() = streams;
        self.tell();
    }

    /// Whether nothing may be sent in the clear.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.streams.borrow().is_secure()
    }

    /// What `server` sends back for `message`, over TCP or TLS.
    ///
    /// # Errors
    /// The server cannot be reached, does not prove its name, or breaks off.
    pub async fn exchange(&self, server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
        let streams = self.streams.borrow().clone();
        streams.exchange(server, message).await
    }

    /// Closes what is no longer needed.
    pub fn sweep(&self) {
        self.streams.borrow().sweep();
    }

    pub(super) fn view(&self) -> ServerView {
        let (conf, streams) = (Rc::clone(&self.environment.borrow().conf), self.streams.borrow().clone());
        ServerView { conf, streams, plain: self.plain.clone() }
    }

    pub(super) fn environment(&self) -> Ref<'_, Environment> {
        self.environment.borrow()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn look_around(&self) {
        self.looked.set(Instant::now());
        let files = self.environment.borrow_mut().look();
        self.tell_if(files);
    }

    pub(super) fn look_at_interfaces(&self) {
        let interfaces = self.environment.borrow_mut().look_at_interfaces();
        self.tell_if(interfaces);
    }

    /// Something is otherwise than it was.
    pub(super) fn tell(&self) {
        self.plain.forget();
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn tell_if(&self, change: Change) {
        if change == Change::Changed {
            self.tell();
        }
    }
}
