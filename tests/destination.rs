//! What a DestinationRule makes of several endpoints, and of the way to them, on the wire.

mod lab;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use lab::client::HttpClient;
use lab::nginx::Nginx;
use lab::{Family, Lab, eventually};

/// A web site of `count` endpoints, each of which answers with its number, or with 503 while a file says so.
struct Site {
    lab: Lab,
    _nginx: Nginx,
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
        Site { lab, _nginx: nginx, count }
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
        let response = self.open().get(host, "/").unwrap();
        match response.head.status {
            200 => String::from_utf8_lossy(&response.body).into_owned(),
            status => status.to_string(),
        }
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
