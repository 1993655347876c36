//! The engine over a driver without a kernel: what the peers say, how the driver fails and how it dawdles follow from a
//! seed. It shows what no test of real sockets can order: any completion late, early, short, out of turn, or cancelled
//! and successful nevertheless; buffers that run out; descriptors whose numbers come again at once.
//!
//! [`world`] holds the clock, the dice and who is where, [`peer`] is the far end of a socket, [`driver`] turns operations
//! into completions as io_uring or as epoll would. Two kinds of tests play on it:
//!
//! * those of the engine: peers are scripts of what they say and how they end, [`actors`] are tasks as the proxy has them;
//! * those of what stands above the engine ([`simulate`]): applications and servers are [`programs`], which connect, are
//!   connected to, read, write, wait and vanish on the simulated network and clock. No test of them needs a privilege.
//!
//! `EGRET_SEEDS=1000000` plays more seeds than usual, `EGRET_SEED=7` one of them.

mod actors;
mod driver;
mod peer;
mod programs;
mod random;
mod world;

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::{Engine, EngineKind, EngineOptions, Listener, sleep, spawn, stats, timeout};
use actors::Stage;
use driver::Simulated;

pub(crate) use programs::Far;
pub(crate) use random::Random;
pub(crate) use world::{Host, World};

/// More than any play takes, by the simulated clock.
const DEADLINE: Duration = Duration::from_secs(86_400);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Calls `play` with `many` seeds, or with those that the environment asks for; says which seed failed.
pub(crate) fn for_each_seed(many: u64, mut play: impl FnMut(u64)) {
    let seeds = match (number("EGRET_SEED"), number("EGRET_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, asked) => 0..asked.unwrap_or(many),
    };
    for seed in seeds {
        // What a panic leaves behind is not used again: the thread's engine is gone by then.
        let played = catch_unwind(AssertUnwindSafe(|| play(seed)));
        assert!(played.is_ok(), "EGRET_SEED={seed} shows the fault above");
    }
}

/// Runs `main` on an engine over the simulated network, in the manners of io_uring or of epoll as the seed says; ends when
/// it has ended and nothing of what it opened is left. [`World::ended`] waits for the programs.
pub(crate) fn simulate<T>(seed: u64, main: impl AsyncFnOnce(Rc<World>, Listener) -> T) -> T {
    let mut random = Random::new(seed);
    let kind = if random.one_in(3) { EngineKind::Epoll } else { EngineKind::Uring };
    let world = World::of_programs(kind, &mut random);
    let options = EngineOptions {
        kind,
        max_connections: 1000,
        recv_buffers: random.one_of(&[8, 64]),
        recv_buffer_bytes: random.one_of(&[512, 4096]),
        ..options(&mut random)
    };
    let mut engine = Engine::on(options, |_, pool| Ok(Box::new(Simulated::new(pool, &world)))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = engine.run(async {
        let main = main(Rc::clone(&world), Listener::from_std(listener).unwrap());
        let output = timeout(DEADLINE, main).await.unwrap_or_else(|_| panic!("it must end: {:?}, {world}", stats()));
        at_rest().await;
        output
    });
    assert_eq!(engine.run(async { stats().task_panics }), 0);
    drop(engine);
    world.programs.clear();
    world.finish();
    output
}

/// Waits until nothing is left but the waiting itself.
async fn at_rest() {
    let at_rest = async {
        while stats().open_sockets > 0 || stats().operations > 1 || stats().timers > 1 || stats().tasks > 0 {
            sleep(Duration::from_secs(1)).await;
        }
    };
    assert!(timeout(DEADLINE, at_rest).await.is_ok(), "{:?}", stats());
    assert_eq!(stats().recv_buffers_in_use, 0, "{:?}", stats());
}

#[test]
fn nothing_is_lost_whatever_the_driver_does() {
    let mut faults = world::Tally::default();
    for_each_seed(5000, |seed| faults.add(&play(seed)));
    println!("{faults:?}");
    if number("EGRET_SEED").is_none() {
        assert_eq!(faults.never(), [""; 0], "kinds of faults that never came about");
    }
}

/// One engine from its beginning to its end; panics when something is not as it must be.
fn play(seed: u64) -> world::Tally {
    let mut random = Random::new(seed);
    let world = World::scripted(&mut random);
    let options =
        EngineOptions { kind: world.kind, max_connections: random.one_of(&[1, 2, 3, 1000]), ..options(&mut random) };
    // Whoever waits for a second connection must not take the only one.
    let has_room = options.max_connections > 1;
    let in_the_middle = random.one_in(8);
    let mut engine = Engine::on(options, |_, pool| Ok(Box::new(Simulated::new(pool, &world)))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stage = Rc::new(Stage::new(Rc::clone(&world), has_room));
    engine.run(async {
        let listener = Listener::from_std(listener).unwrap();
        let all = perform(&listener, &stage, &mut random);
        if in_the_middle {
            let soon = Duration::from_micros(world.random(|random| random.below(20_000)));
            if timeout(soon, all).await.is_err() {
                world.note("dropped in the middle");
            }
        } else {
            let ended = timeout(DEADLINE, all).await;
            assert!(ended.is_ok(), "the play must end: {:?}, {world}", stats());
            drop(listener);
            at_rest().await;
        }
    });
    assert_eq!(engine.run(async { stats().task_panics }), 0);
    drop(engine);
    world.finish()
}

fn options(random: &mut Random) -> EngineOptions {
    EngineOptions {
        recv_buffers: random.one_of(&[2, 4, 8, 64]),
        recv_buffer_bytes: 512,
        recv_blocks: random.one_of(&[0, 1, 4]),
        recv_high_water: random.one_of(&[256, 1024, 4096]),
        send_high_water: random.one_of(&[1, 700, 5000]),
        send_ahead: random.one_of(&[0, 6000]),
        linger: Duration::from_millis(random.one_of(&[0, 1, 50])),
        batch_micros: random.one_of(&[0, 100]),
        ..EngineOptions::default()
    }
}

/// Accepts everybody who comes and gives each a task; done when all of them are.
async fn perform(listener: &Listener, stage: &Rc<Stage>, random: &mut Random) {
    let mut waiting = None;
    for _ in 0..stage.world.expected {
        let socket = listener.accept().await.unwrap();
        let actor = stage.cast(random, socket, &mut waiting);
        spawn(actor);
    }
    if let Some(alone) = waiting {
        spawn(stage.alone(alone));
    }
    while stats().tasks > 0 {
        sleep(Duration::from_secs(1)).await;
    }
}
