//! Which version of HTTP goes out where the server chooses, and what becomes of requests that it has no words for.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future;
use h2::Reason;
use rustls::ServerConfig;

use super::http2_ends::{self, Manner, Stream};
use super::stage::{Site, Stage, address, http_entry, open, rule};
use super::talk::Talk;
use super::wire::Wire;
use crate::io::simulation::{Far, for_each_seed};

const HOST: &str = "web.example";
const URL: &str = "http://web.example";

/// A host whose requests leave in TLS; settings, or a DestinationRule, let its server choose.
fn site(protocol: &str, settings: &str, annotation: &str) -> Site {
    let site = Site::new().naming(HOST, &["203.0.113.1"]);
    let tls = format!("{{tls: {{mode: SIMPLE, caCertificates: {}}}}}", site.ca_file());
    let rule = rule(HOST, &tls).replace("metadata: {", &format!("metadata: {{{annotation}"));
    let entry = http_entry(HOST, 80, 443).replace("protocol: HTTP", &format!("protocol: {protocol}"));
    let site = site.with(&entry).with(&rule);
    if settings.is_empty() {
        site
    } else {
        site.with(&format!("apiVersion: egret/v1\nkind: Settings\nspec: {{{settings}}}\n"))
    }
}

/// A server that speaks `versions`, preferred first; none says nothing of versions.
fn config(site: &Site, versions: &[&str]) -> Arc<ServerConfig> {
    let mut config = (*site.server_config(HOST)).clone();
    config.alpn_protocols = versions.iter().map(|version| version.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Notes `version path` of each request, and answers with it; one for `/http1` is refused over HTTP/2.
async fn serve(far: Far, config: Arc<ServerConfig>, speaks_http2_unasked: bool, seen: Rc<RefCell<Vec<String>>>) {
    seen.borrow_mut().push("connection".to_owned());
    let Ok(wire) = Wire::accept(far, &config).await else { return };
    // Who names no version speaks the one that is on its mind.
    let is_http2 = match wire.alpn() {
        Some(version) => version == b"h2",
        None => speaks_http2_unasked,
    };
    if is_http2 {
        let handle = |mut stream: Stream| {
            let seen = Rc::clone(&seen);
            async move {
                let said = format!("h2 {}", stream.path());
                seen.borrow_mut().push(said.clone());
                match stream.path() {
                    "/http1" => stream.respond.send_reset(Reason::HTTP_1_1_REQUIRED),
                    _ => stream.answer(&said),
                }
            }
        };
        return http2_ends::serve(wire, Manner::default(), handle).await;
    }
    let mut talk = Talk::new(wire);
    while let Ok(Some((head, _))) = talk.request().await {
        let said = format!("h1 {}", head.split(' ').nth(1).unwrap_or_default());
        seen.borrow_mut().push(said.clone());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
        if talk.send(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Plays `application` with a server that speaks `versions`; what the server saw, and the log.
fn play(
    seed: u64,
    site: &Site,
    versions: &[&str],
    application: impl AsyncFnOnce(&Stage),
) -> (Vec<String>, Vec<String>) {
    let speaks_http2_unasked = versions == [UNASKED];
    let versions = if speaks_http2_unasked { &[] } else { versions };
    let (noted, config) = (Rc::new(RefCell::new(Vec::new())), config(site, versions));
    let (log, ()) = site.play(seed, async |stage| {
        let note = Rc::clone(&noted);
        stage.world.serve(address("203.0.113.1:443"), move |far| {
            serve(far, Arc::clone(&config), speaks_http2_unasked, Rc::clone(&note))
        });
        application(stage).await;
    });
    (noted.take(), log)
}

/// One request of HTTP/1.1, whose answer is `expected`.
fn ask_http1(stage: &Stage, path: &'static str, fields: &'static str, expected: &'static str) {
    let world = Rc::clone(&stage.world);
    stage.spawn(path, async move {
        let mut talk = open(&world, "203.0.113.9:80");
        talk.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n").as_bytes()).await.unwrap();
        let answer = talk.answer_to("GET").await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.body), expected, "{}", answer.head);
    });
}

/// One of HTTP/2.
fn ask_http2(stage: &Stage, path: &'static str, expected: &'static str) {
    let world = Rc::clone(&stage.world);
    stage.spawn(path, async move {
        let wire = Wire::plain(world.connect(address("203.0.113.9:80")));
        http2_ends::speak(wire, async |send| {
            let got = http2_ends::ask(&send, "GET", &format!("{URL}{path}"), &[], b"").await.unwrap();
            assert_eq!((got.status, &got.body[..]), (200, expected));
        })
        .await;
    });
}

const AUTO: &str = "upstreamProtocol: AUTO";
/// A server that says nothing of versions, and speaks HTTP/2.
const UNASKED: &str = "h2, unasked";

/// Where nothing but HTTP/2 is offered, a server that does not answer that is taken to speak it, as Envoy takes it; one that
/// does not is told by its answer.
#[test]
fn a_server_that_says_nothing_is_spoken_to_in_the_version_of_its_port() {
    let site = site("HTTP2", "", "");
    for_each_seed(2, |seed| {
        play(seed, &site, &[UNASKED], async |stage| {
            ask_http1(stage, "/a", "", "h2 /a");
            ask_http2(stage, "/b", "h2 /b");
        });
        let (_, log) = play(seed, &site, &[], async |stage| {
            let world = Rc::clone(&stage.world);
            stage.spawn("a failure", async move {
                assert_eq!(open(&world, "203.0.113.9:80").get(HOST, "/old").await.unwrap().status, 503);
            });
        });
        let line = log.iter().find(|line| line.contains("/old")).expect("its line");
        assert!(line.contains(" UC ") && line.contains("the_server_answers_in_HTTP/1.1"), "{line}");
    });
}

#[test]
fn the_server_chooses_and_requests_are_translated() {
    const BOTH: &[&str] = &["h2", "http/1.1"];
    const OLD: &[&str] = &["http/1.1"];
    // The Settings, the rule's annotation, what the server speaks, what goes out.
    let cases = [
        (AUTO, "", BOTH, "h2"),
        (AUTO, "", OLD, "h1"),
        (AUTO, "", &[], "h1"),
        ("", "annotations: {egret/upstream-protocol: AUTO}, ", BOTH, "h2"),
        (AUTO, "annotations: {egret/upstream-protocol: DECLARED}, ", BOTH, "h1"),
        ("", "", BOTH, "h1"),
        ("h2UpgradePolicy: UPGRADE", "", BOTH, "h2"),
    ];
    for_each_seed(2, |seed| {
        for (settings, annotation, versions, out) in cases {
            println!("{settings} {annotation} {versions:?}");
            let site = site("HTTP", settings, annotation);
            let is_old = out == "h1";
            let (seen, _) = play(seed, &site, versions, async |stage| {
                ask_http1(stage, "/a", "", if is_old { "h1 /a" } else { "h2 /a" });
                ask_http2(stage, "/b", if is_old { "h1 /b" } else { "h2 /b" });
                ask_http1(stage, "/c", "", if is_old { "h1 /c" } else { "h2 /c" });
            });
            let connections = seen.iter().filter(|said| *said == "connection").count();
            assert!(is_old || connections == 1, "{seen:?}");
        }
    });
}

/// Where both are offered, what only HTTP/1.1 has words for is asked for in HTTP/1.1 alone.
#[test]
fn what_cannot_go_over_http2_goes_over_http1() {
    let site = site("HTTP", AUTO, "");
    for_each_seed(3, |seed| {
        play(seed, &site, &["h2", "http/1.1"], async |stage| {
            ask_http1(stage, "/socket", "Connection: upgrade\r\nUpgrade: websocket\r\n", "h1 /socket");
            ask_http1(stage, "/ntlm", "Authorization: NTLM TlRMTVNTUAAB\r\n", "h1 /ntlm");
            ask_http1(stage, "/http1", "", "h1 /http1");
            ask_http1(stage, "/plain", "", "h2 /plain");
        });
    });
}

/// The credentials of a connection stay on the connection that they authenticated, whatever was offered when it was made.
#[test]
fn a_connection_that_authenticates_goes_on_where_the_server_chose_http1() {
    let site = site("HTTP", AUTO, "");
    for_each_seed(3, |seed| {
        let (seen, _) = play(seed, &site, &["http/1.1"], async |stage| {
            let world = Rc::clone(&stage.world);
            stage.spawn("three answers", async move {
                let mut talk = open(&world, "203.0.113.9:80");
                let ntlm = "Authorization: NTLM TlRMTVNTUAAB\r\n";
                for (path, fields) in [("/one", ntlm), ("/two", ntlm), ("/three", "")] {
                    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
                    talk.send(request.as_bytes()).await.unwrap();
                    assert_eq!(talk.answer_to("GET").await.unwrap().status, 200);
                }
            });
        });
        assert_eq!(seen, ["connection", "h1 /one", "h1 /two", "h1 /three"]);
    });
}

/// A call has no status over HTTP/1.1: it is refused before it is sent, and says why.
#[test]
fn calls_are_refused_where_nothing_can_carry_them() {
    let auto = "the_server_chose_http/1.1_(ALPN;";
    let declared = "NO_APPLICATION_PROTOCOL:_the_server_does_not_speak_the_protocol_that_was_offered_(alert_120);_h2_was_offered_\
                    (ALPN),_since_port_80_is_declared_GRPC";
    let by_mesh = "h2_was_offered_(ALPN),_since_h2UpgradePolicy_is_UPGRADE";
    for_each_seed(2, |seed| {
        for (protocol, settings, reason) in
            [("HTTP", AUTO, auto), ("GRPC", "", declared), ("HTTP", "h2UpgradePolicy: UPGRADE", by_mesh)]
        {
            let site = site(protocol, settings, "");
            let (seen, log) = play(seed, &site, &["http/1.1"], async |stage| {
                let (world, counters) = (Rc::clone(&stage.world), Arc::clone(&stage.counters));
                stage.spawn("a status", async move {
                    let wire = Wire::plain(world.connect(address("203.0.113.9:80")));
                    http2_ends::speak(wire, async |send| {
                        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
                        let got = http2_ends::ask(&send, "POST", &format!("{URL}/s/M"), &fields, b"\0\0\0\0\0").await;
                        let got = got.unwrap();
                        assert_eq!(
                            (got.status, &got.fields["grpc-status"]),
                            (200, &http::HeaderValue::from_static("14"))
                        );
                    })
                    .await;
                    assert!(counters.tls_failures_protocol.get() > 0);
                });
            });
            assert!(seen.iter().all(|said| said == "connection"), "{seen:?}");
            // A server that has chosen is not asked again; one that refused is, as after any connect that failed.
            assert_eq!(seen.len(), if settings == AUTO { 1 } else { 3 });
            let line = log.iter().find(|line| line.contains("/s/M")).expect("its line");
            assert!(line.contains(reason) && line.contains("UF "), "{reason}: {line}");
        }
    });
}

/// Calls go where the server chose HTTP/2, and do not keep other requests from a server of HTTP/1.1.
#[test]
fn calls_and_requests_go_side_by_side() {
    let site = site("HTTP", AUTO, "");
    for_each_seed(3, |seed| {
        for (versions, status, plain) in [(&["h2"][..], None, "h2 /plain"), (&["http/1.1"], Some("14"), "h1 /plain")] {
            play(seed, &site, versions, async |stage| {
                let world = Rc::clone(&stage.world);
                stage.spawn("answers", async move {
                    let wire = Wire::plain(world.connect(address("203.0.113.9:80")));
                    http2_ends::speak(wire, async |send| {
                        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
                        let (call, plain_uri) = (format!("{URL}/s/M"), format!("{URL}/plain"));
                        let call = http2_ends::ask(&send, "POST", &call, &fields, b"\0\0\0\0\0");
                        let request = http2_ends::ask(&send, "GET", &plain_uri, &[], b"");
                        let (call, request) = future::zip(call, request).await;
                        let said =
                            call.unwrap().fields.get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
                        assert_eq!((said.as_deref(), &request.unwrap().body[..]), (status, plain));
                    })
                    .await;
                });
            });
        }
    });
}
