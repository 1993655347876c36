//! The traffic of all workers under the names, labels and buckets of Istio's standard metrics, as its client side
//! (`reporter="source"`) reports them, so that dashboards and alerts made for Istio find what they look for.
//!
//! What egret cannot know (the destination's workload, principals) is `unknown`, as in Istio.

use std::collections::BTreeMap;

use super::prometheus::Exposition;
use super::traffic::{AND_HOST, BOUNDS, Histogram, OTHER, Outcome, TrafficSeries, UNKNOWN};

/// Whose traffic it is; from the pod's namespace and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
}

const REQUESTS: &str = "istio_requests_total";

/// A destination and an outcome.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    destination: String,
    outcome: Outcome,
}

#[derive(Debug, Default)]
struct Sums {
    buckets: [u64; BOUNDS.len() + 1],
    sum_milli: u64,
}

impl Sums {
    fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.get();
        }
        self.sum_milli += histogram.sum_milli.get();
    }

    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Both ends as far as they do not come from the counts.
#[derive(Clone, Copy)]
struct Ends<'a> {
    source: &'a Source,
    /// The namespace of each destination, by the cluster's name.
    namespaces: &'a BTreeMap<String, String>,
}

/// Adds Istio's metrics about all `workers`, summed. `namespaces`: of each destination, by the cluster's name.
pub fn render_traffic<'w>(
    out: &mut Exposition,
    source: &Source,
    namespaces: &BTreeMap<String, String>,
    workers: impl IntoIterator<Item = &'w TrafficSeries> + Clone,
) {
    let ends = Ends { source, namespaces };
    render_requests(out, ends, workers.clone());
    render_connections(out, ends, workers);
}

fn render_requests<'w>(out: &mut Exposition, ends: Ends<'_>, workers: impl IntoIterator<Item = &'w TrafficSeries>) {
    let mut all: BTreeMap<Key, ([Sums; 3], [u64; 2])> = BTreeMap::new();
    for series in workers.into_iter().flat_map(TrafficSeries::requests) {
        let key = Key { destination: series.destination.to_string(), outcome: series.outcome };
        let ([duration, request, response], messages) = all.entry(key).or_default();
        duration.add(&series.duration_ms);
        request.add(&series.request_bytes);
        response.add(&series.response_bytes);
        messages[0] += series.request_messages.get();
        messages[1] += series.response_messages.get();
    }
    out.family(REQUESTS, "counter", "HTTP requests by destination and outcome.");
    for (key, ([duration, ..], _)) in &all {
        labelled(ends, key, protocol(key), |labels| out.sample(REQUESTS, labels, duration.count()));
    }
    for (index, name, help) in [
        (0, "istio_request_messages_total", "Messages of gRPC from the application, counted when their call ended."),
        (1, "istio_response_messages_total", "Messages of gRPC to the application, counted when their call ended."),
    ] {
        out.family(name, "counter", help);
        for (key, (_, messages)) in all.iter().filter(|(key, _)| key.outcome.is_call) {
            labelled(ends, key, protocol(key), |labels| out.sample(name, labels, messages[index]));
        }
    }
    for (index, name, help) in [
        (0, "istio_request_duration_milliseconds", "From a request's first byte to its response's last."),
        (1, "istio_request_bytes", "Sizes of request bodies."),
        (2, "istio_response_bytes", "Sizes of response bodies."),
    ] {
        out.family(name, "histogram", help);
        for (key, (sums, _)) in &all {
            labelled(ends, key, protocol(key), |labels| histogram(out, name, labels, &sums[index]));
        }
    }
}

fn protocol(key: &Key) -> &'static str {
    if key.outcome.is_call { "grpc" } else { "http" }
}

fn render_connections<'w>(out: &mut Exposition, ends: Ends<'_>, workers: impl IntoIterator<Item = &'w TrafficSeries>) {
    let mut all: BTreeMap<Key, [u64; 4]> = BTreeMap::new();
    for series in workers.into_iter().flat_map(TrafficSeries::connections) {
        let outcome = Outcome { flags: series.flags, ..Outcome::default() };
        let key = Key { destination: series.destination.to_string(), outcome };
        let counters = [&series.opened, &series.closed, &series.sent, &series.received];
        let sums = all.entry(key).or_default();
        sums.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += counter.get());
    }
    for (index, name, help) in [
        (0, "istio_tcp_connections_opened_total", "Connections that are not HTTP, when they began."),
        (1, "istio_tcp_connections_closed_total", "The same, when they ended."),
        (2, "istio_tcp_sent_bytes_total", "Bytes sent to the application on them, counted when they ended."),
        (3, "istio_tcp_received_bytes_total", "Bytes received from the application, counted when they ended."),
    ] {
        out.family(name, "counter", help);
        for (key, sums) in &all {
            labelled(ends, key, "tcp", |labels| out.sample(name, labels, sums[index]));
        }
    }
}

fn histogram(out: &mut Exposition, name: &str, labels: &[(&str, &str)], sums: &Sums) {
    let bucket = format!("{name}_bucket");
    let mut below = 0;
    let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
    for (count, bound) in sums.buckets.iter().zip(bounds) {
        below += count;
        out.sample(&bucket, &[labels, &[("le", &*bound)]].concat(), below);
    }
    out.sample(&format!("{name}_sum"), labels, sums.sum_milli as f64 / 1000.0);
    out.sample(&format!("{name}_count"), labels, sums.count());
}

/// Gives the labels of `key`, in Istio's order, to `write`.
fn labelled(Ends { source, namespaces }: Ends<'_>, key: &Key, protocol: &str, write: impl FnOnce(&[(&str, &str)])) {
    let own = |names: &[&str]| names.iter().find_map(|name| source.labels.get(*name)).map_or(UNKNOWN, String::as_str);
    let canonical = own(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    let revision = revision.iter().find_map(|name| source.labels.get(*name)).map_or("latest", String::as_str);
    let (service, service_name) = service(&key.destination);
    let (code, flags) = (key.outcome.code.to_string(), key.outcome.flags.to_string());
    let grpc_status = key.outcome.grpc_status.map(|status| status.code().to_string()).unwrap_or_default();
    let namespace = namespaces.get(&key.destination).map_or(UNKNOWN, String::as_str);
    let mut labels = vec![
        ("reporter", "source"),
        ("source_workload", canonical),
        ("source_canonical_service", canonical),
        ("source_canonical_revision", revision),
        ("source_workload_namespace", &source.namespace),
        ("source_principal", UNKNOWN),
        ("source_app", own(&["app", "app.kubernetes.io/name"])),
        ("source_version", own(&["version", "app.kubernetes.io/version"])),
        ("source_cluster", UNKNOWN),
        ("destination_workload", UNKNOWN),
        ("destination_workload_namespace", UNKNOWN),
        ("destination_principal", UNKNOWN),
        ("destination_app", UNKNOWN),
        ("destination_version", UNKNOWN),
        ("destination_service", service),
        ("destination_canonical_service", UNKNOWN),
        ("destination_canonical_revision", "latest"),
        ("destination_service_name", service_name),
        ("destination_service_namespace", namespace),
        ("destination_cluster", UNKNOWN),
        ("request_protocol", protocol),
    ];
    if protocol != "tcp" {
        labels.extend([("response_code", &*code), ("grpc_response_status", &*grpc_status)]);
    }
    labels.extend([("response_flags", &*flags), ("connection_security_policy", UNKNOWN)]);
    write(&labels);
}

/// `destination_service` and `destination_service_name`, as Istio's filter has them: of `outbound|80||edition.cnn.com` the
/// host; of what no ServiceEntry names the host that a request asks for, and what stands for it.
fn service(destination: &str) -> (&str, &str) {
    if let Some(rest) = destination.strip_prefix("outbound|") {
        let host = rest.rsplit('|').next().unwrap_or(rest);
        return (host, host);
    }
    match destination.split_once(AND_HOST) {
        Some(("", "")) => (UNKNOWN, UNKNOWN),
        Some(("", host)) => (host, host),
        Some((stands_for, "")) => (UNKNOWN, stands_for),
        Some((stands_for, host)) => (host, stands_for),
        None if destination == OTHER => (OTHER, OTHER),
        None => (UNKNOWN, destination),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::access_log::{AccessRecord, GrpcCall, HttpExchange};
    use super::super::traffic::Traffic;
    use super::*;
    use crate::grpc::Status;

    fn record(cluster: &str, http: bool) -> AccessRecord<'_> {
        AccessRecord {
            http: http.then(HttpExchange::default),
            response_code: if http { 200 } else { 0 },
            bytes_received: 7,
            bytes_sent: 2000,
            duration: Duration::from_micros(1500),
            upstream_cluster: Some(cluster),
            ..AccessRecord::blank(SystemTime::UNIX_EPOCH)
        }
    }

    #[test]
    fn destinations_are_called_as_istio_calls_them() {
        for (destination, expected) in [
            ("outbound|80|v1|edition.cnn.com", ("edition.cnn.com", "edition.cnn.com")),
            ("PassthroughCluster\nwww.google.com", ("www.google.com", "PassthroughCluster")),
            ("BlackHoleCluster\nwww.google.com:80", ("www.google.com:80", "BlackHoleCluster")),
            // No route, no cluster, an answer of a route.
            ("\nwww.google.com", ("www.google.com", "www.google.com")),
            ("\n", ("unknown", "unknown")),
            // Bytes.
            ("PassthroughCluster", ("unknown", "PassthroughCluster")),
            ("unknown", ("unknown", "unknown")),
            ("other", ("other", "other")),
        ] {
            assert_eq!(service(destination), expected, "{destination:?}");
        }
    }

    #[test]
    fn workers_are_summed_under_istios_names() {
        let workers = [TrafficSeries::default(), TrafficSeries::default()];
        for series in &workers {
            let traffic = Traffic::default();
            traffic.count(&record("outbound|80||edition.cnn.com", true), series);
            let call = GrpcCall { status: Some(Status::Unavailable), request_messages: 2, response_messages: 5 };
            let http = Some(HttpExchange { call: Some(call), ..HttpExchange::default() });
            traffic.count(&AccessRecord { http, ..record("outbound|80||rpc.example", true) }, series);
            traffic.count_opened(Some("PassthroughCluster"), series);
            traffic.count(&record("PassthroughCluster", false), series);
        }
        let labels = BTreeMap::from([("app".to_owned(), "sleep".to_owned())]);
        let source = Source { namespace: "shop".to_owned(), labels };
        let mut out = Exposition::new();
        let namespaces = BTreeMap::from([("outbound|80||edition.cnn.com".to_owned(), "mesh".to_owned())]);
        render_traffic(&mut out, &source, &namespaces, &workers);
        let text = out.finish();
        let line = |start: &str, holds: &[&str]| {
            let found =
                text.lines().find(|line| line.starts_with(start) && holds.iter().all(|part| line.contains(part)));
            found.unwrap_or_else(|| panic!("no {start} with {holds:?} in\n{text}")).to_owned()
        };
        let requests = line("istio_requests_total{", &["reporter=\"source\"", "source_workload_namespace=\"shop\""]);
        for label in [
            "source_app=\"sleep\"",
            "source_canonical_service=\"sleep\"",
            "source_canonical_revision=\"latest\"",
            "destination_service=\"edition.cnn.com\"",
            "destination_service_name=\"edition.cnn.com\",destination_service_namespace=\"mesh\"",
            "request_protocol=\"http\",response_code=\"200\",grpc_response_status=\"\",response_flags=\"-\"",
            "connection_security_policy=\"unknown\"} 2",
        ] {
            assert!(requests.contains(label), "{label}: {requests}");
        }
        let call = ["rpc.example", "request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"14\""];
        for (name, count) in [("requests", 2), ("request_messages", 4), ("response_messages", 10)] {
            assert!(line(&format!("istio_{name}_total{{"), &call).ends_with(&format!(" {count}")), "{name}");
        }
        assert!(line("istio_request_duration_milliseconds_bucket", &["le=\"1\""]).ends_with(" 0"));
        assert!(line("istio_request_duration_milliseconds_bucket", &["le=\"5\""]).ends_with(" 2"));
        assert!(line("istio_request_duration_milliseconds_bucket", &["le=\"+Inf\""]).ends_with(" 2"));
        assert!(line("istio_request_duration_milliseconds_sum", &[]).ends_with(" 3"));
        assert!(line("istio_response_bytes_sum", &[]).ends_with(" 4000"));
        let tcp = [
            "destination_service_name=\"PassthroughCluster\",destination_service_namespace=\"unknown\"",
            "request_protocol=\"tcp\"",
        ];
        assert!(line("istio_tcp_connections_opened_total", &tcp).ends_with(" 2"));
        assert!(line("istio_tcp_connections_closed_total", &tcp).ends_with(" 2"));
        assert!(line("istio_tcp_received_bytes_total", &tcp).ends_with(" 14"));
        assert!(!line("istio_tcp_sent_bytes_total", &tcp).contains("response_code"));
    }
}
