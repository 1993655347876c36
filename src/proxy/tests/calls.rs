//! Calls of gRPC by the simulated clock: how long they may take, how often they are tried, and which endpoints they tell of.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::http2_ends::{self, Got, Manner, Stream};
use super::stage::{Site, Stage, address, http_entry, route, rule};
use super::wire::Wire;
use crate::io::simulation::for_each_seed;

const HOST: &str = "web.example";
const URL: &str = "http://web.example/s/M";

fn grpc_entry() -> String {
    http_entry(HOST, 80, 80).replace("protocol: HTTP", "protocol: GRPC")
}

/// One call with an empty message; its status, wherever it stands.
async fn call(stage_wire: Wire, fields: &[(&str, &str)]) -> (Got, Option<String>) {
    http2_ends::speak(stage_wire, async |send| {
        let fields = [&[("content-type", "application/grpc"), ("te", "trailers")], fields].concat();
        let got = http2_ends::ask(&send, "POST", URL, &fields, b"\0\0\0\0\0").await.unwrap();
        let status = |fields: &HeaderMap| fields.get("grpc-status").map(|value| value.to_str().unwrap().to_owned());
        let found = status(&got.fields).or(got.trailers.as_ref().and_then(status));
        (got, found)
    })
    .await
}

fn wire(stage: &Stage) -> Wire {
    Wire::plain(stage.world.connect(address("203.0.113.9:80")))
}

/// Answers with this status in trailers behind a message, or without any message.
async fn answer(mut stream: Stream, status: &'static str, is_alone: bool) {
    stream.body().await;
    let mut response = http::Response::builder().header("content-type", "application/grpc");
    if is_alone {
        response = response.header("grpc-status", status);
    }
    let Ok(mut sent) = stream.respond.send_response(response.body(()).unwrap(), is_alone) else { return };
    if !is_alone {
        let _ = sent.send_data(Bytes::from_static(b"\0\0\0\0\0"), false);
        let _ = sent.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]));
    }
}

/// `grpc-timeout` is the call's time, capped by the route's; what is no time has no effect.
#[test]
fn a_call_ends_when_its_time_is_over() {
    // The route's time, what the client says, the milliseconds that it takes.
    let cases = [
        ("", "400m", 400),
        ("timeout: 700ms", "10S", 700),
        ("timeout: 700ms", "300m", 300),
        ("timeout: 700ms", "", 700),
        ("timeout: 700ms", "soon", 700),
        ("timeout: 700ms", "123456789S", 700),
        ("timeout: 700ms", "0m", 700),
    ];
    for_each_seed(2, |seed| {
        for (fields, said, expected) in cases {
            println!("{fields}, {said}");
            let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&grpc_entry());
            let site = if fields.is_empty() { site } else { site.with(&route(HOST, fields)) };
            site.play(seed, async |stage| {
                let world = Rc::clone(&stage.world);
                stage.world.serve(address("203.0.113.1:80"), move |far| {
                    let world = Rc::clone(&world);
                    http2_ends::serve(Wire::plain(far), Manner::default(), move |stream| {
                        let world = Rc::clone(&world);
                        async move {
                            world.sleep(Duration::from_secs(60)).await;
                            answer(stream, "0", false).await;
                        }
                    })
                });
                let (wire, world) = (wire(stage), Rc::clone(&stage.world));
                let counters = std::sync::Arc::clone(&stage.counters);
                stage.spawn("DEADLINE_EXCEEDED", async move {
                    // Accepting may rest for a while, which is not this clock's affair.
                    while counters.connections_accepted.get() == 0 {
                        world.sleep(Duration::from_millis(1)).await;
                    }
                    let begun = world.now();
                    let timeout = [("grpc-timeout", said)];
                    let (got, status) = call(wire, if said.is_empty() { &[] } else { &timeout }).await;
                    assert_eq!((got.status, status.as_deref()), (200, Some("4")));
                    let (taken, wanted) = (world.now() - begun, Duration::from_millis(expected));
                    assert!(taken >= wanted && taken < wanted + Duration::from_millis(60), "{taken:?}");
                });
            });
        }
    });
}

/// By default a call is tried twice more after UNAVAILABLE and CANCELLED, where nothing was said before the status.
#[test]
fn calls_are_tried_again_by_their_status() {
    // The status, whether it stands alone, how often the server is asked.
    for_each_seed(3, |seed| {
        for (status, is_alone, expected) in
            [("14", true, 3), ("1", true, 3), ("14", false, 1), ("13", true, 1), ("0", false, 1)]
        {
            let asked = Rc::new(RefCell::new(0));
            let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&grpc_entry());
            let (log, ()) = site.play(seed, async |stage| {
                let count = Rc::clone(&asked);
                stage.world.serve(address("203.0.113.1:80"), move |far| {
                    let count = Rc::clone(&count);
                    http2_ends::serve(Wire::plain(far), Manner::default(), move |stream| {
                        *count.borrow_mut() += 1;
                        answer(stream, status, is_alone)
                    })
                });
                let wire = wire(stage);
                stage.spawn("a status", async move {
                    let (got, found) = call(wire, &[]).await;
                    assert_eq!((got.status, found.as_deref()), (200, Some(status)));
                });
            });
            assert_eq!(*asked.borrow(), expected, "{status} {is_alone}: {log:?}");
        }
    });
}

/// An endpoint whose calls fail is ejected by their status, though each was answered with 200.
#[test]
fn endpoints_are_ejected_by_the_status_of_calls() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web}\nspec:\n  hosts: [web.example]\n  \
                 ports: [{number: 80, name: grpc, protocol: GRPC}]\n  resolution: STATIC\n  endpoints: [{address: 203.0.113.1}, \
                 {address: 203.0.113.2}]\n";
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100, \
                  baseEjectionTime: 1h}}";
    // NOT_FOUND and INVALID_ARGUMENT are the caller's affair, INTERNAL and UNKNOWN the server's.
    for_each_seed(3, |seed| {
        for (status, is_ejected) in [("13", true), ("2", true), ("5", false), ("3", false), ("0", false)] {
            let site = Site::new().naming(HOST, &["203.0.113.1"]).with(entry).with(&rule(HOST, policy));
            let asked = Rc::new(RefCell::new([0, 0]));
            site.play(seed, async |stage| {
                for (at, (place, status)) in
                    [("203.0.113.1:80", status), ("203.0.113.2:80", "0")].into_iter().enumerate()
                {
                    let asked = Rc::clone(&asked);
                    stage.world.serve(address(place), move |far| {
                        let asked = Rc::clone(&asked);
                        http2_ends::serve(Wire::plain(far), Manner::default(), move |stream| {
                            asked.borrow_mut()[at] += 1;
                            answer(stream, status, false)
                        })
                    });
                }
                let world = Rc::clone(&stage.world);
                stage.spawn("ten statuses", async move {
                    for _ in 0..10 {
                        call(Wire::plain(world.connect(address("203.0.113.9:80"))), &[]).await;
                    }
                });
            });
            let expected = if is_ejected { [2, 8] } else { [5, 5] };
            assert_eq!(*asked.borrow(), expected, "{status}");
        }
    });
}
