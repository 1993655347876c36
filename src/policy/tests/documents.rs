//! Documents by seed: entries, rules and routes that speak of each other, sound and unsound, with what people get wrong.

use std::fmt::Write as _;

/// A writer of documents.
pub(super) struct Documents {
    state: u64,
    out: String,
}

const HOSTS: [&str; 5] = ["a.example", "b.example", "\"*.wild.example\"", "x.wild.example", "\"*-part.example\""];
const PORTS: [&str; 14] = [
    "{number: 80, name: p80, protocol: HTTP}",
    "{number: 80, name: p80, protocol: HTTP, targetPort: 443}",
    "{number: 80, name: p80, protocol: HTTPS}",
    "{number: 443, name: p443, protocol: HTTPS}",
    "{number: 443, name: p443, protocol: HTTP}",
    "{number: 443, name: p443, protocol: TLS}",
    "{number: 8080, name: p8080, protocol: HTTP, targetPort: 443}",
    "{number: 8080, name: p8080, protocol: HTTP}",
    "{number: 8443, name: p8443, protocol: HTTP, targetPort: 80}",
    "{number: 5432, name: p5432, protocol: TCP}",
    "{number: 3306, name: p3306, protocol: MYSQL}",
    "{number: 9000, name: p9000}",
    "{number: 9090, name: p9090, protocol: HTTP2}",
    "{number: 22, name: p22}",
];
const TLS: [&str; 5] = [
    "{mode: SIMPLE}",
    "{mode: SIMPLE, sni: sni.example}",
    "{mode: SIMPLE, insecureSkipVerify: true}",
    "{mode: DISABLE}",
    "{mode: ISTIO_MUTUAL}",
];

impl Documents {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, out: String::new() }
    }

    /// The documents, in one text.
    pub(super) fn text(mut self) -> String {
        for number in 0..=self.below(3) {
            self.entry(number);
        }
        for number in 0..self.below(4) {
            self.rule(number);
        }
        for number in 0..self.below(3) {
            self.routes(number);
        }
        self.out
    }

    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }

    fn head(&mut self, kind: &str, number: usize) {
        let namespace = self.pick(&["", "", "", ", namespace: bank", ", namespace: istio-system"]);
        writeln!(
            self.out,
            "---\napiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: n{number}{namespace}}}\nspec:"
        )
        .unwrap();
        let export = self.pick(&["", "", "", "", "  exportTo: [\".\"]\n", "  exportTo: [shop]\n"]);
        self.out.push_str(export);
    }

    fn entry(&mut self, number: usize) {
        self.head("ServiceEntry", number);
        let (first, second) = (self.pick(&HOSTS), self.pick(&HOSTS));
        let mut resolution = self.pick(&["DNS", "DNS", "STATIC", "NONE", "DYNAMIC_DNS"]);
        let mut addresses = self.pick(&["", "", "  addresses: [192.0.2.1]\n", "  addresses: [10.0.0.0/8]\n"]);
        match resolution {
            "DNS" if first.contains('*') || second.contains('*') => resolution = "NONE",
            "DYNAMIC_DNS" if !first.contains('*') || !second.contains('*') => resolution = "STATIC",
            _ => {}
        }
        if resolution == "DYNAMIC_DNS" || resolution == "DNS" && addresses.contains('/') {
            addresses = "";
        }
        let hosts = if first == second || self.one_in(2) { first.to_owned() } else { format!("{first}, {second}") };
        let endpoints = match (resolution, self.below(5)) {
            ("STATIC", 0) => "  endpoints: [{address: \"unix:///run/s\"}]\n",
            ("STATIC", 1) => "",
            ("STATIC", _) => "  endpoints: [{address: 192.0.2.10}, {address: 192.0.2.11}]\n",
            ("DNS", 0) => "  endpoints: [{address: e.example}]\n",
            _ => "",
        };
        write!(self.out, "  hosts: [{hosts}]\n{addresses}  resolution: {resolution}\n{endpoints}  ports:\n").unwrap();
        let mut numbers = Vec::new();
        for _ in 0..=self.below(3) {
            let port = self.pick(&PORTS);
            let tells_hosts_apart = !["TCP", "MYSQL", "p9000", "p22"].iter().any(|plain| port.contains(plain));
            if hosts.contains(',') && resolution != "NONE" && !tells_hosts_apart {
                continue;
            }
            let number = port.split([' ', ',']).nth(1);
            if !numbers.contains(&number) {
                numbers.push(number);
                writeln!(self.out, "  - {port}").unwrap();
            }
        }
    }

    fn rule(&mut self, number: usize) {
        self.head("DestinationRule", number);
        let host = self.pick(&[
            "a.example",
            "a.example",
            "b.example",
            "\"*.wild.example\"",
            "x.wild.example",
            "\"*.example\"",
            "none.example",
        ]);
        let selector = self.pick(&[
            "",
            "",
            "",
            "  workloadSelector: {matchLabels: {app: a}}\n",
            "  workloadSelector: {matchLabels: {app: b}}\n",
        ]);
        write!(self.out, "  host: {host}\n{selector}  trafficPolicy:\n    loadBalancer: {{simple: ROUND_ROBIN}}\n")
            .unwrap();
        if self.one_in(2) {
            let tls = self.pick(&TLS);
            writeln!(self.out, "    tls: {tls}").unwrap();
        }
        let more = self.pick(&[
            "",
            "",
            "    outlierDetection: {consecutive5xxErrors: 3}\n",
            "    connectionPool: {http: {maxRequestsPerConnection: 7}}\n",
            "    connectionPool: {tcp: {maxConnections: 9}}\n",
        ]);
        self.out.push_str(more);
        if self.one_in(2) {
            let (port, tls) = (self.pick(&["80", "443", "8080", "5432", "3306", "7"]), self.pick(&TLS));
            let level = self.pick(&[
                "tls: TLS",
                "tls: TLS",
                "connectionPool: {tcp: {maxConnections: 3}}",
                "connectionPool: {http: {maxRequestsPerConnection: 2}}",
            ]);
            let level = level.replace("TLS", tls);
            writeln!(self.out, "    portLevelSettings:\n    - {{port: {{number: {port}}}, {level}}}").unwrap();
        }
        let subset = self.pick(&["", "", "  subsets: [{name: v1, labels: {v: \"1\"}}]\n"]);
        self.out.push_str(subset);
    }

    fn destination(&mut self) -> String {
        let host = self.pick(&["a.example", "b.example", "x.wild.example", "none.example"]);
        let port = self.pick(&["", ", port: {number: 80}", ", port: {number: 443}", ", port: {number: 8080}"]);
        let subset = self.pick(&["", "", "", ", subset: v1"]);
        format!("route: [{{destination: {{host: {host}{port}{subset}}}}}]")
    }

    fn routes(&mut self, number: usize) {
        self.head("VirtualService", number);
        let host = self.pick(&HOSTS);
        writeln!(self.out, "  hosts: [{host}]").unwrap();
        if self.one_in(4) {
            let (kind, one) = match self.below(2) {
                0 => ("tls", format!("match: [{{sniHosts: [{host}]}}]")),
                _ => ("tcp", "match: [{port: 5432}]".to_owned()),
            };
            let to = self.destination();
            writeln!(self.out, "  {kind}:\n  - {{{one}, {to}}}").unwrap();
            return;
        }
        self.out.push_str("  http:\n");
        for _ in 0..=self.below(3) {
            let one = self.pick(&[
                "",
                "match: [{uri: {prefix: /a}}], ",
                "match: [{port: 80}], ",
                "match: [{uri: {exact: /}}], ",
            ]);
            let action = if self.one_in(4) { "directResponse: {status: 403}".to_owned() } else { self.destination() };
            writeln!(self.out, "  - {{{one}{action}}}").unwrap();
        }
    }
}
