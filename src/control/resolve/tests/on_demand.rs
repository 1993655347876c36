//! Names that workers ask for, against name servers on loopback sockets.

use super::super::entry::IDLE;
use super::super::*;
use super::name_servers::{Bench, eventually, with_still_clock};
use crate::proxy::{Answer, Crowded, Question};

fn name(text: &str) -> Hostname {
    Hostname::new(text).unwrap()
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

struct Worker(tokio::sync::mpsc::Sender<Question>);

impl Worker {
    fn of(resolver: &Resolver) -> Self {
        let (questions, inbox) = tokio::sync::mpsc::channel(4096);
        resolver.answer(inbox);
        Self(questions)
    }

    fn ask(&self, text: &str) -> tokio::sync::oneshot::Receiver<Answer> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        assert!(self.0.try_send(Question { name: name(text), answer }).is_ok(), "there is room");
        answered
    }
}

#[test]
fn a_name_is_looked_up_once_for_all_and_kept_current() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, before| {
            seen.addresses(10, if before < 2 { &["192.0.2.1"] } else { &["192.0.2.2"] })
        })
        .await;
        let resolver = bench.resolver();
        let worker = Worker::of(&resolver);
        let [one, two] =
            [worker.ask("a.test"), worker.ask("a.test")].map(|answer| async move { answer.await.unwrap().unwrap() });
        let (one, two) = tokio::join!(one, two);
        assert_eq!((&**one.load(), &**two.load()), (&ips(&["192.0.2.1"]), &ips(&["192.0.2.1"])));
        assert_eq!(worker.ask("a.test").await.unwrap().unwrap().load().len(), 1);
        assert_eq!(bench.servers.count(), 2, "one look, two families");
        assert_eq!(resolver.settle(Duration::ZERO).await, 0, "no reload waits for strangers");
        // A reload that does not name it forgets nothing that is in use; its answer follows the name.
        resolver.retain(&HashSet::new());
        tokio::time::advance(Duration::from_secs(10)).await;
        eventually("the new address is there", || **one.load() == ips(&["192.0.2.2"])).await;
        // Nobody asks any more.
        tokio::time::advance(IDLE).await;
        eventually("the name is forgotten", || resolver.snapshot().is_empty()).await;
    });
}

#[test]
fn a_name_without_addresses_is_an_answer_too() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| match seen.name.as_str() {
            "loop.test." => seen.addresses(60, &["127.0.0.1"]),
            "meta.test." => seen.addresses(60, &["169.254.169.254"]),
            _ => seen.code(hickory_proto::op::ResponseCode::NXDomain),
        })
        .await;
        let resolver = bench.resolver();
        resolver.protect(&["169.254.0.0/16".parse().unwrap()]);
        let worker = Worker::of(&resolver);
        for text in ["none.test", "loop.test", "meta.test"] {
            let cell = worker.ask(text).await.unwrap().unwrap();
            assert!(cell.load().is_empty(), "{text}");
        }
        let before = bench.servers.count();
        assert!(worker.ask("none.test").await.unwrap().unwrap().load().is_empty());
        assert_eq!(bench.servers.count(), before, "that it has none is remembered");
    });
}

#[test]
fn strangers_are_bounded() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "options timeout:1 attempts:1", |_, _| Vec::new()).await;
        let resolver = bench.resolver();
        let worker = Worker::of(&resolver);
        let waiting: Vec<_> = (0..1024).map(|n| worker.ask(&format!("n{n}.test"))).collect();
        assert_eq!(worker.ask("late.test").await.unwrap().map(|_| ()), Err(Crowded));
        // The policy's names are looked up all the same, and never make room.
        let listed = resolver.cell(&name("listed.test"));
        assert_eq!(resolver.snapshot().len(), 1025);
        assert!(resolver.shared.permits.available_permits() > 0);
        eventually("as many are asked for as may be", || bench.servers.count() >= 66).await;
        drop((waiting, listed));
    });
}

#[test]
fn those_without_addresses_make_room() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| {
            if seen.name.starts_with('n') {
                seen.code(hickory_proto::op::ResponseCode::NXDomain)
            } else {
                seen.addresses(3600, &["192.0.2.1"])
            }
        })
        .await;
        let resolver = bench.resolver();
        let worker = Worker::of(&resolver);
        for n in 0..1023 {
            worker.ask(&format!("a{n}.test")).await.unwrap().unwrap();
        }
        worker.ask("none.test").await.unwrap().unwrap();
        assert_eq!(worker.ask("b.test").await.unwrap().map(|cell| cell.load().len()), Ok(1));
        assert_eq!(worker.ask("c.test").await.unwrap().map(|_| ()), Err(Crowded), "the others are in use");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(worker.ask("c.test").await.unwrap().map(|cell| cell.load().len()), Ok(1));
        assert_eq!(resolver.snapshot().len(), 1024);
    });
}
