//! CONNECT to a forward proxy that is spoken to in HTTP/2 (RFC 9113 §8.5), from applications of either version.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;

use super::http2_ends::{self, Manner, Stream};
use super::stage::{Site, address, open};
use super::wire::Wire;
use crate::io::simulation::for_each_seed;

const PROXY: &str = "203.0.113.1:3128";

/// A forward proxy of HTTP/2, and where its tunnels may lead.
fn site() -> Site {
    let entry = |name: &str, ports: &str, more: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{hosts: [{name}.example], ports: \
             [{ports}], {more}}}\n"
        )
    };
    Site::new()
        .naming("proxy.example", &["203.0.113.1"])
        .with(&entry(
            "proxy",
            "{number: 3128, name: h2, protocol: HTTP2}",
            "addresses: [203.0.113.1], resolution: NONE",
        ))
        .with(&entry("db", "{number: 5432, name: db, protocol: TCP}", "addresses: [203.0.113.7], resolution: NONE"))
        .with("apiVersion: egret/v1\nkind: Settings\nspec: {connectPolicy: REGISTRY_ONLY}\n")
}

/// Notes what is asked for, refuses one, and sends everything back.
async fn forward(mut stream: Stream, asked: Rc<RefCell<Vec<String>>>) {
    let (method, uri) = (stream.request.method().clone(), stream.request.uri().clone());
    asked.borrow_mut().push(format!("{method} {uri}"));
    let mut sent = stream.respond.send_response(http::Response::new(()), false).unwrap();
    let body = stream.request.body_mut();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        if sent.send_data(data, false).is_err() {
            return;
        }
    }
    let _ = sent.send_data(Bytes::new(), true);
}

#[test]
fn tunnels_lead_through_a_forward_proxy_of_http2() {
    for_each_seed(5, |seed| {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let (log, ()) = site().play(seed, async |stage| {
            let note = Rc::clone(&asked);
            stage.world.serve(address(PROXY), move |far| {
                let note = Rc::clone(&note);
                http2_ends::serve(Wire::plain(far), Manner::default(), move |stream| forward(stream, Rc::clone(&note)))
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("a tunnel of HTTP/1.1", async move {
                let mut talk = open(&world, PROXY);
                talk.send(b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n").await.unwrap();
                let head = talk.head().await.unwrap().unwrap();
                assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("chunked"), "{head}");
                talk.send(b"one").await.unwrap();
                assert_eq!(talk.exactly(3).await.unwrap(), b"one");
                talk.send(b"two").await.unwrap();
                talk.wire.finish().await;
                assert_eq!(talk.rest().await.unwrap(), b"two");
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("a tunnel of HTTP/2", async move {
                http2_ends::speak(Wire::plain(world.connect(address(PROXY))), async |send| {
                    let request = http::Request::builder().method("CONNECT").uri("db.example:5432").body(()).unwrap();
                    let mut send = send.ready().await.unwrap();
                    let (response, mut upload) = send.send_request(request, false).unwrap();
                    let (parts, mut body) = response.await.unwrap().into_parts();
                    assert_eq!(parts.status, 200);
                    upload.send_data(Bytes::from_static(b"three"), true).unwrap();
                    let mut got = Vec::new();
                    while let Some(data) = body.data().await {
                        let data = data.unwrap();
                        let _ = body.flow_control().release_capacity(data.len());
                        got.extend_from_slice(&data);
                    }
                    assert_eq!(got, b"three");
                })
                .await;
            });
        });
        assert_eq!(*asked.borrow(), ["CONNECT db.example:5432"; 2]);
        assert!(log.iter().all(|line| line.contains("\"CONNECT ") && line.contains(" 200 ")), "{log:?}");
    });
}

/// An application that breaks its tunnel off ends the stream with it.
#[test]
fn a_tunnel_that_is_broken_off_is_cancelled() {
    for_each_seed(5, |seed| {
        let ended = Rc::new(RefCell::new(None));
        site().play(seed, async |stage| {
            let told = Rc::clone(&ended);
            stage.world.serve(address(PROXY), move |far| {
                let told = Rc::clone(&told);
                http2_ends::serve(Wire::plain(far), Manner::default(), move |mut stream: Stream| {
                    let told = Rc::clone(&told);
                    async move {
                        let mut sent = stream.respond.send_response(http::Response::new(()), false).unwrap();
                        *told.borrow_mut() = poll_fn(|cx| sent.poll_reset(cx)).await.ok();
                    }
                })
            });
            let (world, ended) = (Rc::clone(&stage.world), Rc::clone(&ended));
            stage.spawn("a reset", async move {
                let mut talk = open(&world, PROXY);
                talk.send(b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n").await.unwrap();
                talk.head().await.unwrap().unwrap();
                talk.wire.far.reset();
                while ended.borrow().is_none() {
                    world.sleep(std::time::Duration::from_millis(10)).await;
                }
            });
        });
        assert_eq!(*ended.borrow(), Some(h2::Reason::CANCEL));
    });
}
