//! Tasks, timers, waking from elsewhere, and being idle.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;

use super::*;

#[test]
fn a_panic_ends_one_task_only() {
    run(async {
        let (near, far) = pair().await;
        spawn(async move {
            let _held = near;
            panic!("on purpose");
        });
        assert!(far.recv().await.unwrap().is_none(), "what the task held is dropped");
        let stats = stats();
        assert_eq!((stats.task_panics, stats.tasks), (1, 0));
    });
}

#[test]
fn a_task_that_is_always_ready_does_not_stop_the_others() {
    run(async {
        let stop = Rc::new(Cell::new(false));
        let seen = Rc::clone(&stop);
        spawn(async move {
            while !seen.get() {
                futures_lite::future::yield_now().await;
            }
        });
        let (near, far) = pair().await;
        far.send(b"through").await.unwrap();
        assert_eq!(&near.recv().await.unwrap().unwrap()[..], b"through");
        sleep(Duration::from_millis(5)).await;
        stop.set(true);
    });
}

#[test]
fn alarms_go_off_in_order_and_not_early() {
    run(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let began = now();
        for ms in [30_u64, 10, 20, 0] {
            let order = Rc::clone(&order);
            spawn(async move {
                sleep(Duration::from_millis(ms)).await;
                assert!(now() - began >= Duration::from_millis(ms));
                order.borrow_mut().push(ms);
            });
        }
        settled(|stats| stats.tasks == 0).await;
        assert_eq!(*order.borrow(), [0, 10, 20, 30]);
    });
}

#[test]
fn time_limits_end_what_takes_too_long_and_leave_no_alarm() {
    run(async {
        // The limit on the test itself is one.
        futures_lite::future::yield_now().await;
        let before = stats().timers;
        assert_eq!(timeout(Duration::from_millis(5), std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(Duration::from_secs(3600), async { 7 }).await, Ok(7));
        let mut long = Box::pin(sleep(Duration::MAX));
        assert!(futures_lite::future::poll_once(&mut long).await.is_none());
        assert_eq!(stats().timers, before + 1);
        drop(long);
        assert_eq!(stats().timers, before);
    });
}

#[test]
fn an_idle_engine_does_not_turn() {
    run(async {
        let (near, _far) = pair().await;
        assert_eq!(near.peek_state(), PeekState::Pending);
        // The receive is submitted in the turn that this sleep waits in.
        sleep(Duration::from_millis(1)).await;
        let before = stats().turns;
        sleep(Duration::from_millis(300)).await;
        let turns = stats().turns - before;
        assert!(turns <= 3, "{turns} turns while nothing happened");
    });
}

#[test]
fn wakes_from_another_thread() {
    let mut engine = Engine::new(options()).unwrap();
    let remote = engine.remote();
    let (commands, received) = mpsc::channel();
    let sender = std::thread::spawn(move || {
        for number in 0..1_000 {
            commands.send(number).unwrap();
            remote.wake();
        }
    });
    let sum = engine.run(async {
        let mut numbers = Vec::new();
        while numbers.len() < 1_000 {
            timeout(DEADLINE, woken()).await.expect("no wake is lost");
            numbers.extend(received.try_iter());
        }
        numbers.iter().sum::<i32>()
    });
    sender.join().unwrap();
    assert_eq!(sum, 499_500);
}

#[test]
fn a_channel_of_another_thread_wakes_a_task() {
    run(async {
        let (answer, question) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || answer.send(42).unwrap());
        let result = Rc::new(Cell::new(0));
        let into = Rc::clone(&result);
        spawn(async move { into.set(question.await.unwrap()) });
        settled(|stats| stats.tasks == 0).await;
        thread.join().unwrap();
        assert_eq!(result.get(), 42);
    });
}

#[test]
fn a_waker_may_outlive_its_engine() {
    let (send, keep) = mpsc::channel();
    let mut engine = Engine::new(options()).unwrap();
    engine.run(async {
        spawn(std::future::poll_fn(move |cx| {
            send.send(cx.waker().clone()).unwrap();
            std::task::Poll::Pending
        }));
        futures_lite::future::yield_now().await;
        futures_lite::future::yield_now().await;
    });
    drop(engine);
    std::thread::spawn(move || keep.try_iter().for_each(std::task::Waker::wake)).join().unwrap();
}

#[test]
fn a_thread_has_one_engine_at_a_time() {
    let first = Engine::new(options()).unwrap();
    assert!(matches!(Engine::new(options()), Err(EngineError::Occupied)));
    drop(first);
    for _ in 0..40 {
        drop(Engine::new(options()).unwrap());
    }
}
