//! What operators see of a running proxy: routes, endpoints, the dump of its configuration, and the last error in it.

use std::io;
use std::net::SocketAddr;

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::{access, origination, service_entry};
use crate::lab::proxy::Egret;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab};
use serde_json::{Value, json};

fn at(n: u8) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, n), 80)
}

/// Answers every request with `status`.
fn site(lab: &Lab, n: u8, status: u16) -> Server {
    Server::start(lab, at(n), move |stream| -> io::Result<()> {
        let mut http = HttpServer::new(stream);
        while http.request()?.is_some() {
            http.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
        }
        Ok(())
    })
}

fn dump(egret: &Egret<'_>) -> Value {
    let (status, text) = egret.get(15000, "/config_dump").expect("the admin endpoint answers");
    assert_eq!(status, 200);
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn routes_say_what_the_table_decides_by() {
    let lab = Lab::new();
    let ca = lab.ca_file();
    lab.names.set("edition.cnn.com", &[at(1).ip()]);
    lab.configure("cnn.yaml", &origination("edition.cnn.com", Some(&ca)));
    let egret = lab.egret(&[]);
    let file = lab.config_dir().join("cnn.yaml").display().to_string();
    let text = lab.egret_command(&["routes"]).succeeded().stdout;
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = text.lines().map(cells).collect();
    let name = "default/edition-cnn-com";
    let expected = [
        vec!["PORT", "PROTOCOL", "HOST", "ADDRESS", "TLS", "CLUSTER", "ENTRY", "RULE", "ROUTE", "FROM"],
        vec!["80", "HTTP", "edition.cnn.com", "*", "SIMPLE", "outbound|80||edition.cnn.com", name, name, "-"],
        vec!["443", "TLS", "edition.cnn.com", "*", "PASSTHROUGH", "outbound|443||edition.cnn.com", name, name, "-"],
        vec!["*", "*", "*", "*", "PASSTHROUGH", "PassthroughCluster", "-", "-", "-", "-"],
    ];
    assert_eq!(rows.len(), expected.len(), "{text}");
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row[..expected.len()], expected[..], "{text}");
    }
    assert_eq!(rows[1].last(), Some(&format!("{file}:2")), "{text}");
    let json = lab.egret_command(&["routes", "-o", "json"]).succeeded().stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["service_entry"]["line"], 2);
    assert_eq!(json[0]["destination_rule"]["file"], file.as_str());
    assert_eq!(egret.get(15000, "/routes").map(|(_, text)| serde_json::from_str(&text).ok()), Some(Some(json)));
}

#[test]
fn endpoints_show_who_is_left_out() {
    let lab = Lab::new();
    let _good = site(&lab, 1, 200);
    let _bad = site(&lab, 2, 500);
    lab.names.set("named.example", &[at(1).ip()]);
    lab.names.set("failing.example", &[at(1).ip(), at(2).ip()]);
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: failing}\nspec: {host: \
                failing.example, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {tcp: \
                {maxConnections: 7}}, outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 600s, \
                maxEjectionPercent: 50}}}\n";
    let entries =
        ["named.example", "failing.example", "nowhere.example"].map(|host| service_entry(host, &[(80, "HTTP", None)]));
    lab.configure("all.yaml", &(entries.join("---\n") + rule));
    let _egret = lab.egret(&["--workers", "1"]);
    let shown = || lab.egret_command(&["endpoints"]).succeeded().stdout;
    let status = |text: &str, start: &str, end: &str| {
        let line = text.lines().find(|line| line.starts_with(start) && line.ends_with(end));
        line.unwrap_or_else(|| panic!("no {start} … {end} in\n{text}")).split_whitespace().nth(1).map(str::to_owned)
    };
    let text = shown();
    assert_eq!(status(&text, "203.0.113.1:80", "|named.example").as_deref(), Some("HEALTHY"));
    assert_eq!(status(&text, "203.0.113.2:80", "|failing.example").as_deref(), Some("HEALTHY"));
    assert_eq!(status(&text, "nowhere.example:80", "|nowhere.example").as_deref(), Some("UNRESOLVED"));
    lab::eventually("the failing endpoint is left out", || {
        let request = lab.connect(at(9)).and_then(|stream| HttpClient::new(stream).get("failing.example", "/"));
        assert!(request.is_ok());
        status(&shown(), "203.0.113.2:80", "|failing.example").as_deref() == Some("UNHEALTHY")
    });
    let text = shown();
    assert_eq!(status(&text, "203.0.113.1:80", "|failing.example").as_deref(), Some("HEALTHY"));
    let json = lab.egret_command(&["endpoints", "-o", "json"]).succeeded().stdout;
    let rows: Vec<Value> = serde_json::from_str(&json).expect("JSON");
    let row = rows.iter().find(|row| row["status"] == "EJECTED").expect("the one that fails");
    assert_eq!((&row["endpoint"], &row["resolved_from"]), (&json!("203.0.113.2:80"), &json!("failing.example")));
    assert_eq!(row["max_connections"], 7);
    let explained = lab.egret_command(&["explain", "http://failing.example/"]).succeeded().stdout;
    assert!(explained.contains("203.0.113.2 (ejected)"), "{explained}");
}

#[test]
fn the_dump_names_every_object_and_the_last_error() {
    let lab = Lab::new();
    lab.configure("a.yaml", &access("a.example"));
    lab.configure("settings.yaml", "apiVersion: egret/v1\nkind: Settings\nspec: {connectTimeout: 3s}\n");
    lab.configure("trap.yaml", &service_entry("t.example", &[(9999, "TCP", None)]));
    let egret = lab.egret(&["--namespace", "shop", "--idle-timeout", "90s"]);
    let file = |name: &str| lab.config_dir().join(name).display().to_string();
    let first = dump(&egret);
    let object = |kind: &str, namespace: &str, name: &str, of: &str| json!({ "kind": kind, "namespace": namespace, "name": name, "file": file(of), "line": 2, "column": 7 });
    let objects = [
        object("ServiceEntry", "shop", "a-example", "a.yaml"),
        object("Settings", "", "settings", "settings.yaml"),
        object("ServiceEntry", "shop", "t-example", "trap.yaml"),
    ];
    assert_eq!(first["objects"], json!(objects));
    assert_eq!(
        (&first["version"], &first["last_error"], &first["reload_failures"]),
        (&json!(1), &Value::Null, &json!(0))
    );
    assert_eq!(
        (&first["settings"]["connectTimeout"], &first["settings"]["idleTimeout"]),
        (&json!("3s"), &json!("90s"))
    );
    assert_eq!(first["warnings"][0]["file"], file("trap.yaml"));
    assert_eq!(first["routes"][0]["host"], "a.example");
    assert_eq!(first["endpoints"][0]["cluster"], "outbound|80||a.example");
    assert!(first["loaded_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{first}");

    lab.configure("a.yaml", &access("a.example").replace("number: 443", "number: 443000"));
    lab::eventually("the failure is counted", || egret.metric("egret_reload_failures_total") == Some(1.0));
    let broken = dump(&egret);
    let error = &broken["last_error"];
    let problem = &error["problems"][0];
    let place = (&problem["file"], &problem["line"], &problem["severity"]);
    assert_eq!(place, (&json!(file("a.yaml")), &json!(12), &json!("error")), "{error}");
    assert!(problem["text"].as_str().is_some_and(|text| text.starts_with(&format!("{}:12:", file("a.yaml")))));
    assert_eq!(
        (&error["is_current"], &broken["version"], &broken["objects"]),
        (&json!(true), &json!(1), &json!(objects))
    );
    assert_eq!(broken["warnings"], first["warnings"]);
    assert!(egret.stderr().contains(problem["text"].as_str().expect("a text")), "{}", egret.stderr());

    lab.configure("a.yaml", &access("b.example"));
    lab::eventually("the next table is in force", || dump(&egret)["version"] == 2);
    let mended = dump(&egret);
    assert_eq!((&mended["last_error"]["is_current"], &mended["last_error"]["at"]), (&json!(false), &error["at"]));
    assert_eq!(mended["objects"][0]["name"], "b-example");
    let (_, page) = egret.get(15000, "/").expect("a page");
    assert!(page.contains("<a href=\"/config_dump\">") && page.contains("<a href=\"/endpoints\">"), "{page}");
}

#[test]
fn without_a_proxy_commands_say_so() {
    let lab = Lab::new();
    for command in ["routes", "endpoints"] {
        let asked = lab.egret_command(&[command, "--admin", "127.0.0.1:1"]);
        assert_eq!(asked.code(), Some(1), "{command}");
        assert!(asked.stderr.contains("no egret is listening on 127.0.0.1:1"), "{asked:?}");
    }
}
