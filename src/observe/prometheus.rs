//! The text exposition format of Prometheus, version 0.0.4: `# HELP`, `# TYPE`, then the samples of a metric together.

use std::fmt::{Display, Write};

use super::counters::{CounterFamily, WorkerCounters};
use super::http2_connections::{Http2Connections, Http2Side, SideTotals};

/// Writes metrics, one after the other. A metric's samples follow its [`family`](Exposition::family) at once.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// What a response with this exposition says of itself.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the metric `name` (`[a-zA-Z_:][a-zA-Z0-9_:]*`); `kind` is counter, gauge or histogram.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One sample. Label values may be any text; their names are as those of metrics.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        let mut separator = '{';
        for (label, text) in labels {
            self.text.push(separator);
            let text = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            self.line(format_args!("{label}=\"{text}\""));
            separator = ',';
        }
        self.text.push_str(if separator == ',' { "} " } else { " " });
        self.line(format_args!("{value}\n"));
    }

    /// All of it, as it goes to Prometheus.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("writing to a String does not fail");
    }
}

/// Adds the counters of all `workers`, summed.
pub fn render_counters<'w>(out: &mut Exposition, workers: impl IntoIterator<Item = &'w WorkerCounters>) {
    let mut sums: Vec<(CounterFamily, u64)> = Vec::new();
    WorkerCounters::default().for_each(|family, zero| sums.push((family, zero)));
    for worker in workers {
        let mut sum = sums.iter_mut();
        worker.for_each(|_, value| sum.next().expect("every worker has the same counters").1 += value);
    }
    let mut metric = "";
    for (family, value) in &sums {
        if family.metric != metric {
            metric = family.metric;
            out.family(metric, family.kind.as_str(), family.help);
        }
        out.sample(metric, family.label.as_slice(), value);
    }
}

/// Adds the HTTP/2 connections of all `workers`, and their streams.
pub fn render_http2<'w>(out: &mut Exposition, workers: impl IntoIterator<Item = &'w Http2Connections>) {
    type Count = fn(&SideTotals) -> u64;
    let workers: Vec<_> = workers.into_iter().collect();
    let families: [(&str, &str, &str, Count); 3] = [
        ("egret_http2_connections", "gauge", "HTTP/2 connections that are open.", |totals| totals.connections),
        ("egret_http2_streams", "gauge", "Streams that are open on them.", |totals| totals.active_streams),
        ("egret_http2_streams_total", "counter", "Streams of HTTP/2.", |totals| totals.total_streams),
    ];
    for (name, kind, help, count) in families {
        out.family(name, kind, help);
        for (side, word) in Http2Side::ALL {
            out.sample(name, &[("side", word)], count(&Http2Connections::totals(side, workers.iter().copied())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::CounterKind;
    use super::*;

    #[test]
    fn counters_of_workers_are_summed() {
        let workers = [WorkerCounters::default(), WorkerCounters::default()];
        workers[0].requests(200).increment();
        workers[1].requests(204).add(2);
        workers[1].requests(503).increment();
        workers[1].connections_active.set(3);
        workers[1].connections_active.decrement();
        workers[0].connections_active.decrement();
        let mut out = Exposition::new();
        render_counters(&mut out, &workers);
        let text = out.finish();
        for line in [
            "# HELP egret_requests_total HTTP requests by class of the response's status.",
            "# TYPE egret_requests_total counter",
            "egret_requests_total{class=\"2xx\"} 3",
            "egret_requests_total{class=\"5xx\"} 1",
            "# TYPE egret_connections_active gauge",
            "egret_connections_active 2",
            "egret_upstream_connects_total 0",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}\n{text}");
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn every_metric_is_well_formed() {
        let (mut names, mut samples, mut metric) = (HashSet::new(), HashSet::new(), "");
        WorkerCounters::default().for_each(|family, _| {
            assert!(family.metric.starts_with("egret_"), "{family:?}");
            // What Prometheus' own checker asks for.
            assert_eq!(family.metric.ends_with("_total"), family.kind == CounterKind::Counter, "{family:?}");
            assert!(family.help.ends_with('.'), "{family:?}");
            assert!(samples.insert((family.metric, family.label)), "twice: {family:?}");
            if family.metric != metric {
                metric = family.metric;
                assert!(names.insert(metric), "not together: {metric}");
            }
        });
        assert!(names.len() > 15);
    }

    #[test]
    fn streams_are_told_by_side() {
        let worker = std::sync::Arc::new(Http2Connections::default());
        let listed = worker.list(Http2Side::Upstream, ([192, 0, 2, 1], 443).into(), None);
        listed.stream_begins();
        let mut out = Exposition::new();
        render_http2(&mut out, std::iter::once(&*worker));
        let text = out.finish();
        for line in ["egret_http2_connections{side=\"downstream\"} 0", "egret_http2_streams{side=\"upstream\"} 1"] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut out = Exposition::new();
        out.family("m", "counter", "a\nb\\");
        out.sample("m", &[("host", "a\"b\\\n"), ("code", "200")], 1.5);
        assert_eq!(out.finish(), "# HELP m a\\nb\\\\\n# TYPE m counter\nm{host=\"a\\\"b\\\\\\n\",code=\"200\"} 1.5\n");
    }

    #[test]
    fn no_two_workers_share_a_cache_line() {
        assert_eq!(align_of::<WorkerCounters>(), 128);
        assert_eq!(size_of::<WorkerCounters>() % 128, 0);
    }
}
