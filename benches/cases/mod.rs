//! What the benches measure: inputs as they come from applications and servers, and a policy of any size.
#![allow(dead_code, reason = "each bench uses its own part")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use egret::config::{self, Resources};
use egret::flow::{Host, Hostname, OriginalDst};
use egret::http::{HeadLimits, Method, Parsed, RequestContext, RequestHead, ResponseHead, Version};
use egret::http::{parse_request, parse_response};
use egret::policy::publish::{Addresses, Published};
use egret::policy::{
    Content, Decision, Flow, Health, Materials, Occupancy, PolicyTable, RequestView, Workload, compile,
};
use egret::tls::{ClientProfile, ProfileRequest};

/// As an SDK writes it.
pub const REQUEST: &[u8] = b"POST /v1/charges?expand=customer HTTP/1.1\r\n\
    Host: api.example.com\r\n\
    User-Agent: sdk-python/9.3.0 (linux; x86_64)\r\n\
    Accept: application/json\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 181\r\n\
    X-Request-ID: 6f1c1d3e-6a2b-4f0e-9a53-0f7a3f0d3c11\r\n\
    Connection: keep-alive\r\n\r\n";

/// As an API behind a load balancer answers.
pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Date: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 2048\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: no-store\r\n\
    ETag: W/\"5d8c72a5edda8d6a\"\r\n\
    Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
    Vary: Accept-Encoding\r\n\
    X-Request-ID: 6f1c1d3e-6a2b-4f0e-9a53-0f7a3f0d3c11\r\n\r\n";

pub fn request(bytes: &[u8]) -> RequestHead {
    match parse_request(bytes, HeadLimits::default()) {
        Ok(Parsed::Complete { head, .. }) => head,
        other => panic!("no request: {other:?}"),
    }
}

pub fn response(bytes: &[u8]) -> ResponseHead {
    let asked = RequestContext { method: Method::Get, version: Version::Http11, upgrade: false };
    match parse_response(bytes, asked, HeadLimits::default()) {
        Ok(Parsed::Complete { head, .. }) => head,
        other => panic!("no response: {other:?}"),
    }
}

/// A chunked body of `chunks` chunks of 1,000 bytes.
pub fn chunked(chunks: usize) -> Vec<u8> {
    let chunk = [&b"3e8\r\n"[..], &[b'x'; 1000], b"\r\n"].concat();
    [chunk.repeat(chunks), b"0\r\n\r\n".to_vec()].concat()
}

/// A ClientHello record for `name`: what a small client sends, with the usual extensions.
pub fn client_hello(name: &str) -> Vec<u8> {
    let extension =
        |number: u16, data: &[u8]| [&number.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat();
    let name = [&[0][..], &(name.len() as u16).to_be_bytes(), name.as_bytes()].concat();
    let names = [&(name.len() as u16).to_be_bytes()[..], &name].concat();
    let extensions = [
        extension(10, &[0, 4, 0, 29, 0, 23]),
        extension(13, &[0, 4, 4, 3, 8, 4]),
        extension(0, &names),
        extension(16, &[0, 9, 8, b'h', b't', b't', b'p', b'/', b'1', b'.', b'1']),
        extension(43, &[4, 3, 4, 3, 3]),
        extension(51, &[&[0, 36, 0, 29, 0, 32][..], &[7; 32]].concat()),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[9; 32],
        &[0, 0, 6, 19, 1, 19, 2, 192, 47, 1, 0],
        &(extensions.len() as u16).to_be_bytes(),
        &extensions,
    ]
    .concat();
    let message = [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat();
    [&[22, 3, 1][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

/// Material for tables whose connections nobody makes.
struct Nothing;

impl Materials for Nothing {
    fn profile(&mut self, _: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        Err("a bench connects nowhere".to_owned())
    }

    fn addresses(&mut self, _: &Hostname) -> Addresses {
        Published::new(vec![[192, 0, 2, 1].into()])
    }

    fn bound_addresses(&mut self, name: &Hostname) -> Addresses {
        self.addresses(name)
    }

    fn occupancy(&mut self, _: &str) -> Arc<Occupancy> {
        Arc::default()
    }

    fn health(&mut self, _: &str) -> Arc<Health> {
        Arc::default()
    }
}

/// The resources of a policy that names so many hosts, each with two ports and TLS origination.
pub fn resources(hosts: usize) -> Resources {
    loaded(&entries(hosts))
}

/// The same, and for each host a VirtualService that sends its requests, and its TLS, to two others by weight.
pub fn routed(hosts: usize) -> Resources {
    let mut yaml = entries(hosts);
    for number in 0..hosts {
        let (host, one, two) = (host(number), host((number + 1) % hosts), host((number + 7) % hosts));
        let shares = format!(
            "route: [{{ destination: {{ host: {one} }}, weight: 90 }}, {{ destination: {{ host: {two} }}, weight: 10 }}]"
        );
        write!(
            yaml,
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: h{number} }}\nspec:\n  \
             hosts: [{host}]\n  http: [{{ {shares} }}]\n  tls: [{{ match: [{{ sniHosts: [{host}] }}], {shares} }}]\n---\n"
        )
        .expect("writing to a String does not fail");
    }
    loaded(&yaml)
}

fn loaded(yaml: &str) -> Resources {
    let loaded = config::load_text(Path::new("bench.yaml"), yaml);
    assert!(!loaded.has_errors(), "{:?}", loaded.problems);
    loaded.resources
}

fn entries(hosts: usize) -> String {
    let mut yaml = String::new();
    for number in 0..hosts {
        write!(
            yaml,
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: h{number} }}\nspec:\n  \
             hosts: [{host}]\n  resolution: DNS\n  ports:\n    \
             - {{ number: 80, name: http, protocol: HTTP, targetPort: 443 }}\n    \
             - {{ number: 443, name: tls, protocol: TLS }}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: h{number} }}\nspec:\n  \
             host: {host}\n  trafficPolicy: {{ portLevelSettings: [{{ port: {{ number: 80 }}, tls: {{ mode: SIMPLE }} }}] }}\n---\n",
            host = host(number)
        )
        .expect("writing to a String does not fail");
    }
    yaml
}

pub fn host(number: usize) -> String {
    format!("api-{number}.region-{}.example.com", number % 7)
}

pub fn table(resources: &Resources) -> PolicyTable {
    compile(resources, &Workload::default(), &mut Nothing).0
}

/// Asks `table` about a request to `host`; whether some entry names it.
pub fn is_named(table: &PolicyTable, host: &Host) -> bool {
    let destination = OriginalDst::new(SocketAddr::from(([192, 0, 2, 1], 80)));
    let view = RequestView { host, authority: b"", method: b"GET", target: b"/v1/items", any_value: &|_, _| false };
    let verdict = table.decide(&Flow { destination, content: Content::Request(&view) }, 0);
    matches!(verdict.decision, Decision::Forward(_))
}
