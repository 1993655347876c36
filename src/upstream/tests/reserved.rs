//! Whatever applications do, and in whatever order: nobody is lent a connection that carries another's identity.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Clocks, Reuse, Spoken};
use super::*;
use crate::flow::OriginalDst;
use crate::http2::Limits;
use crate::io::{Engine, EngineKind, EngineOptions, Listener, spawn};

/// Applications' connections at once.
const APPLICATIONS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request of this application, and what its answer is like.
    Ask { application: usize, authenticates: bool, challenges: bool, reusable: bool },
    /// Its connection ends, and another application has the next of this number.
    Leave(usize),
    /// The server closes whatever it has.
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let ask = (0..APPLICATIONS, prop::bool::weighted(0.3), prop::bool::weighted(0.3), prop::bool::weighted(0.9));
    prop_oneof![
        12 => ask.prop_map(|(application, authenticates, challenges, reusable)| {
            Step::Ask { application, authenticates, challenges, reusable }
        }),
        2 => (0..APPLICATIONS).prop_map(Step::Leave),
        1 => Just(Step::Close),
    ]
}

/// A connection, told apart from a later one with the same port.
type Which = (Option<SocketAddr>, Instant);

struct World {
    upstreams: Rc<Upstreams>,
    at: SocketAddr,
    reserved: [Reserved; APPLICATIONS],
    /// Who has the number now.
    who: [usize; APPLICATIONS],
    born: usize,
    /// Whose identity each connection carries.
    known: HashMap<Which, usize>,
    /// The connection that each one's identity is on, as long as it is open.
    own: HashMap<usize, Which>,
}

impl World {
    async fn ask(&mut self, application: usize, authenticates: bool, challenges: bool, reusable: bool) {
        let target = Target::Passthrough(OriginalDst::new(self.at));
        let (security, who) = (Security::Plaintext, self.who[application]);
        let patience = Duration::from_secs(10);
        let http2 = Limits::default();
        let clocks = Clocks { connect: patience, handshake: patience, keepalive: None, user_timeout: None, http2 };
        let reuse = if authenticates { Reuse::Never } else { Reuse::Allowed };
        let upstreams = Rc::clone(&self.upstreams);
        let mut carrier = match upstreams.lend_reserved(&mut self.reserved[application], &target, &security) {
            Ok(Some(carrier)) => carrier,
            Ok(None) => {
                assert!(!self.own.contains_key(&who), "it has a connection that knows it");
                upstreams.lend(&target, &security, &clocks, reuse, Spoken::Http1).await.expect("a listener is there")
            }
            Err(BondEnded) => {
                self.own.remove(&who).expect("it had one");
                return self.leave(application);
            }
        };
        let Carrier::Http1(used) = &carrier else { panic!("HTTP/1 was asked for") };
        let which = (used.connection.local, used.connection.since);
        assert!(self.known.get(&which).is_none_or(|known| *known == who), "another's connection");
        assert!(self.own.get(&who).is_none_or(|own| *own == which), "not its own connection");
        if authenticates {
            assert!(carrier.bond() != Bond::Free || !carrier.is_reused(), "one that others have used");
            carrier.note_credentials();
            self.known.insert(which, who);
            self.own.insert(who, which);
        }
        carrier.note_answer(challenges);
        let bond = carrier.bond();
        if !reusable {
            carrier.close();
            if bond == Bond::Authenticated {
                self.own.remove(&who);
                self.leave(application);
            }
        } else if bond == Bond::Free {
            upstreams.give_back(carrier, &target, None);
        } else {
            assert!(upstreams.reserve(carrier, &target, None, &mut self.reserved[application]));
        }
    }

    fn leave(&mut self, application: usize) {
        self.reserved[application] = Reserved::default();
        self.own.remove(&self.who[application]);
        self.born += 1;
        self.who[application] = self.born;
    }
}

async fn play(steps: Vec<Step>) {
    let listener = Listener::from_std(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    let served: Rc<RefCell<Vec<io::Socket>>> = Rc::default();
    let accepting = Rc::clone(&served);
    spawn(async move {
        while let Ok(socket) = listener.accept().await {
            accepting.borrow_mut().push(socket);
        }
    });
    let mut world = World {
        upstreams: Rc::new(Upstreams::new(1, Arc::default())),
        at,
        reserved: Default::default(),
        who: std::array::from_fn(|number| number),
        born: APPLICATIONS,
        known: HashMap::new(),
        own: HashMap::new(),
    };
    for step in steps {
        match step {
            Step::Ask { application, authenticates, challenges, reusable } => {
                world.ask(application, authenticates, challenges, reusable).await;
            }
            Step::Leave(application) => world.leave(application),
            Step::Close => served.borrow_mut().clear(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_connection_is_lent_across_identities(steps in prop::collection::vec(step(), 1..60)) {
        let options = EngineOptions { kind: EngineKind::Epoll, ..EngineOptions::default() };
        Engine::new(options).unwrap().run(play(steps));
    }
}

#[test]
fn a_bond_only_tightens_once_credentials_were_sent() {
    for (bond, challenges, expected) in [
        (Bond::Free, false, Bond::Free),
        (Bond::Free, true, Bond::Challenged),
        (Bond::Challenged, true, Bond::Challenged),
        (Bond::Challenged, false, Bond::Free),
        (Bond::Authenticated, true, Bond::Authenticated),
        (Bond::Authenticated, false, Bond::Authenticated),
    ] {
        assert_eq!(bond.after(challenges), expected, "{bond:?}");
    }
}
