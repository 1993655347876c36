//! What a DestinationRule makes of several endpoints, and of the way to them, on the wire.

mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::lab::client::{HttpClient, Response};
use crate::lab::nginx::Nginx;
use crate::lab::{Family, Lab, eventually};

/// A web site of `count` endpoints, each of which answers with its number, or with 503 while a file says so.
struct Site {
    lab: Lab,
    nginx: Nginx,
    count: u8,
}

impl Site {
    fn new(count: u8) -> Site {
        let lab = Lab::new();
        let mut servers = String::new();
        for number in 1..=count {
            let (at, sick) = (SocketAddr::new(endpoint(number), 80), lab.dir().join(format!("sick-{number}")));
            let (sick, answer) = (sick.display(), "default_type text/plain; return 200 ");
            let block = format!("location / {{ if (-f {sick}) {{ return 503; }} {answer}\"{number}\"; }}");
            writeln!(servers, "server {{ listen {at}; {block} }}").expect("a string grows");
        }
        let nginx = Nginx::start(&lab, &servers, SocketAddr::new(endpoint(count), 80));
        Site { lab, nginx, count }
    }

    /// A host of all endpoints, under this `trafficPolicy` in YAML's flow form.
    fn host(&self, host: &str, policy: &str) {
        self.host_with(host, policy, &vec![1; self.count.into()]);
    }

    /// As [`Site::host`], with the endpoints' weights.
    fn host_with(&self, host: &str, policy: &str, weights: &[u32]) {
        let endpoints = (1..=self.count).zip(weights).map(|(number, weight)| {
            let address = endpoint(number);
            format!("{{address: {address}, weight: {weight}}}")
        });
        let endpoints = endpoints.collect::<Vec<_>>().join(", ");
        let name = host.replace('.', "-");
        let yaml = format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{host}]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{endpoints}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec: {{host: {host}, trafficPolicy: {policy}}}
"
        );
        self.lab.configure(&format!("{name}.yaml"), &yaml);
    }

    fn set_sick(&self, number: u8, is_sick: bool) {
        let file = self.lab.dir().join(format!("sick-{number}"));
        if is_sick { fs::write(file, "") } else { fs::remove_file(file) }.expect("a file of the lab");
    }

    fn open(&self) -> HttpClient {
        HttpClient::new(self.lab.connect(SocketAddr::new(Lab::address(Family::V4, 9), 80)).unwrap())
    }

    /// The number of the endpoint that answered on a connection of its own, or the status where it was not 200.
    fn ask(&self, host: &str) -> String {
        shown(&self.open().get(host, "/").unwrap())
    }

    /// [`Site::ask`] with a target and header fields of one's own.
    fn ask_with(&self, host: &str, target: &str, fields: &str) -> Response {
        let mut client = self.open();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").as_bytes()).unwrap();
        client.response().unwrap()
    }

    /// How often each answer came of `times`.
    fn answers(&self, host: &str, times: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(self.ask(host)).or_default() += 1;
        }
        counts
    }
}

fn shown(response: &Response) -> String {
    match response.head.status {
        200 => String::from_utf8_lossy(&response.body).into_owned(),
        status => status.to_string(),
    }
}

fn endpoint(number: u8) -> IpAddr {
    Lab::address(Family::V4, number)
}

#[test]
fn endpoints_that_fail_are_left_alone_for_a_while() {
    let site = Site::new(3);
    let outliers = |time: &str, percent: u8| {
        format!(
            "{{loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {{consecutive5xxErrors: 2, interval: {time}, \
             baseEjectionTime: {time}, maxEjectionPercent: {percent}}}}}"
        )
    };
    site.host("long.example", &outliers("1h", 50));
    site.host("short.example", &outliers("300ms", 50));
    site.host("all.example", &outliers("1h", 100));
    let egret = site.lab.egret(&[]);
    let (active, total) = ("egret_outlier_ejections_active", "egret_outlier_ejections_total");
    assert_eq!(egret.metric(active), Some(0.0));

    // Of three endpoints half may go: one.
    site.set_sick(1, true);
    site.set_sick(2, true);
    eventually("an endpoint is ejected", || {
        site.ask("long.example");
        egret.metric(active) == Some(1.0)
    });
    let answers = site.answers("long.example", 30);
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers.contains_key("3") && answers.contains_key("503"), "{answers:?}");
    let told = "endpoint ejected cluster=outbound|80||long.example";
    eventually("the ejection is told", || egret.stderr().contains(told));
    site.set_sick(1, false);
    site.set_sick(2, false);

    // One that has served its time is used again.
    site.set_sick(2, true);
    let of_short = |text: &str| format!("endpoint {text} cluster=outbound|80||short.example address={}", endpoint(2));
    eventually("it is ejected", || {
        site.ask("short.example");
        egret.stderr().contains(&of_short("ejected"))
    });
    site.set_sick(2, false);
    eventually("it has returned", || egret.stderr().contains(&of_short("returned")));
    eventually("it is used again", || site.ask("short.example") == "2");

    // Nothing is left where all may go.
    (1..=3).for_each(|number| site.set_sick(number, true));
    eventually("all are ejected", || {
        site.ask("all.example");
        egret.stderr().matches("endpoint ejected cluster=outbound|80||all.example").count() == 3
    });
    let response = site.open().get("all.example", "/").unwrap();
    assert_eq!(response.head.status, 503);
    let body = String::from_utf8_lossy(&response.body);
    assert!(body.contains("no healthy upstream") && body.contains("outlierDetection has ejected all 3"), "{body}");
    egret.log_line(&[" 503 UH no_healthy_upstream ", "outbound|80||all.example"]);
    assert!(egret.metric(total).unwrap() >= 5.0);
}

/// `failoverPriority`: the endpoint with the label gets everything, until it fails and again when it is back.
#[test]
fn who_is_preferred_gets_all_until_it_fails() {
    let site = Site::new(2);
    let text = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pair}
spec:
  hosts: [pair.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: FIRST, labels: {tier: main}}, {address: SECOND, labels: {tier: spare}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: pair}
spec:
  host: pair.example
  trafficPolicy:
    loadBalancer: {localityLbSetting: {failoverPriority: [tier=main]}}
    outlierDetection: {consecutive5xxErrors: 1, interval: 300ms, baseEjectionTime: 300ms, maxEjectionPercent: 100}
";
    let text = text.replace("FIRST", &endpoint(1).to_string()).replace("SECOND", &endpoint(2).to_string());
    site.lab.configure("pair.yaml", &text);
    let egret = site.lab.egret(&[]);
    assert_eq!(site.answers("pair.example", 20).keys().collect::<Vec<_>>(), ["1"]);
    site.set_sick(1, true);
    assert_eq!(site.ask("pair.example"), "503");
    eventually("the spare one answers", || site.ask("pair.example") == "2");
    site.set_sick(1, false);
    eventually("the main one is back", || {
        egret.stderr().contains("endpoint returned cluster=outbound|80||pair.example")
    });
    eventually("and has everything again", || site.answers("pair.example", 10).keys().collect::<Vec<_>>() == ["1"]);
    let told = site.lab.egret_command(&["explain", "http://pair.example/"]).succeeded().stdout;
    assert!(told.contains("(level 1, if those before fail)"), "{told}");
}

const USERS: usize = 30;
/// Connections made for each user, so that every worker has some.
const TIMES: usize = 4;

/// The endpoint of each user; every connection must give the same.
fn endpoints_of_users(site: &Site, ask: impl Fn(&Site, usize) -> String) -> Vec<String> {
    let of_user = |user| {
        let first = ask(site, user);
        for _ in 1..TIMES {
            assert_eq!(ask(site, user), first, "user {user}");
        }
        first
    };
    (0..USERS).map(of_user).collect()
}

#[test]
fn what_is_hashed_decides() {
    let mut site = Site::new(3);
    let hashing = |what: &str| format!("{{loadBalancer: {{consistentHash: {{{what}}}}}}}");
    site.host("header.example", &hashing("httpHeaderName: X-User"));
    site.host("query.example", &hashing("httpQueryParameterName: user, maglev: {tableSize: 1009}"));
    site.host("source.example", &hashing("useSourceIp: true"));
    let cookie = "httpCookie: {name: sid, path: /, ttl: 60s, attributes: [{name: SameSite, value: Lax}]}";
    site.host("cookie.example", &hashing(cookie));
    let egret = site.lab.egret(&[]);
    let by_header = |site: &Site, user| shown(&site.ask_with("header.example", "/", &format!("x-user: u{user}\r\n")));
    let by_query = |site: &Site, user| shown(&site.ask_with("query.example", &format!("/?a=1&user=u{user}"), ""));

    let before = endpoints_of_users(&site, by_header);
    for number in ["1", "2", "3"] {
        assert!(before.iter().any(|endpoint| endpoint == number), "{number} got nobody: {before:?}");
    }
    let queried = endpoints_of_users(&site, by_query);
    assert!(queried.iter().any(|endpoint| *endpoint != queried[0]), "{queried:?}");
    assert_eq!(site.answers("source.example", 8).len(), 1, "one source, one endpoint");
    assert!(site.answers("header.example", 40).len() > 1, "nothing to hash, any endpoint");

    for _ in 0..5 {
        let first = site.ask_with("cookie.example", "/", "cookie: other=1\r\n");
        let set = first.head.field("set-cookie").expect("a cookie was made").to_owned();
        assert!(set.starts_with("sid=\"") && set.ends_with("; Max-Age=60; Path=/; SameSite=Lax; HttpOnly"), "{set}");
        let pair = set.split(';').next().unwrap();
        for _ in 0..TIMES {
            let again = site.ask_with("cookie.example", "/", &format!("Cookie: a=b; {pair}\r\n"));
            assert_eq!((again.head.field("set-cookie"), &again.body), (None, &first.body), "{pair}");
        }
    }

    // Without the last endpoint its users move, and few others.
    let tables = || egret.stderr().matches("policy published").count();
    let published = tables();
    site.count = 2;
    site.host("header.example", &hashing("httpHeaderName: X-User"));
    eventually("the new table is in force", || tables() > published);
    eventually("the third endpoint is not used", || {
        (0..USERS).filter(|user| before[*user] == "3").all(|user| by_header(&site, user) != "3")
    });
    let after = endpoints_of_users(&site, by_header);
    let stayed = before.iter().zip(&after).filter(|(before, _)| *before != "3");
    let (kept, moved): (Vec<_>, Vec<_>) = stayed.partition(|(before, after)| before == after);
    assert!(moved.len() < kept.len(), "{before:?} {after:?}");
}

/// Of bytes nothing is known but where they come from.
#[test]
fn the_source_is_hashed_for_bytes_too() {
    let site = Site::new(3);
    let bytes = |host: &str, port: u16, balancing: &str| {
        site.host(host, &format!("{{loadBalancer: {{{balancing}}}}}"));
        let file = format!("{}.yaml", host.replace('.', "-"));
        let text = fs::read_to_string(site.lab.config_dir().join(&file)).expect("it was just written");
        let declared = format!("{{number: {port}, name: bytes, protocol: TCP, targetPort: 80}}");
        let text = text.replace("{number: 80, name: http, protocol: HTTP}", &declared);
        site.lab.configure(&file, &text.replace("  resolution:", "  addresses: [203.0.113.9]\n  resolution:"));
    };
    bytes("hashed.example", 9001, "consistentHash: {useSourceIp: true}");
    bytes("any.example", 9002, "simple: ROUND_ROBIN");
    let _egret = site.lab.egret(&[]);
    let answers = |port| {
        let to = SocketAddr::new(endpoint(9), port);
        let ask = || shown(&HttpClient::new(site.lab.connect(to).unwrap()).get("any", "/").unwrap());
        (0..12).map(|_| ask()).collect::<BTreeSet<_>>()
    };
    assert_eq!(answers(9001).len(), 1, "one source, one endpoint");
    assert!(answers(9002).len() > 1, "nothing hashed, any endpoint");
}

#[test]
fn weights_are_shares() {
    let site = Site::new(3);
    site.host_with("weighted.example", "{loadBalancer: {simple: ROUND_ROBIN}}", &[1, 2, 5]);
    let _egret = site.lab.egret(&[]);
    let answers = site.answers("weighted.example", 80);
    for (number, fair) in [("1", 10), ("2", 20), ("5", 0), ("3", 50)] {
        let found = answers.get(number).copied().unwrap_or(0);
        // Each worker takes turns of its own.
        assert!(found.abs_diff(fair) <= 4, "{answers:?}");
    }
}

#[test]
fn a_retry_budget_ends_retries() {
    let site = Site::new(1);
    site.host("some.example", "{retryBudget: {minRetryConcurrency: 1}}");
    site.host("none.example", "{retryBudget: {percent: 0, minRetryConcurrency: 0}}");
    for host in ["some", "none"] {
        let yaml = format!(
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}}}
spec:
  hosts: [{host}.example]
  http: [{{retries: {{attempts: 2, retryOn: 5xx}}, route: [{{destination: {{host: {host}.example}}}}]}}]
"
        );
        site.lab.configure(&format!("{host}-routes.yaml"), &yaml);
    }
    let egret = site.lab.egret(&[]);
    site.set_sick(1, true);
    let times = |host: &str| site.nginx.seen().iter().filter(|seen| seen.host == host).count();
    assert_eq!(site.ask("some.example"), "503");
    eventually("it was tried three times", || times("some.example") == 3);
    assert_eq!(site.ask("none.example"), "503");
    egret.log_line(&[" 503 UO ", "outbound|80||none.example"]);
    assert_eq!(times("none.example"), 1);
}
