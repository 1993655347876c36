//! Bytes that nobody reads: both ways, each end in its own time, however they are cut on the way; and what becomes of a reset.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use super::stage::{Site, address, open};
use crate::io::simulation::{Far, Host, Random, World, for_each_seed};

const ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.example]
  addresses: [203.0.113.7]
  ports: [{number: 5432, name: tcp-db, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 203.0.113.7}]
";

/// One side's part.
#[derive(Clone, Copy, Debug)]
struct Part {
    says: usize,
    /// It says nothing before it has heard the other's end.
    waits: bool,
    /// It reads slowly.
    is_slow: bool,
}

impl Part {
    fn of(random: &mut Random) -> Self {
        Self { says: random.one_of(&[0, 1, 700, 30_000, 200_000]), waits: false, is_slow: random.one_in(3) }
    }
}

fn speech(key: usize, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place.wrapping_mul(0x9E37_79B1) >> 13) as u8 ^ key as u8).collect()
}

/// Says its part and hears the other's, to its end.
async fn converse(world: Rc<World>, far: Far, key: usize, own: Part, other: Part) {
    let saying = async {
        for piece in speech(key, own.says).chunks(9000) {
            far.send(piece).await.unwrap();
            world.sleep(Duration::from_micros(world.random(|random| random.below(400)))).await;
        }
        far.finish();
    };
    let hearing = async {
        let wanted = speech(key ^ 1, other.says);
        let mut heard = 0;
        loop {
            let bytes = far.recv(5000).await.unwrap();
            if bytes.is_empty() {
                break;
            }
            assert!(wanted[heard..].starts_with(&bytes), "something else comes behind {heard} bytes");
            heard += bytes.len();
            if own.is_slow {
                world.sleep(Duration::from_micros(world.random(|random| random.below(3000)))).await;
            }
        }
        assert_eq!(heard, wanted.len(), "all of it comes before the end");
    };
    if own.waits {
        hearing.await;
        saying.await;
    } else {
        future::zip(saying, hearing).await;
    }
}

#[test]
fn all_bytes_pass_both_ways_and_each_end_by_itself() {
    let site = Site::new().with(ENTRY);
    for_each_seed(60, |seed| {
        let mut random = Random::new(seed);
        let (mut near, mut far) = (Part::of(&mut random), Part::of(&mut random));
        match random.below(3) {
            0 => near.waits = true,
            1 => far.waits = true,
            _ => {}
        }
        println!("{near:?}, {far:?}");
        let (log, ()) = site.play(seed, async |stage| {
            let world = Rc::clone(&stage.world);
            stage.world.serve(address("203.0.113.7:5432"), move |end| converse(Rc::clone(&world), end, 1, far, near));
            let world = Rc::clone(&stage.world);
            let end = world.connect(address("203.0.113.7:5432"));
            stage.spawn("both have said and heard everything", converse(world, end, 0, near, far));
        });
        let counts = format!(" {} {} ", near.says, far.says);
        assert!(log.len() == 1 && log[0].contains(&counts), "{counts}: {log:?}");
    });
}

#[test]
fn a_reset_arrives_behind_what_was_said() {
    let site = Site::new().with(ENTRY);
    for_each_seed(60, |seed| {
        let mut random = Random::new(seed);
        let (says, is_server) = (random.one_of(&[1, 700, 30_000]), random.one_in(2));
        println!("{says} bytes, by the server: {is_server}");
        site.play(seed, async |stage| {
            stage.world.serve(address("203.0.113.7:5432"), move |far| async move {
                if is_server { reset(far, says).await } else { hear(far, says, false).await }
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("the reset has passed", async move {
                let far = open(&world, "203.0.113.7:5432");
                let far = Rc::into_inner(far.wire).expect("nobody else has it").far;
                if is_server {
                    hear(far, says, true).await;
                } else {
                    reset(far, says).await;
                }
                world.sleep(Duration::from_secs(2)).await;
            });
        });
    });
}

/// The server is dialled at once where nobody need read, so that an application learns of a refusal without saying a word.
#[test]
fn a_refused_port_is_learnt_of_at_once_and_in_silence() {
    let site = Site::new().with(ENTRY);
    for_each_seed(10, |seed| {
        for at in ["203.0.113.7:5432", "203.0.113.9:4711"] {
            let (log, ()) = site.play(seed, async |stage| {
                stage.world.host(address(at), || Host::Refuses);
                let world = Rc::clone(&stage.world);
                stage.spawn("a reset", async move {
                    let mut talk = open(&world, at);
                    let told = async { talk.rest().await.is_err() };
                    let waited = async {
                        world.sleep(Duration::from_secs(1)).await;
                        panic!("nothing is told within a second")
                    };
                    assert!(future::or(told, waited).await, "a reset is no orderly end");
                });
            });
            assert!(log.len() == 1 && log[0].contains(" UF,URX "), "{log:?}");
        }
    });
}

async fn reset(far: Far, says: usize) {
    far.send(&speech(1, says)).await.unwrap();
    far.delivered().await;
    far.reset();
}

/// What an application said just before it reset its connection need not arrive; what a server said does.
async fn hear(far: Far, says: usize, all: bool) {
    let mut heard = 0;
    while let Ok(bytes) = far.recv(5000).await {
        assert!(!bytes.is_empty(), "a reset is no end, behind {heard} bytes");
        heard += bytes.len();
    }
    assert!(heard == says || !all, "{heard} of {says}");
}

/// The server takes nothing, so that nothing is received from the application either.
#[test]
fn an_application_leaves_behind_a_server_that_does_not_read() {
    let site = Site::new().with(ENTRY);
    for_each_seed(20, |seed| {
        site.play(seed, async |stage| {
            // The server has the connection, and has been told that it is over.
            let told = Rc::new((Cell::new(false), Cell::new(false)));
            let of_server = Rc::clone(&told);
            stage.world.serve(address("203.0.113.7:5432"), move |far| {
                let told = Rc::clone(&of_server);
                async move {
                    told.0.set(true);
                    while !far.has_failed() {
                        far.world().sleep(Duration::from_millis(1)).await;
                    }
                    told.1.set(true);
                }
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("the server is told", async move {
                let far = world.connect(address("203.0.113.7:5432"));
                let sending = async { drop(far.send(&speech(0, 2_000_000)).await) };
                let leaving = async {
                    until(&world, || told.0.get()).await;
                    world.sleep(Duration::from_millis(100)).await;
                };
                future::or(leaving, async { (sending.await, future::pending().await).1 }).await;
                far.reset();
                until(&world, || told.1.get()).await;
            });
        });
    });
}

async fn until(world: &World, condition: impl Fn() -> bool) {
    while !condition() {
        world.sleep(Duration::from_millis(1)).await;
    }
}
