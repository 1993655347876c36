//! A real Prometheus scrapes a running egret; promtool reads the exposition format and the alert rules; every query of the
//! dashboard finds something, and every alert fires on what it is for and on nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::{origination, service_entry};
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::process::Kept;
use crate::lab::proxy::Egret;
use crate::lab::{Family, Lab, utf8};
use serde_json::Value;

const HOST: &str = "edition.cnn.com";
const NOBODY: &str = "nobody.example";
const PORT: u16 = 9090;

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/kubernetes/monitoring").join(path)).unwrap()
}

/// A site behind TLS origination, a host where nothing listens, and a port that is not HTTP.
fn lab() -> (Lab, Nginx) {
    let lab = Lab::new();
    let address = Lab::address(Family::V4, 1);
    lab.names.set(HOST, &[address]);
    lab.names.set(NOBODY, &[Lab::address(Family::V4, 9)]);
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let nginx = Nginx::start(&lab, &nginx::site(address, &pair, "TLSv1.3"), SocketAddr::new(address, 443));
    lab.configure("site.yaml", &origination(HOST, Some(&lab.ca_file())));
    lab.configure("nobody.yaml", &service_entry(NOBODY, &[(80, "HTTP", None)]));
    (lab, nginx)
}

/// A bit of everything that the dashboard shows.
fn traffic(lab: &Lab) {
    for _ in 0..2 {
        lab.curl(&[&format!("http://{HOST}/")]).succeeded();
        lab.curl(&[&format!("https://{HOST}/")]).succeeded();
        let refused = lab.curl(&["-o", "/dev/null", "-w", "%{http_code}", &format!("http://{NOBODY}/")]);
        assert_eq!(refused.stdout, "503");
    }
}

fn start<'l>(lab: &'l Lab, prometheus_config: &str) -> (Egret<'l>, Kept) {
    let egret = lab.egret(&[]);
    let config = lab.write("prometheus.yaml", prometheus_config);
    let storage = format!("--storage.tsdb.path={}/tsdb", utf8(lab.dir()));
    let config = format!("--config.file={}", utf8(&config));
    let listen = format!("--web.listen-address=127.0.0.1:{PORT}");
    let arguments = ["--pdeathsig=KILL", "--", "prometheus", &config, &storage, &listen];
    let prometheus = Kept::start(lab.pod.command("setpriv", &arguments), lab.dir(), "prometheus");
    (egret, prometheus)
}

/// The result of an instant query; `None` when Prometheus does not answer.
fn query(lab: &Lab, expression: &str) -> Option<Vec<Value>> {
    let at = SocketAddr::from(([127, 0, 0, 1], PORT));
    let encoded: String = expression.bytes().flat_map(|byte| ["%".to_owned(), format!("{byte:02X}")]).collect();
    let response =
        HttpClient::new(lab.connect(at).ok()?).get("localhost", &format!("/api/v1/query?query={encoded}")).ok()?;
    let answer: Value = serde_json::from_slice(&response.body).ok()?;
    assert_ne!(answer["status"], "error", "{expression}: {answer}");
    Some(answer["data"]["result"].as_array()?.clone())
}

/// Expressions of the dashboard with its variables filled in.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        panel["targets"].as_array().unwrap().iter().map(move |target| (title, target["expr"].as_str().unwrap()))
    });
    let fill = |expression: &str| {
        expression.replace("$__rate_interval", "10s").replace("$namespace", ".*").replace("$pod", ".*")
    };
    targets.map(|(title, expression)| (title.to_owned(), fill(expression))).collect()
}

/// The groups of rules, as Prometheus itself reads them.
fn rules() -> serde_yaml::Value {
    let resource: serde_yaml::Value = serde_yaml::from_str(&text("rules.yaml")).unwrap();
    resource["spec"].clone()
}

fn alerts() -> Vec<(String, String)> {
    let rules = rules();
    let rules = rules["groups"][0]["rules"].as_sequence().unwrap();
    let field = |rule: &serde_yaml::Value, name: &str| rule[name].as_str().unwrap().to_owned();
    rules.iter().map(|rule| (field(rule, "alert"), field(rule, "expr"))).collect()
}

/// The metrics that an expression names.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| ["egret_", "istio_", "process_"].iter().any(|start| word.starts_with(start));
    words.filter(ours).map(str::to_owned).collect()
}

#[test]
fn prometheus_finds_what_the_dashboard_and_the_alerts_ask_for() {
    let (lab, _nginx) = lab();
    let config = "global: {scrape_interval: 250ms}\nscrape_configs:\n  - job_name: shop/egret\n    metrics_path: \
                  /stats/prometheus\n    static_configs:\n      - targets: ['127.0.0.1:15090']\n        labels: \
                  {namespace: shop, pod: sleep-1}\n";
    let (egret, prometheus) = start(&lab, config);
    traffic(&lab);
    let mut missing: Vec<(String, String)> = panels();
    assert!(missing.len() > 30, "{missing:?}");
    for (alert, expression) in alerts() {
        missing.extend(metrics(&expression).into_iter().map(|metric| (alert.clone(), metric)));
    }
    let start = std::time::Instant::now();
    while !missing.is_empty() {
        missing.retain(|(_, expression)| query(&lab, expression).is_none_or(|result| result.is_empty()));
        assert!(start.elapsed() < lab::PATIENCE, "no result for {missing:#?}\n{}", prometheus.stderr());
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    // What egret counts is what Prometheus sees.
    let requests = format!("sum(istio_requests_total{{destination_service=\"{HOST}\", response_code=\"200\"}})");
    let seen = query(&lab, &requests).unwrap();
    assert_eq!(seen[0]["value"][1], "2", "{seen:?}");
    let namespace = query(&lab, "istio_requests_total{destination_service_namespace=\"unknown\"}").unwrap();
    assert!(!namespace.is_empty(), "what is outside of the mesh has no namespace");
    let up = query(&lab, "up").unwrap();
    assert_eq!(up[0]["value"][1], "1", "{up:?}");
    drop(egret);
}

#[test]
fn promtool_accepts_the_exposition_format() {
    let (lab, _nginx) = lab();
    let egret = lab.egret(&[]);
    traffic(&lab);
    let (status, exposition) = egret.get(15090, "/stats/prometheus").unwrap();
    assert_eq!(status, 200);
    let mut promtool = Command::new("promtool");
    let promtool =
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool is not installed: run `make setup`");
    promtool.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Names and units that are Istio's own.
    let kept =
        ["istio_request_duration_milliseconds use base unit", "egret_certificate_days_until_expiry use base unit"];
    let complaints: Vec<&str> = said.lines().filter(|line| !kept.iter().any(|kept| line.starts_with(kept))).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 3)), "{code:?}: 3 is for complaints of style, others for what cannot be read");
}

/// Series on which every alert fires, and on which none does.
const BAD: &str = "
  egret_reload_failures_total{instance=\"a\"}: '0+1x30'
  egret_certificate_days_until_expiry{instance=\"a\", name=\"ca\"}: '5x30'
  egret_certificate_expiry_timestamp_seconds{instance=\"a\", name=\"ca\"}: '432000x30'
  egret_certificate_start_timestamp_seconds{instance=\"a\", name=\"ca\"}: '-31104000x30'
  egret_upstream_tls_failures_total{instance=\"a\", reason=\"verification\"}: '0+5x30'
  egret_upstream_connect_failures_total{instance=\"a\"}: '0+5x30'
  egret_upstream_connects_total{instance=\"a\"}: '0+5x30'
  istio_requests_total{reporter=\"source\", response_code=\"503\", source_workload=\"sleep\"}: '0+5x30'
  egret_connections_refused_total{instance=\"a\", reason=\"policy\"}: '0+5x30'
  process_open_fds{job=\"shop/egret\", instance=\"a\"}: '900x30'
  process_max_fds{job=\"shop/egret\", instance=\"a\"}: '1000x30'
  egret_task_panics_total{instance=\"a\"}: '0+1x30'
  egret_access_log_lines_dropped_total{instance=\"a\"}: '0+1x30'
";
const GOOD: &str = "
  egret_reload_failures_total{instance=\"a\"}: '3x30'
  egret_certificate_days_until_expiry{instance=\"a\", name=\"ca\"}: '80x30'
  egret_certificate_expiry_timestamp_seconds{instance=\"a\", name=\"ca\"}: '6912000x30'
  egret_certificate_start_timestamp_seconds{instance=\"a\", name=\"ca\"}: '-100x30'
  egret_certificate_days_until_expiry{instance=\"a\", name=\"short\"}: '0x30'
  egret_certificate_expiry_timestamp_seconds{instance=\"a\", name=\"short\"}: '80000x30'
  egret_certificate_start_timestamp_seconds{instance=\"a\", name=\"short\"}: '-6400x30'
  egret_upstream_tls_failures_total{instance=\"a\", reason=\"verification\"}: '5x30'
  egret_upstream_tls_failures_total{instance=\"a\", reason=\"other\"}: '0+5x30'
  egret_upstream_connect_failures_total{instance=\"a\"}: '0+1x30'
  egret_upstream_connects_total{instance=\"a\"}: '0+50x30'
  istio_requests_total{reporter=\"source\", response_code=\"503\", source_workload=\"sleep\"}: '0+1x30'
  istio_requests_total{reporter=\"source\", response_code=\"200\", source_workload=\"sleep\"}: '0+50x30'
  egret_connections_refused_total{instance=\"a\", reason=\"policy\"}: '5x30'
  process_open_fds{job=\"shop/egret\", instance=\"a\"}: '100x30'
  process_max_fds{job=\"shop/egret\", instance=\"a\"}: '1000x30'
  egret_task_panics_total{instance=\"a\"}: '0x30'
  egret_access_log_lines_dropped_total{instance=\"a\"}: '4x30'
";

#[test]
fn every_alert_fires_on_its_fault_and_on_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("rules.yaml"), serde_yaml::to_string(&rules()).unwrap()).unwrap();
    let checked = lab::process::run("promtool", &["check", "rules", utf8(&at("rules.yaml"))]);
    let alerts = alerts();
    assert!(checked.contains(&format!("{} rules found", alerts.len())), "{checked}");
    let case = |series: &str, firing: &[&str]| {
        let series = series.trim().lines().map(|line| {
            let (series, values) = line.trim().rsplit_once(": ").unwrap();
            format!("    - {{series: '{series}', values: {values}}}\n")
        });
        let samples = firing.iter().map(|name| format!("{{labels: '{{alertname=\"{name}\"}}', value: 1}}"));
        let samples = samples.collect::<Vec<_>>().join(", ");
        format!(
            "- interval: 1m\n  input_series:\n{}  promql_expr_test:\n    - expr: count by (alertname) \
             (ALERTS{{alertstate=\"firing\"}})\n      eval_time: 25m\n      exp_samples: [{samples}]\n",
            series.collect::<String>()
        )
    };
    let names: Vec<&str> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    let tests =
        format!("rule_files: [rules.yaml]\nevaluation_interval: 1m\ntests:\n{}{}", case(BAD, &names), case(GOOD, &[]));
    fs::write(at("tests.yaml"), tests).unwrap();
    let said = lab::process::run("promtool", &["test", "rules", utf8(&at("tests.yaml"))]);
    assert!(said.contains("SUCCESS"), "{said}");
}
