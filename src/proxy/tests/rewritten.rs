//! What a route makes of requests on their way, and where copies of them go.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::stage::{Site, address, http_entry, open, route};
use super::talk::{Talk, field};
use super::wire::Wire;
use crate::io::simulation::{Far, for_each_seed};

const HOST: &str = "plain.example";

/// Heads and bodies.
type Requests = Vec<(String, Vec<u8>)>;
type Seen = Rc<RefCell<Requests>>;

fn site(fields: &str) -> Site {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).naming("copy.example", &["203.0.113.2"]);
    let site = site.with(&http_entry(HOST, 80, 80)).with(&http_entry("copy.example", 80, 8080));
    site.with(&route(HOST, fields))
}

async fn serve(far: Far, seen: Seen) {
    let mut talk = Talk::new(Wire::plain(far));
    while let Ok(Some(request)) = talk.request().await {
        seen.borrow_mut().push(request);
        if talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// What the servers at 203.0.113.1:80 and at 203.0.113.2:8080 have seen of `requests`, and the heads of the answers.
fn play(site: &Site, seed: u64, requests: &[&'static str]) -> (Requests, Requests, Vec<String>) {
    let (main, copies): (Seen, Seen) = Default::default();
    let answers = Rc::new(RefCell::new(Vec::new()));
    site.play(seed, async |stage| {
        for (at, of_server) in [("203.0.113.1:80", &main), ("203.0.113.2:8080", &copies)] {
            let of_server = Rc::clone(of_server);
            stage.world.serve(address(at), move |far| serve(far, Rc::clone(&of_server)));
        }
        let (world, told, requests) = (Rc::clone(&stage.world), Rc::clone(&answers), requests.to_vec());
        stage.spawn("the answers", async move {
            let mut talk = open(&world, "203.0.113.9:80");
            for request in requests {
                talk.send(request.as_bytes()).await.unwrap();
                let answer = talk.answer_to(request.split(' ').next().unwrap()).await.unwrap();
                told.borrow_mut().push(answer.head);
            }
            // Nobody waits for copies but this test.
            world.sleep(Duration::from_secs(5)).await;
        });
    });
    (main.take(), copies.take(), answers.take())
}

#[test]
fn an_expression_rewrites_paths() {
    let regex = r"match: '^/service/([^/]+)(/.*)$', rewrite: '\2/instance/\1'";
    for_each_seed(3, |seed| {
        let site = site(&format!("rewrite: {{uriRegexRewrite: {{{regex}}}}}"));
        let requests = [
            "GET /service/foo/v1/api?x=/service/y/z HTTP/1.1\r\nHost: plain.example\r\n\r\n",
            "GET /other HTTP/1.1\r\nHost: plain.example\r\n\r\n",
            // A path that has two readings is none that an expression could be asked about.
            "GET /service/%2e%2e/x HTTP/1.1\r\nHost: plain.example\r\n\r\n",
        ];
        let (seen, ..) = play(&site, seed, &requests);
        let lines: Vec<_> = seen.iter().map(|(head, _)| head.lines().next().unwrap()).collect();
        assert_eq!(lines[..2], ["GET /v1/api/instance/foo?x=/service/y/z HTTP/1.1", "GET /other HTTP/1.1"]);
        assert!(lines[2..].iter().all(|line| !line.contains("instance")), "{lines:?}");
    });
}

#[test]
fn operators_in_fields_are_filled_in_for_each_request() {
    let request = "set: {x-from: 'from %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%', x-share: '100%%', \
                   x-path: '%REQ(:PATH)%', x-none: '%REQ(x-none)%', x-id: '%REQ(X-REQUEST-ID)%'}, \
                   add: {x-to: '%DOWNSTREAM_LOCAL_ADDRESS%'}";
    let response = "set: {x-server: '%UPSTREAM_HOST%'}, add: {x-agent: '%REQ(USER-AGENT):4%'}";
    for_each_seed(3, |seed| {
        let site = site(&format!("headers: {{request: {{{request}}}, response: {{{response}}}}}"));
        let asked = "GET /p?q HTTP/1.1\r\nHost: plain.example\r\nX-Path: mine\r\nUser-Agent: curl/8\r\n\r\n";
        let (seen, _, answers) = play(&site, seed, &[asked]);
        let head = &seen[0].0;
        for (name, expected) in
            [("x-share", Some("100%")), ("x-path", Some("/p?q")), ("x-none", None), ("x-to", Some("203.0.113.9:80"))]
        {
            assert_eq!(field(head, name), expected, "{name}: {head}");
        }
        let from = field(head, "x-from").unwrap().strip_prefix("from ").unwrap();
        assert!(from.parse::<std::net::IpAddr>().is_ok(), "{head}");
        assert_eq!(field(head, "x-id").map(str::len), Some(36), "{head}");
        assert_eq!(field(&answers[0], "x-server"), Some("203.0.113.1:80"));
        assert_eq!(field(&answers[0], "x-agent"), Some("curl"));
    });
}

/// As Istio 1.31 sends them: the same host, and all of the body.
#[test]
fn copies_go_to_the_mirror() {
    const POST: &str = "POST /up?x HTTP/1.1\r\nHost: plain.example\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKS: &str =
        "POST /up?x HTTP/1.1\r\nHost: plain.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    const GET: &str = "GET /a HTTP/1.1\r\nHost: plain.example\r\n\r\n";
    const TIED: &str = "GET /a HTTP/1.1\r\nHost: plain.example\r\nAuthorization: NTLM TlRMTVNTUAAB\r\n\r\n";
    let deny = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-copies}
spec:
  targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: copy-example}]
  action: DENY
  rules: [{to: [{operation: {methods: [GET]}}]}]
";
    for_each_seed(5, |seed| {
        let mirrored = "mirror: {host: copy.example}, headers: {request: {set: {x-set: made}}}";
        let (seen, copies, _) = play(&site(mirrored), seed, &[GET, POST, CHUNKS, TIED]);
        assert_eq!((seen.len(), copies.len()), (4, 3), "credentials of a connection go to one server");
        for (copy, original) in copies.iter().zip(&seen) {
            assert_eq!(copy, original);
            assert_eq!(field(&copy.0, "x-set"), Some("made"));
        }
        let denied = site("mirror: {host: copy.example}").with(deny);
        assert_eq!(play(&denied, seed, &[GET, POST]).1.len(), 1, "what policies forbid is forbidden to copies");
        for share in ["mirror: {host: copy.example}, mirrorPercentage: {value: 0}", "timeout: 9s"] {
            assert!(play(&site(share), seed, &[GET]).1.is_empty(), "{share}");
        }
        let both =
            "mirrors: [{destination: {host: copy.example}}, {destination: {host: copy.example, port: {number: 80}}}]";
        assert_eq!(play(&site(both), seed, &[GET]).1.len(), 2);
        // A mirror that is not there changes nothing.
        assert_eq!(play(&site("mirror: {host: nobody.example}"), seed, &[GET]).0.len(), 1);
    });
}
